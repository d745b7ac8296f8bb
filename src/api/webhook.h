/*
 * webhook: tells somebody over HTTP (POST, application/json, libcurl), from a thread of its own, so that a
 * slow listener holds nobody. At most WEBHOOK_QUEUE messages wait; what finds no room is counted. One
 * attempt and WEBHOOK_RETRIES more, a second apart; WEBHOOK_TIMEOUT_S each; no redirects, http and https
 * only. A failure is a log line and a count, never more.
 *
 * One producer (main), one consumer (its thread), through a small SPSC ring.
 */
#ifndef API_WEBHOOK_H
#define API_WEBHOOK_H

#include "core/base.h"
#include "core/err.h"

#define WEBHOOK_QUEUE_BYTES 65536u
#define WEBHOOK_BODY_MAX    2048u
#define WEBHOOK_RETRIES     2
#define WEBHOOK_TIMEOUT_S   5

struct webhook;

/* url: copied. */
int webhook_open(struct webhook **webhook, const char *url, struct err *err) MUST_USE;
/* Main. False: no room, counted. */
bool webhook_send(struct webhook *webhook, struct slice body);
/* Ends the thread after the message it is at. NULL: nothing. */
void webhook_close(struct webhook *webhook);

struct webhook_counts {
    uint64_t sent, failed, dropped;
};
struct webhook_counts webhook_counts(const struct webhook *webhook);

#endif
