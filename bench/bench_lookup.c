/*
 * bench_lookup: what it costs to ask a stored record a question: lookup_matches for a service and a
 * part of the message, the keys of an index, and, for comparison, the same walk with json_scan.
 * Fixed work over RECORDS different records, several rounds; best and median, in ns a record: on a
 * shared machine the best is what the code costs.
 *
 *   bench_lookup [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "model/lookup.h"

#define RECORDS    4000u
#define ROUNDS_MAX 10001u
#define TEXT_BYTES (2048u * 1024u)

static const struct {
    const char *name;
    const char *format; /* a number and a string of varying length */
} shapes[] = {
    {"log, 150 bytes",
     "{\"timestamp\":\"2025-08-25T10:00:00.%06uZ\",\"service\":\"corerl\",\"level\":\"INFO\","
     "\"message\":\"Agent step %s finished in 12 ms\",\"correlation_id\":\"abc-000001\"}"},
    {"log, Python's spaces",
     "{\"timestamp\": \"2025-08-25T10:00:00.%06uZ\", \"service\": \"corerl\", \"level\": \"INFO\", "
     "\"message\": \"Agent step %s finished\", \"correlation_id\": \"abc-000001\"}"},
    {"log, escapes",
     "{\"timestamp\":\"2025-08-25T10:00:00.%06uZ\",\"service\":\"corerl\",\"level\":\"INFO\","
     "\"message\":\"Agent \\\"step\\\" %s finished\\n\",\"correlation_id\":\"abc-000001\"}"},
    {"metric with tags",
     "{\"timestamp\":\"2025-08-25T10:00:00.%06uZ\",\"tags\":{\"host\":\"node1\",\"agent\":\"%s\"},"
     "\"name\":\"step_ms\",\"value\":12.5,\"unit\":\"ms\",\"service\":\"corerl\"}"},
};

static struct slice records[RECORDS];
static uint8_t *scratch;

static void records_write(const char *format, char *text)
{
    static const char filler[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    size_t at = 0;
    for (unsigned i = 0; i < RECORDS; i++) {
        /* Lengths vary without a pattern that a branch predictor could learn. */
        unsigned length = (i * 2654435761u >> 16) % 33;
/* The formats are the constants above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int wrote = snprintf(text + at, TEXT_BYTES - at, format, i, filler + 36 - length);
#pragma GCC diagnostic pop
        records[i] = (struct slice){(uint8_t *)text + at, (size_t)wrote};
        at += (size_t)wrote;
    }
}

/* ---- the questions; each returns how many records said yes ---- */

static unsigned ask_service_and_message(struct slice record)
{
    struct lookup_query query = {.service = SLICE_LITERAL("corerl"),
                                 .message = SLICE_LITERAL("finished")};
    return lookup_matches(&query, record, scratch);
}

static unsigned ask_other_service(struct slice record)
{
    struct lookup_query query = {.service = SLICE_LITERAL("coreio")};
    return !lookup_matches(&query, record, scratch);
}

static bool count_on_value(void *context, enum lookup_field field, struct slice value)
{
    (void)field;
    *(size_t *)context += value.bytes;
    return true;
}

static unsigned ask_keys(struct slice record)
{
    size_t bytes = 0;
    uint32_t mask = ~(1u << LOOKUP_MESSAGE);
    return lookup_walk(record, mask, scratch, count_on_value, &bytes) == 0 && bytes > 0;
}

/* Every member, no question asked. */
static unsigned pass_with_json_scan(struct slice record)
{
    static struct json_scan scan;
    struct json_value key;
    struct json_value value = {0};
    json_index_open(&scan.index, record.data, record.bytes, JSON_INDEX_AUTO);
    scan.is_line = false;
    scan.depth = 1;
    uint32_t at = 1;
    while (json_scan_byte(&scan, at) != '}') {
        if (!json_scan_key(&scan, &at, &key) || !json_scan_value(&scan, at, &value)) {
            return 0;
        }
        at = json_scan_white(&scan, value.end);
        at = json_scan_byte(&scan, at) == ',' ? json_scan_white(&scan, at + 1) : at;
    }
    return 1;
}

static const struct {
    const char *name;
    unsigned (*ask)(struct slice record);
    bool is_for_logs;
} questions[] = {
    {"service and message", ask_service_and_message, true},
    {"another service", ask_other_service, false},
    {"index keys", ask_keys, false},
    {"json_scan, every member", pass_with_json_scan, false},
};

static int u64_compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static uint64_t round_run(unsigned (*ask)(struct slice record))
{
    unsigned yes = 0;
    uint64_t began = clock_mono_ns();
    for (unsigned i = 0; i < RECORDS; i++) {
        yes += ask(records[i]);
    }
    uint64_t took = clock_mono_ns() - began;
    if (yes != RECORDS) {
        fprintf(stderr, "%u of %u records answered as expected\n", yes, RECORDS);
        exit(1);
    }
    return took;
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 301;
    static uint64_t took[ROUNDS_MAX];
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    char *text = mem_alloc(TEXT_BYTES);
    scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    printf("%-24s %-26s %10s %10s %10s\n", "records", "question", "bytes/rec", "best ns",
           "median ns");
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        records_write(shapes[i].format, text);
        const uint8_t *end = records[RECORDS - 1].data + records[RECORDS - 1].bytes;
        double per_record = (double)(end - (uint8_t *)text) / RECORDS;
        for (size_t k = 0; k < ARRAY_COUNT(questions); k++) {
            if (questions[k].is_for_logs && strncmp(shapes[i].name, "log", 3) != 0) {
                continue;
            }
            for (unsigned long n = 0; n < rounds; n++) {
                took[n] = round_run(questions[k].ask);
            }
            qsort(took, rounds, sizeof took[0], u64_compare);
            printf("%-24s %-26s %10.1f %10.1f %10.1f\n", shapes[i].name, questions[k].name,
                   per_record, (double)took[0] / RECORDS, (double)took[rounds / 2] / RECORDS);
        }
    }
    mem_free(scratch);
    mem_free(text);
    return 0;
}
