/*
 * throttle: the token bucket of the pipeline documents (api.md §6). While the queue is at most half
 * of max_depth everything is admitted; beyond, the admitted share falls linearly to rate_min at
 * max_depth and stays there. Pure but for its bucket.
 */
#ifndef API_THROTTLE_H
#define API_THROTTLE_H

#include "core/base.h"

struct throttle {
    bool is_enabled;
    uint64_t depth_max;
    double rate_min; /* 0..1 */
    double tokens;   /* 0..2 */
    double rate;     /* last value of the curve, for /metrics */
};

void throttle_init(struct throttle *throttle, bool is_enabled, uint64_t depth_max, double rate_min);
/* The curve. Pure. */
double throttle_rate(const struct throttle *throttle, uint64_t depth);
/* Every request brings `rate` tokens and needs one: of many requests exactly that share is
 * admitted, evenly spread. */
bool throttle_admit(struct throttle *throttle, uint64_t depth);

#endif
