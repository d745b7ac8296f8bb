/*
 * recover: see recover.h for the rules and format.h for what a crash may leave. Runs once, before
 * any thread; main thread. Reads whole segments into one mapped buffer, so that every question
 * about a segment (what comes later, what is the last byte that is not zero) is a look at memory.
 */
#include "store/recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/quarantine.h"

#define PROBE_BYTES   (2u * STORE_BLOCK_BYTES) /* segment header and first batch header */
#define KEPT_BYTES    128u
#define HISTORY_COUNT 4u /* a later segment may repeat at most STORE_WRITES_IN_FLIGHT_MAX batches  \
                          */

/* One segment file, as its first two blocks show it. */
struct found {
    uint64_t id;
    uint64_t bytes;
    struct segment_header header;
    struct batch_header first;
    bool has_header; /* decoded, or put together from the first batch */
    bool is_header_damaged;
    bool has_first;
    bool must_walk;
};

/* Where the log stands after a batch. */
struct point {
    uint64_t seq;
    uint64_t lsn;
    uint64_t keyed_lsn;
    uint32_t crc;
    bool is_crc_known; /* false behind a gap: the next batch's previous_crc proves nothing */
};

struct recovery {
    const struct recover_options *options;
    struct file_io *io;
    struct recovery_report *report;
    struct found *found;
    size_t found_count;
    size_t found_capacity;
    uint8_t *buffer; /* one whole segment, zeroes where it cannot be read */
    uint64_t buffer_bytes;
    bool has_read_error;
    uint64_t unreadable_at; /* the first block that cannot be read */
    int64_t now_ns;
    bool is_started; /* point is known */
    struct point point;
    struct point history[HISTORY_COUNT];
    uint64_t history_count;
    uint64_t durable_lsn; /* D so far */
    bool is_tail_damaged; /* the last used segment ends in corruption: not appended to */
    uint64_t end;         /* in the segment walked last */
};

static void tell(struct recovery *recovery, const char *format, ...) PRINTF_LIKE(2, 3);

static void tell(struct recovery *recovery, const char *format, ...)
{
    char *text = recovery->report->text;
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, sizeof recovery->report->text - used, format, args);
    va_end(args);
}

/* ---- what is there
 * ----------------------------------------------------------------------------------------------------------------
 */

struct listing {
    struct recovery *recovery;
    bool is_counting;
    size_t count;
};

static void recover_on_name(void *context, const char *name)
{
    struct listing *listing = context;
    struct recovery *recovery = listing->recovery;
    uint64_t id = 0;
    if (!segment_parse_name(&id, name)) {
        return;
    }
    if (listing->is_counting) {
        listing->count++;
    } else if (recovery->found_count < recovery->found_capacity) {
        recovery->found[recovery->found_count++] = (struct found){.id = id};
    }
}

struct sweep {
    char names[64][SEGMENT_NAME_BYTES];
    size_t count;
};

static void sweep_on_name(void *context, const char *name)
{
    struct sweep *sweep = context;
    if (segment_is_temporary(name) && sweep->count < ARRAY_COUNT(sweep->names)) {
        (void)snprintf(sweep->names[sweep->count], SEGMENT_NAME_BYTES, SEGMENT_DIR "/%.20s", name);
        sweep->count++;
    }
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = ((const struct found *)a)->id;
    uint64_t right = ((const struct found *)b)->id;
    return left < right ? -1 : left > right;
}

/* Removes what an interrupted preparation left; lists and sorts the segments. */
static int list_segments(struct recovery *recovery, struct err *err)
{
    struct file_io *io = recovery->io;
    int r = io->ops->make_dir(io, SEGMENT_DIR);
    r = r < 0 ? r : io->ops->sync_dir(io, "");
    /* Names that a crash left unsynced must not vanish after they have been trusted. */
    r = r < 0 ? r : io->ops->sync_dir(io, SEGMENT_DIR);
    struct sweep sweep = {.count = 0};
    r = r < 0 ? r : io->ops->list(io, SEGMENT_DIR, sweep_on_name, &sweep);
    for (size_t i = 0; i < sweep.count; i++) {
        (void)io->ops->unlink(io, sweep.names[i]); /* what stays costs space, not truth */
    }
    struct listing listing = {.recovery = recovery, .is_counting = true};
    r = r < 0 ? r : io->ops->list(io, SEGMENT_DIR, recover_on_name, &listing);
    if (r >= 0) {
        recovery->found_capacity = listing.count;
        recovery->found = mem_alloc_array(listing.count, sizeof *recovery->found);
        listing.is_counting = false;
        r = io->ops->list(io, SEGMENT_DIR, recover_on_name, &listing);
    }
    if (r < 0) {
        return err_set(err, r, "recover: list " SEGMENT_DIR ": %s", err_name(r));
    }
    qsort(recovery->found, recovery->found_count, sizeof *recovery->found, compare_ids);
    return 0;
}

