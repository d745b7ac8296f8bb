#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"
#include "model/lookup_object.h"

#define SEED 20261124u

static struct config_sink clickhouse_sink(void)
{
    struct config_sink sink = encode_sink(SINK_CLICKHOUSE);
    (void)snprintf(sink.url, sizeof(sink.url), "http://ch:8123");
    (void)snprintf(sink.database, sizeof(sink.database), "db");
    (void)snprintf(sink.table, sizeof(sink.table), "t x");
    return sink;
}

static struct encoder opened(const struct config_sink *sink)
{
    struct encoder encoder;
    encoder_open(&encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    return encoder;
}

static void a_record_is_a_row_with_its_bytes_as_a_string(void **state)
{
    (void)state;
    struct config_sink sink = clickhouse_sink();
    struct encoder encoder = opened(&sink);
    encode_add(&encoder, 7, RECORD_LOG, "{\n\"message\":\"a\\\"\t\x7f\xc3\xa9\"}");
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encode_expect(
        &encoder,
        "{\"lsn\":7,\"id\":\"" ENCODE_ID "\",\"kind\":\"log\",\"received_at\":"
        "\"2025-11-21T17:25:06.123456Z\",\"event_time\":\"2025-11-21T17:25:06.000000001Z\","
        "\"severity\":3,\"record\":\"{\\n\\\"message\\\":\\\"a\\\\\\\"\\t\x7f\xc3\xa9\\\"}\"}\n");
    encode_expect_json(encoder.body.data, encoder.body.bytes, true);
    encoder_close(&encoder);
}

static void expect_row_holds(struct encoder *encoder, struct slice payload)
{
    static uint8_t text[1 << 17];
    struct forward_record record = encode_record(7, RECORD_LOG, "");
    record.record.payload = payload;
    encoder_begin(encoder, ENCODE_FROZEN_AT);
    assert_int_equal(encoder_add(encoder, &record, NULL), 0);
    encoder_end(encoder, ENCODE_KEY, 7, 7);
    encode_expect_json(encoder->body.data, encoder->body.bytes, true);
    struct lookup_object object;
    struct lookup_member member = {0};
    assert_true(
        lookup_object_open(&object, (struct slice){encoder->body.data, encoder->body.bytes - 1}));
    while (lookup_object_next(&object, &member) > 0) {
    }
    assert_true(slice_equal(member.key, SLICE_LITERAL("record")));
    size_t bytes = json_unescape(member.value, text, sizeof(text));
    assert_int_equal(bytes, payload.bytes);
    assert_memory_equal(text, payload.data, bytes);
}

static void random_records_come_back_byte_for_byte(void **state)
{
    (void)state;
    uint64_t random = SEED;
    struct config_sink sink = clickhouse_sink();
    struct encoder encoder = opened(&sink);
    for (int round = 0; round < 3000; round++) {
        char payload[4096];
        size_t bytes = encode_random_object(&random, payload);
        expect_row_holds(&encoder, (struct slice){(const uint8_t *)payload, bytes});
    }
    encoder_close(&encoder);
}

/* Whatever is on disk, also what no client could have sent, and texts longer than the pieces that are escaped. */
static void any_ascii_bytes_come_back(void **state)
{
    (void)state;
    uint64_t random = SEED;
    struct config_sink sink = clickhouse_sink();
    struct encoder encoder = opened(&sink);
    static uint8_t payload[10000];
    for (size_t bytes = 1020; bytes < sizeof(payload); bytes += bytes < 1030 ? 1 : 997) {
        for (size_t i = 0; i < bytes; i++) {
            payload[i] = (uint8_t)(encode_random(&random) & 0x7f);
        }
        expect_row_holds(&encoder, (struct slice){payload, bytes});
    }
    encoder_close(&encoder);
}

static void the_token_is_the_key_and_the_statement_is_encoded(void **state)
{
    (void)state;
    char url[FORWARD_URL_BYTES];
    struct config_sink sink = clickhouse_sink();
    struct encoder encoder = opened(&sink);
    encode_add(&encoder, 7, RECORD_LOG, "{}");
    encoder_end(&encoder, "a&b c", 7, 7);
    encoder.protocol->url(&encoder, url);
    assert_string_equal(
        url,
        "http://ch:8123/?query=INSERT%20INTO%20%60db%60.%60t%20x%60%20%28lsn%2C%20id%2C%20kind%2C"
        "%20received_at%2C%20event_time%2C%20severity%2C%20record%29%20FORMAT%20JSONEachRow"
        "&insert_deduplication_token=a%26b%20c&async_insert=0&date_time_input_format=best_effort");
    encoder_close(&encoder);
}

static void settings_of_the_operators_url_win(void **state)
{
    (void)state;
    char url[FORWARD_URL_BYTES];
    struct config_sink sink = clickhouse_sink();
    (void)snprintf(sink.url, sizeof(sink.url),
                   "http://ch:8123/?insert_deduplication_token=&max_threads=2&async_insert=&"
                   "date_time_input_format=basic#x");
    struct encoder encoder = opened(&sink);
    encoder_end(&encoder, ENCODE_KEY, 7, 7);
    encoder.protocol->url(&encoder, url);
    assert_non_null(strstr(url, "/?max_threads=2&date_time_input_format=basic&query=INSERT"));
    assert_null(strstr(url, "token"));
    assert_null(strstr(url, "async_insert"));
    assert_null(strstr(url, "best_effort"));
    encoder_close(&encoder);
}

static void names_are_judged_at_start(void **state)
{
    (void)state;
    struct err err = {0};
    struct config_sink sink = clickhouse_sink();
    assert_int_equal(protocol_check(&sink, &err), 0);
    sink.database[0] = '\0';
    assert_int_equal(protocol_check(&sink, &err), 0);
    (void)snprintf(sink.table, sizeof(sink.table), "a`; DROP TABLE b");
    assert_true(protocol_check(&sink, &err) < 0);
    sink.table[0] = '\0';
    assert_true(protocol_check(&sink, &err) < 0);
    sink = clickhouse_sink();
    memset(sink.table, 'a', sizeof(sink.table) - 1);
    memset(sink.database, ' ', sizeof(sink.database) - 1);
    memset(sink.url + 7, 'h', sizeof(sink.url) - 8);
    assert_true(protocol_check(&sink, &err) < 0);
    assert_non_null(strstr(err.text, "too long"));
}

/* ---- judge ---- */

static void exceptions_are_judged_by_their_code(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
    } cases[] = {
        {200, "", VERDICT_DONE},
        {404, "Code: 60. DB::Exception: Table db.t does not exist. (UNKNOWN_TABLE)", VERDICT_PAUSE},
        {500, "Code: 60, e.displayText() = DB::Exception: Table db.t doesn't exist.",
         VERDICT_PAUSE},
        {404, "Code: 81. DB::Exception: Database db does not exist.", VERDICT_PAUSE},
        {403, "Code: 516. DB::Exception: default: Authentication failed", VERDICT_PAUSE},
        {500, "Code: 115. DB::Exception: Unknown setting x", VERDICT_PAUSE},
        {400, "Code: 27. DB::Exception: Cannot parse input: expected '\"' (at row 1)",
         VERDICT_REFUSED},
        {500, "Code: 27, e.displayText() = DB::Exception: Cannot parse input", VERDICT_REFUSED},
        {400, "Code: 117. DB::Exception: Incorrect data", VERDICT_REFUSED},
        {500, "Code: 252. DB::Exception: Too many parts (300)", VERDICT_RETRY},
        {500, "Code: 241. DB::Exception: Memory limit (total) exceeded", VERDICT_RETRY},
        {400, "Code: 202. DB::Exception: Too many simultaneous queries", VERDICT_RETRY},
        {404, "Code: 159. DB::Exception: Timeout exceeded", VERDICT_RETRY},
        {500, "Code: 209. DB::NetException: Timeout", VERDICT_RETRY},
        {500, "Code: 36, e.displayText() = DB::Exception: Unknown element 'run' (at row 8)",
         VERDICT_REFUSED},
        {500,
         "Code: 49, e.displayText() = DB::Exception: Unknown element 'metric' for type Enum8('log' "
         "= 1): (while read the value of key kind)",
         VERDICT_REFUSED},
        {500, "Code: 241. DB::Exception: Memory limit (at row 8)", VERDICT_RETRY},
        /* Unknown codes: by the status. */
        {500, "Code: 9999. DB::Exception: what", VERDICT_RETRY},
        {400, "Code: 9999. DB::Exception: what", VERDICT_REFUSED},
        {500, "Code: 999999999999999999. DB::Exception: what", VERDICT_RETRY},
        /* Not an exception of ClickHouse. */
        {404, "Code: 27 is what the proxy says", VERDICT_PAUSE},
        {502, "<html><title>502 Bad Gateway</title>", VERDICT_RETRY},
        /* After the 200 had gone out. */
        {200, "\n__exception__\nCode: 241. DB::Exception: Memory limit", VERDICT_RETRY},
        {200, "Code: 9999. DB::Exception: what", VERDICT_RETRY},
        {200, "Code: 60. DB::Exception: Table", VERDICT_PAUSE},
    };
    struct config_sink sink = clickhouse_sink();
    struct encoder encoder = opened(&sink);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct judgement j = encode_judge(&encoder, cases[i].status, cases[i].body);
        if (j.verdict != cases[i].verdict) {
            fail_msg("%d %s: %d", cases[i].status, cases[i].body, (int)j.verdict);
        }
        assert_true(cases[i].body[0] == '\0' || j.reason[0] != '\0');
    }
    struct judgement j = encode_judge(&encoder, 404, cases[1].body);
    assert_string_equal(j.reason, cases[1].body);
    assert_int_equal(j.status, 404);
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_a_row_with_its_bytes_as_a_string),
        cmocka_unit_test(random_records_come_back_byte_for_byte),
        cmocka_unit_test(any_ascii_bytes_come_back),
        cmocka_unit_test(the_token_is_the_key_and_the_statement_is_encoded),
        cmocka_unit_test(settings_of_the_operators_url_win),
        cmocka_unit_test(names_are_judged_at_start),
        cmocka_unit_test(exceptions_are_judged_by_their_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
