/*
 * descriptors: see descriptors.h.
 */
#include "core/descriptors.h"

#include <sys/resource.h>

/* Databases, rings, listeners, event descriptors, and what is opened for a moment. */
#define BESIDES 256u
/* Text compresses to about a tenth; a segment that is left by its age is smaller still. */
#define COMPACTED_PARTS 10u
/* A log without a limit of bytes: one that nobody has thought about is not larger than this. */
#define UNLIMITED_BYTES (UINT64_C(1) << 40)

static uint64_t limit_value(rlim_t limit)
{
    return limit == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit;
}

struct descriptors descriptors_get(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return (struct descriptors){0, 0}; /* UNTESTED: fails for a bad pointer only */
    }
    return (struct descriptors){limit_value(limit.rlim_cur), limit_value(limit.rlim_max)};
}

struct descriptors descriptors_raise(void)
{
    struct rlimit limit;
    struct descriptors now = descriptors_get();
    uint64_t wanted = now.hard < DESCRIPTORS_MAX ? now.hard : DESCRIPTORS_MAX;
    if (now.soft >= wanted || getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return now;
    }
    limit.rlim_cur = (rlim_t)wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* refused: the caller sees what there is */
    return descriptors_get();
}

uint64_t descriptors_for_segments(const struct config *config)
{
    uint64_t bytes = config->retention_bytes == 0 ? UNLIMITED_BYTES : config->retention_bytes;
    uint64_t whole = config->segment_bytes == 0 ? 0 : bytes / config->segment_bytes + 1;
    return config->compacts ? whole * COMPACTED_PARTS : whole; /* whole: below 2^45 */
}

uint64_t descriptors_needed(const struct config *config)
{
    return config->max_connections + descriptors_for_segments(config) + BESIDES;
}
