#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

#define META_OF(lsn, record)                                                                       \
    "{\"id\":\"" ENCODE_ID "\",\"lsn\":" #lsn                                                      \
    ",\"kind\":\"log\",\"received_at\":\"2025-11-21T17:25:06.123456Z\",\"record\":" record "}"

static void expect_body(enum sink_format format, enum sink_record form, const char *text)
{
    struct config_sink sink = encode_sink(SINK_FILE);
    struct encoder encoder;
    sink.format = format;
    sink.record = form;
    encoder_open(&encoder, &sink, encode_ulid(ENCODE_NODE));
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    encode_add(&encoder, 7, RECORD_LOG, "{\"a\":\n1}");
    encode_add(&encoder, 8, RECORD_LOG, "{\"b\":2}");
    encoder_end(&encoder, ENCODE_KEY, 7, 8);
    encode_expect(&encoder, text);
    encoder_close(&encoder);
}

static void batches_end_with_a_line_feed_in_every_format(void **state)
{
    (void)state;
    expect_body(SINK_NDJSON, SINK_RECORD_RAW, "{\"a\": 1}\n{\"b\":2}\n");
    expect_body(SINK_NDJSON, SINK_RECORD_META,
                META_OF(7, "{\"a\": 1}") "\n" META_OF(8, "{\"b\":2}") "\n");
}

/* An array a line: its records must be on that line, too. */
static void an_array_is_one_line(void **state)
{
    (void)state;
    expect_body(SINK_ARRAY, SINK_RECORD_RAW, "[{\"a\": 1},{\"b\":2}]\n");
}

static void trouble_is_never_the_records_fault(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_FILE);
    struct encoder encoder;
    struct judgement judgement = {0};
    struct upstream_answer answer = {.fault = TRANSPORT_LOCAL,
                                     .fault_text = "no space left on device"};
    encoder_open(&encoder, &sink, encode_ulid(ENCODE_NODE));
    encoder.protocol->judge(&encoder, &answer, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_RETRY);
    assert_string_equal(judgement.reason, "no space left on device");
    answer = (struct upstream_answer){.fault = TRANSPORT_OK};
    judgement = (struct judgement){0};
    encoder.protocol->judge(&encoder, &answer, &judgement);
    assert_int_equal(judgement.verdict, VERDICT_DONE);
    encoder_close(&encoder);
}

static void the_encoding_is_the_files_own(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_FILE);
    char out[FORWARD_ENCODING_BYTES];
    protocol_of(SINK_FILE)->encoding(&sink, out);
    assert_string_equal(out, "file/ndjson/meta/1");
    assert_true(protocol_of(SINK_FILE)->is_local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_end_with_a_line_feed_in_every_format),
        cmocka_unit_test(an_array_is_one_line),
        cmocka_unit_test(trouble_is_never_the_records_fault),
        cmocka_unit_test(the_encoding_is_the_files_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
