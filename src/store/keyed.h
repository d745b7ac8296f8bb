/*
 * keyed: the slow lane of the drain: requests that carry an Idempotency-Key (META_RECEIPT on the
 * first record) or records with keys of their own (META_DEDUP_KEY). Looks each key up in the
 * processed set before the copy, drops what was seen, remembers what is new, and leaves the outcome
 * in the batch. Writer's thread. Never fails: what a shard encoded wrongly is a program error.
 *
 * The receipt must survive a first record that is dropped as a duplicate: it then moves to the
 * first record that is stored, and says how many were. When nothing is stored nothing is
 * remembered: a repeat is computed again, with the same result.
 */
#ifndef STORE_KEYED_H
#define STORE_KEYED_H

#include "store/batch.h"
#include "store/dedup.h"
#include "store/submit.h"

#define KEYED_SCRATCH_BYTES (2 * RECORD_META_BYTES_MAX + 2u)

struct keyed_request {
    struct batch *batch; /* has room for records_bytes and an outcome */
    struct dedup *dedup;
    const struct submit_header *header;
    const uint8_t *records;
    uint8_t *scratch; /* KEYED_SCRATCH_BYTES */
    uint32_t shard;
    uint64_t end;
    uint64_t next_lsn;
    int64_t now_ns; /* real */
};

struct keyed_result {
    uint32_t stored;
    uint32_t dropped;
    uint64_t keyed_lsn;     /* of the newest stored record with a key; 0: none */
    uint64_t outcome_bytes; /* of the ack_outcome with its errors */
};

struct keyed_result keyed_drain(const struct keyed_request *request);

#endif
