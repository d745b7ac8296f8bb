/*
 * batch: one durable write while it is in memory: header room, payload, padding, and who is to be
 * told when it is durable. Owned by the writer's thread. Memory is mapped once, as large as the
 * largest request (the submit ring's size), and charged only when touched; what a batch larger than
 * the soft limit touched is given back after it.
 *
 * Life: FREE -> BUILDING -> (WAITING ->) IN_FLIGHT -> WRITTEN -> FREE. A failed write goes back to
 * WAITING once, under the same batch_seq; the second time the batch is ABANDONED and everybody in
 * it is told so. A batch without records (only answers: every request in it was a duplicate) goes
 * from BUILDING to WRITTEN without I/O, in its place in the order.
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/format.h"
#include "store/submit.h"

#define BATCH_RUNS_MAX                                                                             \
    256u /* more runs than that end the batch; 256 x 32 bytes of acks at most                      \
          */
#define BATCH_OUTCOME_BYTES                                                                        \
    KIB(256) /* room for the outcomes of keyed requests: 3000 short ones                           \
              */

enum batch_state {
    BATCH_FREE = 0,
    BATCH_BUILDING = 1,
    BATCH_WAITING = 2, /* closed; to be written (again) */
    BATCH_IN_FLIGHT = 3,
    BATCH_WRITTEN = 4,
    BATCH_ABANDONED = 5,
};

/* Requests of one shard with consecutive LSNs: one ACK_DURABLE. */
struct batch_run {
    uint64_t end;
    uint64_t first_lsn;
    uint32_t shard;
    uint32_t reserved;
};

/* In outcome_memory: this, then bytes of struct ack_outcome with its errors, padded to 16. */
struct batch_outcome {
    uint32_t shard;
    uint32_t bytes;
    uint64_t reserved;
};

struct batch {
    enum batch_state state;
    uint8_t *memory; /* block-aligned; BATCH_HEADER_BYTES, then payload */
    uint64_t memory_bytes;
    uint64_t payload_max;   /* what memory can hold */
    uint64_t touched_bytes; /* high-water mark since the pages were last given back */
    struct batch_header header;
    uint64_t payload_bytes;
    uint64_t oldest_at_ns;   /* submitted_at of the oldest request; 0: none */
    uint32_t attempts;       /* times submitted */
    enum failed_cause cause; /* ABANDONED: why */
    uint32_t request_count;
    struct batch_run runs[BATCH_RUNS_MAX];
    uint32_t run_count;
    uint32_t runs_published;
    uint8_t *outcome_memory;
    uint64_t outcome_bytes;
    uint64_t outcomes_published; /* bytes */
    struct file_write write;
};

int batch_init(struct batch *batch, uint64_t payload_max, struct err *err) MUST_USE;
void batch_close(struct batch *batch);
/* FREE -> BUILDING, empty. */
void batch_begin(struct batch *batch, uint64_t first_lsn);
/* -> FREE. Gives pages beyond keep_bytes back. */
void batch_end(struct batch *batch, uint64_t keep_bytes);

/* Where the next record goes; 8-byte aligned. */
static inline uint8_t *batch_tail(struct batch *batch)
{
    return batch->memory + BATCH_HEADER_BYTES + batch->payload_bytes;
}

/* Copies whole records to the tail and carries the payload CRC on. The caller has checked the room.
 */
void batch_copy(struct batch *batch, const uint8_t *records, uint64_t bytes);
/* Counts what the caller wrote at the tail itself. */
void batch_extend(struct batch *batch, uint64_t bytes);
/* Adds records to the header's counts. */
void batch_count(struct batch *batch, uint32_t records, uint32_t kinds, int64_t time_min_ns,
                 int64_t time_max_ns);
/* Extends the shard's run, or opens one that starts at first_lsn. batch_has_run_room first. */
void batch_run_extend(struct batch *batch, uint32_t shard, uint64_t end, uint64_t first_lsn);
bool batch_has_run_room(const struct batch *batch);
/* Room for one more outcome of the largest size. */
bool batch_has_outcome_room(const struct batch *batch);
/* Copies an outcome (with errors behind it when errors.bytes is not 0; outcome->errors_bytes is set
 * here). */
void batch_add_outcome(struct batch *batch, uint32_t shard, const struct ack_outcome *outcome,
                       struct slice errors);
/* LSN after the last record. */
uint64_t batch_next_lsn(const struct batch *batch);
/* Has a place in the log: records or a mark. */
bool batch_is_stored(const struct batch *batch);
bool batch_is_empty(const struct batch *batch); /* nothing in it at all */
/* Encodes the header and zeroes the padding; returns the bytes to write. */
uint64_t batch_seal(struct batch *batch);

#endif
