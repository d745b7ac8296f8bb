/*
 * query_side: a shard's side of the query pool: its table of jobs and its ends of the rings. Owned
 * by the shard's thread. Private to the files of the query pool.
 *
 * A full table, a full ring: 503 with Retry-After. Nothing here waits, and a pass without jobs costs
 * one branch (query_drain).
 */
#ifndef API_QUERY_SIDE_H
#define API_QUERY_SIDE_H

#include "api/query_job.h"
#include "core/park.h"

/* Of one worker and one shard. */
struct query_link {
    struct spsc requests; /* shard -> worker */
    struct spsc replies;  /* worker -> shard */
};

struct query_side {
    struct query_job *jobs;
    unsigned jobs_max;
    uint32_t *free;
    uint32_t free_count;
    uint32_t *used; /* slots that are not free, in no order */
    uint32_t used_count;
    uint32_t *owing; /* those with bytes that their clients have not taken */
    uint32_t owing_count;
    uint64_t tick_at_ns;
    uint64_t page_timeout_ns;
    const struct store_status *status;
    struct query_counts *counts;
    unsigned worker_count;
    struct query_link *links[QUERY_THREADS_MAX];
    struct park *worker_parks[QUERY_THREADS_MAX];
    uint32_t loads[QUERY_THREADS_MAX]; /* jobs of each worker */
    bool is_dirty[QUERY_THREADS_MAX];  /* it is to be told something this pass */
};

/* Statistics; relaxed, all of these. */
#define QUERY_COUNT(side, word, by)                                                                \
    ((void)atomic_fetch_add_explicit(&(side)->counts->word, (by), memory_order_relaxed))
#define QUERY_UNCOUNT(side, word)                                                                  \
    ((void)atomic_fetch_sub_explicit(&(side)->counts->word, 1, memory_order_relaxed))

void query_side_init(struct query_side *side, unsigned jobs_max);
/* A free slot whose worker has room for a request; it stays free until query_side_hand, and is the
 * caller's to fill. NULL: refuse. */
struct query_job *query_side_look(struct query_side *side);
/* The job that query_side_look gave becomes the worker's (Q1: R1 of the requests ring, with the next
 * query_drain). */
void query_side_hand(struct query_side *side, struct query_job *job, enum query_slot slot);
/* After the workers have ended. */
void query_side_free(struct query_side *side);

#endif
