/*
 * forward_db: DIR/forward.sqlite, what the forwarder must not forget: where each sink stands, which batches are frozen
 * (their manifests), what is in quarantine. A replay job has a file of the same form (DIR/replay/JOB.sqlite).
 *
 * One writing connection, the forwarder's (WAL, synchronous FULL: a manifest is durable before the first byte of its
 * batch is sent; one transaction per pass serves all sinks); who opens it holds the data directory's lock (of a replay job: its file's).
 * Readers (query threads, tools) open their own, read only. One thread per connection at a time.
 * The file holds no copy of the log but the quarantined records' bytes, whose segments may expire.
 *
 * Lost or damaged (or another node's): moved to forward.sqlite.damaged (a second one to .damaged.2, ... .damaged.9, which is then replaced)
 * with its -wal, said loudly, made again; sinks begin as new ones do (sink.from), and upstreams that know keys or ids
 * recognise what they have. Made by a newer Sluice: ERR_VERSION, nothing touched.
 * A full disk: the pass is rolled back and tried again later; what was sent meanwhile is sent again, byte-identical.
 *
 * Errors: -ENOSPC (disk full, quota, file size limit), ERR_CORRUPT (damaged), -EBUSY (somebody else writes for longer than the
 * busy timeout), -EROFS, -ENOMEM, else -EIO.
 *
 * -wal and -shm stay when the last one closes (empty): a reader that finds a -wal never has to make one, which, reading only, it could not
 * remove again; one that finds none (a file brought back from a backup) reads the file alone, without locks.
 *
 * Schema (user_version FORWARD_DB_VERSION, STRICT):
 *   meta(key, value)       node; streams (streams.h), where the log has a lineage
 *   sinks(name, start_lsn, live_next, backlog_next, backlog_end, delivered, filtered, quarantined, expired, damaged,
 *         dropped, updated_at)
 *   batches(sink, first_lsn, last_lsn, lane, records, payload_bytes, encoding, digest, frozen_at, attempts, only, quarantine_id,
 *           target; PRIMARY KEY (sink, first_lsn, quarantine_id))
 *   quarantine(id, sink, lsn, record_id, kind, encoding, received_at, event_time, severity, meta, payload, status, reason,
 *              refused_at, state)
 * Times are nanoseconds since 1970 but updated_at, which is for people (RFC 3339).
 */
#ifndef FORWARD_FORWARD_DB_H
#define FORWARD_FORWARD_DB_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "core/ulid.h"
#include "forward/protocol.h"

#define FORWARD_DB_FILE    "forward.sqlite"
#define FORWARD_DB_VERSION 1

enum lane_id {
    LANE_LIVE = 0,
    LANE_BACKLOG = 1,
};

/* Where a sink stands. Delivered is every LSN from start_lsn on that is not in [live_next, ...), not in
 * [backlog_next, backlog_end) and in none of its batches. The counts are of records and make the ledger:
 *   durable + 1 - start_lsn = delivered + filtered + quarantined + expired + damaged + dropped
 *                             + records of its frozen batches of LANE_LIVE and LANE_BACKLOG (those without quarantine_id)
 *                             + (durable + 1 - live_next) + (backlog_end - backlog_next)
 * Re-queued records count in quarantined until they are delivered or dropped. */
struct sink_position {
    uint64_t start_lsn;
    uint64_t live_next;
    uint64_t backlog_next, backlog_end; /* equal: no backlog lane */
    uint64_t delivered;
    uint64_t filtered;    /* kinds the sink does not take */
    uint64_t quarantined; /* now in quarantine, re-queued ones included */
    uint64_t
        expired; /* removed by retention before they were delivered (store.unforwarded = drop) */
    uint64_t damaged; /* LSNs that nobody can read any more */
    uint64_t dropped; /* from quarantine, by an operator */
};

/* The manifest of a batch. LSNs in [first_lsn, last_lsn] that the sink does not take, or that are not in only, are not
 * of it. */
struct frozen {
    uint64_t first_lsn, last_lsn;
    enum lane_id lane;
    uint32_t records;
    uint64_t payload_bytes; /* of its records, for gauges */
    char encoding[FORWARD_ENCODING_BYTES];
    uint8_t digest[16]; /* XXH3-128 of the request body before compression */
    int64_t frozen_at_ns;
    uint32_t attempts;
    struct slice
        only; /* empty: all; else sorted u32 LE offsets from first_lsn (what is left after item verdicts).
                               Owned by who made it; forward_db copies */
    uint64_t
        quarantine_id; /* 0; else it is this quarantined record alone, from quarantine's bytes */
    char target[512];  /* file sinks */
};

