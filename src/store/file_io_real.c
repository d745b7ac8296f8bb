/*
 * file_io_real: the disk below one directory, through O_DIRECT and io_uring. The log's writes are
 * io_uring writes with RWF_DSYNC by the writer's thread; everything else is a plain system call by
 * whoever needs it.
 *
 * Where io_uring is forbidden (container seccomp, sysctl) submit writes synchronously and wait only
 * hands the result over: slower, never wrong. Short writes are finished here; an interrupted call
 * is repeated; every other failure goes to the caller.
 */
#include "store/file_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/format.h"

enum {
    URING_ENTRIES =
        16, /* two writes, one poll, and room for what is finished after a short write */
    STOP_TRIES_MAX = 10000,      /* ms */
    TRANSFER_TRIES_MAX = 1 << 20 /* bound of a loop that makes progress or returns on each turn */
};

struct file_io_real {
    struct file_io base;
    int dir_fd;
    bool is_direct;
    bool has_ring;
    bool is_poll_armed;
    unsigned in_flight;
    struct io_uring ring;
    struct file_write *done_first; /* completed, not yet handed over */
    struct file_write *done_last;
};

static struct file_io_real *real_of(struct file_io *io)
{
    return CONTAINER_OF(io, struct file_io_real, base);
}

/* This machine's ext4 would serve misaligned direct I/O by falling back to the page cache, another
 * would not. */
static void assert_aligned(int fd, const void *data, uint64_t bytes, uint64_t offset)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_DIRECT) == 0) {
        return;
    }
    ASSERT((uintptr_t)data % STORE_BLOCK_BYTES == 0);
    ASSERT(bytes % STORE_BLOCK_BYTES == 0);
    ASSERT(offset % STORE_BLOCK_BYTES == 0);
}

static int real_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    struct file_io_real *real = real_of(io);
    int mode = (flags & FILE_OPEN_READ_ONLY) != 0 ? O_RDONLY : O_RDWR;
    mode |= O_CLOEXEC;
    mode |= (flags & FILE_OPEN_CREATE) != 0 ? O_CREAT : 0;
    mode |= (flags & FILE_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    bool is_direct = (flags & FILE_OPEN_DIRECT) != 0 && real->is_direct;
    file->fd = openat(real->dir_fd, name, is_direct ? mode | O_DIRECT : mode, 0640);
    if (file->fd < 0 && errno == EINVAL && is_direct) {
        file->fd = openat(real->dir_fd, name, mode, 0640);
    }
    if (file->fd < 0) {
        return -errno;
    }
    if ((flags & FILE_OPEN_NO_READAHEAD) != 0) {
        (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_RANDOM); /* a hint */
    }
    return 0;
}

static void real_close(struct file_io *io, struct file file)
{
    (void)io;
    ASSERT(file.fd >= 0);
    (void)close(file.fd); /* nothing to learn: whoever needs durability has synced before */
}

static int64_t real_size(struct file_io *io, struct file file)
{
    (void)io;
    struct stat status;
    return fstat(file.fd, &status) < 0 ? -errno : (int64_t)status.st_size;
}

/* Of the archive's reads. A device serves a long read in one piece, and a commit that comes meanwhile waits
 * for it (docs/PERFORMANCE.md, "Ingest beside it"). */
#define ARCHIVE_READ_BYTES KIB(64)

static int64_t read_piece(struct file file, uint8_t *to, uint64_t bytes, uint64_t offset)
{
    for (int tries = 0; tries < TRANSFER_TRIES_MAX; tries++) {
        ssize_t n = pread(file.fd, to, bytes, (off_t)offset);
        if (n >= 0 || errno != EINTR) {
            return n < 0 ? -errno : (int64_t)n;
        }
    }
    return 0;
}

