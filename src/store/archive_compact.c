/*
 * archive_compact: rewrites a sealed segment compressed; see sealed.h for the bytes. The archive's
 * thread.
 *
 * Happy path: block after block is read from the raw file past the page cache, its batches are
 * checked and packed (padding gone), compressed and written to log/ID.slt; then index and footer;
 * sync; block after block is read back from the disk, decompressed and digested; only when the
 * digest is the one that sealing found is the file renamed to log/ID.slc, the directory synced, the
 * view changed; then the raw file is unlinked and the directory synced again.
 *
 * Failure: the temporary file is removed (or goes at the next start) and the segment stays raw. A
 * block that is not what was sealed is damage: that is noted in the raw footer, and the segment is
 * never tried again. Pace: while records come in, each block is paid for with its bytes'
 * time (archive_pay) before the next one is read.
 */
#include "store/archive_work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/logline.h"
#include "core/mem.h"

/* ---- life of the work ---- */

static void compact_close_files(struct archive *archive)
{
    struct archive_compact *compact = &archive->compact;
    if (compact->has_raw) {
        archive->io->ops->close(archive->io, compact->raw);
    }
    if (compact->has_out) {
        archive->io->ops->close(archive->io, compact->out);
    }
    compact->has_raw = false;
    compact->has_out = false;
}

static void compact_end(struct archive *archive)
{
    struct archive_compact *compact = &archive->compact;
    compact_close_files(archive);
    if (compact->from != NULL) {
        view_segment_give(compact->from);
    }
    mem_free(compact->entries);
    compact->from = NULL;
    compact->entries = NULL;
    compact->phase = COMPACT_NONE;
    compact->id = 0;
}

void archive_compact_drop(struct archive *archive, uint64_t id)
{
    struct archive_compact *compact = &archive->compact;
    if (compact->phase == COMPACT_NONE || (id != 0 && compact->id != id)) {
        return;
    }
    char name[SEGMENT_NAME_BYTES];
    compacted_temporary_name(name, compact->id);
    compact_end(archive);
    (void)archive->io->ops->unlink(archive->io, name); /* what stays goes at the next start */
}

void archive_compact_close(struct archive *archive)
{
    struct archive_compact *compact = &archive->compact;
    compact_end(archive);
    archive_buffer_free(&compact->stored);
    archive_buffer_free(&compact->packed);
    archive_buffer_free(&compact->frame);
    archive_buffer_free(&compact->blob);
    if (compact->writer != NULL) {
        digest_free(compact->digest);
        frame_writer_free(compact->writer);
        frame_reader_free(compact->reader);
    }
}

/* ---- damage ---- */

/* Written over the footer's own block: torn, the file counts as not sealed and is sealed again. */
static int footer_mark_damaged(struct archive *archive, const struct view_segment *view,
                               struct err *err)
{
    struct file_io *io = archive->io;
    struct segment_footer footer = view->footer;
    footer.flags |= SEALED_DAMAGED;
    char name[SEGMENT_NAME_BYTES];
    struct file file;
    segment_name(name, view->id);
    int r = io->ops->open(io, name, 0, &file);
    if (r < 0) {
        return err_set(err, r, "open %s: %s", name, err_name(r));
    }
    segment_footer_encode(archive->block, &footer);
    r = io->ops->write(io, file, archive->block, STORE_BLOCK_BYTES,
                       view->stored_bytes - STORE_BLOCK_BYTES, false);
    r = r < 0 ? r : io->ops->sync(io, file);
    io->ops->close(io, file);
    return r < 0 ? err_set(err, r, "note the damage in %s: %s", name, err_name(r)) : 0;
}

static void compact_keep_raw(struct archive *archive, const struct err *why)
{
    uint64_t id = archive->compact.id;
    struct archive_segment *segment = archive_find(archive, id);
    ASSERT(segment != NULL);
    archive_compact_drop(archive, 0);
    archive_stat_add(&archive->status->damaged_segments, 1);
    LOG(LOGLINE_ERROR, "segment_damaged",
        "segment %" PRIu64 " is damaged and kept as it is until it expires: %s", id, why->text);
    struct err err = {0};
    struct view_segment *view = NULL;
    int r = footer_mark_damaged(archive, segment->view, &err);
    r = r < 0 ? r : view_segment_open(&view, archive->io, id, VIEW_SEALED, &err);
    if (r == 0) {
        archive_replace(archive, segment, view);
    } else {
        LOG(LOGLINE_WARNING, "archive_failed", "segment %" PRIu64 ": %s", id, err.text);
    }
    segment->is_kept_raw = true; /* in any case until the next start */
}

