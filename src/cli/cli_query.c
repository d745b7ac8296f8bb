/*
 * sluice query, sluice tail, sluice export: records of a data directory, found as GET /v1/logs finds them
 * (store/scan.h, api/query_params.h), while a server runs on it or not. Reads files only; needs no server
 * and no token, but the right to read the directory.
 *
 * query shows the newest matches (or, with --order asc, the oldest) and stops; tail shows what comes, from
 * now on or from --from-lsn; export writes all matches of every kind, oldest first, as NDJSON or CSV.
 */
#include "cli/cli.h"

#include "api/query_params.h"
#include "cli/record_print.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/mem.h"
#include "store/view_load.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FOLLOW_LOOK_NS   (100 * NS_MS)
#define FOLLOW_RELOAD_NS NS_S /* a segment that was begun meanwhile */
#define LIMIT_DEFAULT    100

enum query_mode {
    MODE_QUERY = 1,
    MODE_TAIL,
    MODE_EXPORT,
};

struct query_command {
    const char *name;
    enum query_mode mode;
    const char *data_dir;
    int64_t start_ns, end_ns;
    enum print_form form;
    bool is_form_given;
    bool follows;
    bool is_limit_given;
    uint64_t limit; /* 0: all */
    uint64_t from_lsn;
    enum route_id route;
    uint32_t kinds;   /* 0: the route's */
    char query[8192]; /* as a request would say it */
    struct buf text;
};

struct query_run {
    struct query_command *command;
    struct query_params params;
    struct query_matcher matcher;
    struct printer printer;
    struct log_views *views;
    struct scan *scan;
    uint64_t taken;
    bool is_enough;
    bool is_damaged;
};

/* ---- the command line as a query string ---- */

static void put_encoded(struct buf *out, const char *text)
{
    for (const char *c = text; *c != 0; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        (*c >= '0' && *c <= '9') || *c == '-' || *c == '.' || *c == '_';
        if (is_plain) {
            buf_put_char(out, *c);
        } else {
            buf_printf(out, "%%%02X", (unsigned char)*c);
        }
    }
}

static void add_parameter(struct query_command *command, const char *name, const char *value)
{
    if (command->text.bytes > 0) {
        buf_put_char(&command->text, '&');
    }
    buf_put_text(&command->text, name);
    buf_put_char(&command->text, '=');
    put_encoded(&command->text, value);
}

static bool parse_kind(struct query_command *command, const char *kind)
{
    static const struct {
        const char *name;
        enum route_id route;
        enum record_kind kind;
    } kinds[] = {{"log", ROUTE_LOGS, RECORD_LOG},
                 {"metric", ROUTE_METRICS, RECORD_METRIC},
                 {"event", ROUTE_EVENTS, RECORD_EVENT}};
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        size_t bytes = strlen(kinds[i].name);
        bool is_plural = strncmp(kind, kinds[i].name, bytes) == 0 && strcmp(kind + bytes, "s") == 0;
        if (is_plural || strcmp(kind, kinds[i].name) == 0) {
            command->route = kinds[i].route;
            command->kinds = 1u << kinds[i].kind;
            return true;
        }
    }
    return false;
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *value = strtoull(text, &end, 10);
    return *end == 0 && errno == 0;
}

static bool parse_format(struct query_command *command, const char *text)
{
    static const char *const names[] = {
        [PRINT_NDJSON] = "ndjson", [PRINT_TEXT] = "text", [PRINT_CSV] = "csv"};
    for (size_t i = PRINT_NDJSON; i < ARRAY_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            command->form = (enum print_form)i;
            command->is_form_given = true;
            return true;
        }
    }
    return false;
}

