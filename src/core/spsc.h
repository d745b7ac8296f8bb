/*
 * spsc: a wait-free byte ring between exactly one producer thread and one consumer thread.
 *
 *   free-running 64-bit positions; position & mask is the offset. The memory is mapped twice in a
 * row, so that every frame is contiguous and no frame ever wraps.
 *
 *        released (head)                 published (tail)        claimed
 *              v                               v                    v
 *   ...........[ frames the consumer may read  ][ being written ....]..........
 *              ^ consumer side                  ^ producer side
 *
 * A frame is a 16-byte header {bytes, type} and its payload, padded to 16. The producer claims
 * room, writes, commits (private) and publishes (one release store for any number of frames: once
 * per duty pass). The consumer takes frames in order and releases them in bulk. Each side caches
 * the other's position and reads it again only when the cache says "full" or "empty".
 *
 * Full is an answer (NULL), never a wait. Nothing here sleeps: see park.h.
 *
 * While the ring is empty and the producer is far into it, the producer skips to the start of the
 * memory, so that a ring large enough for the largest request keeps a working set that fits the
 * cache. The skip is two words beside tail, not bytes in the ring, and a skipped stretch never
 * counts as used: right after a skip the whole capacity is free.
 *
 * Edges (docs/THREADS.md): R1/A1 publish a frame's bytes; R2/A2 licence to overwrite released
 * bytes.
 */
#ifndef CORE_SPSC_H
#define CORE_SPSC_H

#include "core/base.h"
#include "core/err.h"

#include <stdatomic.h>

#define SPSC_FRAME_ALIGN 16

struct spsc_frame {
    uint32_t bytes; /* payload bytes, unpadded */
    uint32_t type;  /* the user's, never 0 */
    uint64_t end;   /* ring position just after this frame: the watermark that names it */
    uint8_t payload[];
};

_Static_assert(sizeof(struct spsc_frame) == SPSC_FRAME_ALIGN, "payload starts aligned");

struct spsc {
    /* Written once by spsc_init. */
    uint8_t *memory;
    uint64_t capacity; /* power of two, a multiple of the page size */
    uint64_t mask;
    uint64_t rewind_bytes; /* skip to the start only when the offset is beyond this */

    /* Producer's line. */
    CACHE_LINE_ALIGNED uint64_t committed; /* end of the last committed frame */
    uint64_t claimed_at;                   /* where its frame starts: committed, or behind a skip */
    uint64_t claimed_bytes;                /* room of the open claim, header included; 0: none */
    uint64_t head_cache;
    uint64_t used_from; /* where used bytes begin: head_cache, or skip_to while that rests on
                           skip_from */

    CACHE_LINE_ALIGNED _Atomic uint64_t tail; /* written by the producer only */
    /* The last skip: a consumer that arrives at skip_from goes on at skip_to. Written by the
     * producer before the tail that publishes the frame behind the skip (R1), and only while the
     * consumer has nothing left to read. */
    uint64_t skip_from;
    uint64_t skip_to;
    CACHE_LINE_ALIGNED _Atomic uint64_t head; /* written by the consumer only */

    /* Consumer's line. */
    CACHE_LINE_ALIGNED uint64_t next; /* start of the next frame to take */
    uint64_t tail_cache;
    uint64_t skip_from_cache;
    uint64_t skip_to_cache;
};

/* capacity: power of two, at least one page. position_start lets tests begin near wrap (0 in
 * production; multiple of 16). Memory is charged when first touched. */
int spsc_init(struct spsc *ring, uint64_t capacity, uint64_t position_start,
              struct err *err) MUST_USE;
void spsc_close(struct spsc *ring);

/* Producer. Room for one frame of at most payload_bytes, or NULL when there is not that much free
 * now. A claim may be given up by simply not committing it; a new claim replaces it. */
uint8_t *spsc_claim(struct spsc *ring, uint64_t payload_bytes) MUST_USE;
/* Producer. Claims everything known to be free (at least payload_bytes_min, else NULL) for a frame
 * whose size is not known yet; *payload_bytes says how much. What is known is brought up to date
 * unless it is eight times the minimum, so the minimum should be an honest estimate. */
uint8_t *spsc_claim_most(struct spsc *ring, uint64_t payload_bytes_min,
                         uint64_t *payload_bytes) MUST_USE;
/* Producer. Ends the open claim with payload_bytes actually used; returns the frame's end position.
 * Not yet visible. */
uint64_t spsc_commit(struct spsc *ring, uint32_t type, uint64_t payload_bytes);
/* Producer. Makes every committed frame visible (R1). Returns true when there was anything new. */
bool spsc_publish(struct spsc *ring);
/* Producer. Bytes committed and not yet released, by a fresh read of head; a skipped stretch does
 * not count. */
uint64_t spsc_used_bytes(struct spsc *ring);

/* Consumer. The next frame or NULL; valid until it is released. */
const struct spsc_frame *spsc_take(struct spsc *ring) MUST_USE;
/* Consumer. Everything taken so far may be overwritten from now on (R2). */
void spsc_release(struct spsc *ring);
/* Any thread. A snapshot: published bytes not yet released; a skip not yet passed counts as its
 * length (at most the capacity). */
uint64_t spsc_pending_bytes(const struct spsc *ring);
/* Consumer. True when nothing is published beyond what was taken, by a fresh read of tail (A1). */
bool spsc_is_empty(struct spsc *ring);

/* Asserts every relation between the positions. Any thread, while neither side is running (init,
 * close, tests). */
void spsc_validate(const struct spsc *ring);

#endif
