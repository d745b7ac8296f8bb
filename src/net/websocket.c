/*
 * websocket: frames of RFC 6455, the server's half. libwslay takes the peer's bytes apart into
 * frames (lengths, unmasking); what frames mean together (messages, control frames, faults) is here,
 * so that memory is bounded and every fault has its close code. Owned by the shard's thread.
 *
 * Normal run: feed lends its bytes to the library, takes frame parts out, gathers text in message and
 * hands it over when its last frame has ended; pings are answered at once; the peer's close is
 * answered and WEBSOCKET_CLOSED ends everything. What goes wrong: any breach of the protocol is
 * answered with a close frame that says which, and ends everything. On close by us: what the peer
 * still says is checked and dropped until its close comes.
 */
#include "net/websocket.h"

#include <string.h>
#include <wslay/wslay.h>

#include "core/mem.h"

enum {
    CONTROL_MAX = 125,
    CODE_BYTES = 2,
};

struct websocket {
    websocket_on_event on_event;
    websocket_write write;
    void *context;
    wslay_frame_context_ptr frames;
    struct slice input; /* of the feed going on, not yet taken by the library */
    bool is_feeding;
    bool is_close_sent;
    bool is_closed; /* WEBSOCKET_CLOSED was told */

    bool is_in_frame;
    uint64_t frame_taken; /* bytes of the frame's payload seen */
    bool is_in_message;   /* a text message has begun and its last frame has not ended */
    size_t message_bytes;
    size_t control_bytes;
    uint8_t control[CONTROL_MAX];
    uint8_t message[WEBSOCKET_MESSAGE_MAX];
};

/* ---- output ---- */

static size_t websocket_header(uint8_t *to, uint8_t opcode, uint64_t payload_bytes)
{
    size_t length_bytes = payload_bytes <= CONTROL_MAX ? 0 : payload_bytes <= UINT16_MAX ? 2 : 8;

    to[0] = (uint8_t)(0x80u | opcode); /* FIN: never fragmented */
    to[1] = length_bytes == 0 ? (uint8_t)payload_bytes : length_bytes == 2 ? 126 : 127;
    for (size_t i = 0; i < length_bytes; i++) {
        to[2 + i] = (uint8_t)(payload_bytes >> (8 * (length_bytes - 1 - i)));
    }
    return 2 + length_bytes;
}

size_t websocket_text_header(uint8_t *to, uint64_t payload_bytes)
{
    ASSERT(payload_bytes <= INT64_MAX);
    return websocket_header(to, WSLAY_TEXT_FRAME, payload_bytes);
}

static void websocket_put_control(struct websocket *websocket, uint8_t opcode, struct slice payload)
{
    uint8_t frame[WEBSOCKET_HEADER_BYTES + CONTROL_MAX];

    ASSERT(payload.bytes <= CONTROL_MAX);
    if (websocket->is_close_sent) {
        return;
    }
    size_t header_bytes = websocket_header(frame, opcode, payload.bytes);
    if (payload.bytes > 0) {
        memcpy(frame + header_bytes, payload.data, payload.bytes);
    }
    websocket->is_close_sent = opcode == WSLAY_CONNECTION_CLOSE;
    websocket->write(websocket->context, (struct slice){frame, header_bytes + payload.bytes});
}

void websocket_send_ping(struct websocket *websocket)
{
    websocket_put_control(websocket, WSLAY_PING, (struct slice){NULL, 0});
}

void websocket_send_close(struct websocket *websocket, uint16_t code, struct slice reason)
{
    uint8_t payload[CONTROL_MAX];

    ASSERT(reason.bytes <= CONTROL_MAX - CODE_BYTES);
    payload[0] = (uint8_t)(code >> 8);
    payload[1] = (uint8_t)code;
    if (reason.bytes > 0) {
        memcpy(payload + CODE_BYTES, reason.data, reason.bytes);
    }
    websocket_put_control(websocket, WSLAY_CONNECTION_CLOSE,
                          (struct slice){payload, CODE_BYTES + reason.bytes});
}

bool websocket_is_closing(const struct websocket *websocket)
{
    return websocket->is_close_sent;
}

/* ---- what frames mean ---- */

static void websocket_end(struct websocket *websocket)
{
    ASSERT(!websocket->is_closed);
    websocket->is_closed = true;
    websocket->on_event(websocket->context, WEBSOCKET_CLOSED, (struct slice){NULL, 0});
}

