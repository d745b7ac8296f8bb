/*
 * index: the sparse index of a segment: one entry per block of whole batches of about
 * INDEX_BLOCK_BYTES, with what a reader needs to know that nothing in it can match, and a small
 * filter (split-block Bloom) over the values of the fields that people look records up by.
 *
 * Pure: bytes in, structs out. index_builder owns growing memory (mem_alloc); index_open borrows.
 * The store does not know JSON: who fills an index is given a record_keys_fn by the composition
 * (api/record_keys.c) that calls back with each (field, value) of a record.
 *
 * ON DISK (little endian; the blob lies before the footer of sealed.h, which has its CRC32C):
 *   entry_count entries of INDEX_ENTRY_BYTES, then the filters one after the other.
 *   ENTRY:
 *   00  8  offset          of the block in its file
 *   08  8  stored_bytes    it takes there (compacted: of the zstd frame; raw: with padding)
 *   16  8  raw_bytes       of the batches in it without padding (compacted: what the frame decodes
 * to) 24  8  first_lsn       of its first record (of the next to come when it has none) 32  4
 * record_count 36  4  batch_count 40  4  kinds           bit (1 << kind) 44  4  severities      bit
 * (1 << severity) 48  8  time_min_ns     event time; 0, 0 without records 56  8  time_max_ns 64  8
 * built_min_ns    receipt time of its batches 72  8  built_max_ns 80  4  filter_offset   from the
 * start of the filters 84  4  filter_bytes    multiple of 32; 0: no filter, everything may be
 * inside 88  4  stored_crc      CRC32C of the stored bytes (0 in a raw segment: batches have their
 * own) 92  4  reserved        0
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include "core/base.h"
#include "core/err.h"
#include "store/format.h"

#define INDEX_BLOCK_BYTES                                                                          \
    ((uint64_t)1 << 20) /* a block is closed by the batch that reaches this  \
                                               */
/* A block is less than INDEX_BLOCK_BYTES and the batch that closes it, whose payload_bytes has 32
 * bits. */
#define INDEX_RAW_BYTES_MAX       (INDEX_BLOCK_BYTES + BATCH_HEADER_BYTES + UINT32_MAX)
#define INDEX_ENTRY_BYTES         96u
#define INDEX_FILTER_BYTES_MAX    (32u * 1024u)
#define INDEX_FILTER_BITS_PER_KEY 10u /* about 1 % of false hits */

/* Fields that are looked up by equality. Part of the hashed key and so of the format: never
 * renumber. */
enum index_field {
    INDEX_SERVICE = 1, /* service, service_name */
    INDEX_SOURCE = 2,
    INDEX_NAME = 3, /* of a metric */
    INDEX_CORRELATION_ID = 4,
    INDEX_HOST = 5,
    INDEX_GPU = 6, /* uuid, gpu_id */
    INDEX_RUN = 7, /* run_id */
    INDEX_EVENT_ID = 8,
    INDEX_FIELD_MAX = 15,
};

/* XXH3-64 of the value, seeded by the field. Pure. */
uint64_t index_key(enum index_field field, struct slice value);

struct index_entry {
    uint64_t offset, stored_bytes, raw_bytes;
    uint64_t first_lsn;
    uint32_t record_count, batch_count;
    uint32_t kinds, severities;
    int64_t time_min_ns, time_max_ns;
    int64_t built_min_ns, built_max_ns;
    uint32_t filter_offset, filter_bytes;
    uint32_t stored_crc;
};

/* Calls on_key for every (field, unescaped value) of a record that should be findable. */
typedef void (*record_on_key)(void *to, enum index_field field, struct slice value);
typedef void (*record_keys_fn)(void *context, const struct record *record, record_on_key on_key,
                               void *to);

/* ---- building: one thread; blocks in order ---- */
struct index_builder;
struct index_builder *index_builder_new(void);
void index_builder_free(struct index_builder *builder);
void index_builder_reset(struct index_builder *builder);
/* From now on, also over a reset, no block gets a filter (filter_bytes 0: anything may be inside): for
 * who does not know the keys of records. A filter without keys would deny them all. */
void index_builder_omit_filters(struct index_builder *builder);
/* Opens a block at offset when none is open. */
void index_builder_add_batch(struct index_builder *builder, const struct batch_header *header,
                             uint64_t offset);
void index_builder_add_record(struct index_builder *builder, const struct record *record);
void index_builder_add_key(struct index_builder *builder, uint64_t key); /* index_key */
/* True when the open block has reached INDEX_BLOCK_BYTES of raw bytes. */
bool index_builder_is_full(const struct index_builder *builder);
/* Closes the open block (if any), which ends before end_offset in the file. */
void index_builder_end_block(struct index_builder *builder, uint64_t end_offset);
/* The blob; borrowed until the next call. A block must not be open. */
struct slice index_builder_blob(struct index_builder *builder, uint32_t *entry_count);

/* ---- looking: pure, borrows the blob ---- */
struct index {
    const uint8_t *entries;
    const uint8_t *filters;
    uint32_t entry_count;
    uint64_t filters_bytes;
};
/* Bounds, order of offsets and LSNs, reserved bytes; ERR_CORRUPT. The CRC is the footer's business.
 */
int index_open(struct index *index, struct slice blob, uint32_t entry_count,
               struct err *err) MUST_USE;
void index_entry_get(const struct index *index, uint32_t i, struct index_entry *entry);
/* False: no record of the block has that key. */
bool index_may_have(const struct index *index, const struct index_entry *entry, uint64_t key);
/* The last entry whose first_lsn is at most lsn; 0 when none. */
uint32_t index_find_lsn(const struct index *index, uint64_t lsn);
/* A copy of the blob's entries with other places (compaction keeps order, filters and all else). */
void index_entry_put(uint8_t *entry_bytes, const struct index_entry *entry);

#endif
