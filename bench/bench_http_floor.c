/*
 * bench_http_floor: what the connection side costs by itself. One shard that answers every request
 * with the same 202, pinned to a core; any HTTP load generator is the client. On SIGINT, SIGTERM or
 * after SECONDS it prints requests and the CPU they cost (user and system, from getrusage).
 *
 *   bench_http_floor [PORT [CPU [SECONDS]]]
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/clock.h"
#include "net/server.h"

static volatile sig_atomic_t is_stopping;
static struct server *server;

static void on_signal(int number)
{
    (void)number;
    is_stopping = 1;
}

static enum http_verdict on_request(void *context, const struct http_request *request)
{
    (void)context;
    struct slice answer = SLICE_LITERAL("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    return server_answer_raw(server, request->conn, answer, false) == 0 ? HTTP_ANSWERED
                                                                        : HTTP_DEFERRED;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

static double us(struct timeval time)
{
    return (double)time.tv_sec * 1e6 + (double)time.tv_usec;
}

static void report(void)
{
    const struct server_stats *stats = server_stats(server);
    double requests = (double)atomic_load(&stats->requests);
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    if (requests > 0) {
        printf("requests %.0f  cpu us/request %.3f (user %.3f, system %.3f)  enters/request %.3f  "
               "cqes/request %.3f  starved %llu\n",
               requests, (us(usage.ru_utime) + us(usage.ru_stime)) / requests,
               us(usage.ru_utime) / requests, us(usage.ru_stime) / requests,
               (double)atomic_load(&stats->ring_enters) / requests,
               (double)atomic_load(&stats->cqes) / requests,
               (unsigned long long)atomic_load(&stats->recv_starved));
    }
}

int main(int argc, char **argv)
{
    static char listen[32];
    struct park park = {.fd = -1};
    struct err err = {0};
    struct server_callbacks callbacks = {.on_request = on_request};
    struct server_options options = {
        .listen = {listen},
        .listen_count = 1,
        .connections_max = 4096,
        .pipeline_max = 1024,
        .limits = {.head_bytes_max = 16384,
                   .target_bytes_max = 8192,
                   .fields_max = 100,
                   .body_bytes_max = MIB(16)},
        .decode_ratio_max = 1000,
        .head_timeout_ns = 20 * NS_S,
        .body_timeout_ns = 20 * NS_S,
        .body_rate_min = 500,
        .idle_timeout_ns = 60 * NS_S,
        .linger_ns = 2 * NS_S,
        .send_timeout_ns = 20 * NS_S,
        .recv_buffers = 128,
        .recv_buffer_bytes = 8192,
        .arena_bytes = MIB(64),
        .park = &park,
    };
    snprintf(listen, sizeof(listen), "127.0.0.1:%s", argc > 1 ? argv[1] : "18080");
    pin(argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0);
    uint64_t end_ns = clock_mono_ns() + (argc > 3 ? strtoull(argv[3], NULL, 10) : 3600) * NS_S;

    if (park_init(&park, &err) < 0 || server_open(&server, &options, &callbacks, &err) < 0) {
        fprintf(stderr, "bench_http_floor: %s\n", err.text);
        return 1;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    while (!is_stopping && clock_mono_ns() < end_ns) {
        if (server_poll(server, 100 * NS_MS, false) < 0) {
            break;
        }
        server_tick(server, clock_mono_ns());
        server_flush(server);
    }
    report();
    server_close(server);
    park_close(&park);
    return 0;
}
