#include "net/density.h"

void density_note(struct density *density, uint64_t gap_ns, uint32_t count)
{
    uint64_t apart_ns = gap_ns / (count > 0 ? count : 1);
    if (apart_ns >= DENSITY_IDLE_NS) {
        density->interval_ns = DENSITY_GAP_MAX_NS;
        return;
    }
    density->interval_ns = (density->interval_ns * 7 + u64_min(apart_ns, DENSITY_GAP_MAX_NS)) / 8;
}

bool density_is_high(const struct density *density)
{
    return density->interval_ns < DENSITY_INTERVAL_NS;
}
