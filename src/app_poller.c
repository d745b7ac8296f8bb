#include "app_poller.h"

#include <stdio.h>
#include <string.h>

unsigned app_poller_ports(const struct config *config)
{
    return config->poller_count == 0 ? 0 : 1;
}

int app_poller_open(struct app_poller *poller, const struct config *config, struct store *store,
                    unsigned port_index, struct err *err)
{
    if (config->poller_count == 0) {
        return 0;
    }
    struct poller_set_options options = {
        .data_dir = config->data_dir,
        .pollers = config->pollers,
        .poller_count = config->poller_count,
        .store = store,
        .port_index = port_index,
        .max_body = config->max_body,
    };
    int r = poller_set_open(&poller->set, &options, err);
    if (r < 0) {
        return r;
    }
    poller->pollers = config->pollers;
    poller->count = config->poller_count;
    return 0;
}

int app_poller_start(struct app_poller *poller, struct err *err)
{
    const struct agent_options options = {.name = "poller",
                                          .role = ROLE_POLLER,
                                          .cpu = -1,
                                          .context = poller->set,
                                          .duty = poller_set_duty};
    if (poller->set == NULL) {
        return 0;
    }
    int r = agent_start(&poller->agent, &options, err);
    poller->is_running = r == 0;
    return r < 0 ? err_wrap(err, r, "start the poller") : 0;
}

void app_poller_show(const struct app_poller *poller, unsigned i, struct upstream_poller *shown)
{
    struct poller_counts counts;
    *shown = (struct upstream_poller){0};
    poller_set_counts(poller->set, i, &counts);
    (void)snprintf(shown->name, sizeof shown->name, "%s", poller->pollers[i].name);
    shown->looks = counts.looks;
    shown->rows = counts.rows;
    shown->records = counts.records;
    shown->duplicates = counts.duplicates;
    shown->invalid = counts.invalid;
    shown->errors = counts.errors;
    shown->reconnects = counts.reconnects;
    shown->last_row_at_ns = counts.last_row_at_ns;
    shown->last_look_at_ns = counts.last_look_at_ns;
    shown->is_connected = counts.is_connected;
    _Static_assert(sizeof shown->reason >= sizeof counts.reason, "a reason is shown whole");
    memcpy(shown->reason, counts.reason, sizeof counts.reason);
}

void app_poller_stop(struct app_poller *poller)
{
    if (poller->is_running) {
        poller_set_stop(poller->set);
        agent_join(&poller->agent);
        poller->is_running = false;
    }
}

void app_poller_close(struct app_poller *poller)
{
    poller_set_close(poller->set);
    poller->set = NULL;
}
