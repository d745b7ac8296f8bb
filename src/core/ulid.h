/*
 * ulid: 128-bit identifiers, 48 bits of milliseconds and 80 of randomness (github.com/ulid/spec),
 * big endian, so that bytes sort as time. One generator per thread: within a millisecond the random
 * part counts up from a random start, so identifiers of one thread are strictly increasing; two
 * threads differ by their 80 random bits.
 */
#ifndef CORE_ULID_H
#define CORE_ULID_H

#include "core/base.h"

#define ULID_BYTES      16
#define ULID_TEXT_BYTES 26

struct ulid {
    uint8_t bytes[ULID_BYTES];
};

struct ulid_source {
    uint64_t time_ms;
    uint64_t random_high; /* 16 bits used */
    uint64_t random_low;
    uint64_t seed[4]; /* xoshiro256**, seeded from getrandom(2) */
};

void ulid_source_init(struct ulid_source *source);

/* The next identifier; real_ns is the caller's cached clock. A clock that steps back keeps the last
 * millisecond. */
struct ulid ulid_next(struct ulid_source *source, int64_t real_ns);

/* Crockford base 32, upper case, 26 bytes, no NUL. Pure. */
void ulid_format(char *text, const struct ulid *ulid);

/* 0, or -EINVAL for anything that is not 26 Crockford digits of at most 128 bits. Lower case is
 * accepted. Pure. */
int ulid_parse(struct ulid *ulid, struct slice text) MUST_USE;

int64_t ulid_time_ms(const struct ulid *ulid);

#endif
