/* mem: zeroed memory, checked products, and a latch that catches agents. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs act in a child; returns its wait status, and what it wrote to stderr in text. */
static int status_of_child(void (*act)(void), char *text, size_t text_bytes)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka catches it for its own tests */
        dup2(ends[1], STDERR_FILENO);
        act();
        _exit(0);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], text, text_bytes - 1);
    text[got > 0 ? got : 0] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void assert_aborts(void (*act)(void), const char *reason)
{
    char text[1024];
    int status = status_of_child(act, text, sizeof(text));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "ASSERT failed: "));
    assert_non_null(strstr(text, reason));
}

static void assert_exits(void (*act)(void), int code)
{
    char text[1024];
    int status = status_of_child(act, text, sizeof(text));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

static void memory_is_zeroed_and_nothing_is_not_null(void **state)
{
    (void)state;
    uint8_t *p = mem_alloc_array(100, 10);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(p[i], 0);
    }
    mem_free(p);
    p = mem_alloc(0);
    assert_non_null(p);
    mem_free(p);
    mem_free(NULL);
}

static void expect_aligned(size_t count, size_t bytes_each)
{
    uint8_t *p = mem_alloc_array(count, bytes_each);
    assert_int_equal((uintptr_t)p % (2 * CACHE_LINE_BYTES), 0);
    assert_int_equal(p[0], 0);
    assert_int_equal(p[count * bytes_each - 1], 0);
    mem_free(p);
}

static void structs_with_lines_of_their_own_are_aligned_in_arrays_of_any_size(void **state)
{
    (void)state;
    for (size_t bytes_each = 2 * CACHE_LINE_BYTES; bytes_each <= 8192; bytes_each *= 2) {
        for (size_t count = 1; count * bytes_each <= MIB(4); count *= 3) {
            if (count > 1 || bytes_each < MIB(1)) {
                expect_aligned(count, bytes_each);
            }
        }
    }
}

static void overflow(void)
{
    mem_free(mem_alloc_array(SIZE_MAX / 2, 3));
}

static void product_that_wraps_ends_the_process_with_1(void **state)
{
    (void)state;
    assert_exits(overflow, 1);
}

static void released_pages_read_as_zeroes(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mem_map(4 * page);
    assert_non_null(p);
    memset(p, 0xAA, 4 * page);
    mem_release_pages(p + page, 2 * page);
    assert_int_equal(p[page - 1], 0xAA);
    assert_int_equal(p[page], 0);
    assert_int_equal(p[3 * page - 1], 0);
    assert_int_equal(p[3 * page], 0xAA);
    mem_unmap(p, 4 * page);
    mem_unmap(NULL, page);
}

static void latch_as(enum role role)
{
    setenv("SLUICE_MEM_LATCH", "1", 1);
    mem_latch();
    role_set(role);
}

static void allocate_as_shard(void)
{
    latch_as(ROLE_SHARD);
    mem_free(mem_alloc(1));
}

static void map_as_writer(void)
{
    latch_as(ROLE_WRITER);
    mem_unmap(mem_map(4096), 4096);
}

static void allocate_as_everyone_allowed(void)
{
    latch_as(ROLE_MAIN);
    mem_free(mem_alloc(1));
    role_set(ROLE_ANY);
    mem_free(mem_alloc(1));
    role_set(ROLE_SHARD);
    mem_unlatch_begin();
    mem_unlatch_begin();
    mem_unlatch_end();
    mem_free(mem_alloc(1));
    mem_unlatch_end();
    mem_free(NULL);
    mem_unlatch();
    mem_free(mem_alloc(1));
}

static void allocate_after_the_window(void)
{
    latch_as(ROLE_SHARD);
    mem_unlatch_begin();
    mem_unlatch_end();
    mem_free(mem_alloc(1));
}

static void allocate_without_the_wish(void)
{
    unsetenv("SLUICE_MEM_LATCH");
    mem_latch();
    role_set(ROLE_SHARD);
    mem_free(mem_alloc(1));
}

static void latched_agent_that_allocates_aborts(void **state)
{
    (void)state;
    assert_aborts(allocate_as_shard, "mem.c");
    assert_aborts(map_as_writer, "mem.c");
    assert_aborts(allocate_after_the_window, "mem.c");
    assert_aborts(mem_unlatch_end, "window_depth > 0");
}

static void latch_leaves_main_windows_and_unlatched_alone(void **state)
{
    (void)state;
    assert_exits(allocate_as_everyone_allowed, 0);
#ifndef SLUICE_MEM_LATCH
    assert_exits(allocate_without_the_wish, 0);
#else
    (void)allocate_without_the_wish;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_nothing_is_not_null),
        cmocka_unit_test(structs_with_lines_of_their_own_are_aligned_in_arrays_of_any_size),
        cmocka_unit_test(product_that_wraps_ends_the_process_with_1),
        cmocka_unit_test(released_pages_read_as_zeroes),
        cmocka_unit_test(latched_agent_that_allocates_aborts),
        cmocka_unit_test(latch_leaves_main_windows_and_unlatched_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
