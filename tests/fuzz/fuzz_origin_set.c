/*
 * fuzz_origin_set: any bytes to origin_set_decode (the first says how many nodes). What is decoded
 * encodes to the same bytes, and answers as its intervals say.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/mem.h"
#include "store/origin_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void look(const struct origin_set *set)
{
    for (uint32_t i = 0; i < set->node_count; i++) {
        const struct origin_node *node = &set->nodes[i];
        bool is_alone = set->node_count == 1; /* another stream of the node may have more */
        unsigned kind = (unsigned)__builtin_ctz(node->kinds);
        for (uint32_t j = 0; j < node->count; j++) {
            struct origin_interval at = set->intervals[(size_t)i * set->limits.intervals_max + j];
            ASSERT(origin_set_has(set, &node->node, kind, at.first));
            ASSERT(origin_set_has(set, &node->node, kind, at.last));
            ASSERT(!is_alone || at.last == UINT64_MAX ||
                   !origin_set_has(set, &node->node, kind, at.last + 1));
            ASSERT(!is_alone || !origin_set_has(set, &node->node, kind, at.first - 1));
            ASSERT(origin_set_growth(set, &node->node, node->kinds, at.first, at.last) == 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct origin_set set;
    struct origin_limits limits = {.nodes_max = 5, .intervals_max = 7, .all_max = 20};
    if (bytes == 0 || origin_set_open(&set, limits, NULL) < 0) {
        return 0;
    }
    struct slice from = {data + 1, bytes - 1};
    if (origin_set_decode(&set, from, data[0]) == 0) {
        uint8_t *again = mem_alloc(origin_set_bytes(&set) + 1);
        ASSERT(origin_set_encode(again, &set) == from.bytes);
        ASSERT(memcmp(again, from.data, from.bytes) == 0);
        look(&set);
        mem_free(again);
    }
    origin_set_close(&set);
    return 0;
}