static int64_t real_read(struct file_io *io, struct file file, void *to, uint64_t bytes,
                         uint64_t offset)
{
    (void)io;
    assert_aligned(file.fd, to, bytes, offset);
    uint64_t most = role_current() == ROLE_ARCHIVE ? ARCHIVE_READ_BYTES : bytes;
    uint64_t done = 0;
    while (done < bytes) { /* each turn reads some, or ends it */
        int64_t n =
            read_piece(file, (uint8_t *)to + done, u64_min(most, bytes - done), offset + done);
        if (n < 0) {
            return n;
        }
        done += (uint64_t)n;
        /* A short direct read ends on a byte that the next one may not start at: it is the end of
         * the file. */
        if (n == 0 || done % STORE_BLOCK_BYTES != 0) {
            break;
        }
    }
    return (int64_t)done;
}

static int real_write(struct file_io *io, struct file file, const void *from, uint64_t bytes,
                      uint64_t offset, bool is_durable)
{
    (void)io;
    assert_aligned(file.fd, from, bytes, offset);
    uint64_t done = 0;
    for (int tries = 0; done < bytes; tries++) {
        struct iovec part = {.iov_base = (uint8_t *)(uintptr_t)from + done,
                             .iov_len = bytes - done};
        ssize_t n = pwritev2(file.fd, &part, 1, (off_t)(offset + done), is_durable ? RWF_DSYNC : 0);
        if (n < 0 && errno == EINTR && tries < TRANSFER_TRIES_MAX) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return -EIO; /* UNTESTED: no Linux file system answers 0 to a write of more */
        }
        done += (uint64_t)n;
    }
    return 0;
}

