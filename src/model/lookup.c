#include "model/lookup.h"

#include <string.h>

#include "model/lookup_find.h"
#include "model/lookup_object.h"

#define BIT(field) (1u << (field))

/* ---- which field a key names ---- */

#define KEY_BYTES_MAX     16u /* x_correlation_id */
#define KEY_IS(key, text) (memcmp((key).data, (text), sizeof(text) - 1) == 0)
#define KEY_NONE          ((enum lookup_field)0)
#define NOINLINE          __attribute__((noinline))

/* By length first: then one comparison of a fixed size decides. */
static inline enum lookup_field field_of(struct slice key)
{
    switch (key.bytes) {
    case 4:
        if (KEY_IS(key, "name")) {
            return LOOKUP_NAME;
        }
        if (KEY_IS(key, "host")) {
            return LOOKUP_HOST;
        }
        return KEY_IS(key, "uuid") ? LOOKUP_GPU : KEY_NONE;
    case 6:
        if (KEY_IS(key, "source")) {
            return LOOKUP_SOURCE;
        }
        if (KEY_IS(key, "run_id")) {
            return LOOKUP_RUN;
        }
        return KEY_IS(key, "gpu_id") ? LOOKUP_GPU : KEY_NONE;
    case 7:
        if (KEY_IS(key, "service")) {
            return LOOKUP_SERVICE;
        }
        return KEY_IS(key, "message") ? LOOKUP_MESSAGE : KEY_NONE;
    case 8:
        if (KEY_IS(key, "hostname") || KEY_IS(key, "Hostname")) {
            return LOOKUP_HOST;
        }
        return KEY_IS(key, "event_id") ? LOOKUP_EVENT_ID : KEY_NONE;
    case 12:
        return KEY_IS(key, "service_name") ? LOOKUP_SERVICE : KEY_NONE;
    case 14:
        return KEY_IS(key, "correlation_id") ? LOOKUP_CORRELATION_ID : KEY_NONE;
    case 16:
        return KEY_IS(key, "x_correlation_id") ? LOOKUP_CORRELATION_ID : KEY_NONE;
    default:
        return KEY_NONE;
    }
}

/* A key with escapes names the field that it spells. */
static NOINLINE enum lookup_field field_of_escaped(struct slice key)
{
    uint8_t plain[KEY_BYTES_MAX + 8];
    size_t bytes = lookup_object_unescape(&key, plain, sizeof plain);
    return key.bytes == 0 ? field_of((struct slice){plain, bytes}) : KEY_NONE;
}

static inline enum lookup_field member_field(const struct lookup_member *member)
{
    return UNLIKELY(member->key_has_escape) ? field_of_escaped(member->key) : field_of(member->key);
}

/* ---- the walk ---- */

static bool is_number(struct slice value)
{
    return value.data[0] == '-' || (value.data[0] >= '0' && value.data[0] <= '9');
}

/* A value in words, escapes undone. */
static struct slice member_text(const struct lookup_member *member, uint8_t *scratch)
{
    struct slice text = member->value;
    if (UNLIKELY(member->value_has_escape)) {
        return (struct slice){scratch,
                              lookup_object_unescape(&text, scratch, LOOKUP_SCRATCH_BYTES)};
    }
    text.bytes = text.bytes < LOOKUP_SCRATCH_BYTES ? text.bytes : LOOKUP_SCRATCH_BYTES;
    return text;
}

int lookup_walk(struct slice object, uint32_t mask, uint8_t *scratch, lookup_on_value on_value,
                void *context)
{
    struct lookup_object walk;
    struct lookup_member member;
    if (!lookup_object_open(&walk, object)) {
        return -1;
    }
    /* Bounded by the object: each member takes bytes of it. */
    for (;;) {
        int found = lookup_object_next(&walk, &member);
        if (found <= 0) {
            return found;
        }
        enum lookup_field field = member_field(&member);
        if (field == KEY_NONE || (mask & BIT(field)) == 0) {
            continue;
        }
        bool is_text = member.is_string || (field == LOOKUP_GPU && is_number(member.value));
        if (is_text && !on_value(context, field, member_text(&member, scratch))) {
            return 0;
        }
    }
}

