#include "api/query_side.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "api/answer.h"
#include "api/shard.h"
#include "api/tail.h"
#include "core/mem.h"

#define TICK_NS (250 * NS_MS)

void query_side_init(struct query_side *side, unsigned jobs_max)
{
    side->jobs = mem_map(jobs_max * sizeof *side->jobs); /* charged when used */
    ASSERT(side->jobs != NULL);
    side->jobs_max = jobs_max;
    side->free = mem_alloc_array(jobs_max, sizeof *side->free);
    side->used = mem_alloc_array(jobs_max, sizeof *side->used);
    side->owing = mem_alloc_array(jobs_max, sizeof *side->owing);
    for (uint32_t i = 0; i < jobs_max; i++) {
        side->free[i] = jobs_max - 1 - i;
    }
    side->free_count = jobs_max;
}

void query_side_free(struct query_side *side)
{
    if (side->jobs == NULL) {
        return;
    }
    for (uint32_t i = 0; i < side->used_count; i++) {
        tail_conn_free(&side->jobs[side->used[i]]);
    }
    mem_unmap(side->jobs, side->jobs_max * sizeof *side->jobs);
    mem_free(side->free);
    mem_free(side->used);
    mem_free(side->owing);
}

/* ---- slots ---- */

static unsigned side_least_loaded(const struct query_side *side)
{
    unsigned best = 0;
    for (unsigned i = 1; i < side->worker_count; i++) {
        best = side->loads[i] < side->loads[best] ? i : best;
    }
    return best;
}

struct query_job *query_side_look(struct query_side *side)
{
    unsigned worker = side_least_loaded(side);
    if (side->free_count == 0 ||
        spsc_claim(&side->links[worker]->requests, sizeof(struct query_request)) == NULL) {
        return NULL;
    }
    struct query_job *job = &side->jobs[side->free[side->free_count - 1]];
    ASSERT(job->slot == SLOT_FREE);
    job->index = side->free[side->free_count - 1];
    job->worker = worker;
    return job;
}

void query_side_hand(struct query_side *side, struct query_job *job, enum query_slot slot)
{
    struct spsc *requests = &side->links[job->worker]->requests;
    struct query_request request = {job->index, job->generation};
    side->free_count--;
    job->used_at = side->used_count;
    side->used[side->used_count++] = job->index;
    job->slot = slot;
    job->put_bytes = 0;
    job->is_worker_done = false;
    /* relaxed, all: handed over with the request. */
    atomic_store_explicit(&job->consumed, 0, memory_order_relaxed);
    atomic_store_explicit(&job->is_cancelled, false, memory_order_relaxed);
    atomic_store_explicit(&job->must_end, false, memory_order_relaxed);
    uint8_t *to = spsc_claim(requests, sizeof request);
    ASSERT(to != NULL); /* query_side_look saw it, and nobody else writes */
    memcpy(to, &request, sizeof request);
    spsc_commit(requests, REQUEST_JOB, sizeof request);
    side->loads[job->worker]++;
    side->is_dirty[job->worker] = true;
    QUERY_COUNT(side, started, 1);
    QUERY_COUNT(side, active, 1);
    QUERY_COUNT(side, tails, job->form == QUERY_TAIL);
}

static void side_release(struct query_side *side, struct query_job *job)
{
    if (job->form == QUERY_CALL && job->call.release != NULL) {
        job->call.release(&job->call);
    }
    uint32_t last = side->used[--side->used_count];
    side->used[job->used_at] = last;
    side->jobs[last].used_at = job->used_at;
    side->loads[job->worker]--;
    job->slot = SLOT_FREE;
    job->generation++;
    side->free[side->free_count++] = job->index;
    QUERY_COUNT(side, finished, 1);
    QUERY_UNCOUNT(side, active);
    if (job->form == QUERY_TAIL) {
        QUERY_UNCOUNT(side, tails);
    }
}

static void side_cancel(struct query_side *side, struct query_job *job)
{
    /* relaxed: nothing is published with it; the worker's next step sees it. */
    atomic_store_explicit(&job->is_cancelled, true, memory_order_relaxed);
    side->is_dirty[job->worker] = true;
}

