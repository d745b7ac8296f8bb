/*
 * scan: see scan.h. This file holds the position and decides where to look next: in the block
 * loaded last, in memory (recent.h), on disk (scan_disk.h). What a block has to offer is
 * scan_block's business.
 *
 * Happy path: ascending from lsn_min, block by block, the last ones from memory; SCAN_END behind
 * what is durable, and on from there when called again. Descending from the smaller of lsn_max and
 * what was durable at the first step, down to lsn_min or to where the log begins.
 * Failure: LSNs that nobody can show any more are told once (ERR_CORRUPT) and the position moves
 * behind them, except those before the beginning of the log: they have expired.
 * Between steps: the position, and the last disk block's bytes in memory of our own (given up at
 * SCAN_END). Memory of recent is held only while its candidates are shown, so one shown in part is
 * collected again.
 */
#include "store/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "core/mem.h"
#include "store/scan_block.h"
#include "store/scan_disk.h"

#define SKIPS_MAX         16u /* of a step: each a segment, or blocks of one, that need no reading */
#define RECENT_ROUNDS_MAX 32u /* of a descending step: each a batch of the newest */
/* Candidates of a step, from a disk block: each may cost match the walk of a JSON object, some 0.5
 * us, and a giant batch of small records holds a hundred thousand. */
#define SHOW_MAX 1024u

struct scan {
    struct scan_source source;
    struct scan_options options;
    /* Ascending: the next LSN to look at. Descending: the last one, 0 behind the first record. */
    uint64_t position;
    bool is_begun;
    uint64_t bytes;
    struct scan_disk disk;
    struct scan_block block;
    size_t shown;    /* candidates of block that were shown */
    bool is_pending; /* block holds candidates that are still to be shown */
};

struct scan *scan_new(const struct scan_source *source, const struct scan_options *options)
{
    ASSERT(source->views != NULL);
    ASSERT(options->take != NULL);
    ASSERT(options->filter.key_count <= SCAN_KEYS_MAX);
    mem_unlatch_begin(); /* once for each query */
    struct scan *scan = mem_alloc(sizeof *scan);
    mem_unlatch_end();
    scan->source = *source;
    scan->options = *options;
    scan->position =
        options->is_descending ? options->filter.lsn_max : u64_max(options->filter.lsn_min, 1);
    scan_disk_init(&scan->disk, source->views);
    scan_block_init(&scan->block);
    return scan;
}

void scan_free(struct scan *scan)
{
    if (scan == NULL) {
        return;
    }
    scan_block_free(&scan->block);
    scan_disk_free(&scan->disk);
    mem_free(scan);
}

uint64_t scan_bytes(const struct scan *scan)
{
    return scan->bytes;
}

uint64_t scan_skipped_bytes(const struct scan *scan)
{
    return scan->disk.skipped_bytes;
}

uint64_t scan_position(const struct scan *scan)
{
    return scan->position;
}

/* UINT64_MAX: not known. */
static uint64_t durable_lsn(const struct scan *scan)
{
    if (scan->source.durable_lsn == NULL) {
        return UINT64_MAX;
    }
    /* acquire, edge W1: whatever is at or below it is on disk, in a file that has its name. */
    return atomic_load_explicit(scan->source.durable_lsn, memory_order_acquire);
}

/* Is there nothing (more) in the range that was asked for? */
static bool is_past(const struct scan *scan, uint64_t durable)
{
    const struct scan_filter *filter = &scan->options.filter;
    if (scan->options.is_descending) {
        return scan->position < u64_max(filter->lsn_min, 1);
    }
    return scan->position > filter->lsn_max || scan->position > durable;
}

/* The position behind everything in span. */
static void pass(struct scan *scan, const struct scan_span *span)
{
    if (scan->options.is_descending) {
        scan->position = u64_min(scan->position, u64_max(span->first, 1) - 1);
    } else {
        scan->position = u64_max(scan->position, span->end);
    }
}

/* Shows what is left of the block's candidates, count_max at most: SCAN_MORE, or SCAN_FULL. */
static int show(struct scan *scan, size_t count_max)
{
    const struct scan_options *options = &scan->options;
    size_t left = scan->block.count - scan->shown;
    size_t shown_end = scan->shown + (left < count_max ? left : count_max);
    while (scan->shown < shown_end) {
        size_t i = options->is_descending ? scan->block.count - 1 - scan->shown : scan->shown;
        struct scan_record record;
        scan_block_record(&scan->block, i, &record);
        scan->shown++;
        scan->position = options->is_descending ? record.lsn - 1 : record.lsn + 1;
        bool is_match = options->match == NULL || options->match(options->context, &record);
        if (is_match && !options->take(options->context, &record)) {
            return SCAN_FULL;
        }
    }
    if (scan->shown < scan->block.count) {
        return SCAN_MORE; /* is_pending stays */
    }
    struct scan_span run = {scan->block.run_first, scan->block.run_end};
    pass(scan, &run);
    scan->is_pending = false;
    return SCAN_MORE;
}

/* Collects from the block at the position. True: its run touches the position. False: missing is
 * what lies between. */
static bool collect(struct scan *scan, const struct scan_span *span, struct scan_span *missing)
{
    const struct scan_filter *filter = &scan->options.filter;
    struct scan_block *block = &scan->block;
    bool is_descending = scan->options.is_descending;
    struct scan_range range = {
        .low = is_descending ? u64_max(filter->lsn_min, 1) : scan->position,
        .high = is_descending ? scan->position : u64_min(filter->lsn_max, span->end - 1),
        .is_descending = is_descending,
    };
    scan_block_collect(block, filter, &range);
    scan->bytes += block->looked_bytes;
    scan->shown = 0;
    bool has_run = block->run_end != 0;
    if (is_descending) {
        *missing = (struct scan_span){has_run ? block->run_end : u64_max(span->first, range.low),
                                      scan->position + 1};
        return has_run && block->run_end > scan->position;
    }
    *missing = (struct scan_span){scan->position, has_run ? block->run_first : range.high + 1};
    return has_run && block->run_first == scan->position;
}

