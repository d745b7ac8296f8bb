#include "app_forward.h"

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/forward_db.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ORDER_WAIT_NS (3 * NS_S)

/* ---- names for people ---- */

static const char *type_name(enum sink_type type)
{
    switch (type) {
    case SINK_NONE:
        break;
    case SINK_HTTP:
        return "http";
    case SINK_OPENSEARCH:
        return "opensearch";
    case SINK_TIMESTREAM:
        return "timestream";
    case SINK_S3:
        return "s3";
    case SINK_CLICKHOUSE:
        return "clickhouse";
    case SINK_INFLUX:
        return "influx";
    case SINK_SLUICE:
        return "sluice";
    case SINK_FILE:
        return "file";
    }
    return "";
}

static const char *state_name(uint64_t state)
{
    static const char *const names[] = {"running", "retrying", "paused"};
    return state < ARRAY_COUNT(names) ? names[state] : "";
}

static const char *breaker_name(uint64_t state)
{
    static const char *const names[] = {"closed", "open", "half_open"};
    return state < ARRAY_COUNT(names) ? names[state] : "";
}

/* ---- what the routes may know ---- */

static void copy_counts(struct upstream_sink *to, const struct sink_picture *from)
{
    const struct sink_position *at = &from->position;
    to->durable_lsn = from->durable_lsn;
    to->start_lsn = at->start_lsn;
    to->delivered = at->delivered;
    to->pending = sink_pending(from);
    to->quarantined = at->quarantined;
    to->filtered = at->filtered;
    to->expired = at->expired;
    to->damaged = at->damaged;
    to->dropped = at->dropped;
    to->delivered_lsn = from->delivered_lsn;
    to->balances = sink_balances(from);
    to->pending_bytes = from->pending_bytes;
    to->frozen_batches = from->frozen_batches;
    to->in_flight = from->in_flight;
    to->window = from->window;
    to->requests = from->requests;
    to->retries = from->retries;
    to->refused = from->refused;
    to->bisections = from->bisections;
    to->refrozen = from->refrozen;
    to->pauses = from->pauses;
    to->breaker_opened = from->breaker_opened;
    to->body_bytes = from->delivered_bytes;
    to->sent_bytes = from->sent_bytes;
    to->oldest_pending_at_ns = from->oldest_pending_at_ns;
    to->last_success_at_ns = from->last_success_at_ns;
    to->lag_last_ns = from->lag_last_ns;
    to->lag_p50_ns = from->lag_p50_ns;
    to->lag_p99_ns = from->lag_p99_ns;
}

static void on_sink(void *context, unsigned i, struct upstream_sink *sink)
{
    struct app_forward *forward = context;
    const struct config_sink *config = forwarder_sink(forward->forwarder, i);
    struct sink_picture picture;
    sink_status_read(forwarder_status(forward->forwarder, i), &picture);
    *sink = (struct upstream_sink){0};
    (void)snprintf(sink->name, sizeof sink->name, "%s", config->name);
    (void)snprintf(sink->type, sizeof sink->type, "%s", type_name(config->type));
    (void)snprintf(sink->state, sizeof sink->state, "%s", state_name(picture.state));
    (void)snprintf(sink->breaker, sizeof sink->breaker, "%s", breaker_name(picture.breaker));
    (void)snprintf(sink->reason, sizeof sink->reason, "%.511s", picture.reason);
    copy_counts(sink, &picture);
}

static void on_poller(void *context, unsigned i, struct upstream_poller *poller)
{
    const struct app_forward *forward = context;
    app_poller_show(&forward->poller, i, poller);
}

static uint64_t on_heartbeat(void *context)
{
    struct app_forward *forward = context;
    /* The forwarder's alone: looking up the name of a dead database's host is no reason to refuse records.
     * relaxed: compared with seconds. */
    return atomic_load_explicit(&forward->agent.heartbeat_ns, memory_order_relaxed);
}

/* ---- quarantine ---- */

