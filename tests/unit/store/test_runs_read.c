/* runs_read: answers to questions about agent runs, judged against what SQLite's own tools would find in the same file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "store/runs_read_parts.h"
#include "store/runs_zones.h"

/* api.md §2.1, the part that reads touch. */
static const char schema[] =
    "CREATE TABLE agent_runs(id INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,"
    "run_id TEXT NOT NULL, schema_version INTEGER DEFAULT 6,"
    "created_at TEXT NOT NULL DEFAULT (datetime('now')), updated_at TEXT DEFAULT (datetime('now')),"
    "start_time TEXT NOT NULL, end_time TEXT, agent_name TEXT NOT NULL, agent_owner TEXT,"
    "job_type TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'running', product TEXT,"
    "product_family TEXT, platform TEXT, subdomain TEXT, website TEXT, website_section TEXT,"
    "item_name TEXT, items_discovered INTEGER DEFAULT 0, items_succeeded INTEGER DEFAULT 0,"
    "items_failed INTEGER DEFAULT 0, items_skipped INTEGER DEFAULT 0,"
    "duration_ms INTEGER DEFAULT 0, input_summary TEXT, output_summary TEXT, source_ref TEXT,"
    "target_ref TEXT, error_summary TEXT, error_details TEXT, git_repo TEXT, git_branch TEXT,"
    "git_commit_hash TEXT, git_run_tag TEXT, git_commit_source TEXT, git_commit_author TEXT,"
    "git_commit_timestamp TEXT, host TEXT, environment TEXT, trigger_type TEXT, metrics_json TEXT,"
    "context_json TEXT, api_posted INTEGER DEFAULT 0, api_posted_at TEXT,"
    "api_retry_count INTEGER DEFAULT 0, insight_id TEXT, parent_run_id TEXT);"
    "CREATE INDEX i1 ON agent_runs(event_id); CREATE INDEX i2 ON agent_runs(agent_name);"
    "CREATE INDEX i3 ON agent_runs(status); CREATE INDEX i4 ON agent_runs(start_time);"
    "CREATE INDEX i5 ON agent_runs(created_at DESC);"
    "CREATE INDEX i6 ON agent_runs(agent_name,status,created_at DESC);"
    "CREATE INDEX i7 ON agent_runs(agent_name,created_at DESC);"
    "CREATE INDEX i8 ON agent_runs(job_type); CREATE INDEX i9 ON agent_runs(parent_run_id);"
    "CREATE INDEX ia ON agent_runs(api_posted); CREATE INDEX ib ON agent_runs(insight_id);"
    "CREATE INDEX ic ON agent_runs(git_commit_hash); CREATE INDEX id_ ON agent_runs(website);"
    "CREATE INDEX ie ON agent_runs(website,website_section);";

struct fixture {
    char dir[64];
    char path[96];
    sqlite3 *db; /* the outside tool */
    struct runs_reader *reader;
    uint8_t *memory;
    struct buf out;
};

#define OUT_BYTES MIB(8)

static size_t fake_repo_url(char *out, struct slice repo)
{
    return repo.bytes == 0 ? 0 : (size_t)snprintf(out, 64, "https://repo");
}

static size_t fake_commit_url(char *out, struct slice repo, struct slice hash)
{
    return repo.bytes == 0 || hash.bytes == 0 ? 0 : (size_t)snprintf(out, 64, "https://commit");
}

static const struct runs_read_model model = {
    .repo_url = fake_repo_url, .commit_url = fake_commit_url, .json_check = json_validate};

static void run_sql(struct fixture *fixture, const char *sql)
{
    char *why = NULL;
    if (sqlite3_exec(fixture->db, sql, NULL, NULL, &why) != SQLITE_OK) {
        fail_msg("%s: %s", why, sql);
    }
}

static void open_file(struct fixture *fixture, const char *tables)
{
    struct err err = {0};
    *fixture = (struct fixture){.dir = "/tmp/sluice-runs-read-XXXXXX"};
    assert_non_null(mkdtemp(fixture->dir));
    (void)snprintf(fixture->path, sizeof fixture->path, "%s/runs.sqlite", fixture->dir);
    assert_int_equal(sqlite3_open(fixture->path, &fixture->db), SQLITE_OK);
    run_sql(fixture, tables);
    assert_int_equal(runs_reader_open(&fixture->reader, fixture->path, &model, &err), 0);
    fixture->memory = mem_alloc(OUT_BYTES);
    buf_init(&fixture->out, fixture->memory, OUT_BYTES);
}

static void close_file(struct fixture *fixture)
{
    runs_reader_close(fixture->reader);
    sqlite3_close(fixture->db);
    (void)unlink(fixture->path);
    (void)rmdir(fixture->dir);
    mem_free(fixture->memory);
}

static bool on_put(void *context, struct slice piece)
{
    struct fixture *fixture = context;
    buf_put_slice(&fixture->out, piece);
    return !fixture->out.is_truncated;
}

