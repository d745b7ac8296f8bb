/*
 * route: what a request means. One table serves requests, says 404 and 405, and (later) generates
 * the API description. Pure.
 */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "core/base.h"
#include "net/http_head.h"

enum route_id {
    ROUTE_NONE = 0,
    ROUTE_LOGS,
    ROUTE_METRICS,
    ROUTE_EVENTS,
    ROUTE_HEALTHCHECK,
    ROUTE_PROMETHEUS,
    ROUTE_LEDGER,
    ROUTE_DURABLE,
    ROUTE_TAIL,
};

struct route {
    enum route_id id;
    const char *path;
    unsigned methods;  /* bit (1 << enum http_method) */
    const char *allow; /* value of Allow; OPTIONS is served everywhere, without a bit in methods */
    const char *summary;
};

/* NULL: no such path. Whether the method is served is the caller's question (route_serves). */
const struct route *route_find(struct slice path);
bool route_serves(const struct route *route, enum http_method method);
/* Does a request of that method store records? The same paths are read with GET. */
bool route_is_ingest(const struct route *route, enum http_method method);
/* Is it answered by the query pool? */
bool route_is_query(const struct route *route, enum http_method method);
/* Asked by those who watch the process, who have neither token nor patience: /healthcheck,
 * /metrics. */
bool route_is_open(const struct route *route);
/* The table, for documentation and tests. */
const struct route *route_table(size_t *count);

#endif
