/*
 * conn_stream: an answer that takes its time, and a connection that stopped speaking HTTP. Owned by
 * the shard's thread.
 *
 * Normal run: begin writes the head; puts gather in the connection's output like any answer and
 * leave with the pass's flush; when more than half of SERVER_STREAM_UNSENT waits, the owner is told
 * once it is half again; end writes the last chunk; when all is sent, the owner hears STREAM_GONE,
 * and only then the request counts as answered and the connection goes on. What goes wrong: the
 * connection is closed under the stream (reset, late send, no memory): conn_close lists it, and the
 * slot is kept until its owner has heard STREAM_GONE. On close of the server: nobody is told.
 *
 * The owner is called from the pass only (conn_stream_tell from LIST_STREAM, conn_stream_input from
 * a receive), so that it may put and end from inside its callback.
 */
#include "net/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    CHUNK_SIZE_BYTES = 18, /* 16 hexadecimal digits and CRLF */
    CHUNK_END_BYTES = 2,
    CHUNK_FRAME_BYTES = CHUNK_SIZE_BYTES + CHUNK_END_BYTES,
    /* What the kernel may hold that it has not put on the wire. Without a bound it takes megabytes
     * for a peer that does not read, and asks for more only when a third of them has gone, which a
     * slow reader may not achieve within send_timeout. */
    KERNEL_UNSENT_BYTES = 128 * 1024,
};

static const char last_chunk[] = "0\r\n\r\n";

static struct conn_handle conn_stream_handle(const struct conn *conn)
{
    return (struct conn_handle){conn->index, conn->generation};
}

static bool conn_stream_is_sent(const struct conn *conn)
{
    return !conn->is_sending && conn_out_unsent(conn) == 0;
}

static bool conn_stream_is_over(const struct conn *conn)
{
    return conn->state == CONN_CLOSING || (conn->is_stream_ended && conn_stream_is_sent(conn));
}

size_t conn_stream_room(const struct conn *conn)
{
    size_t unsent = conn_out_unsent(conn);

    if (unsent == 0) {
        return SERVER_STREAM_UNSENT; /* all of it, so that a caller can tell what is unsent */
    }
    unsent += CHUNK_FRAME_BYTES; /* of the next put: a full stream fits into one block */
    return unsent < SERVER_STREAM_UNSENT ? SERVER_STREAM_UNSENT - unsent : 0;
}

static bool conn_stream_has_room_again(const struct conn *conn)
{
    return conn->owes_room && !conn->is_stream_ended &&
           conn_stream_room(conn) >= SERVER_STREAM_UNSENT / 2;
}

bool conn_stream_is_open(const struct conn *conn)
{
    return conn->stream != CONN_STREAM_NONE && conn->state == CONN_OPEN && !conn->is_stream_ended;
}

static int conn_stream_lost(struct server *server, struct conn *conn)
{
    conn_close(server, conn);
    return -ENOMEM;
}

/* ---- beginning ---- */

static void conn_stream_start(struct server *server, struct conn *conn, enum conn_stream kind)
{
    int unsent = KERNEL_UNSENT_BYTES;

    ASSERT(server->callbacks.on_stream != NULL);
    ASSERT(conn->stream == CONN_STREAM_NONE);
    conn->stream = (uint8_t)kind;
    conn->is_stream_ended = false;
    conn->owes_room = false;
    conn->wait = WAIT_STREAM;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    if (kind != CONN_STREAM_CHUNKED) {
        conn->closes_after = true;
    }
    if (conn->closes_after) {
        conn->stage = STAGE_DONE;
    }
}

int conn_stream_begin(struct server *server, struct conn *conn, const struct http_answer *answer)
{
    bool is_plain = conn->is_http10 && !conn->is_head_method;

    ASSERT(conn->state == CONN_OPEN);
    ASSERT(conn->unanswered == 1);
    ASSERT(answer->status >= 200 && answer->status != 204 && answer->status != 304);
    conn->closes_after = conn->closes_after || answer->must_close || is_plain;
    if (!conn_out_stream_head(server, conn, answer, conn->closes_after)) {
        return conn_stream_lost(server, conn);
    }
    if (conn->is_head_method) {
        conn_answered(server, conn, answer->must_close);
        return -ENODATA;
    }
    conn_stream_start(server, conn, is_plain ? CONN_STREAM_PLAIN : CONN_STREAM_CHUNKED);
    int r = conn_stream_put(server, conn, answer->body);
    if (r < 0) {
        conn->stream = CONN_STREAM_NONE; /* it never began: nobody is to be told */
    }
    return r;
}

int conn_stream_upgrade(struct server *server, struct conn *conn, struct slice response)
{
    ASSERT(conn->state == CONN_OPEN);
    ASSERT(conn->unanswered == 1);
    uint8_t *memory = conn_out_reserve(server, conn, response.bytes);
    if (memory == NULL) {
        return conn_stream_lost(server, conn);
    }
    memcpy(memory, response.data, response.bytes);
    conn_out_commit(server, conn, response.bytes);
    conn_stream_start(server, conn, CONN_STREAM_UPGRADED);
    conn->needs_linger = true; /* the peer may be talking when we stop */
    if (conn->is_peer_done) {
        conn_stream_end(server, conn, false);
    }
    if (conn->in_bytes > 0) {
        conn_table_list(server, conn, LIST_STREAM);
    }
    return 0;
}