static bool on_put_refused(void *context, struct slice piece)
{
    (void)context;
    (void)piece;
    return false;
}

/* The answer to a list, as a C string; it is valid JSON. */
static const char *ask_list(struct fixture *fixture, struct runs_filter filter)
{
    struct err err = {0};
    uint64_t offset = 0;
    const char *why = NULL;
    filter.limit = filter.limit == 0 ? 100 : filter.limit;
    buf_reset(&fixture->out);
    if (runs_list(fixture->reader, &filter, on_put, fixture, &err) != 0) {
        fail_msg("%s", err.text);
    }
    if (json_validate(fixture->memory, fixture->out.bytes, &offset, &why) != 0) {
        fail_msg("%s at %llu", why, (unsigned long long)offset);
    }
    fixture->memory[fixture->out.bytes] = 0;
    return (const char *)fixture->memory;
}

static const char *ask_get(struct fixture *fixture, const char *event_id)
{
    struct err err = {0};
    uint64_t offset = 0;
    const char *why = NULL;
    struct slice id = {(const uint8_t *)event_id, strlen(event_id)};
    buf_reset(&fixture->out);
    int found = runs_get(fixture->reader, id, on_put, fixture, &err);
    if (found == 0) {
        return NULL;
    }
    assert_int_equal(found, 1);
    if (json_validate(fixture->memory, fixture->out.bytes, &offset, &why) != 0) {
        fail_msg("%s at %llu", why, (unsigned long long)offset);
    }
    fixture->memory[fixture->out.bytes] = 0;
    return (const char *)fixture->memory;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL) {
        fail_msg("no %s in %s", part, text);
    }
}

/* ---- items ---- */

static void item_has_all_columns_in_order_then_the_urls(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture, "INSERT INTO agent_runs(event_id,run_id,created_at,updated_at,start_time,"
                      "agent_name,job_type) VALUES('e','r','c','u','s','a','j')");
    assert_string_equal(
        ask_get(&fixture, "e"),
        "{\"id\":1,\"event_id\":\"e\",\"run_id\":\"r\",\"schema_version\":6,\"created_at\":\"c\","
        "\"updated_at\":\"u\",\"start_time\":\"s\",\"end_time\":null,\"agent_name\":\"a\","
        "\"agent_owner\":null,\"job_type\":\"j\",\"status\":\"running\",\"product\":null,"
        "\"product_family\":null,\"platform\":null,\"subdomain\":null,\"website\":null,"
        "\"website_section\":null,\"item_name\":null,\"items_discovered\":0,\"items_succeeded\":0,"
        "\"items_failed\":0,\"items_skipped\":0,\"duration_ms\":0,\"input_summary\":null,"
        "\"output_summary\":null,\"source_ref\":null,\"target_ref\":null,\"error_summary\":null,"
        "\"error_details\":null,\"git_repo\":null,\"git_branch\":null,\"git_commit_hash\":null,"
        "\"git_run_tag\":null,\"git_commit_source\":null,\"git_commit_author\":null,"
        "\"git_commit_timestamp\":null,\"host\":null,\"environment\":null,\"trigger_type\":null,"
        "\"metrics_json\":null,\"context_json\":null,\"api_posted\":false,\"api_posted_at\":null,"
        "\"api_retry_count\":0,\"insight_id\":null,\"parent_run_id\":null,\"commit_url\":null,"
        "\"repo_url\":null}");
    assert_null(ask_get(&fixture, "E"));
    assert_null(ask_get(&fixture, ""));
    close_file(&fixture);
}

static void json_columns_are_objects_byte_for_byte_or_raw_with_the_reason(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture,
            "INSERT INTO agent_runs(event_id,run_id,start_time,agent_name,job_type,metrics_json,"
            "context_json) VALUES('e','r','s','a','j','{\"b\": 1.50,\"a\":9223372036854775807}',"
            "'{\"x\":NaN}'),('f','r','s','a','j','',7)");
    const char *item = ask_get(&fixture, "e");
    assert_has(item, "\"metrics_json\":{\"b\": 1.50,\"a\":9223372036854775807},");
    assert_has(item, "\"context_json\":\"{\\\"x\\\":NaN}\",");
    assert_has(item, "\"parent_run_id\":null,\"context_json_parse_error\":\"");
    assert_null(strstr(item, "metrics_json_parse_error"));
    item = ask_get(&fixture, "f");
    assert_has(item, "\"metrics_json\":\"\",\"context_json\":7,");
    assert_has(item, "\"metrics_json_parse_error\":\"");
    close_file(&fixture);
}