static const struct option options_table[] = {
    {"data-dir", required_argument, NULL, 'd'},
    {"kind", required_argument, NULL, 'k'},
    {"limit", required_argument, NULL, 'n'},
    {"format", required_argument, NULL, 'F'},
    {"from-lsn", required_argument, NULL, 'l'},
    {"follow", no_argument, NULL, 'f'},
    {"help", no_argument, NULL, 'h'},
    {"start", required_argument, NULL, 's'},
    {"end", required_argument, NULL, 'e'},
    {"service", required_argument, NULL, 1},
    {"level", required_argument, NULL, 1},
    {"correlation-id", required_argument, NULL, 1},
    {"q", required_argument, NULL, 1},
    {"name", required_argument, NULL, 1},
    {"source", required_argument, NULL, 1},
    {"order", required_argument, NULL, 1},
    {NULL, 0, NULL, 0},
};

/* NULL, or what is wrong. */
static const char *take_option(struct query_command *command, int c, int index)
{
    switch (c) {
    case 'd':
        command->data_dir = optarg;
        return NULL;
    case 'k':
        return parse_kind(command, optarg) ? NULL : "--kind is log, metric or event";
    case 'n':
        command->is_limit_given = true;
        return parse_number(optarg, &command->limit) ? NULL : "--limit needs a number; 0: all";
    case 'F':
        return parse_format(command, optarg) ? NULL : "--format is text, ndjson or csv";
    case 'l':
        return parse_number(optarg, &command->from_lsn) ? NULL : "--from-lsn needs a number";
    case 'f':
        command->follows = true;
        return NULL;
    case 's':
    case 'e': {
        int64_t *ns = c == 's' ? &command->start_ns : &command->end_ns;
        bool is_time = query_time_parse(ns, (struct slice){(const uint8_t *)optarg, strlen(optarg)},
                                        clock_real_ns());
        return is_time ? NULL
                       : "--start and --end need RFC 3339 with a zone, or now, now-5m (s m h d)";
    }
    case 1:
        add_parameter(command,
                      strcmp(options_table[index].name, "correlation-id") == 0
                          ? "correlation_id"
                          : options_table[index].name,
                      optarg);
        return NULL;
    default:
        return "unknown option, or one without its value";
    }
}

/* 0: go on; else the exit code, and everything is said. */
static bool parse_command(struct query_command *command, int argc, char **argv, int *exit_code)
{
    buf_init(&command->text, command->query, sizeof command->query);
    command->start_ns = INT64_MIN;
    command->end_ns = INT64_MAX;
    optind = 1;
    opterr = 0;
    for (int c, index = 0; (c = getopt_long(argc, argv, "n:fh", options_table, &index)) != -1;) {
        if (c == 'h') {
            fputs(cli_help_text(command->name), stdout);
            *exit_code = CLI_DONE;
            return false;
        }
        const char *fault = take_option(command, c, index);
        if (fault != NULL) {
            *exit_code = cli_usage(command->name, "%s%s%s", fault, c == '?' ? ": " : "",
                                   c == '?' ? argv[optind - 1] : "");
            return false;
        }
    }
    if (optind < argc) { /* a bare word is what the message must contain */
        add_parameter(command, "q", argv[optind++]);
    }
    if (optind < argc || command->text.is_truncated) {
        *exit_code = cli_usage(
            command->name, optind < argc ? "too many arguments: %s" : "the filters are too long%s",
            optind < argc ? argv[optind] : "");
        return false;
    }
    if (command->follows && !command->is_limit_given) {
        command->limit = 0; /* what comes has no end */
    }
    return true;
}

/* The 422 body, for people: each "msg" with the parameter that it is about. */
static void say_faults(const struct query_command *command, const struct buf *fault)
{
    static const char loc[] = "\"loc\":[\"query\",\"";
    static const char msg[] = "\"msg\":\"";
    const char *at = (const char *)fault->data;
    const char *end = at + fault->bytes;
    while (at < end) { /* bound: each turn moves behind one "msg" */
        const char *name = memmem(at, (size_t)(end - at), loc, sizeof loc - 1);
        const char *text = memmem(at, (size_t)(end - at), msg, sizeof msg - 1);
        if (text == NULL) {
            return;
        }
        text += sizeof msg - 1;
        name = name == NULL ? text : name + sizeof loc - 1;
        const char *name_end = memchr(name, '"', (size_t)(end - name));
        const char *text_end = memchr(text, '"', (size_t)(end - text));
        if (name_end == NULL || text_end == NULL) {
            return;
        }
        fprintf(stderr, "sluice %s: --%.*s: %.*s\n", command->name, (int)(name_end - name), name,
                (int)(text_end - text), text);
        at = text_end;
    }
}

