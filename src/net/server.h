/*
 * server: the door of net. One per shard, owned by the shard's thread: a listener (SO_REUSEPORT),
 * its connections, their parsing and their answers. It knows nothing of what requests mean: for
 * each complete request it calls on_request, in order per connection, and the answer comes at once
 * or later by handle.
 *
 * ANSWER ORDER. A connection may have any number of deferred requests (up to pipeline_max); their
 * answers must be given in the order of the requests. An immediate answer is legal only while the
 * connection has no deferred request: then on_request returns HTTP_LATER, and the server presents
 * the same request again as soon as the deferred ones are answered.
 *
 * Pointers in struct http_request live until on_request returns. Handles carry a generation: an
 * answer to a connection that has gone is dropped and reported by server_answer's result.
 */
#ifndef NET_SERVER_H
#define NET_SERVER_H

#include "core/arena.h"
#include "core/base.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/park.h"
#include "net/http_head.h"

#include <stdatomic.h>

struct server;
struct sockaddr_storage;

struct conn_handle {
    uint32_t index;
    uint32_t generation;
};

struct http_request {
    const struct http_head *head;
    const uint8_t *head_base; /* http_span_slice(head_base, head->path) */
    struct slice body;        /* decoded (chunked, gzip, zstd) */
    struct conn_handle conn;
    uint32_t deferred_count; /* of this connection, before this request */
    uint64_t now_ns;         /* monotonic, this pass */
};

enum http_verdict {
    HTTP_ANSWERED = 1, /* server_answer was called in on_request */
    HTTP_DEFERRED = 2, /* server_answer will be called later, in order */
    HTTP_LATER = 3, /* present it again when deferred_count is 0; only if deferred_count > 0 now */
    HTTP_DEFERRED_ALONE = 4, /* as HTTP_DEFERRED, and no further request of the connection is
                                presented before it is answered: for what server_stream_begin or
                                server_upgrade will answer. Only if deferred_count is 0 now */
};

/* An early decision from the head alone, before any byte of the body is awaited or 100-continue is
 * sent. */
enum http_head_verdict {
    HTTP_HEAD_OK = 0,
    HTTP_HEAD_ANSWERED =
        1, /* the callback filled answer: it is sent (after deferred ones) and, when the request has
            * a body that was not read, the connection closes with lingering */
};

/* A complete answer. Header lines that the server adds: Date, Content-Length, Connection (close, or
 * keep-alive for 1.0). */
struct http_answer {
    unsigned status;
    const char *content_type; /* static; NULL: none */
    struct slice extra;       /* complete header lines, each with CRLF */
    struct slice body;        /* copied; left out (but counted) for HEAD */
    bool must_close;
};

/* What happens to a connection that streams (server_stream_begin, server_upgrade). Told from inside
 * server_poll, never from inside another function of this door; every function of this door may be
 * called from it, server_poll, server_tick, server_flush and server_close excepted. */
enum stream_event {
    /* Room is at least half of SERVER_STREAM_UNSENT after having been less: so it comes when room
     * was 0, and also when there was some, but too little for what should be put in one piece. */
    STREAM_ROOM = 1,
    STREAM_DATA =
        2, /* upgraded only, until the stream is ended: bytes from the peer, borrowed until
                        the callback returns */
    /* The last event, exactly once for each stream that began (result 0), unless server_close comes
     * first: the peer has gone, or the connection was closed, or the stream was ended and
     * everything is sent. Only after it may the handle stand for another stream. */
    STREAM_GONE = 3,
};

