/*
 * scan_disk: see scan_disk.h.
 */
#include "store/scan_disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "store/scan_block.h"
#include "store/segment.h"

#define NO_BLOCK UINT32_MAX /* a place that is a whole file, or its end */

void scan_disk_init(struct scan_disk *disk, struct log_views *views)
{
    memset(disk, 0, sizeof *disk);
    disk->views = views;
}

void scan_disk_rest(struct scan_disk *disk)
{
    block_reader_free(disk->reader);
    disk->reader = NULL;
    disk->held.span = (struct scan_span){0, 0};
}

void scan_disk_free(struct scan_disk *disk)
{
    ASSERT(disk->tail_count == 0);
    scan_disk_rest(disk);
    memset(disk, 0, sizeof *disk);
}

bool scan_disk_holds(const struct scan_disk *disk, uint64_t lsn)
{
    return lsn >= disk->held.span.first && lsn < disk->held.span.end;
}

static void place_write(char *text, uint64_t id, enum view_state state, uint32_t block_index)
{
    char name[SEGMENT_NAME_BYTES];
    if (state == VIEW_COMPACTED) {
        compacted_name(name, id);
    } else {
        segment_name(name, id);
    }
    if (block_index == NO_BLOCK) {
        (void)snprintf(text, SCAN_PLACE_BYTES, "%s", name);
        return;
    }
    (void)snprintf(text, SCAN_PLACE_BYTES, "%s block %" PRIu32, name, block_index);
}

void scan_disk_place(const struct scan_disk *disk, char *text)
{
    place_write(text, disk->held.segment_id, disk->held.state, disk->held.block_index);
}

/* Damage of one place, which a scan goes around; everything else ends the step. */
static bool is_damage(int result)
{
    return result == ERR_CORRUPT || result == ERR_VERSION || result == -EIO || result == -ENODATA;
}

/* ---- which segment ---- */

/* 0: not known, no batch was in it when it was opened. */
static uint64_t first_lsn_of(const struct view_segment *segment)
{
    return segment->footer.first_lsn;
}

/* The segment that lsn belongs to, and where the one behind it begins. */
struct target {
    struct view_segment *segment; /* NULL: lsn lies before all of them */
    uint64_t next_first_lsn;      /* 0: not known */
};

/* The last segment of the view that is known to begin at or before lsn; view->count: none. Those
 * of unknown beginning are at the end, but for rare empty ones, which are stepped over. */
static size_t view_find(const struct log_view *view, uint64_t lsn)
{
    size_t low = 0;
    size_t high = view->count;
    size_t found = view->count;
    while (low < high) { /* halves each round */
        size_t middle = low + (high - low) / 2;
        size_t at = middle;
        while (at > low && first_lsn_of(view->segments[at]) == 0) {
            at--;
        }
        uint64_t first = first_lsn_of(view->segments[at]);
        if (first == 0 || first > lsn) {
            high = first == 0 ? high : at;
            low = first == 0 ? middle + 1 : low;
            continue;
        }
        found = at;
        low = middle + 1;
    }
    return found;
}

/* Makes room in a full tail: only the segment that the LSN belongs to as far as is known stays. */
static void tail_trim(struct scan_disk *disk, const struct target *target)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->tail_count; i++) {
        if (disk->tail[i] == target->segment) {
            disk->tail[kept++] = disk->tail[i];
        } else {
            view_segment_give(disk->tail[i]);
        }
    }
    ASSERT(kept <= 1);
    disk->tail_count = kept;
}

/* Opens segment id as it is now: 1; 0: it cannot be opened, or there is none (has_ended); -errno. */
static int tail_open(struct scan_disk *disk, const struct target *target, struct file_io *io,
                     uint64_t id, bool *has_ended, struct err *err)
{
    *has_ended = false;
    if (disk->tail_count == SCAN_TAIL_MAX) {
        tail_trim(disk, target);
    }
    struct view_segment *segment = NULL;
    int result = view_segment_open(&segment, io, id, VIEW_ACTIVE, err);
    if (result == 0) {
        disk->tail[disk->tail_count++] = segment;
        return 1;
    }
    *has_ended = result == -ENOENT;
    /* What is lost by a damaged one shows as missing LSNs. */
    return *has_ended || is_damage(result) ? 0 : err_wrap(err, result, "behind the newest view");
}

static void tail_give(struct scan_disk *disk)
{
    while (disk->tail_count > 0) {
        view_segment_give(disk->tail[--disk->tail_count]);
    }
}

static void target_take(struct target *target, struct view_segment *segment, uint64_t lsn)
{
    uint64_t first = first_lsn_of(segment);
    if (first == 0) {
        return;
    }
    if (first <= lsn) {
        target->segment = segment;
        target->next_first_lsn = 0;
    } else if (target->next_first_lsn == 0) {
        target->next_first_lsn = first;
    }
}

