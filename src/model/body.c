/*
 * body: see body.h. Pure; one owner; fails by returning issues.
 *
 *   body_next   which shape, where the next element begins, what a fault means for the rest
 *   members_walk   one element: every member read once, known fields filed (schema.h)
 *   schema_*_check   judges the fields
 *
 * The walk is compiled once per schema, so that the look-up of a key is inlined into it. Its
 * straight path is a member `"key":"value",` without specials: four positions of the index and two
 * bytes of the text say everything about it. Any other member takes member_take_any, which is as
 * strict and looks at each byte.
 */
#include "model/body.h"

#include <string.h>

#include "model/json_scan.h"
#include "model/key_set.h"
#include "model/schema.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE      __attribute__((noinline))

/* "x_correlation_id". */
#define KNOWN_KEY_BYTES_MAX 16u

enum stage {
    STAGE_START = 0,
    STAGE_FIRST, /* an array's first element or its end */
    STAGE_NEXT,
    STAGE_END, /* of the elements: what follows must be white space */
    STAGE_STOPPED,
};

struct body {
    enum body_schema schema;
    enum body_shape shape;
    bool is_detecting;
    enum stage stage;
    uint32_t position;
    uint32_t element_count;
    struct schema_input input;
    struct json_scan scan;
    struct key_set keys;       /* of the element: those its schema does not know */
    struct key_set inner_keys; /* of its tags or metadata */
};

struct member {
    struct slice key;
    bool key_has_escape;
    struct json_value value;
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
    body->schema = schema;
    body->shape = shape;
    body->is_detecting = shape == SHAPE_DETECT;
    body->stage = STAGE_START;
    body->position = 0;
    body->element_count = 0;
    body->input.data = data;
    body->input.default_time_ns = default_time_ns;
    body->scan.is_line = shape == SHAPE_NDJSON;
    body->scan.depth = 0;
    body->scan.fault = (struct json_fault){0, "Expecting value"};
    json_index_open(&body->scan.index, data, bytes, JSON_INDEX_AUTO);
}

enum body_shape body_shape(const struct body *body)
{
    return body->shape;
}

/* ---- one element ---- */

static struct slice text_between(const struct json_scan *scan, const struct json_value *string)
{
    return (struct slice){scan->index.data + string->start + 1, string->end - string->start - 2};
}

/* Whether the member at position is `"key":"value"`, with at most one space after the colon and
 * without specials. The key's quotes are q[0] and q[1], the value's q[2] and q[3]. Where q[0] and
 * q[2] stand, there is a quote, so the bytes up to q[2] are inside the text; q[3] before the next
 * special means that it exists and that both strings are plain. */
static ALWAYS_INLINE bool member_is_plain(const struct json_index *index, uint32_t position)
{
    const uint32_t *q = index->quotes + index->quote_at;
    if (UNLIKELY(q[0] != position || q[3] >= index->special_next)) {
        return false;
    }
    const uint8_t *after_key = index->data + q[1] + 1;
    uint32_t gap = q[2] - q[1];
    return LIKELY(after_key[0] == ':') && (gap == 2 || (gap == 3 && after_key[1] == ' '));
}

enum step {
    STEP_FAULT = 0,
    STEP_MEMBER, /* *position is where its key should be */
    STEP_CLOSED, /* *position is after the brace */
};

/* After the opening brace, at *position. */
static ALWAYS_INLINE enum step object_enter(const struct json_scan *scan, uint32_t *position)
{
    *position = json_scan_white(scan, *position);
    if (UNLIKELY(json_scan_byte(scan, *position) == '}')) {
        *position += 1;
        return STEP_CLOSED;
    }
    return STEP_MEMBER;
}

/* After a member, at *position. */
static ALWAYS_INLINE enum step object_step(struct json_scan *scan, uint32_t *position)
{
    uint32_t at = json_scan_white(scan, *position);
    uint8_t c = json_scan_byte(scan, at);
    if (LIKELY(c == ',')) {
        *position = json_scan_white(scan, at + 1);
        return STEP_MEMBER;
    }
    *position = at + 1;
    if (UNLIKELY(c != '}')) {
        json_scan_fail(scan, at, "Expecting ',' delimiter");
        return STEP_FAULT;
    }
    return STEP_CLOSED;
}

