/* dedup: what is remembered, for how long, and what is taken back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "store/dedup.h"

static struct dedup *open_set(uint64_t entries, uint64_t ttl_ns)
{
    struct dedup *dedup = NULL;
    struct err err = {0};
    assert_int_equal(dedup_open(&dedup, entries, ttl_ns, &err), 0);
    return dedup;
}

static struct dedup_print print_of(const struct dedup *dedup, uint32_t n)
{
    char text[16];
    int length = snprintf(text, sizeof text, "key-%u", n);
    return dedup_fingerprint(dedup, DEDUP_RECEIPT,
                             (struct slice){(const uint8_t *)text, (size_t)length});
}

static void put(struct dedup *dedup, uint32_t n, uint64_t lsn, int64_t at_ns)
{
    struct dedup_entry entry = {.print = print_of(dedup, n), .first_lsn = lsn, .seen_at_ns = at_ns};
    dedup_insert(dedup, &entry, (struct slice){NULL, 0});
}

static void finds_every_key_and_no_other(void **state)
{
    (void)state;
    struct dedup *dedup = open_set(5000, NS_S);
    for (uint32_t i = 0; i < 5000; i++) {
        put(dedup, i, i + 1, 0);
    }
    for (uint32_t i = 0; i < 5000; i++) {
        const struct dedup_entry *entry = dedup_find(dedup, print_of(dedup, i), 1);
        assert_non_null(entry);
        assert_int_equal(entry->first_lsn, i + 1);
        assert_null(dedup_find(dedup, print_of(dedup, i + 5000), 1));
    }
    dedup_validate(dedup);
    dedup_close(dedup);
}

static void namespaces_do_not_meet(void **state)
{
    (void)state;
    struct dedup *dedup = open_set(10, NS_S);
    struct dedup_print a = dedup_fingerprint(dedup, DEDUP_RECEIPT, SLICE_LITERAL("k"));
    struct dedup_print b = dedup_fingerprint(dedup, DEDUP_RECORD(3), SLICE_LITERAL("k"));
    assert_true(a.low != b.low || a.high != b.high);
    dedup_close(dedup);
}

static void full_set_forgets_the_oldest_and_counts_it(void **state)
{
    (void)state;
    struct dedup *dedup = open_set(100, NS_S);
    for (uint32_t i = 0; i < 1000; i++) {
        put(dedup, i, i + 1, 0);
        dedup_validate(dedup);
    }
    assert_int_equal(dedup_count(dedup), 100);
    assert_int_equal(dedup_evicted(dedup), 900);
    assert_null(dedup_find(dedup, print_of(dedup, 899), 0));
    for (uint32_t i = 900; i < 1000; i++) {
        assert_non_null(dedup_find(dedup, print_of(dedup, i), 0));
    }
    dedup_close(dedup);
}

static void key_is_free_again_after_its_ttl(void **state)
{
    (void)state;
    struct dedup *dedup = open_set(100, 1000);
    put(dedup, 1, 1, 5000);
    assert_non_null(dedup_find(dedup, print_of(dedup, 1), 6000));
    assert_null(dedup_find(dedup, print_of(dedup, 1), 6001));
    put(dedup, 1, 2, 6001); /* before the old one has been dropped */
    dedup_expire(dedup, 6500);
    assert_int_equal(dedup_count(dedup), 1);
    assert_int_equal(dedup_find(dedup, print_of(dedup, 1), 6500)->first_lsn, 2);
    dedup_close(dedup);
}

static void failed_entries_are_taken_back_and_only_they(void **state)
{
    (void)state;
    struct dedup *dedup = open_set(1000, NS_S);
    for (uint32_t i = 0; i < 500; i++) {
        put(dedup, i, i + 1, 0);
    }
    dedup_take_back(dedup, 301);
    assert_int_equal(dedup_count(dedup), 300);
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(dedup_find(dedup, print_of(dedup, i), 0) != NULL, i < 300);
    }
    dedup_validate(dedup);
    dedup_close(dedup);
}

static void errors_text_comes_back_until_it_is_overwritten(void **state)
{
    (void)state;
    static uint8_t text[16384];
    memset(text, 'e', sizeof text);
    struct dedup *dedup = open_set(1000, NS_S);
    for (uint32_t i = 0; i < 100; i++) { /* 1.6 MiB through a ring of 1 MiB */
        struct dedup_entry entry = {.print = print_of(dedup, i), .first_lsn = i + 1};
        text[0] = (uint8_t)i;
        dedup_insert(dedup, &entry, (struct slice){text, 16000});
    }
    assert_int_equal(dedup_errors(dedup, dedup_find(dedup, print_of(dedup, 0), 0)).bytes, 0);
    for (uint32_t i = 50; i < 100; i++) {
        struct slice errors = dedup_errors(dedup, dedup_find(dedup, print_of(dedup, i), 0));
        assert_int_equal(errors.bytes, 16000);
        assert_int_equal(errors.data[0], i);
    }
    dedup_close(dedup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_key_and_no_other),
        cmocka_unit_test(namespaces_do_not_meet),
        cmocka_unit_test(full_set_forgets_the_oldest_and_counts_it),
        cmocka_unit_test(key_is_free_again_after_its_ttl),
        cmocka_unit_test(failed_entries_are_taken_back_and_only_they),
        cmocka_unit_test(errors_text_comes_back_until_it_is_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
