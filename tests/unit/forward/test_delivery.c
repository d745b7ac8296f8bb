/*
 * delivery against a real store, a real database, the real transport and an upstream that misbehaves on purpose.
 */
#include "delivery_fixture.h"

#include <sys/syscall.h>
#include <time.h>

/* The wall clock of this process, as far from the truth as a test wants it. */
static _Atomic int64_t wall_shift_ns;

int clock_gettime(clockid_t clock, struct timespec *out)
{
    long r = syscall(SYS_clock_gettime, clock, out);
    int64_t shift_ns = atomic_load_explicit(&wall_shift_ns, memory_order_relaxed);
    if (r == 0 && clock == CLOCK_REALTIME && shift_ns != 0) {
        int64_t ns = out->tv_sec * (int64_t)NS_S + out->tv_nsec + shift_ns;
        out->tv_sec = (time_t)(ns / (int64_t)NS_S);
        out->tv_nsec = (long)(ns % (int64_t)NS_S);
    }
    return (int)r;
}

static void shift_wall_clock(int64_t seconds)
{
    atomic_store_explicit(&wall_shift_ns, seconds * (int64_t)NS_S, memory_order_relaxed);
}

static void pass_for(struct df *df, uint64_t ns)
{
    uint64_t end_ns = clock_mono_ns() + ns;
    while (clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
}

static void everything_is_delivered_once_and_the_other_kinds_are_counted(void **state)
{
    (void)state;
    struct df *df = df_new(1);
    df_append(df, 500);
    df_open(df);
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    struct sink_picture picture = df_picture(df);
    assert_int_equal(picture.position.delivered, 400);
    assert_int_equal(picture.position.filtered, 100);
    assert_int_equal(delivery_retain_lsn(df->delivery), 501);
    assert_int_equal(picture.state, SINK_STATE_RUNNING);
    df_append(df, 3); /* the live end */
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    df_free(df);
}

/* Any verdicts, commits that fail, and the end of the process at any point, any number of times. */
static void exactly_once_whatever_happens(struct df *df, uint64_t seed)
{
    uint64_t dice = seed * 77;
    df_again(df, seed);
    df->fail = (unsigned)(seed % 3) * 8;
    df->reset = (unsigned)(seed % 4) * 4;
    df->lost = (unsigned)(seed % 5) * 5;
    df->pause = (unsigned)(seed % 7 == 0) * 5;
    df->too_many = (unsigned)(seed % 4 != 0) * 10;
    df->refuses_poison = seed % 3 != 0;
    df_defaults(df, seed % 2 == 0 ? SINK_OPENSEARCH : SINK_HTTP);
    df->sink.connections = 1 + seed % 4;
    df->sink.batch_records = 1 + seed % 23;
    df->sink.format = (enum sink_format)(seed / 2 % 3);
    df_open(df);
    for (unsigned n = 0; n < 400 && !df_is_drained(df); n++) {
        uint64_t what = df_random(&dice) % 100;
        df->must_fail_commit = what < 10;
        bool is_crash = what >= 10 && what < 20;
        df_pass(df, is_crash && what % 2 == 0);
        if (is_crash) {
            df_crash(df);
            df_open(df);
        }
    }
    df->must_fail_commit = false;
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    const struct sink_position position = df_picture(df).position;
    assert_int_equal(position.quarantined, df_quarantined(df).count);
    assert_int_equal(position.delivered + position.quarantined, df->count - df->count / 5);
    assert_int_equal(position.filtered, df->count / 5);
    df_crash(df);
}

static void exactly_once_under_random_verdicts_and_restarts(void **state)
{
    (void)state;
    struct df *df = df_new(2);
    df_append(df, 600);
    const char *only = getenv("SLUICE_TEST_SEED");
    uint64_t first = only == NULL ? 1 : strtoull(only, NULL, 10);
    uint64_t last = only == NULL ? 40 : first;
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("seed %llu (SLUICE_TEST_SEED=%llu repeats it)\n", (unsigned long long)seed,
                      (unsigned long long)seed);
        exactly_once_whatever_happens(df, seed);
    }
    df_free(df);
}

