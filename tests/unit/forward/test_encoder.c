#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "encode_fixture.h"

#define SEED 20261121u

static void open_and_begin(struct encoder *encoder, const struct config_sink *sink)
{
    encoder_open(encoder, sink, encode_ulid(ENCODE_NODE));
    encoder_begin(encoder, ENCODE_FROZEN_AT);
}

static int add_kind(struct encoder *encoder, enum record_kind kind, size_t payload_bytes)
{
    struct err err = {0};
    uint8_t *payload = mem_alloc(payload_bytes + 1);
    memset(payload, ' ', payload_bytes);
    payload[0] = '{';
    payload[payload_bytes - 1] = '}';
    struct forward_record record = encode_record(1, kind, "");
    record.record.payload = (struct slice){payload, payload_bytes};
    int r = encoder_add(encoder, &record, &err);
    assert_true(r != ERR_UNSUPPORTED || err.text[0] != '\0');
    mem_free(payload);
    return r;
}

static int add(struct encoder *encoder, size_t payload_bytes)
{
    return add_kind(encoder, RECORD_LOG, payload_bytes);
}

static void every_type_has_its_protocol(void **state)
{
    (void)state;
    for (int type = SINK_HTTP; type <= SINK_FILE; type++) {
        const struct protocol *protocol = protocol_of((enum sink_type)type);
        assert_non_null(protocol->name);
        assert_non_null(protocol->encoding);
        assert_non_null(protocol->judge);
        assert_true(protocol->takes_segments || (protocol->begin != NULL && protocol->add != NULL));
        assert_true(protocol->is_local || protocol->method != NULL);
    }
}

static void batch_records_ends_the_request(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_HTTP);
    sink.batch_records = 2;
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    assert_int_equal(add(&encoder, 10), 0);
    assert_int_equal(add(&encoder, 10), 0);
    size_t bytes = encoder.body.bytes;
    assert_int_equal(add(&encoder, 10), ERR_LIMIT);
    assert_int_equal(encoder.record_count, 2);
    assert_int_equal(encoder.item_count, 2);
    assert_int_equal(encoder.body.bytes, bytes);
    encoder_close(&encoder);
}

/* For every format: whatever the sizes, a finished request of more than one record is within batch_bytes. */
static void batch_bytes_bounds_the_finished_body(void **state)
{
    (void)state;
    uint64_t random = SEED;
    for (int format = SINK_NDJSON; format <= SINK_OBJECT; format++) {
        struct config_sink sink = encode_sink(SINK_HTTP);
        sink.format = (enum sink_format)format;
        sink.batch_bytes = KIB(16);
        struct encoder encoder;
        open_and_begin(&encoder, &sink);
        for (int round = 0; round < 200; round++) {
            encoder_begin(&encoder, ENCODE_FROZEN_AT);
            size_t most = 2 + encode_random(&random) % 6000;
            int r = 0;
            for (int i = 0; r == 0 && i < 10000; i++) {
                r = add(&encoder, 2 + encode_random(&random) % most);
            }
            assert_int_equal(r, ERR_LIMIT);
            encoder_end(&encoder, ENCODE_KEY, 1, 1);
            assert_true(encoder.record_count == 1 || encoder.body.bytes <= sink.batch_bytes);
            encode_expect_json(encoder.body.data, encoder.body.bytes, format == SINK_NDJSON);
        }
        encoder_close(&encoder);
    }
}

static void a_record_larger_than_batch_bytes_goes_alone(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_HTTP);
    sink.batch_bytes = KIB(16);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    assert_int_equal(add(&encoder, 10), 0);
    assert_int_equal(add(&encoder, KIB(100)), ERR_LIMIT);
    assert_int_equal(encoder.record_count, 1);
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    assert_int_equal(add(&encoder, KIB(100)), 0);
    assert_int_equal(add(&encoder, 2), ERR_LIMIT);
    assert_int_equal(encoder.record_count, 1);
    encoder_close(&encoder);
}

static void a_record_that_no_request_can_hold_is_unsupported_and_leaves_nothing(void **state)
{
    (void)state;
    static const enum sink_type types[] = {SINK_HTTP, SINK_OPENSEARCH, SINK_CLICKHOUSE,
                                           SINK_SLUICE};
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        struct config_sink sink = encode_sink(types[i]);
        struct encoder encoder;
        open_and_begin(&encoder, &sink);
        assert_int_equal(add(&encoder, FORWARD_BODY_MAX + 1), ERR_UNSUPPORTED);
        assert_int_equal(encoder.record_count, 0);
        assert_int_equal(encoder.body.bytes, 0);
        assert_int_equal(add(&encoder, 10), 0);
        encoder_close(&encoder);
    }
}

