/*
 * delivery_cut: streams (store/lineage.h) against a real store, a real database and an upstream: what a batch is called, where it ends,
 * and what becomes of a sink whose LSNs have become other records'.
 */
#include "delivery_fixture.h"

#include "forward/streams.h"

static struct lineage lineage;

static struct ulid stream_of(uint8_t n)
{
    return (struct ulid){{9, n}};
}

/* The entries that follow make the lineage of the store's node. */
static void begin_lineage(struct df *df)
{
    lineage_init(&lineage, store_node(df->store));
    df->options.lineage = &lineage;
}

static void push(uint64_t from_lsn, uint8_t n)
{
    lineage.entries[lineage.count++] = (struct lineage_entry){from_lsn, stream_of(n)};
}

struct named {
    struct ulid stream;
    uint64_t first, last;
    bool is_whole; /* no letter: all of the range */
};

/* STREAM-up-FIRST-LAST-HASH */
static struct named named(const char *key)
{
    struct named name = {.first = 0};
    char *end = NULL;
    assert_int_equal(
        ulid_parse(&name.stream, (struct slice){(const uint8_t *)key, ULID_TEXT_BYTES}), 0);
    assert_memory_equal(key + ULID_TEXT_BYTES, "-up-", 4);
    name.first = strtoull(key + ULID_TEXT_BYTES + 4, &end, 10);
    name.last = strtoull(end + 1, &end, 10);
    name.is_whole = strlen(end + 1) == 16;
    return name;
}

/* Each key is in the stream of its LSNs, and has LSNs of one only. Returns how many streams there are. */
static unsigned expect_names(const struct df *df)
{
    uint8_t seen[256] = {0};
    unsigned count = 0;
    for (unsigned i = 0; i < df->body_count; i++) {
        struct named name = named(df->bodies[i].key);
        struct ulid first = lineage_stream(&lineage, name.first);
        struct ulid last = lineage_stream(&lineage, name.last);
        assert_memory_equal(&first, &last, sizeof first);
        assert_memory_equal(&name.stream, &first, sizeof first);
        uint8_t which = memcmp(&first, &lineage.node, sizeof first) == 0 ? 0 : first.bytes[1];
        count += seen[which] == 0;
        seen[which] = 1;
    }
    return count;
}

static void no_batch_crosses_a_border_and_each_is_called_by_its_stream(void **state)
{
    (void)state;
    struct df *df = df_new(1);
    df_append(df, 600);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        uint64_t dice = seed;
        print_message("seed %llu\n", (unsigned long long)seed);
        df_again(df, seed);
        begin_lineage(df);
        uint64_t at = 1;
        for (uint8_t n = 1; n <= 8; n++) {
            at += df_random(&dice) % 60; /* also twice the same, and the first LSN */
            push(at, n);
        }
        df->fail = seed % 2 == 0 ? 10 : 0;
        df->lost = seed % 3 == 0 ? 10 : 0;
        df->refuses_poison = seed % 4 == 0;
        df->options.backlog_records = seed % 3 == 1 ? 100 : 0;
        df_defaults(df, seed % 5 == 4 ? SINK_OPENSEARCH : SINK_HTTP);
        df->sink.batch_records = 3 + seed % 29;
        df_open(df);
        for (unsigned n = 0; n < 60 && !df_is_drained(df); n++) {
            df_pass(df, n % 20 == 11);
            if (n % 20 == 11) {
                df_crash(df);
                df_open(df);
            }
        }
        df_drain(df);
        df_expect_exactly_once(df, 1, df->count);
        assert_true(expect_names(df) >= 3);
        df_crash(df);
    }
    df_free(df);
}

static void without_lineage_nothing_is_called_otherwise_and_nothing_is_written(void **state)
{
    (void)state;
    struct df *df = df_new(2);
    char text[64];
    struct err err = {0};
    begin_lineage(df);
    df_append(df, 100);
    df_open(df);
    df_drain(df);
    assert_int_equal(expect_names(df), 1);
    df->options.lineage = NULL;
    df_crash(df);
    df_open(df);
    df_append(df, 50);
    df_drain(df);
    df_expect_exactly_once(df, 1, 150);
    assert_int_equal(expect_names(df), 1);
    assert_int_equal(forward_db_meta_get(df->db, "sink.up.stream", text, sizeof text, &err), 0);
    df_free(df);
}

/* ---- what was lost ---- */

static void put_batch(struct df *df, struct frozen frozen)
{
    struct err err = {0};
    assert_int_equal(forward_db_batch_put(df->db, "up", &frozen, &err), 0);
}

/* How often the upstream has it. */
static unsigned times(const struct df *df, uint32_t wanted)
{
    unsigned count = 0;
    for (unsigned i = 0; i < df->body_count; i++) {
        uint32_t n = 0;
        for (const char *at = df_next_number(df->bodies[i].text, &n); at != NULL;
             at = df_next_number(at, &n)) {
            count += n == wanted;
        }
    }
    return count;
}

