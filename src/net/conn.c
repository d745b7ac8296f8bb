/*
 * conn: the life of a connection (the picture is in conn.h): what its events, its timer and its
 * answers do to its state.
 *
 * Normal run: accept, receive, parse and present (conn_request.c), answer, send, receive ...; the
 * peer closes, we close. What goes wrong: a fault ends it with an answer and lingers; a late peer
 * gets 408 or nothing; a reset, a broken send or an exhausted arena closes it at once, and later
 * answers to it hear -ESTALE. On close: everything of the socket is cancelled, the socket closed,
 * and the slot freed after its last event.
 */
#include "net/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/buf.h"

static struct io_key conn_key(const struct conn *conn)
{
    return (struct io_key){conn->index, conn->generation};
}

void conn_begin(struct server *server, struct conn *conn, int fd)
{
    conn->fd = fd;
    conn->active_ns = server->now_ns;
    conn_settle(server, conn);
}

/* ---- receiving ---- */

static bool conn_wants_input(const struct conn *conn)
{
    if (conn->is_peer_done || conn->state == CONN_CLOSING || conn->state == CONN_FREE) {
        return false;
    }
    return conn->wait == WAIT_NONE || conn->in_bytes < CONN_INPUT_HOLD;
}

static uint8_t conn_recv_size(const struct conn *conn)
{
    return conn->large_credit > 0 ? IO_LARGE : IO_SMALL;
}

static void conn_arm(struct server *server, struct conn *conn, bool is_careful)
{
    ASSERT(!conn->is_receiving);
    conn->is_receiving = true;
    conn->is_recv_stopping = false;
    conn->recv_size = conn_recv_size(conn);
    io_recv(server->io, conn_key(conn), conn->fd, (enum io_size)conn->recv_size, is_careful);
}

/* After a dry buffer ring: careful, or an empty ring would answer at once again. */
void conn_rearm(struct server *server, struct conn *conn)
{
    if (!conn->is_receiving && conn_wants_input(conn)) {
        conn_arm(server, conn, true);
    }
}

static void conn_receive_or_not(struct server *server, struct conn *conn)
{
    bool wants = conn_wants_input(conn);

    if (wants && !conn->is_receiving && !conn->is_listed[LIST_STARVED]) {
        conn_arm(server, conn, false);
    }
    bool is_right = wants && conn->recv_size == conn_recv_size(conn);
    if (!is_right && conn->is_receiving && !conn->is_recv_stopping && conn->state != CONN_CLOSING) {
        conn->is_recv_stopping = true;
        io_recv_stop(server->io, conn_key(conn), (enum io_size)conn->recv_size);
    }
}

/* Parses new bytes where they are if nothing older waits, else behind what waits. */
static void conn_input(struct server *server, struct conn *conn, uint8_t *data, size_t bytes)
{
    bool is_kept = conn->in_bytes > 0;

    if (!is_kept) {
        size_t taken = conn_request_parse(server, conn, data, bytes);
        data += taken;
        bytes -= taken;
    }
    if (conn->state != CONN_OPEN || conn->stage == STAGE_DONE) {
        if (conn->stream == CONN_STREAM_UPGRADED) {
            conn_stream_input(server, conn, data, bytes);
            return;
        }
        conn->discarded_bytes += bytes;
        conn->needs_linger = conn->needs_linger || bytes > 0;
        return;
    }
    if (bytes > 0 && !conn_in_keep(server, conn, data, bytes)) {
        conn_fault(server, conn, 503, "No memory for the request at the moment.");
        return;
    }
    if (is_kept) {
        conn_resume(server, conn);
    }
}

/* The private input holds no request any more, of which the first taken bytes are done with. */
static void conn_resume_done(struct server *server, struct conn *conn, size_t taken)
{
    if (conn->state == CONN_OPEN && conn->stream == CONN_STREAM_UPGRADED) {
        conn_in_consume(server, conn, taken);
        conn_stream_input(server, conn, NULL, 0);
        return;
    }
    conn_in_drop(server, conn);
}

