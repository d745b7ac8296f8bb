/*
 * main: the command table.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"serve", cli_serve},
    {"doctor", cli_doctor},
    {"config", cli_config},
    {"query", cli_query},
    {"tail", cli_tail},
    {"top", cli_top},
    {"backup", cli_backup},
    {"restore", cli_restore},
    {"export", cli_export},
    {"dump", cli_dump},
    {"verify", cli_verify},
    {"version", cli_version},
    {"bench", cli_bench},
    {"help", cli_help},
    {"lambda", cli_lambda},
    {"replay", cli_replay},
    {"quarantine", cli_quarantine},
    {"runs", cli_runs},
};

int main(int argc, char **argv)
{
    const char *name = argc < 2 ? "help" : argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            /* A command sees its own name as argv[0]; bare `sluice` is `sluice help`. */
            char *bare[] = {argv[0], NULL};
            return argc < 2 ? commands[i].run(1, bare) : commands[i].run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "sluice: there is no command '%s'; sluice help lists them\n", name);
    return CLI_USAGE;
}
