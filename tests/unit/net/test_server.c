/*
 * test_server: promises of the server's door, over real sockets on loopback. A thread is the shard
 * (server_poll in a loop, with an application of a few routes); the test is the client.
 *
 *   /echo    answered at once ("<bytes> <checksum>"); HTTP_LATER while something is deferred
 *   /defer   deferred; answered in a later pass, unless the test holds answers back
 *   /big     600 KiB, at once      /raw   the hot form
 *   /gone    404 from the head     /small body limit of 10, from the head
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "net/server.h"

enum {
    DEFERRED_MAX = 8192,
    BIG_BYTES = 600 * 1024,
};

struct deferred {
    struct conn_handle conn;
    unsigned number;
};

struct app {
    struct server_options options;
    struct server *server;
    struct park park;
    pthread_t thread;
    _Atomic int is_up; /* 1 up, -1 failed */
    _Atomic bool is_stopping;
    _Atomic bool is_draining;
    _Atomic bool is_drained;
    _Atomic bool is_holding;
    _Atomic unsigned deferred_seen;
    _Atomic unsigned deferred_most; /* unanswered at once */
    _Atomic unsigned later_count;
    _Atomic unsigned stale_count;
    _Atomic size_t arena_used;
    struct deferred deferred[DEFERRED_MAX];
    size_t deferred_first;
    size_t deferred_end;
    unsigned per_pass; /* deferred answers of one pass; 0: all */
    char *big;
};

/* ---- the application ---- */

static uint64_t checksum(struct slice data)
{
    uint64_t hash = 1469598103934665603ull;
    for (size_t i = 0; i < data.bytes; i++) {
        hash = (hash ^ data.data[i]) * 1099511628211ull;
    }
    return hash;
}

static void answer_text(struct app *app, struct conn_handle conn, unsigned status, const char *text)
{
    struct http_answer answer = {
        .status = status,
        .content_type = "text/plain",
        .body = {(const uint8_t *)text, strlen(text)},
    };
    if (server_answer(app->server, conn, &answer) == -ESTALE) {
        app->stale_count++;
    }
}

static enum http_verdict app_defer(struct app *app, const struct http_request *request)
{
    assert_true(app->deferred_end < DEFERRED_MAX);
    struct deferred *deferred = &app->deferred[app->deferred_end++];
    deferred->conn = request->conn;
    deferred->number = app->deferred_seen++;
    if (request->deferred_count + 1 > app->deferred_most) {
        app->deferred_most = request->deferred_count + 1;
    }
    return HTTP_DEFERRED;
}

static enum http_verdict app_on_request(void *context, const struct http_request *request)
{
    struct app *app = context;
    struct slice path = http_span_slice(request->head_base, request->head->path);
    char text[128];

    if (slice_equal(path, SLICE_LITERAL("/defer"))) {
        return app_defer(app, request);
    }
    if (request->deferred_count > 0) {
        app->later_count++;
        return HTTP_LATER;
    }
    if (slice_equal(path, SLICE_LITERAL("/raw"))) {
        struct slice raw = SLICE_LITERAL("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok");
        assert_int_equal(server_answer_raw(app->server, request->conn, raw, false), 0);
        return HTTP_ANSWERED;
    }
    if (slice_equal(path, SLICE_LITERAL("/big"))) {
        answer_text(app, request->conn, 200, app->big);
        return HTTP_ANSWERED;
    }
    snprintf(text, sizeof(text), "%zu %016llx", request->body.bytes,
             (unsigned long long)checksum(request->body));
    answer_text(app, request->conn, 200, text);
    return HTTP_ANSWERED;
}

static enum http_head_verdict app_on_head(void *context, const struct http_head *head,
                                          const uint8_t *base, uint64_t *body_bytes_max,
                                          struct http_answer *answer)
{
    (void)context;
    struct slice path = http_span_slice(base, head->path);
    if (slice_equal(path, SLICE_LITERAL("/gone"))) {
        *answer = (struct http_answer){.status = 404, .body = SLICE_LITERAL("gone")};
        return HTTP_HEAD_ANSWERED;
    }
    if (slice_equal(path, SLICE_LITERAL("/small"))) {
        *body_bytes_max = 10;
    }
    return HTTP_HEAD_OK;
}

static void app_answer_deferred(struct app *app)
{
    size_t count = app->deferred_end - app->deferred_first;

    if (app->per_pass > 0 && count > app->per_pass) {
        count = app->per_pass;
    }
    for (size_t i = 0; i < count && !app->is_holding; i++) {
        const struct deferred *deferred = &app->deferred[app->deferred_first++];
        char text[32];
        snprintf(text, sizeof(text), "d%u", deferred->number);
        answer_text(app, deferred->conn, 202, text);
    }
}

static void *app_thread(void *context)
{
    struct app *app = context;
    struct server_callbacks callbacks = {
        .context = app, .on_head = app_on_head, .on_request = app_on_request};
    struct err err = {0};

    if (server_open(&app->server, &app->options, &callbacks, &err) < 0) {
        fprintf(stderr, "server_open: %s\n", err.text);
        app->is_up = -1;
        return NULL;
    }
    app->is_up = 1;
    while (!app->is_stopping) {
        bool has_answers = app->deferred_end > app->deferred_first && !app->is_holding;
        uint64_t wait_ns = server_wait_ns(app->server, clock_mono_ns());
        wait_ns = wait_ns < 2 * NS_MS ? wait_ns : 2 * NS_MS;
        assert_true(server_poll(app->server,
                                has_answers || server_has_work(app->server) ? 0 : wait_ns,
                                false) >= 0);
        app_answer_deferred(app);
        server_tick(app->server, clock_mono_ns());
        if (app->is_draining) {
            server_drain(app->server);
            app->is_drained = server_is_drained(app->server);
        }
        server_flush(app->server);
        app->arena_used = server_arena_used(app->server);
    }
    server_close(app->server);
    return NULL;
}

