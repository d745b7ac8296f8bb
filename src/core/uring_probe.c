/*
 * uring_probe: see the header. Any thread, blocking; owns nothing after it returns but the ring of
 * uring_create.
 */
#include "core/uring_probe.h"

#include "core/mem.h"
#include "core/uring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A previous process' ring memory is given back a moment after it has gone: so many tries, so long
 * between them. */
#define URING_MEMORY_TRIES 4
#define URING_MEMORY_PAUSE (100 * (long)NS_MS)

#define PROBE_BUFFERS      4u
#define PROBE_BUFFER_BYTES 1024u
#define PROBE_GROUP        7
#define PROBE_WAIT_NS      (500 * NS_MS)

bool uring_is_unavailable(int result)
{
    return result == -ENOSYS || result == -EPERM || result == -EACCES || result == -EOPNOTSUPP ||
           result == -EINVAL;
}

/* The first number after `prefix` in a small file of /proc; -1 when there is none. */
static long uring_read_number(const char *path, const char *prefix)
{
    char text[4096];
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        return -1;
    }
    size_t bytes = fread(text, 1, sizeof text - 1, stream);
    (void)fclose(stream);
    text[bytes] = '\0';
    const char *at = strstr(text, prefix);
    if (at == NULL) {
        return -1;
    }
    char *end = NULL;
    long number = strtol(at + strlen(prefix), &end, 10);
    return end == at + strlen(prefix) ? -1 : number;
}

static int uring_explain_refusal(struct err *err, int result)
{
    long disabled = uring_read_number("/proc/sys/kernel/io_uring_disabled", "");
    long seccomp = uring_read_number("/proc/self/status", "\nSeccomp:");
    if (disabled > 0) {
        return err_set(err, result,
                       "io_uring is switched off here (kernel.io_uring_disabled = %ld): set it to "
                       "0 with sysctl",
                       disabled);
    }
    if (seccomp == 2) {
        return err_set(
            err, result,
            "io_uring is refused by a seccomp filter, as containers have by default (%s): allow "
            "io_uring_setup, "
            "io_uring_enter and io_uring_register in the profile",
            err_name(result));
    }
    return err_set(err, result, "io_uring is refused here (%s): allow it for this process",
                   err_name(result));
}

int uring_explain(struct err *err, int result)
{
    struct rlimit limit = {0, 0};
    switch (result) {
    case -ENOSYS:
        return err_set(
            err, result,
            "this kernel or sandbox has no io_uring (%s): Sluice needs a kernel from 6.1",
            err_name(result));
    case -EPERM:
    case -EACCES:
    case -EOPNOTSUPP:
        return uring_explain_refusal(err, result);
    case -EINVAL:
        return err_set(
            err, result,
            "this kernel's io_uring lacks DEFER_TASKRUN (it came with 6.1): Sluice needs a "
            "newer kernel");
    case -ENOMEM:
        (void)getrlimit(RLIMIT_MEMLOCK, &limit);
        return err_set(err, result,
                       "io_uring has no memory for its rings (locked memory limit %llu KiB for "
                       "this user): raise it "
                       "(LimitMEMLOCK=infinity in the unit, --ulimit memlock=-1 for a container)",
                       (unsigned long long)limit.rlim_cur / 1024);
    case -EMFILE:
    case -ENFILE:
        return err_set(
            err, result,
            "io_uring needs a descriptor (%s): raise the limit (ulimit -n, LimitNOFILE=)",
            err_name(result));
    default:
        return err_set(err, result, "io_uring set-up failed: %s", err_name(result));
    }
}

static int uring_try(struct io_uring *ring, unsigned sq_entries, unsigned cq_entries,
                     unsigned flags)
{
    int r = -ENOMEM;
    for (int i = 0; i < URING_MEMORY_TRIES && r == -ENOMEM; i++) {
        if (i > 0) {
            struct timespec pause = {.tv_sec = 0, .tv_nsec = URING_MEMORY_PAUSE};
            (void)nanosleep(&pause, NULL);
        }
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        params.flags = flags;
        params.cq_entries = cq_entries;
        r = io_uring_queue_init_params(sq_entries, ring, &params);
    }
    return r;
}

int uring_create(struct io_uring *ring, unsigned sq_entries, unsigned cq_entries,
                 unsigned *setup_flags, struct err *err)
{
    ASSERT(is_power_of_two(sq_entries));
    ASSERT(cq_entries >= sq_entries);
    unsigned flags = URING_SETUP_BEST;
    int r = uring_try(ring, sq_entries, cq_entries, flags);
    if (r == -EINVAL) {
        flags = URING_SETUP_BASE;
        r = uring_try(ring, sq_entries, cq_entries, flags);
    }
    if (r < 0) {
        return uring_explain(err, r);
    }
    if (setup_flags != NULL) {
        *setup_flags = flags;
    }
    return 0;
}

/* --- the self-test: bytes over a socket pair into provided buffers
 * ------------------------------------------------- */

struct probe {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *memory;
    int sockets[2];
};

