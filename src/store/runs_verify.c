#include "store/runs_verify.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/runs_schema.h"
#include "store/sqlite_copy.h"

struct verify_source {
    const char *node;
    const struct sqlite_faults *faults;
};

/* What other tools have added behind them is their business. */
static const char columns_sql[] =
    "SELECT instr(group_concat(name) || ',', "
    "'id,event_id,run_id,schema_version,created_at,updated_at,start_time,end_time,agent_name,"
    "agent_owner,job_type,status,product,product_family,platform,subdomain,website,website_section,"
    "item_name,items_discovered,items_succeeded,items_failed,items_skipped,duration_ms,"
    "input_summary,output_summary,source_ref,target_ref,error_summary,error_details,git_repo,"
    "git_branch,git_commit_hash,git_run_tag,git_commit_source,git_commit_author,"
    "git_commit_timestamp,host,environment,trigger_type,metrics_json,context_json,api_posted,"
    "api_posted_at,api_retry_count,insight_id,parent_run_id,') = 1 "
    "FROM (SELECT name FROM pragma_table_info('agent_runs') ORDER BY cid)";

/* Missing in an older file that nobody has served yet: then there is no position. */
static int read_position(struct runs_verified *verified, struct sqlite3 *db, const char *node,
                         struct err *err)
{
    char found[64] = "";
    int64_t has_meta = 0;
    int r = runs_sql_number(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'sluice_meta'",
                            &has_meta, err);
    if (r < 0 || has_meta == 0) {
        return r;
    }
    r = runs_meta_get(db, "node", found, sizeof found, err);
    verified->has_position = r == 1 && strcmp(found, node) == 0;
    return r < 0 ? r : runs_meta_get_u64(db, "applied_lsn", &verified->applied_lsn, err);
}

static int check_journal(struct sqlite3 *db, const struct sqlite_faults *faults, struct err *err)
{
    int64_t is_delete = 0;
    int r = runs_sql_number(db, "SELECT journal_mode = 'delete' FROM pragma_journal_mode()",
                            &is_delete, err);
    if (r == 0 && is_delete == 0) {
        sqlite_file_tell(faults, "journal_mode is not DELETE (the next start sets it)");
    }
    return r;
}

/* An older version is no fault: the next start brings it up. */
static int check_schema(struct runs_verified *verified, struct sqlite3 *db,
                        const struct sqlite_faults *faults, struct err *err)
{
    int64_t has_columns = 0;
    int r =
        runs_sql_number(db, "SELECT max(version) FROM schema_migrations", &verified->version, err);
    if (r < 0 || verified->version < RUNS_SCHEMA_VERSION) {
        return r;
    }
    if (verified->version > RUNS_SCHEMA_VERSION) {
        sqlite_file_tell(faults, "schema version %" PRId64 " is newer than this Sluice knows (%d)",
                         verified->version, RUNS_SCHEMA_VERSION);
        return 0;
    }
    r = runs_sql_number(db, columns_sql, &has_columns, err);
    if (r == 0 && has_columns == 0) {
        sqlite_file_tell(faults, "agent_runs does not have the columns of schema version %d",
                         RUNS_SCHEMA_VERSION);
    }
    return r;
}

static int check_content(struct runs_verified *verified, struct sqlite3 *db,
                         const struct sqlite_faults *faults, struct err *err)
{
    int r = sqlite_file_check(db, faults, err);
    if (r != 0) { /* 1: told */
        return r < 0 ? r : 0;
    }
    r = check_schema(verified, db, faults, err);
    r = r < 0 ? r : runs_sql_number(db, "SELECT count(*) FROM agent_runs", &verified->runs, err);
    return r < 0 ? r
                 : runs_sql_number(db, "SELECT count(*) FROM run_events", &verified->events, err);
}

/* A copy takes half of the free space at most: the log may be on the same disk. */
static int check_room(const char *path, struct err *err)
{
    struct stat file;
    struct statvfs disk;
    if (stat(path, &file) < 0 || statvfs(path, &disk) < 0) {
        int r = -errno;
        return err_set(err, r, "%s", err_name(r));
    }
    uint64_t wanted = 2 * (uint64_t)file.st_size;
    uint64_t there = (uint64_t)disk.f_bavail * disk.f_frsize;
    return wanted <= there
               ? 0
               : err_set(err, -ENOSPC, "%" PRIu64 " MiB are free, twice its size would be %" PRIu64,
                         there >> 20, wanted >> 20);
}

/* Where that cannot be: *copy is NULL, and it is said why. */
static void make_copy(struct sqlite3 **copy, struct sqlite3 *db, const char *path,
                      const struct sqlite_faults *faults)
{
    char line[sizeof(struct err) + 256];
    struct err why = {0};
    int r = check_room(path, &why);
    r = r == 0 ? sqlite_copy_nameless(copy, db, path, &why) : r;
    if (r < 0 && faults->on_note != NULL) {
        (void)snprintf(line, sizeof line,
                       "%s: no copy to check (%s): it is checked in place, and agent runs wait "
                       "until that is done",
                       faults->name, why.text);
        faults->on_note(faults->context, line);
    }
}

static int check_all(struct runs_verified *verified, struct sqlite3 *db, const char *path,
                     const struct verify_source *source, struct err *err)
{
    struct sqlite3 *copy = NULL;
    int has_wal = sqlite_copy_has_wal(db, err);
    if (has_wal < 0) {
        return has_wal;
    }
    if (has_wal == 0) { /* else readers hold up nobody */
        make_copy(&copy, db, path, source->faults);
    }
    struct sqlite3 *checked = copy != NULL ? copy : db;
    int r = check_journal(db, source->faults, err);
    r = r < 0 ? r : read_position(verified, checked, source->node, err);
    r = r < 0 ? r : check_content(verified, checked, source->faults, err);
    (void)sqlite3_close(copy);
    return r;
}

int runs_verify(struct runs_verified *verified, const char *path, const char *node,
                const struct sqlite_faults *faults, struct err *err)
{
    struct sqlite3 *db = NULL;
    const struct verify_source source = {node, faults};
    *verified = (struct runs_verified){.is_there = access(path, F_OK) == 0};
    if (!verified->is_there) {
        return 0;
    }
    int r = sqlite_file_open(&db, path, err);
    if (r == 0) {
        r = check_all(verified, db, path, &source, err);
        (void)sqlite3_close(db);
    }
    if (r == ERR_CORRUPT) { /* no database, or not this one */
        sqlite_file_tell(faults, "%s", err->text);
        verified->has_position = false;
        return 0;
    }
    return r;
}

uint64_t runs_seen(const char *path, const struct ulid *node)
{
    struct runs_verified verified = {.is_there = access(path, F_OK) == 0};
    struct sqlite3 *db = NULL;
    char text[ULID_TEXT_BYTES + 1] = "";
    struct err ignored = {0};
    if (!verified.is_there || sqlite_file_open(&db, path, &ignored) < 0) {
        return 0;
    }
    ulid_format(text, node);
    int r = read_position(&verified, db, text, &ignored);
    (void)sqlite3_close(db);
    return r == 0 && verified.has_position ? verified.applied_lsn : 0;
}

void runs_verify_position(const struct runs_verified *verified, uint64_t last_lsn,
                          const struct sqlite_faults *faults)
{
    if (verified->has_position && verified->applied_lsn > last_lsn) {
        sqlite_file_tell(faults,
                         "it has applied LSN %" PRIu64 ", but the log ends at %" PRIu64
                         ": the log has lost records",
                         verified->applied_lsn, last_lsn);
    }
}
