/*
 * log_view: segments, views of them, and the place where the current view hangs; see log_view.h.
 *
 * Happy path: the archive opens a segment (one reference, its own), publishes it in views (one
 * reference each), gives its own back when the segment is replaced or gone; readers take and give
 * views; the last to let go of a segment closes its file, whoever that is. Nothing here fails but
 * opening.
 *
 * Edge R50/A50: letting go of a reference (release) publishes that this holder reads no more; the
 * one that takes the count to zero (acquire) may free.
 */
#include "store/log_view.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/mem.h"
#include "store/segment.h"
#include "store/view_file.h"

struct log_views {
    pthread_mutex_t mutex; /* current, and taking a reference through it */
    struct log_view *current;
    struct file_io *io;
};

/* ---- files ---- */

void view_file_name(char *name, uint64_t id, enum view_state state)
{
    if (state == VIEW_COMPACTED) {
        compacted_name(name, id);
    } else {
        segment_name(name, id);
    }
}

int view_file_wrap(const struct view_segment *segment, uint64_t offset, int code, struct err *err)
{
    char name[SEGMENT_NAME_BYTES];
    view_file_name(name, segment->id, segment->state);
    return err_wrap(err, code, "%s at %" PRIu64, name, offset);
}

int view_file_read(struct view_segment *segment, uint8_t *to, uint64_t bytes, uint64_t offset,
                   struct err *err)
{
    int64_t got = segment->io->ops->read(segment->io, segment->file, to, bytes, offset);
    if (got < 0) {
        (void)err_set(err, (int)got, "read: %s", err_name((int)got));
        return view_file_wrap(segment, offset, (int)got, err);
    }
    if ((uint64_t)got < bytes) {
        (void)err_set(err, ERR_CORRUPT, "the file ends %" PRIu64 " bytes too early",
                      bytes - (uint64_t)got);
        return view_file_wrap(segment, offset, ERR_CORRUPT, err);
    }
    return 0;
}

/* ---- segments ---- */

static void segment_take(struct view_segment *segment)
{
    /* relaxed: whoever takes one holds one already, or the mutex that keeps the view alive. */
    uint32_t before = atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    ASSERT(before > 0);
    ASSERT(before < UINT32_MAX);
}

void view_segment_give(struct view_segment *segment)
{
    if (segment == NULL) {
        return;
    }
    /* R50/A50: release: our reads are done; acquire: those of all the others are, too. Licenses
     * whoever gets 1 to close and free. */
    uint32_t before = atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before == 1) {
        segment->io->ops->close(segment->io, segment->file);
        mem_free(segment);
    }
}

static int segment_read_header(struct view_segment *segment, struct err *err)
{
    uint8_t block[STORE_BLOCK_BYTES];
    int result = view_file_read(segment, block, sizeof block, 0, err);
    if (result < 0) {
        return result;
    }
    result = segment->state == VIEW_COMPACTED
                 ? compacted_header_decode(&segment->header, block, err)
                 : segment_header_decode(&segment->header, block, err);
    if (result == 0 && segment->header.segment_id != segment->id) {
        result = err_set(err, ERR_CORRUPT, "segment header: it says that it is segment %" PRIu64,
                         segment->header.segment_id);
    }
    return result < 0 ? view_file_wrap(segment, 0, result, err) : 0;
}

static int segment_read_footer(struct view_segment *segment, struct err *err)
{
    uint8_t block[STORE_BLOCK_BYTES];
    if (segment->stored_bytes < 2 * STORE_BLOCK_BYTES) {
        (void)err_set(err, ERR_CORRUPT, "footer: the file is too short for one");
        return view_file_wrap(segment, 0, ERR_CORRUPT, err);
    }
    uint64_t offset = segment->stored_bytes - STORE_BLOCK_BYTES;
    int result = view_file_read(segment, block, sizeof block, offset, err);
    if (result < 0) {
        return result;
    }
    result = segment_footer_decode(&segment->footer, block, err);
    if (result == 0) {
        result =
            segment_footer_check(&segment->footer, &segment->header, segment->stored_bytes, err);
    }
    enum segment_form form =
        segment->state == VIEW_COMPACTED ? SEGMENT_FORM_COMPACTED : SEGMENT_FORM_RAW;
    if (result == 0 && segment->footer.form != form) {
        result = err_set(err, ERR_CORRUPT, "footer: it is not of this form of file");
    }
    return result < 0 ? view_file_wrap(segment, offset, result, err) : 0;
}