static size_t probe_ring_bytes(void)
{
    return 4096; /* PROBE_BUFFERS entries of 16 bytes, on a page of their own */
}

static int probe_register_buffers(struct probe *probe)
{
    struct io_uring_buf_reg reg;
    memset(&reg, 0, sizeof reg);
    reg.ring_addr = (uint64_t)(uintptr_t)probe->buffers;
    reg.ring_entries = PROBE_BUFFERS;
    reg.bgid = PROBE_GROUP;
    int r = io_uring_register_buf_ring(&probe->ring, &reg, 0);
    if (r < 0) {
        return r;
    }
    io_uring_buf_ring_init(probe->buffers);
    for (unsigned i = 0; i < PROBE_BUFFERS; i++) {
        io_uring_buf_ring_add(probe->buffers, probe->memory + (size_t)i * PROBE_BUFFER_BYTES,
                              PROBE_BUFFER_BYTES, (unsigned short)i,
                              io_uring_buf_ring_mask(PROBE_BUFFERS), (int)i);
    }
    io_uring_buf_ring_advance(probe->buffers, (int)PROBE_BUFFERS);
    return 0;
}

/* One message out, one completion in: the bytes must be the ones sent, in the buffer it names, with
 * the request still armed. */
static int probe_exchange(struct probe *probe, const char *message)
{
    struct io_uring_cqe *cqe = NULL;
    struct __kernel_timespec wait = {.tv_sec = 0, .tv_nsec = (long long)PROBE_WAIT_NS};
    size_t bytes = strlen(message);
    if (send(probe->sockets[1], message, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) {
        return -errno;
    }
    int r = io_uring_submit_and_wait_timeout(&probe->ring, &cqe, 1, &wait, NULL);
    if (r < 0) {
        return r;
    }
    if (cqe == NULL) {
        return -ETIME;
    }
    unsigned buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    unsigned flags = cqe->flags & (IORING_CQE_F_BUFFER | IORING_CQE_F_MORE);
    int result = cqe->res;
    io_uring_cqe_seen(&probe->ring, cqe);
    if (result < 0) {
        return result;
    }
    bool is_right = (size_t)result == bytes && flags == (IORING_CQE_F_BUFFER | IORING_CQE_F_MORE) &&
                    buffer < PROBE_BUFFERS;
    if (!is_right ||
        memcmp(probe->memory + (size_t)buffer * PROBE_BUFFER_BYTES, message, bytes) != 0) {
        return -EBADMSG;
    }
    return 0;
}

static int probe_receive(struct probe *probe)
{
    int r = probe_register_buffers(probe);
    if (r < 0) {
        return r;
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(&probe->ring);
    ASSERT(sqe != NULL);
    io_uring_prep_recv_multishot(sqe, probe->sockets[0], NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = PROBE_GROUP;
    r = probe_exchange(probe, "first");
    return r < 0 ? r : probe_exchange(probe, "second, by the same request");
}

static int probe_self_test(struct probe *probe)
{
    int r = -ENOMEM;
    probe->buffers = mem_map(probe_ring_bytes());
    probe->memory = mem_map((size_t)PROBE_BUFFERS * PROBE_BUFFER_BYTES);
    if (probe->buffers == NULL || probe->memory == NULL) {
        goto unmap; /* UNTESTED: 8 KiB that the system does not have */
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, probe->sockets) < 0) {
        r = -errno;
        goto unmap;
    }
    r = probe_receive(probe);
    (void)close(probe->sockets[0]);
    (void)close(probe->sockets[1]);
unmap:
    /* The ring goes first: the kernel must not fill memory that is gone. */
    io_uring_queue_exit(&probe->ring);
    if (probe->buffers != NULL) {
        mem_unmap(probe->buffers, probe_ring_bytes());
    }
    if (probe->memory != NULL) {
        mem_unmap(probe->memory, (size_t)PROBE_BUFFERS * PROBE_BUFFER_BYTES);
    }
    return r;
}

int uring_probe(struct uring_caps *caps, struct err *err)
{
    struct probe probe;
    unsigned flags = 0;
    memset(caps, 0, sizeof *caps);
    memset(&probe, 0, sizeof probe);
    int r = uring_create(&probe.ring, 8, 16, &flags, err);
    if (r < 0) {
        return r;
    }
    caps->has_ring = true;
    caps->has_taskrun_flag = (flags & IORING_SETUP_TASKRUN_FLAG) != 0;
    caps->features = probe.ring.features;
    caps->has_bundles = (caps->features & IORING_FEAT_RECVSEND_BUNDLE) != 0;
    caps->has_min_timeout = (caps->features & IORING_FEAT_MIN_TIMEOUT) != 0;
    r = probe_self_test(&probe);
    if (r < 0) {
        return err_set(
            err, r,
            "io_uring is here, but multishot receive into provided buffers does not work (%s): use "
            "server.io = epoll",
            err_name(r));
    }
    caps->has_recv_multishot = true;
    return 0;
}
