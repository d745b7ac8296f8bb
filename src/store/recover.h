/*
 * recover: what a crash left, made into a log that can be appended to (format.h: "what a crash may
 * leave"; design: promise 7). Runs once, in store_open, before any thread. Blocking.
 *
 * Segments are taken in the order of their ids; the log begins with the oldest there is. Of a
 * sealed or compacted segment the footer says where the log goes on, and it is read only when it may
 * hold keys younger than the TTL. Of the others the last RECOVER_WALK_BYTES, and what may hold such
 * keys, are read and checked in full; of the rest only headers are read (`sluice verify` reads
 * everything). Temporary files are removed.
 *
 *  - Invalid at or below D: corruption. Counted and reported, left where it is, the damaged bytes
 *    copied once to quarantine/<segment>-<offset>.bin; the walk goes on behind it.
 *  - Invalid above D: the end. In the last segment everything behind it is zeroed and synced before
 *    the first append; in an earlier one (sealed after an I/O error) it is simply not part of the
 *    log. A whole batch behind a torn one is torn off with it.
 *  - A block that cannot be read where a batch should be: counted as corruption, also above D,
 *    because no crash leaves one. That file is never written or removed.
 *  - A compacted file without a good header or footer, and any file of another segment or node under
 *    this name: counted and reported, left where it is; nothing in it is used, and the LSNs that its
 *    neighbours show to be missing are counted as lost. So is a segment that is not there.
 *  - A raw file with a damaged footer is not sealed.
 *  - The same batch_seq again in a later segment: the later one wins.
 *  - Last segments without a batch: spares. Kept when all zero, removed after a torn first batch,
 *    set aside (.bad) when they cannot be read.
 *
 * Fails only when a file cannot be listed, opened or measured, on a newer format, or on corruption
 * with ON_CORRUPTION_REFUSE, which leaves everything as it is.
 */
#ifndef STORE_RECOVER_H
#define STORE_RECOVER_H

#include "store/dedup.h"
#include "store/journal.h"
#include "store/keeper.h"
#include "store/store.h"

#define RECOVER_WALK_BYTES MIB(512) /* 0.3 s at 2 GB/s: what every start may cost */

struct recover_options {
    struct file_io *io;
    struct dedup *dedup;
    uint64_t dedup_ttl_ns;
    uint64_t segment_bytes; /* spares of another size are removed */
    uint64_t walk_bytes;    /* RECOVER_WALK_BYTES */
    enum store_on_corruption on_corruption;
};

struct recovered {
    struct journal_start start;
    struct segment spares[KEEPER_READY_MAX];
    unsigned spare_count;
    uint64_t segment_id_next;
    bool has_node; /* node: what the newest readable segment header names */
    struct ulid node;
};

int recover_run(struct recovered *recovered, const struct recover_options *options,
                struct recovery_report *report, struct err *err) MUST_USE;

#endif
