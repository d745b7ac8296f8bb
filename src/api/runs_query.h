/*
 * runs_query: the query string of GET /api/v1/runs, judged (api.md §2.3). Pure.
 *
 * An empty parameter is not there; of several with one name the last counts; unknown ones are ignored. First the 422 of limit and
 * offset, then the 400 of the status, then those of the times, as the dialect's framework and its handler answer them.
 */
#ifndef API_RUNS_QUERY_H
#define API_RUNS_QUERY_H

#include "core/base.h"
#include "core/buf.h"
#include "store/runs_read.h"

/* No target is longer, so no value is. */
#define RUNS_QUERY_BYTES       8192u
#define RUNS_QUERY_FAULT_BYTES (64u * 1024u)

/* 0: filter is filled and borrows from memory, which has RUNS_QUERY_BYTES. Else the status, and fault (RUNS_QUERY_FAULT_BYTES) is the body. */
unsigned runs_query_parse(struct runs_filter *filter, uint8_t *memory, struct slice query,
                          struct buf *fault) MUST_USE;
/* As Python's datetime.fromisoformat takes it, with Z: a date, or a date and a time with an optional fraction and zone. */
bool runs_query_is_time(struct slice text);

#endif
