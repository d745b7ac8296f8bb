#include "api/upstream_metrics.h"

#include <stddef.h>
#include <string.h>

#include "api/upstream_view.h"

/* All pictures are taken once, so that the families of one scrape agree with each other. */
struct pictures {
    unsigned sink_count, poller_count;
    int64_t real_ns;
    struct upstream_sink sinks[UPSTREAM_SINKS_MAX];
    struct upstream_poller pollers[UPSTREAM_POLLERS_MAX];
};

struct row {
    const char *name;
    const char *type;
    const char *help;
    size_t offset; /* of a uint64_t */
};

#define ROW(name, type, field, help)                                                               \
    {                                                                                              \
        "sluice_sink_" name, type, help, offsetof(struct upstream_sink, field)                     \
    }

static const struct row sink_rows[] = {
    ROW("pending_records", "gauge", pending, "Durable records still to be delivered."),
    ROW("pending_bytes", "gauge", pending_bytes, "About their bytes."),
    ROW("delivered_records_total", "counter", delivered, "Records the upstream has taken."),
    ROW("quarantined_records", "gauge", quarantined,
        "Records refused for good, or being delivered again."),
    ROW("filtered_records_total", "counter", filtered, "Records of kinds the sink does not take."),
    ROW("delivered_lsn", "gauge", delivered_lsn, "Everything up to here is done with."),
    ROW("frozen_batches", "gauge", frozen_batches, "Batches with a manifest, not done with."),
    ROW("in_flight", "gauge", in_flight, "Requests under way."),
    ROW("window", "gauge", window, "Requests of the backlog that may be under way."),
    ROW("requests_total", "counter", requests, "Requests sent."),
    ROW("retries_total", "counter", retries, "Of them repeated."),
    ROW("refused_total", "counter", refused, "Answered with a refusal for good."),
    ROW("bisections_total", "counter", bisections, "Refused batches cut in two."),
    ROW("refrozen_total", "counter", refrozen, "Batches frozen anew, under another key."),
    ROW("pauses_total", "counter", pauses, "Times the sink began to wait for an operator."),
    ROW("breaker_opened_total", "counter", breaker_opened, "Times the breaker opened."),
    ROW("body_bytes_total", "counter", body_bytes, "Request bodies before compression."),
    ROW("sent_bytes_total", "counter", sent_bytes, "Request bodies as sent."),
};

#undef ROW
#define ROW(name, type, field, help)                                                               \
    {                                                                                              \
        "sluice_poller_" name, type, help, offsetof(struct upstream_poller, field)                 \
    }

static const struct row poller_rows[] = {
    ROW("looks_total", "counter", looks, "Queries of the database."),
    ROW("rows_total", "counter", rows, "Rows fetched."),
    ROW("records_total", "counter", records, "Records stored."),
    ROW("duplicates_total", "counter", duplicates, "Records that were stored before."),
    ROW("invalid_total", "counter", invalid, "Values that make no record."),
    ROW("errors_total", "counter", errors, "Looks that failed."),
    ROW("reconnects_total", "counter", reconnects, "Connections made after the first."),
};

#undef ROW

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void upstream_metrics_label(struct buf *out, struct slice value)
{
    for (size_t i = 0; i < value.bytes; i++) {
        char c = (char)value.data[i];
        if (c == '\n') {
            buf_put_text(out, "\\n");
            continue;
        }
        if (c == '\\' || c == '"') {
            buf_put_char(out, '\\');
        }
        buf_put_char(out, c);
    }
}

/* name{label="text" : what may follow is another label or the end of them. */
static void open_labels(struct buf *out, const char *name, const char *label, const char *text,
                        size_t room)
{
    buf_put_text(out, name);
    buf_put_char(out, '{');
    buf_put_text(out, label);
    buf_put_text(out, "=\"");
    upstream_metrics_label(out, (struct slice){(const uint8_t *)text, strnlen(text, room)});
    buf_put_char(out, '"');
}

static void open_sink(struct buf *out, const char *name, const struct upstream_sink *sink)
{
    open_labels(out, name, "sink", sink->name, sizeof sink->name);
}

