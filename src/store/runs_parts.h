/*
 * runs_parts: what the files of runs share: the agent's state (runs.c, its life, duty and results) and the pass (runs_pass.c, one transaction). Private to
 * them.
 */
#ifndef STORE_RUNS_PARTS_H
#define STORE_RUNS_PARTS_H

#include "store/runs.h"
#include "store/runs_apply.h"
#include "store/runs_lock.h"
#include "store/runs_mirror.h"
#include "store/runs_outcomes.h"
#include "store/runs_watch.h"

/* A transaction ends behind the request that brings it to RUNS_PASS_ENOUGH commands (or to so many bytes, or so long: runs_pass.c), so that an outside
 * reader sees a request's commands together; one with more than the difference of these two may come in parts. */
#define RUNS_PASS_ENOUGH   256u
#define RUNS_PASS_COMMANDS 1280u

enum {
    RUNS_PATH_ROOM = 4096
};

struct runs_made {
    uint64_t lsn;
    enum runs_outcome outcome;
    bool is_cut;
    uint32_t text_bytes;
    uint8_t text[RUNS_RESULT_TEXT_MAX];
};

/* What one transaction has done so far. */
struct runs_pass {
    bool is_open;
    unsigned count;
    uint64_t bytes;
    uint64_t begun_at_ns;
    int64_t time_ns;     /* of the last command: those of one request have the same */
    int64_t day;         /* of the mirror */
    uint64_t resume_lsn; /* not 0: the scan took this record, the pass did not */
    bool is_early;       /* because the writer has not said it is durable */
    int failure;
    struct err why;
    struct runs_made *results;
};

struct runs {
    struct runs_options options;
    char path[RUNS_PATH_ROOM];
    struct runs_lock lock;
    struct sqlite3 *db;
    struct runs_apply *apply;
    struct runs_outcomes *outcomes;
    struct runs_mirror *mirror; /* NULL: none */
    struct runs_watch watch;
    bool must_look; /* somebody had written before our own last write covered it */
    uint64_t looked_at_ns;
    struct scan *scan; /* NULL: to be made at applied_lsn + 1 */
    struct spsc *rings;
    uint64_t alone_lsn; /* this command ends the transaction that it is in: it begins one */
    struct runs_fields fields;
    uint8_t *scratch;
    size_t scratch_bytes;
    struct runs_pass pass;
    uint64_t stored_lsn; /* applied_lsn as the file has it */
    uint64_t stored_at_ns;
    uint64_t durable_seen; /* when the scan was last at its end */
    uint64_t retry_at_ns;
    uint64_t busy_wait_ns;  /* of the lock that is waited for now */
    uint64_t busy_begun_ns; /* likewise */
    uint64_t said_at_ns;    /* of the failure that goes on */
    _Atomic bool is_asked;
    _Atomic bool is_stopping;
    struct runs_status status;
};

/* All of status is written by one thread. */
static inline void runs_add(_Atomic uint64_t *counter, uint64_t n)
{
    /* relaxed: statistics. */
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void runs_set(_Atomic uint64_t *gauge, uint64_t value)
{
    /* relaxed: gauges; who needs an order takes it from the result rings. */
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static inline uint64_t runs_get_relaxed(const _Atomic uint64_t *gauge)
{
    return atomic_load_explicit(gauge,
                                memory_order_relaxed); /* relaxed: own thread's, or a statistic */
}

static inline bool runs_is_stopping(const struct runs *runs)
{
    /* A11: pairs with R11 in runs_stop: what was durable then is seen now. */
    return atomic_load_explicit(&runs->is_stopping, memory_order_acquire);
}

static inline enum runs_fault runs_fault_of(const struct runs *runs)
{
    /* relaxed: own thread's. */
    return (enum runs_fault)atomic_load_explicit(&runs->status.fault, memory_order_relaxed);
}

/* One transaction, or none when there is nothing. SCAN_END, SCAN_MORE, or a failure that was dealt with. Results stay in the pass. */
int runs_pass_run(struct runs *runs);
/* The position alone, so that the next start does not walk what this one has; and to end a failure of which nothing is left to be tried
 * again. */
void runs_pass_store_position(struct runs *runs);
/* What other tools did to the file, also while no command comes that would meet it. */
void runs_pass_look(struct runs *runs, uint64_t now_ns);
/* What shards have been told of. */
uint64_t runs_pass_durable(const struct runs *runs);
/* The gauge of stored runs, from the table. */
int runs_pass_recount(struct runs *runs, struct err *err) MUST_USE;

#endif
