/*
 * runs_apply: see runs_apply.h. Statements are prepared once; whatever happens, each is reset before its function returns, so that a rollback
 * finds nothing under way.
 */
#include "store/runs_apply.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/runs_schema.h"
#include "store/runs_zones.h"

/* The columns that a command or a default fills with something else than NULL. */
enum {
    COLUMN_ID = 0,
    COLUMN_EVENT_ID = 1,
    COLUMN_SCHEMA_VERSION = 3,
    COLUMN_CREATED_AT = 4,
    COLUMN_UPDATED_AT = 5,
    COLUMN_STATUS = 11,
};
#define COLUMN_NAMES                                                                               \
    "event_id, run_id, schema_version, created_at, updated_at, start_time, end_time, agent_name, " \
    "agent_owner, job_type, status, product, product_family, platform, subdomain, website, "       \
    "website_section, item_name, items_discovered, items_succeeded, items_failed, items_skipped, " \
    "duration_ms, input_summary, output_summary, source_ref, target_ref, error_summary, "          \
    "error_details, git_repo, git_branch, git_commit_hash, git_run_tag, git_commit_source, "       \
    "git_commit_author, git_commit_timestamp, host, environment, trigger_type, metrics_json, "     \
    "context_json, api_posted, api_posted_at, api_retry_count, insight_id, parent_run_id"

static bool is_count(unsigned column)
{
    return (column >= 19 && column <= 23) || column == 42 || column == 44;
}

/* What an UPDATE may say; status last, because a statement that names it touches three indexes. */
static const struct updatable {
    unsigned column;
    const char *name;
    bool is_json;
} updatables[] = {
    {7, "end_time", false},
    {23, "duration_ms", false},
    {28, "error_summary", false},
    {29, "error_details", false},
    {25, "output_summary", false},
    {24, "input_summary", false},
    {19, "items_discovered", false},
    {20, "items_succeeded", false},
    {21, "items_failed", false},
    {22, "items_skipped", false},
    {40, "metrics_json", true},
    {41, "context_json", true},
    {34, "git_commit_source", false},
    {35, "git_commit_author", false},
    {36, "git_commit_timestamp", false},
    {COLUMN_STATUS, "status", false},
};
#define UPDATABLES ARRAY_COUNT(updatables)

enum statement_id {
    S_BEGIN,
    S_COMMIT,
    S_ROLLBACK,
    S_POSITION,
    S_FIND_POSITION,
    S_CREATE,
    S_UPDATE,
    S_UPDATE_STATUS,
    S_FIND,
    S_ASSOCIATE,
    S_EVENT,
    S_ZONES,
    S_COUNT,
};
static const char *const doings[S_COUNT] = {
    [S_BEGIN] = "begin",
    [S_COMMIT] = "commit",
    [S_ROLLBACK] = "roll back",
    [S_POSITION] = "write applied_lsn",
    [S_FIND_POSITION] = "read applied_lsn",
    [S_CREATE] = "create a run",
    [S_UPDATE] = "update a run",
    [S_UPDATE_STATUS] = "update a run",
    [S_FIND] = "find a run",
    [S_ASSOCIATE] = "associate a commit",
    [S_EVENT] = "add an event",
    [S_ZONES] = "widen the zones of start times",
};
/* The updates are built from the table above. */
static const char *const sqls[S_COUNT] = {
    [S_BEGIN] = "BEGIN IMMEDIATE",
    [S_COMMIT] = "COMMIT",
    [S_ROLLBACK] = "ROLLBACK",
    [S_POSITION] = "INSERT INTO sluice_meta(key, value) VALUES('applied_lsn', ?1) "
                   "ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [S_FIND_POSITION] =
        "SELECT CAST(p.value AS INTEGER) FROM sluice_meta AS p, sluice_meta AS n WHERE "
        "p.key = 'applied_lsn' AND n.key = 'node' AND n.value = ?1",
    [S_CREATE] =
        "INSERT INTO agent_runs(" COLUMN_NAMES ") VALUES("
        "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, "
        "?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, "
        "?37, ?38, ?39, ?40, ?41, ?42, ?43, ?44, ?45, ?46) ON CONFLICT(event_id) DO NOTHING",
    [S_FIND] = "SELECT 1 FROM agent_runs WHERE event_id = ?1",
    [S_ASSOCIATE] = "UPDATE agent_runs SET git_commit_hash = ?2, git_commit_source = ?3, "
                    "git_commit_author = ?4, git_commit_timestamp = ?5, updated_at = ?6 "
                    "WHERE event_id = ?1 RETURNING run_id",
    [S_EVENT] = "INSERT INTO run_events(run_id, event_type, timestamp, payload_json) "
                "SELECT run_id, ?2, ?3, ?4 FROM agent_runs WHERE event_id = ?1",
    [S_ZONES] = runs_zones_widen,
};

