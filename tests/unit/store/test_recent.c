/*
 * recent.h in one thread: what is kept, for how long, and what a hold protects. Between threads:
 * test_recent_stress.c; the protocol under every interleaving: test_recent_model.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recent_fixture.h"

struct fixture {
    struct recent *recent;
    struct recent_feed feed;
};

static int setup(void **state)
{
    static struct fixture fixture;
    struct err err = {0};
    memset(&fixture, 0, sizeof fixture);
    fixture.feed.next_lsn = 1;
    if (recent_open(&fixture.recent, &err) < 0) {
        return -1;
    }
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    recent_close(fx->recent); /* asserts that nothing is held */
    return 0;
}

/* One batch of that many bytes with its header; returns its first LSN. */
static uint64_t put(struct fixture *fx, uint32_t records, uint64_t bytes)
{
    uint64_t lsn = fx->feed.next_lsn;
    recent_feed_put(fx->recent, &fx->feed, records, (uint32_t)(bytes - BATCH_HEADER_BYTES));
    return lsn;
}

/* Takes, checks every byte, gives back. */
static struct recent_seen look(struct fixture *fx, uint64_t lsn)
{
    struct recent_hold hold = {0};
    struct block block;
    struct recent_seen seen = {0};
    if (recent_take(fx->recent, lsn, &hold, &block) == 1) {
        seen = recent_check_block(&block, lsn);
        recent_give(fx->recent, &hold);
    }
    assert_null(hold.chunk);
    if (seen.fault != NULL) {
        fail_msg("LSN %llu: %s", (unsigned long long)lsn, seen.fault);
    }
    return seen;
}

/* From the front of an empty chunk to where nothing of that size fits any more. */
static unsigned put_chunk(struct fixture *fx, uint64_t bytes)
{
    unsigned count = (unsigned)(RECENT_CHUNK_BYTES / (bytes + 16));
    for (unsigned i = 0; i < count; i++) {
        put(fx, 1, bytes);
    }
    return count;
}

static void what_was_put_is_taken_whole_and_in_order(void **state)
{
    struct fixture *fx = *state;
    put(fx, 3, 1000);
    put(fx, 1, BATCH_HEADER_BYTES + RECORD_HEADER_BYTES);
    put(fx, 5, 4096);
    struct recent_seen seen = look(fx, 1);
    assert_int_equal(seen.first_lsn, 1);
    assert_int_equal(seen.next_lsn, 10);
    assert_int_equal(seen.batch_count, 3);
}

static void a_block_begins_with_the_batch_that_holds_the_lsn(void **state)
{
    struct fixture *fx = *state;
    for (unsigned i = 0; i < 100; i++) {
        put(fx, 3, 304 + 8 * i);
    }
    for (uint64_t lsn = 1; lsn < 301; lsn++) {
        struct recent_seen seen = look(fx, lsn);
        assert_int_equal(seen.first_lsn, (lsn - 1) / 3 * 3 + 1);
        assert_int_equal(seen.next_lsn, 301);
    }
}

static void an_lsn_that_is_not_there_holds_nothing(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(look(fx, 1).batch_count, 0);
    fx->feed.next_lsn = 50;
    put(fx, 10, 1000);
    assert_int_equal(look(fx, 0).batch_count, 0);
    assert_int_equal(look(fx, 49).batch_count, 0);
    assert_int_equal(look(fx, 60).batch_count, 0);
    assert_int_equal(look(fx, UINT64_MAX).batch_count, 0);
    assert_int_equal(look(fx, 59).batch_count, 1);
}

static void a_gap_ends_a_block_and_begins_another(void **state)
{
    struct fixture *fx = *state;
    put(fx, 2, 504); /* 1, 2 */
    put(fx, 2, RECENT_BATCH_MAX + 8);
    put(fx, 2, 504); /* 5, 6 */
    put(fx, 2, 504); /* 7, 8 */
    assert_int_equal(look(fx, 1).next_lsn, 3);
    assert_int_equal(look(fx, 3).batch_count, 0);
    assert_int_equal(look(fx, 4).batch_count, 0);
    assert_int_equal(look(fx, 5).first_lsn, 5);
    assert_int_equal(look(fx, 5).next_lsn, 9);
}

