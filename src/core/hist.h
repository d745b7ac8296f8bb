/*
 * hist: a log-linear histogram of durations, one writer, any reader. Each power of two from 1 us to
 * about 68 s is cut in 4 linear buckets, so a quantile is wrong by at most 25 %, in 2 x 100 words.
 * The writer's adds are relaxed: a reader may see a count without its sum, never a torn word, and
 * both catch up.
 */
#ifndef CORE_HIST_H
#define CORE_HIST_H

#include "core/base.h"
#include "core/buf.h"

#include <stdatomic.h>

#define HIST_BUCKETS 112

struct hist {
    _Atomic uint64_t buckets[HIST_BUCKETS];
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t max_ns;
};

void hist_add(struct hist *hist, uint64_t duration_ns);
/* Adds n equal observations. */
void hist_add_n(struct hist *hist, uint64_t duration_ns, uint64_t n);
/* Adds every bucket of from to into (a plain copy for readers that merge shards). */
void hist_merge(struct hist *into, const struct hist *from);
/* quantile in 0..1; the upper edge of the bucket it falls in; 0 when empty. */
uint64_t hist_quantile(const struct hist *hist, double quantile);
/* Upper edge of bucket index, inclusive. Pure. */
uint64_t hist_bucket_edge_ns(size_t index);
size_t hist_bucket_index(uint64_t duration_ns);
/* Prometheus text: NAME_bucket{LABELS,le="..."} at powers of two from 1 us, NAME_sum, NAME_count.
 * labels may be "". */
void hist_write_prometheus(struct buf *out, const char *name, const char *labels,
                           const struct hist *hist);

#endif
