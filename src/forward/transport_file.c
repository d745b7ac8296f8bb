/*
 * transport_file: mailbox, thread and plan of a file sink. Nothing waits for the disk but the thread (and the owner, when it
 * closes); what cannot be written is answered TRANSPORT_LOCAL with the reason and tried again by the owner's rules.
 */
#include "forward/transport_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/logline.h"
#include "core/mem.h"
#include "forward/file_target.h"
#include "forward/sink_file.h"

#define JOBS_MAX   64 /* as many as connections can be */
#define FLOORS_MAX 8  /* files that batches of the process before may belong to */

struct file_job {
    struct file_target target;
    uint64_t floor;
    struct slice body;
    void (*on_answer)(void *context, const struct upstream_answer *answer);
    void *context;
    enum transport_fault fault;
    char text[FORWARD_REASON_BYTES];
};

/* Free-running counts: [taken, written) is answered, [written, put) is to be written. */
struct mailbox {
    struct file_job jobs[JOBS_MAX];
    uint64_t put, written, taken;
    bool is_stopping;
    char lost[FILE_NAME_BYTES]; /* the file of this name takes nothing new */
};

struct floor {
    char name[FILE_NAME_BYTES];
    uint64_t offset;
};

struct plan {
    struct file_target next; /* name "": not begun */
    int64_t begun_at_ns;
    struct floor floors[FLOORS_MAX]; /* what lies below was delivered before this process began */
    unsigned floor_count;
};

struct transport_file {
    const struct config_sink *sink;
    struct plan plan;      /* the owner's */
    struct sink_file disk; /* the thread's */
    void (*wake)(void *context);
    void *wake_context;
    pthread_t thread;
    pthread_mutex_t mutex; /* of mailbox */
    pthread_cond_t has_job;
    struct mailbox mailbox;
};

_Static_assert((JOBS_MAX & (JOBS_MAX - 1)) == 0, "counts run free");

/* ------------------------------------------------------------------- thread */

static void job_write(struct transport_file *file, struct file_job *job, bool *is_lost)
{
    struct err err = {0};
    int result = sink_file_write(&file->disk, &job->target, job->floor, job->body, is_lost, &err);
    job->fault = result < 0 ? TRANSPORT_LOCAL : TRANSPORT_OK;
    (void)snprintf(job->text, sizeof job->text, "%.*s", (int)sizeof job->text - 1, err.text);
}

static void *thread_main(void *context)
{
    struct transport_file *file = context;
    struct mailbox *mailbox = &file->mailbox;
    (void)pthread_mutex_lock(&file->mutex);
    while (!mailbox->is_stopping) { /* until the owner closes it */
        if (mailbox->written == mailbox->put) {
            (void)pthread_cond_wait(&file->has_job, &file->mutex);
            continue;
        }
        /* The owner leaves the slot alone until written has passed it. */
        struct file_job *job = &mailbox->jobs[mailbox->written % JOBS_MAX];
        bool is_lost = false;
        (void)pthread_mutex_unlock(&file->mutex);
        job_write(file, job, &is_lost);
        (void)pthread_mutex_lock(&file->mutex);
        mailbox->written++;
        if (is_lost) {
            memcpy(mailbox->lost, job->target.name, FILE_NAME_BYTES);
        }
        file->wake(file->wake_context);
    }
    (void)pthread_mutex_unlock(&file->mutex);
    return NULL;
}

int transport_file_open(struct transport_file **out, const struct config_sink *sink,
                        void (*wake)(void *context), void *context, struct err *err)
{
    ASSERT(sink->connections <= JOBS_MAX);
    struct transport_file *file = mem_alloc(sizeof *file);
    file->sink = sink;
    file->wake = wake;
    file->wake_context = context;
    sink_file_init(&file->disk, sink);
    (void)pthread_mutex_init(&file->mutex, NULL); /* with no attributes it cannot fail on Linux */
    (void)pthread_cond_init(&file->has_job, NULL);
    const int error = pthread_create(&file->thread, NULL, thread_main, file);
    if (error != 0) {
        mem_free(file);
        return err_set(err, -error, "sink %s: no thread: %s", sink->name, err_name(-error));
    }
    (void)pthread_setname_np(file->thread, "sink-file");
    *out = file;
    return 0;
}

void transport_file_close(struct transport_file *file)
{
    if (file == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&file->mutex);
    file->mailbox.is_stopping = true;
    (void)pthread_cond_signal(&file->has_job);
    (void)pthread_mutex_unlock(&file->mutex);
    (void)pthread_join(file->thread, NULL);
    (void)pthread_cond_destroy(&file->has_job);
    (void)pthread_mutex_destroy(&file->mutex);
    sink_file_close(&file->disk);
    mem_free(file);
}

