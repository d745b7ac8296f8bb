/*
 * recover_walk: see recover_walk.h. The main path is recover_walk_segment: batches that continue
 * the log are accepted and their keys remembered; judge decides about the first that does not.
 */
#include "store/recover_walk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "store/quarantine.h"

#define KEPT_BYTES 128u /* ", kept as " and a quarantine name, or why not */

/* ---- one batch ---- */

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
    if (!recovery_header_at(recovery, found, offset, header) ||
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
        .first_lsn = lsn, .answer_lsn = lsn, .seen_at_ns = header->built_at_ns, .id = record->id};
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
        entry.duplicates = receipt.duplicates;
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

static void accept(struct recovery *recovery, const struct batch_header *header,
                   const uint8_t *payload)
{
    recovery->point = (struct point){.seq = header->batch_seq,
                                     .lsn = header->first_lsn + header->record_count - 1,
                                     .keyed_lsn = header->keyed_lsn,
                                     .origin_lsn = header->origin_lsn,
                                     .crc = header->header_crc,
                                     .is_crc_known = true};
    recovery->history[recovery->history_count % RECOVERY_HISTORY] = recovery->point;
    recovery->history_count++;
    recovery->durable_lsn = u64_max(recovery->durable_lsn, header->durable_lsn);
    if ((header->flags & BATCH_KEYED) != 0 && recovery_is_fresh(recovery, header->built_at_ns)) {
        remember_keys(recovery, header, payload);
    }
}

/* ---- behind an invalid batch ---- */

