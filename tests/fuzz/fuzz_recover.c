/*
 * fuzz_recover: any bytes as a segment file. store_open must succeed or refuse with a text, never
 * crash or hang; after a start the log must take a record and keep it; the reader and verify must
 * come to an end. The first byte says what is repaired before, so that mutations reach behind the
 * checksums: bit 0 the segment header, bit 1 every batch that begins with its magic, bit 2 opens
 * with on_corruption = refuse.
 */
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "sim_disk.h"
#include "store/format.h"
#include "store/reader.h"
#include "store/store_step.h"

#define FILE_BYTES   KIB(64)
#define EVENTS_MAX   100000
#define SEGMENT_NAME "log/0000000000000001.seg"

enum {
    REPAIR_SEGMENT = 1u << 0,
    REPAIR_BATCHES = 1u << 1,
    OPEN_REFUSE = 1u << 2,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void repair_segment(uint8_t *file)
{
    struct segment_header header = {.segment_id = 1, .salt = 1, .file_bytes = FILE_BYTES};
    segment_header_encode(file, &header);
}

/* Gives each block that begins like a batch the right segment, salt and checksums; the rest of its
 * header stays wild. */
static void repair_batches(uint8_t *file)
{
    uint64_t one = 1;
    for (uint64_t at = STORE_BLOCK_BYTES; at < FILE_BYTES; at += STORE_BLOCK_BYTES) {
        uint8_t *header = file + at;
        if (memcmp(header, "SLUICBAT", 8) != 0) {
            continue;
        }
        memcpy(header + 16, &one, sizeof one);
        memcpy(header + 24, &one, sizeof one);
        uint32_t payload_bytes = 0;
        memcpy(&payload_bytes, header + 60, sizeof payload_bytes);
        if (payload_bytes <= FILE_BYTES - at - BATCH_HEADER_BYTES) {
            uint32_t crc = crc32c(0, header + BATCH_HEADER_BYTES, payload_bytes);
            memcpy(header + 120, &crc, sizeof crc);
        }
        uint32_t crc = crc32c(0, header, BATCH_HEADER_BYTES - 4);
        memcpy(header + 124, &crc, sizeof crc);
    }
}

static void put_file(struct file_io *io, const uint8_t *data, size_t bytes, uint8_t repairs)
{
    struct file file;
    uint8_t *memory = mem_alloc(FILE_BYTES);
    memcpy(memory, data, bytes < FILE_BYTES ? bytes : FILE_BYTES);
    if ((repairs & REPAIR_SEGMENT) != 0) {
        repair_segment(memory);
    }
    if ((repairs & REPAIR_BATCHES) != 0) {
        repair_batches(memory);
    }
    ASSERT(io->ops->make_dir(io, "log") == 0);
    ASSERT(io->ops->open(io, SEGMENT_NAME, FILE_OPEN_CREATE, &file) == 0);
    ASSERT(io->ops->write(io, file, memory, FILE_BYTES, 0, false) == 0);
    ASSERT(io->ops->sync(io, file) == 0);
    io->ops->close(io, file);
    mem_free(memory);
}

static void read_to_the_end(struct file_io *io)
{
    struct reader *reader = NULL;
    struct reader_record record;
    struct verify_report report;
    struct err err = {0};
    if (reader_open(&reader, io, 0, &err) == 0) {
        int result = 1;
        for (int i = 0; i < EVENTS_MAX && result != 0; i++) {
            result = reader_next(reader, &record, &err);
        }
        ASSERT(result == 0);
        reader_close(reader);
    }
    (void)(log_verify(io, &report, NULL, NULL, &err) == 0);
}

static void append_one(struct store *store)
{
    struct store_port *port = store_port(store, 0);
    struct record record = {.kind = RECORD_LOG, .payload = SLICE_LITERAL("{}")};
    uint8_t *to = spsc_claim(&port->submit, 256);
    ASSERT(to != NULL);
    size_t bytes = record_encode(to + sizeof(struct submit_header), &record);
    struct submit_header header = {
        .record_count = 1, .records_bytes = (uint32_t)bytes, .kinds = 1u << RECORD_LOG};
    memcpy(to, &header, sizeof header);
    (void)spsc_commit(&port->submit, SUBMIT_REQUEST, sizeof header + bytes);
    (void)spsc_publish(&port->submit);
    store_stop(store);
    int result = 0;
    for (int i = 0; i < EVENTS_MAX && result == 0; i++) {
        (void)store_step_keeper(store);
        result = store_step_writer(store);
    }
    ASSERT(result == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct park park = {.fd = -1};
    struct err err = {0};
    if (park.fd < 0 && park_init(&park, &err) < 0) {
        return 0;
    }
    struct sim_disk_options disk_options = {
        .seed = 1, .capacity_bytes = MIB(16), .delay_ns_min = 1, .delay_ns_max = 9};
    struct sim_disk *disk = sim_disk_create(&disk_options);
    struct file_io *io = sim_disk_io(disk);
    uint8_t repairs = bytes == 0 ? 0 : data[0];
    put_file(io, bytes == 0 ? data : data + 1, bytes == 0 ? 0 : bytes - 1, repairs);
    read_to_the_end(io);
    struct store_options options = {
        .data_dir = "sim",
        .segment_bytes = FILE_BYTES,
        .ring_bytes = KIB(32),
        .batch_bytes = KIB(16),
        .dedup_ttl_ns = NS_S,
        .dedup_entries_max = 64,
        .spare_segments = 1,
        .shard_count = 1,
        .writer_cpu = -1,
        .on_corruption =
            (repairs & OPEN_REFUSE) != 0 ? ON_CORRUPTION_REFUSE : ON_CORRUPTION_QUARANTINE,
    };
    struct store *store = NULL;
    struct recovery_report report = {0};
    if (store_open_single(&store, &options, io, &report, &err) == 0) {
        store_port(store, 0)->shard_park = &park;
        append_one(store);
        store_close(store);
        read_to_the_end(io);
    } else {
        ASSERT(err.text[0] != '\0');
    }
    sim_disk_destroy(disk);
    return 0;
}
