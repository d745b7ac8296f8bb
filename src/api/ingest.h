/*
 * ingest: an ingest request into the shard's ring, whole or not at all; and the writer's acks into
 * answers. Shard's thread.
 */
#ifndef API_INGEST_H
#define API_INGEST_H

#include "api/route.h"
#include "net/server.h"

struct shard;

enum http_verdict ingest_on_request(struct shard *shard, const struct route *route,
                                    const struct http_request *request);

/* Takes every ack frame that has arrived and answers; returns how many frames. */
size_t acks_drain(struct shard *shard);

/* Seconds a client should wait: backlog over the measured drain rate plus jitter, at least 1. */
uint64_t ingest_retry_after_s(struct shard *shard);

#endif
