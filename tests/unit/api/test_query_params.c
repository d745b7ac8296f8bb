#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_params.h"
#include "api/record_keys.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "store/index.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* 2026-11-21T12:00:00Z */
#define NOW        INT64_C(1795262400000000000)
#define MINUTE     INT64_C(60000000000)
#define QUERY_ROOM 65536u
#define TEXT(text) ((struct slice){(const uint8_t *)(text), strlen(text)})

#define NOT_AN_INT  "Input should be a valid integer, unable to parse string as an integer"
#define NOT_A_LEVEL "Input should be 'TRACE', 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"

static struct query_params params;
static uint8_t fault_memory[QUERY_FAULT_BYTES_MAX];
static struct buf fault;

static int parse(enum route_id route, const char *query)
{
    /* What was there before must not matter. */
    memset(&params, 0xa5, sizeof params);
    buf_init(&fault, fault_memory, sizeof fault_memory);
    return query_params_parse(&params, route, TEXT(query), NOW, &fault);
}

static void expect_good(enum route_id route, const char *query)
{
    if (parse(route, query) != 0) {
        fail_msg("%s: %.*s", query, (int)fault.bytes, (char *)fault.data);
    }
    assert_int_equal(fault.bytes, 0);
}

static void expect_body(enum route_id route, const char *query, const char *body)
{
    assert_int_equal(parse(route, query), -EINVAL);
    assert_false(fault.is_truncated);
    if (fault.bytes != strlen(body) || memcmp(fault.data, body, fault.bytes) != 0) {
        fail_msg("%s: %.*s", query, (int)fault.bytes, (char *)fault.data);
    }
}

/* One fault: its type, its parameter, its message (without quotes in it) and its input. */
static void expect_fault(enum route_id route, const char *query, const char *type, const char *name,
                         const char *message, const char *input)
{
    char body[2048];
    snprintf(body, sizeof body,
             "{\"detail\":[{\"type\":\"%s\",\"loc\":[\"query\",\"%s\"],\"msg\":\"%s\",\"input\":"
             "\"%s\"}]}",
             type, name, message, input);
    expect_body(route, query, body);
}

static void expect_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.bytes, strlen(text));
    assert_true(slice_equal(slice, TEXT(text)));
}

static void nothing_asked_is_everything_newest_first_by_hundreds(void **state)
{
    (void)state;
    static const char *const queries[] = {"", "&&", "=", "=5&&x", "unknown=1&api_key=secret"};
    for (size_t i = 0; i < ARRAY_COUNT(queries); i++) {
        expect_good(ROUTE_LOGS, queries[i]);
        assert_int_equal(params.kinds, 1u << RECORD_LOG);
        assert_true(params.start_ns == INT64_MIN);
        assert_true(params.end_ns == INT64_MAX);
        assert_int_equal(params.severity_min, 0);
        assert_int_equal(params.limit, 100);
        assert_false(params.has_limit);
        assert_false(params.is_ascending);
        assert_false(params.has_cursor);
        assert_int_equal(params.from_lsn, 0);
        assert_int_equal(params.lookup.service.bytes, 0);
        assert_int_equal(params.lookup.message.bytes, 0);
    }
    expect_good(ROUTE_METRICS, "");
    assert_int_equal(params.kinds, 1u << RECORD_METRIC);
    expect_good(ROUTE_EVENTS, "");
    assert_int_equal(params.kinds, 1u << RECORD_EVENT);
    expect_good(ROUTE_TAIL, "");
    assert_int_equal(params.kinds, 1u << RECORD_LOG | 1u << RECORD_METRIC | 1u << RECORD_EVENT);
}

static void every_parameter_is_understood(void **state)
{
    (void)state;
    expect_good(ROUTE_LOGS, "start=now-5m&end=2026-11-21T12:00:00Z&service=api%20gate&level=error&"
                            "correlation_id=c-1&q=out+of+%22memory%22&limit=7&order=asc");
    assert_true(params.start_ns == NOW - 5 * MINUTE);
    assert_true(params.end_ns == NOW);
    expect_slice(params.lookup.service, "api gate");
    expect_slice(params.lookup.correlation_id, "c-1");
    expect_slice(params.lookup.message, "out of \"memory\"");
    assert_int_equal(params.severity_min, SEVERITY_ERROR);
    assert_int_equal(params.limit, 7);
    assert_true(params.has_limit);
    assert_true(params.is_ascending);
    expect_good(ROUTE_METRICS, "name=step_ms");
    expect_slice(params.lookup.name, "step_ms");
    expect_good(ROUTE_EVENTS, "source=agent");
    expect_slice(params.lookup.source, "agent");
    expect_good(ROUTE_TAIL,
                "service=a&level=warn&correlation_id=b&q=c&name=d&source=e&from_lsn=12");
    expect_slice(params.lookup.name, "d");
    assert_true(params.from_lsn == 12);
}

