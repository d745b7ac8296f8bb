/* upstream_metrics: what /metrics says of sinks and pollers: right names, labels that cannot break the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "api/upstream_metrics.h"
#include "api/upstream_view.h"

#define NOW INT64_C(1756116000000000000)

static struct upstream_sink sinks[UPSTREAM_SINKS_MAX];
static struct upstream_poller pollers[UPSTREAM_POLLERS_MAX];
static char text[256 * 1024];

static void take_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    (void)context;
    *sink = sinks[i];
}

static void take_poller(void *context, unsigned i, struct upstream_poller *poller)
{
    (void)context;
    *poller = pollers[i];
}

static void write_text(unsigned sink_count, unsigned poller_count)
{
    struct upstream upstream = {.sink_count = sink_count,
                                .poller_count = poller_count,
                                .sink = take_sink,
                                .poller = take_poller};
    struct buf out;
    buf_init(&out, text, sizeof text - 1);
    upstream_metrics_write(&out, &upstream, NOW);
    assert_false(out.is_truncated);
    text[out.bytes] = 0;
}

static void has(const char *line)
{
    char wanted[256];
    (void)snprintf(wanted, sizeof wanted, "\n%s\n", line);
    if (strstr(text, wanted) == NULL) {
        fail_msg("no line '%s' in:\n%s", line, text);
    }
}

static void fill(void)
{
    memset(sinks, 0, sizeof sinks);
    memset(pollers, 0, sizeof pollers);
    sinks[0] = (struct upstream_sink){
        .name = "a",
        .type = "opensearch",
        .state = "paused",
        .breaker = "half_open",
        .durable_lsn = 9,
        .start_lsn = 1,
        .delivered = 2,
        .pending = 3,
        .expired = 1,
        .damaged = 1,
        .dropped = 2,
        .balances = true,
        .pending_bytes = 4096,
        .retries = 5,
        .lag_p50_ns = 20000000,
        .lag_p99_ns = 1500000000,
        .lag_last_ns = 1000,
        .oldest_pending_at_ns = NOW - 2500000000,
        .last_success_at_ns = NOW,
    };
    sinks[1] = (struct upstream_sink){
        .name = "b", .state = "running", .breaker = "closed", .balances = true, .start_lsn = 1};
    pollers[0] = (struct upstream_poller){
        .name = "pg", .rows = 7, .is_connected = true, .last_look_at_ns = NOW - 1500000000};
    pollers[1] = (struct upstream_poller){.name = "new"};
}

static void nothing_configured_writes_nothing(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, text, sizeof text);
    upstream_metrics_write(&out, NULL, NOW);
    assert_int_equal(out.bytes, 0);
    write_text(0, 0);
    assert_string_equal(text, "");
}

static void each_sink_has_its_own_samples(void **state)
{
    (void)state;
    fill();
    write_text(2, 0);
    has("sluice_sink_info{sink=\"a\",type=\"opensearch\"} 1");
    has("sluice_sink_pending_records{sink=\"a\"} 3");
    has("sluice_sink_pending_records{sink=\"b\"} 0");
    has("sluice_sink_pending_bytes{sink=\"a\"} 4096");
    has("sluice_sink_delivered_records_total{sink=\"a\"} 2");
    has("sluice_sink_retries_total{sink=\"a\"} 5");
    has("sluice_sink_expired_records_total{sink=\"a\",cause=\"retention\"} 1");
    has("sluice_sink_expired_records_total{sink=\"a\",cause=\"damaged\"} 1");
    has("sluice_sink_expired_records_total{sink=\"a\",cause=\"dropped\"} 2");
    has("sluice_sink_ledger_imbalance_records{sink=\"a\"} 0");
    assert_null(strstr(text, "sluice_poller"));
}

static void states_are_numbers(void **state)
{
    (void)state;
    fill();
    (void)snprintf(sinks[2].state, sizeof sinks[2].state, "retrying");
    (void)snprintf(sinks[2].breaker, sizeof sinks[2].breaker, "open");
    sinks[2].name[0] = 'c';
    write_text(3, 0);
    has("sluice_sink_state{sink=\"a\"} 2");
    has("sluice_sink_state{sink=\"b\"} 0");
    has("sluice_sink_state{sink=\"c\"} 1");
    has("sluice_sink_breaker_state{sink=\"a\"} 2");
    has("sluice_sink_breaker_state{sink=\"b\"} 0");
    has("sluice_sink_breaker_state{sink=\"c\"} 1");
}

static void times_are_seconds_and_ages_never_negative(void **state)
{
    (void)state;
    fill();
    sinks[1].oldest_pending_at_ns = NOW + 1000000000; /* the clock was set back */
    write_text(2, 2);
    has("sluice_sink_lag_p50_seconds{sink=\"a\"} 0.020000");
    has("sluice_sink_lag_p99_seconds{sink=\"a\"} 1.500000");
    has("sluice_sink_lag_last_seconds{sink=\"a\"} 0.000001");
    has("sluice_sink_oldest_pending_seconds{sink=\"a\"} 2.500000");
    has("sluice_sink_oldest_pending_seconds{sink=\"b\"} 0.000000");
    has("sluice_sink_last_success_timestamp_seconds{sink=\"a\"} 1756116000.000000");
    assert_null(strstr(text, "sluice_sink_last_success_timestamp_seconds{sink=\"b\"}"));
    has("sluice_poller_last_look_age_seconds{poller=\"pg\"} 1.500000");
    assert_null(strstr(text, "sluice_poller_last_look_age_seconds{poller=\"new\"}"));
    has("sluice_poller_connected{poller=\"pg\"} 1");
    has("sluice_poller_connected{poller=\"new\"} 0");
    has("sluice_poller_rows_total{poller=\"pg\"} 7");
}

