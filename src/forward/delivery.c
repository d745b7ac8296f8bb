/*
 * delivery: see delivery.h and delivery_parts.h. This file has the life of a delivery and its pass; lanes, loading, verdicts and sending
 * have files of their own.
 *
 * Happy path: lanes freeze batches, the pass writes their manifests, after the commit they are sent, their answers are taken in by the
 * next pass.
 * Failure: a batch that cannot be read, encoded or sent waits a second and is tried again; a commit that fails is repeated.
 * Close: nothing is written; what was under way is sent again, byte-identical, after the next open.
 */
#include "forward/delivery.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery_parts.h"

/* A sink's share of a pass: so long may another sink wait for this one's reading. */
#define PASS_NS       (5 * NS_MS)
#define REWRITE_NS    (1 * NS_S) /* after a commit that failed: a full disk does not mend faster */
#define REQUEUED_MAX  1024u      /* batches of re-queued records at one time */
#define SEGMENT_SLOTS 2u         /* a slot of a sink of segments holds a whole file */

uint64_t delivery_durable(const struct delivery *delivery)
{
    const struct store_status *status = delivery->options.status;
    if (status == NULL) {
        return delivery->options.log_end;
    }
    /* acquire, edge W1: what is at or below it can be read. */
    return atomic_load_explicit(&status->durable_lsn, memory_order_acquire);
}

uint64_t delivery_log_begin(const struct delivery *delivery)
{
    const struct store_status *status = delivery->options.status;
    if (status == NULL) {
        return delivery->options.log_begin;
    }
    /* relaxed: files that went a moment ago are met by the scan. */
    return atomic_load_explicit(&status->first_lsn, memory_order_relaxed);
}

/* splitmix64. */
uint64_t delivery_random(struct delivery *delivery)
{
    uint64_t z = delivery->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

const char *delivery_said(const struct delivery *delivery, const char *text)
{
    char prefix[CONFIG_SINK_NAME_MAX + 16];
    int n = snprintf(prefix, sizeof prefix, "sink %s: ", delivery->sink->name);
    return strncmp(text, prefix, (size_t)n) == 0 ? text + n : text;
}

/* The file before the oldest one of the view is there but cannot be read: nothing has expired, it is damaged. */
static bool begins_with_damage(const struct delivery *delivery)
{
    static const enum view_state states[] = {VIEW_COMPACTED, VIEW_ACTIVE};
    struct log_view *view = log_view_take(delivery->options.source.views);
    const struct view_segment *oldest = view->count == 0 ? NULL : view->segments[0];
    int r = -ENOENT;
    for (unsigned i = 0; i < ARRAY_COUNT(states) && oldest != NULL && r == -ENOENT; i++) {
        struct view_segment *segment = NULL;
        struct err err = {0};
        r = oldest->id == 0
                ? -ENOENT
                : view_segment_open(&segment, oldest->io, oldest->id - 1, states[i], &err);
        if (r == 0) {
            view_segment_give(segment);
        }
    }
    log_view_give(delivery->options.source.views, view);
    return r < 0 && r != -ENOENT;
}

uint64_t delivery_expired(const struct delivery *delivery, uint64_t from, uint64_t to)
{
    uint64_t end = u64_min(delivery_log_begin(delivery), to);
    return end <= from || begins_with_damage(delivery) ? 0 : end - from;
}

/* ---- the published picture ---- */

static int64_t oldest_pending(const struct delivery *delivery)
{
    int64_t oldest_ns = INT64_MAX;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct batch *batch = delivery->batches[i];
        int64_t at_ns = batch->oldest_ns != 0 ? batch->oldest_ns : batch->frozen.frozen_at_ns;
        bool counts = batch->frozen.quarantine_id == 0 && batch->state != BATCH_GONE;
        oldest_ns = counts && at_ns < oldest_ns ? at_ns : oldest_ns;
    }
    for (unsigned i = 0; i < DELIVERY_LANES; i++) {
        int64_t at_ns = delivery->lanes[i].slot == NULL ? 0 : delivery->lanes[i].oldest_ns;
        oldest_ns = at_ns != 0 && at_ns < oldest_ns ? at_ns : oldest_ns;
    }
    return oldest_ns == INT64_MAX ? clock_real_ns() : oldest_ns;
}

