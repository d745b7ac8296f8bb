/*
 * run: see run.h. Two passes over the fields: members_walk files the value of each known key, then
 * fields_judge looks at every field that the command has, in the order of the columns, so that
 * the issues and the negative field do not depend on how the client ordered its keys.
 */
#include "model/run.h"

#include <string.h>

#include "model/json_scan.h"
#include "model/run_number.h"
#include "model/run_schema.h"

#define HASH_BYTES_MIN 7u
#define HASH_BYTES_MAX 40u

#define STATUS_TEXT                                                                                \
    "Invalid status. Must be one of: ['running', 'success', 'failure', 'partial', 'timeout', "     \
    "'cancelled']"

struct reading {
    enum run_command command;
    struct run_fields *fields;
    struct run_judgement *judgement;
    uint8_t *scratch; /* the rest of it */
    size_t scratch_bytes;
    uint32_t index;
    uint64_t seen, repeated; /* bit (1 << enum run_field) */
    struct slice object;     /* without white space around it */
    struct json_scan scan;
    struct json_value values[RUN_FIELD_COUNT]; /* of those in seen */
};

static struct slice literal(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* ---- issues ---- */

static void issue_add(struct reading *reading, const struct issue *issue)
{
    struct issue_list *issues = &reading->judgement->issues;
    reading->judgement->judged = RUN_BAD_SHAPE;
    if (issues->count < ISSUES_PER_RECORD_MAX) {
        issues->items[issues->count] = *issue;
        issues->items[issues->count++].index = reading->index;
    }
}

static struct slice input_of(const struct reading *reading, enum run_field field)
{
    const struct json_value *value = &reading->values[field];
    return (struct slice){reading->scan.index.data + value->start, value->end - value->start};
}

static void field_refuse(struct reading *reading, enum run_field field, enum issue_type type,
                         const char *text)
{
    issue_add(reading, &(struct issue){.type = type,
                                       .field = run_field_name(field),
                                       .text = text,
                                       .input = input_of(reading, field)});
}

static void length_refuse(struct reading *reading, enum run_field field, enum issue_type type,
                          uint32_t limit)
{
    issue_add(reading, &(struct issue){.type = type,
                                       .field = run_field_name(field),
                                       .limit = limit,
                                       .input = input_of(reading, field)});
}

/* ---- the walk ---- */

static enum run_field field_of_key(const struct reading *reading, const struct json_value *key)
{
    uint8_t plain[RUN_SCHEMA_NAME_BYTES];
    struct slice name = {reading->scan.index.data + key->start + 1,
                         (size_t)(key->end - key->start) - 2};
    if (UNLIKELY(key->has_escape)) {
        size_t bytes = json_unescape(name, plain, sizeof plain);
        name = (struct slice){plain, bytes};
        if (bytes > sizeof plain) {
            return RUN_FIELD_COUNT;
        }
    }
    return run_schema_find(reading->command, name);
}

static void member_file(struct reading *reading, enum run_field field,
                        const struct json_value *value)
{
    struct run_fields *fields = reading->fields;
    uint64_t bit = UINT64_C(1) << field;
    if ((reading->seen & bit) != 0) {
        reading->repeated |= bit;
        return;
    }
    reading->seen |= bit;
    reading->values[field] = *value;
    fields->order[fields->count++] = (uint8_t)field;
}

/* One "key": value at *position; *position becomes what is behind it and white space. */
static bool member_take(struct reading *reading, uint32_t *position)
{
    struct json_scan *scan = &reading->scan;
    struct json_value key;
    struct json_value value;
    if (UNLIKELY(!json_scan_key(scan, position, &key) ||
                 !json_scan_value(scan, *position, &value))) {
        return false;
    }
    enum run_field field = field_of_key(reading, &key);
    if (field < RUN_FIELD_COUNT) {
        member_file(reading, field, &value);
    }
    *position = json_scan_white(scan, value.end);
    return true;
}

/* The object at *position, which becomes its end. */
static bool members_walk(struct reading *reading, uint32_t *position)
{
    struct json_scan *scan = &reading->scan;
    uint32_t at = json_scan_white(scan, *position + 1);
    bool is_open = json_scan_byte(scan, at) != '}';
    scan->depth = 1;
    while (is_open) { /* each turn takes a member */
        if (UNLIKELY(!member_take(reading, &at))) {
            return false;
        }
        uint8_t c = json_scan_byte(scan, at);
        is_open = c == ',';
        if (UNLIKELY(!is_open && c != '}')) {
            return json_scan_fail(scan, at, "Expecting ',' delimiter");
        }
        at = is_open ? json_scan_white(scan, at + 1) : at;
    }
    scan->depth = 0;
    *position = at + 1;
    return true;
}

/* The whole text, one value. *is_object: its members are filed. */
static bool text_walk(struct reading *reading, bool *is_object)
{
    struct json_scan *scan = &reading->scan;
    uint32_t start = json_scan_white(scan, 0);
    uint32_t at = start;
    *is_object = json_scan_byte(scan, at) == '{';
    if (*is_object) {
        if (UNLIKELY(!members_walk(reading, &at))) {
            return false;
        }
    } else {
        struct json_value value;
        if (!json_scan_value(scan, at, &value)) {
            return false;
        }
        at = value.end;
    }
    reading->object = (struct slice){scan->index.data + start, at - start};
    uint32_t end = json_scan_white(scan, at);
    return end == scan->index.bytes || json_scan_fail(scan, end, "Extra data");
}

/* ---- the judges of a field, by kind ---- */

/* The text of a string, without NUL. False: refused. */
static bool text_judge(struct reading *reading, enum run_field field, struct slice *text)
{
    const struct json_value *value = &reading->values[field];
    if (value->kind != JSON_STRING) {
        field_refuse(reading, field, ISSUE_STRING_TYPE, NULL);
        return false;
    }
    *text = (struct slice){reading->scan.index.data + value->start + 1,
                           (size_t)(value->end - value->start) - 2};
    if (LIKELY(!value->has_escape)) {
        return true; /* and without an escape there is no NUL */
    }
    size_t bytes = json_unescape(*text, reading->scratch, reading->scratch_bytes);
    ASSERT(bytes <= reading->scratch_bytes); /* unescaped text never grows */
    *text = (struct slice){reading->scratch, bytes};
    if (memchr(reading->scratch, 0, bytes) != NULL) {
        field_refuse(reading, field, ISSUE_VALUE_ERROR, "a NUL character cannot be stored");
        return false;
    }
    reading->scratch += bytes;
    reading->scratch_bytes -= bytes;
    return true;
}

static void text_keep(struct reading *reading, enum run_field field, struct slice text)
{
    reading->fields->values[field] = (struct run_value){.type = RUN_TEXT, .text = text};
}

static void event_id_judge(struct reading *reading, enum run_field field, struct slice text)
{
    if (text.bytes == 0) {
        length_refuse(reading, field, ISSUE_STRING_TOO_SHORT, 1);
    } else if (text.bytes > RUN_EVENT_ID_BYTES_MAX) {
        length_refuse(reading, field, ISSUE_STRING_TOO_LONG, RUN_EVENT_ID_BYTES_MAX);
    } else {
        text_keep(reading, field, text);
    }
}

static void status_judge(struct reading *reading, enum run_field field, struct slice text)
{
    struct slice status = run_status_normalise(text);
    if (status.data == NULL) {
        field_refuse(reading, field, ISSUE_VALUE_ERROR, STATUS_TEXT);
        return;
    }
    text_keep(reading, field, status);
}

static size_t character_count(struct slice text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        count += (text.data[i] & 0xc0) != 0x80;
    }
    return count;
}

