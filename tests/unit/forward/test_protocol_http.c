#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

#define SEED 20261122u

#define META(lsn, kind, record)                                                                    \
    "{\"id\":\"" ENCODE_ID "\",\"lsn\":" lsn ",\"kind\":\"" kind                                   \
    "\",\"received_at\":\"2025-11-21T17:25:06.123456Z\",\"record\":" record "}"

static struct config_sink sink_of(enum sink_format format, enum sink_record record)
{
    struct config_sink sink = encode_sink(SINK_HTTP);
    sink.format = format;
    sink.record = record;
    return sink;
}

static void open_and_begin(struct encoder *encoder, const struct config_sink *sink)
{
    encoder_open(encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(encoder, ENCODE_FROZEN_AT);
}

static void ndjson_is_a_record_a_line(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_NDJSON, SINK_RECORD_META);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_LOG, "{\"message\":\"a\"}");
    encode_add(&encoder, UINT64_MAX, RECORD_METRIC, "{\"value\":1.50}");
    encoder_end(&encoder, ENCODE_KEY, 7, UINT64_MAX);
    encode_expect(&encoder, META("7", "log", "{\"message\":\"a\"}") "\n" META(
                                "18446744073709551615", "metric", "{\"value\":1.50}") "\n");
    encoder_close(&encoder);
}

/* In an array or an object they are legal and stay; a line would end at them. */
static void line_breaks_between_tokens_become_spaces_in_lines_only(void **state)
{
    (void)state;
    static const char payload[] = "{\r\n\"message\" :\n\"a\\nb\"\n}";
    struct config_sink sink = sink_of(SINK_NDJSON, SINK_RECORD_RAW);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_LOG, payload);
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(&encoder, "{  \"message\" : \"a\\nb\" }\n");
    encoder_close(&encoder);
    sink = sink_of(SINK_ARRAY, SINK_RECORD_RAW);
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_LOG, payload);
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(&encoder, "[{\r\n\"message\" :\n\"a\\nb\"\n}]");
    encoder_close(&encoder);
}

static void array_is_one_json_array(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_ARRAY, SINK_RECORD_META);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_LOG, "{}");
    encode_add(&encoder, 8, RECORD_EVENT, "{\"a\":[1, 2]}");
    encoder_end(&encoder, ENCODE_KEY, 7, 8);
    encode_expect(&encoder,
                  "[" META("7", "log", "{}") "," META("8", "event", "{\"a\":[1, 2]}") "]");
    encoder_close(&encoder);
}

static void object_sorts_records_into_lists_and_keeps_their_order(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_OBJECT, SINK_RECORD_RAW);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_METRIC, "{\"m\":1}");
    encode_add(&encoder, 8, RECORD_LOG, "{\"l\":1}");
    encode_add(&encoder, 9, RECORD_GPU, "{\"g\":1}");
    encode_add(&encoder, 10, RECORD_METRIC, "{\"m\":2}");
    encode_add(&encoder, 11, RECORD_EVENT, "{\"e\":1}");
    encode_add(&encoder, 12, RECORD_LOG, "{\"l\":2}");
    encoder_end(&encoder, ENCODE_KEY, 7, 12);
    encode_expect(&encoder,
                  "{\"batch_id\":\"" ENCODE_KEY "\",\"source\":\"host \\\"a\\\"\","
                  "\"sent_at\":\"2025-11-21T17:25:07.000000Z\",\"logs\":[{\"l\":1},{\"l\":2}],"
                  "\"metrics\":[{\"m\":1},{\"m\":2}],\"events\":[{\"e\":1}],\"gpu\":[{\"g\":1}]}");
    encoder_close(&encoder);
}

static void object_always_has_logs_and_metrics(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_OBJECT, SINK_RECORD_META);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_RUN, "{}");
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(&encoder,
                  "{\"batch_id\":\"" ENCODE_KEY "\",\"source\":\"host \\\"a\\\"\","
                  "\"sent_at\":\"2025-11-21T17:25:07.000000Z\",\"logs\":[],\"metrics\":[],"
                  "\"runs\":[" META("7", "run", "{}") "]}");
    encoder_close(&encoder);
}

static void an_object_fits_with_the_worst_source(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_OBJECT, SINK_RECORD_RAW);
    memset(sink.source, 1, sizeof(sink.source) - 1);
    sink.source[sizeof(sink.source) - 1] = '\0';
    char key[FORWARD_KEY_BYTES];
    memset(key, '"', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_LOG, "{}");
    size_t before = encoder.body.bytes;
    encoder_end(&encoder, key, 7, 7);
    assert_true(encoder.body.bytes - before <= encoder.end_bytes);
    encode_expect_json(encoder.body.data, encoder.body.bytes, false);
    encoder_close(&encoder);
}

