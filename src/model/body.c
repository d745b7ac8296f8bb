/*
 * body: see body.h. Pure; one owner; fails by returning issues.
 *
 * body_next knows the shape, where the next element begins and what a fault means for the rest;
 * element.c reads and judges the element.
 */
#include "model/body.h"

#include <string.h>

#include "model/element.h"

enum stage {
    STAGE_START = 0,
    STAGE_FIRST, /* an array's first element or its end */
    STAGE_NEXT,
    STAGE_END, /* of the elements: what follows must be white space */
    STAGE_STOPPED,
};

struct body {
    enum body_shape shape;
    bool is_detecting;
    enum stage stage;
    uint32_t position;
    uint32_t element_count;
    struct element_reader reader;
};

size_t body_struct_bytes(void)
{
    return sizeof(struct body);
}

void body_open(struct body *body, enum body_schema schema, enum body_shape shape,
               const uint8_t *data, size_t bytes, int64_t default_time_ns)
{
    ASSERT(schema >= SCHEMA_LOG && schema <= SCHEMA_EVENT);
    ASSERT(shape <= SHAPE_NDJSON);
    ASSERT(data != NULL || bytes == 0);
    body->reader.schema = schema;
    body->shape = shape;
    body->is_detecting = shape == SHAPE_DETECT;
    body->stage = STAGE_START;
    body->position = 0;
    body->element_count = 0;
    body->reader.input.data = data;
    body->reader.input.default_time_ns = default_time_ns;
    body->reader.scan.is_line = shape == SHAPE_NDJSON;
    body->reader.scan.depth = 0;
    body->reader.scan.fault = (struct json_fault){0, "Expecting value"};
    json_index_open(&body->reader.scan.index, data, bytes, JSON_INDEX_AUTO);
}

enum body_shape body_shape(const struct body *body)
{
    return body->shape;
}

/* The element at body->position, which is in the text. False: malformed, the fault is in the scan.
 * Else body->position is after it, and the issues tell whether it is a record. */
static bool element_take(struct body *body, struct body_record *record, struct issue_list *issues)
{
    record->index = body->element_count++;
    body->reader.input.index = body->shape == SHAPE_OBJECT ? ISSUE_NO_INDEX : record->index;
    return element_read(&body->reader, &body->position, record, issues);
}

static enum body_result json_invalid(const struct body *body, uint32_t index,
                                     struct issue_list *issues)
{
    issues->count = 1;
    issues->items[0] = (struct issue){.type = ISSUE_JSON_INVALID,
                                      .index = index,
                                      .text = body->reader.scan.fault.text,
                                      .offset = body->reader.scan.fault.offset};
    return index == ISSUE_NO_INDEX ? BODY_INVALID : BODY_REJECT;
}

/* Everything is void: the fault is in body->reader.scan. */
static enum body_result stop(struct body *body, struct issue_list *issues)
{
    body->stage = STAGE_STOPPED;
    return json_invalid(body, ISSUE_NO_INDEX, issues);
}

static enum body_result stop_at(struct body *body, uint32_t position, const char *text,
                                struct issue_list *issues)
{
    json_scan_fail(&body->reader.scan, position, text);
    return stop(body, issues);
}

static enum body_result judged(const struct issue_list *issues)
{
    return LIKELY(issues->count == 0) ? BODY_RECORD : BODY_REJECT;
}

/* A line is bad: the next one begins after the first line feed at or after the fault. No scan
 * passes a line feed in a line, so there is none between the start of the line and the fault. */
static enum body_result line_give_up(struct body *body, uint32_t index, struct issue_list *issues)
{
    const uint8_t *data = body->reader.input.data;
    uint32_t bytes = body->reader.scan.index.bytes;
    uint32_t from = body->reader.scan.fault.offset;
    const uint8_t *feed = from < bytes ? memchr(data + from, '\n', bytes - from) : NULL;
    body->position = feed != NULL ? (uint32_t)(feed - data) + 1 : bytes;
    json_index_skip_to(&body->reader.scan.index, body->position);
    return json_invalid(body, index, issues);
}

static uint32_t blank_lines_pass(const struct body *body, uint32_t position)
{
    uint8_t c = json_scan_byte(&body->reader.scan, position);
    while (c == '\n' || c == ' ' || c == '\t' || c == '\r') {
        position++;
        c = json_scan_byte(&body->reader.scan, position);
    }
    return position;
}

