/*
 * query_fault: the 422 body of a bad query string, built fault by fault (query_params.h). Private
 * to the reading of parameters. Pure.
 */
#ifndef API_QUERY_FAULT_H
#define API_QUERY_FAULT_H

#include "core/base.h"
#include "core/buf.h"

/* More of an input is cut and ends in "...". */
#define QUERY_INPUT_BYTES_MAX 128u

struct query_faults {
    struct buf *body;
    unsigned count;
    const char *place; /* of the names: "path"; NULL: "query" */
};

/* Adds {"type","loc":[place,name],"msg","input"}; opens the body at the first. */
void query_fault_add(struct query_faults *faults, const char *type, const char *name,
                     const char *message, struct slice input);
/* The same as a value_error, "Value error, " before its text. */
void query_fault_add_value(struct query_faults *faults, const char *name, struct slice input,
                           const char *format, ...) PRINTF_LIKE(4, 5);
/* Closes the body when there was any fault. Returns 0 or -EINVAL. */
int query_faults_end(struct query_faults *faults) MUST_USE;

#endif
