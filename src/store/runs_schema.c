/*
 * runs_schema: see runs_schema.h. Tables and columns are those of the public contract (docs/API.md); sluice_meta is ours.
 *
 * Migrations are steps from one version to the next, each in one transaction together with its row in schema_migrations, so a crash between
 * steps leaves a good file of the version reached. The steps up to 5 add columns that are not there yet. Step 6 makes agent_runs anew, because SQLite
 * cannot add a UNIQUE column, and because columns have an order; what an older schema let in and this one refuses (NULL, negative counts, an
 * older word for a status) is put right on the way, and the copy made before keeps it as it was.
 */
#include "store/runs_schema.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/catalog.h" /* sqlite_backup_file */
#include "store/runs_outcomes.h"
#include "store/runs_zones.h"

enum {
    PATH_ROOM = 4096,
    OPEN_BUSY_MS = 5000,
    BACKUPS_MAX = 100,
};

/* name, declaration, and how the value of an older file is read in step 6. */
static const struct column {
    const char *name;
    const char *declaration;
    const char *copy; /* NULL: as it is */
} columns[RUNS_COLUMNS] = {
    {"id", "INTEGER PRIMARY KEY AUTOINCREMENT", NULL},
    {"event_id", "TEXT NOT NULL UNIQUE", NULL}, /* see event_id_copy */
    {"run_id", "TEXT NOT NULL", "COALESCE(run_id, '')"},
    {"schema_version", "INTEGER DEFAULT 6", NULL},
    {"created_at", "TEXT NOT NULL DEFAULT (datetime('now'))",
     "COALESCE(created_at, datetime('now'))"},
    {"updated_at", "TEXT DEFAULT (datetime('now'))", NULL},
    {"start_time", "TEXT NOT NULL", "COALESCE(start_time, '')"},
    {"end_time", "TEXT", NULL},
    {"agent_name", "TEXT NOT NULL", "COALESCE(agent_name, '')"},
    {"agent_owner", "TEXT", NULL},
    {"job_type", "TEXT NOT NULL", "COALESCE(job_type, '')"},
    {"status", "TEXT NOT NULL DEFAULT 'running'",
     "CASE WHEN status IN ('running','success','failure','partial','timeout','cancelled') THEN "
     "status"
     " WHEN status IN ('completed','succeeded') THEN 'success'"
     " WHEN status IS NULL THEN 'running' ELSE 'failure' END"},
    {"product", "TEXT", NULL},
    {"product_family", "TEXT", NULL},
    {"platform", "TEXT", NULL},
    {"subdomain", "TEXT", NULL},
    {"website", "TEXT", NULL},
    {"website_section", "TEXT", NULL},
    {"item_name", "TEXT", NULL},
    {"items_discovered", "INTEGER DEFAULT 0", "MAX(COALESCE(items_discovered, 0), 0)"},
    {"items_succeeded", "INTEGER DEFAULT 0", "MAX(COALESCE(items_succeeded, 0), 0)"},
    {"items_failed", "INTEGER DEFAULT 0", "MAX(COALESCE(items_failed, 0), 0)"},
    {"items_skipped", "INTEGER DEFAULT 0", "MAX(COALESCE(items_skipped, 0), 0)"},
    {"duration_ms", "INTEGER DEFAULT 0", "MAX(COALESCE(duration_ms, 0), 0)"},
    {"input_summary", "TEXT", NULL},
    {"output_summary", "TEXT", NULL},
    {"source_ref", "TEXT", NULL},
    {"target_ref", "TEXT", NULL},
    {"error_summary", "TEXT", NULL},
    {"error_details", "TEXT", NULL},
    {"git_repo", "TEXT", NULL},
    {"git_branch", "TEXT", NULL},
    {"git_commit_hash", "TEXT", NULL},
    {"git_run_tag", "TEXT", NULL},
    {"git_commit_source", "TEXT", NULL},
    {"git_commit_author", "TEXT", NULL},
    {"git_commit_timestamp", "TEXT", NULL},
    {"host", "TEXT", NULL},
    {"environment", "TEXT", NULL},
    {"trigger_type", "TEXT", NULL},
    {"metrics_json", "TEXT", NULL},
    {"context_json", "TEXT", NULL},
    {"api_posted", "INTEGER DEFAULT 0", "COALESCE(api_posted, 0)"},
    {"api_posted_at", "TEXT", NULL},
    {"api_retry_count", "INTEGER DEFAULT 0", "MAX(COALESCE(api_retry_count, 0), 0)"},
    {"insight_id", "TEXT", NULL},
    {"parent_run_id", "TEXT", NULL},
};
/* A row without one, or with another row's, gets a UUID (version 4). */
static const char event_id_copy[] =
    "CASE WHEN event_id IS NOT NULL AND event_id <> '' AND NOT EXISTS(SELECT 1 FROM agent_runs AS "
    "b "
    "WHERE b.event_id = a.event_id AND b.rowid < a.rowid) THEN event_id ELSE ";
