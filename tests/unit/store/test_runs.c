/*
 * The agent-run database as the commands in a real log make it: outcomes, exactly once, rebuilding, the mirror, the lock, outside readers.
 */
#include "runs_fixture.h"

#include <sys/resource.h>

#include "core/agent.h"
#include "store/runs_verify.h"

#define CREATE    RUNS_COMMAND_CREATE
#define UPDATE    RUNS_COMMAND_UPDATE
#define ASSOCIATE RUNS_COMMAND_ASSOCIATE
#define EVENT     RUNS_COMMAND_EVENT

static struct rf rf;

static int set_up(void **state)
{
    (void)state;
    rf_init(&rf);
    rf_store_open(&rf);
    rf_store_start(&rf);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rf_end(&rf);
    return 0;
}

/* ---- what commands do ---- */

static void a_run_is_stored_with_its_defaults_and_its_time(void **state)
{
    (void)state;
    rf_open(&rf);
    assert_int_equal(rf.opened.found, RUNS_MADE);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_expect(rf.db,
              "SELECT id, event_id, run_id, schema_version, created_at, updated_at, status, "
              "items_failed, duration_ms, api_posted, api_retry_count, host, metrics_json "
              "FROM agent_runs",
              "1|e1|run-e1|6|2025-11-24T16:00:00.123456+00:00|2025-11-24T16:00:00.123456+00:00|"
              "running|0|0|0|0|~|~\n");
}

static void every_column_holds_what_was_said(void **state)
{
    (void)state;
    char text[4096];
    size_t at = 0;
    char expected[4096];
    size_t to = (size_t)snprintf(expected, sizeof expected, "1");
    for (unsigned i = 1; i < RUNS_COLUMNS; i++) {
        bool is_count = (i >= 19 && i <= 23) || i == 42 || i == 44;
        bool is_fixed = i == 3 || i == 5;
        const char *value = is_count ? "9223372036854775807" : i == 11 ? "partial" : "t'x\"%";
        at += (size_t)snprintf(text + at, sizeof text - at, "%u%c%s|", i, is_count ? 'i' : 't',
                               value);
        to += (size_t)snprintf(expected + to, sizeof expected - to, "|%s",
                               !is_fixed ? value
                               : i == 3  ? "6"
                                         : "2025-11-24T16:00:00.123456+00:00");
    }
    (void)snprintf(expected + to, sizeof expected - to, "\n");
    rf_open(&rf);
    rf_put(&rf, CREATE, "e", text);
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT * FROM agent_runs", expected);
}

static void a_repeated_event_id_overwrites_nothing(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_put(&rf, CREATE, "e1", "1te1|2tother|6tx|8tx|10tx|");
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id, run_id FROM agent_runs ORDER BY id",
              "e1|run-e1\ne2|run-e2\n");
    assert_int_equal(atomic_load(&runs_status(rf.runs)->created), 2);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->duplicates), 1);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->total_runs), 2);
}

static void an_update_changes_what_it_says_and_nothing_else(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put(&rf, CREATE, "e1", "1te1|2tr|6ts|8ta|10tj|23i7|40j{\"a\":1}|41j{\"b\":2}|24tin|");
    rf_put_at(&rf, UPDATE, "e1", "11tsuccess|19i5|40j{\"c\":3}|", RF_TIME_NS + (int64_t)NS_S);
    rf_catch_up(&rf);
    const char *sql = "SELECT status, items_discovered, duration_ms, metrics_json, context_json, "
                      "input_summary, created_at < updated_at, updated_at FROM agent_runs";
    rf_expect(rf.db, sql,
              "success|5|7|{\"c\":3}|{\"b\":2}|in|1|2025-11-24T16:00:01.123456+00:00\n");
    rf_put(&rf, UPDATE, "e1", "41n|34tllm|"); /* an empty object: NULL; without a status */
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT status, context_json, metrics_json, git_commit_source FROM agent_runs",
              "success|~|{\"c\":3}|llm\n");
}

static void events_and_commits_belong_to_runs_that_exist(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_put(&rf, EVENT, "e1", "51tstep|53j{\"n\":1}|");
    rf_put(&rf, EVENT, "e1", "51tstep|52t2020-01-01|");
    rf_put(&rf, EVENT, "none", "51tstep|");
    rf_put(&rf, ASSOCIATE, "e1", "47tabcdef0|48tllm|50t2021|");
    rf_put(&rf, ASSOCIATE, "none", "47tabcdef0|48tllm|");
    rf_put(&rf, UPDATE, "none", "11tsuccess|");
    rf_put(&rf, UPDATE, "none", "");
    rf_put(&rf, UPDATE, "e1", "");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT * FROM run_events",
              "1|run-e1|step|2025-11-24T16:00:00.123456+00:00|{\"n\":1}\n"
              "2|run-e1|step|2020-01-01|~\n");
    rf_expect(rf.db,
              "SELECT git_commit_hash, git_commit_source, git_commit_author, git_commit_timestamp "
              "FROM agent_runs",
              "abcdef0|llm|~|2021\n");
    assert_int_equal(atomic_load(&runs_status(rf.runs)->not_found), 4);
}