static int real_allocate(struct file_io *io, struct file file, uint64_t bytes)
{
    (void)io;
    int r = 0;
    for (int tries = 0; tries < TRANSFER_TRIES_MAX; tries++) {
        r = fallocate(file.fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
        if (r != -EINTR) {
            break;
        }
    }
    return r;
}

static int real_truncate(struct file_io *io, struct file file, uint64_t bytes)
{
    (void)io;
    return ftruncate(file.fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int real_sync(struct file_io *io, struct file file)
{
    (void)io;
    return fsync(file.fd) < 0 ? -errno : 0;
}

static int real_sync_dir(struct file_io *io, const char *name)
{
    int fd = openat(real_of(io)->dir_fd, name[0] == '\0' ? "." : name,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int r = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    return r;
}

static int real_make_dir(struct file_io *io, const char *name)
{
    int r = mkdirat(real_of(io)->dir_fd, name, 0750) < 0 ? -errno : 0;
    return r == -EEXIST ? 0 : r;
}

static int real_rename(struct file_io *io, const char *from, const char *to)
{
    int dir_fd = real_of(io)->dir_fd;
    return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

static int real_unlink(struct file_io *io, const char *name)
{
    return unlinkat(real_of(io)->dir_fd, name, 0) < 0 ? -errno : 0;
}

static int real_list(struct file_io *io, const char *name, file_on_name on_name, void *context)
{
    int fd = openat(real_of(io)->dir_fd, name[0] == '\0' ? "." : name,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    errno = 0;
    struct dirent *entry = readdir(dir);
    while (entry != NULL) { /* bounded by the directory */
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            on_name(context, entry->d_name);
        }
        errno = 0;
        entry = readdir(dir);
    }
    int r = -errno;
    (void)closedir(dir);
    return r;
}

static int real_free_bytes(struct file_io *io, uint64_t *bytes)
{
    struct statvfs status;
    if (fstatvfs(real_of(io)->dir_fd, &status) < 0) {
        return -errno;
    }
    *bytes = (uint64_t)status.f_bavail * (uint64_t)status.f_frsize;
    return 0;
}

static int real_writer_start(struct file_io *io, struct err *err)
{
    struct file_io_real *real = real_of(io);
    ASSERT(!real->has_ring);
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    int r = io_uring_queue_init_params(URING_ENTRIES, &real->ring, &params);
    if (r == -EINVAL) { /* before 6.1 */
        memset(&params, 0, sizeof params);
        r = io_uring_queue_init_params(URING_ENTRIES, &real->ring, &params);
    }
    real->has_ring = r == 0;
    real->is_poll_armed = false;
    if (r < 0 && r != -EPERM && r != -ENOSYS && r != -EACCES) {
        return err_set(err, r, "create the writer's ring: %s", err_name(r));
    }
    return 0;
}

static void push_done(struct file_io_real *real, struct file_write *write, int64_t result)
{
    write->result = result;
    write->next = NULL;
    if (real->done_last == NULL) {
        real->done_first = write;
    } else {
        real->done_last->next = write;
    }
    real->done_last = write;
}

/* Queues what is left of a write. The ring has room for every write that the journal may have in
 * flight, and for one poll. */
static int queue_rest(struct file_io_real *real, struct file_write *write)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&real->ring);
    if (sqe == NULL) {
        return -EBUSY; /* UNTESTED: needs more writes in flight than the journal has slots */
    }
    uint64_t rest = write->bytes - write->done_bytes;
    ASSERT(rest > 0);
    ASSERT(rest <= UINT32_MAX);
    io_uring_prep_write(sqe, write->file.fd, write->data + write->done_bytes, (unsigned)rest,
                        write->offset + write->done_bytes);
    sqe->rw_flags = RWF_DSYNC;
    io_uring_sqe_set_data(sqe, write);
    return 0;
}

static int real_submit(struct file_io *io, struct file_write *write)
{
    struct file_io_real *real = real_of(io);
    ASSERT((uintptr_t)write->data % STORE_BLOCK_BYTES == 0);
    ASSERT(write->bytes % STORE_BLOCK_BYTES == 0);
    ASSERT(write->offset % STORE_BLOCK_BYTES == 0);
    write->done_bytes = 0;
    write->submitted_at_ns = clock_mono_ns();
    if (!real->has_ring) {
        int r = real_write(io, write->file, write->data, write->bytes, write->offset, true);
        push_done(real, write, r < 0 ? r : (int64_t)write->bytes);
        return 0;
    }
    int r = queue_rest(real, write);
    if (r < 0) {
        return r;
    }
    real->in_flight++;
    /* An error here leaves the entry queued: the next wait submits it again, so the write is in
     * flight either way. */
    (void)io_uring_submit(&real->ring);
    return 0;
}

static void on_write_cqe(struct file_io_real *real, struct file_write *write, int result)
{
    if (result == -EINTR || result == -EAGAIN) {
        result = queue_rest(real, write);
        if (result == 0) {
            return;
        }
    } else if (result >= 0) {
        write->done_bytes += (uint64_t)result;
        /* A short write is finished from the last whole block: direct I/O may not start inside one.
         */
        write->done_bytes -=
            write->done_bytes == write->bytes ? 0 : write->done_bytes % STORE_BLOCK_BYTES;
        if (write->done_bytes < write->bytes) {
            result = result == 0 ? -EIO : queue_rest(real, write);
            if (result == 0) {
                return;
            }
        }
    }
    real->in_flight--;
    push_done(real, write, result < 0 ? result : (int64_t)write->bytes);
}

static bool reap(struct file_io_real *real, struct park *park)
{
    bool fired = false;
    struct io_uring_cqe *cqe = NULL;
    for (unsigned i = 0; i < 4 * URING_ENTRIES && io_uring_peek_cqe(&real->ring, &cqe) == 0; i++) {
        void *data = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&real->ring, cqe);
        if (data == NULL) {
            real->is_poll_armed = false;
            fired = true;
        } else {
            on_write_cqe(real, data, result);
        }
    }
    if (fired && park != NULL) {
        park_drain(park);
    }
    return fired;
}

static void arm_poll(struct file_io_real *real, const struct park *park)
{
    struct io_uring_sqe *sqe = real->is_poll_armed ? NULL : io_uring_get_sqe(&real->ring);
    if (sqe != NULL) {
        io_uring_prep_poll_add(sqe, park->fd, POLLIN);
        io_uring_sqe_set_data(sqe, NULL);
        real->is_poll_armed = true;
    }
}

static void sleep_without_ring(struct park *park, uint64_t timeout_ns)
{
    if (timeout_ns == 0) {
        return;
    }
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_S),
                               .tv_nsec = (long)(timeout_ns % NS_S)};
    struct pollfd poll_fd = {.fd = park == NULL ? -1 : park->fd, .events = POLLIN};
    if (ppoll(&poll_fd, 1, &timeout, NULL) > 0 && park != NULL) {
        park_drain(park);
    }
}

