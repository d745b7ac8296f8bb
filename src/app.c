#include "app.h"

#include "app_forward.h"
#include "app_runs.h"
#include "app_side.h"
#include "app_witness.h"
#include "api/ops.h"
#include "api/query_pool.h"
#include "api/record_keys.h"
#include "api/shard.h"
#include "core/clock.h"
#include "core/descriptors.h"
#include "core/logline.h"
#include "core/mem.h"
#include "core/uring_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define MAIN_LOOK_MS      50
#define LEDGER_LOOK_NS    NS_S
#define SHARDS_MAX        STORE_SHARDS_MAX
#define POLICIES_KEPT_MAX 256

struct app {
    struct policy
        *policies[POLICIES_KEPT_MAX]; /* every one that was ever published: readers may hold any */
    unsigned policy_count;
    const struct config_sources *sources;
    struct store *store;
    uint8_t *keys_scratch; /* of record_keys, for the archive's thread */
    struct query_pool *query_pool;
    struct app_side side;
    struct app_forward forward;
    struct app_runs runs;
    struct park *shard_parks[SHARDS_MAX];
    struct shard_set set;
    struct shard shards[SHARDS_MAX];
    struct agent agents[SHARDS_MAX];
    unsigned started_count; /* agents whose thread runs */
    int signal_fd;
    uint64_t stop_deadline_ns; /* 0: serving */
    uint64_t ledger_looked_at_ns;
    bool is_ledger_off; /* the last look found an imbalance */
    bool has_log_rings; /* logline_start was called: this thread drains */
    int state_said;     /* enum store_state of the last log line about it */
};

/* mem_alloc aligns for CACHE_LINE_ALIGNED up to this. */
_Static_assert(sizeof(struct app) < MIB(1), "struct app has outgrown mem_alloc's alignment");

/* The configuration of the latest generation. */
static const struct config *app_config(const struct app *app)
{
    return &app->policies[app->policy_count - 1]->config;
}

/* One core is the writer's (and keeper's, and later the catalog's); with more than three another is
 * left to the forwarder and queries. On two cores that leaves one shard, which measured better than
 * two that fight the writer. */
static unsigned app_shard_count(const struct config *config)
{
    unsigned most = SHARDS_MAX - app_poller_ports(config);
    if (config->shards != 0) {
        return (unsigned)u64_min(config->shards, most);
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long left = cores > 3 ? cores - 2 : cores - 1;
    return left < 1 ? 1 : (unsigned)u64_min((uint64_t)left, most);
}

/* Readers take at most half of the cores, so that ingest goes on beside a long scan. */
static unsigned app_query_threads(const struct config *config)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t wanted = config->query_threads != 0 ? config->query_threads : (uint64_t)(cores / 2);
    return (unsigned)u64_max(1, u64_min(wanted, QUERY_THREADS_MAX));
}

/* A request is in the ring whole: twice the largest body holds its records with their headers
 * (format.h: 40 bytes each). */
static uint64_t app_ring_bytes(const struct config *config)
{
    uint64_t least = u64_max(2 * config->max_body, MIB(1));
    uint64_t bytes = MIB(1);
    while (bytes < least) {
        bytes *= 2;
    }
    return bytes;
}

static struct store_options app_store_options(const struct config *config, unsigned shard_count,
                                              uint8_t *keys_scratch)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (struct store_options){
        .data_dir = config->data_dir,
        .segment_bytes = config->segment_bytes,
        .reserve_bytes = config->reserve_bytes,
        .retention_bytes = config->retention_bytes,
        .ring_bytes = app_ring_bytes(config),
        .batch_bytes = config->batch_bytes,
        .commit_pause_ns = config->commit_pause_ns,
        .dedup_ttl_ns = config->dedup_ttl_ns,
        .dedup_entries_max = config->dedup_entries_max,
        .spare_segments = (uint32_t)config->spare_segments,
        .shard_count = shard_count + app_poller_ports(config),
        .writer_cpu = config->pin ? (int)(cores - 1) : -1,
        .on_corruption =
            config->refuse_corruption ? ON_CORRUPTION_REFUSE : ON_CORRUPTION_QUARANTINE,
        .allow_volatile = config->allow_volatile,
        .segment_age_ns = config->segment_age_ns,
        .compacts = config->compacts,
        .compact_level = (int)config->compact_level,
        .compact_rate = config->compact_rate,
        .retention_age_ns = config->retention_age_ns,
        .unforwarded_drop = config->unforwarded_drop,
        .record_keys = record_keys,
        .record_keys_context = keys_scratch,
    };
}

