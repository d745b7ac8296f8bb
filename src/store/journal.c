/*
 * journal: order, rolling and rescue of the log's writes; see journal.h for the picture and the
 * failure modes. Owned by the writer's thread. The contiguous durable prefix (durable_*) is the
 * only thing that a failure goes back to.
 */
#include "store/journal.h"

#include <errno.h>
#include <inttypes.h>

#include "core/logline.h"
#include "store/keeper.h"

#define RETRY_NS_FIRST      NS_S
#define RETRY_DOUBLINGS_MAX 6u /* 1 s << 6 = 64 s */

_Static_assert((JOURNAL_SLOTS & (JOURNAL_SLOTS - 1)) == 0, "slots are found by masking");
_Static_assert(JOURNAL_SLOTS >= STORE_WRITES_IN_FLIGHT_MAX + 1,
               "one can be built while the others are in flight");

static struct batch *slot_at(struct journal *journal, uint64_t index)
{
    return &journal->slots[index & (JOURNAL_SLOTS - 1)];
}

/* relaxed: only the writer writes its statistics; a reader may be late by one. */
static void stat_add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* What comes next continues the durable prefix. */
static void sequence_reset(struct journal *journal)
{
    journal->batch_seq_next = journal->durable_seq + 1;
    journal->previous_crc = journal->durable_crc;
}

int journal_init(struct journal *journal, struct file_io *io, struct keeper *keeper,
                 struct store_status *status, const struct journal_start *start,
                 uint64_t payload_max, uint64_t batch_bytes, struct err *err)
{
    *journal = (struct journal){.io = io,
                                .keeper = keeper,
                                .status = status,
                                .active = start->active,
                                .batch_bytes = batch_bytes,
                                .durable_seq = start->batch_seq,
                                .durable_lsn = start->lsn,
                                .durable_keyed_lsn = start->keyed_lsn,
                                .durable_origin_lsn = start->origin_lsn,
                                .durable_crc = start->header_crc};
    sequence_reset(journal);
    bool has_batch = start->active.state == SEGMENT_ACTIVE && start->active.end > STORE_BLOCK_BYTES;
    journal->active_data_at_ns = has_batch ? io->ops->mono_ns(io) : 0;
    /* relaxed: set by store_open, before any thread. */
    journal->active_told = atomic_load_explicit(&status->active_segment, memory_order_relaxed);
    for (size_t i = 0; i < JOURNAL_SLOTS; i++) {
        int r = batch_init(&journal->slots[i], payload_max, err);
        if (r < 0) {
            return err_wrap(err, r, "open the journal");
        }
    }
    return 0;
}

void journal_close(struct journal *journal)
{
    for (size_t i = 0; i < JOURNAL_SLOTS; i++) {
        batch_close(&journal->slots[i]);
    }
    if (journal->io != NULL) {
        segment_close(&journal->active, journal->io);
    }
}

struct batch *journal_open_batch(struct journal *journal)
{
    if (journal->tail - journal->head == JOURNAL_SLOTS) {
        return NULL;
    }
    struct batch *batch = slot_at(journal, journal->tail);
    return batch->state == BATCH_BUILDING ? batch : NULL;
}

struct batch *journal_building(struct journal *journal, uint64_t next_lsn)
{
    if (journal->tail - journal->head == JOURNAL_SLOTS) {
        return NULL;
    }
    struct batch *batch = slot_at(journal, journal->tail);
    if (batch->state == BATCH_FREE) {
        batch_begin(batch, next_lsn);
    }
    ASSERT(batch->state == BATCH_BUILDING);
    return batch;
}

/* The first durable batch of a segment proves every one below it complete: what they hold beyond the
 * durable prefix was written again here, or never will be. Only now a crash can no longer make an
 * earlier segment the active one again. */
