#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

/* Reads back what the line protocol says, by the rules of both servers: a backslash escapes comma, space, '='. */

static struct config_sink sink_of(const char *url, const char *database)
{
    struct config_sink sink = encode_sink(SINK_INFLUX);
    (void)snprintf(sink.url, sizeof sink.url, "%s", url);
    (void)snprintf(sink.database, sizeof sink.database, "%s", database);
    return sink;
}

static void open_and_begin(struct encoder *encoder, const struct config_sink *sink)
{
    encoder_open(encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(encoder, ENCODE_FROZEN_AT);
}

static void expect_line(const char *payload, const char *line)
{
    struct config_sink sink = sink_of("http://h:1", "");
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 7, RECORD_METRIC, payload);
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(&encoder, line);
    encoder_close(&encoder);
}

static void expect_refused(const char *payload, const char *why)
{
    struct config_sink sink = sink_of("http://h:1", "");
    struct encoder encoder;
    struct err err = {0};
    struct forward_record record = encode_record(7, RECORD_METRIC, payload);
    open_and_begin(&encoder, &sink);
    assert_int_equal(encoder_add(&encoder, &record, &err), ERR_UNSUPPORTED);
    if (strstr(err.text, why) == NULL) {
        print_error("is:     %s\nshould: %s\n", err.text, why);
        fail();
    }
    assert_int_equal(encoder.body.bytes, 0);
    assert_int_equal(encoder.record_count, 0);
    encoder_close(&encoder);
}

static void a_metric_is_a_line_with_sorted_tags_and_the_clients_own_digits(void **state)
{
    (void)state;
    expect_line("{\"timestamp\":\"2025-11-21T17:25:06Z\",\"service\":\"api\",\"name\":\"rt\","
                "\"value\":1.50e+3,"
                "\"unit\":\"ms\",\"tags\":{\"zone\":\"b\",\"host\":\"a\"}}",
                "rt,host=a,service=api,unit=ms,zone=b value=1.50e+3 1763745906000000001\n");
    expect_line("{\"name\":\"n\",\"value\":9007199254740993}",
                "n value=9007199254740993 1763745906000000001\n");
    expect_line("{\"name\":\"n\",\"value\":-0,\"tags\":null}", "n value=-0 1763745906000000001\n");
}

static void commas_spaces_and_equals_are_escaped_where_they_delimit(void **state)
{
    (void)state;
    expect_line("{\"name\":\"a b,c=d\",\"value\":1,\"tags\":{\"k =,\":\"v =,\\\"x\\\"\"}}",
                "a\\ b\\,c=d,k\\ \\=\\,=v\\ \\=\\,\"x\" value=1 1763745906000000001\n");
    /* JSON's escapes are undone; a backslash before an ordinary byte is itself. */
    expect_line("{\"n\\u0061me\":\"\\u00e9\",\"value\":1,\"tags\":{\"path\":\"C:\\\\x\"}}",
                "\xc3\xa9,path=C:\\x value=1 1763745906000000001\n");
}

static void a_tag_without_a_value_is_no_tag(void **state)
{
    (void)state;
    expect_line(
        "{\"name\":\"n\",\"value\":1,\"unit\":\"\",\"tags\":{\"a\":\"\",\"b\":null,\"\":\"\"}}",
        "n value=1 1763745906000000001\n");
}

static void reserved_and_taken_keys_are_renamed_not_lost(void **state)
{
    (void)state;
    expect_line("{\"name\":\"n\",\"value\":1,\"service\":\"s\",\"tags\":{\"service\":\"t\","
                "\"time\":\"x\",\"_field\":\"f\"}}",
                "n,service=s,tag__field=f,tag_service=t,tag_time=x value=1 1763745906000000001\n");
}

static void what_the_line_protocol_cannot_say_is_refused_with_the_reason(void **state)
{
    (void)state;
    expect_refused("{\"name\":\"a\\nb\",\"value\":1}", "control character");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"x\\u0000y\"}}",
                   "control character");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"C:\\\\\"}}", "backslash");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"x\\\\,y\"}}", "backslash");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"\\\\\\\\srv\"}}", "backslash");
    expect_refused("{\"name\":\"#n\",\"value\":1}", "comment");
    expect_refused("{\"name\":\"\",\"value\":1}", "no name");
    expect_refused("{\"value\":1}", "no name");
    expect_refused("{\"name\":\"n\",\"value\":\"1\"}", "no number");
    expect_refused("{\"name\":\"n\",\"value\":null}", "no number");
    expect_refused("{\"name\":\"n\"}", "no number");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":{}}}", "no text");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"\":\"a\"}}", "without a key");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":[]}", "no object");
    expect_refused(
        "{\"name\":\"n\",\"value\":1,\"tags\":{\"service\":\"a\",\"tag_service\":\"b\"}}", "twice");
    expect_refused("[]", "no JSON object");
    expect_refused("{\"name\":\"n\",\"value\":1,\"tags\":{\"a\":\"b\"", "cannot be read");
}

static void too_many_labels_and_too_long_ones_are_refused(void **state)
{
    (void)state;
    static char payload[40000];
    size_t bytes = (size_t)snprintf(payload, sizeof payload,
                                    "{\"name\":\"n\",\"value\":1,\"tags\":{\"k\":\"v\"");
    for (unsigned i = 0; i < 128; i++) {
        bytes += (size_t)snprintf(payload + bytes, 64, ",\"k%u\":\"v\"", i);
    }
    (void)snprintf(payload + bytes, 8, "}}");
    expect_refused(payload, "more than 128 labels");
    bytes = (size_t)snprintf(payload, sizeof payload, "{\"value\":1,\"name\":\"");
    memset(payload + bytes, 'x', 16385);
    (void)snprintf(payload + bytes + 16385, 8, "\"}");
    expect_refused(payload, "longer than 16384");
    bytes = (size_t)snprintf(payload, sizeof payload, "{\"value\":1,\"name\":\"\\t");
    memset(payload + bytes, 'x', 16384);
    (void)snprintf(payload + bytes + 16384, 8, "\"}");
    expect_refused(payload, "escaped text");
}