static void check_balance(struct delivery *delivery, const struct sink_picture *picture)
{
    bool balances = sink_balances(picture);
    if (!balances && !delivery->was_unbalanced) {
        const struct sink_position *at = &picture->position;
        LOG(LOGLINE_ERROR, "sink_ledger",
            "sink %s: the ledger does not balance: this is a bug in Sluice (durable %" PRIu64
            " start %" PRIu64 " delivered %" PRIu64 " filtered %" PRIu64 " quarantined %" PRIu64
            " expired %" PRIu64 " damaged %" PRIu64 " dropped %" PRIu64 " pending %" PRIu64 ")",
            delivery->sink->name, picture->durable_lsn, at->start_lsn, at->delivered, at->filtered,
            at->quarantined, at->expired, at->damaged, at->dropped, sink_pending(picture));
    }
    delivery->was_unbalanced = !balances;
}

static void publish(struct delivery *delivery)
{
    struct sink_picture *picture = &delivery->picture;
    /* A scan may meet a batch a moment before the writer says that it is durable. */
    uint64_t durable = u64_min(delivery_durable(delivery), delivery->end_lsn_max);
    picture->position = delivery->committed;
    picture->durable_lsn = u64_max(durable, picture->position.live_next - 1);
    picture->delivered_lsn = delivery->committed_retain_lsn - 1;
    picture->frozen_records = delivery->committed_frozen_records;
    picture->frozen_batches = delivery->committed_frozen_batches;
    picture->in_flight = delivery->in_flight;
    uint64_t pending = sink_pending(picture);
    uint64_t unread = pending - picture->frozen_records;
    picture->pending_bytes =
        delivery->committed_frozen_bytes + unread * delivery->record_bytes_mean;
    picture->oldest_pending_at_ns = pending == 0 ? 0 : oldest_pending(delivery);
    picture->breaker = delivery->breaker.state;
    picture->breaker_opened = delivery->breaker.opened_count;
    picture->window = window_size(&delivery->window);
    picture->lag_last_ns = (int64_t)delivery->lag.last_ns;
    picture->lag_p50_ns = (int64_t)lag_quantile(&delivery->lag, 0.5);
    picture->lag_p99_ns = (int64_t)lag_quantile(&delivery->lag, 0.99);
    check_balance(delivery, picture);
    if (delivery->options.out != NULL) {
        sink_status_write(delivery->options.out, picture);
    }
}

/* What memory holds is in the database. */
static void commit_picture(struct delivery *delivery)
{
    delivery->committed = delivery->position;
    delivery->committed_frozen_records = 0;
    delivery->committed_frozen_batches = delivery->batch_count;
    delivery->committed_frozen_bytes = 0;
    const struct sink_position *position = &delivery->position;
    uint64_t retain_lsn = position->live_next;
    if (position->backlog_next < position->backlog_end) {
        retain_lsn = u64_min(retain_lsn, position->backlog_next);
    }
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct frozen *frozen = &delivery->batches[i]->frozen;
        bool is_there = delivery->batches[i]->state != BATCH_GONE;
        if (frozen->quarantine_id == 0 && is_there) {
            retain_lsn = u64_min(retain_lsn, frozen->first_lsn);
            delivery->committed_frozen_records += frozen->records;
            delivery->committed_frozen_bytes += frozen->payload_bytes;
        }
    }
    delivery->committed_retain_lsn = retain_lsn;
}

/* ---- open and close ---- */

