/*
 * sluice replay: a part of the log once more to an upstream, by a job that can be interrupted (forward/replay.h). Beside a
 * running server or without one.
 *
 * Exit codes: 0 all of the range is delivered (or counted, listed, cancelled); 1 paused by a signal, failed, or records
 * were refused, expired or damaged; 2 wrong usage. A second signal ends the process at once, which loses nothing either.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/replay_filter.h"
#include "cli/replay_print.h"
#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/replay.h"
#include "store/digest.h"

#define TO_NAME  "replay" /* of the sink that --to makes */
#define SET_TEXT (CONFIG_SINK_TEXT_LONG + 96)
#define TO_SETS  2 /* type, and url or path */
#define NICE     10

struct replay_command {
    struct cli_sources cli;
    struct config config;
    struct replay_filter filter;
    char parameters[REPLAY_PARAMETERS_MAX];
    char job_name[REPLAY_JOB_BYTES];
    char set_texts[CLI_SETS_MAX][SET_TEXT]; /* of --set sink.key=value and of --to */
    const char *sink, *to, *type, *job;
    const char *from, *to_time; /* as they were spelled */
    int64_t from_ns, to_time_ns;
    uint64_t from_lsn, to_lsn, rate;
    bool has_rate, is_dry, is_list, is_cancel, is_again;
    struct config_sink target;
    struct replay_plan plan;
    struct progress progress;
};

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action = (struct sigaction){.sa_handler = SIG_IGN};
    (void)sigaction(SIGPIPE, &action, NULL); /* the transport's sockets */
}

/* ---- the command line ---- */

static const struct option options_table[] = {
    {"sink", required_argument, NULL, 's'},    {"to", required_argument, NULL, 't'},
    {"type", required_argument, NULL, 'T'},    {"from", required_argument, NULL, 'f'},
    {"to-time", required_argument, NULL, 'e'}, {"from-lsn", required_argument, NULL, 'a'},
    {"to-lsn", required_argument, NULL, 'b'},  {"filter", required_argument, NULL, 'F'},
    {"kind", required_argument, NULL, 'k'},    {"rate", required_argument, NULL, 'r'},
    {"job", required_argument, NULL, 'j'},     {"dry-run", no_argument, NULL, 'n'},
    {"list", no_argument, NULL, 'l'},          {"cancel", no_argument, NULL, 'c'},
    {"again", no_argument, NULL, 'A'},         {NULL, 0, NULL, 0},
};

static bool parse_lsn(const char *text, uint64_t *lsn)
{
    char *end = NULL;
    errno = 0;
    *lsn = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    return end != NULL && *end == 0 && errno == 0 && *lsn <= INT64_MAX;
}

static bool parse_time(const char *text, int64_t *ns)
{
    return query_time_parse(ns, (struct slice){(const uint8_t *)text, strlen(text)},
                            clock_real_ns());
}

static const char *take_range(struct replay_command *command, int c)
{
    static const char time_fault[] =
        "--from and --to-time need RFC 3339 with a zone, or now, now-5m (s m h d)";
    static const char lsn_fault[] = "--from-lsn and --to-lsn need a number";
    switch (c) {
    case 'f':
        command->from = optarg;
        return parse_time(optarg, &command->from_ns) ? NULL : time_fault;
    case 'e':
        command->to_time = optarg;
        return parse_time(optarg, &command->to_time_ns) ? NULL : time_fault;
    case 'a':
        return parse_lsn(optarg, &command->from_lsn) ? NULL : lsn_fault;
    default:
        return parse_lsn(optarg, &command->to_lsn) ? NULL : lsn_fault;
    }
}

static const char *take_rate(struct replay_command *command)
{
    command->has_rate = true;
    bool is_good = config_parse_size(&command->rate, optarg) == 0 && command->rate > 0;
    return is_good ? NULL : "--rate needs bytes a second, such as 500K or 20M";
}

/* NULL, or what is wrong. */
static const char *take_option(struct replay_command *command, int c)
{
    switch (c) {
    case 's':
        command->sink = optarg;
        return NULL;
    case 't':
        command->to = optarg;
        return NULL;
    case 'T':
        command->type = optarg;
        return NULL;
    case 'f':
    case 'e':
    case 'a':
    case 'b':
        return take_range(command, c);
    case 'F':
        return replay_filter_add(&command->filter, optarg);
    case 'k':
        return replay_filter_kinds(&command->filter, optarg);
    case 'r':
        return take_rate(command);
    case 'j':
        command->job = optarg;
        return replay_job_is_name(optarg) ? NULL
                                          : "--job needs a name of 1 to 64 of a-z A-Z 0-9 - _ .";
    case 'n':
        command->is_dry = true;
        return NULL;
    case 'l':
        command->is_list = true;
        return NULL;
    case 'c':
        command->is_cancel = true;
        return NULL;
    case 'A':
        command->is_again = true;
        return NULL;
    default:
        return "unknown option, or one without its value";
    }
}

