/*
 * runs_read_list: the list of runs, and by which index its rows are taken (runs_read.h). Private to runs_read but for its door.
 */
#include "store/runs_read_parts.h"
#include "store/runs_zones.h"

#include <sqlite3.h>
#include <string.h>

#define SQL_BYTES 4096u

/* The filters in the order of their parameters. */
enum term {
    TERM_AGENT = 0,
    TERM_STATUS,
    TERM_JOB,
    TERM_START_FROM,
    TERM_START_TO,
    TERM_CREATED_BEFORE,
    TERM_CREATED_AFTER,
    TERM_COUNT,
};
/* Parameters behind theirs. */
enum {
    AT_LIMIT = TERM_COUNT + 1,
    AT_OFFSET,
    AT_FIRST,
    AT_LAST,
};

static const struct {
    const char *column;
    const char *operation;
} terms[TERM_COUNT] = {
    [TERM_AGENT] = {"agent_name", "="},
    [TERM_STATUS] = {"status", "="},
    [TERM_JOB] = {"job_type", "="},
    [TERM_START_FROM] = {"start_time", ">="},
    [TERM_START_TO] = {"start_time", "<="},
    [TERM_CREATED_BEFORE] = {"created_at", "<"},
    [TERM_CREATED_AFTER] = {"created_at", ">"},
};

/* What the rows are taken by. ORDERED: an index that ends in created_at; SORTED: an index of a rare value, then a
 * sort. */
enum way {
    WAY_CREATED = 0, /* ordered by created_at alone */
    WAY_AGENT,
    WAY_STATUS,
    WAY_JOB,
    WAY_RARE_STATUS,
    WAY_RARE_JOB,
    WAY_RARE_START,
};

static struct slice term_value(const struct runs_filter *filter, enum term term)
{
    const struct slice values[TERM_COUNT] = {
        [TERM_AGENT] = filter->agent_name,
        [TERM_STATUS] = filter->status,
        [TERM_JOB] = filter->job_type,
        [TERM_START_FROM] = filter->start_time_from,
        [TERM_START_TO] = filter->start_time_to,
        [TERM_CREATED_BEFORE] = filter->created_before,
        [TERM_CREATED_AFTER] = filter->created_after,
    };
    return values[term];
}

static bool has_term(const struct runs_filter *filter, enum term term)
{
    return term_value(filter, term).bytes != 0;
}

static bool has_start(const struct runs_filter *filter)
{
    return has_term(filter, TERM_START_FROM) || has_term(filter, TERM_START_TO);
}

/* May the planner use an index for this term? A unary plus before the column says no (sqlite.org/optoverview.html). */
static bool term_is_free(enum way way, enum term term)
{
    switch (term) {
    case TERM_AGENT:
        return way == WAY_AGENT;
    case TERM_STATUS:
        return way == WAY_AGENT || way == WAY_STATUS || way == WAY_RARE_STATUS;
    case TERM_JOB:
        return way == WAY_JOB || way == WAY_RARE_JOB;
    case TERM_START_FROM:
    case TERM_START_TO:
        return way == WAY_RARE_START;
    case TERM_CREATED_BEFORE:
    case TERM_CREATED_AFTER:
    case TERM_COUNT:
        break;
    }
    return way < WAY_RARE_STATUS;
}

static void put_terms(struct buf *sql, const struct runs_filter *filter, enum way way)
{
    const char *glue = " WHERE ";
    for (unsigned i = 0; i < TERM_COUNT; i++) {
        if (has_term(filter, i)) {
            buf_printf(sql, "%s%s%s%s?%u", glue, term_is_free(way, i) ? "" : "+", terms[i].column,
                       terms[i].operation, i + 1);
            glue = " AND ";
        }
    }
}

/* The order that is asked for makes the planner take the index that has it. A sort is of ids and times alone, or it would drag all
 * columns of all its rows along. */
static void put_list_sql(struct buf *sql, const struct runs_filter *filter, enum way way,
                         bool is_stretch)
{
    bool is_sorted = way >= WAY_RARE_STATUS;
    const char *order =
        is_sorted ? " ORDER BY +created_at DESC,id" : " ORDER BY created_at DESC,id";
    buf_put_text(sql, "SELECT " RUNS_READ_COLUMNS " FROM agent_runs");
    if (is_sorted) {
        buf_put_text(sql, " WHERE id IN (SELECT id FROM agent_runs");
    }
    put_terms(sql, filter, way);
    if (is_stretch) { /* there is a term of start_time before it */
        buf_printf(sql, " AND created_at>=?%d AND created_at<=?%d", AT_FIRST, AT_LAST);
    }
    buf_printf(sql, "%s LIMIT ?%d OFFSET ?%d", order, AT_LIMIT, AT_OFFSET);
    if (is_sorted) {
        buf_printf(sql, ")%s", order);
    }
    ASSERT(!sql->is_truncated);
}

