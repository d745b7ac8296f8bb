/*
 * scan_block: see scan_block.h.
 */
#include "store/scan_block.h"

#include <inttypes.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/mem.h"

#define CANDIDATES_FIRST 1024u

/* Where the next literal and the next escape that could spell it lie. Found lazily and only ever
 * forward, so that both together cost at most one pass each, however the records ask. */
struct finder {
    struct slice hay;
    struct slice literal;
    struct slice escape; /* how it begins */
    size_t literal_at;   /* of the first at or behind what was asked last; hay.bytes: none */
    size_t escape_at;    /* likewise */
    bool is_begun;
};

/* Does JSON have a backslash and one letter for this byte? Of every other one, non-ASCII too, all
 * escapes begin with \u. */
static bool has_short_escape(uint8_t c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == '/';
}

/* What every escape begins with that could stand for a part of the literal. */
static struct slice escape_of(struct slice literal)
{
    static const struct slice any = {(const uint8_t *)"\\", 1};
    static const struct slice by_number = {(const uint8_t *)"\\u", 2};
    for (size_t i = 0; i < literal.bytes; i++) {
        if (has_short_escape(literal.data[i])) {
            return any;
        }
    }
    return by_number;
}

static void finder_open(struct finder *finder, struct slice hay, struct slice literal)
{
    *finder = (struct finder){.hay = hay, .literal = literal, .escape = escape_of(literal)};
}

static void finder_advance(struct finder *finder, size_t from)
{
    if (!finder->is_begun || finder->literal_at < from) {
        finder->literal_at = scan_find(finder->hay, from, finder->literal);
    }
    if (!finder->is_begun || finder->escape_at < from) {
        finder->escape_at = scan_find(finder->hay, from, finder->escape);
    }
    finder->is_begun = true;
}

/* Can the literal be spelt within [from, from + bytes)? Asked with growing from. */
static bool finder_may_have(struct finder *finder, size_t from, size_t bytes)
{
    if (finder->literal.bytes == 0) {
        return true;
    }
    finder_advance(finder, from);
    size_t end = from + bytes;
    bool is_spelt = finder->literal_at < end && finder->literal.bytes <= end - finder->literal_at;
    return is_spelt || finder->escape_at < end;
}

bool scan_filter_may_match(const struct scan_filter *filter, const struct scan_summary *summary)
{
    if (filter->kinds != 0 && (filter->kinds & summary->kinds) == 0) {
        return false;
    }
    if (filter->severities != 0 && (filter->severities & summary->severities) == 0) {
        return false;
    }
    return summary->time_min_ns <= filter->time_max_ns &&
           summary->time_max_ns >= filter->time_min_ns;
}

void scan_block_init(struct scan_block *block)
{
    memset(block, 0, sizeof *block);
}

void scan_block_free(struct scan_block *block)
{
    mem_free(block->candidates);
    memset(block, 0, sizeof *block);
}

/* Grows to what the fullest block needs and stays there: a block of records without a payload has
 * one in every RECORD_HEADER_BYTES. */
static void candidates_grow(struct scan_block *block)
{
    size_t room = block->room == 0 ? CANDIDATES_FIRST : block->room * 2;
    mem_unlatch_begin(); /* rare: a doubling, and kept for the scan's life */
    struct scan_candidate *more = mem_alloc_array(room, sizeof *more);
    mem_unlatch_end();
    if (block->count != 0) {
        memcpy(more, block->candidates, block->count * sizeof *more);
    }
    mem_free(block->candidates);
    block->candidates = more;
    block->room = room;
}

static void candidate_put(struct scan_block *block, uint64_t lsn, int64_t built_at_ns,
                          uint64_t offset)
{
    if (UNLIKELY(block->count == block->room)) {
        candidates_grow(block);
    }
    block->candidates[block->count++] =
        (struct scan_candidate){.lsn = lsn, .built_at_ns = built_at_ns, .offset = offset};
}

/* A batch of the block, bounds checked. */
struct batch_view {
    struct batch_header header;
    size_t payload_at; /* in the block */
    size_t payload_end;
};

