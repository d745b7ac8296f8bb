/*
 * run: the commands of the agent-run API (api.md §2): what a client may say, read from its JSON in
 * one pass, judged in pydantic's terms. Pure. The same reading serves the shard (judge before the
 * log) and the applier (bind after the log), so what was accepted can always be applied.
 *
 * A command is one JSON object:
 *   CREATE      POST /api/v1/runs, each element of a batch (§2.2; run_batch.h)
 *   UPDATE      PATCH /api/v1/runs/{event_id}
 *   ASSOCIATE   POST .../associate-commit
 *   EVENT       POST .../events
 * Unknown keys are ignored, also repeated ones. A known key that is there twice is refused. Strings
 * are UTF-8 without NUL (SQLite would cut them there: the answer says so). Integers are 64-bit;
 * what is taken for one, and for a boolean, is told in run_number.h: pydantic's lax mode, exact. A
 * whole number above the range is "int_parsing_size"; one below it is negative, as any other
 * negative number.
 *
 * null: an absent field in UPDATE, always. In the others it is stored as NULL where the column has
 * no default, means "not said" for created_at and timestamp, 0 for duration_ms, and is refused for
 * every other field with a default and for required ones, as pydantic refuses it. `{}` is stored as
 * NULL; in UPDATE that is a field to update (RUN_NULL, in order).
 *
 * Issues and the negative field come in the order of enum run_field, whatever the client's order.
 * At most ISSUES_PER_RECORD_MAX issues are told.
 */
#ifndef MODEL_RUN_H
#define MODEL_RUN_H

#include "core/base.h"
#include "core/buf.h"
#include "model/issue.h"

/* An event_id is a key in the log and in paths; it has 1 to so many bytes. */
#define RUN_EVENT_ID_BYTES_MAX 1024u

enum run_command {
    RUN_CREATE = 1,
    RUN_UPDATE,
    RUN_ASSOCIATE,
    RUN_EVENT,
};

/* The columns of agent_runs in their order (api.md §2.1), then what commands have besides. */
enum run_field {
    RUN_ID = 0,
    RUN_EVENT_ID,
    RUN_RUN_ID,
    RUN_SCHEMA_VERSION,
    RUN_CREATED_AT,
    RUN_UPDATED_AT,
    RUN_START_TIME,
    RUN_END_TIME,
    RUN_AGENT_NAME,
    RUN_AGENT_OWNER,
    RUN_JOB_TYPE,
    RUN_STATUS,
    RUN_PRODUCT,
    RUN_PRODUCT_FAMILY,
    RUN_PLATFORM,
    RUN_SUBDOMAIN,
    RUN_WEBSITE,
    RUN_WEBSITE_SECTION,
    RUN_ITEM_NAME,
    RUN_ITEMS_DISCOVERED,
    RUN_ITEMS_SUCCEEDED,
    RUN_ITEMS_FAILED,
    RUN_ITEMS_SKIPPED,
    RUN_DURATION_MS,
    RUN_INPUT_SUMMARY,
    RUN_OUTPUT_SUMMARY,
    RUN_SOURCE_REF,
    RUN_TARGET_REF,
    RUN_ERROR_SUMMARY,
    RUN_ERROR_DETAILS,
    RUN_GIT_REPO,
    RUN_GIT_BRANCH,
    RUN_GIT_COMMIT_HASH,
    RUN_GIT_RUN_TAG,
    RUN_GIT_COMMIT_SOURCE,
    RUN_GIT_COMMIT_AUTHOR,
    RUN_GIT_COMMIT_TIMESTAMP,
    RUN_HOST,
    RUN_ENVIRONMENT,
    RUN_TRIGGER_TYPE,
    RUN_METRICS_JSON,
    RUN_CONTEXT_JSON,
    RUN_API_POSTED,
    RUN_API_POSTED_AT,
    RUN_API_RETRY_COUNT,
    RUN_INSIGHT_ID,
    RUN_PARENT_RUN_ID,
    RUN_COLUMNS,                   /* 47 */
    RUN_COMMIT_HASH = RUN_COLUMNS, /* ASSOCIATE */
    RUN_COMMIT_SOURCE,
    RUN_COMMIT_AUTHOR,
    RUN_COMMIT_TIMESTAMP,
    RUN_EVENT_TYPE, /* EVENT */
    RUN_EVENT_TIMESTAMP,
    RUN_EVENT_PAYLOAD,
    RUN_FIELD_COUNT,
};

enum run_type {
    RUN_ABSENT = 0,
    RUN_NULL,
    RUN_TEXT,    /* text: escapes undone, status and booleans normalised */
    RUN_INTEGER, /* integer */
    RUN_JSON,    /* text: the object's own bytes ({} as NULL: type is RUN_NULL) */
};
struct run_value {
    enum run_type type;
    int64_t integer;
    struct slice text; /* borrowed from the object or from the scratch */
};

struct run_fields {
    struct run_value values[RUN_FIELD_COUNT];
    /* enum run_field of all that are not RUN_ABSENT, as the client ordered them (fields_updated) */
    uint8_t order[RUN_FIELD_COUNT];
    unsigned count;
};

enum run_judged {
    RUN_GOOD = 0,
    RUN_BAD_SHAPE, /* 422: issues is filled */
    RUN_NEGATIVE,  /* 400 "Value must be non-negative: <field>": negative is the field */
    RUN_EMPTY,     /* UPDATE without a field to update: 400 "No valid fields to update", after 404
                      was ruled out */
};
struct run_judgement {
    enum run_judged judged;
    enum run_field negative;
    struct issue_list issues;
};

/* object: any text; malformed JSON is RUN_BAD_SHAPE with json_invalid, no bytes at all are "missing",
 * as FastAPI says. scratch: at least object.bytes bytes, for unescaped texts; fields borrow from
 * both (and a status from static text). index: of the element in a batch, or ISSUE_NO_INDEX. Unless
 * the judgement is RUN_GOOD or RUN_EMPTY, fields are of no use. Pure; 24 KiB of stack. */
void run_read(struct run_fields *fields, struct run_judgement *judgement, enum run_command command,
              struct slice object, uint8_t *scratch, uint32_t index);

const char *run_field_name(enum run_field field); /* the column's, or the command's key */
/* "failed" -> "failure" ...; {NULL, 0} for an unknown one. Case as the document: exact. Pure. */
struct slice run_status_normalise(struct slice status);

/* URL rules of §2.3. Pure; 0 where there is none. out: RUN_URL_BYTES. Returns the bytes.
 *
 * What §2.3 leaves open. A repository with white space, a control character or a backslash in it
 * has no URL, nor one without a host, nor one whose URL would be longer than RUN_URL_BYTES. The
 * host is what stands behind the last '@' of the authority and before its port, in any case. There
 * is no commit URL where the repository has a query or a fragment (the commit would land in it) or
 * no path, nor for a hash that is not made of unreserved characters (RFC 3986) or only of dots. */
#define RUN_URL_BYTES 4096
size_t run_repo_url(char *out, struct slice git_repo);
size_t run_commit_url(char *out, struct slice git_repo, struct slice commit_hash);

#endif
