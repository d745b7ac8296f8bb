/*
 * golden_sealed: the bytes of a sealed and of a compacted segment never change meaning. Both files
 * hold the batches of segment_v1.bin. sealed_v1.bin must come out of today's encoders byte for
 * byte; so must everything in compacted_v1.bin but the frames, whose bytes are zstd's business: the
 * frame that is in the file must decode to the batches, today and for ever.
 *
 * Where they differ the format has changed: that needs a new SEALED_VERSION and new golden files
 * beside the old ones. SLUICE_GOLDEN_WRITE=1 in the environment writes a file that is missing; it
 * never overwrites one.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sealed_fixture.h"

#ifndef SLUICE_GOLDEN_DIR
#define SLUICE_GOLDEN_DIR "tests/golden"
#endif

#define SEGMENT_BYTES   (3u * STORE_BLOCK_BYTES)
#define SEALED_BYTES    (5u * STORE_BLOCK_BYTES) /* segment, index, footer */
#define COMPACTED_BYTES (4u * STORE_BLOCK_BYTES) /* header, frame, index, footer */

static struct sealed_fixture sf;
static uint8_t sealed[SEALED_BYTES];
static uint8_t compacted[COMPACTED_BYTES];

static void golden_load(const char *name, uint8_t *to, size_t bytes, const uint8_t *made)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", SLUICE_GOLDEN_DIR, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL && made != NULL && getenv("SLUICE_GOLDEN_WRITE") != NULL) {
        file = fopen(path, "wb+");
        assert_non_null(file);
        assert_int_equal(fwrite(made, 1, bytes, file), bytes);
        rewind(file);
    }
    assert_non_null(file);
    assert_int_equal(fread(to, 1, bytes, file), bytes);
    assert_int_equal(fgetc(file), EOF);
    (void)fclose(file);
}

static int load(void **state)
{
    (void)state;
    sf_open(&sf);
    sf.raw = mem_alloc(SEGMENT_BYTES);
    golden_load("segment_v1.bin", sf.raw, SEGMENT_BYTES, NULL);
    assert_int_equal(segment_header_decode(&sf.header, sf.raw, NULL), 0);
    sf.batch_at[0] = STORE_BLOCK_BYTES;
    sf.batch_at[1] = 2 * STORE_BLOCK_BYTES;
    sf.batch_count = 2;
    sf.end = SEGMENT_BYTES;
    sf_compact(&sf);
    assert_int_equal(sf.sealed_bytes, COMPACTED_BYTES);
    golden_load("compacted_v1.bin", compacted, COMPACTED_BYTES, sf.sealed);
    sf_seal(&sf);
    assert_int_equal(sf.sealed_bytes, SEALED_BYTES);
    golden_load("sealed_v1.bin", sealed, SEALED_BYTES, sf.sealed);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    sf_close(&sf);
    return 0;
}

static void expect_bytes(const uint8_t *made, const uint8_t *kept, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (made[i] != kept[i]) {
            fail_msg("byte %zu is 0x%02x, was 0x%02x", i, made[i], kept[i]);
        }
    }
}

static struct segment_footer footer_of(const uint8_t *file, size_t bytes)
{
    struct segment_footer footer;
    const uint8_t *block = file + bytes - STORE_BLOCK_BYTES;
    assert_int_equal(segment_footer_decode(&footer, block, NULL), 0);
    assert_int_equal(segment_footer_check(&footer, &sf.header, bytes, NULL), 0);
    return footer;
}

static struct index index_of(const uint8_t *file, const struct segment_footer *footer)
{
    struct index index;
    struct slice blob = {file + footer->index_offset, (size_t)footer->index_bytes};
    assert_int_equal(crc32c(0, blob.data, blob.bytes), footer->index_crc);
    assert_int_equal(index_open(&index, blob, footer->entry_count, NULL), 0);
    return index;
}

static void todays_encoders_seal_to_the_golden_bytes(void **state)
{
    (void)state;
    expect_bytes(sf.sealed, sealed, SEALED_BYTES);
}

/* With the frame that is in the file everything around it comes out as it is there. */
static void todays_encoders_compact_to_the_golden_bytes_around_the_frame(void **state)
{
    (void)state;
    uint8_t made[COMPACTED_BYTES];
    struct segment_footer footer = footer_of(sealed, SEALED_BYTES);
    struct index index = index_of(sealed, &footer);
    struct segment_footer kept = footer_of(compacted, COMPACTED_BYTES);
    struct index kept_index = index_of(compacted, &kept);
    struct index_entry entry;
    struct index_entry kept_entry;
    uint8_t blob[INDEX_ENTRY_BYTES + 32];
    assert_int_equal(footer.index_bytes, sizeof blob);
    memcpy(blob, sealed + footer.index_offset, sizeof blob);
    index_entry_get(&index, 0, &entry);
    index_entry_get(&kept_index, 0, &kept_entry);
    entry.offset = STORE_BLOCK_BYTES;
    entry.stored_bytes = kept_entry.stored_bytes;
    entry.stored_crc = crc32c(0, compacted + STORE_BLOCK_BYTES, kept_entry.stored_bytes);
    index_entry_put(blob, &entry);
    memset(made, 0xee, sizeof made);
    compacted_header_encode(made, &sf.header);
    memcpy(made + STORE_BLOCK_BYTES, compacted + STORE_BLOCK_BYTES, entry.stored_bytes);
    footer.form = SEGMENT_FORM_COMPACTED;
    uint64_t bytes = sf_finish(made, STORE_BLOCK_BYTES + entry.stored_bytes,
                               (struct slice){blob, sizeof blob}, &footer);
    assert_int_equal(bytes, COMPACTED_BYTES);
    expect_bytes(made, compacted, COMPACTED_BYTES);
}

