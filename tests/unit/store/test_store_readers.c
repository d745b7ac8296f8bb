/*
 * What readers get from a live store (store.h, "for readers"): the newest batches as they are on
 * disk, and a wake-up when there is more. On a simulated disk, single-threaded.
 */
#include "store_fixture.h"

#include <poll.h>

#include "core/park.h"
#include "store/log_view.h"
#include "store/recent.h"

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fx_init(&fx, 7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fx_end(&fx);
    return 0;
}

static void step_until_durable(uint64_t lsn)
{
    for (unsigned i = 0; i < 1000 && fx_durable_lsn(&fx) < lsn; i++) {
        fx_step(&fx, 1);
    }
    assert_int_equal(fx_durable_lsn(&fx), lsn);
}

static bool is_in_memory(uint64_t lsn)
{
    struct recent_hold hold = {0};
    struct block block;
    int r = recent_take(store_recent(fx.store), lsn, &hold, &block);
    recent_give(store_recent(fx.store), &hold);
    return r == 1;
}

/* Walks what is taken at from up to lsn: what is wrong with it, NULL: nothing.
 * payload.data NULL: any. */
static const char *look(uint64_t from, uint64_t lsn, struct slice payload)
{
    struct recent_hold hold = {0};
    struct block_walk walk = {0};
    struct record record;
    struct err err = {0};
    uint64_t at = 0;
    if (recent_take(store_recent(fx.store), from, &hold, &walk.block) == 0) {
        return "not in memory";
    }
    int r = block_walk_next(&walk, &record, &at, &err);
    while (r == 1 && at < lsn) {
        r = block_walk_next(&walk, &record, &at, &err);
    }
    bool is_found = r == 1 && at == lsn;
    bool is_equal = is_found && (payload.data == NULL || slice_equal(record.payload, payload));
    recent_give(store_recent(fx.store), &hold);
    if (r < 0) {
        print_message("%s\n", err.text);
        return "damaged";
    }
    if (!is_found) {
        return "not in the block";
    }
    return is_equal ? NULL : "not the same payload";
}

static void expect_as_on_disk(const struct reader_record *expected)
{
    const char *fault = look(expected->lsn, expected->lsn, expected->record.payload);
    if (fault != NULL) {
        fail_msg("LSN %llu: %s", (unsigned long long)expected->lsn, fault);
    }
}

static void every_durable_record_is_in_memory_as_on_disk(void **state)
{
    (void)state;
    uint64_t last = 0;
    for (uint32_t i = 1; i <= 40; i++) {
        fx_put(&fx, i % 2, 1 + i % 5);
        last += 1 + i % 5;
        fx_step(&fx, i % 3);
    }
    step_until_durable(last);
    struct reader *reader = NULL;
    struct reader_record record;
    struct err err = {0};
    uint64_t count = 0;
    assert_int_equal(reader_open(&reader, sim_disk_io(fx.disk), 1, &err), 0);
    while (reader_next(reader, &record, &err) == 1) {
        expect_as_on_disk(&record);
        count++;
    }
    reader_close(reader);
    assert_int_equal(count, last);
    assert_false(is_in_memory(last + 1));
}

static void what_is_not_durable_is_not_in_memory(void **state)
{
    (void)state;
    sim_disk_fail_all_writes(fx.disk, true);
    fx_put(&fx, 0, 3);
    fx_step(&fx, 200);
    assert_int_equal(fx.failed_acks, 1);
    assert_false(is_in_memory(1));
    sim_disk_fail_all_writes(fx.disk, false);
    sim_disk_advance(fx.disk, 120 * NS_S);
    fx_step(&fx, 50);
    fx_put(&fx, 0, 2); /* gets the LSNs of those that were lost */
    step_until_durable(2);
    assert_true(is_in_memory(1));
    assert_true(is_in_memory(2));
    assert_false(is_in_memory(3));
}

static void a_batch_that_was_written_twice_is_in_memory_once(void **state)
{
    (void)state;
    sim_disk_fail_next_writes(fx.disk, 1);
    fx_put(&fx, 0, 3);
    step_until_durable(3);
    fx_put(&fx, 0, 1);
    step_until_durable(4);
    assert_null(look(1, 1, (struct slice){NULL, 0}));
    assert_null(look(1, 4, (struct slice){NULL, 0})); /* contiguous with what came after */
    assert_string_equal(look(1, 5, (struct slice){NULL, 0}), "not in the block");
}

/* ---- waking */

