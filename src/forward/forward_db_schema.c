/*
 * forward_db_schema: see forward_db_schema.h. Migrations are steps from one user_version to the next, each in one
 * transaction with the number it leads to.
 *
 * happy path    open - quick_check - version - WAL, FULL - migrate - node - directory synced
 * damage        the file and its -wal go aside together, so that whoever looks into them later sees the last commits too;
 *               the file first: what a crash in between leaves is a -wal without a file, which SQLite removes
 * newer         closed again without a checkpoint: not a byte of it has changed
 */
#include "forward/forward_db_schema.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH_ROOM = 4096,
    BUSY_MS = 2000, /* people look into the file with their own tools */
    ASIDE_MAX = 9,
    APPLICATION_ID = 0x534c5546, /* "SLUF" */
};

/* steps[v] leads from user_version v to v + 1. */
static const char *const steps[FORWARD_DB_VERSION] = {
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE sinks("
    " name TEXT PRIMARY KEY, start_lsn INTEGER NOT NULL, live_next INTEGER NOT NULL,"
    " backlog_next INTEGER NOT NULL, backlog_end INTEGER NOT NULL, delivered INTEGER NOT NULL,"
    " filtered INTEGER NOT NULL, quarantined INTEGER NOT NULL, expired INTEGER NOT NULL,"
    " damaged INTEGER NOT NULL, dropped INTEGER NOT NULL, updated_at TEXT NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE batches("
    " sink TEXT NOT NULL, first_lsn INTEGER NOT NULL, last_lsn INTEGER NOT NULL,"
    " lane INTEGER NOT NULL, records INTEGER NOT NULL, payload_bytes INTEGER NOT NULL,"
    " encoding TEXT NOT NULL, digest BLOB NOT NULL, frozen_at INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, only BLOB NOT NULL, quarantine_id INTEGER NOT NULL,"
    " target TEXT NOT NULL, PRIMARY KEY (sink, first_lsn, quarantine_id)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE quarantine("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, lsn INTEGER NOT NULL,"
    " record_id BLOB NOT NULL, kind INTEGER NOT NULL, encoding INTEGER NOT NULL,"
    " received_at INTEGER NOT NULL, event_time INTEGER NOT NULL, severity INTEGER NOT NULL,"
    " status INTEGER NOT NULL, reason TEXT NOT NULL, refused_at INTEGER NOT NULL,"
    " state INTEGER NOT NULL, meta BLOB NOT NULL, payload BLOB NOT NULL"
    ") STRICT;"
    "CREATE INDEX quarantine_sink ON quarantine(sink);",
};

/* The errno of the last call that failed on the file itself. (sqlite3_system_errno is the thread's errno at a later moment.) */
static int last_errno(sqlite3_file *file)
{
    int number = 0;
    if (file != NULL && file->pMethods != NULL) {
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &number);
    }
    return number;
}

