#include "app_side.h"

#include "core/clock.h"
#include "core/logline.h"

#define PROGRESS_NS NS_S

static void on_progress(void *context, size_t done, size_t all)
{
    uint64_t *said_ns = context;
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - *said_ns >= PROGRESS_NS) {
        *said_ns = now_ns;
        LOG(LOGLINE_INFO, "catalog", "reading segments into the catalog: %zu of %zu", done, all);
    }
}

static void say_found(enum catalog_found found)
{
    switch (found) {
    case CATALOG_REBUILT:
        LOG(LOGLINE_WARNING, "catalog",
            "catalog.sqlite was damaged or another node's: kept as catalog.sqlite.damaged, made "
            "again "
            "from the log");
        break;
    case CATALOG_MIGRATED:
        LOG(LOGLINE_INFO, "catalog", "catalog.sqlite was brought to version %d", CATALOG_VERSION);
        break;
    case CATALOG_GOOD:
    case CATALOG_MADE:
    case CATALOG_BEYOND: /* said where it was seen */
        break;
    }
}

/* The catalog is a view: who cannot write it (disk full, somebody holds its lock) serves all the same. Only one
 * of a newer Sluice stops the start. */
static int open_catalog(struct app_side *side, const struct config *config, struct store *store,
                        uint64_t last_lsn, struct err *err)
{
    enum catalog_found found = CATALOG_GOOD;
    uint64_t said_ns = clock_mono_ns();
    struct catalog_options options = {
        .data_dir = config->data_dir,
        .views = store_views(store),
        .park = &side->park,
        .node = store_node(store),
        .last_lsn = last_lsn,
    };
    struct err why = {0};
    int r = catalog_open(&side->catalog, &options, &found, &why);
    if (r == ERR_VERSION) {
        return err_set(err, r, "%s", why.text);
    }
    if (r < 0) {
        LOG(LOGLINE_WARNING, "catalog", "%s; serving without it: the next start tries again",
            why.text);
        return 0;
    }
    say_found(found);
    if (catalog_apply(side->catalog, on_progress, &said_ns, &why) < 0) {
        LOG(LOGLINE_WARNING, "catalog", "%s; tried again while serving", why.text);
    }
    store_subscribe(store, &side->park, STORE_TELL_VIEW);
    return 0;
}

int app_side_open(struct app_side *side, const struct config *config, struct store *store,
                  uint64_t last_lsn, struct err *err)
{
    int r = park_init(&side->park, err);
    side->has_park = r == 0;
    r = r == 0 ? open_catalog(side, config, store, last_lsn, err) : r;
    if (r < 0) {
        return r;
    }
    return alerts_open(&side->alerts, config, store_node(store), err);
}

int app_side_start(struct app_side *side, struct err *err)
{
    if (side->catalog == NULL) {
        return 0; /* said in open_catalog */
    }
    struct agent_options options = {.name = "catalog",
                                    .role = ROLE_CATALOG,
                                    .cpu = -1,
                                    .context = side->catalog,
                                    .duty = catalog_duty};
    int r = agent_start(&side->agent, &options, err);
    side->is_running = r == 0;
    return r < 0 ? err_wrap(err, r, "start the catalog") : 0;
}

void app_side_look(struct app_side *side, const struct config *config,
                   const struct store_status *status, uint64_t now_ns)
{
    /* relaxed: a gauge. */
    uint64_t log_bytes = atomic_load_explicit(&status->log_bytes, memory_order_relaxed);
    alerts_look(&side->alerts, now_ns, config->data_dir, log_bytes, config->retention_bytes);
}

void app_side_stop(struct app_side *side)
{
    if (side->is_running) {
        catalog_stop(side->catalog);
        agent_join(&side->agent);
        side->is_running = false;
    }
    catalog_close(side->catalog);
    side->catalog = NULL;
    alerts_close(&side->alerts);
}

void app_side_close(struct app_side *side)
{
    if (side->has_park) {
        park_close(&side->park);
    }
}
