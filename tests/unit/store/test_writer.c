/* writer, keyed: what shards are told, what is in the log afterwards. */
#include "store_fixture.h"

static void acknowledges_in_order_with_dense_lsns(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 1);
    for (int i = 0; i < 50; i++) {
        fx_put(&fx, (unsigned)i % 2, 3);
        fx_step(&fx, 1);
    }
    fx_step(&fx, 20);
    assert_int_equal(fx_durable_lsn(&fx), 150);
    assert_true(fx.durable_acks > 1);
    assert_int_equal(fx.failed_acks, 0);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 150);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

static void nothing_is_acknowledged_before_it_is_durable(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 2);
    fx_put(&fx, 0, 1);
    sim_disk_fail_all_writes(fx.disk, true);
    for (int i = 0; i < 50; i++) {
        fx_step(&fx, 1);
        assert_int_equal(fx.durable_acks, 0);
    }
    assert_int_equal(fx_durable_lsn(&fx), 0);
    assert_int_equal(fx.failed_acks, 1);
    fx_end(&fx);
}

static void idle_log_is_marked_once(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 3);
    fx_put(&fx, 0, 1);
    fx_step(&fx, 5);
    for (int i = 0; i < 20; i++) {
        sim_disk_advance(fx.disk, 20 * NS_MS);
        fx_step(&fx, 2);
    }
    assert_int_equal(fx_stat(&store_status(fx.store)->marks), 1);
    fx_end(&fx);
}

static void stop_drains_everything_first(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 4);
    for (int i = 0; i < 30; i++) {
        fx_put(&fx, 0, 2);
    }
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 60);
    fx_end(&fx);
}

static void request_larger_than_the_soft_limit_gets_its_own_batch(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 5);
    fx_put(&fx, 0, 1);
    struct request large = {.records = 1, .payload_bytes = KIB(40)};
    assert_true(fx_submit(&fx, &large));
    fx_put(&fx, 0, 1);
    fx_step(&fx, 30);
    assert_int_equal(fx_durable_lsn(&fx), 3);
    assert_int_equal(fx_stat(&store_status(fx.store)->batches), 3);
    fx_end(&fx);
}

static void rolls_to_the_next_segment_and_loses_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 6);
    struct request request = {.records = 4, .payload_bytes = 2000};
    uint64_t sent = 0;
    for (int i = 0; i < 400; i++) {
        sent += fx_submit(&fx, &request) ? 4 : 0;
        fx_step(&fx, 1);
    }
    fx_step(&fx, 50);
    assert_int_equal(fx_durable_lsn(&fx), sent);
    assert_true(fx_stat(&store_status(fx.store)->segments_sealed) >= 3);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), sent);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

static void repeated_key_gets_the_first_answer(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 7);
    struct request request = {.records = 2, .receipt = "k1", .digest = 9, .errors = "[\"e\"]"};
    assert_true(fx_submit(&fx, &request));
    assert_true(fx_submit(&fx, &request)); /* while the first is still in flight */
    fx_step(&fx, 10);
    assert_int_equal(fx.outcomes, 2);
    assert_int_equal(fx_outcome.verdict, OUTCOME_DUPLICATE);
    assert_int_equal(fx_outcome.first_lsn, 1);
    assert_int_equal(fx_outcome.accepted, 2);
    assert_int_equal(fx_outcome.rejected, 3);
    assert_string_equal(fx.last_errors, "[\"e\"]");
    assert_int_equal(fx_durable_lsn(&fx), 2);
    request.digest = 10;
    assert_true(fx_submit(&fx, &request)); /* alone in its batch: answered without I/O */
    fx_step(&fx, 10);
    assert_int_equal(fx_outcome.verdict, OUTCOME_MISMATCH);
    fx_end(&fx);
}

static void seen_record_keys_are_dropped_and_the_rest_is_stored(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 8);
    struct request first = {.records = 2, .keys = {"a", "b"}};
    struct request second = {.records = 4,
                             .keys = {"c", "a", "c", "d"}}; /* "c" twice in one request */
    assert_true(fx_submit(&fx, &first));
    assert_true(fx_submit(&fx, &second));
    fx_step(&fx, 10);
    assert_int_equal(fx_outcome.verdict, OUTCOME_STORED);
    assert_int_equal(fx_outcome.stored_count, 2);
    assert_int_equal(fx_outcome.duplicate_count, 2);
    assert_int_equal(fx_outcome.first_lsn, 3);
    assert_int_equal(fx_durable_lsn(&fx), 4);
    struct request again = {.records = 1, .keys = {"b"}};
    assert_true(fx_submit(&fx, &again));
    fx_step(&fx, 10);
    assert_int_equal(fx_outcome.stored_count, 0);
    assert_int_equal(fx_outcome.first_lsn, 2); /* of the original */
    assert_int_equal(fx_stat(&store_status(fx.store)->duplicates), 3);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 4);
    fx_end(&fx);
}