static void levels_are_taken_in_any_case_and_under_their_aliases(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        unsigned severity;
    } levels[] = {
        {"level=trace", SEVERITY_TRACE},       {"level=Debug", SEVERITY_DEBUG},
        {"level=INFO", SEVERITY_INFO},         {"level=WARNING", SEVERITY_WARNING},
        {"level=warn", SEVERITY_WARNING},      {"level=eRRoR", SEVERITY_ERROR},
        {"level=critical", SEVERITY_CRITICAL}, {"level=FATAL", SEVERITY_CRITICAL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(levels); i++) {
        expect_good(ROUTE_EVENTS, levels[i].query);
        assert_int_equal(params.severity_min, levels[i].severity);
    }
    expect_fault(ROUTE_LOGS, "level=loud", "enum", "level", NOT_A_LEVEL, "loud");
    expect_fault(ROUTE_LOGS, "level=", "enum", "level", NOT_A_LEVEL, "");
    expect_fault(ROUTE_LOGS, "level=3", "enum", "level", NOT_A_LEVEL, "3");
}

static void limit_is_judged_in_pydantics_words(void **state)
{
    (void)state;
    expect_good(ROUTE_LOGS, "limit=1");
    assert_int_equal(params.limit, 1);
    expect_good(ROUTE_LOGS, "limit=1000");
    assert_int_equal(params.limit, 1000);
    expect_good(ROUTE_LOGS, "limit=%2B20");
    assert_int_equal(params.limit, 20);
    expect_good(ROUTE_LOGS, "limit=+0020+");
    assert_int_equal(params.limit, 20);
    expect_fault(ROUTE_LOGS, "limit=1001", "less_than_equal", "limit",
                 "Input should be less than or equal to 1000", "1001");
    expect_fault(ROUTE_LOGS, "limit=99999999999999999999999", "less_than_equal", "limit",
                 "Input should be less than or equal to 1000", "99999999999999999999999");
    expect_fault(ROUTE_LOGS, "limit=0", "greater_than_equal", "limit",
                 "Input should be greater than or equal to 1", "0");
    expect_fault(ROUTE_LOGS, "limit=-99999999999999999999999", "greater_than_equal", "limit",
                 "Input should be greater than or equal to 1", "-99999999999999999999999");
    static const char *const bad[] = {"", "ten", "1x", "-", "1 0", "5.0", "0x10"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        char query[32];
        snprintf(query, sizeof query, "limit=%s", bad[i]);
        expect_fault(ROUTE_LOGS, query, "int_parsing", "limit", NOT_AN_INT, bad[i]);
    }
    expect_fault(ROUTE_LOGS, "limit", "int_parsing", "limit", NOT_AN_INT, "");
}

static void order_is_asc_or_desc(void **state)
{
    (void)state;
    expect_good(ROUTE_LOGS, "order=desc");
    assert_false(params.is_ascending);
    expect_fault(ROUTE_LOGS, "order=up", "enum", "order", "Input should be 'asc' or 'desc'", "up");
    expect_fault(ROUTE_LOGS, "order=", "enum", "order", "Input should be 'asc' or 'desc'", "");
}

static void bad_times_say_what_a_time_is(void **state)
{
    (void)state;
    expect_fault(
        ROUTE_LOGS, "start=yesterday", "value_error", "start",
        "Value error, start must be RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, or "
        "relative, such as now-5m",
        "yesterday");
    assert_int_equal(parse(ROUTE_LOGS, "end=2026-02-30T00:00:00Z"), -EINVAL);
    assert_non_null(memmem(fault.data, fault.bytes, "\"loc\":[\"query\",\"end\"]", 21));
    assert_int_equal(parse(ROUTE_LOGS, "start="), -EINVAL);
    assert_int_equal(parse(ROUTE_LOGS, "start=now-5"), -EINVAL);
    expect_good(ROUTE_LOGS, "start=2026-11-21T14:00:00+02:00");
    assert_true(params.start_ns == NOW);
    expect_good(ROUTE_LOGS, "end=now+1m");
    assert_true(params.end_ns == NOW + MINUTE);
}