/* What SQLite calls an I/O error may be a full disk by another name: a quota, a file size limit. */
static int io_error(struct sqlite3 *sql)
{
    static const int requests[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
    for (size_t i = 0; sql != NULL && i < ARRAY_COUNT(requests); i++) {
        sqlite3_file *file = NULL;
        (void)sqlite3_file_control(sql, "main", requests[i], &file);
        int number = last_errno(file);
        if (number == ENOSPC || number == EDQUOT || number == EFBIG) {
            return -ENOSPC;
        }
    }
    return -EIO;
}

static int result_of(struct sqlite3 *sql, int code)
{
    if (code == SQLITE_IOERR_CORRUPTFS) {
        return ERR_CORRUPT;
    }
    if (code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_FSYNC ||
        code == SQLITE_IOERR_DIR_FSYNC || code == SQLITE_IOERR_SHMSIZE) {
        return io_error(sql);
    }
    switch (code & 0xff) {
    case SQLITE_ERROR: /* our statements are fixed: what cannot be said of the file is not its schema */
    case SQLITE_MISMATCH:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_NOMEM:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

int forward_db_schema_error(struct sqlite3 *sql, int code, const char *doing, struct err *err)
{
    const char *text = sql != NULL ? sqlite3_errmsg(sql) : sqlite3_errstr(code);
    return err_set(err, result_of(sql, code), "%s: %s (SQLite code %d)", doing, text, code);
}

static int run(struct sqlite3 *sql, const char *text, struct err *err)
{
    int code = sqlite3_exec(sql, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : forward_db_schema_error(sql, code, text, err);
}

/* A statement with at most one row and one column, as text. 1, 0, or an error. */
static int read_text(struct sqlite3 *sql, const char *query, char *text, size_t room,
                     struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int result = 0;
    int code = sqlite3_prepare_v2(sql, query, -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    if (code == SQLITE_ROW) {
        const unsigned char *value = sqlite3_column_text(statement, 0);
        (void)snprintf(text, room, "%s", value != NULL ? (const char *)value : "");
        result = 1;
    } else if (code != SQLITE_DONE) {
        result = forward_db_schema_error(sql, code, query, err);
    }
    (void)sqlite3_finalize(statement);
    return result;
}

static int read_number(struct sqlite3 *sql, const char *query, long long *number, struct err *err)
{
    char text[32] = "";
    int r = read_text(sql, query, text, sizeof text, err);
    *number = r == 1 ? strtoll(text, NULL, 10) : 0;
    return r < 0 ? r : 0;
}

/* ---- judging ---- */

static int check_pages(struct sqlite3 *sql, struct err *err)
{
    char text[256] = "";
    int r = read_text(sql, "PRAGMA quick_check(1)", text, sizeof text, err);
    if (r < 0) {
        return r;
    }
    return strcmp(text, "ok") == 0 ? 0 : err_set(err, ERR_CORRUPT, "quick_check: %s", text);
}

/* version: 0 for a file that has nothing in it yet. */
static int check_version(struct sqlite3 *sql, int *version, struct err *err)
{
    long long number = 0;
    long long application = 0;
    long long objects = 0;
    int r = read_number(sql, "PRAGMA user_version", &number, err);
    r = r == 0 ? read_number(sql, "PRAGMA application_id", &application, err) : r;
    r = r == 0 ? read_number(sql, "SELECT count(*) FROM sqlite_schema", &objects, err) : r;
    if (r < 0) {
        return r;
    }
    bool is_new = number == 0 && application == 0 && objects == 0;
    if (!is_new && (application != APPLICATION_ID || number < 1)) {
        return err_set(err, ERR_CORRUPT, "it is not a forwarder's database");
    }
    if (number > FORWARD_DB_VERSION) {
        return err_set(err, ERR_VERSION,
                       "it was made by a newer Sluice (version %lld, this one knows %d): run that "
                       "one, or move the file away: sinks then begin anew, and what is in its "
                       "quarantine stays there",
                       number, FORWARD_DB_VERSION);
    }
    *version = (int)number;
    return 0;
}

static int check_node(struct sqlite3 *sql, const struct ulid *node, struct err *err)
{
    char mine[ULID_TEXT_BYTES + 1] = "";
    char text[256] = "";
    char insert[128];
    ulid_format(mine, node);
    int r = read_text(sql, "SELECT value FROM meta WHERE key = 'node'", text, sizeof text, err);
    if (r == 1 && strcmp(text, mine) != 0) {
        return err_set(err, ERR_CORRUPT, "it belongs to node %s, this is %s", text, mine);
    }
    (void)snprintf(insert, sizeof insert, "INSERT INTO meta(key, value) VALUES('node', '%s')",
                   mine);
    return r < 0 ? r : r == 1 ? 0 : run(sql, insert, err);
}

static int migrate(struct sqlite3 *sql, int version, struct err *err)
{
    for (int v = version; v < FORWARD_DB_VERSION; v++) {
        char end[128];
        (void)snprintf(end, sizeof end,
                       "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                       APPLICATION_ID, v + 1);
        int r = run(sql, "BEGIN IMMEDIATE", err);
        r = r == 0 ? run(sql, steps[v], err) : r;
        r = r == 0 ? run(sql, end, err) : r;
        if (r < 0) {
            (void)sqlite3_exec(sql, "ROLLBACK", NULL, NULL, NULL);
            return err_wrap(err, r, "version %d to %d", v, v + 1);
        }
    }
    return 0;
}

/* ---- opening ---- */

/* -wal and -shm outlive the connection, for readers (forward_db.h). */
static void keep_side_files(struct sqlite3 *sql)
{
    int is_persistent = 1;
    (void)sqlite3_file_control(sql, "main", SQLITE_FCNTL_PERSIST_WAL, &is_persistent);
}

static int settle(struct sqlite3 *sql, const struct ulid *node, enum forward_db_found *found,
                  struct err *err)
{
    static const char settings[] =
        "PRAGMA journal_mode = WAL;"
        "PRAGMA synchronous = FULL;"
        "PRAGMA wal_autocheckpoint = 1000;"    /* pages: 4 MiB; this connection alone does it */
        "PRAGMA journal_size_limit = 4194304;" /* after a flood of quarantined records */
        "PRAGMA temp_store = MEMORY;"
        "PRAGMA mmap_size = 0"; /* a read error is an error, not a SIGBUS */
    int version = 0;
    int r = check_pages(sql, err); /* first: damage may look like any version */
    r = r == 0 ? check_version(sql, &version, err) : r;
    r = r == 0 ? run(sql, settings, err) : r;
    r = r == 0 ? migrate(sql, version, err) : r;
    r = r == 0 ? check_node(sql, node, err) : r;
    if (r == 0 && version == 0) {
        *found = FORWARD_DB_MADE;
    }
    return r;
}

static int open_once(struct sqlite3 **sql, const char *path, const struct ulid *node,
                     enum forward_db_found *found, struct err *err)
{
    int code = sqlite3_open_v2(path, sql,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_EXRESCODE,
                               NULL);
    int r = code == SQLITE_OK ? 0 : forward_db_schema_error(*sql, code, "open", err);
    if (r == 0) {
        /* Until it is judged, closing it leaves everything as it is. */
        (void)sqlite3_db_config(*sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void)sqlite3_db_config(*sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void)sqlite3_busy_timeout(*sql, BUSY_MS);
        keep_side_files(*sql);
        r = settle(*sql, node, found, err);
    }
    if (r == 0) {
        (void)sqlite3_db_config(*sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        return 0;
    }
    (void)sqlite3_close(*sql);
    *sql = NULL;
    return r;
}

static int join(char *out, const char *path, const char *suffix, struct err *err)
{
    int n = snprintf(out, PATH_ROOM, "%s%s", path, suffix);
    return n > 0 && n < PATH_ROOM ? 0 : err_set(err, -ENAMETOOLONG, "%s%s", path, suffix);
}

static int move(const char *from, const char *to, struct err *err)
{
    if (rename(from, to) < 0 && errno != ENOENT) {
        int result = -errno;
        return err_set(err, result, "move %s to %s: %s", from, to, err_name(result));
    }
    return 0;
}

/* Where a damaged file goes: the first name that is free, or the last, which is then replaced. */
static int choose_aside(char *aside, const char *path, struct err *err)
{
    int r = join(aside, path, ".damaged", err);
    struct stat info;
    for (int i = 2; r == 0 && i <= ASIDE_MAX && lstat(aside, &info) == 0; i++) {
        char suffix[32];
        (void)snprintf(suffix, sizeof suffix, ".damaged.%d", i);
        r = join(aside, path, suffix, err);
    }
    return r;
}

static int set_aside(const char *path, struct err *err)
{
    char aside[PATH_ROOM];
    char from[PATH_ROOM];
    char to[PATH_ROOM];
    int r = choose_aside(aside, path, err);
    r = r == 0 ? move(path, aside, err) : r;
    r = r == 0 ? join(from, path, "-wal", err) : r;
    r = r == 0 ? join(to, aside, "-wal", err) : r;
    if (r == 0 && remove(to) < 0 && errno != ENOENT) { /* of the file that is replaced */
        r = err_set(err, -errno, "remove %s", to);
    }
    r = r == 0 ? move(from, to, err) : r;
    r = r == 0 ? join(from, path, "-shm", err) : r;
    if (r == 0 && remove(from) < 0 && errno != ENOENT) {
        r = err_set(err, -errno, "remove %s", from);
    }
    return r;
}

/* New names are durable only with their directory. */
static int sync_directory(const char *path, struct err *err)
{
    char directory[PATH_ROOM];
    int r = join(directory, path, "", err);
    if (r < 0) {
        return r;
    }
    char *slash = strrchr(directory, '/');
    if (slash == NULL) {
        memcpy(directory, ".", 2);
    } else {
        slash[slash == directory ? 1 : 0] = '\0';
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r = fd < 0 ? -errno : 0;
    if (r == 0 && fsync(fd) < 0) {
        r = -errno;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return r < 0 ? err_set(err, r, "sync %s: %s", directory, err_name(r)) : 0;
}

static int open_or_remake(struct sqlite3 **sql, const char *path, const struct ulid *node,
                          enum forward_db_found *found, struct err *err)
{
    int r = open_once(sql, path, node, found, err);
    if (r != ERR_CORRUPT) {
        return r < 0 ? err_wrap(err, r, "%s", path) : 0;
    }
    r = set_aside(path, err);
    r = r == 0 ? open_once(sql, path, node, found, err) : r;
    *found = FORWARD_DB_DAMAGED;
    return r < 0 ? err_wrap(err, r, "make %s again", path) : 0;
}

int forward_db_schema_open(struct sqlite3 **sql, const char *path, const struct ulid *node,
                           enum forward_db_found *found, struct err *err)
{
    *sql = NULL;
    *found = FORWARD_DB_GOOD;
    int r = open_or_remake(sql, path, node, found, err);
    if (r == 0 && *found != FORWARD_DB_GOOD) {
        r = sync_directory(path, err);
    }
    if (r < 0 && *sql != NULL) {
        (void)sqlite3_close(*sql);
        *sql = NULL;
    }
    return r;
}

/* ---- reading only ---- */

/* file:PATH?mode=ro, with what has a meaning in a URI escaped; immutable: no locks, no -wal, no -shm. */
static int uri_of(char *uri, const char *path, bool is_immutable, struct err *err)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t at = (size_t)snprintf(uri, PATH_ROOM, "file:");
    for (const char *c = path; *c != '\0'; c++) {
        if (at + 32 > PATH_ROOM) {
            return err_set(err, -ENAMETOOLONG, "%s", path);
        }
        if (*c == '%' || *c == '?' || *c == '#') {
            uri[at++] = '%';
            uri[at++] = digits[(unsigned char)*c >> 4];
            uri[at++] = digits[(unsigned char)*c & 15];
        } else {
            uri[at++] = *c;
        }
    }
    (void)snprintf(uri + at, PATH_ROOM - at, "?mode=ro%s", is_immutable ? "&immutable=1" : "");
    return 0;
}

static int settle_read_only(struct sqlite3 *sql, struct err *err)
{
    int version = 0;
    (void)sqlite3_db_config(sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_db_config(sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_busy_timeout(sql, BUSY_MS);
    keep_side_files(sql);
    int r = check_version(sql, &version, err);
    if (r == 0 && version == 0) { /* somebody is making it at this moment */
        return err_set(err, -ENOENT, "there is nothing in it yet");
    }
    return r;
}

int forward_db_schema_open_read_only(struct sqlite3 **sql, const char *path, struct err *err)
{
    char uri[PATH_ROOM];
    char wal[PATH_ROOM];
    *sql = NULL;
    if (access(path, F_OK) < 0) {
        int result = -errno;
        return err_set(err, result, "%s: %s", path, err_name(result));
    }
    int r = join(wal, path, "-wal", err);
    r = r == 0 ? uri_of(uri, path, access(wal, F_OK) < 0, err) : r;
    if (r < 0) {
        return r;
    }
    int code = sqlite3_open_v2(
        uri, sql,
        SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    r = code == SQLITE_OK ? settle_read_only(*sql, err)
                          : forward_db_schema_error(*sql, code, "open", err);
    if (r < 0) {
        (void)sqlite3_close(*sql);
        *sql = NULL;
        return err_wrap(err, r, "%s", path);
    }
    return 0;
}
