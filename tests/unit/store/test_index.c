/* index: what is there is never denied, what is not is mostly denied, and nothing that lies on disk
 * is believed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "sim_disk.h"
#include "store/index.h"

#define BLOCK_KEYS_MAX (INDEX_FILTER_BYTES_MAX * 8u / 6u) /* more get no filter */

static struct index_builder *builder;

static int open_builder(void **state)
{
    (void)state;
    builder = index_builder_new();
    return 0;
}

static int close_builder(void **state)
{
    (void)state;
    index_builder_free(builder);
    return 0;
}

static struct batch_header batch(uint64_t first_lsn, uint32_t record_count, uint32_t payload_bytes)
{
    return (struct batch_header){.first_lsn = first_lsn,
                                 .record_count = record_count,
                                 .payload_bytes = payload_bytes,
                                 .kinds = record_count == 0 ? 0 : 1u << RECORD_LOG,
                                 .built_at_ns = 500};
}

static void begin_block(uint64_t offset, uint64_t first_lsn)
{
    struct batch_header header = batch(first_lsn, 1, 48);
    index_builder_add_batch(builder, &header, offset);
}

static struct index open_index(void)
{
    struct index index;
    struct err err = {0};
    uint32_t count = 0;
    struct slice blob = index_builder_blob(builder, &count);
    if (index_open(&index, blob, count, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return index;
}

static struct index_entry entry_at(const struct index *index, uint32_t i)
{
    struct index_entry entry;
    index_entry_get(index, i, &entry);
    return entry;
}

static void key_depends_on_field_and_value(void **state)
{
    (void)state;
    uint64_t key = index_key(INDEX_SERVICE, SLICE_LITERAL("api"));
    assert_int_equal(key, index_key(INDEX_SERVICE, SLICE_LITERAL("api")));
    assert_int_not_equal(key, index_key(INDEX_HOST, SLICE_LITERAL("api")));
    assert_int_not_equal(key, index_key(INDEX_SERVICE, SLICE_LITERAL("apj")));
    (void)index_key(INDEX_SERVICE, (struct slice){NULL, 0});
}

static void what_was_added_is_never_denied(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 25, 26, 27, 1000, 5000, BLOCK_KEYS_MAX};
    for (size_t s = 0; s < ARRAY_COUNT(sizes); s++) {
        struct sim_random random = {sizes[s]};
        index_builder_reset(builder);
        begin_block(4096, 1);
        index_builder_add_key(builder, 0); /* as good a key as any */
        for (uint32_t i = 1; i < sizes[s]; i++) {
            index_builder_add_key(builder, sim_random_next(&random));
        }
        index_builder_end_block(builder, 8192);
        struct index index = open_index();
        struct index_entry entry = entry_at(&index, 0);
        assert_true(entry.filter_bytes != 0);
        assert_true(index_may_have(&index, &entry, 0));
        random.state = sizes[s];
        for (uint32_t i = 1; i < sizes[s]; i++) {
            assert_true(index_may_have(&index, &entry, sim_random_next(&random)));
        }
    }
}

/* False hits in 100,000 questions about keys that are not there. */
static uint32_t false_hits(uint32_t key_count)
{
    struct sim_random random = {7};
    index_builder_reset(builder);
    begin_block(4096, 1);
    for (uint32_t i = 0; i < key_count; i++) {
        index_builder_add_key(builder, sim_random_next(&random));
    }
    index_builder_end_block(builder, 8192);
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    assert_true(entry.filter_bytes != 0);
    uint32_t hits = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        hits += index_may_have(&index, &entry, sim_random_next(&random)) ? 1 : 0;
    }
    return hits;
}

static void false_hits_are_about_one_percent_and_a_tenth_at_the_cap(void **state)
{
    (void)state;
    assert_in_range(false_hits(26214), 1, 2000); /* 10 bits a key: the fullest uncapped filter */
    assert_in_range(false_hits(1600), 1, 2000);
    assert_in_range(false_hits(BLOCK_KEYS_MAX), 5000, 12000);
}

