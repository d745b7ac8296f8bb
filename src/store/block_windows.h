/*
 * block_windows: where the blocks of an ACTIVE segment lie, which has no index yet: windows of
 * whole batches of at least INDEX_BLOCK_BYTES in the file, found by reading batch headers forward
 * from the segment's start and remembered, so that each header is read once however often and in
 * whatever order windows are asked for. What the headers say of each window's records is kept, too:
 * it tells a window in which nothing can match from one that must be loaded.
 *
 * Belongs to one block_reader. Only headers are looked at: a valid header of this use of the file
 * that continues the chain. What is durable is the caller's question, asked again for every load.
 */
#ifndef STORE_BLOCK_WINDOWS_H
#define STORE_BLOCK_WINDOWS_H

#include "core/base.h"
#include "core/err.h"
#include "store/log_view.h"

struct block_window {
    uint64_t offset;
    uint64_t first_lsn;               /* 0: nothing in it yet */
    uint64_t raw_bytes;               /* headers and payloads, without padding */
    int64_t time_min_ns, time_max_ns; /* event times; crossed without records */
    uint64_t record_count;
    uint32_t kinds; /* bit (1 << kind) */
};

/* Zeroed: knows nothing. */
struct block_windows {
    uint64_t segment_id, salt; /* of the segment that all below is about */
    struct block_window *list; /* the last is open: the next batch goes there */
    uint32_t count;
    uint32_t room;
    uint64_t end;      /* where the next header will be */
    uint64_t next_seq; /* what it must say; 0: nothing came before */
    uint64_t next_lsn;
    uint64_t last_at; /* of the batch before end */
    uint32_t last_crc;
    uint64_t durable_lsn; /* the largest that any header names: proven */
};

void block_windows_free(struct block_windows *windows);
/* Walks on until window i is closed or the next batch is not there (yet): not written, torn, or
 * beyond durable_lsn. 0 or -errno. */
int block_windows_look(struct block_windows *windows, struct view_segment *segment, uint32_t i,
                       uint64_t durable_lsn, struct err *err) MUST_USE;
/* Walks on towards the end of what is durable, BLOCK_FIND_HEADERS_MAX headers at most: 0 it is
 * there; -EAGAIN there is more; -errno. */
int block_windows_look_some(struct block_windows *windows, struct view_segment *segment,
                            uint64_t durable_lsn, struct err *err) MUST_USE;
/* What is known of window i: false when nothing is in it. */
bool block_windows_get(const struct block_windows *windows, uint32_t i, uint64_t *offset,
                       uint64_t *bytes);
/* What the headers of window i say; see block_reader_summary. */
bool block_windows_summary(const struct block_windows *windows, uint32_t i, uint64_t durable_lsn,
                           struct block_summary *summary);
/* Known windows that have something in them. */
uint32_t block_windows_count(const struct block_windows *windows);
/* The last window known whose first_lsn is at most lsn; 0 when none. */
uint32_t block_windows_find_lsn(const struct block_windows *windows, uint64_t lsn);

#endif
