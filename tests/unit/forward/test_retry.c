#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "forward/retry.h"

#define RANDOM_STEPS 200000

static const struct backoff_options usual = {250 * NS_MS, 60 * NS_S};

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* ------------------------------------------------------------------- backoff */

static void jitter_is_full_within_the_doubled_bound(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (unsigned failures = 1; failures < 70; failures++) {
        const uint64_t bound =
            failures >= 8 ? usual.max_ns : u64_min(usual.max_ns, usual.min_ns << failures);
        uint64_t least = UINT64_MAX, most = 0;
        for (int i = 0; i < 2000; i++) {
            const uint64_t wait = backoff_ns(&usual, failures, 0, random_next(&seed));
            least = u64_min(least, wait);
            most = u64_max(most, wait);
        }
        assert_true(most <= bound);
        assert_true(least < bound / 50 && most > bound - bound / 50); /* all of it is used */
    }
    assert_true(backoff_ns(&usual, UINT32_MAX, 0, UINT64_MAX) <= usual.max_ns);
}

static void retry_after_is_the_least_and_bounded(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int i = 0; i < RANDOM_STEPS; i++) {
        const uint64_t told = random_next(&seed) % (2 * RETRY_AFTER_MAX) + 1;
        const unsigned failures = (unsigned)(random_next(&seed) % 100);
        const uint64_t wait = backoff_ns(&usual, failures, told, random_next(&seed));
        const uint64_t least = u64_min(told, RETRY_AFTER_MAX);
        assert_true(wait >= least && wait <= least + u64_min(usual.max_ns, least));
    }
}

static void strange_options_do_not_overflow(void **state)
{
    (void)state;
    const struct backoff_options wide = {UINT64_MAX - 1, UINT64_MAX};
    const struct backoff_options none = {0, 0};
    assert_int_equal(backoff_ns(&wide, 3, 0, 12345), 12345);
    assert_int_equal(backoff_ns(&none, 3, 0, UINT64_MAX), 0);
    assert_int_equal(backoff_ns(&none, 3, NS_S, UINT64_MAX), NS_S);
}

/* ------------------------------------------------------------------- Retry-After */

#define NOW_S INT64_C(784111777) /* Sun, 06 Nov 1994 08:49:37 GMT: RFC 9110's own example */

static uint64_t parse(const char *text)
{
    return retry_after_parse((struct slice){(const uint8_t *)text, strlen(text)},
                             NOW_S * (int64_t)NS_S);
}

static void seconds_are_read_and_bounded(void **state)
{
    (void)state;
    assert_int_equal(parse("120"), 120 * NS_S);
    assert_int_equal(parse(" \t7 "), 7 * NS_S);
    assert_int_equal(parse("0"), 0);
    assert_int_equal(parse("000000000000000000000000000005"), 5 * NS_S);
    assert_int_equal(parse("99999999999999999999999999999999"), RETRY_AFTER_MAX);
    assert_int_equal(parse("3601"), RETRY_AFTER_MAX);
}

static void all_three_forms_of_a_date_are_read(void **state)
{
    (void)state;
    assert_int_equal(parse("Sun, 06 Nov 1994 08:50:07 GMT"), 30 * NS_S);
    assert_int_equal(parse("Sunday, 06-Nov-94 08:50:07 GMT"), 30 * NS_S);
    assert_int_equal(parse("Sun Nov  6 08:50:07 1994"), 30 * NS_S);
    assert_int_equal(parse("Sun Nov 06 08:50:07 1994"), 30 * NS_S);
    assert_int_equal(parse("Sun, 06 Nov 1994 08:49:37 GMT"), 0);                /* now */
    assert_int_equal(parse("Sat, 05 Nov 1994 08:49:37 GMT"), 0);                /* past */
    assert_int_equal(parse("Sunday, 06-Nov-93 08:50:07 GMT"), 0);               /* past */
    assert_int_equal(parse("Wednesday, 06-Nov-50 08:50:07 GMT"), 0);            /* 1950 */
    assert_int_equal(parse("Sunday, 06-Nov-05 08:50:07 GMT"), RETRY_AFTER_MAX); /* 2005 */
    assert_int_equal(parse("Mon, 07 Nov 1994 08:49:37 GMT"), RETRY_AFTER_MAX);
    assert_int_equal(parse("Fri, 31 Dec 9999 23:59:60 GMT"), RETRY_AFTER_MAX);
    assert_int_equal(parse("Fri, 01 Jan 1700 00:00:00 GMT"), 0);
}

