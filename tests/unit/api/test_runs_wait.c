/*
 * From durable to answered: a real store, shard and query pool over loopback, and the rings of a real agent-run database whose agent is not
 * started: the test takes its place at the writing end, so that results come when and as it wants. Every log begins anew, so LSNs are known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ftw.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "api/query_pool.h"
#include "api/runs_side.h"
#include "api/shard.h"
#include "core/clock.h"
#include "core/mem.h"
#include "model/json_scan.h"

static struct {
    char dir[64];
    char db[96];
    char lock[96];
    struct config *config;
    struct policy *policy;
    struct store *store;
    struct query_pool *pool;
    struct shard_set set;
    struct shard *shard;
    struct agent *agent;
    struct park *parks[1];
    struct park runs_park;
    struct runs *runs;
    struct runs_link link;
    unsigned port;
    _Atomic uint64_t later_ns; /* not 0: the shard looks once as if it were so much later */
    _Atomic int left;          /* so many were waiting after that; -1: it has not looked yet */
    _Atomic bool is_held;      /* the shard does nothing while requests wait for the writer */
} app;

/* ---- a server ---- */

/* The shard's thread: its own duty, and what the test wants between two passes. */
static int duty(void *context)
{
    struct shard *shard = context;
    /* Before the pass: what was durable when the test asked is in the list after it. */
    uint64_t later_ns = atomic_exchange(&app.later_ns, 0);
    int result = shard_duty(shard);
    bool is_held = false;
    while (atomic_load(&app.is_held) && !pending_is_empty(&shard->pending)) {
        is_held = true;
        (void)poll(NULL, 0, 1);
    }
    if (is_held) { /* the results before the acks */
        runs_drain(shard);
    }
    if (later_ns != 0) {
        shard->now_ns += later_ns;
        runs_drain(shard);
        atomic_store(&app.left, (int)(shard->runs->tail - shard->runs->head));
    }
    return result;
}

static int never_read(void *context, struct runs_fields *fields, enum runs_command command,
                      struct slice payload, uint8_t *scratch, struct err *err)
{
    (void)context;
    (void)fields;
    (void)command;
    (void)payload;
    (void)scratch;
    return err_set(err, ERR_SYNTAX, "nothing is applied here");
}

static void load_config(void)
{
    static const char *const sets[] = {"server.listen=127.0.0.1:0"};
    struct config_sources sources = {.sets = sets, .set_count = ARRAY_COUNT(sets)};
    struct config_problems *problems = mem_alloc(sizeof *problems);
    app.config = mem_alloc(sizeof *app.config);
    if (config_load(app.config, &sources, problems) < 0 ||
        policy_open(&app.policy, app.config, problems) < 0) {
        fail_msg("%s", problems->text[0]);
    }
    mem_free(problems);
    atomic_store_explicit(&app.set.policy, app.policy, memory_order_release);
}