static void websocket_fault(struct websocket *websocket, enum websocket_code code)
{
    websocket_send_close(websocket, (uint16_t)code, (struct slice){NULL, 0});
    websocket_end(websocket);
}

/* Length of the valid sequence at p (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing
 * above U+10FFFF); 0: none. */
static size_t websocket_utf8_sequence(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    size_t bytes = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (lead > 0xf4 || bytes == 0 || bytes > left) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_wrong = (lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) ||
                    (lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] > 0x8f);
    return is_wrong ? 0 : bytes;
}

static bool websocket_is_utf8(struct slice text)
{
    size_t at = 0;

    while (at < text.bytes) { /* bound: each round takes at least a byte */
        size_t sequence = websocket_utf8_sequence(text.data + at, text.bytes - at);
        if (sequence == 0) {
            return false;
        }
        at += sequence;
    }
    return true;
}

/* What a peer may send in a close frame: §7.4.1, IANA's 1012 to 1014, and the two free ranges. */
static bool websocket_is_code(unsigned code)
{
    bool is_reserved = code == 1004 || code == 1005 || code == 1006;

    return (code >= 1000 && code <= 1014 && !is_reserved) || (code >= 3000 && code <= 4999);
}

static void websocket_on_close(struct websocket *websocket)
{
    struct slice payload = {websocket->control, websocket->control_bytes};

    if (payload.bytes == 0) {
        websocket_put_control(websocket, WSLAY_CONNECTION_CLOSE, payload);
        websocket_end(websocket);
        return;
    }
    if (payload.bytes < CODE_BYTES ||
        !websocket_is_code((unsigned)payload.data[0] << 8 | payload.data[1])) {
        websocket_fault(websocket, WEBSOCKET_PROTOCOL_ERROR);
        return;
    }
    struct slice reason = {payload.data + CODE_BYTES, payload.bytes - CODE_BYTES};
    if (!websocket_is_utf8(reason)) {
        websocket_fault(websocket, WEBSOCKET_NOT_UTF8);
        return;
    }
    payload.bytes = CODE_BYTES; /* the code goes back, the reason need not */
    websocket_put_control(websocket, WSLAY_CONNECTION_CLOSE, payload);
    websocket_end(websocket);
}

static void websocket_on_text(struct websocket *websocket)
{
    struct slice message = {websocket->message, websocket->message_bytes};

    websocket->is_in_message = false;
    if (!websocket_is_utf8(message)) {
        websocket_fault(websocket, WEBSOCKET_NOT_UTF8);
    } else if (!websocket->is_close_sent) {
        websocket->on_event(websocket->context, WEBSOCKET_TEXT, message);
    }
}

/* The first part of a frame: may it come, here and now? 0, or the code of the fault. */
static unsigned websocket_check(const struct websocket *websocket,
                                const struct wslay_frame_iocb *frame)
{
    if (frame->mask == 0 || frame->rsv != WSLAY_RSV_NONE) {
        return WEBSOCKET_PROTOCOL_ERROR;
    }
    if (frame->opcode == WSLAY_CONNECTION_CLOSE || frame->opcode == WSLAY_PING ||
        frame->opcode == WSLAY_PONG) {
        bool is_legal = frame->fin != 0 && frame->payload_length <= CONTROL_MAX;
        return is_legal ? 0 : WEBSOCKET_PROTOCOL_ERROR;
    }
    if (frame->opcode > WSLAY_BINARY_FRAME ||
        websocket->is_in_message != (frame->opcode == WSLAY_CONTINUATION_FRAME)) {
        return WEBSOCKET_PROTOCOL_ERROR;
    }
    if (frame->opcode == WSLAY_BINARY_FRAME) {
        return WEBSOCKET_UNSUPPORTED;
    }
    size_t before = frame->opcode == WSLAY_TEXT_FRAME ? 0 : websocket->message_bytes;
    return frame->payload_length > WEBSOCKET_MESSAGE_MAX - before ? WEBSOCKET_TOO_BIG : 0;
}

static bool websocket_is_control(const struct wslay_frame_iocb *frame)
{
    return wslay_is_ctrl_frame(frame->opcode) != 0;
}

static void websocket_begin_frame(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
    websocket->is_in_frame = true;
    websocket->frame_taken = 0;
    if (websocket_is_control(frame)) {
        websocket->control_bytes = 0;
    } else if (frame->opcode == WSLAY_TEXT_FRAME) {
        websocket->is_in_message = true;
        websocket->message_bytes = 0;
    }
}

