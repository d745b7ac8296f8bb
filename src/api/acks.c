/*
 * acks: what the writer said, turned into answers. Frames come in ring order and so do the FIFO's
 * entries; a run's LSNs are counted along, so that no LSN ever travels per record.
 */
#include "api/answer.h"
#include "api/ingest.h"
#include "api/runs.h"
#include "api/shard.h"

#include <string.h>

static const char *failed_text(enum failed_cause cause)
{
    switch (cause) {
    case FAILED_IO:
        return "The log could not be written; nothing of this request was stored";
    case FAILED_SPACE:
        return "The disk is full; nothing of this request was stored";
    case FAILED_STOP:
        return "The server is stopping; nothing of this request was stored";
    }
    return "Nothing of this request was stored";
}

static enum shed_cause failed_shed_cause(enum failed_cause cause)
{
    return cause == FAILED_IO      ? SHED_IO_ERROR
           : cause == FAILED_SPACE ? SHED_NO_SPACE
                                   : SHED_STOPPING;
}

static void acks_accept(struct shard *shard, const struct pending *pending, const struct buf *body,
                        bool is_repeat)
{
    struct http_answer answer = {
        .status = 202,
        .content_type = ANSWER_JSON,
        .extra = is_repeat ? SLICE_LITERAL("X-Sluice-Ack: durable\r\nX-Sluice-Duplicate: true\r\n")
                           : SLICE_LITERAL("X-Sluice-Ack: durable\r\n"),
        .body = {body->data, body->bytes},
    };
    /* -ESTALE: the client has left; its records stay. -ENOMEM: the connection is closed, the client
     * will ask again. */
    (void)server_answer(shard->server, pending->conn, &answer);
}

/* The answer to a list: from the request itself or, for a repeat, from the receipt. */
static void acks_answer_list(struct shard *shard, const struct pending *pending,
                             const struct answer_list *list, bool is_repeat)
{
    struct buf body;
    buf_init(&body, shard->scratch, SHARD_SCRATCH_BYTES);
    answer_list_body(&body, list);
    acks_accept(shard, pending, &body, is_repeat);
}

static void acks_answer_object(struct shard *shard, const struct pending *pending,
                               const struct ulid *id, uint64_t lsn, bool is_repeat)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    answer_object_body(&body, id, lsn);
    acks_accept(shard, pending, &body, is_repeat);
}

static void acks_answer_stored(struct shard *shard, const struct pending *pending,
                               uint64_t first_lsn, uint32_t stored, uint32_t duplicates)
{
    if (LIKELY(pending->form == FORM_OBJECT && (pending->flags & PENDING_FORMATTED) == 0)) {
        uint8_t text[ANSWER_OBJECT_BYTES_MAX];
        size_t bytes =
            answer_object_raw(text, server_date_line(shard->server), &pending->id, first_lsn);
        (void)server_answer_raw(shard->server, pending->conn, (struct slice){text, bytes}, false);
        return;
    }
    if (pending->form == FORM_OBJECT) {
        acks_answer_object(shard, pending, &pending->id, first_lsn, false);
        return;
    }
    struct answer_list list = {
        .accepted = pending->record_count,
        .rejected = pending->rejected,
        .duplicates = duplicates,
        .first_lsn = stored == 0 ? 0 : first_lsn,
        .last_lsn = stored == 0 ? 0 : first_lsn + stored - 1,
        .errors = {pending->errors, pending->errors_bytes},
    };
    acks_answer_list(shard, pending, &list, false);
}

static void acks_answer_repeat(struct shard *shard, const struct pending *pending,
                               const struct ack_outcome *outcome)
{
    if (outcome->form == FORM_OBJECT) {
        acks_answer_object(shard, pending, &outcome->id, outcome->first_lsn, true);
        return;
    }
    struct answer_list list = {
        .accepted = outcome->accepted + outcome->first_duplicates,
        .rejected = outcome->rejected,
        .duplicates = outcome->first_duplicates,
        .first_lsn = outcome->accepted == 0 ? 0 : outcome->first_lsn,
        .last_lsn = outcome->accepted == 0 ? 0 : outcome->first_lsn + outcome->accepted - 1,
        .errors = {outcome->errors, outcome->errors_bytes},
    };
    acks_answer_list(shard, pending, &list, true);
}