/* Judged commands never meet a CHECK; if one does, it alone pays. */
static void what_sqlite_refuses_costs_that_command_only(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_put(&rf, CREATE, "bad", "1tbad|2tr|6ts|8ta|10tj|11tnonsense|");
    rf_put(&rf, CREATE, "bad2", "no command at all");
    rf_put(&rf, CREATE, "bad3", "1tbad3|2tr|6ts|8ta|10tj|19i-1|");
    rf_put(&rf, CREATE, "bad4", "1tbad4|6ts|8ta|10tj|");
    rf_put(&rf, 0, "", "a log record, no command");
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e1\ne2\n");
    assert_int_equal(atomic_load(&runs_status(rf.runs)->refused), 4);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->applied_lsn), 7);
}

static void the_tables_are_those_of_the_contract(void **state)
{
    (void)state;
    rf_open(&rf);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM pragma_table_info('agent_runs')"), 47);
    rf_expect(rf.db, "SELECT version FROM schema_migrations", "6\n");
    rf_expect(rf.db, "PRAGMA journal_mode", "delete\n");
    rf_expect(rf.db, "PRAGMA integrity_check", "ok\n");
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND "
                                      "sql IS NOT NULL AND name LIKE 'idx_%'"),
                     16);
}

static void what_is_created_is_in_its_zone(void **state)
{
    static const char sum[] =
        "SELECT count(*) FROM sluice_run_zones AS z, agent_runs AS r WHERE "
        "z.zone = r.id >> 10 AND r.start_time BETWEEN z.start_min AND "
        "z.start_max AND r.created_at BETWEEN z.created_min AND z.created_max";
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT zone FROM sluice_run_zones", "0\n");
    rf_sql(rf.db, "UPDATE sqlite_sequence SET seq = 1022 WHERE name = 'agent_runs'");
    rf_create(&rf, "e1023");
    rf_create(&rf, "e1024");
    rf_create(&rf, "e1025");
    rf_catch_up(&rf); /* one transaction, two zones */
    rf_expect(rf.db, "SELECT zone FROM sluice_run_zones", "0\n1\n");
    assert_int_equal(rf_number(rf.db, sum), 4);
}

/* Requests of 600 commands, more than a transaction takes of its own will: each begins and ends with one. */
static void a_requests_commands_are_seen_together_or_not_at_all(void **state)
{
    (void)state;
    rf_open(&rf);
    for (unsigned i = 0; i < 3; i++) {
        rf_put_keyed(&rf, (struct rf_keyed){CREATE, 600 * i, 1, 600, NULL, RF_TIME_NS + i});
    }
    rf_catch_up(&rf);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM agent_runs"), 1800);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->transactions), 3);
}

static void a_trigger_of_somebody_elses_fires_all_the_same(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_sql(rf.db, "CREATE TABLE audit(id); CREATE TRIGGER audit AFTER INSERT ON agent_runs BEGIN "
                  "INSERT INTO audit VALUES(new.event_id); END");
    rf_close(&rf);
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT id FROM audit", "e1\n");
    rf_expect(rf.db, "SELECT zone FROM sluice_run_zones", "0\n");
}

static void a_trigger_made_while_the_server_runs_fires_from_then_on(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_sql(rf.db, "CREATE TABLE audit(id); CREATE TRIGGER audit AFTER INSERT ON agent_runs BEGIN "
                  "INSERT INTO audit VALUES(new.event_id); END");
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT id FROM audit", "e2\n");
}

/* RAISE(ROLLBACK) ends the whole transaction, not only its statement. */
static void a_trigger_that_rolls_back_costs_no_other_command(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_sql(
        rf.db,
        "CREATE TRIGGER no BEFORE INSERT ON agent_runs WHEN new.event_id IN ('bad1', 'e8', 'e10') "
        "BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END");
    rf_close(&rf);
    rf.options.ndjson_dir = rf.ndjson;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_create(&rf, "bad1");
    rf_create(&rf, "e2");
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 7, 1, 4, NULL, 0});
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e1\ne2\ne7\ne9\n");
    rf_expect(rf.db, "SELECT lsn, outcome, text FROM sluice_run_outcomes",
              "5|8|not this one\n7|8|not this one\n");
    rf_expect(rf.db, "SELECT zone FROM sluice_run_zones", "0\n");
    assert_int_equal(atomic_load(&runs_status(rf.runs)->refused), 3);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->applied_lsn), 7);
}

static void a_commands_meta_reads_back_and_nothing_else_does(void **state)
{
    (void)state;
    uint8_t meta[64];
    uint8_t command = 0;
    struct slice id = {NULL, 0};
    size_t bytes = meta_run_encode(meta, EVENT, SLICE_LITERAL("an id"));
    assert_int_equal(bytes, meta_run_bytes(SLICE_LITERAL("an id")));
    assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, bytes}), 1);
    assert_int_equal(command, EVENT);
    assert_true(slice_equal(id, SLICE_LITERAL("an id")));
    for (size_t cut = 1; cut < bytes; cut++) {
        assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, bytes - cut}),
                         ERR_CORRUPT);
    }
    assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, 0}), 0);
    meta[4] = 5; /* no such command */
    assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, bytes}), ERR_CORRUPT);
    meta[4] = EVENT;
    meta[5] = 1; /* must be zero */
    assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, bytes}), ERR_CORRUPT);
    bytes = meta_run_encode(meta, CREATE, (struct slice){NULL, 0});
    assert_int_equal(meta_find_run(&command, &id, (struct slice){meta, bytes}), 1);
    assert_int_equal(id.bytes, 0);
}

