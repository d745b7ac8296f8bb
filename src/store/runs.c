/*
 * runs: see runs.h. Owned by the runs agent's thread (start-up: by main, before it runs): opening and closing, results to every shard, the duty. What a pass is
 * says runs_pass.c. On close the pass that is open is not committed: it comes again.
 */
#include "store/runs_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "store/runs_schema.h"

#define STOP_BUSY_NS NS_S
#define SLEEP_NS     (250 * NS_MS)
#define SLEEP_SHORT_NS                                                                             \
    (20 * NS_MS) /* while the log grows: its newest batches are still in memory then */
#define SLEEP_MOMENT_NS NS_MS
#define RESULT_WAIT_NS  NS_S
#define POSITION_NS     (60 * NS_S) /* how old the stored position gets while no command comes */
/* Every result of a pass with the longest text. */
#define RING_BYTES MIB(2)
_Static_assert(RUNS_PASS_COMMANDS *(SPSC_FRAME_ALIGN + sizeof(struct runs_result) +
                                    RUNS_RESULT_TEXT_MAX + SPSC_FRAME_ALIGN) <= RING_BYTES,
               "an empty ring takes the results of any pass");

const char *runs_fault_text(enum runs_fault fault)
{
    switch (fault) {
    case RUNS_FINE:
        return NULL;
    case RUNS_BLOCKED:
        return "another process holds the agent-run database locked";
    case RUNS_FAILING:
        return "the agent-run database cannot be written";
    case RUNS_DAMAGED:
        return "the agent-run database is damaged, or another tool has changed its tables";
    case RUNS_MOVED:
        return "the agent-run database's file was moved, replaced or deleted: put it back, or "
               "restart the server";
    }
    return NULL;
}

const struct runs_status *runs_status(const struct runs *runs)
{
    return &runs->status;
}

struct spsc *runs_results(struct runs *runs, unsigned shard_index)
{
    ASSERT(shard_index < runs->options.shard_count);
    return &runs->rings[shard_index];
}

/* ---- open and close ---- */

/* Called while somebody holds a lock. 0: give up. */
static int on_busy(void *context, int count)
{
    struct runs *runs = context;
    uint64_t now_ns = clock_mono_ns();
    runs_set(&runs->status.heartbeat_ns, now_ns);
    if (count == 0) {
        runs->busy_begun_ns = now_ns;
        runs_add(&runs->status.busy_count, 1);
    }
    if (runs_get_relaxed(&runs->status.busy_since_ns) == 0) {
        runs_set(&runs->status.busy_since_ns, now_ns);
    }
    uint64_t wait_ns =
        runs_is_stopping(runs) ? u64_min(runs->busy_wait_ns, STOP_BUSY_NS) : runs->busy_wait_ns;
    if (now_ns - runs->busy_begun_ns >= wait_ns) {
        return 0;
    }
    (void)sqlite3_sleep(count < 4 ? 1 : count < 10 ? 5 : 20);
    return 1;
}