static void values_of_other_tools_are_shown_as_what_they_are(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture,
            "INSERT INTO agent_runs(event_id,run_id,start_time,agent_name,job_type,host,product,"
            "platform,duration_ms,items_failed,items_skipped,api_posted,git_repo,git_commit_hash) "
            "VALUES('e','r','s','a','j',x'ff41',CAST(x'c3' AS TEXT),'\"\\'||char(10),0.1,9e999,"
            "-9223372036854775808,5,'g','h')");
    const char *item = ask_get(&fixture, "e");
    assert_has(item, "\"host\":\"\xef\xbf\xbd"
                     "A\"");
    assert_has(item, "\"product\":\"\xef\xbf\xbd\"");
    assert_has(item, "\"platform\":\"\\\"\\\\\\n\"");
    assert_has(item, "\"duration_ms\":0.1,");
    assert_has(item, "\"items_failed\":null,\"items_skipped\":-9223372036854775808,");
    assert_has(item, "\"api_posted\":true");
    assert_has(item, "\"commit_url\":\"https://commit\",\"repo_url\":\"https://repo\"}");
    close_file(&fixture);
}

/* Longer than any buffer inside, with characters of every length across every border. */
static void long_texts_come_whole(void **state)
{
    static const char *const parts[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\""};
    struct fixture fixture;
    sqlite3_stmt *insert = NULL;
    uint8_t *text = mem_alloc(300000);
    uint8_t *back = mem_alloc(300000);
    struct buf long_text;
    (void)state;
    open_file(&fixture, schema);
    buf_init(&long_text, text, 300000);
    for (unsigned i = 0; long_text.bytes < 290000; i++) {
        buf_put_text(&long_text, parts[(i * 7 + i / 11) % ARRAY_COUNT(parts)]);
    }
    assert_int_equal(sqlite3_prepare_v2(fixture.db,
                                        "INSERT INTO agent_runs(event_id,run_id,start_time,"
                                        "agent_name,job_type,error_details) "
                                        "VALUES('e','r','s','a','j',?)",
                                        -1, &insert, NULL),
                     SQLITE_OK);
    sqlite3_bind_text(insert, 1, (const char *)text, (int)long_text.bytes, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
    sqlite3_finalize(insert);
    const char *item = ask_get(&fixture, "e");
    const char *value = strstr(item, "\"error_details\":\"");
    assert_non_null(value);
    value += strlen("\"error_details\":\"");
    const char *end = strstr(value, "\",\"git_repo\"");
    assert_non_null(end);
    struct slice raw = {(const uint8_t *)value, (size_t)(end - value)};
    assert_int_equal(json_unescape(raw, back, 300000), long_text.bytes);
    assert_memory_equal(back, text, long_text.bytes);
    mem_free(text);
    mem_free(back);
    close_file(&fixture);
}

static void git_columns_are_cut_to_room(void **state)
{
    struct fixture fixture;
    struct err err = {0};
    char repo[8];
    char hash[8];
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture, "INSERT INTO agent_runs(event_id,run_id,start_time,agent_name,job_type,"
                      "git_repo) VALUES('e','r','s','a','j','0123456789')");
    assert_int_equal(runs_git(fixture.reader, SLICE_LITERAL("e"), repo, hash, sizeof repo, &err),
                     1);
    assert_string_equal(repo, "0123456");
    assert_string_equal(hash, "");
    assert_int_equal(runs_git(fixture.reader, SLICE_LITERAL("none"), repo, hash, sizeof repo, &err),
                     0);
    close_file(&fixture);
}

/* ---- lists against a slow reference ---- */

/* Rows whose values depend on their number alone; some are rare, times repeat. */
static void insert_rows(struct fixture *fixture, unsigned count)
{
    char sql[2048];
    (void)snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%u) "
        "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,job_type,status) "
        "SELECT 'e'||i,'r'||i, strftime('%%Y-%%m-%%dT%%H:%%M:%%S.000000+00:00',1700000000+"
        "(i*7919)%%%u/3,'unixepoch'),"
        "strftime('%%Y-%%m-%%dT%%H:%%M:%%SZ',1700000000+(i*104729)%%%u,'unixepoch'),"
        "'agent-'||(i%%7), CASE WHEN i%%1000=0 THEN 'rare' ELSE 'job-'||(i%%5) END,"
        "CASE WHEN i%%997=0 THEN 'timeout' WHEN i%%3=0 THEN 'failure' ELSE 'success' END FROM n",
        count, count, count);
    run_sql(fixture, "BEGIN");
    run_sql(fixture, sql);
    run_sql(fixture, "COMMIT");
}

static struct slice slice_of(const char *text)
{
    return text == NULL ? (struct slice){0} : (struct slice){(const uint8_t *)text, strlen(text)};
}

static const char *text_or_null(struct slice text)
{
    return text.bytes == 0 ? NULL : (const char *)text.data;
}

