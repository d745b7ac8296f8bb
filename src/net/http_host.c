/*
 * http_host: the grammar of Host and of an authority: uri-host [":" port] (RFC 9110 §7.2, RFC 3986
 * §3.2.2). Pure.
 *
 * Stricter than the RFC in three places: no user information, no IPvFuture or zone, a port is at
 * most 65535. An empty host is refused, because an http URL must not have one (RFC 9110 §4.2.1).
 */
#include <arpa/inet.h>
#include <string.h>

#include "net/http_chars.h"
#include "net/http_walk.h"

/* The longest text inet_pton takes for an IPv6 address is that of INET6_ADDRSTRLEN, with its NUL.
 */
static bool is_ipv6(const uint8_t *text, size_t bytes)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (bytes >= sizeof copy) {
        return false;
    }
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return strlen(copy) == bytes && inet_pton(AF_INET6, copy, &address) == 1;
}

/* *DIGIT: an empty port is the default one (RFC 3986 §3.2.3). */
static bool is_port(const uint8_t *at, const uint8_t *end)
{
    uint32_t port = 0;
    if (end - at > 5) {
        return false;
    }
    for (; at < end; at++) {
        if (!http_char_is(*at, HTTP_CHAR_DIGIT)) {
            return false;
        }
        port = port * 10 + (uint32_t)(*at - '0');
    }
    return port <= 65535;
}

/* The end of the registered name (an IPv4 address is one, too) at the start of [at, end), or NULL.
 */
static const uint8_t *reg_name_end(const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at != ':') {
        if (LIKELY(http_char_is(*at, HTTP_CHAR_REG_NAME))) {
            at++;
            continue;
        }
        const bool is_encoded = *at == '%' && end - at >= 3 && http_char_is(at[1], HTTP_CHAR_HEX) &&
                                http_char_is(at[2], HTTP_CHAR_HEX);
        if (!is_encoded) {
            return NULL;
        }
        at += 3;
    }
    return at;
}

static const uint8_t *literal_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *close = memchr(at, ']', (size_t)(end - at));
    if (close == NULL || !is_ipv6(at + 1, (size_t)(close - at - 1))) {
        return NULL;
    }
    return close + 1;
}

bool http_host_is_valid(struct slice host)
{
    if (host.bytes == 0) {
        return false;
    }
    const uint8_t *end = host.data + host.bytes;
    const uint8_t *name_end =
        host.data[0] == '[' ? literal_end(host.data, end) : reg_name_end(host.data, end);
    if (name_end == NULL || name_end == host.data) {
        return false;
    }
    if (name_end == end) {
        return true;
    }
    return *name_end == ':' && is_port(name_end + 1, end);
}
