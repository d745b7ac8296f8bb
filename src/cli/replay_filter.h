/*
 * replay_filter: --filter key=value and --kind of `sluice replay`: which records a replay takes. What the scan can look for it
 * looks for (index, severity, a literal); the rest is judged in the JSON. One owner; pure but for its own memory.
 *
 * Keys: service, level (that and above), correlation_id, name, source, q (contained in the message), host, gpu, run. Each at
 * most once; all of them must hold.
 */
#ifndef CLI_REPLAY_FILTER_H
#define CLI_REPLAY_FILTER_H

#include "api/query_params.h"

enum replay_filter_key {
    FILTER_SERVICE = 0,
    FILTER_LEVEL,
    FILTER_CORRELATION_ID,
    FILTER_NAME,
    FILTER_SOURCE,
    FILTER_Q,
    FILTER_HOST, /* from here on: by the fields of the record alone */
    FILTER_GPU,
    FILTER_RUN,
    FILTER_KEYS,
};

#define FILTER_TEXT_BYTES 3072

struct replay_filter {
    const char *values[FILTER_KEYS]; /* borrowed from the command line; NULL: not asked */
    uint32_t kinds;                  /* 0: all */
    char
        text[FILTER_TEXT_BYTES]; /* the same for the same filter, whatever the order; "" for none */
    struct query_params params;
    struct query_matcher matcher;
    uint8_t *scratch;
};

/* key=value, or log,metric,...: NULL, or what is wrong. */
const char *replay_filter_add(struct replay_filter *filter, const char *text);
const char *replay_filter_kinds(struct replay_filter *filter, const char *list);
/* After the last add: NULL, or what is wrong. Free it also then. Not to be moved afterwards. */
const char *replay_filter_close(struct replay_filter *filter);
void replay_filter_free(struct replay_filter *filter);
/* What the scan can do; times and LSNs are open. Borrows from filter. */
void replay_filter_scan(const struct replay_filter *filter, struct scan_filter *scan);
/* Is anything left to be judged in the JSON? */
bool replay_filter_asks_json(const struct replay_filter *filter);
/* scan_match_fn; context: struct replay_filter. */
bool replay_filter_matches(void *context, const struct scan_record *record);

#endif
