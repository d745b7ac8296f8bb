/*
 * content_decode: see the header. Owned by one shard; how it fails: a fault with the status to
 * answer, never an abort.
 *
 * Memory: zlib takes its state and its 32 KiB window from a block inside the decoder, by a bump
 * allocator that never frees (inflateReset keeps both); zstd lives as a static context in a
 * workspace sized for the largest window. Both are part of one allocation at start, of which the
 * kernel charges only what a body has touched.
 *
 * Output goes straight into the caller's memory. It may hold cap bytes: the smaller of the limit
 * and the ratio's allowance. A stream that has filled cap gets one more byte of room, on the stack;
 * if it uses it, it is too long. So the limit is exact and nothing beyond it is ever allocated.
 */
#define ZLIB_CONST               /* next_in points to const */
#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_initStaticDCtx, ZSTD_estimateDStreamSize: in every     \
                                       libzstd since 1.3 */

#include "net/content_decode.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "core/mem.h"

/* zlib 1.2.13 takes 7160 + 32768 bytes; other versions are in the same region. */
#define ZLIB_SCRATCH_BYTES (96 * 1024)
#define GZIP_WINDOW_BITS   (15 + 16) /* the largest window; +16: gzip framing and nothing else */
/* RFC 9659: the content coding zstd means windows of at most 8 MiB. */
#define ZSTD_WINDOW_LOG_MAX 23
#define RATIO_FREE_BYTES    KIB(64)
#define FIRST_BYTES_MIN     4096u
/* A gzip member: 10 bytes of head, 2 of an empty block, 8 of trailer. */
#define GZIP_MEMBER_BYTES_MIN 20

struct content_decoder {
    z_stream zlib;
    ZSTD_DCtx *zstd; /* inside workspace */
    size_t scratch_used;
    _Alignas(16) uint8_t scratch[ZLIB_SCRATCH_BYTES];
    _Alignas(16) uint8_t workspace[]; /* of zstd */
};

/* The state of one body. */
struct decoding {
    struct content_decoder *decoder;
    struct content_output *out;
    struct http_fault *fault;
    const uint8_t *at;
    const uint8_t *end;
    size_t cap;         /* the output may reach it, not pass it */
    bool cap_is_ratio;  /* which of the two limits cap is */
    size_t first_bytes; /* of room to ask for at first */
};

/* Where a decoding step may write: the caller's memory, or the probe byte when cap is reached. */
struct room {
    uint8_t *to;
    size_t bytes;
    uint8_t probe;
};

static voidpf scratch_alloc(voidpf context, uInt count, uInt bytes_each)
{
    struct content_decoder *decoder = context;
    const uint64_t bytes = align_up((uint64_t)count * bytes_each, 16);
    if (bytes > sizeof decoder->scratch - decoder->scratch_used) {
        return Z_NULL; /* UNTESTED: a zlib with a larger state; inflate then says Z_MEM_ERROR */
    }
    void *block = decoder->scratch + decoder->scratch_used;
    decoder->scratch_used += (size_t)bytes;
    return block;
}

static void scratch_free(voidpf context, voidpf block)
{
    (void)context;
    (void)block;
}

static void start_zlib(struct content_decoder *decoder)
{
    decoder->zlib.zalloc = scratch_alloc;
    decoder->zlib.zfree = scratch_free;
    decoder->zlib.opaque = decoder;
    const int result = inflateInit2(&decoder->zlib, GZIP_WINDOW_BITS);
    ASSERT(result == Z_OK);
}

