/*
 * forward_db: see forward_db.h. Every statement is prepared at its first use and kept; whatever happens, it is reset before
 * its function returns, so that a rollback finds nothing under way.
 *
 * A pass   begin (nothing yet) - first write: BEGIN IMMEDIATE - writes - COMMIT
 * fails    at once ROLLBACK, and the pass remembers why: it can only be ended now
 */
#include "forward/forward_db.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "forward/forward_db_schema.h"

enum statement_id {
    S_BEGIN,
    S_COMMIT,
    S_ROLLBACK,
    S_SINK_GET,
    S_SINK_PUT,
    S_SINKS,
    S_BATCH_PUT,
    S_BATCH_DELETE,
    S_BATCHES,
    S_QUARANTINE_PUT,
    S_QUARANTINE_SET,
    S_QUARANTINE_DELETE,
    S_STREAM_DELETE,
    S_QUARANTINE_GET,
    S_QUARANTINE_LIST,
    S_QUARANTINE_LIST_SINK,
    S_META_GET,
    S_META_PUT,
    S_COUNT,
};

#define SINK_COLUMNS                                                                               \
    "start_lsn, live_next, backlog_next, backlog_end, delivered, filtered, quarantined, expired, " \
    "damaged, dropped"
#define BATCH_COLUMNS                                                                              \
    "first_lsn, last_lsn, lane, records, payload_bytes, encoding, digest, frozen_at, attempts, "   \
    "only, quarantine_id, target"
#define QUARANTINE_COLUMNS                                                                         \
    "sink, lsn, record_id, kind, encoding, received_at, event_time, severity, status, reason, "    \
    "refused_at, state, meta, payload"

