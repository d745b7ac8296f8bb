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

/* Percent-decodes, '+' to a space: 0, -EINVAL bad percent-encoding, -E2BIG longer than capacity (to
 * holds the beginning then). */
int query_string_decode(struct slice from, uint8_t *to, size_t capacity, size_t *bytes) MUST_USE;

/* A segment of a path: the same, but '+' is itself. */
int query_string_decode_segment(struct slice from, uint8_t *to, size_t capacity,
                                size_t *bytes) MUST_USE;

/* Takes the next parameter off *rest; name and value are as they came. False: there is none.
 * Without '=' the value is empty. */
bool query_string_next(struct slice *rest, struct slice *name, struct slice *value);

#endif
