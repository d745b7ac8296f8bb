/*
 * What became of keyed commands, as a real log and the database over it tell: kept where it does not follow, the same however often and in
 * whatever pieces the log is applied, forgotten in time, and read back.
 */
#include "runs_fixture.h"

#include "store/runs_outcomes.h"

#define CREATE    RUNS_COMMAND_CREATE
#define UPDATE    RUNS_COMMAND_UPDATE
#define ASSOCIATE RUNS_COMMAND_ASSOCIATE
#define EVENT     RUNS_COMMAND_EVENT

#define ROWS "SELECT lsn, outcome, text FROM sluice_run_outcomes ORDER BY lsn"
#define LSNS "SELECT group_concat(lsn) FROM (SELECT lsn FROM sluice_run_outcomes ORDER BY lsn)"
/* The fixture's TTL, and what a record may have waited. */
#define OVER_NS ((3600 + 600) * (int64_t)NS_S)

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

/* ---- kept ---- */

static void only_what_did_not_simply_succeed_is_kept(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 1, NULL, 0});
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 1, NULL, 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 1, 0, 1, "23i5|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 9, 0, 1, "23i5|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 1, 0, 1, "", 0});
    rf_put_keyed(&rf, (struct rf_keyed){ASSOCIATE, 1, 0, 1, "47tabcdef0|48tllm|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){ASSOCIATE, 9, 0, 1, "47tabcdef0|48tllm|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){EVENT, 1, 0, 1, "51tx|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){EVENT, 9, 0, 1, "51tx|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 1, 0, 1, "23i-5|", 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 1, 0, 1, "no command", 0});
    rf_catch_up(&rf);
    rf_expect(rf.db, ROWS,
              "2|2|~\n4|6|~\n5|7|~\n7|6|~\n9|6|~\n10|8|CHECK constraint failed: duration_ms >= 0\n"
              "11|8|no command\n");
}

static void a_command_without_a_key_leaves_nothing(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 1, 3, NULL, 0});
    rf_create(&rf, "e1"); /* right behind a batch */
    rf_put(&rf, UPDATE, "none", "23i5|");
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 1, NULL, 0});
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "6\n");
}

static void a_batchs_receipt_speaks_for_all_of_it(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 2, 2, 2, NULL, 0}); /* e2, e4 */
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 1, 5, NULL, 0}); /* LSN 3 to 7: e1 to e5 */
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 5, 0, 3, NULL, 0}); /* e5 three times */
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "4,6,8,9,10\n");
}

/* ---- a function of the log ---- */

static uint64_t put_batches(void)
{
    for (unsigned i = 0; i < 4; i++) {
        rf_put_keyed(&rf, (struct rf_keyed){CREATE, 400 * i, 1, 600, NULL, 0});
    }
    return 2400;
}

static void a_crash_inside_a_batch_loses_none_of_it(void **state)
{
    (void)state;
    static _Atomic uint64_t told;
    rf_open(&rf);
    uint64_t end = put_batches();
    rf_catch_up(&rf);
    char *whole = rf_dump(rf.db);
    rf_close(&rf);
    assert_int_equal(unlink(rf.db), 0);
    rf.told_lsn = &told;
    for (uint64_t lsn = 37; lsn < end + 37; lsn += 37) { /* it ends, and begins again, everywhere */
        atomic_store(&told, u64_min(lsn, end));
        rf_open(&rf);
        rf_catch_up(&rf);
        rf_close(&rf);
    }
    char *pieces = rf_dump(rf.db);
    assert_string_equal(pieces, whole);
    assert_int_equal(rf_number(rf.db, "SELECT count(*) FROM sluice_run_outcomes"), 600);
    free(whole);
    free(pieces);
}

static void what_was_rolled_back_is_kept_when_it_is_applied(void **state)
{
    (void)state;
    sqlite3 *other = NULL;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 2, NULL, 0});
    rf_catch_up(&rf);
    assert_int_equal(sqlite3_open(rf.db, &other), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(other, "BEGIN; SELECT count(*) FROM agent_runs", NULL, NULL, NULL), SQLITE_OK);
    char text[512];
    int64_t time_ns = RF_TIME_NS + OVER_NS + 1;
    rf_create_text(text, sizeof text, "e1");
    rf_put_at(&rf, CREATE, "e1", text, time_ns); /* LSN 3: without a key; what is old goes */
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 1, 3, NULL, time_ns});
    assert_int_equal(runs_catch_up(rf.runs, NULL, NULL, &rf.err), -EBUSY); /* at the commit */
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(other);
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "4\n");
}

