/*
 * ulid: identifiers that sort by time. A source belongs to one thread; format and parse are pure.
 * Nothing here fails but the parse of foreign text; a kernel without getrandom(2) is older than the
 * baseline and aborts at start.
 */
#include "core/ulid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define ULID_TIME_MS_MAX ((1ull << 48) - 1) /* year 10889 */

static const char crockford[32] = {'0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A',
                                   'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'M', 'N',
                                   'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z'};

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

/* xoshiro256** (Blackman and Vigna): unique, not secret; identifiers are handed to clients anyway.
 */
static uint64_t random_next(uint64_t seed[4])
{
    uint64_t result = rotate_left(seed[1] * 5, 7) * 9;
    uint64_t shifted = seed[1] << 17;
    seed[2] ^= seed[0];
    seed[3] ^= seed[1];
    seed[1] ^= seed[2];
    seed[0] ^= seed[3];
    seed[2] ^= shifted;
    seed[3] = rotate_left(seed[3], 45);
    return result;
}

static void source_begin_ms(struct ulid_source *source, uint64_t time_ms)
{
    source->time_ms = time_ms;
    source->random_high = random_next(source->seed) >> 48;
    source->random_low = random_next(source->seed);
}

void ulid_source_init(struct ulid_source *source)
{
    ASSERT(source != NULL);
    memset(source, 0, sizeof(*source));
    /* 32 bytes come whole or not at all (getrandom(2): up to 256 bytes are never interrupted). */
    ssize_t got = getrandom(source->seed, sizeof(source->seed), 0);
    ASSERT(got == (ssize_t)sizeof(source->seed));
    source->seed[0] |= 1; /* All zero is the one state xoshiro never leaves. */
    source_begin_ms(source, 0);
}

/* One up; after the last of 2^80 the millisecond is borrowed from the future, so that the order
 * holds. */
static void source_count_up(struct ulid_source *source)
{
    if (LIKELY(++source->random_low != 0)) {
        return;
    }
    if (++source->random_high <= 0xFFFF) {
        return;
    }
    source_begin_ms(source, source->time_ms + 1);
}

static void store_be64(uint8_t *p, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(p, &value, sizeof(value));
}

static uint64_t load_be64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof(value));
    return __builtin_bswap64(value);
}

struct ulid ulid_next(struct ulid_source *source, int64_t real_ns)
{
    uint64_t time_ms = real_ns > 0 ? (uint64_t)real_ns / NS_MS : 0;
    if (time_ms > source->time_ms) {
        source_begin_ms(source, time_ms);
    } else {
        source_count_up(source);
    }
    ASSERT(source->time_ms <= ULID_TIME_MS_MAX);
    ASSERT(source->random_high <= 0xFFFF);
    struct ulid ulid;
    store_be64(ulid.bytes, source->time_ms << 16 | source->random_high);
    store_be64(ulid.bytes + 8, source->random_low);
    return ulid;
}

/* 128 bits are 8 + 3 x 40: two digits for the first byte (3 and 5 bits), then eight digits for
 * every 40 bits. The bytes are loaded as the two words that ulid_next stored: a load across both
 * would wait for the stores to leave the core. */
void ulid_format(char *text, const struct ulid *ulid)
{
    const uint64_t mask = (1ull << 40) - 1;
    uint64_t high = load_be64(ulid->bytes);
    uint64_t low = load_be64(ulid->bytes + 8);
    uint64_t groups[3] = {(high >> 16) & mask, (high << 24 | low >> 40) & mask, low & mask};
    text[0] = crockford[high >> 61];
    text[1] = crockford[(high >> 56) & 31];
    for (size_t i = 0; i < 3; i++) {
        uint64_t group = groups[i];
        char *at = text + 2 + 8 * i;
        at[0] = crockford[group >> 35];
        at[1] = crockford[(group >> 30) & 31];
        at[2] = crockford[(group >> 25) & 31];
        at[3] = crockford[(group >> 20) & 31];
        at[4] = crockford[(group >> 15) & 31];
        at[5] = crockford[(group >> 10) & 31];
        at[6] = crockford[(group >> 5) & 31];
        at[7] = crockford[group & 31];
    }
}

/* The value of a digit, or 32. I, L, O and U are not digits: an identifier has one spelling but for
 * its case. */
static unsigned crockford_value(uint8_t c)
{
    static const uint8_t letters[26] = {10, 11, 12, 13, 14, 15, 16, 17, 32, 18, 19, 32, 20,
                                        21, 32, 22, 23, 24, 25, 26, 32, 27, 28, 29, 30, 31};
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0');
    }
    uint8_t lower = (uint8_t)(c | 0x20);
    return lower >= 'a' && lower <= 'z' ? letters[lower - 'a'] : 32;
}

int ulid_parse(struct ulid *ulid, struct slice text)
{
    if (text.bytes != ULID_TEXT_BYTES) {
        return -EINVAL;
    }
    uint64_t high = 0;
    uint64_t low = 0;
    for (size_t i = 0; i < ULID_TEXT_BYTES; i++) {
        unsigned value = crockford_value(text.data[i]);
        if (value > 31 ||
            (i == 0 && value > 7)) { /* 26 digits hold 130 bits; the first two are zero. */
            return -EINVAL;
        }
        high = high << 5 | low >> 59;
        low = low << 5 | value;
    }
    store_be64(ulid->bytes, high);
    store_be64(ulid->bytes + 8, low);
    return 0;
}

int64_t ulid_time_ms(const struct ulid *ulid)
{
    return (int64_t)(load_be64(ulid->bytes) >> 16);
}
