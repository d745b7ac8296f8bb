#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/cors.h"

static struct cors cors;
static struct config_problems problems;

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void expect_lines(const char *origin, const char *part, bool is_there)
{
    struct slice lines = cors_lines(&cors, slice_of(origin));
    bool is_found = memmem(lines.data, lines.bytes, part, strlen(part)) != NULL;
    assert_int_equal(is_found, is_there);
}

static void open_cors(const char *origins)
{
    problems.count = 0;
    assert_int_equal(cors_init(&cors, origins, &problems), 0);
}

static void a_star_allows_everybody_without_vary(void **state)
{
    (void)state;
    open_cors(" * ");
    expect_lines("https://a.example", "Access-Control-Allow-Origin: *\r\n", true);
    expect_lines("null", "Access-Control-Allow-Origin: *\r\n", true);
    expect_lines("https://a.example", "Vary", false);
    assert_true(cors_allows(&cors, slice_of("http://x")));
}

static void a_list_names_the_origin_that_asks_and_no_other(void **state)
{
    (void)state;
    open_cors("https://A.example:8443 ,http://b.example");
    expect_lines("https://a.example:8443",
                 "Access-Control-Allow-Origin: https://a.example:8443\r\nVary: Origin\r\n", true);
    expect_lines("http://b.example", "Access-Control-Allow-Origin: http://b.example\r\n", true);
    const char *others[] = {"https://a.example",
                            "http://b.example.evil",
                            "http://b.exampl",
                            "https://b.example",
                            "null",
                            "",
                            "http://b.example/"};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        expect_lines(others[i], "Allow-Origin", false);
        expect_lines(others[i], "Vary: Origin\r\n", true);
        assert_false(cors_allows(&cors, slice_of(others[i])));
    }
}

static void empty_is_off(void **state)
{
    (void)state;
    open_cors("  ");
    assert_null(cors_lines(&cors, slice_of("http://a")).data);
    assert_false(cors_allows(&cors, slice_of("http://a")));
}

static void the_same_origin_has_the_same_pointer(void **state)
{
    (void)state;
    open_cors("http://a,http://b");
    struct slice one = cors_lines(&cors, slice_of("http://a"));
    assert_ptr_equal(one.data, cors_lines(&cors, slice_of("http://a")).data);
    assert_ptr_not_equal(one.data, cors_lines(&cors, slice_of("http://b")).data);
}

static void what_is_no_origin_is_named(void **state)
{
    (void)state;
    const char *bad[] = {"a.example",  "http://",      "://a",         "http://a/",
                         "http://a/b", "http://u@a",   "http://a?b",   "null",
                         "http://*.a", "*,http://a",   "http://a b",   "http://a\r\nX: y",
                         "http:/a",    "http://a://b", "http://a,oops"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        problems.count = 0;
        assert_int_equal(cors_init(&cors, bad[i], &problems), -EINVAL);
        assert_int_equal(problems.count, 1);
    }
}

static void the_longest_list_fits(void **state)
{
    (void)state;
    char text[CONFIG_TEXT_BYTES] = "";
    for (size_t used = 0; used + 9 < sizeof text; used += 9) {
        (void)snprintf(text + used, sizeof text - used, "http://%c,", 'a' + (int)(used / 9 % 26));
    }
    open_cors(text);
    assert_int_equal(cors.count, (CONFIG_TEXT_BYTES - 1) / 9);
    memset(text, 'h', sizeof text - 1);
    memcpy(text, "http://", 7);
    open_cors(text);
    assert_int_equal(cors.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_star_allows_everybody_without_vary),
        cmocka_unit_test(a_list_names_the_origin_that_asks_and_no_other),
        cmocka_unit_test(empty_is_off),
        cmocka_unit_test(the_same_origin_has_the_same_pointer),
        cmocka_unit_test(what_is_no_origin_is_named),
        cmocka_unit_test(the_longest_list_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
