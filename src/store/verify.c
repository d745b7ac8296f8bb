/*
 * verify: every byte of the log that means something, looked at once. log_walk finds what does not
 * belong together; here are the checks beyond it, of what a reader can live with but a correct
 * writer never writes; verify_sealed.c compares footers and indexes. Reads only, works beside a
 * server.
 */
#include "store/reader.h"

#include <inttypes.h>
#include <stdio.h>

#include "store/log_walk.h"
#include "store/verify_sealed.h"

#define LINE_BYTES 512
#define PROGRESS_BYTES                                                                             \
    MIB(4) /* a call per so many: often enough for a bar, rare enough to cost nothing */

struct verify {
    const struct verify_options *options;
    struct verify_report *report;
    struct sealed_check *sealed;
    uint64_t keyed_lsn;
    uint64_t origin_lsn;
    uint64_t durable_lsn;
    bool has_missed;     /* a gap was told since the batch before */
    uint64_t seq_next;   /* what the next batch must have unless something was lost; 0: the first */
    uint64_t segment_id; /* of the batch before; 0: none */
    enum segment_form form;
    uint64_t progress_at; /* bytes walked when the next call is due */
};

static void verify_line(struct verify *verify, const char *line)
{
    verify->report->faults++;
    if (verify->options->on_fault != NULL) {
        verify->options->on_fault(verify->options->context, line);
    }
}

static void verify_on_fault(void *context, const char *name, uint64_t offset, uint64_t lsn,
                            const char *what)
{
    char line[LINE_BYTES];
    (void)snprintf(line, sizeof line, "%s at %" PRIu64 ": LSN %" PRIu64 ": %s", name, offset, lsn,
                   what);
    verify_line(context, line);
}

static void verify_fault(struct verify *verify, const struct walk_batch *batch, const char *what)
{
    verify_on_fault(verify, batch->name, batch->offset, batch->header.first_lsn, what);
}

static void verify_gap(struct verify *verify, const struct walk_gap *gap)
{
    char line[LINE_BYTES];
    sealed_check_miss(verify->sealed);
    verify->has_missed = true;
    if (gap->last_lsn >= gap->first_lsn) {
        (void)snprintf(line, sizeof line,
                       "%s at %" PRIu64 ": LSN %" PRIu64 " to %" PRIu64 " lost: %s", gap->name,
                       gap->offset, gap->first_lsn, gap->last_lsn, gap->text);
    } else {
        (void)snprintf(line, sizeof line, "%s at %" PRIu64 ": LSN %" PRIu64 ": %s", gap->name,
                       gap->offset, gap->first_lsn, gap->text);
    }
    verify_line(verify, line);
}

/* ---- segments ---- */

/* A footer where the file says there is one, and it is none: sealing is done again at the next
 * start, but no crash leaves that. */
static void verify_lost_footer(struct verify *verify, const struct walk_file *file,
                               const struct walk_batch *batch)
{
    if (!file->has_footer && file->has_footer_magic) {
        verify_on_fault(verify, file->name, file->file_bytes - STORE_BLOCK_BYTES,
                        batch->header.first_lsn, file->footer_problem);
    }
}

/* The file of the batch is another than that of the batch before. One that took its other form, or
 * lost its beginning to expiry, while we stood in it is not seen whole. */
static int verify_segment(struct verify *verify, const struct walk_file *file,
                          const struct walk_batch *batch, struct err *err)
{
    bool is_same_id = verify->segment_id == file->header.segment_id;
    bool is_next = verify->seq_next == batch->header.batch_seq;
    bool is_changed = is_same_id && verify->form != file->form;
    if (is_changed || (verify->seq_next != 0 && !is_next)) {
        sealed_check_miss(verify->sealed);
    }
    sealed_check_end(verify->sealed);
    verify->segment_id = file->header.segment_id;
    verify->form = file->form;
    verify_lost_footer(verify, file, batch);
    if (!file->has_footer) {
        return 0;
    }
    verify->report->sealed += file->form == SEGMENT_FORM_RAW;
    verify->report->compacted += file->form == SEGMENT_FORM_COMPACTED;
    bool is_first_lost = verify->has_missed && batch->header.batch_seq != file->footer.first_seq;
    return sealed_check_begin(verify->sealed, file, is_same_id || is_first_lost, err);
}

