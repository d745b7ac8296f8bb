/*
 * poller_one: one poller: its connection, its look, its place. Never waits: each call does what can be done now and says until when
 * there is nothing to do. The poller's thread.
 *
 *   OFF ──due──► CONNECTING ──► DESCRIBING ──► IDLE ──due──► LOOKING ──► SUBMITTING ──► WAITING ──durable──► IDLE
 *
 * Any failure of the database closes the connection and comes back to OFF; a refusal of the log (it cannot be written now) comes back to
 * IDLE. Neither moves the mark, which stands behind the last row that is durable. Attempts are full jitter apart, those after a failed
 * query also the interval.
 */
#ifndef FORWARD_POLLER_ONE_H
#define FORWARD_POLLER_ONE_H

#include "core/config_sinks.h"
#include "forward/poller.h"
#include "forward/poller_cache.h"
#include "forward/poller_db.h"
#include "forward/poller_page.h"
#include "forward/poller_port.h"

enum poller_state {
    POLLER_OFF = 0,    /* until wake_at_ns */
    POLLER_CONNECTING, /* the two below and LOOKING: at the latest until deadline_ns */
    POLLER_DESCRIBING,
    POLLER_IDLE, /* until wake_at_ns */
    POLLER_LOOKING,
    POLLER_SUBMITTING, /* the page waits for room in the ring, until wake_at_ns */
    POLLER_WAITING,    /* for the log: poller_one_on_ack */
};

struct poller_shared {
    struct poller_port *port;
    const struct store_status *status;
    struct buf sql;    /* scratch, of POLLER_SQL_BYTES */
    size_t page_bytes; /* of a page */
};

struct poller_one {
    const struct config_poller *config;
    struct poller_shared *shared;
    unsigned index;
    enum poller_state state;
    struct poller_db *db;
    struct poller_shape *shape;
    struct poller_page page;
    uint8_t *page_memory;
    struct poller_place place; /* what the log says */
    struct poller_mark
        mark; /* behind the last row that is done with: that of the log, or further on where rows made no record */
    uint64_t
        rows_now; /* how many the next look asks for: less than rows_max while a page is too small for so many */
    uint64_t rows_seen;  /* of the look under way */
    uint64_t look_at_ns; /* when it began, or the connect */
    uint64_t wake_at_ns, deadline_ns;
    unsigned failures; /* in a row */
    uint64_t random;
    int64_t time_max_ns; /* of the page that is submitted */
    uint64_t page_records;
    bool was_connected, has_said_invalid;
    struct poller_counts counts;
};

void poller_one_init(struct poller_one *one, const struct config_poller *config, unsigned index,
                     struct poller_shared *shared, uint64_t seed);
void poller_one_free(struct poller_one *one);
/* The place is known: it may begin. */
void poller_one_begin(struct poller_one *one, const struct poller_place *place);
/* Returns when it wants to be called again at the latest (monotonic ns). */
uint64_t poller_one_step(struct poller_one *one, uint64_t now_ns);
void poller_one_on_ack(struct poller_one *one, const struct poller_ack *ack, uint64_t now_ns);
/* The socket it waits for, -1: none. */
int poller_one_wait(const struct poller_one *one, short *events);

#endif
