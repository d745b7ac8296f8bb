/* log_view: what is durable is read the same from a segment in each of its states; what is not
 * durable or not whole is never shown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sealed_fixture.h"

#define ALL UINT64_MAX

static struct sealed_fixture sf;
static struct block_reader *reader;

static int open_fixture(void **state)
{
    (void)state;
    sf_open(&sf);
    reader = block_reader_new();
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    block_reader_free(reader);
    sf_close(&sf);
    return 0;
}

static struct view_segment *open_segment(enum view_state state)
{
    struct view_segment *segment = NULL;
    struct err err = {0};
    if (view_segment_open(&segment, sf.io, sf.header.segment_id, state, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return segment;
}

static void expect_closed(enum view_state state, const char *text)
{
    struct view_segment *segment = NULL;
    struct err err = {0};
    assert_true(view_segment_open(&segment, sf.io, sf.header.segment_id, state, &err) < 0);
    assert_null(segment);
    if (strstr(err.text, text) == NULL) {
        fail_msg("%s, where \"%s\" belongs", err.text, text);
    }
}

/* Walks the block: its records are first, first + 1, ...; returns the LSN after the last. */
static uint64_t expect_block(const struct block *block, uint64_t first)
{
    struct block_walk walk = {.block = *block};
    struct record record;
    struct err err = {0};
    uint64_t lsn = 0;
    int result;
    while ((result = block_walk_next(&walk, &record, &lsn, &err)) == 1) {
        uint64_t said = 0;
        assert_int_equal(lsn, first);
        memcpy(&said, record.id.bytes, sizeof said);
        assert_int_equal(said, lsn);
        assert_int_equal(strtoull((const char *)record.payload.data, NULL, 10), lsn);
        assert_int_equal(record.event_time_ns, (int64_t)lsn * 10);
        assert_in_range(lsn, walk.header.first_lsn,
                        walk.header.first_lsn + walk.header.record_count - 1);
        first++;
    }
    if (result != 0) {
        fail_msg("%s", err.text);
    }
    return first;
}

static struct block load(struct view_segment *segment, uint32_t i, uint64_t durable_lsn)
{
    struct block block = {0};
    struct err err = {0};
    int result = block_reader_load(reader, segment, i, durable_lsn, &block, &err);
    if (result < 0) {
        fail_msg("%d: %s", result, err.text);
    }
    return block;
}

static void expect_no_block(struct view_segment *segment, uint32_t i, uint64_t durable_lsn)
{
    struct block block;
    assert_int_equal(block_reader_load(reader, segment, i, durable_lsn, &block, NULL), -ENODATA);
}

/* Every block in order holds exactly first..last. Returns how many blocks there are. */
static uint32_t expect_segment(struct view_segment *segment, uint64_t first, uint64_t last,
                               uint64_t durable_lsn)
{
    uint32_t i = 0;
    struct block block;
    int result;
    while ((result = block_reader_load(reader, segment, i, durable_lsn, &block, NULL)) == 0) {
        first = expect_block(&block, first);
        i++;
    }
    assert_int_equal(result, -ENODATA);
    assert_int_equal(first, last + 1);
    return i;
}

/* Batches and marks of all sizes, from small ones to one larger than a block. */
static void make_segment(uint64_t id)
{
    struct sim_random random = {id};
    sf_segment(&sf, id, MIB(12));
    sf_batch(&sf, 0, 0);
    for (int i = 0; i < 120; i++) {
        sf_batch(&sf, (uint32_t)sim_random_below(&random, 40),
                 (size_t)sim_random_below(&random, 1000));
    }
    sf_batch(&sf, 1, 1500000);
    sf_batch(&sf, 0, 0);
    for (int i = 0; i < 20; i++) {
        sf_batch(&sf, 1 + (uint32_t)sim_random_below(&random, 3000), 20);
    }
    sf_batch(&sf, 0, 0);
    sf_write_raw(&sf);
}

/* ---- the same records in every state ---- */

