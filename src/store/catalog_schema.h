/*
 * catalog_schema: the catalog's database file: opened, judged, migrated, or made again. Private to the
 * catalog; start-up only, blocking.
 */
#ifndef STORE_CATALOG_SCHEMA_H
#define STORE_CATALOG_SCHEMA_H

#include "store/catalog.h"

struct sqlite3;

/* Opens DIR/catalog.sqlite for writing. A file that is no database, fails quick_check or names another
 * node is moved to catalog.sqlite.damaged (replacing an older one) and made again. ERR_VERSION: newer
 * than CATALOG_VERSION, nothing is touched. */
int catalog_schema_open(struct sqlite3 **db, const struct catalog_options *options,
                        enum catalog_found *found, struct err *err) MUST_USE;
/* The text form of a SQLite failure: what was done, SQLite's own words. Returns -EIO (-ENOSPC when the disk
 * is full, ERR_CORRUPT when the file is damaged). */
int catalog_sql_error(struct sqlite3 *db, int code, const char *doing, struct err *err);
/* Runs statements without results. */
int catalog_sql_run(struct sqlite3 *db, const char *sql, struct err *err) MUST_USE;
/* A value of meta into text (room bytes, cut). 1: found, 0: none, negative: failed. */
int catalog_meta_get(struct sqlite3 *db, const char *key, char *text, size_t room,
                     struct err *err) MUST_USE;
int catalog_meta_put(struct sqlite3 *db, const char *key, const char *text,
                     struct err *err) MUST_USE;

#endif
