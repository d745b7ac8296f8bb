#include "forward/replay_log.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/log_view.h"
#include "store/log_walk.h"
#include "store/node.h"
#include "store/view_load.h"

#define END_WAIT_MAX_NS (5 * NS_S) /* a log that grows all the time names its end long before */
#define END_LOOK_NS     (20 * NS_MS)

/* ---- where it begins ---- */

static uint64_t load_atomic(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed); /* relaxed: one thread */
}

uint64_t replay_log_begin(const struct replay_log *log)
{
    return load_atomic(&log->status->first_lsn);
}

uint64_t replay_log_end(const struct replay_log *log)
{
    return load_atomic(&log->status->durable_lsn);
}

struct scan_source replay_log_source(const struct replay_log *log)
{
    return (struct scan_source){.views = log->views, .durable_lsn = &log->status->durable_lsn};
}

/* The oldest LSN that the view has; 0: it has none. */
static uint64_t view_first_lsn(const struct log_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        if (view->segments[i]->footer.first_lsn != 0) {
            return view->segments[i]->footer.first_lsn;
        }
    }
    return 0;
}

static void note_begin(struct replay_log *log)
{
    struct log_view *view = log_view_take(log->views);
    uint64_t first = u64_max(view_first_lsn(view), replay_log_begin(log));
    log_view_give(log->views, view);
    /* relaxed: one thread. */
    atomic_store_explicit(&log->status->first_lsn, first, memory_order_relaxed);
}

/* ---- where it ends ---- */

struct end {
    uint64_t last;    /* of the valid batches that continue each other */
    uint64_t durable; /* the largest that one of them names */
    uint64_t bytes;   /* of their payloads */
    bool has_grown;
};

/* Everything there is now. */
static int end_walk(struct log_walk *walk, struct end *end, struct err *err)
{
    struct walk_batch batch;
    struct walk_gap gap;
    end->has_grown = false;
    for (;;) { /* bounded by the log */
        int r = log_walk_next(walk, &batch, &gap, err);
        if (r < 0 || r == WALK_END) {
            return r;
        }
        if (r == WALK_BATCH) {
            end->last = u64_max(end->last, batch.header.first_lsn + batch.header.record_count - 1);
            end->durable = u64_max(end->durable, batch.header.durable_lsn);
            end->bytes += batch.header.payload_bytes;
            end->has_grown = true;
        } else {
            end->last = u64_max(end->last, gap.last_lsn);
        }
    }
}

/* The end that was seen first is named durable by what is written next, or nobody writes. */
static int end_settle(struct log_walk *walk, uint64_t *lsn, uint64_t *bytes, struct err *err)
{
    struct end end = {0};
    const struct timespec pause = {.tv_nsec = END_LOOK_NS};
    int r = end_walk(walk, &end, err);
    uint64_t wanted = end.last;
    *bytes = end.bytes;
    uint64_t began_ns = clock_mono_ns();
    uint64_t grown_ns = began_ns;
    for (uint64_t now_ns = began_ns; r == 0 && end.durable < wanted; now_ns = clock_mono_ns()) {
        if (now_ns - grown_ns > REPLAY_LOG_QUIET_NS) {
            *lsn = wanted; /* what a crash left, and nobody has begun anew */
            return 0;
        }
        if (now_ns - began_ns > END_WAIT_MAX_NS) {
            *lsn = end.durable;
            return 0;
        }
        (void)nanosleep(&pause, NULL);
        r = end_walk(walk, &end, err);
        grown_ns = end.has_grown ? clock_mono_ns() : grown_ns;
    }
    *lsn = wanted;
    return r;
}

/* The first LSN of the newest file with records, which is where looking for the end begins; 1: an empty log. */
static uint64_t newest_first(const struct log_view *view)
{
    for (size_t i = view->count; i > 0; i--) {
        if (view->segments[i - 1]->footer.first_lsn != 0) {
            return view->segments[i - 1]->footer.first_lsn;
        }
    }
    return 1;
}

static int find_end(struct replay_log *log, struct err *err)
{
    struct log_view *view = log_view_take(log->views);
    uint64_t from = newest_first(view);
    log_view_give(log->views, view);
    struct log_walk *walk = NULL;
    uint64_t end = 0;
    int r = log_walk_open(&walk, log->io, from, err);
    if (r == 0) {
        r = end_settle(walk, &end, &log->tail_bytes, err);
        log_walk_close(walk);
    }
    end = u64_max(end, from - 1);
    log->tail_first = from;
    /* relaxed: one thread. */
    atomic_store_explicit(&log->status->durable_lsn, end, memory_order_relaxed);
    return r;
}

/* ---- life ---- */

