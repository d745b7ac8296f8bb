/*
 * runs: the agent-run database, runs.db (default DIR/runs.sqlite): a public interface (api.md §2.1, schema v6) that people open with tools
 * of their own while the server runs. SQLite, journal_mode DELETE, synchronous FULL. One writer: this agent (ROLE_RUNS), guarded
 * by a lock file; readers are anybody.
 *
 * Commands are in the log before they are here (design.md §6). The agent reads the log (records of kind run) from applied_lsn + 1 on
 * and applies what is durable, in order, many commands in one transaction, applied_lsn (table sluice_meta) in the same one: exactly
 * once. The time of a command is its record's event_time_ns, so that a rebuilt database equals the old one. What became of each command goes to
 * all shards through their rings, after the commit; the one that waits for that LSN answers.
 *
 * The command's meta (META_RUN) says which command it is and for which event_id.
 *
 * An outside reader that holds its lock longer than the busy time-out: the transaction is tried again, forever; what waits is not
 * lost, it is durable in the log; requests wait, then are answered 503 with Retry-After (the command will still be applied); a metric and a
 * log line tell who is stuck since when.
 *
 * The NDJSON mirror (runs.ndjson_dir, off by default): each applied command as one line in events_{YYYYMMDD}.ndjson (UTC day of its
 * time), written and synced before the commit; the position is in the same transaction, so a crash leaves no line twice (the tail is cut at
 * start).
 */
#ifndef STORE_RUNS_H
#define STORE_RUNS_H

#include "core/agent.h"
#include "core/park.h"
#include "core/spsc.h"
#include "store/scan.h"

#include <stdatomic.h>

#define RUNS_SCHEMA_VERSION 6
#define RUNS_SHARDS_MAX     64

/* ---- what a command became ---- */
enum runs_outcome {
    RUNS_CREATED = 1,
    RUNS_DUPLICATE, /* of an event_id that was there: nothing overwritten */
    RUNS_UPDATED,
    RUNS_ASSOCIATED,
    RUNS_EVENT_ADDED,
    RUNS_NOT_FOUND,
    RUNS_NOTHING, /* an UPDATE without fields, of a run that exists */
    RUNS_REFUSED, /* SQLite said no (a constraint): text says which */
};
/* Frame of a result ring: one command. text: run_id (ASSOCIATED), reason (REFUSED). */
struct runs_result {
    uint64_t lsn;
    uint32_t outcome;
    uint32_t text_bytes;
    uint8_t text[];
};
#define RUNS_RESULT_TEXT_MAX 512u

struct runs;

struct runs_options {
    const char *path;       /* runs.db */
    const char *lock_path;  /* beside it: "<dir>/telemetry_api.lock" unless configured */
    const char *ndjson_dir; /* "": no mirror */
    struct scan_source source;
    uint64_t first_lsn,
        last_lsn; /* of the log at start: applied_lsn beyond last_lsn is a witness of loss; reported */
    struct ulid node;
    struct park *
        park; /* its own: woken by shards that wait, and STORE_TELL_DURABLE only while somebody waits */
    unsigned shard_count;
    struct park **shard_parks;
    uint64_t busy_timeout_ns; /* 5s */
};

enum runs_found {
    RUNS_GOOD = 0,
    RUNS_MADE,
    RUNS_MIGRATED, /* from version `from`, after a copy to PATH.vN.backup */
};
struct runs_opened {
    enum runs_found found;
    int from_version;
    char warning[512]; /* journal_mode found other than DELETE, witness of loss, ...; "": none */
};

/* Lock (two lines PID and host name; flock for the process's life; ERR_LIMIT names the holder), open, migrate v1..v6 step by step, each in
 * a transaction; ERR_VERSION: newer than 6, nothing touched. Does not apply yet. */
int runs_open(struct runs **runs, const struct runs_options *options, struct runs_opened *opened,
              struct err *err) MUST_USE;
/* Applies what the log holds beyond applied_lsn, at start, with progress (may be NULL). */
int runs_catch_up(struct runs *runs,
                  void (*progress)(void *context, uint64_t lsn, uint64_t last_lsn), void *context,
                  struct err *err) MUST_USE;
int runs_duty(void *runs);
void runs_stop(struct runs *runs); /* any thread: applies what is durable, then duty returns 1 */
void runs_close(struct runs *runs);

/* ---- shard's side ---- */
/* Results of commands, each shard its own end. Consume after the acks of the writer: a result is published after its record was
 * acknowledged durable (edges W1, R1). */
struct spsc *runs_results(struct runs *runs, unsigned shard_index);
/* A shard waits for results: the agent looks at once. */
void runs_wake(struct runs *runs);

struct runs_status {
    _Atomic uint64_t applied_lsn;
    _Atomic uint64_t commands, transactions, created, duplicates, updated, not_found,
        refused;                    /* since start */
    _Atomic uint64_t busy_since_ns; /* monotonic; 0: nobody blocks the writer */
    _Atomic uint64_t busy_count;
    _Atomic uint64_t errors;
    _Atomic int64_t total_runs;
    _Atomic uint64_t heartbeat_ns;
};
const struct runs_status *runs_status(const struct runs *runs);

/* META_RUN: u8 command, u8 zero, event_id. */
size_t meta_run_bytes(struct slice event_id);
size_t meta_run_encode(uint8_t *to, uint8_t command, struct slice event_id);
int meta_find_run(uint8_t *command, struct slice *event_id, struct slice meta) MUST_USE;

#endif
