/*
 * test_stream: promises of answers in pieces and of upgraded connections, over real sockets. The
 * shard's thread runs an application of a few routes; the test is the client.
 *
 *   /echo           answered at once
 *   /stream/N       N bytes in a stream, filled whenever there is room
 *   /later/N        the same, deferred alone, begun in a later pass
 *   /units/N        N units of UNIT_BYTES, put only when a whole one fits
 *   /hold           a stream that stays open until the test lets go
 *   /broken         some bytes, then a broken end
 *   /now            begun, filled and ended in on_request
 *   /upgrade        speaks back what it hears; "bye" ends it
 *   /later-upgrade  the same, deferred alone
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/clock.h"
#include "core/mem.h"
#include "net/http_chunked.h"
#include "shard_fixture.h"

enum {
    STREAMS_MAX = 256,
    UNIT_BYTES = 100000, /* less than half of SERVER_STREAM_UNSENT */
    PUT_BYTES = 60000,
};

enum kind {
    KIND_FREE = 0,
    KIND_BYTES,
    KIND_UNITS,
    KIND_HOLD,
    KIND_UPGRADE,
    KIND_ENDED, /* by us; STREAM_GONE is due */
};

struct stream {
    enum kind kind;
    struct conn_handle conn;
    size_t at;
    size_t bytes;
    bool is_waiting; /* deferred, not begun */
};

struct app {
    struct shard_fixture shard;
    struct stream streams[STREAMS_MAX];
    _Atomic unsigned begun, gone, rooms, presented, requests, begin_failed, put_failed;
    _Atomic unsigned open;
    _Atomic size_t put_bytes;
    _Atomic size_t hold_room;
    _Atomic bool is_letting_go;
    _Atomic bool is_delaying; /* deferred streams are not begun */
};

/* ---- the application, in the shard's thread ---- */

static uint8_t pattern(size_t at)
{
    return (uint8_t)('a' + (at * 7 + at / 251) % 26);
}

static struct slice pattern_part(uint8_t *to, size_t at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = pattern(at + i);
    }
    return (struct slice){to, bytes};
}

static struct stream *stream_find(struct app *app, struct conn_handle conn)
{
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &app->streams[i];
        if (stream->kind != KIND_FREE && stream->conn.index == conn.index &&
            stream->conn.generation == conn.generation) {
            return stream;
        }
    }
    return NULL;
}

static struct stream *stream_new(struct app *app, enum kind kind, struct conn_handle conn,
                                 size_t bytes)
{
    /* The one before it on this connection must have been told of its end. */
    assert_null(stream_find(app, conn));
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        if (app->streams[i].kind == KIND_FREE) {
            app->streams[i] = (struct stream){.kind = kind, .conn = conn, .bytes = bytes};
            return &app->streams[i];
        }
    }
    fail_msg("too many streams");
    return NULL;
}

static void stream_end(struct app *app, struct stream *stream, bool is_broken)
{
    stream->kind = KIND_ENDED;
    server_stream_end(app->shard.server, stream->conn, is_broken);
    assert_int_equal(server_stream_room(app->shard.server, stream->conn), 0);
    assert_int_equal(server_stream_put(app->shard.server, stream->conn, SLICE_LITERAL("too late")),
                     -ESTALE);
}

/* Fills what room there is; false: the connection has gone. */
static bool stream_put(struct app *app, struct stream *stream, size_t bytes)
{
    static uint8_t part[UNIT_BYTES];
    int r =
        server_stream_put(app->shard.server, stream->conn, pattern_part(part, stream->at, bytes));

    if (r < 0) {
        assert_true(r == -ENOMEM || r == -ESTALE);
        app->put_failed++;
        return false;
    }
    stream->at += bytes;
    app->put_bytes += bytes;
    return true;
}

