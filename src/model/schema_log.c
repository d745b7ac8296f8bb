/*
 * schema_log: a record of POST /v1/logs (api.md §1). Pure.
 */
#include "model/schema.h"

enum {
    SEVERITY_TRACE = 1,
    SEVERITY_DEBUG,
    SEVERITY_INFO,
    SEVERITY_WARNING,
    SEVERITY_ERROR,
    SEVERITY_CRITICAL,
};

#define LEVEL_BYTES_MAX 8u

static const char level_text[] =
    "Input should be 'TRACE', 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'";

/* Four bytes as a number with the letters in lower case. Setting 0x20 folds exactly the two cases
 * of a letter onto it: no third byte becomes one. */
static uint32_t letters4(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word | 0x20202020u;
}

static bool letters_are(const uint8_t *p, const char *lower)
{
    uint32_t word;
    memcpy(&word, lower, sizeof word);
    return letters4(p) == word;
}

/* 0: no level. */
static uint8_t severity_of(struct slice level)
{
    const uint8_t *p = level.data;
    switch (level.bytes) {
    case 4:
        if (letters_are(p, "info")) {
            return SEVERITY_INFO;
        }
        return letters_are(p, "warn") ? SEVERITY_WARNING : 0;
    case 5:
        /* The first four decide, the last four (which overlap them) confirm. */
        if (letters_are(p, "erro") && letters_are(p + 1, "rror")) {
            return SEVERITY_ERROR;
        }
        if (letters_are(p, "debu") && letters_are(p + 1, "ebug")) {
            return SEVERITY_DEBUG;
        }
        if (letters_are(p, "trac") && letters_are(p + 1, "race")) {
            return SEVERITY_TRACE;
        }
        return letters_are(p, "fata") && letters_are(p + 1, "atal") ? SEVERITY_CRITICAL : 0;
    case 7:
        return letters_are(p, "warn") && letters_are(p + 3, "ning") ? SEVERITY_WARNING : 0;
    case 8:
        return letters_are(p, "crit") && letters_are(p + 4, "ical") ? SEVERITY_CRITICAL : 0;
    default:
        return 0;
    }
}

static void level_check(const struct schema_input *input, uint8_t *severity,
                        struct issue_list *issues)
{
    if (UNLIKELY(!schema_has(input, FIELD_LEVEL))) {
        schema_issue(input, issues, ISSUE_MISSING, FIELD_LEVEL);
        return;
    }
    if (LIKELY(input->values[FIELD_LEVEL].kind == JSON_STRING)) {
        uint8_t scratch[LEVEL_BYTES_MAX + 1];
        *severity = severity_of(schema_text(input, FIELD_LEVEL, scratch, sizeof scratch));
    }
    if (UNLIKELY(*severity == 0)) {
        struct issue *issue = schema_issue(input, issues, ISSUE_ENUM, FIELD_LEVEL);
        if (issue != NULL) {
            issue->text = level_text;
        }
    }
}

/* A field under its name or its alias, never both: which of two values counts must not be a guess.
 */
static enum field one_of(const struct schema_input *input, enum field field, enum field alias,
                         const char *text, struct issue_list *issues)
{
    if (LIKELY(!schema_has(input, alias))) {
        return field;
    }
    if (schema_has(input, field)) {
        struct issue *issue = schema_issue(input, issues, ISSUE_VALUE_ERROR, alias);
        if (issue != NULL) {
            issue->text = text;
        }
        return field;
    }
    return alias;
}

void schema_log_check(struct schema_input *input, struct body_record *record,
                      struct issue_list *issues)
{
    schema_check_time(input, RFC3339_ZONE_REQUIRED, &record->event_time_ns, issues);
    enum field service = one_of(input, FIELD_SERVICE, FIELD_SERVICE_NAME,
                                "give service or service_name, not both", issues);
    schema_check_length(input, service, (struct schema_length){1, SERVICE_BYTES_MAX}, issues);
    level_check(input, &record->severity, issues);
    schema_check_string(input, FIELD_MESSAGE, issues);
    enum field correlation = one_of(input, FIELD_CORRELATION_ID, FIELD_X_CORRELATION_ID,
                                    "give correlation_id or x_correlation_id, not both", issues);
    schema_check_optional_string(input, correlation, issues);
    schema_check_keys(input, issues);
}
