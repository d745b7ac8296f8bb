/*
 * archive_expire: removes what retention says, and the raw files of compacted segments. The
 * archive's thread. Only unlinks, so it works with 0 bytes free.
 *
 * Happy path: the oldest segment leaves table and view, its files are unlinked, the directory is
 * synced; only then may the next one leave, so a crash brings back at most the newest of those that
 * left, and never leaves a hole. Readers that hold the view before read on through their open
 * files.
 *
 * Failure: an unlink or sync that fails is tried again after ARCHIVE_RETRY_NS, and nothing else
 * leaves before it has succeeded. The active segment and what is not complete never leaves; what a
 * sink still waits for only with unforwarded_drop. When the log is over retention_bytes and the
 * oldest complete segment may not leave, status->is_retention_stuck tells the writer to shed.
 */
#include "store/archive_work.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/logline.h"

#define LSN_UNKNOWN    UINT64_MAX
#define CLOCK_STEP_NS  (3600 * (int64_t)NS_S) /* what a clock may be corrected by at once */
#define CLOCK_DOUBT_NS (24 * 3600 * NS_S)

/* The last LSN of the oldest segment. */
static uint64_t oldest_last_lsn(const struct archive *archive)
{
    const struct view_segment *view = archive->segments[0].view;
    if (view != NULL && view->state != VIEW_ACTIVE) {
        return view->footer.last_lsn;
    }
    uint64_t next = archive_first_lsn(archive, 1);
    return next == 0 ? LSN_UNKNOWN : next - 1;
}

static bool is_over_bytes(const struct archive *archive)
{
    uint64_t limit = archive->options.retention_bytes;
    return limit != 0 && archive_stat(&archive->status->log_bytes) > limit;
}

/* By receipt time of the last batch. A segment without one is as old as what was before it. One that
 * cannot be read or sealed is at least as old as the first behind it that says when it was written:
 * it must not keep everything behind it for ever. */
/* The time that ages are measured with: the real clock, as long as it moves as the monotonic one does. A clock that jumps
 * ahead would expire the whole log at once; for CLOCK_DOUBT_NS nothing expires by the time that was jumped over, so that
 * somebody can set it right. What happened while the process was not running is believed. */
static int64_t age_clock_ns(struct archive *archive)
{
    struct archive_clock *clock = &archive->clock;
    int64_t real_ns = archive->io->ops->real_ns(archive->io);
    uint64_t mono_ns = archive->io->ops->mono_ns(archive->io);
    if (!clock->is_set) {
        *clock = (struct archive_clock){.is_set = true, .real_ns = real_ns, .mono_ns = mono_ns};
    }
    int64_t believed_ns = clock->real_ns + (int64_t)(mono_ns - clock->mono_ns);
    if (real_ns <= believed_ns + CLOCK_STEP_NS) {
        *clock = (struct archive_clock){.is_set = true, .real_ns = real_ns, .mono_ns = mono_ns};
        return real_ns;
    }
    if (clock->doubt_until_ns == 0) {
        clock->doubt_until_ns = mono_ns + CLOCK_DOUBT_NS;
        LOG(LOGLINE_WARNING, "clock_jump",
            "the clock has jumped ahead by %" PRId64
            " s: for a day nothing expires by the time between (store.retention_age)",
            (real_ns - believed_ns) / (int64_t)NS_S);
    }
    if (mono_ns >= clock->doubt_until_ns) {
        clock->is_set = false;
        return real_ns;
    }
    return believed_ns;
}

static bool is_over_age(struct archive *archive)
{
    uint64_t limit = archive->options.retention_age_ns;
    const struct view_segment *view = NULL;
    for (size_t i = 0; i < archive->count && limit != 0; i++) {
        view = archive->segments[i].view;
        if (view != NULL && view->state != VIEW_ACTIVE) {
            break;
        }
    }
    if (limit == 0 || view == NULL || view->state == VIEW_ACTIVE) {
        return false;
    }
    /* Unsigned: the difference of two times may need a bit more than they have. */
    int64_t now_ns = age_clock_ns(archive);
    int64_t built_ns = view->footer.built_max_ns;
    return now_ns > built_ns && (uint64_t)now_ns - (uint64_t)built_ns > limit;
}

static bool is_waited_for(const struct archive *archive, uint64_t last_lsn)
{
    return !archive->options.unforwarded_drop &&
           last_lsn >= archive_stat(&archive->status->retain_lsn);
}

/* May the oldest segment hold commands that the agent-run database does not have? What is known of it is a
 * moment old, so only a segment that does hold commands is worth shedding for. */
static bool is_unapplied(const struct archive *archive, uint64_t last_lsn, bool *holds_runs)
{
    const struct view_segment *view = archive->segments[0].view;
    bool is_known = view != NULL && view->state != VIEW_ACTIVE;
    *holds_runs = is_known && (view->footer.kinds & (UINT32_C(1) << RECORD_RUN)) != 0;
    return (*holds_runs || !is_known) && last_lsn >= archive_stat(&archive->status->unapplied_lsn);
}

static void tell_stuck(struct archive *archive, bool is_stuck)
{
    /* relaxed: the writer sheds or stops shedding one pass later. */
    atomic_store_explicit(&archive->status->is_retention_stuck, is_stuck, memory_order_relaxed);
}

