/*
 * websocket: RFC 6455 on a connection that server_upgrade has handed over: the handshake, and
 * frames (taken apart by libwslay). One struct per connection, owned by the shard's thread; bytes
 * in, bytes out: it never touches a socket and reads no clock.
 *
 * Messages from the peer: text only (binary: close 1003), whole, at most WEBSOCKET_MESSAGE_MAX
 * (1009), valid UTF-8 (1007), masked (1002). Pings are answered, fragmentation is undone. Faults
 * end with the right close code.
 *
 * Memory: one block per connection, whatever the peer sends; nothing is allocated after
 * websocket_new. Output is not kept here: for each ping the peer may make write be called with up to
 * 127 bytes, so a caller that has no room for them ends the stream.
 */
#ifndef NET_WEBSOCKET_H
#define NET_WEBSOCKET_H

#include "core/base.h"
#include "core/buf.h"
#include "net/http_head.h"

#define WEBSOCKET_MESSAGE_MAX    65536u
#define WEBSOCKET_ACCEPT_BYTES   28u  /* base64 of a SHA-1 */
#define WEBSOCKET_RESPONSE_BYTES 160u /* of the 101 without extra */
#define WEBSOCKET_HEADER_BYTES   10u
/* What an answer with status 426 has to carry. */
#define WEBSOCKET_REQUIRED_FIELDS                                                                  \
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

/* Codes of RFC 6455 §7.4.1 that we send. */
enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_GOING_AWAY = 1001,
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_UNSUPPORTED = 1003,
    WEBSOCKET_NOT_UTF8 = 1007,
    WEBSOCKET_POLICY = 1008,
    WEBSOCKET_TOO_BIG = 1009,
    WEBSOCKET_INTERNAL = 1011,
};

/* ---- websocket_accept.c ---- */

/* Is it an upgrade request (RFC 6455 §4.2.1)? Writes the whole 101 response (response must have room
 * for WEBSOCKET_RESPONSE_BYTES and extra) and returns 0; or -EINVAL with fault filled: 400, or 426
 * (no upgrade at all, or another version), whose answer carries WEBSOCKET_REQUIRED_FIELDS. extra:
 * further header lines, each with CRLF. */
int websocket_accept(const struct http_head *head, const uint8_t *head_base, struct slice extra,
                     struct buf *response, struct http_fault *fault) MUST_USE;

/* ---- websocket.c ---- */

enum websocket_event {
    WEBSOCKET_TEXT = 1, /* a whole message */
    WEBSOCKET_PONG = 2,
    WEBSOCKET_CLOSED = 3, /* the closing handshake is done or a fault was answered: end the stream
                             when output is sent; nothing more comes */
};

struct websocket;
/* data is borrowed until it returns. It may send, but neither feed nor free. */
typedef void (*websocket_on_event)(void *context, enum websocket_event event, struct slice data);
/* Output (frames to send) is appended by write; bytes are borrowed until it returns. */
typedef void (*websocket_write)(void *context, struct slice bytes);

/* NULL: no memory. A cold path that an agent may take: see mem_unlatch_begin. */
struct websocket *websocket_new(websocket_on_event on_event, websocket_write write,
                                void *context) MUST_USE;
void websocket_free(struct websocket *websocket); /* NULL: nothing */
/* Bytes from the peer, in any cuts; after WEBSOCKET_CLOSED they are ignored. */
void websocket_feed(struct websocket *websocket, struct slice bytes);
/* Nothing after a close was sent. */
void websocket_send_ping(struct websocket *websocket);
/* Begins the closing handshake (at most once, reason at most 123 bytes of UTF-8):
 * WEBSOCKET_CLOSED comes when the peer has answered; how long to wait for that is the caller's
 * business. From then on messages of the peer are dropped, and the caller puts no more either. */
void websocket_send_close(struct websocket *websocket, uint16_t code, struct slice reason);
/* A close was sent, by us or in answer to the peer's: nothing may be put any more. */
bool websocket_is_closing(const struct websocket *websocket);
/* The header of an unmasked text frame for a payload of that size (at most WEBSOCKET_HEADER_BYTES);
 * the payload follows as it is: tails of records need no copy through the library. Pure. */
size_t websocket_text_header(uint8_t *to, uint64_t payload_bytes);

#endif
