/*
 * quarantine_order: requeue and drop in a forward_db that nobody forwards from at the moment: the server is down, or a replay
 * job is paused. The caller holds the lock that goes with the file, and its one writing connection. What a delivery does in
 * the same case (delivery_requeue, delivery_drop) leaves the same rows. One thread.
 */
#ifndef FORWARD_QUARANTINE_ORDER_H
#define FORWARD_QUARANTINE_ORDER_H

#include "forward/forward_db.h"

#define QUARANTINE_ORDER_MAX 1000u /* records of one order */

enum quarantine_order {
    QUARANTINE_ORDER_REQUEUE = 1, /* delivered again by who opens the file next */
    QUARANTINE_ORDER_DROP,        /* given up: counts as dropped */
};

/* id 0: all of sink that are held, the oldest QUARANTINE_ORDER_MAX. Else that one; sink may be NULL. One transaction: all of it or
 * nothing. Returns how many records it concerned; -ENOENT: no such record; -EBUSY: it is re-queued already. */
int quarantine_order(struct forward_db *db, enum quarantine_order order, const char *sink,
                     uint64_t id, struct err *err) MUST_USE;

#endif
