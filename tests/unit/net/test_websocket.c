/*
 * test_websocket: promises of the WebSocket layer. The codec is fed by hand-made frames; the last
 * tests put it on a real server and speak to it with libwslay's client half over a socket.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "core/clock.h"
#include "core/mem.h"
#include "net/websocket.h"
#include "shard_fixture.h"

/* ---- what comes out of a codec ---- */

enum {
    LOG_BYTES = 1 << 20,
    OUT_BYTES = 1 << 20,
    FRAMES_BYTES = 1 << 20,
};

/* Events in order, as text ("text:5:hello ", "pong:0: ", "closed "), and the bytes written. */
struct peer {
    struct websocket *websocket;
    size_t log_bytes;
    size_t out_bytes;
    char log[LOG_BYTES];
    uint8_t out[OUT_BYTES];
};

static void peer_log(struct peer *peer, const char *name, struct slice data)
{
    char head[64];
    int head_bytes = snprintf(head, sizeof(head), "%s:%zu:", name, data.bytes);

    assert_true(peer->log_bytes + (size_t)head_bytes + data.bytes + 2 < LOG_BYTES);
    memcpy(peer->log + peer->log_bytes, head, (size_t)head_bytes);
    peer->log_bytes += (size_t)head_bytes;
    if (data.bytes > 0) {
        memcpy(peer->log + peer->log_bytes, data.data, data.bytes);
    }
    peer->log_bytes += data.bytes;
    peer->log[peer->log_bytes++] = ' ';
    peer->log[peer->log_bytes] = '\0';
}

static void peer_on_event(void *context, enum websocket_event event, struct slice data)
{
    static const char *const names[] = {
        [WEBSOCKET_TEXT] = "text", [WEBSOCKET_PONG] = "pong", [WEBSOCKET_CLOSED] = "closed"};

    peer_log(context, names[event], data);
}

static void peer_write(void *context, struct slice bytes)
{
    struct peer *peer = context;

    assert_true(peer->out_bytes + bytes.bytes <= OUT_BYTES);
    memcpy(peer->out + peer->out_bytes, bytes.data, bytes.bytes);
    peer->out_bytes += bytes.bytes;
}

static struct peer *peer_new(void)
{
    struct peer *peer = mem_alloc(sizeof(*peer));

    peer->websocket = websocket_new(peer_on_event, peer_write, peer);
    assert_non_null(peer->websocket);
    return peer;
}

static void peer_free(struct peer *peer)
{
    websocket_free(peer->websocket);
    mem_free(peer);
}

static void peer_feed(struct peer *peer, const uint8_t *data, size_t bytes, size_t step)
{
    for (size_t at = 0; at < bytes; at += step) {
        size_t part = step < bytes - at ? step : bytes - at;
        /* Its own block, so that a sanitizer sees a byte read beyond it, or after the call. */
        uint8_t *copy = mem_alloc(part);
        memcpy(copy, data + at, part);
        websocket_feed(peer->websocket, (struct slice){copy, part});
        mem_free(copy);
    }
}

/* ---- frames by hand ---- */

struct frames {
    size_t bytes;
    uint8_t data[FRAMES_BYTES];
};

static void frames_put(struct frames *frames, const void *data, size_t bytes)
{
    assert_true(frames->bytes + bytes <= FRAMES_BYTES);
    memcpy(frames->data + frames->bytes, data, bytes);
    frames->bytes += bytes;
}

/* first: FIN, RSV and opcode. */
static void frames_add(struct frames *frames, uint8_t first, const void *payload, size_t bytes)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t header[14] = {first};
    size_t header_bytes = 2;
    size_t length_bytes = bytes < 126 ? 0 : bytes < 65536 ? 2 : 8;

    header[1] = (uint8_t)(0x80 | (length_bytes == 0 ? bytes : length_bytes == 2 ? 126 : 127));
    for (size_t i = 0; i < length_bytes; i++) {
        header[header_bytes++] = (uint8_t)((uint64_t)bytes >> (8 * (length_bytes - 1 - i)));
    }
    memcpy(header + header_bytes, mask, 4);
    frames_put(frames, header, header_bytes + 4);
    size_t at = frames->bytes;
    frames_put(frames, payload, bytes);
    for (size_t i = 0; i < bytes; i++) {
        frames->data[at + i] ^= mask[i % 4];
    }
}

static void frames_text(struct frames *frames, uint8_t first, const char *text)
{
    frames_add(frames, first, text, strlen(text));
}