static const char uuid_sql[] =
    "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || "
    "substr(hex(randomblob(2)), 2) || '-' || substr('89AB', 1 + (random() & 3), 1) || "
    "substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))";

static const char checks_sql[] =
    "CHECK(items_discovered >= 0), CHECK(items_succeeded >= 0), CHECK(items_failed >= 0), "
    "CHECK(items_skipped >= 0), CHECK(duration_ms >= 0), CHECK(api_retry_count >= 0), "
    "CHECK(status IN ('running','success','failure','partial','timeout','cancelled'))";

static const char side_tables_sql[] =
    "CREATE TABLE IF NOT EXISTS run_events("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES agent_runs(run_id), "
    "event_type TEXT NOT NULL, timestamp TEXT NOT NULL, payload_json TEXT);"
    "CREATE TABLE IF NOT EXISTS commits("
    "commit_hash TEXT PRIMARY KEY, run_id TEXT, agent_name TEXT, repo TEXT, branch TEXT, "
    "commit_date TEXT, author TEXT, message TEXT, files_changed INTEGER, insertions INTEGER, "
    "deletions INTEGER, created_at TEXT DEFAULT (datetime('now')));";
static const char migrations_sql[] =
    "CREATE TABLE IF NOT EXISTS schema_migrations(version INTEGER PRIMARY KEY, "
    "applied_at TEXT DEFAULT (datetime('now')), description TEXT);";
static const char meta_sql[] = "CREATE TABLE IF NOT EXISTS sluice_meta(key TEXT PRIMARY KEY, "
                               "value TEXT NOT NULL) WITHOUT ROWID";

static const struct wanted_index {
    const char *table;
    const char *columns; /* as pragma_index_info has them */
    const char *name;
    const char *sql; /* in parentheses */
} indexes[] = {
    {"agent_runs", "event_id", "idx_runs_event_id", "event_id"},
    {"agent_runs", "agent_name", "idx_runs_agent_name", "agent_name"},
    {"agent_runs", "status", "idx_runs_status", "status"},
    {"agent_runs", "start_time", "idx_runs_start_time", "start_time"},
    {"agent_runs", "created_at", "idx_runs_created_at", "created_at DESC"},
    {"agent_runs", "agent_name,status,created_at", "idx_runs_agent_status_created",
     "agent_name, status, created_at DESC"},
    {"agent_runs", "agent_name,created_at", "idx_runs_agent_created",
     "agent_name, created_at DESC"},
    {"agent_runs", "status,created_at", "sluice_runs_status_created", "status, created_at DESC"},
    {"agent_runs", "job_type", "idx_runs_job_type", "job_type"},
    {"agent_runs", "job_type,created_at", "sluice_runs_job_created", "job_type, created_at DESC"},
    {"agent_runs", "parent_run_id", "idx_runs_parent_run_id", "parent_run_id"},
    {"agent_runs", "api_posted", "idx_runs_api_posted", "api_posted"},
    {"agent_runs", "insight_id", "idx_runs_insight_id", "insight_id"},
    {"agent_runs", "git_commit_hash", "idx_runs_git_commit_hash", "git_commit_hash"},
    {"agent_runs", "website", "idx_runs_website", "website"},
    {"agent_runs", "website,website_section", "idx_runs_website_section",
     "website, website_section"},
    {"run_events", "run_id", "idx_run_events_run_id", "run_id"},
    {"commits", "run_id", "idx_commits_run_id", "run_id"},
};

