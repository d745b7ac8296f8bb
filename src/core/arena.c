/*
 * arena: a buddy allocator. One thread owns it; no I/O but giving pages back. Exhaustion is a NULL;
 * a foreign pointer or a second give aborts, because then two connections share a buffer.
 *
 * The memory is cut into blocks of ARENA_BLOCK_MIN, and nothing is ever written into it from here:
 * what belongs to a block is kept in side arrays indexed by its number, so that a stray write of a
 * user cannot lead the allocator astray, and free memory stays untouched (a link inside it would
 * keep its page resident).
 *
 *   states[n]   0: not the first block of anything; STATE_FREE | order; STATE_TAKEN | order
 *   links[n]    neighbours in the free list of its order; links[block_count + order] is the head of
 * that list
 *
 * Residency is counted in chunks of ARENA_RELEASE_BYTES: a chunk that is wholly free keeps its
 * pages while it is one of the RETAIN_CHUNKS_MAX lowest such, and gives them back otherwise. Taking
 * prefers low addresses too, so what is kept is what is used again next.
 */
#include "core/arena.h"

#include "core/mem.h"

#include <errno.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_HAS_ASAN 1
#endif
#endif
#ifdef ARENA_HAS_ASAN
#include <sanitizer/asan_interface.h>
/* Free blocks trap in sanitized builds, as freed heap memory would. */
#define POISON(p, bytes)   __asan_poison_memory_region((p), (bytes))
#define UNPOISON(p, bytes) __asan_unpoison_memory_region((p), (bytes))
#else
#define POISON(p, bytes)   ((void)0)
#define UNPOISON(p, bytes) ((void)0)
#endif

#define ARENA_BYTES_MIN (64u * 1024u)
#define BLOCK_SHIFT     10u
#define ORDERS_MAX      32u /* block numbers are 32 bits: arenas up to 2 TiB */
#define RELEASE_ORDER   8u
#define CHUNK_SHIFT     18u

/* 4 MiB: the usual number of middling bodies at once, without a page fault each; and a bound of
 * what an idle shard holds beyond what it uses. */
#define RETAIN_CHUNKS_MAX 16u

#define STATE_FREE  0x40u
#define STATE_TAKEN 0x80u
#define STATE_ORDER 0x3Fu

_Static_assert(ARENA_BLOCK_MIN == 1u << BLOCK_SHIFT, "a block number is a shifted offset");
_Static_assert(ARENA_RELEASE_BYTES == 1u << CHUNK_SHIFT, "a chunk number is a shifted offset");
_Static_assert(CHUNK_SHIFT - BLOCK_SHIFT == RELEASE_ORDER, "a chunk is one block of this order");
_Static_assert(ORDERS_MAX <= 32, "one bit per order in free_orders");

enum chunk_state {
    CHUNK_GIVEN_BACK = 0, /* wholly free, no pages (also: never touched) */
    CHUNK_USED,           /* some of it is taken */
    CHUNK_RETAINED,       /* wholly free, pages kept */
};

struct link {
    uint32_t next;
    uint32_t previous;
};

struct arena {
    uint8_t *memory;
    size_t bytes;
    size_t used_bytes;
    uint32_t block_count;
    uint32_t order_max;
    uint32_t free_orders; /* bit k: the list of order k is not empty */
    uint32_t chunk_count; /* 0 where the arena is smaller than a chunk */
    uint32_t retained_count;
    uint8_t *states;
    uint8_t *chunks; /* enum chunk_state */
    struct link *links;
    size_t side_bytes; /* of the mapping that holds links, states and chunks */
};

static size_t block_bytes(uint32_t order)
{
    return (size_t)ARENA_BLOCK_MIN << order;
}

/* --- Free lists. --- */

static void free_push(struct arena *arena, uint32_t block, uint32_t order)
{
    uint32_t head = arena->block_count + order;
    struct link *links = arena->links;
    uint32_t first = links[head].next;
    links[block] = (struct link){.next = first, .previous = head};
    links[first].previous = block;
    links[head].next = block;
    arena->states[block] = (uint8_t)(STATE_FREE | order);
    arena->free_orders |= 1u << order;
}

