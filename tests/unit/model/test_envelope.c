/* envelope: what stands in a line comes out of it; everything else is refused, and nothing beyond
 * the line is read. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
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

#define WITH(more)                                                                                 \
    "{\"id\":\"" ID                                                                                \
    "\",\"lsn\":42,\"kind\":\"log\",\"received_at\":\"2025-08-25T10:00:00.5Z\"," more              \
    ",\"record\":{}}"

static void what_may_be_left_out_comes_out_where_it_is(void **state)
{
    (void)state;
    struct envelope envelope;
    assert_null(envelope_parse(&envelope, text_slice(GOOD)));
    assert_false(envelope.has_event_time);
    assert_false(envelope.has_origin);
    assert_int_equal(envelope.severity, 0);
    assert_null(envelope_parse(&envelope, text_slice(WITH("\"event_time\":-9223372036854775808,"
                                                          "\"severity\":6"))));
    assert_true(envelope.has_event_time);
    assert_true(envelope.event_time_ns == INT64_MIN);
    assert_int_equal(envelope.severity, 6);
    assert_null(envelope_parse(
        &envelope, text_slice(WITH("\"origin\": {\"via\" : [ \"" ID "\" , \"" ID
                                   "\"], \"lsn\":7 ,\"x\":[{}],\"node\":\"" ID "\"}"))));
    assert_true(envelope.has_origin);
    assert_int_equal(envelope.origin.lsn, 7);
    assert_int_equal(envelope.origin.via_count, 2);
    assert_memory_equal(&envelope.origin.node, &envelope.id, sizeof envelope.id);
    assert_memory_equal(&envelope.origin.via[1], &envelope.id, sizeof envelope.id);
    assert_null(envelope_parse(
        &envelope, text_slice(WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":[]}"))));
    assert_int_equal(envelope.origin.via_count, 0);
}

static void what_may_be_left_out_is_refused_where_it_is_wrong(void **state)
{
    (void)state;
    static const char *const lines[] = {
        WITH("\"event_time\":9223372036854775808"),
        WITH("\"event_time\":-9223372036854775809"),
        WITH("\"event_time\":92233720368547758070"),
        WITH("\"event_time\":1.0"),
        WITH("\"event_time\":1e3"),
        WITH("\"event_time\":\"1\""),
        WITH("\"event_time\":null"),
        WITH("\"event_time\":1,\"event_time\":1"),
        WITH("\"severity\":7"),
        WITH("\"severity\":10"),
        WITH("\"severity\":-1"),
        WITH("\"severity\":\"3\""),
        WITH("\"severity\":[3]"),
        WITH("\"origin\":null"),
        WITH("\"origin\":{}"),
        WITH("\"origin\":[]"),
        WITH("\"origin\":{\"node\":\"" ID "\"}"),
        WITH("\"origin\":{\"lsn\":1}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":0}"),
        WITH("\"origin\":{\"node\":\"x\",\"lsn\":1}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"lsn\":1}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":{}}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":[1]}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":[\"" ID "\",\"\"]}"),
        WITH("\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":[\"" ID "\",]}"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        struct envelope envelope;
        if (envelope_parse(&envelope, text_slice(lines[i])) == NULL) {
            fail_msg("taken: %s", lines[i]);
        }
    }
}

/* Counted, so that the record alone can be refused. */
static void more_nodes_than_are_kept_are_counted(void **state)
{
    (void)state;
    char line[4096];
    int n = snprintf(line, sizeof line,
                     "{\"id\":\"" ID "\",\"lsn\":1,\"kind\":\"log\",\"record\":{},"
                     "\"received_at\":\"2025-08-25T10:00:00Z\","
                     "\"origin\":{\"node\":\"" ID "\",\"lsn\":1,\"via\":[\"" ID "\"");
    for (unsigned i = 0; i < ENVELOPE_VIA_MAX + 20; i++) {
        n += snprintf(line + n, sizeof line - (size_t)n, ",\"" ID "\"");
    }
    (void)snprintf(line + n, sizeof line - (size_t)n, "]}}");
    struct envelope envelope;
    assert_null(envelope_parse(&envelope, text_slice(line)));
    assert_int_equal(envelope.origin.via_count, ENVELOPE_VIA_MAX + 21);
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
        cmocka_unit_test(what_may_be_left_out_comes_out_where_it_is),
        cmocka_unit_test(what_may_be_left_out_is_refused_where_it_is_wrong),
        cmocka_unit_test(more_nodes_than_are_kept_are_counted),
        cmocka_unit_test(lines_that_are_none_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_record_may_be_as_deep_as_in_a_body_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
