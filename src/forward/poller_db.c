#include "forward/poller_db.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "forward/poller_name.h"

#define CONNECT_TIMEOUT_S_DEFAULT 10u
#define CONNECT_TIMEOUT_S_MAX     600u
#define HOSTS_MAX                 8u

struct conninfo {
    unsigned timeout_s; /* of a host */
    unsigned hosts;
    bool has_tcp_timeout, has_address;
    char host[POLLER_NAME_HOST_MAX];
};

struct poller_db {
    const char *text; /* the conninfo; borrowed */
    struct conninfo info;
    char application[64];
    struct poller_name *name; /* the host's name is being looked up: no conn yet */
    PGconn *conn;
    PGresult *result; /* that is shown */
    short events;     /* what a connect or a send waits for */
};

static void drop_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

/* libpq's texts have several lines. One, without the end, and no longer than a reason. */
static int fail(struct err *err, int code, const char *text)
{
    char line[200];
    size_t bytes = 0;
    for (const char *from = text; *from != 0 && bytes < sizeof line - 3; from++) {
        if (*from != '\n') {
            line[bytes++] = (unsigned char)*from < ' ' ? ' ' : *from;
        } else if (from[1] != 0) {
            line[bytes++] = ';';
            line[bytes++] = ' ';
        }
    }
    line[bytes] = 0;
    return err_set(err, code, "%s", line[0] == 0 ? "the connection is gone" : line);
}

static unsigned hosts_in(const char *list)
{
    unsigned count = 1;
    for (const char *at = strchr(list, ','); at != NULL && count < HOSTS_MAX;
         at = strchr(at + 1, ',')) {
        count++;
    }
    return count;
}

static bool is_option(const PQconninfoOption *option, const char *keyword)
{
    return option->val != NULL && strcmp(option->keyword, keyword) == 0;
}

/* What the conninfo says itself is not overridden, but for what identifies us and what the texts are in. */
static int read_conninfo(struct conninfo *info, const char *text, struct err *err)
{
    char *why = NULL;
    *info = (struct conninfo){.timeout_s = CONNECT_TIMEOUT_S_DEFAULT, .hosts = 1};
    PQconninfoOption *options = PQconninfoParse(text, &why);
    if (options == NULL) {
        int r = fail(err, -EINVAL, why == NULL ? "conninfo cannot be read" : why);
        PQfreemem(why);
        return r;
    }
    for (const PQconninfoOption *at = options; at->keyword != NULL; at++) {
        unsigned seconds = 0;
        if (is_option(at, "host") || is_option(at, "hostaddr")) {
            info->hosts = (unsigned)u64_max(info->hosts, hosts_in(at->val));
        }
        if (is_option(at, "host")) {
            (void)snprintf(info->host, sizeof info->host, "%s", at->val);
        }
        if (is_option(at, "connect_timeout") && sscanf(at->val, "%u", &seconds) == 1 &&
            seconds > 0) {
            info->timeout_s = (unsigned)u64_max(2, u64_min(seconds, CONNECT_TIMEOUT_S_MAX));
        }
        info->has_tcp_timeout |= is_option(at, "tcp_user_timeout");
        info->has_address |= is_option(at, "hostaddr");
    }
    PQconninfoFree(options);
    return 0;
}

/* hosts, addresses: "" : those of the conninfo; else lists of the same length. */
static int start(struct poller_db *db, const char *hosts, const char *addresses, struct err *err)
{
    char tcp_timeout_ms[16];
    /* The kernel gives a host up that does not answer, and libpq goes on with the next one of the list. */
    (void)snprintf(tcp_timeout_ms, sizeof tcp_timeout_ms, "%u", db->info.timeout_s * 1000);
    /* The later of two counts; dbname is expanded as a conninfo; an empty value is none. */
    const char *const names[] = {"dbname",
                                 "application_name",
                                 "client_encoding",
                                 "tcp_user_timeout",
                                 hosts[0] == 0 ? NULL : "host",
                                 "hostaddr",
                                 NULL};
    const char *const values[] = {
        db->text, db->application, "UTF8", db->info.has_tcp_timeout ? NULL : tcp_timeout_ms,
        hosts,    addresses,       NULL};
    db->conn = PQconnectStartParams(names, values, 1);
    if (db->conn == NULL) {
        return err_set(err, -ENOMEM, "no memory for a connection"); /* UNTESTED: as it says */
    }
    (void)PQsetNoticeReceiver(db->conn, drop_notice, NULL);
    db->events = POLLOUT;
    return PQstatus(db->conn) == CONNECTION_BAD ? fail(err, -ENOTCONN, PQerrorMessage(db->conn))
                                                : 0;
}

static int begin(struct poller_db *db, struct err *err)
{
    int r = read_conninfo(&db->info, db->text, err);
    if (r < 0) {
        return r;
    }
    if (!db->info.has_address && poller_name_is_needed(db->info.host)) {
        return poller_name_open(&db->name, db->info.host, err);
    }
    return start(db, "", "", err);
}

int poller_db_open(struct poller_db **db, const char *conninfo, const char *application,
                   struct err *err)
{
    struct poller_db *made = mem_alloc(sizeof *made);
    made->text = conninfo;
    (void)snprintf(made->application, sizeof made->application, "%s", application);
    int r = begin(made, err);
    if (r < 0) {
        poller_db_close(made);
        return r;
    }
    *db = made;
    return 0;
}

void poller_db_close(struct poller_db *db)
{
    if (db == NULL) {
        return;
    }
    poller_name_close(db->name);
    PQclear(db->result);
    PQfinish(db->conn);
    mem_free(db);
}

uint64_t poller_db_connect_timeout_ns(const struct poller_db *db)
{
    return db->info.timeout_s * db->info.hosts * NS_S;
}

