/*
 * replay_job: a job's files, DIR/replay/JOB.sqlite (forward_db.h) and JOB.lock, and what its meta rows say. Private to replay*.c
 * and to who takes orders for its quarantine. One thread.
 *
 * meta: parameters, filter, lsn_min, lsn_max, time_min, time_max (ns), sink, state ("open", "done"), changed_at (for people). All of
 * it is written with the first transaction: a file without "state" is one that a crash left before, and begins anew.
 */
#ifndef FORWARD_REPLAY_JOB_H
#define FORWARD_REPLAY_JOB_H

#include "forward/forward_db.h"
#include "forward/replay.h"

#define REPLAY_PATH_BYTES 4096

struct replay_range {
    uint64_t lsn_min, lsn_max;
    int64_t time_min_ns, time_max_ns;
    bool is_done;
};

/* "DIR/replay/JOB.sqlite", ".lock" ...: suffix. -ENAMETOOLONG. */
int replay_job_path(char *out, const char *data_dir, const char *job, const char *suffix,
                    struct err *err) MUST_USE;
/* A descriptor that holds the lock; -EBUSY: another process has it. creates: also DIR/replay; else -ENOENT. */
int replay_job_lock(const char *data_dir, const char *job, bool creates, struct err *err) MUST_USE;
void replay_job_unlock(int fd);
/* 1: the job is there, 0: it is to be made. -EEXIST: it is there with other parameters (NULL: any). */
int replay_job_read(struct forward_db *db, const char *job, const char *parameters,
                    struct replay_range *range, struct err *err) MUST_USE;
/* Inside a transaction. */
int replay_job_write(struct forward_db *db, const struct replay_plan *plan,
                     const struct replay_range *range, struct err *err) MUST_USE;
int replay_job_set_done(struct forward_db *db, bool is_done, struct err *err) MUST_USE;

#endif