static int open_found(struct recovery *recovery, const struct found *found, struct file *file)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    return recovery->io->ops->open(recovery->io, name, FILE_OPEN_DIRECT, file);
}

/* Reads into the buffer; what cannot be read stays zero and is remembered. */
static void read_range(struct recovery *recovery, struct file file, uint64_t offset, uint64_t bytes)
{
    struct file_io *io = recovery->io;
    int64_t n = io->ops->read(io, file, recovery->buffer + offset, bytes, offset);
    if (n == (int64_t)bytes) {
        return;
    }
    for (uint64_t at = offset; at < offset + bytes; at += STORE_BLOCK_BYTES) {
        n = io->ops->read(io, file, recovery->buffer + at, STORE_BLOCK_BYTES, at);
        if (n != (int64_t)STORE_BLOCK_BYTES) {
            memset(recovery->buffer + at, 0, STORE_BLOCK_BYTES);
            if (n < 0 && !recovery->has_read_error) {
                recovery->has_read_error = true;
                recovery->unreadable_at = at;
            }
        }
    }
}

static void read_segment(struct recovery *recovery, const struct found *found, struct file file)
{
    recovery->has_read_error = false;
    for (uint64_t at = 0; at < found->bytes; at += SEGMENT_CHUNK_BYTES) {
        read_range(recovery, file, at, u64_min(SEGMENT_CHUNK_BYTES, found->bytes - at));
    }
}

static bool header_is_ours(const struct found *found, const struct batch_header *header)
{
    return header->segment_id == found->header.segment_id && header->salt == found->header.salt;
}

/* The first two blocks. A damaged segment header is put together again from the first batch, which
 * repeats what matters. */
static int probe(struct recovery *recovery, struct found *found, struct err *err)
{
    struct file file;
    int r = open_found(recovery, found, &file);
    if (r < 0) {
        return err_set(err, r, "recover segment %" PRIu64 ": open: %s", found->id, err_name(r));
    }
    int64_t size = recovery->io->ops->size(recovery->io, file);
    found->bytes = size < 0 ? 0 : (uint64_t)size & ~(uint64_t)(STORE_BLOCK_BYTES - 1);
    memset(recovery->buffer, 0, PROBE_BYTES);
    read_range(recovery, file, 0, u64_min(PROBE_BYTES, found->bytes));
    recovery->io->ops->close(recovery->io, file);
    struct err why = {0};
    r = segment_header_decode(&found->header, recovery->buffer, &why);
    int first = batch_header_decode(&found->first, recovery->buffer + STORE_BLOCK_BYTES, NULL);
    if (r == ERR_VERSION || first == ERR_VERSION) {
        return err_set(err, ERR_VERSION, "recover segment %" PRIu64 ": written by a newer version",
                       found->id);
    }
    found->has_header = r == 0 && found->header.segment_id == found->id;
    if (!found->has_header) {
        found->is_header_damaged = true;
        found->has_header = first == 0 && found->first.segment_id == found->id;
        found->header = (struct segment_header){
            .segment_id = found->id, .salt = found->first.salt, .file_bytes = found->bytes};
    }
    found->has_first = found->has_header && first == 0 && header_is_ours(found, &found->first);
    return 0;
}

/* ---- one batch
 * ----------------------------------------------------------------------------------------------------------------------
 */

static bool header_at(const struct recovery *recovery, const struct found *found, uint64_t offset,
                      struct batch_header *header)
{
    return batch_header_decode(header, recovery->buffer + offset, NULL) == 0 &&
           header_is_ours(found, header);
}

static bool records_fill(const struct batch_header *header, const uint8_t *payload)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct record record;
        int64_t n = record_decode(
            &record, (struct slice){payload + offset, header->payload_bytes - offset}, NULL);
        if (n <= 0) {
            return false;
        }
        offset += (uint64_t)n;
    }
    return offset == header->payload_bytes;
}

