/*
 * delivery_lanes: new records, from where a lane stands to frozen batches. A lane reads ahead into one slot; the batch is frozen when it
 * is full, when its first record has waited for linger, or when the lane ends. Until then nothing of it is in the database, and nothing is
 * lost when it is thrown away: it is read again.
 */
#include <inttypes.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery_parts.h"

/* Ranges without a record for this sink move the position at most so often, or when they are long. */
#define PASS_AFTER_NS (200 * NS_MS)

static uint64_t *lane_position(struct delivery *delivery, enum lane_id id)
{
    return id == LANE_LIVE ? &delivery->position.live_next : &delivery->position.backlog_next;
}

static bool has_backlog(const struct delivery *delivery)
{
    return delivery->position.backlog_next < delivery->position.backlog_end;
}

static uint64_t lane_end(const struct delivery *delivery, enum lane_id id)
{
    if (id == LANE_BACKLOG) {
        return delivery->position.backlog_end;
    }
    return delivery->end_lsn_max == UINT64_MAX ? UINT64_MAX : delivery->end_lsn_max + 1;
}

/* A request ends with its stream. The scan knows where it was to end, so it is another one behind a border. */
static void lane_set_end(struct delivery *delivery, enum lane_id id)
{
    struct reading *lane = &delivery->lanes[id];
    uint64_t border = delivery_border(delivery, *lane_position(delivery, id));
    uint64_t end_lsn = u64_min(lane_end(delivery, id), border);
    if (end_lsn != lane->end_lsn) {
        ASSERT(!lane->has_carry);
        scan_free(lane->scan);
        lane->scan = NULL;
    }
    lane->end_lsn = end_lsn;
}

void delivery_lanes_open(struct delivery *delivery)
{
    for (unsigned i = 0; i < DELIVERY_LANES; i++) {
        struct reading *lane = &delivery->lanes[i];
        lane->delivery = delivery;
        delivery_read_reset(lane, *lane_position(delivery, (enum lane_id)i));
        lane_set_end(delivery, (enum lane_id)i);
    }
}

/* While there are two lanes, neither may take every slot. */
static unsigned slots_used(const struct delivery *delivery, enum lane_id id)
{
    unsigned used = delivery->lanes[id].slot != NULL;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct batch *batch = delivery->batches[i];
        used += batch->slot != NULL && batch->frozen.lane == id;
    }
    return used;
}

bool delivery_lanes_may_take_slot(const struct delivery *delivery, enum lane_id id)
{
    return !has_backlog(delivery) || slots_used(delivery, id) + 1 < delivery->slot_count;
}

/* A batch of the lane that waits for a slot goes first. One that waits out its own backoff (items that the upstream was too busy
 * for), or is set aside, does not hold up the others, but in a file, which has an order. */
static bool has_cold(const struct delivery *delivery, enum lane_id id, uint64_t now_ns)
{
    bool is_cold = delivery->batch_count >= BATCHES_MAX;
    for (size_t i = 0; i < delivery->batch_count && !is_cold; i++) {
        const struct batch *batch = delivery->batches[i];
        bool is_due = (batch->not_before_ns <= now_ns && batch->retries_in_a_row < RETRIES_MAX) ||
                      delivery->protocol->is_local;
        is_cold = batch->frozen.lane == id &&
                  (batch->state == BATCH_LOADING || (batch->state == BATCH_COLD && is_due));
    }
    return is_cold;
}

static bool has_more(const struct delivery *delivery, enum lane_id id)
{
    const struct reading *lane = &delivery->lanes[id];
    return lane->has_carry || (lane->next_lsn < lane_end(delivery, id) &&
                               lane->next_lsn <= delivery_durable(delivery));
}

static bool lane_begin(struct delivery *delivery, enum lane_id id, uint64_t now_ns)
{
    struct reading *lane = &delivery->lanes[id];
    if (!has_more(delivery, id) || has_cold(delivery, id, now_ns) ||
        !delivery_lanes_may_take_slot(delivery, id)) {
        return false;
    }
    struct slot *slot = delivery_read_slot(delivery);
    if (slot == NULL) {
        return false;
    }
    lane->first_lsn = *lane_position(delivery, id);
    lane_set_end(delivery, id);
    delivery_read_begin(lane, slot, clock_real_ns());
    return true;
}

/* ---- freezing ---- */