static void count_leaving(struct archive *archive, uint64_t last_lsn)
{
    struct store_status *status = archive->status;
    const struct archive_segment *segment = &archive->segments[0];
    uint64_t first_lsn = archive_first_lsn(archive, 0);
    uint64_t records = first_lsn == 0 || last_lsn < first_lsn ? 0 : last_lsn - first_lsn + 1;
    uint64_t retain_lsn = archive_stat(&status->retain_lsn);
    archive_stat_add(&status->expired_segments, 1);
    archive_stat_add(&status->expired_records, records);
    archive_stat_add(&status->expired_bytes, segment->bytes + segment->twin_bytes);
    if (last_lsn >= retain_lsn && records != 0) {
        archive_stat_add(&status->expired_unforwarded,
                         last_lsn - u64_max(first_lsn, retain_lsn) + 1);
    }
}

/* Out of the table; the files follow. */
static void begin_leaving(struct archive *archive, uint64_t last_lsn)
{
    struct archive_expire *expire = &archive->expire;
    archive_seal_drop(archive, archive->segments[0].id);
    archive_compact_drop(archive, archive->segments[0].id);
    count_leaving(archive, last_lsn);
    expire->leaving = archive->segments[0];
    expire->is_leaving = true;
    archive->count--;
    for (size_t i = 0; i < archive->count; i++) {
        archive->segments[i] = archive->segments[i + 1];
    }
    if (expire->leaving.view != NULL) {
        view_segment_give(expire->leaving.view);
        expire->leaving.view = NULL;
    }
    archive_publish(archive);
}

static int unlink_any(struct archive *archive, const char *name)
{
    int r = archive->io->ops->unlink(archive->io, name);
    return r == -ENOENT ? 0 : r;
}

static bool finish_leaving(struct archive *archive, uint64_t now_ns)
{
    struct archive_expire *expire = &archive->expire;
    uint64_t id = expire->leaving.id;
    if (now_ns < expire->retry_at_ns) {
        tell_stuck(archive, is_over_bytes(archive));
        return false;
    }
    char raw[SEGMENT_NAME_BYTES];
    char compacted[SEGMENT_NAME_BYTES];
    segment_name(raw, id);
    compacted_name(compacted, id);
    int r = unlink_any(archive, compacted);
    r = r < 0 ? r : unlink_any(archive, raw);
    r = r < 0 ? r : archive->io->ops->sync_dir(archive->io, SEGMENT_DIR);
    if (r < 0) {
        char what[64];
        struct err err = {0};
        (void)snprintf(what, sizeof what, "expire segment %" PRIu64, id);
        (void)err_set(&err, r, "%s", err_name(r));
        expire->retry_at_ns = archive_failed(archive, now_ns, what, &err);
        return true;
    }
    uint64_t bytes = expire->leaving.bytes + expire->leaving.twin_bytes;
    archive_stat_add(&archive->status->log_bytes, 0 - bytes);
    *expire = (struct archive_expire){0};
    return true;
}

bool archive_expire_step(struct archive *archive, uint64_t now_ns)
{
    if (archive->expire.is_leaving) {
        return finish_leaving(archive, now_ns);
    }
    bool is_any = archive->count > 1 && archive->segments[0].id < archive_complete_below(archive);
    uint64_t last_lsn = is_any ? oldest_last_lsn(archive) : LSN_UNKNOWN;
    bool is_over = is_over_bytes(archive);
    /* Without a complete segment there is nothing that retention could wait for: the log is the
     * active segment and its spares, and must go on. */
    bool is_known = is_any && last_lsn != LSN_UNKNOWN;
    bool holds_runs = false;
    bool is_held = is_known && is_waited_for(archive, last_lsn);
    bool is_behind = is_known && is_unapplied(archive, last_lsn, &holds_runs);
    tell_stuck(archive, is_over && (is_held || (is_behind && holds_runs)));
    archive->is_urgent = is_over && is_known && !is_held && !is_behind;
    if (!is_known || is_held || is_behind || !(is_over || is_over_age(archive))) {
        return false;
    }
    begin_leaving(archive, last_lsn);
    return true;
}

/* So that a power cut cannot take back what the raw file is removed for. */
static int sync_compacted(struct archive *archive, struct archive_segment *segment)
{
    struct file_io *io = archive->io;
    if (!segment->must_sync) {
        return 0;
    }
    char name[SEGMENT_NAME_BYTES];
    struct file file;
    compacted_name(name, segment->id);
    int r = io->ops->open(io, name, 0, &file);
    if (r < 0) {
        return r;
    }
    r = io->ops->sync(io, file);
    io->ops->close(io, file);
    r = r < 0 ? r : io->ops->sync_dir(io, SEGMENT_DIR);
    segment->must_sync = r < 0;
    return r;
}

bool archive_twins_step(struct archive *archive, uint64_t now_ns)
{
    struct archive_compact *compact = &archive->compact;
    for (size_t i = 0; i < archive->count && now_ns >= compact->twin_retry_at_ns; i++) {
        struct archive_segment *segment = &archive->segments[i];
        if (!segment->has_twin) {
            continue;
        }
        char name[SEGMENT_NAME_BYTES];
        segment_name(name, segment->id);
        int r = sync_compacted(archive, segment);
        r = r < 0 ? r : unlink_any(archive, name);
        r = r < 0 ? r : archive->io->ops->sync_dir(archive->io, SEGMENT_DIR);
        if (r < 0) {
            struct err err = {0};
            (void)err_set(&err, r, "%s: %s", name, err_name(r));
            compact->twin_retry_at_ns =
                archive_failed(archive, now_ns, "remove a compacted segment's raw file", &err);
            return true;
        }
        archive_stat_add(&archive->status->log_bytes, 0 - segment->twin_bytes);
        segment->has_twin = false;
        segment->twin_bytes = 0;
        return true;
    }
    return false;
}
