/* openapi_schema: what bodies look like. Their rules in full are in docs/API.md. */
#include "api/openapi_table.h"

#define FIELDS(...)                                                                                \
    (const struct openapi_field[])                                                                 \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            NULL, NULL, NULL, false                                                                \
        }                                                                                          \
    }
#define ID     "01KAKM2Q7V9W3E5R8T1Y4Z6X0C"
#define STATUS "=running|success|failure|partial|timeout|cancelled"
#define SOURCE "=manual|llm|ci"

/* What a client may set when it creates a run, in the order of the columns; those of the answer around it are put beside. */
#define RUN_FIELDS                                                                                 \
    {"start_time", "string", "when the run began; kept as sent", true},                            \
        {"end_time", "string?", NULL, false}, {"agent_name", "string", NULL, true},                \
        {"agent_owner", "string?", NULL, false}, {"job_type", "string", NULL, true},               \
        {"status", STATUS,                                                                         \
         "running unless said; failed, completed and succeeded are taken for failure, success, "   \
         "success",                                                                                \
         false},                                                                                   \
        {"product", "string?", NULL, false}, {"product_family", "string?", NULL, false},           \
        {"platform", "string?", NULL, false}, {"subdomain", "string?", NULL, false},               \
        {"website", "string?", NULL, false}, {"website_section", "string?", NULL, false},          \
        {"item_name", "string?", NULL, false},                                                     \
        {"items_discovered", "integer", "0 or more", false},                                       \
        {"items_succeeded", "integer", "0 or more", false},                                        \
        {"items_failed", "integer", "0 or more", false},                                           \
        {"items_skipped", "integer", "0 or more", false},                                          \
        {"duration_ms", "integer?", "0 or more; null is 0", false},                                \
        {"input_summary", "string?", NULL, false}, {"output_summary", "string?", NULL, false},     \
        {"source_ref", "string?", NULL, false}, {"target_ref", "string?", NULL, false},            \
        {"error_summary", "string?", NULL, false}, {"error_details", "string?", NULL, false},      \
        {"git_repo", "string?", NULL, false}, {"git_branch", "string?", NULL, false},              \
        {"git_commit_hash", "string?", NULL, false}, {"git_run_tag", "string?", NULL, false},      \
        {"git_commit_source", SOURCE "?", NULL, false},                                            \
        {"git_commit_author", "string?", NULL, false},                                             \
        {"git_commit_timestamp", "string?", NULL, false}, {"host", "string?", NULL, false},        \
        {"environment", "string?", NULL, false}, {"trigger_type", "string?", NULL, false},         \
        {"metrics_json", "object?", "kept byte for byte; {} is null", false},                      \
        {"context_json", "object?", "kept byte for byte; {} is null", false},                      \
        {"api_posted", "boolean", NULL, false}, {"api_posted_at", "string?", NULL, false},         \
        {"api_retry_count", "integer", "0 or more", false},                                        \
        {"insight_id", "string?", NULL, false},                                                    \
    {                                                                                              \
        "parent_run_id", "string?", NULL, false                                                    \
    }

