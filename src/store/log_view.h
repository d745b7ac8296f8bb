/*
 * log_view: what readers read: an immutable picture of the log's files (oldest first) and their
 * blocks. The archive publishes a new view whenever a file is sealed, compacted or expired; a
 * reader takes one, reads, gives it back. Files stay open (and readable after their unlink) as long
 * as some view that names them is held.
 *
 * log_views is the place where the current one hangs: taken and published under a mutex, which is
 * legal because no shard and no writer ever comes here.
 *
 * Reading is buffered and blocking: query threads, forwarder, tools; never a shard.
 */
#ifndef STORE_LOG_VIEW_H
#define STORE_LOG_VIEW_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/sealed.h"

enum view_state {
    VIEW_ACTIVE = 1, /* raw, no footer yet: being written, or waiting to be sealed */
    VIEW_SEALED,
    VIEW_COMPACTED,
};

/* One segment; shared between views, refcounted, immutable. */
struct view_segment {
    uint64_t id;
    enum view_state state;
    struct segment_header header;
    struct segment_footer footer; /* SEALED, COMPACTED; of ACTIVE only first_lsn is known, and 0
                                     when its first batch was not there yet */
    uint64_t stored_bytes;        /* the file's size */
    struct file file;             /* read only, buffered */
    struct file_io *io;
    _Atomic uint32_t references;
};

struct log_view {
    uint64_t generation;
    size_t count;
    struct view_segment **segments; /* by id; their LSN ranges follow each other */
    _Atomic uint32_t references;
};

struct log_views;

int log_views_open(struct log_views **views, struct file_io *io, struct err *err) MUST_USE;
void log_views_close(struct log_views *views);
/* Any thread but shards and writer. Never NULL. */
struct log_view *log_view_take(struct log_views *views);
void log_view_give(struct log_views *views, struct log_view *view);
/* Archive only: segments is copied (references are taken); replaces the current view. */
void log_views_publish(struct log_views *views, struct view_segment *const *segments, size_t count);

/* A segment with one reference. Opens the file of that state, reads header and footer. */
int view_segment_open(struct view_segment **segment, struct file_io *io, uint64_t id,
                      enum view_state state, struct err *err) MUST_USE;
void view_segment_give(struct view_segment *segment);

/* ---- blocks: one thread per reader, which owns its buffers ---- */
struct block_reader;
struct block_reader *block_reader_new(void);
void block_reader_free(struct block_reader *reader);
/* The index of a sealed or compacted segment; borrowed until the next load of another segment. */
int block_reader_index(struct block_reader *reader, struct view_segment *segment,
                       struct index *index, struct err *err) MUST_USE;
/* Loads (reads, checks stored_crc, decompresses) block i. For an ACTIVE segment i counts windows of
 * whole batches of about INDEX_BLOCK_BYTES from the segment's start; durable_lsn bounds what is
 * shown (of an ACTIVE segment that is not the view's last: at most the next one's first LSN - 1,
 * because a batch whose write failed is written again there; UINT64_MAX: not known, all that is
 * valid); -ENODATA: no block i (yet). batches: borrowed until the next load; batch after batch, each
 * padded to batch_align (STORE_BLOCK_BYTES in a raw file, 1 in a compacted frame). */
struct block {
    struct slice batches;
    uint64_t batch_align;
    uint64_t salt; /* of the segment: what a batch in it must name; 0: not known, any */
};
int block_reader_load(struct block_reader *reader, struct view_segment *segment, uint32_t i,
                      uint64_t durable_lsn, struct block *block, struct err *err) MUST_USE;

/* Where an LSN is: the last block that begins at or below it (0 when none does), and how many
 * blocks there are now; of an ACTIVE segment as far as durable_lsn. Reads an index or headers, no
 * block. -EAGAIN: of an ACTIVE segment not all headers are known yet; each call reads a bounded
 * number more. */
#define BLOCK_FIND_HEADERS_MAX 256u /* some 0.2 ms: a small part of a scan's step */
struct block_place {
    uint32_t i;
    uint32_t count;
};
int block_reader_find(struct block_reader *reader, struct view_segment *segment, uint64_t lsn,
                      uint64_t durable_lsn, struct block_place *place, struct err *err) MUST_USE;

/* What the batch headers of one window of an ACTIVE segment say, no payload looked at. */
struct block_summary {
    uint64_t first_lsn; /* [first_lsn, end_lsn): of these it is known that they are there */
    uint64_t end_lsn;
    uint64_t raw_bytes; /* of the whole window */
    int64_t time_min_ns, time_max_ns;
    uint64_t record_count; /* of the whole window */
    uint32_t kinds;        /* bit (1 << kind) */
};
/* Of window i of the ACTIVE segment that block_reader_find was last asked for, with the same
 * durable_lsn. False: no window i. Reads nothing. */
bool block_reader_summary(const struct block_reader *reader, uint32_t i, uint64_t durable_lsn,
                          struct block_summary *summary);

/* Walks batches and records of a block. Pure. Begin with zeroed struct and block set. */
struct block_walk {
    struct block block;
    uint64_t batch_at;  /* where the current batch begins */
    uint64_t record_at; /* where the next record begins, 0: at a batch boundary */
    uint64_t batch_end;
    struct batch_header header; /* of the current batch */
    uint64_t lsn_next;
};
/* 1: record, its lsn and its batch (walk->header); 0: end; ERR_CORRUPT: the next call goes on
 * behind the damage. */
int block_walk_next(struct block_walk *walk, struct record *record, uint64_t *lsn,
                    struct err *err) MUST_USE;

#endif
