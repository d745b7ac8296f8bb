/*
 * cli: the options that every command shares, and the way commands speak: stdout carries the
 * result, stderr what went wrong. Fails only by telling the user.
 */
#include "cli/cli.h"

#include "core/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool cli_put(int fd, const struct buf *text)
{
    size_t done = 0;
    while (done < text->bytes) { /* ends: each turn writes, waits for room, or fails */
        ssize_t n = write(fd, text->data + done, text->bytes - done);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            (void)poll(&room, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            return false;
        } else if (n > 0) {
            done += (size_t)n;
        }
    }
    return true;
}

__attribute__((format(printf, 3, 0))) static void cli_vsay(int fd, const char *prefix,
                                                           const char *format, va_list args)
{
    char memory[2048];
    char message[1536];
    struct buf line;
    buf_init(&line, memory, sizeof memory);
    (void)vsnprintf(message, sizeof message, format, args);
    buf_put_text(&line, prefix);
    buf_put_text(&line, message);
    buf_put_char(&line, '\n');
    (void)cli_put(fd, &line);
}

void cli_say(int fd, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cli_vsay(fd, "", format, args);
    va_end(args);
}

int cli_usage(const char *command, const char *format, ...)
{
    char prefix[64];
    va_list args;
    (void)snprintf(prefix, sizeof prefix, "sluice %.32s: ", command);
    va_start(args, format);
    cli_vsay(STDERR_FILENO, prefix, format, args);
    va_end(args);
    cli_say(STDERR_FILENO, "try: sluice help %s", cli_help_text(command) != NULL ? command : "");
    return CLI_USAGE;
}

/* One step through argv: the option at index, and its value if it is one of those that have one. */
struct cli_cursor {
    int argc;
    char **argv;
    int index;
};

/* True when argv[index] is `name VALUE` or `name=VALUE`; moves past it. *value is NULL when the
 * value is missing. */
static bool cli_take(struct cli_cursor *cursor, const char *name, const char **value)
{
    const char *option = cursor->argv[cursor->index];
    size_t n = strlen(name);
    if (strncmp(option, name, n) != 0 || (option[n] != '\0' && option[n] != '=')) {
        return false;
    }
    cursor->index++;
    if (option[n] == '=') {
        *value = option + n + 1;
        return true;
    }
    bool has_value = cursor->index < cursor->argc;
    *value = has_value ? cursor->argv[cursor->index++] : NULL;
    return true;
}

static int cli_add_set(struct cli_sources *cli, const char *command, const char *text)
{
    if (strchr(text, '=') == NULL) {
        return cli_usage(command, "--set needs section.key=value, not '%.96s'", text);
    }
    if (cli->sources.set_count == CLI_SETS_MAX - 2) { /* two are kept for --data-dir and --listen */
        return cli_usage(command, "more than %d --set options; use a file (--config)",
                         CLI_SETS_MAX - 2);
    }
    cli->sets[cli->sources.set_count++] = text;
    return 0;
}

static int cli_add_listen(struct cli_sources *cli, const char *command, const char *address)
{
    size_t used = strlen(cli->listen);
    const char *before = used == 0 ? "server.listen=" : ",";
    int n = snprintf(cli->listen + used, sizeof cli->listen - used, "%s%s", before, address);
    if (n < 0 || (size_t)n >= sizeof cli->listen - used) {
        return cli_usage(command, "too many --listen options");
    }
    return 0;
}

static int cli_set_data_dir(struct cli_sources *cli, const char *command, const char *directory)
{
    int n = snprintf(cli->data_dir, sizeof cli->data_dir, "store.data_dir=%s", directory);
    if (n < 0 || (size_t)n >= sizeof cli->data_dir) {
        return cli_usage(command, "--data-dir is longer than %d bytes", CONFIG_TEXT_BYTES - 1);
    }
    return 0;
}

enum cli_option {
    CLI_NONE = 0,
    CLI_CONFIG,
    CLI_SET,
    CLI_DATA_DIR,
    CLI_LISTEN
};

