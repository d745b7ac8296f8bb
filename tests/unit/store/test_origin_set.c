/* origin_set: the intervals of each node hold exactly what was added, whatever the order, and never
 * forget to say that they are full. Judged against a bitmap. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/mem.h"
#include "sim_disk.h"
#include "store/format.h"
#include "store/origin_set.h"

#define LSNS 400u

static const struct origin_limits small = {.nodes_max = 3, .intervals_max = 16, .all_max = 40};

static struct ulid node(uint8_t number)
{
    return (struct ulid){{number, 0, 0, number}};
}

static void open_set(struct origin_set *set, struct origin_limits limits)
{
    struct err err = {0};
    assert_int_equal(origin_set_open(set, limits, &err), 0);
}

static uint32_t count_runs(const bool *has)
{
    uint32_t runs = 0;
    for (uint32_t i = 1; i <= LSNS; i++) {
        runs += has[i] && !has[i - 1];
    }
    return runs;
}

static void expect_map(const struct origin_set *set, uint8_t number, const bool *has)
{
    struct ulid which = node(number);
    for (uint32_t lsn = 1; lsn <= LSNS; lsn++) {
        assert_int_equal(origin_set_has(set, &which, RECORD_EVENT, lsn), has[lsn]);
    }
}

/* Adds to set and map, if the set takes it, and then it must be exactly when the map has room. */
static void add_both(struct origin_set *set, bool (*maps)[LSNS + 1], uint8_t number, uint64_t first,
                     uint64_t last)
{
    bool after[LSNS + 1];
    memcpy(after, maps[number], sizeof after);
    memset(after + first, true, last - first + 1);
    uint32_t before_runs = count_runs(maps[number]);
    uint32_t runs = count_runs(after);
    uint32_t others = set->interval_count - before_runs;
    bool fits = runs <= set->limits.intervals_max && runs + others <= set->limits.all_max;
    struct ulid which = node(number);
    uint32_t growth = origin_set_growth(set, &which, ORIGIN_ALL_KINDS, first, last);
    assert_int_equal(growth, runs > before_runs ? 1 : 0);
    assert_int_equal(origin_set_add(set, &which, ORIGIN_ALL_KINDS, first, last),
                     fits ? 0 : ERR_LIMIT);
    if (fits) {
        memcpy(maps[number], after, sizeof after);
    }
    assert_int_equal(set->interval_count, others + count_runs(maps[number]));
}

static void random_ranges_are_held_exactly_as_a_bitmap_holds_them(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct sim_random random = {seed};
        struct origin_set set;
        bool maps[3][LSNS + 1] = {{false}};
        open_set(&set, small);
        for (unsigned i = 0; i < 300; i++) {
            uint8_t number = (uint8_t)sim_random_below(&random, 3);
            uint64_t first = 1 + sim_random_below(&random, LSNS);
            uint64_t span = sim_random_below(&random, sim_random_chance(&random, 100) ? 80 : 3);
            add_both(&set, maps, number, first, u64_min(first + span, LSNS));
        }
        for (uint8_t i = 0; i < 3; i++) {
            expect_map(&set, i, maps[i]);
        }
        origin_set_close(&set);
    }
}

static void a_full_set_says_so_and_still_takes_what_closes_a_gap(void **state)
{
    (void)state;
    struct origin_set set;
    struct ulid which = node(1);
    open_set(&set, small);
    for (uint64_t i = 0; i < small.intervals_max; i++) {
        assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 10 * i + 1, 10 * i + 5), 0);
    }
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 1000, 1000), ERR_LIMIT);
    assert_false(origin_set_has(&set, &which, RECORD_EVENT, 1000));
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 6, 10), 0); /* joins two */
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 1000, 1000), 0);
    struct ulid others[] = {node(2), node(3), node(4)};
    assert_int_equal(origin_set_add(&set, &others[0], ORIGIN_ALL_KINDS, 1, 1), 0);
    assert_int_equal(origin_set_add(&set, &others[1], ORIGIN_ALL_KINDS, 1, 1), 0);
    assert_int_equal(origin_set_add(&set, &others[2], ORIGIN_ALL_KINDS, 1, 1), ERR_LIMIT);
    assert_false(origin_set_has(&set, &others[2], RECORD_EVENT, 1));
    origin_set_close(&set);
}

static void the_ends_of_the_range_of_lsns_do_not_wrap(void **state)
{
    (void)state;
    struct origin_set set;
    struct ulid which = node(1);
    open_set(&set, small);
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, UINT64_MAX, UINT64_MAX), 0);
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 1, 1), 0);
    assert_int_equal(set.interval_count, 2);
    assert_true(origin_set_has(&set, &which, RECORD_EVENT, UINT64_MAX));
    assert_false(origin_set_has(&set, &which, RECORD_EVENT, UINT64_MAX - 1));
    assert_int_equal(origin_set_add(&set, &which, ORIGIN_ALL_KINDS, 2, UINT64_MAX - 1), 0);
    assert_int_equal(set.interval_count, 1);
    origin_set_close(&set);
}

static void fill(struct origin_set *set, uint64_t seed)
{
    struct sim_random random = {seed};
    for (unsigned i = 0; i < 60; i++) {
        struct ulid which = node((uint8_t)sim_random_below(&random, 3));
        uint64_t first = 1 + sim_random_below(&random, LSNS);
        (void)!origin_set_add(set, &which, ORIGIN_ALL_KINDS, first,
                              first + sim_random_below(&random, 4));
    }
}

