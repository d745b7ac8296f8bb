/*
 * forwarder: see forwarder.h.
 *
 * A pass: take orders - one transaction over all sinks - commit - send what is durable - tell the store what to retain - sleep in
 * transport_run until an answer comes, a wake, or something is due.
 * Failure: a commit that fails (full disk) is repeated by the deliveries; nothing is ever given up.
 * Stop: nothing new is begun; answers that still come within FORWARDER_STOP_NS are written down.
 */
#include "forward/forwarder.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery.h"
#include "forward/forward_db.h"
#include "forward/protocol.h"
#include "forward/transport.h"

#define ORDER_ITEMS_MAX 1000u /* of an order for all of a sink, in one pass */

struct order {
    enum forwarder_order what;
    const char *sink;
    uint64_t id;
    bool is_waiting; /* put, not yet done */
    bool is_run;     /* done, not yet durable */
    bool is_done;
    int result;
    struct err err;
};

struct forwarder {
    struct forwarder_options options;
    struct forward_db *db;
    struct transport *transport;
    struct delivery *deliveries[CONFIG_SINKS_MAX];
    struct sink_status *statuses; /* one array, aligned */
    uint64_t retained_lsn;
    _Atomic bool is_stopping;
    uint64_t stop_at_ns;
    uint64_t failed_at_ns; /* of the last commit that failed; 0: the last succeeded */

    pthread_mutex_t mutex; /* of order */
    pthread_cond_t done;
    struct order order;
    bool is_ordering; /* order is somebody's: one at a time */
};

/* ---- open and close ---- */

static uint64_t seed_of(unsigned i)
{
    uint64_t seed = clock_mono_ns() + i;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) {
        seed ^= (uint64_t)clock_real_ns() * UINT64_C(0x9e3779b97f4a7c15);
    }
    return seed;
}

static int open_db(struct forwarder *forwarder, struct err *err)
{
    enum forward_db_found found = FORWARD_DB_GOOD;
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", forwarder->options.data_dir, FORWARD_DB_FILE);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s", forwarder->options.data_dir);
    }
    int r =
        forward_db_open(&forwarder->db, path, store_node(forwarder->options.store), &found, err);
    if (r == 0 && found == FORWARD_DB_DAMAGED) {
        LOG(LOGLINE_ERROR, "forward_db",
            "%s was damaged or another node's: kept beside it as .damaged, made again; every sink "
            "begins as a new one; upstreams that know ids recognise what they have, others may "
            "have it "
            "twice",
            path);
    }
    return r;
}

static bool on_known_sink(void *context, const char *name, const struct sink_position *position)
{
    const struct forwarder *forwarder = context;
    bool is_configured = false;
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        is_configured |= strcmp(forwarder->options.sinks[i].name, name) == 0;
    }
    if (!is_configured) {
        LOG(LOGLINE_WARNING, "sink_unknown",
            "sink %s is not configured any more: it keeps its place (LSN %" PRIu64
            ") but records do not wait for it",
            name, position->live_next);
    }
    return true;
}

static int check_sinks(const struct forwarder *forwarder, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; i < forwarder->options.sink_count && r == 0; i++) {
        const struct config_sink *sink = &forwarder->options.sinks[i];
        r = protocol_check(sink, err);
        r = r < 0 ? err_wrap(err, r, "sink %s", sink->name) : 0;
    }
    return r;
}

