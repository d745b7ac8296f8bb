#include "app_runs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "model/run.h"

#define LOCK_NAME       "telemetry_api.lock"
#define BUSY_TIMEOUT_NS (5 * NS_S)
#define PROGRESS_NS     NS_S

/* ---- what a command says: the model's words become the store's ---- */

_Static_assert((int)RUN_CREATE == RUNS_COMMAND_CREATE, "the commands are numbered alike");
_Static_assert((int)RUN_UPDATE == RUNS_COMMAND_UPDATE, "likewise");
_Static_assert((int)RUN_ASSOCIATE == RUNS_COMMAND_ASSOCIATE, "likewise");
_Static_assert((int)RUN_EVENT == RUNS_COMMAND_EVENT, "likewise");
_Static_assert((int)RUN_ABSENT == RUNS_ABSENT && (int)RUN_NULL == RUNS_NULL, "so are the types");
_Static_assert((int)RUN_TEXT == RUNS_TEXT && (int)RUN_INTEGER == RUNS_INTEGER, "likewise");
_Static_assert((int)RUN_JSON == RUNS_JSON, "likewise");
_Static_assert((int)RUN_COLUMNS == RUNS_COLUMNS, "and the fields");
_Static_assert((int)RUN_COMMIT_HASH == RUNS_FIELD_COMMIT_HASH, "likewise");
_Static_assert((int)RUN_EVENT_PAYLOAD == RUNS_FIELD_EVENT_PAYLOAD, "likewise");
_Static_assert((int)RUN_FIELD_COUNT == RUNS_FIELD_COUNT, "likewise");

static int on_read(void *context, struct runs_fields *fields, enum runs_command command,
                   struct slice payload, uint8_t *scratch, struct err *err)
{
    struct run_fields read;
    struct run_judgement judgement;
    (void)context;
    run_read(&read, &judgement, (enum run_command)command, payload, scratch, ISSUE_NO_INDEX);
    if (judgement.judged != RUN_GOOD && judgement.judged != RUN_EMPTY) {
        return err_set(err, -EINVAL, "the record is no command of agent runs");
    }
    for (size_t i = 0; i < RUN_FIELD_COUNT; i++) {
        fields->values[i] = (struct runs_value){.type = (enum runs_type)read.values[i].type,
                                                .integer = read.values[i].integer,
                                                .text = read.values[i].text};
    }
    return 0;
}

static const struct runs_read_model read_model = {
    .repo_url = run_repo_url, .commit_url = run_commit_url, .json_check = json_validate};

/* ---- opening ---- */

static void on_progress(void *context, uint64_t lsn, uint64_t last_lsn)
{
    uint64_t *said_ns = context;
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - *said_ns >= PROGRESS_NS) {
        *said_ns = now_ns;
        LOG(LOGLINE_INFO, "runs", "applying the log to the database: LSN %" PRIu64 " of %" PRIu64,
            lsn, last_lsn);
    }
}

static void say_opened(const struct runs_opened *opened, const char *path)
{
    if (opened->found == RUNS_MIGRATED) {
        LOG(LOGLINE_INFO, "runs", "%s was brought from version %d to %d", path,
            opened->from_version, RUNS_SCHEMA_VERSION);
    }
    if (opened->warning[0] != 0) {
        LOG(LOGLINE_WARNING, "runs", "%s", opened->warning);
    }
}

/* Configured, or beside the database. */
static int take_lock_path(struct app_runs *runs, const struct config *config, struct err *err)
{
    const char *slash = strrchr(config->runs_db, '/');
    int n = 0;
    if (config->runs_lock_file[0] != 0) {
        n = snprintf(runs->lock_path, sizeof runs->lock_path, "%s", config->runs_lock_file);
    } else {
        int dir_bytes = slash == NULL ? 0 : (int)(slash - config->runs_db) + 1;
        n = snprintf(runs->lock_path, sizeof runs->lock_path, "%.*s%s", dir_bytes, config->runs_db,
                     LOCK_NAME);
    }
    bool fits = n >= 0 && (size_t)n < sizeof runs->lock_path;
    return fits ? 0 : err_set(err, -ENAMETOOLONG, "%s: too long a path", config->runs_db);
}