static bool parse_params(struct query_run *run)
{
    char memory[QUERY_FAULT_BYTES_MAX];
    struct buf fault;
    struct query_command *command = run->command;
    buf_init(&fault, memory, sizeof memory);
    int r = query_params_parse(&run->params, command->route,
                               (struct slice){command->text.data, command->text.bytes},
                               clock_real_ns(), &fault);
    if (r < 0) {
        say_faults(command, &fault);
        return false;
    }
    run->params.start_ns = command->start_ns;
    run->params.end_ns = command->end_ns;
    if (command->kinds != 0) {
        run->params.kinds = command->kinds;
    }
    return true;
}

/* ---- running ---- */

static void on_problem(void *context, const char *line)
{
    struct query_run *run = context;
    fprintf(stderr, "sluice %s: %s\n", run->command->name, line);
    run->is_damaged = true;
}

static bool on_record(void *context, const struct scan_record *record)
{
    struct query_run *run = context;
    printer_put(&run->printer, record->lsn, record->built_at_ns, &record->record);
    run->taken++;
    /* A reader that left (| head) needs no more of the log to be read. */
    run->is_enough =
        ferror(stdout) || (run->command->limit != 0 && run->taken >= run->command->limit);
    return !run->is_enough;
}

static bool on_match(void *context, const struct scan_record *record)
{
    struct query_run *run = context;
    return query_matches(&run->matcher, record);
}

static void wait_a_little(uint64_t ns)
{
    struct timespec pause = {.tv_nsec = (long)ns};
    (void)nanosleep(&pause, NULL);
}

/* Steps until there is nothing more or enough. 0; -errno: the log cannot be read. */
static int run_scan(struct query_run *run, struct scan *scan, struct err *err)
{
    for (;;) {
        int r = scan_step(scan, err);
        if (r == SCAN_END || r == SCAN_FULL) {
            return 0;
        }
        if (r == ERR_CORRUPT) {
            on_problem(run, err->text); /* the next step goes on behind it */
        } else if (r < 0) {
            return r;
        }
    }
}

static bool on_newest(void *context, const struct scan_record *record)
{
    *(uint64_t *)context = record->lsn;
    return false;
}

/* tail without --from-lsn shows what comes, not what is there already. */
static int find_newest(struct query_run *run, uint64_t *lsn, struct err *err)
{
    struct scan_source source = {.views = run->views};
    struct scan_options options = {.filter = {.kinds = UINT32_MAX,
                                              .time_min_ns = INT64_MIN,
                                              .time_max_ns = INT64_MAX,
                                              .lsn_max = UINT64_MAX},
                                   .is_descending = true,
                                   .take = on_newest,
                                   .context = lsn};
    *lsn = 0;
    struct scan *scan = scan_new(&source, &options);
    int r = run_scan(run, scan, err);
    scan_free(scan);
    return r;
}

static int follow(struct query_run *run, struct file_io *io, struct err *err)
{
    uint64_t loaded_ns = clock_mono_ns();
    int r = 0;
    while (r == 0 && !run->is_enough && !ferror(stdout)) { /* until somebody ends it */
        r = run_scan(run, run->scan, err);
        if (fflush(stdout) != 0) {
            break;
        }
        wait_a_little(FOLLOW_LOOK_NS);
        uint64_t now_ns = clock_mono_ns();
        if (r == 0 && now_ns - loaded_ns >= FOLLOW_RELOAD_NS) {
            /* What cannot be used was told before; what cannot be listed now may be in a second. */
            r = log_views_load(run->views, io, NULL, NULL, err);
            r = r == -EAGAIN ? 0 : r;
            loaded_ns = now_ns;
        }
    }
    return r;
}

