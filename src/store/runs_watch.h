/*
 * runs_watch: has somebody else written the agent-run database, or put another file under its name, since this process last looked? Asks the
 * file system only, so it costs one stat and takes no lock. It may overlook a write of the same moment as our own; the position that each
 * transaction reads first does not. Private to runs, its thread.
 */
#ifndef STORE_RUNS_WATCH_H
#define STORE_RUNS_WATCH_H

#include "core/base.h"

struct runs_watch {
    uint64_t device; /* of the file that is open */
    uint64_t inode;
    uint64_t bytes; /* as this process left it */
    int64_t changed_ns;
};

enum runs_watched {
    RUNS_FILE_SAME = 0,
    RUNS_FILE_WRITTEN,
    RUNS_FILE_MOVED, /* the name is gone, or another file's */
};

/* Just opened. */
void runs_watch_open(struct runs_watch *watch, const char *path);
/* As it is now it is known. */
void runs_watch_keep(struct runs_watch *watch, const char *path);
enum runs_watched runs_watch_look(const struct runs_watch *watch, const char *path);

#endif