/* ---- exactly once ---- */

static void applying_again_applies_nothing(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_put(&rf, EVENT, "e1", "51tstep|");
    rf_catch_up(&rf);
    char *before = rf_dump(rf.db);
    for (unsigned i = 0; i < 3; i++) {
        rf_close(&rf);
        rf_open(&rf);
        assert_int_equal(rf.opened.found, RUNS_GOOD);
        assert_string_equal(rf.opened.warning, "");
        rf_catch_up(&rf);
    }
    char *after = rf_dump(rf.db);
    assert_string_equal(before, after);
    assert_int_equal(rf_number(rf.db, "SELECT value FROM sluice_meta WHERE key = 'applied_lsn'"),
                     2);
    free(before);
    free(after);
}

/* Random commands, in random order, of few runs, on two days. */
static void put_many(unsigned count, unsigned seed)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < count; i++) {
        char id[16];
        char text[512];
        seed = seed * 1664525u + 1013904223u;
        (void)snprintf(id, sizeof id, "e%u", seed >> 16 & 63);
        uint8_t command = (uint8_t)(1 + (seed >> 24) % 4);
        rf_create_text(text, sizeof text, id);
        const char *payload = command == CREATE      ? text
                              : command == UPDATE    ? (seed & 256 ? "11tsuccess|20i4|" : "25tout|")
                              : command == ASSOCIATE ? "47tabcdef0|48tci|"
                                                     : "51tstep|53j{}|";
        int64_t time_ns =
            RF_TIME_NS + (int64_t)i * (int64_t)NS_MS + (i * 2 > count ? RF_DAY_NS : 0);
        end = rf_submit(&rf, command, id, payload, time_ns);
        if (i % 100 == 99) {
            rf_wait(&rf, end);
        }
    }
    rf_wait(&rf, end);
}

static void a_rebuilt_database_equals_the_old_one_row_for_row(void **state)
{
    (void)state;
    rf_open(&rf);
    for (unsigned i = 0; i < 10; i++) { /* several passes, several transactions */
        put_many(150, i + 1);
        rf_catch_up(&rf);
    }
    char *old = rf_dump(rf.db);
    rf_close(&rf);
    assert_int_equal(unlink(rf.db), 0);
    rf_open(&rf);
    assert_int_equal(rf.opened.found, RUNS_MADE);
    rf_catch_up(&rf);
    assert_true(atomic_load(&runs_status(rf.runs)->transactions) < 20);
    char *again = rf_dump(rf.db);
    assert_string_equal(old, again);
    free(old);
    free(again);
}

/* The child serves: submits, applies, and tells which LSNs it has results of. */
static void serve_until_killed(int told, unsigned round)
{
    struct agent agent;
    struct agent_options options = {
        .name = "runs", .role = ROLE_RUNS, .cpu = -1, .duty = runs_duty};
    rf_store_open(&rf);
    rf_store_start(&rf);
    rf_open(&rf);
    options.context = rf.runs;
    rf_catch_up(&rf);
    ASSERT(agent_start(&agent, &options, &rf.err) == 0);
    for (unsigned i = 0;; i++) { /* until killed */
        put_many(1 + i % 7, round * 1000 + i);
        runs_wake(rf.runs);
        struct spsc *results = runs_results(rf.runs, 0);
        for (const struct spsc_frame *frame = spsc_take(results); frame != NULL;
             frame = spsc_take(results)) {
            const struct runs_result *result = (const void *)frame->payload;
            uint64_t line[2] = {result->lsn, result->outcome};
            ASSERT(write(told, line, sizeof line) == sizeof line);
        }
        spsc_release(results);
    }
}

/* Reads lines until there are no more, or count of them; the last LSN. */
static uint64_t read_told(int fd, unsigned count)
{
    uint64_t line[2];
    uint64_t last = 0;
    for (unsigned i = 0; i < count && read(fd, line, sizeof line) == sizeof line; i++) {
        ASSERT(line[0] > last); /* in order, each once */
        last = line[0];
    }
    return last;
}

