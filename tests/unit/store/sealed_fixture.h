/*
 * sealed_fixture: one segment by hand, in memory and on a simulated disk: raw, then sealed, then
 * compacted. Uses the encoders of format.h, index.h, sealed.h and frame.h only, never the archive:
 * readers tested against what the archive writes would share its mistakes. Included by the tests of
 * log_view and of the golden files.
 */
#ifndef SEALED_FIXTURE_H
#define SEALED_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "sim_disk.h"
#include "store/digest.h"
#include "store/frame.h"
#include "store/log_view.h"
#include "store/segment.h"

#define SEALED_FIXTURE_BATCHES_MAX 4096u

struct sealed_fixture {
    struct sim_disk *disk;
    struct file_io *io;
    struct segment_header header;
    uint8_t *raw; /* the segment file, header.file_bytes */
    uint64_t end; /* where the next batch goes */
    struct batch_header next;
    uint64_t batch_at[SEALED_FIXTURE_BATCHES_MAX];
    uint32_t batch_count;
    uint8_t *sealed; /* what seal and compact made last */
    uint64_t sealed_bytes;
};

static inline void sf_put(struct sealed_fixture *sf, const char *name, const uint8_t *data,
                          uint64_t bytes)
{
    struct file file;
    struct file_io *io = sf->io;
    ASSERT(io->ops->open(io, name, FILE_OPEN_CREATE, &file) == 0);
    ASSERT(io->ops->truncate(io, file, 0) == 0);
    ASSERT(io->ops->write(io, file, data, bytes, 0, false) == 0);
    ASSERT(io->ops->sync(io, file) == 0);
    ASSERT(io->ops->sync_dir(io, SEGMENT_DIR) == 0);
    io->ops->close(io, file);
}

/* The raw file as it is in memory. */
static inline void sf_write_raw(struct sealed_fixture *sf)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, sf->header.segment_id);
    sf_put(sf, name, sf->raw, sf->header.file_bytes);
}

static inline void sf_segment(struct sealed_fixture *sf, uint64_t id, uint64_t file_bytes)
{
    mem_free(sf->raw);
    sf->header = (struct segment_header){.segment_id = id,
                                         .salt = 0x5a17c0ffee000000ull + id,
                                         .node = {{1, 2, 3, 4, 5, 6, 7, 8}},
                                         .file_bytes = file_bytes};
    sf->raw = mem_alloc(file_bytes);
    segment_header_encode(sf->raw, &sf->header);
    sf->end = STORE_BLOCK_BYTES;
    sf->batch_count = 0;
    sf_write_raw(sf);
}

static inline void sf_open(struct sealed_fixture *sf)
{
    struct sim_disk_options options = {
        .seed = 1, .capacity_bytes = MIB(256), .delay_ns_min = 1, .delay_ns_max = 2};
    memset(sf, 0, sizeof *sf);
    sf->disk = sim_disk_create(&options);
    sf->io = sim_disk_io(sf->disk);
    sf->next.batch_seq = 1;
    sf->next.first_lsn = 1;
    ASSERT(sf->io->ops->make_dir(sf->io, SEGMENT_DIR) == 0);
}

static inline void sf_close(struct sealed_fixture *sf)
{
    mem_free(sf->raw);
    mem_free(sf->sealed);
    sim_disk_destroy(sf->disk);
}

/* A record that says its LSN at the beginning of its payload. */
static inline size_t sf_record(uint8_t *to, uint64_t lsn, size_t payload_bytes)
{
    static char text[1u << 21];
    ASSERT(payload_bytes < sizeof text);
    memset(text, '.', payload_bytes);
    (void)snprintf(text, sizeof text, "%020llu", (unsigned long long)lsn);
    struct record record = {
        .kind = RECORD_LOG,
        .severity = (uint8_t)(lsn % 7),
        .event_time_ns = (int64_t)lsn * 10,
        .payload = {(const uint8_t *)text, payload_bytes < 20 ? 20 : payload_bytes},
    };
    memcpy(record.id.bytes, &lsn, sizeof lsn);
    return record_encode(to, &record);
}