/* What each step adds; step 6 has its own function. */
static const struct step {
    const char *description;
    const char *added[4];
} steps[RUNS_SCHEMA_VERSION + 1] = {
    [2] = {"insight_id", {"insight_id"}},
    [3] = {"product_family, subdomain", {"product_family", "subdomain"}},
    [4] = {"git commit tracking",
           {"git_commit_hash", "git_commit_source", "git_commit_author", "git_commit_timestamp"}},
    [5] = {"website, website_section, item_name", {"website", "website_section", "item_name"}},
    [6] = {"event_id with UNIQUE constraint", {NULL}},
};

/* ---- what is there ---- */

static int exists(struct sqlite3 *db, const char *sql, const char *bound, bool *is_there,
                  struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        (void)sqlite3_bind_text(statement, 1, bound, -1, SQLITE_STATIC);
        code = sqlite3_step(statement);
    }
    *is_there = code == SQLITE_ROW;
    int r = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : runs_sql_error(db, code, sql, err);
    (void)sqlite3_finalize(statement);
    return r;
}

static int has_table(struct sqlite3 *db, const char *name, bool *is_there, struct err *err)
{
    return exists(db, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", name,
                  is_there, err);
}

static int has_column(struct sqlite3 *db, const char *name, bool *is_there, struct err *err)
{
    return exists(db, "SELECT 1 FROM pragma_table_info('agent_runs') WHERE name = ?1", name,
                  is_there, err);
}

/* Of a file that does not say it: by the columns that a version brought. */
static int guess_version(struct sqlite3 *db, int *version, struct err *err)
{
    *version = 1;
    for (int v = 2; v < RUNS_SCHEMA_VERSION; v++) {
        bool is_there = false;
        int r = has_column(db, steps[v].added[v == 4 ? 1 : 0], &is_there, err);
        if (r < 0) {
            return r;
        }
        *version = is_there ? v : *version;
    }
    int64_t is_unique = 0;
    int r = runs_sql_number(db,
                            "SELECT count(*) FROM pragma_index_list('agent_runs') AS l, "
                            "pragma_index_info(l.name) AS i WHERE l.\"unique\" AND i.name = "
                            "'event_id'",
                            &is_unique, err);
    *version =
        is_unique > 0 && *version == RUNS_SCHEMA_VERSION - 1 ? RUNS_SCHEMA_VERSION : *version;
    return r;
}

/* 0: nothing of ours is there. */
static int read_version(struct sqlite3 *db, int *version, struct err *err)
{
    bool has_runs = false;
    bool has_migrations = false;
    int64_t found = 0;
    int r = has_table(db, "agent_runs", &has_runs, err);
    r = r == 0 ? has_table(db, "schema_migrations", &has_migrations, err) : r;
    if (r == 0 && has_migrations) {
        r = runs_sql_number(db, "SELECT max(version) FROM schema_migrations", &found, err);
    }
    if (r == 0 && found > RUNS_SCHEMA_VERSION) {
        return err_set(err, ERR_VERSION,
                       "its schema is version %lld, this Sluice knows %d: run the newer one",
                       (long long)found, RUNS_SCHEMA_VERSION);
    }
    *version = has_runs ? (int)found : 0;
    if (r == 0 && has_runs && found < 1) {
        r = guess_version(db, version, err);
    }
    return r;
}

/* ---- making ---- */

static void put_table(struct buf *sql, const char *name)
{
    buf_printf(sql, "CREATE TABLE %s(", name);
    for (unsigned i = 0; i < RUNS_COLUMNS; i++) {
        buf_printf(sql, "%s %s, ", columns[i].name, columns[i].declaration);
    }
    buf_printf(sql, "%s)", checks_sql);
}

static int run_buf(struct sqlite3 *db, struct buf *sql, struct err *err)
{
    buf_put_char(sql, 0);
    ASSERT(!sql->is_truncated);
    return runs_sql_run(db, (const char *)sql->data, err);
}

static int make_table(struct sqlite3 *db, const char *name, struct err *err)
{
    char text[8192];
    struct buf sql;
    buf_init(&sql, text, sizeof text);
    put_table(&sql, name);
    return run_buf(db, &sql, err);
}

