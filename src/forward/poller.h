/*
 * poller: rows of a database table become metric records, each once. One thread for all pollers (ROLE_POLLER), libpq,
 * blocking calls with time-outs: a dead database holds nobody but its own poller's turn (asynchronous connects and queries: pollers
 * do not wait for each other either).
 *
 * A look: SELECT ... WHERE (time, step, metric) > (watermark) ORDER BY the same LIMIT rows_max, in a read-only transaction with
 * statement_timeout, lock_timeout and application_name set. The rows become one request (NDJSON of metric records, api.md §1:
 * timestamp, service, name, value, tags {agent_step, table}) through a store port of the poller's own: validated by model/body, put into
 * the ring like a shard's, acknowledged when durable; only then the next look moves on.
 *
 * Each row once: the request's idempotency key is made of the poller's name and the watermark it begins after, and its last record
 * carries the watermark it ends with (META_WATERMARK, format.h), so that the log itself says where to go on. At start the newest
 * META_WATERMARK of each poller is looked for in the log, from the position that DIR/poller.cache names (a cache: without it the whole
 * log is read; when neither has one, e.g. everything has expired, the poller begins at the table's beginning and says so).
 */
#ifndef FORWARD_POLLER_H
#define FORWARD_POLLER_H

#include "core/agent.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "store/store.h"

struct poller_set;

struct poller_set_options {
    const char *data_dir;
    const struct config_poller *pollers; /* borrowed */
    unsigned poller_count;
    struct store *store;
    unsigned port_index; /* store_port of its own, behind the shards' */
    uint64_t max_body;
};

struct poller_counts {
    uint64_t looks, rows, records, duplicates, invalid, errors, reconnects;
    int64_t last_row_at_ns;  /* time of the newest row taken; 0: none */
    int64_t last_look_at_ns; /* of the last look that the database answered */
    bool is_connected;
    char reason[256]; /* of the last trouble; "" when there is none now */
};

/* After store_open (the log is recovered), before store_start. */
int poller_set_open(struct poller_set **set, const struct poller_set_options *options,
                    struct err *err) MUST_USE;
int poller_set_duty(void *set);
void poller_set_stop(struct poller_set *set); /* any thread; before store_stop */
void poller_set_close(struct poller_set *set);
/* Any thread. */
void poller_set_counts(struct poller_set *set, unsigned i, struct poller_counts *counts);

#endif
