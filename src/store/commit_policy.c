/*
 * commit_policy: see commit_policy.h. Pure, owned by whoever holds the struct (the writer).
 * Averages are exponential with a weight of 1/8 for the newest: some ten commits of memory, a few
 * milliseconds at the rates where it matters.
 */
#include "store/commit_policy.h"

#define INTERVAL_MAX_NS                                                                            \
    (10 * NS_MS) /* an idle gap counts as this much, so that one gap ends density at once */

void commit_policy_init(struct commit_policy *policy, uint64_t pause_ns)
{
    *policy = (struct commit_policy){.pause_ns = pause_ns, .interval_ewma_ns = INTERVAL_MAX_NS};
}

/* Records that arrive within one pause if they come as they have come lately. */
static uint64_t expected_in_pause(const struct commit_policy *policy)
{
    return policy->pause_ns * policy->records_ewma_x16 /
           (16 * u64_max(policy->interval_ewma_ns, 1));
}

/* Dense: without a pause there would be several commits in the time of one, and company is likely.
 */
static bool is_pause_worth_it(const struct commit_policy *policy, const struct commit_input *input)
{
    if (policy->pause_ns == 0 || policy->hold_off > 0) {
        return false;
    }
    bool is_complete = policy->target_requests != 0 && policy->pauses_to_probe > 0 &&
                       input->records >= policy->target_requests;
    bool is_frequent = policy->pause_records > 0 || policy->interval_ewma_ns < 2 * policy->pause_ns;
    return is_frequent && !is_complete && expected_in_pause(policy) >= COMMIT_DENSE_RECORDS;
}

uint64_t commit_policy_decide(const struct commit_policy *policy, const struct commit_input *input)
{
    if (input->in_flight >= input->in_flight_max) {
        return COMMIT_WAIT_COMPLETION;
    }
    if (input->bytes >= COMMIT_BULK_BYTES) {
        return 0;
    }
    if (input->in_flight > 0) {
        return COMMIT_WAIT_COMPLETION;
    }
    if (!is_pause_worth_it(policy, input)) {
        return 0;
    }
    uint64_t until = input->oldest_at_ns + policy->pause_ns;
    return until > input->now_ns ? until : 0;
}

void commit_policy_on_pause(struct commit_policy *policy, uint64_t records)
{
    if (policy->pause_records == 0) {
        policy->pause_records = u64_max(records, 1);
    }
}

void commit_policy_on_submit(struct commit_policy *policy, uint64_t now_ns, uint64_t records)
{
    uint64_t interval = u64_min(now_ns - policy->submitted_at_ns, INTERVAL_MAX_NS);
    policy->submitted_at_ns = now_ns;
    policy->interval_ewma_ns = (policy->interval_ewma_ns * 7 + interval) / 8;
    policy->records_ewma_x16 =
        (policy->records_ewma_x16 * 7 + u64_min(records, UINT32_MAX) * 16) / 8;
    if (interval == INTERVAL_MAX_NS) {
        policy->interval_ewma_ns = INTERVAL_MAX_NS;
    }
    if (policy->pause_records == 0) {
        policy->hold_off -= policy->hold_off > 0;
        return;
    }
    /* Everybody who could come was already in the batch: a closed loop of few clients gains nothing
     * from waiting. */
    bool paid = records >= policy->pause_records + policy->pause_records / 2;
    policy->hold_off = paid ? 0 : COMMIT_HOLD_OFF;
    policy->pause_records = 0;
    bool is_probe = policy->pauses_to_probe == 0;
    if (is_probe || records < policy->target_requests) {
        policy->target_requests = records;
    }
    policy->pauses_to_probe = is_probe ? COMMIT_PROBE : policy->pauses_to_probe - 1;
}
