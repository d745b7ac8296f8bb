/*
 * The HTTP half of the transport against real servers: nginx (Debian's) for bodies and TLS, and a thread with a socket that
 * misbehaves as it is told.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/crc32c.h"
#include "core/mem.h"
#include "forward/transport.h"

#define PATIENCE_NS (30 * NS_S)
#define HEAD_MAX    16384

static char directory[128];

/* ------------------------------------------------------------------- a server that does as it is told */

enum manner {
    MANNER_ANSWER = 0, /* reads the request, sends `answer` */
    MANNER_RESET,      /* reads the head, then resets */
    MANNER_HALF_HEAD,  /* half a status line, then closes */
    MANNER_HALF_BODY,  /* 200, ten bytes of a hundred, then closes */
    MANNER_SILENCE,    /* reads all, says nothing */
    MANNER_GARBAGE,    /* reads all, answers what is not HTTP */
    MANNER_SLOW,       /* the answer, a byte at a time */
    MANNER_HUGE,       /* 200 and a body without end */
    MANNER_EARLY_413,  /* refuses at the head, reads nothing more, resets in its own words */
    MANNER_NOTHING,    /* closes at once */
};

struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic int manner;
    _Atomic bool is_stopping;
    _Atomic unsigned requests, connections;
    _Atomic uint32_t body_crc;
    _Atomic uint64_t body_bytes;
    pthread_mutex_t mutex;
    char head[HEAD_MAX]; /* of the last request; under mutex */
    char answer[1024];   /* likewise */
};

static struct server server;

static int listen_somewhere(uint16_t *port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static bool send_text(int fd, const char *text, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t put = send(fd, text + done, bytes - done, MSG_NOSIGNAL);
        if (put <= 0) {
            return false;
        }
        done += (size_t)put;
    }
    return true;
}

static bool wait_readable(int fd)
{
    while (!atomic_load_explicit(&server.is_stopping, memory_order_relaxed)) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        if (poll(&entry, 1, 20) > 0) {
            return true;
        }
    }
    return false;
}

/* The head of a request; what came behind it is the body's beginning. False: the connection is over. */
static bool read_head(int fd, char *head, size_t *have, size_t *head_bytes)
{
    *have = 0;
    while (*have < HEAD_MAX - 1 && wait_readable(fd)) {
        const ssize_t got = recv(fd, head + *have, HEAD_MAX - 1 - *have, 0);
        if (got <= 0) {
            return false;
        }
        *have += (size_t)got;
        head[*have] = '\0';
        const char *end = strstr(head, "\r\n\r\n");
        if (end != NULL) {
            *head_bytes = (size_t)(end + 4 - head);
            return true;
        }
    }
    return false;
}

static uint64_t content_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");
    return at != NULL ? strtoull(at + 17, NULL, 10) : 0;
}

static bool read_body(int fd, const char *begin, size_t have, uint64_t bytes)
{
    uint8_t piece[1 << 14];
    uint32_t crc = crc32c(0, (const uint8_t *)begin, have);
    uint64_t got_all = have;
    while (got_all < bytes) {
        const ssize_t got = wait_readable(fd) ? recv(fd, piece, sizeof piece, 0) : 0;
        if (got <= 0) {
            return false;
        }
        crc = crc32c(crc, piece, (size_t)got);
        got_all += (uint64_t)got;
    }
    atomic_store_explicit(&server.body_crc, crc, memory_order_relaxed);
    atomic_store_explicit(&server.body_bytes, got_all, memory_order_relaxed);
    return true;
}

