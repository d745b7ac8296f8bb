#include "api/policy.h"

#include <errno.h>
#include <string.h>

#include "api/alerts.h"
#include "core/mem.h"

/* Of store.alert_levels and store.alert_webhook. */
static int policy_check_alerts(const struct config *config, struct config_problems *problems)
{
    unsigned levels[ALERT_LEVELS_MAX];
    unsigned count = 0;
    const char *url = config->alert_webhook;
    int result = alerts_parse_levels(config->alert_levels, levels, &count);
    if (result < 0) {
        config_problems_add(problems,
                            "store.alert_levels: '%s': need up to %d percents from 1 to 100, "
                            "ascending, as in 80,90,95",
                            config->alert_levels, ALERT_LEVELS_MAX);
    }
    if (url[0] != 0 && strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        config_problems_add(problems, "store.alert_webhook: '%s': need http://... or https://...",
                            url);
        result = -EINVAL;
    }
    return result;
}

int policy_open(struct policy **out, const struct config *config, struct config_problems *problems)
{
    struct policy *policy = mem_alloc(sizeof *policy);
    policy->config = *config;
    /* Both are tried, so that all problems are known at once. */
    int cors = cors_init(&policy->cors, config->cors_origins, problems);
    int auth = auth_load(&policy->auth, config, problems);
    int alerts = policy_check_alerts(config, problems);
    if (cors < 0 || auth < 0 || alerts < 0) {
        policy_close(policy);
        return -EINVAL;
    }
    *out = policy;
    return 0;
}

void policy_close(struct policy *policy)
{
    if (policy != NULL) {
        auth_close(&policy->auth);
        mem_free(policy);
    }
}