static bool is_hex(struct slice text)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    for (size_t i = 0; i < text.bytes; i++) {
        if (memchr(digits, text.data[i], sizeof digits - 1) == NULL) {
            return false;
        }
    }
    return true;
}

static void hash_judge(struct reading *reading, enum run_field field, struct slice text)
{
    size_t characters = character_count(text);
    if (characters < HASH_BYTES_MIN) {
        length_refuse(reading, field, ISSUE_STRING_TOO_SHORT, HASH_BYTES_MIN);
    } else if (characters > HASH_BYTES_MAX) {
        length_refuse(reading, field, ISSUE_STRING_TOO_LONG, HASH_BYTES_MAX);
    } else if (!is_hex(text)) {
        field_refuse(reading, field, ISSUE_PATTERN, "^[0-9a-fA-F]+$");
    } else {
        text_keep(reading, field, text);
    }
}

static bool is_source(struct slice text)
{
    return slice_equal(text, SLICE_LITERAL("manual")) || slice_equal(text, SLICE_LITERAL("llm")) ||
           slice_equal(text, SLICE_LITERAL("ci"));
}

/* A literal is no string to pydantic: whatever else stands there is simply another value. */
static void source_judge(struct reading *reading, enum run_field field)
{
    struct slice text;
    bool is_string = reading->values[field].kind == JSON_STRING;
    if (is_string && !text_judge(reading, field, &text)) {
        return;
    }
    if (!is_string || !is_source(text)) {
        field_refuse(reading, field, ISSUE_LITERAL, "Input should be 'manual', 'llm' or 'ci'");
        return;
    }
    text_keep(reading, field, text);
}