static int open_deliveries(struct forwarder *forwarder, struct err *err)
{
    const struct forwarder_options *options = &forwarder->options;
    const struct store_status *status = store_status(options->store);
    for (unsigned i = 0; i < options->sink_count; i++) {
        struct delivery_options one = {
            .sink = &options->sinks[i],
            .sink_index = i,
            .node = store_node(options->store),
            .lineage = store_lineage(options->store),
            .source = {store_views(options->store), store_recent(options->store),
                       &status->durable_lsn},
            .status = status,
            .db = forwarder->db,
            .transport = forwarder->transport,
            .out = &forwarder->statuses[i],
            .seed = seed_of(i),
            .lsn_max = UINT64_MAX,
            .compacts = options->compacts,
        };
        int r = delivery_open(&forwarder->deliveries[i], &one, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void retain(struct forwarder *forwarder)
{
    uint64_t lsn = UINT64_MAX;
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        lsn = u64_min(lsn, delivery_retain_lsn(forwarder->deliveries[i]));
    }
    if (lsn != forwarder->retained_lsn) {
        forwarder->retained_lsn = lsn;
        store_set_retain_lsn(forwarder->options.store, lsn);
    }
}

static int open_order(struct forwarder *forwarder, struct err *err)
{
    pthread_condattr_t attributes;
    int r = pthread_mutex_init(&forwarder->mutex, NULL);
    r = r == 0 ? pthread_condattr_init(&attributes) : r;
    if (r == 0) {
        r = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        r = r == 0 ? pthread_cond_init(&forwarder->done, &attributes) : r;
        (void)pthread_condattr_destroy(&attributes);
    }
    return r == 0 ? 0 : err_set(err, -r, "forwarder: %s", err_name(-r));
}

int forwarder_open(struct forwarder **out, const struct forwarder_options *options, struct err *err)
{
    ASSERT(options->sink_count > 0 && options->sink_count <= CONFIG_SINKS_MAX);
    struct forwarder *forwarder = mem_alloc(sizeof *forwarder);
    forwarder->options = *options;
    forwarder->retained_lsn = UINT64_MAX;
    forwarder->statuses = mem_alloc_array(options->sink_count, sizeof *forwarder->statuses);
    int r = open_order(forwarder, err);
    if (r < 0) {
        mem_free(forwarder->statuses);
        mem_free(forwarder);
        return r;
    }
    r = check_sinks(forwarder, err);
    r = r == 0 ? open_db(forwarder, err) : r;
    r = r == 0 ? transport_open(&forwarder->transport, options->sinks, options->sink_count, err)
               : r;
    r = r == 0 ? open_deliveries(forwarder, err) : r;
    r = r == 0 ? forward_db_sinks(forwarder->db, on_known_sink, forwarder, err) : r;
    if (r < 0) {
        forwarder_close(forwarder);
        return err_wrap(err, r, "forwarder");
    }
    retain(forwarder);
    *out = forwarder;
    return 0;
}

void forwarder_close(struct forwarder *forwarder)
{
    if (forwarder == NULL) {
        return;
    }
    transport_close(forwarder->transport); /* it borrows from batches */
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        delivery_close(forwarder->deliveries[i]);
    }
    forward_db_close(forwarder->db);
    (void)pthread_cond_destroy(&forwarder->done);
    (void)pthread_mutex_destroy(&forwarder->mutex);
    mem_free(forwarder->statuses);
    mem_free(forwarder);
}

/* ---- orders ---- */

static int sink_index(const struct forwarder *forwarder, const char *name)
{
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        if (strcmp(forwarder->options.sinks[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -ENOENT;
}

struct id_list {
    uint64_t ids[ORDER_ITEMS_MAX];
    unsigned count;
};

static bool on_item(void *context, const struct quarantined *item)
{
    struct id_list *list = context;
    if (item->state == QUARANTINE_HELD) {
        list->ids[list->count++] = item->id;
    }
    return list->count < ORDER_ITEMS_MAX;
}

static int order_item(struct delivery *delivery, const struct order *order, uint64_t id,
                      struct err *err)
{
    return order->what == ORDER_REQUEUE ? delivery_requeue(delivery, id, err)
                                        : delivery_drop(delivery, id, err);
}

static int order_all(struct forwarder *forwarder, struct order *order)
{
    int i = order->sink == NULL ? -ENOENT : sink_index(forwarder, order->sink);
    if (i < 0) {
        return err_set(&order->err, -ENOENT, "there is no such sink");
    }
    struct id_list *list = mem_alloc(sizeof *list);
    int done = 0;
    int r = forward_db_quarantine_list(forwarder->db, order->sink, 0, UINT32_MAX, on_item, list,
                                       &order->err);
    for (unsigned n = 0; n < list->count && r >= 0; n++) {
        r = order_item(forwarder->deliveries[i], order, list->ids[n], &order->err);
        done += r == 0;
    }
    mem_free(list);
    return done > 0 ? done : r < 0 ? r : 0;
}

static int order_one(struct forwarder *forwarder, struct order *order)
{
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        bool is_it =
            order->sink == NULL || strcmp(order->sink, forwarder->options.sinks[i].name) == 0;
        int r =
            is_it ? order_item(forwarder->deliveries[i], order, order->id, &order->err) : -ENOENT;
        if (r != -ENOENT) {
            return r == 0 ? 1 : r;
        }
    }
    return err_set(&order->err, -ENOENT,
                   "there is no record %" PRIu64 " in quarantine of a configured sink", order->id);
}

static int order_run(struct forwarder *forwarder, struct order *order)
{
    int i = 0;
    switch (order->what) {
    case ORDER_REQUEUE:
    case ORDER_DROP:
        return order->id == 0 ? order_all(forwarder, order) : order_one(forwarder, order);
    case ORDER_RESUME:
        i = order->sink == NULL ? -ENOENT : sink_index(forwarder, order->sink);
        if (i < 0) {
            return err_set(&order->err, -ENOENT, "there is no such sink");
        }
        delivery_resume(forwarder->deliveries[i]);
        return 0;
    case ORDER_RELOAD:
        return transport_reload(forwarder->transport, &order->err);
    }
    return -EINVAL;
}

static void take_order(struct forwarder *forwarder)
{
    (void)pthread_mutex_lock(&forwarder->mutex);
    struct order *order = &forwarder->order;
    if (order->is_waiting) {
        order->is_waiting = false;
        order->result = order_run(forwarder, order);
        order->is_run = true;
    }
    (void)pthread_mutex_unlock(&forwarder->mutex);
}

static bool is_written(const struct forwarder *forwarder)
{
    bool is_clean = true;
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        is_clean = is_clean && delivery_is_written(forwarder->deliveries[i]);
    }
    return is_clean;
}

/* What the order wanted is committed, with this pass or, after a commit that failed, with a later one. */
static void end_order(struct forwarder *forwarder)
{
    (void)pthread_mutex_lock(&forwarder->mutex);
    struct order *order = &forwarder->order;
    if (order->is_run && is_written(forwarder)) {
        order->is_run = false;
        order->is_done = true;
        (void)pthread_cond_broadcast(&forwarder->done);
    }
    (void)pthread_mutex_unlock(&forwarder->mutex);
}

static struct timespec at_ns(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_S), .tv_nsec = (long)(ns % NS_S)};
}

