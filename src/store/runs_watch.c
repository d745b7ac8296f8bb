#include "store/runs_watch.h"

#include <errno.h>
#include <sys/stat.h>

static int64_t changed_ns(const struct stat *is)
{
    return (int64_t)is->st_mtim.tv_sec * (int64_t)NS_S + is->st_mtim.tv_nsec;
}

static bool is_open_one(const struct runs_watch *watch, const struct stat *is)
{
    return is->st_dev == watch->device && is->st_ino == watch->inode;
}

void runs_watch_open(struct runs_watch *watch, const char *path)
{
    struct stat is;
    *watch = (struct runs_watch){0};
    if (stat(path, &is) == 0) {
        watch->device = is.st_dev;
        watch->inode = is.st_ino;
        runs_watch_keep(watch, path);
    }
}

void runs_watch_keep(struct runs_watch *watch, const char *path)
{
    struct stat is;
    if (stat(path, &is) == 0 && is_open_one(watch, &is)) {
        watch->bytes = (uint64_t)is.st_size;
        watch->changed_ns = changed_ns(&is);
    }
}

enum runs_watched runs_watch_look(const struct runs_watch *watch, const char *path)
{
    struct stat is;
    if (stat(path, &is) < 0) {
        /* A directory that may not be searched just now says nothing about the file. */
        return errno == ENOENT || errno == ENOTDIR ? RUNS_FILE_MOVED : RUNS_FILE_SAME;
    }
    if (!is_open_one(watch, &is)) {
        return RUNS_FILE_MOVED;
    }
    bool is_as_left = (uint64_t)is.st_size == watch->bytes && changed_ns(&is) == watch->changed_ns;
    return is_as_left ? RUNS_FILE_SAME : RUNS_FILE_WRITTEN;
}