enum {
    FIN = 0x80,
    MORE = 0,
    OP_CONTINUE = 0,
    OP_TEXT = 1,
    OP_BINARY = 2,
    OP_CLOSE = 8,
    OP_PING = 9,
    OP_PONG = 10,
};

/* Feeds frames whole and byte by byte: both times that log and that output. */
static void expect_both(const struct frames *frames, const char *log, struct slice out)
{
    const size_t steps[] = {FRAMES_BYTES, 1, 3};

    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        struct peer *peer = peer_new();
        peer_feed(peer, frames->data, frames->bytes, steps[i]);
        assert_string_equal(peer->log, log);
        assert_int_equal(peer->out_bytes, out.bytes);
        if (out.bytes > 0) {
            assert_memory_equal(peer->out, out.data, out.bytes);
        }
        peer_free(peer);
    }
}

/* Those frames end with a close frame of that code, and what follows them is ignored. */
static void expect_fault(struct frames *frames, const char *log_before, unsigned code)
{
    const uint8_t out[4] = {0x88, 2, (uint8_t)(code >> 8), (uint8_t)code};
    char log[256];

    frames_text(frames, FIN | OP_TEXT, "nobody reads this");
    frames_text(frames, FIN | OP_PING, "nobody answers this");
    snprintf(log, sizeof(log), "%sclosed:0: ", log_before);
    expect_both(frames, log, (struct slice){out, 4});
    frames->bytes = 0;
}

static struct frames *frames_new(void)
{
    return mem_alloc(sizeof(struct frames));
}

/* ---- the handshake ---- */

static const char handshake[] = "GET /chat HTTP/1.1\r\n"
                                "Host: server.example.com\r\n"
                                "Upgrade: websocket\r\n"
                                "Connection: Upgrade\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                "Origin: http://example.com\r\n"
                                "Sec-WebSocket-Protocol: chat, superchat\r\n"
                                "Sec-WebSocket-Version: 13\r\n\r\n";

static int accept_text(const char *text, struct slice extra, char response[512],
                       struct http_fault *fault)
{
    static const struct http_limits limits = {16384, 8192, 100, 1000};
    struct http_head head;
    struct buf buf;

    assert_int_equal(http_head_parse(&head, (const uint8_t *)text, strlen(text), 0, &limits, fault),
                     1);
    buf_init(&buf, response, WEBSOCKET_RESPONSE_BYTES + extra.bytes);
    int r = websocket_accept(&head, (const uint8_t *)text, extra, &buf, fault);
    response[buf.bytes] = '\0';
    return r;
}

