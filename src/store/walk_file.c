/*
 * walk_file: see walk_file.h. Everything goes through view: a contiguous look at the bytes of
 * places, which for a raw file is a window that is read, for a compacted one a frame that is read,
 * checked and decoded.
 */
#include "store/walk_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/frame.h"

#define WINDOW_BYTES MIB(1)

/* ---- header, footer, index ---- */

/* Exactly bytes at offset: 0, ERR_CORRUPT when the file ends before, -errno. */
static int read_exactly(const struct walk_file *walk, void *to, uint64_t bytes, uint64_t offset,
                        struct err *err)
{
    int64_t got = walk->io->ops->read(walk->io, walk->file, to, bytes, offset);
    if (got < 0) {
        return err_set(err, (int)got, "read %s at %" PRIu64 ": %s", walk->name, offset,
                       err_name((int)got));
    }
    return (uint64_t)got == bytes ? 0 : err_set(err, ERR_CORRUPT, "the file is too short");
}

static int look_at_header(struct walk_file *walk, uint64_t id, struct err *err)
{
    uint8_t block[STORE_BLOCK_BYTES];
    int result = read_exactly(walk, block, sizeof block, 0, err);
    if (result < 0) {
        return result == ERR_CORRUPT
                   ? err_set(err, ERR_CORRUPT, "segment header: the file is too short")
                   : result;
    }
    result = walk->form == SEGMENT_FORM_RAW ? segment_header_decode(&walk->header, block, err)
                                            : compacted_header_decode(&walk->header, block, err);
    if (result == 0 && walk->header.segment_id != id) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(name, walk->header.segment_id);
        result = err_set(err, ERR_CORRUPT, "segment header: it says that it belongs to %s", name);
    }
    return result;
}

static bool is_zero(const uint8_t *from, size_t bytes)
{
    uint8_t any = 0;
    for (size_t i = 0; i < bytes; i++) {
        any = (uint8_t)(any | from[i]);
    }
    return any == 0;
}

/* 0: there is one and it is right; ERR_CORRUPT: not; -errno. A crash may leave garbage in any sector
 * of the block, but not in the middle of the first one, which holds all of the footer. */
static int look_at_footer(struct walk_file *walk, struct err *err)
{
    uint8_t block[STORE_BLOCK_BYTES];
    if (walk->file_bytes < 2 * (uint64_t)STORE_BLOCK_BYTES) {
        return err_set(err, ERR_CORRUPT, "the file is too short for a footer");
    }
    int result = read_exactly(walk, block, sizeof block, walk->file_bytes - sizeof block, err);
    walk->has_footer_magic =
        result == 0 && memcmp(block, "SLUICEND", 8) == 0 &&
        is_zero(block + SEALED_FOOTER_BYTES, sizeof block - SEALED_FOOTER_BYTES);
    result = result < 0 ? result : segment_footer_decode(&walk->footer, block, err);
    result = result < 0 ? result
                        : segment_footer_check(&walk->footer, &walk->header, walk->file_bytes, err);
    if (result < 0) {
        return result;
    }
    return walk->footer.form == walk->form ? 0
                                           : err_set(err, ERR_CORRUPT, "footer: of another form");
}

int walk_index_read(uint8_t **blob, struct index *index, const struct walk_file *walk,
                    struct err *err)
{
    const struct segment_footer *footer = &walk->footer;
    ASSERT(walk->has_footer); /* so the blob lies inside the file */
    *blob = mem_alloc((size_t)u64_max(footer->index_bytes, 1));
    int result = read_exactly(walk, *blob, footer->index_bytes, footer->index_offset, err);
    if (result == 0 && crc32c(0, *blob, (size_t)footer->index_bytes) != footer->index_crc) {
        result = err_set(err, ERR_CORRUPT, "index: checksum does not match");
    }
    return result < 0 ? result
                      : index_open(index, (struct slice){*blob, (size_t)footer->index_bytes},
                                   footer->entry_count, err);
}

/* The frames lie one after the other between header and index, and decode to what the footer says:
 * no more than a segment's file_bytes, the bound of every frame. */
