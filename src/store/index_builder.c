/*
 * index_builder: makes the index of a segment, block after block; see index.h. Owned by whoever
 * seals (the archive's thread).
 *
 * The keys of the open block are kept in a hash set (open addressing, linear probing, at most a
 * third full), because a filter is sized by how many different ones there are: a service that every
 * record names counts once. A block with more keys than a filter of INDEX_FILTER_BYTES_MAX could
 * tell apart gets none, and its set stops growing: memory is bounded whatever comes.
 */
#include "store/index.h"

#include <string.h>

#include "core/mem.h"
#include "store/index_filter.h"

#define KEY_SLOTS 131072u /* 1 MiB, charged only where touched */

/* 6 bits a key: about one hit in ten is false (a split block of 8 words wants 256 / 6 = 43 keys),
 * and a filter that is wrong more often is not worth reading. */
#define KEYS_MAX (INDEX_FILTER_BYTES_MAX * 8u / 6u)

_Static_assert((KEY_SLOTS & (KEY_SLOTS - 1)) == 0, "slots are found by masking");
_Static_assert(KEYS_MAX * 3u <= KEY_SLOTS, "probes stay short and always end at an empty slot");

/* Memory that only grows. */
struct index_bytes {
    uint8_t *data;
    size_t bytes;
    size_t room;
};

struct index_builder {
    struct index_bytes entries;
    struct index_bytes filters;
    struct index_bytes blob;
    uint32_t entry_count;
    bool is_open;
    struct index_entry entry; /* of the open block */
    uint64_t *slots;          /* the keys of the open block; 0: empty */
    uint32_t *used;           /* which slots, in the order of their coming */
    uint32_t used_count;
    bool has_zero_key; /* 0 is a key like any other, but cannot lie in a slot */
    bool has_too_many;
    bool has_no_filters; /* ever */
};

/* Room for `more` bytes behind what is there. Doubling: at most 64 times in a life. */
static uint8_t *bytes_extend(struct index_bytes *bytes, size_t more)
{
    if (bytes->room - bytes->bytes < more) {
        size_t room = bytes->bytes + more > 2 * bytes->room ? bytes->bytes + more : 2 * bytes->room;
        uint8_t *grown = mem_alloc(room);
        if (bytes->bytes != 0) {
            memcpy(grown, bytes->data, bytes->bytes);
        }
        mem_free(bytes->data);
        bytes->data = grown;
        bytes->room = room;
    }
    uint8_t *at = bytes->data + bytes->bytes;
    bytes->bytes += more;
    return at;
}

struct index_builder *index_builder_new(void)
{
    struct index_builder *builder = mem_alloc(sizeof *builder);
    builder->slots = mem_alloc_array(KEY_SLOTS, sizeof *builder->slots);
    builder->used = mem_alloc_array(KEYS_MAX, sizeof *builder->used);
    return builder;
}

void index_builder_free(struct index_builder *builder)
{
    if (builder == NULL) {
        return;
    }
    mem_free(builder->entries.data);
    mem_free(builder->filters.data);
    mem_free(builder->blob.data);
    mem_free(builder->slots);
    mem_free(builder->used);
    mem_free(builder);
}

/* Takes as long as there were keys, not slots. */
static void keys_clear(struct index_builder *builder)
{
    for (uint32_t i = 0; i < builder->used_count; i++) {
        builder->slots[builder->used[i]] = 0;
    }
    builder->used_count = 0;
    builder->has_zero_key = false;
    builder->has_too_many = false;
}

void index_builder_reset(struct index_builder *builder)
{
    builder->entries.bytes = 0;
    builder->filters.bytes = 0;
    builder->blob.bytes = 0;
    builder->entry_count = 0;
    builder->is_open = false;
    keys_clear(builder);
}

void index_builder_omit_filters(struct index_builder *builder)
{
    ASSERT(!builder->is_open);
    builder->has_no_filters = true;
}

/* ---- the open block ---- */

static int64_t i64_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t i64_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