/* Segments of the view from the one found on; those that were empty when the view was made are
 * looked at again. */
static int target_in_view(struct scan_disk *disk, const struct log_view *view, uint64_t lsn,
                          struct target *target, struct err *err)
{
    size_t found = view_find(view, lsn);
    size_t i = found == view->count ? 0 : found;
    for (; i < view->count && target->next_first_lsn == 0; i++) {
        struct view_segment *segment = view->segments[i];
        bool has_ended = false;
        int result = first_lsn_of(segment) != 0
                         ? 0
                         : tail_open(disk, target, segment->io, segment->id, &has_ended, err);
        if (result < 0) {
            return result;
        }
        target_take(target, result == 1 ? disk->tail[disk->tail_count - 1] : segment, lsn);
    }
    return 0;
}

/* Segments that the view does not have yet. */
static int target_behind_view(struct scan_disk *disk, const struct log_view *view, uint64_t lsn,
                              struct target *target, struct err *err)
{
    const struct view_segment *last = view->segments[view->count - 1];
    bool has_ended = false;
    /* As many rounds as there are such files: the ids follow each other. */
    for (uint64_t n = 1; target->next_first_lsn == 0; n++) {
        int result = tail_open(disk, target, last->io, last->id + n, &has_ended, err);
        if (result < 0) {
            return result;
        }
        if (has_ended) {
            return 0;
        }
        if (result == 1) {
            target_take(target, disk->tail[disk->tail_count - 1], lsn);
        }
    }
    return 0;
}

static int target_find(struct scan_disk *disk, const struct log_view *view, uint64_t lsn,
                       struct target *target, struct err *err)
{
    memset(target, 0, sizeof *target);
    int result = target_in_view(disk, view, lsn, target, err);
    const struct view_segment *segment = target->segment;
    bool is_inside =
        segment != NULL && segment->state != VIEW_ACTIVE && lsn <= segment->footer.last_lsn;
    if (result < 0 || is_inside || target->next_first_lsn != 0) {
        return result;
    }
    return target_behind_view(disk, view, lsn, target, err);
}

/* ---- blocks ---- */

static int missing(const struct view_segment *segment, uint32_t block_index, struct err *err)
{
    char place[SCAN_PLACE_BYTES];
    place_write(place, segment->id, segment->state, block_index);
    (void)err_wrap(err, ERR_CORRUPT, "%s", place);
    return DISK_MISSING;
}

/* What a file says of itself is not believed where it would stop a scan: a span holds the LSN that
 * was asked for. */
static void span_widen(struct scan_span *span, uint64_t lsn)
{
    span->first = u64_min(span->first, lsn);
    span->end = u64_max(span->end, lsn + 1);
}

static void hold(struct scan_disk *disk, const struct view_segment *segment, uint32_t block_index,
                 const struct scan_span *span)
{
    disk->held.segment_id = segment->id;
    disk->held.state = segment->state;
    disk->held.block_index = block_index;
    disk->held.span = *span;
}

static int load(struct scan_disk *disk, struct view_segment *segment, uint32_t block_index,
                uint64_t durable_lsn, struct err *err)
{
    disk->held.span = (struct scan_span){0, 0}; /* the buffer is about to change */
    return block_reader_load(disk->reader, segment, block_index, durable_lsn, &disk->held.block,
                             err);
}

/* ---- sealed and compacted segments ---- */

static bool entry_may_match(const struct index *index, const struct index_entry *entry,
                            const struct scan_filter *filter)
{
    struct scan_summary summary = {.kinds = entry->kinds,
                                   .severities = entry->severities,
                                   .time_min_ns = entry->time_min_ns,
                                   .time_max_ns = entry->time_max_ns};
    if (entry->record_count == 0 || !scan_filter_may_match(filter, &summary)) {
        return false;
    }
    for (unsigned i = 0; i < filter->key_count; i++) {
        if (!index_may_have(index, entry, filter->keys[i])) {
            return false;
        }
    }
    return true;
}

/* Block i is answerable for all LSNs up to the next block's first. */
static void entry_span(const struct index *index, const struct view_segment *segment, uint32_t i,
                       struct scan_span *span)
{
    struct index_entry entry;
    index_entry_get(index, i, &entry);
    span->first = entry.first_lsn;
    span->end = segment->footer.last_lsn + 1;
    if (i + 1 < index->entry_count) {
        index_entry_get(index, i + 1, &entry);
        span->end = entry.first_lsn;
    }
}