static int place_frames(struct walk_file *walk, struct err *err)
{
    uint64_t offset = STORE_BLOCK_BYTES;
    uint64_t place = WALK_FILE_BEGIN;
    uint64_t raw_left = walk->footer.raw_bytes;
    for (uint32_t i = 0; i < walk->index.entry_count; i++) {
        struct index_entry entry;
        index_entry_get(&walk->index, i, &entry);
        bool is_good = entry.offset == offset && entry.raw_bytes <= raw_left &&
                       entry.stored_bytes <= walk->footer.index_offset - offset;
        if (!is_good) {
            return err_set(err, ERR_CORRUPT, "index: entry %" PRIu32 " does not follow", i);
        }
        walk->frame_at[i] = place;
        place += entry.raw_bytes;
        offset += entry.stored_bytes;
        raw_left -= entry.raw_bytes;
    }
    walk->frame_at[walk->index.entry_count] = place;
    return raw_left == 0 ? 0 : err_set(err, ERR_CORRUPT, "index: entries are missing");
}

static void frames_drop(struct walk_file *walk)
{
    mem_free(walk->index_blob);
    mem_free(walk->frame_at);
    walk->index_blob = NULL;
    walk->frame_at = NULL;
    walk->index = (struct index){0};
}

static int look_at_compacted(struct walk_file *walk, struct err *err)
{
    int result = look_at_footer(walk, err);
    walk->has_footer = result == 0;
    walk->end = WALK_FILE_BEGIN + walk->footer.raw_bytes;
    return result;
}

/* The index of a compacted file, read when the first batch is asked for: 1, 0 when it is damaged
 * and nothing in the file can be found, -errno. */
static int frames_take(struct walk_file *walk, struct err *reason)
{
    struct err why = {0};
    if (walk->frame_at != NULL) {
        return 1;
    }
    if (walk->index_problem[0] != '\0') {
        (void)err_set(reason, ERR_CORRUPT, "%s", walk->index_problem);
        return 0;
    }
    int result = walk_index_read(&walk->index_blob, &walk->index, walk, &why);
    if (result == 0) {
        walk->frame_at =
            mem_alloc_array((size_t)walk->index.entry_count + 1, sizeof *walk->frame_at);
        result = place_frames(walk, &why);
    }
    if (result == 0) {
        return 1;
    }
    frames_drop(walk);
    if (result == ERR_CORRUPT) {
        (void)snprintf(walk->index_problem, sizeof walk->index_problem, "%.150s", why.text);
    }
    (void)err_set(reason, result, "%s", why.text);
    return result == ERR_CORRUPT ? 0 : result;
}

static int look_at_raw(struct walk_file *walk, struct err *err)
{
    walk->end = u64_min(walk->file_bytes, walk->header.file_bytes);
    if (walk->file_bytes <= walk->header.file_bytes) {
        return 0;
    }
    struct err why = {0};
    int result = look_at_footer(walk, &why);
    walk->has_footer = result == 0;
    walk->is_newer = result == ERR_VERSION;
    (void)snprintf(walk->footer_problem, sizeof walk->footer_problem, "%.150s",
                   walk->has_footer ? "" : why.text);
    /* No footer, or not yet, or half of one: not sealed. */
    bool is_no_footer = result == 0 || result == ERR_CORRUPT || result == ERR_VERSION;
    return is_no_footer ? 0 : err_set(err, result, "%s", why.text);
}

/* ---- life ---- */

int walk_file_open(struct walk_file *walk, struct file_io *io, uint64_t id, enum segment_form form,
                   struct err *err)
{
    walk_file_close(walk);
    walk->io = io;
    walk->form = form;
    if (form == SEGMENT_FORM_RAW) {
        segment_name(walk->name, id);
    } else {
        compacted_name(walk->name, id);
    }
    unsigned flags =
        form == SEGMENT_FORM_RAW ? (unsigned)FILE_OPEN_NO_READAHEAD : 0u; /* it may be written */
    int result = io->ops->open(io, walk->name, FILE_OPEN_READ_ONLY | flags, &walk->file);
    if (result < 0) {
        return err_set(err, result, "open %s: %s", walk->name, err_name(result));
    }
    walk->is_open = true;
    int64_t bytes = io->ops->size(io, walk->file);
    if (bytes < 0) {
        result = err_set(err, (int)bytes, "size of %s: %s", walk->name, err_name((int)bytes));
        goto close_file;
    }
    walk->file_bytes = (uint64_t)bytes;
    result = look_at_header(walk, id, err);
    if (result == 0) {
        result = form == SEGMENT_FORM_RAW ? look_at_raw(walk, err) : look_at_compacted(walk, err);
    }
    if (result == 0) {
        return 0;
    }

close_file:
    ASSERT(result < 0);
    walk_file_close(walk);
    return result;
}

