/*
 * http_head: the walk over a request head: empty lines, request line, field lines, the verdict.
 * Pure; the caller's thread.
 *
 * A head that is there as a whole (nearly always) is parsed in one pass. A head that arrives in
 * pieces is parsed again from its start only when that can tell something new: when its end has
 * come, when a byte came that no head may have, when the limit is reached, and each time it has
 * doubled. In between only the new bytes are looked at, so the sum of the work is linear in the
 * length of the head however it is cut.
 */
#include "net/http_head.h"

#include <string.h>

#include "net/http_chars.h"
#include "net/http_walk.h"

/* RFC 9112 §2.2 wants at least one ignored: old clients send a CRLF after the body of a POST. */
#define EMPTY_LINES_MAX 2

int http_walk_fault(struct http_walk *walk, uint16_t status, const char *text)
{
    *walk->fault = (struct http_fault){.status = status, .text = text};
    return -1;
}

int http_walk_line_fault(struct http_walk *walk)
{
    const uint8_t *at = walk->at;
    if (at == walk->end) {
        return 0;
    }
    if (*at == '\n') {
        return http_walk_fault(walk, 400, "A line ends with LF alone; HTTP lines end with CR LF.");
    }
    if (*at != '\r') {
        return http_walk_fault(walk, 400, "The head contains a control character.");
    }
    if (at + 1 == walk->end) {
        return 0;
    }
    return http_walk_fault(walk, 400, "The head contains a CR that is not followed by LF.");
}

static int skip_empty_lines(struct http_walk *walk)
{
    for (unsigned skipped = 0; walk->at < walk->end; skipped++) {
        if (*walk->at != '\r') {
            return 1;
        }
        if (skipped == EMPTY_LINES_MAX) {
            return http_walk_fault(walk, 400, "More than two empty lines precede the request.");
        }
        const int result = http_walk_line_end(walk);
        if (result <= 0) {
            return result;
        }
    }
    return 0;
}

/* Says what is wrong with a line whose name does not end in a colon. */
static int field_name_fault(struct http_walk *walk, const uint8_t *name)
{
    const uint8_t stop = *walk->at;
    if (walk->at == name && http_char_is_blank(stop)) {
        return http_walk_fault(walk, 400,
                               "A field line starts with white space; folded lines are refused.");
    }
    if (walk->at == name && stop == ':') {
        return http_walk_fault(walk, 400, "A field has no name.");
    }
    if (http_char_is_blank(stop)) {
        return http_walk_fault(walk, 400, "A field name is followed by white space.");
    }
    if (stop == '\r' || stop == '\n') {
        return http_walk_fault(walk, 400, "A field line has no colon.");
    }
    return http_walk_fault(walk, 400, "A field name contains a character that is not allowed.");
}

static int field_line(struct http_walk *walk)
{
    struct http_head *head = walk->head;
    if (UNLIKELY(head->field_count == walk->limits->fields_max)) {
        return http_walk_fault(walk, 431, "The head has more fields than allowed.");
    }
    const uint8_t *name = walk->at;
    walk->at = http_scan_name(name, walk->end);
    const uint8_t *name_end = walk->at;
    if (UNLIKELY(name_end == walk->end)) {
        return 0;
    }
    if (UNLIKELY(*name_end != ':' || name_end == name)) {
        return field_name_fault(walk, name);
    }
    const uint8_t *value = name_end + 1;
    while (value < walk->end && http_char_is_blank(*value)) {
        value++;
    }
    walk->at = http_scan_value(value, walk->end);
    const uint8_t *value_end = walk->at;
    const int result = http_walk_line_end(walk);
    if (UNLIKELY(result <= 0)) {
        return result;
    }
    while (value_end > value && http_char_is_blank(value_end[-1])) {
        value_end--;
    }
    struct http_field *field = &head->fields[head->field_count++];
    field->name = http_walk_span(walk, name, name_end);
    field->value = http_walk_span(walk, value, value_end);
    return http_field_note(walk, field);
}

/* Bound: each round takes a line, and there are at most fields_max of them and the empty one. */
static int field_lines(struct http_walk *walk)
{
    while (walk->at < walk->end) {
        if (*walk->at == '\r') {
            return http_walk_line_end(walk);
        }
        const int result = field_line(walk);
        if (UNLIKELY(result <= 0)) {
            return result;
        }
    }
    return 0;
}

static int walk_head(struct http_walk *walk)
{
    int result = skip_empty_lines(walk);
    if (result <= 0) {
        return result;
    }
    result = http_request_line(walk);
    if (result <= 0) {
        return result;
    }
    result = field_lines(walk);
    if (result <= 0) {
        return result;
    }
    walk->head->head_bytes = (uint32_t)(walk->at - walk->base);
    return http_field_conclude(walk);
}

/* True when the bytes from scanned on hold the end of a head, or a byte that makes it invalid. The
 * last three of the old bytes are looked at again, because the end is four bytes long. */
static bool has_news(const uint8_t *data, size_t bytes, size_t scanned)
{
    const uint8_t *end = data + bytes;
    const uint8_t *at = data + (scanned > 3 ? scanned - 3 : 0);
    while ((at = http_scan_value(at, end)) < end) {
        const bool is_end_of_pair = *at == '\n' && at > data && at[-1] == '\r';
        if (is_end_of_pair) {
            at++;
            continue;
        }
        if (*at != '\r') {
            return true;
        }
        if (at + 1 < end && at[1] != '\n') {
            return true;
        }
        if (end - at >= 4 && at[2] == '\r' && at[3] == '\n') {
            return true;
        }
        at++;
    }
    return false;
}

/* Whether bytes has a binary digit more than scanned. */
static bool has_doubled(size_t bytes, size_t scanned)
{
    return __builtin_clzll(bytes) < __builtin_clzll(scanned);
}

int http_head_parse(struct http_head *head, const uint8_t *data, size_t bytes, size_t scanned,
                    const struct http_limits *limits, struct http_fault *fault)
{
    ASSERT(scanned <= bytes);
    ASSERT(limits->fields_max <= HTTP_FIELDS_MAX);
    const bool is_at_limit = bytes >= limits->head_bytes_max;
    if (scanned > 0 && !is_at_limit && !has_doubled(bytes, scanned) &&
        !has_news(data, bytes, scanned)) {
        return 0;
    }
    memset(head, 0, offsetof(struct http_head, fields)); /* fields count only up to field_count */
    struct http_walk walk = {
        .base = data,
        .at = data,
        .end = data + (is_at_limit ? limits->head_bytes_max : bytes),
        .head = head,
        .limits = limits,
        .fault = fault,
    };
    const int result = walk_head(&walk);
    if (result == 0 && is_at_limit) {
        return http_walk_fault(&walk, 431, "The head is larger than allowed.");
    }
    return result;
}

struct slice http_head_field(const struct http_head *head, const uint8_t *base, const char *name)
{
    const struct slice wanted = {(const uint8_t *)name, strlen(name)};
    for (uint32_t i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name.bytes == wanted.bytes &&
            slice_equal_nocase(http_span_slice(base, field->name), wanted)) {
            return http_span_slice(base, field->value);
        }
    }
    return (struct slice){NULL, 0};
}
