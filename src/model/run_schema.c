#include "model/run_schema.h"

#define IN_CREATE    (1u << RUN_CREATE)
#define IN_UPDATE    (1u << RUN_UPDATE)
#define IN_ASSOCIATE (1u << RUN_ASSOCIATE)
#define IN_EVENT     (1u << RUN_EVENT)

struct field_row {
    const char *name;
    uint8_t bytes;
    uint8_t commands; /* IN_* */
    uint8_t kind;     /* enum run_kind; 0: no client names it */
    uint8_t null;     /* enum run_null, except in an update */
    bool is_required;
};

#define ROW(name, commands, kind, null, is_required)                                               \
    {                                                                                              \
        name, sizeof(name) - 1, commands, kind, null, is_required                                  \
    }
#define SERVER(name)           ROW(name, 0, 0, 0, false)
#define REQUIRED(name)         ROW(name, IN_CREATE, RUN_KIND_TEXT, RUN_NULL_REFUSED, true)
#define TEXT(name)             ROW(name, IN_CREATE, RUN_KIND_TEXT, RUN_NULL_STORED, false)
#define CREATED(name, kind)    ROW(name, IN_CREATE, kind, RUN_NULL_REFUSED, false)
#define UPDATED(name, kind, n) ROW(name, IN_CREATE | IN_UPDATE, kind, n, false)
#define TEXT_UPDATED(name)     UPDATED(name, RUN_KIND_TEXT, RUN_NULL_STORED)