static void the_files_have_the_bytes_that_the_tables_name(void **state)
{
    (void)state;
    /* By hand, so that an encoder and a decoder that agree on a mistake are found out. */
    const uint8_t *footer = sealed + SEALED_BYTES - STORE_BLOCK_BYTES;
    assert_memory_equal(sealed, sf.raw, SEGMENT_BYTES);
    assert_memory_equal(footer, "SLUICEND\x01\x00\x00\x01\x01\x00\x00\x00\x01\x00", 18);
    assert_memory_equal(footer + 24, "\xef\xcd\xab\x89\x67\x45\x23\x01", 8);      /* salt */
    assert_memory_equal(footer + 48, "\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0", 16); /* LSNs */
    assert_memory_equal(footer + 64, "\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", 16); /* seqs */
    assert_memory_equal(footer + 88, "\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0", 16); /* keyed */
    assert_memory_equal(footer + 128, "\x0e\0\0\0\x21\0\0\0", 8); /* kinds, severities */
    assert_memory_equal(footer + 136, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    assert_memory_equal(footer + 168, "\x00\x30\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\x01\0\0\0", 20);
    const uint8_t *entry = sealed + SEGMENT_BYTES;
    assert_memory_equal(entry, "\x00\x10\0\0\0\0\0\0\x00\x20\0\0\0\0\0\0", 16);
    assert_memory_equal(entry + 24, "\x01\0\0\0\0\0\0\0\x03\0\0\0\x02\0\0\0\x0e\0\0\0\x21", 21);
    assert_memory_equal(entry + 80, "\0\0\0\0\x20\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_memory_equal(compacted, "SLUICCMP\x01\x00\x40\x00", 12);
    assert_memory_equal(compacted + STORE_BLOCK_BYTES, "\x28\xb5\x2f\xfd", 4); /* zstd */
    assert_memory_equal(compacted + COMPACTED_BYTES - STORE_BLOCK_BYTES + 12, "\x02\0\0\0", 4);
}

static void keys_hash_to_what_they_always_hashed_to(void **state)
{
    (void)state;
    assert_int_equal(index_key(INDEX_SERVICE, SLICE_LITERAL("golden")), 0xfba6b5c8bbfd156aull);
    assert_int_equal(index_key(INDEX_HOST, SLICE_LITERAL("golden")), 0xa9b1113223b36b28ull);
}

static void todays_filter_finds_the_golden_keys(void **state)
{
    (void)state;
    struct segment_footer footer = footer_of(compacted, COMPACTED_BYTES);
    struct index index = index_of(compacted, &footer);
    struct index_entry entry;
    index_entry_get(&index, 0, &entry);
    assert_int_equal(entry.filter_bytes, 32);
    assert_true(index_may_have(&index, &entry, index_key(INDEX_SERVICE, SLICE_LITERAL("{}"))));
    assert_false(index_may_have(&index, &entry, index_key(INDEX_HOST, SLICE_LITERAL("{}"))));
}

static void the_golden_frame_decodes_to_the_golden_batches(void **state)
{
    (void)state;
    sf_put(&sf, "log/0000000000000001.seg", sealed, SEALED_BYTES);
    sf_put(&sf, "log/0000000000000001.slc", compacted, COMPACTED_BYTES);
    struct block_reader *reader = block_reader_new();
    struct view_segment *segment = NULL;
    struct block block;
    struct digest *digest = digest_new();
    uint8_t found[DIGEST_BYTES];
    uint8_t raw[SEGMENT_BYTES];
    assert_int_equal(view_segment_open(&segment, sf.io, 1, VIEW_COMPACTED, NULL), 0);
    assert_int_equal(block_reader_load(reader, segment, 0, 0, &block, NULL), 0);
    struct index_entry all = {.stored_bytes = SEGMENT_BYTES};
    assert_int_equal(block.batches.bytes, sf_gather(&sf, &all, raw));
    assert_memory_equal(block.batches.data, raw, block.batches.bytes);
    digest_add(digest, block.batches);
    digest_get(digest, found);
    assert_memory_equal(found, segment->footer.content_digest, DIGEST_BYTES);
    view_segment_give(segment);
    assert_int_equal(view_segment_open(&segment, sf.io, 1, VIEW_SEALED, NULL), 0);
    assert_int_equal(block_reader_load(reader, segment, 0, 0, &block, NULL), 0);
    assert_memory_equal(block.batches.data, sf.raw + STORE_BLOCK_BYTES, block.batches.bytes);
    assert_memory_equal(found, segment->footer.content_digest, DIGEST_BYTES);
    view_segment_give(segment);
    digest_free(digest);
    block_reader_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(todays_encoders_seal_to_the_golden_bytes),
        cmocka_unit_test(todays_encoders_compact_to_the_golden_bytes_around_the_frame),
        cmocka_unit_test(the_files_have_the_bytes_that_the_tables_name),
        cmocka_unit_test(keys_hash_to_what_they_always_hashed_to),
        cmocka_unit_test(todays_filter_finds_the_golden_keys),
        cmocka_unit_test(the_golden_frame_decodes_to_the_golden_batches),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
