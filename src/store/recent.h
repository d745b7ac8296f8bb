/*
 * recent: the newest batches in memory, so that readers that keep up (tail, forwarder, queries for
 * the newest) never touch the disk. One writer (the log's writer thread), any number of readers.
 *
 * A fixed number of chunks of fixed size, allocated once. The writer appends whole batches
 * (128-byte header and payload, padded to 8) to its chunk and publishes with one release store
 * (edge W3); what is published never changes while the chunk is in use. A full chunk stays readable
 * until the writer reuses it, oldest first: it claims it only when no reader holds it (a reader
 * holds by one addition to the chunk's word of holders, edges W4 and W6), else it leaves that chunk
 * alone, and if none is free the batch is simply not kept: readers find a gap and go to the disk.
 * The writer never waits and never allocates.
 *
 * Batches larger than RECENT_BATCH_MAX are not kept (one look at the disk costs a reader little at
 * such sizes, copying would cost the writer).
 */
#ifndef STORE_RECENT_H
#define STORE_RECENT_H

#include "core/base.h"
#include "core/err.h"
#include "store/log_view.h"

#define RECENT_CHUNKS      8u
#define RECENT_CHUNK_BYTES ((uint64_t)512 << 10)
#define RECENT_BATCH_MAX   ((uint64_t)128 << 10)

struct recent;

int recent_open(struct recent **recent, struct err *err) MUST_USE;
/* Every reader has given back what it held. NULL is fine. */
void recent_close(struct recent *recent);

/* Writer: a batch that just became durable, in order. header: its BATCH_HEADER_BYTES as on disk. */
void recent_put(struct recent *recent, uint64_t first_lsn, uint32_t record_count,
                const uint8_t *header, struct slice payload);

/* A reader's hold on one chunk. Zeroed: holds nothing. */
struct recent_hold {
    struct recent_chunk *chunk;
};
/* The batches from the one that holds lsn on, as far as they are kept contiguously in one chunk.
 * 1: block is filled (batch_align 8; its first batch may begin before lsn) and held until
 * recent_give; 0: lsn is not in memory (older than what is kept, in a gap, or not yet durable).
 * The block may reach beyond the durable_lsn that the caller knows (by what the writer is about to
 * publish as durable): the caller shows nothing beyond that. Wait-free. */
int recent_take(struct recent *recent, uint64_t lsn, struct recent_hold *hold, struct block *block);
/* Any thread. Does nothing when nothing is held. */
void recent_give(struct recent *recent, struct recent_hold *hold);

#endif
