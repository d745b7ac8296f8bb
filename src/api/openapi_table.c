/* openapi_table: the operations: what each route takes and answers. */
#include "api/openapi_table.h"

#define FIELDS(...)                                                                                \
    (const struct openapi_field[])                                                                 \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            NULL, NULL, NULL, false                                                                \
        }                                                                                          \
    }

#define ASK_FILTERS                                                                                \
    {"service", "string", "equal", false}, {"level", "string", "that level and above", false},     \
        {"correlation_id", "string", "equal", false},                                              \
    {                                                                                              \
        "q", "string", "substring of message", false                                               \
    }
#define ASK_PAGE                                                                                   \
    {"start", "string", "RFC 3339, or now-5m; inclusive", false},                                  \
        {"end", "string", "likewise", false}, ASK_FILTERS,                                         \
        {"limit", "integer", "1 to 1000; 100", false},                                             \
        {"order", "=desc|asc", "of the log; desc", false},                                         \
    {                                                                                              \
        "cursor", "string", "next_cursor of the page before", false                                \
    }

#define FOUND                                                                                      \
    {                                                                                              \
        {200, "Page", "a page; with Accept: application/x-ndjson one record a line, without end"}, \
            {422, "Issues", "a bad parameter"},                                                    \
        {                                                                                          \
            503, "Detail", "too many at one time"                                                  \
        }                                                                                          \
    }
#define STORED                                                                                     \
    {                                                                                              \
        {202, "Accepted", "stored"}, {422, "Issues", "no valid record in it"},                     \
        {                                                                                          \
            503, "Detail", "the store cannot take it now; Retry-After"                             \
        }                                                                                          \
    }
#define ORDER_ANSWERS                                                                              \
    {                                                                                              \
        {200, "Ordered", "done"}, {404, "Detail", "no such sink or record"},                       \
            {409, "Detail", "something else is done with it"}, {422, "Issues", "a bad id"},        \
        {                                                                                          \
            503, "Detail", "not done in time; it may be done still"                                \
        }                                                                                          \
    }
#define NOT_FOUND                                                                                  \
    {                                                                                              \
        404, "Detail", "no such run"                                                               \
    }
#define LATE                                                                                       \
    {                                                                                              \
        503, "Detail", "stored, and not applied in time; or not stored: the text says which"       \
    }
#define NO_RUNS                                                                                    \
    {                                                                                              \
        503, "Detail", "the database cannot be read now"                                           \
    }

