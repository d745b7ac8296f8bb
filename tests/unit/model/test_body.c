#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mem.h"
#include "model/body.h"
#include "model/shape_memo.h"

#define DEFAULT_NS  4711
#define GUARD_BYTES (1u << 20)
#define RESULTS_MAX 64u

#define L1                                                                                         \
    "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"level\":\"INFO\","    \
    "\"message\":\"a\"}"
#define L1_NS 1756116000123456000ll

static uint8_t *guard_end;
static struct body *body;
static struct body *fresh;
static struct body_record record;
static struct issue_list issues;

static int fixture_open(void **state)
{
    (void)state;
    uint8_t *pages =
        mmap(NULL, GUARD_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    guard_end = pages + GUARD_BYTES;
    body = mem_alloc(body_struct_bytes());
    fresh = mem_alloc(body_struct_bytes());
    return mprotect(guard_end, 4096, PROT_NONE);
}

static int fixture_close(void **state)
{
    (void)state;
    mem_free(body);
    mem_free(fresh);
    return 0;
}

static void open_bytes(enum body_schema schema, enum body_shape shape, const void *text,
                       size_t bytes)
{
    memcpy(guard_end - bytes, text, bytes);
    body_open(body, schema, shape, guard_end - bytes, bytes, DEFAULT_NS);
}

static void open_text(enum body_schema schema, enum body_shape shape, const char *text)
{
    open_bytes(schema, shape, text, strlen(text));
}

static enum body_result next(void)
{
    return body_next(body, &record, &issues);
}

/* The results of all calls, a letter each: r record, x reject, e end, i invalid, o otlp. */
static const char *results(enum body_schema schema, enum body_shape shape, const char *text)
{
    static char letters[RESULTS_MAX + 1];
    open_text(schema, shape, text);
    for (size_t n = 0; n < RESULTS_MAX; n++) {
        enum body_result result = next();
        letters[n] = " rxeio"[result];
        letters[n + 1] = '\0';
        if (result == BODY_END || result == BODY_INVALID || result == BODY_OTLP) {
            return letters;
        }
    }
    fail_msg("no end: %s", text);
    return letters;
}

static void expect_results(enum body_schema schema, enum body_shape shape, const char *text,
                           const char *letters)
{
    const char *got = results(schema, shape, text);
    if (strcmp(got, letters) != 0) {
        fail_msg("%s instead of %s: %s", got, letters, text);
    }
}

/* The issues of the first element, as they are answered. */
static void expect_issues(enum body_schema schema, const char *text, const char *json)
{
    open_text(schema, SHAPE_DETECT, text);
    enum body_result result = next();
    assert_true(result == BODY_REJECT || result == BODY_INVALID);
    char room[4096];
    struct buf out;
    buf_init(&out, room, sizeof room - 1);
    issue_list_write(&out, "body", &issues);
    room[out.bytes] = '\0';
    assert_string_equal(room, json);
}

static void expect_record(enum body_schema schema, const char *text, int64_t ns, uint8_t severity)
{
    open_text(schema, SHAPE_DETECT, text);
    if (next() != BODY_RECORD) {
        fail_msg("refused: %s", text);
    }
    assert_int_equal(record.event_time_ns, ns);
    assert_int_equal(record.severity, severity);
    assert_int_equal(next(), BODY_END);
}

/* ---- shapes ---- */

static void the_shape_is_found_in_the_bytes(void **state)
{
    (void)state;
    expect_results(SCHEMA_LOG, SHAPE_DETECT, L1, "re");
    assert_int_equal(body_shape(body), SHAPE_OBJECT);
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "\r\n " L1 " \n\n", "re");
    assert_int_equal(body_shape(body), SHAPE_OBJECT);
    expect_results(SCHEMA_LOG, SHAPE_DETECT, " [" L1 " ,\n" L1 "] \n", "rre");
    assert_int_equal(body_shape(body), SHAPE_ARRAY);
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[ ]", "e");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, L1 "\n" L1 "\r\n\n " L1, "rrre");
    assert_int_equal(body_shape(body), SHAPE_NDJSON);
    expect_results(SCHEMA_LOG, SHAPE_NDJSON, "\n" L1 "\n", "re");
    assert_int_equal(body_shape(body), SHAPE_NDJSON);
}

static void the_payload_is_the_bytes_of_the_element(void **state)
{
    (void)state;
    const char *text = "[ " L1 " , " L1 " ]";
    open_text(SCHEMA_LOG, SHAPE_DETECT, text);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(next(), BODY_RECORD);
        assert_int_equal(record.index, i);
        assert_int_equal(record.payload.bytes, sizeof L1 - 1);
        assert_memory_equal(record.payload.data, L1, sizeof L1 - 1);
    }
    assert_int_equal(next(), BODY_END);
    assert_int_equal(next(), BODY_END);
}