static struct app *app_new(void)
{
    struct app *app = mem_alloc(sizeof(*app));

    app->big = mem_alloc(BIG_BYTES + 1);
    memset(app->big, 'b', BIG_BYTES);
    app->options = (struct server_options){
        .listen = {"127.0.0.1:0"},
        .listen_count = 1,
        .connections_max = 64,
        .pipeline_max = 1024,
        .limits = {.head_bytes_max = 16384,
                   .target_bytes_max = 8192,
                   .fields_max = 100,
                   .body_bytes_max = MIB(16)},
        .decode_ratio_max = 2000,
        .head_timeout_ns = 10 * NS_S,
        .body_timeout_ns = 10 * NS_S,
        .body_rate_min = 500,
        .idle_timeout_ns = 10 * NS_S,
        .linger_ns = 2 * NS_S,
        .send_timeout_ns = 10 * NS_S,
        .recv_buffers = 64,
        .recv_buffer_bytes = 16384,
        .arena_bytes = MIB(128),
        .park = &app->park,
    };
    return app;
}

static void app_up(struct app *app)
{
    assert_int_equal(park_init(&app->park, NULL), 0);
    assert_int_equal(pthread_create(&app->thread, NULL, app_thread, app), 0);
    while (app->is_up == 0) {
        usleep(200);
    }
    assert_int_equal(app->is_up, 1);
}

static struct app *app_start(void)
{
    struct app *app = app_new();
    app_up(app);
    return app;
}

static void app_stop(struct app *app)
{
    app->is_stopping = true;
    pthread_join(app->thread, NULL);
    park_close(&app->park);
    mem_free(app->big);
    mem_free(app);
}

#define STAT(app, name) (atomic_load(&server_stats((app)->server)->name))

/* Waits for a condition of the other thread, at most 5 s. */
#define EVENTUALLY(condition)                                                                      \
    do {                                                                                           \
        for (int tries = 0; tries < 5000 && !(condition); tries++) {                               \
            usleep(1000);                                                                          \
        }                                                                                          \
        assert_true(condition);                                                                    \
    } while (0)

/* ---- the client ---- */

struct client {
    int fd;
    size_t bytes;
    char data[BIG_BYTES * 2];
};

struct answer {
    unsigned status;
    size_t head_bytes;
    char head[1024];
    char body[256]; /* its beginning */
    size_t body_bytes;
};

static struct client *client_open_small(struct app *app, int receive_bytes)
{
    struct client *client = mem_alloc(sizeof(*client));
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server_port(app->server, 0))};
    struct timeval limit = {.tv_sec = 8};

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(client->fd >= 0);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (receive_bytes > 0) {
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    }
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return client;
}

static struct client *client_open(struct app *app)
{
    return client_open_small(app, 0);
}

static void client_close(struct client *client)
{
    close(client->fd);
    mem_free(client);
}

