/* agent: the order of a life, and how each way of failing is told. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/agent.h"

#include "core/clock.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

/* What the agent's thread noted about itself; read only after the join. */
struct life {
    int on_start_result;
    int duty_result; /* what ends it */
    int duties_left;
    bool fills_err;
    char order[64]; /* s: start, d: duty, x: stop */
    char name[16];
    enum role role;
    pthread_t thread;
    sigset_t blocked;
    int cpu;
    struct agent *agent;
    uint64_t heartbeat_first;
    uint64_t heartbeat_last;
    _Atomic bool may_end; /* where the test holds the duty back */
};

static void note(struct life *life, char what)
{
    size_t length = strlen(life->order);
    if (length + 1 < sizeof(life->order)) {
        life->order[length] = what;
    }
}

static int life_on_start(void *context, struct err *err)
{
    struct life *life = context;
    note(life, 's');
    life->role = role_current();
    life->thread = pthread_self();
    life->cpu = sched_getcpu();
    pthread_getname_np(pthread_self(), life->name, sizeof(life->name));
    pthread_sigmask(SIG_BLOCK, NULL, &life->blocked);
    if (life->fills_err) {
        return err_set(err, life->on_start_result, "create ring: %s",
                       err_name(life->on_start_result));
    }
    return life->on_start_result;
}

static int life_duty(void *context)
{
    struct life *life = context;
    note(life, 'd');
    life->heartbeat_last = atomic_load_explicit(&life->agent->heartbeat_ns, memory_order_relaxed);
    if (life->heartbeat_first == 0) {
        life->heartbeat_first = life->heartbeat_last;
    }
    return --life->duties_left > 0 ? 0 : life->duty_result;
}

static int held_duty(void *context)
{
    struct life *life = context;
    return atomic_load_explicit(&life->may_end, memory_order_acquire) ? 1 : 0;
}

static void life_on_stop(void *context)
{
    note(context, 'x');
}

static struct agent_options options_for(struct life *life, struct agent *agent)
{
    life->agent = agent;
    return (struct agent_options){
        .name = "shard-0",
        .role = ROLE_SHARD,
        .cpu = -1,
        .context = life,
        .on_start = life_on_start,
        .duty = life_duty,
        .on_stop = life_on_stop,
    };
}

static void life_goes_start_duties_stop_in_one_named_thread(void **state)
{
    (void)state;
    static struct agent agent;
    struct life life = {.duty_result = 1, .duties_left = 3};
    struct agent_options options = options_for(&life, &agent);
    uint64_t before = clock_mono_ns();
    assert_int_equal(agent_start(&agent, &options, NULL), 0);
    agent_join(&agent);
    assert_true(agent_is_finished(&agent));
    assert_string_equal(life.order, "sdddx");
    assert_string_equal(life.name, "shard-0");
    assert_int_equal(life.role, ROLE_SHARD);
    assert_false(pthread_equal(life.thread, pthread_self()));
    assert_int_equal(role_current(), ROLE_ANY);
    assert_true(life.heartbeat_first >= before);
    assert_true(life.heartbeat_last >= life.heartbeat_first);
    assert_int_equal(agent.err.code, 0);
}

static void failed_on_start_is_told_and_leaves_no_thread(void **state)
{
    (void)state;
    static struct agent agent;
    struct err err = {0};
    struct life life = {.on_start_result = -EPERM, .fills_err = true};
    struct agent_options options = options_for(&life, &agent);
    assert_int_equal(agent_start(&agent, &options, &err), -EPERM);
    assert_string_equal(err.text,
                        "start agent shard-0: create ring: operation not permitted (EPERM)");
    assert_int_equal(err.code, -EPERM);
    assert_string_equal(life.order, "s");
    assert_true(agent_is_finished(&agent));
    life = (struct life){.on_start_result = -ENOMEM, .agent = &agent};
    assert_int_equal(agent_start(&agent, &options, &err), -ENOMEM);
    assert_string_equal(err.text, "start agent shard-0: out of memory (ENOMEM)");
}

