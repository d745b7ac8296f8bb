/*
 * dedup: the processed set; see dedup.h. One owner (the writer; recovery before it), no I/O, no
 * clock, nothing fails after dedup_open. Hash table: slot = entry index + 1, 0 empty, linear
 * probing at a load of at most one half, deletion by moving later members of the probe chain back
 * (no tombstones, so the table never degrades).
 */
#include "store/dedup.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/mem.h"

#define EXPIRE_MAX_AT_ONCE 256u
#define ERRORS_BYTES_MIN   MIB(1)
#define ERRORS_BYTES_MAX   MIB(64)

struct dedup {
    struct dedup_entry *entries; /* ring: index & entry_mask */
    uint64_t entry_mask;
    uint64_t oldest; /* free-running */
    uint64_t newest; /* one past the last */
    uint64_t entries_max;
    uint32_t *table;
    uint64_t table_mask;
    uint8_t *errors; /* ring of texts, each contiguous */
    uint64_t errors_capacity;
    uint64_t errors_end; /* free-running */
    uint64_t ttl_ns;
    uint64_t seed;
    uint64_t evicted;
};

static uint64_t power_of_two_at_least(uint64_t n)
{
    uint64_t p = 1;
    while (p < n) { /* at most 32 turns: dedup_open bounds n */
        p <<= 1;
    }
    return p;
}

static uint64_t entries_bytes(const struct dedup *dedup)
{
    return (dedup->entry_mask + 1) * sizeof *dedup->entries;
}

static uint64_t table_bytes(const struct dedup *dedup)
{
    return (dedup->table_mask + 1) * sizeof *dedup->table;
}

int dedup_open(struct dedup **out, uint64_t entries_max, uint64_t ttl_ns, struct err *err)
{
    if (entries_max == 0 || entries_max > (uint64_t)1 << 30) {
        return err_set(err, -EINVAL, "dedup: %llu entries; 1 to 2^30 are possible",
                       (unsigned long long)entries_max);
    }
    struct dedup *dedup = mem_alloc(sizeof *dedup);
    dedup->entries_max = entries_max;
    dedup->ttl_ns = ttl_ns;
    dedup->entry_mask = power_of_two_at_least(u64_max(entries_max, 64)) - 1;
    dedup->table_mask = (dedup->entry_mask + 1) * 2 - 1;
    dedup->errors_capacity = u64_min(ERRORS_BYTES_MAX, u64_max(ERRORS_BYTES_MIN, entries_max * 64));
    dedup->errors_capacity &= ~(uint64_t)4095;
    dedup->entries = mem_map(entries_bytes(dedup));
    dedup->table = mem_map(table_bytes(dedup));
    dedup->errors = mem_map(dedup->errors_capacity);
    if (dedup->entries == NULL || dedup->table == NULL || dedup->errors == NULL) {
        dedup_close(dedup);
        return err_set(err, -ENOMEM, "dedup: map room for %llu entries",
                       (unsigned long long)entries_max);
    }
    ssize_t n = getrandom(&dedup->seed, sizeof dedup->seed, 0);
    ASSERT(n == (ssize_t)sizeof dedup->seed);
    *out = dedup;
    return 0;
}

void dedup_close(struct dedup *dedup)
{
    if (dedup == NULL) {
        return;
    }
    if (dedup->entries != NULL) {
        mem_unmap(dedup->entries, entries_bytes(dedup));
    }
    if (dedup->table != NULL) {
        mem_unmap(dedup->table, table_bytes(dedup));
    }
    if (dedup->errors != NULL) {
        mem_unmap(dedup->errors, dedup->errors_capacity);
    }
    mem_free(dedup);
}

struct dedup_print dedup_fingerprint(const struct dedup *dedup, uint32_t name_space,
                                     struct slice key)
{
    /* The namespace goes into the seed by an odd multiplier: equal keys of two namespaces are two
     * keys. */
    uint64_t seed = dedup->seed ^ name_space * UINT64_C(0x9e3779b97f4a7c15);
    XXH128_hash_t hash = XXH3_128bits_withSeed(key.data, key.bytes, seed);
    return (struct dedup_print){.low = hash.low64, .high = hash.high64};
}

static struct dedup_entry *entry_at(const struct dedup *dedup, uint64_t index)
{
    return &dedup->entries[index & dedup->entry_mask];
}

static bool print_equal(struct dedup_print a, struct dedup_print b)
{
    return a.low == b.low && a.high == b.high;
}

/* The slot that holds print, or the empty one where it would go. Bounded: half of the table is
 * empty. */
static uint64_t slot_of(const struct dedup *dedup, struct dedup_print print)
{
    uint64_t slot = print.low & dedup->table_mask;
    while (dedup->table[slot] != 0 &&
           !print_equal(entry_at(dedup, dedup->table[slot] - 1)->print, print)) {
        slot = (slot + 1) & dedup->table_mask;
    }
    return slot;
}

/* Empties a slot and closes the gap: each later member of the chain whose home is not behind the
 * gap moves into it. */