static const char *check_options(const struct replay_command *command)
{
    bool has_target = command->sink != NULL || command->to != NULL;
    bool needs_target = !command->is_list && !(command->is_cancel && command->job != NULL);
    if (command->sink != NULL && command->to != NULL) {
        return "--sink or --to, not both";
    }
    if (needs_target && !has_target) {
        return "--sink NAME or --to URL is needed";
    }
    if (command->type != NULL && command->to == NULL) {
        return "--type belongs to --to";
    }
    if (command->from_lsn > command->to_lsn || command->from_ns > command->to_time_ns) {
        return "the range ends before it begins";
    }
    return command->is_list + command->is_cancel + command->is_dry > 1
               ? "--list, --cancel or --dry-run, not several"
               : NULL;
}

static bool parse_rest(struct replay_command *command, int *exit_code)
{
    char *argv[CLI_REST_MAX + 2] = {"replay"};
    int argc = command->cli.rest_count + 1;
    for (int i = 1; i < argc; i++) {
        argv[i] = command->cli.rest[i - 1];
    }
    const char *fault = NULL;
    optind = 0;
    opterr = 0;
    for (int c; fault == NULL && (c = getopt_long(argc, argv, "", options_table, NULL)) != -1;) {
        fault = take_option(command, c);
    }
    if (fault == NULL && optind < argc) {
        fault = "unknown argument";
    }
    if (fault != NULL) {
        const char *at = argv[optind > 0 && optind - 1 < argc ? optind - 1 : 0];
        *exit_code = cli_usage("replay", "%s (at '%.96s')", fault, at);
        return false;
    }
    fault = replay_filter_close(&command->filter);
    fault = fault == NULL ? check_options(command) : fault;
    if (fault != NULL) {
        *exit_code = cli_usage("replay", "%s", fault);
    }
    return fault == NULL;
}

/* ---- the sink ---- */

/* With --to, "sink.key=value" is about the sink that --to makes. */
static bool is_short_set(const char *set)
{
    const char *equals = strchr(set, '=');
    const char *dot = strncmp(set, "sink.", 5) == 0 ? strchr(set + 5, '.') : set;
    return dot == NULL || (dot != set && dot > equals);
}

static bool set_write(struct replay_command *command, unsigned i, const char *key,
                      const char *value)
{
    char *to = command->set_texts[i];
    int n = snprintf(to, SET_TEXT, "sink." TO_NAME ".%s%s", key, value);
    command->cli.sets[i] = to;
    return n > 0 && n < SET_TEXT;
}

/* False: too long, too many. */
static bool make_target(struct replay_command *command)
{
    struct config_sources *sources = &command->cli.sources;
    const char *type = command->type == NULL ? "http" : command->type;
    bool is_good = true;
    if (command->to == NULL) {
        return true;
    }
    for (unsigned i = 0; i < sources->set_count; i++) {
        if (is_short_set(command->cli.sets[i])) {
            is_good = is_good && set_write(command, i, command->cli.sets[i] + 5, "");
        }
    }
    if (!is_good || sources->set_count + TO_SETS > CLI_SETS_MAX) {
        return false;
    }
    is_good = set_write(command, (unsigned)sources->set_count++, "type=", type);
    const char *key = strcmp(type, "file") == 0 ? "path=" : "url=";
    return is_good && set_write(command, (unsigned)sources->set_count++, key, command->to);
}

static bool find_target(struct replay_command *command)
{
    const char *name = command->to == NULL ? command->sink : TO_NAME;
    for (unsigned i = 0; i < command->config.sink_count; i++) {
        if (strcmp(command->config.sinks[i].name, name) == 0) {
            command->target = command->config.sinks[i];
            if (command->has_rate) {
                command->target.rate = command->rate;
            }
            if (command->to == NULL && command->target.type == SINK_FILE) {
                cli_say(STDERR_FILENO,
                        "sluice replay: sink %s writes a file that only its server may write: "
                        "give another one with --type file --to PATH",
                        name);
                return false;
            }
            return true;
        }
    }
    cli_say(STDERR_FILENO,
            "sluice replay: no sink %.64s is configured: name the server's configuration with "
            "--config, or an address with --to",
            name);
    return false;
}

/* ---- the plan ---- */

static void put_word(struct buf *out, const char *key, const char *value)
{
    if (value != NULL) {
        buf_printf(out, " %s=%s", key, value);
    }
}

