/* commit_policy: pure decisions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "store/commit_policy.h"

static struct commit_input input_of(uint64_t now_ns, uint64_t records, uint64_t bytes,
                                    unsigned in_flight)
{
    return (struct commit_input){.now_ns = now_ns,
                                 .records = records,
                                 .bytes = bytes,
                                 .oldest_at_ns = now_ns,
                                 .in_flight = in_flight,
                                 .in_flight_max = 2};
}

/* Commits of `records` each, one per `interval_ns`. */
static uint64_t run(struct commit_policy *policy, uint64_t interval_ns, uint64_t records)
{
    uint64_t now_ns = NS_S;
    for (int i = 0; i < 100; i++) {
        now_ns += interval_ns;
        commit_policy_on_submit(policy, now_ns, records);
    }
    return now_ns;
}

static void idle_disk_gets_what_there_is_at_once(void **state)
{
    (void)state;
    struct commit_policy policy;
    commit_policy_init(&policy, 500 * NS_US);
    struct commit_input input = input_of(NS_S, 1, 100, 0);
    assert_int_equal(commit_policy_decide(&policy, &input), 0);
    uint64_t now_ns = run(&policy, 2 * NS_MS, 5); /* low rate */
    input = input_of(now_ns, 1, 100, 0);
    assert_int_equal(commit_policy_decide(&policy, &input), 0);
}

static void busy_disk_collects_until_bulk(void **state)
{
    (void)state;
    struct commit_policy policy;
    commit_policy_init(&policy, 0);
    struct commit_input input = input_of(NS_S, 1, COMMIT_BULK_BYTES - 1, 1);
    assert_int_equal(commit_policy_decide(&policy, &input), COMMIT_WAIT_COMPLETION);
    input.bytes = COMMIT_BULK_BYTES;
    assert_int_equal(commit_policy_decide(&policy, &input), 0);
    input.in_flight = 2;
    assert_int_equal(commit_policy_decide(&policy, &input), COMMIT_WAIT_COMPLETION);
}

static void dense_arrivals_pause_and_a_pause_that_brought_nothing_ends_them(void **state)
{
    (void)state;
    struct commit_policy policy;
    commit_policy_init(&policy, 500 * NS_US);
    uint64_t now_ns = run(&policy, 100 * NS_US, 12); /* 120 000 records a second */
    struct commit_input input = input_of(now_ns, 3, 600, 0);
    assert_int_equal(commit_policy_decide(&policy, &input), now_ns + 500 * NS_US);
    commit_policy_on_pause(&policy, 3);
    commit_policy_on_submit(&policy, now_ns + 500 * NS_US, 3);
    assert_int_equal(commit_policy_decide(&policy, &input), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_disk_gets_what_there_is_at_once),
        cmocka_unit_test(busy_disk_collects_until_bulk),
        cmocka_unit_test(dense_arrivals_pause_and_a_pause_that_brought_nothing_ends_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
