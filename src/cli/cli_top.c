/*
 * sluice top: a running server at a glance, from its GET /metrics: rates, queues, latencies, disk. A screen that is
 * drawn again every interval on a terminal; one JSON line per interval in a pipe.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/http_get.h"
#include "cli/metrics_text.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/mem.h"

struct top_options {
    char url[512]; /* of /metrics */
    const char *token;
    double interval_s;
    unsigned long count; /* 0: until interrupted */
};

struct top {
    struct top_options options;
    struct http_get get;
    struct metrics_text *before;
    struct metrics_text *now;
    double seconds; /* between the two */
};

/* ---- what is shown ---- */

static double value(const struct top *top, const char *name)
{
    return metrics_text_value(top->now, name);
}

static double rate(const struct top *top, const char *name)
{
    double n = value(top, name) - metrics_text_value(top->before, name);
    return top->seconds > 0 && n > 0 ? n / top->seconds : 0;
}

static double sink_value(const struct top *top, const char *sink, const char *name)
{
    return metrics_text_sink_value(top->now, sink, name);
}

static double sink_rate(const struct top *top, const char *sink, const char *name)
{
    double n = sink_value(top, sink, name) - metrics_text_sink_value(top->before, sink, name);
    return top->seconds > 0 && n > 0 ? n / top->seconds : 0;
}

static double quantile(const struct top *top, const char *name, double q)
{
    return metrics_text_quantile(top->before, top->now, name, q);
}

/* 1234567 as 1.23 M; base 1024 for bytes. */
static const char *short_number(char *text, size_t room, double number, double base)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    size_t unit = 0;
    while (number >= base && unit + 1 < ARRAY_COUNT(units)) {
        number /= base;
        unit++;
    }
    int digits = unit == 0 ? 0 : number < 10 ? 2 : number < 100 ? 1 : 0;
    (void)snprintf(text, room, "%.*f %s%s", digits, number, units[unit],
                   base > 1000 && unit > 0 ? "i" : "");
    return text;
}

static const char *short_time(char *text, size_t room, double seconds)
{
    if (isnan(seconds)) {
        (void)snprintf(text, room, "-");
    } else if (seconds < 0.001) {
        (void)snprintf(text, room, "%.0f us", seconds * 1e6);
    } else if (seconds < 1) {
        (void)snprintf(text, room, "%.2f ms", seconds * 1e3);
    } else if (seconds < 600) {
        (void)snprintf(text, room, "%.2f s", seconds);
    } else {
        (void)snprintf(text, room, "%.1f h", seconds / 3600);
    }
    return text;
}

static const char *name_of(double state, const char *const *names, size_t count)
{
    return state >= 0 && state < (double)count ? names[(size_t)state] : "?";
}

static const char *state_name(double state)
{
    static const char *const names[] = {"ok", "shedding (429)", "read-only (503)", "stopping"};
    return name_of(state, names, ARRAY_COUNT(names));
}

static const char *sink_state_name(double state)
{
    static const char *const names[] = {"running", "retrying", "paused"};
    return name_of(state, names, ARRAY_COUNT(names));
}

static const char *breaker_name(double state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return name_of(state, names, ARRAY_COUNT(names));
}

static void line_of_numbers(const struct top *top, const char *title, const char *const *labels,
                            const char *const *names, unsigned count)
{
    char text[32];
    printf("  %-10s", title);
    for (unsigned i = 0; i < count; i++) {
        printf("  %s %s/s", labels[i], short_number(text, sizeof text, rate(top, names[i]), 1000));
    }
    printf("\033[K\n");
}

static void line_of_times(const struct top *top, const char *title, const char *name)
{
    char p50[32];
    char p99[32];
    char p999[32];
    printf("  %-10s  p50 %s  p99 %s  p99.9 %s\033[K\n", title,
           short_time(p50, sizeof p50, quantile(top, name, 0.5)),
           short_time(p99, sizeof p99, quantile(top, name, 0.99)),
           short_time(p999, sizeof p999, quantile(top, name, 0.999)));
}

