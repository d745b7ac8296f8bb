/*
 * node: the data directory's name and its lock; see node.h. Start-up only, main thread. The lock's
 * descriptor stays open as long as the store does.
 */
#include "store/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define NODE_TEXT_BYTES   (ULID_TEXT_BYTES + 1u) /* and a line feed */
#define LOCK_TRIES        20 /* a dying server's ring keeps its files open for a moment: 1 s in all */
#define LOCK_TRY_PAUSE_NS (50 * NS_MS)

/* "pid 123 on host web1" from the two lines; what is not there reads as unknown. */
static void holder_text(int fd, char *text, size_t capacity)
{
    char lines[320];
    ssize_t n = pread(fd, lines, sizeof lines - 1, 0);
    lines[n > 0 ? n : 0] = '\0';
    char *host = strchr(lines, '\n');
    if (host == NULL) {
        (void)snprintf(text, capacity, "another process");
        return;
    }
    *host++ = '\0';
    host[strcspn(host, "\n")] = '\0';
    (void)snprintf(text, capacity, "pid %.20s on host %.256s", lines, host);
}

static int write_holder(int fd)
{
    char host[257] = "?";
    (void)gethostname(host, sizeof host - 1);
    char lines[320];
    int n = snprintf(lines, sizeof lines, "%ld\n%s\n", (long)getpid(), host);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, lines, (size_t)n, 0) != (ssize_t)n) {
        return errno == 0 ? -EIO : -errno;
    }
    return 0;
}

static int try_lock(int fd)
{
    int r = -EWOULDBLOCK;
    for (int i = 0; i < LOCK_TRIES && r == -EWOULDBLOCK; i++) {
        if (i > 0) {
            struct timespec pause = {.tv_nsec = (long)LOCK_TRY_PAUSE_NS};
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        }
        r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    }
    return r;
}

int node_lock_take(struct node_lock *lock, const char *data_dir, struct err *err)
{
    char path[4096];
    lock->fd = -1;
    int n = snprintf(path, sizeof path, "%s/" NODE_LOCK, data_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "lock: the data directory's name is too long");
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        int r = -errno;
        return err_set(err, r, "open %s: %s", path, err_name(r));
    }
    int r = try_lock(fd);
    if (r == -EWOULDBLOCK) {
        char holder[320];
        holder_text(fd, holder, sizeof holder);
        (void)close(fd);
        return err_set(err, -EBUSY, "%s is in use by %s", data_dir, holder);
    }
    r = r < 0 ? r : write_holder(fd);
    if (r < 0) {
        (void)close(fd);
        return err_set(err, r, "lock %s: %s", path, err_name(r));
    }
    lock->fd = fd;
    return 0;
}

void node_lock_give(struct node_lock *lock)
{
    if (lock->fd >= 0) {
        (void)close(lock->fd); /* the file stays: removing it would let two processes lock two files
                                  of one name */
    }
    lock->fd = -1;
}

int node_read(struct ulid *node, struct file_io *io, struct err *err)
{
    struct file file;
    int r = io->ops->open(io, NODE_FILE, FILE_OPEN_READ_ONLY, &file);
    if (r < 0) {
        return err_set(err, r, "open " NODE_FILE ": %s", err_name(r));
    }
    uint8_t text[NODE_TEXT_BYTES + 1];
    int64_t n = io->ops->read(io, file, text, sizeof text, 0);
    io->ops->close(io, file);
    if (n < 0) {
        return err_set(err, (int)n, "read " NODE_FILE ": %s", err_name((int)n));
    }
    bool is_framed = n == (int64_t)NODE_TEXT_BYTES && text[ULID_TEXT_BYTES] == '\n';
    if (!is_framed || ulid_parse(node, (struct slice){text, ULID_TEXT_BYTES}) < 0) {
        return err_set(err, ERR_CORRUPT, NODE_FILE " does not hold a ULID and a line feed");
    }
    return 0;
}

static int write_text(struct file_io *io, const char *name, const char *text, size_t bytes)
{
    struct file file;
    int r = io->ops->open(io, name, FILE_OPEN_CREATE, &file);
    if (r < 0) {
        return r;
    }
    r = io->ops->truncate(io, file, 0);
    r = r < 0 ? r : io->ops->write(io, file, text, bytes, 0, false);
    r = r < 0 ? r : io->ops->sync(io, file);
    io->ops->close(io, file);
    return r;
}

int node_write(const struct ulid *node, struct file_io *io, struct err *err)
{
    char text[NODE_TEXT_BYTES];
    ulid_format(text, node);
    text[ULID_TEXT_BYTES] = '\n';
    int r = write_text(io, NODE_FILE ".tmp", text, sizeof text);
    r = r < 0 ? r : io->ops->rename(io, NODE_FILE ".tmp", NODE_FILE);
    r = r < 0 ? r : io->ops->sync_dir(io, "");
    return r < 0 ? err_set(err, r, "write " NODE_FILE ": %s", err_name(r)) : 0;
}
