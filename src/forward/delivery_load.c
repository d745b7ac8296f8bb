/*
 * delivery_load: batches whose body is not in memory: after a restart, halves and remainders, re-queued records. One at a time is read
 * again. One with a manifest must give the bytes it names; when it cannot any more (another encoding, records that expired or were
 * damaged meanwhile) it is frozen anew, which is said and counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery_parts.h"
#include "forward/streams.h"

#define LOAD_AGAIN_NS (1 * NS_S)

/* Those that are set aside may not have every slot. */
static bool may_load_aside(const struct delivery *delivery)
{
    unsigned used = 0;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        const struct batch *batch = delivery->batches[i];
        used += batch->slot != NULL && batch->retries_in_a_row >= RETRIES_MAX;
    }
    return used + 1 < delivery->slot_count;
}

static bool is_loadable(const struct batch *batch, uint64_t now_ns)
{
    return batch->state == BATCH_COLD && batch->row != ROW_DELETE &&
           batch->not_before_ns <= now_ns &&
           (batch->retries_in_a_row < RETRIES_MAX || may_load_aside(batch->delivery)) &&
           delivery_lanes_may_take_slot(batch->delivery, batch->frozen.lane);
}

static struct batch *load_choose(struct delivery *delivery, uint64_t now_ns)
{
    struct batch *best = NULL;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        struct batch *batch = delivery->batches[i];
        if (!is_loadable(batch, now_ns)) {
            continue;
        }
        bool is_better = best == NULL || batch->frozen.lane < best->frozen.lane ||
                         (batch->frozen.lane == best->frozen.lane &&
                          batch->frozen.first_lsn < best->frozen.first_lsn);
        best = is_better ? batch : best;
    }
    return best;
}

void delivery_load_failed(struct batch *batch, const struct err *err)
{
    LOG(LOGLINE_ERROR, "forward_load", "sink %s: LSN %" PRIu64 " to %" PRIu64 ": %s",
        batch->delivery->sink->name, batch->frozen.first_lsn, batch->frozen.last_lsn,
        delivery_said(batch->delivery, err->text));
    if (batch->slot != NULL) {
        delivery_read_slot_give(batch->slot);
        batch->slot = NULL;
    }
    batch->state = BATCH_COLD;
    batch->not_before_ns = clock_mono_ns() + LOAD_AGAIN_NS;
}

/* ---- frozen anew ---- */

void delivery_load_unfreeze(struct batch *batch)
{
    if (batch->slot != NULL) {
        delivery_read_slot_give(batch->slot);
        batch->slot = NULL;
    }
    memset(batch->frozen.digest, 0, sizeof batch->frozen.digest);
    delivery_read_target_drop(batch);
    batch->frozen.attempts = 0;
    batch->has_manifest = false;
    batch->state = BATCH_COLD;
    delivery_rows_put(batch);
}

static void refreeze_one(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    const struct frozen *frozen = &batch->frozen;
    bool is_other = strcmp(frozen->encoding, delivery->encoding) != 0;
    delivery->picture.refrozen++;
    LOG(LOGLINE_WARNING, "forward_refrozen",
        "sink %s: LSN %" PRIu64 " to %" PRIu64
        " are frozen anew: %s; an upstream that has them already may have them twice",
        delivery->sink->name, frozen->first_lsn, frozen->last_lsn,
        is_other ? "they are encoded in another way now"
                 : "their records or the sink's options have changed");
    delivery_load_unfreeze(batch);
}

/* The batch with a place in a file that lies behind first_lsn, the last of them. */
static struct batch *last_placed(const struct delivery *delivery, uint64_t first_lsn)
{
    struct batch *last = NULL;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        struct batch *batch = delivery->batches[i];
        bool is_behind = batch->state == BATCH_COLD && batch->frozen.target[0] != 0 &&
                         batch->frozen.first_lsn > first_lsn;
        if (is_behind && (last == NULL || batch->frozen.first_lsn > last->frozen.first_lsn)) {
            last = batch;
        }
    }
    return last;
}

/* Places in a file are given back the latest first, so that what is frozen anew leaves no hole. */
static void refreeze(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    struct batch *behind = last_placed(delivery, batch->frozen.first_lsn);
    while (behind != NULL) { /* each round takes one place back */
        refreeze_one(behind);
        behind = last_placed(delivery, batch->frozen.first_lsn);
    }
    refreeze_one(batch);
}

void delivery_load_finish(struct batch *batch)
{
    bool had_manifest = batch->has_manifest;
    struct err err = {0};
    int r = delivery_read_finish(batch, &err);
    if (r < 0) {
        delivery_load_failed(batch, &err);
    } else if (r == 1) {
        refreeze(batch);
    } else {
        batch->state = BATCH_READY;
        if (!had_manifest) {
            delivery_rows_put(batch);
        }
    }
}

