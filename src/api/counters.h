/*
 * counters: the ingest ledger of one shard, in records and in requests. Written by the shard's
 * thread as plain words; at the end of each pass that changed something the shard publishes a copy
 * under a sequence lock, so that any thread can read a snapshot that balances:
 *
 *   records.received == durable + duplicate + pending + sum(rejected) + sum(shed)
 *
 * pending is not a counter of differences: it is the sum kept by the FIFO of unanswered requests
 * (pending.h), so the equation can fail, and then /healthcheck says so.
 */
#ifndef API_COUNTERS_H
#define API_COUNTERS_H

#include "core/base.h"
#include "core/buf.h"

#include <stdatomic.h>

enum reject_cause {
    REJECT_JSON = 0, /* not JSON, or not the shape it claims */
    REJECT_SCHEMA,   /* a field is missing or wrong */
    REJECT_KEY,      /* Idempotency-Key used with another body */
    REJECT_CAUSES,
};

enum shed_cause {
    SHED_QUEUE_FULL = 0, /* no room in the ring or the FIFO: 429 */
    SHED_THROTTLED,      /* throttle.enabled: 429 */
    SHED_SPACE_LOW,      /* store state SHED: 429 */
    SHED_READ_ONLY,      /* store cannot write: 503 */
    SHED_IO_ERROR,       /* was in the ring, could not be written: 503 */
    SHED_NO_SPACE,       /* likewise */
    SHED_STOPPING,       /* the server is stopping: 503 */
    SHED_ORIGINS,        /* more of other nodes than can be remembered (store/origins.h): 503 */
    SHED_CAUSES,
};

/* Refused for who asks, before the body: requests only, because nobody has seen their records. */
enum refuse_cause {
    REFUSED_UNAUTHORIZED = 0, /* no token, or not one of ours: 401 */
    REFUSED_FORBIDDEN,        /* the token may not do that: 403 */
    REFUSED_RATE_LIMITED,     /* the address asks too often: 429 */
    REFUSE_CAUSES,
};

const char *reject_cause_name(enum reject_cause cause);
const char *shed_cause_name(enum shed_cause cause);
const char *refuse_cause_name(enum refuse_cause cause);

/* All words 64 bits: copied as an array. */
struct counters {
    uint64_t received;  /* records taken out of bodies */
    uint64_t durable;   /* records on stable storage */
    uint64_t duplicate; /* records that were stored before under the same key */
    uint64_t pending;   /* records in the ring or in a write */
    uint64_t rejected[REJECT_CAUSES];
    uint64_t shed[SHED_CAUSES];
    /* Requests to ingest routes. */
    uint64_t requests_received;
    uint64_t requests_accepted; /* 202 */
    uint64_t requests_pending;
    uint64_t requests_rejected;
    uint64_t requests_shed[SHED_CAUSES];
    uint64_t requests_refused[REFUSE_CAUSES];
    uint64_t requests_duplicate; /* answered from a receipt */
    uint64_t requests_memory;    /* acknowledged from memory on request */
    uint64_t body_bytes;
    uint64_t requests_other; /* routes that do not ingest */
    uint64_t other_refused[REFUSE_CAUSES];
};

#define COUNTERS_WORDS (sizeof(struct counters) / sizeof(uint64_t))

/* The published copy. Edge S1: release of the even sequence pairs with the reader's acquire. */
struct counters_cell {
    CACHE_LINE_ALIGNED _Atomic uint64_t sequence; /* odd: being written */
    _Atomic uint64_t words[COUNTERS_WORDS];
};

/* Shard's thread. */
void counters_publish(struct counters_cell *cell, const struct counters *counters);
/* Any thread. Tries until it has a consistent copy (a publish takes tens of nanoseconds). */
void counters_read(struct counters_cell *cell, struct counters *copy);
/* Adds every word of from. */
void counters_add(struct counters *into, const struct counters *from);
/* received - (durable + duplicate + pending + rejected + shed): 0 unless the program is wrong. */
int64_t counters_imbalance(const struct counters *counters);

#endif
