#include "api/ops.h"

#include "api/answer.h"
#include "api/metrics.h"
#include "api/openapi.h"
#include "api/query_pool.h"
#include "api/runs.h"
#include "api/shard.h"
#include "api/upstream_view.h"
#include "core/clock.h"

#include <stdatomic.h>

/* ---- health
 * -------------------------------------------------------------------------------------------------------
 */

#define HEALTH_FORWARDER_STALL_NS (30 * NS_S)

static bool is_stale(uint64_t heartbeat_ns, uint64_t now_ns, uint64_t threshold_ns)
{
    return heartbeat_ns != 0 && heartbeat_ns + threshold_ns < now_ns;
}

static uint64_t health_threshold_ns(struct shard_set *set)
{
    /* C1 (acquire end), as in shard.c. */
    return atomic_load_explicit(&set->policy, memory_order_acquire)->config.health_stall_ns;
}

/* True: it is late. Its commits are durable, so a slow disk alone may take it long. */
static bool health_of_forwarding(const struct shard_set *set, uint64_t now_ns)
{
    const struct upstream *upstream = set->upstream;
    return upstream != NULL && upstream->heartbeat_ns != NULL &&
           is_stale(upstream->heartbeat_ns(upstream->context), now_ns, HEALTH_FORWARDER_STALL_NS);
}

static const char *health_of_agents(struct shard_set *set, uint64_t now_ns)
{
    uint64_t threshold = health_threshold_ns(set);
    if (is_stale(store_writer_heartbeat_ns(set->store), now_ns, threshold)) {
        return "the writer does not answer";
    }
    if (is_stale(store_keeper_heartbeat_ns(set->store), now_ns, u64_max(threshold, 30 * NS_S))) {
        return "the keeper does not answer";
    }
    for (unsigned i = 0; i < set->count; i++) {
        /* relaxed: a heartbeat is compared with seconds. */
        uint64_t beat = atomic_load_explicit(&set->agents[i].heartbeat_ns, memory_order_relaxed);
        if (is_stale(beat, now_ns, threshold)) {
            return "a shard does not answer";
        }
    }
    if (health_of_forwarding(set, now_ns)) {
        return "the forwarder does not answer";
    }
    if (is_stale(query_pool_heartbeat_ns(set->query_pool), now_ns, threshold)) {
        return "a query thread does not answer";
    }
    return runs_trouble(set->runs, now_ns);
}

const char *health_reason(struct shard_set *set, uint64_t now_ns)
{
    const struct store_status *status = set->status;
    /* relaxed: a hint about a moment. */
    int state = atomic_load_explicit(&status->state, memory_order_relaxed);
    uint64_t oldest = atomic_load_explicit(&status->oldest_undurable_at_ns, memory_order_relaxed);
    if (state == STORE_READ_ONLY) {
        return "the store is read-only: no room or an I/O error on the log";
    }
    if (state == STORE_SHED) {
        return "the store is running out of room: new records are refused";
    }
    if (state == STORE_STOPPING || atomic_load_explicit(&set->is_stopping, memory_order_relaxed)) {
        return "the server is stopping";
    }
    if (is_stale(oldest, now_ns, health_threshold_ns(set))) {
        return "the oldest record waits too long for the disk";
    }
    if (upstream_view_imbalance(set->upstream) != 0) {
        return "the ledger of a sink does not balance: records are unaccounted for, see /v1/ledger";
    }
    if (atomic_load_explicit(&set->ledger_faults, memory_order_relaxed) != 0) {
        return "the ledger does not balance: records are unaccounted for";
    }
    return health_of_agents(set, now_ns);
}

static void health_answer(struct shard *shard, const struct http_request *request)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    const char *reason = health_reason(shard->set, request->now_ns);
    if (reason == NULL) {
        buf_put_text(&body, "{\"status\":\"ok\"}");
    } else {
        buf_printf(&body, "{\"status\":\"unavailable\",\"reason\":\"%s\"}", reason);
    }
    struct http_answer answer = {
        .status = reason == NULL ? 200 : 503,
        .content_type = ANSWER_JSON,
        .extra = reason == NULL ? (struct slice){0} : SLICE_LITERAL("Retry-After: 1\r\n"),
        .body = {body.data, body.bytes},
    };
    (void)server_answer(shard->server, request->conn, &answer);
}

/* ---- ledger
 * -------------------------------------------------------------------------------------------------------
 */

void ledger_sum(struct shard_set *set, struct counters *sum)
{
    *sum = (struct counters){0};
    for (unsigned i = 0; i < set->count; i++) {
        struct counters one;
        counters_read(&set->shards[i].published, &one);
        counters_add(sum, &one);
    }
}

int64_t ledger_imbalance(struct shard_set *set)
{
    struct counters sum;
    ledger_sum(set, &sum);
    int64_t imbalance = counters_imbalance(&sum);
    return imbalance != 0 ? imbalance : upstream_view_imbalance(set->upstream);
}

static void ledger_write_records(struct buf *body, const struct counters *sum)
{
    buf_printf(body,
               "\"records\":{\"received\":%llu,\"durable\":%llu,\"duplicate\":%llu,\"pending\":%"
               "llu,\"rejected\":{",
               (unsigned long long)sum->received, (unsigned long long)sum->durable,
               (unsigned long long)sum->duplicate, (unsigned long long)sum->pending);
    for (unsigned i = 0; i < REJECT_CAUSES; i++) {
        buf_printf(body, "%s\"%s\":%llu", i == 0 ? "" : ",", reject_cause_name(i),
                   (unsigned long long)sum->rejected[i]);
    }
    buf_put_text(body, "},\"shed\":{");
    for (unsigned i = 0; i < SHED_CAUSES; i++) {
        buf_printf(body, "%s\"%s\":%llu", i == 0 ? "" : ",", shed_cause_name(i),
                   (unsigned long long)sum->shed[i]);
    }
    buf_put_text(body, "}}");
}

