/*
 * fuzz_judge: what upstreams answer is anybody's bytes. The first byte says which protocol, the next two the status, the
 * rest is the body. Whatever it is: nothing outside is read or written, one of the verdicts comes out, "done" only
 * of a success, and what people are shown is one line of text.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/mem.h"
#include "forward/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    RECORDS = 3,
    TYPES = SINK_FILE, /* 1 to this */
};

static struct config_sink sinks[TYPES + 1];
static struct encoder encoders[TYPES + 1];

static void add_records(struct encoder *encoder)
{
    static const char payload[] =
        "{\"timestamp\":\"2025-11-21T17:25:06Z\",\"service\":\"s\",\"name\":\"n\",\"value\":1.5,"
        "\"message\":\"m\",\"level\":\"INFO\"}";
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct forward_record record = {
            .lsn = 7 + i,
            .received_at_ns = 1763745906000000000,
            .record = {.kind = RECORD_METRIC,
                       .event_time_ns = 1763745906000000000 + (int64_t)i,
                       .payload = {(const uint8_t *)payload, sizeof(payload) - 1}},
        };
        struct err err = {0};
        int r = encoder_add(encoder, &record, &err);
        ASSERT(r == 0);
    }
}

static void encoders_open(void)
{
    for (int type = 1; type <= TYPES; type++) {
        struct config_sink *sink = &sinks[type];
        struct encoder *encoder = &encoders[type];
        *sink = (struct config_sink){.name = "up",
                                     .type = (enum sink_type)type,
                                     .url = "http://h",
                                     .path = "/f",
                                     .database = "d",
                                     .table = "t",
                                     .batch_bytes = MIB(1),
                                     .batch_records = 100};
        encoder_open(encoder, sink, (struct ulid){{1}});
        if (encoder->protocol->takes_segments) {
            encoder_segment(encoder, 1, "seg", RECORDS);
        } else {
            encoder_begin(encoder, 1763745906000000000);
            add_records(encoder);
        }
        encoder_end(encoder, "key", 7, 9);
    }
}

static void expect_line(const char *text, size_t room)
{
    const char *end = memchr(text, '\0', room);
    ASSERT(end != NULL);
    for (const char *at = text; at < end; at++) {
        ASSERT((uint8_t)*at >= ' ' && *at != 0x7f);
    }
}

static void expect_sound(const struct encoder *encoder, const struct upstream_answer *answer,
                         const struct judgement *judgement)
{
    bool is_success =
        answer->fault == TRANSPORT_OK && answer->status >= 200 && answer->status < 300;
    bool is_there_already = encoder->sink->type == SINK_S3 && answer->status == 412;
    ASSERT(judgement->verdict >= VERDICT_DONE && judgement->verdict <= VERDICT_ITEMS);
    ASSERT(judgement->verdict != VERDICT_DONE || is_success || is_there_already ||
           encoder->protocol->is_local || encoder->sink->type == SINK_TIMESTREAM);
    ASSERT(judgement->item_reason_count <= ITEM_REASONS_MAX);
    expect_line(judgement->reason, sizeof(judgement->reason));
    unsigned refused = 0;
    for (unsigned i = 0; judgement->verdict == VERDICT_ITEMS && i < RECORDS; i++) {
        ASSERT(judgement->items[i] <= ITEM_REFUSED);
        refused += judgement->items[i] == ITEM_REFUSED;
    }
    ASSERT(judgement->verdict != VERDICT_ITEMS || judgement->item_reason_count <= refused);
    for (unsigned i = 0; i < judgement->item_reason_count; i++) {
        expect_line(judgement->item_reasons[i], sizeof(judgement->item_reasons[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char reasons[ITEM_REASONS_MAX][FORWARD_REASON_BYTES / 2];
    if (bytes < 3) {
        return 0;
    }
    if (encoders[1].protocol == NULL) {
        encoders_open();
    }
    const struct encoder *encoder = &encoders[1 + data[0] % TYPES];
    /* Of the size that was promised: one more would be seen. */
    uint8_t *items = mem_alloc(RECORDS);
    struct judgement judgement = {.items = items, .item_reasons = reasons};
    struct upstream_answer answer = {
        .fault = (enum transport_fault)(data[1] >= 250 ? data[1] - 250 : 0),
        .status = data[2] < 200 ? data[2] * 3 : 200,
        .is_body_cut = data[1] % 16 == 7,
        .body = {data + 3, bytes - 3},
        .fault_text = "of a fault",
    };
    encoder->protocol->judge(encoder, &answer, &judgement);
    expect_sound(encoder, &answer, &judgement);
    mem_free(items);
    return 0;
}
