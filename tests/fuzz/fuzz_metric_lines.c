/*
 * Any bytes as a metric's payload, to the protocols that take metrics apart: a record is taken whole or refused with
 * nothing written; what was taken is one line, or valid JSON, whatever the bytes were.
 */
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "forward/protocol.h"
#include "model/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int add(struct encoder *encoder, const uint8_t *data, size_t size, int64_t time_ns)
{
    struct forward_record record = {
        .lsn = 7,
        .record = {.kind = RECORD_METRIC, .event_time_ns = time_ns, .payload = {data, size}}};
    struct err err = {0};
    size_t before = encoder->body.bytes;
    int r = encoder_add(encoder, &record, &err);
    ASSERT(r == 0 || r == ERR_UNSUPPORTED || r == ERR_LIMIT);
    ASSERT(r == 0 || encoder->body.bytes == before);
    ASSERT(r != ERR_UNSUPPORTED || err.text[0] != 0);
    return r;
}

static void check_lines(struct encoder *encoder, const uint8_t *data, size_t size)
{
    encoder_begin(encoder, 1);
    if (add(encoder, data, size, -5) == 0) {
        const uint8_t *feed = memchr(encoder->body.data, '\n', encoder->body.bytes);
        ASSERT(feed == encoder->body.data + encoder->body.bytes - 1);
        ASSERT(encoder->body.data[0] != '#');
    }
}

static void check_json(struct encoder *encoder, const uint8_t *data, size_t size)
{
    uint64_t offset = 0;
    const char *why = NULL;
    encoder_begin(encoder, 1);
    if (add(encoder, data, size, 5) == 0) {
        /* The same again cannot be in one call. */
        ASSERT(add(encoder, data, size, 5) == ERR_LIMIT);
        ASSERT(add(encoder, data, size, 6) == 0);
    }
    encoder_end(encoder, "key", 7, 7);
    ASSERT(json_validate(encoder->body.data, encoder->body.bytes, &offset, &why) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config_sink influx = {
        .type = SINK_INFLUX, .batch_bytes = MIB(1), .batch_records = 10};
    static struct config_sink timestream = {
        .type = SINK_TIMESTREAM, .batch_bytes = MIB(1), .batch_records = 10};
    static struct encoder encoders[2];
    if (encoders[0].protocol == NULL) {
        encoder_open(&encoders[0], &influx, (struct ulid){{1}});
        encoder_open(&encoders[1], &timestream, (struct ulid){{1}});
    }
    /* A copy of its own, so that a byte too many is seen. */
    uint8_t *copy = mem_alloc(size + 1);
    memcpy(copy, data, size);
    check_lines(&encoders[0], copy, size);
    check_json(&encoders[1], copy, size);
    mem_free(copy);
    return 0;
}
