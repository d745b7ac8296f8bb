/*
 * sluice bench: load with numbered records, and the question that a benchmark should ask: is what
 * was acknowledged there?
 *
 *   sluice bench                                  starts a server of its own on a fresh data
 * directory, loads it, reports sluice bench --url 127.0.0.1:8080             loads a server that
 * runs already sluice bench --verify [--kills N]             kills its server with SIGKILL in full
 * flight N times, restarts it, then counts acknowledged-but-missing and duplicated records in the
 * log Everything after -- goes to the server that it starts.
 */
#include "cli/cli.h"

#include "cli/bench_load.h"
#include "cli/bench_server.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/mem.h"
#include "store/reader.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBERS_MAX (UINT64_C(1) << 28)

struct bench {
    struct bench_options load;
    char host[64];
    const char *url;
    const char *data_dir;
    char data_dir_text[64];
    bool is_own_dir;
    bool must_verify;
    bool is_json;
    unsigned kills;
    pid_t watch_pid; /* whose CPU is reported with --url */
    char *const *server_arguments;
    struct bench_server server;
    struct bench_numbers numbers;
    struct bench_result result;
    uint64_t process_cpu_us;
    uint64_t system_cpu_us;
    uint64_t rss_bytes;
    uint64_t kill_after_ns;
    const char *headers[8];
};

static void bench_usage(void)
{
    fprintf(stderr, "usage: sluice bench [--url HOST:PORT [--pid PID]] [--connections N] "
                    "[--pipeline N] [--batch RECORDS]\n"
                    "                    [--duration TIME] [--requests N] [--header 'Name: value'] "
                    "[--verify] [--kills N]\n"
                    "                    [--data-dir DIR] [--json] [-- SERVER ARGUMENTS]\n");
}

static int bench_parse_url(struct bench *bench)
{
    const char *text = bench->url;
    if (strncmp(text, "http://", 7) == 0) {
        text += 7;
    }
    const char *colon = strchr(text, ':');
    if (colon == NULL || (size_t)(colon - text) >= sizeof bench->host) {
        return -1;
    }
    memcpy(bench->host, text, (size_t)(colon - text));
    bench->load.port = (unsigned)strtoul(colon + 1, NULL, 10);
    return bench->load.port == 0 ? -1 : 0;
}

static int bench_option(struct bench *bench, int c)
{
    uint64_t number = optarg == NULL ? 0 : strtoull(optarg, NULL, 10);
    switch (c) {
    case 'u':
        ASSERT(optarg != NULL); /* getopt_long: required_argument */
        bench->url = optarg;
        return bench_parse_url(bench);
    case 'p':
        bench->watch_pid = (pid_t)number;
        return 0;
    case 'c':
        bench->load.connections = (unsigned)number;
        return number >= 1 && number <= 4000 ? 0 : -1;
    case 'l':
        bench->load.pipeline = (unsigned)number;
        return number >= 1 && number <= 1000 ? 0 : -1;
    case 'b':
        bench->load.batch = (unsigned)number;
        return number >= 1 && number <= 100000 ? 0 : -1;
    case 'd':
        ASSERT(optarg != NULL);
        return config_parse_time(&bench->load.duration_ns, optarg);
    case 'r':
        bench->load.requests_max = number;
        return 0;
    case 'H':
        if (bench->load.extra_count == ARRAY_COUNT(bench->headers)) {
            return -1;
        }
        bench->headers[bench->load.extra_count++] = optarg;
        return 0;
    case 'v':
        bench->must_verify = true;
        return 0;
    case 'k':
        bench->kills = (unsigned)number;
        bench->must_verify = true;
        return 0;
    case 'D':
        bench->data_dir = optarg;
        return 0;
    case 'j':
        bench->is_json = true;
        return 0;
    default:
        return -1;
    }
}

static int bench_parse(struct bench *bench, int argc, char **argv)
{
    static const struct option table[] = {
        {"url", required_argument, NULL, 'u'},
        {"pid", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'},
        {"pipeline", required_argument, NULL, 'l'},
        {"batch", required_argument, NULL, 'b'},
        {"duration", required_argument, NULL, 'd'},
        {"requests", required_argument, NULL, 'r'},
        {"header", required_argument, NULL, 'H'},
        {"verify", no_argument, NULL, 'v'},
        {"kills", required_argument, NULL, 'k'},
        {"data-dir", required_argument, NULL, 'D'},
        {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0},
    };
    bench->load = (struct bench_options){
        .connections = 64, .pipeline = 1, .batch = 1, .duration_ns = 5 * NS_S};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (bench_option(bench, c) < 0) {
            return -1;
        }
    }
    bench->server_arguments = argv + optind;
    bench->load.host = bench->url == NULL ? "127.0.0.1" : bench->host;
    bench->load.extra_headers = bench->headers;
    if (bench->url != NULL && (bench->must_verify && bench->data_dir == NULL)) {
        fprintf(stderr, "sluice bench: --verify with --url needs --data-dir of that server, and "
                        "cannot kill it\n");
        return -1;
    }
    return bench->url != NULL && bench->kills != 0 ? -1 : 0;
}

