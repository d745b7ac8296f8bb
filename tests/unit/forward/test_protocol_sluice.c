#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"
#include "model/envelope.h"

static struct encoder of_three(const struct config_sink *sink)
{
    struct encoder encoder;
    encoder_open(&encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    encode_add(&encoder, 7, RECORD_LOG, "{\"a\" :\n1}");
    encode_add(&encoder, 8, RECORD_RUN, "{}");
    encode_add(&encoder, 10, RECORD_GPU, "{\"b\":2}");
    encoder_end(&encoder, ENCODE_KEY, 6, 12);
    return encoder;
}

static void the_body_is_lines_of_the_envelope(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_SLUICE);
    sink.record = SINK_RECORD_RAW; /* an option of others */
    struct encoder encoder = of_three(&sink);
#define REST(kind)                                                                                 \
    "\"kind\":\"" kind "\",\"received_at\":\"2025-11-21T17:25:06.123456Z\","                       \
    "\"event_time\":1763745906000000001,\"severity\":3,\"record\":"
    encode_expect(&encoder, "{\"id\":\"" ENCODE_ID "\",\"lsn\":7," REST(
                                "log") "{\"a\" : 1}}\n"
                                       "{\"id\":\"" ENCODE_ID "\",\"lsn\":8," REST(
                                           "run") "{}}\n"
                                                  "{\"id\":\"" ENCODE_ID
                                                  "\",\"lsn\":10," REST("gpu") "{\"b\":2}}\n");
    encode_expect_json(encoder.body.data, encoder.body.bytes, true);
    encoder_close(&encoder);
}

/* What one side writes the other reads: any time, any origin, any number of nodes on the way. */
static void a_line_says_what_the_record_is_and_where_it_was(void **state)
{
    (void)state;
    static const int64_t times[] = {0, -1, INT64_MIN, INT64_MAX, ENCODE_EVENT_TIME};
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder;
    struct err err = {0};
    encoder_open(&encoder, &sink, encode_ulid(ENCODE_NODE));
    for (unsigned i = 0; i < 5 * (FIRST_VIA_MAX + 2); i++) {
        uint8_t meta[META_ORIGIN_BYTES + META_FIRST_BYTES_MAX];
        struct origin origin = {.node = {{5}}, .lsn = 41};
        struct first_origin first = {.node = {{6}}, .lsn = INT64_MAX, .via_count = i / 5};
        memset(first.via, 9, sizeof first.via);
        bool is_passed = first.via_count <= FIRST_VIA_MAX;
        struct forward_record record = encode_record(UINT64_MAX / 2, RECORD_METRIC, "{}");
        record.record.event_time_ns = times[i % 5];
        record.record.severity = SEVERITY_NONE;
        size_t bytes = meta_origin_encode(meta, &origin);
        bytes += is_passed ? meta_first_encode(meta + bytes, &first) : 0;
        record.record.meta = (struct slice){meta, bytes};
        encoder_begin(&encoder, ENCODE_FROZEN_AT);
        assert_int_equal(encoder_add(&encoder, &record, &err), 0);
        struct envelope envelope;
        assert_null(
            envelope_parse(&envelope, (struct slice){encoder.body.data, encoder.body.bytes - 1}));
        assert_true(envelope.has_event_time);
        assert_true(envelope.event_time_ns == times[i % 5]);
        assert_int_equal(envelope.severity, SEVERITY_NONE);
        assert_true(envelope.has_origin);
        assert_int_equal(envelope.origin.node.bytes[0], is_passed ? 6 : 5);
        assert_true(envelope.origin.lsn == (is_passed ? INT64_MAX : 41));
        /* The node that it came from is the last one that it passed. */
        uint32_t via_count = is_passed ? first.via_count + 1 : 0;
        assert_int_equal(envelope.origin.via_count, via_count);
        if (via_count != 0 && via_count <= ENVELOPE_VIA_MAX) {
            assert_memory_equal(&envelope.origin.via[via_count - 1], &origin.node, ULID_BYTES);
        }
    }
    encoder_close(&encoder);
}

static void node_is_a_header(void **state)
{
    (void)state;
    char url[FORWARD_URL_BYTES];
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    encoder.protocol->url(&encoder, url);
    assert_string_equal(url, "http://upstream:1/base/v1/replicate");
    encoder_close(&encoder);
}

/* Else LSNs that it does not carry would be taken for settled, and dropped when they come. */
static void a_range_is_claimed_only_where_it_is_carried_whole_and_for_those_kinds(void **state)
{
    (void)state;
#define NODE_HEADER "Sluice-Node: " ENCODE_NODE "\0"
    static const struct {
        uint32_t covered, kinds;
        const char *headers;
        size_t bytes;
    } cases[] = {
        {UINT32_MAX, UINT32_MAX, NODE_HEADER "Sluice-Range: 6-12\0",
         sizeof(NODE_HEADER "Sluice-Range: 6-12\0")},
        {0, UINT32_MAX, NODE_HEADER, sizeof(NODE_HEADER)},
        {0, 0, NODE_HEADER, sizeof(NODE_HEADER)},
        {1u << RECORD_LOG | 1u << RECORD_GPU | 1u << 30, 1u << RECORD_LOG | 1u << RECORD_GPU,
         NODE_HEADER "Sluice-Range: 6-12\0Sluice-Kinds: log,gpu\0",
         sizeof(NODE_HEADER "Sluice-Range: 6-12\0Sluice-Kinds: log,gpu\0")},
        {0, 1u << RECORD_METRIC, NODE_HEADER "Sluice-Kinds: metric\0",
         sizeof(NODE_HEADER "Sluice-Kinds: metric\0")},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char headers[1024];
        memset(headers, 'x', sizeof(headers));
        struct config_sink sink = encode_sink(SINK_SLUICE);
        struct encoder encoder = of_three(&sink);
        assert_int_equal(encoder.covered_kinds, 0); /* unless its owner says so */
        sink.kinds = cases[i].kinds;
        encoder.covered_kinds = cases[i].covered;
        encoder.protocol->headers(&encoder, headers);
        assert_memory_equal(headers, cases[i].headers, cases[i].bytes);
        encoder_close(&encoder);
    }
}

