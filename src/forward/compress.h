/*
 * compress: a finished request body as it goes over the wire. One owner; the contexts (zstd some 1 MiB, zlib 256 KiB) are
 * made at the first use and kept. Fast levels: an uplink that needs more is rare, a core that is busy compressing is not.
 *
 * The same body gives the same bytes (no time and no name in the gzip header), with one version of the libraries. Nothing
 * depends on that: an upstream that compares repeats compares what it has decompressed, and the digest of a frozen batch is
 * of the body before compression.
 */
#ifndef FORWARD_COMPRESS_H
#define FORWARD_COMPRESS_H

#include "core/base.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "forward/body.h"

#define COMPRESS_GZIP_LEVEL 1
#define COMPRESS_ZSTD_LEVEL 1 /* 1..3 */

struct compress {
    void *gzip; /* z_stream */
    void *zstd; /* ZSTD_CCtx */
};

void compress_init(struct compress *compress);
void compress_free(struct compress *compress); /* may be called twice */
/* The limit that out needs for bodies of at most bytes. Pure. */
size_t compress_bound(size_t bytes);
/* out is reset first; in must not be part of it. SINK_IDENTITY copies. ERR_LIMIT: out's limit is below compress_bound
 * and the result did not fit. */
int compress_body(struct compress *compress, enum sink_compression compression, struct slice in,
                  struct body *out, struct err *err) MUST_USE;

#endif