static void integer_keep(struct reading *reading, enum run_field field, int64_t integer)
{
    reading->fields->values[field] = (struct run_value){.type = RUN_INTEGER, .integer = integer};
    struct run_judgement *judgement = reading->judgement;
    if (integer < 0 && judgement->judged == RUN_GOOD) {
        judgement->judged = RUN_NEGATIVE;
        judgement->negative = field;
    }
}

static void number_refuse(struct reading *reading, enum run_field field, enum run_number number)
{
    static const enum issue_type types[] = {
        [RUN_NUMBER_NONE] = ISSUE_INT_PARSING,
        [RUN_NUMBER_FRACTION] = ISSUE_INT_FROM_FLOAT,
        [RUN_NUMBER_SIZE] = ISSUE_INT_SIZE,
        [RUN_NUMBER_INFINITE] = ISSUE_FINITE_NUMBER,
    };
    field_refuse(reading, field, types[number], NULL);
}

static void count_judge(struct reading *reading, enum run_field field)
{
    enum json_kind kind = reading->values[field].kind;
    struct slice text;
    int64_t integer = kind == JSON_TRUE;
    enum run_number number = RUN_NUMBER_GOOD;
    if (kind == JSON_NUMBER) {
        number = run_number_of_number(input_of(reading, field), &integer);
    } else if (kind == JSON_STRING) {
        if (!text_judge(reading, field, &text)) {
            return;
        }
        number = run_number_of_text(text, &integer);
    } else if (kind != JSON_TRUE && kind != JSON_FALSE) {
        field_refuse(reading, field, ISSUE_INT_TYPE, NULL);
        return;
    }
    if (number != RUN_NUMBER_GOOD) {
        number_refuse(reading, field, number);
        return;
    }
    integer_keep(reading, field, integer);
}

static void flag_keep(struct reading *reading, enum run_field field, int64_t flag)
{
    if (flag != 0 && flag != 1) {
        field_refuse(reading, field, ISSUE_BOOL_PARSING, NULL);
        return;
    }
    integer_keep(reading, field, flag);
}

static void flag_judge(struct reading *reading, enum run_field field)
{
    enum json_kind kind = reading->values[field].kind;
    struct slice text;
    int64_t integer;
    if (kind == JSON_TRUE || kind == JSON_FALSE) {
        integer_keep(reading, field, kind == JSON_TRUE);
    } else if (kind == JSON_NUMBER &&
               run_number_of_number(input_of(reading, field), &integer) == RUN_NUMBER_GOOD) {
        flag_keep(reading, field, integer);
    } else if (kind != JSON_STRING) {
        field_refuse(reading, field, ISSUE_BOOL_TYPE, NULL);
    } else if (text_judge(reading, field, &text)) {
        flag_keep(reading, field, run_number_of_word(text));
    }
}

/* True for "{}" with any white space in it. */
static bool is_empty_object(const struct reading *reading, const struct json_value *value)
{
    return json_scan_byte(&reading->scan, json_scan_white(&reading->scan, value->start + 1)) == '}';
}

static void object_judge(struct reading *reading, enum run_field field)
{
    const struct json_value *value = &reading->values[field];
    struct run_value *kept = &reading->fields->values[field];
    if (value->kind != JSON_OBJECT) {
        field_refuse(reading, field, ISSUE_DICT_TYPE, NULL);
    } else if (is_empty_object(reading, value)) {
        *kept = (struct run_value){.type = RUN_NULL};
    } else {
        *kept = (struct run_value){.type = RUN_JSON, .text = input_of(reading, field)};
    }
}

static void string_judge(struct reading *reading, enum run_field field, enum run_kind kind)
{
    struct slice text;
    if (!text_judge(reading, field, &text)) {
        return;
    }
    if (kind == RUN_KIND_EVENT_ID) {
        event_id_judge(reading, field, text);
    } else if (kind == RUN_KIND_STATUS) {
        status_judge(reading, field, text);
    } else if (kind == RUN_KIND_HASH) {
        hash_judge(reading, field, text);
    } else {
        text_keep(reading, field, text);
    }
}

static void value_judge(struct reading *reading, enum run_field field, enum run_kind kind)
{
    switch (kind) {
    case RUN_KIND_COUNT:
        count_judge(reading, field);
        return;
    case RUN_KIND_FLAG:
        flag_judge(reading, field);
        return;
    case RUN_KIND_OBJECT:
        object_judge(reading, field);
        return;
    case RUN_KIND_SOURCE:
        source_judge(reading, field);
        return;
    case RUN_KIND_TEXT:
    case RUN_KIND_EVENT_ID:
    case RUN_KIND_STATUS:
    case RUN_KIND_HASH:
        string_judge(reading, field, kind);
        return;
    }
    ASSERT(false);
}

