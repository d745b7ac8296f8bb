/*
 * http_chunked: the chunked transfer coding (RFC 9112 §7.1), incremental and strict. Pure.
 *
 * CRLF only; chunk size 1..16 hex digits and no larger than what is left of body_bytes_max;
 * extensions are tokens or quoted strings, ignored, at most 4 KiB a body; trailers follow the rules
 * of fields, are discarded, and count into trailer_bytes_max and trailer_lines_max; a body whose
 * framing costs far more than its data (1-byte chunks beyond 64 KiB of overhead with less than a
 * fifth of data) is refused.
 */
#ifndef NET_HTTP_CHUNKED_H
#define NET_HTTP_CHUNKED_H

#include "core/base.h"
#include "net/http_head.h"

struct http_chunked {
    uint8_t state; /* private */
    uint8_t size_digits;
    uint64_t chunk_left;
    uint64_t body_bytes; /* decoded so far */
    uint64_t overhead_bytes;
    uint32_t extension_bytes;
    uint32_t trailer_bytes;
    uint64_t body_bytes_max;
    uint32_t trailer_bytes_max;
    uint32_t trailer_lines;
    uint32_t trailer_lines_max;
};

/* The limits of trailers are those of the head (head_bytes_max, fields_max): they are fields that
 * come late. */
void http_chunked_init(struct http_chunked *chunked, const struct http_limits *limits);

enum chunked_result {
    CHUNKED_MORE = 0,  /* all of from was taken; more is to come */
    CHUNKED_DONE = 1,  /* the body ended; *taken says where in from the next request begins */
    CHUNKED_FAULT = 2, /* fault is filled (400, 413, or 431 for the trailers); close */
};

/* Decodes from into to (which may be the same memory: data only moves down); to has room for
 * from_bytes. *taken: input bytes used; *given: data bytes written. */
enum chunked_result http_chunked_decode(struct http_chunked *chunked, uint8_t *to,
                                        const uint8_t *from, size_t from_bytes, size_t *taken,
                                        size_t *given, struct http_fault *fault);

#endif
