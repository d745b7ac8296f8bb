/* sealed: footer and compacted header come back as they went in; whatever else lies in a file's last
 * block is not taken for a footer. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/crc32c.h"
#include "store/sealed.h"
#include "store/segment.h"

#define FILE_BYTES (64u * 1024u)

static uint8_t block[STORE_BLOCK_BYTES];

static const struct segment_header segment = {
    .segment_id = 9,
    .salt = 0x1122334455667788,
    .node = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .file_bytes = FILE_BYTES,
};

static struct segment_footer make_footer(void)
{
    return (struct segment_footer){
        .form = SEGMENT_FORM_RAW,
        .segment_id = segment.segment_id,
        .salt = segment.salt,
        .node = segment.node,
        .first_lsn = 100,
        .last_lsn = 149,
        .first_seq = 7,
        .last_seq = 12,
        .first_previous_crc = 0xabcdef01,
        .last_crc = 0x10fedcba,
        .keyed_lsn = 140,
        .durable_lsn = 145,
        .record_count = 50,
        .raw_bytes = 9000,
        .payload_bytes = 5000,
        .kinds = 1u << RECORD_LOG,
        .severities = 1u << SEVERITY_INFO,
        .time_min_ns = -3,
        .time_max_ns = 1700000000000000000,
        .built_min_ns = 1700000000000000001,
        .built_max_ns = 1700000000000000002,
        .index_offset = FILE_BYTES,
        .index_bytes = 96 + 32,
        .entry_count = 1,
        .index_crc = 0x55aa55aa,
        .content_digest = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    };
}

/* Puts fields that the encoder would refuse to write, with a good checksum. */
static void poke(size_t at, uint64_t value, size_t bytes)
{
    memcpy(block + at, &value, bytes);
    uint32_t crc = crc32c(0, block, 252);
    memcpy(block + 252, &crc, sizeof crc);
}

static void footer_comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct segment_footer footer = make_footer();
    struct segment_footer found = {0};
    uint8_t again[STORE_BLOCK_BYTES];
    memset(block, 0xee, sizeof block);
    segment_footer_encode(block, &footer);
    assert_int_equal(segment_footer_decode(&found, block, NULL), 0);
    assert_int_equal(found.first_lsn, 100);
    assert_int_equal(found.time_min_ns, -3);
    assert_memory_equal(found.content_digest, footer.content_digest, 16);
    segment_footer_encode(again, &found); /* every field is in the bytes */
    assert_memory_equal(again, block, sizeof block);
    assert_int_equal(segment_footer_check(&found, &segment, FILE_BYTES + 8192, NULL), 0);
}

static void footer_of_an_empty_segment_is_possible(void **state)
{
    (void)state;
    struct segment_footer footer = {.form = SEGMENT_FORM_RAW,
                                    .segment_id = 9,
                                    .first_lsn = 1,
                                    .last_lsn = 0,
                                    .index_offset = FILE_BYTES};
    segment_footer_encode(block, &footer);
    assert_int_equal(segment_footer_decode(&footer, block, NULL), 0);
    assert_int_equal(footer.last_lsn, 0);
}

