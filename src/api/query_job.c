#include "api/query_job.h"

#include <string.h>

#include "api/tail.h"
#include "core/logline.h"
#include "store/store.h"

/* A page that is full looks for one more match, so that next_cursor says null at the end of the
 * data; but not for longer than this many blocks. */
#define PAGE_LOOKS_MAX 8u

/* ---- sending ---- */

static bool job_is_cancelled(const struct query_job *job)
{
    /* relaxed: seen a step late, it costs a step. */
    return atomic_load_explicit(&job->is_cancelled, memory_order_relaxed);
}

static bool job_reply(struct query_job *job, uint32_t type, struct query_reply reply,
                      struct slice bytes)
{
    uint64_t frame_bytes = sizeof reply + bytes.bytes;
    uint8_t *to = spsc_claim(job->run.replies, frame_bytes);
    if (to == NULL) {
        return false;
    }
    reply.index = job->index;
    reply.generation = job->generation;
    memcpy(to, &reply, sizeof reply);
    if (bytes.bytes != 0) {
        memcpy(to + sizeof reply, bytes.data, bytes.bytes);
    }
    spsc_commit(job->run.replies, type, frame_bytes);
    return true;
}

static uint64_t job_credit(const struct query_job *job)
{
    /* relaxed: a number that licences nothing but more bytes in the ring, which has its own edges;
     * an old one only waits for the next wake-up. */
    uint64_t consumed = atomic_load_explicit(&job->consumed, memory_order_relaxed);
    return QUERY_UNSENT - (job->run.sent - consumed);
}

/* A piece of what waits. False: no credit, or no room in the ring. */
static bool job_send_piece(struct query_job *job)
{
    struct query_run *run = &job->run;
    size_t rest = run->out.bytes - run->out_at;
    size_t bytes = u64_min(u64_min(rest, QUERY_REPLY_BYTES_MAX), job_credit(job));
    if (bytes < rest && bytes < QUERY_REPLY_BYTES_MIN) {
        run->was_blocked = true;
        return false;
    }
    struct query_reply reply = {.status = run->status, .is_boundary = bytes == rest};
    if (!job_reply(job, REPLY_BYTES, reply, (struct slice){run->out.data + run->out_at, bytes})) {
        return false;
    }
    run->out_at += bytes;
    run->sent += bytes;
    return true;
}

/* True when all is sent. */
static bool job_send(struct query_job *job)
{
    struct query_run *run = &job->run;
    while (run->out_at < run->out.bytes) { /* bound: the credit */
        if (!job_send_piece(job)) {
            return false;
        }
    }
    query_text_reset(&run->out);
    run->out_at = 0;
    return true;
}

/* ---- life ---- */

static void job_count(struct query_job *job)
{
    struct query_run *run = &job->run;
    struct query_counts *counts = run->source->counts;
    uint64_t looked = scan_bytes(run->scan);
    uint64_t skipped = scan_skipped_bytes(run->scan);
    /* relaxed, both: statistics. */
    atomic_fetch_add_explicit(&counts->scanned_bytes, looked - run->looked_from,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&counts->skipped_bytes, skipped - run->skipped_from,
                              memory_order_relaxed);
    run->looked_from = looked;
    run->skipped_from = skipped;
}

static bool job_on_match(void *context, const struct scan_record *found)
{
    struct query_job *job = context;
    return query_matches(&job->run.matcher, found);
}

void query_job_scan(struct query_job *job, scan_take_fn take, uint64_t lsn_min, uint64_t lsn_max,
                    bool is_descending)
{
    struct query_run *run = &job->run;
    struct scan_options options = {
        .is_descending = is_descending, .match = job_on_match, .take = take, .context = job};
    if (run->scan != NULL) {
        run->bytes_before += scan_bytes(run->scan);
        scan_free(run->scan);
    }
    query_params_filter(&job->params, &options.filter);
    options.filter.lsn_min = u64_max(options.filter.lsn_min, lsn_min);
    options.filter.lsn_max = u64_min(options.filter.lsn_max, lsn_max);
    run->scan = scan_new(&run->source->scan, &options);
    run->looked_from = 0;
    run->skipped_from = 0;
}

int query_job_scan_step(struct query_job *job, struct err *err)
{
    int result = scan_step(job->run.scan, err);
    job_count(job);
    if (result == ERR_CORRUPT) {
        job->run.damaged++;
        LOG(LOGLINE_WARNING, "query_damage", "left out of an answer: %s", err->text);
    }
    return result;
}

