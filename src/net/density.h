/*
 * density: how close together a shard's events come lately, which decides whether waiting a little
 * for more of them is worth its latency. Pure: numbers in, a decision out. Owned by the shard's
 * thread.
 *
 * An exponential average over some eight passes of the time between two events. One pass counts for
 * at most DENSITY_GAP_MAX_NS, so that a single long gap does not end density: on a core that others
 * want too the shard itself is kept waiting for milliseconds now and then, and a server that stopped
 * gathering each time would need three times the system calls just when the core is short. What ends
 * density is a few sparse passes in a row, or at once an event after a silence (DENSITY_IDLE_NS).
 */
#ifndef NET_DENSITY_H
#define NET_DENSITY_H

#include "core/base.h"

/* Events closer together than this make gathering worth 50 us of latency: some 50,000 events
 * (25,000 requests) a second. */
#define DENSITY_INTERVAL_NS (20 * NS_US)
/* Twice that: three or four sparse passes in a row end density, and some eight dense ones bring it back. */
#define DENSITY_GAP_MAX_NS (2 * DENSITY_INTERVAL_NS)
#define DENSITY_IDLE_NS    (10 * NS_MS)

struct density {
    uint64_t interval_ns; /* average time between events, lately */
};

/* A pass has found count events, gap_ns after the pass before it. */
void density_note(struct density *density, uint64_t gap_ns, uint32_t count);
bool density_is_high(const struct density *density);

#endif