/* What was being done, for texts; and how it is said. */
static const struct {
    const char *doing;
    const char *sql;
} statements[S_COUNT] = {
    [S_BEGIN] = {"begin", "BEGIN IMMEDIATE"},
    [S_COMMIT] = {"commit", "COMMIT"},
    [S_ROLLBACK] = {"roll back", "ROLLBACK"},
    [S_SINK_GET] = {"read a sink", "SELECT " SINK_COLUMNS " FROM sinks WHERE name = ?1"},
    [S_SINK_PUT] = {"write a sink",
                    "INSERT OR REPLACE INTO sinks(" SINK_COLUMNS ", name, updated_at) "
                    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"},
    [S_SINKS] = {"list the sinks", "SELECT " SINK_COLUMNS ", name FROM sinks ORDER BY name"},
    [S_BATCH_PUT] = {"write a batch", "INSERT OR REPLACE INTO batches(" BATCH_COLUMNS ", sink) "
                                      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, "
                                      "?13)"},
    [S_BATCH_DELETE] = {"remove a batch", "DELETE FROM batches WHERE sink = ?1 AND first_lsn = ?2 "
                                          "AND quarantine_id = ?3"},
    [S_BATCHES] = {"list the batches",
                   "SELECT " BATCH_COLUMNS
                   " FROM batches WHERE sink = ?1 ORDER BY first_lsn, quarantine_id"},
    [S_QUARANTINE_PUT] = {"put into quarantine",
                          "INSERT INTO quarantine(" QUARANTINE_COLUMNS ") "
                          "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"},
    [S_QUARANTINE_SET] = {"change a quarantined record",
                          "UPDATE quarantine SET state = ?2, status = ?3, reason = ?4, "
                          "refused_at = ?5 WHERE id = ?1"},
    [S_QUARANTINE_DELETE] = {"remove a quarantined record", "DELETE FROM quarantine WHERE id = ?1"},
    [S_STREAM_DELETE] = {"remove a quarantined record's stream",
                         "DELETE FROM meta WHERE key = 'quarantine.' || ?1 || '.stream'"},
    [S_QUARANTINE_GET] = {"read a quarantined record",
                          "SELECT " QUARANTINE_COLUMNS ", id FROM quarantine WHERE id = ?1"},
    [S_QUARANTINE_LIST] = {"list the quarantine",
                           "SELECT " QUARANTINE_COLUMNS ", id FROM quarantine WHERE id > ?1 "
                           "ORDER BY id LIMIT ?2"},
    [S_QUARANTINE_LIST_SINK] = {"list a sink's quarantine",
                                "SELECT " QUARANTINE_COLUMNS ", id FROM quarantine "
                                "WHERE sink = ?3 AND id > ?1 ORDER BY id LIMIT ?2"},
    [S_META_GET] = {"read meta", "SELECT value FROM meta WHERE key = ?1"},
    [S_META_PUT] = {"write meta", "INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)"},
};

struct forward_db {
    sqlite3 *sql;
    sqlite3_stmt *prepared[S_COUNT];
    bool is_read_only;
    bool is_in_pass;
    struct err failure; /* of this pass; code 0: none */
    uint8_t *held;      /* what the last quarantine_get lent: meta, then payload */
};

static void open_end(struct forward_db **db, sqlite3 *sql, bool is_read_only)
{
    *db = mem_alloc(sizeof **db);
    (*db)->sql = sql;
    (*db)->is_read_only = is_read_only;
}

int forward_db_open(struct forward_db **db, const char *path, struct ulid node,
                    enum forward_db_found *found, struct err *err)
{
    sqlite3 *sql = NULL;
    int r = forward_db_schema_open(&sql, path, &node, found, err);
    *db = NULL;
    if (r == 0) {
        open_end(db, sql, false);
    }
    return r;
}

int forward_db_open_read_only(struct forward_db **db, const char *path, struct err *err)
{
    sqlite3 *sql = NULL;
    int r = forward_db_schema_open_read_only(&sql, path, err);
    *db = NULL;
    if (r == 0) {
        open_end(db, sql, true);
    }
    return r;
}

void forward_db_close(struct forward_db *db)
{
    if (db == NULL) {
        return;
    }
    if (db->is_in_pass) {
        forward_db_rollback(db);
    }
    for (size_t i = 0; i < S_COUNT; i++) {
        (void)sqlite3_finalize(db->prepared[i]);
    }
    int code = sqlite3_close(db->sql);
    ASSERT(code == SQLITE_OK); /* else a statement has got lost */
    mem_free(db->held);
    mem_free(db);
}

/* ---- statements ---- */

static void roll_back(struct forward_db *db);

/* Ends the pass in all but name, and remembers why. */
static int fail(struct forward_db *db, int code, enum statement_id id, struct err *err)
{
    struct err failure = {0};
    int r = forward_db_schema_error(db->sql, code, statements[id].doing, &failure);
    if (db->is_in_pass) {
        roll_back(db);
        db->failure = failure;
    }
    return err_set(err, r, "%s", failure.text);
}

static int prepare(struct forward_db *db, enum statement_id id)
{
    if (db->prepared[id] != NULL) {
        return SQLITE_OK;
    }
    return sqlite3_prepare_v3(db->sql, statements[id].sql, -1, SQLITE_PREPARE_PERSISTENT,
                              &db->prepared[id], NULL);
}

static void reset(struct forward_db *db, enum statement_id id)
{
    (void)sqlite3_reset(db->prepared[id]);
    (void)sqlite3_clear_bindings(db->prepared[id]);
}

/* A statement without rows and bindings. */
static int run_plain(struct forward_db *db, enum statement_id id)
{
    int code = prepare(db, id);
    if (code == SQLITE_OK) {
        code = sqlite3_step(db->prepared[id]);
        reset(db, id);
    }
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* Some failures end the transaction by themselves (a full disk, an I/O error). */
static void roll_back(struct forward_db *db)
{
    if (sqlite3_get_autocommit(db->sql) == 0) {
        (void)run_plain(db, S_ROLLBACK);
    }
    /* UNTESTED: ROLLBACK takes nothing that could be missing but the memory of its own statement. */
    if (sqlite3_get_autocommit(db->sql) == 0) {
        (void)sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
    }
}

/* A statement to bind and step. */
static int take_read(struct forward_db *db, enum statement_id id, sqlite3_stmt **statement,
                     struct err *err)
{
    int code = prepare(db, id);
    *statement = db->prepared[id];
    return code == SQLITE_OK ? 0 : fail(db, code, id, err);
}

/* Likewise; the first of a pass begins the transaction. */
static int take_write(struct forward_db *db, enum statement_id id, sqlite3_stmt **statement,
                      struct err *err)
{
    ASSERT(!db->is_read_only);
    ASSERT(db->is_in_pass);
    if (db->failure.code != 0) {
        return err_set(err, db->failure.code, "%s", db->failure.text);
    }
    if (sqlite3_get_autocommit(db->sql) != 0) {
        int code = run_plain(db, S_BEGIN);
        if (code != SQLITE_OK) {
            return fail(db, code, S_BEGIN, err);
        }
    }
    return take_read(db, id, statement, err);
}

/* Runs a bound statement that has no rows. How many rows it changed. */
static int finish_write(struct forward_db *db, enum statement_id id, struct err *err)
{
    int code = sqlite3_step(db->prepared[id]);
    reset(db, id);
    return code == SQLITE_DONE ? sqlite3_changes(db->sql) : fail(db, code, id, err);
}

/* After the last row, or the first that is not wanted. */
static int finish_read(struct forward_db *db, enum statement_id id, int code, int result,
                       struct err *err)
{
    reset(db, id);
    return code == SQLITE_DONE || code == SQLITE_ROW ? result : fail(db, code, id, err);
}

/* A file that can be read but says nonsense is as damaged as one that cannot. Resets the statement. */
static int fail_value(struct forward_db *db, enum statement_id id, struct err *err)
{
    reset(db, id);
    if (db->is_in_pass) {
        roll_back(db);
        (void)err_set(&db->failure, ERR_CORRUPT, "%s: a value is out of range",
                      statements[id].doing);
    }
    return err_set(err, ERR_CORRUPT, "%s: a value is out of range", statements[id].doing);
}

static void bind_u64(sqlite3_stmt *statement, int i, uint64_t value)
{
    (void)sqlite3_bind_int64(statement, i, (sqlite3_int64)value);
}

/* Borrowed until the statement is reset, which is before its function returns. */
static void bind_text(sqlite3_stmt *statement, int i, const char *text)
{
    (void)sqlite3_bind_text(statement, i, text, -1, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *statement, int i, const void *data, size_t bytes)
{
    /* A pointer even for nothing: NULL would be NULL, not an empty blob. */
    (void)sqlite3_bind_blob64(statement, i, bytes > 0 ? data : "", bytes, SQLITE_STATIC);
}

static uint64_t column_u64(sqlite3_stmt *statement, int i)
{
    return (uint64_t)sqlite3_column_int64(statement, i);
}

static bool column_text(sqlite3_stmt *statement, int i, char *text, size_t room)
{
    const unsigned char *value = sqlite3_column_text(statement, i);
    size_t bytes = (size_t)sqlite3_column_bytes(statement, i);
    if (value == NULL || bytes >= room) {
        return false;
    }
    memcpy(text, value, bytes);
    text[bytes] = '\0';
    return true;
}

static struct slice column_slice(sqlite3_stmt *statement, int i)
{
    const uint8_t *data = sqlite3_column_blob(statement, i);
    return (struct slice){data, (size_t)sqlite3_column_bytes(statement, i)};
}

/* ---- passes ---- */

int forward_db_begin(struct forward_db *db, struct err *err)
{
    (void)err; /* lazy: the first write begins */
    ASSERT(!db->is_read_only);
    ASSERT(!db->is_in_pass);
    ASSERT(sqlite3_get_autocommit(db->sql) != 0);
    db->is_in_pass = true;
    db->failure = (struct err){0};
    return 0;
}

int forward_db_commit(struct forward_db *db, struct err *err)
{
    ASSERT(db->is_in_pass);
    int r = 0;
    if (db->failure.code != 0) {
        r = err_set(err, db->failure.code, "%s", db->failure.text);
    } else if (sqlite3_get_autocommit(db->sql) == 0) {
        int code = run_plain(db, S_COMMIT);
        r = code == SQLITE_OK ? 0 : fail(db, code, S_COMMIT, err);
    }
    db->is_in_pass = false;
    return r;
}

void forward_db_rollback(struct forward_db *db)
{
    if (db->is_in_pass) {
        roll_back(db);
        db->is_in_pass = false;
    }
}

/* ---- sinks ---- */

/* The ten columns of a position, in their order. */
static void position_fields(struct sink_position *p, uint64_t **fields)
{
    uint64_t *all[] = {&p->start_lsn, &p->live_next, &p->backlog_next, &p->backlog_end,
                       &p->delivered, &p->filtered,  &p->quarantined,  &p->expired,
                       &p->damaged,   &p->dropped};
    memcpy(fields, all, sizeof all);
}
#define POSITION_FIELDS 10
_Static_assert(sizeof(struct sink_position) == POSITION_FIELDS * sizeof(uint64_t),
               "every field of a position is a column");

static void read_position(sqlite3_stmt *statement, struct sink_position *position)
{
    uint64_t *fields[POSITION_FIELDS];
    position_fields(position, fields);
    for (int i = 0; i < POSITION_FIELDS; i++) {
        *fields[i] = column_u64(statement, i);
    }
}

int forward_db_sink_get(struct forward_db *db, const char *sink, struct sink_position *position,
                        struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, S_SINK_GET, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, sink);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        read_position(statement, position);
    }
    return finish_read(db, S_SINK_GET, code, code == SQLITE_ROW ? 1 : 0, err);
}

int forward_db_sink_put(struct forward_db *db, const char *sink,
                        const struct sink_position *position, struct err *err)
{
    char now[CLOCK_RFC3339_BYTES];
    struct sink_position copy = *position;
    uint64_t *fields[POSITION_FIELDS];
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_SINK_PUT, &statement, err);
    if (r < 0) {
        return r;
    }
    position_fields(&copy, fields);
    for (int i = 0; i < POSITION_FIELDS; i++) {
        bind_u64(statement, i + 1, *fields[i]);
    }
    now[clock_rfc3339(now, clock_real_ns(), 3)] = '\0';
    bind_text(statement, POSITION_FIELDS + 1, sink);
    bind_text(statement, POSITION_FIELDS + 2, now);
    r = finish_write(db, S_SINK_PUT, err);
    return r < 0 ? r : 0;
}

