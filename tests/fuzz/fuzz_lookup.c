/*
 * fuzz_lookup: whatever the bytes are, nothing outside them is read and every walk ends. Of a valid
 * object lookup_walk shows exactly what a reading with json_scan finds, and lookup_matches says
 * what those values say.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "model/lookup.h"

#define VALUES_MAX 64u
#define ROOM       ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The texts of the fields in order. */
struct values {
    struct slice texts[VALUES_MAX];
    enum lookup_field fields[VALUES_MAX];
    unsigned count;
    unsigned all; /* with those that found no place */
    uint8_t *room;
    size_t used;
};

static uint8_t *scratch;
static struct values expected;
static struct values actual;

static void values_add(struct values *values, enum lookup_field field, struct slice text)
{
    values->all++;
    if (values->count == VALUES_MAX || text.bytes > ROOM - values->used) {
        return;
    }
    uint8_t *to = values->room + values->used;
    memcpy(to, text.data, text.bytes);
    values->used += text.bytes;
    values->fields[values->count] = field;
    values->texts[values->count++] = (struct slice){to, text.bytes};
}

static bool values_on_value(void *context, enum lookup_field field, struct slice value)
{
    values_add(context, field, value);
    return true;
}

/* ---- the reference ---- */

static enum lookup_field field_of(struct slice key)
{
    static const struct {
        const char *name;
        enum lookup_field field;
    } names[] = {
        {"service", LOOKUP_SERVICE},
        {"service_name", LOOKUP_SERVICE},
        {"source", LOOKUP_SOURCE},
        {"name", LOOKUP_NAME},
        {"correlation_id", LOOKUP_CORRELATION_ID},
        {"x_correlation_id", LOOKUP_CORRELATION_ID},
        {"host", LOOKUP_HOST},
        {"hostname", LOOKUP_HOST},
        {"Hostname", LOOKUP_HOST},
        {"uuid", LOOKUP_GPU},
        {"gpu_id", LOOKUP_GPU},
        {"run_id", LOOKUP_RUN},
        {"event_id", LOOKUP_EVENT_ID},
        {"message", LOOKUP_MESSAGE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (slice_equal(key,
                        (struct slice){(const uint8_t *)names[i].name, strlen(names[i].name)})) {
            return names[i].field;
        }
    }
    return (enum lookup_field)0;
}

static struct slice raw_of(const uint8_t *data, const struct json_value *value)
{
    unsigned quote = value->kind == JSON_STRING;
    return (struct slice){data + value->start + quote, value->end - value->start - 2 * quote};
}

static void reference_member(const uint8_t *data, const struct json_value *key,
                             const struct json_value *value)
{
    static uint8_t plain_key[64];
    static uint8_t text[LOOKUP_SCRATCH_BYTES];
    size_t key_bytes = json_unescape(raw_of(data, key), plain_key, sizeof plain_key);
    if (key_bytes > sizeof plain_key) {
        return;
    }
    enum lookup_field field = field_of((struct slice){plain_key, key_bytes});
    bool is_number = value->kind == JSON_NUMBER && field == LOOKUP_GPU;
    if (field == 0 || (value->kind != JSON_STRING && !is_number)) {
        return;
    }
    size_t text_bytes = json_unescape(raw_of(data, value), text, sizeof text);
    /* A cut value ends up to three bytes earlier when a character would not fit: no input here is
     * that long. */
    ASSERT(text_bytes <= sizeof text);
    values_add(&expected, field, (struct slice){text, text_bytes});
}

static void reference_walk(const uint8_t *data, size_t bytes)
{
    static struct json_scan scan;
    json_index_open(&scan.index, data, bytes, JSON_INDEX_SCALAR);
    scan.is_line = false;
    scan.depth = 1;
    uint32_t at = json_scan_white(&scan, json_scan_white(&scan, 0) + 1);
    while (json_scan_byte(&scan, at) != '}') {
        struct json_value key;
        struct json_value value;
        bool is_good = json_scan_key(&scan, &at, &key) && json_scan_value(&scan, at, &value);
        ASSERT(is_good);
        reference_member(data, &key, &value);
        at = json_scan_white(&scan, value.end);
        if (json_scan_byte(&scan, at) == ',') {
            at = json_scan_white(&scan, at + 1);
        }
    }
}

static bool reference_matches(enum lookup_field field, struct slice asked)
{
    for (unsigned i = 0; i < expected.count; i++) {
        struct slice text = expected.texts[i];
        if (expected.fields[i] != field) {
            continue;
        }
        if (field == LOOKUP_MESSAGE ? memmem(text.data, text.bytes, asked.data, asked.bytes) != NULL
                                    : slice_equal(text, asked)) {
            return true;
        }
    }
    return false;
}

/* ---- the comparisons ---- */

static void match_check(struct slice object, enum lookup_field field, struct slice asked)
{
    struct lookup_query query = {0};
    struct slice *place = field == LOOKUP_SERVICE          ? &query.service
                          : field == LOOKUP_SOURCE         ? &query.source
                          : field == LOOKUP_NAME           ? &query.name
                          : field == LOOKUP_CORRELATION_ID ? &query.correlation_id
                          : field == LOOKUP_MESSAGE        ? &query.message
                                                           : NULL;
    if (place == NULL || asked.bytes == 0 || asked.bytes > LOOKUP_SCRATCH_BYTES / 2) {
        return;
    }
    *place = asked;
    ASSERT(lookup_matches(&query, object, scratch) == reference_matches(field, asked));
}

/* Each value, a part of it, and something close to it, asked of each field. */
static void matches_check(struct slice object)
{
    for (unsigned i = 0; i < expected.count; i++) {
        struct slice text = expected.texts[i];
        struct slice part = {text.data + text.bytes / 3, text.bytes / 3};
        struct slice short_one = {text.data, text.bytes > 0 ? text.bytes - 1 : 0};
        for (unsigned field = 1; field < LOOKUP_FIELD_MAX; field++) {
            match_check(object, (enum lookup_field)field, text);
            match_check(object, (enum lookup_field)field, part);
            match_check(object, (enum lookup_field)field, short_one);
        }
    }
}

static void values_reset(struct values *values)
{
    values->room = values->room != NULL ? values->room : mem_alloc(ROOM);
    values->count = 0;
    values->all = 0;
    values->used = 0;
}

static bool is_valid_object(const uint8_t *data, size_t bytes)
{
    uint64_t offset;
    const char *why;
    size_t at = 0;
    while (at < bytes && (data[at] == ' ' || (data[at] >= '\t' && data[at] <= '\r'))) {
        at++;
    }
    return at < bytes && data[at] == '{' && json_validate(data, bytes, &offset, &why) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct slice object = {data, bytes};
    scratch = scratch != NULL ? scratch : mem_alloc(LOOKUP_SCRATCH_BYTES);
    values_reset(&expected);
    values_reset(&actual);
    int walked = lookup_walk(object, UINT32_MAX, scratch, values_on_value, &actual);
    struct lookup_query query = {.service = SLICE_LITERAL("a"), .message = SLICE_LITERAL("b")};
    (void)lookup_matches(&query, object, scratch);
    if (bytes > LOOKUP_SCRATCH_BYTES || !is_valid_object(data, bytes)) {
        return 0;
    }
    ASSERT(walked == 0);
    reference_walk(data, bytes);
    ASSERT(actual.all == expected.all);
    ASSERT(actual.count == expected.count);
    for (unsigned i = 0; i < expected.count; i++) {
        ASSERT(actual.fields[i] == expected.fields[i]);
        ASSERT(slice_equal(actual.texts[i], expected.texts[i]));
    }
    /* Values that the reference had no place for may match as well: then it cannot tell. */
    if (expected.all == expected.count) {
        matches_check(object);
    }
    return 0;
}
