#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/query_params.h"
#include "api/record_keys.h"

#include <stdio.h>
#include <string.h>

#define TEXT(text) ((struct slice){(const uint8_t *)(text), strlen(text)})

static uint8_t scratch[LOOKUP_SCRATCH_BYTES];

struct seen {
    char text[512];
    size_t bytes;
    uint64_t keys[16];
    unsigned count;
};

static void seen_on_key(void *to, enum index_field field, struct slice value)
{
    struct seen *seen = to;
    assert_true(seen->count < ARRAY_COUNT(seen->keys));
    seen->keys[seen->count++] = index_key(field, value);
    seen->bytes +=
        (size_t)snprintf(seen->text + seen->bytes, sizeof seen->text - seen->bytes, "%d=%.*s;",
                         (int)field, (int)value.bytes, (const char *)value.data);
    assert_true(seen->bytes < sizeof seen->text);
}

static struct seen keys_of(const char *payload, uint8_t encoding)
{
    struct seen seen = {.bytes = 0};
    struct record record = {.kind = RECORD_LOG, .encoding = encoding, .payload = TEXT(payload)};
    record_keys(scratch, &record, seen_on_key, &seen);
    return seen;
}

static void every_field_of_an_index_is_found_under_its_number(void **state)
{
    (void)state;
    struct seen seen =
        keys_of("{\"service\":\"a\",\"source\":\"b\",\"name\":\"c\","
                "\"correlation_id\":\"d\",\"host\":\"e\",\"gpu_id\":5,\"uuid\":\"f\","
                "\"run_id\":\"g\",\"event_id\":\"h\",\"message\":\"no key\"}",
                0);
    assert_string_equal(seen.text, "1=a;2=b;3=c;4=d;5=e;6=5;6=f;7=g;8=h;");
}

static void keys_are_unescaped_and_empty_values_are_none(void **state)
{
    (void)state;
    struct seen seen = keys_of("{\"service\":\"a\\u0062\\n\",\"host\":\"\",\"name\":null}", 0);
    assert_string_equal(seen.text, "1=ab\n;");
}

static void damage_keeps_what_stood_before_it_and_other_encodings_have_none(void **state)
{
    (void)state;
    assert_string_equal(keys_of("{\"service\":\"a\",\"host\":\"torn", 0).text, "1=a;");
    assert_string_equal(keys_of("damaged", 0).text, "");
    assert_string_equal(keys_of("{\"service\":\"a\"}", 1).text, "");
}

/* An index that says no where query_matches says yes would hide records. */
static void what_a_query_matches_an_index_finds(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "{\"service\":\"s\\/1\",\"source\":\"s2\",\"name\":\"s3\",\"correlation_id\":\"s4\"}",
        "{\"service_name\":\"s/1\",\"source\":\"s2\",\"name\":\"s3\",\"x_correlation_id\":\"s4\"}",
        ("{\"service\":\"x\",\"service_name\":\"s/1\",\"source\":\"s2\",\"na\\u006de\":\"s3\","
         "\"correlation_id\":\"x\",\"x_correlation_id\":\"\\u0073\\u0034\"}"),
    };
    static struct query_params params;
    uint8_t memory[64];
    struct buf fault;
    buf_init(&fault, memory, sizeof memory);
    assert_int_equal(query_params_parse(&params, ROUTE_TAIL,
                                        TEXT("service=s/1&source=s2&name=s3&correlation_id=s4"), 0,
                                        &fault),
                     0);
    struct scan_filter filter;
    query_params_filter(&params, &filter);
    assert_int_equal(filter.key_count, 4);
    for (size_t i = 0; i < ARRAY_COUNT(payloads); i++) {
        struct scan_record record = {.record = {.kind = RECORD_LOG, .payload = TEXT(payloads[i])}};
        struct query_matcher matcher = {&params, scratch};
        assert_true(query_matches(&matcher, &record));
        struct seen seen = keys_of(payloads[i], 0);
        for (unsigned k = 0; k < filter.key_count; k++) {
            unsigned n = 0;
            while (n < seen.count && seen.keys[n] != filter.keys[k]) {
                n++;
            }
            assert_true(n < seen.count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_an_index_is_found_under_its_number),
        cmocka_unit_test(keys_are_unescaped_and_empty_values_are_none),
        cmocka_unit_test(damage_keeps_what_stood_before_it_and_other_encodings_have_none),
        cmocka_unit_test(what_a_query_matches_an_index_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
