/*
 * forwarder: the agent that brings the log to all upstreams: one thread (ROLE_FORWARDER), one delivery per configured sink, one
 * transport, one database. Reads what is durable and nothing else; never on the way of ingest: it looks at durable_lsn by
 * itself (at most FORWARDER_LOOK_NS apart while all sinks have delivered everything), nobody wakes it per batch.
 *
 * What it tells the store: the smallest LSN any sink still needs (store_set_retain_lsn), after the commit that moved it, before
 * the store's threads run for the first time.
 */
#ifndef FORWARD_FORWARDER_H
#define FORWARD_FORWARDER_H

#include "core/agent.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/sink_status.h"
#include "store/store.h"

#define FORWARDER_LOOK_NS (50 * NS_MS)

struct forwarder;

struct forwarder_options {
    const char *data_dir;
    const struct config_sink *sinks; /* borrowed */
    unsigned sink_count;
    struct store *store;
    bool compacts; /* the store compacts: see delivery.h */
};

/* After store_open, before store_start: opens the database, tells the store what to retain. */
int forwarder_open(struct forwarder **forwarder, const struct forwarder_options *options,
                   struct err *err) MUST_USE;
int forwarder_duty(void *forwarder); /* agent_duty */
/* Any thread: finishes what is under way for at most FORWARDER_STOP_NS, then duty returns 1. */
#define FORWARDER_STOP_NS (2 * NS_S)
void forwarder_stop(struct forwarder *forwarder);
/* After the agent has ended, before store_close. */
void forwarder_close(struct forwarder *forwarder);

unsigned forwarder_sink_count(const struct forwarder *forwarder);
const struct config_sink *forwarder_sink(const struct forwarder *forwarder, unsigned i);
struct sink_status *forwarder_status(struct forwarder *forwarder, unsigned i);

/* What an operator asks for. Any thread but shards (a mutex): queued, done by the forwarder within a pass, waited for at most
 * wait_ns. */
enum forwarder_order {
    ORDER_REQUEUE = 1, /* quarantine id, or 0: all of sink */
    ORDER_DROP,
    ORDER_RESUME, /* sink */
    ORDER_RELOAD, /* secrets */
};
/* sink: may be NULL with an id. Returns how many records it concerned; -ENOENT no such item or sink, -EBUSY, -ETIMEDOUT. */
int forwarder_order(struct forwarder *forwarder, enum forwarder_order order, const char *sink,
                    uint64_t id, uint64_t wait_ns, struct err *err) MUST_USE;

#endif