static int open_database(struct app_runs *runs, const struct app_runs_options *from,
                         struct err *err)
{
    const struct store_status *status = store_status(from->store);
    struct runs_opened opened = {0};
    uint64_t said_ns = clock_mono_ns();
    struct runs_options options = {
        .path = from->config->runs_db,
        .lock_path = runs->lock_path,
        .ndjson_dir = from->config->runs_ndjson_dir,
        .source = {.views = store_views(from->store),
                   .recent = store_recent(from->store),
                   .durable_lsn = &status->durable_lsn},
        .run_lsn = &status->run_lsn,
        /* relaxed: no other thread runs yet. */
        .first_lsn = atomic_load_explicit(&status->first_lsn, memory_order_relaxed),
        .last_lsn = from->last_lsn,
        .node = store_node(from->store),
        .park = &runs->park,
        .shard_count = from->shard_count,
        .shard_parks = from->shard_parks,
        .busy_timeout_ns = BUSY_TIMEOUT_NS,
        .dedup_ttl_ns = from->config->dedup_ttl_ns,
        .read = on_read,
    };
    int r = runs_open(&runs->runs, &options, &opened, err);
    if (r < 0) {
        return r;
    }
    say_opened(&opened, options.path);
    struct err why = {0};
    if (runs_catch_up(runs->runs, on_progress, &said_ns, &why) < 0) {
        /* A full disk, or somebody who holds the file: the agent goes on trying, nothing is lost meanwhile. */
        LOG(LOGLINE_WARNING, "runs", "%s; tried again while serving", why.text);
    }
    return 0;
}

static int open_readers(struct runs_link *link, const char *path, struct err *err)
{
    for (unsigned i = 0; i < RUNS_READERS_MAX; i++) {
        int r = runs_reader_open(&link->readers[i], path, &read_model, err);
        if (r < 0) {
            return r;
        }
        link->reader_count++;
    }
    return 0;
}

int app_runs_open(struct app_runs *runs, const struct app_runs_options *options, struct err *err)
{
    int r = park_init(&runs->park, err);
    runs->has_park = r == 0;
    r = r < 0 ? r : take_lock_path(runs, options->config, err);
    r = r < 0 ? r : open_database(runs, options, err);
    r = r < 0 ? r : open_readers(&runs->link, options->config->runs_db, err);
    if (r < 0) {
        return err_wrap(err, r, "agent runs");
    }
    app_runs_look(runs, options->store);
    runs->link.runs = runs->runs;
    runs->link.db_path = options->config->runs_db;
    return 0;
}

struct runs_link *app_runs_link(struct app_runs *runs)
{
    return &runs->link;
}

int app_runs_start(struct app_runs *runs, struct err *err)
{
    const struct agent_options options = {
        .name = "runs", .role = ROLE_RUNS, .cpu = -1, .context = runs->runs, .duty = runs_duty};
    int r = agent_start(&runs->agent, &options, err);
    runs->is_running = r == 0;
    return r < 0 ? err_wrap(err, r, "start the runs agent") : 0;
}

void app_runs_look(const struct app_runs *runs, struct store *store)
{
    /* relaxed: an old value keeps a segment a moment longer. It goes back only where somebody puts an older state into the file. */
    store_set_unapplied_lsn(store, 1 + atomic_load_explicit(&runs_status(runs->runs)->applied_lsn,
                                                            memory_order_relaxed));
}

void app_runs_stop(struct app_runs *runs)
{
    if (runs->is_running) {
        runs_stop(runs->runs);
        agent_join(&runs->agent);
        runs->is_running = false;
    }
    for (unsigned i = 0; i < runs->link.reader_count; i++) {
        runs_reader_close(runs->link.readers[i]);
    }
    runs->link.reader_count = 0;
    if (runs->runs != NULL) {
        runs_close(runs->runs);
        runs->runs = NULL;
    }
}

void app_runs_close(struct app_runs *runs)
{
    if (runs->has_park) {
        park_close(&runs->park);
    }
}
