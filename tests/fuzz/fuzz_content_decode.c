/*
 * Any bytes as a gzip body (first byte even) or a zstd body (odd). Checked: no output beyond the
 * limits, a status that the contract names, and the same answer from a decoder that has seen other
 * bodies.
 */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "net/content_decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define DECODED_BYTES_MAX (1u << 20)
#define RATIO_MAX         50

static void check(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static uint8_t *grow(void *context, uint8_t *old, size_t used, size_t at_least, size_t *capacity)
{
    (void)context;
    check(at_least > used && at_least <= DECODED_BYTES_MAX);
    uint8_t *data = mem_alloc(at_least);
    if (used > 0) {
        memcpy(data, old, used);
    }
    mem_free(old);
    *capacity = at_least;
    return data;
}

static int decode(struct content_output *out, struct content_decoder *decoder, const uint8_t *data,
                  size_t bytes)
{
    struct http_fault fault = {0, NULL};
    const enum http_coding coding = data[0] % 2 == 0 ? HTTP_CODING_GZIP : HTTP_CODING_ZSTD;
    *out = (struct content_output){
        .bytes_max = DECODED_BYTES_MAX, .ratio_max = RATIO_MAX, .grow = grow};
    const int result =
        content_decode(decoder, coding, (struct slice){data + 1, bytes - 1}, out, &fault);
    check(out->bytes <= out->capacity);
    check(out->bytes <= DECODED_BYTES_MAX && out->bytes <= KIB(64) + RATIO_MAX * (bytes - 1));
    check(result == 0 ? fault.status == 0 : fault.status == 400 || fault.status == 413);
    return result == 0 ? 0 : fault.status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct content_decoder *decoder;
    struct content_output first;
    struct content_output second;
    if (bytes == 0) {
        return 0;
    }
    if (decoder == NULL) {
        decoder = content_decoder_new();
    }
    const int result = decode(&first, decoder, data, bytes);
    check(decode(&second, decoder, data, bytes) == result);
    check(first.bytes == second.bytes);
    check(first.bytes == 0 || memcmp(first.data, second.data, first.bytes) == 0);
    mem_free(first.data);
    mem_free(second.data);
    return 0;
}