static void a_fault_in_an_array_or_object_is_fatal(void **state)
{
    (void)state;
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "", "i");
    expect_results(SCHEMA_LOG, SHAPE_NDJSON, "", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, " \n", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "{", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, L1 "x", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, L1 L1, "i");
    expect_results(SCHEMA_LOG, SHAPE_OBJECT, L1 "\n" L1, "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[" L1, "ri");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[" L1 ",]", "ri");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[,]", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[" L1 " " L1 "]", "ri");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[" L1 "]]", "ri");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[" L1 "]\n[]", "ri");
    expect_results(SCHEMA_LOG, SHAPE_ARRAY, L1, "i");
    assert_int_equal(next(), BODY_INVALID);
}

static void a_bad_line_costs_only_itself(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{",
        "}",
        "{\"a\":\"b}",
        "{\"a",
        "\"",
        "\"\"\"",
        "{\"a\":\"\\\"}",
        "x",
        "\\\"",
        "{\"a\":1}}",
        "{\"a\":1,}",
        "{\"a\":1} {\"b\":2}",
        "{\"a\":[1,2}",
        "[{\"a\":[[[",
        "{\"\xff\":1}",
        "{\"a\":\"\x01\"}",
        "{\"a\":\"\\",
        "{\"a\":\"\\u12\"}",
        "{\"a\":nul",
        "-",
        "1.",
        "{\"a\" \"b\"}",
        "{\"a\":\"b\",\"c",
        "{\"a\":\"\\\\\\\"",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s\n" L1 "\n%s\r\n%s\n" L1 "\n" L1 "\n%s", bad[i], bad[i],
                 bad[i], bad[i]);
        expect_results(SCHEMA_LOG, SHAPE_NDJSON, text, "xrxxrrxe");
    }
}

/* Given up before its quotes were even looked for, at every place of the window. */
static void the_quotes_of_a_bad_line_do_not_reach_the_next(void **state)
{
    (void)state;
    static char text[16384];
    static const char *const bad[] = {"9{\"a\":\"\\\"}", "uull\"", "9 \"\"\"\"\"", "{}x\"\"\"",
                                      "\"\"\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (size_t pad = 0; pad<4200; pad += pad> 100 && pad < 3900 ? 97 : 1) {
            memset(text, ' ', pad);
            size_t at = pad + (size_t)snprintf(text + pad, sizeof text - pad,
                                               "%s\n" L1 "\n%s%4100s\n" L1 "\n%s\n", bad[i], bad[i],
                                               "\"", bad[i]);
            open_bytes(SCHEMA_LOG, SHAPE_NDJSON, text, at);
            assert_int_equal(next(), BODY_REJECT);
            assert_int_equal(next(), BODY_RECORD);
            assert_int_equal(next(), BODY_REJECT);
            assert_int_equal(next(), BODY_RECORD);
            assert_int_equal(next(), BODY_REJECT);
            assert_int_equal(next(), BODY_END);
        }
    }
}

static void an_object_over_two_lines_is_two_bad_lines(void **state)
{
    (void)state;
    expect_results(SCHEMA_LOG, SHAPE_NDJSON, "{\"a\":\n1}\n" L1, "xxre");
}

static void a_bad_line_says_where_it_is_bad(void **state)
{
    (void)state;
    open_text(SCHEMA_LOG, SHAPE_NDJSON, "{\"a\":1}\n{\"a\" 1}\n");
    assert_int_equal(next(), BODY_REJECT);
    assert_int_equal(next(), BODY_REJECT);
    assert_int_equal(issues.items[0].type, ISSUE_JSON_INVALID);
    assert_int_equal(issues.items[0].index, 1);
    assert_int_equal(issues.items[0].offset, 13);
}

static void the_first_line_of_a_discovered_ndjson_has_index_0(void **state)
{
    (void)state;
    open_text(SCHEMA_LOG, SHAPE_DETECT, "{}\n" L1);
    assert_int_equal(next(), BODY_REJECT);
    assert_int_equal(issues.items[0].index, 0);
    open_text(SCHEMA_LOG, SHAPE_DETECT, "{}\n");
    assert_int_equal(next(), BODY_REJECT);
    assert_int_equal(issues.items[0].index, ISSUE_NO_INDEX);
}

static void values_that_are_no_objects_are_refused_one_by_one(void **state)
{
    (void)state;
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "42", "xe");
    assert_int_equal(results(SCHEMA_LOG, SHAPE_DETECT, "\"x\" ")[0], 'x');
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "42 43", "i");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[1,\"a\",null,[{}]," L1 "]", "xxxxre");
    expect_results(SCHEMA_LOG, SHAPE_NDJSON, "1\n[]\n" L1 "\n\"\"", "xxrxe");
    expect_issues(
        SCHEMA_LOG, "[[1]]",
        "[{\"type\":\"model_attributes_type\",\"loc\":[\"body\",0],\"msg\":\"Input should be a "
        "valid dictionary or object to extract fields from\",\"input\":[1]}]");
}

