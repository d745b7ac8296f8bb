#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

static struct config_sink timestream_sink(void)
{
    struct config_sink sink = encode_sink(SINK_TIMESTREAM);
    (void)snprintf(sink.database, sizeof sink.database, "d\"b");
    (void)snprintf(sink.table, sizeof sink.table, "metrics");
    return sink;
}

static void open_and_begin(struct encoder *encoder, const struct config_sink *sink)
{
    encoder_open(encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(encoder, ENCODE_FROZEN_AT);
}

static int add_at(struct encoder *encoder, uint64_t lsn, const char *payload, int64_t time_ns)
{
    struct forward_record record = encode_record(lsn, RECORD_METRIC, payload);
    struct err err = {0};
    record.record.event_time_ns = time_ns;
    return encoder_add(encoder, &record, &err);
}

static void expect_refused(const char *payload, const char *why)
{
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    struct err err = {0};
    struct forward_record record = encode_record(7, RECORD_METRIC, payload);
    open_and_begin(&encoder, &sink);
    size_t before = encoder.body.bytes;
    assert_int_equal(encoder_add(&encoder, &record, &err), ERR_UNSUPPORTED);
    if (strstr(err.text, why) == NULL) {
        print_error("is:     %s\nshould: %s\n", err.text, why);
        fail();
    }
    assert_int_equal(encoder.body.bytes, before);
    encoder_close(&encoder);
}

static void records_are_written_as_the_service_reads_them(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_METRIC,
               "{\"service\":\"api\",\"name\":\"rt\",\"value\":1.50,\"unit\":\"ms\",\"tags\":{"
               "\"zone\":\"b\\u0022\",\"host\":\"a\"}}");
    encode_add(&encoder, 18446744073709551615u, RECORD_METRIC,
               "{\"name\":\"n\",\"value\":9007199254740993}");
    encoder_end(&encoder, ENCODE_KEY, 7, 8);
    encode_expect(&encoder, "{\"DatabaseName\":\"d\\\"b\",\"TableName\":\"metrics\",\"Records\":["
                            "{\"Dimensions\":[{\"Name\":\"host\",\"Value\":\"a\"},{\"Name\":"
                            "\"service\",\"Value\":\"api\"},"
                            "{\"Name\":\"sluice_node\",\"Value\":\"" ENCODE_NODE
                            "\"},{\"Name\":\"unit\",\"Value\":\"ms\"},"
                            "{\"Name\":\"zone\",\"Value\":\"b\\\"\"}],\"MeasureName\":\"rt\","
                            "\"Time\":\"1763745906000000001\","
                            "\"TimeUnit\":\"NANOSECONDS\",\"MeasureValue\":\"1.50\","
                            "\"MeasureValueType\":\"DOUBLE\",\"Version\":7},"
                            "{\"Dimensions\":[{\"Name\":\"sluice_node\",\"Value\":\"" ENCODE_NODE
                            "\"}],\"MeasureName\":\"n\","
                            "\"Time\":\"1763745906000000001\",\"TimeUnit\":\"NANOSECONDS\","
                            "\"MeasureValue\":\"9007199254740993\","
                            "\"MeasureValueType\":\"DOUBLE\",\"Version\":18446744073709551615}]}");
    encode_expect_json(encoder.body.data, encoder.body.bytes, false);
    encoder_close(&encoder);
}

static void a_second_record_of_one_series_and_time_ends_the_request(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    assert_int_equal(
        add_at(&encoder, 1, "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"x\",\"b\":\"y\"}}", 5),
        0);
    /* another time, another measure, another dimension: others */
    assert_int_equal(
        add_at(&encoder, 2, "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"x\",\"b\":\"y\"}}", 55),
        0);
    assert_int_equal(
        add_at(&encoder, 3, "{\"name\":\"m\",\"value\":1,\"tags\":{\"a\":\"x\",\"b\":\"y\"}}", 5),
        0);
    assert_int_equal(add_at(&encoder, 4, "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"x\"}}", 5),
                     0);
    size_t bytes = encoder.body.bytes;
    /* the same in another order and another spelling */
    assert_int_equal(
        add_at(&encoder, 5,
               "{\"tags\":{\"b\":\"\\u0079\",\"\\u0061\":\"x\"},\"value\":2,\"name\":\"n\"}", 5),
        ERR_LIMIT);
    assert_int_equal(encoder.body.bytes, bytes);
    assert_int_equal(encoder.record_count, 4);
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    assert_int_equal(
        add_at(&encoder, 5,
               "{\"tags\":{\"b\":\"\\u0079\",\"\\u0061\":\"x\"},\"value\":2,\"name\":\"n\"}", 5),
        0);
    encoder_close(&encoder);
}

