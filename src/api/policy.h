/*
 * policy: one generation of everything that a reload may change: the configuration, and what its
 * values name (tokens, origins). Made whole by the main thread, published whole (C1), then
 * immutable: no shard ever sees the tokens of one generation with the switch of another. Kept until
 * the process ends, because shards and header lines point into it.
 */
#ifndef API_POLICY_H
#define API_POLICY_H

#include "api/auth.h"
#include "api/cors.h"
#include "core/config.h"

struct policy {
    struct config config;
    struct auth auth;
    struct cors cors;
};

/* Reads what config names (the token file). 0 and a policy to close, or -EINVAL with every problem
 * listed. Main thread. */
int policy_open(struct policy **policy, const struct config *config,
                struct config_problems *problems) MUST_USE;
void policy_close(struct policy *policy);

#endif