static void otlp_is_told_apart_before_anything_is_yielded(void **state)
{
    (void)state;
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "{\"resourceLogs\":[]}", "o");
    expect_results(SCHEMA_METRIC, SHAPE_DETECT, " {\"x\":{},\"resourceMetrics\":[{}]}", "o");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "{\"x\":{\"resourceLogs\":[]}}", "xe");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, "[{\"resourceLogs\":[]}]", "xe");
}

static void every_truncation_is_an_answer_and_reads_nothing_beyond(void **state)
{
    (void)state;
    const char *text =
        "{\"timestamp\": \"2025-08-25T10:00:00.123456Z\",\"service\" :\"corerl\",\n"
        "\"level\":\"INFO\",\"message\":\"a\\u00e4\\n\xc3\xa4\",\"x\":[1,{\"y\":-2.5e1}]}";
    const char *close = "]";
    char array[512];
    snprintf(array, sizeof array, "[%s,%s%s", text, text, close);
    for (size_t bytes = 0; bytes <= strlen(array); bytes++) {
        for (int shape = SHAPE_DETECT; shape <= SHAPE_NDJSON; shape++) {
            open_bytes(SCHEMA_LOG, (enum body_shape)shape, array, bytes);
            unsigned calls = 0;
            enum body_result result;
            do {
                result = next();
            } while ((result == BODY_RECORD || result == BODY_REJECT) && ++calls < 100);
            assert_true(calls < 100);
            if (shape == SHAPE_DETECT) {
                assert_int_equal(result, bytes == strlen(array) ? BODY_END : BODY_INVALID);
            }
        }
    }
    for (size_t bytes = 0; bytes < strlen(text); bytes++) {
        open_bytes(SCHEMA_LOG, SHAPE_DETECT, text, bytes);
        assert_int_equal(next(), BODY_INVALID);
    }
}

static void records_are_found_across_every_window_edge(void **state)
{
    (void)state;
    static char text[GUARD_BYTES];
    for (unsigned pad = 0; pad < 130; pad++) {
        size_t at = 0;
        unsigned lines = 0;
        while (at < 14000) {
            bool is_bad = lines % 7 == 3;
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%.*s\n",
                                   is_bad ? "{\"a\":\"\\\"" : L1, (int)(pad % 13), "             ");
            if (lines++ == 0) {
                memset(text + at, '\n', pad);
                at += pad;
            }
        }
        open_bytes(SCHEMA_LOG, SHAPE_NDJSON, text, at);
        for (unsigned i = 0; i < lines; i++) {
            assert_int_equal(next(), i % 7 == 3 ? BODY_REJECT : BODY_RECORD);
            assert_int_equal(record.index, i);
        }
        assert_int_equal(next(), BODY_END);
    }
}

/* ---- logs ---- */

static void levels_are_read_in_any_case_with_their_aliases(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t severity;
    } levels[] = {{"TRACE", 1}, {"debug", 2}, {"Info", 3},     {"WARNING", 4},   {"warn", 4},
                  {"Error", 5}, {"fAtAl", 6}, {"CRITICAL", 6}, {"INF\\u004f", 3}};
    static const char *const bad[] = {"",         "INF",   "INFOS",    "ERRORS",
                                      "WARNINGS", "TRICE", "errer",    "i\\u000efo",
                                      "\\tINFO",  "INF/",  "CRITICAM", "NOTICE"};
    char text[256];
    const char *format = "{\"level\":\"%s\",\"timestamp\":\"2025-08-25T10:00:00.123456Z\","
                         "\"service\":\"s\",\"message\":\"\"}";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        snprintf(text, sizeof text, format, levels[i].text);
        expect_record(SCHEMA_LOG, text, L1_NS, levels[i].severity);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, format, bad[i]);
        expect_results(SCHEMA_LOG, SHAPE_DETECT, text, "xe");
    }
#pragma GCC diagnostic pop
}

static void all_problems_are_listed_in_the_order_of_the_schema(void **state)
{
    (void)state;
    expect_issues(
        SCHEMA_LOG, "{\"correlation_id\":5,\"level\":\"LOUD\",\"service\":\"\"}",
        "[{\"type\":\"missing\",\"loc\":[\"body\",\"timestamp\"],\"msg\":\"Field "
        "required\",\"input\":"
        "{\"correlation_id\":5,\"level\":\"LOUD\",\"service\":\"\"}},"
        "{\"type\":\"string_too_short\",\"loc\":[\"body\",\"service\"],\"msg\":\"String should "
        "have at "
        "least 1 character\",\"input\":\"\"},"
        "{\"type\":\"enum\",\"loc\":[\"body\",\"level\"],\"msg\":\"Input should be 'TRACE', "
        "'DEBUG', "
        "'INFO', 'WARNING', 'ERROR' or 'CRITICAL'\",\"input\":\"LOUD\"},"
        "{\"type\":\"missing\",\"loc\":[\"body\",\"message\"],\"msg\":\"Field required\",\"input\":"
        "{\"correlation_id\":5,\"level\":\"LOUD\",\"service\":\"\"}},"
        "{\"type\":\"string_type\",\"loc\":[\"body\",\"correlation_id\"],\"msg\":\"Input should be "
        "a "
        "valid string\",\"input\":5}]");
}

