/*
 * scan_disk: where an LSN lies on disk, for one scan: takes a view, finds the segment, skips with
 * footer and index what cannot match, loads the block. Owned by the scan's thread.
 *
 * Between two calls it holds no view, no segment and no file: only the bytes of the block loaded
 * last (its reader's memory). So an idle scan pins nothing, and whatever happened to the files
 * meanwhile, sealed, compacted, expired, the next call finds its LSN anew.
 *
 * THE TAIL. The archive publishes views at its leisure; the writer may be segments ahead of the
 * newest. Whatever is durable must be found all the same, so where the view ends the following
 * segments are opened by their ids for the length of the call. That also tells where a segment's
 * last batches are superseded: what the next segment begins with is only valid there.
 */
#ifndef STORE_SCAN_DISK_H
#define STORE_SCAN_DISK_H

#include "store/scan.h"

enum scan_disk_result {
    DISK_NONE = 0, /* nothing there, and nothing says that there should be (no durable LSN known) */
    DISK_BLOCK,    /* held: its span holds the LSN */
    DISK_SKIPPED,  /* no record of the span can match */
    DISK_MISSING,  /* no record of the span can be read: damage; what says why */
    DISK_EXPIRED,  /* the log begins at span.end */
    DISK_AGAIN,    /* the files changed meanwhile, or finding takes several steps: call again */
};

struct scan_span {
    uint64_t first; /* [first, end) */
    uint64_t end;
};

#define SCAN_TAIL_MAX 8u

struct scan_disk_held {
    struct block block;
    struct scan_span span; /* first == end: holds nothing */
    uint64_t segment_id;
    uint32_t block_index;
    enum view_state state;
};

struct scan_disk {
    struct log_views *views;
    struct block_reader *reader; /* NULL: no disk was needed yet */
    struct scan_disk_held held;
    uint64_t skipped_bytes; /* raw bytes of what DISK_SKIPPED passed over */

    /* Of the call: what was opened behind the view. */
    struct view_segment *tail[SCAN_TAIL_MAX];
    uint32_t tail_count;
};

struct scan_disk_ask {
    const struct scan_filter *filter;
    uint64_t lsn;
    uint64_t durable_lsn; /* UINT64_MAX: not known */
    bool is_descending;
};

void scan_disk_init(struct scan_disk *disk, struct log_views *views);
void scan_disk_free(struct scan_disk *disk);
/* Gives up the memory of the block loaded last; the next find begins anew. */
void scan_disk_rest(struct scan_disk *disk);
/* enum scan_disk_result and a span around ask->lsn; with DISK_MISSING err says where and why.
 * -errno. */
int scan_disk_find(struct scan_disk *disk, const struct scan_disk_ask *ask, struct scan_span *span,
                   struct err *err) MUST_USE;
/* Is lsn in the block loaded last? Then no file is needed. */
bool scan_disk_holds(const struct scan_disk *disk, uint64_t lsn);
/* "log/0000000000000007.slc block 3"; text has SCAN_PLACE_BYTES. */
#define SCAN_PLACE_BYTES 64u
void scan_disk_place(const struct scan_disk *disk, char *text);

#endif
