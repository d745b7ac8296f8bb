/*
 * agent: a thread with one duty. The runner knows nothing but a function: it names the thread, pins
 * it where asked, sets its role, and calls duty until stop; how the agent idles is the duty's
 * business (it waits on its own ring). Each duty call stamps heartbeat_ns, which health reads.
 */
#ifndef CORE_AGENT_H
#define CORE_AGENT_H

#include "core/base.h"
#include "core/err.h"

#include <pthread.h>
#include <stdatomic.h>

/* One pass of everything the agent does. Returns 0 to be called again, 1 when it has finished its
 * orderly stop, negative when it cannot go on (the process stops with the error). */
typedef int (*agent_duty)(void *context);

struct agent_options {
    const char *name; /* at most 15 bytes, shown by ps and perf */
    enum role role;
    int cpu; /* -1: not pinned */
    void *context;
    int (*on_start)(void *context,
                    struct err *err); /* in the new thread: rings are created by their owner */
    agent_duty duty;
    void (*on_stop)(void *context); /* in the thread, after the last duty */
};

struct agent {
    struct agent_options options;
    pthread_t thread;
    _Atomic int state; /* 0 starting, 1 running, 2 finished; negative: failed */
    CACHE_LINE_ALIGNED _Atomic uint64_t heartbeat_ns;
    struct err err;   /* readable once state is negative */
    int start_result; /* private to the start: what agent_start returns, guarded by its mutex */
};

/* Starts the thread and waits until on_start has run. A failure of the thread, its affinity or
 * on_start is returned here, and no thread is left; a duty that fails, however soon, is seen by
 * agent_is_finished. The thread takes no signals but those of its own faults. */
int agent_start(struct agent *agent, const struct agent_options *options, struct err *err) MUST_USE;
/* Joins a thread whose duty has returned non-zero (the caller asked it to stop by the agent's own
 * means). */
void agent_join(struct agent *agent);
bool agent_is_finished(const struct agent *agent);

#endif