static void tell_active(struct journal *journal, uint64_t segment_id)
{
    if (LIKELY(segment_id == journal->active_told)) {
        return;
    }
    ASSERT(segment_id > journal->active_told);
    journal->active_told = segment_id;
    /* W2: all segments below are as they will be; pairs with W2 in archive.c. After this they are
     * the archive's. */
    atomic_store_explicit(&journal->status->active_segment, segment_id, memory_order_release);
    if (journal->archive_park != NULL) {
        (void)park_wake(journal->archive_park, true);
    }
}

/* Moves the durable prefix over everything that has been written in one piece behind it. */
static void advance(struct journal *journal)
{
    for (; journal->durable != journal->tail;
         journal->durable++) { /* at most JOURNAL_SLOTS turns */
        const struct batch *batch = slot_at(journal, journal->durable);
        if (batch->state == BATCH_ABANDONED) {
            continue;
        }
        if (batch->state != BATCH_WRITTEN) {
            return;
        }
        if (batch_is_stored(batch)) {
            ASSERT(batch->header.batch_seq == journal->durable_seq + 1);
            journal->durable_seq = batch->header.batch_seq;
            journal->durable_lsn = batch_next_lsn(batch) - 1;
            journal->durable_keyed_lsn = batch->header.keyed_lsn;
            journal->durable_origin_lsn = batch->header.origin_lsn;
            journal->durable_crc = batch->header.header_crc;
            journal->failure_streak = 0;
            tell_active(journal, batch->header.segment_id);
        }
    }
}

static void seal_active(struct journal *journal)
{
    ASSERT(journal->in_flight == 0);
    if (journal->active.state != SEGMENT_ACTIVE) {
        return;
    }
    segment_move(&journal->active, SEGMENT_SEALED);
    stat_add(&journal->status->segments_sealed, 1);
    segment_close(&journal->active, journal->io);
}

static int take_next(struct journal *journal)
{
    struct segment next;
    int r = keeper_take(journal->keeper, &next);
    if (r < 0) {
        return r;
    }
    seal_active(journal);
    journal->active = next;
    journal->active_data_at_ns = 0;
    segment_move(&journal->active, SEGMENT_ACTIVE);
    return 0;
}

/* Only with nothing in flight: so the next segment's first header names everything in this one as
 * durable. */
static int ensure_room(struct journal *journal, uint64_t bytes)
{
    if (segment_has_room(&journal->active, bytes, false)) {
        return 0;
    }
    if (journal->in_flight > 0) {
        return -EAGAIN;
    }
    int r = take_next(journal);
    if (r < 0) {
        return r;
    }
    return segment_has_room(&journal->active, bytes, false)
               ? 0
               : -EAGAIN; /* -EAGAIN: a spare of an earlier, smaller size */
}

int journal_roll(struct journal *journal)
{
    bool is_possible = journal->active.state == SEGMENT_ACTIVE && journal->in_flight == 0 &&
                       !journal->is_failing && keeper_is_ready(journal->keeper);
    return is_possible ? take_next(journal) : -EAGAIN;
}

static void start_write(struct journal *journal, struct batch *batch)
{
    ASSERT(journal->in_flight < STORE_WRITES_IN_FLIGHT_MAX);
    ASSERT(!journal->is_segment_failed);
    struct batch_header *header = &batch->header;
    header->segment_id = journal->active.id;
    header->salt = journal->active.salt;
    header->batch_seq = journal->batch_seq_next;
    header->previous_crc = journal->previous_crc;
    header->durable_lsn = journal->durable_lsn;
    header->built_at_ns = journal->io->ops->real_ns(journal->io);
    uint64_t bytes = batch_seal(batch);
    journal->batch_seq_next++;
    journal->previous_crc = header->header_crc;
    batch->attempts++;
    batch->state = BATCH_IN_FLIGHT;
    batch->write = (struct file_write){.file = journal->active.file,
                                       .data = batch->memory,
                                       .offset = journal->active.end,
                                       .bytes = bytes,
                                       .user = batch};
    journal->active.end += bytes;
    ASSERT(journal->active.end <= journal->active.file_bytes);
    int r = journal->io->ops->submit(journal->io, &batch->write);
    if (r < 0) {
        batch->state = BATCH_WAITING;
        journal->is_failing = true;
        journal->is_segment_failed = true;
        stat_add(&journal->status->write_errors, 1);
        return;
    }
    journal->in_flight++;
}