struct runs_apply {
    struct sqlite3 *db; /* borrowed */
    sqlite3_stmt *statements[S_COUNT];
    int64_t first_id; /* created in this transaction; 0: none. Ids only grow */
};

/* ---- statements ---- */

/* event_id is ?1, updated_at ?2, then a value for each column; a flag behind it for JSON, which may be set to NULL. */
static void put_update(struct buf *sql, bool has_status)
{
    buf_put_text(sql, "UPDATE agent_runs SET updated_at = ?2");
    for (unsigned i = 0; i < UPDATABLES - (has_status ? 0 : 1); i++) {
        const char *name = updatables[i].name;
        unsigned at = 3 + 2 * i;
        if (updatables[i].is_json) {
            buf_printf(sql, ", %s = CASE WHEN ?%u THEN ?%u ELSE %s END", name, at + 1, at, name);
        } else {
            buf_printf(sql, ", %s = COALESCE(?%u, %s)", name, at, name);
        }
    }
    buf_put_text(sql, " WHERE event_id = ?1");
    buf_put_char(sql, 0);
    ASSERT(!sql->is_truncated);
}

static int prepare(struct runs_apply *apply, enum statement_id id, struct err *err)
{
    char text[2048];
    struct buf sql;
    buf_init(&sql, text, sizeof text);
    if (sqls[id] == NULL) {
        put_update(&sql, id == S_UPDATE_STATUS);
    }
    int code = sqlite3_prepare_v3(apply->db, sqls[id] != NULL ? sqls[id] : text, -1,
                                  SQLITE_PREPARE_PERSISTENT, &apply->statements[id], NULL);
    return code == SQLITE_OK ? 0 : runs_sql_error(apply->db, code, doings[id], err);
}

int runs_apply_open(struct runs_apply **out, struct sqlite3 *db, struct err *err)
{
    struct runs_apply *apply = mem_alloc(sizeof *apply);
    int r = 0;
    apply->db = db;
    for (unsigned id = 0; id < S_COUNT && r == 0; id++) {
        r = prepare(apply, (enum statement_id)id, err);
    }
    if (r < 0) {
        runs_apply_close(apply);
        return r;
    }
    *out = apply;
    return 0;
}

void runs_apply_close(struct runs_apply *apply)
{
    if (apply == NULL) {
        return;
    }
    for (unsigned id = 0; id < S_COUNT; id++) {
        (void)sqlite3_finalize(apply->statements[id]);
    }
    mem_free(apply);
}

/* Steps to the end: SQLite's last code. */
static int finish(struct runs_apply *apply, enum statement_id id)
{
    int code = sqlite3_step(apply->statements[id]);
    (void)sqlite3_reset(apply->statements[id]);
    return code;
}

static int run_plain(struct runs_apply *apply, enum statement_id id, struct err *err)
{
    int code = finish(apply, id);
    return code == SQLITE_DONE ? 0 : runs_sql_error(apply->db, code, doings[id], err);
}

int runs_apply_begin(struct runs_apply *apply, struct err *err)
{
    runs_apply_rollback(apply); /* where the last one failed */
    apply->first_id = 0;
    return run_plain(apply, S_BEGIN, err);
}

static int widen_zones(struct runs_apply *apply, struct err *err)
{
    if (apply->first_id == 0) {
        return 0;
    }
    (void)sqlite3_bind_int64(apply->statements[S_ZONES], 1, apply->first_id);
    return run_plain(apply, S_ZONES, err);
}

int runs_apply_position(struct runs_apply *apply, const struct ulid *node, uint64_t *applied_lsn,
                        struct err *err)
{
    char text[ULID_TEXT_BYTES];
    sqlite3_stmt *statement = apply->statements[S_FIND_POSITION];
    ulid_format(text, node);
    (void)sqlite3_bind_text(statement, 1, text, sizeof text, SQLITE_STATIC);
    int code = sqlite3_step(statement);
    *applied_lsn = code == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    (void)sqlite3_reset(statement);
    (void)sqlite3_clear_bindings(statement);
    if (code == SQLITE_DONE) {
        return err_set(err, ERR_CORRUPT,
                       "sluice_meta has no applied_lsn of this node: somebody has put another "
                       "database in the place of its content");
    }
    return code == SQLITE_ROW ? 0 : runs_sql_error(apply->db, code, doings[S_FIND_POSITION], err);
}

