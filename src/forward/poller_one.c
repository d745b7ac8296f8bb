#include "forward/poller_one.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/retry.h"

#define TURNS_MAX     1024u /* rows or steps of one call: some milliseconds; then the others */
#define ROOM_LOOK_NS  (20 * NS_MS) /* for room in the ring */
#define STORE_LOOK_NS NS_S         /* for a log that takes no records now */
#define HUNG_NS       (5 * NS_S)   /* what a server may be late with its own time-out */
#define COLUMNS_SEEN  1664u        /* MaxTupleAttributeNumber: no table has more */

static const struct backoff_options backoff = {.min_ns = 250 * NS_MS, .max_ns = 60 * NS_S};

void poller_one_init(struct poller_one *one, const struct config_poller *config, unsigned index,
                     struct poller_shared *shared, uint64_t seed)
{
    *one = (struct poller_one){.config = config,
                               .shared = shared,
                               .index = index,
                               .rows_now = config->rows_max,
                               .wake_at_ns = UINT64_MAX,
                               .random = seed | 1};
    one->shape = mem_alloc(sizeof *one->shape);
    one->page_memory = mem_alloc(shared->page_bytes);
    poller_shape_init(one->shape, config);
}

void poller_one_free(struct poller_one *one)
{
    poller_db_close(one->db);
    mem_free(one->shape);
    mem_free(one->page_memory);
    one->db = NULL;
}

