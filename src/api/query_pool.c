#include "api/query_pool.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "api/query_side.h"
#include "api/tail.h"
#include "core/clock.h"
#include "core/mem.h"
#include "store/store.h"

/* Room for many times QUERY_UNSENT and for a client's largest message; a full ring is an answer on
 * both sides. Charged as far as it is used. */
#define RING_BYTES MIB(1)
/* A worker looks around at least this often, so that its heartbeat stays fresh. */
#define SLEEP_MS 250

_Static_assert(WEBSOCKET_MESSAGE_MAX * 4 <= MIB(1), "a message has room beside others");

struct worker_job {
    struct query_job *job;
    struct query_link *link;
    unsigned shard_index;
};

#define GIVE_WAY_NS (100 * NS_US)

struct query_worker {
    struct query_pool *pool;
    unsigned index;
    struct query_source source;
    struct worker_job *jobs;
    size_t job_count;
    size_t tail_count;
    struct agent agent;
    struct park park;      /* woken by shards */
    struct park news;      /* woken by the writer; prepared only while a tail waits, so that without
                         tails a commit wakes nobody */
    uint64_t records_seen; /* made durable when it last gave way */
    bool has_parks;
    bool is_started;
};

struct query_pool {
    struct query_pool_options options;
    struct query_counts counts;
    struct query_worker *workers;
    struct query_side *sides; /* one per shard */
    struct query_link *links; /* [worker * shard_count + shard] */
    _Atomic bool must_stop;
};

/* ---- a worker's pass ---- */

static struct query_link *worker_link(const struct query_worker *worker, unsigned shard_index)
{
    const struct query_pool *pool = worker->pool;
    return &pool->links[worker->index * pool->options.shard_count + shard_index];
}

static void worker_begin_job(struct query_worker *worker, unsigned shard_index,
                             struct query_job *job)
{
    struct query_link *link = worker_link(worker, shard_index);
    worker->jobs[worker->job_count++] = (struct worker_job){job, link, shard_index};
    worker->tail_count += job->form == QUERY_TAIL;
    query_job_begin(job, &worker->source, &link->replies);
}

static void worker_on_request(struct query_worker *worker, unsigned shard_index,
                              const struct spsc_frame *frame)
{
    struct query_request request;
    memcpy(&request, frame->payload, sizeof request);
    struct query_job *job = &worker->pool->sides[shard_index].jobs[request.index];
    if (frame->type == REQUEST_JOB) {
        worker_begin_job(worker, shard_index, job);
        return;
    }
    /* A message may come for a job that this worker has ended: its slot is the shard's again then,
     * perhaps in another life, and only what is in the worker's own list may be touched. */
    struct slice text = {frame->payload + sizeof request, frame->bytes - sizeof request};
    for (size_t i = 0; i < worker->job_count; i++) {
        if (worker->jobs[i].job == job && job->generation == request.generation) {
            tail_on_message(job, text, clock_real_ns());
        }
    }
}

static bool worker_take_requests(struct query_worker *worker)
{
    bool is_any = false;
    for (unsigned i = 0; i < worker->pool->options.shard_count; i++) {
        struct spsc *requests = &worker_link(worker, i)->requests;
        const struct spsc_frame *frame = spsc_take(requests);
        bool had = frame != NULL;
        while (frame != NULL) { /* bound: the ring */
            worker_on_request(worker, i, frame);
            frame = spsc_take(requests);
        }
        if (had) {
            spsc_release(requests);
        }
        is_any = is_any || had;
    }
    return is_any;
}

static void worker_forget_job(struct query_worker *worker, size_t index)
{
    worker->jobs[index] = worker->jobs[--worker->job_count];
}

/* One step of each job, but of calls, which may block, at most one a pass: the heartbeat stays fresh however many wait.
 * True: something was done. */
static bool worker_step_jobs(struct query_worker *worker)
{
    const struct query_pool_options *options = &worker->pool->options;
    uint64_t now_ns = clock_mono_ns();
    bool is_any = false;
    bool has_called = false;
    for (size_t i = worker->job_count; i > 0; i--) {
        struct worker_job entry = worker->jobs[i - 1];
        if (entry.job->form == QUERY_CALL && !entry.job->run.is_finished) {
            is_any = true;
            if (has_called) {
                continue;
            }
            has_called = true;
        }
        bool is_tail = entry.job->form == QUERY_TAIL;
        enum query_stepped stepped = query_job_step(entry.job, now_ns);
        if (stepped == QUERY_ENDED) {
            worker_forget_job(worker, i - 1);
            worker->tail_count -= is_tail;
        }
        if (spsc_publish(&entry.link->replies)) { /* Q2 */
            (void)park_wake(options->shard_parks[entry.shard_index], true);
        }
        is_any = is_any || stepped != QUERY_IDLE;
    }
    return is_any;
}

