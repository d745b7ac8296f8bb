#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/mem.h"
#include "model/rfc3339.h"

#define REFUSED INT64_MIN /* itself out of reach: its seconds are below the range */

static int64_t parse(const char *text, enum rfc3339_zone zone)
{
    /* In a block of its own size, so that the sanitizer sees a read beyond the end. */
    size_t bytes = strlen(text);
    uint8_t *copy = mem_alloc(bytes);
    memcpy(copy, text, bytes);
    int64_t ns = REFUSED;
    const char *why = rfc3339_parse((struct slice){copy, bytes}, zone, &ns);
    assert_int_equal(why == NULL, ns != REFUSED);
    mem_free(copy);
    return ns;
}

static void expect_time(const char *text, int64_t ns)
{
    if (parse(text, RFC3339_ZONE_REQUIRED) != ns) {
        fail_msg("%s", text);
    }
}

static void expect_refused(const char *text)
{
    if (parse(text, RFC3339_ZONE_REQUIRED) != REFUSED) {
        fail_msg("accepted: %s", text);
    }
}

static void forms_of_the_standard_are_read(void **state)
{
    (void)state;
    const int64_t base = 1756116000 * (int64_t)NS_S;
    expect_time("2025-08-25T10:00:00Z", base);
    expect_time("2025-08-25t10:00:00z", base);
    expect_time("2025-08-25 10:00:00Z", base);
    expect_time("2025-08-25T12:30:00+02:30", base);
    expect_time("2025-08-25T04:01:00-05:59", base);
    expect_time("2025-08-25T10:00:00-00:00", base);
    expect_time("2025-08-26T09:59:00+23:59", base);
    expect_time("1970-01-01T00:00:00Z", 0);
    expect_time("1969-12-31T23:59:59.999999999Z", -1);
}

static void any_fraction_is_read_to_the_nanosecond(void **state)
{
    (void)state;
    expect_time("1970-01-01T00:00:00.1Z", 100000000);
    expect_time("1970-01-01T00:00:00.12Z", 120000000);
    expect_time("1970-01-01T00:00:00.123Z", 123000000);
    expect_time("1970-01-01T00:00:00.123456Z", 123456000);
    expect_time("1970-01-01T00:00:00.123456+00:00", 123456000);
    expect_time("1970-01-01T00:00:00.1234567Z", 123456700);
    expect_time("1970-01-01T00:00:00.123456789Z", 123456789);
    expect_time("1970-01-01T00:00:00.000000001Z", 1);
}

static void what_is_no_date_time_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "2025",
        "2025-08-25",
        "2025-08-25T10:00Z",
        "2025-08-25T10:00:00",
        "2025-08-25T10:00:00ZZ",
        "2025-08-25T10:00:00Z ",
        " 2025-08-25T10:00:00Z",
        "2025-08-25T10:00:00.Z",
        "2025-08-25T10:00:00.1234567890Z",
        "2025-08-25T10:00:00,5Z",
        "2025-08-25T10:00:00.12a456Z",
        "2025-08-25T10:00:00.12 456Z",
        "2025-08-25_10:00:00Z",
        "2025/08/25T10:00:00Z",
        "2025-08-25T10-00-00Z",
        "2025-08-25T10:00:0:Z",
        "202:-08-25T10:00:00Z",
        "2025-0/-25T10:00:00Z",
        "2025-08-25T10:00:00+0200",
        "2025-08-25T10:00:00+02",
        "2025-08-25T10:00:00+02:0",
        "2025-08-25T10:00:00+02:000",
        "2025-08-25T10:00:00+24:00",
        "2025-08-25T10:00:00+02:60",
        "2025-08-25T10:00:00+0a:00",
        "2025-08-25T24:00:00Z",
        "2025-08-25T10:60:00Z",
        "2025-08-25T10:00:61Z",
        "2025-00-25T10:00:00Z",
        "2025-13-25T10:00:00Z",
        "2025-08-00T10:00:00Z",
        "2025-08-32T10:00:00Z",
        "2025-02-29T10:00:00Z",
        "2024-02-30T10:00:00Z",
        "1900-02-29T10:00:00Z",
        "2025-04-31T10:00:00Z",
        "2025-06-31T10:00:00Z",
        "2025-09-31T10:00:00Z",
        "2025-11-31T10:00:00Z",
        "-025-08-25T10:00:00Z",
        "\xb2\xb0\xb2\xb5-08-25T10:00:00Z",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_refused(texts[i]);
    }
}

