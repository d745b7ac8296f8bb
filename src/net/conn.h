/*
 * conn: one connection, from accept to the last event of its socket. Private to net; owned by the
 * shard's thread.
 *
 *          accept         last answer             all sent              peer closed, or late
 *     FREE -----> OPEN -------------> FINISHING ----------> LINGERING ----------------------.
 *      ^           |                      |                                                 v
 *      |           | peer gone, idle      | no need to linger                               |
 *      |           `----------------------`---------------------------------> CLOSING <-----'
 *      `------------------- last event of the socket -------------------------'
 *
 * OPEN reads requests in stages: HEAD (input begins with a head, or is empty), LENGTH and CHUNKED
 * (a body is collected), READY (a collected request waits to be presented), DONE (no more input is
 * read: what comes is discarded).
 *
 * Input is parsed where the kernel put it; only what is left over is copied to a private block. A
 * connection that may not go on (wait) keeps its further input there and, beyond CONN_INPUT_HOLD,
 * stops receiving.
 *
 * A stream (conn_stream.c) is an answer that takes its time: wait is STREAM, and unanswered stays 1
 * until it is over. An upgraded connection is a stream that ends with its connection.
 *
 * Output has two buffers: one fills while the other is being sent. At most one send is in flight.
 *
 * Timers: one, lazily moved; conn_due says when the connection is late.
 *
 * How it fails: conn_fault answers and ends it; conn_close ends it at once. Neither returns an
 * error: what is left to do with the connection is in its state.
 */
#ifndef NET_CONN_H
#define NET_CONN_H

#include <sys/socket.h>

#include "core/arena.h"
#include "core/wheel.h"
#include "net/content_decode.h"
#include "net/density.h"
#include "net/http_chunked.h"
#include "net/io.h"
#include "net/server.h"

enum {
    CONN_INLINE_BYTES = 512,       /* one small answer needs no block */
    CONN_OUT_BLOCK = 4096,         /* about 16 pipelined answers */
    CONN_INPUT_HOLD = 64 * 1024,   /* held input; beyond, receiving stops */
    CONN_UNSENT_MAX = 1024 * 1024, /* unsent answers; beyond, parsing stops */
    CONN_SEND_MAX = 256 * 1024, /* one send: its end is the progress that send_timeout asks for */
    CONN_STREAM_SEND_MAX = 64 * 1024, /* likewise of a stream: a slow reader makes progress sooner,
                                         and room comes back while the rest is on its way */
    CONN_LINGER_BYTES =
        64 * 1024 * 1024, /* discarded while lingering (linger_ns bounds the time): a client that
                             writes   all of a refused body first still reads why */
    CONN_LARGE_BYTES = 32 * 1024, /* a body that is better received into a large buffer */
    CONN_LARGE_CREDIT = 8,        /* smaller requests after it that end that */
    CONN_REFUSE_SLOTS = 16,       /* connections beyond connections_max that hear a 503 */
    SERVER_LISTEN_MAX = 16,
};

enum conn_state {
    CONN_FREE = 0,
    CONN_OPEN,
    CONN_FINISHING, /* the last answer is on its way */
    CONN_LINGERING, /* our side is shut; the peer's bytes are discarded so that a reset does not
                       destroy the answer */
    CONN_CLOSING,   /* waiting for the last events of the socket */
};

enum conn_stage {
    STAGE_HEAD = 0,
    STAGE_LENGTH,
    STAGE_CHUNKED,
    STAGE_READY,
    STAGE_DONE,
};

/* Why a connection may not go on parsing. */
enum conn_wait {
    WAIT_NONE = 0,
    WAIT_ANSWERS,  /* until no request is unanswered */
    WAIT_PIPELINE, /* until half of pipeline_max is answered */
    WAIT_SEND,     /* until half of CONN_UNSENT_MAX is sent */
    WAIT_STREAM,   /* until the stream is over and its owner has heard so */
};

/* What the one unanswered request is being answered with. A connection with a stream has unanswered
 * 1 until on_stream has heard STREAM_GONE; its slot is not given away before that either. */
enum conn_stream {
    CONN_STREAM_NONE = 0,
    CONN_STREAM_CHUNKED,
    CONN_STREAM_PLAIN,    /* HTTP/1.0: the end of the connection is the end of the body */
    CONN_STREAM_UPGRADED, /* stage is DONE: no more requests; input goes to on_stream */
};

enum conn_list {
    LIST_DIRTY = 0, /* has answers to send */
    LIST_STARVED,   /* wants to receive, the buffer ring was dry */
    LIST_RESUME,    /* may go on parsing */
    LIST_STREAM,    /* on_stream has something to hear */
    LIST_COUNT,
};

struct conn_out {
    uint8_t *data; /* NULL: empty */
    size_t start;
    size_t end;
    size_t capacity;
};

struct conn {
    /* Survive the slot's lives: a slot may still be linked when its next life begins; who takes it
     * looks at the state. */
    uint32_t index;
    uint32_t generation;
    struct conn *next[LIST_COUNT];
    bool is_listed[LIST_COUNT];
    struct conn *next_free;

