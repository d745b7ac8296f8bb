/*
 * poller_find: where each poller stands, by the log: the newest META_WATERMARK that names it. Records that came from another Sluice
 * (META_ORIGIN) do not count: they are about that node's pollers.
 *
 * The cache shortens it: a place in it is believed when the record that it names carries that mark, or has expired; then only
 * what is newer is looked at, else the whole log, newest first. One block per step, the poller's thread; the server serves meanwhile.
 */
#ifndef FORWARD_POLLER_FIND_H
#define FORWARD_POLLER_FIND_H

#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/poller_cache.h"
#include "store/scan.h"

struct poller_find {
    struct scan_source source;
    struct poller_place *places; /* borrowed: in: what the cache says; out: what the log says */
    unsigned count;
    uint64_t last_lsn; /* what is asked about: records up to here */
    struct scan *scan; /* that is under way */
    unsigned phase, at;
    uint64_t oldest_lsn;
    bool is_found[CONFIG_POLLERS_MAX];
    bool is_confirmed[CONFIG_POLLERS_MAX]; /* the place of the cache holds */
};

void poller_find_begin(struct poller_find *find, const struct scan_source *source,
                       struct poller_place *places, unsigned count);
/* 1: every place is known as of last_lsn; 0: call again; ERR_CORRUPT: part of the log cannot be read: call again, it goes on behind
 * that; -errno: nothing happened. */
int poller_find_step(struct poller_find *find, struct err *err) MUST_USE;
void poller_find_end(struct poller_find *find); /* at any time */

#endif
