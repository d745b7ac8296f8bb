/*
 * rate_limit: at most rpm requests of one client address in any 60 s (api.md §0); off by default.
 *
 * One table for the whole process, because a client's connections are spread over the shards by the
 * kernel: a table per shard would allow a client as many times its share as there are shards, or,
 * divided, less than its share when its connections meet in one. This is the one place where shards
 * take a lock, on a path that nobody walks who has not asked for it, for some 100 ns.
 *
 * Sliding: each request that was allowed counts for 60 s from its own moment, to the millisecond
 * while rpm is at most 64. Above, those of one second count together until the last of them is 60 s
 * old: never more than rpm in any 60 s, at most a second late. Refused requests do not count.
 *
 * Bounded: when all places are taken, the address that was silent for longest loses its place, and
 * with it what it had used up; evicted counts those that it would still have limited.
 */
#ifndef API_RATE_LIMIT_H
#define API_RATE_LIMIT_H

#include "core/base.h"
#include "core/err.h"

#include <sys/socket.h>

#define RATE_LIMIT_WINDOW_MS 60000u
#define RATE_LIMIT_MARKS     64u
#define RATE_LIMIT_ADDRESSES 65536u /* some 37 MiB when all are in use; charged as they come */

struct rate_limit;

struct rate_address {
    uint8_t bytes[16]; /* IPv6, or IPv4 as ::ffff:a.b.c.d */
};

struct rate_verdict {
    bool is_allowed;
    uint32_t retry_after_s; /* when not: until the next one would be */
};

struct rate_counts {
    uint64_t addresses; /* places in use */
    uint64_t evicted;
};

/* 0 or -ENOMEM. addresses_max is a power of two. */
int rate_limit_open(struct rate_limit **limit, uint32_t addresses_max, struct err *err) MUST_USE;
void rate_limit_close(struct rate_limit *limit);

/* Any thread. Counts the request when it is allowed. now_ns is monotonic; a clock that is behind
 * another thread's counts as that thread's. rpm may differ from call to call (reload). */
struct rate_verdict rate_limit_take(struct rate_limit *limit, struct rate_address address,
                                    uint64_t rpm, uint64_t now_ns);
struct rate_counts rate_limit_counts(struct rate_limit *limit);

/* Without the port. Other families are all one address. Pure. */
struct rate_address rate_limit_address(const struct sockaddr_storage *peer);

#endif
