/*
 * websocket_accept: the opening handshake of RFC 6455 §4.2, the server's half. Pure, but for what
 * libcrypto allocates for a SHA-1. What the client asks for beyond the protocol itself
 * (subprotocols, extensions) is not taken up, which the absence of their fields in the answer says.
 */
#include "net/websocket.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

enum {
    KEY_BYTES = 24, /* base64 of 16 bytes */
    SHA1_BYTES = 20,
};

static const char accept_guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 §1.3 */

_Static_assert(WEBSOCKET_ACCEPT_BYTES == (SHA1_BYTES + 2) / 3 * 4, "base64 of a SHA-1");

static int accept_fault(struct http_fault *fault, uint16_t status, const char *text)
{
    *fault = (struct http_fault){.status = status, .text = text};
    return -EINVAL;
}

static uint32_t accept_field_count(const struct http_head *head, const uint8_t *base,
                                   struct slice name)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < head->field_count; i++) {
        count += slice_equal_nocase(http_span_slice(base, head->fields[i].name), name);
    }
    return count;
}

static bool accept_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* Whether the comma-separated list names token. Bound: each round takes an element. */
static bool accept_list_has(struct slice list, struct slice token)
{
    size_t at = 0;

    while (at < list.bytes) {
        size_t end = at;
        while (end < list.bytes && list.data[end] != ',') {
            end++;
        }
        size_t last = end;
        while (at < last && accept_is_blank(list.data[at])) {
            at++;
        }
        while (last > at && accept_is_blank(list.data[last - 1])) {
            last--;
        }
        if (slice_equal_nocase((struct slice){list.data + at, last - at}, token)) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

static bool accept_is_base64(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

/* Base64 of 16 bytes: 22 characters, two of padding. The last one carries two bits only, which
 * clients in the wild do not all mind. */
static bool accept_is_key(struct slice key)
{
    if (key.bytes != KEY_BYTES) {
        return false;
    }
    for (size_t i = 0; i < KEY_BYTES - 2; i++) {
        if (!accept_is_base64(key.data[i])) {
            return false;
        }
    }
    return key.data[KEY_BYTES - 2] == '=' && key.data[KEY_BYTES - 1] == '=';
}

/* text has room for WEBSOCKET_ACCEPT_BYTES and a zero. False: libcrypto gives no SHA-1. */
static bool accept_value(struct slice key, uint8_t *text)
{
    uint8_t input[KEY_BYTES + sizeof(accept_guid) - 1];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;

    ASSERT(key.bytes == KEY_BYTES);
    memcpy(input, key.data, KEY_BYTES);
    memcpy(input + KEY_BYTES, accept_guid, sizeof(accept_guid) - 1);
    if (EVP_Digest(input, sizeof(input), digest, &digest_bytes, EVP_sha1(), NULL) != 1) {
        return false;
    }
    ASSERT(digest_bytes == SHA1_BYTES);
    int bytes = EVP_EncodeBlock(text, digest, SHA1_BYTES);
    ASSERT(bytes == (int)WEBSOCKET_ACCEPT_BYTES);
    return true;
}

static int accept_check(const struct http_head *head, const uint8_t *base, struct http_fault *fault)
{
    struct slice upgrade = http_head_field(head, base, "Upgrade");
    struct slice version = http_head_field(head, base, "Sec-WebSocket-Version");

    if (!head->wants_upgrade || !accept_list_has(upgrade, SLICE_LITERAL("websocket"))) {
        return accept_fault(fault, 426, "This resource speaks WebSocket only.");
    }
    if (head->method != HTTP_GET || head->version_minor == 0) {
        return accept_fault(fault, 400, "A WebSocket begins with a GET of HTTP/1.1.");
    }
    if (head->is_chunked || head->content_length > 0) {
        return accept_fault(fault, 400, "A WebSocket handshake has no body.");
    }
    if (!slice_equal(version, SLICE_LITERAL("13"))) {
        return accept_fault(fault, 426, "Sec-WebSocket-Version must be 13.");
    }
    if (accept_field_count(head, base, SLICE_LITERAL("Sec-WebSocket-Key")) != 1 ||
        !accept_is_key(http_head_field(head, base, "Sec-WebSocket-Key"))) {
        return accept_fault(fault, 400,
                            "Sec-WebSocket-Key must be there once, 16 bytes in base64.");
    }
    return 0;
}

int websocket_accept(const struct http_head *head, const uint8_t *head_base, struct slice extra,
                     struct buf *response, struct http_fault *fault)
{
    uint8_t value[WEBSOCKET_ACCEPT_BYTES + 1];
    int r = accept_check(head, head_base, fault);

    if (r < 0) {
        return r;
    }
    if (!accept_value(http_head_field(head, head_base, "Sec-WebSocket-Key"), value)) {
        /* UNTESTED: a libcrypto whose configuration forbids SHA-1 */
        return accept_fault(fault, 501, "This server's libcrypto does not allow SHA-1.");
    }
    buf_put_text(response, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    buf_put(response, value, WEBSOCKET_ACCEPT_BYTES);
    buf_put_text(response, "\r\n");
    buf_put_slice(response, extra);
    buf_put_text(response, "\r\n");
    ASSERT(!response->is_truncated);
    return 0;
}
