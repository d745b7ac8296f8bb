#include "store/runs_outcomes.h"

#include <sqlite3.h>

#include "core/mem.h"
#include "store/runs_read_parts.h"
#include "store/runs_schema.h"

#define KEYED_LSN "keyed_lsn"
/* A key is remembered from the moment its record is written to the log, which is later than the record's own time by what it waited. */
#define SLACK_NS (10 * 60 * (int64_t)NS_S)
/* Rows that go with one command: more than it can bring. */
#define FORGET_MAX 4u

static const char table_sql[] =
    "CREATE TABLE IF NOT EXISTS sluice_run_outcomes(lsn INTEGER PRIMARY KEY, "
    "outcome INTEGER NOT NULL, time_ns INTEGER NOT NULL, text TEXT)";

enum statement_id {
    S_PUT,
    S_OLDEST,
    S_DROP,
    S_COUNT,
};
static const struct {
    const char *doing;
    const char *sql;
} statements[S_COUNT] = {
    [S_PUT] = {"keep an outcome",
               "INSERT OR REPLACE INTO sluice_run_outcomes(lsn, outcome, time_ns, text) "
               "VALUES(?1, ?2, ?3, ?4)"},
    [S_OLDEST] = {"find the oldest outcome",
                  "SELECT lsn, time_ns FROM sluice_run_outcomes ORDER BY lsn LIMIT 1"},
    [S_DROP] = {"forget an outcome", "DELETE FROM sluice_run_outcomes WHERE lsn = ?1"},
};

struct runs_outcomes {
    struct sqlite3 *db; /* borrowed */
    sqlite3_stmt *statements[S_COUNT];
    uint64_t ttl_ns;
    uint64_t keyed_lsn; /* the newest keyed request ends there */
    bool is_known;      /* keyed_lsn and what follows are those of the database */
    bool has_oldest;
    int64_t oldest_lsn;
    int64_t oldest_ns;
};

/* ---- life ---- */

int runs_outcomes_make(struct sqlite3 *db, struct err *err)
{
    return runs_sql_run(db, table_sql, err);
}

/* The statement's LSN is its only parameter. */
static int run_with_lsn(struct sqlite3 *db, sqlite3_stmt *statement, uint64_t lsn,
                        const char *doing, struct err *err)
{
    (void)sqlite3_bind_int64(statement, 1, (int64_t)lsn);
    int code = sqlite3_step(statement);
    (void)sqlite3_reset(statement);
    return code == SQLITE_DONE ? 0 : runs_sql_error(db, code, doing, err);
}

int runs_outcomes_forget(struct sqlite3 *db, uint64_t applied_lsn, struct err *err)
{
    static const char doing[] = "forget outcomes";
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db, "DELETE FROM sluice_run_outcomes WHERE lsn > ?1", -1,
                                  &statement, NULL);
    int r = code == SQLITE_OK ? run_with_lsn(db, statement, applied_lsn, doing, err)
                              : runs_sql_error(db, code, doing, err);
    (void)sqlite3_finalize(statement);
    return r == 0 ? runs_meta_put_u64(db, KEYED_LSN, 0, err) : r;
}

int runs_outcomes_open(struct runs_outcomes **out, struct sqlite3 *db, uint64_t ttl_ns,
                       struct err *err)
{
    struct runs_outcomes *outcomes = mem_alloc(sizeof *outcomes);
    outcomes->db = db;
    outcomes->ttl_ns = ttl_ns;
    int code = SQLITE_OK;
    for (unsigned id = 0; id < S_COUNT && code == SQLITE_OK; id++) {
        code = sqlite3_prepare_v3(db, statements[id].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                  &outcomes->statements[id], NULL);
    }
    if (code != SQLITE_OK) {
        int r = runs_sql_error(db, code, "prepare the table of outcomes", err);
        runs_outcomes_close(outcomes);
        return r;
    }
    *out = outcomes;
    return 0;
}

