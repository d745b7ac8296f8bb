/*
 * websocket: RFC 6455 on a connection that server_upgrade has handed over: the handshake, and
 * frames by libwslay. One struct per connection, owned by the shard's thread; pure bytes in, bytes
 * out: it never touches a socket.
 *
 * Messages from the peer: text only (binary: close 1003), whole, at most WEBSOCKET_MESSAGE_MAX
 * (1009), valid UTF-8 (1007), masked (1002). Pings are answered, fragmentation is undone. Faults
 * end with the right close code.
 */
#ifndef NET_WEBSOCKET_H
#define NET_WEBSOCKET_H

#include "core/base.h"
#include "core/buf.h"
#include "net/http_head.h"

#define WEBSOCKET_MESSAGE_MAX  65536u
#define WEBSOCKET_ACCEPT_BYTES 28u /* base64 of a SHA-1 */

/* Is it an upgrade request (RFC 6455 §4.2.1)? Writes the whole 101 response and returns 0; or
 * -EINVAL with fault (400, 426 with the field "Sec-WebSocket-Version: 13" due) filled. extra:
 * further header lines. */
int websocket_accept(const struct http_head *head, const uint8_t *head_base, struct slice extra,
                     struct buf *response, struct http_fault *fault) MUST_USE;

enum websocket_event {
    WEBSOCKET_TEXT = 1, /* a whole message */
    WEBSOCKET_PONG = 2,
    WEBSOCKET_CLOSED = 3, /* the closing handshake is done or a fault was answered: end the stream
                             when output is sent; nothing more comes */
};

struct websocket;
typedef void (*websocket_on_event)(void *context, enum websocket_event event, struct slice data);
/* Output (frames to send) is appended by write. */
typedef void (*websocket_write)(void *context, struct slice bytes);

struct websocket *websocket_new(websocket_on_event on_event, websocket_write write, void *context);
void websocket_free(struct websocket *websocket);
/* Bytes from the peer. */
void websocket_feed(struct websocket *websocket, struct slice bytes);
void websocket_send_ping(struct websocket *websocket);
void websocket_send_close(struct websocket *websocket, uint16_t code, struct slice reason);
/* The header of an unmasked text frame for a payload of that size (at most 10 bytes); the payload
 * follows as it is: tails of records need no copy through the library. Pure. */
size_t websocket_text_header(uint8_t *to, uint64_t payload_bytes);

#endif