/* Where the log is applied from: the stored position, unless it is not one of this log. */
static int settle_position(struct runs *runs, enum runs_found is, struct buf *warning,
                           struct err *err)
{
    const struct runs_options *options = &runs->options;
    char node[ULID_TEXT_BYTES + 1] = "";
    char found[64] = "";
    uint64_t applied = 0;
    ulid_format(node, &options->node);
    int r = runs_meta_get(runs->db, "node", found, sizeof found, err);
    bool is_ours = r == 1 && strcmp(found, node) == 0;
    if (r == 1 && !is_ours) {
        buf_printf(warning,
                   "it was last written for node %s, this is %s: its runs are kept, the log is "
                   "applied from its beginning, and an event_id that is there stays as it is; ",
                   found, node);
    }
    r = r < 0 ? r : is_ours ? runs_meta_get_u64(runs->db, "applied_lsn", &applied, err) : 0;
    uint64_t found_lsn = applied;
    if (r == 0 && applied > 0 && is == RUNS_MADE) {
        buf_printf(warning, "agent_runs was not there and is made again: the log is applied from "
                            "its beginning, and what run_events has may come twice; ");
        applied = 0;
    }
    if (r == 0 && applied > options->last_lsn) {
        applied = options->last_lsn;
    }
    if (r == 0 && options->first_lsn > 1 && applied + 1 < options->first_lsn) {
        buf_printf(warning,
                   "commands from LSN %" PRIu64 " to %" PRIu64
                   ", where there were any, have expired from the log; ",
                   applied + 1, options->first_lsn - 1);
    }
    bool is_moved = !is_ours || applied != found_lsn;
    /* Where nothing is new SQLite writes nothing: a full disk does not keep us from starting. */
    r = r == 0 ? runs_sql_run(runs->db, "BEGIN IMMEDIATE", err) : r;
    r = r == 0 && is_moved ? runs_outcomes_forget(runs->db, applied, err) : r;
    r = r == 0 ? runs_meta_put(runs->db, "node", node, err) : r;
    r = r == 0 ? runs_meta_put_u64(runs->db, "applied_lsn", applied, err) : r;
    r = r == 0 ? runs_sql_run(runs->db, "COMMIT", err) : r;
    if (r < 0) {
        (void)sqlite3_exec(runs->db, "ROLLBACK", NULL, NULL, NULL);
    }
    runs->stored_lsn = applied;
    runs_set(&runs->status.applied_lsn, applied);
    return r;
}

static int open_rings(struct runs *runs, struct err *err)
{
    unsigned count = runs->options.shard_count;
    ASSERT(count <= RUNS_SHARDS_MAX);
    int r = 0;
    runs->rings = mem_alloc_array(count + 1, sizeof *runs->rings);
    for (unsigned i = 0; i < count && r == 0; i++) {
        r = spsc_init(&runs->rings[i], RING_BYTES, 0, err);
    }
    return r;
}

static int open_all(struct runs *runs, struct runs_opened *opened, struct buf *warning,
                    struct err *err)
{
    const struct runs_options *options = &runs->options;
    int r = runs_lock_take(&runs->lock, options->lock_path, err);
    r = r == 0 ? runs_schema_open(&runs->db, runs->path, opened, warning, err) : r;
    r = r == 0 ? settle_position(runs, opened->found, warning, err) : r;
    if (r == 0 && options->ndjson_dir != NULL && options->ndjson_dir[0] != 0) {
        r = runs_mirror_open(&runs->mirror, options->ndjson_dir, runs->db, warning, err);
    }
    r = r == 0 ? runs_apply_open(&runs->apply, runs->db, err) : r;
    r = r == 0 ? runs_outcomes_open(&runs->outcomes, runs->db, options->dedup_ttl_ns, err) : r;
    r = r == 0 ? runs_pass_recount(runs, err) : r;
    r = r == 0 ? open_rings(runs, err) : r;
    if (r == 0) {
        (void)sqlite3_busy_handler(runs->db, on_busy, runs);
        runs_watch_open(&runs->watch, runs->path);
    }
    return r;
}

int runs_open(struct runs **out, const struct runs_options *options, struct runs_opened *opened,
              struct err *err)
{
    ASSERT(options->read != NULL);
    struct buf warning;
    struct runs *runs = mem_alloc(sizeof *runs);
    *opened = (struct runs_opened){.found = RUNS_GOOD};
    runs->options = *options;
    runs->lock.fd = -1;
    runs->busy_wait_ns = options->busy_timeout_ns;
    runs->stored_at_ns = clock_mono_ns();
    runs->pass.results = mem_alloc_array(RUNS_PASS_COMMANDS, sizeof *runs->pass.results);
    buf_init(&warning, opened->warning, sizeof opened->warning - 1);
    int n = snprintf(runs->path, sizeof runs->path, "%s", options->path);
    int r = n < 0 || n >= RUNS_PATH_ROOM ? err_set(err, -ENAMETOOLONG, "%s", options->path)
                                         : open_all(runs, opened, &warning, err);
    if (warning.bytes >= 2 && !warning.is_truncated) {
        warning.bytes -= 2; /* the last "; " */
    }
    opened->warning[warning.bytes] = 0;
    if (r < 0) {
        runs_close(runs);
        return err_wrap(err, r, "agent runs");
    }
    *out = runs;
    return 0;
}

