/*
 * bytes: little-endian words at any address, for the encoders and decoders of what the store puts on disk. Pure; the
 * caller has checked the bounds. (A big-endian machine is refused when this is compiled.)
 */
#ifndef STORE_BYTES_H
#define STORE_BYTES_H

#include <string.h>

#include "core/base.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little endian");

static inline void put_u16(uint8_t *to, uint16_t value)
{
    memcpy(to, &value, sizeof value);
}

static inline uint16_t get_u16(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void put_u32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof value);
}

static inline uint32_t get_u32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void put_u64(uint8_t *to, uint64_t value)
{
    memcpy(to, &value, sizeof value);
}

static inline uint64_t get_u64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void put_i64(uint8_t *to, int64_t value)
{
    memcpy(to, &value, sizeof value);
}

static inline int64_t get_i64(const uint8_t *from)
{
    int64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* Reserved bytes and padding. */
static inline bool bytes_are_zero(const uint8_t *from, size_t bytes)
{
    uint8_t any = 0;
    for (size_t i = 0; i < bytes; i++) {
        any = (uint8_t)(any | from[i]);
    }
    return any == 0;
}

#endif