static const struct openapi_schema schemas[] = {
    {"Detail", "Why not", FIELDS({"detail", "string", NULL, true}),
     "{\"detail\":\"Run not found: 7d9f\"}", false},
    {"Issue", "One fault of a request, in pydantic's terms",
     FIELDS(
         {"type", "string", "missing, string_type, value_error, json_invalid ...", true},
         {"loc", "[any]", "where: \"body\" or \"query\", the index in an array, the field", true},
         {"msg", "string", NULL, true}, {"input", "any", "what was there", false}),
     "{\"type\":\"missing\",\"loc\":[\"body\",\"event_id\"],\"msg\":\"Field "
     "required\",\"input\":{}}",
     false},
    {"Issues", "What is wrong with a request", FIELDS({"detail", "[Issue]", NULL, true}),
     "{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"event_id\"],\"msg\":\"Field "
     "required\",\"input\":{}}]}",
     false},
    {"Log", "A log record; other members are kept as sent",
     FIELDS({"timestamp", "time", "with zone, up to 9 fraction digits", true},
            {"service", "string", "1 to 256 bytes; also service_name", true},
            {"level", "string", "TRACE DEBUG INFO WARNING ERROR CRITICAL, any case; WARN, FATAL",
             true},
            {"message", "string", NULL, true},
            {"correlation_id", "string", "also x_correlation_id", false}),
     "{\"timestamp\":\"2026-01-10T10:00:00.123456Z\",\"service\":\"billing\",\"level\":\"INFO\","
     "\"message\":\"started\",\"correlation_id\":\"c-17\"}",
     true},
    {"Metric", "A metric record; other members are kept as sent",
     FIELDS({"timestamp", "time", NULL, true}, {"service", "string", NULL, true},
            {"name", "string", NULL, true}, {"value", "number", "finite", true},
            {"unit", "string", NULL, false}, {"tags", "object", "of strings", false}),
     "{\"timestamp\":\"2026-01-10T10:00:00Z\",\"service\":\"billing\",\"name\":\"latency\","
     "\"value\":12.5,\"unit\":\"ms\"}",
     true},
    {"Event", "An event record; other members are kept as sent. A repeated event_id is stored once",
     FIELDS({"event_id", "string", NULL, false}, {"timestamp", "time", NULL, false},
            {"event_type", "=info|warning|error|debug", NULL, true},
            {"source", "string", NULL, true}, {"message", "string", NULL, true},
            {"metadata", "object", NULL, false}),
     "{\"event_type\":\"info\",\"source\":\"deploy\",\"message\":\"done\"}", true},
    {"Accepted", "Stored: on stable storage, unless X-Sluice-Ack: memory was asked for",
     FIELDS({"status", "=accepted", NULL, true}, {"id", "string", "ULID of a single object", false},
            {"lsn", "integer?", "its place in the log", false},
            {"accepted", "integer", "of an array or NDJSON", false},
            {"rejected", "integer", NULL, false}, {"duplicates", "integer", NULL, false},
            {"first_lsn", "integer?", NULL, false}, {"last_lsn", "integer?", NULL, false},
            {"errors", "[Rejected]", "at most 100", false}),
     "{\"status\":\"accepted\",\"id\":\"" ID "\",\"lsn\":48213}", false},
    {"Rejected", "A record that was refused, alone",
     FIELDS({"index", "integer", NULL, true}, {"detail", "[Issue]", NULL, true}), NULL, false},
    {"Found", "A record that was found",
     FIELDS({"id", "string", "ULID", true}, {"lsn", "integer", NULL, true},
            {"received_at", "time", NULL, true}, {"record", "any", "byte for byte as sent", true}),
     NULL, false},
    {"Page", "A page of records",
     FIELDS({"data", "[Found]", NULL, true}, {"next_cursor", "string?", "null: that was all", true},
            {"scanned_bytes", "integer", NULL, true},
            {"damaged_blocks", "integer", "only where proven damage was skipped", false}),
     NULL, false},
    {"Health", "Can the process write to its log right now?",
     FIELDS({"status", "=ok|unavailable", NULL, true}, {"reason", "string", NULL, false}),
     "{\"status\":\"ok\"}", false},
    {"Ledger", "Where every received record is",
     FIELDS({"balanced", "boolean", NULL, true}, {"records", "object", NULL, true},
            {"requests", "object", NULL, true}, {"log", "object", NULL, true},
            {"since", "time", NULL, true}, {"sinks", "object", "by name", true}),
     NULL, true},
    {"Durable", "Is it on stable storage?",
     FIELDS({"lsn", "integer", NULL, true}, {"durable", "boolean", NULL, true},
            {"durable_lsn", "integer", NULL, true},
            {"sinks", "object", "delivered up to, by name", false}),
     "{\"lsn\":57200,\"durable\":true,\"durable_lsn\":58212,\"sinks\":{\"archive\":57171}}", false},
    {"Sinks", "Upstreams and pollers",
     FIELDS({"data", "[object]", NULL, true}, {"pollers", "[object]", NULL, true}), NULL, false},
    {"Ordered", "Done",
     FIELDS({"status", "=requeued|dropped|resumed", NULL, true},
            {"records", "integer", NULL, false}),
     "{\"status\":\"requeued\",\"records\":1}", false},
    {"Quarantined", "A record that an upstream refused for good",
     FIELDS({"id", "integer", NULL, true}, {"sink", "string", NULL, true},
            {"lsn", "integer", NULL, true}, {"record_id", "string", NULL, true},
            {"kind", "string", NULL, true}, {"received_at", "time", NULL, true},
            {"status", "integer", "the upstream's", true}, {"reason", "string", NULL, true},
            {"refused_at", "time", NULL, true}, {"state", "=held|requeued", NULL, true},
            {"record_bytes", "integer", NULL, true},
            {"record", "any", "only when one is asked for", false}),
     NULL, false},
    {"QuarantinePage", "A page of them, oldest first",
     FIELDS({"data", "[Quarantined]", NULL, true}, {"next_cursor", "integer?", NULL, true}), NULL,
     false},
    {"RunCreate", "An agent run; other members are ignored",
     FIELDS({"event_id", "string", "unique; a repeat is a duplicate and changes nothing", true},
            {"run_id", "string", "not unique", true},
            {"created_at", "string?", "now unless said", false}, RUN_FIELDS),
     "{\"event_id\":\"7d9f2c1e-0a53-4f0e-9c41-2f8f0b8f7a10\",\"run_id\":\"20260110T100000Z-crawler-"
     "1a2b3c4d\",\"start_time\":\"2026-01-10T10:00:00+00:00\",\"agent_name\":\"crawler\","
     "\"job_type\":\"crawl\",\"metrics_json\":{\"pages\":17}}",
     true},
    {"Run", "An agent run as it is stored: the columns in their order, and two URLs",
     FIELDS({"id", "integer", NULL, true}, {"event_id", "string", NULL, true},
            {"run_id", "string", NULL, true}, {"schema_version", "integer?", NULL, true},
            {"created_at", "string", NULL, true}, {"updated_at", "string?", NULL, true}, RUN_FIELDS,
            {"commit_url", "string?", NULL, true}, {"repo_url", "string?", NULL, true}),
     NULL, true},
    {"RunUpdate", "What of a run may be changed; null and other members are ignored",
     FIELDS({"status", STATUS "?", NULL, false}, {"end_time", "string?", NULL, false},
            {"duration_ms", "integer?", NULL, false}, {"error_summary", "string?", NULL, false},
            {"error_details", "string?", NULL, false}, {"output_summary", "string?", NULL, false},
            {"input_summary", "string?", NULL, false},
            {"items_discovered", "integer?", NULL, false},
            {"items_succeeded", "integer?", NULL, false}, {"items_failed", "integer?", NULL, false},
            {"items_skipped", "integer?", NULL, false},
            {"metrics_json", "object?", "replaced whole", false},
            {"context_json", "object?", "replaced whole", false},
            {"git_commit_source", SOURCE "?", NULL, false},
            {"git_commit_author", "string?", NULL, false},
            {"git_commit_timestamp", "string?", NULL, false}),
     "{\"status\":\"success\",\"end_time\":\"2026-01-10T10:07:00+00:00\",\"duration_ms\":420000}",
     true},
    {"RunCreated", "Stored, in the log and in the database",
     FIELDS({"status", "=created", NULL, true}, {"event_id", "string", NULL, true},
            {"run_id", "string", NULL, true}),
     "{\"status\":\"created\",\"event_id\":\"7d9f\",\"run_id\":\"r-1\"}", false},
    {"RunDuplicate", "It was there; nothing was overwritten",
     FIELDS({"status", "=duplicate", NULL, true}, {"event_id", "string", NULL, true},
            {"message", "string", NULL, true}),
     "{\"status\":\"duplicate\",\"event_id\":\"7d9f\",\"message\":\"Event already exists "
     "(idempotent)\"}",
     false},
    {"RunBatch", "Runs in an object: answered 201; a bare array of them is answered 200",
     FIELDS({"runs", "[RunCreate]", NULL, true}), NULL, true},
    {"RunBatchDone", "What became of a batch",
     FIELDS({"status", "=created", "only of an object", false}, {"inserted", "integer", NULL, true},
            {"duplicates", "integer", NULL, true},
            {"errors", "[string]", "\"event_id: text\"", true}, {"total", "integer", NULL, true}),
     "{\"inserted\":99,\"duplicates\":1,\"errors\":[],\"total\":100}", false},
    {"RunUpdated", "Changed",
     FIELDS({"event_id", "string", NULL, true}, {"updated", "boolean", NULL, true},
            {"fields_updated", "[string]", "in the order of the request", true}),
     "{\"event_id\":\"7d9f\",\"updated\":true,\"fields_updated\":[\"status\",\"end_time\"]}",
     false},
    {"CommitAssociate", "The commit that a run made",
     FIELDS({"commit_hash", "string", "7 to 40 hexadecimal digits", true},
            {"commit_source", SOURCE, NULL, true}, {"commit_author", "string?", NULL, false},
            {"commit_timestamp", "string?", NULL, false}),
     "{\"commit_hash\":\"1a2b3c4d5e\",\"commit_source\":\"ci\"}", true},
    {"CommitAssociated", "Stored; what was there of a commit is overwritten",
     FIELDS({"status", "=success", NULL, true}, {"event_id", "string", NULL, true},
            {"run_id", "string", NULL, true}, {"commit_hash", "string", NULL, true}),
     "{\"status\":\"success\",\"event_id\":\"7d9f\",\"run_id\":\"r-1\",\"commit_hash\":"
     "\"1a2b3c4d5e\"}",
     false},
    {"RunEvent", "Something that happened in a run",
     FIELDS({"event_type", "string", NULL, true},
            {"timestamp", "string?", "now unless said", false},
            {"payload", "object?", NULL, false}),
     "{\"event_type\":\"checkpoint\",\"payload\":{\"page\":17}}", true},
    {"RunEventStored", "Stored",
     FIELDS({"status", "=created", NULL, true}, {"event_id", "string", NULL, true},
            {"event_type", "string", NULL, true}),
     "{\"status\":\"created\",\"event_id\":\"7d9f\",\"event_type\":\"checkpoint\"}", false},
    {"CommitUrl", "null: not a host whose form is known",
     FIELDS({"commit_url", "string?", NULL, true}),
     "{\"commit_url\":\"https://github.com/o/r/commit/1a2b3c4d5e\"}", false},
    {"RepoUrl", "null: not https", FIELDS({"repo_url", "string?", NULL, true}),
     "{\"repo_url\":\"https://github.com/o/r\"}", false},
    {"RunNames", "Both lists are sorted",
     FIELDS({"agent_names", "[string]", NULL, true}, {"job_types", "[string]", NULL, true},
            {"counts", "object", "how many of each", true}),
     "{\"agent_names\":[\"crawler\"],\"job_types\":[\"crawl\"],\"counts\":{\"agent_names\":1,"
     "\"job_types\":1}}",
     false},
    {"RunsHealth", "The agent-run database",
     FIELDS({"status", "=ok|unavailable", NULL, true}, {"version", "string", NULL, false},
            {"db_path", "string", NULL, false}, {"journal_mode", "string", NULL, false},
            {"synchronous", "string", NULL, false}, {"schema_version", "integer", NULL, false},
            {"total_runs", "integer", NULL, false}, {"applied_lsn", "integer", NULL, false},
            {"detail", "string", "why it is unavailable", false}),
     NULL, true},
    {"RunsMetrics", "The counts of the agent-run database",
     FIELDS({"total_runs", "integer", NULL, true},
            {"agents", "object", "runs by agent, most first", true},
            {"recent_24h", "integer", NULL, true}, {"performance", "object", NULL, true}),
     NULL, false},
};

const struct openapi_schema *openapi_schemas(size_t *count)
{
    *count = ARRAY_COUNT(schemas);
    return schemas;
}
