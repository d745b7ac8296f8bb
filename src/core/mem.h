/*
 * mem: the only door to memory. Start-up allocates; agents do not: after mem_latch() an allocation
 * by a thread whose role is an agent's aborts in builds with SLUICE_MEM_LATCH (tests), because a
 * data path that allocates has a tail latency nobody bounded. Cold paths of an agent (rare,
 * bounded) open a window with mem_unlatch_begin/end.
 */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include "core/base.h"

/* Zeroed, aligned for CACHE_LINE_ALIGNED fields (but one object of 1 MiB or more is not: it is taken for a
 * buffer); ends the process with a message and exit 1 when the system has none (start-up only).
 * Free with mem_free. */
void *mem_alloc(size_t bytes);
void *mem_alloc_array(size_t count, size_t bytes_each); /* checks the product */
void mem_free(void *p);

/* Anonymous, page-aligned, zeroed, charged only when touched (MAP_NORESERVE). NULL on failure. */
void *mem_map(size_t bytes) MUST_USE;
/* Likewise, asking for huge pages: for buffers that the kernel reads and writes directly, which
 * then pins one page where it would have pinned 512. The first touch charges 2 MiB. Without huge
 * pages it is mem_map. */
void *mem_map_huge(size_t bytes) MUST_USE;
void mem_unmap(void *p, size_t bytes);

/* Gives the pages back to the kernel; the range stays mapped and reads as zeroes. */
void mem_release_pages(void *p, size_t bytes);

/* From here on a shard's, the writer's or the keeper's mem_alloc, mem_alloc_array or mem_map aborts (only in builds with
 * SLUICE_MEM_LATCH, or when the environment has SLUICE_MEM_LATCH=1 at this moment). mem_unlatch
 * ends it, for an orderly stop. */
void mem_latch(void);
void mem_unlatch(void);
/* This thread may allocate until the matching end; windows nest. */
void mem_unlatch_begin(void);
void mem_unlatch_end(void);

#endif
