/*
 * archive: the agent, its start and its stop; see archive.h for what it may do and
 * archive_work.h for how the work is cut. One step is the first of these that has something to do:
 * look for segments that the writer has begun, expire, seal, remove a raw twin, compact. Expiry
 * comes first because it is what brings a full disk back.
 *
 * Happy path of a start: list the directory, open each segment in its best form, publish. A file
 * under a final name whose footer is damaged is taken as not sealed (raw) or left out of the view
 * (compacted); both are counted and logged. On close everything under way is dropped: the next
 * start finds one of the states that a crash leaves.
 */
#include "store/archive.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/logline.h"
#include "core/mem.h"
#include "store/archive_work.h"

#define LISTING_ROOM_FIRST 64u
#define TEMPORARIES_MAX    64u

/* ---- life ---- */

int archive_open(struct archive **out, const struct archive_options *options, struct err *err)
{
    ASSERT(options->zstd_level >= FRAME_LEVEL_MIN || !options->compacts);
    struct archive *archive = mem_alloc(sizeof *archive);
    archive->options = *options;
    archive->io = options->io;
    archive->status = options->status;
    archive->block = mem_map(STORE_BLOCK_BYTES);
    if (archive->block == NULL) {
        mem_free(archive);
        return err_set(err, -ENOMEM, "open the archive: map its block");
    }
    *out = archive;
    return 0;
}

void archive_close(struct archive *archive)
{
    if (archive == NULL) {
        return;
    }
    archive_seal_close(archive);
    archive_compact_close(archive);
    for (size_t i = 0; i < archive->count; i++) {
        if (archive->segments[i].view != NULL) {
            view_segment_give(archive->segments[i].view);
        }
    }
    if (archive->expire.leaving.view != NULL) {
        view_segment_give(archive->expire.leaving.view);
    }
    mem_free(archive->segments);
    mem_unmap(archive->block, STORE_BLOCK_BYTES);
    mem_free(archive);
}

/* What a start finds in the directory. */
struct archive_file {
    uint64_t id;
    bool is_compacted;
};

struct archive_listing {
    struct archive_file *files;
    size_t count;
    size_t room;
    char temporaries[TEMPORARIES_MAX][SEGMENT_NAME_BYTES];
    size_t temporary_count;
};

static void listing_on_name(void *context, const char *name)
{
    struct archive_listing *listing = context;
    uint64_t id = 0;
    if (compacted_is_temporary(name)) {
        if (listing->temporary_count < TEMPORARIES_MAX) {
            char *to = listing->temporaries[listing->temporary_count++];
            (void)snprintf(to, SEGMENT_NAME_BYTES, SEGMENT_DIR "/%.20s", name);
        }
        return;
    }
    bool is_raw = segment_parse_name(&id, name);
    if (!is_raw && !compacted_parse_name(&id, name)) {
        return;
    }
    if (listing->count == listing->room) {
        size_t room = listing->room == 0 ? LISTING_ROOM_FIRST : 2 * listing->room;
        struct archive_file *grown = mem_alloc_array(room, sizeof *grown);
        if (listing->count != 0) {
            memcpy(grown, listing->files, listing->count * sizeof *grown);
        }
        mem_free(listing->files);
        listing->files = grown;
        listing->room = room;
    }
    listing->files[listing->count++] = (struct archive_file){.id = id, .is_compacted = !is_raw};
}

/* By id; of one id the compacted file first. */
static int file_compare(const void *a, const void *b)
{
    const struct archive_file *left = a;
    const struct archive_file *right = b;
    if (left->id != right->id) {
        return left->id < right->id ? -1 : 1;
    }
    return (int)right->is_compacted - (int)left->is_compacted;
}

static uint64_t file_bytes(const struct archive *archive, const struct archive_file *found)
{
    char name[SEGMENT_NAME_BYTES];
    struct file file;
    if (found->is_compacted) {
        compacted_name(name, found->id);
    } else {
        segment_name(name, found->id);
    }
    if (archive->io->ops->open(archive->io, name, FILE_OPEN_READ_ONLY, &file) < 0) {
        return 0; /* what it takes is unknown; opening it again below says why */
    }
    int64_t bytes = archive->io->ops->size(archive->io, file);
    archive->io->ops->close(archive->io, file);
    return bytes < 0 ? 0 : (uint64_t)bytes;
}

