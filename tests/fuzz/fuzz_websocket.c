/*
 * Any bytes into the WebSocket layer, whole, byte by byte and in cuts that the first byte chooses:
 * the same events and the same output each time, nothing after the end, and what we write is frames
 * that a client would take. The same bytes as a request head into the handshake: an answer or a
 * fault.
 */
#include <stdlib.h>
#include <string.h>

#include "net/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum {
    INPUT_BYTES_MAX = 256 << 10,
    OUT_BYTES = 8 << 20, /* 127 bytes for each ping of 6 and less */
};

struct outcome {
    struct websocket *websocket;
    uint64_t events; /* a hash of kinds, sizes and bytes */
    unsigned event_count;
    bool is_closed;
    size_t out_bytes;
    uint8_t out[OUT_BYTES];
};

static void check(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void hash(uint64_t *state, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        *state = (*state ^ data[i]) * 1099511628211ull;
    }
}

static void on_event(void *context, enum websocket_event event, struct slice data)
{
    struct outcome *outcome = context;

    check(!outcome->is_closed);
    check(data.bytes <= WEBSOCKET_MESSAGE_MAX);
    outcome->event_count++;
    hash(&outcome->events, (const uint8_t *)&event, sizeof(event));
    hash(&outcome->events, (const uint8_t *)&data.bytes, sizeof(data.bytes));
    hash(&outcome->events, data.data, data.bytes);
    outcome->is_closed = event == WEBSOCKET_CLOSED;
}

static void on_write(void *context, struct slice bytes)
{
    struct outcome *outcome = context;

    check(!outcome->is_closed);
    check(outcome->out_bytes + bytes.bytes <= OUT_BYTES);
    memcpy(outcome->out + outcome->out_bytes, bytes.data, bytes.bytes);
    outcome->out_bytes += bytes.bytes;
}

/* Pongs, and at most one close, which is the last: unmasked, whole, short. */
static void check_out(const struct outcome *outcome)
{
    size_t at = 0;

    while (at < outcome->out_bytes) { /* bound: each round takes a frame */
        check(outcome->out_bytes - at >= 2);
        uint8_t first = outcome->out[at];
        size_t payload_bytes = outcome->out[at + 1];
        check(first == 0x8a || first == 0x88);
        check(payload_bytes <= 125);
        at += 2 + payload_bytes;
        check(at <= outcome->out_bytes);
        check(first == 0x8a || (at == outcome->out_bytes && outcome->is_closed));
    }
}

/* seed 0: steps of step; else of random sizes up to step. */
static void run(struct outcome *outcome, const uint8_t *data, size_t bytes, size_t step,
                unsigned seed)
{
    outcome->events = 1469598103934665603ull;
    outcome->event_count = 0;
    outcome->is_closed = false;
    outcome->out_bytes = 0;
    outcome->websocket = websocket_new(on_event, on_write, outcome);
    check(outcome->websocket != NULL);
    for (size_t at = 0; at < bytes;) {
        size_t part = step;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            part = 1 + (seed >> 8) % step;
        }
        part = part < bytes - at ? part : bytes - at;
        websocket_feed(outcome->websocket, (struct slice){data + at, part});
        at += part;
    }
    websocket_free(outcome->websocket);
    check_out(outcome);
}

static void accept(const uint8_t *data, size_t bytes)
{
    static const struct http_limits limits = {16384, 8192, 100, 4096};
    struct http_head head;
    struct http_fault fault = {0};
    struct buf response;
    uint8_t memory[WEBSOCKET_RESPONSE_BYTES];

    if (http_head_parse(&head, data, bytes, 0, &limits, &fault) != 1) {
        return;
    }
    fault = (struct http_fault){0};
    buf_init(&response, memory, sizeof(memory));
    int r = websocket_accept(&head, data, (struct slice){NULL, 0}, &response, &fault);
    check((r == 0) == (fault.status == 0));
    check((r == 0) == (response.bytes > 0));
    check(r == 0 || fault.status == 400 || fault.status == 426);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct outcome whole;
    static struct outcome cut;
    if (bytes < 2 || bytes > INPUT_BYTES_MAX) {
        return 0;
    }
    accept(data, bytes);
    unsigned seed = data[0] + 1u;
    data++;
    bytes--;
    run(&whole, data, bytes, bytes, 0);
    for (unsigned i = 0; i < 2; i++) {
        run(&cut, data, bytes, i == 0 ? 1 : 1 + seed * 20, i == 0 ? 0 : seed);
        check(cut.events == whole.events);
        check(cut.event_count == whole.event_count);
        check(cut.out_bytes == whole.out_bytes);
        check(memcmp(cut.out, whole.out, whole.out_bytes) == 0);
    }
    return 0;
}
