/*
 * poller_query: what a poller asks its database, as text. Pure: names are quoted, values are E'' literals, so that nothing
 * in them is ever SQL.
 *
 * A look is one message of several statements: a read-only transaction with its time-outs, one SELECT, the end. The SELECT
 * takes the rows behind a mark in the order of the key columns. "Behind (t, s, m)" is written as the branches that it is
 * made of,
 *
 *   time = t AND step = s AND metric > m  |  time = t AND step > s  |  time > t      (and IS NULL after each, NULLs are last)
 *
 * each with its own ORDER BY and bound, joined by UNION ALL: each is one range of an index over the key columns, also where a
 * key is NULL, for which a row comparison says neither yes nor no and would lose rows. FETCH FIRST n ROWS WITH TIES
 * (PostgreSQL 13) never ends between rows of the same key, so a table without a unique key loses none either.
 *
 * Rows whose time is later than now() less settle wait: a row from the future would else move the mark there, and
 * everything between would be behind it.
 */
#ifndef FORWARD_POLLER_QUERY_H
#define FORWARD_POLLER_QUERY_H

#include "core/buf.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/poller_mark.h"

#define POLLER_SERVER_VERSION_MIN 130000 /* WITH TIES */
#define POLLER_COLUMNS_MAX        400u   /* metrics of a wide row */
#define POLLER_NAME_BYTES         64u    /* PostgreSQL's NAMEDATALEN */
#define POLLER_SQL_BYTES          (128u * 1024u)

/* What a table's rows look like: keys first (time, then step and metric where there are any), then values. */
struct poller_shape {
    char identity[POLLER_TABLE_BYTES_MAX +
                  1]; /* table(time,step,metric): what a mark is a mark of */
    unsigned key_count;
    char keys[POLLER_KEYS_MAX][POLLER_NAME_BYTES];
    uint32_t key_bytes_max[POLLER_KEYS_MAX]; /* 0: its type is never long */
    bool has_step, has_metric;
    unsigned value_count; /* narrow: 1 */
    char values[POLLER_COLUMNS_MAX][POLLER_NAME_BYTES];
};

/* A column as the database describes it. */
struct poller_column {
    const char *name;
    uint32_t type; /* its OID in pg_type */
};

/* From the configuration alone: keys, identity, no values yet. */
void poller_shape_init(struct poller_shape *shape, const struct config_poller *poller);
/* Finds key and value columns among those of the table. -EINVAL with a text for people: one is missing, or is of a type
 * that it cannot have. */
int poller_shape_take(struct poller_shape *shape, const struct config_poller *poller,
                      const struct poller_column *columns, unsigned count,
                      struct err *err) MUST_USE;

/* A SELECT that returns no row, for the columns. sql is NUL-terminated; ERR_LIMIT when it does not fit. */
int poller_query_describe(struct buf *sql, const struct config_poller *poller) MUST_USE;
/* keys NULL: from the beginning; else shape->key_count of them. Columns of the result: keys, then values. */
int poller_query_look(struct buf *sql, const struct config_poller *poller,
                      const struct poller_shape *shape, const struct poller_value *keys,
                      uint64_t rows_max) MUST_USE;

#endif
