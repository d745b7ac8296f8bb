/*
 * scan_find against a naive search, every kernel this machine has: every length of hay up to 200 and
 * of needle up to 70, with the page behind (and the page before) the hay out of bounds.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/scan.h"
#include "store/scan_find.h"

#define HAY_MAX    200u
#define NEEDLE_MAX 70u

static uint8_t *page; /* readable, with an unreadable page on either side */
static size_t page_bytes;
static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t oracle(struct slice hay, size_t from, struct slice needle)
{
    for (size_t i = from; i + needle.bytes <= hay.bytes; i++) {
        size_t same = 0;
        while (same < needle.bytes && hay.data[i + same] == needle.data[same]) {
            same++;
        }
        if (same == needle.bytes) {
            return i;
        }
    }
    return hay.bytes;
}

static const enum scan_find_kernel kernels[] = {SCAN_FIND_SCALAR, SCAN_FIND_AVX2};

static void expect_as_oracle(struct slice hay, size_t from, struct slice needle)
{
    size_t expected = oracle(hay, from, needle);
    for (size_t k = 0; k < ARRAY_COUNT(kernels); k++) {
        if (!scan_find_has(kernels[k])) {
            continue;
        }
        size_t found = scan_find_by(kernels[k], hay, from, needle);
        if (found != expected) {
            fail_msg("kernel %d: %zu instead of %zu; hay %zu bytes from %zu, needle %zu bytes",
                     (int)kernels[k], found, expected, hay.bytes, from, needle.bytes);
        }
    }
}

static int open_page(void **state)
{
    (void)state;
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, 3 * page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + page_bytes, page_bytes, PROT_READ | PROT_WRITE) != 0) {
        return -1;
    }
    page = map + page_bytes;
    const char *seed = getenv("SLUICE_TEST_SEED");
    random_state =
        seed == NULL ? (uint64_t)getpid() * 0x9e3779b97f4a7c15u | 1 : strtoull(seed, NULL, 0);
    print_message("  repeat with SLUICE_TEST_SEED=%llu\n", (unsigned long long)random_state);
    return 0;
}

static int close_page(void **state)
{
    (void)state;
    return munmap(page - page_bytes, 3 * page_bytes);
}

static void fill(uint8_t *to, size_t bytes, unsigned letters)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)('a' + next_random() % letters);
    }
}

/* Usually somewhere in the hay, sometimes changed by one byte. */
static struct slice needle_for(uint8_t *memory, struct slice hay, size_t bytes, unsigned letters)
{
    fill(memory, bytes, letters);
    if (bytes > 0 && bytes <= hay.bytes && next_random() % 4 != 0) {
        memcpy(memory, hay.data + next_random() % (hay.bytes - bytes + 1), bytes);
        if (next_random() % 3 == 0) {
            memory[next_random() % bytes] ^= 1;
        }
    }
    return (struct slice){memory, bytes};
}

static void every_length_at_a_page_end_is_as_the_oracle_says(void **state)
{
    (void)state;
    uint8_t memory[NEEDLE_MAX];
    for (size_t hay_bytes = 0; hay_bytes <= HAY_MAX; hay_bytes++) {
        for (size_t needle_bytes = 1; needle_bytes <= NEEDLE_MAX; needle_bytes++) {
            unsigned letters = 1 + (unsigned)(next_random() % 3);
            struct slice hay = {page + page_bytes - hay_bytes, hay_bytes};
            fill(page + page_bytes - hay_bytes, hay_bytes, letters);
            struct slice needle = needle_for(memory, hay, needle_bytes, letters);
            expect_as_oracle(hay, 0, needle);
            expect_as_oracle(hay, next_random() % (hay_bytes + 1), needle);
        }
    }
}

static void nothing_before_the_hay_is_read(void **state)
{
    (void)state;
    uint8_t memory[NEEDLE_MAX];
    for (size_t hay_bytes = 0; hay_bytes <= HAY_MAX; hay_bytes++) {
        struct slice hay = {page, hay_bytes};
        fill(page, hay_bytes, 2);
        expect_as_oracle(hay, 0, needle_for(memory, hay, 1 + next_random() % NEEDLE_MAX, 2));
    }
}

/* The needle lies at a page's end as well: it is not read beyond either. */
static void the_last_place_is_found_at_every_length(void **state)
{
    (void)state;
    static uint8_t hay_memory[HAY_MAX];
    for (size_t hay_bytes = 1; hay_bytes <= HAY_MAX; hay_bytes++) {
        for (size_t bytes = 1; bytes <= hay_bytes; bytes++) {
            uint8_t *needle_memory = page + page_bytes - bytes;
            memset(hay_memory, '.', hay_bytes);
            memset(needle_memory, 'n', bytes);
            memcpy(hay_memory + hay_bytes - bytes, needle_memory, bytes);
            struct slice hay = {hay_memory, hay_bytes};
            struct slice needle = {needle_memory, bytes};
            for (size_t k = 0; k < ARRAY_COUNT(kernels); k++) {
                if (scan_find_has(kernels[k])) {
                    assert_int_equal(scan_find_by(kernels[k], hay, 0, needle), hay_bytes - bytes);
                }
            }
        }
    }
}