void runs_close(struct runs *runs)
{
    if (runs == NULL) {
        return;
    }
    scan_free(runs->scan);
    runs_apply_close(runs->apply);
    runs_outcomes_close(runs->outcomes);
    runs_mirror_close(runs->mirror);
    if (runs->db != NULL) {
        int code = sqlite3_close(runs->db);
        ASSERT(code == SQLITE_OK); /* else a statement has got lost */
    }
    for (unsigned i = 0; runs->rings != NULL && i < runs->options.shard_count; i++) {
        if (runs->rings[i].memory != NULL) {
            spsc_close(&runs->rings[i]);
        }
    }
    runs_lock_give(&runs->lock);
    mem_free(runs->rings);
    mem_free(runs->scratch);
    mem_free(runs->pass.results);
    mem_free(runs);
}

/* ---- results ---- */

static void wait_for_wake(struct runs *runs, uint64_t ns)
{
    struct park *park = runs->options.park;
    struct pollfd poll_fd = {.fd = park->fd, .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(ns / NS_S), .tv_nsec = (long)(ns % NS_S)};
    if (ppoll(&poll_fd, 1, &timeout, NULL) > 0) {
        park_drain(park);
    }
}

/* Room for a result; waits for a shard that is slow, not for one that has gone. */
static struct runs_result *claim(struct runs *runs, unsigned shard, uint64_t bytes)
{
    uint64_t begun_ns = clock_mono_ns();
    for (;;) { /* bound: RESULT_WAIT_NS */
        uint8_t *to = spsc_claim(&runs->rings[shard], bytes);
        uint64_t now_ns = clock_mono_ns();
        if (to != NULL || runs_is_stopping(runs) || now_ns - begun_ns >= RESULT_WAIT_NS) {
            return (struct runs_result *)(void *)to;
        }
        runs_set(&runs->status.heartbeat_ns, now_ns);
        (void)spsc_publish(&runs->rings[shard]);
        (void)park_wake(runs->options.shard_parks[shard], false);
        wait_for_wake(runs, SLEEP_MOMENT_NS);
    }
}

static void tell_shard(struct runs *runs, unsigned shard)
{
    const struct runs_pass *pass = &runs->pass;
    for (unsigned i = 0; i < pass->count; i++) {
        const struct runs_made *result = &pass->results[i];
        uint64_t bytes = sizeof(struct runs_result) + result->text_bytes;
        struct runs_result *to = claim(runs, shard, bytes);
        if (to ==
            NULL) { /* who waits there answers that the command will be applied, which it is */
            runs_add(&runs->status.results_lost, pass->count - i);
            LOG(LOGLINE_ERROR, "runs_results", "shard %u does not take its results", shard);
            break;
        }
        *to = (struct runs_result){.lsn = result->lsn,
                                   .outcome = (uint16_t)result->outcome,
                                   .is_cut = result->is_cut,
                                   .text_bytes = result->text_bytes};
        memcpy(to->text, result->text, result->text_bytes);
        (void)spsc_commit(&runs->rings[shard], RUNS_RESULT_FRAME, bytes);
    }
    if (spsc_publish(&runs->rings[shard])) {
        (void)park_wake(runs->options.shard_parks[shard], false);
    }
}

static void tell_shards(struct runs *runs)
{
    for (unsigned i = 0; i < runs->options.shard_count && runs->pass.count > 0; i++) {
        tell_shard(runs, i);
    }
}