/* An index on the same columns under another name, as an older file may have it, will do. Those named sluice_ are ours. */
static int make_index(struct sqlite3 *db, const struct wanted_index *index, struct err *err)
{
    static const char find[] =
        "SELECT 1 FROM pragma_index_list('%s') AS l WHERE l.origin = 'c' AND NOT l.partial AND "
        "(SELECT group_concat(name, ',') FROM pragma_index_info(l.name)) = ?1";
    char text[512];
    bool is_there = false;
    (void)snprintf(text, sizeof text, find, index->table);
    int r = exists(db, text, index->columns, &is_there, err);
    if (r < 0 || is_there) {
        return r;
    }
    (void)snprintf(text, sizeof text, "CREATE INDEX IF NOT EXISTS %s ON %s(%s)", index->name,
                   index->table, index->sql);
    return runs_sql_run(db, text, err);
}

static int make_indexes(struct sqlite3 *db, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < ARRAY_COUNT(indexes) && r == 0; i++) {
        r = make_index(db, &indexes[i], err);
    }
    return r;
}

static int note_version(struct sqlite3 *db, int version, const char *description, struct err *err)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "INSERT OR REPLACE INTO schema_migrations(version, description) "
                   "VALUES(%d, '%s')",
                   version, description);
    int r = runs_sql_run(db, migrations_sql, err);
    return r == 0 ? runs_sql_run(db, sql, err) : r;
}

static int make(struct sqlite3 *db, struct err *err)
{
    int r = make_table(db, "agent_runs", err);
    r = r == 0 ? runs_sql_run(db, side_tables_sql, err) : r;
    r = r == 0 ? make_indexes(db, err) : r;
    return r == 0 ? note_version(db, RUNS_SCHEMA_VERSION, "made by Sluice", err) : r;
}

/* ---- migrating ---- */

static int add_columns(struct sqlite3 *db, const struct step *step, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < ARRAY_COUNT(step->added) && step->added[i] != NULL && r == 0; i++) {
        char sql[128];
        bool is_there = false;
        r = has_column(db, step->added[i], &is_there, err);
        if (r == 0 && !is_there) {
            (void)snprintf(sql, sizeof sql, "ALTER TABLE agent_runs ADD COLUMN %s TEXT",
                           step->added[i]);
            r = runs_sql_run(db, sql, err);
        }
    }
    return r;
}

static int put_copy(struct sqlite3 *db, struct buf *names, struct buf *values, struct err *err)
{
    bool is_there = false;
    int r = 0;
    for (unsigned i = 0; i < RUNS_COLUMNS && r == 0; i++) {
        const struct column *column = &columns[i];
        bool is_event_id = strcmp(column->name, "event_id") == 0;
        r = has_column(db, column->name, &is_there, err);
        if (r < 0 || (!is_there && !is_event_id)) {
            continue;
        }
        buf_printf(names, "%s%s", names->bytes > 0 ? ", " : "", column->name);
        buf_put_text(values, values->bytes > 0 ? ", " : "");
        if (is_event_id) {
            buf_printf(values, "%s%s%s", is_there ? event_id_copy : "", uuid_sql,
                       is_there ? " END" : "");
        } else {
            buf_put_text(values, column->copy != NULL ? column->copy : column->name);
        }
    }
    return r;
}

/* Everything that is there, in the order it came. Indexes go with the old table; the references of run_events name agent_runs and stay as
 * they are, because foreign keys are off and the new table takes the name. */
static int copy_rows(struct sqlite3 *db, struct err *err)
{
    char names_text[2048];
    char values_text[8192];
    char text[12288];
    struct buf names;
    struct buf values;
    struct buf sql;
    buf_init(&names, names_text, sizeof names_text);
    buf_init(&values, values_text, sizeof values_text);
    buf_init(&sql, text, sizeof text);
    int r = put_copy(db, &names, &values, err);
    if (r < 0) {
        return r;
    }
    ASSERT(!names.is_truncated && !values.is_truncated);
    buf_put_text(&sql, "INSERT INTO agent_runs_v6(");
    buf_put(&sql, names.data, names.bytes);
    buf_put_text(&sql, ") SELECT ");
    buf_put(&sql, values.data, values.bytes);
    buf_put_text(&sql, " FROM agent_runs AS a ORDER BY rowid");
    return run_buf(db, &sql, err);
}

