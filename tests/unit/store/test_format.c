/* format: what is encoded is what is decoded; nothing else is accepted; nothing beyond the input is
 * read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "store/format.h"

/* Two pages, the second of which traps: input placed at the end of the first may not be read
 * beyond. */
struct guard {
    uint8_t *memory;
    size_t page;
};

static struct guard guard_open(void)
{
    struct guard guard = {.page = (size_t)sysconf(_SC_PAGESIZE)};
    guard.memory =
        mmap(NULL, 2 * guard.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(guard.memory != MAP_FAILED);
    assert_int_equal(mprotect(guard.memory + guard.page, guard.page, PROT_NONE), 0);
    return guard;
}

static const uint8_t *guard_put(const struct guard *guard, const void *data, size_t bytes)
{
    uint8_t *at = guard->memory + guard->page - bytes;
    if (bytes != 0) {
        memcpy(at, data, bytes);
    }
    return at;
}

static void guard_close(struct guard *guard)
{
    (void)munmap(guard->memory, 2 * guard->page);
}

static struct segment_header segment_sample(void)
{
    return (struct segment_header){
        .segment_id = 42, .salt = 0x1122334455667788, .node = {{1, 2, 3, 16}}, .file_bytes = 65536};
}

static struct batch_header batch_sample(void)
{
    return (struct batch_header){
        .flags = BATCH_KEYED,
        .segment_id = 42,
        .salt = 0x1122334455667788,
        .batch_seq = 7,
        .first_lsn = 1000,
        .record_count = 3,
        .previous_crc = 0xdeadbeef,
        .kinds = 1u << RECORD_GPU,
        .payload_bytes = 320,
        .time_min_ns = -5,
        .time_max_ns = 99,
        .durable_lsn = 990,
        .built_at_ns = 1700000000000000000,
        .keyed_lsn = 1001,
        .payload_crc = 0x01020304,
    };
}

static void segment_header_comes_back_as_written(void **state)
{
    (void)state;
    uint8_t block[STORE_BLOCK_BYTES];
    struct segment_header in = segment_sample();
    struct segment_header out;
    memset(block, 0xee, sizeof block);
    segment_header_encode(block, &in);
    assert_int_equal(segment_header_decode(&out, block, NULL), 0);
    assert_memory_equal(&in, &out, sizeof in);
}

static void segment_header_with_any_bit_changed_is_refused(void **state)
{
    (void)state;
    uint8_t block[STORE_BLOCK_BYTES];
    struct segment_header in = segment_sample();
    segment_header_encode(block, &in);
    for (size_t bit = 0; bit < 8 * sizeof block; bit++) {
        struct segment_header out;
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(segment_header_decode(&out, block, NULL), ERR_CORRUPT);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void batch_header_comes_back_as_written(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header in = batch_sample();
    struct batch_header out;
    memset(bytes, 0xee, sizeof bytes);
    batch_header_encode(bytes, &in);
    assert_int_equal(batch_header_decode(&out, bytes, NULL), 0);
    assert_int_equal(in.header_crc, out.header_crc);
    assert_int_equal(in.flags, out.flags);
    assert_int_equal(in.segment_id, out.segment_id);
    assert_int_equal(in.salt, out.salt);
    assert_int_equal(in.batch_seq, out.batch_seq);
    assert_int_equal(in.first_lsn, out.first_lsn);
    assert_int_equal(in.record_count, out.record_count);
    assert_int_equal(in.previous_crc, out.previous_crc);
    assert_int_equal(in.kinds, out.kinds);
    assert_int_equal(in.payload_bytes, out.payload_bytes);
    assert_int_equal(in.time_min_ns, out.time_min_ns);
    assert_int_equal(in.time_max_ns, out.time_max_ns);
    assert_int_equal(in.durable_lsn, out.durable_lsn);
    assert_int_equal(in.built_at_ns, out.built_at_ns);
    assert_int_equal(in.keyed_lsn, out.keyed_lsn);
    assert_int_equal(in.payload_crc, out.payload_crc);
}

static void batch_header_with_any_bit_changed_is_refused(void **state)
{
    (void)state;
    struct guard guard = guard_open();
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header in = batch_sample();
    batch_header_encode(bytes, &in);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        struct batch_header out;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(batch_header_decode(&out, guard_put(&guard, bytes, sizeof bytes), NULL),
                         ERR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    guard_close(&guard);
}

/* Sets bytes of a good header and makes its checksum good again. */
static int batch_decode_patched(size_t offset, const void *patch, size_t patch_bytes,
                                struct err *err)
{
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header header = batch_sample();
    batch_header_encode(bytes, &header);
    memcpy(bytes + offset, patch, patch_bytes);
    uint32_t crc = crc32c(0, bytes, BATCH_HEADER_BYTES - 4);
    memcpy(bytes + BATCH_HEADER_BYTES - 4, &crc, sizeof crc);
    return batch_header_decode(&header, bytes, err);
}

static void newer_version_with_a_good_checksum_is_told_apart_from_damage(void **state)
{
    (void)state;
    struct err err = {0};
    uint16_t version = FORMAT_VERSION + 1;
    assert_int_equal(batch_decode_patched(8, &version, sizeof version, &err), ERR_VERSION);
    assert_non_null(strstr(err.text, "version 2"));
    version = 0;
    assert_int_equal(batch_decode_patched(8, &version, sizeof version, &err), ERR_CORRUPT);
}

static void impossible_batch_headers_are_refused_although_their_checksum_is_good(void **state)
{
    (void)state;
    uint64_t zero = 0;
    uint64_t one = 1;
    uint64_t huge = UINT64_MAX;
    uint32_t few_bytes = 80;
    uint32_t odd_bytes = 321;
    uint32_t mark = BATCH_MARK;
    uint32_t unknown = 1u << 9;
    assert_int_equal(batch_decode_patched(32, &zero, 8, NULL), ERR_CORRUPT); /* batch_seq 0 */
    assert_int_equal(batch_decode_patched(40, &zero, 8, NULL), ERR_CORRUPT); /* first_lsn 0 */
    assert_int_equal(batch_decode_patched(40, &huge, 8, NULL), ERR_CORRUPT); /* LSNs would wrap */
    assert_int_equal(batch_decode_patched(80, &huge, 8, NULL),
                     ERR_CORRUPT); /* durable before it is written */
    assert_int_equal(batch_decode_patched(48, &zero, 4, NULL),
                     ERR_CORRUPT); /* no records, no mark */
    assert_int_equal(batch_decode_patched(12, &mark, 4, NULL),
                     ERR_CORRUPT); /* a mark with records */
    assert_int_equal(batch_decode_patched(12, &unknown, 4, NULL), ERR_CORRUPT);
    assert_int_equal(batch_decode_patched(60, &few_bytes, 4, NULL), ERR_CORRUPT);
    assert_int_equal(batch_decode_patched(60, &odd_bytes, 4, NULL), ERR_CORRUPT);
    assert_int_equal(batch_decode_patched(112, &one, 8, NULL), ERR_CORRUPT); /* reserved */
}

static void batches_end_on_block_boundaries(void **state)
{
    (void)state;
    assert_int_equal(batch_file_bytes(0), 4096);
    assert_int_equal(batch_file_bytes(4096 - 128), 4096);
    assert_int_equal(batch_file_bytes(4096 - 127), 8192);
    assert_int_equal(batch_file_bytes(UINT32_MAX), (1ull << 32) + 4096);
}

static void record_comes_back_as_written_at_every_size(void **state)
{
    (void)state;
    static uint8_t memory[512] __attribute__((aligned(8)));
    static const uint8_t text[] = "abcdefghijklmnopqrstuvwxyz";
    for (size_t meta = 0; meta <= 12; meta++) {
        for (size_t payload = 0; payload <= 20; payload++) {
            struct record in = {.kind = RECORD_RUN,
                                .encoding = 0,
                                .severity = 5,
                                .event_time_ns = INT64_MIN,
                                .id = {{9, 8, 7}},
                                .meta = {text, meta},
                                .payload = {text + 3, payload}};
            struct record out;
            memset(memory, 0xee, sizeof memory);
            size_t bytes = record_encode(memory, &in);
            assert_int_equal(bytes, record_padded_bytes(meta, payload));
            assert_int_equal(memory[bytes], 0xee); /* nothing behind the padding is touched */
            assert_int_equal(record_decode(&out, (struct slice){memory, bytes}, NULL), bytes);
            assert_int_equal(out.kind, in.kind);
            assert_int_equal(out.severity, in.severity);
            assert_int_equal(out.event_time_ns, in.event_time_ns);
            assert_memory_equal(&out.id, &in.id, sizeof in.id);
            assert_int_equal(out.meta.bytes, meta);
            assert_int_equal(out.payload.bytes, payload);
            assert_memory_equal(out.meta.data, text, meta);
            assert_memory_equal(out.payload.data, text + 3, payload);
        }
    }
}

static void truncated_record_is_refused_and_nothing_behind_it_is_read(void **state)
{
    (void)state;
    struct guard guard = guard_open();
    uint8_t memory[128] __attribute__((aligned(8)));
    struct record record = {.kind = RECORD_LOG,
                            .meta = SLICE_LITERAL("1234567"),
                            .payload = SLICE_LITERAL("{\"a\":1}")};
    size_t bytes = record_encode(memory, &record);
    for (size_t cut = 0; cut < bytes; cut++) {
        struct slice from = {guard_put(&guard, memory, cut), cut};
        assert_int_equal(record_decode(&record, from, NULL), ERR_CORRUPT);
    }
    assert_int_equal(
        record_decode(&record, (struct slice){guard_put(&guard, memory, bytes), bytes}, NULL),
        bytes);
    guard_close(&guard);
}

static void record_with_impossible_fields_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t offset;
        uint8_t value;
    } patches[] = {
        {0, 0xff}, {3, 1},     {4, 0},  {4, 32}, {7, 1},  {7, 2},
        {32, 0},   {35, 0xff}, {36, 1}, {38, 1}, {39, 1}, {47, 1},
    };
    for (size_t i = 0; i < ARRAY_COUNT(patches); i++) {
        uint8_t memory[64] __attribute__((aligned(8)));
        struct record record = {.kind = RECORD_LOG, .payload = SLICE_LITERAL("{}")};
        size_t bytes = record_encode(memory, &record);
        memory[patches[i].offset] = patches[i].value;
        assert_int_equal(record_decode(&record, (struct slice){memory, bytes}, NULL), ERR_CORRUPT);
    }
}

static void kinds_have_their_wire_names(void **state)
{
    (void)state;
    assert_string_equal(record_kind_name(RECORD_LOG), "log");
    assert_string_equal(record_kind_name(RECORD_METRIC), "metric");
    assert_string_equal(record_kind_name(RECORD_EVENT), "event");
    assert_string_equal(record_kind_name(RECORD_RUN), "run");
    assert_string_equal(record_kind_name(RECORD_GPU), "gpu");
    assert_null(record_kind_name((enum record_kind)0));
    assert_null(record_kind_name((enum record_kind)6));
    assert_null(record_kind_name(RECORD_KIND_MAX));
}

static size_t meta_sample(uint8_t *to)
{
    struct receipt receipt = {
        .key = SLICE_LITERAL("order-4711"),
        .body_digest = {1, 2, 3},
        .form = 2,
        .accepted = 5,
        .rejected = 6,
        .errors = SLICE_LITERAL("[{\"index\":1}]"),
    };
    size_t bytes = meta_receipt_encode(to, &receipt);
    assert_int_equal(bytes, meta_receipt_bytes(&receipt));
    struct slice key = SLICE_LITERAL("event-1");
    assert_int_equal(meta_dedup_key_encode(to + bytes, key), meta_dedup_key_bytes(key));
    return bytes + meta_dedup_key_bytes(key);
}

static void meta_items_are_found_whatever_stands_before_them(void **state)
{
    (void)state;
    uint8_t memory[256] = {200, 0, 3, 0, 'x', 'y', 'z'}; /* an item of a later version first */
    size_t bytes = 7 + meta_sample(memory + 7);
    struct receipt receipt;
    struct slice key;
    assert_int_equal(meta_find_receipt(&receipt, (struct slice){memory, bytes}), 1);
    assert_true(slice_equal(receipt.key, SLICE_LITERAL("order-4711")));
    assert_true(slice_equal(receipt.errors, SLICE_LITERAL("[{\"index\":1}]")));
    assert_int_equal(receipt.body_digest[2], 3);
    assert_int_equal(receipt.form, 2);
    assert_int_equal(receipt.accepted, 5);
    assert_int_equal(receipt.rejected, 6);
    assert_int_equal(meta_find_dedup_key(&key, (struct slice){memory, bytes}), 1);
    assert_true(slice_equal(key, SLICE_LITERAL("event-1")));
    assert_int_equal(meta_find_receipt(&receipt, (struct slice){memory, 7}), 0);
    assert_int_equal(meta_find_dedup_key(&key, (struct slice){NULL, 0}), 0);
}

static void truncated_meta_is_never_believed(void **state)
{
    (void)state;
    struct guard guard = guard_open();
    uint8_t memory[256];
    size_t bytes = meta_sample(memory);
    size_t receipt_bytes = bytes - meta_dedup_key_bytes(SLICE_LITERAL("event-1"));
    for (size_t cut = 0; cut < bytes; cut++) {
        struct slice meta = {guard_put(&guard, memory, cut), cut};
        struct receipt receipt;
        struct slice key;
        assert_int_equal(meta_find_receipt(&receipt, meta), cut == 0              ? 0
                                                            : cut < receipt_bytes ? ERR_CORRUPT
                                                                                  : 1);
        int expected = cut == 0 || cut == receipt_bytes ? 0 : ERR_CORRUPT;
        assert_int_equal(meta_find_dedup_key(&key, meta), expected);
    }
    guard_close(&guard);
}

/* ---- where a record came from, how far a poller had read ---- */

static struct origin origin_sample(void)
{
    return (struct origin){.node = {{9, 8, 7, 6}},
                           .lsn = 77,
                           .range_first = 70,
                           .range_last = UINT64_MAX,
                           .range_kinds = 6};
}

static void origin_comes_back_as_written_with_and_without_a_range(void **state)
{
    (void)state;
    uint8_t memory[256];
    size_t before = meta_sample(memory);
    for (unsigned has_range = 0; has_range < 2; has_range++) {
        struct origin origin = origin_sample();
        origin.range_first = has_range != 0 ? origin.range_first : 0;
        origin.range_last = has_range != 0 ? origin.range_last : 0;
        origin.range_kinds = has_range != 0 ? origin.range_kinds : 0;
        assert_int_equal(meta_origin_encode(memory + before, &origin), META_ORIGIN_BYTES);
        struct origin back;
        assert_int_equal(
            meta_find_origin(&back, (struct slice){memory, before + META_ORIGIN_BYTES}), 1);
        uint8_t again[META_ORIGIN_BYTES];
        (void)meta_origin_encode(again, &back);
        assert_memory_equal(again, memory + before, sizeof again);
        assert_int_equal(back.range_kinds, origin.range_kinds);
        assert_int_equal(meta_find_origin(&back, (struct slice){memory, before}), 0);
    }
}

static void origin_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
    } faults[] = {
        {4 + 16, 0},  /* LSN 0 */
        {4 + 16, 69}, /* before its range */
        {4 + 24, 78}, /* likewise */
        {4 + 24, 0},  /* a range without a beginning */
        {4 + 32, 76}, /* behind its range */
        {4 + 32, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        uint8_t memory[META_ORIGIN_BYTES];
        struct origin origin = origin_sample();
        (void)meta_origin_encode(memory, &origin);
        memcpy(memory + faults[i].at, &faults[i].value, sizeof faults[i].value);
        assert_int_equal(meta_find_origin(&origin, (struct slice){memory, sizeof memory}),
                         ERR_CORRUPT);
    }
}

static void truncated_origin_and_watermark_are_never_believed(void **state)
{
    (void)state;
    struct guard guard = guard_open();
    uint8_t memory[256];
    struct origin origin = origin_sample();
    struct watermark watermark = {.source = SLICE_LITERAL("pg"), .mark = SLICE_LITERAL("17,2")};
    size_t bytes = meta_origin_encode(memory, &origin);
    for (size_t cut = 1; cut < bytes; cut++) {
        struct slice meta = {guard_put(&guard, memory, cut), cut};
        assert_int_equal(meta_find_origin(&origin, meta), ERR_CORRUPT);
    }
    bytes = meta_watermark_encode(memory, &watermark);
    assert_int_equal(bytes, meta_watermark_bytes(&watermark));
    for (size_t cut = 1; cut < bytes; cut++) {
        struct slice meta = {guard_put(&guard, memory, cut), cut};
        assert_int_equal(meta_find_watermark(&watermark, meta), ERR_CORRUPT);
    }
    guard_close(&guard);
}

/* An item whose length was changed together with the item header's, so that the framing is good. */
static void items_of_another_length_are_refused(void **state)
{
    (void)state;
    uint8_t memory[META_ORIGIN_BYTES + 8] = {0};
    struct origin origin = origin_sample();
    (void)meta_origin_encode(memory, &origin);
    for (uint8_t bytes = 0; bytes <= META_ORIGIN_BYTES - 4 + 8; bytes++) {
        memory[2] = bytes;
        bool is_without_kinds = bytes == META_ORIGIN_BYTES - 8;
        bool is_good = bytes == META_ORIGIN_BYTES - 4 || is_without_kinds;
        assert_int_equal(meta_find_origin(&origin, (struct slice){memory, 4u + bytes}),
                         is_good ? 1 : ERR_CORRUPT);
        assert_true(!is_without_kinds || origin.range_kinds == UINT32_MAX);
    }
}

static void the_first_origin_comes_back_with_every_node_it_passed(void **state)
{
    (void)state;
    struct guard guard = guard_open();
    uint8_t memory[META_FIRST_BYTES_MAX];
    for (unsigned count = 0; count <= FIRST_VIA_MAX; count++) {
        struct first_origin first = {.node = {{1, 2}}, .lsn = UINT64_MAX, .via_count = count};
        struct first_origin back;
        for (unsigned i = 0; i < count; i++) {
            first.via[i] = (struct ulid){{(uint8_t)(3 + i)}};
        }
        size_t bytes = meta_first_encode(memory, &first);
        assert_int_equal(bytes, meta_first_bytes(&first));
        assert_int_equal(meta_find_first(&back, (struct slice){memory, bytes}), 1);
        assert_int_equal(back.via_count, count);
        assert_int_equal(back.lsn, first.lsn);
        assert_memory_equal(&back.node, &first.node, ULID_BYTES);
        assert_memory_equal(back.via, first.via, count * ULID_BYTES);
        for (size_t cut = 1; cut < bytes; cut++) {
            struct slice meta = {guard_put(&guard, memory, cut), cut};
            assert_int_equal(meta_find_first(&back, meta), ERR_CORRUPT);
            /* Likewise where the framing is good. */
            uint8_t length[2] = {memory[2], memory[3]};
            memory[2] = (uint8_t)(cut - 4);
            memory[3] = (uint8_t)((cut - 4) >> 8);
            bool is_shorter = cut >= 28 && (cut - 28) % ULID_BYTES == 0;
            if (cut >= 4) {
                assert_int_equal(meta_find_first(&back, (struct slice){memory, cut}),
                                 is_shorter ? 1 : ERR_CORRUPT);
            }
            memory[2] = length[0];
            memory[3] = length[1];
        }
    }
    memset(memory + 4 + ULID_BYTES, 0, 8);
    struct first_origin back;
    assert_int_equal(meta_find_first(&back, (struct slice){memory, sizeof memory}), ERR_CORRUPT);
    guard_close(&guard);
}

static void watermark_comes_back_as_written_at_every_size(void **state)
{
    (void)state;
    static uint8_t text[WATERMARK_MARK_MAX];
    static uint8_t memory[WATERMARK_MARK_MAX + WATERMARK_SOURCE_MAX + 16];
    memset(text, 'w', sizeof text);
    static const size_t marks[] = {0, 1, 100, WATERMARK_MARK_MAX};
    for (size_t source = 1; source <= WATERMARK_SOURCE_MAX; source++) {
        for (size_t i = 0; i < ARRAY_COUNT(marks); i++) {
            struct watermark watermark = {.source = {text, source}, .mark = {text, marks[i]}};
            size_t bytes = meta_watermark_encode(memory, &watermark);
            assert_int_equal(bytes, meta_watermark_bytes(&watermark));
            struct watermark back;
            assert_int_equal(meta_find_watermark(&back, (struct slice){memory, bytes}), 1);
            assert_true(slice_equal(back.source, watermark.source));
            assert_true(slice_equal(back.mark, watermark.mark));
        }
    }
}

static void impossible_watermarks_are_refused(void **state)
{
    (void)state;
    uint8_t memory[64];
    struct watermark watermark = {.source = SLICE_LITERAL("pg"), .mark = SLICE_LITERAL("17,2")};
    size_t bytes = meta_watermark_encode(memory, &watermark);
    static const struct {
        size_t at;
        uint8_t value;
    } faults[] = {{4, 0}, {4, 7}, {4, 65}, {4, 255}, {5, 1}};
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        (void)meta_watermark_encode(memory, &watermark);
        memory[faults[i].at] = faults[i].value;
        assert_int_equal(meta_find_watermark(&watermark, (struct slice){memory, bytes}),
                         ERR_CORRUPT);
        watermark =
            (struct watermark){.source = SLICE_LITERAL("pg"), .mark = SLICE_LITERAL("17,2")};
    }
}

