/*
 * writer: one pass of everything that the log's owner does; see writer.h. Only this thread touches
 * the journal, the processed set and the consumer's side of the submit rings. Nothing here blocks
 * but file_io's wait, and nothing allocates.
 */
#include "store/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/logline.h"
#include "core/mem.h"
#include "store/keyed.h"
#include "store/origin_drain.h"

#define RETRY_SLEEP_NS                                                                             \
    (10 * NS_MS) /* waiting for a segment: the keeper wakes us; this is only the net below */
#define STUCK_SLEEP_NS                                                                             \
    NS_MS /* waiting for a shard to read its acks: it does not wake us for that */
#define RATE_WINDOW_NS (100 * NS_MS)
#define ACK_BYTES      (SPSC_FRAME_ALIGN + 16u) /* a frame of ack_durable or ack_failed */
#define ROUNDS_MAX                                                                                 \
    1024u /* of the round-robin; each but the last moves at least one frame, the batch's size ends \
             it sooner */

_Static_assert(sizeof(struct ack_durable) == 16, "ACK_BYTES counts on it");
_Static_assert(sizeof(struct ack_failed) == 16, "ACK_BYTES counts on it");
_Static_assert(WRITER_BULK_BYTES == COMMIT_BULK_BYTES, "a wake-up for bulk must be worth a write");

/* relaxed, both: the writer is the only thread that writes these; a reader may be late by one pass.
 */
