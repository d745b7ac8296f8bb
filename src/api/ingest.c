/*
 * ingest: from a complete request to one frame in the ring.
 *
 * Happy path: admit -> claim all free room -> for each element of the body encode a record into the
 * claim -> commit -> remember in the FIFO -> HTTP_DEFERRED. Nothing is visible to the writer before
 * the commit, so every refusal is simply no commit.
 *
 * A request with an Idempotency-Key is walked twice: its first record carries the receipt (counts
 * and errors of the whole), which is known only at the end of a walk.
 */
#include "api/ingest.h"

#include "api/answer.h"
#include "api/ingest_request.h"
#include "api/replicate.h"
#include "api/shard.h"
#include "core/clock.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#define XXH_STATIC_LINKING_ONLY
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#include <xxhash.h>
#pragma GCC diagnostic pop

#define ERRORS_LISTED_MAX     100u
#define ERRORS_BYTES_MAX      (64u * 1024u)
#define IDEMPOTENCY_KEY_BYTES 255u
#define DEDUP_KEY_BYTES_MAX   512u
#define META_BYTES_MAX                                                                             \
    (RECEIPT_FIXED_BYTES + 16u + IDEMPOTENCY_KEY_BYTES + OUTCOME_ERRORS_BYTES_MAX +                \
     DEDUP_KEY_BYTES_MAX)

/* Two looks at the clock cost about as much as 100 bytes of JSON; one body in so many pays them. */
#define PARSE_TIMED 16u

/* Scratch: answers | listed errors | flat issues for a 422 | meta. */
#define SCRATCH_ERRORS INGEST_SCRATCH_ANSWER
#define SCRATCH_FLAT   (SCRATCH_ERRORS + ERRORS_BYTES_MAX)
#define SCRATCH_META   (SCRATCH_FLAT + ERRORS_BYTES_MAX)
_Static_assert(SCRATCH_META + META_BYTES_MAX < SHARD_SCRATCH_BYTES, "the scratch regions fit");

uint64_t ingest_retry_after_s(struct shard *shard)
{
    uint64_t backlog = spsc_used_bytes(&shard->port->submit);
    /* relaxed: a statistic. */
    uint64_t rate =
        atomic_load_explicit(&shard->set->status->drain_bytes_per_s, memory_order_relaxed);
    uint64_t seconds = rate == 0 ? 1 : backlog / rate;
    /* Jitter by connection noise, so that a crowd does not come back in one wave. */
    return u64_min(1 + seconds + (shard->now_ns >> 10) % 2, 300);
}

enum http_verdict ingest_answer(struct ingest *ingest, const struct http_answer *answer)
{
    /* -ESTALE and -ENOMEM: the connection is gone or going; there is nobody to tell. */
    (void)server_answer(ingest->shard->server, ingest->request->conn, answer);
    return HTTP_ANSWERED;
}

enum http_verdict ingest_shed(struct ingest *ingest, enum shed_cause cause, unsigned status,
                              const char *text)
{
    struct shard *shard = ingest->shard;
    struct buf body;
    struct buf extra;
    buf_init(&body, shard->scratch, 4096);
    buf_init(&extra, shard->scratch + 4096, 256);
    buf_printf(&extra, "Retry-After: %u\r\n", (unsigned)ingest_retry_after_s(shard));
    shard->counters.requests_received++;
    shard->counters.requests_shed[cause]++;
    shard->counters.received += ingest->header.record_count;
    shard->counters.shed[cause] += ingest->header.record_count;
    struct http_answer answer =
        answer_detail(&body, status, text, (struct slice){extra.data, extra.bytes});
    return ingest_answer(ingest, &answer);
}

/* Refusals that need no look at the body. 0: go on; else the verdict. */
int ingest_admit(struct ingest *ingest)
{
    struct shard *shard = ingest->shard;
    /* relaxed: a state that is one pass old refuses or admits one pass late; nothing is lost either
     * way. */
    int state = atomic_load_explicit(&shard->set->status->state, memory_order_relaxed);
    if (LIKELY(state == STORE_OK && !shard->throttle.is_enabled &&
               !pending_is_full(&shard->pending))) {
        return 0;
    }
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    if (state == STORE_READ_ONLY) {
        return (int)ingest_shed(ingest, SHED_READ_ONLY, 503,
                                "The store cannot be written to; see /healthcheck");
    }
    if (state == STORE_STOPPING) {
        return (int)ingest_shed(ingest, SHED_STOPPING, 503, "The server is stopping");
    }
    if (state == STORE_SHED) {
        return (int)ingest_shed(ingest, SHED_SPACE_LOW, 429, "The store is running out of space");
    }
    if (pending_is_full(&shard->pending)) {
        return (int)ingest_shed(ingest, SHED_QUEUE_FULL, 429,
                                "Too many requests are waiting for the disk");
    }
    if (!throttle_admit(&shard->throttle, shard->pending.record_count)) {
        return (int)ingest_shed(ingest, SHED_THROTTLED, 429, "Throttled: the queue is filling up");
    }
    return 0;
}