static NOINLINE void unknown_key_note(struct body *body, struct slice key, bool has_escape)
{
    struct schema_input *input = &body->input;
    switch (key_set_add(&body->keys, key, has_escape)) {
    case KEY_SET_NEW:
        return;
    case KEY_SET_DUPLICATE:
        if (input->unknown_repeated_count < UNKNOWN_REPEATED_MAX) {
            input->unknown_repeated[input->unknown_repeated_count++] = key;
        }
        return;
    case KEY_SET_FULL:
        input->has_too_many_keys = true;
        return;
    }
}

static void inner_issue(struct schema_input *input, enum issue_type type, enum field field,
                        const struct member *m, const char *text)
{
    struct issue_list *list = &input->inner;
    if (list->count < ISSUES_PER_RECORD_MAX) {
        const struct json_value *value = &m->value;
        list->items[list->count++] = (struct issue){
            .type = type,
            .field = schema_field_name(field),
            .subkey = m->key,
            .text = text,
            .input = {input->data + value->start, value->end - value->start},
        };
    }
}

static ALWAYS_INLINE bool member_scan_key(struct json_scan *scan, uint32_t *position,
                                          struct member *m)
{
    struct json_value key;
    if (UNLIKELY(!json_scan_key(scan, position, &key))) {
        return false;
    }
    m->key = text_between(scan, &key);
    m->key_has_escape = key.has_escape;
    return true;
}

static void inner_member_note(struct body *body, enum field field, const struct member *m)
{
    if (UNLIKELY(field == FIELD_TAGS && m->value.kind != JSON_STRING)) {
        inner_issue(&body->input, ISSUE_STRING_TYPE, field, m, NULL);
    }
    switch (key_set_add(&body->inner_keys, m->key, m->key_has_escape)) {
    case KEY_SET_NEW:
        return;
    case KEY_SET_DUPLICATE:
        inner_issue(&body->input, ISSUE_VALUE_ERROR, field, m, "duplicate key");
        return;
    case KEY_SET_FULL:
        body->input.has_too_many_keys = true;
        return;
    }
}

/* The entries of tags (strings) or metadata (anything): their own keys are judged, deeper ones are
 * free. */
static NOINLINE bool inner_walk(struct body *body, enum field field, uint32_t position,
                                struct json_value *value)
{
    struct json_scan *scan = &body->scan;
    *value = (struct json_value){.start = position, .kind = JSON_OBJECT};
    key_set_reset(&body->inner_keys);
    position++;
    scan->depth++;
    enum step step = object_enter(scan, &position);
    /* Each turn takes a member, so at least four bytes. */
    while (step == STEP_MEMBER) {
        struct member m;
        if (UNLIKELY(!member_scan_key(scan, &position, &m) ||
                     !json_scan_value(scan, position, &m.value))) {
            return false;
        }
        inner_member_note(body, field, &m);
        position = m.value.end;
        step = object_step(scan, &position);
    }
    scan->depth--;
    value->end = position;
    return step == STEP_CLOSED;
}

static ALWAYS_INLINE enum field field_find(enum body_schema schema, struct slice key)
{
    switch (schema) {
    case SCHEMA_LOG:
        return schema_log_field(key);
    case SCHEMA_METRIC:
        return schema_metric_field(key);
    case SCHEMA_EVENT:
        return schema_event_field(key);
    }
    return FIELD_UNKNOWN;
}

/* A key with escapes names the field that it spells. */
static NOINLINE enum field field_find_escaped(enum body_schema schema, struct slice key)
{
    uint8_t plain[KNOWN_KEY_BYTES_MAX + 1];
    size_t bytes = json_unescape(key, plain, sizeof plain);
    if (bytes > KNOWN_KEY_BYTES_MAX) {
        return FIELD_UNKNOWN;
    }
    return field_find(schema, (struct slice){plain, bytes});
}

/* False: the value does not count, because the field was there already. */
static ALWAYS_INLINE bool field_note(struct schema_input *input, enum field field)
{
    if (UNLIKELY(schema_has(input, field))) {
        input->repeated |= FIELD_BIT(field);
        return false;
    }
    input->seen |= FIELD_BIT(field);
    return true;
}