/* Keyed and other commands over hours, so that rows come and go; in passes of chance, then in as few as may be. */
static void the_table_is_the_same_in_whatever_passes_the_log_is_applied(void **state)
{
    (void)state;
    unsigned seed = (unsigned)clock_mono_ns();
    print_message("seed %u\n", seed);
    rf_open(&rf);
    int64_t time_ns = RF_TIME_NS;
    for (unsigned i = 0; i < 300; i++) {
        seed = seed * 1664525u + 1013904223u;
        time_ns += (int64_t)(seed >> 8 & 63) * (int64_t)NS_S * 4;
        struct rf_keyed keyed = {CREATE, seed >> 16 & 31, 1, 1 + (seed >> 24 & 7), NULL, time_ns};
        if ((seed & 7) == 0) {
            rf_put_at(&rf, UPDATE, "none", "23i5|", time_ns);
        } else {
            rf_put_keyed(&rf, keyed);
        }
        if ((seed >> 13 & 7) == 0) {
            rf_catch_up(&rf);
        }
    }
    rf_catch_up(&rf);
    char *old = rf_dump(rf.db);
    int64_t rows = rf_number(rf.db, "SELECT count(*) FROM sluice_run_outcomes");
    int64_t duplicates = (int64_t)atomic_load(&runs_status(rf.runs)->duplicates);
    assert_true(rows > 0 && rows < duplicates); /* some have gone */
    rf_close(&rf);
    assert_int_equal(unlink(rf.db), 0);
    rf_open(&rf);
    rf_catch_up(&rf);
    char *again = rf_dump(rf.db);
    assert_string_equal(old, again);
    free(old);
    free(again);
}

/* ---- forgotten ---- */

static void a_row_goes_when_its_key_is_forgotten_a_few_at_a_time(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 8, NULL, 0}); /* LSN 2 to 8 */
    rf_put_at(&rf, UPDATE, "none", "23i5|", RF_TIME_NS + OVER_NS);
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "2,3,4,5,6,7,8\n"); /* not a moment before */
    rf_put_at(&rf, UPDATE, "none", "23i5|", RF_TIME_NS + OVER_NS + 1);
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "6,7,8\n");
    rf_put_at(&rf, UPDATE, "none", "23i5|", RF_TIME_NS - OVER_NS); /* the clock was set back */
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "6,7,8\n");
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 1, NULL, RF_TIME_NS + 2 * OVER_NS});
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "12\n");
}

static void what_is_not_of_this_log_is_forgotten_at_a_start(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 2, NULL, 0});
    rf_catch_up(&rf);
    rf_close(&rf);
    rf_sql(rf.db, "INSERT INTO sluice_run_outcomes VALUES(4, 6, 0, NULL);"
                  "INSERT OR REPLACE INTO sluice_meta VALUES('keyed_lsn', '9');"
                  "UPDATE sluice_meta SET value = '9' WHERE key = 'applied_lsn'");
    rf_open(&rf); /* the log ends at 2 */
    rf_expect(rf.db, LSNS, "2\n");
    rf_create(&rf, "e1"); /* LSN 3, without a key */
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "2\n");
    rf_close(&rf);
    rf_sql(rf.db, "UPDATE sluice_meta SET value = '01ARZ3NDEKTSV4RRFFQ69G5FAV' WHERE key = 'node'");
    rf_open(&rf);
    rf_expect(rf.db, LSNS, "~\n");
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "1,2\n"); /* the run is there before its own creation */
}

/* A file from before there was such a table. */
static void an_older_file_gets_the_table(void **state)
{
    (void)state;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_catch_up(&rf);
    rf_close(&rf);
    rf_sql(rf.db, "DROP TABLE sluice_run_outcomes");
    rf_open(&rf);
    assert_int_equal(rf.opened.found, RUNS_GOOD);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 1, NULL, 0});
    rf_catch_up(&rf);
    rf_expect(rf.db, LSNS, "2\n");
}

