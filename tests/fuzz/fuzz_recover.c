/*
 * fuzz_recover: any bytes as a segment file, raw, sealed (longer than a segment) or compacted.
 * store_open must succeed or refuse with a text, never crash or hang; after a start the log must
 * take a record and keep it; the reader and verify must come to an end. The first byte says what is
 * repaired before, so that mutations reach behind the checksums: bit 0 the segment header, bit 1
 * every batch that begins with its magic (compacted: the index's checksums of the frames), bit 2
 * opens with on_corruption = refuse, bit 3 it is a compacted file, bit 4 the footer, bit 5 it is
 * segment 3 and there is neither 1 nor 2, bit 6 a raw segment without batches is its twin.
 */
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "sim_disk.h"
#include "store/format.h"
#include "store/reader.h"
#include "store/sealed.h"
#include "store/segment.h"
#include "store/store_step.h"

#define FILE_BYTES     KIB(64)
#define FILE_BYTES_MAX (2 * FILE_BYTES)
#define EVENTS_MAX     100000

enum {
    REPAIR_SEGMENT = 1u << 0,
    REPAIR_BATCHES = 1u << 1,
    OPEN_REFUSE = 1u << 2,
    FORM_COMPACTED = 1u << 3,
    REPAIR_FOOTER = 1u << 4,
    ID_THREE = 1u << 5,
    HAS_TWIN = 1u << 6,
};

static uint64_t segment_id; /* of this input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void repair_segment(uint8_t *file, bool is_compacted)
{
    struct segment_header header = {.segment_id = segment_id, .salt = 1, .file_bytes = FILE_BYTES};
    if (is_compacted) {
        compacted_header_encode(file, &header);
    } else {
        segment_header_encode(file, &header);
    }
}

static uint64_t read_u64(const uint8_t *from)
{
    uint64_t value = 0;
    memcpy(&value, from, sizeof value);
    return value;
}

static void write_crc(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    uint32_t crc = crc32c(0, from, (size_t)bytes);
    memcpy(to, &crc, sizeof crc);
}

/* Each frame that lies in the file gets its checksum. */
static void repair_frames(uint8_t *file, uint64_t file_bytes, uint8_t *index, uint64_t index_bytes)
{
    for (uint64_t at = 0; at + INDEX_ENTRY_BYTES <= index_bytes; at += INDEX_ENTRY_BYTES) {
        uint64_t offset = read_u64(index + at);
        uint64_t bytes = read_u64(index + at + 8);
        if (offset < file_bytes && bytes <= file_bytes - offset) {
            write_crc(index + at + 88, file + offset, bytes);
        }
    }
}

/* The last block, when it begins like a footer, becomes that of this file; what it says of the
 * segment stays wild. */
static void repair_footer(uint8_t *file, uint64_t file_bytes, uint8_t repairs)
{
    uint64_t one = 1;
    uint8_t *footer = file + file_bytes - STORE_BLOCK_BYTES;
    if (file_bytes < 2 * STORE_BLOCK_BYTES || memcmp(footer, "SLUICEND", 8) != 0) {
        return;
    }
    memcpy(footer + 16, &segment_id, sizeof segment_id);
    memcpy(footer + 24, &one, sizeof one);
    memset(footer + 32, 0, 16);
    uint64_t offset = read_u64(footer + 168);
    uint64_t bytes = read_u64(footer + 176);
    if (offset < file_bytes && bytes <= file_bytes - offset) {
        if ((repairs & FORM_COMPACTED) != 0 && (repairs & REPAIR_BATCHES) != 0) {
            repair_frames(file, file_bytes, file + offset, bytes);
        }
        write_crc(footer + 188, file + offset, bytes);
    }
    write_crc(footer + 252, footer, 252);
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
        memcpy(header + 16, &segment_id, sizeof segment_id);
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

static void write_file(struct file_io *io, const char *name, const uint8_t *data, uint64_t bytes)
{
    struct file file;
    ASSERT(io->ops->open(io, name, FILE_OPEN_CREATE, &file) == 0);
    ASSERT(io->ops->write(io, file, data, bytes, 0, false) == 0);
    ASSERT(io->ops->sync(io, file) == 0);
    io->ops->close(io, file);
}

/* A raw file is as long as a segment at least; what is longer ends with its last block. */
static void put_file(struct file_io *io, const uint8_t *data, size_t bytes, uint8_t repairs)
{
    char name[SEGMENT_NAME_BYTES];
    bool is_compacted = (repairs & FORM_COMPACTED) != 0;
    uint64_t taken = u64_min(bytes, FILE_BYTES_MAX);
    uint64_t file_bytes =
        u64_max((taken + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES,
                is_compacted ? STORE_BLOCK_BYTES : FILE_BYTES);
    uint8_t *memory = mem_alloc(FILE_BYTES_MAX);
    segment_id = (repairs & ID_THREE) != 0 ? 3 : 1;
    ASSERT(io->ops->make_dir(io, "log") == 0);
    if ((repairs & HAS_TWIN) != 0 && is_compacted) {
        repair_segment(memory, false);
        segment_name(name, segment_id);
        write_file(io, name, memory, FILE_BYTES);
        memset(memory, 0, STORE_BLOCK_BYTES);
    }
    if (taken != 0) {
        memcpy(memory, data, (size_t)taken);
    }
    if ((repairs & REPAIR_SEGMENT) != 0) {
        repair_segment(memory, is_compacted);
    }
    if ((repairs & REPAIR_BATCHES) != 0 && !is_compacted) {
        repair_batches(memory);
    }
    if ((repairs & REPAIR_FOOTER) != 0) {
        repair_footer(memory, file_bytes, repairs);
    }
    if (is_compacted) {
        compacted_name(name, segment_id);
    } else {
        segment_name(name, segment_id);
    }
    write_file(io, name, memory, file_bytes);
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
