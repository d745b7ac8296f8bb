/*
 * form_fixture: see form_fixture.h. One segment is read into memory and its batches are told
 * one by one to whoever makes the new form.
 */
#include "form_fixture.h"

#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/digest.h"
#include "store/frame.h"
#include "store/segment.h"

struct maker {
    const struct form_options *options;
    uint8_t *raw; /* the whole file */
    uint64_t raw_bytes;
    struct segment_footer footer;
    struct index_builder *builder;
    struct digest *digest;
    struct frame_writer *frames; /* NULL: sealing */
    uint8_t *block;              /* the batches of the open block, without padding */
    uint64_t block_bytes;
    uint8_t *out; /* the file that is made; sealing: what is appended */
    uint64_t out_bytes;
    uint64_t out_room;
    uint64_t block_begin; /* in the file; of the block that is open */
    uint32_t crcs[4096];  /* of the frames */
    uint64_t frame_at[4096];
    uint64_t frame_bytes[4096];
    uint32_t frame_count;
};

static void read_raw(struct maker *maker, struct file_io *io, uint64_t id)
{
    char name[SEGMENT_NAME_BYTES];
    struct file file;
    segment_name(name, id);
    ASSERT(io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file) == 0);
    struct segment_header header;
    uint8_t block[STORE_BLOCK_BYTES];
    ASSERT(io->ops->read(io, file, block, sizeof block, 0) == (int64_t)sizeof block);
    ASSERT(segment_header_decode(&header, block, NULL) == 0);
    maker->raw_bytes = header.file_bytes;
    maker->raw = mem_alloc((size_t)header.file_bytes);
    ASSERT(io->ops->read(io, file, maker->raw, header.file_bytes, 0) == (int64_t)header.file_bytes);
    io->ops->close(io, file);
    maker->footer.segment_id = header.segment_id;
    maker->footer.salt = header.salt;
    maker->footer.node = header.node;
}

struct add_key {
    struct index_builder *builder;
};

static void on_key(void *to, enum index_field field, struct slice value)
{
    struct add_key *add = to;
    index_builder_add_key(add->builder, index_key(field, value));
}

static void tell_records(struct maker *maker, const struct batch_header *header,
                         const uint8_t *payload)
{
    struct segment_footer *footer = &maker->footer;
    uint64_t at = 0;
    for (uint32_t i = 0; i < header->record_count; i++) {
        struct record record;
        int64_t bytes = record_decode(
            &record, (struct slice){payload + at, (size_t)(header->payload_bytes - at)}, NULL);
        ASSERT(bytes > 0);
        at += (uint64_t)bytes;
        index_builder_add_record(maker->builder, &record);
        if (maker->options->keys != NULL) {
            struct add_key add = {maker->builder};
            maker->options->keys(maker->options->keys_context, &record, on_key, &add);
        }
        footer->payload_bytes += record.payload.bytes;
        footer->severities |= 1u << record.severity;
        bool is_first = footer->record_count == 0;
        footer->time_min_ns = is_first || record.event_time_ns < footer->time_min_ns
                                  ? record.event_time_ns
                                  : footer->time_min_ns;
        footer->time_max_ns = is_first || record.event_time_ns > footer->time_max_ns
                                  ? record.event_time_ns
                                  : footer->time_max_ns;
        footer->record_count++;
    }
}

static void tell_batch(struct maker *maker, const struct batch_header *header)
{
    struct segment_footer *footer = &maker->footer;
    if (footer->first_seq == 0) {
        footer->first_seq = header->batch_seq;
        footer->first_lsn = header->first_lsn;
        footer->first_previous_crc = header->previous_crc;
        footer->built_min_ns = footer->built_max_ns = header->built_at_ns;
    }
    footer->last_seq = header->batch_seq;
    footer->last_lsn = header->first_lsn + header->record_count - 1;
    footer->last_crc = header->header_crc;
    footer->keyed_lsn = header->keyed_lsn;
    footer->durable_lsn = u64_max(footer->durable_lsn, header->durable_lsn);
    footer->raw_bytes += BATCH_HEADER_BYTES + header->payload_bytes;
    footer->kinds |= header->kinds;
    footer->built_min_ns =
        header->built_at_ns < footer->built_min_ns ? header->built_at_ns : footer->built_min_ns;
    footer->built_max_ns =
        header->built_at_ns > footer->built_max_ns ? header->built_at_ns : footer->built_max_ns;
}

