/*
 * bench_body: what a record costs from bytes to judged record, everything that body_next does.
 * Fixed work, several rounds; the best and the median round are printed, in ns a record: on a
 * shared machine the best is what the code costs.
 *
 *   bench_body [rounds [name]]    name: only the workloads whose name begins so
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "model/body.h"

#define RECORDS    1000u
#define ROUNDS_MAX 10001u
#define TEXT_BYTES (1024u * 1024u)

struct workload {
    const char *name;
    enum body_schema schema;
    enum body_shape shape;
    unsigned records;
    const char *open;
    const char *format; /* one number; with a line feed inside it is two records */
    const char *between;
    const char *close;
};

#define LOG_COMPACT                                                                                \
    "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"level\":\"INFO\","    \
    "\"message\":\"Agent step finished in 12 ms\",\"correlation_id\":\"abc-%06u\"}"

static const struct workload workloads[] = {
    {"log ndjson", SCHEMA_LOG, SHAPE_NDJSON, RECORDS, "", LOG_COMPACT, "\n", "\n"},
    {"log array", SCHEMA_LOG, SHAPE_DETECT, RECORDS, "[", LOG_COMPACT, ",", "]"},
    {"log object", SCHEMA_LOG, SHAPE_DETECT, 1, "", LOG_COMPACT, "", ""},
    {"log ndjson, spaces (Python)", SCHEMA_LOG, SHAPE_NDJSON, RECORDS, "",
     "{\"timestamp\": \"2025-08-25T10:00:00.123456Z\", \"service\": \"corerl\", \"level\": "
     "\"INFO\", "
     "\"message\": \"Agent step finished in 12 ms\", \"correlation_id\": \"abc-%06u\"}",
     "\n", "\n"},
    {"log ndjson, escapes and UTF-8", SCHEMA_LOG, SHAPE_NDJSON, RECORDS, "",
     "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"level\":\"INFO\","
     "\"message\":\"Pumpe \\\"l\xc3\xa4uft\\\" mit 12 "
     "\xc2\xb5s\\n\",\"correlation_id\":\"abc-%06u\"}",
     "\n", "\n"},
    {"log ndjson, 3 unknown keys", SCHEMA_LOG, SHAPE_NDJSON, RECORDS, "",
     "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"level\":\"INFO\","
     "\"message\":\"Agent step finished\",\"agent_id\":\"a-7\",\"host\":\"node1\",\"step\":%u}",
     "\n", "\n"},
    /* Every record departs from the one before it at its third key. */
    {"log ndjson, two shapes by turns", SCHEMA_LOG, SHAPE_NDJSON, RECORDS, "",
     "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"message\":\"Agent "
     "step "
     "finished in 12 ms\",\"level\":\"INFO\",\"request\":\"abc-000123\"}\n" LOG_COMPACT,
     "\n", "\n"},
    {"metric ndjson", SCHEMA_METRIC, SHAPE_NDJSON, RECORDS, "",
     "{\"timestamp\":\"2025-08-25T10:00:00.123456Z\",\"service\":\"corerl\",\"name\":\"step_ms\","
     "\"value\":12.5%u,\"unit\":\"ms\",\"tags\":{\"host\":\"node1\",\"agent\":\"a-7\"}}",
     "\n", "\n"},
    {"event ndjson", SCHEMA_EVENT, SHAPE_NDJSON, RECORDS, "",
     "{\"event_id\":\"5b1b3f0e-8f0e-4c39-9a44-%012u\",\"timestamp\":\"2025-08-25T10:00:00.123456\","
     "\"event_type\":\"info\",\"source\":\"agent\",\"message\":\"step\",\"metadata\":{\"n\":1}}",
     "\n", "\n"},
};

static size_t workload_write(const struct workload *w, char *text, size_t room)
{
    size_t at = (size_t)snprintf(text, room, "%s", w->open);
    unsigned count = w->records / (strchr(w->format, '\n') != NULL ? 2 : 1);
    for (unsigned i = 0; i < count; i++) {
        const char *end = i + 1 < count ? w->between : w->close;
/* The formats are the constants above, each with one %u. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        at += (size_t)snprintf(text + at, room - at, w->format, i);
#pragma GCC diagnostic pop
        at += (size_t)snprintf(text + at, room - at, "%s", end);
    }
    return at;
}

/* Reads the body RECORDS / records times, so that every workload counts as many records. */
static uint64_t round_run(struct body *body, const struct workload *w, const char *text,
                          size_t bytes)
{
    unsigned times = RECORDS / w->records;
    uint64_t accepted = 0;
    uint64_t began = clock_mono_ns();
    for (unsigned n = 0; n < times; n++) {
        struct body_record record;
        struct issue_list issues;
        body_open(body, w->schema, w->shape, (const uint8_t *)text, bytes, 0);
        while (body_next(body, &record, &issues) == BODY_RECORD) {
            accepted++;
        }
    }
    uint64_t took = clock_mono_ns() - began;
    if (accepted != RECORDS) {
        fprintf(stderr, "%s: %llu of %u records accepted\n", w->name, (unsigned long long)accepted,
                RECORDS);
        exit(1);
    }
    return took;
}

static int u64_compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 301;
    const char *only = argc > 2 ? argv[2] : "";
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    struct body *body = mem_alloc(body_struct_bytes());
    char *text = mem_alloc(TEXT_BYTES);
    static uint64_t took[ROUNDS_MAX];
    printf("%-32s %10s %10s %10s %8s\n", "workload", "bytes/rec", "best ns", "median ns", "GB/s");
    for (size_t i = 0; i < sizeof workloads / sizeof workloads[0]; i++) {
        const struct workload *w = &workloads[i];
        if (strncmp(w->name, only, strlen(only)) != 0) {
            continue;
        }
        size_t bytes = workload_write(w, text, TEXT_BYTES);
        for (unsigned long n = 0; n < rounds; n++) {
            took[n] = round_run(body, w, text, bytes);
        }
        qsort(took, rounds, sizeof took[0], u64_compare);
        double per_record = (double)bytes / w->records;
        double best = (double)took[0] / RECORDS;
        printf("%-32s %10.1f %10.1f %10.1f %8.2f\n", w->name, per_record, best,
               (double)took[rounds / 2] / RECORDS, per_record / best);
    }
    mem_free(text);
    mem_free(body);
    return 0;
}
