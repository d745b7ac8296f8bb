/*
 * runs_reads: the GET routes of agent runs. The shard judges the request and hands it to a query thread, which asks the database
 * (store/runs_read.h) with a connection of its own for as long as it answers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/answer.h"
#include "api/query_job.h"
#include "api/query_string.h"
#include "api/route.h"
#include "api/runs_query.h"
#include "api/runs_side.h"
#include "api/shard.h"
#include "core/clock.h"
#include "core/logline.h"

/* A page that is larger than this is refused: it lies in memory as a whole. */
#define ANSWER_BYTES_MAX MIB(64)

_Static_assert(RUNS_READERS_MAX == QUERY_THREADS_MAX, "a reader for each query thread");
_Static_assert(RUNS_READ_URL_BYTES == RUN_URL_BYTES, "the model's URLs fit the reader");
_Static_assert(RUNS_QUERY_BYTES == QUERY_CALL_TEXT_MAX, "a query string fits a call");

/* ---- the query thread's half ---- */

struct runs_reader *runs_link_take(struct runs_link *link, unsigned *which)
{
    for (unsigned i = 0; i < link->reader_count; i++) {
        /* acquire: what its last user left in it is visible; pairs with the release in runs_link_give. */
        if (!atomic_exchange_explicit(&link->is_taken[i], true, memory_order_acquire)) {
            *which = i;
            return link->readers[i];
        }
    }
    return NULL;
}

void runs_link_give(struct runs_link *link, unsigned which)
{
    atomic_store_explicit(&link->is_taken[which], false, memory_order_release);
}

static bool on_put(void *context, struct slice piece)
{
    struct query_text *out = context;
    query_text_put(out, piece);
    return out->bytes <= ANSWER_BYTES_MAX;
}

unsigned runs_reads_text(struct query_text *out, unsigned status, struct slice text)
{
    /* Each byte may become an escape of six. */
    uint8_t memory[6 * (QUERY_CALL_TEXT_MAX + 64)];
    struct buf body;
    buf_init(&body, memory, sizeof memory);
    buf_put_text(&body, "{\"detail\":");
    buf_put_json_string(&body, text);
    buf_put_char(&body, '}');
    query_text_reset(out);
    query_text_put(out, (struct slice){body.data, body.bytes});
    return status;
}

static struct slice call_text(const struct query_call *call)
{
    return (struct slice){call->text, call->text_bytes};
}

static unsigned answer_not_found(const struct query_call *call, struct query_text *out)
{
    uint8_t memory[QUERY_CALL_TEXT_MAX + 32];
    struct buf text;
    buf_init(&text, memory, sizeof memory);
    buf_put_text(&text, "Run not found: ");
    buf_put_slice(&text, call_text(call));
    return runs_reads_text(out, 404, (struct slice){text.data, text.bytes});
}

unsigned runs_reads_failure(struct query_text *out, int code, const struct err *err)
{
    switch (code) {
    case -ECANCELED:
        return runs_reads_text(
            out, 413,
            SLICE_LITERAL("The answer would be larger than 64 MiB; ask for fewer "
                          "runs with limit"));
    case -EBUSY:
        return runs_reads_text(out, 503,
                               SLICE_LITERAL("The database is locked by somebody; ask again"));
    case -ETIMEDOUT:
        return runs_reads_text(out, 503, SLICE_LITERAL("The question took too long"));
    default:
        LOG(LOGLINE_ERROR, "runs_read", "%s", err->text[0] != 0 ? err->text : err_name(code));
        return runs_reads_text(out, 503,
                               SLICE_LITERAL("The database could not be read; the server's own log "
                                             "says why"));
    }
}

