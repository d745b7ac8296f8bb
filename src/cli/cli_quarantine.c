/*
 * sluice quarantine: records that an upstream refused for good: list, show, requeue, drop. Reading is done in the data
 * directory. A change is the forwarder's business: a running server is asked over HTTP (after it has shown that it is the one
 * that holds the directory), else it is made in DIR/forward.sqlite under the directory's lock; of a replay job (--job) in the job's
 * file, under the job's.
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/quarantine_http.h"
#include "core/clock.h"
#include "core/mem.h"
#include "forward/forward_db.h"
#include "forward/quarantine_order.h"
#include "forward/replay_job.h"
#include "store/file_io.h"
#include "store/node.h"

#define URL_DEFAULT "http://127.0.0.1:8080"
#define TOKEN_BYTES 1024
#define ROUNDS_MAX  1000u /* of an order for all of a sink, QUARANTINE_ORDER_MAX records each */

enum quarantine_verb {
    VERB_LIST = 1,
    VERB_SHOW,
    VERB_REQUEUE,
    VERB_DROP,
};

struct quarantine_command {
    struct cli_sources cli;
    struct config config;
    enum quarantine_verb verb;
    const char *verb_name;
    const char *sink, *job, *url, *token_file;
    char token[TOKEN_BYTES];
    uint64_t id; /* 0: none */
    bool is_yes;
    char db_path[REPLAY_PATH_BYTES];
    uint64_t shown;
};

/* ---- the command line ---- */

static bool parse_id(const char *text, uint64_t *id)
{
    char *end = NULL;
    errno = 0;
    *id = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    return end != NULL && *end == 0 && errno == 0 && *id != 0;
}

static bool parse_verb(struct quarantine_command *command, const char *word)
{
    static const char *const names[] = {[VERB_LIST] = "list",
                                        [VERB_SHOW] = "show",
                                        [VERB_REQUEUE] = "requeue",
                                        [VERB_DROP] = "drop"};
    for (size_t i = VERB_LIST; i < ARRAY_COUNT(names); i++) {
        if (strcmp(word, names[i]) == 0) {
            command->verb = (enum quarantine_verb)i;
            command->verb_name = names[i];
        }
    }
    return command->verb != 0;
}

static const char *take_option(struct quarantine_command *command, int c)
{
    switch (c) {
    case 's':
        command->sink = optarg;
        return strlen(optarg) <= CONFIG_SINK_NAME_MAX ? NULL : "no sink has such a long name";
    case 'j':
        command->job = optarg;
        return replay_job_is_name(optarg) ? NULL : "--job needs the name of a replay job";
    case 'u':
        command->url = optarg;
        return NULL;
    case 't':
        command->token_file = optarg;
        return NULL;
    case 'y':
        command->is_yes = true;
        return NULL;
    default:
        return "unknown option, or one without its value";
    }
}

static const char *take_words(struct quarantine_command *command, int argc, char **argv)
{
    if (optind == argc || !parse_verb(command, argv[optind])) {
        return "list, show, requeue or drop is needed";
    }
    if (optind + 1 < argc && !parse_id(argv[optind + 1], &command->id)) {
        return "an ID is a number, as list shows it";
    }
    return optind + 2 < argc ? "too many arguments" : NULL;
}

static const char *check(const struct quarantine_command *command)
{
    switch (command->verb) {
    case VERB_LIST:
        return command->id == 0 ? NULL : "list takes no ID: show does";
    case VERB_SHOW:
        return command->id != 0 ? NULL : "show needs an ID";
    case VERB_REQUEUE:
    case VERB_DROP:
        break;
    }
    if ((command->id == 0) == (command->sink == NULL)) {
        return "an ID or --sink NAME is needed, and not both";
    }
    return command->verb == VERB_DROP && command->id == 0 && !command->is_yes
               ? "drop --sink gives up all records of the sink for good: say so with --yes"
               : NULL;
}

