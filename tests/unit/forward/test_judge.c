#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "encode_fixture.h"
#include "forward/judge.h"
#include "forward/target_url.h"

static struct judgement judged(enum transport_fault fault, int status, const char *body)
{
    struct judgement judgement = {0};
    struct upstream_answer answer = {.fault = fault,
                                     .status = status,
                                     .retry_after_ns = 9,
                                     .body = {(const uint8_t *)body, strlen(body)}};
    (void)snprintf(answer.fault_text, sizeof(answer.fault_text), "connect: refused");
    judge_by_status(&answer, &judgement);
    return judgement;
}

static void every_status_has_its_verdict(void **state)
{
    (void)state;
    static const int pauses[] = {300, 301, 304, 308, 399, 401, 403, 404, 405, 407};
    static const int retries[] = {408, 425, 429, 500, 501, 502, 503, 504,
                                  507, 599, 0,   100, 199, 600, -1};
    static const int refusals[] = {400, 402, 406, 409, 410, 411, 413,
                                   414, 415, 421, 422, 431, 451, 499};
    for (int status = 200; status < 300; status++) {
        assert_int_equal(judged(TRANSPORT_OK, status, "x").verdict, VERDICT_DONE);
    }
    for (size_t i = 0; i < ARRAY_COUNT(pauses); i++) {
        assert_int_equal(judged(TRANSPORT_OK, pauses[i], "").verdict, VERDICT_PAUSE);
    }
    for (size_t i = 0; i < ARRAY_COUNT(retries); i++) {
        assert_int_equal(judged(TRANSPORT_OK, retries[i], "").verdict, VERDICT_RETRY);
    }
    for (size_t i = 0; i < ARRAY_COUNT(refusals); i++) {
        assert_int_equal(judged(TRANSPORT_OK, refusals[i], "").verdict, VERDICT_REFUSED);
    }
    assert_string_equal(judged(TRANSPORT_OK, 503, "").reason, "HTTP 503");
    assert_string_equal(judged(TRANSPORT_OK, 200, "fine").reason, "");
    assert_int_equal(judged(TRANSPORT_OK, 429, "").retry_after_ns, 9);
}

/* A fault is one whatever the status said before it. */
static void faults_are_passing_trouble_but_for_certificates(void **state)
{
    (void)state;
    for (int fault = TRANSPORT_UNREACHABLE; fault <= TRANSPORT_LOCAL; fault++) {
        enum verdict wanted = fault == TRANSPORT_TLS ? VERDICT_PAUSE : VERDICT_RETRY;
        struct judgement j = judged((enum transport_fault)fault, 200, "ok");
        assert_int_equal(j.verdict, wanted);
        assert_string_equal(j.reason, "connect: refused");
    }
}

static void the_reason_is_what_the_upstream_says(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *reason;
    } cases[] = {
        {"", ""},
        {"no such thing\nstack trace", "no such thing"},
        {"\r\n  text \t\r\nmore", "text"},
        {"{\"detail\":\"Not \\\"here\\\"\\nx\"}", "Not \"here\""},
        {"{\"a\":[1,{}],\"message\":\"Forbidden\"}", "Forbidden"},
        {"{\"Message\":\"User is not authorized\"}", "User is not authorized"},
        {"{\"error\":\"e\"}", "e"},
        {"{\"error\":{\"type\":\"t\",\"reason\":\"r\"},\"status\":4}", "t: r"},
        {"{\"error\":{\"code\":3,\"message\":\"m\"}}", "m"},
        {"{\"detail\":[{\"type\":\"missing\",\"msg\":\"Field required\"},{}]}",
         "missing: Field required"},
        {"{\"detail\":\"cut off afterwards\",\"x\":[", "cut off afterwards"},
        {"{\"detail\":7}", "{\"detail\":7}"},
        {"{\"detail\":[]}", "{\"detail\":[]}"},
        {"{\"message\":\"\"}", "{\"message\":\"\"}"},
        {"{\"a\":", "{\"a\":"},
        {"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>",
         "503 Service Temporarily Unavailable"},
        {"<html>\n<title>", "<html>"},
        {"a\x1b[31mred\x07", "a?[31mred?"},
        {"tab\there", "tab here"},
        {"h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff\xc3 \xc2\x9b"
         "31m \xed\xa0\x80 \xc0\xaf",
         "?? ??31m ??? ??"},
        {"   ", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char reason[FORWARD_REASON_BYTES];
        size_t bytes = strlen(cases[i].body);
        uint8_t *body = mem_alloc(bytes + 1); /* so that a read behind it is seen */
        memcpy(body, cases[i].body, bytes);
        judge_reason(reason, sizeof(reason), (struct slice){body, bytes});
        assert_string_equal(reason, cases[i].reason);
        mem_free(body);
    }
}

