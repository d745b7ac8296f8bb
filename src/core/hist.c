/*
 * hist: durations in log-linear buckets. One thread adds, any thread reads. Cannot fail; what is
 * longer than the last edge is counted in the last bucket, which has none.
 *
 *   buckets 0-3      (0, 1024] ns in quarters of 256 ns (0 itself counts here)
 *   buckets 4-7      (1024, 2048] in quarters of 256 ns
 *   ...              one octave, (2^k, 2^(k+1)] in quarters, for each k = 10 .. 35: to 68.7 s
 *   buckets 108-110  three quarters of the next octave
 *   bucket 111       everything above
 */
#include "core/hist.h"

#define OCTAVE_FIRST 10u /* 2^10 ns is the power of two next to a microsecond */
#define OCTAVE_LAST  36u

_Static_assert(4 + 4 * (OCTAVE_LAST - OCTAVE_FIRST + 1) == HIST_BUCKETS,
               "every octave has four buckets, and the first microsecond has four");

/* relaxed everywhere below: only the owner writes, so a load and a store lose nothing, and a reader
 * that sees one word before another sees a histogram of a moment ago. */
static void word_add(_Atomic uint64_t *word, uint64_t n)
{
    uint64_t value = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, value + n, memory_order_relaxed);
}

static uint64_t word_get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

size_t hist_bucket_index(uint64_t duration_ns)
{
    /* One less makes the upper edges inclusive, as Prometheus's le wants them. */
    uint64_t value = duration_ns > 0 ? duration_ns - 1 : 0;
    if (value < (1u << OCTAVE_FIRST)) {
        return value >> (OCTAVE_FIRST - 2);
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(value);
    if (octave > OCTAVE_LAST) {
        return HIST_BUCKETS - 1;
    }
    return 4 * (size_t)(octave - OCTAVE_FIRST + 1) + ((value >> (octave - 2)) & 3);
}

uint64_t hist_bucket_edge_ns(size_t index)
{
    ASSERT(index < HIST_BUCKETS);
    if (index == HIST_BUCKETS - 1) {
        return UINT64_MAX;
    }
    if (index < 4) {
        return (index + 1) << (OCTAVE_FIRST - 2);
    }
    size_t octave = OCTAVE_FIRST + index / 4 - 1;
    return (uint64_t)(5 + index % 4) << (octave - 2);
}

void hist_add_n(struct hist *hist, uint64_t duration_ns, uint64_t n)
{
    if (n == 0) {
        return;
    }
    word_add(&hist->buckets[hist_bucket_index(duration_ns)], n);
    word_add(&hist->sum_ns, duration_ns * n);
    word_add(&hist->count, n);
    if (duration_ns > word_get(&hist->max_ns)) {
        atomic_store_explicit(&hist->max_ns, duration_ns, memory_order_relaxed); /* as above */
    }
}

void hist_add(struct hist *hist, uint64_t duration_ns)
{
    hist_add_n(hist, duration_ns, 1);
}

void hist_merge(struct hist *into, const struct hist *from)
{
    ASSERT(into != from);
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        word_add(&into->buckets[i], word_get(&from->buckets[i]));
    }
    word_add(&into->count, word_get(&from->count));
    word_add(&into->sum_ns, word_get(&from->sum_ns));
    uint64_t max_ns = u64_max(word_get(&into->max_ns), word_get(&from->max_ns));
    atomic_store_explicit(&into->max_ns, max_ns, memory_order_relaxed); /* as above */
}

/* count may run ahead of the buckets or behind; a reader that walks the buckets adds them up
 * itself. */
static uint64_t bucket_total(const struct hist *hist)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        total += word_get(&hist->buckets[i]);
    }
    return total;
}

uint64_t hist_quantile(const struct hist *hist, double quantile)
{
    ASSERT(quantile >= 0.0 && quantile <= 1.0);
    uint64_t total = bucket_total(hist);
    if (total == 0) {
        return 0;
    }
    double exact = quantile * (double)total;
    uint64_t rank = (uint64_t)exact;
    rank += (double)rank < exact;
    rank = u64_max(rank, 1);
    uint64_t seen = 0;
    for (size_t i = 0; i < HIST_BUCKETS - 1; i++) {
        seen += word_get(&hist->buckets[i]);
        if (seen >= rank) {
            return hist_bucket_edge_ns(i);
        }
    }
    return word_get(
        &hist->max_ns); /* The last bucket has no edge; the longest of all is the best bound. */
}

/* Nanoseconds as decimal seconds without a float's rounding, e.g. 1024 as 0.000001024. */
static void put_seconds(struct buf *out, uint64_t ns)
{
    char fraction[9];
    uint64_t rest = ns % NS_S;
    for (size_t i = sizeof(fraction); i > 0; i--) {
        fraction[i - 1] = (char)('0' + rest % 10);
        rest /= 10;
    }
    size_t digits = sizeof(fraction);
    while (digits > 0 && fraction[digits - 1] == '0') {
        digits--;
    }
    buf_put_u64(out, ns / NS_S);
    if (digits > 0) {
        buf_put_char(out, '.');
        buf_put(out, fraction, digits);
    }
}

static void put_bucket_head(struct buf *out, const char *name, const char *labels)
{
    buf_put_text(out, name);
    buf_put_text(out, "_bucket{");
    if (labels[0] != '\0') {
        buf_put_text(out, labels);
        buf_put_char(out, ',');
    }
    buf_put_text(out, "le=\"");
}

static void put_series(struct buf *out, const char *name, const char *suffix, const char *labels)
{
    buf_put_text(out, name);
    buf_put_text(out, suffix);
    if (labels[0] != '\0') {
        buf_put_char(out, '{');
        buf_put_text(out, labels);
        buf_put_char(out, '}');
    }
    buf_put_char(out, ' ');
}

void hist_write_prometheus(struct buf *out, const char *name, const char *labels,
                           const struct hist *hist)
{
    ASSERT(name != NULL);
    ASSERT(labels != NULL);
    uint64_t seen = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        seen += word_get(&hist->buckets[i]);
        bool is_octave_end = i % 4 == 3 && i < HIST_BUCKETS - 4;
        if (is_octave_end) {
            put_bucket_head(out, name, labels);
            put_seconds(out, hist_bucket_edge_ns(i));
            buf_put_text(out, "\"} ");
            buf_put_u64(out, seen);
            buf_put_char(out, '\n');
        }
    }
    put_bucket_head(out, name, labels);
    buf_put_text(out, "+Inf\"} ");
    buf_put_u64(out, seen);
    buf_put_char(out, '\n');
    put_series(out, name, "_sum", labels);
    put_seconds(out, word_get(&hist->sum_ns));
    buf_put_char(out, '\n');
    /* The sum of the buckets, not count, because the format requires the two to be equal. */
    put_series(out, name, "_count", labels);
    buf_put_u64(out, seen);
    buf_put_char(out, '\n');
}