enum quarantine_state {
    QUARANTINE_HELD = 0,
    QUARANTINE_REQUEUED, /* being delivered again */
};
struct quarantined {
    uint64_t id; /* from 1, never used again (in this file) */
    char sink[CONFIG_SINK_NAME_MAX + 1];
    uint64_t lsn;
    int64_t received_at_ns;
    struct record record; /* as stored; payload and meta borrowed until the next call */
    int status;           /* of the upstream's answer; 0: we could not say it to this upstream */
    char reason[FORWARD_REASON_BYTES];
    int64_t refused_at_ns;
    enum quarantine_state state;
};

struct forward_db;

enum forward_db_found {
    FORWARD_DB_GOOD = 0,
    FORWARD_DB_MADE,
    FORWARD_DB_DAMAGED, /* moved aside and made again */
};
/* path: the file, in a directory that is there. found: for the log line. */
int forward_db_open(struct forward_db **db, const char *path, struct ulid node,
                    enum forward_db_found *found, struct err *err) MUST_USE;
/* For readers and tools: -ENOENT where there is none (yet). A damaged file is ERR_CORRUPT, here or at a later call. */
int forward_db_open_read_only(struct forward_db **db, const char *path, struct err *err) MUST_USE;
/* A pass that is open is rolled back. NULL is fine. */
void forward_db_close(struct forward_db *db);

/* Between begin and commit every call below belongs to one transaction; what writes is called there only (ASSERTed), what reads also
 * outside. A failure (a negative result but -ENOENT) of any call rolls all of it back: the caller then keeps what it has in memory
 * as it was before begin. Until the pass is ended by commit or rollback every further write and commit itself return that
 * failure again; nothing of the pass is ever stored. begin is lazy: a pass that changes nothing costs nothing.
 * Callbacks (on_...) must not call the database. */
int forward_db_begin(struct forward_db *db, struct err *err) MUST_USE;
int forward_db_commit(struct forward_db *db,
                      struct err *err) MUST_USE; /* durable when it returns 0; else rolled back */
/* Nothing after a commit that failed: that has rolled back already. */
void forward_db_rollback(struct forward_db *db);

/* 1: found, 0: a new sink, position untouched. */
int forward_db_sink_get(struct forward_db *db, const char *sink, struct sink_position *position,
                        struct err *err) MUST_USE;
int forward_db_sink_put(struct forward_db *db, const char *sink,
                        const struct sink_position *position, struct err *err) MUST_USE;
/* Names that are in the file, in order; false from on_sink ends. */
int forward_db_sinks(struct forward_db *db,
                     bool (*on_sink)(void *context, const char *sink,
                                     const struct sink_position *position),
                     void *context, struct err *err) MUST_USE;

/* Replaces a batch with the same first_lsn and quarantine_id. */
int forward_db_batch_put(struct forward_db *db, const char *sink, const struct frozen *frozen,
                         struct err *err) MUST_USE;
/* By first_lsn and quarantine_id; none is fine. */
int forward_db_batch_delete(struct forward_db *db, const char *sink, const struct frozen *frozen,
                            struct err *err) MUST_USE;
/* In the order of first_lsn, then quarantine_id. frozen (and its only) is borrowed. */
int forward_db_batches(struct forward_db *db, const char *sink,
                       bool (*on_batch)(void *context, const struct frozen *frozen), void *context,
                       struct err *err) MUST_USE;

/* id of item is filled. A pass that is rolled back gives its ids back. */
int forward_db_quarantine_put(struct forward_db *db, struct quarantined *item,
                              struct err *err) MUST_USE;
/* set and delete: -ENOENT: no such item, nothing has changed and the pass goes on. */
int forward_db_quarantine_set(struct forward_db *db, uint64_t id, enum quarantine_state state,
                              int status, const char *reason, int64_t refused_at_ns,
                              struct err *err) MUST_USE;
int forward_db_quarantine_delete(struct forward_db *db, uint64_t id, struct err *err) MUST_USE;
/* 1: found, 0: none. What item borrows lasts until the next quarantine_get or close. */
int forward_db_quarantine_get(struct forward_db *db, uint64_t id, struct quarantined *item,
                              struct err *err) MUST_USE;
/* Oldest first, ids above after_id, at most limit; sink NULL: of all. Returns how many were shown. */
int forward_db_quarantine_list(struct forward_db *db, const char *sink, uint64_t after_id,
                               unsigned limit,
                               bool (*on_item)(void *context, const struct quarantined *item),
                               void *context, struct err *err) MUST_USE;
int forward_db_meta_get(struct forward_db *db, const char *key, char *text, size_t room,
                        struct err *err) MUST_USE; /* 1, 0 */
int forward_db_meta_put(struct forward_db *db, const char *key, const char *text,
                        struct err *err) MUST_USE;

#endif
