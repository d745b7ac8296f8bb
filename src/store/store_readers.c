/*
 * store_readers: the part of the store's door that readers use: query threads, catalog, forwarder.
 * See store.h and store_readers.h. Nothing here fails.
 */
#include "store/store_readers.h"

#include "store/store_parts.h"

struct log_views *store_views(struct store *store)
{
    return store->readers.views;
}

struct recent *store_recent(struct store *store)
{
    return store->readers.recent;
}

void store_subscribe(struct store *store, struct park *park, unsigned what)
{
    struct store_readers *readers = &store->readers;
    ASSERT(!store->is_started); /* the writer reads the list without any ordering */
    ASSERT(park != NULL);
    ASSERT(what != 0);
    ASSERT((what & ~(unsigned)(STORE_TELL_DURABLE | STORE_TELL_VIEW)) == 0);
    ASSERT(readers->subscriber_count < STORE_SUBSCRIBERS_MAX);
    readers->subscribers[readers->subscriber_count++] =
        (struct store_subscriber){.park = park, .what = what};
}

void store_readers_tell(const struct store_readers *readers, unsigned what)
{
    for (unsigned i = 0; i < readers->subscriber_count; i++) {
        if ((readers->subscribers[i].what & what) != 0) {
            (void)park_wake(readers->subscribers[i].park, true);
        }
    }
}

void store_set_retain_lsn(struct store *store, uint64_t lsn)
{
    /* relaxed: it only grows while sinks run, so a stale value keeps a segment longer. */
    atomic_store_explicit(&store->status.retain_lsn, lsn, memory_order_relaxed);
}

void store_set_unapplied_lsn(struct store *store, uint64_t lsn)
{
    /* relaxed: as above. */
    atomic_store_explicit(&store->status.unapplied_lsn, lsn, memory_order_relaxed);
}

uint64_t store_archive_heartbeat_ns(const struct store *store)
{
    /* relaxed: a time for health, compared with now. */
    return atomic_load_explicit(&store->archive_agent.heartbeat_ns, memory_order_relaxed);
}
