/*
 * runs_verify: is the agent-run database what it promises to be? For `sluice verify`: its PRAGMAs, SQLite's integrity_check, the
 * schema, and its position in the log. Changes nothing (but see sqlite_file_open). Blocking, main thread; a server may write it
 * meanwhile: what is checked is a copy (sqlite_copy.h). Where there is no room for one, or the directory may not be written, the file
 * itself is checked under a read lock, which the server's next commit waits for; faults->on_note says so.
 */
#ifndef STORE_RUNS_VERIFY_H
#define STORE_RUNS_VERIFY_H

#include "core/err.h"
#include "core/ulid.h"
#include "store/sqlite_file.h"

struct runs_verified {
    bool is_there;
    int64_t version; /* of the schema */
    int64_t runs;
    int64_t events;
    bool has_position; /* false: a file that no Sluice has opened yet, or of another node */
    uint64_t applied_lsn;
};

/* Reads the position: before the log is read, so that a server that goes on writing makes no difference. Then the rest. node: of the
 * data directory, as text. A file that is not there is no fault: verified->is_there. */
int runs_verify(struct runs_verified *verified, const char *path, const char *node,
                const struct sqlite_faults *faults, struct err *err) MUST_USE;
/* How far into the log of that node a database that nobody serves has come; 0: not at all, it is not there or cannot be read. */
uint64_t runs_seen(const char *path, const struct ulid *node);
/* Against the log as it was read afterwards. */
void runs_verify_position(const struct runs_verified *verified, uint64_t last_lsn,
                          const struct sqlite_faults *faults);

#endif
