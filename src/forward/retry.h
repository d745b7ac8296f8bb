/*
 * retry: when to try again, and how hard. Pure: the caller brings the time (monotonic ns) and the random number, so
 * that a test repeats.
 *
 * backoff   full jitter: sleep = rand(0, min(max, min * 2^failures)); an upstream's Retry-After is obeyed as the
 *           least (up to RETRY_AFTER_MAX), plus jitter up to as much again (never more than backoff alone would wait).
 * breaker   CLOSED; after N failures in a row OPEN for a backoff time; then HALF_OPEN: one request only; success
 *           closes it, failure opens it for longer. No limit on attempts, ever. After a failure in CLOSED nothing begins
 *           before its backoff is over either. Answers to what was sent before it opened change nothing but that a
 *           Retry-After among them is obeyed.
 * window    how many requests of the backlog may be in flight: additive increase for each window's worth of successes,
 *           halved on 429, 503 or a time-out, at most once per round trip; 1..max.
 * bucket    a rate cap in bytes a second.
 */
#ifndef FORWARD_RETRY_H
#define FORWARD_RETRY_H

#include "core/base.h"

#define RETRY_AFTER_MAX (3600 * NS_S)

struct backoff_options {
    uint64_t min_ns, max_ns;
};
/* failures: in a row, from 1. random: 64 uniform bits. Pure. */
uint64_t backoff_ns(const struct backoff_options *options, unsigned failures,
                    uint64_t retry_after_ns, uint64_t random);
/* RFC 9110 §10.2.3: seconds, or an IMF-fixdate (and the two obsolete forms); wall_ns: now, since 1970. 0: none, past or
 * unreadable; bounded by RETRY_AFTER_MAX. Pure. */
uint64_t retry_after_parse(struct slice value, int64_t wall_ns);

enum breaker_state {
    BREAKER_CLOSED = 0,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN,
};
struct breaker {
    enum breaker_state state;
    unsigned failures; /* in a row */
    unsigned failures_max;
    struct backoff_options backoff;
    uint64_t retry_at_ns; /* OPEN, and CLOSED after a failure: nothing is sent before */
    bool is_probing;      /* HALF_OPEN: its one request is under way */
    uint64_t opened_count;
};
void breaker_init(struct breaker *breaker, unsigned failures_max,
                  const struct backoff_options *backoff);
/* May a request begin now? Turns OPEN into HALF_OPEN when its time has come. */
bool breaker_allows(struct breaker *breaker, uint64_t now_ns);
void breaker_on_send(struct breaker *breaker);
void breaker_on_success(struct breaker *breaker);
void breaker_on_failure(struct breaker *breaker, uint64_t now_ns, uint64_t retry_after_ns,
                        uint64_t random);
/* When to look again; 0: at once, UINT64_MAX: when the request under way ends. */
uint64_t breaker_due_ns(const struct breaker *breaker);

struct window {
    double size; /* requests */
    unsigned max;
    uint64_t halved_at_ns;
};
void window_init(struct window *window, unsigned max);
unsigned window_size(const struct window *window);
void window_on_success(struct window *window);
/* began_ns: when the request that failed was sent. */
void window_on_overload(struct window *window, uint64_t began_ns, uint64_t now_ns);

struct bucket {
    uint64_t rate; /* bytes a second, 0: no limit */
    double level;
    uint64_t filled_at_ns;
};
void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t now_ns);
/* Takes bytes; may go below zero, then bucket_due_ns says until when nothing more is to be sent. */
void bucket_take(struct bucket *bucket, uint64_t bytes, uint64_t now_ns);
uint64_t bucket_due_ns(const struct bucket *bucket, uint64_t now_ns); /* 0: now */

#endif
