/*
 * poller_db: one connection to a database, without waiting for it: the only file that knows libpq. The poller's thread.
 *
 *   poller_db_open -> poller_db_connect until 1 -> poller_db_send -> poller_db_next until POLLER_DB_DONE -> send ...
 *
 * Between two calls that said "not yet" the caller waits for what poller_db_wait names. Any failure is the end of the
 * connection: close it, open another. libpq would wait for a resolver: the name of a single host is looked up before (poller_name.h),
 * those of a list are not.
 */
#ifndef FORWARD_POLLER_DB_H
#define FORWARD_POLLER_DB_H

#include "core/err.h"
#include "forward/poller_mark.h"
#include "forward/poller_query.h"

struct poller_db;

/* conninfo as configured, borrowed; application: shown in pg_stat_activity. -errno with a text for people. */
int poller_db_open(struct poller_db **db, const char *conninfo, const char *application,
                   struct err *err) MUST_USE;
void poller_db_close(struct poller_db *db); /* NULL is fine */
/* 1 connected, 0 not yet, negative: the reason is in err. */
int poller_db_connect(struct poller_db *db, struct err *err) MUST_USE;
/* connect_timeout of the conninfo, or the default, for each of its hosts, or addresses once they are known. */
uint64_t poller_db_connect_timeout_ns(const struct poller_db *db);
/* Several statements in one message. */
int poller_db_send(struct poller_db *db, const char *sql, struct err *err) MUST_USE;

enum poller_db_event {
    POLLER_DB_WAIT = 0, /* nothing yet */
    POLLER_DB_ROW,      /* poller_db_values */
    POLLER_DB_TABLE,    /* the end of a SELECT's rows: poller_db_columns */
    POLLER_DB_DONE,     /* the answer is complete */
};
/* enum poller_db_event, or negative. What it showed before is gone. */
int poller_db_next(struct poller_db *db, struct err *err) MUST_USE;
/* Of the row shown. Returns how many there are; fills at most room. */
unsigned poller_db_values(const struct poller_db *db, struct poller_value *values, unsigned room);
unsigned poller_db_columns(const struct poller_db *db, struct poller_column *columns,
                           unsigned room);

/* POLLIN, POLLOUT; -1: nothing to wait for (a name is looked up: look again soon). */
int poller_db_wait(const struct poller_db *db, short *events);

#endif