static void poison_is_found_to_the_record_and_quarantined_with_the_answer(void **state)
{
    (void)state;
    struct df *df = df_new(3);
    df->refuses_poison = true;
    df_append(df, 100);
    df_open(df);
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    struct df_quarantine quarantine = df_quarantined(df);
    assert_int_equal(quarantine.count, 2); /* 11 and 48; 85 is a metric */
    assert_int_equal(quarantine.status, 400);
    assert_non_null(strstr(quarantine.reason, "poison"));
    df_free(df);
}

static void a_paused_sink_says_why_keeps_everything_and_goes_on_when_it_may(void **state)
{
    (void)state;
    struct df *df = df_new(4);
    df->fixed_status = 401;
    df_append(df, 60);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 200 * NS_MS;
    while (clock_mono_ns() < end_ns) {
        df_pass(df, false);
        assert_true(df_picture(df).in_flight <= df->sink.connections);
    }
    struct sink_picture picture = df_picture(df);
    assert_int_equal(picture.state, SINK_STATE_PAUSED);
    assert_int_equal(picture.pauses, 1);
    assert_true(strlen(picture.reason) > 0);
    assert_int_equal(picture.position.delivered, 0);
    assert_int_equal(delivery_retain_lsn(df->delivery), 1); /* frozen is not delivered */
    assert_true(df->requests < 30); /* one for each pause_retry, not a storm */
    df->fixed_status = 0;
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    assert_int_equal(df_picture(df).state, SINK_STATE_RUNNING);
    df_free(df);
}

static void far_behind_old_and_new_go_side_by_side_and_never_in_one_request(void **state)
{
    (void)state;
    struct df *df = df_new(5);
    df->options.backlog_records = 50;
    df->fixed_status = 503;
    df->sink.connections = 2;
    df_append(df, 900);
    df_open(df);
    for (unsigned n = 0; n < 30; n++) {
        df_pass(df, false);
    }
    df->fixed_status = 0;
    while (df_picture(df).position.backlog_end == 0) {
        df_pass(df, false);
    }
    uint32_t old = df->count;
    df_append(df, 30);
    /* What is new arrives while most of what is old still waits. */
    while (df_picture(df).position.live_next <= df->count ||
           df_picture(df).position.delivered < 50) {
        df_pass(df, false);
    }
    struct sink_picture picture = df_picture(df);
    assert_true(picture.position.backlog_next < picture.position.backlog_end);
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    for (unsigned i = 0; i < df->body_count; i++) {
        uint32_t n = 0;
        bool has_old = false;
        bool has_new = false;
        for (const char *at = df_next_number(df->bodies[i].text, &n); at != NULL;
             at = df_next_number(at, &n)) {
            has_old |= n <= old;
            has_new |= n > old;
        }
        assert_false(has_old && has_new);
    }
    df_free(df);
}

static void a_restart_with_a_backlog_keeps_both_lanes(void **state)
{
    (void)state;
    struct df *df = df_new(6);
    df->options.backlog_records = 50;
    df_append(df, 900);
    df_open(df);
    while (df_picture(df).position.backlog_end == 0) {
        df_pass(df, false);
    }
    for (unsigned n = 0; n < 40; n++) {
        df_append(df, 2);
        df_pass(df, n % 3 == 0);
        if (n % 3 == 0) {
            df_crash(df);
            df_open(df);
        }
    }
    df_drain(df);
    df_expect_exactly_once(df, 1, df->count);
    df_free(df);
}