/* The same question, put so that no index serves it. */
static void reference_ids(struct fixture *fixture, const struct runs_filter *filter,
                          struct buf *ids)
{
    sqlite3_stmt *row = NULL;
    const char *values[] = {
        text_or_null(filter->agent_name),    text_or_null(filter->status),
        text_or_null(filter->job_type),      text_or_null(filter->start_time_from),
        text_or_null(filter->start_time_to), text_or_null(filter->created_before),
        text_or_null(filter->created_after)};
    assert_int_equal(
        sqlite3_prepare_v2(
            fixture->db,
            "SELECT id FROM agent_runs NOT INDEXED WHERE (?1 IS NULL OR +agent_name=?1) AND "
            "(?2 IS NULL OR +status=?2) AND (?3 IS NULL OR +job_type=?3) AND "
            "(?4 IS NULL OR +start_time>=?4) AND (?5 IS NULL OR +start_time<=?5) AND "
            "(?6 IS NULL OR +created_at<?6) AND (?7 IS NULL OR +created_at>?7) "
            "ORDER BY +created_at DESC,+id LIMIT ?8 OFFSET ?9",
            -1, &row, NULL),
        SQLITE_OK);
    for (int i = 0; i < 7; i++) {
        if (values[i] != NULL) {
            sqlite3_bind_text(row, i + 1, values[i], -1, SQLITE_STATIC);
        }
    }
    sqlite3_bind_int64(row, 8, filter->limit);
    sqlite3_bind_int64(row, 9, (int64_t)filter->offset);
    buf_reset(ids);
    while (sqlite3_step(row) == SQLITE_ROW) {
        buf_printf(ids, "%lld ", (long long)sqlite3_column_int64(row, 0));
    }
    sqlite3_finalize(row);
}

static void answered_ids(const char *answer, struct buf *ids)
{
    buf_reset(ids);
    for (const char *at = strstr(answer, "{\"id\":"); at != NULL; at = strstr(at + 1, "{\"id\":")) {
        buf_printf(ids, "%lld ", strtoll(at + 6, NULL, 10));
    }
}

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Random filters, pages and bounds within seconds of 1700000000. */
static void list_agrees(struct fixture *fixture, uint64_t seed, unsigned rounds)
{
    static const char *const agents[] = {NULL, "agent-0", "agent-3", "nobody"};
    static const char *const some[] = {NULL, "success", "failure", "timeout", "partial"};
    static const char *const jobs[] = {NULL, "job-0", "job-4", "rare", "none"};
    char times[4][40];
    uint8_t *memory = mem_alloc(MIB(1));
    struct buf expected;
    struct buf found;
    print_message("seed %llu\n", (unsigned long long)seed);
    buf_init(&expected, memory, MIB(1) / 2);
    buf_init(&found, memory + MIB(1) / 2, MIB(1) / 2);
    for (unsigned round = 0; round < rounds; round++) {
        struct runs_filter filter = {
            .agent_name = slice_of(agents[random_next(&seed) % 4]),
            .status = slice_of(some[random_next(&seed) % 5]),
            .job_type = slice_of(jobs[random_next(&seed) % 5]),
            .limit = 1 + (uint32_t)(random_next(&seed) % 50),
            .offset = random_next(&seed) % 3 == 0 ? random_next(&seed) % 3000 : 0,
        };
        struct slice *const places[] = {&filter.created_before, &filter.created_after,
                                        &filter.start_time_from, &filter.start_time_to};
        for (unsigned i = 0; i < 4; i++) {
            time_t at = 1700000000 + (time_t)(random_next(&seed) % (i < 2 ? 7000 : 21000));
            struct tm tm;
            /* As the rows have them, so that a bound is often a row's own. */
            (void)strftime(times[i], sizeof times[i] - 16, "%Y-%m-%dT%H:%M:%S", gmtime_r(&at, &tm));
            memcpy(times[i] + strlen(times[i]), i < 2 ? ".000000+00:00" : "Z", i < 2 ? 14 : 2);
            if (random_next(&seed) % 3 == 0) {
                *places[i] = slice_of(times[i]);
            }
        }
        reference_ids(fixture, &filter, &expected);
        answered_ids(ask_list(fixture, filter), &found);
        if (expected.bytes != found.bytes || memcmp(memory, found.data, found.bytes) != 0) {
            fail_msg("round %u: %.*s, not %.*s", round, (int)found.bytes, (const char *)found.data,
                     (int)expected.bytes, (const char *)memory);
        }
    }
    mem_free(memory);
}

static void list_agrees_with_a_search_of_every_row(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 20000);
    list_agrees(&fixture, 20261121, 400);
    close_file(&fixture);
}

/* ---- stretches ---- */

/* Rows in the order of time, one in a second for 7000 seconds, three of each; a row started when it was made, but each fourth
 * stretch of 700 rows is an import of things long gone. */
static void insert_in_order(struct fixture *fixture)
{
    run_sql(fixture,
            "BEGIN;"
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<21000) "
            "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,job_type,"
            "status) SELECT 'e'||i,'r'||i,"
            "strftime('%Y-%m-%dT%H:%M:%S.000000+00:00',1700000000+i/3,'unixepoch'),"
            "strftime('%Y-%m-%dT%H:%M:%SZ',1700000000+CASE WHEN i/700%4=0 THEN i/21 ELSE i END,"
            "'unixepoch'),'agent-'||(i%7),'job-'||(i%5),"
            "CASE WHEN i%3=0 THEN 'failure' ELSE 'success' END FROM n;"
            "COMMIT");
}