static void put_time(struct buf *out, const char *key, int64_t real_ns)
{
    char text[CLOCK_RFC3339_BYTES];
    size_t bytes = clock_rfc3339(text, real_ns, 9);
    buf_printf(out, ",\"%s\":\"%.*s\"", key, (int)bytes, text);
}

static void put_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ",\"%s\":", key);
    buf_put_json_string(out, (struct slice){(const uint8_t *)text, strlen(text)});
}

static void put_item(struct buf *out, const struct quarantined *item)
{
    char id[ULID_TEXT_BYTES];
    const char *kind = record_kind_name(item->record.kind);
    ulid_format(id, &item->record.id);
    buf_printf(out,
               "{\"id\":%" PRIu64 ",\"sink\":\"%s\",\"lsn\":%" PRIu64 ",\"record_id\":\"%.*s\"",
               item->id, item->sink, item->lsn, (int)sizeof id, id);
    put_text(out, "kind", kind == NULL ? "unknown" : kind);
    put_time(out, "received_at", item->received_at_ns);
    buf_printf(out, ",\"status\":%d", item->status);
    put_text(out, "reason", item->reason);
    put_time(out, "refused_at", item->refused_at_ns);
    put_text(out, "state", item->state == QUARANTINE_HELD ? "held" : "requeued");
    buf_printf(out, ",\"record_bytes\":%zu", item->record.payload.bytes);
}

struct listing {
    struct buf *out;
    unsigned shown, limit;
    uint64_t last_id;
    bool has_more;
};

static bool on_listed(void *context, const struct quarantined *item)
{
    struct listing *listing = context;
    if (listing->shown == listing->limit) {
        listing->has_more = true;
        return false;
    }
    if (listing->shown++ > 0) {
        buf_put_char(listing->out, ',');
    }
    put_item(listing->out, item);
    buf_put_char(listing->out, '}');
    listing->last_id = item->id;
    return true;
}

static int on_quarantine_list(void *context, struct slice sink, uint64_t after, unsigned limit,
                              struct buf *out, struct err *err)
{
    const struct app_forward *forward = context;
    struct forward_db *db = NULL;
    struct listing listing = {.out = out, .limit = limit};
    char name[CONFIG_SINK_NAME_MAX + 1] = {0};
    if (forward->forwarder == NULL) { /* pollers only */
        buf_put_text(out, "{\"data\":[],\"next_cursor\":null}");
        return 0;
    }
    if (sink.bytes >= sizeof name) {
        return err_set(err, -ENOENT, "there is no such sink");
    }
    if (sink.bytes != 0) {
        memcpy(name, sink.data, sink.bytes);
    }
    int r = forward_db_open_read_only(&db, forward->db_path, err);
    if (r < 0) {
        return r;
    }
    buf_put_text(out, "{\"data\":[");
    r = forward_db_quarantine_list(db, name[0] == 0 ? NULL : name, after, limit + 1, on_listed,
                                   &listing, err);
    forward_db_close(db);
    if (listing.has_more) {
        buf_printf(out, "],\"next_cursor\":%" PRIu64 "}", listing.last_id);
    } else {
        buf_put_text(out, "],\"next_cursor\":null}");
    }
    return r < 0 ? r : 0;
}

static int on_quarantine_show(void *context, uint64_t id, struct buf *out, struct err *err)
{
    const struct app_forward *forward = context;
    struct forward_db *db = NULL;
    if (forward->forwarder == NULL) {
        return 0;
    }
    int r = forward_db_open_read_only(&db, forward->db_path, err);
    if (r < 0) {
        return r;
    }
    mem_unlatch_begin();
    struct quarantined *item = mem_alloc(sizeof *item);
    mem_unlatch_end();
    r = forward_db_quarantine_get(db, id, item, err);
    if (r == 1) {
        put_item(out, item);
        buf_put_text(out, ",\"record\":");
        buf_put_slice(out, item->record.payload); /* JSON, as it was accepted */
        buf_put_char(out, '}');
    }
    mem_free(item);
    forward_db_close(db);
    return r;
}