static void open_store(struct err *err)
{
    struct store_options options = {.data_dir = app.dir,
                                    .segment_bytes = MIB(4),
                                    .reserve_bytes = MIB(1),
                                    .ring_bytes = MIB(4),
                                    .batch_bytes = MIB(1),
                                    .dedup_ttl_ns = 3600 * NS_S,
                                    .dedup_entries_max = 1000,
                                    .spare_segments = 1,
                                    .shard_count = 1,
                                    .writer_cpu = -1,
                                    .allow_volatile = true};
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

static void open_runs(struct err *err)
{
    struct runs_opened opened;
    assert_int_equal(park_init(&app.runs_park, err), 0);
    (void)snprintf(app.db, sizeof app.db, "%s/runs.sqlite", app.dir);
    (void)snprintf(app.lock, sizeof app.lock, "%s/lock-of-runs", app.dir);
    struct runs_options options = {.path = app.db,
                                   .lock_path = app.lock,
                                   .ndjson_dir = "",
                                   .first_lsn = 1,
                                   .node = store_node(app.store),
                                   .park = &app.runs_park,
                                   .shard_count = 1,
                                   .shard_parks = app.parks,
                                   .busy_timeout_ns = NS_S,
                                   .dedup_ttl_ns = 3600 * NS_S,
                                   .read = never_read};
    if (runs_open(&app.runs, &options, &opened, err) < 0) {
        fail_msg("%s", err->text);
    }
    app.link = (struct runs_link){.runs = app.runs, .db_path = app.db};
    app.set.runs = &app.link;
}

static int serve(void **state)
{
    (void)state;
    struct err err = {0};
    memset(&app, 0, sizeof app);
    (void)snprintf(app.dir, sizeof app.dir, "/tmp/sluice-wait-XXXXXX");
    assert_non_null(mkdtemp(app.dir));
    load_config();
    app.shard = mem_map(sizeof *app.shard);
    app.agent = mem_map(sizeof *app.agent);
    app.set.shards = app.shard;
    app.set.agents = app.agent;
    app.set.count = 1;
    assert_int_equal(rate_limit_open(&app.set.rate_limit, 64, &err), 0);
    open_store(&err);
    open_shard(&err);
    open_runs(&err);
    app.set.started_at_ns = clock_mono_ns();
    app.set.started_real_ns = clock_real_ns();
    assert_int_equal(store_start(app.store, &err), 0);
    assert_int_equal(query_pool_start(app.pool, &err), 0);
    struct agent_options options = {.name = "shard",
                                    .role = ROLE_SHARD,
                                    .cpu = -1,
                                    .context = app.shard,
                                    .on_start = shard_on_start,
                                    .duty = duty,
                                    .on_stop = shard_on_stop};
    if (agent_start(app.agent, &options, &err) < 0) {
        print_message("no io_uring here: %s\n", err.text);
        exit(77);
    }
    app.port = server_port(app.shard->server, 0);
    return 0;
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
    runs_close(app.runs);
    store_close(app.store);
    query_pool_close(app.pool);
    park_close(&app.runs_park);
    shard_free(app.shard);
    rate_limit_close(app.set.rate_limit);
    policy_close(app.policy);
    mem_free(app.config);
    mem_unmap(app.shard, sizeof *app.shard);
    mem_unmap(app.agent, sizeof *app.agent);
    return nftw(app.dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- clients ---- */

static int connect_to(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)app.port)};
    struct timeval limit = {.tv_sec = 60};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (const void *)&to, sizeof to), 0);
    return fd;
}

