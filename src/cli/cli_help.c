/*
 * cli_help: `sluice help [COMMAND]`. One text per command; each says what it does, its options, its
 * exit codes where they mean more than done and failed, and one example.
 */
#include "cli/cli.h"

#include <string.h>
#include <unistd.h>

#define HELP_SOURCES                                                                               \
    "  --config FILE          read FILE (INI, sections and keys as `sluice config` prints them)\n" \
    "  --set SECTION.KEY=VAL  set one key; may be given several times\n"                           \
    "  --data-dir DIR         where the log lives (store.data_dir)\n"

#define HELP_FILTERS                                                                               \
    "  --kind KIND            log, metric or event\n"                                              \
    "  --start TIME, --end TIME  RFC 3339, or now-5m (s m h d); inclusive\n"                       \
    "  --service NAME, --source NAME, --name NAME, --correlation-id ID\n"                          \
    "  --level LEVEL          that level and above\n"

#define HELP_EXIT "Exit codes: 0 done, 1 failed, 2 wrong usage.\n"

static const struct {
    const char *command;
    const char *line;
    const char *text;
} help_texts[] = {
    {"serve", "run the server in the foreground",
     "sluice serve [options]\n"
     "\n"
     "Takes records over HTTP and answers 202 when they are on stable storage. Prints a line with "
     "the word `ready` and the\n"
     "addresses when it serves. SIGTERM and SIGINT stop it in order (a second one at once); SIGHUP "
     "re-reads the configuration.\n"
     "\n" HELP_SOURCES
     "  --listen HOST:PORT     serve this address; may be given several times (server.listen)\n"
     "\n"
     "Flags win over the environment (SLUICE_SECTION_KEY), which wins over the file, which wins "
     "over the defaults.\n"
     "Logs go to stderr: text on a terminal, JSON lines otherwise (log.format). Exit code 0 after "
     "an orderly stop.\n"
     "\n"
     "  sluice serve --data-dir /var/lib/sluice --listen 0.0.0.0:8080 --set "
     "store.retention_age=7d\n"},
    {"doctor", "say what this host will give, and what is missing",
     "sluice doctor [options]\n"
     "\n"
     "Tries what the server needs (io_uring, locked memory, descriptors, direct and durable writes "
     "in the data directory, free\n"
     "space, clock, cores) and prints one line each: ok, note (works, but you should know) or "
     "problem (serve would fail).\n"
     "Writes and removes one scratch file of 1 MiB in the data directory, or beside it while it "
     "does not exist.\n"
     "\n" HELP_SOURCES "  --json                 one JSON object a line\n"
     "\n"
     "Exit codes: 0 serve can run here, 1 something would stop it, 2 wrong usage.\n"
     "\n"
     "  sluice doctor --data-dir /var/lib/sluice\n"},
    {"config", "print the effective configuration and where it came from",
     "sluice config [options]\n"
     "\n"
     "Prints every key with its value, where the value came from, and what it does. The listing is "
     "a valid sluice.conf.\n"
     "A configuration with problems is not printed: each problem is listed on stderr.\n"
     "\n" HELP_SOURCES "  --listen HOST:PORT     as for serve\n"
     "  --json                 one object: {\"section.key\": {\"value\", \"origin\", ...}}\n"
     "\n" HELP_EXIT "\n"
     "  sluice config > sluice.conf\n"},
    {"query", "find records",
     "sluice query [options] [TEXT]\n"
     "\n"
     "Finds records in a data directory as GET /v1/logs does, newest first, while a server runs on "
     "it or not. TEXT must occur in the\n"
     "message. Lines for people on a terminal (colours by level; NO_COLOR turns them off), NDJSON "
     "in "
     "a pipe.\n"
     "\n"
     "  --data-dir DIR         where the log lives; ./data\n" HELP_FILTERS
     "  --order asc|desc       of the log; newest first is desc, the default\n"
     "  -n, --limit N          at most so many; 100, 0 is all\n"
     "  -f, --follow           show what comes from now on (or from --start on), as tail does, "
     "until it is interrupted\n"
     "  --format FORMAT        text, ndjson or csv\n"
     "\n" HELP_EXIT "\n"
     "  sluice query --level error --start now-1h timeout\n"},
    {"tail", "show records as they come",
     "sluice tail [options] [TEXT]\n"
     "\n"
     "Shows the records of every kind that match as they reach the disk, until it is interrupted. "
     "Needs no server's leave: it\n"
     "reads the files. GET /v1/tail is the same over WebSocket.\n"
     "\n"
     "  --data-dir DIR         where the log lives; ./data\n" HELP_FILTERS
     "  --from-lsn N           begin with this record instead of the next to come\n"
     "  -n, --limit N          stop after so many\n"
     "  --format FORMAT        text, ndjson or csv\n"
     "\n" HELP_EXIT "\n"
     "  sluice tail --service billing --level warning\n"},
    {"export", "write records as NDJSON or CSV",
     "sluice export [options] [TEXT]\n"
     "\n"
     "Writes all matching records of every kind to standard output, oldest first. NDJSON lines are "
     "those of sluice dump, the record\n"
     "byte for byte as sent; CSV (RFC 4180) has a header line and the record in its last column.\n"
     "\n"
     "  --data-dir DIR         where the log lives; ./data\n" HELP_FILTERS
     "  --from-lsn N           begin with this record\n"
     "  -n, --limit N          at most so many\n"
     "  --format FORMAT        ndjson (default), csv or text\n"
     "\n" HELP_EXIT "\n"
     "  sluice export --kind log --start now-1d --format csv > day.csv\n"},
    {"top", "watch a running server",
     "sluice top [options]\n"
     "\n"
     "Shows rates, queues, latencies and disk of a running server from its GET /metrics: a screen "
     "on "
     "a terminal (Ctrl-C ends it), one\n"
     "JSON line per interval in a pipe.\n"
     "\n"
     "  --url HOST:PORT        which server; http://127.0.0.1:8080\n"
     "  --token TOKEN          where /metrics asks for one (auth.protect_health)\n"
     "  --interval SECONDS     1\n"
     "  --count N              stop after N\n"
     "\n" HELP_EXIT "\n"
     "  sluice top --url 127.0.0.1:8080\n"},
    {"replay", "deliver a part of the log once more",
     "sluice replay --sink NAME | --to URL [options]\n"
     "\n"
     "Sends the records of a range to an upstream, with their own ids and bytes, beside a running "
     "server or without one. The job has its\n"
     "own place in DIR/replay: interrupted or killed, the same command goes on where it was. An "
     "open end is the end of the log when the\n"
     "job was made. Progress on a terminal, one line at the end.\n"
     "\n" HELP_SOURCES "  --sink NAME            a configured sink (give the server's --config)\n"
     "  --to URL, --type TYPE  an upstream that is not configured; type http, or opensearch, "
     "clickhouse, sluice ...; its keys with\n"
     "                         --set sink.KEY=VALUE; --type file --to PATH writes a file\n"
     "  --from TIME, --to-time TIME    event times: RFC 3339, or now-5m (s m h d); inclusive\n"
     "  --from-lsn A, --to-lsn B       inclusive\n"
     "  --kind KIND[,KIND]     log, metric, event, run, gpu\n"
     "  --filter KEY=VALUE     service, level (and above), correlation_id, name, source, q (in the "
     "message), host, gpu, run; several\n"
     "                         times: all must hold\n"
     "  --rate N[K|M]          at most so many bytes a second (of request bodies, before "
     "compression)\n"
     "  --dry-run              count what would be sent, send nothing\n"
     "  --job NAME             the job's name; by default made of sink, range and filter\n"
     "  --again                begin a job anew that is there\n"
     "  --list                 the jobs of the data directory\n"
     "  --cancel               give a job up (--job NAME, or its options)\n"
     "  --json                 summary, dry run and list as JSON\n"
     "\n"
     "Exit codes: 0 all of it is delivered, 1 paused (SIGINT, SIGTERM), failed, or records were "
     "refused, expired or damaged, 2 wrong\n"
     "usage.\n"
     "\n"
     "  sluice replay --config sluice.conf --sink archive --from now-1d --filter service=billing "
     "--rate 5M\n"},
    {"quarantine", "see and settle what an upstream refused",
     "sluice quarantine list [--sink NAME] | show ID | requeue ID | requeue --sink NAME | drop ID "
     "| "
     "drop --sink NAME --yes\n"
     "\n"
     "Records that an upstream refused for good wait in quarantine. list and show read the data "
     "directory. requeue delivers again (when\n"
     "the upstream was mended), drop gives up; a running server is asked to do it over HTTP, else "
     "it is done in the data directory.\n"
     "\n"
     "  --data-dir DIR         where the log lives; ./data\n"
     "  --sink NAME            of this sink\n"
     "  --job NAME             of a replay job; after requeue, the job's command goes on\n"
     "  --url URL              of the running server; http://127.0.0.1:8080\n"
     "  --token-file FILE      a token with scope admin, on the first line\n"
     "  --yes                  drop all records of a sink without being asked again\n"
     "  --json                 one JSON object a line\n"
     "\n" HELP_EXIT "\n"
     "  sluice quarantine requeue --sink archive --data-dir /var/lib/sluice\n"},
    {"runs", "list, show and count agent runs",
     "sluice runs list [filters] | show EVENT_ID | stats\n"
     "\n"
     "Reads the agent-run database, beside a running server or without one: runs as GET "
     "/api/v1/runs lists them, newest first; one with\n"
     "all its fields; or how many there are, by agent. For people on a terminal, NDJSON in a "
     "pipe.\n"
     "\n"
     "  --data-dir DIR         where runs.sqlite lies; ./data\n"
     "  --runs-db FILE         the database, where runs.db says another place\n"
     "  --format FORMAT        text or ndjson; --json is ndjson\n"
     "  --agent NAME, --status STATUS, --job-type TYPE    of list: equal; failed, completed and "
     "succeeded are taken\n"
     "  --created-after TIME, --created-before TIME       exclusive; ISO 8601\n"
     "  --start-from TIME, --start-to TIME                inclusive\n"
     "  -n, --limit N          1 to 1000; 100\n"
     "  --offset N             leave out so many\n"
     "\n" HELP_EXIT "\n"
     "  sluice runs list --agent crawler --status failure -n 20\n"},
    {"backup", "copy a data directory, also while it is served",
     "sluice backup --to BACKUP [--data-dir DIR]\n"
     "\n"
     "Makes a consistent copy in the new directory BACKUP: the log up to a whole batch, the "
     "databases, "
     "and a MANIFEST with the digest of\n"
     "each file. Compacted segments are hard links where BACKUP is on the same file system: they "
     "cost no room. Works beside a\n"
     "running server. A directory without MANIFEST is a backup that was not finished. Damaged "
     "files are left out and named, with\n"
     "exit code 1.\n"
     "\n"
     "  --data-dir DIR         what to copy; ./data\n"
     "  --to BACKUP            a directory that does not exist or is empty\n"
     "  --runs-db FILE         the agent-run database, where runs.db says another place; in the "
     "backup it is runs.sqlite\n"
     "\n" HELP_EXIT "\n"
     "  sluice backup --data-dir /var/lib/sluice --to /backup/sluice-2026-11-21\n"},
    {"restore", "make a data directory from a backup",
     "sluice restore --from BACKUP [--data-dir DIR]\n"
     "\n"
     "Copies a backup into the new data directory DIR and checks the digest of every file on the "
     "way. "
     "DIR appears whole or not at\n"
     "all; a restore that was killed leaves DIR.restoring, which may be removed. Then: sluice "
     "verify --data-dir DIR, sluice serve --data-dir DIR.\n"
     "New records of the restored server go upstream as another stream (DIR/lineage), so that no "
     "upstream takes them for what the\n"
     "original has sent since the backup. For a copy made by other means: touch DIR/restored.\n"
     "\n"
     "  --from BACKUP          a directory that sluice backup made\n"
     "  --data-dir DIR         a directory that does not exist or is empty; ./data\n"
     "\n" HELP_EXIT "\n"
     "  sluice restore --from /backup/sluice-2026-11-21 --data-dir /var/lib/sluice\n"},
    {"dump", "print the records of a data directory",
     "sluice dump --data-dir DIR [--kind KIND] [--from-lsn A] [--to-lsn B]\n"
     "\n"
     "Prints one JSON line per record, {\"lsn\",\"id\",\"kind\",\"received_at\",\"record\"}, in "
     "the order of the log. Works while a\n"
     "server runs on the directory and without one; only what is durable is shown.\n"
     "\n"
     "  --kind KIND            only records of this kind: log, metric, event\n"
     "  --from-lsn A           from this record on, inclusive\n"
     "  --to-lsn B             up to this record, inclusive\n"
     "\n" HELP_EXIT "\n"
     "  sluice dump --data-dir /var/lib/sluice --kind log --from-lsn 1000 --to-lsn 2000\n"},
    {"verify", "check every checksum and sequence of a data directory",
     "sluice verify --data-dir DIR [--runs-db FILE]\n"
     "\n"
     "Reads the whole log and checks headers, checksums, the chain of batches and the density of "
     "LSNs; then the catalog and the agent-run\n"
     "database: journal mode, SQLite's integrity_check, schema, and that it is not ahead of the "
     "log. Changes nothing. Beside a\n"
     "server that database is checked in a copy without a name, where there is room for one.\n"
     "\n"
     "  --data-dir DIR         what to check; ./data\n"
     "  --runs-db FILE         the agent-run database, where runs.db says another place\n"
     "\n"
     "Exit codes: 0 and a summary, 1 with file, offset and LSN of each fault, 2 wrong usage.\n"
     "\n"
     "  sluice verify --data-dir /var/lib/sluice\n"},
    {"lambda", "be an AWS Lambda function behind an API Gateway",
     "sluice lambda\n"
     "\n"
     "A Lambda custom runtime (bootstrap): takes the batches that an http sink posts to an API "
     "Gateway and writes them to\n"
     "OpenSearch and Timestream, each record once however often a batch comes. Answers 200 when "
     "all of it is stored, 503 for\n"
     "passing trouble, 400 with the places of records that can never be stored.\n"
     "\n"
     "Its environment says everything:\n"
     "  OPENSEARCH_URL, OPENSEARCH_INDEX, OPENSEARCH_SERVICE (es, aoss, none)\n"
     "  TIMESTREAM_URL, TIMESTREAM_DB, TIMESTREAM_TABLE   without them metrics go to OpenSearch\n"
     "  AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, "
     "AWS_LAMBDA_RUNTIME_API (set by Lambda)\n"
     "\n"
     "Exit codes: 1 the environment is incomplete or the Runtime API is gone, 2 wrong usage.\n"
     "\n"
     "  sluice lambda\n"},
    {"version", "print the version",
     "sluice version [--json]\n"
     "\n"
     "Prints the version, the compiler and the kernel: the first line of a bug report.\n"},
    {"bench", "measure a server",
     "sluice bench [options]\n"
     "\n"
     "Sends records to a server and reports rate and latency. Shows progress on a terminal and "
     "stays quiet in a pipe.\n"
     "`sluice bench --help` lists what this build can measure.\n"
     "\n" HELP_EXIT},
    {"help", "explain a command",
     "sluice help [COMMAND]\n"
     "\n"
     "Lists the commands, or explains one.\n"},
};