static void filter_is_sized_by_different_keys(void **state)
{
    (void)state;
    begin_block(4096, 1);
    for (uint32_t i = 0; i < 10000; i++) {
        index_builder_add_key(builder, index_key(INDEX_SERVICE, SLICE_LITERAL("api")));
        index_builder_add_key(builder, i % 20);
    }
    index_builder_end_block(builder, 8192);
    begin_block(8192, 2);
    for (uint32_t i = 0; i < 52; i++) { /* 520 bits: more than two filter blocks have */
        index_builder_add_key(builder, i * 0x9e3779b97f4a7c15ull);
    }
    index_builder_end_block(builder, 12288);
    struct index index = open_index();
    assert_int_equal(entry_at(&index, 0).filter_bytes, 32);
    assert_int_equal(entry_at(&index, 1).filter_offset, 32);
    assert_int_equal(entry_at(&index, 1).filter_bytes, 128);
    assert_int_equal(index.filters_bytes, 160);
}

static void block_with_too_many_keys_has_no_filter_and_the_next_has_one_again(void **state)
{
    (void)state;
    begin_block(4096, 1);
    for (uint64_t i = 1; i <= BLOCK_KEYS_MAX + 1; i++) {
        index_builder_add_key(builder, i);
        index_builder_add_key(builder, i);
    }
    index_builder_end_block(builder, 8192);
    begin_block(8192, 2);
    index_builder_add_key(builder, 5);
    index_builder_end_block(builder, 12288);
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    assert_int_equal(entry.filter_bytes, 0);
    assert_true(index_may_have(&index, &entry, UINT64_MAX));
    entry = entry_at(&index, 1);
    assert_int_equal(entry.filter_bytes, 32);
    assert_true(index_may_have(&index, &entry, 5));
    assert_false(index_may_have(&index, &entry, 0x123456789abcdefull));
}

static void block_without_keys_denies_every_key(void **state)
{
    (void)state;
    begin_block(4096, 1);
    index_builder_end_block(builder, 8192);
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    struct sim_random random = {3};
    assert_int_equal(entry.filter_bytes, 32);
    for (int i = 0; i < 1000; i++) {
        assert_false(index_may_have(&index, &entry, sim_random_next(&random)));
    }
}

static void builder_without_filters_denies_nothing(void **state)
{
    (void)state;
    index_builder_omit_filters(builder);
    index_builder_reset(builder);
    for (unsigned i = 0; i < 2; i++) {
        begin_block(4096 + 4096 * i, 1 + i);
        index_builder_add_key(builder, 7); /* known or not */
        index_builder_end_block(builder, 4096 + 4096 * (i + 1));
    }
    struct index index = open_index();
    assert_int_equal(index.entry_count, 2);
    assert_int_equal(index.filters_bytes, 0);
    for (unsigned i = 0; i < 2; i++) {
        struct index_entry entry;
        index_entry_get(&index, i, &entry);
        assert_int_equal(entry.filter_bytes, 0);
        assert_true(index_may_have(&index, &entry, 8));
    }
}

static void block_is_full_at_the_batch_that_reaches_its_size(void **state)
{
    (void)state;
    struct batch_header header = batch(1, 1, (uint32_t)INDEX_BLOCK_BYTES - BATCH_HEADER_BYTES - 8);
    assert_false(index_builder_is_full(builder));
    index_builder_add_batch(builder, &header, 4096);
    assert_false(index_builder_is_full(builder));
    struct batch_header mark = batch(2, 0, 0);
    index_builder_add_batch(builder, &mark, 4096 + 1048576);
    assert_true(index_builder_is_full(builder));
    index_builder_end_block(builder, 4096 + 1048576 + 4096);
    assert_false(index_builder_is_full(builder));
    struct index index = open_index();
    assert_int_equal(entry_at(&index, 0).raw_bytes, INDEX_BLOCK_BYTES + BATCH_HEADER_BYTES - 8);
}

