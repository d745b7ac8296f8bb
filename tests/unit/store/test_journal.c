/* journal: order, rescue into a fresh segment, giving up. Through the writer, on a simulated disk.
 */
#include "store_fixture.h"

static void failed_write_goes_to_a_fresh_segment_and_nobody_notices(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct fixture fx;
        fx_init(&fx, seed);
        fx_put(&fx, 0, 2);
        fx_step(&fx, 10);
        struct request bulk = {.records = 1, .payload_bytes = 9000};
        fx_step(&fx, 2);
        sim_disk_fail_next_writes(fx.disk, 1);
        assert_true(fx_submit(&fx, &bulk));
        assert_int_equal(store_step_writer(fx.store), 0); /* its write fails */
        assert_true(fx_submit(&fx, &bulk));
        fx_step(&fx, 60);
        assert_int_equal(fx_durable_lsn(&fx), 4);
        assert_int_equal(fx.failed_acks, 0);
        assert_int_equal(fx_stat(&store_status(fx.store)->write_errors), 1);
        assert_int_equal(fx_stat(&store_status(fx.store)->segments_sealed), 1);
        fx_kill(&fx); /* what the failed write left in the old segment must not matter */
        fx_open(&fx);
        assert_int_equal(fx_durable_lsn(&fx), 4);
        assert_int_equal(fx.report.corrupt_batches, 0);
        assert_int_equal(fx_log_count(&fx), 4);
        fx_end(&fx);
    }
}

static void second_failure_is_told_and_lsns_are_used_again(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 2);
    fx_put(&fx, 0, 1);
    fx_step(&fx, 10);
    fx_put(&fx, 0, 5);
    (void)store_step_keeper(fx.store);
    sim_disk_fail_next_writes(fx.disk, 2);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(store_step_writer(fx.store), 0);
    }
    fx_read_acks(&fx);
    assert_int_equal(fx.failed_acks, 1);
    assert_int_equal(fx.failed_cause, FAILED_IO);
    assert_int_equal(fx_state(&fx), STORE_READ_ONLY);
    assert_int_equal(fx_stat(&store_status(fx.store)->next_lsn), 2);
    sim_disk_advance(fx.disk, 2 * NS_S);
    fx_step(&fx, 5);
    fx_put(&fx, 1, 3);
    fx_step(&fx, 20);
    assert_int_equal(fx_durable_lsn(&fx), 4);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 4);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

static void never_more_than_two_writes_in_flight(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 3);
    struct request bulk = {.records = 1, .payload_bytes = 15000};
    unsigned most = 0;
    for (int i = 0; i < 200; i++) {
        (void)fx_submit(&fx, &bulk);
        bulk.shard ^= 1;
        fx_step(&fx, 1);
        unsigned now = sim_disk_in_flight(fx.disk);
        most = now > most ? now : most;
    }
    fx_stop(&fx);
    assert_int_equal(most, STORE_WRITES_IN_FLIGHT_MAX); /* and two are really used */
    fx_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_write_goes_to_a_fresh_segment_and_nobody_notices),
        cmocka_unit_test(second_failure_is_told_and_lsns_are_used_again),
        cmocka_unit_test(never_more_than_two_writes_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
