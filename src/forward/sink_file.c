/*
 * sink_file: find the file, find the place, write, make durable. What cannot be done now is an answer, never a guess.
 */
#include "forward/sink_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/logline.h"

#define FILE_MODE       0640
#define LOOK_BYTES      KIB(64)
#define REMOVALS_MAX    1000     /* of one rotation; the next one goes on */
#define DIRECTORY_FILES 1000000u /* at most so many entries are looked at */

void sink_file_init(struct sink_file *file, const struct config_sink *sink)
{
    *file = (struct sink_file){.sink = sink};
    for (unsigned i = 0; i < SINK_FILE_OPEN_MAX; i++) {
        file->opens[i].fd = -1;
    }
}

static void open_drop(struct sink_file_open *open)
{
    if (open->fd >= 0) {
        (void)close(open->fd); /* everything in it was made durable or was not promised */
    }
    *open = (struct sink_file_open){.fd = -1};
}

void sink_file_close(struct sink_file *file)
{
    for (unsigned i = 0; i < SINK_FILE_OPEN_MAX; i++) {
        open_drop(&file->opens[i]);
    }
}

void sink_file_path(const struct config_sink *sink, const char *name, char *out)
{
    int length =
        snprintf(out, SINK_FILE_PATH_BYTES, "%s%s%s", sink->path, name[0] != '\0' ? "." : "", name);
    ASSERT(length > 0 && (size_t)length < SINK_FILE_PATH_BYTES);
}

static int fail(const struct sink_file *file, struct err *err, const char *what, const char *path,
                int error)
{
    return err_set(err, -error, "sink %s: %s %s: %s", file->sink->name, what, path,
                   err_name(-error));
}

/* The directory of PATH; out: SINK_FILE_PATH_BYTES. */
static void directory_of(const struct sink_file *file, char *out)
{
    const char *slash = strrchr(file->sink->path, '/');
    const size_t bytes = slash == NULL ? 0 : (size_t)(slash - file->sink->path) + 1;
    int length =
        snprintf(out, SINK_FILE_PATH_BYTES, "%.*s", (int)bytes, bytes == 0 ? "" : file->sink->path);
    ASSERT(length >= 0);
    if (bytes == 0) {
        memcpy(out, ".", 2);
    }
}

/* Names are durable only when their directory is. */
static int directory_sync(const struct sink_file *file, struct err *err)
{
    char path[SINK_FILE_PATH_BYTES];
    directory_of(file, path);
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return error == 0 ? 0 : fail(file, err, "cannot sync directory", path, error);
}

/* ------------------------------------------------------------------- rotation */

