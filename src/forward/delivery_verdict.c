/*
 * delivery_verdict: what an answer means for its batch. on_answer runs inside transport_run: it judges while the answer is there, and
 * tells breaker, window and pause, which nobody writes down. What changes the database waits for the pass (delivery_verdict_take).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery_parts.h"

/* ---- the moment of the answer ---- */

static void judgement_open(struct slot *slot)
{
    uint32_t records = slot->encoder.record_count;
    if (records > slot->item_room) {
        mem_free(slot->items);
        slot->item_room = records;
        slot->items = mem_alloc(records);
    }
    if (slot->item_reasons == NULL) {
        slot->item_reasons = mem_alloc_array(ITEM_REASONS_MAX, sizeof *slot->item_reasons);
    }
    if (records != 0) {
        memset(slot->items, 0, records);
    }
    slot->judgement = (struct judgement){.items = slot->items, .item_reasons = slot->item_reasons};
}

static void set_state(struct delivery *delivery, enum sink_state state, const char *reason)
{
    struct sink_picture *picture = &delivery->picture;
    bool is_news = picture->state != state || strcmp(picture->reason, reason) != 0;
    if (is_news && state == SINK_STATE_PAUSED) {
        delivery->picture.pauses += picture->state != SINK_STATE_PAUSED;
        uint64_t ms = delivery->sink->pause_retry_ns / NS_MS;
        bool is_seconds = ms % 1000 == 0;
        LOG(LOGLINE_ERROR, "sink_paused",
            "sink %s is paused: %s; nothing is lost, the upstream is asked again each %" PRIu64
            " %s",
            delivery->sink->name, reason, is_seconds ? ms / 1000 : ms, is_seconds ? "s" : "ms");
    } else if (is_news && state == SINK_STATE_RETRYING && picture->state == SINK_STATE_RUNNING) {
        LOG(LOGLINE_WARNING, "sink_retrying", "sink %s: %s; tried again until it is taken",
            delivery->sink->name, reason);
    } else if (is_news && state == SINK_STATE_RUNNING && picture->state != SINK_STATE_RUNNING) {
        LOG(LOGLINE_INFO, "sink_running", "sink %s: the upstream takes requests",
            delivery->sink->name);
    }
    picture->state = state;
    (void)snprintf(picture->reason, sizeof picture->reason, "%s", reason);
}

static bool is_overload(const struct upstream_answer *answer)
{
    return answer->status == 429 || answer->status == 503 || answer->fault == TRANSPORT_TIMEOUT;
}

/* The words for it: "HTTP 503: queue is full"; of a fault, what happened. Without the sink's name, which is said before it. */
static void describe(const struct delivery *delivery, const struct judgement *judgement,
                     const struct upstream_answer *answer, char *out)
{
    const char *said = judgement->reason[0] != 0 ? judgement->reason : answer->fault_text;
    said = delivery_said(delivery, said);
    char status[16];
    (void)snprintf(status, sizeof status, "HTTP %d", answer->status);
    if (answer->status != 0 && strncmp(said, status, strlen(status)) != 0) {
        (void)snprintf(out, FORWARD_REASON_BYTES, "%s: %.480s", status, said);
    } else {
        (void)snprintf(out, FORWARD_REASON_BYTES, "%.500s", said);
    }
}

static void on_trouble(struct batch *batch, const struct upstream_answer *answer, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    const struct judgement *judgement = &batch->slot->judgement;
    char reason[FORWARD_REASON_BYTES];
    breaker_on_failure(&delivery->breaker, now_ns, judgement->retry_after_ns,
                       delivery_random(delivery));
    if (is_overload(answer)) {
        window_on_overload(&delivery->window, batch->sent_at_ns, now_ns);
    }
    delivery->has_success = false;
    delivery->picture.breaker_opened = delivery->breaker.opened_count;
    describe(delivery, judgement, answer, reason);
    set_state(delivery, SINK_STATE_RETRYING, reason);
}

static void on_pause(struct batch *batch, const struct upstream_answer *answer, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    const struct judgement *judgement = &batch->slot->judgement;
    char reason[FORWARD_REASON_BYTES];
    breaker_on_success(&delivery->breaker); /* it answers */
    delivery->is_paused = true;
    delivery->paused_until_ns =
        now_ns + u64_max(delivery->sink->pause_retry_ns, judgement->retry_after_ns);
    delivery->has_success = false;
    describe(delivery, judgement, answer, reason);
    set_state(delivery, SINK_STATE_PAUSED, reason);
}

static bool has_item_retries(const struct slot *slot)
{
    return slot->encoder.record_count != 0 &&
           memchr(slot->items, ITEM_RETRY, slot->encoder.record_count) != NULL;
}

