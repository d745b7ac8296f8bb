/*
 * json_index: where the strings of a JSON text are, found 64 bytes at a time, a window ahead of
 * whoever walks the text. Pure; one owner; no allocation; never reads past the text (the last
 * partial block is copied).
 *
 * Two lists come out of one pass. `quotes`: the position of every quote that no backslash escapes,
 * in order; who walks the text from a place outside strings takes them in pairs. `specials`: every
 * byte that keeps a string from being plain (backslash, control character, byte of 0x80 and more),
 * a mask for each block that has any. A string that ends before the next special needs no further
 * look; only the others are read byte by byte.
 *
 * There is no in-string state to carry, so nothing can be poisoned by a line with an odd number of
 * quotes: the walk of NDJSON goes on at the next line feed simply by dropping the quotes before it.
 * (Escape state cannot leak either: a backslash at the end of a line escapes the line feed.)
 *
 * The lists are windows: json_index_refill drops what was consumed and indexes JSON_INDEX_WINDOW
 * more bytes, and goes on until four quotes are ahead or the text ends. A list of specials that
 * would overflow (a very long string full of them) is given up for "anything up to here may be
 * special", which costs time, never correctness.
 */
#ifndef MODEL_JSON_INDEX_H
#define MODEL_JSON_INDEX_H

#include "core/base.h"

#define JSON_INDEX_BLOCK_BYTES 64u
/* 4 KiB: text and lists stay in the first-level cache between the two passes. */
#define JSON_INDEX_WINDOW       4096u
#define JSON_INDEX_AHEAD        4u /* quotes of one member with a string value */
#define JSON_INDEX_SPECIALS_MAX 256u
/* Beyond the text: no quote, no special. Texts are shorter than that. */
#define JSON_INDEX_NONE UINT32_MAX

enum json_index_kernel {
    JSON_INDEX_AUTO = 0,
    JSON_INDEX_SCALAR,
    JSON_INDEX_SSE2,
    JSON_INDEX_AVX2,
    JSON_INDEX_AVX512, /* with VBMI2 */
};

struct json_index_special {
    uint64_t mask; /* bit i: data[base + i] is special */
    uint32_t base;
};

struct json_index {
    const uint8_t *data;
    uint32_t bytes;
    uint32_t indexed; /* the lists cover data[0, indexed) */
    uint32_t quote_at;
    uint32_t quote_count;
    uint32_t special_next; /* position of the next special; JSON_INDEX_NONE: none within indexed */
    uint32_t special_at;
    uint32_t special_count;
    uint32_t dirty_until;  /* before this, specials were given up; 0: none */
    uint64_t escape_carry; /* 1: the byte at indexed is escaped */
    enum json_index_kernel kernel;
    /* A kernel writes up to sixteen entries beyond the last; four JSON_INDEX_NONE follow the last.
     */
    uint32_t quotes[JSON_INDEX_WINDOW + 2 * JSON_INDEX_BLOCK_BYTES];
    struct json_index_special specials[JSON_INDEX_SPECIALS_MAX + 1];
};

/* True when this machine can run kernel. */
bool json_index_has(enum json_index_kernel kernel);

/* Begins with data[0, bytes), bytes < JSON_INDEX_NONE; nothing is indexed yet. data must stay until
 * the last use. */
void json_index_open(struct json_index *index, const uint8_t *data, size_t bytes,
                     enum json_index_kernel kernel);

/* Indexes on until JSON_INDEX_AHEAD quotes at or after position are ahead or the text has ended.
 * position: everything before it was consumed or given up. */
void json_index_refill(struct json_index *index, uint32_t position);

/* Moves special_next to the first special at or after position. */
void json_index_pass_specials(struct json_index *index, uint32_t position);

/* The special at position, if it is the next, is passed: what json_index_pass_specials(position +
 * 1) would do, for the line feed at the end of every line. */
static inline void json_index_pass_special_at(struct json_index *index, uint32_t position)
{
    if (UNLIKELY(index->special_next != position || index->dirty_until != 0)) {
        return;
    }
    struct json_index_special *entry = &index->specials[index->special_at];
    entry->mask &= entry->mask - 1;
    if (entry->mask == 0) {
        index->special_at++;
        entry++;
    }
    /* One entry beyond the last is always there to be read. */
    uint32_t next = entry->base + (uint32_t)__builtin_ctzll(entry->mask | (1ull << 63));
    index->special_next = index->special_at < index->special_count ? next : JSON_INDEX_NONE;
}

/* Goes on at position, outside strings, after a line that was given up: before it nothing counts
 * any more, and of the last string, if it reached beyond position, the quotes count again. */
void json_index_skip_to(struct json_index *index, uint32_t position);

static inline uint32_t json_index_ahead(const struct json_index *index)
{
    return index->quote_count - index->quote_at;
}

#endif