static bool client_try_send(struct client *client, const void *data, size_t bytes)
{
    size_t sent = 0;
    while (sent < bytes) {
        ssize_t n = send(client->fd, (const char *)data + sent, bytes - sent, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        sent += (size_t)n;
    }
    return true;
}

static void client_send(struct client *client, const char *text)
{
    assert_true(client_try_send(client, text, strlen(text)));
}

/* Bytes received; 0: end; negative: error. */
static ssize_t client_fill(struct client *client)
{
    assert_true(client->bytes < sizeof(client->data));
    ssize_t n =
        recv(client->fd, client->data + client->bytes, sizeof(client->data) - client->bytes, 0);
    if (n > 0) {
        client->bytes += (size_t)n;
    }
    return n;
}

static bool client_try_read(struct client *client, struct answer *answer, bool has_body)
{
    const char *end = NULL;

    memset(answer, 0, sizeof(*answer));
    while ((end = memmem(client->data, client->bytes, "\r\n\r\n", 4)) == NULL) {
        if (client_fill(client) <= 0) {
            return false;
        }
    }
    answer->head_bytes = (size_t)(end - client->data) + 4;
    assert_true(answer->head_bytes < sizeof(answer->head));
    memcpy(answer->head, client->data, answer->head_bytes);
    assert_int_equal(sscanf(answer->head, "HTTP/1.1 %u ", &answer->status), 1);
    const char *length = strstr(answer->head, "Content-Length: ");
    answer->body_bytes = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    size_t whole = answer->head_bytes + (has_body ? answer->body_bytes : 0);
    while (client->bytes < whole) {
        if (client_fill(client) <= 0) {
            return false;
        }
    }
    size_t kept = whole - answer->head_bytes;
    memcpy(answer->body, client->data + answer->head_bytes, kept < 255 ? kept : 255);
    memmove(client->data, client->data + whole, client->bytes - whole);
    client->bytes -= whole;
    return true;
}

static unsigned client_read(struct client *client, struct answer *answer)
{
    assert_true(client_try_read(client, answer, true));
    return answer->status;
}

static void expect_end(struct client *client)
{
    assert_int_equal(client->bytes, 0);
    assert_int_equal(client_fill(client), 0);
}

static void expect_echo(struct client *client, struct slice body)
{
    struct answer answer;
    char text[128];

    assert_int_equal(client_read(client, &answer), 200);
    snprintf(text, sizeof(text), "%zu %016llx", body.bytes, (unsigned long long)checksum(body));
    assert_string_equal(answer.body, text);
}

static uint8_t *random_bytes(size_t bytes)
{
    uint8_t *data = mem_alloc(bytes);
    uint64_t state = 88172645463325252ull;
    for (size_t i = 0; i < bytes; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data[i] = (uint8_t)("0123456789abcdef"[state & 15]);
    }
    return data;
}

#define POST(path, length) "POST " path " HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n"

/* ---- tests ---- */

static void one_request_is_answered_and_the_connection_is_kept(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    for (int i = 0; i < 3; i++) {
        client_send(client, POST("/echo", "5") "hello");
        expect_echo(client, SLICE_LITERAL("hello"));
    }
    client_send(client, "GET /raw HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(client_read(client, &answer), 202);
    assert_string_equal(answer.body, "ok");
    client_close(client);
    EVENTUALLY(STAT(app, closed) == 1);
    EVENTUALLY(STAT(app, open_connections) == 0);
    EVENTUALLY(app->arena_used == 0);
    assert_int_equal(STAT(app, requests), 4);
    assert_int_equal(STAT(app, answers), 4);
    app_stop(app);
}

static void answer_carries_date_length_and_type(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(client_read(client, &answer), 200);
    assert_non_null(strstr(answer.head, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(answer.head, "\r\nDate: "));
    assert_non_null(strstr(answer.head, " GMT\r\n"));
    assert_non_null(strstr(answer.head, "\r\nContent-Type: text/plain\r\n"));
    assert_non_null(strstr(answer.head, "\r\nContent-Length: 18\r\n"));
    assert_null(strstr(answer.head, "Connection"));
    client_close(client);
    app_stop(app);
}

static void request_may_arrive_a_byte_at_a_time(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    const char *text = POST("/echo", "5") "hello"
                                          "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                                          "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for (size_t i = 0; i < strlen(text); i++) {
        assert_true(client_try_send(client, text + i, 1));
        usleep(300);
    }
    expect_echo(client, SLICE_LITERAL("hello"));
    expect_echo(client, SLICE_LITERAL("abcde"));
    client_close(client);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

/* Pipelines count requests of kind defer (and an echo each tenth when mixed) in one write, reads
 * the answers in order. */
static void pipeline(struct app *app, unsigned count, bool is_mixed)
{
    struct client *client = client_open(app);
    char *text = mem_alloc(count * 80 + 1);
    size_t bytes = 0;
    unsigned number = app->deferred_seen;
    struct answer answer;

    for (unsigned i = 0; i < count; i++) {
        bool is_echo = is_mixed && i % 10 == 9;
        bytes += (size_t)snprintf(text + bytes, 80, "%s%03u",
                                  is_echo ? POST("/echo", "3") : POST("/defer", "3"), i % 1000);
    }
    assert_true(client_try_send(client, text, bytes));
    for (unsigned i = 0; i < count; i++) {
        char expected[32];
        if (is_mixed && i % 10 == 9) {
            snprintf(expected, sizeof(expected), "%03u", i % 1000);
            expect_echo(client, (struct slice){(uint8_t *)expected, 3});
            continue;
        }
        assert_int_equal(client_read(client, &answer), 202);
        snprintf(expected, sizeof(expected), "d%u", number++);
        assert_string_equal(answer.body, expected);
    }
    mem_free(text);
    client_close(client);
}

static void thousand_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    const unsigned pipeline_max[] = {1, 2, 7, 1024};
    for (size_t i = 0; i < ARRAY_COUNT(pipeline_max); i++) {
        struct app *app = app_new();
        app->options.pipeline_max = pipeline_max[i];
        app->per_pass = 16;
        app_up(app);
        pipeline(app, 1000, false);
        assert_true(app->deferred_most <= pipeline_max[i]);
        app_stop(app);
    }
}

static void later_requests_are_presented_again_in_order(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->per_pass = 3;
    app_up(app);
    pipeline(app, 1000, true);
    assert_true(app->later_count > 0);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

static void held_input_beyond_the_bound_stops_receiving_and_goes_on_later(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.pipeline_max = 2;
    app_up(app);
    app->is_holding = true;
    struct client *client = client_open(app);
    uint8_t *body = random_bytes(30000);
    struct answer answer;
    char head[128];
    int small = 65536;
    setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    struct timeval limit = {.tv_usec = 300000};
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    snprintf(head, sizeof(head), POST("/defer", "30000"));
    size_t unit = strlen(head) + 30000;
    uint8_t *text = mem_alloc(unit);
    memcpy(text, head, strlen(head));
    memcpy(text + strlen(head), body, 30000);
    size_t whole = 600 * unit; /* 18 MB: more than the sockets hold */
    size_t sent = 0;
    while (sent < whole) {
        ssize_t n = send(client->fd, text + sent % unit, unit - sent % unit, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        sent += (size_t)n;
    }
    assert_true(sent < whole); /* the server does not take it */
    assert_true(app->arena_used < MIB(4));
    app->is_holding = false;
    limit.tv_sec = 8;
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    size_t rest = unit - sent % unit;
    if (rest < unit) {
        assert_true(client_try_send(client, text + sent % unit, rest));
        sent += rest;
    }
    for (size_t i = 0; i < sent / unit; i++) {
        assert_int_equal(client_read(client, &answer), 202);
    }
    assert_true(app->deferred_most <= 2);
    mem_free(text);
    mem_free(body);
    client_close(client);
    app_stop(app);
}

static void stale_handle_is_refused_and_close_with_outstanding_answers_is_clean(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *client = client_open(app);
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (int i = 0; i < 5; i++) {
        client_send(client, POST("/defer", "3") "abc");
    }
    EVENTUALLY(app->deferred_seen == 5);
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)); /* close is a reset */
    client_close(client);
    EVENTUALLY(STAT(app, open_connections) == 0);
    assert_int_equal(STAT(app, resets), 1);
    struct client *next = client_open(app); /* takes the same slot in a new life */
    client_send(next, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_echo(next, (struct slice){NULL, 0});
    app->is_holding = false;
    EVENTUALLY(app->stale_count == 5);
    client_send(next, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_echo(next, (struct slice){NULL, 0});
    client_close(next);
    app_stop(app);
}

static void half_closed_peer_gets_its_answers(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client,
                POST("/defer", "3") "abc" POST("/defer", "3") "def" POST("/echo", "3") "ghi");
    shutdown(client->fd, SHUT_WR);
    EVENTUALLY(app->deferred_seen == 2);
    usleep(20000);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    assert_int_equal(client_read(client, &answer), 202);
    expect_echo(client, SLICE_LITERAL("ghi"));
    expect_end(client);
    client_close(client);
    app_stop(app);
}

/* Sends text, expects one answer with that status, its detail, "Connection: close", and the end. */
static void expect_fault(struct app *app, const char *text, unsigned status)
{
    uint64_t before = STAT(app, faults[status]);
    struct client *client = client_open(app);
    struct answer answer;

    client_send(client, text);
    assert_int_equal(client_read(client, &answer), status);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    assert_ptr_equal(strstr(answer.body, "{\"detail\":\""), answer.body);
    assert_true((status == 503) == (strstr(answer.head, "Retry-After: 1\r\n") != NULL));
    assert_true((status == 415) == (strstr(answer.head, "Accept-Encoding: ") != NULL));
    expect_end(client);
    EVENTUALLY(STAT(app, faults[status]) == before + 1);
    client_close(client);
}

static void every_fault_has_its_status_and_closes(void **state)
{
    (void)state;
    struct app *app = app_start();
    char long_head[20000];

    expect_fault(app, POST("/echo", "16777217"), 413);
    expect_fault(app, POST("/echo", "16777217") "and some of the body", 413);
    expect_fault(app, POST("/small", "11") "hello world", 413);
    expect_fault(app,
                 "POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello "
                 "world\r\n0\r\n\r\n",
                 413);
    expect_fault(app, "POST /echo HTTP/1.1\r\nHost: h\r\n\r\n", 411);
    expect_fault(app, "PUT /echo HTTP/1.1\r\nHost: h\r\n\r\n", 411);
    expect_fault(app, "BREW /echo HTTP/1.1\r\nHost: h\r\n\r\n", 501);
    expect_fault(app, "GET /echo HTTP/1.1\r\nHost: h\r\nBad Name: x\r\n\r\n", 400);
    expect_fault(app, "GET /echo HTTP/2.0\r\nHost: h\r\n\r\n", 505);
    expect_fault(
        app, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        415);
    expect_fault(
        app,
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        400);
    expect_fault(app, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                 400);
    memset(long_head, 'a', sizeof(long_head));
    memcpy(long_head, "GET / HTTP/1.1\r\nHost: h\r\nX: ", 28);
    long_head[sizeof(long_head) - 1] = '\0';
    expect_fault(app, long_head, 431);
    EVENTUALLY(STAT(app, open_connections) == 0);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

static void fault_comes_after_the_deferred_answers(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, POST("/defer", "3") "abc" POST("/defer", "3") "def"
                                                                      "BAD\r\n\r\n");
    EVENTUALLY(app->deferred_seen == 2);
    usleep(20000);
    assert_int_equal(STAT(app, faults[400]), 0);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    assert_int_equal(client_read(client, &answer), 202);
    assert_int_equal(client_read(client, &answer), 400);
    expect_end(client);
    client_close(client);
    app_stop(app);
}

static void refused_body_is_drained_so_that_the_answer_arrives(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    char junk[1000];
    memset(junk, 'j', sizeof(junk));
    client_send(client, POST("/small", "200000"));
    usleep(50000); /* the answer is out before the body comes */
    for (int i = 0; i < 200; i++) {
        assert_true(client_try_send(client, junk, sizeof(junk)));
    }
    assert_int_equal(client_read(client, &answer), 413);
    expect_end(client);
    client_close(client);
    EVENTUALLY(STAT(app, open_connections) == 0);
    assert_int_equal(STAT(app, resets), 0);
    app_stop(app);
}

static void no_room_for_a_body_is_503(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.arena_bytes = MIB(1);
    app_up(app);
    static char junk[20000];
    memset(junk, 'j', sizeof(junk));
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, POST("/echo", "4000000"));
    for (int i = 0; i < 100; i++) { /* 2 MB: more than the arena has */
        if (!client_try_send(client, junk, sizeof(junk))) {
            break;
        }
    }
    assert_int_equal(client_read(client, &answer), 503);
    assert_non_null(strstr(answer.head, "Retry-After: 1\r\n"));
    client_close(client);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

/* A length is a claim: those who declare the most and send nothing must not take others' memory. */
static void declared_lengths_alone_take_little_memory(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.arena_bytes = MIB(2);
    app_up(app);
    struct client *claimers[4];
    for (int i = 0; i < 4; i++) {
        claimers[i] = client_open(app);
        client_send(claimers[i], POST("/echo", "16000000") "x");
    }
    EVENTUALLY(app->arena_used > 0);
    struct client *client = client_open(app);
    client_send(client, POST("/echo", "6") "abc");
    usleep(20000);
    client_send(client, "def");
    expect_echo(client, SLICE_LITERAL("abcdef"));
    client_close(client);
    for (int i = 0; i < 4; i++) {
        client_close(claimers[i]);
    }
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

static void too_many_connections_hear_503(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.connections_max = 2;
    app_up(app);
    struct client *first = client_open(app);
    struct client *second = client_open(app);
    client_send(first, POST("/echo", "1") "a");
    expect_echo(first, SLICE_LITERAL("a"));
    client_send(second, POST("/echo", "1") "b");
    expect_echo(second, SLICE_LITERAL("b"));
    for (int i = 0; i < 40; i++) { /* more than the slots kept for refusals */
        expect_fault(app, POST("/echo", "1") "c", 503);
    }
    assert_int_equal(STAT(app, refused_connections), 40);
    client_close(first);
    EVENTUALLY(STAT(app, open_connections) < 2);
    struct client *third = client_open(app);
    client_send(third, POST("/echo", "1") "d");
    expect_echo(third, SLICE_LITERAL("d"));
    client_close(second);
    client_close(third);
    app_stop(app);
}

static void late_head_and_body_hear_408_and_idle_is_closed_silently(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.head_timeout_ns = 200 * NS_MS;
    app->options.body_timeout_ns = 200 * NS_MS;
    app->options.idle_timeout_ns = 300 * NS_MS;
    app_up(app);
    expect_fault(app, "GET /echo HT", 408);
    expect_fault(app, POST("/echo", "100") "some", 408);
    struct client *client = client_open(app);
    client_send(client, "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_echo(client, (struct slice){NULL, 0});
    expect_end(client);
    client_close(client);
    assert_int_equal(STAT(app, timeouts_head), 1);
    assert_int_equal(STAT(app, timeouts_body), 1);
    EVENTUALLY(STAT(app, timeouts_idle) == 1);
    app_stop(app);
}

static void slow_head_is_late_although_bytes_keep_coming(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.head_timeout_ns = 300 * NS_MS;
    app_up(app);
    struct client *client = client_open(app);
    struct answer answer;
    for (int i = 0; i < 12; i++) {
        (void)client_try_send(client, &"GET /echo HTTP/1.1\r\n"[i], 1);
        usleep(50000);
    }
    assert_int_equal(STAT(app, timeouts_head), 1); /* while the bytes still came */
    assert_int_equal(client_read(client, &answer), 408);
    client_close(client);
    app_stop(app);
}

static void deferred_request_is_not_idle(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.idle_timeout_ns = 100 * NS_MS;
    app->options.head_timeout_ns = 100 * NS_MS;
    app_up(app);
    app->is_holding = true;
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, POST("/defer", "3") "abc");
    usleep(400000);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    client_close(client);
    app_stop(app);
}

static void four_tiny_buffers_starve_and_lose_nothing(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.recv_buffers = 4;
    app->options.recv_buffer_bytes = 256;
    app_up(app);
    struct client *clients[16];
    uint8_t *body = random_bytes(20000);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        clients[i] = client_open(app);
    }
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            client_send(clients[i], POST("/echo", "20000"));
            assert_true(client_try_send(clients[i], body, 20000));
        }
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            expect_echo(clients[i], (struct slice){body, 20000});
        }
    }
    assert_true(STAT(app, recv_starved) > 0);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        client_close(clients[i]);
    }
    mem_free(body);
    app_stop(app);
}

