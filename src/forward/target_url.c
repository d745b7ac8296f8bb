#include "forward/target_url.h"

#include <string.h>

/* What of base is its query, '?' included; empty: none. A fragment is left out. */
static struct slice query_of(const char *base)
{
    size_t bytes = strcspn(base, "#");
    const char *mark = memchr(base, '?', bytes);
    return mark == NULL ? (struct slice){(const uint8_t *)base + bytes, 0}
                        : (struct slice){(const uint8_t *)mark, bytes - (size_t)(mark - base)};
}

/* base's parameters that have a value. */
static void put_query(struct buf *out, struct slice query)
{
    const char *separator = "?";
    /* Each turn passes a parameter and what separates it. */
    while (query.bytes > 1) {
        const uint8_t *at = query.data + 1;
        size_t left = query.bytes - 1;
        const uint8_t *next = memchr(at, '&', left);
        size_t bytes = next == NULL ? left : (size_t)(next - at);
        if (bytes > 0 && at[bytes - 1] != '=') {
            buf_put_text(out, separator);
            buf_put(out, at, bytes);
            separator = "&";
        }
        query = (struct slice){at + bytes, left - bytes};
    }
}

void target_url_put(struct buf *out, const char *base, const char *path)
{
    struct slice query = query_of(base);
    size_t bytes = (size_t)((const char *)query.data - base);
    while (bytes > 0 && base[bytes - 1] == '/') {
        bytes--;
    }
    buf_put(out, base, bytes);
    buf_put_text(out, path);
    put_query(out, query);
}

static bool is_unreserved(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void put_encoded(struct buf *out, struct slice value)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < value.bytes; i++) {
        uint8_t c = value.data[i];
        if (is_unreserved(c)) {
            buf_put_char(out, (char)c);
        } else {
            const char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
            buf_put(out, escape, sizeof(escape));
        }
    }
}

void target_url_put_parameter(struct buf *out, const char *name, struct slice value)
{
    buf_put_char(out, memchr(out->data, '?', out->bytes) == NULL ? '?' : '&');
    buf_put_text(out, name);
    buf_put_char(out, '=');
    put_encoded(out, value);
}

bool target_url_has_parameter(const char *base, const char *name, bool *is_empty)
{
    struct slice query = query_of(base);
    size_t name_bytes = strlen(name);
    /* Each turn passes a parameter, or the end. */
    while (query.bytes > name_bytes) {
        const char *at = (const char *)query.data + 1;
        size_t left = query.bytes - 1;
        const char *next = memchr(at, '&', left);
        size_t bytes = next == NULL ? left : (size_t)(next - at);
        bool is_it = bytes >= name_bytes && memcmp(at, name, name_bytes) == 0;
        if (is_it && (bytes == name_bytes || at[name_bytes] == '=')) {
            *is_empty = bytes <= name_bytes + 1;
            return true;
        }
        query = (struct slice){(const uint8_t *)at + bytes, left - bytes};
    }
    return false;
}
