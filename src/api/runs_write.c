/*
 * runs_write: commands of agent runs into the ring: POST /api/v1/runs, its batch, PATCH, associate-commit, events.
 *
 * Happy path: admit -> claim room -> judge and encode each command into the claim -> what the answer needs, aside -> commit ->
 * HTTP_DEFERRED_ALONE. Nothing is visible to the writer before the commit, so every refusal is simply no commit.
 *
 * Shape comes first (422), then counts (400), then whether the run is there: only the database knows, so the command is logged and its result is
 * the answer. An event id that no run can have is 404 at once.
 *
 * A batch with an Idempotency-Key is walked twice: its first record carries the receipt, which has the counts of the whole.
 */
#include <errno.h>
#include <string.h>

#include "api/answer.h"
#include "api/ingest.h"
#include "api/ingest_request.h"
#include "api/query_string.h"
#include "api/runs_side.h"
#include "api/shard.h"
#include "core/mem.h"
#include "model/run_batch.h"
#include "store/digest.h"

/* Texts of what is wrong in a batch. Behind the answers of ingest.c in the shard's scratch. */
#define ERRORS_BYTES_MAX (144u * 1024u)
#define DETAIL_BYTES_MAX (144u * 1024u)
#define LARGE_BYTES      MIB(1)

_Static_assert(INGEST_SCRATCH_ANSWER + ERRORS_BYTES_MAX + DETAIL_BYTES_MAX <= SHARD_SCRATCH_BYTES,
               "the scratch regions fit");

struct writing {
    struct ingest ingest;
    struct shard *shard;
    struct runs_side *side;
    enum run_command command;
    struct slice event_id; /* of the path */
    bool is_no_run;        /* and no run can have it */
    uint8_t event_id_text[RUN_EVENT_ID_BYTES_MAX];
    const struct receipt *receipt; /* of the first record; NULL: no key */
    struct run_fields fields;
    struct run_judgement judgement;
    /* Batches. */
    uint32_t form; /* enum runs_form; 0: one command */
    uint32_t elements;
    uint32_t bad;      /* of the wrong shape */
    struct buf errors; /* elements of "errors" */
    struct buf detail; /* elements of a 422's "detail" */
};

/* ---- answers at once ---- */

static void count_request(struct shard *shard, uint64_t records, enum reject_cause cause)
{
    shard->counters.requests_received++;
    shard->counters.requests_rejected++;
    shard->counters.received += records;
    shard->counters.rejected[cause] += records;
}

static enum http_verdict refuse(struct writing *writing, unsigned status, uint64_t records,
                                enum reject_cause cause, const struct buf *body)
{
    count_request(writing->shard, records, cause);
    runs_answer(writing->shard, writing->ingest.request->conn, status, body);
    return HTTP_ANSWERED;
}

static enum reject_cause cause_of(const struct issue_list *issues)
{
    return issues->count != 0 && issues->items[0].type == ISSUE_JSON_INVALID ? REJECT_JSON
                                                                             : REJECT_SCHEMA;
}

static enum http_verdict refuse_shape(struct writing *writing, const struct issue_list *issues)
{
    struct buf body;
    runs_answer_begin(writing->side, &body);
    buf_put_text(&body, "{\"detail\":");
    issue_list_write(&body, "body", issues);
    buf_put_char(&body, '}');
    return refuse(writing, 422, 1, cause_of(issues), &body);
}

static enum http_verdict refuse_negative(struct writing *writing)
{
    struct buf body;
    runs_answer_begin(writing->side, &body);
    buf_printf(&body, "{\"detail\":\"Value must be non-negative: %s\"}",
               run_field_name(writing->judgement.negative));
    return refuse(writing, 400, 1, REJECT_SCHEMA, &body);
}

static enum http_verdict answer_no_run(struct writing *writing)
{
    struct buf body;
    runs_answer_begin(writing->side, &body);
    runs_body_not_found(&body, writing->event_id);
    return refuse(writing, 404, 1, REJECT_SCHEMA, &body);
}

/* ---- records ---- */

static size_t put_meta(struct writing *writing, enum run_command command, struct slice event_id)
{
    struct runs_side *side = writing->side;
    struct ingest *ingest = &writing->ingest;
    size_t bytes = 0;
    if (writing->receipt != NULL && ingest->header.record_count == 0) {
        bytes += meta_receipt_encode(side->meta, writing->receipt);
        ingest->header.flags |= SUBMIT_KEYED;
    }
    ASSERT(bytes + meta_run_bytes(event_id) <= sizeof side->meta);
    return bytes + meta_run_encode(side->meta + bytes, (uint8_t)command, event_id);
}