/* ---- read ---- */

static char seen[1024];

static void on_outcome(void *context, uint64_t lsn, enum runs_outcome outcome, struct slice text)
{
    (void)context;
    size_t bytes = strlen(seen);
    (void)snprintf(seen + bytes, sizeof seen - bytes, "%llu:%d:%.*s ", (unsigned long long)lsn,
                   (int)outcome, (int)text.bytes, (const char *)text.data);
}

static int look(struct runs_reader *reader, uint64_t first_lsn, uint64_t last_lsn)
{
    struct runs_outcome_range range = {first_lsn, last_lsn};
    seen[0] = 0;
    return runs_outcomes(reader, &range, on_outcome, NULL, &rf.err);
}

static bool on_text(void *context, struct slice text)
{
    (void)context;
    (void)snprintf(seen, sizeof seen, "%.*s", (int)text.bytes, (const char *)text.data);
    return true;
}

static void a_range_is_read_when_all_of_it_is_applied(void **state)
{
    (void)state;
    const struct runs_read_model model = {0};
    struct runs_reader *reader = NULL;
    rf_open(&rf);
    rf_put_keyed(&rf, (struct rf_keyed){CREATE, 1, 0, 3, NULL, 0});
    rf_put_keyed(&rf, (struct rf_keyed){UPDATE, 1, 0, 1, "23i-5|", 0});
    rf_catch_up(&rf);
    assert_int_equal(runs_reader_open(&reader, rf.db, &model, &rf.err), 0);
    assert_int_equal(look(reader, 1, 3), 1);
    assert_string_equal(seen, "2:2: 3:2: ");
    assert_int_equal(look(reader, 1, 1), 1);
    assert_string_equal(seen, "");
    assert_int_equal(look(reader, 4, 4), 1);
    assert_string_equal(seen, "4:8:CHECK constraint failed: duration_ms >= 0 ");
    assert_int_equal(look(reader, 4, 5), 0);
    assert_string_equal(seen, "");
    rf_sql(rf.db, "UPDATE sluice_run_outcomes SET outcome = 9 WHERE lsn = 3");
    assert_int_equal(look(reader, 1, 3), ERR_CORRUPT);
    assert_int_equal(look(reader, 4, 4), 1); /* the failure holds no lock and no statement */
    runs_reader_close(reader);
}

static void a_run_id_is_read_whole(void **state)
{
    (void)state;
    const struct runs_read_model model = {0};
    struct runs_reader *reader = NULL;
    rf_open(&rf);
    rf_create(&rf, "e1");
    rf_put(&rf, CREATE, "e2", "1te2|2t|6ts|8ta|10tj|");
    rf_catch_up(&rf);
    assert_int_equal(runs_reader_open(&reader, rf.db, &model, &rf.err), 0);
    assert_int_equal(runs_run_id(reader, SLICE_LITERAL("e1"), on_text, NULL, &rf.err), 1);
    assert_string_equal(seen, "run-e1");
    assert_int_equal(runs_run_id(reader, SLICE_LITERAL("e2"), on_text, NULL, &rf.err), 1);
    assert_string_equal(seen, "");
    assert_int_equal(runs_run_id(reader, SLICE_LITERAL("e3"), on_text, NULL, &rf.err), 0);
    runs_reader_close(reader);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(only_what_did_not_simply_succeed_is_kept),
        TEST(a_command_without_a_key_leaves_nothing),
        TEST(a_batchs_receipt_speaks_for_all_of_it),
        TEST(a_crash_inside_a_batch_loses_none_of_it),
        TEST(what_was_rolled_back_is_kept_when_it_is_applied),
        TEST(the_table_is_the_same_in_whatever_passes_the_log_is_applied),
        TEST(a_row_goes_when_its_key_is_forgotten_a_few_at_a_time),
        TEST(what_is_not_of_this_log_is_forgotten_at_a_start),
        TEST(an_older_file_gets_the_table),
        TEST(a_range_is_read_when_all_of_it_is_applied),
        TEST(a_run_id_is_read_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
