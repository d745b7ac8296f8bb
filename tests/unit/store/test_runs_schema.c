/*
 * Files of every older schema, with data, brought to version 6; interrupted; refused. The older schemas are made from what each version
 * added (docs/API.md): version 1 knew runs by their run_id.
 */
#include "runs_fixture.h"

#include "store/runs_schema.h"

static struct rf rf;

static int set_up(void **state)
{
    (void)state;
    rf_init(&rf);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rf_end(&rf);
    return 0;
}

/* ---- older files ---- */

static const char v1_sql[] =
    "CREATE TABLE agent_runs(run_id TEXT PRIMARY KEY, schema_version INTEGER DEFAULT 1,"
    " created_at TEXT DEFAULT (datetime('now')), updated_at TEXT, start_time TEXT NOT NULL,"
    " end_time TEXT, agent_name TEXT NOT NULL, agent_owner TEXT, job_type TEXT, status TEXT,"
    " product TEXT, platform TEXT, items_discovered INTEGER, items_succeeded INTEGER DEFAULT 0,"
    " items_failed INTEGER DEFAULT 0, items_skipped INTEGER DEFAULT 0, duration_ms INTEGER,"
    " input_summary TEXT, output_summary TEXT, source_ref TEXT, target_ref TEXT, error_summary "
    "TEXT,"
    " error_details TEXT, git_repo TEXT, git_branch TEXT, git_run_tag TEXT, host TEXT,"
    " environment TEXT, trigger_type TEXT, metrics_json TEXT, context_json TEXT,"
    " api_posted INTEGER DEFAULT 0, api_posted_at TEXT, api_retry_count INTEGER DEFAULT 0,"
    " parent_run_id TEXT);"
    "CREATE INDEX old_status ON agent_runs(status);"
    "CREATE TABLE run_events(id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL,"
    " event_type TEXT NOT NULL, timestamp TEXT NOT NULL, payload_json TEXT,"
    " FOREIGN KEY (run_id) REFERENCES agent_runs(run_id));"
    "CREATE TABLE schema_migrations(version INTEGER PRIMARY KEY,"
    " applied_at TEXT DEFAULT (datetime('now')), description TEXT);"
    "INSERT INTO schema_migrations(version, description) VALUES(1, 'initial');";
static const char *const added_sql[] = {
    [2] = "ALTER TABLE agent_runs ADD COLUMN insight_id TEXT;"
          "CREATE INDEX old_insight ON agent_runs(insight_id);",
    [3] = "ALTER TABLE agent_runs ADD COLUMN product_family TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN subdomain TEXT;",
    [4] = "ALTER TABLE agent_runs ADD COLUMN git_commit_hash TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN git_commit_source TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN git_commit_author TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN git_commit_timestamp TEXT;",
    [5] = "ALTER TABLE agent_runs ADD COLUMN website TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN website_section TEXT;"
          "ALTER TABLE agent_runs ADD COLUMN item_name TEXT;",
};

static void make_old(int version)
{
    char sql[512];
    rf_sql(rf.db, v1_sql);
    for (int v = 2; v <= version; v++) {
        rf_sql(rf.db, added_sql[v]);
        (void)snprintf(sql, sizeof sql,
                       "INSERT INTO schema_migrations(version, description) VALUES(%d, 'v%d')", v,
                       v);
        rf_sql(rf.db, sql);
    }
    rf_sql(rf.db,
           "INSERT INTO agent_runs(run_id, start_time, agent_name, job_type, status, created_at,"
           " metrics_json, items_succeeded, duration_ms) VALUES"
           " ('r1', '2025-01-01', 'a', 'j', 'completed', '2025-01-01T00:00:00', '{\"n\":1}', 3, 9),"
           " ('r2', '2025-01-02', 'b', 'j', 'failed', '2025-01-02T00:00:00', NULL, -4, NULL),"
           " ('r3', '2025-01-03', 'c', NULL, NULL, NULL, NULL, NULL, 1);"
           "INSERT INTO run_events(run_id, event_type, timestamp) VALUES('r1', 'x', 't')");
    if (version >= 5) {
        rf_sql(rf.db, "UPDATE agent_runs SET insight_id = 'i', subdomain = 's', "
                      "git_commit_hash = 'abcdef0', website = 'w' WHERE run_id = 'r2'");
    }
}