static void free_remove(struct arena *arena, uint32_t block, uint32_t order)
{
    ASSERT(arena->states[block] == (STATE_FREE | order));
    uint32_t head = arena->block_count + order;
    struct link *links = arena->links;
    struct link link = links[block];
    links[link.previous].next = link.next;
    links[link.next].previous = link.previous;
    arena->states[block] = 0;
    if (links[head].next == head) {
        arena->free_orders &= ~(1u << order);
    }
}

/* --- Residency. --- */

static void chunk_give_back(struct arena *arena, size_t chunk)
{
    mem_release_pages(arena->memory + (chunk << CHUNK_SHIFT), ARENA_RELEASE_BYTES);
    arena->chunks[chunk] = CHUNK_GIVEN_BACK;
}

/* A used chunk has become wholly free. Over the quota the highest retained one pays, be it this
 * one. */
static void chunk_retain(struct arena *arena, size_t chunk)
{
    ASSERT(arena->chunks[chunk] == CHUNK_USED);
    arena->chunks[chunk] = CHUNK_RETAINED;
    arena->retained_count++;
    if (arena->retained_count <= RETAIN_CHUNKS_MAX) {
        return;
    }
    const uint8_t *highest = memrchr(arena->chunks, CHUNK_RETAINED, arena->chunk_count);
    ASSERT(highest != NULL);
    chunk_give_back(arena, (size_t)(highest - arena->chunks));
    arena->retained_count--;
}

/* The block was cut out of free memory: its chunks are used from now on. */
static void chunks_use(struct arena *arena, uint32_t block, uint32_t order)
{
    size_t first = block >> RELEASE_ORDER;
    size_t end = first + (order > RELEASE_ORDER ? (size_t)1 << (order - RELEASE_ORDER) : 1);
    for (size_t chunk = first; chunk < end && chunk < arena->chunk_count; chunk++) {
        arena->retained_count -= arena->chunks[chunk] == CHUNK_RETAINED;
        arena->chunks[chunk] = CHUNK_USED;
    }
}

/* block of order_given has been freed and merged into a free block of order_merged: the chunks that
 * this made wholly free are its own, or the one around it. */
static void chunks_free(struct arena *arena, uint32_t block, uint32_t order_given,
                        uint32_t order_merged)
{
    if (order_merged < RELEASE_ORDER) {
        return;
    }
    size_t first = block >> RELEASE_ORDER;
    size_t count = order_given > RELEASE_ORDER ? (size_t)1 << (order_given - RELEASE_ORDER) : 1;
    for (size_t chunk = first; chunk < first + count; chunk++) {
        chunk_retain(arena, chunk);
    }
}

/* --- Life. --- */

static void side_arrays_place(struct arena *arena, uint8_t *side)
{
    size_t links_bytes = (arena->block_count + ORDERS_MAX) * sizeof(*arena->links);
    arena->links = (struct link *)(void *)side;
    arena->states = side + links_bytes;
    arena->chunks = side + links_bytes + arena->block_count;
}

int arena_init(struct arena **arena_out, size_t bytes, struct err *err)
{
    ASSERT(arena_out != NULL);
    *arena_out = NULL;
    if (!is_power_of_two(bytes) || bytes < ARENA_BYTES_MIN || bytes >> BLOCK_SHIFT >> 30 != 0) {
        return err_set(err, -EINVAL, "arena of %zu bytes: not a power of two from 64 KiB", bytes);
    }
    struct arena *arena = mem_alloc(sizeof(*arena));
    arena->bytes = bytes;
    arena->block_count = (uint32_t)(bytes >> BLOCK_SHIFT);
    arena->order_max = (uint32_t)__builtin_ctzll(arena->block_count);
    arena->chunk_count = (uint32_t)(bytes >> CHUNK_SHIFT);
    arena->side_bytes = (arena->block_count + ORDERS_MAX) * sizeof(*arena->links) +
                        arena->block_count + arena->chunk_count;
    arena->memory = mem_map(bytes);
    uint8_t *side = mem_map(arena->side_bytes);
    if (arena->memory == NULL || side == NULL) {
        mem_unmap(arena->memory, bytes);
        mem_unmap(side, arena->side_bytes);
        mem_free(arena);
        return err_set(err, -ENOMEM, "map an arena of %zu bytes: %s", bytes, err_name(-ENOMEM));
    }
    side_arrays_place(arena, side);
    for (uint32_t order = 0; order < ORDERS_MAX; order++) {
        uint32_t head = arena->block_count + order;
        arena->links[head] = (struct link){.next = head, .previous = head};
    }
    free_push(arena, 0, arena->order_max);
    POISON(arena->memory, bytes);
    *arena_out = arena;
    return 0;
}