static void stream_fill(struct app *app, struct stream *stream)
{
    while (stream->at < stream->bytes) {
        size_t room = server_stream_room(app->shard.server, stream->conn);
        size_t part = stream->kind == KIND_UNITS ? UNIT_BYTES : PUT_BYTES;
        if (stream->kind == KIND_UNITS && room < UNIT_BYTES) {
            return;
        }
        part = u64_min(u64_min(part, room), stream->bytes - stream->at);
        if (part == 0 || !stream_put(app, stream, part)) {
            return;
        }
    }
    stream_end(app, stream, false);
}

static int stream_begin(struct app *app, struct stream *stream)
{
    const struct http_answer head = {
        .status = 200, .content_type = "text/plain", .extra = SLICE_LITERAL("X-Kind: stream\r\n")};
    int r = 0;

    if (stream->kind == KIND_UPGRADE) {
        r = server_upgrade(app->shard.server, stream->conn,
                           SLICE_LITERAL("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    } else {
        r = server_stream_begin(app->shard.server, stream->conn, &head);
    }
    stream->is_waiting = false;
    if (r < 0) {
        assert_true(r == -ENOMEM || r == -ENODATA || r == -ESTALE);
        stream->kind = KIND_FREE;
        app->begin_failed++;
        return r;
    }
    app->begun++;
    app->open++;
    return 0;
}

static void app_on_stream(void *context, struct conn_handle conn, enum stream_event event,
                          struct slice data)
{
    struct app *app = context;
    struct stream *stream = stream_find(app, conn);

    assert_non_null(stream); /* begun, and not gone yet */
    assert_false(stream->is_waiting);
    if (event == STREAM_GONE) {
        stream->kind = KIND_FREE;
        app->gone++;
        app->open--;
        assert_int_equal(server_stream_room(app->shard.server, conn), 0);
    } else if (event == STREAM_ROOM) {
        app->rooms++;
        assert_true(server_stream_room(app->shard.server, conn) >= SERVER_STREAM_UNSENT / 2);
        stream_fill(app, stream);
    } else {
        assert_int_equal(stream->kind, KIND_UPGRADE);
        if (data.bytes >= 3 && memcmp(data.data + data.bytes - 3, "bye", 3) == 0) {
            stream_end(app, stream, false);
            return;
        }
        assert_true(server_stream_room(app->shard.server, conn) >= data.bytes);
        (void)!server_stream_put(app->shard.server, conn, data);
    }
}

static size_t path_number(struct slice path)
{
    const uint8_t *slash = memrchr(path.data, '/', path.bytes);
    size_t number = 0;

    for (const uint8_t *at = slash + 1; at < path.data + path.bytes; at++) {
        number = number * 10 + (size_t)(*at - '0');
    }
    return number;
}

static bool path_is(struct slice path, const char *text)
{
    return path.bytes >= strlen(text) && memcmp(path.data, text, strlen(text)) == 0;
}

static enum http_verdict app_begin(struct app *app, struct stream *stream)
{
    if (stream_begin(app, stream) == 0) {
        stream_fill(app, stream);
    }
    return HTTP_ANSWERED;
}

static enum http_verdict app_on_request(void *context, const struct http_request *request)
{
    struct app *app = context;
    struct slice path = http_span_slice(request->head_base, request->head->path);

    app->presented++;
    if (request->deferred_count > 0) {
        return HTTP_LATER;
    }
    app->requests++;
    if (path_is(path, "/stream/")) {
        return app_begin(app, stream_new(app, KIND_BYTES, request->conn, path_number(path)));
    }
    if (path_is(path, "/units/")) {
        size_t bytes = path_number(path) * UNIT_BYTES;
        return app_begin(app, stream_new(app, KIND_UNITS, request->conn, bytes));
    }
    if (path_is(path, "/now")) {
        return app_begin(app, stream_new(app, KIND_BYTES, request->conn, 10));
    }
    if (path_is(path, "/hold")) {
        struct stream *stream = stream_new(app, KIND_HOLD, request->conn, SIZE_MAX);
        if (stream_begin(app, stream) == 0) {
            (void)stream_put(app, stream, 5);
        }
        return HTTP_ANSWERED;
    }
    if (path_is(path, "/broken")) {
        struct stream *stream = stream_new(app, KIND_HOLD, request->conn, SIZE_MAX);
        if (stream_begin(app, stream) == 0 && stream_put(app, stream, 5)) {
            stream_end(app, stream, true);
        }
        return HTTP_ANSWERED;
    }
    if (path_is(path, "/upgrade")) {
        (void)stream_begin(app, stream_new(app, KIND_UPGRADE, request->conn, SIZE_MAX));
        return HTTP_ANSWERED;
    }
    if (path_is(path, "/later")) {
        bool is_upgrade = path_is(path, "/later-upgrade");
        struct stream *stream =
            stream_new(app, is_upgrade ? KIND_UPGRADE : KIND_BYTES, request->conn,
                       is_upgrade ? SIZE_MAX : path_number(path));
        stream->is_waiting = true;
        return HTTP_DEFERRED_ALONE;
    }
    struct http_answer answer = {.status = 200, .body = SLICE_LITERAL("echo")};
    assert_int_equal(server_answer(app->shard.server, request->conn, &answer), 0);
    return HTTP_ANSWERED;
}

static void app_on_pass(void *context)
{
    struct app *app = context;

    for (size_t i = 0; i < STREAMS_MAX; i++) {
        struct stream *stream = &app->streams[i];
        if (stream->kind == KIND_FREE) {
            continue;
        }
        if (stream->is_waiting && !app->is_delaying) {
            if (stream_begin(app, stream) == 0 && stream->kind == KIND_BYTES) {
                stream_fill(app, stream);
            }
        }
        if (stream->kind == KIND_HOLD) {
            app->hold_room = server_stream_room(app->shard.server, stream->conn);
        }
        if (stream->kind == KIND_HOLD && app->is_letting_go) {
            stream_end(app, stream, false);
        }
    }
}

static struct app *app_new(void)
{
    struct app *app = mem_alloc(sizeof(*app));

    shard_init(&app->shard);
    app->shard.callbacks = (struct server_callbacks){
        .context = app, .on_request = app_on_request, .on_stream = app_on_stream};
    app->shard.on_pass = app_on_pass;
    return app;
}

static struct app *app_start(void)
{
    struct app *app = app_new();

    shard_up(&app->shard);
    return app;
}

static void app_stop(struct app *app)
{
    shard_down(&app->shard);
    mem_free(app);
}

/* ---- the client ---- */

struct client {
    int fd;
    size_t bytes;
    uint8_t data[65536];
};

static struct client *client_open(struct app *app, int receive_bytes)
{
    struct client *client = mem_alloc(sizeof(*client));

    client->fd = shard_connect(&app->shard, receive_bytes);
    return client;
}

static void client_close(struct client *client)
{
    close(client->fd);
    mem_free(client);
}

static void client_reset(struct client *client)
{
    shard_reset(client->fd);
    mem_free(client);
}

static void client_send(struct client *client, const char *text)
{
    assert_true(shard_send(client->fd, text, strlen(text)));
}

static ssize_t client_fill(struct client *client)
{
    assert_true(client->bytes < sizeof(client->data));
    ssize_t n =
        recv(client->fd, client->data + client->bytes, sizeof(client->data) - client->bytes, 0);

    client->bytes += n > 0 ? (size_t)n : 0;
    return n;
}

static void client_take(struct client *client, size_t bytes)
{
    memmove(client->data, client->data + bytes, client->bytes - bytes);
    client->bytes -= bytes;
}

/* Reads a head into text (zero-terminated). */
static void client_head(struct client *client, char text[1024])
{
    const uint8_t *end = NULL;

    while ((end = memmem(client->data, client->bytes, "\r\n\r\n", 4)) == NULL) {
        assert_true(client_fill(client) > 0);
    }
    size_t bytes = (size_t)(end - client->data) + 4;
    assert_true(bytes < 1024);
    memcpy(text, client->data, bytes);
    text[bytes] = '\0';
    client_take(client, bytes);
}

/* Reads chunks and checks the pattern; returns the bytes of the body, or -1 when the connection
 * ended before the last chunk. */
static ssize_t client_chunks(struct client *client)
{
    const struct http_limits limits = {
        .head_bytes_max = 16384, .fields_max = 10, .body_bytes_max = SIZE_MAX / 2};
    struct http_chunked chunked;
    struct http_fault fault = {0};
    size_t whole = 0;

    http_chunked_init(&chunked, &limits);
    for (;;) {
        if (client->bytes == 0 && client_fill(client) <= 0) {
            return -1;
        }
        static uint8_t body[65536];
        size_t taken = 0;
        size_t given = 0;
        enum chunked_result result = http_chunked_decode(&chunked, body, client->data,
                                                         client->bytes, &taken, &given, &fault);
        assert_int_not_equal(result, CHUNKED_FAULT);
        for (size_t i = 0; i < given; i++) {
            if (body[i] != pattern(whole + i)) {
                fail_msg("byte %zu is wrong", whole + i);
            }
        }
        whole += given;
        client_take(client, taken);
        if (result == CHUNKED_DONE) {
            return (ssize_t)whole;
        }
    }
}

static void expect_stream(struct client *client, size_t bytes)
{
    char head[1024];

    client_head(client, head);
    assert_non_null(strstr(head, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(head, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(head, "\r\nX-Kind: stream\r\n"));
    assert_non_null(strstr(head, "\r\nDate: "));
    assert_null(strstr(head, "Content-Length"));
    assert_int_equal(client_chunks(client), bytes);
}

static void expect_echo(struct client *client)
{
    char head[1024];

    client_head(client, head);
    assert_non_null(strstr(head, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(head, "Content-Length: 4\r\n"));
    while (client->bytes < 4) {
        assert_true(client_fill(client) > 0);
    }
    assert_memory_equal(client->data, "echo", 4);
    client_take(client, 4);
}

static void expect_bytes(struct client *client, const char *text)
{
    size_t bytes = strlen(text);

    while (client->bytes < bytes) {
        assert_true(client_fill(client) > 0);
    }
    assert_memory_equal(client->data, text, bytes);
    client_take(client, bytes);
}

static void expect_end(struct client *client)
{
    assert_int_equal(client->bytes, 0);
    assert_int_equal(client_fill(client), 0);
}

/* Everything that began was told of its end, once, and nothing is kept. */
static void expect_quiet(struct app *app, unsigned begun)
{
    SHARD_EVENTUALLY(app->gone == begun);
    SHARD_EVENTUALLY(app->open == 0);
    assert_int_equal(app->begun, begun);
    SHARD_EVENTUALLY(app->shard.arena_used == 0);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"

/* ---- tests: HTTP streams ---- */

static void ten_megabytes_reach_a_slow_reader_in_bounded_memory(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 4096);
    client_send(client, GET("/stream/10000000"));
    usleep(200000);
    size_t put = app->put_bytes; /* the kernel has a part of it, we have no more than agreed */
    assert_true(put < 8000000);
    assert_true(app->shard.arena_most <= KIB(512) + 65536);
    usleep(50000);
    assert_int_equal(app->put_bytes, put);
    expect_stream(client, 10000000);
    assert_true(app->shard.arena_most <= KIB(512) + 65536);
    assert_true(app->rooms > 10);
    client_send(client, GET("/echo"));
    expect_echo(client);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void units_that_do_not_fit_are_put_when_room_is_told(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 4096);
    client_send(client, GET("/units/70"));
    expect_stream(client, 7000000);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void pipelined_requests_are_answered_after_the_stream(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    client_send(client, GET("/stream/500000") GET("/echo") GET("/stream/3") GET("/stream/0")
                            GET("/now") "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: "
                                        "3\r\n\r\nabc" GET("/stream/70000"));
    expect_stream(client, 500000);
    expect_echo(client);
    expect_stream(client, 3);
    expect_stream(client, 0);
    expect_stream(client, 10);
    expect_echo(client);
    expect_stream(client, 70000);
    client_close(client);
    expect_quiet(app, 5);
    app_stop(app);
}

static void request_behind_a_stream_is_not_presented_before_its_end(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    char head[1024];
    client_send(client, GET("/hold") GET("/echo"));
    client_head(client, head);
    usleep(20000);
    client_send(client, GET("/echo"));
    usleep(20000);
    assert_int_equal(app->requests, 1);
    assert_int_equal(app->gone, 0);
    SHARD_EVENTUALLY(app->hold_room == SERVER_STREAM_UNSENT); /* all is sent */
    app->is_letting_go = true;
    assert_int_equal(client_chunks(client), 5);
    expect_echo(client);
    expect_echo(client);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void stream_deferred_alone_keeps_later_requests_waiting(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_delaying = true;
    struct client *client = client_open(app, 0);
    client_send(client, GET("/later/300000") GET("/echo") GET("/later/1") GET("/echo"));
    SHARD_EVENTUALLY(app->requests == 1);
    usleep(20000);
    client_send(client, GET("/echo"));
    usleep(20000);
    assert_int_equal(app->presented, 1); /* not even to hear HTTP_LATER */
    app->is_delaying = false;
    expect_stream(client, 300000);
    expect_echo(client);
    expect_stream(client, 1);
    expect_echo(client);
    expect_echo(client);
    client_close(client);
    expect_quiet(app, 2);
    app_stop(app);
}

static void deferred_stream_of_a_client_that_left_is_stale(void **state)
{
    (void)state;
    struct app *app = app_start();
    app->is_delaying = true;
    struct client *client = client_open(app, 0);
    client_send(client, GET("/later/300000"));
    SHARD_EVENTUALLY(app->requests == 1);
    client_reset(client);
    SHARD_EVENTUALLY(SHARD_STAT(&app->shard, open_connections) == 0);
    app->is_delaying = false;
    SHARD_EVENTUALLY(app->begin_failed == 1);
    expect_quiet(app, 0);
    app_stop(app);
}

static void head_request_gets_the_head_alone(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    char head[1024];
    client_send(client, "HEAD /stream/1000 HTTP/1.1\r\nHost: h\r\n\r\n"
                        "HEAD /later/1000 HTTP/1.1\r\nHost: h\r\n\r\n" GET("/echo"));
    for (int i = 0; i < 2; i++) {
        client_head(client, head);
        assert_non_null(strstr(head, "HTTP/1.1 200 OK\r\n"));
        assert_non_null(strstr(head, "\r\nTransfer-Encoding: chunked\r\n"));
    }
    expect_echo(client);
    client_close(client);
    assert_int_equal(app->begin_failed, 2);
    expect_quiet(app, 0);
    app_stop(app);
}

static void http10_body_ends_with_the_connection(void **state)
{
    (void)state;
    struct app *app = app_start();
    const char *requests[] = {"GET /stream/200000 HTTP/1.0\r\n\r\n",
                              "GET /stream/200000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                              "GET /later/200000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_COUNT(requests); i++) {
        struct client *client = client_open(app, 0);
        char head[1024];
        size_t whole = 0;
        client_send(client, requests[i]);
        client_head(client, head);
        assert_non_null(strstr(head, "Connection: close\r\n"));
        assert_null(strstr(head, "Transfer-Encoding"));
        do {
            for (size_t at = 0; at < client->bytes; at++) {
                assert_int_equal(client->data[at], pattern(whole + at));
            }
            whole += client->bytes;
            client->bytes = 0;
        } while (client_fill(client) > 0);
        assert_int_equal(whole, 200000);
        client_close(client);
    }
    expect_quiet(app, 3);
    app_stop(app);
}

static void last_request_of_a_connection_may_be_a_stream(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    char head[1024];
    client_send(client, "GET /stream/200000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    client_head(client, head);
    assert_non_null(strstr(head, "Connection: close\r\n"));
    assert_int_equal(client_chunks(client), 200000);
    expect_end(client);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void peer_that_leaves_in_the_middle_is_told_once(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *busy = client_open(app, 4096);
    struct client *quiet = client_open(app, 0);
    char head[1024];
    client_send(busy, GET("/stream/100000000"));
    client_send(quiet, GET("/hold"));
    client_head(busy, head);
    client_head(quiet, head);
    client_reset(busy);
    client_reset(quiet);
    expect_quiet(app, 2);
    SHARD_EVENTUALLY(SHARD_STAT(&app->shard, open_connections) == 0);
    struct client *next = client_open(app, 0);
    client_send(next, GET("/stream/70000"));
    expect_stream(next, 70000);
    client_close(next);
    expect_quiet(app, 3);
    app_stop(app);
}

static void half_closed_peer_gets_the_whole_stream(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 4096);
    client_send(client, GET("/stream/3000000") GET("/stream/5"));
    shutdown(client->fd, SHUT_WR);
    usleep(20000);
    expect_stream(client, 3000000);
    expect_stream(client, 5);
    expect_end(client);
    client_close(client);
    expect_quiet(app, 2);
    app_stop(app);
}

static void peer_that_takes_nothing_is_cut_off(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->shard.options.send_timeout_ns = 300 * NS_MS;
    shard_up(&app->shard);
    struct client *client = client_open(app, 4096);
    client_send(client, GET("/stream/100000000"));
    SHARD_EVENTUALLY(SHARD_STAT(&app->shard, timeouts_send) == 1);
    expect_quiet(app, 1);
    client_close(client);
    app_stop(app);
}

static void slow_reader_that_takes_something_is_not_cut_off(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->shard.options.send_timeout_ns = 400 * NS_MS;
    shard_up(&app->shard);
    struct client *client = client_open(app, 65536);
    char head[1024];
    client_send(client, GET("/stream/20000000"));
    client_head(client, head);
    uint64_t start_ns = clock_mono_ns();
    while (clock_mono_ns() - start_ns < 1500 * NS_MS) { /* some 1.6 MB/s */
        client->bytes = 0;
        assert_true(client_fill(client) > 0);
        usleep(40000);
    }
    assert_int_equal(SHARD_STAT(&app->shard, timeouts_send), 0);
    assert_int_equal(app->gone, 0);
    client_reset(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void silent_stream_is_not_idle(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->shard.options.idle_timeout_ns = 100 * NS_MS;
    app->shard.options.head_timeout_ns = 100 * NS_MS;
    shard_up(&app->shard);
    struct client *client = client_open(app, 0);
    char head[1024];
    client_send(client, GET("/hold") "GET /ec");
    client_head(client, head);
    usleep(400000);
    assert_int_equal(app->gone, 0);
    app->is_letting_go = true;
    assert_int_equal(client_chunks(client), 5);
    client_send(client, "ho HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_echo(client);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void broken_stream_has_no_last_chunk(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    char head[1024];
    client_send(client, GET("/broken") GET("/echo"));
    client_head(client, head);
    assert_int_equal(client_chunks(client), -1);
    expect_end(client);
    client_close(client);
    assert_int_equal(app->requests, 1);
    client = client_open(app, 0); /* without chunks only a reset can say it */
    client_send(client, "GET /broken HTTP/1.0\r\n\r\n");
    ssize_t n = 0;
    do {
        n = client_fill(client);
    } while (n > 0);
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
    client_close(client);
    expect_quiet(app, 2);
    app_stop(app);
}

static void input_behind_a_stream_is_bounded(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *client = client_open(app, 0);
    struct timeval limit = {.tv_usec = 300000};
    static char junk[100000];
    size_t sent = 0;
    char head[1024];
    setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    client_send(client, GET("/hold") "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: "
                                     "16000000\r\n\r\n");
    while (sent < 16000000 && shard_send(client->fd, junk, sizeof(junk))) {
        sent += sizeof(junk);
    }
    assert_true(sent < 16000000);                /* the server does not take it */
    assert_true(app->shard.arena_most < MIB(4)); /* one pass may bring all receive buffers */
    assert_int_equal(app->gone, 0);
    app->is_letting_go = true;
    client_head(client, head);
    assert_int_equal(client_chunks(client), 5);
    client_reset(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void many_streams_go_on_side_by_side(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *clients[64];
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        clients[i] = client_open(app, 8192);
        client_send(clients[i], GET("/stream/400000"));
        client_send(clients[i], GET("/units/4"));
    }
    for (size_t i = 0; i < ARRAY_COUNT(clients); i += 4) {
        client_reset(clients[i]); /* some leave */
    }
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
        if (i % 4 != 0) {
            expect_stream(clients[i], 400000);
            expect_stream(clients[i], 400000);
            client_close(clients[i]);
        }
    }
    SHARD_EVENTUALLY(app->gone == app->begun && app->begun >= 96);
    expect_quiet(app, app->begun);
    app_stop(app);
}

static void any_shortage_of_memory_is_survived(void **state)
{
    (void)state;
    for (size_t arena_bytes = 65536; arena_bytes <= MIB(8); arena_bytes *= 2) {
        struct app *app = app_new();
        app->shard.options.arena_bytes = arena_bytes;
        shard_up(&app->shard);
        struct client *clients[8];
        unsigned whole = 0;
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            clients[i] = client_open(app, 8192);
            client_send(clients[i], GET("/stream/1000000"));
        }
        for (size_t i = 0; i < ARRAY_COUNT(clients); i++) {
            while (memmem(clients[i]->data, clients[i]->bytes, "\r\n\r\n", 4) == NULL &&
                   client_fill(clients[i]) > 0) {
            }
            if (clients[i]->bytes > 0) {
                char head[1024];
                client_head(clients[i], head);
                ssize_t bytes = client_chunks(clients[i]);
                assert_true(bytes == -1 || bytes == 1000000);
                whole += bytes > 0;
            }
            client_close(clients[i]);
        }
        assert_true(whole > 0 || app->begin_failed + app->put_failed > 0);
        assert_true(whole == ARRAY_COUNT(clients) || arena_bytes < MIB(8));
        expect_quiet(app, app->begun);
        app_stop(app);
    }
}

static void drain_waits_for_streams(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *held = client_open(app, 0);
    struct client *upgraded = client_open(app, 0);
    char head[1024];
    client_send(held, GET("/hold"));
    client_send(upgraded, GET("/upgrade"));
    client_head(held, head);
    client_head(upgraded, head);
    app->shard.is_draining = true;
    usleep(50000);
    assert_false(app->shard.is_drained);
    client_send(upgraded, "still there");
    expect_bytes(upgraded, "still there");
    client_send(upgraded, "bye");
    expect_end(upgraded);
    client_close(upgraded);
    usleep(20000);
    assert_false(app->shard.is_drained);
    app->is_letting_go = true;
    assert_int_equal(client_chunks(held), 5);
    expect_end(held);
    client_close(held);
    SHARD_EVENTUALLY(app->shard.is_drained);
    expect_quiet(app, 2);
    app_stop(app);
}

static void stopping_with_streams_in_flight_is_clean(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *held = client_open(app, 0);
    struct client *deaf = client_open(app, 4096);
    struct client *upgraded = client_open(app, 0);
    client_send(held, GET("/hold") GET("/echo"));
    client_send(deaf, GET("/stream/100000000"));
    client_send(upgraded, GET("/upgrade"));
    SHARD_EVENTUALLY(app->begun == 3);
    app_stop(app);
    client_close(held);
    client_close(deaf);
    client_close(upgraded);
}

/* ---- tests: upgraded connections ---- */

static void upgraded_connection_carries_bytes_both_ways(void **state)
{
    (void)state;
    struct app *app = app_start();
    const char *paths[] = {GET("/upgrade") "early", GET("/later-upgrade") "early"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        struct client *client = client_open(app, 0);
        client_send(client, paths[i]); /* with bytes right behind the request */
        expect_bytes(client, "HTTP/1.1 101 Switching Protocols\r\n\r\nearly");
        client_send(client, GET("/echo"));
        expect_bytes(client, GET("/echo"));
        client_send(client, "bye");
        expect_end(client);
        client_close(client);
    }
    expect_quiet(app, 2);
    assert_int_equal(app->requests, 2);
    app_stop(app);
}

static void bytes_held_for_a_deferred_upgrade_arrive_in_order(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->shard.options.recv_buffer_bytes = 64;
    app->is_delaying = true;
    shard_up(&app->shard);
    struct client *client = client_open(app, 0);
    char text[3001];
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        text[i] = (char)pattern(i);
    }
    text[sizeof(text) - 1] = '\0';
    client_send(client, GET("/later-upgrade"));
    client_send(client, text);
    SHARD_EVENTUALLY(app->requests == 1);
    app->is_delaying = false;
    client_send(client, text);
    expect_bytes(client, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    expect_bytes(client, text);
    expect_bytes(client, text);
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void upgrade_of_a_request_in_pieces_keeps_what_follows(void **state)
{
    (void)state;
    struct app *app = app_new();
    app->shard.options.recv_buffer_bytes = 64;
    shard_up(&app->shard);
    struct client *client = client_open(app, 0);
    client_send(client, "GET /upgr");
    usleep(20000);
    client_send(client, "ade HTTP/1.1\r\nHost: h\r\nX-Long: ----------------------------------"
                        "----------------------------------------\r\n\r\nearly bird");
    expect_bytes(client, "HTTP/1.1 101 Switching Protocols\r\n\r\nearly bird");
    client_close(client);
    expect_quiet(app, 1);
    app_stop(app);
}

static void upgraded_connection_ends_with_its_peer(void **state)
{
    (void)state;
    struct app *app = app_start();
    struct client *polite = client_open(app, 0);
    struct client *rude = client_open(app, 0);
    char head[1024];
    client_send(polite, GET("/upgrade"));
    client_send(rude, GET("/upgrade"));
    client_head(polite, head);
    client_head(rude, head);
    client_reset(rude);
    SHARD_EVENTUALLY(app->gone == 1);
    client_send(polite, "last words");
    shutdown(polite->fd, SHUT_WR);
    expect_bytes(polite, "last words");
    expect_end(polite);
    client_close(polite);
    expect_quiet(app, 2);
    SHARD_EVENTUALLY(SHARD_STAT(&app->shard, open_connections) == 0);
    app_stop(app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_megabytes_reach_a_slow_reader_in_bounded_memory),
        cmocka_unit_test(units_that_do_not_fit_are_put_when_room_is_told),
        cmocka_unit_test(pipelined_requests_are_answered_after_the_stream),
        cmocka_unit_test(request_behind_a_stream_is_not_presented_before_its_end),
        cmocka_unit_test(stream_deferred_alone_keeps_later_requests_waiting),
        cmocka_unit_test(deferred_stream_of_a_client_that_left_is_stale),
        cmocka_unit_test(head_request_gets_the_head_alone),
        cmocka_unit_test(http10_body_ends_with_the_connection),
        cmocka_unit_test(last_request_of_a_connection_may_be_a_stream),
        cmocka_unit_test(peer_that_leaves_in_the_middle_is_told_once),
        cmocka_unit_test(half_closed_peer_gets_the_whole_stream),
        cmocka_unit_test(peer_that_takes_nothing_is_cut_off),
        cmocka_unit_test(slow_reader_that_takes_something_is_not_cut_off),
        cmocka_unit_test(silent_stream_is_not_idle),
        cmocka_unit_test(broken_stream_has_no_last_chunk),
        cmocka_unit_test(input_behind_a_stream_is_bounded),
        cmocka_unit_test(many_streams_go_on_side_by_side),
        cmocka_unit_test(any_shortage_of_memory_is_survived),
        cmocka_unit_test(drain_waits_for_streams),
        cmocka_unit_test(stopping_with_streams_in_flight_is_clean),
        cmocka_unit_test(upgraded_connection_carries_bytes_both_ways),
        cmocka_unit_test(bytes_held_for_a_deferred_upgrade_arrive_in_order),
        cmocka_unit_test(upgrade_of_a_request_in_pieces_keeps_what_follows),
        cmocka_unit_test(upgraded_connection_ends_with_its_peer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
