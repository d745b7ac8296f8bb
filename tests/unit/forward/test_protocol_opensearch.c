#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "encode_fixture.h"
#include "model/lookup_object.h"

#define SEED 20261123u

#define OWN "\"@timestamp\":\"2025-11-21T17:25:06.000000001Z\"," OWN_IDS
#define OWN_IDS                                                                                    \
    "\"sluice_id\":\"" ENCODE_ID "\",\"sluice_node\":\"" ENCODE_NODE                               \
    "\",\"sluice_lsn\":7,\"sluice_kind\":\"log\",\"sluice_received_at\":\"2025-11-21T17:25:06."    \
    "123456Z\""
#define ACTION(index) "{\"create\":{\"_index\":\"" index "\",\"_id\":\"" ENCODE_ID "\"}}\n"

static struct encoder opened(const struct config_sink *sink)
{
    struct encoder encoder;
    encoder_open(&encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    return encoder;
}

/* One record of LSN 7 gives this text. */
static void expect_one(const char *index, const char *payload, const char *text)
{
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    (void)snprintf(sink.index, sizeof(sink.index), "%s", index);
    struct encoder encoder = opened(&sink);
    encode_add(&encoder, 7, RECORD_LOG, payload);
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(&encoder, text);
    encode_expect_json(encoder.body.data, encoder.body.bytes, true);
    encoder_close(&encoder);
}

static void a_record_is_an_action_and_a_source(void **state)
{
    (void)state;
    expect_one("", "{\"message\":\"a\"}",
               ACTION("sluice-log-2025.11.21") "{" OWN ",\"message\":\"a\"}\n");
    expect_one("logs-sluice-default", " {\n\"message\":\"a\" }\n",
               ACTION("logs-sluice-default") "{" OWN ", \"message\":\"a\" } \n");
    expect_one("x-%Y%m%d%H_{kind}", "{ }", ACTION("x-2025112117_log") "{" OWN " }\n");
}

static void keys_of_the_client_stay_the_clients(void **state)
{
    (void)state;
    expect_one("i", "{\"@timestamp\":1}", ACTION("i") "{" OWN_IDS ",\"@timestamp\":1}\n");
    expect_one("i", "{\"\\u0040timestamp\":1}",
               ACTION("i") "{" OWN_IDS ",\"\\u0040timestamp\":1}\n");
    expect_one("i",
               "{\"@timestamp\":1,\"sluice_id\":2,\"sluice_node\":3,\"sluice_lsn\":4,"
               "\"sluice_kind\":5,\"sluice_received_at\":6}",
               ACTION("i") "{\"@timestamp\":1,\"sluice_id\":2,\"sluice_node\":3,\"sluice_lsn\":4,"
                           "\"sluice_kind\":5,\"sluice_received_at\":6}\n");
    /* Only at the top. */
    expect_one("i", "{\"a\":{\"@timestamp\":1}}",
               ACTION("i") "{" OWN ",\"a\":{\"@timestamp\":1}}\n");
}

static void what_is_no_object_is_unsupported(void **state)
{
    (void)state;
    static const char *const payloads[] = {"", "[]", "1", "{", "{\"a\"", "{\"a\":1", "{\"a\":1,,}"};
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = opened(&sink);
    for (size_t i = 0; i < ARRAY_COUNT(payloads); i++) {
        struct forward_record record = encode_record(7, RECORD_LOG, payloads[i]);
        struct err err = {0};
        assert_int_equal(encoder_add(&encoder, &record, &err), ERR_UNSUPPORTED);
        assert_true(err.text[0] != '\0');
        assert_int_equal(encoder.body.bytes, 0);
    }
    encoder_close(&encoder);
}

/* Every line is JSON, no key comes twice, and what follows our keys is the client's object. */
static void random_records_stay_valid_and_keep_their_members(void **state)
{
    (void)state;
    uint64_t random = SEED;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = opened(&sink);
    for (uint64_t round = 0; round < 3000; round++) {
        char payload[4096];
        struct forward_record record = encode_record(round + 1, RECORD_METRIC, "");
        size_t bytes = encode_random_object(&random, payload);
        record.record.payload = (struct slice){(const uint8_t *)payload, bytes};
        encoder_begin(&encoder, ENCODE_FROZEN_AT);
        assert_int_equal(encoder_add(&encoder, &record, NULL), 0);
        encoder_end(&encoder, ENCODE_KEY, record.lsn, record.lsn);
        encode_expect_json(encoder.body.data, encoder.body.bytes, true);
        const uint8_t *feed = memchr(encoder.body.data, '\n', encoder.body.bytes);
        const uint8_t *end = encoder.body.data + encoder.body.bytes - 1;
        const char *rest = (const char *)end - (bytes - 1);
        for (size_t i = 1; i < bytes; i++) {
            bool is_break = payload[i] == '\n' || payload[i] == '\r';
            assert_int_equal(rest[i - 1], is_break ? ' ' : payload[i]);
        }
        unsigned timestamps = 0;
        struct lookup_object object;
        struct lookup_member member;
        assert_true(
            lookup_object_open(&object, (struct slice){feed + 1, (size_t)(end - feed - 1)}));
        while (lookup_object_next(&object, &member) > 0) {
            timestamps += slice_equal(member.key, SLICE_LITERAL("@timestamp")) ||
                          slice_equal(member.key, SLICE_LITERAL("\\u0040timestamp"));
        }
        assert_int_equal(timestamps, 1);
    }
    encoder_close(&encoder);
}

static void index_patterns_are_judged_at_start(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        bool is_good;
    } cases[] = {
        {"", true},           {"logs-app-prod", true}, {"a.b+c_{kind}-%Y.%m.%d.%H", true},
        {"Upper", false},     {"a b", false},          {"a*", false},
        {"-a", false},        {"_a", false},           {".a", false},
        {"a%y", false},       {"a%", false},           {"{kind", false},
        {"{service}", false}, {"a\"b", false},         {"a/b", false},
        {"%Y", true},         {"a\\", false},          {"+{kind}", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_sink sink = encode_sink(SINK_OPENSEARCH);
        struct err err = {0};
        (void)snprintf(sink.index, sizeof(sink.index), "%s", cases[i].pattern);
        if ((protocol_check(&sink, &err) == 0) != cases[i].is_good) {
            fail_msg("%s", cases[i].pattern);
        }
        assert_true(cases[i].is_good || strstr(err.text, "index") != NULL);
    }
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    memset(sink.index, 'a', CONFIG_SINK_TEXT - 1);
    assert_int_equal(protocol_check(&sink, NULL), 0);
    memcpy(sink.index, "%Y", 2);
    assert_true(protocol_check(&sink, NULL) < 0);
}

/* Asked to write although the check said no, the action is still one valid line. */
static void a_bad_pattern_never_breaks_the_body(void **state)
{
    (void)state;
    expect_one("A\"\\%y", "{}", ACTION("____y") "{" OWN "}\n");
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    for (size_t i = 0; i + 2 < sizeof(sink.index); i += 2) {
        memcpy(sink.index + i, "%Y", 3);
    }
    struct encoder encoder = opened(&sink);
    encode_add(&encoder, UINT64_MAX, RECORD_METRIC, "{}");
    encode_expect_json(encoder.body.data, encoder.body.bytes, true);
    encoder_close(&encoder);
}

static void the_url_asks_for_what_is_judged(void **state)
{
    (void)state;
    char url[FORWARD_URL_BYTES];
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = opened(&sink);
    encoder.protocol->url(&encoder, url);
    assert_string_equal(
        url,
        "http://upstream:1/base/_bulk?filter_path=errors%2Citems.%2A.status%2Citems.%2A.error");
    encoder_close(&encoder);
}

/* ---- judge ---- */

static struct encoder of_three(const struct config_sink *sink)
{
    struct encoder encoder = opened(sink);
    for (uint64_t lsn = 7; lsn < 10; lsn++) {
        encode_add(&encoder, lsn, RECORD_LOG, "{}");
    }
    encoder_end(&encoder, ENCODE_KEY, 7, 9);
    return encoder;
}

#define ITEM(status) "{\"create\":{\"status\":" status "}}"
#define REFUSED                                                                                    \
    "{\"create\":{\"status\":400,\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":"     \
    "\"failed to parse\\nfield [x]\",\"caused_by\":{\"type\":\"t\"}}}}"
#define BULK(items) "{\"took\":3,\"errors\":true,\"items\":[" items "]}"

static void items_are_judged_one_by_one(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = of_three(&sink);
    struct judgement j =
        encode_judge(&encoder, 200, BULK(ITEM("201") "," ITEM("409") "," ITEM("200")));
    assert_int_equal(j.verdict, VERDICT_DONE);
    j = encode_judge(&encoder, 200, BULK(ITEM("409") "," REFUSED "," ITEM("429")));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[0], ITEM_DONE);
    assert_int_equal(j.items[1], ITEM_REFUSED);
    assert_int_equal(j.items[2], ITEM_RETRY);
    assert_int_equal(j.item_reason_count, 1);
    assert_string_equal(j.item_reasons[0], "mapper_parsing_exception: failed to parse");
    assert_string_equal(j.reason, "mapper_parsing_exception: failed to parse");
    assert_int_equal(j.status, 400);
    j = encode_judge(&encoder, 200, BULK(ITEM("429") "," ITEM("201") "," ITEM("503")));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[0], ITEM_RETRY);
    assert_int_equal(j.items[1], ITEM_DONE);
    assert_int_equal(j.items[2], ITEM_RETRY);
    encoder_close(&encoder);
}