static bool batch_at(const struct recovery *recovery, const struct found *found, uint64_t offset,
                     struct batch_header *header)
{
    if (!header_at(recovery, found, offset, header) ||
        batch_file_bytes(header->payload_bytes) > found->bytes - offset) {
        return false;
    }
    const uint8_t *payload = recovery->buffer + offset + BATCH_HEADER_BYTES;
    return crc32c(0, payload, header->payload_bytes) == header->payload_crc &&
           records_fill(header, payload);
}

static bool continues(const struct point *point, const struct batch_header *header)
{
    return header->batch_seq == point->seq + 1 && header->first_lsn == point->lsn + 1 &&
           (!point->is_crc_known || header->previous_crc == point->crc);
}

static void remember_record(struct recovery *recovery, const struct batch_header *header,
                            const struct record *record, uint64_t lsn)
{
    struct dedup *dedup = recovery->options->dedup;
    struct dedup_entry entry = {
        .first_lsn = lsn, .seen_at_ns = header->built_at_ns, .id = record->id};
    struct slice key;
    if (meta_find_dedup_key(&key, record->meta) == 1) {
        entry.print = dedup_fingerprint(dedup, DEDUP_RECORD(record->kind), key);
        if (dedup_find(dedup, entry.print, recovery->now_ns) == NULL) {
            dedup_insert(dedup, &entry, (struct slice){NULL, 0});
            recovery->report->keys_rebuilt++;
        }
    }
    struct receipt receipt;
    if (meta_find_receipt(&receipt, record->meta) == 1) {
        entry.print = dedup_fingerprint(dedup, DEDUP_RECEIPT, receipt.key);
        entry.accepted = receipt.accepted;
        entry.rejected = receipt.rejected;
        entry.form = receipt.form;
        memcpy(entry.body_digest, receipt.body_digest, sizeof entry.body_digest);
        if (dedup_find(dedup, entry.print, recovery->now_ns) == NULL &&
            receipt.errors.bytes <= OUTCOME_ERRORS_BYTES_MAX) {
            dedup_insert(dedup, &entry, receipt.errors);
            recovery->report->keys_rebuilt++;
        }
    }
}

static void remember_keys(struct recovery *recovery, const struct batch_header *header,
                          const uint8_t *payload)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct record record;
        int64_t n = record_decode(
            &record, (struct slice){payload + offset, header->payload_bytes - offset}, NULL);
        ASSERT(n > 0); /* batch_at has looked at the same bytes */
        if (record.meta.bytes > 0) {
            remember_record(recovery, header, &record, header->first_lsn + i);
        }
        offset += (uint64_t)n;
    }
}

static void accept(struct recovery *recovery, const struct batch_header *header, uint64_t offset)
{
    recovery->point = (struct point){.seq = header->batch_seq,
                                     .lsn = header->first_lsn + header->record_count - 1,
                                     .keyed_lsn = header->keyed_lsn,
                                     .crc = header->header_crc,
                                     .is_crc_known = true};
    recovery->history[recovery->history_count % HISTORY_COUNT] = recovery->point;
    recovery->history_count++;
    recovery->durable_lsn = u64_max(recovery->durable_lsn, header->durable_lsn);
    bool is_fresh =
        recovery->now_ns < header->built_at_ns ||
        (uint64_t)(recovery->now_ns - header->built_at_ns) <= recovery->options->dedup_ttl_ns;
    if ((header->flags & BATCH_KEYED) != 0 && is_fresh) {
        remember_keys(recovery, header, recovery->buffer + offset + BATCH_HEADER_BYTES);
    }
}

/* ---- one segment
 * --------------------------------------------------------------------------------------------------------------------
 */

/* What lies behind an invalid batch. */
struct beyond {
    uint64_t durable_lsn; /* the largest that any valid header names */
    uint64_t seq_max;     /* of any valid header */
    uint64_t next_offset; /* of the first valid batch that can be the log's; 0: none */
    struct batch_header next;
    uint64_t batch_count; /* valid ones */
    uint64_t dirty_end;   /* end of the last block that is not zero */
};

