/*
 * delivery_segments: sinks that take whole segment files (s3). A batch is the file of one segment that will not change any more: compacted,
 * or sealed where nobody compacts (store.compact off, or the segment is damaged and stays raw). It is read in pieces over passes, so that
 * other sinks are not delayed, and kept whole until it is delivered: at most SEGMENT_SLOTS files are in memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "forward/delivery_parts.h"
#include "store/view_file.h"

#define PIECES_MAX 8u /* of a pass */

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

/* ---- a file into a slot ---- */

static void read_end(struct delivery *delivery, bool gives_slot)
{
    if (gives_slot) {
        delivery_read_slot_give(delivery->segment.slot);
    }
    delivery->segment = (struct segment_reading){0};
}

static void read_begin(struct delivery *delivery, struct slot *slot, struct batch *batch,
                       const struct view_segment *segment)
{
    struct encoder *encoder = &slot->encoder;
    const char *suffix = segment->state == VIEW_COMPACTED ? "slc" : "seg";
    /* Of the LSN behind it: a file that ends at a border may hold less than the one that the original of a restored log has, or
     * will have, under the same id. */
    encoder->node = delivery_stream(delivery, segment->footer.last_lsn + 1);
    encoder_segment(encoder, segment->id, suffix, (uint32_t)segment->footer.record_count);
    encoder->body.limit = (size_t)u64_max(segment->stored_bytes, FORWARD_BODY_MAX);
    (void)body_room(&encoder->body,
                    (size_t)segment->stored_bytes); /* at once; else it is missed below */
    delivery->segment = (struct segment_reading){.slot = slot,
                                                 .batch = batch,
                                                 .id = segment->id,
                                                 .state = segment->state,
                                                 .stored_bytes = segment->stored_bytes};
}

/* The segment that is being read, as it was when that began; NULL: its file is another one now, or gone. */
static struct view_segment *read_segment(const struct segment_reading *reading,
                                         const struct log_view *view)
{
    for (size_t i = 0; i < view->count; i++) {
        struct view_segment *segment = view->segments[i];
        if (segment->id == reading->id) {
            bool is_it =
                segment->state == reading->state && segment->stored_bytes == reading->stored_bytes;
            return is_it ? segment : NULL;
        }
    }
    return NULL;
}

/* Pieces until the time is up or all is there. */
static int read_pieces(struct delivery *delivery, struct view_segment *segment, uint64_t until_ns,
                       struct err *err)
{
    struct segment_reading *reading = &delivery->segment;
    struct body *body = &reading->slot->encoder.body;
    for (unsigned n = 0; n < PIECES_MAX && reading->at < reading->stored_bytes; n++) {
        uint64_t left = reading->stored_bytes - reading->at;
        uint64_t bytes = u64_min(delivery->options.piece_bytes, left);
        uint8_t *to = body_room(body, (size_t)bytes);
        if (to == NULL) {
            return err_set(err, -ENOMEM, "segment %" PRIu64 ": no memory", segment->id);
        }
        int r = view_file_read(segment, to, bytes, reading->at, err);
        if (r < 0) {
            return r;
        }
        body_add(body, (size_t)bytes);
        reading->at += bytes;
        if (clock_mono_ns() >= until_ns) {
            break;
        }
    }
    return 0;
}

/* ---- from a file to a batch ---- */

/* LSNs before the segment that nobody has any more. */
static void account_gap(struct delivery *delivery, uint64_t first)
{
    struct sink_position *position = &delivery->position;
    uint64_t next = position->live_next;
    if (first <= next) {
        return;
    }
    uint64_t expired = delivery_expired(delivery, next, first);
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
        delivery_load_failed(batch, &err);
    }
}

static void read_failed(struct delivery *delivery, const struct err *err)
{
    struct segment_reading *reading = &delivery->segment;
    struct batch *batch = reading->batch;
    if (batch != NULL) {
        delivery_load_failed(batch, err); /* gives the slot */
    } else {
        LOG(LOGLINE_ERROR, "forward_read", "sink %s: %s", delivery->sink->name,
            delivery_said(delivery, err->text));
        delivery->lanes[LANE_LIVE].look_again_ns = clock_mono_ns() + NS_S;
    }
    read_end(delivery, batch == NULL);
}

static void read_done(struct delivery *delivery, const struct view_segment *segment)
{
    struct segment_reading reading = delivery->segment;
    ASSERT(segment != NULL);
    read_end(delivery, false);
    if (reading.batch == NULL) {
        account_gap(delivery, segment->footer.first_lsn);
        segment_freeze(delivery, reading.slot, segment);
    } else {
        reading.batch->oldest_ns = segment->footer.built_min_ns;
        delivery_load_finish(reading.batch);
    }
}

/* A new file, when there is one in its final form, and room for it. */
static void next_begin(struct delivery *delivery, const struct log_view *view, uint64_t now_ns)
{
    uint64_t next = delivery->position.live_next;
    uint64_t end = u64_min(delivery_durable(delivery), delivery->end_lsn_max);
    if (next > end || now_ns < delivery->lanes[LANE_LIVE].look_again_ns) {
        return;
    }
    const struct view_segment *segment = segment_find(delivery, view, next);
    struct slot *slot = segment == NULL ? NULL : delivery_read_slot(delivery);
    if (slot != NULL) {
        read_begin(delivery, slot, NULL, segment);
    }
}

bool delivery_segments_work(struct delivery *delivery, uint64_t now_ns, uint64_t until_ns)
{
    struct segment_reading *reading = &delivery->segment;
    struct log_view *view = log_view_take(delivery->options.source.views);
    struct err err = {0};
    if (reading->slot == NULL) {
        next_begin(delivery, view, now_ns);
    }
    bool has_worked = reading->slot != NULL;
    if (has_worked) {
        struct view_segment *segment = read_segment(reading, view);
        int r = segment == NULL
                    ? err_set(&err, -EAGAIN, "segment %" PRIu64 " was put away while it was read",
                              reading->id)
                    : read_pieces(delivery, segment, until_ns, &err);
        if (r < 0) {
            read_failed(delivery, &err);
        } else if (reading->at == reading->stored_bytes) {
            read_done(delivery, segment);
        }
    }
    log_view_give(delivery->options.source.views, view);
    return has_worked;
}

void delivery_segments_load(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    const struct frozen *frozen = &batch->frozen;
    struct log_view *view = log_view_take(delivery->options.source.views);
    const struct view_segment *segment = segment_find(delivery, view, frozen->first_lsn);
    struct err err = {0};
    if (segment != NULL && segment->footer.last_lsn == frozen->last_lsn) {
        read_begin(delivery, batch->slot, batch, segment);
    } else if (delivery_log_begin(delivery) > frozen->last_lsn) {
        bool is_expired = delivery_expired(delivery, frozen->last_lsn, frozen->last_lsn + 1) != 0;
        delivery->position.expired += is_expired ? frozen->records : 0;
        delivery->position.damaged += is_expired ? 0 : frozen->records;
        delivery->is_position_dirty = true;
        delivery_rows_gone(batch);
    } else {
        (void)err_set(&err, -EAGAIN, "no segment file ends with LSN %" PRIu64 " now",
                      frozen->last_lsn);
        delivery_load_failed(batch, &err);
    }
    log_view_give(delivery->options.source.views, view);
}
