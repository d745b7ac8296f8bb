/* runs_query: what the query string of GET /api/v1/runs asks for, and how a bad one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "api/runs_query.h"
#include "model/json_scan.h"

static struct runs_filter filter;
static uint8_t memory[RUNS_QUERY_BYTES];
static uint8_t fault_memory[RUNS_QUERY_FAULT_BYTES + 1];

/* The status; the fault, if any, is valid JSON. query ends where its memory does. */
static unsigned parse(const char *query)
{
    struct buf fault;
    uint64_t offset = 0;
    const char *why = NULL;
    size_t bytes = strlen(query);
    uint8_t *copy = malloc(bytes + 1);
    assert_non_null(copy);
    memcpy(copy, query, bytes);
    buf_init(&fault, fault_memory, RUNS_QUERY_FAULT_BYTES);
    unsigned status = runs_query_parse(&filter, memory, (struct slice){copy, bytes}, &fault);
    free(copy); /* nothing of it is borrowed */
    fault_memory[fault.bytes] = 0;
    assert_false(fault.is_truncated);
    if (status != 0) {
        assert_int_equal(json_validate(fault_memory, fault.bytes, &offset, &why), 0);
    }
    return status;
}

static void assert_text(struct slice text, const char *expected)
{
    assert_int_equal(text.bytes, strlen(expected));
    assert_memory_equal(text.data, expected, text.bytes);
}

static void nothing_asked_is_the_first_hundred(void **state)
{
    (void)state;
    const char *const empties[] = {"", "&&", "status=&limit=&offset=&created_before=&agent_name",
                                   "unknown=x&also"};
    for (size_t i = 0; i < ARRAY_COUNT(empties); i++) {
        assert_int_equal(parse(empties[i]), 0);
        assert_int_equal(filter.limit, 100);
        assert_int_equal(filter.offset, 0);
        assert_int_equal(
            filter.status.bytes + filter.agent_name.bytes + filter.created_before.bytes, 0);
    }
}

static void every_parameter_arrives_decoded(void **state)
{
    (void)state;
    assert_int_equal(parse("agent_name=a%20b%2Bc&status=completed&job_type=j+k&created_before="
                           "2026-01-02&created_after=2026-01-01T00:00:00%2B00:00&start_time_from="
                           "2026-01-01T10:00&start_time_to=2026-01-01%2010:00:00.5Z&limit=1000&"
                           "offset=9223372036854775807"),
                     0);
    assert_text(filter.agent_name, "a b+c");
    assert_text(filter.status, "success");
    assert_text(filter.job_type, "j k");
    assert_text(filter.created_before, "2026-01-02");
    assert_text(filter.created_after, "2026-01-01T00:00:00+00:00");
    assert_text(filter.start_time_from, "2026-01-01T10:00");
    assert_text(filter.start_time_to, "2026-01-01 10:00:00.5Z");
    assert_int_equal(filter.limit, 1000);
    assert_true(filter.offset == INT64_MAX);
}

static void of_several_the_last_counts(void **state)
{
    (void)state;
    assert_int_equal(parse("status=nonsense&status=failed&limit=0&limit=7"), 0);
    assert_text(filter.status, "failure");
    assert_int_equal(filter.limit, 7);
}

static void limits_are_refused_in_the_words_of_the_framework(void **state)
{
    (void)state;
    assert_int_equal(parse("limit=1001"), 422);
    assert_string_equal((char *)fault_memory,
                        "{\"detail\":[{\"type\":\"less_than_equal\",\"loc\":[\"query\",\"limit\"],"
                        "\"msg\":\"Input should be less than or equal to 1000\",\"input\":"
                        "\"1001\"}]}");
    assert_int_equal(parse("limit=0"), 422);
    assert_non_null(strstr((char *)fault_memory, "greater_than_equal"));
    assert_int_equal(parse("limit=x&offset=-1&status=nonsense"), 422); /* before the status */
    assert_non_null(strstr((char *)fault_memory, "int_parsing"));
    assert_non_null(strstr((char *)fault_memory, "[\"query\",\"offset\"]"));
    assert_int_equal(parse("offset=9223372036854775808"), 422);
    assert_int_equal(parse("agent_name=%4"), 422);
}

static void unknown_status_and_bad_times_are_400(void **state)
{
    (void)state;
    assert_int_equal(parse("status=Success&created_before=xyz"), 400);
    assert_string_equal((char *)fault_memory,
                        "{\"detail\":\"Invalid status. Must be one of: ['running', 'success', "
                        "'failure', 'partial', 'timeout', 'cancelled']\"}");
    assert_int_equal(parse("status=failed&created_before=xyz&start_time_to=abc"), 400);
    assert_string_equal((char *)fault_memory,
                        "{\"detail\":\"Invalid ISO8601 timestamp for created_before: 'xyz'\"}");
    assert_int_equal(parse("start_time_to=%22%ff%00"), 400);
}

static bool is_time(const char *text)
{
    size_t bytes = strlen(text);
    uint8_t *copy = malloc(bytes + 1); /* a read behind the end traps */
    assert_non_null(copy);
    uint8_t *end = copy + 1;
    memcpy(end, text, bytes);
    bool is = runs_query_is_time((struct slice){end, bytes});
    free(copy);
    return is;
}

static void times_are_what_python_takes(void **state)
{
    (void)state;
    const char *const good[] = {
        "2026-01-31",           "2024-02-29",
        "2000-02-29T00",        "2026-01-31T23:59",
        "2026-01-31 23:59:59",  "2026-01-31T23:59:59.123456+00:00",
        "2026-01-31T23:59:59Z", "2026-01-31T23:59:59.1-05:30",
        "2026-01-31T23Z",       "0001-01-01T00:00:00+0530",
    };
    const char *const bad[] = {
        "",
        "now",
        "2026",
        "2026-1-1",
        "2026-13-01",
        "2026-00-10",
        "2026-01-32",
        "2026-02-29",
        "1900-02-29",
        "2026-04-31",
        "0000-01-01",
        "2026-01-31T",
        "2026-01-31T24:00",
        "2026-01-31T23:60",
        "2026-01-31T23:59:60",
        "2026-01-31T23:59:59.",
        "2026-01-31T23:59:59+",
        "2026-01-31T23:59:59+24:00",
        "2026-01-31T23:59:59ZZ",
        "2026-01-31T23:59:59 00:00",
        "2026-01-31x23:59",
        "2026-01-31T23:59:59Z ",
        " 2026-01-31",
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        if (!is_time(good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (is_time(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

/* No target is longer than its memory, whatever it repeats. */
static void longest_query_fits(void **state)
{
    static char query[RUNS_QUERY_BYTES];
    (void)state;
    memset(query, 'a', sizeof query - 1);
    memcpy(query, "agent_name=", 11);
    assert_int_equal(parse(query), 0);
    assert_int_equal(filter.agent_name.bytes, sizeof query - 12);
    memset(query, '"', sizeof query - 1);
    memcpy(query, "created_before=", 15);
    assert_int_equal(parse(query), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_asked_is_the_first_hundred),
        cmocka_unit_test(every_parameter_arrives_decoded),
        cmocka_unit_test(of_several_the_last_counts),
        cmocka_unit_test(limits_are_refused_in_the_words_of_the_framework),
        cmocka_unit_test(unknown_status_and_bad_times_are_400),
        cmocka_unit_test(times_are_what_python_takes),
        cmocka_unit_test(longest_query_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