/* One command behind the others in the claim. */
static void put_command(struct writing *writing, enum run_command command, struct slice event_id,
                        struct slice payload)
{
    struct ingest *ingest = &writing->ingest;
    struct submit_header *header = &ingest->header;
    struct record record = {
        .kind = RECORD_RUN,
        .event_time_ns = ingest->real_ns,
        .id = ulid_next(&writing->shard->ulids, ingest->real_ns),
        .payload = payload,
    };
    record.meta = (struct slice){writing->side->meta, put_meta(writing, command, event_id)};
    uint64_t bytes = record_padded_bytes(record.meta.bytes, record.payload.bytes);
    if (ingest->is_out_of_room || bytes > ingest->room - ingest->used) {
        ingest->is_out_of_room = true;
        return;
    }
    ingest->used += record_encode(ingest->claim + ingest->used, &record);
    ingest->first_id = header->record_count == 0 ? record.id : ingest->first_id;
    header->time_min_ns = header->time_max_ns = record.event_time_ns;
    header->record_count++;
}

/* ---- what the answer needs ---- */

static struct slice note_detail(const struct writing *writing)
{
    switch (writing->command) {
    case RUN_CREATE:
        return writing->fields.values[RUN_RUN_ID].text;
    case RUN_ASSOCIATE:
        return writing->fields.values[RUN_COMMIT_HASH].text;
    case RUN_EVENT:
        return writing->fields.values[RUN_EVENT_TYPE].text;
    case RUN_UPDATE:
        break;
    }
    return (struct slice){0};
}

/* event id, detail and errors behind each other; NULL: no room. */
static struct runs_note *note_new(struct runs_side *side, size_t event_id_bytes,
                                  struct slice detail, struct slice errors)
{
    size_t bytes = sizeof(struct runs_note) + event_id_bytes + detail.bytes + errors.bytes;
    size_t capacity = 0;
    struct runs_note *note =
        bytes > RUNS_NOTES_BYTES ? NULL : arena_take(side->notes, bytes, &capacity);
    if (note == NULL) {
        return NULL;
    }
    *note = (struct runs_note){
        .event_id_bytes = (uint32_t)event_id_bytes,
        .detail_bytes = (uint32_t)detail.bytes,
        .errors_bytes = (uint32_t)errors.bytes,
    };
    if (detail.bytes != 0) {
        memcpy(note->text + event_id_bytes, detail.data, detail.bytes);
    }
    if (errors.bytes != 0) {
        memcpy(note->text + event_id_bytes + detail.bytes, errors.data, errors.bytes);
    }
    return note;
}

static struct runs_note *note_single(const struct writing *writing, struct slice event_id)
{
    const struct run_fields *fields = &writing->fields;
    struct runs_note *note =
        note_new(writing->side, event_id.bytes, note_detail(writing), (struct slice){0});
    if (note == NULL) {
        return NULL;
    }
    note->form = (uint32_t)writing->command;
    memcpy(note->text, event_id.data, event_id.bytes);
    if (writing->command == RUN_UPDATE) {
        note->field_count = (uint8_t)fields->count;
        memcpy(note->fields, fields->order, fields->count);
    }
    return note;
}

/* The event ids of the claim's records: their bytes with a length before each, into to unless it is NULL. */
static size_t claim_ids(const struct ingest *ingest, uint8_t *to)
{
    size_t at = sizeof ingest->header;
    size_t bytes = 0;
    for (uint32_t i = 0; i < ingest->header.record_count; i++) {
        struct record record;
        struct slice id;
        uint8_t command = 0;
        struct err err = {0};
        int64_t taken =
            record_decode(&record, (struct slice){ingest->claim + at, ingest->used - at}, &err);
        ASSERT(taken > 0);
        int found = meta_find_run(&command, &id, record.meta);
        ASSERT(found == 1);
        uint16_t id_bytes = (uint16_t)id.bytes;
        if (to != NULL) {
            memcpy(to + bytes, &id_bytes, sizeof id_bytes);
            memcpy(to + bytes + sizeof id_bytes, id.data, id.bytes);
        }
        bytes += sizeof id_bytes + id.bytes;
        at += (size_t)taken;
    }
    return bytes;
}