/* What comes out of a line, read back, is the payload but for line breaks. */
static void random_records_come_back(void **state)
{
    (void)state;
    static const char front[] = ",\"record\":";
    uint64_t random = SEED;
    struct config_sink sink = sink_of(SINK_NDJSON, SINK_RECORD_META);
    struct encoder encoder;
    encoder_open(&encoder, &sink, encode_ulid(ENCODE_NODE));
    for (uint64_t round = 0; round < 3000; round++) {
        char payload[4096];
        struct forward_record record = encode_record(round + 1, RECORD_LOG, "");
        size_t bytes = encode_random_object(&random, payload);
        record.record.payload = (struct slice){(const uint8_t *)payload, bytes};
        encoder_begin(&encoder, ENCODE_FROZEN_AT);
        assert_int_equal(encoder_add(&encoder, &record, NULL), 0);
        encoder_end(&encoder, ENCODE_KEY, record.lsn, record.lsn);
        encode_expect_json(encoder.body.data, encoder.body.bytes, true);
        const char *at = memmem(encoder.body.data, encoder.body.bytes, front, sizeof(front) - 1);
        assert_non_null(at);
        at += sizeof(front) - 1;
        for (size_t i = 0; i < bytes; i++) {
            char expected = payload[i] == '\n' || payload[i] == '\r' ? ' ' : payload[i];
            assert_int_equal(at[i], expected);
        }
        assert_memory_equal(at + bytes, "}\n", 2);
    }
    encoder_close(&encoder);
}

static void the_encoding_names_format_and_record(void **state)
{
    (void)state;
    char out[FORWARD_ENCODING_BYTES];
    struct config_sink sink = sink_of(SINK_NDJSON, SINK_RECORD_META);
    protocol_of(SINK_HTTP)->encoding(&sink, out);
    assert_string_equal(out, "http/ndjson/meta/1");
    sink = sink_of(SINK_OBJECT, SINK_RECORD_RAW);
    protocol_of(SINK_HTTP)->encoding(&sink, out);
    assert_string_equal(out, "http/object/raw/1");
}

static void url_and_content_type_are_said(void **state)
{
    (void)state;
    static const char *const types[] = {"Content-Type: application/x-ndjson",
                                        "Content-Type: application/json",
                                        "Content-Type: application/json"};
    for (int format = SINK_NDJSON; format <= SINK_OBJECT; format++) {
        struct config_sink sink = sink_of((enum sink_format)format, SINK_RECORD_META);
        char url[FORWARD_URL_BYTES];
        char headers[1024];
        memset(headers, 'x', sizeof(headers));
        struct encoder encoder;
        open_and_begin(&encoder, &sink);
        encoder.protocol->url(&encoder, url);
        encoder.protocol->headers(&encoder, headers);
        assert_string_equal(url, sink.url);
        assert_string_equal(headers, types[format]);
        assert_int_equal(headers[strlen(headers) + 1], 0);
        assert_null(encoder.protocol->content_type);
        encoder_close(&encoder);
    }
}

static void a_409_is_the_first_request_still_at_work(void **state)
{
    (void)state;
    struct config_sink sink = sink_of(SINK_NDJSON, SINK_RECORD_META);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    assert_int_equal(encode_judge(&encoder, 409, "").verdict, VERDICT_RETRY);
    assert_int_equal(encode_judge(&encoder, 200, "").verdict, VERDICT_DONE);
    assert_int_equal(encode_judge(&encoder, 422, "").verdict, VERDICT_REFUSED);
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ndjson_is_a_record_a_line),
        cmocka_unit_test(line_breaks_between_tokens_become_spaces_in_lines_only),
        cmocka_unit_test(array_is_one_json_array),
        cmocka_unit_test(object_sorts_records_into_lists_and_keeps_their_order),
        cmocka_unit_test(object_always_has_logs_and_metrics),
        cmocka_unit_test(an_object_fits_with_the_worst_source),
        cmocka_unit_test(random_records_come_back),
        cmocka_unit_test(the_encoding_names_format_and_record),
        cmocka_unit_test(url_and_content_type_are_said),
        cmocka_unit_test(a_409_is_the_first_request_still_at_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
