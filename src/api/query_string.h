/*
 * query_string: parameters of a request target (application/x-www-form-urlencoded, WHATWG URL
 * §5.1), percent-decoded into memory of the caller. Pure.
 */
#ifndef API_QUERY_STRING_H
#define API_QUERY_STRING_H

#include "core/base.h"

/* The first parameter of that name: 1 found (value in to, *bytes), 0 not there, -EINVAL bad
 * percent-encoding or longer than capacity. */
int query_string_find(struct slice query, const char *name, uint8_t *to, size_t capacity,
                      size_t *bytes) MUST_USE;

#endif
