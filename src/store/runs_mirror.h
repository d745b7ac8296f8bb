/*
 * runs_mirror: applied commands as lines of NDJSON in a directory, one file a UTC day (events_{YYYYMMDD}.ndjson): the second copy of the
 * dual write; the log is the first. Private to runs, its thread.
 *
 * A created run is the object as the client sent it (line breaks between its tokens become spaces). What changes a run says what it
 * is: {"command":"update","event_id":...,"lsn":n,"time":"...","body":{as sent}}; associate, event likewise.
 *
 * Exactly once: lines are written and synced, then the file's length is stored in the database by the transaction that applies the
 * commands (sluice_meta, key "mirror:" + file name). Before the first line in a file its length then is stored on its own. So what a crash left
 * beyond a stored length was not applied, is cut when it is opened, and comes again. The directory is ours alone: what
 * others put behind our lines stays only while we run.
 *
 * A pass writes one file: commands of another day end it. A mirror that cannot be written fails the pass (rolled back, tried again).
 */
#ifndef STORE_RUNS_MIRROR_H
#define STORE_RUNS_MIRROR_H

#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"

struct sqlite3;
struct runs_mirror;

/* Makes dir when it is missing (not its parents); cuts tails. warning: text is added. */
int runs_mirror_open(struct runs_mirror **mirror, const char *dir, struct sqlite3 *db,
                     struct buf *warning, struct err *err) MUST_USE;
void runs_mirror_close(struct runs_mirror *mirror);

/* Days since 1970 in UTC. Pure. */
int64_t runs_mirror_day(int64_t time_ns);
/* A pass of that day. Outside of a transaction (it may need one of its own). */
int runs_mirror_begin(struct runs_mirror *mirror, int64_t day, struct err *err) MUST_USE;

struct runs_mirror_line {
    const char *command; /* NULL: a created run */
    struct slice event_id;
    uint64_t lsn;
    int64_t time_ns;
    struct slice body;
};
int runs_mirror_put(struct runs_mirror *mirror, const struct runs_mirror_line *line,
                    struct err *err) MUST_USE;
/* Inside the transaction, before its commit: syncs the lines and stores the length. */
int runs_mirror_sync(struct runs_mirror *mirror, struct err *err) MUST_USE;
/* After the commit, or after the rollback (cuts what was written). */
void runs_mirror_keep(struct runs_mirror *mirror);
/* Before undo, where the commit failed in a way that may mean it happened: the lines stay until the next begin, which cuts what the database
 * does not know. */
void runs_mirror_doubt(struct runs_mirror *mirror);
void runs_mirror_undo(struct runs_mirror *mirror);

#endif
