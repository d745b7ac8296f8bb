/*
 * schema: what the three schemas of body.h share. Private to the room. Pure.
 *
 * The walk (body.c) reads an object once and files the value of each field that its schema knows;
 * the check (schema_log.c, schema_metric.c, schema_event.c) then judges the fields in the order of
 * the schema, so that problems are listed in that order whatever the order of the keys was.
 */
#ifndef MODEL_SCHEMA_H
#define MODEL_SCHEMA_H

#include <string.h>

#include "core/base.h"
#include "model/body.h"
#include "model/issue.h"
#include "model/json_scan.h"
#include "model/rfc3339.h"

#define SERVICE_BYTES_MAX 256u
/* As long as an Idempotency-Key may be: both end in the same processed set. */
#define EVENT_ID_BYTES_MAX 255u

enum field {
    FIELD_TIMESTAMP = 0,
    FIELD_SERVICE,
    FIELD_SERVICE_NAME,
    FIELD_LEVEL,
    FIELD_MESSAGE,
    FIELD_CORRELATION_ID,
    FIELD_X_CORRELATION_ID,
    FIELD_METRIC_ID,
    FIELD_NAME,
    FIELD_VALUE,
    FIELD_UNIT,
    FIELD_TAGS,
    FIELD_EVENT_ID,
    FIELD_EVENT_TYPE,
    FIELD_SOURCE,
    FIELD_METADATA,
    FIELD_COUNT,
    FIELD_UNKNOWN,
    FIELD_OTLP, /* resourceLogs, resourceMetrics: a sign, otherwise unknown */
};

#define FIELD_BIT(field) (1u << (field))

#define UNKNOWN_REPEATED_MAX 4u

/* One object as the walk found it. */
struct schema_input {
    const uint8_t *data; /* the body */
    struct slice payload;
    int64_t default_time_ns;
    uint32_t index;    /* for issues: ISSUE_NO_INDEX for a single object */
    uint32_t seen;     /* FIELD_BIT of each known field */
    uint32_t repeated; /* FIELD_BIT of each that came again; the first value counts */
    bool is_otlp;
    bool has_too_many_keys;
    uint32_t unknown_repeated_count;
    struct slice unknown_repeated[UNKNOWN_REPEATED_MAX];
    struct rfc3339_memo time_memo; /* outlives the object and the body */
    struct issue_list inner;       /* of the entries of tags or metadata */
    /* The last place is for values that nobody asks for: filing them is cheaper than a branch. */
    struct json_value values[FIELD_UNKNOWN + 1];
    uint8_t scratch[EVENT_ID_BYTES_MAX + 1];
};

/* Each check fills event_time_ns, severity and dedup_key of record, or adds issues. */
void schema_log_check(struct schema_input *input, struct body_record *record,
                      struct issue_list *issues);
void schema_metric_check(struct schema_input *input, struct body_record *record,
                         struct issue_list *issues);
void schema_event_check(struct schema_input *input, struct body_record *record,
                        struct issue_list *issues);

/* ---- for the checks (schema.c) ---- */

const char *schema_field_name(enum field field);

/* Adds an issue of type about field; the offending value is its input (the whole object for
 * ISSUE_MISSING). Returns it for limit, text and subkey; NULL when the list is full. */
struct issue *schema_issue(const struct schema_input *input, struct issue_list *issues,
                           enum issue_type type, enum field field);

/* An object or null or nothing, whose entries the walk has judged. */
void schema_check_optional_object(const struct schema_input *input, enum field field,
                                  struct issue_list *issues);

static inline bool schema_has(const struct schema_input *input, enum field field)
{
    return (input->seen & FIELD_BIT(field)) != 0;
}

/* Present and not null. */
static inline bool schema_has_value(const struct schema_input *input, enum field field)
{
    return schema_has(input, field) && input->values[field].kind != JSON_NULL;
}

static inline bool schema_is_string(const struct schema_input *input, enum field field)
{
    return schema_has(input, field) && input->values[field].kind == JSON_STRING;
}

/* As most are: what stands between the quotes is the text. */
static inline bool schema_is_plain_string(const struct schema_input *input, enum field field)
{
    return schema_is_string(input, field) && !input->values[field].has_escape;
}

/* Of a string that is there: its raw bytes between the quotes. */
static inline struct slice schema_raw(const struct schema_input *input, enum field field)
{
    const struct json_value *value = &input->values[field];
    return (struct slice){input->data + value->start + 1, value->end - value->start - 2};
}

/* The checks proper. What a good record needs of each is inline; the rest is a call. */

/* Lists the keys that are there twice. */
void schema_list_keys(const struct schema_input *input, struct issue_list *issues);

/* Keys that must not be there twice, in any schema. Call last. */
static inline void schema_check_keys(const struct schema_input *input, struct issue_list *issues)
{
    if (UNLIKELY((input->repeated | input->unknown_repeated_count | input->has_too_many_keys) !=
                 0)) {
        schema_list_keys(input, issues);
    }
}

/* Lists the field as missing or of the wrong type. */
void schema_list_no_string(const struct schema_input *input, enum field field,
                           struct issue_list *issues);

/* A string. */
static inline void schema_check_string(const struct schema_input *input, enum field field,
                                       struct issue_list *issues)
{
    if (UNLIKELY(!schema_is_string(input, field))) {
        schema_list_no_string(input, field, issues);
    }
}

/* A string or null or nothing. */
static inline void schema_check_optional_string(const struct schema_input *input, enum field field,
                                                struct issue_list *issues)
{
    if (schema_has_value(input, field)) {
        schema_check_string(input, field, issues);
    }
}

struct schema_length {
    uint32_t bytes_min;
    uint32_t bytes_max;
};

void schema_check_length_any(const struct schema_input *input, enum field field,
                             struct schema_length length, struct issue_list *issues);

