#include "cli/lambda_store.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"

#define REQUEST_RECORDS_MAX 5000u
#define REQUEST_BYTES_MAX   MIB(4)
#define REQUEST_MS_MAX      UINT64_C(30000)
/* For the answer on its way back. */
#define DEADLINE_MARGIN_MS UINT64_C(300)

struct lambda_store {
    struct lambda_http *http;
    const struct lambda_target *targets;
    struct encoder encoders[LAMBDA_TARGET_COUNT];
    /* of the request at hand */
    const struct lambda_record **records;
    uint8_t *items;
    char (*item_reasons)[FORWARD_REASON_BYTES / 2];
};

static const char *const target_names[] = {"opensearch", "timestream"};

struct lambda_store *lambda_store_new(struct lambda_http *http, const struct lambda_target *targets)
{
    struct lambda_store *store = mem_alloc(sizeof *store);
    store->http = http;
    store->targets = targets;
    store->records = mem_alloc_array(
        REQUEST_RECORDS_MAX,
        sizeof store->records[0]); /* NOLINT(bugprone-sizeof-expression): pointers */
    store->items = mem_alloc(REQUEST_RECORDS_MAX);
    store->item_reasons = mem_alloc_array(ITEM_REASONS_MAX, sizeof *store->item_reasons);
    for (unsigned i = 0; i < LAMBDA_TARGET_COUNT; i++) {
        ASSERT(targets[i].sink.batch_records <= REQUEST_RECORDS_MAX);
        if (targets[i].is_there) {
            encoder_open(&store->encoders[i], &targets[i].sink, (struct ulid){{0}});
        }
    }
    return store;
}

void lambda_store_free(struct lambda_store *store)
{
    if (store == NULL) {
        return;
    }
    for (unsigned i = 0; i < LAMBDA_TARGET_COUNT; i++) {
        if (store->targets[i].is_there) {
            encoder_close(&store->encoders[i]);
        }
    }
    mem_free(store->records);
    mem_free(store->items);
    mem_free(store->item_reasons);
    mem_free(store);
}

/* ---- requests ---- */

static unsigned target_of(const struct lambda_store *store, const struct lambda_record *record)
{
    bool is_metric = record->forward.record.kind == RECORD_METRIC;
    return is_metric && store->targets[LAMBDA_TIMESTREAM].is_there ? LAMBDA_TIMESTREAM
                                                                   : LAMBDA_OPENSEARCH;
}

/* A walk over the records of a batch that are for one target. */
struct walk {
    struct lambda_store *store;
    struct lambda_batch *batch;
    unsigned target;
    size_t at;
    unsigned request_count;
};

static bool is_mine(const struct walk *walk)
{
    return target_of(walk->store, &walk->batch->records[walk->at]) == walk->target;
}

/* Fills the encoder with the next request. False: there are no more records. What cannot be said becomes a fault. */
static bool next_request(struct walk *walk)
{
    struct lambda_store *store = walk->store;
    struct lambda_batch *batch = walk->batch;
    struct encoder *encoder = &store->encoders[walk->target];
    struct err err = {0};
    encoder->node = batch->node;
    encoder_begin(encoder, batch->sent_at_ns);
    for (; walk->at < batch->count; walk->at++) {
        const struct lambda_record *record = &batch->records[walk->at];
        uint32_t before = encoder->record_count;
        int r = is_mine(walk) ? encoder_add(encoder, &record->forward, &err) : -1;
        if (is_mine(walk) && r == ERR_LIMIT) {
            break;
        }
        if (is_mine(walk) && r < 0) {
            lambda_batch_fault(batch, record->list, record->index, err.text);
        }
        if (r == 0) {
            store->records[before] = record;
        }
    }
    return encoder->record_count > 0;
}

static void end_request(struct walk *walk, char *key, size_t room)
{
    struct encoder *encoder = &walk->store->encoders[walk->target];
    (void)snprintf(key, room, "%.80s-%u", walk->batch->id, walk->request_count++);
    encoder_end(encoder, key, 0, 0);
}

/* ---- sending ---- */

static uint64_t time_left_ms(uint64_t deadline_ns)
{
    uint64_t now_ns = clock_mono_ns();
    uint64_t left_ms = deadline_ns > now_ns ? (deadline_ns - now_ns) / NS_MS : 0;
    left_ms = left_ms > DEADLINE_MARGIN_MS ? left_ms - DEADLINE_MARGIN_MS : 0;
    return u64_min(left_ms, REQUEST_MS_MAX);
}