static bool is_zero(const uint8_t *data, uint64_t bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

static void look_beyond(const struct recovery *recovery, const struct found *found, uint64_t offset,
                        struct beyond *beyond)
{
    *beyond = (struct beyond){.dirty_end = offset};
    for (uint64_t at = offset; at + STORE_BLOCK_BYTES <= found->bytes; at += STORE_BLOCK_BYTES) {
        if (is_zero(recovery->buffer + at, STORE_BLOCK_BYTES)) {
            continue;
        }
        beyond->dirty_end = at + STORE_BLOCK_BYTES;
        struct batch_header header;
        if (!header_at(recovery, found, at, &header)) {
            continue;
        }
        beyond->durable_lsn = u64_max(beyond->durable_lsn, header.durable_lsn);
        beyond->seq_max = u64_max(beyond->seq_max, header.batch_seq);
        bool is_later =
            header.batch_seq > recovery->point.seq && header.first_lsn > recovery->point.lsn;
        if (at > offset && is_later && batch_at(recovery, found, at, &header)) {
            beyond->batch_count++;
            if (beyond->next_offset == 0) {
                beyond->next_offset = at;
                beyond->next = header;
            }
        }
    }
}

/* Damaged bytes are kept before anything else happens; `kept`, of KEPT_BYTES, gets the words for
 * the report. A start that refuses leaves everything as it is. */
static void keep_damage(const struct recovery *recovery, const struct found *found, uint64_t offset,
                        uint64_t end, char *kept)
{
    kept[0] = '\0';
    uint64_t bytes = end > offset ? end - offset : 0;
    if (recovery->options->on_corruption == ON_CORRUPTION_REFUSE ||
        is_zero(recovery->buffer + offset, bytes)) {
        return;
    }
    char name[QUARANTINE_NAME_BYTES];
    int r = quarantine_keep(name, recovery->io, found->id, offset,
                            (struct slice){recovery->buffer + offset, bytes});
    (void)snprintf(kept, KEPT_BYTES, r < 0 ? ", not kept as %s: %s" : ", kept as %s", name,
                   err_name(r));
}

/* Goes on at a batch behind a gap: what is missing between is counted as lost. */
static void skip_to(struct recovery *recovery, const struct found *found, uint64_t offset,
                    const struct batch_header *next, const char *kept)
{
    struct recovery_report *report = recovery->report;
    uint64_t batches = next->batch_seq - recovery->point.seq - 1;
    uint64_t lsns = next->first_lsn - recovery->point.lsn - 1;
    report->corrupt_batches += u64_max(batches, 1);
    report->corrupt_lsn_count += lsns;
    tell(recovery,
         "segment %" PRIu64 " offset %" PRIu64 ": corrupt, %" PRIu64 " LSNs from %" PRIu64
         " are lost%s\n",
         found->id, offset, lsns, recovery->point.lsn + 1, kept);
    recovery->point.seq = next->batch_seq - 1;
    recovery->point.lsn = next->first_lsn - 1;
    recovery->point.is_crc_known = false;
}

/* The first batch of a segment: it continues, or repeats the last batches of a segment that failed,
 * or follows a gap. */
static void align_start(struct recovery *recovery, const struct found *found,
                        const struct batch_header *first)
{
    struct point *point = &recovery->point;
    if (!recovery->is_started) {
        recovery->is_started = true;
        *point = (struct point){.seq = first->batch_seq - 1, .lsn = first->first_lsn - 1};
        point->is_crc_known = first->batch_seq == 1;
        return;
    }
    if (first->batch_seq > point->seq) {
        if (first->batch_seq > point->seq + 1 && first->first_lsn > point->lsn) {
            skip_to(recovery, found, 0, first, "");
        }
        return;
    }
    for (uint64_t i = 0; i < u64_min(recovery->history_count, HISTORY_COUNT); i++) {
        const struct point *past =
            &recovery->history[(recovery->history_count - 1 - i) % HISTORY_COUNT];
        if (past->seq + 1 == first->batch_seq) {
            *point = *past; /* the later one wins */
            dedup_take_back(recovery->options->dedup, first->first_lsn);
            return;
        }
    }
    *point = (struct point){.seq = first->batch_seq - 1, .lsn = first->first_lsn - 1};
    dedup_take_back(recovery->options->dedup, first->first_lsn);
}

/* The batch at offset is invalid because the disk does not give it back. */
static bool is_unreadable(const struct recovery *recovery, const struct found *found,
                          uint64_t offset)
{
    struct batch_header header;
    uint64_t bytes = header_at(recovery, found, offset, &header)
                         ? batch_file_bytes(header.payload_bytes)
                         : STORE_BLOCK_BYTES;
    return recovery->has_read_error && recovery->unreadable_at >= offset &&
           recovery->unreadable_at - offset < bytes;
}

/* An invalid batch at offset above D. Torn is what a crash leaves, and a crash leaves no block that
 * cannot be read: such a batch may have been acknowledged. */
static void judge_tail(struct recovery *recovery, const struct found *found, uint64_t offset)
{
    if (!is_unreadable(recovery, found, offset)) {
        return;
    }
    recovery->report->corrupt_batches++;
    tell(recovery,
         "segment %" PRIu64 " offset %" PRIu64
         ": cannot be read; records from LSN %" PRIu64 " on may be lost\n",
         found->id, offset, recovery->point.lsn + 1);
}

/* Proven damage that nothing follows in this segment. In the last one nothing shows where LSNs may
 * go on but D itself; in an earlier one the next segment's first batch shows what is missing. */
static void judge_rest(struct recovery *recovery, const struct found *found, uint64_t offset,
                       bool is_last, uint64_t durable, const struct beyond *beyond)
{
    char kept[KEPT_BYTES];
    keep_damage(recovery, found, offset, beyond->dirty_end, kept);
    if (!is_last) {
        tell(recovery, "segment %" PRIu64 " offset %" PRIu64 ": corrupt up to its end%s\n",
             found->id, offset, kept);
        return;
    }
    struct batch_header after = {.batch_seq =
                                     u64_max(beyond->seq_max, recovery->point.seq + 1) + 1,
                                 .first_lsn = durable + 1};
    skip_to(recovery, found, offset, &after, kept);
    recovery->is_tail_damaged = true;
}

/* An invalid batch at offset. Returns where to go on, 0: the segment (for the last: the log) ends
 * here. */
static uint64_t judge(struct recovery *recovery, const struct found *found, uint64_t offset,
                      const struct found *next, bool is_last, struct beyond *beyond)
{
    look_beyond(recovery, found, offset, beyond);
    uint64_t durable = u64_max(recovery->durable_lsn, beyond->durable_lsn);
    durable = next != NULL && next->has_first ? u64_max(durable, next->first.durable_lsn) : durable;
    bool is_read_error = recovery->has_read_error && beyond->next_offset != 0;
    if (recovery->point.lsn + 1 > durable && !is_read_error) {
        judge_tail(recovery, found, offset);
        return 0; /* above D: torn, or simply the end */
    }
    if (beyond->next_offset == 0) {
        judge_rest(recovery, found, offset, is_last, durable, beyond);
        return 0;
    }
    char kept[KEPT_BYTES];
    keep_damage(recovery, found, offset, beyond->next_offset, kept);
    skip_to(recovery, found, offset, &beyond->next, kept);
    return beyond->next_offset;
}

/* Where the walk begins in a segment whose first batch is damaged and whose predecessor is not
 * known: at the first valid batch. Only the very first segment is known to begin at LSN 1. */
static uint64_t begin_blind(struct recovery *recovery, const struct found *found)
{
    recovery->is_started = true;
    recovery->point = (struct point){.is_crc_known = true};
    struct batch_header header;
    for (uint64_t at = STORE_BLOCK_BYTES; found->id != 1 && at + STORE_BLOCK_BYTES <= found->bytes;
         at += STORE_BLOCK_BYTES) {
        if (batch_at(recovery, found, at, &header)) {
            char kept[KEPT_BYTES];
            keep_damage(recovery, found, STORE_BLOCK_BYTES, at, kept);
            recovery->report->corrupt_batches++;
            tell(recovery, "segment %" PRIu64 " offset %u: first batch corrupt%s\n", found->id,
                 STORE_BLOCK_BYTES, kept);
            recovery->point =
                (struct point){.seq = header.batch_seq - 1, .lsn = header.first_lsn - 1};
            return at;
        }
    }
    return STORE_BLOCK_BYTES;
}

static void walk_segment(struct recovery *recovery, struct found *found, const struct found *next,
                         bool is_last, struct beyond *beyond)
{
    uint64_t offset = STORE_BLOCK_BYTES;
    struct batch_header header;
    *beyond = (struct beyond){.dirty_end = found->bytes};
    /* A torn first batch supersedes nothing: only a whole one may wind back what an earlier segment
     * holds. */
    bool is_first_whole = found->has_first && batch_at(recovery, found, offset, &header);
    if (is_first_whole || (found->has_first && !recovery->is_started)) {
        align_start(recovery, found, &found->first);
    } else if (!recovery->is_started) {
        offset = begin_blind(recovery, found);
    }
    while (offset + STORE_BLOCK_BYTES <= found->bytes) { /* moves on by a block at least, or ends */
        if (batch_at(recovery, found, offset, &header) && continues(&recovery->point, &header)) {
            accept(recovery, &header, offset);
            offset += batch_file_bytes(header.payload_bytes);
            continue;
        }
        uint64_t to = judge(recovery, found, offset, next, is_last, beyond);
        if (to == 0) {
            break;
        }
        offset = to;
    }
    recovery->end = offset;
}

/* ---- the whole log
 * ------------------------------------------------------------------------------------------------------------------
 */

/* Keys in k are the only reason to read an old segment: skip it when the next one's first header
 * names no key as new as its first LSN, or when everything in it is older than the TTL. */
static bool may_hold_keys(const struct recovery *recovery, const struct found *found,
                          const struct found *next)
{
    if (!found->has_first || !next->has_first) {
        return true;
    }
    int64_t age = recovery->now_ns - next->first.built_at_ns;
    bool is_old = age > 0 && (uint64_t)age > recovery->options->dedup_ttl_ns;
    return !is_old && next->first.keyed_lsn >= found->first.first_lsn;
}

static void choose_walk(struct recovery *recovery, size_t used_count)
{
    uint64_t budget = recovery->options->walk_bytes;
    for (size_t i = used_count; i-- > 0;) {
        struct found *found = &recovery->found[i];
        bool is_last = i + 1 == used_count;
        found->must_walk = is_last || budget >= found->bytes ||
                           may_hold_keys(recovery, found, &recovery->found[i + 1]);
        budget -= u64_min(budget, found->bytes);
    }
}

/* Empties the file behind the cut, so that nothing of the torn flight can ever be taken for a
 * continuation. */
static int zero_window(struct recovery *recovery, struct file file, uint64_t from, uint64_t to)
{
    struct file_io *io = recovery->io;
    memset(recovery->buffer, 0, u64_min(SEGMENT_CHUNK_BYTES, recovery->buffer_bytes));
    int r = 0;
    uint64_t chunk = u64_min(SEGMENT_CHUNK_BYTES, recovery->buffer_bytes);
    for (uint64_t at = from; at < to && r == 0; at += chunk) {
        r = io->ops->write(io, file, recovery->buffer, u64_min(chunk, to - at), at, false);
    }
    return r < 0 ? r : io->ops->sync(io, file);
}

static void open_active(struct recovery *recovery, const struct found *found,
                        const struct beyond *beyond, struct recovered *recovered)
{
    bool is_fit = found->has_header && !found->is_header_damaged && !recovery->has_read_error &&
                  !recovery->is_tail_damaged && found->header.file_bytes == found->bytes;
    if (!is_fit) {
        return;
    }
    struct segment *active = &recovered->start.active;
    struct err why = {0};
    if (segment_open(active, recovery->io, &found->header, SEGMENT_ACTIVE, &why) < 0) {
        tell(recovery, "segment %" PRIu64 ": not appended to: %s\n", found->id, why.text);
        return;
    }
    active->end = recovery->end;
    uint64_t dirty_end = u64_max(beyond->dirty_end, recovery->end);
    if (recovery->end + STORE_BLOCK_BYTES > found->bytes) {
        dirty_end = recovery->end; /* full to the last block: walk_segment never judged */
    }
    if (dirty_end > recovery->end) {
        recovery->report->torn_batches_cut += 1 + beyond->batch_count;
        recovery->report->torn_bytes_cut += dirty_end - recovery->end;
        tell(recovery,
             "segment %" PRIu64 " offset %" PRIu64 ": torn tail of %" PRIu64
             " bytes cut, never acknowledged\n",
             found->id, recovery->end, dirty_end - recovery->end);
    }
    int r = zero_window(recovery, active->file, recovery->end, dirty_end);
    if (r < 0) {
        tell(recovery, "segment %" PRIu64 ": not appended to: zero the tail: %s\n", found->id,
             err_name(r));
        segment_close(active, recovery->io);
    }
}

static void remove_segment(struct recovery *recovery, struct found *found)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    int r = recovery->io->ops->unlink(recovery->io, name);
    if (r < 0) {
        tell(recovery, "segment %" PRIu64 ": cannot be removed: %s\n", found->id, err_name(r));
    }
    found->bytes = 0;
}

