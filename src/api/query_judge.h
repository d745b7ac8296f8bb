/*
 * query_judge: what the values of a query string's parameters must be, one function for each sort
 * of value: it sets its place in the parameters or lists a fault. Private to query_params.c, which
 * knows the names and who may send them. Pure.
 */
#ifndef API_QUERY_JUDGE_H
#define API_QUERY_JUDGE_H

#include "api/query_fault.h"
#include "api/query_params.h"

/* In the order in which they are judged: the cursor needs all the others. */
enum query_parameter {
    QUERY_PARAMETER_START = 0,
    QUERY_PARAMETER_END,
    QUERY_PARAMETER_SERVICE,
    QUERY_PARAMETER_LEVEL,
    QUERY_PARAMETER_CORRELATION_ID,
    QUERY_PARAMETER_Q,
    QUERY_PARAMETER_NAME,
    QUERY_PARAMETER_SOURCE,
    QUERY_PARAMETER_KIND,
    QUERY_PARAMETER_FROM_LSN,
    QUERY_PARAMETER_LIMIT,
    QUERY_PARAMETER_ORDER,
    QUERY_PARAMETER_CURSOR,
    QUERY_PARAMETER_COUNT,
};

/* One query string while it is judged. */
struct query_reading {
    struct query_params *params;
    struct slice query;
    int64_t now_ns;
    struct query_faults faults;
    enum query_parameter parameter; /* the one that is judged */
    const char *name;               /* its name */
    struct slice raw[QUERY_PARAMETER_COUNT];
    bool is_given[QUERY_PARAMETER_COUNT];
    uint32_t times_digest;
    uint8_t value[QUERY_TEXT_MAX]; /* of the one that is judged */
};

/* value: decoded, at most QUERY_TEXT_MAX. */
void query_judge_text(struct query_reading *reading, struct slice value);
void query_judge_time(struct query_reading *reading, struct slice value);
void query_judge_limit(struct query_reading *reading, struct slice value);
void query_judge_from_lsn(struct query_reading *reading, struct slice value);
void query_judge_level(struct query_reading *reading, struct slice value);
void query_judge_order(struct query_reading *reading, struct slice value);
/* For any reader of query strings: true, and *value is in the range; else the fault is listed. */
bool query_judge_integer(struct query_faults *faults, const char *name, struct slice text,
                         int64_t min, int64_t max, int64_t *value) MUST_USE;
/* The kinds of a list; 0: the fault is listed. */
uint32_t query_judge_kinds(struct query_reading *reading, struct slice value) MUST_USE;

/* Adds length and bytes, so that "ab", "c" and "a", "bc" differ. */
uint32_t query_judge_digest(uint32_t digest, struct slice text);

#endif
