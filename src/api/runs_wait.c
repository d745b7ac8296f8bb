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

#define LARGE_BYTES    MIB(1)
#define REFUSALS_BYTES (64u * 1024u)

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
                 const struct buf *body, bool is_repeat)
{
    struct http_answer answer = {
        .status = status,
        .content_type = ANSWER_JSON,
        .extra = status >= 300 ? (struct slice){0}
                 : is_repeat
                     ? SLICE_LITERAL("X-Sluice-Ack: durable\r\nX-Sluice-Duplicate: true\r\n")
                     : SLICE_LITERAL("X-Sluice-Ack: durable\r\n"),
        .body = {body->data, body->bytes},
    };
    ASSERT(!body->is_truncated);
    answer_send(shard, conn, &answer);
}

void runs_answer_not_found(struct shard *shard, struct conn_handle conn, struct slice event_id)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    buf_put_text(&body, "{\"detail\":");
    buf_put_json_string(&body, SLICE_LITERAL("Run not found: "));
    body.bytes--; /* its closing quote: the id goes on */
    size_t at = body.bytes;
    buf_put_json_string(&body, event_id);
    memmove(body.data + at, body.data + at + 1, body.bytes - at - 1); /* the id's opening one */
    body.bytes--;
    buf_put_char(&body, '}');
    runs_answer(shard, conn, 404, &body, false);
}

void runs_answer_batch(struct shard *shard, struct conn_handle conn,
                       const struct runs_batch_sums *sums, bool is_repeat)
{
    bool is_object = sums->form == RUNS_FORM_OBJECT;
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    buf_put_text(&body, is_object ? "{\"status\":\"created\",\"inserted\":" : "{\"inserted\":");
    buf_put_u64(&body, sums->inserted);
    buf_put_text(&body, ",\"duplicates\":");
    buf_put_u64(&body, sums->duplicates);
    buf_put_text(&body, ",\"errors\":[");
    buf_put_slice(&body, sums->errors);
    buf_put_text(&body, sums->errors.bytes != 0 && sums->more.bytes != 0 ? "," : "");
    buf_put_slice(&body, sums->more);
    buf_put_text(&body, "],\"total\":");
    buf_put_u64(&body, sums->total);
    buf_put_char(&body, '}');
    runs_answer(shard, conn, is_object ? 201 : 200, &body, is_repeat);
}

static void answer_later(struct shard *shard, struct conn_handle conn, const char *text)
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

/* ---- what a note says ---- */

static struct slice note_event_id(const struct runs_note *note)
{
    return (struct slice){note->text, note->event_id_bytes};
}

static struct slice note_detail(const struct runs_note *note)
{
    return (struct slice){note->text + note->event_id_bytes, note->detail_bytes};
}

static struct slice note_errors(const struct runs_note *note)
{
    return (struct slice){note->text + note->event_id_bytes + note->detail_bytes,
                          note->errors_bytes};
}

/* The event id of a batch's command. Bound: the batch. */
static struct slice note_batch_id(const struct runs_note *note, uint32_t index)
{
    size_t at = 0;
    uint16_t bytes = 0;
    for (uint32_t i = 0;; i++) {
        ASSERT(at + sizeof bytes <= note->event_id_bytes);
        memcpy(&bytes, note->text + at, sizeof bytes);
        at += sizeof bytes;
        if (i == index) {
            return (struct slice){note->text + at, bytes};
        }
        at += bytes;
    }
}

static void put_member(struct buf *body, const char *key, struct slice value)
{
    buf_put_text(body, key);
    buf_put_json_string(body, value);
}

static void put_fields(struct buf *body, const struct runs_note *note)
{
    buf_put_text(body, ",\"updated\":true,\"fields_updated\":[");
    for (unsigned i = 0; i < note->field_count; i++) {
        buf_put_text(body, i == 0 ? "\"" : ",\"");
        buf_put_text(body, run_field_name((enum run_field)note->fields[i]));
        buf_put_char(body, '"');
    }
    buf_put_text(body, "]}");
}

static void answer_created(struct shard *shard, struct conn_handle conn,
                           const struct runs_note *note, bool is_repeat)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"status\":\"created\",\"event_id\":", note_event_id(note));
    put_member(&body, ",\"run_id\":", note_detail(note));
    buf_put_char(&body, '}');
    runs_answer(shard, conn, 201, &body, is_repeat);
}

static void answer_duplicate(struct shard *shard, struct conn_handle conn,
                             const struct runs_note *note)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"status\":\"duplicate\",\"event_id\":", note_event_id(note));
    buf_put_text(&body, ",\"message\":\"Event already exists (idempotent)\"}");
    runs_answer(shard, conn, 200, &body, false);
}

static void answer_updated(struct shard *shard, struct conn_handle conn,
                           const struct runs_note *note, bool is_repeat)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"event_id\":", note_event_id(note));
    put_fields(&body, note);
    runs_answer(shard, conn, 200, &body, is_repeat);
}

/* run_id: empty where it is not known any more. */
static void answer_associated(struct shard *shard, struct conn_handle conn,
                              const struct runs_note *note, struct slice run_id, bool is_repeat)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"status\":\"success\",\"event_id\":", note_event_id(note));
    if (run_id.bytes != 0) {
        put_member(&body, ",\"run_id\":", run_id);
    }
    put_member(&body, ",\"commit_hash\":", note_detail(note));
    buf_put_char(&body, '}');
    runs_answer(shard, conn, 200, &body, is_repeat);
}

static void answer_event(struct shard *shard, struct conn_handle conn, const struct runs_note *note,
                         bool is_repeat)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"status\":\"created\",\"event_id\":", note_event_id(note));
    put_member(&body, ",\"event_type\":", note_detail(note));
    buf_put_char(&body, '}');
    runs_answer(shard, conn, 201, &body, is_repeat);
}

