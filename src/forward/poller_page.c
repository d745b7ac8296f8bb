#include "forward/poller_page.h"

#include <stdio.h>
#include <string.h>

void poller_page_begin(struct poller_page *page, const struct config_poller *poller,
                       const struct poller_shape *shape, void *memory, size_t capacity)
{
    *page = (struct poller_page){.poller = poller, .shape = shape};
    buf_init(&page->body, memory, capacity);
}

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* "2025-08-25 10:00:00.123456+00" (session in UTC, ISO) as RFC 3339; what has no such form (years before 1 or after 9999) is
 * left to the validation, which refuses it. */
static void put_time(struct buf *out, struct slice time)
{
    size_t bytes = time.bytes;
    bool has_zone = bytes > 3 && memcmp(time.data + bytes - 3, "+00", 3) == 0;
    bytes -= has_zone ? 3 : 0;
    buf_put_text(out, "{\"timestamp\":\"");
    if (bytes == 10) {
        buf_put(out, time.data, bytes);
        buf_put_text(out, "T00:00:00");
    } else if (bytes > 11) {
        buf_put(out, time.data, 10);
        buf_put_char(out, 'T');
        buf_put(out, time.data + 11, bytes - 11);
    }
    buf_put_text(out, "Z\"");
}

/* Whether JSON can say it: what the database prints for a number begins with a digit, but for NaN and the infinities. */
static bool is_finite(struct slice value)
{
    size_t at = value.bytes > 0 && value.data[0] == '-' ? 1 : 0;
    return value.bytes > at && value.bytes <= POLLER_VALUE_BYTES_MAX && value.data[at] >= '0' &&
           value.data[at] <= '9';
}

static void note_invalid(struct poller_page *page, struct slice name,
                         const struct poller_value *value, struct slice time)
{
    page->group_invalid++;
    if (page->invalid_why[0] != 0) {
        return;
    }
    (void)snprintf(page->invalid_why, sizeof page->invalid_why, "%.*s of %.*s at %.*s",
                   (int)u64_min(value->text.bytes, 24), (const char *)value->text.data,
                   (int)u64_min(name.bytes, 64), (const char *)name.data,
                   (int)u64_min(time.bytes, 40), (const char *)time.data);
}

static void put_record(struct poller_page *page, const struct poller_value *keys, struct slice name,
                       struct slice value)
{
    struct buf *out = &page->body;
    put_time(out, keys[0].text);
    buf_put_text(out, ",\"service\":");
    buf_put_json_string(out, slice_of(page->poller->service));
    buf_put_text(out, ",\"name\":");
    buf_put_json_string(out, name);
    buf_put_text(out, ",\"value\":");
    buf_put_slice(out, value);
    buf_put_text(out, ",\"tags\":{");
    if (page->shape->has_step && !keys[1].is_null) {
        buf_put_text(out, "\"agent_step\":");
        buf_put_json_string(out, keys[1].text);
        buf_put_char(out, ',');
    }
    buf_put_text(out, "\"table\":");
    buf_put_json_string(out, slice_of(page->poller->table));
    buf_put_text(out, "}}\n");
    page->group_records++;
}

static void put_row(struct poller_page *page, const struct poller_value *keys)
{
    const struct poller_shape *shape = page->shape;
    const struct poller_value *values = keys + shape->key_count;
    page->group_rows++;
    for (unsigned i = 0; i < shape->value_count; i++) {
        struct poller_value name = {.text = slice_of(shape->values[i])};
        if (shape->has_metric) {
            name = keys[shape->key_count - 1];
        }
        if (values[i].is_null) {
            continue;
        }
        if (name.is_null || !is_finite(values[i].text)) {
            note_invalid(page, name.is_null ? SLICE_LITERAL("NULL") : name.text, &values[i],
                         keys[0].text);
        } else {
            put_record(page, keys, name.text, values[i].text);
        }
    }
}

static void keep_group(struct poller_page *page)
{
    if (page->group.bytes == 0) {
        return;
    }
    page->mark = page->group;
    page->rows += page->group_rows;
    page->records += page->group_records;
    page->invalid += page->group_invalid;
    page->group_at = page->body.bytes;
    page->group_rows = page->group_records = page->group_invalid = 0;
}

static void drop_group(struct poller_page *page)
{
    page->body.bytes = page->group_at;
    page->body.is_truncated = false;
    page->group.bytes = 0;
    page->is_full = true;
}

void poller_page_add(struct poller_page *page, const struct poller_value *values)
{
    struct poller_mark mark = {0};
    if (page->is_full) {
        return;
    }
    if (values[0].is_null || poller_mark_encode(&mark, slice_of(page->shape->identity), values,
                                                page->shape->key_count) < 0) {
        /* The query leaves both out, the second as far as it can tell: a database in another encoding counts other bytes
         * than the UTF-8 that arrives. */
        note_invalid(page, SLICE_LITERAL("a key"), &values[0],
                     SLICE_LITERAL("a place no mark fits"));
        return;
    }
    if (!poller_mark_equal(&mark, &page->group)) {
        keep_group(page);
        page->group = mark;
    }
    put_row(page, values);
    if (page->body.is_truncated) {
        drop_group(page);
    }
}

int poller_page_end(struct poller_page *page)
{
    keep_group(page);
    return page->is_full && page->mark.bytes == 0 ? ERR_LIMIT : 0;
}
