/*
 * conn_out: the answers of a connection and their way out. Answers gather in the filling buffer; a
 * flush turns it into the one send in flight, and the other buffer fills. A small answer lies in
 * the slot itself; the arena is asked for more. Fails with NULL or false when the arena has no
 * room: the connection is then closed, because an answer that is left out would put every later one
 * out of order.
 */
#include "net/conn.h"

#include <string.h>

#include "core/buf.h"

static void conn_out_release(struct server *server, struct conn *conn, struct conn_out *out)
{
    if (out->data != NULL && out->data != conn->inline_out) {
        arena_give(server->arena, out->data);
    }
    *out = (struct conn_out){0};
}

static bool conn_out_is_inline_free(const struct conn *conn)
{
    return conn->out[0].data != conn->inline_out && conn->out[1].data != conn->inline_out;
}

/* More than is wanted now, so that growing costs little; a stream does not grow beyond its bound. */
static size_t conn_out_roomy(const struct conn *conn, size_t wanted)
{
    size_t roomy = u64_max(wanted + wanted / 2, CONN_OUT_BLOCK);

    if (conn->stream != CONN_STREAM_NONE && roomy > SERVER_STREAM_UNSENT) {
        return u64_max(wanted, SERVER_STREAM_UNSENT);
    }
    return roomy;
}

uint8_t *conn_out_reserve(struct server *server, struct conn *conn, size_t bytes)
{
    struct conn_out *out = &conn->out[conn->filling];

    if (out->data == NULL && bytes <= CONN_INLINE_BYTES && conn_out_is_inline_free(conn)) {
        out->data = conn->inline_out;
        out->capacity = CONN_INLINE_BYTES;
    }
    if (out->data != NULL && out->capacity - out->end >= bytes) {
        return out->data + out->end;
    }
    size_t wanted = out->end + bytes;
    size_t capacity = 0;
    uint8_t *block = arena_take(server->arena, conn_out_roomy(conn, wanted), &capacity);
    if (block == NULL) {
        block = arena_take(server->arena, wanted, &capacity);
    }
    if (block == NULL) {
        return NULL;
    }
    if (out->end > 0) {
        ASSERT(out->data != NULL);
        memcpy(block, out->data, out->end);
    }
    size_t end = out->end;
    conn_out_release(server, conn, out);
    *out = (struct conn_out){.data = block, .end = end, .capacity = capacity};
    return block + end;
}

void conn_out_commit(struct server *server, struct conn *conn, size_t bytes)
{
    struct conn_out *out = &conn->out[conn->filling];

    ASSERT(bytes <= out->capacity - out->end);
    out->end += bytes;
    conn_table_list(server, conn, LIST_DIRTY);
}

size_t conn_out_unsent(const struct conn *conn)
{
    return (conn->out[0].end - conn->out[0].start) + (conn->out[1].end - conn->out[1].start);
}

/* What each answer has besides the caller's texts: status line, Date, Content-Length, Connection.
 */
enum {
    ANSWER_FIXED_BYTES = 320
};

/* How the client finds the end of the body. */
enum out_framing {
    OUT_LENGTH = 0,
    OUT_CHUNKED,
    OUT_CLOSE,
};

