/*
 * uring_probe: what io_uring is here, found by doing it. Start-up and tools only (it blocks for up
 * to a few 100 ms when memory is short); a ring belongs to the thread that creates it.
 *
 * Two kinds of failure. Unavailable (old kernel, seccomp, sysctl): the epoll backend stands in. Out
 * of something (locked memory, descriptors): an error that the operator mends, because running
 * slower without saying so helps nobody. Some sandboxes kill the caller instead of refusing; that
 * cannot be probed from inside.
 */
#ifndef CORE_URING_PROBE_H
#define CORE_URING_PROBE_H

#include "core/base.h"
#include "core/err.h"

struct io_uring;

struct uring_caps {
    bool has_ring;           /* the baseline: SINGLE_ISSUER and DEFER_TASKRUN */
    bool has_taskrun_flag;   /* COOP_TASKRUN and TASKRUN_FLAG as well */
    bool has_recv_multishot; /* multishot receive into a provided-buffer ring moved real bytes */
    bool has_bundles;        /* the kernel offers send and receive bundles (6.10) */
    bool has_min_timeout;    /* and waits with a minimum (6.12) */
    unsigned features;       /* IORING_FEAT_* as the kernel said */
};

/* Creates a small ring and passes bytes over a socket pair with multishot receive. 0 when
 * everything the server's io_uring backend needs works; else -errno, and err says why and what to
 * do. caps is filled either way. */
int uring_probe(struct uring_caps *caps, struct err *err) MUST_USE;

/* Creates a ring with the best flags the kernel takes (core/uring.h), retrying short memory for 300
 * ms. In the thread that will use it. *setup_flags (may be NULL) says which. */
int uring_create(struct io_uring *ring, unsigned sq_entries, unsigned cq_entries,
                 unsigned *setup_flags, struct err *err) MUST_USE;

/* Puts the cause of a failed set-up and its mend into err; returns result. */
int uring_explain(struct err *err, int result);
/* True when a failed set-up means "not here" rather than "not enough". Pure. */
bool uring_is_unavailable(int result);

#endif
