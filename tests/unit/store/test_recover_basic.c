/* recover: what comes back after a kill; the simulation tests go further. */
#include "store_fixture.h"

/* Larger than a sector, so that a flipped bit in the first one always hits something that a CRC
 * covers. */
static void put_large(struct fixture *fx, uint32_t records)
{
    struct request request = {.records = records, .payload_bytes = 1000};
    assert_true(fx_submit(fx, &request));
}

static void fresh_directory_starts_at_one(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 1);
    assert_int_equal(fx.report.last_lsn, 0);
    assert_int_equal(fx.report.segments, 0);
    fx_end(&fx);
}

static void every_kill_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture fx;
        fx_init(&fx, seed);
        uint64_t acked = 0;
        for (int life = 0; life < 4; life++) {
            sim_disk_crash_after(fx.disk, 1 + (seed * 7 + (uint64_t)life * 13) % 60);
            struct request request = {.records = 2, .payload_bytes = 700};
            for (int i = 0; i < 120 && !sim_disk_is_dead(fx.disk); i++) {
                request.shard ^= 1;
                (void)fx_submit(&fx, &request);
                (void)store_step_writer(fx.store);
                (void)store_step_keeper(fx.store);
            }
            acked = fx_durable_lsn(&fx);
            fx_kill(&fx);
            sim_disk_crash_after(fx.disk, 0);
            fx_open(&fx);
            assert_true(fx.report.last_lsn >= acked);
            assert_int_equal(fx.report.corrupt_batches, 0);
            assert_int_equal(fx_log_count(&fx), fx.report.last_lsn);
        }
        fx_end(&fx);
    }
}

static void corruption_below_d_is_reported_and_the_rest_is_kept(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 5);
    for (int i = 0; i < 5; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx_open(&fx);
    assert_int_equal(fx.report.corrupt_batches, 1);
    assert_int_equal(fx.report.corrupt_lsn_count, 1);
    assert_int_equal(fx.report.last_lsn, 5);
    put_large(&fx, 1);
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 6);
    fx_end(&fx);
}

static void refuse_policy_refuses(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 6);
    for (int i = 0; i < 3; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx.options.on_corruption = ON_CORRUPTION_REFUSE;
    int r = store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err);
    assert_int_equal(r, ERR_CORRUPT);
    assert_non_null(strstr(fx.err.text, "offset 4096"));
    fx.store = NULL;
    fx_end(&fx);
}

static void torn_last_batch_is_cut_and_its_place_used_again(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 7);
    put_large(&fx, 1);
    fx_step(&fx, 3);
    assert_int_equal(fx_durable_lsn(&fx), 1);
    fx_kill(&fx); /* before any mark: the only batch has no witness */
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx_open(&fx);
    assert_int_equal(fx.report.last_lsn, 0);
    assert_int_equal(fx.report.corrupt_batches, 0);
    put_large(&fx, 2);
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 2);
    assert_int_equal(fx_log_count(&fx), 2);
    fx_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_directory_starts_at_one),
        cmocka_unit_test(every_kill_keeps_what_was_acknowledged),
        cmocka_unit_test(corruption_below_d_is_reported_and_the_rest_is_kept),
        cmocka_unit_test(refuse_policy_refuses),
        cmocka_unit_test(torn_last_batch_is_cut_and_its_place_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