static void handshake_of_rfc_6455_is_answered_as_it_says(void **state)
{
    (void)state;
    char response[512];
    struct http_fault fault;
    assert_int_equal(accept_text(handshake, (struct slice){NULL, 0}, response, &fault), 0);
    assert_string_equal(response, "HTTP/1.1 101 Switching Protocols\r\n"
                                  "Upgrade: websocket\r\n"
                                  "Connection: Upgrade\r\n"
                                  "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    assert_int_equal(accept_text(handshake, SLICE_LITERAL("X-A: b\r\n"), response, &fault), 0);
    assert_non_null(strstr(response, "xOo=\r\nX-A: b\r\n\r\n"));
}

/* The handshake with from replaced by to. */
static void replace(char text[1024], const char *from, const char *to)
{
    const char *at = strstr(handshake, from);

    assert_non_null(at);
    snprintf(text, 1024, "%.*s%s%s", (int)(at - handshake), handshake, to, at + strlen(from));
}

static void handshakes_that_are_none_are_refused_with_their_status(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        unsigned status; /* 0: accepted */
    } cases[] = {
        {"Upgrade: websocket\r\n", "", 426},
        {"Upgrade: websocket\r\n", "Upgrade: websockets\r\n", 426},
        {"Upgrade: websocket\r\n", "Upgrade: h2c , WebSocket\r\n", 0},
        {"Upgrade: websocket\r\n", "Upgrade: h2c\r\n", 426},
        {"Connection: Upgrade\r\n", "", 426},
        {"Connection: Upgrade\r\n", "Connection: keep-alive\r\n", 426},
        {"Connection: Upgrade\r\n", "Connection: keep-alive, upgrade\r\n", 0},
        {"Version: 13", "Version: 8", 426},
        {"Version: 13", "Version: 13, 8", 426},
        {"Sec-WebSocket-Version: 13\r\n", "", 426},
        {"GET ", "POST ", 400},
        {"HTTP/1.1", "HTTP/1.0", 400},
        {"Host:", "Content-Length: 3\r\nHost:", 400},
        {"Host:", "Transfer-Encoding: chunked\r\nHost:", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQQ=", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQQQ", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBs-SBub25jZQ==", 400},
        {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==", 400},
        {"Sec-WebSocket-Key: ",
         "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-key: ", 400},
        {"Sec-WebSocket-Key", "Sec-WebSocket-Kex", 400},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char text[1024];
        char response[512];
        struct http_fault fault = {0};
        replace(text, cases[i].from, cases[i].to);
        int r = accept_text(text, (struct slice){NULL, 0}, response, &fault);
        if (r != (cases[i].status != 0 ? -EINVAL : 0) || fault.status != cases[i].status) {
            fail_msg("%s -> %s: %d, %u", cases[i].from, cases[i].to, r, fault.status);
        }
        assert_true(r == 0 || (response[0] == '\0' && fault.text != NULL));
    }
}

/* ---- messages ---- */

static void masked_text_of_rfc_6455_is_hello(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    frames_put(frames, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
    expect_both(frames, "text:5:Hello ", (struct slice){NULL, 0});
    mem_free(frames);
}

static void messages_of_every_size_arrive_whole(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 2, 124, 125, 126, 127, 4095, 4096, 4097, 65535, 65536};
    struct frames *frames = frames_new();
    char *text = mem_alloc(65536);
    memset(text, 'x', 65536);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        const size_t steps[] = {1, 4096, 5000, FRAMES_BYTES};
        frames->bytes = 0;
        frames_add(frames, FIN | OP_TEXT, text, sizes[i]);
        frames_text(frames, FIN | OP_TEXT, "next");
        for (size_t s = 0; s < ARRAY_COUNT(steps); s++) {
            char head[64];
            struct peer *peer = peer_new();
            int head_bytes = snprintf(head, sizeof(head), "text:%zu:", sizes[i]);
            peer_feed(peer, frames->data, frames->bytes, steps[s]);
            assert_memory_equal(peer->log, head, (size_t)head_bytes);
            assert_memory_equal(peer->log + head_bytes, text, sizes[i]);
            assert_string_equal(peer->log + (size_t)head_bytes + sizes[i], " text:4:next ");
            assert_int_equal(peer->out_bytes, 0);
            peer_free(peer);
        }
    }
    mem_free(text);
    mem_free(frames);
}

static void fragments_are_joined_and_control_frames_come_between(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    frames_text(frames, MORE | OP_TEXT, "Hel");
    frames_text(frames, FIN | OP_PING, "are you there");
    frames_text(frames, MORE | OP_CONTINUE, "");
    frames_text(frames, FIN | OP_PONG, "unasked");
    frames_text(frames, MORE | OP_CONTINUE, "l");
    frames_text(frames, FIN | OP_CONTINUE, "o");
    frames_text(frames, FIN | OP_TEXT, "");
    frames_text(frames, MORE | OP_TEXT, "");
    frames_text(frames, FIN | OP_CONTINUE, "");
    expect_both(frames, "pong:7:unasked text:5:Hello text:0: text:0: ",
                SLICE_LITERAL("\x8a\x0d"
                              "are you there"));
    mem_free(frames);
}

static void pings_are_answered_with_their_payload(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    uint8_t payload[125];
    uint8_t out[2 + 127];
    memset(payload, 0xff, sizeof(payload)); /* need not be text */
    frames_text(frames, FIN | OP_PING, "");
    frames_add(frames, FIN | OP_PING, payload, sizeof(payload));
    memcpy(out, "\x8a\x00\x8a\x7d", 4);
    memcpy(out + 4, payload, sizeof(payload));
    expect_both(frames, "", (struct slice){out, sizeof(out)});
    mem_free(frames);
}

static void breaches_of_the_protocol_close_with_1002(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    char long_payload[126] = {0};
    frames_text(frames, FIN | OP_CONTINUE, "of nothing");
    expect_fault(frames, "", 1002);
    frames_text(frames, MORE | OP_TEXT, "a");
    frames_text(frames, FIN | OP_TEXT, "in a message");
    expect_fault(frames, "", 1002);
    frames_text(frames, FIN | OP_TEXT, "a");
    frames_text(frames, FIN | OP_CONTINUE, "after a message");
    expect_fault(frames, "text:1:a ", 1002);
    for (uint8_t opcode = 3; opcode < 16; opcode++) {
        if (opcode < OP_CLOSE || opcode > OP_PONG) {
            frames_text(frames, (uint8_t)(FIN | opcode), "unknown opcode");
            expect_fault(frames, "", 1002);
        }
    }
    for (uint8_t rsv = 0x10; rsv < 0x80; rsv = (uint8_t)(rsv + 0x10)) {
        frames_text(frames, FIN | OP_TEXT | rsv, "reserved bits");
        expect_fault(frames, "", 1002);
    }
    frames_text(frames, MORE | OP_PING, "a control frame in fragments");
    expect_fault(frames, "", 1002);
    frames_add(frames, FIN | OP_PING, long_payload, sizeof(long_payload));
    expect_fault(frames, "", 1002);
    frames_put(frames, "\x81\x05Hello", 7); /* not masked */
    expect_fault(frames, "", 1002);
    frames_put(frames, "\x89\x00", 2);
    expect_fault(frames, "", 1002);
    frames_put(frames, "\x81\xfe\x00\x7d\0\0\0\0", 8); /* 125 in two bytes */
    expect_fault(frames, "", 1002);
    frames_put(frames, "\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14); /* 65535 in eight */
    expect_fault(frames, "", 1002);
    frames_put(frames, "\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14); /* the highest bit */
    expect_fault(frames, "", 1002);
    mem_free(frames);
}

static void binary_closes_with_1003(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    frames_text(frames, FIN | OP_TEXT, "a");
    frames_text(frames, FIN | OP_BINARY, "b");
    expect_fault(frames, "text:1:a ", 1003);
    frames_text(frames, MORE | OP_BINARY, "");
    expect_fault(frames, "", 1003);
    mem_free(frames);
}

static void text_that_is_not_utf8_closes_with_1007(void **state)
{
    (void)state;
    static const char *const good[] = {
        "\xce\xba\xe1\xbd\xb9", "\xc2\x80",          "\xdf\xbf",     "\xe0\xa0\x80",
        "\xed\x9f\xbf",         "\xee\x80\x80",      "\xef\xbf\xbf", "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",     "a\xe2\x82\xac\x7f",
    };
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2 ",
        "\xe0\x9f\xbf",
        "\xe0\xa0",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xe2\x82",
        "\xe2(\xac",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80",
        "\xff",
        "\xfe",
        "ok\xf0\x9f\x98 no",
    };
    struct frames *frames = frames_new();
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        char log[64];
        snprintf(log, sizeof(log), "text:%zu:%s ", strlen(good[i]), good[i]);
        frames->bytes = 0;
        for (size_t at = 0; at < strlen(good[i]); at++) { /* cut inside the characters */
            uint8_t first = (uint8_t)((at == 0 ? OP_TEXT : OP_CONTINUE) |
                                      (at + 1 == strlen(good[i]) ? FIN : MORE));
            frames_add(frames, first, good[i] + at, 1);
        }
        expect_both(frames, log, (struct slice){NULL, 0});
    }
    frames->bytes = 0;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        frames_text(frames, FIN | OP_TEXT, bad[i]);
        expect_fault(frames, "", 1007);
    }
    mem_free(frames);
}