static void look_beyond(const struct recovery *recovery, const struct found *found, uint64_t offset,
                        struct beyond *beyond)
{
    *beyond = (struct beyond){.dirty_end = offset};
    for (uint64_t at = offset; at + STORE_BLOCK_BYTES <= found->bytes; at += STORE_BLOCK_BYTES) {
        if (recovery_is_zero(recovery->buffer + at, STORE_BLOCK_BYTES)) {
            continue;
        }
        beyond->dirty_end = at + STORE_BLOCK_BYTES;
        struct batch_header header;
        if (!recovery_header_at(recovery, found, at, &header)) {
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
    end = u64_min(end, found->bytes);
    uint64_t bytes = end > offset ? end - offset : 0;
    if (recovery->options->on_corruption == ON_CORRUPTION_REFUSE ||
        recovery_is_zero(recovery->buffer + offset, bytes)) {
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
    recovery_tell(recovery,
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
    for (uint64_t i = 0; i < u64_min(recovery->history_count, RECOVERY_HISTORY); i++) {
        const struct point *past =
            &recovery->history[(recovery->history_count - 1 - i) % RECOVERY_HISTORY];
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
    uint64_t bytes = recovery_header_at(recovery, found, offset, &header)
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
    recovery_tell(recovery,
                  "segment %" PRIu64 " offset %" PRIu64
                  ": cannot be read; records from LSN %" PRIu64 " on may be lost\n",
                  found->id, offset, recovery->point.lsn + 1);
}

/* Proven damage that nothing of the log follows in this segment. In the last one nothing shows
 * where LSNs may go on but D itself; in an earlier one the first batch of a later segment shows what
 * is missing. */
static void judge_rest(struct recovery *recovery, const struct found *found, uint64_t offset,
                       bool is_last, uint64_t durable, const struct beyond *beyond)
{
    char kept[KEPT_BYTES];
    keep_damage(recovery, found, offset, beyond->dirty_end, kept);
    if (!is_last) {
        recovery_tell(recovery, "segment %" PRIu64 " offset %" PRIu64 ": corrupt up to its end%s\n",
                      found->id, offset, kept);
        return;
    }
    uint64_t lsns = durable - u64_min(durable, recovery->point.lsn);
    recovery->report->corrupt_batches++; /* or more: nothing tells */
    recovery->report->corrupt_lsn_count += lsns;
    recovery_tell(recovery,
                  "segment %" PRIu64 " offset %" PRIu64 ": corrupt up to its end, %" PRIu64
                  " LSNs from %" PRIu64 " are lost%s\n",
                  found->id, offset, lsns, recovery->point.lsn + 1, kept);
    recovery->point.seq = u64_max(beyond->seq_max, recovery->point.seq + 1);
    recovery->point.lsn += lsns;
    recovery->point.is_crc_known = false;
    recovery->is_tail_damaged = true;
}

/* An invalid batch at offset. Returns where to go on, 0: the segment (for the last: the log) ends
 * here. */
static uint64_t judge(struct recovery *recovery, const struct found *found, uint64_t offset,
                      bool is_last, struct beyond *beyond)
{
    look_beyond(recovery, found, offset, beyond);
    if (found->later_first_seq <= recovery->point.seq + 1) {
        return 0; /* written again, after it had failed here: the log goes on there */
    }
    uint64_t durable = u64_max(recovery->durable_lsn, beyond->durable_lsn);
    durable = u64_max(durable, found->later_durable_lsn);
    durable = found->has_footer ? u64_max(durable, found->footer.last_lsn) : durable;
    bool is_read_error = recovery->has_read_error && beyond->next_offset != 0;
    if (recovery->point.lsn + 1 > durable && !is_read_error) {
        judge_tail(recovery, found, offset);
        return 0; /* above D: torn, or simply the end */
    }
    /* A whole batch that does not follow D directly lies behind a torn one: damage in front of
     * both does not make it part of the log. */
    bool is_torn_off = beyond->next.first_lsn > durable + 1 && !is_read_error;
    if (beyond->next_offset == 0 || is_torn_off) {
        judge_rest(recovery, found, offset, is_last, durable, beyond);
        return 0;
    }
    char kept[KEPT_BYTES];
    keep_damage(recovery, found, offset, beyond->next_offset, kept);
    skip_to(recovery, found, offset, &beyond->next, kept);
    return beyond->next_offset;
}

/* Where the walk begins in a segment whose first batch is damaged and whose predecessor is not
 * known: at the first valid batch. Only the very first segment is known to begin at LSN 1. 0: there
 * is none, as when all that was written to it failed and went to the next segment. */
static uint64_t begin_blind(struct recovery *recovery, const struct found *found, bool is_last)
{
    struct batch_header header;
    recovery->point = (struct point){.is_crc_known = true};
    recovery->is_started = true;
    if (found->id == 1) {
        return STORE_BLOCK_BYTES;
    }
    for (uint64_t at = STORE_BLOCK_BYTES; at + STORE_BLOCK_BYTES <= found->bytes;
         at += STORE_BLOCK_BYTES) {
        if (batch_at(recovery, found, at, &header)) {
            char kept[KEPT_BYTES];
            keep_damage(recovery, found, STORE_BLOCK_BYTES, at, kept);
            recovery->report->corrupt_batches++;
            recovery_tell(recovery, "segment %" PRIu64 " offset %u: first batch corrupt%s\n",
                          found->id, STORE_BLOCK_BYTES, kept);
            recovery->point =
                (struct point){.seq = header.batch_seq - 1, .lsn = header.first_lsn - 1};
            return at;
        }
    }
    recovery->is_started = is_last;
    return is_last ? STORE_BLOCK_BYTES : 0;
}

/* The log goes on behind the segment, as its footer says, which only names what was durable. */
static void take_footer(struct recovery *recovery, const struct segment_footer *footer)
{
    recovery->durable_lsn = u64_max(recovery->durable_lsn, footer->durable_lsn);
    recovery->durable_lsn = u64_max(recovery->durable_lsn, footer->last_lsn);
    if (footer->first_seq == 0) {
        return; /* nothing of it is in the log */
    }
    recovery->point = (struct point){.seq = footer->last_seq,
                                     .lsn = footer->last_lsn,
                                     .keyed_lsn = footer->keyed_lsn,
                                     .origin_lsn = footer->origin_lsn,
                                     .crc = footer->last_crc,
                                     .is_crc_known = true};
    recovery->history[recovery->history_count % RECOVERY_HISTORY] = recovery->point;
    recovery->history_count++;
}

/* What the footer says is in the segment and was not found there is lost. */
static void finish_sealed(struct recovery *recovery, const struct found *found, const char *why)
{
    const struct segment_footer *footer = &found->footer;
    const struct point *point = &recovery->point;
    bool is_short = footer->first_seq != 0 && point->seq < footer->last_seq;
    if (is_short && !recovery->is_tail_damaged) {
        uint64_t lsns = footer->last_lsn - u64_min(footer->last_lsn, point->lsn);
        recovery->report->corrupt_batches += footer->last_seq - point->seq;
        recovery->report->corrupt_lsn_count += lsns;
        recovery_tell(recovery,
                      "segment %" PRIu64 ": corrupt, %" PRIu64 " LSNs from %" PRIu64
                      " to its end are lost%s\n",
                      found->id, lsns, point->lsn + 1, why);
    }
    take_footer(recovery, footer);
}

static void report_header(struct recovery *recovery, const struct found *found)
{
    char kept[KEPT_BYTES];
    keep_damage(recovery, found, 0, STORE_BLOCK_BYTES, kept);
    recovery->report->corrupt_batches++;
    recovery_tell(recovery, "segment %" PRIu64 " offset 0: header corrupt%s\n", found->id, kept);
}

void recover_walk_segment(struct recovery *recovery, struct found *found, bool is_last,
                          struct beyond *beyond)
{
    uint64_t offset = STORE_BLOCK_BYTES;
    struct batch_header header;
    *beyond = (struct beyond){.dirty_end = found->bytes};
    if (found->is_header_damaged) {
        report_header(recovery, found);
    }
    /* A torn first batch supersedes nothing: only a whole one may wind back what an earlier segment
     * holds. */
    bool is_first_whole = found->has_first && batch_at(recovery, found, offset, &header);
    if (is_first_whole || (found->has_first && !recovery->is_started)) {
        align_start(recovery, found, &found->first);
    } else if (!recovery->is_started) {
        offset = begin_blind(recovery, found, is_last);
        if (offset == 0) {
            return;
        }
    }
    while (offset + STORE_BLOCK_BYTES <= found->bytes) { /* moves on by a block at least, or ends */
        if (found->has_footer && recovery->point.seq >= found->footer.last_seq) {
            break; /* what follows was written again to the next segment */
        }
        if (batch_at(recovery, found, offset, &header) && continues(&recovery->point, &header)) {
            accept(recovery, &header, recovery->buffer + offset + BATCH_HEADER_BYTES);
            offset += batch_file_bytes(header.payload_bytes);
            continue;
        }
        uint64_t to = judge(recovery, found, offset, is_last, beyond);
        if (to == 0) {
            break;
        }
        offset = to;
    }
    recovery->end = offset;
    if (found->has_footer) {
        finish_sealed(recovery, found, "");
    }
}

/* ---- sealed and compacted segments ---- */

static void align_sealed(struct recovery *recovery, const struct found *found)
{
    const struct segment_footer *footer = &found->footer;
    if (footer->first_seq == 0) {
        return;
    }
    struct batch_header first = recovery_footer_first(footer);
    align_start(recovery, found, &first);
    bool is_next = recovery->point.seq + 1 == footer->first_seq && recovery->point.is_crc_known;
    if (is_next && recovery->point.crc != footer->first_previous_crc) {
        recovery->report->corrupt_batches++;
        recovery_tell(recovery,
                      "segment %" PRIu64 ": corrupt, it does not follow the one before it\n",
                      found->id);
    }
}

void recover_skip_sealed(struct recovery *recovery, const struct found *found)
{
    ASSERT(found->has_footer);
    align_sealed(recovery, found);
    take_footer(recovery, &found->footer);
}

/* A valid batch that does not continue the log: behind a damaged frame, or out of its place. */
static void rejoin(struct recovery *recovery, const struct found *found, uint64_t place,
                   const struct batch_header *header)
{
    struct point *point = &recovery->point;
    if (header->batch_seq > point->seq && header->first_lsn > point->lsn) {
        skip_to(recovery, found, walk_file_offset(&recovery->file, place), header, "");
        return;
    }
    recovery->report->corrupt_batches++;
    recovery_tell(recovery, "segment %" PRIu64 ": corrupt, batch %" PRIu64 " is out of its place\n",
                  found->id, header->batch_seq);
    *point = (struct point){.seq = header->batch_seq - 1, .lsn = header->first_lsn - 1};
}

static void walk_frames(struct recovery *recovery, const struct found *found, struct err *why)
{
    struct walk_file *file = &recovery->file;
    uint64_t place = WALK_FILE_BEGIN;
    while (place < file->end) { /* on by a batch or to the next frame */
        struct walk_batch batch;
        if (walk_file_batch(file, place, &batch, why) <= 0) {
            place = walk_file_skip(file, place, NULL);
            continue;
        }
        if (!continues(&recovery->point, &batch.header)) {
            rejoin(recovery, found, place, &batch.header);
        }
        accept(recovery, &batch.header, batch.payload.data);
        place += walk_file_stride(file, &batch.header);
    }
}

void recover_walk_compacted(struct recovery *recovery, const struct found *found)
{
    struct err why = {0};
    ASSERT(found->form == SEGMENT_FORM_COMPACTED);
    align_sealed(recovery, found);
    int r = walk_file_open(&recovery->file, recovery->io, found->id, found->form, &why);
    if (r == 0) {
        walk_frames(recovery, found, &why);
        walk_file_close(&recovery->file);
    }
    char text[160];
    (void)snprintf(text, sizeof text, ": %.150s", why.text);
    finish_sealed(recovery, found, text);
}
