/*
 * retry: arithmetic of patience. Pure. Times saturate instead of wrapping, counts likewise.
 */
#include "forward/retry.h"

#include <string.h>

/* What a bucket may hold unspent: a quarter of a second's worth, so that a pause is not followed by a flood. */
#define BUCKET_BURST_S 0.25

static uint64_t saturating_add(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* 0..most; the bias of the remainder is below 2^-20 for anything up to an hour. */
static uint64_t pick(uint64_t most, uint64_t random)
{
    return most == UINT64_MAX ? random : random % (most + 1);
}

uint64_t backoff_ns(const struct backoff_options *options, unsigned failures,
                    uint64_t retry_after_ns, uint64_t random)
{
    uint64_t most = options->min_ns;
    for (unsigned i = 0; i < failures && most < options->max_ns; i++) { /* at most 64 doublings */
        most = most == 0 ? options->max_ns : saturating_add(most, most);
    }
    most = u64_min(most, options->max_ns);
    if (retry_after_ns == 0) {
        return pick(most, random);
    }
    const uint64_t least = u64_min(retry_after_ns, RETRY_AFTER_MAX);
    return least + pick(u64_min(most, least), random);
}

/* ------------------------------------------------------------------- Retry-After */

struct reader {
    const uint8_t *at, *end;
    bool is_bad;
};

static bool reader_take(struct reader *reader, const char *text)
{
    const size_t bytes = strlen(text);
    if ((size_t)(reader->end - reader->at) < bytes || memcmp(reader->at, text, bytes) != 0) {
        return false;
    }
    reader->at += bytes;
    return true;
}

static void reader_expect(struct reader *reader, const char *text)
{
    reader->is_bad = !reader_take(reader, text) || reader->is_bad;
}

/* Exactly digits of them; a leading space stands for a 0 where may_pad (asctime). */
static int64_t reader_number(struct reader *reader, int digits, bool may_pad)
{
    int64_t value = 0;
    for (int i = 0; i < digits; i++) {
        const uint8_t c = reader->at < reader->end ? *reader->at++ : 0;
        const bool is_padding = may_pad && i == 0 && c == ' ';
        reader->is_bad = reader->is_bad || !(is_padding || (c >= '0' && c <= '9'));
        value = value * 10 + (is_padding || reader->is_bad ? 0 : c - '0');
    }
    return value;
}

static const char *const months[12] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const weekdays[7] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
static const char *const weekday_ends[7] = {"day", "sday",  "nesday", "rsday",
                                            "day", "urday", "day"};

static int64_t reader_month(struct reader *reader)
{
    for (int i = 0; i < 12; i++) {
        if (reader_take(reader, months[i])) {
            return i + 1;
        }
    }
    reader->is_bad = true;
    return 1;
}

struct http_date {
    int64_t year, month, day, hour, minute, second;
};

static void reader_clock(struct reader *reader, struct http_date *date)
{
    date->hour = reader_number(reader, 2, false);
    reader_expect(reader, ":");
    date->minute = reader_number(reader, 2, false);
    reader_expect(reader, ":");
    date->second = reader_number(reader, 2, false);
}

/* Days since 1970 of a Gregorian date (Hinnant, "days_from_civil"); years of four digits. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t era = (y >= 0 ? y : y - 399) / 400;
    const int64_t year_of_era = y - era * 400;
    const int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static int64_t date_seconds(const struct http_date *date)
{
    return ((days_of(date->year, date->month, date->day) * 24 + date->hour) * 60 + date->minute) *
               60 +
           date->second;
}

static bool date_is_possible(const struct http_date *date)
{
    static const int8_t days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return date->day >= 1 && date->day <= days[date->month - 1] && date->hour <= 23 &&
           date->minute <= 59 && date->second <= 60;
}

/* RFC 9110 §5.6.7: a year of two digits is the latest that is not more than 50 years ahead. */
static int64_t full_year(struct http_date date, int64_t wall_s)
{
    const int64_t year_s = INT64_C(31556952);
    date.year += (1970 + wall_s / year_s) / 100 * 100 + 100;
    for (int i = 0; i < 2 && date_seconds(&date) > wall_s + 50 * year_s; i++) {
        date.year -= 100;
    }
    return date.year;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" behind "Sun, ". */
static void read_fixdate(struct reader *reader, struct http_date *date)
{
    date->day = reader_number(reader, 2, false);
    reader_expect(reader, " ");
    date->month = reader_month(reader);
    reader_expect(reader, " ");
    date->year = reader_number(reader, 4, false);
    reader_expect(reader, " ");
    reader_clock(reader, date);
    reader_expect(reader, " GMT");
}

/* "Sunday, 06-Nov-94 08:49:37 GMT" behind "Sunday, ". */
static void read_rfc850(struct reader *reader, struct http_date *date, int64_t wall_s)
{
    date->day = reader_number(reader, 2, false);
    reader_expect(reader, "-");
    date->month = reader_month(reader);
    reader_expect(reader, "-");
    date->year = reader_number(reader, 2, false);
    reader_expect(reader, " ");
    reader_clock(reader, date);
    reader_expect(reader, " GMT");
    date->year = full_year(*date, wall_s);
}

/* "Sun Nov  6 08:49:37 1994" behind "Sun ". */
static void read_asctime(struct reader *reader, struct http_date *date)
{
    date->month = reader_month(reader);
    reader_expect(reader, " ");
    date->day = reader_number(reader, 2, true);
    reader_expect(reader, " ");
    reader_clock(reader, date);
    reader_expect(reader, " ");
    date->year = reader_number(reader, 4, false);
}

static bool read_date(struct slice value, int64_t wall_s, int64_t *seconds)
{
    struct reader reader = {value.data, value.data + value.bytes, false};
    struct http_date date = {.month = 1};
    int weekday = 0;
    while (weekday < 7 && !reader_take(&reader, weekdays[weekday])) {
        weekday++;
    }
    if (weekday == 7) {
        return false;
    }
    if (reader_take(&reader, ", ")) {
        read_fixdate(&reader, &date);
    } else if (reader_take(&reader, " ")) {
        read_asctime(&reader, &date);
    } else {
        reader_expect(&reader, weekday_ends[weekday]);
        reader_expect(&reader, ", ");
        read_rfc850(&reader, &date, wall_s);
    }
    if (reader.is_bad || reader.at != reader.end || !date_is_possible(&date)) {
        return false;
    }
    *seconds = date_seconds(&date);
    return true;
}

static struct slice trimmed(struct slice value)
{
    while (value.bytes > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value = (struct slice){value.data + 1, value.bytes - 1};
    }
    while (value.bytes > 0 &&
           (value.data[value.bytes - 1] == ' ' || value.data[value.bytes - 1] == '\t')) {
        value.bytes--;
    }
    return value;
}

/* False: not only digits. */
static bool read_seconds(struct slice value, uint64_t *seconds)
{
    *seconds = 0;
    for (size_t i = 0; i < value.bytes; i++) {
        if (value.data[i] < '0' || value.data[i] > '9') {
            return false;
        }
        /* More than the maximum is the maximum, however many digits follow. */
        *seconds = u64_min(*seconds * 10 + (uint64_t)(value.data[i] - '0'), RETRY_AFTER_MAX / NS_S);
    }
    return value.bytes > 0;
}

uint64_t retry_after_parse(struct slice value, int64_t wall_ns)
{
    uint64_t seconds = 0;
    int64_t at_s = 0;
    value = trimmed(value);
    if (read_seconds(value, &seconds)) {
        return seconds * NS_S;
    }
    if (!read_date(value, wall_ns / (int64_t)NS_S, &at_s) || at_s > INT64_MAX / (int64_t)NS_S) {
        /* Years of four digits reach beyond what nanoseconds can say: as far away as can be. */
        return at_s > 0 ? RETRY_AFTER_MAX : 0;
    }
    const int64_t at_ns = at_s < 0 ? 0 : at_s * (int64_t)NS_S;
    return at_ns <= wall_ns ? 0 : u64_min((uint64_t)at_ns - (uint64_t)wall_ns, RETRY_AFTER_MAX);
}

/* ------------------------------------------------------------------- breaker */

void breaker_init(struct breaker *breaker, unsigned failures_max,
                  const struct backoff_options *backoff)
{
    ASSERT(failures_max > 0);
    *breaker = (struct breaker){.failures_max = failures_max, .backoff = *backoff};
}

bool breaker_allows(struct breaker *breaker, uint64_t now_ns)
{
    switch (breaker->state) {
    case BREAKER_CLOSED:
        return now_ns >= breaker->retry_at_ns;
    case BREAKER_OPEN:
        if (now_ns < breaker->retry_at_ns) {
            return false;
        }
        breaker->state = BREAKER_HALF_OPEN;
        breaker->is_probing = false;
        return true;
    case BREAKER_HALF_OPEN:
        return !breaker->is_probing;
    }
    ASSERT(false);
    return false;
}

void breaker_on_send(struct breaker *breaker)
{
    if (breaker->state == BREAKER_HALF_OPEN) {
        breaker->is_probing = true;
    }
}

void breaker_on_success(struct breaker *breaker)
{
    if (breaker->state == BREAKER_OPEN) {
        return; /* sent before it opened: what the others said, and until when to wait, stands */
    }
    if (breaker->state == BREAKER_HALF_OPEN) {
        breaker->state = BREAKER_CLOSED;
        breaker->is_probing = false;
        breaker->retry_at_ns = 0;
    }
    breaker->failures = 0;
}

static void breaker_open(struct breaker *breaker)
{
    breaker->state = BREAKER_OPEN;
    breaker->is_probing = false;
    breaker->opened_count++;
}

void breaker_on_failure(struct breaker *breaker, uint64_t now_ns, uint64_t retry_after_ns,
                        uint64_t random)
{
    if (breaker->state == BREAKER_OPEN) {
        /* Sent before it opened: one outage counts once, but what an upstream asks for holds. */
        const uint64_t told_ns = u64_min(retry_after_ns, RETRY_AFTER_MAX);
        breaker->retry_at_ns = u64_max(breaker->retry_at_ns, saturating_add(now_ns, told_ns));
        return;
    }
    breaker->failures += breaker->failures < UINT32_MAX;
    const uint64_t wait_ns =
        backoff_ns(&breaker->backoff, breaker->failures, retry_after_ns, random);
    breaker->retry_at_ns = u64_max(breaker->retry_at_ns, saturating_add(now_ns, wait_ns));
    if (breaker->state == BREAKER_HALF_OPEN || breaker->failures >= breaker->failures_max) {
        breaker_open(breaker);
    }
}

uint64_t breaker_due_ns(const struct breaker *breaker)
{
    if (breaker->state == BREAKER_HALF_OPEN) {
        return breaker->is_probing ? UINT64_MAX : 0;
    }
    return breaker->retry_at_ns;
}

/* ------------------------------------------------------------------- window */

void window_init(struct window *window, unsigned max)
{
    ASSERT(max > 0);
    *window = (struct window){.size = 1.0, .max = max};
}

unsigned window_size(const struct window *window)
{
    return (unsigned)window->size;
}

void window_on_success(struct window *window)
{
    const double size = window->size + 1.0 / window->size;
    window->size = size > (double)window->max ? (double)window->max : size;
}

void window_on_overload(struct window *window, uint64_t began_ns, uint64_t now_ns)
{
    if (window->halved_at_ns != 0 && began_ns < window->halved_at_ns) {
        return; /* it was under way when the window was halved: the same overload */
    }
    window->size = window->size < 2.0 ? 1.0 : window->size / 2.0;
    window->halved_at_ns = now_ns;
}

/* ------------------------------------------------------------------- bucket */

void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t now_ns)
{
    *bucket = (struct bucket){
        .rate = rate, .level = (double)rate * BUCKET_BURST_S, .filled_at_ns = now_ns};
}

static double bucket_level(const struct bucket *bucket, uint64_t now_ns)
{
    const uint64_t passed_ns = now_ns > bucket->filled_at_ns ? now_ns - bucket->filled_at_ns : 0;
    const double level = bucket->level + (double)bucket->rate * ((double)passed_ns / (double)NS_S);
    const double most = (double)bucket->rate * BUCKET_BURST_S;
    return level > most ? most : level;
}

void bucket_take(struct bucket *bucket, uint64_t bytes, uint64_t now_ns)
{
    if (bucket->rate == 0) {
        return;
    }
    bucket->level = bucket_level(bucket, now_ns) - (double)bytes;
    bucket->filled_at_ns = u64_max(bucket->filled_at_ns, now_ns);
}

uint64_t bucket_due_ns(const struct bucket *bucket, uint64_t now_ns)
{
    const double level = bucket->rate == 0 ? 0.0 : bucket_level(bucket, now_ns);
    if (level >= 0.0) {
        return 0;
    }
    const double wait_ns = -level / (double)bucket->rate * (double)NS_S;
    /* One more, so that rounding does not make it due a moment too early. */
    return wait_ns >= 9e18 ? UINT64_MAX : saturating_add(now_ns, (uint64_t)wait_ns + 1);
}