static const struct field_row rows[RUN_FIELD_COUNT] = {
    [RUN_ID] = SERVER("id"),
    [RUN_EVENT_ID] = ROW("event_id", IN_CREATE, RUN_KIND_EVENT_ID, RUN_NULL_REFUSED, true),
    [RUN_RUN_ID] = REQUIRED("run_id"),
    [RUN_SCHEMA_VERSION] = SERVER("schema_version"),
    [RUN_CREATED_AT] = ROW("created_at", IN_CREATE, RUN_KIND_TEXT, RUN_NULL_ABSENT, false),
    [RUN_UPDATED_AT] = SERVER("updated_at"),
    [RUN_START_TIME] = REQUIRED("start_time"),
    [RUN_END_TIME] = TEXT_UPDATED("end_time"),
    [RUN_AGENT_NAME] = REQUIRED("agent_name"),
    [RUN_AGENT_OWNER] = TEXT("agent_owner"),
    [RUN_JOB_TYPE] = REQUIRED("job_type"),
    [RUN_STATUS] = UPDATED("status", RUN_KIND_STATUS, RUN_NULL_REFUSED),
    [RUN_PRODUCT] = TEXT("product"),
    [RUN_PRODUCT_FAMILY] = TEXT("product_family"),
    [RUN_PLATFORM] = TEXT("platform"),
    [RUN_SUBDOMAIN] = TEXT("subdomain"),
    [RUN_WEBSITE] = TEXT("website"),
    [RUN_WEBSITE_SECTION] = TEXT("website_section"),
    [RUN_ITEM_NAME] = TEXT("item_name"),
    [RUN_ITEMS_DISCOVERED] = UPDATED("items_discovered", RUN_KIND_COUNT, RUN_NULL_REFUSED),
    [RUN_ITEMS_SUCCEEDED] = UPDATED("items_succeeded", RUN_KIND_COUNT, RUN_NULL_REFUSED),
    [RUN_ITEMS_FAILED] = UPDATED("items_failed", RUN_KIND_COUNT, RUN_NULL_REFUSED),
    [RUN_ITEMS_SKIPPED] = UPDATED("items_skipped", RUN_KIND_COUNT, RUN_NULL_REFUSED),
    [RUN_DURATION_MS] = UPDATED("duration_ms", RUN_KIND_COUNT, RUN_NULL_ZERO),
    [RUN_INPUT_SUMMARY] = TEXT_UPDATED("input_summary"),
    [RUN_OUTPUT_SUMMARY] = TEXT_UPDATED("output_summary"),
    [RUN_SOURCE_REF] = TEXT("source_ref"),
    [RUN_TARGET_REF] = TEXT("target_ref"),
    [RUN_ERROR_SUMMARY] = TEXT_UPDATED("error_summary"),
    [RUN_ERROR_DETAILS] = TEXT_UPDATED("error_details"),
    [RUN_GIT_REPO] = TEXT("git_repo"),
    [RUN_GIT_BRANCH] = TEXT("git_branch"),
    [RUN_GIT_COMMIT_HASH] = TEXT("git_commit_hash"),
    [RUN_GIT_RUN_TAG] = TEXT("git_run_tag"),
    [RUN_GIT_COMMIT_SOURCE] = UPDATED("git_commit_source", RUN_KIND_SOURCE, RUN_NULL_STORED),
    [RUN_GIT_COMMIT_AUTHOR] = TEXT_UPDATED("git_commit_author"),
    [RUN_GIT_COMMIT_TIMESTAMP] = TEXT_UPDATED("git_commit_timestamp"),
    [RUN_HOST] = TEXT("host"),
    [RUN_ENVIRONMENT] = TEXT("environment"),
    [RUN_TRIGGER_TYPE] = TEXT("trigger_type"),
    [RUN_METRICS_JSON] = UPDATED("metrics_json", RUN_KIND_OBJECT, RUN_NULL_STORED),
    [RUN_CONTEXT_JSON] = UPDATED("context_json", RUN_KIND_OBJECT, RUN_NULL_STORED),
    [RUN_API_POSTED] = CREATED("api_posted", RUN_KIND_FLAG),
    [RUN_API_POSTED_AT] = TEXT("api_posted_at"),
    [RUN_API_RETRY_COUNT] = CREATED("api_retry_count", RUN_KIND_COUNT),
    [RUN_INSIGHT_ID] = TEXT("insight_id"),
    [RUN_PARENT_RUN_ID] = TEXT("parent_run_id"),
    [RUN_COMMIT_HASH] = ROW("commit_hash", IN_ASSOCIATE, RUN_KIND_HASH, RUN_NULL_REFUSED, true),
    [RUN_COMMIT_SOURCE] =
        ROW("commit_source", IN_ASSOCIATE, RUN_KIND_SOURCE, RUN_NULL_REFUSED, true),
    [RUN_COMMIT_AUTHOR] = ROW("commit_author", IN_ASSOCIATE, RUN_KIND_TEXT, RUN_NULL_STORED, false),
    [RUN_COMMIT_TIMESTAMP] =
        ROW("commit_timestamp", IN_ASSOCIATE, RUN_KIND_TEXT, RUN_NULL_STORED, false),
    [RUN_EVENT_TYPE] = ROW("event_type", IN_EVENT, RUN_KIND_TEXT, RUN_NULL_REFUSED, true),
    [RUN_EVENT_TIMESTAMP] = ROW("timestamp", IN_EVENT, RUN_KIND_TEXT, RUN_NULL_ABSENT, false),
    [RUN_EVENT_PAYLOAD] = ROW("payload", IN_EVENT, RUN_KIND_OBJECT, RUN_NULL_STORED, false),
};

_Static_assert(RUN_COLUMNS == 47, "the columns of agent_runs, api.md section 2.1");
_Static_assert(RUN_FIELD_COUNT <= 64, "a bit each in one word");

const char *run_field_name(enum run_field field)
{
    ASSERT(field < RUN_FIELD_COUNT);
    return rows[field].name;
}

uint64_t run_schema_fields(enum run_command command)
{
    uint64_t fields = 0;
    for (unsigned i = 0; i < RUN_FIELD_COUNT; i++) {
        fields |= (uint64_t)(rows[i].commands >> command & 1u) << i;
    }
    return fields;
}

struct run_rule run_schema_rule(enum run_command command, enum run_field field)
{
    const struct field_row *row = &rows[field];
    bool is_update = command == RUN_UPDATE;
    return (struct run_rule){
        .kind = (enum run_kind)row->kind,
        .null = is_update ? RUN_NULL_ABSENT : (enum run_null)row->null,
        .is_required = row->is_required,
    };
}

enum run_field run_schema_find(enum run_command command, struct slice key)
{
    for (unsigned i = 0; i < RUN_FIELD_COUNT; i++) {
        const struct field_row *row = &rows[i];
        if (row->bytes == key.bytes && (row->commands >> command & 1u) != 0 &&
            slice_equal(key, (struct slice){(const uint8_t *)row->name, row->bytes})) {
            return (enum run_field)i;
        }
    }
    return RUN_FIELD_COUNT;
}
