/*
 * sluice verify: every byte of the log in every form: headers, chain, checksums, framing, density
 * of LSNs, order of segments, padding, footers, indexes and their filters. One line per fault with
 * file, offset and LSN; then the catalog (SQLite's integrity_check, and its rows against the
 * files). A progress bar on a terminal. Works beside a running server.
 */
#include "cli/cli.h"

#include "api/record_keys.h"
#include "cli/progress.h"
#include "core/err.h"
#include "core/mem.h"
#include "model/lookup.h"
#include "store/catalog.h"
#include "store/reader.h"
#include "store/view_load.h"

#include <getopt.h>
#include <stdio.h>

static void verify_on_fault(void *context, const char *line)
{
    (void)context;
    printf("FAULT %s\n", line);
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

int cli_verify(int argc, char **argv)
{
    static const struct option table[] = {{"data-dir", required_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *data_dir = "./data";
    struct err err = {0};
    struct file_io *io = NULL;
    struct verify_report report = {0};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (c == '?') {
            fprintf(stderr, "usage: sluice verify --data-dir DIR\n");
            return CLI_USAGE;
        }
        if (c == 'h') {
            fputs(cli_help_text("verify"), stdout);
            return CLI_DONE;
        }
        data_dir = optarg;
    }
    int result = file_io_real_open_existing(&io, data_dir, &err);
    if (result == 0) {
        result = verify_log(io, &report, &err);
        result = result < 0 ? result : verify_catalog(data_dir, io, &report, &err);
        io->ops->destroy(io);
    }
    if (result < 0) {
        fprintf(stderr, "sluice verify: %s\n", err.text);
        return 1;
    }
    printf("%s: %llu segments (%llu sealed, %llu compacted), %llu batches, %llu marks, %llu "
           "records (LSN %llu to %llu), %llu "
           "bytes, %llu torn at the end, %llu faults\n",
           report.faults == 0 ? "ok" : "DAMAGED", (unsigned long long)report.segments,
           (unsigned long long)report.sealed, (unsigned long long)report.compacted,
           (unsigned long long)report.batches, (unsigned long long)report.marks,
           (unsigned long long)report.records, (unsigned long long)report.first_lsn,
           (unsigned long long)report.last_lsn, (unsigned long long)report.bytes,
           (unsigned long long)report.torn_batches, (unsigned long long)report.faults);
    return report.faults == 0 ? 0 : 1;
}