static void bytes_line(const struct top *top)
{
    char log[32];
    char free_text[32];
    char in[32];
    char out[32];
    printf("  %-10s  log %sB  free %sB  received %sB/s  written %sB/s\033[K\n", "disk",
           short_number(log, sizeof log, value(top, "sluice_store_log_bytes"), 1024),
           short_number(free_text, sizeof free_text, value(top, "sluice_store_free_bytes"), 1024),
           short_number(in, sizeof in, rate(top, "sluice_body_bytes_total"), 1024),
           short_number(out, sizeof out, rate(top, "sluice_store_written_bytes_total"), 1024));
}

/* Of a terminal, a name is only what can be printed: a server's answer must not move its cursor. */
static const char *plain_name(char *text, size_t room, const char *name)
{
    size_t bytes = 0;
    for (; name[bytes] != 0 && bytes + 1 < room; bytes++) {
        text[bytes] = (char)(name[bytes] > ' ' && name[bytes] < 0x7f ? name[bytes] : '?');
    }
    text[bytes] = 0;
    return text;
}

/* Two lines, so that each stays within 80 columns for any sane name: a line that wraps spoils the redrawing. */
static void draw_sink(const struct top *top, const char *sink)
{
    char name[METRICS_NAME_MAX];
    char numbers[4][32];
    char times[2][32];
    bool balances = sink_value(top, sink, "sluice_sink_ledger_imbalance_records") == 0;
    printf("  %-10s  %s, breaker %s  pending %s  %sB  oldest %s\033[K\n",
           plain_name(name, sizeof name, sink),
           sink_state_name(sink_value(top, sink, "sluice_sink_state")),
           breaker_name(sink_value(top, sink, "sluice_sink_breaker_state")),
           short_number(numbers[0], sizeof numbers[0],
                        sink_value(top, sink, "sluice_sink_pending_records"), 1000),
           short_number(numbers[1], sizeof numbers[1],
                        sink_value(top, sink, "sluice_sink_pending_bytes"), 1024),
           short_time(times[0], sizeof times[0],
                      sink_value(top, sink, "sluice_sink_oldest_pending_seconds")));
    printf(
        "  %-10s  delivered %s/s  lag p99 %s  retries %s/s  quarantined %.0f%s\033[K\n", "",
        short_number(numbers[2], sizeof numbers[2],
                     sink_rate(top, sink, "sluice_sink_delivered_records_total"), 1000),
        short_time(times[1], sizeof times[1], sink_value(top, sink, "sluice_sink_lag_p99_seconds")),
        short_number(numbers[3], sizeof numbers[3],
                     sink_rate(top, sink, "sluice_sink_retries_total"), 1000),
        sink_value(top, sink, "sluice_sink_quarantined_records"), balances ? "" : "  LEDGER OFF");
}

static void draw_sinks(const struct top *top)
{
    if (top->now->sink_count != 0) {
        printf("\033[K\n");
    }
    for (unsigned i = 0; i < top->now->sink_count; i++) {
        draw_sink(top, top->now->sinks[i]);
    }
}

static void draw(const struct top *top)
{
    static const char *const record_labels[] = {"received", "durable", "rejected", "shed"};
    static const char *const record_names[] = {
        "sluice_records_received_total", "sluice_records_durable_total",
        "sluice_records_rejected_total", "sluice_records_shed_total"};
    static const char *const work_labels[] = {"requests", "commits", "ring enters"};
    static const char *const work_names[] = {"sluice_ingest_requests_total",
                                             "sluice_store_batches_total",
                                             "sluice_http_ring_enters_total"};
    char pending[32];
    printf("\033[H%s  up %.0f s  %s%s\033[K\n\033[K\n", top->options.url,
           value(top, "sluice_uptime_seconds"), state_name(value(top, "sluice_store_state")),
           value(top, "sluice_healthy") > 0 ? "" : "  NOT HEALTHY");
    line_of_numbers(top, "records", record_labels, record_names, ARRAY_COUNT(record_names));
    line_of_numbers(top, "work", work_labels, work_names, ARRAY_COUNT(work_names));
    line_of_times(top, "ack", "sluice_ack_seconds");
    line_of_times(top, "commit", "sluice_commit_seconds");
    line_of_times(top, "parse", "sluice_parse_seconds");
    printf("  %-10s  records pending %s  durable LSN %.0f  connections %.0f\033[K\n", "queue",
           short_number(pending, sizeof pending, value(top, "sluice_records_pending"), 1000),
           value(top, "sluice_store_durable_lsn"), value(top, "sluice_http_connections_open"));
    bytes_line(top);
    printf("  %-10s  sealed %.0f  compacted %.0f  expired %.0f  damaged %.0f\033[K\n", "segments",
           value(top, "sluice_archive_sealed_total"), value(top, "sluice_archive_compacted_total"),
           value(top, "sluice_archive_expired_segments_total"),
           value(top, "sluice_archive_damaged_segments"));
    printf("  %-10s  active %.0f  tails %.0f\033[K\n", "queries",
           value(top, "sluice_queries_active"), value(top, "sluice_tails_active"));
    draw_sinks(top);
    printf("\033[J");
    (void)fflush(stdout);
}

