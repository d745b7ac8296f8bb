/*
 * body: memory that grows by doubling up to its limit. What did not fit is never half there, and nothing follows
 * it until body_cut or body_reset: a body never has a hole.
 */
#include "forward/body.h"

#include <string.h>

#include "core/buf.h"
#include "core/mem.h"

#define CAPACITY_MIN KIB(4)

void body_init(struct body *body, size_t limit)
{
    ASSERT(body != NULL);
    *body = (struct body){.limit = limit};
}

void body_free(struct body *body)
{
    mem_free(body->data);
    *body = (struct body){.limit = body->limit};
}

void body_reset(struct body *body)
{
    body->bytes = 0;
    body->is_over = false;
}

void body_cut(struct body *body, size_t bytes)
{
    ASSERT(bytes <= body->bytes);
    body->bytes = bytes;
    body->is_over = false;
}

static void body_grow(struct body *body, size_t bytes_needed)
{
    size_t capacity = u64_max(body->capacity, CAPACITY_MIN);
    while (capacity < bytes_needed) { /* at most 64 steps: bytes_needed is within the limit */
        capacity = capacity > SIZE_MAX / 2 ? bytes_needed : 2 * capacity;
    }
    /* The limit bounds what is charged, too; a limit below CAPACITY_MIN is kept to the byte. */
    capacity = u64_max(u64_min(capacity, body->limit), bytes_needed);
    uint8_t *data = mem_alloc(capacity);
    if (body->data != NULL) {
        memcpy(data, body->data, body->bytes);
    }
    mem_free(body->data);
    body->data = data;
    body->capacity = capacity;
}

uint8_t *body_room(struct body *body, size_t bytes)
{
    ASSERT(body->bytes <= body->capacity || body->data == NULL);
    if (UNLIKELY(body->is_over || body->bytes > body->limit || bytes > body->limit - body->bytes)) {
        body->is_over = true;
        return NULL;
    }
    if (UNLIKELY(bytes > body->capacity - body->bytes || body->data == NULL)) {
        body_grow(body, body->bytes + bytes);
    }
    return body->data + body->bytes;
}

void body_add(struct body *body, size_t bytes)
{
    ASSERT(bytes <= body->capacity - body->bytes);
    body->bytes += bytes;
}

void body_put(struct body *body, const void *data, size_t bytes)
{
    uint8_t *room = bytes > 0 ? body_room(body, bytes) : NULL;
    if (LIKELY(room != NULL)) {
        memcpy(room, data, bytes);
        body->bytes += bytes;
    }
}

void body_put_slice(struct body *body, struct slice slice)
{
    body_put(body, slice.data, slice.bytes);
}

void body_put_text(struct body *body, const char *text)
{
    body_put(body, text, strlen(text));
}

void body_put_u64(struct body *body, uint64_t value)
{
    char digits[20];
    body_put(body, digits, u64_format(digits, value));
}

void body_put_i64(struct body *body, int64_t value)
{
    char text[21];
    struct buf buf;
    buf_init(&buf, text, sizeof text);
    buf_put_i64(&buf, value);
    body_put(body, text, buf.bytes);
}

/* False: it is longer than bytes. */
static bool json_string_fits(struct body *body, struct slice text, size_t bytes)
{
    struct buf buf;
    buf_init(&buf, body->data + body->bytes, bytes);
    buf_put_json_string(&buf, text);
    if (!buf.is_truncated) {
        body->bytes += buf.bytes;
    }
    return !buf.is_truncated;
}

void body_put_json_string(struct body *body, struct slice text)
{
    /* Most strings have nothing to escape; the worst byte becomes six ("\u001f"). */
    const size_t plain = text.bytes + 2;
    const size_t worst = text.bytes > (SIZE_MAX - 2) / 6 ? SIZE_MAX : 6 * text.bytes + 2;
    if (body_room(body, plain) == NULL || json_string_fits(body, text, plain)) {
        return;
    }
    const size_t room = u64_min(worst, body->limit - body->bytes);
    (void)body_room(body, room); /* within the limit: never NULL */
    body->is_over = !json_string_fits(body, text, room);
}
