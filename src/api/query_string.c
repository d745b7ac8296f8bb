#include "api/query_string.h"

#include <errno.h>
#include <string.h>

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode(struct slice from, uint8_t *to, size_t capacity, size_t *bytes)
{
    size_t used = 0;
    for (size_t i = 0; i < from.bytes; i++) {
        uint8_t c = from.data[i];
        if (c == '%') {
            if (from.bytes - i < 3 || hex_digit(from.data[i + 1]) < 0 ||
                hex_digit(from.data[i + 2]) < 0) {
                return -EINVAL;
            }
            c = (uint8_t)(hex_digit(from.data[i + 1]) * 16 + hex_digit(from.data[i + 2]));
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (used == capacity) {
            return -EINVAL;
        }
        to[used++] = c;
    }
    *bytes = used;
    return 1;
}

int query_string_find(struct slice query, const char *name, uint8_t *to, size_t capacity,
                      size_t *bytes)
{
    size_t name_bytes = strlen(name);
    const uint8_t *at = query.data;
    const uint8_t *end = query.data + query.bytes;
    while (at < end) {
        const uint8_t *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        const uint8_t *equals = memchr(at, '=', (size_t)(stop - at));
        const uint8_t *name_end = equals == NULL ? stop : equals;
        if ((size_t)(name_end - at) == name_bytes && memcmp(at, name, name_bytes) == 0) {
            const uint8_t *value = equals == NULL ? stop : equals + 1;
            return decode((struct slice){value, (size_t)(stop - value)}, to, capacity, bytes);
        }
        at = stop + 1;
    }
    return 0;
}