/* The file itself can be had. */
static bool file_is_there(struct file_io *io, const char *name)
{
    struct file file;
    if (io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file) < 0) {
        return false;
    }
    int64_t size = io->ops->size(io, file);
    io->ops->close(io, file);
    return size >= 0;
}

int walk_file_open_or_damaged(struct walk_file *walk, struct file_io *io, uint64_t id,
                              enum segment_form form, struct err *err)
{
    struct err why = {0};
    int result = walk_file_open(walk, io, id, form, &why);
    if (result == -EIO) {
        result = walk_file_open(walk, io, id, form, &why);
    }
    if (result == -EIO && file_is_there(io, walk->name)) {
        result = ERR_CORRUPT;
    }
    return result < 0 ? err_set(err, result, "%s", why.text) : result;
}

void walk_file_close(struct walk_file *walk)
{
    if (walk->is_open) {
        walk->io->ops->close(walk->io, walk->file);
    }
    frames_drop(walk);
    walk->index_problem[0] = '\0';
    walk->is_open = false;
    walk->is_newer = false;
    walk->has_footer = false;
    walk->has_footer_magic = false;
    walk->footer_problem[0] = '\0';
    walk->window_bytes = 0;
}

void walk_file_end(struct walk_file *walk)
{
    walk_file_close(walk);
    if (walk->window != NULL) {
        mem_unmap(walk->window, walk->window_room);
    }
    if (walk->stored != NULL) {
        mem_unmap(walk->stored, walk->stored_room);
    }
    frame_reader_free(walk->frames);
    *walk = (struct walk_file){0};
}

void walk_file_forget(struct walk_file *walk)
{
    walk->window_bytes = 0;
}

/* ---- looking at bytes ---- */

/* Mapped, because a file may claim any size: only what is really there is ever touched. What grew
 * for a giant is given back at the first ordinary batch. */
static int room_fit(uint8_t **memory, uint64_t *room, uint64_t bytes, struct err *err)
{
    bool is_giant = *room > WINDOW_BYTES && bytes <= WINDOW_BYTES && *room > 8 * bytes;
    if (*memory != NULL && *room >= bytes && !is_giant) {
        return 0;
    }
    if (*memory != NULL) {
        mem_unmap(*memory, *room);
    }
    *room = u64_max(bytes, WINDOW_BYTES);
    *memory = mem_map(*room);
    return *memory != NULL ? 0 : err_set(err, -ENOMEM, "no memory for %" PRIu64 " bytes", bytes);
}

/* Block by block; what the disk does not give is zeroes. Returns as read does. */
static int64_t read_around(struct walk_file *walk, uint64_t wanted, uint64_t place)
{
    struct file_io *io = walk->io;
    for (uint64_t at = 0; at < wanted;) {
        uint64_t bytes = u64_min(STORE_BLOCK_BYTES, wanted - at);
        int64_t got = io->ops->read(io, walk->file, walk->window + at, bytes, place + at);
        if (got == -EIO) {
            memset(walk->window + at, 0, bytes);
            got = (int64_t)bytes;
        }
        if (got < 0) {
            return got;
        }
        at += (uint64_t)got;
        if ((uint64_t)got < bytes) {
            return (int64_t)at;
        }
    }
    return (int64_t)wanted;
}

static int view_raw(struct walk_file *walk, uint64_t place, uint64_t bytes, const uint8_t **view,
                    struct err *reason)
{
    if (place > walk->end || bytes > walk->end - place) {
        (void)err_set(reason, ERR_CORRUPT, "the file ends");
        return 0;
    }
    if (place < walk->window_at || place + bytes > walk->window_at + walk->window_bytes) {
        walk->window_bytes = 0;
        int result = room_fit(&walk->window, &walk->window_room, bytes, reason);
        if (result < 0) {
            return result;
        }
        uint64_t wanted = u64_min(walk->window_room, walk->end - place);
        int64_t got = walk->io->ops->read(walk->io, walk->file, walk->window, wanted, place);
        got = got == -EIO && walk->reads_around ? read_around(walk, wanted, place) : got;
        if (got < 0) {
            return err_set(reason, (int)got, "read %s at %" PRIu64 ": %s", walk->name, place,
                           err_name((int)got));
        }
        walk->window_at = place;
        walk->window_bytes = (uint64_t)got;
        if ((uint64_t)got < bytes) {
            (void)err_set(reason, ERR_CORRUPT, "the file ends"); /* cut short beneath us */
            return 0;
        }
    }
    *view = walk->window + (place - walk->window_at);
    return 1;
}