static void position_begin(struct delivery *delivery)
{
    const struct delivery_options *options = &delivery->options;
    uint64_t begin = u64_max(delivery_log_begin(delivery), 1);
    uint64_t start = begin;
    if (options->is_replay) {
        start = u64_max(options->lsn_min, begin);
    } else if (delivery->sink->from == SINK_FROM_END) {
        start = delivery_durable(delivery) + 1;
    }
    start = u64_min(start, u64_min(delivery_durable(delivery), delivery->end_lsn_max) + 1);
    delivery->position = (struct sink_position){.start_lsn = start, .live_next = start};
    delivery->is_position_dirty = true;
}

static void targets_known(const struct delivery *delivery)
{
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct frozen *frozen = &delivery->batches[i]->frozen;
        if (frozen->target[0] != 0) {
            transport_target_known(delivery->options.transport, delivery->options.sink_index,
                                   frozen->target);
        }
    }
}

static int load(struct delivery *delivery, struct err *err)
{
    const char *name = delivery->sink->name;
    int r = forward_db_sink_get(delivery->options.db, name, &delivery->position, err);
    if (r < 0) {
        return r;
    }
    bool is_new = r == 0;
    if (is_new) {
        position_begin(delivery);
    }
    commit_picture(delivery);
    r = delivery_rows_load(delivery, err);
    if (r < 0) {
        return r;
    }
    targets_known(delivery);
    r = delivery_cut(delivery, is_new, err);
    commit_picture(delivery);
    return r;
}

static uint32_t kinds_of(const struct delivery_options *options, const struct protocol *protocol)
{
    uint32_t kinds = options->sink->kinds != 0 ? options->sink->kinds : UINT32_MAX;
    uint32_t wanted = options->filter.kinds != 0 ? options->filter.kinds : UINT32_MAX;
    kinds &= protocol->kinds & wanted;
    return kinds != 0 ? kinds : 1u; /* kind 0 does not exist: nothing */
}

static void open_slots(struct delivery *delivery)
{
    unsigned connections = (unsigned)u64_max(delivery->sink->connections, 1);
    delivery->slot_count = connections + 1;
    if (delivery->protocol->takes_segments) {
        delivery->slot_count = SEGMENT_SLOTS;
    }
    delivery->slots = mem_alloc_array(delivery->slot_count, sizeof *delivery->slots);
    for (unsigned i = 0; i < delivery->slot_count; i++) {
        encoder_open(&delivery->slots[i].encoder, delivery->sink, delivery->options.node);
        body_init(&delivery->slots[i].wire, compress_bound(FORWARD_BODY_MAX));
    }
}

int delivery_open(struct delivery **out, const struct delivery_options *options, struct err *err)
{
    const struct config_sink *sink = options->sink;
    ASSERT(sink != NULL && options->db != NULL && options->transport != NULL);
    struct delivery *delivery = mem_alloc(sizeof *delivery);
    delivery->options = *options;
    if (delivery->options.backlog_records == 0) {
        delivery->options.backlog_records = BACKLOG_RECORDS;
    }
    if (delivery->options.backlog_age_ns == 0) {
        delivery->options.backlog_age_ns = BACKLOG_AGE_NS;
    }
    if (delivery->options.piece_bytes == 0) {
        delivery->options.piece_bytes = MIB(1);
    }
    delivery->sink = sink;
    delivery->protocol = protocol_of(sink->type);
    delivery->kinds = kinds_of(options, delivery->protocol);
    delivery->protocol->encoding(sink, delivery->encoding);
    delivery->end_lsn_max = UINT64_MAX;
    if (options->is_replay) {
        delivery->end_lsn_max = u64_min(options->lsn_max, delivery_durable(delivery));
    }
    delivery->random = options->seed;
    delivery->record_bytes_mean = 256;
    const struct backoff_options backoff = {sink->backoff_min_ns, sink->backoff_max_ns};
    breaker_init(&delivery->breaker, (unsigned)sink->breaker_failures, &backoff);
    window_init(&delivery->window, (unsigned)u64_max(sink->connections, 1));
    bucket_init(&delivery->bucket, sink->rate, clock_mono_ns());
    compress_init(&delivery->compress);
    open_slots(delivery);
    int r = load(delivery, err);
    if (r < 0) {
        delivery_close(delivery);
        return err_wrap(err, r, "sink %s", sink->name);
    }
    delivery_lanes_open(delivery);
    delivery->loader.delivery = delivery;
    publish(delivery);
    *out = delivery;
    return 0;
}