void query_job_finish(struct query_job *job, uint32_t end_status)
{
    job->run.is_finished = true;
    job->run.end_status = end_status;
}

void query_job_drop(struct query_job *job)
{
    struct query_run *run = &job->run;
    if (run->scan != NULL) {
        scan_free(run->scan);
    }
    query_text_free(&run->out);
    *run = (struct query_run){0};
}

/* ---- pages ---- */

static bool page_is_full(const struct query_job *job)
{
    return job->run.records == job->params.limit;
}

static bool page_on_take(void *context, const struct scan_record *found)
{
    struct query_job *job = context;
    struct query_run *run = &job->run;
    if (page_is_full(job)) {
        run->has_more = true;
        return false;
    }
    query_page_record(&run->out, found, run->records == 0);
    run->records++;
    run->last_lsn = found->lsn;
    return run->out.bytes < QUERY_STEP_BYTES;
}

/* Where the page after an unfinished one begins: the LSN before which it stands, 0 when nothing was
 * looked at yet. */
static uint64_t page_stood_at(const struct query_job *job)
{
    const struct query_run *run = &job->run;
    if (page_is_full(job)) {
        return run->last_lsn;
    }
    uint64_t position = scan_position(run->scan);
    return job->params.is_ascending ? position - (position != 0) : position + 1;
}

static void page_close(struct query_job *job, bool is_at_end)
{
    struct query_run *run = &job->run;
    char cursor[QUERY_CURSOR_CHARS];
    struct query_page_end end = {.scanned_bytes = run->bytes_before,
                                 .damaged_blocks = run->damaged};
    if (run->scan != NULL) {
        end.scanned_bytes += scan_bytes(run->scan);
    }
    uint64_t lsn = is_at_end ? 0 : page_stood_at(job);
    if (lsn != 0) {
        end.next_cursor.data = (const uint8_t *)cursor;
        end.next_cursor.bytes = query_cursor_put(cursor, sizeof cursor, &job->params, lsn);
    }
    query_page_close(&run->out, &end);
    run->whole = run->is_streaming ? 0 : 200;
    query_job_finish(job, 0);
}

/* The disk cannot be read. */
static void page_fail(struct query_job *job, const struct err *err)
{
    struct query_run *run = &job->run;
    LOG(LOGLINE_ERROR, "query_failed", "%s", err->text);
    if (run->is_streaming) {
        query_job_finish(job, 1);
        return;
    }
    query_text_reset(&run->out);
    query_text_put(&run->out,
                   SLICE_LITERAL("{\"detail\":\"The log could not be read; the server's own log "
                                 "says why\"}"));
    run->whole = 503;
    query_job_finish(job, 0);
}

static bool page_is_late(const struct query_job *job, uint64_t now_ns)
{
    /* relaxed: a flag that is only ever set. */
    return now_ns >= job->deadline_ns || atomic_load_explicit(&job->must_end, memory_order_relaxed);
}

static void page_step(struct query_job *job, uint64_t now_ns)
{
    struct query_run *run = &job->run;
    struct err err = {0};
    if (run->end_lsn == 0) {
        page_close(job, true);
        return;
    }
    bool was_full = page_is_full(job);
    int result = query_job_scan_step(job, &err);
    if (result < 0 && result != ERR_CORRUPT) {
        page_fail(job, &err);
        return;
    }
    run->looks += was_full ? 1 : 0;
    bool is_enough = run->has_more || (page_is_full(job) && run->looks >= PAGE_LOOKS_MAX);
    if (result == SCAN_END) {
        page_close(job, true);
    } else if (is_enough || (page_is_late(job, now_ns) && page_stood_at(job) != 0)) {
        page_close(job, false);
    }
    run->is_streaming = run->is_streaming || run->out.bytes > QUERY_REPLY_BYTES_MAX;
    run->whole = run->is_streaming ? 0 : run->whole;
}

/* ---- lines ---- */

static bool lines_on_take(void *context, const struct scan_record *found)
{
    struct query_job *job = context;
    struct query_run *run = &job->run;
    query_line_record(&run->out, found);
    run->records++;
    return run->out.bytes < QUERY_STEP_BYTES &&
           (!job->params.has_limit || run->records < job->params.limit);
}