static void entry_says_what_its_batches_said(void **state)
{
    (void)state;
    struct batch_header mark = batch(10, 0, 0);
    mark.built_at_ns = 300;
    struct batch_header logs = batch(10, 3, 160);
    logs.time_min_ns = -5;
    logs.time_max_ns = -2;
    logs.built_at_ns = 200;
    struct batch_header events = batch(13, 2, 96);
    events.kinds = 1u << RECORD_EVENT;
    events.time_min_ns = -4; /* in the wrong order, under a good checksum */
    events.time_max_ns = -9;
    events.built_at_ns = 250;
    struct record record = {.kind = RECORD_LOG, .severity = SEVERITY_ERROR};
    struct record strange = {.kind = RECORD_LOG, .severity = 200};
    index_builder_add_batch(builder, &mark, 4096);
    index_builder_add_batch(builder, &logs, 8192);
    index_builder_add_record(builder, &record);
    index_builder_add_record(builder, &strange); /* no bit to set: nobody can ask for it */
    index_builder_add_batch(builder, &events, 12288);
    index_builder_end_block(builder, 16384);
    index_builder_end_block(builder, 16384); /* none is open: nothing happens */
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    assert_int_equal(index.entry_count, 1);
    assert_int_equal(entry.offset, 4096);
    assert_int_equal(entry.stored_bytes, 12288);
    assert_int_equal(entry.raw_bytes, 3 * 128 + 160 + 96);
    assert_int_equal(entry.first_lsn, 10);
    assert_int_equal(entry.record_count, 5);
    assert_int_equal(entry.batch_count, 3);
    assert_int_equal(entry.kinds, 1u << RECORD_LOG | 1u << RECORD_EVENT);
    assert_int_equal(entry.severities, 1u << SEVERITY_ERROR);
    assert_int_equal(entry.time_min_ns, -9);
    assert_int_equal(entry.time_max_ns, -2);
    assert_int_equal(entry.built_min_ns, 200);
    assert_int_equal(entry.built_max_ns, 300);
    assert_int_equal(entry.stored_crc, 0);
}

static void block_of_marks_has_no_times(void **state)
{
    (void)state;
    struct batch_header mark = batch(10, 0, 0);
    index_builder_add_batch(builder, &mark, 4096);
    index_builder_end_block(builder, 8192);
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    assert_int_equal(entry.time_min_ns, 0);
    assert_int_equal(entry.time_max_ns, 0);
    assert_int_equal(entry.first_lsn, 10);
    assert_int_equal(entry.record_count, 0);
}

static void lsn_is_found_in_the_last_block_that_begins_at_or_below_it(void **state)
{
    (void)state;
    struct index index = open_index();
    assert_int_equal(index_find_lsn(&index, 5), 0); /* of none at all */
    for (uint64_t i = 0; i < 5; i++) {
        begin_block(4096 * (i + 1), 10 + 7 * i);
        index_builder_end_block(builder, 4096 * (i + 2));
    }
    index = open_index();
    assert_int_equal(index_find_lsn(&index, 0), 0);
    assert_int_equal(index_find_lsn(&index, 9), 0);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(index_find_lsn(&index, 10 + 7 * i), i);
        assert_int_equal(index_find_lsn(&index, 16 + 7 * i), i);
    }
    assert_int_equal(index_find_lsn(&index, UINT64_MAX), 4);
}

static void reset_forgets_everything(void **state)
{
    (void)state;
    begin_block(4096, 1);
    index_builder_add_key(builder, 77);
    index_builder_end_block(builder, 8192);
    begin_block(8192, 2);
    index_builder_add_key(builder, 78);
    index_builder_reset(builder);
    uint32_t count = 9;
    assert_int_equal(index_builder_blob(builder, &count).bytes, 0);
    assert_int_equal(count, 0);
    begin_block(4096, 1);
    index_builder_end_block(builder, 8192);
    struct index index = open_index();
    struct index_entry entry = entry_at(&index, 0);
    assert_false(index_may_have(&index, &entry, 77));
    assert_false(index_may_have(&index, &entry, 78));
}

/* ---- hostile bytes ---- */

static uint8_t blob_bytes[2 * INDEX_ENTRY_BYTES + 64];

static void make_blob(void)
{
    for (uint64_t i = 0; i < 2; i++) {
        begin_block(4096 * (i + 1), 10 + i);
        index_builder_end_block(builder, 4096 * (i + 2));
    }
    uint32_t count = 0;
    struct slice blob = index_builder_blob(builder, &count);
    assert_int_equal(blob.bytes, sizeof blob_bytes);
    memcpy(blob_bytes, blob.data, blob.bytes);
}