/* Its connection has nothing to do with it any more. */
static void side_leave(struct query_side *side, struct query_job *job)
{
    job->slot = SLOT_LEFT;
    if (job->form == QUERY_TAIL) {
        tail_conn_free(job);
    }
    if (job->is_worker_done) {
        side_release(side, job);
        return;
    }
    side_cancel(side, job);
}

static bool job_is_of(const struct query_job *job, struct conn_handle conn)
{
    return job->conn.index == conn.index && job->conn.generation == conn.generation &&
           (job->slot == SLOT_WAITING || job->slot == SLOT_STREAMING);
}

static struct query_job *side_find(const struct query_side *side, struct conn_handle conn)
{
    for (uint32_t i = 0; i < side->used_count; i++) {
        struct query_job *job = &side->jobs[side->used[i]];
        if (job_is_of(job, conn)) {
            return job;
        }
    }
    return NULL;
}

/* ---- streams ---- */

/* Ends the answer, unless the connection has ended first: closing it tells query_on_stream. */
static void job_end_stream(struct shard *shard, struct query_job *job, bool is_broken)
{
    struct conn_handle conn = job->conn;
    if (job->slot == SLOT_STREAMING) {
        side_leave(shard->query, job);
        server_stream_end(shard->server, conn, is_broken);
    }
}

/* True while the stream goes on. */
static bool job_put(struct shard *shard, struct query_job *job, struct slice bytes)
{
    struct query_side *side = shard->query;
    size_t room = server_stream_room(shard->server, job->conn);
    if (room < bytes.bytes || server_stream_put(shard->server, job->conn, bytes) < 0) {
        /* What the credit licences has room, so it has gone, or there is no memory. */
        job_end_stream(shard, job, true);
        return false;
    }
    job->put_bytes += bytes.bytes;
    if (!job->is_owing) {
        job->is_owing = true;
        side->owing[side->owing_count++] = job->index;
    }
    return true;
}

/* Control frames that may go, and the end when it has come. */
static void job_settle_tail(struct shard *shard, struct query_job *job)
{
    struct slice control = tail_conn_control(job);
    if (control.bytes != 0 && server_stream_room(shard->server, job->conn) >= control.bytes &&
        server_stream_put(shard->server, job->conn, control) == 0) {
        tail_conn_sent(job);
    }
    if (job->slot != SLOT_STREAMING) {
        return;
    }
    if (job->tail.is_closing && !job->tail.is_inside && !job->is_worker_done) {
        side_cancel(shard->query, job);
    }
    if (tail_conn_is_over(job, shard->now_ns)) {
        job_end_stream(shard, job, !job->tail.is_closed);
    }
}

static bool side_on_text(void *context, struct query_job *job, struct slice text)
{
    struct query_side *side = context;
    struct spsc *requests = &side->links[job->worker]->requests;
    struct query_request request = {job->index, job->generation};
    if (job->is_worker_done) {
        return true;
    }
    uint8_t *to = spsc_claim(requests, sizeof request + text.bytes);
    if (to == NULL) {
        return false;
    }
    memcpy(to, &request, sizeof request);
    if (text.bytes != 0) {
        memcpy(to + sizeof request, text.data, text.bytes);
    }
    spsc_commit(requests, REQUEST_MESSAGE, sizeof request + text.bytes);
    side->is_dirty[job->worker] = true;
    return true;
}

void query_on_stream(struct shard *shard, struct conn_handle conn, enum stream_event event,
                     struct slice data)
{
    struct query_side *side = shard->query;
    struct query_job *job = side_find(side, conn);
    if (job == NULL || job->slot != SLOT_STREAMING || event == STREAM_ROOM) {
        return; /* room is looked for every pass while bytes are owed */
    }
    if (event == STREAM_GONE) {
        QUERY_COUNT(side, cancelled, 1);
        side_leave(side, job);
        return;
    }
    struct tail_link link = {.on_text = side_on_text, .context = side, .now_ns = shard->now_ns};
    if (job->form == QUERY_TAIL) {
        tail_conn_feed(job, &link, data);
        job_settle_tail(shard, job);
    }
}

/* ---- what the workers say ---- */

