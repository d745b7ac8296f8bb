/*
 * fuzz_encode: records come from disk, where anything may be. The first byte says which protocol and format, the second
 * the kind, the rest is the payload. Whatever it is: it is in, or refused with a text and without a trace; and of a
 * payload that is a JSON object the request is valid JSON again, line by line or as a whole.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/mem.h"
#include "forward/protocol.h"
#include "model/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const enum sink_type types[] = {SINK_HTTP, SINK_OPENSEARCH, SINK_CLICKHOUSE, SINK_SLUICE};

static bool is_json(const uint8_t *data, size_t bytes)
{
    uint64_t offset;
    const char *why;
    return json_validate(data, bytes, &offset, &why) == 0;
}

static void expect_lines(const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        const uint8_t *feed = memchr(data, '\n', bytes);
        ASSERT(feed != NULL);
        size_t line = (size_t)(feed - data);
        ASSERT(is_json(data, line));
        data += line + 1;
        bytes -= line + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct config_sink sink;
    static struct encoder encoder;
    if (bytes < 3) {
        return 0;
    }
    encoder_close(&encoder);
    sink = (struct config_sink){.type = types[data[0] % 4],
                                .format = (enum sink_format)(data[0] / 4 % 3),
                                .record = (enum sink_record)(data[0] / 16 % 2),
                                .batch_bytes = MIB(1),
                                .batch_records = 100};
    encoder_open(&encoder, &sink, (struct ulid){{1}});
    encoder_begin(&encoder, 1763745906000000000);
    struct forward_record record = {
        .lsn = 7,
        .received_at_ns = 1763745906000000000,
        .record = {.kind = (enum record_kind)(data[1] % 7), .payload = {data + 2, bytes - 2}},
    };
    struct err err = {0};
    bool is_object = data[2] == '{' && is_json(data + 2, bytes - 2);
    bool is_known = record_kind_name(record.record.kind) != NULL;
    unsigned taken = 0;
    for (int i = 0; i < 2; i++) {
        size_t before = encoder.body.bytes;
        int r = encoder_add(&encoder, &record, &err);
        ASSERT(r == 0 || (r == ERR_UNSUPPORTED && err.text[0] != '\0'));
        ASSERT(r == 0 || encoder.body.bytes == before);
        ASSERT(r == 0 || !is_object || !is_known);
        taken += r == 0;
    }
    encoder_end(&encoder, "key", 7, 8);
    ASSERT(encoder.record_count == taken && encoder.item_count == taken);
    bool is_whole = sink.type == SINK_HTTP && sink.format != SINK_NDJSON;
    if (is_object && is_whole) {
        ASSERT(is_json(encoder.body.data, encoder.body.bytes));
    } else if (is_object) {
        expect_lines(encoder.body.data, encoder.body.bytes);
    }
    return 0;
}
