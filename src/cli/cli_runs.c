/*
 * sluice runs: agent runs, read from their database beside a running server or without one: list, show, stats. The
 * filters are those of GET /api/v1/runs, judged by the same code. Never writes.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/runs_query.h"
#include "cli/record_print.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "model/lookup_object.h"
#include "model/run.h"
#include "model/run_batch.h"
#include "store/backup.h"
#include "store/runs_read.h"

/* An answer is kept whole before it is printed, because the database is locked for its writer until it is taken. */
#define ANSWER_BYTES_MAX ((size_t)1 << 30)
#define SHOWN_BYTES      256u /* of a value in a line of list */

struct runs_command {
    const char *verb;
    const char *data_dir;
    const char *runs_db; /* NULL: in the data directory */
    const char *event_id;
    bool is_ndjson;
    struct buf query; /* as GET /api/v1/runs would have it */
    char query_memory[RUNS_QUERY_BYTES];
    uint8_t values[RUNS_QUERY_BYTES];
    struct runs_filter filter;
};

/* ---- the command line ---- */

static const struct option options[] = {{"agent", required_argument, NULL, 'a'},
                                        {"status", required_argument, NULL, 's'},
                                        {"job-type", required_argument, NULL, 'j'},
                                        {"created-after", required_argument, NULL, 'A'},
                                        {"created-before", required_argument, NULL, 'B'},
                                        {"start-from", required_argument, NULL, 'F'},
                                        {"start-to", required_argument, NULL, 'T'},
                                        {"limit", required_argument, NULL, 'n'},
                                        {"offset", required_argument, NULL, 'o'},
                                        {"data-dir", required_argument, NULL, 'd'},
                                        {"runs-db", required_argument, NULL, 'r'},
                                        {"format", required_argument, NULL, 'f'},
                                        {"json", no_argument, NULL, 'J'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static const char *parameter_of(int c)
{
    switch (c) {
    case 'a':
        return "agent_name";
    case 's':
        return "status";
    case 'j':
        return "job_type";
    case 'A':
        return "created_after";
    case 'B':
        return "created_before";
    case 'F':
        return "start_time_from";
    case 'T':
        return "start_time_to";
    case 'n':
        return "limit";
    default:
        return c == 'o' ? "offset" : NULL;
    }
}

static void add_parameter(struct runs_command *command, const char *name, const char *value)
{
    buf_printf(&command->query, "%s%s=", command->query.bytes == 0 ? "" : "&", name);
    for (const char *c = value; *c != '\0'; c++) { /* bound: the argument */
        buf_printf(&command->query, "%%%02X", (unsigned char)*c);
    }
}

/* NULL, or what is wrong with it. */
static const char *take_option(struct runs_command *command, int c)
{
    const char *parameter = parameter_of(c);
    if (parameter != NULL) {
        add_parameter(command, parameter, optarg);
    } else if (c == 'd') {
        command->data_dir = optarg;
    } else if (c == 'r') {
        command->runs_db = optarg;
    } else if (c == 'J') {
        command->is_ndjson = true;
    } else if (c == 'f' && (strcmp(optarg, "text") == 0 || strcmp(optarg, "ndjson") == 0)) {
        command->is_ndjson = optarg[0] == 'n';
    } else {
        return c == 'f' ? "--format is text or ndjson" : "unknown option, or one without its value";
    }
    return NULL;
}

static const char *take_words(struct runs_command *command, int argc, char **argv)
{
    int count = argc - optind;
    command->verb = count > 0 ? argv[optind] : "";
    bool is_show = strcmp(command->verb, "show") == 0;
    if (!is_show && strcmp(command->verb, "list") != 0 && strcmp(command->verb, "stats") != 0) {
        return "list, show EVENT_ID or stats is needed";
    }
    if (count != (is_show ? 2 : 1)) {
        return is_show ? "show needs one EVENT_ID" : "too many arguments";
    }
    command->event_id = is_show ? argv[optind + 1] : NULL;
    return strcmp(command->verb, "list") == 0 || command->query.bytes == 0 ? NULL
                                                                           : "filters are for list";
}

/* The words of an answer of the API, {"detail":...}, are good enough for people. */
static const char *judge_filter(struct runs_command *command, char *why, size_t room)
{
    uint8_t *memory = mem_alloc(RUNS_QUERY_FAULT_BYTES);
    struct buf fault;
    buf_init(&fault, memory, RUNS_QUERY_FAULT_BYTES);
    unsigned status =
        command->query.is_truncated
            ? 422
            : runs_query_parse(&command->filter, command->values,
                               (struct slice){command->query.data, command->query.bytes}, &fault);
    (void)snprintf(why, room, "%.*s", (int)fault.bytes, (const char *)fault.data);
    mem_free(memory);
    return status == 0 ? NULL : why;
}

/* False: *exit_code, and everything is said. */
static bool parse(struct runs_command *command, int argc, char **argv, int *exit_code)
{
    char why[1024] = "";
    const char *fault = NULL;
    optind = 1;
    opterr = 0;
    for (int c; fault == NULL && (c = getopt_long(argc, argv, "hn:", options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(cli_help_text("runs"), stdout);
            *exit_code = CLI_DONE;
            return false;
        }
        fault = take_option(command, c);
        if (fault != NULL) {
            *exit_code = cli_usage("runs", "%s: %s", fault, argv[optind - 1]);
            return false;
        }
    }
    fault = take_words(command, argc, argv);
    fault = fault == NULL ? judge_filter(command, why, sizeof why) : fault;
    if (fault != NULL) {
        *exit_code = cli_usage("runs", "%s", fault);
        return false;
    }
    return true;
}

/* ---- an answer ---- */

struct answer {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
};

static bool answer_put(void *context, struct slice piece)
{
    struct answer *answer = context;
    if (piece.bytes > ANSWER_BYTES_MAX - answer->bytes) {
        return false;
    }
    if (answer->bytes + piece.bytes > answer->capacity) {
        size_t capacity = (answer->bytes + piece.bytes) * 2;
        uint8_t *grown = mem_alloc(capacity);
        if (answer->bytes > 0) {
            memcpy(grown, answer->data, answer->bytes);
        }
        mem_free(answer->data);
        answer->data = grown;
        answer->capacity = capacity;
    }
    memcpy(answer->data + answer->bytes, piece.data, piece.bytes);
    answer->bytes += piece.bytes;
    return true;
}

/* ---- printing ---- */

/* What a client sent goes to a terminal: control characters, C1 among them, are shown, not obeyed. */
static void put_visible(struct slice text)
{
    print_visible(stdout, text, false); /* a tab would break the table */
}

/* A member's value for people: a text without its escapes. */
static void put_value(const struct lookup_member *member)
{
    if (!member->is_string || !member->value_has_escape) {
        put_visible(member->value);
        return;
    }
    uint8_t *text = mem_alloc(member->value.bytes);
    size_t bytes = json_unescape(member->value, text, member->value.bytes);
    put_visible((struct slice){text, bytes});
    mem_free(text);
}

static bool is_null(const struct lookup_member *member)
{
    return !member->is_string && member->value.bytes == 4 &&
           memcmp(member->value.data, "null", 4) == 0;
}

static bool is_named(const struct lookup_member *member, const char *name)
{
    return member->key.bytes == strlen(name) && memcmp(member->key.data, name, strlen(name)) == 0;
}

/* For a line; at the beginning of a character. One with escapes is not cut: where they end takes reading it. */
static struct slice cut(const struct lookup_member *member)
{
    struct slice value = member->value;
    if (member->value_has_escape || value.bytes <= SHOWN_BYTES) {
        return value;
    }
    value.bytes = SHOWN_BYTES;
    while (value.bytes > 0 && (value.data[value.bytes] & 0xc0) == 0x80) { /* bound: SHOWN_BYTES */
        value.bytes--;
    }
    return value;
}

/* In the order of the columns of a line; what is not there is "-". */
static void put_line(struct slice item)
{
    static const char *const names[] = {"created_at",   "status",      "agent_name",
                                        "job_type",     "duration_ms", "items_succeeded",
                                        "items_failed", "event_id",    "error_summary"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct lookup_object object;
        struct lookup_member member;
        bool is_found = lookup_object_open(&object, item);
        while (is_found && (is_found = lookup_object_next(&object, &member) == 1) &&
               !is_named(&member, names[i])) { /* bound: the item */
        }
        printf(i == 0 ? "" : "\t");
        if (!is_found || is_null(&member)) {
            printf("-");
        } else {
            member.value = cut(&member);
            put_value(&member);
        }
    }
    printf("\n");
}

static void put_members(struct slice item)
{
    struct lookup_object object;
    struct lookup_member member;
    if (!lookup_object_open(&object, item)) {
        return;
    }
    while (lookup_object_next(&object, &member) == 1) { /* bound: the item */
        if (!is_null(&member)) {
            put_visible(member.key);
            printf(": ");
            put_value(&member);
            printf("\n");
        }
    }
}

static void put_ndjson(struct slice item)
{
    /* What a client sent as metrics_json may have line breaks between its tokens. */
    for (size_t i = 0; i < item.bytes; i++) {
        bool is_break = item.data[i] == '\n' || item.data[i] == '\r';
        (void)fputc(is_break ? ' ' : item.data[i], stdout);
    }
    (void)fputc('\n', stdout);
}

static int put_list(const struct runs_command *command, struct slice answer)
{
    struct run_batch batch;
    struct issue_list issues;
    struct slice item;
    uint32_t index = 0;
    run_batch_open(&batch, answer);
    while (run_batch_next(&batch, &item, &index, &issues) == RUN_BATCH_ELEMENT) { /* bound: limit */
        if (command->is_ndjson) {
            put_ndjson(item);
        } else {
            put_line(item);
        }
    }
    return CLI_DONE;
}

static int put_answer(const struct runs_command *command, const struct answer *answer)
{
    struct slice text = {answer->data, answer->bytes};
    if (strcmp(command->verb, "list") == 0) {
        (void)put_list(command, text);
    } else if (command->is_ndjson) {
        put_ndjson(text);
    } else {
        put_members(text);
    }
    return fflush(stdout) == 0 ? CLI_DONE : CLI_FAILED;
}

/* ---- asking ---- */

static int ask(struct runs_command *command, struct runs_reader *reader, struct answer *answer,
               struct err *err)
{
    if (strcmp(command->verb, "list") == 0) {
        return runs_list(reader, &command->filter, answer_put, answer, err);
    }
    if (strcmp(command->verb, "stats") == 0) {
        char now[CLOCK_RFC3339_BYTES + 1] = "";
        (void)clock_rfc3339(now, clock_real_ns(), 6);
        return runs_metrics(reader, now, answer_put, answer, err);
    }
    struct slice id = {(const uint8_t *)command->event_id, strlen(command->event_id)};
    int r = runs_get(reader, id, answer_put, answer, err);
    return r == 0 ? err_set(err, -ENOENT, "Run not found: %s", command->event_id) : r;
}

static int open_and_ask(struct runs_command *command, struct answer *answer, struct err *err)
{
    static const struct runs_read_model model = {
        .repo_url = run_repo_url, .commit_url = run_commit_url, .json_check = json_validate};
    struct runs_reader *reader = NULL;
    char path[4096];
    int n = command->runs_db != NULL
                ? snprintf(path, sizeof path, "%s", command->runs_db)
                : snprintf(path, sizeof path, "%s/" BACKUP_RUNS, command->data_dir);
    if (n < 0 || (size_t)n >= sizeof path) {
        return err_set(err, -ENAMETOOLONG, "%s: too long", command->data_dir);
    }
    int r = runs_reader_open(&reader, path, &model, err);
    if (r < 0) {
        return r;
    }
    r = ask(command, reader, answer, err);
    runs_reader_close(reader);
    return r;
}

int cli_runs(int argc, char **argv)
{
    struct runs_command command = {.data_dir = "./data", .is_ndjson = isatty(STDOUT_FILENO) == 0};
    struct answer answer = {0};
    struct err err = {0};
    int exit_code = CLI_DONE;
    buf_init(&command.query, command.query_memory, sizeof command.query_memory);
    if (!parse(&command, argc, argv, &exit_code)) {
        return exit_code;
    }
    if (open_and_ask(&command, &answer, &err) < 0) {
        fprintf(stderr, "sluice runs: %s\n", err.text);
        exit_code = CLI_FAILED;
    } else {
        exit_code = put_answer(&command, &answer);
    }
    mem_free(answer.data);
    return exit_code;
}