static void on_taken(struct batch *batch, const struct upstream_answer *answer, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    struct slot *slot = batch->slot;
    delivery->is_paused = false;
    delivery->has_success = true;
    breaker_on_success(&delivery->breaker);
    if (slot->judgement.verdict == VERDICT_ITEMS && has_item_retries(slot)) {
        window_on_overload(&delivery->window, batch->sent_at_ns, now_ns);
        char reason[FORWARD_REASON_BYTES];
        describe(delivery, &slot->judgement, answer, reason);
        set_state(delivery, SINK_STATE_RETRYING, reason);
        return;
    }
    if (batch->frozen.lane == LANE_BACKLOG && !is_overload(answer)) {
        window_on_success(&delivery->window);
    }
    if (slot->judgement.verdict == VERDICT_DONE) {
        delivery->picture.last_success_at_ns = clock_real_ns();
    }
    set_state(delivery, SINK_STATE_RUNNING, "");
}

void delivery_verdict_on_answer(void *context, const struct upstream_answer *answer)
{
    struct batch *batch = context;
    struct delivery *delivery = batch->delivery;
    uint64_t now_ns = clock_mono_ns();
    ASSERT(batch->state == BATCH_SENT);
    judgement_open(batch->slot);
    delivery->protocol->judge(&batch->slot->encoder, answer, &batch->slot->judgement);
    struct judgement *judgement = &batch->slot->judgement;
    if (judgement->retry_after_ns == 0) {
        judgement->retry_after_ns = answer->retry_after_ns;
    }
    if (judgement->verdict == VERDICT_REFUSED && delivery->protocol->takes_segments) {
        judgement->verdict = VERDICT_PAUSE; /* a file is no record: there is nothing to take out */
    }
    batch->state = BATCH_ANSWERED;
    delivery->answered_count++;
    delivery->in_flight--;
    delivery->backlog_in_flight -= batch->frozen.lane == LANE_BACKLOG;
    switch (judgement->verdict) {
    case VERDICT_RETRY:
        on_trouble(batch, answer, now_ns);
        break;
    case VERDICT_PAUSE:
        on_pause(batch, answer, now_ns);
        break;
    case VERDICT_DONE:
    case VERDICT_REFUSED:
    case VERDICT_ITEMS:
        on_taken(batch, answer, now_ns);
        break;
    }
}

/* ---- quarantine ---- */

struct quarantining {
    struct delivery *delivery;
    const struct batch *batch;
    const uint32_t *offsets; /* of the refused, ascending */
    uint32_t count;
    uint32_t at; /* the next that is looked for */
    uint32_t found;
    uint32_t reasons_from; /* which of the judgement's item reasons is the first one's */
};

static const char *reason_of(const struct quarantining *work, uint32_t i)
{
    const struct judgement *judgement = &work->batch->slot->judgement;
    bool has_own = judgement->verdict == VERDICT_ITEMS && i < judgement->item_reason_count &&
                   judgement->item_reasons[i][0] != 0;
    return has_own ? judgement->item_reasons[i] : judgement->reason;
}

static bool on_refused_record(void *context, const struct scan_record *shown)
{
    struct quarantining *work = context;
    uint64_t first = work->batch->frozen.first_lsn;
    while (work->at < work->count && first + work->offsets[work->at] < shown->lsn) {
        work->at++; /* it cannot be read any more */
    }
    if (work->at == work->count || first + work->offsets[work->at] != shown->lsn) {
        return true;
    }
    struct forward_record record = {
        .lsn = shown->lsn, .received_at_ns = shown->built_at_ns, .record = shown->record};
    struct note *note = delivery_rows_note(work->delivery, NOTE_PUT, &record);
    note->item.status = work->batch->slot->judgement.status;
    note->item.refused_at_ns = clock_real_ns();
    (void)snprintf(note->item.reason, sizeof note->item.reason, "%s", reason_of(work, work->at));
    delivery_rows_note_add(work->delivery, note);
    work->found++;
    work->at++;
    return true;
}

/* False: not now, nothing was changed. */
static bool quarantine(struct batch *batch, const uint32_t *offsets, uint32_t count)
{
    struct delivery *delivery = batch->delivery;
    struct sink_position *position = &delivery->position;
    struct quarantining work = {
        .delivery = delivery, .batch = batch, .offsets = offsets, .count = count};
    struct note *before = delivery->notes;
    uint64_t first = batch->frozen.first_lsn;
    delivery->notes = NULL;
    int r = delivery_read_records(delivery, first + offsets[0], first + offsets[count - 1],
                                  on_refused_record, &work);
    struct note *fresh = delivery->notes;
    delivery->notes = before;
    if (r < 0) {
        delivery_rows_notes_free(&fresh);
        delivery->take_again_ns = clock_mono_ns() + NS_S;
        return false;
    }
    if (fresh != NULL) {
        delivery_rows_note_add(delivery, fresh);
    }
    uint32_t lost = count - work.found;
    uint64_t at = first + offsets[0];
    bool is_expired = lost != 0 && delivery_log_begin(delivery) > at &&
                      delivery_expired(delivery, at, at + 1) != 0;
    position->quarantined += work.found;
    position->expired += is_expired ? lost : 0;
    position->damaged += is_expired ? 0 : lost;
    delivery->is_position_dirty = true;
    delivery->picture.refused += count;
    LOG(LOGLINE_WARNING, "quarantined", "sink %s: %u records were refused (status %d): %s",
        delivery->sink->name, count, batch->slot->judgement.status, batch->slot->judgement.reason);
    return true;
}