/* ------------------------------------------------------------------- mailbox */

static uint64_t floor_of(const struct plan *plan, const char *name)
{
    for (unsigned i = 0; i < plan->floor_count; i++) {
        if (strcmp(plan->floors[i].name, name) == 0) {
            return plan->floors[i].offset;
        }
    }
    return 0;
}

int transport_file_send(struct transport_file *file, const struct transport_request *request,
                        struct err *err)
{
    struct mailbox *mailbox = &file->mailbox;
    struct file_job job = {
        .body = request->body, .on_answer = request->on_answer, .context = request->context};
    if (request->target == NULL || !file_target_parse(request->target, &job.target) ||
        job.target.bytes != request->body.bytes) {
        return err_set(err, -EINVAL, "sink %s: \"%s\" is no place for %zu bytes", file->sink->name,
                       request->target != NULL ? request->target : "", request->body.bytes);
    }
    job.floor = floor_of(&file->plan, job.target.name);
    (void)pthread_mutex_lock(&file->mutex);
    const bool has_room = mailbox->put - mailbox->taken < u64_max(file->sink->connections, 1);
    if (has_room) {
        mailbox->jobs[mailbox->put++ % JOBS_MAX] = job;
        (void)pthread_cond_signal(&file->has_job);
    }
    (void)pthread_mutex_unlock(&file->mutex);
    return has_room ? 0 : err_set(err, -EAGAIN, "sink %s: enough is under way", file->sink->name);
}

bool transport_file_run(struct transport_file *file)
{
    struct mailbox *mailbox = &file->mailbox;
    struct file_job job;
    unsigned count = 0;
    for (; count < JOBS_MAX; count++) { /* on_answer may send more: those wait for the next call */
        (void)pthread_mutex_lock(&file->mutex);
        const bool has_answer = mailbox->taken < mailbox->written;
        if (has_answer) {
            job = mailbox->jobs[mailbox->taken++ % JOBS_MAX];
        }
        (void)pthread_mutex_unlock(&file->mutex);
        if (!has_answer) {
            break;
        }
        struct upstream_answer answer = {.fault = job.fault,
                                         .status = job.fault == TRANSPORT_OK ? 200 : 0};
        memcpy(answer.fault_text, job.text, sizeof answer.fault_text);
        job.on_answer(job.context, &answer);
    }
    return count > 0;
}

/* ------------------------------------------------------------------- plan */

static void plan_floor(struct plan *plan, const char *name, uint64_t offset)
{
    for (unsigned i = 0; i < plan->floor_count; i++) {
        if (strcmp(plan->floors[i].name, name) == 0) {
            plan->floors[i].offset = u64_min(plan->floors[i].offset, offset);
            return;
        }
    }
    if (plan->floor_count < FLOORS_MAX) { /* beyond them: only less is noticed */
        struct floor *floor = &plan->floors[plan->floor_count++];
        memcpy(floor->name, name, FILE_NAME_BYTES);
        floor->offset = offset;
    }
}

static bool file_exists(const struct transport_file *file, const char *name, struct stat *status)
{
    char path[SINK_FILE_PATH_BYTES];
    sink_file_path(file->sink, name, path);
    return stat(path, status) == 0;
}

/* A name that is later than the last one (also when the clock went back) and that no file has. */
static void name_make(const struct transport_file *file, int64_t now_ns, char *out)
{
    struct stat status;
    const char *last = file->plan.next.name;
    char name[FILE_NAME_BYTES];
    for (unsigned i = 0; i < 2000; i++) { /* a second has 1000 names */
        file_target_name(now_ns + (int64_t)(i / 1000) * (int64_t)NS_S, i % 1000, name);
        if (strcmp(name, last) > 0 && !file_exists(file, name, &status)) {
            memcpy(out, name, sizeof name);
            return;
        }
    }
    /* The clock went back: the last name counts on. */
    memcpy(name, last, sizeof name);
    for (size_t i = FILE_NAME_CHARS; i-- > 0;) {
        if (name[i] >= '0' && name[i] < '9') {
            name[i]++;
            break;
        }
        name[i] = name[i] == '9' ? '0' : name[i];
    }
    memcpy(out, name, sizeof name);
}

/* Is what lies at PATH the file that the plan goes on with, rather than one to be rotated away first? */
static bool path_is_current(const struct transport_file *file)
{
    struct stat status;
    const struct file_target *next = &file->plan.next;
    return next->before[0] == '\0' || file_exists(file, next->before, &status);
}

