/*
 * index: looking into a segment's sparse index (index_builder.c builds them); the bytes
 * are described in index.h. Pure: this file believes nothing of what it opens and allocates
 * nothing.
 *
 * The filter is the split-block Bloom filter of Apache Parquet: 32-byte blocks of eight words; the
 * upper half of a key chooses the block, the lower half, times eight odd salts, one bit in each
 * word. One cache line is touched for each key.
 */
#include "store/index.h"

#include <inttypes.h>
#include <string.h>

#include "store/digest.h"
#include "store/index_filter.h"
#include "store/bytes.h"

enum entry_offset {
    ENTRY_OFFSET_AT = 0,
    ENTRY_STORED_BYTES_AT = 8,
    ENTRY_RAW_BYTES_AT = 16,
    ENTRY_FIRST_LSN_AT = 24,
    ENTRY_RECORD_COUNT_AT = 32,
    ENTRY_BATCH_COUNT_AT = 36,
    ENTRY_KINDS_AT = 40,
    ENTRY_SEVERITIES_AT = 44,
    ENTRY_TIME_MIN_AT = 48,
    ENTRY_TIME_MAX_AT = 56,
    ENTRY_BUILT_MIN_AT = 64,
    ENTRY_BUILT_MAX_AT = 72,
    ENTRY_FILTER_OFFSET_AT = 80,
    ENTRY_FILTER_BYTES_AT = 84,
    ENTRY_STORED_CRC_AT = 88,
    ENTRY_RESERVED_AT = 92,
};

_Static_assert(ENTRY_RESERVED_AT + 4 == INDEX_ENTRY_BYTES, "the reserved word ends an entry");
_Static_assert(INDEX_FILTER_BYTES_MAX % FILTER_BLOCK_BYTES == 0, "filters are whole blocks");
_Static_assert(INDEX_FIELD_MAX < 16, "the field is the seed of the hash");

uint64_t index_key(enum index_field field, struct slice value)
{
    ASSERT(field >= 1);
    ASSERT(field <= INDEX_FIELD_MAX);
    return digest_64(value, (uint64_t)field);
}

/* ---- entries ---- */

void index_entry_put(uint8_t *entry_bytes, const struct index_entry *entry)
{
    uint8_t *to = entry_bytes;
    put_u64(to + ENTRY_OFFSET_AT, entry->offset);
    put_u64(to + ENTRY_STORED_BYTES_AT, entry->stored_bytes);
    put_u64(to + ENTRY_RAW_BYTES_AT, entry->raw_bytes);
    put_u64(to + ENTRY_FIRST_LSN_AT, entry->first_lsn);
    put_u32(to + ENTRY_RECORD_COUNT_AT, entry->record_count);
    put_u32(to + ENTRY_BATCH_COUNT_AT, entry->batch_count);
    put_u32(to + ENTRY_KINDS_AT, entry->kinds);
    put_u32(to + ENTRY_SEVERITIES_AT, entry->severities);
    put_u64(to + ENTRY_TIME_MIN_AT, (uint64_t)entry->time_min_ns);
    put_u64(to + ENTRY_TIME_MAX_AT, (uint64_t)entry->time_max_ns);
    put_u64(to + ENTRY_BUILT_MIN_AT, (uint64_t)entry->built_min_ns);
    put_u64(to + ENTRY_BUILT_MAX_AT, (uint64_t)entry->built_max_ns);
    put_u32(to + ENTRY_FILTER_OFFSET_AT, entry->filter_offset);
    put_u32(to + ENTRY_FILTER_BYTES_AT, entry->filter_bytes);
    put_u32(to + ENTRY_STORED_CRC_AT, entry->stored_crc);
    put_u32(to + ENTRY_RESERVED_AT, 0);
}

static void entry_read(const uint8_t *from, struct index_entry *entry)
{
    *entry = (struct index_entry){
        .offset = get_u64(from + ENTRY_OFFSET_AT),
        .stored_bytes = get_u64(from + ENTRY_STORED_BYTES_AT),
        .raw_bytes = get_u64(from + ENTRY_RAW_BYTES_AT),
        .first_lsn = get_u64(from + ENTRY_FIRST_LSN_AT),
        .record_count = get_u32(from + ENTRY_RECORD_COUNT_AT),
        .batch_count = get_u32(from + ENTRY_BATCH_COUNT_AT),
        .kinds = get_u32(from + ENTRY_KINDS_AT),
        .severities = get_u32(from + ENTRY_SEVERITIES_AT),
        .time_min_ns = (int64_t)get_u64(from + ENTRY_TIME_MIN_AT),
        .time_max_ns = (int64_t)get_u64(from + ENTRY_TIME_MAX_AT),
        .built_min_ns = (int64_t)get_u64(from + ENTRY_BUILT_MIN_AT),
        .built_max_ns = (int64_t)get_u64(from + ENTRY_BUILT_MAX_AT),
        .filter_offset = get_u32(from + ENTRY_FILTER_OFFSET_AT),
        .filter_bytes = get_u32(from + ENTRY_FILTER_BYTES_AT),
        .stored_crc = get_u32(from + ENTRY_STORED_CRC_AT),
    };
}