static struct runs_note *note_batch(const struct writing *writing)
{
    struct slice errors = {writing->errors.data, writing->errors.bytes};
    struct runs_note *note =
        note_new(writing->side, claim_ids(&writing->ingest, NULL), (struct slice){0}, errors);
    if (note == NULL) {
        return NULL;
    }
    note->form = writing->form;
    note->rejected = writing->ingest.rejected;
    (void)claim_ids(&writing->ingest, note->text);
    return note;
}

/* ---- into the ring ---- */

static enum http_verdict commit(struct writing *writing, struct runs_note *note)
{
    struct shard *shard = writing->shard;
    struct ingest *ingest = &writing->ingest;
    if (note == NULL) {
        return ingest_shed(ingest, SHED_QUEUE_FULL, 429,
                           "Too many requests are waiting for the database");
    }
    enum http_verdict verdict = ingest_commit(ingest);
    ASSERT(verdict == HTTP_DEFERRED);
    struct pending *pending = pending_newest(&shard->pending);
    pending->flags |= PENDING_RUNS;
    pending->runs = note;
    return HTTP_DEFERRED_ALONE;
}

/* A key stands for one request, not for one body: the same body for another run, or another command, is another request (422). So what
 * tells them apart is digested with the body. */
static void digest_request(struct writing *writing)
{
    uint8_t text[DIGEST_BYTES + 1 + RUN_EVENT_ID_BYTES_MAX];
    struct ingest *ingest = &writing->ingest;
    struct buf whole;
    ingest_digest(ingest);
    buf_init(&whole, text, sizeof text);
    buf_put(&whole, ingest->digest, sizeof ingest->digest);
    buf_put_char(&whole, writing->form == 0 ? (char)writing->command : 'b');
    buf_put_slice(&whole, writing->event_id);
    ASSERT(!whole.is_truncated);
    digest_once((struct slice){whole.data, whole.bytes}, ingest->digest);
}

static void receipt_begin(struct writing *writing, struct receipt *receipt, uint32_t accepted)
{
    struct ingest *ingest = &writing->ingest;
    digest_request(writing);
    *receipt = (struct receipt){
        .key = ingest->key,
        .form = (uint8_t)ingest->form,
        .accepted = accepted,
        .rejected = ingest->rejected,
    };
    memcpy(receipt->body_digest, ingest->digest, sizeof receipt->body_digest);
    writing->receipt = receipt;
}

/* ---- one command ---- */

static enum http_verdict put_single(struct writing *writing, struct slice event_id)
{
    struct ingest *ingest = &writing->ingest;
    struct receipt receipt;
    if (ingest->key.bytes != 0) {
        receipt_begin(writing, &receipt, 1);
    }
    ingest_open_claim(ingest);
    if (ingest->claim == NULL) {
        return ingest_no_room(ingest);
    }
    put_command(writing, writing->command, event_id, ingest->request->body);
    return ingest->is_out_of_room ? ingest_no_room(ingest)
                                  : commit(writing, note_single(writing, event_id));
}

static enum http_verdict write_single(struct writing *writing)
{
    struct slice body = writing->ingest.request->body;
    bool is_create = writing->command == RUN_CREATE;
    ASSERT(body.bytes <= writing->side->memory_bytes);
    run_read(&writing->fields, &writing->judgement, writing->command, body, writing->side->memory,
             ISSUE_NO_INDEX);
    if (writing->judgement.judged == RUN_BAD_SHAPE) {
        return refuse_shape(writing, &writing->judgement.issues);
    }
    if (writing->judgement.judged == RUN_NEGATIVE) {
        return refuse_negative(writing);
    }
    writing->ingest.form = FORM_OBJECT;
    if (is_create) {
        return put_single(writing, writing->fields.values[RUN_EVENT_ID].text);
    }
    if (writing->is_no_run) {
        return answer_no_run(writing);
    }
    return put_single(writing, writing->event_id);
}

/* ---- batches ---- */

static void list_issues(struct writing *writing, const struct issue_list *issues)
{
    for (uint32_t i = 0; i < issues->count; i++) {
        struct buf *detail = &writing->detail;
        size_t before = detail->bytes;
        buf_put_text(detail, before == 0 ? "" : ",");
        issue_write(detail, "body", &issues->items[i]);
        if (detail->is_truncated) { /* what does not fit whole is left out, and all after it */
            detail->bytes = before;
            detail->capacity = before;
            return;
        }
    }
}