static void start_after_end_is_a_fault_of_start(void **state)
{
    (void)state;
    expect_fault(ROUTE_LOGS, "end=now-1h&start=now-5m", "value_error", "start",
                 "Value error, start must not be after end", "now-5m");
    expect_good(ROUTE_LOGS, "start=now-5m&end=now-5m");
    expect_good(ROUTE_LOGS, "end=now-1h");
}

static void a_parameter_of_another_read_is_refused_with_where_it_belongs(void **state)
{
    (void)state;
    expect_fault(ROUTE_LOGS, "name=x", "value_error", "name",
                 "Value error, name is a parameter of GET /v1/metrics and /v1/tail", "x");
    expect_fault(ROUTE_METRICS, "source=x", "value_error", "source",
                 "Value error, source is a parameter of GET /v1/events and /v1/tail", "x");
    expect_fault(ROUTE_EVENTS, "kind=log", "value_error", "kind",
                 "Value error, kind is a parameter of GET /v1/tail", "log");
    expect_fault(ROUTE_LOGS, "from_lsn=5", "value_error", "from_lsn",
                 "Value error, from_lsn is a parameter of GET /v1/tail", "5");
    static const char *const pages[] = {"start=now", "end=now", "limit=5", "order=asc", "cursor=x"};
    for (size_t i = 0; i < ARRAY_COUNT(pages); i++) {
        assert_int_equal(parse(ROUTE_TAIL, pages[i]), -EINVAL);
        assert_non_null(memmem(fault.data, fault.bytes, "GET /v1/logs, /v1/metrics and", 29));
    }
    expect_good(ROUTE_LOGS, "name=&source=");
}

static void empty_texts_are_no_filter(void **state)
{
    (void)state;
    expect_good(ROUTE_TAIL, "service=&correlation_id&q=&name=&source=");
    struct scan_filter filter;
    query_params_filter(&params, &filter);
    assert_int_equal(filter.key_count, 0);
    assert_int_equal(filter.literal.bytes, 0);
}

static void kinds_are_a_list_that_adds_up(void **state)
{
    (void)state;
    expect_good(ROUTE_TAIL, "kind=metric");
    assert_int_equal(params.kinds, 1u << RECORD_METRIC);
    expect_good(ROUTE_TAIL, "kind=log,event");
    assert_int_equal(params.kinds, 1u << RECORD_LOG | 1u << RECORD_EVENT);
    expect_good(ROUTE_TAIL, "kind=log&q=x&kind=event%2Clog");
    assert_int_equal(params.kinds, 1u << RECORD_LOG | 1u << RECORD_EVENT);
    static const char *const bad[] = {"", "logs", "log,", ",log", "log,,event", "LOG", "log event"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        char query[64];
        snprintf(query, sizeof query, "kind=%s&kind=metric", bad[i]);
        expect_fault(ROUTE_TAIL, query, "enum", "kind",
                     "Input should be 'log', 'metric' or 'event', or several of them with commas "
                     "between",
                     bad[i]);
    }
}

static void from_lsn_is_a_count(void **state)
{
    (void)state;
    expect_good(ROUTE_TAIL, "from_lsn=0");
    expect_good(ROUTE_TAIL, "from_lsn=9223372036854775807");
    assert_true(params.from_lsn == INT64_MAX);
    expect_fault(ROUTE_TAIL, "from_lsn=-1", "greater_than_equal", "from_lsn",
                 "Input should be greater than or equal to 0", "-1");
    expect_fault(ROUTE_TAIL, "from_lsn=9223372036854775808", "less_than_equal", "from_lsn",
                 "Input should be less than or equal to 9223372036854775807",
                 "9223372036854775808");
    expect_fault(ROUTE_TAIL, "from_lsn=now", "int_parsing", "from_lsn", NOT_AN_INT, "now");
}

