/*
 * catalog_schema: see catalog_schema.h. Migrations are steps from one user_version to the next, each in
 * one transaction with the number it leads to; the file is a view of the log, so a step that fails is
 * answered by making the file again.
 */
#include "store/catalog_schema.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    PATH_ROOM = 4096,
    BUSY_MS = 2000, /* people look into the file with their own tools */
};

/* steps[v] leads from user_version v to v + 1. */
static const char *const steps[CATALOG_VERSION] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE segments("
    " id INTEGER PRIMARY KEY, state TEXT NOT NULL, file TEXT NOT NULL,"
    " stored_bytes INTEGER NOT NULL, raw_bytes INTEGER, payload_bytes INTEGER,"
    " first_lsn INTEGER NOT NULL, last_lsn INTEGER, records INTEGER, kinds TEXT,"
    " time_min TEXT, time_max TEXT, received_min TEXT, received_max TEXT,"
    " damaged INTEGER NOT NULL DEFAULT 0, changed_at TEXT NOT NULL);"
    "CREATE INDEX segments_first_lsn ON segments(first_lsn);"
    "CREATE TABLE cursors(name TEXT PRIMARY KEY, lsn INTEGER NOT NULL, updated_at TEXT NOT NULL) "
    "WITHOUT ROWID;",
};

int catalog_sql_error(struct sqlite3 *db, int code, const char *doing, struct err *err)
{
    const char *text = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code);
    switch (code & 0xff) {
    case SQLITE_ERROR: /* our statements are fixed: what cannot be said of the file is not its schema */
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ERR_CORRUPT, "%s: %s", doing, text);
    case SQLITE_FULL:
        return err_set(err, -ENOSPC, "%s: %s", doing, text);
    default:
        return err_set(err, -EIO, "%s: %s (SQLite code %d)", doing, text, code);
    }
}

int catalog_sql_run(struct sqlite3 *db, const char *sql, struct err *err)
{
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : catalog_sql_error(db, code, sql, err);
}

/* A statement with at most one row and one text column. 1, 0, or an error. */
static int read_text(struct sqlite3 *db, const char *sql, const char *bound, char *text,
                     size_t room, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK && bound != NULL) {
        code = sqlite3_bind_text(statement, 1, bound, -1, SQLITE_STATIC);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    int result = 0;
    if (code == SQLITE_ROW) {
        const unsigned char *value = sqlite3_column_text(statement, 0);
        (void)snprintf(text, room, "%s", value != NULL ? (const char *)value : "");
        result = 1;
    } else if (code != SQLITE_DONE) {
        result = catalog_sql_error(db, code, sql, err);
    }
    sqlite3_finalize(statement);
    return result;
}

int catalog_meta_get(struct sqlite3 *db, const char *key, char *text, size_t room, struct err *err)
{
    return read_text(db, "SELECT value FROM meta WHERE key = ?1", key, text, room, err);
}

int catalog_meta_put(struct sqlite3 *db, const char *key, const char *text, struct err *err)
{
    static const char sql[] = "INSERT INTO meta(key, value) VALUES(?1, ?2) "
                              "ON CONFLICT(key) DO UPDATE SET value = excluded.value";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    int result = code == SQLITE_DONE ? 0 : catalog_sql_error(db, code, "write meta", err);
    sqlite3_finalize(statement);
    return result;
}

