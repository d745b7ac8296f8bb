/*
 * runs_repeat: answers that only the database knows: a repeat under an Idempotency-Key gets the first answer again, made from what the
 * request was (the repeat is the same request, so its own note says it) and what became of its commands (store/runs_outcomes.h); and
 * the answer of associate-commit with a run_id that is too long for a result. The shard asks; a query thread reads and makes the body;
 * the note is its to read until the shard hears that it has ended, and goes back then.
 *
 * What goes wrong: the first commands are not applied yet, the database cannot be read, no query thread has a place: 503, Retry-After, and
 * the next repeat asks again. A key that was used before this table was there, or whose outcome was forgotten: as if all had succeeded.
 */
#include "api/query_pool.h"
#include "api/runs_side.h"
#include "api/shard.h"
#include "core/mem.h"
#include "store/runs_outcomes.h"

#define NOT_APPLIED                                                                                \
    "The first request with this Idempotency-Key is stored in the log and will be applied, but "   \
    "the database has not taken it yet; ask again"

/* ---- in a query thread ---- */

struct finding {
    const struct query_call *call;
    const struct runs_note *note;
    struct query_text *out;
    unsigned status; /* 0: nothing is put yet */
    /* One command. */
    enum runs_outcome outcome;
    uint8_t text[RUNS_RESULT_TEXT_MAX];
    size_t text_bytes;
    /* A batch. */
    uint64_t duplicates;
    uint64_t refused;
    struct buf refusals;
};

/* Enough for an answer with that text; what is not touched costs nothing. NULL: no memory. */
static uint8_t *body_begin(struct finding *finding, struct buf *body, size_t text_bytes)
{
    size_t room = runs_note_room(finding->note) + 6 * text_bytes;
    uint8_t *memory = mem_map(room);
    if (memory == NULL) {
        finding->status =
            runs_reads_text(finding->out, 503, SLICE_LITERAL("No memory for the answer"));
        return NULL;
    }
    buf_init(body, memory, room);
    return memory;
}

static void body_end(struct finding *finding, const struct buf *body, unsigned status)
{
    ASSERT(!body->is_truncated);
    query_text_put(finding->out, (struct slice){body->data, body->bytes});
    mem_unmap(body->data, body->capacity);
    finding->status = status;
}

static void put_single(struct finding *finding, struct slice text)
{
    struct buf body;
    if (body_begin(finding, &body, text.bytes) != NULL) {
        body_end(finding, &body, runs_body_put(&body, finding->note, finding->outcome, text));
    }
}

static bool on_run_id(void *context, struct slice run_id)
{
    put_single(context, run_id);
    return true;
}

static void put_batch(struct finding *finding)
{
    uint64_t count = finding->call->limit;
    struct runs_batch_sums sums = {
        .form = finding->note->form,
        .inserted = count - finding->duplicates - finding->refused,
        .duplicates = finding->duplicates,
        .total = count + finding->note->rejected,
        .errors = runs_note_errors(finding->note),
        .more = {finding->refusals.data, finding->refusals.bytes},
    };
    struct buf body;
    if (body_begin(finding, &body, finding->refusals.bytes) != NULL) {
        body_end(finding, &body, runs_body_batch(&body, &sums));
    }
}

static void on_outcome(void *context, uint64_t lsn, enum runs_outcome outcome, struct slice text)
{
    struct finding *finding = context;
    struct buf kept;
    if (!runs_note_is_batch(finding->note)) {
        buf_init(&kept, finding->text, sizeof finding->text);
        buf_put_slice(&kept, text);
        finding->text_bytes = kept.bytes;
        finding->outcome = outcome;
    } else if (outcome == RUNS_DUPLICATE) {
        finding->duplicates++;
    } else {
        finding->refused++;
        runs_body_refusal(&finding->refusals, finding->note, (uint32_t)(lsn - finding->call->id),
                          text);
    }
}

static enum runs_outcome outcome_expected(const struct runs_note *note)
{
    switch (note->form) {
    case RUN_UPDATE:
        return RUNS_UPDATED;
    case RUN_ASSOCIATE:
        return RUNS_ASSOCIATED;
    case RUN_EVENT:
        return RUNS_EVENT_ADDED;
    default:
        return RUNS_CREATED;
    }
}