static void of_a_name_that_comes_twice_the_last_counts(void **state)
{
    (void)state;
    expect_good(ROUTE_LOGS, "limit=bad&service=a&limit=5&service=b");
    assert_int_equal(params.limit, 5);
    expect_slice(params.lookup.service, "b");
    assert_int_equal(parse(ROUTE_LOGS, "limit=5&limit=bad"), -EINVAL);
}

static void names_are_decoded_and_whole(void **state)
{
    (void)state;
    expect_good(ROUTE_LOGS, "%6Cimit=5&Limit=x&limits=x&limi=x&limit%20=x&%zz=1&"
                            "a_name_that_is_longer_than_any=1");
    assert_int_equal(params.limit, 5);
}

static void bad_percent_encoding_and_bad_utf8_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"%", "%4", "%zz", "a%", "%4g", "100%25%"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        char query[32];
        snprintf(query, sizeof query, "q=%s", bad[i]);
        expect_fault(ROUTE_LOGS, query, "value_error", "q",
                     "Value error, a '%' must be followed by two hexadecimal digits", bad[i]);
    }
    expect_fault(ROUTE_LOGS, "service=%ff", "value_error", "service",
                 "Value error, it is no valid UTF-8", "\xef\xbf\xbd");
    expect_fault(ROUTE_LOGS, "q=%e4%b8", "value_error", "q", "Value error, it is no valid UTF-8",
                 "\xef\xbf\xbd\xef\xbf\xbd");
    expect_good(ROUTE_LOGS, "q=%e4%b8%ad%00%22%5c%0a");
    assert_int_equal(params.lookup.message.bytes, 7);
}

static void all_faults_come_at_once_and_in_order(void **state)
{
    (void)state;
    expect_body(
        ROUTE_LOGS, "order=up&limit=0&name=n&level=x",
        "{\"detail\":[{\"type\":\"enum\",\"loc\":[\"query\",\"level\"],\"msg\":\"" NOT_A_LEVEL
        "\",\"input\":\"x\"},"
        "{\"type\":\"value_error\",\"loc\":[\"query\",\"name\"],\"msg\":\"Value error, name is "
        "a parameter of GET /v1/metrics and /v1/tail\",\"input\":\"n\"},"
        "{\"type\":\"greater_than_equal\",\"loc\":[\"query\",\"limit\"],\"msg\":\"Input should "
        "be greater than or equal to 1\",\"input\":\"0\"},"
        "{\"type\":\"enum\",\"loc\":[\"query\",\"order\"],\"msg\":\"Input should be 'asc' or "
        "'desc'\",\"input\":\"up\"}]}");
}

static void texts_are_taken_up_to_their_limit(void **state)
{
    (void)state;
    static char query[QUERY_ROOM];
    static const char *const names[] = {"service", "source", "name", "correlation_id", "q"};
    size_t at = 0;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        at += (size_t)snprintf(query + at, sizeof query - at, "%s=", names[i]);
        memset(query + at, 'a' + (int)i, QUERY_TEXT_MAX);
        at += QUERY_TEXT_MAX;
        query[at++] = '&';
    }
    query[at] = 0;
    expect_good(ROUTE_TAIL, query);
    assert_int_equal(params.lookup.message.bytes, QUERY_TEXT_MAX);
    assert_int_equal(params.lookup.message.data[0], 'e');
    assert_int_equal(params.lookup.service.data[QUERY_TEXT_MAX - 1], 'a');
    query[at - 1] = 'e';
    assert_int_equal(parse(ROUTE_TAIL, query), -EINVAL);
    static const char message[] = "\"type\":\"string_too_long\",\"loc\":[\"query\",\"q\"],\"msg\":"
                                  "\"String should have at most "
                                  "1024 characters\",\"input\":\"eeeeee";
    assert_non_null(memmem(fault.data, fault.bytes, message, sizeof message - 1));
}

