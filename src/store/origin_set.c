/*
 * origin_set: see origin_set.h. Looking up is a walk over the nodes (once per request) and a binary
 * search; adding moves the intervals behind the place.
 */
#include "store/origin_set.h"

#include <errno.h>
#include <string.h>

#include "core/mem.h"
#include "store/bytes.h"

static size_t nodes_bytes(const struct origin_set *set)
{
    return set->limits.nodes_max * sizeof *set->nodes;
}

static size_t intervals_bytes(const struct origin_set *set)
{
    return (size_t)set->limits.nodes_max * set->limits.intervals_max * sizeof *set->intervals;
}

int origin_set_open(struct origin_set *set, struct origin_limits limits, struct err *err)
{
    ASSERT(limits.nodes_max != 0);
    ASSERT(limits.intervals_max != 0);
    *set = (struct origin_set){.limits = limits};
    set->nodes = mem_map(nodes_bytes(set));
    set->intervals = mem_map(intervals_bytes(set));
    if (set->nodes == NULL || set->intervals == NULL) {
        origin_set_close(set);
        return err_set(err, -ENOMEM, "origins: map room for %u nodes", limits.nodes_max);
    }
    return 0;
}

void origin_set_close(struct origin_set *set)
{
    if (set->nodes != NULL) {
        mem_unmap(set->nodes, nodes_bytes(set));
    }
    if (set->intervals != NULL) {
        mem_unmap(set->intervals, intervals_bytes(set));
    }
    set->nodes = NULL;
    set->intervals = NULL;
}

void origin_set_clear(struct origin_set *set)
{
    set->node_count = 0;
    set->interval_count = 0;
}

static struct origin_interval *intervals_of(const struct origin_set *set, uint32_t i)
{
    return set->intervals + (size_t)i * set->limits.intervals_max;
}

void origin_set_copy(struct origin_set *to, const struct origin_set *from)
{
    ASSERT(memcmp(&to->limits, &from->limits, sizeof to->limits) == 0);
    to->node_count = from->node_count;
    to->interval_count = from->interval_count;
    for (uint32_t i = 0; i < from->node_count; i++) {
        to->nodes[i] = from->nodes[i];
        memcpy(intervals_of(to, i), intervals_of(from, i),
               from->nodes[i].count * sizeof *from->intervals);
    }
}

/* The place of the stream; node_count: it is not there. */
static uint32_t find_node(const struct origin_set *set, const struct ulid *node, uint32_t kinds)
{
    uint32_t i = 0;
    while (i < set->node_count &&
           (set->nodes[i].kinds != kinds || memcmp(&set->nodes[i].node, node, sizeof *node) != 0)) {
        i++;
    }
    return i;
}

bool origin_set_equal(const struct origin_set *a, const struct origin_set *b)
{
    bool is_equal = a->node_count == b->node_count;
    for (uint32_t i = 0; is_equal && i < a->node_count; i++) {
        uint32_t j = find_node(b, &a->nodes[i].node, a->nodes[i].kinds);
        is_equal = j < b->node_count && a->nodes[i].count == b->nodes[j].count &&
                   memcmp(intervals_of(a, i), intervals_of(b, j),
                          a->nodes[i].count * sizeof *a->intervals) == 0;
    }
    return is_equal;
}

