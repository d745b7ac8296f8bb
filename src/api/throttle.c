#include "api/throttle.h"

void throttle_init(struct throttle *throttle, bool is_enabled, uint64_t depth_max, double rate_min)
{
    ASSERT(rate_min >= 0.0);
    ASSERT(rate_min <= 1.0);
    *throttle = (struct throttle){
        .is_enabled = is_enabled,
        .depth_max = u64_max(depth_max, 1),
        .rate_min = rate_min,
        .tokens = 0.0,
        .rate = 1.0,
    };
}

double throttle_rate(const struct throttle *throttle, uint64_t depth)
{
    uint64_t half = throttle->depth_max / 2;
    if (depth <= half) {
        return 1.0;
    }
    if (depth >= throttle->depth_max) {
        return throttle->rate_min;
    }
    double beyond = (double)(depth - half) / (double)(throttle->depth_max - half);
    return 1.0 - beyond * (1.0 - throttle->rate_min);
}

bool throttle_admit(struct throttle *throttle, uint64_t depth)
{
    if (!throttle->is_enabled) {
        return true;
    }
    throttle->rate = throttle_rate(throttle, depth);
    /* Needs no cap: a token is spent as soon as there is one, so the bucket stays below two. */
    throttle->tokens += throttle->rate;
    if (throttle->tokens < 1.0) {
        return false;
    }
    throttle->tokens -= 1.0;
    return true;
}
