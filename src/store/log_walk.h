/*
 * log_walk: the log from disk, batch by batch, for the reader, for verify and for sealing. Private
 * to the store; pure reading, no lock, any one thread. It decides what belongs to the log by the
 * rules of format.h alone, independently of recovery, so that each checks the other: the valid
 * batches that continue each other; of two with the same batch_seq the one in the later segment; a
 * break at or below D is damage (WALK_GAP, and it goes on behind it), a break above D is the end
 * (WALK_END, ask again later).
 *
 * Segments are raw, sealed or compacted (walk_file.h); of two files with the same id the compacted
 * one counts, unless it is damaged. The log begins with the oldest segment there is: what was
 * before has expired. A file that cannot be what its name says (header, footer, node) is damage
 * itself, told once, and what it held shows as a gap. While a server compacts and expires, files
 * vanish beneath us: then the directory is listed again, and the walk goes on in the segment's
 * other form, or, where it has expired, with the new beginning.
 *
 * Memory: that of one walk_file, and a few hundred bytes per segment.
 */
#ifndef STORE_LOG_WALK_H
#define STORE_LOG_WALK_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/format.h"
#include "store/walk_file.h"

enum walk_event {
    WALK_END = 0,
    WALK_BATCH = 1,
    WALK_GAP = 2,
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
/* The same, but blocks of raw files that cannot be read (EIO) count as damage, so that the walk goes on behind them: for who
 * has tried often enough. */
int log_walk_open_around(struct log_walk **walk, struct file_io *io, uint64_t from_lsn,
                         struct err *err) MUST_USE;
/* From here on as of the one or the other. What was read around before is read again. */
void log_walk_read_around(struct log_walk *walk, bool reads_around);
void log_walk_close(struct log_walk *walk);
/* enum walk_event, or -errno where the disk cannot be read. */
int log_walk_next(struct log_walk *walk, struct walk_batch *batch, struct walk_gap *gap,
                  struct err *err) MUST_USE;
/* After WALK_BATCH: the file that holds it; borrowed until the next log_walk_next. */
const struct walk_file *log_walk_file(const struct log_walk *walk);
/* After WALK_END: what looks like batches behind the end (never acknowledged). */
uint64_t log_walk_torn_batches(const struct log_walk *walk);
uint64_t log_walk_segments(const struct log_walk *walk);
uint64_t log_walk_bytes(const struct log_walk *walk);
/* Bytes of the files behind us, and of all there were when they were last listed: for a progress
 * bar. */
void log_walk_progress(const struct log_walk *walk, uint64_t *done, uint64_t *all);

#endif
