/*
 * clock: nanoseconds. Monotonic for durations and deadlines, real for what goes on disk or to a
 * client. Agents read the clock once per duty pass and hand the value down; pure code never reads
 * it.
 */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "core/base.h"

uint64_t clock_mono_ns(void);
int64_t clock_real_ns(void); /* since 1970-01-01T00:00:00Z */

/* RFC 3339 in UTC with the given number of fraction digits (0..9), e.g. "2025-08-25T10:00:00.123Z".
 * out holds CLOCK_RFC3339_BYTES; returns the length. Years 0000..9999 only (clamped). Pure. */
#define CLOCK_RFC3339_BYTES 40
size_t clock_rfc3339(char *out, int64_t real_ns, int fraction_digits);

/* IMF-fixdate (RFC 9110 §5.6.7), "Tue, 15 Nov 1994 08:12:31 GMT": always CLOCK_HTTP_DATE_BYTES, no
 * NUL. Pure. */
#define CLOCK_HTTP_DATE_BYTES 29
void clock_http_date(char *out, int64_t real_ns);

#endif
