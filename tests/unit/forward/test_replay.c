/*
 * Replay jobs beside a real store (delivery_fixture.h), against a scripted upstream over real sockets: interrupted anywhere, each record of
 * the range once.
 */
#include "delivery_fixture.h"

#include "forward/quarantine_order.h"
#include "forward/replay.h"
#include "forward/replay_job.h"

struct rj {
    struct df *df;
    struct replay_plan plan;
    struct replay_log log;
    struct replay *replay;
    struct replay_progress at;
};

static void rj_init(struct rj *rj, struct df *df)
{
    *rj = (struct rj){.df = df};
    rj->plan = (struct replay_plan){
        .sink = &df->sink,
        .compacts = true,
        .job = "job",
        .parameters = "all of it",
        .lsn_max = UINT64_MAX,
        .time_min_ns = INT64_MIN,
        .time_max_ns = INT64_MAX,
        .filter_text = "",
    };
}

static int rj_try_open(struct rj *rj, struct err *err)
{
    int r = replay_log_open(&rj->log, rj->df->dir, NULL, NULL, err);
    assert_int_equal(r, 0);
    r = replay_open(&rj->replay, rj->df->dir, &rj->plan, &rj->log, err);
    if (r < 0) {
        replay_log_close(&rj->log);
    }
    return r;
}