/* The name is asked for; then as libpq would go on: each address, under the same name (which certificates and passfiles know). */
static int look_up(struct poller_db *db, struct err *err)
{
    char addresses[POLLER_ADDRESSES_MAX * 64];
    char hosts[POLLER_ADDRESSES_MAX * (POLLER_NAME_HOST_MAX + 1)];
    struct buf of_addresses;
    struct buf of_hosts;
    unsigned count = 0;
    buf_init(&of_addresses, addresses, sizeof addresses);
    buf_init(&of_hosts, hosts, sizeof hosts);
    int r = poller_name_step(db->name, &of_addresses, &count, err);
    if (r <= 0) {
        return r;
    }
    for (unsigned i = 0; i < count; i++) {
        buf_printf(&of_hosts, "%s%s", i == 0 ? "" : ",", db->info.host);
    }
    buf_put_char(&of_hosts, 0);
    ASSERT(!of_hosts.is_truncated);
    poller_name_close(db->name);
    db->name = NULL;
    db->info.hosts = count;
    return start(db, hosts, addresses, err);
}

static int on_connected(struct poller_db *db, struct err *err)
{
    int version = PQserverVersion(db->conn);
    if (version < POLLER_SERVER_VERSION_MIN) {
        return err_set(err, -ENOTSUP, "PostgreSQL 13 or later is needed, this is %d.%d",
                       version / 10000, version % 10000);
    }
    if (PQsetnonblocking(db->conn, 1) != 0) {
        return fail(err, -ENOTCONN, PQerrorMessage(db->conn)); /* UNTESTED: libpq has no memory */
    }
    db->events = POLLIN;
    return 1;
}

int poller_db_connect(struct poller_db *db, struct err *err)
{
    if (db->conn == NULL) {
        return look_up(db, err);
    }
    switch (PQconnectPoll(db->conn)) {
    case PGRES_POLLING_READING:
        db->events = POLLIN;
        return 0;
    case PGRES_POLLING_WRITING:
        db->events = POLLOUT;
        return 0;
    case PGRES_POLLING_OK:
        return on_connected(db, err);
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
        break;
    }
    return fail(err, -ENOTCONN, PQerrorMessage(db->conn));
}

static int flush(struct poller_db *db, struct err *err)
{
    int r = PQflush(db->conn);
    db->events = r == 1 ? POLLIN | POLLOUT : POLLIN;
    return r < 0 ? fail(err, -ENOTCONN, PQerrorMessage(db->conn)) : 0;
}

int poller_db_send(struct poller_db *db, const char *sql, struct err *err)
{
    if (PQsendQuery(db->conn, sql) != 1) {
        return fail(err, -ENOTCONN, PQerrorMessage(db->conn));
    }
    /* Rows as they come, not the whole answer first: memory does not depend on how many there are. */
    (void)PQsetSingleRowMode(db->conn);
    return flush(db, err);
}

static int query_failed(const struct poller_db *db, struct err *err)
{
    char text[400];
    const char *state = PQresultErrorField(db->result, PG_DIAG_SQLSTATE);
    const char *what = PQresultErrorField(db->result, PG_DIAG_MESSAGE_PRIMARY);
    if (what == NULL || state == NULL) {
        return fail(err, -ENOTCONN, PQresultErrorMessage(db->result));
    }
    (void)snprintf(text, sizeof text, "the database says: %s (SQLSTATE %s)", what, state);
    return fail(err, -EIO, text);
}

int poller_db_next(struct poller_db *db, struct err *err)
{
    PQclear(db->result);
    db->result = NULL;
    int r = flush(db, err);
    if (r < 0) {
        return r;
    }
    /* At most as many turns as the message has statements: rows return. */
    for (;;) {
        if (PQisBusy(db->conn)) {
            if (PQconsumeInput(db->conn) != 1) {
                return fail(err, -ENOTCONN, PQerrorMessage(db->conn));
            }
            if (PQisBusy(db->conn)) {
                return POLLER_DB_WAIT;
            }
        }
        db->result = PQgetResult(db->conn);
        if (db->result == NULL) {
            return POLLER_DB_DONE;
        }
        ExecStatusType status = PQresultStatus(db->result);
        if (status == PGRES_SINGLE_TUPLE) {
            return POLLER_DB_ROW;
        }
        if (status == PGRES_TUPLES_OK) {
            return POLLER_DB_TABLE;
        }
        if (status != PGRES_COMMAND_OK) {
            return query_failed(db, err);
        }
        PQclear(db->result);
        db->result = NULL;
    }
}

unsigned poller_db_values(const struct poller_db *db, struct poller_value *values, unsigned room)
{
    ASSERT(db->result != NULL);
    unsigned count = (unsigned)PQnfields(db->result);
    for (unsigned i = 0; i < count && i < room; i++) {
        values[i] = (struct poller_value){
            .is_null = PQgetisnull(db->result, 0, (int)i) != 0,
            .text = {(const uint8_t *)PQgetvalue(db->result, 0, (int)i),
                     (size_t)PQgetlength(db->result, 0, (int)i)},
        };
    }
    return count;
}

unsigned poller_db_columns(const struct poller_db *db, struct poller_column *columns, unsigned room)
{
    ASSERT(db->result != NULL);
    unsigned count = (unsigned)PQnfields(db->result);
    for (unsigned i = 0; i < count && i < room; i++) {
        columns[i] = (struct poller_column){.name = PQfname(db->result, (int)i),
                                            .type = PQftype(db->result, (int)i)};
    }
    return count;
}

int poller_db_wait(const struct poller_db *db, short *events)
{
    *events = db->events;
    return db->conn == NULL ? -1 : PQsocket(db->conn);
}
