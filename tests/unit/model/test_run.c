/*
 * run: what a client may say, judged as pydantic does; and against a slow reference that shares
 * nothing with run.c but the samples' texts. SLUICE_SEED repeats a random run.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "model/json_scan.h"
#include "model/run.h"

#define NEEDED                                                                                     \
    "\"event_id\":\"e\",\"run_id\":\"r\",\"start_time\":\"s\",\"agent_name\":\"a\",\"job_type\":"  \
    "\"j\""
#define CREATE_WITH(member) "{" NEEDED "," member "}"

static struct run_fields fields;
static struct run_judgement judgement;
static uint8_t scratch[1 << 17];
static char room[65536];

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static enum run_judged read_text(enum run_command command, const char *text)
{
    run_read(&fields, &judgement, command, text_slice(text), scratch, ISSUE_NO_INDEX);
    return judgement.judged;
}

static const char *issues_text(void)
{
    struct buf out;
    uint64_t offset;
    const char *why;
    buf_init(&out, room, sizeof room - 1);
    issue_list_write(&out, "body", &judgement.issues);
    room[out.bytes] = '\0';
    assert_false(out.is_truncated);
    assert_int_equal(json_validate(out.data, out.bytes, &offset, &why), 0);
    return room;
}

static void expect_issue(enum run_command command, const char *text, const char *issue)
{
    char expected[2048];
    assert_int_equal(read_text(command, text), RUN_BAD_SHAPE);
    snprintf(expected, sizeof expected, "[%s]", issue);
    assert_string_equal(issues_text(), expected);
}

static void expect_text(enum run_field field, const char *text)
{
    assert_int_equal(fields.values[field].type, RUN_TEXT);
    assert_true(slice_equal(fields.values[field].text, text_slice(text)));
}

static void expect_integer(enum run_field field, int64_t integer)
{
    assert_int_equal(fields.values[field].type, RUN_INTEGER);
    assert_true(fields.values[field].integer == integer);
}

/* ---- what is taken ---- */

static void every_field_of_a_create_is_read(void **state)
{
    (void)state;
    static const char text[] =
        "{\"event_id\":\"e1\",\"run_id\":\"r1\",\"created_at\":\"c\",\"start_time\":\"s\",\"end_"
        "time\":\"t\",\"agent_name\":\"a\",\"agent_owner\":\"o\",\"job_type\":\"j\",\"status\":"
        "\"completed\",\"items_discovered\":1,\"items_succeeded\":2,\"items_failed\":3,\"items_"
        "skipped\":4,\"duration_ms\":5,\"git_commit_source\":\"ci\",\"git_commit_author\":\"x\","
        "\"metrics_json\":{ \"b\" : 1.50, \"a\":[] },\"context_json\":{},\"api_posted\":true,"
        "\"api_retry_count\":6,\"record_type\":\"run\",\"schema_version\":\"9\",\"updated_at\":1,"
        "\"id\":[]}";
    assert_int_equal(read_text(RUN_CREATE, text), RUN_GOOD);
    expect_text(RUN_EVENT_ID, "e1");
    expect_text(RUN_AGENT_OWNER, "o");
    expect_text(RUN_STATUS, "success");
    expect_text(RUN_GIT_COMMIT_SOURCE, "ci");
    expect_text(RUN_GIT_COMMIT_AUTHOR, "x");
    expect_integer(RUN_ITEMS_DISCOVERED, 1);
    expect_integer(RUN_DURATION_MS, 5);
    expect_integer(RUN_API_POSTED, 1);
    expect_integer(RUN_API_RETRY_COUNT, 6);
    assert_int_equal(fields.values[RUN_METRICS_JSON].type, RUN_JSON);
    assert_true(slice_equal(fields.values[RUN_METRICS_JSON].text,
                            SLICE_LITERAL("{ \"b\" : 1.50, \"a\":[] }")));
    assert_int_equal(fields.values[RUN_CONTEXT_JSON].type, RUN_NULL);
    assert_int_equal(fields.values[RUN_ID].type, RUN_ABSENT);
    assert_int_equal(fields.values[RUN_SCHEMA_VERSION].type, RUN_ABSENT);
    assert_int_equal(fields.values[RUN_UPDATED_AT].type, RUN_ABSENT);
    assert_int_equal(fields.values[RUN_PRODUCT].type, RUN_ABSENT);
}

static void statuses_and_their_aliases_are_exact(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"running", "running"}, {"success", "success"},   {"failure", "failure"},
        {"partial", "partial"}, {"timeout", "timeout"},   {"cancelled", "cancelled"},
        {"failed", "failure"},  {"completed", "success"}, {"succeeded", "success"},
        {"Failed", NULL},       {" running", NULL},       {"", NULL},
        {"canceled", NULL},     {"runningx", NULL},       {"runnin", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        char text[256];
        snprintf(text, sizeof text, CREATE_WITH("\"status\":\"%s\""), pairs[i][0]);
        enum run_judged judged = read_text(RUN_CREATE, text);
        assert_int_equal(judged, pairs[i][1] != NULL ? RUN_GOOD : RUN_BAD_SHAPE);
        if (pairs[i][1] != NULL) {
            expect_text(RUN_STATUS, pairs[i][1]);
        }
        snprintf(text, sizeof text, "{\"status\":\"%s\"}", pairs[i][0]);
        assert_int_equal(read_text(RUN_UPDATE, text), judged);
    }
    expect_issue(RUN_CREATE, CREATE_WITH("\"status\":\"x\""),
                 "{\"type\":\"value_error\",\"loc\":[\"body\",\"status\"],\"msg\":\"Value error, "
                 "Invalid status. Must be one of: ['running', 'success', 'failure', 'partial', "
                 "'timeout', 'cancelled']\",\"input\":\"x\"}");
}

