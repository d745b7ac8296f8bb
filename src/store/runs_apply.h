/*
 * runs_apply: commands become rows: the prepared statements of the one writing connection. Private to runs, its thread.
 *
 * A pass is begin, any number of commands, commit; or rollback. What SQLite refuses of one command (a constraint) costs that command
 * only, unless it has ended the transaction (a trigger's RAISE(ROLLBACK)), which is_begun tells; every other failure means that the pass must
 * be rolled back.
 */
#ifndef STORE_RUNS_APPLY_H
#define STORE_RUNS_APPLY_H

#include "core/buf.h"
#include "store/runs.h"

struct sqlite3;
struct runs_apply;

int runs_apply_open(struct runs_apply **apply, struct sqlite3 *db, struct err *err) MUST_USE;
void runs_apply_close(struct runs_apply *apply);

int runs_apply_begin(struct runs_apply *apply, struct err *err) MUST_USE;
/* After begin: the position that the file says. ERR_CORRUPT: it says none, or that of another node: this is not the file that was opened. */
int runs_apply_position(struct runs_apply *apply, const struct ulid *node, uint64_t *applied_lsn,
                        struct err *err) MUST_USE;
/* Stores the position, then commits. */
int runs_apply_commit(struct runs_apply *apply, uint64_t applied_lsn, struct err *err) MUST_USE;
void runs_apply_rollback(struct runs_apply *apply);
bool runs_apply_is_begun(const struct runs_apply *apply);

struct runs_order {
    enum runs_command command;
    struct slice event_id; /* of CREATE: in the fields */
    int64_t time_ns;
    const struct runs_fields *fields;
};
/* text: run_id (RUNS_ASSOCIATED) or why (RUNS_REFUSED), cut. Negative: roll back. */
int runs_apply_order(struct runs_apply *apply, const struct runs_order *order,
                     enum runs_outcome *outcome, struct buf *text, struct err *err) MUST_USE;

#endif