static void receipt_survives_a_dropped_first_record(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 9);
    struct request first = {.records = 1, .keys = {"a"}};
    struct request mixed = {.records = 3, .receipt = "k", .digest = 1, .keys = {"a", "b", NULL}};
    assert_true(fx_submit(&fx, &first));
    assert_true(fx_submit(&fx, &mixed));
    fx_step(&fx, 10);
    fx_kill(&fx); /* the processed set must come back from the log */
    fx_open(&fx);
    assert_int_equal(fx_durable_lsn(&fx), 3);
    assert_true(fx_submit(&fx, &mixed));
    memset(fx.ended, 0, sizeof fx.ended);
    fx_step(&fx, 10);
    assert_int_equal(fx_outcome.verdict, OUTCOME_DUPLICATE);
    assert_int_equal(fx_outcome.first_lsn, 2);
    assert_int_equal(fx_outcome.accepted, 2);
    fx_end(&fx);
}

static void full_disk_refuses_and_comes_back_by_itself(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 10);
    sim_disk_set_capacity(fx.disk, sim_disk_used_bytes(fx.disk));
    struct request request = {.records = 4, .payload_bytes = 2000};
    uint64_t acked_while_full = 0;
    for (int i = 0; i < 400 && fx_state(&fx) != STORE_READ_ONLY; i++) {
        (void)fx_submit(&fx, &request);
        fx_step(&fx, 2);
    }
    assert_int_equal(fx_state(&fx), STORE_READ_ONLY);
    fx_step(&fx, 5);
    assert_true(fx.failed_acks > 0);
    assert_int_equal(fx.failed_cause, FAILED_SPACE);
    acked_while_full = fx_durable_lsn(&fx);
    sim_disk_set_capacity(fx.disk, MIB(64));
    for (int i = 0; i < 20; i++) {
        sim_disk_advance(fx.disk, NS_S);
        fx_step(&fx, 1);
    }
    assert_int_equal(fx_state(&fx), STORE_OK);
    fx_put(&fx, 0, 1);
    fx_step(&fx, 20);
    assert_int_equal(fx_durable_lsn(&fx),
                     acked_while_full + 1); /* LSNs of what was refused are used again */
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), acked_while_full + 1);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

static void keys_of_a_failed_request_are_forgotten(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 11);
    struct request request = {.records = 1, .receipt = "k", .digest = 1};
    sim_disk_fail_all_writes(fx.disk, true);
    assert_true(fx_submit(&fx, &request));
    fx_step(&fx, 50);
    assert_int_equal(fx.failed_acks, 1);
    assert_int_equal(fx.failed_cause, FAILED_IO);
    assert_int_equal(fx_state(&fx), STORE_READ_ONLY);
    sim_disk_fail_all_writes(fx.disk, false);
    for (int i = 0; i < 10; i++) {
        sim_disk_advance(fx.disk, NS_S);
        fx_step(&fx, 2);
    }
    assert_int_equal(fx_state(&fx), STORE_OK);
    assert_true(fx_submit(&fx, &request));
    fx_step(&fx, 20);
    assert_int_equal(fx_outcome.verdict, OUTCOME_STORED);
    assert_int_equal(fx_durable_lsn(&fx), 1);
    fx_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledges_in_order_with_dense_lsns),
        cmocka_unit_test(nothing_is_acknowledged_before_it_is_durable),
        cmocka_unit_test(idle_log_is_marked_once),
        cmocka_unit_test(stop_drains_everything_first),
        cmocka_unit_test(request_larger_than_the_soft_limit_gets_its_own_batch),
        cmocka_unit_test(rolls_to_the_next_segment_and_loses_nothing),
        cmocka_unit_test(repeated_key_gets_the_first_answer),
        cmocka_unit_test(seen_record_keys_are_dropped_and_the_rest_is_stored),
        cmocka_unit_test(receipt_survives_a_dropped_first_record),
        cmocka_unit_test(full_disk_refuses_and_comes_back_by_itself),
        cmocka_unit_test(keys_of_a_failed_request_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
