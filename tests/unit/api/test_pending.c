#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/pending.h"

static void push(struct pending_queue *queue, uint64_t end, uint32_t records)
{
    pending_push(queue, records)->end = end;
}

static void entries_come_out_in_order_and_records_are_summed(void **state)
{
    (void)state;
    struct pending_queue queue;
    pending_init(&queue, 4);
    for (uint64_t round = 0; round < 10; round++) {
        for (uint64_t i = 0; i < 4; i++) {
            push(&queue, 100 * round + i, (uint32_t)i + 1);
        }
        assert_true(pending_is_full(&queue));
        assert_int_equal(queue.record_count, 10);
        for (uint64_t i = 0; i < 4; i++) {
            assert_int_equal(pending_oldest(&queue)->end, 100 * round + i);
            pending_pop(&queue);
        }
        assert_true(pending_is_empty(&queue));
        assert_int_equal(queue.record_count, 0);
    }
    pending_close(&queue);
}

static void an_outcome_finds_its_request_by_position_in_order(void **state)
{
    (void)state;
    struct pending_queue queue;
    pending_init(&queue, 8);
    for (uint64_t i = 1; i <= 5; i++) {
        push(&queue, i * 16, 1);
    }
    assert_int_equal(pending_find(&queue, 32)->end, 32);
    assert_int_equal(pending_find(&queue, 32)->end, 32);
    pending_pop(&queue);
    pending_pop(&queue);
    pending_pop(&queue);
    assert_int_equal(pending_find(&queue, 80)->end, 80);
    assert_null(pending_find(&queue, 96));
    pending_close(&queue);
}

static void positions_may_wrap(void **state)
{
    (void)state;
    struct pending_queue queue;
    pending_init(&queue, 8);
    push(&queue, UINT64_MAX - 15, 1);
    push(&queue, 0, 1);
    push(&queue, 16, 1);
    assert_int_equal(pending_find(&queue, 16)->end, 16);
    pending_close(&queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_out_in_order_and_records_are_summed),
        cmocka_unit_test(an_outcome_finds_its_request_by_position_in_order),
        cmocka_unit_test(positions_may_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