static void quarantined_records_can_be_delivered_again_or_dropped(void **state)
{
    (void)state;
    struct df *df = df_new(7);
    struct err err = {0};
    df->refuses_poison = true;
    df_append(df, 100);
    df_open(df);
    df_drain(df);
    struct df_quarantine quarantine = df_quarantined(df);
    assert_int_equal(quarantine.count, 2);
    assert_int_equal(delivery_requeue(df->delivery, 999, &err), -ENOENT);
    /* Still refused: back where it was. */
    assert_int_equal(delivery_requeue(df->delivery, quarantine.first_id, &err), 0);
    assert_int_equal(delivery_requeue(df->delivery, quarantine.first_id, &err), -EBUSY);
    assert_int_equal(delivery_drop(df->delivery, quarantine.first_id, &err), -EBUSY);
    df_pass(df, false);
    df_crash(df); /* under way when the process ends */
    df_open(df);
    assert_int_equal(delivery_requeue(df->delivery, quarantine.first_id, &err), -EBUSY);
    df_drain(df);
    assert_int_equal(df_quarantined(df).count, 2);
    df->refuses_poison = false;
    assert_int_equal(delivery_requeue(df->delivery, quarantine.first_id, &err), 0);
    df_drain(df);
    assert_int_equal(df_quarantined(df).count, 1);
    assert_int_equal(delivery_drop(df->delivery, df_quarantined(df).first_id, &err), 0);
    df_drain(df);
    df_pass(df, false);
    struct sink_picture picture = df_picture(df);
    assert_int_equal(df_quarantined(df).count, 0);
    assert_int_equal(picture.position.quarantined, 0);
    assert_int_equal(picture.position.dropped, 1);
    assert_int_equal(picture.position.delivered, 79);
    df_free(df);
}

static void frozen_under_another_encoding_they_are_frozen_anew(void **state)
{
    (void)state;
    struct df *df = df_new(8);
    df->fixed_status = 503;
    df_append(df, 100);
    df_open(df);
    for (unsigned n = 0; n < 20; n++) {
        df_pass(df, false);
    }
    assert_true(df_picture(df).frozen_batches > 0);
    df_crash(df);
    df->sink.record = SINK_RECORD_RAW;
    df->sink.kinds = 1u << RECORD_LOG | 1u << RECORD_METRIC; /* and more of them than before */
    df->fixed_status = 0;
    df_open(df);
    df_drain(df);
    assert_int_equal(df_picture(df).position.delivered, 100);
    assert_int_equal(df_picture(df).position.filtered, 0);
    assert_true(df_picture(df).refrozen > 0);
    df_free(df);
}

/* The upstream has the first bytes, though we never heard of it: what is frozen anew must not be taken for them. */
static void no_key_ever_stands_for_two_contents(void **state)
{
    (void)state;
    static const enum sink_format formats[] = {SINK_NDJSON, SINK_OBJECT};
    for (unsigned i = 0; i < ARRAY_COUNT(formats); i++) {
        struct df *df = df_new(17);
        df->sink.format = formats[i];
        df->lost = 100;
        df_append(df, 100);
        df_open(df);
        while (df->body_count < 3) {
            df_pass(df, false);
        }
        df_crash(df);
        df->sink.kinds =
            1u << RECORD_LOG | 1u << RECORD_METRIC; /* encoded as before, more of them */
        df_open(df);
        pass_for(df, 50 * NS_MS);
        df_crash(df);
        df->sink.record = SINK_RECORD_RAW;
        df_open(df);
        pass_for(df, 50 * NS_MS);
        df_crash(df);
        df->sink.record = SINK_RECORD_META;
        df->lost = 0;
        df_open(df);
        df_drain(df);
        assert_int_equal(df->different, 0);
        assert_true(df_picture(df).refrozen > 0);
        assert_int_equal(df_picture(df).position.delivered, 100);
        df_free(df);
    }
}

/* Without its database a sink begins anew, and the same LSNs come again. */
static void a_lost_database_takes_no_key_again(void **state)
{
    (void)state;
    struct df *df = df_new(18);
    char path[128];
    df_append(df, 100);
    df_open(df);
    df_drain(df);
    df_crash(df);
    unsigned before = df->body_count;
    (void)snprintf(path, sizeof path, "%s/%s", df->dir, FORWARD_DB_FILE);
    assert_int_equal(unlink(path), 0);
    df_open(df);
    df_drain(df);
    assert_int_equal(df->different, 0);
    assert_int_equal(df->body_count, 2 * before);
    df_free(df);
}

static void a_retry_after_a_restart_has_the_same_key(void **state)
{
    (void)state;
    struct df *df = df_new(19);
    df->sink.format = SINK_OBJECT;
    df->lost = 100;
    df_append(df, 60);
    df_open(df);
    while (df->body_count < 3) {
        df_pass(df, false);
    }
    df_crash(df);
    shift_wall_clock(-3600); /* the time of freezing is in the manifest, not on the clock */
    df->lost = 0;
    df_open(df);
    df_drain(df);
    shift_wall_clock(0);
    df_expect_exactly_once(df, 1, 60);
    assert_int_equal(df_picture(df).refrozen, 0);
    assert_true(df->bodies[0].times > 1);
    df_free(df);
}