static void a_service_has_1_to_256_bytes_escapes_undone(void **state)
{
    (void)state;
    char text[2048];
    for (unsigned bytes = 254; bytes <= 258; bytes++) {
        char service[300];
        memset(service, 's', sizeof service);
        snprintf(text, sizeof text,
                 "{\"service\":\"%.*s\\u0041\",\"timestamp\":\"2025-08-25T10:00:00Z\","
                 "\"level\":\"INFO\",\"message\":\"\"}",
                 (int)bytes - 1, service);
        expect_results(SCHEMA_LOG, SHAPE_DETECT, text, bytes <= 256 ? "re" : "xe");
    }
}

static void aliases_stand_in_but_not_beside(void **state)
{
    (void)state;
    expect_results(
        SCHEMA_LOG, SHAPE_DETECT,
        "{\"timestamp\":\"2025-08-25T10:00:00Z\",\"service_name\":\"s\",\"level\":\"INFO\","
        "\"message\":\"\",\"x_correlation_id\":null}",
        "re");
    expect_issues(
        SCHEMA_LOG,
        "{\"timestamp\":\"2025-08-25T10:00:00Z\",\"service_name\":\"s\",\"service\":\"s\","
        "\"level\":\"INFO\",\"message\":\"\"}",
        "[{\"type\":\"value_error\",\"loc\":[\"body\",\"service_name\"],\"msg\":\"Value error, "
        "give service or service_name, not both\",\"input\":\"s\"}]");
}

static void a_key_that_comes_twice_is_refused_however_it_is_spelled(void **state)
{
    (void)state;
#define LOG_AND(more)                                                                              \
    "{\"timestamp\":\"2025-08-25T10:00:00Z\",\"service\":\"s\",\"level\":\"INFO\",\"message\":"    \
    "\"\"," more "}"
    expect_results(SCHEMA_LOG, SHAPE_DETECT, LOG_AND("\"a\":1,\"b\":1"), "re");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, LOG_AND("\"level\":\"INFO\""), "xe");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, LOG_AND("\"le\\u0076el\":\"INFO\""), "xe");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, LOG_AND("\"a\":1,\"\\u0061\":1"), "xe");
    expect_results(SCHEMA_LOG, SHAPE_DETECT, LOG_AND("\"a\":{\"b\":1,\"b\":2}"), "re");
    expect_issues(
        SCHEMA_LOG, LOG_AND("\"a\":1,\"a\":\"x\""),
        "[{\"type\":\"value_error\",\"loc\":[\"body\",\"a\"],\"msg\":\"Value error, duplicate "
        "key\",\"input\":" LOG_AND("\"a\":1,\"a\":\"x\"") "}]");
}

static void a_record_is_at_most_64_deep_wherever_it_stands(void **state)
{
    (void)state;
    for (unsigned inner = 62; inner <= 64; inner++) {
        char open[65] = {0};
        char close[65] = {0};
        memset(open, '[', inner);
        memset(close, ']', inner);
        char text[512];
        snprintf(text, sizeof text, "[" LOG_AND("\"a\":%s%s") "]", open, close);
        expect_results(SCHEMA_LOG, SHAPE_DETECT, text, inner <= 63 ? "re" : "i");
        snprintf(text, sizeof text, "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":%s%s}}", open,
                 close);
        expect_results(SCHEMA_METRIC, SHAPE_DETECT, text, inner <= 62 ? "xe" : "i");
    }
}

static void more_keys_than_the_bound_are_refused(void **state)
{
    (void)state;
    static char text[65536];
    for (unsigned keys = 1024; keys <= 1025; keys++) {
        size_t at = (size_t)snprintf(text, sizeof text, "%s", LOG_AND("\"x\":1")) - 1;
        for (unsigned i = 1; i < keys; i++) {
            at += (size_t)snprintf(text + at, sizeof text - at, ",\"k%u\":1", i);
        }
        snprintf(text + at, sizeof text - at, "}");
        expect_results(SCHEMA_LOG, SHAPE_DETECT, text, keys == 1024 ? "re" : "xe");
    }
}

/* ---- metrics and events ---- */

