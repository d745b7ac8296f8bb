/* base: slices compare by bytes, roles belong to threads, numbers round as they say. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/base.h"

#include <pthread.h>

static void slices_are_equal_by_length_and_bytes(void **state)
{
    (void)state;
    struct slice none = {NULL, 0};
    assert_true(slice_equal(none, none));
    assert_true(slice_equal(none, SLICE_LITERAL("")));
    assert_true(slice_equal(SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0b")));
    assert_false(slice_equal(SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0c")));
    assert_false(slice_equal(SLICE_LITERAL("ab"), SLICE_LITERAL("abc")));
    assert_false(slice_equal(SLICE_LITERAL("ab"), SLICE_LITERAL("aB")));
}

static void nocase_folds_ascii_letters_and_nothing_else(void **state)
{
    (void)state;
    assert_true(
        slice_equal_nocase(SLICE_LITERAL("Content-LENGTH"), SLICE_LITERAL("cONTENT-length")));
    assert_false(slice_equal_nocase(SLICE_LITERAL("ab"), SLICE_LITERAL("abc")));
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            uint8_t x = (uint8_t)a;
            uint8_t y = (uint8_t)b;
            bool is_letter = (a >= 'A' && a <= 'Z') || (a >= 'a' && a <= 'z');
            bool expected = a == b || (is_letter && (a ^ b) == 0x20);
            assert_int_equal(slice_equal_nocase((struct slice){&x, 1}, (struct slice){&y, 1}),
                             expected);
        }
    }
}

static void *role_elsewhere(void *argument)
{
    *(enum role *)argument = role_current();
    role_set(ROLE_WRITER);
    return NULL;
}

static void role_belongs_to_the_thread(void **state)
{
    (void)state;
    enum role seen = ROLE_MAIN;
    pthread_t thread;
    role_set(ROLE_SHARD);
    ASSERT_ROLE(ROLE_SHARD);
    assert_int_equal(pthread_create(&thread, NULL, role_elsewhere, &seen), 0);
    pthread_join(thread, NULL);
    assert_int_equal(seen, ROLE_ANY);
    assert_int_equal(role_current(), ROLE_SHARD);
    role_set(ROLE_ANY);
    ASSERT_ROLE(ROLE_WRITER);
}

static void alignment_rounds_up_to_the_next_multiple(void **state)
{
    (void)state;
    assert_int_equal(align_up(0, 4096), 0);
    assert_int_equal(align_up(1, 4096), 4096);
    assert_int_equal(align_up(4096, 4096), 4096);
    assert_int_equal(align_up(4097, 4096), 8192);
    assert_true(is_power_of_two(1));
    assert_false(is_power_of_two(0));
    assert_false(is_power_of_two(3));
    assert_true(is_power_of_two(1ull << 63));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_are_equal_by_length_and_bytes),
        cmocka_unit_test(nocase_folds_ascii_letters_and_nothing_else),
        cmocka_unit_test(role_belongs_to_the_thread),
        cmocka_unit_test(alignment_rounds_up_to_the_next_multiple),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
