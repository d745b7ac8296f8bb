#include "model/lookup_object.h"

#include <string.h>

#include "model/json_scan.h"

/* ---- where the quotes and backslashes are, a block at a time ---- */

#define PIECE_BYTES 16

static uint64_t marks_scalar(const uint8_t *p, size_t bytes)
{
    uint64_t marks = 0;
    for (size_t i = 0; i < bytes; i++) {
        marks |= (uint64_t)(p[i] == '"' || p[i] == '\\') << i;
    }
    return marks;
}

#if defined(__SSE2__)
#include <emmintrin.h>

static inline uint64_t marks16(const uint8_t *p)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
    __m128i slashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
    return (uint32_t)_mm_movemask_epi8(_mm_or_si128(quotes, slashes));
}
#else
static inline uint64_t marks16(const uint8_t *p)
{
    return marks_scalar(p, PIECE_BYTES);
}
#endif

static inline uint64_t marks64(const uint8_t *p)
{
    return marks16(p) | marks16(p + PIECE_BYTES) << 16 | marks16(p + 2 * PIECE_BYTES) << 32 |
           marks16(p + 3 * PIECE_BYTES) << 48;
}

/* At the end the last 64 bytes of the object are
 * looked at, and those before p shifted out. */
void lookup_object_load(struct lookup_object *object, const uint8_t *p)
{
    size_t left = (size_t)(object->end - p);
    object->block = p;
    if (LIKELY(left >= LOOKUP_BLOCK_BYTES)) {
        object->marks = marks64(p);
    } else if (LIKELY(object->end - object->begin >= LOOKUP_BLOCK_BYTES)) {
        object->marks = marks64(object->end - LOOKUP_BLOCK_BYTES) >> (LOOKUP_BLOCK_BYTES - left);
    } else {
        object->marks = marks_scalar(p, left);
    }
}

/* ---- values that are no strings; each returns what is behind, NULL: the object ends too early ---- */

/* p: the opening bracket. Returns what is behind the one that closes it. */
static const uint8_t *container_end(struct lookup_object *object, const uint8_t *p)
{
    uint64_t depth = 0;
    bool has_escape;
    while (p < object->end) {
        switch (*p) {
        case '"':
            p = lookup_object_string_end(object, p + 1, &has_escape);
            if (p == NULL) {
                return NULL;
            }
            break;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0) {
                return p + 1;
            }
            break;
        default:
            break;
        }
        p++;
    }
    return NULL;
}

/* p: the first byte of a number or a word, which must be there. */
static const uint8_t *scalar_end(const struct lookup_object *object, const uint8_t *p)
{
    const uint8_t *from = p;
    while (p < object->end && *p != ',' && *p != '}' && *p != ']' && !lookup_object_is_white(*p)) {
        p++;
    }
    return p == from || p == object->end ? NULL : p;
}

const uint8_t *lookup_object_value_end(struct lookup_object *object, const uint8_t *p)
{
    return *p == '{' || *p == '[' ? container_end(object, p) : scalar_end(object, p);
}

/* ---- members ---- */

bool lookup_object_open(struct lookup_object *object, struct slice text)
{
    *object = (struct lookup_object){.is_first = true};
    if (text.bytes == 0) {
        return false;
    }
    object->begin = text.data;
    object->end = text.data + text.bytes;
    object->at = lookup_object_white_end(object, text.data);
    if (object->at == object->end || *object->at != '{') {
        return false;
    }
    object->at++;
    lookup_object_load(object, object->begin);
    return true;
}

/* ---- escapes ---- */

/* The longest escape, a surrogate pair. */
#define ESCAPE_BYTES_MAX 12u

/* The escape at the start of from, 2..12 bytes; *taken tells how many. */
static size_t escape_undo(struct slice from, uint8_t *to, size_t room, size_t *taken)
{
    if (LIKELY(from.bytes >= 2 && from.data[1] != 'u')) {
        *taken = 2;
        return json_unescape((struct slice){from.data, 2}, to, room);
    }
    /* A copy, so that an escape torn by damage is not read beyond its end. */
    uint8_t escape[ESCAPE_BYTES_MAX] = {0};
    size_t left = from.bytes < sizeof escape ? from.bytes : sizeof escape;
    memcpy(escape, from.data, left);
    size_t bytes = json_escape_bytes(escape);
    *taken = bytes < left ? bytes : left;
    return json_unescape((struct slice){escape, bytes}, to, room);
}

size_t lookup_object_unescape(struct slice *rest, uint8_t *to, size_t room)
{
    size_t bytes = 0;
    /* Each turn takes a plain run or an escape. */
    while (rest->bytes > 0 && room - bytes >= 4) {
        const uint8_t *slash = memchr(rest->data, '\\', rest->bytes);
        size_t plain = slash == NULL ? rest->bytes : (size_t)(slash - rest->data);
        size_t taken = plain < room - bytes ? plain : room - bytes;
        if (plain > 0) {
            memcpy(to + bytes, rest->data, taken);
            bytes += taken;
        } else {
            bytes += escape_undo(*rest, to + bytes, room - bytes, &taken);
        }
        rest->data += taken;
        rest->bytes -= taken;
    }
    return bytes;
}
