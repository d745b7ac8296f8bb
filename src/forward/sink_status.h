/*
 * sink_status: what the rest of the process may know about a sink at any time. Written by the forwarder alone, as one
 * picture (a sequence lock over atomic words, edges S2 and S3 in sink_status.c), so that the ledger it shows balances; read by anybody, without waiting
 * for the forwarder.
 */
#ifndef FORWARD_SINK_STATUS_H
#define FORWARD_SINK_STATUS_H

#include "core/base.h"
#include "forward/forward_db.h"
#include "forward/retry.h"

#include <stdatomic.h>

enum sink_state {
    SINK_STATE_RUNNING = 0, /* nothing wrong */
    SINK_STATE_RETRYING,    /* the last answer was passing trouble */
    SINK_STATE_PAUSED,      /* an operator is needed: reason says for what */
};

struct sink_picture {
    uint64_t durable_lsn; /* as this picture sees it */
    struct sink_position position;
    uint64_t delivered_lsn;  /* everything up to here is done with */
    uint64_t frozen_records; /* of its frozen batches, without re-queued ones */
    uint64_t frozen_batches;
    uint64_t in_flight;       /* requests */
    uint64_t pending_bytes;   /* about: frozen and not yet looked at, raw */
    uint64_t delivered_bytes; /* of request bodies before compression, since start; and as sent */
    uint64_t sent_bytes;
    uint64_t requests, retries, refused, bisections, pauses; /* since start */
    uint64_t refrozen; /* batches that were frozen anew, under another key */
    uint64_t breaker_opened;
    uint64_t breaker; /* enum breaker_state */
    uint64_t state;   /* enum sink_state */
    uint64_t window;  /* requests of the backlog that may be in flight now */
    int64_t
        oldest_pending_at_ns; /* receipt time of the oldest record not delivered; 0: nothing pending */
    int64_t last_success_at_ns; /* real time; 0: never since start */
    int64_t lag_last_ns, lag_p50_ns,
        lag_p99_ns; /* from receipt to delivery, of the batches of the last minutes */
    char reason[FORWARD_REASON_BYTES]; /* of the last trouble; "" when there is none now */
};

/* Records a sink still has to deliver. The ledger checks it against durable, see forward_db.h. */
static inline uint64_t sink_pending(const struct sink_picture *p)
{
    return p->frozen_records + (p->durable_lsn + 1 - p->position.live_next) +
           (p->position.backlog_end - p->position.backlog_next);
}
static inline bool sink_balances(const struct sink_picture *p)
{
    const struct sink_position *at = &p->position;
    return p->durable_lsn + 1 - at->start_lsn == at->delivered + at->filtered + at->quarantined +
                                                     at->expired + at->damaged + at->dropped +
                                                     sink_pending(p);
}

/* Zeroed is a picture of zeroes. One writer. */
struct sink_status {
    CACHE_LINE_ALIGNED _Atomic uint64_t sequence; /* odd: being written */
    _Atomic uint64_t words[(sizeof(struct sink_picture) + 7) / 8];
};
void sink_status_write(struct sink_status *status, const struct sink_picture *picture);
/* Any thread. While a write is under way it looks again; after some tries it sleeps a moment between them. */
void sink_status_read(struct sink_status *status, struct sink_picture *picture);

#endif