static void any_byte_in_any_place_that_is_not_of_the_form_is_refused(void **state)
{
    (void)state;
    const char *good = "2025-08-25T10:00:00Z";
    for (size_t at = 0; at < 20; at++) {
        for (unsigned c = 1; c < 256; c++) {
            char text[32];
            memcpy(text, good, 21);
            text[at] = (char)c;
            bool is_digit = c >= '0' && c <= '9';
            bool was_digit = good[at] >= '0' && good[at] <= '9';
            bool is_good = c == (unsigned char)good[at] || (at == 10 && (c == 't' || c == ' ')) ||
                           (at == 19 && c == 'z');
            if (is_good) {
                assert_true(parse(text, RFC3339_ZONE_REQUIRED) != REFUSED);
            } else if (!(is_digit && was_digit)) {
                expect_refused(text);
            }
        }
    }
}

static void a_missing_zone_is_utc_where_it_may_be_missing(void **state)
{
    (void)state;
    assert_int_equal(parse("1970-01-01T00:00:01", RFC3339_ZONE_OPTIONAL), NS_S);
    assert_int_equal(parse("1970-01-01T00:00:01.000001", RFC3339_ZONE_OPTIONAL), NS_S + 1000);
    assert_int_equal(parse("1970-01-01T01:00:01+01:00", RFC3339_ZONE_OPTIONAL), NS_S);
    assert_int_equal(parse("1970-01-01T00:00:01x", RFC3339_ZONE_OPTIONAL), REFUSED);
    expect_refused("1970-01-01T00:00:01");
}

static void a_leap_second_stays_in_its_day(void **state)
{
    (void)state;
    expect_time("2016-12-31T23:59:60Z", 1483228800 * (int64_t)NS_S - 1);
    expect_time("2016-12-31T23:59:60.5Z", 1483228800 * (int64_t)NS_S - 1);
    expect_time("2017-01-01T00:59:60+01:00", 1483228800 * (int64_t)NS_S - 1);
    expect_refused("2016-12-31T23:58:60Z");
    expect_refused("2016-12-31T23:59:60+01:00");
}

static void the_range_is_that_of_the_integer(void **state)
{
    (void)state;
    expect_time("2262-04-11T23:47:16.854775807Z", INT64_MAX);
    expect_refused("2262-04-11T23:47:16.854775808Z");
    expect_time("1677-09-21T00:12:43.145224193Z", INT64_MIN + 1);
    expect_refused("1677-09-21T00:12:43.145224191Z");
    expect_refused("0000-01-01T00:00:00Z");
    expect_refused("9999-12-31T23:59:59Z");
}