static void an_update_says_what_it_updates_in_the_clients_order(void **state)
{
    (void)state;
    static const enum run_field order[] = {RUN_CONTEXT_JSON, RUN_STATUS, RUN_ITEMS_FAILED,
                                           RUN_END_TIME};
    assert_int_equal(
        read_text(RUN_UPDATE,
                  "{\"context_json\":{},\"error_summary\":null,\"status\":\"failed\",\"run_id\":1,"
                  "\"items_failed\":0,\"duration_ms\":null,\"\\u0065nd_time\":\"x\"}"),
        RUN_GOOD);
    assert_int_equal(fields.count, ARRAY_COUNT(order));
    for (size_t i = 0; i < ARRAY_COUNT(order); i++) {
        assert_int_equal(fields.order[i], order[i]);
    }
    assert_int_equal(fields.values[RUN_CONTEXT_JSON].type, RUN_NULL);
    assert_int_equal(fields.values[RUN_ERROR_SUMMARY].type, RUN_ABSENT);
    assert_int_equal(fields.values[RUN_DURATION_MS].type, RUN_ABSENT);
}

static void an_update_of_nothing_is_empty_and_not_bad(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        " { } ",
        "{\"status\":null}",
        "{\"event_id\":\"x\",\"agent_name\":1,\"product\":\"y\",\"git_commit_hash\":\"abc\"}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        assert_int_equal(read_text(RUN_UPDATE, texts[i]), RUN_EMPTY);
        assert_int_equal(fields.count, 0);
    }
}

static void null_says_what_the_contract_says(void **state)
{
    (void)state;
    assert_int_equal(
        read_text(RUN_CREATE, CREATE_WITH("\"duration_ms\":null,\"created_at\":null,\"host\":null,"
                                          "\"metrics_json\":null,\"git_commit_source\":null")),
        RUN_GOOD);
    expect_integer(RUN_DURATION_MS, 0);
    assert_int_equal(fields.values[RUN_CREATED_AT].type, RUN_ABSENT);
    assert_int_equal(fields.values[RUN_HOST].type, RUN_NULL);
    assert_int_equal(fields.values[RUN_METRICS_JSON].type, RUN_NULL);
    assert_int_equal(fields.values[RUN_GIT_COMMIT_SOURCE].type, RUN_NULL);
    expect_issue(RUN_CREATE, CREATE_WITH("\"status\":null"),
                 "{\"type\":\"string_type\",\"loc\":[\"body\",\"status\"],\"msg\":\"Input should "
                 "be a valid string\",\"input\":null}");
    expect_issue(RUN_CREATE, CREATE_WITH("\"items_failed\":null"),
                 "{\"type\":\"int_type\",\"loc\":[\"body\",\"items_failed\"],\"msg\":\"Input "
                 "should be a valid integer\",\"input\":null}");
}

static void commits_and_events_have_their_own_keys(void **state)
{
    (void)state;
    assert_int_equal(read_text(RUN_ASSOCIATE,
                               "{\"commit_hash\":\"abCDef0\",\"commit_source\":\"llm\","
                               "\"commit_author\":null,\"commit_timestamp\":\"t\",\"status\":7}"),
                     RUN_GOOD);
    expect_text(RUN_COMMIT_HASH, "abCDef0");
    expect_text(RUN_COMMIT_SOURCE, "llm");
    expect_text(RUN_COMMIT_TIMESTAMP, "t");
    assert_int_equal(fields.values[RUN_COMMIT_AUTHOR].type, RUN_NULL);
    assert_int_equal(fields.values[RUN_STATUS].type, RUN_ABSENT);
    assert_int_equal(read_text(RUN_EVENT,
                               "{\"event_type\":\"checkpoint\",\"payload\":{\"n\":1},\"timestamp\":"
                               "null}"),
                     RUN_GOOD);
    expect_text(RUN_EVENT_TYPE, "checkpoint");
    assert_int_equal(fields.values[RUN_EVENT_TIMESTAMP].type, RUN_ABSENT);
    assert_true(slice_equal(fields.values[RUN_EVENT_PAYLOAD].text, SLICE_LITERAL("{\"n\":1}")));
}

/* ---- what is refused, in pydantic's words ---- */