static bool is_blocked(const struct journal *journal, uint64_t now_ns)
{
    return journal->is_failing || journal->in_flight >= STORE_WRITES_IN_FLIGHT_MAX ||
           now_ns < journal->retry_at_ns;
}

int journal_submit(struct journal *journal, uint64_t now_ns)
{
    struct batch *batch = journal_open_batch(journal);
    ASSERT(batch != NULL);
    ASSERT(!batch_is_empty(batch));
    if (!batch_is_stored(batch)) {
        batch->state = BATCH_WRITTEN; /* answers only: complete in its place in the order */
        journal->tail++;
        advance(journal);
        return 0;
    }
    if (is_blocked(journal, now_ns)) {
        return -EAGAIN;
    }
    int r = ensure_room(journal, batch_file_bytes(batch->payload_bytes));
    if (r < 0) {
        return r;
    }
    journal->tail++;
    journal->last_was_mark = false;
    journal->active_data_at_ns =
        journal->active_data_at_ns == 0 ? now_ns : journal->active_data_at_ns;
    start_write(journal, batch);
    return 0;
}

int journal_submit_mark(struct journal *journal, uint64_t next_lsn, uint64_t now_ns)
{
    if (!journal_is_idle(journal) || is_blocked(journal, now_ns)) {
        return -EAGAIN;
    }
    if (!segment_has_room(&journal->active, batch_file_bytes(0), true)) {
        return -ENOSPC;
    }
    struct batch *batch = journal_building(journal, next_lsn);
    ASSERT(batch != NULL);
    ASSERT(batch_is_empty(batch));
    batch->header.flags = BATCH_MARK;
    batch->header.first_lsn = next_lsn;
    batch->header.keyed_lsn = journal->durable_keyed_lsn;
    batch->header.origin_lsn = journal->durable_origin_lsn;
    journal->tail++;
    journal->last_was_mark = true;
    start_write(journal, batch);
    return 0;
}

static void on_write(struct journal *journal, struct batch *batch, uint64_t now_ns)
{
    ASSERT(batch->state == BATCH_IN_FLIGHT);
    ASSERT(journal->in_flight > 0);
    journal->in_flight--;
    if (batch->write.result == (int64_t)batch->write.bytes) {
        /* Behind a failure nothing more is acknowledged from this segment, also not what it says
         * it has written: it goes to the next one with the batch that failed. */
        batch->state = journal->is_segment_failed ? BATCH_WAITING : BATCH_WRITTEN;
        hist_add(&journal->status->commit_latency,
                 now_ns - u64_min(now_ns, batch->write.submitted_at_ns));
        return;
    }
    batch->state = BATCH_WAITING;
    journal->is_failing = true;
    journal->is_segment_failed = true;
    stat_add(&journal->status->write_errors, 1);
    LOG(LOGLINE_ERROR, "write_failed",
        "segment %" PRIu64 " is sealed after a failed write of %" PRIu64 " bytes at %" PRIu64
        ": %s",
        journal->active.id, batch->write.bytes, batch->write.offset,
        batch->write.result < 0 ? err_name((int)batch->write.result) : "short write");
}

void journal_on_done(struct journal *journal, struct file_write *done, uint64_t now_ns)
{
    for (struct file_write *write = done; write != NULL;) { /* at most STORE_WRITES_IN_FLIGHT_MAX */
        struct file_write *next = write->next;
        on_write(journal, write->user, now_ns);
        write = next;
    }
    advance(journal);
}