/* Waits while condition holds, at most until end; false: too late. */
static bool wait_while(struct forwarder *forwarder, const bool *condition, bool value,
                       uint64_t end_ns)
{
    struct timespec end = at_ns(end_ns);
    int r = 0;
    while (*condition == value && r == 0) { /* bounded by end */
        r = pthread_cond_timedwait(&forwarder->done, &forwarder->mutex, &end);
    }
    return *condition != value;
}

int forwarder_order(struct forwarder *forwarder, enum forwarder_order what, const char *sink,
                    uint64_t id, uint64_t wait_ns, struct err *err)
{
    uint64_t end_ns = clock_mono_ns() + wait_ns;
    int r = -ETIMEDOUT;
    (void)pthread_mutex_lock(&forwarder->mutex);
    struct order *order = &forwarder->order;
    if (wait_while(forwarder, &forwarder->is_ordering, true, end_ns)) {
        forwarder->is_ordering = true;
        *order = (struct order){.what = what, .sink = sink, .id = id, .is_waiting = true};
        transport_wake(forwarder->transport);
        if (wait_while(forwarder, &order->is_done, false, end_ns)) {
            r = order->result;
            if (r < 0) {
                (void)err_set(err, r, "%s", order->err.text);
            }
        }
        order->is_waiting =
            false; /* too late: it shall not happen any more, sink is the caller's */
        forwarder->is_ordering = false;
        (void)pthread_cond_broadcast(&forwarder->done);
    }
    (void)pthread_mutex_unlock(&forwarder->mutex);
    return r == -ETIMEDOUT ? err_set(err, r, "the forwarder did not answer in time") : r;
}

/* ---- the pass ---- */

