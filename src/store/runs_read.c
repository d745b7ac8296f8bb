#include "store/runs_read.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/runs_read_parts.h"

#define BUSY_PAUSE_NS (100 * NS_US)
/* Virtual machine steps between two looks at the clock: some 100 us. */
#define PROGRESS_STEPS 10000

/* ---- failures ---- */

int runs_read_error(struct runs_reader *reader, int code, const char *doing, struct err *err)
{
    const char *words = reader->db != NULL ? sqlite3_errmsg(reader->db) : sqlite3_errstr(code);
    int result = -EIO;
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        result = -EBUSY;
        break;
    case SQLITE_INTERRUPT:
        result = -ETIMEDOUT;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        result = ERR_CORRUPT;
        break;
    default:
        break;
    }
    return err_set(err, result, "%s: %s: %s", reader->path, doing, words);
}

static int on_busy(void *context, int tries)
{
    struct runs_reader *reader = context;
    struct timespec pause = {.tv_nsec = (long)BUSY_PAUSE_NS};
    (void)tries;
    (void)nanosleep(&pause, NULL);
    return clock_mono_ns() < reader->deadline_ns;
}

static int on_progress(void *context)
{
    const struct runs_reader *reader = context;
    return clock_mono_ns() >= reader->deadline_ns;
}

/* A question begins: its time is counted from here. */
void runs_read_begin(struct runs_reader *reader)
{
    reader->deadline_ns = clock_mono_ns() + RUNS_READ_NS_MAX;
}