static void acks_answer_mismatch(struct shard *shard, const struct pending *pending)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    struct http_answer answer = answer_detail(
        &body, 422, "Idempotency-Key was used before with a different body", (struct slice){0});
    (void)server_answer(shard->server, pending->conn, &answer);
}

/* What another Sluice sent: 200, because it is settled, not only taken. */
static void acks_answer_replica(struct shard *shard, const struct pending *pending,
                                const struct ack_outcome *outcome, uint64_t lsn)
{
    struct buf body;
    uint32_t stored = outcome->stored_count;
    struct answer_list list = {
        .accepted = stored,
        .duplicates = outcome->duplicate_count,
        .rejected = pending->rejected,
        .first_lsn = stored == 0 ? 0 : lsn,
        .last_lsn = stored == 0 ? 0 : lsn + stored - 1,
        .errors = {pending->errors, pending->errors_bytes},
    };
    buf_init(&body, shard->scratch, SHARD_SCRATCH_BYTES);
    answer_replica_body(&body, &list);
    struct http_answer answer = {.status = 200,
                                 .content_type = ANSWER_JSON,
                                 .extra = SLICE_LITERAL("X-Sluice-Ack: durable\r\n"),
                                 .body = {body.data, body.bytes}};
    (void)server_answer(shard->server, pending->conn, &answer);
}

static void acks_answer_refused(struct shard *shard, const struct pending *pending)
{
    struct buf body;
    struct buf extra;
    buf_init(&body, shard->scratch, 4096);
    buf_init(&extra, shard->scratch + 4096, 256);
    buf_printf(&extra, "Retry-After: %u\r\n", (unsigned)ingest_retry_after_s(shard));
    struct http_answer answer = answer_detail(
        &body, 503,
        "Nothing was stored: which records of other nodes this node holds cannot be told any more. "
        "Either more nodes, or more gaps in a node's LSNs, than it remembers, or its log could not "
        "be read at its start; its log says which",
        (struct slice){extra.data, extra.bytes});
    (void)server_answer(shard->server, pending->conn, &answer);
}

/* What the processed set said about a keyed request. Returns the records it added to the log. */
static uint32_t acks_settle_keyed(struct shard *shard, struct pending *pending, uint64_t lsn)
{
    const struct ack_outcome *outcome = pending->outcome;
    struct counters *counters = &shard->counters;
    bool must_answer = (pending->flags & PENDING_ANSWERED) == 0;
    ASSERT(outcome != NULL); /* the protocol: an outcome precedes its run */
    switch ((enum outcome_verdict)outcome->verdict) {
    case OUTCOME_STORED:
        counters->durable += outcome->stored_count;
        counters->duplicate += outcome->duplicate_count;
        counters->requests_accepted += must_answer;
        if ((pending->flags & PENDING_RUNS) != 0) {
            runs_on_durable(shard, pending, lsn);
        } else if ((pending->flags & PENDING_REPLICA) != 0) {
            acks_answer_replica(shard, pending, outcome, lsn);
        } else if (must_answer && outcome->stored_count == 0 && pending->form == FORM_OBJECT) {
            acks_answer_object(shard, pending, &outcome->id, outcome->first_lsn, true);
        } else if (must_answer) {
            acks_answer_stored(shard, pending, lsn, outcome->stored_count,
                               outcome->duplicate_count);
        }
        return outcome->stored_count;
    case OUTCOME_DUPLICATE:
        counters->duplicate += pending->record_count;
        counters->requests_duplicate++;
        counters->requests_accepted += must_answer;
        if ((pending->flags & PENDING_RUNS) != 0) {
            runs_on_repeat(shard, pending);
        } else if (must_answer) {
            acks_answer_repeat(shard, pending, outcome);
        }
        return 0;
    case OUTCOME_MISMATCH:
        counters->rejected[REJECT_KEY] += pending->record_count;
        counters->requests_rejected += must_answer;
        if (must_answer) {
            acks_answer_mismatch(shard, pending);
        }
        return 0;
    case OUTCOME_REFUSED:
        counters->shed[SHED_ORIGINS] += pending->record_count;
        counters->requests_shed[SHED_ORIGINS]++;
        acks_answer_refused(shard, pending);
        return 0;
    }
    ASSERT(false);
    return 0;
}