static void after_failure(struct forwarder *forwarder, uint64_t now_ns, const struct err *err)
{
    if (forwarder->failed_at_ns == 0) {
        forwarder->failed_at_ns = now_ns;
    }
    LOG(LOGLINE_ERROR, "forward_db",
        "%s; nothing is lost: what is under way stays so, and this is tried again each second",
        err->text);
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        delivery_after_rollback(forwarder->deliveries[i], now_ns);
    }
}

static int collect(struct forwarder *forwarder, struct err *err)
{
    bool has_changed = false;
    int r = forward_db_begin(forwarder->db, err);
    for (unsigned i = 0; i < forwarder->options.sink_count && r == 0; i++) {
        bool has_one = false;
        r = delivery_collect(forwarder->deliveries[i], clock_mono_ns(), &has_one, err);
        has_changed |= has_one;
    }
    if (r == 0) {
        r = forward_db_commit(forwarder->db, err); /* ends the pass, also when it fails */
    } else {
        forward_db_rollback(forwarder->db);
    }
    return r < 0 ? r : has_changed;
}

static uint64_t pass(struct forwarder *forwarder)
{
    struct err err = {0};
    int r = collect(forwarder, &err);
    uint64_t now_ns = clock_mono_ns();
    if (r < 0) {
        after_failure(forwarder, now_ns, &err);
    } else if (r > 0 && forwarder->failed_at_ns != 0) {
        LOG(LOGLINE_INFO, "forward_db", "positions are written again, after %" PRIu64 " s",
            (now_ns - forwarder->failed_at_ns) / NS_S);
        forwarder->failed_at_ns = 0;
    }
    uint64_t due_ns = now_ns + FORWARDER_LOOK_NS;
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        if (r >= 0) {
            delivery_after_commit(forwarder->deliveries[i], clock_mono_ns());
        }
        due_ns = u64_min(due_ns, delivery_due_ns(forwarder->deliveries[i]));
    }
    if (r >= 0) {
        end_order(forwarder);
    }
    retain(forwarder);
    return due_ns;
}

/* Nothing is under way any more, or the time is up. */
static bool is_stopped(struct forwarder *forwarder, uint64_t now_ns)
{
    if (forwarder->stop_at_ns == 0) {
        forwarder->stop_at_ns = now_ns + FORWARDER_STOP_NS;
        for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
            delivery_stop(forwarder->deliveries[i]);
        }
    }
    bool is_idle = true;
    for (unsigned i = 0; i < forwarder->options.sink_count; i++) {
        is_idle = is_idle && delivery_is_idle(forwarder->deliveries[i]);
    }
    return is_idle || now_ns >= forwarder->stop_at_ns;
}

int forwarder_duty(void *context)
{
    struct forwarder *forwarder = context;
    ASSERT_ROLE(ROLE_FORWARDER);
    take_order(forwarder);
    uint64_t due_ns = pass(forwarder);
    uint64_t now_ns = clock_mono_ns();
    /* acquire: pairs with the release in forwarder_stop; the flag is the message. */
    if (atomic_load_explicit(&forwarder->is_stopping, memory_order_acquire) &&
        is_stopped(forwarder, now_ns)) {
        return 1;
    }
    uint64_t wait_ns = due_ns <= now_ns ? 0 : due_ns - now_ns;
    transport_run(forwarder->transport, (unsigned)((wait_ns + NS_MS - 1) / NS_MS));
    return 0;
}

void forwarder_stop(struct forwarder *forwarder)
{
    /* release: see forwarder_duty. */
    atomic_store_explicit(&forwarder->is_stopping, true, memory_order_release);
    transport_wake(forwarder->transport);
}

unsigned forwarder_sink_count(const struct forwarder *forwarder)
{
    return forwarder->options.sink_count;
}

const struct config_sink *forwarder_sink(const struct forwarder *forwarder, unsigned i)
{
    ASSERT(i < forwarder->options.sink_count);
    return &forwarder->options.sinks[i];
}

struct sink_status *forwarder_status(struct forwarder *forwarder, unsigned i)
{
    ASSERT(i < forwarder->options.sink_count);
    return &forwarder->statuses[i];
}
