/*
 * compress: zlib and zstd in one call each. A context that was interrupted by a full buffer is reset by the next call.
 */
#include "forward/compress.h"

#include <errno.h>
#include <limits.h>
#include <zlib.h>
#include <zstd.h>

#include "core/mem.h"

#define GZIP_WINDOW_BITS (15 + 16) /* 32 KiB, with a gzip header: no name, time 0 */
#define GZIP_MEMORY      8         /* zlib's default */
#define GZIP_FRAME_BYTES 32        /* header, trailer and then some */

void compress_init(struct compress *compress)
{
    *compress = (struct compress){0};
}

void compress_free(struct compress *compress)
{
    if (compress->gzip != NULL) {
        (void)deflateEnd(compress->gzip);
        mem_free(compress->gzip);
    }
    (void)ZSTD_freeCCtx(compress->zstd);
    *compress = (struct compress){0};
}

size_t compress_bound(size_t bytes)
{
    return u64_max(compressBound(bytes) + GZIP_FRAME_BYTES, ZSTD_compressBound(bytes));
}

static int zstd_ready(struct compress *compress, struct err *err)
{
    if (compress->zstd != NULL) {
        return 0;
    }
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    if (zstd == NULL) {
        return err_set(err, -ENOMEM, "zstd does not start"); /* UNTESTED: no memory */
    }
    size_t result = ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, COMPRESS_ZSTD_LEVEL);
    ASSERT(!ZSTD_isError(result));
    /* The far end notices what went wrong in between. */
    result = ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    ASSERT(!ZSTD_isError(result));
    compress->zstd = zstd;
    return 0;
}

static int no_room(struct err *err)
{
    return err_set(err, ERR_LIMIT, "the compressed body is over its limit");
}

static int zstd_body(struct compress *compress, struct slice in, struct body *out, size_t room,
                     struct err *err)
{
    int result = zstd_ready(compress, err);
    if (result < 0) {
        return result;
    }
    size_t bytes = ZSTD_compress2(compress->zstd, out->data, room, in.data, in.bytes);
    if (ZSTD_isError(bytes)) {
        return no_room(err); /* the only thing that can go wrong with memory at hand */
    }
    body_add(out, bytes);
    return 0;
}

static int gzip_ready(struct compress *compress, struct err *err)
{
    if (compress->gzip != NULL) {
        return deflateReset(compress->gzip) == Z_OK ? 0 : err_set(err, -EIO, "zlib is confused");
    }
    z_stream *gzip = mem_alloc(sizeof *gzip);
    if (deflateInit2(gzip, COMPRESS_GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        mem_free(gzip); /* UNTESTED: no memory */
        return err_set(err, -ENOMEM, "zlib does not start");
    }
    compress->gzip = gzip;
    return 0;
}

static int gzip_body(struct compress *compress, struct slice in, struct body *out, size_t room,
                     struct err *err)
{
    int result =
        in.bytes <= UINT_MAX && room <= UINT_MAX ? gzip_ready(compress, err) : no_room(err);
    if (result < 0) {
        return result;
    }
    z_stream *gzip = compress->gzip;
    gzip->next_in =
        (Bytef *)(uintptr_t)in.data; /* zlib's header has no const here, its code does */
    gzip->avail_in = (uInt)in.bytes;
    gzip->next_out = out->data;
    gzip->avail_out = (uInt)room;
    if (deflate(gzip, Z_FINISH) != Z_STREAM_END) {
        return no_room(err);
    }
    body_add(out, room - gzip->avail_out);
    return 0;
}

int compress_body(struct compress *compress, enum sink_compression compression, struct slice in,
                  struct body *out, struct err *err)
{
    body_reset(out);
    if (compression == SINK_IDENTITY) {
        body_put_slice(out, in);
        return out->is_over ? no_room(err) : 0;
    }
    const size_t room = u64_min(compress_bound(in.bytes), out->limit);
    if (body_room(out, room) == NULL) {
        return no_room(err);
    }
    return compression == SINK_ZSTD ? zstd_body(compress, in, out, room, err)
                                    : gzip_body(compress, in, out, room, err);
}
