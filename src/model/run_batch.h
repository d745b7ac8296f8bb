/*
 * run_batch: the elements of POST /api/v1/runs/batch (api.md §2.3), one by one, without judging
 * them. A body is a bare array, or an object with the key "runs" whose value is one; its other keys
 * are ignored. Anything else is refused in pydantic's terms. Pure; one owner; no allocation.
 *
 *   run_batch_open -> run_batch_next, ... until RUN_BATCH_END or RUN_BATCH_INVALID
 *
 * Elements are yielded before the rest of the body was looked at: malformed JSON, a second "runs"
 * and the like come as RUN_BATCH_INVALID after them, and then nothing of the body counts: nobody
 * may act on an element before RUN_BATCH_END. An element is any valid JSON value; run_read says
 * what is wrong with one that is no object. Depth counts from the element.
 */
#ifndef MODEL_RUN_BATCH_H
#define MODEL_RUN_BATCH_H

#include "core/base.h"
#include "model/issue.h"
#include "model/json_scan.h"

enum run_batch_shape {
    RUN_BATCH_ARRAY = 1, /* [...]: answered 200 */
    RUN_BATCH_OBJECT,    /* {"runs":[...]}: answered 201 */
};

enum run_batch_result {
    RUN_BATCH_ELEMENT = 1,
    RUN_BATCH_END,
    RUN_BATCH_INVALID, /* 422: issues is filled; stop */
};

/* Callers look at shape only, which is certain once there was an element or the end. 21 KiB. */
struct run_batch {
    enum run_batch_shape shape;
    unsigned stage;
    uint32_t index;    /* of the next element */
    uint32_t position; /* in the body */
    struct json_scan scan;
};

/* body must stay until the last use of an element or issue. Bodies are shorter than 4 GiB. */
void run_batch_open(struct run_batch *batch, struct slice body);
enum run_batch_result run_batch_next(struct run_batch *batch, struct slice *element,
                                     uint32_t *index, struct issue_list *issues) MUST_USE;
/* Completes the places of issues that run_read found in an element: in the object shape they are
 * in "runs". */
void run_batch_locate(const struct run_batch *batch, struct issue_list *issues);

#endif
