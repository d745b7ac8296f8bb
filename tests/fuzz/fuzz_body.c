/*
 * fuzz_body: the first byte chooses schema and shape, the rest is the body. What must hold for any
 * bytes: the walk ends; a record lies inside the body, is valid JSON by itself and is judged the
 * same when it is sent alone; what was read before does not matter; indexes count up; every refusal
 * says why in valid JSON.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base.h"
#include "core/buf.h"
#include "core/mem.h"
#include "model/body.h"
#include "model/json_scan.h"

#define DEFAULT_NS 1234567890

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct body *body;
static struct body *alone;
static struct body *fresh; /* reads every input as its first */

static void issues_check(const struct issue_list *issues)
{
    static uint8_t room[65536];
    struct buf out;
    ASSERT(issues->count > 0);
    ASSERT(issues->count <= ISSUES_PER_RECORD_MAX);
    buf_init(&out, room, sizeof room);
    issue_list_write(&out, "body", issues);
    ASSERT(!out.is_truncated);
    /* Two levels more than the input, which is cut at a size that keeps it shallow or is 64 deep at
     * most. */
    uint64_t offset;
    const char *text;
    if (json_validate(out.data, out.bytes, &offset, &text) != 0) {
        ASSERT(strstr(text, "deeper") != NULL);
    }
}

static void record_check(const struct body_record *record, enum body_schema schema,
                         struct slice whole)
{
    struct slice payload = record->payload;
    ASSERT(payload.data >= whole.data);
    ASSERT(payload.data + payload.bytes <= whole.data + whole.bytes);
    ASSERT(payload.bytes >= 2);
    ASSERT(payload.data[0] == '{');
    ASSERT(payload.data[payload.bytes - 1] == '}');
    uint64_t offset;
    const char *text;
    ASSERT(json_validate(payload.data, payload.bytes, &offset, &text) == 0);

    /* Zeroed, so that it has no memory of other records: what the memos are believed for is
     * compared with what a reading byte by byte says. */
    struct body_record again;
    struct issue_list issues;
    memset((void *)alone, 0, body_struct_bytes());
    body_open(alone, schema, SHAPE_OBJECT, payload.data, payload.bytes, DEFAULT_NS);
    enum body_result result = body_next(alone, &again, &issues);
    if (result == BODY_OTLP) {
        return; /* only a body of its own is OTLP */
    }
    ASSERT(result == BODY_RECORD);
    ASSERT(again.event_time_ns == record->event_time_ns);
    ASSERT(again.severity == record->severity);
    ASSERT(slice_equal(again.dedup_key, record->dedup_key));
    ASSERT(body_next(alone, &again, &issues) == BODY_END);
}

static struct slice issues_render(const struct issue_list *issues, uint8_t *room, size_t bytes)
{
    struct buf out;
    buf_init(&out, room, bytes);
    issue_list_write(&out, "body", issues);
    return (struct slice){out.data, out.bytes};
}

/* What body makes of the element must not depend on the inputs it read before. */
static void same_as_fresh_check(enum body_result result, const struct body_record *record,
                                const struct issue_list *issues)
{
    static uint8_t room[2][65536];
    struct body_record expected;
    struct issue_list expected_issues;
    ASSERT(body_next(fresh, &expected, &expected_issues) == result);
    ASSERT(slice_equal(issues_render(issues, room[0], sizeof room[0]),
                       issues_render(&expected_issues, room[1], sizeof room[1])));
    if (result == BODY_RECORD) {
        ASSERT(record->payload.data == expected.payload.data);
        ASSERT(record->payload.bytes == expected.payload.bytes);
        ASSERT(record->event_time_ns == expected.event_time_ns);
        ASSERT(record->severity == expected.severity);
        ASSERT(slice_equal(record->dedup_key, expected.dedup_key));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0) {
        return 0;
    }
    if (body == NULL) {
        body = mem_alloc(body_struct_bytes());
        alone = mem_alloc(body_struct_bytes());
        fresh = mem_alloc(body_struct_bytes());
    }
    enum body_schema schema = (enum body_schema)(data[0] % 3 + 1);
    enum body_shape shape = (enum body_shape)(data[0] / 3 % 4);
    struct slice whole = {data + 1, bytes - 1};
    uint32_t elements = 0;
    memset((void *)fresh, 0, body_struct_bytes());
    body_open(body, schema, shape, whole.data, whole.bytes, DEFAULT_NS);
    body_open(fresh, schema, shape, whole.data, whole.bytes, DEFAULT_NS);
    for (;;) {
        struct body_record record;
        struct issue_list issues;
        enum body_result result = body_next(body, &record, &issues);
        same_as_fresh_check(result, &record, &issues);
        if (result == BODY_INVALID) {
            issues_check(&issues);
            return 0;
        }
        if (result == BODY_END || result == BODY_OTLP) {
            return 0;
        }
        ASSERT(record.index == elements);
        ASSERT(++elements <= bytes);
        if (result == BODY_RECORD) {
            record_check(&record, schema, whole);
        } else {
            issues_check(&issues);
        }
    }
}
