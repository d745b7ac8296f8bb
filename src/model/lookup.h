/*
 * lookup: questions about a record that was accepted before (its JSON is known to be valid): the
 * value of a top-level key, the keys it is found by, whether it matches a query. Pure; no
 * allocation; never trusts enough to read out of bounds: bytes come from disk.
 *
 * A value compares by its meaning: escapes are undone. Aliases count as their field (service_name
 * is service, x_correlation_id is correlation_id).
 */
#ifndef MODEL_LOOKUP_H
#define MODEL_LOOKUP_H

#include "core/base.h"

enum lookup_field {
    LOOKUP_SERVICE = 1,
    LOOKUP_SOURCE,
    LOOKUP_NAME,
    LOOKUP_CORRELATION_ID,
    LOOKUP_HOST, /* host, hostname, Hostname */
    LOOKUP_GPU,  /* uuid, gpu_id */
    LOOKUP_RUN,  /* run_id */
    LOOKUP_EVENT_ID,
    LOOKUP_MESSAGE,
    LOOKUP_FIELD_MAX,
};

/* Calls on_value for every top-level member of the object that is one of the fields and a string
 * (or, gpu_id, a number: its text), in order; value is unescaped (scratch of LOOKUP_SCRATCH_BYTES;
 * longer ones are cut to it) and lives until on_value returns. mask: bit (1 << field), those
 * wanted. False from on_value ends the walk. Returns 0, or -1 where the bytes are no JSON object
 * (members before the damage were shown). Structure only: what was judged is not judged again.
 */
#define LOOKUP_SCRATCH_BYTES 65536u
typedef bool (*lookup_on_value)(void *context, enum lookup_field field, struct slice value);
int lookup_walk(struct slice object, uint32_t mask, uint8_t *scratch, lookup_on_value on_value,
                void *context);

/* What a query asks of the JSON. Empty slices: not asked. */
struct lookup_query {
    struct slice service, source, name, correlation_id; /* equal */
    struct slice message; /* message contains; at most LOOKUP_SCRATCH_BYTES / 2 */
};
/* Case counts. A record that has a field under both its names (they are no aliases in its schema)
 * matches by either. Bytes that are no JSON object match only the query that asks nothing. */
bool lookup_matches(const struct lookup_query *query, struct slice object, uint8_t *scratch);

#endif