static void end_block(struct maker *maker, uint64_t end_offset)
{
    if (maker->block_bytes == 0) {
        return;
    }
    if (maker->frames != NULL) {
        ASSERT(maker->frame_count < ARRAY_COUNT(maker->crcs));
        ASSERT(maker->out_room - maker->out_bytes >= frame_bound(maker->block_bytes));
        uint8_t *to = maker->out + maker->out_bytes;
        int64_t bytes = frame_compress(
            maker->frames, to, (struct slice){maker->block, (size_t)maker->block_bytes}, NULL);
        ASSERT(bytes > 0);
        maker->crcs[maker->frame_count] = crc32c(0, to, (size_t)bytes);
        maker->frame_at[maker->frame_count] = maker->out_bytes;
        maker->frame_bytes[maker->frame_count] = (uint64_t)bytes;
        maker->frame_count++;
        maker->out_bytes += (uint64_t)bytes;
    }
    index_builder_end_block(maker->builder, end_offset);
    maker->block_bytes = 0;
}

static void tell_batches(struct maker *maker)
{
    uint64_t wanted =
        maker->options->block_bytes == 0 ? INDEX_BLOCK_BYTES : maker->options->block_bytes;
    uint64_t at = STORE_BLOCK_BYTES;
    while (at + BATCH_HEADER_BYTES <= maker->raw_bytes) {
        struct batch_header header;
        bool is_good =
            batch_header_decode(&header, maker->raw + at, NULL) == 0 &&
            header.salt == maker->footer.salt &&
            (maker->footer.last_seq == 0 || header.batch_seq == maker->footer.last_seq + 1);
        bool is_left = maker->options->seq_max != 0 && header.batch_seq > maker->options->seq_max;
        if (!is_good || is_left) {
            break;
        }
        uint64_t bytes = BATCH_HEADER_BYTES + header.payload_bytes;
        index_builder_add_batch(maker->builder, &header, at);
        tell_batch(maker, &header);
        tell_records(maker, &header, maker->raw + at + BATCH_HEADER_BYTES);
        digest_add(maker->digest, (struct slice){maker->raw + at, (size_t)bytes});
        memcpy(maker->block + maker->block_bytes, maker->raw + at, (size_t)bytes);
        maker->block_bytes += bytes;
        at += batch_file_bytes(header.payload_bytes);
        if (maker->block_bytes >= wanted) {
            end_block(maker, at);
        }
    }
    end_block(maker, at);
}

