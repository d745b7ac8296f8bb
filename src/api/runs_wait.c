/*
 * runs_wait: from durable to answered. See runs.h and runs_side.h.
 */
#include <errno.h>
#include <string.h>

#include "api/answer.h"
#include "api/ingest.h"
#include "api/route.h"
#include "api/runs_side.h"
#include "api/shard.h"
#include "core/mem.h"

#define LARGE_BYTES MIB(1)

/* ---- life ---- */

int runs_side_open(struct shard *shard, struct err *err)
{
    struct runs_side *side = mem_map(sizeof *side);
    ASSERT(side != NULL);
    shard->runs = side;
    side->capacity = SHARD_PENDING_MAX;
    side->waits = mem_map(side->capacity * sizeof *side->waits);
    side->memory_bytes = RUNS_MEMORY_PER_BODY * shard->config->max_body + MIB(1);
    side->memory = mem_map(side->memory_bytes);
    ASSERT(side->waits != NULL && side->memory != NULL);
    return arena_init(&side->notes, RUNS_NOTES_BYTES, err);
}

void runs_side_free(struct shard *shard)
{
    struct runs_side *side = shard->runs;
    if (side == NULL) {
        return;
    }
    if (side->notes != NULL) {
        arena_close(side->notes);
    }
    mem_unmap(side->waits, side->capacity * sizeof *side->waits);
    mem_unmap(side->memory, side->memory_bytes);
    mem_unmap(side, sizeof *side);
    shard->runs = NULL;
}

/* ---- answers ---- */

void runs_answer_begin(struct runs_side *side, struct buf *body)
{
    buf_init(body, side->memory, side->memory_bytes);
}

static void answer_send(struct shard *shard, struct conn_handle conn,
                        const struct http_answer *answer)
{
    /* -ESTALE: the client has left; its commands stay. -ENOMEM: the connection is closed, the client will ask again. */
    (void)server_answer(shard->server, conn, answer);
    if (answer->body.bytes > LARGE_BYTES) {
        mem_release_pages(shard->runs->memory, shard->runs->memory_bytes);
    }
}

void runs_answer(struct shard *shard, struct conn_handle conn, unsigned status,
                 const struct buf *body)
{
    struct http_answer answer = {
        .status = status,
        .content_type = ANSWER_JSON,
        .extra = status < 300 ? SLICE_LITERAL("X-Sluice-Ack: durable\r\n") : (struct slice){0},
        .body = {body->data, body->bytes},
    };
    ASSERT(!body->is_truncated);
    answer_send(shard, conn, &answer);
}

void runs_answer_later(struct shard *shard, struct conn_handle conn, const char *text)
{
    struct buf body;
    struct buf extra;
    buf_init(&body, shard->scratch, 4096);
    buf_init(&extra, shard->scratch + 4096, 256);
    buf_printf(&extra, "Retry-After: %u\r\n", (unsigned)ingest_retry_after_s(shard));
    struct http_answer answer =
        answer_detail(&body, 503, text, (struct slice){extra.data, extra.bytes});
    answer_send(shard, conn, &answer);
}

/* One command: what became of it is its answer. */
static void answer_outcome(struct shard *shard, const struct runs_wait *wait,
                           enum runs_outcome outcome, struct slice text)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    unsigned status = runs_body_put(&body, wait->note, outcome, text);
    runs_answer(shard, wait->conn, status, &body);
}

/* ---- the waiting list ---- */

static struct runs_wait *wait_at(struct runs_side *side, uint64_t position)
{
    return &side->waits[position & (side->capacity - 1)];
}

static struct runs_wait *wait_oldest(struct runs_side *side)
{
    return side->head == side->tail ? NULL : wait_at(side, side->head);
}

static void wait_pop(struct runs_side *side)
{
    struct runs_wait *wait = wait_oldest(side);
    ASSERT(wait != NULL);
    if (wait->note != NULL) {
        arena_give(side->notes, wait->note);
    }
    if (wait->refusals != NULL) {
        arena_give(side->notes, wait->refusals);
    }
    side->head++;
}

void runs_on_durable(struct shard *shard, struct pending *pending, uint64_t first_lsn)
{
    struct runs_side *side = shard->runs;
    /* Beyond it, clients with requests that wait would have to be as many as connections can be; admission looks at it. */
    ASSERT(side->tail - side->head < side->capacity);
    ASSERT(pending->runs != NULL);
    *wait_at(side, side->tail++) = (struct runs_wait){
        .conn = pending->conn,
        .note = pending->runs,
        .first_lsn = first_lsn,
        .received_at_ns = pending->received_at_ns,
        .count = pending->record_count,
    };
    pending->runs = NULL;
    side->must_wake = true;
}

void runs_on_release(struct shard *shard, struct pending *pending)
{
    if (pending->runs != NULL) {
        arena_give(shard->runs->notes, pending->runs);
        pending->runs = NULL;
    }
}