static void a_year_of_two_digits_belongs_to_this_century_or_the_one_before(void **state)
{
    (void)state;
    const int64_t now = INT64_C(1763741400) * (int64_t)NS_S; /* 2025-11-21T16:10:00Z */
    const struct slice soon = SLICE_LITERAL("Friday, 21-Nov-25 16:10:05 GMT");
    const struct slice far = SLICE_LITERAL("Friday, 21-Nov-70 16:10:05 GMT");
    const struct slice old = SLICE_LITERAL("Friday, 21-Nov-94 16:10:05 GMT");
    assert_int_equal(retry_after_parse(soon, now), 5 * NS_S);
    assert_int_equal(retry_after_parse(far, now), RETRY_AFTER_MAX); /* 2070 */
    assert_int_equal(retry_after_parse(old, now), 0);               /* 1994 */
}

static void what_is_no_date_is_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "-1",
        "1.5",
        "1 2",
        "soon",
        "Sun, 06 Nov 1994 08:50:07",
        "Sun, 06 Nov 1994 08:50:07 UTC",
        "Sun, 06 Nov 1994 08:50:07 GMTx",
        "Sun, 6 Nov 1994 08:50:07 GMT",
        "Sun, 32 Nov 1994 08:50:07 GMT",
        "Sun, 31 Feb 1994 08:50:07 GMT",
        "Sun, 06 Nov 1994 24:50:07 GMT",
        "Sun, 06 Nov 1994 08:60:07 GMT",
        "Sun, 06 nov 1994 08:50:07 GMT",
        "Foo, 06 Nov 1994 08:50:07 GMT",
        "Sonday, 06-Nov-94 08:50:07 GMT",
        "Sunday, 06-Nov-1994 08:50:07 GMT",
        "Sun Nov 6 08:50:07 1994",
        "Sun Nov  6 08:50:07 1994 GMT",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (parse(bad[i]) != 0) {
            fail_msg("read: %s", bad[i]);
        }
    }
}

static size_t date_write(int form, const struct tm *parts, char *out, size_t bytes_max)
{
    char day[64], clock[64];
    if (form != 1) {
        return form == 0 ? strftime(out, bytes_max, "%a, %d %b %Y %H:%M:%S GMT", parts)
                         : strftime(out, bytes_max, "%a %b %e %H:%M:%S %Y", parts);
    }
    assert_true(strftime(day, sizeof day, "%A, %d-%b", parts) > 0);
    assert_true(strftime(clock, sizeof clock, "%H:%M:%S", parts) > 0);
    return (size_t)snprintf(out, bytes_max, "%s-%02d %s GMT", day, parts->tm_year % 100, clock);
}

/* Independent of our own arithmetic: the C library writes the dates. */
static void dates_agree_with_the_c_library(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 20000; i++) {
        const int64_t now_s = (int64_t)(random_next(&seed) % 4000000000u);
        const uint64_t ahead_s = random_next(&seed) % 3600 + 1;
        const time_t at = (time_t)(now_s + (int64_t)ahead_s);
        char text[160];
        struct tm parts;
        assert_non_null(gmtime_r(&at, &parts));
        const size_t bytes = date_write(i % 3, &parts, text, sizeof text);
        const uint64_t got =
            retry_after_parse((struct slice){(const uint8_t *)text, bytes}, now_s * (int64_t)NS_S);
        if (got != ahead_s * NS_S) {
            fail_msg("%s: %lu instead of %lu s", text, (unsigned long)(got / NS_S),
                     (unsigned long)ahead_s);
        }
    }
}