static struct view_segment *view_of(struct archive *archive, uint64_t id, enum view_state state)
{
    struct err err = {0};
    struct view_segment *view = NULL;
    int r = view_segment_open(&view, archive->io, id, state, &err);
    if (r < 0 && state == VIEW_COMPACTED) {
        archive_tell_unreadable(archive, id, &err);
    }
    return r < 0 ? NULL : view;
}

/* One id, of which raw and compacted say what there is. */
static void start_segment(struct archive *archive, uint64_t id, const struct archive_file *raw,
                          const struct archive_file *compacted)
{
    if (compacted == NULL && id > archive->active_seen) {
        return; /* the writer's: prepared, or without a durable batch */
    }
    if (compacted != NULL) {
        struct view_segment *view = view_of(archive, id, VIEW_COMPACTED);
        if (view != NULL || raw == NULL) {
            struct archive_segment *segment = archive_add(archive, id);
            segment->view = view;
            segment->is_compacted = true;
            segment->bytes = file_bytes(archive, compacted);
            segment->has_twin = raw != NULL;
            segment->must_sync = raw != NULL;
            segment->twin_bytes = raw != NULL ? file_bytes(archive, raw) : 0;
            return;
        }
        /* The raw file is still there and speaks for the segment; expiry removes both. */
    }
    struct view_segment *sealed = view_of(archive, id, VIEW_SEALED);
    if (sealed == NULL) {
        archive_add_active(archive, id);
        return;
    }
    struct archive_segment *segment = archive_add(archive, id);
    segment->view = sealed;
    segment->bytes = sealed->stored_bytes;
    segment->is_kept_raw = (sealed->footer.flags & SEALED_DAMAGED) != 0;
    archive_stat_add(&archive->status->damaged_segments, segment->is_kept_raw ? 1 : 0);
}

static void start_table(struct archive *archive, const struct archive_listing *listing)
{
    uint64_t log_bytes = 0;
    for (size_t i = 0; i < listing->count; i++) {
        const struct archive_file *found = &listing->files[i];
        log_bytes += file_bytes(archive, found);
        bool is_second = i > 0 && listing->files[i - 1].id == found->id;
        if (is_second) {
            continue;
        }
        bool has_second = i + 1 < listing->count && listing->files[i + 1].id == found->id;
        const struct archive_file *raw = has_second ? found + 1 : found;
        start_segment(archive, found->id, found->is_compacted && !has_second ? NULL : raw,
                      found->is_compacted ? found : NULL);
    }
    archive_stat_set(&archive->status->log_bytes, log_bytes);
}

int archive_start(struct archive *archive, struct err *err)
{
    struct archive_listing *listing = mem_alloc(sizeof *listing);
    struct file_io *io = archive->io;
    int r = io->ops->list(io, SEGMENT_DIR, listing_on_name, listing);
    if (r < 0) {
        r = err_set(err, r, "start the archive: list " SEGMENT_DIR ": %s", err_name(r));
        goto free_listing;
    }
    for (size_t i = 0; i < listing->temporary_count; i++) {
        (void)io->ops->unlink(io, listing->temporaries[i]); /* what stays costs space, not truth */
    }
    if (listing->count != 0) {
        qsort(listing->files, listing->count, sizeof *listing->files, file_compare);
    }
    /* W2: as in archive_look_for_active; at a start the writer does not run yet. */
    archive->active_seen =
        atomic_load_explicit(&archive->status->active_segment, memory_order_acquire);
    start_table(archive, listing);
    archive_refuse_strangers(archive);
    archive_publish(archive);
free_listing:
    mem_free(listing->files);
    mem_free(listing);
    return r;
}

/* ---- duty ---- */

#define BUSY_NS NS_S /* ingest counts as busy for so long after a record */