static void websocket_gather(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
    bool is_control = websocket_is_control(frame);
    size_t *bytes = is_control ? &websocket->control_bytes : &websocket->message_bytes;
    size_t capacity = is_control ? sizeof(websocket->control) : sizeof(websocket->message);

    websocket->frame_taken += frame->data_length;
    ASSERT(websocket->frame_taken <= frame->payload_length);
    ASSERT(frame->data_length <= capacity - *bytes); /* websocket_check has seen to it */
    if (frame->data_length > 0) {
        memcpy((is_control ? websocket->control : websocket->message) + *bytes, frame->data,
               frame->data_length);
        *bytes += frame->data_length;
    }
}

static void websocket_end_frame(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
    struct slice control = {websocket->control, websocket->control_bytes};

    websocket->is_in_frame = false;
    if (frame->opcode == WSLAY_CONNECTION_CLOSE) {
        websocket_on_close(websocket);
    } else if (frame->opcode == WSLAY_PING) {
        websocket_put_control(websocket, WSLAY_PONG, control);
    } else if (frame->opcode == WSLAY_PONG) {
        websocket->on_event(websocket->context, WEBSOCKET_PONG, control);
    } else if (frame->fin != 0) {
        websocket_on_text(websocket);
    }
}

static void websocket_take_part(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
    if (!websocket->is_in_frame) {
        unsigned code = websocket_check(websocket, frame);
        if (code != 0) {
            websocket_fault(websocket, (enum websocket_code)code);
            return;
        }
        websocket_begin_frame(websocket, frame);
    }
    websocket_gather(websocket, frame);
    if (websocket->frame_taken == frame->payload_length) {
        websocket_end_frame(websocket, frame);
    }
}

/* ---- input ---- */

/* The library asks for bytes. */
static ssize_t websocket_on_recv(uint8_t *to, size_t bytes, int flags, void *context)
{
    struct websocket *websocket = context;
    size_t part = u64_min(bytes, websocket->input.bytes);

    (void)flags;
    if (part == 0) {
        return -1; /* none at the moment: it says WSLAY_ERR_WANT_READ */
    }
    memcpy(to, websocket->input.data, part);
    websocket->input.data += part;
    websocket->input.bytes -= part;
    return (ssize_t)part;
}

void websocket_feed(struct websocket *websocket, struct slice bytes)
{
    ASSERT(!websocket->is_feeding);
    websocket->is_feeding = true;
    websocket->input = bytes;
    while (!websocket->is_closed) { /* bound: each round takes bytes, or ends */
        struct wslay_frame_iocb frame = {0};
        ssize_t n = wslay_frame_recv(websocket->frames, &frame);
        if (n == WSLAY_ERR_WANT_READ) {
            if (websocket->input.bytes == 0) {
                break;
            }
            continue; /* it wanted more than was left in its own buffer, and there is more */
        }
        if (n < 0) {
            websocket_fault(websocket, WEBSOCKET_PROTOCOL_ERROR);
            break;
        }
        websocket_take_part(websocket, &frame);
    }
    websocket->input = (struct slice){NULL, 0};
    websocket->is_feeding = false;
}

/* ---- life ---- */

struct websocket *websocket_new(websocket_on_event on_event, websocket_write write, void *context)
{
    const struct wslay_frame_callbacks callbacks = {.recv_callback = websocket_on_recv};

    mem_unlatch_begin(); /* once per upgraded connection, which are few; bounded */
    struct websocket *websocket = mem_map(sizeof(*websocket)); /* message: charged when touched */
    mem_unlatch_end();
    if (websocket == NULL) {
        return NULL;
    }
    websocket->on_event = on_event;
    websocket->write = write;
    websocket->context = context;
    if (wslay_frame_context_init(&websocket->frames, &callbacks, websocket) != 0) {
        mem_unmap(websocket, sizeof(*websocket)); /* UNTESTED: malloc fails in the library */
        return NULL;
    }
    return websocket;
}

void websocket_free(struct websocket *websocket)
{
    if (websocket == NULL) {
        return;
    }
    ASSERT(!websocket->is_feeding);
    wslay_frame_context_free(websocket->frames);
    mem_unmap(websocket, sizeof(*websocket));
}
