/*
 * log_walk: the log from disk, batch by batch, for the reader and for verify. Private to the store;
 * pure reading, no lock, any one thread. It decides what belongs to the log by the rules of
 * format.h alone, independently of recovery, so that each checks the other: the valid batches that
 * continue each other; of two with the same batch_seq the one in the later segment; a break at or
 * below D is damage (WALK_GAP, and it goes on behind it), a break above D is the end (WALK_END, ask
 * again later).
 *
 * Memory: one window of 1 MiB, larger only while a larger batch is looked at, and a few words per
 * segment.
 */
#ifndef STORE_LOG_WALK_H
#define STORE_LOG_WALK_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/format.h"

enum walk_event {
    WALK_END = 0,
    WALK_BATCH = 1,
    WALK_GAP = 2,
};

struct walk_batch {
    struct batch_header header;
    struct slice payload; /* borrowed until the next walk_next */
    struct slice padding; /* likewise: up to the next block */
    const char *name;     /* of the file, below the data directory */
    uint64_t offset;
};

/* Damage. LSNs first_lsn..last_lsn are lost; last_lsn < first_lsn when only a mark or nothing
 * provable was. */
struct walk_gap {
    char name[64];
    uint64_t offset;
    uint64_t first_lsn;
    uint64_t last_lsn;
    char text[256]; /* what is wrong there */
};

struct log_walk;

/* Begins at or before the batch that holds from_lsn. -ENOENT with a text when there is no log. */
int log_walk_open(struct log_walk **walk, struct file_io *io, uint64_t from_lsn,
                  struct err *err) MUST_USE;
void log_walk_close(struct log_walk *walk);
/* enum walk_event, or -errno where the disk cannot be read. */
int log_walk_next(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                  struct err *err) MUST_USE;
/* After WALK_END: what looks like batches behind the end (never acknowledged). */
uint64_t log_walk_torn_batches(const struct log_walk *walk);
uint64_t log_walk_segments(const struct log_walk *walk);
uint64_t log_walk_bytes(const struct log_walk *walk);

#endif
