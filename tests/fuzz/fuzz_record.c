/*
 * fuzz_record: any bytes to the decoders of format.h. What is decoded must encode to the same bytes
 * again; nothing may be read beyond the input (the sanitizer's business). The checksums are made
 * good first, or no input would come past them.
 */
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void crc_fix(uint8_t *header, size_t header_bytes)
{
    uint32_t crc = crc32c(0, header, header_bytes - 4);
    memcpy(header + header_bytes - 4, &crc, sizeof crc);
}

/* What is found encodes to an item of the same length that is found again. */
static void try_provenance(struct slice meta, uint8_t *again)
{
    struct origin origin;
    struct first_origin first;
    struct origin back;
    struct watermark watermark;
    if (meta_find_origin(&origin, meta) > 0) {
        /* The form without kinds comes back with them. */
        uint8_t one[META_ORIGIN_BYTES];
        uint8_t two[META_ORIGIN_BYTES];
        ASSERT(meta_origin_encode(one, &origin) == sizeof one);
        ASSERT(meta_find_origin(&back, (struct slice){one, sizeof one}) == 1);
        (void)meta_origin_encode(two, &back);
        ASSERT(memcmp(one, two, sizeof one) == 0);
    }
    if (meta_find_first(&first, meta) > 0) {
        uint8_t first_again[META_FIRST_BYTES_MAX];
        size_t bytes = meta_first_encode(first_again, &first);
        ASSERT(bytes == meta_first_bytes(&first));
        ASSERT(meta_find_first(&first, (struct slice){first_again, bytes}) == 1);
    }
    if (meta_find_watermark(&watermark, meta) > 0) {
        size_t bytes = meta_watermark_bytes(&watermark);
        ASSERT(meta_watermark_encode(again, &watermark) == bytes && bytes <= meta.bytes);
        ASSERT(watermark.source.data > meta.data);
        ASSERT(memcmp(again + 6, watermark.source.data, bytes - 6) == 0);
    }
}

static void try_meta(struct slice meta)
{
    struct receipt receipt;
    struct slice key;
    uint8_t again[RECORD_META_BYTES_MAX + 8];
    if (meta_find_receipt(&receipt, meta) > 0) {
        ASSERT(meta_receipt_bytes(&receipt) <= meta.bytes);
        ASSERT(meta_receipt_encode(again, &receipt) == meta_receipt_bytes(&receipt));
        ASSERT(receipt.key.data >= meta.data);
        ASSERT(memcmp(again + 4, receipt.key.data - RECEIPT_FIXED_BYTES,
                      meta_receipt_bytes(&receipt) - 4) == 0);
    }
    if (meta_find_dedup_key(&key, meta) > 0) {
        ASSERT(meta_dedup_key_encode(again, key) <= meta.bytes);
    }
    try_provenance(meta, again);
}

static void try_record(struct slice from)
{
    struct record record;
    struct err err;
    int64_t taken = record_decode(&record, from, &err);
    if (taken < 0) {
        return;
    }
    ASSERT((size_t)taken <= from.bytes);
    uint8_t *again = mem_alloc((size_t)taken);
    ASSERT(record_encode(again, &record) == (size_t)taken);
    ASSERT(memcmp(again, from.data, (size_t)taken) == 0);
    mem_free(again);
    try_meta(record.meta);
}

static void try_batch_header(const uint8_t *data, size_t bytes)
{
    uint8_t header_bytes[BATCH_HEADER_BYTES] = {0};
    uint8_t again[BATCH_HEADER_BYTES];
    struct batch_header header;
    struct err err;
    memcpy(header_bytes, data, bytes < sizeof header_bytes ? bytes : sizeof header_bytes);
    (void)(batch_header_decode(&header, header_bytes, &err) == 0);
    crc_fix(header_bytes, sizeof header_bytes);
    if (batch_header_decode(&header, header_bytes, &err) == 0) {
        batch_header_encode(again, &header);
        ASSERT(memcmp(again, header_bytes, sizeof again) == 0);
        ASSERT(batch_file_bytes(header.payload_bytes) >= header.payload_bytes);
    }
}

static void try_segment_header(const uint8_t *data, size_t bytes)
{
    uint8_t block[STORE_BLOCK_BYTES] = {0};
    uint8_t again[STORE_BLOCK_BYTES];
    struct segment_header header;
    struct err err;
    memcpy(block, data, bytes < sizeof block ? bytes : sizeof block);
    crc_fix(block, SEGMENT_HEADER_BYTES);
    if (segment_header_decode(&header, block, &err) == 0) {
        segment_header_encode(again, &header);
        ASSERT(memcmp(again, block, sizeof again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    try_record((struct slice){data, bytes});
    try_meta((struct slice){data, bytes});
    try_batch_header(data, bytes);
    try_segment_header(data, bytes);
    return 0;
}
