/*
 * clock: reads the two clocks and writes times as text. The readers are system calls in the vDSO
 * and cannot fail with valid arguments; the writers are pure.
 */
#include "core/clock.h"

#include <string.h>
#include <time.h>

static const int64_t day_s = 86400;

uint64_t clock_mono_ns(void)
{
    struct timespec now;
    int r = clock_gettime(CLOCK_MONOTONIC, &now);
    ASSERT(r == 0);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

int64_t clock_real_ns(void)
{
    struct timespec now;
    int r = clock_gettime(CLOCK_REALTIME, &now);
    ASSERT(r == 0);
    return now.tv_sec * (int64_t)NS_S + now.tv_nsec;
}

struct civil {
    unsigned year, month, day, hour, minute, second, weekday; /* weekday: 0 is Sunday */
    unsigned ns;
};

/* Days to a Gregorian date in eras of 400 years that begin on 1 March, so that the leap day comes
 * last (Hinnant, "chrono-Compatible Low-Level Date Algorithms"). days counts from 1970-01-01. */
static void civil_set_date(struct civil *civil, int64_t days)
{
    int64_t shifted = days + 719468; /* from 0000-03-01 */
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    int64_t year = year_of_era + era * 400 + (month <= 2);
    /* Nanoseconds in 64 bits reach from 1677 to 2262, so four digits are enough without a clamp. */
    ASSERT(year >= 0 && year <= 9999);
    civil->year = (unsigned)year;
    civil->month = (unsigned)month;
    civil->day = (unsigned)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    int64_t weekday = (days + 4) % 7; /* 1970-01-01 was a Thursday. */
    civil->weekday = (unsigned)(weekday < 0 ? weekday + 7 : weekday);
}

static struct civil civil_from_ns(int64_t real_ns)
{
    int64_t seconds = real_ns / (int64_t)NS_S;
    int64_t ns = real_ns % (int64_t)NS_S;
    if (ns < 0) { /* Before 1970: floor, so that the fraction stays positive. */
        ns += (int64_t)NS_S;
        seconds--;
    }
    int64_t days = seconds / day_s;
    int64_t second_of_day = seconds % day_s;
    if (second_of_day < 0) {
        second_of_day += day_s;
        days--;
    }
    struct civil civil = {
        .hour = (unsigned)(second_of_day / 3600),
        .minute = (unsigned)(second_of_day / 60 % 60),
        .second = (unsigned)(second_of_day % 60),
        .ns = (unsigned)ns,
    };
    civil_set_date(&civil, days);
    return civil;
}

static char *put_digits(char *at, unsigned value, size_t count)
{
    for (size_t i = count; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + count;
}

static char *put_field(char *at, unsigned value, size_t count, char separator)
{
    at = put_digits(at, value, count);
    *at = separator;
    return at + 1;
}

size_t clock_rfc3339(char *out, int64_t real_ns, int fraction_digits)
{
    ASSERT(out != NULL);
    ASSERT(fraction_digits >= 0 && fraction_digits <= 9);
    struct civil civil = civil_from_ns(real_ns);
    char *at = out;
    at = put_field(at, civil.year, 4, '-');
    at = put_field(at, civil.month, 2, '-');
    at = put_field(at, civil.day, 2, 'T');
    at = put_field(at, civil.hour, 2, ':');
    at = put_field(at, civil.minute, 2, ':');
    at = put_digits(at, civil.second, 2);
    if (fraction_digits > 0) {
        unsigned fraction = civil.ns;
        for (int i = fraction_digits; i < 9; i++) {
            fraction /= 10;
        }
        *at++ = '.';
        at = put_digits(at, fraction, (size_t)fraction_digits);
    }
    *at++ = 'Z';
    *at = '\0';
    return (size_t)(at - out);
}

void clock_http_date(char *out, int64_t real_ns)
{
    static const char weekdays[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    ASSERT(out != NULL);
    struct civil civil = civil_from_ns(real_ns);
    char *at = out;
    memcpy(at, weekdays + 3 * (size_t)civil.weekday, 3);
    memcpy(at + 3, ", ", 2);
    at = put_field(at + 5, civil.day, 2, ' ');
    memcpy(at, months + 3 * (size_t)(civil.month - 1), 3);
    at[3] = ' ';
    at = put_field(at + 4, civil.year, 4, ' ');
    at = put_field(at, civil.hour, 2, ':');
    at = put_field(at, civil.minute, 2, ':');
    at = put_digits(at, civil.second, 2);
    memcpy(at, " GMT", 4);
    ASSERT(at + 4 == out + CLOCK_HTTP_DATE_BYTES);
}
