#include "api/record_keys.h"

#include "model/lookup.h"

#define BIT(field) (1u << (field))

/* Everything an index can be asked for; a message is searched, not looked up. */
#define KEYS_MASK                                                                                  \
    (BIT(LOOKUP_SERVICE) | BIT(LOOKUP_SOURCE) | BIT(LOOKUP_NAME) | BIT(LOOKUP_CORRELATION_ID) |    \
     BIT(LOOKUP_HOST) | BIT(LOOKUP_GPU) | BIT(LOOKUP_RUN) | BIT(LOOKUP_EVENT_ID))

static const enum index_field fields[LOOKUP_FIELD_MAX] = {
    [LOOKUP_SERVICE] = INDEX_SERVICE, [LOOKUP_SOURCE] = INDEX_SOURCE,
    [LOOKUP_NAME] = INDEX_NAME,       [LOOKUP_CORRELATION_ID] = INDEX_CORRELATION_ID,
    [LOOKUP_HOST] = INDEX_HOST,       [LOOKUP_GPU] = INDEX_GPU,
    [LOOKUP_RUN] = INDEX_RUN,         [LOOKUP_EVENT_ID] = INDEX_EVENT_ID,
};

struct key_taker {
    record_on_key on_key;
    void *to;
};

static bool keys_on_value(void *context, enum lookup_field field, struct slice value)
{
    const struct key_taker *taker = context;
    ASSERT(field < LOOKUP_FIELD_MAX);
    ASSERT(fields[field] != 0);
    /* Nobody can ask for an empty value: in a query it means that the field is not asked. */
    if (value.bytes > 0) {
        taker->on_key(taker->to, fields[field], value);
    }
    return true;
}

void record_keys(void *context, const struct record *record, record_on_key on_key, void *to)
{
    ASSERT(context != NULL);
    struct key_taker taker = {on_key, to};
    if (record->encoding != 0) {
        return; /* no JSON: nothing in it is looked up */
    }
    /* Damage ends the walk; what was found before it stands. */
    (void)lookup_walk(record->payload, KEYS_MASK, context, keys_on_value, &taker);
}