static int verify_sealed(struct verify *verify, const struct walk_file *file,
                         const struct walk_batch *batch, struct err *err)
{
    int result = 0;
    bool is_same = verify->segment_id == file->header.segment_id && verify->form == file->form;
    if (!is_same) {
        result = verify_segment(verify, file, batch, err);
    }
    if (result == 0 && sealed_check_is_of(verify->sealed, file)) {
        sealed_check_batch(verify->sealed, batch);
    }
    verify->seq_next = batch->header.batch_seq + 1;
    verify->has_missed = false;
    return result;
}

/* ---- batches ---- */

/* What the records of a batch say themselves, against what its header says of them. */
struct tally {
    int64_t time_min_ns;
    int64_t time_max_ns;
    uint64_t keyed_lsn;  /* of the last record with a key; 0: none */
    uint64_t origin_lsn; /* of the last record of another node; 0: none */
    bool has_bad_meta;
};

static struct tally tally_take(const struct walk_batch *batch)
{
    struct tally tally = {.time_min_ns = INT64_MAX, .time_max_ns = INT64_MIN};
    uint64_t lsn = batch->header.first_lsn;
    size_t at = 0;
    while (at < batch->payload.bytes) {
        struct record record;
        struct receipt receipt;
        struct slice key;
        struct origin origin;
        struct first_origin first;
        int64_t bytes = record_decode(
            &record, (struct slice){batch->payload.data + at, batch->payload.bytes - at}, NULL);
        ASSERT(bytes > 0); /* the walk has decoded it once */
        int has_receipt = meta_find_receipt(&receipt, record.meta);
        int has_key = meta_find_dedup_key(&key, record.meta);
        int has_origin = meta_find_origin(&origin, record.meta);
        int has_first = meta_find_first(&first, record.meta);
        tally.has_bad_meta =
            tally.has_bad_meta || has_receipt < 0 || has_key < 0 || has_origin < 0 || has_first < 0;
        tally.origin_lsn = has_origin > 0 ? lsn : tally.origin_lsn;
        tally.keyed_lsn = has_receipt > 0 || has_key > 0 ? lsn : tally.keyed_lsn;
        tally.time_min_ns =
            record.event_time_ns < tally.time_min_ns ? record.event_time_ns : tally.time_min_ns;
        tally.time_max_ns =
            record.event_time_ns > tally.time_max_ns ? record.event_time_ns : tally.time_max_ns;
        at += (size_t)bytes;
        lsn++;
    }
    return tally;
}

static void verify_records(struct verify *verify, const struct walk_batch *batch)
{
    const struct batch_header *header = &batch->header;
    const struct tally tally = tally_take(batch);
    if (tally.has_bad_meta) {
        verify_fault(verify, batch, "a record's meta is malformed");
    }
    /* The header's range may be wider: a record dropped as a duplicate leaves its time behind. */
    if (tally.time_min_ns < header->time_min_ns || tally.time_max_ns > header->time_max_ns) {
        verify_fault(verify, batch, "an event time lies outside the range in the header");
    }
    if (tally.keyed_lsn != 0 && (header->flags & BATCH_KEYED) == 0) {
        verify_fault(verify, batch, "a record carries a key, the header does not say so");
    }
    if (tally.keyed_lsn > header->keyed_lsn) {
        verify_fault(verify, batch, "keyed_lsn is older than a record with a key");
    }
    if ((tally.origin_lsn != 0) != ((header->flags & BATCH_ORIGIN) != 0) ||
        tally.origin_lsn > header->origin_lsn) {
        verify_fault(verify, batch,
                     "BATCH_ORIGIN or origin_lsn is not what the records' origins say");
    }
}

static bool slice_is_zero(struct slice slice)
{
    uint8_t any = 0;
    for (size_t i = 0; i < slice.bytes; i++) {
        any = (uint8_t)(any | slice.data[i]);
    }
    return any == 0;
}

