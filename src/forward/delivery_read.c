/*
 * delivery_read: records of a range of LSNs into the encoder of a slot, step by step. Each LSN that it passes is accounted for: in the
 * request, not for this sink (what is left over), unsayable (a note for quarantine), damaged, or expired.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "forward/delivery_parts.h"
#include "forward/file_target.h"

#define LOOK_AGAIN_NS    (1 * NS_S) /* after an error of the system */
#define OLD_NS           (int64_t)(5 * NS_S)
#define TOGETHER_NS      (int64_t)(2 * NS_S)
#define NOTHING_AGAIN_NS (5 * NS_MS) /* after a look that found nothing */
#define RECORD_STEPS_MAX                                                                           \
    100000u /* of a synchronous look-up: far more than BATCH_LSNS_MAX LSNs take */

/* ---- slots ---- */

struct slot *delivery_read_slot(struct delivery *delivery)
{
    for (unsigned i = 0; i < delivery->slot_count; i++) {
        if (!delivery->slots[i].is_used) {
            delivery->slots[i].is_used = true;
            return &delivery->slots[i];
        }
    }
    return NULL;
}

void delivery_read_slot_give(struct slot *slot)
{
    ASSERT(slot->is_used);
    slot->is_used = false;
}

static void slot_note_offset(struct slot *slot, uint32_t index, uint32_t offset)
{
    if (index >= slot->offset_room) {
        uint32_t room = slot->offset_room == 0 ? 1024 : slot->offset_room * 2;
        uint32_t *offsets = mem_alloc_array(room, sizeof *offsets);
        if (index != 0) {
            memcpy(offsets, slot->offsets, (size_t)index * sizeof *offsets);
        }
        mem_free(slot->offsets);
        slot->offsets = offsets;
        slot->offset_room = room;
    }
    slot->offsets[index] = offset;
}

/* ---- one record ---- */

static void read_refused(struct reading *reading, const struct forward_record *record,
                         const struct err *why)
{
    struct note *note = delivery_rows_note(reading->delivery, NOTE_PUT, record);
    note->item.refused_at_ns = clock_real_ns();
    (void)snprintf(note->item.reason, sizeof note->item.reason, "%.500s", why->text);
    note->next = reading->notes;
    reading->notes = note;
    reading->unsupported++;
    reading->slot->encoder.covered_kinds = 0; /* it may yet be sent, from quarantine */
}

/* Received at another time than now, as seen when the request was begun; the clock may have been set either way since. */
static bool is_old(const struct reading *reading, int64_t received_at_ns)
{
    int64_t frozen_at_ns = reading->slot->encoder.frozen_at_ns;
    return frozen_at_ns - received_at_ns > OLD_NS || received_at_ns - frozen_at_ns > OLD_NS;
}

/* Old records and new ones never share a request: they may be further apart than TOGETHER_NS only when all are old. */
static bool is_apart(const struct reading *reading, int64_t received_at_ns)
{
    int64_t oldest = received_at_ns < reading->oldest_ns ? received_at_ns : reading->oldest_ns;
    int64_t newest = received_at_ns > reading->newest_ns ? received_at_ns : reading->newest_ns;
    if (reading->oldest_ns == 0 || newest - oldest <= TOGETHER_NS) {
        return false;
    }
    return !is_old(reading, received_at_ns) || !is_old(reading, reading->oldest_ns) ||
           !is_old(reading, reading->newest_ns);
}

/* 0: it is accounted for. ERR_LIMIT: the request ends before it. */
static int read_add(struct reading *reading, const struct forward_record *record)
{
    struct slot *slot = reading->slot;
    struct encoder *encoder = &slot->encoder;
    uint32_t index = encoder->record_count;
    bool is_new = reading->batch == NULL;
    struct err why = {0};
    if (is_new && (record->lsn - reading->first_lsn >= BATCH_LSNS_MAX ||
                   is_apart(reading, record->received_at_ns))) {
        return ERR_LIMIT;
    }
    int r = encoder_add(encoder, record, &why);
    if (r == ERR_LIMIT && index > 0) {
        return ERR_LIMIT;
    }
    if (r < 0) {
        read_refused(reading, record, &why);
        return 0;
    }
    slot_note_offset(slot, index, (uint32_t)(record->lsn - reading->first_lsn));
    reading->payload_bytes += record->record.payload.bytes;
    if (reading->oldest_ns == 0 || record->received_at_ns < reading->oldest_ns) {
        reading->oldest_ns = record->received_at_ns;
    }
    if (record->received_at_ns > reading->newest_ns) {
        reading->newest_ns = record->received_at_ns;
    }
    return 0;
}