/* Passes over entries that cannot match, in the direction of the scan. True: *i can. */
static bool entries_skip(struct scan_disk *disk, const struct scan_disk_ask *ask,
                         const struct index *index, const struct view_segment *segment, uint32_t *i,
                         struct scan_span *skipped)
{
    for (uint32_t n = 0; n < index->entry_count; n++) {
        struct index_entry entry;
        struct scan_span span;
        index_entry_get(index, *i, &entry);
        if (entry_may_match(index, &entry, ask->filter)) {
            return true;
        }
        entry_span(index, segment, *i, &span);
        skipped->first = n == 0 ? span.first : u64_min(skipped->first, span.first);
        skipped->end = n == 0 ? span.end : u64_max(skipped->end, span.end);
        disk->skipped_bytes += entry.raw_bytes;
        bool is_last = ask->is_descending ? *i == 0 : *i + 1 == index->entry_count;
        if (is_last) {
            return false;
        }
        *i = ask->is_descending ? *i - 1 : *i + 1;
    }
    return false; /* not reached: the loop ends at an end of the index */
}

static int sealed_find(struct scan_disk *disk, const struct scan_disk_ask *ask,
                       struct view_segment *segment, struct scan_span *span, struct err *err)
{
    struct index index;
    *span = (struct scan_span){segment->footer.first_lsn, segment->footer.last_lsn + 1};
    int result = block_reader_index(disk->reader, segment, &index, err);
    if (is_damage(result) || (result == 0 && index.entry_count == 0)) {
        if (result == 0) {
            (void)err_set(err, ERR_CORRUPT, "the index is empty");
        }
        return missing(segment, NO_BLOCK, err);
    }
    if (result < 0) {
        return result;
    }
    uint32_t at = index_find_lsn(&index, ask->lsn);
    uint32_t i = at;
    bool is_match = entries_skip(disk, ask, &index, segment, &i, span);
    if (!is_match || i != at) {
        return DISK_SKIPPED;
    }
    entry_span(&index, segment, i, span);
    result = load(disk, segment, i, ask->durable_lsn, err);
    if (is_damage(result)) {
        return missing(segment, i, err);
    }
    if (result < 0) {
        return result;
    }
    span_widen(span, ask->lsn);
    hold(disk, segment, i, span);
    return DISK_BLOCK;
}

/* ---- active segments ---- */

/* Nothing from readable_end to the next segment, or to the last durable record. reason: the
 * failure that err tells of, or 0. */
static int missing_to_next(const struct scan_disk_ask *ask, const struct target *target,
                           uint64_t readable_end, int reason, struct scan_span *span,
                           struct err *err)
{
    span->first = u64_min(readable_end, ask->lsn);
    span->end = target->next_first_lsn;
    if (span->end == 0) {
        if (ask->durable_lsn == UINT64_MAX) {
            span->end = ask->lsn + 1;
            return DISK_NONE;
        }
        span->end = ask->durable_lsn + 1;
    }
    if (reason == 0) {
        (void)err_set(err, ERR_CORRUPT, "no valid batch holds them");
    }
    return missing(target->segment, NO_BLOCK, err);
}

/* Can nothing in it match? Severities are not in batch headers, keys in no header at all. */
static bool window_is_out(const struct block_summary *window, const struct scan_filter *filter)
{
    struct scan_summary summary = {.kinds = window->kinds,
                                   .severities = UINT32_MAX,
                                   .time_min_ns = window->time_min_ns,
                                   .time_max_ns = window->time_max_ns};
    return window->record_count == 0 || !scan_filter_may_match(filter, &summary);
}

/* The bytes of the LSNs of [first, end) in it, taken as equally long: a window that grows is passed
 * over piece by piece, and no byte is to count twice. */
static uint64_t window_share(const struct block_summary *window, uint64_t first, uint64_t end)
{
    first = u64_max(first, window->first_lsn);
    end = u64_min(end, window->end_lsn);
    bool has_any = first < end && window->record_count != 0;
    return has_any ? window->raw_bytes * (end - first) / window->record_count : 0;
}

/* Passes over windows in which nothing can match, from the one that holds the LSN in the direction
 * of the scan. False: that one must be looked into. */
static bool windows_skip(struct scan_disk *disk, const struct scan_disk_ask *ask, uint64_t bound,
                         const struct block_place *place, struct scan_span *skipped)
{
    struct block_summary window;
    bool is_known = block_reader_summary(disk->reader, place->i, bound, &window);
    if (!is_known || ask->lsn < window.first_lsn || ask->lsn >= window.end_lsn) {
        return false;
    }
    uint64_t first = ask->is_descending ? 0 : ask->lsn;
    uint64_t end = ask->is_descending ? ask->lsn + 1 : UINT64_MAX;
    uint32_t i = place->i;
    *skipped = (struct scan_span){ask->lsn, ask->lsn};
    for (uint32_t n = 0; n < place->count; n++) { /* a window each */
        is_known = block_reader_summary(disk->reader, i, bound, &window);
        if (!is_known || !window_is_out(&window, ask->filter)) {
            break;
        }
        skipped->first = u64_min(skipped->first, window.first_lsn);
        skipped->end = u64_max(skipped->end, window.end_lsn);
        disk->skipped_bytes += window_share(&window, first, end);
        i = ask->is_descending ? i - 1 : i + 1; /* wraps below 0: no such window */
    }
    return skipped->end != ask->lsn;
}

