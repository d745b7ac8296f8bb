/*
 * io_uring: the io backend on a ring of its own (kernel 6.1 or newer). Owned by the shard's thread:
 * with SINGLE_ISSUER and DEFER_TASKRUN the kernel refuses every other one, and completions are made
 * only inside our own io_uring_enter.
 *
 * Normal run: operations fill SQEs; io_poll submits all of them and waits in one io_uring_enter;
 * io_next hands out the CQEs. Received bytes lie in one ring of provided buffers per shard; each is
 * given back in the pass that saw it. What goes wrong: the SQ is full (submitted early, no harm);
 * the CQ overflows (the kernel keeps the rest and ends multishots, which is_last reports; counted);
 * the kernel refuses io_uring_enter (io_poll returns it, for good). On close: everything is
 * cancelled and waited for, at most CLOSE_WAIT_ROUNDS, then the ring goes.
 */
#include "net/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/uring.h"

enum {
    SQ_ENTRIES_MAX = 1024, /* a pass with more sends than that just enters once more */
    SQ_ENTRIES_MIN = 64,
    CQ_ENTRIES_MAX = 65536,
    LARGE_BUFFERS = 4,
    LARGE_BUFFER_BYTES = 256 * 1024,
    SETUP_RETRIES = 3,
    CLOSE_WAIT_ROUNDS = 50,
    OP_CANCEL = 0, /* never shown to the caller: the target's own last event says it all */
    OP_RECV_LARGE = IO_WAKE + 1, /* shown as IO_RECV */
};

#define SETUP_RETRY_NS (100 * NS_MS)
#define CLOSE_ROUND_NS (1 * NS_MS)

/* One ring of provided buffers; its group is its index in struct io. */
struct io_pool {
    struct io_uring_buf_ring *ring;
    size_t ring_bytes;
    uint8_t *memory;
    size_t memory_bytes;
    uint32_t count;
    uint32_t buffer_bytes;
    uint32_t given; /* buffers put into the ring, not yet published to the kernel */
};

struct io {
    struct io_uring ring;
    struct io_pool pools[IO_SIZES];
    unsigned left; /* events of this pass not yet taken */
    unsigned enter_flags;
    unsigned sends_in_flight;
    bool has_taskrun_flag;
    int failed;            /* the error after which the ring is beyond use */
    bool has_min_wait;     /* kernel 6.12: a wait may gather completions for a bounded time */
    unsigned sends_queued; /* since the last entry: they mostly complete while they are submitted */
    uint64_t enters;
    struct io_uring_sqe lost; /* takes the SQEs of a ring that is beyond use */
};

static uint64_t io_user_data(unsigned op, struct io_key key)
{
    return (uint64_t)op << 56 | (uint64_t)(key.generation & IO_GENERATION_MASK) << 32 | key.index;
}

/* ---- entering the kernel ---- */