void runs_outcomes_close(struct runs_outcomes *outcomes)
{
    if (outcomes == NULL) {
        return;
    }
    for (unsigned id = 0; id < S_COUNT; id++) {
        (void)sqlite3_finalize(outcomes->statements[id]);
    }
    mem_free(outcomes);
}

void runs_outcomes_undo(struct runs_outcomes *outcomes)
{
    outcomes->is_known = false;
}

/* ---- forgetting ---- */

static int find_oldest(struct runs_outcomes *outcomes, struct err *err)
{
    sqlite3_stmt *statement = outcomes->statements[S_OLDEST];
    int code = sqlite3_step(statement);
    outcomes->has_oldest = code == SQLITE_ROW;
    if (code == SQLITE_ROW) {
        outcomes->oldest_lsn = sqlite3_column_int64(statement, 0);
        outcomes->oldest_ns = sqlite3_column_int64(statement, 1);
    }
    (void)sqlite3_reset(statement);
    bool is_good = code == SQLITE_ROW || code == SQLITE_DONE;
    return is_good ? 0 : runs_sql_error(outcomes->db, code, statements[S_OLDEST].doing, err);
}

/* At the first command, and after a rollback. */
static int know(struct runs_outcomes *outcomes, struct err *err)
{
    if (outcomes->is_known) {
        return 0;
    }
    int r = runs_meta_get_u64(outcomes->db, KEYED_LSN, &outcomes->keyed_lsn, err);
    r = r < 0 ? r : find_oldest(outcomes, err);
    outcomes->is_known = r == 0;
    return r;
}

/* Is its key forgotten at that time? */
static bool is_over(const struct runs_outcomes *outcomes, int64_t time_ns)
{
    int64_t since_ns = 0;
    bool is_later =
        !__builtin_sub_overflow(time_ns, outcomes->oldest_ns, &since_ns) && since_ns > SLACK_NS;
    return outcomes->has_oldest && is_later && (uint64_t)(since_ns - SLACK_NS) > outcomes->ttl_ns;
}

static int forget_some(struct runs_outcomes *outcomes, int64_t time_ns, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; i < FORGET_MAX && r == 0 && is_over(outcomes, time_ns); i++) {
        r = run_with_lsn(outcomes->db, outcomes->statements[S_DROP], (uint64_t)outcomes->oldest_lsn,
                         statements[S_DROP].doing, err);
        r = r == 0 ? find_oldest(outcomes, err) : r;
    }
    return r;
}

/* ---- keeping ---- */

static bool is_plain(enum runs_outcome outcome)
{
    return outcome == RUNS_CREATED || outcome == RUNS_UPDATED || outcome == RUNS_ASSOCIATED ||
           outcome == RUNS_EVENT_ADDED;
}

static int put(struct runs_outcomes *outcomes, const struct runs_told *told, struct err *err)
{
    sqlite3_stmt *statement = outcomes->statements[S_PUT];
    (void)sqlite3_bind_int64(statement, 1, (int64_t)told->lsn);
    (void)sqlite3_bind_int(statement, 2, (int)told->outcome);
    (void)sqlite3_bind_int64(statement, 3, told->time_ns);
    if (told->outcome == RUNS_REFUSED) {
        runs_read_bind(statement, 4, told->text);
    } else {
        (void)sqlite3_bind_null(statement, 4);
    }
    int code = sqlite3_step(statement);
    (void)sqlite3_reset(statement);
    if (code != SQLITE_DONE) {
        return runs_sql_error(outcomes->db, code, statements[S_PUT].doing, err);
    }
    if (!outcomes->has_oldest) {
        outcomes->has_oldest = true;
        outcomes->oldest_lsn = (int64_t)told->lsn;
        outcomes->oldest_ns = told->time_ns;
    }
    return 0;
}