/* The first interval that ends at or behind lsn; count: none. Halves each time. */
static uint32_t find_interval(const struct origin_interval *intervals, uint32_t count, uint64_t lsn)
{
    uint32_t low = 0;
    uint32_t high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (intervals[middle].last < lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool has_lsn(const struct origin_set *set, uint32_t i, uint64_t lsn)
{
    const struct origin_interval *intervals = intervals_of(set, i);
    uint32_t at = find_interval(intervals, set->nodes[i].count, lsn);
    return at < set->nodes[i].count && intervals[at].first <= lsn;
}

bool origin_set_has(const struct origin_set *set, const struct ulid *node, unsigned kind,
                    uint64_t lsn)
{
    ASSERT(kind < 32);
    bool is_there = false;
    for (uint32_t i = 0; i < set->node_count && !is_there; i++) {
        is_there = (set->nodes[i].kinds & 1u << kind) != 0 &&
                   memcmp(&set->nodes[i].node, node, sizeof *node) == 0 && has_lsn(set, i, lsn);
    }
    return is_there;
}

/* Intervals [*begin, *end) overlap first..last or touch it. */
static void find_neighbours(const struct origin_interval *intervals, uint32_t count, uint64_t first,
                            uint64_t last, uint32_t *begin, uint32_t *end)
{
    *begin = find_interval(intervals, count, first - 1);
    *end = *begin;
    while (*end < count && intervals[*end].first - 1 <= last) {
        (*end)++;
    }
}

uint32_t origin_set_growth(const struct origin_set *set, const struct ulid *node, uint32_t kinds,
                           uint64_t first, uint64_t last)
{
    uint32_t i = find_node(set, node, kinds);
    if (i == set->node_count) {
        return 1;
    }
    uint32_t begin;
    uint32_t end;
    find_neighbours(intervals_of(set, i), set->nodes[i].count, first, last, &begin, &end);
    return begin == end ? 1 : 0;
}

bool origin_set_has_room(const struct origin_set *set, const struct ulid *node, uint32_t kinds,
                         uint32_t growth)
{
    uint32_t i = find_node(set, node, kinds);
    bool is_new = i == set->node_count;
    uint32_t count = is_new ? 0 : set->nodes[i].count;
    return (!is_new || set->node_count < set->limits.nodes_max) &&
           growth <= set->limits.intervals_max - count &&
           growth <= set->limits.all_max - set->interval_count;
}

/* Puts one interval in the place of [begin, end). */
static void replace(struct origin_set *set, uint32_t i, uint32_t begin, uint32_t end,
                    struct origin_interval with)
{
    struct origin_interval *intervals = intervals_of(set, i);
    struct origin_node *node = &set->nodes[i];
    if (begin < end) {
        with.first = u64_min(with.first, intervals[begin].first);
        with.last = u64_max(with.last, intervals[end - 1].last);
    }
    memmove(intervals + begin + 1, intervals + end, (node->count - end) * sizeof *intervals);
    intervals[begin] = with;
    node->count = node->count - (end - begin) + 1;
    set->interval_count = set->interval_count - (end - begin) + 1;
}

int origin_set_add(struct origin_set *set, const struct ulid *node, uint32_t kinds, uint64_t first,
                   uint64_t last)
{
    ASSERT(first != 0);
    ASSERT(first <= last);
    ASSERT(kinds != 0);
    if (!origin_set_has_room(set, node, kinds, origin_set_growth(set, node, kinds, first, last))) {
        return ERR_LIMIT;
    }
    uint32_t i = find_node(set, node, kinds);
    if (i == set->node_count) {
        set->nodes[set->node_count++] = (struct origin_node){.node = *node, .kinds = kinds};
    }
    uint32_t begin;
    uint32_t end;
    find_neighbours(intervals_of(set, i), set->nodes[i].count, first, last, &begin, &end);
    replace(set, i, begin, end, (struct origin_interval){first, last});
    return 0;
}

static void forget_lowest(struct origin_set *set, uint32_t i)
{
    struct origin_interval *intervals = intervals_of(set, i);
    struct origin_node *node = &set->nodes[i];
    ASSERT(node->count != 0);
    node->count--;
    set->interval_count--;
    memmove(intervals, intervals + 1, node->count * sizeof *intervals);
}

bool origin_set_push(struct origin_set *set, const struct ulid *node, uint32_t kinds,
                     uint64_t first, uint64_t last)
{
    if (origin_set_add(set, node, kinds, first, last) == 0) {
        return true;
    }
    uint32_t i = find_node(set, node, kinds);
    if (i < set->node_count && intervals_of(set, i)[0].first < first) {
        forget_lowest(set, i);
        int r = origin_set_add(set, node, kinds, first, last);
        ASSERT(r == 0);
    }
    return false;
}

/* ---- as bytes ---- */

size_t origin_set_bytes(const struct origin_set *set)
{
    return (size_t)set->node_count * ORIGIN_NODE_BYTES +
           (size_t)set->interval_count * ORIGIN_INTERVAL_BYTES;
}

size_t origin_set_bytes_max(struct origin_limits limits)
{
    return (size_t)limits.nodes_max * ORIGIN_NODE_BYTES +
           (size_t)limits.all_max * ORIGIN_INTERVAL_BYTES;
}

size_t origin_set_encode(uint8_t *to, const struct origin_set *set)
{
    uint8_t *at = to;
    for (uint32_t i = 0; i < set->node_count; i++) {
        const struct origin_node *node = &set->nodes[i];
        memcpy(at, node->node.bytes, ULID_BYTES);
        put_u32(at + 16, node->count);
        put_u32(at + 20, node->kinds);
        at += ORIGIN_NODE_BYTES;
        for (uint32_t j = 0; j < node->count; j++) {
            put_u64(at, intervals_of(set, i)[j].first);
            put_u64(at + 8, intervals_of(set, i)[j].last);
            at += ORIGIN_INTERVAL_BYTES;
        }
    }
    ASSERT((size_t)(at - to) == origin_set_bytes(set));
    return (size_t)(at - to);
}

/* One node and its intervals. Returns their bytes, or ERR_CORRUPT. */
static int64_t decode_node(struct origin_set *set, struct slice from)
{
    if (from.bytes < ORIGIN_NODE_BYTES || set->node_count == set->limits.nodes_max) {
        return ERR_CORRUPT;
    }
    struct origin_node node = {.count = get_u32(from.data + 16), .kinds = get_u32(from.data + 20)};
    memcpy(node.node.bytes, from.data, ULID_BYTES);
    uint64_t bytes = ORIGIN_NODE_BYTES + (uint64_t)node.count * ORIGIN_INTERVAL_BYTES;
    if (node.kinds == 0 || bytes > from.bytes || node.count == 0 ||
        !origin_set_has_room(set, &node.node, node.kinds, node.count) ||
        find_node(set, &node.node, node.kinds) != set->node_count) {
        return ERR_CORRUPT;
    }
    struct origin_interval *intervals = intervals_of(set, set->node_count);
    for (uint32_t i = 0; i < node.count; i++) {
        const uint8_t *at = from.data + ORIGIN_NODE_BYTES + (size_t)i * ORIGIN_INTERVAL_BYTES;
        intervals[i] = (struct origin_interval){get_u64(at), get_u64(at + 8)};
        bool is_apart = i == 0 || (intervals[i - 1].last != UINT64_MAX &&
                                   intervals[i].first > intervals[i - 1].last + 1);
        if (intervals[i].first == 0 || intervals[i].last < intervals[i].first || !is_apart) {
            return ERR_CORRUPT;
        }
    }
    set->nodes[set->node_count++] = node;
    set->interval_count += node.count;
    return (int64_t)bytes;
}

int origin_set_decode(struct origin_set *set, struct slice from, uint32_t node_count)
{
    origin_set_clear(set);
    size_t at = 0;
    for (uint32_t i = 0; i < node_count; i++) { /* each takes ORIGIN_NODE_BYTES or fails */
        int64_t n = decode_node(set, (struct slice){from.data + at, from.bytes - at});
        if (n < 0) {
            origin_set_clear(set);
            return ERR_CORRUPT;
        }
        at += (size_t)n;
    }
    if (at != from.bytes) {
        origin_set_clear(set);
        return ERR_CORRUPT;
    }
    return 0;
}