static void every_day_of_the_range_agrees_with_the_calendar(void **state)
{
    (void)state;
    for (int64_t day = -106000; day < 106000; day++) {
        time_t seconds = (time_t)(day * 86400);
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        char text[32];
        assert_int_equal(strftime(text, sizeof text, "%Y-%m-%dT00:00:00Z", &tm), 20);
        int64_t ns = REFUSED;
        assert_null(
            rfc3339_parse((struct slice){(const uint8_t *)text, 20}, RFC3339_ZONE_REQUIRED, &ns));
        assert_int_equal(ns, day * 86400 * (int64_t)NS_S);
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    const char *good = "2025-08-25T10:00:00.123456+02:00";
    for (size_t bytes = 0; bytes < strlen(good); bytes++) {
        char text[40] = {0};
        memcpy(text, good, bytes);
        expect_refused(text);
    }
}

/* ---- the memo ---- */

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* As the checks use the memo. The text is in a block of its own size. */
static int64_t parse_with(struct rfc3339_memo *memo, const char *text, enum rfc3339_zone zone)
{
    size_t bytes = strlen(text);
    uint8_t *copy = mem_alloc(bytes);
    memcpy(copy, text, bytes);
    struct slice slice = {copy, bytes};
    int64_t ns = REFUSED;
    if (!rfc3339_recall(memo, slice, &ns)) {
        const char *why = rfc3339_parse_remember(memo, slice, zone, &ns);
        assert_int_equal(why == NULL, ns != REFUSED);
    }
    mem_free(copy);
    return ns;
}

static void expect_same_with(struct rfc3339_memo *memo, const char *text)
{
    for (int zone = RFC3339_ZONE_REQUIRED; zone <= RFC3339_ZONE_OPTIONAL; zone++) {
        if (parse_with(memo, text, (enum rfc3339_zone)zone) !=
            parse(text, (enum rfc3339_zone)zone)) {
            fail_msg("the memo makes something else of %s", text);
        }
    }
}

static void an_empty_memo_recalls_nothing(void **state)
{
    (void)state;
    struct rfc3339_memo memo = {0};
    uint8_t text[RFC3339_USUAL_BYTES + 1] = {0};
    int64_t ns = 5;
    memcpy(text + 16, ":00.000000Z", 11);
    assert_false(rfc3339_recall(&memo, (struct slice){text, RFC3339_USUAL_BYTES}, &ns));
    assert_int_equal(ns, 5);
}

static void a_memo_changes_no_byte_of_what_is_accepted(void **state)
{
    (void)state;
    struct rfc3339_memo memo = {0};
    const char *good = "2025-08-25T10:59:59.123456Z";
    for (size_t at = 0; at < RFC3339_USUAL_BYTES; at++) {
        for (unsigned c = 1; c < 256; c++) {
            int64_t ns;
            expect_same_with(&memo, good);
            assert_true(rfc3339_recall(
                &memo, (struct slice){(const uint8_t *)good, RFC3339_USUAL_BYTES}, &ns));
            char text[32];
            memcpy(text, good, RFC3339_USUAL_BYTES + 1);
            text[at] = (char)c;
            expect_same_with(&memo, text);
        }
    }
    for (size_t bytes = 0; bytes < RFC3339_USUAL_BYTES; bytes++) {
        char text[32] = {0};
        memcpy(text, good, bytes);
        expect_same_with(&memo, text);
    }
}

/* Around the edges of minute, hour, day, month, year and of the range; with zones, other lengths of
 * fraction and leap seconds in between. */
static void a_memo_agrees_with_the_parser_on_near_by_times(void **state)
{
    (void)state;
    static const char *const near[] = {
        "2025-08-25T10:59:", "2025-08-25T11:00:", "2025-12-31T23:59:", "2026-01-01T00:00:",
        "2024-02-29T23:59:", "2024-03-01T00:00:", "2025-02-29T00:00:", "2016-12-31T23:59:",
        "2262-04-11T23:46:", "2262-04-11T23:47:", "1677-09-21T00:12:", "1677-09-21T00:13:",
        "1969-12-31T23:59:", "1970-01-01T00:00:", "2025-08-25t10:59:", "2025-08-25 10:59:",
        "2025-08-25T24:59:", "2025-08-25T10:60:"};
    static const char *const zones[] = {"Z", "Z", "Z", "z", "+00:00", "-01:00", "+23:59", ""};
    static const char *const fractions[] = {"", ".1", ".123", ".12345678", ".999999999"};
    struct rfc3339_memo memo = {0};
    size_t recalled = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t r = random_next();
        char fraction[16];
        snprintf(fraction, sizeof fraction, ".%06u", (unsigned)(r >> 40) % 1000000);
        bool is_other = (r & 7) == 7;
        char text[64];
        snprintf(text, sizeof text, "%s%02u%s%s",
                 near[(r >> 3) % ((r & 64) ? 2 : ARRAY_COUNT(near))], (unsigned)(r >> 8) % 62,
                 is_other ? fractions[(r >> 16) % 5] : fraction,
                 zones[(r >> 20) % ARRAY_COUNT(zones)]);
        int64_t ns;
        recalled += rfc3339_recall(&memo, (struct slice){(const uint8_t *)text, strlen(text)}, &ns);
        expect_same_with(&memo, text);
    }
    assert_true(recalled > 10000);
}

int main(void)
{
    const char *seed = getenv("SLUICE_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) | 1 : 0x5eed1234567u;
    printf("SLUICE_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_the_standard_are_read),
        cmocka_unit_test(any_fraction_is_read_to_the_nanosecond),
        cmocka_unit_test(what_is_no_date_time_is_refused),
        cmocka_unit_test(any_byte_in_any_place_that_is_not_of_the_form_is_refused),
        cmocka_unit_test(a_missing_zone_is_utc_where_it_may_be_missing),
        cmocka_unit_test(a_leap_second_stays_in_its_day),
        cmocka_unit_test(the_range_is_that_of_the_integer),
        cmocka_unit_test(every_day_of_the_range_agrees_with_the_calendar),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(an_empty_memo_recalls_nothing),
        cmocka_unit_test(a_memo_changes_no_byte_of_what_is_accepted),
        cmocka_unit_test(a_memo_agrees_with_the_parser_on_near_by_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