static void open_zones(struct fixture *fixture)
{
    struct err err = {0};
    open_file(fixture, schema);
    if (runs_zones_make(fixture->db, &err) != 0) {
        fail_msg("%s", err.text);
    }
    runs_reader_close(fixture->reader);
    assert_int_equal(runs_reader_open(&fixture->reader, fixture->path, &model, &err), 0);
}

static unsigned find_stretches(struct fixture *fixture, const char *from, const char *to,
                               struct runs_stretches *stretches)
{
    struct err err = {0};
    runs_read_begin(fixture->reader);
    assert_int_equal(
        runs_zones_find(fixture->reader, slice_of(from), slice_of(to), stretches, &err), 1);
    return stretches->count;
}

static void list_by_stretches_agrees_with_a_search_of_every_row(void **state)
{
    struct fixture fixture;
    (void)state;
    open_zones(&fixture);
    insert_in_order(&fixture);
    list_agrees(&fixture, 20261122, 400);
    /* What other tools change counts too. */
    run_sql(&fixture, "UPDATE agent_runs SET start_time='2023-11-14T22:13:21Z' WHERE id%2500=0;"
                      "UPDATE agent_runs SET created_at='2023-11-15T22:13:21Z' WHERE id%3100=0;"
                      "UPDATE agent_runs SET id=id+100000 WHERE id%5=0;"
                      "DELETE FROM agent_runs WHERE id%11=0");
    list_agrees(&fixture, 20261123, 400);
    close_file(&fixture);
}

static void a_window_of_old_starts_takes_old_stretches_only(void **state)
{
    struct fixture fixture;
    struct runs_stretches stretches;
    (void)state;
    open_zones(&fixture);
    assert_int_equal(find_stretches(&fixture, NULL, "2", &stretches), 0);
    run_sql(&fixture, "BEGIN;"
                      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) "
                      "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,"
                      "job_type) SELECT 'e'||i,'r',printf('c%07d',i),printf('s%07d',i),'a','j' "
                      "FROM n; COMMIT");
    assert_int_equal(find_stretches(&fixture, NULL, "s0005000", &stretches), 1);
    assert_string_equal(stretches.all[0].first, "c0000001");
    assert_true(strcmp(stretches.all[0].last, "c0005000") >= 0);
    assert_true(strcmp(stretches.all[0].last, "c0006100") < 0);
    /* One late row with an old start is a stretch of its own. */
    run_sql(&fixture, "UPDATE agent_runs SET start_time='s0000007' WHERE id=15000");
    assert_int_equal(find_stretches(&fixture, "s0000007", "s0005000", &stretches), 2);
    assert_true(strcmp(stretches.all[0].first, "c0015000") <= 0);
    assert_true(strcmp(stretches.all[0].last, "c0015000") >= 0);
    assert_true(strcmp(stretches.all[0].first, "c0013900") > 0);
    assert_string_equal(stretches.all[1].first, "c0000001");
    close_file(&fixture);
}

static void more_stretches_than_there_is_room_for_are_one_with_the_oldest(void **state)
{
    struct fixture fixture;
    struct runs_stretches stretches;
    (void)state;
    open_zones(&fixture);
    run_sql(&fixture,
            "BEGIN;"
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i<99) "
            "INSERT INTO agent_runs(id,event_id,run_id,created_at,start_time,agent_name,job_type) "
            "SELECT i*1024,'e'||i,'r',printf('c%07d',i),iif(i%2,'new','a'),'a','j' FROM n; COMMIT");
    assert_int_equal(find_stretches(&fixture, NULL, "b", &stretches), RUNS_STRETCHES_MAX);
    assert_string_equal(stretches.all[0].last, "c0000098");
    assert_string_equal(stretches.all[RUNS_STRETCHES_MAX - 1].first, "c0000000");
    close_file(&fixture);
}

static void a_row_of_two_zones_time_is_listed_once(void **state)
{
    struct fixture fixture;
    char memory[64];
    struct buf ids;
    (void)state;
    open_zones(&fixture);
    run_sql(&fixture, "INSERT INTO agent_runs(id,event_id,run_id,created_at,start_time,agent_name,"
                      "job_type) VALUES(1,'1','r','c','a','x','j'),(2000,'2','r','b','z','x','j'),"
                      "(4000,'3','r','c','a','x','j')");
    run_sql(&fixture, "UPDATE sluice_run_zones SET start_max='b' WHERE zone<>1");
    /* So many that a sort is not worth it. */
    run_sql(&fixture, "WITH RECURSIVE n(i) AS (SELECT 10000 UNION ALL SELECT i+1 FROM n WHERE "
                      "i<16000) INSERT INTO agent_runs(id,event_id,run_id,created_at,start_time,"
                      "agent_name,job_type) SELECT i,'e'||i,'r','a','a','x','other' FROM n");
    buf_init(&ids, memory, sizeof memory - 1);
    answered_ids(
        ask_list(&fixture, (struct runs_filter){.start_time_to = SLICE_LITERAL("b"), .limit = 3}),
        &ids);
    memory[ids.bytes] = 0;
    assert_string_equal(memory, "1 4000 10000 ");
    close_file(&fixture);
}