int forward_db_sinks(struct forward_db *db,
                     bool (*on_sink)(void *context, const char *sink,
                                     const struct sink_position *position),
                     void *context, struct err *err)
{
    char name[CONFIG_SINK_NAME_MAX + 1];
    struct sink_position position;
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, S_SINKS, &statement, err);
    if (r < 0) {
        return r;
    }
    int code = sqlite3_step(statement);
    while (code == SQLITE_ROW) { /* bound: the table's rows */
        if (!column_text(statement, POSITION_FIELDS, name, sizeof name)) {
            return fail_value(db, S_SINKS, err);
        }
        read_position(statement, &position);
        if (!on_sink(context, name, &position)) {
            break;
        }
        code = sqlite3_step(statement);
    }
    return finish_read(db, S_SINKS, code, 0, err);
}

/* ---- batches ---- */

int forward_db_batch_put(struct forward_db *db, const char *sink, const struct frozen *frozen,
                         struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_BATCH_PUT, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, frozen->first_lsn);
    bind_u64(statement, 2, frozen->last_lsn);
    bind_u64(statement, 3, (uint64_t)frozen->lane);
    bind_u64(statement, 4, frozen->records);
    bind_u64(statement, 5, frozen->payload_bytes);
    bind_text(statement, 6, frozen->encoding);
    bind_blob(statement, 7, frozen->digest, sizeof frozen->digest);
    bind_u64(statement, 8, (uint64_t)frozen->frozen_at_ns);
    bind_u64(statement, 9, frozen->attempts);
    bind_blob(statement, 10, frozen->only.data, frozen->only.bytes);
    bind_u64(statement, 11, frozen->quarantine_id);
    bind_text(statement, 12, frozen->target);
    bind_text(statement, 13, sink);
    r = finish_write(db, S_BATCH_PUT, err);
    return r < 0 ? r : 0;
}