static void open_poller(struct buf *out, const char *name, const struct upstream_poller *poller)
{
    open_labels(out, name, "poller", poller->name, sizeof poller->name);
}

static void end_number(struct buf *out, uint64_t value)
{
    buf_put_text(out, "} ");
    buf_put_u64(out, value);
    buf_put_char(out, '\n');
}

static void end_seconds(struct buf *out, int64_t ns)
{
    buf_printf(out, "} %.6f\n", (double)ns / 1e9);
}

/* A clock that was set back makes no negative age. */
static int64_t age(int64_t at_ns, int64_t real_ns)
{
    return at_ns == 0 || at_ns > real_ns ? 0 : real_ns - at_ns;
}

static uint64_t word_at(const void *object, size_t offset)
{
    uint64_t word;
    memcpy(&word, (const char *)object + offset, sizeof word);
    return word;
}

/* ---- sinks ---- */

/* The place of name in names; their count for one that is not among them. */
static uint64_t number_of(const char *name, const char *const *names, size_t count)
{
    uint64_t i = 0;
    while (i < count && strcmp(name, names[i]) != 0) {
        i++;
    }
    return i;
}

static void write_states(struct buf *out, const struct pictures *pictures)
{
    static const char *const states[] = {"running", "retrying", "paused"};
    static const char *const breakers[] = {"closed", "open", "half_open"};
    const char *name = "sluice_sink_state";
    family(out, name, "gauge", "0 running, 1 retrying, 2 paused.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        const struct upstream_sink *sink = &pictures->sinks[i];
        open_sink(out, name, sink);
        end_number(out, number_of(sink->state, states, ARRAY_COUNT(states)));
    }
    name = "sluice_sink_breaker_state";
    family(out, name, "gauge", "0 closed, 1 open, 2 half open.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        const struct upstream_sink *sink = &pictures->sinks[i];
        open_sink(out, name, sink);
        end_number(out, number_of(sink->breaker, breakers, ARRAY_COUNT(breakers)));
    }
}

static void write_expired(struct buf *out, const struct pictures *pictures)
{
    static const char *const causes[] = {"retention", "damaged", "dropped"};
    const char *name = "sluice_sink_expired_records_total";
    family(out, name, "counter", "Records that will never be delivered, by cause.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        const struct upstream_sink *sink = &pictures->sinks[i];
        const uint64_t counts[] = {sink->expired, sink->damaged, sink->dropped};
        for (size_t c = 0; c < ARRAY_COUNT(causes); c++) {
            open_sink(out, name, sink);
            buf_printf(out, ",cause=\"%s\"", causes[c]);
            end_number(out, counts[c]);
        }
    }
}

/* offset: of an int64_t of struct upstream_sink, a time span. */
static void write_lag(struct buf *out, const struct pictures *pictures, const char *name,
                      const char *help, size_t offset)
{
    family(out, name, "gauge", help);
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        open_sink(out, name, &pictures->sinks[i]);
        end_seconds(out, (int64_t)word_at(&pictures->sinks[i], offset));
    }
}

static void write_times(struct buf *out, const struct pictures *pictures)
{
    write_lag(out, pictures, "sluice_sink_lag_last_seconds",
              "From receipt to delivery, of the last batch.",
              offsetof(struct upstream_sink, lag_last_ns));
    write_lag(out, pictures, "sluice_sink_lag_p50_seconds", "The same, median of the last minutes.",
              offsetof(struct upstream_sink, lag_p50_ns));
    write_lag(out, pictures, "sluice_sink_lag_p99_seconds", "The same, 99 of 100 were faster.",
              offsetof(struct upstream_sink, lag_p99_ns));
    const char *name = "sluice_sink_oldest_pending_seconds";
    family(out, name, "gauge", "Age of the oldest record still to be delivered; 0: none.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        open_sink(out, name, &pictures->sinks[i]);
        end_seconds(out, age(pictures->sinks[i].oldest_pending_at_ns, pictures->real_ns));
    }
    name = "sluice_sink_last_success_timestamp_seconds";
    family(out, name, "gauge", "When the upstream last took something; absent: not yet.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        if (pictures->sinks[i].last_success_at_ns != 0) {
            open_sink(out, name, &pictures->sinks[i]);
            end_seconds(out, pictures->sinks[i].last_success_at_ns);
        }
    }
}

