/*
 * schema_event: a record of POST /v1/events (api.md §1). Pure.
 *
 * The timestamp may be absent (the default time) and may lack a zone (then it is UTC: Python's
 * isoformat of a naive datetime). null stands for absent wherever a field is optional. event_type
 * is exact: lower case, as the library writes it.
 */
#include "model/schema.h"

#define EVENT_TYPE_BYTES_MAX 7u

static const struct {
    struct slice text;
    uint8_t severity;
} event_types[] = {
    {{(const uint8_t *)"debug", 5}, 2},
    {{(const uint8_t *)"info", 4}, 3},
    {{(const uint8_t *)"warning", 7}, 4},
    {{(const uint8_t *)"error", 5}, 5},
};

static void event_type_check(const struct schema_input *input, uint8_t *severity,
                             struct issue_list *issues)
{
    if (UNLIKELY(!schema_has(input, FIELD_EVENT_TYPE))) {
        schema_issue(input, issues, ISSUE_MISSING, FIELD_EVENT_TYPE);
        return;
    }
    if (LIKELY(input->values[FIELD_EVENT_TYPE].kind == JSON_STRING)) {
        uint8_t scratch[EVENT_TYPE_BYTES_MAX + 1];
        struct slice text = schema_text(input, FIELD_EVENT_TYPE, scratch, sizeof scratch);
        for (size_t i = 0; i < ARRAY_COUNT(event_types); i++) {
            if (slice_equal(text, event_types[i].text)) {
                *severity = event_types[i].severity;
                return;
            }
        }
    }
    struct issue *issue = schema_issue(input, issues, ISSUE_ENUM, FIELD_EVENT_TYPE);
    if (issue != NULL) {
        issue->text = "Input should be 'info', 'warning', 'error' or 'debug'";
    }
}

/* Returns by record the key under which the event is stored once. */
static void event_id_check(struct schema_input *input, struct body_record *record,
                           struct issue_list *issues)
{
    if (!schema_has_value(input, FIELD_EVENT_ID)) {
        return;
    }
    uint32_t before = issues->count;
    schema_check_length(input, FIELD_EVENT_ID, (struct schema_length){1, EVENT_ID_BYTES_MAX},
                        issues);
    if (issues->count == before) {
        record->dedup_key =
            schema_text(input, FIELD_EVENT_ID, input->scratch, sizeof input->scratch);
    }
}

void schema_event_check(struct schema_input *input, struct body_record *record,
                        struct issue_list *issues)
{
    event_id_check(input, record, issues);
    schema_check_optional_time(input, RFC3339_ZONE_OPTIONAL, &record->event_time_ns, issues);
    event_type_check(input, &record->severity, issues);
    schema_check_string(input, FIELD_SOURCE, issues);
    schema_check_string(input, FIELD_MESSAGE, issues);
    schema_check_optional_object(input, FIELD_METADATA, issues);
    schema_check_keys(input, issues);
}
