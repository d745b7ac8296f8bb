/*
 * delivery_rows: the batches and quarantine notes of a delivery, in memory and in the database. See delivery_parts.h for the rule: memory
 * is what is wanted; delivery_rows_write is called once per pass and may be called again with the same effect.
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

/* ---- only: sorted offsets, u32 little endian ---- */

uint32_t delivery_rows_only_count(const struct frozen *frozen)
{
    return (uint32_t)(frozen->only.bytes / sizeof(uint32_t));
}

uint32_t delivery_rows_only(const struct frozen *frozen, uint32_t i)
{
    const uint8_t *at = frozen->only.data + (size_t)i * sizeof(uint32_t);
    ASSERT(i < delivery_rows_only_count(frozen));
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void only_free(struct frozen *frozen)
{
    mem_free((void *)(uintptr_t)frozen->only.data);
    frozen->only = (struct slice){0};
}

void delivery_rows_set_only(struct batch *batch, const uint32_t *offsets, uint32_t count,
                            uint32_t base)
{
    ASSERT(count > 0);
    uint8_t *bytes = mem_alloc((size_t)count * sizeof(uint32_t));
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(offsets[i] >= base);
        uint32_t offset = offsets[i] - base;
        uint8_t *to = bytes + (size_t)i * sizeof(uint32_t);
        to[0] = (uint8_t)offset;
        to[1] = (uint8_t)(offset >> 8);
        to[2] = (uint8_t)(offset >> 16);
        to[3] = (uint8_t)(offset >> 24);
    }
    only_free(&batch->frozen);
    batch->frozen.only = (struct slice){bytes, (size_t)count * sizeof(uint32_t)};
}

/* ---- batches ---- */

static void batch_free(struct batch *batch)
{
    if (batch->slot != NULL) {
        delivery_read_slot_give(batch->slot);
    }
    only_free(&batch->frozen);
    mem_free(batch);
}

static void grow(struct delivery *delivery)
{
    size_t room = delivery->batch_room == 0 ? 64 : delivery->batch_room * 2;
    struct batch **batches = mem_alloc_array(room, sizeof(struct batch *));
    for (size_t i = 0; i < delivery->batch_count; i++) {
        batches[i] = delivery->batches[i];
    }
    mem_free(delivery->batches);
    delivery->batches = batches;
    delivery->batch_room = room;
}

struct batch *delivery_rows_add(struct delivery *delivery, const struct frozen *frozen)
{
    if (delivery->batch_count == delivery->batch_room) {
        grow(delivery);
    }
    struct batch *batch = mem_alloc(sizeof *batch);
    batch->delivery = delivery;
    batch->sent_at_ns = clock_mono_ns();
    batch->frozen = *frozen;
    batch->frozen.only = (struct slice){0};
    delivery->batches[delivery->batch_count++] = batch;
    return batch;
}

void delivery_rows_put(struct batch *batch)
{
    ASSERT(batch->row != ROW_DELETE);
    batch->row = ROW_PUT;
}

void delivery_rows_gone(struct batch *batch)
{
    batch->state = BATCH_GONE;
    batch->row = ROW_DELETE;
    if (batch->slot != NULL) {
        delivery_read_slot_give(batch->slot);
        batch->slot = NULL;
    }
}

/* ---- notes ---- */

struct note *delivery_rows_note(const struct delivery *delivery, enum note_type type,
                                const struct forward_record *record)
{
    size_t payload = record == NULL ? 0 : record->record.payload.bytes;
    size_t meta = record == NULL ? 0 : record->record.meta.bytes;
    struct note *note = mem_alloc(sizeof *note + payload + meta);
    note->type = type;
    (void)snprintf(note->item.sink, sizeof note->item.sink, "%s", delivery->sink->name);
    if (record == NULL) {
        return note;
    }
    note->item.lsn = record->lsn;
    note->item.received_at_ns = record->received_at_ns;
    note->item.record = record->record;
    if (payload != 0) {
        memcpy(note->bytes, record->record.payload.data, payload);
    }
    if (meta != 0) {
        memcpy(note->bytes + payload, record->record.meta.data, meta);
    }
    note->item.record.payload = (struct slice){note->bytes, payload};
    note->item.record.meta = (struct slice){note->bytes + payload, meta};
    return note;
}

void delivery_rows_note_add(struct delivery *delivery, struct note *note)
{
    struct note **end = &delivery->notes;
    while (*end != NULL) { /* bounded: the notes of one pass */
        end = &(*end)->next;
    }
    *end = note;
}

void delivery_rows_notes_free(struct note **notes)
{
    while (*notes != NULL) { /* bounded by the list */
        struct note *next = (*notes)->next;
        mem_free(*notes);
        *notes = next;
    }
}