static int try_schema(void)
{
    struct sqlite3 *db = NULL;
    char text[512];
    struct buf warning;
    buf_init(&warning, text, sizeof text - 1);
    rf.err = (struct err){0};
    rf.opened = (struct runs_opened){.found = RUNS_GOOD};
    int r = runs_schema_open(&db, rf.db, &rf.opened, &warning, &rf.err);
    (void)snprintf(rf.opened.warning, sizeof rf.opened.warning, "%.*s", (int)warning.bytes, text);
    (void)sqlite3_close(db);
    return r;
}

static void open_schema(void)
{
    if (try_schema() < 0) {
        fail_msg("%s", rf.err.text);
    }
}

static char *schema_of(const char *path)
{
    return rf_query(path, "SELECT type, tbl_name, name, sql FROM sqlite_master "
                          "WHERE name NOT LIKE 'sqlite_%' AND tbl_name NOT IN "
                          "('run_events', 'schema_migrations') ORDER BY 1, 2, 3");
}

/* The schema of a file that was migrated is that of one that was made. */
static void expect_schema_of_a_new_file(void)
{
    char fresh[sizeof rf.db];
    char kept[sizeof rf.db];
    memcpy(kept, rf.db, sizeof kept);
    (void)snprintf(fresh, sizeof fresh, "%s/fresh.sqlite", rf.dir);
    (void)snprintf(rf.db, sizeof rf.db, "%s", fresh);
    struct runs_opened opened = rf.opened;
    (void)unlink(fresh);
    open_schema();
    rf.opened = opened;
    memcpy(rf.db, kept, sizeof kept);
    char *as_made = schema_of(fresh);
    char *as_migrated = schema_of(rf.db);
    /* RENAME puts the name in quotes */
    char *quoted = strstr(as_migrated, "CREATE TABLE \"agent_runs\"(");
    if (quoted != NULL) {
        memmove(quoted + 13, quoted + 14, strlen(quoted + 13));
        quoted = strstr(as_migrated, "CREATE TABLE agent_runs\"(");
        memmove(quoted + 23, quoted + 24, strlen(quoted + 23));
    }
    assert_string_equal(as_made, as_migrated);
    free(as_made);
    free(as_migrated);
}

static void expect_migrated_rows(int version)
{
    rf_expect(rf.db,
              "SELECT id, run_id, job_type, status, items_succeeded, duration_ms, metrics_json, "
              "created_at IS NOT NULL, length(event_id), "
              "event_id LIKE '________-____-4___-____-____________' FROM agent_runs "
              "ORDER BY id",
              "1|r1|j|success|3|9|{\"n\":1}|1|36|1\n"
              "2|r2|j|failure|0|0|~|1|36|1\n"
              "3|r3||running|0|1|~|1|36|1\n");
    assert_int_equal(rf_number(rf.db, "SELECT count(DISTINCT event_id) FROM agent_runs"), 3);
    rf_expect(rf.db, "SELECT run_id FROM run_events", "r1\n");
    rf_expect(rf.db, "SELECT seq FROM sqlite_sequence WHERE name = 'agent_runs'", "3\n");
    rf_expect(rf.db, "SELECT max(version) FROM schema_migrations", "6\n");
    rf_expect(rf.db, "PRAGMA integrity_check", "ok\n");
    if (version >= 5) {
        rf_expect(rf.db,
                  "SELECT insight_id, subdomain, git_commit_hash, website FROM agent_runs "
                  "WHERE run_id = 'r2'",
                  "i|s|abcdef0|w\n");
    }
}

