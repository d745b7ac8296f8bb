/*
 * log_fixture: writes a log by hand onto a simulated disk, batch by batch, so that tests of the
 * reader, of verify and of recovery can make exactly the situation they name. Everything is durable
 * at once. Deterministic: fixed salt, node and times.
 */
#ifndef LOG_FIXTURE_H
#define LOG_FIXTURE_H

#include "sim_disk.h"
#include "store/format.h"

#define FIXTURE_SEGMENT_BYTES KIB(64)

struct log_fixture {
    struct sim_disk *disk;
    struct file_io *io;
    struct batch_header next; /* segment, sequence and LSN of the batch to come */
    uint64_t offset;          /* in the segment */
    uint64_t batch_offset;    /* of the batch written last */
    char name[64];            /* of the segment */
};

void log_fixture_open(struct log_fixture *fixture);
void log_fixture_close(struct log_fixture *fixture);
/* A new segment with the next id; batches go there from now on. */
void log_fixture_segment(struct log_fixture *fixture);
/* A batch of records "record LSN"; record_count 0: a mark. durable_lsn of the header: everything
 * before the batch. */
void log_fixture_batch(struct log_fixture *fixture, uint32_t record_count);
/* The same with another witness. */
void log_fixture_batch_durable(struct log_fixture *fixture, uint32_t record_count,
                               uint64_t durable_lsn);
/* Steps back so that the next batch repeats the sequence and LSNs from *saved on (after an I/O
 * error). */
void log_fixture_rewind(struct log_fixture *fixture, const struct batch_header *saved);
/* Overwrites bytes of the current segment. */
void log_fixture_poke(struct log_fixture *fixture, uint64_t offset, const void *data,
                      uint64_t bytes);

#endif
