/* run_batch: the elements of both shapes, byte for byte; everything else refused, late or early. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "model/run.h"
#include "model/run_batch.h"

static struct run_batch batch;
static struct issue_list issues;
static char room[16384];

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static const char *issues_text(void)
{
    struct buf out;
    buf_init(&out, room, sizeof room - 1);
    issue_list_write(&out, "body", &issues);
    room[out.bytes] = '\0';
    return room;
}

/* The elements, each followed by '|'. */
static enum run_batch_result walk(struct slice body, char elements[4096])
{
    struct slice element;
    uint32_t index = 0;
    uint32_t next = 0;
    enum run_batch_result result;
    struct buf out;
    buf_init(&out, elements, 4095);
    run_batch_open(&batch, body);
    while ((result = run_batch_next(&batch, &element, &index, &issues)) == RUN_BATCH_ELEMENT) {
        assert_int_equal(index, next++);
        assert_int_equal(issues.count, 0);
        buf_put_slice(&out, element);
        buf_put_char(&out, '|');
    }
    elements[out.bytes] = '\0';
    assert_int_equal(issues.count, result == RUN_BATCH_INVALID ? 1 : 0);
    return result;
}

static void expect_elements(const char *body, enum run_batch_shape shape, const char *expected)
{
    char elements[4096];
    struct slice element;
    uint32_t index;
    assert_int_equal(walk(text_slice(body), elements), RUN_BATCH_END);
    assert_string_equal(elements, expected);
    assert_int_equal(batch.shape, shape);
    /* And it stays at its end. */
    assert_int_equal(run_batch_next(&batch, &element, &index, &issues), RUN_BATCH_END);
}

static void expect_refusal(const char *body, const char *issue)
{
    char elements[4096];
    char expected[1024];
    assert_int_equal(walk(text_slice(body), elements), RUN_BATCH_INVALID);
    snprintf(expected, sizeof expected, "[%s]", issue);
    assert_string_equal(issues_text(), expected);
}

static void elements_come_byte_for_byte(void **state)
{
    (void)state;
    expect_elements("[]", RUN_BATCH_ARRAY, "");
    expect_elements(" [ ] ", RUN_BATCH_ARRAY, "");
    expect_elements("[{\"a\" : 1} ,\n{}]", RUN_BATCH_ARRAY, "{\"a\" : 1}|{}|");
    expect_elements("[1,\"]\",[[]],null]\n", RUN_BATCH_ARRAY, "1|\"]\"|[[]]|null|");
    expect_elements("{\"runs\":[]}", RUN_BATCH_OBJECT, "");
    expect_elements(" { \"runs\" : [ {\"a\":1} , {} ] } ", RUN_BATCH_OBJECT, "{\"a\":1}|{}|");
    expect_elements("{\"x\":[1],\"y\":{\"runs\":7},\"\\u0072uns\":[{}],\"z\":1,\"x\":\"]\"}",
                    RUN_BATCH_OBJECT, "{}|");
}

static void anything_else_is_refused_as_pydantic_does(void **state)
{
    (void)state;
    expect_refusal("", "{\"type\":\"missing\",\"loc\":[\"body\"],\"msg\":\"Field required\","
                       "\"input\":null}");
    expect_refusal(" 7 ", "{\"type\":\"list_type\",\"loc\":[\"body\"],\"msg\":\"Input should be a "
                          "valid list\",\"input\":7}");
    expect_refusal("\"runs\"", "{\"type\":\"list_type\",\"loc\":[\"body\"],\"msg\":\"Input should "
                               "be a valid list\",\"input\":\"runs\"}");
    expect_refusal(" {} ", "{\"type\":\"missing\",\"loc\":[\"body\",\"runs\"],\"msg\":\"Field "
                           "required\",\"input\":{}}");
    expect_refusal("{\"run\":[]}",
                   "{\"type\":\"missing\",\"loc\":[\"body\",\"runs\"],\"msg\":\"Field "
                   "required\",\"input\":{\"run\":[]}}");
    expect_refusal("{\"runs\":{\"a\":1},\"b\":2}",
                   "{\"type\":\"list_type\",\"loc\":[\"body\",\"runs\"],\"msg\":\"Input should be "
                   "a valid list\",\"input\":{\"a\":1}}");
    expect_refusal("{\"runs\":null}",
                   "{\"type\":\"list_type\",\"loc\":[\"body\",\"runs\"],\"msg\":\"Input should be "
                   "a valid list\",\"input\":null}");
}

static void a_second_runs_voids_the_batch(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"runs\":[{}],\"runs\":[{}]}",
        "{\"runs\":[],\"x\":1,\"run\\u0073\":[]}",
        "{\"runs\":1,\"runs\":[{}]}",
        "{\"runs\":[{}],\"runs\":1}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        char elements[4096];
        assert_int_equal(walk(text_slice(bodies[i]), elements), RUN_BATCH_INVALID);
        assert_non_null(strstr(issues_text(), "\"loc\":[\"body\",\"runs\"],\"msg\":\"Value error, "
                                              "duplicate key\""));
    }
}