struct server_callbacks {
    void *context;
    /* May be NULL. body_bytes_max may be lowered or raised per route here. */
    enum http_head_verdict (*on_head)(void *context, const struct http_head *head,
                                      const uint8_t *base, uint64_t *body_bytes_max,
                                      struct http_answer *answer);
    enum http_verdict (*on_request)(void *context, const struct http_request *request);
    /* May be NULL. Asked for requests with an Origin field: complete header lines for every answer
     * to them, also for those of net itself. The lines live until server_close; the same pointer
     * means the same lines. */
    struct slice (*on_origin)(void *context, struct slice origin);
    /* May be NULL when nothing streams. */
    void (*on_stream)(void *context, struct conn_handle conn, enum stream_event event,
                      struct slice data);
    /* Text of an error that net itself answers (400, 408, 411, 413, 414, 415, 417, 431, 501, 503,
     * 505): writes the body. */
    void (*on_fault_body)(void *context, const struct http_fault *fault, struct buf *body);
};

struct server_options {
    const char *listen[16]; /* "HOST:PORT", "[::1]:PORT", ":PORT"; resolved numerically or by
                               getaddrinfo at start */
    unsigned listen_count;
    uint32_t connections_max; /* of this shard; beyond: accept, 503 with Retry-After, close */
    uint32_t pipeline_max;    /* deferred requests of one connection; beyond: reading pauses */
    struct http_limits limits;
    uint32_t decode_ratio_max;
    uint64_t head_timeout_ns; /* from the first byte of a head to its end */
    uint64_t body_timeout_ns; /* without body_rate_min, from the end of the head; each body_rate_min
                                 bytes buy a second */
    uint32_t body_rate_min;   /* bytes per second */
    uint64_t idle_timeout_ns; /* keep-alive */
    uint64_t linger_ns;       /* drain before closing after an error */
    uint64_t send_timeout_ns; /* a peer that does not read its answers */
    uint32_t recv_buffers;    /* provided-buffer ring: count, power of two */
    uint32_t recv_buffer_bytes;
    size_t arena_bytes;         /* connection buffers of this shard, power of two */
    struct park *park;          /* whose eventfd ends a wait */
    struct server_stats *stats; /* zeroed memory that outlives the server, for readers that may come
                                   late; NULL: its own */
};

/* Counters of one shard, written by its thread only (relaxed), read by anyone. */
struct server_stats {
    _Atomic uint64_t accepted, accept_errors, refused_connections, closed, open_connections;
    _Atomic uint64_t requests, answers, answer_bytes, received_bytes;
    _Atomic uint64_t recv_starved; /* ENOBUFS: the buffer ring ran dry */
    _Atomic uint64_t faults[600];  /* by status, answered by net itself */
    _Atomic uint64_t timeouts_head, timeouts_body, timeouts_idle, timeouts_send;
    _Atomic uint64_t resets; /* peer reset or send error */
    _Atomic uint64_t ring_enters, cqes, cq_overflows;
};

/* In the shard's thread. Creates the ring, binds (retrying EADDRINUSE for 2 s), listens. Errors
 * name the address and the mend; -ENOSYS, -EPERM, -EACCES, -EOPNOTSUPP, -EINVAL from io_uring
 * set-up come with a text that says why and what to do. */
int server_open(struct server **server, const struct server_options *options,
                const struct server_callbacks *callbacks, struct err *err) MUST_USE;
void server_close(struct server *server);

/* One pass: submit what is queued, wait at most wait_ns for completions (0: only look), handle them
 * (calling on_request). The caller has done park_prepare and its second look when wait_ns > 0;
 * server_poll drains the park's eventfd. Returns the number of completions, or -errno for a ring
 * that is beyond use. is_patient: clients wait for something slower anyway (the disk), so under
 * load events may be gathered for up to 200 us, else 50. */
int server_poll(struct server *server, uint64_t wait_ns, bool is_patient) MUST_USE;
/* Timers: closes what is late. Once per pass with the pass's clock. */
void server_tick(struct server *server, uint64_t now_ns);
/* ns until server_tick has something to do. */
uint64_t server_wait_ns(const struct server *server, uint64_t now_ns);
/* Queues the sends of this pass: once, after all server_answer calls; they leave with the next
 * server_poll. */