/* Goes on with the private input. */
void conn_resume(struct server *server, struct conn *conn)
{
    if (conn->state != CONN_OPEN) {
        return;
    }
    if (conn->stage == STAGE_DONE) {
        conn_resume_done(server, conn, 0);
        return;
    }
    uint8_t *data = conn->in_bytes > 0 ? conn->in + conn->in_start : NULL;
    size_t taken = conn_request_parse(server, conn, data, conn->in_bytes);
    if (conn->state == CONN_OPEN && conn->stage != STAGE_DONE) {
        conn_in_consume(server, conn, taken);
    } else {
        conn_resume_done(server, conn, taken);
    }
}

static void conn_recv_failed(struct server *server, struct conn *conn, int result)
{
    if (result == -ENOBUFS && !conn->is_recv_stopping) {
        stat_add(&server->stats->recv_starved, 1);
        conn->large_credit = 0; /* there are only a few of those */
        conn_table_list(server, conn, LIST_STARVED);
        return;
    }
    /* Kernels before 6.5 may say -ENOBUFS for a cancelled receive. */
    if (result == -ECANCELED || result == -ENOBUFS) {
        return;
    }
    stat_add(&server->stats->resets, 1);
    conn_close(server, conn);
}

void conn_on_recv(struct server *server, struct conn *conn, const struct io_event *event)
{
    if (event->is_last) {
        conn->is_receiving = false;
    }
    if (conn->state == CONN_CLOSING) {
        return;
    }
    if (event->result > 0) {
        stat_add(&server->stats->received_bytes, (uint64_t)event->result);
        conn_input(server, conn, event->data, (size_t)event->result);
    } else if (event->result == 0) {
        conn->is_peer_done = true;
        if (conn->stream == CONN_STREAM_UPGRADED) {
            conn_stream_end(server, conn, false); /* half a connection has no use for it */
        }
    } else {
        conn_recv_failed(server, conn, event->result);
    }
    if (event->is_last) {
        conn->is_recv_stopping = false;
    }
}

/* ---- answering ---- */

/* The last answer is in the output. */
static void conn_finish(struct server *server, struct conn *conn)
{
    ASSERT(conn->state == CONN_OPEN);
    conn->needs_linger = conn->needs_linger || conn->in_bytes > 0;
    conn->state = CONN_FINISHING;
    conn->stage = STAGE_DONE;
    conn->wait = WAIT_NONE;
    conn_in_drop(server, conn);
}

static void conn_fault_body(struct server *server, const struct http_fault *fault, struct buf *body)
{
    if (server->callbacks.on_fault_body != NULL) {
        server->callbacks.on_fault_body(server->callbacks.context, fault, body);
        return;
    }
    buf_put_text(body, "{\"detail\":");
    buf_put_json_string(body, (struct slice){(const uint8_t *)fault->text, strlen(fault->text)});
    buf_put_text(body, "}");
}

static struct slice conn_fault_fields(unsigned status)
{
    if (status == 503) {
        return SLICE_LITERAL("Retry-After: 1\r\n");
    }
    if (status == 415) {
        return SLICE_LITERAL("Accept-Encoding: gzip, zstd\r\n");
    }
    return (struct slice){NULL, 0};
}

static void conn_fault_answer(struct server *server, struct conn *conn)
{
    uint8_t memory[1024];
    struct buf body;

    ASSERT(conn->unanswered == 0);
    buf_init(&body, memory, sizeof(memory));
    conn_fault_body(server, &conn->fault, &body);
    struct http_answer answer = {
        .status = conn->fault.status,
        .content_type = "application/json",
        .extra = conn_fault_fields(conn->fault.status),
        .body = {memory, body.bytes},
    };
    conn->is_head_method =
        false; /* the request line may not have been understood: better a body than none */
    stat_add(&server->stats->faults[conn->fault.status], 1);
    stat_add(&server->stats->answers, 1);
    if (!conn_out_answer(server, conn, &answer, true)) {
        conn_close(server, conn);
        return;
    }
    conn->needs_linger = true;
    conn_finish(server, conn);
}

void conn_fault(struct server *server, struct conn *conn, unsigned status, const char *text)
{
    ASSERT(status < ARRAY_COUNT(server->stats->faults));
    if (conn->state != CONN_OPEN || conn->fault.status != 0) {
        return;
    }
    conn->fault = (struct http_fault){(uint16_t)status, text};
    conn->stage = STAGE_DONE;
    conn->wait = WAIT_NONE;
    if (conn->unanswered == 0) {
        conn_fault_answer(server, conn);
    }
}

