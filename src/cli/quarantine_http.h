/*
 * quarantine_http: requeue and drop by the server that holds a data directory. Before it is asked it has to show that it is
 * that server: an order about another one's records would be done just as well. Blocking, bounded in time.
 */
#ifndef CLI_QUARANTINE_HTTP_H
#define CLI_QUARANTINE_HTTP_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"

struct quarantine_http {
    const char *url;
    const char *token; /* NULL: none */
    const char *data_dir;
    const char *verb; /* requeue, drop */
    const char *sink; /* with id 0: all of it */
    uint64_t id;
    /* A record that the order concerns, by the directory's own database. */
    uint64_t sample_id;
    struct ulid sample_record;
};

/* One order; records: how many it concerned (at most QUARANTINE_ORDER_MAX of a sink). Negative: nothing was done, the text says why. */
int quarantine_http_order(const struct quarantine_http *order, uint64_t *records,
                          struct err *err) MUST_USE;

#endif
