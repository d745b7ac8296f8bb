/*
 * origin_drain: the lane of the drain for requests from another Sluice (SUBMIT_ORIGIN): drops the
 * records whose (node, LSN) is in the log already, copies the others, remembers their ranges, and
 * leaves the outcome in the batch. Writer's thread. Never fails: what a shard encoded wrongly is a
 * program error.
 *
 * A run is what one range speaks for: its first record and those behind it up to the next range. The
 * range is told by the first record of the run that is stored, so it moves when the first is
 * dropped; of a run without a new record nothing is told, and nothing needs to be.
 *
 * A repeat whose original is not durable yet is answered with a later batch than the original's, or
 * the same: batches become durable in order, and when the original's is given up so is this one.
 */
#ifndef STORE_ORIGIN_DRAIN_H
#define STORE_ORIGIN_DRAIN_H

#include "store/batch.h"
#include "store/origins.h"
#include "store/submit.h"

struct origin_request {
    struct batch *batch;     /* has room for records_bytes and an outcome */
    struct origins *origins; /* has room for the runs of a request */
    const struct submit_header *header;
    const uint8_t *records;
    uint32_t shard;
    uint64_t end;
    uint64_t next_lsn;
};

struct origin_result {
    uint32_t stored;
    uint32_t dropped;
    bool is_refused;        /* nothing was stored, and not because it was there */
    uint64_t outcome_bytes; /* of the ack_outcome */
};

struct origin_result origin_drain(const struct origin_request *request);

#endif
