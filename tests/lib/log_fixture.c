/*
 * log_fixture: see log_fixture.h. Uses the encoders of format.h only, never the journal: a reader
 * tested against what the journal writes would share its mistakes.
 */
#include "log_fixture.h"

#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"

#define FIXTURE_TIME_NS 1700000000000000000ll
#define FIXTURE_SALT    0x5a17c0ffee123456ull

static const struct ulid FIXTURE_NODE = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

void log_fixture_open(struct log_fixture *fixture)
{
    struct sim_disk_options options = {
        .seed = 1, .capacity_bytes = MIB(64), .delay_ns_min = 1, .delay_ns_max = 2};
    memset(fixture, 0, sizeof *fixture);
    fixture->disk = sim_disk_create(&options);
    fixture->io = sim_disk_io(fixture->disk);
    fixture->next.batch_seq = 1;
    fixture->next.first_lsn = 1;
    ASSERT(fixture->io->ops->make_dir(fixture->io, "log") == 0);
}

void log_fixture_close(struct log_fixture *fixture)
{
    sim_disk_destroy(fixture->disk);
}

static void fixture_put(struct log_fixture *fixture, const void *data, uint64_t bytes,
                        uint64_t offset)
{
    struct file file;
    struct file_io *io = fixture->io;
    ASSERT(io->ops->open(io, fixture->name, FILE_OPEN_CREATE, &file) == 0);
    ASSERT(io->ops->write(io, file, data, bytes, offset, false) == 0);
    ASSERT(io->ops->sync(io, file) == 0);
    ASSERT(io->ops->sync_dir(io, "log") == 0);
    io->ops->close(io, file);
}

void log_fixture_segment(struct log_fixture *fixture)
{
    fixture->next.segment_id++;
    fixture->next.salt = FIXTURE_SALT + fixture->next.segment_id;
    fixture->offset = STORE_BLOCK_BYTES;
    (void)snprintf(fixture->name, sizeof fixture->name, "log/%016llx.seg",
                   (unsigned long long)fixture->next.segment_id);
    struct segment_header header = {
        .segment_id = fixture->next.segment_id,
        .salt = fixture->next.salt,
        .node = FIXTURE_NODE,
        .file_bytes = FIXTURE_SEGMENT_BYTES,
    };
    uint8_t *file = mem_alloc(FIXTURE_SEGMENT_BYTES);
    segment_header_encode(file, &header);
    fixture_put(fixture, file, FIXTURE_SEGMENT_BYTES, 0);
    mem_free(file);
}

/* Appends record number index to the payload; returns its padded bytes. */
static size_t fixture_record(uint8_t *to, uint64_t lsn)
{
    char text[64];
    int length =
        snprintf(text, sizeof text, "{\"message\":\"record %llu\"}", (unsigned long long)lsn);
    struct record record = {
        .kind = RECORD_LOG,
        .severity = SEVERITY_INFO,
        .event_time_ns = FIXTURE_TIME_NS + (int64_t)lsn,
        .payload = {(const uint8_t *)text, (size_t)length},
    };
    memset(record.id.bytes, (int)(lsn & 0xff), sizeof record.id.bytes);
    return record_encode(to, &record);
}

void log_fixture_batch(struct log_fixture *fixture, uint32_t record_count)
{
    log_fixture_batch_durable(fixture, record_count, fixture->next.first_lsn - 1);
}

void log_fixture_batch_durable(struct log_fixture *fixture, uint32_t record_count,
                               uint64_t durable_lsn)
{
    uint8_t *memory = mem_alloc(FIXTURE_SEGMENT_BYTES);
    struct batch_header header = fixture->next;
    size_t bytes = 0;
    ASSERT(record_count * 128u < FIXTURE_SEGMENT_BYTES - BATCH_HEADER_BYTES);
    for (uint32_t i = 0; i < record_count; i++) {
        bytes += fixture_record(memory + BATCH_HEADER_BYTES + bytes, header.first_lsn + i);
    }
    header.flags = record_count == 0 ? BATCH_MARK : 0;
    header.record_count = record_count;
    header.payload_bytes = (uint32_t)bytes;
    header.kinds = record_count == 0 ? 0 : 1u << RECORD_LOG;
    header.time_min_ns = record_count == 0 ? 0 : FIXTURE_TIME_NS + (int64_t)header.first_lsn;
    header.time_max_ns =
        record_count == 0 ? 0 : FIXTURE_TIME_NS + (int64_t)header.first_lsn + record_count - 1;
    header.durable_lsn = durable_lsn;
    header.built_at_ns = FIXTURE_TIME_NS;
    header.payload_crc = crc32c(0, memory + BATCH_HEADER_BYTES, bytes);
    batch_header_encode(memory, &header);
    fixture_put(fixture, memory, batch_file_bytes(bytes), fixture->offset);
    mem_free(memory);
    fixture->batch_offset = fixture->offset;
    fixture->offset += batch_file_bytes(bytes);
    fixture->next.batch_seq++;
    fixture->next.first_lsn += record_count;
    fixture->next.previous_crc = header.header_crc;
}

void log_fixture_rewind(struct log_fixture *fixture, const struct batch_header *saved)
{
    fixture->next.batch_seq = saved->batch_seq;
    fixture->next.first_lsn = saved->first_lsn;
    fixture->next.previous_crc = saved->previous_crc;
}

void log_fixture_poke(struct log_fixture *fixture, uint64_t offset, const void *data,
                      uint64_t bytes)
{
    fixture_put(fixture, data, bytes, offset);
}
