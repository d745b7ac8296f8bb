/*
 * envelope: one line of what a Sluice sends to another (POST /v1/replicate):
 *
 *   {"id":"<ULID>","lsn":n,"kind":"log","received_at":"<RFC 3339>","record":{...}}
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

struct envelope {
    struct ulid id;
    uint64_t lsn; /* 1 .. ENVELOPE_LSN_MAX */
    struct slice kind;
    int64_t received_at_ns;
    struct slice record; /* its bytes, inside the line */
};

/* NULL, or a static text that says what is wrong. line: without its line feed. */
const char *envelope_parse(struct envelope *envelope, struct slice line) MUST_USE;

/* Decimal digits only, 1 .. ENVELOPE_LSN_MAX, no leading zero. */
bool envelope_parse_lsn(uint64_t *lsn, struct slice text) MUST_USE;

#endif
