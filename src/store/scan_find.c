/*
 * scan_find: the first occurrence of a needle. Where the needle may begin, its first and its last
 * byte are compared over a whole register of positions at once; what passes both is compared in
 * full (the "generic SIMD" search; Mula, "SIMD-friendly algorithms for substring searching"). On
 * log text few positions pass, so the speed is that of reading (bench_scan_find: 20 to 50 GB/s from
 * the cache; a kernel for AVX-512 was a quarter slower than the one for AVX2 and is not here).
 * Pure; it never reads outside hay and cannot fail.
 *
 * A needle and a hay made for it ("aaa...abaaa...a" in "aaa...") would make every position a
 * candidate and every comparison long: work that grows as the product of the two lengths. Therefore
 * the comparisons have a budget in proportion to the bytes passed, and when it is spent the rest is
 * left to memmem, which is linear whatever the bytes (glibc: two-way from 256 bytes of needle on;
 * below that a comparison is short).
 */
#include "store/scan_find.h"

#include <string.h>

#include "store/scan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86     1
#define TARGET_AVX2 __attribute__((target("avx2")))
#else
#define HAS_X86 0
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

#define POSITIONS    64u   /* looked at in one turn, two registers */
#define BUDGET_START 4096u /* bytes of comparisons that any search may spend */
#define BUDGET_RATE  8u    /* and so many for each byte passed: text spends less than 1 */

/* One search. Positions are where the needle may begin: [at, end). */
struct search {
    const uint8_t *hay;
    const uint8_t *needle;
    size_t bytes; /* of the needle, at least 2 */
    size_t end;   /* behind the last position at which it fits */
    size_t from;  /* where it began */
    size_t spent; /* bytes of comparisons */
};

enum verdict {
    FOUND,
    NOT_HERE,
    EXHAUSTED, /* the budget: *at is where to go on, by other means */
};

/* First and last byte are known to be equal. */
static ALWAYS_INLINE bool is_match(const struct search *search, size_t at)
{
    return memcmp(search->hay + at + 1, search->needle + 1, search->bytes - 2) == 0;
}

static ALWAYS_INLINE bool is_exhausted(struct search *search, size_t at)
{
    search->spent += search->bytes;
    return search->spent > BUDGET_START + (at - search->from) * BUDGET_RATE;
}

/* Full comparison of the candidates, a bit for each position from base on. */
static ALWAYS_INLINE enum verdict candidates_try(struct search *search, size_t base, uint64_t bits,
                                                 size_t *at)
{
    while (bits != 0) { /* at most 64 */
        *at = base + (size_t)__builtin_ctzll(bits);
        if (is_match(search, *at)) {
            return FOUND;
        }
        if (UNLIKELY(is_exhausted(search, *at))) {
            *at += 1;
            return EXHAUSTED;
        }
        bits &= bits - 1;
    }
    return NOT_HERE;
}

/* The scalar twin: also for what is left of less than a register. */
static enum verdict find_scalar(struct search *search, size_t *at)
{
    uint8_t first = search->needle[0];
    uint8_t last = search->needle[search->bytes - 1];
    while (*at < search->end) { /* each turn passes at least one position */
        const uint8_t *hit = memchr(search->hay + *at, first, search->end - *at);
        if (hit == NULL) {
            break;
        }
        *at = (size_t)(hit - search->hay);
        if (hit[search->bytes - 1] == last) {
            if (is_match(search, *at)) {
                return FOUND;
            }
            if (UNLIKELY(is_exhausted(search, *at))) {
                *at += 1;
                return EXHAUSTED;
            }
        }
        *at += 1;
    }
    return NOT_HERE;
}

#if HAS_X86
TARGET_AVX2 static ALWAYS_INLINE uint64_t mask_avx2(const uint8_t *begin, size_t distance,
                                                    __m256i first, __m256i last)
{
    __m256i a = _mm256_loadu_si256((const void *)begin);
    __m256i b = _mm256_loadu_si256((const void *)(begin + distance));
    __m256i both = _mm256_and_si256(_mm256_cmpeq_epi8(a, first), _mm256_cmpeq_epi8(b, last));
    return (uint32_t)_mm256_movemask_epi8(both);
}

TARGET_AVX2 static enum verdict find_avx2(struct search *search, size_t *at)
{
    const __m256i first = _mm256_set1_epi8((char)search->needle[0]);
    const __m256i last = _mm256_set1_epi8((char)search->needle[search->bytes - 1]);
    size_t distance = search->bytes - 1;
    if (search->end - *at < POSITIONS) {
        return find_scalar(search, at);
    }
    for (size_t i = *at; i < search->end; i += POSITIONS) {
        /* The last ones overlap those before: looking twice costs less than less than a register. */
        i = i < search->end - POSITIONS ? i : search->end - POSITIONS;
        const uint8_t *p = search->hay + i;
        uint64_t bits =
            mask_avx2(p, distance, first, last) | mask_avx2(p + 32, distance, first, last) << 32;
        if (UNLIKELY(bits != 0)) {
            enum verdict verdict = candidates_try(search, i, bits, at);
            if (verdict != NOT_HERE) {
                return verdict;
            }
        }
    }
    return NOT_HERE;
}
#endif

bool scan_find_has(enum scan_find_kernel kernel)
{
#if HAS_X86
    if (kernel == SCAN_FIND_AVX2) {
        return __builtin_cpu_supports("avx2");
    }
#endif
    return kernel == SCAN_FIND_SCALAR;
}

enum scan_find_kernel scan_find_best(void)
{
    return scan_find_has(SCAN_FIND_AVX2) ? SCAN_FIND_AVX2 : SCAN_FIND_SCALAR;
}

static enum verdict find(enum scan_find_kernel kernel, struct search *search, size_t *at)
{
#if HAS_X86
    if (kernel == SCAN_FIND_AVX2) {
        return find_avx2(search, at);
    }
#endif
    ASSERT(kernel == SCAN_FIND_SCALAR);
    return find_scalar(search, at);
}

static size_t position_or_end(const void *hit, struct slice hay)
{
    return hit == NULL ? hay.bytes : (size_t)((const uint8_t *)hit - hay.data);
}

size_t scan_find_by(enum scan_find_kernel kernel, struct slice hay, size_t from,
                    struct slice needle)
{
    if (from > hay.bytes || needle.bytes > hay.bytes - from) {
        return hay.bytes;
    }
    if (needle.bytes == 0) {
        return from;
    }
    if (needle.bytes == 1) {
        return position_or_end(memchr(hay.data + from, needle.data[0], hay.bytes - from), hay);
    }
    struct search search = {.hay = hay.data,
                            .needle = needle.data,
                            .bytes = needle.bytes,
                            .end = hay.bytes - needle.bytes + 1,
                            .from = from};
    size_t at = from;
    switch (find(kernel, &search, &at)) {
    case FOUND:
        return at;
    case NOT_HERE:
        return hay.bytes;
    case EXHAUSTED:
        break;
    }
    return position_or_end(memmem(hay.data + at, hay.bytes - at, needle.data, needle.bytes), hay);
}

size_t scan_find(struct slice hay, size_t from, struct slice needle)
{
    return scan_find_by(scan_find_best(), hay, from, needle);
}
