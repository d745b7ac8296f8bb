/* upstream_view: the ledgers of sinks add up, are shown whole, and say when they do not add up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "api/upstream_view.h"
#include "model/json_scan.h"

/* What the composition would show: pictures that a test fills. */
static struct upstream_sink sinks[UPSTREAM_SINKS_MAX + 1];
static struct upstream_poller pollers[UPSTREAM_POLLERS_MAX + 1];

static void take_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    assert_ptr_equal(context, sinks);
    *sink = sinks[i];
}

static void take_poller(void *context, unsigned i, struct upstream_poller *poller)
{
    assert_ptr_equal(context, sinks);
    *poller = pollers[i];
}

static struct upstream upstream_of(unsigned sink_count, unsigned poller_count)
{
    return (struct upstream){.context = sinks,
                             .sink_count = sink_count,
                             .poller_count = poller_count,
                             .sink = take_sink,
                             .poller = take_poller};
}

/* Balances: 1000 - 101 + 1 = 900 = 600 + 250 + (20 + 3 + 2) + 15 + 10. */
static struct upstream_sink a_sink(const char *name)
{
    struct upstream_sink sink = {
        .type = "http",
        .state = "running",
        .breaker = "closed",
        .durable_lsn = 1000,
        .start_lsn = 101,
        .delivered = 600,
        .pending = 250,
        .expired = 20,
        .damaged = 3,
        .dropped = 2,
        .quarantined = 15,
        .filtered = 10,
        .delivered_lsn = 750,
        .balances = true,
        .lag_p99_ns = 1500000000,
    };
    (void)snprintf(sink.name, sizeof sink.name, "%s", name);
    return sink;
}

static char text[128 * 1024];

static const char *show(void (*put)(struct buf *, const struct upstream *),
                        const struct upstream *upstream)
{
    struct buf out;
    uint64_t offset = 0;
    const char *why = NULL;
    buf_init(&out, text, sizeof text - 1);
    put(&out, upstream);
    assert_false(out.is_truncated);
    if (json_validate(out.data, out.bytes, &offset, &why) != 0) {
        fail_msg("no JSON at %llu: %s: %.*s", (unsigned long long)offset, why, (int)out.bytes,
                 text);
    }
    text[out.bytes] = 0;
    return text;
}

static void nothing_configured_is_shown_as_nothing(void **state)
{
    (void)state;
    assert_string_equal(show(upstream_view_ledger, NULL), "{}");
    assert_string_equal(show(upstream_view_delivered, NULL), "{}");
    assert_string_equal(show(upstream_view_list, NULL), "{\"data\":[],\"pollers\":[]}");
    assert_int_equal(upstream_view_imbalance(NULL), 0);
    assert_false(upstream_view_has_sink(NULL, SLICE_LITERAL("a")));
}

static void a_ledger_shows_every_part_of_durable(void **state)
{
    (void)state;
    sinks[0] = a_sink("archive");
    struct upstream upstream = upstream_of(1, 0);
    assert_string_equal(
        show(upstream_view_ledger, &upstream),
        "{\"archive\":{\"durable\":900,\"delivered\":600,\"pending\":250,\"expired\":{"
        "\"retention\":20,\"damaged\":3,\"dropped\":2},\"quarantined\":15,\"filtered\":10,"
        "\"balances\":true,\"start_lsn\":101,\"durable_lsn\":1000,\"delivered_lsn\":750,"
        "\"state\":\"running\"}}");
    assert_int_equal(upstream_view_imbalance(&upstream), 0);
}

static void a_sink_that_begins_behind_the_end_has_an_empty_ledger(void **state)
{
    (void)state;
    sinks[0] = (struct upstream_sink){.durable_lsn = 41, .start_lsn = 42, .balances = true};
    assert_int_equal(upstream_view_durable(&sinks[0]), 0);
    assert_int_equal(upstream_view_sink_imbalance(&sinks[0]), 0);
}

static void one_record_missing_or_too_many_is_an_imbalance(void **state)
{
    (void)state;
    static const size_t parts[] = {
        offsetof(struct upstream_sink, delivered), offsetof(struct upstream_sink, pending),
        offsetof(struct upstream_sink, expired),   offsetof(struct upstream_sink, damaged),
        offsetof(struct upstream_sink, dropped),   offsetof(struct upstream_sink, quarantined),
        offsetof(struct upstream_sink, filtered),
    };
    struct upstream upstream = upstream_of(2, 0);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        for (int by = -1; by <= 1; by += 2) {
            uint64_t count = 0;
            sinks[0] = a_sink("good");
            sinks[1] = a_sink("bad");
            memcpy(&count, (char *)&sinks[1] + parts[i], sizeof count);
            count += (uint64_t)(int64_t)by;
            memcpy((char *)&sinks[1] + parts[i], &count, sizeof count);
            assert_int_equal(upstream_view_imbalance(&upstream), -by);
            (void)show(upstream_view_ledger, &upstream);
            assert_non_null(strstr(text, "\"balances\":true"));
            assert_non_null(strstr(text, "\"balances\":false"));
        }
    }
}

