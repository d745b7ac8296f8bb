/*
 * block_reader: reads one block of a segment into memory that it owns; see log_view.h. One for each
 * reading thread. Whatever the segment's state, what comes out is whole batches.
 *
 *   COMPACTED  the index names the frame: read it, check stored_crc, decompress
 *   SEALED     the index names the bytes: read them; batches have their own checksums
 *   ACTIVE     no index yet: block_windows finds whole batches; what is not durable is left out
 *
 * Fails with ERR_CORRUPT and a text that names file and offset, -ENOMEM when a block (a single
 * request can be large) does not fit, -errno of the disk. The next load is independent of it.
 */
#include "store/log_view.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/block_windows.h"
#include "store/frame.h"
#include "store/view_file.h"

/* An ordinary block is a little more than INDEX_BLOCK_BYTES. */
#define BLOCK_ROOM_MIN (2 * INDEX_BLOCK_BYTES)
/* Memory grown for a giant beyond this is given back at the next ordinary block. */
#define BLOCK_ROOM_KEPT (8 * INDEX_BLOCK_BYTES)

struct block_memory {
    uint8_t *data; /* page-aligned */
    uint64_t room;
};

struct block_reader {
    struct block_memory stored; /* bytes as the file has them */
    struct block_memory raw;    /* batches */
    struct block_memory blob;   /* of the index */
    struct frame_reader *frames;
    struct block_windows windows;
    /* What blob holds: the content of a footer's index never changes. */
    bool has_index;
    enum view_state index_state;
    uint64_t index_id, index_salt;
    uint32_t index_crc;
    struct index index;
};

/* ---- memory ---- */

static void memory_free(struct block_memory *memory)
{
    if (memory->data != NULL) {
        mem_unmap(memory->data, (size_t)memory->room);
    }
    *memory = (struct block_memory){0};
}

/* Room for bytes; what was there is lost when it moves. */
static int memory_fit(struct block_memory *memory, uint64_t bytes, struct err *err)
{
    bool is_giant = memory->room > BLOCK_ROOM_KEPT && bytes <= BLOCK_ROOM_MIN;
    if (memory->room >= bytes && memory->data != NULL && !is_giant) {
        return 0;
    }
    memory_free(memory);
    uint64_t room = u64_max(bytes, BLOCK_ROOM_MIN);
    memory->data = mem_map((size_t)room);
    if (memory->data == NULL) {
        return err_set(err, -ENOMEM, "no memory for a block of %" PRIu64 " bytes", bytes);
    }
    memory->room = room;
    return 0;
}

struct block_reader *block_reader_new(void)
{
    struct block_reader *reader = mem_alloc(sizeof *reader);
    reader->frames = frame_reader_new();
    return reader;
}

void block_reader_free(struct block_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    memory_free(&reader->stored);
    memory_free(&reader->raw);
    memory_free(&reader->blob);
    frame_reader_free(reader->frames);
    block_windows_free(&reader->windows);
    mem_free(reader);
}

/* ---- the index ---- */

static bool index_is_of(const struct block_reader *reader, const struct view_segment *segment)
{
    return reader->has_index && reader->index_state == segment->state &&
           reader->index_id == segment->id && reader->index_salt == segment->header.salt &&
           reader->index_crc == segment->footer.index_crc;
}

/* Entries against the file they are of. Afterwards every place that an entry names may be read. */
static int index_check(const struct index *index, const struct view_segment *segment,
                       struct err *err)
{
    for (uint32_t i = 0; i < index->entry_count; i++) {
        struct index_entry entry;
        index_entry_get(index, i, &entry);
        uint64_t end = segment->state == VIEW_COMPACTED ? segment->footer.index_offset
                                                        : segment->header.file_bytes;
        bool is_aligned =
            segment->state == VIEW_COMPACTED ||
            (entry.offset % STORE_BLOCK_BYTES == 0 && entry.stored_bytes % STORE_BLOCK_BYTES == 0);
        if (entry.offset < STORE_BLOCK_BYTES || entry.offset + entry.stored_bytes > end ||
            !is_aligned || entry.raw_bytes > segment->header.file_bytes) {
            return err_set(err, ERR_CORRUPT, "index: entry %u lies where no batches are", i);
        }
    }
    return 0;
}

static int index_load(struct block_reader *reader, struct view_segment *segment, struct err *err)
{
    const struct segment_footer *footer = &segment->footer;
    int result = memory_fit(&reader->blob, footer->index_bytes, err);
    if (result < 0) {
        return view_file_wrap(segment, footer->index_offset, result, err);
    }
    result =
        view_file_read(segment, reader->blob.data, footer->index_bytes, footer->index_offset, err);
    if (result < 0) {
        return result;
    }
    struct slice blob = {reader->blob.data, (size_t)footer->index_bytes};
    if (crc32c(0, blob.data, blob.bytes) != footer->index_crc) {
        result = err_set(err, ERR_CORRUPT, "index: checksum does not match");
    } else {
        result = index_open(&reader->index, blob, footer->entry_count, err);
    }
    if (result == 0) {
        result = index_check(&reader->index, segment, err);
    }
    return result < 0 ? view_file_wrap(segment, footer->index_offset, result, err) : 0;
}

int block_reader_index(struct block_reader *reader, struct view_segment *segment,
                       struct index *index, struct err *err)
{
    ASSERT(segment->state != VIEW_ACTIVE);
    if (!index_is_of(reader, segment)) {
        reader->has_index = false;
        int result = index_load(reader, segment, err);
        if (result < 0) {
            return result;
        }
        reader->has_index = true;
        reader->index_state = segment->state;
        reader->index_id = segment->id;
        reader->index_salt = segment->header.salt;
        reader->index_crc = segment->footer.index_crc;
    }
    *index = reader->index;
    return 0;
}

