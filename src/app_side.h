/*
 * app_side: what runs beside the data path and may fail without it: the catalog's agent and the alerts. Main
 * thread.
 */
#ifndef APP_SIDE_H
#define APP_SIDE_H

#include "api/alerts.h"
#include "core/agent.h"
#include "core/config.h"
#include "store/catalog.h"
#include "store/store.h"

struct app_side {
    struct catalog *catalog;
    struct park park; /* the catalog's */
    struct agent agent;
    bool is_running;
    bool has_park;
    struct alerts alerts;
};

/* After store_open, before store_start: opens the catalog and makes it equal to the files (progress in the log),
 * asks the store to be told of new views. ERR_VERSION: the catalog was made by a newer Sluice. One that cannot be
 * written is a log line: the server serves without it until its next start. */
int app_side_open(struct app_side *side, const struct config *config, struct store *store,
                  uint64_t last_lsn, struct err *err) MUST_USE;
int app_side_start(struct app_side *side, struct err *err) MUST_USE;
/* Once in a while. */
void app_side_look(struct app_side *side, const struct config *config,
                   const struct store_status *status, uint64_t now_ns);
/* Before store_close: its views end there. */
void app_side_stop(struct app_side *side);
/* After store_close, which wakes the park until then. */
void app_side_close(struct app_side *side);

#endif
