/*
 * schema_metric: a record of POST /v1/metrics (api.md §1). Pure.
 *
 * Two forms. With `service` it is the native one, which requires a timestamp with a zone. Without,
 * it is the event library's {metric_id?, timestamp?, name, value, unit?, tags?}, whose timestamp
 * may be absent (the default time) and may lack a zone (then it is UTC). null stands for absent
 * wherever a field is optional.
 */
#include "model/schema.h"

static void value_check(const struct schema_input *input, struct issue_list *issues)
{
    if (UNLIKELY(!schema_has(input, FIELD_VALUE))) {
        schema_issue(input, issues, ISSUE_MISSING, FIELD_VALUE);
        return;
    }
    const struct json_value *value = &input->values[FIELD_VALUE];
    if (UNLIKELY(value->kind != JSON_NUMBER)) {
        schema_issue(input, issues, ISSUE_FLOAT_TYPE, FIELD_VALUE);
        return;
    }
    struct slice number = {input->data + value->start, value->end - value->start};
    if (UNLIKELY(!json_number_is_finite(number))) {
        schema_issue(input, issues, ISSUE_FINITE_NUMBER, FIELD_VALUE);
    }
}

void schema_metric_check(struct schema_input *input, struct body_record *record,
                         struct issue_list *issues)
{
    if (schema_has(input, FIELD_SERVICE)) {
        schema_check_time(input, RFC3339_ZONE_REQUIRED, &record->event_time_ns, issues);
        schema_check_length(input, FIELD_SERVICE, (struct schema_length){1, SERVICE_BYTES_MAX},
                            issues);
    } else {
        schema_check_optional_string(input, FIELD_METRIC_ID, issues);
        schema_check_optional_time(input, RFC3339_ZONE_OPTIONAL, &record->event_time_ns, issues);
    }
    schema_check_string(input, FIELD_NAME, issues);
    value_check(input, issues);
    schema_check_optional_string(input, FIELD_UNIT, issues);
    schema_check_optional_object(input, FIELD_TAGS, issues);
    schema_check_keys(input, issues);
}
