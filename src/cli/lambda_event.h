/*
 * lambda_event: what API Gateway hands to a function, down to the bytes that its client sent. One thread; its memory is kept
 * from event to event.
 *
 * Payload formats 1.0 (REST) and 2.0 (HTTP API) have the same members that matter: body (a string), isBase64Encoded,
 * headers (content-encoding gzip or zstd, idempotency-key). An event without body that looks like a batch itself
 * ({batch_id, logs, ...}: a direct invocation) is taken as one.
 */
#ifndef CLI_LAMBDA_EVENT_H
#define CLI_LAMBDA_EVENT_H

#include "core/base.h"
#include "core/err.h"

#define LAMBDA_BODY_BYTES_MAX MIB(64) /* decoded */
#define LAMBDA_KEY_BYTES      256

struct lambda_event_reader;

struct lambda_event {
    struct slice body;          /* borrowed from the event or the reader, until the next event */
    char key[LAMBDA_KEY_BYTES]; /* idempotency-key; "" */
};

struct lambda_event_reader *lambda_event_reader_new(void);
void lambda_event_reader_free(struct lambda_event_reader *reader);
/* 0, or the status that the client is answered with, why in err: 400 (no JSON, no body, damaged), 413, 415. */
int lambda_event_read(struct lambda_event_reader *reader, struct slice json,
                      struct lambda_event *event, struct err *err) MUST_USE;

#endif