/* The worst that can come fits the room that is promised, and is JSON. */
static void a_fault_body_is_valid_json_and_fits_whatever_comes(void **state)
{
    (void)state;
    static char query[QUERY_ROOM];
    static const char *const names[] = {"start", "end",   "service", "level", "correlation_id",
                                        "q",     "name",  "source",  "kind",  "from_lsn",
                                        "limit", "order", "cursor"};
    static const char *const units[] = {"%01", "%ff", "%e4%b8%ad", "%22", "9", "%"};
    for (size_t unit = 0; unit < ARRAY_COUNT(units); unit++) {
        for (unsigned count = 120; count < 360; count += 15) {
            size_t at = 0;
            for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
                at += (size_t)snprintf(query + at, sizeof query - at, "%s=", names[i]);
                for (unsigned n = 0; n < count; n++) {
                    at += (size_t)snprintf(query + at, sizeof query - at, "%s", units[unit]);
                }
                query[at++] = '&';
            }
            query[at] = 0;
            assert_int_equal(parse(ROUTE_LOGS, query), -EINVAL);
            assert_false(fault.is_truncated);
            uint64_t offset;
            const char *why;
            assert_int_equal(json_validate(fault.data, fault.bytes, &offset, &why), 0);
        }
    }
}

/* ---- what the store is asked ---- */

static struct scan_filter filter_of(enum route_id route, const char *query)
{
    struct scan_filter filter;
    expect_good(route, query);
    memset(&filter, 0xa5, sizeof filter);
    query_params_filter(&params, &filter);
    return filter;
}

static void the_filter_has_kinds_times_and_the_severities_from_the_level_up(void **state)
{
    (void)state;
    struct scan_filter filter = filter_of(ROUTE_LOGS, "level=warning&start=now-1m&end=now");
    assert_int_equal(filter.kinds, 1u << RECORD_LOG);
    assert_int_equal(filter.severities,
                     1u << SEVERITY_WARNING | 1u << SEVERITY_ERROR | 1u << SEVERITY_CRITICAL);
    assert_true(filter.time_min_ns == NOW - MINUTE);
    assert_true(filter.time_max_ns == NOW);
    assert_int_equal(filter.key_count, 0);
    assert_int_equal(filter.lsn_min, 0);
    assert_true(filter.lsn_max == UINT64_MAX);
    filter = filter_of(ROUTE_LOGS, "");
    assert_int_equal(filter.severities, 0);
    filter = filter_of(ROUTE_LOGS, "level=critical");
    assert_int_equal(filter.severities, 1u << SEVERITY_CRITICAL);
    filter = filter_of(ROUTE_LOGS, "level=trace");
    assert_int_equal(filter.severities, 0x7e);
}

static void equalities_become_the_keys_of_the_index(void **state)
{
    (void)state;
    struct scan_filter filter =
        filter_of(ROUTE_TAIL, "service=a&source=b&name=c&correlation_id=d&q=e");
    assert_int_equal(filter.key_count, 4);
    assert_true(filter.keys[0] == index_key(INDEX_SERVICE, TEXT("a")));
    assert_true(filter.keys[1] == index_key(INDEX_SOURCE, TEXT("b")));
    assert_true(filter.keys[2] == index_key(INDEX_NAME, TEXT("c")));
    assert_true(filter.keys[3] == index_key(INDEX_CORRELATION_ID, TEXT("d")));
}

static void a_cursor_bounds_the_lsns_on_the_side_it_came_from(void **state)
{
    (void)state;
    char query[128] = "order=asc&cursor=";
    expect_good(ROUTE_LOGS, "order=asc");
    query[17 + query_cursor_put(query + 17, sizeof query - 17, &params, 50)] = 0;
    struct scan_filter filter = filter_of(ROUTE_LOGS, query);
    assert_int_equal(filter.lsn_min, 51);
    assert_true(filter.lsn_max == UINT64_MAX);
    memcpy(query, "cursor=", 8);
    expect_good(ROUTE_LOGS, "");
    query[7 + query_cursor_put(query + 7, sizeof query - 7, &params, 50)] = 0;
    filter = filter_of(ROUTE_LOGS, query);
    assert_int_equal(filter.lsn_min, 0);
    assert_int_equal(filter.lsn_max, 49);
    filter = filter_of(ROUTE_TAIL, "from_lsn=9");
    assert_int_equal(filter.lsn_min, 9);
}

static void expect_literal(const char *query, const char *literal)
{
    struct scan_filter filter = filter_of(ROUTE_TAIL, query);
    expect_slice(filter.literal, literal);
}