static void walking_from_hit_to_hit_finds_all_overlapping_ones(void **state)
{
    (void)state;
    struct slice hay =
        SLICE_LITERAL("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    size_t count = 0;
    for (size_t at = scan_find(hay, 0, SLICE_LITERAL("aaa")); at < hay.bytes;
         at = scan_find(hay, at + 1, SLICE_LITERAL("aaa"))) {
        assert_int_equal(at, count);
        count++;
    }
    assert_int_equal(count, hay.bytes - 2);
}

static void an_empty_needle_is_found_where_the_search_begins(void **state)
{
    (void)state;
    struct slice hay = SLICE_LITERAL("hay");
    for (size_t from = 0; from <= hay.bytes; from++) {
        assert_int_equal(scan_find(hay, from, (struct slice){NULL, 0}), from);
    }
    assert_int_equal(scan_find((struct slice){NULL, 0}, 0, (struct slice){NULL, 0}), 0);
}

static void what_cannot_be_there_gives_the_end(void **state)
{
    (void)state;
    struct slice hay = SLICE_LITERAL("hay");
    assert_int_equal(scan_find(hay, 0, SLICE_LITERAL("hays")), 3);
    assert_int_equal(scan_find(hay, 1, SLICE_LITERAL("hay")), 3);
    assert_int_equal(scan_find(hay, 3, SLICE_LITERAL("y")), 3);
    assert_int_equal(scan_find(hay, 4, SLICE_LITERAL("y")), 3);
    assert_int_equal(scan_find(hay, SIZE_MAX, SLICE_LITERAL("ay")), 3);
    assert_int_equal(scan_find(hay, SIZE_MAX, SLICE_LITERAL("")), 3);
    assert_int_equal(scan_find((struct slice){NULL, 0}, 0, SLICE_LITERAL("y")), 0);
}

static void every_byte_value_is_searched_for(void **state)
{
    (void)state;
    uint8_t hay[256];
    for (unsigned i = 0; i < 256; i++) {
        hay[i] = (uint8_t)i;
    }
    for (unsigned i = 0; i < 256; i++) {
        expect_as_oracle((struct slice){hay, 256}, 0, (struct slice){hay + i, 1});
        expect_as_oracle((struct slice){hay, 256}, 0, (struct slice){hay + i, i < 255 ? 2 : 1});
    }
}

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Every position is a candidate that differs at its end only: without the budget each search
 * compares 1.5 M times 512 KiB, some ten seconds; with it, milliseconds. */
static void a_needle_made_to_be_slow_is_found_in_linear_time(void **state)
{
    (void)state;
    size_t hay_bytes = MIB(2);
    size_t needle_bytes = KIB(512);
    uint8_t *hay = test_malloc(hay_bytes);
    uint8_t *needle = test_malloc(needle_bytes);
    struct slice whole = {hay, hay_bytes};
    struct slice wanted = {needle, needle_bytes};
    memset(hay, 'a', hay_bytes);
    memset(needle, 'a', needle_bytes);
    needle[needle_bytes - 2] = 'b';
    double begin = cpu_s();
    for (size_t k = 0; k < ARRAY_COUNT(kernels); k++) {
        if (!scan_find_has(kernels[k])) {
            continue;
        }
        hay[hay_bytes - 2] = 'a';
        assert_int_equal(scan_find_by(kernels[k], whole, 0, wanted), hay_bytes);
        hay[hay_bytes - 2] = 'b';
        assert_int_equal(scan_find_by(kernels[k], whole, 0, wanted), hay_bytes - needle_bytes);
    }
    assert_true(cpu_s() - begin < 3);
    test_free(hay);
    test_free(needle);
}

/* The change from one way to the other in the middle of a search loses no position. */
static void a_search_that_changes_its_way_finds_the_same(void **state)
{
    (void)state;
    static uint8_t hay[KIB(4)];
    static uint8_t needle[KIB(1)];
    for (size_t place = 0; place + sizeof needle <= sizeof hay; place += 1 + place / 8) {
        memset(hay, 'a', sizeof hay);
        memset(needle, 'a', sizeof needle);
        needle[sizeof needle / 2] = 'b';
        memcpy(hay + place, needle, sizeof needle);
        expect_as_oracle((struct slice){hay, sizeof hay}, 0, (struct slice){needle, sizeof needle});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_at_a_page_end_is_as_the_oracle_says),
        cmocka_unit_test(nothing_before_the_hay_is_read),
        cmocka_unit_test(the_last_place_is_found_at_every_length),
        cmocka_unit_test(walking_from_hit_to_hit_finds_all_overlapping_ones),
        cmocka_unit_test(an_empty_needle_is_found_where_the_search_begins),
        cmocka_unit_test(what_cannot_be_there_gives_the_end),
        cmocka_unit_test(every_byte_value_is_searched_for),
        cmocka_unit_test(a_needle_made_to_be_slow_is_found_in_linear_time),
        cmocka_unit_test(a_search_that_changes_its_way_finds_the_same),
    };
    return cmocka_run_group_tests_name("scan_find", tests, open_page, close_page);
}