static void list_negative(struct writing *writing)
{
    const struct run_value *id = &writing->fields.values[RUN_EVENT_ID];
    struct buf *errors = &writing->errors;
    size_t before = errors->bytes;
    uint8_t memory[RUN_EVENT_ID_BYTES_MAX + 128];
    struct buf text;
    writing->ingest.rejected++;
    buf_init(&text, memory, sizeof memory);
    buf_put_slice(&text, id->type == RUN_TEXT ? id->text : (struct slice){0});
    buf_printf(&text, ": Value must be non-negative: %s",
               run_field_name(writing->judgement.negative));
    buf_put_text(errors, before == 0 ? "" : ",");
    buf_put_json_string(errors, (struct slice){text.data, text.bytes});
    if (errors->is_truncated) { /* likewise; it stays counted */
        errors->bytes = before;
        errors->capacity = before;
    }
}

static void on_element(struct writing *writing, struct run_batch *batch, struct slice element,
                       uint32_t index)
{
    struct run_judgement *judgement = &writing->judgement;
    run_read(&writing->fields, judgement, RUN_CREATE, element, writing->side->memory, index);
    writing->elements++;
    if (judgement->judged == RUN_BAD_SHAPE) {
        writing->bad++;
        run_batch_locate(batch, &judgement->issues);
        list_issues(writing, &judgement->issues);
    } else if (judgement->judged == RUN_NEGATIVE) {
        list_negative(writing);
    } else if (writing->ingest.claim == NULL) {
        writing->ingest.header.record_count++; /* only counted */
    } else if (writing->bad == 0) {
        put_command(writing, RUN_CREATE, writing->fields.values[RUN_EVENT_ID].text, element);
    }
}

static void walk_reset(struct writing *writing)
{
    uint8_t *scratch = writing->shard->scratch + INGEST_SCRATCH_ANSWER;
    /* A receipt keeps them, in brackets. */
    size_t errors_max =
        writing->ingest.key.bytes == 0 ? ERRORS_BYTES_MAX : OUTCOME_ERRORS_BYTES_MAX - 2;
    buf_init(&writing->errors, scratch, errors_max);
    buf_init(&writing->detail, scratch + ERRORS_BYTES_MAX, DETAIL_BYTES_MAX);
    writing->ingest.header = (struct submit_header){0};
    writing->ingest.rejected = 0;
    writing->elements = 0;
    writing->bad = 0;
}

/* One walk over the body. claim NULL: it only counts. False: it is no batch, and issues say why. */
static bool walk(struct writing *writing, struct issue_list *issues)
{
    struct run_batch batch;
    struct slice element;
    uint32_t index = 0;
    walk_reset(writing);
    run_batch_open(&batch, writing->ingest.request->body);
    enum run_batch_result result = run_batch_next(&batch, &element, &index, issues);
    while (result == RUN_BATCH_ELEMENT) { /* bound: the body */
        on_element(writing, &batch, element, index);
        result = run_batch_next(&batch, &element, &index, issues);
    }
    writing->form = batch.shape == RUN_BATCH_OBJECT ? RUNS_FORM_OBJECT : RUNS_FORM_ARRAY;
    return result == RUN_BATCH_END;
}

static enum http_verdict refuse_batch(struct writing *writing)
{
    struct buf body;
    runs_answer_begin(writing->side, &body);
    buf_put_text(&body, "{\"detail\":[");
    buf_put_slice(&body, (struct slice){writing->detail.data, writing->detail.bytes});
    buf_put_text(&body, "]}");
    return refuse(writing, 422, writing->elements, REJECT_SCHEMA, &body);
}

/* Nothing of it is for the log: it is empty, or every element has a negative count. */
static enum http_verdict answer_empty(struct writing *writing)
{
    struct counters *counters = &writing->shard->counters;
    struct runs_batch_sums sums = {
        .form = writing->form,
        .total = writing->elements,
        .errors = {writing->errors.data, writing->errors.bytes},
    };
    counters->requests_received++;
    counters->requests_accepted++;
    counters->received += writing->elements;
    counters->rejected[REJECT_SCHEMA] += writing->elements;
    struct buf body;
    runs_answer_begin(writing->side, &body);
    unsigned status = runs_body_batch(&body, &sums);
    runs_answer(writing->shard, writing->ingest.request->conn, status, &body);
    return HTTP_ANSWERED;
}

