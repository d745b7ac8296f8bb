/* envelope: what stands in a line comes out of it; everything else is refused, and nothing beyond
 * the line is read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/mem.h"
#include "model/envelope.h"

#define ID "01J8ZZZZZZZZZZZZZZZZZZZZZA"
#define GOOD                                                                                       \
    "{\"id\":\"" ID "\",\"lsn\":42,\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00.5Z\","   \
    "\"record\":{\"a\": [1,2]}}"

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void members_come_out_in_any_order(void **state)
{
    (void)state;
    static const char *const lines[] = {
        GOOD,
        " { \"record\" : {\"a\": [1,2]} , \"kind\":\"log\",\"more\":{\"id\":1}, \"lsn\":42 ,"
        "\"received_at\":\"2025-08-25T12:00:00.5+02:00\",\"id\":\"" ID "\" } \r",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        struct envelope envelope;
        assert_null(envelope_parse(&envelope, text_slice(lines[i])));
        struct ulid id;
        assert_int_equal(ulid_parse(&id, SLICE_LITERAL(ID)), 0);
        assert_memory_equal(&envelope.id, &id, sizeof id);
        assert_int_equal(envelope.lsn, 42);
        assert_true(slice_equal(envelope.kind, SLICE_LITERAL("log")));
        assert_int_equal(envelope.received_at_ns, INT64_C(1756116000500000000));
        assert_true(slice_equal(envelope.record, SLICE_LITERAL("{\"a\": [1,2]}")));
    }
}

static void lines_that_are_none_are_refused(void **state)
{
    (void)state;
#define REST "\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00Z\",\"record\":{}}"
#define HEAD "{\"id\":\"" ID "\",\"lsn\":1,"
    static const char *const lines[] = {
        "",
        "{}",
        "[]",
        "null",
        GOOD "x",
        GOOD GOOD,
        "{\"id\":\"" ID "\"," REST,
        "{\"id\":\"" ID "\",\"lsn\":0," REST,
        "{\"id\":\"" ID "\",\"lsn\":-1," REST,
        "{\"id\":\"" ID "\",\"lsn\":1e3," REST,
        "{\"id\":\"" ID "\",\"lsn\":9223372036854775808," REST,
        "{\"id\":\"" ID "\",\"lsn\":18446744073709551617," REST,
        "{\"id\":\"" ID "\",\"lsn\":\"1\"," REST,
        "{\"id\":1,\"lsn\":1," REST,
        "{\"id\":\"" ID "A\",\"lsn\":1," REST,
        HEAD "\"lsn\":1," REST,
        HEAD "\"kind\":1,\"received_at\":\"2025-08-25T10:00:00Z\",\"record\":{}}",
        HEAD "\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00\",\"record\":{}}",
        HEAD "\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00Z\",\"record\":{},}",
        HEAD
        "\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00Z\",\"record\":{\"a\":\"\xff\"}}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        struct envelope envelope;
        if (envelope_parse(&envelope, text_slice(lines[i])) == NULL) {
            fail_msg("taken: %s", lines[i]);
        }
    }
}

/* In memory of exactly that size, so that a sanitizer sees a read behind the end. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < strlen(GOOD); cut++) {
        uint8_t *exact = mem_alloc(cut == 0 ? 1 : cut);
        struct envelope envelope;
        memcpy(exact, GOOD, cut);
        assert_non_null(envelope_parse(&envelope, (struct slice){exact, cut}));
        mem_free(exact);
    }
}

/* As deep as the record was where it was first taken, whatever is around it now. */
static void a_record_may_be_as_deep_as_in_a_body_of_its_own(void **state)
{
    (void)state;
    for (unsigned depth = 64; depth <= 65; depth++) {
        char line[512] =
            HEAD "\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00Z\",\"record\":";
        size_t at = strlen(line);
        memset(line + at, '[', depth);
        memset(line + at + depth, ']', depth);
        memcpy(line + at + 2 * (size_t)depth, "}", 2);
        struct envelope envelope;
        const char *fault = envelope_parse(&envelope, text_slice(line));
        assert_int_equal(fault == NULL, depth == 64);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_out_in_any_order),
        cmocka_unit_test(lines_that_are_none_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_record_may_be_as_deep_as_in_a_body_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