static void all_items_passing_trouble_is_a_retry(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = of_three(&sink);
    struct judgement j =
        encode_judge(&encoder, 200, BULK(ITEM("429") "," ITEM("503") "," ITEM("500")));
    assert_int_equal(j.verdict, VERDICT_RETRY);
    assert_int_equal(j.status, 429);
    assert_int_equal(j.retry_after_ns, 7);
    encoder_close(&encoder);
}

/* A read-only index, a missing one, no rights: no record's fault. */
static void an_operators_trouble_of_items_throws_no_record_away(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = of_three(&sink);
    struct judgement j = encode_judge(
        &encoder, 200,
        BULK("{\"create\":{\"status\":403,\"error\":{\"type\":\"cluster_block_exception\"}}}," ITEM(
            "403") "," ITEM("404")));
    assert_int_equal(j.verdict, VERDICT_PAUSE);
    assert_int_equal(j.status, 403);
    assert_string_equal(j.reason, "cluster_block_exception");
    j = encode_judge(&encoder, 200, BULK(ITEM("201") "," ITEM("403") "," ITEM("404")));
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.items[1], ITEM_RETRY);
    assert_int_equal(j.items[2], ITEM_RETRY);
    encoder_close(&encoder);
}

/* Never done when it is not said of each item. */
static void an_answer_that_is_not_about_all_items_is_a_retry(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "OK",
        "{}",
        "[]",
        "{\"errors\":false}",
        "{\"errors\":false,\"items\":[]}",
        BULK(ITEM("201") "," ITEM("201")),
        BULK(ITEM("201") "," ITEM("201") "," ITEM("201") "," ITEM("201")),
        BULK(ITEM("201") "," ITEM("201") "," ITEM("201")) "x",
        BULK(ITEM("201") "," ITEM("201") "," ITEM("\"201\"")),
        BULK(ITEM("201") "," ITEM("201") "," ITEM("201.0")),
        BULK(ITEM("201") "," ITEM("201") "," ITEM("99")),
        BULK(ITEM("201") "," ITEM("201") "," ITEM("201") ","),
        BULK(ITEM("201") "," ITEM("201") ",{}"),
        BULK(ITEM("201") "," ITEM("201") ",null"),
        BULK(ITEM("201") "," ITEM("201") ",{\"create\":201}"),
        BULK(ITEM("201") "," ITEM("201") ",{\"create\":{\"status\":201},\"index\":{}}"),
        "{\"items\":[" ITEM("201") "],\"items\":[" ITEM("201") "," ITEM("201") "]}",
        "{\"items\":{\"create\":{\"status\":201}}}",
    };
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
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