/* A sink that stood at 501 of a log that ends with 120 now; from 101 on there are other records. */
static void what_is_before_the_cut_stays_and_what_is_behind_is_delivered_anew(void **state)
{
    (void)state;
    struct df *df = df_new(3);
    struct err err = {0};
    const uint32_t only[] = {0, 2, 3, 9, 14, 15};
    df_append(df, 100);
    df_open(df);
    const struct sink_position ahead = {.start_lsn = 1,
                                        .live_next = 501,
                                        .backlog_next = 20,
                                        .backlog_end = 30,
                                        .delivered = 452,
                                        .quarantined = 4};
    assert_int_equal(forward_db_begin(df->db, &err), 0);
    assert_int_equal(forward_db_sink_put(df->db, "up", &ahead, &err), 0);
    put_batch(df, (struct frozen){.first_lsn = 61, .last_lsn = 70, .records = 8});
    put_batch(df, (struct frozen){.first_lsn = 91,
                                  .last_lsn = 106,
                                  .records = 6,
                                  .attempts = 3,
                                  .digest = {7},
                                  .only = {(const uint8_t *)only, sizeof only}});
    put_batch(df, (struct frozen){.first_lsn = 301, .last_lsn = 316, .records = 16});
    put_batch(df, (struct frozen){.first_lsn = 401, .last_lsn = 404, .records = 4, .digest = {9}});
    assert_int_equal(forward_db_commit(df->db, &err), 0);
    df_crash(df);
    df_append(df, 20);
    begin_lineage(df);
    push(101, 1);
    for (unsigned n = 0; n < 3;
         n++) { /* a process that ends before its first commit starts again alike */
        df_open(df);
        struct sink_picture picture = df_picture(df);
        assert_int_equal(picture.position.live_next, 101);
        assert_int_equal(picture.position.quarantined, 4);
        assert_int_equal(picture.frozen_records, 8 + 4);
        df_pass(df, true);
        df_crash(df);
    }
    df_open(df);
    df_drain(df);
    for (uint32_t n = 1; n <= 120; n++) {
        bool is_cut = n == 91 || n == 93 || n == 94; /* 100 is a metric */
        bool is_wanted = (n >= 20 && n < 30) || (n >= 61 && n <= 70) || is_cut || n > 100;
        assert_int_equal(times(df, n), is_wanted && !df_is_metric(n));
    }
    assert_int_equal(expect_names(df), 2);
    df_crash(df);
    df_open(df); /* it stands in the new stream: nothing is cut once more */
    df_append(df, 30);
    df_drain(df);
    assert_int_equal(times(df, 101), 1);
    assert_int_equal(times(df, 149), 1);
    df_free(df);
}

/* The sink was not configured while the log grew beyond where it had stood. */
static void a_sink_that_stood_in_an_older_stream_goes_back_to_the_border(void **state)
{
    (void)state;
    struct df *df = df_new(4);
    struct err err = {0};
    df_append(df, 50);
    begin_lineage(df);
    push(31, 1);
    df_open(df);
    df_drain(df);
    df_crash(df);
    df_append(df, 250);
    push(41, 2);
    push(201, 3);
    df_open(df);
    assert_int_equal(df_picture(df).position.live_next, 41);
    df_drain(df);
    for (uint32_t n = 1; n <= 300; n++) {
        assert_int_equal(times(df, n), df_is_metric(n) ? 0 : n > 40 && n <= 50 ? 2 : 1);
    }
    struct ulid stood = {{0}};
    struct ulid current = stream_of(3);
    assert_int_equal(streams_sink_get(df->db, "up", &stood, &err), 1);
    assert_memory_equal(&stood, &current, sizeof stood);
    df_free(df);
}

/* More is in quarantine than the log has records: the ledger balances all the same (df_picture looks). */
static void a_log_that_lost_everything_balances_with_what_is_in_quarantine(void **state)
{
    (void)state;
    struct df *df = df_new(5);
    struct err err = {0};
    df_open(df);
    const struct sink_position ahead = {
        .start_lsn = 301, .live_next = 501, .delivered = 150, .quarantined = 50};
    assert_int_equal(forward_db_begin(df->db, &err), 0);
    assert_int_equal(forward_db_sink_put(df->db, "up", &ahead, &err), 0);
    assert_int_equal(forward_db_commit(df->db, &err), 0);
    df_crash(df);
    begin_lineage(df);
    push(1, 1);
    df_open(df);
    df_append(df, 20);
    df_drain(df);
    df_crash(df);
    df_open(df);
    df_drain(df);
    for (uint32_t n = 1; n <= 20; n++) {
        assert_int_equal(times(df, n), !df_is_metric(n));
    }
    assert_int_equal(df_picture(df).position.quarantined, 50);
    df_free(df);
}

