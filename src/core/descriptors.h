/*
 * descriptors: how many files this process may have open, and how many its configuration may come to
 * need: a connection each, and one for each segment of the log, which readers keep open. Main thread
 * at start, and `sluice doctor`.
 */
#ifndef CORE_DESCRIPTORS_H
#define CORE_DESCRIPTORS_H

#include "core/config.h"

struct descriptors {
    uint64_t soft; /* what counts now; UINT64_MAX: no limit */
    uint64_t hard; /* what this process may raise it to by itself */
};

/* What the kernel says. Unknown (0, 0) when it says nothing. */
struct descriptors descriptors_get(void);
/* Raises the soft limit to the hard one, at most DESCRIPTORS_MAX (the kernel's usual fs.nr_open);
 * never lowers it. Returns what there is then. Cannot fail: what could not be raised stays. */
struct descriptors descriptors_raise(void);
#define DESCRIPTORS_MAX (1u << 20)

/* An estimate from above for ordinary data. Pure. */
uint64_t descriptors_needed(const struct config *config);
/* Of those, what the segments of a full log take. Pure. */
uint64_t descriptors_for_segments(const struct config *config);

#endif
