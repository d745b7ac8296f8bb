/*
 * park, one thread playing sleeper and waker: who pays the system call, and for whom. That no
 * wake-up is lost between threads is shown by test_spsc_model.c (every interleaving) and
 * test_spsc_stress.c (real threads).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/park.h"

static struct park park;

static int open_park(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(park_init(&park, &err), 0);
    return 0;
}

static int close_park(void **state)
{
    (void)state;
    park_close(&park);
    return 0;
}

/* What the sleeper's ring would see. */
static bool has_fired(void)
{
    struct pollfd pollfd = {.fd = park.fd, .events = POLLIN};
    return poll(&pollfd, 1, 0) == 1;
}

static uint64_t wake_count(void)
{
    return atomic_load_explicit(&park.wake_count, memory_order_relaxed);
}

static void nobody_pays_for_an_awake_agent(void **state)
{
    (void)state;
    assert_false(park_wake(&park, true));
    assert_false(park_wake(&park, false));
    assert_false(has_fired());
    assert_int_equal(wake_count(), 0);
}

static void anything_wakes_a_sleeper_at_any(void **state)
{
    (void)state;
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
    assert_true(has_fired());
    park_cancel(&park);
    park_drain(&park);
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, true));
    assert_true(has_fired());
}

static void small_work_leaves_a_bulk_sleeper_alone(void **state)
{
    (void)state;
    park_prepare(&park, PARK_BULK);
    assert_false(park_wake(&park, false));
    assert_false(has_fired());
    assert_true(park_wake(&park, true));
    assert_true(has_fired());
}

static void only_the_first_waker_pays(void **state)
{
    (void)state;
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
    assert_false(park_wake(&park, false));
    assert_false(park_wake(&park, true));
    assert_int_equal(wake_count(), 1);
}

static void cancel_makes_wakes_free_again(void **state)
{
    (void)state;
    park_prepare(&park, PARK_ANY);
    park_cancel(&park);
    assert_false(park_wake(&park, true));
    assert_false(has_fired());
}

static void wake_before_the_wait_is_kept(void **state)
{
    (void)state;
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
    /* The sleeper begins its wait only now: it must not block. */
    struct pollfd pollfd = {.fd = park.fd, .events = POLLIN};
    assert_int_equal(poll(&pollfd, 1, 5000), 1);
}

static void drain_resets_and_may_be_repeated(void **state)
{
    (void)state;
    park_drain(&park);
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
    park_drain(&park);
    assert_false(has_fired());
    park_drain(&park);
}

static void level_may_change_without_cancel(void **state)
{
    (void)state;
    park_prepare(&park, PARK_ANY);
    park_prepare(&park, PARK_BULK);
    assert_false(park_wake(&park, false));
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
}

static void wake_on_a_full_counter_does_not_block(void **state)
{
    (void)state;
    uint64_t most = UINT64_MAX - 1;
    assert_int_equal(write(park.fd, &most, sizeof most), (ssize_t)sizeof most);
    park_prepare(&park, PARK_ANY);
    assert_true(park_wake(&park, false));
    assert_true(has_fired());
    park_drain(&park);
    assert_false(has_fired());
}

static void eventfd_never_blocks_and_is_not_inherited(void **state)
{
    (void)state;
    assert_true((fcntl(park.fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(park.fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static void close_may_be_repeated(void **state)
{
    (void)state;
    park_close(&park);
    assert_int_equal(park.fd, -1);
    park_close(&park);
}

static void init_without_descriptors_says_so(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct park failed;
        struct err err = {0};
        struct rlimit none = {0, 0};
        bool is_limited = setrlimit(RLIMIT_NOFILE, &none) == 0;
        int r = park_init(&failed, &err);
        _exit(is_limited && r == -EMFILE && strstr(err.text, "eventfd") != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define ON_PARK(test) cmocka_unit_test_setup_teardown(test, open_park, close_park)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_PARK(nobody_pays_for_an_awake_agent),
        ON_PARK(anything_wakes_a_sleeper_at_any),
        ON_PARK(small_work_leaves_a_bulk_sleeper_alone),
        ON_PARK(only_the_first_waker_pays),
        ON_PARK(cancel_makes_wakes_free_again),
        ON_PARK(wake_before_the_wait_is_kept),
        ON_PARK(drain_resets_and_may_be_repeated),
        ON_PARK(level_may_change_without_cancel),
        ON_PARK(wake_on_a_full_counter_does_not_block),
        ON_PARK(eventfd_never_blocks_and_is_not_inherited),
        ON_PARK(close_may_be_repeated),
        ON_PARK(init_without_descriptors_says_so),
    };
    return cmocka_run_group_tests_name("park", tests, NULL, NULL);
}