/* Clients that change between the small and the large receive buffers, more of them than there are
 * large ones, and the change falls into the middle of requests. */
static void large_and_small_requests_take_turns_and_lose_nothing(void **state)
{
    (void)state;
    static const size_t sizes[] = {200000, 3, 100000, 5, 5, 5,     5,      5,      5, 5,
                                   5,      5, 250000, 9, 9, 33000, 300000, 300000, 1, 1};
    struct app *app = app_new();
    app_up(app);
    struct client *clients[12];
    uint8_t *body = random_bytes(300000);
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        clients[i] = client_open(app);
    }
    for (size_t round = 0; round < 3 * ARRAY_COUNT(sizes); round++) {
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            size_t bytes = sizes[(round + i) % ARRAY_COUNT(sizes)];
            char head[128];
            (void)snprintf(head, sizeof(head),
                           "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", bytes);
            client_send(clients[i], head);
            assert_true(client_try_send(clients[i], body, bytes));
        }
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            expect_echo(clients[i], (struct slice){body, sizes[(round + i) % ARRAY_COUNT(sizes)]});
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        client_close(clients[i]);
    }
    mem_free(body);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

/* A pipeline of every kind of request, cut at random places, against shrunk limits: the answers are
 * the same. */
static void mixed_pipeline(struct app *app, unsigned seed)
{
    static const char *const requests[] = {
        POST("/echo", "5") "hello",
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
        "chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
        POST("/defer", "3") "abc",
        "POST /defer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        POST("/gone", "3") "abc",
        "\r\nGET /raw HTTP/1.1\r\nHost: h\r\n\r\n",
    };
    const unsigned expected[] = {200, 200, 202, 202, 404, 202};
    unsigned kinds[300];
    char text[300 * 128];
    size_t bytes = 0;
    struct answer answer;
    struct client *client = client_open(app);

    srandom(seed);
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        kinds[i] = (unsigned)random() % ARRAY_COUNT(requests);
        /* A refusal from the head keeps the connection only when the body is here, which cuts
         * decide. */
        kinds[i] = kinds[i] == 4 && i + 1 < ARRAY_COUNT(kinds) ? 5 : kinds[i];
        bytes += (size_t)snprintf(text + bytes, 128, "%s", requests[kinds[i]]);
    }
    for (size_t at = 0; at < bytes;) {
        size_t part = (size_t)random() % 400 + 1;
        part = part < bytes - at ? part : bytes - at;
        assert_true(client_try_send(client, text + at, part));
        at += part;
        if (random() % 4 == 0) {
            usleep(100);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        unsigned status = client_read(client, &answer);
        if (status != expected[kinds[i]]) {
            fail_msg("seed %u: request %zu of kind %u was answered %u", seed, i, kinds[i], status);
        }
        if (expected[kinds[i]] == 200) {
            assert_ptr_equal(strstr(answer.body, "5 "), answer.body);
        }
    }
    client_close(client);
}