static bool bench_is_time_to_kill(void *context, uint64_t elapsed_ns)
{
    struct bench *bench = context;
    return bench->kill_after_ns != 0 && elapsed_ns >= bench->kill_after_ns;
}

/* One run of the load; kill_after_ns != 0: the server dies in the middle of it. */
static int bench_run_once(struct bench *bench, uint64_t kill_after_ns, struct err *err)
{
    pid_t pid = bench->url == NULL ? bench->server.pid : bench->watch_pid;
    uint64_t cpu_before = bench_process_cpu_us(pid);
    uint64_t system_before = bench_system_cpu_us();
    bench->kill_after_ns = kill_after_ns;
    if (bench->url == NULL) {
        bench->load.port = bench->server.port;
    }
    int result = bench_load_run(&bench->load, &bench->numbers, &bench->result,
                                bench_is_time_to_kill, bench, err);
    bench->process_cpu_us += bench_process_cpu_us(pid) - cpu_before;
    bench->system_cpu_us += bench_system_cpu_us() - system_before;
    bench->rss_bytes = u64_max(bench->rss_bytes, bench_process_rss_bytes(pid));
    return result;
}

static int bench_run(struct bench *bench, struct err *err)
{
    unsigned rounds = bench->kills + 1;
    struct bench_result total = bench->result;
    uint64_t duration_ns = bench->load.duration_ns;
    for (unsigned i = 0; i < rounds; i++) {
        int result = 0;
        if (bench->url == NULL && bench->server.pid == 0) {
            result =
                bench_server_start(&bench->server, bench->data_dir, bench->server_arguments, err);
        }
        if (result < 0) {
            return result;
        }
        bool must_kill = i < bench->kills;
        /* A different moment each time, from 30 ms on: some kills hit the first segment, some a
         * roll, some a pause. */
        uint64_t kill_after_ns = must_kill ? 30 * NS_MS + (uint64_t)i * 37 % 200 * NS_MS : 0;
        bench->load.duration_ns = must_kill ? 10 * NS_S : duration_ns;
        bench->result = total;
        result = bench_run_once(bench, kill_after_ns, err);
        total = bench->result;
        total.duration_ns = must_kill ? 0 : bench->result.duration_ns;
        if (must_kill) {
            bench_server_kill(&bench->server);
        }
        if (result < 0) {
            return result;
        }
    }
    return 0;
}

struct bench_check {
    uint64_t present, missing, duplicated, unknown, out_of_order;
};

/* Reads the log back and compares it with the promises. */
static int bench_check_log(struct bench *bench, struct bench_check *check, struct err *err)
{
    struct file_io *io = NULL;
    struct reader *reader = NULL;
    struct reader_record at;
    uint64_t *seen = mem_map(NUMBERS_MAX / 8);
    int result = seen == NULL ? err_set(err, -ENOMEM, "no memory for the check")
                              : file_io_real_open_existing(&io, bench->data_dir, err);
    if (result == 0) {
        result = reader_open(&reader, io, 1, err);
    }
    ASSERT(result < 0 || seen != NULL);
    while (result >= 0 && (result = reader_next(reader, &at, err)) == 1) {
        uint64_t number = bench_number_of(at.record.payload);
        if (number == 0 || number >= bench->numbers.next) {
            check->unknown++;
            continue;
        }
        uint64_t bit = UINT64_C(1) << (number % 64);
        check->duplicated += (seen[number / 64] & bit) != 0;
        seen[number / 64] |= bit;
        check->present++;
    }
    for (uint64_t i = 0; result >= 0 && i <= bench->numbers.next / 64; i++) {
        check->missing += (uint64_t)__builtin_popcountll(bench->numbers.acked[i] & ~seen[i]);
    }
    if (reader != NULL) {
        reader_close(reader);
    }
    if (io != NULL) {
        io->ops->destroy(io);
    }
    mem_unmap(seen, NUMBERS_MAX / 8);
    return result;
}