static void every_older_version_is_brought_up_after_a_copy(void **state)
{
    (void)state;
    for (int version = 1; version <= 5; version++) {
        char backup[200];
        make_old(version);
        char *before = rf_query(rf.db, "SELECT * FROM agent_runs ORDER BY rowid");
        open_schema();
        assert_int_equal(rf.opened.found, RUNS_MIGRATED);
        assert_int_equal(rf.opened.from_version, version);
        expect_migrated_rows(version);
        rf_expect(rf.db, "SELECT group_concat(version) FROM schema_migrations", "1,2,3,4,5,6\n");
        expect_schema_of_a_new_file();
        (void)snprintf(backup, sizeof backup, "%s.v%d.backup", rf.db, version);
        char *copied = rf_query(backup, "SELECT * FROM agent_runs ORDER BY rowid");
        assert_string_equal(before, copied);
        assert_int_equal(rf_number(backup, "SELECT max(version) FROM schema_migrations"), version);
        free(before);
        free(copied);
        open_schema(); /* nothing more to do */
        assert_int_equal(rf.opened.found, RUNS_GOOD);
        assert_int_equal(unlink(rf.db), 0);
    }
}

static void a_file_that_does_not_say_its_version_is_judged_by_its_columns(void **state)
{
    (void)state;
    for (int version = 1; version <= 5; version++) {
        make_old(version);
        rf_sql(rf.db, "DROP TABLE schema_migrations");
        open_schema();
        assert_int_equal(rf.opened.from_version, version);
        expect_migrated_rows(version);
        assert_int_equal(unlink(rf.db), 0);
    }
}

static void event_ids_that_are_there_and_unique_are_kept(void **state)
{
    (void)state;
    make_old(5);
    rf_sql(rf.db, "ALTER TABLE agent_runs ADD COLUMN event_id TEXT;"
                  "UPDATE agent_runs SET event_id = 'same' WHERE run_id IN ('r1', 'r2')");
    open_schema();
    rf_expect(rf.db, "SELECT event_id = 'same', length(event_id) = 36 FROM agent_runs ORDER BY id",
              "1|0\n0|1\n0|1\n");
    expect_schema_of_a_new_file();
}

static void an_older_copy_is_never_overwritten(void **state)
{
    (void)state;
    char path[200];
    make_old(2);
    open_schema();
    assert_int_equal(unlink(rf.db), 0);
    make_old(2);
    rf_sql(rf.db, "UPDATE agent_runs SET host = 'second'");
    open_schema();
    (void)snprintf(path, sizeof path, "%s.v2.backup", rf.db);
    assert_int_equal(rf_number(path, "SELECT count(*) FROM agent_runs WHERE host = 'second'"), 0);
    (void)snprintf(path, sizeof path, "%s.v2.backup.2", rf.db);
    assert_int_equal(rf_number(path, "SELECT count(*) FROM agent_runs WHERE host = 'second'"), 3);
}

static void killed_between_steps_the_next_start_goes_on(void **state)
{
    (void)state;
    unsigned killed = 0;
    for (unsigned round = 0; round < 40; round++) {
        make_old(1);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(try_schema() < 0 ? 1 : 0);
        }
        struct timespec wait = {.tv_nsec = (long)(round * 700 * NS_US)};
        (void)ppoll(NULL, 0, &wait, NULL);
        (void)kill(child, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status) ? 1 : 0;
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        open_schema();
        assert_true(rf.opened.found == RUNS_GOOD || rf.opened.found == RUNS_MIGRATED);
        expect_migrated_rows(1);
        expect_schema_of_a_new_file();
        rf_remove(rf.dir);
        assert_int_equal(mkdir(rf.dir, 0755), 0);
    }
    assert_true(killed > 5);
}

/* ---- refused, untouched ---- */

static void a_newer_version_is_refused_and_untouched(void **state)
{
    (void)state;
    open_schema();
    rf_sql(rf.db, "INSERT INTO schema_migrations(version) VALUES(7); PRAGMA journal_mode = WAL");
    char *before = rf_text(rf.db);
    struct stat is;
    assert_int_equal(stat(rf.db, &is), 0);
    assert_int_equal(try_schema(), ERR_VERSION);
    assert_non_null(strstr(rf.err.text, "version 7"));
    char *after = rf_text(rf.db);
    assert_memory_equal(before, after, (size_t)is.st_size);
    mem_free(before);
    mem_free(after);
}

