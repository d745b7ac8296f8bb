/*
 * replay: see replay.h. A small forwarder for one sink: the pass is that of forwarder.c, the end is known.
 */
#include "forward/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery.h"
#include "forward/forward_db.h"
#include "forward/protocol.h"
#include "forward/replay_job.h"
#include "forward/transport.h"
#include "store/digest.h"

#define LOOK_NS      (50 * NS_MS)
#define LSN_MAX      ((uint64_t)INT64_MAX) /* of SQLite's integers */
#define FILTER_BYTES (REPLAY_PARAMETERS_MAX + 64)

struct replay {
    struct replay_plan plan;
    struct replay_log *log;
    struct replay_range range;
    int lock_fd;
    struct forward_db *db;
    struct transport *transport;
    struct delivery *delivery;
    struct sink_status *status;
    bool is_resumed;
    bool is_done; /* and written down */
    uint64_t stop_at_ns;
    uint64_t bytes; /* about, of the range */
};

/* ---- what the range is ---- */

/* The range as of now: an open end is the end of the log. Empty: lsn_min > lsn_max. */
static struct replay_range range_of(const struct replay_plan *plan, const struct replay_log *log)
{
    struct replay_range range = {
        .lsn_min = u64_max(u64_min(plan->lsn_min, LSN_MAX), replay_log_begin(log)),
        .lsn_max = u64_min(plan->lsn_max, replay_log_end(log)),
        .time_min_ns = plan->time_min_ns,
        .time_max_ns = plan->time_max_ns,
    };
    bool takes_segments = protocol_of(plan->sink->type)->takes_segments;
    if (takes_segments && range.lsn_min <= range.lsn_max &&
        !replay_log_segments(log, plan->compacts, &range.lsn_min, &range.lsn_max)) {
        range.lsn_max = 0;
    }
    return range;
}

static bool is_filtered(const struct replay_plan *plan, const struct replay_range *range)
{
    return plan->filter_text[0] != 0 || range->time_min_ns != INT64_MIN ||
           range->time_max_ns != INT64_MAX;
}

/* Of what decides which records of a range pass; 0: all. */
static uint64_t filter_digest(const struct replay_plan *plan, const struct replay_range *range)
{
    if (!is_filtered(plan, range)) {
        return 0;
    }
    char *text = mem_alloc(FILTER_BYTES);
    int n = snprintf(text, FILTER_BYTES, "%" PRId64 " %" PRId64 " %.4000s", range->time_min_ns,
                     range->time_max_ns, plan->filter_text);
    uint64_t digest = digest_64((struct slice){(const uint8_t *)text, (size_t)n}, 0);
    mem_free(text);
    return digest == 0 ? 1 : digest;
}

static struct scan_filter filter_of(const struct replay_plan *plan,
                                    const struct replay_range *range)
{
    struct scan_filter filter = plan->filter;
    filter.time_min_ns = range->time_min_ns;
    filter.time_max_ns = range->time_max_ns;
    return filter;
}

static int check_plan(const struct replay_plan *plan, struct err *err)
{
    ASSERT(replay_job_is_name(plan->job));
    bool has_filter = plan->filter_text[0] != 0 || plan->time_min_ns != INT64_MIN ||
                      plan->time_max_ns != INT64_MAX;
    if (protocol_of(plan->sink->type)->takes_segments && has_filter) {
        return err_set(err, ERR_UNSUPPORTED,
                       "sink %s takes whole segment files: only a range of LSNs can be replayed",
                       plan->sink->name);
    }
    return protocol_check(plan->sink, err);
}

/* ---- dry run ---- */

static bool on_counted(void *context, const struct scan_record *shown)
{
    struct replay_count *count = context;
    const struct record *record = &shown->record;
    count->records++;
    count->payload_bytes += record->payload.bytes;
    if ((unsigned)record->kind <= RECORD_KIND_MAX) {
        count->by_kind[record->kind]++;
    }
    if (record->event_time_ns < count->oldest_ns) {
        count->oldest_ns = record->event_time_ns;
    }
    if (record->event_time_ns > count->newest_ns) {
        count->newest_ns = record->event_time_ns;
    }
    return true;
}

struct counting {
    const struct replay_plan *plan;
    struct replay_count *count;
};

static bool count_take(void *context, const struct scan_record *shown)
{
    return on_counted(((struct counting *)context)->count, shown);
}

static bool count_match(void *context, const struct scan_record *shown)
{
    const struct replay_plan *plan = ((struct counting *)context)->plan;
    return plan->match == NULL || plan->match(plan->match_context, shown);
}

