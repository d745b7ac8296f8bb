/*
 * element: one record of a body, read and judged. Private to the room; body.c finds where elements
 * begin and what a fault means for those after them. Pure; one owner; no allocation.
 *
 * A reader is zeroed memory before its first use. What it learned of the shape of records and of
 * their time stays from body to body: it makes reading faster and changes no answer.
 */
#ifndef MODEL_ELEMENT_H
#define MODEL_ELEMENT_H

#include "core/base.h"
#include "model/body.h"
#include "model/issue.h"
#include "model/json_scan.h"
#include "model/key_set.h"
#include "model/schema.h"
#include "model/shape_memo.h"

struct element_reader {
    enum body_schema schema;
    struct schema_input input; /* data, default_time_ns and index are the caller's to set */
    struct json_scan scan;     /* likewise all but the depth */
    struct key_set keys;       /* of the element: those its schema does not know */
    struct key_set inner_keys; /* of its tags or metadata */
    struct shape_memo shapes[SCHEMA_EVENT]; /* by schema */
};

/* The element at *position, which is in the text. False: malformed, the fault is in reader->scan
 * and *position is of no use. Else *position is after it, and the issues, to which this adds, tell
 * whether it is a record; then record has everything but the index. */
bool element_read(struct element_reader *reader, uint32_t *position, struct body_record *record,
                  struct issue_list *issues) MUST_USE;

#endif