static bool worker_pass(struct query_worker *worker)
{
    bool has_taken = worker_take_requests(worker);
    return worker_step_jobs(worker) || has_taken;
}

/* A step is up to a millisecond of CPU, and a kernel without preemption (PREEMPT_NONE) lets a busy thread run for
 * several before it runs the kernel workers that finish a commit's write on that core. So while records come in, a worker
 * that has work lets go of its core after each pass: ingest keeps its pace, a scan loses some percent of its. Measured in
 * docs/PERFORMANCE.md. */
static void worker_give_way(struct query_worker *worker)
{
    const struct store_status *status = store_status(worker->pool->options.store);
    /* relaxed: has it moved is all that matters. */
    uint64_t records = atomic_load_explicit(&status->records, memory_order_relaxed);
    if (records != worker->records_seen) {
        struct timespec pause = {.tv_nsec = (long)GIVE_WAY_NS};
        worker->records_seen = records;
        (void)nanosleep(&pause, NULL);
    }
}

static bool worker_must_stop(const struct query_worker *worker)
{
    /* relaxed: a flag that is only ever set. */
    return atomic_load_explicit(&worker->pool->must_stop, memory_order_relaxed);
}

/* A whole pass is the second look: it finds new requests, credit and news alike. */
static void worker_sleep(struct query_worker *worker)
{
    bool waits_for_news = worker->tail_count != 0;
    park_prepare(&worker->park, PARK_ANY);
    if (waits_for_news) {
        park_prepare(&worker->news, PARK_ANY);
    }
    if (!worker_pass(worker) && !worker_must_stop(worker)) {
        struct pollfd fds[2] = {{.fd = worker->park.fd, .events = POLLIN},
                                {.fd = worker->news.fd, .events = POLLIN}};
        (void)poll(fds, 2, SLEEP_MS);
    }
    park_cancel(&worker->park);
    park_cancel(&worker->news);
    park_drain(&worker->park);
    park_drain(&worker->news);
}

static int worker_duty(void *context)
{
    struct query_worker *worker = context;
    if (worker_must_stop(worker)) {
        return 1;
    }
    if (worker_pass(worker)) {
        worker_give_way(worker);
    } else {
        worker_sleep(worker);
    }
    return 0;
}

/* Scans hold views of the log, which closes after the pool has stopped. */
static void worker_on_stop(void *context)
{
    struct query_worker *worker = context;
    while (worker->job_count != 0) {
        query_job_drop(worker->jobs[--worker->job_count].job);
    }
    worker->tail_count = 0;
}

/* ---- life ---- */

static int worker_open(struct query_pool *pool, unsigned index, struct err *err)
{
    const struct query_pool_options *options = &pool->options;
    struct query_worker *worker = &pool->workers[index];
    const struct store_status *status = store_status(options->store);
    worker->pool = pool;
    worker->index = index;
    worker->park.fd = -1;
    worker->news.fd = -1;
    worker->source = (struct query_source){
        .scan = {.views = store_views(options->store),
                 .recent = store_recent(options->store),
                 .durable_lsn = &status->durable_lsn},
        .status = status,
        .counts = &pool->counts,
        .scratch = mem_alloc(LOOKUP_SCRATCH_BYTES),
        .reader = tail_reader_new(),
    };
    worker->jobs =
        mem_alloc_array((size_t)options->jobs_max * options->shard_count, sizeof *worker->jobs);
    worker->has_parks = true;
    int result = park_init(&worker->park, err);
    result = result < 0 ? result : park_init(&worker->news, err);
    if (result == 0) {
        store_subscribe(options->store, &worker->news, STORE_TELL_DURABLE);
    }
    return result;
}

static int pool_open_link(struct query_pool *pool, unsigned worker, unsigned shard, struct err *err)
{
    struct query_link *link = worker_link(&pool->workers[worker], shard);
    struct query_side *side = &pool->sides[shard];
    int result = spsc_init(&link->requests, RING_BYTES, 0, err);
    result = result < 0 ? result : spsc_init(&link->replies, RING_BYTES, 0, err);
    side->links[worker] = link;
    side->worker_parks[worker] = &pool->workers[worker].park;
    return result;
}

