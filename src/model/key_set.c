#include "model/key_set.h"

#include <string.h>

#include "model/json_scan.h"

_Static_assert((KEY_SET_SLOTS & (KEY_SET_SLOTS - 1)) == 0, "slots are masked");
_Static_assert(KEY_SET_MAX * 2 <= KEY_SET_SLOTS, "half empty: probes stay short and always end");
_Static_assert(KEY_SET_MAX <= UINT16_MAX, "an entry's number fits a slot");

static uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

/* The fewer than eight bytes at p as memcpy into a zeroed word would place them, without a call:
 * two halves that overlap, or three bytes that may be the same. */
static inline uint64_t word_of_few(const uint8_t *p, size_t bytes)
{
    uint64_t word = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (bytes >= 4) {
        uint32_t first;
        uint32_t last;
        memcpy(&first, p, sizeof first);
        memcpy(&last, p + bytes - 4, sizeof last);
        word = first | (uint64_t)last << (8 * (bytes - 4));
    } else if (bytes > 0) {
        size_t middle = bytes / 2;
        word = p[0] | (uint64_t)p[middle] << (8 * middle) |
               (uint64_t)p[bytes - 1] << (8 * (bytes - 1));
    }
#else
    memcpy(&word, p, bytes);
#endif
    return word;
}

static uint64_t hash_plain(uint64_t hash, struct slice key)
{
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= key.bytes; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, key.data + at, sizeof word);
        hash = hash_mix(hash, word);
    }
    uint64_t rest = word_of_few(key.data + at, key.bytes - at);
    return hash_mix(hash_mix(hash, rest), key.bytes);
}

/* One decoded byte after the other: what an escape stands for can only be found from its beginning.
 */
struct decoder {
    struct slice rest;
    uint8_t piece[4];
    size_t piece_at;
    size_t piece_bytes;
};

/* -1 at the end. */
static int decoder_next(struct decoder *d)
{
    if (d->piece_at == d->piece_bytes) {
        if (d->rest.bytes == 0) {
            return -1;
        }
        size_t taken = 1;
        if (d->rest.data[0] == '\\') {
            taken = json_escape_bytes(d->rest.data);
        }
        d->piece_bytes = json_unescape((struct slice){d->rest.data, taken}, d->piece, 4);
        d->piece_at = 0;
        d->rest.data += taken;
        d->rest.bytes -= taken;
    }
    return d->piece[d->piece_at++];
}

/* The same value as hash_plain of the decoded bytes. */
static uint64_t hash_escaped(uint64_t hash, struct slice key)
{
    struct decoder d = {.rest = key};
    uint8_t chunk[8] = {0};
    size_t bytes = 0;
    uint64_t word;
    for (int c = decoder_next(&d); c >= 0; c = decoder_next(&d)) {
        chunk[bytes++ % sizeof chunk] = (uint8_t)c;
        if (bytes % sizeof chunk == 0) {
            memcpy(&word, chunk, sizeof word);
            hash = hash_mix(hash, word);
            memset(chunk, 0, sizeof chunk);
        }
    }
    memcpy(&word, chunk, sizeof word);
    return hash_mix(hash_mix(hash, word), bytes);
}

static bool keys_equal(const struct key_set_entry *entry, struct slice key, bool has_escape)
{
    if (LIKELY(!entry->has_escape && !has_escape)) {
        return slice_equal(entry->key, key);
    }
    struct decoder a = {.rest = entry->key};
    struct decoder b = {.rest = key};
    int c = decoder_next(&a);
    int d = decoder_next(&b);
    while (c == d && c >= 0) {
        c = decoder_next(&a);
        d = decoder_next(&b);
    }
    return c == d;
}

enum key_set_result key_set_add(struct key_set *set, struct slice key, bool has_escape)
{
    uint64_t seed = (uint64_t)(uintptr_t)set * 0xd6e8feb86659fd93u;
    uint64_t hash = UNLIKELY(has_escape) ? hash_escaped(seed, key) : hash_plain(seed, key);
    uint32_t slot = (uint32_t)(hash >> 40) & (KEY_SET_SLOTS - 1);
    /* Ends at an empty slot: at least half of them are. */
    for (;; slot = (slot + 1) & (KEY_SET_SLOTS - 1)) {
        uint16_t number = set->slots[slot];
        if (number >= set->count || set->entries[number].slot != slot) {
            break;
        }
        if (keys_equal(&set->entries[number], key, has_escape)) {
            return KEY_SET_DUPLICATE;
        }
    }
    if (set->count == KEY_SET_MAX) {
        return KEY_SET_FULL;
    }
    set->slots[slot] = (uint16_t)set->count;
    set->entries[set->count] =
        (struct key_set_entry){.key = key, .slot = slot, .has_escape = has_escape};
    set->count++;
    return KEY_SET_NEW;
}