static void take_notes(struct delivery *delivery, struct reading *lane)
{
    struct note *notes = lane->notes;
    lane->notes = NULL;
    while (notes != NULL) { /* bounded by the list */
        struct note *next = notes->next;
        notes->next = NULL;
        delivery_rows_note_add(delivery, notes);
        notes = next;
    }
}

/* The position moves behind what was looked at; every LSN of it has its column. */
static void lane_account(struct delivery *delivery, enum lane_id id, uint32_t records)
{
    struct reading *lane = &delivery->lanes[id];
    struct sink_position *position = &delivery->position;
    uint64_t looked = lane->next_lsn - lane->first_lsn;
    uint64_t named = records + lane->damaged + lane->expired + lane->unsupported;
    ASSERT(named <= looked);
    position->filtered += looked - named;
    position->damaged += lane->damaged;
    position->expired += lane->expired;
    position->quarantined += lane->unsupported;
    delivery->picture.refused += lane->unsupported;
    take_notes(delivery, lane);
    *lane_position(delivery, id) = lane->next_lsn;
    delivery->is_position_dirty = true;
}

static struct batch *lane_batch(struct delivery *delivery, enum lane_id id)
{
    struct reading *lane = &delivery->lanes[id];
    struct slot *slot = lane->slot;
    struct frozen frozen = {
        .first_lsn = lane->first_lsn,
        .last_lsn = lane->next_lsn - 1,
        .lane = id,
        .records = slot->encoder.record_count,
        .payload_bytes = lane->payload_bytes,
        .frozen_at_ns = slot->encoder.frozen_at_ns,
    };
    struct batch *batch = delivery_rows_add(delivery, &frozen);
    batch->slot = slot;
    batch->oldest_ns = lane->oldest_ns;
    /* It must stay without them, whatever a later version can say, or a later reading can read. */
    if (lane->unsupported + lane->damaged + lane->expired != 0) {
        delivery_rows_set_only(batch, slot->offsets, frozen.records, 0);
    }
    delivery->record_bytes_mean = lane->payload_bytes / frozen.records;
    return batch;
}

static void lane_freeze(struct delivery *delivery, enum lane_id id)
{
    struct reading *lane = &delivery->lanes[id];
    uint32_t records = lane->slot->encoder.record_count;
    if (records == 0) {
        delivery_read_slot_give(lane->slot);
    } else {
        struct err err = {0};
        struct batch *batch = lane_batch(delivery, id);
        delivery_rows_put(batch);
        batch->state = BATCH_READY;
        if (delivery_read_finish(batch, &err) < 0) {
            LOG(LOGLINE_ERROR, "forward_freeze", "sink %s: %s", delivery->sink->name,
                delivery_said(delivery, err.text));
            delivery_read_slot_give(batch->slot); /* tried again as one without a manifest */
            batch->slot = NULL;
            batch->has_manifest = false;
            memset(batch->frozen.digest, 0, sizeof batch->frozen.digest);
            batch->state = BATCH_COLD;
            batch->not_before_ns = clock_mono_ns() + NS_S;
        }
    }
    lane->slot = NULL;
    lane_account(delivery, id, records);
    lane->first_lsn = lane->next_lsn;
    lane->began_ns = 0;
    lane->is_full = false;
}

static bool is_due(const struct delivery *delivery, enum lane_id id, uint64_t now_ns)
{
    const struct reading *lane = &delivery->lanes[id];
    if (lane->slot == NULL || lane->next_lsn == lane->first_lsn) {
        return false;
    }
    bool is_empty = lane->slot->encoder.record_count == 0;
    uint64_t wait_ns = is_empty ? PASS_AFTER_NS : delivery->sink->linger_ns;
    if (lane->is_full || lane->next_lsn >= lane->end_lsn) {
        return true;
    }
    if (is_empty && lane->next_lsn - lane->first_lsn >= BATCH_LSNS_MAX / 4) {
        return true;
    }
    return now_ns - lane->began_ns >= wait_ns;
}

/* ---- one pass ---- */

/* A lane that cannot read on, because nothing is taken, does not call pending what retention has removed meanwhile. What is
 * in memory already is still delivered. */
static bool lane_expire(struct delivery *delivery, enum lane_id id)
{
    struct reading *lane = &delivery->lanes[id];
    uint64_t *position = lane_position(delivery, id);
    uint64_t begin = u64_min(delivery_log_begin(delivery), lane_end(delivery, id));
    if (lane->slot != NULL || begin <= *position) {
        return false;
    }
    uint64_t expired = delivery_expired(delivery, *position, begin);
    delivery->position.expired += expired;
    delivery->position.damaged += begin - *position - expired;
    *position = begin;
    delivery->is_position_dirty = true;
    delivery_read_reset(lane, begin);
    return true;
}

