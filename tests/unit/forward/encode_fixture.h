/*
 * encode_fixture: records and sinks for the tests of protocols. Include after cmocka.h.
 */
#ifndef TESTS_ENCODE_FIXTURE_H
#define TESTS_ENCODE_FIXTURE_H

#include <string.h>

#include "core/mem.h"
#include "forward/protocol.h"
#include "model/json_scan.h"

#define ENCODE_ID          "01JDAAAAAAAAAAAAAAAAAAAAAA"
#define ENCODE_NODE        "01JDNNNNNNNNNNNNNNNNNNNNNN"
#define ENCODE_FROZEN_AT   INT64_C(1763745907000000000) /* 2025-11-21T17:25:07Z */
#define ENCODE_RECEIVED_AT INT64_C(1763745906123456789) /* ...06.123456789Z */
#define ENCODE_EVENT_TIME  INT64_C(1763745906000000001)
#define ENCODE_KEY         "01JDNODE-up-7-9"
#define ENCODE_ITEMS_MAX   8192

static inline struct ulid encode_ulid(const char *text)
{
    struct ulid ulid;
    assert_int_equal(ulid_parse(&ulid, (struct slice){(const uint8_t *)text, ULID_TEXT_BYTES}), 0);
    return ulid;
}

static inline struct forward_record encode_record(uint64_t lsn, enum record_kind kind,
                                                  const char *payload)
{
    return (struct forward_record){
        .lsn = lsn,
        .received_at_ns = ENCODE_RECEIVED_AT,
        .record = {.kind = kind,
                   .severity = SEVERITY_INFO,
                   .event_time_ns = ENCODE_EVENT_TIME,
                   .id = encode_ulid(ENCODE_ID),
                   .payload = {(const uint8_t *)payload, strlen(payload)}},
    };
}

static inline struct config_sink encode_sink(enum sink_type type)
{
    struct config_sink sink = {.name = "up",
                               .type = type,
                               .url = "http://upstream:1/base/",
                               .batch_bytes = MIB(1),
                               .batch_records = 5000,
                               .source = "host \"a\""};
    return sink;
}

static inline void encode_add(struct encoder *encoder, uint64_t lsn, enum record_kind kind,
                              const char *payload)
{
    struct forward_record record = encode_record(lsn, kind, payload);
    struct err err = {0};
    assert_int_equal(encoder_add(encoder, &record, &err), 0);
}

static inline void encode_expect(const struct encoder *encoder, const char *text)
{
    if (encoder->body.bytes != strlen(text) ||
        memcmp(encoder->body.data, text, encoder->body.bytes) != 0) {
        print_error("is:     %.*s\nshould: %s\n", (int)encoder->body.bytes,
                    (const char *)encoder->body.data, text);
        fail();
    }
}

/* Every line (or, of other formats, the whole) is valid JSON, by the model's own judge. */
static inline void encode_expect_json(const uint8_t *data, size_t bytes, bool is_lines)
{
    uint64_t offset = 0;
    const char *why = NULL;
    while (bytes > 0) {
        const uint8_t *feed = is_lines ? memchr(data, '\n', bytes) : NULL;
        assert_true(!is_lines || feed != NULL);
        size_t line = is_lines ? (size_t)(feed - data) : bytes;
        if (json_validate(data, line, &offset, &why) != 0) {
            print_error("%s at %llu of: %.*s\n", why, (unsigned long long)offset, (int)line,
                        (const char *)data);
            fail();
        }
        data += line + is_lines;
        bytes -= line + is_lines;
    }
}

/* One verdict on one answer. items and reasons are static: those of the last call. */
static inline struct judgement encode_judge(const struct encoder *encoder, int status,
                                            const char *body)
{
    static uint8_t items[ENCODE_ITEMS_MAX];
    static char reasons[ITEM_REASONS_MAX][FORWARD_REASON_BYTES / 2];
    struct judgement judgement = {.items = items, .item_reasons = reasons};
    struct upstream_answer answer = {
        .status = status, .retry_after_ns = 7, .body = {(const uint8_t *)body, strlen(body)}};
    assert_true(encoder->record_count <= ENCODE_ITEMS_MAX);
    memset(items, 0, sizeof(items));
    encoder->protocol->judge(encoder, &answer, &judgement);
    return judgement;
}

/* splitmix64: the same numbers in every run. */
static inline uint64_t encode_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A valid JSON object: members of every kind, escapes, UTF-8, white space with line breaks where JSON has it. room:
 * at least 2048. Returns its bytes. */
static inline size_t encode_random_object(uint64_t *state, char *out)
{
    static const char *const values[] = {
        "null",
        "true",
        "-1.5e-7",
        "18446744073709551615",
        "\"\"",
        "\"a\\\"b\\\\\\n\"",
        "\"\\u0040\"",
        "\"h\xc3\xa9 \xe2\x82\xac\"",
        "[]",
        "[1,\r\n2]",
        "{\"x\" :\n{}}",
        "\"{\\\"n\\\":1}\"",
        "\"INSERT `t` 'x'\"",
    };
    static const char *const keys[] = {
        "service",    "message",   "@timestamp", "sluice_id", "a\\\"b", "\\u0040timestamp",
        "sluice_lsn", "h\xc3\xa9", "index",      "_id",       "",       "record",
    };
    static const char *const white[] = {"", "", "", " ", "\n", "\r\n\t"};
    size_t bytes = 0;
    unsigned count = (unsigned)(encode_random(state) % 9);
    unsigned first = (unsigned)(encode_random(state) % ARRAY_COUNT(keys));
    bytes += (size_t)snprintf(out, 8, "{%s", white[encode_random(state) % ARRAY_COUNT(white)]);
    bool has_timestamp = false;
    for (unsigned i = 0; i < count; i++) {
        const char *key = keys[(first + i) % ARRAY_COUNT(keys)];
        /* One name in two spellings would be a duplicate key. */
        bool is_timestamp = strstr(key, "timestamp") != NULL;
        if (is_timestamp && has_timestamp) {
            key = "other";
        }
        has_timestamp = has_timestamp || is_timestamp;
        bytes += (size_t)snprintf(out + bytes, 256, "%s\"%s\"%s:%s%s%s", i > 0 ? "," : "", key,
                                  white[encode_random(state) % ARRAY_COUNT(white)],
                                  white[encode_random(state) % ARRAY_COUNT(white)],
                                  values[encode_random(state) % ARRAY_COUNT(values)],
                                  white[encode_random(state) % ARRAY_COUNT(white)]);
    }
    bytes += (size_t)snprintf(out + bytes, 8, "}");
    return bytes;
}

#endif
