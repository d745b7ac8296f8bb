/*
 * http_walk: what the parts of the head parser hand to each other: http_head.c (lines, order,
 * verdict), http_head_line.c (request line), http_field.c (fields that Sluice understands),
 * http_host.c (grammar of Host). Private to those files.
 *
 * Their int results: 1 go on, 0 the bytes end here, -1 a fault was noted. A fault depends only on
 * the bytes up to it, so a head that arrives in pieces fails as the whole head would.
 */
#ifndef NET_HTTP_WALK_H
#define NET_HTTP_WALK_H

#include "net/http_head.h"

struct http_walk {
    const uint8_t *base; /* offsets count from here */
    const uint8_t *at;   /* the next byte to look at */
    const uint8_t *end;  /* of the bytes that have come, and that the limit lets count */
    struct http_head *head;
    const struct http_limits *limits;
    struct http_fault *fault;
    /* Judged when all fields are known, because they depend on each other and not on their order.
     */
    struct http_span authority; /* of an absolute-form target */
    struct http_span transfer_encoding;
    bool has_content_encoding;
    bool has_connection_close;
    bool has_connection_keep_alive;
    bool has_expect_continue;
    bool has_expect_other;
};

static inline struct http_span http_walk_span(const struct http_walk *walk, const uint8_t *from,
                                              const uint8_t *to)
{
    return (struct http_span){(uint32_t)(from - walk->base), (uint32_t)(to - from)};
}

static inline bool http_span_is_absent(struct http_span span)
{
    return span.offset == 0;
}

/* Notes the fault; always -1. */
int http_walk_fault(struct http_walk *walk, uint16_t status, const char *text);

/* What is at walk->at instead of a CRLF: 0 when it is the start of one, else a fault. */
int http_walk_line_fault(struct http_walk *walk);

/* Takes the CRLF that must stand at walk->at. */
static inline int http_walk_line_end(struct http_walk *walk)
{
    const uint8_t *at = walk->at;
    if (UNLIKELY(walk->end - at < 2 || at[0] != '\r' || at[1] != '\n')) {
        return http_walk_line_fault(walk);
    }
    walk->at = at + 2;
    return 1;
}

/* The request line with its CRLF: method, target, version. */
int http_request_line(struct http_walk *walk);

/* A complete, valid field line: keeps what the head has a place for. 1 or -1. */
int http_field_note(struct http_walk *walk, const struct http_field *field);

/* Everything about the fields that only the whole head can tell. 1 or -1. */
int http_field_conclude(struct http_walk *walk);

/* uri-host [":" port] of RFC 9110 §7.2: a name, an IPv4 address or an IPv6 address in brackets; not
 * empty. Pure. */
bool http_host_is_valid(struct slice host);

#endif