int runs_read_begin_all(struct runs_reader *reader, struct err *err)
{
    runs_read_begin(reader);
    int code = sqlite3_exec(reader->db, "BEGIN", NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : runs_read_error(reader, code, "begin", err);
}

void runs_read_end_all(struct runs_reader *reader)
{
    (void)sqlite3_exec(reader->db, "COMMIT", NULL, NULL, NULL); /* nothing was written */
}

/* ---- one run ---- */

int runs_read_prepare(struct runs_reader *reader, const char *sql, sqlite3_stmt **statement,
                      struct err *err)
{
    int code = sqlite3_prepare_v2(reader->db, sql, -1, statement, NULL);
    return code == SQLITE_OK ? 0 : runs_read_error(reader, code, "ask", err);
}

/* Prepared once, kept. */
static int prepare_kept(struct runs_reader *reader, const char *sql, sqlite3_stmt **statement,
                        struct err *err)
{
    if (*statement != NULL) {
        return 0;
    }
    int code = sqlite3_prepare_v3(reader->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    return code == SQLITE_OK ? 0 : runs_read_error(reader, code, "ask", err);
}

/* The text lives until the statement is reset. An empty slice may have no address, which would bind NULL. */
void runs_read_bind(sqlite3_stmt *statement, int index, struct slice text)
{
    const void *data = text.bytes == 0 ? (const void *)"" : text.data;
    ASSERT(text.bytes <= INT32_MAX);
    int code = sqlite3_bind_text(statement, index, data, (int)text.bytes, SQLITE_STATIC);
    ASSERT(code == SQLITE_OK);
}

/* 1: row, 0: done. */
int runs_read_step(struct runs_reader *reader, sqlite3_stmt *statement, struct err *err)
{
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        return 1;
    }
    return code == SQLITE_DONE ? 0 : runs_read_error(reader, code, "read", err);
}

/* The row of an event id. The caller resets the statement, which ends the read. */
static int find(struct runs_reader *reader, const char *sql, sqlite3_stmt **statement,
                struct slice event_id, struct err *err)
{
    runs_read_begin(reader);
    int result = prepare_kept(reader, sql, statement, err);
    if (result < 0) {
        return result;
    }
    runs_read_bind(*statement, 1, event_id);
    return runs_read_step(reader, *statement, err);
}

static void unfind(sqlite3_stmt *statement)
{
    if (statement != NULL) {
        (void)sqlite3_reset(statement); /* its code is that of the step, told there */
        (void)sqlite3_clear_bindings(statement);
    }
}

int runs_get(struct runs_reader *reader, struct slice event_id, runs_put put, void *context,
             struct err *err)
{
    struct runs_answer answer;
    runs_read_answer_open(&answer, reader, put, context);
    int result = find(reader, "SELECT " RUNS_READ_COLUMNS " FROM agent_runs WHERE event_id=?",
                      &reader->get, event_id, err);
    if (result == 1) {
        runs_read_put_item(&answer, reader->get);
        result = runs_read_answer_end(&answer, result);
    }
    unfind(reader->get);
    return result;
}

static void copy_cut(char *to, struct slice text, size_t room)
{
    size_t bytes = u64_min(text.bytes, room - 1);
    if (bytes != 0) {
        memcpy(to, text.data, bytes);
    }
    to[bytes] = 0;
}

int runs_git(struct runs_reader *reader, struct slice event_id, char *repo, char *hash, size_t room,
             struct err *err)
{
    ASSERT(room > 0);
    int result = find(reader, "SELECT git_repo,git_commit_hash FROM agent_runs WHERE event_id=?",
                      &reader->git, event_id, err);
    if (result == 1) {
        copy_cut(repo, runs_read_text(reader->git, 0), room);
        copy_cut(hash, runs_read_text(reader->git, 1), room);
    }
    unfind(reader->git);
    return result;
}

/* ---- sums ---- */

/* The values of an indexed column, by jumping from one to the next: as many look-ups as there are values, however many
 * rows there are. */
#define DISTINCT(column)                                                                           \
    "WITH RECURSIVE v(x) AS (SELECT min(" column ") FROM agent_runs UNION ALL SELECT (SELECT "     \
    "min(" column ") FROM agent_runs WHERE " column ">v.x) FROM v WHERE v.x IS NOT NULL) "         \
    "SELECT x FROM v WHERE x IS NOT NULL"

static int put_distinct(struct runs_answer *answer, const char *sql, uint64_t *count,
                        struct err *err)
{
    struct runs_reader *reader = answer->reader;
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(reader, sql, &row, err);
    result = result < 0 ? result : runs_read_step(reader, row, err);
    runs_read_put_text(answer, "[");
    for (*count = 0; result == 1 && !answer->is_over; (*count)++) { /* bound: the rows */
        runs_read_put_text(answer, *count == 0 ? "" : ",");
        runs_read_put_string(answer, runs_read_text(row, 0));
        result = runs_read_step(reader, row, err);
    }
    runs_read_put_text(answer, "]");
    (void)sqlite3_finalize(row);
    return result;
}

int runs_metadata(struct runs_reader *reader, runs_put put, void *context, struct err *err)
{
    struct runs_answer answer;
    uint64_t agents = 0;
    uint64_t jobs = 0;
    runs_read_answer_open(&answer, reader, put, context);
    runs_read_begin(reader);
    runs_read_put_text(&answer, "{\"agent_names\":");
    int result = put_distinct(&answer, DISTINCT("agent_name"), &agents, err);
    runs_read_put_text(&answer, ",\"job_types\":");
    result = result < 0 ? result : put_distinct(&answer, DISTINCT("job_type"), &jobs, err);
    runs_read_answer_room(&answer, 128);
    buf_printf(&answer.out, ",\"counts\":{\"agent_names\":%llu,\"job_types\":%llu}}",
               (unsigned long long)agents, (unsigned long long)jobs);
    return result < 0 ? result : runs_read_answer_end(&answer, 0);
}

static int put_agents(struct runs_answer *answer, struct err *err)
{
    struct runs_reader *reader = answer->reader;
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(reader,
                                   "SELECT agent_name,count(*) FROM agent_runs GROUP BY agent_name "
                                   "ORDER BY 2 DESC,1",
                                   &row, err);
    result = result < 0 ? result : runs_read_step(reader, row, err);
    const char *glue = "{";
    while (result == 1 && !answer->is_over) { /* bound: the agents */
        runs_read_put_text(answer, glue);
        runs_read_put_string(answer, runs_read_text(row, 0));
        runs_read_put_text(answer, ":");
        runs_read_put_column(answer, row, 1);
        glue = ",";
        result = runs_read_step(reader, row, err);
    }
    runs_read_put_text(answer, glue[0] == '{' ? "{}" : "}");
    (void)sqlite3_finalize(row);
    return result;
}

/* One number. now may be NULL. */
static int ask_number(struct runs_reader *reader, const char *sql, const char *now, int64_t *number,
                      struct err *err)
{
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(reader, sql, &row, err);
    if (result == 0 && now != NULL) {
        runs_read_bind(row, 1, (struct slice){(const uint8_t *)now, strlen(now)});
    }
    result = result < 0 ? result : runs_read_step(reader, row, err);
    *number = result == 1 ? sqlite3_column_int64(row, 0) : 0;
    (void)sqlite3_finalize(row);
    return result < 0 ? result : 0;
}

/* Both forms of a time, with T and with a space, sort behind the bare date, so the index narrows to two days at most, and
 * datetime() judges those. */
#define RECENT                                                                                     \
    "SELECT count(*) FROM agent_runs WHERE created_at>=date(?1,'-24 hours') AND "                  \
    "datetime(created_at)>=datetime(?1,'-24 hours')"

static int journal_mode(struct runs_reader *reader, char *mode, size_t room, struct err *err)
{
    sqlite3_stmt *row = NULL;
    int result = runs_read_prepare(reader, "PRAGMA journal_mode", &row, err);
    result = result < 0 ? result : runs_read_step(reader, row, err);
    copy_cut(mode, result == 1 ? runs_read_text(row, 0) : (struct slice){0}, room);
    for (char *at = mode; *at != 0; at++) {
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
    }
    (void)sqlite3_finalize(row);
    return result < 0 ? result : 0;
}

static int put_sums(struct runs_answer *answer, const char *now, struct err *err)
{
    struct runs_reader *reader = answer->reader;
    int64_t total = 0;
    int64_t recent = 0;
    char mode[32];
    int result = ask_number(reader, "SELECT count(*) FROM agent_runs", NULL, &total, err);
    result = result < 0 ? result : ask_number(reader, RECENT, now, &recent, err);
    result = result < 0 ? result : journal_mode(reader, mode, sizeof mode, err);
    if (result < 0) {
        return result;
    }
    runs_read_answer_room(answer, 64);
    buf_printf(&answer->out, "{\"total_runs\":%lld,\"agents\":", (long long)total);
    result = put_agents(answer, err);
    runs_read_answer_room(answer, 96);
    buf_printf(&answer->out,
               ",\"recent_24h\":%lld,\"performance\":{\"db_path\":", (long long)recent);
    runs_read_put_c_string(answer, reader->path);
    runs_read_put_text(answer, ",\"journal_mode\":");
    runs_read_put_c_string(answer, mode);
    runs_read_put_text(answer, "}}");
    return result;
}

/* One read transaction, so that the sums fit each other. */
int runs_metrics(struct runs_reader *reader, const char *now, runs_put put, void *context,
                 struct err *err)
{
    struct runs_answer answer;
    runs_read_answer_open(&answer, reader, put, context);
    int result = runs_read_begin_all(reader, err);
    if (result < 0) {
        return result;
    }
    result = put_sums(&answer, now, err);
    runs_read_end_all(reader);
    return result < 0 ? result : runs_read_answer_end(&answer, 0);
}

int runs_health(struct runs_reader *reader, char *mode, size_t room, struct err *err)
{
    int64_t newest = 0;
    runs_read_begin(reader);
    int result = ask_number(reader, "SELECT max(id) FROM agent_runs", NULL, &newest, err);
    return result < 0 ? result : journal_mode(reader, mode, room, err);
}

/* ---- life ---- */

/* Is there an index that begins with column and created_at? */
static int has_order(struct runs_reader *reader, const char *column, bool *has, struct err *err)
{
    int64_t count = 0;
    int result = ask_number(
        reader,
        "SELECT count(*) FROM pragma_index_list('agent_runs') AS l WHERE (SELECT name FROM "
        "pragma_index_info(l.name) WHERE seqno=0)=?1 AND (SELECT name FROM "
        "pragma_index_info(l.name) WHERE seqno=1)='created_at'",
        column, &count, err);
    *has = count != 0;
    return result;
}

int runs_read_look(struct runs_reader *reader, struct err *err)
{
    int64_t version = 0;
    int64_t zones = 0;
    int result = ask_number(reader, "PRAGMA schema_version", NULL, &version, err);
    if (result < 0 || version == reader->schema_version) {
        return result;
    }
    result = has_order(reader, "status", &reader->has_status_order, err);
    result = result < 0 ? result : has_order(reader, "job_type", &reader->has_job_order, err);
    result = result < 0 ? result
                        : ask_number(reader,
                                     "SELECT count(*) FROM sqlite_master WHERE name IN "
                                     "('sluice_run_zones', 'sluice_run_zones_insert', "
                                     "'sluice_run_zones_update')",
                                     NULL, &zones, err);
    reader->has_zones = zones == 3;
    reader->schema_version = result < 0 ? -1 : version;
    return result;
}

/* For reading only, but opened as a writer is: only such a one may roll back what a crash left in a journal. query_only keeps it
 * from everything else. */
static int reader_connect(struct runs_reader *reader, struct err *err)
{
    int code = sqlite3_open_v2(reader->path, &reader->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) {
        return runs_read_error(reader, code, "open", err);
    }
    (void)sqlite3_busy_handler(reader->db, on_busy, reader);
    sqlite3_progress_handler(reader->db, PROGRESS_STEPS, on_progress, reader);
    runs_read_begin(reader);
    code =
        sqlite3_exec(reader->db, "PRAGMA query_only=1; PRAGMA cache_size=-8192", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        return runs_read_error(reader, code, "open", err);
    }
    reader->schema_version = -1;
    return runs_read_look(reader, err);
}

int runs_reader_open(struct runs_reader **out, const char *path,
                     const struct runs_read_model *model, struct err *err)
{
    *out = NULL;
    if (access(path, F_OK) < 0) {
        int code = -errno;
        return err_set(err, code, "%s: %s", path, err_name(code));
    }
    struct runs_reader *reader = mem_alloc(sizeof *reader);
    if (strlen(path) >= sizeof reader->path) {
        mem_free(reader);
        return err_set(err, -ENAMETOOLONG, "%s: %s", path, err_name(-ENAMETOOLONG));
    }
    memcpy(reader->path, path, strlen(path) + 1);
    reader->model = *model;
    int result = reader_connect(reader, err);
    if (result < 0) {
        runs_reader_close(reader);
        return result;
    }
    *out = reader;
    return 0;
}

void runs_reader_close(struct runs_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    (void)sqlite3_finalize(reader->get);
    (void)sqlite3_finalize(reader->git);
    (void)sqlite3_close(reader->db);
    mem_free(reader);
}
