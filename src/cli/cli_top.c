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
    } else {
        (void)snprintf(text, room, "%.2f s", seconds);
    }
    return text;
}

static const char *state_name(double state)
{
    static const char *const names[] = {"ok", "shedding (429)", "read-only (503)", "stopping"};
    const size_t count = ARRAY_COUNT(names);
    return state >= 0 && state < (double)count ? names[(size_t)state] : "?";
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
    printf("  %-10s  active %.0f  tails %.0f\033[K\n\033[J", "queries",
           value(top, "sluice_queries_active"), value(top, "sluice_tails_active"));
    (void)fflush(stdout);
}

static void put_number(const char *name, double number, bool is_last)
{
    if (!isfinite(number)) { /* JSON has no such number */
        printf("\"%s\":null%s", name, is_last ? "}\n" : ",");
    } else {
        printf("\"%s\":%.10g%s", name, number, is_last ? "}\n" : ",");
    }
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
    put_number("healthy", value(top, "sluice_healthy"), true);
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
