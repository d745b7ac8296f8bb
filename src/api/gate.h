/*
 * gate: what is decided from a request's head alone, before any byte of its body is awaited: is
 * there such a route and method (404, 405), does a browser only ask beforehand (204), is the server
 * about to stop (503), may this address ask once more (429), may this token ask that (401, 403).
 * Shard's thread.
 *
 * The limit comes before the token, so that guessing tokens uses it up. A head behind unanswered
 * requests is looked at again when they are answered; only the last look charges and counts.
 */
#ifndef API_GATE_H
#define API_GATE_H

#include "net/server.h"

struct shard;

enum http_head_verdict gate_on_head(struct shard *shard, const struct http_head *head,
                                    const uint8_t *base, struct http_answer *answer);
/* Header lines for each answer to a request with this Origin. */
struct slice gate_on_origin(struct shard *shard, struct slice origin);

#endif
