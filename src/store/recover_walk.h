/*
 * recover_walk: one segment, batch by batch: what continues the log, what is torn, what is
 * damaged (format.h: "valid if and only if", "what a crash may leave"). Private to recovery. The
 * state goes on from segment to segment in struct recovery; nothing here changes the log, damage is
 * copied to quarantine and told. Cannot fail.
 */
#ifndef STORE_RECOVER_WALK_H
#define STORE_RECOVER_WALK_H

#include "store/recovery.h"

/* What lies behind an invalid batch. */
struct beyond {
    uint64_t durable_lsn; /* the largest that any valid header names */
    uint64_t seq_max;     /* of any valid header */
    uint64_t next_offset; /* of the first valid batch that can be the log's; 0: none */
    struct batch_header next;
    uint64_t batch_count; /* valid ones */
    uint64_t dirty_end;   /* end of the last block that is not zero */
};

/* found is loaded. recovery->end says where the log ends in it, *beyond what lies behind that. */
void recover_walk_segment(struct recovery *recovery, struct found *found, bool is_last,
                          struct beyond *beyond);
/* A sealed or compacted segment that need not be read: its footer says where the log goes on. */
void recover_skip_sealed(struct recovery *recovery, const struct found *found);
/* A compacted segment, for its keys. What cannot be decoded is counted and told, and the log goes on
 * where the footer says. */
void recover_walk_compacted(struct recovery *recovery, const struct found *found);

#endif