static void segment_reads_the_same_in_every_state(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 3; id++) {
        uint64_t first = sf.next.first_lsn;
        make_segment(id);
        uint64_t last = sf.next.first_lsn - 1;
        struct view_segment *segment = open_segment(VIEW_ACTIVE);
        assert_int_equal(segment->footer.first_lsn, first);
        assert_true(expect_segment(segment, first, last, ALL) > 3);
        assert_true(expect_segment(segment, first, last, last) > 3);
        view_segment_give(segment);
        sf_seal(&sf);
        segment = open_segment(VIEW_SEALED);
        assert_int_equal(segment->footer.last_lsn, last);
        assert_int_equal(segment->stored_bytes, sf.sealed_bytes);
        assert_true(expect_segment(segment, first, last, 0) > 2); /* durable by its state */
        view_segment_give(segment);
        sf_compact(&sf);
        segment = open_segment(VIEW_COMPACTED);
        assert_int_equal(segment->footer.first_lsn, first);
        assert_true(expect_segment(segment, first, last, 0) > 2);
        view_segment_give(segment);
    }
}

static void blocks_come_in_any_order(void **state)
{
    (void)state;
    make_segment(1);
    sf_seal(&sf);
    sf_compact(&sf);
    static const enum view_state states[] = {VIEW_ACTIVE, VIEW_SEALED, VIEW_COMPACTED};
    for (size_t s = 0; s < ARRAY_COUNT(states); s++) {
        struct view_segment *segment = open_segment(states[s]);
        struct sim_random random = {s};
        struct block_place place;
        assert_int_equal(block_reader_find(reader, segment, ALL, ALL, &place, NULL), 0);
        assert_int_equal(place.i, place.count - 1);
        for (int round = 0; round < 20; round++) {
            uint32_t i = (uint32_t)sim_random_below(&random, place.count);
            struct block block = load(segment, i, ALL);
            struct block_walk walk = {.block = block};
            struct record record;
            struct block_place found;
            uint64_t lsn = 0;
            if (block_walk_next(&walk, &record, &lsn, NULL) == 0) {
                continue; /* only marks */
            }
            (void)expect_block(&block, lsn);
            assert_int_equal(block_reader_find(reader, segment, lsn, ALL, &found, NULL), 0);
            assert_int_equal(found.i, i);
        }
        expect_no_block(segment, place.count, ALL);
        expect_no_block(segment, UINT32_MAX, ALL);
        view_segment_give(segment);
    }
}

static void index_denies_what_is_not_in_a_block(void **state)
{
    (void)state;
    make_segment(1);
    sf_compact(&sf);
    struct view_segment *segment = open_segment(VIEW_COMPACTED);
    struct index index;
    struct index_entry entry;
    assert_int_equal(block_reader_index(reader, segment, &index, NULL), 0);
    uint64_t absent = index_key(INDEX_SERVICE, SLICE_LITERAL("nobody"));
    unsigned hits = 0;
    for (uint32_t i = 0; i < index.entry_count; i++) {
        index_entry_get(&index, i, &entry);
        struct block block = load(segment, i, ALL);
        struct block_walk walk = {.block = block};
        struct record record;
        uint64_t lsn = 0;
        uint64_t count = 0;
        while (block_walk_next(&walk, &record, &lsn, NULL) == 1) {
            assert_true(index_may_have(&index, &entry, index_key(INDEX_SERVICE, record.payload)));
            assert_in_range(lsn, entry.first_lsn, entry.first_lsn + entry.record_count - 1);
            count++;
        }
        assert_int_equal(count, entry.record_count);
        hits += index_may_have(&index, &entry, absent) ? 1 : 0;
    }
    assert_true(hits < index.entry_count);
    view_segment_give(segment);
}

/* ---- an active segment ---- */

static void nothing_above_durable_lsn_is_shown(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 3, 100); /* 1-3 */
    sf_batch(&sf, 2, 100); /* 4-5 */
    sf_batch(&sf, 0, 0);
    sf_batch(&sf, 4, 100); /* 6-9 */
    sf_write_raw(&sf);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    static const uint64_t shown[] = {0, 0, 0, 3, 3, 5, 5, 5, 5, 9, 9};
    /* Up and down again: what was found for a larger one is not shown for a smaller one. */
    for (int round = 0; round < 2; round++) {
        for (uint64_t durable = 0; durable <= 10; durable++) {
            uint64_t lsn = round == 0 ? durable : 10 - durable;
            assert_int_equal(expect_segment(segment, 1, shown[lsn], lsn), shown[lsn] == 0 ? 0 : 1);
        }
    }
    view_segment_give(segment);
}

/* How many windows the batches up to durable_lsn fill or begin. */
static uint32_t windows_up_to(uint64_t durable_lsn)
{
    uint32_t count = 0;
    uint64_t begin = 0;
    for (uint32_t i = 0; i < sf.batch_count; i++) {
        struct batch_header header;
        assert_int_equal(batch_header_decode(&header, sf.raw + sf.batch_at[i], NULL), 0);
        if (header.first_lsn + header.record_count - 1 > durable_lsn) {
            break;
        }
        if (count == 0 || sf.batch_at[i] - begin >= INDEX_BLOCK_BYTES) {
            begin = sf.batch_at[i];
            count++;
        }
    }
    return count;
}

