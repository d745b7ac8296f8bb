/*
 * reader: the log from disk, in order and in every form of its segments, for tools (dump, verify),
 * for rebuilding, and later for readers with positions. Opens DIR read-only through a file_io, needs no lock, and works while a
 * server writes: it shows every valid batch of the contiguous log and stops at the first that is
 * not.
 */
#ifndef STORE_READER_H
#define STORE_READER_H

#include "core/base.h"
#include "core/err.h"
#include "store/file_io.h"
#include "store/format.h"
#include "store/index.h"

struct reader;

struct reader_record {
    uint64_t lsn;
    int64_t built_at_ns; /* of its batch: the receipt time, to the batch */
    uint64_t segment_id;
    uint64_t batch_offset;
    struct record record; /* borrowed until the next reader_next */
};

/* from_lsn 0 or 1: the beginning. -ENOENT with a text when there is no log. */
int reader_open(struct reader **reader, struct file_io *io, uint64_t from_lsn,
                struct err *err) MUST_USE;
/* 1: a record; 0: the end of the log as it is now (calling again later may give more); ERR_CORRUPT:
 * err names file, offset and LSN, and the next call goes on behind the damage; -errno. */
int reader_next(struct reader *reader, struct reader_record *record, struct err *err) MUST_USE;
void reader_close(struct reader *reader);

struct verify_report {
    uint64_t segments, batches, marks, records, bytes;
    uint64_t first_lsn, last_lsn;
    uint64_t
        torn_batches; /* above D at the very end: normal after a crash, cut at the next start */
    uint64_t dirty_paddings; /* not zero behind a valid batch: a crash tore only the padding,
                                nothing is lost */
    uint64_t faults;
    uint64_t sealed, compacted; /* segments whose footer and index were compared */
};

struct verify_options {
    void (*on_fault)(void *context, const char *line);
    void (*on_progress)(void *context, uint64_t bytes_done, uint64_t bytes_all);
    void *context;
    record_keys_fn keys; /* NULL: filters are not asked */
    void *keys_context;
};

/* Walks every byte of every form: headers, chain, CRCs, record framing, density of LSNs, order of
 * segments; footers and indexes against what was walked: ranges, counts, kinds, times, bytes,
 * digest, and that each filter says yes to the keys of its records. on_fault gets one line per
 * fault: file, offset, LSN, what. 0 when the walk was possible (see report->faults), else -errno. */
int log_verify_deep(struct file_io *io, struct verify_report *report,
                    const struct verify_options *options, struct err *err) MUST_USE;
/* Likewise without progress and keys. */
int log_verify(struct file_io *io, struct verify_report *report,
               void (*on_fault)(void *context, const char *line), void *context,
               struct err *err) MUST_USE;

#endif
