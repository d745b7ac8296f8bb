/*
 * What other tools do to a file, as the file system tells it.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/runs_watch.h"

static char dir[64];
static char path[96];
static char aside[96];
static struct runs_watch watch;

static void write_to(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    (void)close(fd);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/sluice-watch-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/a", dir);
    (void)snprintf(aside, sizeof aside, "%s/b", dir);
    write_to(path, "1");
    runs_watch_open(&watch, path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(aside);
    (void)rmdir(dir);
    return 0;
}

static void a_file_that_nobody_touches_is_the_same(void **state)
{
    (void)state;
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_SAME);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_SAME);
}

static void a_write_is_seen_until_it_is_known(void **state)
{
    (void)state;
    write_to(path, "2");
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_WRITTEN);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_WRITTEN);
    runs_watch_keep(&watch, path);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_SAME);
}

static void a_write_of_the_same_length_is_seen(void **state)
{
    (void)state;
    int fd = open(path, O_WRONLY);
    struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(pwrite(fd, "9", 1, 0), 1);
    assert_int_equal(futimens(fd, long_ago), 0); /* clocks of file systems are coarse */
    (void)close(fd);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_WRITTEN);
}

static void a_name_that_is_gone_or_anothers_is_moved_until_it_is_back(void **state)
{
    (void)state;
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_MOVED);
    write_to(path, "1");
    runs_watch_keep(&watch, path); /* what another file has is not what ours has */
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_MOVED);
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(runs_watch_look(&watch, path), RUNS_FILE_SAME);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(a_file_that_nobody_touches_is_the_same),
        CASE(a_write_is_seen_until_it_is_known),
        CASE(a_write_of_the_same_length_is_seen),
        CASE(a_name_that_is_gone_or_anothers_is_moved_until_it_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
