/*
 * runs: see runs.h. Owned by the runs agent's thread (start-up: by main, before it runs).
 *
 * Happy path   scan the log for commands - the first of a pass begins the transaction - apply each - none left, or the pass is
 *              full: sync the mirror, store the position, commit - results to every shard - on, or sleep.
 * Failure      whatever fails after begin: roll back, cut the mirror, forget the results, read again from the stored position. Nothing was told to
 *              anybody before the commit, so nobody sees it but by waiting.
 *   busy       a lock that others hold: wait busy_timeout inside SQLite, where a commit keeps new readers out; then let go for a
 *              moment, so that other readers live, and try again with shorter waits
 *   full, I/O  again after RETRY_NS
 *   damaged    never again until the next start
 *   moved      the file has lost its name: again when it is back
 *   -EAGAIN    the file has another position than was left there: again from that one, at once
 * Close        the pass that is open is not committed: it comes again.
 */
#include "store/runs.h"

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
#include "store/runs_apply.h"
#include "store/runs_lock.h"
#include "store/runs_mirror.h"
#include "store/runs_outcomes.h"
#include "store/runs_schema.h"
#include "store/runs_watch.h"
#include "store/runs_zones.h"

/* A transaction ends behind the request that comes to one of these, so that an outside reader sees a request's commands together; one with more than
 * PASS_COMMANDS - PASS_ENOUGH of them may come in parts. */
#define PASS_ENOUGH   256u
#define PASS_BYTES    MIB(8)
#define PASS_NS       (20 * NS_MS)
#define PASS_COMMANDS 1280u
#define PASS_STEPS    256u /* of the scan, without a command among them: then the duty returns once */
#define RETRY_NS      NS_S
#define BUSY_RETRY_NS (250 * NS_MS)
#define BUSY_AGAIN_NS (100 * NS_MS)
#define STOP_BUSY_NS  NS_S
#define SLEEP_NS      (250 * NS_MS)
#define SLEEP_SHORT_NS                                                                             \
    (20 * NS_MS) /* while the log grows: its newest batches are still in memory then */
#define SLEEP_MOMENT_NS NS_MS
#define RESULT_WAIT_NS  NS_S
#define SAY_NS          (10 * NS_S)
#define LOOK_NS                                                                                    \
    NS_S /* how long it may take to see what other tools do to the file, while no command comes */
#define POSITION_NS (60 * NS_S) /* how old the stored position gets while no command comes */
/* Every result of a pass with the longest text. */
#define RING_BYTES MIB(2)
_Static_assert(PASS_COMMANDS *(SPSC_FRAME_ALIGN + sizeof(struct runs_result) +
                               RUNS_RESULT_TEXT_MAX + SPSC_FRAME_ALIGN) <= RING_BYTES,
               "an empty ring takes the results of any pass");

enum {
    PATH_ROOM = 4096
};

struct result {
    uint64_t lsn;
    enum runs_outcome outcome;
    bool is_cut;
    uint32_t text_bytes;
    uint8_t text[RUNS_RESULT_TEXT_MAX];
};

/* What one transaction has done so far. */
struct pass {
    bool is_open;
    unsigned count;
    uint64_t bytes;
    uint64_t begun_at_ns;
    int64_t time_ns;     /* of the last command: those of one request have the same */
    int64_t day;         /* of the mirror */
    uint64_t resume_lsn; /* not 0: the scan took this record, the pass did not */
    bool is_early;       /* because the writer has not said it is durable */
    int failure;
    struct err why;
    struct result *results;
};

struct runs {
    struct runs_options options;
    char path[PATH_ROOM];
    struct runs_lock lock;
    struct sqlite3 *db;
    struct runs_apply *apply;
    struct runs_outcomes *outcomes;
    struct runs_mirror *mirror; /* NULL: none */
    struct runs_watch watch;
    bool must_look; /* somebody had written before our own last write covered it */
    uint64_t looked_at_ns;
    struct scan *scan; /* NULL: to be made at applied_lsn + 1 */
    struct spsc *rings;
    uint64_t alone_lsn; /* this command ends the transaction that it is in: it begins one */
    struct runs_fields fields;
    uint8_t *scratch;
    size_t scratch_bytes;
    struct pass pass;
    uint64_t stored_lsn; /* applied_lsn as the file has it */
    uint64_t stored_at_ns;
    uint64_t durable_seen; /* when the scan was last at its end */
    uint64_t retry_at_ns;
    uint64_t busy_wait_ns;  /* of the lock that is waited for now */
    uint64_t busy_begun_ns; /* likewise */
    uint64_t said_at_ns;    /* of the failure that goes on */
    _Atomic bool is_asked;
    _Atomic bool is_stopping;
    struct runs_status status;
};