int runs_apply_commit(struct runs_apply *apply, uint64_t applied_lsn, struct err *err)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%" PRIu64, applied_lsn);
    (void)sqlite3_bind_text(apply->statements[S_POSITION], 1, text, n, SQLITE_STATIC);
    int r = widen_zones(apply, err);
    r = r == 0 ? run_plain(apply, S_POSITION, err) : r;
    (void)sqlite3_clear_bindings(apply->statements[S_POSITION]);
    return r == 0 ? run_plain(apply, S_COMMIT, err) : r;
}

bool runs_apply_is_begun(const struct runs_apply *apply)
{
    return sqlite3_get_autocommit(apply->db) == 0;
}

/* Some failures end the transaction by themselves (a full disk, an I/O error). */
void runs_apply_rollback(struct runs_apply *apply)
{
    if (runs_apply_is_begun(apply)) {
        (void)finish(apply, S_ROLLBACK);
    }
}

/* ---- binding; bound bytes are the caller's until the statement has run ---- */

static void bind_slice(sqlite3_stmt *statement, int at, struct slice text)
{
    const char *data = text.bytes != 0 ? (const char *)text.data : ""; /* NULL would be NULL */
    (void)sqlite3_bind_text64(statement, at, data, text.bytes, SQLITE_STATIC, SQLITE_UTF8);
}

/* False: nothing is said, NULL is bound. */
static bool bind_value(sqlite3_stmt *statement, int at, const struct runs_value *value)
{
    switch (value->type) {
    case RUNS_TEXT:
    case RUNS_JSON:
        bind_slice(statement, at, value->text);
        return true;
    case RUNS_INTEGER:
        (void)sqlite3_bind_int64(statement, at, value->integer);
        return true;
    case RUNS_ABSENT:
    case RUNS_NULL:
    default:
        (void)sqlite3_bind_null(statement, at);
        return false;
    }
}

static void bind_default(sqlite3_stmt *statement, int at, unsigned column, struct slice now)
{
    if (is_count(column)) {
        (void)sqlite3_bind_int64(statement, at, 0);
    } else if (column == COLUMN_STATUS) {
        bind_slice(statement, at, SLICE_LITERAL("running"));
    } else if (column == COLUMN_CREATED_AT) {
        bind_slice(statement, at, now);
    }
}

/* "YYYY-MM-DDTHH:MM:SS.ffffff+00:00" */
#define TIME_ROOM (CLOCK_RFC3339_BYTES + 8)
static struct slice format_time(char *text, int64_t time_ns)
{
    size_t n = clock_rfc3339(text, time_ns, 6) - 1; /* without its Z */
    memcpy(text + n, "+00:00", 6);
    return (struct slice){(const uint8_t *)text, n + 6};
}

/* Does a code cost this command only? */
static bool is_refusal(int code)
{
    int plain = code & 0xff;
    return plain == SQLITE_CONSTRAINT || plain == SQLITE_MISMATCH || plain == SQLITE_TOOBIG;
}

/* The end of a command that ended with code. */
static int judge(struct runs_apply *apply, enum statement_id id, int code,
                 enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    if (code == SQLITE_DONE) {
        return 0;
    }
    if (is_refusal(code)) {
        *outcome = RUNS_REFUSED;
        buf_put_text(text, sqlite3_errmsg(apply->db));
        return 0;
    }
    return runs_sql_error(apply->db, code, doings[id], err);
}

/* ---- the commands ---- */

static int create(struct runs_apply *apply, const struct runs_order *order, struct slice now,
                  enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    sqlite3_stmt *statement = apply->statements[S_CREATE];
    for (unsigned column = COLUMN_EVENT_ID; column < RUNS_COLUMNS; column++) {
        int at = (int)column; /* id is left to SQLite, so parameters count as columns do */
        if (column == COLUMN_SCHEMA_VERSION) {
            (void)sqlite3_bind_int64(statement, at, RUNS_SCHEMA_VERSION);
        } else if (column == COLUMN_UPDATED_AT) {
            bind_slice(statement, at, now);
        } else if (!bind_value(statement, at, &order->fields->values[column])) {
            bind_default(statement, at, column, now);
        }
    }
    int code = finish(apply, S_CREATE);
    bool is_created = sqlite3_changes(apply->db) > 0;
    *outcome = is_created ? RUNS_CREATED : RUNS_DUPLICATE;
    if (code == SQLITE_DONE && is_created && apply->first_id == 0) {
        apply->first_id = sqlite3_last_insert_rowid(apply->db);
    }
    return judge(apply, S_CREATE, code, outcome, text, err);
}