static unsigned io_publish_sqes(struct io *io)
{
    struct io_uring_sq *sq = &io->ring.sq;

    /* liburing has this step only inside calls that cannot submit, wait with a time limit and run
     * deferred work at once. */
    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

/* A wait that ends with the first completion would end at once after every send, because sends
 * complete while they are submitted, and then once per request; gathering saves entries and task
 * switches. Only with a bound on the wait (kernel 6.12), so that nobody waits for company that does
 * not come. Measured, L1 with 64 connections: 50 us 7.8, 200 us 6.9 us of CPU a request; more
 * brings nothing. And never for more company than there can be: eight clients that all wait for their
 * answers send nothing before they have them. */
static unsigned io_gather(const struct io *io, struct io_uring_getevents_arg *arg,
                          enum io_gathering gathering, uint32_t company_max)
{
    static const struct {
        uint32_t us;
        uint32_t count;
    } bounds[] = {
        [IO_GATHER_SENDS] = {50, 0},
        [IO_GATHER_SHORT] = {50, 24},
        [IO_GATHER_LONG] = {200, 64},
    };
    if (!io->has_min_wait) {
        return 1;
    }
    /* Named pad before 6.12; liburing 2.3's header still says so. */
    arg->pad = bounds[gathering].us;
    uint32_t company =
        bounds[gathering].count < company_max ? bounds[gathering].count : company_max;
    return 1 + io->sends_queued + company;
}

static int io_enter(struct io *io, unsigned wait_count, uint64_t wait_ns,
                    enum io_gathering gathering, uint32_t company_max)
{
    struct __kernel_timespec limit = {.tv_sec = (long long)(wait_ns / NS_S),
                                      .tv_nsec = (long long)(wait_ns % NS_S)};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&limit};
    unsigned flags = io->enter_flags | IORING_ENTER_GETEVENTS;
    void *extra = NULL;
    size_t extra_bytes = _NSIG / 8;

    if (wait_count > 0 && wait_ns != UINT64_MAX) {
        flags |= IORING_ENTER_EXT_ARG;
        extra = &arg;
        extra_bytes = sizeof(arg);
        wait_count = io_gather(io, &arg, gathering, company_max);
    }
    io->enters++;
    io->sends_queued = 0;
    int r = io_uring_enter2((unsigned)io->ring.enter_ring_fd, io_publish_sqes(io), wait_count,
                            flags, extra, extra_bytes);
    /* Late, interrupted, or a CQ that must be emptied first: all of them are "look at what is
     * there". */
    if (r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY) {
        return 0;
    }
    return r < 0 ? r : 0;
}

static struct io_uring_sqe *io_sqe(struct io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

    if (UNLIKELY(sqe == NULL) && io->failed == 0) {
        io->failed = io_enter(io, 0, 0, IO_GATHER_SENDS, 0);
        sqe = io_uring_get_sqe(&io->ring);
        if (sqe == NULL && io->failed == 0) {
            io->failed = -ENOMEM; /* UNTESTED: the kernel has no memory for requests */
        }
    }
    return sqe != NULL ? sqe : &io->lost;
}

/* A chain must leave in one submission, so room for all of it is made before its first SQE. */
static void io_reserve_sqes(struct io *io, unsigned count)
{
    if (io_uring_sq_space_left(&io->ring) < count && io->failed == 0) {
        io->failed = io_enter(io, 0, 0, IO_GATHER_SENDS, 0);
    }
}

static unsigned io_ring_flags(const struct io *io)
{
    return IO_URING_READ_ONCE(*io->ring.sq.kflags);
}

