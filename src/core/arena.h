/*
 * arena: a buddy allocator over one mapped range, for connection buffers. One owner thread, no
 * locks, no allocation after init. Blocks are powers of two from ARENA_BLOCK_MIN to the arena's
 * largest; exhaustion is a NULL, which the caller answers (503), never an abort. Blocks of
 * ARENA_RELEASE_BYTES and more give their pages back when freed beyond a retained amount, so that
 * one large body does not stay resident.
 */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/base.h"
#include "core/err.h"

#define ARENA_BLOCK_MIN     1024u
#define ARENA_RELEASE_BYTES (256u * 1024u)

struct arena;

/* bytes: power of two, at least 64 KiB. */
int arena_init(struct arena **arena, size_t bytes, struct err *err) MUST_USE;
void arena_close(struct arena *arena);
/* At least bytes (not zeroed); *capacity says how much it really is. NULL: no room. */
void *arena_take(struct arena *arena, size_t bytes, size_t *capacity) MUST_USE;
/* p came from arena_take of this arena. */
void arena_give(struct arena *arena, void *p);
size_t arena_used_bytes(const struct arena *arena);
size_t arena_total_bytes(const struct arena *arena);

#endif
