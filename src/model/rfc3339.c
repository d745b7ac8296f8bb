#include "model/rfc3339.h"

#include <string.h>

#define DATE_TIME_BYTES   19u
#define FRACTION_DIGITS   9u
#define SECONDS_PER_DAY   86400
#define SECONDS_PER_MIN   60
#define MINUTES_PER_HOUR  60
#define LEAP_SECOND_NANOS 999999999

struct date_time {
    uint32_t year;
    uint32_t month;
    uint32_t day;
    uint32_t hour;
    uint32_t minute;
    uint32_t second;
};

/* Two digits; *bad collects whether any byte was none, so that there is one branch for all
 * fourteen. */
static inline uint32_t two_digits(const uint8_t *p, uint32_t *bad)
{
    uint32_t high = (uint32_t)p[0] - '0';
    uint32_t low = (uint32_t)p[1] - '0';
    *bad |= (uint32_t)(high > 9) | (uint32_t)(low > 9);
    return high * 10 + low;
}

static inline bool is_leap_year(uint32_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static inline uint32_t month_days(uint32_t year, uint32_t month)
{
    if (month == 2) {
        return is_leap_year(year) ? 29 : 28;
    }
    /* 31 and 30 alternate, and the phase flips between July and August. */
    return 30 + ((month + (month >> 3)) & 1);
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar, year 0..9999. The year begins in
 * March, so that the leap day is its last (Hinnant, "chrono-compatible low-level date algorithms",
 * days_from_civil). */
static inline int64_t days_from_civil(uint32_t year, uint32_t month, uint32_t day)
{
    uint32_t before_march = month <= 2;
    uint32_t y =
        year + 400 - before_march; /* one era up, so that year 0 needs no negative numbers */
    uint32_t month_from_march = month + 12 * before_march - 3;
    uint32_t year_days = (153 * month_from_march + 2) / 5 + day - 1;
    uint32_t days = y * 365 + y / 4 - y / 100 + y / 400 + year_days;
    return (int64_t)days - 719468 - 146097;
}

/* In byte i the number that the digits i and i + 1 write; of use where both were selected. No byte
 * overflows: 99. */
static inline uint64_t pairs8(uint64_t word, uint64_t mask)
{
    uint64_t digits = word & 0x0f0f0f0f0f0f0f0fu & mask;
    return digits * 10 + (digits >> 8);
}

static inline uint32_t byte_of(uint64_t word, unsigned i)
{
    return (uint32_t)(word >> (8 * i)) & 0xff;
}

#define DATE_DIGITS 0x00ffff00ffffffffu /* YYYY-MM- */
#define DAY_DIGITS  0x000000000000ffffu /* DDTHH:MM */
#define TIME_DIGITS 0xffff00ffff00ffffu /* HH:MM:SS */

static const char *date_time_separators(const uint8_t *p)
{
    if (p[4] != '-' || p[7] != '-') {
        return "invalid date separator, expected `-`";
    }
    if (p[10] != 'T' && p[10] != 't' && p[10] != ' ') {
        return "invalid datetime separator, expected `T`, `t` or space";
    }
    return p[13] != ':' || p[16] != ':' ? "invalid time separator, expected `:`" : NULL;
}

static const char *date_time_parse(const uint8_t *p, struct date_time *t)
{
    uint64_t date = rfc3339_bytes8(p);
    uint64_t day = rfc3339_bytes8(p + 8);
    uint64_t time = rfc3339_bytes8(p + 11);
    if (UNLIKELY((rfc3339_not_digits8(date, DATE_DIGITS) | rfc3339_not_digits8(day, DAY_DIGITS) |
                  rfc3339_not_digits8(time, TIME_DIGITS)) != 0)) {
        return "expected a digit";
    }
    const char *why = date_time_separators(p);
    if (UNLIKELY(why != NULL)) {
        return why;
    }
    uint64_t date_pairs = pairs8(date, DATE_DIGITS);
    uint64_t time_pairs = pairs8(time, TIME_DIGITS);
    t->year = byte_of(date_pairs, 0) * 100 + byte_of(date_pairs, 2);
    t->month = byte_of(date_pairs, 5);
    t->day = byte_of(pairs8(day, DAY_DIGITS), 0);
    t->hour = byte_of(time_pairs, 0);
    t->minute = byte_of(time_pairs, 3);
    t->second = byte_of(time_pairs, 6);
    if (UNLIKELY(t->month - 1 > 11)) {
        return "month value is outside expected range of 1-12";
    }
    if (UNLIKELY(t->day - 1 >= month_days(t->year, t->month))) {
        return "day value is outside expected range";
    }
    if (UNLIKELY(t->hour > 23)) {
        return "hour value is outside expected range of 0-23";
    }
    if (UNLIKELY(t->minute > 59)) {
        return "minute value is outside expected range of 0-59";
    }
    return t->second <= 60 ? NULL : "second value is outside expected range of 0-59";
}

/* At p[0] = '.'. Sets *nanos; returns the bytes taken, 0 when there is no digit. */
static inline size_t fraction_parse(const uint8_t *p, size_t left, uint32_t *nanos)
{
    static const uint32_t scale[FRACTION_DIGITS + 1] = {
        1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    uint32_t bad = 0;
    /* Microseconds, what Python and most libraries write: without the chain of nine dependent
     * multiplications. */
    if (left >= 8 && (uint32_t)p[7] - '0' > 9) {
        uint32_t micros = two_digits(p + 1, &bad) * 10000;
        micros += two_digits(p + 3, &bad) * 100;
        micros += two_digits(p + 5, &bad);
        if (LIKELY(!bad)) {
            *nanos = micros * 1000;
            return 7;
        }
    }
    uint32_t value = 0;
    size_t digits = 0;
    size_t i = 1;
    for (; i < left && (uint32_t)p[i] - '0' <= 9; i++) {
        if (digits < FRACTION_DIGITS) {
            value = value * 10 + ((uint32_t)p[i] - '0');
            digits++;
        }
    }
    *nanos = value * scale[digits];
    return digits == 0 ? 0 : i;
}

/* The zone is all of p[0, left). */
static inline const char *zone_parse(const uint8_t *p, size_t left, enum rfc3339_zone zone,
                                     int32_t *offset_minutes)
{
    *offset_minutes = 0;
    if (LIKELY(left == 1 && (p[0] | 0x20) == 'z')) {
        return NULL;
    }
    if (left == 0) {
        return zone == RFC3339_ZONE_OPTIONAL ? NULL : "timezone is missing";
    }
    if (p[0] != '+' && p[0] != '-') {
        return (p[0] | 0x20) == 'z' ? "unexpected extra characters at the end of the input"
                                    : "invalid character in second or fraction";
    }
    if (left != 6 || p[3] != ':') {
        return left > 6 ? "unexpected extra characters at the end of the input"
                        : "invalid timezone, expected +hh:mm or -hh:mm";
    }
    uint32_t bad = 0;
    uint32_t hours = two_digits(p + 1, &bad);
    uint32_t minutes = two_digits(p + 4, &bad);
    if (bad || hours > 23 || minutes > 59) {
        return "timezone offset is outside expected range of -23:59 to +23:59";
    }
    int32_t total = (int32_t)(hours * MINUTES_PER_HOUR + minutes);
    *offset_minutes = p[0] == '-' ? -total : total;
    return NULL;
}

/* False when it does not fit. Below zero the seconds are brought one nearer to it first, because
 * the smallest int64 is not a whole second and its seconds alone would not fit. */
static inline bool nanoseconds_join(int64_t seconds, int64_t nanos, int64_t *ns)
{
    if (seconds < 0) {
        seconds += 1;
        nanos -= (int64_t)NS_S;
    }
    int64_t whole;
    return !__builtin_mul_overflow(seconds, (int64_t)NS_S, &whole) &&
           !__builtin_add_overflow(whole, nanos, ns);
}

const char *rfc3339_parse(struct slice text, enum rfc3339_zone zone, int64_t *ns)
{
    const uint8_t *p = text.data;
    if (UNLIKELY(text.bytes < DATE_TIME_BYTES)) {
        return "input is too short";
    }
    struct date_time t;
    const char *why = date_time_parse(p, &t);
    if (UNLIKELY(why != NULL)) {
        return why;
    }
    size_t at = DATE_TIME_BYTES;
    uint32_t nanos = 0;
    if (at < text.bytes && p[at] == '.') {
        size_t taken = fraction_parse(p + at, text.bytes - at, &nanos);
        if (UNLIKELY(taken == 0)) {
            return "second fraction has no digits";
        }
        if (UNLIKELY(taken > 1 + FRACTION_DIGITS)) {
            return "second fraction has more than 9 digits";
        }
        at += taken;
    }
    int32_t offset_minutes;
    why = zone_parse(p + at, text.bytes - at, zone, &offset_minutes);
    if (UNLIKELY(why != NULL)) {
        return why;
    }
    int64_t minutes = (int64_t)t.hour * MINUTES_PER_HOUR + t.minute - offset_minutes;
    if (UNLIKELY(t.second == 60)) {
        int64_t utc_minute = (minutes + 2 * 24 * MINUTES_PER_HOUR) % (24 * MINUTES_PER_HOUR);
        if (utc_minute != 24 * MINUTES_PER_HOUR - 1) {
            return "second value is outside expected range of 0-59";
        }
        t.second = 59;
        nanos = LEAP_SECOND_NANOS;
    }
    int64_t seconds = days_from_civil(t.year, t.month, t.day) * SECONDS_PER_DAY +
                      minutes * SECONDS_PER_MIN + t.second;
    int64_t result;
    if (UNLIKELY(!nanoseconds_join(seconds, nanos, &result))) {
        return "datetime is outside the range of 1677-09-21 to 2262-04-11";
    }
    *ns = result;
    return NULL;
}

const char *rfc3339_parse_remember(struct rfc3339_memo *memo, struct slice text,
                                   enum rfc3339_zone zone, int64_t *ns)
{
    const char *why = rfc3339_parse(text, zone, ns);
    if (why != NULL) {
        return why;
    }
    const uint8_t *p = text.data;
    bool is_usual = text.bytes == RFC3339_USUAL_BYTES && p[19] == '.' && p[26] == 'Z';
    /* A leap second is not where its minute says. */
    bool has_leap = p[17] == '6';
    bool is_within =
        *ns > INT64_MIN + (int64_t)(60 * NS_S) && *ns < INT64_MAX - (int64_t)(60 * NS_S);
    if (is_usual && !has_leap && is_within) {
        uint32_t second = (uint32_t)(p[17] & 15) * 10 + (p[18] & 15);
        memcpy(memo->minute, p, sizeof memo->minute);
        memo->seconds = 60;
        memo->ns = *ns - (int64_t)(second * NS_S + rfc3339_micros_as_ns(rfc3339_bytes8(p + 19)));
    }
    return NULL;
}