int forward_db_batch_delete(struct forward_db *db, const char *sink, const struct frozen *frozen,
                            struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_BATCH_DELETE, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, sink);
    bind_u64(statement, 2, frozen->first_lsn);
    bind_u64(statement, 3, frozen->quarantine_id);
    r = finish_write(db, S_BATCH_DELETE, err);
    return r < 0 ? r : 0;
}

/* False: no batch that we wrote. */
static bool read_batch(sqlite3_stmt *statement, struct frozen *frozen)
{
    uint64_t lane = column_u64(statement, 2);
    uint64_t records = column_u64(statement, 3);
    uint64_t attempts = column_u64(statement, 8);
    struct slice digest = column_slice(statement, 6);
    *frozen = (struct frozen){.first_lsn = column_u64(statement, 0),
                              .last_lsn = column_u64(statement, 1),
                              .lane = (enum lane_id)lane,
                              .records = (uint32_t)records,
                              .payload_bytes = column_u64(statement, 4),
                              .frozen_at_ns = sqlite3_column_int64(statement, 7),
                              .attempts = (uint32_t)attempts,
                              .only = column_slice(statement, 9),
                              .quarantine_id = column_u64(statement, 10)};
    if (lane > LANE_BACKLOG || records > UINT32_MAX || attempts > UINT32_MAX ||
        digest.bytes != sizeof frozen->digest || frozen->only.bytes % sizeof(uint32_t) != 0 ||
        frozen->last_lsn < frozen->first_lsn) {
        return false;
    }
    memcpy(frozen->digest, digest.data, sizeof frozen->digest);
    return column_text(statement, 5, frozen->encoding, sizeof frozen->encoding) &&
           column_text(statement, 11, frozen->target, sizeof frozen->target);
}

