#include "api/query_judge.h"

#include <string.h>

#include "core/crc32c.h"
#include "model/json_scan.h"
#include "model/rfc3339.h"

/* ---- texts ---- */

/* Inside a record's string only valid UTF-8 can stand; the judge of those is asked, with what it
 * would not take as it is replaced. */
static bool is_utf8(struct slice text)
{
    uint8_t quoted[QUERY_TEXT_MAX + 2];
    uint64_t offset;
    const char *why;
    ASSERT(text.bytes <= QUERY_TEXT_MAX);
    quoted[0] = '"';
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        quoted[i + 1] = c < 0x20 || c == '"' || c == '\\' ? ' ' : c;
    }
    quoted[text.bytes + 1] = '"';
    return json_validate(quoted, text.bytes + 2, &offset, &why) == 0;
}

static struct slice *text_place(struct lookup_query *lookup, enum query_parameter parameter)
{
    switch ((int)parameter) {
    case QUERY_PARAMETER_SERVICE:
        return &lookup->service;
    case QUERY_PARAMETER_CORRELATION_ID:
        return &lookup->correlation_id;
    case QUERY_PARAMETER_NAME:
        return &lookup->name;
    case QUERY_PARAMETER_SOURCE:
        return &lookup->source;
    default:
        ASSERT(parameter == QUERY_PARAMETER_Q);
        return &lookup->message;
    }
}

void query_judge_text(struct query_reading *reading, struct slice value)
{
    struct query_params *params = reading->params;
    if (!is_utf8(value)) {
        query_fault_add_value(&reading->faults, reading->name, value, "it is no valid UTF-8");
        return;
    }
    ASSERT(value.bytes <= sizeof params->text - params->text_bytes);
    uint8_t *to = params->text + params->text_bytes;
    memcpy(to, value.data, value.bytes);
    params->text_bytes += (uint32_t)value.bytes;
    *text_place(&params->lookup, reading->parameter) = (struct slice){to, value.bytes};
}

/* ---- times ---- */

uint32_t query_judge_digest(uint32_t digest, struct slice text)
{
    uint64_t bytes = text.bytes;
    digest = crc32c(digest, &bytes, sizeof bytes);
    return crc32c(digest, text.data, text.bytes);
}

void query_judge_time(struct query_reading *reading, struct slice value)
{
    const char *name = reading->name;
    int64_t ns = 0;
    if (!query_time_parse(&ns, value, reading->now_ns)) {
        bool is_digit = value.bytes > 0 && value.data[0] >= '0' && value.data[0] <= '9';
        const char *why = is_digit ? rfc3339_parse(value, RFC3339_ZONE_REQUIRED, &ns) : NULL;
        query_fault_add_value(&reading->faults, name, value,
                              "%s must be RFC 3339 with a zone, such as 2026-01-31T12:00:00Z, or "
                              "relative, such as now-5m%s%s",
                              name, why != NULL ? ": " : "", why != NULL ? why : "");
        return;
    }
    bool is_start = reading->parameter == QUERY_PARAMETER_START;
    *(is_start ? &reading->params->start_ns : &reading->params->end_ns) = ns;
    /* The next page is asked for later, when the same words mean another time. */
    bool is_relative = value.data[0] == 'n';
    struct slice counted = is_relative ? value : (struct slice){(const uint8_t *)&ns, sizeof ns};
    reading->times_digest = crc32c(reading->times_digest, name, 1);
    reading->times_digest = query_judge_digest(reading->times_digest, counted);
}

/* ---- numbers ---- */

/* A decimal as pydantic takes it from a text: white space around it, a sign. False: none. Values
 * out of range become the nearest; *is_large tells. */
static bool integer_parse(struct slice text, int64_t *value, bool *is_large)
{
    const uint8_t *at = text.data;
    const uint8_t *end = text.data + text.bytes;
    while (at < end && *at == ' ') {
        at++;
    }
    while (at < end && end[-1] == ' ') {
        end--;
    }
    bool is_minus = at < end && *at == '-';
    at += at < end && (*at == '-' || *at == '+');
    if (at == end) {
        return false;
    }
    *value = 0;
    *is_large = false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9') {
            return false;
        }
        if (*is_large || __builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, *at - '0', value)) {
            *is_large = true;
            *value = INT64_MAX;
        }
    }
    *value = is_minus ? -*value : *value;
    return true;
}

