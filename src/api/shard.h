/*
 * shard: one thread, one ring, one listener; the agent in which requests become records and
 * durability becomes answers.
 *
 *   recv -> parse -> validate -> claim in the ring -> publish -> ... the writer ... -> ack frame ->
 * answer -> send
 *
 * shard_duty() is everything the thread does. Nothing here is shared but the two rings of its
 * store_port, the published counters and the flags that the main thread sets.
 */
#ifndef API_SHARD_H
#define API_SHARD_H

#include "api/counters.h"
#include "api/durable.h"
#include "api/pending.h"
#include "api/policy.h"
#include "api/rate_limit.h"
#include "api/throttle.h"
#include "core/agent.h"
#include "core/arena.h"
#include "core/config.h"
#include "core/hist.h"
#include "core/park.h"
#include "core/ulid.h"
#include "model/body.h"
#include "net/server.h"
#include "store/store.h"

struct query_pool;
struct query_side;
struct runs_link;
struct runs_side;
struct shard;
struct alerts;
struct upstream;

/* What the shards have in common; read-only for them but where marked. */
struct shard_set {
    _Atomic(const struct policy *) policy; /* main publishes (C1); shards take it once per pass */
    struct rate_limit *rate_limit;         /* one for all: see rate_limit.h */
    struct query_pool *query_pool;
    struct store *store;
    const struct store_status *status;
    const struct alerts *alerts;     /* its gauges; NULL: none */
    struct runs_link *runs;          /* agent runs; NULL: their database is not open */
    const struct upstream *upstream; /* NULL: neither sinks nor pollers are configured */
    struct shard *shards;
    struct agent *agents; /* heartbeats, for health */
    unsigned count;
    uint64_t started_at_ns; /* monotonic */
    int64_t started_real_ns;
    uint64_t ledger_base_lsn;       /* last LSN of the log at start */
    _Atomic bool is_stopping;       /* main: stop accepting, answer what is in flight */
    _Atomic bool must_finish;       /* main: the time for that is over */
    _Atomic uint64_t ledger_faults; /* main's continuous check found an imbalance this often */
};

struct shard {
    unsigned index;
    struct shard_set *set;
    const struct policy *policy; /* of this pass */
    const struct config *config; /* &policy->config */
    bool asks_who;               /* tokens or a rate limit are on */
    struct store_port *port;
    struct server *server;
    struct park park;
    uint64_t now_ns; /* monotonic, read once per pass */
    int64_t real_ns; /* likewise */

    struct counters counters;
    struct counters_cell published;
    struct pending_queue pending;
    struct arena *texts; /* error texts and outcomes of unanswered requests */
    struct throttle throttle;
    struct durable_waiters waiters;
    struct query_side *query; /* its jobs with the query pool */
    struct runs_side *runs;   /* its requests that wait for the runs agent */
    struct ulid_source ulids;
    struct body *body;  /* parser state */
    uint8_t *scratch;   /* SHARD_SCRATCH_BYTES: answers under construction */
    bool has_committed; /* frames of this pass wait for publication */
    bool is_draining;
    bool counters_changed;

    uint32_t parse_count;      /* bodies seen: one in PARSE_TIMED is timed */
    struct hist parse_latency; /* validation of one body */
    struct hist ack_latency;   /* request complete to answer queued */
    /* The server's, kept here because other shards show them when this one has stopped. */
    CACHE_LINE_ALIGNED struct server_stats server_stats;
};

#define SHARD_SCRATCH_BYTES (512u * 1024u)
#define SHARD_PENDING_MAX   16384u
/* One arena block (1 KiB) for the outcome of each of SHARD_PENDING_MAX requests, and as much again,
 * bounded by SHARD_ERROR_TEXTS_BYTES, for listed errors. Charged when touched. */
#define SHARD_TEXTS_BYTES       (32u * 1024u * 1024u)
#define SHARD_ERROR_TEXTS_BYTES (8u * 1024u * 1024u)

/* Memory and parking only; the thread does the rest in shard_on_start. */
void shard_init(struct shard *shard, struct shard_set *set, unsigned index);
void shard_free(struct shard *shard);

/* For struct agent_options. */
int shard_on_start(void *shard, struct err *err);
int shard_duty(void *shard);
void shard_on_stop(void *shard);

/* Options of a shard's server from the configuration; park and stats are the caller's to add. Pure.
 */
struct server_options shard_server_options(const struct config *config, unsigned shard_count);

#endif
