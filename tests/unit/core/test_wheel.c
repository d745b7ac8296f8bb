/* wheel: never early, on the first advance at or after the deadline, and callbacks may do anything.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/wheel.h"

#include <stdlib.h>
#include <string.h>

#define TICK 1000u

struct seen {
    struct wheel *wheel;
    struct wheel_timer *last;
    struct wheel_timer *order[16];
    size_t count;
    struct wheel_timer *to_cancel;
    struct wheel_timer *to_set;
    uint64_t set_deadline_ns;
};

static void record(void *context, struct wheel_timer *timer)
{
    struct seen *seen = context;
    assert_false(wheel_is_armed(timer));
    seen->last = timer;
    if (seen->count < ARRAY_COUNT(seen->order)) {
        seen->order[seen->count] = timer;
    }
    seen->count++;
    if (seen->to_cancel != NULL) {
        wheel_cancel(seen->wheel, seen->to_cancel);
    }
    if (seen->to_set != NULL) {
        wheel_set(seen->wheel, seen->to_set, seen->set_deadline_ns);
    }
}

static struct wheel wheel;

static struct seen begin(uint64_t now_ns)
{
    wheel_init(&wheel, TICK, now_ns);
    return (struct seen){.wheel = &wheel};
}

static void timer_fires_at_its_deadline_and_never_before(void **state)
{
    (void)state;
    /* On a tick, beside it, and several turns away. */
    static const uint64_t delays[] = {1,      999,    1000,   1001,    1999,    511000,
                                      512000, 512001, 513000, 5120000, 51234567};
    for (size_t i = 0; i < ARRAY_COUNT(delays); i++) {
        const uint64_t start = 777000;
        struct seen seen = begin(start);
        struct wheel_timer timer = {0};
        uint64_t deadline = start + delays[i];
        wheel_set(&wheel, &timer, deadline);
        assert_true(wheel_is_armed(&timer));
        for (uint64_t now = start; now < deadline; now += TICK / 2) {
            assert_int_equal(wheel_advance(&wheel, now, record, &seen), 0);
        }
        uint64_t due = (deadline + TICK - 1) / TICK * TICK;
        assert_int_equal(wheel_advance(&wheel, due - 1, record, &seen), 0);
        assert_int_equal(wheel_advance(&wheel, due, record, &seen), 1);
        assert_ptr_equal(seen.last, &timer);
        assert_false(wheel_is_armed(&timer));
        assert_int_equal(wheel_wait_ns(&wheel, due), UINT64_MAX);
    }
}

static void passed_deadline_fires_on_the_next_advance_within_the_tick(void **state)
{
    (void)state;
    struct seen seen = begin(5500);
    struct wheel_timer timer = {0};
    wheel_set(&wheel, &timer, 5000);
    assert_int_equal(wheel_wait_ns(&wheel, 5500), 0);
    assert_int_equal(wheel_advance(&wheel, 5500, record, &seen), 1);
    wheel_set(&wheel, &timer, 0);
    assert_int_equal(wheel_advance(&wheel, 5500, record, &seen), 1);
    assert_int_equal(wheel.armed_count, 0);
}

static void move_replaces_the_deadline_both_ways(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timer = {0};
    wheel_set(&wheel, &timer, 3000);
    wheel_set(&wheel, &timer, 9000);
    assert_int_equal(wheel.armed_count, 1);
    assert_int_equal(wheel_advance(&wheel, 8000, record, &seen), 0);
    wheel_set(&wheel, &timer, 8500);
    wheel_set(&wheel, &timer, 700000);
    wheel_set(&wheel, &timer, 10000);
    assert_int_equal(wheel_advance(&wheel, 10000, record, &seen), 1);
}