/* What has no room is only counted. */
static void batch_refuse(struct runs_side *side, struct runs_wait *wait, struct slice text)
{
    size_t capacity = 0;
    struct buf out;
    if (wait->refusals == NULL) {
        wait->refusals = arena_take(side->notes, RUNS_REFUSALS_BYTES, &capacity);
    }
    if (wait->refusals == NULL) {
        return;
    }
    buf_init(&out, wait->refusals, RUNS_REFUSALS_BYTES);
    out.bytes = wait->refusals_bytes;
    runs_body_refusal(&out, wait->note, wait->seen, text);
    wait->refusals_bytes = (uint32_t)out.bytes;
}

static void batch_count(struct runs_side *side, struct runs_wait *wait, enum runs_outcome outcome,
                        struct slice text)
{
    wait->created += outcome == RUNS_CREATED;
    wait->duplicates += outcome == RUNS_DUPLICATE;
    if (outcome != RUNS_CREATED && outcome != RUNS_DUPLICATE) {
        wait->refused++;
        batch_refuse(side, wait, text);
    }
}

static void batch_answer(struct shard *shard, const struct runs_wait *wait)
{
    struct runs_batch_sums sums = {
        .form = wait->note->form,
        .inserted = wait->created,
        .duplicates = wait->duplicates,
        .total = (uint64_t)wait->count + wait->note->rejected,
        .errors = runs_note_errors(wait->note),
        .more = {wait->refusals, wait->refusals_bytes},
    };
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    unsigned status = runs_body_batch(&body, &sums);
    runs_answer(shard, wait->conn, status, &body);
}

static void wait_give_up(struct shard *shard)
{
    runs_answer_later(
        shard, wait_oldest(shard->runs)->conn,
        "The command is stored in the log and will be applied, but the database has not "
        "taken it yet; ask again");
    wait_pop(shard->runs);
}

/* It is longer than a result can tell; the database has it whole. */
static void ask_for_run_id(struct shard *shard, struct runs_wait *wait)
{
    struct runs_question question = {
        .conn = wait->conn, .note = wait->note, .first_lsn = wait->first_lsn, .count = wait->count};
    wait->note = NULL;
    runs_ask(shard, &question);
}

static void wait_on_result(struct shard *shard, struct runs_wait *wait,
                           const struct runs_result *result)
{
    struct slice text = {result->text, result->text_bytes};
    enum runs_outcome outcome = (enum runs_outcome)result->outcome;
    bool is_batch = runs_note_is_batch(wait->note);
    if (is_batch) {
        batch_count(shard->runs, wait, outcome, text);
    } else if (outcome == RUNS_ASSOCIATED && result->is_cut != 0) {
        ask_for_run_id(shard, wait);
    } else {
        answer_outcome(shard, wait, outcome, text);
    }
    wait->seen++;
    if (wait->seen == wait->count) {
        if (is_batch) {
            batch_answer(shard, wait);
        }
        hist_add(&shard->ack_latency, shard->now_ns - wait->received_at_ns);
        wait_pop(shard->runs);
    }
}

/* A result of nobody's (another shard's, or of a request that was given up) is dropped. */
static void on_result(struct shard *shard, const struct runs_result *result)
{
    struct runs_side *side = shard->runs;
    if (result->lsn > side->lsn_known) {
        /* The ack was published before the result (W1, then R1), so after this look it is known whose it is. */
        side->lsn_known = result->lsn;
        (void)acks_drain(shard);
    }
    struct runs_wait *wait = wait_oldest(side);
    /* Bound: the list. Results come in order, so one beyond the oldest's means that some of its own were lost. */
    while (wait != NULL && result->lsn > wait->first_lsn + wait->seen) {
        wait_give_up(shard);
        wait = wait_oldest(side);
    }
    if (wait != NULL && result->lsn == wait->first_lsn + wait->seen) {
        wait_on_result(shard, wait, result);
    }
}

void runs_drain(struct shard *shard)
{
    struct runs_side *side = shard->runs;
    if (shard->set->runs == NULL) {
        return;
    }
    struct spsc *results = runs_results(shard->set->runs->runs, shard->index);
    const struct spsc_frame *frame = spsc_take(results);
    bool had = frame != NULL;
    for (; frame != NULL; frame = spsc_take(results)) { /* bound: the ring */
        on_result(shard, (const void *)frame->payload);
    }
    if (had) {
        spsc_release(results);
    }
    /* Received first, waited longest. Bound: the list. */
    for (struct runs_wait *wait = wait_oldest(side);
         wait != NULL && shard->now_ns - wait->received_at_ns > RUNS_RESULT_NS;
         wait = wait_oldest(side)) {
        wait_give_up(shard);
    }
    if (side->must_wake) {
        side->must_wake = false;
        runs_wake(shard->set->runs->runs);
    }
}

bool runs_has_results(const struct shard *shard)
{
    const struct shard_set *set = shard->set;
    return set->runs != NULL && !spsc_is_empty(runs_results(set->runs->runs, shard->index));
}
