#include "cli/bench_load.h"

#include "core/clock.h"
#include "core/mem.h"
#include "core/uring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <liburing.h>

#define NUMBER_DIGITS 16
#define RECEIVE_BYTES (64u * 1024u)
#define RECORD_HEAD                                                                                \
    "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"bench\",\"level\":\"INFO\","     \
    "\"message\":\"Agent step finished in 12 ms\",\"correlation_id\":\"n"
#define RECORD_TAIL "\"}"

enum bench_op {
    OP_SEND = 1,
    OP_RECEIVE = 2,
};

struct bench_connection {
    int fd;
    bool is_open;
    bool is_receiving;
    bool is_sending;
    uint8_t *send; /* pipeline requests in a row */
    size_t send_bytes;
    size_t sent;
    uint64_t first_number; /* of the first unanswered request */
    unsigned unanswered;
    uint64_t sent_at_ns;
    uint8_t *receive;
    size_t received;
};

struct bench_load {
    struct io_uring ring;
    const struct bench_options *options;
    struct bench_numbers *numbers;
    struct bench_result *result;
    struct bench_connection *connections;
    unsigned open_count;
    uint8_t *request; /* one request with zeroes for numbers */
    size_t request_bytes;
    size_t *number_at; /* offsets of the numbers in a request */
    bool is_ending;
};

uint64_t bench_quantile_us(const struct bench_result *result, double quantile)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < BENCH_LATENCY_SLOTS; i++) {
        total += result->latency[i];
    }
    uint64_t rank = (uint64_t)((double)total * quantile);
    uint64_t seen = 0;
    for (unsigned i = 0; i < BENCH_LATENCY_SLOTS; i++) {
        seen += result->latency[i];
        if (seen > rank) {
            return i;
        }
    }
    return result->latency_max_us;
}

uint64_t bench_number_of(struct slice payload)
{
    size_t at = sizeof RECORD_HEAD - 1;
    if (payload.bytes != at + NUMBER_DIGITS + sizeof RECORD_TAIL - 1 ||
        memcmp(payload.data, RECORD_HEAD, at) != 0) {
        return 0;
    }
    uint64_t number = 0;
    for (unsigned i = 0; i < NUMBER_DIGITS; i++) {
        number = number * 10 + (uint64_t)(payload.data[at + i] - '0');
    }
    return number;
}

/* ---- requests
 * -----------------------------------------------------------------------------------------------------
 */

static void bench_build_request(struct bench_load *load)
{
    const struct bench_options *options = load->options;
    size_t record_bytes = sizeof RECORD_HEAD - 1 + NUMBER_DIGITS + sizeof RECORD_TAIL - 1;
    size_t body_bytes = options->batch == 1 ? record_bytes : options->batch * (record_bytes + 1);
    load->request = mem_alloc(body_bytes + 4096);
    load->number_at = mem_alloc_array(options->batch, sizeof *load->number_at);
    size_t at = (size_t)snprintf(
        (char *)load->request, 1024,
        "POST /v1/logs HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: %s\r\nContent-Length: %zu\r\n",
        options->host, options->port,
        options->batch == 1 ? "application/json" : "application/x-ndjson", body_bytes);
    for (unsigned i = 0; i < options->extra_count; i++) {
        at +=
            (size_t)snprintf((char *)load->request + at, 512, "%s\r\n", options->extra_headers[i]);
    }
    memcpy(load->request + at, "\r\n", 2);
    at += 2;
    for (unsigned i = 0; i < options->batch; i++) {
        memcpy(load->request + at, RECORD_HEAD, sizeof RECORD_HEAD - 1);
        at += sizeof RECORD_HEAD - 1;
        load->number_at[i] = at;
        memset(load->request + at, '0', NUMBER_DIGITS);
        at += NUMBER_DIGITS;
        memcpy(load->request + at, RECORD_TAIL, sizeof RECORD_TAIL - 1);
        at += sizeof RECORD_TAIL - 1;
        if (options->batch != 1) {
            load->request[at++] = '\n';
        }
    }
    load->request_bytes = at;
}

static void bench_put_number(uint8_t *to, uint64_t number)
{
    for (unsigned i = NUMBER_DIGITS; i > 0; i--) {
        to[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

static void bench_send(struct bench_load *load, struct bench_connection *connection)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&load->ring);
    ASSERT(sqe != NULL); /* the ring has two entries per connection */
    io_uring_prep_send(sqe, connection->fd, connection->send + connection->sent,
                       connection->send_bytes - connection->sent, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, (uint64_t)(connection - load->connections) << 8 | OP_SEND);
    connection->is_sending = true;
}

static void bench_receive(struct bench_load *load, struct bench_connection *connection)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&load->ring);
    ASSERT(sqe != NULL);
    io_uring_prep_recv(sqe, connection->fd, connection->receive + connection->received,
                       RECEIVE_BYTES - connection->received, 0);
    sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    io_uring_sqe_set_data64(sqe, (uint64_t)(connection - load->connections) << 8 | OP_RECEIVE);
    connection->is_receiving = true;
}

