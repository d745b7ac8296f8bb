/*
 * forward_db_schema: the forwarder's database file: opened, judged, migrated, moved aside, made again. Private to
 * forward_db; blocking, for start-up and tools.
 */
#ifndef FORWARD_FORWARD_DB_SCHEMA_H
#define FORWARD_FORWARD_DB_SCHEMA_H

#include "forward/forward_db.h"

struct sqlite3;

/* Opens for writing as forward_db_open says. */
int forward_db_schema_open(struct sqlite3 **sql, const char *path, const struct ulid *node,
                           enum forward_db_found *found, struct err *err) MUST_USE;
int forward_db_schema_open_read_only(struct sqlite3 **sql, const char *path,
                                     struct err *err) MUST_USE;
/* The text form of a SQLite failure: what was done, SQLite's own words. Returns our code (forward_db.h). */
int forward_db_schema_error(struct sqlite3 *sql, int code, const char *doing, struct err *err);

#endif