static void the_literal_is_the_longest_part_that_json_spells_as_it_is(void **state)
{
    (void)state;
    expect_literal("q=step", "step");
    expect_literal("q=open+%22file%22+now", "open ");
    expect_literal("q=C:%5cprogram%20files%5cx", "program files");
    expect_literal("q=line%0anext+line", "next line");
    expect_literal("q=l%c3%a4uft/gut", "l\xc3\xa4uft/gut");
    expect_literal("q=%22%5c%01", "");
    expect_literal("", "");
}

static void without_a_good_part_of_q_the_longest_equal_value_is_the_literal(void **state)
{
    (void)state;
    expect_literal("service=corerl", "corerl");
    expect_literal("service=corerl&correlation_id=c-123456", "c-123456");
    expect_literal("service=corerl&q=ab", "corerl");
    expect_literal("service=a&q=abc", "abc");
    expect_literal("service=corerl-long&q=oom!", "oom!");
    expect_literal("source=in%22side%22", "side");
}

/* ---- what is left for the JSON ---- */

static bool record_matches(const char *query, const char *payload, uint8_t encoding)
{
    static uint8_t scratch[LOOKUP_SCRATCH_BYTES];
    expect_good(ROUTE_TAIL, query);
    struct query_matcher matcher = {&params, scratch};
    struct scan_record record = {
        .lsn = 1, .record = {.kind = RECORD_LOG, .encoding = encoding, .payload = TEXT(payload)}};
    return query_matches(&matcher, &record);
}

static void a_record_matches_by_what_its_json_means(void **state)
{
    (void)state;
    static const char payload[] = "{\"service_name\":\"core\\u0072l\",\"message\":\"a \\\"b\\\" "
                                  "c\",\"tags\":{\"name\":\"n\"}}";
    assert_true(record_matches("service=corerl", payload, 0));
    assert_true(record_matches("service=corerl&q=%22b%22", payload, 0));
    assert_false(record_matches("service=corerl&q=%22B%22", payload, 0));
    assert_false(record_matches("name=n", payload, 0));
    assert_true(record_matches("level=error", "no JSON", 0));
    assert_false(record_matches("service=corerl", payload, 1));
    assert_true(record_matches("level=error", payload, 1));
    assert_true(record_matches("q=abc", "{\"message\":\"xa\\u0062cx\"}", 0));
    assert_true(record_matches("q=a/b", "{\"message\":\"a\\/b\"}", 0));
    assert_true(record_matches("q=abc", "{\"message\":\"say \\\"abc\\\"\"}", 0));
    assert_false(record_matches("q=abc", "{\"message\":\"say \\\"ab\\\"c\"}", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_asked_is_everything_newest_first_by_hundreds),
        cmocka_unit_test(every_parameter_is_understood),
        cmocka_unit_test(levels_are_taken_in_any_case_and_under_their_aliases),
        cmocka_unit_test(limit_is_judged_in_pydantics_words),
        cmocka_unit_test(order_is_asc_or_desc),
        cmocka_unit_test(bad_times_say_what_a_time_is),
        cmocka_unit_test(start_after_end_is_a_fault_of_start),
        cmocka_unit_test(a_parameter_of_another_read_is_refused_with_where_it_belongs),
        cmocka_unit_test(empty_texts_are_no_filter),
        cmocka_unit_test(kinds_are_a_list_that_adds_up),
        cmocka_unit_test(from_lsn_is_a_count),
        cmocka_unit_test(of_a_name_that_comes_twice_the_last_counts),
        cmocka_unit_test(names_are_decoded_and_whole),
        cmocka_unit_test(bad_percent_encoding_and_bad_utf8_are_refused),
        cmocka_unit_test(all_faults_come_at_once_and_in_order),
        cmocka_unit_test(texts_are_taken_up_to_their_limit),
        cmocka_unit_test(a_fault_body_is_valid_json_and_fits_whatever_comes),
        cmocka_unit_test(the_filter_has_kinds_times_and_the_severities_from_the_level_up),
        cmocka_unit_test(equalities_become_the_keys_of_the_index),
        cmocka_unit_test(a_cursor_bounds_the_lsns_on_the_side_it_came_from),
        cmocka_unit_test(the_literal_is_the_longest_part_that_json_spells_as_it_is),
        cmocka_unit_test(without_a_good_part_of_q_the_longest_equal_value_is_the_literal),
        cmocka_unit_test(a_record_matches_by_what_its_json_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