static int refuse(const struct recovery *recovery, struct err *err)
{
    if (recovery->options->on_corruption != ON_CORRUPTION_REFUSE ||
        recovery->report->corrupt_batches == 0) {
        return 0;
    }
    return err_set(err, ERR_CORRUPT,
                   "recover: the log is damaged and store.on_corruption is refuse: %s",
                   recovery->report->text);
}

/* Damaged beyond reading and not known to be empty: kept under another name for whoever wants to
 * look. */
static int set_aside(struct recovery *recovery, const struct found *found, struct err *err)
{
    char name[SEGMENT_NAME_BYTES];
    char aside[SEGMENT_NAME_BYTES];
    segment_name(name, found->id);
    (void)snprintf(aside, sizeof aside, SEGMENT_DIR "/%016" PRIx64 ".bad", found->id);
    recovery->report->corrupt_batches++;
    tell(recovery, "segment %" PRIu64 ": no batch can be read in it, set aside as %s\n", found->id,
         aside);
    int r = refuse(recovery, err);
    if (r == 0 && recovery->io->ops->rename(recovery->io, name, aside) < 0) {
        tell(recovery, "segment %" PRIu64 ": cannot be renamed\n", found->id);
    }
    return r;
}

/* True when some batch in the buffer is valid: then the segment belongs to the log. */
static bool has_any_batch(const struct recovery *recovery, const struct found *found)
{
    struct batch_header header;
    for (uint64_t at = STORE_BLOCK_BYTES; at + STORE_BLOCK_BYTES <= found->bytes;
         at += STORE_BLOCK_BYTES) {
        if (header_at(recovery, found, at, &header)) {
            return true;
        }
    }
    return false;
}

