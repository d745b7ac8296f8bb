/* density: pure decisions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "net/density.h"

/* Passes of `count` events each, apart_ns from event to event. */
static void run(struct density *density, unsigned passes, uint64_t apart_ns, uint32_t count)
{
    for (unsigned i = 0; i < passes; i++) {
        density_note(density, apart_ns * count, count);
    }
}

static struct density dense(void)
{
    struct density density = {0};
    run(&density, 100, DENSITY_INTERVAL_NS / 2, 8);
    assert_true(density_is_high(&density));
    return density;
}

static void events_closer_than_the_bound_are_dense_and_others_are_not(void **state)
{
    (void)state;
    struct density density = {0};
    run(&density, 100, DENSITY_INTERVAL_NS + NS_US, 8);
    assert_false(density_is_high(&density));
    run(&density, 100, DENSITY_INTERVAL_NS - NS_US, 8);
    assert_true(density_is_high(&density));
}

/* Another thread had the core meanwhile. */
static void one_long_gap_does_not_end_density(void **state)
{
    (void)state;
    static const uint64_t gaps_ns[] = {NS_MS, 4 * NS_MS, 9 * NS_MS, 30 * NS_MS};
    for (size_t i = 0; i < ARRAY_COUNT(gaps_ns); i++) {
        struct density density = dense();
        density_note(&density, gaps_ns[i], 8);
        assert_true(density_is_high(&density));
    }
}

static void a_few_sparse_passes_in_a_row_end_density(void **state)
{
    (void)state;
    struct density density = dense();
    run(&density, 2, NS_MS, 1);
    assert_true(density_is_high(&density));
    run(&density, 2, NS_MS, 1);
    assert_false(density_is_high(&density));
}

static void an_event_after_silence_ends_density_at_once(void **state)
{
    (void)state;
    struct density density = dense();
    density_note(&density, DENSITY_IDLE_NS, 1);
    assert_false(density_is_high(&density));
    density = dense();
    density_note(&density, DENSITY_IDLE_NS, 0); /* a wait that brought nothing */
    assert_false(density_is_high(&density));
}

static void density_is_back_within_as_many_passes_as_the_average_has(void **state)
{
    (void)state;
    struct density density = dense();
    density_note(&density, 60 * NS_S, 1);
    run(&density, 4, DENSITY_INTERVAL_NS / 4, 16);
    assert_false(density_is_high(&density));
    run(&density, 4, DENSITY_INTERVAL_NS / 4, 16);
    assert_true(density_is_high(&density));
}

static void passes_without_events_or_time_are_taken(void **state)
{
    (void)state;
    struct density density = dense();
    density_note(&density, 0, 0);
    density_note(&density, 0, UINT32_MAX);
    assert_true(density_is_high(&density));
    density_note(&density, UINT64_MAX, 0);
    assert_false(density_is_high(&density));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_closer_than_the_bound_are_dense_and_others_are_not),
        cmocka_unit_test(one_long_gap_does_not_end_density),
        cmocka_unit_test(a_few_sparse_passes_in_a_row_end_density),
        cmocka_unit_test(an_event_after_silence_ends_density_at_once),
        cmocka_unit_test(density_is_back_within_as_many_passes_as_the_average_has),
        cmocka_unit_test(passes_without_events_or_time_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