static void put_number(const char *name, double number, bool is_last)
{
    const char *end = is_last ? "}" : ",";
    if (!isfinite(number)) { /* JSON has no such number */
        printf("\"%s\":null%s", name, end);
    } else {
        printf("\"%s\":%.10g%s", name, number, end);
    }
}

static void put_sink(const struct top *top, const char *sink)
{
    uint8_t memory[6 * METRICS_NAME_MAX + 2];
    struct buf name;
    buf_init(&name, memory, sizeof memory);
    buf_put_json_string(&name, (struct slice){(const uint8_t *)sink, strlen(sink)});
    printf("%.*s:{\"state\":\"%s\",\"breaker\":\"%s\",", (int)name.bytes, (const char *)name.data,
           sink_state_name(sink_value(top, sink, "sluice_sink_state")),
           breaker_name(sink_value(top, sink, "sluice_sink_breaker_state")));
    put_number("pending", sink_value(top, sink, "sluice_sink_pending_records"), false);
    put_number("pending_bytes", sink_value(top, sink, "sluice_sink_pending_bytes"), false);
    put_number("oldest_pending_s", sink_value(top, sink, "sluice_sink_oldest_pending_seconds"),
               false);
    put_number("delivered_per_s", sink_rate(top, sink, "sluice_sink_delivered_records_total"),
               false);
    put_number("retries_per_s", sink_rate(top, sink, "sluice_sink_retries_total"), false);
    put_number("quarantined", sink_value(top, sink, "sluice_sink_quarantined_records"), false);
    put_number("lag_p99_s", sink_value(top, sink, "sluice_sink_lag_p99_seconds"), true);
}

static void put_sinks(const struct top *top)
{
    printf("\"sinks\":{");
    for (unsigned i = 0; i < top->now->sink_count; i++) {
        printf("%s", i == 0 ? "" : ",");
        put_sink(top, top->now->sinks[i]);
    }
    printf("}");
}

static void put_json(const struct top *top)
{
    char time[CLOCK_RFC3339_BYTES];
    size_t bytes = clock_rfc3339(time, clock_real_ns(), 3);
    printf("{\"time\":\"%.*s\",", (int)bytes, time);
    put_number("received_per_s", rate(top, "sluice_records_received_total"), false);
    put_number("durable_per_s", rate(top, "sluice_records_durable_total"), false);
    put_number("rejected_per_s", rate(top, "sluice_records_rejected_total"), false);
    put_number("shed_per_s", rate(top, "sluice_records_shed_total"), false);
    put_number("requests_per_s", rate(top, "sluice_ingest_requests_total"), false);
    put_number("ack_p50_s", quantile(top, "sluice_ack_seconds", 0.5), false);
    put_number("ack_p99_s", quantile(top, "sluice_ack_seconds", 0.99), false);
    put_number("commit_p50_s", quantile(top, "sluice_commit_seconds", 0.5), false);
    put_number("commit_p99_s", quantile(top, "sluice_commit_seconds", 0.99), false);
    put_number("pending", value(top, "sluice_records_pending"), false);
    put_number("durable_lsn", value(top, "sluice_store_durable_lsn"), false);
    put_number("log_bytes", value(top, "sluice_store_log_bytes"), false);
    put_number("free_bytes", value(top, "sluice_store_free_bytes"), false);
    put_number("state", value(top, "sluice_store_state"), false);
    put_number("healthy", value(top, "sluice_healthy"), false);
    put_sinks(top);
    printf("}\n");
    (void)fflush(stdout);
}

