/*
 * runs_pass: one transaction of the agent-run database: what the log has behind the stored position is applied and committed.
 *
 * Happy path   scan the log for commands - the first of a pass begins the transaction - apply each - none left, or the pass is
 *              full: sync the mirror, store the position, commit.
 * Failure      whatever fails after begin: roll back, cut the mirror, forget the results, read again from the stored position. Nothing was told to
 *              anybody before the commit, so nobody sees it but by waiting.
 *   busy       a lock that others hold: wait busy_timeout inside SQLite, where a commit keeps new readers out; then let go for a
 *              moment, so that other readers live, and try again with shorter waits
 *   full, I/O  again after RETRY_NS
 *   damaged    never again until the next start
 *   moved      the file has lost its name: again when it is back
 *   -EAGAIN    the file has another position than was left there: again from that one, at once
 */
#include "store/runs_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "store/runs_schema.h"
#include "store/runs_zones.h"

#define PASS_BYTES    MIB(8)
#define PASS_NS       (20 * NS_MS)
#define PASS_STEPS    256u /* of the scan, without a command among them: then the duty returns once */
#define RETRY_NS      NS_S
#define BUSY_RETRY_NS (250 * NS_MS)
#define BUSY_AGAIN_NS (100 * NS_MS)
#define SAY_NS        (10 * NS_S)
#define LOOK_NS                                                                                    \
    NS_S /* how long it may take to see what other tools do to the file, while no command comes */

static void set_fault(struct runs *runs, enum runs_fault fault)
{
    atomic_store_explicit(&runs->status.fault, (int)fault,
                          memory_order_relaxed); /* relaxed: a gauge */
}

int runs_pass_recount(struct runs *runs, struct err *err)
{
    int64_t total = 0;
    int r = runs_sql_number(runs->db, "SELECT count(*) FROM agent_runs", &total, err);
    /* relaxed: a gauge. */
    atomic_store_explicit(&runs->status.total_runs, total, memory_order_relaxed);
    return r;
}

uint64_t runs_pass_durable(const struct runs *runs)
{
    const _Atomic uint64_t *lsn = runs->options.source.durable_lsn;
    /* acquire, edge W1: the acks of everything up to it were published before. */
    return lsn != NULL ? atomic_load_explicit(lsn, memory_order_acquire) : UINT64_MAX;
}

/* ---- one command ---- */

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
    if (found > runs_pass_durable(runs)) {
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
    runs_set(&runs->status.applied_lsn, found);
    int counted = runs_pass_recount(runs, &runs->pass.why);
    return counted < 0 ? counted : -EAGAIN;
}

static int begin(struct runs *runs, int64_t time_ns)
{
    struct runs_pass *pass = &runs->pass;
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
                        const struct runs_made *result, struct slice text)
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
    struct runs_pass *pass = &runs->pass;
    struct runs_made *result = &pass->results[pass->count];
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
static bool is_due(const struct runs_pass *pass)
{
    return pass->is_open && (pass->count >= RUNS_PASS_ENOUGH || pass->bytes >= PASS_BYTES ||
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
    struct runs_pass *pass = &runs->pass;
    struct runs_order order = {.time_ns = record->record.event_time_ns};
    uint8_t command = 0;
    if (record->lsn > runs_pass_durable(runs)) { /* memory runs ahead of what shards were told */
        pass->is_early = true;
        return leave(runs, record->lsn);
    }
    if (meta_find_run(&command, &order.event_id, record->record.meta) != 1) {
        runs_add(&runs->status.passed_over, 1);
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
    return r == 0 && pass->count < RUNS_PASS_COMMANDS;
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
            runs_add(&status->created, 1);
            /* relaxed: a gauge. */
            atomic_fetch_add_explicit(&status->total_runs, 1, memory_order_relaxed);
            break;
        case RUNS_DUPLICATE:
            runs_add(&status->duplicates, 1);
            break;
        case RUNS_UPDATED:
        case RUNS_ASSOCIATED:
        case RUNS_EVENT_ADDED:
        case RUNS_NOTHING:
            runs_add(&status->updated, 1);
            break;
        case RUNS_NOT_FOUND:
            runs_add(&status->not_found, 1);
            break;
        case RUNS_REFUSED:
            runs_add(&status->refused, 1);
            LOG(LOGLINE_ERROR, "runs_refused", "the command with LSN %" PRIu64 " was refused: %.*s",
                runs->pass.results[i].lsn, (int)runs->pass.results[i].text_bytes,
                (const char *)runs->pass.results[i].text);
            break;
        }
    }
    runs_add(&status->commands, runs->pass.count);
    runs_add(&status->transactions, 1);
}