    /* From here on zeroed for each life (conn_table_take). */
    int fd;
    uint8_t state;
    uint8_t stage;
    uint8_t wait;
    uint8_t stream;       /* enum conn_stream */
    bool is_stream_ended; /* nothing more is put: over when all is sent */
    bool owes_room;       /* STREAM_ROOM when room is half of SERVER_STREAM_UNSENT */
    /* What the unanswered requests have in common; one that differs waits for their answers. */
    bool is_head_method;
    bool is_http10;
    struct slice fields;   /* header lines on each answer, from on_origin */
    bool closes_after;     /* the last unanswered request is the last of all */
    bool needs_linger;     /* the peer may still be sending */
    bool is_head_judged;   /* on_head said yes to the request at the start of the input */
    bool owes_continue;    /* a 100 is due once the answers before it are given */
    bool is_receiving;     /* the multishot receive is armed */
    bool is_recv_stopping; /* and its cancellation is queued */
    uint8_t recv_size;     /* enum io_size it is armed with */
    uint8_t large_credit;  /* > 0: large requests came lately, so receive into large buffers */
    bool is_sending;
    bool is_shut; /* the close is queued */
    bool is_fd_closed;
    bool is_peer_done; /* end of stream */
    uint32_t unanswered;
    uint8_t filling; /* index in out */
    struct conn_out out[2];
    size_t send_bytes; /* of the send in flight */

    uint8_t *in; /* private input block */
    size_t in_start;
    size_t in_bytes;
    size_t in_capacity;
    size_t scanned; /* bytes at the start of the input that hold no end of head */

    uint8_t *head; /* copy of the head whose body is collected */
    size_t head_bytes;
    uint8_t *body;
    size_t body_bytes;
    size_t body_capacity;
    uint64_t body_wanted; /* STAGE_LENGTH */
    uint64_t body_max;
    uint64_t body_received; /* on the wire: what the minimum rate counts */
    struct http_chunked chunked;

    struct http_fault
        fault; /* status 0: none; else answered once the answers before it are given */
    size_t discarded_bytes;
    uint64_t active_ns; /* last time something was asked or answered */
    uint64_t head_ns;   /* first byte of the head; 0: none yet */
    uint64_t body_ns;   /* end of the head */
    uint64_t send_ns;
    uint64_t linger_ns; /* when lingering began */
    uint64_t timer_ns;  /* what the timer is set to */
    struct wheel_timer timer;
    struct sockaddr_storage peer; /* server_peer; ss_family 0: not asked yet */
    uint8_t inline_out[CONN_INLINE_BYTES];
};

struct conn_queue {
    struct conn *first;
    struct conn *last;
    size_t count;
};

struct listener {
    int fd; /* -1: closed */
    unsigned port;
    bool is_armed;
};

/* The shard's server. Its door is server.h. */
struct server {
    struct server_options options;
    struct server_callbacks callbacks;
    struct io *io;
    struct arena *arena;
    struct content_decoder *decoder;
    struct listener listeners[SERVER_LISTEN_MAX];
    uint64_t now_ns;
    struct density density;   /* of its events */
    uint64_t accept_retry_ns; /* 0: no listener waits to be armed again */
    bool is_draining;

    struct conn *conns; /* slots */
    uint32_t slot_count;
    uint32_t slot_touched; /* slots ever used are [0, slot_touched) */
    struct conn *free_first;
    uint32_t open_count;
    uint32_t
        waiting_count; /* connections with one unanswered request: they say nothing until then */
    struct conn_queue queues[LIST_COUNT];
    struct conn *presenting; /* its request is with on_request: nothing of it may be freed */
    struct conn *judging;    /* its head is with on_head */

    struct wheel wheel;
    uint64_t date_due_ns;
    char date_line[64];
    size_t date_bytes;
    struct http_head parsed;    /* of the head being looked at: not per connection, it is large */
    struct server_stats *stats; /* the caller's, or own_stats */
    struct server_stats own_stats;
};

