/* metrics_text: what sluice top reads of GET /metrics: sums over labels, buckets by their bound, nonsense left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/metrics_text.h"
#include "core/mem.h"

static struct metrics_text *before;
static struct metrics_text *after;

static int set_up(void **state)
{
    (void)state;
    before = mem_alloc(sizeof *before);
    after = mem_alloc(sizeof *after);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_free(before);
    mem_free(after);
    return 0;
}

/* From a block of exactly its size, so that a read behind it is caught. */
static void parse(struct metrics_text *metrics, const char *text, size_t bytes)
{
    uint8_t *copy = malloc(bytes == 0 ? 1 : bytes);
    assert_non_null(copy);
    memcpy(copy, text, bytes);
    metrics_text_parse(metrics, (struct slice){copy, bytes});
    free(copy);
}

static void expect(const char *text, const char *name, double value)
{
    parse(after, text, strlen(text));
    assert_true(fabs(metrics_text_value(after, name) - value) < 1e-9);
}

static void values_are_summed_over_labels(void **state)
{
    (void)state;
    static const char text[] = "# HELP a_total What.\n# TYPE a_total counter\n"
                               "a_total{shard=\"0\"} 3\nb 7\na_total{shard=\"1\"} 4.5\n"
                               "a_total_more 100\na_total{x=\"a } b\"} 1 1700000000\n";
    expect(text, "a_total", 8.5);
    expect(text, "b", 7);
    expect(text, "none", 0);
}

static void only_the_label_le_is_a_bound(void **state)
{
    (void)state;
    expect("a{role=\"3\"} 1\na{handle=\"/x\",role=\"4\"} 2\n", "a", 3);
    expect("a{x=\"say \\\"hi\\\",le=\\\"5\"} 4\n", "a", 4);
}

static void what_is_no_sample_is_left_out(void **state)
{
    (void)state;
    expect("\n\n{}\n a 1\na\na{\na{x=\"1\"\nb one\nb 2", "b", 2);
    expect("", "b", 0);
    char longest[2000];
    memset(longest, 'n', sizeof longest);
    parse(after, longest, sizeof longest);
    assert_int_equal(after->count, 0);
}

static void every_cut_of_a_text_is_read_within_its_end(void **state)
{
    (void)state;
    static const char text[] =
        "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nc{a=\"}\"} 4";
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        parse(after, text, bytes);
        assert_true(after->count <= 4);
    }
}

static void more_samples_than_there_is_room_for_are_left_out(void **state)
{
    (void)state;
    size_t room = (size_t)(METRICS_SAMPLES_MAX + 100) * 16;
    char *text = malloc(room);
    size_t bytes = 0;
    for (unsigned i = 0; i < METRICS_SAMPLES_MAX + 100; i++) {
        bytes += (size_t)snprintf(text + bytes, room - bytes, "n%05u 1\n", i);
    }
    parse(after, text, bytes);
    free(text);
    assert_int_equal(after->count, METRICS_SAMPLES_MAX);
}

static void a_quantile_is_of_what_came_between(void **state)
{
    (void)state;
    static const char old[] =
        "h_bucket{le=\"1\"} 1000\nh_bucket{le=\"2\"} 1000\nh_bucket{le=\"+Inf\"} 1000\n";
    static const char new[] =
        "h_bucket{s=\"a\",le=\"+Inf\"} 1050\nh_bucket{s=\"a\",le=\"1\"} 1000\n"
        "h_bucket{s=\"a\",le=\"2\"} 1050\nh_bucket{s=\"b\",le=\"2\"} 50\n"
        "h_bucket{s=\"b\",le=\"+Inf\"} 50\nh_bucket{s=\"b\",le=\"1\"} 0\n";
    parse(before, old, sizeof old - 1);
    parse(after, new, sizeof new - 1);
    assert_true(fabs(metrics_text_quantile(before, after, "h", 0.5) - 1.5) < 1e-9);
    assert_true(fabs(metrics_text_quantile(before, after, "h", 1.0) - 2.0) < 1e-9);
    assert_true(isnan(metrics_text_quantile(after, after, "h", 0.5))); /* nothing came */
    assert_true(isnan(metrics_text_quantile(before, after, "none", 0.5)));
}

static void values_are_also_kept_for_each_sink(void **state)
{
    (void)state;
    static const char text[] =
        "p{sink=\"a\"} 1\np{sink=\"b-2\"} 2\ne{sink=\"a\",cause=\"x\"} 3\n"
        "e{sink=\"a\",cause=\"y\"} 4\nq{notsink=\"c\"} 5\nq{x=\"sink=\\\"c\\\"\"} 5\n"
        "s{sink=\"say \\\"hi\\\" \\\\ \\n\"} 6\nplain 7\n";
    parse(after, text, sizeof text - 1);
    assert_int_equal(after->sink_count, 3);
    assert_string_equal(after->sinks[0], "a");
    assert_string_equal(after->sinks[1], "b-2");
    assert_string_equal(after->sinks[2], "say \"hi\" \\ \n");
    assert_true(fabs(metrics_text_sink_value(after, "a", "p") - 1) < 1e-9);
    assert_true(fabs(metrics_text_sink_value(after, "b-2", "p") - 2) < 1e-9);
    assert_true(fabs(metrics_text_sink_value(after, "a", "e") - 7) < 1e-9);
    assert_true(fabs(metrics_text_sink_value(after, "b", "p")) < 1e-9);
    assert_true(fabs(metrics_text_value(after, "p") - 3) < 1e-9); /* summed as before */
}

static void sinks_without_end_or_room_are_left_out(void **state)
{
    (void)state;
    static char text[64 * (METRICS_SINK_VALUES + 100)];
    size_t bytes = 0;
    static const char torn[] = "p{sink=\"a} 1\np{sink=\"} 2\np{sink=\"a\\\"} 3\np{sink=";
    parse(after, torn, sizeof torn - 1);
    assert_int_equal(after->sink_count, 0);
    for (unsigned i = 0; i < METRICS_SINK_VALUES + 100; i++) {
        bytes +=
            (size_t)snprintf(text + bytes, sizeof text - bytes, "p{sink=\"n%u\"} 1\n", i % 100);
    }
    parse(after, text, bytes);
    assert_int_equal(after->sink_count, METRICS_SINKS_MAX);
    assert_true(after->sink_value_count <= METRICS_SINK_VALUES);
    parse(after, "", 0);
    assert_int_equal(after->sink_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_summed_over_labels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_the_label_le_is_a_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_sample_is_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_cut_of_a_text_is_read_within_its_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(more_samples_than_there_is_room_for_are_left_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_quantile_is_of_what_came_between, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_are_also_kept_for_each_sink, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sinks_without_end_or_room_are_left_out, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
