/*
 * agent: the runner of one duty. agent_start, agent_join: the thread that composes the process
 * (main); the rest runs in the agent's own thread. A start that fails leaves no thread behind; a
 * duty that fails ends its thread after on_stop, with state negative and err filled.
 *
 *   state      STARTING -> RUNNING -> FINISHED      duty returned 1
 *              STARTING -> negative                 thread, affinity or on_start failed
 *              RUNNING  -> negative                 duty failed
 *
 * Edge R10/A10 (docs/THREADS.md): the end state publishes err and everything the agent did.
 */
#include "core/agent.h"

#include "core/clock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

enum {
    STATE_STARTING = 0,
    STATE_RUNNING = 1,
    STATE_FINISHED = 2,
};

#define NAME_BYTES_MAX 15 /* the kernel's TASK_COMM_LEN less the NUL */

/* One pair for all agents: starts are rare and one after another, and a pair that is never
 * destroyed has no life to get wrong. Never touched on a data path. */
static pthread_mutex_t start_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t start_changed = PTHREAD_COND_INITIALIZER;

#define START_PENDING 1 /* not a result */

static void state_store(struct agent *agent, int state)
{
    /* R10: publishes agent->err and the agent's work; pairs with A10 in state_load. Whoever sees an
     * end state may read err. */
    atomic_store_explicit(&agent->state, state, memory_order_release);
}

static void start_answer(struct agent *agent, int result)
{
    pthread_mutex_lock(&start_mutex);
    agent->start_result = result;
    pthread_cond_broadcast(&start_changed);
    pthread_mutex_unlock(&start_mutex);
}

static int state_load(const struct agent *agent)
{
    /* A10: pairs with R10 in state_store. */
    return atomic_load_explicit(&agent->state, memory_order_acquire);
}

static int agent_pin(const struct agent *agent, struct err *err)
{
    int cpu = agent->options.cpu;
    if (cpu < 0) {
        return 0;
    }
    if (cpu >= CPU_SETSIZE) {
        return err_set(err, -ERANGE, "pin to cpu %d: beyond the %d that can be named", cpu,
                       CPU_SETSIZE);
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    int r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    if (r != 0) {
        return err_set(err, -r, "pin to cpu %d: %s", cpu, err_name(r));
    }
    return 0;
}

static int agent_prepare(struct agent *agent)
{
    const struct agent_options *options = &agent->options;
    role_set(options->role);
    int r = pthread_setname_np(pthread_self(), options->name);
    ASSERT(r == 0); /* Its length was checked. */
    r = agent_pin(agent, &agent->err);
    if (r < 0) {
        return r;
    }
    r = options->on_start != NULL ? options->on_start(options->context, &agent->err) : 0;
    if (r < 0 && agent->err.code == 0) {
        r = err_set(&agent->err, r, "%s", err_name(r));
    }
    return r < 0 ? r : 0;
}

/* Until the duty says otherwise; its own stop is the loop's bound. */
static int agent_run(struct agent *agent)
{
    const struct agent_options *options = &agent->options;
    int r = 0;
    while (r == 0) {
        /* relaxed: health reads one word, and an old one only makes the agent look slower. */
        atomic_store_explicit(&agent->heartbeat_ns, clock_mono_ns(), memory_order_relaxed);
        r = options->duty(options->context);
    }
    return r;
}

static void *agent_main(void *argument)
{
    struct agent *agent = argument;
    int r = agent_prepare(agent);
    state_store(agent, r < 0 ? r : STATE_RUNNING);
    start_answer(agent, r);
    if (r < 0) {
        return NULL;
    }
    r = agent_run(agent);
    if (agent->options.on_stop != NULL) {
        agent->options.on_stop(agent->options.context);
    }
    if (r < 0) {
        err_set(&agent->err, r, "agent %s: %s", agent->options.name, err_name(r));
        state_store(agent, r);
        return NULL;
    }
    state_store(agent, STATE_FINISHED);
    return NULL;
}

/* Signals for the process are main's business; those that a thread raises by its own fault stay
 * open. */
static void signals_of_agents(sigset_t *set)
{
    static const int own_faults[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                     SIGABRT, SIGTRAP, SIGSYS, SIGPROF};
    sigfillset(set);
    for (size_t i = 0; i < ARRAY_COUNT(own_faults); i++) {
        sigdelset(set, own_faults[i]);
    }
}

/* A new thread inherits the mask, so it is set around the creation: there is no moment in which the
 * agent takes one. */
static int agent_create_thread(struct agent *agent)
{
    sigset_t blocked;
    sigset_t before;
    signals_of_agents(&blocked);
    int r = pthread_sigmask(SIG_SETMASK, &blocked, &before);
    ASSERT(r == 0);
    int created = pthread_create(&agent->thread, NULL, agent_main, agent);
    r = pthread_sigmask(SIG_SETMASK, &before, NULL);
    ASSERT(r == 0);
    return -created;
}

static int start_await(struct agent *agent)
{
    pthread_mutex_lock(&start_mutex);
    while (agent->start_result == START_PENDING) {
        pthread_cond_wait(&start_changed, &start_mutex);
    }
    int result = agent->start_result;
    pthread_mutex_unlock(&start_mutex);
    return result;
}

int agent_start(struct agent *agent, const struct agent_options *options, struct err *err)
{
    ASSERT(agent != NULL);
    ASSERT(options->duty != NULL);
    ASSERT(options->name != NULL);
    ASSERT(strlen(options->name) <= NAME_BYTES_MAX);
    agent->options = *options;
    agent->err = (struct err){.code = 0};
    agent->start_result = START_PENDING;
    atomic_init(&agent->state, STATE_STARTING);
    atomic_init(&agent->heartbeat_ns, clock_mono_ns());
    int r = agent_create_thread(agent);
    if (r < 0) { /* UNTESTED: needs a limit on threads. */
        state_store(agent, r);
        return err_set(err, r, "start agent %s: create thread: %s", options->name, err_name(r));
    }
    r = start_await(agent);
    if (r < 0) {
        agent_join(agent);
        return err_set(err, r, "start agent %s: %s", options->name, agent->err.text);
    }
    return 0;
}

void agent_join(struct agent *agent)
{
    int r = pthread_join(agent->thread, NULL);
    ASSERT(r == 0); /* Joined once, by somebody else than itself. */
}

bool agent_is_finished(const struct agent *agent)
{
    int state = state_load(agent);
    return state == STATE_FINISHED || state < 0;
}