static void mixed_pipelines_cut_anywhere_are_answered_alike(void **state)
{
    (void)state;
    unsigned seed_first = (unsigned)(clock_mono_ns() / 1000);
    printf("seeds from %u\n", seed_first);
    for (unsigned i = 0; i < 8; i++) {
        struct app *app = app_new();
        app->options.recv_buffers = i % 2 == 0 ? 4 : 64;
        app->options.recv_buffer_bytes = i % 2 == 0 ? 64 : 512;
        app->options.pipeline_max = 1 + i * 3;
        app->per_pass = 1 + i % 3;
        app_up(app);
        mixed_pipeline(app, seed_first + i);
        EVENTUALLY(app->arena_used == 0);
        app_stop(app);
    }
}

/* Arenas from nearly nothing upwards: whatever fails, fails with an answer or a close, and
 * everything is given back. */
static void any_shortage_of_memory_is_survived(void **state)
{
    (void)state;
    for (size_t arena_bytes = 65536; arena_bytes <= MIB(2); arena_bytes *= 2) {
        struct app *app = app_new();
        app->options.arena_bytes = arena_bytes;
        app->per_pass = 2;
        app_up(app);
        uint8_t *body = random_bytes(200000);
        struct client *clients[6];
        struct answer answer;
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            clients[i] = client_open(app);
            bool is_ok = client_try_send(clients[i], POST("/defer", "3") "abc",
                                         strlen(POST("/defer", "3") "abc"));
            is_ok = is_ok && client_try_send(clients[i], POST("/echo", "200000"),
                                             strlen(POST("/echo", "200000")));
            (void)(is_ok && client_try_send(clients[i], body, 200000));
        }
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            for (unsigned n = 0; n < 2 && client_try_read(clients[i], &answer, true); n++) {
                assert_true(answer.status == 202 || answer.status == 200 || answer.status == 503);
            }
            client_close(clients[i]);
        }
        EVENTUALLY(STAT(app, open_connections) == 0);
        EVENTUALLY(app->arena_used == 0);
        mem_free(body);
        app_stop(app);
    }
}

