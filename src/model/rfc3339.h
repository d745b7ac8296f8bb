/*
 * rfc3339: a date-time of RFC 3339 into nanoseconds since 1970-01-01T00:00:00Z. Pure.
 *
 *   YYYY-MM-DD ('T' | 't' | ' ') HH:MM:SS ['.' digits] ('Z' | 'z' | ('+' | '-') HH:MM)
 *
 * Decisions. One to nine fraction digits: what is below a nanosecond would be lost, so it is
 * refused. Dates are checked against the calendar. A leap second (SS = 60) is taken only where UTC
 * shows 23:59, and becomes 23:59:59.999999999, so that it stays in its day and after everything
 * before it; its own fraction is dropped. An offset goes to 23:59; -00:00 is UTC. A result that
 * does not fit an int64 of nanoseconds (1677-09-21 to 2262-04-11) is refused.
 *
 * Records of one batch are of the same minute: a memo keeps the last one that was parsed, so that
 * of a text in the usual form only seconds and fraction are left to read:
 *
 *   rfc3339_recall(&memo, text, &ns) || (why = rfc3339_parse_remember(&memo, text, zone, &ns)) ==
 * NULL
 */
#ifndef MODEL_RFC3339_H
#define MODEL_RFC3339_H

#include <string.h>

#include "core/base.h"

/* YYYY-MM-DDTHH:MM. */
#define RFC3339_MINUTE_BYTES 16u
/* YYYY-MM-DDTHH:MM:SS.ffffffZ. */
#define RFC3339_USUAL_BYTES 27u

enum rfc3339_zone {
    RFC3339_ZONE_REQUIRED = 0,
    RFC3339_ZONE_OPTIONAL, /* without one it is UTC (Python's isoformat of a naive datetime) */
};

/* NULL when *ns is set; else a static text that says what is wrong, and *ns is untouched. */
const char *rfc3339_parse(struct slice text, enum rfc3339_zone zone, int64_t *ns) MUST_USE;

/* A valid minute and when it begins if its text is UTC. Zeroed: none. */
struct rfc3339_memo {
    uint64_t minute[RFC3339_MINUTE_BYTES / 8]; /* the bytes of the text */
    int64_t ns;
    uint32_t seconds; /* it has: 60; 0: no minute is remembered */
};

/* rfc3339_parse, which also fills the memo when text has the usual form and its minute is nowhere
 * near the ends of the range. */
const char *rfc3339_parse_remember(struct rfc3339_memo *memo, struct slice text,
                                   enum rfc3339_zone zone, int64_t *ns) MUST_USE;

/* Eight bytes, the first in the lowest bits. */
static inline uint64_t rfc3339_bytes8(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Nonzero unless each byte that mask selects (0xff or 0) is a digit: its high half is 3, and still
 * is after adding 6, which carries ':' to '?' out of it. */
static inline uint64_t rfc3339_not_digits8(uint64_t word, uint64_t mask)
{
    const uint64_t high = 0xf0f0f0f0f0f0f0f0u & mask;
    const uint64_t threes = 0x3030303030303030u & mask;
    uint64_t carried = (word & mask) + (0x0606060606060606u & mask);
    return ((word & high) ^ threes) | ((carried & high) ^ threes);
}

/* The microseconds of ".ffffff?" as nanoseconds: neighbours are joined to numbers of two, four and
 * eight digits (the last two are 0), so there are three multiplications where digit by digit there
 * were six. */
static inline uint32_t rfc3339_micros_as_ns(uint64_t word)
{
    uint64_t digits = (word & 0x000f0f0f0f0f0f00u) >> 8;
    uint64_t pairs = digits * 10 + (digits >> 8);
    const uint64_t every_other = 0x000000ff000000ffu;
    uint64_t front = (pairs & every_other) * (100 + (UINT64_C(1000000) << 32));
    uint64_t back = (pairs >> 16 & every_other) * (1 + (UINT64_C(10000) << 32));
    return (uint32_t)((front + back) >> 32) * 10;
}

/* True for `<the minute of the memo>:SS.ffffffZ`: then *ns is what rfc3339_parse would make of it,
 * in any zone mode. Everything else is for the parser, also the seconds 60 and more. */
static inline bool rfc3339_recall(const struct rfc3339_memo *memo, struct slice text, int64_t *ns)
{
    if (UNLIKELY(text.bytes != RFC3339_USUAL_BYTES)) {
        return false;
    }
    const uint8_t *p = text.data;
    uint64_t minute[RFC3339_MINUTE_BYTES / 8];
    memcpy(minute, p, sizeof minute);
    uint64_t seconds = rfc3339_bytes8(p + 16);  /* :SS.ffff */
    uint64_t fraction = rfc3339_bytes8(p + 19); /* .ffffffZ */
    uint64_t wrong = (minute[0] ^ memo->minute[0]) | (minute[1] ^ memo->minute[1]);
    wrong |= ((seconds ^ ':') & 0xff) | ((fraction ^ '.') & 0xff) | (fraction >> 56 ^ 'Z');
    wrong |= rfc3339_not_digits8(seconds, 0x0000000000ffff00u);
    wrong |= rfc3339_not_digits8(fraction, 0x00ffffffffffff00u);
    uint32_t second = (uint32_t)(seconds >> 8 & 15) * 10 + (uint32_t)(seconds >> 16 & 15);
    if (UNLIKELY(wrong != 0 || second >= memo->seconds)) {
        return false;
    }
    *ns = memo->ns + (int64_t)(second * NS_S + rfc3339_micros_as_ns(fraction));
    return true;
}

#endif
