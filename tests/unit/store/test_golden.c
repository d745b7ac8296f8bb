/*
 * golden: the bytes on disk never change meaning. tests/golden/segment_v1.bin was written once by
 * the recipe below: today's encoders must still write it, and today's decoders must still read it.
 * Where the two differ the format has changed: that needs a new FORMAT_VERSION and a new golden
 * file beside the old one, never a new segment_v1.bin.
 *
 * SLUICE_GOLDEN_WRITE=1 in the environment writes a file that is missing; it never overwrites one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "store/format.h"

#ifndef SLUICE_GOLDEN_DIR
#define SLUICE_GOLDEN_DIR "tests/golden"
#endif

#define GOLDEN_NAME  SLUICE_GOLDEN_DIR "/segment_v1.bin"
#define GOLDEN_BYTES (3u * STORE_BLOCK_BYTES)

static uint8_t made[GOLDEN_BYTES];
static uint8_t kept[GOLDEN_BYTES];

/* A log record with a receipt, an event with its own key, a bare metric: everything that version 1
 * knows. */
static size_t make_records(uint8_t *to)
{
    uint8_t meta[128];
    struct receipt receipt = {
        .key = SLICE_LITERAL("order-4711"),
        .body_digest = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        .form = 2,
        .accepted = 2,
        .rejected = 1,
        .errors = SLICE_LITERAL("[{\"index\":1}]"),
    };
    struct record record = {
        .kind = RECORD_LOG,
        .severity = SEVERITY_ERROR,
        .event_time_ns = 1700000000123456789,
        .id = {{0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
        .meta = {meta, meta_receipt_encode(meta, &receipt)},
        .payload = SLICE_LITERAL("{\"service\":\"golden\",\"message\":\"caf\xc3\xa9\"}"),
    };
    size_t bytes = record_encode(to, &record);
    record.kind = RECORD_EVENT;
    record.severity = SEVERITY_NONE;
    record.event_time_ns = -1;
    record.id.bytes[15]++;
    record.meta.bytes = meta_dedup_key_encode(meta, SLICE_LITERAL("event-1"));
    record.payload = SLICE_LITERAL("{}");
    bytes += record_encode(to + bytes, &record);
    record.kind = RECORD_METRIC;
    record.event_time_ns = 1700000000000000000;
    record.id.bytes[15]++;
    record.meta.bytes = 0;
    record.payload = SLICE_LITERAL("{\"value\":1.5}");
    return bytes + record_encode(to + bytes, &record);
}

static void make(void)
{
    struct segment_header segment = {
        .segment_id = 1,
        .salt = 0x0123456789abcdef,
        .node = {{0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7}},
        .file_bytes = GOLDEN_BYTES,
    };
    memset(made, 0, sizeof made);
    segment_header_encode(made, &segment);
    uint8_t *at = made + STORE_BLOCK_BYTES;
    struct batch_header batch = {
        .flags = BATCH_KEYED,
        .segment_id = segment.segment_id,
        .salt = segment.salt,
        .batch_seq = 1,
        .first_lsn = 1,
        .record_count = 3,
        .kinds = 1u << RECORD_LOG | 1u << RECORD_EVENT | 1u << RECORD_METRIC,
        .payload_bytes = (uint32_t)make_records(at + BATCH_HEADER_BYTES),
        .time_min_ns = -1,
        .time_max_ns = 1700000000123456789,
        .built_at_ns = 1700000001000000000,
        .keyed_lsn = 2,
    };
    batch.payload_crc = crc32c(0, at + BATCH_HEADER_BYTES, batch.payload_bytes);
    batch_header_encode(at, &batch);
    struct batch_header mark = {
        .flags = BATCH_MARK,
        .segment_id = segment.segment_id,
        .salt = segment.salt,
        .batch_seq = 2,
        .first_lsn = 4,
        .previous_crc = batch.header_crc,
        .durable_lsn = 3,
        .built_at_ns = 1700000002000000000,
        .keyed_lsn = 2,
    };
    batch_header_encode(at + STORE_BLOCK_BYTES, &mark);
}

static int load(void **state)
{
    (void)state;
    make();
    FILE *file = fopen(GOLDEN_NAME, "rb");
    if (file == NULL && getenv("SLUICE_GOLDEN_WRITE") != NULL) {
        file = fopen(GOLDEN_NAME, "wb+");
        assert_non_null(file);
        assert_int_equal(fwrite(made, 1, sizeof made, file), sizeof made);
        rewind(file);
    }
    assert_non_null(file);
    assert_int_equal(fread(kept, 1, sizeof kept, file), sizeof kept);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
    return 0;
}

static void todays_encoders_write_the_golden_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < GOLDEN_BYTES; i++) {
        if (made[i] != kept[i]) {
            fail_msg("byte %zu is 0x%02x, was 0x%02x", i, made[i], kept[i]);
        }
    }
}