static void each_wrong_type_is_told_as_pydantic_tells_it(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        const char *input;
        const char *type;
        const char *message;
    } cases[] = {
        {"host", "1", "string_type", "Input should be a valid string"},
        {"host", "true", "string_type", "Input should be a valid string"},
        {"host", "{\"a\":1}", "string_type", "Input should be a valid string"},
        {"host", "\"a\\u0000b\"", "value_error", "Value error, a NUL character cannot be stored"},
        {"items_failed", "[]", "int_type", "Input should be a valid integer"},
        {"items_failed", "\"many\"", "int_parsing",
         "Input should be a valid integer, unable to parse string as an integer"},
        {"items_failed", "\"\"", "int_parsing",
         "Input should be a valid integer, unable to parse string as an integer"},
        {"items_failed", "1.5", "int_from_float",
         "Input should be a valid integer, got a number with a fractional part"},
        {"items_failed", "9223372036854775808", "int_parsing_size",
         "Unable to parse input string as an integer, exceeded maximum size"},
        {"items_failed", "1e400", "finite_number", "Input should be a finite number"},
        {"duration_ms", "\"1.5\"", "int_parsing",
         "Input should be a valid integer, unable to parse string as an integer"},
        {"metrics_json", "\"{}\"", "dict_type", "Input should be a valid dictionary"},
        {"context_json", "[]", "dict_type", "Input should be a valid dictionary"},
        {"api_posted", "\"maybe\"", "bool_parsing",
         "Input should be a valid boolean, unable to interpret input"},
        {"api_posted", "2", "bool_parsing",
         "Input should be a valid boolean, unable to interpret input"},
        {"api_posted", "0.5", "bool_type", "Input should be a valid boolean"},
        {"api_posted", "null", "bool_type", "Input should be a valid boolean"},
        {"api_posted", "{}", "bool_type", "Input should be a valid boolean"},
        {"git_commit_source", "\"LLM\"", "literal_error",
         "Input should be 'manual', 'llm' or 'ci'"},
        {"git_commit_source", "\"\"", "literal_error", "Input should be 'manual', 'llm' or 'ci'"},
        {"git_commit_source", "7", "literal_error", "Input should be 'manual', 'llm' or 'ci'"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char text[512];
        char issue[512];
        snprintf(text, sizeof text, CREATE_WITH("\"%s\":%s"), cases[i].field, cases[i].input);
        snprintf(issue, sizeof issue,
                 "{\"type\":\"%s\",\"loc\":[\"body\",\"%s\"],\"msg\":\"%s\",\"input\":%s}",
                 cases[i].type, cases[i].field, cases[i].message, cases[i].input);
        expect_issue(RUN_CREATE, text, issue);
    }
}

static void a_commit_hash_is_seven_to_forty_hexadecimal_digits(void **state)
{
    (void)state;
#define HASH_ISSUE(type, message, input)                                                           \
    "{\"type\":\"" type "\",\"loc\":[\"body\",\"commit_hash\"],\"msg\":\"" message                 \
    "\",\"input\":\"" input "\"}"
#define HASH(input) "{\"commit_source\":\"ci\",\"commit_hash\":\"" input "\"}"
#define HEX40       "0123456789abcdef0123456789abcdef01234567"
    assert_int_equal(read_text(RUN_ASSOCIATE, HASH("0123456")), RUN_GOOD);
    assert_int_equal(read_text(RUN_ASSOCIATE, HASH(HEX40)), RUN_GOOD);
    expect_issue(
        RUN_ASSOCIATE, HASH("012345"),
        HASH_ISSUE("string_too_short", "String should have at least 7 characters", "012345"));
    expect_issue(
        RUN_ASSOCIATE, HASH(HEX40 "8"),
        HASH_ISSUE("string_too_long", "String should have at most 40 characters", HEX40 "8"));
    expect_issue(RUN_ASSOCIATE, HASH("012345g"),
                 HASH_ISSUE("string_pattern_mismatch",
                            "String should match pattern '^[0-9a-fA-F]+$'", "012345g"));
    expect_issue(RUN_ASSOCIATE, HASH("\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc"),
                 HASH_ISSUE("string_pattern_mismatch",
                            "String should match pattern '^[0-9a-fA-F]+$'",
                            "\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc"));
    assert_int_equal(read_text(RUN_ASSOCIATE, "{}"), RUN_BAD_SHAPE);
    assert_int_equal(judgement.issues.count, 2);
}

static void what_is_missing_is_told_with_the_object(void **state)
{
    (void)state;
    expect_issue(RUN_CREATE,
                 " {\"event_id\":\"e\",\"run_id\":\"r\",\"start_time\":\"s\",\"job_type\":\"j\"} ",
                 "{\"type\":\"missing\",\"loc\":[\"body\",\"agent_name\"],\"msg\":\"Field "
                 "required\",\"input\":{\"event_id\":\"e\",\"run_id\":\"r\",\"start_time\":\"s\","
                 "\"job_type\":\"j\"}}");
    assert_int_equal(read_text(RUN_CREATE, "{}"), RUN_BAD_SHAPE);
    assert_int_equal(judgement.issues.count, 5);
    assert_string_equal(judgement.issues.items[0].field, "event_id");
    assert_string_equal(judgement.issues.items[4].field, "job_type");
    expect_issue(RUN_EVENT, "{}",
                 "{\"type\":\"missing\",\"loc\":[\"body\",\"event_type\"],\"msg\":\"Field "
                 "required\",\"input\":{}}");
}

static void a_body_that_is_no_object_is_refused(void **state)
{
    (void)state;
    expect_issue(RUN_CREATE, " [1] ",
                 "{\"type\":\"model_attributes_type\",\"loc\":[\"body\"],\"msg\":\"Input should "
                 "be a valid dictionary or object to extract fields from\",\"input\":[1]}");
    expect_issue(RUN_UPDATE, "",
                 "{\"type\":\"missing\",\"loc\":[\"body\"],\"msg\":\"Field required\","
                 "\"input\":null}");
    run_read(&fields, &judgement, RUN_CREATE, SLICE_LITERAL("7"), scratch, 3);
    assert_non_null(strstr(issues_text(), "\"loc\":[\"body\",3]"));
    run_read(&fields, &judgement, RUN_CREATE, SLICE_LITERAL("{\"event_id\":1}"), scratch, 3);
    assert_non_null(strstr(issues_text(), "\"loc\":[\"body\",3,\"event_id\"]"));
}