static void the_largest_batch_is_kept_and_a_larger_one_is_not(void **state)
{
    struct fixture *fx = *state;
    uint64_t lsn = put(fx, 1, RECENT_BATCH_MAX);
    assert_int_equal(look(fx, lsn).batch_count, 1);
    lsn = put(fx, 1, RECENT_BATCH_MAX + 8);
    assert_int_equal(look(fx, lsn).batch_count, 0);
}

static void a_chunk_is_filled_to_its_last_byte(void **state)
{
    struct fixture *fx = *state;
    /* n batches and their entries of 16 bytes are exactly a chunk. */
    uint64_t bytes = RECENT_CHUNK_BYTES / 16 - 16;
    for (unsigned i = 0; i < 16; i++) {
        put(fx, 1, bytes);
    }
    assert_int_equal(look(fx, 1).batch_count, 16);
    put(fx, 1, BATCH_HEADER_BYTES + RECORD_HEADER_BYTES);
    assert_int_equal(look(fx, 1).batch_count, 16);
    assert_int_equal(look(fx, 17).batch_count, 1);
}

static void the_newest_chunks_stay_and_the_oldest_goes(void **state)
{
    struct fixture *fx = *state;
    unsigned each = put_chunk(fx, 8192);
    for (unsigned i = 1; i < RECENT_CHUNKS; i++) {
        put_chunk(fx, 8192);
    }
    for (uint64_t lsn = 1; lsn < fx->feed.next_lsn; lsn++) {
        assert_true(look(fx, lsn).batch_count > 0);
    }
    uint64_t newest = put(fx, 1, 8192);
    assert_int_equal(look(fx, each).batch_count, 0);
    assert_int_equal(look(fx, each + 1).batch_count, each);
    assert_int_equal(look(fx, newest).batch_count, 1);
}

static void what_is_held_is_not_overwritten(void **state)
{
    struct fixture *fx = *state;
    unsigned each = put_chunk(fx, 8192);
    struct recent_hold hold = {0};
    struct block block;
    assert_int_equal(recent_take(fx->recent, 1, &hold, &block), 1);
    for (unsigned i = 0; i < 3 * RECENT_CHUNKS; i++) {
        put_chunk(fx, 8192);
    }
    struct recent_seen seen = recent_check_block(&block, 1);
    assert_null(seen.fault);
    assert_int_equal(seen.batch_count, each);
    assert_int_equal(look(fx, 2).batch_count, each - 1); /* others may come as well */
    assert_true(look(fx, fx->feed.next_lsn - 1).batch_count > 0);
    recent_give(fx->recent, &hold);
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        put_chunk(fx, 8192);
    }
    assert_int_equal(look(fx, 1).batch_count, 0);
}

static void a_held_chunk_still_takes_what_is_appended(void **state)
{
    struct fixture *fx = *state;
    struct recent_hold hold = {0};
    struct block block;
    put(fx, 1, 1000);
    assert_int_equal(recent_take(fx->recent, 1, &hold, &block), 1);
    put(fx, 1, 1000);
    assert_int_equal(recent_check_block(&block, 1).batch_count, 1); /* as it was when taken */
    assert_int_equal(look(fx, 1).batch_count, 2);
    recent_give(fx->recent, &hold);
}

static void with_all_chunks_held_a_batch_is_not_kept_and_the_writer_goes_on(void **state)
{
    struct fixture *fx = *state;
    struct recent_hold holds[RECENT_CHUNKS] = {0};
    struct block blocks[RECENT_CHUNKS];
    uint64_t lsns[RECENT_CHUNKS];
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        lsns[i] = fx->feed.next_lsn;
        put_chunk(fx, 8192);
        assert_int_equal(recent_take(fx->recent, lsns[i], &holds[i], &blocks[i]), 1);
    }
    uint64_t lost = put(fx, 4, 8192);
    assert_int_equal(look(fx, lost).batch_count, 0);
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        assert_null(recent_check_block(&blocks[i], lsns[i]).fault);
    }
    recent_give(fx->recent, &holds[3]); /* not the oldest: the only one that is free */
    uint64_t kept = put(fx, 4, 8192);
    assert_int_equal(look(fx, lost).batch_count, 0);
    assert_int_equal(look(fx, lsns[3]).batch_count, 0);
    assert_int_equal(look(fx, kept).first_lsn, kept);
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        recent_give(fx->recent, &holds[i]);
    }
}

