#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_params.h"

#include <string.h>

/* 2026-11-21T12:00:00Z */
#define NOW       INT64_C(1795262400000000000)
#define SECOND    INT64_C(1000000000)
#define UNTOUCHED 42

static void expect_time(const char *text, int64_t expected)
{
    int64_t ns = UNTOUCHED;
    if (!query_time_parse(&ns, (struct slice){(const uint8_t *)text, strlen(text)}, NOW) ||
        ns != expected) {
        fail_msg("%s: %lld, not %lld", text, (long long)ns, (long long)expected);
    }
}

static void expect_none(const char *text)
{
    int64_t ns = UNTOUCHED;
    if (query_time_parse(&ns, (struct slice){(const uint8_t *)text, strlen(text)}, NOW) ||
        ns != UNTOUCHED) {
        fail_msg("%s was taken as %lld", text, (long long)ns);
    }
}

static void relative_times_count_from_now_in_every_unit(void **state)
{
    (void)state;
    expect_time("now", NOW);
    expect_time("now-5s", NOW - 5 * SECOND);
    expect_time("now-5m", NOW - 300 * SECOND);
    expect_time("now-2h", NOW - 7200 * SECOND);
    expect_time("now-30d", NOW - INT64_C(30) * 86400 * SECOND);
    expect_time("now+1h", NOW + 3600 * SECOND);
    expect_time("now-0s", NOW);
}

static void several_terms_are_added_and_a_space_is_the_plus_that_was_not_encoded(void **state)
{
    (void)state;
    expect_time("now-1d+2h", NOW - 79200 * SECOND);
    expect_time("now-1d 2h-5s", NOW - 79205 * SECOND);
    expect_time("now 10m", NOW + 600 * SECOND);
}

static void what_is_no_sum_of_times_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "now-",    "now-5",      "now5m",  "now-m",    "now--5m", "now-5w",     "NOW",
        "now-5m ", "now- 5m",    "now-5M", "now-5.5m", "now-5ms", " now",       "yesterday",
        "now-5mx", "now-5m,now", "no",     "",         "now*5m",  "1795262400", "-5m",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        expect_none(bad[i]);
    }
}

static void times_beyond_the_range_are_none(void **state)
{
    (void)state;
    expect_none("now-99999999d");
    expect_none("now+99999999999999999999s");
    expect_none("now-9223372036854775807d");
    expect_none("now+9223372036s");
    expect_time("now-9223372036s", NOW - INT64_C(9223372036) * SECOND);
}

static void rfc3339_needs_its_zone_and_keeps_nanoseconds(void **state)
{
    (void)state;
    expect_time("2026-11-21T12:00:00Z", NOW);
    expect_time("2026-11-21T12:00:00.000000001Z", NOW + 1);
    expect_time("2026-11-21t14:00:00+02:00", NOW);
    expect_time("2026-11-21 09:30:00-02:30", NOW);
    expect_none("2026-11-21T12:00:00");
    expect_none("2026-11-21");
    expect_none("2026-13-21T12:00:00Z");
    expect_none("2026-11-21T12:00:00Zjunk");
    expect_none("2026-11-21T12:00:00.0000000000000000000000000000000000000000000000Z");
}

static void an_offset_that_lost_its_plus_is_understood(void **state)
{
    (void)state;
    expect_time("2026-11-21T14:00:00 02:00", NOW);
    expect_time("2026-11-21T12:00:00.5 00:00", NOW + SECOND / 2);
    expect_time("2026-11-21 14:00:00 02:00", NOW);
    expect_none("2026-11-21 12:00");
    expect_none("2026-11-21T14:00:00 2:00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relative_times_count_from_now_in_every_unit),
        cmocka_unit_test(several_terms_are_added_and_a_space_is_the_plus_that_was_not_encoded),
        cmocka_unit_test(what_is_no_sum_of_times_is_none),
        cmocka_unit_test(times_beyond_the_range_are_none),
        cmocka_unit_test(rfc3339_needs_its_zone_and_keeps_nanoseconds),
        cmocka_unit_test(an_offset_that_lost_its_plus_is_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