static void malformed_json_is_told_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned offset;
    } cases[] = {
        {"{\"a\":1,}", 7},
        {"{\"a\" 1}", 5},
        {"{\"a\":1", 6},
        {"{} x", 3},
        {"{\"a\":tru}", 5},
        {"  ", 2},
        {"{\"a\":\"\x01\"}", 6},
        {"{\"a\":\"\xff\"}", 6},
        {"{\"a\":[1 2]}", 8},
        {"{'a':1}", 1},
        {"nul", 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char place[64];
        /* Also as an element: the text as a whole is at fault. */
        run_read(&fields, &judgement, RUN_UPDATE, text_slice(cases[i].text), scratch, 4);
        assert_int_equal(judgement.judged, RUN_BAD_SHAPE);
        snprintf(place, sizeof place, "[{\"type\":\"json_invalid\",\"loc\":[\"body\",%u],",
                 cases[i].offset);
        assert_non_null(strstr(issues_text(), place));
    }
}

static void a_known_key_twice_is_refused_and_an_unknown_one_is_not(void **state)
{
    (void)state;
    expect_issue(RUN_UPDATE, "{\"status\":\"success\",\"\\u0073tatus\":\"failure\"}",
                 "{\"type\":\"value_error\",\"loc\":[\"body\",\"status\"],\"msg\":\"Value error, "
                 "duplicate key\",\"input\":\"success\"}");
    assert_int_equal(read_text(RUN_UPDATE, "{\"x\":1,\"x\":2,\"run_id\":1,\"run_id\":2,\"status\":"
                                           "\"success\"}"),
                     RUN_GOOD);
    /* Also when one of them is null. */
    assert_int_equal(read_text(RUN_UPDATE, "{\"status\":null,\"status\":\"failure\"}"),
                     RUN_BAD_SHAPE);
    /* What is inside an object is the client's own. */
    assert_int_equal(read_text(RUN_UPDATE, "{\"metrics_json\":{\"a\":1,\"a\":2}}"), RUN_GOOD);
}

static void an_event_id_has_one_to_1024_bytes(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 1025; bytes++) {
        char id[1026] = "";
        char text[2048];
        memset(id, 'x', bytes);
        snprintf(text, sizeof text,
                 "{\"event_id\":\"%s\",\"run_id\":\"\",\"start_time\":\"\",\"agent_name\":\"\","
                 "\"job_type\":\"\"}",
                 id);
        assert_int_equal(read_text(RUN_CREATE, text),
                         bytes >= 1 && bytes <= RUN_EVENT_ID_BYTES_MAX ? RUN_GOOD : RUN_BAD_SHAPE);
    }
}

static void the_shape_is_judged_before_the_sign(void **state)
{
    (void)state;
    static const char *const names[] = {"items_discovered", "items_succeeded", "items_failed",
                                        "items_skipped",    "duration_ms",     "api_retry_count"};
    static const char *const negatives[] = {"-1",
                                            "\"-1\"",
                                            "-1.0",
                                            "-9223372036854775808",
                                            "-9223372036854775809",
                                            "-1e30",
                                            "\"-99999999999999999999\""};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(negatives); k++) {
            char text[256];
            snprintf(text, sizeof text, CREATE_WITH("\"%s\":%s"), names[i], negatives[k]);
            assert_int_equal(read_text(RUN_CREATE, text), RUN_NEGATIVE);
            assert_string_equal(run_field_name(judgement.negative), names[i]);
        }
    }
    assert_int_equal(read_text(RUN_UPDATE, "{\"items_skipped\":-1,\"status\":\"x\"}"),
                     RUN_BAD_SHAPE);
    assert_int_equal(read_text(RUN_UPDATE, "{\"items_skipped\":-1,\"git_commit_source\":\"x\"}"),
                     RUN_BAD_SHAPE);
    assert_int_equal(judgement.issues.count, 1);
    assert_int_equal(read_text(RUN_UPDATE, "{\"duration_ms\":-1,\"items_failed\":-1}"),
                     RUN_NEGATIVE);
    assert_int_equal(judgement.negative, RUN_ITEMS_FAILED);
    /* It is no field of an update. */
    assert_int_equal(read_text(RUN_UPDATE, "{\"api_retry_count\":-1}"), RUN_EMPTY);
}

/* ---- hostile input ---- */

static void no_more_issues_than_there_is_room_for(void **state)
{
    (void)state;
    assert_int_equal(
        read_text(RUN_CREATE, "{\"host\":1,\"product\":1,\"platform\":1,\"website\":1,\"end_time\":"
                              "1,\"status\":1,\"duration_ms\":-1,\"git_repo\":1}"),
        RUN_BAD_SHAPE);
    assert_int_equal(judgement.issues.count, ISSUES_PER_RECORD_MAX);
}

static void an_object_may_be_64_deep_with_the_command_around_it(void **state)
{
    (void)state;
    for (unsigned depth = 63; depth <= 64; depth++) {
        char text[1024] = "{\"metrics_json\":";
        size_t at = strlen(text);
        for (unsigned i = 0; i + 1 < depth; i++) {
            memcpy(text + at, "{\"a\":", 5);
            at += 5;
        }
        memcpy(text + at, "{}", 2);
        memset(text + at + 2, '}', depth);
        assert_int_equal(read_text(RUN_UPDATE, text), depth == 63 ? RUN_GOOD : RUN_BAD_SHAPE);
    }
}

