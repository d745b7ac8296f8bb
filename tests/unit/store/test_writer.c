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

/* The writer must leave the core to others while it cannot do anything: simulated time passes only
 * where it sleeps. */
static uint64_t slept_ns(struct fixture *fx, unsigned steps)
{
    uint64_t before = sim_disk_now_ns(fx->disk);
    for (unsigned i = 0; i < steps; i++) {
        (void)store_step_writer(fx->store);
    }
    return sim_disk_now_ns(fx->disk) - before;
}

static void stop_without_a_segment_waits_for_the_keeper_asleep(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 12);
    struct request request = {.records = 1, .payload_bytes = 15000};
    for (int i = 0; i < 40; i++) { /* more than the segments there are; no step of the keeper */
        (void)fx_submit(&fx, &request);
        (void)store_step_writer(fx.store);
        fx_read_acks(&fx);
    }
    store_stop(fx.store);
    (void)slept_ns(&fx, 20);
    assert_true(slept_ns(&fx, 50) > 5 * NS_MS);
    fx_stop(&fx);
    assert_int_equal(fx.failed_acks, 0);
    fx_end(&fx);
}

static void answer_that_needs_no_write_is_given_at_once(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 13);
    struct request request = {.records = 1, .receipt = "k", .digest = 1};
    assert_true(fx_submit(&fx, &request));
    fx_step(&fx, 10);
    assert_true(fx_submit(&fx, &request));
    assert_true(slept_ns(&fx, 1) < 100 * NS_US);
    (void)slept_ns(&fx, 1); /* tells before it sleeps */
    fx_read_acks(&fx);
    assert_int_equal(fx_outcome.verdict, OUTCOME_DUPLICATE);
    assert_int_equal(fx.outcomes, 2);
    fx_end(&fx);
}

/* What really sheds, because a sink waits for the oldest, is in test_archive.c. */
static void log_beyond_its_limit_that_holds_nothing_old_does_not_shed(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 14);
    fx_stop(&fx);
    fx.options.retention_bytes = KIB(100); /* one segment is more */
    fx_open(&fx);
    fx_step(&fx, 5);
    (void)store_step_archive(fx.store);
    fx_step(&fx, 5);
    assert_int_equal(fx_state(&fx), STORE_OK);
    fx_put(&fx, 0, 2);
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 2);
    fx_end(&fx);
}

static void request_larger_than_a_segment_is_refused_in_its_place(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 15);
    fx_stop(&fx);
    fx.options.ring_bytes = KIB(512);
    fx_open(&fx);
    struct request giant = {.records = 3, .payload_bytes = 60000};
    fx_put(&fx, 0, 1);
    assert_true(fx_submit(&fx, &giant));
    fx_put(&fx, 0, 1);
    fx_step(&fx, 20);
    assert_int_equal(fx.failed_acks, 1);
    assert_int_equal(fx.failed_cause, FAILED_SPACE);
    assert_int_equal(fx.durable_acks, 2);
    assert_int_equal(fx.last_durable.first_lsn, 2); /* it took no LSN */
    assert_int_equal(fx_state(&fx), STORE_OK);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 2);
    fx_end(&fx);
}

/* Outcomes of 16 KiB each, until the shard that does not read has no room for another. */
static unsigned fill_acks(struct fixture *fx, struct request *repeat)
{
    static char errors[16001];
    memset(errors, 'e', sizeof errors - 1);
    *repeat = (struct request){.records = 1, .receipt = "k", .digest = 1, .errors = errors};
    unsigned sent = 0;
    for (unsigned i = 0; i < 90; i++) {
        sent += fx_submit(fx, repeat);
        (void)slept_ns(fx, 4);
    }
    return sent;
}

static void shard_that_reads_no_acks_delays_only_itself(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 16);
    struct request repeat;
    unsigned sent = fill_acks(&fx, &repeat);
    assert_true(sent > 32);
    assert_true(slept_ns(&fx, 50) > 5 * NS_MS);
    fx_put(&fx, 1, 3); /* the other shard */
    (void)slept_ns(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 4);
    fx_step(&fx, 300);
    assert_int_equal(fx.outcomes, sent);
    assert_int_equal(fx.failed_acks, 0);
    fx_stop(&fx);
    fx_end(&fx);
}

static void refusing_a_shard_that_reads_no_acks_sleeps(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 17);
    struct request repeat;
    (void)fill_acks(&fx, &repeat);
    sim_disk_set_capacity(fx.disk, sim_disk_used_bytes(fx.disk));
    struct request bulk = {.shard = 1, .records = 1, .payload_bytes = 15000};
    for (int i = 0; i < 100 && fx_state(&fx) != STORE_READ_ONLY; i++) {
        (void)fx_submit(&fx, &bulk); /* the other shard uses up the segment */
        (void)slept_ns(&fx, 2);
        (void)store_step_keeper(fx.store);
    }
    assert_int_equal(fx_state(&fx), STORE_READ_ONLY);
    struct request plain = {.records = 1};
    for (unsigned i = 0; i < 2000; i++) { /* each refused by a pass of its own */
        (void)fx_submit(&fx, &plain);
        (void)slept_ns(&fx, 1);
    }
    assert_true(slept_ns(&fx, 50) > 5 * NS_MS);
    fx_step(&fx, 50);
    assert_true(fx.failed_acks > 1);
    assert_int_equal(spsc_used_bytes(&store_port(fx.store, 0)->submit), 0); /* all answered */
    fx_end(&fx);
}

/* The contract of submit.h lets one request mix kinds: the header of a batch names what it holds,
 * not what was sent. */
static void header_names_only_the_kinds_that_were_stored(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 18);
    struct request first = {.records = 1, .keys = {"a"}};
    struct request mixed = {.records = 2, .keys = {"a", NULL}, .is_mixed = true};
    assert_true(fx_submit(&fx, &first));
    fx_step(&fx, 10);
    assert_true(fx_submit(&fx, &mixed)); /* the event is a repeat, the log record is not */
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 2);
    fx_stop(&fx);
    assert_int_equal(fx_verify_faults(&fx), 0);
    assert_int_equal(fx_log_count(&fx), 2);
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
        cmocka_unit_test(stop_without_a_segment_waits_for_the_keeper_asleep),
        cmocka_unit_test(answer_that_needs_no_write_is_given_at_once),
        cmocka_unit_test(log_beyond_its_limit_that_holds_nothing_old_does_not_shed),
        cmocka_unit_test(request_larger_than_a_segment_is_refused_in_its_place),
        cmocka_unit_test(shard_that_reads_no_acks_delays_only_itself),
        cmocka_unit_test(refusing_a_shard_that_reads_no_acks_sleeps),
        cmocka_unit_test(header_names_only_the_kinds_that_were_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