int forward_db_batches(struct forward_db *db, const char *sink,
                       bool (*on_batch)(void *context, const struct frozen *frozen), void *context,
                       struct err *err)
{
    struct frozen frozen;
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, S_BATCHES, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, sink);
    int code = sqlite3_step(statement);
    while (code == SQLITE_ROW) { /* bound: the table's rows */
        if (!read_batch(statement, &frozen)) {
            return fail_value(db, S_BATCHES, err);
        }
        if (!on_batch(context, &frozen)) {
            break;
        }
        code = sqlite3_step(statement);
    }
    return finish_read(db, S_BATCHES, code, 0, err);
}

/* ---- quarantine ---- */

int forward_db_quarantine_put(struct forward_db *db, struct quarantined *item, struct err *err)
{
    const struct record *record = &item->record;
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_QUARANTINE_PUT, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, item->sink);
    bind_u64(statement, 2, item->lsn);
    bind_blob(statement, 3, record->id.bytes, sizeof record->id.bytes);
    bind_u64(statement, 4, (uint64_t)record->kind);
    bind_u64(statement, 5, record->encoding);
    bind_u64(statement, 6, (uint64_t)item->received_at_ns);
    bind_u64(statement, 7, (uint64_t)record->event_time_ns);
    bind_u64(statement, 8, record->severity);
    (void)sqlite3_bind_int(statement, 9, item->status);
    bind_text(statement, 10, item->reason);
    bind_u64(statement, 11, (uint64_t)item->refused_at_ns);
    bind_u64(statement, 12, (uint64_t)item->state);
    bind_blob(statement, 13, record->meta.data, record->meta.bytes);
    bind_blob(statement, 14, record->payload.data, record->payload.bytes);
    r = finish_write(db, S_QUARANTINE_PUT, err);
    if (r < 0) {
        return r;
    }
    item->id = (uint64_t)sqlite3_last_insert_rowid(db->sql);
    return 0;
}

int forward_db_quarantine_set(struct forward_db *db, uint64_t id, enum quarantine_state state,
                              int status, const char *reason, int64_t refused_at_ns,
                              struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_QUARANTINE_SET, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, id);
    bind_u64(statement, 2, (uint64_t)state);
    (void)sqlite3_bind_int(statement, 3, status);
    bind_text(statement, 4, reason);
    (void)sqlite3_bind_int64(statement, 5, refused_at_ns);
    r = finish_write(db, S_QUARANTINE_SET, err);
    return r == 0 ? err_set(err, -ENOENT, "quarantine has no record %" PRIu64, id) : r < 0 ? r : 0;
}

int forward_db_quarantine_delete(struct forward_db *db, uint64_t id, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_QUARANTINE_DELETE, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, id);
    r = finish_write(db, S_QUARANTINE_DELETE, err);
    if (r <= 0) {
        return r < 0 ? r : err_set(err, -ENOENT, "quarantine has no record %" PRIu64, id);
    }
    r = take_write(db, S_STREAM_DELETE, &statement, err); /* streams.h */
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, id);
    r = finish_write(db, S_STREAM_DELETE, err);
    return r < 0 ? r : 0;
}

