#include "api/query_params.h"

#include <errno.h>
#include <string.h>

#include "api/query_judge.h"
#include "api/query_string.h"
#include "core/crc32c.h"

#define LIMIT_DEFAULT  100u
#define NAME_BYTES_MAX 16u
#define KINDS_TAIL     (1u << RECORD_LOG | 1u << RECORD_METRIC | 1u << RECORD_EVENT)

#define AT_LOGS    (1u << ROUTE_LOGS)
#define AT_METRICS (1u << ROUTE_METRICS)
#define AT_EVENTS  (1u << ROUTE_EVENTS)
#define AT_TAIL    (1u << ROUTE_TAIL)
#define AT_PAGES   (AT_LOGS | AT_METRICS | AT_EVENTS)
#define AT_ALL     (AT_PAGES | AT_TAIL)

#define ROUTES_PAGES "GET /v1/logs, /v1/metrics and /v1/events"

static bool value_decode(struct query_reading *reading, struct slice *value);
static enum query_parameter parameter_find(struct slice raw_name);

/* Each `kind` adds its own; the first bad one is the fault. */
static void kind_judge(struct query_reading *reading, struct slice value)
{
    struct slice rest = reading->query;
    struct slice name;
    uint32_t kinds = 0;
    while (query_string_next(&rest, &name, &value)) {
        if (parameter_find(name) != QUERY_PARAMETER_KIND) {
            continue;
        }
        reading->raw[QUERY_PARAMETER_KIND] = value;
        if (!value_decode(reading, &value)) {
            return;
        }
        uint32_t more = query_judge_kinds(reading, value);
        if (more == 0) {
            return;
        }
        kinds |= more;
    }
    reading->params->kinds = kinds;
}

/* ---- the cursor ---- */

static uint32_t digest_of(const struct query_reading *reading)
{
    const struct query_params *params = reading->params;
    const struct lookup_query *lookup = &params->lookup;
    const struct slice texts[] = {lookup->service, lookup->source, lookup->name,
                                  lookup->correlation_id, lookup->message};
    uint8_t small[] = {(uint8_t)params->severity_min, params->is_ascending};
    uint32_t digest = crc32c(reading->times_digest, small, sizeof small);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        digest = query_judge_digest(digest, texts[i]);
    }
    return digest;
}

static void cursor_judge(struct query_reading *reading, struct slice value)
{
    reading->params->digest = digest_of(reading);
    int r = query_cursor_parse(reading->params, value);
    if (r == -EINVAL) {
        query_fault_add_value(&reading->faults, reading->name, value,
                              "it is no cursor; give next_cursor of an answer as it came");
    } else if (r < 0 && reading->faults.count == 0) {
        /* With other faults it cannot be told. */
        query_fault_add_value(&reading->faults, reading->name, value,
                              "the cursor is of another query; repeat all parameters that it was "
                              "answered to, or leave it out");
    }
}

/* ---- the reading ---- */

static const struct definition {
    const char *name;
    unsigned routes;
    bool may_be_empty;
    const char *where; /* it belongs, for those who send it elsewhere; NULL: everywhere */
    void (*judge)(struct query_reading *reading, struct slice value);
} definitions[QUERY_PARAMETER_COUNT] = {
    [QUERY_PARAMETER_START] = {"start", AT_PAGES, false, ROUTES_PAGES, query_judge_time},
    [QUERY_PARAMETER_END] = {"end", AT_PAGES, false, ROUTES_PAGES, query_judge_time},
    [QUERY_PARAMETER_SERVICE] = {"service", AT_ALL, true, NULL, query_judge_text},
    [QUERY_PARAMETER_LEVEL] = {"level", AT_ALL, false, NULL, query_judge_level},
    [QUERY_PARAMETER_CORRELATION_ID] = {"correlation_id", AT_ALL, true, NULL, query_judge_text},
    [QUERY_PARAMETER_Q] = {"q", AT_ALL, true, NULL, query_judge_text},
    [QUERY_PARAMETER_NAME] = {"name", AT_METRICS | AT_TAIL, true, "GET /v1/metrics and /v1/tail",
                              query_judge_text},
    [QUERY_PARAMETER_SOURCE] = {"source", AT_EVENTS | AT_TAIL, true, "GET /v1/events and /v1/tail",
                                query_judge_text},
    [QUERY_PARAMETER_KIND] = {"kind", AT_TAIL, false, "GET /v1/tail", kind_judge},
    [QUERY_PARAMETER_FROM_LSN] = {"from_lsn", AT_TAIL, false, "GET /v1/tail", query_judge_from_lsn},
    [QUERY_PARAMETER_LIMIT] = {"limit", AT_PAGES, false, ROUTES_PAGES, query_judge_limit},
    [QUERY_PARAMETER_ORDER] = {"order", AT_PAGES, false, ROUTES_PAGES, query_judge_order},
    [QUERY_PARAMETER_CURSOR] = {"cursor", AT_PAGES, true, ROUTES_PAGES, cursor_judge},
};