struct sender {
    struct client *client;
    const char *head;
    const uint8_t *body;
    size_t bytes;
    size_t chunk; /* 0: not chunked */
};

static void *sender_thread(void *context)
{
    struct sender *sender = context;
    char line[32];

    client_send(sender->client, sender->head);
    if (sender->chunk == 0) {
        assert_true(client_try_send(sender->client, sender->body, sender->bytes));
        return NULL;
    }
    for (size_t at = 0; at < sender->bytes;) {
        size_t part = sender->bytes - at < sender->chunk ? sender->bytes - at : sender->chunk;
        snprintf(line, sizeof(line), "%zx\r\n", part);
        client_send(sender->client, line);
        assert_true(client_try_send(sender->client, sender->body + at, part));
        client_send(sender->client, "\r\n");
        at += part;
    }
    client_send(sender->client, "0\r\nX-Trailer: yes\r\n\r\n");
    return NULL;
}

static void send_large(struct app *app, const char *head, struct slice sent, size_t chunk,
                       struct slice expected)
{
    struct client *client = client_open(app);
    struct sender sender = {client, head, sent.data, sent.bytes, chunk};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, sender_thread, &sender), 0);
    expect_echo(client, expected);
    pthread_join(thread, NULL);
    client_send(client,
                POST("/echo", "5") "hello"); /* and the connection goes on where the body ended */
    expect_echo(client, SLICE_LITERAL("hello"));
    client_close(client);
    EVENTUALLY(app->arena_used == 0);
}

static size_t gzip(uint8_t *out, size_t room, const uint8_t *data, size_t bytes)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)data;
    z.avail_in = (uInt)bytes;
    z.next_out = out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t made = z.total_out;
    deflateEnd(&z);
    return made;
}

static void sixteen_mebibytes_arrive_in_every_coding(void **state)
{
    (void)state;
    struct app *app = app_start();
    size_t bytes = MIB(16);
    uint8_t *body = random_bytes(bytes);
    uint8_t *packed = mem_alloc(bytes + 65536);
    struct slice whole = {body, bytes};
    char head[256];

    send_large(app, POST("/echo", "16777216"), whole, 0, whole);
    send_large(app, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", whole,
               65536, whole);
    send_large(app, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", whole,
               9973, whole);
    size_t packed_bytes = gzip(packed, bytes + 65536, body, bytes);
    snprintf(
        head, sizeof(head),
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
        packed_bytes);
    send_large(app, head, (struct slice){packed, packed_bytes}, 0, whole);
    send_large(app,
               "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nTransfer-Encoding: "
               "chunked\r\n\r\n",
               (struct slice){packed, packed_bytes}, 100000, whole);
    packed_bytes = ZSTD_compress(packed, bytes + 65536, body, bytes, 1);
    snprintf(
        head, sizeof(head),
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Encoding: zstd\r\nContent-Length: %zu\r\n\r\n",
        packed_bytes);
    send_large(app, head, (struct slice){packed, packed_bytes}, 0, whole);
    mem_free(packed);
    mem_free(body);
    app_stop(app);
}

static void head_request_gets_the_length_without_the_body(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client,
                "HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\nHEAD /raw HTTP/1.1\r\nHost: h\r\n\r\n"
                "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(client_try_read(client, &answer, false));
    assert_int_equal(answer.body_bytes, 18);
    assert_true(client_try_read(client, &answer, false));
    assert_int_equal(answer.body_bytes, 2);
    expect_echo(client, (struct slice){NULL, 0});
    client_close(client);
    app_stop(app);
}

