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

/* plus: what a '+' means. */
static int decode(struct slice from, uint8_t plus, uint8_t *to, size_t capacity, size_t *bytes)
{
    size_t used = 0;
    *bytes = 0;
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
            c = plus;
        }
        if (used == capacity) {
            *bytes = used;
            return -E2BIG;
        }
        to[used++] = c;
    }
    *bytes = used;
    return 0;
}

int query_string_decode(struct slice from, uint8_t *to, size_t capacity, size_t *bytes)
{
    return decode(from, ' ', to, capacity, bytes);
}

int query_string_decode_segment(struct slice from, uint8_t *to, size_t capacity, size_t *bytes)
{
    return decode(from, '+', to, capacity, bytes);
}

bool query_string_next(struct slice *rest, struct slice *name, struct slice *value)
{
    if (rest->bytes == 0) {
        return false;
    }
    const uint8_t *at = rest->data;
    const uint8_t *stop = memchr(at, '&', rest->bytes);
    size_t bytes = stop == NULL ? rest->bytes : (size_t)(stop - at);
    const uint8_t *equals = memchr(at, '=', bytes);
    size_t name_bytes = equals == NULL ? bytes : (size_t)(equals - at);
    size_t passed = equals == NULL ? bytes : name_bytes + 1;
    *name = (struct slice){at, name_bytes};
    *value = (struct slice){at + passed, bytes - passed};
    bytes += stop != NULL;
    *rest = (struct slice){at + bytes, rest->bytes - bytes};
    return true;
}

int query_string_find(struct slice query, const char *name, uint8_t *to, size_t capacity,
                      size_t *bytes)
{
    struct slice wanted = {(const uint8_t *)name, strlen(name)};
    struct slice found;
    struct slice value;
    while (query_string_next(&query, &found, &value)) {
        if (slice_equal(found, wanted)) {
            return query_string_decode(value, to, capacity, bytes) < 0 ? -EINVAL : 1;
        }
    }
    return 0;
}
