/*
 * archive: the agent that looks after segments once the writer has left them: seals, compacts,
 * expires; publishes the view (log_view.h) that readers read; keeps the reserve of promise 6 in
 * mind. One thread (ROLE_ARCHIVE), nice 19 and lowest I/O priority, so that it yields to ingest
 * (but not while the log is over its limit and something may leave: on_hurry);
 * one step of at most one block (about 1 MiB) per duty pass, so that it stops and yields at any
 * point.
 *
 *   PREPARED -> ACTIVE -> SEALED -> COMPACTED -> EXPIRED          (files: .seg, .seg + footer,
 * .slc, none)
 *
 * The files alone say where each segment is; a crash between any two system calls leaves one of the
 * states above or a temporary file that the next start removes. Every rename and unlink is followed
 * by a sync of the directory before the next one is begun, so expiry never leaves a hole in the
 * log.
 *
 * What it may not do: touch a segment at or above status->active_segment (edge W2: written by the
 * writer, release, when it has rolled and everything below is durable and complete); compact a
 * segment with damage; expire a segment with last_lsn at or above status->retain_lsn (the smallest
 * cursor of a configured sink; UINT64_MAX: none) unless unforwarded_drop, which is then counted.
 *
 * Failure: an I/O error or a full disk leaves the segment in the state it has, is counted and
 * logged, and tried again after ARCHIVE_RETRY_NS. Expiry goes on with 0 bytes free (it only
 * unlinks).
 */
#ifndef STORE_ARCHIVE_H
#define STORE_ARCHIVE_H

#include "core/agent.h"
#include "store/log_view.h"
#include "store/store.h"

#define ARCHIVE_RETRY_NS NS_S
/* After so many failed reads of a segment, a second apart, what cannot be read counts as lost: it is sealed as damaged, and so
 * is not in the way of what is behind it. */
#define SEAL_UNREADABLE_TRIES 10u
#define ARCHIVE_SLEEP_NS      (NS_S / 4)

struct archive;

struct archive_options {
    struct file_io *io;
    struct store_status *status;
    struct log_views *views;
    struct park *park; /* its own; the writer wakes it after a roll */
    struct ulid node;
    bool compacts;  /* store.compact */
    int zstd_level; /* store.compact_level, 1..19 */
    uint64_t retention_bytes;
    uint64_t retention_age_ns; /* by receipt time of a segment's last batch; 0: no limit */
    bool unforwarded_drop;
    uint64_t pace_bytes_per_s; /* compaction's upper limit while ingest is busy; 0: none */
    record_keys_fn keys;
    void *keys_context;
    void (*on_view)(void *context); /* after each new view; NULL: nobody waits */
    void *on_view_context;
    /* The agent's thread: the log is over its limit and something may leave, so it should yield to nobody until it is not. NULL:
     * its priority stays. */
    void (*on_hurry)(void *context, bool hurries);
    void *on_hurry_context;
};

int archive_open(struct archive **archive, const struct archive_options *options,
                 struct err *err) MUST_USE;
void archive_close(struct archive *archive);
/* Start-up, after recovery: looks at the files, removes temporaries and raw twins, publishes the
 * first view. Corrupt footers and indexes are told (damaged: treated as not sealed) and counted. */
int archive_start(struct archive *archive, struct err *err) MUST_USE;
/* One step without sleeping: 1: did something; 0: nothing to do now; never negative. Also the
 * simulator's. */
int archive_step(struct archive *archive);
/* The agent's start, and its duty: steps, then sleeps on its park. */
int archive_agent_start(void *archive, struct err *err);
int archive_duty(void *archive);
void archive_stop(struct archive *archive); /* any thread */

#endif
