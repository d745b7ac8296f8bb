/*
 * The routes about upstreams on the whole way: a real store, shard and query pool over loopback, with the seam that the
 * composition fills (struct upstream) filled by the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "api/ops.h"
#include "api/query_pool.h"
#include "api/shard.h"
#include "api/upstream.h"
#include "core/clock.h"
#include "core/mem.h"
#include "model/json_scan.h"

static struct {
    char dir[64];
    struct config *config;
    struct policy *policy;
    struct store *store;
    struct query_pool *pool;
    struct shard_set set;
    struct shard *shard;
    struct agent *agent;
    struct park *parks[1];
    unsigned port;
} app;

/* The seam. */
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static struct upstream_sink the_sink;
static _Atomic int order_result;
static _Atomic unsigned orders;
static _Atomic uint64_t heartbeat_ns;
static _Atomic uint64_t pool_beat_ns; /* of the query thread when it last gave an order */
static _Atomic unsigned same_beats;

static void seam_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    (void)context;
    (void)i;
    (void)pthread_mutex_lock(&sink_lock);
    *sink = the_sink;
    (void)pthread_mutex_unlock(&sink_lock);
}

static int seam_list(void *context, struct slice sink, uint64_t after, unsigned limit,
                     struct buf *out, struct err *err)
{
    (void)context;
    (void)after;
    (void)err;
    buf_put_text(out, "{\"data\":[");
    for (unsigned i = 0; i < limit; i++) { /* large enough to come in pieces */
        buf_printf(out, "%s{\"id\":%u,\"sink\":\"%.*s\",\"record\":\"%0200u\"}", i == 0 ? "" : ",",
                   i + 1, (int)sink.bytes, (const char *)sink.data, i);
    }
    buf_put_text(out, "],\"next_cursor\":null}");
    return 0;
}

static int seam_show(void *context, uint64_t id, struct buf *out, struct err *err)
{
    (void)context;
    (void)err;
    buf_printf(out, "{\"id\":%llu}", (unsigned long long)id);
    return id == 7;
}

static int seam_order(void *context, enum upstream_order order, struct slice sink, uint64_t id,
                      struct err *err)
{
    (void)context;
    (void)order;
    (void)sink;
    (void)id;
    (void)err;
    uint64_t beat = query_pool_heartbeat_ns(app.pool);
    unsigned is_same = atomic_exchange(&pool_beat_ns, beat) == beat;
    atomic_fetch_add_explicit(&same_beats, is_same, memory_order_relaxed);
    atomic_fetch_add_explicit(&orders, 1, memory_order_relaxed);
    (void)poll(NULL, 0, 5); /* it blocks: never the shard */
    return atomic_load_explicit(&order_result, memory_order_relaxed);
}

static uint64_t seam_heartbeat(void *context)
{
    (void)context;
    return atomic_load_explicit(&heartbeat_ns, memory_order_relaxed);
}

static const struct upstream upstream = {.sink_count = 1,
                                         .sink = seam_sink,
                                         .heartbeat_ns = seam_heartbeat,
                                         .quarantine_list = seam_list,
                                         .quarantine_show = seam_show,
                                         .order = seam_order};

/* With so many records lost. */
static void set_sink(uint64_t lost)
{
    (void)pthread_mutex_lock(&sink_lock);
    the_sink = (struct upstream_sink){.name = "archive",
                                      .type = "http",
                                      .state = "running",
                                      .breaker = "closed",
                                      .durable_lsn = 10,
                                      .start_lsn = 1,
                                      .delivered = 6 - lost,
                                      .pending = 4,
                                      .delivered_lsn = 6,
                                      .balances = true};
    (void)pthread_mutex_unlock(&sink_lock);
}

/* ---- a server ---- */

static void load_config(const char *const *sets, unsigned set_count)
{
    struct config_sources sources = {.sets = sets, .set_count = set_count};
    struct config_problems *problems = mem_alloc(sizeof *problems);
    app.config = mem_alloc(sizeof *app.config);
    if (config_load(app.config, &sources, problems) < 0 ||
        policy_open(&app.policy, app.config, problems) < 0) {
        fail_msg("%s", problems->text[0]);
    }
    mem_free(problems);
}

