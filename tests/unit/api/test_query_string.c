#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_string.h"

#include <errno.h>
#include <string.h>

static void assert_value(const char *query, const char *name, const char *expected)
{
    uint8_t value[32];
    size_t bytes = 0;
    int found = query_string_find((struct slice){(const uint8_t *)query, strlen(query)}, name,
                                  value, sizeof value, &bytes);
    assert_int_equal(found, expected != NULL);
    if (expected != NULL) {
        assert_int_equal(bytes, strlen(expected));
        assert_memory_equal(value, expected, bytes);
    }
}

static void values_are_found_decoded_and_whole_names_only(void **state)
{
    (void)state;
    assert_value("lsn=5&wait=1s", "lsn", "5");
    assert_value("lsn=5&wait=1s", "wait", "1s");
    assert_value("xlsn=5&lsnx=6", "lsn", NULL);
    assert_value("lsn", "lsn", "");
    assert_value("lsn=", "lsn", "");
    assert_value("a=b%20c+d%2B", "a", "b c d+");
    assert_value("a=1&a=2", "a", "1");
    assert_value("", "a", NULL);
    assert_value("&&a=1", "a", "1");
}

static void bad_encoding_and_long_values_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a=%", "a=%4", "a=%zz", "a=%4g",
                                      "a=0123456789012345678901234567890123"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        uint8_t value[32];
        size_t bytes = 0;
        assert_int_equal(query_string_find((struct slice){(const uint8_t *)bad[i], strlen(bad[i])},
                                           "a", value, sizeof value, &bytes),
                         -EINVAL);
    }
}

static void a_plus_is_a_space_in_a_query_and_itself_in_a_path(void **state)
{
    (void)state;
    uint8_t text[8];
    size_t bytes = 0;
    assert_int_equal(query_string_decode(SLICE_LITERAL("a+%2b"), text, sizeof text, &bytes), 0);
    assert_int_equal(bytes, 3);
    assert_memory_equal(text, "a +", 3);
    assert_int_equal(query_string_decode_segment(SLICE_LITERAL("a+%2B"), text, sizeof text, &bytes),
                     0);
    assert_memory_equal(text, "a++", 3);
    assert_int_equal(query_string_decode_segment(SLICE_LITERAL("%2"), text, sizeof text, &bytes),
                     -EINVAL);
    assert_int_equal(
        query_string_decode_segment(SLICE_LITERAL("123456789"), text, sizeof text, &bytes), -E2BIG);
    assert_int_equal(bytes, sizeof text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_decoded_and_whole_names_only),
        cmocka_unit_test(bad_encoding_and_long_values_are_refused),
        cmocka_unit_test(a_plus_is_a_space_in_a_query_and_itself_in_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