static int find_single(struct runs_reader *reader, struct finding *finding, struct err *err)
{
    int r = 0;
    if (finding->outcome == RUNS_ASSOCIATED) {
        r = runs_run_id(reader, runs_note_event_id(finding->note), on_run_id, finding, err);
    }
    if (r >= 0 && finding->status == 0) {
        put_single(finding, (struct slice){finding->text_bytes == 0 ? NULL : finding->text,
                                           finding->text_bytes});
    }
    return r < 0 ? r : 0;
}

static unsigned answer_with(struct runs_reader *reader, struct finding *finding)
{
    const struct query_call *call = finding->call;
    struct runs_outcome_range range = {call->id, call->id + call->limit - 1};
    struct err err = {0};
    int r = runs_outcomes(reader, &range, on_outcome, finding, &err);
    if (r == 0) {
        return runs_reads_text(finding->out, 503, SLICE_LITERAL(NOT_APPLIED));
    }
    if (r == 1 && runs_note_is_batch(finding->note)) {
        put_batch(finding);
    } else if (r == 1) {
        r = find_single(reader, finding, &err);
    }
    return r < 0 ? runs_reads_failure(finding->out, r, &err) : finding->status;
}

static unsigned on_call(const struct query_call *call, struct query_text *out)
{
    struct runs_link *link = (struct runs_link *)(uintptr_t)call->context;
    uint8_t refusals[RUNS_REFUSALS_BYTES];
    struct finding finding = {.call = call, .note = call->subject, .out = out};
    unsigned which = 0;
    struct runs_reader *reader = runs_link_take(link, &which);
    if (reader == NULL) {
        return runs_reads_text(out, 503, SLICE_LITERAL("The database is not open"));
    }
    buf_init(&finding.refusals, refusals, sizeof refusals);
    finding.outcome = outcome_expected(finding.note);
    unsigned status = answer_with(reader, &finding);
    runs_link_give(link, which);
    return status;
}

/* ---- in the shard ---- */

static struct slice on_fields(const struct query_call *call, unsigned status)
{
    bool is_repeat = call->order != 0;
    if (status >= 300) {
        return is_repeat ? SLICE_LITERAL("X-Sluice-Duplicate: true\r\n") : (struct slice){0};
    }
    return is_repeat ? SLICE_LITERAL("X-Sluice-Ack: durable\r\nX-Sluice-Duplicate: true\r\n")
                     : SLICE_LITERAL("X-Sluice-Ack: durable\r\n");
}

static void on_release(const struct query_call *call)
{
    struct shard *shard = call->owner;
    arena_give(shard->runs->notes, (void *)(uintptr_t)call->subject);
}

void runs_ask(struct shard *shard, const struct runs_question *question)
{
    struct query_call call = {
        .answer = on_call,
        .context = shard->set->runs,
        .fields = on_fields,
        .release = on_release,
        .owner = shard,
        .subject = question->note,
        .order = question->is_repeat,
        .id = question->first_lsn,
        .limit = question->count,
    };
    ASSERT(question->count != 0);
    if (!query_on_deferred_call(shard, question->conn, &call)) {
        on_release(&call);
        runs_answer_later(shard, question->conn,
                          "The command is stored, but there are too many queries at one time to "
                          "tell what has become of it; ask again");
    }
}

void runs_on_repeat(struct shard *shard, struct pending *pending)
{
    const struct ack_outcome *outcome = pending->outcome;
    const struct runs_status *status = runs_status(shard->set->runs->runs);
    uint64_t last_lsn = outcome->first_lsn + outcome->accepted - 1;
    struct runs_question question = {.conn = pending->conn,
                                     .note = pending->runs,
                                     .first_lsn = outcome->first_lsn,
                                     .count = outcome->accepted,
                                     .is_repeat = true};
    /* relaxed: only saves a question; the database says it again. */
    if (atomic_load_explicit(&status->applied_lsn, memory_order_relaxed) < last_lsn) {
        runs_answer_later(shard, pending->conn, NOT_APPLIED);
        return;
    }
    pending->runs = NULL;
    runs_ask(shard, &question);
}
