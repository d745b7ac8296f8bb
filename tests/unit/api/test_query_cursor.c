#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_params.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* 2026-11-21T12:00:00Z */
#define NOW        INT64_C(1795262400000000000)
#define HOUR       INT64_C(3600000000000)
#define QUERY_ROOM 4096

static uint8_t fault_memory[QUERY_FAULT_BYTES_MAX];
static struct buf fault;

static int parse_at(struct query_params *params, enum route_id route, const char *query,
                    int64_t now_ns)
{
    buf_init(&fault, fault_memory, sizeof fault_memory);
    return query_params_parse(params, route, (struct slice){(const uint8_t *)query, strlen(query)},
                              now_ns, &fault);
}

static void cursor_of(char *cursor, enum route_id route, const char *query, uint64_t lsn)
{
    struct query_params params;
    assert_int_equal(parse_at(&params, route, query, NOW), 0);
    assert_int_equal(query_cursor_put(cursor, QUERY_CURSOR_CHARS, &params, lsn),
                     QUERY_CURSOR_CHARS);
    cursor[QUERY_CURSOR_CHARS] = 0;
}

static int follow_at(struct query_params *params, enum route_id route, const char *query,
                     const char *cursor, int64_t now_ns)
{
    char text[QUERY_ROOM];
    snprintf(text, sizeof text, "%s&cursor=%s", query, cursor);
    return parse_at(params, route, text, now_ns);
}

static bool fault_says(const char *text)
{
    return memmem(fault.data, fault.bytes, text, strlen(text)) != NULL;
}

static void a_cursor_brings_its_lsn_back_to_the_same_query(void **state)
{
    (void)state;
    static const uint64_t lsns[] = {1, 2, 255, 256, 123456789, UINT64_MAX - 1};
    static const char query[] =
        "service=a&level=warn&q=out%20of&order=asc&start=2026-01-01T00:00:00Z";
    for (size_t i = 0; i < ARRAY_COUNT(lsns); i++) {
        char cursor[QUERY_CURSOR_CHARS + 1];
        struct query_params params;
        cursor_of(cursor, ROUTE_LOGS, query, lsns[i]);
        assert_int_equal(follow_at(&params, ROUTE_LOGS, query, cursor, NOW), 0);
        assert_true(params.has_cursor);
        assert_true(params.cursor_lsn == lsns[i]);
    }
}

static void a_cursor_needs_no_encoding_in_a_query_string(void **state)
{
    (void)state;
    for (uint64_t lsn = 1; lsn < 2000; lsn++) {
        char cursor[QUERY_CURSOR_CHARS + 1];
        cursor_of(cursor, ROUTE_LOGS, "", lsn * 0x9e3779b97f4a7c15u);
        for (size_t i = 0; i < QUERY_CURSOR_CHARS; i++) {
            char c = cursor[i];
            assert_true((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '-' || c == '_');
        }
    }
}

/* Version 1 for ever: what a client kept over an update must still be understood. */
static void the_form_of_a_cursor_is_pinned(void **state)
{
    (void)state;
    char cursor[QUERY_CURSOR_CHARS + 1];
    cursor_of(cursor, ROUTE_LOGS, "service=corerl&order=asc", 1234567);
    assert_string_equal(cursor, "AQAAAAIAAACH1hIAAAAAAG4I018NY_zp");
}

static void a_cursor_of_another_query_is_refused_and_says_so(void **state)
{
    (void)state;
    char cursor[QUERY_CURSOR_CHARS + 1];
    static const char *const others[] = {
        "service=b&level=warn",
        "service=a",
        "service=a&level=error",
        "service=a&level=warn&order=asc",
        "service=a&level=warn&q=x",
        "service=a&level=warn&start=now-5m",
        "correlation_id=a&level=warn",
        "service=a&level=warn&end=2026-01-01T00:00:00Z",
        "service=a&level=warn&start=2026-01-01T00:00:00Z",
    };
    cursor_of(cursor, ROUTE_LOGS, "service=a&level=warn", 7);
    struct query_params params;
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        assert_int_equal(follow_at(&params, ROUTE_LOGS, others[i], cursor, NOW), -EINVAL);
        assert_true(fault_says("\"loc\":[\"query\",\"cursor\"]"));
        assert_true(fault_says("of another query"));
    }
    assert_int_equal(follow_at(&params, ROUTE_METRICS, "service=a&level=warn", cursor, NOW),
                     -EINVAL);
    assert_int_equal(follow_at(&params, ROUTE_LOGS, "service=a&level=warn", cursor, NOW), 0);
}