static void killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice(void **state)
{
    (void)state;
    unsigned seed = (unsigned)clock_mono_ns();
    print_message("seed %u\n", seed);
    rf_store_close(&rf);
    rf.options.ndjson_dir = rf.ndjson;
    uint64_t told_lsn = 0;
    for (unsigned round = 0; round < 16; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        seed = seed * 1664525u + 1013904223u;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(pipes[0]);
            serve_until_killed(pipes[1], round);
        }
        (void)close(pipes[1]);
        /* After some results, and then at any moment of the next transactions. */
        uint64_t last = read_told(pipes[0], 1 + (seed >> 16) % 100);
        struct timespec wait = {.tv_nsec = (long)((seed >> 8) % 4000 * NS_US)};
        (void)ppoll(NULL, 0, &wait, NULL);
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        last = u64_max(last, read_told(pipes[0], UINT32_MAX));
        (void)close(pipes[0]);
        assert_true(last > told_lsn); /* what was told before is not told again */
        told_lsn = last;
        uint64_t applied =
            (uint64_t)rf_number(rf.db, "SELECT value FROM sluice_meta WHERE key = 'applied_lsn'");
        assert_true(applied >= told_lsn); /* told after the commit */
    }
    rf_store_open(&rf);
    assert_true(rf.last_lsn >= told_lsn);
    rf_open(&rf);
    rf_catch_up(&rf);
    char *old = rf_dump(rf.db);
    int64_t changes = rf_number(rf.db, "SELECT (SELECT count(*) FROM agent_runs) + "
                                       "(SELECT count(*) FROM run_events)");
    rf_close(&rf);
    char *mirrored[2] = {NULL, NULL};
    const char *names[2] = {"events_20251124.ndjson", "events_20251125.ndjson"};
    char path[512];
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", rf.ndjson, names[i]);
        mirrored[i] = rf_text(path);
        assert_non_null(mirrored[i]);
    }
    /* Again from nothing, in one go. */
    rf_remove(rf.ndjson);
    assert_int_equal(unlink(rf.db), 0);
    rf_open(&rf);
    rf_catch_up(&rf);
    char *again = rf_dump(rf.db);
    assert_string_equal(old, again);
    assert_true(changes > 12);
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", rf.ndjson, names[i]);
        char *text = rf_text(path);
        assert_string_equal(text, mirrored[i]);
        mem_free(text);
        mem_free(mirrored[i]);
    }
    free(old);
    free(again);
}

static void a_log_that_lost_its_end_is_seen_and_new_commands_are_applied(void **state)
{
    (void)state;
    struct ulid other = {.bytes = {1}};
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_close(&rf);
    rf_sql(rf.db, "UPDATE sluice_meta SET value = '1000' WHERE key = 'applied_lsn'");
    struct ulid node = store_node(rf.store);
    assert_int_equal(runs_seen(rf.db, &node), 1000);
    assert_int_equal(runs_seen(rf.db, &other), 0);
    assert_int_equal(runs_seen("/nowhere", &node), 0);
    rf_open(&rf);
    assert_string_equal(rf.opened.warning, "");
    assert_int_equal(runs_seen(rf.db, &node), 1);
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e1\ne2\n");
}

static void another_nodes_database_is_kept_and_the_log_applied_from_its_beginning(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_close(&rf);
    rf_sql(rf.db, "UPDATE sluice_meta SET value = '01ARZ3NDEKTSV4RRFFQ69G5FAV' WHERE key = 'node';"
                  "UPDATE agent_runs SET event_id = 'theirs'");
    rf_open(&rf);
    assert_non_null(strstr(rf.opened.warning, "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "theirs\ne1\n");
}

/* ---- the agent ---- */

static struct agent agent;

static void start_agent(void)
{
    struct agent_options options = {
        .name = "runs", .role = ROLE_RUNS, .cpu = -1, .duty = runs_duty, .context = rf.runs};
    assert_int_equal(agent_start(&agent, &options, &rf.err), 0);
}

static void stop_agent(void)
{
    runs_stop(rf.runs);
    agent_join(&agent);
}

/* The next result, or fails after 20 s. */
static struct runs_result next_result(char *text)
{
    struct spsc *results = runs_results(rf.runs, 0);
    const struct spsc_frame *frame = spsc_take(results);
    for (unsigned i = 0; frame == NULL && i < 20000; i++) {
        (void)poll(NULL, 0, 1);
        frame = spsc_take(results);
    }
    assert_non_null(frame);
    struct runs_result result;
    memcpy(&result, frame->payload, sizeof result);
    const struct runs_result *from = (const void *)frame->payload;
    (void)snprintf(text, RUNS_RESULT_TEXT_MAX, "%.*s", (int)result.text_bytes,
                   (const char *)from->text);
    spsc_release(results);
    return result;
}

static void expect_result(uint64_t lsn, enum runs_outcome outcome, const char *text)
{
    char said[RUNS_RESULT_TEXT_MAX];
    struct runs_result result = next_result(said);
    assert_int_equal(result.lsn, lsn);
    assert_int_equal(result.outcome, outcome);
    if (text != NULL) {
        assert_string_equal(said, text);
    }
}

static void each_command_has_its_result_in_the_order_of_the_log(void **state)
{
    (void)state;
    rf_open(&rf);
    start_agent();
    rf_create(&rf, "e1");
    rf_create(&rf, "e1");
    rf_put(&rf, UPDATE, "e1", "11tfailure|");
    rf_put(&rf, ASSOCIATE, "e1", "47tabcdef0|48tllm|");
    rf_put(&rf, 0, "", "a log line between");
    rf_put(&rf, EVENT, "e1", "51tx|");
    rf_put(&rf, UPDATE, "e1", "");
    rf_put(&rf, UPDATE, "e9", "");
    rf_put(&rf, CREATE, "bad", "1tbad|2tr|6ts|8ta|10tj|11tnonsense|");
    runs_wake(rf.runs);
    expect_result(1, RUNS_CREATED, "");
    expect_result(2, RUNS_DUPLICATE, "");
    expect_result(3, RUNS_UPDATED, "");
    expect_result(4, RUNS_ASSOCIATED, "run-e1");
    expect_result(6, RUNS_EVENT_ADDED, "");
    expect_result(7, RUNS_NOTHING, "");
    expect_result(8, RUNS_NOT_FOUND, "");
    expect_result(9, RUNS_REFUSED, NULL);
    stop_agent();
    assert_int_equal(rf_number(rf.db, "SELECT value FROM sluice_meta WHERE key = 'applied_lsn'"),
                     9);
}

static void a_result_that_is_cut_says_so(void **state)
{
    (void)state;
    char text[2048];
    char said[RUNS_RESULT_TEXT_MAX];
    rf_open(&rf);
    start_agent();
    for (unsigned i = 0; i < 2; i++) {
        char id[8];
        (void)snprintf(id, sizeof id, "e%u", i);
        (void)snprintf(text, sizeof text, "1t%s|2t%0*d|6ts|8ta|10tj|", id,
                       (int)(RUNS_RESULT_TEXT_MAX + i), 7);
        rf_put(&rf, CREATE, id, text);
        rf_put(&rf, ASSOCIATE, id, "47tabcdef0|48tllm|");
        runs_wake(rf.runs);
        assert_int_equal(next_result(said).is_cut, 0);
        struct runs_result result = next_result(said);
        assert_int_equal(result.outcome, RUNS_ASSOCIATED);
        assert_int_equal(result.text_bytes, RUNS_RESULT_TEXT_MAX);
        assert_int_equal(result.is_cut, i);
    }
    stop_agent();
}

static void many_commands_share_a_transaction_and_nobody_misses_a_result(void **state)
{
    (void)state;
    rf_open(&rf);
    start_agent();
    for (unsigned round = 0; round < 5; round++) {
        put_many(400, round);
        runs_wake(rf.runs);
    }
    char text[RUNS_RESULT_TEXT_MAX];
    for (uint64_t lsn = 1; lsn <= 2000; lsn++) {
        assert_int_equal(next_result(text).lsn, lsn);
    }
    assert_true(atomic_load(&runs_status(rf.runs)->transactions) < 400);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->commands), 2000);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->results_lost), 0);
    stop_agent();
}

