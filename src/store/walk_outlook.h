/*
 * walk_outlook: what lies behind the place where a log_walk cannot go on: the witness D, and the
 * batch with which the log may go on. Private to log_walk, whose state is here for its two files;
 * pure reading. Costs a look at every block behind the place (of a sealed segment, at its first
 * batch and its footer), so it is taken once for a place.
 */
#ifndef STORE_WALK_OUTLOOK_H
#define STORE_WALK_OUTLOOK_H

#include "store/log_walk.h"
#include "store/walk_table.h"

/* What must come next. seq 0: anything, because what came before has expired. */
struct walk_expect {
    uint64_t seq;
    uint64_t lsn;
    uint32_t previous_crc;
};

struct log_walk {
    struct file_io *io;
    struct walk_table table;
    size_t current; /* index of the segment we stand in */
    uint64_t place; /* in it */
    struct walk_expect expect;
    struct walk_file file;
    size_t file_of; /* index of the segment that file is; SIZE_MAX: none is open */
    uint64_t torn_batches;
    uint64_t bytes;
    bool is_over;      /* nothing valid can follow the damage just reported */
    bool is_end_known; /* the rest behind (current, place) was searched before */
};

/* What lies behind a break. */
struct outlook {
    uint64_t durable_lsn; /* D */
    uint64_t headers;     /* valid ones that could follow */
    bool has_resume;
    size_t resume_index;
    uint64_t resume_place;
    struct batch_header resume;
};

/* Opens the file of that segment: 1; 0 when it cannot be what its name says; -errno. */
int walk_take_file(struct log_walk *walk, size_t index, struct err *err) MUST_USE;
/* The whole batch: 1 valid by itself, 0 not, -errno. */
int walk_batch_at(struct log_walk *walk, size_t index, uint64_t place, struct walk_batch *batch,
                  struct err *reason) MUST_USE;
/* Is that what must come next? Pure. */
bool walk_continues(const struct walk_expect *expect, const struct batch_header *header,
                    struct err *reason);
/* Behind the last batch that the footer of the segment where we stand names there may be others,
 * left by a write that failed: they were written again to a later one and do not count. Pure. */
bool walk_has_left(const struct log_walk *walk);

/* Everything behind the place where walk stands. 0 or -errno. */
int walk_outlook_take(struct log_walk *walk, struct outlook *outlook, struct err *err) MUST_USE;
/* True when the batch that should be here had been durable. Pure. */
bool walk_outlook_proves_damage(const struct log_walk *walk, const struct outlook *outlook);

#endif