static void a_set_comes_back_from_its_bytes(void **state)
{
    (void)state;
    static uint8_t bytes[4096];
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct origin_set set;
        struct origin_set back;
        struct origin_set copy;
        open_set(&set, small);
        open_set(&back, small);
        open_set(&copy, small);
        fill(&set, seed);
        fill(&back, seed + 100); /* what was there before goes */
        size_t n = origin_set_encode(bytes, &set);
        assert_int_equal(n, origin_set_bytes(&set));
        assert_true(n <= origin_set_bytes_max(small));
        assert_int_equal(origin_set_decode(&back, (struct slice){bytes, n}, set.node_count), 0);
        assert_true(origin_set_equal(&back, &set));
        origin_set_copy(&copy, &back);
        assert_true(origin_set_equal(&copy, &set));
        assert_int_equal(copy.interval_count, set.interval_count);
        origin_set_close(&set);
        origin_set_close(&back);
        origin_set_close(&copy);
    }
}

/* What decodes is a set: every byte changed, every length, decodes to nothing or to what encodes to
 * the same bytes. */
static void hostile_bytes_make_no_set_that_is_none(void **state)
{
    (void)state;
    static uint8_t bytes[4096];
    static uint8_t again[4096];
    struct origin_set set;
    open_set(&set, small);
    fill(&set, 7);
    uint32_t nodes = set.node_count;
    size_t n = origin_set_encode(bytes, &set);
    for (size_t at = 0; at < n; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            if (origin_set_decode(&set, (struct slice){bytes, n}, nodes) == 0) {
                assert_int_equal(origin_set_encode(again, &set), n);
                assert_memory_equal(again, bytes, n);
            } else {
                assert_int_equal(set.node_count, 0);
                assert_int_equal(set.interval_count, 0);
            }
            bytes[at] ^= (uint8_t)(1u << bit);
        }
    }
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = mem_alloc(cut + 1); /* so that a sanitizer sees a read behind the end */
        memcpy(exact, bytes, cut);
        assert_int_equal(origin_set_decode(&set, (struct slice){exact, cut}, nodes), ERR_CORRUPT);
        mem_free(exact);
    }
    assert_int_equal(origin_set_decode(&set, (struct slice){bytes, n}, nodes + 1), ERR_CORRUPT);
    assert_int_equal(origin_set_decode(&set, (struct slice){bytes, n}, nodes - 1), ERR_CORRUPT);
    origin_set_close(&set);
}

/* Two sinks of one node to the same place, each with its own kinds: neither speaks for the other. */
static void an_interval_speaks_for_its_kinds_only(void **state)
{
    (void)state;
    struct ulid which = {{1}};
    struct origin_set set;
    open_set(&set, small);
    uint32_t logs = 1u << RECORD_LOG;
    uint32_t others = 1u << RECORD_METRIC | 1u << RECORD_EVENT;
    assert_int_equal(origin_set_add(&set, &which, logs, 1, 100), 0);
    assert_true(origin_set_has(&set, &which, RECORD_LOG, 50));
    assert_false(origin_set_has(&set, &which, RECORD_METRIC, 50));
    assert_int_equal(origin_set_growth(&set, &which, others, 50, 60), 1);
    assert_int_equal(origin_set_add(&set, &which, others, 50, 60), 0);
    assert_true(origin_set_has(&set, &which, RECORD_METRIC, 50));
    assert_true(origin_set_has(&set, &which, RECORD_LOG, 50));
    assert_false(origin_set_has(&set, &which, RECORD_EVENT, 61));
    assert_false(origin_set_has(&set, &which, RECORD_GPU, 50));
    origin_set_close(&set);
}

static void pushing_into_a_full_stream_forgets_its_lowest(void **state)
{
    (void)state;
    struct ulid which = {{1}};
    struct origin_set set;
    open_set(&set, small);
    for (uint64_t i = 1; i <= 100; i++) {
        bool is_all = origin_set_push(&set, &which, ORIGIN_ALL_KINDS, 10 * i, 10 * i);
        assert_int_equal(is_all, i <= small.intervals_max);
        assert_true(origin_set_has(&set, &which, RECORD_LOG, 10 * i));
        assert_int_equal(origin_set_has(&set, &which, RECORD_LOG, 10), i <= small.intervals_max);
    }
    assert_false(origin_set_push(&set, &which, ORIGIN_ALL_KINDS, 5, 5)); /* the lowest itself */
    assert_false(origin_set_has(&set, &which, RECORD_LOG, 5));
    assert_true(origin_set_push(&set, &which, ORIGIN_ALL_KINDS, 1001, 1009)); /* touches */
    assert_int_equal(set.interval_count, small.intervals_max);
    /* Streams that find no room at all are not remembered, and push nobody out. */
    for (uint8_t i = 0; i < 10; i++) {
        struct ulid other = {{200, i}};
        (void)origin_set_push(&set, &other, ORIGIN_ALL_KINDS, 1, 1);
    }
    assert_int_equal(set.node_count, small.nodes_max);
    assert_true(origin_set_has(&set, &which, RECORD_LOG, 1005));
    origin_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_ranges_are_held_exactly_as_a_bitmap_holds_them),
        cmocka_unit_test(a_full_set_says_so_and_still_takes_what_closes_a_gap),
        cmocka_unit_test(the_ends_of_the_range_of_lsns_do_not_wrap),
        cmocka_unit_test(a_set_comes_back_from_its_bytes),
        cmocka_unit_test(hostile_bytes_make_no_set_that_is_none),
        cmocka_unit_test(an_interval_speaks_for_its_kinds_only),
        cmocka_unit_test(pushing_into_a_full_stream_forgets_its_lowest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