static void look_whether_busy(struct archive *archive, uint64_t now_ns)
{
    uint64_t records = archive_stat(&archive->status->records);
    if (records != archive->pace.records_seen) {
        archive->pace.records_seen = records;
        archive->pace.busy_until_ns = now_ns + BUSY_NS;
    }
}

void archive_pay(struct archive *archive, uint64_t now_ns, uint64_t bytes)
{
    uint64_t rate = archive->options.pace_bytes_per_s;
    if (rate != 0 && now_ns < archive->pace.busy_until_ns) {
        archive->pace.at_ns = now_ns + bytes * NS_MS / (rate / 1000 + 1);
    }
}

/* What costs CPU and bandwidth. Expiry does not wait for it. */
static bool rewrite_step(struct archive *archive, uint64_t now_ns)
{
    look_whether_busy(archive, now_ns);
    /* What was paid for is forgotten when nobody is in a hurry any more. */
    bool is_due = now_ns >= archive->pace.at_ns || now_ns >= archive->pace.busy_until_ns;
    return is_due && (archive_seal_step(archive, now_ns) || archive_twins_step(archive, now_ns) ||
                      archive_compact_step(archive, now_ns));
}

int archive_step(struct archive *archive)
{
    uint64_t now_ns = archive->io->ops->mono_ns(archive->io);
    bool is_done = archive_look_for_active(archive);
    archive_reopen_unreadable(archive, now_ns);
    if (archive->is_view_stale) {
        archive_publish(archive);
    }
    is_done = is_done || archive_expire_step(archive, now_ns) || rewrite_step(archive, now_ns);
    if (archive->is_view_stale) {
        archive_publish(archive);
    }
    return is_done ? 1 : 0;
}

void archive_stop(struct archive *archive)
{
    /* relaxed: says only that it is time; the join orders the rest. */
    atomic_store_explicit(&archive->stop, true, memory_order_relaxed);
    (void)park_wake(archive->options.park, true);
}

static bool is_stopping(const struct archive *archive)
{
    return atomic_load_explicit(&archive->stop, memory_order_relaxed); /* relaxed: as above */
}

/* The second look, after park_prepare: what the writer wakes us for. */
static bool has_news(const struct archive *archive)
{
    /* W2: looked at again by the next step, which does the work. */
    uint64_t active = atomic_load_explicit(&archive->status->active_segment, memory_order_acquire);
    return is_stopping(archive) || active > archive->active_seen;
}

static uint64_t sleep_ns(struct archive *archive)
{
    uint64_t now_ns = archive->io->ops->mono_ns(archive->io);
    uint64_t at_ns = archive->pace.at_ns;
    return at_ns > now_ns ? u64_min(at_ns - now_ns, ARCHIVE_SLEEP_NS) : ARCHIVE_SLEEP_NS;
}

int archive_agent_start(void *context, struct err *err)
{
    struct archive *archive = context;
    (void)err;
    if (archive->options.on_hurry != NULL) {
        archive->options.on_hurry(archive->options.on_hurry_context, false);
    }
    return 0;
}

static void keep_priority(struct archive *archive)
{
    if (archive->options.on_hurry != NULL && archive->hurries != archive->is_urgent) {
        archive->hurries = archive->is_urgent;
        archive->options.on_hurry(archive->options.on_hurry_context, archive->hurries);
    }
}

int archive_duty(void *context)
{
    struct archive *archive = context;
    ASSERT_ROLE(ROLE_ARCHIVE);
    if (is_stopping(archive)) {
        return 1;
    }
    bool is_done = archive_step(archive) != 0;
    keep_priority(archive);
    if (is_done) {
        return 0;
    }
    struct park *park = archive->options.park;
    struct timespec timeout = {.tv_nsec = (long)sleep_ns(archive)};
    park_prepare(park, PARK_ANY);
    if (!has_news(archive)) {
        struct pollfd poll_fd = {.fd = park->fd, .events = POLLIN};
        if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
            park_drain(park);
        }
    }
    park_cancel(park);
    return 0;
}
