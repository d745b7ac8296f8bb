#include "forward/replay_job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"

#define JOBS_MAX     1000u
#define LOCK_TRIES   5 /* somebody who only looks holds it for a moment */
#define LOCK_WAIT_NS (20 * NS_MS)
#define NUMBER_BYTES 32

/* ---- names and locks ---- */

bool replay_job_is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t bytes = strlen(name);
    bool is_begun = bytes > 0 && strchr(letters, name[0]) != NULL;
    for (size_t i = 0; i < bytes; i++) {
        is_begun = is_begun && (strchr(letters, name[i]) != NULL || strchr("-_.", name[i]) != NULL);
    }
    return is_begun && bytes < REPLAY_JOB_BYTES;
}

int replay_job_path(char *out, const char *data_dir, const char *job, const char *suffix,
                    struct err *err)
{
    int n = snprintf(out, REPLAY_PATH_BYTES, "%s/" REPLAY_DIR "/%s%s", data_dir, job, suffix);
    return n > 0 && n < REPLAY_PATH_BYTES ? 0 : err_set(err, -ENAMETOOLONG, "%s", data_dir);
}

static int dir_make(const char *data_dir, struct err *err)
{
    char path[REPLAY_PATH_BYTES];
    int r = replay_job_path(path, data_dir, "", "", err);
    if (r == 0 && mkdir(path, 0750) < 0 && errno != EEXIST) {
        r = err_set(err, -errno, "%s: %s", path, err_name(-errno));
    }
    return r;
}