/* 1: the batch at *at, and *at behind it; 0: the block ends; ERR_CORRUPT. */
static int batch_next(const struct block *block, size_t *at, struct batch_view *batch,
                      struct err *err)
{
    size_t left = block->batches.bytes - *at;
    if (left == 0) {
        return 0;
    }
    if (left < BATCH_HEADER_BYTES) {
        return err_set(err, ERR_CORRUPT, "%zu bytes left, a batch header needs %u", left,
                       BATCH_HEADER_BYTES);
    }
    int result = batch_header_decode(&batch->header, block->batches.data + *at, err);
    if (result < 0) {
        return ERR_CORRUPT; /* a newer version as well: nothing behind it can be told apart */
    }
    if (block->salt != 0 && batch->header.salt != block->salt) {
        return err_set(err, ERR_CORRUPT, "batch of another use of the file");
    }
    uint64_t bytes = BATCH_HEADER_BYTES + (uint64_t)batch->header.payload_bytes;
    if (bytes > left) {
        return err_set(err, ERR_CORRUPT, "batch of %" PRIu64 " bytes where %zu are left", bytes,
                       left);
    }
    batch->payload_at = *at + BATCH_HEADER_BYTES;
    batch->payload_end = *at + (size_t)bytes;
    *at += (size_t)u64_min(align_up(bytes, block->batch_align), left);
    return 1;
}

/* Behind a bad header: where the next batch of a raw block may begin, told by the salt from bytes
 * that a client made look like one. False: nothing can be told behind it. */
static bool batch_resume(const struct block *block, size_t *at)
{
    uint64_t next = align_up(*at + 1, block->batch_align);
    if (block->salt == 0 || block->batch_align != STORE_BLOCK_BYTES ||
        next >= block->batches.bytes) {
        return false;
    }
    *at = (size_t)next;
    return true;
}

bool scan_block_extent(const struct block *block, uint64_t *first, uint64_t *end)
{
    struct batch_view batch;
    struct err err;
    size_t at = 0;
    bool has_one = false;
    while (batch_next(block, &at, &batch, &err) == 1) { /* as many as the block has batches */
        if (!has_one) {
            *first = batch.header.first_lsn;
        }
        has_one = true;
        *end = batch.header.first_lsn + batch.header.record_count;
    }
    return has_one;
}

static bool record_passes(const struct scan_filter *filter, const struct record *record)
{
    struct scan_summary summary = {
        .kinds = 1u << (unsigned)record->kind, /* at most RECORD_KIND_MAX: record_decode */
        .severities = record->severity < 32 ? 1u << record->severity : 0,
        .time_min_ns = record->event_time_ns,
        .time_max_ns = record->event_time_ns,
    };
    return scan_filter_may_match(filter, &summary);
}

/* Collects from the records of a batch: 0, or ERR_CORRUPT and nothing of it was collected. */
static int batch_collect(struct scan_block *block, const struct scan_filter *filter,
                         const struct scan_range *range, const struct batch_view *batch,
                         struct finder *finder)
{
    size_t count_before = block->count;
    uint64_t lsn = batch->header.first_lsn;
    size_t at = batch->payload_at;
    while (at < batch->payload_end && lsn <= range->high) { /* each round takes a record */
        struct record record;
        struct slice rest = {block->block.batches.data + at, batch->payload_end - at};
        int64_t bytes = record_decode(&record, rest, &block->reason);
        if (UNLIKELY(bytes < 0)) {
            block->count = count_before;
            return ERR_CORRUPT;
        }
        if (lsn >= range->low && record_passes(filter, &record)) {
            size_t payload_at = (size_t)(record.payload.data - block->block.batches.data);
            if (finder_may_have(finder, payload_at, record.payload.bytes)) {
                candidate_put(block, lsn, batch->header.built_at_ns, at);
            }
        }
        at += (size_t)bytes;
        lsn++;
    }
    bool is_whole =
        at < batch->payload_end || lsn == batch->header.first_lsn + batch->header.record_count;
    if (UNLIKELY(!is_whole)) {
        block->count = count_before;
        return err_set(&block->reason, ERR_CORRUPT,
                       "batch: records do not count as its header says");
    }
    return 0;
}

