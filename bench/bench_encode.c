/*
 * bench_encode: what it costs to say records to an upstream: MB/s of raw records through encoder_add, for each protocol
 * that takes any record, into requests of 1 MiB. Best of RUNS.
 */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "forward/protocol.h"

enum {
    RUNS = 15,
    RECORDS = 20000,
};

static const char payload[] =
    "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"checkout\",\"level\":\"INFO\","
    "\"message\":\"GET /api/v1/items/4711 200 in 12 ms\",\"correlation_id\":\"c0ffee-4711\"}";

static uint64_t run_ns(struct encoder *encoder)
{
    uint64_t begin = clock_mono_ns();
    encoder_begin(encoder, 1763745906000000000);
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        struct forward_record record = {
            .lsn = lsn + 100000000,
            .received_at_ns = 1763745906000000000 + (int64_t)(lsn / 100),
            .record = {.kind = RECORD_LOG,
                       .severity = SEVERITY_INFO,
                       .event_time_ns = 1763745906000000000 + (int64_t)lsn * 1000,
                       .payload = {(const uint8_t *)payload, sizeof(payload) - 1}},
        };
        struct err err;
        if (encoder_add(encoder, &record, &err) == ERR_LIMIT) {
            encoder_end(encoder, "01JDAAAAAAAAAAAAAAAAAAAAAA-up-1-2", 1, 2);
            encoder_begin(encoder, 1763745906000000000);
            if (encoder_add(encoder, &record, &err) != 0) {
                return UINT64_MAX;
            }
        }
    }
    encoder_end(encoder, "01JDAAAAAAAAAAAAAAAAAAAAAA-up-1-2", 1, 2);
    return clock_mono_ns() - begin;
}

static void bench(const char *name, enum sink_type type, enum sink_format format)
{
    struct config_sink sink = {.type = type,
                               .format = format,
                               .source = "host",
                               .batch_bytes = MIB(1),
                               .batch_records = 100000};
    struct encoder encoder;
    encoder_open(&encoder, &sink, (struct ulid){{1}});
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < RUNS; i++) {
        best = u64_min(best, run_ns(&encoder));
    }
    encoder_close(&encoder);
    double ns = (double)best / RECORDS;
    printf("%-16s %6.1f ns a record of %zu bytes, %6.0f MB/s raw\n", name, ns, sizeof(payload) - 1,
           (double)(sizeof(payload) - 1) * 1000 / ns);
}

int main(void)
{
    bench("http ndjson", SINK_HTTP, SINK_NDJSON);
    bench("http array", SINK_HTTP, SINK_ARRAY);
    bench("http object", SINK_HTTP, SINK_OBJECT);
    bench("sluice", SINK_SLUICE, SINK_NDJSON);
    bench("opensearch", SINK_OPENSEARCH, SINK_NDJSON);
    bench("clickhouse", SINK_CLICKHOUSE, SINK_NDJSON);
    return 0;
}
