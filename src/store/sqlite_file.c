/*
 * sqlite_file: whole SQLite files for tools: a consistent copy by the online backup API
 * (sqlite.org/backup.html), integrity_check, and whether the catalog says what the files say.
 */
#include "store/catalog.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "store/catalog_schema.h"

enum {
    BACKUP_PAGES = 256, /* copied at a time; the source is locked meanwhile */
    BACKUP_BUSY_MAX = 600,
    BACKUP_PAUSE_MS = 50,
    FAULTS_MAX = 100,
};

static int open_read_only(sqlite3 **db, const char *path, struct err *err)
{
    int code = sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) {
        int r = catalog_sql_error(*db, code, path, err);
        (void)sqlite3_close(*db);
        *db = NULL;
        return r;
    }
    (void)sqlite3_busy_timeout(*db, 5000);
    return 0;
}

/* Page by page, so that writers of the source get their turn; who writes meanwhile makes it start again,
 * which SQLite does by itself. */
static int copy_pages(sqlite3 *to, sqlite3 *from, struct err *err)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (backup == NULL) {
        return catalog_sql_error(to, sqlite3_errcode(to), "begin the copy", err);
    }
    int code = SQLITE_OK;
    unsigned busy = 0;
    while (code == SQLITE_OK ||
           ((code == SQLITE_BUSY || code == SQLITE_LOCKED) && busy < BACKUP_BUSY_MAX)) {
        code = sqlite3_backup_step(backup, BACKUP_PAGES);
        if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
            busy++;
            (void)sqlite3_sleep(BACKUP_PAUSE_MS);
        }
    }
    (void)sqlite3_backup_finish(backup);
    return code == SQLITE_DONE ? 0 : catalog_sql_error(to, code, "copy", err);
}

int sqlite_backup_file(const char *from, const char *to, struct err *err)
{
    sqlite3 *source = NULL;
    sqlite3 *copy = NULL;
    if (access(to, F_OK) == 0) {
        return err_set(err, -EEXIST, "%s is there already", to);
    }
    int r = open_read_only(&source, from, err);
    if (r < 0) {
        return r;
    }
    int code = sqlite3_open_v2(
        to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    r = code == SQLITE_OK ? copy_pages(copy, source, err) : catalog_sql_error(copy, code, to, err);
    /* The copy is one file, whatever journal the source keeps. */
    r = r == 0 ? catalog_sql_run(copy, "PRAGMA journal_mode = DELETE", err) : r;
    (void)sqlite3_close(copy);
    (void)sqlite3_close(source);
    if (r < 0) {
        (void)unlink(to);
        return err_wrap(err, r, "copy %s to %s", from, to);
    }
    return 0;
}

/* ---- verify ---- */

struct verify {
    void (*on_fault)(void *context, const char *line);
    void *context;
    uint64_t *faults;
};

static void PRINTF_LIKE(2, 3) tell(const struct verify *verify, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (*verify->faults)++;
    verify->on_fault(verify->context, line);
}

static int check_integrity(sqlite3 *db, const struct verify *verify, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) { /* bound: SQLite gives at most 100 rows */
        code = sqlite3_step(statement);
        const unsigned char *text = code == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
        if (text != NULL && strcmp((const char *)text, "ok") != 0) {
            tell(verify, "%s: %s", CATALOG_FILE, (const char *)text);
        }
    }
    (void)sqlite3_finalize(statement);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
        tell(verify, "%s: %s", CATALOG_FILE, sqlite3_errmsg(db));
        return 1;
    }
    return code == SQLITE_DONE ? 0 : catalog_sql_error(db, code, "integrity_check", err);
}

static const struct view_segment *find_segment(const struct log_view *view, uint64_t id)
{
    for (size_t i = 0; i < view->count; i++) {
        if (view->segments[i]->id == id) {
            return view->segments[i];
        }
    }
    return NULL;
}

/* Of sealed segments only: an active one changes while we look, and a row that is older than its file is what a
 * view may be. A row that promises more than the file holds is not. */
static int compare_rows(sqlite3 *db, const struct log_view *view, const struct verify *verify,
                        struct err *err)
{
    static const char sql[] = "SELECT id, first_lsn, last_lsn, records FROM segments "
                              "WHERE state <> 'active' ORDER BY id LIMIT 1000000";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) { /* bound: LIMIT */
        code = sqlite3_step(statement);
        if (code != SQLITE_ROW) {
            break;
        }
        uint64_t id = (uint64_t)sqlite3_column_int64(statement, 0);
        const struct view_segment *segment = find_segment(view, id);
        if (segment == NULL || segment->state == VIEW_ACTIVE) {
            continue; /* expired meanwhile, or opened without its footer, which verify tells elsewhere */
        }
        const struct segment_footer *footer = &segment->footer;
        if ((uint64_t)sqlite3_column_int64(statement, 1) != footer->first_lsn ||
            (uint64_t)sqlite3_column_int64(statement, 2) != footer->last_lsn ||
            (uint64_t)sqlite3_column_int64(statement, 3) != footer->record_count) {
            tell(verify,
                 "%s: segment %" PRIu64 ": the row says LSN %lld to %lld, %lld records, the file "
                 "%" PRIu64 " to %" PRIu64 ", %" PRIu64,
                 CATALOG_FILE, id, (long long)sqlite3_column_int64(statement, 1),
                 (long long)sqlite3_column_int64(statement, 2),
                 (long long)sqlite3_column_int64(statement, 3), footer->first_lsn, footer->last_lsn,
                 footer->record_count);
        }
    }
    (void)sqlite3_finalize(statement);
    return code == SQLITE_DONE ? 0 : catalog_sql_error(db, code, "read segments", err);
}

int catalog_verify(const char *data_dir, struct log_view *view,
                   void (*on_fault)(void *context, const char *line), void *context,
                   uint64_t *faults, struct err *err)
{
    char path[4096];
    struct verify verify = {on_fault, context, faults};
    sqlite3 *db = NULL;
    int n = snprintf(path, sizeof path, "%s/%s", data_dir, CATALOG_FILE);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s", data_dir);
    }
    if (access(path, F_OK) != 0) {
        return 0; /* made at the next start */
    }
    int r = open_read_only(&db, path, err);
    r = r == 0 ? check_integrity(db, &verify, err) : r;
    r = r == 0 ? compare_rows(db, view, &verify, err) : r;
    (void)sqlite3_close(db);
    if (r == ERR_CORRUPT) { /* no database at all, or one without our tables */
        tell(&verify, "%s: %s", CATALOG_FILE, err->text);
    }
    return r < 0 && r != ERR_CORRUPT ? r : 0;
}
