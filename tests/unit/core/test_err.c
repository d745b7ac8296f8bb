/* err: what a failure says, and that it never says more than fits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/err.h"

#include <errno.h>
#include <string.h>

static void set_returns_code_and_keeps_text(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, -EIO, "read %s at %d", "a", 7), -EIO);
    assert_int_equal(err.code, -EIO);
    assert_string_equal(err.text, "read a at 7");
}

static void without_err_only_the_code_travels(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_TORN, "x"), ERR_TORN);
    assert_int_equal(err_wrap(NULL, ERR_TORN, "x"), ERR_TORN);
}

static void wraps_put_the_outermost_context_first(void **state)
{
    (void)state;
    struct err err = {0};
    int r = err_set(&err, ERR_CORRUPT, "header checksum does not match");
    r = err_wrap(&err, r, "recover segment %d", 42);
    r = err_wrap(&err, r, "open store %s", "./data");
    assert_int_equal(r, ERR_CORRUPT);
    assert_string_equal(err.text,
                        "open store ./data: recover segment 42: header checksum does not match");
}

static void wrap_keeps_the_first_code(void **state)
{
    (void)state;
    struct err err = {0};
    err_set(&err, -ENOSPC, "write");
    assert_int_equal(err_wrap(&err, -EIO, "append"), -ENOSPC);
    assert_int_equal(err.code, -ENOSPC);
}

static void wrap_of_a_bare_code_names_it(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(err_wrap(&err, -ENOSPC, "append"), -ENOSPC);
    assert_string_equal(err.text, "append: no space left on device (ENOSPC)");
}

static void set_may_quote_its_own_text(void **state)
{
    (void)state;
    struct err err = {0};
    err_set(&err, -EIO, "inner");
    err_set(&err, -EIO, "outer(%s)", err.text);
    assert_string_equal(err.text, "outer(inner)");
    err_wrap(&err, -EIO, "%s again", err.text);
    assert_string_equal(err.text, "outer(inner) again: outer(inner)");
}

static void too_long_texts_are_cut_at_the_end(void **state)
{
    (void)state;
    char longer[2 * ERR_TEXT_BYTES];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    struct err err = {0};
    err_set(&err, -EIO, "%s", longer);
    assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
    for (int i = 0; i < 3; i++) { /* Also when there is no room for more than the context. */
        err_wrap(&err, -EIO, "context %d", i);
        assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
    }
    assert_int_equal(strncmp(err.text, "context 2: context 1: context 0: xxx", 36), 0);
    err_wrap(&err, -EIO, "%s", longer);
    assert_int_equal(strlen(err.text), ERR_TEXT_BYTES - 1);
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(err_name(-ENOSPC), "no space left on device (ENOSPC)");
    assert_string_equal(err_name(ENOSPC), "no space left on device (ENOSPC)");
    assert_string_equal(err_name(ERR_CORRUPT), "data is damaged (ERR_CORRUPT)");
    assert_string_equal(err_name(-EXFULL), "EXFULL");
    assert_string_equal(err_name(-4000), "unknown error");
    assert_string_equal(err_name(-9999), "unknown error");
    assert_string_equal(err_name(0), "success");
    for (int code = ERR_UNSUPPORTED; code <= ERR_CORRUPT; code++) {
        assert_string_not_equal(err_name(code), "unknown error");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_code_and_keeps_text),
        cmocka_unit_test(without_err_only_the_code_travels),
        cmocka_unit_test(wraps_put_the_outermost_context_first),
        cmocka_unit_test(wrap_keeps_the_first_code),
        cmocka_unit_test(wrap_of_a_bare_code_names_it),
        cmocka_unit_test(set_may_quote_its_own_text),
        cmocka_unit_test(too_long_texts_are_cut_at_the_end),
        cmocka_unit_test(every_code_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
