#include "api/route.h"

#include <string.h>

#define BIT(method) (1u << (method))

static const struct route routes[] = {
    /* The busiest first: the search is linear and ends at the first. */
    {ROUTE_LOGS, "/v1/logs", BIT(HTTP_POST), "POST, OPTIONS", "Store log records"},
    {ROUTE_METRICS, "/v1/metrics", BIT(HTTP_POST), "POST, OPTIONS", "Store metric records"},
    {ROUTE_EVENTS, "/v1/events", BIT(HTTP_POST), "POST, OPTIONS", "Store event records"},
    {ROUTE_HEALTHCHECK, "/healthcheck", BIT(HTTP_GET) | BIT(HTTP_HEAD), "GET, HEAD, OPTIONS",
     "Can this process write to its log right now?"},
    {ROUTE_PROMETHEUS, "/metrics", BIT(HTTP_GET) | BIT(HTTP_HEAD), "GET, HEAD, OPTIONS",
     "Counters and histograms of this process, Prometheus text"},
    {ROUTE_LEDGER, "/v1/ledger", BIT(HTTP_GET) | BIT(HTTP_HEAD), "GET, HEAD, OPTIONS",
     "The conservation ledger: where every received record is"},
    {ROUTE_DURABLE, "/v1/durable", BIT(HTTP_GET) | BIT(HTTP_HEAD), "GET, HEAD, OPTIONS",
     "Is this LSN on stable storage? Waits for it with ?wait="},
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

bool route_is_ingest(const struct route *route)
{
    return route->id == ROUTE_LOGS || route->id == ROUTE_METRICS || route->id == ROUTE_EVENTS;
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