static void open_store(struct err *err)
{
    struct store_options options = {
        .data_dir = app.dir,
        .segment_bytes = MIB(4),
        .reserve_bytes = MIB(1),
        .ring_bytes = MIB(4),
        .batch_bytes = MIB(1),
        .dedup_ttl_ns = 3600 * NS_S,
        .dedup_entries_max = 1000,
        .spare_segments = 1,
        .shard_count = 1,
        .writer_cpu = -1,
        .allow_volatile = true,
    };
    struct recovery_report report = {0};
    if (store_open(&app.store, &options, NULL, &report, err) < 0) {
        fail_msg("%s", err->text);
    }
    app.set.store = app.store;
    app.set.status = store_status(app.store);
}

static void open_shard(struct err *err)
{
    struct shard *shard = app.shard;
    shard->set = &app.set;
    shard->policy = app.policy;
    shard->config = &app.policy->config;
    shard->asks_who = shard->config->auth_enabled;
    shard->port = store_port(app.store, 0);
    pending_init(&shard->pending, 64);
    shard->body = mem_alloc(body_struct_bytes());
    shard->scratch = mem_map(SHARD_SCRATCH_BYTES);
    assert_int_equal(park_init(&shard->park, err), 0);
    shard->port->shard_park = &shard->park;
    app.parks[0] = &shard->park;
    struct query_pool_options options = {.threads = 1,
                                         .shard_count = 1,
                                         .jobs_max = 16,
                                         .page_timeout_ns = 2 * NS_S,
                                         .store = app.store,
                                         .shard_parks = app.parks};
    assert_int_equal(query_pool_open(&app.pool, &options, err), 0);
    shard->query = query_pool_side(app.pool, 0);
    app.set.query_pool = app.pool;
}

static void serve(const char *const *sets, unsigned set_count, const struct upstream *seam)
{
    struct err err = {0};
    memset(&app, 0, sizeof app);
    set_sink(0);
    atomic_store(&order_result, 3);
    atomic_store(&orders, 0);
    atomic_store(&heartbeat_ns, 0);
    atomic_store(&same_beats, 0);
    (void)snprintf(app.dir, sizeof app.dir, "/tmp/sluice-routes-XXXXXX");
    assert_non_null(mkdtemp(app.dir));
    load_config(sets, set_count);
    app.shard = mem_map(sizeof *app.shard);
    app.agent = mem_map(sizeof *app.agent);
    app.set.shards = app.shard;
    app.set.agents = app.agent;
    app.set.count = 1;
    app.set.upstream = seam;
    atomic_store_explicit(&app.set.policy, app.policy, memory_order_release);
    assert_int_equal(rate_limit_open(&app.set.rate_limit, 64, &err), 0);
    open_store(&err);
    open_shard(&err);
    app.set.started_at_ns = clock_mono_ns();
    app.set.started_real_ns = clock_real_ns();
    assert_int_equal(store_start(app.store, &err), 0);
    assert_int_equal(query_pool_start(app.pool, &err), 0);
    struct agent_options options = {.name = "shard",
                                    .role = ROLE_SHARD,
                                    .cpu = -1,
                                    .context = app.shard,
                                    .on_start = shard_on_start,
                                    .duty = shard_duty,
                                    .on_stop = shard_on_stop};
    if (agent_start(app.agent, &options, &err) < 0) {
        print_message("no io_uring here: %s\n", err.text);
        exit(77);
    }
    app.port = server_port(app.shard->server, 0);
}

static int remove_one(const char *path, const struct stat *about, int flag, struct FTW *at)
{
    (void)about;
    (void)flag;
    (void)at;
    return remove(path);
}