static bool field_value_scan(struct body *body, enum field field, uint32_t position,
                             struct json_value *value)
{
    bool is_inner = field == FIELD_TAGS || field == FIELD_METADATA;
    /* A second one is refused anyway, and must not add its entries to those of the first. */
    bool is_first = is_inner && !schema_has(&body->input, field);
    if (is_first && json_scan_byte(&body->scan, position) == '{') {
        return inner_walk(body, field, position, value);
    }
    return json_scan_value(&body->scan, position, value);
}

/* The member at *position, in any form that the grammar allows; *position becomes its end. */
static NOINLINE bool member_take_any(struct body *body, uint32_t *position)
{
    enum body_schema schema = body->schema;
    struct schema_input *input = &body->input;
    struct member m;
    if (UNLIKELY(!member_scan_key(&body->scan, position, &m))) {
        return false;
    }
    enum field field =
        UNLIKELY(m.key_has_escape) ? field_find_escaped(schema, m.key) : field_find(schema, m.key);
    if (UNLIKELY(!field_value_scan(body, field, *position, &m.value))) {
        return false;
    }
    *position = m.value.end;
    if (field >= FIELD_COUNT) {
        unknown_key_note(body, m.key, m.key_has_escape);
        input->is_otlp |= field == FIELD_OTLP;
    } else if (field_note(input, field)) {
        input->values[field] = m.value;
    }
    return true;
}

/* The plain member at the quotes ahead. Returns its end. */
static ALWAYS_INLINE uint32_t member_take_plain(struct body *body, enum body_schema schema)
{
    struct json_index *index = &body->scan.index;
    const uint32_t *q = index->quotes + index->quote_at;
    uint32_t start = q[2];
    uint32_t end = q[3] + 1;
    index->quote_at += 4;
    struct slice key = {index->data + q[0] + 1, q[1] - q[0] - 1};
    enum field field = field_find(schema, key);
    if (UNLIKELY(field >= FIELD_COUNT)) {
        unknown_key_note(body, key, false);
        body->input.is_otlp |= field == FIELD_OTLP;
    } else if (field_note(&body->input, field)) {
        body->input.values[field] = (struct json_value){start, end, JSON_STRING, false};
    }
    return end;
}

/* The object whose opening brace is at position, into body->input. */
static ALWAYS_INLINE bool members_walk(struct body *body, enum body_schema schema,
                                       uint32_t position, uint32_t *end)
{
    struct json_scan *scan = &body->scan;
    position++;
    enum step step = object_enter(scan, &position);
    /* Each turn takes a member, so at least four bytes. */
    while (step == STEP_MEMBER) {
        if (UNLIKELY(json_index_ahead(&scan->index) < JSON_INDEX_AHEAD)) {
            json_index_refill(&scan->index, position);
        }
        if (LIKELY(member_is_plain(&scan->index, position))) {
            position = member_take_plain(body, schema);
        } else {
            /* A copy: position's own address is never taken, so it lives in a register. */
            uint32_t at = position;
            if (UNLIKELY(!member_take_any(body, &at))) {
                return false;
            }
            position = at;
        }
        step = object_step(scan, &position);
    }
    *end = position;
    return step == STEP_CLOSED;
}

static NOINLINE bool log_walk(struct body *body, uint32_t position, uint32_t *end)
{
    return members_walk(body, SCHEMA_LOG, position, end);
}

static NOINLINE bool metric_walk(struct body *body, uint32_t position, uint32_t *end)
{
    return members_walk(body, SCHEMA_METRIC, position, end);
}

static NOINLINE bool event_walk(struct body *body, uint32_t position, uint32_t *end)
{
    return members_walk(body, SCHEMA_EVENT, position, end);
}

static bool object_walk(struct body *body, uint32_t position, uint32_t *end)
{
    struct schema_input *input = &body->input;
    input->seen = 0;
    input->repeated = 0;
    input->is_otlp = false;
    input->has_too_many_keys = false;
    input->unknown_repeated_count = 0;
    input->inner.count = 0;
    key_set_reset(&body->keys);
    body->scan.depth = 1;
    switch (body->schema) {
    case SCHEMA_LOG:
        return log_walk(body, position, end);
    case SCHEMA_METRIC:
        return metric_walk(body, position, end);
    case SCHEMA_EVENT:
        return event_walk(body, position, end);
    }
    return false;
}