static void every_truncation_is_a_retry(void **state)
{
    (void)state;
    static const char whole[] = BULK(ITEM("201") "," REFUSED "," ITEM("201"));
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = of_three(&sink);
    for (size_t bytes = 0; bytes < sizeof(whole) - 1; bytes++) {
        char *cut = mem_alloc(bytes + 1); /* so that a read behind it is seen */
        memcpy(cut, whole, bytes);
        assert_int_equal(encode_judge(&encoder, 200, cut).verdict, VERDICT_RETRY);
        mem_free(cut);
    }
    assert_int_equal(encode_judge(&encoder, 200, whole).verdict, VERDICT_ITEMS);
    encoder_close(&encoder);
}

static void the_whole_request_is_judged_by_its_status(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = of_three(&sink);
    assert_int_equal(encode_judge(&encoder, 429, "").verdict, VERDICT_RETRY);
    assert_int_equal(encode_judge(&encoder, 413, "").verdict, VERDICT_REFUSED);
    assert_int_equal(encode_judge(&encoder, 401, "").verdict, VERDICT_PAUSE);
    struct judgement j = encode_judge(
        &encoder, 400,
        "{\"error\":{\"type\":\"illegal_argument_exception\",\"reason\":\"no\"},\"status\":400}");
    assert_int_equal(j.verdict, VERDICT_REFUSED);
    assert_string_equal(j.reason, "illegal_argument_exception: no");
    encoder_close(&encoder);
}

