/*
 * query_params: what a read asks for: the query string of GET /v1/logs|metrics|events and /v1/tail
 * (and the flags of `sluice query` and `sluice tail`, which say the same things), judged and turned
 * into a scan_filter and a lookup_query. Pure; owns copies of its texts.
 *
 * A name decides as FastAPI would: a name that no read knows is ignored, of a name that came twice
 * the last counts (kind adds up). One that another read knows is a fault that says where it
 * belongs: `name` on logs would otherwise silently filter nothing. An empty value is no filter for
 * service, source, name, correlation_id and q, and no cursor for cursor; every other parameter
 * needs a value. Percent-encoding is strict; '+' is a space, but one that was the sign of an offset
 * ("T10:00:00+02:00") or of a sum ("now-1d+2h") is understood as the sign.
 *
 * Faults come as 422 bodies in pydantic's terms (api.md §0):
 * {"detail":[{"type","loc":["query",NAME],"msg","input"}]}, all of them at once. start after end is
 * a fault of start.
 */
#ifndef API_QUERY_PARAMS_H
#define API_QUERY_PARAMS_H

#include "api/route.h"
#include "core/buf.h"
#include "model/lookup.h"
#include "store/scan.h"

#define QUERY_TEXT_MAX  1024u
#define QUERY_LIMIT_MAX 1000u
/* Room that the 422 body needs at most: each parameter once, its input cut to 128 bytes. */
#define QUERY_FAULT_BYTES_MAX 16384u
#define QUERY_CURSOR_CHARS    32u

/* Not to be copied by value: lookup points into text. */
struct query_params {
    uint32_t kinds;
    int64_t start_ns, end_ns; /* INT64_MIN, INT64_MAX: open */
    unsigned severity_min;    /* 0: any */
    uint32_t limit;           /* 1..1000, 100 */
    bool has_limit;           /* it was asked for: an NDJSON stream has one then, too */
    bool is_ascending;
    bool has_cursor;
    uint64_t cursor_lsn;        /* the last record of the page before: this one comes not again */
    uint64_t from_lsn;          /* tail: resume at; 0: from now on */
    uint32_t digest;            /* of all that decides which records and in what order: not of limit
                                   and cursor; a relative time counts as it was spelled */
    struct lookup_query lookup; /* its slices point into text */
    uint8_t text[5 * QUERY_TEXT_MAX];
    uint32_t text_bytes;
};

/* "now", "now-5m" (s m h d; also + and several: now-1d+2h), RFC 3339. False: neither, and *ns is
 * untouched. Pure. */
bool query_time_parse(int64_t *ns, struct slice text, int64_t now_ns);

/* query: the raw query string, percent-encoded. 0; or -EINVAL with the 422 body in fault_body
 * (which takes QUERY_FAULT_BYTES_MAX at most). */
int query_params_parse(struct query_params *params, enum route_id route, struct slice query,
                       int64_t now_ns, struct buf *fault_body) MUST_USE;

/* An opaque text that survives compaction and restart: version, kinds, digest of the filter, LSN,
 * check sum; base64url. Writes QUERY_CURSOR_CHARS at to, without a NUL, and returns that; room must
 * hold them. lsn: the last record of this page, not 0. */
size_t query_cursor_put(char *to, size_t room, const struct query_params *params, uint64_t lsn);
/* Sets has_cursor and cursor_lsn of params, of which all else must be set. -EINVAL: no cursor, or
 * damaged; -ESTALE: of another query. */
int query_cursor_parse(struct query_params *params, struct slice text) MUST_USE;

/* The scan that finds it. filter borrows from params. */
void query_params_filter(const struct query_params *params, struct scan_filter *filter);

/* scan_match_fn; context: struct query_matcher. Looks only at what the scan cannot: the JSON. */
struct query_matcher {
    const struct query_params *params;
    uint8_t *scratch; /* LOOKUP_SCRATCH_BYTES */
};
bool query_matches(void *context, const struct scan_record *record);

#endif