static int run_loaded(struct query_run *run, struct file_io *io, struct err *err)
{
    const struct query_command *command = run->command;
    struct scan_source source = {.views = run->views};
    struct scan_options options = {
        .is_descending =
            !command->follows && command->mode != MODE_EXPORT && !run->params.is_ascending,
        .match = on_match,
        .take = on_record,
        .context = run,
    };
    int r = 0;
    query_params_filter(&run->params, &options.filter);
    options.filter.lsn_min = u64_max(options.filter.lsn_min, command->from_lsn);
    if (command->follows && command->from_lsn == 0 && run->params.start_ns == INT64_MIN) {
        uint64_t newest = 0;
        r = find_newest(run, &newest, err);
        options.filter.lsn_min = newest + 1;
    }
    run->scan = scan_new(&source, &options);
    printer_begin(&run->printer);
    if (r == 0) {
        r = command->follows ? follow(run, io, err) : run_scan(run, run->scan, err);
    }
    scan_free(run->scan);
    return r;
}

static int run_query(struct query_run *run, struct err *err)
{
    struct file_io *io = NULL;
    int r = file_io_real_open_existing(&io, run->command->data_dir, err);
    if (r < 0) {
        return r;
    }
    r = log_views_open(&run->views, io, err);
    if (r == 0) {
        r = log_views_load(run->views, io, on_problem, run, err);
        r = r == 0 ? run_loaded(run, io, err) : r;
        log_views_close(run->views);
    }
    io->ops->destroy(io);
    return r;
}

static int query_main(struct query_command *command, int argc, char **argv)
{
    struct err err = {0};
    int exit_code = CLI_DONE;
    if (!parse_command(command, argc, argv, &exit_code)) {
        return exit_code;
    }
    bool is_terminal = isatty(STDOUT_FILENO) != 0;
    if (!command->is_form_given) {
        command->form = is_terminal && command->mode != MODE_EXPORT ? PRINT_TEXT : PRINT_NDJSON;
    }
    struct query_run *run = mem_alloc(sizeof *run);
    run->command = command;
    run->matcher.params = &run->params;
    run->matcher.scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    printer_open(&run->printer, stdout, command->form, is_terminal && getenv("NO_COLOR") == NULL);
    exit_code = CLI_USAGE;
    if (parse_params(run)) {
        int r = run_query(run, &err);
        bool is_written = fflush(stdout) == 0 && !ferror(stdout);
        if (r < 0) {
            fprintf(stderr, "sluice %s: %s\n", command->name, err.text);
        } else if (!is_written) {
            perror("sluice: standard output");
        }
        exit_code = r < 0 || !is_written || run->is_damaged ? CLI_FAILED : CLI_DONE;
    }
    printer_close(&run->printer);
    mem_free(run->matcher.scratch);
    mem_free(run);
    return exit_code;
}

int cli_query(int argc, char **argv)
{
    struct query_command command = {.name = "query",
                                    .mode = MODE_QUERY,
                                    .data_dir = "./data",
                                    .limit = LIMIT_DEFAULT,
                                    .route = ROUTE_LOGS};
    return query_main(&command, argc, argv);
}

int cli_tail(int argc, char **argv)
{
    struct query_command command = {.name = "tail",
                                    .mode = MODE_TAIL,
                                    .data_dir = "./data",
                                    .follows = true,
                                    .route = ROUTE_TAIL};
    return query_main(&command, argc, argv);
}

int cli_export(int argc, char **argv)
{
    struct query_command command = {
        .name = "export", .mode = MODE_EXPORT, .data_dir = "./data", .route = ROUTE_TAIL};
    return query_main(&command, argc, argv);
}