static void carry_keep(struct reading *reading, const struct forward_record *record)
{
    size_t payload = record->record.payload.bytes;
    size_t meta = record->record.meta.bytes;
    if (payload + meta > reading->carry_room) {
        mem_free(reading->carry_bytes);
        reading->carry_room = payload + meta;
        reading->carry_bytes = mem_alloc(reading->carry_room);
    }
    if (payload != 0) {
        memcpy(reading->carry_bytes, record->record.payload.data, payload);
    }
    if (meta != 0) {
        memcpy(reading->carry_bytes + payload, record->record.meta.data, meta);
    }
    reading->carry = *record;
    reading->carry.record.payload = (struct slice){reading->carry_bytes, payload};
    reading->carry.record.meta = (struct slice){reading->carry_bytes + payload, meta};
    reading->has_carry = true;
}

static int by_offset(const void *key, const void *member)
{
    uint32_t a = *(const uint32_t *)key;
    const uint8_t *at = member;
    uint32_t b =
        (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return a < b ? -1 : a > b;
}

static bool is_wanted(const struct reading *reading, uint64_t lsn)
{
    if (reading->batch == NULL || reading->batch->frozen.only.bytes == 0) {
        return true;
    }
    const struct slice *only = &reading->batch->frozen.only;
    uint32_t offset = (uint32_t)(lsn - reading->first_lsn);
    return bsearch(&offset, only->data, only->bytes / sizeof(uint32_t), sizeof(uint32_t),
                   by_offset) != NULL;
}

static bool on_record(void *context, const struct scan_record *shown)
{
    struct reading *reading = context;
    if (reading->step_first == 0) {
        reading->step_first = shown->lsn;
    }
    reading->step_shown++;
    if (!is_wanted(reading, shown->lsn)) {
        return true;
    }
    struct forward_record record = {
        .lsn = shown->lsn, .received_at_ns = shown->built_at_ns, .record = shown->record};
    if (read_add(reading, &record) == 0) {
        return true;
    }
    carry_keep(reading, &record);
    reading->is_full = true;
    return false;
}

/* ---- a range ---- */

/* A scan has one context: ours. */
static bool on_match(void *context, const struct scan_record *shown)
{
    const struct delivery_options *options = &((struct reading *)context)->delivery->options;
    return options->match(options->match_context, shown);
}

static void scan_open(struct reading *reading)
{
    struct delivery *delivery = reading->delivery;
    struct scan_options options = {
        .filter = delivery->options.filter,
        .match = delivery->options.match == NULL ? NULL : on_match,
        .take = on_record,
        .context = reading,
    };
    options.filter.kinds = delivery->kinds;
    options.filter.lsn_min = reading->next_lsn;
    options.filter.lsn_max = reading->end_lsn == UINT64_MAX ? UINT64_MAX : reading->end_lsn - 1;
    if (options.filter.time_min_ns == 0 && options.filter.time_max_ns == 0) {
        options.filter.time_min_ns = INT64_MIN;
        options.filter.time_max_ns = INT64_MAX;
    }
    reading->scan = scan_new(&delivery->options.source, &options);
}

void delivery_read_begin(struct reading *reading, struct slot *slot, int64_t frozen_at_ns)
{
    ASSERT(reading->slot == NULL);
    reading->slot = slot;
    reading->is_full = false;
    reading->began_ns = 0;
    reading->damaged = reading->expired = reading->unsupported = 0;
    reading->payload_bytes = 0;
    reading->oldest_ns = reading->newest_ns = 0;
    slot->encoder.node = delivery_stream(reading->delivery, reading->first_lsn);
    encoder_begin(&slot->encoder, frozen_at_ns);
    slot->encoder.covered_kinds = reading->delivery->kinds;
    slot->encoder.is_refreezing = reading->batch != NULL && reading->batch->has_manifest;
    if (reading->has_carry) {
        reading->has_carry = false;
        (void)read_add(reading, &reading->carry); /* the first of a request always has room */
        reading->next_lsn = reading->carry.lsn + 1;
    }
}

static void read_damage(struct reading *reading, uint64_t before, uint64_t after,
                        const struct err *err)
{
    uint64_t gone = after - before;
    gone -= u64_min(gone, reading->step_shown);
    uint64_t expired = u64_min(delivery_expired(reading->delivery, before, after), gone);
    reading->slot->encoder.covered_kinds = 0; /* a repaired file may yet show them */
    reading->expired += expired;
    reading->damaged += gone - expired;
    LOG(LOGLINE_ERROR, "forward_damage", "sink %s: %" PRIu64 " records cannot be read: %s",
        reading->delivery->sink->name, gone - expired, err->text);
}

int delivery_read_step(struct reading *reading, uint64_t now_ns)
{
    ASSERT(reading->slot != NULL);
    struct err err = {0};
    uint64_t before = reading->next_lsn;
    if (reading->is_full || before >= reading->end_lsn || now_ns < reading->look_again_ns) {
        return 0;
    }
    if (reading->scan == NULL) {
        scan_open(reading);
    }
    reading->step_first = 0;
    reading->step_shown = 0;
    int r = scan_step(reading->scan, &err);
    uint64_t after = reading->is_full ? reading->carry.lsn : scan_position(reading->scan);
    after = u64_max(u64_min(after, reading->end_lsn), before);
    reading->next_lsn = after;
    if (r == ERR_CORRUPT) {
        read_damage(reading, before, after, &err);
        return 1;
    }
    if (r < 0) {
        reading->look_again_ns = now_ns + LOOK_AGAIN_NS;
        LOG(LOGLINE_ERROR, "forward_read", "sink %s: %s", reading->delivery->sink->name, err.text);
        return 0;
    }
    if (r == SCAN_END && after == before) {
        reading->look_again_ns = now_ns + NOTHING_AGAIN_NS;
    }
    uint64_t shown = reading->step_first == 0 ? after : reading->step_first;
    uint64_t begin = delivery_log_begin(reading->delivery);
    if (begin > before) {
        reading->slot->encoder.covered_kinds = 0;
        uint64_t end = u64_min(begin, u64_max(shown, before));
        uint64_t expired = delivery_expired(reading->delivery, before, end);
        reading->expired += expired;
        reading->damaged += end - before - expired;
    }
    return r != SCAN_END && !reading->is_full && after < reading->end_lsn;
}

void delivery_read_reset(struct reading *reading, uint64_t lsn)
{
    if (reading->slot != NULL) {
        delivery_read_slot_give(reading->slot);
        reading->slot = NULL;
    }
    scan_free(reading->scan);
    reading->scan = NULL;
    reading->batch = NULL;
    reading->has_carry = false;
    reading->is_full = false;
    reading->began_ns = 0;
    reading->look_again_ns = 0;
    delivery_rows_notes_free(&reading->notes);
    reading->first_lsn = reading->next_lsn = lsn;
}

void delivery_read_free(struct reading *reading)
{
    delivery_read_reset(reading, 0);
    mem_free(reading->carry_bytes);
    reading->carry_bytes = NULL;
    reading->carry_room = 0;
}

/* ---- from a full encoder to what is sent ---- */

/* What tells this freezing from every other of the same range: how and when it was frozen, and which of the range's records are
 * meant. Stable over retries and restarts, because all of it is in the manifest. */
static uint64_t key_hash(const struct delivery *delivery, const struct frozen *frozen)
{
    const struct slice encoding = {(const uint8_t *)frozen->encoding, strlen(frozen->encoding)};
    const uint64_t numbers[] = {(uint64_t)frozen->frozen_at_ns, frozen->quarantine_id};
    uint64_t hash = digest_64(encoding, delivery->options.filter_digest);
    hash = digest_64((struct slice){(const uint8_t *)numbers, sizeof numbers}, hash);
    return digest_64(frozen->only, hash);
}

/* STREAM-SINK-FIRST-LAST-HASH: no key ever stands for two contents, not even when LSNs come again after the log was lost. A letter
 * before the hash tells people what is less than the range: q one record from quarantine, i what item verdicts left, f what a
 * filter lets through. */
static void key_make(struct batch *batch)
{
    const struct delivery *delivery = batch->delivery;
    const struct frozen *frozen = &batch->frozen;
    char stream[ULID_TEXT_BYTES];
    const char *part = frozen->quarantine_id != 0             ? "q"
                       : frozen->only.bytes != 0              ? "i"
                       : delivery->options.filter_digest != 0 ? "f"
                                                              : "";
    ulid_format(stream, &batch->slot->encoder.node);
    int n = snprintf(batch->key, sizeof batch->key, "%.*s-%s-%" PRIu64 "-%" PRIu64 "-%s%016" PRIx64,
                     (int)sizeof stream, stream, delivery->sink->name, frozen->first_lsn,
                     frozen->last_lsn, part, key_hash(delivery, frozen));
    ASSERT(n > 0 && (size_t)n < sizeof batch->key);
}

static int wire_make(struct slot *slot, struct delivery *delivery, struct err *err)
{
    if (delivery->sink->compression == SINK_IDENTITY) {
        return 0;
    }
    body_reset(&slot->wire);
    struct slice body = {slot->encoder.body.data, slot->encoder.body.bytes};
    return compress_body(&delivery->compress, delivery->sink->compression, body, &slot->wire, err);
}

void delivery_read_target_drop(struct batch *batch)
{
    struct delivery *delivery = batch->delivery;
    if (batch->frozen.target[0] != 0) {
        transport_target_drop(delivery->options.transport, delivery->options.sink_index,
                              batch->frozen.target);
        batch->frozen.target[0] = 0;
    }
}

static uint64_t wire_bytes(const struct delivery *delivery, const struct slot *slot)
{
    bool is_plain = delivery->sink->compression == SINK_IDENTITY;
    return is_plain ? slot->encoder.body.bytes : slot->wire.bytes;
}

/* Of a file sink: the place that the manifest names has room for exactly these bytes. */
static bool fits_target(const struct frozen *frozen, uint64_t bytes)
{
    struct file_target target;
    return frozen->target[0] == 0 ||
           (file_target_parse(frozen->target, &target) && target.bytes == bytes);
}

static int take_target(struct batch *batch, struct err *err)
{
    struct delivery *delivery = batch->delivery;
    struct frozen *frozen = &batch->frozen;
    if (!delivery->protocol->is_local || frozen->target[0] != 0) {
        return 0;
    }
    return transport_target(delivery->options.transport, delivery->options.sink_index,
                            wire_bytes(delivery, batch->slot), frozen->frozen_at_ns, frozen->target,
                            err);
}

int delivery_read_finish(struct batch *batch, struct err *err)
{
    struct delivery *delivery = batch->delivery;
    struct slot *slot = batch->slot;
    struct frozen *frozen = &batch->frozen;
    uint8_t digest[DIGEST_BYTES];
    if (!batch->has_manifest) {
        memcpy(frozen->encoding, delivery->encoding, sizeof frozen->encoding);
    }
    key_make(batch);
    if (delivery->options.filter_digest != 0 || frozen->only.bytes != 0) {
        slot->encoder.covered_kinds = 0;
    }
    encoder_end(&slot->encoder, batch->key, frozen->first_lsn, frozen->last_lsn);
    digest_once((struct slice){slot->encoder.body.data, slot->encoder.body.bytes}, digest);
    if (batch->has_manifest && memcmp(digest, frozen->digest, sizeof digest) != 0) {
        return 1;
    }
    int r = wire_make(slot, delivery, err);
    if (r == 0 && !fits_target(frozen, wire_bytes(delivery, slot))) {
        return 1; /* the same bytes, compressed by another version of the library */
    }
    r = r == 0 ? take_target(batch, err) : r;
    if (r == 0) {
        memcpy(frozen->digest, digest, sizeof digest);
        batch->has_manifest = true;
    }
    return r;
}

/* ---- records for quarantine ---- */

int delivery_read_records(struct delivery *delivery, uint64_t first, uint64_t last,
                          scan_take_fn take, void *context)
{
    struct scan_options options = {
        .filter = {.kinds = delivery->kinds,
                   .time_min_ns = INT64_MIN,
                   .time_max_ns = INT64_MAX,
                   .lsn_min = first,
                   .lsn_max = last},
        .take = take,
        .context = context,
    };
    struct scan *scan = scan_new(&delivery->options.source, &options);
    int r = SCAN_MORE;
    for (unsigned n = 0; n < RECORD_STEPS_MAX && r != SCAN_END; n++) {
        struct err err = {0};
        r = scan_step(scan, &err);
        if (r < 0 && r != ERR_CORRUPT) {
            break;
        }
    }
    scan_free(scan);
    return r < 0 && r != ERR_CORRUPT ? r : 0;
}