int io_poll(struct io *io, uint64_t wait_ns, enum io_gathering gathering, uint32_t company_max)
{
    ASSERT(io->left == 0);
    for (unsigned i = 0; i < IO_SIZES; i++) {
        struct io_pool *pool = &io->pools[i];
        if (pool->given > 0) {
            io_uring_buf_ring_advance(pool->ring, (int)pool->given);
            pool->given = 0;
        }
    }
    unsigned ready = io_uring_cq_ready(&io->ring);
    bool must_wait = wait_ns > 0 && ready == 0;
    bool has_deferred = !io->has_taskrun_flag ||
                        (io_ring_flags(io) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;

    if (io->failed == 0 && (must_wait || has_deferred || io_uring_sq_ready(&io->ring) > 0)) {
        io->failed = io_enter(io, must_wait ? 1 : 0, wait_ns, gathering, company_max);
    }
    if (UNLIKELY(io->failed != 0)) {
        return io->failed;
    }
    io->left = io_uring_cq_ready(&io->ring);
    return (int)io->left;
}

bool io_has_events(const struct io *io)
{
    return io_uring_cq_ready(&io->ring) > 0;
}

struct io_counts io_counts(const struct io *io)
{
    return (struct io_counts){io->enters, IO_URING_READ_ONCE(*io->ring.cq.koverflow)};
}

/* ---- events ---- */

static void io_event_fill(struct io *io, struct io_event *event, const struct io_uring_cqe *cqe)
{
    unsigned op = (unsigned)(cqe->user_data >> 56);

    event->size = op == OP_RECV_LARGE ? IO_LARGE : IO_SMALL;
    event->op = op == OP_RECV_LARGE ? IO_RECV : (enum io_op)op;
    event->key.index = (uint32_t)cqe->user_data;
    event->key.generation = (uint32_t)(cqe->user_data >> 32) & IO_GENERATION_MASK;
    event->result = cqe->res;
    event->is_last = (cqe->flags & IORING_CQE_F_MORE) == 0;
    event->has_buffer = (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    event->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    event->data = NULL;
    if (event->has_buffer) {
        const struct io_pool *pool = &io->pools[event->size];
        ASSERT(event->buffer < pool->count);
        event->data = pool->memory + (size_t)event->buffer * pool->buffer_bytes;
    } else if (event->op == IO_RECV && event->result > 0) {
        /* UNTESTED: kernels before c9d952b9103b could lose the buffer of a multishot read; bytes
         * without a place are a broken stream. */
        event->result = -EIO;
    }
    if (event->op == IO_SEND) {
        io->sends_in_flight--;
    }
}

bool io_next(struct io *io, struct io_event *event)
{
    while (io->left > 0) { /* bound: what the pass found */
        struct io_uring_cqe *cqe = NULL;

        io->left--;
        if (io_uring_peek_cqe(&io->ring, &cqe) != 0) {
            io->left = 0; /* UNTESTED: left counts what is in the queue */
            return false;
        }
        bool is_ours = cqe->user_data >> 56 != OP_CANCEL;
        if (is_ours) {
            io_event_fill(io, event, cqe);
        }
        io_uring_cqe_seen(&io->ring, cqe);
        if (is_ours) {
            return true;
        }
    }
    return false;
}

static void io_pool_put(struct io_pool *pool, uint16_t id)
{
    io_uring_buf_ring_add(pool->ring, pool->memory + (size_t)id * pool->buffer_bytes,
                          pool->buffer_bytes, id, io_uring_buf_ring_mask(pool->count),
                          (int)pool->given);
    pool->given++;
}

void io_buffer_give(struct io *io, const struct io_event *event)
{
    if (event->has_buffer) {
        struct io_pool *pool = &io->pools[event->size];
        ASSERT(pool->given < pool->count);
        io_pool_put(pool, event->buffer);
    }
}

/* ---- operations ---- */

void io_accept(struct io *io, struct io_key key, int fd)
{
    struct io_uring_sqe *sqe = io_sqe(io);

    /* Not SOCK_NONBLOCK: on a non-blocking file the ring answers -EAGAIN where it should wait. */
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    sqe->user_data = io_user_data(IO_ACCEPT, key);
}

static unsigned io_recv_op(enum io_size size)
{
    return size == IO_LARGE ? OP_RECV_LARGE : IO_RECV;
}

void io_recv(struct io *io, struct io_key key, int fd, enum io_size size, bool is_careful)
{
    struct io_uring_sqe *sqe = io_sqe(io);

    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t)size;
    if (is_careful) {
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    }
    sqe->user_data = io_user_data(io_recv_op(size), key);
}

void io_recv_stop(struct io *io, struct io_key key, enum io_size size)
{
    struct io_uring_sqe *sqe = io_sqe(io);

    io_uring_prep_cancel64(sqe, io_user_data(io_recv_op(size), key), 0);
    sqe->user_data = io_user_data(OP_CANCEL, key);
}

void io_send(struct io *io, struct io_key key, int fd, const uint8_t *data, size_t bytes)
{
    struct io_uring_sqe *sqe = io_sqe(io);

    io_uring_prep_send(sqe, fd, data, bytes, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->user_data = io_user_data(IO_SEND, key);
    io->sends_in_flight++;
    io->sends_queued++;
}

void io_shut(struct io *io, struct io_key key, int fd)
{
    io_reserve_sqes(io, 2);
    struct io_uring_sqe *cancel = io_sqe(io);
    io_uring_prep_cancel_fd(cancel, fd, IORING_ASYNC_CANCEL_ALL);
    cancel->flags |=
        IOSQE_IO_HARDLINK; /* the close must happen although there was nothing to cancel */
    cancel->user_data = io_user_data(OP_CANCEL, key);

    struct io_uring_sqe *sqe = io_sqe(io);
    io_uring_prep_close(sqe, fd);
    sqe->user_data = io_user_data(IO_CLOSE, key);
}

void io_wake(struct io *io, int fd)
{
    struct io_uring_sqe *sqe = io_sqe(io);

    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    sqe->user_data = io_user_data(IO_WAKE, (struct io_key){0, 0});
}

/* ---- opening and closing ---- */

/* First digit after the text where in the file; -1 when there is none. */
static int io_proc_digit(const char *path, const char *where)
{
    char text[4096] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return -1;
    }
    ssize_t bytes = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (bytes <= 0) {
        return -1;
    }
    const char *found = strstr(text, where);
    if (found == NULL) {
        return -1;
    }
    found += strlen(where);
    return found[0] >= '0' && found[0] <= '9' ? found[0] - '0' : -1;
}

/* Says why the kernel gives no ring, and what would mend it. */
static int io_setup_error(int code, struct err *err)
{
    int disabled = io_proc_digit("/proc/sys/kernel/io_uring_disabled", "");

    if ((code == -EPERM || code == -EACCES) && disabled > 0) {
        return err_set(err, code,
                       "io_uring is switched off (sysctl kernel.io_uring_disabled=%d); set it to 0",
                       disabled);
    }
    if ((code == -EPERM || code == -EACCES || code == -ENOSYS || code == -EOPNOTSUPP) &&
        io_proc_digit("/proc/self/status", "Seccomp:\t") == 2) {
        return err_set(err, code,
                       "io_uring is refused (%s), most likely by this container's seccomp profile; "
                       "allow io_uring_setup, "
                       "io_uring_enter and io_uring_register in it",
                       err_name(code));
    }
    if (code == -ENOMEM) {
        return err_set(err, code,
                       "no memory for io_uring's rings; raise the locked-memory limit (ulimit -l, "
                       "LimitMEMLOCK=)");
    }
    if (code == -EMFILE || code == -ENFILE) {
        return err_set(
            err, code,
            "no file descriptor for io_uring; raise the limit (ulimit -n, LimitNOFILE=)");
    }
    return err_set(err, code,
                   "io_uring is not usable here (%s); Linux 6.1 or newer with io_uring is needed",
                   err_name(code));
}

static uint32_t power_of_two_within(uint64_t value, uint32_t min, uint32_t max)
{
    uint32_t power = min;

    while (power < value && power < max) {
        power *= 2;
    }
    return power;
}

static int io_setup_once(struct io *io, unsigned entries, unsigned cq_entries, unsigned flags)
{
    struct io_uring_params params = {.flags = flags, .cq_entries = cq_entries};
    int r = io_uring_queue_init_params(entries, &io->ring, &params);

    if (r == 0 && (params.features & IORING_FEAT_EXT_ARG) == 0) {
        io_uring_queue_exit(
            &io->ring); /* UNTESTED: 5.11 brought it, and the flags above need 6.1 */
        return -EINVAL;
    }
    if (r == 0) {
        io->has_min_wait = (params.features & IORING_FEAT_MIN_TIMEOUT) != 0;
    }
    return r;
}

/* DEFER_TASKRUN is the one mode that is tested; a kernel without it is not served by this backend.
 */
static int io_setup(struct io *io, const struct io_options *options)
{
    unsigned base = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    unsigned optional = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    unsigned entries =
        power_of_two_within(options->connections_max, SQ_ENTRIES_MIN, SQ_ENTRIES_MAX);
    unsigned retries = 0;
    int r = -EINVAL;

    for (unsigned round = 0; round < 16;
         round++) { /* bound: one flag step, 3 pauses, at most 4 halvings */
        /* Every connection may have a receive and a send ending in one pass, and each buffer one
         * event more. */
        uint64_t events = 2ull * options->connections_max + options->recv_buffers;
        unsigned cq_entries = power_of_two_within(events, 4 * entries, CQ_ENTRIES_MAX);

        r = io_setup_once(io, entries, cq_entries, base | optional);
        if (r == -EINVAL && optional != 0) {
            optional = 0; /* UNTESTED: needs a kernel that knows DEFER_TASKRUN and not these */
        } else if (r == -ENOMEM && retries < SETUP_RETRIES) {
            /* The memory of a ring that was just closed comes back a little later. */
            struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)SETUP_RETRY_NS};
            (void)nanosleep(&pause, NULL);
            retries++;
        } else if (r == -ENOMEM && entries > SQ_ENTRIES_MIN) {
            entries /= 2;
        } else {
            break;
        }
    }
    io->has_taskrun_flag = r == 0 && optional != 0;
    return r;
}

