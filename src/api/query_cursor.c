/*
 * query_cursor: where a page ended, as a text that a client hands back (query_params.h). Pure.
 *
 * Little endian: 00 version 1 | 01-03 zero | 04 kinds u32 | 08 lsn u64 | 16 digest u32 |
 * 20 crc u32 (CRC32C of 00-19); base64url without padding. An LSN is a record's place for ever, in
 * whatever file it lies, so a cursor survives compaction and restart; a record that has expired
 * only makes the next page begin after it. The check sum is against torn copies, not against
 * forgery: a cursor opens nothing that the query itself would not.
 */
#include "api/query_params.h"

#include <errno.h>
#include <string.h>

#include "core/crc32c.h"

#define CURSOR_VERSION 1u
#define CURSOR_BYTES   24u

_Static_assert(CURSOR_BYTES % 3 == 0, "no padding in base64");
_Static_assert(CURSOR_BYTES / 3 * 4 == QUERY_CURSOR_CHARS, "four characters for three bytes");

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void number_put(uint8_t *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t number_get(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)from[i] << (8 * i);
    }
    return value;
}

size_t query_cursor_put(char *to, size_t room, const struct query_params *params, uint64_t lsn)
{
    ASSERT(room >= QUERY_CURSOR_CHARS);
    ASSERT(lsn != 0);
    uint8_t bytes[CURSOR_BYTES] = {CURSOR_VERSION};
    number_put(bytes + 4, params->kinds, 4);
    number_put(bytes + 8, lsn, 8);
    number_put(bytes + 16, params->digest, 4);
    number_put(bytes + 20, crc32c(0, bytes, 20), 4);
    for (unsigned i = 0; i < CURSOR_BYTES / 3; i++) {
        const uint8_t *three = bytes + 3 * (size_t)i;
        uint32_t word = (uint32_t)three[0] << 16 | (uint32_t)three[1] << 8 | three[2];
        for (unsigned k = 0; k < 4; k++) {
            to[4 * i + k] = alphabet[word >> (18 - 6 * k) & 63];
        }
    }
    return QUERY_CURSOR_CHARS;
}

/* False: a character that is none of the alphabet. */
static bool cursor_decode(uint8_t *bytes, const uint8_t *chars)
{
    for (unsigned i = 0; i < CURSOR_BYTES / 3; i++) {
        uint32_t word = 0;
        for (unsigned k = 0; k < 4; k++) {
            const char *found = memchr(alphabet, chars[4 * i + k], sizeof alphabet - 1);
            if (found == NULL) {
                return false;
            }
            word = word << 6 | (uint32_t)(found - alphabet);
        }
        bytes[3 * i] = (uint8_t)(word >> 16);
        bytes[3 * i + 1] = (uint8_t)(word >> 8);
        bytes[3 * i + 2] = (uint8_t)word;
    }
    return true;
}

int query_cursor_parse(struct query_params *params, struct slice text)
{
    uint8_t bytes[CURSOR_BYTES];
    if (text.bytes != QUERY_CURSOR_CHARS || !cursor_decode(bytes, text.data)) {
        return -EINVAL;
    }
    uint64_t lsn = number_get(bytes + 8, 8);
    bool is_whole =
        number_get(bytes + 20, 4) == crc32c(0, bytes, 20) && number_get(bytes, 4) == CURSOR_VERSION;
    if (!is_whole || lsn == 0 || lsn == UINT64_MAX) {
        return -EINVAL;
    }
    if (number_get(bytes + 4, 4) != params->kinds || number_get(bytes + 16, 4) != params->digest) {
        return -ESTALE;
    }
    params->has_cursor = true;
    params->cursor_lsn = lsn;
    return 0;
}
