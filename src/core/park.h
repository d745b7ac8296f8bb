/*
 * park: how an agent sleeps without losing a wake-up. One sleeper, any number of wakers. The sleep
 * itself is a wait on the agent's own ring, in which park.fd (an eventfd) is armed; this file
 * decides only whether that wait may begin and whether a waker has to spend a system call.
 *
 *   sleeper                                   waker (after publishing)
 *   park_prepare: flag = level, full barrier   full barrier, read flag
 *   look at every queue once more              flag set and work worth it? exchange(flag, 0) and
 * write(fd) work? park_cancel : wait                   else nothing: the sleeper will see the work
 *   park_cancel after the wait
 *
 * Edges: F1/F2, the two full barriers (Dekker): either the sleeper's second look sees what was
 * published, or the waker sees the flag. Publication must come before park_wake in program order;
 * park_wake completes the ordering itself.
 */
#ifndef CORE_PARK_H
#define CORE_PARK_H

#include "core/base.h"
#include "core/err.h"

#include <stdatomic.h>

enum park_level {
    PARK_AWAKE = 0,
    PARK_ANY = 1,  /* wake me for anything */
    PARK_BULK = 2, /* I am busy until I/O completes: wake me only for much work */
};

struct park {
    CACHE_LINE_ALIGNED _Atomic uint32_t level;
    int fd;                      /* eventfd, non-blocking; armed in the sleeper's ring */
    _Atomic uint64_t wake_count; /* system calls spent on waking; statistics */
};

int park_init(struct park *park, struct err *err) MUST_USE;
void park_close(struct park *park);

/* Sleeper. After this returns, look at every source of work once more before waiting. */
void park_prepare(struct park *park, enum park_level level);
/* Sleeper. Not going to sleep, or just woke up. */
void park_cancel(struct park *park);
/* Waker. is_bulk: the work would also interest a sleeper at PARK_BULK. Returns true when it spent
 * the system call. */
bool park_wake(struct park *park, bool is_bulk);
/* Sleeper. Resets the eventfd after it fired. */
void park_drain(struct park *park);

#endif
