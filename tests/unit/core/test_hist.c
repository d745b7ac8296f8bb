/* hist: every duration in the right bucket, quantiles within a quarter, valid exposition text. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/hist.h"

#include <pthread.h>
#include <string.h>

static void edges_rise_and_name_their_own_bucket(void **state)
{
    (void)state;
    uint64_t before = 0;
    for (size_t i = 0; i < HIST_BUCKETS - 1; i++) {
        uint64_t edge = hist_bucket_edge_ns(i);
        assert_true(edge > before);
        assert_int_equal(hist_bucket_index(before + 1), i);
        assert_int_equal(hist_bucket_index(edge), i);
        assert_int_equal(hist_bucket_index(edge + 1), i + 1);
        before = edge;
    }
    assert_int_equal(hist_bucket_edge_ns(3), 1024);
    assert_int_equal(hist_bucket_edge_ns(107), 1ull << 36);
    assert_int_equal(hist_bucket_edge_ns(HIST_BUCKETS - 1), UINT64_MAX);
    assert_int_equal(hist_bucket_index(0), 0);
    assert_int_equal(hist_bucket_index(UINT64_MAX), HIST_BUCKETS - 1);
}

static void edge_is_at_most_a_quarter_above_the_duration(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t duration = 1025 + (seed >> 8) % ((1ull << (11 + seed % 26)) - 1025);
        uint64_t edge = hist_bucket_edge_ns(hist_bucket_index(duration));
        assert_true(edge >= duration);
        assert_true(edge - duration <= duration / 4);
    }
}

static void quantiles_are_the_edges_their_ranks_fall_in(void **state)
{
    (void)state;
    struct hist hist = {0};
    assert_int_equal(hist_quantile(&hist, 0.5), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        hist_add(&hist, i * NS_MS);
    }
    static const double quantiles[] = {0.0, 0.01, 0.5, 0.9, 0.99, 1.0};
    static const uint64_t exact_ms[] = {1, 1, 50, 90, 99, 100};
    for (size_t i = 0; i < ARRAY_COUNT(quantiles); i++) {
        uint64_t got = hist_quantile(&hist, quantiles[i]);
        assert_int_equal(got, hist_bucket_edge_ns(hist_bucket_index(exact_ms[i] * NS_MS)));
    }
}

static void median_of_three_is_the_middle_one(void **state)
{
    (void)state;
    struct hist hist = {0};
    hist_add(&hist, NS_MS);
    hist_add(&hist, 10 * NS_MS);
    hist_add(&hist, 100 * NS_MS);
    assert_int_equal(hist_quantile(&hist, 0.5), hist_bucket_edge_ns(hist_bucket_index(10 * NS_MS)));
}

static void quantile_beyond_the_last_edge_is_the_longest_seen(void **state)
{
    (void)state;
    struct hist hist = {0};
    hist_add(&hist, 3600 * NS_S);
    assert_int_equal(hist_quantile(&hist, 0.5), 3600 * NS_S);
}

static void merge_adds_everything(void **state)
{
    (void)state;
    struct hist a = {0};
    struct hist b = {0};
    struct hist both = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        hist_add(i % 2 ? &a : &b, i * i * 977);
        hist_add(&both, i * i * 977);
    }
    hist_add_n(&a, 5000, 7);
    hist_add_n(&a, 9999999999999, 0); /* none: also no new longest */
    hist_add_n(&both, 5000, 7);
    struct hist merged = {0};
    hist_merge(&merged, &a);
    hist_merge(&merged, &b);
    assert_memory_equal(&merged, &both, sizeof(merged));
}

static void prometheus_text_is_cumulative_and_exact(void **state)
{
    (void)state;
    struct hist hist = {0};
    hist_add(&hist, 1024); /* le is inclusive */
    hist_add(&hist, 1025);
    hist_add(&hist, 1500 * NS_MS);
    hist_add(&hist, 100 * NS_S); /* above every edge */
    static char memory[8192];
    struct buf out;
    buf_init(&out, memory, sizeof(memory) - 1);
    hist_write_prometheus(&out, "x_seconds", "shard=\"0\"", &hist);
    assert_false(out.is_truncated);
    memory[out.bytes] = '\0';
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"0.000001024\"} 1\n"));
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"0.000002048\"} 2\n"));
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"1.073741824\"} 2\n"));
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"2.147483648\"} 3\n"));
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"68.719476736\"} 3\n"));
    assert_non_null(strstr(memory, "x_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4\n"
                                   "x_seconds_sum{shard=\"0\"} 101.500002049\n"
                                   "x_seconds_count{shard=\"0\"} 4\n"));
    size_t lines = 0;
    for (size_t i = 0; i < out.bytes; i++) {
        lines += memory[i] == '\n';
    }
    assert_int_equal(lines, 27 + 1 + 2);
}

static void prometheus_text_without_labels_has_no_empty_braces(void **state)
{
    (void)state;
    struct hist hist = {0};
    static char memory[8192];
    struct buf out;
    buf_init(&out, memory, sizeof(memory) - 1);
    hist_write_prometheus(&out, "x", "", &hist);
    memory[out.bytes] = '\0';
    assert_int_equal(strncmp(memory, "x_bucket{le=\"0.000001024\"} 0\n", 29), 0);
    assert_non_null(strstr(memory, "x_bucket{le=\"+Inf\"} 0\nx_sum 0\nx_count 0\n"));
}

static void *add_many(void *argument)
{
    for (uint64_t i = 0; i < 200000; i++) {
        hist_add(argument, i);
    }
    return NULL;
}

static void reader_beside_the_writer_sees_sane_numbers(void **state)
{
    (void)state;
    static struct hist hist;
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, add_many, &hist), 0);
    uint64_t before = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t count = atomic_load_explicit(&hist.count, memory_order_relaxed);
        assert_true(count >= before && count <= 200000);
        assert_true(hist_quantile(&hist, 1.0) <= 262144);
        before = count;
    }
    pthread_join(writer, NULL);
    assert_int_equal(atomic_load_explicit(&hist.count, memory_order_relaxed), 200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edges_rise_and_name_their_own_bucket),
        cmocka_unit_test(edge_is_at_most_a_quarter_above_the_duration),
        cmocka_unit_test(quantiles_are_the_edges_their_ranks_fall_in),
        cmocka_unit_test(median_of_three_is_the_middle_one),
        cmocka_unit_test(quantile_beyond_the_last_edge_is_the_longest_seen),
        cmocka_unit_test(merge_adds_everything),
        cmocka_unit_test(prometheus_text_is_cumulative_and_exact),
        cmocka_unit_test(prometheus_text_without_labels_has_no_empty_braces),
        cmocka_unit_test(reader_beside_the_writer_sees_sane_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