static void the_file_has_the_bytes_that_the_tables_of_format_h_name(void **state)
{
    (void)state;
    /* By hand, so that an encoder and a decoder that agree on a mistake are found out. */
    const uint8_t *batch = kept + STORE_BLOCK_BYTES;
    assert_memory_equal(
        kept, "SLUICSEG\x01\x00\x40\x00\x00\x10\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", 24);
    assert_memory_equal(kept + 24, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8);
    assert_memory_equal(batch, "SLUICBAT\x01\x00\x80\x00\x02\x00\x00\x00", 16);
    assert_memory_equal(batch + 48, "\x03\x00\x00\x00\x00\x00\x00\x00\x0e\x00\x00\x00", 12);
    assert_memory_equal(batch + 64, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_memory_equal(batch + 128 + 4, "\x01\x00\x05\x01", 4);
    assert_memory_equal(batch + 128 + 40, "\x01\x00", 2);
    assert_memory_equal(batch + STORE_BLOCK_BYTES + 12, "\x01\x00\x00\x00", 4);
}

static void todays_decoders_read_the_golden_bytes(void **state)
{
    (void)state;
    struct segment_header segment;
    struct batch_header batch;
    struct batch_header mark;
    struct record record;
    struct receipt receipt;
    struct slice key;
    const uint8_t *at = kept + STORE_BLOCK_BYTES;
    assert_int_equal(segment_header_decode(&segment, kept, NULL), 0);
    assert_int_equal(batch_header_decode(&batch, at, NULL), 0);
    assert_int_equal(batch_header_decode(&mark, at + STORE_BLOCK_BYTES, NULL), 0);
    assert_int_equal(mark.previous_crc, batch.header_crc);
    struct slice rest = {at + BATCH_HEADER_BYTES, batch.payload_bytes};
    assert_int_equal(crc32c(0, rest.data, rest.bytes), batch.payload_crc);
    int64_t bytes = record_decode(&record, rest, NULL);
    assert_true(bytes > 0);
    assert_int_equal(meta_find_receipt(&receipt, record.meta), 1);
    assert_true(slice_equal(receipt.key, SLICE_LITERAL("order-4711")));
    rest = (struct slice){rest.data + bytes, rest.bytes - (size_t)bytes};
    bytes = record_decode(&record, rest, NULL);
    assert_true(bytes > 0);
    assert_int_equal(meta_find_dedup_key(&key, record.meta), 1);
    assert_true(slice_equal(key, SLICE_LITERAL("event-1")));
    rest = (struct slice){rest.data + bytes, rest.bytes - (size_t)bytes};
    assert_int_equal(record_decode(&record, rest, NULL), rest.bytes);
    assert_true(slice_equal(record.payload, SLICE_LITERAL("{\"value\":1.5}")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(todays_encoders_write_the_golden_bytes),
        cmocka_unit_test(the_file_has_the_bytes_that_the_tables_of_format_h_name),
        cmocka_unit_test(todays_decoders_read_the_golden_bytes),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
