/*
 * keeper: the agent that keeps room ahead of the writer: prepared segments, the reserve file, the
 * numbers on free space. Everything slow that the log needs happens here. One producer (keeper),
 * one consumer (writer): segments pass through a small ring.
 *
 * Full (enough spares) is idleness. Failure to prepare is counted, logged, and tried again after
 * KEEPER_RETRY_NS; the writer turns it into SHED and READ_ONLY (store.h) when it matters. On close
 * unused spares stay on disk and are found again.
 *
 * Edges: R20/A20 hands a segment over (keeper_prepare_one / keeper_take); R21/A21 gives its place
 * back.
 */
#ifndef STORE_KEEPER_H
#define STORE_KEEPER_H

#include "core/agent.h"
#include "core/park.h"
#include "store/origins.h"
#include "store/segment.h"
#include "store/store.h"

#include <stdatomic.h>

#define KEEPER_READY_MAX 8u /* power of two */
#define KEEPER_RETRY_NS  NS_S
#define KEEPER_SLEEP_NS  (NS_S / 4)
#define KEEPER_RESERVE   "reserve"

struct keeper {
    /* Written once. */
    struct file_io *io;
    struct store_status *status;
    struct origins *origins;
    struct ulid node;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    uint64_t spares_wanted;
    struct park park;         /* the keeper sleeps here */
    struct park *writer_park; /* woken when a segment is ready */
    uint64_t sealed_seen;     /* segments the writer had used up when the last preparation began */
    uint64_t sealed_at_ns;    /* and when that was; 0: none yet */
    uint8_t *zeroes;          /* SEGMENT_CHUNK_BYTES, read only */
    uint8_t *block;
    /* The keeper's own. */
    uint64_t id_next;
    uint64_t retry_at_ns;
    uint64_t looked_at_ns; /* free space */
    bool has_reserve;
    bool warned_reserve;
    struct segment ready[KEEPER_READY_MAX];
    CACHE_LINE_ALIGNED _Atomic uint64_t ready_tail; /* K: handed over */
    _Atomic bool is_failing;                        /* K: the last attempt to prepare failed */
    CACHE_LINE_ALIGNED _Atomic uint64_t ready_head; /* W: taken */
    _Atomic bool hurry;                             /* W: waits for a segment */
    _Atomic bool stop;                              /* W: has finished */
};

struct keeper_options {
    struct file_io *io;
    struct store_status *status;
    struct park *writer_park;
    struct origins *origins; /* whose file it writes; NULL: none */
    struct ulid node;
    uint64_t segment_bytes;
    uint64_t reserve_bytes;
    uint32_t spares;
    uint64_t id_next;
};

int keeper_init(struct keeper *keeper, const struct keeper_options *options,
                struct err *err) MUST_USE;
void keeper_close(struct keeper *keeper);
/* Start-up only: a prepared segment that recovery found. False: there are enough. */
bool keeper_add_spare(struct keeper *keeper, const struct segment *segment);
/* Start-up and the keeper: makes one segment ready now. */
int keeper_prepare_one(struct keeper *keeper, struct err *err) MUST_USE;

/* Start-up and the keeper: the reserve file, when it is missing and there is room. */
void keeper_reserve(struct keeper *keeper);

/* One pass: the file of origins, reserve, spares, free space. Does not sleep. Returns 0, or 1 when the writer has
 * finished. */
int keeper_duty(void *keeper);
/* The same with a sleep at the end: the thread's duty. */
int keeper_agent_duty(void *keeper);

/* Writer. Moves the next prepared segment to *segment; -EAGAIN: none yet, the keeper has been told
 * to hurry. */
int keeper_take(struct keeper *keeper, struct segment *segment) MUST_USE;
/* Writer. True when keeper_take would bring one. */
bool keeper_is_ready(const struct keeper *keeper);
/* Writer. True when no spare is ready and the last attempt to make one failed. */
bool keeper_is_out(const struct keeper *keeper);

#endif