/* Fills and sends the next pipeline of requests. */
static void bench_next(struct bench_load *load, struct bench_connection *connection)
{
    const struct bench_options *options = load->options;
    struct bench_numbers *numbers = load->numbers;
    uint64_t count = (uint64_t)options->pipeline * options->batch;
    bool is_enough = options->requests_max != 0 && load->result->requests >= options->requests_max;
    if (load->is_ending || is_enough || numbers->next + count > numbers->capacity) {
        return;
    }
    connection->first_number = numbers->next;
    for (unsigned r = 0; r < options->pipeline; r++) {
        uint8_t *request = connection->send + r * load->request_bytes;
        for (unsigned i = 0; i < options->batch; i++) {
            bench_put_number(request + load->number_at[i], numbers->next++);
        }
    }
    connection->sent = 0;
    connection->send_bytes = options->pipeline * load->request_bytes;
    connection->unanswered = options->pipeline;
    connection->sent_at_ns = clock_mono_ns();
    load->result->requests += options->pipeline;
    bench_send(load, connection);
}

/* ---- answers
 * ------------------------------------------------------------------------------------------------------
 */

static void bench_count_answer(struct bench_load *load, struct bench_connection *connection,
                               unsigned status, uint64_t now_ns)
{
    struct bench_result *result = load->result;
    uint64_t latency_us = (now_ns - connection->sent_at_ns) / NS_US;
    result->latency[u64_min(latency_us, BENCH_LATENCY_SLOTS - 1)]++;
    result->latency_max_us = u64_max(result->latency_max_us, latency_us);
    if (status == 202) {
        result->accepted++;
        for (uint64_t n = connection->first_number;
             n < connection->first_number + load->options->batch; n++) {
            load->numbers->acked[n / 64] |= UINT64_C(1) << (n % 64);
        }
    } else if (status == 429 || status == 503) {
        result->refused++;
    } else {
        result->failed++;
    }
    connection->first_number += load->options->batch;
    connection->unanswered--;
}

/* Bytes of the first complete response in the buffer, 0 when there is none yet, -1 when it is no
 * response. */
static int64_t bench_parse(const uint8_t *data, size_t bytes, unsigned *status)
{
    static const char length_field[] = "Content-Length: ";
    const uint8_t *end = memmem(data, bytes, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    size_t head = (size_t)(end - data) + 4;
    const uint8_t *length = memmem(data, head, length_field, sizeof length_field - 1);
    if (head < 16 || memcmp(data, "HTTP/1.1 ", 9) != 0 || length == NULL) {
        return -1;
    }
    *status = (unsigned)(data[9] - '0') * 100 + (unsigned)(data[10] - '0') * 10 +
              (unsigned)(data[11] - '0');
    size_t body = 0;
    for (const uint8_t *c = length + sizeof length_field - 1; *c >= '0' && *c <= '9'; c++) {
        body = body * 10 + (size_t)(*c - '0');
    }
    return head + body <= bytes ? (int64_t)(head + body) : 0;
}

static void bench_close(struct bench_load *load, struct bench_connection *connection)
{
    if (connection->is_open) {
        shutdown(connection->fd, SHUT_RDWR);
        connection->is_open = false;
        load->open_count--;
        load->result->lost++;
    }
}

static void bench_on_received(struct bench_load *load, struct bench_connection *connection,
                              int result)
{
    connection->is_receiving = false;
    if (result <= 0) {
        bench_close(load, connection);
        return;
    }
    connection->received += (size_t)result;
    uint64_t now_ns = clock_mono_ns();
    size_t at = 0;
    while (connection->unanswered != 0) {
        unsigned status = 0;
        int64_t bytes = bench_parse(connection->receive + at, connection->received - at, &status);
        if (bytes < 0) {
            bench_close(load, connection);
            return;
        }
        if (bytes == 0) {
            break;
        }
        bench_count_answer(load, connection, status, now_ns);
        at += (size_t)bytes;
    }
    memmove(connection->receive, connection->receive + at, connection->received - at);
    connection->received -= at;
    if (connection->unanswered == 0) {
        bench_next(load, connection);
    }
    bench_receive(load, connection);
}

static void bench_on_sent(struct bench_load *load, struct bench_connection *connection, int result)
{
    connection->is_sending = false;
    if (result < 0) {
        bench_close(load, connection);
        return;
    }
    connection->sent += (size_t)result;
    if (connection->sent < connection->send_bytes) {
        bench_send(load, connection);
    }
}

/* ---- life
 * ---------------------------------------------------------------------------------------------------------
 */

static int bench_connect(struct bench_load *load, struct bench_connection *connection,
                         struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)load->options->port)};
    int one = 1;
    if (inet_pton(AF_INET, load->options->host, &address.sin_addr) != 1) {
        return err_set(err, -EINVAL, "'%s' is not an IPv4 address", load->options->host);
    }
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        return err_set(err, -errno, "connect to %s:%u: %s", load->options->host,
                       load->options->port, err_name(-errno));
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection->is_open = true;
    load->open_count++;
    connection->send = mem_alloc(load->options->pipeline * load->request_bytes);
    connection->receive = mem_alloc(RECEIVE_BYTES);
    for (unsigned r = 0; r < load->options->pipeline; r++) {
        memcpy(connection->send + r * load->request_bytes, load->request, load->request_bytes);
    }
    return 0;
}