static void a_time_that_is_none_makes_the_list_walk_everything(void **state)
{
    struct fixture fixture;
    struct runs_stretches stretches;
    struct err err = {0};
    char text[] = "0123456789012345678901234567890123456789012345678901234567890123";
    char sql[256];
    (void)state;
    open_zones(&fixture);
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,"
                   "job_type) VALUES('e','r','%s','a','a','j')",
                   text);
    run_sql(&fixture, sql);
    runs_read_begin(fixture.reader);
    assert_int_equal(
        runs_zones_find(fixture.reader, slice_of("a"), slice_of("b"), &stretches, &err), 0);
    run_sql(&fixture, "UPDATE sluice_run_zones SET created_min='a',created_max=x'0102'");
    assert_int_equal(
        runs_zones_find(fixture.reader, slice_of("a"), slice_of("b"), &stretches, &err), 0);
    close_file(&fixture);
}

/* A file of before, and one whose triggers another tool has dropped. */
static void zones_are_filled_where_their_triggers_are_not_there(void **state)
{
    struct fixture fixture;
    struct runs_stretches stretches;
    struct err err = {0};
    (void)state;
    open_zones(&fixture);
    insert_in_order(&fixture);
    run_sql(&fixture, "DROP TRIGGER sluice_run_zones_insert;"
                      "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,"
                      "job_type) VALUES('e','r','9','0','a','j')");
    runs_reader_close(fixture.reader);
    assert_int_equal(runs_reader_open(&fixture.reader, fixture.path, &model, &err), 0);
    runs_read_begin(fixture.reader);
    assert_int_equal(
        runs_zones_find(fixture.reader, slice_of("0"), slice_of("1"), &stretches, &err), 0);
    assert_int_equal(runs_zones_make(fixture.db, &err), 0);
    assert_int_equal(runs_zones_make(fixture.db, &err), 0);
    runs_reader_close(fixture.reader);
    assert_int_equal(runs_reader_open(&fixture.reader, fixture.path, &model, &err), 0);
    assert_int_equal(find_stretches(&fixture, "0", "1", &stretches), 1);
    assert_string_equal(stretches.all[0].last, "9");
    close_file(&fixture);
}

static void bounds_of_times_are_those_of_the_dialect(void **state)
{
    struct fixture fixture;
    const struct {
        struct runs_filter filter;
        const char *ids;
    } cases[] = {
        {{.created_before = SLICE_LITERAL("b")}, "1 "},
        {{.created_after = SLICE_LITERAL("b")}, "3 "},
        {{.start_time_from = SLICE_LITERAL("b")}, "3 2 "},
        {{.start_time_to = SLICE_LITERAL("b")}, "2 1 "},
        {{.created_after = SLICE_LITERAL("a"), .start_time_to = SLICE_LITERAL("b")}, "2 "},
    };
    char memory[64];
    struct buf ids;
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture, "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,"
                      "job_type) VALUES('1','r','a','a','x','j'),('2','r','b','b','x','j'),"
                      "('3','r','c','c','x','j')");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        buf_init(&ids, memory, sizeof memory - 1);
        answered_ids(ask_list(&fixture, cases[i].filter), &ids);
        memory[ids.bytes] = 0;
        assert_string_equal(memory, cases[i].ids);
    }
    close_file(&fixture);
}

static void list_of_nothing_is_an_empty_array(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    assert_string_equal(ask_list(&fixture, (struct runs_filter){0}), "[]");
    close_file(&fixture);
}

/* ---- plans ---- */

/* The table is reached by an index only; what is sorted was counted first. */
static void assert_plan(struct fixture *fixture, struct runs_filter filter)
{
    char text[4096];
    struct buf plan;
    struct err err = {0};
    filter.limit = 100;
    buf_init(&plan, text, sizeof text - 1);
    assert_int_equal(runs_explain(fixture->reader, &filter, &plan, &err), 0);
    text[plan.bytes] = 0;
    const char *scan = strstr(text, "SCAN agent_runs");
    bool is_walk = scan != NULL && strstr(scan, "SCAN agent_runs USING INDEX") == scan;
    bool is_search = strstr(text, "SEARCH agent_runs USING INDEX") != NULL;
    if ((scan != NULL && !is_walk) || (!is_walk && !is_search)) {
        fail_msg("a table scan: %s", text);
    }
    if (is_walk && strstr(text, "TEMP B-TREE") != NULL) {
        fail_msg("a sort of the whole table: %s", text);
    }
}