static void an_orderly_stop_applies_what_is_durable(void **state)
{
    (void)state;
    rf_open(&rf);
    start_agent();
    put_many(300, 7);
    rf_put(&rf, 0, "", "a log line at the end");
    stop_agent();
    assert_int_equal(rf_number(rf.db, "SELECT value FROM sluice_meta WHERE key = 'applied_lsn'"),
                     301);
}

/* Memory shows batches a moment before the writer has told anybody that they are durable. */
static void nothing_is_applied_before_its_durability_is_told(void **state)
{
    (void)state;
    _Atomic uint64_t told = 1;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_create(&rf, "e2");
    rf_create(&rf, "e3");
    rf_close(&rf);
    rf.told_lsn = &told;
    rf_open(&rf);
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs", "e1\n");
    assert_int_equal(rf_number(rf.db, "SELECT value FROM sluice_meta WHERE key = 'applied_lsn'"),
                     1);
    atomic_store(&told, 3);
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs", "e1\ne2\ne3\n");
}

/* ---- others at the same file ---- */

static void a_stuck_reader_is_told_and_loses_nothing(void **state)
{
    (void)state;
    sqlite3 *reader = NULL;
    rf_open(&rf);
    rf_create(&rf, "e0");
    rf_catch_up(&rf);
    start_agent();
    assert_int_equal(sqlite3_open(rf.db, &reader), SQLITE_OK);
    assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT * FROM agent_runs", NULL, NULL, NULL),
                     SQLITE_OK);
    rf_create(&rf, "e1");
    runs_wake(rf.runs);
    const struct runs_status *status = runs_status(rf.runs);
    for (unsigned i = 0; atomic_load(&status->fault) != RUNS_BLOCKED; i++) {
        assert_true(i < 20000);
        (void)poll(NULL, 0, 1);
    }
    assert_true(atomic_load(&status->busy_since_ns) != 0);
    assert_true(spsc_is_empty(runs_results(rf.runs, 0)));
    /* Others still get in between two tries. */
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM agent_runs"), 1);
    (void)poll(NULL, 0, 3000);
    rf_create(&rf, "e2");
    assert_int_equal(atomic_load(&status->fault), RUNS_BLOCKED);
    assert_int_equal(sqlite3_exec(reader, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    expect_result(2, RUNS_CREATED, "");
    expect_result(3, RUNS_CREATED, "");
    (void)sqlite3_close(reader);
    stop_agent();
    assert_int_equal(atomic_load(&status->fault), RUNS_FINE);
    assert_int_equal(atomic_load(&status->busy_since_ns), 0);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e0\ne1\ne2\n");
}

static void the_real_tool_reads_while_we_write(void **state)
{
    (void)state;
    rf_open(&rf);
    rf.options.busy_timeout_ns = 5 * NS_S;
    start_agent();
    pid_t tool = fork();
    assert_true(tool >= 0);
    if (tool == 0) {
        char command[512];
        (void)snprintf(command, sizeof command,
                       "command -v sqlite3 >/dev/null || exit 77; for i in $(seq 150); do "
                       "test \"$(sqlite3 -cmd '.timeout 10000' %s 'PRAGMA quick_check')\" = ok || "
                       "exit 1; done",
                       rf.db);
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    char text[RUNS_RESULT_TEXT_MAX];
    int status = 0;
    unsigned put = 0;
    for (; waitpid(tool, &status, WNOHANG) == 0 && put < 20000; put += 50) {
        put_many(50, put);
        runs_wake(rf.runs);
        for (unsigned i = 0; i < 50; i++) {
            (void)next_result(text);
        }
    }
    if (put >= 20000) {
        (void)waitpid(tool, &status, 0);
    }
    stop_agent();
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("the sqlite3 tool is not installed: not checked\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->errors), 0);
    assert_true(put > 0);
}

/* Every write that would make a file longer than a limit fails, with a limit that grows until nothing fails any more. */
static void whichever_write_fails_it_is_tried_again_and_nothing_is_lost(void **state)
{
    (void)state;
    struct rlimit was;
    char id[16];
    unsigned failures = 0;
    rf.options.ndjson_dir = rf.ndjson;
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(id, sizeof id, "e%u", i);
        rf_create(&rf, id);
        rf_put(&rf, EVENT, id, "51tx|");
    }
    rf_store_close(&rf); /* its threads would meet the limit too */
    rf_store_open(&rf);
    rf_open(&rf);
    (void)sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    int r = -EIO;
    for (rlim_t limit = 4096; r < 0; limit += 20000) {
        struct rlimit now = {.rlim_cur = limit, .rlim_max = was.rlim_max};
        assert_true(limit < 4000000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
        r = runs_catch_up(rf.runs, NULL, NULL, &rf.err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
        assert_int_equal(atomic_load(&runs_status(rf.runs)->fault),
                         r < 0 ? RUNS_FAILING : RUNS_FINE);
        failures += r < 0 ? 1 : 0;
    }
    assert_true(failures > 3);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM agent_runs"), 300);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM run_events"), 300);
    rf_expect(rf.db, "PRAGMA integrity_check", "ok\n");
    char path[512];
    (void)snprintf(path, sizeof path, "%s/events_20251124.ndjson", rf.ndjson);
    char *text = rf_text(path);
    unsigned lines = 0;
    for (const char *at = strchr(text, '\n'); at != NULL; at = strchr(at + 1, '\n')) {
        lines++;
    }
    assert_int_equal(lines, 600);
    mem_free(text);
}

static void a_database_that_is_locked_at_start_is_caught_up_later(void **state)
{
    (void)state;
    sqlite3 *other = NULL;
    rf_open(&rf);
    rf_create(&rf, "e1");
    assert_int_equal(sqlite3_open(rf.db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(runs_catch_up(rf.runs, NULL, NULL, &rf.err), -EBUSY);
    start_agent();
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    expect_result(1, RUNS_CREATED, "");
    (void)sqlite3_close(other);
    stop_agent();
}

static void a_damaged_database_stops_applying_and_keeps_the_position(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_sql(rf.db, "ALTER TABLE agent_runs RENAME TO gone");
    rf_create(&rf, "e2");
    assert_int_equal(runs_catch_up(rf.runs, NULL, NULL, &rf.err), ERR_CORRUPT);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->fault), RUNS_DAMAGED);
    start_agent();
    rf_create(&rf, "e3");
    runs_wake(rf.runs);
    (void)poll(NULL, 0, 50);
    assert_true(spsc_is_empty(runs_results(rf.runs, 0)));
    stop_agent();
    rf_close(&rf);
    rf_sql(rf.db, "ALTER TABLE gone RENAME TO agent_runs");
    rf_open(&rf);
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e1\ne2\ne3\n");
}

/* ---- the lock ---- */

static void a_second_writer_is_refused_and_told_who_holds_it(void **state)
{
    (void)state;
    char expected[64];
    char host[256] = "";
    struct runs *first = NULL;
    rf_open(&rf);
    first = rf.runs;
    assert_int_equal(rf_try_open(&rf), ERR_LIMIT);
    (void)snprintf(expected, sizeof expected, "process %ld on host ", (long)getpid());
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    assert_non_null(strstr(rf.err.text, expected));
    assert_non_null(strstr(rf.err.text, host));
    char *lines = rf_text(rf.lock);
    (void)snprintf(expected, sizeof expected, "%ld\n", (long)getpid());
    assert_memory_equal(lines, expected, strlen(expected));
    assert_int_equal(lines[strlen(lines) - 1], '\n');
    mem_free(lines);
    runs_close(first);
    rf.runs = NULL;
    assert_int_not_equal(access(rf.lock, F_OK), 0);
    rf_open(&rf);
}

static void a_lock_file_of_a_dead_process_is_taken_over(void **state)
{
    (void)state;
    int fd = open(rf.lock, O_WRONLY | O_CREAT, 0644);
    assert_int_equal(write(fd, "1\nelsewhere\nand more than we write\n", 35), 35);
    (void)close(fd);
    rf_open(&rf);
    char *lines = rf_text(rf.lock);
    assert_null(strstr(lines, "elsewhere"));
    assert_null(strstr(lines, "more"));
    mem_free(lines);
}

/* ---- what other tools do to the file ---- */

static void the_log_is_applied_from_what_the_file_says(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_create(&rf, "e2");
    rf_put(&rf, EVENT, "e1", "51tx|");
    rf_catch_up(&rf);
    rf_sql(rf.db, "DELETE FROM run_events; DELETE FROM agent_runs WHERE event_id = 'e2'; "
                  "UPDATE sluice_meta SET value = '1' WHERE key = 'applied_lsn'");
    rf_create(&rf, "e3");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_id FROM agent_runs ORDER BY id", "e1\ne2\ne3\n");
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM run_events"), 1);
}

/* As a commit does that fails in its last step. */
static void what_the_file_says_is_applied_is_not_applied_again(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_put(&rf, EVENT, "e1", "51tx|");
    rf_put(&rf, EVENT, "e1", "51ty|");
    rf_sql(rf.db,
           "INSERT INTO run_events(run_id, event_type, timestamp) VALUES('run-e1', 'x', ''); "
           "UPDATE sluice_meta SET value = '2' WHERE key = 'applied_lsn'");
    rf_catch_up(&rf);
    rf_expect(rf.db, "SELECT event_type FROM run_events ORDER BY id", "x\ny\n");
}

static void a_position_that_the_log_does_not_have_stops_applying(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "UPDATE sluice_meta SET value = '99' WHERE key = 'applied_lsn'",
        "DELETE FROM sluice_meta WHERE key = 'applied_lsn'",
        "UPDATE sluice_meta SET value = 'another' WHERE key = 'node'"};
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        rf_open(&rf);
        rf_create(&rf, "e1");
        rf_catch_up(&rf);
        rf_sql(rf.db, changes[i]);
        rf_put(&rf, UPDATE, "e1", "11tsuccess|");
        assert_int_equal(runs_catch_up(rf.runs, NULL, NULL, &rf.err), ERR_CORRUPT);
        assert_int_equal(atomic_load(&runs_status(rf.runs)->fault), RUNS_DAMAGED);
        rf_close(&rf);
        assert_int_equal(unlink(rf.db), 0);
    }
}

