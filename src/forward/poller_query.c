#include "forward/poller_query.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* OIDs of pg_type that never change (catalog/pg_type.dat). */
enum {
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_FLOAT4 = 700,
    TYPE_FLOAT8 = 701,
    TYPE_DATE = 1082,
    TYPE_TIMESTAMP = 1114,
    TYPE_TIMESTAMPTZ = 1184,
    TYPE_NUMERIC = 1700,
    TYPE_UUID = 2950,
};

/* How long a lock is waited for: a table that is being altered is looked at again later. */
#define LOCK_TIMEOUT_MS_MAX 1000u

/* ---- shape ---- */

static bool is_time(uint32_t type)
{
    return type == TYPE_TIMESTAMPTZ || type == TYPE_TIMESTAMP || type == TYPE_DATE;
}

static bool is_integer(uint32_t type)
{
    return type == TYPE_INT2 || type == TYPE_INT4 || type == TYPE_INT8;
}

static bool is_number(uint32_t type)
{
    return is_integer(type) || type == TYPE_FLOAT4 || type == TYPE_FLOAT8 || type == TYPE_NUMERIC;
}

static void copy_name(char to[POLLER_NAME_BYTES], const char *from)
{
    (void)snprintf(to, POLLER_NAME_BYTES, "%s", from);
}

void poller_shape_init(struct poller_shape *shape, const struct config_poller *poller)
{
    *shape = (struct poller_shape){.has_step = poller->step_column[0] != 0,
                                   .has_metric = poller->layout == POLLER_NARROW};
    copy_name(shape->keys[shape->key_count++], poller->time_column);
    if (shape->has_step) {
        copy_name(shape->keys[shape->key_count++], poller->step_column);
    }
    if (shape->has_metric) {
        copy_name(shape->keys[shape->key_count++], poller->metric_column);
    }
    struct buf out;
    buf_init(&out, shape->identity, sizeof shape->identity - 1);
    buf_printf(&out, "%s(", poller->table);
    for (unsigned i = 0; i < shape->key_count; i++) {
        buf_printf(&out, "%s%s", i == 0 ? "" : ",", shape->keys[i]);
    }
    buf_put_char(&out, ')');
    ASSERT(!out.is_truncated); /* identifiers of at most 63 bytes each, see config_poller_check */
}

static const struct poller_column *find_column(const struct poller_column *columns, unsigned count,
                                               const char *name)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(columns[i].name, name) == 0) {
            return &columns[i];
        }
    }
    return NULL;
}

static int no_column(struct err *err, const struct config_poller *poller, const char *name)
{
    return err_set(err, -EINVAL,
                   "%s has no column %s (upper and lower case count, and unquoted names are lower "
                   "case in SQL)",
                   poller->table, name);
}

static int take_keys(struct poller_shape *shape, const struct config_poller *poller,
                     const struct poller_column *columns, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < shape->key_count; i++) {
        const struct poller_column *column = find_column(columns, count, shape->keys[i]);
        if (column == NULL) {
            return no_column(err, poller, shape->keys[i]);
        }
        if (i == 0 && !is_time(column->type)) {
            return err_set(err, -EINVAL, "%s.%s is no timestamp or timestamptz: make a view",
                           poller->table, column->name);
        }
        bool is_short = i == 0 || is_integer(column->type) || column->type == TYPE_UUID;
        bool is_metric = shape->has_metric && i == shape->key_count - 1;
        shape->key_bytes_max[i] = is_short    ? 0
                                  : is_metric ? POLLER_METRIC_BYTES_MAX
                                              : POLLER_STEP_BYTES_MAX;
    }
    return 0;
}

static int add_value(struct poller_shape *shape, const struct config_poller *poller,
                     const struct poller_column *column, struct err *err)
{
    if (!is_number(column->type)) {
        return err_set(err, -EINVAL, "%s.%s is of a type that is no number: make a view",
                       poller->table, column->name);
    }
    if (shape->value_count == POLLER_COLUMNS_MAX) {
        return err_set(err, -EINVAL,
                       "%s has more than %u columns of numbers: choose some with columns =",
                       poller->table, POLLER_COLUMNS_MAX);
    }
    copy_name(shape->values[shape->value_count++], column->name);
    return 0;
}

