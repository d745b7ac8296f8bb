/*
 * park: the flag and the eventfd of one sleeper, as park.h describes. The sleeper owns level's
 * non-zero values; wakers only ever take them away. It fails in park_init only; a wake that finds
 * the eventfd's counter full is a wake already under way.
 *
 * The hazard is a store followed by a load of another word, which every machine may swap:
 *
 *   sleeper                            waker
 *     level = ANY                        tail = P        (R1, in spsc_publish)
 *     F1                                 F2
 *     read tail (A1)                     read level
 *
 * Without both barriers each side may read the old value of the other's word: the sleeper sleeps on
 * a full ring and nobody wakes it. With them one of the two must see the other's store
 * (C17 7.17.3p11: F1 and F2 have a place in the one order of sequentially consistent fences;
 * whichever comes second, the load behind it sees the store before the first). That is the
 * language's own guarantee, not x86's; the model check (tests/unit/core/test_park_model.c) explores
 * both.
 *
 * Under ThreadSanitizer, which does not understand fences, the same promise is kept by
 * read-modify-writes of level alone: every access to it becomes a link of one chain. If the waker's
 * link comes after the sleeper's, it reads the flag; if before, the sleeper's acquires what the
 * waker released, tail included. This needs no fence on any machine, but costs each waker the
 * exclusive ownership of a line that it otherwise shares, once per pass: with many shards and one
 * writer that is a line that never rests. Therefore fences are what ships.
 */
#include "core/park.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define PARK_BY_RMW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PARK_BY_RMW 1
#endif
#endif
#ifndef PARK_BY_RMW
#define PARK_BY_RMW 0
#endif

_Static_assert(sizeof(struct park) % (2 * CACHE_LINE_BYTES) == 0,
               "wakers' reads of level share no line with a neighbour");

int park_init(struct park *park, struct err *err)
{
    park->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (park->fd < 0) {
        int code = -errno;
        return err_set(err, code, "create the eventfd that wakes an agent: %s", err_name(code));
    }
    /* relaxed, both: no other thread knows the park yet. */
    atomic_store_explicit(&park->level, PARK_AWAKE, memory_order_relaxed);
    atomic_store_explicit(&park->wake_count, 0, memory_order_relaxed);
    return 0;
}

void park_close(struct park *park)
{
    if (park->fd >= 0) {
        close(park->fd);
    }
    park->fd = -1;
}

#if PARK_BY_RMW

/* F1, the chain: acquire takes what earlier wakers released; release is for symmetry with the
 * fence. */
static void sleeper_announce(struct park *park, uint32_t level)
{
    (void)atomic_exchange_explicit(&park->level, level, memory_order_acq_rel);
}

/* A plain store would break the chain that the next announcement acquires through. */
static void sleeper_withdraw(struct park *park)
{
    (void)atomic_exchange_explicit(&park->level, PARK_AWAKE, memory_order_acq_rel);
}

/* F2, the chain: adds nothing, releases what was published and returns the flag. */
static uint32_t waker_look(struct park *park)
{
    return atomic_fetch_add_explicit(&park->level, 0, memory_order_acq_rel);
}

#else

static void sleeper_announce(struct park *park, uint32_t level)
{
    /* relaxed: F1 orders it. */
    atomic_store_explicit(&park->level, level, memory_order_relaxed);
    /* F1: the flag before the second look at every queue; pairs with F2 in waker_look. */
    atomic_thread_fence(memory_order_seq_cst);
}

static void sleeper_withdraw(struct park *park)
{
    /* relaxed: a waker that still sees the flag spends one system call too many, and that is all.
     */
    atomic_store_explicit(&park->level, PARK_AWAKE, memory_order_relaxed);
}

static uint32_t waker_look(struct park *park)
{
    /* F2: what was published before the flag is read; pairs with F1 in sleeper_announce. */
    atomic_thread_fence(memory_order_seq_cst);
    /* relaxed: F2 orders it; the value decides only about a system call. */
    return atomic_load_explicit(&park->level, memory_order_relaxed);
}

#endif

void park_prepare(struct park *park, enum park_level level)
{
    ASSERT(level == PARK_ANY || level == PARK_BULK);
    sleeper_announce(park, level);
}

void park_cancel(struct park *park)
{
    sleeper_withdraw(park);
}

/* The kernel wakes whoever waits on fd; the counter keeps the wake for a sleeper that has not begun
 * to wait. */
static void signal_sleeper(struct park *park)
{
    uint64_t one = 1;
    ssize_t r = write(park->fd, &one, sizeof one);
    /* EAGAIN: the counter is at its limit, so fd is readable already. Nothing else can happen to a
     * valid eventfd. */
    ASSERT(r == (ssize_t)sizeof one || errno == EAGAIN);
    /* relaxed: a statistic. */
    atomic_fetch_add_explicit(&park->wake_count, 1, memory_order_relaxed);
}

bool park_wake(struct park *park, bool is_bulk)
{
    uint32_t level = waker_look(park);
    if (LIKELY(level == PARK_AWAKE)) {
        return false;
    }
    if (level == PARK_BULK && !is_bulk) {
        return false;
    }
    /* relaxed: it only elects the one waker that pays; the sleeper's next announcement is ordered
     * by its own barrier. The sleeper may have woken, changed its level and lain down again since
     * the look: then this takes the newer flag away and wakes it for nothing, which is allowed,
     * whereas taking a flag without waking is not. */
    if (atomic_exchange_explicit(&park->level, PARK_AWAKE, memory_order_relaxed) == PARK_AWAKE) {
        return false;
    }
    signal_sleeper(park);
    return true;
}

void park_drain(struct park *park)
{
    uint64_t count = 0;
    ssize_t r = read(park->fd, &count, sizeof count);
    /* EAGAIN: nobody fired it, or it was drained before. */
    ASSERT(r == (ssize_t)sizeof count || errno == EAGAIN);
}
