/*
 * recent: the chunks of recent.h. Fields marked W are written by the writer's thread only. It fails
 * in recent_open only.
 *
 * A chunk's memory: batches from its front on, one entry for each from its back down, so that one
 * comparison tells whether a batch has room, and a reader finds an LSN by bisection.
 *
 *   0                        end                       RECENT_CHUNK_BYTES - 16 * count
 *   | batch | batch | batch | free                      | entry 2 | entry 1 | entry 0 |
 *
 * The life of a chunk, and what may be touched:
 *
 *   claimed   holders has HOLDERS_CLAIMED: the writer empties it; who tries to hold it leaves again
 *   appended  the writer writes behind what count covers; holders read what count covers (W3)
 *   full      nobody writes; it may be claimed when nobody holds it (W4)
 *
 * Holding is one addition that never fails and never repeats, hence wait-free; what it returns tells
 * whether the chunk was claimed at that moment, in which case the addition is taken back and nothing
 * was read. Such a passing addition may make the writer's claim fail, which costs a batch that is
 * not kept, never more.
 *
 * LSNs only grow, and only one chunk is appended to: the ranges of the chunks are disjoint, and the
 * chunk whose first LSN is the greatest at or below an LSN is the only one that can hold it. So a
 * reader chooses by a glance at the first LSNs, holds one chunk and looks again while it holds it: a
 * chunk that was reused in between cannot have the LSN any more.
 */
#include "store/recent.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "core/mem.h"
#include "store/format.h"

#define HOLDERS_CLAIMED (1u << 31) /* so many threads there are not */

struct recent_entry {
    uint64_t first_lsn;
    uint32_t record_count;
    uint32_t end; /* of the batch in the chunk; it begins where the one before ends */
};

struct recent_chunk {
    CACHE_LINE_ALIGNED _Atomic uint32_t holders;   /* readers, HOLDERS_CLAIMED: W */
    CACHE_LINE_ALIGNED _Atomic uint64_t first_lsn; /* W; 0: never used */
    _Atomic uint32_t count;                        /* W: entries published */
    uint8_t *memory;
};

struct recent {
    struct recent_chunk chunks[RECENT_CHUNKS];
    CACHE_LINE_ALIGNED struct recent_chunk *current; /* W: being appended to; NULL: none yet */
    uint64_t next_lsn;                               /* W: behind the batch kept last */
};

_Static_assert(RECENT_CHUNK_BYTES <= UINT32_MAX, "an entry's end has 32 bits");
_Static_assert(RECENT_BATCH_MAX + sizeof(struct recent_entry) <= RECENT_CHUNK_BYTES,
               "an empty chunk has room for any batch that is kept");
_Static_assert(BATCH_HEADER_BYTES % RECORD_ALIGN == 0, "batches lie as aligned as records");
_Static_assert(RECENT_CHUNK_BYTES % _Alignof(struct recent_entry) == 0, "and so do entries");
_Static_assert(offsetof(struct recent_chunk, first_lsn) >=
                   offsetof(struct recent_chunk, holders) + (size_t)2 * CACHE_LINE_BYTES,
               "readers that come and go do not slow the appending writer");

int recent_open(struct recent **out, struct err *err)
{
    /* Mapped: the chunks want whole cache lines; memory is charged only when batches come. */
    struct recent *recent = mem_map(sizeof *recent);
    uint8_t *memory = mem_map(RECENT_CHUNKS * RECENT_CHUNK_BYTES);
    if (recent == NULL || memory == NULL) {
        if (recent != NULL) {
            mem_unmap(recent, sizeof *recent);
        }
        if (memory != NULL) {
            mem_unmap(memory, RECENT_CHUNKS * RECENT_CHUNK_BYTES);
        }
        return err_set(err, -ENOMEM, "map %llu bytes for the newest batches",
                       (unsigned long long)(RECENT_CHUNKS * RECENT_CHUNK_BYTES));
    }
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        recent->chunks[i].memory = memory + i * RECENT_CHUNK_BYTES;
    }
    *out = recent;
    return 0;
}

void recent_close(struct recent *recent)
{
    if (recent == NULL) {
        return;
    }
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        /* relaxed: the caller has joined every reader. */
        ASSERT(atomic_load_explicit(&recent->chunks[i].holders, memory_order_relaxed) == 0);
    }
    mem_unmap(recent->chunks[0].memory, RECENT_CHUNKS * RECENT_CHUNK_BYTES);
    mem_unmap(recent, sizeof *recent);
}