static void reset_connection(int fd)
{
    const struct linger now = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void answer_slowly(int fd, const char *answer)
{
    for (size_t i = 0; answer[i] != '\0'; i++) {
        (void)send_text(fd, answer + i, 1);
        (void)poll(NULL, 0, 2);
    }
}

static void answer_hugely(int fd)
{
    char piece[1 << 14];
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    memset(piece, 'x', sizeof piece);
    bool is_open = send_text(fd, head, sizeof head - 1);
    for (int i = 0; i < 16384 && is_open; i++) {
        is_open = send_text(fd, piece, sizeof piece);
    }
}

/* True: the connection goes on. */
static bool serve(int fd, enum manner manner)
{
    static const char early[] = "HTTP/1.1 413 Too Large\r\nContent-Length: 90\r\n\r\ntoo large";
    static const char half[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789";
    char head[HEAD_MAX], answer[sizeof server.answer];
    size_t have = 0, head_bytes = 0;
    if (manner == MANNER_NOTHING || !read_head(fd, head, &have, &head_bytes)) {
        return false;
    }
    if (manner == MANNER_RESET || manner == MANNER_EARLY_413) {
        if (manner == MANNER_EARLY_413) {
            (void)send_text(fd, early, sizeof early - 1);
            (void)poll(NULL, 0, 300);
        }
        reset_connection(fd);
        return false;
    }
    if (!read_body(fd, head + head_bytes, have - head_bytes, content_length(head))) {
        return false;
    }
    head[head_bytes] = '\0';
    (void)pthread_mutex_lock(&server.mutex);
    memcpy(server.head, head, head_bytes + 1);
    memcpy(answer, server.answer, sizeof answer);
    (void)pthread_mutex_unlock(&server.mutex);
    atomic_fetch_add_explicit(&server.requests, 1, memory_order_relaxed);
    switch (manner) {
    case MANNER_ANSWER:
        return send_text(fd, answer, strlen(answer));
    case MANNER_HALF_HEAD:
        (void)send_text(fd, "HTTP/1.1 20", 11);
        return false;
    case MANNER_HALF_BODY:
        (void)send_text(fd, half, sizeof half - 1);
        return false;
    case MANNER_GARBAGE:
        (void)send_text(fd, "SSH-2.0-nonsense\r\n\r\n", 20);
        return false;
    case MANNER_SLOW:
        answer_slowly(fd, answer);
        return true;
    case MANNER_HUGE:
        answer_hugely(fd);
        return false;
    case MANNER_SILENCE:
        (void)wait_readable(fd); /* until the other side gives up */
        return false;
    case MANNER_RESET:
    case MANNER_EARLY_413:
    case MANNER_NOTHING:
        break;
    }
    return false;
}

static void *connection_main(void *context)
{
    const int fd = (int)(intptr_t)context;
    while (serve(fd, (enum manner)atomic_load_explicit(&server.manner, memory_order_relaxed))) {
    }
    (void)close(fd);
    return NULL;
}

static void *server_main(void *context)
{
    (void)context;
    pthread_t threads[256];
    unsigned count = 0;
    while (wait_readable(server.fd) && count < ARRAY_COUNT(threads)) {
        const int fd = accept(server.fd, NULL, NULL);
        atomic_fetch_add_explicit(&server.connections, 1, memory_order_relaxed);
        if (fd >= 0 &&
            pthread_create(&threads[count], NULL, connection_main, (void *)(intptr_t)fd) == 0) {
            count++;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    return NULL;
}

static void server_behave(enum manner manner, const char *answer)
{
    (void)pthread_mutex_lock(&server.mutex);
    (void)snprintf(server.answer, sizeof server.answer, "%s", answer != NULL ? answer : "");
    (void)pthread_mutex_unlock(&server.mutex);
    atomic_store_explicit(&server.requests, 0, memory_order_relaxed);
    atomic_store_explicit(&server.connections, 0, memory_order_relaxed);
    atomic_store_explicit(&server.manner, (int)manner, memory_order_relaxed);
}

/* The value of a header of the last request into out; false: it had none. */
static bool header_of(const char *name, char *out, size_t bytes_max)
{
    char wanted[128];
    (void)snprintf(wanted, sizeof wanted, "\r\n%s:", name);
    (void)pthread_mutex_lock(&server.mutex);
    const char *at = strcasestr(server.head, wanted);
    if (at != NULL) {
        at += strlen(wanted);
        at += strspn(at, " ");
        (void)snprintf(out, bytes_max, "%.*s", (int)strcspn(at, "\r"), at);
    }
    (void)pthread_mutex_unlock(&server.mutex);
    return at != NULL;
}

static void expect_header(const char *name, const char *value)
{
    char found[1024];
    assert_true(header_of(name, found, sizeof found));
    assert_string_equal(found, value);
}

/* ------------------------------------------------------------------- a request */

static char url_text[FORWARD_URL_BYTES];
static char url_method[8];

static void test_url(const struct encoder *encoder, char *out)
{
    (void)encoder;
    (void)snprintf(out, FORWARD_URL_BYTES, "%s", url_text);
}

static void test_headers(const struct encoder *encoder, char *out)
{
    (void)encoder;
    memcpy(out, "X-One: 1\0X-Two: two words\0", 27);
}

static const struct protocol test_protocol = {
    .name = "test",
    .url = test_url,
    .method = url_method,
    .content_type = "application/x-ndjson",
    .headers = test_headers,
};

struct outcome {
    unsigned count;
    enum transport_fault fault;
    int status;
    uint64_t retry_after_ns;
    size_t body_bytes;
    bool is_body_cut;
    char body[256];
    char text[FORWARD_REASON_BYTES];
};

static void test_on_answer(void *context, const struct upstream_answer *answer)
{
    struct outcome *outcome = context;
    outcome->count++;
    outcome->fault = answer->fault;
    outcome->status = answer->status;
    outcome->retry_after_ns = answer->retry_after_ns;
    outcome->body_bytes = answer->body.bytes;
    outcome->is_body_cut = answer->is_body_cut;
    const size_t bytes = u64_min(answer->body.bytes, sizeof outcome->body - 1);
    if (bytes > 0) {
        memcpy(outcome->body, answer->body.data, bytes);
    }
    outcome->body[bytes] = '\0';
    memcpy(outcome->text, answer->fault_text, sizeof outcome->text);
}

static struct config_sink sink_usual(uint16_t port, const char *scheme, const char *path)
{
    struct config_sink sink = {.name = "up",
                               .type = SINK_HTTP,
                               .connections = 4,
                               .timeout_ns = 20 * NS_S,
                               .connect_timeout_ns = 5 * NS_S,
                               .verify = true};
    (void)snprintf(sink.url, sizeof sink.url, "%s://127.0.0.1:%u%s", scheme, port, path);
    (void)snprintf(url_text, sizeof url_text, "%s", sink.url);
    (void)snprintf(url_method, sizeof url_method, "POST");
    return sink;
}

static struct transport *transport_of(const struct config_sink *sink)
{
    struct transport *transport = NULL;
    struct err err = {0};
    if (transport_open(&transport, sink, 1, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return transport;
}

static void run_until(struct transport *transport, const struct outcome *outcome, unsigned count)
{
    const uint64_t deadline = clock_mono_ns() + PATIENCE_NS;
    while (outcome->count < count && clock_mono_ns() < deadline) {
        transport_run(transport, 100);
    }
    assert_int_equal(outcome->count, count);
}

static struct transport_request request_of(const struct encoder *encoder, struct slice body,
                                           struct outcome *outcome)
{
    return (struct transport_request){.encoder = encoder,
                                      .key = "node:1-10",
                                      .body = body,
                                      .on_answer = test_on_answer,
                                      .context = outcome};
}

static struct outcome ask_with(struct transport *transport, const struct config_sink *sink,
                               struct slice body)
{
    struct outcome outcome = {0};
    const struct encoder encoder = {.protocol = &test_protocol, .sink = sink};
    const struct transport_request request = request_of(&encoder, body, &outcome);
    struct err err = {0};
    if (transport_send(transport, 0, &request, &err) != 0) {
        fail_msg("%s", err.text);
    }
    run_until(transport, &outcome, 1);
    return outcome;
}

static struct outcome ask(const struct config_sink *sink, struct slice body)
{
    struct transport *transport = transport_of(sink);
    const struct outcome outcome = ask_with(transport, sink, body);
    transport_close(transport);
    return outcome;
}

#define BODY SLICE_LITERAL("{\"n\":1}\n{\"n\":2}\n")
#define GOOD "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"

static void write_file(const char *name, const char *text, mode_t mode, char *path_out)
{
    (void)snprintf(path_out, CONFIG_SINK_TEXT, "%s/%s", directory, name);
    FILE *file = fopen(path_out, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path_out, mode), 0);
}

/* ------------------------------------------------------------------- what is sent, what is read */

static void request_says_all_it_must_and_answer_comes_whole(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/in?x=1");
    (void)snprintf(sink.headers, sizeof sink.headers, " A: b |C:  d e| ");
    server_behave(MANNER_ANSWER, "HTTP/1.1 503 Busy\r\nRetry-After:  7 \r\n"
                                 "Content-Length: 5\r\n\r\nlater");
    struct transport *transport = transport_of(&sink);
    struct outcome outcome = {0};
    const struct encoder encoder = {.protocol = &test_protocol, .sink = &sink};
    struct transport_request request = request_of(&encoder, BODY, &outcome);
    request.compression = SINK_ZSTD;
    assert_int_equal(transport_send(transport, 0, &request, NULL), 0);
    run_until(transport, &outcome, 1);
    transport_close(transport);
    assert_int_equal(outcome.fault, TRANSPORT_OK);
    assert_int_equal(outcome.status, 503);
    assert_int_equal(outcome.retry_after_ns, 7 * NS_S);
    assert_string_equal(outcome.body, "later");
    assert_memory_equal(server.head, "POST /in?x=1 HTTP/1.1\r\n", 23);
    expect_header("Idempotency-Key", "node:1-10");
    expect_header("Content-Type", "application/x-ndjson");
    expect_header("Content-Encoding", "zstd");
    expect_header("Content-Length", "16");
    expect_header("User-Agent", "Sluice/" SLUICE_VERSION);
    expect_header("A", "b");
    expect_header("C", "d e");
    expect_header("X-One", "1");
    expect_header("X-Two", "two words");
    char none[8];
    assert_false(header_of("Expect", none, sizeof none));
    assert_false(header_of("Date", none, sizeof none));
    assert_int_equal(server.body_crc, crc32c(0, BODY.data, BODY.bytes));
}

static void put_is_a_put_and_retry_after_of_an_interim_answer_is_not_the_answers(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/o");
    (void)snprintf(url_method, sizeof url_method, "PUT");
    server_behave(MANNER_ANSWER, "HTTP/1.1 103 Hints\r\nRetry-After: 9\r\n\r\n" GOOD);
    const struct outcome outcome = ask(&sink, BODY);
    assert_int_equal(outcome.status, 200);
    assert_int_equal(outcome.retry_after_ns, 0);
    assert_memory_equal(server.head, "PUT /o HTTP/1.1\r\n", 17);
    assert_int_equal(server.body_bytes, BODY.bytes);
}

static void redirects_are_answers(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    server_behave(MANNER_ANSWER,
                  "HTTP/1.1 307 No\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(ask(&sink, BODY).status, 307);
    assert_int_equal(server.requests, 1);
}

static void large_body_goes_out_at_once_without_asking_leave(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    uint8_t *data = mem_alloc(MIB(5));
    memset(data, 'a', MIB(5));
    server_behave(MANNER_ANSWER, GOOD);
    assert_int_equal(ask(&sink, (struct slice){data, MIB(5)}).status, 200);
    char none[8];
    assert_false(header_of("Expect", none, sizeof none));
    assert_int_equal(server.body_bytes, MIB(5));
    mem_free(data);
}

/* ------------------------------------------------------------------- trouble */

static void expect_fault(enum manner manner, enum transport_fault fault, const char *words)
{
    char at[64];
    struct config_sink sink = sink_usual(server.port, "http", "/");
    sink.timeout_ns = 300 * NS_MS;
    server_behave(manner, GOOD);
    const struct outcome outcome = ask(&sink, BODY);
    assert_int_equal(outcome.fault, fault);
    assert_int_equal(outcome.status, 0);
    (void)snprintf(at, sizeof at, "sink up: 127.0.0.1:%u ", server.port);
    assert_memory_equal(outcome.text, at, strlen(at));
    assert_non_null(strstr(outcome.text, words));
}

static void trouble_is_named_for_what_it_is(void **state)
{
    (void)state;
    expect_fault(MANNER_RESET, TRANSPORT_BROKEN, "broke off");
    expect_fault(MANNER_NOTHING, TRANSPORT_BROKEN, "broke off");
    expect_fault(MANNER_HALF_HEAD, TRANSPORT_BROKEN, "broke off");
    expect_fault(MANNER_HALF_BODY, TRANSPORT_BROKEN, "broke off");
    expect_fault(MANNER_GARBAGE, TRANSPORT_BROKEN, "broke off");
    expect_fault(MANNER_SILENCE, TRANSPORT_TIMEOUT, "no answer in time");
}

static void nobody_there_is_unreachable(void **state)
{
    (void)state;
    uint16_t port;
    (void)close(listen_somewhere(&port));
    struct config_sink sink = sink_usual(port, "http", "/");
    struct outcome outcome = ask(&sink, BODY);
    assert_int_equal(outcome.fault, TRANSPORT_UNREACHABLE);
    assert_non_null(strstr(outcome.text, "cannot be reached"));
    /* .invalid never resolves (RFC 2606). */
    (void)snprintf(sink.url, sizeof sink.url, "http://host.invalid/secret?sig=hidden");
    (void)snprintf(url_text, sizeof url_text, "%s", sink.url);
    outcome = ask(&sink, BODY);
    assert_int_equal(outcome.fault, TRANSPORT_UNREACHABLE);
    assert_non_null(strstr(outcome.text, "host.invalid:80"));
    assert_null(strstr(outcome.text, "hidden"));
}

static void slow_answer_within_the_time_is_an_answer(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    server_behave(MANNER_SLOW, GOOD);
    const struct outcome outcome = ask(&sink, BODY);
    assert_int_equal(outcome.fault, TRANSPORT_OK);
    assert_string_equal(outcome.body, "good");
}

static void huge_answer_is_cut_and_ends(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    server_behave(MANNER_HUGE, NULL);
    const struct outcome outcome = ask(&sink, BODY);
    assert_int_equal(outcome.fault, TRANSPORT_OK);
    assert_int_equal(outcome.status, 200);
    assert_true(outcome.is_body_cut);
    assert_int_equal(outcome.body_bytes, ANSWER_BYTES_MAX);
}

static void refusal_before_the_body_was_read_is_an_answer(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    uint8_t *data = mem_alloc(MIB(32));
    server_behave(MANNER_EARLY_413, NULL);
    const struct outcome outcome = ask(&sink, (struct slice){data, MIB(32)});
    assert_int_equal(outcome.fault, TRANSPORT_OK);
    assert_int_equal(outcome.status, 413);
    mem_free(data);
}

/* ------------------------------------------------------------------- connections */

static void connections_are_kept_and_never_more_than_configured(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    sink.connections = 2;
    server_behave(MANNER_ANSWER, GOOD);
    struct transport *transport = transport_of(&sink);
    const struct encoder encoder = {.protocol = &test_protocol, .sink = &sink};
    struct outcome outcome = {0};
    const struct transport_request request = request_of(&encoder, BODY, &outcome);
    for (unsigned i = 0; i < 50; i++) {
        struct err err = {0};
        assert_int_equal(transport_send(transport, 0, &request, &err), 0);
        assert_int_equal(transport_send(transport, 0, &request, &err), 0);
        assert_int_equal(transport_send(transport, 0, &request, &err), -EAGAIN);
        run_until(transport, &outcome, 2 * (i + 1));
    }
    assert_int_equal(server.requests, 100);
    assert_true(server.connections <= 2);
    transport_close(transport);
}

struct chain {
    struct transport *transport;
    struct transport_request request;
    struct outcome outcome;
    unsigned left;
    bool is_body_kept;
};

static void chain_on_answer(void *context, const struct upstream_answer *answer)
{
    struct chain *chain = context;
    if (chain->left > 0) {
        chain->left--;
        assert_int_equal(transport_send(chain->transport, 0, &chain->request, NULL), 0);
    }
    /* What was borrowed is still there after sending again on the only connection. */
    chain->is_body_kept = answer->body.bytes == 4 && memcmp(answer->body.data, "good", 4) == 0;
    test_on_answer(&chain->outcome, answer);
}

static void answer_may_send_the_next(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    const struct encoder encoder = {.protocol = &test_protocol, .sink = &sink};
    sink.connections = 1;
    server_behave(MANNER_ANSWER, GOOD);
    struct chain chain = {.transport = transport_of(&sink), .left = 20};
    chain.request = request_of(&encoder, BODY, NULL);
    chain.request.on_answer = chain_on_answer;
    chain.request.context = &chain;
    assert_int_equal(transport_send(chain.transport, 0, &chain.request, NULL), 0);
    run_until(chain.transport, &chain.outcome, 21);
    assert_true(chain.is_body_kept);
    transport_close(chain.transport);
}

static void closing_forgets_what_is_under_way(void **state)
{
    (void)state;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    const struct encoder encoder = {.protocol = &test_protocol, .sink = &sink};
    struct outcome outcome = {0};
    server_behave(MANNER_SILENCE, NULL);
    struct transport *transport = transport_of(&sink);
    const struct transport_request request = request_of(&encoder, BODY, &outcome);
    assert_int_equal(transport_send(transport, 0, &request, NULL), 0);
    transport_run(transport, 50);
    transport_close(transport);
    assert_int_equal(outcome.count, 0);
}

static void *wake_main(void *context)
{
    transport_wake(context);
    return NULL;
}

static void wake_ends_the_sleep(void **state)
{
    (void)state;
    pthread_t thread;
    const struct config_sink sink = sink_usual(server.port, "http", "/");
    struct transport *transport = transport_of(&sink);
    assert_int_equal(pthread_create(&thread, NULL, wake_main, transport), 0);
    transport_run(transport, 3600 * 1000); /* the test's own limit would end it */
    assert_int_equal(pthread_join(thread, NULL), 0);
    transport_close(transport);
}

/* ------------------------------------------------------------------- secrets and headers */

static void secrets_are_sent_and_reload_reads_them_anew_or_keeps_them(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    struct err err = {0};
    write_file("bearer", "  first-token \nsecond line", 0600, sink.bearer_file);
    write_file("api-key", "k-123\n", 0400, sink.api_key_file);
    server_behave(MANNER_ANSWER, GOOD);
    struct transport *transport = transport_of(&sink);
    (void)ask_with(transport, &sink, BODY);
    expect_header("Authorization", "Bearer first-token");
    expect_header("x-api-key", "k-123");
    write_file("bearer", "other", 0600, sink.bearer_file);
    write_file("api-key", "\n", 0600, sink.api_key_file);
    assert_int_equal(transport_reload(transport, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "sink up: "));
    assert_non_null(strstr(err.text, "api-key"));
    (void)ask_with(transport, &sink, BODY);
    expect_header("Authorization", "Bearer first-token"); /* all or nothing */
    write_file("api-key", "k-456", 0600, sink.api_key_file);
    assert_int_equal(transport_reload(transport, &err), 0);
    (void)ask_with(transport, &sink, BODY);
    expect_header("Authorization", "Bearer other");
    expect_header("x-api-key", "k-456");
    transport_close(transport);
}

static void basic_authentication_takes_any_user_and_password(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    write_file("password", "p:w@d", 0600, sink.password_file);
    (void)snprintf(sink.user, sizeof sink.user, "ann");
    server_behave(MANNER_ANSWER, GOOD);
    assert_int_equal(ask(&sink, BODY).status, 200);
    expect_header("Authorization", "Basic YW5uOnA6d0Bk");
}

static void expect_refused_open(const struct config_sink *sink, int code, const char *words)
{
    struct transport *transport = NULL;
    struct err err = {0};
    assert_int_equal(transport_open(&transport, sink, 1, &err), code);
    assert_non_null(strstr(err.text, "sink up"));
    if (strstr(err.text, words) == NULL) {
        fail_msg("%s", err.text);
    }
    assert_null(strstr(err.text, "sesame"));
}

static void secrets_that_others_may_read_are_refused(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    write_file("open", "sesame", 0640, sink.bearer_file);
    expect_refused_open(&sink, -EACCES, "chmod 600");
    write_file("open", "se\x01same", 0600, sink.bearer_file);
    expect_refused_open(&sink, ERR_SYNTAX, "open");
    (void)snprintf(sink.bearer_file, sizeof sink.bearer_file, "%s/none", directory);
    expect_refused_open(&sink, -ENOENT, "none");
    (void)snprintf(sink.bearer_file, sizeof sink.bearer_file, "%s", directory);
    expect_refused_open(&sink, -EACCES, "regular");
    sink = sink_usual(server.port, "http", "/");
    write_file("key.pem", "sesame", 0644, sink.key_file);
    expect_refused_open(&sink, -EACCES, "chmod 600");
    sink = sink_usual(server.port, "http", "/");
    (void)snprintf(sink.aws_region, sizeof sink.aws_region, "eu-central-1");
    expect_refused_open(&sink, -ENOENT, "AWS_ACCESS_KEY_ID");
    write_file("aws", "only-an-id\n", 0600, sink.aws_credentials_file);
    expect_refused_open(&sink, ERR_SYNTAX, "2 lines");
}

static void headers_that_are_ours_or_break_the_head_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Host: x",
        "content-length: 5",
        "A: b | Idempotency-Key: k",
        "A b",
        "A: b\r\nHost: x",
        "A: b\nC: d",
        ": v",
        "A:",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "A\xC3\xA4: b",
        "Expect: 100-continue",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct config_sink sink = sink_usual(server.port, "http", "/");
        (void)snprintf(sink.headers, sizeof sink.headers, "%s", bad[i]);
        expect_refused_open(&sink, ERR_SYNTAX, "headers");
    }
    struct config_sink sink = sink_usual(server.port, "http", "/");
    (void)snprintf(sink.headers, sizeof sink.headers, "Authorization: sesame");
    write_file("bearer", "token", 0600, sink.bearer_file);
    expect_refused_open(&sink, ERR_SYNTAX, "authenticates");
}

static void operators_content_type_replaces_the_protocols(void **state)
{
    (void)state;
    struct config_sink sink = sink_usual(server.port, "http", "/");
    (void)snprintf(sink.headers, sizeof sink.headers, "content-type: text/special");
    server_behave(MANNER_ANSWER, GOOD);
    assert_int_equal(ask(&sink, BODY).status, 200);
    expect_header("Content-Type", "text/special");
    assert_null(strstr(server.head, "ndjson"));
}

/* ------------------------------------------------------------------- AWS Signature Version 4 */

static void to_hex(const uint8_t *bytes, size_t count, char *out)
{
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void hex_sha256(const void *data, size_t bytes, char *out)
{
    uint8_t digest[32];
    (void)SHA256(data, bytes, digest);
    to_hex(digest, sizeof digest, out);
}

static void hmac(const void *key, size_t key_bytes, const char *text, uint8_t *out)
{
    unsigned bytes = 32;
    assert_non_null(
        HMAC(EVP_sha256(), key, (int)key_bytes, (const uint8_t *)text, strlen(text), out, &bytes));
}

/* AWS's published steps: canonical request, string to sign, signing key. signed_names: "a;b;c". */
static void sign(const char *method, const char *path, const char *query, const char *signed_names,
                 struct slice body, const char *region, const char *service, const char *secret,
                 char *out)
{
    static char canonical[16384];
    char names[1024], value[1024], hex[65], text[512], date[32], key[512];
    uint8_t digest[32];
    size_t at = (size_t)snprintf(canonical, sizeof canonical, "%s\n%s\n%s\n", method, path, query);
    (void)snprintf(names, sizeof names, "%s", signed_names);
    char *rest = names;
    for (char *name = strsep(&rest, ";"); name != NULL; name = strsep(&rest, ";")) {
        if (!header_of(name, value, sizeof value)) {
            fail_msg("%s is signed but not sent", name);
        }
        at += (size_t)snprintf(canonical + at, sizeof canonical - at, "%s:%s\n", name, value);
    }
    hex_sha256(body.data, body.bytes, hex);
    (void)snprintf(canonical + at, sizeof canonical - at, "\n%s\n%s", signed_names, hex);
    hex_sha256(canonical, strlen(canonical), hex);
    assert_true(header_of("X-Amz-Date", date, sizeof date));
    (void)snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", date,
                   date, region, service, hex);
    (void)snprintf(key, sizeof key, "AWS4%s", secret);
    date[8] = '\0';
    hmac(key, strlen(key), date, digest);
    hmac(digest, 32, region, digest);
    hmac(digest, 32, service, digest);
    hmac(digest, 32, "aws4_request", digest);
    hmac(digest, 32, text, digest);
    to_hex(digest, 32, out);
}

static void expect_signed(enum sink_type type, const char *service, const char *method,
                          const char *path, const char *query)
{
    char target[256], authorization[2048], scope[256], names[1024], want[65], date[32];
    (void)snprintf(target, sizeof target, "%s%s%s", path, query[0] != '\0' ? "?" : "", query);
    struct config_sink sink = sink_usual(server.port, "http", target);
    (void)snprintf(url_method, sizeof url_method, "%s", method);
    sink.type = type;
    (void)snprintf(sink.aws_region, sizeof sink.aws_region, "eu-central-1");
    (void)snprintf(sink.headers, sizeof sink.headers, "X-Stage: prod");
    write_file("aws", "AKIDEXAMPLE\nwJalrXUtnFEMI/K7MDENG+bPxRfiCY\nsession/token==\n", 0600,
               sink.aws_credentials_file);
    server_behave(MANNER_ANSWER, GOOD);
    assert_int_equal(ask(&sink, BODY).status, 200);
    assert_true(header_of("Authorization", authorization, sizeof authorization));
    assert_true(header_of("X-Amz-Date", date, sizeof date));
    expect_header("X-Amz-Security-Token", "session/token==");
    (void)snprintf(scope, sizeof scope,
                   "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/%.8s/eu-central-1/%s/aws4_request, "
                   "SignedHeaders=",
                   date, service);
    assert_memory_equal(authorization, scope, strlen(scope));
    const char *list = authorization + strlen(scope);
    (void)snprintf(names, sizeof names, "%.*s", (int)strcspn(list, ","), list);
    /* What must be under the signature: where it goes, when, for whom. */
    assert_non_null(strstr(names, "host;"));
    assert_non_null(strstr(names, "x-amz-date"));
    assert_non_null(strstr(names, "x-amz-security-token"));
    sign(method, path, query, names, BODY, "eu-central-1", service,
         "wJalrXUtnFEMI/K7MDENG+bPxRfiCY", want);
    const char *signature = strstr(authorization, "Signature=");
    assert_non_null(signature);
    assert_string_equal(signature + 10, want);
    if (type == SINK_S3) {
        char hex[65];
        hex_sha256(BODY.data, BODY.bytes, hex);
        expect_header("x-amz-content-sha256", hex);
    }
}

static void requests_are_signed_as_aws_says(void **state)
{
    (void)state;
    expect_signed(SINK_HTTP, "execute-api", "POST", "/prod/logs", "");
    expect_signed(SINK_HTTP, "execute-api", "POST", "/prod/logs", "a=1&b=2");
    expect_signed(SINK_OPENSEARCH, "es", "POST", "/_bulk", "");
    expect_signed(SINK_TIMESTREAM, "timestream", "POST", "/", "");
    expect_signed(SINK_S3, "s3", "PUT", "/bucket/prefix/01ARZ-7.slc", "");
}

/* ------------------------------------------------------------------- nginx */

static uint16_t nginx_plain, nginx_tls, nginx_mtls, nginx_expired;
static pid_t nginx_pid;

static int run_shell(const char *script)
{
    const pid_t pid = fork();
    if (pid == 0) {
        (void)execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void make_certificates(void)
{
    char script[4096];
    (void)snprintf(
        script, sizeof script,
        "exec >'%s/openssl.log' 2>&1; set -e; cd '%s'\n"
        "new='openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'\n"
        "$new -keyout ca.key -out ca.pem -subj /CN=ca\n"
        "$new -keyout other.key -out other.pem -subj /CN=other\n"
        "echo subjectAltName=IP:127.0.0.1 >ext\n"
        "for name in good expired client; do\n"
        "  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out "
        "$name.csr -subj /CN=$name\n"
        "  days=2; if [ $name = expired ]; then days=-1; fi\n"
        "  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days $days "
        "-extfile ext -out $name.pem\n"
        "done\nchmod 600 *.key\n",
        directory, directory);
    assert_int_equal(run_shell(script), 0);
}

static void write_nginx_config(void)
{
    char text[4096], path[CONFIG_SINK_TEXT];
    static const char tls[] = "server { listen 127.0.0.1:%u ssl; ssl_certificate %s.pem; "
                              "ssl_certificate_key %s.key; %s location / { proxy_pass "
                              "http://127.0.0.1:%u; } }\n";
    size_t at = (size_t)snprintf(
        text, sizeof text,
        "daemon off; master_process off; pid nginx.pid; error_log error.log;\n"
        "events { worker_connections 64; }\nhttp { access_log off; client_max_body_size 40m;\n"
        "client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; "
        "scgi_temp_path t5;\nserver { listen 127.0.0.1:%u; location / { proxy_pass "
        "http://127.0.0.1:%u; } location /small { client_max_body_size 1k; proxy_pass "
        "http://127.0.0.1:%u; } }\n",
        nginx_plain, server.port, server.port);
    at += (size_t)snprintf(text + at, sizeof text - at, tls, nginx_tls, "good", "good", "",
                           server.port);
    at += (size_t)snprintf(text + at, sizeof text - at, tls, nginx_expired, "expired", "expired",
                           "", server.port);
    at += (size_t)snprintf(text + at, sizeof text - at, tls, nginx_mtls, "good", "good",
                           "ssl_client_certificate ca.pem; ssl_verify_client on;", server.port);
    (void)snprintf(text + at, sizeof text - at, "}\n");
    write_file("nginx.conf", text, 0600, path);
}

static bool is_connectable(uint16_t port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const bool is_open = connect(fd, (const struct sockaddr *)&at, sizeof at) == 0;
    (void)close(fd);
    return is_open;
}

static void free_port(uint16_t *port)
{
    (void)close(listen_somewhere(port));
}

static void nginx_start(void)
{
    make_certificates();
    free_port(&nginx_plain);
    free_port(&nginx_tls);
    free_port(&nginx_mtls);
    free_port(&nginx_expired);
    write_nginx_config();
    nginx_pid = fork();
    if (nginx_pid == 0) {
        (void)execlp("nginx", "nginx", "-p", directory, "-c", "nginx.conf", "-e", "error.log",
                     (char *)NULL);
        _exit(127);
    }
    const uint64_t deadline = clock_mono_ns() + PATIENCE_NS;
    while (!is_connectable(nginx_expired) && clock_mono_ns() < deadline) {
        (void)poll(NULL, 0, 20);
    }
    assert_true(is_connectable(nginx_expired));
}

static void nginx_need(void)
{
    if (run_shell("PATH=$PATH:/usr/sbin command -v nginx >/dev/null && command -v openssl "
                  ">/dev/null") != 0) {
        print_message("skipped: nginx or openssl is not installed\n");
        skip();
    }
    if (nginx_pid == 0) {
        nginx_start();
    }
}

static void bodies_of_any_size_reach_a_real_server(void **state)
{
    (void)state;
    nginx_need();
    const struct config_sink sink = sink_usual(nginx_plain, "http", "/in");
    uint8_t *data = mem_alloc(MIB(32));
    for (size_t i = 0; i < MIB(32); i++) {
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    server_behave(MANNER_ANSWER, GOOD);
    struct transport *transport = transport_of(&sink);
    for (size_t bytes = KIB(1); bytes <= MIB(32); bytes *= 8) {
        const struct outcome outcome = ask_with(transport, &sink, (struct slice){data, bytes});
        assert_int_equal(outcome.status, 200);
        assert_int_equal(server.body_bytes, bytes);
        assert_int_equal(server.body_crc, crc32c(0, data, bytes));
        expect_header("Idempotency-Key", "node:1-10");
    }
    assert_int_equal(ask_with(transport, &sink, (struct slice){data, 0}).status, 200);
    assert_int_equal(server.body_bytes, 0);
    transport_close(transport);
    mem_free(data);
}

static void body_over_a_real_servers_limit_is_413_not_a_broken_connection(void **state)
{
    (void)state;
    nginx_need();
    const struct config_sink sink = sink_usual(nginx_plain, "http", "/small");
    uint8_t *data = mem_alloc(MIB(32));
    const struct outcome outcome = ask(&sink, (struct slice){data, MIB(32)});
    assert_int_equal(outcome.fault, TRANSPORT_OK);
    assert_int_equal(outcome.status, 413);
    mem_free(data);
}

static void in_directory(const char *name, char *out)
{
    (void)snprintf(out, CONFIG_SINK_TEXT, "%s/%s", directory, name);
}

static struct outcome ask_tls(uint16_t port, const char *ca, const char *client, bool verify)
{
    struct config_sink sink = sink_usual(port, "https", "/");
    char name[64];
    sink.verify = verify;
    in_directory(ca, sink.ca_file);
    if (client != NULL) {
        (void)snprintf(name, sizeof name, "%s.pem", client);
        in_directory(name, sink.cert_file);
        (void)snprintf(name, sizeof name, "%s.key", client);
        in_directory(name, sink.key_file);
    }
    server_behave(MANNER_ANSWER, GOOD);
    return ask(&sink, BODY);
}

static void certificates_decide_and_trouble_with_them_is_tls(void **state)
{
    (void)state;
    nginx_need();
    assert_int_equal(ask_tls(nginx_tls, "ca.pem", NULL, true).status, 200);
    struct outcome outcome = ask_tls(nginx_tls, "other.pem", NULL, true);
    assert_int_equal(outcome.fault, TRANSPORT_TLS);
    assert_non_null(strstr(outcome.text, "cannot be trusted"));
    outcome = ask_tls(nginx_expired, "ca.pem", NULL, true);
    assert_int_equal(outcome.fault, TRANSPORT_TLS);
    assert_non_null(strstr(outcome.text, "expired"));
    assert_int_equal(ask_tls(nginx_expired, "other.pem", NULL, false).status, 200);
    /* nginx answers 400 to who comes without a certificate. */
    assert_int_equal(ask_tls(nginx_mtls, "ca.pem", NULL, true).status, 400);
    assert_int_equal(ask_tls(nginx_mtls, "ca.pem", "other", true).status, 400);
    assert_int_equal(ask_tls(nginx_mtls, "ca.pem", "client", true).status, 200);
    /* A key that does not belong to the certificate is ours to mend. */
    struct config_sink sink = sink_usual(nginx_mtls, "https", "/");
    in_directory("ca.pem", sink.ca_file);
    in_directory("client.pem", sink.cert_file);
    in_directory("good.key", sink.key_file);
    assert_int_equal(ask(&sink, BODY).fault, TRANSPORT_TLS);
}

static void name_that_the_certificate_does_not_have_is_tls(void **state)
{
    (void)state;
    nginx_need();
    struct config_sink sink = sink_usual(nginx_tls, "https", "/");
    in_directory("ca.pem", sink.ca_file);
    (void)snprintf(sink.url, sizeof sink.url, "https://localhost:%u/", nginx_tls);
    (void)snprintf(url_text, sizeof url_text, "%s", sink.url);
    assert_int_equal(ask(&sink, BODY).fault, TRANSPORT_TLS);
}

/* ------------------------------------------------------------------- */

static int group_begin(void **state)
{
    (void)state;
    static const char *const proxies[] = {"http_proxy",  "https_proxy", "all_proxy",
                                          "HTTPS_PROXY", "ALL_PROXY",   "AWS_ACCESS_KEY_ID"};
    for (size_t i = 0; i < ARRAY_COUNT(proxies); i++) {
        (void)unsetenv(proxies[i]);
    }
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &ignore, NULL);
    const char *base = getenv("TMPDIR");
    (void)snprintf(directory, sizeof directory, "%.100s/transport.XXXXXX",
                   base != NULL ? base : "/tmp");
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)pthread_mutex_init(&server.mutex, NULL);
    server.fd = listen_somewhere(&server.port);
    return pthread_create(&server.thread, NULL, server_main, NULL);
}

static int group_end(void **state)
{
    (void)state;
    char script[256];
    if (nginx_pid > 0) {
        (void)kill(nginx_pid, SIGTERM);
        (void)waitpid(nginx_pid, NULL, 0);
    }
    atomic_store_explicit(&server.is_stopping, true, memory_order_relaxed);
    (void)pthread_join(server.thread, NULL);
    (void)close(server.fd);
    (void)snprintf(script, sizeof script, "rm -rf '%s'", directory);
    return run_shell(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_says_all_it_must_and_answer_comes_whole),
        cmocka_unit_test(put_is_a_put_and_retry_after_of_an_interim_answer_is_not_the_answers),
        cmocka_unit_test(redirects_are_answers),
        cmocka_unit_test(large_body_goes_out_at_once_without_asking_leave),
        cmocka_unit_test(trouble_is_named_for_what_it_is),
        cmocka_unit_test(nobody_there_is_unreachable),
        cmocka_unit_test(slow_answer_within_the_time_is_an_answer),
        cmocka_unit_test(huge_answer_is_cut_and_ends),
        cmocka_unit_test(refusal_before_the_body_was_read_is_an_answer),
        cmocka_unit_test(connections_are_kept_and_never_more_than_configured),
        cmocka_unit_test(answer_may_send_the_next),
        cmocka_unit_test(closing_forgets_what_is_under_way),
        cmocka_unit_test(wake_ends_the_sleep),
        cmocka_unit_test(secrets_are_sent_and_reload_reads_them_anew_or_keeps_them),
        cmocka_unit_test(basic_authentication_takes_any_user_and_password),
        cmocka_unit_test(secrets_that_others_may_read_are_refused),
        cmocka_unit_test(headers_that_are_ours_or_break_the_head_are_refused),
        cmocka_unit_test(operators_content_type_replaces_the_protocols),
        cmocka_unit_test(requests_are_signed_as_aws_says),
        cmocka_unit_test(bodies_of_any_size_reach_a_real_server),
        cmocka_unit_test(body_over_a_real_servers_limit_is_413_not_a_broken_connection),
        cmocka_unit_test(certificates_decide_and_trouble_with_them_is_tls),
        cmocka_unit_test(name_that_the_certificate_does_not_have_is_tls),
    };
    return cmocka_run_group_tests(tests, group_begin, group_end);
}
