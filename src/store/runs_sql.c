/*
 * runs_sql: the small talk with SQLite of runs_schema.h: failures as text, statements without results, the meta table.
 */
#include "store/runs_schema.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int runs_sql_error(struct sqlite3 *db, int code, const char *doing, struct err *err)
{
    const char *text = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code);
    if (code == SQLITE_READONLY_DBMOVED) {
        return err_set(err, -ESTALE, "%s: its file was moved, replaced or deleted", doing);
    }
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, -EBUSY, "%s: %s", doing, text);
    case SQLITE_FULL:
        return err_set(err, -ENOSPC, "%s: %s", doing, text);
    case SQLITE_ERROR: /* our statements are fixed: what cannot be said of the file is not its schema */
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
        return err_set(err, ERR_CORRUPT, "%s: %s", doing, text);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return err_set(err, -EACCES, "%s: %s (the database and its directory must be writable)",
                       doing, text);
    default:
        return err_set(err, -EIO, "%s: %s (SQLite code %d)", doing, text, code);
    }
}

int runs_sql_run(struct sqlite3 *db, const char *sql, struct err *err)
{
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : runs_sql_error(db, code, sql, err);
}

int runs_sql_number(struct sqlite3 *db, const char *sql, int64_t *value, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    *value = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    int r = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : runs_sql_error(db, code, sql, err);
    (void)sqlite3_finalize(statement);
    return r;
}

int runs_meta_get(struct sqlite3 *db, const char *key, char *text, size_t room, struct err *err)
{
    static const char sql[] = "SELECT value FROM sluice_meta WHERE key = ?1";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    int result = 0;
    if (code == SQLITE_ROW) {
        const unsigned char *value = sqlite3_column_text(statement, 0);
        (void)snprintf(text, room, "%s", value != NULL ? (const char *)value : "");
        result = 1;
    } else if (code != SQLITE_DONE) {
        result = runs_sql_error(db, code, "read sluice_meta", err);
    }
    (void)sqlite3_finalize(statement);
    return result;
}

int runs_meta_put(struct sqlite3 *db, const char *key, const char *text, struct err *err)
{
    static const char sql[] = "INSERT INTO sluice_meta(key, value) VALUES(?1, ?2) "
                              "ON CONFLICT(key) DO UPDATE SET value = excluded.value";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        (void)sqlite3_bind_text(statement, 2, text, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    int r = code == SQLITE_DONE ? 0 : runs_sql_error(db, code, "write sluice_meta", err);
    (void)sqlite3_finalize(statement);
    return r;
}

int runs_meta_get_u64(struct sqlite3 *db, const char *key, uint64_t *value, struct err *err)
{
    char text[32] = "";
    char *end = NULL;
    *value = 0;
    int r = runs_meta_get(db, key, text, sizeof text, err);
    if (r <= 0) {
        return r;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-') {
        return err_set(err, ERR_CORRUPT, "sluice_meta says %s = '%s', which is no number", key,
                       text);
    }
    *value = number;
    return 0;
}

int runs_meta_put_u64(struct sqlite3 *db, const char *key, uint64_t value, struct err *err)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    return runs_meta_put(db, key, text, err);
}