static void expect_fault(const struct index_entry *entry, uint32_t i, const char *text)
{
    uint8_t changed[sizeof blob_bytes];
    struct index index;
    struct err err = {0};
    memcpy(changed, blob_bytes, sizeof changed);
    index_entry_put(changed + i * INDEX_ENTRY_BYTES, entry);
    assert_int_equal(index_open(&index, (struct slice){changed, sizeof changed}, 2, &err),
                     ERR_CORRUPT);
    if (strstr(err.text, text) == NULL) {
        fail_msg("%s, where \"%s\" belongs", err.text, text);
    }
}

static void impossible_entries_are_refused(void **state)
{
    (void)state;
    make_blob();
    struct index index;
    assert_int_equal(index_open(&index, (struct slice){blob_bytes, sizeof blob_bytes}, 2, NULL), 0);
    const struct index_entry good = entry_at(&index, 1);
#define EXPECT_FAULT(text, ...)                                                                    \
    do {                                                                                           \
        struct index_entry entry = good;                                                           \
        __VA_ARGS__;                                                                               \
        expect_fault(&entry, 1, text);                                                             \
    } while (0)
    EXPECT_FAULT("place", entry.stored_bytes = 0);
    EXPECT_FAULT("place", entry.stored_bytes = UINT64_MAX);
    EXPECT_FAULT("overlaps", entry.offset = 8191);
    EXPECT_FAULT("fit", entry.batch_count = 0);
    EXPECT_FAULT("fit", entry.batch_count = 2);
    EXPECT_FAULT("fit", entry.record_count = 5);
    EXPECT_FAULT("fit", entry.raw_bytes = UINT64_MAX);
    EXPECT_FAULT("LSNs", entry.first_lsn = 0);
    EXPECT_FAULT("LSNs", entry.first_lsn = UINT64_MAX);
    EXPECT_FAULT("LSNs overlap", entry.first_lsn = 10);
    EXPECT_FAULT("times", entry.time_min_ns = 1);
    EXPECT_FAULT("times", entry.built_max_ns = 0);
    EXPECT_FAULT("size", entry.filter_bytes = 33);
    EXPECT_FAULT("size", entry.filter_bytes = 2 * INDEX_FILTER_BYTES_MAX);
    EXPECT_FAULT("outside", entry.filter_bytes = 64);
    EXPECT_FAULT("outside", entry.filter_offset = UINT32_MAX);
#undef EXPECT_FAULT
    blob_bytes[INDEX_ENTRY_BYTES - 1] = 1;
    expect_fault(&good, 1, "entry 0: its reserved");
}

static void blob_of_any_length_is_read_within_its_bounds(void **state)
{
    (void)state;
    make_blob();
    for (size_t bytes = 0; bytes <= sizeof blob_bytes; bytes++) {
        uint8_t *exact = mem_alloc(bytes + 1); /* the sanitizer guards what lies behind */
        memcpy(exact, blob_bytes, bytes);
        struct index index;
        int result = index_open(&index, (struct slice){exact, bytes}, 2, NULL);
        assert_int_equal(result, bytes == sizeof blob_bytes ? 0 : ERR_CORRUPT);
        assert_int_equal(index_open(&index, (struct slice){exact, bytes}, UINT32_MAX, NULL),
                         ERR_CORRUPT);
        mem_free(exact);
    }
}

int main(void)
{
#define INDEX_TEST(test) cmocka_unit_test_setup_teardown(test, open_builder, close_builder)
    const struct CMUnitTest tests[] = {
        INDEX_TEST(key_depends_on_field_and_value),
        INDEX_TEST(what_was_added_is_never_denied),
        INDEX_TEST(false_hits_are_about_one_percent_and_a_tenth_at_the_cap),
        INDEX_TEST(filter_is_sized_by_different_keys),
        INDEX_TEST(block_with_too_many_keys_has_no_filter_and_the_next_has_one_again),
        INDEX_TEST(block_without_keys_denies_every_key),
        INDEX_TEST(builder_without_filters_denies_nothing),
        INDEX_TEST(block_is_full_at_the_batch_that_reaches_its_size),
        INDEX_TEST(entry_says_what_its_batches_said),
        INDEX_TEST(block_of_marks_has_no_times),
        INDEX_TEST(lsn_is_found_in_the_last_block_that_begins_at_or_below_it),
        INDEX_TEST(reset_forgets_everything),
        INDEX_TEST(impossible_entries_are_refused),
        INDEX_TEST(blob_of_any_length_is_read_within_its_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
