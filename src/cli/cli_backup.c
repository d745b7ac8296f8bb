/*
 * sluice backup, sluice restore: see store/backup.h. A progress bar on a terminal, one line at the end.
 */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/progress.h"
#include "store/backup.h"

struct copy_command {
    const char *name;
    const char *option; /* the backup's place: "to" or "from" */
    const char *backup;
    const char *data_dir;
    const char *runs_db; /* NULL: in the data directory */
};

/* False: the exit code, and everything is said. */
static bool parse(struct copy_command *command, int argc, char **argv, int *exit_code)
{
    bool is_backup = strcmp(command->name, "backup") == 0;
    const struct option table[] = {
        {"data-dir", required_argument, NULL, 'd'},
        {command->option, required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},
        /* of backup only: a backup says by itself where its files belong */
        {is_backup ? "runs-db" : NULL, required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0}};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (c == 'h') {
            fputs(cli_help_text(command->name), stdout);
            *exit_code = CLI_DONE;
            return false;
        }
        if (c == '?') {
            *exit_code = cli_usage(command->name, "unknown option, or one without its value: %s",
                                   argv[optind - 1]);
            return false;
        }
        *(c == 'd' ? &command->data_dir : c == 'r' ? &command->runs_db : &command->backup) = optarg;
    }
    if (optind < argc || command->backup == NULL) {
        *exit_code =
            cli_usage(command->name, "--%s DIR is needed, and nothing else", command->option);
        return false;
    }
    return true;
}

static void on_problem(void *context, const char *line)
{
    progress_close(context); /* the line stands alone; the bar comes back by itself */
    fprintf(stderr, "sluice backup: left out: %s\n", line);
}

static int finish(const struct copy_command *command, int result,
                  const struct backup_report *report, const struct err *err)
{
    if (result < 0) {
        fprintf(stderr, "sluice %s: %s\n", command->name, err->text);
        return CLI_FAILED;
    }
    printf("%s: %llu files (%llu linked), %llu bytes\n", command->name,
           (unsigned long long)report->files, (unsigned long long)report->linked,
           (unsigned long long)report->bytes);
    if (report->left_out > 0) {
        fprintf(stderr,
                "sluice %s: the copy is good, but %llu damaged files are not in it: see sluice "
                "verify --data-dir %s\n",
                command->name, (unsigned long long)report->left_out, command->data_dir);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

int cli_backup(int argc, char **argv)
{
    struct copy_command command = {.name = "backup", .option = "to", .data_dir = "./data"};
    struct backup_report report;
    struct progress progress;
    struct err err = {0};
    int exit_code = CLI_DONE;
    if (!parse(&command, argc, argv, &exit_code)) {
        return exit_code;
    }
    progress_open(&progress, "backup");
    struct backup_progress show = {
        .on_bytes = progress_bytes, .on_problem = on_problem, .context = &progress};
    const struct backup_source source = {.data_dir = command.data_dir, .runs_db = command.runs_db};
    int r = backup_make(&source, command.backup, &show, &report, &err);
    progress_close(&progress);
    return finish(&command, r, &report, &err);
}

int cli_restore(int argc, char **argv)
{
    struct copy_command command = {.name = "restore", .option = "from", .data_dir = "./data"};
    struct backup_report report;
    struct progress progress;
    struct err err = {0};
    int exit_code = CLI_DONE;
    if (!parse(&command, argc, argv, &exit_code)) {
        return exit_code;
    }
    progress_open(&progress, "restore");
    struct backup_progress show = {.on_bytes = progress_bytes, .context = &progress};
    int r = backup_restore(command.backup, command.data_dir, &show, &report, &err);
    progress_close(&progress);
    return finish(&command, r, &report, &err);
}