/* ---- a quarantined record ---- */

static void load_quarantined(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    struct quarantined *item = mem_alloc(sizeof *item);
    struct err err = {0};
    int r =
        forward_db_quarantine_get(delivery->options.db, batch->frozen.quarantine_id, item, &err);
    if (r <= 0) {
        if (r == 0) {
            delivery_rows_gone(batch); /* somebody took the record out of the file */
        } else {
            delivery_load_failed(batch, &err);
        }
        mem_free(item);
        return;
    }
    struct forward_record record = {
        .lsn = item->lsn, .received_at_ns = item->received_at_ns, .record = item->record};
    struct ulid stream = delivery->options.node;
    r = streams_item_get(delivery->options.db, item->id, &stream, &err);
    if (r < 0) {
        delivery_load_failed(batch, &err);
        mem_free(item);
        return;
    }
    batch->slot->encoder.node = stream;
    encoder_begin(&batch->slot->encoder, batch->frozen.frozen_at_ns);
    r = encoder_add(&batch->slot->encoder, &record, &err);
    if (r < 0) {
        struct note *note = delivery_rows_note(delivery, NOTE_SET, NULL);
        note->item.id = batch->frozen.quarantine_id;
        note->item.state = QUARANTINE_HELD;
        note->item.refused_at_ns = clock_real_ns();
        (void)snprintf(note->item.reason, sizeof note->item.reason, "%.500s", err.text);
        delivery_rows_note_add(delivery, note);
        delivery_rows_gone(batch);
    } else {
        batch->oldest_ns = item->received_at_ns;
        delivery_load_finish(batch);
    }
    mem_free(item);
}

/* ---- a range of the log ---- */

/* What did not fit becomes a batch of its own. */
static void load_cut(struct batch *batch, uint64_t cut_lsn)
{
    struct delivery *delivery = batch->delivery;
    struct frozen rest = batch->frozen;
    uint32_t cut = (uint32_t)(cut_lsn - batch->frozen.first_lsn);
    uint64_t kept = batch->slot->encoder.record_count + delivery->loader.unsupported;
    rest.first_lsn = cut_lsn;
    rest.records = rest.records > kept ? rest.records - (uint32_t)kept : 0;
    rest.payload_bytes /= 2;
    rest.target[0] = 0;
    rest.attempts = 0;
    rest.frozen_at_ns = clock_real_ns();
    memset(rest.digest, 0, sizeof rest.digest);
    struct batch *second = delivery_rows_add(delivery, &rest);
    uint32_t count = delivery_rows_only_count(&batch->frozen);
    if (count != 0) {
        uint32_t *offsets = mem_alloc_array(count, sizeof *offsets);
        uint32_t low = 0;
        for (uint32_t i = 0; i < count; i++) {
            offsets[i] = delivery_rows_only(&batch->frozen, i);
            low += offsets[i] < cut;
        }
        if (low < count) {
            delivery_rows_set_only(second, offsets + low, count - low, cut);
        }
        if (low > 0) {
            delivery_rows_set_only(batch, offsets, low, 0);
        }
        mem_free(offsets);
    }
    delivery_rows_put(second);
    batch->frozen.last_lsn = cut_lsn - 1;
    batch->frozen.records -= rest.records;
    delivery_rows_put(batch);
}

/* Of the records that the row counts, those that are not in the body any more (or are in it, though the sink did not take
 * them before). */
static void load_account(struct batch *batch, struct reading *loader)
{
    struct delivery *delivery = batch->delivery;
    struct sink_position *position = &delivery->position;
    uint32_t records = batch->slot->encoder.record_count;
    if (records == batch->frozen.records && loader->unsupported == 0) {
        return;
    }
    int64_t gone = (int64_t)batch->frozen.records - (int64_t)records;
    int64_t left = gone - (int64_t)loader->unsupported;
    uint64_t most = left > 0 ? (uint64_t)left : 0; /* a remainder has LSNs that are done with */
    uint64_t damaged = u64_min(loader->damaged, most);
    uint64_t expired = u64_min(loader->expired, most - damaged);
    int64_t filtered = left - (int64_t)(damaged + expired);
    position->quarantined += loader->unsupported;
    position->damaged += damaged;
    position->expired += expired;
    position->filtered = (uint64_t)((int64_t)position->filtered + filtered);
    delivery->is_position_dirty = true;
    batch->frozen.records = records;
    delivery_rows_put(batch); /* position and row are one ledger */
}