void delivery_close(struct delivery *delivery)
{
    if (delivery == NULL) {
        return;
    }
    for (unsigned i = 0; i < DELIVERY_LANES; i++) {
        delivery_read_free(&delivery->lanes[i]);
    }
    delivery->loader.slot = NULL; /* its batch gives it; a segment's slot goes with all slots */
    delivery_read_free(&delivery->loader);
    delivery_rows_free(delivery);
    for (unsigned i = 0; i < delivery->slot_count; i++) {
        struct slot *slot = &delivery->slots[i];
        encoder_close(&slot->encoder);
        body_free(&slot->wire);
        mem_free(slot->offsets);
        mem_free(slot->items);
        mem_free(slot->item_reasons);
    }
    mem_free(delivery->slots);
    compress_free(&delivery->compress);
    mem_free(delivery);
}

/* ---- the pass ---- */

int delivery_collect(struct delivery *delivery, uint64_t now_ns, bool *has_changed, struct err *err)
{
    uint64_t until_ns = now_ns + PASS_NS;
    *has_changed = false;
    if (delivery->must_rewrite && now_ns < delivery->rewrite_at_ns) {
        return 0;
    }
    if (!delivery->must_rewrite) {
        delivery_verdict_take(delivery, now_ns);
    }
    if (!delivery->must_rewrite && !delivery->is_stopping) {
        (void)delivery_load_work(delivery, now_ns, until_ns);
        if (delivery->protocol->takes_segments) {
            (void)delivery_segments_work(delivery, now_ns, until_ns);
        } else {
            (void)delivery_lanes_work(delivery, now_ns, until_ns);
        }
    }
    if (!delivery_rows_are_dirty(delivery)) {
        delivery->must_rewrite = false;
        return 0;
    }
    *has_changed = true;
    delivery->is_written = true;
    return delivery_rows_write(delivery, err);
}

void delivery_after_commit(struct delivery *delivery, uint64_t now_ns)
{
    if (delivery->is_written) {
        delivery->is_written = false;
        delivery->must_rewrite = false;
        delivery_rows_committed(delivery);
        commit_picture(delivery);
    }
    if (!delivery->is_stopping) {
        delivery_send_all(delivery, now_ns);
    }
    publish(delivery);
}

void delivery_after_rollback(struct delivery *delivery, uint64_t now_ns)
{
    if (delivery->is_written) {
        delivery->is_written = false;
        delivery->must_rewrite = true;
        delivery->rewrite_at_ns = now_ns + REWRITE_NS;
    }
    publish(delivery);
}

uint64_t delivery_due_ns(const struct delivery *delivery)
{
    uint64_t due_ns = delivery->is_stopping ? UINT64_MAX : delivery_send_due_ns(delivery);
    if (delivery->must_rewrite) {
        return u64_min(due_ns, delivery->rewrite_at_ns);
    }
    if (delivery->answered_count != 0 || delivery_rows_are_dirty(delivery)) {
        return delivery->take_again_ns;
    }
    if (delivery->is_stopping) {
        return UINT64_MAX;
    }
    due_ns = u64_min(due_ns, delivery_load_due_ns(delivery));
    if (!delivery->protocol->takes_segments) {
        due_ns = u64_min(due_ns, delivery_lanes_due_ns(delivery));
    }
    return due_ns;
}

uint64_t delivery_retain_lsn(const struct delivery *delivery)
{
    return delivery->committed_retain_lsn;
}