static bool conn_may_resume(const struct server *server, const struct conn *conn)
{
    switch ((enum conn_wait)conn->wait) {
    case WAIT_NONE:
        return false;
    case WAIT_ANSWERS:
        return conn->unanswered == 0;
    case WAIT_PIPELINE:
        return conn->unanswered <= server->options.pipeline_max / 2;
    case WAIT_SEND:
        return conn_out_unsent(conn) <= CONN_UNSENT_MAX / 2;
    case WAIT_STREAM:
        return conn->stream == CONN_STREAM_NONE;
    }
    return false;
}

static void conn_wake(struct server *server, struct conn *conn)
{
    if (conn_may_resume(server, conn)) {
        conn->wait = WAIT_NONE;
        conn_table_list(server, conn, LIST_RESUME);
    }
}

void conn_answered(struct server *server, struct conn *conn, bool must_close)
{
    ASSERT(conn->state == CONN_OPEN);
    ASSERT(conn->unanswered > 0);
    conn_set_unanswered(server, conn, conn->unanswered - 1);
    conn->active_ns = server->now_ns;
    stat_add(&server->stats->answers, 1);
    if (must_close) {
        conn->needs_linger = true; /* whatever else the peer has sent goes unanswered */
        conn_finish(server, conn);
        return;
    }
    if (conn->unanswered == 0) {
        if (conn->fault.status != 0) {
            conn_fault_answer(server, conn);
            return;
        }
        if (conn->closes_after) {
            conn_finish(server, conn);
            return;
        }
        if (conn->owes_continue) {
            conn->owes_continue = false;
            conn_out_continue(server, conn);
        }
    }
    conn_wake(server, conn);
}

void conn_on_send(struct server *server, struct conn *conn, const struct io_event *event)
{
    if (!conn_out_sent(server, conn, event->result)) {
        if (conn->state != CONN_CLOSING) {
            stat_add(&server->stats->resets, 1);
            conn_close(server, conn);
        }
        return;
    }
    conn->active_ns = server->now_ns;
    if (conn->state == CONN_OPEN) {
        conn_wake(server, conn);
        if (UNLIKELY(conn->stream != CONN_STREAM_NONE)) {
            conn_stream_note(server, conn);
        }
    }
}

/* ---- late ---- */

static uint64_t conn_body_due(const struct server *server, const struct conn *conn)
{
    uint64_t rate = server->options.body_rate_min;
    uint64_t bought = rate > 0 ? conn->body_received / rate * NS_S : 0;

    return conn->body_ns + server->options.body_timeout_ns + bought;
}

static bool conn_is_collecting(const struct conn *conn)
{
    return conn->stage == STAGE_LENGTH || conn->stage == STAGE_CHUNKED;
}

/* Nothing asked, nothing owed. */
static bool conn_is_idle(const struct conn *conn)
{
    return conn->state == CONN_OPEN && conn->stage == STAGE_HEAD && conn->unanswered == 0 &&
           !conn->is_sending && conn->wait == WAIT_NONE && conn->in_bytes == 0 &&
           !conn->is_listed[LIST_RESUME] && conn_out_unsent(conn) == 0;
}

uint64_t conn_due(const struct server *server, const struct conn *conn)
{
    uint64_t due = conn->is_sending ? conn->send_ns + server->options.send_timeout_ns : UINT64_MAX;

    if (conn->state == CONN_LINGERING) {
        return conn->linger_ns + server->options.linger_ns;
    }
    if (conn->state != CONN_OPEN || conn->wait != WAIT_NONE) {
        return due;
    }
    if (conn_is_collecting(conn)) {
        due = u64_min(due, conn_body_due(server, conn));
    } else if (conn->stage == STAGE_HEAD && conn->head_ns != 0) {
        due = u64_min(due, conn->head_ns + server->options.head_timeout_ns);
    } else if (conn_is_idle(conn)) {
        due = u64_min(due, conn->active_ns + server->options.idle_timeout_ns);
    }
    return due;
}

/* The timer only ever moves to an earlier time; when it fires too early, it is set to the time that
 * holds by then. So a connection that keeps busy costs one move per shortest timeout, not one per
 * request. */
