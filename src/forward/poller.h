/*
 * poller: rows of a database table become metric records, each once. One thread for all pollers (ROLE_POLLER), libpq without waiting:
 * connects and queries of all of them are under way beside each other, so a dead database, or a silent
 * resolver (poller_name.h), holds nobody but its own poller.
 *
 * A look: the rows behind a mark (the key columns time, step, metric of the last row taken) in the order of these columns, at most
 * rows_max and what is tied with the last, in a read-only transaction with statement_timeout, lock_timeout and application_name set
 * (poller_query.h). The rows become one request (poller_page.h; NDJSON of metric records, api.md §1: timestamp, service, name, value,
 * tags {agent_step, table}) through a store port of the pollers' own: validated by model/body, put into the ring like a shard's,
 * acknowledged when durable (poller_port.h); only then the next look begins.
 *
 * Each row once: the last record of a request carries the mark that the request ends with (META_WATERMARK, format.h). A request is
 * in the log whole or not at all, so rows and mark are, too, and the log itself says where to go on; what a crash cuts is fetched
 * again. There is no idempotency key on purpose: nothing is left for one to catch, and every segment with a key in it has to be read
 * at start to rebuild the processed set.
 *
 * At start the newest mark of each poller is looked for in the log by this thread, while the server already serves (poller_find.h);
 * DIR/poller.cache shortens that to what came since it was written (poller_cache.h). When neither knows a mark the poller begins at
 * the table's beginning and says so.
 *
 * Fails: a database or a table in any state is a reason in poller_counts, a log line when it changes, and another attempt with full
 * jitter. A log that takes no records (SHED, READ_ONLY) is not asked: pollers then look at no table.
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
    unsigned
        port_index; /* store_port of its own, behind the shards': store_options.shard_count counts it */
    uint64_t max_body; /* of a request; at most half of the store's ring */
};

struct poller_counts {
    uint64_t looks, rows, records; /* rows: done with; records: durable */
    uint64_t duplicates;           /* always 0: nothing is sent twice to the log */
    uint64_t
        invalid; /* values that are no metric: NaN, infinities, out of range; a metric without a name */
    uint64_t errors, reconnects;
    int64_t last_row_at_ns;  /* time of the newest row taken; 0: none */
    int64_t last_look_at_ns; /* of the last look that the database answered */
    bool is_connected;
    char reason[256]; /* of the last trouble; "" when there is none now */
};

/* After store_open (the log is recovered), before store_start. Reads no log yet and reaches for no database. */
int poller_set_open(struct poller_set **set, const struct poller_set_options *options,
                    struct err *err) MUST_USE;
int poller_set_duty(void *set); /* agent_duty */
/* Any thread. duty returns 1 within a second or so, the agent is joined before store_stop. */
void poller_set_stop(struct poller_set *set);
/* After store_close, whose writer wakes the set until then. NULL is fine. */
void poller_set_close(struct poller_set *set);
/* Any thread; a shard, too: it never waits for the poller. */
void poller_set_counts(struct poller_set *set, unsigned i, struct poller_counts *counts);

#endif
