#include "model/json_index.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86       1
#define TARGET_AVX2   __attribute__((target("avx2,bmi,popcnt")))
#define TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi,popcnt")))
#else
#define HAS_X86 0
#endif

/* gcc at -O2 leaves short loops rolled; clang unrolls them by itself. */
#if defined(__clang__)
#define UNROLL_TWELVE
#else
#define UNROLL_TWELVE _Pragma("GCC unroll 12")
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

struct masks {
    uint64_t quote;
    uint64_t backslash;
    uint64_t special; /* control or not ASCII; without the backslashes */
};

/* The quotes and backslashes that a backslash escapes: every second byte of a run of backslashes,
 * and the byte after an odd run. Runs that start at even and at odd positions are told apart by the
 * carry of one addition (Langdale and Lemire, "Parsing gigabytes of JSON per second", 3.1.1). */
static ALWAYS_INLINE uint64_t escaped_find(uint64_t backslash, uint64_t *carry)
{
    const uint64_t even_bits = 0x5555555555555555u;
    backslash &= ~*carry;
    uint64_t follows_escape = (backslash << 1) | *carry;
    uint64_t odd_starts = backslash & ~even_bits & ~follows_escape;
    uint64_t sequences_from_even;
    *carry = __builtin_add_overflow(odd_starts, backslash, &sequences_from_even) ? 1 : 0;
    uint64_t invert = sequences_from_even << 1;
    return (even_bits ^ invert) & follows_escape;
}

/* Writes the positions of the set bits. Twelve are written whether or not there are so many: a
 * branch on the exact count would be mispredicted on nearly every block, and typical records have
 * nine quotes in 64 bytes. */
static ALWAYS_INLINE uint32_t positions_write(uint32_t *out, uint32_t base, uint64_t bits)
{
    uint32_t count = (uint32_t)__builtin_popcountll(bits);
    UNROLL_TWELVE
    for (unsigned i = 0; i < 12; i++) {
        /* With no bit left ctz is undefined; the top bit makes it 63, in an entry that the next
         * block overwrites. */
        out[i] = base + (uint32_t)__builtin_ctzll(bits | (1ull << 63));
        bits &= bits - 1;
    }
    for (unsigned i = 12; UNLIKELY(i < count); i++) {
        out[i] = base + (uint32_t)__builtin_ctzll(bits);
        bits &= bits - 1;
    }
    return count;
}

/* Where a kernel writes: copies of the index's own, so that they stay in registers from block to
 * block. */
struct cursor {
    uint32_t *quotes;
    struct json_index_special *specials;
    uint64_t escape_carry;
};

static ALWAYS_INLINE struct cursor cursor_open(struct json_index *index)
{
    return (struct cursor){index->quotes + index->quote_count,
                           index->specials + index->special_count, index->escape_carry};
}

static ALWAYS_INLINE void cursor_close(const struct cursor *cursor, struct json_index *index)
{
    index->quote_count = (uint32_t)(cursor->quotes - index->quotes);
    index->special_count = (uint32_t)(cursor->specials - index->specials);
    index->escape_carry = cursor->escape_carry;
}

/* Files the block's specials; returns its quotes that count. */
static ALWAYS_INLINE uint64_t block_take(struct cursor *cursor, uint32_t base, struct masks m)
{
    uint64_t escaped = 0;
    if (UNLIKELY((m.backslash | cursor->escape_carry) != 0)) {
        escaped = escaped_find(m.backslash, &cursor->escape_carry);
    }
    uint64_t special = m.special | m.backslash;
    cursor->specials->mask = special;
    cursor->specials->base = base;
    cursor->specials += special != 0;
    return m.quote & ~escaped;
}

static ALWAYS_INLINE void quotes_take(struct cursor *cursor, uint32_t base, uint64_t quotes)
{
    cursor->quotes += positions_write(cursor->quotes, base, quotes);
}

static void blocks_scalar(struct json_index *index, const uint8_t *p, uint32_t base,
                          uint32_t blocks)
{
    struct cursor cursor = cursor_open(index);
    for (uint32_t n = 0; n < blocks; n++) {
        struct masks m = {0, 0, 0};
        for (unsigned i = 0; i < JSON_INDEX_BLOCK_BYTES; i++) {
            uint8_t c = p[n * JSON_INDEX_BLOCK_BYTES + i];
            m.quote |= (uint64_t)(c == '"') << i;
            m.backslash |= (uint64_t)(c == '\\') << i;
            m.special |= (uint64_t)(c < 0x20 || c >= 0x80) << i;
        }
        uint32_t at_block = base + n * JSON_INDEX_BLOCK_BYTES;
        quotes_take(&cursor, at_block, block_take(&cursor, at_block, m));
    }
    cursor_close(&cursor, index);
}