/* Tells of lost LSNs once: the position moves behind them. */
static int tell_missing(struct scan *scan, const struct scan_span *missing, struct err *err)
{
    const struct scan_filter *filter = &scan->options.filter;
    uint64_t first = u64_max(missing->first, filter->lsn_min);
    uint64_t last = u64_min(missing->end - 1, filter->lsn_max);
    pass(scan, missing);
    (void)err_wrap(err, ERR_CORRUPT, "LSN %" PRIu64 " to %" PRIu64 " cannot be read", first, last);
    if (err != NULL) {
        err->code = ERR_CORRUPT; /* whatever the reason was: -EIO, ERR_VERSION */
    }
    return ERR_CORRUPT;
}

/* ---- memory ---- */

/* One look at what memory has at the position: a scan_result, or -ENODATA. */
static int recent_look(struct scan *scan)
{
    struct recent_hold hold = {0};
    int result = -ENODATA;
    if (recent_take(scan->source.recent, scan->position, &hold, &scan->block.block) == 0) {
        return -ENODATA;
    }
    scan->block.is_trusted = true; /* the bytes that the writer made */
    struct scan_span span;
    struct scan_span missing;
    bool is_found = scan_block_extent(&scan->block.block, &span.first, &span.end) &&
                    span.end > scan->position && collect(scan, &span, &missing);
    if (is_found) {
        result = show(scan, SIZE_MAX); /* all: the memory is held only now */
    }
    recent_give(scan->source.recent, &hold);
    return result;
}

static int recent_step(struct scan *scan, uint64_t durable)
{
    if (scan->source.recent == NULL) {
        return -ENODATA;
    }
    int result = recent_look(scan);
    if (!scan->options.is_descending) {
        return result;
    }
    for (unsigned n = 1; n < RECENT_ROUNDS_MAX; n++) { /* upwards a look shows all there is */
        if (result != SCAN_MORE || is_past(scan, durable)) {
            break;
        }
        int next = recent_look(scan);
        result = next == -ENODATA ? SCAN_MORE : next;
        if (next == -ENODATA) {
            break;
        }
    }
    return result;
}

/* ---- disk ---- */

/* The block loaded last has the position in its span. */
static int held_step(struct scan *scan, struct err *err)
{
    struct scan_span missing;
    scan->block.block = scan->disk.held.block;
    scan->block.is_trusted = scan->disk.held.state == VIEW_COMPACTED; /* by its stored_crc */
    if (collect(scan, &scan->disk.held.span, &missing)) {
        scan->is_pending = true;
        return show(scan, SHOW_MAX);
    }
    char place[SCAN_PLACE_BYTES];
    scan_disk_place(&scan->disk, place);
    bool has_reason = scan->block.reason.code != 0;
    (void)err_set(err, ERR_CORRUPT, "%s: %s", place,
                  has_reason ? scan->block.reason.text : "no valid batch holds them");
    return tell_missing(scan, &missing, err);
}

static int disk_step(struct scan *scan, uint64_t durable, struct err *err)
{
    const struct scan_options *options = &scan->options;
    for (unsigned n = 0; n < SKIPS_MAX; n++) {
        if (is_past(scan, durable)) {
            return SCAN_END;
        }
        struct scan_disk_ask ask = {.filter = &options->filter,
                                    .lsn = scan->position,
                                    .durable_lsn = durable,
                                    .is_descending = options->is_descending};
        struct scan_span span;
        int result = scan_disk_find(&scan->disk, &ask, &span, err);
        switch (result) {
        case DISK_BLOCK:
            return held_step(scan, err);
        case DISK_AGAIN:
            return SCAN_MORE;
        case DISK_MISSING:
            return tell_missing(scan, &span, err);
        case DISK_SKIPPED:
            pass(scan, &span);
            break;
        case DISK_EXPIRED:
            if (options->is_descending) {
                scan->position = 0;
                return SCAN_END;
            }
            pass(scan, &span);
            break;
        case DISK_NONE:
            if (!options->is_descending || span.first <= 1) {
                return SCAN_END;
            }
            pass(scan, &span); /* down to where the log ends */
            break;
        default:
            ASSERT(result < 0);
            return result;
        }
    }
    return SCAN_MORE;
}

/* A descending scan shows what was durable when it began. */
static void begin(struct scan *scan, uint64_t durable)
{
    scan->is_begun = true;
    if (scan->options.is_descending) {
        scan->position = u64_min(scan->position, u64_min(durable, UINT64_MAX - 1));
    }
}

static int step(struct scan *scan, struct err *err)
{
    uint64_t durable = durable_lsn(scan);
    if (!scan->is_begun) {
        begin(scan, durable);
    }
    if (scan->is_pending) {
        return show(scan, SHOW_MAX);
    }
    if (is_past(scan, durable)) {
        return SCAN_END;
    }
    if (scan_disk_holds(&scan->disk, scan->position)) {
        return held_step(scan, err);
    }
    int result = recent_step(scan, durable);
    return result == -ENODATA ? disk_step(scan, durable, err) : result;
}

int scan_step(struct scan *scan, struct err *err)
{
    int result = step(scan, err);
    if (result == SCAN_END) {
        scan_disk_rest(&scan->disk); /* one that follows may wait for long now, among many */
    }
    return result;
}