static int io_pool_open(struct io *io, enum io_size size, uint32_t count, uint32_t bytes,
                        struct err *err)
{
    struct io_pool *pool = &io->pools[size];

    pool->count = count;
    pool->buffer_bytes = bytes;
    pool->ring_bytes = (size_t)align_up(count * sizeof(struct io_uring_buf), 4096);
    pool->memory_bytes = (size_t)count * bytes;
    pool->ring = mem_map(pool->ring_bytes);
    pool->memory = mem_map(pool->memory_bytes);
    if (pool->ring == NULL || pool->memory == NULL) {
        return err_set(err, -ENOMEM, "no memory for %u receive buffers of %u bytes", count, bytes);
    }
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)pool->ring,
        .ring_entries = count,
        .bgid = (uint16_t)size,
    };
    int r = io_uring_register_buf_ring(&io->ring, &registration, 0);
    if (r < 0) {
        return io_setup_error(r, err);
    }
    io_uring_buf_ring_init(pool->ring);
    for (uint32_t i = 0; i < count; i++) {
        io_pool_put(pool, (uint16_t)i);
    }
    return 0;
}

static void io_free(struct io *io)
{
    for (unsigned i = 0; i < IO_SIZES; i++) {
        struct io_pool *pool = &io->pools[i];
        if (pool->memory != NULL) {
            mem_unmap(pool->memory, pool->memory_bytes);
        }
        if (pool->ring != NULL) {
            mem_unmap(pool->ring, pool->ring_bytes);
        }
    }
    mem_free(io);
}