static void verify_batch(struct verify *verify, const struct walk_batch *batch)
{
    const struct batch_header *header = &batch->header;
    struct verify_report *report = verify->report;
    bool is_mark = header->record_count == 0;
    report->batches += !is_mark;
    report->marks += is_mark;
    report->records += header->record_count;
    if (!is_mark) {
        report->first_lsn = report->first_lsn == 0 ? header->first_lsn : report->first_lsn;
        report->last_lsn = header->first_lsn + header->record_count - 1;
    }
    report->dirty_paddings += !slice_is_zero(batch->padding);
    if (header->keyed_lsn < verify->keyed_lsn ||
        header->keyed_lsn >= header->first_lsn + header->record_count) {
        verify_fault(verify, batch, "keyed_lsn goes back or ahead");
    }
    if (header->origin_lsn < verify->origin_lsn ||
        header->origin_lsn >= header->first_lsn + header->record_count) {
        verify_fault(verify, batch, "origin_lsn goes back or ahead");
    }
    if (header->durable_lsn < verify->durable_lsn) {
        verify_fault(verify, batch, "durable_lsn goes back");
    }
    verify_records(verify, batch);
    verify->keyed_lsn = u64_max(verify->keyed_lsn, header->keyed_lsn);
    verify->origin_lsn = u64_max(verify->origin_lsn, header->origin_lsn);
    verify->durable_lsn = u64_max(verify->durable_lsn, header->durable_lsn);
}

static void verify_progress(struct verify *verify, const struct log_walk *walk)
{
    const struct verify_options *options = verify->options;
    if (options->on_progress == NULL || log_walk_bytes(walk) < verify->progress_at) {
        return;
    }
    uint64_t done = 0;
    uint64_t all = 0;
    verify->progress_at = log_walk_bytes(walk) + PROGRESS_BYTES;
    log_walk_progress(walk, &done, &all);
    options->on_progress(options->context, done, all);
}

static int verify_walk(struct verify *verify, struct log_walk *walk, struct err *err)
{
    int result = 0;
    /* Each event but the last consumes a part of a finite log. */
    do {
        struct walk_batch batch;
        struct walk_gap gap;
        result = log_walk_next(walk, &batch, &gap, err);
        if (result == WALK_BATCH) {
            verify_batch(verify, &batch);
            int sealed = verify_sealed(verify, log_walk_file(walk), &batch, err);
            result = sealed < 0 ? sealed : result;
            verify_progress(verify, walk);
        } else if (result == WALK_GAP) {
            verify_gap(verify, &gap);
        }
    } while (result > WALK_END);
    if (result == WALK_END) {
        sealed_check_end(verify->sealed);
    }
    return result;
}

int log_verify_deep(struct file_io *io, struct verify_report *report,
                    const struct verify_options *options, struct err *err)
{
    struct log_walk *walk = NULL;
    *report = (struct verify_report){0};
    int result = log_walk_open_around(&walk, io, 0, err);
    if (result < 0) {
        return err_wrap(err, result, "verify log");
    }
    struct verify verify = {.options = options, .report = report};
    struct sealed_check_options sealed = {.on_fault = verify_on_fault,
                                          .context = &verify,
                                          .keys = options->keys,
                                          .keys_context = options->keys_context};
    verify.sealed = sealed_check_new(&sealed);
    result = verify_walk(&verify, walk, err);
    report->segments = log_walk_segments(walk);
    report->bytes = log_walk_bytes(walk);
    report->torn_batches = log_walk_torn_batches(walk);
    sealed_check_free(verify.sealed);
    log_walk_close(walk);
    return result < 0 ? err_wrap(err, result, "verify log") : 0;
}

int log_verify(struct file_io *io, struct verify_report *report,
               void (*on_fault)(void *context, const char *line), void *context, struct err *err)
{
    struct verify_options options = {.on_fault = on_fault, .context = context};
    return log_verify_deep(io, report, &options, err);
}
