/*
 * upstream: what the routes may know and ask of the forwarder, without seeing it (api never sees forward, design.md §4): the
 * composition (app_forward.c) fills this in. All calls may be made by any thread but those that say otherwise.
 */
#ifndef API_UPSTREAM_H
#define API_UPSTREAM_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"

/* One sink as shown to people. Counts are of records unless they say otherwise. */
struct upstream_sink {
    char name[40];
    char type[16];
    char state[16];                  /* running, retrying, paused */
    char breaker[16];                /* closed, open, half_open */
    char reason[512];                /* of the last trouble; "" when there is none now */
    uint64_t durable_lsn, start_lsn; /* of this picture */
    uint64_t delivered, pending, quarantined, filtered;
    uint64_t expired, damaged,
        dropped; /* the causes of what is gone: by retention, unreadable, by an operator */
    uint64_t delivered_lsn; /* everything up to here is done with */
    bool balances;
    uint64_t pending_bytes, frozen_batches, in_flight, window;
    uint64_t requests, retries, refused, bisections, refrozen, pauses, breaker_opened;
    uint64_t body_bytes, sent_bytes;
    int64_t oldest_pending_at_ns, last_success_at_ns; /* real time, 0: none */
    int64_t lag_last_ns, lag_p50_ns, lag_p99_ns;
};

struct upstream_poller {
    char name[40];
    uint64_t looks, rows, records, duplicates, invalid, errors, reconnects;
    int64_t last_row_at_ns, last_look_at_ns;
    bool is_connected;
    char reason[256];
};

enum upstream_order {
    UPSTREAM_REQUEUE = 1,
    UPSTREAM_DROP,
    UPSTREAM_RESUME,
};

struct upstream {
    void *context;
    unsigned sink_count, poller_count;
    void (*sink)(void *context, unsigned i,
                 struct upstream_sink *sink); /* wait-free enough for a shard */
    void (*poller)(void *context, unsigned i, struct upstream_poller *poller); /* likewise */
    /* The oldest heartbeat of the threads behind it, monotonic; 0: they do not run yet. May be NULL: not watched. */
    uint64_t (*heartbeat_ns)(void *context);
    /* Blocking (reads the database): query threads only. Puts {"data":[...],"next_cursor":n|null}: items of sink ("" : all) with ids
     * above after, at most limit; next_cursor is the id of the last one shown when there are more. What has no room makes
     * out->is_truncated: it is then asked again for fewer, or with more room. A list without items begins {"data":[]. */
    int (*quarantine_list)(void *context, struct slice sink, uint64_t after, unsigned limit,
                           struct buf *out, struct err *err);
    int (*quarantine_show)(void *context, uint64_t id, struct buf *out,
                           struct err *err); /* 1, 0: none */
    /* Blocking up to some seconds: query threads only. Returns how many records; -ENOENT, -EBUSY, -ETIMEDOUT. */
    int (*order)(void *context, enum upstream_order order, struct slice sink, uint64_t id,
                 struct err *err);
};

#endif