static void pad_to_block(struct maker *maker)
{
    maker->out_bytes = (maker->out_bytes + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES *
                       STORE_BLOCK_BYTES; /* out is zeroed */
}

/* Index and footer behind what is in out; base: where out lies in the file. */
static void make_end(struct maker *maker, uint64_t base)
{
    struct segment_footer *footer = &maker->footer;
    struct slice blob = index_builder_blob(maker->builder, &footer->entry_count);
    pad_to_block(maker);
    footer->index_offset = base + maker->out_bytes;
    footer->index_bytes = blob.bytes;
    uint8_t *to = maker->out + maker->out_bytes;
    memcpy(to, blob.data, blob.bytes);
    struct index index;
    ASSERT(index_open(&index, blob, footer->entry_count, NULL) == 0);
    for (uint32_t i = 0; i < footer->entry_count; i++) {
        struct index_entry entry;
        index_entry_get(&index, i, &entry);
        if (maker->frames != NULL) {
            ASSERT(maker->frame_count == footer->entry_count);
            entry.offset = maker->frame_at[i];
            entry.stored_bytes = maker->frame_bytes[i];
            entry.stored_crc = maker->crcs[i];
        }
        if (maker->options->on_entry != NULL) {
            maker->options->on_entry(i, &entry);
        }
        index_entry_put(to + (size_t)i * INDEX_ENTRY_BYTES, &entry);
    }
    footer->index_crc = crc32c(0, to, blob.bytes);
    maker->out_bytes += blob.bytes;
    pad_to_block(maker);
    digest_get(maker->digest, footer->content_digest);
    if (maker->options->on_footer != NULL) {
        maker->options->on_footer(footer);
    }
    segment_footer_encode(maker->out + maker->out_bytes, footer);
    maker->out_bytes += STORE_BLOCK_BYTES;
}

static void write_out(const struct maker *maker, struct file_io *io, const char *name,
                      uint64_t offset)
{
    struct file file;
    ASSERT(io->ops->open(io, name, FILE_OPEN_CREATE, &file) == 0);
    ASSERT(io->ops->write(io, file, maker->out, maker->out_bytes, offset, false) == 0);
    ASSERT(io->ops->sync(io, file) == 0);
    io->ops->close(io, file);
    ASSERT(io->ops->sync_dir(io, SEGMENT_DIR) == 0);
}

static void make(struct file_io *io, uint64_t id, const struct form_options *options,
                 enum segment_form form)
{
    static const struct form_options plain;
    struct maker *maker = mem_alloc(sizeof *maker);
    char name[SEGMENT_NAME_BYTES];
    maker->options = options == NULL ? &plain : options;
    read_raw(maker, io, id);
    maker->footer.form = form;
    maker->builder = index_builder_new();
    if (maker->options->keys == NULL) {
        index_builder_omit_filters(maker->builder);
    }
    maker->digest = digest_new();
    maker->block = mem_alloc((size_t)maker->raw_bytes);
    maker->out_room = 2 * maker->raw_bytes + MIB(1);
    maker->out = mem_alloc((size_t)maker->out_room);
    if (form == SEGMENT_FORM_COMPACTED) {
        struct segment_header header = {.segment_id = id,
                                        .salt = maker->footer.salt,
                                        .node = maker->footer.node,
                                        .file_bytes = maker->raw_bytes};
        compacted_header_encode(maker->out, &header);
        maker->out_bytes = STORE_BLOCK_BYTES;
        maker->frames = frame_writer_new(3);
        compacted_name(name, id);
    } else {
        segment_name(name, id);
    }
    tell_batches(maker);
    uint64_t base = form == SEGMENT_FORM_COMPACTED ? 0 : maker->raw_bytes;
    make_end(maker, base);
    write_out(maker, io, name, base);
    frame_writer_free(maker->frames);
    digest_free(maker->digest);
    index_builder_free(maker->builder);
    mem_free(maker->block);
    mem_free(maker->raw);
    mem_free(maker->out);
    mem_free(maker);
}

void form_fixture_seal(struct file_io *io, uint64_t id, const struct form_options *options)
{
    make(io, id, options, SEGMENT_FORM_RAW);
}

void form_fixture_compact(struct file_io *io, uint64_t id, const struct form_options *options)
{
    make(io, id, options, SEGMENT_FORM_COMPACTED);
}

void form_fixture_remove(struct file_io *io, const char *name)
{
    ASSERT(io->ops->unlink(io, name) == 0);
    ASSERT(io->ops->sync_dir(io, SEGMENT_DIR) == 0);
}

void form_fixture_replace(struct file_io *io, uint64_t id, const struct form_options *options)
{
    char name[SEGMENT_NAME_BYTES];
    form_fixture_compact(io, id, options);
    segment_name(name, id);
    form_fixture_remove(io, name);
}
