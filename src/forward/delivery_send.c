/*
 * delivery_send: which of the batches that are durable goes to the upstream now. Asks, in this order: the batch's own time, a pause (one
 * request looks whether it is over), connections, the backlog's window and rate, the breaker.
 */
#include <inttypes.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "forward/delivery_parts.h"

static bool is_backlog(const struct batch *batch)
{
    return batch->frozen.lane == LANE_BACKLOG;
}

/* One connection is kept for live data. */
static unsigned backlog_max(const struct delivery *delivery)
{
    unsigned connections = (unsigned)delivery->sink->connections;
    unsigned most = connections > 1 ? connections - 1 : 1;
    return (unsigned)u64_min(window_size(&delivery->window), most);
}

static bool is_ready(const struct batch *batch)
{
    return batch->state == BATCH_READY && batch->row == ROW_CLEAN && batch->has_manifest;
}

/* Is there a request too many under way for this one? */
static bool is_crowded(const struct delivery *delivery, const struct batch *batch)
{
    if (delivery->in_flight >= (delivery->is_paused ? 1 : delivery->sink->connections)) {
        return true;
    }
    return is_backlog(batch) && delivery->backlog_in_flight >= backlog_max(delivery);
}

/* What the time has to reach for this batch; 0: it has. */
static uint64_t batch_due_ns(const struct delivery *delivery, const struct batch *batch,
                             uint64_t now_ns)
{
    uint64_t due_ns = batch->not_before_ns;
    if (delivery->is_paused) {
        due_ns = u64_max(due_ns, delivery->paused_until_ns);
    }
    if (is_backlog(batch) || delivery->options.is_replay) {
        due_ns = u64_max(due_ns, bucket_due_ns(&delivery->bucket, now_ns));
    }
    return due_ns;
}

/* Live data goes first, and who was not tried for the longest time; so a batch that always fails (a server's bug, answered 500) is
 * not the only one ever tried, and not the one by which a breaker looks whether it may close. Files have an order. */
static bool is_before(const struct delivery *delivery, const struct batch *a, const struct batch *b)
{
    if (a->frozen.lane != b->frozen.lane && delivery->breaker.failures == 0) {
        return a->frozen.lane < b->frozen.lane;
    }
    if (a->sent_at_ns != b->sent_at_ns && !delivery->protocol->is_local) {
        return a->sent_at_ns < b->sent_at_ns;
    }
    return a->frozen.first_lsn < b->frozen.first_lsn;
}

static struct batch *send_choose(const struct delivery *delivery, uint64_t now_ns)
{
    struct batch *best = NULL;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        struct batch *batch = delivery->batches[i];
        if (!is_ready(batch) || is_crowded(delivery, batch) ||
            batch_due_ns(delivery, batch, now_ns) > now_ns) {
            continue;
        }
        best = best == NULL || is_before(delivery, batch, best) ? batch : best;
    }
    return best;
}

static struct slice wire_of(const struct batch *batch)
{
    const struct slot *slot = batch->slot;
    const struct body *body =
        batch->delivery->sink->compression == SINK_IDENTITY ? &slot->encoder.body : &slot->wire;
    return (struct slice){body->data, body->bytes};
}

static void sent(struct batch *batch, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    delivery->in_flight++;
    delivery->backlog_in_flight += is_backlog(batch);
    delivery->picture.requests++;
    delivery->picture.retries += batch->frozen.attempts != 0;
    batch->frozen.attempts++;
    if (is_backlog(batch) || delivery->options.is_replay) {
        bucket_take(&delivery->bucket, batch->slot->encoder.body.bytes, now_ns);
    }
}

static void send_one(struct batch *batch, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    struct transport_request request = {
        .encoder = &batch->slot->encoder,
        .key = batch->key,
        .body = wire_of(batch),
        .compression = delivery->sink->compression,
        .target = delivery->protocol->is_local ? batch->frozen.target : NULL,
        .on_answer = delivery_verdict_on_answer,
        .context = batch,
    };
    struct err err = {0};
    batch->state = BATCH_SENT;
    batch->sent_at_ns = now_ns;
    breaker_on_send(&delivery->breaker);
    sent(batch, now_ns);
    if (transport_send(delivery->options.transport, delivery->options.sink_index, &request, &err) <
        0) {
        struct upstream_answer answer = {.fault = TRANSPORT_LOCAL};
        memcpy(answer.fault_text, err.text, sizeof answer.fault_text - 1);
        delivery_verdict_on_answer(batch, &answer);
    }
}

void delivery_send_all(struct delivery *delivery, uint64_t now_ns)
{
    for (unsigned n = 0; n < delivery->slot_count; n++) {
        struct batch *batch = send_choose(delivery, now_ns);
        if (batch == NULL || !breaker_allows(&delivery->breaker, now_ns)) {
            return;
        }
        send_one(batch, now_ns);
    }
}

uint64_t delivery_send_due_ns(const struct delivery *delivery)
{
    uint64_t due_ns = UINT64_MAX;
    uint64_t now_ns = clock_mono_ns();
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct batch *batch = delivery->batches[i];
        if (is_ready(batch) && !is_crowded(delivery, batch)) {
            due_ns = u64_min(due_ns, batch_due_ns(delivery, batch, now_ns));
        }
    }
    return due_ns == UINT64_MAX ? UINT64_MAX : u64_max(due_ns, breaker_due_ns(&delivery->breaker));
}