const char *cli_help_text(const char *command)
{
    for (size_t i = 0; i < ARRAY_COUNT(help_texts); i++) {
        if (strcmp(help_texts[i].command, command) == 0) {
            return help_texts[i].text;
        }
    }
    return NULL;
}

static void help_put_commands(struct buf *out)
{
    buf_put_text(out, "sluice: a telemetry ingest server; what it has accepted is on "
                      "disk\n\nsluice COMMAND [options]\n\n");
    for (size_t i = 0; i < ARRAY_COUNT(help_texts); i++) {
        buf_printf(out, "  %-9s %s\n", help_texts[i].command, help_texts[i].line);
    }
    buf_put_text(out, "\nsluice help COMMAND explains one. " HELP_EXIT);
}

/* `sluice help`, `sluice help COMMAND`. An unknown command: the list, on stderr. */
int cli_help(int argc, char **argv)
{
    char memory[4096];
    struct buf out;
    buf_init(&out, memory, sizeof memory);
    const char *command = argc > 1 ? argv[1] : NULL;
    bool is_list = command == NULL || strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0;
    if (argc > 2) {
        return cli_usage("help", "takes one command");
    }
    if (is_list) {
        help_put_commands(&out);
        return cli_put(STDOUT_FILENO, &out) ? CLI_DONE : CLI_FAILED;
    }
    const char *text = cli_help_text(command);
    if (text == NULL) {
        buf_printf(&out, "sluice: no such command: %.64s\n\n", command);
        help_put_commands(&out);
        (void)cli_put(STDERR_FILENO, &out);
        return CLI_USAGE;
    }
    buf_put_text(&out, text);
    ASSERT(!out.is_truncated);
    return cli_put(STDOUT_FILENO, &out) ? CLI_DONE : CLI_FAILED;
}
