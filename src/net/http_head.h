/*
 * http_head: the head of an HTTP/1.x request, strict (RFC 9112, 9110). Pure: no I/O, no allocation,
 * no copy.
 *
 * One pass over bytes that may be incomplete. Everything is kept as offsets from the start of the
 * head, so that the bytes may move. What the strict table of the requirement notes says is refused
 * is refused here with the status to answer and a static text; framing errors always close the
 * connection.
 *
 * Strictness in short: CRLF only (bare LF and bare CR: 400); single SP in the request line; no
 * white space before a colon or before the first field; no obs-fold; field names are tokens; values
 * without CTL except HTAB; exactly one valid Host in 1.1 (at most one in 1.0); Content-Length
 * is 1..19 digits, once; Content-Length with Transfer-Encoding: 400; Transfer-Encoding only
 * "chunked" (any case), only in 1.1, else 501 (unknown coding) or 400; version exactly HTTP/1.0 or
 * HTTP/1.1, else 505; target over target_bytes_max: 414; head over head_bytes_max or more than
 * fields_max fields: 431; Expect other than 100-continue: 417; up to two empty lines before the
 * request line are skipped; absolute-form is accepted when its authority equals Host.
 */
#ifndef NET_HTTP_HEAD_H
#define NET_HTTP_HEAD_H

#include "core/base.h"

#define HTTP_FIELDS_MAX 100

enum http_method {
    HTTP_OTHER = 0, /* a valid token we do not know: 501 */
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
};

/* Part of the head, by position; bytes 0 with offset 0: absent. */
struct http_span {
    uint32_t offset;
    uint32_t bytes;
};

struct http_field {
    struct http_span name;
    struct http_span value; /* without surrounding white space */
};

enum http_coding {
    HTTP_CODING_IDENTITY = 0,
    HTTP_CODING_GZIP,
    HTTP_CODING_ZSTD,
    HTTP_CODING_UNKNOWN, /* 415 on routes with a body */
};

struct http_head {
    enum http_method method;
    uint8_t version_minor; /* 0 or 1 */
    bool is_keep_alive;
    bool is_chunked;
    bool has_content_length;
    bool expects_continue; /* and a body is announced; never in 1.0 */
    bool wants_upgrade;    /* Connection: upgrade */
    enum http_coding coding;
    uint64_t content_length;
    uint32_t head_bytes;     /* all of it, with the empty line and skipped empty lines */
    struct http_span target; /* as sent */
    struct http_span path;   /* origin-form path, still percent-encoded */
    struct http_span query;  /* after '?', without it */
    /* Fields that routes ask for, found while parsing; the first of each (a second of one of these
     * marked S: 400). */
    struct http_span host;            /* S */
    struct http_span content_type;    /* S */
    struct http_span idempotency_key; /* S */
    struct http_span authorization;   /* S */
    struct http_span sluice_ack;
    struct http_span accept;
    struct http_span origin;
    uint32_t field_count;
    struct http_field fields[HTTP_FIELDS_MAX];
};

struct http_limits {
    uint32_t head_bytes_max;   /* 16 KiB */
    uint32_t target_bytes_max; /* 8 KiB */
    uint32_t fields_max;       /* at most HTTP_FIELDS_MAX */
    uint64_t body_bytes_max;
};

struct http_fault {
    uint16_t status;  /* 400, 413, 414, 417, 431, 501, 505 */
    const char *text; /* static, a whole sentence for the client */
};

/* data holds bytes so far; scanned is how many of them an earlier call (same start) already saw
 * without finding the end (0 at first), so that a head that arrives a byte at a time costs linear
 * time. Returns 1: head is filled (data[0..head_bytes)); 0: incomplete, call again with more; -1:
 * fault is filled, answer and close. Limits on the head are applied to incomplete heads as well.
 * content_length > body_bytes_max is NOT checked here: the server decides it after routing. */
int http_head_parse(struct http_head *head, const uint8_t *data, size_t bytes, size_t scanned,
                    const struct http_limits *limits, struct http_fault *fault) MUST_USE;

/* The value of the first field with that name (ASCII, any case), or an empty slice with data NULL.
 */
struct slice http_head_field(const struct http_head *head, const uint8_t *base, const char *name);

static inline struct slice http_span_slice(const uint8_t *base, struct http_span span)
{
    return (struct slice){base + span.offset, span.bytes};
}

const char *http_status_reason(unsigned status);

#endif