/* A cancelled job's lock file is removed by who holds it: a lock on a file that has no name any more is none. */
static bool has_name(int fd, const char *path)
{
    struct stat ours;
    struct stat named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

static int lock_once(const char *path, bool creates, int *fd)
{
    *fd = open(path, O_RDWR | O_CLOEXEC | (creates ? O_CREAT : 0), 0640);
    if (*fd < 0) {
        return -errno;
    }
    int r = flock(*fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
    if (r == 0 && has_name(*fd, path)) {
        return 0;
    }
    (void)close(*fd);
    return r == 0 || r == -EWOULDBLOCK ? -EBUSY : r;
}

int replay_job_lock(const char *data_dir, const char *job, bool creates, struct err *err)
{
    char path[REPLAY_PATH_BYTES];
    const struct timespec pause = {.tv_nsec = LOCK_WAIT_NS};
    int fd = -1;
    int r = replay_job_path(path, data_dir, job, ".lock", err);
    r = r == 0 && creates ? dir_make(data_dir, err) : r;
    if (r < 0) {
        return r;
    }
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        r = lock_once(path, creates, &fd);
        if (r != -EBUSY) {
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    if (r == -EBUSY) {
        return err_set(err, r, "another process works at replay job %s", job);
    }
    if (r == -ENOENT) {
        return err_set(err, r, "there is no replay job %s", job);
    }
    return r < 0 ? err_set(err, r, "%s: %s", path, err_name(r)) : fd;
}

void replay_job_unlock(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ---- what it is to do ---- */

static int get_number(struct forward_db *db, const char *key, int64_t *value, struct err *err)
{
    char text[NUMBER_BYTES];
    int r = forward_db_meta_get(db, key, text, sizeof text, err);
    if (r == 1) {
        *value = (int64_t)strtoll(text, NULL, 10);
    }
    return r;
}

static int put_number(struct forward_db *db, const char *key, int64_t value, struct err *err)
{
    char text[NUMBER_BYTES];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    return forward_db_meta_put(db, key, text, err);
}

static int read_range(struct forward_db *db, struct replay_range *range, struct err *err)
{
    int64_t lsns[2] = {0, 0};
    static const char *const keys[] = {"lsn_min", "lsn_max", "time_min", "time_max"};
    int64_t *const values[] = {&lsns[0], &lsns[1], &range->time_min_ns, &range->time_max_ns};
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
        int r = get_number(db, keys[i], values[i], err);
        if (r <= 0) {
            return r < 0 ? r : err_set(err, ERR_CORRUPT, "a replay job without %s", keys[i]);
        }
    }
    range->lsn_min = (uint64_t)lsns[0];
    range->lsn_max = (uint64_t)lsns[1];
    return 0;
}

int replay_job_read(struct forward_db *db, const char *job, const char *parameters,
                    struct replay_range *range, struct err *err)
{
    char state[NUMBER_BYTES];
    *range = (struct replay_range){0};
    int r = forward_db_meta_get(db, "state", state, sizeof state, err);
    if (r <= 0) {
        return r;
    }
    range->is_done = strcmp(state, "done") == 0;
    char *text = mem_alloc(REPLAY_PARAMETERS_MAX);
    r = forward_db_meta_get(db, "parameters", text, REPLAY_PARAMETERS_MAX, err);
    if (r >= 0 && parameters != NULL && strcmp(text, parameters) != 0) {
        r = err_set(err, -EEXIST, "job %s is there and is something else: it replays %.300s", job,
                    text);
    }
    mem_free(text);
    r = r >= 0 ? read_range(db, range, err) : r;
    return r < 0 ? r : 1;
}

int replay_job_set_done(struct forward_db *db, bool is_done, struct err *err)
{
    char now[CLOCK_RFC3339_BYTES + 1] = {0};
    (void)clock_rfc3339(now, clock_real_ns(), 3);
    int r = forward_db_meta_put(db, "state", is_done ? "done" : "open", err);
    return r < 0 ? r : forward_db_meta_put(db, "changed_at", now, err);
}

int replay_job_write(struct forward_db *db, const struct replay_plan *plan,
                     const struct replay_range *range, struct err *err)
{
    int r = forward_db_meta_put(db, "parameters", plan->parameters, err);
    r = r < 0 ? r : forward_db_meta_put(db, "sink", plan->sink->name, err);
    r = r < 0 ? r : put_number(db, "lsn_min", (int64_t)range->lsn_min, err);
    r = r < 0 ? r : put_number(db, "lsn_max", (int64_t)range->lsn_max, err);
    r = r < 0 ? r : put_number(db, "time_min", range->time_min_ns, err);
    r = r < 0 ? r : put_number(db, "time_max", range->time_max_ns, err);
    return r < 0 ? r : replay_job_set_done(db, false, err);
}

/* ---- all of them ---- */

static int is_database(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".sqlite") == 0 &&
           strlen(entry->d_name) < REPLAY_JOB_BYTES + 7;
}

static bool is_running(const char *data_dir, const char *job)
{
    char path[REPLAY_PATH_BYTES];
    struct err err = {0};
    int fd = -1;
    if (replay_job_path(path, data_dir, job, ".lock", &err) < 0) {
        return false;
    }
    int r = lock_once(path, false, &fd);
    if (r == 0) {
        replay_job_unlock(fd);
    }
    return r == -EBUSY;
}

static int job_load(struct replay_job *job, const char *path, struct err *err)
{
    struct forward_db *db = NULL;
    struct replay_range range = {0};
    int r = forward_db_open_read_only(&db, path, err);
    if (r < 0) {
        return r;
    }
    r = replay_job_read(db, job->name, NULL, &range, err);
    if (r == 1) {
        job->is_finished = range.is_done;
        job->lsn_min = range.lsn_min;
        job->lsn_max = range.lsn_max;
        r = forward_db_meta_get(db, "parameters", job->parameters, sizeof job->parameters, err);
        r = r < 0 ? r : forward_db_meta_get(db, "sink", job->sink, sizeof job->sink, err);
        r = r < 0 ? r : forward_db_sink_get(db, job->sink, &job->position, err);
    }
    forward_db_close(db);
    return r < 0 ? r : 0;
}

static void job_show(const char *data_dir, const char *file, struct replay_job *job,
                     void (*on_job)(void *context, const struct replay_job *job), void *context)
{
    char path[REPLAY_PATH_BYTES];
    struct err err = {0};
    *job = (struct replay_job){0};
    (void)snprintf(job->name, sizeof job->name, "%.*s", (int)(strlen(file) - 7), file);
    int r = replay_job_path(path, data_dir, job->name, ".sqlite", &err);
    r = r == 0 ? job_load(job, path, &err) : r;
    if (r < 0) {
        (void)snprintf(job->parameters, sizeof job->parameters, "cannot be read: %s", err.text);
    }
    job->is_running = is_running(data_dir, job->name);
    on_job(context, job);
}

int replay_jobs(const char *data_dir, void (*on_job)(void *context, const struct replay_job *job),
                void *context, struct err *err)
{
    char path[REPLAY_PATH_BYTES];
    struct dirent **names = NULL;
    int r = replay_job_path(path, data_dir, "", "", err);
    if (r < 0) {
        return r;
    }
    int count = scandir(path, &names, is_database, alphasort);
    if (count < 0) {
        r = -errno;
        return r == -ENOENT ? 0 : err_set(err, r, "%s: %s", path, err_name(r));
    }
    struct replay_job *job = mem_alloc(sizeof *job);
    for (int i = 0; i < count; i++) {
        if ((unsigned)i < JOBS_MAX) {
            job_show(data_dir, names[i]->d_name, job, on_job, context);
        }
        free(names[i]); /* scandir's */
    }
    free(names);
    mem_free(job);
    return count;
}

int replay_job_remove(const char *data_dir, const char *job, struct err *err)
{
    /* The lock last: until then nobody else makes the job anew. */
    static const char *const suffixes[] = {".sqlite", ".sqlite-wal", ".sqlite-shm", ".lock"};
    char path[REPLAY_PATH_BYTES];
    int fd = replay_job_lock(data_dir, job, false, err);
    int r = fd < 0 ? fd : 0;
    for (size_t i = 0; i < ARRAY_COUNT(suffixes) && r == 0; i++) {
        r = replay_job_path(path, data_dir, job, suffixes[i], err);
        if (r == 0 && unlink(path) < 0 && errno != ENOENT) {
            r = err_set(err, -errno, "%s: %s", path, err_name(-errno));
        }
    }
    replay_job_unlock(fd);
    return r;
}
