#include "api/upstream_view.h"

#include <string.h>

#include "core/clock.h"

unsigned upstream_view_sinks(const struct upstream *upstream)
{
    return upstream == NULL ? 0 : (unsigned)u64_min(upstream->sink_count, UPSTREAM_SINKS_MAX);
}

unsigned upstream_view_pollers(const struct upstream *upstream)
{
    return upstream == NULL ? 0 : (unsigned)u64_min(upstream->poller_count, UPSTREAM_POLLERS_MAX);
}

/* A text in an array, whole even where nothing ends it. */
static struct slice text_of(const char *text, size_t room)
{
    return (struct slice){(const uint8_t *)text, strnlen(text, room)};
}

#define TEXT_OF(array) text_of((array), sizeof(array))

bool upstream_view_has_sink(const struct upstream *upstream, struct slice name)
{
    for (unsigned i = 0; i < upstream_view_sinks(upstream); i++) {
        struct upstream_sink sink = {0};
        upstream->sink(upstream->context, i, &sink);
        if (slice_equal(TEXT_OF(sink.name), name)) {
            return true;
        }
    }
    return false;
}

/* ---- the ledger ---- */

uint64_t upstream_view_durable(const struct upstream_sink *sink)
{
    return sink->durable_lsn + 1 - sink->start_lsn;
}

int64_t upstream_view_sink_imbalance(const struct upstream_sink *sink)
{
    uint64_t known = sink->delivered + sink->pending + sink->expired + sink->damaged +
                     sink->dropped + sink->quarantined + sink->filtered;
    int64_t difference = (int64_t)(upstream_view_durable(sink) - known);
    return difference == 0 && !sink->balances ? 1 : difference;
}

int64_t upstream_view_imbalance(const struct upstream *upstream)
{
    int64_t imbalance = 0;
    for (unsigned i = 0; imbalance == 0 && i < upstream_view_sinks(upstream); i++) {
        struct upstream_sink sink = {0};
        upstream->sink(upstream->context, i, &sink);
        imbalance = upstream_view_sink_imbalance(&sink);
    }
    return imbalance;
}

/* ---- members ---- */

static void put_number(struct buf *out, const char *name, uint64_t value)
{
    buf_put_text(out, ",\"");
    buf_put_text(out, name);
    buf_put_text(out, "\":");
    buf_put_u64(out, value);
}

static void put_text(struct buf *out, const char *name, struct slice text)
{
    buf_put_text(out, ",\"");
    buf_put_text(out, name);
    buf_put_text(out, "\":");
    buf_put_json_string(out, text);
}

/* null for no text. */
static void put_reason(struct buf *out, struct slice text)
{
    if (text.bytes == 0) {
        buf_put_text(out, ",\"reason\":null");
    } else {
        put_text(out, "reason", text);
    }
}

/* null for no time. */
static void put_time(struct buf *out, const char *name, int64_t real_ns)
{
    char time[CLOCK_RFC3339_BYTES];
    if (real_ns == 0) {
        buf_printf(out, ",\"%s\":null", name);
        return;
    }
    size_t bytes = clock_rfc3339(time, real_ns, 3);
    buf_printf(out, ",\"%s\":\"%.*s\"", name, (int)bytes, time);
}