/* In memory of exactly that size, with a scratch of exactly that size. */
static void every_truncation_is_refused_and_nothing_beyond_is_read(void **state)
{
    (void)state;
    static const char text[] =
        CREATE_WITH("\"host\":\"a\\u00fc\\n\",\"items_failed\":\"12\",\"x\":[1.5e3,true,null],"
                    "\"metrics_json\":{\"a\":\"b\"},\"status\":\"\\u0066ailed\"");
    for (size_t cut = 0; cut < sizeof text; cut++) {
        uint8_t *exact = mem_alloc(cut == 0 ? 1 : cut);
        uint8_t *work = mem_alloc(cut == 0 ? 1 : cut);
        memcpy(exact, text, cut);
        run_read(&fields, &judgement, RUN_CREATE, (struct slice){exact, cut}, work, ISSUE_NO_INDEX);
        assert_int_equal(judgement.judged, cut == sizeof text - 1 ? RUN_GOOD : RUN_BAD_SHAPE);
        if (judgement.judged == RUN_GOOD) {
            expect_text(RUN_HOST, "a\u00fc\n");
            expect_text(RUN_STATUS, "failure");
        }
        mem_free(work);
        mem_free(exact);
    }
}

static void a_field_of_a_megabyte_is_read(void **state)
{
    (void)state;
    size_t bytes = 1 << 20;
    struct buf text;
    buf_init(&text, mem_alloc(2 * bytes + 4096), 2 * bytes + 4096);
    buf_put_text(&text, "{" NEEDED ",\"error_details\":\"");
    for (size_t i = 0; i < bytes; i++) {
        buf_put_text(&text, "\\n");
    }
    buf_put_text(&text, "\"}");
    uint8_t *work = mem_alloc(text.bytes);
    run_read(&fields, &judgement, RUN_CREATE, (struct slice){text.data, text.bytes}, work,
             ISSUE_NO_INDEX);
    assert_int_equal(judgement.judged, RUN_GOOD);
    assert_int_equal(fields.values[RUN_ERROR_DETAILS].text.bytes, bytes);
    mem_free(work);
    mem_free(text.data);
}

/* ---- against a slow reference ---- */

/* What api.md says of the fields, once more. Kinds: s text, e event_id, n count, b flag, o object,
 * S status, c source, h hash. null: r refused, n stored, a absent, 0 zero. */
struct rule {
    const char *name;
    char kind;
    char null;
    bool is_required;
};
static const struct rule create_rules[] = {
    {"event_id", 'e', 'r', true},
    {"run_id", 's', 'r', true},
    {"created_at", 's', 'a', false},
    {"start_time", 's', 'r', true},
    {"end_time", 's', 'n', false},
    {"agent_name", 's', 'r', true},
    {"agent_owner", 's', 'n', false},
    {"job_type", 's', 'r', true},
    {"status", 'S', 'r', false},
    {"product", 's', 'n', false},
    {"product_family", 's', 'n', false},
    {"platform", 's', 'n', false},
    {"subdomain", 's', 'n', false},
    {"website", 's', 'n', false},
    {"website_section", 's', 'n', false},
    {"item_name", 's', 'n', false},
    {"items_discovered", 'n', 'r', false},
    {"items_succeeded", 'n', 'r', false},
    {"items_failed", 'n', 'r', false},
    {"items_skipped", 'n', 'r', false},
    {"duration_ms", 'n', '0', false},
    {"input_summary", 's', 'n', false},
    {"output_summary", 's', 'n', false},
    {"source_ref", 's', 'n', false},
    {"target_ref", 's', 'n', false},
    {"error_summary", 's', 'n', false},
    {"error_details", 's', 'n', false},
    {"git_repo", 's', 'n', false},
    {"git_branch", 's', 'n', false},
    {"git_commit_hash", 's', 'n', false},
    {"git_run_tag", 's', 'n', false},
    {"git_commit_source", 'c', 'n', false},
    {"git_commit_author", 's', 'n', false},
    {"git_commit_timestamp", 's', 'n', false},
    {"host", 's', 'n', false},
    {"environment", 's', 'n', false},
    {"trigger_type", 's', 'n', false},
    {"metrics_json", 'o', 'n', false},
    {"context_json", 'o', 'n', false},
    {"api_posted", 'b', 'r', false},
    {"api_posted_at", 's', 'n', false},
    {"api_retry_count", 'n', 'r', false},
    {"insight_id", 's', 'n', false},
    {"parent_run_id", 's', 'n', false},
};
static const struct rule update_rules[] = {
    {"end_time", 's', 'a', false},          {"status", 'S', 'a', false},
    {"items_discovered", 'n', 'a', false},  {"items_succeeded", 'n', 'a', false},
    {"items_failed", 'n', 'a', false},      {"items_skipped", 'n', 'a', false},
    {"duration_ms", 'n', 'a', false},       {"input_summary", 's', 'a', false},
    {"output_summary", 's', 'a', false},    {"error_summary", 's', 'a', false},
    {"error_details", 's', 'a', false},     {"git_commit_source", 'c', 'a', false},
    {"git_commit_author", 's', 'a', false}, {"git_commit_timestamp", 's', 'a', false},
    {"metrics_json", 'o', 'a', false},      {"context_json", 'o', 'a', false},
};
static const struct rule associate_rules[] = {
    {"commit_hash", 'h', 'r', true},
    {"commit_source", 'c', 'r', true},
    {"commit_author", 's', 'n', false},
    {"commit_timestamp", 's', 'n', false},
};
static const struct rule event_rules[] = {
    {"event_type", 's', 'r', true},
    {"timestamp", 's', 'a', false},
    {"payload", 'o', 'n', false},
};
static const struct {
    const struct rule *rules;
    size_t count;
} commands[] = {
    [RUN_CREATE] = {create_rules, ARRAY_COUNT(create_rules)},
    [RUN_UPDATE] = {update_rules, ARRAY_COUNT(update_rules)},
    [RUN_ASSOCIATE] = {associate_rules, ARRAY_COUNT(associate_rules)},
    [RUN_EVENT] = {event_rules, ARRAY_COUNT(event_rules)},
};