static const struct openapi_operation operations[] = {
    {ROUTE_LOGS, HTTP_POST, "records", "Store log records: one object, an array, or NDJSON", NULL,
     NULL, "Log", NULL, STORED},
    {ROUTE_LOGS, HTTP_GET, "records", "Find log records", FIELDS(ASK_PAGE), NULL, NULL, NULL,
     FOUND},
    {ROUTE_METRICS, HTTP_POST, "records", "Store metric records: one object, an array, or NDJSON",
     NULL, NULL, "Metric", NULL, STORED},
    {ROUTE_METRICS, HTTP_GET, "records", "Find metric records",
     FIELDS(ASK_PAGE, {"name", "string", "equal", false}), NULL, NULL, NULL, FOUND},
    {ROUTE_EVENTS, HTTP_POST, "records", "Store event records: one object, an array, or NDJSON",
     NULL, NULL, "Event", NULL, STORED},
    {ROUTE_EVENTS, HTTP_GET, "records", "Find event records",
     FIELDS(ASK_PAGE, {"source", "string", "equal", false}), NULL, NULL, NULL, FOUND},
    {ROUTE_TAIL,
     HTTP_GET,
     "records",
     "Records as they become durable, over a WebSocket",
     FIELDS(ASK_FILTERS, {"name", "string", "equal", false}, {"source", "string", "equal", false},
            {"kind", "=log|metric|event", "may be repeated", false},
            {"from_lsn", "integer", "begin with this record", false}),
     NULL,
     NULL,
     NULL,
     {{101, NULL, "one text frame a record"},
      {422, "Issues", "a bad parameter"},
      {426, "Detail", "not a WebSocket"}}},
    {ROUTE_REPLICATE, HTTP_POST, "upstreams", "Store what another Sluice sends, exactly once", NULL,
     NULL, "Found", NULL, STORED},
    {ROUTE_DURABLE,
     HTTP_GET,
     "operations",
     "Is this LSN on stable storage?",
     FIELDS({"lsn", "integer", NULL, true},
            {"wait", "string", "5s: answers then, at the latest", false}),
     NULL,
     NULL,
     NULL,
     {{200, "Durable", "now"}, {422, "Issues", "a bad parameter"}}},
    {ROUTE_LEDGER,
     HTTP_GET,
     "operations",
     "The conservation ledger",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "Ledger", "the account"}}},
    {ROUTE_HEALTHCHECK,
     HTTP_GET,
     "operations",
     "Can this process write to its log right now?",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "Health", "yes"}, {503, "Health", "no, and why"}}},
    {ROUTE_PROMETHEUS,
     HTTP_GET,
     "operations",
     "Counters and histograms, Prometheus text; with Accept: application/json those of the agent "
     "runs",
     NULL,
     NULL,
     NULL,
     "text/plain",
     {{200, "RunsMetrics", "the numbers"}}},
    {ROUTE_OPENAPI,
     HTTP_GET,
     "operations",
     "This description, for programs",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "object", "OpenAPI 3.1"}}},
    {ROUTE_DOCS,
     HTTP_GET,
     "operations",
     "This description, for people",
     NULL,
     NULL,
     NULL,
     "text/html",
     {{200, NULL, "one page"}}},
    {ROUTE_SINKS,
     HTTP_GET,
     "upstreams",
     "Upstreams and pollers: where each stands",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "Sinks", "all of them"}}},
    {ROUTE_SINK_REQUEUE, HTTP_POST, "upstreams", "Deliver all quarantined records of a sink again",
     NULL, "sink", NULL, NULL, ORDER_ANSWERS},
    {ROUTE_SINK_DROP, HTTP_POST, "upstreams", "Give up all quarantined records of a sink", NULL,
     "sink", NULL, NULL, ORDER_ANSWERS},
    {ROUTE_SINK_RESUME, HTTP_POST, "upstreams", "Let a paused sink try again now", NULL, "sink",
     NULL, NULL, ORDER_ANSWERS},
    {ROUTE_QUARANTINE,
     HTTP_GET,
     "upstreams",
     "Records that an upstream refused for good",
     FIELDS({"sink", "string", "of this sink", false},
            {"limit", "integer", "1 to 1000; 100", false},
            {"cursor", "integer", "next_cursor of the page before", false}),
     NULL,
     NULL,
     NULL,
     {{200, "QuarantinePage", "a page"}, {422, "Issues", "a bad parameter"}}},
    {ROUTE_QUARANTINE_ITEM,
     HTTP_GET,
     "upstreams",
     "One of them, with the record",
     NULL,
     "id",
     NULL,
     NULL,
     {{200, "Quarantined", "it"}, {404, "Detail", "no such record"}, {422, "Issues", "a bad id"}}},
    {ROUTE_QUARANTINE_REQUEUE, HTTP_POST, "upstreams", "Deliver it again", NULL, "id", NULL, NULL,
     ORDER_ANSWERS},
    {ROUTE_QUARANTINE_DROP, HTTP_POST, "upstreams", "Give it up", NULL, "id", NULL, NULL,
     ORDER_ANSWERS},
    {ROUTE_RUNS,
     HTTP_POST,
     "runs",
     "Store an agent run",
     NULL,
     NULL,
     "RunCreate",
     NULL,
     {{201, "RunCreated", "stored"},
      {200, "RunDuplicate", "this event_id was there"},
      {400, "Detail", "a negative count"},
      {422, "Issues", "not a run"},
      LATE}},
    {ROUTE_RUNS,
     HTTP_GET,
     "runs",
     "List agent runs, newest first",
     FIELDS({"agent_name", "string", "equal", false},
            {"status", "string", "equal; aliases are taken", false},
            {"job_type", "string", "equal", false},
            {"created_before", "string", "created_at < this (ISO 8601)", false},
            {"created_after", "string", "created_at > this", false},
            {"start_time_from", "string", "start_time >= this", false},
            {"start_time_to", "string", "start_time <= this", false},
            {"limit", "integer", "1 to 1000; 100", false},
            {"offset", "integer", "0 or more; 0", false}),
     NULL,
     NULL,
     NULL,
     {{200, "[Run]", "a bare array"},
      {400, "Detail", "a bad status or time"},
      {422, "Issues", "a bad limit or offset"},
      NO_RUNS}},
    {ROUTE_RUNS_BATCH,
     HTTP_POST,
     "runs",
     "Store many agent runs at once; also a bare array of them. What is wrong in a row never fails "
     "the others",
     NULL,
     NULL,
     "RunBatch",
     NULL,
     {{201, "RunBatchDone", "of an object"},
      {200, "RunBatchDone", "of a bare array"},
      {422, "Issues", "an element that is not a run: nothing is stored"},
      LATE}},
    {ROUTE_RUN,
     HTTP_GET,
     "runs",
     "One agent run",
     NULL,
     "event_id",
     NULL,
     NULL,
     {{200, "Run", "it"}, NOT_FOUND, NO_RUNS}},
    {ROUTE_RUN,
     HTTP_PATCH,
     "runs",
     "Change an agent run",
     NULL,
     "event_id",
     "RunUpdate",
     NULL,
     {{200, "RunUpdated", "changed"},
      {400, "Detail", "a negative count, or nothing to change"},
      NOT_FOUND,
      {422, "Issues", "a wrong type or value"},
      LATE}},
    {ROUTE_RUN_COMMIT,
     HTTP_POST,
     "runs",
     "Say which commit an agent run made",
     NULL,
     "event_id",
     "CommitAssociate",
     NULL,
     {{200, "CommitAssociated", "stored"}, NOT_FOUND, {422, "Issues", "not a commit"}, LATE}},
    {ROUTE_RUN_EVENTS,
     HTTP_POST,
     "runs",
     "Store an event of an agent run",
     NULL,
     "event_id",
     "RunEvent",
     NULL,
     {{201, "RunEventStored", "stored"}, NOT_FOUND, {422, "Issues", "not an event"}, LATE}},
    {ROUTE_RUN_COMMIT_URL,
     HTTP_GET,
     "runs",
     "Where its commit can be seen",
     NULL,
     "event_id",
     NULL,
     NULL,
     {{200, "CommitUrl", "or null"}, NOT_FOUND, NO_RUNS}},
    {ROUTE_RUN_REPO_URL,
     HTTP_GET,
     "runs",
     "Where its repository can be seen",
     NULL,
     "event_id",
     NULL,
     NULL,
     {{200, "RepoUrl", "or null"}, NOT_FOUND, NO_RUNS}},
    {ROUTE_RUNS_METADATA,
     HTTP_GET,
     "runs",
     "Names of agents and types of jobs",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "RunNames", "all of them"}, NO_RUNS}},
    {ROUTE_RUNS_HEALTH,
     HTTP_GET,
     "operations",
     "Can agent runs be stored and read?",
     NULL,
     NULL,
     NULL,
     NULL,
     {{200, "RunsHealth", "yes"}, {503, "RunsHealth", "no"}}},
};

const struct openapi_operation *openapi_operations(size_t *count)
{
    *count = ARRAY_COUNT(operations);
    return operations;
}