static void failed_duty_stops_in_order_and_fills_err(void **state)
{
    (void)state;
    static struct agent agent;
    struct life life = {.duty_result = -EIO, .duties_left = 1};
    struct agent_options options = options_for(&life, &agent);
    assert_int_equal(agent_start(&agent, &options, NULL), 0); /* however soon it fails */
    agent_join(&agent);
    assert_true(agent_is_finished(&agent));
    assert_string_equal(life.order, "sdx");
    assert_int_equal(agent.err.code, -EIO);
    assert_string_equal(agent.err.text, "agent shard-0: input/output error (EIO)");
}

static void running_agent_is_not_finished_and_its_heart_beats(void **state)
{
    (void)state;
    static struct agent agent;
    struct life life = {.duties_left = 0};
    struct agent_options options = options_for(&life, &agent);
    options.duty = held_duty;
    options.on_start = NULL;
    options.on_stop = NULL;
    assert_int_equal(agent_start(&agent, &options, NULL), 0);
    assert_false(agent_is_finished(&agent));
    uint64_t first = atomic_load_explicit(&agent.heartbeat_ns, memory_order_relaxed);
    uint64_t give_up = clock_mono_ns() + 10 * NS_S;
    uint64_t last = first;
    while (last == first && clock_mono_ns() < give_up) {
        sched_yield();
        last = atomic_load_explicit(&agent.heartbeat_ns, memory_order_relaxed);
    }
    assert_true(last > first);
    atomic_store_explicit(&life.may_end, true, memory_order_release);
    agent_join(&agent);
    assert_true(agent_is_finished(&agent));
}

static void pinned_agent_runs_on_its_cpu_and_a_missing_cpu_is_refused(void **state)
{
    (void)state;
    static struct agent agent;
    struct err err = {0};
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    int cpu = 0;
    while (!CPU_ISSET((size_t)cpu, &allowed)) {
        cpu++;
    }
    struct life life = {.duty_result = 1, .duties_left = 1};
    struct agent_options options = options_for(&life, &agent);
    options.cpu = cpu;
    assert_int_equal(agent_start(&agent, &options, &err), 0);
    agent_join(&agent);
    assert_int_equal(life.cpu, cpu);
    options.cpu = CPU_SETSIZE - 1;
    assert_int_equal(agent_start(&agent, &options, &err), -EINVAL);
    assert_string_equal(err.text,
                        "start agent shard-0: pin to cpu 1023: invalid argument (EINVAL)");
    options.cpu = 1 << 20;
    assert_int_equal(agent_start(&agent, &options, &err), -ERANGE);
}

static void signals_go_to_main_but_own_faults_stay_open(void **state)
{
    (void)state;
    static struct agent agent;
    struct life life = {.duty_result = 1, .duties_left = 1};
    struct agent_options options = options_for(&life, &agent);
    assert_int_equal(agent_start(&agent, &options, NULL), 0);
    agent_join(&agent);
    assert_true(sigismember(&life.blocked, SIGTERM));
    assert_true(sigismember(&life.blocked, SIGHUP));
    assert_false(sigismember(&life.blocked, SIGSEGV));
    assert_false(sigismember(&life.blocked, SIGABRT));
    sigset_t mine;
    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    assert_false(sigismember(&mine, SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(life_goes_start_duties_stop_in_one_named_thread),
        cmocka_unit_test(failed_on_start_is_told_and_leaves_no_thread),
        cmocka_unit_test(failed_duty_stops_in_order_and_fills_err),
        cmocka_unit_test(running_agent_is_not_finished_and_its_heart_beats),
        cmocka_unit_test(pinned_agent_runs_on_its_cpu_and_a_missing_cpu_is_refused),
        cmocka_unit_test(signals_go_to_main_but_own_faults_stay_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