static void no_changed_bit_of_the_block_is_accepted(void **state)
{
    (void)state;
    struct segment_footer footer = make_footer();
    segment_footer_encode(block, &footer);
    for (size_t i = 0; i < 8 * sizeof block; i++) {
        block[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(segment_footer_decode(&footer, block, NULL), ERR_CORRUPT);
        block[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(segment_footer_decode(&footer, block, NULL), 0);
}

static void zeroes_and_batches_are_no_footer(void **state)
{
    (void)state;
    struct segment_footer footer;
    struct batch_header mark = {
        .flags = BATCH_MARK, .segment_id = 9, .salt = 1, .batch_seq = 1, .first_lsn = 1};
    memset(block, 0, sizeof block);
    assert_int_equal(segment_footer_decode(&footer, block, NULL), ERR_CORRUPT);
    batch_header_encode(block, &mark);
    assert_int_equal(segment_footer_decode(&footer, block, NULL), ERR_CORRUPT);
}

static void newer_version_is_only_believed_with_a_good_checksum(void **state)
{
    (void)state;
    struct segment_footer footer = make_footer();
    struct err err = {0};
    segment_footer_encode(block, &footer);
    poke(8, SEALED_VERSION + 1, 2);
    assert_int_equal(segment_footer_decode(&footer, block, &err), ERR_VERSION);
    assert_non_null(strstr(err.text, "version 2"));
    block[20] ^= 1;
    assert_int_equal(segment_footer_decode(&footer, block, &err), ERR_CORRUPT);
    block[20] ^= 1;
    poke(8, 0, 2);
    assert_int_equal(segment_footer_decode(&footer, block, &err), ERR_CORRUPT);
}

static void impossible_footers_with_a_good_checksum_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at, bytes;
        uint64_t value;
        const char *text;
    } faults[] = {
        {10, 2, 255, "footer_bytes"},
        {12, 4, 0, "form"},
        {12, 4, 3, "form"},
        {16, 8, 0, "segment_id"},
        {48, 8, 0, "LSNs"},
        {48, 8, 151, "LSNs"},
        {56, 8, 98, "LSNs"},
        {56, 8, UINT64_MAX, "LSNs"},
        {56, 8, 150, "record_count"},
        {104, 8, 49, "record_count"},
        {104, 8, 51, "record_count"},
        {64, 8, 0, "sequence"},
        {72, 8, 6, "sequence"},
        {184, 4, 0, "sequence"},
        {112, 8, 4999, "raw_bytes"},
        {112, 8, 50 * 40 - 1, "raw_bytes"},
        {120, 8, 9001, "raw_bytes"},
        {168, 8, FILE_BYTES + 8, "place"},
        {168, 8, 0, "place"},
        {168, 8, UINT64_MAX - 4095, "place"},
        {176, 8, UINT64_MAX, "place"},
        {176, 8, 95, "place"},
        {184, 4, 2, "place"},
        {208, 4, 2, "flags"},
        {220, 4, 1, "reserved"},
        {248, 4, 1, "reserved"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(faults); i++) {
        struct segment_footer footer = make_footer();
        struct err err = {0};
        segment_footer_encode(block, &footer);
        poke(faults[i].at, faults[i].value, faults[i].bytes);
        assert_int_equal(segment_footer_decode(&footer, block, &err), ERR_CORRUPT);
        if (strstr(err.text, faults[i].text) == NULL) {
            fail_msg("%zu: %s, where \"%s\" belongs", i, err.text, faults[i].text);
        }
    }
}

static void only_a_damaged_raw_segment_may_miss_records(void **state)
{
    (void)state;
    struct segment_footer footer = make_footer();
    footer.flags = SEALED_DAMAGED;
    footer.record_count = 30;
    segment_footer_encode(block, &footer);
    assert_int_equal(segment_footer_decode(&footer, block, NULL), 0);
    poke(12, SEGMENT_FORM_COMPACTED, 4);
    assert_int_equal(segment_footer_decode(&footer, block, NULL), ERR_CORRUPT);
}

static void expect_stranger(const struct segment_footer *footer, uint64_t file_bytes,
                            const char *text)
{
    struct err err = {0};
    assert_int_equal(segment_footer_check(footer, &segment, file_bytes, &err), ERR_CORRUPT);
    if (strstr(err.text, text) == NULL) {
        fail_msg("%s, where \"%s\" belongs", err.text, text);
    }
}

static void footer_of_another_file_is_refused(void **state)
{
    (void)state;
    const struct segment_footer good = make_footer();
    struct segment_footer footer = good;
    footer.segment_id++;
    expect_stranger(&footer, FILE_BYTES + 8192, "of segment 10");
    footer = good;
    footer.salt++;
    expect_stranger(&footer, FILE_BYTES + 8192, "salt");
    footer = good;
    footer.node.bytes[15]++;
    expect_stranger(&footer, FILE_BYTES + 8192, "another node");
    footer = good;
    footer.raw_bytes = FILE_BYTES + 1;
    expect_stranger(&footer, FILE_BYTES + 8192, "in a segment of");
    expect_stranger(&good, FILE_BYTES + 4096, "does not lie in a file");
    expect_stranger(&good, FILE_BYTES + 8191, "does not lie in a file");
    expect_stranger(&good, 0, "does not lie in a file");
    footer = good;
    footer.index_offset -= 4096; /* over the last batches */
    expect_stranger(&footer, FILE_BYTES + 8192, "does not lie in a file");
    footer.form = SEGMENT_FORM_COMPACTED;
    assert_int_equal(segment_footer_check(&footer, &segment, FILE_BYTES + 8192, NULL), 0);
}

static void compacted_header_is_its_own_kind_of_header(void **state)
{
    (void)state;
    struct segment_header found;
    struct err err = {0};
    compacted_header_encode(block, &segment);
    assert_memory_equal(block, "SLUICCMP", 8);
    assert_int_equal(compacted_header_decode(&found, block, NULL), 0);
    assert_int_equal(found.segment_id, segment.segment_id);
    assert_int_equal(found.salt, segment.salt);
    assert_int_equal(found.file_bytes, segment.file_bytes);
    assert_memory_equal(found.node.bytes, segment.node.bytes, ULID_BYTES);
    assert_int_equal(segment_header_decode(&found, block, NULL), ERR_CORRUPT);
    for (size_t i = 0; i < 8 * sizeof block; i++) {
        block[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(compacted_header_decode(&found, block, NULL), ERR_CORRUPT);
        block[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    segment_header_encode(block, &segment);
    assert_int_equal(compacted_header_decode(&found, block, NULL), ERR_CORRUPT);
    compacted_header_encode(block, &segment);
    block[8] = FORMAT_VERSION + 1;
    uint32_t crc = crc32c(0, block, 60);
    memcpy(block + 60, &crc, sizeof crc);
    assert_int_equal(compacted_header_decode(&found, block, &err), ERR_VERSION);
}

static void names_are_what_they_are_and_nothing_else(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_BYTES];
    uint64_t id = 0;
    compacted_name(name, 0x1f);
    assert_string_equal(name, "log/000000000000001f.slc");
    assert_true(compacted_parse_name(&id, name + 4));
    assert_int_equal(id, 0x1f);
    assert_false(compacted_is_temporary(name + 4));
    compacted_temporary_name(name, UINT64_MAX);
    assert_string_equal(name, "log/ffffffffffffffff.slt");
    assert_true(compacted_is_temporary(name + 4));
    assert_false(compacted_parse_name(&id, name + 4));
    static const char *const others[] = {"",
                                         ".slc",
                                         "000000000000001f.seg",
                                         "000000000000001F.slc",
                                         "00000000000001f.slc",
                                         "0000000000000001f.slc",
                                         "000000000000001f.slcx",
                                         "000000000000001f",
                                         "000000000000001f_slc",
                                         "+00000000000001f.slc",
                                         "0000000000000000.slc",
                                         "log/000000000000001f.slc"};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        assert_false(compacted_parse_name(&id, others[i]));
        assert_false(compacted_is_temporary(others[i]));
    }
    assert_int_equal(id, 0x1f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(footer_comes_back_as_it_went_in),
        cmocka_unit_test(footer_of_an_empty_segment_is_possible),
        cmocka_unit_test(no_changed_bit_of_the_block_is_accepted),
        cmocka_unit_test(zeroes_and_batches_are_no_footer),
        cmocka_unit_test(newer_version_is_only_believed_with_a_good_checksum),
        cmocka_unit_test(impossible_footers_with_a_good_checksum_are_refused),
        cmocka_unit_test(only_a_damaged_raw_segment_may_miss_records),
        cmocka_unit_test(footer_of_another_file_is_refused),
        cmocka_unit_test(compacted_header_is_its_own_kind_of_header),
        cmocka_unit_test(names_are_what_they_are_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