static void messages_that_are_too_big_close_with_1009(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    char *text = mem_alloc(70000);
    memset(text, 'x', 70000);
    frames_add(frames, FIN | OP_TEXT, text, 65537);
    expect_fault(frames, "", 1009);
    frames_add(frames, MORE | OP_TEXT, text, 40000);
    frames_add(frames, MORE | OP_CONTINUE, text, 25536);
    frames_add(frames, FIN | OP_CONTINUE, text, 1);
    expect_fault(frames, "", 1009);
    frames_put(frames, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0x", 15); /* 2^63 - 1 */
    expect_fault(frames, "", 1009);
    frames_add(frames, MORE | OP_TEXT, text, 1);
    frames_put(frames, "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0x", 15);
    expect_fault(frames, "", 1009);
    mem_free(text);
    mem_free(frames);
}

/* ---- closing ---- */

static void close_of_the_peer_is_answered_with_its_code(void **state)
{
    (void)state;
    const unsigned legal[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                              1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
    const unsigned illegal[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535};
    struct frames *frames = frames_new();
    frames_text(frames, FIN | OP_CLOSE, "");
    expect_both(frames, "closed:0: ", SLICE_LITERAL("\x88\x00"));
    for (size_t i = 0; i < ARRAY_COUNT(legal); i++) {
        char payload[64] = {(char)(legal[i] >> 8), (char)legal[i]};
        frames->bytes = 0;
        frames_add(frames, FIN | OP_CLOSE, payload, 2);
        expect_fault(frames, "", legal[i]); /* the same bytes as a fault's */
        strcpy(payload + 2, "going home \xe2\x82\xac");
        frames_add(frames, FIN | OP_CLOSE, payload, 2 + strlen(payload + 2));
        expect_fault(frames, "", legal[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(illegal); i++) {
        const uint8_t payload[2] = {(uint8_t)(illegal[i] >> 8), (uint8_t)illegal[i]};
        frames_add(frames, FIN | OP_CLOSE, payload, 2);
        expect_fault(frames, "", 1002);
    }
    frames_add(frames, FIN | OP_CLOSE, "\x03", 1);
    expect_fault(frames, "", 1002);
    frames_add(frames, FIN | OP_CLOSE, "\x03\xe8\xff", 3);
    expect_fault(frames, "", 1007);
    mem_free(frames);
}

static void close_of_ours_waits_for_the_peers_and_drops_its_messages(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    struct peer *peer = peer_new();
    websocket_send_ping(peer->websocket);
    assert_false(websocket_is_closing(peer->websocket));
    websocket_send_close(peer->websocket, WEBSOCKET_GOING_AWAY, SLICE_LITERAL("stopping"));
    assert_true(websocket_is_closing(peer->websocket));
    websocket_send_close(peer->websocket, WEBSOCKET_NORMAL, SLICE_LITERAL("again"));
    websocket_send_ping(peer->websocket);
    frames_text(frames, FIN | OP_TEXT, "too late");
    frames_text(frames, FIN | OP_PING, "too late");
    peer_feed(peer, frames->data, frames->bytes, FRAMES_BYTES);
    assert_string_equal(peer->log, "");
    frames->bytes = 0;
    frames_add(frames, FIN | OP_CLOSE, "\x03\xe9", 2);
    peer_feed(peer, frames->data, frames->bytes, FRAMES_BYTES);
    assert_string_equal(peer->log, "closed:0: ");
    peer_feed(peer, frames->data, frames->bytes, 1);
    assert_string_equal(peer->log, "closed:0: ");
    const struct slice out = SLICE_LITERAL("\x89\x00\x88\x0a\x03\xe9stopping");
    assert_int_equal(peer->out_bytes, out.bytes);
    assert_memory_equal(peer->out, out.data, out.bytes);
    peer_free(peer);
    mem_free(frames);
}

static void fault_after_our_close_ends_without_a_second_one(void **state)
{
    (void)state;
    struct frames *frames = frames_new();
    struct peer *peer = peer_new();
    websocket_send_close(peer->websocket, WEBSOCKET_NORMAL, (struct slice){NULL, 0});
    frames_text(frames, FIN | OP_CONTINUE, "of nothing");
    peer_feed(peer, frames->data, frames->bytes, 1);
    assert_string_equal(peer->log, "closed:0: ");
    assert_int_equal(peer->out_bytes, 4);
    peer_free(peer);
    mem_free(frames);
}

/* ---- the cuts ---- */

static unsigned random_below(unsigned *state, unsigned n)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % n;
}

static void random_frames(struct frames *frames, unsigned *state)
{
    static const uint8_t firsts[] = {FIN | OP_TEXT,     MORE | OP_TEXT, MORE | OP_CONTINUE,
                                     FIN | OP_CONTINUE, FIN | OP_PING,  FIN | OP_PONG,
                                     FIN | OP_TEXT,     FIN | OP_TEXT,  FIN | OP_CLOSE};
    static char text[6000];
    memset(text, 'x', sizeof(text));
    frames->bytes = 0;
    for (unsigned n = 1 + random_below(state, 12); n > 0; n--) {
        uint8_t first = firsts[random_below(state, random_below(state, 9) + 1)];
        size_t most = (first & OP_CLOSE) != 0 ? 120 : random_below(state, 3) == 0 ? 6000 : 20;
        frames_add(frames, first, text, random_below(state, (unsigned)most));
    }
    if (random_below(state, 3) == 0) { /* and a byte that is not what it was */
        frames->data[random_below(state, (unsigned)frames->bytes)] ^=
            (uint8_t)(1u << random_below(state, 8));
    }
}

static void any_cuts_give_the_same_events_and_output(void **state)
{
    (void)state;
    unsigned seed = (unsigned)(clock_mono_ns() / 1000);
    struct frames *frames = frames_new();
    printf("seed %u\n", seed);
    for (unsigned round = 0; round < 300; round++) {
        unsigned random = seed + round;
        random_frames(frames, &random);
        struct peer *whole = peer_new();
        peer_feed(whole, frames->data, frames->bytes, FRAMES_BYTES);
        const size_t steps[] = {1, 2, 1 + random_below(&random, 5000)};
        for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
            struct peer *cut = peer_new();
            peer_feed(cut, frames->data, frames->bytes, steps[i]);
            if (strcmp(cut->log, whole->log) != 0 || cut->out_bytes != whole->out_bytes ||
                memcmp(cut->out, whole->out, whole->out_bytes) != 0) {
                fail_msg("seed %u, steps of %zu differ", seed + round, steps[i]);
            }
            peer_free(cut);
        }
        peer_free(whole);
    }
    mem_free(frames);
}

static void text_header_says_the_size_in_the_shortest_form(void **state)
{
    (void)state;
    static const struct {
        uint64_t payload_bytes;
        struct {
            const char *text;
            size_t bytes;
        } header;
    } cases[] = {
        {0, {"\x81\x00", 2}},
        {125, {"\x81\x7d", 2}},
        {126, {"\x81\x7e\x00\x7e", 4}},
        {65535, {"\x81\x7e\xff\xff", 4}},
        {65536, {"\x81\x7f\0\0\0\0\0\x01\0\0", 10}},
        {INT64_MAX, {"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t header[WEBSOCKET_HEADER_BYTES];
        assert_int_equal(websocket_text_header(header, cases[i].payload_bytes),
                         cases[i].header.bytes);
        assert_memory_equal(header, cases[i].header.text, cases[i].header.bytes);
    }
}

/* ---- on a real server ---- */

/* One client at a time: every text is sent back. */
struct echo {
    struct shard_fixture shard;
    struct websocket *websocket;
    struct conn_handle conn;
    _Atomic unsigned texts, pongs, closed, gone, refused;
    _Atomic bool is_pinging;
    _Atomic bool is_stopping;
};

static void echo_put(struct echo *echo, struct slice bytes)
{
    if (bytes.bytes > server_stream_room(echo->shard.server, echo->conn)) {
        server_stream_end(echo->shard.server, echo->conn, true);
        return;
    }
    (void)!server_stream_put(echo->shard.server, echo->conn, bytes);
}

static void echo_write(void *context, struct slice bytes)
{
    echo_put(context, bytes);
}

static void echo_on_event(void *context, enum websocket_event event, struct slice data)
{
    struct echo *echo = context;
    uint8_t header[WEBSOCKET_HEADER_BYTES];

    if (event == WEBSOCKET_TEXT) {
        echo->texts++;
        size_t bytes = websocket_text_header(header, data.bytes);
        echo_put(echo, (struct slice){header, bytes});
        echo_put(echo, data);
    } else if (event == WEBSOCKET_PONG) {
        echo->pongs++;
    } else {
        echo->closed++;
        server_stream_end(echo->shard.server, echo->conn, false);
    }
}

static enum http_verdict echo_on_request(void *context, const struct http_request *request)
{
    struct echo *echo = context;
    struct http_fault fault = {0};
    uint8_t memory[WEBSOCKET_RESPONSE_BYTES];
    struct buf response;

    buf_init(&response, memory, sizeof(memory));
    if (websocket_accept(request->head, request->head_base, (struct slice){NULL, 0}, &response,
                         &fault) < 0) {
        struct http_answer answer = {.status = fault.status,
                                     .extra = SLICE_LITERAL(WEBSOCKET_REQUIRED_FIELDS),
                                     .body = {(const uint8_t *)fault.text, strlen(fault.text)}};
        echo->refused++;
        assert_int_equal(server_answer(echo->shard.server, request->conn, &answer), 0);
        return HTTP_ANSWERED;
    }
    assert_null(echo->websocket);
    echo->conn = request->conn;
    echo->websocket = websocket_new(echo_on_event, echo_write, echo);
    assert_int_equal(server_upgrade(echo->shard.server, request->conn,
                                    (struct slice){response.data, response.bytes}),
                     0);
    return HTTP_ANSWERED;
}

static void echo_on_stream(void *context, struct conn_handle conn, enum stream_event event,
                           struct slice data)
{
    struct echo *echo = context;

    assert_int_equal(conn.index, echo->conn.index);
    if (event == STREAM_DATA) {
        websocket_feed(echo->websocket, data);
    } else if (event == STREAM_GONE) {
        websocket_free(echo->websocket);
        echo->websocket = NULL;
        echo->gone++;
    }
}

static void echo_on_pass(void *context)
{
    struct echo *echo = context;

    if (echo->websocket != NULL && echo->is_pinging) {
        echo->is_pinging = false;
        websocket_send_ping(echo->websocket);
    }
    if (echo->websocket != NULL && echo->is_stopping) {
        echo->is_stopping = false;
        websocket_send_close(echo->websocket, WEBSOCKET_GOING_AWAY, SLICE_LITERAL("stopping"));
    }
}

static struct echo *echo_start(void)
{
    struct echo *echo = mem_alloc(sizeof(*echo));

    shard_init(&echo->shard);
    echo->shard.options.recv_buffer_bytes = 512;
    echo->shard.callbacks = (struct server_callbacks){
        .context = echo, .on_request = echo_on_request, .on_stream = echo_on_stream};
    echo->shard.on_pass = echo_on_pass;
    shard_up(&echo->shard);
    return echo;
}

static void echo_stop(struct echo *echo)
{
    shard_down(&echo->shard);
    mem_free(echo);
}

/* libwslay's client half on a blocking socket. */
struct caller {
    int fd;
    wslay_event_context_ptr events;
    bool is_polling;
    unsigned pings;
    size_t text_bytes;
    char text[70000];
};

static ssize_t caller_on_recv(wslay_event_context_ptr events, uint8_t *to, size_t bytes, int flags,
                              void *context)
{
    struct caller *caller = context;
    ssize_t n = recv(caller->fd, to, bytes, flags | (caller->is_polling ? MSG_DONTWAIT : 0));

    caller->is_polling = true;
    if (n <= 0) {
        bool would_block = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        wslay_event_set_error(events,
                              would_block ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
    }
    return n;
}

static ssize_t caller_on_send(wslay_event_context_ptr events, const uint8_t *data, size_t bytes,
                              int flags, void *context)
{
    struct caller *caller = context;

    (void)events;
    (void)flags;
    return send(caller->fd, data, bytes, MSG_NOSIGNAL);
}

static int caller_on_mask(wslay_event_context_ptr events, uint8_t *mask, size_t bytes,
                          void *context)
{
    (void)events;
    (void)context;
    for (size_t i = 0; i < bytes; i++) {
        mask[i] = (uint8_t)random();
    }
    return 0;
}

static void caller_on_message(wslay_event_context_ptr events,
                              const struct wslay_event_on_msg_recv_arg *message, void *context)
{
    struct caller *caller = context;

    (void)events;
    if (message->opcode == WSLAY_TEXT_FRAME) {
        assert_true(message->msg_length <= sizeof(caller->text));
        if (message->msg_length > 0) {
            memcpy(caller->text, message->msg, message->msg_length);
        }
        caller->text_bytes = message->msg_length;
    }
    caller->pings += message->opcode == WSLAY_PING;
}

static struct caller *caller_open(struct echo *echo)
{
    static const struct wslay_event_callbacks callbacks = {.recv_callback = caller_on_recv,
                                                           .send_callback = caller_on_send,
                                                           .genmask_callback = caller_on_mask,
                                                           .on_msg_recv_callback =
                                                               caller_on_message};
    struct caller *caller = mem_alloc(sizeof(*caller));
    char answer[1024];
    size_t bytes = 0;

    caller->fd = shard_connect(&echo->shard, 0);
    assert_true(shard_send(caller->fd, handshake, sizeof(handshake) - 1));
    while (memmem(answer, bytes, "\r\n\r\n", 4) == NULL) {
        ssize_t n = recv(caller->fd, answer + bytes, 1, 0);
        assert_int_equal(n, 1);
        bytes++;
        assert_true(bytes < sizeof(answer));
    }
    answer[bytes] = '\0';
    assert_non_null(strstr(answer, " 101 "));
    assert_non_null(strstr(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_int_equal(wslay_event_context_client_init(&caller->events, &callbacks, caller), 0);
    return caller;
}

static void caller_close(struct caller *caller)
{
    wslay_event_context_free(caller->events);
    close(caller->fd);
    mem_free(caller);
}

static void caller_receive(struct caller *caller)
{
    caller->is_polling = false;
    assert_int_equal(wslay_event_recv(caller->events), 0);
    assert_int_equal(wslay_event_send(caller->events), 0); /* pongs, closes */
}

static void caller_say(struct caller *caller, const char *text, size_t bytes)
{
    struct wslay_event_msg message = {WSLAY_TEXT_FRAME, (const uint8_t *)text, bytes};

    caller->text_bytes = SIZE_MAX;
    assert_int_equal(wslay_event_queue_msg(caller->events, &message), 0);
    assert_int_equal(wslay_event_send(caller->events), 0);
}

static void client_of_another_make_is_served(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 125, 126, 511, 512, 513, 65535, 65536};
    struct echo *echo = echo_start();
    struct caller *caller = caller_open(echo);
    char *text = mem_alloc(65536);
    for (size_t i = 0; i < 65536; i++) {
        text[i] = (char)('a' + i % 23);
    }
    for (size_t i = 0; i < 40 * ARRAY_COUNT(sizes); i++) {
        size_t bytes = sizes[i % ARRAY_COUNT(sizes)];
        caller_say(caller, text, bytes);
        if (i % 50 == 49) {
            /* Seen by some later pass; only the shard's thread takes it back. */
            echo->is_pinging = true;
        }
        while (caller->text_bytes == SIZE_MAX) {
            caller_receive(caller);
        }
        assert_int_equal(caller->text_bytes, bytes);
        assert_memory_equal(caller->text, text, bytes);
    }
    while (caller->pings < 7) {
        caller_receive(caller);
    }
    SHARD_EVENTUALLY(echo->pongs == 7);
    assert_int_equal(wslay_event_queue_close(caller->events, 1000, NULL, 0), 0);
    assert_int_equal(wslay_event_send(caller->events), 0);
    caller_receive(caller);
    assert_int_equal(wslay_event_get_status_code_received(caller->events), 1000);
    char more = 0;
    assert_int_equal(recv(caller->fd, &more, 1, 0), 0); /* the server closes */
    SHARD_EVENTUALLY(echo->gone == 1);
    assert_int_equal(echo->closed, 1);
    caller_close(caller);
    mem_free(text);
    SHARD_EVENTUALLY(SHARD_STAT(&echo->shard, open_connections) == 0);
    SHARD_EVENTUALLY(echo->shard.arena_used == 0);
    echo_stop(echo);
}

static void server_that_stops_says_so_and_ends_after_the_answer(void **state)
{
    (void)state;
    struct echo *echo = echo_start();
    struct caller *caller = caller_open(echo);
    echo->is_stopping = true;
    echo->shard.is_draining = true;
    caller_receive(caller);
    assert_int_equal(wslay_event_get_status_code_received(caller->events), 1001);
    SHARD_EVENTUALLY(echo->gone == 1);
    caller_close(caller);
    SHARD_EVENTUALLY(echo->shard.is_drained);
    echo_stop(echo);
}

static void client_that_breaks_the_protocol_hears_why(void **state)
{
    (void)state;
    struct echo *echo = echo_start();
    for (unsigned i = 0; i < 5; i++) { /* each in the slot of the one before */
        struct caller *caller = caller_open(echo);
        assert_true(shard_send(caller->fd, "\x81\x05Hello", 7));
        caller_receive(caller);
        assert_int_equal(wslay_event_get_status_code_received(caller->events), 1002);
        SHARD_EVENTUALLY(echo->gone == i + 1);
        caller_close(caller);
    }
    assert_int_equal(echo->texts, 0);
    echo_stop(echo);
}

static void plain_request_hears_426_and_what_is_required(void **state)
{
    (void)state;
    static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    struct echo *echo = echo_start();
    int fd = shard_connect(&echo->shard, 0);
    char answer[1024] = "";
    assert_true(shard_send(fd, request, sizeof(request) - 1));
    assert_true(recv(fd, answer, sizeof(answer) - 1, 0) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 426 Upgrade Required\r\n"));
    assert_non_null(strstr(answer, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(answer, "\r\nSec-WebSocket-Version: 13\r\n"));
    close(fd);
    echo_stop(echo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshake_of_rfc_6455_is_answered_as_it_says),
        cmocka_unit_test(handshakes_that_are_none_are_refused_with_their_status),
        cmocka_unit_test(masked_text_of_rfc_6455_is_hello),
        cmocka_unit_test(messages_of_every_size_arrive_whole),
        cmocka_unit_test(fragments_are_joined_and_control_frames_come_between),
        cmocka_unit_test(pings_are_answered_with_their_payload),
        cmocka_unit_test(breaches_of_the_protocol_close_with_1002),
        cmocka_unit_test(binary_closes_with_1003),
        cmocka_unit_test(text_that_is_not_utf8_closes_with_1007),
        cmocka_unit_test(messages_that_are_too_big_close_with_1009),
        cmocka_unit_test(close_of_the_peer_is_answered_with_its_code),
        cmocka_unit_test(close_of_ours_waits_for_the_peers_and_drops_its_messages),
        cmocka_unit_test(fault_after_our_close_ends_without_a_second_one),
        cmocka_unit_test(any_cuts_give_the_same_events_and_output),
        cmocka_unit_test(text_header_says_the_size_in_the_shortest_form),
        cmocka_unit_test(client_of_another_make_is_served),
        cmocka_unit_test(server_that_stops_says_so_and_ends_after_the_answer),
        cmocka_unit_test(client_that_breaks_the_protocol_hears_why),
        cmocka_unit_test(plain_request_hears_426_and_what_is_required),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
