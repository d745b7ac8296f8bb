/*
 * wheel: a hashed timer wheel. One thread owns it and all its timers; no I/O, no clock, no
 * allocation. Cannot fail.
 *
 * A timer hangs in the slot of its tick modulo WHEEL_SLOTS; one that is more than a turn away stays
 * there until its turn comes. A deadline that has already passed when it is set goes to the list of
 * overdue timers, which the next advance fires first, also within the same tick.
 */
#include "core/wheel.h"

#include <string.h>

_Static_assert((WHEEL_SLOTS & (WHEEL_SLOTS - 1)) == 0, "a slot is found with a mask");
_Static_assert(WHEEL_SLOTS % 64 == 0, "the occupied bits are whole words");

static void list_init(struct wheel_timer *head)
{
    head->next = head;
    head->previous = head;
}

static bool list_is_empty(const struct wheel_timer *head)
{
    return head->next == head;
}

static void list_append(struct wheel_timer *head, struct wheel_timer *timer)
{
    timer->next = head;
    timer->previous = head->previous;
    head->previous->next = timer;
    head->previous = timer;
}

static void list_unlink(struct wheel_timer *timer)
{
    timer->previous->next = timer->next;
    timer->next->previous = timer->previous;
    timer->next = NULL;
    timer->previous = NULL;
}

/* Moves everything from one list to the end of another. */
static void list_splice(struct wheel_timer *to, struct wheel_timer *from)
{
    if (list_is_empty(from)) {
        return;
    }
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

void wheel_init(struct wheel *wheel, uint64_t tick_ns, uint64_t now_ns)
{
    ASSERT(wheel != NULL);
    ASSERT(tick_ns > 0);
    memset(wheel, 0, sizeof(*wheel));
    wheel->tick_ns = tick_ns;
    wheel->now_tick = now_ns / tick_ns;
    for (size_t i = 0; i < WHEEL_SLOTS; i++) {
        list_init(&wheel->slots[i]);
    }
    list_init(&wheel->overdue);
}

bool wheel_is_armed(const struct wheel_timer *timer)
{
    return timer->next != NULL;
}

void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer)
{
    if (!wheel_is_armed(timer)) {
        return;
    }
    ASSERT(wheel->armed_count > 0);
    list_unlink(
        timer); /* The slot's occupied bit may stay; it is looked at again by whoever reads it. */
    wheel->armed_count--;
}

void wheel_set(struct wheel *wheel, struct wheel_timer *timer, uint64_t deadline_ns)
{
    ASSERT(timer != NULL);
    wheel_cancel(wheel, timer);
    timer->deadline_ns = deadline_ns;
    uint64_t tick = deadline_ns / wheel->tick_ns + (deadline_ns % wheel->tick_ns != 0);
    wheel->armed_count++;
    if (tick <= wheel->now_tick) {
        list_append(&wheel->overdue, timer);
        return;
    }
    size_t slot = tick & (WHEEL_SLOTS - 1);
    list_append(&wheel->slots[slot], timer);
    wheel->occupied[slot / 64] |= 1ull << (slot % 64);
}

/* Moves what is due by limit_ns from one slot to the firing list; timers of later turns stay. */
static void slot_collect(struct wheel *wheel, size_t slot, uint64_t limit_ns,
                         struct wheel_timer *firing)
{
    uint64_t bit = 1ull << (slot % 64);
    if ((wheel->occupied[slot / 64] & bit) == 0) {
        return;
    }
    struct wheel_timer *head = &wheel->slots[slot];
    struct wheel_timer *timer = head->next;
    while (timer != head) { /* Bounded by armed_count. */
        struct wheel_timer *next = timer->next;
        if (timer->deadline_ns <= limit_ns) {
            list_unlink(timer);
            list_append(firing, timer);
        }
        timer = next;
    }
    if (list_is_empty(head)) {
        wheel->occupied[slot / 64] &= ~bit;
    }
}

size_t wheel_advance(struct wheel *wheel, uint64_t now_ns, wheel_on_timer on_timer, void *context)
{
    ASSERT(on_timer != NULL);
    /* A caller's cached clock may lie a little behind: time stands still then. */
    uint64_t target = u64_max(now_ns / wheel->tick_ns, wheel->now_tick);
    struct wheel_timer firing;
    list_init(&firing);
    list_splice(&firing, &wheel->overdue);
    /* After a jump of more than one turn every slot is looked at once. */
    uint64_t steps = u64_min(target - wheel->now_tick, WHEEL_SLOTS);
    for (uint64_t i = 1; i <= steps; i++) {
        slot_collect(wheel, (wheel->now_tick + i) & (WHEEL_SLOTS - 1), target * wheel->tick_ns,
                     &firing);
    }
    wheel->now_tick = target;
    /* The callback may set and cancel any timer, also one of this list. What it arms anew is beyond
     * target or overdue, never in this list again, so the loop ends. */
    size_t fired = 0;
    while (!list_is_empty(&firing)) {
        struct wheel_timer *timer = firing.next;
        list_unlink(timer);
        ASSERT(wheel->armed_count > 0);
        wheel->armed_count--;
        fired++;
        on_timer(context, timer);
    }
    return fired;
}

/* The tick of the first slot after now_tick in which a timer hangs (perhaps one of a later turn).
 * Bits of slots that were emptied by cancels are passed over. armed_count must not be 0. */
static uint64_t first_occupied_tick(const struct wheel *wheel)
{
    uint64_t tick = wheel->now_tick + 1;
    const uint64_t end = tick + WHEEL_SLOTS;
    while (tick < end) { /* At most one step per slot or word. */
        size_t slot = tick & (WHEEL_SLOTS - 1);
        uint64_t bits = wheel->occupied[slot / 64] >> (slot % 64);
        if (bits == 0) {
            tick += 64 - slot % 64;
            continue;
        }
        tick += (uint64_t)__builtin_ctzll(bits);
        if (!list_is_empty(&wheel->slots[tick & (WHEEL_SLOTS - 1)])) {
            return tick;
        }
        tick++;
    }
    return end; /* Only overdue timers or none; callers have looked. */
}

uint64_t wheel_wait_ns(const struct wheel *wheel, uint64_t now_ns)
{
    if (wheel->armed_count == 0) {
        return UINT64_MAX;
    }
    if (!list_is_empty(&wheel->overdue)) {
        return 0;
    }
    uint64_t due_ns = first_occupied_tick(wheel) * wheel->tick_ns;
    return due_ns > now_ns ? due_ns - now_ns : 0;
}
