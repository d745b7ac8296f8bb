/*
 * runs_lock: who may write the agent-run database: a file beside it with two lines, PID and host name, on which
 * the holder keeps a flock for its life. The lock is the flock; the lines are for people. A file that a dead process left is taken
 * over, because its flock died with it. Start-up only, blocking.
 */
#ifndef STORE_RUNS_LOCK_H
#define STORE_RUNS_LOCK_H

#include "core/base.h"
#include "core/err.h"

#define RUNS_LOCK_NAME "telemetry_api.lock"

struct runs_lock {
    int fd; /* -1: not held */
    char path[4096];
};

/* ERR_LIMIT: held; the text names the holder. */
int runs_lock_take(struct runs_lock *lock, const char *path, struct err *err) MUST_USE;
/* Removes the file. Does nothing when not held. */
void runs_lock_give(struct runs_lock *lock);

#endif