static void reasons_are_kept_for_the_first_refused_only(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_OPENSEARCH);
    struct encoder encoder = opened(&sink);
    static char body[64 * 1024];
    struct buf text;
    buf_init(&text, body, sizeof(body) - 1);
    buf_put_text(&text, "{\"items\":[");
    for (unsigned i = 0; i < 2 * ITEM_REASONS_MAX; i++) {
        encode_add(&encoder, 7 + i, RECORD_LOG, "{}");
        buf_printf(&text, "%s{\"create\":{\"status\":400,\"error\":\"reason %u\"}}",
                   i > 0 ? "," : "", i);
    }
    buf_put_text(&text, "]}");
    encoder_end(&encoder, ENCODE_KEY, 7, 1000);
    struct judgement j = encode_judge(&encoder, 200, body);
    assert_int_equal(j.verdict, VERDICT_ITEMS);
    assert_int_equal(j.item_reason_count, ITEM_REASONS_MAX);
    assert_string_equal(j.item_reasons[63], "reason 63");
    assert_int_equal(j.items[127], ITEM_REFUSED);
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_an_action_and_a_source),
        cmocka_unit_test(keys_of_the_client_stay_the_clients),
        cmocka_unit_test(what_is_no_object_is_unsupported),
        cmocka_unit_test(random_records_stay_valid_and_keep_their_members),
        cmocka_unit_test(index_patterns_are_judged_at_start),
        cmocka_unit_test(a_bad_pattern_never_breaks_the_body),
        cmocka_unit_test(the_url_asks_for_what_is_judged),
        cmocka_unit_test(items_are_judged_one_by_one),
        cmocka_unit_test(all_items_passing_trouble_is_a_retry),
        cmocka_unit_test(an_operators_trouble_of_items_throws_no_record_away),
        cmocka_unit_test(an_answer_that_is_not_about_all_items_is_a_retry),
        cmocka_unit_test(every_truncation_is_a_retry),
        cmocka_unit_test(the_whole_request_is_judged_by_its_status),
        cmocka_unit_test(reasons_are_kept_for_the_first_refused_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
