/*
 * body: a growing buffer with a limit, for request bodies of the forwarder. One owner. Grows by doubling;
 * what would pass the limit is refused whole, so that an encoder can take back its last record.
 */
#ifndef FORWARD_BODY_H
#define FORWARD_BODY_H

#include "core/base.h"

struct body {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    size_t limit;
    bool is_over; /* something was refused since the last body_cut or body_reset */
};

void body_init(struct body *body, size_t limit);
void body_free(struct body *body); /* may be called twice */
/* Keeps the memory. */
void body_reset(struct body *body);
/* Back to a length it had; clears is_over. */
void body_cut(struct body *body, size_t bytes);
void body_put(struct body *body, const void *data, size_t bytes);
void body_put_slice(struct body *body, struct slice slice);
void body_put_text(struct body *body, const char *text);
void body_put_u64(struct body *body, uint64_t value);
void body_put_i64(struct body *body, int64_t value);
/* A JSON string with quotes, as buf_put_json_string. */
void body_put_json_string(struct body *body, struct slice text);
/* At least bytes more of room to write into, or NULL (and is_over); then body_add what was written. */
uint8_t *body_room(struct body *body, size_t bytes);
void body_add(struct body *body, size_t bytes);

#endif
