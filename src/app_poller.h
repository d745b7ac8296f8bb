/*
 * app_poller: the pollers, composed: their agent, their port of the store (behind the shards'), and what the routes may know of them.
 * Main thread; app_poller_show: any. Without a configured poller nothing of it exists.
 */
#ifndef APP_POLLER_H
#define APP_POLLER_H

#include "api/upstream.h"
#include "core/agent.h"
#include "core/config.h"
#include "forward/poller.h"
#include "store/store.h"

struct app_poller {
    struct poller_set *set; /* NULL: none */
    struct agent agent;
    bool is_running;
    const struct config_poller *pollers; /* borrowed */
    unsigned count;
};

/* How many ports of the store they need beside the shards'. */
unsigned app_poller_ports(const struct config *config);
/* After store_open, before store_start. */
int app_poller_open(struct app_poller *poller, const struct config *config, struct store *store,
                    unsigned port_index, struct err *err) MUST_USE;
/* After store_start. */
int app_poller_start(struct app_poller *poller, struct err *err) MUST_USE;
void app_poller_show(const struct app_poller *poller, unsigned i, struct upstream_poller *shown);
/* Before store_stop: what it puts into the log ends here, what it reads of the log too. */
void app_poller_stop(struct app_poller *poller);
/* After store_close, whose writer wakes it until then. */
void app_poller_close(struct app_poller *poller);

#endif