/* ---- putting ---- */

/* The chunk of those bytes at to; returns its size. */
static size_t conn_stream_chunk(uint8_t *to, struct slice bytes)
{
    int size_bytes = snprintf((char *)to, CHUNK_SIZE_BYTES + 1, "%zx\r\n", bytes.bytes);

    ASSERT(size_bytes > 0 && size_bytes <= CHUNK_SIZE_BYTES);
    memcpy(to + size_bytes, bytes.data, bytes.bytes);
    memcpy(to + (size_t)size_bytes + bytes.bytes, "\r\n", CHUNK_END_BYTES);
    return (size_t)size_bytes + bytes.bytes + CHUNK_END_BYTES;
}

int conn_stream_put(struct server *server, struct conn *conn, struct slice bytes)
{
    if (bytes.bytes == 0) {
        return 0; /* a chunk of nothing would be the last one */
    }
    uint8_t *memory = conn_out_reserve(server, conn, bytes.bytes + CHUNK_FRAME_BYTES);
    if (memory == NULL) {
        return conn_stream_lost(server, conn);
    }
    size_t written = bytes.bytes;
    if (conn->stream == CONN_STREAM_CHUNKED) {
        written = conn_stream_chunk(memory, bytes);
    } else {
        memcpy(memory, bytes.data, bytes.bytes);
    }
    conn_out_commit(server, conn, written);
    conn->owes_room = conn->owes_room || conn_stream_room(conn) < SERVER_STREAM_UNSENT / 2;
    return 0;
}

/* ---- ending ---- */

/* Without chunks the end of the connection is the end of the body, so only a reset can say that it
 * is not. */
static void conn_stream_reset(struct server *server, struct conn *conn)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    conn_close(server, conn);
}

void conn_stream_end(struct server *server, struct conn *conn, bool is_broken)
{
    if (!conn_stream_is_open(conn)) {
        return;
    }
    conn->is_stream_ended = true;
    if (is_broken && conn->stream == CONN_STREAM_PLAIN) {
        conn_stream_reset(server, conn);
        return;
    }
    if (is_broken) {
        conn->closes_after = true;
        conn->stage = STAGE_DONE;
        conn->needs_linger = true;
        conn->fault.status = 0; /* its answer would be read as a chunk */
    } else if (conn->stream == CONN_STREAM_CHUNKED) {
        uint8_t *memory = conn_out_reserve(server, conn, sizeof(last_chunk) - 1);
        if (memory == NULL) {
            conn_close(server, conn);
            return;
        }
        memcpy(memory, last_chunk, sizeof(last_chunk) - 1);
        conn_out_commit(server, conn, sizeof(last_chunk) - 1);
    }
    conn_stream_note(server, conn);
}

/* ---- telling the owner ---- */

static void conn_stream_call(struct server *server, struct conn *conn, enum stream_event event,
                             struct slice data)
{
    server->callbacks.on_stream(server->callbacks.context, conn_stream_handle(conn), event, data);
}

void conn_stream_note(struct server *server, struct conn *conn)
{
    ASSERT(conn->stream != CONN_STREAM_NONE);
    if (conn_stream_is_over(conn) || conn_stream_has_room_again(conn)) {
        conn_table_list(server, conn, LIST_STREAM);
    }
}

static void conn_stream_data(struct server *server, struct conn *conn, struct slice bytes)
{
    if (bytes.bytes == 0) {
        return;
    }
    if (!conn_stream_is_open(conn)) {
        conn->discarded_bytes += bytes.bytes;
        return;
    }
    conn_stream_call(server, conn, STREAM_DATA, bytes);
}

void conn_stream_input(struct server *server, struct conn *conn, const uint8_t *data, size_t bytes)
{
    struct slice held;
    /* Out of the connection, because the owner may cause its end while it reads them. */
    uint8_t *block = conn_in_take(conn, &held);

    ASSERT(conn->stream == CONN_STREAM_UPGRADED);
    conn_stream_data(server, conn, held);
    conn_stream_data(server, conn, (struct slice){data, bytes});
    if (block != NULL) {
        arena_give(server->arena, block);
    }
}

static void conn_stream_gone(struct server *server, struct conn *conn)
{
    conn->stream = CONN_STREAM_NONE;
    conn_stream_call(server, conn, STREAM_GONE, (struct slice){NULL, 0});
    if (conn->state == CONN_OPEN) {
        conn_answered(server, conn, false);
    }
}

void conn_stream_tell(struct server *server, struct conn *conn)
{
    if (conn->stream == CONN_STREAM_NONE) {
        return; /* listed by a stream that is over, told of it since */
    }
    if (conn_stream_is_over(conn)) {
        conn_stream_gone(server, conn);
        conn_settle(server, conn);
        return;
    }
    if (conn->stream == CONN_STREAM_UPGRADED && conn->in_bytes > 0) {
        conn_stream_input(server, conn, NULL, 0);
    }
    if (conn_stream_has_room_again(conn)) {
        conn->owes_room = false;
        conn_stream_call(server, conn, STREAM_ROOM, (struct slice){NULL, 0});
    }
    conn_settle(server, conn);
}