/* ---- what the pass makes of it ---- */

static void note_lag(struct batch *batch, uint64_t records, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    int64_t real_ns = clock_real_ns();
    if (batch->oldest_ns != 0 && records != 0 && batch->frozen.quarantine_id == 0) {
        int64_t lag_ns = real_ns > batch->oldest_ns ? real_ns - batch->oldest_ns : 0;
        lag_add(&delivery->lag, (uint64_t)lag_ns, records, now_ns);
    }
}

static void add_delivered(struct batch *batch, uint64_t records, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    const struct slot *slot = batch->slot;
    bool is_plain = delivery->sink->compression == SINK_IDENTITY;
    delivery->position.delivered += records;
    delivery->is_position_dirty = true;
    delivery->picture.delivered_bytes += slot->encoder.body.bytes;
    delivery->picture.sent_bytes += is_plain ? slot->encoder.body.bytes : slot->wire.bytes;
    note_lag(batch, records, now_ns);
}

static void take_done(struct batch *batch, uint64_t now_ns)
{
    struct delivery *delivery = batch->delivery;
    add_delivered(batch, batch->frozen.records, now_ns);
    if (batch->frozen.quarantine_id != 0) {
        struct note *note = delivery_rows_note(delivery, NOTE_DELETE, NULL);
        note->item.id = batch->frozen.quarantine_id;
        delivery_rows_note_add(delivery, note);
        delivery->position.quarantined--;
    }
    delivery_rows_gone(batch);
}

static uint64_t retry_backoff_ns(const struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    const struct backoff_options backoff = {delivery->sink->backoff_min_ns,
                                            delivery->sink->backoff_max_ns};
    return backoff_ns(&backoff, batch->retries_in_a_row, batch->slot->judgement.retry_after_ns,
                      delivery_random(delivery));
}

/* It waits without a body, and is read again when its time has come: others may have the slot. */
static void set_aside(struct batch *batch, uint64_t wait_ns, uint64_t now_ns)
{
    batch->not_before_ns = now_ns + wait_ns;
    delivery_read_slot_give(batch->slot);
    batch->slot = NULL;
    batch->state = BATCH_COLD;
}

/* The same bytes later; when, the breaker says. */
static void take_retry(struct batch *batch, uint64_t now_ns)
{
    const struct protocol *protocol = batch->delivery->protocol;
    bool is_pause = batch->slot->judgement.verdict == VERDICT_PAUSE;
    batch->retries_in_a_row += !is_pause;
    batch->state = BATCH_READY;
    uint32_t attempts = batch->frozen.attempts;
    if (is_power_of_two(attempts)) { /* for people: seldom enough */
        delivery_rows_put(batch);
    }
    if (!is_pause && batch->retries_in_a_row % RETRIES_MAX == 0 && !protocol->is_local &&
        !protocol->takes_segments) {
        set_aside(batch, retry_backoff_ns(batch), now_ns);
    }
}

static void take_refused_again(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    const struct judgement *judgement = &batch->slot->judgement;
    struct note *note = delivery_rows_note(delivery, NOTE_SET, NULL);
    note->item.id = batch->frozen.quarantine_id;
    note->item.state = QUARANTINE_HELD;
    note->item.status = judgement->status;
    note->item.refused_at_ns = clock_real_ns();
    (void)snprintf(note->item.reason, sizeof note->item.reason, "%s", judgement->reason);
    delivery_rows_note_add(delivery, note);
    delivery_rows_gone(batch);
}

/* Two halves by records; each is read and frozen by itself. */
static void take_halves(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    const uint32_t *offsets = batch->slot->offsets;
    uint32_t records = batch->slot->encoder.record_count;
    uint32_t middle = records / 2;
    struct frozen right = batch->frozen;
    bool has_only = batch->frozen.only.bytes != 0;
    right.first_lsn = batch->frozen.first_lsn + offsets[middle];
    right.records = records - middle;
    right.payload_bytes /= 2;
    right.target[0] = 0;
    struct batch *second = delivery_rows_add(delivery, &right);
    second->oldest_ns = batch->oldest_ns;
    if (has_only) {
        delivery_rows_set_only(second, offsets + middle, records - middle, offsets[middle]);
        delivery_rows_set_only(batch, offsets, middle, 0);
    }
    batch->frozen.last_lsn = right.first_lsn - 1;
    batch->frozen.records = middle;
    batch->frozen.payload_bytes -= right.payload_bytes;
    delivery_load_unfreeze(second);
    delivery_load_unfreeze(batch);
    delivery->picture.bisections++;
}

