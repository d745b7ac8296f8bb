/*
 * rfc3339: a date-time of RFC 3339 into nanoseconds since 1970-01-01T00:00:00Z. Pure.
 *
 *   YYYY-MM-DD ('T' | 't' | ' ') HH:MM:SS ['.' digits] ('Z' | 'z' | ('+' | '-') HH:MM)
 *
 * Decisions. Any number of fraction digits; what is below a nanosecond is cut off. Dates are
 * checked against the calendar. A leap second (SS = 60) is taken only where UTC shows 23:59, and
 * becomes 23:59:59.999999999, so that it stays in its day and after everything before it; its own
 * fraction is dropped. An offset goes to 23:59; -00:00 is UTC. A result that does not fit an int64
 * of nanoseconds (1677-09-21 to 2262-04-11) is refused.
 */
#ifndef MODEL_RFC3339_H
#define MODEL_RFC3339_H

#include "core/base.h"

enum rfc3339_zone {
    RFC3339_ZONE_REQUIRED = 0,
    RFC3339_ZONE_OPTIONAL, /* without one it is UTC (Python's isoformat of a naive datetime) */
};

/* NULL when *ns is set; else a static text that says what is wrong, and *ns is untouched. */
const char *rfc3339_parse(struct slice text, enum rfc3339_zone zone, int64_t *ns) MUST_USE;

#endif