static void batch_header_keeps_its_origin_lsn_and_flag(void **state)
{
    (void)state;
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header header = batch_sample();
    header.flags |= BATCH_ORIGIN;
    header.origin_lsn = 1001;
    batch_header_encode(bytes, &header);
    struct batch_header back;
    assert_int_equal(batch_header_decode(&back, bytes, NULL), 0);
    assert_int_equal(back.origin_lsn, 1001);
    assert_int_equal(back.flags, BATCH_KEYED | BATCH_ORIGIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_header_comes_back_as_written),
        cmocka_unit_test(segment_header_with_any_bit_changed_is_refused),
        cmocka_unit_test(batch_header_comes_back_as_written),
        cmocka_unit_test(batch_header_with_any_bit_changed_is_refused),
        cmocka_unit_test(newer_version_with_a_good_checksum_is_told_apart_from_damage),
        cmocka_unit_test(impossible_batch_headers_are_refused_although_their_checksum_is_good),
        cmocka_unit_test(batches_end_on_block_boundaries),
        cmocka_unit_test(record_comes_back_as_written_at_every_size),
        cmocka_unit_test(truncated_record_is_refused_and_nothing_behind_it_is_read),
        cmocka_unit_test(record_with_impossible_fields_is_refused),
        cmocka_unit_test(kinds_have_their_wire_names),
        cmocka_unit_test(meta_items_are_found_whatever_stands_before_them),
        cmocka_unit_test(truncated_meta_is_never_believed),
        cmocka_unit_test(origin_comes_back_as_written_with_and_without_a_range),
        cmocka_unit_test(origin_that_contradicts_itself_is_refused),
        cmocka_unit_test(truncated_origin_and_watermark_are_never_believed),
        cmocka_unit_test(items_of_another_length_are_refused),
        cmocka_unit_test(the_first_origin_comes_back_with_every_node_it_passed),
        cmocka_unit_test(watermark_comes_back_as_written_at_every_size),
        cmocka_unit_test(impossible_watermarks_are_refused),
        cmocka_unit_test(batch_header_keeps_its_origin_lsn_and_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
