/*
 * What the probe promises: it says which failures mean "not here" and which mean "not enough", each
 * with a mend, and where it finds everything the ring it hands out works.
 */
#include "core/uring_probe.h"

#include "core/uring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void unavailable_is_told_from_short_of_something(void **state)
{
    static const int absent[] = {-ENOSYS, -EPERM, -EACCES, -EOPNOTSUPP, -EINVAL};
    static const int scarce[] = {-ENOMEM, -EMFILE, -ENFILE, -EIO};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(absent); i++) {
        assert_true(uring_is_unavailable(absent[i]));
    }
    for (size_t i = 0; i < ARRAY_COUNT(scarce); i++) {
        assert_false(uring_is_unavailable(scarce[i]));
    }
}

static void expect_explained(int code, const char *mend)
{
    struct err err = {.code = 0};
    assert_int_equal(uring_explain(&err, code), code);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, mend));
}

static void every_refusal_says_what_to_do(void **state)
{
    (void)state;
    expect_explained(-ENOSYS, "needs a kernel from 6.1");
    expect_explained(-EPERM, "io_uring is");
    expect_explained(-EOPNOTSUPP, "io_uring is");
    expect_explained(-EINVAL, "6.1");
    expect_explained(-ENOMEM, "memlock");
    expect_explained(-EMFILE, "ulimit -n");
    expect_explained(-EIO, "EIO");
}

static void a_probe_that_succeeds_found_all_of_it(void **state)
{
    struct uring_caps caps;
    struct err err = {.code = 0};
    (void)state;
    int r = uring_probe(&caps, &err);
    if (r < 0) {
        print_message("skipped: %s\n",
                      err.text); /* seccomp, sysctl or an old kernel: the text must say so */
        assert_true(err.text[0] != '\0');
        skip();
    }
    assert_true(caps.has_ring);
    assert_true(caps.has_recv_multishot);
    assert_true(caps.features != 0);
}

static void a_ring_it_creates_carries_a_request(void **state)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe = NULL;
    unsigned flags = 0;
    struct err err = {.code = 0};
    (void)state;
    if (uring_create(&ring, 8, 32, &flags, &err) < 0) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    assert_int_equal(flags & URING_SETUP_BASE, URING_SETUP_BASE);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    io_uring_prep_nop(sqe);
    sqe->user_data = 42;
    assert_int_equal(io_uring_submit_and_wait(&ring, 1), 1);
    assert_int_equal(io_uring_peek_cqe(&ring, &cqe), 0);
    assert_int_equal(cqe->user_data, 42);
    io_uring_queue_exit(&ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unavailable_is_told_from_short_of_something),
        cmocka_unit_test(every_refusal_says_what_to_do),
        cmocka_unit_test(a_probe_that_succeeds_found_all_of_it),
        cmocka_unit_test(a_ring_it_creates_carries_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