/* All of status is written by one thread. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    /* relaxed: statistics. */
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void set(_Atomic uint64_t *gauge, uint64_t value)
{
    /* relaxed: gauges; who needs an order takes it from the result rings. */
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *gauge)
{
    return atomic_load_explicit(gauge,
                                memory_order_relaxed); /* relaxed: own thread's, or a statistic */
}

static bool is_stopping(const struct runs *runs)
{
    /* A11: pairs with R11 in runs_stop: what was durable then is seen now. */
    return atomic_load_explicit(&runs->is_stopping, memory_order_acquire);
}

static enum runs_fault fault_of(const struct runs *runs)
{
    /* relaxed: own thread's. */
    return (enum runs_fault)atomic_load_explicit(&runs->status.fault, memory_order_relaxed);
}

static void set_fault(struct runs *runs, enum runs_fault fault)
{
    atomic_store_explicit(&runs->status.fault, (int)fault,
                          memory_order_relaxed); /* relaxed: a gauge */
}

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
    set(&runs->status.heartbeat_ns, now_ns);
    if (count == 0) {
        runs->busy_begun_ns = now_ns;
        add(&runs->status.busy_count, 1);
    }
    if (get(&runs->status.busy_since_ns) == 0) {
        set(&runs->status.busy_since_ns, now_ns);
    }
    uint64_t wait_ns =
        is_stopping(runs) ? u64_min(runs->busy_wait_ns, STOP_BUSY_NS) : runs->busy_wait_ns;
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
    set(&runs->status.applied_lsn, applied);
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