/* ---- the agent ---- */

int runs_catch_up(struct runs *runs,
                  void (*progress)(void *context, uint64_t lsn, uint64_t last_lsn), void *context,
                  struct err *err)
{
    int r = SCAN_MORE;
    while (r == SCAN_MORE) { /* bound: the log; each pass goes on where the last one ended */
        r = runs_pass_run(runs);
        if (progress != NULL && r >= 0) {
            progress(context, runs_get_relaxed(&runs->status.applied_lsn), runs->options.last_lsn);
        }
    }
    if (r >= 0) {
        runs_pass_store_position(runs);
        return 0;
    }
    return err_set(err, r, "agent runs: %s", runs->pass.why.text);
}

static void rest(struct runs *runs, uint64_t ns)
{
    struct park *park = runs->options.park;
    park_prepare(park, PARK_ANY);
    /* A12: pairs with R12 in runs_wake; what the waker knew to be durable is seen by the next scan. */
    if (!atomic_load_explicit(&runs->is_asked, memory_order_acquire) && !runs_is_stopping(runs)) {
        wait_for_wake(runs, ns);
    }
    park_cancel(park);
}

static uint64_t rest_ns(const struct runs *runs, uint64_t now_ns)
{
    if (runs->retry_at_ns > now_ns) {
        return runs->retry_at_ns - now_ns;
    }
    if (runs->pass.is_early) {
        return SLEEP_MOMENT_NS;
    }
    return runs_pass_durable(runs) != runs->durable_seen ? SLEEP_SHORT_NS : SLEEP_NS;
}

/* A last look at the log: everything that is durable now, or as much as can be. */
static int duty_stop(struct runs *runs)
{
    int r = runs_fault_of(runs) == RUNS_DAMAGED ? ERR_CORRUPT : SCAN_MORE;
    while (r == SCAN_MORE) { /* bound: the log, which has ended */
        r = runs_pass_run(runs);
        tell_shards(runs);
    }
    if (r >= 0) {
        runs_pass_store_position(runs);
    }
    return 1;
}

int runs_duty(void *context)
{
    struct runs *runs = context;
    uint64_t now_ns = clock_mono_ns();
    ASSERT_ROLE(ROLE_RUNS);
    runs_set(&runs->status.heartbeat_ns, now_ns);
    if (runs_is_stopping(runs)) {
        return duty_stop(runs);
    }
    if (runs_fault_of(runs) == RUNS_DAMAGED) {
        rest(runs, SLEEP_NS);
        return 0;
    }
    /* acquire: see A12. Whoever asks from here on is heard by rest. */
    (void)atomic_exchange_explicit(&runs->is_asked, false, memory_order_acquire);
    runs_pass_look(runs, now_ns);
    if (now_ns >= runs->retry_at_ns) {
        int r = runs_pass_run(runs);
        tell_shards(runs);
        if (r == SCAN_MORE) {
            return 0;
        }
        bool may_be_over = runs_fault_of(runs) != RUNS_FINE && runs_fault_of(runs) != RUNS_MOVED;
        if (r >= 0 && (may_be_over || now_ns - runs->stored_at_ns >= POSITION_NS)) {
            runs_pass_store_position(runs);
        }
        now_ns = clock_mono_ns();
    }
    rest(runs, rest_ns(runs, now_ns));
    return 0;
}

void runs_wake(struct runs *runs)
{
    /* R12: the writer's ack that the caller has read happened before; pairs with A12 in rest. */
    atomic_store_explicit(&runs->is_asked, true, memory_order_release);
    (void)park_wake(runs->options.park, false);
}

void runs_stop(struct runs *runs)
{
    /* R11: what the writer made durable before it finished; pairs with A11 in is_stopping. */
    atomic_store_explicit(&runs->is_stopping, true, memory_order_release);
    (void)park_wake(runs->options.park, false);
}