static void ledger_write_refused(struct buf *body, const uint64_t *refused)
{
    for (unsigned i = 0; i < REFUSE_CAUSES; i++) {
        buf_printf(body, "%s\"%s\":%llu", i == 0 ? "" : ",", refuse_cause_name(i),
                   (unsigned long long)refused[i]);
    }
}

static void ledger_write_requests(struct buf *body, const struct counters *sum)
{
    buf_printf(
        body,
        "\"requests\":{\"received\":%llu,\"accepted\":%llu,\"duplicate\":%llu,\"memory\":%llu,"
        "\"pending\":%llu,\"rejected\":%llu,\"shed\":{",
        (unsigned long long)sum->requests_received, (unsigned long long)sum->requests_accepted,
        (unsigned long long)sum->requests_duplicate, (unsigned long long)sum->requests_memory,
        (unsigned long long)sum->requests_pending, (unsigned long long)sum->requests_rejected);
    for (unsigned i = 0; i < SHED_CAUSES; i++) {
        buf_printf(body, "%s\"%s\":%llu", i == 0 ? "" : ",", shed_cause_name(i),
                   (unsigned long long)sum->requests_shed[i]);
    }
    buf_put_text(body, "},\"refused\":{");
    ledger_write_refused(body, sum->requests_refused);
    buf_printf(body, "},\"other\":%llu,\"other_refused\":{",
               (unsigned long long)sum->requests_other);
    ledger_write_refused(body, sum->other_refused);
    buf_put_text(body, "}}");
}

static void ledger_answer(struct shard *shard, const struct http_request *request)
{
    struct counters sum;
    struct buf body;
    struct shard_set *set = shard->set;
    ledger_sum(set, &sum);
    buf_init(&body, shard->scratch, SHARD_SCRATCH_BYTES);
    bool is_balanced = counters_imbalance(&sum) == 0 && upstream_view_imbalance(set->upstream) == 0;
    buf_printf(&body, "{\"balanced\":%s,", is_balanced ? "true" : "false");
    ledger_write_records(&body, &sum);
    buf_put_char(&body, ',');
    ledger_write_requests(&body, &sum);
    char since[CLOCK_RFC3339_BYTES];
    size_t since_bytes = clock_rfc3339(since, set->started_real_ns, 3);
    buf_printf(
        &body,
        ",\"log\":{\"first_lsn_of_this_run\":%llu,\"durable_lsn\":%llu},\"since\":\"%.*s\","
        "\"sinks\":",
        (unsigned long long)set->ledger_base_lsn + 1,
        (unsigned long long)atomic_load_explicit(&set->status->durable_lsn, memory_order_acquire),
        (int)since_bytes, since);
    upstream_view_ledger(&body, set->upstream);
    buf_put_char(&body, '}');
    struct http_answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    (void)server_answer(shard->server, request->conn, &answer);
}

static void metrics_answer(struct shard *shard, const struct http_request *request)
{
    struct buf body;
    buf_init(&body, shard->scratch, SHARD_SCRATCH_BYTES);
    metrics_write(&body, shard->set, request->now_ns, shard->real_ns);
    struct http_answer answer = {
        .status = 200,
        .content_type = "text/plain; version=0.0.4; charset=utf-8",
        .body = {body.data, body.bytes},
    };
    (void)server_answer(shard->server, request->conn, &answer);
}

static void sinks_answer(struct shard *shard, const struct http_request *request)
{
    struct buf body;
    buf_init(&body, shard->scratch, SHARD_SCRATCH_BYTES);
    upstream_view_list(&body, shard->set->upstream);
    struct http_answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    (void)server_answer(shard->server, request->conn, &answer);
}

/* No header lets the page fetch or run anything, should a text of ours ever hold what it should not. */
static void docs_answer(struct shard *shard, const struct http_request *request, bool is_page)
{
    struct buf body;
    _Static_assert(OPENAPI_BYTES_MAX <= SHARD_SCRATCH_BYTES, "it is made in the scratch");
    buf_init(&body, shard->scratch, OPENAPI_BYTES_MAX);
    if (is_page) {
        openapi_page_write(&body);
    } else {
        openapi_write(&body);
    }
    ASSERT(!body.is_truncated); /* constants: test_openapi.c */
    struct http_answer answer = {
        .status = 200,
        .content_type = is_page ? "text/html; charset=utf-8" : ANSWER_JSON,
        .extra = is_page ? SLICE_LITERAL("Content-Security-Policy: default-src 'none'; style-src "
                                         "'unsafe-inline'\r\n")
                         : (struct slice){0},
        .body = {body.data, body.bytes},
    };
    (void)server_answer(shard->server, request->conn, &answer);
}

enum http_verdict ops_on_request(struct shard *shard, const struct route *route,
                                 const struct http_request *request)
{
    ASSERT(request->deferred_count == 0);
    if (route->id == ROUTE_HEALTHCHECK) {
        health_answer(shard, request);
    } else if (route->id == ROUTE_LEDGER) {
        ledger_answer(shard, request);
    } else if (route->id == ROUTE_SINKS) {
        sinks_answer(shard, request);
    } else if (route->id == ROUTE_OPENAPI || route->id == ROUTE_DOCS) {
        docs_answer(shard, request, route->id == ROUTE_DOCS);
    } else {
        metrics_answer(shard, request);
    }
    return HTTP_ANSWERED;
}