/* The smallest rotated name of ours in the directory, and how many there are. */
static unsigned rotated_oldest(const struct sink_file *file, const char *directory, char *oldest)
{
    const char *slash = strrchr(file->sink->path, '/');
    const char *base = slash == NULL ? file->sink->path : slash + 1;
    const size_t base_bytes = strlen(base);
    unsigned count = 0;
    oldest[0] = '\0';
    DIR *dir = opendir(directory);
    for (unsigned i = 0; dir != NULL && i < DIRECTORY_FILES; i++) {
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        const char *name = entry->d_name;
        if (strncmp(name, base, base_bytes) != 0 || name[base_bytes] != '.' ||
            !file_target_is_name(name + base_bytes + 1)) {
            continue;
        }
        count++;
        if (oldest[0] == '\0' || strcmp(name + base_bytes + 1, oldest) < 0) {
            memcpy(oldest, name + base_bytes + 1, FILE_NAME_BYTES);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return count;
}

/* rotate_keep of them stay. A failure costs room on the disk, no data: said, tried again at the next rotation. */
static void rotated_trim(const struct sink_file *file)
{
    char directory[SINK_FILE_PATH_BYTES];
    char path[SINK_FILE_PATH_BYTES];
    char oldest[FILE_NAME_BYTES];
    directory_of(file, directory);
    for (unsigned i = 0; file->sink->rotate_keep > 0 && i < REMOVALS_MAX; i++) {
        if (rotated_oldest(file, directory, oldest) <= file->sink->rotate_keep) {
            return;
        }
        sink_file_path(file->sink, oldest, path);
        if (unlink(path) != 0) {
            LOG(LOGLINE_WARNING, "sink_file_keeps", "sink %s: cannot remove %s: %s",
                file->sink->name, path, err_name(-errno));
            return;
        }
        LOG(LOGLINE_INFO, "sink_file_removed", "sink %s: removed %s (rotate_keep = %" PRIu64 ")",
            file->sink->name, path, file->sink->rotate_keep);
    }
}

static void opens_rotated(struct sink_file *file, const char *name)
{
    for (unsigned i = 0; i < SINK_FILE_OPEN_MAX; i++) {
        if (strcmp(file->opens[i].name, name) == 0) {
            file->opens[i].is_at_path = false;
        }
    }
}

/* PATH becomes PATH.before, unless that was done already. */
static int rotate(struct sink_file *file, const char *before, struct err *err)
{
    char path[SINK_FILE_PATH_BYTES];
    char rotated[SINK_FILE_PATH_BYTES];
    struct stat status;
    if (before[0] == '\0' || strcmp(before, file->rotated_last) == 0) {
        return 0;
    }
    sink_file_path(file->sink, "", path);
    sink_file_path(file->sink, before, rotated);
    if (stat(rotated, &status) != 0 && stat(path, &status) == 0) {
        if (rename(path, rotated) != 0) {
            return fail(file, err, "cannot rotate to", rotated, errno);
        }
        LOG(LOGLINE_INFO, "sink_file_rotated", "sink %s: %s is now %s", file->sink->name, path,
            rotated);
    }
    int result = directory_sync(file, err);
    if (result < 0) {
        return result;
    }
    opens_rotated(file, before);
    memcpy(file->rotated_last, before, FILE_NAME_BYTES);
    rotated_trim(file);
    return 0;
}

/* ------------------------------------------------------------------- the file of a target */

static struct sink_file_open *opens_find(struct sink_file *file, const char *name)
{
    for (unsigned i = 0; i < SINK_FILE_OPEN_MAX; i++) {
        if (file->opens[i].fd >= 0 && strcmp(file->opens[i].name, name) == 0) {
            return &file->opens[i];
        }
    }
    return NULL;
}

static struct sink_file_open *opens_put(struct sink_file *file, const char *name, int fd,
                                        bool is_at_path)
{
    struct sink_file_open *open = &file->opens[file->open_next++ % SINK_FILE_OPEN_MAX];
    open_drop(open);
    *open = (struct sink_file_open){.fd = fd, .is_at_path = is_at_path};
    memcpy(open->name, name, FILE_NAME_BYTES);
    return open;
}

/* Opens path, makes it where that is asked for. -ENOENT without an err: it is not there. */
static int file_open(const struct sink_file *file, const char *path, bool may_make, struct err *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && may_make) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, FILE_MODE);
        int result = fd < 0 ? 0 : directory_sync(file, err);
        if (result < 0) {
            (void)close(fd);
            return result;
        }
    }
    struct stat status;
    if (fd < 0) {
        return errno == ENOENT && !may_make ? -ENOENT : fail(file, err, "cannot open", path, errno);
    }
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        (void)close(fd);
        return fail(file, err, "not a regular file:", path, EINVAL);
    }
    return fd;
}

static int file_find(struct sink_file *file, const struct file_target *target,
                     struct sink_file_open **open, struct err *err)
{
    char path[SINK_FILE_PATH_BYTES];
    *open = opens_find(file, target->name);
    if (*open != NULL) {
        return 0;
    }
    sink_file_path(file->sink, target->name, path);
    int fd = file_open(file, path, false, err);
    const bool is_at_path = fd == -ENOENT;
    if (is_at_path) {
        int result = rotate(file, target->before, err);
        if (result < 0) {
            return result;
        }
        sink_file_path(file->sink, "", path);
        fd = file_open(file, path, true, err);
    }
    if (fd < 0) {
        return fd;
    }
    *open = opens_put(file, target->name, fd, is_at_path);
    return 0;
}

/* ------------------------------------------------------------------- the place */

static bool was_moved(const struct sink_file *file, const struct sink_file_open *open,
                      const struct stat *ours)
{
    struct stat status;
    return open->is_at_path && (stat(file->sink->path, &status) != 0 ||
                                status.st_ino != ours->st_ino || status.st_dev != ours->st_dev);
}

