#include "model/schema.h"

static const char *const field_names[FIELD_COUNT] = {
    [FIELD_TIMESTAMP] = "timestamp",
    [FIELD_SERVICE] = "service",
    [FIELD_SERVICE_NAME] = "service_name",
    [FIELD_LEVEL] = "level",
    [FIELD_MESSAGE] = "message",
    [FIELD_CORRELATION_ID] = "correlation_id",
    [FIELD_X_CORRELATION_ID] = "x_correlation_id",
    [FIELD_METRIC_ID] = "metric_id",
    [FIELD_NAME] = "name",
    [FIELD_VALUE] = "value",
    [FIELD_UNIT] = "unit",
    [FIELD_TAGS] = "tags",
    [FIELD_EVENT_ID] = "event_id",
    [FIELD_EVENT_TYPE] = "event_type",
    [FIELD_SOURCE] = "source",
    [FIELD_METADATA] = "metadata",
};

const char *schema_field_name(enum field field)
{
    ASSERT(field < FIELD_COUNT);
    return field_names[field];
}

/* An issue about the element itself, with the whole of it as input. */
static struct issue *element_issue(const struct schema_input *input, struct issue_list *issues,
                                   enum issue_type type)
{
    if (issues->count == ISSUES_PER_RECORD_MAX) {
        return NULL;
    }
    struct issue *issue = &issues->items[issues->count++];
    *issue = (struct issue){.type = type, .index = input->index, .input = input->payload};
    return issue;
}

struct issue *schema_issue(const struct schema_input *input, struct issue_list *issues,
                           enum issue_type type, enum field field)
{
    struct issue *issue = element_issue(input, issues, type);
    if (issue == NULL) {
        return NULL;
    }
    issue->field = schema_field_name(field);
    if (type != ISSUE_MISSING) {
        const struct json_value *value = &input->values[field];
        issue->input = (struct slice){input->data + value->start, value->end - value->start};
    }
    return issue;
}

void schema_list_keys(const struct schema_input *input, struct issue_list *issues)
{
    for (unsigned field = 0; field < FIELD_COUNT; field++) {
        if ((input->repeated & FIELD_BIT(field)) != 0) {
            struct issue *issue = schema_issue(input, issues, ISSUE_VALUE_ERROR, (enum field)field);
            if (issue != NULL) {
                issue->text = "duplicate key";
            }
        }
    }
    for (uint32_t i = 0; i < input->unknown_repeated_count; i++) {
        struct issue *issue = element_issue(input, issues, ISSUE_VALUE_ERROR);
        if (issue != NULL) {
            issue->text = "duplicate key";
            issue->subkey = input->unknown_repeated[i];
        }
    }
    if (input->has_too_many_keys) {
        struct issue *issue = element_issue(input, issues, ISSUE_VALUE_ERROR);
        if (issue != NULL) {
            issue->text = "an object has more than 1024 keys";
        }
    }
}

void schema_check_optional_object(const struct schema_input *input, enum field field,
                                  struct issue_list *issues)
{
    if (!schema_has_value(input, field)) {
        return;
    }
    if (input->values[field].kind != JSON_OBJECT) {
        schema_issue(input, issues, ISSUE_DICT_TYPE, field);
        return;
    }
    for (uint32_t i = 0; i < input->inner.count && issues->count < ISSUES_PER_RECORD_MAX; i++) {
        issues->items[issues->count] = input->inner.items[i];
        issues->items[issues->count++].index = input->index;
    }
}

void schema_list_no_string(const struct schema_input *input, enum field field,
                           struct issue_list *issues)
{
    schema_issue(input, issues, schema_has(input, field) ? ISSUE_STRING_TYPE : ISSUE_MISSING,
                 field);
}

void schema_check_length_any(const struct schema_input *input, enum field field,
                             struct schema_length length, struct issue_list *issues)
{
    if (!schema_is_string(input, field)) {
        schema_list_no_string(input, field, issues);
        return;
    }
    uint8_t unused;
    size_t bytes = json_unescape(schema_raw(input, field), &unused, 0);
    bool is_short = bytes < length.bytes_min;
    if (is_short || bytes > length.bytes_max) {
        struct issue *issue = schema_issue(
            input, issues, is_short ? ISSUE_STRING_TOO_SHORT : ISSUE_STRING_TOO_LONG, field);
        if (issue != NULL) {
            issue->limit = is_short ? length.bytes_min : length.bytes_max;
        }
    }
}

struct slice schema_text_escaped(const struct schema_input *input, enum field field,
                                 uint8_t *scratch, size_t room)
{
    size_t bytes = json_unescape(schema_raw(input, field), scratch, room);
    return (struct slice){scratch, bytes < room ? bytes : room};
}

void schema_check_time_any(struct schema_input *input, enum rfc3339_zone zone, int64_t *ns,
                           struct issue_list *issues)
{
    if (!schema_has(input, FIELD_TIMESTAMP)) {
        schema_issue(input, issues, ISSUE_MISSING, FIELD_TIMESTAMP);
        return;
    }
    const char *why = "expected a string";
    if (schema_is_string(input, FIELD_TIMESTAMP)) {
        /* Room is for the escaped form only: 44 digits of fraction that were escaped on purpose may
         * be cut. */
        uint8_t scratch[64];
        struct slice text = schema_raw(input, FIELD_TIMESTAMP);
        if (input->values[FIELD_TIMESTAMP].has_escape) {
            text = schema_text_escaped(input, FIELD_TIMESTAMP, scratch, sizeof scratch);
        }
        why = rfc3339_parse_remember(&input->time_memo, text, zone, ns);
    }
    if (why != NULL) {
        struct issue *issue = schema_issue(input, issues, ISSUE_DATETIME, FIELD_TIMESTAMP);
        if (issue != NULL) {
            issue->text = why;
        }
    }
}