/* Looks into a batch: 0, or ERR_CORRUPT with block->reason. */
static int batch_look(struct scan_block *block, const struct scan_filter *filter,
                      const struct scan_range *range, const struct batch_view *batch,
                      struct finder *finder)
{
    const struct batch_header *header = &batch->header;
    struct scan_summary summary = {.kinds = header->kinds,
                                   .severities = UINT32_MAX,
                                   .time_min_ns = header->time_min_ns,
                                   .time_max_ns = header->time_max_ns};
    if (!scan_filter_may_match(filter, &summary)) {
        return 0;
    }
    size_t bytes = batch->payload_end - batch->payload_at;
    const uint8_t *payload = block->block.batches.data + batch->payload_at;
    block->looked_bytes += BATCH_HEADER_BYTES + bytes;
    if (!block->is_trusted && crc32c(0, payload, bytes) != header->payload_crc) {
        return err_set(&block->reason, ERR_CORRUPT, "batch payload: checksum does not match");
    }
    if (!finder_may_have(finder, batch->payload_at, bytes)) {
        return 0;
    }
    return batch_collect(block, filter, range, batch, finder);
}

/* Is the batch of no concern: a mark, or all of it before low? */
static bool batch_is_before(const struct batch_header *header, uint64_t low)
{
    return header->record_count == 0 || header->first_lsn + header->record_count <= low;
}

/* Ends the run where a batch does not continue it. True: the collect is over. */
static bool run_breaks(struct scan_block *block, const struct scan_range *range)
{
    if (!range->is_descending) {
        return block->run_end != 0; /* the next collect begins behind it */
    }
    block->count = 0; /* what is nearer to high comes first */
    block->run_first = 0;
    block->run_end = 0;
    return false;
}

static void run_extend(struct scan_block *block, const struct scan_range *range,
                       const struct batch_header *header)
{
    if (block->run_end == 0) {
        block->run_first = u64_max(header->first_lsn, range->low);
    }
    block->run_end = header->first_lsn + header->record_count;
    if (block->run_end > range->high) {
        block->run_end = range->high + 1; /* high is below an LSN that exists: no overflow */
    }
}

void scan_block_collect(struct scan_block *block, const struct scan_filter *filter,
                        const struct scan_range *range)
{
    struct finder finder;
    struct batch_view batch = {0};
    size_t at = 0;
    finder_open(&finder, block->block.batches, filter->literal);
    block->count = 0;
    block->run_first = 0;
    block->run_end = 0;
    block->looked_bytes = 0;
    block->reason.code = 0;
    for (;;) { /* each round takes a batch of the block, or some of its bytes, or ends */
        int result = batch_next(&block->block, &at, &batch, &block->reason);
        if (result < 0 && batch_resume(&block->block, &at)) {
            continue;
        }
        if (result != 1) {
            return;
        }
        const struct batch_header *header = &batch.header;
        if (header->first_lsn > range->high) {
            return;
        }
        if (batch_is_before(header, range->low)) {
            continue;
        }
        bool is_next = block->run_end == 0 || header->first_lsn == block->run_end;
        if (!is_next && run_breaks(block, range)) {
            return;
        }
        if (batch_look(block, filter, range, &batch, &finder) < 0) {
            continue; /* as if it were not there: the batch behind it breaks the run */
        }
        run_extend(block, range, header);
    }
}

void scan_block_record(const struct scan_block *block, size_t i, struct scan_record *record)
{
    ASSERT(i < block->count);
    const struct scan_candidate *candidate = &block->candidates[i];
    struct slice rest = {block->block.batches.data + candidate->offset,
                         block->block.batches.bytes - candidate->offset};
    int64_t bytes = record_decode(&record->record, rest, NULL);
    ASSERT(bytes > 0); /* collect has decoded the same bytes */
    record->lsn = candidate->lsn;
    record->built_at_ns = candidate->built_at_ns;
}
