/*
 * lambda_store: a batch into its upstreams: metrics to Timestream where there is one, all else (and metrics where there is
 * none) to OpenSearch, with the encoders and judges of the sinks. One thread.
 *
 * First everything is encoded and nothing sent: a record that an upstream could never be told is poison, and a batch with
 * poison stores nothing. Then request by request, until one has passing trouble: the client sends the batch again, and
 * what is there already is known by its id or version. So 200 means that all of it is stored, whoever asks how often.
 */
#ifndef CLI_LAMBDA_STORE_H
#define CLI_LAMBDA_STORE_H

#include "cli/lambda_batch.h"
#include "cli/lambda_http.h"
#include "core/config_sinks.h"

struct lambda_target {
    struct config_sink sink;
    struct lambda_signing signing; /* service "": not signed */
    bool is_there;
};
enum {
    LAMBDA_OPENSEARCH = 0,
    LAMBDA_TIMESTREAM,
    LAMBDA_TARGET_COUNT,
};

struct lambda_outcome {
    int status; /* 200, 400: poison (batch->faults), 413: halve it, 503: again, later */
    uint64_t retry_after_ns;                 /* of 503, 0: not said */
    char reason[FORWARD_REASON_BYTES + 128]; /* of 503 and 413 */
    uint64_t stored[LAMBDA_TARGET_COUNT];    /* records */
};

struct lambda_store;

/* targets: LAMBDA_TARGET_COUNT, borrowed. */
struct lambda_store *lambda_store_new(struct lambda_http *http,
                                      const struct lambda_target *targets);
void lambda_store_free(struct lambda_store *store);
/* deadline_ns: monotonic; requests end before it. */
void lambda_store_batch(struct lambda_store *store, struct lambda_batch *batch,
                        uint64_t deadline_ns, struct lambda_outcome *outcome);

#endif