static int commit(struct runs *runs, uint64_t applied)
{
    struct runs_pass *pass = &runs->pass;
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
    struct runs_pass *pass = &runs->pass;
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
    uint64_t waiting = runs_pass_durable(runs) - u64_min(runs->stored_lsn, runs_pass_durable(runs));
    uint64_t since = runs_get_relaxed(&runs->status.busy_since_ns);
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
        runs_add(&runs->status.errors, 1);
        runs_set(&runs->status.busy_since_ns, 0);
    }
    runs->busy_wait_ns = fault == RUNS_BLOCKED ? BUSY_AGAIN_NS : runs->options.busy_timeout_ns;
    runs->retry_at_ns = now_ns + (fault == RUNS_BLOCKED ? BUSY_RETRY_NS : RETRY_NS);
    if (runs_fault_of(runs) != fault) {
        runs->said_at_ns = 0; /* another failure than the last one is told at once */
    }
    set_fault(runs, fault);
    say_failure(runs, fault, now_ns);
}

static void on_success(struct runs *runs)
{
    if (runs_fault_of(runs) != RUNS_FINE) {
        LOG(LOGLINE_INFO, "runs_recovered", "%s: it is written again", runs->path);
        set_fault(runs, RUNS_FINE);
    }
    runs_set(&runs->status.busy_since_ns, 0);
    runs->busy_wait_ns = runs->options.busy_timeout_ns;
    runs->said_at_ns = 0;
    runs->retry_at_ns = 0;
}

/* Reads until the pass is full or the log at its end: SCAN_END there, else SCAN_MORE; negative: of the system. */
static int fill(struct runs *runs)
{
    struct runs_pass *pass = &runs->pass;
    int r = SCAN_MORE;
    for (unsigned i = 0; i < PASS_STEPS && r == SCAN_MORE; i++) {
        struct err why = {0};
        unsigned before = pass->count;
        r = scan_step(runs->scan, &why);
        if (r == ERR_CORRUPT) { /* told once: the scan goes on behind it */
            runs_add(&runs->status.errors, 1);
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
    runs_add(&runs->status.errors, 1);
    runs->retry_at_ns = clock_mono_ns() + RETRY_NS;
    LOG(LOGLINE_ERROR, "runs_log", "read the log: %s; tried again", runs->pass.why.text);
}

/* Of what is durable, behind what is applied. After durable_lsn, which has acquired W1. */
static bool has_no_command(const struct runs *runs)
{
    return runs->options.run_lsn != NULL &&
           runs_get_relaxed(runs->options.run_lsn) <= runs_get_relaxed(&runs->status.applied_lsn);
}

/* Other records are none of ours: where only they come, nothing is read. */
static void skip(struct runs *runs, uint64_t durable)
{
    scan_free(runs->scan);
    runs->scan = NULL;
    runs_set(&runs->status.applied_lsn,
             u64_max(durable, runs_get_relaxed(&runs->status.applied_lsn)));
    runs->durable_seen = durable;
}

int runs_pass_run(struct runs *runs)
{
    struct runs_pass *pass = &runs->pass;
    *pass = (struct runs_pass){.results = pass->results};
    uint64_t durable = runs_pass_durable(runs);
    if (has_no_command(runs)) {
        skip(runs, durable);
        return SCAN_END;
    }
    if (runs->scan == NULL) {
        begin_scan(runs, runs_get_relaxed(&runs->status.applied_lsn) + 1);
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
    runs_set(&runs->status.applied_lsn, next - 1);
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

void runs_pass_store_position(struct runs *runs)
{
    uint64_t applied = runs_get_relaxed(&runs->status.applied_lsn);
    runs->stored_at_ns = clock_mono_ns();
    if (applied == runs->stored_lsn && runs_fault_of(runs) == RUNS_FINE) {
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
    runs_set(&runs->status.busy_since_ns, 0);
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

void runs_pass_look(struct runs *runs, uint64_t now_ns)
{
    if (now_ns - runs->looked_at_ns < LOOK_NS) {
        return;
    }
    runs->looked_at_ns = now_ns;
    enum runs_watched is = runs_watch_look(&runs->watch, runs->path);
    if (is == RUNS_FILE_MOVED) {
        on_failure(runs, -ESTALE);
    } else if (runs_fault_of(runs) == RUNS_MOVED) {
        on_success(runs);
    } else if ((is == RUNS_FILE_WRITTEN || runs->must_look) && runs_fault_of(runs) == RUNS_FINE) {
        look_inside(runs);
    }
}
