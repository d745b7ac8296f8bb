/*
 * envelope: one line of what a Sluice sends to another (POST /v1/replicate):
 *
 *   {"id":"<ULID>","lsn":n,"kind":"log","received_at":"<RFC 3339>","event_time":ns,"severity":n,
 *    "origin":{"node":"<ULID>","lsn":n,"via":["<ULID>",...]},"record":{...}}
 *
 * event_time: nanoseconds since 1970, what the sender's log says; severity: 1 to 6 (format.h). origin: the sender has the
 * record from another node: where it was first, and which nodes it passed on its way to the sender, in order. All
 * three may be left out.
 *
 * Strict RFC 8259; members in any order, none twice; members that this version does not know are
 * passed over; the names are written without escapes. The record is not judged here (body.h does),
 * only delimited. Pure.
 */
#ifndef MODEL_ENVELOPE_H
#define MODEL_ENVELOPE_H

#include "core/base.h"
#include "core/ulid.h"

/* Larger LSNs are not taken: they do not fit an int64, in which many a client keeps them. */
#define ENVELOPE_LSN_MAX ((uint64_t)INT64_MAX)

/* More are counted, not kept. */
#define ENVELOPE_VIA_MAX 16u

struct envelope_origin {
    struct ulid node;
    uint64_t lsn;
    uint32_t via_count;
    struct ulid via[ENVELOPE_VIA_MAX];
};

struct envelope {
    struct ulid id;
    uint64_t lsn; /* 1 .. ENVELOPE_LSN_MAX */
    struct slice kind;
    int64_t received_at_ns;
    bool has_event_time;
    int64_t event_time_ns;
    uint8_t severity; /* 0: none */
    bool has_origin;
    struct envelope_origin origin; /* undefined without one */
    struct slice record;           /* its bytes, inside the line */
};

/* NULL, or a static text that says what is wrong. line: without its line feed. */
const char *envelope_parse(struct envelope *envelope, struct slice line) MUST_USE;

/* Decimal digits only, 1 .. ENVELOPE_LSN_MAX, no leading zero. */
bool envelope_parse_lsn(uint64_t *lsn, struct slice text) MUST_USE;

#endif