static void a_hundred_records_are_a_request(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(add_at(&encoder, (uint64_t)i + 1, "{\"name\":\"n\",\"value\":1}", i), 0);
    }
    assert_int_equal(add_at(&encoder, 101, "{\"name\":\"n\",\"value\":1}", 100), ERR_LIMIT);
    encoder_close(&encoder);
}

static void reserved_dimensions_are_renamed_and_empty_ones_left_out(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_METRIC,
               "{\"name\":\"n\",\"value\":1,\"tags\":{\"time\":\"1\",\"measure_value::double\":"
               "\"2\",\"ts_x\":\"3\","
               "\"sluice_node\":\"4\",\"measure_name\":\"5\",\"unit\":\"6\",\"service\":\"7\","
               "\"e\":\"\"}}");
    body_put(&encoder.body, "", 1);
    const char *text = (const char *)encoder.body.data;
    static const char *const names[] = {"tag_time",        "tag_measure_value::double", "tag_ts_x",
                                        "tag_sluice_node", "tag_measure_name",          "tag_unit",
                                        "tag_service"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        char dimension[80];
        (void)snprintf(dimension, sizeof dimension, "{\"Name\":\"%s\",\"Value\":\"%zu\"}", names[i],
                       i + 1);
        assert_non_null(strstr(text, dimension));
    }
    assert_null(strstr(text, "\"e\""));
    encoder_close(&encoder);
}

static void what_is_over_the_services_limits_is_refused_with_the_reason(void **state)
{
    (void)state;
    static char payload[8192];
    (void)snprintf(payload, sizeof payload, "{\"name\":\"%0257d\",\"value\":1}", 0);
    expect_refused(payload, "the name has 257 bytes");
    (void)snprintf(payload, sizeof payload,
                   "{\"name\":\"n\",\"value\":1,\"tags\":{\"%061d\":\"x\"}}", 0);
    expect_refused(payload, "a name of 61 bytes");
    (void)snprintf(payload, sizeof payload,
                   "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"%02049d\"}}", 0);
    expect_refused(payload, "a value of 2049 bytes");
    (void)snprintf(payload, sizeof payload,
                   "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"%01000d\",\"b\":\"%01020d\"}}", 0,
                   0);
    expect_refused(payload, "together");
    expect_refused("{\"name\":\"\",\"value\":1}", "no name");
}

static void url_headers_and_type_are_those_of_the_service(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    char url[FORWARD_URL_BYTES];
    char headers[1024];
    memset(headers, 'x', sizeof headers);
    open_and_begin(&encoder, &sink);
    encoder.protocol->url(&encoder, url);
    encoder.protocol->headers(&encoder, headers);
    assert_string_equal(url, "http://upstream:1/base/");
    assert_string_equal(headers, "X-Amz-Target: Timestream_20181101.WriteRecords");
    assert_int_equal(headers[strlen(headers) + 1], 0);
    assert_string_equal(encoder.protocol->content_type, "application/x-amz-json-1.0");
    encoder_close(&encoder);
}

/* Five records, LSNs 10 to 14. */
static void open_five(struct encoder *encoder, const struct config_sink *sink)
{
    open_and_begin(encoder, sink);
    for (int i = 0; i < 5; i++) {
        /* what looks like a version in a text is none */
        assert_int_equal(
            add_at(encoder, 10 + (uint64_t)i,
                   "{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\",\\\"Version\\\":99}\"}}", i),
            0);
    }
    encoder_end(encoder, ENCODE_KEY, 10, 14);
}

