#include "api/runs_query.h"

#include <string.h>

#include "api/query_judge.h"
#include "api/query_string.h"
#include "model/run.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX     1000

/* ---- times ---- */

/* Digits at *at, as a number in [min, max]; *at moves behind them. */
static bool take_number(struct slice text, size_t *at, size_t digits, unsigned min, unsigned max)
{
    unsigned number = 0;
    if (text.bytes - *at < digits) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        uint8_t c = text.data[*at + i];
        if (c < '0' || c > '9') {
            return false;
        }
        number = number * 10 + (unsigned)(c - '0');
    }
    *at += digits;
    return number >= min && number <= max;
}

static bool take_byte(struct slice text, size_t *at, const char *any)
{
    bool is_there = *at < text.bytes && text.data[*at] != 0 && strchr(any, text.data[*at]) != NULL;
    *at += is_there;
    return is_there;
}

static unsigned two_digits(const uint8_t *at)
{
    return (unsigned)(at[0] - '0') * 10 + (unsigned)(at[1] - '0');
}

/* Is the day, already known to be in 1..31, one of its month? date: YYYY-MM-DD, digits. */
static bool day_exists(const uint8_t *date)
{
    static const uint8_t days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year = two_digits(date) * 100 + two_digits(date + 2);
    unsigned month = two_digits(date + 5);
    unsigned day = two_digits(date + 8);
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] && (month != 2 || day < 29 || is_leap);
}

static bool take_date(struct slice text, size_t *at)
{
    return take_number(text, at, 4, 1, 9999) && take_byte(text, at, "-") &&
           take_number(text, at, 2, 1, 12) && take_byte(text, at, "-") &&
           take_number(text, at, 2, 1, 31) && day_exists(text.data);
}

static bool take_fraction(struct slice text, size_t *at)
{
    size_t digits = 0;
    while (*at < text.bytes && text.data[*at] >= '0' && text.data[*at] <= '9') {
        (*at)++;
        digits++;
    }
    return digits != 0;
}

/* HH, HH:MM, HH:MM:SS, HH:MM:SS.ffffff */
static bool take_clock(struct slice text, size_t *at)
{
    if (!take_number(text, at, 2, 0, 23)) {
        return false;
    }
    if (!take_byte(text, at, ":")) {
        return true;
    }
    if (!take_number(text, at, 2, 0, 59)) {
        return false;
    }
    if (!take_byte(text, at, ":")) {
        return true;
    }
    return take_number(text, at, 2, 0, 59) &&
           (!take_byte(text, at, ".,") || take_fraction(text, at));
}

static bool take_zone(struct slice text, size_t *at)
{
    if (*at == text.bytes || take_byte(text, at, "Zz")) {
        return true;
    }
    return take_byte(text, at, "+-") && take_number(text, at, 2, 0, 23) &&
           (*at == text.bytes || (take_byte(text, at, ":"), take_number(text, at, 2, 0, 59)));
}

bool runs_query_is_time(struct slice text)
{
    size_t at = 0;
    if (!take_date(text, &at)) {
        return false;
    }
    if (at == text.bytes) {
        return true;
    }
    return take_byte(text, &at, "T t") && take_clock(text, &at) && take_zone(text, &at) &&
           at == text.bytes;
}

/* ---- parameters ---- */

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

struct reading {
    struct slice query;
    struct query_faults faults;
    uint8_t *memory;
    size_t used;
};

/* The last of that name, decoded; empty: none. */
static struct slice take(struct reading *reading, const char *name)
{
    struct slice rest = reading->query;
    struct slice raw = {0};
    struct slice key;
    struct slice value;
    size_t bytes = 0;
    while (query_string_next(&rest, &key, &value)) { /* bound: the target */
        raw = slice_equal(key, slice_of(name)) ? value : raw;
    }
    uint8_t *to = reading->memory + reading->used;
    if (query_string_decode(raw, to, RUNS_QUERY_BYTES - reading->used, &bytes) < 0) {
        query_fault_add_value(&reading->faults, name, raw,
                              "a '%%' must be followed by two hexadecimal digits");
        return (struct slice){0};
    }
    reading->used += bytes;
    return (struct slice){to, bytes};
}

static uint64_t take_integer(struct reading *reading, const char *name, int64_t min, int64_t max,
                             uint64_t fallback)
{
    struct slice value = take(reading, name);
    int64_t number = 0;
    bool is_given =
        value.bytes != 0 && query_judge_integer(&reading->faults, name, value, min, max, &number);
    return is_given ? (uint64_t)number : fallback;
}

static unsigned refuse(struct buf *fault, const char *before, struct slice input, const char *after)
{
    uint8_t memory[RUNS_QUERY_BYTES + 128];
    struct buf text;
    buf_init(&text, memory, sizeof memory);
    buf_put_text(&text, before);
    buf_put_slice(&text, input);
    buf_put_text(&text, after);
    buf_reset(fault);
    buf_put_text(fault, "{\"detail\":");
    buf_put_json_string(fault, (struct slice){text.data, text.bytes});
    buf_put_char(fault, '}');
    return 400;
}

/* 0 or 400; an unknown status finds nothing, which nobody who mistyped one should take for an answer. */
static unsigned judge_status(struct runs_filter *filter, struct buf *fault)
{
    if (filter->status.bytes == 0) {
        return 0;
    }
    filter->status = run_status_normalise(filter->status);
    if (filter->status.bytes != 0) {
        return 0;
    }
    return refuse(fault,
                  "Invalid status. Must be one of: ['running', 'success', 'failure', 'partial', "
                  "'timeout', 'cancelled']",
                  (struct slice){0}, "");
}

static unsigned judge_time(const char *name, struct slice value, struct buf *fault)
{
    char before[64];
    struct buf text;
    if (value.bytes == 0 || runs_query_is_time(value)) {
        return 0;
    }
    buf_init(&text, before, sizeof before - 1);
    buf_printf(&text, "Invalid ISO8601 timestamp for %s: '", name);
    before[text.bytes] = 0;
    return refuse(fault, before, value, "'");
}

unsigned runs_query_parse(struct runs_filter *filter, uint8_t *memory, struct slice query,
                          struct buf *fault)
{
    struct reading reading = {.query = query, .faults = {.body = fault}, .memory = memory};
    *filter = (struct runs_filter){
        .limit = (uint32_t)take_integer(&reading, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
        .offset = take_integer(&reading, "offset", 0, INT64_MAX, 0),
    };
    filter->agent_name = take(&reading, "agent_name");
    filter->status = take(&reading, "status");
    filter->job_type = take(&reading, "job_type");
    const struct {
        const char *name;
        struct slice *to;
    } times[] = {
        {"created_before", &filter->created_before},
        {"created_after", &filter->created_after},
        {"start_time_from", &filter->start_time_from},
        {"start_time_to", &filter->start_time_to},
    };
    for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
        *times[i].to = take(&reading, times[i].name);
    }
    if (query_faults_end(&reading.faults) < 0) {
        return 422;
    }
    unsigned status = judge_status(filter, fault);
    for (size_t i = 0; status == 0 && i < ARRAY_COUNT(times); i++) {
        status = judge_time(times[i].name, *times[i].to, fault);
    }
    return status;
}