static void place_of_an_lsn_counts_durable_windows_only(void **state)
{
    (void)state;
    make_segment(1);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    uint64_t last = sf.next.first_lsn - 1;
    for (uint64_t durable = 0; durable <= last; durable += 7) {
        struct block_place place;
        assert_int_equal(block_reader_find(reader, segment, durable, durable, &place, NULL), 0);
        assert_int_equal(place.count, windows_up_to(durable));
        assert_int_equal(place.i, place.count - 1);
    }
    assert_true(windows_up_to(last) > 3);
    view_segment_give(segment);
}

static void headers_of_a_large_active_segment_are_found_in_bounded_calls(void **state)
{
    (void)state;
    const uint32_t batches = 3 * BLOCK_FIND_HEADERS_MAX + 10;
    sf_segment(&sf, 1, MIB(12));
    for (uint32_t i = 0; i < batches; i++) {
        sf_batch(&sf, 1, 100);
    }
    sf_write_raw(&sf);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    struct block_place place = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(block_reader_find(reader, segment, 1, batches, &place, NULL), -EAGAIN);
    }
    assert_int_equal(block_reader_find(reader, segment, batches, batches, &place, NULL), 0);
    assert_int_equal(place.count, windows_up_to(batches));
    assert_int_equal(place.i, place.count - 1);
    struct block_summary summary;
    uint64_t next = 1;
    for (uint32_t i = 0; i < place.count; i++) {
        assert_true(block_reader_summary(reader, i, batches, &summary));
        assert_int_equal(summary.first_lsn, next);
        assert_int_equal(summary.record_count, summary.end_lsn - summary.first_lsn);
        assert_int_equal(summary.time_min_ns, (int64_t)summary.first_lsn * 10);
        assert_int_equal(summary.time_max_ns, (int64_t)(summary.end_lsn - 1) * 10);
        next = summary.end_lsn;
    }
    assert_int_equal(next, batches + 1);
    assert_false(block_reader_summary(reader, place.count, batches, &summary));
    assert_false(block_reader_summary(reader, UINT32_MAX, batches, &summary));
    assert_true(block_reader_summary(reader, 0, 7, &summary));
    assert_int_equal(summary.end_lsn, 8); /* less is durable: less is known to be there */
    view_segment_give(segment);
}

static void active_segment_grows_while_it_is_read(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(8));
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    assert_int_equal(segment->footer.first_lsn, 0);
    expect_no_block(segment, 0, ALL);
    uint64_t first = 1;
    uint32_t i = 0;
    struct sim_random random = {5};
    while (sf.end < MIB(7)) {
        sf_batch(&sf, 1 + (uint32_t)sim_random_below(&random, 400), 100);
        sf_write_raw(&sf);
        uint64_t last = sf.next.first_lsn - 1;
        struct block block = load(segment, i, last);
        uint64_t after = expect_block(&block, first); /* a window always shows its beginning */
        assert_int_equal(after, last + 1);
        if (block.batches.bytes >= INDEX_BLOCK_BYTES) {
            first = after; /* closed: it never changes again */
            i++;
        }
        expect_no_block(segment, i + 1, last);
    }
    assert_true(i >= 5);
    assert_true(expect_segment(segment, 1, sf.next.first_lsn - 1, ALL) > 5);
    view_segment_give(segment);
}

static void reading_stops_at_a_batch_that_is_not_whole(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 3, 100);
    sf_batch(&sf, 2, 100);
    uint8_t *last = sf.raw + sf.batch_at[1];
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    last[3] ^= 1; /* no header (yet) */
    sf_write_raw(&sf);
    (void)expect_segment(segment, 1, 3, 5);
    last[3] ^= 1;
    last[BATCH_HEADER_BYTES + 50] ^= 1; /* a header, its payload not (yet) */
    sf_write_raw(&sf);
    (void)expect_segment(segment, 1, 3, 3);
    (void)expect_segment(segment, 1, 3, ALL); /* nothing proves it durable: a torn end */
    last[BATCH_HEADER_BYTES + 50] ^= 1;
    sf_write_raw(&sf);
    (void)expect_segment(segment, 1, 5, ALL); /* the same reader sees it once it is there */
    view_segment_give(segment);
}