static int stop(void **state)
{
    (void)state;
    atomic_store_explicit(&app.set.is_stopping, true, memory_order_release);
    atomic_store_explicit(&app.set.must_finish, true, memory_order_release);
    (void)park_wake(&app.shard->park, true);
    agent_join(app.agent);
    query_pool_stop(app.pool);
    store_stop(app.store);
    for (unsigned i = 0; i < 1000 && !store_is_finished(app.store); i++) {
        (void)poll(NULL, 0, 10);
    }
    store_close(app.store);
    query_pool_close(app.pool);
    shard_free(app.shard);
    rate_limit_close(app.set.rate_limit);
    policy_close(app.policy);
    mem_free(app.config);
    mem_unmap(app.shard, sizeof *app.shard);
    mem_unmap(app.agent, sizeof *app.agent);
    return nftw(app.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int serve_open(void **state)
{
    static const char *const sets[] = {"server.listen=127.0.0.1:0"};
    (void)state;
    serve(sets, 1, &upstream);
    return 0;
}

static int serve_without(void **state)
{
    static const char *const sets[] = {"server.listen=127.0.0.1:0"};
    (void)state;
    serve(sets, 1, NULL);
    return 0;
}

/* Tokens r-token... of 16 bytes and more; a file of its own, since its mode is judged. */
static int serve_guarded(void **state)
{
    static char path[64];
    static char set[96];
    (void)state;
    (void)snprintf(path, sizeof path, "/tmp/sluice-tokens-XXXXXX");
    int fd = mkstemp(path);
    static const char text[] = "reader reader-token-0123456789 read\n"
                               "sender sender-token-0123456789 ingest\n"
                               "boss boss-token-0123456789 admin\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    (void)snprintf(set, sizeof set, "auth.tokens=%s", path);
    const char *sets[] = {"server.listen=127.0.0.1:0", "auth.enabled=true", set};
    serve(sets, 3, &upstream);
    (void)unlink(path);
    return 0;
}

/* ---- a client ---- */

static char response[1024 * 1024];

static int connect_to(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)app.port)};
    struct timeval limit = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (const void *)&to, sizeof to), 0);
    return fd;
}

static unsigned ask_as(const char *token, const char *method, const char *target)
{
    char request[512];
    char authorization[96] = "";
    size_t bytes = 0;
    int fd = connect_to();
    if (token != NULL) {
        (void)snprintf(authorization, sizeof authorization, "Authorization: Bearer %s\r\n", token);
    }
    int length = snprintf(
        request, sizeof request, "%s %s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n%s%s\r\n",
        method, target, authorization, strcmp(method, "POST") == 0 ? "Content-Length: 0\r\n" : "");
    assert_int_equal(send(fd, request, (size_t)length, 0), length);
    for (;;) { /* bound: room, or the time limit */
        ssize_t n = recv(fd, response + bytes, sizeof response - 1 - bytes, 0);
        if (n <= 0) {
            break;
        }
        bytes += (size_t)n;
    }
    close(fd);
    response[bytes] = 0;
    unsigned status = 0;
    assert_int_equal(sscanf(response, "HTTP/1.1 %u", &status), 1);
    return status;
}

static unsigned ask(const char *method, const char *target)
{
    return ask_as(NULL, method, target);
}

