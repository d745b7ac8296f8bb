/*
 * reader: the records of the log in order. A thin layer over log_walk, which decides what belongs
 * to the log; this file cuts batches into records, leaves out marks and what lies before from_lsn,
 * and turns gaps into ERR_CORRUPT once each.
 */
#include "store/reader.h"

#include <inttypes.h>

#include "core/mem.h"
#include "store/log_walk.h"

struct reader {
    struct log_walk *walk;
    uint64_t from_lsn;
    struct walk_batch batch; /* the one being cut; its slices live until the next step of walk */
    uint64_t segment_id;
    size_t at;         /* in its payload */
    uint64_t next_lsn; /* of the record at `at` */
};

int reader_open(struct reader **reader, struct file_io *io, uint64_t from_lsn, struct err *err)
{
    struct log_walk *walk = NULL;
    int result = log_walk_open(&walk, io, from_lsn, err);
    if (result < 0) {
        return err_wrap(err, result, "open log");
    }
    struct reader *made = mem_alloc(sizeof *made);
    made->walk = walk;
    made->from_lsn = from_lsn;
    *reader = made;
    return 0;
}

static int reader_on_gap(const struct walk_gap *gap, struct err *err)
{
    if (gap->last_lsn < gap->first_lsn) {
        return err_set(err, ERR_CORRUPT, "%s at %" PRIu64 ": %s", gap->name, gap->offset,
                       gap->text);
    }
    return err_set(err, ERR_CORRUPT, "%s at %" PRIu64 ": LSN %" PRIu64 " to %" PRIu64 " lost: %s",
                   gap->name, gap->offset, gap->first_lsn, gap->last_lsn, gap->text);
}

/* The next batch that holds something to show: 1, 0 at the end, ERR_CORRUPT, -errno. */
static int reader_next_batch(struct reader *reader, struct err *err)
{
    /* Each step consumes a batch or a gap of a finite log, or returns. */
    for (;;) {
        struct walk_gap gap;
        reader->at = 0;
        int event = log_walk_next(reader->walk, &reader->batch, &gap, err);
        if (event == WALK_GAP) {
            bool is_before = gap.last_lsn >= gap.first_lsn && gap.last_lsn < reader->from_lsn;
            if (!is_before) {
                return reader_on_gap(&gap, err);
            }
            continue;
        }
        if (event != WALK_BATCH) {
            return event < 0 ? event : 0;
        }
        const struct batch_header *header = &reader->batch.header;
        if (header->record_count != 0 &&
            header->first_lsn + header->record_count > reader->from_lsn) {
            reader->next_lsn = header->first_lsn;
            return 1;
        }
    }
}

static int reader_cut(struct reader *reader, struct reader_record *record, struct err *err)
{
    struct slice rest = {reader->batch.payload.data + reader->at,
                         reader->batch.payload.bytes - reader->at};
    int64_t bytes = record_decode(&record->record, rest, err);
    if (bytes < 0) {
        reader->at = reader->batch.payload.bytes; /* UNTESTED: the walk has checked the framing */
        return (int)bytes;
    }
    record->lsn = reader->next_lsn++;
    record->built_at_ns = reader->batch.header.built_at_ns;
    record->segment_id = reader->batch.header.segment_id;
    record->batch_offset = reader->batch.offset;
    reader->at += (size_t)bytes;
    return 1;
}

int reader_next(struct reader *reader, struct reader_record *record, struct err *err)
{
    /* At most as many rounds as the log has records before from_lsn. */
    for (;;) {
        if (reader->at >= reader->batch.payload.bytes) {
            int result = reader_next_batch(reader, err);
            if (result <= 0) {
                return result;
            }
        }
        int result = reader_cut(reader, record, err);
        if (result < 0 || record->lsn >= reader->from_lsn) {
            return result;
        }
    }
}

void reader_close(struct reader *reader)
{
    if (reader == NULL) {
        return;
    }
    log_walk_close(reader->walk);
    mem_free(reader);
}