static bool lane_work(struct delivery *delivery, enum lane_id id, uint64_t now_ns,
                      uint64_t until_ns)
{
    struct reading *lane = &delivery->lanes[id];
    bool has_worked = false;
    for (;;) { /* bounded by slots and time */
        if (lane->slot == NULL && !lane_begin(delivery, id, now_ns)) {
            return lane_expire(delivery, id) || has_worked;
        }
        int more = 1;
        while (more == 1 && clock_mono_ns() < until_ns) {
            more = delivery_read_step(lane, now_ns);
        }
        if (lane->began_ns == 0 && lane->next_lsn != lane->first_lsn) {
            lane->began_ns = now_ns;
        }
        if (!is_due(delivery, id, now_ns)) {
            return has_worked;
        }
        lane_freeze(delivery, id);
        has_worked = true;
        if (clock_mono_ns() >= until_ns) {
            return true;
        }
    }
}

/* Far behind, and the upstream takes requests: what is old becomes the backlog, the live lane jumps. */
static bool is_far_behind(const struct delivery *delivery)
{
    uint64_t durable = delivery_durable(delivery);
    uint64_t next = delivery->position.live_next;
    if (next > durable) {
        return false;
    }
    int64_t read_ns = delivery->lanes[LANE_LIVE].newest_ns;
    bool is_old = read_ns != 0 && delivery->lanes[LANE_LIVE].next_lsn <= durable &&
                  clock_real_ns() - read_ns > (int64_t)delivery->options.backlog_age_ns;
    return is_old || durable + 1 - next > delivery->options.backlog_records;
}

void delivery_lanes_split(struct delivery *delivery)
{
    struct sink_position *position = &delivery->position;
    if (delivery->options.is_replay || delivery->protocol->takes_segments ||
        delivery->protocol->is_local || has_backlog(delivery) || !delivery->has_success ||
        !is_far_behind(delivery)) {
        return;
    }
    position->backlog_next = position->live_next;
    position->backlog_end = delivery_durable(delivery) + 1;
    position->live_next = position->backlog_end;
    delivery->is_position_dirty = true;
    delivery_lanes_open(delivery);
    delivery->lanes[LANE_LIVE].newest_ns = 0;
    LOG(LOGLINE_INFO, "forward_backlog",
        "sink %s: LSN %" PRIu64 " to %" PRIu64
        " are delivered as backlog beside what comes in from now on",
        delivery->sink->name, position->backlog_next, position->backlog_end - 1);
}

bool delivery_lanes_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns)
{
    delivery_lanes_split(delivery);
    uint64_t half_ns = has_backlog(delivery) ? (until_ns - now_ns) / 2 : 0;
    bool has_worked = lane_work(delivery, LANE_LIVE, now_ns, until_ns - half_ns);
    if (has_backlog(delivery)) {
        has_worked |= lane_work(delivery, LANE_BACKLOG, now_ns, until_ns);
    }
    return has_worked;
}

static uint64_t lane_due_ns(const struct delivery *delivery, enum lane_id id)
{
    const struct reading *lane = &delivery->lanes[id];
    bool can_read = lane->slot != NULL && !lane->is_full;
    if (lane->slot == NULL) {
        bool has_free = false;
        for (unsigned i = 0; i < delivery->slot_count; i++) {
            has_free |= !delivery->slots[i].is_used;
        }
        can_read = has_free && !has_cold(delivery, id, clock_mono_ns()) &&
                   delivery_lanes_may_take_slot(delivery, id);
    }
    if (can_read && has_more(delivery, id)) {
        return lane->look_again_ns;
    }
    if (lane->slot == NULL || lane->began_ns == 0) {
        return UINT64_MAX;
    }
    bool is_empty = lane->slot->encoder.record_count == 0;
    return lane->is_full ? 0
                         : lane->began_ns + (is_empty ? PASS_AFTER_NS : delivery->sink->linger_ns);
}

uint64_t delivery_lanes_due_ns(const struct delivery *delivery)
{
    uint64_t due_ns = lane_due_ns(delivery, LANE_LIVE);
    if (has_backlog(delivery)) {
        due_ns = u64_min(due_ns, lane_due_ns(delivery, LANE_BACKLOG));
    }
    return due_ns;
}