static int bench_start(struct bench_load *load, struct err *err)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                 IORING_SETUP_CLAMP,
        .cq_entries = 16384,
    };
    int result = io_uring_queue_init_params(4096, &load->ring, &params);
    if (result < 0) {
        return err_set(err, result, "io_uring: %s (see sluice doctor)", err_name(result));
    }
    bench_build_request(load);
    load->connections = mem_alloc_array(load->options->connections, sizeof *load->connections);
    for (unsigned i = 0; i < load->options->connections; i++) {
        result = bench_connect(load, &load->connections[i], err);
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

static void bench_finish(struct bench_load *load)
{
    io_uring_queue_exit(&load->ring);
    for (unsigned i = 0; load->connections != NULL && i < load->options->connections; i++) {
        struct bench_connection *connection = &load->connections[i];
        if (connection->send != NULL) {
            close(connection->fd);
        }
        mem_free(connection->send);
        mem_free(connection->receive);
    }
    mem_free(load->connections);
    mem_free(load->request);
    mem_free(load->number_at);
}

static void bench_on_cqe(struct bench_load *load, const struct io_uring_cqe *cqe)
{
    struct bench_connection *connection = &load->connections[cqe->user_data >> 8];
    if (!connection->is_open) {
        return;
    }
    if ((cqe->user_data & 0xff) == OP_SEND) {
        bench_on_sent(load, connection, cqe->res);
    } else {
        bench_on_received(load, connection, cqe->res);
    }
}

static bool bench_is_waiting(const struct bench_load *load)
{
    for (unsigned i = 0; i < load->options->connections; i++) {
        if (load->connections[i].is_open && load->connections[i].unanswered != 0) {
            return true;
        }
    }
    return false;
}

static int bench_pass(struct bench_load *load)
{
    struct __kernel_timespec timeout = {.tv_nsec = 50 * 1000 * 1000};
    struct io_uring_cqe *cqe = NULL;
    int result = io_uring_submit_and_wait_timeout(&load->ring, &cqe, 1, &timeout, NULL);
    if (result < 0 && result != -ETIME && result != -EINTR) {
        return result;
    }
    unsigned head;
    unsigned count = 0;
    io_uring_for_each_cqe(&load->ring, head, cqe)
    {
        bench_on_cqe(load, cqe);
        count++;
    }
    io_uring_cq_advance(&load->ring, count);
    return 0;
}

int bench_load_run(const struct bench_options *options, struct bench_numbers *numbers,
                   struct bench_result *result, bench_should_stop should_stop, void *context,
                   struct err *err)
{
    struct bench_load load = {.options = options, .numbers = numbers, .result = result};
    int code = bench_start(&load, err);
    if (code < 0) {
        return code;
    }
    uint64_t start_ns = clock_mono_ns();
    for (unsigned i = 0; i < options->connections; i++) {
        bench_receive(&load, &load.connections[i]);
        bench_next(&load, &load.connections[i]);
    }
    /* Bounded by duration_ns plus 10 s for answers that never come. */
    for (;;) {
        uint64_t elapsed_ns = clock_mono_ns() - start_ns;
        load.is_ending = elapsed_ns >= options->duration_ns;
        bool must_stop = should_stop != NULL && should_stop(context, elapsed_ns);
        bool is_late = elapsed_ns > options->duration_ns + 10 * NS_S;
        if (must_stop || is_late || load.open_count == 0 || !bench_is_waiting(&load)) {
            result->duration_ns = elapsed_ns;
            break;
        }
        code = bench_pass(&load);
        if (code < 0) {
            err_set(err, code, "io_uring: %s", err_name(code));
            break;
        }
    }
    bench_finish(&load);
    return code;
}