static void write_balances(struct buf *out, const struct pictures *pictures)
{
    const char *name = "sluice_sink_ledger_imbalance_records";
    family(out, name, "gauge", "Records unaccounted for: a bug in Sluice unless 0.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        open_sink(out, name, &pictures->sinks[i]);
        buf_printf(out, "} %lld\n", (long long)upstream_view_sink_imbalance(&pictures->sinks[i]));
    }
}

static void write_infos(struct buf *out, const struct pictures *pictures)
{
    const char *name = "sluice_sink_info";
    family(out, name, "gauge", "What the sink is.");
    for (unsigned i = 0; i < pictures->sink_count; i++) {
        const struct upstream_sink *sink = &pictures->sinks[i];
        open_sink(out, name, sink);
        buf_put_text(out, ",type=\"");
        upstream_metrics_label(out, (struct slice){(const uint8_t *)sink->type,
                                                   strnlen(sink->type, sizeof sink->type)});
        buf_put_char(out, '"');
        end_number(out, 1);
    }
}

static void write_sinks(struct buf *out, const struct pictures *pictures)
{
    write_infos(out, pictures);
    write_states(out, pictures);
    for (size_t r = 0; r < ARRAY_COUNT(sink_rows); r++) {
        const struct row *row = &sink_rows[r];
        family(out, row->name, row->type, row->help);
        for (unsigned i = 0; i < pictures->sink_count; i++) {
            open_sink(out, row->name, &pictures->sinks[i]);
            end_number(out, word_at(&pictures->sinks[i], row->offset));
        }
    }
    write_expired(out, pictures);
    write_times(out, pictures);
    write_balances(out, pictures);
}

/* ---- pollers ---- */

static void write_pollers(struct buf *out, const struct pictures *pictures)
{
    for (size_t r = 0; r < ARRAY_COUNT(poller_rows); r++) {
        const struct row *row = &poller_rows[r];
        family(out, row->name, row->type, row->help);
        for (unsigned i = 0; i < pictures->poller_count; i++) {
            open_poller(out, row->name, &pictures->pollers[i]);
            end_number(out, word_at(&pictures->pollers[i], row->offset));
        }
    }
    family(out, "sluice_poller_connected", "gauge", "1 while it has its database.");
    for (unsigned i = 0; i < pictures->poller_count; i++) {
        open_poller(out, "sluice_poller_connected", &pictures->pollers[i]);
        end_number(out, pictures->pollers[i].is_connected);
    }
    family(out, "sluice_poller_last_look_age_seconds", "gauge",
           "Since the database last answered; absent: not yet.");
    for (unsigned i = 0; i < pictures->poller_count; i++) {
        const struct upstream_poller *poller = &pictures->pollers[i];
        if (poller->last_look_at_ns != 0) {
            open_poller(out, "sluice_poller_last_look_age_seconds", poller);
            end_seconds(out, age(poller->last_look_at_ns, pictures->real_ns));
        }
    }
}

void upstream_metrics_write(struct buf *out, const struct upstream *upstream, int64_t real_ns)
{
    struct pictures pictures = {
        .sink_count = upstream_view_sinks(upstream),
        .poller_count = upstream_view_pollers(upstream),
        .real_ns = real_ns,
    };
    for (unsigned i = 0; i < pictures.sink_count; i++) {
        upstream->sink(upstream->context, i, &pictures.sinks[i]);
    }
    for (unsigned i = 0; i < pictures.poller_count; i++) {
        upstream->poller(upstream->context, i, &pictures.pollers[i]);
    }
    if (pictures.sink_count != 0) {
        write_sinks(out, &pictures);
    }
    if (pictures.poller_count != 0) {
        write_pollers(out, &pictures);
    }
}