/* QUERY_PARAMETER_COUNT: none that a read knows. */
static enum query_parameter parameter_find(struct slice raw_name)
{
    uint8_t plain[NAME_BYTES_MAX];
    size_t bytes = 0;
    unsigned i = 0;
    if (query_string_decode(raw_name, plain, sizeof plain, &bytes) < 0) {
        return QUERY_PARAMETER_COUNT;
    }
    while (i < QUERY_PARAMETER_COUNT &&
           !slice_equal(
               (struct slice){plain, bytes},
               (struct slice){(const uint8_t *)definitions[i].name, strlen(definitions[i].name)})) {
        i++;
    }
    return (enum query_parameter)i;
}

/* The last of each name. */
static void parameters_collect(struct query_reading *reading)
{
    struct slice rest = reading->query;
    struct slice name;
    struct slice value;
    while (query_string_next(&rest, &name, &value)) {
        enum query_parameter parameter = parameter_find(name);
        if (parameter < QUERY_PARAMETER_COUNT) {
            reading->raw[parameter] = value;
            reading->is_given[parameter] = true;
        }
    }
}

/* The value of the parameter that is judged, decoded. False: the fault is listed. */
static bool value_decode(struct query_reading *reading, struct slice *value)
{
    struct slice raw = reading->raw[reading->parameter];
    size_t bytes = 0;
    int r = query_string_decode(raw, reading->value, sizeof reading->value, &bytes);
    *value = (struct slice){reading->value, bytes};
    if (r == -E2BIG) {
        query_fault_add(&reading->faults, "string_too_long", reading->name,
                        "String should have at most 1024 characters", *value);
    } else if (r < 0) {
        query_fault_add_value(&reading->faults, reading->name, raw,
                              "a '%%' must be followed by two hexadecimal digits");
    }
    return r == 0;
}

static void parameter_judge(struct query_reading *reading, enum route_id route)
{
    const struct definition *definition = &definitions[reading->parameter];
    struct slice value;
    if (!value_decode(reading, &value) || (value.bytes == 0 && definition->may_be_empty)) {
        return;
    }
    if ((definition->routes & 1u << route) == 0) {
        query_fault_add_value(&reading->faults, definition->name, value, "%s is a parameter of %s",
                              definition->name, definition->where);
        return;
    }
    definition->judge(reading, value);
}

/* Both good by themselves. */
static void range_judge(struct query_reading *reading)
{
    struct slice value;
    if (reading->params->start_ns <= reading->params->end_ns) {
        return;
    }
    reading->parameter = QUERY_PARAMETER_START;
    reading->name = definitions[QUERY_PARAMETER_START].name;
    if (value_decode(reading, &value)) {
        query_fault_add_value(&reading->faults, "start", value, "start must not be after end");
    }
}

static uint32_t kinds_at(enum route_id route)
{
    switch ((int)route) {
    case ROUTE_LOGS:
        return 1u << RECORD_LOG;
    case ROUTE_METRICS:
        return 1u << RECORD_METRIC;
    case ROUTE_EVENTS:
        return 1u << RECORD_EVENT;
    default:
        ASSERT(route == ROUTE_TAIL);
        return KINDS_TAIL;
    }
}

static void params_init(struct query_params *params, enum route_id route)
{
    memset(params, 0, sizeof *params);
    params->kinds = kinds_at(route);
    params->start_ns = INT64_MIN;
    params->end_ns = INT64_MAX;
    params->limit = LIMIT_DEFAULT;
}

int query_params_parse(struct query_params *params, enum route_id route, struct slice query,
                       int64_t now_ns, struct buf *fault_body)
{
    struct query_reading reading = {
        .params = params, .query = query, .now_ns = now_ns, .faults = {.body = fault_body}};
    params_init(params, route);
    parameters_collect(&reading);
    for (unsigned i = 0; i < QUERY_PARAMETER_COUNT; i++) {
        if (reading.is_given[i]) {
            reading.parameter = (enum query_parameter)i;
            reading.name = definitions[i].name;
            parameter_judge(&reading, route);
        }
    }
    range_judge(&reading);
    params->digest = digest_of(&reading);
    return query_faults_end(&reading.faults);
}