uint32_t walk_file_frame(const struct walk_file *walk, uint64_t place)
{
    uint32_t low = 0;
    uint32_t high = walk->index.entry_count;
    if (walk->form != SEGMENT_FORM_COMPACTED || place < WALK_FILE_BEGIN || place >= walk->end) {
        return high;
    }
    if (walk->frame_at == NULL) {
        ASSERT(high == 0); /* the index is damaged: there is no frame */
        return high;
    }
    while (high - low > 1) { /* frame_at[low] <= place < frame_at[high]; halves each time */
        uint32_t middle = low + (high - low) / 2;
        *(walk->frame_at[middle] <= place ? &low : &high) = middle;
    }
    return low;
}

/* Decodes frame i into the window: 1, 0 when it cannot be, -errno. */
static int frame_load(struct walk_file *walk, uint32_t i, struct err *reason)
{
    struct index_entry entry;
    ASSERT(walk->frame_at != NULL); /* frames_take */
    index_entry_get(&walk->index, i, &entry);
    if (walk->window_bytes != 0 && walk->window_at == walk->frame_at[i]) {
        return 1;
    }
    walk->window_bytes = 0;
    int result = room_fit(&walk->stored, &walk->stored_room, entry.stored_bytes, reason);
    result =
        result < 0 ? result : room_fit(&walk->window, &walk->window_room, entry.raw_bytes, reason);
    result = result < 0
                 ? result
                 : read_exactly(walk, walk->stored, entry.stored_bytes, entry.offset, reason);
    if (result < 0) {
        return result == ERR_CORRUPT ? 0 : result;
    }
    if (crc32c(0, walk->stored, (size_t)entry.stored_bytes) != entry.stored_crc) {
        (void)err_set(reason, ERR_CORRUPT, "frame %" PRIu32 ": checksum does not match", i);
        return 0;
    }
    if (walk->frames == NULL) {
        walk->frames = frame_reader_new();
    }
    struct err why = {0};
    result = frame_decompress(walk->frames, walk->window, (size_t)entry.raw_bytes,
                              (struct slice){walk->stored, (size_t)entry.stored_bytes}, &why);
    if (result < 0) {
        (void)err_set(reason, result, "frame %" PRIu32 ": %.180s", i, why.text);
        return result == ERR_CORRUPT ? 0 : result;
    }
    walk->window_at = walk->frame_at[i];
    walk->window_bytes = entry.raw_bytes;
    return 1;
}

/* Bytes of places [place, place + bytes), contiguous: 1; 0 when they are not there; -errno. */
static int view_at(struct walk_file *walk, uint64_t place, uint64_t bytes, const uint8_t **view,
                   struct err *reason)
{
    ASSERT(walk->is_open);
    if (walk->form == SEGMENT_FORM_RAW) {
        return view_raw(walk, place, bytes, view, reason);
    }
    int result = frames_take(walk, reason);
    if (result <= 0) {
        return result;
    }
    uint32_t i = walk_file_frame(walk, place);
    if (i == walk->index.entry_count) {
        (void)err_set(reason, ERR_CORRUPT, "the file ends");
        return 0;
    }
    result = frame_load(walk, i, reason);
    if (result <= 0) {
        return result;
    }
    if (bytes > walk->frame_at[i + 1] - place) {
        (void)err_set(reason, ERR_CORRUPT, "frame %" PRIu32 " ends within a batch", i);
        return 0;
    }
    *view = walk->window + (place - walk->window_at);
    return 1;
}

/* ---- batches ---- */

int walk_file_header(struct walk_file *walk, uint64_t place, struct batch_header *header,
                     struct err *reason)
{
    const uint8_t *view = NULL;
    int result = view_at(walk, place, BATCH_HEADER_BYTES, &view, reason);
    if (result <= 0) {
        return result;
    }
    if (batch_header_decode(header, view, reason) < 0) {
        return 0;
    }
    if (header->segment_id != walk->header.segment_id || header->salt != walk->header.salt) {
        (void)err_set(reason, ERR_CORRUPT, "a batch of an earlier use of the file");
        return 0;
    }
    uint32_t frame = walk_file_frame(walk, place);
    uint64_t end = walk->form == SEGMENT_FORM_RAW ? walk->end : walk->frame_at[frame + 1];
    if (walk_file_stride(walk, header) > end - place) {
        (void)err_set(reason, ERR_CORRUPT, "the batch is longer than the file");
        return 0;
    }
    return 1;
}