static struct slice identity_of(const struct poller_one *one)
{
    const char *text = one->shape->identity;
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

void poller_one_begin(struct poller_one *one, const struct poller_place *place)
{
    struct poller_value keys[POLLER_KEYS_MAX];
    one->place = *place;
    one->mark = place->mark;
    one->wake_at_ns = 0;
    if (place->mark.bytes == 0) {
        LOG(LOGLINE_INFO, "poller",
            "poller %s: the log has no mark of it: it begins with the first row of %s",
            one->config->name, one->config->table);
    } else if (poller_mark_decode(&place->mark, identity_of(one), keys, one->shape->key_count) <
               0) {
        LOG(LOGLINE_WARNING, "poller",
            "poller %s: its last mark (LSN %" PRIu64
            ") is of another table or other key columns than %s: it begins with the first row of "
            "that",
            one->config->name, place->mark_lsn, one->shape->identity);
        one->mark.bytes = 0;
    }
}

/* ---- trouble ---- */

static uint64_t random_next(struct poller_one *one)
{
    one->random ^= one->random << 13;
    one->random ^= one->random >> 7;
    one->random ^= one->random << 17;
    return one->random;
}

/* Said when it is new; counted always. */
static void note_trouble(struct poller_one *one, const char *why)
{
    char reason[sizeof one->counts.reason];
    (void)snprintf(reason, sizeof reason, "%.255s", why);
    one->counts.errors++;
    one->failures++;
    if (strcmp(reason, one->counts.reason) != 0) {
        LOG(LOGLINE_WARNING, "poller_trouble", "poller %s: %s", one->config->name, reason);
    }
    memcpy(one->counts.reason, reason, sizeof reason);
}

static void note_well(struct poller_one *one)
{
    one->failures = 0;
    if (one->counts.reason[0] != 0) {
        LOG(LOGLINE_INFO, "poller", "poller %s: goes on (it was: %s)", one->config->name,
            one->counts.reason);
        memset(one->counts.reason, 0, sizeof one->counts.reason);
    }
}

/* The database, or the way to it. */
static void fail(struct poller_one *one, const struct err *err, uint64_t now_ns)
{
    uint64_t wait_ns;
    note_trouble(one, err->text);
    wait_ns = backoff_ns(&backoff, one->failures, 0, random_next(one));
    if (one->state != POLLER_OFF && one->state != POLLER_CONNECTING) {
        wait_ns = u64_max(wait_ns,
                          one->config->interval_ns); /* it was asked: not oftener than configured */
    }
    poller_db_close(one->db);
    one->db = NULL;
    one->counts.is_connected = false;
    one->state = POLLER_OFF;
    one->wake_at_ns = now_ns + wait_ns;
}

static bool is_late(struct poller_one *one, const char *what, uint64_t now_ns)
{
    struct err err = {0};
    if (now_ns < one->deadline_ns) {
        return false;
    }
    (void)err_set(&err, -ETIMEDOUT, "%s", what);
    fail(one, &err, now_ns);
    return true;
}

/* ---- the states. True: go on at once ---- */

static bool on_off(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    char application[8 + CONFIG_SINK_NAME_MAX];
    if (now_ns < one->wake_at_ns) {
        return false;
    }
    (void)snprintf(application, sizeof application, "sluice/%s", one->config->name);
    if (poller_db_open(&one->db, one->config->conninfo, application, &err) < 0) {
        fail(one, &err, now_ns);
        return false;
    }
    one->look_at_ns = now_ns;
    one->deadline_ns = now_ns + poller_db_connect_timeout_ns(one->db);
    one->state = POLLER_CONNECTING;
    return false; /* what PQconnectPoll needs first is a writable socket */
}

static bool send_query(struct poller_one *one, enum poller_state next, uint64_t now_ns)
{
    struct err err = {0};
    if (poller_db_send(one->db, (const char *)one->shared->sql.data, &err) < 0) {
        fail(one, &err, now_ns);
        return false;
    }
    one->deadline_ns = now_ns + one->config->statement_timeout_ns + HUNG_NS;
    one->state = next;
    return true;
}

static bool on_connecting(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    int r = poller_db_connect(one->db, &err);
    if (r < 0) {
        fail(one, &err, now_ns);
        return false;
    }
    if (r == 0) {
        one->deadline_ns = one->look_at_ns + poller_db_connect_timeout_ns(one->db);
        return is_late(one, "no connection within its connect_timeout", now_ns);
    }
    one->counts.reconnects += one->was_connected;
    one->counts.is_connected = one->was_connected = true;
    r = poller_query_describe(&one->shared->sql, one->config);
    ASSERT(r == 0); /* names are bounded */
    return send_query(one, POLLER_DESCRIBING, now_ns);
}

static int take_columns(struct poller_one *one, struct err *err)
{
    struct poller_column columns[COLUMNS_SEEN];
    unsigned count = poller_db_columns(one->db, columns, COLUMNS_SEEN);
    return poller_shape_take(one->shape, one->config, columns,
                             (unsigned)u64_min(count, COLUMNS_SEEN), err);
}

static bool on_describing(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    int r = poller_db_next(one->db, &err);
    if (r == POLLER_DB_TABLE) {
        r = take_columns(one, &err);
    }
    if (r < 0) {
        fail(one, &err, now_ns);
        return false;
    }
    if (r == POLLER_DB_DONE) {
        one->state = POLLER_IDLE;
        one->wake_at_ns = now_ns;
        return true;
    }
    return r != POLLER_DB_WAIT || is_late(one, "the database does not answer", now_ns);
}

/* The SELECT behind the place. */
static int write_look(struct poller_one *one)
{
    struct poller_value keys[POLLER_KEYS_MAX];
    bool has_mark = one->mark.bytes != 0;
    if (has_mark) {
        int r = poller_mark_decode(&one->mark, identity_of(one), keys, one->shape->key_count);
        ASSERT(r == 0); /* checked in poller_one_begin, ours since */
    }
    return poller_query_look(&one->shared->sql, one->config, one->shape, has_mark ? keys : NULL,
                             one->rows_now);
}

static bool on_idle(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    if (now_ns < one->wake_at_ns) {
        return false;
    }
    /* relaxed: a state that is one pass old costs a look whose page is refused. */
    if (atomic_load_explicit(&one->shared->status->state, memory_order_relaxed) != STORE_OK) {
        note_trouble(one, "waits: the log takes no records now");
        one->wake_at_ns = now_ns + STORE_LOOK_NS;
        return false;
    }
    if (write_look(one) < 0) {
        (void)err_set(&err, ERR_LIMIT,
                      "the names of its columns make too long a query: make a view");
        fail(one, &err, now_ns); /* UNTESTED: 400 names of 63 quotes each */
        return false;
    }
    poller_page_begin(&one->page, one->config, one->shape, one->page_memory,
                      one->shared->page_bytes);
    one->rows_seen = 0;
    one->look_at_ns = now_ns;
    return send_query(one, POLLER_LOOKING, now_ns);
}

static void take_row(struct poller_one *one)
{
    struct poller_value values[POLLER_KEYS_MAX + POLLER_COLUMNS_MAX];
    unsigned count = poller_db_values(one->db, values, ARRAY_COUNT(values));
    ASSERT(count == one->shape->key_count + one->shape->value_count); /* we named the columns */
    one->rows_seen++;
    poller_page_add(&one->page, values);
}

static bool on_looked(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    one->counts.looks++;
    one->counts.last_look_at_ns = clock_real_ns();
    if (poller_page_end(&one->page) < 0) {
        (void)err_set(&err, ERR_LIMIT,
                      "more rows share one (time, step, metric) than a request can hold: they are "
                      "taken together or not at all");
        fail(one, &err, now_ns);
        return false;
    }
    note_well(one);
    one->state = POLLER_SUBMITTING;
    one->wake_at_ns = 0;
    return true;
}

static bool on_looking(struct poller_one *one, uint64_t now_ns)
{
    struct err err = {0};
    int r = poller_db_next(one->db, &err);
    if (r < 0) {
        fail(one, &err, now_ns);
        return false;
    }
    if (r == POLLER_DB_ROW) {
        take_row(one);
    }
    if (r == POLLER_DB_DONE) {
        return on_looked(one, now_ns);
    }
    return r != POLLER_DB_WAIT || is_late(one, "the database does not answer", now_ns);
}

static void say_invalid(struct poller_one *one, uint64_t count, const char *why)
{
    one->counts.invalid += count;
    if (count != 0 && !one->has_said_invalid) {
        one->has_said_invalid = true;
        LOG(LOGLINE_WARNING, "poller_invalid",
            "poller %s: values that cannot be metrics are left out and counted, the first: %s",
            one->config->name, why);
    }
}

/* The page is done with: the mark moves. */
static void move_on(struct poller_one *one, uint64_t now_ns)
{
    bool is_more = one->page.is_full || one->rows_seen >= one->rows_now;
    if (one->page.mark.bytes != 0) {
        one->mark = one->page.mark;
    }
    one->counts.rows += one->page.rows;
    say_invalid(one, one->page.invalid, one->page.invalid_why);
    /* As many as fit, so that no row is sent for nothing; then more again. */
    one->rows_now = one->page.is_full ? u64_max(one->page.rows, 1)
                                      : u64_min(2 * one->rows_now, one->config->rows_max);
    one->state = POLLER_IDLE;
    one->wake_at_ns = is_more ? now_ns : one->look_at_ns + one->config->interval_ns;
}

static bool on_submitting(struct poller_one *one, uint64_t now_ns)
{
    const char *name = one->config->name;
    struct poller_submitted submitted = {0};
    struct poller_request request = {
        .who = one->index,
        .body = {one->page.body.data, one->page.body.bytes},
        .mark = {.source = {(const uint8_t *)name, strlen(name)},
                 .mark = {one->page.mark.data, one->page.mark.bytes}},
        .now_ns = now_ns,
        .real_ns = clock_real_ns(),
    };
    if (now_ns < one->wake_at_ns) {
        return false;
    }
    if (request.body.bytes != 0 &&
        poller_port_submit(one->shared->port, &request, &submitted) < 0) {
        one->wake_at_ns = now_ns + ROOM_LOOK_NS;
        return false;
    }
    one->page_records = submitted.records;
    one->time_max_ns = submitted.time_max_ns;
    say_invalid(one, submitted.rejected, submitted.why);
    if (submitted.records == 0) { /* nothing that could carry the mark: it moves in memory alone */
        move_on(one, now_ns);
        return false;
    }
    one->state = POLLER_WAITING;
    return false;
}

void poller_one_on_ack(struct poller_one *one, const struct poller_ack *ack, uint64_t now_ns)
{
    ASSERT(one->state == POLLER_WAITING);
    if (ack->cause != 0) {
        note_trouble(one, ack->cause == FAILED_STOP ? "waits: the log is being closed"
                                                    : "waits: the log cannot be written now");
        one->state = POLLER_IDLE;
        one->wake_at_ns = now_ns + u64_max(STORE_LOOK_NS, one->config->interval_ns);
        return;
    }
    one->counts.records += one->page_records;
    one->counts.last_row_at_ns = one->time_max_ns;
    one->place.mark_lsn = ack->last_lsn;
    one->place.mark = one->page.mark;
    move_on(one, now_ns);
}

static bool turn(struct poller_one *one, uint64_t now_ns)
{
    switch (one->state) {
    case POLLER_OFF:
        return on_off(one, now_ns);
    case POLLER_CONNECTING:
        return on_connecting(one, now_ns);
    case POLLER_DESCRIBING:
        return on_describing(one, now_ns);
    case POLLER_IDLE:
        return on_idle(one, now_ns);
    case POLLER_LOOKING:
        return on_looking(one, now_ns);
    case POLLER_SUBMITTING:
        return on_submitting(one, now_ns);
    case POLLER_WAITING:
        break;
    }
    return false;
}

uint64_t poller_one_step(struct poller_one *one, uint64_t now_ns)
{
    unsigned turns = 0;
    while (turns < TURNS_MAX && turn(one, now_ns)) {
        turns++;
    }
    if (turns == TURNS_MAX) {
        return now_ns;
    }
    switch (one->state) {
    case POLLER_OFF:
    case POLLER_IDLE:
    case POLLER_SUBMITTING:
        return one->wake_at_ns;
    case POLLER_CONNECTING:
    case POLLER_DESCRIBING:
    case POLLER_LOOKING:
        return one->deadline_ns;
    case POLLER_WAITING:
        break;
    }
    return UINT64_MAX;
}

int poller_one_wait(const struct poller_one *one, short *events)
{
    bool is_waiting = one->state == POLLER_CONNECTING || one->state == POLLER_DESCRIBING ||
                      one->state == POLLER_LOOKING;
    return is_waiting ? poller_db_wait(one->db, events) : -1;
}
