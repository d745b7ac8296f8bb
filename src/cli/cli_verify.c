/*
 * sluice verify: every byte of the log: headers, chain, checksums, framing, density of LSNs, order
 * of segments, padding. One line per fault with file, offset and LSN. Works beside a running
 * server.
 */
#include "cli/cli.h"

#include "core/err.h"
#include "store/reader.h"

#include <getopt.h>
#include <stdio.h>

static void verify_on_fault(void *context, const char *line)
{
    (void)context;
    printf("FAULT %s\n", line);
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
        result = log_verify(io, &report, verify_on_fault, NULL, &err);
        io->ops->destroy(io);
    }
    if (result < 0) {
        fprintf(stderr, "sluice verify: %s\n", err.text);
        return 1;
    }
    printf("%s: %llu segments, %llu batches, %llu marks, %llu records (LSN %llu to %llu), %llu "
           "bytes, %llu torn at the end, %llu faults\n",
           report.faults == 0 ? "ok" : "DAMAGED", (unsigned long long)report.segments,
           (unsigned long long)report.batches, (unsigned long long)report.marks,
           (unsigned long long)report.records, (unsigned long long)report.first_lsn,
           (unsigned long long)report.last_lsn, (unsigned long long)report.bytes,
           (unsigned long long)report.torn_batches, (unsigned long long)report.faults);
    return report.faults == 0 ? 0 : 1;
}