void server_flush(struct server *server);
/* True when sends, completions or re-presentable requests are waiting, so that the pass must not
 * wait. */
bool server_has_work(const struct server *server);

/* Answers the oldest unanswered request of the connection. 0, -ESTALE: the connection has gone,
 * -ENOMEM: no buffer (the connection is closed). */
int server_answer(struct server *server, struct conn_handle conn, const struct http_answer *answer);
/* The hot form: bytes are a complete response (status line to body), copied as they are; must_close
 * as above. */
int server_answer_raw(struct server *server, struct conn_handle conn, struct slice response,
                      bool must_close);
/* ---- answers that come in pieces, and connections that speak something else afterwards ----
 * Both answer the oldest unanswered request, which must be the connection's only one, either inside
 * on_request (return HTTP_ANSWERED; while something is deferred: HTTP_LATER) or later (it returned
 * HTTP_DEFERRED_ALONE, or a later request would be presented and answered in the middle). From then
 * on the connection parses no request until the stream has ended and STREAM_GONE was told. At most
 * SERVER_STREAM_UNSENT bytes wait unsent; a peer that takes nothing for
 * send_timeout is closed; no other timeout applies.
 *
 * A peer that closes its side goes on receiving an HTTP stream; an upgraded connection ends then, as
 * if by server_stream_end. A drain lets streams go on until server_stream_end; shard stops them. */
#define SERVER_STREAM_UNSENT (256u * 1024u)
/* Status line and fields of answer (its body, if any, are the first bytes), then chunked transfer
 * coding (HTTP/1.0: until close). The status must be one that has a body. HEAD: only the head; the
 * request is answered, there is no stream and no event of it: -ENODATA. -ESTALE, -ENOMEM as
 * server_answer. */
int server_stream_begin(struct server *server, struct conn_handle conn,
                        const struct http_answer *answer) MUST_USE;
/* Sends response (a complete 101 head) as it is; then bytes both ways as they are, those first that
 * came right behind the request. */
int server_upgrade(struct server *server, struct conn_handle conn, struct slice response) MUST_USE;
/* Bytes that may be put now: SERVER_STREAM_UNSENT when all is sent, else less the unsent (framing
 * included); 0 also when the connection has gone or the stream was ended. */
size_t server_stream_room(const struct server *server, struct conn_handle conn);
/* All of bytes (at most room), as one chunk where chunks are spoken. 0; -ESTALE as room;
 * -ENOMEM: the connection is closed, and STREAM_GONE follows. */
int server_stream_put(struct server *server, struct conn_handle conn, struct slice bytes) MUST_USE;
/* The last chunk; an HTTP connection goes on with its next request, an upgraded one closes once all
 * is sent. is_broken: the answer could not be completed: close without the last chunk (HTTP/1.0: by
 * a reset), so that the client sees it. Does nothing when the connection has gone or the stream was
 * ended. */
void server_stream_end(struct server *server, struct conn_handle conn, bool is_broken);

/* The cached Date field line: "Date: ...\r\n". */
struct slice server_date_line(struct server *server);

/* Only inside on_head: the connection whose head it is, and how many of its requests are still
 * unanswered. While there are any, HTTP_HEAD_ANSWERED only means "ask again when they are
 * answered": nothing may be charged for it yet. */
uint32_t server_judged(const struct server *server, struct conn_handle *conn);
/* The address of the peer: getpeername at the first call, remembered. 0, -ESTALE: the connection
 * has gone, -errno. */
int server_peer(struct server *server, struct conn_handle conn, struct sockaddr_storage *peer);

/* Orderly stop: stop accepting, close idle connections, let the others finish their answers.
 * server_is_drained: none left. */
void server_drain(struct server *server);
bool server_is_drained(const struct server *server);

const struct server_stats *server_stats(const struct server *server);
size_t server_arena_used(const struct server *server);
/* The port really bound for listen[index] (useful with port 0). */
unsigned server_port(const struct server *server, unsigned index);

#endif
