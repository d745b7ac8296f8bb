/*
 * writer: the agent that owns the log. One pass of writer_duty: tell the shards what became
 * durable, drain their rings into the batch under construction, submit it when the policy says so,
 * mark an idle log, sleep on the ring.
 *
 * Happy path: a request is copied once (with its CRC) from the shard's ring into a batch; when the
 * batch and all before it are on stable storage its shard gets one ack per run. Failure modes: see
 * journal.h; the writer turns "abandoned" into ACK_FAILED, takes the keys of lost records out of
 * the processed set and reuses their LSNs. Acks ring full: the shard's ring is not drained, and a
 * batch half told is told on later. On stop: drains everything, waits for it, writes a closing
 * mark, finishes.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "store/commit_policy.h"
#include "store/dedup.h"
#include "store/journal.h"
#include "store/keeper.h"
#include "store/origins.h"
#include "store/store.h"
#include "store/store_readers.h"

#include <stdatomic.h>

#define WRITER_MARK_IDLE_NS (50 * NS_MS) /* api: an idle log is witnessed after this */
#define WRITER_SLEEP_NS     (NS_S / 4)   /* heartbeat while idle */
#define WRITER_BULK_BYTES   KIB(64)      /* worth a second write in flight, and worth a wake-up */
#define WRITER_ACKS_BYTES   MIB(1)       /* each acks ring; charged when touched */
/* By so much more than the spares the log may outgrow retention_bytes while expiry is late: what is being written, and what is
 * complete and about to leave. */
#define RETENTION_LATE_SEGMENTS 2u

struct writer_shard {
    struct store_port *port;
    const struct spsc_frame
        *held;           /* taken, did not fit into the batch; released after it is copied */
    uint64_t owed_bytes; /* of acks for what was drained and not yet told */
    bool is_touched;     /* has unpublished acks in this pass */
};

struct writer {
    struct file_io *io;
    struct store_status *status;
    struct keeper *keeper;
    struct journal journal;
    struct dedup *dedup;
    struct origins *origins;
    struct park *park;
    const struct store_readers *readers;
    struct commit_policy policy;
    uint64_t batch_bytes;
    uint64_t segment_bytes;
    uint64_t retention_bytes;
    uint64_t segment_age_ns;
    unsigned shard_count;
    unsigned shard_first; /* round-robin */
    struct writer_shard shards[STORE_SHARDS_MAX];
    uint64_t next_lsn;
    uint64_t keyed_lsn;
    uint64_t origin_lsn;
    uint64_t last_data_at_ns; /* completion of the last batch with records */
    uint64_t pause_until_ns;  /* 0: not pausing */
    bool needs_mark;          /* something became durable that no header names yet */
    bool is_stuck;            /* some shard has no room for what the oldest batch has to tell it */
    bool is_read_only;
    enum failed_cause failed_cause; /* of the present trouble */
    uint8_t *scratch;               /* KEYED_SCRATCH_BYTES */
    uint64_t rate_window_at_ns;
    uint64_t rate_window_bytes;
    _Atomic bool is_unheard; /* the shards are gone: acks have no reader */
    _Atomic bool
        stop; /* R22: everything published before it is drained; pairs with A22 in writer_duty */
};

struct writer_options {
    struct file_io *io;
    struct store_status *status;
    struct keeper *keeper;
    struct dedup *dedup;
    struct origins *origins;
    struct park *park;
    struct store_port *ports;
    unsigned shard_count;
    uint64_t ring_bytes;
    uint64_t batch_bytes;
    uint64_t segment_bytes;
    uint64_t retention_bytes;
    uint64_t segment_age_ns; /* an older active segment with records is left; 0: never */
    struct park *archive_park;
    uint64_t commit_pause_ns;
    const struct store_readers *readers; /* gets the durable batches and is told of them */
    struct journal_start start;
};

int writer_init(struct writer *writer, const struct writer_options *options,
                struct err *err) MUST_USE;
void writer_close(struct writer *writer);
/* The agent's duty; also callable single-threaded. 0: again; 1: stopped in order. Never negative:
 * trouble is a state. */
int writer_duty(void *writer);
/* Any thread. */
void writer_stop(struct writer *writer);
/* Any thread. Nobody reads acks any more: what has no room is dropped, so that a stop can end. */
void writer_stop_unheard(struct writer *writer);

#endif