static void proven_damage_in_an_active_segment_is_told(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 3, 100);
    sf_batch(&sf, 2, 100);
    sf_batch(&sf, 0, 0); /* says that 5 is durable */
    sf.raw[sf.batch_at[1] + BATCH_HEADER_BYTES + 50] ^= 1;
    sf_write_raw(&sf);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    for (int round = 0; round < 2; round++) {
        struct block_walk walk = {.block = load(segment, 0, round == 0 ? ALL : 5)};
        struct record record;
        struct err err = {0};
        uint64_t lsn = 0;
        for (int i = 0; i < 3; i++) {
            assert_int_equal(block_walk_next(&walk, &record, &lsn, &err), 1);
        }
        assert_int_equal(block_walk_next(&walk, &record, &lsn, &err), ERR_CORRUPT);
        assert_non_null(strstr(err.text, "LSN 4: payload checksum"));
        assert_int_equal(block_walk_next(&walk, &record, &lsn, &err), 0);
    }
    view_segment_give(segment);
}

static void batch_out_of_the_chain_or_of_another_use_is_not_shown(void **state)
{
    (void)state;
    for (int fault = 0; fault < 4; fault++) {
        sf_segment(&sf, 1 + (uint64_t)fault, MIB(1));
        uint64_t first = sf.next.first_lsn;
        sf_batch(&sf, 3, 100);
        struct batch_header saved = sf.next;
        sf.next.batch_seq += fault == 0;
        sf.next.first_lsn += fault == 1;
        sf.next.previous_crc += fault == 2;
        sf.header.salt += fault == 3;
        sf_batch(&sf, 3, 100);
        sf.next = saved;
        sf_write_raw(&sf);
        struct view_segment *segment = open_segment(VIEW_ACTIVE);
        (void)expect_segment(segment, first, first + 2, ALL);
        view_segment_give(segment);
    }
}

/* `sluice query --follow` on a directory, whose server crashed and starts again. */
static void end_of_the_log_that_was_cut_is_forgotten(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(4));
    for (int i = 0; i < 10; i++) {
        sf_batch(&sf, 200, 1000);
    }
    struct batch_header saved = sf.next;
    uint64_t end = sf.end;
    uint32_t batch_count = sf.batch_count;
    sf_batch(&sf, 700, 1000); /* in flight, whole as it happens, and still cut */
    sf_batch(&sf, 1, 1000);
    sf_write_raw(&sf);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    (void)expect_segment(segment, 1, 2701, ALL);
    memset(sf.raw + end, 0, sf.end - end);
    sf_write_raw(&sf);
    (void)expect_segment(segment, 1, 2000, ALL);
    sf.next = saved;
    sf.end = end;
    sf.batch_count = batch_count;
    sf_batch(&sf, 0, 0);
    sf_batch(&sf, 30, 1000);
    sf_batch(&sf, 1000, 1000); /* beyond what had been walked over */
    sf_batch(&sf, 1, 1000);
    sf_write_raw(&sf);
    (void)expect_segment(segment, 1, 3031, ALL);
    view_segment_give(segment);
}

static void batch_longer_than_the_segment_is_not_shown(void **state)
{
    (void)state;
    sf_segment(&sf, 1, KIB(64));
    sf_batch(&sf, 3, 100);
    struct batch_header header = sf.next;
    header.segment_id = sf.header.segment_id;
    header.salt = sf.header.salt;
    header.record_count = 1;
    header.payload_bytes = UINT32_MAX - 7;
    batch_header_encode(sf.raw + sf.end, &header);
    sf_write_raw(&sf);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    (void)expect_segment(segment, 1, 3, ALL);
    view_segment_give(segment);
}

static void full_segment_is_read_to_its_end_and_not_beyond(void **state)
{
    (void)state;
    sf_segment(&sf, 1, KIB(64));
    while (sf.end < KIB(64)) {
        sf_batch(&sf, 1, 20);
    }
    sf_write_raw(&sf);
    sf_seal(&sf); /* the same file, now longer; this view still says ACTIVE */
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    (void)expect_segment(segment, 1, 15, ALL);
    view_segment_give(segment);
}