static void object_check(struct body *body, struct body_record *record, struct issue_list *issues)
{
    record->event_time_ns = body->input.default_time_ns;
    record->severity = 0;
    record->dedup_key = (struct slice){NULL, 0};
    switch (body->schema) {
    case SCHEMA_LOG:
        schema_log_check(&body->input, record, issues);
        return;
    case SCHEMA_METRIC:
        schema_metric_check(&body->input, record, issues);
        return;
    case SCHEMA_EVENT:
        schema_event_check(&body->input, record, issues);
        return;
    }
}

/* The element at body->position, which is in the text. False: malformed, the fault is in
 * body->scan. Else body->position is after it, and the issues tell whether it is a record. */
static bool element_take(struct body *body, struct body_record *record, struct issue_list *issues)
{
    uint32_t start = body->position;
    const uint8_t *data = body->input.data;
    record->index = body->element_count++;
    body->input.index = body->shape == SHAPE_OBJECT ? ISSUE_NO_INDEX : record->index;
    if (LIKELY(json_scan_byte(&body->scan, start) == '{')) {
        if (UNLIKELY(!object_walk(body, start, &body->position))) {
            return false;
        }
        /* Twice from registers: reading the first back in one piece would wait for its two stores.
         */
        size_t bytes = body->position - start;
        record->payload.data = data + start;
        record->payload.bytes = bytes;
        body->input.payload.data = data + start;
        body->input.payload.bytes = bytes;
        object_check(body, record, issues);
        return true;
    }
    struct json_value value;
    body->scan.depth = 0;
    if (!json_scan_value(&body->scan, start, &value)) {
        return false;
    }
    body->position = value.end;
    issues->count = 1;
    issues->items[0] = (struct issue){.type = ISSUE_MODEL_TYPE,
                                      .index = body->input.index,
                                      .input = {data + start, value.end - start}};
    return true;
}

/* ---- the body around the elements ---- */

static enum body_result json_invalid(const struct body *body, uint32_t index,
                                     struct issue_list *issues)
{
    issues->count = 1;
    issues->items[0] = (struct issue){.type = ISSUE_JSON_INVALID,
                                      .index = index,
                                      .text = body->scan.fault.text,
                                      .offset = body->scan.fault.offset};
    return index == ISSUE_NO_INDEX ? BODY_INVALID : BODY_REJECT;
}

/* Everything is void: the fault is in body->scan. */
static enum body_result stop(struct body *body, struct issue_list *issues)
{
    body->stage = STAGE_STOPPED;
    return json_invalid(body, ISSUE_NO_INDEX, issues);
}

static enum body_result stop_at(struct body *body, uint32_t position, const char *text,
                                struct issue_list *issues)
{
    json_scan_fail(&body->scan, position, text);
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
    const uint8_t *data = body->input.data;
    uint32_t bytes = body->scan.index.bytes;
    uint32_t from = body->scan.fault.offset;
    const uint8_t *feed = from < bytes ? memchr(data + from, '\n', bytes - from) : NULL;
    body->position = feed != NULL ? (uint32_t)(feed - data) + 1 : bytes;
    json_index_skip_to(&body->scan.index, body->position);
    return json_invalid(body, index, issues);
}

static uint32_t blank_lines_pass(const struct body *body, uint32_t position)
{
    uint8_t c = json_scan_byte(&body->scan, position);
    while (c == '\n' || c == ' ' || c == '\t' || c == '\r') {
        position++;
        c = json_scan_byte(&body->scan, position);
    }
    return position;
}

static enum body_result line_next(struct body *body, struct body_record *record,
                                  struct issue_list *issues)
{
    struct json_scan *scan = &body->scan;
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
    struct json_scan *scan = &body->scan;
    uint32_t at = json_scan_white(scan, body->position);
    if (at == scan->index.bytes) {
        body->stage = STAGE_END;
        return true;
    }
    uint32_t from = body->position;
    bool is_lines = body->is_detecting && memchr(body->input.data + from, '\n', at - from) != NULL;
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
    bool is_object = json_scan_byte(&body->scan, body->position) == '{';
    body->is_detecting &= is_object;
    if (UNLIKELY(!element_take(body, record, issues))) {
        return stop(body, issues);
    }
    if (UNLIKELY(is_object && body->input.is_otlp)) {
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
    struct json_scan *scan = &body->scan;
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
    struct json_scan *scan = &body->scan;
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
    uint32_t at = json_scan_white(&body->scan, body->position);
    if (UNLIKELY(at < body->scan.index.bytes)) {
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
