/* run_number: what is taken for an integer and for a boolean, and what for none. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "model/run_number.h"

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void json_numbers_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum run_number result;
        int64_t value;
    } cases[] = {
        {"0", RUN_NUMBER_GOOD, 0},
        {"-0", RUN_NUMBER_GOOD, 0},
        {"-0.000e-99", RUN_NUMBER_GOOD, 0},
        {"0e99999999999999999999", RUN_NUMBER_GOOD, 0},
        {"3.0", RUN_NUMBER_GOOD, 3},
        {"3e2", RUN_NUMBER_GOOD, 300},
        {"3E+2", RUN_NUMBER_GOOD, 300},
        {"1.25e2", RUN_NUMBER_GOOD, 125},
        {"12500e-2", RUN_NUMBER_GOOD, 125},
        {"100.00e-2", RUN_NUMBER_GOOD, 1},
        {"0.001e3", RUN_NUMBER_GOOD, 1},
        {"-1.0", RUN_NUMBER_GOOD, -1},
        {"9007199254740993.0", RUN_NUMBER_GOOD, 9007199254740993},
        {"9223372036854775807", RUN_NUMBER_GOOD, INT64_MAX},
        {"9223372036854775807.000", RUN_NUMBER_GOOD, INT64_MAX},
        {"922337203685477580.7e1", RUN_NUMBER_GOOD, INT64_MAX},
        {"-9223372036854775808", RUN_NUMBER_GOOD, INT64_MIN},
        {"-9223372036854775807", RUN_NUMBER_GOOD, -INT64_MAX},
        {"-9223372036854775809", RUN_NUMBER_GOOD, INT64_MIN},
        {"-1e300", RUN_NUMBER_GOOD, INT64_MIN},
        {"9223372036854775808", RUN_NUMBER_SIZE, 0},
        {"18446744073709551615", RUN_NUMBER_SIZE, 0},
        {"18446744073709551616", RUN_NUMBER_SIZE, 0},
        {"18446744073709551617", RUN_NUMBER_SIZE, 0},
        {"36893488147419103232", RUN_NUMBER_SIZE, 0},
        {"1e19", RUN_NUMBER_SIZE, 0},
        {"1e300", RUN_NUMBER_SIZE, 0},
        {"10000000000000000000000000000000000000000000", RUN_NUMBER_SIZE, 0},
        {"0.5", RUN_NUMBER_FRACTION, 0},
        {"1e-1", RUN_NUMBER_FRACTION, 0},
        {"1.25e1", RUN_NUMBER_FRACTION, 0},
        {"-1.5", RUN_NUMBER_FRACTION, 0},
        {"1e-99999999999999999999", RUN_NUMBER_FRACTION, 0},
        {"1.00000000000000000000000000000000000001", RUN_NUMBER_FRACTION, 0},
        {"1e309", RUN_NUMBER_INFINITE, 0},
        {"-1e99999999999999999999", RUN_NUMBER_INFINITE, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int64_t value = 0;
        enum run_number result = run_number_of_number(text_slice(cases[i].text), &value);
        if (result != cases[i].result || (result == RUN_NUMBER_GOOD && value != cases[i].value)) {
            fail_msg("%s: %d %" PRId64, cases[i].text, (int)result, value);
        }
    }
}

/* pydantic-core's own cases for lax integers are among them. */
static void strings_are_taken_as_pydantic_takes_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {
        {"0", 0},
        {"00", 0},
        {"0_000", 0},
        {"+0", 0},
        {"+0_000", 0},
        {"  1  ", 1},
        {"-1", -1},
        {"-1.0", -1},
        {"42", 42},
        {"00.00", 0},
        {"42.00", 42},
        {"042", 42},
        {"+4_2", 42},
        {"+0_42", 42},
        {"+04_2.0", 42},
        {"-00001", -1},
        {"-00042_000", -42000},
        {"  04_2.0 ", 42},
        {"000001", 1},
        {"\t1\n", 1},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"-99999999999999999999", INT64_MIN},
    };
    static const char *const bad[] = {
        "",
        " ",
        "00_",
        "0:",
        "++4_2",
        "-+1",
        "+-1",
        "--0001",
        "-0-001",
        "-0+001",
        "_042",
        "42_",
        "42_.0",
        "1.",
        "42.",
        ".0",
        "1.5",
        "1e3",
        "0x10",
        "1 2",
        "-",
        "+",
        "1__0",
        "1_",
        "wrong",
        "1.0_0",
        "- 1",
        "\u0661",
        "123456789123456.00001",
    };
    int64_t value;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        if (run_number_of_text(text_slice(good[i].text), &value) != RUN_NUMBER_GOOD ||
            value != good[i].value) {
            fail_msg("\"%s\"", good[i].text);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (run_number_of_text(text_slice(bad[i]), &value) != RUN_NUMBER_NONE) {
            fail_msg("taken: \"%s\"", bad[i]);
        }
    }
    assert_int_equal(run_number_of_text(SLICE_LITERAL("9223372036854775808"), &value),
                     RUN_NUMBER_SIZE);
}

static void words_of_a_boolean_are_pydantics(void **state)
{
    (void)state;
    static const char *const yes[] = {"1", "t", "y", "on", "yes", "true", "TRUE", "On", "Y"};
    static const char *const no[] = {"0", "f", "n", "no", "off", "false", "False", "OFF"};
    static const char *const none[] = {"", "2", " true", "true ", "tru", "yess", "null", "-1"};
    for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
        assert_int_equal(run_number_of_word(text_slice(yes[i])), 1);
    }
    for (size_t i = 0; i < ARRAY_COUNT(no); i++) {
        assert_int_equal(run_number_of_word(text_slice(no[i])), 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        assert_int_equal(run_number_of_word(text_slice(none[i])), -1);
    }
}

static void a_million_digits_end(void **state)
{
    (void)state;
    size_t bytes = 1000000;
    uint8_t *text = mem_alloc(bytes);
    int64_t value;
    memset(text, '0', bytes);
    text[0] = '1';
    assert_int_equal(run_number_of_number((struct slice){text, bytes}, &value), RUN_NUMBER_SIZE);
    text[1] = '.';
    assert_int_equal(run_number_of_number((struct slice){text, bytes}, &value), RUN_NUMBER_GOOD);
    assert_true(value == 1);
    text[bytes - 1] = '1';
    assert_int_equal(run_number_of_number((struct slice){text, bytes}, &value),
                     RUN_NUMBER_FRACTION);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_numbers_are_exact),
        cmocka_unit_test(strings_are_taken_as_pydantic_takes_them),
        cmocka_unit_test(words_of_a_boolean_are_pydantics),
        cmocka_unit_test(a_million_digits_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