/* The kinds that the sink takes and the filter lets through; never 0. */
static uint32_t kinds_of(const struct replay_plan *plan)
{
    const struct protocol *protocol = protocol_of(plan->sink->type);
    uint32_t kinds = plan->sink->kinds != 0 ? plan->sink->kinds : UINT32_MAX;
    kinds &= plan->filter.kinds != 0 ? plan->filter.kinds : UINT32_MAX;
    kinds &= protocol->kinds;
    return kinds != 0 ? kinds : 1u; /* kind 0 does not exist */
}

int replay_count(const struct replay_plan *plan, struct replay_log *log, struct replay_count *count,
                 void (*on_bytes)(void *context, uint64_t done, uint64_t all), void *context,
                 struct err *err)
{
    struct replay_range range = range_of(plan, log);
    struct counting counting = {plan, count};
    *count = (struct replay_count){.first_lsn = range.lsn_min,
                                   .last_lsn = range.lsn_max,
                                   .oldest_ns = INT64_MAX,
                                   .newest_ns = INT64_MIN};
    int r = check_plan(plan, err);
    if (r < 0 || range.lsn_min > range.lsn_max) {
        return r;
    }
    struct scan_source source = replay_log_source(log);
    struct scan_options options = {.filter = filter_of(plan, &range),
                                   .match = count_match,
                                   .take = count_take,
                                   .context = &counting};
    options.filter.kinds = kinds_of(plan);
    options.filter.lsn_min = range.lsn_min;
    options.filter.lsn_max = range.lsn_max;
    uint64_t all = replay_log_bytes(log, range.lsn_min, range.lsn_max);
    struct scan *scan = scan_new(&source, &options);
    while (r != SCAN_END && (r >= 0 || r == ERR_CORRUPT)) { /* bounded by the log */
        r = scan_step(scan, err);
        count->damaged += r == ERR_CORRUPT;
        replay_log_refresh(log, clock_mono_ns());
        if (on_bytes != NULL) {
            on_bytes(context, u64_min(scan_bytes(scan) + scan_skipped_bytes(scan), all), all);
        }
    }
    scan_free(scan);
    return r == SCAN_END ? 0 : r;
}

/* ---- open ---- */

static int open_db(struct replay *replay, const char *data_dir, struct err *err)
{
    enum forward_db_found found = FORWARD_DB_GOOD;
    char path[REPLAY_PATH_BYTES];
    int r = replay_job_path(path, data_dir, replay->plan.job, ".sqlite", err);
    r = r == 0 ? forward_db_open(&replay->db, path, replay->log->node, &found, err) : r;
    if (r == 0 && found == FORWARD_DB_DAMAGED) {
        LOG(LOGLINE_ERROR, "replay_db",
            "%s was damaged or another node's: kept beside it as .damaged; the job begins anew",
            path);
    }
    return r;
}

static int make_job(struct replay *replay, struct err *err)
{
    replay->range = range_of(&replay->plan, replay->log);
    int r = forward_db_begin(replay->db, err);
    r = r == 0 ? replay_job_write(replay->db, &replay->plan, &replay->range, err) : r;
    if (r < 0) {
        forward_db_rollback(replay->db);
        return r;
    }
    return forward_db_commit(replay->db, err);
}

static int open_job(struct replay *replay, struct err *err)
{
    const struct replay_plan *plan = &replay->plan;
    int r = replay_job_read(replay->db, plan->job, plan->parameters, &replay->range, err);
    if (r == 0) {
        return make_job(replay, err);
    }
    if (r < 0) {
        return r;
    }
    replay->is_resumed = true;
    replay->is_done = replay->range.is_done;
    if (replay->range.lsn_max > replay_log_end(replay->log)) {
        return err_set(err, ERR_LIMIT,
                       "job %s replays up to LSN %" PRIu64 ", the log ends with %" PRIu64
                       ": it was put back from a backup, or a crash has cut it; cancel the job",
                       plan->job, replay->range.lsn_max, replay_log_end(replay->log));
    }
    return 0;
}

static uint64_t seed_make(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        seed = clock_mono_ns() ^ (uint64_t)clock_real_ns();
    }
    return seed;
}

static int open_delivery(struct replay *replay, struct err *err)
{
    const struct replay_plan *plan = &replay->plan;
    const struct replay_range *range = &replay->range;
    struct delivery_options options = {
        .sink = plan->sink,
        .node = replay->log->node,
        .lineage = replay->log->lineage,
        .source = replay_log_source(replay->log),
        .status = replay->log->status,
        .db = replay->db,
        .transport = replay->transport,
        .out = replay->status,
        .seed = seed_make(),
        .lsn_min = range->lsn_min,
        .lsn_max = range->lsn_max,
        .match = plan->match,
        .match_context = plan->match_context,
        .filter = filter_of(plan, range),
        .filter_digest = filter_digest(plan, range),
        .is_replay = true,
        .compacts = plan->compacts,
    };
    return delivery_open(&replay->delivery, &options, err);
}