static void reader_turns_from_segment_to_segment(void **state)
{
    (void)state;
    struct view_segment *segments[3];
    uint64_t first[4] = {1};
    for (uint64_t id = 1; id <= 3; id++) {
        make_segment(id);
        first[id] = sf.next.first_lsn;
        if (id == 2) {
            sf_seal(&sf);
        }
        segments[id - 1] = open_segment(id == 2 ? VIEW_SEALED : VIEW_ACTIVE);
    }
    for (size_t i = 0; i < 6; i++) {
        size_t s = i * 2 % 3;
        (void)expect_segment(segments[s], first[s], first[s + 1] - 1, ALL);
    }
    for (size_t i = 0; i < 3; i++) {
        view_segment_give(segments[i]);
    }
}

static void read_errors_come_back_and_pass(void **state)
{
    (void)state;
    make_segment(1);
    sf_seal(&sf);
    static const enum view_state states[] = {VIEW_ACTIVE, VIEW_SEALED};
    for (size_t s = 0; s < ARRAY_COUNT(states); s++) {
        struct view_segment *segment = open_segment(states[s]);
        struct block block;
        struct err err = {0};
        sim_disk_fail_reads(sf.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, KIB(64));
        assert_int_equal(block_reader_load(reader, segment, 0, ALL, &block, &err), -EIO);
        assert_non_null(strstr(err.text, "log/0000000000000001.seg at "));
        sim_disk_fail_reads(sf.disk, "log/0000000000000001.seg", 0, 0);
        (void)expect_segment(segment, 1, sf.next.first_lsn - 1, ALL);
        view_segment_give(segment);
    }
}

/* ---- damage in sealed and compacted files ---- */

static void damage_costs_one_block_and_is_named(void **state)
{
    (void)state;
    make_segment(1);
    sf_compact(&sf);
    struct view_segment *segment = open_segment(VIEW_COMPACTED);
    struct index index;
    struct index_entry entry;
    assert_int_equal(block_reader_index(reader, segment, &index, NULL), 0);
    index_entry_get(&index, 1, &entry);
    assert_int_equal(sim_disk_corrupt(sf.disk, "log/0000000000000001.slc",
                                      entry.offset + entry.stored_bytes / 2, 1),
                     0);
    struct block block;
    struct err err = {0};
    assert_int_equal(block_reader_load(reader, segment, 1, ALL, &block, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "log/0000000000000001.slc at "));
    assert_non_null(strstr(err.text, "frame: checksum"));
    block = load(segment, 0, ALL);
    assert_int_equal(expect_block(&block, 1), entry.first_lsn);
    block = load(segment, 2, ALL);
    (void)expect_block(&block, entry.first_lsn + entry.record_count);
    view_segment_give(segment);
}

static void damaged_index_is_told_and_not_used(void **state)
{
    (void)state;
    make_segment(1);
    sf_seal(&sf);
    struct view_segment *segment = open_segment(VIEW_SEALED);
    assert_int_equal(
        sim_disk_corrupt(sf.disk, "log/0000000000000001.seg", segment->footer.index_offset + 10, 1),
        0);
    struct index index;
    struct block block;
    struct err err = {0};
    assert_int_equal(block_reader_index(reader, segment, &index, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "index: checksum"));
    assert_int_equal(block_reader_load(reader, segment, 0, ALL, &block, &err), ERR_CORRUPT);
    view_segment_give(segment);
}

/* An index that is whole by its checksum and names places where no batches are. */
static void index_that_points_outside_the_batches_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset, stored_bytes, raw_bytes;
    } faults[] = {{0, 8192, 1000},    {MIB(12), 4096, 1000}, {MIB(12) - 4096, 8192, 1000},
                  {4096, 4097, 1000}, {4097, 4096, 1000},    {4096, 4096, MIB(12) + 1}};
    make_segment(1);
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        sf_seal(&sf);
        struct segment_footer footer;
        uint8_t *end = sf.sealed + sf.sealed_bytes - STORE_BLOCK_BYTES;
        assert_int_equal(segment_footer_decode(&footer, end, NULL), 0);
        uint8_t *blob = sf.sealed + footer.index_offset;
        struct index index;
        struct index_entry entry;
        struct slice bytes = {blob, (size_t)footer.index_bytes};
        assert_int_equal(index_open(&index, bytes, footer.entry_count, NULL), 0);
        index_entry_get(&index, 0, &entry);
        entry.offset = faults[i].offset;
        entry.stored_bytes = faults[i].stored_bytes;
        entry.raw_bytes = faults[i].raw_bytes;
        entry.batch_count = 1;
        entry.record_count = 1;
        memmove(blob + INDEX_ENTRY_BYTES, blob + (size_t)footer.entry_count * INDEX_ENTRY_BYTES,
                bytes.bytes - (size_t)footer.entry_count * INDEX_ENTRY_BYTES);
        index_entry_put(blob, &entry);
        footer.entry_count = 1;
        footer.index_crc = crc32c(0, blob, bytes.bytes);
        segment_footer_encode(end, &footer);
        sf_put(&sf, "log/0000000000000001.seg", sf.sealed, sf.sealed_bytes);
        struct view_segment *segment = open_segment(VIEW_SEALED);
        struct block block;
        struct err err = {0};
        assert_int_equal(block_reader_load(reader, segment, 0, ALL, &block, &err), ERR_CORRUPT);
        assert_non_null(strstr(err.text, "entry 0 lies where no batches are"));
        view_segment_give(segment);
    }
}

