/*
 * delivery_segments: sinks that take whole segment files (s3). A batch is the file of one segment that will not change any more: compacted,
 * or sealed where nobody compacts (store.compact off, or the segment is damaged and stays raw). Read whole: a file is at most some 64 MiB,
 * and an uplink takes seconds for what the page cache gives in milliseconds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "forward/delivery_parts.h"
#include "store/view_file.h"

static bool is_final(const struct delivery *delivery, const struct view_segment *segment)
{
    if (segment->state == VIEW_COMPACTED) {
        return true;
    }
    bool stays_raw = !delivery->options.compacts || (segment->footer.flags & SEALED_DAMAGED) != 0;
    return segment->state == VIEW_SEALED && stays_raw;
}

/* The first segment with records at or above lsn, when it is in its final form. */
static struct view_segment *segment_find(const struct delivery *delivery,
                                         const struct log_view *view, uint64_t lsn)
{
    for (size_t i = 0; i < view->count; i++) {
        struct view_segment *segment = view->segments[i];
        if (segment->state == VIEW_ACTIVE) {
            return NULL;
        }
        if (segment->footer.record_count != 0 && segment->footer.last_lsn >= lsn) {
            return is_final(delivery, segment) ? segment : NULL;
        }
    }
    return NULL;
}

static int segment_read(struct slot *slot, struct view_segment *segment, struct err *err)
{
    struct encoder *encoder = &slot->encoder;
    const char *suffix = segment->state == VIEW_COMPACTED ? "slc" : "seg";
    encoder_segment(encoder, segment->id, suffix, (uint32_t)segment->footer.record_count);
    encoder->body.limit = (size_t)u64_max(segment->stored_bytes, FORWARD_BODY_MAX);
    uint8_t *to = body_room(&encoder->body, (size_t)segment->stored_bytes);
    if (to == NULL) {
        return err_set(err, -ENOMEM, "segment %" PRIu64 ": no memory", segment->id);
    }
    int r = view_file_read(segment, to, segment->stored_bytes, 0, err);
    if (r == 0) {
        body_add(&encoder->body, (size_t)segment->stored_bytes);
    }
    return r;
}

/* LSNs before the segment that nobody has any more. */
static void account_gap(struct delivery *delivery, uint64_t first)
{
    struct sink_position *position = &delivery->position;
    uint64_t next = position->live_next;
    if (first <= next) {
        return;
    }
    uint64_t expired = u64_min(u64_max(delivery_log_begin(delivery), next), first) - next;
    position->expired += expired;
    position->damaged += first - next - expired;
    position->live_next = first;
    delivery->is_position_dirty = true;
}

static void segment_freeze(struct delivery *delivery, struct slot *slot,
                           const struct view_segment *segment)
{
    struct sink_position *position = &delivery->position;
    const struct segment_footer *footer = &segment->footer;
    uint64_t lsns = footer->last_lsn + 1 - position->live_next;
    uint64_t records = u64_min(lsns, footer->record_count);
    struct frozen frozen = {
        .first_lsn = position->live_next,
        .last_lsn = footer->last_lsn,
        .lane = LANE_LIVE,
        .records = (uint32_t)records,
        .payload_bytes = footer->payload_bytes,
        .frozen_at_ns = clock_real_ns(),
    };
    struct err err = {0};
    struct batch *batch = delivery_rows_add(delivery, &frozen);
    batch->slot = slot;
    batch->oldest_ns = footer->built_min_ns;
    batch->state = BATCH_READY;
    delivery_rows_put(batch);
    position->damaged += lsns - records;
    position->live_next = footer->last_lsn + 1;
    delivery->is_position_dirty = true;
    if (delivery_read_finish(batch, &err) < 0) {
        LOG(LOGLINE_ERROR, "forward_freeze", "sink %s: %s", delivery->sink->name, err.text);
        delivery_read_slot_give(slot);
        batch->slot = NULL;
        batch->state = BATCH_COLD;
        batch->not_before_ns = clock_mono_ns() + NS_S;
    }
}

/* One file a pass. */
bool delivery_segments_work(struct delivery *delivery, uint64_t now_ns)
{
    struct reading *lane = &delivery->lanes[LANE_LIVE];
    struct err err = {0};
    bool has_worked = false;
    if (delivery->position.live_next > u64_min(delivery_durable(delivery), delivery->end_lsn_max) ||
        now_ns < lane->look_again_ns) {
        return false;
    }
    struct slot *slot = delivery_read_slot(delivery);
    if (slot == NULL) {
        return false;
    }
    struct log_view *view = log_view_take(delivery->options.source.views);
    struct view_segment *segment = segment_find(delivery, view, delivery->position.live_next);
    int r = segment == NULL ? -EAGAIN : segment_read(slot, segment, &err);
    if (r == 0) {
        account_gap(delivery, segment->footer.first_lsn);
        segment_freeze(delivery, slot, segment);
        has_worked = true;
    } else {
        delivery_read_slot_give(slot);
    }
    if (r < 0 && r != -EAGAIN) {
        lane->look_again_ns = now_ns + NS_S;
        LOG(LOGLINE_ERROR, "forward_read", "sink %s: %s", delivery->sink->name, err.text);
    }
    log_view_give(delivery->options.source.views, view);
    return has_worked;
}

int delivery_segments_load(struct batch *batch, struct err *err)
{
    struct delivery *delivery = batch->delivery;
    const struct frozen *frozen = &batch->frozen;
    struct log_view *view = log_view_take(delivery->options.source.views);
    struct view_segment *segment = segment_find(delivery, view, frozen->first_lsn);
    int r = 0;
    if (segment != NULL && segment->footer.last_lsn == frozen->last_lsn) {
        r = segment_read(batch->slot, segment, err);
        batch->oldest_ns = segment->footer.built_min_ns;
    } else if (delivery_log_begin(delivery) > frozen->last_lsn) {
        delivery->position.expired += frozen->records;
        delivery->is_position_dirty = true;
        delivery_rows_gone(batch);
    } else {
        r = err_set(err, -EAGAIN, "no segment file ends with LSN %" PRIu64 " now",
                    frozen->last_lsn);
    }
    log_view_give(delivery->options.source.views, view);
    return r;
}
