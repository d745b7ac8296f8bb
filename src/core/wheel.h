/*
 * wheel: a hashed timer wheel for one thread: O(1) set, move and cancel, no allocation, no clock of
 * its own. Deadlines are monotonic ns rounded up to a tick; a timer fires on the first
 * wheel_advance at or after its deadline, never before.
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
    struct wheel_timer overdue; /* list head: deadlines that had passed when they were set */
    uint64_t occupied[WHEEL_SLOTS / 64]; /* a clear bit: the slot is empty; a set one: it may be */
    struct wheel_timer slots[WHEEL_SLOTS]; /* list heads */
};

typedef void (*wheel_on_timer)(void *context, struct wheel_timer *timer);

void wheel_init(struct wheel *wheel, uint64_t tick_ns, uint64_t now_ns);
/* Arms or moves. A deadline that has passed fires on the next wheel_advance, never on the one that
 * is running. */
void wheel_set(struct wheel *wheel, struct wheel_timer *timer, uint64_t deadline_ns);
void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
bool wheel_is_armed(const struct wheel_timer *timer);
/* Fires everything due; on_timer may set and cancel any timer. Returns how many fired. */
size_t wheel_advance(struct wheel *wheel, uint64_t now_ns, wheel_on_timer on_timer, void *context);
/* ns until wheel_advance should be called again: to the next tick in whose slot anything hangs
 * (never later than the next deadline; at most one turn), 0 when a timer is overdue, UINT64_MAX
 * when nothing is armed. */
uint64_t wheel_wait_ns(const struct wheel *wheel, uint64_t now_ns);

#endif
