#include "api/route.h"

#include <string.h>

#define BIT(method) (1u << (method))
#define READ        (BIT(HTTP_GET) | BIT(HTTP_HEAD))

static const struct route routes[] = {
    /* The busiest first: the search is linear and ends at the first. */
    {ROUTE_LOGS, "/v1/logs", READ | BIT(HTTP_POST), "GET, HEAD, POST, OPTIONS",
     "Store log records; find them"},
    {ROUTE_METRICS, "/v1/metrics", READ | BIT(HTTP_POST), "GET, HEAD, POST, OPTIONS",
     "Store metric records; find them"},
    {ROUTE_EVENTS, "/v1/events", READ | BIT(HTTP_POST), "GET, HEAD, POST, OPTIONS",
     "Store event records; find them"},
    {ROUTE_HEALTHCHECK, "/healthcheck", READ, "GET, HEAD, OPTIONS",
     "Can this process write to its log right now?"},
    {ROUTE_PROMETHEUS, "/metrics", READ, "GET, HEAD, OPTIONS",
     "Counters and histograms of this process, Prometheus text"},
    {ROUTE_LEDGER, "/v1/ledger", READ, "GET, HEAD, OPTIONS",
     "The conservation ledger: where every received record is"},
    {ROUTE_DURABLE, "/v1/durable", READ, "GET, HEAD, OPTIONS",
     "Is this LSN on stable storage? Waits for it with ?wait="},
    {ROUTE_TAIL, "/v1/tail", READ, "GET, HEAD, OPTIONS",
     "Records as they become durable, over a WebSocket"},
    {ROUTE_REPLICATE, "/v1/replicate", BIT(HTTP_POST), "POST, OPTIONS",
     "Store what another Sluice sends, exactly once by its node and LSN"},
    {ROUTE_SINKS, "/v1/sinks", READ, "GET, HEAD, OPTIONS",
     "Upstreams: where each stands, and what troubles it"},
    {ROUTE_SINK_REQUEUE, "/v1/sinks/{}/requeue", BIT(HTTP_POST), "POST, OPTIONS",
     "Deliver all quarantined records of a sink again"},
    {ROUTE_SINK_DROP, "/v1/sinks/{}/drop", BIT(HTTP_POST), "POST, OPTIONS",
     "Give up all quarantined records of a sink"},
    {ROUTE_SINK_RESUME, "/v1/sinks/{}/resume", BIT(HTTP_POST), "POST, OPTIONS",
     "Let a paused sink try again now"},
    {ROUTE_QUARANTINE, "/v1/quarantine", READ, "GET, HEAD, OPTIONS",
     "Records that an upstream refused for good"},
    {ROUTE_QUARANTINE_ITEM, "/v1/quarantine/{}", READ, "GET, HEAD, OPTIONS",
     "One of them, with the upstream's answer"},
    {ROUTE_QUARANTINE_REQUEUE, "/v1/quarantine/{}/requeue", BIT(HTTP_POST), "POST, OPTIONS",
     "Deliver it again"},
    {ROUTE_QUARANTINE_DROP, "/v1/quarantine/{}/drop", BIT(HTTP_POST), "POST, OPTIONS",
     "Give it up"},
    {ROUTE_RUNS, "/api/v1/runs", READ | BIT(HTTP_POST), "GET, HEAD, POST, OPTIONS",
     "Store an agent run; list runs"},
    /* The path of the run whose event_id is "batch", too: what is not POST goes there (route_for). */
    {ROUTE_RUNS_BATCH, "/api/v1/runs/batch", BIT(HTTP_POST), "GET, HEAD, POST, PATCH, OPTIONS",
     "Store many agent runs at once"},
    {ROUTE_RUN, "/api/v1/runs/{}", READ | BIT(HTTP_PATCH), "GET, HEAD, PATCH, OPTIONS",
     "One agent run; change it"},
    {ROUTE_RUN_COMMIT, "/api/v1/runs/{}/associate-commit", BIT(HTTP_POST), "POST, OPTIONS",
     "Say which commit an agent run made"},
    {ROUTE_RUN_EVENTS, "/api/v1/runs/{}/events", BIT(HTTP_POST), "POST, OPTIONS",
     "Store an event of an agent run"},
    {ROUTE_RUN_COMMIT_URL, "/api/v1/runs/{}/commit-url", READ, "GET, HEAD, OPTIONS",
     "Where the commit of an agent run can be seen"},
    {ROUTE_RUN_REPO_URL, "/api/v1/runs/{}/repo-url", READ, "GET, HEAD, OPTIONS",
     "Where the repository of an agent run can be seen"},
    {ROUTE_RUNS_METADATA, "/api/v1/metadata", READ, "GET, HEAD, OPTIONS",
     "Names of agents and types of jobs"},
    {ROUTE_RUNS_HEALTH, "/health", READ, "GET, HEAD, OPTIONS",
     "Can agent runs be stored and read?"},
    {ROUTE_OPENAPI, "/openapi.json", READ, "GET, HEAD, OPTIONS", "This description, for programs"},
    {ROUTE_DOCS, "/docs", READ, "GET, HEAD, OPTIONS", "This description, for people"},
};