static void slot_clear(struct dedup *dedup, uint64_t gap)
{
    uint64_t mask = dedup->table_mask;
    uint64_t slot = gap;
    dedup->table[gap] = 0;
    for (;;) { /* ends at the first empty slot; half of the table is empty */
        slot = (slot + 1) & mask;
        if (dedup->table[slot] == 0) {
            return;
        }
        uint64_t home = entry_at(dedup, dedup->table[slot] - 1)->print.low & mask;
        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            dedup->table[gap] = dedup->table[slot];
            dedup->table[slot] = 0;
            gap = slot;
        }
    }
}

/* An entry whose print was inserted again after it expired is no longer in the table: its slot
 * names the newer one. */
static void forget(struct dedup *dedup, uint64_t index)
{
    uint64_t slot = slot_of(dedup, entry_at(dedup, index)->print);
    if (dedup->table[slot] == (uint32_t)(index & dedup->entry_mask) + 1) {
        slot_clear(dedup, slot);
    }
}

static bool is_expired(const struct dedup *dedup, const struct dedup_entry *entry, int64_t now_ns)
{
    return now_ns > entry->seen_at_ns &&
           (uint64_t)now_ns - (uint64_t)entry->seen_at_ns > dedup->ttl_ns;
}

const struct dedup_entry *dedup_find(const struct dedup *dedup, struct dedup_print print,
                                     int64_t now_ns)
{
    uint32_t found = dedup->table[slot_of(dedup, print)];
    if (found == 0) {
        return NULL;
    }
    const struct dedup_entry *entry = entry_at(dedup, found - 1);
    return is_expired(dedup, entry, now_ns) ? NULL : entry;
}

/* Texts are contiguous: one that would cross the end of the ring starts at its beginning. */
static uint64_t errors_put(struct dedup *dedup, struct slice errors)
{
    uint64_t offset = dedup->errors_end % dedup->errors_capacity;
    if (offset + errors.bytes > dedup->errors_capacity) {
        dedup->errors_end += dedup->errors_capacity - offset;
    }
    uint64_t at = dedup->errors_end;
    if (errors.bytes > 0) {
        memcpy(dedup->errors + at % dedup->errors_capacity, errors.data, errors.bytes);
    }
    dedup->errors_end += errors.bytes;
    return at;
}

void dedup_insert(struct dedup *dedup, const struct dedup_entry *entry, struct slice errors)
{
    ASSERT(errors.bytes <= ERRORS_BYTES_MIN);
    if (dedup->newest - dedup->oldest == dedup->entries_max) {
        forget(dedup, dedup->oldest);
        dedup->oldest++;
        dedup->evicted++;
    }
    uint64_t slot = slot_of(dedup, entry->print);
    struct dedup_entry *to = entry_at(dedup, dedup->newest);
    *to = *entry;
    to->errors_at = errors_put(dedup, errors);
    to->errors_bytes = (uint32_t)errors.bytes;
    dedup->table[slot] = (uint32_t)(dedup->newest & dedup->entry_mask) + 1;
    dedup->newest++;
}

struct slice dedup_errors(const struct dedup *dedup, const struct dedup_entry *entry)
{
    bool is_overwritten = dedup->errors_end - entry->errors_at > dedup->errors_capacity;
    if (is_overwritten) {
        return (struct slice){NULL, 0};
    }
    return (struct slice){dedup->errors + entry->errors_at % dedup->errors_capacity,
                          entry->errors_bytes};
}

void dedup_take_back(struct dedup *dedup, uint64_t lsn)
{
    while (dedup->newest != dedup->oldest &&
           entry_at(dedup, dedup->newest - 1)->first_lsn >= lsn) { /* bounded by the set */
        forget(dedup, dedup->newest - 1);
        dedup->newest--;
    }
}

void dedup_expire(struct dedup *dedup, int64_t now_ns)
{
    for (unsigned i = 0; i < EXPIRE_MAX_AT_ONCE && dedup->oldest != dedup->newest; i++) {
        if (!is_expired(dedup, entry_at(dedup, dedup->oldest), now_ns)) {
            return;
        }
        forget(dedup, dedup->oldest);
        dedup->oldest++;
    }
}

uint64_t dedup_count(const struct dedup *dedup)
{
    return dedup->newest - dedup->oldest;
}

uint64_t dedup_evicted(const struct dedup *dedup)
{
    return dedup->evicted;
}

void dedup_validate(const struct dedup *dedup)
{
    ASSERT(dedup_count(dedup) <= dedup->entries_max);
    ASSERT(dedup->entries_max <= dedup->entry_mask + 1);
    for (uint64_t i = dedup->oldest; i != dedup->newest; i++) {
        /* An expired entry may have been superseded, and its successor taken back: then nothing is
         * found. */
        uint32_t found = dedup->table[slot_of(dedup, entry_at(dedup, i)->print)];
        uint64_t age = found == 0 ? 0 : (dedup->newest - found) & dedup->entry_mask;
        ASSERT(found == 0 || age < dedup_count(dedup));
    }
}