static struct slice job_fields(const struct query_job *job, unsigned status)
{
    if (status == 503) {
        return SLICE_LITERAL("Retry-After: 1\r\n");
    }
    bool has_more = job->form == QUERY_CALL && job->call.fields != NULL;
    return has_more ? job->call.fields(&job->call, status) : (struct slice){0};
}

static void job_on_whole(struct shard *shard, struct query_job *job, unsigned status,
                         struct slice body)
{
    struct http_answer answer = {
        .status = status,
        .content_type = ANSWER_JSON,
        .extra = job_fields(job, status),
        .body = body,
    };
    if (job->slot == SLOT_WAITING) {
        (void)server_answer(shard->server, job->conn, &answer);
        side_leave(shard->query, job);
    }
}

/* The first piece of a large page. False: it goes no further. */
static bool job_begin_stream(struct shard *shard, struct query_job *job, unsigned status)
{
    struct http_answer answer = {
        .status = status, .content_type = ANSWER_JSON, .extra = job_fields(job, status)};
    if (server_stream_begin(shard->server, job->conn, &answer) < 0) {
        side_leave(shard->query, job); /* HEAD, or nobody is there */
        return false;
    }
    job->slot = SLOT_STREAMING;
    return true;
}

static void job_on_bytes(struct shard *shard, struct query_job *job,
                         const struct query_reply *reply, struct slice bytes)
{
    unsigned status = reply->status == 0 ? 200 : reply->status;
    if (job->slot == SLOT_WAITING && !job_begin_stream(shard, job, status)) {
        return;
    }
    bool is_tail = job->form == QUERY_TAIL;
    if (job->slot != SLOT_STREAMING || (is_tail && !tail_conn_takes(job)) ||
        !job_put(shard, job, bytes)) {
        return;
    }
    if (is_tail) {
        job->tail.is_inside = reply->is_boundary == 0;
        job_settle_tail(shard, job);
    }
}

static void job_on_end(struct shard *shard, struct query_job *job, unsigned status)
{
    struct query_side *side = shard->query;
    job->is_worker_done = true;
    if (job->slot == SLOT_LEFT) {
        side_release(side, job);
        return;
    }
    if (job->form == QUERY_TAIL) {
        job->tail.is_inside = false;
        tail_conn_close(job, (uint16_t)(status > 1 ? status : WEBSOCKET_INTERNAL),
                        "the log could not be read", shard->now_ns);
        job_settle_tail(shard, job);
        return;
    }
    ASSERT(job->slot == SLOT_STREAMING); /* a waiting page was answered before its end */
    job_end_stream(shard, job, status != 0);
}

static void side_on_reply(struct shard *shard, const struct spsc_frame *frame)
{
    struct query_reply reply;
    memcpy(&reply, frame->payload, sizeof reply);
    struct query_job *job = &shard->query->jobs[reply.index];
    struct slice bytes = {frame->payload + sizeof reply, frame->bytes - sizeof reply};
    ASSERT(job->slot != SLOT_FREE);
    ASSERT(job->generation == reply.generation);
    if (frame->type == REPLY_BYTES) {
        job_on_bytes(shard, job, &reply, bytes);
    } else if (frame->type == REPLY_WHOLE) {
        job_on_whole(shard, job, reply.status, bytes);
    } else {
        job_on_end(shard, job, reply.status);
    }
}

static size_t side_take_replies(struct shard *shard, unsigned worker)
{
    struct spsc *replies = &shard->query->links[worker]->replies;
    size_t count = 0;
    const struct spsc_frame *frame;
    while ((frame = spsc_take(replies)) != NULL) { /* bound: what the credits licence */
        side_on_reply(shard, frame);
        count++;
    }
    if (count != 0) {
        spsc_release(replies);
        shard->query->is_dirty[worker] = true; /* it may wait for that room */
    }
    return count;
}

/* ---- every pass ---- */