static int on_order(void *context, enum upstream_order order, struct slice sink, uint64_t id,
                    struct err *err)
{
    static const enum forwarder_order orders[] = {[UPSTREAM_REQUEUE] = ORDER_REQUEUE,
                                                  [UPSTREAM_DROP] = ORDER_DROP,
                                                  [UPSTREAM_RESUME] = ORDER_RESUME};
    struct app_forward *forward = context;
    char name[CONFIG_SINK_NAME_MAX + 1] = {0};
    if (forward->forwarder == NULL || sink.bytes >= sizeof name) {
        return err_set(err, -ENOENT, "there is no such sink");
    }
    if (sink.bytes != 0) {
        memcpy(name, sink.data, sink.bytes);
    }
    return forwarder_order(forward->forwarder, orders[order], name[0] == 0 ? NULL : name, id,
                           ORDER_WAIT_NS, err);
}

/* ---- life ---- */

static int open_forwarder(struct app_forward *forward, const struct config *config,
                          struct store *store, struct err *err)
{
    struct forwarder_options options = {
        .data_dir = config->data_dir,
        .sinks = config->sinks,
        .sink_count = config->sink_count,
        .store = store,
        .compacts = config->compacts,
    };
    if (config->sink_count == 0) {
        return 0;
    }
    (void)snprintf(forward->db_path, sizeof forward->db_path, "%s/%s", config->data_dir,
                   FORWARD_DB_FILE);
    return forwarder_open(&forward->forwarder, &options, err);
}

int app_forward_open(struct app_forward *forward, const struct config *config, struct store *store,
                     unsigned poller_port, struct err *err)
{
    int r = open_forwarder(forward, config, store, err);
    r = r < 0 ? r : app_poller_open(&forward->poller, config, store, poller_port, err);
    if (r < 0) {
        return r;
    }
    forward->upstream = (struct upstream){
        .context = forward,
        .sink_count = config->sink_count,
        .poller_count = config->poller_count,
        .sink = on_sink,
        .poller = on_poller,
        .heartbeat_ns = on_heartbeat,
        .quarantine_list = on_quarantine_list,
        .quarantine_show = on_quarantine_show,
        .order = on_order,
    };
    return 0;
}

const struct upstream *app_forward_upstream(const struct app_forward *forward)
{
    bool is_any = forward->forwarder != NULL || forward->poller.set != NULL;
    return is_any ? &forward->upstream : NULL;
}

static int start_forwarder(struct app_forward *forward, struct err *err)
{
    const struct agent_options options = {.name = "forwarder",
                                          .role = ROLE_FORWARDER,
                                          .cpu = -1,
                                          .context = forward->forwarder,
                                          .duty = forwarder_duty};
    if (forward->forwarder == NULL) {
        return 0;
    }
    int r = agent_start(&forward->agent, &options, err);
    forward->is_running = r == 0;
    return r < 0 ? err_wrap(err, r, "start the forwarder") : 0;
}

int app_forward_start(struct app_forward *forward, struct err *err)
{
    int r = start_forwarder(forward, err);
    return r < 0 ? r : app_poller_start(&forward->poller, err);
}

void app_forward_reload(struct app_forward *forward)
{
    struct err err = {0};
    if (forward->is_running &&
        forwarder_order(forward->forwarder, ORDER_RELOAD, NULL, 0, NS_S, &err) < 0) {
        LOG(LOGLINE_ERROR, "reload_refused", "the secrets of the sinks stay as they are: %s",
            err.text);
    }
}

void app_forward_stop(struct app_forward *forward)
{
    app_poller_stop(&forward->poller);
    if (forward->is_running) {
        forwarder_stop(forward->forwarder);
        agent_join(&forward->agent);
        forward->is_running = false;
    }
    forwarder_close(forward->forwarder);
    forward->forwarder = NULL;
}

void app_forward_close(struct app_forward *forward)
{
    app_poller_close(&forward->poller);
}