#define LARGE INT64_MAX
/* A value and what it is to each kind. count_issue, flag: 0 means that there is a value. */
struct sample {
    const char *json;
    const char *text;   /* of a string; NULL: no string */
    const char *status; /* stored; NULL: none */
    int64_t count;
    enum issue_type count_issue;
    int flag;
    enum issue_type flag_issue;
    bool is_source, is_hash;
    char object; /* 'o', or 'e' for an empty one */
};
#define NO_COUNT .count_issue = ISSUE_INT_TYPE
#define NO_FLAG  .flag_issue = ISSUE_BOOL_TYPE
#define WORD     .count_issue = ISSUE_INT_PARSING, .flag_issue = ISSUE_BOOL_PARSING
static const struct sample samples[] = {
    {.json = "\"\"", .text = "", WORD},
    {.json = "\"a\"", .text = "a", WORD},
    {.json = "\"a b\\\"\\\\\\/\\b\\f\\n\\r\\t\"", .text = "a b\"\\/\b\f\n\r\t", WORD},
    {.json = "\"\\ud83d\\ude00\u00fc\"", .text = "\U0001f600\u00fc", WORD},
    {.json = "\"running\"", .text = "running", .status = "running", WORD},
    {.json = "\"f\\u0061iled\"", .text = "failed", .status = "failure", WORD},
    {.json = "\"succeeded\"", .text = "succeeded", .status = "success", WORD},
    {.json = "\"llm\"", .text = "llm", .is_source = true, WORD},
    {.json = "\"\\u0063i\"", .text = "ci", .is_source = true, WORD},
    {.json = "\"deadbeef\"", .text = "deadbeef", .is_hash = true, WORD},
    {.json = "\"1234567\"",
     .text = "1234567",
     .is_hash = true,
     .count = 1234567,
     .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "\"1\"", .text = "1", .count = 1, .flag = 1},
    {.json = "\" +1_000.0 \"",
     .text = " +1_000.0 ",
     .count = 1000,
     .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "\"oFF\"", .text = "oFF", .count_issue = ISSUE_INT_PARSING, .flag = 0},
    {.json = "\"True\"", .text = "True", .count_issue = ISSUE_INT_PARSING, .flag = 1},
    {.json = "\"-7\"", .text = "-7", .count = -7, .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "0", .count = 0, .flag = 0},
    {.json = "1", .count = 1, .flag = 1},
    {.json = "1.000e0", .count = 1, .flag = 1},
    {.json = "-0.0", .count = 0, .flag = 0},
    {.json = "42", .count = 42, .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "-1", .count = -1, .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "1.5", .count_issue = ISSUE_INT_FROM_FLOAT, NO_FLAG},
    {.json = "9223372036854775807", .count = LARGE, .flag_issue = ISSUE_BOOL_PARSING},
    {.json = "9223372036854775808", .count_issue = ISSUE_INT_SIZE, NO_FLAG},
    {.json = "1e999", .count_issue = ISSUE_FINITE_NUMBER, NO_FLAG},
    {.json = "true", .count = 1, .flag = 1},
    {.json = "false", .count = 0, .flag = 0},
    {.json = "{}", .object = 'e', NO_COUNT, NO_FLAG},
    {.json = "{ \t}", .object = 'e', NO_COUNT, NO_FLAG},
    {.json = "{\"event_id\":[{\"status\":1}],\"a\":\"}\"}", .object = 'o', NO_COUNT, NO_FLAG},
    {.json = "[]", NO_COUNT, NO_FLAG},
    {.json = "[{\"status\":\"running\"}, 1]", NO_COUNT, NO_FLAG},
};
static const char sample_nul[] = "\"a\\u0000\"";

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

/* A member of the random object; sample NULL: null; nul: the string with NUL. */
struct member {
    const char *key;
    const struct sample *sample;
    bool is_nul;
};
#define MEMBERS_MAX 24u
struct object {
    enum run_command command;
    struct member members[MEMBERS_MAX];
    unsigned count;
    char text[16384];
};

static const char *random_key(enum run_command command)
{
    static const char *const unknown[] = {"id",          "schema_version", "updated_at", "x",
                                          "record_type", "event_ids",      "event_i",    ""};
    if (random_below(8) == 0) {
        return unknown[random_below(ARRAY_COUNT(unknown))];
    }
    /* Mostly its own, sometimes another command's. */
    unsigned from = random_below(8) == 0 ? (unsigned)random_below(4) + 1 : command;
    return commands[from].rules[random_below(commands[from].count)].name;
}

/* Seldom a negative one. */
static const struct sample *sample_fitting(char kind)
{
    for (;;) {
        const struct sample *sample = &samples[random_below(ARRAY_COUNT(samples))];
        bool fits = kind == 'n'
                        ? sample->count_issue == 0 && (sample->count >= 0 || random_below(4) == 0)
                    : kind == 'b' ? sample->flag_issue == 0
                    : kind == 'o' ? sample->object != 0
                    : kind == 'S' ? sample->status != NULL
                    : kind == 'c' ? sample->is_source
                    : kind == 'h' ? sample->is_hash
                                  : sample->text != NULL && sample->text[0] != '\0';
        if (fits) {
            return sample;
        }
    }
}

static const struct rule *rule_of(enum run_command command, const char *key)
{
    for (size_t i = 0; i < commands[command].count; i++) {
        if (strcmp(commands[command].rules[i].name, key) == 0) {
            return &commands[command].rules[i];
        }
    }
    return NULL;
}

