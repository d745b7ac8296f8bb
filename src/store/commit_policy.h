/*
 * commit_policy: when to submit the batch under construction. Pure: numbers in, a decision out.
 *
 * Natural batching is the rule: an idle disk gets what there is at once; with one write in flight a
 * second follows when the batch is worth it (COMMIT_BULK_BYTES), else it grows until a write
 * completes. The one exception: when arrivals are so dense that the cost of commits (some 40 us of
 * CPU each) eats the core, an idle disk waits up to pause_ns for more company.
 *
 * The pause ends early when the batch holds target_requests: as many as came in the last pause that
 * ran to its end. Clients that wait for their answers before they send again (a closed loop) are
 * all in the batch then, and waiting longer would only be waiting. Every COMMIT_PROBE pauses one
 * runs to its end to see whether more come now; one that ends with fewer lowers the target. A pause
 * that brought little is followed by COMMIT_HOLD_OFF commits without any.
 */
#ifndef STORE_COMMIT_POLICY_H
#define STORE_COMMIT_POLICY_H

#include "core/base.h"

#define COMMIT_BULK_BYTES      KIB(64)
#define COMMIT_DENSE_RECORDS   16u  /* arrivals expected within one pause, or it is not worth it */
#define COMMIT_HOLD_OFF        256u /* commits without pauses after one that brought little */
#define COMMIT_PROBE           32u  /* pauses between two that run to their end */
#define COMMIT_WAIT_COMPLETION UINT64_MAX

struct commit_policy {
    uint64_t pause_ns;         /* 0: never */
    uint64_t interval_ewma_ns; /* between submits; large when idle */
    uint64_t records_ewma_x16; /* per submit, 4 fraction bits */
    uint64_t submitted_at_ns;
    uint64_t pause_records;   /* requests in the batch when its pause began; 0: not paused */
    uint64_t target_requests; /* 0: unknown, run the pause to its end */
    uint32_t pauses_to_probe;
    uint32_t hold_off;
};

struct commit_input {
    uint64_t now_ns;
    uint64_t records; /* in the batch: requests */
    uint64_t bytes;
    uint64_t oldest_at_ns;
    unsigned in_flight;
    unsigned in_flight_max;
};

void commit_policy_init(struct commit_policy *policy, uint64_t pause_ns);
/* 0: submit now. COMMIT_WAIT_COMPLETION: when a write completes. Else: at that time at the latest,
 * or when more arrives, ask again. */
uint64_t commit_policy_decide(const struct commit_policy *policy, const struct commit_input *input);
/* Tells the policy that a pause begins. Repeated calls for the same batch are ignored. */
void commit_policy_on_pause(struct commit_policy *policy, uint64_t records);
void commit_policy_on_submit(struct commit_policy *policy, uint64_t now_ns, uint64_t records);

#endif