/* Everything that decides what is sent where, the same for the same command. */
static bool describe(struct replay_command *command)
{
    struct buf out;
    buf_init(&out, command->parameters, sizeof command->parameters - 1);
    buf_printf(&out, "to %s", command->target.name);
    if (command->to != NULL) {
        buf_printf(&out, " (%s %s)", command->type == NULL ? "http" : command->type, command->to);
    }
    if (command->from_lsn != 0) {
        buf_printf(&out, " from-lsn=%" PRIu64, command->from_lsn);
    }
    if (command->to_lsn != INT64_MAX) {
        buf_printf(&out, " to-lsn=%" PRIu64, command->to_lsn);
    }
    put_word(&out, "from", command->from);
    put_word(&out, "to-time", command->to_time);
    put_word(&out, "filter", command->filter.text[0] == 0 ? NULL : command->filter.text);
    command->parameters[out.bytes] = 0;
    uint64_t digest = digest_64((struct slice){(const uint8_t *)command->parameters, out.bytes}, 0);
    (void)snprintf(command->job_name, sizeof command->job_name, "%s-%08" PRIx32,
                   command->target.name, (uint32_t)digest);
    return !out.is_truncated;
}

static bool make_plan(struct replay_command *command)
{
    if (!find_target(command)) {
        return false;
    }
    if (!describe(command)) {
        cli_say(STDERR_FILENO, "sluice replay: range and filter are too long");
        return false;
    }
    if (command->job == NULL) {
        command->job = command->job_name;
    }
    bool asks_json = replay_filter_asks_json(&command->filter);
    command->plan = (struct replay_plan){
        .sink = &command->target,
        .compacts = command->config.compacts,
        .job = command->job,
        .parameters = command->parameters,
        .lsn_min = command->from_lsn,
        .lsn_max = command->to_lsn,
        .time_min_ns = command->from_ns,
        .time_max_ns = command->to_time_ns,
        .match = asks_json ? replay_filter_matches : NULL,
        .match_context = &command->filter,
        .filter_text = command->filter.text,
    };
    replay_filter_scan(&command->filter, &command->plan.filter);
    return true;
}

static void on_problem(void *context, const char *line)
{
    progress_close(context);
    fprintf(stderr, "sluice replay: %s\n", line);
}

static int fail(const struct err *err)
{
    fprintf(stderr, "sluice replay: %s\n", err->text);
    return CLI_FAILED;
}

/* ---- dry run ---- */

/* Upstreams that refuse what is too old (or too new) for them. */
static void say_window(const struct replay_command *command, const struct replay_count *count)
{
    char oldest[CLOCK_RFC3339_BYTES + 1];
    if (command->target.type == SINK_TIMESTREAM && count->records != 0) {
        oldest[clock_rfc3339(oldest, count->oldest_ns, 3)] = 0;
        fprintf(stderr,
                "sluice replay: note: Timestream refuses records that are older than the memory "
                "store of the table keeps them (unless magnetic store writes are enabled); the "
                "oldest here is of %s; what it refuses goes to the job's quarantine\n",
                oldest);
    }
}

static int run_dry(struct replay_command *command, struct replay_log *log)
{
    struct replay_count count;
    struct err err = {0};
    progress_open(&command->progress, "dry run");
    int r = replay_count(&command->plan, log, &count, progress_bytes, &command->progress, &err);
    progress_close(&command->progress);
    if (r < 0) {
        return fail(&err);
    }
    say_window(command, &count);
    replay_print_count(&count, command->cli.is_json);
    if (count.damaged != 0) {
        fprintf(stderr, "sluice replay: parts of the range cannot be read: see sluice verify\n");
    }
    return count.damaged != 0 ? CLI_FAILED : CLI_DONE;
}

/* ---- a job ---- */

/* What is not as it should be. */
static bool say_losses(const struct replay_command *command, const struct sink_position *position)
{
    if (position->quarantined != 0) {
        fprintf(stderr,
                "sluice replay: %" PRIu64
                " records were refused: sluice quarantine list --data-dir %s --job %s\n",
                position->quarantined, command->config.data_dir, command->job);
    }
    if (position->expired != 0) {
        fprintf(stderr,
                "sluice replay: %" PRIu64
                " records were removed by retention before they could be read\n",
                position->expired);
    }
    if (position->damaged != 0) {
        fprintf(stderr, "sluice replay: %" PRIu64 " records cannot be read: see sluice verify\n",
                position->damaged);
    }
    return (position->quarantined | position->expired | position->damaged) != 0;
}

