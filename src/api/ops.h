/*
 * ops: routes about the process itself: health, ledger, sinks, metrics. Shard's thread; reads only
 * published state.
 */
#ifndef API_OPS_H
#define API_OPS_H

#include "api/route.h"
#include "net/server.h"

struct counters;
struct shard;
struct shard_set;

enum http_verdict ops_on_request(struct shard *shard, const struct route *route,
                                 const struct http_request *request);

/* NULL: healthy; else a static reason. Any thread. */
const char *health_reason(struct shard_set *set, uint64_t now_ns);

/* The published counters of all shards, added up. Any thread. */
void ledger_sum(struct shard_set *set, struct counters *sum);

/* Sum over the shards of records that are neither durable, pending, rejected nor shed; where that is 0, of the first
 * sink whose picture does not balance. 0 unless the program is wrong. */
int64_t ledger_imbalance(struct shard_set *set);

#endif
