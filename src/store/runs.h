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
 * The command's meta (META_RUN, format.h) says which command it is and for which event_id. What became of a command with an Idempotency-Key
 * is kept for its repeats (runs_outcomes.h).
 *
 * An outside reader that holds its lock longer than the busy time-out: the transaction is tried again, forever; what waits is not
 * lost, it is durable in the log; requests wait, then are answered 503 with Retry-After (the command will still be applied); a metric and a
 * log line tell who is stuck since when.
 *
 * The NDJSON mirror (runs.ndjson_dir, off by default; runs_mirror.h): each command that changed something as one line in
 * events_{YYYYMMDD}.ndjson (UTC day of its time), written and synced before the commit; the position is in the same database, so a crash leaves
 * no line twice (the tail is cut at start).
 *
 * The store does not know JSON: what a command says is read by a function that the composition passes (model/run.h's reading).
 *
 * Other tools may write the file too, and do: a transaction begins by reading applied_lsn, and where it is not what this agent left there (a
 * copy put over the file; a commit that said it failed and had not) the log is applied from what the file says.
 *
 * What goes wrong while it runs: a full or failing disk: rolled back, said once, tried again after a second; a damaged database: applying
 * stops until the next start, status->fault says so; a file that was moved, replaced or deleted: nothing is written or read until it is back or
 * the server starts anew. The log is not affected, so nothing is lost.
 */
#ifndef STORE_RUNS_H
#define STORE_RUNS_H

#include "core/agent.h"
#include "core/park.h"
#include "core/spsc.h"
#include "core/ulid.h"
#include "store/format.h"
#include "store/scan.h"

#include <stdatomic.h>

#define RUNS_SCHEMA_VERSION 6
#define RUNS_SHARDS_MAX     64

/* ---- what a command says ---- */
enum runs_command {
    RUNS_COMMAND_CREATE = 1,
    RUNS_COMMAND_UPDATE,
    RUNS_COMMAND_ASSOCIATE,
    RUNS_COMMAND_EVENT,
};
/* The numbers of enum run_type, and values in the order of enum run_field (model/run.h): the composition copies one to the other and
 * asserts it. */
enum runs_type {
    RUNS_ABSENT = 0, /* not said */
    RUNS_NULL,       /* CREATE: as absent. UPDATE: the column becomes NULL (an empty JSON object) */
    RUNS_TEXT,
    RUNS_INTEGER,
    RUNS_JSON, /* text */
};
struct runs_value {
    enum runs_type type;
    int64_t integer;
    struct slice text;
};
#define RUNS_COLUMNS 47 /* of agent_runs, in their order from 0; then: */
enum {
    RUNS_FIELD_COMMIT_HASH = RUNS_COLUMNS, /* ASSOCIATE */
    RUNS_FIELD_COMMIT_SOURCE,
    RUNS_FIELD_COMMIT_AUTHOR,
    RUNS_FIELD_COMMIT_TIMESTAMP,
    RUNS_FIELD_EVENT_TYPE, /* EVENT */
    RUNS_FIELD_EVENT_TIMESTAMP,
    RUNS_FIELD_EVENT_PAYLOAD,
    RUNS_FIELD_COUNT,
};
struct runs_fields {
    struct runs_value values[RUNS_FIELD_COUNT];
};
/* Fills all fields from a command's payload. scratch has payload.bytes bytes; fields borrow from both. What an UPDATE leaves alone (null too) is
 * RUNS_ABSENT. Negative with a text: this cannot be a command (which the shard never lets into the log). */
typedef int (*runs_read_fn)(void *context, struct runs_fields *fields, enum runs_command command,
                            struct slice payload, uint8_t *scratch, struct err *err);

/* ---- what a command became ---- */
enum runs_outcome {
    RUNS_CREATED = 1,
    RUNS_DUPLICATE, /* of an event_id that was there: nothing overwritten */
    RUNS_UPDATED,
    RUNS_ASSOCIATED,
    RUNS_EVENT_ADDED,
    RUNS_NOT_FOUND, /* no such event_id */
    RUNS_NOTHING,   /* an UPDATE without fields, of a run that exists */
    RUNS_REFUSED,   /* SQLite said no (a constraint): text says which */
};
#define RUNS_RESULT_FRAME 1u /* spsc_frame.type */
/* Frame of a result ring: one command. text: run_id (ASSOCIATED), reason (REFUSED). */
struct runs_result {
    uint64_t lsn;
    uint16_t outcome;
    uint16_t is_cut; /* there is more of text: ask the database (runs_run_id) */
    uint32_t text_bytes;
    uint8_t text[];
};
#define RUNS_RESULT_TEXT_MAX 512u

struct runs;

struct runs_options {
    const char *path;       /* runs.db */
    const char *lock_path;  /* beside it: "<dir>/telemetry_api.lock" unless configured */
    const char *ndjson_dir; /* "": no mirror; a directory of its own, made when there is none */
    struct scan_source source;
    const _Atomic uint64_t
        *run_lsn; /* of struct store_status: the log is not read for nothing; NULL: not known */
    uint64_t
        first_lsn; /* of the log at start; a file that has not seen what expired before it is told of */
    uint64_t
        last_lsn; /* applied_lsn beyond it is a witness of loss (runs_seen, lineage.h): it is set back */
    struct ulid node;
    struct park *park;    /* its own; see runs_wake */
    unsigned shard_count; /* 0: no results (tools) */
    struct park **shard_parks;
    uint64_t
        busy_timeout_ns; /* 5s; how long a commit waits for outside readers before it lets others read and tries again */
    uint64_t dedup_ttl_ns; /* how long a repeat of a keyed command may come (runs_outcomes.h) */
    runs_read_fn read;
    void *read_context;
};

enum runs_found {
    RUNS_GOOD = 0,
    RUNS_MADE,
    RUNS_MIGRATED, /* from version `from`, after a copy to PATH.vN.backup */
};
struct runs_opened {
    enum runs_found found;
    int from_version;
    char warning[768]; /* journal_mode found other than DELETE, another node's, ...; "": none */
};

/* Lock (two lines PID and host name; flock for the process's life; ERR_LIMIT names the holder), open, migrate v1..v6 step by step, each in
 * a transaction. ERR_VERSION: newer than 6; ERR_CORRUPT: no database, or damaged: nothing is touched, because it may hold what the log does not
 * (from before Sluice). A file of another node, or one that is ahead of the log, is kept: its applied_lsn is set back and a warning says
 * so. Does not apply yet. */
int runs_open(struct runs **runs, const struct runs_options *options, struct runs_opened *opened,
              struct err *err) MUST_USE;
/* Applies what the log holds beyond applied_lsn, at start, with progress (may be NULL); no results are sent. -EBUSY, -ENOSPC, -EIO ...: not
 * now; serve all the same, the agent goes on trying. ERR_CORRUPT: RUNS_DAMAGED. */
int runs_catch_up(struct runs *runs,
                  void (*progress)(void *context, uint64_t lsn, uint64_t last_lsn), void *context,
                  struct err *err) MUST_USE;
int runs_duty(void *runs);
/* Any thread, after the writer has finished: applies what is durable, then duty returns 1. */
void runs_stop(struct runs *runs);
void runs_close(struct runs *runs);

/* ---- shard's side ---- */
/* Results of commands, each shard its own end. Consume after the acks of the writer: a result is published after its record was
 * acknowledged durable (edges W1, R1). */
struct spsc *runs_results(struct runs *runs, unsigned shard_index);
/* Any thread. More commands are durable: the agent looks at once. A shard calls it when an ack of the writer covers commands of its own (once
 * per pass is enough); nobody need subscribe the agent to the store. What comes without it is found within a quarter of a second. */
void runs_wake(struct runs *runs);

enum runs_fault {
    RUNS_FINE = 0,
    RUNS_BLOCKED, /* somebody holds the database for longer than the busy time-out */
    RUNS_FAILING, /* it cannot be written: full or failing disk; tried again */
    RUNS_DAMAGED, /* applying has stopped until the next start */
    RUNS_MOVED, /* its name is another file's by now, or nobody's: what is read and written here is not what others see */
};
struct runs_status {
    _Atomic uint64_t
        applied_lsn; /* everything up to it is applied or no command; retention may not pass it */
    _Atomic uint64_t commands, transactions, created, duplicates, updated, not_found,
        refused;                    /* since start */
    _Atomic uint64_t passed_over;   /* run records that are no commands here (of another node) */
    _Atomic uint64_t results_lost;  /* a shard did not take them for a second */
    _Atomic uint64_t busy_since_ns; /* monotonic; 0: nobody blocks the writer */
    _Atomic uint64_t busy_count;
    _Atomic uint64_t errors;
    _Atomic int fault; /* enum runs_fault: for /healthcheck */
    _Atomic int64_t total_runs;
    _Atomic uint64_t heartbeat_ns;
};
const struct runs_status *runs_status(const struct runs *runs);
/* For people: NULL for RUNS_FINE. */
const char *runs_fault_text(enum runs_fault fault);

#endif