static int send_request(const char *method, const char *target, const char *body)
{
    char head[256];
    int fd = connect_to();
    int length = snprintf(head, sizeof head,
                          "%s %s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
                          "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                          method, target, strlen(body));
    assert_int_equal(send(fd, head, (size_t)length, 0), length);
    assert_int_equal(send(fd, body, strlen(body), 0), strlen(body));
    return fd;
}

static void await_durable(uint64_t lsn)
{
    /* acquire, edge W1: what the shard is told of them was published before. */
    while (atomic_load_explicit(&app.set.status->durable_lsn, memory_order_acquire) < lsn) {
        (void)poll(NULL, 0, 1); /* the test's own time limit bounds it */
    }
}

/* Sent, and its last record, of that LSN, is durable. */
static int put(uint64_t lsn, const char *method, const char *target, const char *body)
{
    int fd = send_request(method, target, body);
    await_durable(lsn);
    return fd;
}

static int put_run(uint64_t lsn, const char *event_id)
{
    char body[512];
    (void)snprintf(
        body, sizeof body,
        "{\"event_id\":\"%s\",\"run_id\":\"r\",\"start_time\":\"s\",\"agent_name\":\"a\","
        "\"job_type\":\"j\"}",
        event_id);
    return put(lsn, "POST", "/api/v1/runs", body);
}

static void put_log(uint64_t lsn)
{
    close(put(lsn, "POST", "/v1/logs",
              "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"service\":\"s\",\"level\":\"INFO\","
              "\"message\":\"m\"}"));
}

static char response[256 * 1024];

/* The whole answer, which ends the connection. */
static unsigned read_answer(int fd)
{
    size_t bytes = 0;
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

static const char *answer_body(void)
{
    const char *end = strstr(response, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void expect(int fd, unsigned status, const char *body)
{
    assert_int_equal(read_answer(fd), status);
    assert_string_equal(answer_body(), body);
    assert_int_equal(strstr(response, "X-Sluice-Ack: durable\r\n") != NULL, status < 300);
    assert_null(strstr(response, "X-Sluice-Duplicate"));
}

static void expect_created(int fd, const char *event_id)
{
    char body[512];
    (void)snprintf(body, sizeof body,
                   "{\"status\":\"created\",\"event_id\":\"%s\",\"run_id\":\"r\"}", event_id);
    expect(fd, 201, body);
}

static void expect_later(int fd)
{
    assert_int_equal(read_answer(fd), 503);
    assert_non_null(strstr(response, "Retry-After: "));
    assert_non_null(strstr(answer_body(), "will be applied"));
}

static bool is_answered(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

/* ---- the agent's end ---- */

static void commit_result(uint64_t lsn, enum runs_outcome outcome, const char *text)
{
    struct spsc *ring = runs_results(app.runs, 0);
    uint64_t bytes = sizeof(struct runs_result) + strlen(text);
    struct runs_result *to = (struct runs_result *)(void *)spsc_claim(ring, bytes);
    assert_non_null(to);
    *to = (struct runs_result){
        .lsn = lsn, .outcome = (uint16_t)outcome, .text_bytes = (uint32_t)strlen(text)};
    memcpy(to->text, text, strlen(text));
    (void)spsc_commit(ring, RUNS_RESULT_FRAME, bytes);
}

static void publish_results(void)
{
    (void)spsc_publish(runs_results(app.runs, 0));
    (void)park_wake(&app.shard->park, false);
}

static void tell(uint64_t lsn, enum runs_outcome outcome, const char *text)
{
    commit_result(lsn, outcome, text);
    publish_results();
}

/* ---- promises ---- */

static void each_result_answers_its_own_request_in_order(void **state)
{
    (void)state;
    int a = put_run(1, "a");
    int b = put_run(2, "b");
    int c = put_run(3, "c");
    assert_false(is_answered(a)); /* durable is not enough */
    tell(1, RUNS_CREATED, "");
    expect_created(a, "a");
    assert_false(is_answered(b));
    commit_result(2, RUNS_DUPLICATE, "");
    commit_result(3, RUNS_CREATED, "");
    publish_results();
    expect(b, 200,
           "{\"status\":\"duplicate\",\"event_id\":\"b\",\"message\":\"Event already exists "
           "(idempotent)\"}");
    expect_created(c, "c");
}

static void every_outcome_has_its_answer(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target, *body;
        enum runs_outcome outcome;
        const char *text;
        unsigned status;
        const char *answer;
    } cases[] = {
        {"PATCH", "/api/v1/runs/a%22b", "{\"status\":\"failed\",\"duration_ms\":1}", RUNS_UPDATED,
         "", 200,
         "{\"event_id\":\"a\\\"b\",\"updated\":true,\"fields_updated\":[\"status\",\"duration_ms\"]"
         "}"},
        {"PATCH", "/api/v1/runs/a%22b", "{\"duration_ms\":1}", RUNS_NOT_FOUND, "", 404,
         "{\"detail\":\"Run not found: a\\\"b\"}"},
        {"PATCH", "/api/v1/runs/a", "{}", RUNS_NOTHING, "", 400,
         "{\"detail\":\"No valid fields to update\"}"},
        {"PATCH", "/api/v1/runs/a", "{\"duration_ms\":1}", RUNS_REFUSED, "no \"why\"", 400,
         "{\"detail\":\"no \\\"why\\\"\"}"},
        {"POST", "/api/v1/runs/a/associate-commit",
         "{\"commit_hash\":\"abcdef1\",\"commit_source\":\"ci\"}", RUNS_ASSOCIATED, "r \"1\"", 200,
         "{\"status\":\"success\",\"event_id\":\"a\",\"run_id\":\"r "
         "\\\"1\\\"\",\"commit_hash\":\"abcdef1\"}"},
        {"POST", "/api/v1/runs/a/associate-commit",
         "{\"commit_hash\":\"abcdef1\",\"commit_source\":\"ci\"}", RUNS_ASSOCIATED, "", 200,
         "{\"status\":\"success\",\"event_id\":\"a\",\"run_id\":\"\",\"commit_hash\":\"abcdef1\"}"},
        {"POST", "/api/v1/runs/a/events", "{\"event_type\":\"x\"}", RUNS_EVENT_ADDED, "", 201,
         "{\"status\":\"created\",\"event_id\":\"a\",\"event_type\":\"x\"}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int fd = put(i + 1, cases[i].method, cases[i].target, cases[i].body);
        tell(i + 1, cases[i].outcome, cases[i].text);
        expect(fd, cases[i].status, cases[i].answer);
    }
}

static void a_lost_result_costs_only_the_request_that_waits_for_it(void **state)
{
    (void)state;
    int a = put_run(1, "a");
    int b = put_run(2, "b");
    int c = put_run(3, "c");
    tell(2, RUNS_CREATED, "");
    expect_later(a);
    expect_created(b, "b");
    assert_false(is_answered(c));
    tell(3, RUNS_CREATED, "");
    expect_created(c, "c");
}

static void a_result_of_another_shard_is_dropped(void **state)
{
    (void)state;
    put_log(1); /* what is not a command of this shard's has a result for another */
    tell(1, RUNS_CREATED, "");
    int a = put_run(2, "a");
    put_log(3);
    int b = put_run(4, "b");
    tell(1, RUNS_DUPLICATE, "");
    tell(2, RUNS_CREATED, "");
    expect_created(a, "a");
    tell(3, RUNS_NOT_FOUND, "");
    tell(4, RUNS_CREATED, "");
    expect_created(b, "b");
    put_log(5);
    tell(5, RUNS_CREATED, ""); /* nobody waits at all */
    int c = put_run(6, "c");
    tell(6, RUNS_CREATED, "");
    expect_created(c, "c");
}

#define ROW(id, more)                                                                              \
    "{\"event_id\":\"" id "\",\"run_id\":\"r\",\"start_time\":\"s\",\"agent_name\":\"a\","         \
    "\"job_type\":\"j\"" more "}"

static void a_batch_is_answered_with_its_sums_when_all_of_it_is_applied(void **state)
{
    (void)state;
    static const char rows[] = "[" ROW("a", "") "," ROW("b", ",\"items_failed\":-1") "," ROW(
        "c", "") "," ROW("\\\"d", "") "," ROW("e", "") "]";
    char object[2048];
    int fd = put(4, "POST", "/api/v1/runs/batch", rows);
    tell(1, RUNS_CREATED, "");
    tell(2, RUNS_DUPLICATE, "");
    tell(3, RUNS_REFUSED, "why");
    assert_false(is_answered(fd));
    tell(4, RUNS_CREATED, "");
    expect(fd, 200,
           "{\"inserted\":2,\"duplicates\":1,\"errors\":[\"b: Value must be non-negative: "
           "items_failed\",\"\\\"d: why\"],\"total\":5}");
    (void)snprintf(object, sizeof object, "{\"runs\":%s}", rows);
    fd = put(8, "POST", "/api/v1/runs/batch", object);
    for (uint64_t lsn = 5; lsn <= 8; lsn++) {
        tell(lsn, RUNS_DUPLICATE, "");
    }
    expect(fd, 201,
           "{\"status\":\"created\",\"inserted\":0,\"duplicates\":4,\"errors\":[\"b: Value must be "
           "non-negative: items_failed\"],\"total\":5}");
}

static void a_result_that_is_seen_before_the_ack_is_not_lost(void **state)
{
    (void)state;
    atomic_store(&app.is_held, true);
    int a = put_run(1, "a");
    tell(1, RUNS_CREATED, "");
    atomic_store(&app.is_held, false);
    expect_created(a, "a");
}

static void a_batch_that_lost_a_result_is_not_answered_with_less(void **state)
{
    (void)state;
    int fd = put(3, "POST", "/api/v1/runs/batch",
                 "[" ROW("a", "") "," ROW("b", "") "," ROW("c", "") "]");
    int next = put_run(4, "d");
    tell(1, RUNS_CREATED, "");
    tell(3, RUNS_CREATED, "");
    expect_later(fd);
    tell(4, RUNS_CREATED, "");
    expect_created(next, "d");
}

/* More refusals than there is room for: counted all, listed as many as fit whole. */
static void refusals_without_room_are_counted(void **state)
{
    (void)state;
    enum {
        COUNT = 300
    };
    static char rows[COUNT * 128];
    char why[RUNS_RESULT_TEXT_MAX];
    size_t at = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        at += (size_t)snprintf(rows + at, sizeof rows - at,
                               "%s{\"event_id\":\"e%u\",\"run_id\":\"r\",\"start_time\":\"s\","
                               "\"agent_name\":\"a\",\"job_type\":\"j\"}",
                               i == 0 ? "[" : ",", i);
    }
    (void)snprintf(rows + at, sizeof rows - at, "]");
    memset(why, 'w', sizeof why - 1);
    why[sizeof why - 1] = 0;
    int fd = put(COUNT, "POST", "/api/v1/runs/batch", rows);
    for (uint64_t lsn = 1; lsn <= COUNT; lsn++) {
        tell(lsn, RUNS_REFUSED, why);
    }
    assert_int_equal(read_answer(fd), 200);
    uint64_t offset = 0;
    const char *wrong = NULL;
    assert_int_equal(
        json_validate((const uint8_t *)answer_body(), strlen(answer_body()), &offset, &wrong), 0);
    assert_non_null(
        strstr(answer_body(), "{\"inserted\":0,\"duplicates\":0,\"errors\":[\"e0: www"));
    assert_non_null(strstr(answer_body(), "\",\"e100: www"));
    assert_null(strstr(answer_body(), "\"e299: www"));
    assert_non_null(strstr(answer_body(), "www\"],\"total\":300}"));
}

/* How many wait still when so much time has passed. */
static int left_after(uint64_t ns)
{
    atomic_store(&app.left, -1);
    atomic_store(&app.later_ns, ns);
    (void)park_wake(&app.shard->park, true);
    while (atomic_load(&app.left) < 0) {
        (void)poll(NULL, 0, 1); /* the shard looks at least twice a second */
    }
    return atomic_load(&app.left);
}

static void who_waits_too_long_is_told_that_it_will_be_applied(void **state)
{
    (void)state;
    int a = put_run(1, "a");
    int b = put_run(2, "b");
    assert_false(is_answered(a));
    assert_int_equal(left_after(RUNS_RESULT_NS / 4), 2);
    assert_int_equal(left_after(RUNS_RESULT_NS + NS_S), 0);
    expect_later(a);
    expect_later(b);
    int c = put_run(3, "c");
    tell(1, RUNS_CREATED, ""); /* too late: nobody's */
    tell(2, RUNS_CREATED, "");
    assert_false(is_answered(c));
    tell(3, RUNS_CREATED, "");
    expect_created(c, "c");
}

static void who_has_left_holds_nobody_up(void **state)
{
    (void)state;
    close(put_run(1, "a"));
    int b = put_run(2, "b");
    tell(1, RUNS_CREATED, "");
    tell(2, RUNS_CREATED, "");
    expect_created(b, "b");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, serve, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_result_answers_its_own_request_in_order),
        TEST(every_outcome_has_its_answer),
        TEST(a_lost_result_costs_only_the_request_that_waits_for_it),
        TEST(a_result_of_another_shard_is_dropped),
        TEST(a_batch_is_answered_with_its_sums_when_all_of_it_is_applied),
        TEST(a_result_that_is_seen_before_the_ack_is_not_lost),
        TEST(a_batch_that_lost_a_result_is_not_answered_with_less),
        TEST(refusals_without_room_are_counted),
        TEST(who_waits_too_long_is_told_that_it_will_be_applied),
        TEST(who_has_left_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