static bool payload_is_framed(struct slice payload, const struct batch_header *header,
                              struct err *reason)
{
    size_t at = 0;
    uint32_t count = 0;
    uint32_t kinds = 0;
    /* Each record takes at least its header, so this ends. */
    while (at < payload.bytes) {
        struct record record;
        int64_t bytes =
            record_decode(&record, (struct slice){payload.data + at, payload.bytes - at}, reason);
        if (bytes < 0) {
            return false;
        }
        at += (size_t)bytes;
        count++;
        kinds |= 1u << record.kind;
    }
    if (count != header->record_count || kinds != header->kinds) {
        (void)err_set(reason, ERR_CORRUPT, "the records are not those the header names");
        return false;
    }
    return true;
}

int walk_file_batch(struct walk_file *walk, uint64_t place, struct walk_batch *batch,
                    struct err *reason)
{
    int result = walk_file_header(walk, place, &batch->header, reason);
    if (result <= 0) {
        return result;
    }
    uint64_t stride = walk_file_stride(walk, &batch->header);
    const uint8_t *view = NULL;
    result = view_at(walk, place, stride, &view, reason);
    if (result <= 0) {
        return result;
    }
    size_t used = BATCH_HEADER_BYTES + (size_t)batch->header.payload_bytes;
    batch->bytes = (struct slice){view, used};
    batch->payload = (struct slice){view + BATCH_HEADER_BYTES, batch->header.payload_bytes};
    batch->padding = (struct slice){view + used, (size_t)stride - used};
    batch->name = walk->name;
    batch->offset = walk_file_offset(walk, place);
    if (crc32c(0, batch->payload.data, batch->payload.bytes) != batch->header.payload_crc) {
        (void)err_set(reason, ERR_CORRUPT, "batch: payload checksum does not match");
        return 0;
    }
    return payload_is_framed(batch->payload, &batch->header, reason) ? 1 : 0;
}

int walk_file_has_bytes(struct walk_file *walk, uint64_t place, struct err *reason)
{
    const uint8_t *view = NULL;
    int result = view_at(walk, place, BATCH_HEADER_BYTES, &view, reason);
    if (result <= 0) {
        return result;
    }
    ASSERT(view != NULL);
    return view[0] != 0;
}

/* ---- places ---- */

uint64_t walk_file_stride(const struct walk_file *walk, const struct batch_header *header)
{
    return walk->form == SEGMENT_FORM_RAW ? batch_file_bytes(header->payload_bytes)
                                          : BATCH_HEADER_BYTES + (uint64_t)header->payload_bytes;
}

uint64_t walk_file_skip(const struct walk_file *walk, uint64_t place,
                        const struct batch_header *header)
{
    if (walk->form == SEGMENT_FORM_RAW) {
        /* By one block even behind a good header: its payload may be stale and hide another. */
        return place + STORE_BLOCK_BYTES;
    }
    if (header != NULL) {
        return place + walk_file_stride(walk, header);
    }
    uint32_t frame = walk_file_frame(walk, place);
    return frame == walk->index.entry_count ? walk->end : walk->frame_at[frame + 1];
}

uint64_t walk_file_offset(const struct walk_file *walk, uint64_t place)
{
    if (walk->form == SEGMENT_FORM_RAW || !walk->is_open) {
        return place;
    }
    struct index_entry entry;
    uint32_t frame = walk_file_frame(walk, place);
    if (frame == walk->index.entry_count) {
        return walk->footer.index_offset;
    }
    index_entry_get(&walk->index, frame, &entry);
    return entry.offset;
}

uint64_t walk_file_seek(struct walk_file *walk, uint64_t lsn)
{
    struct err reason = {0};
    if (walk->form == SEGMENT_FORM_RAW || frames_take(walk, &reason) <= 0 ||
        walk->index.entry_count == 0) {
        return WALK_FILE_BEGIN;
    }
    uint32_t frame = index_find_lsn(&walk->index, lsn);
    /* Marks carry the LSN to come: the batch may begin in the frame before. */
    return walk->frame_at[frame == 0 ? 0 : frame - 1];
}
