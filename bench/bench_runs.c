/*
 * bench_runs: what the applier of agent runs does alone: created runs per second into a database with all its indexes, journal_mode DELETE and
 * synchronous FULL, by commands per transaction.
 *
 *   bench_runs DIR [ROWS [SQL]]      DIR on the disk that is meant; SQL: run before, e.g. DROP INDEX ...
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "store/runs_apply.h"
#include "store/runs_schema.h"

#include <sqlite3.h>

static struct runs_fields fields;
static char event_id[64], run_id[64], created_at[64];

static void text(unsigned field, const char *value)
{
    fields.values[field] =
        (struct runs_value){.type = RUNS_TEXT, .text = {(const uint8_t *)value, strlen(value)}};
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* As the known client sends it: a random event_id, few agents, times that grow. */
static void make_run(uint64_t i)
{
    uint64_t a = mix(i + 1);
    static char agent[32];
    (void)snprintf(event_id, sizeof event_id, "%08x-%04x-4%03x-a%03x-%012" PRIx64,
                   (unsigned)(a >> 32), (unsigned)(a & 0xffff), (unsigned)(a >> 16 & 0xfff),
                   (unsigned)(a & 0xfff), mix(a) >> 16);
    (void)snprintf(run_id, sizeof run_id, "20251124T160000Z-agent-%08x", (unsigned)a);
    (void)snprintf(created_at, sizeof created_at, "2025-11-24T16:%02u:%02u.%06u+00:00",
                   (unsigned)(i / 60000000 % 60), (unsigned)(i / 1000000 % 60),
                   (unsigned)(i % 1000000));
    (void)snprintf(agent, sizeof agent, "agent-%02u", (unsigned)(a % 20));
    text(1, event_id);
    text(2, run_id);
    text(4, created_at);
    text(6, created_at);
    text(8, agent);
    text(10, "content_sync");
    text(11, "success");
    text(12, "docs");
    text(37, "worker-3");
    text(39, "cli");
    text(40, "{\"tokens\":1234,\"cost\":0.015}");
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

static int run(struct sqlite3 *db, uint64_t *next, uint64_t rows, uint64_t per_transaction)
{
    struct err err = {0};
    struct runs_apply *apply = NULL;
    struct runs_order order = {.command = RUNS_COMMAND_CREATE, .fields = &fields};
    int r = runs_apply_open(&apply, db, &err);
    uint64_t begun_ns = clock_mono_ns();
    uint64_t cpu_ns = cpu_now_ns();
    int written = 0;
    int unused = 0;
    (void)sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_WRITE, &written, &unused, 1);
    uint64_t transactions = 0;
    for (uint64_t done = 0; done < rows && r == 0; transactions++) {
        r = runs_apply_begin(apply, &err);
        for (uint64_t i = 0; i < per_transaction && r == 0; i++, done++) {
            enum runs_outcome outcome;
            char why[64];
            struct buf text_of;
            buf_init(&text_of, why, sizeof why);
            make_run((*next)++);
            order.time_ns = clock_real_ns();
            r = runs_apply_order(apply, &order, &outcome, &text_of, &err);
        }
        r = r == 0 ? runs_apply_commit(apply, *next, &err) : r;
    }
    double seconds = (double)(clock_mono_ns() - begun_ns) / (double)NS_S;
    cpu_ns = cpu_now_ns() - cpu_ns;
    (void)sqlite3_db_status(db, SQLITE_DBSTATUS_CACHE_WRITE, &written, &unused, 1);
    runs_apply_close(apply);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return r;
    }
    double count = (double)transactions;
    (void)printf("%8" PRIu64 " rows there, %4" PRIu64 " a transaction: %7.0f rows/s, %6.0f us a "
                 "transaction, %5.1f us of processor a row, %5.0f pages written a transaction\n",
                 *next, per_transaction, count * (double)per_transaction / seconds,
                 seconds * 1e6 / count, (double)cpu_ns / 1e3 / count / (double)per_transaction,
                 written / count);
    return 0;
}

int main(int argc, char **argv)
{
    char path[4096];
    char warnings[256];
    struct buf warning;
    struct err err = {0};
    struct runs_opened opened;
    struct sqlite3 *db = NULL;
    uint64_t next = 0;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_runs DIR [ROWS]\n");
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    uint64_t rows = argc > 2 ? strtoull(argv[2], NULL, 10) : 20000;
    buf_init(&warning, warnings, sizeof warnings);
    (void)snprintf(path, sizeof path, "%s/bench_runs.sqlite", argv[1]);
    (void)unlink(path);
    int r = runs_schema_open(&db, path, &opened, &warning, &err);
    if (r < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (argc > 3) { /* what an index costs: statements to run before */
        r = runs_sql_run(db, argv[3], &err);
    }
    r = r == 0 ? run(db, &next, 500, 1) : r;
    r = r == 0 ? run(db, &next, rows, 64) : r;
    r = r == 0 ? run(db, &next, rows, 500) : r;
    r = r == 0 ? run(db, &next, rows * 5, 5000) : r; /* grows the file */
    r = r == 0 ? run(db, &next, rows, 64) : r;
    r = r == 0 ? run(db, &next, rows, 500) : r;
    (void)sqlite3_close(db);
    (void)unlink(path);
    return r < 0 ? 1 : 0;
}
