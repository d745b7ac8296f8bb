/*
 * origin_set: for each of a bounded number of streams the set of its LSNs that were seen, as sorted,
 * disjoint intervals that do not touch. A stream is a node and the kinds of records for which an interval
 * speaks: a sender that has been told to send logs only says nothing of the metrics between them. An LSN is
 * seen for a kind when any stream of its node with that kind has it. Pure data: no I/O, no clock, no
 * allocation after open; who owns it says origins.h.
 *
 * Memory is mapped at once (nodes_max x intervals_max x 16 bytes) and charged as it fills. Full is
 * an answer (origin_set_growth, origin_set_add), never a loss: nothing is forgotten but by origin_set_push.
 */
#ifndef STORE_ORIGIN_SET_H
#define STORE_ORIGIN_SET_H

#include "core/base.h"
#include "core/err.h"
#include "core/ulid.h"

struct origin_limits {
    uint32_t nodes_max;     /* streams */
    uint32_t intervals_max; /* of one stream */
    uint32_t all_max;       /* of all streams together */
};
#define ORIGIN_ALL_KINDS UINT32_MAX

struct origin_interval {
    uint64_t first;
    uint64_t last;
};

struct origin_node {
    struct ulid node;
    uint32_t kinds; /* bit (1 << kind), never 0 */
    uint32_t count;
};

struct origin_set {
    struct origin_limits limits;
    struct origin_node *nodes;         /* in the order of their first record */
    struct origin_interval *intervals; /* intervals_max for each node */
    uint32_t node_count;
    uint32_t interval_count; /* of all nodes */
};

int origin_set_open(struct origin_set *set, struct origin_limits limits, struct err *err) MUST_USE;
void origin_set_close(struct origin_set *set);
void origin_set_clear(struct origin_set *set);
/* to becomes equal to from; both of the same limits. */
void origin_set_copy(struct origin_set *to, const struct origin_set *from);
bool origin_set_equal(const struct origin_set *a, const struct origin_set *b);

/* kind: enum record_kind, at most 31. */
bool origin_set_has(const struct origin_set *set, const struct ulid *node, unsigned kind,
                    uint64_t lsn);
/* How many more intervals there would be: 0 or 1. */
uint32_t origin_set_growth(const struct origin_set *set, const struct ulid *node, uint32_t kinds,
                           uint64_t first, uint64_t last);
/* Would a set that grows by so many intervals of that stream still be within its limits? */
bool origin_set_has_room(const struct origin_set *set, const struct ulid *node, uint32_t kinds,
                         uint32_t growth);
/* Adds first..last (1 <= first <= last). 0, or ERR_LIMIT: nothing changed. */
int origin_set_add(struct origin_set *set, const struct ulid *node, uint32_t kinds, uint64_t first,
                   uint64_t last) MUST_USE;
/* Likewise, but where there is no room the stream's lowest interval is forgotten for it. False: something was forgotten,
 * or first..last itself was, which is lower than all of a full stream or of a stream that has no room at all. */
bool origin_set_push(struct origin_set *set, const struct ulid *node, uint32_t kinds,
                     uint64_t first, uint64_t last);

/* As bytes: for each stream 16 node, 4 count, 4 kinds, then count times 8 first, 8 last. */
#define ORIGIN_NODE_BYTES     24u
#define ORIGIN_INTERVAL_BYTES 16u
size_t origin_set_bytes(const struct origin_set *set);
size_t origin_set_bytes_max(struct origin_limits limits);
size_t origin_set_encode(uint8_t *to, const struct origin_set *set);
/* Exactly node_count streams in exactly those bytes, in order, none twice, within the limits; else
 * ERR_CORRUPT, and the set is empty. */
int origin_set_decode(struct origin_set *set, struct slice from, uint32_t node_count) MUST_USE;

#endif
