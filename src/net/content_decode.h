/*
 * content_decode: gzip and zstd request bodies, with zlib and libzstd. One decoder per shard, made
 * at start: decoding allocates nothing. The limit counts decoded bytes (413), and a body of more
 * than 64 KiB + ratio_max times its encoded size is refused as a bomb (413). Several gzip members
 * or zstd frames in a row are one body (RFC 1952 §2.2, RFC 8878 §3.1); anything after them is a
 * fault (400). A zstd window is at most 8 MiB, what RFC 9659 allows this content coding, and a
 * frame must not need a dictionary.
 */
#ifndef NET_CONTENT_DECODE_H
#define NET_CONTENT_DECODE_H

#include "core/base.h"
#include "core/err.h"
#include "net/http_head.h"

struct content_decoder; /* zlib and zstd states */

struct content_decoder *content_decoder_new(void); /* start-up; never NULL */
void content_decoder_free(struct content_decoder *decoder);

/* Grows the output: called with the bytes needed at least; returns the new memory (old content
 * kept) and its capacity, or NULL when memory is out (503). */
typedef uint8_t *(*content_grow)(void *context, uint8_t *old, size_t used, size_t at_least,
                                 size_t *capacity);

struct content_output {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    size_t bytes_max;   /* decoded limit */
    uint32_t ratio_max; /* 0: only bytes_max counts */
    content_grow grow;
    void *context;
};

/* Decodes the whole of from behind out->bytes, which starts at 0. coding is gzip or zstd. 0, or -1
 * with fault: 400 (damaged or truncated), 413 (limit or ratio), 503 (memory). */
int content_decode(struct content_decoder *decoder, enum http_coding coding, struct slice from,
                   struct content_output *out, struct http_fault *fault) MUST_USE;

#endif