static void load_notes(struct delivery *delivery, struct reading *loader)
{
    while (loader->notes != NULL) { /* bounded by the list */
        struct note *note = loader->notes;
        loader->notes = note->next;
        note->next = NULL;
        delivery_rows_note_add(delivery, note);
    }
}

/* What was found to be no part of it stays out, whatever a later reading finds. */
static void load_narrow(struct batch *batch, const struct reading *loader)
{
    if (loader->unsupported + loader->damaged + loader->expired != 0) {
        delivery_rows_set_only(batch, batch->slot->offsets, batch->slot->encoder.record_count, 0);
        delivery_rows_put(batch);
    }
}

static void load_end_body(struct batch *batch, const struct reading *loader, bool is_cut)
{
    bool may_be_same = batch->has_manifest && !is_cut && loader->unsupported == 0;
    if (batch->slot->encoder.record_count == 0) {
        delivery_read_target_drop(batch);
        delivery_rows_gone(batch);
        return;
    }
    if (!may_be_same) {
        load_narrow(batch, loader);
    }
    if (batch->has_manifest && !may_be_same) {
        refreeze(batch);
    } else {
        delivery_load_finish(batch);
    }
}

static void load_ended(struct delivery *delivery)
{
    struct reading *loader = &delivery->loader;
    struct batch *batch = loader->batch;
    bool is_cut = loader->is_full;
    if (is_cut) {
        load_cut(batch, loader->carry.lsn);
    }
    load_account(batch, loader);
    load_notes(delivery, loader);
    batch->oldest_ns = loader->oldest_ns;
    loader->slot = NULL; /* the batch has it */
    load_end_body(batch, loader, is_cut);
    delivery_read_reset(loader, 0);
}

/* Later than any time it was frozen at before, wherever the clock is now: the time is in the key. */
static int64_t freezing_time(const struct batch *batch)
{
    int64_t now_ns = clock_real_ns();
    return now_ns > batch->frozen.frozen_at_ns ? now_ns : batch->frozen.frozen_at_ns + 1;
}

static void load_begin(struct batch *batch, struct slot *slot)
{
    struct delivery *delivery = batch->delivery;
    struct reading *loader = &delivery->loader;
    batch->slot = slot;
    batch->state = BATCH_LOADING;
    if (!batch->has_manifest) {
        batch->frozen.frozen_at_ns = freezing_time(batch);
    }
    if (delivery->protocol->takes_segments) {
        delivery_segments_load(batch);
        return;
    }
    if (batch->frozen.quarantine_id != 0) {
        load_quarantined(batch);
        return;
    }
    delivery_read_reset(loader, batch->frozen.first_lsn);
    loader->end_lsn = batch->frozen.last_lsn + 1;
    loader->batch = batch;
    delivery_read_begin(loader, slot, batch->frozen.frozen_at_ns);
}

static bool is_at_end(const struct reading *loader)
{
    return loader->is_full || loader->next_lsn >= loader->end_lsn;
}

bool delivery_load_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns)
{
    struct reading *loader = &delivery->loader;
    bool has_worked = false;
    for (unsigned n = 0; n <= delivery->slot_count && delivery->segment.slot == NULL; n++) {
        if (loader->batch == NULL) {
            struct batch *batch = load_choose(delivery, now_ns);
            struct slot *slot = batch == NULL ? NULL : delivery_read_slot(delivery);
            if (slot == NULL) {
                return has_worked;
            }
            load_begin(batch, slot);
            has_worked = true;
        }
        int more = loader->batch != NULL;
        while (more == 1 && clock_mono_ns() < until_ns) {
            more = delivery_read_step(loader, now_ns);
        }
        if (loader->batch != NULL && is_at_end(loader)) {
            load_ended(delivery);
            has_worked = true;
        }
        if (loader->batch != NULL || clock_mono_ns() >= until_ns) {
            return has_worked;
        }
    }
    return has_worked;
}

uint64_t delivery_load_due_ns(const struct delivery *delivery)
{
    uint64_t due_ns = UINT64_MAX;
    if (delivery->loader.batch != NULL) {
        return delivery->loader.look_again_ns;
    }
    if (delivery->segment.slot != NULL) {
        return 0;
    }
    bool has_free = false;
    for (unsigned i = 0; i < delivery->slot_count; i++) {
        has_free |= !delivery->slots[i].is_used;
    }
    for (size_t i = 0; i < delivery->batch_count && has_free; i++) {
        const struct batch *batch = delivery->batches[i];
        if (is_loadable(batch, UINT64_MAX)) {
            due_ns = u64_min(due_ns, batch->not_before_ns);
        }
    }
    return due_ns;
}
