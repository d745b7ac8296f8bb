#include "api/shard.h"

#include "api/gate.h"
#include "api/ingest.h"
#include "api/ops.h"
#include "api/quarantine.h"
#include "api/query_pool.h"
#include "api/route.h"
#include "api/runs.h"
#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"

#include <errno.h>
#include <string.h>

/* A shard looks around at least this often, so that its heartbeat stays fresh and a stop is noticed
 * without a wake-up. */
#define SHARD_WAIT_NS_MAX (250 * NS_MS)

/* Published bytes from which a writer that waits for its disk is worth waking: a second write may
 * go in flight beside the first, which pays from about 64 KiB on (field measurements: twice the
 * throughput for 15 % more latency). */
#define SHARD_BULK_BYTES (64u * 1024u)

/* Takes over a configuration that the main thread has published. */
static void shard_take_config(struct shard *shard)
{
    /* C1 (acquire end): the whole struct behind the pointer is visible, and the tokens behind it.
     */
    const struct policy *policy = atomic_load_explicit(&shard->set->policy, memory_order_acquire);
    if (LIKELY(policy == shard->policy)) {
        return;
    }
    const struct config *config = &policy->config;
    shard->policy = policy;
    shard->config = config;
    shard->asks_who = config->auth_enabled || config->rate_limit_enabled;
    throttle_init(&shard->throttle, config->throttle_enabled, config->throttle_max_queue_depth,
                  config->throttle_rate);
}

void shard_init(struct shard *shard, struct shard_set *set, unsigned index)
{
    memset(shard, 0, sizeof *shard);
    shard->index = index;
    shard->set = set;
    shard->port = store_port(set->store, index);
    shard->park.fd = -1; /* park_close of a park that never was */
    pending_init(&shard->pending, SHARD_PENDING_MAX);
    shard->body = mem_alloc(body_struct_bytes());
    shard->scratch = mem_map(SHARD_SCRATCH_BYTES);
    ASSERT(shard->scratch != NULL);
    shard_take_config(shard);
}

void shard_free(struct shard *shard)
{
    pending_close(&shard->pending);
    mem_free(shard->body);
    mem_unmap(shard->scratch, SHARD_SCRATCH_BYTES);
    runs_side_free(shard);
    if (shard->texts != NULL) {
        arena_close(shard->texts);
    }
    park_close(&shard->park);
}

struct server_options shard_server_options(const struct config *config, unsigned shard_count)
{
    struct server_options options = {
        .listen_count = config->listen_count,
        .connections_max = (uint32_t)((config->max_connections + shard_count - 1) / shard_count),
        .pipeline_max = (uint32_t)config->pipeline_max,
        .limits = {.head_bytes_max = (uint32_t)config->max_head,
                   .target_bytes_max = 8192,
                   .fields_max = HTTP_FIELDS_MAX,
                   .body_bytes_max = config->max_body},
        /* deflate cannot do better than 1032:1 (zlib technical notes), and repetitive logs come
           close; max_body bounds the rest. */
        .decode_ratio_max = 1100,
        .head_timeout_ns = config->head_timeout_ns,
        .body_timeout_ns = config->body_timeout_ns,
        .body_rate_min = (uint32_t)config->body_rate_min,
        .idle_timeout_ns = config->idle_timeout_ns,
        .linger_ns = 2 * NS_S,
        .send_timeout_ns = 30 * NS_S,
        .recv_buffers = (uint32_t)config->recv_buffers,
        .recv_buffer_bytes = (uint32_t)config->recv_buffer_bytes,
        .arena_bytes = config->buffer_memory,
    };
    for (unsigned i = 0; i < config->listen_count; i++) {
        options.listen[i] = config->listen[i];
    }
    return options;
}

static enum http_head_verdict shard_on_head(void *context, const struct http_head *head,
                                            const uint8_t *base, uint64_t *body_bytes_max,
                                            struct http_answer *answer)
{
    (void)body_bytes_max;
    return gate_on_head(context, head, base, answer);
}

static struct slice shard_on_origin(void *context, struct slice origin)
{
    return gate_on_origin(context, origin);
}

static void shard_on_stream(void *context, struct conn_handle conn, enum stream_event event,
                            struct slice data)
{
    query_on_stream(context, conn, event, data);
}

