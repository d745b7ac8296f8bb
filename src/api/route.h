/*
 * route: what a request means. One table serves requests, says 404 and 405, and generates
 * the API description (openapi.h). Pure.
 *
 * A path may hold one "{}": it stands for one segment that is not empty ("/v1/sinks/{}/requeue"). Paths are
 * compared as they came, still percent-encoded; only the segment is decoded, by whoever wants it
 * (route_parameter, then query_string_decode_segment), so that a %2F in it never makes another path.
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
    ROUTE_REPLICATE,
    ROUTE_SINKS,
    ROUTE_SINK_REQUEUE,
    ROUTE_SINK_DROP,
    ROUTE_SINK_RESUME,
    ROUTE_QUARANTINE,
    ROUTE_QUARANTINE_ITEM,
    ROUTE_QUARANTINE_REQUEUE,
    ROUTE_QUARANTINE_DROP,
    ROUTE_RUNS,
    ROUTE_RUNS_BATCH,
    ROUTE_RUN,
    ROUTE_RUN_COMMIT,
    ROUTE_RUN_EVENTS,
    ROUTE_RUN_COMMIT_URL,
    ROUTE_RUN_REPO_URL,
    ROUTE_RUNS_METADATA,
    ROUTE_RUNS_HEALTH,
    ROUTE_OPENAPI,
    ROUTE_DOCS,
};

struct route {
    enum route_id id;
    const char *path;
    unsigned methods;  /* bit (1 << enum http_method) */
    const char *allow; /* value of Allow; OPTIONS is served everywhere, without a bit in methods */
    const char *summary;
};

/* The first of the table that fits, so that a literal before a pattern wins. NULL: no such path. Whether the
 * method is served is the caller's question (route_serves). */
const struct route *route_find(struct slice path);
/* Of those that fit, the first that serves the method; where none does, as route_find. So a literal takes from a pattern only the methods
 * that it serves itself. */
const struct route *route_for(struct slice path, enum http_method method);
/* What stands for "{}" in a path that this route was found for: borrowed from path, as it came. Empty where the
 * route has no such segment. */
struct slice route_parameter(const struct route *route, struct slice path);
bool route_serves(const struct route *route, enum http_method method);
/* Does a request of that method store records? The same paths are read with GET. */
bool route_is_ingest(const struct route *route, enum http_method method);
/* Is it answered by the query pool? */
bool route_is_query(const struct route *route, enum http_method method);
/* Does a request of that method change something without storing a record? Then it needs the scope admin. */
bool route_is_order(const struct route *route, enum http_method method);
/* Is it answered by quarantine.h? */
bool route_is_quarantine(const struct route *route);
/* Is it of agent runs (runs.h)? */
bool route_is_runs(const struct route *route);
/* Asked by those who watch the process, who have neither token nor patience: /healthcheck,
 * /health, /metrics; and the description of the API, which a browser asks for. */
bool route_is_open(const struct route *route);
/* The table, for documentation and tests. */
const struct route *route_table(size_t *count);

#endif