int runs_outcomes_note(struct runs_outcomes *outcomes, const struct runs_told *told,
                       struct err *err)
{
    struct receipt receipt;
    int r = know(outcomes, err);
    r = r == 0 ? forget_some(outcomes, told->time_ns, err) : r;
    if (r < 0) {
        return r;
    }
    if (meta_find_receipt(&receipt, told->meta) == 1 && receipt.accepted != 0) {
        outcomes->keyed_lsn = told->lsn + receipt.accepted - 1;
    }
    bool is_keyed = told->lsn <= outcomes->keyed_lsn;
    return is_keyed && !is_plain(told->outcome) ? put(outcomes, told, err) : 0;
}

int runs_outcomes_keep(struct runs_outcomes *outcomes, uint64_t applied_lsn, struct err *err)
{
    bool is_inside = outcomes->is_known && outcomes->keyed_lsn > applied_lsn;
    return is_inside ? runs_meta_put_u64(outcomes->db, KEYED_LSN, outcomes->keyed_lsn, err) : 0;
}

/* ---- the reader's part ---- */

static int read_applied(struct runs_reader *reader, uint64_t *applied_lsn, struct err *err)
{
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(
        reader, "SELECT CAST(value AS INTEGER) FROM sluice_meta WHERE key='applied_lsn'", &row,
        err);
    result = result < 0 ? result : runs_read_step(reader, row, err);
    *applied_lsn = result == 1 ? (uint64_t)sqlite3_column_int64(row, 0) : 0;
    (void)sqlite3_finalize(row);
    return result < 0 ? result : 0;
}

static int read_rows(struct runs_reader *reader, const struct runs_outcome_range *range,
                     runs_on_outcome take, void *context, struct err *err)
{
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(reader,
                                   "SELECT lsn,outcome,text FROM sluice_run_outcomes "
                                   "WHERE lsn BETWEEN ?1 AND ?2 ORDER BY lsn",
                                   &row, err);
    if (result == 0) {
        (void)sqlite3_bind_int64(row, 1, (int64_t)range->first_lsn);
        (void)sqlite3_bind_int64(row, 2, (int64_t)range->last_lsn);
        result = runs_read_step(reader, row, err);
    }
    while (result == 1) { /* bound: the range */
        int64_t outcome = sqlite3_column_int64(row, 1);
        if (outcome < RUNS_CREATED || outcome > RUNS_REFUSED) {
            result = err_set(err, ERR_CORRUPT, "sluice_run_outcomes has no such outcome: %lld",
                             (long long)outcome);
            break;
        }
        take(context, (uint64_t)sqlite3_column_int64(row, 0), (enum runs_outcome)outcome,
             runs_read_text(row, 2));
        result = runs_read_step(reader, row, err);
    }
    (void)sqlite3_finalize(row);
    return result;
}

int runs_outcomes(struct runs_reader *reader, const struct runs_outcome_range *range,
                  runs_on_outcome take, void *context, struct err *err)
{
    uint64_t applied_lsn = 0;
    int result = runs_read_begin_all(reader, err);
    if (result < 0) {
        return result;
    }
    result = read_applied(reader, &applied_lsn, err);
    bool is_applied = result == 0 && applied_lsn >= range->last_lsn;
    result = is_applied ? read_rows(reader, range, take, context, err) : result;
    runs_read_end_all(reader);
    return result < 0 ? result : is_applied ? 1 : 0;
}

int runs_run_id(struct runs_reader *reader, struct slice event_id, runs_put put_text, void *context,
                struct err *err)
{
    sqlite3_stmt *row = NULL;
    runs_read_begin(reader);
    int result =
        runs_read_prepare(reader, "SELECT run_id FROM agent_runs WHERE event_id=?1", &row, err);
    if (result == 0) {
        runs_read_bind(row, 1, event_id);
        result = runs_read_step(reader, row, err);
    }
    if (result == 1) {
        struct slice run_id = runs_read_text(row, 0);
        run_id.data = run_id.bytes == 0 ? (const uint8_t *)"" : run_id.data; /* not unknown */
        (void)put_text(context, run_id);
    }
    (void)sqlite3_finalize(row);
    return result;
}