static struct recent_entry *entry_at(const struct recent_chunk *chunk, uint32_t i)
{
    uint8_t *at = chunk->memory + RECENT_CHUNK_BYTES - (i + 1) * sizeof(struct recent_entry);
    return (struct recent_entry *)(void *)at;
}

static uint64_t entry_next_lsn(const struct recent_entry *entry)
{
    return entry->first_lsn + entry->record_count;
}

/* Where batch i begins. */
static uint32_t entry_begin(const struct recent_chunk *chunk, uint32_t i)
{
    return i == 0 ? 0 : entry_at(chunk, i - 1)->end;
}

/* ---- writer
 * ----------------------------------------------------------------------------------------
 */

static bool has_room(const struct recent_chunk *chunk, uint64_t bytes)
{
    /* relaxed: only this thread writes it. */
    uint32_t count = atomic_load_explicit(&chunk->count, memory_order_relaxed);
    uint64_t entries = (count + (uint64_t)1) * sizeof(struct recent_entry);
    return entry_begin(chunk, count) + bytes + entries <= RECENT_CHUNK_BYTES;
}

static bool chunk_claim(struct recent_chunk *chunk)
{
    uint32_t none = 0;
    /* W4, the writer's end: every reader's last look at the chunk was before its release
     * (chunk_leave); after this the bytes may be overwritten. Relaxed when it fails: nothing is
     * touched then. */
    return atomic_compare_exchange_strong_explicit(&chunk->holders, &none, HOLDERS_CLAIMED,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Empty, and open to readers again. */
static void chunk_begin(struct recent_chunk *chunk, uint64_t first_lsn)
{
    /* relaxed, both: whoever holds the chunk from here on sees them by W6; who glances at first_lsn
     * without a hold looks again. */
    atomic_store_explicit(&chunk->count, 0, memory_order_relaxed);
    atomic_store_explicit(&chunk->first_lsn, first_lsn, memory_order_relaxed);
    /* W6: who holds the chunk from now on sees it empty and not the count of its last use; pairs
     * with chunk_hold. A subtraction, because additions of readers that did not get in may be under
     * way. */
    uint32_t before =
        atomic_fetch_sub_explicit(&chunk->holders, HOLDERS_CLAIMED, memory_order_release);
    ASSERT((before & HOLDERS_CLAIMED) != 0);
}

/* The oldest one that nobody holds, claimed; NULL: all are held. Tried in the order of age. */
static struct recent_chunk *claim_oldest(struct recent *recent)
{
    bool is_tried[RECENT_CHUNKS] = {false};
    for (unsigned attempt = 0; attempt < RECENT_CHUNKS; attempt++) {
        unsigned oldest = RECENT_CHUNKS;
        uint64_t oldest_lsn = UINT64_MAX;
        for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
            /* relaxed: only this thread writes it. */
            uint64_t lsn = atomic_load_explicit(&recent->chunks[i].first_lsn, memory_order_relaxed);
            if (!is_tried[i] && lsn < oldest_lsn) {
                oldest = i;
                oldest_lsn = lsn;
            }
        }
        ASSERT(oldest < RECENT_CHUNKS);
        is_tried[oldest] = true;
        if (chunk_claim(&recent->chunks[oldest])) {
            return &recent->chunks[oldest];
        }
    }
    return NULL;
}

static struct recent_chunk *chunk_for(struct recent *recent, uint64_t first_lsn, uint64_t bytes)
{
    if (recent->current != NULL && has_room(recent->current, bytes)) {
        return recent->current;
    }
    struct recent_chunk *chunk = claim_oldest(recent);
    if (chunk == NULL) {
        return NULL;
    }
    chunk_begin(chunk, first_lsn);
    recent->current = chunk;
    return chunk;
}

void recent_put(struct recent *recent, uint64_t first_lsn, uint32_t record_count,
                const uint8_t *header, struct slice payload)
{
    ASSERT_ROLE(ROLE_WRITER);
    ASSERT(first_lsn > 0);
    ASSERT(first_lsn >= recent->next_lsn);
    ASSERT(record_count > 0);
    ASSERT(payload.bytes % RECORD_ALIGN == 0); /* the format's: so nothing has to be padded */
    if (payload.bytes > RECENT_BATCH_MAX - BATCH_HEADER_BYTES) {
        return;
    }
    uint64_t bytes = BATCH_HEADER_BYTES + payload.bytes;
    struct recent_chunk *chunk = chunk_for(recent, first_lsn, bytes);
    if (chunk == NULL) {
        return;
    }
    /* relaxed: only this thread writes it. */
    uint32_t count = atomic_load_explicit(&chunk->count, memory_order_relaxed);
    uint32_t begin = entry_begin(chunk, count);
    memcpy(chunk->memory + begin, header, BATCH_HEADER_BYTES);
    memcpy(chunk->memory + begin + BATCH_HEADER_BYTES, payload.data, payload.bytes);
    *entry_at(chunk, count) = (struct recent_entry){
        .first_lsn = first_lsn, .record_count = record_count, .end = begin + (uint32_t)bytes};
    recent->next_lsn = first_lsn + record_count;
    /* W3: publishes the batch and its entry, which do not change any more while the chunk is in
     * use; pairs with the acquire load in chunk_find. */
    atomic_store_explicit(&chunk->count, count + 1, memory_order_release);
}

/* ---- readers
 * ---------------------------------------------------------------------------------------
 */

/* The only chunk that can have lsn; NULL: none. */
static struct recent_chunk *chunk_of(struct recent *recent, uint64_t lsn)
{
    struct recent_chunk *best = NULL;
    uint64_t best_lsn = 0;
    for (unsigned i = 0; i < RECENT_CHUNKS; i++) {
        /* relaxed: only a hint; the chunk is looked at again when it is held. It is never too old to
         * find a durable LSN: who knows by W1 that lsn is durable sees the first LSN of the chunk
         * that took it, or a later one of the same chunk. */
        uint64_t first_lsn =
            atomic_load_explicit(&recent->chunks[i].first_lsn, memory_order_relaxed);
        if (first_lsn <= lsn && first_lsn > best_lsn) {
            best = &recent->chunks[i];
            best_lsn = first_lsn;
        }
    }
    return best;
}

static void chunk_leave(struct recent_chunk *chunk)
{
    /* W4, the reader's end: its last look at the chunk is before this; the writer may overwrite it
     * when it claims it (chunk_claim). */
    uint32_t before = atomic_fetch_sub_explicit(&chunk->holders, 1, memory_order_release);
    ASSERT((before & ~HOLDERS_CLAIMED) != 0);
}

/* False: the writer is just emptying it. */
static bool chunk_hold(struct recent_chunk *chunk)
{
    /* W6, the reader's end; pairs with chunk_begin. From here on the writer cannot claim it. */
    uint32_t before = atomic_fetch_add_explicit(&chunk->holders, 1, memory_order_acquire);
    if (LIKELY((before & HOLDERS_CLAIMED) == 0)) {
        return true;
    }
    /* relaxed: nothing was looked at. */
    (void)atomic_fetch_sub_explicit(&chunk->holders, 1, memory_order_relaxed);
    return false;
}

/* The entry with lsn, or count. */
static uint32_t entry_find(const struct recent_chunk *chunk, uint32_t count, uint64_t lsn)
{
    uint32_t low = 0; /* entries below it begin at or before lsn */
    for (uint32_t high = count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(chunk, middle)->first_lsn <= lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && lsn < entry_next_lsn(entry_at(chunk, low - 1)) ? low - 1 : count;
}

/* The chunk is held. */
static bool chunk_find(const struct recent_chunk *chunk, uint64_t lsn, struct block *block)
{
    /* W3, the reader's end: what count covers is complete; pairs with recent_put. */
    uint32_t count = atomic_load_explicit(&chunk->count, memory_order_acquire);
    uint32_t first = entry_find(chunk, count, lsn);
    if (first == count) {
        return false;
    }
    uint32_t last = first;
    while (last + 1 < count && /* ends at a gap: a batch that was not kept */
           entry_at(chunk, last + 1)->first_lsn == entry_next_lsn(entry_at(chunk, last))) {
        last++;
    }
    uint32_t begin = entry_begin(chunk, first);
    block->batches = (struct slice){chunk->memory + begin, entry_at(chunk, last)->end - begin};
    block->batch_align = RECORD_ALIGN;
    return true;
}

int recent_take(struct recent *recent, uint64_t lsn, struct recent_hold *hold, struct block *block)
{
    ASSERT(hold->chunk == NULL);
    struct recent_chunk *chunk = chunk_of(recent, lsn);
    if (chunk == NULL || !chunk_hold(chunk)) {
        return 0;
    }
    if (!chunk_find(chunk, lsn, block)) {
        chunk_leave(chunk);
        return 0;
    }
    hold->chunk = chunk;
    return 1;
}

void recent_give(struct recent *recent, struct recent_hold *hold)
{
    (void)recent;
    if (hold->chunk != NULL) {
        chunk_leave(hold->chunk);
        hold->chunk = NULL;
    }
}