/* Rare and frequent values of each filter. */
static const struct {
    size_t place;
    const char *values[2];
} choices[] = {
    {offsetof(struct runs_filter, agent_name), {"agent-1", "nobody"}},
    {offsetof(struct runs_filter, status), {"success", "timeout"}},
    {offsetof(struct runs_filter, job_type), {"job-1", "rare"}},
    {offsetof(struct runs_filter, start_time_from), {"2023-11-14", "2099"}},
    {offsetof(struct runs_filter, start_time_to), {"2099", "2023-11-14T22:13:30"}},
    {offsetof(struct runs_filter, created_before), {"2099", "2023-11-14T22:13:30"}},
    {offsetof(struct runs_filter, created_after), {"2023-11-14", "2099"}},
};

static void choose(struct runs_filter *filter, size_t which, size_t value)
{
    struct slice *to = (void *)((uint8_t *)filter + choices[which].place);
    *to = slice_of(choices[which].values[value]);
}

static void every_filter_and_pair(struct fixture *fixture)
{
    assert_plan(fixture, (struct runs_filter){0});
    for (size_t a = 0; a < ARRAY_COUNT(choices) * 2; a++) {
        for (size_t b = 0; b <= a; b++) { /* b == a: it alone */
            struct runs_filter filter = {0};
            choose(&filter, b / 2, b % 2);
            choose(&filter, a / 2, a % 2);
            assert_plan(fixture, filter);
        }
    }
}

static void no_filter_or_pair_scans_or_sorts_the_table(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 100000);
    every_filter_and_pair(&fixture);
    run_sql(&fixture, "ANALYZE"); /* what the planner knows must not change its ways */
    every_filter_and_pair(&fixture);
    close_file(&fixture);
}

static void frequent_value_is_walked_and_a_rare_one_sorted(void **state)
{
    struct fixture fixture;
    char text[4096];
    struct buf plan;
    struct err err = {0};
    struct runs_filter filter = {.status = SLICE_LITERAL("success"), .limit = 100};
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 100000);
    buf_init(&plan, text, sizeof text - 1);
    assert_int_equal(runs_explain(fixture.reader, &filter, &plan, &err), 0);
    text[plan.bytes] = 0;
    assert_has(text, "USING INDEX i5");
    buf_reset(&plan);
    filter.status = SLICE_LITERAL("timeout");
    assert_int_equal(runs_explain(fixture.reader, &filter, &plan, &err), 0);
    text[plan.bytes] = 0;
    assert_has(text, "SEARCH agent_runs USING INDEX i3");
    close_file(&fixture);
}

static void index_that_ends_in_created_at_is_walked_in_its_order(void **state)
{
    struct fixture fixture;
    char text[4096];
    struct buf plan;
    struct err err = {0};
    struct runs_filter filter = {.status = SLICE_LITERAL("timeout"), .limit = 100};
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 20000);
    run_sql(&fixture, "CREATE INDEX so ON agent_runs(status,created_at DESC)");
    runs_reader_close(fixture.reader);
    assert_int_equal(runs_reader_open(&fixture.reader, fixture.path, &model, &err), 0);
    buf_init(&plan, text, sizeof text - 1);
    assert_int_equal(runs_explain(fixture.reader, &filter, &plan, &err), 0);
    text[plan.bytes] = 0;
    assert_has(text, "USING INDEX so (status=?)");
    assert_null(strstr(text, "TEMP B-TREE"));
    close_file(&fixture);
}

/* ---- sums ---- */

static void metadata_lists_names_sorted_once(void **state)
{
    struct fixture fixture;
    struct err err = {0};
    (void)state;
    open_file(&fixture, schema);
    assert_int_equal(runs_metadata(fixture.reader, on_put, &fixture, &err), 0);
    fixture.memory[fixture.out.bytes] = 0;
    assert_string_equal((const char *)fixture.memory,
                        "{\"agent_names\":[],\"job_types\":[],\"counts\":{\"agent_names\":0,"
                        "\"job_types\":0}}");
    run_sql(&fixture,
            "INSERT INTO agent_runs(event_id,run_id,start_time,agent_name,job_type) VALUES"
            "('1','r','s','b','y'),('2','r','s','a','y'),('3','r','s','b','y'),('4','r','s','Z','')"
            ",('5','r','s','\"','y')");
    buf_reset(&fixture.out);
    assert_int_equal(runs_metadata(fixture.reader, on_put, &fixture, &err), 0);
    fixture.memory[fixture.out.bytes] = 0;
    assert_string_equal((const char *)fixture.memory,
                        "{\"agent_names\":[\"\\\"\",\"Z\",\"a\",\"b\"],\"job_types\":[\"\",\"y\"],"
                        "\"counts\":{\"agent_names\":4,\"job_types\":2}}");
    close_file(&fixture);
}