#define SAID(a, d, r, errors)                                                                      \
    "{\"status\":\"accepted\",\"accepted\":" a ",\"duplicates\":" d ",\"rejected\":" r             \
    ",\"errors\":[" errors "]}"

static void accepted_and_duplicates_are_done(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    assert_int_equal(encode_judge(&encoder, 200, SAID("3", "0", "0", "")).verdict, VERDICT_DONE);
    assert_int_equal(encode_judge(&encoder, 202, SAID("1", "2", "0", "")).verdict, VERDICT_DONE);
    assert_int_equal(
        encode_judge(&encoder, 200, "{\"accepted\":0,\"duplicates\":3,\"rejected\":0}").verdict,
        VERDICT_DONE);
    encoder_close(&encoder);
}

static void rejected_records_are_refused_with_their_words(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    struct judgement j = encode_judge(
        &encoder, 200,
        SAID("1", "0", "2",
             "{\"index\":0,\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",0,\"service\"],"
             "\"msg\":\"Field required\",\"input\":{}},{\"msg\":\"second\"}]},"
             "{\"index\":2,\"detail\":\"kind gpu is not taken\"}"));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[0], ITEM_REFUSED);
    assert_int_equal(j.items[1], ITEM_DONE);
    assert_int_equal(j.items[2], ITEM_REFUSED);
    assert_int_equal(j.item_reason_count, 2);
    assert_string_equal(j.item_reasons[0], "missing: Field required");
    assert_string_equal(j.item_reasons[1], "kind gpu is not taken");
    /* Also where none was good and the other side calls that 422. */
    j = encode_judge(&encoder, 422,
                     SAID("0", "0", "3", "{\"index\":0},{\"index\":1},{\"index\":2}"));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[1], ITEM_REFUSED);
    encoder_close(&encoder);
}

/* Not all errors are listed: what is not named is not taken for delivered. */
static void unnamed_rejections_are_asked_for_again(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    struct judgement j = encode_judge(&encoder, 200, SAID("1", "0", "2", "{\"index\":1}"));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[0], ITEM_RETRY);
    assert_int_equal(j.items[1], ITEM_REFUSED);
    assert_int_equal(j.items[2], ITEM_RETRY);
    assert_int_equal(encode_judge(&encoder, 200, SAID("1", "0", "2", "")).verdict, VERDICT_REFUSED);
    encoder_close(&encoder);
}

static void a_success_that_says_nothing_of_these_records_is_none(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "OK",
        "<html>login</html>",
        "{}",
        "{\"status\":\"accepted\",\"accepted\":3}",
        SAID("2", "0", "0", ""),
        SAID("4", "0", "0", ""),
        SAID("3", "0", "-0", ""),
        SAID("3.0", "0", "0", ""),
        SAID("3", "0", "0", "") "{}",
        SAID("3", "0", "0", "{\"index\":0}"),
        SAID("2", "0", "1", "{\"index\":3}"),
        SAID("2", "0", "1", "{\"index\":-1}"),
        SAID("2", "0", "1", "{\"detail\":\"x\"}"),
        SAID("2", "0", "1", "1"),
        SAID("1", "0", "2", "{\"index\":1},{\"index\":1}"),
        SAID("1", "0", "2", "{\"index\":2},{\"index\":1}"),
        SAID("2", "0", "1", "{\"index\":1},"),
        SAID("999999999999999999", "999999999999999999", "999999999999999999", ""),
        SAID("18446744073709551615", "3", "1", ""),
    };
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct judgement j = encode_judge(&encoder, 200, bodies[i]);
        if (j.verdict != VERDICT_RETRY) {
            fail_msg("%s", bodies[i]);
        }
        assert_true(j.reason[0] != '\0');
        assert_int_equal(j.item_reason_count, 0);
    }
    encoder_close(&encoder);
}

static void a_request_that_is_not_wanted_pauses_and_blames_no_record(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_SLUICE);
    struct encoder encoder = of_three(&sink);
    struct judgement j = encode_judge(&encoder, 422, "{\"detail\":\"that is this node itself\"}");
    assert_int_equal(j.verdict, VERDICT_PAUSE);
    assert_string_equal(j.reason, "that is this node itself");
    assert_int_equal(encode_judge(&encoder, 503, "").verdict, VERDICT_RETRY);
    assert_int_equal(encode_judge(&encoder, 413, "").verdict, VERDICT_REFUSED);
    assert_int_equal(encode_judge(&encoder, 404, "").verdict, VERDICT_PAUSE);
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_is_lines_of_the_envelope),
        cmocka_unit_test(a_line_says_what_the_record_is_and_where_it_was),
        cmocka_unit_test(node_is_a_header),
        cmocka_unit_test(a_range_is_claimed_only_where_it_is_carried_whole_and_for_those_kinds),
        cmocka_unit_test(accepted_and_duplicates_are_done),
        cmocka_unit_test(rejected_records_are_refused_with_their_words),
        cmocka_unit_test(unnamed_rejections_are_asked_for_again),
        cmocka_unit_test(a_success_that_says_nothing_of_these_records_is_none),
        cmocka_unit_test(a_request_that_is_not_wanted_pauses_and_blames_no_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