/* What the client has taken is credit for more. True: something is owed still. */
static bool job_pass_credit(struct shard *shard, struct query_job *job)
{
    if (job->slot != SLOT_STREAMING) {
        return false;
    }
    size_t room = server_stream_room(shard->server, job->conn);
    uint64_t unsent = SERVER_STREAM_UNSENT - u64_min(room, SERVER_STREAM_UNSENT);
    uint64_t consumed = job->put_bytes - u64_min(unsent, job->put_bytes);
    /* relaxed: only this thread writes it. */
    uint64_t before = atomic_load_explicit(&job->consumed, memory_order_relaxed);
    if (consumed > before) {
        /* relaxed: see job_credit; park_wake completes the order for a worker that sleeps. */
        atomic_store_explicit(&job->consumed, consumed, memory_order_relaxed);
        shard->query->is_dirty[job->worker] = true;
    }
    return consumed < job->put_bytes;
}

static void side_pass_credit(struct shard *shard)
{
    struct query_side *side = shard->query;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < side->owing_count; i++) {
        struct query_job *job = &side->jobs[side->owing[i]];
        job->is_owing = job_pass_credit(shard, job);
        if (job->is_owing) {
            side->owing[kept++] = job->index;
        }
    }
    side->owing_count = kept;
}

/* A job that leaves takes itself out of used, where the last takes its place: backwards, each is
 * seen once. */
static void side_tick(struct shard *shard)
{
    struct query_side *side = shard->query;
    struct sockaddr_storage peer;
    if (shard->now_ns < side->tick_at_ns) {
        return;
    }
    side->tick_at_ns = shard->now_ns + TICK_NS;
    for (uint32_t i = side->used_count; i > 0; i--) {
        struct query_job *job = &side->jobs[side->used[i - 1]];
        if (job->slot == SLOT_WAITING && server_peer(shard->server, job->conn, &peer) == -ESTALE) {
            QUERY_COUNT(side, cancelled, 1);
            side_leave(side, job);
        } else if (job->slot == SLOT_STREAMING && job->form == QUERY_TAIL) {
            tail_conn_tick(job, shard->now_ns);
            job_settle_tail(shard, job);
        }
    }
}

static void side_tell_workers(struct query_side *side)
{
    for (unsigned i = 0; i < side->worker_count; i++) {
        if (side->is_dirty[i]) {
            side->is_dirty[i] = false;
            (void)spsc_publish(&side->links[i]->requests); /* Q1 */
            (void)park_wake(side->worker_parks[i], true);
        }
    }
}

size_t query_drain(struct shard *shard)
{
    struct query_side *side = shard->query;
    size_t count = 0;
    if (LIKELY(side->used_count == 0)) {
        return 0;
    }
    for (unsigned i = 0; i < side->worker_count; i++) {
        count += side_take_replies(shard, i);
    }
    side_pass_credit(shard);
    side_tick(shard);
    side_tell_workers(side);
    return count;
}

bool query_has_replies(const struct shard *shard)
{
    struct query_side *side = shard->query;
    for (unsigned i = 0; side->used_count != 0 && i < side->worker_count; i++) {
        if (!spsc_is_empty(&side->links[i]->replies)) {
            return true;
        }
    }
    return false;
}

void query_end_all(struct shard *shard)
{
    struct query_side *side = shard->query;
    for (uint32_t i = side->used_count; i > 0; i--) { /* backwards, as in side_tick */
        struct query_job *job = &side->jobs[side->used[i - 1]];
        if (job->slot == SLOT_LEFT) {
            continue;
        }
        if (job->form == QUERY_PAGE || job->form == QUERY_CALL) {
            /* relaxed: a flag that is only ever set. */
            atomic_store_explicit(&job->must_end, true, memory_order_relaxed);
            side->is_dirty[job->worker] = true;
        } else if (job->form == QUERY_TAIL) {
            tail_conn_close(job, WEBSOCKET_GOING_AWAY, "the server is stopping", shard->now_ns);
            job_settle_tail(shard, job);
        } else {
            job_end_stream(shard, job, true);
        }
    }
    side_tell_workers(side);
}

bool query_is_busy(const struct shard *shard)
{
    const struct query_side *side = shard->query;
    for (uint32_t i = 0; i < side->used_count; i++) {
        if (side->jobs[side->used[i]].slot != SLOT_LEFT) {
            return true;
        }
    }
    return false;
}
