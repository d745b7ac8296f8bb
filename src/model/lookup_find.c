#include "model/lookup_find.h"

#include <string.h>

/* From here on memmem() wins, and its worst case is linear. */
#define SHORT_BYTES_MAX 1024u
#define STEP_PLACES     16u

static bool is_at(const uint8_t *at, struct slice part)
{
    return memcmp(at, part.data, part.bytes) == 0;
}

static bool find_scalar(const uint8_t *text, size_t places, struct slice part)
{
    for (size_t i = 0; i < places; i++) {
        if (text[i] == part.data[0] && is_at(text + i, part)) {
            return true;
        }
    }
    return false;
}

#if defined(__SSE2__)
#include <emmintrin.h>

/* Bit i: the first and the last byte of part would be right at at[i]. */
static inline uint32_t candidates16(const uint8_t *at, struct slice part)
{
    const uint8_t *last = at + part.bytes - 1;
    __m128i firsts = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i lasts = _mm_loadu_si128((const __m128i *)(const void *)last);
    __m128i found =
        _mm_and_si128(_mm_cmpeq_epi8(firsts, _mm_set1_epi8((char)part.data[0])),
                      _mm_cmpeq_epi8(lasts, _mm_set1_epi8((char)part.data[part.bytes - 1])));
    return (uint32_t)_mm_movemask_epi8(found);
}

static inline bool find16(const uint8_t *at, struct slice part)
{
    /* Bounded by the sixteen places. */
    for (uint32_t mask = candidates16(at, part); mask != 0; mask &= mask - 1) {
        if (is_at(at + __builtin_ctz(mask), part)) {
            return true;
        }
    }
    return false;
}

static bool find_short(const uint8_t *text, size_t places, struct slice part)
{
    if (places < STEP_PLACES) {
        return find_scalar(text, places, part);
    }
    for (size_t i = 0; i + STEP_PLACES < places; i += STEP_PLACES) {
        if (find16(text + i, part)) {
            return true;
        }
    }
    /* The last sixteen, some of which may have been looked at. */
    return find16(text + places - STEP_PLACES, part);
}
#else
static bool find_short(const uint8_t *text, size_t places, struct slice part)
{
    return find_scalar(text, places, part);
}
#endif

bool lookup_find(struct slice text, struct slice part)
{
    ASSERT(part.bytes > 0);
    if (part.bytes > text.bytes) {
        return false;
    }
    if (text.bytes > SHORT_BYTES_MAX) {
        return memmem(text.data, text.bytes, part.data, part.bytes) != NULL;
    }
    return find_short(text.data, text.bytes - part.bytes + 1, part);
}
