#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "forward/lag.h"

static void quantiles_speak_of_the_last_minutes_only(void **state)
{
    (void)state;
    static struct lag lag;
    memset(&lag, 0, sizeof lag);
    assert_int_equal(lag_quantile(&lag, 0.99), 0);
    lag_add(&lag, 10 * NS_MS, 990, LAG_TURN_NS);
    lag_add(&lag, 5 * NS_S, 10, LAG_TURN_NS + 1);
    assert_int_equal(lag.last_ns, 5 * NS_S);
    assert_in_range(lag_quantile(&lag, 0.5), 10 * NS_MS, 13 * NS_MS);
    assert_in_range(lag_quantile(&lag, 0.999), 4 * NS_S, 5 * NS_S);
    lag_add(&lag, NS_MS, 1000, 2 * LAG_TURN_NS);
    assert_in_range(lag_quantile(&lag, 0.999), 4 * NS_S, 5 * NS_S); /* not yet forgotten */
    lag_add(&lag, NS_MS, 1000, 3 * LAG_TURN_NS);
    assert_in_range(lag_quantile(&lag, 0.999), NS_MS, 2 * NS_MS);
}

static void hours_are_not_cut_to_what_a_histogram_can_say(void **state)
{
    (void)state;
    static struct lag lag;
    memset(&lag, 0, sizeof lag);
    lag_add(&lag, 7200 * NS_S, 100, LAG_TURN_NS);
    assert_int_equal(lag_quantile(&lag, 0.5), 7200 * NS_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_speak_of_the_last_minutes_only),
        cmocka_unit_test(hours_are_not_cut_to_what_a_histogram_can_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