void index_builder_add_batch(struct index_builder *builder, const struct batch_header *header,
                             uint64_t offset)
{
    ASSERT(!index_builder_is_full(builder));
    struct index_entry *entry = &builder->entry;
    if (!builder->is_open) {
        *entry = (struct index_entry){.offset = offset,
                                      .first_lsn = header->first_lsn,
                                      .built_min_ns = header->built_at_ns,
                                      .built_max_ns = header->built_at_ns};
        builder->is_open = true;
    }
    ASSERT(offset >= entry->offset);
    if (header->record_count != 0) {
        bool is_first = entry->record_count == 0;
        /* A header may hold and still have them in the wrong order. */
        int64_t min_ns = i64_min(header->time_min_ns, header->time_max_ns);
        int64_t max_ns = i64_max(header->time_min_ns, header->time_max_ns);
        entry->time_min_ns = is_first ? min_ns : i64_min(entry->time_min_ns, min_ns);
        entry->time_max_ns = is_first ? max_ns : i64_max(entry->time_max_ns, max_ns);
    }
    entry->built_min_ns = i64_min(entry->built_min_ns, header->built_at_ns);
    entry->built_max_ns = i64_max(entry->built_max_ns, header->built_at_ns);
    entry->raw_bytes += BATCH_HEADER_BYTES + (uint64_t)header->payload_bytes;
    entry->record_count += header->record_count; /* INDEX_RAW_BYTES_MAX / 40 at most: no wrap */
    entry->batch_count++;
    entry->kinds |= header->kinds;
}

void index_builder_add_record(struct index_builder *builder, const struct record *record)
{
    ASSERT(builder->is_open);
    /* A severity that has no bit is none that anybody can ask for. */
    builder->entry.severities |= record->severity < 32 ? (uint32_t)1 << record->severity : 0;
}

void index_builder_add_key(struct index_builder *builder, uint64_t key)
{
    ASSERT(builder->is_open);
    if (key == 0) {
        builder->has_zero_key = true;
        return;
    }
    uint32_t slot = (uint32_t)key & (KEY_SLOTS - 1);
    /* Two thirds of the slots are empty, so this ends. */
    while (builder->slots[slot] != 0) {
        if (builder->slots[slot] == key) {
            return;
        }
        slot = (slot + 1) & (KEY_SLOTS - 1);
    }
    if (builder->used_count == KEYS_MAX) {
        builder->has_too_many = true;
        return;
    }
    builder->slots[slot] = key;
    builder->used[builder->used_count++] = slot;
}

bool index_builder_is_full(const struct index_builder *builder)
{
    return builder->is_open && builder->entry.raw_bytes >= INDEX_BLOCK_BYTES;
}

/* ---- closing ---- */

/* The smallest power of two of filter blocks with INDEX_FILTER_BITS_PER_KEY, capped. */
static uint32_t filter_bytes_for(uint32_t key_count)
{
    uint64_t bits = (uint64_t)key_count * INDEX_FILTER_BITS_PER_KEY;
    uint32_t bytes = FILTER_BLOCK_BYTES;
    while (bytes < INDEX_FILTER_BYTES_MAX && (uint64_t)bytes * 8 < bits) {
        bytes *= 2;
    }
    return bytes;
}

/* A block without any key has a filter too: one that has nothing, so that it is skipped. */
static void filter_close(struct index_builder *builder)
{
    uint32_t key_count = builder->used_count + (builder->has_zero_key ? 1 : 0);
    uint32_t bytes = filter_bytes_for(key_count);
    if (builder->has_no_filters || builder->has_too_many ||
        builder->filters.bytes > UINT32_MAX - bytes) {
        return; /* filter_bytes stays 0: everything may be inside */
    }
    builder->entry.filter_offset = (uint32_t)builder->filters.bytes;
    builder->entry.filter_bytes = bytes;
    uint8_t *filter = bytes_extend(&builder->filters, bytes);
    memset(filter, 0, bytes);
    for (uint32_t i = 0; i < builder->used_count; i++) {
        filter_add(filter, bytes, builder->slots[builder->used[i]]);
    }
    if (builder->has_zero_key) {
        filter_add(filter, bytes, 0);
    }
}

void index_builder_end_block(struct index_builder *builder, uint64_t end_offset)
{
    if (!builder->is_open) {
        return;
    }
    ASSERT(end_offset > builder->entry.offset);
    ASSERT(builder->entry_count < UINT32_MAX);
    builder->entry.stored_bytes = end_offset - builder->entry.offset;
    filter_close(builder);
    index_entry_put(bytes_extend(&builder->entries, INDEX_ENTRY_BYTES), &builder->entry);
    builder->entry_count++;
    builder->is_open = false;
    keys_clear(builder);
}

struct slice index_builder_blob(struct index_builder *builder, uint32_t *entry_count)
{
    ASSERT(!builder->is_open);
    builder->blob.bytes = 0;
    uint8_t *to = bytes_extend(&builder->blob, builder->entries.bytes + builder->filters.bytes);
    if (builder->entries.bytes != 0) {
        memcpy(to, builder->entries.data, builder->entries.bytes);
    }
    if (builder->filters.bytes != 0) {
        memcpy(to + builder->entries.bytes, builder->filters.data, builder->filters.bytes);
    }
    *entry_count = builder->entry_count;
    return (struct slice){to, builder->blob.bytes};
}