static void sleep_on_ring(struct file_io_real *real, struct park *park, uint64_t timeout_ns)
{
    if (park != NULL) {
        arm_poll(real, park);
    }
    struct io_uring_cqe *cqe = NULL;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / NS_S),
                                        .tv_nsec = (long long)(timeout_ns % NS_S)};
    /* Whatever the result (time passed, interrupted), the queue is looked at next and the caller
     * looks at its clock. */
    (void)io_uring_submit_and_wait_timeout(&real->ring, &cqe, 1, &timeout, NULL);
}

static void real_writer_stop(struct file_io *io)
{
    struct file_io_real *real = real_of(io);
    if (real->has_ring) {
        /* The kernel may still read the buffers of what is in flight; bounded, because a device may
         * never answer. */
        for (int i = 0; i < STOP_TRIES_MAX && real->in_flight > 0; i++) {
            sleep_on_ring(real, NULL, NS_MS);
            (void)reap(real, NULL);
        }
        io_uring_queue_exit(&real->ring);
        real->has_ring = false;
    }
}

static int real_wait(struct file_io *io, uint64_t timeout_ns, struct park *park,
                     struct file_write **done)
{
    struct file_io_real *real = real_of(io);
    if (real->has_ring) {
        bool fired = reap(real, park);
        if (timeout_ns > 0 && !fired && real->done_first == NULL) {
            sleep_on_ring(real, park, timeout_ns);
            (void)reap(real, park);
        }
        if (io_uring_sq_ready(&real->ring) > 0) { /* the rest of a short write */
            (void)io_uring_submit(&real->ring);
        }
    } else if (real->done_first == NULL) {
        sleep_without_ring(park, timeout_ns);
    }
    int count = 0;
    for (struct file_write *write = real->done_first; write != NULL; write = write->next) {
        count++;
    }
    *done = real->done_first;
    real->done_first = NULL;
    real->done_last = NULL;
    return count;
}

static uint64_t real_mono_ns(struct file_io *io)
{
    (void)io;
    return clock_mono_ns();
}

static int64_t real_real_ns(struct file_io *io)
{
    (void)io;
    return clock_real_ns();
}

static void real_destroy(struct file_io *io)
{
    struct file_io_real *real = real_of(io);
    real_writer_stop(io);
    (void)close(real->dir_fd);
    mem_free(real);
}

static const struct file_io_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .size = real_size,
    .read = real_read,
    .write = real_write,
    .allocate = real_allocate,
    .truncate = real_truncate,
    .sync = real_sync,
    .sync_dir = real_sync_dir,
    .make_dir = real_make_dir,
    .rename = real_rename,
    .unlink = real_unlink,
    .list = real_list,
    .free_bytes = real_free_bytes,
    .writer_start = real_writer_start,
    .writer_stop = real_writer_stop,
    .submit = real_submit,
    .wait = real_wait,
    .mono_ns = real_mono_ns,
    .real_ns = real_real_ns,
    .destroy = real_destroy,
};

