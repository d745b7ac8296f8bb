/*
 * sqlite_file: whole SQLite files for tools: a consistent copy (sqlite_copy.h; of one with a WAL by the online backup API,
 * sqlite.org/backup.html), integrity_check, and whether the catalog says what the files say.
 */
#include "store/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "store/catalog_schema.h"
#include "store/sqlite_copy.h"
#include "store/sqlite_file.h"

enum {
    BACKUP_PAGES = 256, /* copied at a time; the source is locked meanwhile */
    BACKUP_BUSY_MAX = 600,
    BACKUP_PAUSE_MS = 50,
    BACKUP_AGAIN_MAX = 3,
    FAULTS_MAX = 100,
};

static int open_with(sqlite3 **db, const char *path, int flags, struct err *err)
{
    int code = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_busy_timeout(*db, 5000);
        code = sqlite3_exec(*db, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        return 0;
    }
    int r = sqlite3_extended_errcode(*db) == SQLITE_READONLY_ROLLBACK
                ? -EROFS
                : catalog_sql_error(*db, code, path, err);
    (void)sqlite3_close(*db);
    *db = NULL;
    return r;
}

int sqlite_file_open(sqlite3 **db, const char *path, struct err *err)
{
    int r = open_with(db, path, SQLITE_OPEN_READONLY, err);
    return r == -EROFS ? open_with(db, path, SQLITE_OPEN_READWRITE, err) : r;
}

/* Page by page, so that writers of the source get their turn. Who writes meanwhile makes it begin again, which SQLite does
 * by itself; a writer that never rests would make that endless, so after a few times the rest is copied under one read lock. */
static int copy_pages(sqlite3 *to, sqlite3 *from, struct err *err)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (backup == NULL) {
        return catalog_sql_error(to, sqlite3_errcode(to), "begin the copy", err);
    }
    int code = SQLITE_OK;
    unsigned busy = 0;
    unsigned again = 0;
    int remaining = INT_MAX;
    while (code == SQLITE_OK ||
           ((code == SQLITE_BUSY || code == SQLITE_LOCKED) && busy < BACKUP_BUSY_MAX)) {
        code = sqlite3_backup_step(backup, again < BACKUP_AGAIN_MAX ? BACKUP_PAGES : -1);
        if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
            busy++;
            (void)sqlite3_sleep(BACKUP_PAUSE_MS);
        } else {
            again += sqlite3_backup_remaining(backup) >= remaining ? 1 : 0;
            remaining = sqlite3_backup_remaining(backup);
        }
    }
    (void)sqlite3_backup_finish(backup);
    return code == SQLITE_DONE ? 0 : catalog_sql_error(to, code, "copy", err);
}

/* The file itself, where it holds everything. */
static int copy_file(sqlite3 *source, const char *to, struct err *err)
{
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        int r = -errno;
        return err_set(err, r, "make it: %s", err_name(r));
    }
    int r = sqlite_copy_to(source, fd, err);
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
        (void)err_set(err, r, "sync it: %s", err_name(r));
    }
    (void)close(fd);
    return r;
}

static int copy_with_wal(sqlite3 *source, const char *to, struct err *err)
{
    sqlite3 *copy = NULL;
    int code = sqlite3_open_v2(
        to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    int r =
        code == SQLITE_OK ? copy_pages(copy, source, err) : catalog_sql_error(copy, code, to, err);
    /* The copy is one file, whatever journal the source keeps. */
    r = r == 0 ? catalog_sql_run(copy, "PRAGMA journal_mode = DELETE", err) : r;
    (void)sqlite3_close(copy);
    return r;
}

int sqlite_backup_file(const char *from, const char *to, struct err *err)
{
    sqlite3 *source = NULL;
    if (access(to, F_OK) == 0) {
        return err_set(err, -EEXIST, "%s is there already", to);
    }
    int r = sqlite_file_open(&source, from, err);
    if (r < 0) {
        return r;
    }
    int has_wal = sqlite_copy_has_wal(source, err);
    r = has_wal < 0    ? has_wal
        : has_wal == 1 ? copy_with_wal(source, to, err)
                       : copy_file(source, to, err);
    (void)sqlite3_close(source);
    if (r < 0) {
        (void)unlink(to);
        return err_wrap(err, r, "copy %s to %s", from, to);
    }
    return 0;
}

/* ---- verify ---- */

void sqlite_file_tell(const struct sqlite_faults *faults, const char *format, ...)
{
    char text[512];
    char line[640];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)snprintf(line, sizeof line, "%s: %s", faults->name, text);
    (*faults->count)++;
    faults->on_fault(faults->context, line);
}

int sqlite_file_check(sqlite3 *db, const struct sqlite_faults *faults, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) { /* bound: SQLite gives at most 100 rows */
        code = sqlite3_step(statement);
        const unsigned char *text = code == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
        if (text != NULL && strcmp((const char *)text, "ok") != 0) {
            sqlite_file_tell(faults, "%s", (const char *)text);
        }
    }
    (void)sqlite3_finalize(statement);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
        sqlite_file_tell(faults, "%s", sqlite3_errmsg(db));
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
static int compare_rows(sqlite3 *db, const struct log_view *view,
                        const struct sqlite_faults *faults, struct err *err)
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
            sqlite_file_tell(faults,
                             "segment %" PRIu64
                             ": the row says LSN %lld to %lld, %lld records, the file "
                             "%" PRIu64 " to %" PRIu64 ", %" PRIu64,
                             id, (long long)sqlite3_column_int64(statement, 1),
                             (long long)sqlite3_column_int64(statement, 2),
                             (long long)sqlite3_column_int64(statement, 3), footer->first_lsn,
                             footer->last_lsn, footer->record_count);
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
    struct sqlite_faults sink = {
        .name = CATALOG_FILE, .on_fault = on_fault, .context = context, .count = faults};
    sqlite3 *db = NULL;
    int n = snprintf(path, sizeof path, "%s/%s", data_dir, CATALOG_FILE);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s", data_dir);
    }
    if (access(path, F_OK) != 0) {
        return 0; /* made at the next start */
    }
    int r = sqlite_file_open(&db, path, err);
    r = r == 0 ? sqlite_file_check(db, &sink, err) : r;
    r = r == 0 ? compare_rows(db, view, &sink, err) : r;
    (void)sqlite3_close(db);
    if (r == ERR_CORRUPT) { /* no database at all, or one without our tables */
        sqlite_file_tell(&sink, "%s", err->text);
    }
    return r < 0 && r != ERR_CORRUPT ? r : 0;
}
