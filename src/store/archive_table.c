/*
 * archive_table: the segments that the archive knows, the view that is made of them, and the small
 * things that its parts share; see archive_work.h. The archive's thread (at a start the main one).
 *
 * A segment whose file cannot be opened stays in the table without a view: readers do not see it,
 * it is tried again, and it expires in its turn.
 */
#include "store/archive_work.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/logline.h"
#include "core/mem.h"

#define TABLE_ROOM_FIRST  64u
#define IDS_TRIED         1024u
#define BUFFER_KEPT_BYTES MIB(4) /* a buffer grown beyond it for a giant batch is given back */

/* ---- small things that all parts use ---- */

/* relaxed, all three: statistics and hints with one writing thread (log_bytes: adds of two). */
void archive_stat_add(_Atomic uint64_t *to, uint64_t n)
{
    (void)atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

void archive_stat_set(_Atomic uint64_t *to, uint64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

uint64_t archive_stat(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

int archive_buffer_fit(struct archive_buffer *buffer, uint64_t bytes, struct err *err)
{
    bool is_giant = buffer->room > BUFFER_KEPT_BYTES && bytes <= BUFFER_KEPT_BYTES;
    if (buffer->data != NULL && bytes <= buffer->room && !is_giant) {
        return 0;
    }
    archive_buffer_free(buffer);
    uint64_t room = align_up(u64_max(bytes, INDEX_BLOCK_BYTES), STORE_BLOCK_BYTES);
    buffer->data = mem_map((size_t)room);
    if (buffer->data == NULL) {
        return err_set(err, -ENOMEM, "map %" PRIu64 " bytes", room);
    }
    buffer->room = room;
    return 0;
}

void archive_buffer_free(struct archive_buffer *buffer)
{
    if (buffer->data != NULL) {
        mem_unmap(buffer->data, (size_t)buffer->room);
    }
    *buffer = (struct archive_buffer){0};
}

uint64_t archive_failed(struct archive *archive, uint64_t now_ns, const char *what,
                        const struct err *err)
{
    archive_stat_add(&archive->status->archive_errors, 1);
    /* The line's own limit keeps a trouble that lasts from filling the log. */
    LOG(LOGLINE_WARNING, "archive_failed", "%s: %s", what, err->text);
    return now_ns + ARCHIVE_RETRY_NS;
}

/* ---- the table ---- */

struct archive_segment *archive_add(struct archive *archive, uint64_t id)
{
    ASSERT(archive->count == 0 || archive->segments[archive->count - 1].id < id);
    if (archive->count == archive->room) {
        size_t room = archive->room == 0 ? TABLE_ROOM_FIRST : 2 * archive->room;
        struct archive_segment *grown = mem_alloc_array(room, sizeof *grown);
        if (archive->count != 0) {
            memcpy(grown, archive->segments, archive->count * sizeof *grown);
        }
        mem_free(archive->segments);
        archive->segments = grown;
        archive->room = room;
    }
    struct archive_segment *segment = &archive->segments[archive->count++];
    *segment = (struct archive_segment){.id = id};
    return segment;
}

struct archive_segment *archive_find(struct archive *archive, uint64_t id)
{
    size_t low = 0;
    size_t high = archive->count;
    while (low < high) { /* halves each time */
        size_t middle = low + (high - low) / 2;
        if (archive->segments[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_found = low < archive->count && archive->segments[low].id == id;
    return is_found ? &archive->segments[low] : NULL;
}

void archive_replace(struct archive *archive, struct archive_segment *segment,
                     struct view_segment *view)
{
    if (segment->view != NULL) {
        view_segment_give(segment->view);
    }
    segment->view = view;
    archive_stat_add(&archive->status->log_bytes, view->stored_bytes - segment->bytes);
    segment->bytes = view->stored_bytes;
    segment->is_kept_raw = view->state == VIEW_SEALED && (view->footer.flags & SEALED_DAMAGED) != 0;
    archive->is_view_stale = true;
}

uint64_t archive_first_lsn(const struct archive *archive, size_t index)
{
    for (size_t i = index; i < archive->count; i++) {
        const struct view_segment *view = archive->segments[i].view;
        if (view != NULL && view->footer.first_lsn != 0) {
            return view->footer.first_lsn;
        }
    }
    return 0;
}

uint64_t archive_complete_below(const struct archive *archive)
{
    /* The active segment is the table's last; a sealed one is complete by itself. */
    uint64_t below = archive->active_seen;
    for (size_t i = archive->count; i-- > 0;) {
        const struct view_segment *view = archive->segments[i].view;
        if (view != NULL && view->state != VIEW_ACTIVE) {
            return u64_max(below, archive->segments[i].id + 1);
        }
        if (archive->segments[i].id < below) {
            break;
        }
    }
    return below;
}

void archive_publish(struct archive *archive)
{
    struct view_segment **views =
        mem_alloc_array(archive->count == 0 ? 1 : archive->count, sizeof(struct view_segment *));
    size_t count = 0;
    for (size_t i = 0; i < archive->count; i++) {
        if (archive->segments[i].view != NULL) {
            views[count++] = archive->segments[i].view;
        }
    }
    log_views_publish(archive->options.views, views, count);
    mem_free(views);
    archive->is_view_stale = false;
    uint64_t first_lsn = archive_first_lsn(archive, 0);
    archive_stat_set(&archive->status->first_lsn, u64_max(first_lsn, 1));
    uint64_t generation = archive_stat(&archive->status->view_generation) + 1;
    /* W5: who sees this generation gets that view or a newer one from log_view_take; pairs with the
     * acquire of whoever waits for a view. */
    atomic_store_explicit(&archive->status->view_generation, generation, memory_order_release);
    if (archive->options.on_view != NULL) {
        archive->options.on_view(archive->options.on_view_context);
    }
}

/* ---- segments that the writer has begun ---- */

void archive_tell_unreadable(struct archive *archive, uint64_t id, const struct err *err)
{
    archive_stat_add(&archive->status->damaged_segments, 1);
    LOG(LOGLINE_ERROR, "segment_unreadable", "segment %" PRIu64 " is left out of reading: %s", id,
        err->text);
}

static bool is_stranger(const struct archive *archive, const struct view_segment *view)
{
    const struct ulid *node = &view->header.node;
    return archive->is_node_known && memcmp(node, &archive->options.node, sizeof *node) != 0 &&
           memcmp(node, &archive->log_node, sizeof *node) != 0;
}

int archive_view_open(struct view_segment **view, const struct archive *archive, uint64_t id,
                      enum view_state state, struct err *err)
{
    int r = view_segment_open(view, archive->io, id, state, err);
    if (r == 0 && is_stranger(archive, *view)) {
        view_segment_give(*view);
        r = err_set(err, ERR_CORRUPT, "it belongs to another node");
    }
    return r;
}

void archive_refuse_strangers(struct archive *archive)
{
    const struct view_segment *newest = NULL;
    bool is_ours = false;
    for (size_t i = 0; i < archive->count; i++) {
        const struct view_segment *view = archive->segments[i].view;
        newest = view != NULL ? view : newest;
        is_ours = is_ours || (view != NULL && memcmp(&view->header.node, &archive->options.node,
                                                     sizeof view->header.node) == 0);
    }
    archive->is_node_known = true;
    archive->log_node = is_ours || newest == NULL ? archive->options.node : newest->header.node;
    for (size_t i = 0; i < archive->count; i++) {
        struct archive_segment *segment = &archive->segments[i];
        if (segment->view != NULL && is_stranger(archive, segment->view)) {
            struct err err = {0};
            (void)err_set(&err, ERR_CORRUPT, "it belongs to another node");
            archive_tell_unreadable(archive, segment->id, &err);
            view_segment_give(segment->view);
            segment->view = NULL;
        }
    }
}

/* A raw file as it is: not sealed, whatever lies behind its batches. */
void archive_add_active(struct archive *archive, uint64_t id)
{
    struct err err = {0};
    struct view_segment *view = NULL;
    int r = archive_view_open(&view, archive, id, VIEW_ACTIVE, &err);
    if (r == -ENOENT) {
        return; /* ids may be left out */
    }
    struct archive_segment *segment = archive_add(archive, id);
    archive->is_view_stale = true;
    if (r < 0) {
        archive_tell_unreadable(archive, id, &err);
        return;
    }
    segment->view = view;
    /* The keeper has counted it when it was prepared. */
    segment->bytes = view->stored_bytes;
}

/* What the disk refused to read once it may read again: then it is read after all. */
void archive_reopen_unreadable(struct archive *archive, uint64_t now_ns)
{
    if (now_ns < archive->reopen_at_ns) {
        return;
    }
    archive->reopen_at_ns = now_ns + ARCHIVE_RETRY_NS;
    for (size_t i = 0; i < archive->count; i++) {
        struct archive_segment *segment = &archive->segments[i];
        enum view_state state = segment->is_compacted ? VIEW_COMPACTED : VIEW_ACTIVE;
        struct view_segment *view = NULL;
        if (segment->view == NULL &&
            archive_view_open(&view, archive, segment->id, state, NULL) == 0) {
            segment->bytes = segment->bytes == 0 ? view->stored_bytes : segment->bytes;
            archive_replace(archive, segment, view);
        }
    }
}

struct next_id {
    uint64_t from;
    uint64_t id; /* the smallest at or above from */
};

static void next_on_name(void *context, const char *name)
{
    struct next_id *next = context;
    uint64_t id = 0;
    if (segment_parse_name(&id, name) && id >= next->from) {
        next->id = u64_min(next->id, id);
    }
}

/* The id to look at behind `id`. Ids follow each other but for what recovery went around: a file with
 * a huge number for a name may leave a hole that nobody can count through. */
static uint64_t id_behind(const struct archive *archive, uint64_t id, uint64_t active)
{
    struct next_id next = {.from = id + 1, .id = active};
    if (active - id <= IDS_TRIED) {
        return id + 1;
    }
    int r = archive->io->ops->list(archive->io, SEGMENT_DIR, next_on_name, &next);
    return r < 0 ? active : next.id;
}

bool archive_look_for_active(struct archive *archive)
{
    /* W2: everything below this segment is complete; pairs with W2 in journal.c. */
    uint64_t active = atomic_load_explicit(&archive->status->active_segment, memory_order_acquire);
    if (active <= archive->active_seen) {
        return false;
    }
    uint64_t from = archive->active_seen + 1;
    if (archive->count != 0) {
        from = u64_max(from, archive->segments[archive->count - 1].id + 1);
    }
    for (uint64_t id = from; id <= active; /* at most what was written since the last look */
         id = id_behind(archive, id, active)) {
        archive_add_active(archive, id);
        if (id == active) {
            break;
        }
    }
    archive->active_seen = active;
    return true;
}
