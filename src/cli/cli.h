/*
 * cli: the commands of `sluice` that need no running server, and what all commands share: the
 * options that say where the configuration comes from, and how to speak. Main thread only, before
 * any agent exists.
 *
 * argv[0] is the command's name. Exit codes: 0 done, 1 failed, 2 wrong usage.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "core/base.h"
#include "core/buf.h"
#include "core/config.h"

#define CLI_DONE   0
#define CLI_FAILED 1
#define CLI_USAGE  2

int cli_config(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_version(int argc, char **argv);
int cli_help(int argc, char **argv);
/* Of the store and the bench, in files of their own; they read their options themselves. */
int cli_serve(int argc, char **argv);
int cli_dump(int argc, char **argv);
int cli_verify(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_query(int argc, char **argv);
int cli_tail(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_backup(int argc, char **argv);
int cli_restore(int argc, char **argv);
int cli_lambda(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_quarantine(int argc, char **argv);
int cli_runs(int argc, char **argv);

#define CLI_SETS_MAX 64
#define CLI_REST_MAX 64

/* What the shared options said. sources points into this struct and into argv: it stays valid as
 * long as both do, and the struct must not be copied. */
struct cli_sources {
    struct config_sources sources;
    const char *sets[CLI_SETS_MAX];
    char data_dir[CONFIG_TEXT_BYTES + 32];                   /* "store.data_dir=..." */
    char listen[CONFIG_LISTEN_MAX * CONFIG_TEXT_BYTES + 32]; /* "server.listen=...,..." */
    bool is_json;                                            /* --json */
    char *rest[CLI_REST_MAX + 1]; /* everything else, in order, NULL at the end: the command's own
                                     options and arguments */
    int rest_count;
};

/* Takes --config FILE, --set KEY=VALUE, --data-dir DIR, --listen HOST:PORT (also --name=value),
 * --json and --help out of argv; the environment is a source too. True: go on. False: stop with
 * *exit_code, everything has been said (wrong usage: why and how, on stderr; --help: the command's
 * text, on stdout). */
bool cli_sources(struct cli_sources *cli, int argc, char **argv, int *exit_code) MUST_USE;

/* For commands without options of their own: false, with a message and *exit_code = CLI_USAGE, when
 * anything is left in rest. */
bool cli_no_rest(const struct cli_sources *cli, const char *command, int *exit_code) MUST_USE;

/* Loads the configuration; says every problem and warning on stderr. config is valid when it
 * returns true. */
bool cli_load(const struct cli_sources *cli, struct config *config) MUST_USE;

/* "sluice dump: --from-lsn needs a number" and where to read more, on stderr. Returns CLI_USAGE. */
int cli_usage(const char *command, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes all of it to a descriptor; false when it cannot (a closed pipe). */
bool cli_put(int fd, const struct buf *text);
void cli_say(int fd, const char *format, ...) PRINTF_LIKE(2, 3);

/* The text of `sluice help COMMAND`, or NULL. */
const char *cli_help_text(const char *command);

#endif