static bool compact_failed(struct archive *archive, uint64_t now_ns, int code,
                           const struct err *err)
{
    if (code == ERR_CORRUPT) {
        compact_keep_raw(archive, err);
        return true;
    }
    char what[64];
    (void)snprintf(what, sizeof what, "compact segment %" PRIu64, archive->compact.id);
    archive->compact.retry_at_ns = archive_failed(archive, now_ns, what, err);
    archive_compact_drop(archive, 0);
    return true;
}

/* ---- beginning ---- */

static struct archive_segment *compact_candidate(struct archive *archive)
{
    for (size_t i = 0; i < archive->count; i++) {
        struct archive_segment *segment = &archive->segments[i];
        if (segment->view != NULL && segment->view->state == VIEW_SEALED && !segment->is_kept_raw) {
            return segment;
        }
    }
    return NULL;
}

static int read_index(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    const struct segment_footer *footer = &compact->footer;
    struct file_io *io = archive->io;
    int r = archive_buffer_fit(&compact->blob, footer->index_bytes, err);
    if (r < 0) {
        return r;
    }
    compact->blob_bytes = footer->index_bytes;
    int64_t got = io->ops->read(io, compact->from->file, compact->blob.data, footer->index_bytes,
                                footer->index_offset);
    if (got < 0) {
        return err_set(err, (int)got, "read its index: %s", err_name((int)got));
    }
    if ((uint64_t)got != footer->index_bytes ||
        crc32c(0, compact->blob.data, footer->index_bytes) != footer->index_crc) {
        return err_set(err, ERR_CORRUPT, "the index's checksum does not match");
    }
    return index_open(&compact->index, (struct slice){compact->blob.data, footer->index_bytes},
                      footer->entry_count, err);
}

static int open_files(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct file_io *io = archive->io;
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, compact->id);
    int r = io->ops->open(io, name, FILE_OPEN_READ_ONLY | FILE_OPEN_DIRECT, &compact->raw);
    if (r < 0) {
        return err_set(err, r, "open %s: %s", name, err_name(r));
    }
    compact->has_raw = true;
    compacted_temporary_name(name, compact->id);
    r = io->ops->open(io, name, FILE_OPEN_CREATE, &compact->out);
    if (r < 0) {
        return err_set(err, r, "create %s: %s", name, err_name(r));
    }
    compact->has_out = true;
    /* What an earlier attempt could not remove. */
    r = io->ops->truncate(io, compact->out, 0);
    compacted_header_encode(archive->block, &compact->from->header);
    r = r < 0 ? r : io->ops->write(io, compact->out, archive->block, STORE_BLOCK_BYTES, 0, false);
    return r < 0 ? err_set(err, r, "write %s: %s", name, err_name(r)) : 0;
}

static int compact_begin(struct archive *archive, struct archive_segment *segment, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    if (compact->writer == NULL) {
        compact->digest = digest_new();
        compact->writer = frame_writer_new(archive->options.zstd_level);
        compact->reader = frame_reader_new();
    }
    compact->phase = COMPACT_WRITE;
    compact->id = segment->id;
    compact->from = segment->view;
    /* relaxed: this thread holds a reference already. */
    (void)atomic_fetch_add_explicit(&compact->from->references, 1, memory_order_relaxed);
    compact->footer = segment->view->footer;
    compact->entry = 0;
    compact->at = STORE_BLOCK_BYTES;
    digest_reset(compact->digest);
    int r = read_index(archive, err);
    if (r < 0) {
        return r;
    }
    uint64_t bytes = (uint64_t)compact->footer.entry_count * INDEX_ENTRY_BYTES;
    compact->entries = mem_alloc((size_t)u64_max(bytes, 1));
    return open_files(archive, err);
}

/* ---- writing ---- */

/* Takes the padding out of a raw block: every batch checked, one behind the other. */
static int pack_block(struct archive *archive, const struct index_entry *entry, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    const struct segment_header *segment = &compact->from->header;
    uint64_t packed = 0;
    uint32_t batches = 0;
    for (uint64_t at = 0; at < entry->stored_bytes; batches++) { /* each takes at least a block */
        struct batch_header header;
        const uint8_t *from = compact->stored.data + at;
        int r = batch_header_decode(&header, from, err);
        if (r < 0) {
            return err_wrap(err, ERR_CORRUPT, "batch at %" PRIu64, entry->offset + at);
        }
        uint64_t file_bytes = batch_file_bytes(header.payload_bytes);
        uint64_t bytes = BATCH_HEADER_BYTES + header.payload_bytes;
        if (header.segment_id != segment->segment_id || header.salt != segment->salt ||
            file_bytes > entry->stored_bytes - at || bytes > entry->raw_bytes - packed ||
            crc32c(0, from + BATCH_HEADER_BYTES, header.payload_bytes) != header.payload_crc) {
            return err_set(err, ERR_CORRUPT, "batch at %" PRIu64 ": not what was sealed",
                           entry->offset + at);
        }
        memcpy(compact->packed.data + packed, from, bytes);
        packed += bytes;
        at += file_bytes;
    }
    if (packed != entry->raw_bytes || batches != entry->batch_count) {
        return err_set(err, ERR_CORRUPT, "block at %" PRIu64 ": not what was sealed",
                       entry->offset);
    }
    return 0;
}