enum http_verdict ingest_refuse(struct ingest *ingest, unsigned status, const char *text)
{
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    struct buf body;
    buf_init(&body, ingest->shard->scratch, 4096);
    ingest->shard->counters.requests_received++;
    ingest->shard->counters.requests_rejected++;
    struct http_answer answer = answer_detail(&body, status, text, (struct slice){0});
    return ingest_answer(ingest, &answer);
}

/* ---- headers
 * ------------------------------------------------------------------------------------------------------
 */

static bool media_type_is(struct slice value, const char *type)
{
    size_t bytes = strlen(type);
    if (value.bytes < bytes || !slice_equal_nocase((struct slice){value.data, bytes},
                                                   (struct slice){(const uint8_t *)type, bytes})) {
        return false;
    }
    return value.bytes == bytes || value.data[bytes] == ';' || value.data[bytes] == ' ' ||
           value.data[bytes] == '\t';
}

static enum body_shape shape_of_media_type(struct slice value)
{
    bool is_ndjson = media_type_is(value, "application/x-ndjson") ||
                     media_type_is(value, "application/ndjson") ||
                     media_type_is(value, "application/jsonl") ||
                     media_type_is(value, "application/stream+json");
    return is_ndjson ? SHAPE_NDJSON : SHAPE_DETECT;
}