#if HAS_X86
static uint64_t mask16(__m128i v, unsigned shift)
{
    return (uint64_t)(uint32_t)_mm_movemask_epi8(v) << shift;
}

static void blocks_sse2(struct json_index *index, const uint8_t *p, uint32_t base, uint32_t blocks)
{
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i backslash = _mm_set1_epi8('\\');
    const __m128i space = _mm_set1_epi8(0x20);
    struct cursor cursor = cursor_open(index);
    for (uint32_t n = 0; n < blocks; n++) {
        struct masks m = {0, 0, 0};
        for (unsigned i = 0; i < 4; i++) {
            const void *at = p + n * JSON_INDEX_BLOCK_BYTES + i * 16;
            __m128i v = _mm_loadu_si128(at);
            m.quote |= mask16(_mm_cmpeq_epi8(v, quote), i * 16);
            m.backslash |= mask16(_mm_cmpeq_epi8(v, backslash), i * 16);
            /* A signed comparison: bytes of 0x80 and more are negative, so below 0x20 as well. */
            m.special |= mask16(_mm_cmplt_epi8(v, space), i * 16);
        }
        uint32_t at_block = base + n * JSON_INDEX_BLOCK_BYTES;
        quotes_take(&cursor, at_block, block_take(&cursor, at_block, m));
    }
    cursor_close(&cursor, index);
}

TARGET_AVX2 static ALWAYS_INLINE uint64_t mask64(__m256i low, __m256i high)
{
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(low) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

/* As quotes_take. tzcnt of nothing is 64, defined: twelve instructions a block fewer. */
TARGET_AVX2 static ALWAYS_INLINE void quotes_take_avx2(struct cursor *cursor, uint32_t base,
                                                       uint64_t quotes)
{
    uint32_t *out = cursor->quotes;
    uint32_t count = (uint32_t)_mm_popcnt_u64(quotes);
    cursor->quotes += count;
    UNROLL_TWELVE
    for (unsigned i = 0; i < 12; i++) {
        out[i] = base + (uint32_t)_tzcnt_u64(quotes);
        quotes = _blsr_u64(quotes);
    }
    for (unsigned i = 12; UNLIKELY(i < count); i++) {
        out[i] = base + (uint32_t)_tzcnt_u64(quotes);
        quotes = _blsr_u64(quotes);
    }
}

TARGET_AVX2 static void blocks_avx2(struct json_index *index, const uint8_t *p, uint32_t base,
                                    uint32_t blocks)
{
    const __m256i quote = _mm256_set1_epi8('"');
    const __m256i backslash = _mm256_set1_epi8('\\');
    const __m256i space = _mm256_set1_epi8(0x20);
    struct cursor cursor = cursor_open(index);
    for (uint32_t n = 0; n < blocks; n++) {
        const uint8_t *at = p + n * JSON_INDEX_BLOCK_BYTES;
        __m256i low = _mm256_loadu_si256((const void *)at);
        __m256i high = _mm256_loadu_si256((const void *)(at + 32));
        struct masks m = {
            .quote = mask64(_mm256_cmpeq_epi8(low, quote), _mm256_cmpeq_epi8(high, quote)),
            .backslash =
                mask64(_mm256_cmpeq_epi8(low, backslash), _mm256_cmpeq_epi8(high, backslash)),
            /* Signed, as above. */
            .special = mask64(_mm256_cmpgt_epi8(space, low), _mm256_cmpgt_epi8(space, high)),
        };
        uint32_t at_block = base + n * JSON_INDEX_BLOCK_BYTES;
        quotes_take_avx2(&cursor, at_block, block_take(&cursor, at_block, m));
    }
    cursor_close(&cursor, index);
}

/* As quotes_take: the numbers of the bits 0..63 are pressed together into the first bytes and
 * sixteen at a time made positions. (In registers: pressing straight into memory is microcode on
 * some machines.) Records seldom have more than sixteen quotes in 64 bytes. */
TARGET_AVX512 static ALWAYS_INLINE void quotes_take_avx512(struct cursor *cursor, uint32_t base,
                                                           uint64_t quotes, __m512i numbers)
{
    uint32_t *out = cursor->quotes;
    uint32_t count = (uint32_t)_mm_popcnt_u64(quotes);
    cursor->quotes += count;
    __m512i pressed = _mm512_maskz_compress_epi8(quotes, numbers);
    __m512i bases = _mm512_set1_epi32((int32_t)base);
    __m512i first = _mm512_cvtepu8_epi32(_mm512_castsi512_si128(pressed));
    _mm512_storeu_si512(out, _mm512_add_epi32(first, bases));
    for (unsigned i = 16; UNLIKELY(i < count); i += 16) {
        uint8_t bytes[JSON_INDEX_BLOCK_BYTES];
        _mm512_storeu_si512(bytes, pressed);
        __m512i more = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(bytes + i)));
        _mm512_storeu_si512(out + i, _mm512_add_epi32(more, bases));
    }
}