static uint32_t acks_settle(struct shard *shard, struct pending *pending, uint64_t lsn)
{
    hist_add(&shard->ack_latency, shard->now_ns - pending->received_at_ns);
    if (UNLIKELY((pending->flags & PENDING_KEYED) != 0)) {
        return acks_settle_keyed(shard, pending, lsn);
    }
    shard->counters.durable += pending->record_count;
    if (UNLIKELY((pending->flags & PENDING_RUNS) != 0)) {
        shard->counters.requests_accepted++;
        runs_on_durable(shard, pending, lsn);
    } else if (LIKELY((pending->flags & PENDING_ANSWERED) == 0)) {
        shard->counters.requests_accepted++;
        acks_answer_stored(shard, pending, lsn, pending->record_count, 0);
    }
    return pending->record_count;
}

static void acks_release(struct shard *shard, struct pending *pending)
{
    if (UNLIKELY(pending->errors != NULL)) {
        arena_give(shard->texts, pending->errors);
    }
    if (UNLIKELY(pending->outcome != NULL)) {
        arena_give(shard->texts, pending->outcome);
    }
    if (UNLIKELY(pending->runs != NULL)) {
        runs_on_release(shard, pending);
    }
    pending_pop(&shard->pending);
}

static void acks_on_durable(struct shard *shard, const struct ack_durable *ack)
{
    uint64_t lsn = ack->first_lsn;
    /* Bounded by the FIFO. Positions are compared by difference, so that they may wrap. */
    while (!pending_is_empty(&shard->pending)) {
        struct pending *pending = pending_oldest(&shard->pending);
        if ((int64_t)(pending->end - ack->end) > 0) {
            break;
        }
        lsn += acks_settle(shard, pending, lsn);
        acks_release(shard, pending);
    }
}

static void acks_on_failed(struct shard *shard, const struct ack_failed *ack)
{
    enum failed_cause cause = (enum failed_cause)ack->cause;
    struct buf body;
    struct buf extra;
    while (!pending_is_empty(&shard->pending)) {
        struct pending *pending = pending_oldest(&shard->pending);
        if ((int64_t)(pending->end - ack->end) > 0) {
            break;
        }
        buf_init(&body, shard->scratch, 4096);
        buf_init(&extra, shard->scratch + 4096, 256);
        shard->counters.shed[failed_shed_cause(cause)] += pending->record_count;
        if ((pending->flags & PENDING_ANSWERED) == 0) {
            shard->counters.requests_shed[failed_shed_cause(cause)]++;
            buf_printf(&extra, "Retry-After: %u\r\n", (unsigned)ingest_retry_after_s(shard));
            struct http_answer answer = answer_detail(&body, 503, failed_text(cause),
                                                      (struct slice){extra.data, extra.bytes});
            (void)server_answer(shard->server, pending->conn, &answer);
        }
        acks_release(shard, pending);
    }
}

/* Keeps a copy until its run arrives: the ring is released behind this pass. */
static void acks_on_outcome(struct shard *shard, const struct ack_outcome *outcome)
{
    struct pending *pending = pending_find(&shard->pending, outcome->end);
    ASSERT(pending != NULL);
    size_t bytes = sizeof *outcome + outcome->errors_bytes;
    size_t capacity = 0;
    struct ack_outcome *copy = arena_take(shard->texts, bytes, &capacity);
    if (copy == NULL && outcome->errors_bytes != 0) {
        /* The texts are full: the counts matter more than the listed errors. */
        bytes = sizeof *outcome;
        copy = arena_take(shard->texts, bytes, &capacity);
    }
    /* SHARD_PENDING_MAX outcomes without errors always fit next to the bounded error texts. */
    ASSERT(copy != NULL);
    memcpy(copy, outcome, bytes);
    copy->errors_bytes = (uint32_t)(bytes - sizeof *outcome);
    pending->outcome = copy;
}

size_t acks_drain(struct shard *shard)
{
    size_t count = 0;
    const struct spsc_frame *frame;
    /* Bounded by the ring's capacity: the writer cannot add while frames are not released. */
    while ((frame = spsc_take(&shard->port->acks)) != NULL) {
        switch ((enum ack_type)frame->type) {
        case ACK_DURABLE:
            acks_on_durable(shard, (const void *)frame->payload);
            break;
        case ACK_OUTCOME:
            acks_on_outcome(shard, (const void *)frame->payload);
            break;
        case ACK_FAILED:
            acks_on_failed(shard, (const void *)frame->payload);
            break;
        }
        count++;
    }
    if (count != 0) {
        spsc_release(&shard->port->acks);
        shard->counters_changed = true;
    }
    return count;
}