/* A batch that finds no chunk leaves a gap in the one that goes on being appended to. */
static void a_gap_in_the_middle_of_a_chunk_is_seen(void **state)
{
    struct fixture *fx = *state;
    struct recent_hold holds[RECENT_CHUNKS] = {0};
    struct block block;
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        uint64_t lsn = fx->feed.next_lsn;
        put_chunk(fx, 100000); /* 5 of them: 24 KiB are left */
        assert_int_equal(recent_take(fx->recent, lsn, &holds[i], &block), 1);
    }
    uint64_t before = fx->feed.next_lsn - 1;
    uint64_t lost = put(fx, 1, 100000);
    uint64_t after = put(fx, 1, 1000);
    assert_int_equal(look(fx, before).next_lsn, lost);
    assert_int_equal(look(fx, lost).batch_count, 0);
    assert_int_equal(look(fx, after).first_lsn, after);
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        recent_give(fx->recent, &holds[i]);
    }
}

static void giving_nothing_back_is_fine(void **state)
{
    struct fixture *fx = *state;
    struct recent_hold hold = {0};
    recent_give(fx->recent, &hold);
    put(fx, 1, 1000);
    assert_int_equal(look(fx, 1).batch_count, 1);
}

/* Whatever is taken has the LSN asked for and every byte as it was put; the newest 2 MiB are
 * always there when nobody holds anything, and what is 5 MiB old is not. */
static void random_batches_are_found_or_old(void **state)
{
    struct fixture *fx = *state;
    const char *given = getenv("SLUICE_TEST_SEED");
    uint64_t seed =
        given == NULL ? (uint64_t)(unsigned)getpid() : (uint64_t)strtoull(given, NULL, 0);
    print_message("  repeat with SLUICE_TEST_SEED=%llu\n", (unsigned long long)seed);
    fx->feed.next_lsn = seed % 2 == 0 ? 1 : UINT64_C(1) << 40;
    enum {
        BATCHES = 6000
    };
    static uint64_t lsns[BATCHES];
    static uint64_t sizes[BATCHES];
    for (unsigned i = 0; i < BATCHES; i++) {
        uint64_t h = recent_mix(seed * 1000003 + i);
        uint64_t most = h % 50 == 0 ? RECENT_BATCH_MAX * 2 : h % 5 == 0 ? 20000 : 1000;
        sizes[i] = BATCH_HEADER_BYTES + align_up(360 + (h >> 16) % most, RECORD_ALIGN);
        lsns[i] = put(fx, 1 + (uint32_t)(h >> 8) % 9, sizes[i]);
        unsigned back = (unsigned)((h >> 32) % (i + 1));
        struct recent_seen seen = look(fx, lsns[i - back]);
        uint64_t since = 0; /* bytes kept from it on */
        for (unsigned k = i - back; k <= i && since < MIB(5); k++) {
            since += sizes[k] <= RECENT_BATCH_MAX ? sizes[k] : 0;
        }
        bool is_large = sizes[i - back] > RECENT_BATCH_MAX;
        if (since < MIB(2) && !is_large) {
            assert_int_equal(seen.first_lsn, lsns[i - back]);
        }
        if (since >= MIB(5) || is_large) {
            assert_int_equal(seen.batch_count, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_put_is_taken_whole_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_begins_with_the_batch_that_holds_the_lsn, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_lsn_that_is_not_there_holds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gap_ends_a_block_and_begins_another, setup, teardown),
        cmocka_unit_test_setup_teardown(the_largest_batch_is_kept_and_a_larger_one_is_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_chunk_is_filled_to_its_last_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(the_newest_chunks_stay_and_the_oldest_goes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_held_is_not_overwritten, setup, teardown),
        cmocka_unit_test_setup_teardown(a_held_chunk_still_takes_what_is_appended, setup, teardown),
        cmocka_unit_test_setup_teardown(
            with_all_chunks_held_a_batch_is_not_kept_and_the_writer_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_gap_in_the_middle_of_a_chunk_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(giving_nothing_back_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(random_batches_are_found_or_old, setup, teardown),
    };
    return cmocka_run_group_tests_name("recent", tests, NULL, NULL);
}