/* ------------------------------------------------------------------- breaker */

/* The rules once more, as plain as they can be said. */
struct model {
    enum breaker_state state;
    unsigned failures;
    uint64_t not_before;
    bool is_probing;
};

static bool model_allows(struct model *model, uint64_t now)
{
    if (model->state == BREAKER_OPEN && now >= model->not_before) {
        model->state = BREAKER_HALF_OPEN;
        model->is_probing = false;
    }
    return model->state == BREAKER_HALF_OPEN
               ? !model->is_probing
               : model->state == BREAKER_CLOSED && now >= model->not_before;
}

static void model_success(struct model *model)
{
    if (model->state == BREAKER_HALF_OPEN) {
        *model = (struct model){.state = BREAKER_CLOSED};
    } else if (model->state == BREAKER_CLOSED) {
        model->failures = 0;
    }
}

static void model_failure(struct model *model, uint64_t now, uint64_t told, uint64_t random,
                          unsigned failures_max)
{
    if (model->state == BREAKER_OPEN) {
        model->not_before = u64_max(model->not_before, now + told);
        return;
    }
    model->failures++;
    model->not_before =
        u64_max(model->not_before, now + backoff_ns(&usual, model->failures, told, random));
    if (model->state == BREAKER_HALF_OPEN || model->failures >= failures_max) {
        model->state = BREAKER_OPEN;
        model->is_probing = false;
    }
}

static void expect_agreement(const struct breaker *breaker, const struct model *model)
{
    assert_int_equal(breaker->state, model->state);
    assert_int_equal(breaker->failures, model->failures);
    const uint64_t due = model->state != BREAKER_HALF_OPEN ? model->not_before
                         : model->is_probing               ? UINT64_MAX
                                                           : 0;
    assert_int_equal(breaker_due_ns(breaker), due);
}

static void breaker_walks_as_its_rules_say(void **state)
{
    (void)state;
    uint64_t seed = 99;
    struct breaker breaker;
    struct model model = {0};
    uint64_t now = 1;
    bool has_been[3] = {false};
    breaker_init(&breaker, 5, &usual);
    for (int i = 0; i < RANDOM_STEPS; i++) {
        const uint64_t random = random_next(&seed);
        const uint64_t told = random % 9 == 0 ? (random >> 8) % (100 * NS_S) : 0;
        now += random_next(&seed) % (i % 3 == 0 ? 40 * NS_S : NS_S);
        if (random % 4 == 0) {
            breaker_on_success(&breaker);
            model_success(&model);
        } else if (random % 4 == 1) {
            breaker_on_failure(&breaker, now, told, random);
            model_failure(&model, now, told, random, 5);
        } else {
            const bool may = breaker_allows(&breaker, now);
            assert_int_equal(may, model_allows(&model, now));
            if (may) {
                breaker_on_send(&breaker);
                model.is_probing = model.state == BREAKER_HALF_OPEN;
            }
        }
        expect_agreement(&breaker, &model);
        has_been[breaker.state] = true;
    }
    assert_true(has_been[0] && has_been[1] && has_been[2]);
    assert_true(breaker.opened_count > 0);
}

static void open_breaker_lets_one_through_and_closes_on_its_success(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, 2, &usual);
    assert_true(breaker_allows(&breaker, 0));
    breaker_on_failure(&breaker, 1000, 0, 1);
    breaker_on_failure(&breaker, 1000, 30 * NS_S, 0);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    assert_false(breaker_allows(&breaker, 30 * NS_S));
    assert_true(breaker_allows(&breaker, 30 * NS_S + 1000));
    breaker_on_send(&breaker);
    assert_false(breaker_allows(&breaker, 40 * NS_S));
    breaker_on_failure(&breaker, 40 * NS_S, 0, UINT64_MAX - 1);
    assert_int_equal(breaker.state, BREAKER_OPEN);
    assert_true(breaker_allows(&breaker, 200 * NS_S));
    breaker_on_send(&breaker);
    breaker_on_success(&breaker);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
    assert_true(breaker_allows(&breaker, 200 * NS_S));
    assert_int_equal(breaker.opened_count, 2);
}

