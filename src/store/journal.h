/*
 * journal: batches to the disk in order, at most two at a time. Owned by the writer's thread; never
 * blocks.
 *
 *   slots, free-running:   head ............ durable ............ tail
 *                          | to be published | in flight or waiting | the batch under construction
 *
 * Happy path: journal_building gives the batch to fill, journal_submit closes it and starts its
 * write, journal_on_done takes completions in any order, journal_oldest gives batches back in order
 * once everything before them is on stable storage.
 *
 * Failure modes:
 *  - Segment full: roll to the next prepared segment, only when nothing is in flight: a segment's
 *    first header therefore witnesses everything before it.
 *  - No segment yet: -EAGAIN; the keeper is asked and wakes the writer.
 *  - Write failed: nothing more goes to that segment and nothing more is acknowledged from it. Once
 *    its other write is back, it is sealed, and every batch that was not yet durable is written
 *    again to the next segment under the same batch_seq.
 *  - Failed twice: every batch not acknowledged is ABANDONED, LSNs and batch_seq go back to the
 *    durable prefix; the segment is sealed and the next attempt waits (doubling from 1 s to 64 s).
 */
#ifndef STORE_JOURNAL_H
#define STORE_JOURNAL_H

#include "store/batch.h"
#include "store/file_io.h"
#include "store/segment.h"
#include "store/store.h"

#define JOURNAL_SLOTS 4u /* power of two: two in flight, one being built, one being published */

struct keeper;

struct journal_start {
    struct segment active; /* state NONE: take a spare first */
    uint64_t batch_seq;    /* of the last durable batch */
    uint64_t lsn;          /* last durable */
    uint64_t keyed_lsn;
    uint64_t origin_lsn;
    uint32_t header_crc; /* of the last durable batch */
};

struct journal {
    struct file_io *io;
    struct keeper *keeper; /* where segments come from */
    struct store_status *status;
    struct segment active;
    struct batch slots[JOURNAL_SLOTS];
    uint64_t head;
    uint64_t durable;
    uint64_t tail;
    unsigned in_flight;
    bool is_failing;        /* some closed batch has to be written again; new ones wait */
    bool is_segment_failed; /* a write to the active segment failed: it takes no more */
    bool last_was_mark;
    uint64_t active_data_at_ns; /* since when the active segment holds records; 0: it holds none */
    uint64_t active_told;       /* status->active_segment */
    struct park *archive_park;  /* woken when that changes; NULL: nobody waits */
    unsigned failure_streak;    /* abandonments in a row */
    uint64_t retry_at_ns;       /* no write before this after an abandonment; 0: none */
    uint64_t batch_seq_next;
    uint32_t previous_crc; /* header_crc of batch_seq_next - 1 */
    uint64_t batch_bytes;  /* soft limit: what a free batch keeps resident */
    /* The contiguous durable prefix. */
    uint64_t durable_seq;
    uint64_t durable_lsn;
    uint64_t durable_keyed_lsn;
    uint64_t durable_origin_lsn;
    uint32_t durable_crc;
};

int journal_init(struct journal *journal, struct file_io *io, struct keeper *keeper,
                 struct store_status *status, const struct journal_start *start,
                 uint64_t payload_max, uint64_t batch_bytes, struct err *err) MUST_USE;
void journal_close(struct journal *journal);

/* Leaves the active segment for the next spare, however full it is. 0; -EAGAIN: not now (something
 * is in flight, no spare is ready). The caller writes a mark next: the segment left behind is only
 * complete once something durable stands in the new one. */
int journal_roll(struct journal *journal) MUST_USE;
/* The batch under construction (begun at next_lsn when there is none yet); NULL when every slot is
 * waiting for something. */
struct batch *journal_building(struct journal *journal, uint64_t next_lsn);
/* Closes the batch under construction and starts its write. 0; -EAGAIN: not now, the batch stays
 * open (a write must complete or the keeper must bring a segment first). */
int journal_submit(struct journal *journal, uint64_t now_ns) MUST_USE;
/* Writes an empty mark batch when nothing else is under way (else -EAGAIN). The building batch must
 * be empty. Never rolls: -ENOSPC when the active segment has no block left. */
int journal_submit_mark(struct journal *journal, uint64_t next_lsn, uint64_t now_ns) MUST_USE;
/* Takes what file_io's wait returned. */
void journal_on_done(struct journal *journal, struct file_write *done, uint64_t now_ns);
/* After failed writes: seals, rolls and writes again, as far as possible now. 0; -EIO: failed
 * twice, -ENOSPC: no segment to be had: the caller must abandon. */
int journal_rescue(struct journal *journal, uint64_t now_ns) MUST_USE;
/* Abandons everything that is not durable, the batch under construction included; only when nothing
 * is in flight. After FAILED_IO the next attempt waits until retry_at_ns. */
void journal_abandon(struct journal *journal, enum failed_cause cause, uint64_t now_ns);
/* Closes the batch under construction as ABANDONED in its place in the order: it can never fit into
 * a segment. */
void journal_refuse(struct journal *journal, enum failed_cause cause);
/* The batch under construction if there is one, else NULL. */
struct batch *journal_open_batch(struct journal *journal);
/* The oldest closed batch when it is WRITTEN with everything before it, or ABANDONED; else NULL. */
struct batch *journal_oldest(struct journal *journal);
/* Done with the oldest. */
void journal_retire(struct journal *journal);
bool journal_is_idle(
    const struct journal *journal); /* nothing closed that is not retired, nothing in flight */
/* True when a data batch of payload_bytes would need another segment. */
bool journal_needs_segment(const struct journal *journal, uint64_t payload_bytes);

#endif