bool query_judge_integer(struct query_faults *faults, const char *name, struct slice text,
                         int64_t min, int64_t max, int64_t *value)
{
    bool is_large = false;
    char message[96];
    struct buf out;
    buf_init(&out, message, sizeof message - 1);
    if (!integer_parse(text, value, &is_large)) {
        query_fault_add(faults, "int_parsing", name,
                        "Input should be a valid integer, unable to parse string as an integer",
                        text);
        return false;
    }
    bool is_small = *value < min;
    if (!is_small && *value <= max && !is_large) {
        return true;
    }
    buf_printf(&out, "Input should be %s than or equal to %lld", is_small ? "greater" : "less",
               (long long)(is_small ? min : max));
    message[out.bytes] = 0;
    query_fault_add(faults, is_small ? "greater_than_equal" : "less_than_equal", name, message,
                    text);
    return false;
}

void query_judge_limit(struct query_reading *reading, struct slice value)
{
    int64_t limit = 0;
    if (query_judge_integer(&reading->faults, reading->name, value, 1, QUERY_LIMIT_MAX, &limit)) {
        reading->params->limit = (uint32_t)limit;
        reading->params->has_limit = true;
    }
}

void query_judge_from_lsn(struct query_reading *reading, struct slice value)
{
    int64_t lsn = 0;
    if (query_judge_integer(&reading->faults, reading->name, value, 0, INT64_MAX, &lsn)) {
        reading->params->from_lsn = (uint64_t)lsn;
    }
}

/* ---- choices ---- */

void query_judge_level(struct query_reading *reading, struct slice value)
{
    static const struct {
        struct slice name;
        unsigned severity;
    } levels[] = {
        {{(const uint8_t *)"TRACE", 5}, SEVERITY_TRACE},
        {{(const uint8_t *)"DEBUG", 5}, SEVERITY_DEBUG},
        {{(const uint8_t *)"INFO", 4}, SEVERITY_INFO},
        {{(const uint8_t *)"WARNING", 7}, SEVERITY_WARNING},
        {{(const uint8_t *)"WARN", 4}, SEVERITY_WARNING},
        {{(const uint8_t *)"ERROR", 5}, SEVERITY_ERROR},
        {{(const uint8_t *)"CRITICAL", 8}, SEVERITY_CRITICAL},
        {{(const uint8_t *)"FATAL", 5}, SEVERITY_CRITICAL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(levels); i++) {
        if (slice_equal_nocase(value, levels[i].name)) {
            reading->params->severity_min = levels[i].severity;
            return;
        }
    }
    query_fault_add(&reading->faults, "enum", reading->name,
                    "Input should be 'TRACE', 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'",
                    value);
}

void query_judge_order(struct query_reading *reading, struct slice value)
{
    bool is_ascending = slice_equal(value, SLICE_LITERAL("asc"));
    if (!is_ascending && !slice_equal(value, SLICE_LITERAL("desc"))) {
        query_fault_add(&reading->faults, "enum", reading->name, "Input should be 'asc' or 'desc'",
                        value);
    }
    reading->params->is_ascending = is_ascending;
}

/* The kinds of a comma-separated list; 0: some name is none. */
static uint32_t kinds_of(struct slice list)
{
    static const enum record_kind known[] = {RECORD_LOG, RECORD_METRIC, RECORD_EVENT};
    uint32_t kinds = 0;
    /* Each turn takes a name and its comma. */
    for (;;) {
        const uint8_t *comma = memchr(list.data, ',', list.bytes);
        struct slice name = {list.data, comma == NULL ? list.bytes : (size_t)(comma - list.data)};
        uint32_t kind = 0;
        for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
            const char *text = record_kind_name(known[i]);
            kind |= slice_equal(name, (struct slice){(const uint8_t *)text, strlen(text)})
                        ? 1u << known[i]
                        : 0;
        }
        kinds |= kind;
        if (kind == 0 || comma == NULL) {
            return kind == 0 ? 0 : kinds;
        }
        list = (struct slice){comma + 1, list.bytes - name.bytes - 1};
    }
}

uint32_t query_judge_kinds(struct query_reading *reading, struct slice value)
{
    uint32_t kinds = kinds_of(value);
    if (kinds == 0) {
        query_fault_add(&reading->faults, "enum", reading->name,
                        "Input should be 'log', 'metric' or 'event', or several of them with "
                        "commas between",
                        value);
    }
    return kinds;
}