/* Bytes before and behind the "{}" of a pattern. False: it is a literal. */
static bool route_is_pattern(const struct route *route, size_t *before, size_t *behind)
{
    const char *hole = strstr(route->path, "{}");
    if (hole == NULL) {
        return false;
    }
    *before = (size_t)(hole - route->path);
    *behind = strlen(hole + 2);
    return true;
}

/* The segment in the hole; empty: the path does not fit. */
static struct slice pattern_segment(const struct route *route, struct slice path)
{
    size_t before = 0;
    size_t behind = 0;
    if (!route_is_pattern(route, &before, &behind) || path.bytes <= before + behind) {
        return (struct slice){0};
    }
    struct slice segment = {path.data + before, path.bytes - before - behind};
    bool is_framed = memcmp(path.data, route->path, before) == 0 &&
                     memcmp(segment.data + segment.bytes, route->path + before + 2, behind) == 0;
    bool fits = is_framed && memchr(segment.data, '/', segment.bytes) == NULL;
    return fits ? segment : (struct slice){0};
}

/* The first at or behind from that fits. */
static const struct route *find_from(const struct route *from, struct slice path)
{
    for (const struct route *at = from; at < routes + ARRAY_COUNT(routes); at++) {
        bool is_same =
            strlen(at->path) == path.bytes && memcmp(at->path, path.data, path.bytes) == 0;
        if (is_same || pattern_segment(at, path).bytes != 0) {
            return at;
        }
    }
    return NULL;
}

const struct route *route_find(struct slice path)
{
    return find_from(routes, path);
}

const struct route *route_for(struct slice path, enum http_method method)
{
    const struct route *first = route_find(path);
    const struct route *route = first;
    while (route != NULL && !route_serves(route, method)) { /* bound: the table */
        route = find_from(route + 1, path);
    }
    return route != NULL ? route : first;
}

struct slice route_parameter(const struct route *route, struct slice path)
{
    return pattern_segment(route, path);
}

bool route_serves(const struct route *route, enum http_method method)
{
    return (route->methods & BIT(method)) != 0;
}

static bool route_has_records(const struct route *route)
{
    return route->id == ROUTE_LOGS || route->id == ROUTE_METRICS || route->id == ROUTE_EVENTS;
}

bool route_is_ingest(const struct route *route, enum http_method method)
{
    bool is_writing = method == HTTP_POST || method == HTTP_PATCH;
    return is_writing &&
           (route_has_records(route) || route->id == ROUTE_REPLICATE || route_is_runs(route));
}

bool route_is_query(const struct route *route, enum http_method method)
{
    return route->id == ROUTE_TAIL || (method != HTTP_POST && route_has_records(route));
}

bool route_is_order(const struct route *route, enum http_method method)
{
    bool is_reading = method == HTTP_GET || method == HTTP_HEAD || method == HTTP_OPTIONS;
    return !is_reading && !route_is_ingest(route, method);
}

bool route_is_quarantine(const struct route *route)
{
    switch ((int)route->id) {
    case ROUTE_SINK_REQUEUE:
    case ROUTE_SINK_DROP:
    case ROUTE_SINK_RESUME:
    case ROUTE_QUARANTINE:
    case ROUTE_QUARANTINE_ITEM:
    case ROUTE_QUARANTINE_REQUEUE:
    case ROUTE_QUARANTINE_DROP:
        return true;
    default:
        return false;
    }
}

bool route_is_runs(const struct route *route)
{
    return route->id >= ROUTE_RUNS && route->id <= ROUTE_RUNS_HEALTH;
}

bool route_is_open(const struct route *route)
{
    return route->id == ROUTE_HEALTHCHECK || route->id == ROUTE_PROMETHEUS ||
           route->id == ROUTE_RUNS_HEALTH || route->id == ROUTE_OPENAPI || route->id == ROUTE_DOCS;
}

const struct route *route_table(size_t *count)
{
    *count = ARRAY_COUNT(routes);
    return routes;
}