/* columns = a, b: validated when the configuration was read. */
static int take_listed(struct poller_shape *shape, const struct config_poller *poller,
                       const struct poller_column *columns, unsigned count, struct err *err)
{
    const char *from = poller->columns;
    while (*from != 0) { /* a turn per name */
        char name[POLLER_NAME_BYTES];
        from += strspn(from, ", ");
        size_t bytes = strcspn(from, ", ");
        if (bytes == 0) {
            break;
        }
        (void)snprintf(name, sizeof name, "%.*s", (int)u64_min(bytes, sizeof name - 1), from);
        from += bytes;
        const struct poller_column *column = find_column(columns, count, name);
        int r =
            column == NULL ? no_column(err, poller, name) : add_value(shape, poller, column, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool is_key(const struct poller_shape *shape, const char *name)
{
    for (unsigned i = 0; i < shape->key_count; i++) {
        if (strcmp(shape->keys[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int take_numeric(struct poller_shape *shape, const struct config_poller *poller,
                        const struct poller_column *columns, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        int r = 0;
        if (is_number(columns[i].type) && !is_key(shape, columns[i].name)) {
            r = add_value(shape, poller, &columns[i], err);
        }
        if (r < 0) {
            return r;
        }
    }
    return shape->value_count > 0
               ? 0
               : err_set(err, -EINVAL, "%s has no column of numbers beside its keys",
                         poller->table);
}

int poller_shape_take(struct poller_shape *shape, const struct config_poller *poller,
                      const struct poller_column *columns, unsigned count, struct err *err)
{
    shape->value_count = 0;
    int r = take_keys(shape, poller, columns, count, err);
    if (r < 0) {
        return r;
    }
    if (poller->layout == POLLER_NARROW) {
        const struct poller_column *column = find_column(columns, count, poller->value_column);
        return column == NULL ? no_column(err, poller, poller->value_column)
                              : add_value(shape, poller, column, err);
    }
    return poller->columns[0] != 0 ? take_listed(shape, poller, columns, count, err)
                                   : take_numeric(shape, poller, columns, count, err);
}

/* ---- SQL ---- */

/* text twice where it would end the quotes or begin an escape. */
static void put_quoted(struct buf *sql, struct slice text, const char *special)
{
    for (size_t i = 0; i < text.bytes; i++) {
        if (strchr(special, text.data[i]) != NULL && text.data[i] != 0) {
            buf_put_char(sql, (char)text.data[i]);
        }
        buf_put_char(sql, (char)text.data[i]);
    }
}

static void put_name(struct buf *sql, const char *name, size_t bytes)
{
    buf_put_char(sql, '"');
    put_quoted(sql, (struct slice){(const uint8_t *)name, bytes}, "\"");
    buf_put_char(sql, '"');
}

/* The same whatever standard_conforming_strings says. */
static void put_literal(struct buf *sql, struct slice text)
{
    buf_put_text(sql, "E'");
    put_quoted(sql, text, "'\\");
    buf_put_char(sql, '\'');
}

static void put_table(struct buf *sql, const char *table)
{
    const char *dot = strchr(table, '.');
    if (dot != NULL) {
        put_name(sql, table, (size_t)(dot - table));
        buf_put_char(sql, '.');
    }
    const char *name = dot == NULL ? table : dot + 1;
    put_name(sql, name, strlen(name));
}

/* What holds for every statement that follows: nothing is written, nothing is waited for long, one core at most; times and
 * numbers are printed in one way, whatever the server's defaults are. */
static void put_begin(struct buf *sql, const struct config_poller *poller)
{
    uint64_t timeout_ms = u64_max(poller->statement_timeout_ns / NS_MS, 1);
    buf_printf(sql,
               "BEGIN TRANSACTION READ ONLY;SET LOCAL statement_timeout=%" PRIu64
               ";SET LOCAL lock_timeout=%" PRIu64
               ";SET LOCAL max_parallel_workers_per_gather=0;SET LOCAL jit=off;"
               "SET LOCAL timezone='UTC';SET LOCAL datestyle='ISO';SET LOCAL extra_float_digits=3;",
               timeout_ms, u64_min(timeout_ms, LOCK_TIMEOUT_MS_MAX));
}

static int finish(struct buf *sql)
{
    buf_put_char(sql, 0);
    return sql->is_truncated ? ERR_LIMIT : 0;
}

int poller_query_describe(struct buf *sql, const struct config_poller *poller)
{
    buf_reset(sql);
    put_begin(sql, poller);
    buf_put_text(sql, "SELECT * FROM ");
    put_table(sql, poller->table);
    buf_put_text(sql, " LIMIT 0;COMMIT");
    return finish(sql);
}

static void put_order(struct buf *sql, const struct poller_shape *shape, uint64_t rows_max)
{
    buf_put_text(sql, " ORDER BY ");
    for (unsigned i = 0; i < shape->key_count; i++) {
        buf_put_text(sql, i == 0 ? "" : ",");
        put_name(sql, shape->keys[i], strlen(shape->keys[i]));
    }
    buf_printf(sql, " FETCH FIRST %" PRIu64 " ROWS WITH TIES", rows_max);
}

/* What no row may be, in any branch. */
static void put_bounds(struct buf *sql, const struct config_poller *poller,
                       const struct poller_shape *shape)
{
    put_name(sql, shape->keys[0], strlen(shape->keys[0]));
    buf_printf(sql, "<=now()-interval '%" PRIu64 " microseconds'", poller->settle_ns / NS_US);
    for (unsigned i = 0; i < shape->key_count; i++) {
        if (shape->key_bytes_max[i] != 0) {
            buf_put_text(sql, " AND coalesce(octet_length(");
            put_name(sql, shape->keys[i], strlen(shape->keys[i]));
            buf_printf(sql, "::text),0)<=%u", shape->key_bytes_max[i]);
        }
    }
}

/* One condition on one key column. relation '>' of a value; '=' of a value or NULL; '0': IS NULL, behind any value. */
static void put_condition(struct buf *sql, const struct poller_shape *shape, unsigned i,
                          char relation, const struct poller_value *value)
{
    put_name(sql, shape->keys[i], strlen(shape->keys[i]));
    if (relation == '0' || value->is_null) {
        buf_put_text(sql, " IS NULL");
    } else {
        buf_put_char(sql, relation);
        put_literal(sql, value->text);
    }
    buf_put_text(sql, " AND ");
}

struct branches {
    const struct config_poller *poller;
    const struct poller_shape *shape;
    const struct poller_value *keys; /* NULL: all rows */
    uint64_t rows_max;
    unsigned count;
};

/* Rows that equal the mark in the columns before `at`, and are behind it in that one. */
static void put_branch(struct buf *sql, struct branches *branches, unsigned at, char relation)
{
    buf_put_text(sql, branches->count++ == 0 ? "(SELECT * FROM " : " UNION ALL (SELECT * FROM ");
    put_table(sql, branches->poller->table);
    buf_put_text(sql, " WHERE ");
    for (unsigned i = 0; i < at; i++) {
        put_condition(sql, branches->shape, i, '=', &branches->keys[i]);
    }
    if (branches->keys != NULL) {
        put_condition(sql, branches->shape, at, relation, &branches->keys[at]);
    }
    put_bounds(sql, branches->poller, branches->shape);
    put_order(sql, branches->shape, branches->rows_max);
    buf_put_char(sql, ')');
}

static void put_branches(struct buf *sql, struct branches *branches)
{
    if (branches->keys == NULL) {
        put_branch(sql, branches, 0, '>');
        return;
    }
    for (unsigned at = branches->shape->key_count; at-- > 0;) {
        if (branches->keys[at].is_null) {
            continue; /* NULLs are last: nothing is behind one in its own column */
        }
        put_branch(sql, branches, at, '>');
        if (at > 0) {
            put_branch(sql, branches, at, '0');
        }
    }
}

int poller_query_look(struct buf *sql, const struct config_poller *poller,
                      const struct poller_shape *shape, const struct poller_value *keys,
                      uint64_t rows_max)
{
    struct branches branches = {
        .poller = poller, .shape = shape, .keys = keys, .rows_max = rows_max};
    buf_reset(sql);
    put_begin(sql, poller);
    buf_put_text(sql, "SELECT ");
    for (unsigned i = 0; i < shape->key_count; i++) {
        buf_put_text(sql, i == 0 ? "" : ",");
        put_name(sql, shape->keys[i], strlen(shape->keys[i]));
    }
    for (unsigned i = 0; i < shape->value_count; i++) {
        buf_put_char(sql, ',');
        put_name(sql, shape->values[i], strlen(shape->values[i]));
    }
    buf_put_text(sql, " FROM (");
    put_branches(sql, &branches);
    buf_put_text(sql, ") AS page");
    put_order(sql, shape, rows_max);
    buf_put_text(sql, ";COMMIT");
    return finish(sql);
}
