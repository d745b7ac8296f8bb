/*
 * lag: from the receipt of records to their delivery, over the last minutes: two histograms that take turns, so that a quantile speaks
 * of the last one to two LAG_TURN_NS. One thread.
 */
#ifndef FORWARD_LAG_H
#define FORWARD_LAG_H

#include "core/hist.h"

#define LAG_TURN_NS (60 * NS_S)

struct lag {
    struct hist hist[2];
    unsigned turn; /* which one is added to */
    uint64_t turned_at_ns;
    uint64_t last_ns;
};

/* n records that took lag_ns; now_ns: monotonic. */
void lag_add(struct lag *lag, uint64_t lag_ns, uint64_t n, uint64_t now_ns);
/* 0 when there was nothing lately. The upper edge of a bucket, at most the longest of all; beyond the histogram's range
 * the longest. */
uint64_t lag_quantile(const struct lag *lag, double quantile);

#endif