static void a_long_reason_is_cut_between_characters(void **state)
{
    (void)state;
    char body[3000];
    for (size_t i = 0; i < sizeof(body); i += 3) {
        memcpy(body + i, "\xe2\x82\xac", 3);
    }
    char reason[10];
    judge_reason(reason, sizeof(reason), (struct slice){(const uint8_t *)body, sizeof(body)});
    assert_string_equal(reason, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac");
    judge_reason(reason, 9, (struct slice){(const uint8_t *)body, sizeof(body)});
    assert_string_equal(reason, "\xe2\x82\xac\xe2\x82\xac");
    judge_reason(reason, 1, (struct slice){(const uint8_t *)body, sizeof(body)});
    assert_string_equal(reason, "");
}

/* ---- answer_reader ---- */

static void a_reader_walks_members_and_elements(void **state)
{
    (void)state;
    struct answer_reader reader;
    struct slice key;
    struct json_value value;
    uint64_t number = 0;
    answer_reader_open(&reader, SLICE_LITERAL(" {\"a\" : [ 1 , [] , {\"b\":2} ], \"c\":\"d\" } "));
    assert_true(answer_reader_enter(&reader, '{'));
    assert_true(answer_reader_member(&reader, &key));
    assert_true(answer_reader_is(key, "a"));
    assert_false(answer_reader_enter(&reader, '{'));
    assert_true(answer_reader_enter(&reader, '['));
    assert_true(answer_reader_element(&reader));
    assert_true(answer_reader_value(&reader, &value));
    assert_true(answer_reader_u64(&reader, &value, &number));
    assert_int_equal(number, 1);
    assert_true(answer_reader_element(&reader));
    assert_true(answer_reader_enter(&reader, '['));
    assert_false(answer_reader_element(&reader));
    assert_true(answer_reader_element(&reader));
    assert_true(answer_reader_value(&reader, &value));
    assert_false(answer_reader_element(&reader));
    assert_true(answer_reader_member(&reader, &key));
    assert_true(answer_reader_value(&reader, &value));
    assert_true(slice_equal(answer_reader_raw(&reader, &value), SLICE_LITERAL("d")));
    assert_false(answer_reader_ended(&reader));
    assert_false(answer_reader_member(&reader, &key));
    assert_true(answer_reader_ended(&reader));
}

static void a_reader_stays_bad(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"a\":1,}",        "{,}",        "{\"a\" 1}", "{\"a\":1;\"b\":2}", "{\"a\":}",
        "{\"a\":1 \"b\":2}", "{\"a\":01}", "{",         "{\"a\":\"\xff\"}",  "{\"a\":1]"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct answer_reader reader;
        struct slice key;
        struct json_value value;
        answer_reader_open(&reader, (struct slice){(const uint8_t *)texts[i], strlen(texts[i])});
        assert_true(answer_reader_enter(&reader, '{'));
        while (answer_reader_member(&reader, &key)) {
            (void)answer_reader_value(&reader, &value);
        }
        assert_true(reader.is_bad);
        assert_false(answer_reader_value(&reader, &value));
        assert_false(answer_reader_ended(&reader));
    }
    static const char *const nothing[] = {"", "  "};
    for (size_t i = 0; i < ARRAY_COUNT(nothing); i++) {
        struct answer_reader reader;
        answer_reader_open(&reader,
                           (struct slice){(const uint8_t *)nothing[i], strlen(nothing[i])});
        assert_false(answer_reader_ended(&reader));
    }
}

static void only_plain_numbers_are_taken(void **state)
{
    (void)state;
    static const char *const texts[] = {"-1",   "1.0", "1e3", "\"1\"", "1234567890123456789",
                                        "true", "[]"};
    uint64_t number = 5;
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct answer_reader reader;
        struct json_value value;
        answer_reader_open(&reader, (struct slice){(const uint8_t *)texts[i], strlen(texts[i])});
        assert_true(answer_reader_value(&reader, &value));
        assert_false(answer_reader_u64(&reader, &value, &number));
        assert_int_equal(number, 5);
    }
}

/* ---- target_url ---- */

static void a_path_goes_behind_the_base_and_before_its_query(void **state)
{
    (void)state;
    static const struct {
        const char *base;
        const char *url;
    } cases[] = {
        {"http://h", "http://h/p?n=a%20%2F%c3"},
        {"http://h///", "http://h/p?n=a%20%2F%c3"},
        {"http://h/b/?x=1", "http://h/b/p?x=1&n=a%20%2F%c3"},
        {"http://h/b?x=1&y=&&z#f?g", "http://h/b/p?x=1&z&n=a%20%2F%c3"},
        {"http://h?", "http://h/p?n=a%20%2F%c3"},
        {"http://h?a=", "http://h/p?n=a%20%2F%c3"},
        {"http://h#f", "http://h/p?n=a%20%2F%c3"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char memory[256] = "";
        struct buf out;
        buf_init(&out, memory, sizeof(memory) - 1);
        target_url_put(&out, cases[i].base, "/p");
        target_url_put_parameter(&out, "n", SLICE_LITERAL("a /\xc3"));
        assert_int_equal(strcasecmp(memory, cases[i].url), 0);
    }
    bool is_empty = true;
    assert_true(target_url_has_parameter("http://h/?ab=1&a=2", "a", &is_empty));
    assert_false(is_empty);
    assert_true(target_url_has_parameter("http://h/?ab=1&a=", "a", &is_empty));
    assert_true(is_empty);
    assert_true(target_url_has_parameter("http://h/?a", "a", &is_empty));
    assert_false(target_url_has_parameter("http://h/?ab=1#&a=1", "a", &is_empty));
    assert_false(target_url_has_parameter("http://h/a=1", "a", &is_empty));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_verdict),
        cmocka_unit_test(faults_are_passing_trouble_but_for_certificates),
        cmocka_unit_test(the_reason_is_what_the_upstream_says),
        cmocka_unit_test(a_long_reason_is_cut_between_characters),
        cmocka_unit_test(a_reader_walks_members_and_elements),
        cmocka_unit_test(a_reader_stays_bad),
        cmocka_unit_test(only_plain_numbers_are_taken),
        cmocka_unit_test(a_path_goes_behind_the_base_and_before_its_query),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
