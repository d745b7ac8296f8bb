/*
 * tail_conn: the shard's side of a tail: the WebSocket's control frames between the worker's
 * messages. Pure bytes in, bytes out (but for the websocket's own memory); the shard's thread.
 *
 * A message of the worker's comes in pieces, and a control frame must not stand inside a frame, so
 * control frames wait in tail->control for the end of a message. A client that makes more of them
 * wait than fit is closed without ceremony.
 */
#include "api/tail.h"

#include <string.h>

#include "core/mem.h"

static void control_on_write(void *context, struct slice bytes)
{
    struct query_job *job = context;
    struct tail_conn *tail = &job->tail;
    if (bytes.bytes > sizeof tail->control - tail->control_bytes) {
        tail->is_closing = true;
        tail->is_closed = true; /* nothing is owed to it any more */
        tail->control_bytes = 0;
        return;
    }
    memcpy(tail->control + tail->control_bytes, bytes.data, bytes.bytes);
    tail->control_bytes += (uint32_t)bytes.bytes;
}

static void tail_on_event(void *context, enum websocket_event event, struct slice data)
{
    struct query_job *job = context;
    struct tail_conn *tail = &job->tail;
    const struct tail_link *link = tail->link;
    if (event == WEBSOCKET_PONG) {
        tail->pong_due_ns = 0;
    } else if (event == WEBSOCKET_CLOSED) {
        tail->is_closing = true;
        tail->is_closed = true;
        tail->close_due_ns = link->now_ns + TAIL_CLOSE_NS;
    } else if (!tail->is_closing && !link->on_text(link->context, job, data)) {
        tail_conn_close(job, TAIL_TRY_AGAIN_LATER, "too many messages", link->now_ns);
    }
}

bool tail_conn_open(struct query_job *job, uint64_t now_ns)
{
    memset(&job->tail, 0, sizeof job->tail);
    /* A connection that becomes a tail is rare and lives long. */
    mem_unlatch_begin();
    job->tail.websocket = websocket_new(tail_on_event, control_on_write, job);
    mem_unlatch_end();
    job->tail.ping_at_ns = now_ns + TAIL_PING_NS;
    return job->tail.websocket != NULL;
}

void tail_conn_free(struct query_job *job)
{
    if (job->tail.websocket != NULL) {
        websocket_free(job->tail.websocket);
        job->tail.websocket = NULL;
    }
}

void tail_conn_feed(struct query_job *job, const struct tail_link *link, struct slice bytes)
{
    if (job->tail.is_closed) {
        return;
    }
    job->tail.link = link;
    websocket_feed(job->tail.websocket, bytes);
    job->tail.link = NULL;
}

void tail_conn_tick(struct query_job *job, uint64_t now_ns)
{
    struct tail_conn *tail = &job->tail;
    if (tail->is_closing) {
        return;
    }
    if (tail->pong_due_ns != 0 && now_ns >= tail->pong_due_ns) {
        tail_conn_close(job, WEBSOCKET_GOING_AWAY, "no answer to a ping", now_ns);
        return;
    }
    /* Inside a message it is the message that shows whether the client is there: the server closes
     * who takes nothing. */
    if (now_ns >= tail->ping_at_ns && tail->pong_due_ns == 0 && !tail->is_inside) {
        websocket_send_ping(tail->websocket);
        tail->pong_due_ns = now_ns + TAIL_PONG_NS;
        tail->ping_at_ns = now_ns + TAIL_PING_NS;
    }
}

void tail_conn_close(struct query_job *job, uint16_t code, const char *reason, uint64_t now_ns)
{
    struct tail_conn *tail = &job->tail;
    if (tail->is_closing) {
        return;
    }
    tail->is_closing = true;
    tail->close_due_ns = now_ns + TAIL_CLOSE_NS;
    websocket_send_close(tail->websocket, code,
                         (struct slice){(const uint8_t *)reason, strlen(reason)});
}

bool tail_conn_takes(const struct query_job *job)
{
    return !job->tail.is_closing || job->tail.is_inside;
}

struct slice tail_conn_control(const struct query_job *job)
{
    const struct tail_conn *tail = &job->tail;
    return (struct slice){tail->control, tail->is_inside ? 0 : tail->control_bytes};
}

void tail_conn_sent(struct query_job *job)
{
    job->tail.control_bytes = 0;
}

bool tail_conn_is_over(const struct query_job *job, uint64_t now_ns)
{
    const struct tail_conn *tail = &job->tail;
    bool is_late = tail->close_due_ns != 0 && now_ns >= tail->close_due_ns;
    return is_late || (tail->is_closed && tail->control_bytes == 0);
}