/* A string of so many bytes, escapes undone. */
static inline void schema_check_length(const struct schema_input *input, enum field field,
                                       struct schema_length length, struct issue_list *issues)
{
    size_t bytes = schema_raw(input, field).bytes;
    if (UNLIKELY(!schema_is_plain_string(input, field) || bytes < length.bytes_min ||
                 bytes > length.bytes_max)) {
        schema_check_length_any(input, field, length, issues);
    }
}

struct slice schema_text_escaped(const struct schema_input *input, enum field field,
                                 uint8_t *scratch, size_t room);

/* A string of at most room bytes without its quotes, escapes undone in scratch; longer ones are
 * cut. */
static inline struct slice schema_text(const struct schema_input *input, enum field field,
                                       uint8_t *scratch, size_t room)
{
    if (UNLIKELY(input->values[field].has_escape)) {
        return schema_text_escaped(input, field, scratch, room);
    }
    struct slice raw = schema_raw(input, field);
    raw.bytes = raw.bytes < room ? raw.bytes : room;
    return raw;
}

void schema_check_time_any(struct schema_input *input, enum rfc3339_zone zone, int64_t *ns,
                           struct issue_list *issues);

/* RFC 3339 into *ns. */
static inline void schema_check_time(struct schema_input *input, enum rfc3339_zone zone,
                                     int64_t *ns, struct issue_list *issues)
{
    bool is_plain = schema_is_plain_string(input, FIELD_TIMESTAMP);
    if (UNLIKELY(!is_plain ||
                 !rfc3339_recall(&input->time_memo, schema_raw(input, FIELD_TIMESTAMP), ns))) {
        schema_check_time_any(input, zone, ns, issues);
    }
}

/* Absent or null: the default time. */
static inline void schema_check_optional_time(struct schema_input *input, enum rfc3339_zone zone,
                                              int64_t *ns, struct issue_list *issues)
{
    *ns = input->default_time_ns;
    if (schema_has_value(input, FIELD_TIMESTAMP)) {
        schema_check_time(input, zone, ns, issues);
    }
}

/* ---- for the walk: which field a key names. By length first: then one comparison of a fixed size
 * decides. ---- */

#define SCHEMA_KEY_IS(key, text) (memcmp((key).data, (text), sizeof(text) - 1) == 0)

static inline enum field schema_log_field(struct slice key)
{
    switch (key.bytes) {
    case 5:
        return SCHEMA_KEY_IS(key, "level") ? FIELD_LEVEL : FIELD_UNKNOWN;
    case 7:
        if (SCHEMA_KEY_IS(key, "service")) {
            return FIELD_SERVICE;
        }
        return SCHEMA_KEY_IS(key, "message") ? FIELD_MESSAGE : FIELD_UNKNOWN;
    case 9:
        return SCHEMA_KEY_IS(key, "timestamp") ? FIELD_TIMESTAMP : FIELD_UNKNOWN;
    case 12:
        if (SCHEMA_KEY_IS(key, "service_name")) {
            return FIELD_SERVICE_NAME;
        }
        return SCHEMA_KEY_IS(key, "resourceLogs") ? FIELD_OTLP : FIELD_UNKNOWN;
    case 14:
        return SCHEMA_KEY_IS(key, "correlation_id") ? FIELD_CORRELATION_ID : FIELD_UNKNOWN;
    case 16:
        return SCHEMA_KEY_IS(key, "x_correlation_id") ? FIELD_X_CORRELATION_ID : FIELD_UNKNOWN;
    default:
        return FIELD_UNKNOWN;
    }
}

static inline enum field schema_metric_field(struct slice key)
{
    switch (key.bytes) {
    case 4:
        if (SCHEMA_KEY_IS(key, "name")) {
            return FIELD_NAME;
        }
        if (SCHEMA_KEY_IS(key, "unit")) {
            return FIELD_UNIT;
        }
        return SCHEMA_KEY_IS(key, "tags") ? FIELD_TAGS : FIELD_UNKNOWN;
    case 5:
        return SCHEMA_KEY_IS(key, "value") ? FIELD_VALUE : FIELD_UNKNOWN;
    case 7:
        return SCHEMA_KEY_IS(key, "service") ? FIELD_SERVICE : FIELD_UNKNOWN;
    case 9:
        if (SCHEMA_KEY_IS(key, "timestamp")) {
            return FIELD_TIMESTAMP;
        }
        return SCHEMA_KEY_IS(key, "metric_id") ? FIELD_METRIC_ID : FIELD_UNKNOWN;
    case 15:
        return SCHEMA_KEY_IS(key, "resourceMetrics") ? FIELD_OTLP : FIELD_UNKNOWN;
    default:
        return FIELD_UNKNOWN;
    }
}

static inline enum field schema_event_field(struct slice key)
{
    switch (key.bytes) {
    case 6:
        return SCHEMA_KEY_IS(key, "source") ? FIELD_SOURCE : FIELD_UNKNOWN;
    case 7:
        return SCHEMA_KEY_IS(key, "message") ? FIELD_MESSAGE : FIELD_UNKNOWN;
    case 8:
        if (SCHEMA_KEY_IS(key, "event_id")) {
            return FIELD_EVENT_ID;
        }
        return SCHEMA_KEY_IS(key, "metadata") ? FIELD_METADATA : FIELD_UNKNOWN;
    case 9:
        return SCHEMA_KEY_IS(key, "timestamp") ? FIELD_TIMESTAMP : FIELD_UNKNOWN;
    case 10:
        return SCHEMA_KEY_IS(key, "event_type") ? FIELD_EVENT_TYPE : FIELD_UNKNOWN;
    default:
        return FIELD_UNKNOWN;
    }
}

#endif