static bool is_woken(struct park *park)
{
    struct pollfd pollfd = {.fd = park->fd, .events = POLLIN};
    bool is_readable = poll(&pollfd, 1, 0) == 1;
    if (is_readable) {
        park_drain(park);
    }
    park_cancel(park);
    return is_readable;
}

static void a_subscriber_is_woken_when_more_is_durable_and_only_then(void **state)
{
    (void)state;
    struct park durable;
    struct park view;
    struct err err = {0};
    assert_int_equal(park_init(&durable, &err), 0);
    assert_int_equal(park_init(&view, &err), 0);
    store_subscribe(fx.store, &durable, STORE_TELL_DURABLE);
    store_subscribe(fx.store, &view, STORE_TELL_VIEW);
    for (unsigned round = 0; round < 3; round++) {
        park_prepare(&durable, PARK_ANY);
        park_prepare(&view, PARK_ANY);
        fx_put(&fx, 0, 1);
        step_until_durable(round + 1);
        assert_true(is_woken(&durable));
        assert_false(is_woken(&view));
        /* An idle log writes its mark: nothing new to read. */
        park_prepare(&durable, PARK_ANY);
        uint64_t marks = fx_stat(&store_status(fx.store)->marks);
        for (unsigned i = 0; i < 1000 && fx_stat(&store_status(fx.store)->marks) == marks; i++) {
            fx_step(&fx, 1);
        }
        assert_int_equal(fx_stat(&store_status(fx.store)->marks), marks + 1);
        assert_false(is_woken(&durable));
    }
    park_close(&durable);
    park_close(&view);
}

static void a_subscriber_of_views_is_told_of_them(void **state)
{
    (void)state;
    struct park view;
    struct err err = {0};
    assert_int_equal(park_init(&view, &err), 0);
    store_subscribe(fx.store, &view, STORE_TELL_VIEW);
    park_prepare(&view, PARK_ANY);
    uint64_t generation = fx_stat(&store_status(fx.store)->view_generation);
    for (unsigned i = 0;
         i < 3000 && fx_stat(&store_status(fx.store)->view_generation) == generation; i++) {
        struct request request = {.records = 4, .payload_bytes = 2000};
        (void)fx_submit(&fx, &request);
        fx_step(&fx, 2);
        (void)store_step_archive(fx.store);
    }
    assert_true(fx_stat(&store_status(fx.store)->view_generation) > generation);
    assert_true(is_woken(&view));
    park_close(&view);
}

static void as_many_as_promised_may_subscribe(void **state)
{
    (void)state;
    static struct park parks[STORE_SUBSCRIBERS_MAX];
    struct err err = {0};
    for (unsigned i = 0; i < STORE_SUBSCRIBERS_MAX; i++) {
        assert_int_equal(park_init(&parks[i], &err), 0);
        park_prepare(&parks[i], PARK_ANY);
        store_subscribe(fx.store, &parks[i], STORE_TELL_DURABLE | STORE_TELL_VIEW);
    }
    fx_put(&fx, 0, 1);
    step_until_durable(1);
    for (unsigned i = 0; i < STORE_SUBSCRIBERS_MAX; i++) {
        assert_true(is_woken(&parks[i]));
        park_close(&parks[i]);
    }
}

static void the_sinks_cursor_is_where_the_archive_looks_for_it(void **state)
{
    (void)state;
    assert_true(fx_stat(&store_status(fx.store)->retain_lsn) == UINT64_MAX); /* no sink yet */
    store_set_retain_lsn(fx.store, 17);
    assert_int_equal(fx_stat(&store_status(fx.store)->retain_lsn), 17);
}

static void there_is_a_view_from_the_start(void **state)
{
    (void)state;
    struct log_view *view = log_view_take(store_views(fx.store));
    assert_non_null(view);
    log_view_give(store_views(fx.store), view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_durable_record_is_in_memory_as_on_disk, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_not_durable_is_not_in_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_batch_that_was_written_twice_is_in_memory_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_subscriber_is_woken_when_more_is_durable_and_only_then,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_subscriber_of_views_is_told_of_them, setup, teardown),
        cmocka_unit_test_setup_teardown(as_many_as_promised_may_subscribe, setup, teardown),
        cmocka_unit_test_setup_teardown(the_sinks_cursor_is_where_the_archive_looks_for_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(there_is_a_view_from_the_start, setup, teardown),
    };
    return cmocka_run_group_tests_name("store_readers", tests, NULL, NULL);
}
