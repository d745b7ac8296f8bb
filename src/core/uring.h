/*
 * uring: what liburing 2.3 (Debian 12) does not know yet. Header-only: guards and constants, no
 * code, no state.
 *
 * Two kinds of gaps. A macro that is missing can be guarded with #ifndef and keeps its kernel name.
 * An enumerator that is missing cannot be seen by the preprocessor (and would collide when a newer
 * liburing declares it), so it gets a name of our own, URING_*, with the number from the kernel's
 * ABI, which never changes.
 *
 * Do not use io_uring_enable_rings or io_uring_register_restrictions: 2.3 declares them and its
 * shared library does not export them. Nothing here needs them, because each ring is created by the
 * thread that owns it.
 */
#ifndef CORE_URING_H
#define CORE_URING_H

#include <liburing.h>

/* --- macros: kernel names, guarded
 * ------------------------------------------------------------------------------- */

/* io_uring_setup flags; 6.5, 6.6. */
#ifndef IORING_SETUP_NO_MMAP
#define IORING_SETUP_NO_MMAP (1U << 14)
#endif
#ifndef IORING_SETUP_REGISTERED_FD_ONLY
#define IORING_SETUP_REGISTERED_FD_ONLY (1U << 15)
#endif
#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

/* Features reported by io_uring_setup; 6.3, 6.10, 6.12 and later. */
#ifndef IORING_FEAT_REG_REG_RING
#define IORING_FEAT_REG_REG_RING (1U << 13)
#endif
#ifndef IORING_FEAT_RECVSEND_BUNDLE
#define IORING_FEAT_RECVSEND_BUNDLE (1U << 14)
#endif
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif
#ifndef IORING_FEAT_RW_ATTR
#define IORING_FEAT_RW_ATTR (1U << 16)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif

/* sqe->ioprio of send and recv; 6.2, 6.10. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_RECVSEND_BUNDLE
#define IORING_RECVSEND_BUNDLE (1U << 4)
#endif

/* sqe->ioprio of accept; 6.10. */
#ifndef IORING_ACCEPT_DONTWAIT
#define IORING_ACCEPT_DONTWAIT (1U << 1)
#endif
#ifndef IORING_ACCEPT_POLL_FIRST
#define IORING_ACCEPT_POLL_FIRST (1U << 2)
#endif

/* cqe->flags: more will come into the same buffer (incremental buffers); 6.12. */
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4)
#endif

/* Timeouts that fire again; 6.4. */
#ifndef IORING_TIMEOUT_MULTISHOT
#define IORING_TIMEOUT_MULTISHOT (1U << 6)
#endif

/* --- enumerators: our names, the kernel's numbers
 * ------------------------------------------------------------------ */

#define URING_OP_READ_MULTISHOT 49
#define URING_OP_FUTEX_WAIT     51
#define URING_OP_FUTEX_WAKE     52
#define URING_OP_FTRUNCATE      55

#define URING_REGISTER_ENABLE_RINGS                                                                \
    12 /* exists in 2.3; by number, so that nobody needs the wrapper that does not link */
#define URING_REGISTER_PBUF_STATUS 26
#define URING_REGISTER_NAPI        27
#define URING_REGISTER_CLOCK       29

/* io_uring_buf_reg.flags (2.3 calls the field pad); 6.4 and 6.12. */
#define URING_PBUF_RING_MMAP        1
#define URING_PBUF_RING_INCREMENTAL 2

/* --- the one mode we run in
 * ---------------------------------------------------------------------------------------- */

/* SINGLE_ISSUER and DEFER_TASKRUN are the baseline (6.1): without them the answer is the epoll
 * backend, not a third mode. TASKRUN_FLAG lets liburing's peek know that the kernel has to be
 * entered (2.3 does so only then). CQSIZE needs params.cq_entries; CLAMP turns a size beyond the
 * kernel's limit into that limit. */
#define URING_SETUP_BASE                                                                           \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |           \
     IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
#define URING_SETUP_BEST (URING_SETUP_BASE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)

#endif