static void a_file_without_its_name_is_not_written_until_it_has_it_again(void **state)
{
    (void)state;
    char aside[256];
    (void)snprintf(aside, sizeof aside, "%s.aside", rf.db);
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    assert_int_equal(rename(rf.db, aside), 0);
    rf_create(&rf, "e2");
    assert_int_equal(runs_catch_up(rf.runs, NULL, NULL, &rf.err), -ESTALE);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->fault), RUNS_MOVED);
    assert_non_null(strstr(runs_fault_text(RUNS_MOVED), "restart"));
    assert_int_equal(rf_number(aside, "SELECT count(*) FROM agent_runs"), 1);
    assert_int_equal(rename(aside, rf.db), 0);
    rf_catch_up(&rf);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->fault), RUNS_FINE);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM agent_runs"), 2);
}

static void agent_runs_that_somebody_dropped_is_filled_from_the_log(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    rf_close(&rf);
    rf_sql(rf.db, "DROP TABLE agent_runs; DROP TABLE sluice_run_zones");
    rf_open(&rf);
    assert_non_null(strstr(rf.opened.warning, "applied from its beginning"));
    rf_catch_up(&rf);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM agent_runs"), 2);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM sluice_run_zones"), 1);
}

/* ---- the mirror ---- */

static char *mirror_text(const char *day)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/events_%s.ndjson", rf.ndjson, day);
    return rf_text(path);
}

