/*
 * http_upstream: an HTTP/1.1 server on a thread of its own, for tests of what sends: reads whole requests (Content-Length), asks the
 * test what to do with each, keeps what it was told to store. Real sockets; what a scripted upstream does that a real one does seldom
 * (resets, answers that get lost after the data was stored) can be had here at will.
 */
#ifndef HTTP_UPSTREAM_H
#define HTTP_UPSTREAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UPSTREAM_KEY_BYTES 160

struct upstream_request {
    char key[UPSTREAM_KEY_BYTES]; /* Idempotency-Key; "" without one */
    const char *body;             /* NUL-terminated behind its bytes */
    size_t bytes;
};
struct upstream_reply {
    int status;          /* 0: the connection is reset instead of an answer */
    const char *headers; /* "Retry-After: 1\r\n" or NULL */
    char *body;          /* mem_alloc'd or NULL; the server frees it */
};
/* In the server's thread. */
typedef void (*upstream_script)(void *context, const struct upstream_request *request,
                                struct upstream_reply *reply);

struct http_upstream {
    int listener;
    unsigned port;
    pthread_t thread;
    _Atomic bool must_stop;
    upstream_script script;
    void *context;
};

void http_upstream_start(struct http_upstream *upstream, upstream_script script, void *context);
void http_upstream_stop(struct http_upstream *upstream);

#endif