static const char *body(void)
{
    const char *end = strstr(response, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void body_has(const char *text)
{
    if (strstr(body(), text) == NULL) {
        fail_msg("no '%s' in: %.4000s", text, body());
    }
}

static void body_is_json(void)
{
    uint64_t offset;
    const char *why;
    assert_int_equal(json_validate((const uint8_t *)body(), strlen(body()), &offset, &why), 0);
}

/* ---- promises ---- */

static void sinks_are_shown_wherever_they_belong(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/v1/ledger"), 200);
    body_is_json();
    body_has("\"balanced\":true");
    body_has("\"sinks\":{\"archive\":{\"durable\":10,\"delivered\":6,\"pending\":4,");
    assert_int_equal(ask("GET", "/v1/durable?lsn=1"), 200);
    body_is_json();
    body_has("\"sinks\":{\"archive\":6}}");
    assert_int_equal(ask("GET", "/v1/sinks"), 200);
    body_is_json();
    body_has("{\"data\":[{\"name\":\"archive\",\"type\":\"http\"");
    assert_int_equal(ask("GET", "/metrics"), 200);
    body_has("\nsluice_sink_pending_records{sink=\"archive\"} 4\n");
    body_has("\nsluice_sink_state{sink=\"archive\"} 0\n");
    body_has("\nsluice_ack_seconds_count"); /* what comes behind them had room */
    assert_int_equal(ask("GET", "/healthcheck"), 200);
}

static void without_sinks_nothing_changes(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/v1/ledger"), 200);
    body_has("\"balanced\":true");
    body_has("\"sinks\":{}}");
    assert_int_equal(ask("GET", "/v1/durable?lsn=0"), 200);
    body_has("\"sinks\":{}}");
    assert_int_equal(ask("GET", "/v1/sinks"), 200);
    assert_string_equal(body(), "{\"data\":[],\"pollers\":[]}");
    assert_int_equal(ask("GET", "/metrics"), 200);
    assert_null(strstr(body(), "sluice_sink"));
    assert_int_equal(ask("GET", "/v1/quarantine"), 404);
    assert_int_equal(ask("POST", "/v1/sinks/archive/resume"), 404);
    assert_int_equal(ask("GET", "/healthcheck"), 200);
}

static void a_sink_that_does_not_balance_is_no_health(void **state)
{
    (void)state;
    set_sink(1);
    assert_int_equal(ledger_imbalance(&app.set), 1);
    assert_int_equal(ask("GET", "/healthcheck"), 503);
    body_has("the ledger of a sink does not balance");
    assert_int_equal(ask("GET", "/v1/ledger"), 200);
    body_has("\"balanced\":false");
    body_has("\"balances\":false");
    assert_int_equal(ask("GET", "/metrics"), 200);
    body_has("\nsluice_healthy 0\n");
    body_has("\nsluice_sink_ledger_imbalance_records{sink=\"archive\"} 1\n");
    set_sink(0);
    assert_int_equal(ledger_imbalance(&app.set), 0);
    assert_int_equal(ask("GET", "/healthcheck"), 200);
}

static void a_forwarder_that_is_silent_is_no_health(void **state)
{
    (void)state;
    atomic_store(&heartbeat_ns, clock_mono_ns());
    assert_int_equal(ask("GET", "/healthcheck"), 200);
    atomic_store(&heartbeat_ns, clock_mono_ns() - 31 * NS_S);
    assert_int_equal(ask("GET", "/healthcheck"), 503);
    body_has("the forwarder does not answer");
}

static void the_quarantine_is_read_by_the_query_pool(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/v1/quarantine?limit=2&sink=archive"), 200);
    body_is_json();
    body_has("{\"data\":[{\"id\":1,\"sink\":\"archive\"");
    assert_int_equal(ask("GET", "/v1/quarantine/7"), 200);
    assert_string_equal(body(), "{\"id\":7}");
    assert_int_equal(ask("GET", "/v1/quarantine/8"), 404);
    body_is_json();
    assert_int_equal(ask("GET", "/v1/quarantine/x"), 422);
    assert_int_equal(ask("GET", "/v1/quarantine?limit=1001"), 422);
    assert_int_equal(atomic_load(&query_pool_counts(app.pool)->active), 0);
}

static void a_large_list_comes_whole(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/v1/quarantine?limit=1000"), 200);
    assert_non_null(strstr(response, "chunked"));
    body_has("{\"id\":1000,");
    body_has("\"next_cursor\":null}");
    assert_int_equal(strcmp(response + strlen(response) - 5, "0\r\n\r\n"), 0);
    assert_int_equal(ask("HEAD", "/v1/quarantine?limit=1000"), 200);
    assert_string_equal(body(), "");
    assert_int_equal(ask("HEAD", "/v1/quarantine/7"), 200);
    assert_string_equal(body(), "");
}

static void orders_are_answered_with_what_they_did(void **state)
{
    (void)state;
    assert_int_equal(ask("POST", "/v1/quarantine/7/requeue"), 200);
    assert_string_equal(body(), "{\"status\":\"requeued\",\"records\":3}");
    assert_int_equal(ask("POST", "/v1/sinks/archive/drop"), 200);
    assert_int_equal(ask("POST", "/v1/sinks/archive/resume"), 200);
    assert_string_equal(body(), "{\"status\":\"resumed\"}");
    atomic_store(&order_result, -EBUSY);
    assert_int_equal(ask("POST", "/v1/quarantine/7/drop"), 409);
    atomic_store(&order_result, -ENOENT);
    assert_int_equal(ask("POST", "/v1/sinks/nobody/drop"), 404);
    atomic_store(&order_result, -ETIMEDOUT);
    assert_int_equal(ask("POST", "/v1/quarantine/7/drop"), 503);
    assert_non_null(strstr(response, "\r\nRetry-After: "));
    assert_int_equal(atomic_load(&orders), 6);
}

static void methods_are_judged_as_everywhere(void **state)
{
    (void)state;
    assert_int_equal(ask("GET", "/v1/quarantine/7/requeue"), 405);
    assert_non_null(strstr(response, "\r\nAllow: POST, OPTIONS\r\n"));
    assert_int_equal(ask("POST", "/v1/quarantine/7"), 405);
    assert_non_null(strstr(response, "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    assert_int_equal(ask("OPTIONS", "/v1/sinks/a/drop"), 204);
    assert_non_null(strstr(response, "\r\nAllow: POST, OPTIONS\r\n"));
    assert_int_equal(ask("POST", "/v1/sinks"), 405);
    assert_int_equal(ask("GET", "/v1/quarantine/"), 404);
    assert_int_equal(ask("POST", "/v1/sinks/a/b/drop"), 404);
    assert_int_equal(atomic_load(&orders), 0);
}

static void orders_need_admin_and_looking_needs_read(void **state)
{
    static const char reader[] = "reader-token-0123456789";
    static const char sender[] = "sender-token-0123456789";
    static const char boss[] = "boss-token-0123456789";
    (void)state;
    assert_int_equal(ask("POST", "/v1/sinks/archive/drop"), 401);
    assert_int_equal(ask_as(reader, "POST", "/v1/sinks/archive/drop"), 403);
    body_has("admin");
    assert_int_equal(ask_as(sender, "POST", "/v1/quarantine/7/requeue"), 403);
    assert_int_equal(atomic_load(&orders), 0);
    assert_int_equal(ask_as(boss, "POST", "/v1/sinks/archive/drop"), 200);
    assert_int_equal(ask_as(reader, "GET", "/v1/quarantine/7"), 200);
    assert_int_equal(ask_as(reader, "GET", "/v1/sinks"), 200);
    assert_int_equal(ask_as(boss, "GET", "/v1/quarantine/7"), 403);
    assert_int_equal(ask_as(sender, "GET", "/v1/sinks"), 403);
    assert_int_equal(atomic_load(&orders), 1);
}

static void many_orders_at_one_time_are_all_done_and_never_make_it_look_stuck(void **state)
{
    int fds[12];
    static const char request[] = "POST /v1/quarantine/7/requeue HTTP/1.1\r\nHost: t\r\n"
                                  "Connection: close\r\nContent-Length: 0\r\n\r\n";
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        fds[i] = connect_to();
        assert_int_equal(send(fds[i], request, sizeof request - 1, 0), sizeof request - 1);
    }
    for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
        ssize_t n = recv(fds[i], response, sizeof response - 1, 0);
        assert_true(n > 0);
        assert_memory_equal(response, "HTTP/1.1 200", 12);
        close(fds[i]);
    }
    assert_int_equal(atomic_load(&orders), ARRAY_COUNT(fds));
    assert_int_equal(atomic_load(&same_beats), 0); /* a beat between any two */
}

#define SERVED(test, how) cmocka_unit_test_setup_teardown(test, how, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED(sinks_are_shown_wherever_they_belong, serve_open),
        SERVED(without_sinks_nothing_changes, serve_without),
        SERVED(a_sink_that_does_not_balance_is_no_health, serve_open),
        SERVED(a_forwarder_that_is_silent_is_no_health, serve_open),
        SERVED(the_quarantine_is_read_by_the_query_pool, serve_open),
        SERVED(a_large_list_comes_whole, serve_open),
        SERVED(orders_are_answered_with_what_they_did, serve_open),
        SERVED(methods_are_judged_as_everywhere, serve_open),
        SERVED(orders_need_admin_and_looking_needs_read, serve_guarded),
        SERVED(many_orders_at_one_time_are_all_done_and_never_make_it_look_stuck, serve_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
