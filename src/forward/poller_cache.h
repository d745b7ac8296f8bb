/*
 * poller_cache: DIR/poller.cache: where each poller stood, so that a start need not read the whole log for its marks. The log is the
 * truth; the file is believed only as far as the log does not speak against it (poller_find.h). Lines of text:
 *
 *   sluice poller cache 1 <ULID of the node, or of its current stream (store/lineage.h)>
 *   <name> <as_of_lsn> <mark_lsn> <mark in hex, or ->
 *   end <CRC32C of all lines before, in hex>
 *
 * Written beside and renamed, both synced: it is the only witness left once the record that carries the mark has expired. The
 * poller's thread.
 */
#ifndef FORWARD_POLLER_CACHE_H
#define FORWARD_POLLER_CACHE_H

#include "core/config_sinks.h"
#include "core/err.h"
#include "core/ulid.h"
#include "forward/poller_mark.h"

#define POLLER_CACHE_FILE "poller.cache"

/* The newest mark of a poller among the records up to as_of_lsn is that of record mark_lsn; none: mark.bytes 0. */
struct poller_place {
    char name[CONFIG_SINK_NAME_MAX + 1];
    uint64_t as_of_lsn; /* 0: nothing is known */
    uint64_t mark_lsn;
    struct poller_mark mark;
};

/* Fills the places whose names the file has; the others stay as they are. 0; -ENOENT: no file; -EINVAL: not this node's, or damaged. */
int poller_cache_read(const char *data_dir, struct ulid node, struct poller_place *places,
                      unsigned count) MUST_USE;
int poller_cache_write(const char *data_dir, struct ulid node, const struct poller_place *places,
                       unsigned count, struct err *err) MUST_USE;

#endif
