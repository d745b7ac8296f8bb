#include "forward/quarantine_order.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"

struct held {
    uint64_t ids[QUARANTINE_ORDER_MAX];
    unsigned count;
};

static bool on_item(void *context, const struct quarantined *item)
{
    struct held *held = context;
    if (item->state == QUARANTINE_HELD) {
        held->ids[held->count++] = item->id;
    }
    return held->count < QUARANTINE_ORDER_MAX;
}

/* The manifest comes when the batch is read. */
static int requeue(struct forward_db *db, const struct quarantined *item, struct err *err)
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
    int r = forward_db_batch_put(db, item->sink, &frozen, err);
    return r < 0 ? r
                 : forward_db_quarantine_set(db, item->id, QUARANTINE_REQUEUED, item->status,
                                             item->reason, item->refused_at_ns, err);
}

static int drop(struct forward_db *db, const struct quarantined *item, struct err *err)
{
    struct sink_position position = {0};
    int r = forward_db_sink_get(db, item->sink, &position, err);
    if (r < 0) {
        return r;
    }
    if (r == 1 && position.quarantined > 0) {
        position.quarantined--;
        position.dropped++;
        r = forward_db_sink_put(db, item->sink, &position, err);
    }
    return r < 0 ? r : forward_db_quarantine_delete(db, item->id, err);
}

static int one(struct forward_db *db, enum quarantine_order order, const char *sink, uint64_t id,
               struct err *err)
{
    struct quarantined *item = mem_alloc(sizeof *item);
    int r = forward_db_quarantine_get(db, id, item, err);
    if (r == 0 || (r == 1 && sink != NULL && strcmp(sink, item->sink) != 0)) {
        r = err_set(err, -ENOENT, "there is no record %" PRIu64 " in quarantine%s%s", id,
                    sink == NULL ? "" : " of sink ", sink == NULL ? "" : sink);
    }
    if (r == 1 && item->state != QUARANTINE_HELD) {
        r = err_set(err, -EBUSY, "record %" PRIu64 " waits for its delivery already", id);
    }
    if (r == 1) {
        r = order == QUARANTINE_ORDER_REQUEUE ? requeue(db, item, err) : drop(db, item, err);
    }
    mem_free(item);
    return r;
}

static int all(struct forward_db *db, enum quarantine_order order, const char *sink,
               struct err *err)
{
    struct held *held = mem_alloc(sizeof *held);
    int r = forward_db_quarantine_list(db, sink, 0, UINT32_MAX, on_item, held, err);
    for (unsigned i = 0; i < held->count && r >= 0; i++) {
        r = one(db, order, sink, held->ids[i], err);
    }
    int count = (int)held->count;
    mem_free(held);
    return r < 0 ? r : count;
}

int quarantine_order(struct forward_db *db, enum quarantine_order order, const char *sink,
                     uint64_t id, struct err *err)
{
    ASSERT(id != 0 || sink != NULL);
    int count = 1;
    int r = forward_db_begin(db, err);
    if (r == 0) {
        r = id == 0 ? all(db, order, sink, err) : one(db, order, sink, id, err);
        count = id == 0 ? r : 1;
    }
    if (r >= 0) {
        r = forward_db_commit(db, err);
    }
    if (r < 0) {
        forward_db_rollback(db);
        return r;
    }
    return count;
}