/* item borrows from the row. False: no item that we wrote. */
static bool read_quarantined(sqlite3_stmt *statement, struct quarantined *item)
{
    uint64_t kind = column_u64(statement, 3);
    uint64_t encoding = column_u64(statement, 4);
    uint64_t severity = column_u64(statement, 7);
    uint64_t state = column_u64(statement, 11);
    struct slice id = column_slice(statement, 2);
    memset(item, 0, sizeof *item);
    if (kind > RECORD_KIND_MAX || encoding > UINT8_MAX || severity > UINT8_MAX ||
        state > QUARANTINE_REQUEUED || id.bytes != sizeof item->record.id.bytes) {
        return false;
    }
    memcpy(item->record.id.bytes, id.data, id.bytes);
    item->lsn = column_u64(statement, 1);
    item->record.kind = (enum record_kind)kind;
    item->record.encoding = (uint8_t)encoding;
    item->received_at_ns = sqlite3_column_int64(statement, 5);
    item->record.event_time_ns = sqlite3_column_int64(statement, 6);
    item->record.severity = (uint8_t)severity;
    item->status = sqlite3_column_int(statement, 8);
    item->refused_at_ns = sqlite3_column_int64(statement, 10);
    item->state = (enum quarantine_state)state;
    item->record.meta = column_slice(statement, 12);
    item->record.payload = column_slice(statement, 13);
    item->id = column_u64(statement, 14);
    return column_text(statement, 0, item->sink, sizeof item->sink) &&
           column_text(statement, 9, item->reason, sizeof item->reason);
}

/* The row goes with its statement: what item borrows is copied. */
static void hold(struct forward_db *db, struct quarantined *item)
{
    struct slice *slices[] = {&item->record.meta, &item->record.payload};
    mem_free(db->held);
    db->held = mem_alloc(slices[0]->bytes + slices[1]->bytes + 1);
    uint8_t *to = db->held;
    for (size_t i = 0; i < ARRAY_COUNT(slices); i++) {
        if (slices[i]->bytes > 0) {
            memcpy(to, slices[i]->data, slices[i]->bytes);
        }
        slices[i]->data = to;
        to += slices[i]->bytes;
    }
}

int forward_db_quarantine_get(struct forward_db *db, uint64_t id, struct quarantined *item,
                              struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, S_QUARANTINE_GET, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, id);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        if (!read_quarantined(statement, item)) {
            return fail_value(db, S_QUARANTINE_GET, err);
        }
        hold(db, item);
    }
    return finish_read(db, S_QUARANTINE_GET, code, code == SQLITE_ROW ? 1 : 0, err);
}

int forward_db_quarantine_list(struct forward_db *db, const char *sink, uint64_t after_id,
                               unsigned limit,
                               bool (*on_item)(void *context, const struct quarantined *item),
                               void *context, struct err *err)
{
    enum statement_id id = sink != NULL ? S_QUARANTINE_LIST_SINK : S_QUARANTINE_LIST;
    struct quarantined item;
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, id, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_u64(statement, 1, after_id > INT64_MAX ? INT64_MAX : after_id);
    bind_u64(statement, 2, limit < INT32_MAX ? limit : INT32_MAX);
    if (sink != NULL) {
        bind_text(statement, 3, sink);
    }
    int shown = 0;
    int code = sqlite3_step(statement);
    while (code == SQLITE_ROW) { /* bound: limit */
        if (!read_quarantined(statement, &item)) {
            return fail_value(db, id, err);
        }
        shown++;
        if (!on_item(context, &item)) {
            break;
        }
        code = sqlite3_step(statement);
    }
    return finish_read(db, id, code, shown, err);
}

/* ---- meta ---- */

int forward_db_meta_get(struct forward_db *db, const char *key, char *text, size_t room,
                        struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_read(db, S_META_GET, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, key);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW && !column_text(statement, 0, text, room)) {
        return fail_value(db, S_META_GET, err);
    }
    return finish_read(db, S_META_GET, code, code == SQLITE_ROW ? 1 : 0, err);
}

int forward_db_meta_put(struct forward_db *db, const char *key, const char *text, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    int r = take_write(db, S_META_PUT, &statement, err);
    if (r < 0) {
        return r;
    }
    bind_text(statement, 1, key);
    bind_text(statement, 2, text);
    r = finish_write(db, S_META_PUT, err);
    return r < 0 ? r : 0;
}
