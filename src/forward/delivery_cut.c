/*
 * delivery_cut: a sink whose place, or batches, name LSNs that have become other records' (store/lineage.h): everything from the cut on
 * is taken back, so that what has these LSNs now is delivered, in its own stream. What lies before stays as it is: batches that were
 * frozen, the rest of a backlog. What is in quarantine stays, too: it has its bytes and its stream.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/logline.h"
#include "forward/delivery_parts.h"
#include "forward/streams.h"

/* ---- batches ---- */

/* Its offsets below the cut; returns how many records it has left at most. */
static uint32_t narrow(struct batch *batch, uint64_t cut)
{
    struct frozen *frozen = &batch->frozen;
    uint64_t lsns = cut - frozen->first_lsn;
    uint32_t count = delivery_rows_only_count(frozen);
    uint32_t kept = 0;
    if (count == 0) {
        return (uint32_t)u64_min(frozen->records, lsns);
    }
    while (kept < count && delivery_rows_only(frozen, kept) < lsns) {
        kept++;
    }
    frozen->only.bytes = kept * sizeof(uint32_t); /* sorted: what goes is the end */
    return kept;
}

/* Bytes of records that are gone cannot be sent again: what is left of it is frozen anew. */
static void cut_batch(struct batch *batch, uint64_t cut)
{
    struct delivery *delivery = batch->delivery;
    uint32_t left = batch->frozen.first_lsn >= cut ? 0 : narrow(batch, cut);
    if (left == 0) {
        delivery_read_target_drop(batch);
        delivery_rows_gone(batch);
        return;
    }
    batch->frozen.last_lsn = cut - 1;
    batch->frozen.records = left;
    delivery->picture.refrozen++;
    delivery_load_unfreeze(batch);
}

/* A file that ends elsewhere now is sent whole when it is final; the place goes back to where it begins. */
static void cut_segment(struct batch *batch)
{
    uint64_t *next = &batch->delivery->position.live_next;
    *next = u64_min(*next, batch->frozen.first_lsn);
    delivery_rows_gone(batch);
}

/* The latest first: places in a file are given back in that order (delivery_load.c). Returns how many there were. */
static unsigned cut_batches(struct delivery *delivery, uint64_t cut)
{
    unsigned count = 0;
    for (size_t i = delivery->batch_count; i > 0; i--) {
        struct batch *batch = delivery->batches[i - 1];
        if (batch->frozen.quarantine_id == 0 && batch->frozen.last_lsn >= cut) {
            if (delivery->protocol->takes_segments) {
                cut_segment(batch);
            } else {
                cut_batch(batch, cut);
            }
            count++;
        }
    }
    return count;
}

/* ---- the ledger ---- */

/* What is not delivered yet but read, or in quarantine. */
static uint64_t held_records(const struct delivery *delivery)
{
    const struct sink_position *position = &delivery->position;
    uint64_t held = position->quarantined + (position->backlog_end - position->backlog_next);
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct batch *batch = delivery->batches[i];
        bool counts = batch->frozen.quarantine_id == 0 && batch->state != BATCH_GONE;
        held += counts ? batch->frozen.records : 0;
    }
    return held;
}

/* LSNs behind the cut are nobody's account any more. Which column each was in is not known: delivered is the likeliest. */
static void settle_ledger(struct delivery *delivery)
{
    struct sink_position *position = &delivery->position;
    uint64_t *const columns[] = {&position->delivered, &position->filtered, &position->expired,
                                 &position->damaged, &position->dropped};
    position->start_lsn = u64_min(position->start_lsn, position->live_next);
    uint64_t passed = position->live_next - position->start_lsn;
    uint64_t counted = held_records(delivery);
    for (size_t i = 0; i < ARRAY_COUNT(columns); i++) {
        counted += *columns[i];
    }
    position->delivered += passed - u64_min(passed, counted); /* a place that did not balance */
    uint64_t over = counted - u64_min(passed, counted);
    for (size_t i = 0; i < ARRAY_COUNT(columns); i++) {
        uint64_t less = u64_min(*columns[i], over);
        *columns[i] -= less;
        over -= less;
    }
    /* More is held, in quarantine, than there are LSNs: it counts from so many before the first (modulo 2^64, as the ledger does). */
    position->start_lsn -= over;
}

/* ---- the place ---- */

static void cut_position(struct delivery *delivery, uint64_t cut)
{
    struct sink_position *position = &delivery->position;
    uint64_t stood = position->live_next;
    unsigned batches = cut_batches(delivery, cut);
    bool is_behind = stood > cut || position->backlog_end > cut;
    position->live_next = u64_min(position->live_next, cut);
    position->backlog_end = u64_min(position->backlog_end, cut);
    position->backlog_next = u64_min(position->backlog_next, position->backlog_end);
    if (!is_behind && batches == 0) {
        return;
    }
    settle_ledger(delivery);
    delivery->is_position_dirty = true;
    LOG(LOGLINE_INFO, "forward_cut",
        "sink %s stood at LSN %" PRIu64 "; from LSN %" PRIu64
        " on there are other records now: it goes on there (%u batches were taken back)",
        delivery->sink->name, stood, cut, batches);
}

struct ulid delivery_stream(const struct delivery *delivery, uint64_t lsn)
{
    const struct lineage *lineage = delivery->options.lineage;
    return lineage == NULL ? delivery->options.node : lineage_stream(lineage, lsn);
}

uint64_t delivery_border(const struct delivery *delivery, uint64_t lsn)
{
    const struct lineage *lineage = delivery->options.lineage;
    return lineage == NULL ? UINT64_MAX : lineage_border(lineage, lsn);
}

static bool is_other(const struct ulid *a, const struct ulid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) != 0;
}

int delivery_cut(struct delivery *delivery, bool is_new, struct err *err)
{
    const struct lineage *lineage = delivery->options.lineage;
    struct ulid stood = delivery->options.node;
    int r = streams_sink_get(delivery->options.db, delivery->sink->name, &stood, err);
    if (r < 0) {
        return r;
    }
    /* A lineage that was added to, or a log that has lost its end where nobody keeps a lineage. */
    uint64_t cut = is_new || lineage == NULL ? UINT64_MAX : lineage_cut(lineage, &stood);
    uint64_t end = delivery_durable(delivery) + 1;
    if (lineage != NULL && !is_new && u64_min(delivery->position.live_next, cut) > end) {
        /* Its database could not be read when witnesses were asked (somebody held it). Going on here would give LSNs that the upstream
         * has seen to other records, in the same stream; nothing has been changed, so the next start is told. */
        return err_set(err, -EBUSY,
                       "sink %s has passed LSN %" PRIu64 ", the log ends with %" PRIu64
                       ", and " LINEAGE_FILE " does not know: start again",
                       delivery->sink->name, delivery->position.live_next - 1, end - 1);
    }
    cut = u64_min(cut, end);
    if (delivery->options.is_replay && cut <= delivery->end_lsn_max) {
        return err_set(err, ERR_LIMIT,
                       "from LSN %" PRIu64
                       " on the log has other records than when this job was made: cancel the job",
                       cut);
    }
    cut_position(delivery, cut);
    struct ulid current = lineage == NULL ? stood : lineage_current(lineage);
    delivery->must_write_stream = is_other(&stood, &current);
    delivery->is_position_dirty |= delivery->must_write_stream;
    return 0;
}
