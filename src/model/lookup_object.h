/*
 * lookup_object: goes over the top-level members of a JSON object that was judged before. Private
 * to the room; lookup.c asks the questions. Pure; no allocation; no recursion.
 *
 * It does not judge again: strings are passed from quote to quote, whose places are known 64 bytes
 * at a time, containers by their brackets, other values up to what ends them. A log record of 165
 * bytes takes 49 ns for the keys of an index; going over it with json_scan alone 61, a metric with
 * tags 73 and 87 (bench/bench_lookup.c, best of 101).
 *
 * Bytes come from disk: whatever they are, nothing outside the object is read, and every step goes
 * on by at least one byte. Damage ends the walk where no member can be made out.
 */
#ifndef MODEL_LOOKUP_OBJECT_H
#define MODEL_LOOKUP_OBJECT_H

#include "core/base.h"

struct lookup_object {
    const uint8_t *begin;
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *block; /* bit i of marks: block[i] is a quote or a backslash */
    uint64_t marks;
    bool is_first; /* no member was passed yet */
};

/* Raw bytes, escapes as they are; of strings what is between the quotes. */
struct lookup_member {
    struct slice key;
    struct slice value;
    bool key_has_escape;
    bool value_has_escape;
    bool is_string;
};

#define LOOKUP_BLOCK_BYTES 64

/* False: no object begins here. White space may stand before it. */
bool lookup_object_open(struct lookup_object *object, struct slice text) MUST_USE;
/* 1: *member is set; 0: the object ended; -1: damaged. */
static inline int lookup_object_next(struct lookup_object *object,
                                     struct lookup_member *member) MUST_USE;

/* Undoes escapes until *rest is empty or fewer than four bytes of room are left; *rest becomes what
 * is left. Returns the bytes written. An escape that is none (damage) becomes any bytes. */
size_t lookup_object_unescape(struct slice *rest, uint8_t *to, size_t room);

/* ---- inside; each pointer returned is NULL where the object ends too early ---- */

/* Marks the block from p on, which lies in the object. */
void lookup_object_load(struct lookup_object *object, const uint8_t *p);
/* Behind the value at p that is no string. */
const uint8_t *lookup_object_value_end(struct lookup_object *object, const uint8_t *p);

/* The first quote or backslash at or after p, which only ever grows; NULL: there is none. */
static inline const uint8_t *lookup_object_mark(struct lookup_object *object, const uint8_t *p)
{
    if (UNLIKELY(p - object->block >= LOOKUP_BLOCK_BYTES)) {
        if (p >= object->end) {
            return NULL;
        }
        lookup_object_load(object, p);
    }
    uint64_t marks = object->marks >> (p - object->block);
    if (LIKELY(marks != 0)) {
        return p + __builtin_ctzll(marks);
    }
    /* Each turn is a block on. */
    while (object->end - object->block > LOOKUP_BLOCK_BYTES) {
        lookup_object_load(object, object->block + LOOKUP_BLOCK_BYTES);
        if (LIKELY(object->marks != 0)) {
            return object->block + __builtin_ctzll(object->marks);
        }
    }
    return NULL;
}

/* p: behind the opening quote. Returns the closing one. */
static inline const uint8_t *lookup_object_string_end(struct lookup_object *object,
                                                      const uint8_t *p, bool *has_escape)
{
    *has_escape = false;
    /* Each turn ends or passes an escape. */
    for (;;) {
        p = lookup_object_mark(object, p);
        if (UNLIKELY(p == NULL)) {
            return NULL;
        }
        if (LIKELY(*p == '"')) {
            return p;
        }
        *has_escape = true;
        if (object->end - p < 2) {
            return NULL;
        }
        p += 2;
    }
}

/* Other bytes below a space could only be damage: structure is all that is looked at. */
static inline bool lookup_object_is_white(uint8_t c)
{
    return c <= ' ';
}

static inline const uint8_t *lookup_object_white_end(const struct lookup_object *object,
                                                     const uint8_t *p)
{
    while (p < object->end && lookup_object_is_white(*p)) {
        p++;
    }
    return p;
}

/* The key at p and its colon. Returns where the value begins. */
static inline const uint8_t *lookup_object_key(struct lookup_object *object, const uint8_t *p,
                                               struct lookup_member *member)
{
    if (UNLIKELY(p == object->end || *p != '"')) {
        return NULL;
    }
    const uint8_t *close = lookup_object_string_end(object, p + 1, &member->key_has_escape);
    if (UNLIKELY(close == NULL)) {
        return NULL;
    }
    member->key = (struct slice){p + 1, (size_t)(close - p - 1)};
    p = lookup_object_white_end(object, close + 1);
    return UNLIKELY(p == object->end || *p != ':') ? NULL : lookup_object_white_end(object, p + 1);
}

/* Returns what is behind the value at p. */
static inline const uint8_t *lookup_object_value(struct lookup_object *object, const uint8_t *p,
                                                 struct lookup_member *member)
{
    member->is_string = false;
    member->value_has_escape = false;
    if (UNLIKELY(p == object->end)) {
        return NULL;
    }
    if (LIKELY(*p == '"')) {
        const uint8_t *close = lookup_object_string_end(object, p + 1, &member->value_has_escape);
        if (UNLIKELY(close == NULL)) {
            return NULL;
        }
        member->is_string = true;
        member->value = (struct slice){p + 1, (size_t)(close - p - 1)};
        return close + 1;
    }
    const uint8_t *end = lookup_object_value_end(object, p);
    if (LIKELY(end != NULL)) {
        member->value = (struct slice){p, (size_t)(end - p)};
    }
    return end;
}

static inline int lookup_object_next(struct lookup_object *object, struct lookup_member *member)
{
    const uint8_t *p = lookup_object_white_end(object, object->at);
    if (UNLIKELY(p == object->end)) {
        return -1;
    }
    if (*p == '}') {
        return 0;
    }
    if (!object->is_first) {
        if (UNLIKELY(*p != ',')) {
            return -1;
        }
        p = lookup_object_white_end(object, p + 1);
    }
    object->is_first = false;
    p = lookup_object_key(object, p, member);
    p = p == NULL ? NULL : lookup_object_value(object, p, member);
    if (UNLIKELY(p == NULL)) {
        return -1;
    }
    object->at = p;
    return 1;
}

#endif