int replay_open(struct replay **out, const char *data_dir, const struct replay_plan *plan,
                struct replay_log *log, struct err *err)
{
    int r = check_plan(plan, err);
    if (r < 0) {
        return r;
    }
    struct replay *replay = mem_alloc(sizeof *replay);
    replay->plan = *plan;
    replay->log = log;
    replay->status = mem_alloc(sizeof *replay->status);
    replay->lock_fd = replay_job_lock(data_dir, plan->job, true, err);
    r = replay->lock_fd < 0 ? replay->lock_fd : 0;
    r = r == 0 ? open_db(replay, data_dir, err) : r;
    r = r == 0 ? open_job(replay, err) : r;
    r = r == 0 ? transport_open(&replay->transport, plan->sink, 1, err) : r;
    r = r == 0 ? open_delivery(replay, err) : r;
    if (r < 0) {
        replay_close(replay);
        return r;
    }
    if (replay->range.lsn_min <= replay->range.lsn_max) {
        replay->bytes = replay_log_bytes(log, replay->range.lsn_min, replay->range.lsn_max);
    }
    *out = replay;
    return 0;
}

void replay_close(struct replay *replay)
{
    if (replay == NULL) {
        return;
    }
    transport_close(replay->transport); /* it borrows from batches */
    delivery_close(replay->delivery);
    forward_db_close(replay->db);
    replay_job_unlock(replay->lock_fd);
    mem_free(replay->status);
    mem_free(replay);
}

/* ---- the pass ---- */

/* state follows what the delivery says: finished is written down once, and taken back when something was re-queued. */
static int note_done(struct replay *replay, struct err *err)
{
    bool is_done = delivery_is_finished(replay->delivery);
    if (is_done == replay->is_done) {
        return 0;
    }
    int r = forward_db_begin(replay->db, err);
    r = r == 0 ? replay_job_set_done(replay->db, is_done, err) : r;
    r = r == 0 ? forward_db_commit(replay->db, err) : r;
    if (r < 0) {
        forward_db_rollback(replay->db);
        return r;
    }
    replay->is_done = is_done;
    return 0;
}

static int pass(struct replay *replay, struct err *err)
{
    bool has_changed = false;
    int r = forward_db_begin(replay->db, err);
    r = r == 0 ? delivery_collect(replay->delivery, clock_mono_ns(), &has_changed, err) : r;
    r = r == 0 ? forward_db_commit(replay->db, err) : r;
    if (r < 0) {
        forward_db_rollback(replay->db);
        delivery_after_rollback(replay->delivery, clock_mono_ns());
        return r;
    }
    delivery_after_commit(replay->delivery, clock_mono_ns());
    return note_done(replay, err);
}

static bool is_stopped(const struct replay *replay, uint64_t now_ns)
{
    return replay->stop_at_ns != 0 &&
           (delivery_is_idle(replay->delivery) || now_ns >= replay->stop_at_ns);
}

int replay_step(struct replay *replay, struct err *err)
{
    int r = pass(replay, err);
    uint64_t now_ns = clock_mono_ns();
    if ((r == 0 && replay->is_done) || is_stopped(replay, now_ns)) {
        return 1;
    }
    replay_log_refresh(replay->log, now_ns);
    uint64_t due_ns = u64_min(delivery_due_ns(replay->delivery), now_ns + LOOK_NS);
    uint64_t wait_ns = due_ns <= now_ns ? 0 : due_ns - now_ns;
    transport_run(replay->transport, (unsigned)((wait_ns + NS_MS - 1) / NS_MS));
    return r;
}

void replay_stop(struct replay *replay)
{
    if (replay->stop_at_ns == 0) {
        replay->stop_at_ns = clock_mono_ns() + REPLAY_STOP_NS;
        delivery_stop(replay->delivery);
    }
}

bool replay_is_finished(const struct replay *replay)
{
    return replay->is_done && delivery_is_finished(replay->delivery);
}

bool replay_is_resumed(const struct replay *replay)
{
    return replay->is_resumed;
}

void replay_look(struct replay *replay, struct replay_progress *progress)
{
    const struct replay_range *range = &replay->range;
    *progress = (struct replay_progress){.first_lsn = range->lsn_min, .last_lsn = range->lsn_max};
    sink_status_read(replay->status, &progress->picture);
    if (range->lsn_min > range->lsn_max) {
        return;
    }
    uint64_t pending = sink_pending(&progress->picture);
    progress->all_lsns = range->lsn_max + 1 - range->lsn_min;
    progress->done_lsns = progress->all_lsns - u64_min(pending, progress->all_lsns);
    double part = (double)progress->done_lsns / (double)progress->all_lsns;
    progress->all_bytes = replay->bytes;
    progress->done_bytes = (uint64_t)((double)replay->bytes * part);
}