static void send_request(struct walk *walk, uint64_t timeout_ms, struct judgement *judgement)
{
    struct lambda_store *store = walk->store;
    struct encoder *encoder = &store->encoders[walk->target];
    const struct protocol *protocol = encoder->protocol;
    const struct lambda_signing *signing = &store->targets[walk->target].signing;
    char url[FORWARD_URL_BYTES];
    char headers[1024] = "";
    struct upstream_answer answer;
    protocol->url(encoder, url);
    if (protocol->headers != NULL) {
        protocol->headers(encoder, headers);
    }
    struct lambda_request request = {
        .method = protocol->method,
        .url = url,
        .content_type = protocol->content_type,
        .headers = headers,
        .body = {encoder->body.data, encoder->body.bytes},
        .signing = signing->service[0] != 0 ? signing : NULL,
        .timeout_ms = timeout_ms,
    };
    lambda_http_send(store->http, &request, &answer);
    *judgement = (struct judgement){.items = store->items, .item_reasons = store->item_reasons};
    protocol->judge(encoder, &answer, judgement);
    if (answer.fault != TRANSPORT_OK) {
        (void)snprintf(judgement->reason, sizeof judgement->reason, "%s", answer.fault_text);
    }
}

static void fail(struct lambda_outcome *outcome, int status, unsigned target, const char *reason,
                 uint64_t retry_after_ns)
{
    outcome->status = status;
    outcome->retry_after_ns = retry_after_ns;
    (void)snprintf(outcome->reason, sizeof outcome->reason, "%s: %s", target_names[target], reason);
}

/* Item by item: refused ones are faults, one that is to be tried again makes the batch one. */
static void take_items(struct walk *walk, const struct judgement *judgement,
                       struct lambda_outcome *outcome)
{
    struct lambda_store *store = walk->store;
    unsigned reason_at = 0;
    unsigned retries = 0;
    char text[FORWARD_REASON_BYTES];
    for (uint32_t i = 0; i < store->encoders[walk->target].record_count; i++) {
        const struct lambda_record *record = store->records[i];
        if (judgement->items[i] == ITEM_REFUSED) {
            const char *reason = reason_at < judgement->item_reason_count
                                     ? judgement->item_reasons[reason_at++]
                                     : judgement->reason;
            (void)snprintf(text, sizeof text, "%s: %.400s", target_names[walk->target], reason);
            lambda_batch_fault(walk->batch, record->list, record->index, text);
        } else if (judgement->items[i] == ITEM_RETRY) {
            retries++;
        } else {
            outcome->stored[walk->target]++;
        }
    }
    if (retries > 0) {
        (void)snprintf(text, sizeof text, "%u records were put off: %.256s", retries,
                       judgement->reason);
        fail(outcome, 503, walk->target, text, judgement->retry_after_ns);
    }
}

/* False: no further request makes sense. */
static bool take_judgement(struct walk *walk, const struct judgement *judgement,
                           struct lambda_outcome *outcome)
{
    const struct lambda_store *store = walk->store;
    uint32_t count = store->encoders[walk->target].record_count;
    switch (judgement->verdict) {
    case VERDICT_DONE:
        outcome->stored[walk->target] += count;
        return true;
    case VERDICT_ITEMS:
        take_items(walk, judgement, outcome);
        return outcome->status != 503;
    case VERDICT_REFUSED:
        if (count > 1) { /* which of them it was, the client finds by halving */
            fail(outcome, judgement->status == 413 ? 413 : 400, walk->target, judgement->reason, 0);
            return false;
        }
        lambda_batch_fault(walk->batch, store->records[0]->list, store->records[0]->index,
                           judgement->reason);
        return true;
    case VERDICT_RETRY:
    case VERDICT_PAUSE:
        break;
    }
    fail(outcome, 503, walk->target, judgement->reason, judgement->retry_after_ns);
    return false;
}

/* is_dry: only finds what cannot be said. False: stop. */
static bool walk_target(struct walk *walk, bool is_dry, uint64_t deadline_ns,
                        struct lambda_outcome *outcome)
{
    char key[FORWARD_KEY_BYTES];
    struct judgement judgement;
    bool goes_on = true;
    while (goes_on && next_request(walk)) { /* each turn takes a record at least */
        if (is_dry) {
            continue;
        }
        uint64_t timeout_ms = time_left_ms(deadline_ns);
        if (timeout_ms == 0) {
            fail(outcome, 503, walk->target, "no time was left for it", 0);
            return false;
        }
        end_request(walk, key, sizeof key);
        send_request(walk, timeout_ms, &judgement);
        goes_on = take_judgement(walk, &judgement, outcome);
    }
    return goes_on;
}

static void walk_all(struct lambda_store *store, struct lambda_batch *batch, bool is_dry,
                     uint64_t deadline_ns, struct lambda_outcome *outcome)
{
    bool goes_on = true;
    for (unsigned i = 0; goes_on && i < LAMBDA_TARGET_COUNT; i++) {
        struct walk walk = {.store = store, .batch = batch, .target = i};
        if (store->targets[i].is_there) {
            goes_on = walk_target(&walk, is_dry, deadline_ns, outcome);
        }
    }
}

void lambda_store_batch(struct lambda_store *store, struct lambda_batch *batch,
                        uint64_t deadline_ns, struct lambda_outcome *outcome)
{
    *outcome = (struct lambda_outcome){.status = 200};
    if (batch->fault_count == 0) {
        walk_all(store, batch, true, deadline_ns, outcome);
    }
    if (batch->fault_count == 0) {
        walk_all(store, batch, false, deadline_ns, outcome);
    }
    if (batch->fault_count > 0 && outcome->status == 200) {
        outcome->status = 400;
    }
}
