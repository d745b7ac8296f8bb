#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

static void open_segment(struct encoder *encoder, const struct config_sink *sink,
                         const char *suffix)
{
    encoder_open(encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_segment(encoder, 42, suffix, 1000);
    body_put_text(&encoder->body, "bytes of a file");
    encoder_end(encoder, ENCODE_KEY, 7, 1006);
}

static void an_object_is_named_as_the_file_in_the_data_directory(void **state)
{
    (void)state;
    static const struct {
        const char *base, *prefix, *suffix, *url;
    } cases[] = {
        {"https://b.s3.eu-west-1.amazonaws.com", "", "slc",
         "https://b.s3.eu-west-1.amazonaws.com/" ENCODE_NODE "/log/000000000000002a.slc"},
        {"http://minio:9000/bucket/", "tele metry/a+b/", "seg",
         "http://minio:9000/bucket/tele%20metry/a%2Bb/" ENCODE_NODE "/log/000000000000002a.seg"},
        {"http://minio:9000/bucket", "/p/", "seg",
         "http://minio:9000/bucket/p/" ENCODE_NODE "/log/000000000000002a.seg"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_sink sink = encode_sink(SINK_S3);
        struct encoder encoder;
        char url[FORWARD_URL_BYTES];
        (void)snprintf(sink.url, sizeof sink.url, "%s", cases[i].base);
        (void)snprintf(sink.prefix, sizeof sink.prefix, "%s", cases[i].prefix);
        open_segment(&encoder, &sink, cases[i].suffix);
        encoder.protocol->url(&encoder, url);
        assert_string_equal(url, cases[i].url);
        encode_expect(&encoder, "bytes of a file");
        encoder_close(&encoder);
    }
}

static void the_longest_prefix_fits(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_S3);
    struct encoder encoder;
    char url[FORWARD_URL_BYTES];
    memset(sink.prefix, ' ', sizeof sink.prefix - 1);
    open_segment(&encoder, &sink, "slc");
    encoder.protocol->url(&encoder, url);
    assert_non_null(strstr(url, "%20" ENCODE_NODE "/"));
    assert_non_null(strstr(url, "/log/000000000000002a.slc"));
    encoder_close(&encoder);
}

static void nothing_that_is_there_is_written_over(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_S3);
    struct encoder encoder;
    char headers[1024];
    memset(headers, 'x', sizeof headers);
    open_segment(&encoder, &sink, "slc");
    encoder.protocol->headers(&encoder, headers);
    assert_string_equal(headers, "If-None-Match: *");
    const char *second = headers + strlen(headers) + 1;
    assert_string_equal(second, "x-amz-meta-sluice-lsn: 7-1006");
    assert_int_equal(second[strlen(second) + 1], 0);
    assert_string_equal(encoder.protocol->method, "PUT");
    assert_true(encoder.protocol->takes_segments);
    encoder_close(&encoder);
}

static void answers_are_judged_and_no_refusal_costs_a_segment(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
    } cases[] = {
        {200, "", VERDICT_DONE},
        {412, "<Error><Code>PreconditionFailed</Code></Error>", VERDICT_DONE},
        {409, "<Error><Code>ConditionalRequestConflict</Code></Error>", VERDICT_RETRY},
        {400, "<Error><Code>RequestTimeout</Code></Error>", VERDICT_RETRY},
        {400, "<Error><Code>BadDigest</Code></Error>", VERDICT_RETRY},
        {400, "<Error><Code>EntityTooLarge</Code></Error>", VERDICT_PAUSE},
        {400, "<Error><Code>ExpiredToken</Code></Error>", VERDICT_PAUSE},
        {403, "<Error><Code>AccessDenied</Code></Error>", VERDICT_PAUSE},
        {404, "<Error><Code>NoSuchBucket</Code></Error>", VERDICT_PAUSE},
        {301, "", VERDICT_PAUSE},
        {501, "<Error><Code>NotImplemented</Code></Error>", VERDICT_PAUSE},
        {503, "<Error><Code>SlowDown</Code></Error>", VERDICT_RETRY},
        {500, "", VERDICT_RETRY},
    };
    struct config_sink sink = encode_sink(SINK_S3);
    struct encoder encoder;
    open_segment(&encoder, &sink, "slc");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        assert_int_equal(encode_judge(&encoder, cases[i].status, cases[i].body).verdict,
                         cases[i].verdict);
    }
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_is_named_as_the_file_in_the_data_directory),
        cmocka_unit_test(the_longest_prefix_fits),
        cmocka_unit_test(nothing_that_is_there_is_written_over),
        cmocka_unit_test(answers_are_judged_and_no_refusal_costs_a_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