static void put_bool(struct buf *out, const char *name, bool value)
{
    buf_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

/* Without the comma before: it comes first. */
static void put_account(struct buf *out, const struct upstream_sink *sink)
{
    buf_put_text(out, "\"durable\":");
    buf_put_u64(out, upstream_view_durable(sink));
    put_number(out, "delivered", sink->delivered);
    put_number(out, "pending", sink->pending);
    buf_put_text(out, ",\"expired\":{\"retention\":");
    buf_put_u64(out, sink->expired);
    put_number(out, "damaged", sink->damaged);
    put_number(out, "dropped", sink->dropped);
    buf_put_char(out, '}');
    put_number(out, "quarantined", sink->quarantined);
    put_number(out, "filtered", sink->filtered);
    put_bool(out, "balances", upstream_view_sink_imbalance(sink) == 0);
    put_number(out, "start_lsn", sink->start_lsn);
    put_number(out, "durable_lsn", sink->durable_lsn);
    put_number(out, "delivered_lsn", sink->delivered_lsn);
    put_text(out, "state", TEXT_OF(sink->state));
}

/* ---- parts of other answers ---- */

static void put_key(struct buf *out, const struct upstream_sink *sink, bool is_first)
{
    if (!is_first) {
        buf_put_char(out, ',');
    }
    buf_put_json_string(out, TEXT_OF(sink->name));
    buf_put_char(out, ':');
}

void upstream_view_ledger(struct buf *out, const struct upstream *upstream)
{
    buf_put_char(out, '{');
    for (unsigned i = 0; i < upstream_view_sinks(upstream); i++) {
        struct upstream_sink sink = {0};
        upstream->sink(upstream->context, i, &sink);
        put_key(out, &sink, i == 0);
        buf_put_char(out, '{');
        put_account(out, &sink);
        buf_put_char(out, '}');
    }
    buf_put_char(out, '}');
}

void upstream_view_delivered(struct buf *out, const struct upstream *upstream)
{
    buf_put_char(out, '{');
    for (unsigned i = 0; i < upstream_view_sinks(upstream); i++) {
        struct upstream_sink sink = {0};
        upstream->sink(upstream->context, i, &sink);
        put_key(out, &sink, i == 0);
        buf_put_u64(out, sink.delivered_lsn);
    }
    buf_put_char(out, '}');
}

/* ---- GET /v1/sinks ---- */

static void put_seconds(struct buf *out, const char *name, int64_t ns, bool is_first)
{
    buf_printf(out, "%s\"%s\":%.6f", is_first ? "" : ",", name, (double)ns / 1e9);
}

static void put_work(struct buf *out, const struct upstream_sink *sink)
{
    put_number(out, "pending_bytes", sink->pending_bytes);
    put_number(out, "frozen_batches", sink->frozen_batches);
    put_number(out, "in_flight", sink->in_flight);
    put_number(out, "window", sink->window);
    put_number(out, "requests", sink->requests);
    put_number(out, "retries", sink->retries);
    put_number(out, "refused", sink->refused);
    put_number(out, "bisections", sink->bisections);
    put_number(out, "refrozen", sink->refrozen);
    put_number(out, "pauses", sink->pauses);
    put_number(out, "breaker_opened", sink->breaker_opened);
    put_number(out, "body_bytes", sink->body_bytes);
    put_number(out, "sent_bytes", sink->sent_bytes);
    put_time(out, "oldest_pending_at", sink->oldest_pending_at_ns);
    put_time(out, "last_success_at", sink->last_success_at_ns);
    buf_put_text(out, ",\"lag_seconds\":{");
    put_seconds(out, "last", sink->lag_last_ns, true);
    put_seconds(out, "p50", sink->lag_p50_ns, false);
    put_seconds(out, "p99", sink->lag_p99_ns, false);
    buf_put_char(out, '}');
}

static void put_sink(struct buf *out, const struct upstream_sink *sink)
{
    buf_put_text(out, "{\"name\":");
    buf_put_json_string(out, TEXT_OF(sink->name));
    put_text(out, "type", TEXT_OF(sink->type));
    buf_put_char(out, ',');
    put_account(out, sink);
    put_reason(out, TEXT_OF(sink->reason));
    put_text(out, "breaker", TEXT_OF(sink->breaker));
    put_work(out, sink);
    buf_put_char(out, '}');
}

static void put_poller(struct buf *out, const struct upstream_poller *poller)
{
    buf_put_text(out, "{\"name\":");
    buf_put_json_string(out, TEXT_OF(poller->name));
    put_bool(out, "connected", poller->is_connected);
    put_reason(out, TEXT_OF(poller->reason));
    put_number(out, "looks", poller->looks);
    put_number(out, "rows", poller->rows);
    put_number(out, "records", poller->records);
    put_number(out, "duplicates", poller->duplicates);
    put_number(out, "invalid", poller->invalid);
    put_number(out, "errors", poller->errors);
    put_number(out, "reconnects", poller->reconnects);
    put_time(out, "last_row_at", poller->last_row_at_ns);
    put_time(out, "last_look_at", poller->last_look_at_ns);
    buf_put_char(out, '}');
}

void upstream_view_list(struct buf *out, const struct upstream *upstream)
{
    buf_put_text(out, "{\"data\":[");
    for (unsigned i = 0; i < upstream_view_sinks(upstream); i++) {
        struct upstream_sink sink = {0};
        upstream->sink(upstream->context, i, &sink);
        buf_put_text(out, i == 0 ? "" : ",");
        put_sink(out, &sink);
    }
    buf_put_text(out, "],\"pollers\":[");
    for (unsigned i = 0; i < upstream_view_pollers(upstream); i++) {
        struct upstream_poller poller = {0};
        upstream->poller(upstream->context, i, &poller);
        buf_put_text(out, i == 0 ? "" : ",");
        put_poller(out, &poller);
    }
    buf_put_text(out, "]}");
}
