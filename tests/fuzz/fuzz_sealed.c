/*
 * fuzz_sealed: any bytes to the decoders of sealed.h and index.h, to frames and to the walk over a
 * block. What is decoded must encode to the same bytes again; what an index accepts can be asked
 * anything; nothing is read or written beyond its bounds (the sanitizer's business). The checksums
 * are made good first, or no input would come past them.
 */
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/frame.h"
#include "store/log_view.h"
#include "store/sealed.h"

#define RAW_BYTES_MAX (64u * 1024u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void crc_fix(uint8_t *header, size_t header_bytes)
{
    uint32_t crc = crc32c(0, header, header_bytes - 4);
    memcpy(header + header_bytes - 4, &crc, sizeof crc);
}

static void try_footer(const uint8_t *data, size_t bytes)
{
    uint8_t block[STORE_BLOCK_BYTES] = {0};
    uint8_t again[STORE_BLOCK_BYTES];
    struct segment_footer footer;
    struct err err;
    memcpy(block, data, bytes < sizeof block ? bytes : sizeof block);
    (void)(segment_footer_decode(&footer, block, &err) == 0);
    crc_fix(block, SEALED_FOOTER_BYTES);
    if (segment_footer_decode(&footer, block, &err) < 0) {
        return;
    }
    segment_footer_encode(again, &footer);
    ASSERT(memcmp(again, block, sizeof again) == 0);
    struct segment_header header = {.segment_id = footer.segment_id,
                                    .salt = footer.salt,
                                    .node = footer.node,
                                    .file_bytes = 64u * 1024u};
    for (uint64_t file_bytes = 0; file_bytes <= 256u * 1024u; file_bytes += STORE_BLOCK_BYTES) {
        if (segment_footer_check(&footer, &header, file_bytes, &err) == 0) {
            ASSERT(footer.index_offset + footer.index_bytes <= file_bytes - STORE_BLOCK_BYTES);
            ASSERT(footer.raw_bytes <= header.file_bytes);
        }
    }
}

static void try_header(const uint8_t *data, size_t bytes)
{
    uint8_t block[STORE_BLOCK_BYTES] = {0};
    uint8_t again[STORE_BLOCK_BYTES];
    struct segment_header header;
    struct err err;
    memcpy(block, data, bytes < sizeof block ? bytes : sizeof block);
    crc_fix(block, SEGMENT_HEADER_BYTES);
    if (compacted_header_decode(&header, block, &err) == 0) {
        compacted_header_encode(again, &header);
        ASSERT(memcmp(again, block, sizeof again) == 0);
    }
}

static void try_index(struct slice blob, uint32_t entry_count)
{
    struct index index;
    struct err err;
    if (index_open(&index, blob, entry_count, &err) < 0) {
        return;
    }
    uint64_t end = 0;
    for (uint32_t i = 0; i < entry_count; i++) {
        struct index_entry entry;
        uint8_t again[INDEX_ENTRY_BYTES];
        index_entry_get(&index, i, &entry);
        index_entry_put(again, &entry);
        ASSERT(memcmp(again, blob.data + (size_t)i * INDEX_ENTRY_BYTES, sizeof again) == 0);
        ASSERT(entry.offset >= end);
        end = entry.offset + entry.stored_bytes;
        ASSERT(end > entry.offset);
        (void)index_may_have(&index, &entry, 0);
        (void)index_may_have(&index, &entry, UINT64_MAX);
        ASSERT(index_find_lsn(&index, entry.first_lsn) >= i);
        if (entry.record_count != 0) {
            ASSERT(index_find_lsn(&index, entry.first_lsn + entry.record_count - 1) == i);
        }
    }
}

/* The first two bytes say how much the frame behind them holds. */
static void try_frame(const uint8_t *data, size_t bytes)
{
    static struct frame_reader *reader;
    if (bytes < 2) {
        return;
    }
    if (reader == NULL) {
        reader = frame_reader_new(); /* for the life of the process */
    }
    size_t raw_bytes = (size_t)data[0] | (size_t)data[1] << 8;
    uint8_t *to = mem_alloc(raw_bytes + 1);
    struct err err;
    to[raw_bytes] = 0xa5;
    (void)(frame_decompress(reader, to, raw_bytes, (struct slice){data + 2, bytes - 2}, &err) == 0);
    ASSERT(to[raw_bytes] == 0xa5);
    mem_free(to);
}

/* Makes the checksums good of as many batches as follow each other. */
static void batches_fix(uint8_t *data, size_t bytes, uint64_t align)
{
    uint64_t at = 0;
    while (at + BATCH_HEADER_BYTES <= bytes) {
        uint32_t payload_bytes;
        memcpy(&payload_bytes, data + at + 60, sizeof payload_bytes);
        uint64_t room = bytes - at - BATCH_HEADER_BYTES;
        uint32_t crc = crc32c(0, data + at + BATCH_HEADER_BYTES, u64_min(payload_bytes, room));
        memcpy(data + at + 120, &crc, sizeof crc);
        crc_fix(data + at, BATCH_HEADER_BYTES);
        at = align_up(at + BATCH_HEADER_BYTES + payload_bytes, align);
    }
}

static void try_walk(const uint8_t *data, size_t bytes, uint64_t align, uint64_t salt)
{
    uint8_t *exact = mem_alloc(bytes + 1);
    memcpy(exact, data, bytes);
    batches_fix(exact, bytes, align);
    struct block_walk walk = {
        .block = {.batches = {exact, bytes}, .batch_align = align, .salt = salt}};
    struct record record;
    struct err err;
    uint64_t lsn = 0;
    uint64_t last_lsn = 0;
    size_t steps = 0;
    int result;
    while ((result = block_walk_next(&walk, &record, &lsn, &err)) != 0) {
        ASSERT(steps++ <= bytes); /* it ends */
        if (result == 1) {
            ASSERT(lsn > last_lsn);
            ASSERT(record.payload.bytes == 0 ||
                   (record.payload.data >= exact &&
                    record.payload.data + record.payload.bytes <= exact + bytes));
            last_lsn = lsn;
        } else {
            ASSERT(result == ERR_CORRUPT);
        }
    }
    ASSERT(block_walk_next(&walk, &record, &lsn, &err) == 0);
    mem_free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes > RAW_BYTES_MAX) {
        return 0;
    }
    try_footer(data, bytes);
    try_header(data, bytes);
    try_index((struct slice){data, bytes}, (uint32_t)(bytes / INDEX_ENTRY_BYTES));
    try_index((struct slice){data, bytes}, 1);
    try_index((struct slice){data, bytes}, 2);
    try_frame(data, bytes);
    try_walk(data, bytes, 1, 0);
    uint64_t salt = 0;
    if (bytes >= 32) {
        memcpy(&salt, data + 24, sizeof salt);
    }
    try_walk(data, bytes, STORE_BLOCK_BYTES, salt);
    return 0;
}