static void bind_filter(sqlite3_stmt *statement, const struct runs_filter *filter)
{
    for (unsigned i = 0; i < TERM_COUNT; i++) {
        if (has_term(filter, i)) {
            runs_read_bind(statement, (int)i + 1, term_value(filter, i));
        }
    }
}

/* Entries of the index for one filter alone, at most RUNS_SORT_ROWS_MAX + 1. */
static int count_some(struct runs_reader *reader, const struct runs_filter *only, uint64_t *count,
                      struct err *err)
{
    char text[SQL_BYTES];
    struct buf sql;
    sqlite3_stmt *statement = NULL;
    enum way way = has_start(only)               ? WAY_RARE_START
                   : has_term(only, TERM_STATUS) ? WAY_RARE_STATUS
                                                 : WAY_RARE_JOB;
    buf_init(&sql, text, sizeof text - 1);
    buf_put_text(&sql, "SELECT count(*) FROM (SELECT 1 FROM agent_runs");
    put_terms(&sql, only, way);
    buf_printf(&sql, " LIMIT %u)", RUNS_SORT_ROWS_MAX + 1);
    text[sql.bytes] = 0;
    int result = runs_read_prepare(reader, text, &statement, err);
    if (result == 0) {
        bind_filter(statement, only);
        result = runs_read_step(reader, statement, err);
        *count = result == 1 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    }
    (void)sqlite3_finalize(statement);
    return result;
}

/* Takes way when its rows are few, and fewer than what was found before. */
static int try_way(struct runs_reader *reader, const struct runs_filter *only, enum way candidate,
                   enum way *way, uint64_t *fewest, struct err *err)
{
    uint64_t count = 0;
    int result = count_some(reader, only, &count, err);
    if (result >= 0 && count < *fewest) {
        *fewest = count;
        *way = candidate;
    }
    return result < 0 ? result : 0;
}

static int choose_way(struct runs_reader *reader, const struct runs_filter *filter, enum way *way,
                      struct err *err)
{
    struct runs_filter status = {.status = filter->status};
    struct runs_filter job = {.job_type = filter->job_type};
    struct runs_filter start = {.start_time_from = filter->start_time_from,
                                .start_time_to = filter->start_time_to};
    bool has_agent = has_term(filter, TERM_AGENT);
    bool has_status = has_term(filter, TERM_STATUS) && !has_agent;
    bool has_job = has_term(filter, TERM_JOB);
    uint64_t fewest = RUNS_SORT_ROWS_MAX + 1;
    int result = 0;
    *way = has_agent                                ? WAY_AGENT
           : has_status && reader->has_status_order ? WAY_STATUS
           : has_job && reader->has_job_order       ? WAY_JOB
                                                    : WAY_CREATED;
    if (has_status && *way != WAY_STATUS) {
        result = try_way(reader, &status, WAY_RARE_STATUS, way, &fewest, err);
    }
    if (result == 0 && has_job && *way != WAY_JOB) {
        result = try_way(reader, &job, WAY_RARE_JOB, way, &fewest, err);
    }
    if (result == 0 && has_start(filter)) {
        result = try_way(reader, &start, WAY_RARE_START, way, &fewest, err);
    }
    return result;
}

/* What a list asks of SQLite: one statement, or the same one for each stretch (runs_zones.h). */
struct listing {
    sqlite3_stmt *row;
    struct runs_stretches stretches;
    bool has_stretches;
    uint64_t skip; /* rows before the page, which SQLite does not skip over itself */
    uint64_t left; /* rows of the page */
};

static void bind_number(sqlite3_stmt *statement, int index, uint64_t number)
{
    int code = sqlite3_bind_int64(statement, index, (int64_t)u64_min(number, INT64_MAX));
    ASSERT(code == SQLITE_OK);
}

/* A walk along created_at over a window of start_time takes the stretches that the window meets. */
static int find_stretches(struct runs_reader *reader, const struct runs_filter *filter,
                          enum way way, struct listing *listing, struct err *err)
{
    if (way >= WAY_RARE_STATUS || !has_start(filter)) {
        return 0;
    }
    int result = runs_zones_find(reader, filter->start_time_from, filter->start_time_to,
                                 &listing->stretches, err);
    listing->has_stretches = result == 1;
    return result < 0 ? result : 0;
}

