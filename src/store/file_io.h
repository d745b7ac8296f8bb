/*
 * file_io: the seam between the store and a disk. Two backends: file_io_real.c (O_DIRECT,
 * RWF_DSYNC, io_uring for the log's writes) and tests/lib/sim_disk.c (one that drops, tears,
 * reorders, garbles, fails and fills up, from a seed).
 *
 * Names are relative to the data directory ("log/0000000000000001.seg"). Every call but submit and
 * wait is blocking, may be made from any thread, and returns 0 (or a count) or -errno. submit and
 * wait belong to the writer's thread.
 *
 * Durability, which callers rely on and the simulator enforces: a completed durable write is on
 * stable storage, its length and its extents included only if the file was written or allocated and
 * synced before; a non-durable write is not until file_io_sync; create, rename and unlink are not
 * until file_io_sync_dir of their directory. Addresses, offsets and lengths of direct I/O are
 * multiples of STORE_BLOCK_BYTES: ASSERTed here, because this machine's ext4 would not complain.
 */
#ifndef STORE_FILE_IO_H
#define STORE_FILE_IO_H

#include "core/base.h"
#include "core/err.h"
#include "core/park.h"

enum file_open_flags {
    FILE_OPEN_CREATE = 1u << 0,
    FILE_OPEN_EXCLUSIVE = 1u << 1, /* with CREATE: -EEXIST when it is there */
    FILE_OPEN_READ_ONLY = 1u << 2,
    FILE_OPEN_DIRECT =
        1u << 3, /* falls back to buffered where the file system refuses; the store warns */
    /* The kernel reads only what is asked for. For files that are being written with direct I/O: pages read ahead
     * lie where the next write goes, which then has to wait for them and throw them away. */
    FILE_OPEN_NO_READAHEAD = 1u << 4,
};

struct file {
    int fd; /* the backend's number */
};

/* One durable write in flight. The caller owns it and the data until it comes back from wait. */
struct file_write {
    struct file file;
    const uint8_t *data;
    uint64_t offset;
    uint64_t bytes;
    void *user;
    /* Filled by the backend: bytes written in full (the backend finishes short writes) or -errno.
     */
    int64_t result;
    uint64_t submitted_at_ns;
    uint64_t done_bytes;     /* private to the backend */
    struct file_write *next; /* private to the backend */
};

struct file_io;

typedef void (*file_on_name)(void *context, const char *name);

struct file_io_ops {
    int (*open)(struct file_io *io, const char *name, unsigned flags, struct file *file);
    void (*close)(struct file_io *io, struct file file);
    int64_t (*size)(struct file_io *io, struct file file);
    /* Short only at the end of the file. */
    int64_t (*read)(struct file_io *io, struct file file, void *to, uint64_t bytes,
                    uint64_t offset);
    /* All of it or -errno. is_durable: RWF_DSYNC. */
    int (*write)(struct file_io *io, struct file file, const void *from, uint64_t bytes,
                 uint64_t offset, bool is_durable);
    int (*allocate)(struct file_io *io, struct file file,
                    uint64_t bytes); /* fallocate: blocks reserved, size set */
    int (*truncate)(struct file_io *io, struct file file, uint64_t bytes);
    int (*sync)(struct file_io *io, struct file file); /* fsync: data and metadata */
    int (*sync_dir)(struct file_io *io, const char *name);
    int (*make_dir)(struct file_io *io, const char *name); /* 0 also when it exists */
    int (*rename)(struct file_io *io, const char *from, const char *to);
    int (*unlink)(struct file_io *io, const char *name);
    int (*list)(struct file_io *io, const char *dir, file_on_name on_name,
                void *context); /* any order */
    int (*free_bytes)(struct file_io *io, uint64_t *bytes);
    /* Creates what submit and wait need, in the writer's thread. */
    int (*writer_start)(struct file_io *io, struct err *err);
    void (*writer_stop)(struct file_io *io);
    /* Queues a durable write; it starts now. 0 or -errno (then it is not in flight). */
    int (*submit)(struct file_io *io, struct file_write *write);
    /* Waits until a write completes, park->fd fires (park may be NULL) or timeout_ns passes (0:
     * only look). Returns the list of completed writes through *done (linked by next, in completion
     * order), and their count. */
    int (*wait)(struct file_io *io, uint64_t timeout_ns, struct park *park,
                struct file_write **done);
    uint64_t (*mono_ns)(struct file_io *io); /* the simulator has its own clock */
    int64_t (*real_ns)(struct file_io *io);
    void (*destroy)(struct file_io *io);
};

struct file_io {
    const struct file_io_ops *ops;
};

/* The real disk below data_dir (created when missing). Probes O_DIRECT; is_direct tells the result.
 * tmpfs and network file systems are refused with a text unless allow_volatile. */
int file_io_real_open(struct file_io **io, const char *data_dir, bool allow_volatile,
                      struct err *err) MUST_USE;
/* For tools: never creates or locks anything; -ENOENT with a text when there is no log below
 * data_dir. */
int file_io_real_open_existing(struct file_io **io, const char *data_dir, struct err *err) MUST_USE;
bool file_io_real_is_direct(const struct file_io *io);

#endif