/* One writer: a plain add, published word by word; readers may see any recent value. */
static inline void stat_add(_Atomic uint64_t *counter, uint64_t n)
{
    /* Relaxed: only this thread writes, readers need no order. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- conn_table.c: slots and lists ---- */

int conn_table_open(struct server *server, struct err *err) MUST_USE;
void conn_table_close(struct server *server);
/* A slot in a new life with state CONN_OPEN, or NULL when all are in use. */
struct conn *conn_table_take(struct server *server) MUST_USE;
void conn_table_give(struct server *server, struct conn *conn);
/* The one way to change conn->unanswered: waiting_count goes with it. */
void conn_set_unanswered(struct server *server, struct conn *conn, uint32_t unanswered);
/* The connection of that handle, or NULL when it has gone. */
struct conn *conn_table_find(const struct server *server, uint32_t index, uint32_t generation);
/* Does nothing when it is listed. */
void conn_table_list(struct server *server, struct conn *conn, enum conn_list list);
struct conn *conn_table_next(struct server *server,
                             enum conn_list list); /* takes the oldest; NULL: empty */

/* ---- conn_out.c: answers and sends ---- */

/* Room for bytes at the end of the unsent answers, or NULL. conn_out_commit makes what was written
 * part of them. */
uint8_t *conn_out_reserve(struct server *server, struct conn *conn, size_t bytes) MUST_USE;
void conn_out_commit(struct server *server, struct conn *conn, size_t bytes);
size_t conn_out_unsent(const struct conn *conn);
/* Writes an answer as HTTP. closes: with "Connection: close". False: no memory. */
bool conn_out_answer(struct server *server, struct conn *conn, const struct http_answer *answer,
                     bool closes) MUST_USE;
/* Writes the head of an answer whose body comes in pieces; answer->body is left to the caller. */
bool conn_out_stream_head(struct server *server, struct conn *conn,
                          const struct http_answer *answer, bool closes) MUST_USE;
/* Writes "100 Continue"; leaves it out when there is no memory, because the client goes on without
 * it a little later. */
void conn_out_continue(struct server *server, struct conn *conn);
/* Starts a send if there is something to send and none is in flight. */
void conn_out_flush(struct server *server, struct conn *conn);
/* Takes the result of a send. False: the connection is broken. */
bool conn_out_sent(struct server *server, struct conn *conn, int result) MUST_USE;
/* Gives back what no send is using. */
void conn_out_drop(struct server *server, struct conn *conn);

/* ---- conn_in.c: private input, collected bodies ---- */

/* Appends to the private input. False: no memory. */
bool conn_in_keep(struct server *server, struct conn *conn, const uint8_t *data,
                  size_t bytes) MUST_USE;
void conn_in_consume(struct server *server, struct conn *conn, size_t bytes);
/* Begins to collect: copies the head, makes room for the body. False: no memory. */
bool conn_in_collect(struct server *server, struct conn *conn, const uint8_t *head,
                     size_t head_bytes, size_t body_bytes) MUST_USE;
bool conn_in_grow_body(struct server *server, struct conn *conn, size_t capacity) MUST_USE;
void conn_in_drop_body(struct server *server, struct conn *conn);
void conn_in_drop(struct server *server, struct conn *conn);
/* Takes the private input out of the connection: the block (NULL: none), which the caller gives back
 * to the arena; bytes says where in it the input is. */
uint8_t *conn_in_take(struct conn *conn, struct slice *bytes);
/* Decodes a gzip or zstd body into a block of the arena, which the caller gives back. False: fault
 * is filled. */
bool conn_in_decode(struct server *server, const struct conn *conn, enum http_coding coding,
                    struct slice body, struct content_output *out,
                    struct http_fault *fault) MUST_USE;

/* ---- conn_request.c: from bytes to on_request ---- */

/* Parses and presents what it can; returns the bytes taken. Stops where the connection waits,
 * finishes or needs more. */
size_t conn_request_parse(struct server *server, struct conn *conn, uint8_t *data, size_t bytes);

/* ---- conn_stream.c: answers in pieces, upgraded connections ---- */

/* The doors of server.h, on a connection that is open. */
int conn_stream_begin(struct server *server, struct conn *conn,
                      const struct http_answer *answer) MUST_USE;
int conn_stream_upgrade(struct server *server, struct conn *conn, struct slice response) MUST_USE;
size_t conn_stream_room(const struct conn *conn);
int conn_stream_put(struct server *server, struct conn *conn, struct slice bytes) MUST_USE;
void conn_stream_end(struct server *server, struct conn *conn, bool is_broken);
/* True while its owner may put: begun, not ended, not gone. */
bool conn_stream_is_open(const struct conn *conn);
/* Something was sent, put or ended: lists the connection when its owner has something to hear. */
void conn_stream_note(struct server *server, struct conn *conn);
/* Input of an upgraded connection: to on_stream, what was held first. */
void conn_stream_input(struct server *server, struct conn *conn, const uint8_t *data, size_t bytes);
/* A connection taken from LIST_STREAM: calls on_stream. */
void conn_stream_tell(struct server *server, struct conn *conn);

/* ---- conn.c: life ---- */

void conn_begin(struct server *server, struct conn *conn, int fd);
void conn_on_recv(struct server *server, struct conn *conn, const struct io_event *event);
void conn_on_send(struct server *server, struct conn *conn, const struct io_event *event);
void conn_on_close(struct server *server, struct conn *conn);
void conn_on_timer(struct server *server, struct conn *conn);
/* A connection taken from LIST_RESUME or LIST_STARVED. */
void conn_resume(struct server *server, struct conn *conn);
void conn_rearm(struct server *server, struct conn *conn);
/* Does what its state asks for: finish, linger, close, receive or not, timer. After every event. */
void conn_settle(struct server *server, struct conn *conn);
/* Ends it with an error answer once the answers before it are given. text is static. */
void conn_fault(struct server *server, struct conn *conn, unsigned status, const char *text);
/* Ends it now. */
void conn_close(struct server *server, struct conn *conn);
/* The oldest unanswered request has its answer in the output. */
void conn_answered(struct server *server, struct conn *conn, bool must_close);
/* When the connection will be late (UINT64_MAX: never, as things are), and what counts it. */
uint64_t conn_due(const struct server *server, const struct conn *conn);

#endif
