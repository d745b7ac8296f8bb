/*
 * transport: requests to upstreams over libcurl's multi interface: all sinks of the process on one thread (the
 * forwarder), none waiting for another. Keep-alive, HTTP/1.1, no redirects, no proxies but those of the
 * environment, http and https only, TLS by the sink's files, SigV4 by libcurl, no Expect: 100-continue, answers
 * kept up to ANSWER_BYTES_MAX.
 *
 * One owner: the forwarder's thread (or a tool's). The process must ignore SIGPIPE.
 *
 * sinks of type file are served by transport_file.c behind the same calls: a thread for each, because a slow disk
 * may hold only its own sink.
 */
#ifndef FORWARD_TRANSPORT_H
#define FORWARD_TRANSPORT_H

#include "forward/protocol.h"

struct transport;

struct transport_request {
    const struct encoder *
        encoder; /* ended; borrowed until the answer: url, headers, method come from its protocol */
    const char *key;                   /* Idempotency-Key; borrowed until the answer */
    struct slice body;                 /* as it goes over the wire; borrowed until the answer */
    enum sink_compression compression; /* of body: Content-Encoding */
    const char *target; /* file: where the batch begins, see transport_target; NULL else */
    /* Called from transport_run, once for each transport_send that returned 0. The answer is borrowed until it returns. It
     * may call transport_send (its own request counts as ended), but not transport_run or transport_close. */
    void (*on_answer)(void *context, const struct upstream_answer *answer);
    void *context;
};

/* sinks: all of the configuration, borrowed for the transport's life. Reads secrets from their files; a file that
 * cannot be read, or that others may read, is an error that names sink and file. */
int transport_open(struct transport **transport, const struct config_sink *sinks,
                   unsigned sink_count, struct err *err) MUST_USE;
/* Ends what is under way without an answer: on_answer is not called any more. NULL is fine. */
void transport_close(struct transport *transport);
/* 0: under way. Negative: refused by ourselves (err says why), on_answer is not called. -EAGAIN: the sink has as many
 * requests under way as it has connections. sink->timeout_ns is the time for an answer; a large body gets a second more for
 * each MiB. An upstream that refuses (4xx, 5xx) before it has read the whole body has answered, even if it then resets. */
int transport_send(struct transport *transport, unsigned sink_index,
                   const struct transport_request *request, struct err *err) MUST_USE;
/* Works for at most timeout_ms, sleeping in poll when there is nothing to do; returns early on an answer or
 * transport_wake. */
void transport_run(struct transport *transport, unsigned timeout_ms);
/* Any thread. */
void transport_wake(struct transport *transport);
/* Reads the secrets anew (SIGHUP). A failure keeps the old ones. Any time, the forwarder's thread. */
int transport_reload(struct transport *transport, struct err *err) MUST_USE;

/* File sinks. The target of a batch says where its bytes belong (transport_file.h has its form): stored with the frozen batch
 * before it is sent, and passed back in transport_request.target, so that a repeat overwrites what the first attempt may
 * have left. body_bytes: the exact size of the request body that will be sent for it.
 *
 * transport_target       takes the next place and decides rotation. Synchronous, cheap (no I/O but for the first of a file).
 * transport_target_known for each frozen batch that delivery_open reads from the database, before the first
 *                        transport_target: new batches go behind it.
 * transport_target_drop  this batch will never be sent under this target (its pass was rolled back, it is frozen anew, it
 *                        was dropped): the place is free again. Several: the latest first. Not while it is under way. */
#define FORWARD_TARGET_BYTES 512
int transport_target(struct transport *transport, unsigned sink_index, uint64_t body_bytes,
                     int64_t now_ns, char *out, struct err *err) MUST_USE;
void transport_target_known(struct transport *transport, unsigned sink_index, const char *target);
void transport_target_drop(struct transport *transport, unsigned sink_index, const char *target);

#endif