static int migrate(struct sqlite3 *db, int version, struct err *err)
{
    for (int v = version; v < CATALOG_VERSION; v++) {
        char end[64];
        (void)snprintf(end, sizeof end, "PRAGMA user_version = %d; COMMIT", v + 1);
        int r = catalog_sql_run(db, "BEGIN IMMEDIATE", err);
        r = r == 0 ? catalog_sql_run(db, steps[v], err) : r;
        r = r == 0 ? catalog_sql_run(db, end, err) : r;
        if (r < 0) {
            (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return err_wrap(err, r, "catalog: version %d to %d", v, v + 1);
        }
    }
    return 0;
}

static int read_version(struct sqlite3 *db, int *version, struct err *err)
{
    char text[32] = "";
    int r = read_text(db, "PRAGMA user_version", NULL, text, sizeof text, err);
    *version = r == 1 ? (int)strtol(text, NULL, 10) : 0;
    return r < 0 ? r : 0;
}

static int check_pages(struct sqlite3 *db, struct err *err)
{
    char text[256] = "";
    int r = read_text(db, "PRAGMA quick_check(1)", NULL, text, sizeof text, err);
    if (r < 0) {
        return r;
    }
    return strcmp(text, "ok") == 0 ? 0 : err_set(err, ERR_CORRUPT, "quick_check: %s", text);
}

static int check_node(struct sqlite3 *db, const struct catalog_options *options, struct err *err)
{
    char text[256] = "";
    char node[ULID_TEXT_BYTES + 1] = "";
    ulid_format(node, &options->node);
    int r = catalog_meta_get(db, "node", text, sizeof text, err);
    if (r == 1 && strcmp(text, node) != 0) {
        return err_set(err, ERR_CORRUPT, "it belongs to node %s, this is %s", text, node);
    }
    return r < 0 ? r : r == 1 ? 0 : catalog_meta_put(db, "node", node, err);
}

/* Migrates and judges an open file. */
static int settle(struct sqlite3 *db, const struct catalog_options *options,
                  enum catalog_found *found, struct err *err)
{
    int version = 0;
    (void)sqlite3_busy_timeout(db, BUSY_MS);
    int r = read_version(db, &version, err);
    r = r == 0 ? check_pages(db, err) : r; /* first: damage may look like any version */
    if (r == 0 && version > CATALOG_VERSION) {
        return err_set(
            err, ERR_VERSION,
            "%s was made by a newer Sluice (version %d, this one knows %d): run that one, or "
            "delete the file, which is made again from the log",
            CATALOG_FILE, version, CATALOG_VERSION);
    }
    r = r == 0 ? catalog_sql_run(db, "PRAGMA journal_mode = WAL", err) : r;
    r = r == 0 ? catalog_sql_run(db, "PRAGMA synchronous = NORMAL", err) : r;
    r = r == 0 ? migrate(db, version, err) : r;
    r = r == 0 ? check_node(db, options, err) : r;
    if (r == 0 && version < CATALOG_VERSION) {
        *found = version == 0 ? CATALOG_MADE : CATALOG_MIGRATED;
    }
    return r;
}

static int open_once(struct sqlite3 **db, const char *path, const struct catalog_options *options,
                     enum catalog_found *found, struct err *err)
{
    int code = sqlite3_open_v2(path, db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_EXRESCODE,
                               NULL);
    int r = code == SQLITE_OK ? settle(*db, options, found, err)
                              : catalog_sql_error(*db, code, "open", err);
    if (r < 0) {
        (void)sqlite3_close(*db);
        *db = NULL;
    }
    return r;
}

/* The damaged file stays beside the new one, for whoever wants to look. What stands beside it goes first: a new
 * file must never meet an old one's journal. */
static int set_aside(const char *path, struct err *err)
{
    char aside[PATH_ROOM];
    char side[PATH_ROOM];
    int n = snprintf(aside, sizeof aside, "%s.damaged", path);
    if (n < 0 || (size_t)n >= sizeof aside) {
        return err_set(err, -ENAMETOOLONG, "%s", path);
    }
    static const char *const sides[] = {"-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_COUNT(sides); i++) {
        n = snprintf(side, sizeof side, "%s%s", path, sides[i]);
        if (n > 0 && (size_t)n < sizeof side && remove(side) < 0 && errno != ENOENT) {
            int result = -errno;
            return err_set(err, result, "remove %s: %s", side, err_name(result));
        }
    }
    if (rename(path, aside) < 0 && errno != ENOENT) {
        int result = -errno;
        return err_set(err, result, "move %s to %s: %s", path, aside, err_name(result));
    }
    return 0;
}

int catalog_schema_open(struct sqlite3 **db, const struct catalog_options *options,
                        enum catalog_found *found, struct err *err)
{
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%s/%s", options->data_dir, CATALOG_FILE);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s", options->data_dir);
    }
    *found = CATALOG_GOOD;
    int r = open_once(db, path, options, found, err);
    if (r != ERR_CORRUPT) {
        return r < 0 ? err_wrap(err, r, "%s", path) : 0;
    }
    r = set_aside(path, err);
    r = r == 0 ? open_once(db, path, options, found, err) : r;
    if (r < 0) {
        return err_wrap(err, r, "make %s again", path);
    }
    *found = CATALOG_REBUILT;
    return 0;
}