static void both_metric_forms_are_read(void **state)
{
    (void)state;
    expect_record(SCHEMA_METRIC,
                  "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"s\",\"name\":\"n\","
                  "\"value\":9007199254740993,\"unit\":\"ms\",\"tags\":{\"a\":\"b\",\"c\":\"\"}}",
                  L1_NS, 0);
    expect_record(SCHEMA_METRIC, "{\"name\":\"n\",\"value\":-1.5e-9,\"tags\":{},\"unit\":null}",
                  DEFAULT_NS, 0);
    expect_record(
        SCHEMA_METRIC,
        "{\"metric_id\":\"m\",\"timestamp\":\"2025-08-25T10:00:00.123456\",\"name\":\"n\","
        "\"value\":1}",
        L1_NS, 0);
    expect_results(SCHEMA_METRIC, SHAPE_DETECT, "{\"service\":\"s\",\"name\":\"n\",\"value\":1}",
                   "xe");
    expect_results(
        SCHEMA_METRIC, SHAPE_DETECT,
        "{\"timestamp\":\"2025-08-25T10:00:00\",\"service\":\"s\",\"name\":\"n\",\"value\":1}",
        "xe");
}

static void a_value_is_a_finite_number(void **state)
{
    (void)state;
    expect_issues(
        SCHEMA_METRIC, "{\"name\":\"n\",\"value\":1e999}",
        "[{\"type\":\"finite_number\",\"loc\":[\"body\",\"value\"],\"msg\":\"Input should be a "
        "finite number\",\"input\":1e999}]");
    expect_issues(
        SCHEMA_METRIC, "{\"name\":\"n\",\"value\":\"1\"}",
        "[{\"type\":\"float_type\",\"loc\":[\"body\",\"value\"],\"msg\":\"Input should be a "
        "valid number\",\"input\":\"1\"}]");
    expect_results(SCHEMA_METRIC, SHAPE_DETECT, "{\"name\":\"n\",\"value\":true}", "xe");
    expect_results(SCHEMA_METRIC, SHAPE_DETECT, "{\"name\":\"n\",\"value\":NaN}", "i");
}

static void tags_are_strings_each_once(void **state)
{
    (void)state;
    expect_issues(
        SCHEMA_METRIC, "[{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":1,\"b\":\"x\",\"b\":\"y\"}}]",
        "[{\"type\":\"string_type\",\"loc\":[\"body\",0,\"tags\",\"a\"],\"msg\":\"Input should be "
        "a valid string\",\"input\":1},"
        "{\"type\":\"value_error\",\"loc\":[\"body\",0,\"tags\",\"b\"],\"msg\":\"Value error, "
        "duplicate key\",\"input\":\"y\"}]");
    expect_issues(
        SCHEMA_METRIC, "{\"name\":\"n\",\"value\":1,\"tags\":[]}",
        "[{\"type\":\"dict_type\",\"loc\":[\"body\",\"tags\"],\"msg\":\"Input should be a valid "
        "dictionary\",\"input\":[]}]");
}

#define EVENT "\"event_type\":\"info\",\"source\":\"s\",\"message\":\"m\""

static void events_are_read_and_keyed_by_their_id(void **state)
{
    (void)state;
    expect_record(SCHEMA_EVENT, "{" EVENT "}", DEFAULT_NS, 3);
    assert_int_equal(record.dedup_key.bytes, 0);
    expect_record(SCHEMA_EVENT,
                  "{\"timestamp\":\"2025-08-25T10:00:00.123456\",\"event_id\":\"e-1\"," EVENT
                  ",\"metadata\":{\"a\":{\"b\":1,\"b\":2},\"c\":[]}}",
                  L1_NS, 3);
    assert_int_equal(record.dedup_key.bytes, 3);
    assert_memory_equal(record.dedup_key.data, "e-1", 3);
    expect_record(SCHEMA_EVENT, "{\"event_id\":\"\\u0065-1\"," EVENT "}", DEFAULT_NS, 3);
    assert_int_equal(record.dedup_key.bytes, 3);
    assert_memory_equal(record.dedup_key.data, "e-1", 3);
    expect_results(SCHEMA_EVENT, SHAPE_DETECT, "{" EVENT ",\"metadata\":{\"a\":1,\"a\":2}}", "xe");
    expect_results(SCHEMA_EVENT, SHAPE_DETECT, "{" EVENT ",\"metadata\":5}", "xe");
    expect_results(SCHEMA_EVENT, SHAPE_DETECT, "{" EVENT ",\"event_id\":\"\"}", "xe");
    expect_results(SCHEMA_EVENT, SHAPE_DETECT, "{" EVENT ",\"event_id\":7}", "xe");
}

static void an_event_type_is_exact(void **state)
{
    (void)state;
    expect_issues(
        SCHEMA_EVENT, "{\"event_type\":\"INFO\",\"source\":\"s\",\"message\":\"m\"}",
        "[{\"type\":\"enum\",\"loc\":[\"body\",\"event_type\"],\"msg\":\"Input should be 'info', "
        "'warning', 'error' or 'debug'\",\"input\":\"INFO\"}]");
}

