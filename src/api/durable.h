/*
 * durable: GET /v1/durable?lsn=N&wait=5s, and the requests that wait for their LSN. Owned by the
 * shard's thread. A connection with a waiting request answers nothing else until it is answered
 * (durable_is_waiting), so that answers stay in order.
 */
#ifndef API_DURABLE_H
#define API_DURABLE_H

#include "core/base.h"
#include "net/server.h"

#define DURABLE_WAITERS_MAX 256
#define DURABLE_WAIT_NS_MAX (60 * NS_S)
#define DURABLE_LOOK_NS     (2 * NS_MS) /* how often a shard looks while somebody waits */

struct durable_waiter {
    struct conn_handle conn;
    uint64_t lsn;
    uint64_t deadline_ns;
};

struct durable_waiters {
    struct durable_waiter items[DURABLE_WAITERS_MAX];
    unsigned count;
};

struct shard;

enum http_verdict durable_on_request(struct shard *shard, const struct http_request *request);
/* Once per pass: answers who need not wait any longer. */
void durable_answer_due(struct shard *shard);
bool durable_is_waiting(const struct durable_waiters *waiters, struct conn_handle conn);

#endif