static void cancelled_timer_never_fires(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timer = {0};
    wheel_cancel(&wheel, &timer); /* idle: nothing happens */
    wheel_set(&wheel, &timer, 3000);
    wheel_cancel(&wheel, &timer);
    wheel_cancel(&wheel, &timer);
    assert_false(wheel_is_armed(&timer));
    assert_int_equal(wheel_advance(&wheel, 1000000, record, &seen), 0);
    assert_int_equal(wheel.armed_count, 0);
}

static void jump_over_many_turns_fires_each_timer_once(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    static struct wheel_timer timers[3 * WHEEL_SLOTS];
    memset(timers, 0, sizeof(timers));
    for (size_t i = 0; i < ARRAY_COUNT(timers); i++) {
        wheel_set(&wheel, &timers[i], (i + 1) * TICK);
    }
    assert_int_equal(wheel_advance(&wheel, 10ull * WHEEL_SLOTS * TICK, record, &seen),
                     ARRAY_COUNT(timers));
    assert_int_equal(wheel.armed_count, 0);
}

static void timers_of_different_ticks_fire_in_order(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timers[4] = {0};
    wheel_set(&wheel, &timers[2], 7000);
    wheel_set(&wheel, &timers[0], 2000);
    wheel_set(&wheel, &timers[3], 100000);
    wheel_set(&wheel, &timers[1], 5500);
    assert_int_equal(wheel_advance(&wheel, 200000, record, &seen), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_ptr_equal(seen.order[i], &timers[i]);
    }
}

static void callback_may_cancel_a_timer_that_is_due_too(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timers[2] = {0};
    wheel_set(&wheel, &timers[0], 1000);
    wheel_set(&wheel, &timers[1], 1000);
    seen.to_cancel = &timers[1];
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 1);
    assert_ptr_equal(seen.last, &timers[0]);
    assert_int_equal(wheel.armed_count, 0);
}

static void callback_that_rearms_in_the_past_does_not_loop(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timer = {0};
    wheel_set(&wheel, &timer, 1000);
    seen.to_set = &timer;
    seen.set_deadline_ns = 500;
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 1);
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 1);
    seen.set_deadline_ns = 5001; /* next tick */
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 1);
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 0);
    assert_int_equal(wheel_advance(&wheel, 6000, record, &seen), 1);
}

static void callback_may_move_a_timer_that_is_due_too(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer timers[2] = {0};
    wheel_set(&wheel, &timers[0], 1000);
    wheel_set(&wheel, &timers[1], 2000);
    seen.to_set = &timers[1];
    seen.set_deadline_ns = 9000;
    assert_int_equal(wheel_advance(&wheel, 5000, record, &seen), 1);
    seen.to_set = NULL;
    assert_int_equal(wheel_advance(&wheel, 8999, record, &seen), 0);
    assert_int_equal(wheel_advance(&wheel, 9000, record, &seen), 1);
    assert_ptr_equal(seen.last, &timers[1]);
}

static void clock_that_lags_stands_still(void **state)
{
    (void)state;
    struct seen seen = begin(100000);
    struct wheel_timer timer = {0};
    wheel_set(&wheel, &timer, 101000);
    assert_int_equal(wheel_advance(&wheel, 50000, record, &seen), 0);
    assert_int_equal(wheel_advance(&wheel, 101000, record, &seen), 1);
}

static void wait_leads_to_the_deadline_without_polling(void **state)
{
    (void)state;
    struct seen seen = begin(0);
    struct wheel_timer near = {0};
    struct wheel_timer far = {0};
    wheel_set(&wheel, &far, 300000);
    assert_int_equal(wheel_wait_ns(&wheel, 0), 300000);
    wheel_set(&wheel, &near, 4200);
    assert_int_equal(wheel_wait_ns(&wheel, 1500), 3500); /* the tick at 5000 */
    wheel_cancel(&wheel, &near);
    assert_int_equal(wheel_wait_ns(&wheel, 1500), 298500);
    assert_int_equal(wheel_wait_ns(&wheel, 300001), 0);
    wheel_set(&wheel, &far, UINT64_MAX);
    uint64_t turn = (uint64_t)WHEEL_SLOTS * TICK;
    assert_true(wheel_wait_ns(&wheel, 0) <= turn);
    assert_int_equal(wheel_advance(&wheel, 100 * turn, record, &seen), 0);
}