static bool has_key(const struct object *object, const char *key)
{
    for (unsigned i = 0; i < object->count; i++) {
        if (strcmp(object->members[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

/* faults: in how many of 32 members something is likely to be wrong. */
static void member_add(struct object *object, const char *key, unsigned faults)
{
    const struct rule *rule = rule_of(object->command, key);
    if (random_below(32) >= faults && has_key(object, key)) {
        return;
    }
    struct member *member = &object->members[object->count++];
    *member = (struct member){.key = key};
    if (random_below(32) < faults || rule == NULL) {
        member->sample = &samples[random_below(ARRAY_COUNT(samples))];
        member->is_nul = random_below(8) == 0;
    } else if (rule->null == 'r' || random_below(8) != 0) {
        member->sample = sample_fitting(rule->kind);
    }
}

static const char *white(void)
{
    static const char *const whites[] = {"", "", "", " ", "\n", "\t \r\n"};
    return whites[random_below(ARRAY_COUNT(whites))];
}

static void object_print(struct object *object)
{
    struct buf out;
    buf_init(&out, object->text, sizeof object->text - 1);
    buf_printf(&out, "%s{%s", white(), white());
    for (unsigned i = 0; i < object->count; i++) {
        const struct member *member = &object->members[i];
        bool is_escaped = member->key[0] != '\0' && random_below(4) == 0;
        const char *json = member->is_nul           ? sample_nul
                           : member->sample == NULL ? "null"
                                                    : member->sample->json;
        buf_printf(&out, "%s\"", i == 0 ? "" : ",");
        if (is_escaped) {
            buf_printf(&out, "\\u00%02X", (unsigned)member->key[0]);
        }
        buf_printf(&out, "%s\"%s:%s", member->key + is_escaped, white(), white());
        buf_put_text(&out, json);
        buf_put_text(&out, white());
    }
    buf_printf(&out, "}%s", white());
    assert_false(out.is_truncated);
    object->text[out.bytes] = '\0';
}

static void object_make(struct object *object)
{
    unsigned faults = (unsigned)random_below(4);
    object->command = (enum run_command)(random_below(4) + 1);
    object->count = 0;
    for (size_t i = 0; i < commands[object->command].count; i++) {
        const struct rule *rule = &commands[object->command].rules[i];
        if (rule->is_required && random_below(32) >= faults) {
            member_add(object, rule->name, faults);
        }
    }
    uint64_t more = random_below(3) == 0 ? random_below(2) : random_below(MEMBERS_MAX - 5);
    for (; more > 0; more--) {
        member_add(object, random_key(object->command), faults);
    }
    for (unsigned i = 0; i < object->count; i++) {
        struct member *other = &object->members[random_below(object->count)];
        struct member kept = object->members[i];
        object->members[i] = *other;
        *other = kept;
    }
    object_print(object);
}

static enum run_field field_of(const char *key)
{
    unsigned field = 0;
    while (strcmp(run_field_name((enum run_field)field), key) != 0) {
        field++;
    }
    return (enum run_field)field;
}

/* What is wrong with it; 0: *expected is what it is. */
static enum issue_type reference_value(char kind, const struct member *member,
                                       struct run_value *expected)
{
    static const struct sample null = {.json = "null", NO_COUNT, NO_FLAG};
    static const struct sample nul = {.json = sample_nul, .text = ""};
    const struct sample *sample = member->is_nul           ? &nul
                                  : member->sample == NULL ? &null
                                                           : member->sample;
    const char *text = sample->text;
    if (member->is_nul && kind != 'o') {
        return ISSUE_VALUE_ERROR;
    }
    switch (kind) {
    case 'n':
        *expected = (struct run_value){.type = RUN_INTEGER, .integer = sample->count};
        return sample->count_issue;
    case 'b':
        *expected = (struct run_value){.type = RUN_INTEGER, .integer = sample->flag};
        return sample->flag_issue;
    case 'o':
        *expected = sample->object == 'o'
                        ? (struct run_value){.type = RUN_JSON, .text = text_slice(sample->json)}
                        : (struct run_value){.type = RUN_NULL};
        return sample->object == 0 ? ISSUE_DICT_TYPE : (enum issue_type)0;
    case 'c':
        *expected =
            (struct run_value){.type = RUN_TEXT, .text = text_slice(text != NULL ? text : "")};
        return sample->is_source ? (enum issue_type)0 : ISSUE_LITERAL;
    default:
        break;
    }
    if (text == NULL) {
        return ISSUE_STRING_TYPE;
    }
    *expected = (struct run_value){.type = RUN_TEXT, .text = text_slice(text)};
    if (kind == 'S') {
        *expected = (struct run_value){
            .type = RUN_TEXT, .text = text_slice(sample->status != NULL ? sample->status : "")};
        return sample->status == NULL ? ISSUE_VALUE_ERROR : (enum issue_type)0;
    }
    if (kind == 'h' && !sample->is_hash) {
        struct slice all = text_slice(text);
        size_t characters = 0;
        for (size_t i = 0; i < all.bytes; i++) {
            characters += (all.data[i] & 0xc0) != 0x80;
        }
        return characters < 7 ? ISSUE_STRING_TOO_SHORT : ISSUE_PATTERN;
    }
    return kind == 'e' && text[0] == '\0' ? ISSUE_STRING_TOO_SHORT : (enum issue_type)0;
}

struct expected {
    struct run_value values[RUN_FIELD_COUNT];
    enum issue_type issues[RUN_FIELD_COUNT];
    const char *issue_fields[RUN_FIELD_COUNT];
    unsigned issue_count;
    const char *negative;
    unsigned field_count;
};

static void reference_field(struct expected *expected, const struct object *object,
                            const struct rule *rule)
{
    const struct member *found = NULL;
    unsigned times = 0;
    for (unsigned i = 0; i < object->count; i++) {
        if (strcmp(object->members[i].key, rule->name) == 0) {
            found = &object->members[i];
            times++;
        }
    }
    if (times == 0 && !rule->is_required) {
        return;
    }
    struct run_value value = {.type = RUN_ABSENT};
    enum issue_type issue = times == 0  ? ISSUE_MISSING
                            : times > 1 ? ISSUE_VALUE_ERROR
                                        : (enum issue_type)0;
    bool is_null = times == 1 && found->sample == NULL && !found->is_nul;
    if (is_null && rule->null != 'r') {
        value.type = rule->null == 'n' ? RUN_NULL : rule->null == '0' ? RUN_INTEGER : RUN_ABSENT;
    } else if (times == 1) {
        issue = reference_value(rule->kind, found, &value);
    }
    if (issue != 0) {
        expected->issues[expected->issue_count] = issue;
        expected->issue_fields[expected->issue_count++] = rule->name;
        return;
    }
    expected->values[field_of(rule->name)] = value;
    expected->field_count += value.type != RUN_ABSENT;
    if (value.type == RUN_INTEGER && value.integer < 0 && expected->negative == NULL) {
        expected->negative = rule->name;
    }
}

static void expect_issues(const struct expected *expected)
{
    unsigned count = expected->issue_count < ISSUES_PER_RECORD_MAX ? expected->issue_count
                                                                   : ISSUES_PER_RECORD_MAX;
    assert_int_equal(judgement.judged, RUN_BAD_SHAPE);
    assert_int_equal(judgement.issues.count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(judgement.issues.items[i].type, expected->issues[i]);
        assert_string_equal(judgement.issues.items[i].field, expected->issue_fields[i]);
    }
    issues_text();
}

static void expect_values(const struct expected *expected, const struct object *object)
{
    unsigned next = 0;
    for (unsigned i = 0; i < RUN_FIELD_COUNT; i++) {
        const struct run_value *value = &fields.values[i];
        assert_int_equal(value->type, expected->values[i].type);
        assert_true(value->type != RUN_INTEGER || value->integer == expected->values[i].integer);
        if (value->type == RUN_TEXT || value->type == RUN_JSON) {
            assert_true(slice_equal(value->text, expected->values[i].text));
        }
    }
    for (unsigned i = 0; i < object->count; i++) {
        const char *key = object->members[i].key;
        bool is_there = rule_of(object->command, key) != NULL &&
                        expected->values[field_of(key)].type != RUN_ABSENT;
        if (is_there) {
            assert_string_equal(run_field_name((enum run_field)fields.order[next++]), key);
        }
    }
    assert_int_equal(next, fields.count);
}

static void expect_object(const struct object *object, unsigned *judged_count)
{
    struct expected expected = {.issue_count = 0};
    for (size_t i = 0; i < commands[object->command].count; i++) {
        reference_field(&expected, object, &commands[object->command].rules[i]);
    }
    judged_count[read_text(object->command, object->text)]++;
    if (expected.issue_count > 0) {
        expect_issues(&expected);
        return;
    }
    if (expected.negative != NULL) {
        assert_int_equal(judgement.judged, RUN_NEGATIVE);
        assert_string_equal(run_field_name(judgement.negative), expected.negative);
        return;
    }
    bool is_empty = object->command == RUN_UPDATE && expected.field_count == 0;
    assert_int_equal(judgement.judged, is_empty ? RUN_EMPTY : RUN_GOOD);
    expect_values(&expected, object);
}

static void random_objects_read_as_the_reference_says(void **state)
{
    (void)state;
    static struct object object;
    const char *seed = getenv("SLUICE_SEED");
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) | 1;
    unsigned judged_count[RUN_EMPTY + 1] = {0};
    printf("SLUICE_SEED=%" PRIu64 " repeats this\n", first);
    random_state = first;
    for (unsigned i = 0; i < 20000; i++) {
        object_make(&object);
        expect_object(&object, judged_count);
    }
    for (unsigned i = 0; i <= RUN_EMPTY; i++) {
        assert_true(judged_count[i] > 100); /* or the objects are not what they were made for */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_a_create_is_read),
        cmocka_unit_test(statuses_and_their_aliases_are_exact),
        cmocka_unit_test(an_update_says_what_it_updates_in_the_clients_order),
        cmocka_unit_test(an_update_of_nothing_is_empty_and_not_bad),
        cmocka_unit_test(null_says_what_the_contract_says),
        cmocka_unit_test(commits_and_events_have_their_own_keys),
        cmocka_unit_test(each_wrong_type_is_told_as_pydantic_tells_it),
        cmocka_unit_test(a_commit_hash_is_seven_to_forty_hexadecimal_digits),
        cmocka_unit_test(what_is_missing_is_told_with_the_object),
        cmocka_unit_test(a_body_that_is_no_object_is_refused),
        cmocka_unit_test(malformed_json_is_told_with_its_place),
        cmocka_unit_test(a_known_key_twice_is_refused_and_an_unknown_one_is_not),
        cmocka_unit_test(an_event_id_has_one_to_1024_bytes),
        cmocka_unit_test(the_shape_is_judged_before_the_sign),
        cmocka_unit_test(no_more_issues_than_there_is_room_for),
        cmocka_unit_test(an_object_may_be_64_deep_with_the_command_around_it),
        cmocka_unit_test(every_truncation_is_refused_and_nothing_beyond_is_read),
        cmocka_unit_test(a_field_of_a_megabyte_is_read),
        cmocka_unit_test(random_objects_read_as_the_reference_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