static void a_file_that_is_no_database_is_refused_and_untouched(void **state)
{
    (void)state;
    static const char text[] = "these are my notes, which happen to have this name, and which are "
                               "longer than the header of a database, so that nobody takes them "
                               "for an empty one\n";
    int fd = open(rf.db, O_WRONLY | O_CREAT, 0644);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    (void)close(fd);
    assert_int_equal(try_schema(), ERR_CORRUPT);
    assert_non_null(strstr(rf.err.text, rf.db));
    char *after = rf_text(rf.db);
    assert_string_equal(after, text);
    mem_free(after);
}

static void a_wal_file_is_warned_of_and_set_to_delete(void **state)
{
    (void)state;
    open_schema();
    rf_sql(rf.db, "PRAGMA journal_mode = WAL; INSERT INTO commits(commit_hash) VALUES('a')");
    open_schema();
    assert_non_null(strstr(rf.opened.warning, "journal_mode was wal"));
    rf_expect(rf.db, "PRAGMA journal_mode", "delete\n");
    rf_expect(rf.db, "SELECT commit_hash FROM commits", "a\n");
    open_schema();
    assert_string_equal(rf.opened.warning, "");
}

static void indexes_under_other_names_will_do(void **state)
{
    (void)state;
    open_schema();
    rf_sql(rf.db, "DROP INDEX idx_runs_status; DROP INDEX idx_runs_website;"
                  "CREATE INDEX mine ON agent_runs(status)");
    open_schema();
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND "
                                      "sql IS NOT NULL AND name NOT LIKE 'sluice_%'"),
                     16);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM sqlite_master WHERE name IN ('mine', "
                                      "'idx_runs_website')"),
                     2);
}

/* Root may write everywhere, so somebody else tries. */
static void a_directory_that_cannot_be_written_is_said(void **state)
{
    (void)state;
    open_schema();
    assert_int_equal(chmod(rf.db, 0444), 0);
    assert_int_equal(chmod(rf.dir, 0555), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(77);
        }
        int r = try_schema();
        _exit(r == -EACCES && strstr(rf.err.text, rf.db) != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(rf.dir, 0755), 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("cannot become another user: not checked\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void checks_and_uniqueness_hold_for_everybody(void **state)
{
    (void)state;
    static const char *const bad[] = {"items_discovered", "items_succeeded", "items_failed",
                                      "items_skipped",    "duration_ms",     "api_retry_count"};
    char sql[256];
    open_schema();
    rf_sql(rf.db, "INSERT INTO agent_runs(event_id, run_id, start_time, agent_name, job_type) "
                  "VALUES('e', 'r', 's', 'a', 'j')");
    rf_expect(
        rf.db,
        "SELECT schema_version, status, items_failed, duration_ms, api_posted, "
        "created_at = datetime(created_at), updated_at = datetime(updated_at) FROM agent_runs",
        "6|running|0|0|0|1|1\n");
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rf.db, &db), SQLITE_OK);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        (void)snprintf(sql, sizeof sql, "UPDATE agent_runs SET %s = -1", bad[i]);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_CONSTRAINT);
    }
    assert_int_equal(sqlite3_exec(db, "UPDATE agent_runs SET status = 'failed'", NULL, NULL, NULL),
                     SQLITE_CONSTRAINT);
    assert_int_equal(sqlite3_exec(db,
                                  "INSERT INTO agent_runs(event_id, run_id, start_time, "
                                  "agent_name, job_type) VALUES('e', 'r', 's', 'a', 'j')",
                                  NULL, NULL, NULL),
                     SQLITE_CONSTRAINT);
    (void)sqlite3_close(db);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(every_older_version_is_brought_up_after_a_copy),
        CASE(a_file_that_does_not_say_its_version_is_judged_by_its_columns),
        CASE(event_ids_that_are_there_and_unique_are_kept),
        CASE(an_older_copy_is_never_overwritten),
        CASE(killed_between_steps_the_next_start_goes_on),
        CASE(a_newer_version_is_refused_and_untouched),
        CASE(a_file_that_is_no_database_is_refused_and_untouched),
        CASE(a_wal_file_is_warned_of_and_set_to_delete),
        CASE(indexes_under_other_names_will_do),
        CASE(a_directory_that_cannot_be_written_is_said),
        CASE(checks_and_uniqueness_hold_for_everybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