/* The failed segment is left for good: everything behind the durable prefix is to be written again,
 * also what did land behind the hole, because the log goes on in another file. */
static int leave_segment(struct journal *journal)
{
    for (uint64_t i = journal->durable; i != journal->tail; i++) {
        const struct batch *batch = slot_at(journal, i);
        if (batch->state == BATCH_WAITING && batch->attempts >= 2) {
            return -EIO;
        }
    }
    for (uint64_t i = journal->durable; i != journal->tail; i++) {
        struct batch *batch = slot_at(journal, i);
        if (batch->state == BATCH_WRITTEN && batch_is_stored(batch)) {
            batch->state = BATCH_WAITING;
        }
    }
    seal_active(journal);
    sequence_reset(journal);
    journal->is_segment_failed = false;
    return 0;
}

static int rewrite_waiting(struct journal *journal)
{
    for (uint64_t i = journal->durable; i != journal->tail; i++) {
        struct batch *batch = slot_at(journal, i);
        if (batch->state != BATCH_WAITING) {
            continue;
        }
        if (journal->in_flight >= STORE_WRITES_IN_FLIGHT_MAX) {
            return 0;
        }
        int r = ensure_room(journal, batch_file_bytes(batch->payload_bytes));
        if (r < 0) {
            bool is_hopeless = journal->in_flight == 0 && keeper_is_out(journal->keeper);
            return is_hopeless ? -ENOSPC : 0;
        }
        start_write(journal, batch);
        if (journal->is_segment_failed) {
            return 0;
        }
    }
    journal->is_failing = false;
    return 0;
}

int journal_rescue(struct journal *journal, uint64_t now_ns)
{
    (void)now_ns;
    if (LIKELY(!journal->is_failing)) {
        return 0;
    }
    if (journal->is_segment_failed) {
        if (journal->in_flight > 0) {
            return 0;
        }
        int r = leave_segment(journal);
        if (r < 0) {
            return r;
        }
    }
    return rewrite_waiting(journal);
}

void journal_abandon(struct journal *journal, enum failed_cause cause, uint64_t now_ns)
{
    ASSERT(journal->in_flight == 0);
    struct batch *open = journal_open_batch(journal);
    journal->tail += open != NULL ? 1 : 0;
    for (uint64_t i = journal->durable; i != journal->tail; i++) {
        slot_at(journal, i)->state = BATCH_ABANDONED;
        slot_at(journal, i)->cause = cause;
    }
    journal->durable = journal->tail;
    if (cause == FAILED_IO) {
        seal_active(journal);
        uint64_t wait = RETRY_NS_FIRST << u64_min(journal->failure_streak, RETRY_DOUBLINGS_MAX);
        journal->retry_at_ns = now_ns + wait;
        journal->failure_streak++;
    }
    sequence_reset(journal);
    journal->is_failing = false;
    journal->is_segment_failed = false;
}

void journal_refuse(struct journal *journal, enum failed_cause cause)
{
    struct batch *batch = journal_open_batch(journal);
    ASSERT(batch != NULL);
    ASSERT(!batch_is_stored(batch));
    batch->state = BATCH_ABANDONED;
    batch->cause = cause;
    journal->tail++;
    advance(journal);
}

struct batch *journal_oldest(struct journal *journal)
{
    return journal->head == journal->durable ? NULL : slot_at(journal, journal->head);
}

void journal_retire(struct journal *journal)
{
    ASSERT(journal->head != journal->durable);
    batch_end(slot_at(journal, journal->head), journal->batch_bytes);
    journal->head++;
}

bool journal_is_idle(const struct journal *journal)
{
    return journal->head == journal->tail && journal->in_flight == 0;
}

bool journal_needs_segment(const struct journal *journal, uint64_t payload_bytes)
{
    return !segment_has_room(&journal->active, batch_file_bytes(payload_bytes), false);
}
