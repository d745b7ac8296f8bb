/*
 * replay: a job that delivers a part of the log once more (or for the first time) to an upstream: a delivery with its own
 * place, frozen batches and quarantine in DIR/replay/JOB.sqlite. Runs in a process of its own beside a server, or without
 * one; touches neither the server's lock nor its database. One owner, one thread.
 *
 *   open ─► step, step ... ─► finished     replay_step is a pass: read, freeze, commit, send, wait
 *             │   ▲
 *        stop │   │ open again, in the same or another process
 *             ▼   │
 *           paused (or killed: nothing is lost, retries are byte-identical)
 *
 * What the job is to do is decided when it is made and kept in its file: the LSNs (an open end is the end of the log at that
 * time), the times (so that now-1h stays what it was), the sink and the filter. The same name with other parameters is
 * refused. One process at a time works at a job (flock of DIR/replay/JOB.lock).
 *
 * A record has its own ULID and LSN, the sink's format, and the same bytes as in live forwarding. The batches are the job's own, and
 * so are their keys (STREAM-SINK-FIRST-LAST-HASH, delivery_read.c).
 */
#ifndef FORWARD_REPLAY_H
#define FORWARD_REPLAY_H

#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/replay_log.h"
#include "forward/sink_status.h"
#include "store/scan.h"

#define REPLAY_DIR            "replay"
#define REPLAY_JOB_BYTES      65 /* a name, with its NUL */
#define REPLAY_PARAMETERS_MAX 4096
#define REPLAY_STOP_NS        (2 * NS_S)

/* What is asked for. Borrowed for the life of the job. */
struct replay_plan {
    const struct config_sink *sink;
    bool compacts; /* store.compact */
    const char *job;
    const char *parameters; /* sink, range and filter in words: who has the same has the same job */
    uint64_t lsn_min, lsn_max;        /* 0, UINT64_MAX: all there is */
    int64_t time_min_ns, time_max_ns; /* event times, inclusive; INT64_MIN, INT64_MAX: open */
    /* The filter: what the scan judges (its times and LSNs are not used), what match judges, and both in words ("": none). */
    struct scan_filter filter;
    scan_match_fn match;
    void *match_context;
    const char *filter_text;
};

/* A good name: 1..64 of a-z A-Z 0-9 - _ . and none of the last three at its beginning. */
bool replay_job_is_name(const char *name);

/* ---- dry run: writes nothing, needs no job ---- */

struct replay_count {
    uint64_t first_lsn, last_lsn; /* the range that was looked at; first > last: it is empty */
    uint64_t records, payload_bytes;
    uint64_t by_kind[RECORD_KIND_MAX + 1];
    int64_t oldest_ns, newest_ns; /* event times; INT64_MAX, INT64_MIN: no records */
    uint64_t segments;            /* sinks that take whole segments */
    uint64_t damaged;             /* stretches that cannot be read */
};
/* Counts what passes. on_bytes: about how far it is, may be NULL. */
int replay_count(const struct replay_plan *plan, struct replay_log *log, struct replay_count *count,
                 void (*on_bytes)(void *context, uint64_t done, uint64_t all), void *context,
                 struct err *err) MUST_USE;

/* ---- a job ---- */

struct replay;

/* log: borrowed. Makes the job or goes on with it. -EBUSY: another process works at it. -EEXIST: it is there with other
 * parameters. ERR_LIMIT: the log ends before the job's range (put back from a backup). Each with a text. */
int replay_open(struct replay **replay, const char *data_dir, const struct replay_plan *plan,
                struct replay_log *log, struct err *err) MUST_USE;
/* What is under way is sent again, byte-identical, by who opens it next. */
void replay_close(struct replay *replay);
/* 1: finished or stopped. 0: go on. Negative: this pass failed (a full disk ...), nothing is lost; going on tries again
 * after a second. Sleeps at most 50 ms. */
int replay_step(struct replay *replay, struct err *err) MUST_USE;
/* Nothing new is begun; steps end when no request is under way, within REPLAY_STOP_NS. */
void replay_stop(struct replay *replay);
bool replay_is_finished(const struct replay *replay);
/* It was there before this open. */
bool replay_is_resumed(const struct replay *replay);

struct replay_progress {
    struct sink_picture picture;
    uint64_t first_lsn, last_lsn; /* of the job; first > last: nothing to do */
    uint64_t done_lsns, all_lsns;
    uint64_t done_bytes, all_bytes; /* about, of payload */
};
void replay_look(struct replay *replay, struct replay_progress *progress);

/* ---- jobs on disk ---- */

struct replay_job {
    char name[REPLAY_JOB_BYTES];
    char sink[CONFIG_SINK_NAME_MAX + 1];
    char parameters[REPLAY_PARAMETERS_MAX];
    bool is_running;
    bool is_finished;
    uint64_t lsn_min, lsn_max;
    struct sink_position position;
};
/* In the order of their names; a file that cannot be read is shown with its name and parameters that say why. Returns how
 * many; none is fine. */
int replay_jobs(const char *data_dir, void (*on_job)(void *context, const struct replay_job *job),
                void *context, struct err *err) MUST_USE;
/* -ENOENT: no such job; -EBUSY: it is running. */
int replay_job_remove(const char *data_dir, const char *job, struct err *err) MUST_USE;

#endif