/* The naive model: an array that is searched. */
#define TIMERS 300

struct random_run {
    struct wheel_timer timers[TIMERS];
    uint64_t due_ns[TIMERS]; /* 0: idle */
    uint64_t now_ns;
    size_t fired;
};

static void check_fired(void *context, struct wheel_timer *timer)
{
    struct random_run *run = context;
    size_t i = (size_t)(timer - run->timers);
    assert_true(i < TIMERS);
    assert_true(run->due_ns[i] != 0);
    assert_true(run->due_ns[i] <= run->now_ns);
    run->due_ns[i] = 0;
    run->fired++;
}

static size_t model_due_count(const struct random_run *run)
{
    size_t due = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        due += run->due_ns[i] != 0 && run->due_ns[i] <= run->now_ns;
    }
    return due;
}

/* A loop that sleeps as long as wheel_wait_ns says must never find a timer late. */
static void assert_wait_is_not_too_long(const struct random_run *run)
{
    uint64_t wake_ns = wheel_wait_ns(&wheel, run->now_ns);
    for (size_t i = 0; i < TIMERS; i++) {
        if (run->due_ns[i] != 0) {
            assert_true(wake_ns <= run->due_ns[i] - u64_min(run->due_ns[i], run->now_ns));
        }
    }
}

static void random_use_agrees_with_a_naive_model(void **state)
{
    (void)state;
    static struct random_run run;
    const char *wish = getenv("SLUICE_TEST_SEED");
    uint64_t seed = wish != NULL ? strtoull(wish, NULL, 10) : 99;
    print_message("seed %llu (SLUICE_TEST_SEED=%llu)\n", (unsigned long long)seed,
                  (unsigned long long)seed);
    memset(&run, 0, sizeof(run));
    run.now_ns = 12345678;
    wheel_init(&wheel, TICK, run.now_ns);
    for (int step = 0; step < 60000; step++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t dice = seed >> 33;
        size_t i = (dice >> 8) % TIMERS;
        if (dice % 8 < 4) {
            uint64_t deadline = run.now_ns + (dice % 1500000) - u64_min(dice % 1500000, 2000);
            wheel_set(&wheel, &run.timers[i], deadline);
            run.due_ns[i] = (deadline + TICK - 1) / TICK * TICK;
        } else if (dice % 8 < 5) {
            wheel_cancel(&wheel, &run.timers[i]);
            run.due_ns[i] = 0;
        } else {
            run.now_ns += dice % 512 == 5 ? 3000000 : dice % 4000;
            size_t due = model_due_count(&run);
            assert_int_equal(wheel_advance(&wheel, run.now_ns, check_fired, &run), due);
            assert_wait_is_not_too_long(&run);
        }
    }
    assert_true(run.fired > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timer_fires_at_its_deadline_and_never_before),
        cmocka_unit_test(passed_deadline_fires_on_the_next_advance_within_the_tick),
        cmocka_unit_test(move_replaces_the_deadline_both_ways),
        cmocka_unit_test(cancelled_timer_never_fires),
        cmocka_unit_test(jump_over_many_turns_fires_each_timer_once),
        cmocka_unit_test(timers_of_different_ticks_fire_in_order),
        cmocka_unit_test(callback_may_cancel_a_timer_that_is_due_too),
        cmocka_unit_test(callback_that_rearms_in_the_past_does_not_loop),
        cmocka_unit_test(callback_may_move_a_timer_that_is_due_too),
        cmocka_unit_test(clock_that_lags_stands_still),
        cmocka_unit_test(wait_leads_to_the_deadline_without_polling),
        cmocka_unit_test(random_use_agrees_with_a_naive_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
