/*
 * wheel: a hashed timer wheel for one thread: O(1) set, move and cancel, no allocation, no clock of its own. Deadlines are
 * monotonic ns rounded up to a tick; a timer fires on the first wheel_advance at or after its deadline, never before.
 */
#ifndef CORE_WHEEL_H
#define CORE_WHEEL_H

#include "core/base.h"

#define WHEEL_SLOTS 512

struct wheel_timer {
    struct wheel_timer *next; /* private; a zeroed timer is idle */
    struct wheel_timer *previous;
    uint64_t deadline_ns;
};

struct wheel {
    uint64_t tick_ns;
    uint64_t now_tick;
    size_t armed_count;
    struct wheel_timer slots[WHEEL_SLOTS]; /* list heads */
};

typedef void (*wheel_on_timer)(void *context, struct wheel_timer *timer);

void wheel_init(struct wheel *wheel, uint64_t tick_ns, uint64_t now_ns);
/* Arms or moves. */
void wheel_set(struct wheel *wheel, struct wheel_timer *timer, uint64_t deadline_ns);
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
bool wheel_is_armed(const struct wheel_timer *timer);
/* Fires everything due; on_timer may set and cancel any timer. Returns how many fired. */
size_t wheel_advance(struct wheel *wheel, uint64_t now_ns, wheel_on_timer on_timer, void *context);
/* ns until wheel_advance should be called again: one tick at most while anything is armed in the next slots, UINT64_MAX when
 * nothing is armed. */
uint64_t wheel_wait_ns(const struct wheel *wheel, uint64_t now_ns);

#endif