/* The record keeps the stream that it has now: its LSN may become another's. Nothing is written of the node's own. */
static int item_stream_put(struct delivery *delivery, const struct quarantined *item,
                           struct err *err)
{
    struct ulid stream = delivery_stream(delivery, item->lsn);
    bool is_own = memcmp(stream.bytes, delivery->options.node.bytes, sizeof stream.bytes) == 0;
    return is_own ? 0 : streams_item_put(delivery->options.db, item->id, &stream, err);
}

static int note_write(struct delivery *delivery, struct note *note, struct err *err)
{
    struct forward_db *db = delivery->options.db;
    struct quarantined *item = &note->item;
    int r = 0;
    switch (note->type) {
    case NOTE_PUT:
        r = forward_db_quarantine_put(db, item, err);
        r = r == 0 ? item_stream_put(delivery, item, err) : r;
        break;
    case NOTE_SET:
        r = forward_db_quarantine_set(db, item->id, item->state, item->status, item->reason,
                                      item->refused_at_ns, err);
        break;
    case NOTE_DELETE:
        r = forward_db_quarantine_delete(db, item->id, err);
        break;
    }
    return r == -ENOENT ? 0 : r; /* an item that somebody took out of the file by hand */
}

/* ---- the database ---- */

bool delivery_rows_are_dirty(const struct delivery *delivery)
{
    bool is_dirty = delivery->is_position_dirty || delivery->notes != NULL;
    for (size_t i = 0; i < delivery->batch_count && !is_dirty; i++) {
        is_dirty = delivery->batches[i]->row != ROW_CLEAN;
    }
    return is_dirty;
}

/* Deletions before puts: a half takes the key of the batch it came from. */
static int batches_write(struct delivery *delivery, enum row_state which, struct err *err)
{
    const char *sink = delivery->sink->name;
    int r = 0;
    for (size_t i = 0; i < delivery->batch_count && r == 0; i++) {
        struct batch *batch = delivery->batches[i];
        if (batch->row != which) {
            continue;
        }
        if (which == ROW_DELETE && batch->is_stored) {
            r = forward_db_batch_delete(delivery->options.db, sink, &batch->frozen, err);
        } else if (which == ROW_PUT) {
            r = forward_db_batch_put(delivery->options.db, sink, &batch->frozen, err);
        }
    }
    return r;
}

int delivery_rows_write(struct delivery *delivery, struct err *err)
{
    int r = batches_write(delivery, ROW_DELETE, err);
    if (r == 0) {
        r = batches_write(delivery, ROW_PUT, err);
    }
    for (struct note *note = delivery->notes; note != NULL && r == 0; note = note->next) {
        r = note_write(delivery, note, err);
    }
    if (r == 0) {
        r = forward_db_sink_put(delivery->options.db, delivery->sink->name, &delivery->position,
                                err);
    }
    if (r == 0 && delivery->must_write_stream) {
        struct ulid current = delivery_stream(delivery, UINT64_MAX);
        r = streams_sink_put(delivery->options.db, delivery->sink->name, &current, err);
    }
    return r < 0 ? err_wrap(err, r, "sink %s", delivery->sink->name) : 0;
}

void delivery_rows_committed(struct delivery *delivery)
{
    size_t kept = 0;
    for (size_t i = 0; i < delivery->batch_count; i++) {
        struct batch *batch = delivery->batches[i];
        if (batch->row == ROW_DELETE) {
            batch_free(batch);
            continue;
        }
        batch->is_stored = true;
        batch->row = ROW_CLEAN;
        delivery->batches[kept++] = batch;
    }
    delivery->batch_count = kept;
    delivery_rows_notes_free(&delivery->notes);
    delivery->is_position_dirty = false;
    delivery->must_write_stream = false;
}

static bool on_batch(void *context, const struct frozen *frozen)
{
    static const uint8_t none[16] = {0};
    struct delivery *delivery = context;
    struct batch *batch = delivery_rows_add(delivery, frozen);
    if (frozen->only.bytes != 0) {
        uint8_t *bytes = mem_alloc(frozen->only.bytes);
        memcpy(bytes, frozen->only.data, frozen->only.bytes);
        batch->frozen.only = (struct slice){bytes, frozen->only.bytes};
    }
    batch->is_stored = true;
    batch->has_manifest = memcmp(frozen->digest, none, sizeof none) != 0;
    return true;
}

int delivery_rows_load(struct delivery *delivery, struct err *err)
{
    return forward_db_batches(delivery->options.db, delivery->sink->name, on_batch, delivery, err);
}

void delivery_rows_free(struct delivery *delivery)
{
    for (size_t i = 0; i < delivery->batch_count; i++) {
        batch_free(delivery->batches[i]);
    }
    mem_free(delivery->batches);
    delivery->batches = NULL;
    delivery->batch_count = 0;
    delivery_rows_notes_free(&delivery->notes);
}