static void take_refused(struct batch *batch)
{
    if (batch->frozen.quarantine_id != 0) {
        take_refused_again(batch);
    } else if (batch->slot->encoder.record_count > 1) {
        take_halves(batch);
    } else if (quarantine(batch, batch->slot->offsets, 1)) {
        delivery_read_target_drop(batch);
        delivery_rows_gone(batch);
    }
}

/* The offsets of the items with that verdict; owned by the caller. */
static uint32_t *offsets_of(const struct slot *slot, enum item_verdict which, uint32_t *count)
{
    uint32_t *offsets = mem_alloc_array(slot->encoder.record_count, sizeof *offsets);
    *count = 0;
    for (uint32_t i = 0; i < slot->encoder.record_count; i++) {
        if (slot->items[i] == which) {
            offsets[(*count)++] = slot->offsets[i];
        }
    }
    return offsets;
}

static void take_remainder(struct batch *batch, const uint32_t *left, uint32_t count,
                           uint64_t now_ns)
{
    batch->retries_in_a_row++;
    uint64_t wait_ns = retry_backoff_ns(batch);
    if (count == batch->slot->encoder.record_count) {
        set_aside(batch, wait_ns, now_ns); /* the same bytes */
        return;
    }
    batch->not_before_ns = now_ns + wait_ns;
    batch->frozen.payload_bytes =
        batch->frozen.payload_bytes / batch->slot->encoder.record_count * count;
    batch->frozen.records = count;
    delivery_rows_set_only(batch, left, count, 0);
    delivery_load_unfreeze(batch);
}

static void take_items(struct batch *batch, uint64_t now_ns)
{
    struct slot *slot = batch->slot;
    uint32_t refused = 0;
    uint32_t left = 0;
    uint32_t *refused_at = offsets_of(slot, ITEM_REFUSED, &refused);
    uint32_t *left_at = offsets_of(slot, ITEM_RETRY, &left);
    if (refused == 0 || quarantine(batch, refused_at, refused)) {
        uint32_t done = slot->encoder.record_count - refused - left;
        if (done != 0) {
            add_delivered(batch, done, now_ns);
        }
        if (left == 0) {
            delivery_rows_gone(batch);
        } else {
            take_remainder(batch, left_at, left, now_ns);
        }
    }
    mem_free(refused_at);
    mem_free(left_at);
}

/* A quarantined record alone: its one item is the verdict. */
static enum verdict verdict_of(const struct batch *batch)
{
    static const enum verdict of_item[] = {
        [ITEM_DONE] = VERDICT_DONE, [ITEM_RETRY] = VERDICT_ITEMS, [ITEM_REFUSED] = VERDICT_REFUSED};
    enum verdict verdict = batch->slot->judgement.verdict;
    bool is_item = verdict == VERDICT_ITEMS && batch->frozen.quarantine_id != 0;
    return is_item ? of_item[batch->slot->items[0]] : verdict;
}

static void take_one(struct batch *batch, uint64_t now_ns)
{
    switch (verdict_of(batch)) {
    case VERDICT_DONE:
        take_done(batch, now_ns);
        break;
    case VERDICT_REFUSED:
        take_refused(batch);
        break;
    case VERDICT_ITEMS:
        if (batch->frozen.quarantine_id != 0) {
            take_remainder(batch, NULL, 1, now_ns); /* all of it: later */
        } else {
            take_items(batch, now_ns);
        }
        break;
    case VERDICT_RETRY:
    case VERDICT_PAUSE:
        take_retry(batch, now_ns);
        break;
    }
}

void delivery_verdict_take(struct delivery *delivery, uint64_t now_ns)
{
    size_t count = delivery->batch_count; /* halves come behind */
    if (now_ns < delivery->take_again_ns) {
        return;
    }
    for (size_t i = 0; i < count && delivery->answered_count > 0; i++) {
        struct batch *batch = delivery->batches[i];
        if (batch->state != BATCH_ANSWERED) {
            continue;
        }
        take_one(batch, now_ns);
        if (batch->state == BATCH_ANSWERED) { /* what is to be quarantined could not be read */
            LOG(LOGLINE_ERROR, "forward_read",
                "sink %s: LSN %" PRIu64 " to %" PRIu64 " cannot be read now, tried again",
                delivery->sink->name, batch->frozen.first_lsn, batch->frozen.last_lsn);
            return;
        }
        delivery->answered_count--;
    }
}