static void what_changed_something_is_mirrored_by_day(void **state)
{
    (void)state;
    rf.options.ndjson_dir = rf.ndjson;
    rf_open(&rf);
    rf_put(&rf, CREATE, "e1", "1te1|2tr|6ts|\n\r8ta|10tj|");
    rf_create(&rf, "e1");
    rf_put(&rf, UPDATE, "none", "11tsuccess|");
    rf_put_at(&rf, UPDATE, "e1", "11tsuccess|", RF_TIME_NS + RF_DAY_NS);
    rf_put(&rf, EVENT, "e1", "51tback|");
    rf_catch_up(&rf);
    char *first = mirror_text("20251124");
    char *second = mirror_text("20251125");
    assert_string_equal(first, "1te1|2tr|6ts|  8ta|10tj|\n"
                               "{\"command\":\"event\",\"event_id\":\"e1\",\"lsn\":5,"
                               "\"time\":\"2025-11-24T16:00:00.123456Z\",\"body\":51tback|}\n");
    assert_string_equal(second, "{\"command\":\"update\",\"event_id\":\"e1\",\"lsn\":4,"
                                "\"time\":\"2025-11-25T16:00:00.123456Z\",\"body\":11tsuccess|}\n");
    mem_free(first);
    mem_free(second);
}

