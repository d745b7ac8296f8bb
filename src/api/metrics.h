/*
 * metrics: GET /metrics, Prometheus text exposition 0.0.4. Reads published state only; any thread.
 */
#ifndef API_METRICS_H
#define API_METRICS_H

#include "core/buf.h"

struct shard_set;

/* now_ns: monotonic; real_ns: for the ages of what is dated. */
void metrics_write(struct buf *out, struct shard_set *set, uint64_t now_ns, int64_t real_ns);

#endif