static void start_zstd(struct content_decoder *decoder, size_t workspace_bytes)
{
    decoder->zstd = ZSTD_initStaticDCtx(decoder->workspace, workspace_bytes);
    ASSERT(decoder->zstd != NULL);
    const size_t result =
        ZSTD_DCtx_setParameter(decoder->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    ASSERT(!ZSTD_isError(result));
}

struct content_decoder *content_decoder_new(void)
{
    const size_t workspace_bytes = ZSTD_estimateDStreamSize((size_t)1 << ZSTD_WINDOW_LOG_MAX);
    struct content_decoder *decoder = mem_alloc(sizeof *decoder + workspace_bytes);
    start_zlib(decoder);
    start_zstd(decoder, workspace_bytes);
    return decoder;
}

void content_decoder_free(struct content_decoder *decoder)
{
    if (decoder == NULL) {
        return;
    }
    inflateEnd(&decoder->zlib); /* nothing of the static zstd context needs an end */
    mem_free(decoder);
}

static int decode_fault(const struct decoding *decoding, uint16_t status, const char *text)
{
    *decoding->fault = (struct http_fault){.status = status, .text = text};
    return -1;
}

static int too_long(const struct decoding *decoding)
{
    return decode_fault(decoding, 413,
                        decoding->cap_is_ratio
                            ? "The decoded body is suspiciously larger than what was sent."
                            : "The decoded body is larger than allowed.");
}

static void set_cap(struct decoding *decoding, size_t from_bytes)
{
    const struct content_output *out = decoding->out;
    decoding->cap = out->bytes_max;
    if (out->ratio_max == 0) {
        return;
    }
    uint64_t allowance;
    if (__builtin_mul_overflow((uint64_t)from_bytes, (uint64_t)out->ratio_max, &allowance) ||
        __builtin_add_overflow(allowance, RATIO_FREE_BYTES, &allowance)) {
        return; /* no body can be as large */
    }
    if (allowance < decoding->cap) {
        decoding->cap = (size_t)allowance;
        decoding->cap_is_ratio = true;
    }
}

/* Finds room for the next step: grows the memory when it is full, by doubling, so that the copying
 * stays linear. */
static int find_room(struct decoding *decoding, struct room *room)
{
    struct content_output *out = decoding->out;
    if (out->bytes == decoding->cap) {
        room->to = &room->probe;
        room->bytes = 1;
        return 0;
    }
    if (out->bytes == out->capacity) {
        const uint64_t wish = out->capacity == 0 ? decoding->first_bytes : 2 * out->capacity;
        const size_t at_least = (size_t)u64_min(wish, decoding->cap);
        size_t capacity = 0;
        uint8_t *data = out->grow(out->context, out->data, out->bytes, at_least, &capacity);
        if (data == NULL) {
            return decode_fault(decoding, 503, "There is no memory for the body at the moment.");
        }
        ASSERT(capacity >= at_least);
        out->data = data;
        out->capacity = capacity;
    }
    room->to = out->data + out->bytes;
    room->bytes = (size_t)u64_min(out->capacity, decoding->cap) - out->bytes;
    return 0;
}

/* Counts what a step wrote. */
static int use_room(struct decoding *decoding, const struct room *room, size_t written)
{
    if (written == 0) {
        return 0;
    }
    if (room->to == &room->probe) {
        return too_long(decoding);
    }
    decoding->out->bytes += written;
    return 0;
}

static uint32_t load_le32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* A size that the body claims for itself is a hint, worth one allocation instead of several; cap
 * bounds what a lie costs. */
static void set_first_bytes(struct decoding *decoding, uint64_t claimed)
{
    decoding->first_bytes = (size_t)u64_min(u64_max(claimed, FIRST_BYTES_MIN), decoding->cap);
}

/* One call of inflate: 1 a member ended, 0 go on, -1 fault. avail_in and avail_out have 32 bits, so
 * both are given in parts. */
static int gzip_step(struct decoding *decoding)
{
    z_stream *zlib = &decoding->decoder->zlib;
    struct room room;
    if (find_room(decoding, &room) < 0) {
        return -1;
    }
    const uInt in = (uInt)u64_min((uint64_t)(decoding->end - decoding->at), UINT32_MAX);
    const uInt room_bytes = (uInt)u64_min(room.bytes, UINT32_MAX);
    zlib->next_in = decoding->at;
    zlib->avail_in = in;
    zlib->next_out = room.to;
    zlib->avail_out = room_bytes;
    const int result =
        inflate(zlib, Z_FINISH); /* all input is here: a body that fits needs no window */
    const size_t written = room_bytes - zlib->avail_out;
    decoding->at += in - zlib->avail_in;
    if (use_room(decoding, &room, written) < 0) {
        return -1;
    }
    if (result == Z_STREAM_END) {
        return 1;
    }
    if (result == Z_MEM_ERROR) {
        return decode_fault(
            decoding, 503,
            "There is no memory for the body at the moment."); /* UNTESTED: see scratch_alloc */
    }
    if (result != Z_OK && result != Z_BUF_ERROR) {
        return decode_fault(decoding, 400, "The gzip body is damaged.");
    }
    const bool is_starved = decoding->at == decoding->end && zlib->avail_out > 0;
    return is_starved ? decode_fault(decoding, 400, "The gzip body ends too early.") : 0;
}

/* Bound: each step takes input, fills the room (which doubles up to cap) or ends the body. */
static int decode_gzip(struct decoding *decoding)
{
    z_stream *zlib = &decoding->decoder->zlib;
    const size_t from_bytes = (size_t)(decoding->end - decoding->at);
    if (from_bytes >= GZIP_MEMBER_BYTES_MIN) {
        set_first_bytes(decoding, load_le32(decoding->end - 4));
    }
    do {
        const int reset = inflateReset(zlib);
        ASSERT(reset == Z_OK);
        int result = 0;
        while (result == 0) {
            result = gzip_step(decoding);
        }
        if (result < 0) {
            return result;
        }
    } while (decoding->at < decoding->end);
    return 0;
}

/* One call of ZSTD_decompressStream: 1 a frame ended, 0 go on, -1 fault. */
static int zstd_step(struct decoding *decoding)
{
    struct room room;
    if (find_room(decoding, &room) < 0) {
        return -1;
    }
    ZSTD_inBuffer in = {decoding->at, (size_t)(decoding->end - decoding->at), 0};
    ZSTD_outBuffer to = {room.to, room.bytes, 0};
    const size_t result = ZSTD_decompressStream(decoding->decoder->zstd, &to, &in);
    decoding->at += in.pos;
    if (ZSTD_isError(result)) {
        return ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge
                   ? decode_fault(decoding, 400, "The zstd body needs a window of over 8 MiB.")
                   : decode_fault(decoding, 400, "The zstd body is damaged.");
    }
    if (use_room(decoding, &room, to.pos) < 0) {
        return -1;
    }
    if (result == 0) {
        return 1;
    }
    const bool is_starved = decoding->at == decoding->end && to.pos < to.size;
    return is_starved ? decode_fault(decoding, 400, "The zstd body ends too early.") : 0;
}

/* Bound: as decode_gzip. */
static int decode_zstd(struct decoding *decoding)
{
    const size_t from_bytes = (size_t)(decoding->end - decoding->at);
    const unsigned long long claimed = ZSTD_getFrameContentSize(decoding->at, from_bytes);
    if (claimed != ZSTD_CONTENTSIZE_UNKNOWN && claimed != ZSTD_CONTENTSIZE_ERROR) {
        set_first_bytes(decoding, claimed);
    }
    const size_t reset = ZSTD_DCtx_reset(decoding->decoder->zstd, ZSTD_reset_session_only);
    ASSERT(!ZSTD_isError(reset));
    while (true) {
        const int result = zstd_step(decoding);
        if (result < 0 || (result > 0 && decoding->at == decoding->end)) {
            return result < 0 ? result : 0;
        }
    }
}

int content_decode(struct content_decoder *decoder, enum http_coding coding, struct slice from,
                   struct content_output *out, struct http_fault *fault)
{
    ASSERT(coding == HTTP_CODING_GZIP || coding == HTTP_CODING_ZSTD);
    ASSERT(out->bytes == 0);
    struct decoding decoding = {
        .decoder = decoder,
        .out = out,
        .fault = fault,
        .at = from.data,
        .end = from.data + from.bytes,
    };
    if (from.bytes == 0) {
        return decode_fault(&decoding, 400, "The encoded body is empty.");
    }
    set_cap(&decoding, from.bytes);
    set_first_bytes(&decoding, 2 * (uint64_t)from.bytes);
    return coding == HTTP_CODING_GZIP ? decode_gzip(&decoding) : decode_zstd(&decoding);
}