/* ---- loading ---- */

static int load_compacted(struct block_reader *reader, struct view_segment *segment,
                          const struct index_entry *entry, struct block *block, struct err *err)
{
    int result = memory_fit(&reader->stored, entry->stored_bytes, err);
    if (result == 0) {
        result = memory_fit(&reader->raw, entry->raw_bytes, err);
    }
    if (result < 0) {
        return view_file_wrap(segment, entry->offset, result, err);
    }
    result = view_file_read(segment, reader->stored.data, entry->stored_bytes, entry->offset, err);
    if (result < 0) {
        return result;
    }
    struct slice frame = {reader->stored.data, (size_t)entry->stored_bytes};
    if (crc32c(0, frame.data, frame.bytes) != entry->stored_crc) {
        result = err_set(err, ERR_CORRUPT, "frame: checksum does not match");
    } else {
        result = frame_decompress(reader->frames, reader->raw.data, entry->raw_bytes, frame, err);
    }
    if (result < 0) {
        return view_file_wrap(segment, entry->offset, result, err);
    }
    *block = (struct block){.batches = {reader->raw.data, (size_t)entry->raw_bytes},
                            .batch_align = 1,
                            .salt = segment->header.salt};
    return 0;
}

/* Bytes of a raw file into reader->raw. */
static int load_raw(struct block_reader *reader, struct view_segment *segment, uint64_t offset,
                    uint64_t bytes, struct err *err)
{
    int result = memory_fit(&reader->raw, bytes, err);
    if (result < 0) {
        return view_file_wrap(segment, offset, result, err);
    }
    return view_file_read(segment, reader->raw.data, bytes, offset, err);
}

/* How much of a window may be shown: the batches up to durable_lsn. A tool that does not know what
 * is durable gives UINT64_MAX: then a batch that no later header proves durable must have a whole
 * payload, too, or it is the torn end of the log. */
static uint64_t window_shown_bytes(struct slice window, uint64_t durable_lsn, uint64_t proven_lsn)
{
    uint64_t at = 0;
    /* Each round takes a block at least. */
    while (at < window.bytes) {
        struct batch_header header;
        if (batch_header_decode(&header, window.data + at, NULL) < 0) {
            break; /* UNTESTED: it was whole a moment ago; only damage beneath us gets here */
        }
        uint64_t last_lsn = header.first_lsn + header.record_count - 1;
        uint64_t bytes = batch_file_bytes(header.payload_bytes);
        if (last_lsn > durable_lsn || bytes > window.bytes - at) {
            break;
        }
        if (durable_lsn == UINT64_MAX && last_lsn > proven_lsn &&
            crc32c(0, window.data + at + BATCH_HEADER_BYTES, header.payload_bytes) !=
                header.payload_crc) {
            break;
        }
        at += bytes;
    }
    return at;
}

static int load_window(struct block_reader *reader, struct view_segment *segment, uint32_t i,
                       uint64_t durable_lsn, struct block *block, struct err *err)
{
    uint64_t offset = 0;
    uint64_t bytes = 0;
    int result = block_windows_look(&reader->windows, segment, i, durable_lsn, err);
    if (result < 0) {
        return result;
    }
    if (!block_windows_get(&reader->windows, i, &offset, &bytes)) {
        return -ENODATA;
    }
    result = load_raw(reader, segment, offset, bytes, err);
    if (result < 0) {
        return result;
    }
    struct slice window = {reader->raw.data, (size_t)bytes};
    window.bytes = (size_t)window_shown_bytes(window, durable_lsn, reader->windows.durable_lsn);
    if (window.bytes == 0) {
        return -ENODATA;
    }
    *block = (struct block){
        .batches = window, .batch_align = STORE_BLOCK_BYTES, .salt = segment->header.salt};
    return 0;
}

int block_reader_load(struct block_reader *reader, struct view_segment *segment, uint32_t i,
                      uint64_t durable_lsn, struct block *block, struct err *err)
{
    if (segment->state == VIEW_ACTIVE) {
        return load_window(reader, segment, i, durable_lsn, block, err);
    }
    struct index index;
    int result = block_reader_index(reader, segment, &index, err);
    if (result < 0) {
        return result;
    }
    if (i >= index.entry_count) {
        return -ENODATA;
    }
    struct index_entry entry;
    index_entry_get(&index, i, &entry);
    if (segment->state == VIEW_COMPACTED) {
        return load_compacted(reader, segment, &entry, block, err);
    }
    result = load_raw(reader, segment, entry.offset, entry.stored_bytes, err);
    if (result < 0) {
        return result;
    }
    *block = (struct block){.batches = {reader->raw.data, (size_t)entry.stored_bytes},
                            .batch_align = STORE_BLOCK_BYTES,
                            .salt = segment->header.salt};
    return 0;
}

int block_reader_find(struct block_reader *reader, struct view_segment *segment, uint64_t lsn,
                      uint64_t durable_lsn, struct block_place *place, struct err *err)
{
    if (segment->state == VIEW_ACTIVE) {
        int result = block_windows_look_some(&reader->windows, segment, durable_lsn, err);
        if (result == 0) {
            *place = (struct block_place){block_windows_find_lsn(&reader->windows, lsn),
                                          block_windows_count(&reader->windows)};
        }
        return result;
    }
    struct index index;
    int result = block_reader_index(reader, segment, &index, err);
    if (result == 0) {
        *place = (struct block_place){index_find_lsn(&index, lsn), index.entry_count};
    }
    return result;
}

bool block_reader_summary(const struct block_reader *reader, uint32_t i, uint64_t durable_lsn,
                          struct block_summary *summary)
{
    return block_windows_summary(&reader->windows, i, durable_lsn, summary);
}
