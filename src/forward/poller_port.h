/*
 * poller_port: how pages get into the log: one more producer beside the shards, with a port of its own (store/submit.h). A page is
 * validated by model/body like any client's request and is in the ring whole or not at all; its last record carries
 * META_WATERMARK, so that rows and mark are in the log together or not at all. The poller's thread.
 */
#ifndef FORWARD_POLLER_PORT_H
#define FORWARD_POLLER_PORT_H

#include "core/config_sinks.h"
#include "core/ulid.h"
#include "model/body.h"
#include "store/store.h"

struct poller_pending {
    uint64_t end; /* position in the ring */
    unsigned who;
    uint32_t records;
};

struct poller_port {
    struct store_port *port;
    struct body *body;
    struct ulid_source ulids;
    struct poller_pending pending[CONFIG_POLLERS_MAX]; /* oldest first: at most one of each */
    unsigned pending_count;
};

void poller_port_init(struct poller_port *port, struct store_port *of_store);
void poller_port_free(struct poller_port *port);

struct poller_request {
    unsigned who;          /* of the pollers; has nothing pending */
    struct slice body;     /* NDJSON */
    struct watermark mark; /* what its last record says */
    uint64_t now_ns;
    int64_t real_ns;
};
struct poller_submitted {
    uint32_t records, rejected; /* records 0: nothing was put into the ring */
    int64_t time_max_ns;
    char why[160]; /* of the first rejected; "" */
};
/* 0, or -EAGAIN: no room now; nothing happened. */
int poller_port_submit(struct poller_port *port, const struct poller_request *request,
                       struct poller_submitted *submitted) MUST_USE;

struct poller_ack {
    unsigned who;
    int cause;         /* 0: durable; else enum failed_cause */
    uint64_t last_lsn; /* of its last record */
};
/* What the writer has told since. Fills at most CONFIG_POLLERS_MAX acks; returns how many. */
unsigned poller_port_take(struct poller_port *port, struct poller_ack *acks);
/* The second look of a sleeper: is there something to take? */
bool poller_port_has_acks(struct poller_port *port);

#endif