TARGET_AVX512 static ALWAYS_INLINE void block_avx512(struct cursor *cursor, uint32_t base,
                                                     __m512i v, __m512i numbers)
{
    struct masks m = {
        .quote = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('"')),
        .backslash = _mm512_cmpeq_epi8_mask(v, _mm512_set1_epi8('\\')),
        /* Signed, as above. */
        .special = _mm512_cmplt_epi8_mask(v, _mm512_set1_epi8(0x20)),
    };
    quotes_take_avx512(cursor, base, block_take(cursor, base, m), numbers);
}

/* Any number of bytes: of the last, partial block only what is there is loaded (the mask also keeps
 * a page beyond it from being touched), the rest of the register are spaces. */
TARGET_AVX512 static void bytes_avx512(struct json_index *index, const uint8_t *p, uint32_t base,
                                       uint32_t bytes)
{
    static const uint8_t counting[JSON_INDEX_BLOCK_BYTES] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i numbers = _mm512_loadu_si512(counting);
    struct cursor cursor = cursor_open(index);
    uint32_t at = 0;
    for (; at + JSON_INDEX_BLOCK_BYTES <= bytes; at += JSON_INDEX_BLOCK_BYTES) {
        block_avx512(&cursor, base + at, _mm512_loadu_si512(p + at), numbers);
    }
    if (at < bytes) {
        uint64_t there = UINT64_MAX >> (JSON_INDEX_BLOCK_BYTES - (bytes - at));
        __m512i v = _mm512_mask_loadu_epi8(_mm512_set1_epi8(' '), there, p + at);
        block_avx512(&cursor, base + at, v, numbers);
    }
    cursor_close(&cursor, index);
}
#endif

bool json_index_has(enum json_index_kernel kernel)
{
#if HAS_X86
    if (kernel == JSON_INDEX_AVX512) {
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi");
    }
    if (kernel == JSON_INDEX_AVX2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi");
    }
    return true;
#else
    return kernel == JSON_INDEX_AUTO || kernel == JSON_INDEX_SCALAR;
#endif
}

static enum json_index_kernel kernel_best(void)
{
#if HAS_X86
    if (json_index_has(JSON_INDEX_AVX512)) {
        return JSON_INDEX_AVX512;
    }
    return json_index_has(JSON_INDEX_AVX2) ? JSON_INDEX_AVX2 : JSON_INDEX_SSE2;
#else
    return JSON_INDEX_SCALAR;
#endif
}

static void blocks_index(struct json_index *index, const uint8_t *p, uint32_t base, uint32_t blocks)
{
    switch (index->kernel) {
#if HAS_X86
    case JSON_INDEX_AVX2:
        blocks_avx2(index, p, base, blocks);
        return;
    case JSON_INDEX_SSE2:
        blocks_sse2(index, p, base, blocks);
        return;
#else
    case JSON_INDEX_AVX2:
    case JSON_INDEX_SSE2:
#endif
    case JSON_INDEX_AVX512: /* takes bytes */
    case JSON_INDEX_SCALAR:
    case JSON_INDEX_AUTO:
        break;
    }
    blocks_scalar(index, p, base, blocks);
}

void json_index_open(struct json_index *index, const uint8_t *data, size_t bytes,
                     enum json_index_kernel kernel)
{
    ASSERT(bytes < JSON_INDEX_NONE - JSON_INDEX_BLOCK_BYTES);
    ASSERT(json_index_has(kernel));
    index->data = data;
    index->bytes = (uint32_t)bytes;
    index->indexed = 0;
    index->quote_at = 0;
    index->quote_count = 0;
    index->special_next = JSON_INDEX_NONE;
    index->special_at = 0;
    index->special_count = 0;
    index->dirty_until = 0;
    index->escape_carry = 0;
    index->kernel = kernel == JSON_INDEX_AUTO ? kernel_best() : kernel;
}

