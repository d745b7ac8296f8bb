/*
 * runs: the routes of agent runs (api.md §2) in a shard. Reads go to the query pool (runs_reads.c); writes become records of the
 * log, as any ingest (runs_write.c), and are answered when the runs agent has applied them (runs_wait.c). Repeats under an
 * Idempotency-Key are answered by the query pool, too (runs_repeat.c).
 *
 *   judge -> ring -> writer: durable -> wait for the results of its LSNs -> answer
 *
 * So an answer means both: in the log, and in the database. A shard hears the results of all shards and keeps its own; it
 * drains that ring in every pass, whether anybody waits or not.
 *
 * A request with commands is alone on its connection until it is answered (HTTP_DEFERRED_ALONE): its answer comes later than those of
 * the records behind it could. 64 connections make one transaction out of 64 requests; pipelining does not.
 *
 * What goes wrong: the ring is full, the store refuses (429, 503, as ingest); a command is applied too late (10 s: 503, Retry-After; it
 * stays in the log and will be applied); the agent gave up on telling this shard (the same answer); the log failed (503, nothing was
 * stored).
 */
#ifndef API_RUNS_H
#define API_RUNS_H

#include "core/buf.h"
#include "net/server.h"
#include "store/runs.h"
#include "store/runs_read.h"

struct pending;
struct route;
struct runs_side;
struct shard;

#define RUNS_READERS_MAX 8u /* QUERY_THREADS_MAX */
#define RUNS_RESULT_NS   (10 * NS_S)

/* What all shards and query threads know of the database; made by the composition. */
struct runs_link {
    struct runs *runs;
    const char *db_path;
    /* One for each query thread; whoever finds one free takes it. */
    struct runs_reader *readers[RUNS_READERS_MAX];
    unsigned reader_count;
    _Atomic bool is_taken[RUNS_READERS_MAX];
};

/* ---- any thread ---- */

/* What keeps runs from being stored, for people; NULL: nothing does. link may be NULL: no runs here. */
const char *runs_trouble(const struct runs_link *link, uint64_t now_ns);
/* sluice_runs_*, Prometheus text. link may be NULL. */
void runs_metrics_write(struct buf *out, const struct runs_link *link, uint64_t now_ns,
                        uint64_t durable_lsn);

/* ---- the shard's thread ---- */

int runs_side_open(struct shard *shard, struct err *err) MUST_USE;
void runs_side_free(struct shard *shard);
/* A request of a route with route_is_runs, or GET /metrics that wants JSON (runs_wants_json). */
enum http_verdict runs_on_request(struct shard *shard, const struct route *route,
                                  const struct http_request *request);
bool runs_wants_json(const struct http_request *request);

/* Of acks.c, for an entry with PENDING_RUNS: its records are durable, the first of them at first_lsn; what it carried for its
 * answer is the waiting list's from now on. */
void runs_on_durable(struct shard *shard, struct pending *pending, uint64_t first_lsn);
/* Its Idempotency-Key was seen with the same request: the first answer again, or 503 while that is not known. */
void runs_on_repeat(struct shard *shard, struct pending *pending);
/* The entry goes; what it carried for its answer is given back, if it still has it. */
void runs_on_release(struct shard *shard, struct pending *pending);
/* Once per pass, after acks_drain: answers whose results are there, and those that came too late. */
void runs_drain(struct shard *shard);
/* The second look before the shard sleeps. */
bool runs_has_results(const struct shard *shard);

#endif
