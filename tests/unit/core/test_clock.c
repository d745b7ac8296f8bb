/* clock: time as text, checked against the C library, and clocks that go forward. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void assert_rfc3339(int64_t real_ns, int digits, const char *expected)
{
    char text[CLOCK_RFC3339_BYTES];
    size_t length = clock_rfc3339(text, real_ns, digits);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

static void rfc3339_has_the_digits_asked_for(void **state)
{
    (void)state;
    const int64_t t = 1756116000123456789; /* 2025-08-25 */
    assert_rfc3339(t, 0, "2025-08-25T10:00:00Z");
    assert_rfc3339(t, 1, "2025-08-25T10:00:00.1Z");
    assert_rfc3339(t, 3, "2025-08-25T10:00:00.123Z");
    assert_rfc3339(t, 6, "2025-08-25T10:00:00.123456Z");
    assert_rfc3339(t, 9, "2025-08-25T10:00:00.123456789Z");
    assert_rfc3339(1756116000000000007, 9, "2025-08-25T10:00:00.000000007Z");
}

static void times_at_the_edges_are_exact(void **state)
{
    (void)state;
    assert_rfc3339(0, 3, "1970-01-01T00:00:00.000Z");
    assert_rfc3339(-1, 9, "1969-12-31T23:59:59.999999999Z");
    assert_rfc3339(951782399999999999, 0, "2000-02-28T23:59:59Z");
    assert_rfc3339(951782400000000000, 0, "2000-02-29T00:00:00Z");
    assert_rfc3339(4107542400000000000, 0, "2100-03-01T00:00:00Z"); /* 2100 has no leap day */
    assert_rfc3339(INT64_MAX, 9, "2262-04-11T23:47:16.854775807Z");
    assert_rfc3339(INT64_MIN, 9, "1677-09-21T00:12:43.145224192Z");
}

static void http_date_is_the_example_of_rfc_9110(void **state)
{
    (void)state;
    char text[CLOCK_HTTP_DATE_BYTES + 1];
    text[CLOCK_HTTP_DATE_BYTES] = '#';
    clock_http_date(text, 784111777ll * (int64_t)NS_S);
    assert_memory_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT", CLOCK_HTTP_DATE_BYTES);
    assert_int_equal(text[CLOCK_HTTP_DATE_BYTES], '#');
}

static void both_texts_agree_with_the_c_library(void **state)
{
    (void)state;
    uint64_t seed = 42;
    for (int i = 0; i < 50000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        int64_t real_ns = (int64_t)(seed ^ seed >> 29);
        int64_t seconds = real_ns / (int64_t)NS_S - (real_ns % (int64_t)NS_S < 0);
        time_t t = seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&t, &tm));
        char expected[64];
        strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%SZ", &tm);
        assert_rfc3339(real_ns, 0, expected);
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        char text[CLOCK_HTTP_DATE_BYTES];
        clock_http_date(text, real_ns);
        assert_memory_equal(text, expected, CLOCK_HTTP_DATE_BYTES);
    }
}

static void clocks_run_forward(void **state)
{
    (void)state;
    uint64_t mono = clock_mono_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t next = clock_mono_ns();
        assert_true(next >= mono);
        mono = next;
    }
    int64_t seconds = clock_real_ns() / (int64_t)NS_S;
    int64_t expected = time(NULL);
    assert_true(seconds >= expected - 2 && seconds <= expected + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc3339_has_the_digits_asked_for),
        cmocka_unit_test(times_at_the_edges_are_exact),
        cmocka_unit_test(http_date_is_the_example_of_rfc_9110),
        cmocka_unit_test(both_texts_agree_with_the_c_library),
        cmocka_unit_test(clocks_run_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
