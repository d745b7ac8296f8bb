/*
 * runs_outcomes: what became of commands with an Idempotency-Key, so that a repeat gets the first answer again, also from a database
 * that was made anew. A table of ours, sluice_run_outcomes, written by the transaction that applies the command.
 *
 * A command is keyed when it belongs to a request whose first record has a receipt (format.h); a batch's receipt says how many records
 * follow. The table has a row for a keyed command unless it simply succeeded (created, updated, associated, event added): that follows
 * from the row's absence. A row goes when the key has been forgotten (its time plus the TTL), a few with each command that is applied;
 * times are those of records, so the table is a function of the log, as the rows beside it are.
 *
 * A crash between the records of one batch: sluice_meta (keyed_lsn) says how far it goes, where a transaction ended inside one.
 *
 * The writer's part is private to runs, its thread; the reader's is for whoever has a reader (runs_read.h).
 */
#ifndef STORE_RUNS_OUTCOMES_H
#define STORE_RUNS_OUTCOMES_H

#include "store/runs.h"
#include "store/runs_read.h"

struct sqlite3;
struct runs_outcomes;

/* ---- the writer ---- */

/* At a start: the table, where it is not there. */
int runs_outcomes_make(struct sqlite3 *db, struct err *err) MUST_USE;
/* LSNs behind applied_lsn will be other commands' than they were. Inside a transaction. */
int runs_outcomes_forget(struct sqlite3 *db, uint64_t applied_lsn, struct err *err) MUST_USE;

int runs_outcomes_open(struct runs_outcomes **outcomes, struct sqlite3 *db, uint64_t ttl_ns,
                       struct err *err) MUST_USE;
void runs_outcomes_close(struct runs_outcomes *outcomes); /* may be NULL */

struct runs_told {
    uint64_t lsn;
    int64_t time_ns;
    enum runs_outcome outcome;
    struct slice text; /* why (RUNS_REFUSED) */
    struct slice meta; /* of its record */
};
/* Every command, in the order of the log, inside the transaction that applies it. */
int runs_outcomes_note(struct runs_outcomes *outcomes, const struct runs_told *told,
                       struct err *err) MUST_USE;
/* Before the commit, which will have applied everything up to that LSN. */
int runs_outcomes_keep(struct runs_outcomes *outcomes, uint64_t applied_lsn,
                       struct err *err) MUST_USE;
/* After a rollback. */
void runs_outcomes_undo(struct runs_outcomes *outcomes);

/* ---- a reader; failures as in runs_read.h ---- */

/* What became of the keyed commands of these LSNs: take is called with each, in order, that did not simply succeed; a
 * text lives until it returns. 1; 0: not all of them are applied yet. */
struct runs_outcome_range {
    uint64_t first_lsn;
    uint64_t last_lsn;
};
typedef void (*runs_on_outcome)(void *context, uint64_t lsn, enum runs_outcome outcome,
                                struct slice text);
int runs_outcomes(struct runs_reader *reader, const struct runs_outcome_range *range,
                  runs_on_outcome take, void *context, struct err *err) MUST_USE;
/* 1: put the run's run_id, whole, in one piece; 0: no such run. */
int runs_run_id(struct runs_reader *reader, struct slice event_id, runs_put put, void *context,
                struct err *err) MUST_USE;

#endif
