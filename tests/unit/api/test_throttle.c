#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/throttle.h"

static unsigned admitted_of(struct throttle *throttle, uint64_t depth, unsigned requests)
{
    unsigned admitted = 0;
    for (unsigned i = 0; i < requests; i++) {
        admitted += throttle_admit(throttle, depth);
    }
    return admitted;
}

static void the_curve_is_the_documents(void **state)
{
    (void)state;
    struct throttle throttle;
    throttle_init(&throttle, true, 10000, 0.5);
    assert_true(throttle_rate(&throttle, 0) == 1.0);
    assert_true(throttle_rate(&throttle, 5000) == 1.0);
    assert_true(throttle_rate(&throttle, 7500) == 0.75);
    assert_true(throttle_rate(&throttle, 10000) == 0.5);
    assert_true(throttle_rate(&throttle, 1000000) == 0.5);
}

static void of_many_requests_the_share_of_the_curve_is_admitted(void **state)
{
    (void)state;
    struct throttle throttle;
    throttle_init(&throttle, true, 10000, 0.3);
    assert_in_range(admitted_of(&throttle, 100, 1000), 999, 1000);
    assert_in_range(admitted_of(&throttle, 10000, 1000), 298, 302);
    assert_in_range(admitted_of(&throttle, 7500, 1000), 648, 652);
}

static void disabled_admits_everything(void **state)
{
    (void)state;
    struct throttle throttle;
    throttle_init(&throttle, false, 1, 0.0);
    assert_int_equal(admitted_of(&throttle, 1000000, 100), 100);
}

static void rate_zero_admits_nothing_at_full_depth(void **state)
{
    (void)state;
    struct throttle throttle;
    throttle_init(&throttle, true, 10, 0.0);
    assert_int_equal(admitted_of(&throttle, 10, 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_curve_is_the_documents),
        cmocka_unit_test(of_many_requests_the_share_of_the_curve_is_admitted),
        cmocka_unit_test(disabled_admits_everything),
        cmocka_unit_test(rate_zero_admits_nothing_at_full_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
