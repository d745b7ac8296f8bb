/*
 * archive_seal: writes index and footer behind a segment that the writer has left; see sealed.h for
 * the bytes. The archive's thread.
 *
 * Happy path: the log is walked from the segment on (log_walk decides what belongs to it, so copies
 * of batches that were written again to a later segment do not count); each batch goes into index,
 * digest and footer; the first batch of a later segment ends it. Then the file is cut to its
 * batches, the index written and synced, the footer written and synced: a footer is only ever there
 * with its index.
 *
 * Failure: whatever was appended is cut off again or lies behind the batches without meaning;
 * sealing begins anew. After a failed sync what was appended is cut off, so that nothing the kernel
 * only pretends to have written is synced a second time. Damage (a gap of the log inside or right
 * before the segment, or behind its last batch) is noted in the footer and keeps the segment raw.
 */
#include "store/archive_work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/logline.h"

#define SEAL_STEP_BYTES   INDEX_BLOCK_BYTES /* of batches looked at in one step */
#define SEAL_STEP_BATCHES 256u

void archive_seal_drop(struct archive *archive, uint64_t id)
{
    struct archive_seal *seal = &archive->seal;
    if (seal->id == 0 || (id != 0 && seal->id != id)) {
        return;
    }
    /* The walk has gone past part of the segment: whoever seals it next walks it from its start. */
    log_walk_close(seal->walk);
    seal->walk = NULL;
    seal->has_batch = false;
    seal->is_after_gap = false;
    seal->id = 0;
}

void archive_seal_close(struct archive *archive)
{
    log_walk_close(archive->seal.walk);
    archive->seal.walk = NULL;
    if (archive->seal.builder != NULL) {
        index_builder_free(archive->seal.builder);
        digest_free(archive->seal.digest);
    }
}

/* A sector may be gone for good. Were it tried for ever, nothing behind it would ever be sealed, or expire
 * by its age. */
static void seal_note_unreadable(struct archive_seal *seal, int result)
{
    bool is_same = seal->unreadable_id == seal->id;
    seal->unreadable_id = seal->id;
    seal->unreadable_count = result != -EIO ? 0 : is_same ? seal->unreadable_count + 1 : 1;
    if (seal->unreadable_count == SEAL_UNREADABLE_TRIES) {
        LOG(LOGLINE_ERROR, "segment_unreadable",
            "segment %" PRIu64 " could not be read %u times: what cannot be read counts as lost",
            seal->id, SEAL_UNREADABLE_TRIES);
    }
}

static bool seal_failed(struct archive *archive, uint64_t now_ns, const struct err *err)
{
    char what[64];
    (void)snprintf(what, sizeof what, "seal segment %" PRIu64, archive->seal.id);
    archive->seal.retry_at_ns = archive_failed(archive, now_ns, what, err);
    archive_seal_drop(archive, 0);
    return true;
}

/* ---- walking ---- */