static int count_runs(struct runs *runs, struct err *err)
{
    int64_t total = 0;
    int r = runs_sql_number(runs->db, "SELECT count(*) FROM agent_runs", &total, err);
    /* relaxed: a gauge. */
    atomic_store_explicit(&runs->status.total_runs, total, memory_order_relaxed);
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
    r = r == 0 ? count_runs(runs, err) : r;
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
    runs->pass.results = mem_alloc_array(PASS_COMMANDS, sizeof *runs->pass.results);
    buf_init(&warning, opened->warning, sizeof opened->warning - 1);
    int n = snprintf(runs->path, sizeof runs->path, "%s", options->path);
    int r = n < 0 || n >= PATH_ROOM ? err_set(err, -ENAMETOOLONG, "%s", options->path)
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

/* ---- one command ---- */

static uint64_t durable_lsn(const struct runs *runs)
{
    const _Atomic uint64_t *lsn = runs->options.source.durable_lsn;
    /* acquire, edge W1: the acks of everything up to it were published before. */
    return lsn != NULL ? atomic_load_explicit(lsn, memory_order_acquire) : UINT64_MAX;
}

/* -EAGAIN: somebody has put an older or newer state into the file, or a commit that failed had happened: the log is to be applied from
 * there. Nothing is open then but what undo ends. */
static int begin_transaction(struct runs *runs)
{
    uint64_t found = 0;
    runs->must_look |= runs_watch_look(&runs->watch, runs->path) == RUNS_FILE_WRITTEN;
    int r = runs_apply_begin(runs->apply, &runs->pass.why);
    r = r == 0 ? runs_apply_position(runs->apply, &runs->options.node, &found, &runs->pass.why) : r;
    if (r == 0 && runs->must_look) { /* it may have triggers now, or none any more */
        r = runs_zones_spare(runs->db, &runs->pass.why);
    }
    if (r < 0 || found == runs->stored_lsn) {
        return r;
    }
    if (found > durable_lsn(runs)) {
        return err_set(&runs->pass.why, ERR_CORRUPT,
                       "it has applied LSN %" PRIu64
                       ", which the log does not have: somebody has put another state of it there",
                       found);
    }
    LOG(LOGLINE_WARNING, "runs_position",
        "%s: its content has changed under the server: it has applied LSN %" PRIu64
        ", and was left at %" PRIu64 "; the log is applied from there",
        runs->path, found, runs->stored_lsn);
    runs->stored_lsn = found;
    set(&runs->status.applied_lsn, found);
    int counted = count_runs(runs, &runs->pass.why);
    return counted < 0 ? counted : -EAGAIN;
}

static int begin(struct runs *runs, int64_t time_ns)
{
    struct pass *pass = &runs->pass;
    int r = 0;
    if (runs->mirror != NULL) {
        pass->day = runs_mirror_day(time_ns);
        r = runs_mirror_begin(runs->mirror, pass->day, &pass->why);
    }
    r = r == 0 ? begin_transaction(runs) : r;
    pass->is_open = r == 0;
    pass->begun_at_ns = clock_mono_ns();
    return r;
}

static uint8_t *scratch_for(struct runs *runs, size_t bytes)
{
    if (runs->scratch_bytes < bytes) {
        mem_free(runs->scratch);
        runs->scratch_bytes = (size_t)align_up(bytes, KIB(64));
        runs->scratch = mem_alloc(runs->scratch_bytes);
    }
    return runs->scratch;
}

static int mirror_command(struct runs *runs, const struct scan_record *record,
                          const struct runs_order *order, enum runs_outcome outcome)
{
    static const char *const names[] = {[RUNS_COMMAND_UPDATE] = "update",
                                        [RUNS_COMMAND_ASSOCIATE] = "associate",
                                        [RUNS_COMMAND_EVENT] = "event"};
    bool has_changed = outcome == RUNS_CREATED || outcome == RUNS_UPDATED ||
                       outcome == RUNS_ASSOCIATED || outcome == RUNS_EVENT_ADDED;
    if (runs->mirror == NULL || !has_changed) {
        return 0;
    }
    struct runs_mirror_line line = {
        .command = order->command == RUNS_COMMAND_CREATE ? NULL : names[order->command],
        .event_id = order->event_id,
        .lsn = record->lsn,
        .time_ns = order->time_ns,
        .body = record->record.payload};
    return runs_mirror_put(runs->mirror, &line, &runs->pass.why);
}

static int keep_outcome(struct runs *runs, const struct scan_record *record,
                        const struct result *result, struct slice text)
{
    struct runs_told told = {.lsn = record->lsn,
                             .time_ns = record->record.event_time_ns,
                             .outcome = result->outcome,
                             .text = text,
                             .meta = record->record.meta};
    return runs_outcomes_note(runs->outcomes, &told, &runs->pass.why);
}

/* A refusal that has ended the whole transaction (a trigger's RAISE(ROLLBACK)): what was applied before it is applied again without it,
 * then nothing is lost with it. */
static int restore_transaction(struct runs *runs, uint64_t lsn)
{
    if (runs_apply_is_begun(runs->apply)) {
        return 0;
    }
    if (runs->pass.count == 0) {
        return begin_transaction(runs);
    }
    runs->alone_lsn = lsn;
    return -EAGAIN;
}

/* Reads and applies; what becomes of it is the pass's next result. */
static int apply_command(struct runs *runs, const struct scan_record *record,
                         struct runs_order *order)
{
    struct pass *pass = &runs->pass;
    struct result *result = &pass->results[pass->count];
    struct slice payload = record->record.payload;
    struct err why = {0};
    struct buf text;
    buf_init(&text, result->text, sizeof result->text);
    result->lsn = record->lsn;
    order->fields = &runs->fields;
    int r = runs->options.read(runs->options.read_context, &runs->fields, order->command, payload,
                               scratch_for(runs, payload.bytes), &why);
    if (r < 0) { /* the shard judged it by the same reading: another version wrote it, or damage */
        result->outcome = RUNS_REFUSED;
        buf_put_text(&text, why.text);
        r = 0;
    } else {
        r = runs_apply_order(runs->apply, order, &result->outcome, &text, &pass->why);
        r = r == 0 ? restore_transaction(runs, record->lsn) : r;
        r = r == 0 ? mirror_command(runs, record, order, result->outcome) : r;
    }
    r = r == 0 ? keep_outcome(runs, record, result, (struct slice){text.data, text.bytes}) : r;
    result->text_bytes = (uint32_t)text.bytes;
    result->is_cut = text.is_truncated;
    pass->count += r == 0 ? 1 : 0;
    pass->bytes += payload.bytes;
    return r;
}

/* Should it end with the request that it is in? */
static bool is_due(const struct pass *pass)
{
    return pass->is_open && (pass->count >= PASS_ENOUGH || pass->bytes >= PASS_BYTES ||
                             clock_mono_ns() - pass->begun_at_ns >= PASS_NS);
}

/* The pass does not take this record: the next one begins with it. */
static bool leave(struct runs *runs, uint64_t lsn)
{
    runs->pass.resume_lsn = lsn;
    return false;
}

static bool on_record(void *context, const struct scan_record *record)
{
    struct runs *runs = context;
    struct pass *pass = &runs->pass;
    struct runs_order order = {.time_ns = record->record.event_time_ns};
    uint8_t command = 0;
    if (record->lsn > durable_lsn(runs)) { /* memory runs ahead of what shards were told */
        pass->is_early = true;
        return leave(runs, record->lsn);
    }
    if (meta_find_run(&command, &order.event_id, record->record.meta) != 1) {
        add(&runs->status.passed_over, 1);
        return true;
    }
    order.command = (enum runs_command)command;
    bool is_other_day = runs->mirror != NULL && runs_mirror_day(order.time_ns) != pass->day;
    bool is_other_request = order.time_ns != pass->time_ns;
    bool is_alone = record->lsn == runs->alone_lsn;
    if (pass->is_open && (is_other_day || is_alone || (is_other_request && is_due(pass)))) {
        return leave(runs, record->lsn);
    }
    pass->time_ns = order.time_ns;
    int r = pass->is_open ? 0 : begin(runs, order.time_ns);
    r = r == 0 ? apply_command(runs, record, &order) : r;
    pass->failure = r;
    return r == 0 && pass->count < PASS_COMMANDS;
}

/* ---- a pass ---- */

static void begin_scan(struct runs *runs, uint64_t lsn)
{
    struct scan_options options = {.filter = {.kinds = 1u << RECORD_RUN,
                                              .time_min_ns = INT64_MIN,
                                              .time_max_ns = INT64_MAX,
                                              .lsn_min = lsn,
                                              .lsn_max = UINT64_MAX},
                                   .take = on_record,
                                   .context = runs};
    scan_free(runs->scan);
    runs->scan = scan_new(&runs->options.source, &options);
}

static void count_results(struct runs *runs)
{
    struct runs_status *status = &runs->status;
    for (unsigned i = 0; i < runs->pass.count; i++) {
        switch (runs->pass.results[i].outcome) {
        case RUNS_CREATED:
            add(&status->created, 1);
            /* relaxed: a gauge. */
            atomic_fetch_add_explicit(&status->total_runs, 1, memory_order_relaxed);
            break;
        case RUNS_DUPLICATE:
            add(&status->duplicates, 1);
            break;
        case RUNS_UPDATED:
        case RUNS_ASSOCIATED:
        case RUNS_EVENT_ADDED:
        case RUNS_NOTHING:
            add(&status->updated, 1);
            break;
        case RUNS_NOT_FOUND:
            add(&status->not_found, 1);
            break;
        case RUNS_REFUSED:
            add(&status->refused, 1);
            LOG(LOGLINE_ERROR, "runs_refused", "the command with LSN %" PRIu64 " was refused: %.*s",
                runs->pass.results[i].lsn, (int)runs->pass.results[i].text_bytes,
                (const char *)runs->pass.results[i].text);
            break;
        }
    }
    add(&status->commands, runs->pass.count);
    add(&status->transactions, 1);
}

static int commit(struct runs *runs, uint64_t applied)
{
    struct pass *pass = &runs->pass;
    int r = runs->mirror != NULL ? runs_mirror_sync(runs->mirror, &pass->why) : 0;
    r = r == 0 ? runs_outcomes_keep(runs->outcomes, applied, &pass->why) : r;
    if (r < 0) {
        return r;
    }
    r = runs_apply_commit(runs->apply, applied, &pass->why);
    if (r < 0) {
        if (runs->mirror != NULL && r != -EBUSY && r != -ENOSPC) {
            runs_mirror_doubt(runs->mirror); /* the next begin knows whether it happened */
        }
        return r;
    }
    runs_watch_keep(&runs->watch, runs->path);
    if (runs->mirror != NULL) {
        runs_mirror_keep(runs->mirror);
    }
    pass->is_open = false;
    runs->stored_lsn = applied;
    runs->stored_at_ns = clock_mono_ns();
    count_results(runs);
    return 0;
}

/* Nothing of the pass has happened; the log is read again from the stored position. */
static void undo(struct runs *runs)
{
    struct pass *pass = &runs->pass;
    runs_apply_rollback(runs->apply);
    runs_outcomes_undo(runs->outcomes);
    if (runs->mirror != NULL) {
        runs_mirror_undo(runs->mirror);
    }
    pass->is_open = false;
    pass->count = 0;
    scan_free(runs->scan);
    runs->scan = NULL;
}

static void say_failure(struct runs *runs, enum runs_fault fault, uint64_t now_ns)
{
    if (runs->said_at_ns != 0 && now_ns - runs->said_at_ns < SAY_NS) {
        return;
    }
    runs->said_at_ns = now_ns;
    uint64_t waiting = durable_lsn(runs) - u64_min(runs->stored_lsn, durable_lsn(runs));
    uint64_t since = get(&runs->status.busy_since_ns);
    if (fault == RUNS_BLOCKED) {
        LOG(LOGLINE_WARNING, "runs_blocked",
            "%s: another process has held it locked for %" PRIu64
            " s; commands wait (up to %" PRIu64 " records), none is lost: the log has them",
            runs->path, since == 0 ? 0 : (now_ns - since) / NS_S, waiting);
    } else if (fault == RUNS_MOVED) {
        LOG(LOGLINE_ERROR, "runs_moved",
            "%s: the file was moved, replaced or deleted while the server has it open; put it "
            "back, or restart the server, which takes what is there then and applies the rest of "
            "the log; commands wait (up to %" PRIu64 " records), none is lost: the log has them",
            runs->path, waiting);
    } else {
        LOG(LOGLINE_ERROR, "runs_failing", "%s: %s; %s, nothing is lost: the log has the commands",
            runs->path, runs->pass.why.text,
            fault == RUNS_DAMAGED ? "applying has stopped until the next start" : "tried again");
    }
}

static void on_failure(struct runs *runs, int r)
{
    uint64_t now_ns = clock_mono_ns();
    enum runs_fault fault = r == -EBUSY        ? RUNS_BLOCKED
                            : r == ERR_CORRUPT ? RUNS_DAMAGED
                            : r == -ESTALE     ? RUNS_MOVED
                                               : RUNS_FAILING;
    undo(runs);
    if (fault != RUNS_BLOCKED) {
        add(&runs->status.errors, 1);
        set(&runs->status.busy_since_ns, 0);
    }
    runs->busy_wait_ns = fault == RUNS_BLOCKED ? BUSY_AGAIN_NS : runs->options.busy_timeout_ns;
    runs->retry_at_ns = now_ns + (fault == RUNS_BLOCKED ? BUSY_RETRY_NS : RETRY_NS);
    if (fault_of(runs) != fault) {
        runs->said_at_ns = 0; /* another failure than the last one is told at once */
    }
    set_fault(runs, fault);
    say_failure(runs, fault, now_ns);
}

static void on_success(struct runs *runs)
{
    if (fault_of(runs) != RUNS_FINE) {
        LOG(LOGLINE_INFO, "runs_recovered", "%s: it is written again", runs->path);
        set_fault(runs, RUNS_FINE);
    }
    set(&runs->status.busy_since_ns, 0);
    runs->busy_wait_ns = runs->options.busy_timeout_ns;
    runs->said_at_ns = 0;
    runs->retry_at_ns = 0;
}

/* Reads until the pass is full or the log at its end: SCAN_END there, else SCAN_MORE; negative: of the system. */
static int fill(struct runs *runs)
{
    struct pass *pass = &runs->pass;
    int r = SCAN_MORE;
    for (unsigned i = 0; i < PASS_STEPS && r == SCAN_MORE; i++) {
        struct err why = {0};
        unsigned before = pass->count;
        r = scan_step(runs->scan, &why);
        if (r == ERR_CORRUPT) { /* told once: the scan goes on behind it */
            add(&runs->status.errors, 1);
            LOG(LOGLINE_ERROR, "runs_log", "commands may be lost: %s", why.text);
            r = SCAN_MORE;
        } else if (r < 0) {
            pass->why = why;
        }
        if (pass->count == before && is_due(pass)) { /* the last request's commands are all there */
            break;
        }
    }
    return pass->is_early ? SCAN_END : r == SCAN_FULL ? SCAN_MORE : r;
}

/* The log cannot be read just now: the scan stays where it is. */
static void on_scan_failure(struct runs *runs)
{
    add(&runs->status.errors, 1);
    runs->retry_at_ns = clock_mono_ns() + RETRY_NS;
    LOG(LOGLINE_ERROR, "runs_log", "read the log: %s; tried again", runs->pass.why.text);
}

/* Of what is durable, behind what is applied. After durable_lsn, which has acquired W1. */
static bool has_no_command(const struct runs *runs)
{
    return runs->options.run_lsn != NULL &&
           get(runs->options.run_lsn) <= get(&runs->status.applied_lsn);
}

/* Other records are none of ours: where only they come, nothing is read. */
static void skip(struct runs *runs, uint64_t durable)
{
    scan_free(runs->scan);
    runs->scan = NULL;
    set(&runs->status.applied_lsn, u64_max(durable, get(&runs->status.applied_lsn)));
    runs->durable_seen = durable;
}

/* One transaction, or none when there is nothing. SCAN_END, SCAN_MORE, or a failure that was dealt with. Results stay in the pass. */
static int run_pass(struct runs *runs)
{
    struct pass *pass = &runs->pass;
    *pass = (struct pass){.results = pass->results};
    uint64_t durable = durable_lsn(runs);
    if (has_no_command(runs)) {
        skip(runs, durable);
        return SCAN_END;
    }
    if (runs->scan == NULL) {
        begin_scan(runs, get(&runs->status.applied_lsn) + 1);
    }
    int r = fill(runs);
    uint64_t next = pass->resume_lsn != 0 ? pass->resume_lsn : scan_position(runs->scan);
    if (pass->failure == 0 && pass->is_open) {
        pass->failure = commit(runs, next - 1);
    }
    if (pass->failure == -EAGAIN) {
        undo(runs);
        return SCAN_MORE;
    }
    if (pass->failure < 0) {
        on_failure(runs, pass->failure);
        return pass->failure;
    }
    if (pass->count > 0) {
        on_success(runs);
    }
    set(&runs->status.applied_lsn, next - 1);
    if (pass->resume_lsn != 0) {
        begin_scan(runs, pass->resume_lsn);
    }
    if (r < 0) {
        on_scan_failure(runs);
        return r;
    }
    runs->durable_seen = r == SCAN_END ? durable : runs->durable_seen;
    return r;
}

/* The position alone, so that the next start does not walk what this one has; and to end a failure of which nothing is left to be tried
 * again. */
static void store_position(struct runs *runs)
{
    uint64_t applied = get(&runs->status.applied_lsn);
    runs->stored_at_ns = clock_mono_ns();
    if (applied == runs->stored_lsn && fault_of(runs) == RUNS_FINE) {
        return;
    }
    int r = begin_transaction(runs);
    r = r == 0 ? runs_apply_commit(runs->apply, applied, &runs->pass.why) : r;
    if (r == -EAGAIN) {
        undo(runs);
        return;
    }
    if (r < 0) {
        on_failure(runs, r);
        return;
    }
    runs_watch_keep(&runs->watch, runs->path);
    runs->stored_lsn = applied;
    on_success(runs);
}

/* In a transaction. */
static void look_at_journal_mode(struct runs *runs)
{
    int64_t is_delete = 1;
    struct err why = {0};
    int r = runs_sql_number(runs->db, "SELECT journal_mode = 'delete' FROM pragma_journal_mode()",
                            &is_delete, &why);
    if (r == 0 && is_delete == 0) {
        LOG(LOGLINE_WARNING, "runs_journal",
            "%s: another tool has changed its journal_mode: commands are stored all the same, but "
            "who copies the file alone misses what is in the other one; the next start makes it "
            "DELETE again",
            runs->path);
    }
}

/* Somebody has written: is the position still what it was? Whoever has it locked now is asked again at the next look. */
static void look_inside(struct runs *runs)
{
    uint64_t wait_ns = runs->busy_wait_ns;
    runs->busy_wait_ns = 0;
    int r = begin_transaction(runs);
    runs->busy_wait_ns = wait_ns;
    set(&runs->status.busy_since_ns, 0);
    if (r == ERR_CORRUPT) {
        on_failure(runs, r);
        return;
    }
    if (r < 0) {
        undo(runs);
    }
    if (r == 0) {
        look_at_journal_mode(runs); /* in the transaction: nobody keeps it waiting */
        runs_apply_rollback(runs->apply);
        runs->must_look = false;
        runs_watch_keep(&runs->watch, runs->path);
    }
}

/* What other tools did to the file, also while no command comes that would meet it. */
static void look(struct runs *runs, uint64_t now_ns)
{
    if (now_ns - runs->looked_at_ns < LOOK_NS) {
        return;
    }
    runs->looked_at_ns = now_ns;
    enum runs_watched is = runs_watch_look(&runs->watch, runs->path);
    if (is == RUNS_FILE_MOVED) {
        on_failure(runs, -ESTALE);
    } else if (fault_of(runs) == RUNS_MOVED) {
        on_success(runs);
    } else if ((is == RUNS_FILE_WRITTEN || runs->must_look) && fault_of(runs) == RUNS_FINE) {
        look_inside(runs);
    }
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
        if (to != NULL || is_stopping(runs) || now_ns - begun_ns >= RESULT_WAIT_NS) {
            return (struct runs_result *)(void *)to;
        }
        set(&runs->status.heartbeat_ns, now_ns);
        (void)spsc_publish(&runs->rings[shard]);
        (void)park_wake(runs->options.shard_parks[shard], false);
        wait_for_wake(runs, SLEEP_MOMENT_NS);
    }
}