static void a_family_is_described_once_and_together(void **state)
{
    (void)state;
    fill();
    write_text(2, 2);
    const char *at = text;
    const char *type;
    while ((type = strstr(at, "# TYPE ")) != NULL) {
        char line[128];
        size_t bytes = strcspn(type, "\n");
        size_t name_bytes = strcspn(type + 7, " ");
        assert_true(bytes < sizeof line);
        memcpy(line, type, bytes);
        line[bytes] = 0;
        assert_null(strstr(type + bytes, line));
        /* A counter ends in _total, nothing else does. */
        bool is_counter = strcmp(line + 7 + name_bytes, " counter") == 0;
        bool ends_in_total = memcmp(line + 7 + name_bytes - 6, "_total", 6) == 0;
        assert_int_equal(is_counter, ends_in_total);
        at = type + bytes;
    }
}

static void a_label_cannot_leave_its_quotes(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, text, sizeof text - 1);
    upstream_metrics_label(&out, SLICE_LITERAL("a\"} 1\nb\\"));
    text[out.bytes] = 0;
    assert_string_equal(text, "a\\\"} 1\\nb\\\\");

    fill();
    (void)snprintf(sinks[0].name, sizeof sinks[0].name, "x\"} 1\nevil 2\n");
    memset(sinks[1].name, 'n', sizeof sinks[1].name); /* no NUL */
    write_text(2, 0);
    assert_null(strstr(text, "\nevil"));
    has("sluice_sink_window{sink=\"x\\\"} 1\\nevil 2\\n\"} 0");
    has("sluice_sink_window{sink=\"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\"} 0");
}

static void all_that_can_be_configured_has_room(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UPSTREAM_SINKS_MAX; i++) {
        memset(&sinks[i], 0xff, sizeof sinks[i]);
        sinks[i].balances = true;
        memset(sinks[i].name, '\n', sizeof sinks[i].name);
    }
    for (unsigned i = 0; i < UPSTREAM_POLLERS_MAX; i++) {
        memset(&pollers[i], 0x7f, sizeof pollers[i]);
        pollers[i].is_connected = true;
    }
    write_text(UPSTREAM_SINKS_MAX, UPSTREAM_POLLERS_MAX);
    assert_true(strlen(text) < 128 * 1024); /* of the 512 KiB that a scrape may take */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_configured_writes_nothing),
        cmocka_unit_test(each_sink_has_its_own_samples),
        cmocka_unit_test(states_are_numbers),
        cmocka_unit_test(times_are_seconds_and_ages_never_negative),
        cmocka_unit_test(a_family_is_described_once_and_together),
        cmocka_unit_test(a_label_cannot_leave_its_quotes),
        cmocka_unit_test(all_that_can_be_configured_has_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