/* The oldest complete segment that is not sealed. */
static size_t seal_candidate(const struct archive *archive)
{
    uint64_t below = archive_complete_below(archive);
    for (size_t i = 0; i < archive->count && archive->segments[i].id < below; i++) {
        const struct view_segment *view = archive->segments[i].view;
        if (view != NULL && view->state == VIEW_ACTIVE) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* An LSN before everything in segment index: several segments may begin at the same LSN, when some
 * hold marks alone, and a walk begins at the last of them. */
static uint64_t lsn_before(const struct archive *archive, size_t index)
{
    for (size_t i = index + 1; i-- > 0;) {
        const struct view_segment *view = archive->segments[i].view;
        if (view != NULL && view->footer.first_lsn != 0) {
            return view->footer.first_lsn - 1;
        }
    }
    return 0;
}

/* A write that failed may have left whole batches in a segment that the log left: a walk opened
 * before the later segment began would not know that they were written again there. */
static int seal_walk_open(struct archive *archive, size_t index, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    /* relaxed: counted before the writer released W2, which active_seen has acquired. */
    bool is_stale = archive_stat(&archive->status->write_errors) != 0 &&
                    seal->active_at_open != archive->active_seen;
    bool is_given_up =
        seal->unreadable_id == seal->id && seal->unreadable_count >= SEAL_UNREADABLE_TRIES;
    if (seal->walk != NULL && !is_stale) {
        log_walk_read_around(seal->walk, is_given_up); /* each segment is tried for itself */
        return 0;
    }
    log_walk_close(seal->walk);
    seal->walk = NULL;
    seal->has_batch = false;
    seal->is_after_gap = false;
    seal->active_at_open = archive->active_seen;
    uint64_t from_lsn = lsn_before(archive, index);
    return is_given_up ? log_walk_open_around(&seal->walk, archive->io, from_lsn, err)
                       : log_walk_open(&seal->walk, archive->io, from_lsn, err);
}

static int seal_begin(struct archive *archive, size_t index, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    const struct archive_segment *segment = &archive->segments[index];
    if (seal->builder == NULL) {
        seal->builder = index_builder_new();
        seal->digest = digest_new();
        if (archive->options.keys == NULL) {
            index_builder_omit_filters(seal->builder);
        }
    }
    seal->id = segment->id;
    int r = seal_walk_open(archive, index, err);
    if (r < 0) {
        return r;
    }
    index_builder_reset(seal->builder);
    digest_reset(seal->digest);
    const struct segment_header *header = &segment->view->header;
    seal->footer = (struct segment_footer){.form = SEGMENT_FORM_RAW,
                                           .segment_id = segment->id,
                                           .salt = header->salt,
                                           .node = header->node,
                                           .index_offset = header->file_bytes};
    seal->end = STORE_BLOCK_BYTES;
    return 0;
}

static void seal_on_key(void *to, enum index_field field, struct slice value)
{
    index_builder_add_key(to, index_key(field, value));
}

/* The walk has checked that the records fill the payload, so this ends. */
static int seal_records(struct archive *archive, struct slice payload, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    const struct archive_options *options = &archive->options;
    for (size_t at = 0; at < payload.bytes;) {
        struct record record;
        struct slice rest = {payload.data + at, payload.bytes - at};
        int64_t bytes = record_decode(&record, rest, err);
        if (bytes < 0) {
            return (int)bytes;
        }
        at += (size_t)bytes;
        index_builder_add_record(seal->builder, &record);
        seal->footer.payload_bytes += record.payload.bytes;
        /* As in the index: a severity that has no bit is none that anybody can ask for. */
        seal->footer.severities |= record.severity < 32 ? (uint32_t)1 << record.severity : 0;
        if (options->keys != NULL) {
            options->keys(options->keys_context, &record, seal_on_key, seal->builder);
        }
    }
    return 0;
}

static void seal_count(struct segment_footer *footer, const struct batch_header *header)
{
    bool is_first = footer->first_seq == 0;
    if (is_first) {
        footer->first_seq = header->batch_seq;
        footer->first_lsn = header->first_lsn;
        footer->first_previous_crc = header->previous_crc;
        footer->built_min_ns = header->built_at_ns;
        footer->built_max_ns = header->built_at_ns;
    }
    if (header->record_count != 0) {
        bool is_time_first = footer->record_count == 0;
        footer->time_min_ns = is_time_first || header->time_min_ns < footer->time_min_ns
                                  ? header->time_min_ns
                                  : footer->time_min_ns;
        footer->time_max_ns = is_time_first || header->time_max_ns > footer->time_max_ns
                                  ? header->time_max_ns
                                  : footer->time_max_ns;
    }
    footer->built_min_ns =
        header->built_at_ns < footer->built_min_ns ? header->built_at_ns : footer->built_min_ns;
    footer->built_max_ns =
        header->built_at_ns > footer->built_max_ns ? header->built_at_ns : footer->built_max_ns;
    footer->last_seq = header->batch_seq;
    footer->last_lsn = header->first_lsn + header->record_count - 1;
    footer->last_crc = header->header_crc;
    footer->keyed_lsn = header->keyed_lsn;
    footer->origin_lsn = header->origin_lsn;
    footer->durable_lsn = u64_max(footer->durable_lsn, header->durable_lsn);
    footer->record_count += header->record_count;
    footer->raw_bytes += BATCH_HEADER_BYTES + header->payload_bytes;
    footer->kinds |= header->kinds;
}

static int seal_batch(struct archive *archive, const struct walk_batch *batch, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    const struct batch_header *header = &batch->header;
    if (seal->is_after_gap) {
        seal->footer.flags |= SEALED_DAMAGED;
        seal->is_after_gap = false;
    }
    if (batch->offset != seal->end) {
        index_builder_end_block(seal->builder, seal->end); /* a block is one piece of the file */
    }
    index_builder_add_batch(seal->builder, header, batch->offset);
    digest_add(seal->digest, batch->bytes);
    seal_count(&seal->footer, header);
    int r = seal_records(archive, batch->payload, err);
    seal->end = batch->offset + batch_file_bytes(header->payload_bytes);
    if (r == 0 && index_builder_is_full(seal->builder)) {
        index_builder_end_block(seal->builder, seal->end);
    }
    return r;
}

/* Fills seal->batch. 1; 0: the log ends here, for now; -errno. */
static int seal_next(struct archive *archive, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    while (!seal->has_batch) { /* a gap is followed by a batch or by the end */
        struct walk_gap gap;
        int event = log_walk_next(seal->walk, &seal->batch, &gap, err);
        if (event == WALK_GAP) {
            seal->is_after_gap = true;
            continue;
        }
        if (event != WALK_BATCH) {
            return event;
        }
        seal->has_batch = true;
    }
    return 1;
}

/* ---- writing ---- */

static int seal_write_parts(struct archive *archive, struct file file, struct slice blob,
                            struct err *err)
{
    struct file_io *io = archive->io;
    const struct segment_footer *footer = &archive->seal.footer;
    uint64_t footer_at = footer->index_offset + align_up(blob.bytes, STORE_BLOCK_BYTES);
    int r = io->ops->truncate(io, file, footer->index_offset);
    if (r == 0 && blob.bytes != 0) {
        r = io->ops->write(io, file, blob.data, blob.bytes, footer->index_offset, false);
    }
    r = r < 0 || blob.bytes == 0 ? r : io->ops->sync(io, file);
    if (r == 0) {
        segment_footer_encode(archive->block, footer);
        r = io->ops->write(io, file, archive->block, STORE_BLOCK_BYTES, footer_at, false);
    }
    r = r < 0 ? r : io->ops->sync(io, file);
    if (r < 0) {
        /* So that nothing that failed is ever trusted; the batches end before. */
        (void)io->ops->truncate(io, file, footer->index_offset);
        return err_set(err, r, "write index and footer: %s", err_name(r));
    }
    return 0;
}

static int seal_write(struct archive *archive, struct err *err)
{
    struct archive_seal *seal = &archive->seal;
    struct segment_footer *footer = &seal->footer;
    index_builder_end_block(seal->builder, seal->end);
    struct slice blob = index_builder_blob(seal->builder, &footer->entry_count);
    footer->index_bytes = blob.bytes;
    footer->index_crc = crc32c(0, blob.data, blob.bytes);
    digest_get(seal->digest, footer->content_digest);
    char name[SEGMENT_NAME_BYTES];
    struct file file;
    segment_name(name, seal->id);
    int r = archive->io->ops->open(archive->io, name, 0, &file);
    if (r < 0) {
        return err_set(err, r, "open %s: %s", name, err_name(r));
    }
    r = seal_write_parts(archive, file, blob, err);
    archive->io->ops->close(archive->io, file);
    return r;
}

/* Nothing of it belongs to the log: where the log stood before says what its neighbours need. */
static void seal_empty(struct archive *archive, const struct batch_header *next)
{
    struct segment_footer *footer = &archive->seal.footer;
    if (footer->first_seq != 0) {
        return;
    }
    footer->first_lsn = next->first_lsn;
    footer->last_lsn = next->first_lsn - 1;
    footer->first_previous_crc = next->previous_crc;
    footer->last_crc = next->previous_crc;
    footer->durable_lsn = u64_min(next->durable_lsn, footer->last_lsn);
}

/* A sealed segment is never looked at again batch by batch, so nothing may have been left out: it
 * goes on where the newest one before it ended, unless damage lies between. */
static int seal_check_order(const struct archive *archive, struct err *err)
{
    const struct archive_seal *seal = &archive->seal;
    const struct segment_footer *footer = &seal->footer;
    uint64_t seq = footer->first_seq != 0 ? footer->first_seq : seal->batch.header.batch_seq;
    for (size_t i = archive->count; i-- > 0;) {
        const struct archive_segment *before = &archive->segments[i];
        if (before->id >= seal->id) {
            continue;
        }
        bool is_known = before->view != NULL && before->view->state != VIEW_ACTIVE;
        if (!is_known || (footer->flags & SEALED_DAMAGED) != 0) {
            return 0;
        }
        const struct segment_footer *last = &before->view->footer;
        if (last->last_seq != 0) {
            return seq == last->last_seq + 1
                       ? 0
                       : err_set(err, -EAGAIN,
                                 "batch %" PRIu64 " follows %" PRIu64 " of segment %" PRIu64, seq,
                                 last->last_seq, before->id);
        }
    }
    return 0;
}

/* The batch at hand is of a later segment: this one is complete. */
static bool seal_finish(struct archive *archive, uint64_t now_ns)
{
    struct archive_seal *seal = &archive->seal;
    struct err err = {0};
    seal->footer.flags |= seal->is_after_gap ? (uint32_t)SEALED_DAMAGED : 0u;
    seal_empty(archive, &seal->batch.header);
    int r = seal_check_order(archive, &err);
    r = r < 0 ? r : seal_write(archive, &err);
    struct view_segment *view = NULL;
    r = r < 0 ? r : view_segment_open(&view, archive->io, seal->id, VIEW_SEALED, &err);
    if (r < 0) {
        return seal_failed(archive, now_ns, &err);
    }
    struct archive_segment *segment = archive_find(archive, seal->id);
    ASSERT(segment != NULL);
    archive_replace(archive, segment, view);
    archive_stat_add(&archive->status->sealed, 1);
    if (segment->is_kept_raw) {
        archive_stat_add(&archive->status->damaged_segments, 1);
        LOG(LOGLINE_ERROR, "segment_damaged",
            "segment %" PRIu64 " is damaged; it is kept as it is until it expires", seal->id);
    }
    seal->id = 0;
    return true;
}

bool archive_seal_step(struct archive *archive, uint64_t now_ns)
{
    struct archive_seal *seal = &archive->seal;
    struct err err = {0};
    if (seal->id == 0) {
        bool must_wait =
            now_ns < seal->retry_at_ns || seal->ended_at_active == archive->active_seen;
        size_t index = must_wait ? SIZE_MAX : seal_candidate(archive);
        if (index == SIZE_MAX) {
            return false;
        }
        int r = seal_begin(archive, index, &err);
        if (r < 0) {
            seal_note_unreadable(seal, r);
        }
        return r < 0 ? seal_failed(archive, now_ns, &err) : true;
    }
    uint64_t bytes = 0;
    for (unsigned i = 0; i < SEAL_STEP_BATCHES && bytes < SEAL_STEP_BYTES; i++) {
        int r = seal_next(archive, &err);
        if (r == 0) {
            /* After a start whose last segments hold nothing of the log: it goes on in the next. */
            seal->ended_at_active = archive->active_seen;
            archive_seal_drop(archive, 0);
            return true;
        }
        if (r < 0) {
            seal_note_unreadable(seal, r);
            return seal_failed(archive, now_ns, &err);
        }
        const struct batch_header *header = &seal->batch.header;
        if (header->segment_id > seal->id) {
            return seal_finish(archive, now_ns);
        }
        if (header->segment_id == seal->id && seal_batch(archive, &seal->batch, &err) < 0) {
            return seal_failed(archive, now_ns, &err);
        }
        seal->is_after_gap = false; /* used, or a matter of the segments before */
        seal->has_batch = false;
        bytes += batch_file_bytes(header->payload_bytes);
    }
    archive_pay(archive, now_ns, bytes / ARCHIVE_SEAL_SHARE);
    return true;
}
