/*
 * query_pool: the threads that answer reads: GET /v1/logs|metrics|events and GET /v1/tail, and whatever else must block
 * (query_on_call). Never a shard: a shard hands a job over and later passes its bytes on.
 *
 *   shard --- requests ring (jobs) ---> worker: scan_step by scan_step, all its jobs in turn
 *   shard <-- replies ring (bytes) ---- worker
 *
 * A job is a slot of its shard's table (QUERY_JOBS_MAX config'd by query.max_active), addressed by
 * {index, generation}; the shard owns its life, the worker works on it between REQUEST and the
 * reply that ends it (edges Q1: requests ring R1/A1, Q2: replies ring). Flow control per job: the
 * worker has at most QUERY_UNSENT bytes with the shard (sent - consumed; consumed is raised by the
 * shard when the connection has taken them), so a slow client stops its own job and nothing else,
 * and the replies ring never fills: it has room for what all jobs of the shard may have
 * outstanding, or the worker waits for that job. A client that leaves sets job->is_cancelled
 * (relaxed; the next step sees it).
 *
 * Each worker has one pair of rings per shard. It sleeps on its park, woken by shards (new job,
 * more credit) and by the writer (STORE_TELL_DURABLE) while a tail or a following stream waits for
 * more.
 */
#ifndef API_QUERY_POOL_H
#define API_QUERY_POOL_H

#include "api/query_params.h"
#include "core/agent.h"
#include "core/park.h"
#include "net/server.h"
#include "store/scan.h"

#include <stdatomic.h>

struct shard;
struct query_call;
struct query_pool;
struct query_side;

#define QUERY_THREADS_MAX 8u

struct query_pool_options {
    unsigned threads;
    unsigned shard_count;
    unsigned jobs_max; /* of each shard */
    uint64_t page_timeout_ns;
    struct store *store;
    struct park **shard_parks; /* to wake a shard when bytes wait for it */
};

int query_pool_open(struct query_pool **pool, const struct query_pool_options *options,
                    struct err *err) MUST_USE;
/* What the shard of that index keeps as shard->query. */
struct query_side *query_pool_side(struct query_pool *pool, unsigned shard_index);
int query_pool_start(struct query_pool *pool, struct err *err) MUST_USE; /* the threads */
/* Asks the workers to end their jobs and finish; then joins. */
void query_pool_stop(struct query_pool *pool);
void query_pool_close(struct query_pool *pool);
uint64_t query_pool_heartbeat_ns(const struct query_pool *pool); /* the oldest of its threads */

/* ---- the shard's side, in the shard's thread ---- */

/* GET /v1/logs|metrics|events (page or NDJSON stream) and GET /v1/tail (WebSocket). */
enum http_verdict query_on_request(struct shard *shard, const struct route *route,
                                   const struct http_request *request);
/* An answer that takes a blocking call (query_job.h), which is copied. 503 when there is no place for it. */
enum http_verdict query_on_call(struct shard *shard, const struct http_request *request,
                                const struct query_call *call);
/* Likewise, for a request that was deferred before. False: there is no place, nothing has happened. */
bool query_on_deferred_call(struct shard *shard, struct conn_handle conn,
                            const struct query_call *call) MUST_USE;
/* Once per pass: passes on what the workers have sent; returns how many frames. */
size_t query_drain(struct shard *shard);
/* The second look before the shard sleeps: something of the workers' is there to be passed on. */
bool query_has_replies(const struct shard *shard);
/* server_callbacks.on_stream. */
void query_on_stream(struct shard *shard, struct conn_handle conn, enum stream_event event,
                     struct slice data);
/* Orderly stop: ends every stream of the shard. */
void query_end_all(struct shard *shard);
bool query_is_busy(const struct shard *shard);

struct query_counts { /* for /metrics; relaxed */
    _Atomic uint64_t started, finished, cancelled, refused, records, scanned_bytes, skipped_bytes,
        gaps, active, tails;
};
const struct query_counts *query_pool_counts(const struct query_pool *pool);

#endif