static bool key_is_valid(struct slice key)
{
    if (key.bytes == 0 || key.bytes > IDEMPOTENCY_KEY_BYTES) {
        return false;
    }
    for (size_t i = 0; i < key.bytes; i++) {
        if (key.data[i] < 0x21 || key.data[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

const char *ingest_read_key(struct ingest *ingest)
{
    const struct http_head *head = ingest->request->head;
    if (head->idempotency_key.offset == 0) {
        return NULL;
    }
    ingest->key = http_span_slice(ingest->request->head_base, head->idempotency_key);
    return key_is_valid(ingest->key) ? NULL
                                     : "Idempotency-Key must be 1 to 255 visible ASCII characters";
}

/* Reads what the head asks for. NULL, or the text of a refusal with its status. */
static const char *ingest_read_head(struct ingest *ingest, enum body_shape *shape, unsigned *status)
{
    const struct http_head *head = ingest->request->head;
    const uint8_t *base = ingest->request->head_base;
    ingest->wants_memory_ack = ingest->shard->config->ack_memory;
    if (head->content_type.bytes != 0) {
        struct slice type = http_span_slice(base, head->content_type);
        *shape = shape_of_media_type(type);
        if (media_type_is(type, "application/x-protobuf")) {
            *status = 415;
            return "OTLP (application/x-protobuf) is not served on this path yet; send JSON or "
                   "application/x-ndjson";
        }
        if (media_type_is(type, "multipart/form-data")) {
            *status = 415;
            return "This route takes application/json or application/x-ndjson";
        }
    }
    if (head->sluice_ack.bytes != 0) {
        struct slice ack = http_span_slice(base, head->sluice_ack);
        ingest->wants_memory_ack = slice_equal_nocase(ack, SLICE_LITERAL("memory"));
        if (!ingest->wants_memory_ack && !slice_equal_nocase(ack, SLICE_LITERAL("durable"))) {
            *status = 400;
            return "X-Sluice-Ack must be durable or memory";
        }
    }
    *status = 422;
    return ingest_read_key(ingest);
}

/* ---- records
 * ------------------------------------------------------------------------------------------------------
 */

void ingest_open_claim(struct ingest *ingest)
{
    uint64_t least = sizeof ingest->header + record_padded_bytes(0, ingest->request->body.bytes) +
                     (ingest->key.bytes == 0 ? 0 : META_BYTES_MAX);
    ingest->claim = spsc_claim_most(&ingest->shard->port->submit, least, &ingest->room);
    if (ingest->claim == NULL && least > ingest->shard->port->submit.capacity - SPSC_FRAME_ALIGN) {
        ingest->room = ingest->shard->port->submit.capacity; /* not even an empty ring would do */
    }
    ingest->used = sizeof ingest->header;
}

/* A key of any length becomes one of at most DEDUP_KEY_BYTES_MAX: a long one is known by its
 * digest. */
static struct slice dedup_key_bounded(struct slice key, uint8_t *digest)
{
    if (key.bytes <= DEDUP_KEY_BYTES_MAX) {
        return key;
    }
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(key.data, key.bytes));
    memcpy(digest, canonical.digest, sizeof canonical.digest);
    return (struct slice){digest, sizeof canonical.digest};
}

/* Builds the record's meta in scratch: the receipt on the first record of a keyed request, the
 * record's own key. */
static struct slice ingest_meta(struct ingest *ingest, const struct body_record *from,
                                const struct receipt *receipt)
{
    uint8_t *meta = ingest->shard->scratch + SCRATCH_META;
    size_t bytes = 0;
    if (receipt != NULL && ingest->header.record_count == 0) {
        bytes += meta_receipt_encode(meta, receipt);
    }
    if (from->dedup_key.bytes != 0) {
        uint8_t digest[16];
        bytes += meta_dedup_key_encode(meta + bytes, dedup_key_bounded(from->dedup_key, digest));
    }
    return (struct slice){meta, bytes};
}

static void ingest_add(struct ingest *ingest, const struct body_record *from,
                       const struct receipt *receipt)
{
    struct record record = {
        .kind = ingest->kind,
        .severity = from->severity,
        .event_time_ns = from->event_time_ns,
        .id = ulid_next(&ingest->shard->ulids, ingest->real_ns),
        .payload = from->payload,
    };
    if (UNLIKELY(receipt != NULL || from->dedup_key.bytes != 0)) {
        record.meta = ingest_meta(ingest, from, receipt);
        ingest->header.flags |= SUBMIT_KEYED;
    }
    if (UNLIKELY(record_padded_bytes(record.meta.bytes, record.payload.bytes) >
                 ingest->room - ingest->used)) {
        ingest->is_out_of_room = true;
        return;
    }
    ingest->used += record_encode(ingest->claim + ingest->used, &record);
    struct submit_header *header = &ingest->header;
    if (header->record_count == 0) {
        ingest->first_id = record.id;
        header->time_min_ns = header->time_max_ns = record.event_time_ns;
    } else if (record.event_time_ns < header->time_min_ns) {
        header->time_min_ns = record.event_time_ns;
    } else if (record.event_time_ns > header->time_max_ns) {
        header->time_max_ns = record.event_time_ns;
    }
    header->record_count++;
}

void ingest_list_error(struct ingest *ingest, const struct body_record *record,
                       const struct issue_list *issues)
{
    ingest->rejected++;
    if (ingest->listed == ERRORS_LISTED_MAX) {
        return;
    }
    size_t errors_before = ingest->errors.bytes;
    size_t flat_before = ingest->flat.bytes;
    buf_printf(&ingest->errors, "%s{\"index\":%u,\"detail\":", ingest->listed == 0 ? "" : ",",
               record->index);
    issue_list_write(&ingest->errors, "body", issues);
    buf_put_char(&ingest->errors, '}');
    for (uint32_t i = 0; i < issues->count; i++) {
        if (flat_before != 0 || i != 0) {
            buf_put_char(&ingest->flat, ',');
        }
        issue_write(&ingest->flat, "body", &issues->items[i]);
    }
    if (ingest->errors.is_truncated || ingest->flat.is_truncated) {
        /* An error that does not fit whole is counted, not listed. */
        ingest->errors.bytes = errors_before;
        ingest->flat.bytes = flat_before;
        ingest->errors.is_truncated = ingest->flat.is_truncated = false;
        ingest->listed = ERRORS_LISTED_MAX;
        return;
    }
    ingest->listed++;
}

void ingest_reset(struct ingest *ingest)
{
    uint8_t *scratch = ingest->shard->scratch;
    /* A receipt's errors must fit a record's meta and an outcome, so a keyed request lists fewer.
     */
    size_t errors_max = ingest->key.bytes == 0 ? ERRORS_BYTES_MAX : OUTCOME_ERRORS_BYTES_MAX - 2;
    buf_init(&ingest->errors, scratch + SCRATCH_ERRORS, errors_max);
    buf_init(&ingest->flat, scratch + SCRATCH_FLAT, ERRORS_BYTES_MAX);
    ingest->header = (struct submit_header){0};
    ingest->rejected = 0;
    ingest->listed = 0;
}

/* One walk over the body. receipt NULL: plain, or the counting walk of a keyed request (claim
 * NULL). */
static enum body_result ingest_walk(struct ingest *ingest, enum body_shape shape,
                                    const struct receipt *receipt, struct issue_list *issues)
{
    struct body *body = ingest->shard->body;
    struct slice bytes = ingest->request->body;
    body_open(body, ingest->schema, shape, bytes.data, bytes.bytes, ingest->real_ns);
    ingest_reset(ingest);
    /* Bounded by the body: every step takes at least one byte of it. */
    for (;;) {
        struct body_record record;
        enum body_result result = body_next(body, &record, issues);
        if (LIKELY(result == BODY_RECORD)) {
            if (ingest->claim == NULL) {
                ingest->header.record_count++;
            } else {
                ingest_add(ingest, &record, receipt);
                if (UNLIKELY(ingest->is_out_of_room)) {
                    return BODY_END;
                }
            }
        } else if (result == BODY_REJECT) {
            ingest_list_error(ingest, &record, issues);
        } else {
            ingest->form = (enum submit_form)body_shape(body);
            return result;
        }
    }
}

/* ---- outcomes of a walk
 * ------------------------------------------------------------------------------------------- */

/* 422 with {"detail":[...]} of what the walk found. */
enum http_verdict ingest_reject(struct ingest *ingest, const struct issue_list *invalid)
{
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    struct shard *shard = ingest->shard;
    struct buf body;
    buf_init(&body, shard->scratch, SCRATCH_ERRORS);
    buf_put_text(&body, "{\"detail\":");
    struct counters *counters = &shard->counters;
    if (invalid != NULL) {
        issue_list_write(&body, "body", invalid);
        /* Elements before the damage were records, too; the element that broke the body counts as
         * one. */
        uint64_t lost = (uint64_t)ingest->header.record_count + 1;
        counters->received += lost + ingest->rejected;
        counters->rejected[REJECT_JSON] += lost;
    } else {
        buf_put_char(&body, '[');
        buf_put_slice(&body, (struct slice){ingest->flat.data, ingest->flat.bytes});
        buf_put_char(&body, ']');
        counters->received += ingest->rejected;
    }
    buf_put_char(&body, '}');
    counters->rejected[REJECT_SCHEMA] += ingest->rejected;
    counters->requests_received++;
    counters->requests_rejected++;
    struct http_answer answer = {
        .status = 422, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    return ingest_answer(ingest, &answer);
}

/* An empty list: nothing in it was valid. */
static enum http_verdict ingest_empty(struct ingest *ingest)
{
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    ingest->shard->counters.requests_received++;
    ingest->shard->counters.requests_rejected++;
    struct http_answer answer = {
        .status = 422,
        .content_type = ANSWER_JSON,
        .body = SLICE_LITERAL(
            "{\"detail\":[{\"type\":\"too_short\",\"loc\":[\"body\"],\"msg\":\"List should have at "
            "least 1 "
            "item after validation, not 0\",\"input\":[],\"ctx\":{\"field_type\":\"List\","
            "\"min_length\":1,\"actual_length\":0}}]}"),
    };
    return ingest_answer(ingest, &answer);
}

enum http_verdict ingest_no_room(struct ingest *ingest)
{
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    /* Judged by the claim, not by what the ring looks like now: the writer may have emptied it
     * meanwhile. */
    if (ingest->room >= ingest->shard->port->submit.capacity - SPSC_FRAME_ALIGN) {
        return ingest_refuse(ingest, 413,
                             "The records of this request need more room than the queue has; send "
                             "fewer per request");
    }
    return ingest_shed(ingest, SHED_QUEUE_FULL, 429, "The queue to the disk is full");
}

/* Copies the listed errors to where they live until the answer; without room they are counted only.
 */
static void ingest_keep_errors(struct ingest *ingest, struct pending *pending)
{
    pending->errors = NULL;
    pending->errors_bytes = 0;
    if (ingest->errors.bytes == 0 ||
        arena_used_bytes(ingest->shard->texts) > SHARD_ERROR_TEXTS_BYTES) {
        return;
    }
    size_t bytes = ingest->errors.bytes + 2;
    size_t capacity = 0;
    uint8_t *text = arena_take(ingest->shard->texts, bytes, &capacity);
    if (text == NULL) {
        return;
    }
    text[0] = '[';
    memcpy(text + 1, ingest->errors.data, ingest->errors.bytes);
    text[bytes - 1] = ']';
    pending->errors = text;
    pending->errors_bytes = (uint32_t)bytes;
}

static enum http_verdict ingest_answer_memory(struct ingest *ingest, const struct pending *pending)
{
    struct buf body;
    buf_init(&body, ingest->shard->scratch, SCRATCH_ERRORS);
    if (ingest->form == FORM_OBJECT) {
        answer_object_body(&body, &pending->id, 0);
    } else {
        answer_list_body(&body,
                         &(struct answer_list){.accepted = pending->record_count,
                                               .rejected = pending->rejected,
                                               .errors = {pending->errors, pending->errors_bytes}});
    }
    struct http_answer answer = {.status = 202,
                                 .content_type = ANSWER_JSON,
                                 .extra = SLICE_LITERAL("X-Sluice-Ack: memory\r\n"),
                                 .body = {body.data, body.bytes}};
    ingest->shard->counters.requests_memory++;
    ingest->shard->counters.requests_accepted++;
    return ingest_answer(ingest, &answer);
}

/* Ends the claim and remembers who waits for it. */
enum http_verdict ingest_commit(struct ingest *ingest)
{
    struct shard *shard = ingest->shard;
    struct submit_header *header = &ingest->header;
    header->records_bytes = (uint32_t)(ingest->used - sizeof *header);
    header->kinds = ingest->kinds;
    header->submitted_at_ns = ingest->request->now_ns;
    memcpy(ingest->claim, header, sizeof *header);

    const struct http_head *head = ingest->request->head;
    struct pending *pending = pending_push(&shard->pending, header->record_count);
    pending->end = spsc_commit(&shard->port->submit, SUBMIT_REQUEST, ingest->used);
    pending->received_at_ns = ingest->request->now_ns;
    pending->conn = ingest->request->conn;
    pending->rejected = ingest->rejected;
    pending->form = (uint8_t)ingest->form;
    pending->flags = 0;
    pending->id = ingest->first_id;
    pending->outcome = NULL;
    pending->runs = NULL;
    if (UNLIKELY((header->flags & (SUBMIT_KEYED | SUBMIT_ORIGIN)) != 0)) {
        bool is_replica = (header->flags & SUBMIT_ORIGIN) != 0;
        pending->flags = is_replica ? PENDING_KEYED | PENDING_REPLICA : PENDING_KEYED;
    }
    if (UNLIKELY(head->version_minor == 0 || !head->is_keep_alive || head->origin.bytes != 0)) {
        pending->flags |= PENDING_FORMATTED;
    }
    ingest_keep_errors(ingest, pending);

    shard->has_committed = true;
    shard->counters.requests_received++;
    shard->counters.received += (uint64_t)header->record_count + ingest->rejected;
    shard->counters.rejected[REJECT_SCHEMA] += ingest->rejected;
    shard->counters.body_bytes += ingest->request->body.bytes;
    if (UNLIKELY(ingest->wants_memory_ack)) {
        pending->flags |= PENDING_ANSWERED;
        return ingest_answer_memory(ingest, pending);
    }
    return HTTP_DEFERRED;
}

/* ---- the two kinds of requests
 * ------------------------------------------------------------------------------------ */

static enum http_verdict ingest_after_walk(struct ingest *ingest, enum body_result result,
                                           const struct issue_list *issues)
{
    if (UNLIKELY(result == BODY_INVALID)) {
        return ingest_reject(ingest, issues);
    }
    if (UNLIKELY(result == BODY_OTLP)) {
        return ingest_refuse(ingest, 415,
                             "OTLP (resourceLogs, resourceMetrics) is not served on this path yet; "
                             "send Sluice's own records");
    }
    if (UNLIKELY(ingest->is_out_of_room)) {
        return ingest_no_room(ingest);
    }
    if (UNLIKELY(ingest->header.record_count == 0)) {
        return ingest->rejected != 0 ? ingest_reject(ingest, NULL) : ingest_empty(ingest);
    }
    return ingest_commit(ingest);
}

static enum http_verdict ingest_plain(struct ingest *ingest, enum body_shape shape)
{
    struct issue_list issues;
    ingest_open_claim(ingest);
    if (UNLIKELY(ingest->claim == NULL)) {
        return ingest_no_room(ingest);
    }
    bool is_timed = ingest->shard->parse_count++ % PARSE_TIMED == 0;
    uint64_t start_ns = is_timed ? clock_mono_ns() : 0;
    enum body_result result = ingest_walk(ingest, shape, NULL, &issues);
    if (UNLIKELY(is_timed)) {
        hist_add(&ingest->shard->parse_latency, clock_mono_ns() - start_ns);
    }
    return ingest_after_walk(ingest, result, &issues);
}

void ingest_digest(struct ingest *ingest)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical,
                             XXH3_128bits(ingest->request->body.data, ingest->request->body.bytes));
    memcpy(ingest->digest, canonical.digest, sizeof ingest->digest);
}

static enum http_verdict ingest_keyed(struct ingest *ingest, enum body_shape shape)
{
    struct issue_list issues;
    ingest_digest(ingest);
    enum body_result result = ingest_walk(ingest, shape, NULL, &issues);
    if (result != BODY_END || ingest->header.record_count == 0) {
        return ingest_after_walk(ingest, result, &issues);
    }
    ingest_open_claim(ingest);
    if (ingest->claim == NULL) {
        return ingest_no_room(ingest);
    }
    uint8_t errors[OUTCOME_ERRORS_BYTES_MAX];
    struct receipt receipt = {
        .key = ingest->key,
        .form = (uint8_t)ingest->form,
        .accepted = ingest->header.record_count,
        .rejected = ingest->rejected,
    };
    memcpy(receipt.body_digest, ingest->digest, sizeof receipt.body_digest);
    if (ingest->errors.bytes != 0) {
        errors[0] = '[';
        memcpy(errors + 1, ingest->errors.data, ingest->errors.bytes);
        errors[ingest->errors.bytes + 1] = ']';
        receipt.errors = (struct slice){errors, ingest->errors.bytes + 2};
    }
    result = ingest_walk(ingest, shape, &receipt, &issues);
    return ingest_after_walk(ingest, result, &issues);
}

enum http_verdict ingest_on_request(struct shard *shard, const struct route *route,
                                    const struct http_request *request)
{
    if (UNLIKELY(route->id == ROUTE_REPLICATE)) {
        return replicate_on_request(shard, request);
    }
    struct ingest ingest;
    ingest.shard = shard;
    ingest.request = request;
    ingest.key = (struct slice){0};
    ingest.claim = NULL;
    ingest.is_out_of_room = false;
    ingest.header.record_count = 0;
    ingest.rejected = 0;
    /* The pass began a moment ago; its real time is good to the pass, which is what a receipt time
     * means. */
    ingest.real_ns = shard->real_ns + (int64_t)(request->now_ns - shard->now_ns);
    ingest.kind = route->id == ROUTE_LOGS      ? RECORD_LOG
                  : route->id == ROUTE_METRICS ? RECORD_METRIC
                                               : RECORD_EVENT;
    ingest.schema = route->id == ROUTE_LOGS      ? SCHEMA_LOG
                    : route->id == ROUTE_METRICS ? SCHEMA_METRIC
                                                 : SCHEMA_EVENT;

    ingest.kinds = 1u << ingest.kind;

    enum body_shape shape = SHAPE_DETECT;
    unsigned status = 0;
    const char *refusal = ingest_read_head(&ingest, &shape, &status);
    if (UNLIKELY(refusal != NULL)) {
        return ingest_refuse(&ingest, status, refusal);
    }
    /* A memory acknowledgement is an immediate answer, so nothing deferred may be in front of it.
     */
    if (UNLIKELY(ingest.wants_memory_ack && request->deferred_count != 0)) {
        return HTTP_LATER;
    }
    int admitted = ingest_admit(&ingest);
    if (UNLIKELY(admitted != 0)) {
        return (enum http_verdict)admitted;
    }
    if (UNLIKELY(ingest.key.bytes != 0)) {
        return ingest_keyed(&ingest, shape);
    }
    return ingest_plain(&ingest, shape);
}
