/*
 * verify: every byte of the log that means something, looked at once. log_walk finds what does not
 * belong together; here are the checks beyond it, of what a reader can live with but a correct
 * writer never writes. Reads only, works beside a server.
 */
#include "store/reader.h"

#include <inttypes.h>
#include <stdio.h>

#include "store/log_walk.h"

#define LINE_BYTES 512

struct verify {
    struct verify_report *report;
    void (*on_fault)(void *context, const char *line);
    void *context;
    uint64_t keyed_lsn;
    uint64_t durable_lsn;
};

static void verify_fault(struct verify *verify, const struct walk_batch *batch, const char *what)
{
    char line[LINE_BYTES];
    verify->report->faults++;
    (void)snprintf(line, sizeof line, "%s at %" PRIu64 ": LSN %" PRIu64 ": %s", batch->name,
                   batch->offset, batch->header.first_lsn, what);
    if (verify->on_fault != NULL) {
        verify->on_fault(verify->context, line);
    }
}

static void verify_gap(struct verify *verify, const struct walk_gap *gap)
{
    char line[LINE_BYTES];
    verify->report->faults++;
    if (gap->last_lsn >= gap->first_lsn) {
        (void)snprintf(line, sizeof line,
                       "%s at %" PRIu64 ": LSN %" PRIu64 " to %" PRIu64 " lost: %s", gap->name,
                       gap->offset, gap->first_lsn, gap->last_lsn, gap->text);
    } else {
        (void)snprintf(line, sizeof line, "%s at %" PRIu64 ": LSN %" PRIu64 ": %s", gap->name,
                       gap->offset, gap->first_lsn, gap->text);
    }
    if (verify->on_fault != NULL) {
        verify->on_fault(verify->context, line);
    }
}

/* What the records of a batch say themselves, against what its header says of them. */
struct tally {
    int64_t time_min_ns;
    int64_t time_max_ns;
    uint64_t keyed_lsn; /* of the last record with a key; 0: none */
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
        int64_t bytes = record_decode(
            &record, (struct slice){batch->payload.data + at, batch->payload.bytes - at}, NULL);
        ASSERT(bytes > 0); /* the walk has decoded it once */
        int has_receipt = meta_find_receipt(&receipt, record.meta);
        int has_key = meta_find_dedup_key(&key, record.meta);
        tally.has_bad_meta = tally.has_bad_meta || has_receipt < 0 || has_key < 0;
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
    if (header->durable_lsn < verify->durable_lsn) {
        verify_fault(verify, batch, "durable_lsn goes back");
    }
    verify_records(verify, batch);
    verify->keyed_lsn = u64_max(verify->keyed_lsn, header->keyed_lsn);
    verify->durable_lsn = u64_max(verify->durable_lsn, header->durable_lsn);
}

int log_verify(struct file_io *io, struct verify_report *report,
               void (*on_fault)(void *context, const char *line), void *context, struct err *err)
{
    struct log_walk *walk = NULL;
    *report = (struct verify_report){0};
    int result = log_walk_open(&walk, io, 0, err);
    if (result < 0) {
        return err_wrap(err, result, "verify log");
    }
    struct verify verify = {.report = report, .on_fault = on_fault, .context = context};
    /* Each event but the last consumes a part of a finite log. */
    do {
        struct walk_batch batch;
        struct walk_gap gap;
        result = log_walk_next(walk, &batch, &gap, err);
        if (result == WALK_BATCH) {
            verify_batch(&verify, &batch);
        } else if (result == WALK_GAP) {
            verify_gap(&verify, &gap);
        }
    } while (result > WALK_END);
    report->segments = log_walk_segments(walk);
    report->bytes = log_walk_bytes(walk);
    report->torn_batches = log_walk_torn_batches(walk);
    log_walk_close(walk);
    return result < 0 ? err_wrap(err, result, "verify log") : 0;
}