/* Segment header and first batch are gone: any other batch of the segment tells the salt, without
 * which none of them would count. */
static void adopt_salt(const struct recovery *recovery, struct found *found)
{
    struct batch_header header;
    for (uint64_t at = STORE_BLOCK_BYTES;
         !found->has_header && at + STORE_BLOCK_BYTES <= found->bytes; at += STORE_BLOCK_BYTES) {
        if (batch_header_decode(&header, recovery->buffer + at, NULL) == 0 &&
            header.segment_id == found->id) {
            found->header.salt = header.salt;
            found->has_header = true;
        }
    }
}

static int load(struct recovery *recovery, struct found *found, struct err *err)
{
    struct file file;
    int r = open_found(recovery, found, &file);
    if (r < 0) {
        return err_set(err, r, "recover segment %" PRIu64 ": open: %s", found->id, err_name(r));
    }
    r = recovery->io->ops->sync(
        recovery->io, file); /* what is read below must not vanish after it has been trusted */
    if (r < 0) {
        tell(recovery, "segment %" PRIu64 ": sync: %s\n", found->id, err_name(r));
        r = 0;
    }
    read_segment(recovery, found, file);
    recovery->io->ops->close(recovery->io, file);
    adopt_salt(recovery, found);
    return r;
}

/* From the end: segments without a single valid batch are spares or rubbish. Returns how many are
 * used. */
