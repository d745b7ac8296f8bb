/*
 * key_set: the keys of one object that were seen, to refuse duplicates (RFC 8259 calls their
 * meaning unpredictable, and a reader that takes the other one reads another record). Pure; one
 * owner; no allocation; emptied in O(1).
 *
 * Keys are compared as text: one written with escapes equals the same one without. At most
 * KEY_SET_MAX keys; an object with more is refused by the caller, which bounds the memory and the
 * work. The hash is seeded with the set's address, so that a client cannot prepare collisions.
 */
#ifndef MODEL_KEY_SET_H
#define MODEL_KEY_SET_H

#include "core/base.h"

#define KEY_SET_MAX   1024u
#define KEY_SET_SLOTS 2048u

struct key_set_entry {
    struct slice key; /* raw, between its quotes */
    uint32_t slot;
    bool has_escape;
};

/* slots may hold anything: one counts only when the entry it names is in use and names it back. */
struct key_set {
    uint32_t count;
    uint16_t slots[KEY_SET_SLOTS];
    struct key_set_entry entries[KEY_SET_MAX];
};

enum key_set_result {
    KEY_SET_NEW = 0,
    KEY_SET_DUPLICATE,
    KEY_SET_FULL,
};

static inline void key_set_reset(struct key_set *set)
{
    set->count = 0;
}

/* key must be validated JSON and stay until the next reset. */
enum key_set_result key_set_add(struct key_set *set, struct slice key, bool has_escape);

#endif
