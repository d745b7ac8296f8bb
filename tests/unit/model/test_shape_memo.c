#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>

#include "model/shape_memo.h"

#define PAGE_BYTES 4096u

static uint8_t *guard_end;
static struct shape_memo memo;

static int fixture_open(void **state)
{
    (void)state;
    uint8_t *pages =
        mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    guard_end = pages + PAGE_BYTES;
    return mprotect(guard_end, PAGE_BYTES, PROT_NONE);
}

/* text with its key between the first two quotes; a third quote ends it. */
static bool learn(uint32_t n, const char *text, enum field field)
{
    size_t bytes = strlen(text);
    const char *open = strchr(text, '"');
    const char *close = strchr(open + 1, '"');
    struct shape_member member = {
        .text = {(const uint8_t *)text, bytes},
        .key = {(const uint8_t *)open + 1, (size_t)(close - open) - 1},
        .field = field,
        .is_string = text[bytes - 1] == '"',
    };
    return shape_memo_learn(&memo, n, &member);
}

static bool is_at(uint32_t n, const uint8_t *p, size_t left)
{
    return shape_piece_is_at(&memo.pieces[n], p, (uint32_t)left);
}

static void a_piece_is_found_only_where_every_byte_of_it_is(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"a\":",
                                        "{\"level\":\"",
                                        ",\"correlation_id\":\"",
                                        ", \"x_correlation_id\": \"",
                                        ",\"twenty_seven_bytes_of_a_ke\":\"",
                                        ",\"a_key_of_28_bytes_and_number\":"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        size_t bytes = strlen(texts[i]);
        memset(&memo, 0, sizeof memo);
        assert_true(learn(0, texts[i], FIELD_UNKNOWN));
        for (size_t room = 0; room < 80; room++) {
            uint8_t *p = guard_end - room;
            memset(p, '#', room);
            memcpy(p, texts[i], bytes < room ? bytes : room);
            assert_int_equal(is_at(0, p, room), room >= bytes);
            for (size_t at = 0; at < bytes && room >= bytes; at++) {
                p[at] ^= 0x20;
                assert_false(is_at(0, p, room));
                p[at] ^= 0x20;
            }
        }
    }
}

static void what_could_mean_something_else_elsewhere_is_not_learned(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof memo);
    assert_true(learn(0, "{\"a\":\"", FIELD_UNKNOWN));
    static const char *const texts[] = {",\n\"b\":1", ",\t\"b\":1", ",\"b\\\\\":1",
                                        ",\"\xc3\xa4\":1", ",\"b\x7f\":1"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        assert_false(learn(1, texts[i], FIELD_UNKNOWN));
        assert_int_equal(memo.count, 1);
    }
    assert_false(learn(1, ",\"twenty_seven_bytes_of_a_key\":\" ", FIELD_UNKNOWN));
    assert_int_equal(memo.count, 1);
}

static void a_piece_learned_again_ends_the_memo(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof memo);
    assert_true(learn(0, "{\"level\":\"", FIELD_LEVEL));
    assert_true(learn(1, ",\"service\":\"", FIELD_SERVICE));
    assert_true(learn(2, ",\"x\":", FIELD_UNKNOWN));
    assert_int_equal(memo.count, 3);
    assert_int_equal(memo.pieces[2].seen, FIELD_BIT(FIELD_LEVEL) | FIELD_BIT(FIELD_SERVICE));
    assert_true(learn(1, ",\"message\":\"", FIELD_MESSAGE));
    assert_int_equal(memo.count, 2);
    assert_int_equal(memo.pieces[1].seen, FIELD_BIT(FIELD_LEVEL) | FIELD_BIT(FIELD_MESSAGE));
}

static void a_full_memo_learns_nothing_more(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof memo);
    for (uint32_t n = 0; n < SHAPE_PIECES_MAX; n++) {
        assert_true(learn(n, ",\"x\":\"", FIELD_UNKNOWN));
    }
    assert_false(learn(SHAPE_PIECES_MAX, ",\"x\":\"", FIELD_UNKNOWN));
    assert_int_equal(memo.count, SHAPE_PIECES_MAX);
}

static void a_shape_that_comes_by_turns_with_another_is_kept(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof memo);
    assert_true(shape_memo_departs(&memo, 0));
    assert_true(learn(0, "{\"level\":\"", FIELD_LEVEL));
    assert_true(learn(1, ",\"x\":", FIELD_UNKNOWN));
    assert_true(shape_memo_departs(&memo, 2));
    /* Each time it takes as many in a row again. */
    for (uint32_t times = 0; times < 3; times++) {
        for (uint32_t n = 0; n < SHAPE_DEPARTURES_MAX; n++) {
            assert_false(shape_memo_departs(&memo, 1));
        }
        assert_true(shape_memo_departs(&memo, 1));
    }
}

static void the_key_of_a_piece_is_where_it_was_met(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof memo);
    assert_true(learn(0, "{ \"host\": \"", FIELD_UNKNOWN));
    const uint8_t *data = (const uint8_t *)"\n\n{ \"host\": \"x\"}";
    memo.starts[0] = 2;
    struct slice key = shape_memo_key(&memo, 0, data);
    assert_int_equal(key.bytes, 4);
    assert_ptr_equal(key.data, data + 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_piece_is_found_only_where_every_byte_of_it_is),
        cmocka_unit_test(what_could_mean_something_else_elsewhere_is_not_learned),
        cmocka_unit_test(a_piece_learned_again_ends_the_memo),
        cmocka_unit_test(a_full_memo_learns_nothing_more),
        cmocka_unit_test(a_shape_that_comes_by_turns_with_another_is_kept),
        cmocka_unit_test(the_key_of_a_piece_is_where_it_was_met),
    };
    return cmocka_run_group_tests(tests, fixture_open, NULL);
}