static void tell_shard(struct runs *runs, unsigned shard)
{
    const struct pass *pass = &runs->pass;
    for (unsigned i = 0; i < pass->count; i++) {
        const struct result *result = &pass->results[i];
        uint64_t bytes = sizeof(struct runs_result) + result->text_bytes;
        struct runs_result *to = claim(runs, shard, bytes);
        if (to ==
            NULL) { /* who waits there answers that the command will be applied, which it is */
            add(&runs->status.results_lost, pass->count - i);
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
        r = run_pass(runs);
        if (progress != NULL && r >= 0) {
            progress(context, get(&runs->status.applied_lsn), runs->options.last_lsn);
        }
    }
    if (r >= 0) {
        store_position(runs);
        return 0;
    }
    return err_set(err, r, "agent runs: %s", runs->pass.why.text);
}

static void rest(struct runs *runs, uint64_t ns)
{
    struct park *park = runs->options.park;
    park_prepare(park, PARK_ANY);
    /* A12: pairs with R12 in runs_wake; what the waker knew to be durable is seen by the next scan. */
    if (!atomic_load_explicit(&runs->is_asked, memory_order_acquire) && !is_stopping(runs)) {
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
    return durable_lsn(runs) != runs->durable_seen ? SLEEP_SHORT_NS : SLEEP_NS;
}

/* A last look at the log: everything that is durable now, or as much as can be. */
static int duty_stop(struct runs *runs)
{
    int r = fault_of(runs) == RUNS_DAMAGED ? ERR_CORRUPT : SCAN_MORE;
    while (r == SCAN_MORE) { /* bound: the log, which has ended */
        r = run_pass(runs);
        tell_shards(runs);
    }
    if (r >= 0) {
        store_position(runs);
    }
    return 1;
}

int runs_duty(void *context)
{
    struct runs *runs = context;
    uint64_t now_ns = clock_mono_ns();
    ASSERT_ROLE(ROLE_RUNS);
    set(&runs->status.heartbeat_ns, now_ns);
    if (is_stopping(runs)) {
        return duty_stop(runs);
    }
    if (fault_of(runs) == RUNS_DAMAGED) {
        rest(runs, SLEEP_NS);
        return 0;
    }
    /* acquire: see A12. Whoever asks from here on is heard by rest. */
    (void)atomic_exchange_explicit(&runs->is_asked, false, memory_order_acquire);
    look(runs, now_ns);
    if (now_ns >= runs->retry_at_ns) {
        int r = run_pass(runs);
        tell_shards(runs);
        if (r == SCAN_MORE) {
            return 0;
        }
        bool may_be_over = fault_of(runs) != RUNS_FINE && fault_of(runs) != RUNS_MOVED;
        if (r >= 0 && (may_be_over || now_ns - runs->stored_at_ns >= POSITION_NS)) {
            store_position(runs);
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
