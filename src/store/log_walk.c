/*
 * log_walk: see log_walk.h. The main path is log_walk_next: look at the batch where we stand; when
 * it continues the log, hand it out; when not, walk_break finds out whether the log goes on in a
 * later segment, is damaged, or ends here.
 *
 * A live writer may be ahead of us, so damage is only reported when a second look, after the
 * witness was seen, finds the place still invalid: whoever witnesses a batch was written after it.
 */
#include "store/log_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/segment.h"

#define WINDOW_BYTES MIB(1)

struct walk_segment {
    char name[SEGMENT_NAME_BYTES]; /* with the directory */
    uint64_t id;                   /* 0: header unreadable */
    uint64_t salt;
    uint64_t first_seq; /* of the batch right behind the header; 0: none yet */
    uint64_t first_lsn;
    bool is_reported; /* an unreadable header is reported once */
    char problem[160];
};

/* What must come next. seq 0: anything, because what came before has expired. */
struct walk_expect {
    uint64_t seq;
    uint64_t lsn;
    uint32_t previous_crc;
};

struct log_walk {
    struct file_io *io;
    struct walk_segment *segments;
    size_t count;
    size_t room;
    size_t current;  /* index of the segment we stand in */
    uint64_t offset; /* in it */
    struct walk_expect expect;
    struct file file;
    size_t file_of; /* index of the segment that file is; SIZE_MAX: none is open */
    uint64_t file_bytes;
    uint8_t *window;
    uint64_t window_room;
    uint64_t window_at;
    uint64_t window_bytes;
    uint64_t torn_batches;
    uint64_t bytes;
    bool is_over;      /* nothing valid can follow the damage just reported */
    bool is_end_known; /* the rest behind (current, offset) was searched before */
};

/* ---- files ---- */

static void file_drop(struct log_walk *walk)
{
    if (walk->file_of != SIZE_MAX) {
        walk->io->ops->close(walk->io, walk->file);
    }
    walk->file_of = SIZE_MAX;
    walk->window_bytes = 0;
}

static int file_take(struct log_walk *walk, size_t index, struct err *err)
{
    if (walk->file_of == index) {
        return 0;
    }
    file_drop(walk);
    const char *name = walk->segments[index].name;
    int result = walk->io->ops->open(walk->io, name, FILE_OPEN_READ_ONLY, &walk->file);
    if (result < 0) {
        return err_set(err, result, "open %s: %s", name, err_name(result));
    }
    walk->file_of = index;
    int64_t bytes = walk->io->ops->size(walk->io, walk->file);
    if (bytes < 0) {
        return err_set(err, (int)bytes, "size of %s: %s", name, err_name((int)bytes));
    }
    walk->file_bytes = (uint64_t)bytes;
    return 0;
}

static void window_fit(struct log_walk *walk, uint64_t bytes)
{
    uint64_t room = u64_max(bytes, WINDOW_BYTES);
    /* A window grown for a giant is given back at the first ordinary batch. */
    if (walk->window_room < bytes || (walk->window_room > WINDOW_BYTES && bytes <= WINDOW_BYTES)) {
        mem_free(walk->window);
        walk->window = mem_alloc((size_t)room);
        walk->window_room = room;
    }
}

/* Bytes [offset, offset + bytes) of the open file, contiguous. 1, or 0 when the file is shorter, or
 * -errno. */
static int window_view(struct log_walk *walk, uint64_t offset, uint64_t bytes, const uint8_t **view,
                       struct err *err)
{
    if (offset > walk->file_bytes || bytes > walk->file_bytes - offset) {
        return 0;
    }
    if (offset < walk->window_at || offset + bytes > walk->window_at + walk->window_bytes) {
        window_fit(walk, bytes);
        uint64_t wanted = u64_min(walk->window_room, walk->file_bytes - offset);
        walk->window_bytes = 0;
        int64_t got = walk->io->ops->read(walk->io, walk->file, walk->window, wanted, offset);
        if (got < 0) {
            return err_set(err, (int)got, "read %s at %" PRIu64 ": %s",
                           walk->segments[walk->file_of].name, offset, err_name((int)got));
        }
        walk->window_at = offset;
        walk->window_bytes = (uint64_t)got;
        if ((uint64_t)got < bytes) {
            return 0; /* cut short beneath us */
        }
    }
    *view = walk->window + (offset - walk->window_at);
    return 1;
}