/* ---- old and new ---- */

/* In a stored body: bit 0 a record up to first, bit 1 one up to second, bit 2 a later one. */
static unsigned ages_in(const struct df_body *body, uint32_t first, uint32_t second)
{
    unsigned ages = 0;
    uint32_t n = 0;
    for (const char *at = df_next_number(body->text, &n); at != NULL; at = df_next_number(at, &n)) {
        ages |= n <= first ? 1u : n <= second ? 2u : 4u;
    }
    return ages;
}

static void records_of_an_outage_and_new_ones_never_share_a_request(void **state)
{
    (void)state;
    struct df *df = df_new(20);
    df->sink.batch_records = 100;
    df->sink.batch_bytes = 100000;
    df_append(df, 9);
    (void)poll(NULL, 0, 2300);
    df_append(df, 9);
    (void)poll(NULL, 0, 5300);
    uint64_t began_ns = clock_mono_ns();
    df_append(df, 9);
    df_open(df);
    df_drain(df);
    df_expect_exactly_once(df, 1, 27);
    bool was_quick = clock_mono_ns() - began_ns < 3 * NS_S; /* else they are all old */
    unsigned seen = 0;
    for (unsigned i = 0; i < df->body_count; i++) {
        unsigned ages = ages_in(&df->bodies[i], 9, 18);
        assert_true(!was_quick || ages == 3 || ages == 4);
        seen |= 1u << ages;
    }
    assert_true(!was_quick || seen == (1u << 3 | 1u << 4));
    df_free(df);
}

static void a_wall_clock_that_jumps_neither_stalls_nor_bursts_delivery(void **state)
{
    (void)state;
    static const int64_t jumps[] = {3600, -3600, 86400 * 365, -86400 * 365, 0};
    struct df *df = df_new(24);
    df_append(df, 60);
    df->fixed_status = 401;
    df_open(df);
    for (unsigned i = 0; i < ARRAY_COUNT(jumps); i++) {
        shift_wall_clock(jumps[i]);
        pass_for(df, 50 * NS_MS);
    }
    assert_true(df->requests < 50); /* one in 10 ms, whatever the clock says */
    df->fixed_status = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(jumps); i++) {
        shift_wall_clock(jumps[i]);
        df->fixed_status = i % 2 == 0 ? 503 : 0;
        df_append(df, 20);
        pass_for(df, 20 * NS_MS);
        df_crash(df);
        df_open(df);
        df->fixed_status = 0;
        df_drain(df);
    }
    shift_wall_clock(0);
    df_expect_exactly_once(df, 1, df->count);
    df_free(df);
}

/* ---- items ---- */