static int find(struct runs_apply *apply, const struct runs_order *order,
                enum runs_outcome *outcome, struct err *err)
{
    bind_slice(apply->statements[S_FIND], 1, order->event_id);
    int code = finish(apply, S_FIND);
    *outcome = code == SQLITE_ROW ? RUNS_NOTHING : RUNS_NOT_FOUND;
    bool is_good = code == SQLITE_ROW || code == SQLITE_DONE;
    return is_good ? 0 : runs_sql_error(apply->db, code, doings[S_FIND], err);
}

static int update(struct runs_apply *apply, const struct runs_order *order, struct slice now,
                  enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    bool has_status = order->fields->values[COLUMN_STATUS].type == RUNS_TEXT;
    enum statement_id id = has_status ? S_UPDATE_STATUS : S_UPDATE;
    sqlite3_stmt *statement = apply->statements[id];
    bool is_said = false;
    for (unsigned i = 0; i < UPDATABLES - (has_status ? 0 : 1); i++) {
        const struct runs_value *value = &order->fields->values[updatables[i].column];
        int at = (int)(3 + 2 * i);
        bool is_bound = bind_value(statement, at, value);
        if (updatables[i].is_json) {
            is_bound |= value->type == RUNS_NULL;
            (void)sqlite3_bind_int(statement, at + 1, is_bound ? 1 : 0);
        }
        is_said |= is_bound;
    }
    if (!is_said) {
        return find(apply, order, outcome, err);
    }
    bind_slice(statement, 1, order->event_id);
    bind_slice(statement, 2, now);
    int code = finish(apply, id);
    *outcome = sqlite3_changes(apply->db) > 0 ? RUNS_UPDATED : RUNS_NOT_FOUND;
    return judge(apply, id, code, outcome, text, err);
}

static int associate(struct runs_apply *apply, const struct runs_order *order, struct slice now,
                     enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    sqlite3_stmt *statement = apply->statements[S_ASSOCIATE];
    const struct runs_value *values = order->fields->values;
    bind_slice(statement, 1, order->event_id);
    (void)bind_value(statement, 2, &values[RUNS_FIELD_COMMIT_HASH]);
    (void)bind_value(statement, 3, &values[RUNS_FIELD_COMMIT_SOURCE]);
    (void)bind_value(statement, 4, &values[RUNS_FIELD_COMMIT_AUTHOR]);
    (void)bind_value(statement, 5, &values[RUNS_FIELD_COMMIT_TIMESTAMP]);
    bind_slice(statement, 6, now);
    *outcome = RUNS_NOT_FOUND;
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) { /* event_id is unique: one row at most */
        const uint8_t *run_id = sqlite3_column_text(statement, 0);
        buf_put(text, run_id, run_id != NULL ? (size_t)sqlite3_column_bytes(statement, 0) : 0);
        *outcome = RUNS_ASSOCIATED;
        code = sqlite3_step(statement);
    }
    (void)sqlite3_reset(statement);
    return judge(apply, S_ASSOCIATE, code, outcome, text, err);
}

static int add_event(struct runs_apply *apply, const struct runs_order *order, struct slice now,
                     enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    sqlite3_stmt *statement = apply->statements[S_EVENT];
    const struct runs_value *values = order->fields->values;
    bind_slice(statement, 1, order->event_id);
    (void)bind_value(statement, 2, &values[RUNS_FIELD_EVENT_TYPE]);
    if (!bind_value(statement, 3, &values[RUNS_FIELD_EVENT_TIMESTAMP])) {
        bind_slice(statement, 3, now);
    }
    (void)bind_value(statement, 4, &values[RUNS_FIELD_EVENT_PAYLOAD]);
    int code = finish(apply, S_EVENT);
    *outcome = sqlite3_changes(apply->db) > 0 ? RUNS_EVENT_ADDED : RUNS_NOT_FOUND;
    return judge(apply, S_EVENT, code, outcome, text, err);
}

int runs_apply_order(struct runs_apply *apply, const struct runs_order *order,
                     enum runs_outcome *outcome, struct buf *text, struct err *err)
{
    char time[TIME_ROOM];
    struct slice now = format_time(time, order->time_ns);
    ASSERT(runs_apply_is_begun(apply));
    switch (order->command) {
    case RUNS_COMMAND_CREATE:
        return create(apply, order, now, outcome, text, err);
    case RUNS_COMMAND_UPDATE:
        return update(apply, order, now, outcome, text, err);
    case RUNS_COMMAND_ASSOCIATE:
        return associate(apply, order, now, outcome, text, err);
    case RUNS_COMMAND_EVENT:
        return add_event(apply, order, now, outcome, text, err);
    }
    ASSERT(false); /* meta_find_run knows no other */
    return -EINVAL;
}
