/*
 * listen: from "HOST:PORT" to a listening socket. Start-up only; it may block (name lookup, up to 2
 * s of waiting for an address that a stopping process still holds). Errors name the address as it
 * was written and say what would mend it.
 */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include "core/base.h"
#include "core/err.h"

/* text: "127.0.0.1:8080", "name:8080", "[::1]:8080", ":8080" (every address of this host, both
 * families where it has them). The socket is SO_REUSEPORT, so that each shard has its own, and
 * TCP_NODELAY, which accepted sockets inherit. Returns the descriptor, *port the port really bound;
 * or -errno. */
int listen_open(const char *text, unsigned *port, struct err *err) MUST_USE;

#endif
