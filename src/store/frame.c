/*
 * frame: zstd with our memory and our bounds; see frame.h. zstd allocates its tables when a context
 * meets its first frame (a few MB, bounded by the level) and keeps them: those allocations are cold
 * and go through mem.
 */
#include "store/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_createCCtx_advanced, ZSTD_createDCtx_advanced: custom     \
                                    memory; in every 1.x */
#include <zstd.h>
#include <zstd_errors.h>

#include "core/mem.h"

struct frame_writer {
    ZSTD_CCtx *zstd;
};

struct frame_reader {
    ZSTD_DCtx *zstd;
};

static void *frame_on_alloc(void *context, size_t bytes)
{
    (void)context;
    return mem_alloc(bytes);
}

static void frame_on_free(void *context, void *memory)
{
    (void)context;
    mem_free(memory);
}

static const ZSTD_customMem frame_memory = {frame_on_alloc, frame_on_free, NULL};

struct frame_writer *frame_writer_new(int level)
{
    ASSERT(level >= FRAME_LEVEL_MIN);
    ASSERT(level <= FRAME_LEVEL_MAX);
    struct frame_writer *writer = mem_alloc(sizeof *writer);
    writer->zstd = ZSTD_createCCtx_advanced(frame_memory);
    ASSERT(writer->zstd != NULL);
    size_t result = ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_compressionLevel, level);
    ASSERT(!ZSTD_isError(result));
    result = ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_contentSizeFlag, 1);
    ASSERT(!ZSTD_isError(result));
    result = ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_checksumFlag, 0);
    ASSERT(!ZSTD_isError(result));
    return writer;
}

void frame_writer_free(struct frame_writer *writer)
{
    if (writer != NULL) {
        ZSTD_freeCCtx(writer->zstd);
        mem_free(writer);
    }
}

uint64_t frame_bound(uint64_t raw_bytes)
{
    return ZSTD_compressBound(raw_bytes);
}

int64_t frame_compress(struct frame_writer *writer, uint8_t *to, struct slice raw, struct err *err)
{
    size_t bytes =
        ZSTD_compress2(writer->zstd, to, ZSTD_compressBound(raw.bytes), raw.data, raw.bytes);
    if (ZSTD_isError(bytes)) {
        /* UNTESTED: with room for the bound only memory can be missing, and mem_alloc exits. */
        return err_set(err, -ENOMEM, "compress %zu bytes: %s", raw.bytes, ZSTD_getErrorName(bytes));
    }
    return (int64_t)bytes;
}

struct frame_reader *frame_reader_new(void)
{
    struct frame_reader *reader = mem_alloc(sizeof *reader);
    reader->zstd = ZSTD_createDCtx_advanced(frame_memory);
    ASSERT(reader->zstd != NULL);
    return reader;
}

void frame_reader_free(struct frame_reader *reader)
{
    if (reader != NULL) {
        ZSTD_freeDCtx(reader->zstd);
        mem_free(reader);
    }
}

/* One frame, no more and no less, that says it holds raw_bytes; skippable frames hold nothing and
 * are none of ours. */
static int frame_check(struct slice frame, uint64_t raw_bytes, struct err *err)
{
    static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd}; /* ZSTD_MAGICNUMBER */
    if (frame.bytes < sizeof magic || memcmp(frame.data, magic, sizeof magic) != 0) {
        return err_set(err, ERR_CORRUPT, "frame: wrong magic");
    }
    unsigned long long claimed = ZSTD_getFrameContentSize(frame.data, frame.bytes);
    if (claimed == ZSTD_CONTENTSIZE_ERROR || claimed == ZSTD_CONTENTSIZE_UNKNOWN) {
        return err_set(err, ERR_CORRUPT, "frame: no zstd frame with a content size");
    }
    if (claimed != raw_bytes) {
        return err_set(err, ERR_CORRUPT, "frame: holds %llu bytes where %" PRIu64 " belong",
                       claimed, raw_bytes);
    }
    size_t bytes = ZSTD_findFrameCompressedSize(frame.data, frame.bytes);
    if (ZSTD_isError(bytes) || bytes != frame.bytes) {
        return err_set(err, ERR_CORRUPT, "frame: does not end where it should");
    }
    return 0;
}

int frame_decompress(struct frame_reader *reader, uint8_t *to, uint64_t raw_bytes,
                     struct slice frame, struct err *err)
{
    int result = frame_check(frame, raw_bytes, err);
    if (result < 0) {
        return result;
    }
    size_t bytes = ZSTD_decompressDCtx(reader->zstd, to, raw_bytes, frame.data, frame.bytes);
    if (ZSTD_isError(bytes)) {
        return err_set(err, ERR_CORRUPT, "frame: %s", ZSTD_getErrorName(bytes));
    }
    if (bytes != raw_bytes) {
        /* UNTESTED: zstd holds a frame to the size that it names. */
        return err_set(err, ERR_CORRUPT, "frame: held %zu bytes", bytes);
    }
    return 0;
}