static int ask_url(struct runs_reader *reader, const struct query_call *call,
                   struct query_text *out, struct err *err)
{
    bool is_commit = call->order == ROUTE_RUN_COMMIT_URL;
    char repo[RUN_URL_BYTES];
    char hash[RUN_URL_BYTES];
    char url[RUN_URL_BYTES];
    uint8_t memory[6 * RUN_URL_BYTES + 64];
    struct buf body;
    int found = runs_git(reader, call_text(call), repo, hash, sizeof repo, err);
    if (found != 1) {
        return found;
    }
    struct slice repo_text = {(const uint8_t *)repo, strlen(repo)};
    struct slice hash_text = {(const uint8_t *)hash, strlen(hash)};
    size_t bytes =
        is_commit ? run_commit_url(url, repo_text, hash_text) : run_repo_url(url, repo_text);
    buf_init(&body, memory, sizeof memory);
    buf_put_text(&body, is_commit ? "{\"commit_url\":" : "{\"repo_url\":");
    if (bytes == 0) {
        buf_put_text(&body, "null");
    } else {
        buf_put_json_string(&body, (struct slice){(const uint8_t *)url, bytes});
    }
    buf_put_char(&body, '}');
    query_text_put(out, (struct slice){body.data, body.bytes});
    return 1;
}

static int ask_list(struct runs_reader *reader, const struct query_call *call,
                    struct query_text *out, struct err *err)
{
    uint8_t memory[RUNS_QUERY_BYTES];
    struct runs_filter filter;
    struct buf fault = {0};
    unsigned status = runs_query_parse(&filter, memory, call_text(call), &fault);
    ASSERT(status == 0); /* the shard has judged it */
    int r = runs_list(reader, &filter, on_put, out, err);
    return r < 0 ? r : 1;
}

static int ask_metrics(struct runs_reader *reader, struct query_text *out, struct err *err)
{
    char now[CLOCK_RFC3339_BYTES + 1];
    size_t bytes = clock_rfc3339(now, clock_real_ns(), 3);
    now[bytes] = 0;
    int r = runs_metrics(reader, now, on_put, out, err);
    return r < 0 ? r : 1;
}

static void put_health(struct buf *body, const struct runs_link *link, const char *mode)
{
    const struct runs_status *status = runs_status(link->runs);
    /* relaxed, all: gauges. */
    uint64_t applied = atomic_load_explicit(&status->applied_lsn, memory_order_relaxed);
    int64_t total = atomic_load_explicit(&status->total_runs, memory_order_relaxed);
    enum runs_fault fault =
        (enum runs_fault)atomic_load_explicit(&status->fault, memory_order_relaxed);
    buf_printf(body, "{\"status\":\"%s\",\"version\":\"%s\",\"db_path\":",
               fault == RUNS_FINE ? "ok" : "unavailable", SLUICE_VERSION);
    buf_put_json_string(body,
                        (struct slice){(const uint8_t *)link->db_path, strlen(link->db_path)});
    buf_printf(body, ",\"journal_mode\":\"%s\",\"synchronous\":\"FULL\",\"schema_version\":%d",
               mode, RUNS_SCHEMA_VERSION);
    buf_printf(body, ",\"total_runs\":%" PRId64 ",\"applied_lsn\":%" PRIu64, total, applied);
    if (fault != RUNS_FINE) {
        const char *why = runs_fault_text(fault);
        buf_put_text(body, ",\"detail\":");
        buf_put_json_string(body, (struct slice){(const uint8_t *)why, strlen(why)});
    }
    buf_put_char(body, '}');
}

static unsigned answer_health(struct runs_reader *reader, const struct query_call *call,
                              struct query_text *out)
{
    const struct runs_link *link = call->context;
    uint8_t memory[32u * 1024u];
    char mode[32];
    struct buf body;
    struct err err = {0};
    int r = runs_health(reader, mode, sizeof mode, &err);
    if (r < 0) {
        return runs_reads_failure(out, r, &err);
    }
    buf_init(&body, memory, sizeof memory);
    put_health(&body, link, mode);
    query_text_put(out, (struct slice){body.data, body.bytes});
    /* relaxed: a gauge; told in the body. */
    int fault = atomic_load_explicit(&runs_status(link->runs)->fault, memory_order_relaxed);
    return fault == RUNS_FINE ? 200 : 503;
}

/* 1: put; 0: no such run. */
static int ask(struct runs_reader *reader, const struct query_call *call, struct query_text *out,
               struct err *err)
{
    switch (call->order) {
    case ROUTE_RUNS:
        return ask_list(reader, call, out, err);
    case ROUTE_RUN:
        return runs_get(reader, call_text(call), on_put, out, err);
    case ROUTE_RUN_COMMIT_URL:
    case ROUTE_RUN_REPO_URL:
        return ask_url(reader, call, out, err);
    case ROUTE_RUNS_METADATA: {
        int r = runs_metadata(reader, on_put, out, err);
        return r < 0 ? r : 1;
    }
    default:
        ASSERT(call->order == ROUTE_PROMETHEUS);
        return ask_metrics(reader, out, err);
    }
}