static void lines_step(struct query_job *job)
{
    struct query_run *run = &job->run;
    struct err err = {0};
    int result = run->end_lsn == 0 ? SCAN_END : query_job_scan_step(job, &err);
    if (result < 0 && result != ERR_CORRUPT) {
        LOG(LOGLINE_ERROR, "query_failed", "%s", err.text);
        query_job_finish(job, 1);
        return;
    }
    if (result == SCAN_END || (job->params.has_limit && run->records >= job->params.limit)) {
        if (run->damaged != 0) {
            query_line_damage(&run->out, run->damaged);
        }
        query_job_finish(job, 0);
    }
}

/* ---- calls ---- */

static void call_step(struct query_job *job)
{
    struct query_run *run = &job->run;
    unsigned status = job->call.answer(&job->call, &run->out);
    run->is_streaming = run->out.bytes > QUERY_REPLY_BYTES_MAX; /* it comes in pieces */
    run->status = status;
    run->whole = run->is_streaming ? 0 : status;
    query_job_finish(job, 0);
}

/* ---- the worker's door ---- */

void query_job_begin(struct query_job *job, const struct query_source *source, struct spsc *replies)
{
    struct query_run *run = &job->run;
    ASSERT(run->replies == NULL);
    *run = (struct query_run){.source = source, .replies = replies};
    run->matcher = (struct query_matcher){.params = &job->params, .scratch = source->scratch};
    /* W1 (acquire end): everything up to it can be read. */
    run->end_lsn = atomic_load_explicit(&source->status->durable_lsn, memory_order_acquire);
    if (job->form == QUERY_TAIL) {
        tail_begin(job);
        return;
    }
    bool is_page = job->form == QUERY_PAGE;
    if (is_page) {
        query_page_open(&run->out);
    }
    if (run->end_lsn != 0 && job->form != QUERY_CALL) {
        query_job_scan(job, is_page ? page_on_take : lines_on_take, 0, run->end_lsn,
                       !job->params.is_ascending);
    }
}

static enum query_stepped job_end(struct query_job *job, uint32_t status)
{
    struct query_run *run = &job->run;
    struct query_reply end = {.status = status};
    if (!job_reply(job, REPLY_END, end, (struct slice){0})) {
        return QUERY_IDLE;
    }
    /* relaxed: a statistic. */
    atomic_fetch_add_explicit(&run->source->counts->records, run->records, memory_order_relaxed);
    query_job_drop(job);
    return QUERY_ENDED;
}

/* Whatever is in out goes first. */
static enum query_stepped job_step_finished(struct query_job *job)
{
    struct query_run *run = &job->run;
    struct slice body = {run->out.data, run->out.bytes};
    struct query_reply whole = {.status = run->whole};
    if (run->whole != 0) {
        if (!job_reply(job, REPLY_WHOLE, whole, body)) {
            return QUERY_IDLE;
        }
        run->whole = 0;
        query_text_reset(&run->out);
    }
    return job_send(job) ? job_end(job, run->end_status) : QUERY_IDLE;
}

/* In the first moments of a fresh data directory records may be durable before the archive has
 * published the first file: whatever is not in memory then cannot be found yet. */
static bool job_awaits_view(struct query_job *job)
{
    struct query_run *run = &job->run;
    if (!run->has_view) {
        struct log_view *view = log_view_take(run->source->scan.views);
        run->has_view = view->count != 0;
        log_view_give(run->source->scan.views, view);
    }
    return run->end_lsn != 0 && !run->has_view;
}

static bool job_produce(struct query_job *job, uint64_t now_ns)
{
    if (job->form == QUERY_TAIL) {
        return tail_step(job);
    }
    if (job->form == QUERY_CALL) {
        call_step(job);
        return true;
    }
    if (job_awaits_view(job) && now_ns < job->deadline_ns) {
        return false; /* the worker looks again within its SLEEP_MS */
    }
    if (job->form == QUERY_PAGE) {
        page_step(job, now_ns);
    } else {
        lines_step(job);
    }
    return true;
}

enum query_stepped query_job_step(struct query_job *job, uint64_t now_ns)
{
    struct query_run *run = &job->run;
    if (job_is_cancelled(job)) {
        return job_end(job, 0);
    }
    if (run->is_finished) {
        return job_step_finished(job);
    }
    bool is_held = job->form == QUERY_PAGE && !run->is_streaming;
    if (!is_held && !job_send(job)) {
        return QUERY_IDLE;
    }
    if (!job_produce(job, now_ns)) {
        return QUERY_IDLE;
    }
    is_held = job->form == QUERY_PAGE && !run->is_streaming;
    if (!is_held && !run->is_finished) {
        (void)job_send(job); /* what it can now; the rest with the next step */
    }
    return QUERY_WORKED;
}