static void a_line_that_servers_would_not_take_is_refused(void **state)
{
    (void)state;
    static char payload[400000];
    size_t bytes =
        (size_t)snprintf(payload, sizeof payload, "{\"name\":\"n\",\"value\":1,\"tags\":{");
    for (unsigned i = 0; i < 20; i++) {
        bytes += (size_t)snprintf(payload + bytes, 20000, "%s\"k%u\":\"%016000u\"",
                                  i > 0 ? "," : "", i, i);
    }
    (void)snprintf(payload + bytes, 8, "}}");
    expect_refused(payload, "a line of 320");
}

/* Whatever stands there, the bytes are read to their end and no further: each cut is refused, or is a whole metric. */
static void every_truncation_is_refused(void **state)
{
    (void)state;
    static const char payload[] = "{\"na\\u006de\":\"n\",\"value\":1.5,\"tags\":{\"a\\n\":"
                                  "\"\\u20ac\",\"b\":1},\"unit\":\"u\"}";
    struct config_sink sink = sink_of("http://h:1", "");
    struct encoder encoder;
    struct err err = {0};
    open_and_begin(&encoder, &sink);
    for (size_t bytes = 0; bytes < sizeof payload - 1; bytes++) {
        uint8_t *copy = mem_alloc(bytes + 1);
        memcpy(copy, payload, bytes);
        struct forward_record record = encode_record(7, RECORD_METRIC, "");
        record.record.payload = (struct slice){copy, bytes};
        assert_int_equal(encoder_add(&encoder, &record, &err), ERR_UNSUPPORTED);
        mem_free(copy);
    }
    encoder_close(&encoder);
}

static void the_same_records_give_the_same_bytes(void **state)
{
    (void)state;
    struct config_sink sink = sink_of("http://h:1", "m");
    struct encoder encoder[2];
    for (unsigned i = 0; i < 2; i++) {
        open_and_begin(&encoder[i], &sink);
        encode_add(&encoder[i], 7, RECORD_METRIC,
                   "{\"name\":\"a\",\"value\":1,\"tags\":{\"b\":\"c\",\"a\":\"d\"}}");
        encode_add(&encoder[i], 8, RECORD_METRIC, "{\"name\":\"b\",\"value\":2}");
        encoder_end(&encoder[i], ENCODE_KEY, 7, 8);
    }
    assert_int_equal(encoder[0].body.bytes, encoder[1].body.bytes);
    assert_memory_equal(encoder[0].body.data, encoder[1].body.data, encoder[0].body.bytes);
    encoder_close(&encoder[0]);
    encoder_close(&encoder[1]);
}

static void url_names_the_database_and_nanoseconds(void **state)
{
    (void)state;
    static const struct {
        const char *base, *database, *url;
    } cases[] = {
        {"http://h:8428", "", "http://h:8428/write?precision=ns"},
        {"http://h:8086/", "tele metry&x", "http://h:8086/write?db=tele%20metry%26x&precision=ns"},
        {"http://h/influx?rp=a", "d", "http://h/influx/write?rp=a&db=d&precision=ns"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_sink sink = sink_of(cases[i].base, cases[i].database);
        struct encoder encoder;
        char url[FORWARD_URL_BYTES];
        open_and_begin(&encoder, &sink);
        encoder.protocol->url(&encoder, url);
        assert_string_equal(url, cases[i].url);
        encoder_close(&encoder);
    }
}

static void answers_are_judged(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
    } cases[] = {
        {204, "", VERDICT_DONE},
        {200, "", VERDICT_DONE},
        {200, "{\"error\":\"timeout\"}", VERDICT_RETRY},
        {400, "{\"error\":\"partial write: field type conflict: dropped=1\"}", VERDICT_REFUSED},
        {400, "{\"error\":\"unable to parse 'x': missing fields\"}", VERDICT_REFUSED},
        {413, "", VERDICT_REFUSED},
        {401, "", VERDICT_PAUSE},
        {404, "{\"error\":\"database not found: \\\"x\\\"\"}", VERDICT_PAUSE},
        {429, "", VERDICT_RETRY},
        {500, "{\"error\":\"engine: cache-max-memory-size exceeded\"}", VERDICT_RETRY},
        {503, "", VERDICT_RETRY},
    };
    struct config_sink sink = sink_of("http://h:1", "");
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct judgement judgement = encode_judge(&encoder, cases[i].status, cases[i].body);
        assert_int_equal(judgement.verdict, cases[i].verdict);
    }
    assert_string_equal(encode_judge(&encoder, 200, "{\"error\":\"timeout\"}").reason, "timeout");
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_metric_is_a_line_with_sorted_tags_and_the_clients_own_digits),
        cmocka_unit_test(commas_spaces_and_equals_are_escaped_where_they_delimit),
        cmocka_unit_test(a_tag_without_a_value_is_no_tag),
        cmocka_unit_test(reserved_and_taken_keys_are_renamed_not_lost),
        cmocka_unit_test(what_the_line_protocol_cannot_say_is_refused_with_the_reason),
        cmocka_unit_test(too_many_labels_and_too_long_ones_are_refused),
        cmocka_unit_test(a_line_that_servers_would_not_take_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(the_same_records_give_the_same_bytes),
        cmocka_unit_test(url_names_the_database_and_nanoseconds),
        cmocka_unit_test(answers_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
