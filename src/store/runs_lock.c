/*
 * runs_lock: see runs_lock.h. The file is removed by its holder only, while it holds the flock; so who gets a flock looks whether
 * the file it has locked is still the one with the name, and tries again where it is not.
 */
#include "store/runs_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TRIES_MAX = 16, /* each lost to somebody who removed the file just then */
    HOST_BYTES = 256,
    LINES_BYTES = HOST_BYTES + 32,
    HOLDER_BYTES = LINES_BYTES + 32,
};

/* "process 123 on host", out of the two lines; whoever wrote them. */
static void read_holder(int fd, char *holder, size_t room)
{
    char lines[LINES_BYTES];
    ssize_t n = pread(fd, lines, sizeof lines - 1, 0);
    lines[n > 0 ? n : 0] = 0;
    for (char *at = lines; *at != 0; at++) { /* bound: LINES_BYTES */
        bool is_plain = (*at > ' ' && *at < 0x7f) || *at == '\n';
        *at = is_plain ? *at : '?';
    }
    char *host = strchr(lines, '\n');
    if (host == NULL) {
        (void)snprintf(holder, room, "%s", "another process");
        return;
    }
    *host++ = 0;
    host[strcspn(host, "\n")] = 0;
    (void)snprintf(holder, room, "process %s on host %s", lines, host);
}

static bool is_still_named(const struct runs_lock *lock)
{
    struct stat locked;
    struct stat named;
    return fstat(lock->fd, &locked) == 0 && stat(lock->path, &named) == 0 &&
           locked.st_dev == named.st_dev && locked.st_ino == named.st_ino;
}

static int write_lines(const struct runs_lock *lock, struct err *err)
{
    char host[HOST_BYTES] = "";
    char lines[LINES_BYTES];
    if (gethostname(host, sizeof host - 1) < 0) {
        (void)snprintf(host, sizeof host, "%s", "unknown");
    }
    int n = snprintf(lines, sizeof lines, "%ld\n%s\n", (long)getpid(), host);
    if (ftruncate(lock->fd, 0) < 0 || pwrite(lock->fd, lines, (size_t)n, 0) != n) {
        int r = -errno;
        if (r == -ENOSPC || r == -EDQUOT) {
            return 0; /* the flock is the lock; the lines are only for people */
        }
        return err_set(err, r, "write %s: %s", lock->path, err_name(r));
    }
    return 0;
}

/* 1: held; 0: the file was another's by the time it was locked. */
static int try_once(struct runs_lock *lock, struct err *err)
{
    lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (lock->fd < 0) {
        int r = -errno;
        return err_set(err, r, "open the lock file %s: %s", lock->path, err_name(r));
    }
    if (flock(lock->fd, LOCK_EX | LOCK_NB) < 0) {
        int r = -errno;
        char holder[HOLDER_BYTES];
        if (r != -EWOULDBLOCK) {
            /* UNTESTED: a file system without flock. */
            return err_set(err, r, "lock %s: %s", lock->path, err_name(r));
        }
        read_holder(lock->fd, holder, sizeof holder);
        return err_set(err, ERR_LIMIT,
                       "the agent-run database has one writer, and it is %s (lock file %s)", holder,
                       lock->path);
    }
    if (!is_still_named(lock)) {
        (void)close(lock->fd);
        lock->fd = -1;
        return 0;
    }
    int r = write_lines(lock, err);
    return r < 0 ? r : 1;
}

int runs_lock_take(struct runs_lock *lock, const char *path, struct err *err)
{
    lock->fd = -1;
    int n = snprintf(lock->path, sizeof lock->path, "%s", path);
    if (n < 0 || (size_t)n >= sizeof lock->path) {
        return err_set(err, -ENAMETOOLONG, "%s", path);
    }
    int r = 0;
    for (unsigned i = 0; i < TRIES_MAX && r == 0; i++) {
        r = try_once(lock, err);
    }
    if (r == 1) {
        return 0;
    }
    if (lock->fd >= 0) {
        (void)close(lock->fd);
        lock->fd = -1;
    }
    return r < 0 ? r : err_set(err, -EAGAIN, "lock %s: it is removed again and again", lock->path);
}

void runs_lock_give(struct runs_lock *lock)
{
    if (lock->fd < 0) {
        return;
    }
    if (is_still_named(lock)) {
        (void)unlink(lock->path);
    }
    (void)close(lock->fd);
    lock->fd = -1;
}
