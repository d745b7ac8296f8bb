/*
 * app_runs: agent runs, composed: their database and its agent (store/runs.h), readers for the query threads, and the model's reading of
 * commands, which the store does not know. Main thread.
 */
#ifndef APP_RUNS_H
#define APP_RUNS_H

#include "api/runs.h"
#include "core/agent.h"
#include "core/config.h"
#include "store/store.h"

struct app_runs {
    struct runs *runs;
    struct park park; /* the agent's */
    struct agent agent;
    bool is_running;
    bool has_park;
    struct runs_link link;
    char lock_path[4096];
};

struct app_runs_options {
    const struct config *config;
    struct store *store;
    uint64_t last_lsn; /* of the log at start */
    unsigned shard_count;
    struct park **shard_parks;
};

/* After store_open, before store_start: opens or makes the database, brings it up to the log. A database that cannot be used (of a newer
 * version, damaged, written by another process) fails the start, because every answer about runs is a promise about that file. */
int app_runs_open(struct app_runs *runs, const struct app_runs_options *options,
                  struct err *err) MUST_USE;
struct runs_link *app_runs_link(struct app_runs *runs);
int app_runs_start(struct app_runs *runs, struct err *err) MUST_USE;
/* Once in a while: retention never passes what is not applied. */
void app_runs_look(const struct app_runs *runs, struct store *store);
/* Shards and query threads have ended, the writer has finished, the store is still open: what is durable is applied. */
void app_runs_stop(struct app_runs *runs);
/* After store_close, which wakes parks until then. */
void app_runs_close(struct app_runs *runs);

#endif