/* Its database could not be read when the witnesses were asked. */
static void a_sink_beyond_the_end_of_which_the_lineage_knows_nothing_is_not_served(void **state)
{
    (void)state;
    struct df *df = df_new(8);
    struct err err = {0};
    struct delivery *delivery = NULL;
    df_append(df, 20);
    df_open(df);
    df_drain(df);
    const struct sink_position ahead = {.start_lsn = 1, .live_next = 31, .delivered = 30};
    assert_int_equal(forward_db_begin(df->db, &err), 0);
    assert_int_equal(forward_db_sink_put(df->db, "up", &ahead, &err), 0);
    assert_int_equal(forward_db_commit(df->db, &err), 0);
    delivery_close(df->delivery);
    df->delivery = NULL;
    begin_lineage(df);
    df->options.db = df->db;
    assert_int_equal(delivery_open(&delivery, &df->options, &err), -EBUSY);
    assert_non_null(strstr(err.text, "sink up has passed LSN 30, the log ends with 20"));
    push(21, 1); /* the next start was told */
    assert_int_equal(delivery_open(&df->delivery, &df->options, &err), 0);
    df_free(df);
}

/* ---- quarantine ---- */

static void a_quarantined_record_keeps_the_stream_that_it_had(void **state)
{
    (void)state;
    struct df *df = df_new(6);
    struct err err = {0};
    struct ulid found = {{0}};
    begin_lineage(df);
    push(41, 1);
    df->refuses_poison = true;
    df_append(df, 100);
    df_open(df);
    df_drain(df); /* 11, of the node's own stream, and 48 wait in quarantine */
    uint64_t first_id = df_quarantined(df).first_id;
    assert_int_equal(df_quarantined(df).count, 2);
    assert_int_equal(streams_item_get(df->db, first_id, &found, &err), 0);
    assert_int_equal(streams_item_get(df->db, first_id + 1, &found, &err), 1);
    assert_int_equal(found.bytes[1], 1);
    df_crash(df);
    push(5, 2); /* the log was lost, and all of these LSNs are others' now */
    df->refuses_poison = false;
    df_open(df);
    df_drain(df);
    unsigned before = df->body_count;
    assert_int_equal(delivery_requeue(df->delivery, first_id, &err), 0);
    assert_int_equal(delivery_requeue(df->delivery, first_id + 1, &err), 0);
    df_drain(df);
    assert_int_equal(df->body_count, before + 2);
    for (unsigned i = before; i < df->body_count; i++) {
        struct named name = named(df->bodies[i].key);
        struct ulid own = lineage.node;
        struct ulid other = stream_of(1);
        assert_memory_equal(&name.stream, name.first == 11 ? &own : &other, sizeof own);
    }
    assert_int_equal(streams_item_get(df->db, first_id + 1, &found, &err), 0); /* gone with it */
    df_free(df);
}

/* ---- whole segments ---- */

static void a_file_with_records_of_two_streams_has_the_later_ones_name(void **state)
{
    (void)state;
    struct df *df = df_new(7);
    df->pad = 2000;
    df_defaults(df, SINK_S3);
    df->sink.kinds = 0;
    begin_lineage(df);
    push(20, 1);
    push(21, 2);
    push(150, 3);
    df_append(df, 400);
    df_open(df);
    uint64_t end_ns = clock_mono_ns() + 30 * NS_S;
    while (df_picture(df).position.delivered < 300 && clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    assert_true(df_picture(df).position.delivered >= 300);
    uint64_t next = 1;
    for (unsigned i = 0; i < df->body_count; i++) {
        struct named name = named(df->bodies[i].key);
        struct ulid behind = lineage_stream(&lineage, name.last + 1);
        assert_memory_equal(&name.stream, &behind, sizeof behind);
        next = u64_max(next, name.last + 1);
    }
    /* A frozen file that ends elsewhere now: it comes again, from where it began. */
    bool is_frozen =
        df_picture(df).frozen_batches > 0; /* else it has been answered for: from the cut on */
    uint64_t began = is_frozen ? named(df->bodies[df->body_count - 1].key).first : next - 10;
    df_crash(df);
    push(next - 10, 4);
    df_open(df);
    assert_true(df_picture(df).position.live_next <= next - 10);
    unsigned before = df->body_count;
    while ((df->body_count == before || df_picture(df).frozen_batches > 0) &&
           clock_mono_ns() < end_ns) {
        df_pass(df, false);
    }
    struct named newest = named(df->bodies[before].key);
    struct ulid expected = stream_of(4);
    assert_int_equal(newest.first, began);
    assert_memory_equal(&newest.stream, &expected, sizeof expected);
    df_free(df);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_batch_crosses_a_border_and_each_is_called_by_its_stream),
        cmocka_unit_test(without_lineage_nothing_is_called_otherwise_and_nothing_is_written),
        cmocka_unit_test(what_is_before_the_cut_stays_and_what_is_behind_is_delivered_anew),
        cmocka_unit_test(a_sink_that_stood_in_an_older_stream_goes_back_to_the_border),
        cmocka_unit_test(a_log_that_lost_everything_balances_with_what_is_in_quarantine),
        cmocka_unit_test(a_sink_beyond_the_end_of_which_the_lineage_knows_nothing_is_not_served),
        cmocka_unit_test(a_quarantined_record_keeps_the_stream_that_it_had),
        cmocka_unit_test(a_file_with_records_of_two_streams_has_the_later_ones_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