static int count_used(struct recovery *recovery, size_t *used_count, struct err *err)
{
    size_t used = recovery->found_count;
    for (; used > 0; used--) {
        struct found *found = &recovery->found[used - 1];
        if (found->has_first) {
            break;
        }
        int r = load(recovery, found, err);
        if (r < 0) {
            return r;
        }
        if (found->has_header && has_any_batch(recovery, found)) {
            break;
        }
    }
    *used_count = used;
    return 0;
}

/* Spares must follow each other and the last used segment, be all zero and of the wanted size.
 * Everything else behind the log goes. */
static int take_spares(struct recovery *recovery, size_t used_count, struct recovered *recovered,
                       struct err *err)
{
    for (size_t i = used_count; i < recovery->found_count; i++) {
        struct found *found = &recovery->found[i];
        int r = load(recovery, found, err);
        if (r < 0) {
            return r;
        }
        bool is_empty = is_zero(recovery->buffer + STORE_BLOCK_BYTES,
                                found->bytes - u64_min(STORE_BLOCK_BYTES, found->bytes));
        bool is_whole = found->has_header && found->header.file_bytes == found->bytes &&
                        found->bytes == recovery->options->segment_bytes &&
                        !recovery->has_read_error;
        bool is_next =
            found->id == recovered->segment_id_next && recovered->spare_count < KEEPER_READY_MAX;
        struct segment *spare = &recovered->spares[recovered->spare_count];
        if (is_empty && is_whole && is_next &&
            segment_open(spare, recovery->io, &found->header, SEGMENT_PREPARED, NULL) == 0) {
            recovered->spare_count++;
            recovered->segment_id_next++;
            continue;
        }
        if (recovery->has_read_error || (!is_empty && !found->has_header)) {
            r = set_aside(recovery, found, err);
            if (r < 0) {
                return r;
            }
            recovered->segment_id_next = u64_max(recovered->segment_id_next, found->id + 1);
            continue;
        }
        recovery->report->torn_batches_cut += is_empty ? 0 : 1;
        remove_segment(recovery, found);
    }
    int r = recovery->io->ops->sync_dir(recovery->io, SEGMENT_DIR);
    return r < 0 ? err_set(err, r, "recover: sync " SEGMENT_DIR ": %s", err_name(r)) : 0;
}