/* ---- walking ---- */

static int64_t walk_all(struct block_walk *walk, unsigned *faults)
{
    struct record record;
    uint64_t lsn = 0;
    int64_t count = 0;
    int result;
    *faults = 0;
    while ((result = block_walk_next(walk, &record, &lsn, NULL)) != 0) {
        count += result == 1;
        *faults += result != 1;
        assert_true(*faults < 100);
    }
    return count;
}

static void walk_goes_on_behind_damage(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 3, 100);
    sf_batch(&sf, 5, 3000); /* several blocks long */
    sf_batch(&sf, 7, 100);
    struct block raw = {.batches = {sf.raw + STORE_BLOCK_BYTES, sf.end - STORE_BLOCK_BYTES},
                        .batch_align = STORE_BLOCK_BYTES,
                        .salt = sf.header.salt};
    unsigned faults = 0;
    struct block_walk walk = {.block = raw};
    assert_int_equal(walk_all(&walk, &faults), 15);
    assert_int_equal(faults, 0);
    static const uint64_t damage[] = {0, 40, 126, BATCH_HEADER_BYTES + 9000};
    for (size_t i = 0; i < ARRAY_COUNT(damage); i++) {
        sf.raw[sf.batch_at[1] + damage[i]] ^= 4;
        walk = (struct block_walk){.block = raw};
        assert_int_equal(walk_all(&walk, &faults), 10); /* one fault, and only its batch */
        assert_int_equal(faults, 1);
        sf.raw[sf.batch_at[1] + damage[i]] ^= 4;
    }
}

/* A client may send bytes that look like a batch; only the salt tells, and it never learns it. */
static void bytes_that_a_client_sent_are_no_batch(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 1, 9000);
    sf_batch(&sf, 1, 100);
    struct batch_header forged = {.segment_id = 1,
                                  .salt = sf.header.salt + 1,
                                  .batch_seq = 2,
                                  .first_lsn = 2,
                                  .flags = BATCH_MARK};
    batch_header_encode(sf.raw + sf.batch_at[0] + STORE_BLOCK_BYTES, &forged);
    sf.raw[sf.batch_at[0]] ^= 1;
    struct block_walk walk = {
        .block = {.batches = {sf.raw + STORE_BLOCK_BYTES, sf.end - STORE_BLOCK_BYTES},
                  .batch_align = STORE_BLOCK_BYTES,
                  .salt = sf.header.salt}};
    struct record record;
    uint64_t lsn = 0;
    assert_int_equal(block_walk_next(&walk, &record, &lsn, NULL), ERR_CORRUPT);
    assert_int_equal(block_walk_next(&walk, &record, &lsn, NULL), 1);
    assert_int_equal(lsn, 2);
    assert_int_equal(walk.batch_at, sf.batch_at[1] - STORE_BLOCK_BYTES);
}

static void header_that_counts_wrong_is_found_out(void **state)
{
    (void)state;
    for (int by = -1; by <= 1; by += 2) {
        sf_segment(&sf, 1, MIB(1));
        sf_batch(&sf, 5, 100);
        struct batch_header header;
        assert_int_equal(batch_header_decode(&header, sf.raw + sf.batch_at[0], NULL), 0);
        header.record_count = (uint32_t)((int)header.record_count + by);
        batch_header_encode(sf.raw + sf.batch_at[0], &header);
        struct block_walk walk = {
            .block = {.batches = {sf.raw + STORE_BLOCK_BYTES, sf.end - STORE_BLOCK_BYTES},
                      .batch_align = STORE_BLOCK_BYTES}};
        unsigned faults = 0;
        assert_true(walk_all(&walk, &faults) < 5);
        assert_int_equal(faults, 1);
    }
}