int io_open(struct io **out, const struct io_options *options, struct err *err)
{
    struct io *io = mem_alloc(sizeof(*io));

    ASSERT(is_power_of_two(options->recv_buffers));
    ASSERT(options->recv_buffers <= 32768);
    int r = io_setup(io, options);
    if (r < 0) {
        r = io_setup_error(r, err);
        goto free_io;
    }
    /* Worth some percent of every entry; the ring works without it. */
    if (io_uring_register_ring_fd(&io->ring) == 1) {
        io->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
    /* SQE i always goes in slot i: io_publish_sqes relies on it whatever the library's version
     * does. */
    for (unsigned i = 0; i < *io->ring.sq.kring_entries; i++) {
        io->ring.sq.array[i] = i;
    }
    r = io_pool_open(io, IO_SMALL, options->recv_buffers, options->recv_buffer_bytes, err);
    if (r == 0) {
        r = io_pool_open(io, IO_LARGE, LARGE_BUFFERS, LARGE_BUFFER_BYTES, err);
    }
    if (r < 0) {
        goto exit_ring;
    }
    *out = io;
    return 0;

exit_ring:
    io_uring_queue_exit(&io->ring);
free_io:
    ASSERT(r < 0);
    io_free(io);
    return r;
}

/* Sends read memory of the caller, who frees it after io_close: they have to end first. */
static void io_cancel_all(struct io *io)
{
    struct io_uring_sqe *sqe = io_sqe(io);
    struct io_event event;

    io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
    sqe->user_data = io_user_data(OP_CANCEL, (struct io_key){0, 0});
    for (unsigned round = 0; round < CLOSE_WAIT_ROUNDS; round++) {
        if (io_poll(io, CLOSE_ROUND_NS, IO_GATHER_SENDS, 0) < 0) {
            return;
        }
        while (io_next(io, &event)) { /* bound: the pass */
            io_buffer_give(io, &event);
            if (event.op == IO_ACCEPT && event.result >= 0) {
                close(event.result);
            }
        }
        if (io->sends_in_flight == 0 && round > 0) {
            return;
        }
    }
}

void io_close(struct io *io)
{
    if (io == NULL) {
        return;
    }
    io->left = 0;
    io_cancel_all(io);
    io_uring_queue_exit(&io->ring);
    io_free(io);
}