static void expect_continue_is_sent_once_and_only_when_no_body_byte_has_come(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
#define EXPECT_HEAD(path)                                                                          \
    "POST " path " HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    client_send(client, EXPECT_HEAD("/echo"));
    assert_true(client_try_read(client, &answer, false));
    assert_int_equal(answer.status, 100);
    client_send(client, "hello");
    expect_echo(client, SLICE_LITERAL("hello"));
    client_send(client, EXPECT_HEAD("/echo") "hello");
    expect_echo(client, SLICE_LITERAL("hello"));
    client_send(client, EXPECT_HEAD("/echo") "he");
    usleep(20000);
    client_send(client, "llo");
    expect_echo(client, SLICE_LITERAL("hello"));
    /* Behind a deferred request the 100 waits for its answer. */
    app->is_holding = true;
    client_send(client, POST("/defer", "3") "abc" EXPECT_HEAD("/echo"));
    usleep(20000);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    assert_true(client_try_read(client, &answer, false));
    assert_int_equal(answer.status, 100);
    client_send(client, "hello");
    expect_echo(client, SLICE_LITERAL("hello"));
    /* on_head decides first. */
    client_send(client, EXPECT_HEAD("/gone"));
    assert_int_equal(client_read(client, &answer), 404);
    expect_end(client);
    client_close(client);
    app_stop(app);
}

static void head_answer_keeps_the_connection_when_the_body_is_here(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client,
                POST("/defer", "3") "abc" POST("/gone", "3") "def" POST("/echo", "3") "ghi");
    usleep(20000);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    assert_int_equal(client_read(client, &answer), 404);
    assert_null(strstr(answer.head, "Connection"));
    expect_echo(client, SLICE_LITERAL("ghi"));
    client_close(client);
    app_stop(app);
}

