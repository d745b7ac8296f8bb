/*
 * runs_gauges: how the runs agent fares, for /healthcheck and /metrics. Any thread.
 */
#include <inttypes.h>
#include <stdatomic.h>

#include "api/runs.h"

/* A commit that waits for an outside reader is not a thread that hangs; the busy time-out is 5 s. */
#define STALL_NS (30 * NS_S)

/* relaxed, all: gauges. */
#define LOAD(word) ((uint64_t)atomic_load_explicit(&(word), memory_order_relaxed))

const char *runs_trouble(const struct runs_link *link, uint64_t now_ns)
{
    if (link == NULL) {
        return NULL;
    }
    const struct runs_status *status = runs_status(link->runs);
    enum runs_fault fault = (enum runs_fault)LOAD(status->fault);
    uint64_t beat = LOAD(status->heartbeat_ns);
    if (fault == RUNS_DAMAGED || fault == RUNS_FAILING || fault == RUNS_MOVED) {
        return runs_fault_text(fault);
    }
    return beat != 0 && beat + STALL_NS < now_ns ? "the runs agent does not answer" : NULL;
}

static void put(struct buf *out, const char *name, const char *type, const char *help,
                uint64_t value)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name,
               value);
}

static void put_outcomes(struct buf *out, const struct runs_status *status)
{
    const struct {
        const char *name;
        uint64_t count;
    } outcomes[] = {
        {"created", LOAD(status->created)}, {"duplicate", LOAD(status->duplicates)},
        {"updated", LOAD(status->updated)}, {"not_found", LOAD(status->not_found)},
        {"refused", LOAD(status->refused)},
    };
    buf_put_text(out, "# HELP sluice_runs_commands_total Commands applied to the database of agent "
                      "runs, by outcome.\n# TYPE sluice_runs_commands_total counter\n");
    for (size_t i = 0; i < ARRAY_COUNT(outcomes); i++) {
        buf_printf(out, "sluice_runs_commands_total{outcome=\"%s\"} %" PRIu64 "\n",
                   outcomes[i].name, outcomes[i].count);
    }
}

void runs_metrics_write(struct buf *out, const struct runs_link *link, uint64_t now_ns,
                        uint64_t durable_lsn)
{
    if (link == NULL) {
        return;
    }
    const struct runs_status *status = runs_status(link->runs);
    uint64_t busy_since = LOAD(status->busy_since_ns);
    uint64_t applied = LOAD(status->applied_lsn);
    bool is_busy = busy_since != 0 && busy_since < now_ns;
    put_outcomes(out, status);
    put(out, "sluice_runs_stored", "gauge", "Agent runs in the database.",
        LOAD(status->total_runs));
    put(out, "sluice_runs_transactions_total", "counter", "Transactions that applied commands.",
        LOAD(status->transactions));
    put(out, "sluice_runs_lag_records", "gauge",
        "Records of the log that the database has not seen.",
        durable_lsn > applied ? durable_lsn - applied : 0);
    put(out, "sluice_runs_busy_total", "counter",
        "Commits that had to wait for somebody else's lock.", LOAD(status->busy_count));
    buf_printf(out,
               "# HELP sluice_runs_busy_seconds For how long somebody else's lock has kept the "
               "database from being written; 0: nobody does.\n# TYPE sluice_runs_busy_seconds "
               "gauge\nsluice_runs_busy_seconds %.3f\n",
               is_busy ? (double)(now_ns - busy_since) / 1e9 : 0.0);
    put(out, "sluice_runs_errors_total", "counter", "Failures of the database.",
        LOAD(status->errors));
    put(out, "sluice_runs_results_lost_total", "counter",
        "Results that a shard did not take in time.", LOAD(status->results_lost));
}