static void bench_report(const struct bench *bench)
{
    const struct bench_result *r = &bench->result;
    double seconds = (double)r->duration_ns / 1e9;
    double answered = (double)(r->accepted + r->refused + r->failed);
    if (bench->is_json) {
        printf("{\"requests\":%llu,\"accepted\":%llu,\"refused\":%llu,\"failed\":%llu,\"seconds\":%"
               ".3f,\"requests_per_s\":%.0f,"
               "\"records_per_s\":%.0f,\"p50_us\":%llu,\"p99_us\":%llu,\"max_us\":%llu,\"server_"
               "cpu_us_per_request\":%.3f,"
               "\"system_cpu_us_per_request\":%.3f,\"server_rss_bytes\":%llu}\n",
               (unsigned long long)r->requests, (unsigned long long)r->accepted,
               (unsigned long long)r->refused, (unsigned long long)r->failed, seconds,
               (double)r->accepted / seconds, (double)r->accepted * bench->load.batch / seconds,
               (unsigned long long)bench_quantile_us(r, 0.5),
               (unsigned long long)bench_quantile_us(r, 0.99),
               (unsigned long long)r->latency_max_us, (double)bench->process_cpu_us / answered,
               (double)bench->system_cpu_us / answered, (unsigned long long)bench->rss_bytes);
        return;
    }
    printf("%u connections, %u requests in flight each, %u record%s a request, %.2f s\n",
           bench->load.connections, bench->load.pipeline, bench->load.batch,
           bench->load.batch == 1 ? "" : "s", seconds);
    printf("  accepted   %llu requests, %.0f/s, %.0f records/s\n", (unsigned long long)r->accepted,
           (double)r->accepted / seconds, (double)r->accepted * bench->load.batch / seconds);
    printf("  refused    %llu (429, 503), failed %llu, connections lost %llu\n",
           (unsigned long long)r->refused, (unsigned long long)r->failed,
           (unsigned long long)r->lost);
    printf("  latency    p50 %llu us, p99 %llu us, max %llu us\n",
           (unsigned long long)bench_quantile_us(r, 0.5),
           (unsigned long long)bench_quantile_us(r, 0.99), (unsigned long long)r->latency_max_us);
    if (bench->process_cpu_us != 0) {
        printf("  CPU        server %.2f us a request (whole machine, client included, %.2f us), "
               "resident %.1f MiB\n",
               (double)bench->process_cpu_us / answered, (double)bench->system_cpu_us / answered,
               (double)bench->rss_bytes / 1048576.0);
    }
}

static int bench_verify(struct bench *bench, struct err *err)
{
    struct bench_check check = {0};
    uint64_t acked = 0;
    if (bench->url == NULL && bench_server_stop(&bench->server) != 0) {
        fprintf(stderr, "sluice bench: the server did not stop in order\n");
        return 1;
    }
    if (bench_check_log(bench, &check, err) < 0) {
        fprintf(stderr, "sluice bench: read the log back: %s\n", err->text);
        return 1;
    }
    for (uint64_t i = 0; i <= bench->numbers.next / 64; i++) {
        acked += (uint64_t)__builtin_popcountll(bench->numbers.acked[i]);
    }
    printf("  durability %u kills: %llu records acknowledged, %llu missing, %llu duplicated, %llu "
           "that nobody sent; %llu in the log\n",
           bench->kills, (unsigned long long)acked, (unsigned long long)check.missing,
           (unsigned long long)check.duplicated, (unsigned long long)check.unknown,
           (unsigned long long)check.present);
    bool is_fresh = bench->is_own_dir;
    return check.missing == 0 && check.duplicated == 0 && (check.unknown == 0 || !is_fresh) ? 0 : 1;
}

/* Only what a Sluice leaves behind, only in the directory that we made. */
static void bench_remove_dir(const char *path)
{
    char command[256];
    pid_t pid = fork();
    if (pid == 0) {
        snprintf(command, sizeof command, "%s", path);
        execlp("rm", "rm", "-rf", "--", command, (char *)NULL);
        _exit(127);
    }
    (void)pid;
}

static int bench_prepare(struct bench *bench, struct err *err)
{
    if (bench->data_dir == NULL && bench->url == NULL) {
        snprintf(bench->data_dir_text, sizeof bench->data_dir_text, "./sluice-bench-XXXXXX");
        if (mkdtemp(bench->data_dir_text) == NULL) {
            return err_set(err, -errno, "make a directory for the data: %s", err_name(-errno));
        }
        bench->data_dir = bench->data_dir_text;
        bench->is_own_dir = true;
    }
    bench->numbers = (struct bench_numbers){
        .next = 1, .capacity = NUMBERS_MAX, .acked = mem_map(NUMBERS_MAX / 8)};
    bench->result.latency = mem_alloc_array(BENCH_LATENCY_SLOTS, sizeof *bench->result.latency);
    return bench->numbers.acked == NULL ? err_set(err, -ENOMEM, "no memory for the numbers") : 0;
}

static void bench_release(struct bench *bench)
{
    mem_free(bench->result.latency);
    if (bench->numbers.acked != NULL) {
        mem_unmap(bench->numbers.acked, NUMBERS_MAX / 8);
    }
}

int cli_bench(int argc, char **argv)
{
    struct bench bench = {0};
    struct err err = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(cli_help_text("bench"), stdout);
        return CLI_DONE;
    }
    if (bench_parse(&bench, argc, argv) < 0) {
        bench_usage();
        return 2;
    }
    int exit_code = 0;
    int result = bench_prepare(&bench, &err);
    if (result == 0) {
        result = bench_run(&bench, &err);
    }
    if (result < 0) {
        fprintf(stderr, "sluice bench: %s\n", err.text);
        exit_code = 1;
    } else {
        bench_report(&bench);
        exit_code = bench.must_verify ? bench_verify(&bench, &err) : bench.result.failed != 0;
    }
    bench_server_kill(&bench.server);
    bench_release(&bench);
    if (bench.is_own_dir && exit_code == 0) {
        bench_remove_dir(bench.data_dir);
    } else if (bench.is_own_dir) {
        fprintf(stderr, "sluice bench: data kept in %s\n", bench.data_dir);
    }
    return exit_code;
}