static void http10_closes_unless_it_asks_to_be_kept(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, "GET /echo HTTP/1.0\r\n\r\n");
    assert_int_equal(client_read(client, &answer), 200);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    expect_end(client);
    client_close(client);
    client = client_open(app);
    client_send(client, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_int_equal(client_read(client, &answer), 200);
    assert_non_null(strstr(answer.head, "Connection: keep-alive\r\n"));
    client_send(client, "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /echo "
                        "HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(client_read(client, &answer), 200);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    expect_end(client);
    client_close(client);
    app_stop(app);
}

static void close_is_said_by_the_last_deferred_answer(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *client = client_open(app);
    struct answer answer;
    client_send(client, POST("/defer", "3") "abc"
                                            "POST /defer HTTP/1.1\r\nHost: h\r\nConnection: "
                                            "close\r\nContent-Length: 1\r\n\r\nx");
    EVENTUALLY(app->deferred_seen == 2);
    app->is_holding = false;
    assert_int_equal(client_read(client, &answer), 202);
    assert_null(strstr(answer.head, "Connection"));
    assert_int_equal(client_read(client, &answer), 202);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    expect_end(client);
    client_close(client);
    app_stop(app);
}

static void peer_that_does_not_read_bounds_the_answers_and_is_cut_off(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.send_timeout_ns = 500 * NS_MS;
    app_up(app);
    struct client *client = client_open_small(app, 4096);
    for (int i = 0; i < 100; i++) {
        client_send(client, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    usleep(200000);
    assert_true(app->arena_used < MIB(8));
    assert_true(STAT(app, requests) < 50);
    EVENTUALLY(STAT(app, timeouts_send) == 1);
    EVENTUALLY(STAT(app, open_connections) == 0);
    EVENTUALLY(app->arena_used == 0);
    client_close(client);
    app_stop(app);
}

static void slow_reader_gets_every_answer(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app);
    struct answer answer;
    for (int i = 0; i < 30; i++) {
        client_send(client, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for (int i = 0; i < 30; i++) {
        assert_int_equal(client_read(client, &answer), 200);
        assert_int_equal(answer.body_bytes, BIG_BYTES);
    }
    client_close(client);
    EVENTUALLY(app->arena_used == 0);
    app_stop(app);
}

static void answer_without_memory_closes_the_connection(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->options.arena_bytes = 65536;
    app_up(app);
    struct client *client = client_open(app);
    client_send(client, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_end(client);
    client_close(client);
    EVENTUALLY(STAT(app, open_connections) == 0);
    app_stop(app);
}

static void drain_closes_the_idle_and_lets_the_others_finish(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *idle = client_open(app);
    struct client *busy = client_open(app);
    struct client *half = client_open(app);
    struct answer answer;
    client_send(idle, POST("/echo", "1") "a");
    expect_echo(idle, SLICE_LITERAL("a"));
    client_send(busy, POST("/defer", "3") "abc");
    client_send(half, POST("/echo", "6") "abc");
    EVENTUALLY(app->deferred_seen == 1);
    EVENTUALLY(STAT(app, open_connections) == 3);
    usleep(20000);
    app->is_draining = true;
    expect_end(idle);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)server_port(app->server, 0))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
    close(fd);
    assert_false(app->is_drained);
    app->is_holding = false;
    assert_int_equal(client_read(busy, &answer), 202);
    expect_end(busy);
    client_send(half, "def");
    assert_int_equal(client_read(half, &answer), 200);
    assert_non_null(strstr(answer.head, "Connection: close\r\n"));
    expect_end(half);
    client_close(idle);
    client_close(busy);
    client_close(half);
    EVENTUALLY(app->is_drained);
    app_stop(app);
}

static void stopping_with_work_in_flight_is_clean(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_holding = true;
    struct client *busy = client_open(app);
    struct client *deaf = client_open_small(app, 4096);
    struct client *half = client_open(app);
    client_send(busy, POST("/defer", "3") "abc" POST("/defer", "3") "abc");
    client_send(half, POST("/echo", "6000") "abc");
    for (int i = 0; i < 10; i++) {
        client_send(deaf, "GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    usleep(50000);
    app_stop(app);
    client_close(busy);
    client_close(deaf);
    client_close(half);
}

static void port_is_free_at_once_after_close(void **state)
{
    (void)state;
    char address[32];
    struct app *app = app_start();
    snprintf(address, sizeof(address), "127.0.0.1:%u", server_port(app->server, 0));
    app_stop(app);
    for (int i = 0; i < 10; i++) {
        app = app_new();
        app->options.listen[0] = address;
        app_up(app);
        struct client *client = client_open(app);
        client_send(client, POST("/echo", "1") "a");
        expect_echo(client, SLICE_LITERAL("a"));
        app_stop(app);
        client_close(client);
    }
}

static void wrong_addresses_are_refused_with_their_name(void **state)
{
    (void)state;
    const char *wrong[] = {"8080",    "1.2.3.4",     "1.2.3.4:99999", "::1:80",
                           "[::1:80", "1.2.3.4:80x", "192.0.2.1:0",   ""};
    struct server_callbacks callbacks = {.on_request = app_on_request};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct app *app = app_new();
        struct err err = {0};
        struct server *server = NULL;
        app->options.listen[0] = wrong[i];
        app->options.park = NULL;
        assert_true(server_open(&server, &app->options, &callbacks, &err) < 0);
        assert_non_null(strstr(err.text, wrong[i]));
        mem_free(app->big);
        mem_free(app);
    }
}

static void no_descriptor_pauses_accepting_and_goes_on_later(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    /* The kernel takes the limit when the accept is armed, so it is lowered first and used up
     * later. */
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    struct app *app = app_start();
    int spares[64];
    size_t count = 0;
    /* Again and again: what a thread that has just started opens for a moment is free a moment later. */
    for (unsigned round = 0; round < 10; round++) {
        while (count < ARRAY_COUNT(spares) && (spares[count] = dup(0)) >= 0) {
            count++;
        }
        usleep(10000);
    }
    assert_true(count > 1);
    close(spares[--count]); /* for the client's own socket */
    struct client *client = client_open(app);
    client_send(client, POST("/echo", "1") "b");
    EVENTUALLY(STAT(app, accept_errors) > 0);
    usleep(150000);
    assert_true(STAT(app, accept_errors) < 5); /* a pause, not a storm */
    while (count > 0) {
        close(spares[--count]);
    }
    expect_echo(client, SLICE_LITERAL("b"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    client_close(client);
    app_stop(app);
}

static void park_wake_ends_a_wait(void **state)
{
    (void)state;
    struct app *app = app_new();
    struct server_callbacks callbacks = {.context = app, .on_request = app_on_request};
    struct err err = {0};
    assert_int_equal(park_init(&app->park, &err), 0);
    app->options.listen[0] = ":0";
    assert_int_equal(server_open(&app->server, &app->options, &callbacks, &err), 0);
    for (int i = 0; i < 3; i++) {
        uint64_t start_ns = clock_mono_ns();
        park_prepare(&app->park, PARK_ANY);
        assert_true(park_wake(&app->park, false));
        assert_int_equal(server_poll(app->server, 5 * NS_S, false), 1);
        park_cancel(&app->park);
        assert_true(clock_mono_ns() - start_ns < NS_S);
    }
    uint64_t start_ns = clock_mono_ns();
    assert_int_equal(server_poll(app->server, 20 * NS_MS, false), 0);
    assert_true(clock_mono_ns() - start_ns >= 19 * NS_MS);
    server_close(app->server);
    park_close(&app->park);
    mem_free(app->big);
    mem_free(app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_is_answered_and_the_connection_is_kept),
        cmocka_unit_test(answer_carries_date_length_and_type),
        cmocka_unit_test(request_may_arrive_a_byte_at_a_time),
        cmocka_unit_test(thousand_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(later_requests_are_presented_again_in_order),
        cmocka_unit_test(held_input_beyond_the_bound_stops_receiving_and_goes_on_later),
        cmocka_unit_test(stale_handle_is_refused_and_close_with_outstanding_answers_is_clean),
        cmocka_unit_test(half_closed_peer_gets_its_answers),
        cmocka_unit_test(every_fault_has_its_status_and_closes),
        cmocka_unit_test(fault_comes_after_the_deferred_answers),
        cmocka_unit_test(refused_body_is_drained_so_that_the_answer_arrives),
        cmocka_unit_test(no_room_for_a_body_is_503),
        cmocka_unit_test(declared_lengths_alone_take_little_memory),
        cmocka_unit_test(too_many_connections_hear_503),
        cmocka_unit_test(late_head_and_body_hear_408_and_idle_is_closed_silently),
        cmocka_unit_test(slow_head_is_late_although_bytes_keep_coming),
        cmocka_unit_test(deferred_request_is_not_idle),
        cmocka_unit_test(four_tiny_buffers_starve_and_lose_nothing),
        cmocka_unit_test(large_and_small_requests_take_turns_and_lose_nothing),
        cmocka_unit_test(mixed_pipelines_cut_anywhere_are_answered_alike),
        cmocka_unit_test(any_shortage_of_memory_is_survived),
        cmocka_unit_test(sixteen_mebibytes_arrive_in_every_coding),
        cmocka_unit_test(head_request_gets_the_length_without_the_body),
        cmocka_unit_test(expect_continue_is_sent_once_and_only_when_no_body_byte_has_come),
        cmocka_unit_test(head_answer_keeps_the_connection_when_the_body_is_here),
        cmocka_unit_test(http10_closes_unless_it_asks_to_be_kept),
        cmocka_unit_test(close_is_said_by_the_last_deferred_answer),
        cmocka_unit_test(peer_that_does_not_read_bounds_the_answers_and_is_cut_off),
        cmocka_unit_test(slow_reader_gets_every_answer),
        cmocka_unit_test(answer_without_memory_closes_the_connection),
        cmocka_unit_test(drain_closes_the_idle_and_lets_the_others_finish),
        cmocka_unit_test(stopping_with_work_in_flight_is_clean),
        cmocka_unit_test(port_is_free_at_once_after_close),
        cmocka_unit_test(wrong_addresses_are_refused_with_their_name),
        cmocka_unit_test(no_descriptor_pauses_accepting_and_goes_on_later),
        cmocka_unit_test(park_wake_ends_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
