/*
 * query_params: what a read asks for: the query string of GET /v1/logs|metrics|events and /v1/tail
 * (and the flags of `sluice query` and `sluice tail`, which say the same things), judged and turned
 * into a scan_filter and a lookup_query. Pure; owns copies of its texts.
 *
 * Faults come as 422 bodies in pydantic's terms (api.md §0):
 * {"detail":[{"type","loc":["query",NAME],"msg","input"}]}, all of them at once.
 */
#ifndef API_QUERY_PARAMS_H
#define API_QUERY_PARAMS_H

#include "api/route.h"
#include "core/buf.h"
#include "model/lookup.h"
#include "store/scan.h"

#define QUERY_TEXT_MAX 1024u

struct query_params {
    uint32_t kinds;
    int64_t start_ns, end_ns; /* INT64_MIN, INT64_MAX: open */
    unsigned severity_min;    /* 0: any */
    uint32_t limit;           /* 1..1000, 100 */
    bool is_ascending;
    bool has_cursor;
    uint64_t cursor_lsn;        /* the last record of the page before: this one comes not again */
    uint64_t from_lsn;          /* tail: resume at; 0: from now on */
    struct lookup_query lookup; /* its slices point into text */
    uint8_t text[5 * QUERY_TEXT_MAX];
    uint32_t text_bytes;
};

/* "now", "now-5m" (s m h d; also + and several: now-1d+2h), RFC 3339. False: neither. Pure. */
bool query_time_parse(int64_t *ns, struct slice text, int64_t now_ns);
/* query: the raw query string, percent-encoded. 0; or -EINVAL with the 422 body in fault_body. */
int query_params_parse(struct query_params *params, enum route_id route, struct slice query,
                       int64_t now_ns, struct buf *fault_body) MUST_USE;
/* An opaque text that survives compaction and restart: version, kind of route, digest of the filter
 * (a cursor of another query is refused), LSN, check sum; base64url. */
size_t query_cursor_put(char *to, size_t room, const struct query_params *params, uint64_t lsn);
int query_cursor_parse(struct query_params *params, struct slice text);
/* The scan that finds it. filter borrows from params. */
void query_params_filter(const struct query_params *params, struct scan_filter *filter);
/* scan_match_fn; context: struct query_matcher. */
struct query_matcher {
    const struct query_params *params;
    uint8_t *scratch; /* LOOKUP_SCRATCH_BYTES */
};
bool query_matches(void *context, const struct scan_record *record);

#endif