static void special_next_find(struct json_index *index)
{
    index->special_next = JSON_INDEX_NONE;
    if (index->special_at < index->special_count) {
        const struct json_index_special *entry = &index->specials[index->special_at];
        index->special_next = entry->base + (uint32_t)__builtin_ctzll(entry->mask);
    }
}

void json_index_pass_specials(struct json_index *index, uint32_t position)
{
    if (UNLIKELY(position < index->dirty_until)) {
        index->special_next = position;
        return;
    }
    index->dirty_until = 0;
    /* Bounded by the list: each turn drops an entry. */
    while (index->special_at < index->special_count) {
        struct json_index_special *entry = &index->specials[index->special_at];
        if (position <= entry->base) {
            break;
        }
        uint32_t past = position - entry->base;
        entry->mask = past < JSON_INDEX_BLOCK_BYTES ? entry->mask >> past << past : 0;
        if (entry->mask != 0) {
            break;
        }
        index->special_at++;
    }
    special_next_find(index);
}

/* The next quote is the first at or after position. Bounded by the list. */
static void quotes_drop_before(struct json_index *index, uint32_t position)
{
    while (index->quote_at < index->quote_count && index->quotes[index->quote_at] < position) {
        index->quote_at++;
    }
}

void json_index_skip_to(struct json_index *index, uint32_t position)
{
    /* Back: a string that ran over the end of its line took the first quote of a later one. Bounded
     * by the list. */
    while (index->quote_at > 0 && index->quotes[index->quote_at - 1] >= position) {
        index->quote_at--;
    }
    quotes_drop_before(index, position);
    json_index_pass_specials(index, position);
}

/* Moves what is not consumed to the front, so that there is room for one window more. */
static void lists_compact(struct json_index *index, uint32_t position)
{
    uint32_t ahead = json_index_ahead(index);
    ASSERT(ahead < JSON_INDEX_AHEAD);
    memmove(index->quotes, index->quotes + index->quote_at, ahead * sizeof index->quotes[0]);
    index->quote_at = 0;
    index->quote_count = ahead;

    json_index_pass_specials(index, position);
    uint32_t specials = index->special_count - index->special_at;
    if (specials + JSON_INDEX_WINDOW / JSON_INDEX_BLOCK_BYTES > JSON_INDEX_SPECIALS_MAX) {
        index->dirty_until = index->indexed;
        specials = 0;
    }
    memmove(index->specials, index->specials + index->special_at,
            specials * sizeof index->specials[0]);
    index->special_at = 0;
    index->special_count = specials;
}

/* In whole blocks, the last padded with spaces: no quote, no special, and no byte beyond the text
 * is read. */
static void bytes_index_padded(struct json_index *index, const uint8_t *p, uint32_t base,
                               uint32_t bytes)
{
    uint32_t rest = bytes % JSON_INDEX_BLOCK_BYTES;
    uint32_t whole = bytes - rest;
    blocks_index(index, p, base, whole / JSON_INDEX_BLOCK_BYTES);
    if (rest != 0) {
        uint8_t padded[JSON_INDEX_BLOCK_BYTES];
        memset(padded, ' ', sizeof padded);
        memcpy(padded, p + whole, rest);
        blocks_index(index, padded, base + whole, 1);
    }
}

static void window_index(struct json_index *index)
{
    uint32_t left = index->bytes - index->indexed;
    uint32_t take = left < JSON_INDEX_WINDOW ? left : JSON_INDEX_WINDOW;
    const uint8_t *p = index->data + index->indexed;
#if HAS_X86
    if (LIKELY(index->kernel == JSON_INDEX_AVX512)) {
        bytes_avx512(index, p, index->indexed, take);
        index->indexed += take;
        return;
    }
#endif
    bytes_index_padded(index, p, index->indexed, take);
    index->indexed += take;
}

void json_index_refill(struct json_index *index, uint32_t position)
{
    /* Each turn indexes at least one byte, and the text has an end. */
    while (json_index_ahead(index) < JSON_INDEX_AHEAD && index->indexed < index->bytes) {
        lists_compact(index, position);
        window_index(index);
        /* Those of a line that was given up before its quotes were indexed. */
        quotes_drop_before(index, position);
    }
    for (uint32_t i = 0; i < JSON_INDEX_AHEAD + 1; i++) {
        index->quotes[index->quote_count + i] = JSON_INDEX_NONE;
    }
    json_index_pass_specials(index, position);
}
