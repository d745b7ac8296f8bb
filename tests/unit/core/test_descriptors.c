/* descriptors: the limit is raised as far as it may be, and what a configuration needs grows with
 * it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/descriptors.h"

#include <sys/resource.h>

static void soft_limit_is_raised_to_the_hard_one_and_never_lowered(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit low = {.rlim_cur = 100, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(descriptors_get().soft, 100);
    struct descriptors now = descriptors_raise();
    uint64_t most = now.hard < DESCRIPTORS_MAX ? now.hard : DESCRIPTORS_MAX;
    assert_int_equal(now.soft, most);
    assert_int_equal(descriptors_get().soft, most);
    assert_int_equal(descriptors_raise().soft, most);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void hard_limit_is_where_it_ends(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit low = {.rlim_cur = 100, .rlim_max = 200};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(descriptors_raise().soft, 200);
    assert_int_equal(descriptors_get().hard, 200);
}

static void every_segment_of_a_full_log_is_counted(void **state)
{
    (void)state;
    struct config config = {
        .max_connections = 1000, .segment_bytes = MIB(64), .retention_bytes = MIB(6400)};
    assert_int_equal(descriptors_for_segments(&config), 101);
    assert_true(descriptors_needed(&config) >= 1000 + 101);
    uint64_t raw = descriptors_needed(&config);
    config.compacts = true; /* smaller files, so more of them */
    assert_true(descriptors_needed(&config) > raw);
    assert_int_equal(descriptors_for_segments(&config), 1010);
    config.retention_bytes = 0; /* no limit is not no file */
    assert_true(descriptors_for_segments(&config) > 1010);
    config.retention_bytes = UINT64_MAX;
    config.segment_bytes = MIB(1);
    assert_true(descriptors_for_segments(&config) > UINT64_MAX / MIB(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_limit_is_raised_to_the_hard_one_and_never_lowered),
        cmocka_unit_test(every_segment_of_a_full_log_is_counted),
        cmocka_unit_test(hard_limit_is_where_it_ends), /* last: it cannot be taken back */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