static void answer_text(struct shard *shard, struct conn_handle conn, unsigned status,
                        struct slice text)
{
    struct buf body;
    runs_answer_begin(shard->runs, &body);
    put_member(&body, "{\"detail\":", text);
    buf_put_char(&body, '}');
    runs_answer(shard, conn, status, &body, false);
}

/* One command: what became of it is its answer. */
static void answer_outcome(struct shard *shard, const struct runs_wait *wait,
                           enum runs_outcome outcome, struct slice text)
{
    const struct runs_note *note = wait->note;
    struct conn_handle conn = wait->conn;
    switch (outcome) {
    case RUNS_CREATED:
        answer_created(shard, conn, note, false);
        return;
    case RUNS_DUPLICATE:
        answer_duplicate(shard, conn, note);
        return;
    case RUNS_UPDATED:
        answer_updated(shard, conn, note, false);
        return;
    case RUNS_ASSOCIATED:
        answer_associated(shard, conn, note, text, false);
        return;
    case RUNS_EVENT_ADDED:
        answer_event(shard, conn, note, false);
        return;
    case RUNS_NOT_FOUND:
        runs_answer_not_found(shard, conn, note_event_id(note));
        return;
    case RUNS_NOTHING:
        answer_text(shard, conn, 400, SLICE_LITERAL("No valid fields to update"));
        return;
    case RUNS_REFUSED:
        answer_text(shard, conn, 400, text);
        return;
    }
    ASSERT(false);
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

static bool is_batch(const struct runs_note *note)
{
    return note->form == RUNS_FORM_ARRAY || note->form == RUNS_FORM_OBJECT;
}

static void wait_pop(struct runs_side *side)
{
    struct runs_wait *wait = wait_oldest(side);
    ASSERT(wait != NULL);
    arena_give(side->notes, wait->note);
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

/* "<event_id>: <text>" as one more element of errors; what has no room is only counted. */
static void batch_refuse(struct runs_side *side, struct runs_wait *wait, struct slice text)
{
    size_t capacity = 0;
    struct buf out;
    if (wait->refusals == NULL) {
        wait->refusals = arena_take(side->notes, REFUSALS_BYTES, &capacity);
    }
    if (wait->refusals == NULL) {
        return;
    }
    uint8_t memory[RUN_EVENT_ID_BYTES_MAX + RUNS_RESULT_TEXT_MAX + 2];
    struct buf whole;
    buf_init(&whole, memory, sizeof memory);
    buf_put_slice(&whole, note_batch_id(wait->note, wait->seen));
    buf_put_text(&whole, ": ");
    buf_put_slice(&whole, text);
    buf_init(&out, wait->refusals, REFUSALS_BYTES);
    out.bytes = wait->refusals_bytes;
    buf_put_text(&out, out.bytes == 0 ? "" : ",");
    buf_put_json_string(&out, (struct slice){whole.data, whole.bytes});
    wait->refusals_bytes = out.is_truncated ? wait->refusals_bytes : (uint32_t)out.bytes;
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
        .errors = note_errors(wait->note),
        .more = {wait->refusals, wait->refusals_bytes},
    };
    runs_answer_batch(shard, wait->conn, &sums, false);
}

static void wait_give_up(struct shard *shard)
{
    answer_later(shard, wait_oldest(shard->runs)->conn,
                 "The command is stored in the log and will be applied, but the database has not "
                 "taken it yet; ask again");
    wait_pop(shard->runs);
}

static void wait_on_result(struct shard *shard, struct runs_wait *wait,
                           const struct runs_result *result)
{
    struct slice text = {result->text, result->text_bytes};
    enum runs_outcome outcome = (enum runs_outcome)result->outcome;
    if (is_batch(wait->note)) {
        batch_count(shard->runs, wait, outcome, text);
    } else {
        answer_outcome(shard, wait, outcome, text);
    }
    wait->seen++;
    if (wait->seen == wait->count) {
        if (is_batch(wait->note)) {
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

/* ---- repeats ---- */

/* The answer of the first time, as far as the log knows it: whether the run had been there before it does not, nor how many of a batch;
 * all that were stored then count as inserted. */
void runs_on_repeat(struct shard *shard, struct pending *pending)
{
    const struct ack_outcome *outcome = pending->outcome;
    const struct runs_note *note = pending->runs;
    const struct runs_status *status = runs_status(shard->set->runs->runs);
    uint64_t last_lsn = outcome->first_lsn + outcome->accepted - 1;
    /* relaxed: only whether it has come to pass; the database is another process's affair by then. */
    if (atomic_load_explicit(&status->applied_lsn, memory_order_relaxed) < last_lsn) {
        answer_later(shard, pending->conn,
                     "The first request with this Idempotency-Key is stored in the log and will be "
                     "applied, but the database has not taken it yet; ask again");
        return;
    }
    switch (note->form) {
    case RUN_CREATE:
        answer_created(shard, pending->conn, note, true);
        return;
    case RUN_UPDATE:
        answer_updated(shard, pending->conn, note, true);
        return;
    case RUN_ASSOCIATE:
        answer_associated(shard, pending->conn, note, (struct slice){0}, true);
        return;
    case RUN_EVENT:
        answer_event(shard, pending->conn, note, true);
        return;
    default:
        break;
    }
    struct runs_batch_sums sums = {
        .form = note->form,
        .inserted = outcome->accepted,
        .total = (uint64_t)outcome->accepted + note->rejected,
        .errors = note_errors(note),
    };
    runs_answer_batch(shard, pending->conn, &sums, true);
}