static bool conn_out_write(struct server *server, struct conn *conn,
                           const struct http_answer *answer, enum out_framing framing, bool closes)
{
    size_t type_bytes = answer->content_type != NULL ? strlen(answer->content_type) : 0;
    size_t room = ANSWER_FIXED_BYTES + type_bytes + answer->extra.bytes + answer->body.bytes +
                  conn->fields.bytes;
    bool has_body = answer->status >= 200 && answer->status != 204 && answer->status != 304;
    uint8_t *memory = conn_out_reserve(server, conn, room);
    struct buf buf;

    if (memory == NULL) {
        return false;
    }
    buf_init(&buf, memory, room);
    buf_put_text(&buf, "HTTP/1.1 ");
    buf_put_u64(&buf, answer->status);
    buf_put_char(&buf, ' ');
    buf_put_text(&buf, http_status_reason(answer->status));
    buf_put_text(&buf, "\r\n");
    buf_put_slice(&buf, server_date_line(server));
    if (answer->content_type != NULL) {
        buf_put_text(&buf, "Content-Type: ");
        buf_put_text(&buf, answer->content_type);
        buf_put_text(&buf, "\r\n");
    }
    if (framing == OUT_CHUNKED) {
        buf_put_text(&buf, "Transfer-Encoding: chunked\r\n");
    } else if (framing == OUT_LENGTH && has_body) {
        buf_put_text(&buf, "Content-Length: ");
        buf_put_u64(&buf, answer->body.bytes);
        buf_put_text(&buf, "\r\n");
    }
    if (closes) {
        buf_put_text(&buf, "Connection: close\r\n");
    } else if (conn->is_http10) {
        buf_put_text(&buf, "Connection: keep-alive\r\n");
    }
    buf_put_slice(&buf, conn->fields);
    buf_put_slice(&buf, answer->extra);
    buf_put_text(&buf, "\r\n");
    if (framing == OUT_LENGTH && has_body && !conn->is_head_method) {
        buf_put_slice(&buf, answer->body);
    }
    ASSERT(!buf.is_truncated);
    conn_out_commit(server, conn, buf.bytes);
    return true;
}

bool conn_out_answer(struct server *server, struct conn *conn, const struct http_answer *answer,
                     bool closes)
{
    return conn_out_write(server, conn, answer, OUT_LENGTH, closes);
}

bool conn_out_stream_head(struct server *server, struct conn *conn,
                          const struct http_answer *answer, bool closes)
{
    return conn_out_write(server, conn, answer, conn->is_http10 ? OUT_CLOSE : OUT_CHUNKED, closes);
}

void conn_out_continue(struct server *server, struct conn *conn)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uint8_t *memory = conn_out_reserve(server, conn, sizeof(interim) - 1);

    if (memory != NULL) {
        memcpy(memory, interim, sizeof(interim) - 1);
        conn_out_commit(server, conn, sizeof(interim) - 1);
    }
}

static struct conn_out *conn_out_in_flight(struct conn *conn)
{
    return &conn->out[conn->filling ^ 1];
}

static void conn_out_send(struct server *server, struct conn *conn)
{
    const struct conn_out *out = conn_out_in_flight(conn);

    ASSERT(!conn->is_sending);
    ASSERT(out->start < out->end);
    conn->is_sending = true;
    conn->send_ns = server->now_ns;
    size_t most = conn->stream == CONN_STREAM_NONE ? CONN_SEND_MAX : CONN_STREAM_SEND_MAX;
    conn->send_bytes = u64_min(out->end - out->start, most);
    io_send(server->io, (struct io_key){conn->index, conn->generation}, conn->fd,
            out->data + out->start, conn->send_bytes);
}

void conn_out_flush(struct server *server, struct conn *conn)
{
    if (conn->is_sending || conn->out[conn->filling].end == 0 ||
        (conn->state != CONN_OPEN && conn->state != CONN_FINISHING)) {
        return;
    }
    ASSERT(conn_out_in_flight(conn)->data == NULL);
    conn->filling ^= 1;
    conn_out_send(server, conn);
}

bool conn_out_sent(struct server *server, struct conn *conn, int result)
{
    struct conn_out *out = conn_out_in_flight(conn);

    ASSERT(conn->is_sending);
    conn->is_sending = false;
    if (result <= 0 || conn->state == CONN_CLOSING) {
        conn_out_release(server, conn, out);
        return false;
    }
    ASSERT((size_t)result <= conn->send_bytes);
    stat_add(&server->stats->answer_bytes, (uint64_t)result);
    out->start += (size_t)result;
    if (out->start < out->end) {
        conn_out_send(server, conn);
        return true;
    }
    conn_out_release(server, conn, out);
    if (conn->out[conn->filling].end > 0) {
        conn_table_list(server, conn, LIST_DIRTY);
    }
    return true;
}

void conn_out_drop(struct server *server, struct conn *conn)
{
    conn_out_release(server, conn, &conn->out[conn->filling]);
    if (!conn->is_sending) {
        conn_out_release(server, conn, conn_out_in_flight(conn));
    }
}