static void conn_set_timer(struct server *server, struct conn *conn)
{
    uint64_t due = conn_due(server, conn);

    if (due != UINT64_MAX && (!wheel_is_armed(&conn->timer) || due < conn->timer_ns)) {
        conn->timer_ns = due;
        wheel_set(&server->wheel, &conn->timer, due);
    }
}

void conn_on_timer(struct server *server, struct conn *conn)
{
    if (conn_due(server, conn) > server->now_ns) {
        conn_set_timer(server, conn);
        return;
    }
    if (conn->is_sending && conn->send_ns + server->options.send_timeout_ns <= server->now_ns) {
        stat_add(&server->stats->timeouts_send, 1);
        conn_close(server, conn);
    } else if (conn->state == CONN_LINGERING) {
        conn_close(server, conn);
    } else if (conn_is_collecting(conn)) {
        stat_add(&server->stats->timeouts_body, 1);
        conn_fault(server, conn, 408, "The body did not arrive in time.");
    } else if (conn->head_ns != 0) {
        stat_add(&server->stats->timeouts_head, 1);
        conn_fault(server, conn, 408, "The request head did not arrive in time.");
    } else {
        stat_add(&server->stats->timeouts_idle, 1);
        conn_close(server, conn);
    }
    conn_settle(server, conn);
}

/* ---- ending ---- */

void conn_close(struct server *server, struct conn *conn)
{
    if (conn->state == CONN_CLOSING) {
        return;
    }
    ASSERT(conn->state != CONN_FREE);
    conn->state = CONN_CLOSING;
    conn->stage = STAGE_DONE;
    conn->wait = WAIT_NONE;
    wheel_cancel(&server->wheel, &conn->timer);
    conn_in_drop(server, conn);
    conn_out_drop(server, conn);
    if (conn->stream != CONN_STREAM_NONE) {
        conn_table_list(server, conn, LIST_STREAM);
    }
    stat_add(&server->stats->closed, 1);
    conn->is_shut = true;
    io_shut(server->io, conn_key(conn), conn->fd);
}

void conn_on_close(struct server *server, struct conn *conn)
{
    (void)server;
    ASSERT(conn->is_shut);
    conn->is_fd_closed = true;
}

/* Our last answer is out, but closing now would answer the peer's next bytes with a reset, and a
 * reset destroys what the peer has not read yet (RFC 9112 §9.6). */
static void conn_linger(struct server *server, struct conn *conn)
{
    if (!conn->needs_linger || conn->is_peer_done || server->options.linger_ns == 0) {
        conn_close(server, conn);
        return;
    }
    /* A system call on a cold path: the ring would hand a shutdown to a worker thread. An error
     * shows at the next receive. */
    (void)shutdown(conn->fd, SHUT_WR);
    conn->state = CONN_LINGERING;
    conn->linger_ns = server->now_ns;
}

static void conn_settle_state(struct server *server, struct conn *conn)
{
    bool is_all_sent = !conn->is_sending && conn_out_unsent(conn) == 0;

    if (conn->state == CONN_FINISHING && is_all_sent) {
        conn_linger(server, conn);
    }
    if (conn->state == CONN_LINGERING &&
        (conn->is_peer_done || conn->discarded_bytes > CONN_LINGER_BYTES)) {
        conn_close(server, conn);
    }
    if (conn->state == CONN_OPEN && is_all_sent && conn->unanswered == 0 &&
        conn->wait == WAIT_NONE && !conn->is_listed[LIST_RESUME]) {
        /* The peer's last request is answered; what is left, if anything, is a request that will
         * never be whole. */
        if (conn->is_peer_done ||
            (server->is_draining && conn_is_idle(conn) && conn->head_ns == 0)) {
            conn_close(server, conn);
        }
    }
}

void conn_settle(struct server *server, struct conn *conn)
{
    conn_settle_state(server, conn);
    if (conn->state == CONN_CLOSING) {
        if (conn->is_fd_closed && !conn->is_receiving && !conn->is_sending &&
            conn->stream == CONN_STREAM_NONE) {
            conn_out_drop(server, conn);
            conn_table_give(server, conn);
        }
        return;
    }
    conn_receive_or_not(server, conn);
    conn_set_timer(server, conn);
}