/* The first place after the start: behind what the file has, and behind what is frozen. */
static void plan_begin(struct transport_file *file, int64_t now_ns)
{
    struct plan *plan = &file->plan;
    struct stat status = {0};
    const bool is_there = file_exists(file, "", &status);
    const uint64_t size = is_there ? (uint64_t)status.st_size : 0;
    const int64_t changed_at_ns = status.st_mtim.tv_sec * (int64_t)NS_S + status.st_mtim.tv_nsec;
    plan->begun_at_ns = size > 0 && changed_at_ns < now_ns ? changed_at_ns : now_ns;
    if (plan->next.name[0] == '\0') {
        name_make(file, now_ns, plan->next.name);
        plan->next.offset = size;
        plan_floor(plan, plan->next.name, size);
    } else if (path_is_current(file)) {
        plan->next.offset = u64_max(plan->next.offset, size);
    }
}

static void plan_next_file(struct transport_file *file, bool is_rotation, int64_t now_ns)
{
    struct plan *plan = &file->plan;
    char name[FILE_NAME_BYTES];
    struct stat status = {0};
    const bool is_there = !is_rotation && file_exists(file, "", &status);
    name_make(file, now_ns, name);
    memset(plan->next.before, 0, FILE_NAME_BYTES);
    if (is_rotation) {
        memcpy(plan->next.before, plan->next.name, FILE_NAME_BYTES);
    }
    memcpy(plan->next.name, name, FILE_NAME_BYTES);
    plan->next.offset = is_there ? (uint64_t)status.st_size : 0;
    plan->begun_at_ns = now_ns;
    plan_floor(plan, name, plan->next.offset);
}

static bool plan_is_lost(struct transport_file *file)
{
    (void)pthread_mutex_lock(&file->mutex);
    const bool is_lost = strcmp(file->mailbox.lost, file->plan.next.name) == 0;
    (void)pthread_mutex_unlock(&file->mutex);
    return is_lost;
}

static bool plan_is_full(const struct transport_file *file, uint64_t body_bytes, int64_t now_ns)
{
    const struct config_sink *sink = file->sink;
    const struct plan *plan = &file->plan;
    const bool is_old = sink->rotate_age_ns > 0 && now_ns > plan->begun_at_ns &&
                        (uint64_t)(now_ns - plan->begun_at_ns) >= sink->rotate_age_ns;
    const bool is_large =
        sink->rotate_bytes > 0 && plan->next.offset + body_bytes > sink->rotate_bytes;
    return plan->next.offset > 0 && (is_old || is_large);
}

int transport_file_target(struct transport_file *file, uint64_t body_bytes, int64_t now_ns,
                          char *out, struct err *err)
{
    struct plan *plan = &file->plan;
    if (plan->next.name[0] == '\0' || plan->begun_at_ns == 0) {
        plan_begin(file, now_ns);
    }
    if (body_bytes > FORWARD_BODY_MAX) {
        return err_set(err, ERR_LIMIT, "sink %s: a batch of that size has no place",
                       file->sink->name);
    }
    if (plan_is_lost(file)) {
        plan_next_file(file, false, now_ns);
    }
    if (plan_is_full(file, body_bytes, now_ns)) {
        plan_next_file(file, true, now_ns);
    }
    plan->next.bytes = body_bytes;
    file_target_format(&plan->next, out, FORWARD_TARGET_BYTES);
    plan->next.offset += body_bytes;
    return 0;
}

void transport_file_known(struct transport_file *file, const char *text)
{
    struct plan *plan = &file->plan;
    struct file_target known;
    if (!file_target_parse(text, &known)) {
        return; /* it cannot be sent either: transport_file_send says so */
    }
    plan_floor(plan, known.name, known.offset);
    const uint64_t end = known.offset + known.bytes;
    const int order = strcmp(known.name, plan->next.name);
    if (order > 0) {
        plan->next = known;
        plan->next.offset = end;
    } else if (order == 0) {
        plan->next.offset = u64_max(plan->next.offset, end);
    }
}

void transport_file_drop(struct transport_file *file, const char *text)
{
    struct file_target target;
    struct plan *plan = &file->plan;
    char path[SINK_FILE_PATH_BYTES];
    struct stat status;
    if (!file_target_parse(text, &target) || strcmp(target.name, plan->next.name) != 0 ||
        target.offset + target.bytes != plan->next.offset) {
        return; /* something follows it: the gap stays, as zeroes */
    }
    plan->next.offset = target.offset;
    /* A first attempt may have left a part of it. What is at PATH is this file unless its rotation is still to come. */
    if (path_is_current(file) && !plan_is_lost(file) && file_exists(file, "", &status) &&
        (uint64_t)status.st_size > target.offset &&
        (uint64_t)status.st_size <= target.offset + target.bytes) {
        sink_file_path(file->sink, "", path);
        if (truncate(path, (off_t)target.offset) != 0) {
            LOG(LOGLINE_WARNING, "sink_file_torn", "sink %s: the end of %s is torn: %s",
                file->sink->name, path, err_name(-errno));
        }
    }
}