static int make_anew(struct sqlite3 *db, struct err *err)
{
    bool is_there = false;
    int r = has_column(db, "event_id", &is_there, err);
    if (r == 0 && is_there) { /* event_id_copy looks for equal ones */
        r = runs_sql_run(
            db, "CREATE INDEX IF NOT EXISTS agent_runs_v6_event_id ON agent_runs(event_id)", err);
    }
    r = r == 0 ? make_table(db, "agent_runs_v6", err) : r;
    r = r == 0 ? copy_rows(db, err) : r;
    r = r == 0 ? runs_sql_run(db, "DROP TABLE agent_runs", err) : r;
    r = r == 0 ? runs_sql_run(db, "ALTER TABLE agent_runs_v6 RENAME TO agent_runs", err) : r;
    r = r == 0 ? runs_sql_run(db, side_tables_sql, err) : r;
    return r == 0 ? make_indexes(db, err) : r;
}

static int run_step(struct sqlite3 *db, int version, struct err *err)
{
    int r =
        version < RUNS_SCHEMA_VERSION ? add_columns(db, &steps[version], err) : make_anew(db, err);
    return r == 0 ? note_version(db, version, steps[version].description, err) : r;
}

static int in_transaction(struct sqlite3 *db, int version, struct err *err)
{
    int r = runs_sql_run(db, "BEGIN IMMEDIATE", err);
    if (r == 0) {
        r = version == 0 ? make(db, err) : run_step(db, version, err);
        r = r == 0 ? runs_sql_run(db, "COMMIT", err) : r;
    }
    if (r < 0) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        (void)(version == 0 ? err_wrap(err, r, "make the tables")
                            : err_wrap(err, r, "bring it to version %d", version));
    }
    return r;
}

/* ---- the copy before ---- */

static int sync_path(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;
    if (fd >= 0) {
        r = fsync(fd) < 0 ? -errno : 0;
        (void)close(fd);
    }
    return r < 0 ? err_set(err, r, "sync %s: %s", path, err_name(r)) : 0;
}

static int sync_dir_of(const char *path, struct err *err)
{
    char dir[PATH_ROOM];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return sync_path(".", O_RDONLY | O_DIRECTORY, err);
    }
    (void)snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return sync_path(dir, O_RDONLY | O_DIRECTORY, err);
}

/* Never over an older copy. */
static int backup_name(char *name, const char *path, int version, struct err *err)
{
    for (unsigned i = 1; i <= BACKUPS_MAX; i++) {
        int n = i == 1 ? snprintf(name, PATH_ROOM, "%s.v%d.backup", path, version)
                       : snprintf(name, PATH_ROOM, "%s.v%d.backup.%u", path, version, i);
        if (n < 0 || n >= PATH_ROOM) {
            return err_set(err, -ENAMETOOLONG, "%s", path);
        }
        if (access(name, F_OK) != 0) {
            return 0;
        }
    }
    return err_set(err, -EEXIST, "there are %d copies of version %d beside %s", BACKUPS_MAX,
                   version, path);
}

/* Under another name until it is whole, so that a copy with the right name is one. */
static int back_up(const char *path, int version, struct err *err)
{
    char name[PATH_ROOM];
    char part[PATH_ROOM];
    int r = backup_name(name, path, version, err);
    int n = snprintf(part, sizeof part, "%s.backup.part", path);
    if (r < 0 || n < 0 || (size_t)n >= sizeof part) {
        return r < 0 ? r : err_set(err, -ENAMETOOLONG, "%s", path);
    }
    (void)unlink(part); /* of a start that was killed */
    r = sqlite_backup_file(path, part, err);
    r = r == 0 ? sync_path(part, O_RDONLY, err) : r;
    if (r == 0 && rename(part, name) < 0) {
        r = -errno;
        (void)err_set(err, r, "name the copy %s: %s", name, err_name(r));
    }
    r = r == 0 ? sync_dir_of(name, err) : r;
    return r < 0 ? err_wrap(err, r, "copy it before migrating") : 0;
}

/* ---- opening ---- */

