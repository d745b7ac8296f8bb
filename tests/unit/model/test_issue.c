#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/buf.h"
#include "model/issue.h"
#include "model/json_scan.h"

static char room[8192];

static const char *written(const struct issue *issue)
{
    struct buf out;
    buf_init(&out, room, sizeof room - 1);
    issue_write(&out, "body", issue);
    assert_false(out.is_truncated);
    room[out.bytes] = '\0';
    uint64_t offset;
    const char *text;
    assert_int_equal(json_validate(out.data, out.bytes, &offset, &text), 0);
    return room;
}

static void every_type_is_written_as_pydantic_does(void **state)
{
    (void)state;
    struct issue issue = {.type = ISSUE_JSON_INVALID,
                          .index = ISSUE_NO_INDEX,
                          .offset = 17,
                          .text = "Expecting ',' delimiter"};
    assert_string_equal(written(&issue),
                        "{\"type\":\"json_invalid\",\"loc\":[\"body\",17],\"msg\":\"JSON decode "
                        "error\",\"input\":{},\"ctx\":{\"error\":\"Expecting ',' delimiter\"}}");
    issue.index = 3;
    assert_non_null(strstr(written(&issue), "\"loc\":[\"body\",3,17]"));

    issue = (struct issue){.type = ISSUE_STRING_TOO_LONG,
                           .index = 2,
                           .field = "service",
                           .limit = 256,
                           .input = SLICE_LITERAL("\"x\"")};
    assert_string_equal(
        written(&issue),
        "{\"type\":\"string_too_long\",\"loc\":[\"body\",2,\"service\"],\"msg\":\"String "
        "should have at most 256 characters\",\"input\":\"x\"}");

    issue = (struct issue){
        .type = ISSUE_DATETIME, .index = ISSUE_NO_INDEX, .field = "timestamp", .text = "too `x`"};
    assert_string_equal(
        written(&issue),
        "{\"type\":\"datetime_from_date_parsing\",\"loc\":[\"body\",\"timestamp\"],\"msg\":"
        "\"Input should be a valid datetime, too `x`\"}");

    issue = (struct issue){.type = ISSUE_STRING_TYPE,
                           .index = ISSUE_NO_INDEX,
                           .field = "tags",
                           .subkey = SLICE_LITERAL("a\\\"b"),
                           .input = SLICE_LITERAL("1")};
    assert_string_equal(
        written(&issue),
        "{\"type\":\"string_type\",\"loc\":[\"body\",\"tags\",\"a\\\"b\"],\"msg\":\"Input "
        "should be a valid string\",\"input\":1}");
}

static void a_long_input_is_cut_between_characters(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 4; pad++) {
        uint8_t input[1024];
        memset(input, 'x', sizeof input);
        for (size_t at = pad; at + 4 <= sizeof input; at += 4) {
            memcpy(input + at, "\xf0\x9d\x84\x9e", 4);
        }
        struct issue issue = {
            .type = ISSUE_FLOAT_TYPE, .index = ISSUE_NO_INDEX, .input = {input, sizeof input}};
        const char *text = written(&issue);
        assert_non_null(strstr(text, "...\"}"));
        assert_null(strstr(text, "\xef\xbf\xbd"));
        assert_true(strlen(text) < ISSUE_INPUT_BYTES_MAX + 200);
    }
}

static void a_long_key_is_cut_and_stays_valid(void **state)
{
    (void)state;
    uint8_t key[1000];
    memset(key, '\\', sizeof key);
    struct issue issue = {.type = ISSUE_VALUE_ERROR,
                          .index = 1,
                          .text = "duplicate key",
                          .subkey = {key, sizeof key}};
    assert_true(strlen(written(&issue)) < 600);
}

static void a_list_is_an_array(void **state)
{
    (void)state;
    struct issue_list list = {.count = 0};
    struct buf out;
    buf_init(&out, room, sizeof room);
    issue_list_write(&out, "query", &list);
    assert_int_equal(out.bytes, 2);
    list.count = 2;
    list.items[0] = (struct issue){.type = ISSUE_MISSING, .index = 0, .field = "a"};
    list.items[1] = (struct issue){.type = ISSUE_MISSING, .index = 0, .field = "b"};
    buf_reset(&out);
    issue_list_write(&out, "query", &list);
    assert_memory_equal(out.data, "[{\"type\":\"missing\",\"loc\":[\"query\",0,\"a\"]", 38);
    uint64_t offset;
    const char *text;
    assert_int_equal(json_validate(out.data, out.bytes, &offset, &text), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_written_as_pydantic_does),
        cmocka_unit_test(a_long_input_is_cut_between_characters),
        cmocka_unit_test(a_long_key_is_cut_and_stays_valid),
        cmocka_unit_test(a_list_is_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
