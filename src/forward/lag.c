#include "forward/lag.h"

#include <string.h>

#include "core/mem.h"

void lag_add(struct lag *lag, uint64_t lag_ns, uint64_t n, uint64_t now_ns)
{
    if (now_ns - lag->turned_at_ns >= LAG_TURN_NS) {
        lag->turned_at_ns = now_ns;
        lag->turn ^= 1u;
        memset(&lag->hist[lag->turn], 0, sizeof lag->hist[lag->turn]);
    }
    lag->last_ns = lag_ns;
    hist_add_n(&lag->hist[lag->turn], lag_ns, n);
}

uint64_t lag_quantile(const struct lag *lag, double quantile)
{
    struct hist both;
    memset(&both, 0, sizeof both);
    hist_merge(&both, &lag->hist[0]);
    hist_merge(&both, &lag->hist[1]);
    uint64_t most_ns = 0;
    for (unsigned i = 0; i < 2; i++) {
        /* relaxed: one thread */
        most_ns =
            u64_max(most_ns, atomic_load_explicit(&lag->hist[i].max_ns, memory_order_relaxed));
    }
    uint64_t edge_ns = hist_quantile(&both, quantile);
    bool is_beyond = edge_ns >= hist_bucket_edge_ns(HIST_BUCKETS - 2);
    return is_beyond ? most_ns : u64_min(edge_ns, most_ns);
}
