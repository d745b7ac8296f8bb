/*
 * index_filter: the split-block Bloom filter of an index entry, as in Apache Parquet: blocks of
 * eight 32-bit words; the upper half of the key chooses the block, the lower half times eight odd
 * salts one bit of each word. Part of the format. Pure; used by index.c and index_builder.c only.
 */
#ifndef STORE_INDEX_FILTER_H
#define STORE_INDEX_FILTER_H

#include "core/base.h"

#include <string.h>

#define FILTER_BLOCK_BYTES 32u
#define FILTER_BLOCK_WORDS 8u

/* Parquet's salts: odd, chosen there by experiment. Never to change. */
static const uint32_t FILTER_SALTS[FILTER_BLOCK_WORDS] = {
    0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
};

/* Multiply and shift: the same as masking for a power of two, and right for any other count. */
static inline size_t filter_block_of(uint32_t filter_bytes, uint64_t key)
{
    uint64_t blocks = filter_bytes / FILTER_BLOCK_BYTES;
    return (size_t)(((key >> 32) * blocks) >> 32) * FILTER_BLOCK_BYTES;
}

static inline uint32_t filter_bit_of(unsigned word, uint64_t key)
{
    return (uint32_t)1 << (((uint32_t)key * FILTER_SALTS[word]) >> 27);
}

static inline void filter_add(uint8_t *filter, uint32_t filter_bytes, uint64_t key)
{
    uint8_t *block = filter + filter_block_of(filter_bytes, key);
    for (unsigned i = 0; i < FILTER_BLOCK_WORDS; i++) {
        uint32_t word;
        memcpy(&word, block + i * sizeof word, sizeof word);
        word |= filter_bit_of(i, key);
        memcpy(block + i * sizeof word, &word, sizeof word);
    }
}

static inline bool filter_may_have(const uint8_t *filter, uint32_t filter_bytes, uint64_t key)
{
    const uint8_t *block = filter + filter_block_of(filter_bytes, key);
    uint32_t missing = 0;
    for (unsigned i = 0; i < FILTER_BLOCK_WORDS; i++) {
        uint32_t word;
        memcpy(&word, block + i * sizeof word, sizeof word);
        missing |= ~word & filter_bit_of(i, key);
    }
    return missing == 0;
}

#endif