static void the_order_of_parameters_the_limit_and_the_spelling_do_not_count(void **state)
{
    (void)state;
    char cursor[QUERY_CURSOR_CHARS + 1];
    struct query_params params;
    cursor_of(cursor, ROUTE_LOGS, "service=ab&level=WARN&start=2026-01-01T00:00:00Z&limit=5", 7);
    assert_int_equal(follow_at(&params, ROUTE_LOGS,
                               "level=warning&limit=50&start=2026-01-01T02:00:00%2B02:00&"
                               "service=%61b&order=desc&unknown=1",
                               cursor, NOW),
                     0);
    assert_int_equal(params.limit, 50);
}

static void a_relative_time_may_move_between_pages(void **state)
{
    (void)state;
    char cursor[QUERY_CURSOR_CHARS + 1];
    struct query_params params;
    cursor_of(cursor, ROUTE_LOGS, "start=now-1h&end=now", 7);
    assert_int_equal(follow_at(&params, ROUTE_LOGS, "start=now-1h&end=now", cursor, NOW + HOUR), 0);
    assert_true(params.start_ns == NOW);
    assert_int_equal(follow_at(&params, ROUTE_LOGS, "start=now-2h&end=now", cursor, NOW), -EINVAL);
    /* The same words at the other end are another query. */
    assert_int_equal(follow_at(&params, ROUTE_LOGS, "start=now-1h", cursor, NOW), -EINVAL);
}

static void an_empty_cursor_is_the_first_page(void **state)
{
    (void)state;
    struct query_params params;
    assert_int_equal(parse_at(&params, ROUTE_LOGS, "cursor=", NOW), 0);
    assert_false(params.has_cursor);
}

static void every_changed_or_missing_character_is_noticed(void **state)
{
    (void)state;
    static const char other[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/.";
    char cursor[QUERY_CURSOR_CHARS + 1];
    struct query_params params;
    assert_int_equal(parse_at(&params, ROUTE_LOGS, "service=a", NOW), 0);
    cursor_of(cursor, ROUTE_LOGS, "service=a", 99);
    for (size_t i = 0; i < QUERY_CURSOR_CHARS; i++) {
        for (size_t k = 0; k < sizeof other; k++) {
            char changed[QUERY_CURSOR_CHARS + 1];
            memcpy(changed, cursor, sizeof changed);
            changed[i] = other[k];
            struct slice text = {(const uint8_t *)changed, QUERY_CURSOR_CHARS};
            bool is_same = cursor[i] == other[k];
            assert_int_equal(query_cursor_parse(&params, text), is_same ? 0 : -EINVAL);
        }
        struct slice shorter = {(const uint8_t *)cursor, i};
        assert_int_equal(query_cursor_parse(&params, shorter), -EINVAL);
    }
    assert_int_equal(follow_at(&params, ROUTE_LOGS, "service=a", "eyJsc24iOjV9", NOW), -EINVAL);
    assert_true(fault_says("it is no cursor"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cursor_brings_its_lsn_back_to_the_same_query),
        cmocka_unit_test(a_cursor_needs_no_encoding_in_a_query_string),
        cmocka_unit_test(the_form_of_a_cursor_is_pinned),
        cmocka_unit_test(a_cursor_of_another_query_is_refused_and_says_so),
        cmocka_unit_test(the_order_of_parameters_the_limit_and_the_spelling_do_not_count),
        cmocka_unit_test(a_relative_time_may_move_between_pages),
        cmocka_unit_test(an_empty_cursor_is_the_first_page),
        cmocka_unit_test(every_changed_or_missing_character_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