/* ---- the judgement ---- */

/* True: what null says is settled; RUN_ABSENT is what values begin as. */
static bool null_judge(struct reading *reading, enum run_field field, enum run_null null)
{
    if (null == RUN_NULL_STORED) {
        reading->fields->values[field] = (struct run_value){.type = RUN_NULL};
    } else if (null == RUN_NULL_ZERO) {
        integer_keep(reading, field, 0);
    }
    return null != RUN_NULL_REFUSED;
}

static void field_judge(struct reading *reading, enum run_field field)
{
    uint64_t bit = UINT64_C(1) << field;
    struct run_rule rule = run_schema_rule(reading->command, field);
    if ((reading->seen & bit) == 0) {
        if (rule.is_required) {
            issue_add(reading, &(struct issue){.type = ISSUE_MISSING,
                                               .field = run_field_name(field),
                                               .input = reading->object});
        }
        return;
    }
    if ((reading->repeated & bit) != 0) {
        field_refuse(reading, field, ISSUE_VALUE_ERROR, "duplicate key");
        return;
    }
    bool is_null = reading->values[field].kind == JSON_NULL;
    if (!is_null || !null_judge(reading, field, rule.null)) {
        value_judge(reading, field, rule.kind);
    }
}

/* Leaves in the order only what has a value. */
static void order_compact(struct run_fields *fields)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < fields->count; i++) {
        if (fields->values[fields->order[i]].type != RUN_ABSENT) {
            fields->order[kept++] = fields->order[i];
        }
    }
    fields->count = kept;
}

static void fields_judge(struct reading *reading)
{
    uint64_t left = run_schema_fields(reading->command);
    while (left != 0) { /* a field each */
        field_judge(reading, (enum run_field)__builtin_ctzll(left));
        left &= left - 1;
    }
    order_compact(reading->fields);
    struct run_judgement *judgement = reading->judgement;
    if (judgement->judged == RUN_GOOD && reading->command == RUN_UPDATE &&
        reading->fields->count == 0) {
        judgement->judged = RUN_EMPTY;
    }
}

static void json_refuse(struct reading *reading)
{
    reading->judgement->issues.count = 0;
    issue_add(reading, &(struct issue){.type = ISSUE_JSON_INVALID,
                                       .text = reading->scan.fault.text,
                                       .offset = reading->scan.fault.offset});
    /* As FastAPI, which reads the JSON before it knows of elements. */
    reading->judgement->issues.items[0].index = ISSUE_NO_INDEX;
}

/* FastAPI takes a body of no bytes for no body at all. */
static void body_miss(struct reading *reading)
{
    issue_add(reading, &(struct issue){.type = ISSUE_MISSING, .input = SLICE_LITERAL("null")});
}

void run_read(struct run_fields *fields, struct run_judgement *judgement, enum run_command command,
              struct slice object, uint8_t *scratch, uint32_t index)
{
    struct reading reading; /* the scan alone is 21 KiB: not zeroed */
    bool is_object;
    memset(fields, 0, sizeof *fields);
    judgement->judged = RUN_GOOD;
    judgement->negative = RUN_FIELD_COUNT;
    judgement->issues.count = 0;
    reading.command = command;
    reading.fields = fields;
    reading.judgement = judgement;
    reading.scratch = scratch;
    reading.scratch_bytes = object.bytes;
    reading.index = index;
    reading.seen = 0;
    reading.repeated = 0;
    reading.scan.is_line = false;
    reading.scan.depth = 0;
    json_index_open(&reading.scan.index, object.data, object.bytes, JSON_INDEX_AUTO);
    if (object.bytes == 0) {
        body_miss(&reading);
    } else if (!text_walk(&reading, &is_object)) {
        json_refuse(&reading);
    } else if (!is_object) {
        issue_add(&reading, &(struct issue){.type = ISSUE_MODEL_TYPE, .input = reading.object});
    } else {
        fields_judge(&reading);
    }
}

struct slice run_status_normalise(struct slice status)
{
    static const struct {
        const char *said;
        const char *stored;
    } statuses[] = {
        {"running", "running"}, {"success", "success"},   {"failure", "failure"},
        {"partial", "partial"}, {"timeout", "timeout"},   {"cancelled", "cancelled"},
        {"failed", "failure"},  {"completed", "success"}, {"succeeded", "success"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(statuses); i++) {
        if (slice_equal(status, literal(statuses[i].said))) {
            return literal(statuses[i].stored);
        }
    }
    return (struct slice){NULL, 0};
}