int replay_log_open(struct replay_log *log, const char *data_dir,
                    void (*on_problem)(void *context, const char *line), void *context,
                    struct err *err)
{
    *log = (struct replay_log){.on_problem = on_problem, .context = context};
    log->status = mem_alloc(sizeof *log->status);
    log->lineage = mem_alloc(sizeof *log->lineage);
    atomic_store_explicit(&log->status->first_lsn, 1, memory_order_relaxed); /* one thread */
    int r = file_io_real_open_existing(&log->io, data_dir, err);
    if (r == 0) {
        r = node_read(&log->node, log->io, err);
        r = r < 0 ? err_wrap(err, r, "%s: the node's name", data_dir) : 0;
    }
    r = r == 0 ? log_views_open(&log->views, log->io, err) : r;
    r = r == 0 ? log_views_load(log->views, log->io, on_problem, context, err) : r;
    r = r == 0 ? find_end(log, err) : r;
    if (r == 0) {
        /* Once more: the file that has the end may have been begun meanwhile. */
        r = log_views_load(log->views, log->io, NULL, NULL, err);
        note_begin(log);
    }
    /* After the end: a server that starts meanwhile writes it before any record that it speaks of. */
    r = r == 0 ? lineage_read(log->lineage, log->io, log->node, err) : r;
    log->loaded_ns = clock_mono_ns();
    return r;
}

void replay_log_close(struct replay_log *log)
{
    if (log->views != NULL) {
        log_views_close(log->views);
    }
    if (log->io != NULL) {
        log->io->ops->destroy(log->io);
    }
    mem_free(log->status);
    mem_free(log->lineage);
    *log = (struct replay_log){0};
}

void replay_log_refresh(struct replay_log *log, uint64_t now_ns)
{
    struct err err = {0};
    if (now_ns - log->loaded_ns < REPLAY_LOG_RELOAD_NS) {
        return;
    }
    log->loaded_ns = now_ns;
    if (log_views_load(log->views, log->io, NULL, NULL, &err) == 0) {
        note_begin(log); /* else in a second: what the old view names stays readable */
    }
}

/* ---- what lies where ---- */

static uint64_t last_of(const struct log_view *view, size_t i, uint64_t end)
{
    const struct view_segment *segment = view->segments[i];
    if (segment->state != VIEW_ACTIVE) {
        return segment->footer.last_lsn;
    }
    for (size_t next = i + 1; next < view->count; next++) {
        if (view->segments[next]->footer.first_lsn != 0) {
            return view->segments[next]->footer.first_lsn - 1;
        }
    }
    return end;
}

/* A file that is being written has its full size from the beginning. */
static uint64_t segment_bytes(const struct replay_log *log, const struct view_segment *segment)
{
    if (segment->footer.first_lsn == log->tail_first) {
        return log->tail_bytes;
    }
    return segment->state == VIEW_ACTIVE ? segment->stored_bytes : segment->footer.payload_bytes;
}

uint64_t replay_log_bytes(const struct replay_log *log, uint64_t first, uint64_t last)
{
    struct log_view *view = log_view_take(log->views);
    double bytes = 0;
    for (size_t i = 0; i < view->count; i++) {
        uint64_t from = view->segments[i]->footer.first_lsn;
        uint64_t to = last_of(view, i, replay_log_end(log));
        uint64_t low = u64_max(from, first);
        uint64_t high = u64_min(to, last);
        if (from != 0 && low <= high) {
            bytes += (double)segment_bytes(log, view->segments[i]) * (double)(high - low + 1) /
                     (double)(to - from + 1);
        }
    }
    log_view_give(log->views, view);
    return (uint64_t)bytes;
}

static bool is_final(const struct view_segment *segment, bool compacts)
{
    bool stays_raw = !compacts || (segment->footer.flags & SEALED_DAMAGED) != 0;
    return segment->state == VIEW_COMPACTED || (segment->state == VIEW_SEALED && stays_raw);
}

bool replay_log_segments(const struct replay_log *log, bool compacts, uint64_t *first,
                         uint64_t *last)
{
    struct log_view *view = log_view_take(log->views);
    uint64_t from = *first;
    uint64_t to = 0;
    for (size_t i = 0; i < view->count; i++) {
        const struct segment_footer *footer = &view->segments[i]->footer;
        if (footer->record_count == 0 && view->segments[i]->state != VIEW_ACTIVE) {
            continue;
        }
        if (!is_final(view->segments[i], compacts) || footer->first_lsn > *last) {
            break;
        }
        if (footer->last_lsn >= from) {
            *first = to == 0 ? footer->first_lsn : *first;
            to = footer->last_lsn;
        }
    }
    log_view_give(log->views, view);
    *last = to;
    return to != 0;
}