static int finish(struct replay_command *command, struct replay *replay, bool was_finished)
{
    struct replay_progress at;
    replay_look(replay, &at);
    if (!replay_is_finished(replay)) {
        replay_print_summary(command->job, "paused", &at, command->cli.is_json);
        fprintf(stderr,
                "sluice replay: job %s is paused; the same command (or --job %s with the same "
                "options) goes on, --cancel gives it up\n",
                command->job, command->job);
        return CLI_FAILED;
    }
    replay_print_summary(command->job, was_finished ? "was finished before" : "finished", &at,
                         command->cli.is_json);
    if (was_finished) {
        fprintf(stderr, "sluice replay: nothing was sent; --again begins the job anew\n");
    }
    return say_losses(command, &at.picture.position) ? CLI_FAILED : CLI_DONE;
}

static void show_progress(struct replay_command *command, struct replay *replay, uint64_t begun)
{
    struct replay_progress at;
    replay_look(replay, &at);
    progress_bytes(&command->progress, at.done_bytes - u64_min(begun, at.done_bytes),
                   at.all_bytes - u64_min(begun, at.all_bytes));
}

static void run_steps(struct replay_command *command, struct replay *replay)
{
    struct replay_progress at;
    struct err err = {0};
    int r = 0;
    replay_look(replay, &at);
    progress_open(&command->progress, "replay");
    while (r != 1) { /* until it is finished, or somebody stops it */
        if (signals != 0) {
            replay_stop(replay);
        }
        r = replay_step(replay, &err);
        if (r < 0) {
            LOG(LOGLINE_ERROR, "replay", "%s; nothing is lost, tried again each second", err.text);
        }
        show_progress(command, replay, at.done_bytes);
    }
    progress_close(&command->progress);
}

static int run_job(struct replay_command *command, struct replay_log *log)
{
    struct replay *replay = NULL;
    struct err err = {0};
    int r = 0;
    if (command->is_again) {
        r = replay_job_remove(command->config.data_dir, command->job, &err);
        r = r == -ENOENT ? 0 : r;
    }
    r = r == 0 ? replay_open(&replay, command->config.data_dir, &command->plan, log, &err) : r;
    if (r < 0) {
        if (r == -EEXIST) {
            fprintf(stderr, "sluice replay: this would be %.1000s\n", command->parameters);
        }
        return fail(&err);
    }
    bool was_finished = replay_is_finished(replay);
    catch_signals();
    if (!was_finished) {
        run_steps(command, replay);
    }
    int exit_code = finish(command, replay, was_finished);
    replay_close(replay);
    return exit_code;
}

static int run_with_log(struct replay_command *command,
                        int (*run)(struct replay_command *command, struct replay_log *log))
{
    struct replay_log log;
    struct err err = {0};
    (void)setpriority(PRIO_PROCESS, 0, NICE); /* ingest beside it goes first (decision 6) */
    int r = replay_log_open(&log, command->config.data_dir, on_problem, &command->progress, &err);
    int exit_code = r < 0 ? fail(&err) : run(command, &log);
    replay_log_close(&log);
    return exit_code;
}

/* ---- jobs ---- */

static void on_job(void *context, const struct replay_job *job)
{
    const struct replay_command *command = context;
    replay_print_job(job, command->cli.is_json);
}

static int run_list(struct replay_command *command)
{
    struct err err = {0};
    int r = replay_jobs(command->config.data_dir, on_job, command, &err);
    return r < 0 ? fail(&err) : CLI_DONE;
}

static int run_cancel(struct replay_command *command)
{
    struct err err = {0};
    if (replay_job_remove(command->config.data_dir, command->job, &err) < 0) {
        return fail(&err);
    }
    printf("replay %s: cancelled; what was delivered stays delivered\n", command->job);
    return CLI_DONE;
}

static int run(struct replay_command *command)
{
    if (command->is_list) {
        return run_list(command);
    }
    if (command->is_cancel && command->sink == NULL && command->to == NULL) {
        return run_cancel(command);
    }
    if (!make_plan(command)) {
        return CLI_FAILED;
    }
    if (command->is_cancel) {
        return run_cancel(command);
    }
    return run_with_log(command, command->is_dry ? run_dry : run_job);
}

int cli_replay(int argc, char **argv)
{
    struct replay_command *command = mem_alloc(sizeof *command);
    int exit_code = CLI_USAGE;
    command->from_ns = INT64_MIN;
    command->to_time_ns = INT64_MAX;
    command->to_lsn = INT64_MAX;
    logline_configure(LOGLINE_WARNING, false);
    if (cli_sources(&command->cli, argc, argv, &exit_code) && parse_rest(command, &exit_code)) {
        if (!make_target(command)) {
            exit_code = cli_usage("replay", "--to or --set: too long, or too many");
        } else {
            exit_code = cli_load(&command->cli, &command->config) ? run(command) : CLI_FAILED;
            exit_code = fflush(stdout) == 0 ? exit_code : CLI_FAILED;
        }
    }
    replay_filter_free(&command->filter);
    mem_free(command);
    return exit_code;
}