/* ------------------------------------------------------------------- window, bucket */

static void window_stays_in_bounds_and_halves_once_per_round_trip(void **state)
{
    (void)state;
    uint64_t seed = 5;
    struct window window;
    window_init(&window, 16);
    assert_int_equal(window_size(&window), 1);
    for (uint64_t now = 1; now < RANDOM_STEPS; now++) {
        const unsigned before = window_size(&window);
        if (random_next(&seed) % 10 != 0) {
            window_on_success(&window);
            assert_true(window_size(&window) >= before && window_size(&window) <= before + 1);
        } else {
            const uint64_t began = now - random_next(&seed) % (now < 100 ? now : 100);
            const bool is_news = window.halved_at_ns == 0 || began >= window.halved_at_ns;
            window_on_overload(&window, began, now);
            assert_true(window_size(&window) == before || is_news);
            assert_true(!is_news || window_size(&window) <= (before + 1) / 2);
        }
        assert_true(window_size(&window) >= 1 && window_size(&window) <= 16);
    }
}

static void window_grows_by_about_one_for_each_windows_worth(void **state)
{
    (void)state;
    struct window window;
    window_init(&window, 64);
    int successes = 0;
    while (window_size(&window) < 64) {
        window_on_success(&window);
        successes++;
    }
    assert_in_range(successes, 64 * 64 / 2 - 64, 64 * 64 / 2 + 64); /* 1 + 2 + .. + 63 */
    for (int i = 0; i < 100; i++) {
        window_on_success(&window);
    }
    assert_int_equal(window_size(&window), 64);
}

static void bucket_lets_through_its_rate_and_no_more(void **state)
{
    (void)state;
    struct bucket bucket;
    uint64_t seed = 21, now = 1000, sent = 0;
    const uint64_t rate = 1000000;
    bucket_init(&bucket, rate, now);
    while (now < 1000 + 100 * NS_S) {
        const uint64_t due = bucket_due_ns(&bucket, now);
        if (due > now) {
            now = due;
            continue;
        }
        const uint64_t bytes = random_next(&seed) % 50000 + 1;
        bucket_take(&bucket, bytes, now);
        sent += bytes;
    }
    assert_in_range(sent, 100 * rate - 60000, 100 * rate + rate / 2 + 60000);
    bucket_init(&bucket, 0, 0);
    bucket_take(&bucket, UINT64_MAX, 5);
    assert_int_equal(bucket_due_ns(&bucket, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jitter_is_full_within_the_doubled_bound),
        cmocka_unit_test(retry_after_is_the_least_and_bounded),
        cmocka_unit_test(strange_options_do_not_overflow),
        cmocka_unit_test(seconds_are_read_and_bounded),
        cmocka_unit_test(all_three_forms_of_a_date_are_read),
        cmocka_unit_test(a_year_of_two_digits_belongs_to_this_century_or_the_one_before),
        cmocka_unit_test(what_is_no_date_is_none),
        cmocka_unit_test(dates_agree_with_the_c_library),
        cmocka_unit_test(breaker_walks_as_its_rules_say),
        cmocka_unit_test(open_breaker_lets_one_through_and_closes_on_its_success),
        cmocka_unit_test(window_stays_in_bounds_and_halves_once_per_round_trip),
        cmocka_unit_test(window_grows_by_about_one_for_each_windows_worth),
        cmocka_unit_test(bucket_lets_through_its_rate_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
