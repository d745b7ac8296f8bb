/*
 * delivery: one sink, from the log to its upstream: reads, freezes, sends, judges, retries, bisects, quarantines, moves
 * the cursor. Owned by one thread (the forwarder's, or a replay job's); waits for nobody: each call does a bounded piece.
 *
 *   log --scan--> encoder --freeze--> manifest in the database --commit--> transport --answer--> judge --+
 *        live lane: the newest; backlog lane: what an outage left                                          |
 *                  <-- done: delivered · retry: the same bytes later · items: what is left alone · refused: halves
 *
 * A pass of the owner is: delivery_collect of each sink (database calls in one transaction) - commit, when one of them has changed
 * something - delivery_after_commit of each, in any case (sends what is now durable) - transport_run. When collect or the commit
 * fails: rollback and delivery_after_rollback of each: what the pass wanted is kept in memory and written again a second
 * later; until then nothing is read, frozen or taken in, what was sent stays under way, and pictures and the LSN to retain stay those of
 * the last commit.
 *
 * Streams. What an upstream is told as the sender (keys, protocols, object names) is the stream of a batch's LSNs (store/lineage.h), and no
 * batch has LSNs of two; only a whole segment file may, which has the stream of the LSN behind it.
 *
 * Lanes. A sink that keeps up has one position. When it has fallen far behind (BACKLOG_RECORDS or BACKLOG_AGE) and its
 * upstream takes requests again, the range it is behind becomes the backlog lane and the live lane jumps to the newest
 * record: live data and old data are interleaved, never in one request; one connection is kept for live data. The backlog
 * lane's requests in flight follow the window (retry.h). A sink with a backlog lane that falls behind again goes on in order.
 */
#ifndef FORWARD_DELIVERY_H
#define FORWARD_DELIVERY_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/forward_db.h"
#include "forward/sink_status.h"
#include "forward/transport.h"
#include "store/lineage.h"
#include "store/scan.h"

#define BACKLOG_RECORDS UINT64_C(100000)
#define BACKLOG_AGE_NS  (30 * NS_S)

struct delivery;

struct delivery_options {
    const struct config_sink *sink; /* borrowed, as all below */
    unsigned sink_index;            /* of the transport */
    struct ulid node;
    const struct lineage *lineage; /* NULL: every LSN is of the node's own stream */
    struct scan_source source;
    const struct store_status
        *status; /* durable_lsn, first_lsn; NULL for tools: log_end, log_begin */
    uint64_t log_begin, log_end;
    struct forward_db *db;
    struct transport *transport;
    struct sink_status *out;
    uint64_t seed; /* of jitter */
    /* Replay: only LSNs in [lsn_min, lsn_max] (0, UINT64_MAX: all) that match; no live lane, no splitting. */
    uint64_t lsn_min, lsn_max;
    scan_match_fn match; /* NULL: all */
    void *match_context;
    struct scan_filter filter; /* times, kinds, keys of a replay; zeroed: none */
    /* Names filter and match: part of the keys, because what passes is not all of its range; 0: all passes. */
    uint64_t filter_digest;
    bool is_replay;
    uint64_t backlog_records,
        backlog_age_ns;   /* 0: BACKLOG_RECORDS, BACKLOG_AGE_NS; tests make them small */
    uint64_t piece_bytes; /* of a file read in pieces; 0: MIB(1) */
    bool compacts; /* the store compacts sealed segments: a sink of whole segments waits for that */
};

/* Reads position and frozen batches from the database; a sink that is new begins by sink.from. Batches that were frozen
 * under another encoding are frozen anew, said and counted. LSNs that have become other records' since the sink passed them are taken
 * back (delivery_cut.c); ERR_LIMIT: of a replay job; -EBUSY: the lineage does not know of it. */
int delivery_open(struct delivery **delivery, const struct delivery_options *options,
                  struct err *err) MUST_USE;
void delivery_close(struct delivery *delivery);
/* Reads (at most a few blocks), freezes, takes in what answers said; calls the database. True: something to commit. */
int delivery_collect(struct delivery *delivery, uint64_t now_ns, bool *has_changed,
                     struct err *err) MUST_USE;
void delivery_after_commit(struct delivery *delivery, uint64_t now_ns);
void delivery_after_rollback(struct delivery *delivery, uint64_t now_ns);
/* When delivery_collect has something to do next, monotonic; 0: at once; UINT64_MAX: when there is an answer. */
uint64_t delivery_due_ns(const struct delivery *delivery);
/* The smallest LSN that the committed position still needs; UINT64_MAX: none. For store_set_retain_lsn. */
uint64_t delivery_retain_lsn(const struct delivery *delivery);
/* Replay: everything up to lsn_max is delivered or in quarantine. */
bool delivery_is_finished(const struct delivery *delivery);
/* From quarantine back into delivery, or away. Before the collect of a pass. -ENOENT: no such item of this sink; -EBUSY: it is under
 * way already, or too many are. */
int delivery_requeue(struct delivery *delivery, uint64_t quarantine_id, struct err *err) MUST_USE;
int delivery_drop(struct delivery *delivery, uint64_t quarantine_id, struct err *err) MUST_USE;
/* From here on nothing is begun or sent; answers are still taken in. Idle: no request is under way and everything is written. */
void delivery_stop(struct delivery *delivery);
bool delivery_is_idle(const struct delivery *delivery);
/* Nothing that memory holds waits for a commit. After delivery_after_commit. */
bool delivery_is_written(const struct delivery *delivery);
/* An operator's "try again now": ends a pause and a backoff. */
void delivery_resume(struct delivery *delivery);

#endif