static void a_mirrored_line_that_was_not_committed_is_cut_at_start(void **state)
{
    (void)state;
    char path[512];
    rf.options.ndjson_dir = rf.ndjson;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_close(&rf);
    char *before = mirror_text("20251124");
    (void)snprintf(path, sizeof path, "%s/events_20251124.ndjson", rf.ndjson);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "{\"half", 6), 6);
    (void)close(fd);
    rf_open(&rf);
    assert_non_null(strstr(rf.opened.warning, "cut 6 bytes"));
    char *after = mirror_text("20251124");
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);
}

/* A failure between two passes: the position cannot be stored. */
static void what_others_add_to_the_mirror_stays_when_the_file_is_moved(void **state)
{
    (void)state;
    char path[512];
    char aside[256];
    (void)snprintf(aside, sizeof aside, "%s.aside", rf.db);
    (void)snprintf(path, sizeof path, "%s/events_20251124.ndjson", rf.ndjson);
    rf.options.ndjson_dir = rf.ndjson;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "theirs\n", 7), 7);
    (void)close(fd);
    char *before = mirror_text("20251124");
    assert_int_equal(rename(rf.db, aside), 0);
    rf_put(&rf, 0, "", "a log record, no command");
    rf_catch_up(&rf);
    assert_int_equal(atomic_load(&runs_status(rf.runs)->fault), RUNS_MOVED);
    char *after = mirror_text("20251124");
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);
}

static void a_line_longer_than_the_buffer_is_mirrored_whole(void **state)
{
    (void)state;
    size_t bytes = 700 * 1024;
    char *payload = mem_alloc(bytes + 1);
    int head = snprintf(payload, bytes, "1te1|2tr|6ts|8ta|10tj|24t");
    memset(payload + head, 'x', bytes - (size_t)head - 1);
    payload[bytes - 1] = '|';
    rf.options.ndjson_dir = rf.ndjson;
    rf_open(&rf);
    rf_put(&rf, CREATE, "e1", payload);
    rf_create(&rf, "e2");
    rf_catch_up(&rf);
    char *text = mirror_text("20251124");
    assert_memory_equal(text, payload, bytes);
    assert_int_equal(text[bytes], '\n');
    assert_memory_equal(text + bytes + 1, "1te2|", 5);
    mem_free(text);
    mem_free(payload);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(a_run_is_stored_with_its_defaults_and_its_time),
        CASE(every_column_holds_what_was_said),
        CASE(a_repeated_event_id_overwrites_nothing),
        CASE(an_update_changes_what_it_says_and_nothing_else),
        CASE(events_and_commits_belong_to_runs_that_exist),
        CASE(what_sqlite_refuses_costs_that_command_only),
        CASE(the_tables_are_those_of_the_contract),
        CASE(what_is_created_is_in_its_zone),
        CASE(a_requests_commands_are_seen_together_or_not_at_all),
        CASE(a_trigger_of_somebody_elses_fires_all_the_same),
        CASE(a_trigger_made_while_the_server_runs_fires_from_then_on),
        CASE(a_trigger_that_rolls_back_costs_no_other_command),
        CASE(a_commands_meta_reads_back_and_nothing_else_does),
        CASE(applying_again_applies_nothing),
        CASE(a_rebuilt_database_equals_the_old_one_row_for_row),
        CASE(killed_at_any_moment_nothing_is_lost_and_nothing_comes_twice),
        CASE(a_log_that_lost_its_end_is_seen_and_new_commands_are_applied),
        CASE(another_nodes_database_is_kept_and_the_log_applied_from_its_beginning),
        CASE(each_command_has_its_result_in_the_order_of_the_log),
        CASE(a_result_that_is_cut_says_so),
        CASE(many_commands_share_a_transaction_and_nobody_misses_a_result),
        CASE(an_orderly_stop_applies_what_is_durable),
        CASE(a_stuck_reader_is_told_and_loses_nothing),
        CASE(the_real_tool_reads_while_we_write),
        CASE(nothing_is_applied_before_its_durability_is_told),
        CASE(whichever_write_fails_it_is_tried_again_and_nothing_is_lost),
        CASE(a_database_that_is_locked_at_start_is_caught_up_later),
        CASE(a_damaged_database_stops_applying_and_keeps_the_position),
        CASE(a_second_writer_is_refused_and_told_who_holds_it),
        CASE(a_lock_file_of_a_dead_process_is_taken_over),
        CASE(the_log_is_applied_from_what_the_file_says),
        CASE(what_the_file_says_is_applied_is_not_applied_again),
        CASE(a_position_that_the_log_does_not_have_stops_applying),
        CASE(a_file_without_its_name_is_not_written_until_it_has_it_again),
        CASE(agent_runs_that_somebody_dropped_is_filled_from_the_log),
        CASE(what_changed_something_is_mirrored_by_day),
        CASE(a_mirrored_line_that_was_not_committed_is_cut_at_start),
        CASE(what_others_add_to_the_mirror_stays_when_the_file_is_moved),
        CASE(a_line_longer_than_the_buffer_is_mirrored_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