static unsigned answer_with(struct runs_reader *reader, const struct query_call *call,
                            struct query_text *out)
{
    struct err err = {0};
    if (call->order == ROUTE_RUNS_HEALTH) {
        return answer_health(reader, call, out);
    }
    int r = ask(reader, call, out, &err);
    if (r < 0) {
        return runs_reads_failure(out, r, &err);
    }
    return r == 0 ? answer_not_found(call, out) : 200;
}

/* What is open is not what everybody else sees. */
static bool is_moved(const struct runs_link *link)
{
    /* relaxed: a gauge; who asks in the moment of the change gets either answer. */
    return atomic_load_explicit(&runs_status(link->runs)->fault, memory_order_relaxed) ==
           RUNS_MOVED;
}

static unsigned answer_moved(struct query_text *out)
{
    const char *why = runs_fault_text(RUNS_MOVED);
    return runs_reads_text(out, 503, (struct slice){(const uint8_t *)why, strlen(why)});
}

static unsigned on_call(const struct query_call *call, struct query_text *out)
{
    struct runs_link *link = (struct runs_link *)(uintptr_t)call->context;
    unsigned which = 0;
    struct runs_reader *reader = runs_link_take(link, &which);
    if (reader == NULL) {
        return runs_reads_text(out, 503, SLICE_LITERAL("The database is not open"));
    }
    unsigned status = is_moved(link) && call->order != ROUTE_RUNS_HEALTH
                          ? answer_moved(out)
                          : answer_with(reader, call, out);
    runs_link_give(link, which);
    return status;
}

/* ---- the shard's half ---- */

static enum http_verdict refuse(struct shard *shard, const struct http_request *request,
                                unsigned status, const struct buf *fault)
{
    struct http_answer answer = {
        .status = status, .content_type = ANSWER_JSON, .body = {fault->data, fault->bytes}};
    (void)server_answer(shard->server, request->conn, &answer);
    return HTTP_ANSWERED;
}

static void take_text(struct query_call *call, struct slice text)
{
    ASSERT(text.bytes <= sizeof call->text);
    if (text.bytes != 0) {
        memcpy(call->text, text.data, text.bytes);
    }
    call->text_bytes = (uint32_t)text.bytes;
}

static enum http_verdict ask_for_list(struct shard *shard, const struct http_request *request,
                                      struct query_call *call)
{
    uint8_t memory[RUNS_QUERY_BYTES];
    struct slice query = http_span_slice(request->head_base, request->head->query);
    struct runs_filter filter;
    struct buf fault;
    buf_init(&fault, shard->scratch, RUNS_QUERY_FAULT_BYTES);
    unsigned status = runs_query_parse(&filter, memory, query, &fault);
    if (status != 0) {
        return refuse(shard, request, status, &fault);
    }
    take_text(call, query);
    return query_on_call(shard, request, call);
}

/* An escape that is none stands for itself: there is no such run, which the answer says with the bytes as they came. */
static void take_event_id(struct query_call *call, const struct route *route,
                          const struct http_request *request)
{
    struct slice path = http_span_slice(request->head_base, request->head->path);
    struct slice raw = route_parameter(route, path);
    size_t bytes = 0;
    if (query_string_decode_segment(raw, call->text, sizeof call->text, &bytes) < 0) {
        take_text(call, raw);
        return;
    }
    call->text_bytes = (uint32_t)bytes;
}

enum http_verdict runs_reads_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request)
{
    struct query_call call = {
        .answer = on_call, .context = shard->set->runs, .order = (int)route->id};
    if (route->id == ROUTE_RUNS) {
        return ask_for_list(shard, request, &call);
    }
    if (route->id == ROUTE_RUN || route->id == ROUTE_RUN_COMMIT_URL ||
        route->id == ROUTE_RUN_REPO_URL) {
        take_event_id(&call, route, request);
    }
    return query_on_call(shard, request, &call);
}