static void block_cut_anywhere_is_read_within_its_bounds(void **state)
{
    (void)state;
    sf_segment(&sf, 1, MIB(1));
    sf_batch(&sf, 3, 50);
    sf_batch(&sf, 0, 0);
    sf_batch(&sf, 2, 50);
    uint8_t packed[2048];
    struct index_entry entry = {.offset = 0, .stored_bytes = MIB(1)};
    size_t all = sf_gather(&sf, &entry, packed);
    assert_true(all < sizeof packed);
    for (size_t bytes = 0; bytes <= all; bytes++) {
        uint8_t *exact = mem_alloc(bytes + 1); /* the sanitizer guards what lies behind */
        memcpy(exact, packed, bytes);
        struct block_walk walk = {.block = {.batches = {exact, bytes}, .batch_align = 1}};
        unsigned faults = 0;
        int64_t count = walk_all(&walk, &faults);
        assert_true(count <= 5);
        assert_true(bytes != all || (count == 5 && faults == 0));
        mem_free(exact);
    }
}

/* ---- opening ---- */

static void file_that_is_not_what_it_should_be_is_not_opened(void **state)
{
    (void)state;
    sf_segment(&sf, 1, KIB(64));
    sf_batch(&sf, 3, 100);
    sf_write_raw(&sf);
    expect_closed(VIEW_SEALED, "log/0000000000000001.seg at 61440: footer: wrong magic");
    expect_closed(VIEW_COMPACTED, "open log/0000000000000001.slc: ");
    sf_put(&sf, "log/0000000000000001.slc", sf.raw, KIB(64));
    expect_closed(VIEW_COMPACTED, "log/0000000000000001.slc at 0: compacted header: wrong magic");
    sf_seal(&sf);
    sf_put(&sf, "log/0000000000000002.seg", sf.sealed, sf.sealed_bytes);
    sf.header.segment_id = 2; /* a file under another's name */
    expect_closed(VIEW_SEALED, "it says that it is segment 1");
    expect_closed(VIEW_ACTIVE, "it says that it is segment 1");
    sf_put(&sf, "log/0000000000000002.seg", sf.sealed, 100);
    expect_closed(VIEW_ACTIVE, "the file ends");
    sf_put(&sf, "log/0000000000000002.seg", sf.sealed, 0);
    expect_closed(VIEW_SEALED, "the file ends");
    sf.header.segment_id = 1;
    sf_put(&sf, "log/0000000000000001.seg", sf.sealed, STORE_BLOCK_BYTES);
    expect_closed(VIEW_SEALED, "too short");
    /* A footer cut off, of the other form, or of another use of the file. */
    sf_put(&sf, "log/0000000000000001.seg", sf.sealed, sf.sealed_bytes - STORE_BLOCK_BYTES);
    expect_closed(VIEW_SEALED, "footer: wrong magic");
    sf_compact(&sf);
    segment_header_encode(sf.sealed, &sf.header);
    sf_put(&sf, "log/0000000000000001.seg", sf.sealed, sf.sealed_bytes);
    expect_closed(VIEW_SEALED, "not of this form");
    sf.header.salt++;
    compacted_header_encode(sf.sealed, &sf.header);
    sf_put(&sf, "log/0000000000000001.slc", sf.sealed, sf.sealed_bytes);
    expect_closed(VIEW_COMPACTED, "salt");
}

/* ---- views ---- */

static void view_keeps_its_files_readable_until_it_is_given_back(void **state)
{
    (void)state;
    struct log_views *views = NULL;
    make_segment(1);
    uint64_t last = sf.next.first_lsn - 1;
    assert_int_equal(log_views_open(&views, sf.io, NULL), 0);
    struct log_view *empty = log_view_take(views);
    assert_int_equal(empty->count, 0);
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    log_views_publish(views, &segment, 1);
    view_segment_give(segment);
    struct log_view *old = log_view_take(views);
    assert_int_equal(old->generation, empty->generation + 1);

    sf_compact(&sf); /* replaced, and the raw file goes */
    segment = open_segment(VIEW_COMPACTED);
    log_views_publish(views, &segment, 1);
    view_segment_give(segment);
    assert_int_equal(sf.io->ops->unlink(sf.io, "log/0000000000000001.seg"), 0);
    struct log_view *new = log_view_take(views);
    assert_int_equal(new->generation, old->generation + 1);
    assert_int_equal(new->segments[0]->state, VIEW_COMPACTED);
    (void)expect_segment(new->segments[0], 1, last, last);
    (void)expect_segment(old->segments[0], 1, last, last);

    log_views_publish(views, NULL, 0); /* expired */
    assert_int_equal(sf.io->ops->unlink(sf.io, "log/0000000000000001.slc"), 0);
    (void)expect_segment(new->segments[0], 1, last, last);
    log_view_give(views, old);
    (void)expect_segment(new->segments[0], 1, last, last);
    log_view_give(views, new);
    log_view_give(views, empty);
    log_views_close(views);
}