/* ---- running ---- */

static int look(struct top *top, uint64_t *at_ns, struct err *err)
{
    int r = http_get(&top->get, top->options.url, top->options.token, err);
    if (r < 0) {
        return r;
    }
    struct metrics_text *old = top->before;
    uint64_t now_ns = clock_mono_ns();
    top->before = top->now;
    top->now = old;
    metrics_text_parse(top->now, (struct slice){top->get.data, top->get.bytes});
    top->seconds = *at_ns == 0 ? 0 : (double)(now_ns - *at_ns) / (double)NS_S;
    *at_ns = now_ns;
    return 0;
}

static int run(struct top *top, struct err *err)
{
    bool is_screen = isatty(STDOUT_FILENO) != 0;
    struct timespec pause = {.tv_sec = (time_t)top->options.interval_s,
                             .tv_nsec = (long)(fmod(top->options.interval_s, 1) * 1e9)};
    uint64_t at_ns = 0;
    int r = look(top, &at_ns, err);
    if (r == 0 && is_screen) {
        printf("\033[2J");
    }
    for (unsigned long i = 0; r == 0 && (top->options.count == 0 || i < top->options.count); i++) {
        (void)nanosleep(&pause, NULL);
        r = look(top, &at_ns, err);
        if (r == 0) {
            (is_screen ? draw : put_json)(top);
        }
        if (ferror(stdout)) {
            return 0;
        }
    }
    return r;
}

static bool parse_within(const char *text, double min, double max, double *number)
{
    char *end = NULL;
    *number = strtod(text, &end);
    return end != text && *end == 0 && *number >= min && *number <= max;
}

/* HOST:PORT or a URL, with or without the slash that people copy. */
static bool parse_url(struct top_options *options, const char *text)
{
    const char *scheme = strstr(text, "://") == NULL ? "http://" : "";
    size_t bytes = strlen(text);
    while (bytes > 0 && text[bytes - 1] == '/') {
        bytes--;
    }
    int n = snprintf(options->url, sizeof options->url, "%s%.*s/metrics", scheme,
                     (int)u64_min(bytes, sizeof options->url), text);
    return bytes > 0 && n > 0 && (size_t)n < sizeof options->url;
}

/* NULL, or what is wrong. */
static const char *take_option(struct top_options *options, int c)
{
    double number = 0;
    switch (c) {
    case 'u':
        return parse_url(options, optarg) ? NULL : "--url needs HOST:PORT";
    case 't':
        options->token = optarg;
        return NULL;
    case 'i':
        return parse_within(optarg, 0.1, 3600, &options->interval_s)
                   ? NULL
                   : "--interval needs seconds, 0.1 to 3600";
    case 'c':
        if (!parse_within(optarg, 1, 1e9, &number)) {
            return "--count needs a number, 1 or more";
        }
        options->count = (unsigned long)number;
        return NULL;
    default:
        return "unknown option, or one without its value: ";
    }
}

int cli_top(int argc, char **argv)
{
    static const struct option table[] = {
        {"url", required_argument, NULL, 'u'},      {"token", required_argument, NULL, 't'},
        {"interval", required_argument, NULL, 'i'}, {"count", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    struct top top = {
        .options = {.url = "http://127.0.0.1:8080/metrics", .interval_s = 1, .count = 0}};
    struct err err = {0};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (c == 'h') {
            fputs(cli_help_text("top"), stdout);
            return CLI_DONE;
        }
        const char *fault = take_option(&top.options, c);
        if (fault != NULL) {
            return cli_usage("top", "%s%s", fault, c == '?' ? argv[optind - 1] : "");
        }
    }
    if (optind < argc) {
        return cli_usage("top", "it takes no arguments");
    }
    int r = http_get_open(&top.get, &err);
    top.before = mem_alloc(sizeof *top.before);
    top.now = mem_alloc(sizeof *top.now);
    r = r == 0 ? run(&top, &err) : r;
    mem_free(top.before);
    mem_free(top.now);
    http_get_close(&top.get);
    if (r < 0) {
        fprintf(stderr, "sluice top: %s\n", err.text);
        return CLI_FAILED;
    }
    return CLI_DONE;
}
