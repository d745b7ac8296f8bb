/*
 * scan_block: what of one block a scan has to look at: the records that the header fields and the
 * literal let through, as positions, so that they can be shown in either order. Owned by one scan;
 * pure but for the growth of its own array.
 *
 * The literal is searched over the whole block at once, never record by record: a block without a
 * hit and without an escape that could spell one costs two passes of scan_find and one of CRC32C, whatever is in it.
 *
 * DAMAGE. LSNs are dense, so what is missing shows by itself: scan_block_collect returns one RUN of
 * consecutive LSNs, the next in the direction of the scan. A run that does not touch the position
 * asked for means that the LSNs between are lost, and reason says why. A batch with a bad payload
 * is left out and so makes such a gap; behind a bad batch header the next one of a raw block is
 * searched for, in a compacted one nothing can be told.
 */
#ifndef STORE_SCAN_BLOCK_H
#define STORE_SCAN_BLOCK_H

#include "store/scan.h"

struct scan_candidate {
    uint64_t lsn;
    int64_t built_at_ns;
    uint64_t offset; /* of the record in block.batches */
};

struct scan_block {
    struct block block; /* borrowed */
    bool is_trusted;    /* whoever gave the block has checked every byte: payload CRCs are not */
    struct scan_candidate *candidates; /* ascending */
    size_t count;
    size_t room;
    uint64_t run_first; /* the run: [run_first, run_end); both 0 without one */
    uint64_t run_end;
    uint64_t looked_bytes; /* headers and payloads looked into by the last collect */
    struct err reason;     /* of the damage met last; code 0: none */
};

/* What collect considers: LSNs low..high, both inclusive. */
struct scan_range {
    uint64_t low;
    uint64_t high;
    bool is_descending;
};

void scan_block_init(struct scan_block *block);
void scan_block_free(struct scan_block *block);
/* Fills candidates and run from block->block. Ascending: the first run at or after low; descending:
 * the last run at or below high. */
void scan_block_collect(struct scan_block *block, const struct scan_filter *filter,
                        const struct scan_range *range);
/* The candidate's record; borrows the block. */
void scan_block_record(const struct scan_block *block, size_t i, struct scan_record *record);
/* The LSNs that the batch headers of a block name: [first, end); marks count as their place. False:
 * no valid header at all. */
bool scan_block_extent(const struct block *block, uint64_t *first, uint64_t *end);

/* Do kinds, severities and times of a block, batch or segment leave room for a match? Pure. */
struct scan_summary {
    uint32_t kinds;
    uint32_t severities; /* UINT32_MAX where unknown */
    int64_t time_min_ns;
    int64_t time_max_ns;
};
bool scan_filter_may_match(const struct scan_filter *filter, const struct scan_summary *summary);

#endif
