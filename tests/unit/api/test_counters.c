#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/counters.h"

#include <pthread.h>
#include <string.h>

static void imbalance_is_zero_exactly_when_every_record_is_somewhere(void **state)
{
    (void)state;
    struct counters counters = {.received = 100, .durable = 50, .duplicate = 10, .pending = 5};
    counters.rejected[REJECT_SCHEMA] = 20;
    counters.shed[SHED_IO_ERROR] = 15;
    assert_int_equal(counters_imbalance(&counters), 0);
    counters.durable--;
    assert_int_equal(counters_imbalance(&counters), 1);
    counters.durable += 3;
    assert_int_equal(counters_imbalance(&counters), -2);
}

static void every_cause_counts_into_the_balance(void **state)
{
    (void)state;
    for (int i = 0; i < REJECT_CAUSES; i++) {
        struct counters counters = {.received = 1};
        counters.rejected[i] = 1;
        assert_int_equal(counters_imbalance(&counters), 0);
        assert_non_null(reject_cause_name((enum reject_cause)i));
    }
    for (int i = 0; i < SHED_CAUSES; i++) {
        struct counters counters = {.received = 1};
        counters.shed[i] = 1;
        assert_int_equal(counters_imbalance(&counters), 0);
        assert_non_null(shed_cause_name((enum shed_cause)i));
    }
}

#define PUBLISHES 200000

static struct counters_cell cell;

/* Publishes only balanced snapshots, all words different from pass to pass. */
static void *publisher(void *context)
{
    (void)context;
    for (uint64_t i = 1; i <= PUBLISHES; i++) {
        struct counters counters = {.received = 3 * i, .durable = i, .pending = i};
        counters.shed[SHED_STOPPING] = i;
        counters_publish(&cell, &counters);
    }
    return NULL;
}

static void a_reader_beside_a_publisher_sees_only_balanced_snapshots(void **state)
{
    (void)state;
    pthread_t thread;
    struct counters copy = {0};
    assert_int_equal(pthread_create(&thread, NULL, publisher, NULL), 0);
    uint64_t last = 0;
    while (last < 3 * PUBLISHES) {
        counters_read(&cell, &copy);
        assert_int_equal(counters_imbalance(&copy), 0);
        assert_true(copy.received >= last);
        last = copy.received;
    }
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imbalance_is_zero_exactly_when_every_record_is_somewhere),
        cmocka_unit_test(every_cause_counts_into_the_balance),
        cmocka_unit_test(a_reader_beside_a_publisher_sees_only_balanced_snapshots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
