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
};

const struct route *route_find(struct slice path)
{
    for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
        if (strlen(routes[i].path) == path.bytes &&
            memcmp(routes[i].path, path.data, path.bytes) == 0) {
            return &routes[i];
        }
    }
    return NULL;
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
    return method == HTTP_POST && route_has_records(route);
}

bool route_is_query(const struct route *route, enum http_method method)
{
    return route->id == ROUTE_TAIL || (method != HTTP_POST && route_has_records(route));
}

bool route_is_open(const struct route *route)
{
    return route->id == ROUTE_HEALTHCHECK || route->id == ROUTE_PROMETHEUS;
}

const struct route *route_table(size_t *count)
{
    *count = ARRAY_COUNT(routes);
    return routes;
}