/* prefix: "" or "EXPLAIN QUERY PLAN ". */
static int prepare_list(struct runs_reader *reader, const struct runs_filter *filter,
                        const char *prefix, struct listing *listing, struct err *err)
{
    char text[SQL_BYTES];
    struct buf sql;
    enum way way = WAY_CREATED;
    ASSERT(filter->limit >= 1);
    int result = choose_way(reader, filter, &way, err);
    result = result < 0 ? result : find_stretches(reader, filter, way, listing, err);
    if (result < 0) {
        return result;
    }
    buf_init(&sql, text, sizeof text - 1);
    buf_put_text(&sql, prefix);
    put_list_sql(&sql, filter, way, listing->has_stretches);
    text[sql.bytes] = 0;
    result = runs_read_prepare(reader, text, &listing->row, err);
    if (result < 0) {
        return result;
    }
    uint64_t in_sql = listing->has_stretches ? 0 : filter->offset;
    listing->skip = filter->offset - in_sql;
    listing->left = filter->limit;
    bind_filter(listing->row, filter);
    bind_number(listing->row, AT_LIMIT,
                listing->skip > INT64_MAX - listing->left ? INT64_MAX
                                                          : listing->skip + listing->left);
    bind_number(listing->row, AT_OFFSET, in_sql);
    return 0;
}

static int put_rows(struct runs_answer *answer, struct listing *listing, const char **glue,
                    struct err *err)
{
    int result = runs_read_step(answer->reader, listing->row, err);
    while (result == 1 && listing->left > 0 && !answer->is_over) { /* bound: offset and limit */
        if (listing->skip > 0) {
            listing->skip--;
        } else {
            runs_read_put_text(answer, *glue);
            runs_read_put_item(answer, listing->row);
            *glue = ",";
            listing->left--;
        }
        result = runs_read_step(answer->reader, listing->row, err);
    }
    return result < 0 ? result : 0;
}

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static int put_stretches(struct runs_answer *answer, struct listing *listing, const char **glue,
                         struct err *err)
{
    int result = 0;
    for (unsigned i = 0; i < listing->stretches.count && listing->left > 0 && result == 0; i++) {
        const struct runs_stretch *stretch = &listing->stretches.all[i];
        (void)sqlite3_reset(listing->row); /* its code is that of the step, told there */
        runs_read_bind(listing->row, AT_FIRST, text_slice(stretch->first));
        runs_read_bind(listing->row, AT_LAST, text_slice(stretch->last));
        result = put_rows(answer, listing, glue, err);
    }
    return result;
}

static int put_list(struct runs_answer *answer, const struct runs_filter *filter, struct err *err)
{
    struct listing listing = {0};
    const char *glue = "[";
    int result = prepare_list(answer->reader, filter, "", &listing, err);
    if (result == 0) {
        result = listing.has_stretches ? put_stretches(answer, &listing, &glue, err)
                                       : put_rows(answer, &listing, &glue, err);
    }
    (void)sqlite3_finalize(listing.row);
    runs_read_put_text(answer, glue[0] == '[' ? "[]" : "]");
    return result;
}

/* One read transaction: the ways, the stretches and the rows are of the same state. */
int runs_list(struct runs_reader *reader, const struct runs_filter *filter, runs_put put,
              void *context, struct err *err)
{
    struct runs_answer answer;
    runs_read_answer_open(&answer, reader, put, context);
    int result = runs_read_begin_all(reader, err);
    if (result < 0) {
        return result;
    }
    result = runs_read_look(reader, err);
    result = result < 0 ? result : put_list(&answer, filter, err);
    runs_read_end_all(reader);
    return result < 0 ? result : runs_read_answer_end(&answer, 0);
}

int runs_explain(struct runs_reader *reader, const struct runs_filter *filter, struct buf *out,
                 struct err *err)
{
    struct listing listing = {0};
    runs_read_begin(reader);
    int result = prepare_list(reader, filter, "EXPLAIN QUERY PLAN ", &listing, err);
    result = result < 0 ? result : runs_read_step(reader, listing.row, err);
    while (result == 1) { /* bound: steps of a plan */
        buf_put_slice(out, runs_read_text(listing.row, 3));
        buf_put_char(out, '\n');
        result = runs_read_step(reader, listing.row, err);
    }
    (void)sqlite3_finalize(listing.row);
    return result;
}
