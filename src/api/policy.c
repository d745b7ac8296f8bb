#include "api/policy.h"

#include <errno.h>

#include "core/mem.h"

int policy_open(struct policy **out, const struct config *config, struct config_problems *problems)
{
    struct policy *policy = mem_alloc(sizeof *policy);
    policy->config = *config;
    /* Both are tried, so that all problems are known at once. */
    int cors = cors_init(&policy->cors, config->cors_origins, problems);
    int auth = auth_load(&policy->auth, config, problems);
    if (cors < 0 || auth < 0) {
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
