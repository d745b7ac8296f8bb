/*
 * poller_name: the addresses of a host's name, without waiting for the resolver: a thread of its own asks and ends. The poller's thread.
 *
 * A resolver that does not answer cannot be interrupted: a question that is given up is left to its thread, which frees it whenever
 * the answer comes. At most POLLER_NAMES_MAX are being asked at a time, given up or not.
 *
 * (Not getaddrinfo_a: its threads are unknown to sanitizers, which crash in them.)
 */
#ifndef FORWARD_POLLER_NAME_H
#define FORWARD_POLLER_NAME_H

#include "core/buf.h"
#include "core/err.h"

#define POLLER_NAMES_MAX     32u
#define POLLER_ADDRESSES_MAX 8u
#define POLLER_NAME_HOST_MAX 256u

struct poller_name;

/* Whether libpq would have to ask a resolver for it: one name, no address, no directory of a socket. Pure. */
bool poller_name_is_needed(const char *host);
/* -EBUSY: too many questions are being asked. */
int poller_name_open(struct poller_name **name, const char *host, struct err *err) MUST_USE;
/* 1: addresses has them, comma-separated and NUL-terminated, *count of them; 0: not yet; negative: there are none. */
int poller_name_step(struct poller_name *name, struct buf *addresses, unsigned *count,
                     struct err *err) MUST_USE;
void poller_name_close(struct poller_name *name); /* at any time; NULL is fine */

#endif
