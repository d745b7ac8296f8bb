/*
 * Any bytes into the chunked decoder, whole and byte by byte: the same body, end and fault both
 * times; in place both times.
 */
#include <stdlib.h>
#include <string.h>

#include "net/http_chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define INPUT_BYTES_MAX (64u << 10)

static const struct http_limits limits = {256, 512, 20, 4096};

struct outcome {
    enum chunked_result result;
    size_t taken;
    size_t given;
    uint16_t status;
    uint8_t memory[INPUT_BYTES_MAX];
};

static void check(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void decode(struct outcome *outcome, const uint8_t *data, size_t bytes, size_t step)
{
    struct http_chunked chunked;
    struct http_fault fault = {0, NULL};
    http_chunked_init(&chunked, &limits);
    memcpy(outcome->memory, data, bytes);
    outcome->result = CHUNKED_MORE;
    outcome->taken = 0;
    outcome->given = 0;
    while (outcome->taken < bytes && outcome->result == CHUNKED_MORE) {
        const size_t left = bytes - outcome->taken;
        size_t taken = 0;
        size_t given = 0;
        outcome->result = http_chunked_decode(&chunked, outcome->memory + outcome->given,
                                              outcome->memory + outcome->taken,
                                              left < step ? left : step, &taken, &given, &fault);
        check(given <= taken && taken > 0 && taken <= left);
        outcome->taken += taken;
        outcome->given += given;
    }
    outcome->status = fault.status;
    check(outcome->given == chunked.body_bytes);
    check(chunked.body_bytes <= limits.body_bytes_max);
    check((outcome->result == CHUNKED_FAULT) == (fault.status != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct outcome whole;
    static struct outcome pieces;
    if (bytes == 0 || bytes > INPUT_BYTES_MAX) {
        return 0;
    }
    decode(&whole, data, bytes, bytes);
    decode(&pieces, data, bytes, 1);
    check(whole.result == pieces.result);
    check(whole.taken == pieces.taken);
    check(whole.given == pieces.given);
    check(whole.status == pieces.status);
    check(memcmp(whole.memory, pieces.memory, whole.given) == 0);
    return 0;
}
