/*
 * archive_check: proves a compressed copy before it gets its name: everything is read back from the
 * disk, past the page cache, and must be what was to be written; the digest of the decompressed
 * batches must be the one that sealing found. The archive's thread; part of archive_compact.c's
 * work, one block a step.
 *
 * Failure: -EIO with a text; the copy is thrown away and made again later. That is no damage of the
 * log: the raw file is still there, and was sound when the copy was made.
 */
#include "store/archive_work.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/crc32c.h"

/* A wrong byte here is no damage of the log: the raw file is still there, and sound. */
int archive_bad_copy(struct err *err, const char *what)
{
    return err_set(err, -EIO, "the compressed copy reads back wrong: %s", what);
}

/* Bytes [offset, offset + bytes) of the temporary file, past the page cache; *at: where they
 * begin. */
static int read_back(struct archive *archive, uint64_t offset, uint64_t bytes, const uint8_t **at,
                     struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    uint64_t from = offset & ~(uint64_t)(STORE_BLOCK_BYTES - 1);
    uint64_t room = align_up(offset + bytes, STORE_BLOCK_BYTES) - from;
    int r = archive_buffer_fit(&compact->frame, room, err);
    if (r < 0) {
        return r;
    }
    int64_t got =
        archive->io->ops->read(archive->io, compact->out, compact->frame.data, room, from);
    if (got < 0) {
        return err_set(err, (int)got, "read back at %" PRIu64 ": %s", from, err_name((int)got));
    }
    *at = compact->frame.data + (offset - from);
    return (uint64_t)got == room ? 0 : archive_bad_copy(err, "it is too short");
}

int archive_check_block(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    struct index_entry entry;
    index_entry_get(&compact->index, compact->entry, &entry); /* the new ones: blob was replaced */
    const uint8_t *frame = NULL;
    int r = read_back(archive, entry.offset, entry.stored_bytes, &frame, err);
    r = r < 0 ? r : archive_buffer_fit(&compact->packed, entry.raw_bytes, err);
    if (r < 0) {
        return r;
    }
    if (crc32c(0, frame, entry.stored_bytes) != entry.stored_crc ||
        frame_decompress(compact->reader, compact->packed.data, entry.raw_bytes,
                         (struct slice){frame, entry.stored_bytes}, NULL) < 0) {
        return archive_bad_copy(err, "a frame");
    }
    digest_add(compact->digest, (struct slice){compact->packed.data, entry.raw_bytes});
    compact->entry++;
    return 0;
}

/* Header, index and footer as they came back. */
static int check_frame_of_file(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    const struct segment_footer *footer = &compact->footer;
    const uint8_t *at = NULL;
    int r = read_back(archive, 0, STORE_BLOCK_BYTES, &at, err);
    struct segment_header header;
    if (r == 0 && (compacted_header_decode(&header, at, NULL) < 0 ||
                   header.segment_id != footer->segment_id || header.salt != footer->salt)) {
        r = archive_bad_copy(err, "its header");
    }
    r = r < 0 ? r : read_back(archive, footer->index_offset, footer->index_bytes, &at, err);
    ASSERT(r < 0 || at != NULL);
    if (r == 0 && crc32c(0, at, footer->index_bytes) != footer->index_crc) {
        r = archive_bad_copy(err, "its index");
    }
    uint64_t footer_at = compact->out_bytes - STORE_BLOCK_BYTES;
    r = r < 0 ? r : read_back(archive, footer_at, STORE_BLOCK_BYTES, &at, err);
    segment_footer_encode(archive->block, footer);
    if (r == 0 && memcmp(at, archive->block, STORE_BLOCK_BYTES) != 0) {
        r = archive_bad_copy(err, "its footer");
    }
    return r;
}

int archive_check_whole(struct archive *archive, struct err *err)
{
    struct archive_compact *compact = &archive->compact;
    uint8_t digest[DIGEST_BYTES];
    digest_get(compact->digest, digest);
    if (memcmp(digest, compact->footer.content_digest, sizeof digest) != 0) {
        return archive_bad_copy(err, "its digest");
    }
    int r = check_frame_of_file(archive, err);
    return r;
}
