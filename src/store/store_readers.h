/*
 * store_readers: what the store keeps for those who read it: the view of the files, the newest
 * batches in memory, and who wants to be woken when there is more of either. Part of struct store;
 * set up before the threads run and not changed while they do, so that it needs no ordering of its
 * own.
 */
#ifndef STORE_STORE_READERS_H
#define STORE_STORE_READERS_H

#include "core/park.h"
#include "store/log_view.h"
#include "store/recent.h"
#include "store/store.h"

struct store_subscriber {
    struct park *park; /* borrowed */
    unsigned what;     /* STORE_TELL_... */
};

struct store_readers {
    struct log_views *views;
    struct recent *recent;
    struct store_subscriber subscribers[STORE_SUBSCRIBERS_MAX];
    unsigned subscriber_count;
};

/* Writer and archive: after the publication (durable_lsn, view_generation) that what names, at most
 * once per pass. Costs nothing without subscribers, else a full barrier each (park_wake). */
void store_readers_tell(const struct store_readers *readers, unsigned what);

#endif