static enum http_verdict shard_on_request(void *context, const struct http_request *request)
{
    struct shard *shard = context;
    if (shard->waiters.count != 0 && durable_is_waiting(&shard->waiters, request->conn)) {
        return HTTP_LATER;
    }
    const struct route *route =
        route_for(http_span_slice(request->head_base, request->head->path), request->head->method);
    ASSERT(route != NULL); /* shard_on_head let it through */
    shard->counters_changed = true;
    if (route_is_runs(route) || (route->id == ROUTE_PROMETHEUS && runs_wants_json(request))) {
        return runs_on_request(shard, route, request);
    }
    if (route_is_ingest(route, request->head->method)) {
        return ingest_on_request(shard, route, request);
    }
    if (request->deferred_count != 0) {
        return HTTP_LATER;
    }
    shard->counters.requests_other++;
    if (route_is_query(route, request->head->method)) {
        return query_on_request(shard, route, request);
    }
    if (route_is_quarantine(route)) {
        return quarantine_on_request(shard, route, request);
    }
    if (route->id == ROUTE_DURABLE) {
        return durable_on_request(shard, request);
    }
    return ops_on_request(shard, route, request);
}

int shard_on_start(void *context, struct err *err)
{
    struct shard *shard = context;
    struct server_options options = shard_server_options(shard->config, shard->set->count);
    options.park = &shard->park;
    options.stats = &shard->server_stats;
    struct server_callbacks callbacks = {
        .context = shard,
        .on_head = shard_on_head,
        .on_request = shard_on_request,
        .on_origin = shard_on_origin,
        .on_stream = shard_on_stream,
    };
    ulid_source_init(&shard->ulids);
    int result = arena_init(&shard->texts, SHARD_TEXTS_BYTES, err);
    result = result < 0 ? result : runs_side_open(shard, err);
    if (result < 0) {
        return result;
    }
    shard->now_ns = clock_mono_ns();
    shard->real_ns = clock_real_ns();
    return server_open(&shard->server, &options, &callbacks, err);
}

void shard_on_stop(void *context)
{
    struct shard *shard = context;
    server_close(shard->server);
    shard->server = NULL;
}

/* Makes this pass's frames visible and wakes the writer if it sleeps: one barrier, at most one
 * system call a pass. */
static void shard_publish(struct shard *shard)
{
    if (!shard->has_committed) {
        return;
    }
    shard->has_committed = false;
    spsc_publish(&shard->port->submit);
    bool is_bulk = spsc_used_bytes(&shard->port->submit) >= SHARD_BULK_BYTES;
    park_wake(shard->port->writer_park, is_bulk);
}

static void shard_publish_counters(struct shard *shard)
{
    if (!shard->counters_changed) {
        return;
    }
    shard->counters_changed = false;
    shard->counters.pending = shard->pending.record_count;
    shard->counters.requests_pending = pending_count(&shard->pending);
    counters_publish(&shard->published, &shard->counters);
}

static bool shard_is_asked_to_stop(const struct shard *shard)
{
    /* relaxed: a flag that is only ever set; seeing it one pass late costs one pass. */
    return atomic_load_explicit(&shard->set->is_stopping, memory_order_relaxed);
}

/* How long this pass may wait for the kernel. Leaves the park prepared when it may wait at all. */
static uint64_t shard_prepare_wait(struct shard *shard)
{
    if (server_has_work(shard->server) || !spsc_is_empty(&shard->port->acks)) {
        return 0;
    }
    park_prepare(&shard->park, PARK_ANY);
    bool must_stop = shard_is_asked_to_stop(shard) && !shard->is_draining;
    bool is_told = query_has_replies(shard) || runs_has_results(shard);
    if (!spsc_is_empty(&shard->port->acks) || is_told || must_stop) {
        park_cancel(&shard->park);
        return 0;
    }
    uint64_t wait_ns = u64_min(server_wait_ns(shard->server, shard->now_ns), SHARD_WAIT_NS_MAX);
    return shard->waiters.count == 0 ? wait_ns : u64_min(wait_ns, DURABLE_LOOK_NS);
}

int shard_duty(void *context)
{
    struct shard *shard = context;
    uint64_t wait_ns = shard_prepare_wait(shard);
    int result = server_poll(shard->server, wait_ns, !pending_is_empty(&shard->pending));
    park_cancel(&shard->park);
    if (result < 0) {
        return result;
    }
    shard->now_ns = clock_mono_ns();
    shard->real_ns = clock_real_ns();
    shard_take_config(shard);
    shard_publish(shard);
    acks_drain(shard);
    runs_drain(shard);
    durable_answer_due(shard);
    (void)query_drain(shard);
    server_tick(shard->server, shard->now_ns);
    server_flush(shard->server);
    shard_publish_counters(shard);
    if (UNLIKELY(shard_is_asked_to_stop(shard)) && !shard->is_draining) {
        shard->is_draining = true;
        query_end_all(shard);
        server_drain(shard->server);
    }
    if (UNLIKELY(atomic_load_explicit(&shard->set->must_finish, memory_order_relaxed))) {
        return 1;
    }
    return shard->is_draining && server_is_drained(shard->server) &&
           pending_is_empty(&shard->pending);
}
