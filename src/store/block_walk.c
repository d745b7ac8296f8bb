/*
 * block_walk: cuts a block into batches and those into records; see log_view.h. Pure. Believes
 * nothing: every header, every payload checksum (once for each batch) and every record's framing is
 * checked on the way.
 *
 * After damage the next call goes on where that is possible: behind a batch whose header holds; in
 * a raw block also at the next place where a batch of this segment begins (its salt is what tells it
 * from bytes that a client sent). In a frame a bad header ends the block, because nothing else says
 * where the next batch begins.
 */
#include "store/log_view.h"

#include <inttypes.h>

#include "core/crc32c.h"

static int walk_header(const struct block_walk *walk, uint64_t at, struct batch_header *header,
                       struct err *err)
{
    struct slice bytes = walk->block.batches;
    if (bytes.bytes - at < BATCH_HEADER_BYTES) {
        return err_set(err, ERR_CORRUPT, "batch: %" PRIu64 " bytes left, a header needs %u",
                       bytes.bytes - at, BATCH_HEADER_BYTES);
    }
    if (batch_header_decode(header, bytes.data + at, err) < 0) {
        return ERR_CORRUPT; /* a newer version inside a file of ours is damage, too */
    }
    if (walk->block.salt != 0 && header->salt != walk->block.salt) {
        return err_set(err, ERR_CORRUPT, "batch: of another use of the file");
    }
    if (header->payload_bytes > bytes.bytes - at - BATCH_HEADER_BYTES) {
        return err_set(err, ERR_CORRUPT, "batch: longer than its block");
    }
    if (header->first_lsn < walk->lsn_next) {
        return err_set(err, ERR_CORRUPT, "batch: LSN %" PRIu64 " after %" PRIu64, header->first_lsn,
                       walk->lsn_next - 1);
    }
    return 0;
}

/* The header at `at` is damaged: stands where the next batch begins, or at the block's end. */
static void walk_skip(struct block_walk *walk, uint64_t at)
{
    uint64_t align = walk->block.batch_align;
    walk->record_at = 0;
    walk->batch_end = walk->block.batches.bytes;
    if (align != STORE_BLOCK_BYTES || walk->block.salt == 0) {
        return;
    }
    for (at += align; at < walk->block.batches.bytes; at += align) {
        struct batch_header header;
        if (walk_header(walk, at, &header, NULL) == 0) {
            walk->batch_end = at;
            return;
        }
    }
}

/* 0: stands in the batch at `at`; ERR_CORRUPT. */
static int walk_enter(struct block_walk *walk, uint64_t at, struct err *err)
{
    struct batch_header header = {0};
    int result = walk_header(walk, at, &header, err);
    if (result < 0) {
        walk_skip(walk, at);
        return result;
    }
    uint64_t payload_at = at + BATCH_HEADER_BYTES;
    walk->header = header;
    walk->batch_at = at;
    walk->batch_end = payload_at + header.payload_bytes;
    walk->lsn_next = header.first_lsn + header.record_count;
    walk->record_at = 0;
    if (crc32c(0, walk->block.batches.data + payload_at, header.payload_bytes) !=
        header.payload_crc) {
        return err_set(err, ERR_CORRUPT,
                       "batch of LSN %" PRIu64 ": payload checksum does not match",
                       header.first_lsn);
    }
    walk->lsn_next = header.first_lsn;
    walk->record_at = header.payload_bytes == 0 ? 0 : payload_at;
    return 0;
}

/* The record at record_at, which is not 0. */
static int walk_cut(struct block_walk *walk, struct record *record, uint64_t *lsn, struct err *err)
{
    struct slice rest = {walk->block.batches.data + walk->record_at,
                         (size_t)(walk->batch_end - walk->record_at)};
    uint64_t lsn_end = walk->header.first_lsn + walk->header.record_count;
    int64_t bytes = record_decode(record, rest, err);
    if (bytes >= 0 && (walk->lsn_next + 1 == lsn_end) != ((uint64_t)bytes == rest.bytes)) {
        bytes = err_set(err, ERR_CORRUPT,
                        "batch of LSN %" PRIu64 ": its records are not those the header names",
                        walk->header.first_lsn);
    }
    if (bytes < 0) {
        walk->record_at = 0;
        walk->lsn_next = lsn_end;
        return (int)bytes;
    }
    *lsn = walk->lsn_next++;
    walk->record_at = (uint64_t)bytes == rest.bytes ? 0 : walk->record_at + (uint64_t)bytes;
    return 1;
}

int block_walk_next(struct block_walk *walk, struct record *record, uint64_t *lsn, struct err *err)
{
    ASSERT(is_power_of_two(walk->block.batch_align));
    /* Each round steps over a batch without records, of which a block has finitely many. */
    while (walk->record_at == 0) {
        uint64_t at = align_up(walk->batch_end, walk->block.batch_align);
        if (at >= walk->block.batches.bytes) {
            return 0;
        }
        int result = walk_enter(walk, at, err);
        if (result < 0) {
            return result;
        }
    }
    return walk_cut(walk, record, lsn, err);
}