bool delivery_is_finished(const struct delivery *delivery)
{
    return delivery->options.is_replay && delivery->committed.live_next > delivery->end_lsn_max &&
           delivery->batch_count == 0 && !delivery_rows_are_dirty(delivery);
}

/* ---- an operator's ---- */

static unsigned requeued_count(const struct delivery *delivery)
{
    unsigned count = 0;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        count += delivery->batches[i]->frozen.quarantine_id != 0;
    }
    return count;
}

/* item is held and of this sink, and no change of it is waiting to be written. */
static int find_held(struct delivery *delivery, uint64_t id, struct quarantined *item,
                     struct err *err)
{
    int r = forward_db_quarantine_get(delivery->options.db, id, item, err);
    if (r < 0) {
        return r;
    }
    if (r == 0 || strcmp(item->sink, delivery->sink->name) != 0) {
        return err_set(err, -ENOENT, "no record %" PRIu64 " in quarantine of sink %s", id,
                       delivery->sink->name);
    }
    for (const struct note *note = delivery->notes; note != NULL; note = note->next) {
        r = note->type != NOTE_PUT && note->item.id == id ? -EBUSY : r;
    }
    if (item->state != QUARANTINE_HELD || r < 0) {
        return err_set(err, -EBUSY, "record %" PRIu64 " is being delivered again already", id);
    }
    return 0;
}

static void requeue(struct delivery *delivery, const struct quarantined *item)
{
    struct frozen frozen = {
        .first_lsn = item->lsn,
        .last_lsn = item->lsn,
        .lane = LANE_LIVE,
        .records = 1,
        .payload_bytes = item->record.payload.bytes,
        .frozen_at_ns = clock_real_ns(),
        .quarantine_id = item->id,
    };
    delivery_rows_put(delivery_rows_add(delivery, &frozen));
    struct note *note = delivery_rows_note(delivery, NOTE_SET, NULL);
    note->item.id = item->id;
    note->item.state = QUARANTINE_REQUEUED;
    note->item.status = item->status;
    note->item.refused_at_ns = item->refused_at_ns;
    memcpy(note->item.reason, item->reason, sizeof note->item.reason);
    delivery_rows_note_add(delivery, note);
}

int delivery_requeue(struct delivery *delivery, uint64_t quarantine_id, struct err *err)
{
    struct quarantined *item = mem_alloc(sizeof *item);
    int r = find_held(delivery, quarantine_id, item, err);
    if (r == 0 && requeued_count(delivery) >= REQUEUED_MAX) {
        r = err_set(err, -EBUSY, "%u records of sink %s are being delivered again already",
                    REQUEUED_MAX, delivery->sink->name);
    }
    if (r == 0) {
        requeue(delivery, item);
    }
    mem_free(item);
    return r;
}

int delivery_drop(struct delivery *delivery, uint64_t quarantine_id, struct err *err)
{
    struct quarantined *item = mem_alloc(sizeof *item);
    int r = find_held(delivery, quarantine_id, item, err);
    if (r == 0) {
        struct note *note = delivery_rows_note(delivery, NOTE_DELETE, NULL);
        note->item.id = quarantine_id;
        delivery_rows_note_add(delivery, note);
        delivery->position.quarantined--;
        delivery->position.dropped++;
        delivery->is_position_dirty = true;
    }
    mem_free(item);
    return r;
}

void delivery_stop(struct delivery *delivery)
{
    delivery->is_stopping = true;
}

bool delivery_is_idle(const struct delivery *delivery)
{
    return delivery->in_flight == 0 && delivery->answered_count == 0 &&
           !delivery_rows_are_dirty(delivery);
}

bool delivery_is_written(const struct delivery *delivery)
{
    return !delivery_rows_are_dirty(delivery);
}

void delivery_resume(struct delivery *delivery)
{
    delivery->paused_until_ns = 0;
    delivery->breaker.retry_at_ns = 0;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        delivery->batches[i]->not_before_ns = 0;
    }
}
