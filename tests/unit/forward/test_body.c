#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/buf.h"
#include "core/mem.h"
#include "forward/body.h"

static void expect_body(const struct body *body, const char *text)
{
    assert_int_equal(body->bytes, strlen(text));
    assert_memory_equal(body->data, text, body->bytes);
}

static void what_is_put_is_there_in_order(void **state)
{
    (void)state;
    struct body body;
    body_init(&body, 1000);
    body_put_text(&body, "a");
    body_put_u64(&body, UINT64_MAX);
    body_put_i64(&body, INT64_MIN);
    body_put_slice(&body, SLICE_LITERAL("b"));
    body_put(&body, NULL, 0);
    body_put_json_string(&body, SLICE_LITERAL("q\"\n\x01"));
    memcpy(body_room(&body, 3), "end", 3);
    body_add(&body, 2);
    expect_body(&body, "a18446744073709551615-9223372036854775808b\"q\\\"\\n\\u0001\"en");
    assert_false(body.is_over);
    body_free(&body);
    body_free(&body);
}

static void beyond_the_limit_is_refused_whole_and_nothing_follows_until_cut(void **state)
{
    (void)state;
    struct body body;
    body_init(&body, 8);
    body_put_text(&body, "12345678");
    assert_false(body.is_over); /* exactly the limit fits */
    body_cut(&body, 6);
    body_put_text(&body, "abc");
    assert_true(body.is_over);
    body_put_text(&body, "x"); /* would fit, but would follow a hole */
    expect_body(&body, "123456");
    body_cut(&body, 6);
    body_put_text(&body, "xy");
    expect_body(&body, "123456xy");
    assert_null(body_room(&body, 1));
    assert_true(body.is_over);
    body_reset(&body);
    assert_false(body.is_over);
    assert_true(body.capacity <= 8);
    assert_null(body_room(&body, SIZE_MAX));
    body_free(&body);
}

static void json_strings_keep_to_the_limit_to_the_byte(void **state)
{
    (void)state;
    static const char text[] = "\x01\x02 \xff plain \"quoted\"";
    const struct slice slice = {(const uint8_t *)text, sizeof text - 1};
    char memory[200];
    struct buf want;
    buf_init(&want, memory, sizeof memory);
    buf_put_json_string(&want, slice);
    for (size_t limit = 0; limit < want.bytes + 3; limit++) {
        struct body body;
        body_init(&body, limit);
        body_put_json_string(&body, slice);
        assert_int_equal(body.is_over, limit < want.bytes);
        assert_int_equal(body.bytes, limit < want.bytes ? 0 : want.bytes);
        if (body.bytes > 0) {
            assert_memory_equal(body.data, want.data, want.bytes);
        }
        body_free(&body);
    }
}

/* A model: the same puts into plain memory. */
static void random_puts_and_cuts_equal_plain_memory(void **state)
{
    (void)state;
    static uint8_t model[70000];
    uint8_t piece[5000];
    size_t have = 0;
    uint64_t seed = 42;
    struct body body;
    body_init(&body, sizeof model);
    for (int i = 0; i < 5000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const size_t bytes = (seed >> 33) % sizeof piece;
        memset(piece, (int)(seed >> 56), bytes);
        if ((seed >> 20) % 16 == 0) {
            have = have > 0 ? (seed >> 33) % have : 0;
            body_cut(&body, have);
        } else if (bytes <= sizeof model - have) {
            memcpy(model + have, piece, bytes);
            have += bytes;
            body_put(&body, piece, bytes);
            assert_false(body.is_over);
        } else {
            body_put(&body, piece, bytes);
            assert_true(body.is_over);
            have = have / 2;
            body_cut(&body, have);
        }
        assert_int_equal(body.bytes, have);
    }
    assert_memory_equal(body.data, model, have);
    body_free(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_there_in_order),
        cmocka_unit_test(beyond_the_limit_is_refused_whole_and_nothing_follows_until_cut),
        cmocka_unit_test(json_strings_keep_to_the_limit_to_the_byte),
        cmocka_unit_test(random_puts_and_cuts_equal_plain_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