/* ---- the memos: what came before must not matter ---- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

static void issues_render(const struct issue_list *list, char *room, size_t bytes)
{
    struct buf out;
    buf_init(&out, room, bytes - 1);
    issue_list_write(&out, "body", list);
    room[out.bytes] = '\0';
}

/* body has seen all that the tests gave it before, fresh has seen nothing. */
static void expect_same_as_fresh(enum body_schema schema, enum body_shape shape, const char *text,
                                 size_t bytes)
{
    memset((void *)fresh, 0, body_struct_bytes());
    open_bytes(schema, shape, text, bytes);
    body_open(fresh, schema, shape, guard_end - bytes, bytes, DEFAULT_NS);
    enum body_result result;
    do {
        static char rendered[2][65536];
        struct body_record expected;
        struct issue_list expected_issues;
        result = next();
        if (result != body_next(fresh, &expected, &expected_issues)) {
            fail_msg("not the same: %.*s", (int)bytes, text);
        }
        issues_render(&issues, rendered[0], sizeof rendered[0]);
        issues_render(&expected_issues, rendered[1], sizeof rendered[1]);
        assert_string_equal(rendered[0], rendered[1]);
        if (result == BODY_RECORD) {
            assert_ptr_equal(record.payload.data, expected.payload.data);
            assert_int_equal(record.payload.bytes, expected.payload.bytes);
            assert_int_equal(record.event_time_ns, expected.event_time_ns);
            assert_int_equal(record.severity, expected.severity);
            assert_int_equal(record.index, expected.index);
            assert_true(slice_equal(record.dedup_key, expected.dedup_key));
        }
    } while (result == BODY_RECORD || result == BODY_REJECT);
    assert_int_equal(body_shape(body), body_shape(fresh));
}

#define MEMBERS_MAX 7u

static const char *const random_keys[][MEMBERS_MAX] = {
    {"timestamp", "service", "level", "message", "correlation_id", "host", "a"},
    {"timestamp", "service", "name", "value", "unit", "tags", "b"},
    {"event_id", "timestamp", "event_type", "source", "message", "metadata", "c"},
};
static const char *const random_values[][MEMBERS_MAX] = {
    {"\"2025-08-25T10:0%u:00.123456Z\"", "\"corerl\"", "\"INFO\"", "\"m%u\"", "\"c-%u\"", "\"h\"",
     "%u"},
    {"\"2025-08-25T10:0%u:59.999999Z\"", "\"s\"", "\"n%u\"", "-1.%ue1", "\"ms\"", "{\"x\":\"%u\"}",
     "true"},
    {"\"e-%u\"", "\"2025-08-25T10:0%u:00.5\"", "\"info\"", "\"s\"", "\"m\"", "{\"n\":%u}",
     "[\"%u\"]"},
};
/* Now and then instead of a value, instead of what separates members, or as one more member. */
static const char *const odd_values[] = {"null",
                                         "\"\"",
                                         "5",
                                         "{}",
                                         "[]",
                                         "{\"x\":1,\"x\":1}",
                                         "\"\\u0049NFO\"",
                                         "\"\xc3\xa4\"",
                                         "\"a\nb\"",
                                         "\"\x01\"",
                                         "\"a",
                                         "nul",
                                         "1e999",
                                         "\"\\\"\"",
                                         "\"\xff\"",
                                         "{\"x\":\"y\"} "};
static const char *const odd_separators[] = {", ", " ,", ",\n", "", ",,", ",\t", "}", "\n"};
static const char *const odd_members[] = {"\"level\":\"INFO\"",
                                          "\"\\u0061\":1",
                                          "\"a\":\"x\"",
                                          "\"host\":\"x\"",
                                          "\"tags\":{\"x\":5}",
                                          "\"b\" : 1",
                                          "\"resourceLogs\":1",
                                          "\"\\\"\":1",
                                          "\"service_name\":\"s\"",
                                          "\"metadata\":{\"n\":1,\"n\":1}"};

#define PUT(...)  at += (size_t)snprintf(text + at, room - at, __VA_ARGS__)
#define ODD(from) PUT("%s", (from)[random_below((uint32_t)ARRAY_COUNT(from))])