static void pool_open_side(struct query_pool *pool, unsigned shard)
{
    struct query_side *side = &pool->sides[shard];
    query_side_init(side, pool->options.jobs_max);
    side->page_timeout_ns = pool->options.page_timeout_ns;
    side->status = store_status(pool->options.store);
    side->counts = &pool->counts;
    side->worker_count = pool->options.threads;
}

static int pool_open_parts(struct query_pool *pool, struct err *err)
{
    const struct query_pool_options *options = &pool->options;
    for (unsigned shard = 0; shard < options->shard_count; shard++) {
        pool_open_side(pool, shard);
    }
    for (unsigned worker = 0; worker < options->threads; worker++) {
        int result = worker_open(pool, worker, err);
        for (unsigned shard = 0; result == 0 && shard < options->shard_count; shard++) {
            result = pool_open_link(pool, worker, shard, err);
        }
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

/* Memory that is mapped: cache lines of their own ask for more alignment than mem_alloc gives. */
static void *pool_map(size_t bytes)
{
    void *memory = mem_map(bytes);
    ASSERT(memory != NULL); /* address space; charged when touched */
    return memory;
}

int query_pool_open(struct query_pool **out, const struct query_pool_options *options,
                    struct err *err)
{
    ASSERT(options->threads > 0 && options->threads <= QUERY_THREADS_MAX);
    ASSERT(options->jobs_max > 0);
    struct query_pool *pool = pool_map(sizeof *pool);
    pool->options = *options;
    pool->workers = pool_map(options->threads * sizeof *pool->workers);
    pool->sides = pool_map(options->shard_count * sizeof *pool->sides);
    pool->links = pool_map((size_t)options->threads * options->shard_count * sizeof *pool->links);
    int result = pool_open_parts(pool, err);
    if (result < 0) {
        query_pool_close(pool);
        return err_wrap(err, result, "open the query pool");
    }
    *out = pool;
    return 0;
}

struct query_side *query_pool_side(struct query_pool *pool, unsigned shard_index)
{
    ASSERT(shard_index < pool->options.shard_count);
    return &pool->sides[shard_index];
}

int query_pool_start(struct query_pool *pool, struct err *err)
{
    for (unsigned i = 0; i < pool->options.threads; i++) {
        struct query_worker *worker = &pool->workers[i];
        struct agent_options options = {
            .name = "query",
            .role = ROLE_QUERY,
            .cpu = -1,
            .context = worker,
            .duty = worker_duty,
            .on_stop = worker_on_stop,
        };
        int result = agent_start(&worker->agent, &options, err);
        if (result < 0) {
            return err_wrap(err, result, "start query thread %u", i);
        }
        worker->is_started = true;
    }
    return 0;
}

void query_pool_stop(struct query_pool *pool)
{
    /* relaxed: the flag itself is the message. */
    atomic_store_explicit(&pool->must_stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < pool->options.threads; i++) {
        struct query_worker *worker = &pool->workers[i];
        if (worker->is_started) {
            (void)park_wake(&worker->park, true);
            agent_join(&worker->agent);
            worker->is_started = false;
        }
    }
}

static void worker_close(struct query_worker *worker)
{
    if (worker->has_parks) {
        park_close(&worker->park);
        park_close(&worker->news);
    }
    mem_free(worker->jobs);
    mem_free(worker->source.scratch);
    tail_reader_free(worker->source.reader);
}

void query_pool_close(struct query_pool *pool)
{
    const struct query_pool_options *options = &pool->options;
    size_t link_count = (size_t)options->threads * options->shard_count;
    query_pool_stop(pool);
    for (unsigned i = 0; i < options->threads; i++) {
        worker_close(&pool->workers[i]);
    }
    for (unsigned i = 0; i < options->shard_count; i++) {
        query_side_free(&pool->sides[i]);
    }
    for (size_t i = 0; i < link_count; i++) {
        spsc_close(&pool->links[i].requests);
        spsc_close(&pool->links[i].replies);
    }
    mem_unmap(pool->links, link_count * sizeof *pool->links);
    mem_unmap(pool->sides, options->shard_count * sizeof *pool->sides);
    mem_unmap(pool->workers, options->threads * sizeof *pool->workers);
    mem_unmap(pool, sizeof *pool);
}

uint64_t query_pool_heartbeat_ns(const struct query_pool *pool)
{
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < pool->options.threads; i++) {
        /* relaxed: a heartbeat is compared with seconds. */
        oldest = u64_min(oldest, atomic_load_explicit(&pool->workers[i].agent.heartbeat_ns,
                                                      memory_order_relaxed));
    }
    return oldest;
}

const struct query_counts *query_pool_counts(const struct query_pool *pool)
{
    return &pool->counts;
}