static int read_block(struct archive *archive, const struct index_entry *entry, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct file_io *io = archive->io;
    if (entry->offset % STORE_BLOCK_BYTES != 0 || entry->stored_bytes % STORE_BLOCK_BYTES != 0 ||
        entry->offset + entry->stored_bytes > compact->footer.index_offset ||
        entry->raw_bytes > entry->stored_bytes) {
        return err_set(err, ERR_CORRUPT, "index: a block outside the batches");
    }
    int r = archive_buffer_fit(&compact->stored, entry->stored_bytes, err);
    r = r < 0 ? r : archive_buffer_fit(&compact->packed, entry->raw_bytes, err);
    r = r < 0 ? r : archive_buffer_fit(&compact->frame, frame_bound(entry->raw_bytes), err);
    if (r < 0) {
        return r;
    }
    int64_t got =
        io->ops->read(io, compact->raw, compact->stored.data, entry->stored_bytes, entry->offset);
    if (got < 0) {
        return err_set(err, (int)got, "read at %" PRIu64 ": %s", entry->offset, err_name((int)got));
    }
    archive_stat_add(&archive->status->compact_read_bytes, (uint64_t)got);
    if ((uint64_t)got != entry->stored_bytes) {
        return err_set(err, ERR_CORRUPT, "the file ends at %" PRIu64,
                       entry->offset + (uint64_t)got);
    }
    return pack_block(archive, entry, err);
}

static int compact_write_block(struct archive *archive, uint64_t now_ns, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct index_entry entry;
    index_entry_get(&compact->index, compact->entry, &entry);
    int r = read_block(archive, &entry, err);
    if (r < 0) {
        return r;
    }
    struct slice packed = {compact->packed.data, entry.raw_bytes};
    digest_add(compact->digest, packed);
    int64_t bytes = frame_compress(compact->writer, compact->frame.data, packed, err);
    if (bytes < 0) {
        return (int)bytes;
    }
    r = archive->io->ops->write(archive->io, compact->out, compact->frame.data, (uint64_t)bytes,
                                compact->at, false);
    if (r < 0) {
        return err_set(err, r, "write at %" PRIu64 ": %s", compact->at, err_name(r));
    }
    archive_pay(archive, now_ns, entry.stored_bytes);
    entry.offset = compact->at;
    entry.stored_bytes = (uint64_t)bytes;
    entry.stored_crc = crc32c(0, compact->frame.data, (uint64_t)bytes);
    index_entry_put(compact->entries + (size_t)compact->entry * INDEX_ENTRY_BYTES, &entry);
    compact->at += (uint64_t)bytes;
    compact->entry++;
    return 0;
}

/* Zeroes up to the next block, so that no byte of the file is ever undecided. */
static int write_padding(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    uint64_t bytes = align_up(compact->at, STORE_BLOCK_BYTES) - compact->at;
    if (bytes == 0) {
        return 0;
    }
    memset(archive->block, 0, STORE_BLOCK_BYTES);
    int r = archive->io->ops->write(archive->io, compact->out, archive->block, bytes, compact->at,
                                    false);
    compact->at += bytes;
    return r < 0 ? err_set(err, r, "write its padding: %s", err_name(r)) : 0;
}

static int write_index(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct segment_footer *footer = &compact->footer;
    /* The filters stay as they are; only the places of the blocks are others. */
    memcpy(compact->blob.data, compact->entries, (size_t)footer->entry_count * INDEX_ENTRY_BYTES);
    footer->form = SEGMENT_FORM_COMPACTED;
    footer->index_offset = compact->at;
    footer->index_crc = crc32c(0, compact->blob.data, compact->blob_bytes);
    int r = 0;
    if (compact->blob_bytes != 0) {
        r = archive->io->ops->write(archive->io, compact->out, compact->blob.data,
                                    compact->blob_bytes, compact->at, false);
    }
    compact->at += compact->blob_bytes;
    return r < 0 ? err_set(err, r, "write its index: %s", err_name(r))
                 : write_padding(archive, err);
}