/* One record much like the last, with a fault or a change of shape every few. */
static size_t record_write(unsigned kind, char *text, size_t room)
{
    size_t at = 0;
    uint32_t odds = random_below(3) == 0 ? 12 : 1000000;
    uint32_t first = random_below(16) == 0 ? random_below(MEMBERS_MAX) : 0;
    uint32_t count = random_below(8) == 0 ? random_below(MEMBERS_MAX + 1) : MEMBERS_MAX;
    PUT("{");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t m = (first + i) % MEMBERS_MAX;
        if (i > 0 && random_below(odds) == 0) {
            ODD(odd_separators);
        } else if (i > 0) {
            PUT(",");
        }
        if (random_below(odds) == 0) {
            ODD(odd_members);
            PUT(",");
        }
        PUT("\"%s\":%s", random_keys[kind][m], random_below(odds) == 0 ? " " : "");
        if (random_below(odds) == 0) {
            ODD(odd_values);
            continue;
        }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
        PUT(random_values[kind][m], random_below(2));
#pragma GCC diagnostic pop
    }
    PUT(random_below(odds) == 0 ? " }" : "}");
    return at;
}

static void a_record_is_judged_alike_whatever_came_before_it(void **state)
{
    (void)state;
    static char text[65536];
    for (unsigned round = 0; round < 8000; round++) {
        unsigned kind = random_below(3);
        unsigned elements = random_below(4) == 0 ? random_below(6) : 1;
        bool is_array = random_below(2) == 0 && elements > 1;
        size_t at = (size_t)snprintf(text, sizeof text, "%s", is_array ? "[" : "");
        for (unsigned i = 0; i < elements; i++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s",
                                   i == 0     ? ""
                                   : is_array ? ","
                                              : "\n");
            at += record_write(kind, text + at, sizeof text - at);
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", is_array ? "]" : "\n");
        enum body_shape shape = random_below(4) == 0 ? SHAPE_NDJSON : SHAPE_DETECT;
        /* So often that its own shape is what is remembered, faults and all. */
        for (unsigned i = 0; i < SHAPE_DEPARTURES_MAX + 3; i++) {
            expect_same_as_fresh((enum body_schema)(kind + 1), shape, text, at);
        }
    }
}

/* A full memo, and a text that ends anywhere in what it foresees. */
static void every_truncation_of_a_known_shape_is_judged_alike(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"s\",\"level\":\"INFO\","
        "\"message\":\"a\\n\",\"x\":{\"y\":[1]},\"z\":-1.5e3,\"t\":true}",
        "{\"timestamp\": \"2025-08-25T10:00:00.123456Z\", \"service\": \"s\", \"name\": \"n\", "
        "\"value\": 1, \"tags\": {\"a\": \"\xc3\xa4\"}}",
        "{\"event_id\":\"e\",\"event_type\":\"info\",\"source\":\"s\",\"message\":\"m\","
        "\"metadata\":{\"n\":null}}",
    };
    for (unsigned kind = 0; kind < ARRAY_COUNT(texts); kind++) {
        size_t whole = strlen(texts[kind]);
        for (size_t bytes = 0; bytes <= whole; bytes++) {
            char text[1024];
            for (unsigned n = 0; n < SHAPE_DEPARTURES_MAX + 3; n++) {
                expect_results((enum body_schema)(kind + 1), SHAPE_DETECT, texts[kind], "re");
            }
            expect_same_as_fresh((enum body_schema)(kind + 1), SHAPE_DETECT, texts[kind], bytes);
            size_t lines = (size_t)snprintf(text, sizeof text, "%s\n%.*s", texts[kind], (int)bytes,
                                            texts[kind]);
            expect_same_as_fresh((enum body_schema)(kind + 1), SHAPE_NDJSON, text, lines);
        }
    }
}

static void what_a_known_shape_promises_is_still_checked_in_its_values(void **state)
{
    (void)state;
    for (unsigned n = 0; n < SHAPE_DEPARTURES_MAX + 3; n++) {
        expect_results(SCHEMA_LOG, SHAPE_OBJECT, L1, "re");
        expect_results(SCHEMA_METRIC, SHAPE_OBJECT,
                       "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"b\"}}", "re");
    }
    expect_results(SCHEMA_LOG, SHAPE_NDJSON,
                   L1 "\n" L1
                      "\n{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\","
                      "\"level\":\"INFO\",\"message\":\"\x01\"}\n" L1,
                   "rrxre");
#define METRIC(tags) "{\"name\":\"n\",\"value\":1,\"tags\":" tags "}\n"
    expect_results(SCHEMA_METRIC, SHAPE_NDJSON,
                   METRIC("{\"a\":\"b\"}") METRIC("{\"a\":\"b\"}") METRIC("{\"a\":1}")
                       METRIC("{\"a\":\"b\",\"a\":\"b\"}") METRIC("5") METRIC("{}"),
                   "rrxxxre");
    expect_results(SCHEMA_METRIC, SHAPE_NDJSON,
                   "{\"name\":\"n\",\"value\":1}\n{\"name\":\"n\",\"value\":1e999}\n"
                   "{\"name\":\"n\",\"value\":\"1\"}\n{\"name\":\"n\",\"value\":1x}\n"
                   "{\"name\":\"n\",\"value\":1}",
                   "rxxxre");
}