static void rj_open(struct rj *rj)
{
    struct err err = {0};
    if (rj_try_open(rj, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

/* As kill -9: nothing is waited for. */
static void rj_close(struct rj *rj)
{
    replay_close(rj->replay);
    replay_log_close(&rj->log);
    rj->replay = NULL;
}

static int rj_step(struct rj *rj)
{
    struct err err = {0};
    int r = replay_step(rj->replay, &err);
    if (r < 0) {
        fail_msg("%s", err.text);
    }
    replay_look(rj->replay, &rj->at);
    assert_true(sink_balances(&rj->at.picture));
    assert_true(rj->at.done_lsns <= rj->at.all_lsns && rj->at.done_bytes <= rj->at.all_bytes);
    return r;
}

static void rj_finish(struct rj *rj)
{
    uint64_t end_ns = clock_mono_ns() + 60 * NS_S;
    while (rj_step(rj) == 0) {
        assert_true(clock_mono_ns() < end_ns);
    }
    assert_true(replay_is_finished(rj->replay));
    assert_int_equal(rj->at.done_lsns, rj->at.all_lsns);
}

/* Everything that is to be there is there once. */
static void rj_expect(struct rj *rj, uint32_t from, uint32_t to)
{
    struct err err = {0};
    char path[REPLAY_PATH_BYTES];
    assert_int_equal(replay_job_path(path, rj->df->dir, rj->plan.job, ".sqlite", &err), 0);
    assert_int_equal(forward_db_open_read_only(&rj->df->db, path, &err), 0);
    df_expect_exactly_once(rj->df, from, to);
    forward_db_close(rj->df->db);
    rj->df->db = NULL;
}

static unsigned requests(struct df *df)
{
    (void)pthread_mutex_lock(&df->mutex);
    unsigned count = df->requests;
    (void)pthread_mutex_unlock(&df->mutex);
    return count;
}

/* ---- ranges ---- */

static void a_range_is_delivered_once_and_what_comes_later_is_not_of_it(void **state)
{
    (void)state;
    struct df *df = df_new(1);
    struct rj rj;
    df_append(df, 200);
    rj_init(&rj, df);
    rj.plan.lsn_min = 31;
    rj_open(&rj);
    assert_false(replay_is_resumed(rj.replay));
    df_append(df, 50);
    rj_finish(&rj);
    assert_int_equal(rj.at.first_lsn, 31);
    assert_int_equal(rj.at.last_lsn, 200);
    rj_expect(&rj, 31, 200);
    rj_close(&rj);
    df_free(df);
}

static bool is_seventh(void *context, const struct scan_record *record)
{
    (void)context;
    return record->lsn % 7 == 0;
}

static void what_a_filter_takes_out_is_counted_and_the_keys_say_that_it_is_a_part(void **state)
{
    (void)state;
    struct df *df = df_new(2);
    struct rj rj;
    df->sink.kinds = 0;
    df_append(df, 300);
    rj_init(&rj, df);
    rj.plan.match = is_seventh;
    rj.plan.filter_text = "seventh";
    rj.plan.time_max_ns = INT64_C(1700000000000000000) + 210; /* the event time of LSN 210 */
    rj_open(&rj);
    rj_finish(&rj);
    assert_int_equal(rj.at.picture.position.delivered, 30);
    assert_int_equal(rj.at.picture.position.filtered, 270);
    for (unsigned i = 0; i < df->body_count; i++) {
        const char *dash = strrchr(df->bodies[i].key, '-');
        assert_non_null(dash);
        assert_int_equal(dash[1], 'f');
    }
    rj_close(&rj);
    df_free(df);
}

static void the_count_is_what_is_delivered(void **state)
{
    (void)state;
    struct df *df = df_new(3);
    struct rj rj;
    struct replay_count count;
    struct err err = {0};
    df_append(df, 300);
    rj_init(&rj, df);
    rj.plan.lsn_min = 11;
    rj.plan.match = is_seventh;
    rj.plan.filter_text = "seventh";
    rj_open(&rj);
    assert_int_equal(replay_count(&rj.plan, &rj.log, &count, NULL, NULL, &err), 0);
    rj_finish(&rj);
    assert_int_equal(count.records, rj.at.picture.position.delivered);
    assert_int_equal(count.records, count.by_kind[RECORD_LOG]); /* the sink takes no others */
    assert_true(count.payload_bytes > 0);
    rj_close(&rj);
    df_free(df);
}

static void an_empty_range_is_finished_at_once(void **state)
{
    (void)state;
    struct df *df = df_new(4);
    struct rj rj;
    df_append(df, 20);
    rj_init(&rj, df);
    rj.plan.lsn_min = 500;
    rj_open(&rj);
    rj_finish(&rj);
    assert_int_equal(requests(df), 0);
    rj_close(&rj);
    df_free(df);
}

/* ---- interruptions ---- */

static void interrupted_anywhere(uint64_t seed)
{
    struct df *df = df_new(seed);
    struct rj rj;
    uint64_t random = seed;
    df->fail = 15;
    df->reset = 10;
    df->lost = 15;
    df->pause = 3;
    df->refuses_poison = true;
    df_append(df, 400);
    rj_init(&rj, df);
    rj.plan.lsn_min = 21;
    rj.plan.lsn_max = 380;
    unsigned lives = 0;
    for (bool is_finished = false; !is_finished; lives++) {
        assert_true(lives < 2000);
        rj_open(&rj);
        assert_int_equal(replay_is_resumed(rj.replay), lives > 0);
        uint64_t steps = 1 + df_random(&random) % 25;
        for (uint64_t i = 0; i < steps && !is_finished; i++) {
            is_finished = rj_step(&rj) == 1;
        }
        rj_close(&rj);
    }
    assert_true(lives > 2);
    rj_expect(&rj, 21, 380);
    df_free(df);
}

static void exactly_once_wherever_it_is_interrupted(void **state)
{
    (void)state;
    const char *given = getenv("SLUICE_SEED");
    uint64_t first = given == NULL ? clock_mono_ns() % 1000000 : strtoull(given, NULL, 10);
    for (uint64_t seed = first; seed < first + (given == NULL ? 4 : 1); seed++) {
        print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
        interrupted_anywhere(seed);
    }
}

static void stopped_in_order_nothing_is_sent_twice(void **state)
{
    (void)state;
    struct df *df = df_new(5);
    struct rj rj;
    df_append(df, 400);
    rj_init(&rj, df);
    rj_open(&rj);
    while (requests(df) < 3) { /* the test's time limit */
        assert_int_equal(rj_step(&rj), 0);
    }
    replay_stop(rj.replay);
    while (rj_step(&rj) == 0) {
    }
    assert_false(replay_is_finished(rj.replay));
    rj_close(&rj);
    rj_open(&rj);
    rj_finish(&rj);
    rj_expect(&rj, 1, 400);
    for (unsigned i = 0; i < df->body_count; i++) {
        assert_int_equal(df->bodies[i].times, 1);
    }
    rj_close(&rj);
    df_free(df);
}

/* With one byte a second the next request is due in hours: however long the test looks, there is none. */
static void a_rate_is_kept_and_another_one_makes_no_other_job(void **state)
{
    (void)state;
    struct df *df = df_new(6);
    struct rj rj;
    df_append(df, 400);
    rj_init(&rj, df);
    df->sink.rate = 1;
    rj_open(&rj);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(rj_step(&rj), 0);
    }
    assert_int_equal(requests(df), 1);
    rj_close(&rj);
    df->sink.rate = 0;
    rj_open(&rj);
    assert_true(replay_is_resumed(rj.replay));
    rj_finish(&rj);
    rj_expect(&rj, 1, 400);
    rj_close(&rj);
    df_free(df);
}

static void what_retention_removes_under_way_is_counted_as_expired(void **state)
{
    (void)state;
    struct df *df = df_new(7);
    struct rj rj;
    df_store_close(df);
    df->retention_bytes = KIB(512);
    df->pad = 3000;
    df_store_open(df);
    df_append(df, 60);
    rj_init(&rj, df);
    df->sink.rate = 1;
    df->sink.batch_records = 2;
    df->sink.connections = 1;
    rj_open(&rj);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(rj_step(&rj), 0);
    }
    rj_close(&rj);
    const struct store_status *status = store_status(df->store);
    for (unsigned n = 0; n < 200 && df->count < 3000 &&
                         atomic_load_explicit(&status->first_lsn, memory_order_relaxed) < 60;
         n++) {
        df_append(df, 20);
        (void)poll(NULL, 0, 10);
    }
    assert_true(atomic_load_explicit(&status->first_lsn, memory_order_relaxed) >= 60);
    df->sink.rate = 0;
    rj_open(&rj);
    rj_finish(&rj);
    const struct sink_position *at = &rj.at.picture.position;
    assert_true(at->expired >= 20);
    assert_true(at->delivered >= 1);
    assert_int_equal(at->damaged, 0);
    assert_int_equal(at->delivered + at->filtered + at->expired, 60);
    rj_close(&rj);
    df_free(df);
}

/* ---- jobs ---- */

static void a_name_stands_for_one_job_and_one_process_at_a_time(void **state)
{
    (void)state;
    struct df *df = df_new(8);
    struct rj rj;
    struct rj other;
    struct err err = {0};
    df_append(df, 50);
    rj_init(&rj, df);
    rj_open(&rj);
    rj_init(&other, df);
    assert_int_equal(rj_try_open(&other, &err), -EBUSY);
    assert_int_equal(replay_job_remove(df->dir, "job", &err), -EBUSY);
    rj_finish(&rj);
    rj_close(&rj);
    other.plan.parameters = "something else";
    assert_int_equal(rj_try_open(&other, &err), -EEXIST);
    assert_non_null(strstr(err.text, "all of it"));
    rj_open(&rj);
    assert_true(replay_is_finished(rj.replay)); /* at once, after a restart */
    rj_close(&rj);
    assert_int_equal(replay_job_remove(df->dir, "job", &err), 0);
    assert_int_equal(replay_job_remove(df->dir, "job", &err), -ENOENT);
    assert_int_equal(rj_try_open(&other, &err), 0);
    assert_false(replay_is_resumed(other.replay));
    rj_close(&other);
    df_free(df);
}

static void a_range_that_the_log_has_no_more_is_refused(void **state)
{
    (void)state;
    struct df *df = df_new(9);
    struct rj rj;
    struct err err = {0};
    char path[REPLAY_PATH_BYTES];
    struct forward_db *db = NULL;
    enum forward_db_found found;
    df_append(df, 50);
    rj_init(&rj, df);
    rj_open(&rj);
    rj_close(&rj);
    /* As if the log had been longer when the job was made. */
    assert_int_equal(replay_job_path(path, df->dir, "job", ".sqlite", &err), 0);
    assert_int_equal(forward_db_open(&db, path, store_node(df->store), &found, &err), 0);
    assert_int_equal(forward_db_begin(db, &err), 0);
    assert_int_equal(forward_db_meta_put(db, "lsn_max", "90", &err), 0);
    assert_int_equal(forward_db_commit(db, &err), 0);
    forward_db_close(db);
    assert_int_equal(rj_try_open(&rj, &err), ERR_LIMIT);
    df_free(df);
}

struct listed {
    unsigned count;
    struct replay_job job;
};

static void on_job(void *context, const struct replay_job *job)
{
    struct listed *listed = context;
    listed->count++;
    listed->job = *job;
}

static void jobs_are_listed_with_what_they_are(void **state)
{
    (void)state;
    struct df *df = df_new(10);
    struct rj rj;
    struct err err = {0};
    struct listed *listed = mem_alloc(sizeof *listed);
    df_append(df, 50);
    assert_int_equal(replay_jobs(df->dir, on_job, listed, &err), 0);
    rj_init(&rj, df);
    rj_open(&rj);
    assert_int_equal(replay_jobs(df->dir, on_job, listed, &err), 1);
    assert_true(listed->job.is_running);
    rj_finish(&rj);
    rj_close(&rj);
    assert_int_equal(replay_jobs(df->dir, on_job, listed, &err), 1);
    assert_int_equal(listed->count, 2);
    assert_true(listed->job.is_finished && !listed->job.is_running);
    assert_string_equal(listed->job.name, "job");
    assert_string_equal(listed->job.parameters, "all of it");
    assert_int_equal(listed->job.lsn_max, 50);
    assert_int_equal(listed->job.position.delivered, 40); /* every fifth is a metric */
    mem_free(listed);
    df_free(df);
}

static void names_cannot_leave_their_directory(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",    "..",       ".x",
        "-x",  "a/b",      "a b",
        "a\n", "\xc3\xa4", "01234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        assert_false(replay_job_is_name(bad[i]));
    }
    assert_true(replay_job_is_name("a"));
    assert_true(replay_job_is_name("7_a-B.c"));
}

