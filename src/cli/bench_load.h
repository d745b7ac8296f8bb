/*
 * bench_load: a lean load client on its own io_uring: numbered records, keep-alive connections,
 * pipelining, batches. One thread. Each request carries numbers that were never sent before; an
 * answer 202 moves them into `acked`, so that what was promised can be compared with what is in the
 * log.
 */
#ifndef CLI_BENCH_LOAD_H
#define CLI_BENCH_LOAD_H

#include "core/base.h"
#include "core/err.h"

#define BENCH_LATENCY_SLOTS 200000u /* microseconds; longer falls into the last */

struct bench_options {
    const char *host; /* numeric IPv4 */
    unsigned port;
    unsigned connections;
    unsigned pipeline; /* requests sent at once per connection */
    unsigned batch;    /* records per request; over 1: NDJSON */
    uint64_t duration_ns;
    uint64_t requests_max; /* 0: no limit */
    const char *const *extra_headers;
    unsigned extra_count;
};

struct bench_numbers {
    uint64_t next;     /* the next number to send; from 1 */
    uint64_t capacity; /* numbers the bitmap holds */
    uint64_t *acked;   /* bitmap by number */
};

struct bench_result {
    uint64_t requests;
    uint64_t accepted; /* 202 */
    uint64_t refused;  /* 429, 503 */
    uint64_t failed;   /* anything else */
    uint64_t lost;     /* connections that ended under us */
    uint64_t duration_ns;
    uint64_t latency_max_us;
    uint32_t *latency; /* BENCH_LATENCY_SLOTS counts, by microsecond */
};

/* Asked between passes; true ends the run at once (the answers under way are not awaited). */
typedef bool (*bench_should_stop)(void *context, uint64_t elapsed_ns);

/* A connection that breaks ends; the run ends when none is left. numbers and result->latency belong
 * to the caller. */
int bench_load_run(const struct bench_options *options, struct bench_numbers *numbers,
                   struct bench_result *result, bench_should_stop should_stop, void *context,
                   struct err *err) MUST_USE;

uint64_t bench_quantile_us(const struct bench_result *result, double quantile);

/* The number in a record that bench_load made, or 0 for any other payload. Pure. */
uint64_t bench_number_of(struct slice payload);

#endif
