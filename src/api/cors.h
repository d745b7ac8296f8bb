/*
 * cors: which web pages may read the answers (cors.origins, api.md §0). Built once from its text,
 * never changed, shared by all shards; a reload makes a new one. The header lines are complete
 * here, so that judging an Origin is one search and no copy. Pure.
 *
 *   "*"     every origin, the default: telemetry carries no cookies, and a token is sent by hand
 *   list    SCHEME://HOST[:PORT], separated by commas; an origin that is on it is named in the
 * answer
 *   ""      off: no answer mentions CORS
 */
#ifndef API_CORS_H
#define API_CORS_H

#include "core/base.h"
#include "core/config.h"

#define CORS_ORIGINS_MAX 32u
#define CORS_TEXT_BYTES  8192u

struct cors_origin {
    struct slice origin;
    struct slice lines;
};

struct cors {
    bool is_on;
    bool is_any;
    uint32_t count;
    struct cors_origin origins[CORS_ORIGINS_MAX];
    struct slice other_lines; /* for whom is not on the list, or everybody */
    size_t text_bytes;
    uint8_t text[CORS_TEXT_BYTES]; /* what the slices point into: a struct cors does not move */
};

/* 0, or -EINVAL with every problem listed. */
int cors_init(struct cors *cors, const char *origins, struct config_problems *problems) MUST_USE;

/* Header lines for each answer to a request with this Origin; data NULL when CORS is off. The same
 * pointer means the same lines; they live as long as cors. */
struct slice cors_lines(const struct cors *cors, struct slice origin);
bool cors_allows(const struct cors *cors, struct slice origin);

#endif