void index_entry_get(const struct index *index, uint32_t i, struct index_entry *entry)
{
    ASSERT(i < index->entry_count);
    entry_read(index->entries + (size_t)i * INDEX_ENTRY_BYTES, entry);
}

/* ---- opening ---- */

/* What an entry may say by itself. Every sum that later code forms is shown not to wrap here. */
static const char *entry_fault(const struct index_entry *entry)
{
    if (entry->stored_bytes == 0 || entry->offset > UINT64_MAX - entry->stored_bytes) {
        return "its place is impossible";
    }
    if (entry->batch_count == 0 || entry->raw_bytes > INDEX_RAW_BYTES_MAX ||
        entry->raw_bytes / BATCH_HEADER_BYTES < entry->batch_count ||
        entry->raw_bytes / RECORD_HEADER_BYTES < entry->record_count) {
        return "its batches and records do not fit its raw bytes";
    }
    if (entry->first_lsn == 0 || entry->first_lsn > UINT64_MAX - entry->record_count) {
        return "its LSNs are impossible";
    }
    if (entry->time_min_ns > entry->time_max_ns || entry->built_min_ns > entry->built_max_ns) {
        return "its times are in the wrong order";
    }
    if (entry->filter_bytes % FILTER_BLOCK_BYTES != 0 ||
        entry->filter_bytes > INDEX_FILTER_BYTES_MAX) {
        return "its filter has an impossible size";
    }
    return NULL;
}

static const char *entry_order_fault(const struct index_entry *before,
                                     const struct index_entry *entry)
{
    if (entry->offset < before->offset + before->stored_bytes) {
        return "it overlaps the one before";
    }
    if (entry->first_lsn < before->first_lsn + before->record_count) {
        return "its LSNs overlap those of the one before";
    }
    return NULL;
}

int index_open(struct index *index, struct slice blob, uint32_t entry_count, struct err *err)
{
    uint64_t entries_bytes = (uint64_t)entry_count * INDEX_ENTRY_BYTES;
    if (entries_bytes > blob.bytes) {
        return err_set(err, ERR_CORRUPT, "index: %u entries do not fit %zu bytes", entry_count,
                       blob.bytes);
    }
    uint64_t filters_bytes = blob.bytes - entries_bytes;
    struct index_entry before = {0};
    for (uint32_t i = 0; i < entry_count; i++) {
        const uint8_t *at = blob.data + (size_t)i * INDEX_ENTRY_BYTES;
        struct index_entry entry;
        entry_read(at, &entry);
        const char *fault = entry_fault(&entry);
        if (fault == NULL) {
            fault = entry_order_fault(&before, &entry);
        }
        if (fault == NULL && (uint64_t)entry.filter_offset + entry.filter_bytes > filters_bytes) {
            fault = "its filter lies outside";
        }
        if (fault == NULL && get_u32(at + ENTRY_RESERVED_AT) != 0) {
            fault = "its reserved bytes are not zero";
        }
        if (fault != NULL) {
            return err_set(err, ERR_CORRUPT, "index: entry %u: %s", i, fault);
        }
        before = entry;
    }
    *index = (struct index){
        .entries = blob.data,
        .filters = entries_bytes == 0 ? blob.data : blob.data + entries_bytes,
        .entry_count = entry_count,
        .filters_bytes = filters_bytes,
    };
    return 0;
}

/* ---- looking ---- */

bool index_may_have(const struct index *index, const struct index_entry *entry, uint64_t key)
{
    if (entry->filter_bytes == 0) {
        return true;
    }
    ASSERT((uint64_t)entry->filter_offset + entry->filter_bytes <= index->filters_bytes);
    return filter_may_have(index->filters + entry->filter_offset, entry->filter_bytes, key);
}

uint32_t index_find_lsn(const struct index *index, uint64_t lsn)
{
    uint32_t low = 0; /* entries below low begin at or below lsn */
    uint32_t high = index->entry_count;
    while (low < high) { /* halves each time */
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *at = index->entries + (size_t)middle * INDEX_ENTRY_BYTES;
        if (get_u64(at + ENTRY_FIRST_LSN_AT) <= lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : low - 1;
}