static int read_journal_mode(struct sqlite3 *db, const char *sql, char *mode, size_t room,
                             struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    const unsigned char *text = code == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
    (void)snprintf(mode, room, "%s", text != NULL ? (const char *)text : "");
    int r = code == SQLITE_ROW ? 0 : runs_sql_error(db, code, sql, err);
    (void)sqlite3_finalize(statement);
    return r;
}

static int set_journal_mode(struct sqlite3 *db, struct buf *warning, struct err *err)
{
    char mode[16] = "";
    int r = read_journal_mode(db, "PRAGMA journal_mode", mode, sizeof mode, err);
    if (r < 0 || strcmp(mode, "delete") == 0) {
        return r;
    }
    buf_printf(warning, "journal_mode was %s, it is DELETE now; ", mode);
    r = read_journal_mode(db, "PRAGMA journal_mode = DELETE", mode, sizeof mode, err);
    if (r == 0 && strcmp(mode, "delete") != 0) {
        r = err_set(err, -EBUSY, "journal_mode stays %s: somebody else has the file open", mode);
    }
    return r;
}

/* synchronous is the connection's own. foreign_keys: run_events references a column that is not unique, as the contract has it, and SQLite
 * refuses to enforce that. The cache holds the pages that a transaction changes (they would go to disk before the commit otherwise, under a lock
 * that shuts readers out). */
static int set_pragmas(struct sqlite3 *db, struct buf *warning, struct err *err)
{
    int r = set_journal_mode(db, warning, err);
    r = r == 0 ? runs_sql_run(db,
                              "PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; "
                              "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "
                              "PRAGMA cache_size = -65536; PRAGMA cache_spill = OFF; "
                              "PRAGMA mmap_size = 0; PRAGMA legacy_alter_table = OFF",
                              err)
               : r;
    int64_t synchronous = 0;
    r = r == 0 ? runs_sql_number(db, "PRAGMA synchronous", &synchronous, err) : r;
    return r == 0 && synchronous != 2 ? err_set(err, -EIO, "synchronous is not FULL") : r;
}

static int migrate(struct sqlite3 *db, const char *path, struct runs_opened *opened,
                   struct err *err)
{
    int r = back_up(path, opened->from_version, err);
    for (int v = opened->from_version + 1; v <= RUNS_SCHEMA_VERSION && r == 0; v++) {
        r = in_transaction(db, v, err);
    }
    opened->found = RUNS_MIGRATED;
    return r;
}

static int settle(struct sqlite3 *db, const char *path, struct runs_opened *opened,
                  struct buf *warning, struct err *err)
{
    (void)sqlite3_busy_timeout(db, OPEN_BUSY_MS);
    opened->found = RUNS_GOOD;
    int r = read_version(db, &opened->from_version, err); /* before anything is changed */
    if (r == 0 && sqlite3_db_readonly(db, "main") != 0) {
        return err_set(err, -EACCES, "it cannot be written (its file or file system is read-only)");
    }
    r = r == 0 ? set_pragmas(db, warning, err) : r;
    if (r == 0 && opened->from_version == 0) {
        r = in_transaction(db, 0, err);
        opened->found = RUNS_MADE;
        opened->from_version = RUNS_SCHEMA_VERSION;
    } else if (r == 0 && opened->from_version < RUNS_SCHEMA_VERSION) {
        r = migrate(db, path, opened, err);
    } else if (r == 0) {
        r = runs_sql_run(db, side_tables_sql, err);
        r = r == 0 ? make_indexes(db, err) : r;
    }
    r = r == 0 ? runs_sql_run(db, meta_sql, err) : r;
    r = r == 0 ? runs_outcomes_make(db, err) : r;
    r = r == 0 ? runs_zones_make(db, err) : r;
    return r == 0 ? runs_zones_spare(db, err) : r;
}

int runs_schema_open(struct sqlite3 **db, const char *path, struct runs_opened *opened,
                     struct buf *warning, struct err *err)
{
    int code = sqlite3_open_v2(path, db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_EXRESCODE,
                               NULL);
    int r = code == SQLITE_OK ? settle(*db, path, opened, warning, err)
                              : runs_sql_error(*db, code, "open", err);
    if (r < 0) {
        (void)sqlite3_close(*db);
        *db = NULL;
        return err_wrap(err, r, "%s", path);
    }
    return 0;
}