static bool parse_rest(struct quarantine_command *command, int *exit_code)
{
    static const struct option table[] = {
        {"sink", required_argument, NULL, 's'}, {"job", required_argument, NULL, 'j'},
        {"url", required_argument, NULL, 'u'},  {"token-file", required_argument, NULL, 't'},
        {"yes", no_argument, NULL, 'y'},        {NULL, 0, NULL, 0}};
    char *argv[CLI_REST_MAX + 2] = {"quarantine"};
    int argc = command->cli.rest_count + 1;
    for (int i = 1; i < argc; i++) {
        argv[i] = command->cli.rest[i - 1];
    }
    const char *fault = NULL;
    optind = 0;
    opterr = 0;
    for (int c; fault == NULL && (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        fault = take_option(command, c);
    }
    fault = fault == NULL ? take_words(command, argc, argv) : fault;
    fault = fault == NULL ? check(command) : fault;
    if (fault != NULL) {
        *exit_code = cli_usage("quarantine", "%s", fault);
    }
    return fault == NULL;
}

static int fail(const struct err *err)
{
    fprintf(stderr, "sluice quarantine: %s\n", err->text);
    return CLI_FAILED;
}

/* ---- list and show ---- */

static void time_text(char *out, int64_t ns)
{
    size_t bytes = clock_rfc3339(out, ns, 3);
    out[bytes] = 0;
}

static const char *kind_text(const struct quarantined *item)
{
    const char *kind = record_kind_name(item->record.kind);
    return kind == NULL ? "unknown" : kind;
}

static void print_json(const struct quarantined *item, bool is_whole)
{
    char id[ULID_TEXT_BYTES];
    char received[CLOCK_RFC3339_BYTES + 1];
    char refused[CLOCK_RFC3339_BYTES + 1];
    uint8_t memory[6 * FORWARD_REASON_BYTES + 8];
    struct buf reason;
    buf_init(&reason, memory, sizeof memory);
    buf_put_json_string(&reason,
                        (struct slice){(const uint8_t *)item->reason, strlen(item->reason)});
    ulid_format(id, &item->record.id);
    time_text(received, item->received_at_ns);
    time_text(refused, item->refused_at_ns);
    printf("{\"id\":%" PRIu64 ",\"sink\":\"%s\",\"lsn\":%" PRIu64
           ",\"record_id\":\"%.*s\",\"kind\":\"%s\",\"received_at\":\"%s\",\"status\":%d,"
           "\"reason\":%.*s,\"refused_at\":\"%s\",\"state\":\"%s\",\"record_bytes\":%zu",
           item->id, item->sink, item->lsn, (int)sizeof id, id, kind_text(item), received,
           item->status, (int)reason.bytes, (const char *)reason.data, refused,
           item->state == QUARANTINE_HELD ? "held" : "requeued", item->record.payload.bytes);
    if (is_whole) {
        fputs(",\"record\":", stdout);
        (void)fwrite(item->record.payload.data, 1, item->record.payload.bytes, stdout);
    }
    fputs("}\n", stdout);
}

static bool on_item(void *context, const struct quarantined *item)
{
    struct quarantine_command *command = context;
    char refused[CLOCK_RFC3339_BYTES + 1];
    command->shown++;
    if (command->cli.is_json) {
        print_json(item, false);
        return !ferror(stdout);
    }
    time_text(refused, item->refused_at_ns);
    printf("%" PRIu64 "  %s  LSN %" PRIu64 "  %s  %s  %s  %d  %s\n", item->id, item->sink,
           item->lsn, kind_text(item), refused,
           item->state == QUARANTINE_HELD ? "held" : "requeued", item->status, item->reason);
    return !ferror(stdout);
}

/* Of an upstream's words only what can be shown is in reason (judge.h). The record is the client's: as it is. */
static void print_item(const struct quarantined *item)
{
    char id[ULID_TEXT_BYTES];
    char received[CLOCK_RFC3339_BYTES + 1];
    char refused[CLOCK_RFC3339_BYTES + 1];
    ulid_format(id, &item->record.id);
    time_text(received, item->received_at_ns);
    time_text(refused, item->refused_at_ns);
    printf("id        %" PRIu64 "\nsink      %s\nLSN       %" PRIu64
           "\nrecord    %.*s (%s, %zu bytes)\nreceived  %s\nrefused   %s, status %d\nreason    "
           "%s\nstate     %s\n\n",
           item->id, item->sink, item->lsn, (int)sizeof id, id, kind_text(item),
           item->record.payload.bytes, received, refused, item->status, item->reason,
           item->state == QUARANTINE_HELD ? "held" : "requeued: it is being delivered again");
    (void)fwrite(item->record.payload.data, 1, item->record.payload.bytes, stdout);
    fputc('\n', stdout);
}

static int find_item(struct forward_db *db, const struct quarantine_command *command,
                     struct quarantined *item, struct err *err)
{
    int r = forward_db_quarantine_get(db, command->id, item, err);
    if (r == 0) {
        r = err_set(err, -ENOENT, "there is no record %" PRIu64 " in quarantine", command->id);
    }
    return r;
}

static int read_with(struct quarantine_command *command, struct forward_db *db, struct err *err)
{
    if (command->verb == VERB_LIST) {
        return forward_db_quarantine_list(db, command->sink, 0, UINT32_MAX, on_item, command, err);
    }
    struct quarantined *item = mem_alloc(sizeof *item);
    int r = find_item(db, command, item, err);
    if (r == 1 && command->cli.is_json) {
        print_json(item, true);
    } else if (r == 1) {
        print_item(item);
    }
    mem_free(item);
    return r;
}

static int run_read(struct quarantine_command *command)
{
    struct forward_db *db = NULL;
    struct err err = {0};
    int r = forward_db_open_read_only(&db, command->db_path, &err);
    if (r == -ENOENT && command->verb == VERB_LIST && command->job == NULL) {
        fprintf(stderr, "sluice quarantine: %s has no forward.sqlite: nothing was forwarded yet\n",
                command->config.data_dir);
        return access(command->config.data_dir, F_OK) == 0 ? CLI_DONE : CLI_FAILED;
    }
    r = r == 0 ? read_with(command, db, &err) : r;
    forward_db_close(db);
    if (r < 0) {
        return fail(&err);
    }
    if (command->verb == VERB_LIST && command->shown == 0 && !command->cli.is_json) {
        fprintf(stderr, "sluice quarantine: there are no records\n");
    }
    return CLI_DONE;
}

/* ---- requeue and drop, in the file ---- */

static void say_done(const struct quarantine_command *command, uint64_t records, bool is_later)
{
    const char *s = records == 1 ? "" : "s";
    if (command->cli.is_json) {
        printf("{\"status\":\"%s\",\"records\":%" PRIu64 "}\n",
               command->verb == VERB_DROP ? "dropped" : "requeued", records);
    } else if (command->verb == VERB_DROP) {
        printf("dropped %" PRIu64 " record%s: counted as dropped in the ledger\n", records, s);
    } else {
        printf("requeued %" PRIu64 " record%s: delivered again %s\n", records, s,
               command->job != NULL ? "when the replay goes on"
               : is_later           ? "when the server runs"
                                    : "now");
    }
    if (command->verb == VERB_REQUEUE && command->id == 0 && records >= QUARANTINE_ORDER_MAX) {
        fprintf(stderr,
                "sluice quarantine: there may be more: repeat it when these are delivered\n");
    }
}

static int order_with(const struct quarantine_command *command, struct forward_db *db,
                      uint64_t *records, struct err *err)
{
    enum quarantine_order order =
        command->verb == VERB_DROP ? QUARANTINE_ORDER_DROP : QUARANTINE_ORDER_REQUEUE;
    int r = 0;
    for (unsigned i = 0; i < ROUNDS_MAX; i++) {
        r = quarantine_order(db, order, command->sink, command->id, err);
        *records += r < 0 ? 0 : (uint64_t)r;
        if (r < (int)QUARANTINE_ORDER_MAX || command->verb == VERB_REQUEUE) {
            break;
        }
    }
    return r;
}

static int order_in_file(const struct quarantine_command *command)
{
    struct file_io *io = NULL;
    struct forward_db *db = NULL;
    enum forward_db_found found = FORWARD_DB_GOOD;
    struct ulid node;
    struct err err = {0};
    uint64_t records = 0;
    int r = file_io_real_open_existing(&io, command->config.data_dir, &err);
    if (r == 0) {
        r = node_read(&node, io, &err);
        io->ops->destroy(io);
    }
    r = r == 0 ? forward_db_open(&db, command->db_path, node, &found, &err) : r;
    if (r == 0 && found != FORWARD_DB_GOOD) {
        r = err_set(&err, ERR_CORRUPT, "%s was damaged: kept beside it as .damaged, made again",
                    command->db_path);
    }
    r = r == 0 ? order_with(command, db, &records, &err) : r;
    forward_db_close(db);
    if (r < 0) {
        return fail(&err);
    }
    say_done(command, records, true);
    return CLI_DONE;
}

/* ---- requeue and drop, over HTTP ---- */

static int read_token(struct quarantine_command *command, struct err *err)
{
    if (command->token_file == NULL) {
        return 0;
    }
    int fd = open(command->token_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, command->token, sizeof command->token - 1);
    int r = n < 0 ? -errno : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (r < 0) {
        return err_set(err, r, "%s: %s", command->token_file, err_name(r));
    }
    command->token[n] = 0;
    command->token[strcspn(command->token, "\r\n")] = 0;
    return command->token[0] != 0
               ? 0
               : err_set(err, -EINVAL, "%s: no token on its first line", command->token_file);
}

struct sample {
    uint64_t wanted; /* 0: any that is held */
    uint64_t id;     /* 0: not found */
    struct ulid record;
};

static bool on_sample(void *context, const struct quarantined *item)
{
    struct sample *sample = context;
    bool is_it = sample->wanted != 0 ? item->id == sample->wanted : item->state == QUARANTINE_HELD;
    if (is_it) {
        sample->id = item->id;
        sample->record = item->record.id;
    }
    return !is_it && sample->wanted == 0;
}

/* A record that the order concerns, by the file. 1, 0: there is none. */
static int find_sample(const struct quarantine_command *command, struct sample *sample,
                       struct err *err)
{
    struct forward_db *db = NULL;
    uint64_t after = command->id == 0 ? 0 : command->id - 1;
    *sample = (struct sample){.wanted = command->id};
    int r = forward_db_open_read_only(&db, command->db_path, err);
    if (r < 0) {
        return r;
    }
    r = forward_db_quarantine_list(db, command->sink, after, UINT32_MAX, on_sample, sample, err);
    forward_db_close(db);
    return r < 0 ? r : sample->id != 0;
}

/* 0: nothing (more) is to be done. */
static int order_round(const struct quarantine_command *command, uint64_t *records, struct err *err)
{
    struct sample sample;
    int r = find_sample(command, &sample, err);
    if (r <= 0) {
        return r;
    }
    const struct quarantine_http order = {
        .url = command->url,
        .token = command->token[0] == 0 ? NULL : command->token,
        .data_dir = command->config.data_dir,
        .verb = command->verb_name,
        .sink = command->sink,
        .id = command->id,
        .sample_id = sample.id,
        .sample_record = sample.record,
    };
    uint64_t count = 0;
    r = quarantine_http_order(&order, &count, err);
    *records += count;
    return r < 0 ? r : (int)u64_min(count, QUARANTINE_ORDER_MAX);
}

static int order_over_http(struct quarantine_command *command)
{
    struct err err = {0};
    uint64_t records = 0;
    int r = read_token(command, &err);
    for (unsigned i = 0; i < ROUNDS_MAX && r >= 0; i++) {
        r = order_round(command, &records, &err);
        if (r < (int)QUARANTINE_ORDER_MAX || command->verb == VERB_REQUEUE) {
            break;
        }
    }
    if (r == 0 && command->id != 0) {
        r = err_set(&err, -ENOENT, "there is no record %" PRIu64 " in quarantine", command->id);
    }
    if (r < 0) {
        return fail(&err);
    }
    say_done(command, records, false);
    return CLI_DONE;
}

/* ---- who does it ---- */

static int run_order(struct quarantine_command *command)
{
    struct node_lock lock = {.fd = -1};
    struct err err = {0};
    if (access(command->db_path, F_OK) != 0) {
        (void)err_set(&err, -ENOENT, "%s is not there: nothing is in quarantine", command->db_path);
        return fail(&err);
    }
    if (command->job != NULL) {
        int fd = replay_job_lock(command->config.data_dir, command->job, false, &err);
        int exit_code = fd < 0 ? fail(&err) : order_in_file(command);
        replay_job_unlock(fd);
        return exit_code;
    }
    int r = node_lock_take(&lock, command->config.data_dir, &err);
    if (r == -EBUSY) {
        return order_over_http(command);
    }
    int exit_code = r < 0 ? fail(&err) : order_in_file(command);
    node_lock_give(&lock);
    return exit_code;
}

static int run(struct quarantine_command *command)
{
    const char *data_dir = command->config.data_dir;
    struct err err = {0};
    int r = 0;
    if (command->job != NULL) {
        r = replay_job_path(command->db_path, data_dir, command->job, ".sqlite", &err);
    } else {
        int n =
            snprintf(command->db_path, sizeof command->db_path, "%s/" FORWARD_DB_FILE, data_dir);
        r = n > 0 && (size_t)n < sizeof command->db_path
                ? 0
                : err_set(&err, -ENAMETOOLONG, "%s", data_dir);
    }
    if (r < 0) {
        return fail(&err);
    }
    bool is_reading = command->verb == VERB_LIST || command->verb == VERB_SHOW;
    return is_reading ? run_read(command) : run_order(command);
}

int cli_quarantine(int argc, char **argv)
{
    struct quarantine_command *command = mem_alloc(sizeof *command);
    int exit_code = CLI_USAGE;
    command->url = URL_DEFAULT;
    if (cli_sources(&command->cli, argc, argv, &exit_code) && parse_rest(command, &exit_code)) {
        exit_code = cli_load(&command->cli, &command->config) ? run(command) : CLI_FAILED;
        exit_code = fflush(stdout) == 0 ? exit_code : CLI_FAILED;
    }
    mem_free(command);
    return exit_code;
}
