/*
 * query_request: from a request to a job: what GET /v1/logs|metrics|events and GET /v1/tail ask
 * for, and whether it can be had. The shard's thread. Everything that can be said at once (422, 426,
 * 503) is; a page is answered by the worker's bytes, lines begin to stream at once (and HEAD ends
 * there), a tail is upgraded at once.
 */
#include "api/query_pool.h"

#include <string.h>

#include "api/answer.h"
#include "api/query_side.h"
#include "api/shard.h"
#include "api/tail.h"

#define NDJSON "application/x-ndjson"

static enum http_verdict query_refuse(struct shard *shard, const struct http_request *request,
                                      unsigned status, const char *text, struct slice extra)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    struct http_answer answer = answer_detail(&body, status, text, extra);
    (void)server_answer(shard->server, request->conn, &answer);
    QUERY_COUNT(shard->query, refused, 1);
    return HTTP_ANSWERED;
}

/* Does Accept name NDJSON? Parameters (q=...) do not count. */
static bool accepts_lines(struct slice accept)
{
    size_t at = 0;
    while (at < accept.bytes) {
        const uint8_t *comma = memchr(accept.data + at, ',', accept.bytes - at);
        size_t end = comma == NULL ? accept.bytes : (size_t)(comma - accept.data);
        size_t from = at;
        while (from < end && (accept.data[from] == ' ' || accept.data[from] == '\t')) {
            from++;
        }
        size_t bytes = 0;
        while (from + bytes < end && accept.data[from + bytes] != ';' &&
               accept.data[from + bytes] != ' ') {
            bytes++;
        }
        if (slice_equal_nocase((struct slice){accept.data + from, bytes}, SLICE_LITERAL(NDJSON))) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

static enum query_form form_of(const struct route *route, const struct http_request *request)
{
    if (route->id == ROUTE_TAIL) {
        return QUERY_TAIL;
    }
    return accepts_lines(http_span_slice(request->head_base, request->head->accept)) ? QUERY_LINES
                                                                                     : QUERY_PAGE;
}

static enum http_verdict query_start_page(struct shard *shard, struct query_job *job)
{
    query_side_hand(shard->query, job, SLOT_WAITING);
    return HTTP_DEFERRED_ALONE;
}

static enum http_verdict query_start_lines(struct shard *shard, struct query_job *job,
                                           const struct http_request *request)
{
    struct http_answer answer = {.status = 200, .content_type = NDJSON};
    /* -ENODATA: HEAD, all is said. -ESTALE, -ENOMEM: nobody is there. */
    if (server_stream_begin(shard->server, request->conn, &answer) == 0) {
        query_side_hand(shard->query, job, SLOT_STREAMING);
    }
    return HTTP_ANSWERED;
}

static enum http_verdict query_start_tail(struct shard *shard, struct query_job *job,
                                          const struct http_request *request)
{
    struct http_fault fault = {0};
    struct buf response;
    buf_init(&response, shard->scratch, 4096);
    if (websocket_accept(request->head, request->head_base, (struct slice){0}, &response, &fault) <
        0) {
        return query_refuse(shard, request, fault.status, fault.text,
                            fault.status == 426 ? SLICE_LITERAL(WEBSOCKET_REQUIRED_FIELDS)
                                                : (struct slice){0});
    }
    if (!tail_conn_open(job, request->now_ns)) {
        return query_refuse(shard, request, 503, "No memory for another tail",
                            SLICE_LITERAL("Retry-After: 1\r\n"));
    }
    /* From now on: read before the 101 goes out, so that what is accepted after it is shown. */
    job->start_lsn = job->params.from_lsn;
    if (job->start_lsn == 0) {
        job->start_lsn =
            atomic_load_explicit(&shard->query->status->durable_lsn, memory_order_acquire) +
            1; /* W1 (acquire end) */
    }
    if (server_upgrade(shard->server, request->conn,
                       (struct slice){response.data, response.bytes}) == 0) {
        query_side_hand(shard->query, job, SLOT_STREAMING);
    } else {
        tail_conn_free(job);
    }
    return HTTP_ANSWERED;
}

/* A slot to fill; NULL: it was refused. */
static struct query_job *query_place(struct shard *shard, const struct http_request *request)
{
    struct query_job *job = query_side_look(shard->query);
    if (job == NULL || shard->is_draining) {
        (void)query_refuse(shard, request, 503,
                           job == NULL ? "Too many queries and tails at one time"
                                       : "The server is stopping",
                           SLICE_LITERAL("Retry-After: 1\r\n"));
        return NULL;
    }
    return job;
}

enum http_verdict query_on_call(struct shard *shard, const struct http_request *request,
                                const struct query_call *call)
{
    ASSERT(request->deferred_count == 0);
    struct query_job *job = query_place(shard, request);
    if (job == NULL) {
        return HTTP_ANSWERED;
    }
    job->conn = request->conn;
    job->form = QUERY_CALL;
    job->call = *call;
    return query_start_page(shard, job);
}

bool query_on_deferred_call(struct shard *shard, struct conn_handle conn,
                            const struct query_call *call)
{
    struct query_job *job = query_side_look(shard->query);
    if (job == NULL) {
        QUERY_COUNT(shard->query, refused, 1);
        return false;
    }
    job->conn = conn;
    job->form = QUERY_CALL;
    job->call = *call;
    (void)query_start_page(shard, job);
    return true;
}

enum http_verdict query_on_request(struct shard *shard, const struct route *route,
                                   const struct http_request *request)
{
    ASSERT(request->deferred_count == 0);
    struct query_job *job = query_place(shard, request);
    if (job == NULL) {
        return HTTP_ANSWERED;
    }
    struct buf fault;
    buf_init(&fault, shard->scratch, QUERY_FAULT_BYTES_MAX);
    struct slice query = http_span_slice(request->head_base, request->head->query);
    if (query_params_parse(&job->params, route->id, query, shard->real_ns, &fault) < 0) {
        struct http_answer answer = {
            .status = 422, .content_type = ANSWER_JSON, .body = {fault.data, fault.bytes}};
        (void)server_answer(shard->server, request->conn, &answer);
        QUERY_COUNT(shard->query, refused, 1);
        return HTTP_ANSWERED;
    }
    job->conn = request->conn;
    job->deadline_ns = request->now_ns + shard->query->page_timeout_ns;
    job->form = form_of(route, request);
    switch (job->form) {
    case QUERY_PAGE:
        return query_start_page(shard, job);
    case QUERY_LINES:
        return query_start_lines(shard, job, request);
    case QUERY_TAIL:
    case QUERY_CALL: /* never of form_of */
        break;
    }
    return query_start_tail(shard, job, request);
}