/* A batch that was frozen under other limits is made again as it was. */
static void refreezing_knows_no_limits_of_the_configuration(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_HTTP);
    sink.batch_bytes = KIB(16);
    sink.batch_records = 1;
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encoder.is_refreezing = true;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(add(&encoder, KIB(10)), 0);
    }
    assert_int_equal(encoder.record_count, 10);
    encoder_begin(&encoder, ENCODE_FROZEN_AT);
    assert_false(encoder.is_refreezing);
    encoder_close(&encoder);
}

static void what_is_not_taken_leaves_no_trace(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_HTTP);
    sink.format = SINK_OBJECT;
    sink.batch_bytes = KIB(16);
    struct encoder encoder;
    open_and_begin(&encoder, &sink);
    encode_add(&encoder, 1, RECORD_LOG, "{}");
    encode_add(&encoder, 2, RECORD_METRIC, "{}");
    size_t body = encoder.body.bytes;
    size_t side = encoder.side.bytes;
    struct forward_record unknown = encode_record(3, (enum record_kind)99, "{}");
    struct err err = {0};
    assert_int_equal(encoder_add(&encoder, &unknown, &err), ERR_UNSUPPORTED);
    assert_int_equal(add(&encoder, KIB(64)), ERR_LIMIT);
    assert_int_equal(add_kind(&encoder, RECORD_METRIC, KIB(64)), ERR_LIMIT);
    assert_int_equal(encoder.body.bytes, body);
    assert_int_equal(encoder.side.bytes, side);
    assert_int_equal(encoder.record_count, 2);
    encoder_end(&encoder, ENCODE_KEY, 1, 3);
    encode_expect_json(encoder.body.data, encoder.body.bytes, false);
    encoder_close(&encoder);
}

/* Two encoders, one of them used before: the bytes depend on nothing but records, sink, node and time. */
static void the_same_records_give_the_same_bytes(void **state)
{
    (void)state;
    static const enum sink_type types[] = {SINK_HTTP, SINK_OPENSEARCH, SINK_CLICKHOUSE,
                                           SINK_SLUICE};
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        struct config_sink sink = encode_sink(types[i]);
        struct encoder used;
        struct encoder fresh;
        open_and_begin(&used, &sink);
        struct forward_record other = encode_record(99, RECORD_EVENT, "{\"x\":1}");
        other.received_at_ns = 5;
        assert_int_equal(encoder_add(&used, &other, NULL), 0);
        encoder_end(&used, "another", 99, 99);
        encoder_begin(&used, ENCODE_FROZEN_AT);
        open_and_begin(&fresh, &sink);
        uint64_t randoms[2] = {SEED, SEED};
        struct encoder *const both[2] = {&used, &fresh};
        for (int e = 0; e < 2; e++) {
            char payload[4096];
            for (uint64_t lsn = 7; lsn < 60; lsn++) {
                struct forward_record record = encode_record(lsn, RECORD_LOG, "");
                record.record.payload = (struct slice){(const uint8_t *)payload,
                                                       encode_random_object(&randoms[e], payload)};
                record.received_at_ns += (int64_t)(lsn / 7);
                assert_int_equal(encoder_add(both[e], &record, NULL), 0);
            }
            encoder_end(both[e], ENCODE_KEY, 7, 59);
        }
        assert_int_equal(used.body.bytes, fresh.body.bytes);
        assert_memory_equal(used.body.data, fresh.body.data, used.body.bytes);
        encoder_close(&used);
        encoder_close(&fresh);
    }
}

static void a_segment_takes_the_place_of_records(void **state)
{
    (void)state;
    struct config_sink sink = encode_sink(SINK_S3);
    struct encoder encoder;
    encoder_open(&encoder, &sink, encode_ulid(ENCODE_NODE));
    encoder_segment(&encoder, 12, "slc", 345);
    body_put_text(&encoder.body, "bytes of a file");
    encoder_end(&encoder, ENCODE_KEY, 7, 9);
    assert_int_equal(encoder.segment_id, 12);
    assert_string_equal(encoder.segment_suffix, "slc");
    assert_int_equal(encoder.record_count, 345);
    encode_expect(&encoder, "bytes of a file");
    encoder_close(&encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_its_protocol),
        cmocka_unit_test(batch_records_ends_the_request),
        cmocka_unit_test(batch_bytes_bounds_the_finished_body),
        cmocka_unit_test(a_record_larger_than_batch_bytes_goes_alone),
        cmocka_unit_test(a_record_that_no_request_can_hold_is_unsupported_and_leaves_nothing),
        cmocka_unit_test(refreezing_knows_no_limits_of_the_configuration),
        cmocka_unit_test(what_is_not_taken_leaves_no_trace),
        cmocka_unit_test(the_same_records_give_the_same_bytes),
        cmocka_unit_test(a_segment_takes_the_place_of_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