static enum http_verdict after_walk(struct writing *writing, bool is_batch,
                                    const struct issue_list *issues)
{
    struct ingest *ingest = &writing->ingest;
    if (!is_batch) {
        return refuse_shape(writing, issues);
    }
    if (writing->bad != 0) {
        return refuse_batch(writing);
    }
    if (ingest->is_out_of_room) {
        return ingest_no_room(ingest);
    }
    if (ingest->header.record_count == 0) {
        return answer_empty(writing);
    }
    return commit(writing, note_batch(writing));
}

static enum http_verdict write_batch(struct writing *writing)
{
    struct ingest *ingest = &writing->ingest;
    struct issue_list issues = {.count = 0};
    struct receipt receipt;
    uint8_t errors[OUTCOME_ERRORS_BYTES_MAX];
    struct buf text;
    ingest->form = FORM_ARRAY;
    if (ingest->key.bytes != 0) {
        bool is_batch = walk(writing, &issues);
        if (!is_batch || writing->bad != 0 || ingest->header.record_count == 0) {
            return after_walk(writing, is_batch, &issues);
        }
        receipt_begin(writing, &receipt, ingest->header.record_count);
        buf_init(&text, errors, sizeof errors);
        buf_put_char(&text, '[');
        buf_put_slice(&text, (struct slice){writing->errors.data, writing->errors.bytes});
        buf_put_char(&text, ']');
        receipt.errors = (struct slice){text.data, text.bytes > 2 ? text.bytes : 0};
    }
    ingest_open_claim(ingest);
    if (ingest->claim == NULL) {
        return ingest_no_room(ingest);
    }
    bool is_batch = walk(writing, &issues);
    return after_walk(writing, is_batch, &issues);
}

/* ---- the door ---- */

static enum run_command command_of(const struct route *route)
{
    switch ((int)route->id) {
    case ROUTE_RUN:
        return RUN_UPDATE;
    case ROUTE_RUN_COMMIT:
        return RUN_ASSOCIATE;
    case ROUTE_RUN_EVENTS:
        return RUN_EVENT;
    default:
        ASSERT(route->id == ROUTE_RUNS || route->id == ROUTE_RUNS_BATCH);
        return RUN_CREATE;
    }
}

/* False: what is too long, or is no percent-encoding, stands as it came, and no run has it. */
static bool read_event_id(struct writing *writing, const struct route *route)
{
    const struct http_request *request = writing->ingest.request;
    struct slice path = http_span_slice(request->head_base, request->head->path);
    struct slice raw = route_parameter(route, path);
    size_t bytes = 0;
    int r = query_string_decode_segment(raw, writing->event_id_text, sizeof writing->event_id_text,
                                        &bytes);
    writing->event_id = r < 0 ? raw : (struct slice){writing->event_id_text, bytes};
    return r == 0 && bytes != 0 && memchr(writing->event_id_text, 0, bytes) == NULL;
}

static enum http_verdict begin(struct writing *writing, const struct route *route)
{
    struct ingest *ingest = &writing->ingest;
    const char *why = ingest_read_key(ingest);
    if (why != NULL) {
        return ingest_refuse(ingest, 422, why);
    }
    int admitted = ingest_admit(ingest);
    if (admitted != 0) {
        return (enum http_verdict)admitted;
    }
    uint64_t waiting = writing->side->tail - writing->side->head;
    if (waiting + pending_count(&writing->shard->pending) >= writing->side->capacity) {
        return ingest_shed(ingest, SHED_QUEUE_FULL, 429,
                           "Too many requests are waiting for the database");
    }
    return route->id == ROUTE_RUNS_BATCH ? write_batch(writing) : write_single(writing);
}

enum http_verdict runs_write_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request)
{
    ASSERT(request->deferred_count == 0);
    struct writing writing;
    writing.shard = shard;
    writing.side = shard->runs;
    writing.command = command_of(route);
    writing.receipt = NULL;
    writing.form = 0;
    writing.ingest = (struct ingest){
        .shard = shard,
        .request = request,
        .kind = RECORD_RUN,
        .kinds = 1u << RECORD_RUN,
        .real_ns = shard->real_ns + (int64_t)(request->now_ns - shard->now_ns),
    };
    writing.event_id = (struct slice){0};
    writing.is_no_run = writing.command != RUN_CREATE && !read_event_id(&writing, route);
    enum http_verdict verdict = begin(&writing, route);
    if (request->body.bytes > LARGE_BYTES) {
        mem_release_pages(writing.side->memory, writing.side->memory_bytes);
    }
    return verdict;
}