/* Of a segment without a footer the first LSN, when its first batch is there. */
static int segment_read_first_lsn(struct view_segment *segment, struct err *err)
{
    uint8_t bytes[BATCH_HEADER_BYTES];
    struct batch_header header;
    int result = view_file_read(segment, bytes, sizeof bytes, STORE_BLOCK_BYTES, err);
    if (result < 0) {
        return result == ERR_CORRUPT ? 0 : result; /* so short a file has no batch */
    }
    if (batch_header_decode(&header, bytes, NULL) == 0 && header.segment_id == segment->id &&
        header.salt == segment->header.salt) {
        segment->footer.first_lsn = header.first_lsn;
    }
    return 0;
}

static int segment_read(struct view_segment *segment, struct err *err)
{
    int64_t bytes = segment->io->ops->size(segment->io, segment->file);
    if (bytes < 0) {
        (void)err_set(err, (int)bytes, "size: %s", err_name((int)bytes));
        return view_file_wrap(segment, 0, (int)bytes, err);
    }
    segment->stored_bytes = (uint64_t)bytes;
    int result = segment_read_header(segment, err);
    if (result < 0) {
        return result;
    }
    return segment->state == VIEW_ACTIVE ? segment_read_first_lsn(segment, err)
                                         : segment_read_footer(segment, err);
}

int view_segment_open(struct view_segment **segment, struct file_io *io, uint64_t id,
                      enum view_state state, struct err *err)
{
    ASSERT(state == VIEW_ACTIVE || state == VIEW_SEALED || state == VIEW_COMPACTED);
    char name[SEGMENT_NAME_BYTES];
    view_file_name(name, id, state);
    struct file file;
    unsigned flags = state == VIEW_ACTIVE ? (unsigned)FILE_OPEN_NO_READAHEAD : 0u;
    int result = io->ops->open(io, name, FILE_OPEN_READ_ONLY | flags, &file);
    if (result < 0) {
        return err_set(err, result, "open %s: %s", name, err_name(result));
    }
    struct view_segment *made = mem_alloc(sizeof *made);
    *made = (struct view_segment){.id = id, .state = state, .file = file, .io = io};
    atomic_init(&made->references, 1);
    result = segment_read(made, err);
    if (result < 0) {
        view_segment_give(made);
        return result;
    }
    *segment = made;
    return 0;
}

/* ---- views ---- */

static struct log_view *view_new(struct view_segment *const *segments, size_t count)
{
    struct log_view *view = mem_alloc(sizeof *view);
    view->segments = mem_alloc_array(count, sizeof(struct view_segment *));
    view->count = count;
    atomic_init(&view->references, 1);
    for (size_t i = 0; i < count; i++) {
        ASSERT(i == 0 || segments[i]->id > segments[i - 1]->id);
        segment_take(segments[i]);
        view->segments[i] = segments[i];
    }
    return view;
}

static void view_give(struct log_view *view)
{
    /* R50/A50: as in view_segment_give. */
    uint32_t before = atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    for (size_t i = 0; i < view->count; i++) {
        view_segment_give(view->segments[i]);
    }
    mem_free(view->segments);
    mem_free(view);
}

int log_views_open(struct log_views **views, struct file_io *io, struct err *err)
{
    struct log_views *made = mem_alloc(sizeof *made);
    made->io = io;
    int result = -pthread_mutex_init(&made->mutex, NULL);
    if (result < 0) {
        /* UNTESTED: on Linux a plain mutex always initialises. */
        mem_free(made);
        return err_set(err, result, "mutex: %s", err_name(result));
    }
    made->current = view_new(NULL, 0);
    *views = made;
    return 0;
}

void log_views_close(struct log_views *views)
{
    if (views == NULL) {
        return;
    }
    view_give(views->current);
    pthread_mutex_destroy(&views->mutex);
    mem_free(views);
}

struct log_view *log_view_take(struct log_views *views)
{
    pthread_mutex_lock(&views->mutex);
    struct log_view *view = views->current;
    /* relaxed: the mutex orders; while current, a view has the reference of its place. */
    uint32_t before = atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&views->mutex);
    ASSERT(before > 0);
    return view;
}

void log_view_give(struct log_views *views, struct log_view *view)
{
    ASSERT(views != NULL);
    view_give(view);
}

void log_views_publish(struct log_views *views, struct view_segment *const *segments, size_t count)
{
    struct log_view *view = view_new(segments, count);
    pthread_mutex_lock(&views->mutex);
    struct log_view *before = views->current;
    view->generation = before->generation + 1;
    views->current = view;
    pthread_mutex_unlock(&views->mutex);
    view_give(before); /* closes files; not under the mutex */
}