void arena_close(struct arena *arena)
{
    if (arena == NULL) {
        return;
    }
    UNPOISON(arena->memory, arena->bytes);
    mem_unmap(arena->memory, arena->bytes);
    mem_unmap(arena->links, arena->side_bytes);
    mem_free(arena);
}

/* --- Use. --- */

static uint32_t order_for(size_t bytes)
{
    size_t last = bytes > 0 ? (bytes - 1) >> BLOCK_SHIFT : 0;
    return last == 0 ? 0 : 64u - (uint32_t)__builtin_clzll(last);
}

/* Takes a free block of at least this order and halves it down; the upper halves stay free, so use
 * grows from low addresses. */
static uint32_t block_cut(struct arena *arena, uint32_t order, uint32_t order_found)
{
    uint32_t block = arena->links[arena->block_count + order_found].next;
    free_remove(arena, block, order_found);
    while (order_found > order) {
        order_found--;
        free_push(arena, block + (1u << order_found), order_found);
    }
    return block;
}

void *arena_take(struct arena *arena, size_t bytes, size_t *capacity)
{
    ASSERT(arena != NULL);
    ASSERT(capacity != NULL);
    if (bytes > arena->bytes) {
        return NULL;
    }
    uint32_t order = order_for(bytes);
    uint32_t candidates = arena->free_orders & (UINT32_MAX << order);
    if (candidates == 0) {
        return NULL;
    }
    uint32_t order_found = (uint32_t)__builtin_ctz(candidates);
    uint32_t block = block_cut(arena, order, order_found);
    if (order_found >= RELEASE_ORDER) { /* A smaller one came out of a chunk already in use. */
        chunks_use(arena, block, order);
    }
    arena->states[block] = (uint8_t)(STATE_TAKEN | order);
    *capacity = block_bytes(order);
    arena->used_bytes += *capacity;
    uint8_t *p = arena->memory + ((size_t)block << BLOCK_SHIFT);
    UNPOISON(p, *capacity);
    return p;
}

/* Joins with the other half while that is free and whole; returns the order reached. */
static uint32_t block_merge(struct arena *arena, uint32_t block, uint32_t order)
{
    while (order < arena->order_max) {
        uint32_t buddy = block ^ (1u << order);
        if (arena->states[buddy] != (STATE_FREE | order)) {
            break;
        }
        free_remove(arena, buddy, order);
        block &= ~(1u << order);
        order++;
    }
    free_push(arena, block, order);
    return order;
}

void arena_give(struct arena *arena, void *p)
{
    ASSERT(arena != NULL);
    uintptr_t offset = (uintptr_t)p - (uintptr_t)arena->memory;
    ASSERT(offset < arena->bytes);
    ASSERT((offset & (ARENA_BLOCK_MIN - 1)) == 0);
    uint32_t block = (uint32_t)(offset >> BLOCK_SHIFT);
    uint8_t state = arena->states[block];
    ASSERT((state & STATE_TAKEN) != 0); /* Given twice, or from inside a block. */
    uint32_t order = state & STATE_ORDER;
    ASSERT(arena->used_bytes >= block_bytes(order));
    arena->used_bytes -= block_bytes(order);
    arena->states[block] = 0;
    uint32_t order_merged = block_merge(arena, block, order);
    chunks_free(arena, block, order, order_merged);
    POISON(p, block_bytes(order));
}

size_t arena_used_bytes(const struct arena *arena)
{
    return arena->used_bytes;
}

size_t arena_total_bytes(const struct arena *arena)
{
    return arena->bytes;
}