static void metrics_count_agents_and_the_last_day_in_both_forms_of_time(void **state)
{
    struct fixture fixture;
    struct err err = {0};
    char expected[512];
    (void)state;
    open_file(&fixture, schema);
    run_sql(&fixture,
            "INSERT INTO agent_runs(event_id,run_id,created_at,start_time,agent_name,job_type) "
            "VALUES('1','r','2026-11-21T12:00:00.000000+00:00','s','few','j'),"
            "('2','r','2026-11-20 12:00:01','s','many','j'),"
            "('3','r','2026-11-20 11:59:59','s','many','j'),"
            "('4','r','2026-11-20T11:59:59.999999+00:00','s','many','j')");
    assert_int_equal(runs_metrics(fixture.reader, "2026-11-21T12:00:00Z", on_put, &fixture, &err),
                     0);
    fixture.memory[fixture.out.bytes] = 0;
    (void)snprintf(expected, sizeof expected,
                   "{\"total_runs\":4,\"agents\":{\"many\":3,\"few\":1},\"recent_24h\":2,"
                   "\"performance\":{\"db_path\":\"%s\",\"journal_mode\":\"DELETE\"}}",
                   fixture.path);
    assert_string_equal((const char *)fixture.memory, expected);
    close_file(&fixture);
}

/* ---- what goes wrong ---- */

static void reader_never_writes_and_leaves_no_lock(void **state)
{
    struct fixture fixture;
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 1000);
    assert_non_null(ask_get(&fixture, "e7"));
    (void)ask_list(&fixture, (struct runs_filter){.status = SLICE_LITERAL("timeout")});
    /* An exclusive lock is had at once: no read was left open. */
    run_sql(&fixture, "BEGIN EXCLUSIVE; DELETE FROM agent_runs WHERE id=7; COMMIT");
    assert_null(ask_get(&fixture, "e7"));
    close_file(&fixture);
}

static void asker_who_has_had_enough_ends_the_question(void **state)
{
    struct fixture fixture;
    struct err err = {0};
    struct runs_filter filter = {.limit = 1000};
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 1000);
    assert_int_equal(runs_list(fixture.reader, &filter, on_put_refused, NULL, &err), -ECANCELED);
    assert_int_equal(runs_get(fixture.reader, SLICE_LITERAL("e1"), on_put_refused, NULL, &err),
                     -ECANCELED);
    run_sql(&fixture, "BEGIN EXCLUSIVE; COMMIT");
    close_file(&fixture);
}

static void locked_file_is_busy_after_a_while_and_read_again_later(void **state)
{
    struct fixture fixture;
    struct err err = {0};
    (void)state;
    open_file(&fixture, schema);
    insert_rows(&fixture, 10);
    run_sql(&fixture, "BEGIN EXCLUSIVE");
    assert_int_equal(runs_get(fixture.reader, SLICE_LITERAL("e1"), on_put, &fixture, &err), -EBUSY);
    assert_non_null(strstr(err.text, "locked"));
    run_sql(&fixture, "COMMIT");
    assert_non_null(ask_get(&fixture, "e1"));
    close_file(&fixture);
}

static void missing_or_foreign_file_is_refused(void **state)
{
    struct runs_reader *reader = NULL;
    struct err err = {0};
    char path[] = "/tmp/sluice-runs-read-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "this is no database, however long it is ................", 56), 56);
    close(fd);
    assert_int_equal(runs_reader_open(&reader, path, &model, &err), ERR_CORRUPT);
    assert_null(reader);
    (void)unlink(path);
    assert_int_equal(runs_reader_open(&reader, path, &model, &err), -ENOENT);
    assert_null(reader);
    runs_reader_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(item_has_all_columns_in_order_then_the_urls),
        cmocka_unit_test(json_columns_are_objects_byte_for_byte_or_raw_with_the_reason),
        cmocka_unit_test(values_of_other_tools_are_shown_as_what_they_are),
        cmocka_unit_test(long_texts_come_whole),
        cmocka_unit_test(git_columns_are_cut_to_room),
        cmocka_unit_test(list_agrees_with_a_search_of_every_row),
        cmocka_unit_test(list_by_stretches_agrees_with_a_search_of_every_row),
        cmocka_unit_test(a_window_of_old_starts_takes_old_stretches_only),
        cmocka_unit_test(more_stretches_than_there_is_room_for_are_one_with_the_oldest),
        cmocka_unit_test(a_row_of_two_zones_time_is_listed_once),
        cmocka_unit_test(a_time_that_is_none_makes_the_list_walk_everything),
        cmocka_unit_test(zones_are_filled_where_their_triggers_are_not_there),
        cmocka_unit_test(bounds_of_times_are_those_of_the_dialect),
        cmocka_unit_test(list_of_nothing_is_an_empty_array),
        cmocka_unit_test(no_filter_or_pair_scans_or_sorts_the_table),
        cmocka_unit_test(frequent_value_is_walked_and_a_rare_one_sorted),
        cmocka_unit_test(index_that_ends_in_created_at_is_walked_in_its_order),
        cmocka_unit_test(metadata_lists_names_sorted_once),
        cmocka_unit_test(metrics_count_agents_and_the_last_day_in_both_forms_of_time),
        cmocka_unit_test(reader_never_writes_and_leaves_no_lock),
        cmocka_unit_test(asker_who_has_had_enough_ends_the_question),
        cmocka_unit_test(locked_file_is_busy_after_a_while_and_read_again_later),
        cmocka_unit_test(missing_or_foreign_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
