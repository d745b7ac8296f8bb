/*
 * app_forward: what leads upstream, composed: the forwarder and its agent, and what the routes may know of it (api/upstream.h). Main
 * thread; the calls of struct upstream come from shards and query threads. Without a configured sink or poller nothing of it exists.
 */
#ifndef APP_FORWARD_H
#define APP_FORWARD_H

#include "api/upstream.h"
#include "app_poller.h"
#include "core/agent.h"
#include "core/config.h"
#include "forward/forwarder.h"
#include "store/store.h"

struct app_forward {
    struct forwarder *forwarder; /* NULL: no sinks */
    struct agent agent;
    bool is_running;
    struct app_poller poller;
    struct upstream upstream;
    char db_path[4096];
};

/* After store_open, before store_start: the store must know what to retain before it may remove anything. poller_port: of the store,
 * where app_poller_ports asks for one. */
int app_forward_open(struct app_forward *forward, const struct config *config, struct store *store,
                     unsigned poller_port, struct err *err) MUST_USE;
/* What the shards may see; NULL without sinks and pollers. */
const struct upstream *app_forward_upstream(const struct app_forward *forward);
int app_forward_start(struct app_forward *forward, struct err *err) MUST_USE;
/* Secrets are read anew; says so in the log when they cannot be. */
void app_forward_reload(struct app_forward *forward);
/* When no shard and no query thread runs any more, before store_close. */
void app_forward_stop(struct app_forward *forward);
/* After store_close. */
void app_forward_close(struct app_forward *forward);

#endif