static void rejected_records_are_judged_one_by_one(void **state)
{
    (void)state;
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_five(&encoder, &sink);
    struct judgement judgement = encode_judge(
        &encoder, 419,
        "{\"__type\":\"com.amazonaws.timestream.v20181101#RejectedRecordsException\",\"Message\":"
        "\"One or more\","
        "\"RejectedRecords\":[{\"RecordIndex\":4,\"Reason\":\"too "
        "old\\n\\\"x\\\"\"},{\"RecordIndex\":1,\"Reason\":\"v\",\"ExistingVersion\":11},"
        "{\"RecordIndex\":2,\"Reason\":\"v\",\"ExistingVersion\":11},{\"RecordIndex\":3,\"Reason\":"
        "\"v\",\"ExistingVersion\":999}]}");
    static const uint8_t items[] = {ITEM_DONE, ITEM_DONE, ITEM_REFUSED, ITEM_DONE, ITEM_REFUSED};
    assert_int_equal(judgement.verdict, VERDICT_ITEMS);
    assert_memory_equal(judgement.items, items, sizeof items);
    assert_int_equal(judgement.item_reason_count, 2);
    assert_string_equal(judgement.item_reasons[0], "v");
    assert_memory_equal(judgement.item_reasons[1], "too old", 7);
    encoder_close(&encoder);
}

static void an_answer_that_makes_no_sense_is_tried_again(void **state)
{
    (void)state;
    static const char *const rejected[] = {
        "",
        "[]",
        "{}",
        "[{\"RecordIndex\":5,\"Reason\":\"x\"}]",
        "[{\"RecordIndex\":-1}]",
        "[{\"RecordIndex\":1e0}]",
        "[{\"Reason\":\"x\"}]",
        "[1]",
        "[{\"RecordIndex\":1}",
        "[[[[",
        "[{\"RecordIndex\":99}]",
        "[{\"RecordIndex\":18446744073709551616}]",
    };
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    char body[256];
    open_five(&encoder, &sink);
    for (size_t i = 0; i < ARRAY_COUNT(rejected); i++) {
        (void)snprintf(body, sizeof body,
                       "{\"__type\":\"RejectedRecordsException\",\"RejectedRecords\":%s}",
                       rejected[i]);
        assert_int_equal(encode_judge(&encoder, 400, body).verdict, VERDICT_RETRY);
    }
    encoder_close(&encoder);
}

static void errors_of_the_service_are_judged_by_their_type(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
    } cases[] = {
        {200, "{\"RecordsIngested\":{\"Total\":5}}", VERDICT_DONE},
        {400,
         "{\"__type\":\"com.amazonaws.timestream.v20181101#ThrottlingException\",\"message\":"
         "\"slow\"}",
         VERDICT_RETRY},
        {500, "{\"__type\":\"InternalServerException\"}", VERDICT_RETRY},
        {400, "{\"__type\":\"x#ValidationException:http://y\"}", VERDICT_REFUSED},
        {400, "{\"__type\":\"AccessDeniedException\"}", VERDICT_PAUSE},
        {400, "{\"__type\":\"x#ResourceNotFoundException\"}", VERDICT_PAUSE},
        {400, "{\"__type\":\"UnrecognizedClientException\"}", VERDICT_PAUSE},
        {421, "{\"__type\":\"InvalidEndpointException\"}", VERDICT_PAUSE},
        {403, "", VERDICT_PAUSE},
        {503, "<html>", VERDICT_RETRY},
        {400, "not json", VERDICT_REFUSED},
    };
    struct config_sink sink = timestream_sink();
    struct encoder encoder;
    open_five(&encoder, &sink);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_int_equal(encode_judge(&encoder, cases[i].status, cases[i].body).verdict,
                         cases[i].verdict);
    }
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_written_as_the_service_reads_them),
        cmocka_unit_test(a_second_record_of_one_series_and_time_ends_the_request),
        cmocka_unit_test(a_hundred_records_are_a_request),
        cmocka_unit_test(reserved_dimensions_are_renamed_and_empty_ones_left_out),
        cmocka_unit_test(what_is_over_the_services_limits_is_refused_with_the_reason),
        cmocka_unit_test(url_headers_and_type_are_those_of_the_service),
        cmocka_unit_test(rejected_records_are_judged_one_by_one),
        cmocka_unit_test(an_answer_that_makes_no_sense_is_tried_again),
        cmocka_unit_test(errors_of_the_service_are_judged_by_their_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