static int make_data_dir(const char *data_dir, struct err *err)
{
    char path[4096];
    size_t bytes = strlen(data_dir);
    if (bytes == 0 || bytes >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "data directory name has %zu bytes", bytes);
    }
    memcpy(path, data_dir, bytes + 1);
    for (size_t i = 1; i <= bytes; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        char kept = path[i];
        path[i] = '\0';
        int r = mkdir(path, 0750) < 0 ? -errno : 0;
        path[i] = kept;
        if (r < 0 && r != -EEXIST) {
            return err_set(err, r, "create %s: %s", data_dir, err_name(r));
        }
    }
    return 0;
}

/* A log in memory or behind a network is not what 202 promises. */
static int check_file_system(int dir_fd, const char *data_dir, bool allow_volatile, struct err *err)
{
    struct statfs status;
    if (fstatfs(dir_fd, &status) < 0) {
        int r = -errno;
        return err_set(err, r, "statfs %s: %s", data_dir, err_name(r));
    }
    if (allow_volatile) {
        return 0;
    }
    uint32_t type = (uint32_t)status.f_type;
    if (type == TMPFS_MAGIC || type == RAMFS_MAGIC) {
        return err_set(err, -EINVAL,
                       "%s is in memory (tmpfs): nothing there survives a restart; set "
                       "store.allow_volatile to use it",
                       data_dir);
    }
    if (type == NFS_SUPER_MAGIC || type == SMB_SUPER_MAGIC || type == 0xff534d42u ||
        type == 0xfe534d42u || type == 0x65735546u || type == V9FS_MAGIC) {
        return err_set(err, -EINVAL,
                       "%s is on a network or user-space file system, which may lose synced "
                       "writes; set store.allow_volatile to use it",
                       data_dir);
    }
    return 0;
}

/* Asks for one aligned direct write, because some file systems accept the flag and refuse the
 * write. */
static bool probe_direct(int dir_fd)
{
    static const char name[] = ".probe";
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0640);
    if (fd < 0) {
        return false;
    }
    void *block = mem_map(STORE_BLOCK_BYTES);
    bool is_direct =
        block != NULL && pwrite(fd, block, STORE_BLOCK_BYTES, 0) == (ssize_t)STORE_BLOCK_BYTES;
    if (block != NULL) {
        mem_unmap(block, STORE_BLOCK_BYTES);
    }
    (void)close(fd);
    (void)unlinkat(dir_fd, name, 0);
    return is_direct;
}

int file_io_real_open(struct file_io **io, const char *data_dir, bool allow_volatile,
                      struct err *err)
{
    int r = make_data_dir(data_dir, err);
    if (r < 0) {
        return r;
    }
    int dir_fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        r = -errno;
        return err_set(err, r, "open %s: %s", data_dir, err_name(r));
    }
    r = check_file_system(dir_fd, data_dir, allow_volatile, err);
    if (r < 0) {
        (void)close(dir_fd);
        return r;
    }
    struct file_io_real *real = mem_alloc(sizeof *real);
    real->base.ops = &real_ops;
    real->dir_fd = dir_fd;
    real->is_direct = probe_direct(dir_fd);
    *io = &real->base;
    return 0;
}

int file_io_real_open_existing(struct file_io **io, const char *data_dir, struct err *err)
{
    int dir_fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        int r = -errno;
        return err_set(err, r, "open %s: %s", data_dir, err_name(r));
    }
    struct stat status;
    if (fstatat(dir_fd, "log", &status, 0) < 0) {
        (void)close(dir_fd);
        return err_set(err, -ENOENT, "there is no Sluice log below %s", data_dir);
    }
    struct file_io_real *real = mem_alloc(sizeof *real);
    real->base.ops = &real_ops;
    real->dir_fd = dir_fd;
    *io = &real->base;
    return 0;
}

bool file_io_real_is_direct(const struct file_io *io)
{
    return CONTAINER_OF(io, const struct file_io_real, base)->is_direct;
}