/* ---- the match ---- */

/* Undone piece by piece into scratch; the last bytes of a piece are kept in front of the next, for
 * what lies across. */
static NOINLINE bool find_escaped(struct slice raw, struct slice part, uint8_t *scratch)
{
    size_t kept = 0;
    /* Each turn takes at least half the scratch of raw. */
    do {
        size_t bytes =
            kept + lookup_object_unescape(&raw, scratch + kept, LOOKUP_SCRATCH_BYTES - kept);
        if (lookup_find((struct slice){scratch, bytes}, part)) {
            return true;
        }
        kept = bytes < part.bytes - 1 ? bytes : part.bytes - 1;
        memmove(scratch, scratch + bytes - kept, kept);
    } while (raw.bytes > 0);
    return false;
}

static inline bool member_equals(const struct lookup_member *member, struct slice text,
                                 uint8_t *scratch)
{
    if (UNLIKELY(member->value_has_escape)) {
        /* No escape is longer than six bytes for each byte it stands for. */
        return member->value.bytes / 6 <= text.bytes &&
               slice_equal(member_text(member, scratch), text);
    }
    return slice_equal(member->value, text);
}

static bool member_contains(const struct lookup_member *member, struct slice part, uint8_t *scratch)
{
    if (UNLIKELY(member->value_has_escape)) {
        return find_escaped(member->value, part, scratch);
    }
    return lookup_find(member->value, part);
}

static bool query_takes(const struct lookup_query *query, const struct lookup_member *member,
                        enum lookup_field field, uint8_t *scratch)
{
    if (!member->is_string) {
        return false;
    }
    switch (field) {
    case LOOKUP_SERVICE:
        return member_equals(member, query->service, scratch);
    case LOOKUP_SOURCE:
        return member_equals(member, query->source, scratch);
    case LOOKUP_NAME:
        return member_equals(member, query->name, scratch);
    case LOOKUP_CORRELATION_ID:
        return member_equals(member, query->correlation_id, scratch);
    case LOOKUP_MESSAGE:
        return member_contains(member, query->message, scratch);
    case LOOKUP_HOST:
    case LOOKUP_GPU:
    case LOOKUP_RUN:
    case LOOKUP_EVENT_ID:
    case LOOKUP_FIELD_MAX:
        break;
    }
    return false;
}

static uint32_t query_mask(const struct lookup_query *query)
{
    ASSERT(query->message.bytes <= LOOKUP_SCRATCH_BYTES / 2);
    uint32_t mask = 0;
    mask |= query->service.bytes > 0 ? BIT(LOOKUP_SERVICE) : 0;
    mask |= query->source.bytes > 0 ? BIT(LOOKUP_SOURCE) : 0;
    mask |= query->name.bytes > 0 ? BIT(LOOKUP_NAME) : 0;
    mask |= query->correlation_id.bytes > 0 ? BIT(LOOKUP_CORRELATION_ID) : 0;
    mask |= query->message.bytes > 0 ? BIT(LOOKUP_MESSAGE) : 0;
    return mask;
}

bool lookup_matches(const struct lookup_query *query, struct slice object, uint8_t *scratch)
{
    uint32_t left = query_mask(query);
    struct lookup_object walk;
    struct lookup_member member;
    if (left == 0) {
        return true;
    }
    if (!lookup_object_open(&walk, object)) {
        return false;
    }
    /* Bounded by the object. A field that does not match may still do so under its other name. */
    while (left != 0 && lookup_object_next(&walk, &member) > 0) {
        enum lookup_field field = member_field(&member);
        if (field != KEY_NONE && (left & BIT(field)) != 0 &&
            query_takes(query, &member, field, scratch)) {
            left &= ~BIT(field);
        }
    }
    return left == 0;
}