static void items_that_wait_do_not_hold_up_the_others(void **state)
{
    (void)state;
    struct df *df = df_new(25);
    df_defaults(df, SINK_OPENSEARCH);
    df->sink.backoff_min_ns = df->sink.backoff_max_ns = 3600 * NS_S;
    df->busy = 10; /* 1, 11, 21 ... are never taken */
    df_append(df, 500);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 60 * NS_S;
    while (df_picture(df).position.delivered < 350 && clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    assert_int_equal(df_picture(df).position.delivered, 350);
    df->busy = 0;
    delivery_resume(df->delivery);
    df_drain(df);
    df_expect_exactly_once(df, 1, 500);
    df_free(df);
}

/* A server with a bug answers some requests 500, always. */
static void batches_that_always_fail_do_not_hold_up_the_others(void **state)
{
    (void)state;
    struct df *df = df_new(30);
    df->refuses_poison = true;
    df->poison_status = 500;
    df->sink.connections = 1;
    df->sink.batch_records = 2;
    df->sink.breaker_failures = 2;
    df_append(df, 300);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 60 * NS_S;
    /* Of 240 logs six are poison (11, 48, 122, 159, 196, 233), each in a request of two. */
    while (df_picture(df).position.delivered < 240 - 12 && clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    assert_true(df_picture(df).position.delivered >= 240 - 12);
    assert_int_equal(df_picture(df).position.quarantined, 0); /* 500 is no refusal */
    df->refuses_poison = false;
    df_drain(df);
    df_expect_exactly_once(df, 1, 300);
    df_free(df);
}

static void a_requeued_record_that_must_wait_is_not_sent_in_a_storm(void **state)
{
    (void)state;
    struct df *df = df_new(26);
    struct err err = {0};
    df_defaults(df, SINK_OPENSEARCH);
    df->sink.backoff_min_ns = df->sink.backoff_max_ns = 40 * NS_MS;
    df->refuses_poison = true;
    df_append(df, 30);
    df_open(df);
    df_drain(df);
    df->refuses_poison = false;
    df->too_many = 100;
    unsigned before = df->requests;
    assert_int_equal(delivery_requeue(df->delivery, df_quarantined(df).first_id, &err), 0);
    pass_for(df, 400 * NS_MS);
    assert_true(df->requests > before);
    assert_true(df->requests - before < 60); /* a pass is 1 ms */
    df->too_many = 0;
    df_drain(df);
    df_expect_exactly_once(df, 1, 30);
    df_free(df);
}

static void what_cannot_be_said_to_the_upstream_is_quarantined_and_stays_out(void **state)
{
    (void)state;
    struct df *df = df_new(15);
    df_defaults(df, SINK_INFLUX);
    df->sink.kinds = 1u << RECORD_METRIC;
    (void)snprintf(df->sink.database, sizeof df->sink.database, "db");
    df->lost = 30;
    df_append(df, 200); /* 40 metrics; every fourth of them has no value */
    df_open(df);
    for (unsigned n = 0; n < 200 && !df_is_drained(df); n++) {
        df_pass(df, n % 7 == 3);
        if (n % 7 == 3) {
            df_crash(df);
            df_open(df);
        }
    }
    df_drain(df);
    struct sink_picture picture = df_picture(df);
    assert_int_equal(picture.position.filtered, 160);
    assert_int_equal(picture.position.delivered, 30);
    assert_int_equal(picture.position.quarantined, 10);
    assert_int_equal(df->different, 0);
    struct df_quarantine quarantine = df_quarantined(df);
    assert_int_equal(quarantine.count, 10);
    assert_int_equal(quarantine.status, 0);
    assert_true(strlen(quarantine.reason) > 0);
    df_free(df);
}

static void a_new_sink_from_end_takes_only_what_comes(void **state)
{
    (void)state;
    struct df *df = df_new(9);
    df->sink.from = SINK_FROM_END;
    df_append(df, 50);
    df_open(df);
    df_pass(df, false);
    df_append(df, 20);
    df_drain(df);
    df_expect_exactly_once(df, 51, 70);
    df_free(df);
}

static void a_replay_delivers_its_range_and_ends(void **state)
{
    (void)state;
    struct df *df = df_new(10);
    df_append(df, 200);
    df->options.is_replay = true;
    df->options.lsn_min = 31;
    df->options.lsn_max = 120;
    df_open(df);
    for (unsigned n = 0; n < 5000 && !delivery_is_finished(df->delivery); n++) {
        df_pass(df, false);
    }
    assert_true(delivery_is_finished(df->delivery));
    df_expect_exactly_once(df, 31, 120);
    df_free(df);
}

static void what_retention_took_is_counted_as_expired(void **state)
{
    (void)state;
    struct df *df = df_new(11);
    df->fixed_status = 503;
    df_append(df, 60);
    df_open(df);
    for (unsigned n = 0; n < 20; n++) {
        df_pass(df, false);
    }
    df_crash(df);
    df_store_close(df);
    df->retention_bytes = KIB(512);
    df->pad = 3000;
    df_store_open(df);
    const struct store_status *status = store_status(df->store);
    for (unsigned n = 0; n < 200 && df->count < 3000 &&
                         atomic_load_explicit(&status->first_lsn, memory_order_relaxed) < 200;
         n++) {
        df_append(df, 20);
        (void)poll(NULL, 0, 10);
    }
    assert_true(atomic_load_explicit(&status->first_lsn, memory_order_relaxed) >= 200);
    df_open(df); /* the upstream is still away */
    for (unsigned n = 0; n < 50; n++) {
        df_pass(df, false);
    }
    assert_true(df_picture(df).position.expired >= 80); /* all but what is frozen */
    assert_int_equal(df_picture(df).position.delivered, 0);
    df_crash(df);
    df_store_close(df); /* the newest batches are still in memory else */
    df_store_open(df);
    status = store_status(df->store);
    df->fixed_status = 0;
    df_open(df);
    df_drain(df);
    struct sink_picture picture = df_picture(df);
    assert_true(picture.position.expired >= 150);
    assert_int_equal(picture.position.damaged, 0);
    df_free(df);
}

/* The log was lost, or put back from an older backup: the LSNs behind its end will come again. */
static void a_cursor_beyond_the_end_of_the_log_goes_on_with_what_comes(void **state)
{
    (void)state;
    struct df *df = df_new(16);
    struct err err = {0};
    df_append(df, 100);
    df_open(df);
    const struct sink_position ahead = {
        .start_lsn = 1, .live_next = 501, .delivered = 480, .filtered = 0, .quarantined = 4};
    const struct frozen frozen = {.first_lsn = 301, .last_lsn = 316, .records = 16};
    assert_int_equal(forward_db_begin(df->db, &err), 0);
    assert_int_equal(forward_db_sink_put(df->db, "up", &ahead, &err), 0);
    assert_int_equal(forward_db_batch_put(df->db, "up", &frozen, &err), 0);
    assert_int_equal(forward_db_commit(df->db, &err), 0);
    df_crash(df);
    df_open(df);
    (void)df_picture(df); /* it balances */
    df_append(df, 20);
    df_drain(df);
    df_expect_exactly_once(df, 101, 120);
    df_crash(df);
    df_open(df);
    df_drain(df);
    df_free(df);
}

/* Overwrites bytes in the middle of the second segment's file. */
static void damage_the_log(const struct df *df)
{
    char path[128];
    uint8_t garbage[100];
    memset(garbage, 0x5a, sizeof garbage);
    (void)snprintf(path, sizeof path, "%s/log/%016x.slc", df->dir, 2);
    FILE *file = fopen(path, "r+b");
    if (file == NULL) {
        (void)snprintf(path, sizeof path, "%s/log/%016x.seg", df->dir, 2);
        file = fopen(path, "r+b");
    }
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    assert_int_equal(fseek(file, ftell(file) / 2 - 6000, SEEK_SET), 0);
    assert_int_equal(fwrite(garbage, 1, sizeof garbage, file), sizeof garbage);
    assert_int_equal(fclose(file), 0);
}

static void what_nobody_can_read_any_more_is_counted_and_the_rest_delivered(void **state)
{
    (void)state;
    struct df *df = df_new(12);
    df->pad = 2000;
    df->sink.kinds = 1u << RECORD_LOG | 1u << RECORD_METRIC;
    df->fixed_status = 503;
    df_append(df, 300);
    df_open(df);
    for (unsigned n = 0; n < 20; n++) {
        df_pass(df, false);
    }
    df_crash(df); /* some of the records are frozen, most are not */
    df_store_close(df);
    damage_the_log(df);
    df_store_open(df);
    df->fixed_status = 0;
    df_open(df);
    df_drain(df);
    struct sink_picture picture = df_picture(df);
    assert_true(picture.position.damaged > 0);
    assert_int_equal(picture.position.damaged + picture.position.delivered, 300);
    assert_true(picture.position.delivered > 200);
    df_free(df);
}

/* What the first file held is known to be damaged: nothing has expired. */
static void an_unreadable_beginning_of_the_log_is_damage_not_expiry(void **state)
{
    (void)state;
    struct df *df = df_new(27);
    char path[128];
    uint8_t garbage[4096];
    memset(garbage, 0x5a, sizeof garbage);
    df->pad = 2000;
    df->sink.kinds = 1u << RECORD_LOG | 1u << RECORD_METRIC;
    df_append(df, 300);
    df_store_close(df);
    (void)snprintf(path, sizeof path, "%s/log/%016x.slc", df->dir, 1);
    if (access(path, W_OK) != 0) {
        (void)snprintf(path, sizeof path, "%s/log/%016x.seg", df->dir, 1);
    }
    df_store_open(df);
    df->fixed_status = 503;
    df_open(df); /* its place is known: LSN 1 */
    df_pass(df, false);
    df_crash(df);
    df_store_close(df);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fwrite(garbage, 1, sizeof garbage, file), sizeof garbage);
    assert_int_equal(fclose(file), 0);
    df_store_open(df);
    df->fixed_status = 0;
    df_open(df);
    df_drain(df);
    struct sink_picture picture = df_picture(df);
    assert_int_equal(picture.position.expired, 0);
    assert_true(picture.position.damaged > 0);
    assert_int_equal(picture.position.damaged + picture.position.delivered, 300);
    df_free(df);
}

/* ---- whole segments ---- */

/* The LSN behind the range that begins at first; 0: no key has it. */
static uint64_t range_end(const struct df *df, uint64_t first)
{
    for (unsigned i = 0; i < df->body_count; i++) {
        const char *range = strstr(df->bodies[i].key, "-up-");
        char *end = NULL;
        assert_non_null(range);
        if (strtoull(range + 4, &end, 10) == first) {
            return strtoull(end + 1, NULL, 10) + 1;
        }
    }
    return 0;
}

static void a_sink_of_segments_takes_each_compacted_file_once(void **state)
{
    (void)state;
    struct df *df = df_new(13);
    df->pad = 2000;
    df_defaults(df, SINK_S3);
    df->sink.kinds = 0;
    df->lost = 20;
    df->fail = 20;
    df->options.piece_bytes = KIB(2); /* a file takes several passes */
    df_append(df, 400);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 30 * NS_S;
    while ((df_picture(df).position.delivered < 300 || df_picture(df).frozen_batches > 0) &&
           clock_mono_ns() < end_ns) {
        df_pass(df, df->passes % 50 == 49);
        if (df->passes % 50 == 0) {
            df_crash(df);
            df_open(df);
        }
    }
    struct sink_picture picture = df_picture(df);
    assert_true(picture.position.delivered >= 300);
    assert_int_equal(df->different, 0);
    /* The keys name ranges that follow each other, in whatever order they were stored. */
    uint64_t next = 1;
    for (unsigned n = 0; n < df->body_count; n++) {
        next = range_end(df, next);
    }
    assert_true(next > picture.position.delivered);
    df_free(df);
}

static void a_refused_file_pauses_the_sink_once_and_says_why(void **state)
{
    (void)state;
    struct df *df = df_new(28);
    df->pad = 2000;
    df_defaults(df, SINK_S3);
    df->sink.kinds = 0;
    df->fixed_status = 400;
    df_append(df, 200);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 30 * NS_S;
    while (df->requests < 5 && clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    struct sink_picture picture = df_picture(df);
    assert_int_equal(picture.state, SINK_STATE_PAUSED);
    assert_int_equal(picture.pauses, 1);
    assert_non_null(strstr(picture.reason, "400"));
    assert_int_equal(picture.position.quarantined, 0);
    df->fixed_status = 0;
    while (df_picture(df).position.delivered == 0 && clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    assert_true(df_picture(df).position.delivered > 0);
    df_free(df);
}

/* ---- files ---- */

static void file_sink(struct df *df)
{
    df_defaults(df, SINK_FILE);
    df->sink.url[0] = 0;
    (void)snprintf(df->sink.path, sizeof df->sink.path, "%s/out.ndjson", df->dir);
    df->sink.rotate_bytes = MIB(64);
    df->sink.rotate_age_ns = 3600 * NS_S;
    df->sink.connections = 1;
}

/* Places are given back the latest first: the file has neither a hole nor a record twice. */
static void a_file_sink_that_is_frozen_anew_leaves_no_hole(void **state)
{
    (void)state;
    struct df *df = df_new(29);
    static uint8_t seen[DF_RECORDS_MAX + 1];
    memset(seen, 0, sizeof seen);
    file_sink(df);
    df_append(df, 600);
    df_open(df);
    df_pass(df, false);
    df_pass(df, false);
    assert_true(df_picture(df).frozen_batches > 1);
    df_crash(df);
    df->sink.record = SINK_RECORD_RAW;
    df_open(df);
    df_drain(df);
    assert_true(df_picture(df).refrozen > 1);
    FILE *file = fopen(df->sink.path, "rb");
    assert_non_null(file);
    char line[8192];
    while (fgets(line, sizeof line, file) != NULL) {
        uint32_t n = 0;
        assert_int_equal(line[0], '{');
        assert_non_null(df_next_number(line, &n));
        assert_int_equal(seen[n]++, 0);
    }
    assert_int_equal(fclose(file), 0);
    for (uint32_t n = 1; n <= df->count; n++) {
        assert_int_equal(seen[n], !df_is_metric(n));
    }
    df_free(df);
}

static void a_file_sink_has_each_record_once_whatever_happens(void **state)
{
    (void)state;
    struct df *df = df_new(14);
    file_sink(df);
    uint64_t dice = 14;
    df_append(df, 600);
    df_open(df);
    for (unsigned n = 0; n < 300 && !df_is_drained(df); n++) {
        uint64_t what = df_random(&dice) % 100;
        df->must_fail_commit = what < 10;
        bool is_crash = what >= 10 && what < 25;
        df_pass(df, is_crash && what % 2 == 0);
        if (is_crash) {
            df_crash(df);
            df_open(df);
        }
    }
    df->must_fail_commit = false;
    df_drain(df);
    FILE *file = fopen(df->sink.path, "rb");
    assert_non_null(file);
    char line[8192];
    uint32_t lines = 0;
    uint32_t n = 0;
    for (uint32_t expected = 1; fgets(line, sizeof line, file) != NULL; expected++) {
        expected += df_is_metric(expected);
        assert_non_null(df_next_number(line, &n));
        assert_int_equal(n, expected); /* in order, without a hole */
        lines++;
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(lines, 480);
    df_free(df);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_delivered_once_and_the_other_kinds_are_counted),
        cmocka_unit_test(poison_is_found_to_the_record_and_quarantined_with_the_answer),
        cmocka_unit_test(a_paused_sink_says_why_keeps_everything_and_goes_on_when_it_may),
        cmocka_unit_test(far_behind_old_and_new_go_side_by_side_and_never_in_one_request),
        cmocka_unit_test(a_restart_with_a_backlog_keeps_both_lanes),
        cmocka_unit_test(quarantined_records_can_be_delivered_again_or_dropped),
        cmocka_unit_test(frozen_under_another_encoding_they_are_frozen_anew),
        cmocka_unit_test(what_cannot_be_said_to_the_upstream_is_quarantined_and_stays_out),
        cmocka_unit_test(a_new_sink_from_end_takes_only_what_comes),
        cmocka_unit_test(a_replay_delivers_its_range_and_ends),
        cmocka_unit_test(what_retention_took_is_counted_as_expired),
        cmocka_unit_test(what_nobody_can_read_any_more_is_counted_and_the_rest_delivered),
        cmocka_unit_test(a_cursor_beyond_the_end_of_the_log_goes_on_with_what_comes),
        cmocka_unit_test(no_key_ever_stands_for_two_contents),
        cmocka_unit_test(a_lost_database_takes_no_key_again),
        cmocka_unit_test(a_retry_after_a_restart_has_the_same_key),
        cmocka_unit_test(records_of_an_outage_and_new_ones_never_share_a_request),
        cmocka_unit_test(a_wall_clock_that_jumps_neither_stalls_nor_bursts_delivery),
        cmocka_unit_test(items_that_wait_do_not_hold_up_the_others),
        cmocka_unit_test(batches_that_always_fail_do_not_hold_up_the_others),
        cmocka_unit_test(a_requeued_record_that_must_wait_is_not_sent_in_a_storm),
        cmocka_unit_test(an_unreadable_beginning_of_the_log_is_damage_not_expiry),
        cmocka_unit_test(a_refused_file_pauses_the_sink_once_and_says_why),
        cmocka_unit_test(a_file_sink_that_is_frozen_anew_leaves_no_hole),
        cmocka_unit_test(a_sink_of_segments_takes_each_compacted_file_once),
        cmocka_unit_test(a_file_sink_has_each_record_once_whatever_happens),
        cmocka_unit_test(exactly_once_under_random_verdicts_and_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