/* ---- batches ---- */

/* The header at offset of the segment `index`: 1 when it is one of this use of the file and lies
 * inside it; 0 when not (why in reason), -errno. */
static int header_at(struct log_walk *walk, size_t index, uint64_t offset,
                     struct batch_header *header, struct err *reason)
{
    int result = file_take(walk, index, reason);
    if (result < 0) {
        return result;
    }
    const uint8_t *view = NULL;
    result = window_view(walk, offset, STORE_BLOCK_BYTES, &view, reason);
    if (result < 0) {
        return result;
    }
    if (result == 0) {
        (void)err_set(reason, ERR_CORRUPT, "the file ends");
        return 0;
    }
    if (batch_header_decode(header, view, reason) < 0) {
        return 0;
    }
    const struct walk_segment *segment = &walk->segments[index];
    if (header->segment_id != segment->id || header->salt != segment->salt) {
        (void)err_set(reason, ERR_CORRUPT, "a batch of an earlier use of the file");
        return 0;
    }
    if (batch_file_bytes(header->payload_bytes) > walk->file_bytes - offset) {
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

/* The whole batch: 1 valid by itself, 0 not, -errno. */
static int batch_at(struct log_walk *walk, size_t index, uint64_t offset, struct walk_batch *batch,
                    struct err *reason)
{
    int result = header_at(walk, index, offset, &batch->header, reason);
    if (result <= 0) {
        return result;
    }
    uint64_t file_bytes = batch_file_bytes(batch->header.payload_bytes);
    const uint8_t *view = NULL;
    result = window_view(walk, offset, file_bytes, &view, reason);
    if (result <= 0) {
        return result;
    }
    batch->payload = (struct slice){view + BATCH_HEADER_BYTES, batch->header.payload_bytes};
    size_t used = BATCH_HEADER_BYTES + batch->payload.bytes;
    batch->padding = (struct slice){view + used, (size_t)file_bytes - used};
    batch->name = walk->segments[index].name;
    batch->offset = offset;
    if (crc32c(0, batch->payload.data, batch->payload.bytes) != batch->header.payload_crc) {
        (void)err_set(reason, ERR_CORRUPT, "batch: payload checksum does not match");
        return 0;
    }
    return payload_is_framed(batch->payload, &batch->header, reason) ? 1 : 0;
}

static bool batch_continues(const struct walk_expect *expect, const struct batch_header *header,
                            struct err *reason)
{
    if (expect->seq == 0) {
        return true;
    }
    if (header->batch_seq != expect->seq || header->first_lsn != expect->lsn) {
        (void)err_set(reason, ERR_CORRUPT,
                      "batch %" PRIu64 " from LSN %" PRIu64 " where %" PRIu64 " from %" PRIu64
                      " belongs",
                      header->batch_seq, header->first_lsn, expect->seq, expect->lsn);
        return false;
    }
    if (header->previous_crc != expect->previous_crc) {
        (void)err_set(reason, ERR_CORRUPT, "batch %" PRIu64 " does not follow the one before it",
                      header->batch_seq);
        return false;
    }
    return true;
}

/* ---- the table of segments ---- */

static void segments_on_name(void *context, const char *name)
{
    struct log_walk *walk = context;
    uint64_t id = 0;
    if (!segment_parse_name(&id, name)) {
        return;
    }
    if (walk->count == walk->room) {
        size_t room = walk->room == 0 ? 16 : 2 * walk->room;
        struct walk_segment *grown = mem_alloc_array(room, sizeof *grown);
        if (walk->count != 0) {
            memcpy(grown, walk->segments, walk->count * sizeof *grown);
        }
        mem_free(walk->segments);
        walk->segments = grown;
        walk->room = room;
    }
    struct walk_segment *segment = &walk->segments[walk->count++];
    memset(segment, 0, sizeof *segment);
    segment_name(segment->name, id);
}

/* Names carry the id in a fixed number of digits, so their order is that of the ids. */
_Static_assert(offsetof(struct walk_segment, name) == 0, "segment_find searches by name alone");

static int segment_compare(const void *a, const void *b)
{
    const struct walk_segment *left = a;
    const struct walk_segment *right = b;
    return strcmp(left->name, right->name);
}

static int segment_look(struct log_walk *walk, size_t index, struct err *err)
{
    struct walk_segment *segment = &walk->segments[index];
    int result = file_take(walk, index, err);
    if (result < 0) {
        return result;
    }
    const uint8_t *view = NULL;
    struct err reason = {0};
    result = window_view(walk, 0, STORE_BLOCK_BYTES, &view, err);
    if (result < 0) {
        return result;
    }
    struct segment_header header;
    if (result == 0 || segment_header_decode(&header, view, &reason) < 0) {
        (void)snprintf(segment->problem, sizeof segment->problem, "%.150s",
                       result == 0 ? "segment header: the file is too short" : reason.text);
        return 0;
    }
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, header.segment_id);
    if (strcmp(name, segment->name) != 0) {
        (void)snprintf(segment->problem, sizeof segment->problem,
                       "segment header: it says that it belongs to %s", name);
        return 0;
    }
    segment->id = header.segment_id;
    segment->salt = header.salt;
    struct batch_header first;
    result = header_at(walk, index, STORE_BLOCK_BYTES, &first, &reason);
    if (result > 0) {
        segment->first_seq = first.batch_seq;
        segment->first_lsn = first.first_lsn;
    }
    return result < 0 ? err_set(err, result, "%s", reason.text) : 0;
}

static const struct walk_segment *segment_find(const struct walk_segment *segments, size_t count,
                                               const char *name)
{
    /* The name is the first member, so a name alone serves as the key. */
    return count == 0 ? NULL : bsearch(name, segments, count, sizeof *segments, segment_compare);
}

static void walk_stand(struct log_walk *walk, size_t index, uint64_t offset)
{
    walk->current = index;
    walk->offset = offset;
    walk->is_end_known = false;
}

/* Lists the directory again, keeping what is known of segments that have begun. A segment that
 * vanishes while we look (it expired) leaves the table. */
static int segments_refresh(struct log_walk *walk, struct err *err)
{
    struct walk_segment *old = walk->segments;
    size_t old_count = walk->count;
    char standing[SEGMENT_NAME_BYTES] = {0};
    if (old_count != 0) {
        memcpy(standing, old[walk->current].name, sizeof standing);
    }
    file_drop(walk);
    walk->segments = NULL;
    walk->count = walk->room = 0;
    int result = walk->io->ops->list(walk->io, SEGMENT_DIR, segments_on_name, walk);
    if (walk->count != 0) {
        qsort(walk->segments, walk->count, sizeof *walk->segments, segment_compare);
    }
    size_t kept = 0;
    for (size_t i = 0; i < walk->count && result >= 0; i++) {
        const struct walk_segment *known = segment_find(old, old_count, walk->segments[i].name);
        if (known != NULL && (known->first_seq != 0 || known->is_reported)) {
            walk->segments[i] = *known;
        } else {
            result = segment_look(walk, i, err);
        }
        if (result == -ENOENT) {
            result = 0;
            continue;
        }
        file_drop(walk); /* its index is about to change */
        walk->segments[kept++] = walk->segments[i];
    }
    walk->count = result >= 0 ? kept : 0;
    walk->current = 0;
    while (standing[0] != '\0' && walk->current + 1 < walk->count &&
           strcmp(walk->segments[walk->current].name, standing) < 0) {
        walk->current++;
    }
    if (standing[0] != '\0' && walk->count != 0 &&
        strcmp(walk->segments[walk->current].name, standing) != 0) {
        /* Where we stood has expired: go on with what is left, whatever comes first there. */
        walk_stand(walk, walk->current, STORE_BLOCK_BYTES);
        walk->expect = (struct walk_expect){0};
    }
    mem_free(old);
    return result < 0 ? err_wrap(err, result, "list segments") : 0;
}

/* ---- breaks ---- */

/* True when a later segment begins with the same batch_seq: no I/O. */
static bool is_written_again(const struct log_walk *walk, uint64_t seq)
{
    for (size_t i = walk->current + 1; i < walk->count; i++) {
        if (walk->segments[i].first_seq == seq) {
            return true;
        }
    }
    return false;
}

/* The latest segment that begins with the batch we expect, so that a batch written again wins over
 * its first copy. 1 and it is valid and continues the log, 0 none, -errno. */
static int find_successor(struct log_walk *walk, const struct walk_expect *expect, size_t *found,
                          struct err *err)
{
    for (size_t i = walk->count; i-- > walk->current + 1;) {
        if (expect->seq == 0 || walk->segments[i].first_seq != expect->seq) {
            continue;
        }
        struct walk_batch batch;
        struct err reason = {0};
        int result = batch_at(walk, i, STORE_BLOCK_BYTES, &batch, &reason);
        if (result < 0) {
            return err_set(err, result, "%s", reason.text);
        }
        if (result > 0 && batch_continues(expect, &batch.header, &reason)) {
            *found = i;
            return 1;
        }
    }
    return 0;
}

/* What lies behind a break. */
struct outlook {
    uint64_t durable_lsn; /* D */
    uint64_t headers;     /* valid ones that could follow */
    bool has_resume;
    size_t resume_index;
    uint64_t resume_offset;
    struct batch_header resume;
};

/* True when a later segment begins before this LSN: then the log went on there. */
static bool is_superseded(const struct log_walk *walk, size_t index, uint64_t lsn)
{
    for (size_t i = index + 1; i < walk->count; i++) {
        if (walk->segments[i].first_seq != 0 && walk->segments[i].first_lsn < lsn) {
            return true;
        }
    }
    return false;
}

static int outlook_batch(struct log_walk *walk, size_t index, uint64_t offset,
                         const struct batch_header *header, struct outlook *outlook)
{
    if (header->batch_seq < walk->expect.seq) {
        return 0;
    }
    outlook->headers++;
    outlook->durable_lsn = u64_max(outlook->durable_lsn, header->durable_lsn);
    bool is_better =
        !outlook->has_resume || header->batch_seq < outlook->resume.batch_seq ||
        (header->batch_seq == outlook->resume.batch_seq && index > outlook->resume_index);
    /* The very batch we expect may lie further on, behind a second copy of the one before it that
     * is damaged. */
    bool is_next = batch_continues(&walk->expect, header, NULL);
    bool is_later = header->batch_seq > walk->expect.seq && header->first_lsn >= walk->expect.lsn;
    if (!is_better || !(is_next || is_later) || is_superseded(walk, index, header->first_lsn)) {
        return 0;
    }
    struct walk_batch batch;
    struct err reason = {0};
    int result = batch_at(walk, index, offset, &batch, &reason);
    if (result > 0) {
        outlook->has_resume = true;
        outlook->resume_index = index;
        outlook->resume_offset = offset;
        outlook->resume = batch.header;
    }
    return result < 0 ? result : 0;
}

/* Every valid header from offset on. A batch's length is only trusted when its header is; else the
 * next block is looked at. */
static int outlook_segment(struct log_walk *walk, size_t index, uint64_t offset,
                           struct outlook *outlook, struct err *err)
{
    struct err reason = {0};
    if (walk->segments[index].id == 0) {
        return 0;
    }
    int result = file_take(walk, index, err);
    while (result >= 0 && offset + STORE_BLOCK_BYTES <= walk->file_bytes) {
        struct batch_header header;
        result = header_at(walk, index, offset, &header, &reason);
        if (result > 0) {
            result = outlook_batch(walk, index, offset, &header, outlook);
        }
        /* By one block even behind a good header: its payload may be stale and hide another. */
        offset += STORE_BLOCK_BYTES;
    }
    return result < 0 ? err_set(err, result, "%s", reason.text) : 0;
}

static int outlook_take(struct log_walk *walk, struct outlook *outlook, struct err *err)
{
    *outlook = (struct outlook){0};
    for (size_t i = walk->current; i < walk->count; i++) {
        int result = outlook_segment(walk, i, i == walk->current ? walk->offset : STORE_BLOCK_BYTES,
                                     outlook, err);
        if (result < 0 && result != -ENOENT) {
            return result;
        }
    }
    return 0;
}

/* True when the batch that should be here had been durable. Without knowing what to expect, the
 * batch we could go on with must itself be preceded by something durable. */
static bool outlook_proves_damage(const struct log_walk *walk, const struct outlook *outlook)
{
    if (walk->expect.seq != 0) {
        return outlook->durable_lsn >= walk->expect.lsn;
    }
    return outlook->has_resume && outlook->resume.first_lsn > 1 &&
           outlook->durable_lsn + 1 >= outlook->resume.first_lsn;
}

static int walk_report(struct log_walk *walk, const struct outlook *outlook, struct walk_gap *gap,
                       const struct err *reason)
{
    const struct walk_segment *segment = &walk->segments[walk->current];
    *gap = (struct walk_gap){
        .offset = walk->offset,
        .first_lsn = walk->expect.seq != 0 ? walk->expect.lsn : outlook->resume.first_lsn,
        .last_lsn = outlook->has_resume ? outlook->resume.first_lsn - 1 : outlook->durable_lsn,
    };
    (void)snprintf(gap->name, sizeof gap->name, "%s", segment->name);
    (void)snprintf(gap->text, sizeof gap->text, "%.250s", reason->text);
    if (outlook->has_resume) {
        walk->expect = (struct walk_expect){outlook->resume.batch_seq, outlook->resume.first_lsn,
                                            outlook->resume.previous_crc};
        walk_stand(walk, outlook->resume_index, outlook->resume_offset);
    } else {
        walk->is_over = true;
    }
    return WALK_GAP;
}

/* The end of the log as it is now. What the block here holds decides whether something was torn. */
static int walk_end(struct log_walk *walk, const struct outlook *outlook, struct err *err)
{
    const uint8_t *view = NULL;
    walk->torn_batches = outlook->headers;
    walk->is_end_known = true;
    int result = file_take(walk, walk->current, err);
    if (result >= 0) {
        result = window_view(walk, walk->offset, STORE_BLOCK_BYTES, &view, err);
    }
    if (result < 0) {
        return result;
    }
    ASSERT(result == 0 || view != NULL);
    bool is_magic = result > 0 && view[0] != 0;
    if (is_magic && outlook->headers == 0) {
        walk->torn_batches = 1;
    }
    return WALK_END;
}

/* The batch here does not continue the log. Returns an event, or 100 when there is something to
 * read after all. */
enum {
    WALK_AGAIN = 100
};

static int walk_break(struct log_walk *walk, struct walk_gap *gap, const struct err *reason,
                      struct err *err)
{
    size_t successor = 0;
    int result = segments_refresh(walk, err);
    if (result < 0 || walk->count == 0) {
        return result;
    }
    result = find_successor(walk, &walk->expect, &successor, err);
    if (result < 0) {
        return result;
    }
    if (result > 0) {
        walk_stand(walk, successor, STORE_BLOCK_BYTES);
        return WALK_AGAIN;
    }
    if (walk->is_end_known) {
        return WALK_END; /* the rest was searched when we came here first */
    }
    struct outlook outlook;
    result = outlook_take(walk, &outlook, err);
    if (result < 0) {
        return result;
    }
    if (outlook.has_resume && walk->expect.seq != 0 &&
        batch_continues(&walk->expect, &outlook.resume, NULL)) {
        walk_stand(walk, outlook.resume_index, outlook.resume_offset);
        return WALK_AGAIN;
    }
    if (!outlook_proves_damage(walk, &outlook)) {
        return walk_end(walk, &outlook, err);
    }
    if (walk->expect.seq != 0 && outlook.resume.first_lsn > outlook.durable_lsn + 1) {
        outlook.has_resume = false; /* whole, but behind a torn one: not part of the log */
    }
    /* A writer may have filled the place since: then it must be valid now. */
    struct walk_batch batch;
    struct err again = {0};
    file_drop(walk);
    result = batch_at(walk, walk->current, walk->offset, &batch, &again);
    if (result > 0 && walk->expect.seq != 0 &&
        batch_continues(&walk->expect, &batch.header, &again)) {
        return WALK_AGAIN;
    }
    return walk_report(walk, &outlook, gap, reason);
}

/* A file whose header cannot be read is damage wherever it stands; what it held shows as a gap
 * later. */
static bool walk_bad_segment(struct log_walk *walk, struct walk_gap *gap)
{
    for (size_t i = 0; i < walk->count; i++) {
        struct walk_segment *segment = &walk->segments[i];
        if (segment->id == 0 && !segment->is_reported) {
            segment->is_reported = true;
            *gap = (struct walk_gap){.first_lsn = 1};
            (void)snprintf(gap->name, sizeof gap->name, "%s", segment->name);
            (void)snprintf(gap->text, sizeof gap->text, "%s", segment->problem);
            return true;
        }
    }
    return false;
}

/* Hands the batch out and steps behind it. */
static int walk_take(struct log_walk *walk, const struct walk_batch *batch)
{
    const struct batch_header *header = &batch->header;
    walk->offset += batch_file_bytes(header->payload_bytes);
    walk->bytes += batch_file_bytes(header->payload_bytes);
    walk->expect = (struct walk_expect){
        .seq = header->batch_seq + 1,
        .lsn = header->first_lsn + header->record_count,
        .previous_crc = header->header_crc,
    };
    walk->is_end_known = false;
    return WALK_BATCH;
}

/* One look at the place where we stand: an event, WALK_AGAIN, or -errno. */
static int walk_step(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                     struct err *err)
{
    struct err reason = {0};
    size_t successor = 0;
    int result = walk->segments[walk->current].id == 0
                     ? 0
                     : batch_at(walk, walk->current, walk->offset, batch, &reason);
    if (result < 0 && result != -ENOENT) {
        return err_set(err, result, "%s", reason.text);
    }
    if (result <= 0 || !batch_continues(&walk->expect, &batch->header, &reason)) {
        walk->window_bytes = 0; /* what was read ahead may be old by now */
        return walk_break(walk, gap, &reason, err);
    }
    struct walk_expect same = {batch->header.batch_seq, batch->header.first_lsn,
                               batch->header.previous_crc};
    if (LIKELY(!is_written_again(walk, same.seq))) {
        return walk_take(walk, batch);
    }
    result = find_successor(walk, &same, &successor, err);
    if (result < 0) {
        return result;
    }
    if (result > 0) {
        walk_stand(walk, successor, STORE_BLOCK_BYTES);
        walk->expect = same;
        return WALK_AGAIN;
    }
    /* Looking at the other segments has moved the window. */
    if (batch_at(walk, walk->current, walk->offset, batch, &reason) <= 0) {
        return err_set(err, -EIO, "%s changed while it was read",
                       walk->segments[walk->current].name);
    }
    return walk_take(walk, batch);
}

int log_walk_next(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                  struct err *err)
{
    int result = walk_bad_segment(walk, gap) ? WALK_GAP : WALK_AGAIN;
    if (walk->is_end_known) {
        file_drop(walk); /* what was read at the end may be old by now */
    }
    /* Each round that does not answer moves to a later segment, or finds a batch where there was
     * none. */
    size_t rounds = 2 * walk->count + 8;
    for (size_t i = 0; i < rounds && result == WALK_AGAIN; i++) {
        bool is_over = walk->is_over || walk->count == 0;
        result = is_over ? WALK_END : walk_step(walk, batch, gap, err);
    }
    if (result != WALK_BATCH) {
        *batch = (struct walk_batch){0}; /* nobody takes the wreck for a batch */
    }
    return result == WALK_AGAIN ? WALK_END : result;
}

/* ---- life ---- */

/* Where from_lsn is, or one segment before: a segment may begin with a batch that an earlier one
 * holds as well. */
static void walk_seek(struct log_walk *walk, uint64_t from_lsn)
{
    size_t index = 0;
    for (size_t i = 0; i < walk->count; i++) {
        const struct walk_segment *segment = &walk->segments[i];
        if (segment->first_seq != 0 && segment->first_lsn <= from_lsn) {
            index = i;
        }
    }
    walk_stand(walk, index == 0 ? 0 : index - 1, STORE_BLOCK_BYTES);
    bool is_beginning = walk->count != 0 && walk->segments[walk->current].id == 1;
    walk->expect = is_beginning ? (struct walk_expect){1, 1, 0} : (struct walk_expect){0};
}

int log_walk_open(struct log_walk **walk, struct file_io *io, uint64_t from_lsn, struct err *err)
{
    struct log_walk *made = mem_alloc(sizeof *made);
    made->io = io;
    made->file_of = SIZE_MAX;
    int result = segments_refresh(made, err);
    if (result == 0 && made->count == 0) {
        result = err_set(err, -ENOENT, "there is no log here");
    }
    if (result < 0) {
        log_walk_close(made);
        return result;
    }
    walk_seek(made, from_lsn);
    *walk = made;
    return 0;
}

void log_walk_close(struct log_walk *walk)
{
    if (walk == NULL) {
        return;
    }
    file_drop(walk);
    mem_free(walk->window);
    mem_free(walk->segments);
    mem_free(walk);
}

uint64_t log_walk_torn_batches(const struct log_walk *walk)
{
    return walk->torn_batches;
}

uint64_t log_walk_segments(const struct log_walk *walk)
{
    return walk->count;
}

uint64_t log_walk_bytes(const struct log_walk *walk)
{
    return walk->bytes;
}