static void segment_of_many_views_is_closed_by_the_last(void **state)
{
    (void)state;
    struct log_views *views = NULL;
    sf_segment(&sf, 1, KIB(64));
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    assert_int_equal(log_views_open(&views, sf.io, NULL), 0);
    struct log_view *held[10];
    for (size_t i = 0; i < ARRAY_COUNT(held); i++) {
        log_views_publish(views, &segment, 1);
        held[i] = log_view_take(views);
    }
    assert_int_equal(atomic_load_explicit(&segment->references, memory_order_relaxed), 11);
    for (size_t i = 0; i < ARRAY_COUNT(held); i++) {
        log_view_give(views, held[i]);
    }
    assert_int_equal(atomic_load_explicit(&segment->references, memory_order_relaxed), 2);
    log_views_close(views);
    assert_int_equal(atomic_load_explicit(&segment->references, memory_order_relaxed), 1);
    view_segment_give(segment);
}

#define THREADS 3
#define ROUNDS  20000

static void *take_and_give(void *context)
{
    struct log_views *views = context;
    uint64_t generation = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct log_view *view = log_view_take(views);
        assert_true(view->generation >= generation);
        generation = view->generation;
        for (size_t s = 0; s < view->count; s++) {
            assert_int_equal(view->segments[s]->id, 1);
        }
        log_view_give(views, view);
    }
    return NULL;
}

static void views_change_under_many_readers(void **state)
{
    (void)state;
    struct log_views *views = NULL;
    pthread_t threads[THREADS];
    sf_segment(&sf, 1, KIB(64));
    struct view_segment *segment = open_segment(VIEW_ACTIVE);
    assert_int_equal(log_views_open(&views, sf.io, NULL), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, views), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        log_views_publish(views, &segment, (size_t)(i & 1));
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    log_views_close(views);
    assert_int_equal(atomic_load_explicit(&segment->references, memory_order_relaxed), 1);
    view_segment_give(segment);
}

int main(void)
{
#define VIEW_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        VIEW_TEST(segment_reads_the_same_in_every_state),
        VIEW_TEST(blocks_come_in_any_order),
        VIEW_TEST(index_denies_what_is_not_in_a_block),
        VIEW_TEST(nothing_above_durable_lsn_is_shown),
        VIEW_TEST(place_of_an_lsn_counts_durable_windows_only),
        VIEW_TEST(headers_of_a_large_active_segment_are_found_in_bounded_calls),
        VIEW_TEST(active_segment_grows_while_it_is_read),
        VIEW_TEST(reading_stops_at_a_batch_that_is_not_whole),
        VIEW_TEST(proven_damage_in_an_active_segment_is_told),
        VIEW_TEST(batch_out_of_the_chain_or_of_another_use_is_not_shown),
        VIEW_TEST(end_of_the_log_that_was_cut_is_forgotten),
        VIEW_TEST(batch_longer_than_the_segment_is_not_shown),
        VIEW_TEST(full_segment_is_read_to_its_end_and_not_beyond),
        VIEW_TEST(reader_turns_from_segment_to_segment),
        VIEW_TEST(read_errors_come_back_and_pass),
        VIEW_TEST(damage_costs_one_block_and_is_named),
        VIEW_TEST(damaged_index_is_told_and_not_used),
        VIEW_TEST(index_that_points_outside_the_batches_is_refused),
        VIEW_TEST(walk_goes_on_behind_damage),
        VIEW_TEST(bytes_that_a_client_sent_are_no_batch),
        VIEW_TEST(header_that_counts_wrong_is_found_out),
        VIEW_TEST(block_cut_anywhere_is_read_within_its_bounds),
        VIEW_TEST(file_that_is_not_what_it_should_be_is_not_opened),
        VIEW_TEST(view_keeps_its_files_readable_until_it_is_given_back),
        VIEW_TEST(segment_of_many_views_is_closed_by_the_last),
        VIEW_TEST(views_change_under_many_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
