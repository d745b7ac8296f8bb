/*
 * runs_schema: the agent-run database's file: opened, judged, brought from any version to the newest, and what of it says
 * how far the log was applied. Private to runs; start-up (main), later the runs agent's connection. Blocking.
 *
 * The file may hold what no log holds (from before Sluice), so nothing is ever made again or moved away here: what cannot be
 * used is refused with a text, untouched. Before a migration the file is copied to PATH.vN.backup (.vN.backup.2 ... where there is one).
 */
#ifndef STORE_RUNS_SCHEMA_H
#define STORE_RUNS_SCHEMA_H

#include "core/buf.h"
#include "store/runs.h"

struct sqlite3;

/* Opens for writing with journal_mode DELETE and synchronous FULL, makes or migrates the tables. warning: text is added. */
int runs_schema_open(struct sqlite3 **db, const char *path, struct runs_opened *opened,
                     struct buf *warning, struct err *err) MUST_USE;
/* The text form of a SQLite failure: what was done, SQLite's own words. -EBUSY: somebody holds a lock; -ENOSPC; ERR_CORRUPT: damaged, or not
 * what it should be; else -EIO. */
int runs_sql_error(struct sqlite3 *db, int code, const char *doing, struct err *err);
/* Statements without results. */
int runs_sql_run(struct sqlite3 *db, const char *sql, struct err *err) MUST_USE;
/* Of sluice_meta. get: 1 found (cut to room), 0 none. */
int runs_meta_get(struct sqlite3 *db, const char *key, char *text, size_t room,
                  struct err *err) MUST_USE;
int runs_meta_put(struct sqlite3 *db, const char *key, const char *text, struct err *err) MUST_USE;
/* The number in meta; 0 where there is none. ERR_CORRUPT: no number. */
int runs_meta_get_u64(struct sqlite3 *db, const char *key, uint64_t *value,
                      struct err *err) MUST_USE;
int runs_meta_put_u64(struct sqlite3 *db, const char *key, uint64_t value,
                      struct err *err) MUST_USE;
/* A statement with one row and one number. */
int runs_sql_number(struct sqlite3 *db, const char *sql, int64_t *value, struct err *err) MUST_USE;

#endif