static int reopen_for_check(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    char name[SEGMENT_NAME_BYTES];
    compact_close_files(archive);
    compacted_temporary_name(name, compact->id);
    int r = archive->io->ops->open(archive->io, name, FILE_OPEN_READ_ONLY | FILE_OPEN_DIRECT,
                                   &compact->out);
    compact->has_out = r >= 0;
    return r < 0 ? err_set(err, r, "open %s: %s", name, err_name(r)) : 0;
}

/* The last block of all is in: digest, index, footer, sync. */
static int compact_complete(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct file_io *io = archive->io;
    uint8_t digest[DIGEST_BYTES];
    digest_get(compact->digest, digest);
    if (memcmp(digest, compact->footer.content_digest, sizeof digest) != 0) {
        return err_set(err, ERR_CORRUPT, "its batches are not those that were sealed");
    }
    int r = write_padding(archive, err);
    r = r < 0 ? r : write_index(archive, err);
    if (r < 0) {
        return r;
    }
    segment_footer_encode(archive->block, &compact->footer);
    r = io->ops->write(io, compact->out, archive->block, STORE_BLOCK_BYTES, compact->at, false);
    r = r < 0 ? r : io->ops->sync(io, compact->out);
    if (r < 0) {
        return err_set(err, r, "write and sync its end: %s", err_name(r));
    }
    compact->out_bytes = compact->at + STORE_BLOCK_BYTES;
    compact->phase = COMPACT_CHECK;
    compact->entry = 0;
    digest_reset(compact->digest);
    return reopen_for_check(archive, err);
}

/* ---- naming ---- */

static int compact_prove(struct archive *archive, struct err *err)
{
    int r = archive_check_whole(archive, err);
    if (r == 0) {
        archive->compact.phase = COMPACT_NAME;
        compact_close_files(archive);
    }
    return r;
}

static int publish_name(struct archive *archive, struct err *err)
{
    struct file_io *io = archive->io;
    char temporary[SEGMENT_NAME_BYTES];
    char name[SEGMENT_NAME_BYTES];
    compacted_temporary_name(temporary, archive->compact.id);
    compacted_name(name, archive->compact.id);
    int r = io->ops->rename(io, temporary, name);
    if (r < 0) {
        return err_set(err, r, "rename: %s", err_name(r));
    }
    r = io->ops->sync_dir(io, SEGMENT_DIR);
    if (r < 0) {
        (void)io->ops->unlink(io, name); /* the raw file is the segment, as before */
        return err_set(err, r, "sync the directory: %s", err_name(r));
    }
    return 0;
}

static int compact_name(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    int r = publish_name(archive, err);
    struct view_segment *view = NULL;
    r = r < 0 ? r : view_segment_open(&view, archive->io, compact->id, VIEW_COMPACTED, err);
    if (r < 0) {
        return r == ERR_CORRUPT ? archive_bad_copy(err, "as a segment") : r;
    }
    struct archive_segment *segment = archive_find(archive, compact->id);
    ASSERT(segment != NULL);
    /* Both files are there until archive_twins_step. */
    segment->has_twin = true;
    segment->twin_bytes = segment->bytes;
    segment->bytes = 0;
    archive_replace(archive, segment, view);
    archive_stat_add(&archive->status->compacted, 1);
    archive_stat_add(&archive->status->compact_written_bytes, view->stored_bytes);
    compact_end(archive);
    return 0;
}

/* ---- steps ---- */

static int compact_continue(struct archive *archive, uint64_t now_ns, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    bool is_last = compact->entry == compact->footer.entry_count;
    switch (compact->phase) {
    case COMPACT_WRITE:
        return is_last ? compact_complete(archive, err) : compact_write_block(archive, now_ns, err);
    case COMPACT_CHECK:
        return is_last ? compact_prove(archive, err) : archive_check_block(archive, err);
    case COMPACT_NAME:
        return compact_name(archive, err);
    case COMPACT_NONE:
        break;
    }
    ASSERT(false);
    return 0;
}

bool archive_compact_step(struct archive *archive, uint64_t now_ns)
{
    struct archive_compact *compact = &archive->compact;
    struct err err = {0};
    if (!archive->options.compacts) {
        return false;
    }
    int r = 0;
    if (compact->phase == COMPACT_NONE) {
        struct archive_segment *segment =
            now_ns < compact->retry_at_ns ? NULL : compact_candidate(archive);
        if (segment == NULL) {
            return false;
        }
        r = compact_begin(archive, segment, &err);
    } else {
        r = compact_continue(archive, now_ns, &err);
    }
    return r < 0 ? compact_failed(archive, now_ns, r, &err) : true;
}