static bool is_ours(const uint8_t *found, const uint8_t *body, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (found[i] != body[i] && found[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Is nothing at the place but this batch's own bytes, or zeroes? 1: yes, 0: no. */
static int place_is_free(const struct sink_file *file, const struct sink_file_open *open,
                         uint64_t offset, uint64_t size, struct slice body, struct err *err)
{
    uint8_t found[LOOK_BYTES];
    const uint64_t end = u64_min(size, offset + body.bytes);
    for (uint64_t at = offset; at < end;) {
        const size_t bytes = u64_min(sizeof found, end - at);
        const ssize_t got = pread(open->fd, found, bytes, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail(file, err, "cannot read", file->sink->path, errno);
        }
        if (got == 0) {
            return 1; /* somebody cut it this moment: what is not there is free */
        }
        if (!is_ours(found, body.data + (at - offset), (size_t)got)) {
            return 0;
        }
        at += (uint64_t)got;
    }
    return 1;
}

static void say_lost(const struct sink_file *file, struct sink_file_open *open, const char *what)
{
    if (!open->is_lost) {
        LOG(LOGLINE_WARNING, "sink_file_changed", "sink %s: %s %s", file->sink->name,
            file->sink->path, what);
    }
    open->is_lost = true;
}

/* The batch's place is gone: it goes to the end of PATH.NAME. */
static int own_file(struct sink_file *file, struct sink_file_open **open,
                    const struct file_target *target, uint64_t *place, struct err *err)
{
    char path[SINK_FILE_PATH_BYTES];
    struct stat status;
    say_lost(file, *open,
             "was truncated or replaced: batches that had their place in it go to a file of their "
             "own; they may also be in what was taken away");
    if ((*open)->is_at_path) {
        sink_file_path(file->sink, target->name, path);
        const int fd = file_open(file, path, true, err);
        if (fd < 0) {
            return fd;
        }
        (void)close((*open)->fd);
        (*open)->fd = fd;
        (*open)->is_at_path = false;
    }
    if (fstat((*open)->fd, &status) != 0) {
        return fail(file, err, "cannot look at", file->sink->path, errno); /* UNTESTED: EIO */
    }
    *place = (uint64_t)status.st_size;
    (*open)->is_own = true;
    (*open)->safe_end = *place;
    return 0;
}

static int place_find(struct sink_file *file, struct sink_file_open **open,
                      const struct file_target *target, uint64_t floor, struct slice body,
                      uint64_t *place, struct err *err)
{
    struct stat status;
    if (fstat((*open)->fd, &status) != 0) {
        return fail(file, err, "cannot look at", file->sink->path, errno); /* UNTESTED: EIO */
    }
    if (was_moved(file, *open, &status)) {
        say_lost(file, *open, "was moved away: what had its place in it still goes there");
    }
    const uint64_t size = (uint64_t)status.st_size;
    int result = 0;
    if (!(*open)->is_own && size >= u64_max(u64_min(floor, target->offset), (*open)->safe_end)) {
        result = place_is_free(file, *open, target->offset, size, body, err);
    }
    if (result == 0) {
        return own_file(file, open, target, place, err);
    }
    *place = target->offset;
    return result < 0 ? result : 0;
}

/* ------------------------------------------------------------------- writing */

static int write_all(int fd, struct slice body, uint64_t at)
{
    for (size_t done = 0; done < body.bytes;) {
        const ssize_t put = pwrite(fd, body.data + done, body.bytes - done, (off_t)(at + done));
        if (put == 0 || (put < 0 && errno != EINTR)) {
            return put == 0 ? -EIO : -errno;
        }
        done += put > 0 ? (size_t)put : 0;
    }
    return fdatasync(fd) == 0 ? 0 : -errno;
}

int sink_file_write(struct sink_file *file, const struct file_target *target, uint64_t floor,
                    struct slice body, bool *is_lost, struct err *err)
{
    struct sink_file_open *open = NULL;
    uint64_t place = 0;
    *is_lost = false;
    int result = file_find(file, target, &open, err);
    if (result < 0) {
        return result;
    }
    result = place_find(file, &open, target, floor, body, &place, err);
    *is_lost = open->is_lost;
    if (result < 0) {
        return result;
    }
    result = write_all(open->fd, body, place);
    if (result < 0) {
        if (place != target->offset && ftruncate(open->fd, (off_t)place) != 0) {
            /* A repeat appends behind what stays, which is a batch cut short: said below. */
            LOG(LOGLINE_WARNING, "sink_file_torn", "sink %s: the end of %s.%s is torn",
                file->sink->name, file->sink->path, target->name);
        }
        return fail(file, err, "cannot write", file->sink->path, -result);
    }
    open->safe_end = u64_max(open->safe_end, place + body.bytes);
    return 0;
}