/* ---- quarantine of a job, and of any file nobody forwards from ---- */

static int order(struct df *df, enum quarantine_order what, const char *sink, uint64_t id)
{
    struct err err = {0};
    struct forward_db *db = NULL;
    char path[REPLAY_PATH_BYTES];
    enum forward_db_found found;
    assert_int_equal(replay_job_path(path, df->dir, "job", ".sqlite", &err), 0);
    assert_int_equal(forward_db_open(&db, path, store_node(df->store), &found, &err), 0);
    int r = quarantine_order(db, what, sink, id, &err);
    forward_db_close(db);
    return r;
}

static void refused_records_are_requeued_or_dropped_while_nobody_delivers(void **state)
{
    (void)state;
    struct df *df = df_new(11);
    struct rj rj;
    df->refuses_poison = true;
    df_append(df, 200); /* 11 48 85 122 159 196 are poison; 85 is a metric */
    rj_init(&rj, df);
    rj_open(&rj);
    rj_finish(&rj);
    assert_int_equal(rj.at.picture.position.quarantined, 5);
    rj_expect(&rj, 1, 200);
    rj_close(&rj);
    assert_int_equal(order(df, QUARANTINE_ORDER_DROP, NULL, 1), 1);
    assert_int_equal(order(df, QUARANTINE_ORDER_DROP, NULL, 1), -ENOENT);
    assert_int_equal(order(df, QUARANTINE_ORDER_DROP, "other", 2), -ENOENT);
    assert_int_equal(order(df, QUARANTINE_ORDER_REQUEUE, "up", 2), 1);
    assert_int_equal(order(df, QUARANTINE_ORDER_REQUEUE, "up", 2), -EBUSY);
    assert_int_equal(order(df, QUARANTINE_ORDER_DROP, NULL, 2), -EBUSY);
    assert_int_equal(order(df, QUARANTINE_ORDER_REQUEUE, "up", 0), 3); /* the rest */
    assert_int_equal(order(df, QUARANTINE_ORDER_REQUEUE, "up", 0), 0);
    assert_int_equal(order(df, QUARANTINE_ORDER_DROP, "nobody", 0), 0);
    df->refuses_poison = false;
    rj_open(&rj);
    assert_false(replay_is_finished(rj.replay));
    rj_finish(&rj);
    const struct sink_position *at = &rj.at.picture.position;
    assert_int_equal(at->quarantined, 0);
    assert_int_equal(at->dropped, 1);
    assert_int_equal(at->delivered, 159);
    rj_close(&rj);
    df_free(df);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_delivered_once_and_what_comes_later_is_not_of_it),
        cmocka_unit_test(what_a_filter_takes_out_is_counted_and_the_keys_say_that_it_is_a_part),
        cmocka_unit_test(the_count_is_what_is_delivered),
        cmocka_unit_test(an_empty_range_is_finished_at_once),
        cmocka_unit_test(exactly_once_wherever_it_is_interrupted),
        cmocka_unit_test(stopped_in_order_nothing_is_sent_twice),
        cmocka_unit_test(a_rate_is_kept_and_another_one_makes_no_other_job),
        cmocka_unit_test(what_retention_removes_under_way_is_counted_as_expired),
        cmocka_unit_test(a_name_stands_for_one_job_and_one_process_at_a_time),
        cmocka_unit_test(a_range_that_the_log_has_no_more_is_refused),
        cmocka_unit_test(jobs_are_listed_with_what_they_are),
        cmocka_unit_test(names_cannot_leave_their_directory),
        cmocka_unit_test(refused_records_are_requeued_or_dropped_while_nobody_delivers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