static void a_picture_that_says_so_itself_does_not_balance(void **state)
{
    (void)state;
    sinks[0] = a_sink("a");
    sinks[0].balances = false;
    struct upstream upstream = upstream_of(1, 0);
    assert_int_not_equal(upstream_view_imbalance(&upstream), 0);
    assert_non_null(strstr(show(upstream_view_ledger, &upstream), "\"balances\":false"));
}

static void each_sink_says_up_to_where_it_has_delivered(void **state)
{
    (void)state;
    sinks[0] = a_sink("a");
    sinks[1] = a_sink("b-2");
    sinks[1].delivered_lsn = UINT64_MAX;
    struct upstream upstream = upstream_of(2, 0);
    assert_string_equal(show(upstream_view_delivered, &upstream),
                        "{\"a\":750,\"b-2\":18446744073709551615}");
}

static void what_is_not_known_is_null(void **state)
{
    (void)state;
    sinks[0] = a_sink("a");
    pollers[0] = (struct upstream_poller){.name = "pg"};
    struct upstream upstream = upstream_of(1, 1);
    (void)show(upstream_view_list, &upstream);
    assert_non_null(strstr(text, "\"reason\":null"));
    assert_non_null(strstr(text, "\"oldest_pending_at\":null,\"last_success_at\":null"));
    assert_non_null(strstr(text, "\"last_row_at\":null,\"last_look_at\":null"));
    sinks[0].last_success_at_ns = INT64_C(1756116000123456789);
    (void)show(upstream_view_list, &upstream);
    assert_non_null(strstr(text, "\"last_success_at\":\"2025-08-25T10:00:00.123Z\""));
    assert_non_null(
        strstr(text, "\"lag_seconds\":{\"last\":0.000000,\"p50\":0.000000,\"p99\":1.5"));
}

static void hostile_texts_of_full_length_stay_json_and_within_bounds(void **state)
{
    (void)state;
    static const char bytes[] = "\"\\\n\x01\xff\xc3";
    for (unsigned i = 0; i < UPSTREAM_SINKS_MAX; i++) {
        sinks[i] = a_sink("");
        for (size_t k = 0; k < sizeof sinks[i].reason; k++) { /* no NUL anywhere */
            sinks[i].reason[k] = bytes[k % (sizeof bytes - 1)];
        }
        memset(sinks[i].name, 'n', sizeof sinks[i].name);
        memset(sinks[i].state, '"', sizeof sinks[i].state);
        memset(sinks[i].breaker, '\\', sizeof sinks[i].breaker);
        memset(sinks[i].type, '\n', sizeof sinks[i].type);
    }
    for (unsigned i = 0; i < UPSTREAM_POLLERS_MAX; i++) {
        memset(pollers[i].name, '"', sizeof pollers[i].name);
        memset(pollers[i].reason, 1, sizeof pollers[i].reason);
    }
    struct upstream upstream = upstream_of(UPSTREAM_SINKS_MAX, UPSTREAM_POLLERS_MAX);
    (void)show(upstream_view_list, &upstream);
    (void)show(upstream_view_ledger, &upstream);
    (void)show(upstream_view_delivered, &upstream);
    assert_true(strlen(text) < 2048);
}

static void no_more_are_asked_for_than_can_be_shown(void **state)
{
    (void)state;
    struct upstream upstream = upstream_of(1000, 1000);
    assert_int_equal(upstream_view_sinks(&upstream), UPSTREAM_SINKS_MAX);
    assert_int_equal(upstream_view_pollers(&upstream), UPSTREAM_POLLERS_MAX);
}

static void a_sink_is_found_by_its_whole_name(void **state)
{
    (void)state;
    sinks[0] = a_sink("a");
    sinks[1] = a_sink("archive");
    struct upstream upstream = upstream_of(2, 0);
    assert_true(upstream_view_has_sink(&upstream, SLICE_LITERAL("archive")));
    assert_false(upstream_view_has_sink(&upstream, SLICE_LITERAL("archiv")));
    assert_false(upstream_view_has_sink(&upstream, SLICE_LITERAL("archive2")));
    assert_false(upstream_view_has_sink(&upstream, (struct slice){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_configured_is_shown_as_nothing),
        cmocka_unit_test(a_ledger_shows_every_part_of_durable),
        cmocka_unit_test(a_sink_that_begins_behind_the_end_has_an_empty_ledger),
        cmocka_unit_test(one_record_missing_or_too_many_is_an_imbalance),
        cmocka_unit_test(a_picture_that_says_so_itself_does_not_balance),
        cmocka_unit_test(each_sink_says_up_to_where_it_has_delivered),
        cmocka_unit_test(what_is_not_known_is_null),
        cmocka_unit_test(hostile_texts_of_full_length_stay_json_and_within_bounds),
        cmocka_unit_test(no_more_are_asked_for_than_can_be_shown),
        cmocka_unit_test(a_sink_is_found_by_its_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