static void stat_set(_Atomic uint64_t *to, uint64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

static void stat_add(_Atomic uint64_t *to, uint64_t n)
{
    stat_set(to, atomic_load_explicit(to, memory_order_relaxed) + n);
}

static uint64_t ack_frame_bytes(uint64_t payload_bytes)
{
    return SPSC_FRAME_ALIGN + align_up(payload_bytes, SPSC_FRAME_ALIGN);
}

int writer_init(struct writer *writer, const struct writer_options *options, struct err *err)
{
    ASSERT(options->shard_count > 0);
    ASSERT(options->shard_count <= STORE_SHARDS_MAX);
    *writer = (struct writer){.io = options->io,
                              .status = options->status,
                              .keeper = options->keeper,
                              .dedup = options->dedup,
                              .origins = options->origins,
                              .park = options->park,
                              .readers = options->readers,
                              .segment_bytes = options->segment_bytes,
                              .retention_bytes = options->retention_bytes,
                              .segment_age_ns = options->segment_age_ns,
                              .shard_count = options->shard_count,
                              .next_lsn = options->start.lsn + 1,
                              .keyed_lsn = options->start.keyed_lsn,
                              .origin_lsn = options->start.origin_lsn,
                              .needs_mark = options->start.lsn > 0};
    uint64_t payload_max =
        segment_payload_max(options->segment_bytes) & ~(uint64_t)(RECORD_ALIGN - 1);
    writer->batch_bytes = u64_min(options->batch_bytes, payload_max);
    for (unsigned i = 0; i < options->shard_count; i++) {
        writer->shards[i].port = &options->ports[i];
    }
    commit_policy_init(&writer->policy, options->commit_pause_ns);
    stat_set(&writer->status->next_lsn, writer->next_lsn);
    stat_set(&writer->status->durable_lsn, options->start.lsn);
    stat_set(&writer->status->run_lsn, options->start.lsn);
    payload_max = u64_min(payload_max, u64_max(options->ring_bytes, writer->batch_bytes));
    /* First of what may fail: from here on the journal owns the active segment's file, and
     * writer_close finds it. */
    int r =
        journal_init(&writer->journal, options->io, options->keeper, options->status,
                     &options->start, payload_max, writer->batch_bytes + BATCH_HEADER_BYTES, err);
    if (r < 0) {
        return r;
    }
    writer->journal.archive_park = options->archive_park;
    writer->scratch = mem_map(KEYED_SCRATCH_BYTES);
    return writer->scratch == NULL ? err_set(err, -ENOMEM, "open the writer: map its scratch") : 0;
}

void writer_close(struct writer *writer)
{
    journal_close(&writer->journal);
    if (writer->scratch != NULL) {
        mem_unmap(writer->scratch, KEYED_SCRATCH_BYTES);
    }
}

void writer_stop(struct writer *writer)
{
    /* R22: every frame published before is drained before the writer finishes; pairs with A22 in
     * is_stopping. */
    atomic_store_explicit(&writer->stop, true, memory_order_release);
    (void)park_wake(writer->park, true);
}

void writer_stop_unheard(struct writer *writer)
{
    /* relaxed: orders nothing, only ends waiting for room; the writer sees it within a sleep. */
    atomic_store_explicit(&writer->is_unheard, true, memory_order_relaxed);
    writer_stop(writer);
}

static bool is_unheard(const struct writer *writer)
{
    /* relaxed: as in writer_stop_unheard. */
    return atomic_load_explicit(&writer->is_unheard, memory_order_relaxed);
}

static bool is_stopping(const struct writer *writer)
{
    /* A22: pairs with R22 in writer_stop. */
    return atomic_load_explicit(&writer->stop, memory_order_acquire);
}

/* ---- telling the shards
 * ------------------------------------------------------------------------------------------------------------
 */

static bool send_ack(const struct writer *writer, struct writer_shard *shard, enum ack_type type,
                     const void *ack, uint64_t bytes)
{
    uint8_t *to = spsc_claim(&shard->port->acks, bytes);
    if (to == NULL) {
        return is_unheard(writer); /* else told on in a later pass */
    }
    memcpy(to, ack, bytes);
    (void)spsc_commit(&shard->port->acks, type, bytes);
    shard->is_touched = true;
    return true;
}

static void pay(struct writer_shard *shard, uint64_t bytes)
{
    ASSERT(shard->owed_bytes >= bytes);
    shard->owed_bytes -= bytes;
}

static bool tell_outcomes(struct writer *writer, struct batch *batch)
{
    while (batch->outcomes_published < batch->outcome_bytes) { /* bounded by BATCH_OUTCOME_BYTES */
        struct batch_outcome head;
        const uint8_t *from = batch->outcome_memory + batch->outcomes_published;
        memcpy(&head, from, sizeof head);
        struct writer_shard *shard = &writer->shards[head.shard];
        /* A request that failed has no outcome. */
        if (batch->state == BATCH_WRITTEN &&
            !send_ack(writer, shard, ACK_OUTCOME, from + sizeof head, head.bytes)) {
            return false;
        }
        pay(shard, ack_frame_bytes(head.bytes));
        batch->outcomes_published += sizeof head + align_up(head.bytes, 16);
    }
    return true;
}

static bool tell_runs(struct writer *writer, struct batch *batch)
{
    for (; batch->runs_published < batch->run_count; batch->runs_published++) {
        const struct batch_run *run = &batch->runs[batch->runs_published];
        struct writer_shard *shard = &writer->shards[run->shard];
        struct ack_durable durable = {.end = run->end, .first_lsn = run->first_lsn};
        struct ack_failed failed = {.end = run->end, .cause = batch->cause};
        bool is_durable = batch->state == BATCH_WRITTEN;
        bool is_sent = is_durable ? send_ack(writer, shard, ACK_DURABLE, &durable, sizeof durable)
                                  : send_ack(writer, shard, ACK_FAILED, &failed, sizeof failed);
        if (!is_sent) {
            return false;
        }
        pay(shard, ACK_BYTES);
    }
    return true;
}

static void count_durable(struct writer *writer, const struct batch *batch, uint64_t now_ns)
{
    struct store_status *status = writer->status;
    if (batch->state != BATCH_WRITTEN || !batch_is_stored(batch)) {
        return;
    }
    stat_add(&status->written_bytes, batch->write.bytes);
    if ((batch->header.flags & BATCH_MARK) != 0) {
        stat_add(&status->marks, 1);
        return;
    }
    stat_add(&status->records, batch->header.record_count);
    stat_add(&status->batches, 1);
    stat_add(&status->payload_bytes, batch->payload_bytes);
    hist_add(&status->batch_records, batch->header.record_count);
    writer->rate_window_bytes += batch->payload_bytes;
    writer->last_data_at_ns = now_ns;
    writer->needs_mark = true;
}

/* What readers that keep up will ask for next; marks hold nothing for them. */
static void keep_recent(const struct writer *writer, const struct batch *batch)
{
    if (batch->state != BATCH_WRITTEN || batch->header.record_count == 0) {
        return;
    }
    struct slice payload = {batch->memory + BATCH_HEADER_BYTES, batch->payload_bytes};
    recent_put(writer->readers->recent, batch->header.first_lsn, batch->header.record_count,
               batch->memory, payload);
}

static void wake_shards(struct writer *writer)
{
    for (unsigned i = 0; i < writer->shard_count; i++) {
        struct writer_shard *shard = &writer->shards[i];
        if (shard->is_touched && shard->port->shard_park != NULL) {
            (void)park_wake(shard->port->shard_park, true);
        }
        shard->is_touched = false;
    }
}

static void publish_acks(struct writer *writer)
{
    for (unsigned i = 0; i < writer->shard_count; i++) {
        if (writer->shards[i].is_touched) {
            (void)spsc_publish(&writer->shards[i].port->acks);
        }
    }
}

/* Everything that became durable (or was given up) in order. A shard that does not read its acks
 * holds the others' batches behind its own, which is right: order is what they wait for; its acks
 * ring was found to have room before its requests were taken. */
static void writer_publish(struct writer *writer, uint64_t now_ns)
{
    bool is_any = false;
    uint64_t durable_before =
        atomic_load_explicit(&writer->status->durable_lsn, memory_order_relaxed); /* relaxed: own */
    uint64_t durable_lsn = durable_before;
    for (struct batch *batch = journal_oldest(&writer->journal); batch != NULL;
         batch = journal_oldest(&writer->journal)) {
        is_any = true;
        writer->is_stuck = !tell_outcomes(writer, batch) || !tell_runs(writer, batch);
        if (writer->is_stuck) {
            break;
        }
        count_durable(writer, batch, now_ns);
        keep_recent(writer, batch);
        if (batch->state == BATCH_WRITTEN) {
            durable_lsn = u64_max(durable_lsn, batch_next_lsn(batch) - 1);
            if ((batch->header.kinds & (UINT32_C(1) << RECORD_RUN)) != 0) {
                stat_set(&writer->status->run_lsn, durable_lsn);
            }
        }
        journal_retire(&writer->journal);
    }
    if (!is_any) {
        return;
    }
    publish_acks(writer);
    origins_settle(writer->origins, durable_lsn);
    /* W1: who sees this LSN sees the acks and, on disk and in recent, the records up to it; pairs
     * with the readers' acquire loads. */
    atomic_store_explicit(&writer->status->durable_lsn, durable_lsn, memory_order_release);
    wake_shards(writer);
    if (durable_lsn != durable_before) {
        store_readers_tell(writer->readers, STORE_TELL_DURABLE);
    }
}

/* ---- draining the rings
 * -------------------------------------------------------------------------------------------------------------
 */

/* Half of the ring is kept back, so that what one batch owes always fits beside what is unread. */
static bool has_ack_room(const struct writer *writer, struct writer_shard *shard, uint64_t bytes)
{
    struct spsc *acks = &shard->port->acks;
    return is_unheard(writer) ||
           spsc_used_bytes(acks) + shard->owed_bytes + bytes <= acks->capacity / 2;
}

static bool opens_run(const struct batch *batch, unsigned index)
{
    return batch->run_count == 0 || batch->runs[batch->run_count - 1].shard != index;
}

static bool fits(struct writer *writer, const struct batch *batch, unsigned index,
                 const struct submit_header *header)
{
    struct writer_shard *shard = &writer->shards[index];
    bool is_within = batch->payload_bytes + header->records_bytes <= writer->batch_bytes;
    if (!is_within && batch->payload_bytes > 0) {
        return false;
    }
    if (opens_run(batch, index) &&
        (!batch_has_run_room(batch) || !has_ack_room(writer, shard, ACK_BYTES))) {
        return false;
    }
    if ((header->flags & (SUBMIT_KEYED | SUBMIT_ORIGIN)) == 0) {
        return true;
    }
    if (!origins_has_pending_room(writer->origins)) {
        return false;
    }
    uint64_t outcome_max = ack_frame_bytes(sizeof(struct ack_outcome) + OUTCOME_ERRORS_BYTES_MAX);
    return batch_has_outcome_room(batch) && has_ack_room(writer, shard, ACK_BYTES + outcome_max);
}

static void drain_keyed(struct writer *writer, struct batch *batch, unsigned index,
                        const struct spsc_frame *frame)
{
    const struct submit_header *header = (const void *)frame->payload;
    struct keyed_request request = {.batch = batch,
                                    .dedup = writer->dedup,
                                    .header = header,
                                    .records = frame->payload + sizeof *header,
                                    .scratch = writer->scratch,
                                    .shard = index,
                                    .end = frame->end,
                                    .next_lsn = writer->next_lsn,
                                    .now_ns = writer->io->ops->real_ns(writer->io)};
    struct keyed_result result = keyed_drain(&request);
    batch_run_extend(batch, index, frame->end, writer->next_lsn);
    writer->next_lsn += result.stored;
    writer->keyed_lsn = u64_max(writer->keyed_lsn, result.keyed_lsn);
    writer->shards[index].owed_bytes += ack_frame_bytes(result.outcome_bytes);
    stat_add(&writer->status->duplicates, result.dropped);
}

static void drain_origin(struct writer *writer, struct batch *batch, unsigned index,
                         const struct spsc_frame *frame)
{
    const struct submit_header *header = (const void *)frame->payload;
    struct origin_request request = {.batch = batch,
                                     .origins = writer->origins,
                                     .header = header,
                                     .records = frame->payload + sizeof *header,
                                     .shard = index,
                                     .end = frame->end,
                                     .next_lsn = writer->next_lsn};
    struct origin_result result = origin_drain(&request);
    batch_run_extend(batch, index, frame->end, writer->next_lsn);
    writer->next_lsn += result.stored;
    writer->origin_lsn = result.stored > 0 ? writer->next_lsn - 1 : writer->origin_lsn;
    writer->shards[index].owed_bytes += ack_frame_bytes(result.outcome_bytes);
    stat_add(&writer->status->duplicates, result.dropped);
}

/* A request larger than any segment: no batch can hold it. It is refused in its place in the order.
 */
static bool refuse_oversized(struct writer *writer, struct batch *batch, unsigned index,
                             const struct spsc_frame *frame)
{
    if (!batch_is_empty(batch) || !has_ack_room(writer, &writer->shards[index], ACK_BYTES)) {
        return false;
    }
    batch_run_extend(batch, index, frame->end, writer->next_lsn);
    writer->shards[index].owed_bytes += ACK_BYTES;
    journal_refuse(&writer->journal, FAILED_SPACE);
    LOG(LOGLINE_WARNING, "request_too_large",
        "a request of %" PRIu32 " bytes does not fit into a segment of %" PRIu64, frame->bytes,
        writer->segment_bytes);
    return true;
}

/* Takes one request into the batch. False: not now; the frame is held. */
static bool drain_frame(struct writer *writer, unsigned index, const struct spsc_frame *frame)
{
    struct batch *batch = journal_building(&writer->journal, writer->next_lsn);
    if (batch == NULL) {
        return false;
    }
    ASSERT(frame->type == SUBMIT_REQUEST);
    ASSERT(frame->bytes >= sizeof(struct submit_header));
    const struct submit_header *header = (const void *)frame->payload;
    ASSERT(header->records_bytes <= frame->bytes - sizeof *header);
    ASSERT(header->record_count > 0);
    ASSERT(batch_next_lsn(batch) == writer->next_lsn);
    if (UNLIKELY(header->records_bytes > batch->payload_max)) {
        return refuse_oversized(writer, batch, index, frame);
    }
    if (!fits(writer, batch, index, header)) {
        return false;
    }
    writer->shards[index].owed_bytes += opens_run(batch, index) ? ACK_BYTES : 0;
    if (UNLIKELY((header->flags & SUBMIT_KEYED) != 0)) {
        drain_keyed(writer, batch, index, frame);
    } else if (UNLIKELY((header->flags & SUBMIT_ORIGIN) != 0)) {
        drain_origin(writer, batch, index, frame);
    } else {
        batch_copy(batch, frame->payload + sizeof *header, header->records_bytes);
        batch_count(batch, header->record_count, header->kinds, header->time_min_ns,
                    header->time_max_ns);
        batch_run_extend(batch, index, frame->end, writer->next_lsn);
        writer->next_lsn += header->record_count;
    }
    batch->header.keyed_lsn = writer->keyed_lsn;
    batch->header.origin_lsn = writer->origin_lsn;
    batch->request_count++;
    bool is_older = batch->oldest_at_ns == 0 || header->submitted_at_ns < batch->oldest_at_ns;
    batch->oldest_at_ns = is_older ? header->submitted_at_ns : batch->oldest_at_ns;
    return true;
}

/* A frame that is held pins everything taken with it, so the ring's room is given back before a
 * frame that may have to be held. */
static const struct spsc_frame *next_frame(struct writer *writer, struct writer_shard *shard)
{
    if (shard->held != NULL) {
        return shard->held;
    }
    const struct batch *batch = journal_open_batch(&writer->journal);
    if (batch == NULL || batch->payload_bytes > writer->batch_bytes / 2) {
        spsc_release(&shard->port->submit);
    }
    return spsc_take(&shard->port->submit);
}

static bool drain_shard(struct writer *writer, unsigned index, uint64_t quantum)
{
    struct writer_shard *shard = &writer->shards[index];
    uint64_t taken = 0;
    while (taken < quantum) { /* each turn takes at least a header */
        const struct spsc_frame *frame = next_frame(writer, shard);
        if (frame == NULL) {
            break;
        }
        shard->held = NULL;
        if (!drain_frame(writer, index, frame)) {
            shard->held = frame;
            break;
        }
        taken += frame->bytes;
    }
    if (shard->held == NULL) {
        spsc_release(&shard->port->submit);
    }
    return taken > 0;
}

/* Round-robin by a share of the batch each, so that one shard cannot fill it while others wait. */
static void writer_drain(struct writer *writer)
{
    uint64_t quantum = u64_max(writer->batch_bytes / writer->shard_count, STORE_BLOCK_BYTES);
    bool is_any = true;
    for (unsigned round = 0; round < ROUNDS_MAX && is_any; round++) {
        is_any = false;
        for (unsigned i = 0; i < writer->shard_count; i++) {
            is_any |= drain_shard(writer, (writer->shard_first + i) % writer->shard_count, quantum);
        }
    }
    writer->shard_first = (writer->shard_first + 1) % writer->shard_count;
}

/* ---- trouble
 * ------------------------------------------------------------------------------------------------------------------------
 */

/* Everything that is not durable is lost to its senders: LSNs and keys go back, ACK_FAILED goes out
 * through writer_publish. */
static void give_up(struct writer *writer, enum failed_cause cause, uint64_t now_ns)
{
    journal_abandon(&writer->journal, cause, now_ns);
    writer->next_lsn = writer->journal.durable_lsn + 1;
    writer->keyed_lsn = writer->journal.durable_keyed_lsn;
    writer->origin_lsn = writer->journal.durable_origin_lsn;
    dedup_take_back(writer->dedup, writer->next_lsn);
    origins_take_back(writer->origins, writer->next_lsn);
    writer->failed_cause = cause;
    if (!writer->is_read_only) {
        LOG(LOGLINE_ERROR, "read_only",
            "the log cannot be written (%s); LSN %" PRIu64 " is the last",
            cause == FAILED_IO ? "I/O error" : "no segment", writer->journal.durable_lsn);
    }
    writer->is_read_only = true;
    writer->pause_until_ns = 0;
}

/* Read-only: what comes is refused at once, after everything before it has been told. */
static void refuse_shard(struct writer *writer, struct writer_shard *shard)
{
    const struct spsc_frame *frame =
        shard->held != NULL ? shard->held : spsc_take(&shard->port->submit);
    if (!has_ack_room(writer, shard, ACK_BYTES)) {
        shard->held = frame; /* so that the writer sleeps until the shard has read its acks */
        return;
    }
    shard->held = NULL;
    struct ack_failed failed = {.cause = is_stopping(writer) ? FAILED_STOP : writer->failed_cause};
    for (; frame != NULL; frame = spsc_take(&shard->port->submit)) { /* bounded by the ring */
        failed.end = frame->end;
    }
    spsc_release(&shard->port->submit);
    if (failed.end != 0) {
        bool is_sent = send_ack(writer, shard, ACK_FAILED, &failed, sizeof failed);
        ASSERT(is_sent);
    }
}

static void writer_refuse(struct writer *writer)
{
    if (!journal_is_idle(&writer->journal)) {
        return;
    }
    for (unsigned i = 0; i < writer->shard_count; i++) {
        refuse_shard(writer, &writer->shards[i]);
    }
    publish_acks(writer);
    wake_shards(writer);
}

static bool may_write_again(const struct writer *writer, uint64_t now_ns)
{
    if (writer->failed_cause == FAILED_IO) {
        return now_ns >= writer->journal.retry_at_ns;
    }
    return !keeper_is_out(writer->keeper);
}

static enum store_state state_now(const struct writer *writer)
{
    if (is_stopping(writer)) {
        return STORE_STOPPING;
    }
    if (writer->is_read_only) {
        return STORE_READ_ONLY;
    }
    const struct segment *active = &writer->journal.active;
    uint64_t left = active->state == SEGMENT_ACTIVE ? active->file_bytes - active->end : 0;
    bool is_tight = keeper_is_out(writer->keeper) && left < writer->segment_bytes / 4;
    /* relaxed: a statistic, seconds old at worst. */
    uint64_t log_bytes = atomic_load_explicit(&writer->status->log_bytes, memory_order_relaxed);
    /* relaxed: as above. Set while something older may not be removed: else the archive makes room and
     * nobody is sent away, unless it gets so little of the cores that the log would outgrow its limit
     * by more than what is being written and prepared. */
    bool is_stuck = atomic_load_explicit(&writer->status->is_retention_stuck, memory_order_relaxed);
    uint64_t late_bytes =
        (writer->keeper->spares_wanted + RETENTION_LATE_SEGMENTS) * writer->segment_bytes;
    bool is_over = writer->retention_bytes != 0 &&
                   log_bytes > writer->retention_bytes + (is_stuck ? 0 : late_bytes);
    return is_tight || is_over ? STORE_SHED : STORE_OK;
}

/* ---- committing
 * ---------------------------------------------------------------------------------------------------------------------
 */

static bool is_any_held(const struct writer *writer)
{
    for (unsigned i = 0; i < writer->shard_count; i++) {
        if (writer->shards[i].held != NULL) {
            return true;
        }
    }
    return false;
}

static void submit_now(struct writer *writer, struct batch *batch, uint64_t now_ns)
{
    uint64_t requests = batch->request_count;
    writer->pause_until_ns = 0;
    if (journal_submit(&writer->journal, now_ns) == 0) {
        commit_policy_on_submit(&writer->policy, now_ns, requests);
        return;
    }
    bool is_hopeless = writer->journal.in_flight == 0 && !writer->journal.is_failing &&
                       journal_needs_segment(&writer->journal, batch->payload_bytes) &&
                       keeper_is_out(writer->keeper);
    if (is_hopeless) {
        give_up(writer, FAILED_SPACE, now_ns);
    }
}

/* Failed writes, of marks too: so also while read-only. */
static void writer_rescue(struct writer *writer, uint64_t now_ns)
{
    if (journal_rescue(&writer->journal, now_ns) < 0) {
        give_up(writer, FAILED_IO,
                now_ns); /* also when only a segment to write it to again is missing */
    }
}

static void writer_commit(struct writer *writer, uint64_t now_ns)
{
    struct batch *batch = journal_open_batch(&writer->journal);
    if (batch == NULL || batch_is_empty(batch)) {
        return;
    }
    if (!batch_is_stored(batch)) {
        submit_now(writer, batch, now_ns);
        return;
    }
    struct commit_input input = {.now_ns = now_ns,
                                 .records = batch->request_count,
                                 .bytes = batch->payload_bytes,
                                 .oldest_at_ns = batch->oldest_at_ns,
                                 .in_flight = writer->journal.in_flight,
                                 .in_flight_max = STORE_WRITES_IN_FLIGHT_MAX};
    if (is_any_held(writer)) {
        input.bytes = u64_max(input.bytes, COMMIT_BULK_BYTES); /* full: it cannot grow by waiting */
    }
    uint64_t until = is_stopping(writer) && input.in_flight == 0
                         ? 0
                         : commit_policy_decide(&writer->policy, &input);
    if (until == 0) {
        submit_now(writer, batch, now_ns);
    } else if (until != COMMIT_WAIT_COMPLETION) {
        commit_policy_on_pause(&writer->policy, input.records);
        writer->pause_until_ns = until;
    }
}

/* So that also a log of a few records a day is sealed, compacted and expires in time. */
static void writer_age(struct writer *writer, uint64_t now_ns)
{
    uint64_t since_ns = writer->journal.active_data_at_ns;
    if (LIKELY(writer->segment_age_ns == 0 || since_ns == 0 ||
               now_ns - since_ns < writer->segment_age_ns)) {
        return;
    }
    if (journal_roll(&writer->journal) == 0) {
        writer->needs_mark = true; /* the new segment's first batch completes the old one */
    }
}

/* An idle log writes one empty batch, whose header names everything before it as durable: then no
 * crash can make recovery doubt it. */
static void writer_mark(struct writer *writer, uint64_t now_ns)
{
    const struct batch *batch = journal_open_batch(&writer->journal);
    bool is_idle = journal_is_idle(&writer->journal) && (batch == NULL || batch_is_empty(batch));
    bool is_due = is_stopping(writer) || now_ns - writer->last_data_at_ns >= WRITER_MARK_IDLE_NS;
    if (!writer->needs_mark || !is_idle || !is_due) {
        return;
    }
    /* -ENOSPC: not a block left, or no segment; the next segment's first header says the same. */
    writer->needs_mark = journal_submit_mark(&writer->journal, writer->next_lsn, now_ns) == -EAGAIN;
}

/* ---- sleeping
 * -----------------------------------------------------------------------------------------------------------------------
 */

static void count_state(struct writer *writer, uint64_t now_ns)
{
    struct store_status *status = writer->status;
    struct journal *journal = &writer->journal;
    const struct batch *batch = journal_open_batch(journal);
    uint64_t oldest = batch == NULL ? 0 : batch->oldest_at_ns;
    for (uint64_t i = journal->head; i != journal->tail; i++) { /* at most JOURNAL_SLOTS */
        uint64_t at = journal->slots[i & (JOURNAL_SLOTS - 1)].oldest_at_ns;
        oldest = at != 0 && (oldest == 0 || at < oldest) ? at : oldest;
    }
    stat_set(&status->oldest_undurable_at_ns, oldest);
    stat_set(&status->next_lsn, writer->next_lsn);
    stat_set(&status->dedup_entries, dedup_count(writer->dedup));
    /* relaxed: shards read it as a hint; what they submit meanwhile is answered all the same. */
    atomic_store_explicit(&status->state, (int)state_now(writer), memory_order_relaxed);
    uint64_t elapsed = now_ns - writer->rate_window_at_ns;
    if (elapsed < RATE_WINDOW_NS) {
        return;
    }
    if (writer->rate_window_bytes > 0) { /* an idle window says nothing about how fast we can be */
        stat_set(&status->drain_bytes_per_s,
                 writer->rate_window_bytes * 1000 / u64_max(elapsed / NS_MS, 1));
    }
    writer->rate_window_at_ns = now_ns;
    writer->rate_window_bytes = 0;
    dedup_expire(writer->dedup, writer->io->ops->real_ns(writer->io));
    origins_offer(writer->origins, now_ns);
}

/* The second look, after park_prepare: work that a sleeper at this level must not sleep over. */
static bool has_work(struct writer *writer, enum park_level level)
{
    for (unsigned i = 0; i < writer->shard_count; i++) {
        struct writer_shard *shard = &writer->shards[i];
        if (shard->held != NULL) {
            continue; /* nothing more can be taken from it before something completes */
        }
        if (level == PARK_ANY ? !spsc_is_empty(&shard->port->submit)
                              : spsc_pending_bytes(&shard->port->submit) >= WRITER_BULK_BYTES) {
            return true;
        }
    }
    return false;
}

static uint64_t until_ns(uint64_t sleep_ns, uint64_t at_ns, uint64_t now_ns)
{
    return at_ns <= now_ns ? 0 : u64_min(sleep_ns, at_ns - now_ns);
}

static uint64_t sleep_ns(const struct writer *writer, uint64_t now_ns)
{
    const struct journal *journal = &writer->journal;
    uint64_t sleep = WRITER_SLEEP_NS;
    if (writer->pause_until_ns != 0) {
        sleep = until_ns(sleep, writer->pause_until_ns, now_ns);
    }
    if (writer->needs_mark && journal_is_idle(journal)) {
        sleep =
            u64_max(until_ns(sleep, writer->last_data_at_ns + WRITER_MARK_IDLE_NS, now_ns), NS_US);
    }
    if (journal->in_flight > 0) {
        return sleep;
    }
    if (journal->head != journal->tail || is_any_held(writer)) {
        sleep = u64_min(sleep, STUCK_SLEEP_NS);
    }
    bool is_waiting = journal->is_failing || writer->is_read_only || is_stopping(writer) ||
                      now_ns < journal->retry_at_ns;
    return is_waiting || journal->active.state != SEGMENT_ACTIVE ? u64_min(sleep, RETRY_SLEEP_NS)
                                                                 : sleep;
}

/* was_stopping: whether this pass knew of the stop, and so has done all it can for it. A stop that
 * came later is work, as a frame that came later is. */
static void writer_wait(struct writer *writer, uint64_t now_ns, bool was_stopping)
{
    enum park_level level =
        writer->journal.in_flight > 0 || writer->pause_until_ns != 0 ? PARK_BULK : PARK_ANY;
    uint64_t sleep = sleep_ns(writer, now_ns);
    park_prepare(writer->park, level);
    bool is_stop_new = is_stopping(writer) && !was_stopping;
    /* Answers that need no write are complete as soon as their batch is closed. */
    bool is_any_to_tell = journal_oldest(&writer->journal) != NULL && !writer->is_stuck;
    if (is_stop_new || is_any_to_tell || has_work(writer, level)) {
        sleep = 0;
    }
    struct file_write *done = NULL;
    int n = writer->io->ops->wait(writer->io, sleep, writer->park, &done);
    park_cancel(writer->park);
    if (n > 0) {
        journal_on_done(&writer->journal, done, writer->io->ops->mono_ns(writer->io));
    }
}

static bool is_finished(struct writer *writer)
{
    if (!is_stopping(writer) || !journal_is_idle(&writer->journal) || writer->needs_mark) {
        return false;
    }
    const struct batch *batch = journal_open_batch(&writer->journal);
    return (batch == NULL || batch_is_empty(batch)) && !is_any_held(writer) &&
           !has_work(writer, PARK_ANY);
}

int writer_duty(void *context)
{
    struct writer *writer = context;
    ASSERT_ROLE(ROLE_WRITER);
    uint64_t now_ns = writer->io->ops->mono_ns(writer->io);
    bool was_stopping = is_stopping(writer);
    writer_publish(writer, now_ns);
    writer_rescue(writer, now_ns);
    if (writer->is_read_only && may_write_again(writer, now_ns)) {
        writer->is_read_only = false;
        LOG(LOGLINE_WARNING, "writable", "the log is written again from LSN %" PRIu64,
            writer->next_lsn);
    }
    if (UNLIKELY(writer->is_read_only)) {
        writer_refuse(writer);
        writer->needs_mark = writer->needs_mark && writer->failed_cause != FAILED_IO;
    } else {
        writer_age(writer, now_ns);
        writer_drain(writer);
        writer_commit(writer, now_ns);
    }
    writer_mark(writer, now_ns);
    count_state(writer, now_ns);
    if (is_finished(writer)) {
        /* relaxed: the keeper only stops earlier or later by a pass. */
        atomic_store_explicit(&writer->keeper->stop, true, memory_order_relaxed);
        (void)park_wake(&writer->keeper->park, true);
        return 1;
    }
    writer_wait(writer, now_ns, was_stopping);
    return 0;
}