static enum body_result line_next(struct body *body, struct body_record *record,
                                  struct issue_list *issues)
{
    struct json_scan *scan = &body->reader.scan;
    body->position = blank_lines_pass(body, body->position);
    if (body->position == scan->index.bytes) {
        return BODY_END;
    }
    if (UNLIKELY(!element_take(body, record, issues))) {
        return line_give_up(body, record->index, issues);
    }
    uint32_t at = json_scan_white(scan, body->position);
    if (UNLIKELY(at < scan->index.bytes && json_scan_byte(scan, at) != '\n')) {
        json_scan_fail(scan, at, "Extra data");
        return line_give_up(body, record->index, issues);
    }
    body->position = at;
    json_index_pass_special_at(&scan->index, at);
    return judged(issues);
}

/* After a valid first value of a body whose shape is still open: was it all, or the first line of
 * many? */
static bool first_settles(struct body *body)
{
    struct json_scan *scan = &body->reader.scan;
    uint32_t at = json_scan_white(scan, body->position);
    if (at == scan->index.bytes) {
        body->stage = STAGE_END;
        return true;
    }
    uint32_t from = body->position;
    bool is_lines =
        body->is_detecting && memchr(body->reader.input.data + from, '\n', at - from) != NULL;
    if (!is_lines) {
        return json_scan_fail(scan, at, "Extra data");
    }
    body->shape = SHAPE_NDJSON;
    body->stage = STAGE_NEXT;
    scan->is_line = true;
    return true;
}

static void issues_set_index(struct issue_list *issues, uint32_t index)
{
    for (uint32_t i = 0; i < issues->count; i++) {
        issues->items[i].index = index;
    }
}

static enum body_result first_next(struct body *body, struct body_record *record,
                                   struct issue_list *issues)
{
    bool is_object = json_scan_byte(&body->reader.scan, body->position) == '{';
    body->is_detecting &= is_object;
    if (UNLIKELY(!element_take(body, record, issues))) {
        return stop(body, issues);
    }
    if (UNLIKELY(is_object && body->reader.input.is_otlp)) {
        body->stage = STAGE_STOPPED;
        return BODY_OTLP;
    }
    if (UNLIKELY(!first_settles(body))) {
        return stop(body, issues);
    }
    if (body->shape == SHAPE_NDJSON) {
        issues_set_index(issues, 0);
    }
    return judged(issues);
}

static enum body_result array_next(struct body *body, struct body_record *record,
                                   struct issue_list *issues)
{
    struct json_scan *scan = &body->reader.scan;
    uint32_t at = json_scan_white(scan, body->position);
    uint8_t c = json_scan_byte(scan, at);
    if (c == ']') {
        body->position = at + 1;
        body->stage = STAGE_END;
        return BODY_END;
    }
    if (body->stage == STAGE_NEXT) {
        if (UNLIKELY(c != ',')) {
            return stop_at(body, at, "Expecting ',' delimiter", issues);
        }
        at = json_scan_white(scan, at + 1);
    }
    body->position = at;
    body->stage = STAGE_NEXT;
    if (UNLIKELY(!element_take(body, record, issues))) {
        return stop(body, issues);
    }
    return judged(issues);
}

/* Finds the shape and goes to the first element. False: fault. */
static bool body_begin(struct body *body)
{
    struct json_scan *scan = &body->reader.scan;
    if (body->shape == SHAPE_NDJSON) {
        body->stage = STAGE_NEXT;
        body->position = blank_lines_pass(body, 0);
        return body->position < scan->index.bytes ||
               json_scan_fail(scan, body->position, "Expecting value");
    }
    body->position = json_scan_white(scan, 0);
    bool is_array = json_scan_byte(scan, body->position) == '[';
    if (body->is_detecting) {
        body->shape = is_array ? SHAPE_ARRAY : SHAPE_OBJECT;
    }
    if (body->shape == SHAPE_OBJECT) {
        return true;
    }
    body->stage = STAGE_FIRST;
    body->position++;
    return is_array || json_scan_fail(scan, body->position - 1, "Expecting an array");
}

static enum body_result end_next(struct body *body, struct issue_list *issues)
{
    uint32_t at = json_scan_white(&body->reader.scan, body->position);
    if (UNLIKELY(at < body->reader.scan.index.bytes)) {
        return stop_at(body, at, "Extra data", issues);
    }
    return BODY_END;
}

enum body_result body_next(struct body *body, struct body_record *record, struct issue_list *issues)
{
    issues->count = 0;
    if (body->stage == STAGE_START) {
        if (UNLIKELY(!body_begin(body))) {
            return stop(body, issues);
        }
        if (body->shape == SHAPE_OBJECT) {
            return first_next(body, record, issues);
        }
    }
    if (body->stage == STAGE_STOPPED) {
        return stop(body, issues);
    }
    if (body->stage != STAGE_END && body->shape == SHAPE_NDJSON) {
        return line_next(body, record, issues);
    }
    if (body->stage != STAGE_END) {
        enum body_result result = array_next(body, record, issues);
        if (result != BODY_END) {
            return result;
        }
    }
    return end_next(body, issues);
}