/* Also when the record that has it twice is the shape that is known. */
static void a_key_of_a_known_shape_that_comes_again_is_refused(void **state)
{
    (void)state;
#define KNOWN LOG_AND("\"h\":\"x\"")
    static const char *const more[] = {"\"level\":\"INFO\"", "\"h\":1", "\"\\u0068\":1"};
    for (size_t i = 0; i < ARRAY_COUNT(more); i++) {
        char twice[512];
        char text[2048];
        snprintf(twice, sizeof twice, "%.*s,%s}", (int)sizeof KNOWN - 2, KNOWN, more[i]);
        snprintf(text, sizeof text, "%s\n%s\n%s\n" KNOWN, KNOWN, KNOWN, twice);
        expect_results(SCHEMA_LOG, SHAPE_NDJSON, text, "rrxre");
        for (unsigned n = 0; n < SHAPE_DEPARTURES_MAX + 3; n++) {
            expect_results(SCHEMA_LOG, SHAPE_NDJSON, twice, "xe");
        }
    }
}

static void white_space_that_a_known_shape_lacks_is_white_space(void **state)
{
    (void)state;
    for (unsigned n = 0; n < SHAPE_DEPARTURES_MAX + 3; n++) {
        expect_results(SCHEMA_METRIC, SHAPE_OBJECT, "{\"value\":1,\"name\":\"n\"}", "re");
    }
    expect_results(SCHEMA_METRIC, SHAPE_NDJSON,
                   "{\"value\":1,\"name\":\"n\"}\n{\"value\": 1,\"name\":\"n\"}\n"
                   "{\"value\":\t 1 ,\"name\": \"n\" }\n{ \"value\" :1, \"name\":\r\"n\"}\n"
                   "{\"value\":1,\"name\":\"n\"} ",
                   "rrrrre");
}

static void white_space_of_an_object_is_not_believed_on_a_line(void **state)
{
    (void)state;
    const char *text = "{\"name\":\"n\",\n\"value\":1}";
    for (unsigned n = 0; n < SHAPE_DEPARTURES_MAX + 3; n++) {
        expect_results(SCHEMA_METRIC, SHAPE_OBJECT, text, "re");
    }
    expect_results(SCHEMA_METRIC, SHAPE_NDJSON, text, "xxe");
}

int main(void)
{
    const char *seed = getenv("SLUICE_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) | 1 : 0x5eed1234567u;
    printf("SLUICE_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shape_is_found_in_the_bytes),
        cmocka_unit_test(the_payload_is_the_bytes_of_the_element),
        cmocka_unit_test(a_fault_in_an_array_or_object_is_fatal),
        cmocka_unit_test(a_bad_line_costs_only_itself),
        cmocka_unit_test(the_quotes_of_a_bad_line_do_not_reach_the_next),
        cmocka_unit_test(an_object_over_two_lines_is_two_bad_lines),
        cmocka_unit_test(a_bad_line_says_where_it_is_bad),
        cmocka_unit_test(the_first_line_of_a_discovered_ndjson_has_index_0),
        cmocka_unit_test(values_that_are_no_objects_are_refused_one_by_one),
        cmocka_unit_test(otlp_is_told_apart_before_anything_is_yielded),
        cmocka_unit_test(every_truncation_is_an_answer_and_reads_nothing_beyond),
        cmocka_unit_test(records_are_found_across_every_window_edge),
        cmocka_unit_test(levels_are_read_in_any_case_with_their_aliases),
        cmocka_unit_test(all_problems_are_listed_in_the_order_of_the_schema),
        cmocka_unit_test(a_service_has_1_to_256_bytes_escapes_undone),
        cmocka_unit_test(aliases_stand_in_but_not_beside),
        cmocka_unit_test(a_key_that_comes_twice_is_refused_however_it_is_spelled),
        cmocka_unit_test(a_record_is_at_most_64_deep_wherever_it_stands),
        cmocka_unit_test(more_keys_than_the_bound_are_refused),
        cmocka_unit_test(both_metric_forms_are_read),
        cmocka_unit_test(a_value_is_a_finite_number),
        cmocka_unit_test(tags_are_strings_each_once),
        cmocka_unit_test(events_are_read_and_keyed_by_their_id),
        cmocka_unit_test(an_event_type_is_exact),
        cmocka_unit_test(a_record_is_judged_alike_whatever_came_before_it),
        cmocka_unit_test(every_truncation_of_a_known_shape_is_judged_alike),
        cmocka_unit_test(what_a_known_shape_promises_is_still_checked_in_its_values),
        cmocka_unit_test(a_key_of_a_known_shape_that_comes_again_is_refused),
        cmocka_unit_test(white_space_that_a_known_shape_lacks_is_white_space),
        cmocka_unit_test(white_space_of_an_object_is_not_believed_on_a_line),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