static int active_find(struct scan_disk *disk, const struct scan_disk_ask *ask,
                       const struct target *target, struct scan_span *span, struct err *err)
{
    struct view_segment *segment = target->segment;
    /* Batches that begin the next segment are superseded here (format.h). */
    uint64_t bound = target->next_first_lsn == 0
                         ? ask->durable_lsn
                         : u64_min(ask->durable_lsn, target->next_first_lsn - 1);
    struct block_place place;
    uint64_t readable_end = first_lsn_of(segment);
    int result = block_reader_find(disk->reader, segment, ask->lsn, bound, &place, err);
    if (result == -EAGAIN) {
        return DISK_AGAIN; /* the headers of a large segment are read in several steps */
    }
    if (result == 0 && place.count != 0 && windows_skip(disk, ask, bound, &place, span)) {
        return DISK_SKIPPED;
    }
    if (result == 0 && place.count != 0) {
        result = load(disk, segment, place.i, bound, err);
        if (result == 0 && scan_block_extent(&disk->held.block, &span->first, &span->end)) {
            if (ask->lsn < span->end) {
                span_widen(span, ask->lsn);
                hold(disk, segment, place.i, span);
                return DISK_BLOCK;
            }
            readable_end = span->end;
        }
    }
    if (result < 0 && !is_damage(result)) {
        return result;
    }
    return missing_to_next(ask, target, readable_end, result, span, err);
}

/* ---- finding ---- */

static int target_look(struct scan_disk *disk, const struct scan_disk_ask *ask,
                       const struct target *target, struct scan_span *span, struct err *err)
{
    struct view_segment *segment = target->segment;
    if (segment->state == VIEW_ACTIVE) {
        return active_find(disk, ask, target, span, err);
    }
    const struct segment_footer *footer = &segment->footer;
    if (ask->lsn > footer->last_lsn) {
        return missing_to_next(ask, target, footer->last_lsn + 1, 0, span, err);
    }
    struct scan_summary summary = {.kinds = footer->kinds,
                                   .severities = footer->severities,
                                   .time_min_ns = footer->time_min_ns,
                                   .time_max_ns = footer->time_max_ns};
    if (!scan_filter_may_match(ask->filter, &summary)) {
        *span = (struct scan_span){footer->first_lsn, footer->last_lsn + 1};
        disk->skipped_bytes += footer->raw_bytes;
        return DISK_SKIPPED;
    }
    return sealed_find(disk, ask, segment, span, err);
}

static bool has_newer(struct scan_disk *disk, const struct log_view *view)
{
    struct log_view *newest = log_view_take(disk->views);
    bool is_newer = newest->generation != view->generation;
    log_view_give(disk->views, newest);
    return is_newer;
}

int scan_disk_find(struct scan_disk *disk, const struct scan_disk_ask *ask, struct scan_span *span,
                   struct err *err)
{
    ASSERT(disk->tail_count == 0);
    ASSERT(ask->lsn != 0);
    *span = (struct scan_span){ask->lsn, ask->lsn + 1};
    if (disk->reader == NULL) {
        mem_unlatch_begin(); /* once for each scan that memory cannot answer */
        disk->reader = block_reader_new();
        mem_unlatch_end();
    }
    struct log_view *view = log_view_take(disk->views);
    struct target target = {.segment = NULL};
    int result = DISK_NONE;
    if (view->count != 0) {
        result = target_find(disk, view, ask->lsn, &target, err);
        if (result == 0 && target.segment != NULL) {
            result = target_look(disk, ask, &target, span, err);
        } else if (result == 0 && target.next_first_lsn != 0) {
            *span = (struct scan_span){0, target.next_first_lsn};
            result = DISK_EXPIRED;
        }
    }
    if (result == DISK_NONE && target.segment == NULL) {
        span->first = 0; /* no batch anywhere: there is nothing below either */
    }
    tail_give(disk);
    if (result == DISK_MISSING && has_newer(disk, view)) {
        result = DISK_AGAIN; /* what was not there may have been renamed */
    }
    log_view_give(disk->views, view);
    span_widen(span, ask->lsn);
    return result;
}
