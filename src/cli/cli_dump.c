/*
 * sluice dump: the log as JSON lines, in log order, while a server runs or not.
 *
 *   {"lsn":1,"id":"01J...","kind":"log","received_at":"2025-08-25T10:00:00.123Z","record":{...as
 * sent}}
 *
 * Damage is reported on stderr and skipped; the exit code is then 1.
 */
#include "cli/cli.h"

#include "cli/record_print.h"
#include "core/err.h"
#include "store/reader.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dump_options {
    const char *data_dir;
    const char *kind; /* NULL: all */
    uint64_t from_lsn;
    uint64_t to_lsn;
};

static int dump_parse_lsn(const char *text, uint64_t *lsn)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return -1;
    }
    *lsn = strtoull(text, &end, 10);
    return *end == 0 ? 0 : -1;
}

static bool dump_knows_kind(const char *name)
{
    for (int kind = 0; kind <= RECORD_KIND_MAX; kind++) {
        const char *known = record_kind_name((enum record_kind)kind);
        if (known != NULL && strcmp(known, name) == 0) {
            return true;
        }
    }
    fprintf(stderr, "sluice dump: there is no kind '%s' (log, metric, event, run, gpu)\n", name);
    return false;
}

/* 0: go on; 1: --help; -1: wrong usage. */
static int dump_parse(struct dump_options *options, int argc, char **argv)
{
    static const struct option table[] = {
        {"data-dir", required_argument, NULL, 'd'}, {"kind", required_argument, NULL, 'k'},
        {"from-lsn", required_argument, NULL, 'a'}, {"to-lsn", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    *options = (struct dump_options){.data_dir = "./data", .to_lsn = UINT64_MAX};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        bool is_bad = c == '?';
        if (c == 'd') {
            options->data_dir = optarg;
        } else if (c == 'k') {
            options->kind = optarg;
            is_bad = !dump_knows_kind(optarg);
        } else if (c == 'a') {
            is_bad = dump_parse_lsn(optarg, &options->from_lsn) < 0;
        } else if (c == 'b') {
            is_bad = dump_parse_lsn(optarg, &options->to_lsn) < 0;
        }
        if (is_bad || c == 'h') {
            return c == 'h' ? 1 : -1;
        }
    }
    return optind == argc ? 0 : -1;
}

static bool dump_wants(const struct dump_options *options, const struct reader_record *at)
{
    const char *kind = record_kind_name(at->record.kind);
    return options->kind == NULL || (kind != NULL && strcmp(kind, options->kind) == 0);
}

static int dump_walk(struct reader *reader, const struct dump_options *options,
                     struct printer *printer)
{
    struct err err = {0};
    int exit_code = 0;
    struct reader_record at;
    for (;;) {
        int result = reader_next(reader, &at, &err);
        if (result == 0 || (result == 1 && at.lsn > options->to_lsn)) {
            return exit_code;
        }
        if (result == 1) {
            if (dump_wants(options, &at)) {
                printer_put(printer, at.lsn, at.built_at_ns, &at.record);
            }
            continue;
        }
        fprintf(stderr, "sluice dump: %s\n", err.text);
        exit_code = 1;
        if (result != ERR_CORRUPT) {
            return exit_code;
        }
    }
}

int cli_dump(int argc, char **argv)
{
    struct dump_options options;
    struct err err = {0};
    struct file_io *io = NULL;
    struct reader *reader = NULL;
    int parsed = dump_parse(&options, argc, argv);
    if (parsed != 0) {
        fputs(parsed > 0
                  ? cli_help_text("dump")
                  : "usage: sluice dump --data-dir DIR [--kind KIND] [--from-lsn A] [--to-lsn B]\n",
              parsed > 0 ? stdout : stderr);
        return parsed > 0 ? CLI_DONE : CLI_USAGE;
    }
    if (file_io_real_open_existing(&io, options.data_dir, &err) < 0 ||
        reader_open(&reader, io, options.from_lsn, &err) < 0) {
        fprintf(stderr, "sluice dump: %s\n", err.text);
        if (io != NULL) {
            io->ops->destroy(io);
        }
        return 1;
    }
    struct printer printer;
    printer_open(&printer, stdout, PRINT_NDJSON, false);
    int exit_code = dump_walk(reader, &options, &printer);
    printer_close(&printer);
    reader_close(reader);
    io->ops->destroy(io);
    if (fflush(stdout) != 0) {
        perror("sluice dump: standard output");
        return 1;
    }
    return exit_code;
}
