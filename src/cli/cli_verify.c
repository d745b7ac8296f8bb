/*
 * sluice verify: every byte of the log in every form: headers, chain, checksums, framing, density
 * of LSNs, order of segments, padding, footers, indexes and their filters. One line per fault with
 * file, offset and LSN; then the catalog (SQLite's integrity_check, and its rows against the
 * files), and the agent-run database: journal, integrity_check, schema, its position against the end of the log. A progress bar
 * on a terminal. Works beside a running server.
 */
#include "cli/cli.h"

#include "api/record_keys.h"
#include "cli/progress.h"
#include "core/err.h"
#include "core/mem.h"
#include "model/lookup.h"
#include "store/backup.h"
#include "store/catalog.h"
#include "store/lineage.h"
#include "store/node.h"
#include "store/reader.h"
#include "store/runs_verify.h"
#include "store/view_load.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

struct verify_command {
    const char *data_dir;
    const char *runs_db; /* NULL: in the data directory */
    struct verify_report report;
    struct runs_verified runs;
    struct sqlite_faults runs_faults;
    uint64_t runs_fault_count;
};

static void verify_on_fault(void *context, const char *line)
{
    (void)context;
    printf("FAULT %s\n", line);
}

static void verify_on_note(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "sluice verify: %s\n", line);
}

static int verify_log(struct file_io *io, struct verify_report *report, struct err *err)
{
    struct progress progress;
    void *scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    struct verify_options options = {.on_fault = verify_on_fault,
                                     .on_progress = progress_bytes,
                                     .context = &progress,
                                     .keys = record_keys,
                                     .keys_context = scratch};
    progress_open(&progress, "verify");
    int result = log_verify_deep(io, report, &options, err);
    progress_close(&progress);
    mem_free(scratch);
    return result;
}

/* The catalog is a view: damage in it loses nothing, but whoever opens it should know. */
static int verify_catalog(const char *data_dir, struct file_io *io, struct verify_report *report,
                          struct err *err)
{
    struct log_views *views = NULL;
    int result = log_views_open(&views, io, err);
    if (result < 0) {
        return result;
    }
    result = log_views_load(views, io, NULL, NULL, err);
    if (result == 0) {
        struct log_view *view = log_view_take(views);
        result = catalog_verify(data_dir, view, verify_on_fault, NULL, &report->faults, err);
        log_view_give(views, view);
    }
    log_views_close(views);
    return result;
}

/* Its name in the data directory, unless it is elsewhere (runs.db). */
static int runs_path(char *path, size_t room, const char *data_dir, const char *runs_db,
                     struct err *err)
{
    int n = runs_db != NULL ? snprintf(path, room, "%s", runs_db)
                            : snprintf(path, room, "%s/" BACKUP_RUNS, data_dir);
    return n > 0 && (size_t)n < room ? 0 : err_set(err, -ENAMETOOLONG, "%s: too long", data_dir);
}

static int verify_runs(struct verify_command *command, struct file_io *io, struct err *err)
{
    struct ulid node;
    char path[4096];
    char text[ULID_TEXT_BYTES + 1] = "";
    int r = node_read(&node, io, err);
    if (r < 0 && r != -ENOENT) {
        return r;
    }
    if (r == 0) {
        ulid_format(text, &node);
    }
    r = runs_path(path, sizeof path, command->data_dir, command->runs_db, err);
    return r < 0 ? r : runs_verify(&command->runs, path, text, &command->runs_faults, err);
}

/* Where nobody has a name yet, nobody has a lineage either. */
static int verify_lineage(struct verify_report *report, struct file_io *io, struct err *err)
{
    struct ulid node;
    int r = node_read(&node, io, err);
    if (r < 0) {
        return 0; /* a damaged name is made again from the log */
    }
    struct lineage *lineage = mem_alloc(sizeof *lineage);
    r = lineage_read(lineage, io, node, err);
    mem_free(lineage);
    if (r == ERR_CORRUPT) {
        verify_on_fault(NULL, err->text);
        report->faults++;
        return 0;
    }
    return r;
}

static int verify_all(struct verify_command *command, struct file_io *io, struct err *err)
{
    int r = verify_runs(command, io, err); /* first: see runs_verify.h */
    r = r < 0 ? r : verify_log(io, &command->report, err);
    r = r < 0 ? r : verify_catalog(command->data_dir, io, &command->report, err);
    r = r < 0 ? r : verify_lineage(&command->report, io, err);
    if (r == 0) {
        runs_verify_position(&command->runs, command->report.last_lsn, &command->runs_faults);
        command->report.faults += command->runs_fault_count;
    }
    return r;
}

/* False: *exit_code, and everything is said. */
static bool parse(struct verify_command *command, int argc, char **argv, int *exit_code)
{
    static const struct option table[] = {{"data-dir", required_argument, NULL, 'd'},
                                          {"runs-db", required_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    optind = 1;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (c == 'h') {
            fputs(cli_help_text("verify"), stdout);
            *exit_code = CLI_DONE;
            return false;
        }
        if (c == '?') {
            *exit_code = cli_usage("verify", "unknown option, or one without its value: %s",
                                   argv[optind - 1]);
            return false;
        }
        *(c == 'd' ? &command->data_dir : &command->runs_db) = optarg;
    }
    if (optind < argc) {
        *exit_code = cli_usage("verify", "takes no arguments: %s", argv[optind]);
        return false;
    }
    return true;
}

static void print_runs(const struct runs_verified *runs)
{
    if (!runs->is_there) {
        return;
    }
    printf("agent runs: schema version %lld, %lld runs, %lld events", (long long)runs->version,
           (long long)runs->runs, (long long)runs->events);
    if (runs->has_position) {
        printf(", applied up to LSN %llu\n", (unsigned long long)runs->applied_lsn);
    } else {
        printf(", not yet served by this node\n");
    }
}

int cli_verify(int argc, char **argv)
{
    struct verify_command command = {.data_dir = "./data"};
    struct verify_report *report = &command.report;
    struct err err = {0};
    struct file_io *io = NULL;
    int exit_code = CLI_DONE;
    if (!parse(&command, argc, argv, &exit_code)) {
        return exit_code;
    }
    command.runs_faults =
        (struct sqlite_faults){.name = command.runs_db != NULL ? command.runs_db : BACKUP_RUNS,
                               .on_fault = verify_on_fault,
                               .on_note = verify_on_note,
                               .count = &command.runs_fault_count};
    int result = file_io_real_open_existing(&io, command.data_dir, &err);
    if (result == 0) {
        result = verify_all(&command, io, &err);
        io->ops->destroy(io);
    }
    if (result < 0) {
        fprintf(stderr, "sluice verify: %s\n", err.text);
        return 1;
    }
    printf("%s: %llu segments (%llu sealed, %llu compacted), %llu batches, %llu marks, %llu "
           "records (LSN %llu to %llu), %llu "
           "bytes, %llu torn at the end, %llu faults\n",
           report->faults == 0 ? "ok" : "DAMAGED", (unsigned long long)report->segments,
           (unsigned long long)report->sealed, (unsigned long long)report->compacted,
           (unsigned long long)report->batches, (unsigned long long)report->marks,
           (unsigned long long)report->records, (unsigned long long)report->first_lsn,
           (unsigned long long)report->last_lsn, (unsigned long long)report->bytes,
           (unsigned long long)report->torn_batches, (unsigned long long)report->faults);
    print_runs(&command.runs);
    return report->faults == 0 ? 0 : 1;
}