static int walk_used(struct recovery *recovery, size_t used_count, struct recovered *recovered,
                     struct err *err)
{
    choose_walk(recovery, used_count);
    struct beyond beyond = {0};
    for (size_t i = 0; i < used_count; i++) {
        struct found *found = &recovery->found[i];
        bool is_last = i + 1 == used_count;
        if (!found->must_walk) {
            recovery->is_started =
                false; /* its last batch is not known: the next first batch is taken as it is */
            continue;
        }
        int r = load(recovery, found, err);
        if (r < 0) {
            return r;
        }
        if (found->is_header_damaged) {
            char kept[KEPT_BYTES];
            keep_damage(recovery, found, 0, STORE_BLOCK_BYTES, kept);
            recovery->report->corrupt_batches++;
            tell(recovery, "segment %" PRIu64 " offset 0: header corrupt%s\n", found->id, kept);
        }
        walk_segment(recovery, found, is_last ? NULL : &recovery->found[i + 1], is_last, &beyond);
        if (is_last) {
            r = refuse(recovery, err);
            if (r < 0) {
                return r;
            }
            open_active(recovery, found, &beyond, recovered);
        }
    }
    return 0;
}

static int probe_all(struct recovery *recovery, struct recovered *recovered, struct err *err)
{
    recovery->buffer_bytes = PROBE_BYTES;
    recovery->buffer = mem_map(PROBE_BYTES);
    uint64_t largest = PROBE_BYTES;
    for (size_t i = 0; i < recovery->found_count && recovery->buffer != NULL; i++) {
        struct found *found = &recovery->found[i];
        int r = probe(recovery, found, err);
        if (r < 0) {
            return r;
        }
        largest = u64_max(largest, found->bytes);
        if (found->has_header && !found->is_header_damaged) {
            recovered->has_node = true;
            recovered->node = found->header.node;
        }
    }
    if (recovery->buffer != NULL) {
        mem_unmap(recovery->buffer, recovery->buffer_bytes);
    }
    recovery->buffer_bytes = largest;
    recovery->buffer = mem_map(largest);
    return recovery->buffer == NULL
               ? err_set(err, -ENOMEM, "recover: map %" PRIu64 " bytes", largest)
               : 0;
}

static int recover_all(struct recovery *recovery, struct recovered *recovered, struct err *err)
{
    size_t used_count = 0;
    int r = list_segments(recovery, err);
    r = r < 0 ? r : probe_all(recovery, recovered, err);
    r = r < 0 ? r : count_used(recovery, &used_count, err);
    r = r < 0 ? r : walk_used(recovery, used_count, recovered, err);
    recovered->segment_id_next = used_count == 0 ? 1 : recovery->found[used_count - 1].id + 1;
    r = r < 0 ? r : take_spares(recovery, used_count, recovered, err);
    for (size_t i = 0; i < recovery->found_count; i++) {
        recovered->log_bytes += recovery->found[i].bytes;
    }
    recovery->report->segments = used_count;
    return r;
}

int recover_run(struct recovered *recovered, const struct recover_options *options,
                struct recovery_report *report, struct err *err)
{
    struct file_io *io = options->io;
    uint64_t begun_at_ns = io->ops->mono_ns(io);
    *recovered = (struct recovered){.segment_id_next = 1};
    struct recovery recovery = {
        .options = options, .io = io, .report = report, .now_ns = io->ops->real_ns(io)};
    int r = recover_all(&recovery, recovered, err);
    struct journal_start *start = &recovered->start;
    start->batch_seq = recovery.point.seq;
    start->lsn = recovery.point.lsn;
    start->keyed_lsn = recovery.point.keyed_lsn;
    start->header_crc = recovery.point.crc;
    report->last_lsn = start->lsn;
    report->duration_ns = io->ops->mono_ns(io) - begun_at_ns;
    if (r < 0) {
        segment_close(&start->active, io);
        for (unsigned i = 0; i < recovered->spare_count; i++) {
            segment_close(&recovered->spares[i], io);
        }
    }
    if (recovery.buffer != NULL) {
        mem_unmap(recovery.buffer, recovery.buffer_bytes);
    }
    mem_free(recovery.found);
    return r;
}