static void malformed_json_voids_the_batch_wherever_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        unsigned offset;
    } cases[] = {
        {"[", 1},
        {"[{}", 3},
        {"[{},]", 4},
        {"[{} {}]", 4},
        {"[{}]]", 4},
        {"[,{}]", 1},
        {"[{}] []", 5},
        {"[{\"a\":}]", 6},
        {"{\"runs\":[{}]", 12},
        {"{\"runs\":[{}],}", 13},
        {"{\"runs\":[{}]}x", 13},
        {"{\"runs\":[{}] 1}", 13},
        {"{\"runs\":[{}}", 11},
        {"{\"a\":1 \"runs\":[]}", 7},
        {"{\"runs\"}", 7},
        {"tru", 0},
        {"   ", 3},
        {"{", 1},
        {"{\"runs\":[],\"a\":nul}", 15},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char elements[4096];
        char place[64];
        assert_int_equal(walk(text_slice(cases[i].body), elements), RUN_BATCH_INVALID);
        snprintf(place, sizeof place, "[{\"type\":\"json_invalid\",\"loc\":[\"body\",%u],",
                 cases[i].offset);
        if (strstr(issues_text(), place) == NULL) {
            fail_msg("%s: %s", cases[i].body, issues_text());
        }
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "[{\"a\":\"\\u00fc\"},{\"b\":[1,{\"c\":null}]}]",
        "{\"x\":{\"y\":[1]},\"runs\":[{\"a\":\"b\"},{}],\"z\":\"w\"}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        for (size_t cut = 0; cut < strlen(bodies[i]); cut++) {
            char elements[4096];
            uint8_t *exact = mem_alloc(cut == 0 ? 1 : cut);
            memcpy(exact, bodies[i], cut);
            assert_int_equal(walk((struct slice){exact, cut}, elements), RUN_BATCH_INVALID);
            mem_free(exact);
        }
    }
}

static void issues_of_an_element_are_where_pydantic_puts_them(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        const char *place;
    } cases[] = {
        {"[{},{\"event_id\":1}]", "\"loc\":[\"body\",1,\"event_id\"]"},
        {"{\"runs\":[{},{\"event_id\":1}]}", "\"loc\":[\"body\",\"runs\",1,\"event_id\"]"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        static struct run_fields fields;
        static struct run_judgement judgement;
        uint8_t scratch[256];
        struct slice element;
        uint32_t index;
        run_batch_open(&batch, text_slice(cases[i].body));
        assert_int_equal(run_batch_next(&batch, &element, &index, &issues), RUN_BATCH_ELEMENT);
        assert_int_equal(run_batch_next(&batch, &element, &index, &issues), RUN_BATCH_ELEMENT);
        run_read(&fields, &judgement, RUN_CREATE, element, scratch, index);
        assert_int_equal(judgement.judged, RUN_BAD_SHAPE);
        run_batch_locate(&batch, &judgement.issues);
        issues = judgement.issues;
        assert_non_null(strstr(issues_text(), cases[i].place));
    }
}

/* The same depth as in a request of its own, in both shapes; more than one window of the index. */
static void large_and_deep_elements_come_whole(void **state)
{
    (void)state;
    struct buf body;
    struct buf one;
    buf_init(&body, mem_alloc(1 << 20), 1 << 20);
    buf_init(&one, mem_alloc(8192), 8192);
    for (unsigned depth = 0; depth < 64; depth++) {
        buf_printf(&one, "{\"key%060u\":", depth);
    }
    buf_put_char(&one, '1');
    for (unsigned depth = 0; depth < 64; depth++) {
        buf_put_char(&one, '}');
    }
    for (unsigned wrapped = 0; wrapped < 2; wrapped++) {
        struct slice found;
        uint32_t index;
        buf_reset(&body);
        buf_put_text(&body, wrapped ? "{\"x\":[],\"runs\":[" : "[");
        for (unsigned i = 0; i < 100; i++) {
            buf_put_text(&body, i == 0 ? "" : ",");
            buf_put(&body, one.data, one.bytes);
        }
        buf_put_text(&body, wrapped ? "]}" : "]");
        assert_false(body.is_truncated || one.is_truncated);
        run_batch_open(&batch, (struct slice){body.data, body.bytes});
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(run_batch_next(&batch, &found, &index, &issues), RUN_BATCH_ELEMENT);
            assert_true(slice_equal(found, (struct slice){one.data, one.bytes}));
        }
        assert_int_equal(run_batch_next(&batch, &found, &index, &issues), RUN_BATCH_END);
    }
    mem_free(one.data);
    mem_free(body.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_come_byte_for_byte),
        cmocka_unit_test(anything_else_is_refused_as_pydantic_does),
        cmocka_unit_test(a_second_runs_voids_the_batch),
        cmocka_unit_test(malformed_json_voids_the_batch_wherever_it_is),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(issues_of_an_element_are_where_pydantic_puts_them),
        cmocka_unit_test(large_and_deep_elements_come_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