static enum cli_option cli_next(struct cli_cursor *cursor, const char **name, const char **value)
{
    static const struct {
        const char *name;
        enum cli_option option;
    } options[] = {{"--config", CLI_CONFIG},
                   {"--set", CLI_SET},
                   {"--data-dir", CLI_DATA_DIR},
                   {"--listen", CLI_LISTEN}};
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        if (cli_take(cursor, options[i].name, value)) {
            *name = options[i].name;
            return options[i].option;
        }
    }
    return CLI_NONE;
}

static int cli_apply(struct cli_sources *cli, const char *command, enum cli_option option,
                     const char *value)
{
    switch (option) {
    case CLI_CONFIG:
        cli->sources.file = value;
        return 0;
    case CLI_SET:
        return cli_add_set(cli, command, value);
    case CLI_DATA_DIR:
        return cli_set_data_dir(cli, command, value);
    case CLI_LISTEN:
        return cli_add_listen(cli, command, value);
    case CLI_NONE:
        break;
    }
    return 0;
}

/* What is no shared option with a value: a flag, or the command's own business. */
static int cli_take_other(struct cli_sources *cli, struct cli_cursor *cursor)
{
    char *word = cursor->argv[cursor->index++];
    if (strcmp(word, "--json") == 0) {
        cli->is_json = true;
        return 0;
    }
    if (cli->rest_count == CLI_REST_MAX) {
        return cli_usage(cursor->argv[0], "too many arguments");
    }
    cli->rest[cli->rest_count++] = word;
    return 0;
}

static bool cli_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

bool cli_sources(struct cli_sources *cli, int argc, char **argv, int *exit_code)
{
    ASSERT(argc >= 1);
    memset(cli, 0, sizeof *cli);
    cli->sources.environment = environ;
    cli->sources.sets = cli->sets;
    if (cli_wants_help(argc, argv)) {
        char *help[] = {argv[0], argv[0], NULL};
        *exit_code = cli_help(2, help);
        return false;
    }
    struct cli_cursor cursor = {.argc = argc, .argv = argv, .index = 1};
    int r = 0;
    while (cursor.index < argc && r == 0) {
        const char *name = NULL;
        const char *value = NULL;
        enum cli_option option = cli_next(&cursor, &name, &value);
        if (option == CLI_NONE) {
            r = cli_take_other(cli, &cursor);
        } else if (value == NULL) {
            r = cli_usage(argv[0], "%s needs a value", name);
        } else {
            r = cli_apply(cli, argv[0], option, value);
        }
    }
    if (r != 0) {
        *exit_code = r;
        return false;
    }
    /* The plain options come last: --data-dir is meant, whatever a --set before it says. */
    if (cli->data_dir[0] != '\0') {
        cli->sets[cli->sources.set_count++] = cli->data_dir;
    }
    if (cli->listen[0] != '\0') {
        cli->sets[cli->sources.set_count++] = cli->listen;
    }
    return true;
}

bool cli_no_rest(const struct cli_sources *cli, const char *command, int *exit_code)
{
    if (cli->rest_count == 0) {
        return true;
    }
    bool is_option = cli->rest[0][0] == '-';
    *exit_code = cli_usage(command, "%s '%.96s'", is_option ? "no such option:" : "does not take",
                           cli->rest[0]);
    return false;
}

bool cli_load(const struct cli_sources *cli, struct config *config)
{
    struct config_problems *problems = mem_alloc(sizeof *problems);
    int r = config_load(config, &cli->sources, problems);
    for (unsigned i = 0; i < problems->warning_count && i < CONFIG_WARNINGS_MAX; i++) {
        cli_say(STDERR_FILENO, "warning: %s", problems->warnings[i]);
    }
    for (unsigned i = 0; i < problems->count && i < CONFIG_PROBLEMS_MAX; i++) {
        cli_say(STDERR_FILENO, "%s", problems->text[i]);
    }
    if (problems->count > CONFIG_PROBLEMS_MAX) {
        cli_say(STDERR_FILENO, "and %u more", problems->count - CONFIG_PROBLEMS_MAX);
    }
    mem_free(problems);
    return r == 0;
}