/* A batch in memory; record_count 0: a mark. */
static inline void sf_batch(struct sealed_fixture *sf, uint32_t record_count, size_t payload_bytes)
{
    struct batch_header header = sf->next;
    uint8_t *at = sf->raw + sf->end;
    size_t bytes = 0;
    for (uint32_t i = 0; i < record_count; i++) {
        bytes += sf_record(at + BATCH_HEADER_BYTES + bytes, header.first_lsn + i, payload_bytes);
    }
    ASSERT(sf->end + batch_file_bytes(bytes) <= sf->header.file_bytes);
    ASSERT(sf->batch_count < SEALED_FIXTURE_BATCHES_MAX);
    header.segment_id = sf->header.segment_id;
    header.salt = sf->header.salt;
    header.flags = record_count == 0 ? BATCH_MARK : 0;
    header.record_count = record_count;
    header.payload_bytes = (uint32_t)bytes;
    header.kinds = record_count == 0 ? 0 : 1u << RECORD_LOG;
    header.time_min_ns = record_count == 0 ? 0 : (int64_t)header.first_lsn * 10;
    header.time_max_ns =
        record_count == 0 ? 0 : (int64_t)(header.first_lsn + record_count - 1) * 10;
    header.durable_lsn = header.first_lsn - 1;
    header.built_at_ns = 1000 + (int64_t)header.batch_seq;
    header.payload_crc = crc32c(0, at + BATCH_HEADER_BYTES, bytes);
    batch_header_encode(at, &header);
    sf->batch_at[sf->batch_count++] = sf->end;
    sf->end += batch_file_bytes(bytes);
    sf->next.batch_seq++;
    sf->next.first_lsn += record_count;
    sf->next.previous_crc = header.header_crc;
}

/* ---- sealing ---- */

static inline void sf_index_batch(struct index_builder *builder, struct segment_footer *footer,
                                  const struct batch_header *header, const uint8_t *payload)
{
    size_t at = 0;
    while (at < header->payload_bytes) {
        struct record record;
        struct slice rest = {payload + at, header->payload_bytes - at};
        int64_t bytes = record_decode(&record, rest, NULL);
        ASSERT(bytes > 0);
        index_builder_add_record(builder, &record);
        index_builder_add_key(builder, index_key(INDEX_SERVICE, record.payload));
        footer->payload_bytes += record.payload.bytes;
        footer->severities |= 1u << record.severity;
        at += (size_t)bytes;
    }
}

static inline void sf_count_batch(struct segment_footer *footer, const struct batch_header *header)
{
    if (footer->first_seq == 0) {
        footer->first_seq = header->batch_seq;
        footer->first_lsn = header->first_lsn;
        footer->first_previous_crc = header->previous_crc;
        footer->built_min_ns = header->built_at_ns;
    }
    if (header->record_count != 0) {
        bool is_first = footer->record_count == 0;
        footer->time_min_ns = is_first || header->time_min_ns < footer->time_min_ns
                                  ? header->time_min_ns
                                  : footer->time_min_ns;
        footer->time_max_ns = is_first || header->time_max_ns > footer->time_max_ns
                                  ? header->time_max_ns
                                  : footer->time_max_ns;
    }
    footer->last_seq = header->batch_seq;
    footer->last_lsn = header->first_lsn + header->record_count - 1;
    footer->last_crc = header->header_crc;
    footer->keyed_lsn = header->keyed_lsn;
    footer->durable_lsn = u64_max(footer->durable_lsn, header->durable_lsn);
    footer->record_count += header->record_count;
    footer->raw_bytes += BATCH_HEADER_BYTES + (uint64_t)header->payload_bytes;
    footer->kinds |= header->kinds;
    footer->built_max_ns = header->built_at_ns;
}

/* Puts index and footer behind `to`, which has content_bytes and room for both. Returns the size of
 * the file. */
static inline uint64_t sf_finish(uint8_t *to, uint64_t content_bytes, struct slice blob,
                                 struct segment_footer *footer)
{
    footer->index_offset = align_up(content_bytes, STORE_BLOCK_BYTES);
    footer->index_bytes = blob.bytes;
    footer->index_crc = crc32c(0, blob.data, blob.bytes);
    uint64_t end = align_up(footer->index_offset + blob.bytes, STORE_BLOCK_BYTES);
    memset(to + content_bytes, 0, end - content_bytes);
    memcpy(to + footer->index_offset, blob.data, blob.bytes);
    segment_footer_encode(to + end, footer);
    return end + STORE_BLOCK_BYTES;
}

static inline uint8_t *sf_room(struct sealed_fixture *sf, uint64_t bytes)
{
    mem_free(sf->sealed);
    sf->sealed = mem_alloc(bytes);
    return sf->sealed;
}

