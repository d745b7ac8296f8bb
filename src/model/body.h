/*
 * body: the records of one request body, in one pass, without a DOM and without allocation. Pure:
 * no I/O, no clock.
 *
 * A body is one JSON object, a JSON array of objects, or NDJSON. It is detected from the bytes
 * (NDJSON also by content type). Strict RFC 8259: valid UTF-8, no lone surrogates in escapes, no
 * trailing commas, no NaN, no comments, depth at most 64, no duplicate keys in an interpreted
 * record. The record's payload is exactly the element's bytes, without surrounding white space.
 *
 *   body_open -> body_next, body_next, ... until BODY_END or a fatal result
 *
 * Array: malformed JSON anywhere is fatal (nothing of the request is kept). NDJSON: a malformed
 * line is that line's issue and parsing goes on at the next line feed; empty lines are skipped and
 * not counted. An empty array yields BODY_END at once. Trailing bytes after an object or array:
 * fatal, except that line feed + more JSON after a first object means NDJSON. An empty or blank
 * body is fatal in every shape. A single value that is no object is a BODY_REJECT, then BODY_END.
 * A top-level key "resourceLogs" (or resourceMetrics) in a single object means OTLP: BODY_OTLP,
 * before anything is yielded.
 *
 * Decisions. Duplicate keys are looked for among the record's own keys and those of tags and
 * metadata (escapes undone); deeper, free-form objects are not interpreted and may hold them. Each
 * of those objects has at most 1024 keys that its schema does not name; a record with more is
 * rejected, which bounds memory and work. Depth counts from the record: the array around it is
 * free. In NDJSON a line feed ends the element wherever it stands; in a first object whose shape is
 * still open it is white space. Library metrics and events may have a timestamp without a zone
 * (UTC), or null or none (the default time). event_id has 1..255 bytes. Bodies are shorter than 4
 * GiB - 128 (asserted: the server's limit is far below).
 */
#ifndef MODEL_BODY_H
#define MODEL_BODY_H

#include "core/base.h"
#include "model/issue.h"

enum body_schema {
    SCHEMA_LOG = 1,    /* api.md §1 POST /v1/logs */
    SCHEMA_METRIC = 2, /* POST /v1/metrics: both forms */
    SCHEMA_EVENT = 3,  /* POST /v1/events */
};

enum body_shape {
    SHAPE_DETECT = 0,
    SHAPE_OBJECT = 1, /* same values as enum submit_form */
    SHAPE_ARRAY = 2,
    SHAPE_NDJSON = 3,
};

/* What an accepted element is. */
struct body_record {
    struct slice payload;  /* the element's bytes, inside the body */
    int64_t event_time_ns; /* default_time_ns where the schema lets it be absent */
    uint8_t
        severity; /* 1 TRACE 2 DEBUG 3 INFO 4 WARNING 5 ERROR 6 CRITICAL; 0: the schema has none */
    struct slice dedup_key; /* event_id as it stands between its quotes (escapes undone when it had
                               any, in scratch) */
    uint32_t index;         /* of the element */
};

enum body_result {
    BODY_RECORD = 1,  /* record is filled */
    BODY_REJECT = 2,  /* this element is bad: issues is filled, go on */
    BODY_END = 3,     /* no more elements */
    BODY_INVALID = 4, /* the whole body is not what it claims: issues has one JSON_INVALID; stop */
    BODY_OTLP = 5,    /* stop; answer as OTLP (415 until that dialect lands) */
};

/* 64-byte blocks of the body are indexed ahead of the walk, a window at a time; this is that window
 * and the position, and what is remembered of records (the bytes between their values, the minute
 * of their time), which makes those alike quick to read and changes no answer. Large: one per
 * shard, not on the stack. Callers use only body_open, body_next and body_shape. */
struct body;

/* Of memory that is zeroed (mem_alloc) before the first body_open. */
size_t body_struct_bytes(void);

/* data must stay until the last use of a record or issue: they point into it. dedup_key may point
 * into body: until the next body_next. */

void body_open(struct body *body, enum body_schema schema, enum body_shape shape,
               const uint8_t *data, size_t bytes, int64_t default_time_ns);
enum body_result body_next(struct body *body, struct body_record *record,
                           struct issue_list *issues);
/* The shape, certain after the first body_next. NDJSON may be discovered by the second. */
enum body_shape body_shape(const struct body *body);

#endif
