/*
 * replay_log: the log of a data directory as a replay sees it, while a server runs on it or not: reads files only, takes no
 * lock, asks nobody. One owner, one thread.
 *
 * THE END. A record that is on disk but not yet durable may lose its LSN to another one in a power cut, and an upstream that
 * knows records by node and LSN would then take the second for the first. So the end of the log is what a later batch
 * names durable; or, where nobody has written for REPLAY_LOG_QUIET_NS (a running server closes that window by itself), what
 * is valid.
 */
#ifndef FORWARD_REPLAY_LOG_H
#define FORWARD_REPLAY_LOG_H

#include "core/err.h"
#include "core/ulid.h"
#include "store/lineage.h"
#include "store/scan.h"
#include "store/store.h"

#define REPLAY_LOG_QUIET_NS  (2 * NS_S)
#define REPLAY_LOG_RELOAD_NS NS_S

struct replay_log {
    struct file_io *io;
    struct log_views *views;
    struct ulid node;
    struct lineage *lineage;         /* as of the end of the log, or later */
    struct store_status *status;     /* durable_lsn: the end; first_lsn: of the oldest record */
    uint64_t tail_first, tail_bytes; /* of the newest file when the end was looked for */
    uint64_t loaded_ns;
    void (*on_problem)(void *context, const char *line); /* may be NULL */
    void *context;
};

/* Finds the end: may wait REPLAY_LOG_QUIET_NS. -ENOENT with a text: there is no log. Close it also after a failure. */
int replay_log_open(struct replay_log *log, const char *data_dir,
                    void (*on_problem)(void *context, const char *line), void *context,
                    struct err *err) MUST_USE;
void replay_log_close(struct replay_log *log);
/* Looks for files that were compacted or removed meanwhile, REPLAY_LOG_RELOAD_NS apart; the end stays. */
void replay_log_refresh(struct replay_log *log, uint64_t now_ns);
uint64_t replay_log_begin(const struct replay_log *log);
uint64_t replay_log_end(const struct replay_log *log);
struct scan_source replay_log_source(const struct replay_log *log);
/* About how many payload bytes lie in a range; for progress. */
uint64_t replay_log_bytes(const struct replay_log *log, uint64_t first, uint64_t last);
/* Sinks that take whole segments: first becomes that of the segment it lies in, last the end of the last segment that will not
 * change any more and begins in the range. False: there is none. compacts: the store compacts. */
bool replay_log_segments(const struct replay_log *log, bool compacts, uint64_t *first,
                         uint64_t *last);

#endif