/* What sealing and compacting begin with: index and footer of the raw segment. */
static inline struct index_builder *sf_index(struct sealed_fixture *sf,
                                             struct segment_footer *footer)
{
    struct index_builder *builder = index_builder_new();
    struct digest *digest = digest_new();
    *footer = (struct segment_footer){.form = SEGMENT_FORM_RAW,
                                      .segment_id = sf->header.segment_id,
                                      .salt = sf->header.salt,
                                      .node = sf->header.node};
    for (uint32_t i = 0; i < sf->batch_count; i++) {
        struct batch_header header;
        const uint8_t *at = sf->raw + sf->batch_at[i];
        ASSERT(batch_header_decode(&header, at, NULL) == 0);
        index_builder_add_batch(builder, &header, sf->batch_at[i]);
        sf_index_batch(builder, footer, &header, at + BATCH_HEADER_BYTES);
        sf_count_batch(footer, &header);
        digest_add(digest, (struct slice){at, BATCH_HEADER_BYTES + header.payload_bytes});
        if (index_builder_is_full(builder)) {
            index_builder_end_block(builder,
                                    sf->batch_at[i] + batch_file_bytes(header.payload_bytes));
        }
    }
    index_builder_end_block(builder, sf->end);
    digest_get(digest, footer->content_digest);
    digest_free(digest);
    return builder;
}

static inline void sf_seal(struct sealed_fixture *sf)
{
    struct segment_footer footer;
    struct index_builder *builder = sf_index(sf, &footer);
    struct slice blob = index_builder_blob(builder, &footer.entry_count);
    uint64_t raw_bytes = sf->header.file_bytes;
    uint8_t *to = sf_room(sf, raw_bytes + blob.bytes + 2 * STORE_BLOCK_BYTES);
    memcpy(to, sf->raw, raw_bytes);
    sf->sealed_bytes = sf_finish(to, raw_bytes, blob, &footer);
    index_builder_free(builder);
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, sf->header.segment_id);
    sf_put(sf, name, to, sf->sealed_bytes);
}

/* The batches of an entry without their padding; returns their bytes. */
static inline size_t sf_gather(const struct sealed_fixture *sf, const struct index_entry *entry,
                               uint8_t *to)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < sf->batch_count; i++) {
        struct batch_header header;
        const uint8_t *at = sf->raw + sf->batch_at[i];
        if (sf->batch_at[i] < entry->offset ||
            sf->batch_at[i] >= entry->offset + entry->stored_bytes) {
            continue;
        }
        ASSERT(batch_header_decode(&header, at, NULL) == 0);
        memcpy(to + bytes, at, BATCH_HEADER_BYTES + header.payload_bytes);
        bytes += BATCH_HEADER_BYTES + header.payload_bytes;
    }
    return bytes;
}

/* Writes log/ID.slc. */
static inline void sf_compact(struct sealed_fixture *sf)
{
    struct segment_footer footer;
    struct index_builder *builder = sf_index(sf, &footer);
    struct frame_writer *writer = frame_writer_new(3);
    struct slice blob = index_builder_blob(builder, &footer.entry_count);
    uint8_t *entries = mem_alloc(blob.bytes);
    uint8_t *gathered = mem_alloc(sf->header.file_bytes);
    uint8_t *to = sf_room(sf, 2 * sf->header.file_bytes + blob.bytes + 4 * STORE_BLOCK_BYTES);
    uint64_t end = STORE_BLOCK_BYTES;
    struct index index;
    ASSERT(index_open(&index, blob, footer.entry_count, NULL) == 0);
    memcpy(entries, blob.data, blob.bytes);
    compacted_header_encode(to, &sf->header);
    for (uint32_t i = 0; i < footer.entry_count; i++) {
        struct index_entry entry;
        index_entry_get(&index, i, &entry);
        struct slice raw = {gathered, sf_gather(sf, &entry, gathered)};
        ASSERT(raw.bytes == entry.raw_bytes);
        int64_t bytes = frame_compress(writer, to + end, raw, NULL);
        ASSERT(bytes > 0);
        entry.offset = end;
        entry.stored_bytes = (uint64_t)bytes;
        entry.stored_crc = crc32c(0, to + end, (size_t)bytes);
        index_entry_put(entries + (size_t)i * INDEX_ENTRY_BYTES, &entry);
        end += (uint64_t)bytes;
    }
    footer.form = SEGMENT_FORM_COMPACTED;
    sf->sealed_bytes = sf_finish(to, end, (struct slice){entries, blob.bytes}, &footer);
    mem_free(entries);
    mem_free(gathered);
    frame_writer_free(writer);
    index_builder_free(builder);
    char name[SEGMENT_NAME_BYTES];
    compacted_name(name, sf->header.segment_id);
    sf_put(sf, name, to, sf->sealed_bytes);
}

#endif