/* ---- start
 * --------------------------------------------------------------------------------------------------------
 */

static int app_open_signals(struct app *app, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    /* Blocked before any thread starts, so that every thread inherits it and only this descriptor
     * sees them. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    app->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return app->signal_fd < 0 ? err_set(err, -errno, "signalfd: %s", err_name(-errno)) : 0;
}

static void app_report_recovery(const struct recovery_report *report)
{
    LOG(LOGLINE_INFO, "recovered",
        "log of %" PRIu64 " segments up to LSN %" PRIu64 ", %" PRIu64 " torn batches cut, %" PRIu64
        " keys, in %" PRIu64 " ms",
        report->segments, report->last_lsn, report->torn_batches_cut, report->keys_rebuilt,
        report->duration_ns / NS_MS);
    if (report->corrupt_batches != 0) {
        LOG(LOGLINE_ERROR, "corruption",
            "%" PRIu64 " damaged batches (%" PRIu64
            " records) were quarantined, the rest is served: %s",
            report->corrupt_batches, report->corrupt_lsn_count, report->text);
    } else if (report->text[0] != 0) {
        LOG(LOGLINE_INFO, "recovery_detail", "%s", report->text);
    }
}

static void app_report_lineage(const struct lineage *lineage)
{
    char stream[ULID_TEXT_BYTES + 1] = "";
    if (lineage->count != 0) {
        struct ulid current = lineage_current(lineage);
        ulid_format(stream, &current);
        LOG(LOGLINE_INFO, "stream", "new records go upstream as stream %s", stream);
    }
}

static int app_open_store(struct app *app, struct err *err)
{
    struct config *config = &app->policies[app->policy_count - 1]->config;
    struct recovery_report report = {0};
    app->keys_scratch = mem_alloc(LOOKUP_SCRATCH_BYTES);
    struct store_options options = app_store_options(config, app->set.count, app->keys_scratch);
    options.witness = app_witness;
    options.witness_context = config;
    int result = store_open(&app->store, &options, NULL, &report, err);
    if (result < 0) {
        return result;
    }
    app_report_recovery(&report);
    app_report_lineage(store_lineage(app->store));
    app->set.store = app->store;
    app->set.status = store_status(app->store);
    app->set.ledger_base_lsn = report.last_lsn;
    return 0;
}

/* Before the writer runs: the pool asks to be told of what becomes durable. */
static int app_open_queries(struct app *app, struct err *err)
{
    const struct config *config = app_config(app);
    struct query_pool_options options = {
        .threads = app_query_threads(config),
        .shard_count = app->set.count,
        .jobs_max = (unsigned)config->query_max,
        .page_timeout_ns = config->query_timeout_ns,
        .store = app->store,
        .shard_parks = app->shard_parks,
    };
    int result = query_pool_open(&app->query_pool, &options, err);
    if (result < 0) {
        return result;
    }
    app->set.query_pool = app->query_pool;
    for (unsigned i = 0; i < app->set.count; i++) {
        app->shard_parks[i] = &app->shards[i].park;
        app->shards[i].query = query_pool_side(app->query_pool, i);
    }
    return 0;
}

static int app_open_runs(struct app *app, struct err *err)
{
    const struct app_runs_options options = {
        .config = app_config(app),
        .store = app->store,
        .last_lsn = app->set.ledger_base_lsn,
        .shard_count = app->set.count,
        .shard_parks = app->shard_parks,
    };
    int result = app_runs_open(&app->runs, &options, err);
    app->set.runs = result == 0 ? app_runs_link(&app->runs) : NULL;
    return result;
}

static int app_start_shards(struct app *app, struct err *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (unsigned i = 0; i < app->set.count; i++) {
        struct agent_options options = {
            .name = "shard",
            .role = ROLE_SHARD,
            .cpu = app_config(app)->pin ? (int)(i % (unsigned)cores) : -1,
            .context = &app->shards[i],
            .on_start = shard_on_start,
            .duty = shard_duty,
            .on_stop = shard_on_stop,
        };
        int result = agent_start(&app->agents[i], &options, err);
        if (result < 0) {
            return err_wrap(err, result, "start shard %u", i);
        }
        app->started_count++;
    }
    return 0;
}

/* As many open files as this process may have, since the segments of a long log take one each. */
static void app_raise_descriptors(const struct config *config)
{
    struct descriptors now = descriptors_raise();
    uint64_t needed = descriptors_needed(config);
    if (now.soft < needed) {
        LOG(LOGLINE_INFO, "descriptors",
            "%" PRIu64 " files may be open; server.max_connections = %" PRIu64
            " and a full log may need %" PRIu64
            ": raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower server.max_connections or "
            "store.retention_bytes",
            now.soft, config->max_connections, needed);
    }
}

static int app_start(struct app *app, struct err *err)
{
    app_raise_descriptors(app_config(app));
    if (app_config(app)->io == CONFIG_IO_EPOLL) {
        return err_set(
            err, ERR_UNSUPPORTED,
            "server.io = epoll: this version serves through io_uring only; use auto or uring "
            "(sluice doctor says what this host allows)");
    }
    /* The ring does what shards need of it, found by doing it, before any file is touched. */
    struct uring_caps caps;
    int result = uring_probe(&caps, err);
    if (result < 0) {
        return err_wrap(err, result, "io_uring does not work here (sluice doctor says more)");
    }
    result = app_open_signals(app, err);
    if (result < 0) {
        return result;
    }
    result = rate_limit_open(&app->set.rate_limit, RATE_LIMIT_ADDRESSES, err);
    if (result < 0) {
        return result;
    }
    result = app_open_store(app, err);
    if (result < 0) {
        return result;
    }
    app->set.shards = app->shards;
    app->set.agents = app->agents;
    for (unsigned i = 0; i < app->set.count; i++) {
        shard_init(&app->shards[i], &app->set, i);
        result = park_init(&app->shards[i].park, err);
        if (result < 0) {
            return result;
        }
        app->shards[i].port->shard_park = &app->shards[i].park;
    }
    result = app_open_queries(app, err);
    if (result < 0) {
        return result;
    }
    result = app_side_open(&app->side, app_config(app), app->store, app->set.ledger_base_lsn, err);
    if (result < 0) {
        return result;
    }
    app->set.alerts = &app->side.alerts;
    result = app_forward_open(&app->forward, app_config(app), app->store, app->set.count, err);
    if (result < 0) {
        return result;
    }
    app->set.upstream = app_forward_upstream(&app->forward);
    result = app_open_runs(app, err);
    if (result < 0) {
        return result;
    }
    app->set.started_at_ns = clock_mono_ns();
    app->set.started_real_ns = clock_real_ns();
    logline_start();
    app->has_log_rings = true;
    result = store_start(app->store, err);
    if (result < 0) {
        return err_wrap(err, result, "start the writer");
    }
    result = query_pool_start(app->query_pool, err);
    if (result == 0) {
        result = app_side_start(&app->side, err);
    }
    if (result == 0) {
        result = app_forward_start(&app->forward, err);
    }
    if (result == 0) {
        result = app_runs_start(&app->runs, err);
    }
    return result < 0 ? result : app_start_shards(app, err);
}

static void app_say_ready(struct app *app)
{
    const struct config *config = app_config(app);
    char text[1024];
    struct buf line;
    buf_init(&line, text, sizeof text - 1);
    for (unsigned i = 0; i < config->listen_count; i++) {
        const char *colon = strrchr(config->listen[i], ':');
        size_t host_bytes =
            colon == NULL ? strlen(config->listen[i]) : (size_t)(colon - config->listen[i]);
        buf_printf(&line, "%shttp://%.*s:%u", i == 0 ? "" : " ", (int)host_bytes, config->listen[i],
                   server_port(app->shards[0].server, i));
    }
    text[line.bytes] = 0;
    LOG(LOGLINE_INFO, "ready", "ready: serving on %s (%u shard%s, data in %s)", text,
        app->set.count, app->set.count == 1 ? "" : "s", config->data_dir);
}

/* ---- while serving
 * ------------------------------------------------------------------------------------------------
 */

static void app_begin_stop(struct app *app, uint64_t now_ns)
{
    if (app->stop_deadline_ns != 0) {
        LOG(LOGLINE_WARNING, "stop_at_once",
            "second signal: exit without an orderly stop; the next start will recover");
        logline_drain();
        _exit(1);
    }
    LOG(LOGLINE_INFO, "stopping", "answering what is in flight, then closing the log");
    app->stop_deadline_ns = now_ns + app_config(app)->stop_timeout_ns;
    /* release: pairs with nothing that needs data; the flag itself is the message. */
    atomic_store_explicit(&app->set.is_stopping, true, memory_order_release);
    for (unsigned i = 0; i < app->set.count; i++) {
        park_wake(&app->shards[i].park, true);
    }
}

static void app_report_access(const struct policy *policy)
{
    const struct config *config = &policy->config;
    if (config->auth_enabled) {
        LOG(LOGLINE_INFO, "auth", "%u bearer token%s accepted%s", policy->auth.count,
            policy->auth.count == 1 ? " is" : "s are",
            config->auth_environment_token[0] == 0
                ? ""
                : ", that of TELEMETRY_API_AUTH_TOKEN among them");
    }
}

/* The next generation of what is in force now, with what fresh may change. NULL: nothing is
 * changed, the problems say why. */
static struct policy *app_make_policy(const struct app *app, const struct config *fresh,
                                      struct config_problems *problems, struct buf *applied,
                                      struct buf *ignored)
{
    struct policy *policy = NULL;
    struct config *next = mem_alloc(sizeof *next);
    *next = *app_config(app);
    config_apply_reload(next, fresh, applied, ignored);
    next->generation = app_config(app)->generation + 1;
    if (policy_open(&policy, next, problems) < 0) {
        policy = NULL;
    }
    mem_free(next);
    return policy;
}

static void app_publish_policy(struct app *app, struct policy *policy)
{
    app->policies[app->policy_count++] = policy;
    /* C1: publishes the whole policy; pairs with the acquire in shard_take_config. */
    atomic_store_explicit(&app->set.policy, policy, memory_order_release);
}

static void app_reload_from(struct app *app, struct config *fresh, struct config_problems *problems)
{
    char applied_text[512];
    char ignored_text[512];
    struct buf applied;
    struct buf ignored;
    buf_init(&applied, applied_text, sizeof applied_text - 1);
    buf_init(&ignored, ignored_text, sizeof ignored_text - 1);
    struct policy *policy = NULL;
    if (config_load(fresh, app->sources, problems) == 0) {
        policy = app_make_policy(app, fresh, problems, &applied, &ignored);
    }
    if (policy == NULL) {
        for (unsigned i = 0; i < u64_min(problems->count, CONFIG_PROBLEMS_MAX); i++) {
            LOG(LOGLINE_ERROR, "reload_refused", "nothing was changed: %s", problems->text[i]);
        }
        return;
    }
    applied_text[applied.bytes] = 0;
    ignored_text[ignored.bytes] = 0;
    app_publish_policy(app, policy);
    logline_set_level((enum logline_level)policy->config.log_level);
    LOG(LOGLINE_INFO, "reloaded", "generation %" PRIu64 ": changed %s; needs a restart: %s",
        policy->config.generation, applied.bytes == 0 ? "nothing" : applied_text,
        ignored.bytes == 0 ? "nothing" : ignored_text);
    app_report_access(policy);
    app_forward_reload(&app->forward);
}

static void app_reload(struct app *app)
{
    if (app->policy_count == POLICIES_KEPT_MAX) {
        LOG(LOGLINE_ERROR, "reload_refused",
            "this process has reloaded %u times; restart it to reload again", POLICIES_KEPT_MAX);
        return;
    }
    struct config *fresh = mem_alloc(sizeof *fresh);
    struct config_problems *problems = mem_alloc(sizeof *problems);
    app_reload_from(app, fresh, problems);
    mem_free(fresh);
    mem_free(problems);
}

static void app_take_signals(struct app *app, uint64_t now_ns)
{
    struct signalfd_siginfo info;
    while (read(app->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            app_reload(app);
        } else {
            app_begin_stop(app, now_ns);
        }
    }
}

/* The promise that nothing disappears, checked while it is kept. */
static void app_look_at_ledger(struct app *app, uint64_t now_ns)
{
    if (now_ns - app->ledger_looked_at_ns < LEDGER_LOOK_NS) {
        return;
    }
    app->ledger_looked_at_ns = now_ns;
    int64_t imbalance = ledger_imbalance(&app->set);
    if (imbalance != 0 && !app->is_ledger_off) {
        atomic_fetch_add_explicit(&app->set.ledger_faults, 1, memory_order_relaxed);
        LOG(LOGLINE_ERROR, "ledger",
            "%" PRId64 " records are unaccounted for: this is a bug in Sluice", imbalance);
    }
    app->is_ledger_off = imbalance != 0;
}

/* Says once what the store refuses and why, and once that it is over. */
static void app_look_at_state(struct app *app)
{
    const struct store_status *status = app->set.status;
    /* relaxed, all: for a reader of the log. */
    int state = atomic_load_explicit(&status->state, memory_order_relaxed);
    uint64_t log_bytes = atomic_load_explicit(&status->log_bytes, memory_order_relaxed);
    uint64_t free_bytes = atomic_load_explicit(&status->free_bytes, memory_order_relaxed);
    bool is_stuck = atomic_load_explicit(&status->is_retention_stuck, memory_order_relaxed);
    uint64_t retain_lsn = atomic_load_explicit(&status->retain_lsn, memory_order_relaxed);
    const struct config *config = app_config(app);
    if (state == app->state_said || state == STORE_STOPPING) {
        return;
    }
    if (state == STORE_SHED && is_stuck && retain_lsn != UINT64_MAX) {
        LOG(LOGLINE_WARNING, "shedding",
            "new records are refused (429): the log has %" PRIu64
            " bytes, more than store.retention_bytes = %" PRIu64
            ", and its oldest segment may not be removed: a sink still waits for records from LSN "
            "%" PRIu64 " on (store.unforwarded = drop gives them up)",
            log_bytes, config->retention_bytes, retain_lsn);
    } else if (state == STORE_SHED && is_stuck) {
        LOG(LOGLINE_WARNING, "shedding",
            "new records are refused (429): the log has %" PRIu64
            " bytes, more than store.retention_bytes = %" PRIu64
            ", and its oldest segment cannot be removed (a line archive_failed says why)",
            log_bytes, config->retention_bytes);
    } else if (state == STORE_SHED && config->retention_bytes != 0 &&
               log_bytes > config->retention_bytes) {
        LOG(LOGLINE_WARNING, "shedding",
            "new records are refused (429): the log has %" PRIu64
            " bytes, more than store.retention_bytes = %" PRIu64
            ", and removing its oldest segments does not keep up: the cores or the disk are busy",
            log_bytes, config->retention_bytes);
    } else if (state == STORE_SHED) {
        LOG(LOGLINE_WARNING, "shedding",
            "new records are refused (429): no room for another segment, %" PRIu64 " bytes free",
            free_bytes);
    } else if (state == STORE_OK) {
        LOG(LOGLINE_INFO, "accepting", "records are accepted again, %" PRIu64 " bytes free",
            free_bytes);
    }
    app->state_said = state;
}

static bool app_shards_are_finished(const struct app *app)
{
    for (unsigned i = 0; i < app->started_count; i++) {
        if (!agent_is_finished(&app->agents[i])) {
            return false;
        }
    }
    return true;
}

/* The time for answers is over: shards end with their next pass. */
static void app_finish_shards(struct app *app)
{
    atomic_store_explicit(&app->set.must_finish, true, memory_order_release);
    for (unsigned i = 0; i < app->started_count; i++) {
        park_wake(&app->shards[i].park, true);
    }
}

/* Runs until every shard has finished. Returns 0, or 1 when an agent failed by itself. */
static int app_loop(struct app *app)
{
    for (;;) {
        struct pollfd pollfd = {.fd = app->signal_fd, .events = POLLIN};
        (void)poll(&pollfd, 1, MAIN_LOOK_MS);
        uint64_t now_ns = clock_mono_ns();
        app_take_signals(app, now_ns);
        app_look_at_ledger(app, now_ns);
        app_look_at_state(app);
        app_side_look(&app->side, app_config(app), app->set.status, now_ns);
        app_runs_look(&app->runs, app->store);
        logline_drain();
        if (app_shards_are_finished(app)) {
            return app->stop_deadline_ns == 0;
        }
        if (app->stop_deadline_ns != 0 && now_ns > app->stop_deadline_ns) {
            LOG(LOGLINE_WARNING, "stop_timeout",
                "clients did not take their answers in time; closing their connections");
            app_finish_shards(app);
        }
        for (unsigned i = 0; i < app->started_count; i++) {
            int state = atomic_load_explicit(&app->agents[i].state, memory_order_acquire);
            if (state < 0 && app->stop_deadline_ns == 0) {
                LOG(LOGLINE_ERROR, "shard_failed", "shard %u cannot go on: %s", i,
                    app->agents[i].err.text);
                app_begin_stop(app, now_ns);
                return 1;
            }
        }
    }
}

/* ---- stop
 * ---------------------------------------------------------------------------------------------------------
 */

static void app_join_shards(struct app *app)
{
    atomic_store_explicit(&app->set.is_stopping, true, memory_order_release);
    app_finish_shards(app);
    for (unsigned i = 0; i < app->started_count; i++) {
        agent_join(&app->agents[i]);
    }
}

static void app_drain_log(struct app *app)
{
    if (app->has_log_rings) {
        logline_drain();
    }
}

static void app_close(struct app *app)
{
    app_join_shards(app);
    if (app->query_pool != NULL) {
        query_pool_stop(app->query_pool); /* its scans hold views of the log */
    }
    app_forward_stop(&app->forward); /* what it reads are views of the log */
    app_side_stop(&app->side);
    if (app->store != NULL) {
        store_stop(app->store);
        for (unsigned tries = 0; tries < 3000 && !store_is_finished(app->store); tries++) {
            app_drain_log(app);
            (void)poll(NULL, 0, 10);
        }
        app_runs_stop(&app->runs); /* applies what the writer has finished; reads the log */
        store_close(app->store);
    }
    if (app->query_pool != NULL) {
        query_pool_close(app->query_pool); /* the store woke its threads until now */
    }
    app_forward_close(&app->forward); /* likewise */
    app_side_close(&app->side);
    app_runs_close(&app->runs);
    mem_free(app->keys_scratch);
    if (app->has_log_rings) {
        logline_stop();
    }
    for (unsigned i = 0; i < app->set.count && app->set.shards != NULL; i++) {
        shard_free(&app->shards[i]);
    }
    rate_limit_close(app->set.rate_limit);
    for (unsigned i = 0; i < app->policy_count; i++) {
        policy_close(app->policies[i]);
    }
    if (app->signal_fd >= 0) {
        close(app->signal_fd);
    }
    mem_free(app);
}

/* False: the configuration names something that will not do; every problem is logged, and no data
 * has been touched. */
static bool app_first_policy(struct app *app, const struct config *config)
{
    struct config_problems *problems = mem_alloc(sizeof *problems);
    struct policy *policy = NULL;
    int result = policy_open(&policy, config, problems);
    if (result == 0) {
        app_publish_policy(app, policy);
        app_report_access(policy);
    }
    for (unsigned i = 0; i < u64_min(problems->count, CONFIG_PROBLEMS_MAX); i++) {
        LOG(LOGLINE_ERROR, "start_failed", "%s", problems->text[i]);
    }
    mem_free(problems);
    return result == 0;
}

int app_serve(const struct config *config, const struct config_sources *sources)
{
    struct err err = {0};
    struct app *app = mem_alloc(sizeof *app);
    app->signal_fd = -1;
    app->sources = sources;
    if (!app_first_policy(app, config)) {
        logline_drain();
        mem_free(app);
        return 1;
    }
    app->set.count = app_shard_count(config);

    int result = app_start(app, &err);
    if (result < 0) {
        LOG(LOGLINE_ERROR, "start_failed", "%s", err.text);
        app_close(app);
        return 1;
    }
    app_say_ready(app);
    logline_drain();
    mem_latch();
    result = app_loop(app);
    mem_unlatch();
    app_close(app);
    LOG(LOGLINE_INFO, "stopped", "the log is closed");
    return result;
}
