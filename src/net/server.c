/*
 * server: the door of net and the shard's pass over its sockets. Owned by the shard's thread.
 *
 * Normal run: server_poll takes events from the ring and hands each to its connection, then goes on
 * with connections that waited; the caller answers; server_flush turns all answers of the pass into
 * one send per connection. What goes wrong: no descriptor for a new connection (accepting pauses
 * ACCEPT_RETRY_NS); more connections than allowed (503 and close); no receive buffer (re-armed in
 * order, when buffers are back). On close: listeners first, so that the port is free at once; then
 * every operation is cancelled.
 */
#include "net/server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "net/conn.h"
#include "net/listen.h"

#define ACCEPT_RETRY_NS (100 * NS_MS)
#define TIMER_TICK_NS   (50 * NS_MS)

static void server_refresh_date(struct server *server)
{
    if (server->now_ns < server->date_due_ns) {
        return;
    }
    int64_t real_ns = clock_real_ns();
    memcpy(server->date_line, "Date: ", 6);
    clock_http_date(server->date_line + 6, real_ns);
    memcpy(server->date_line + 6 + CLOCK_HTTP_DATE_BYTES, "\r\n", 2);
    server->date_bytes = 6 + CLOCK_HTTP_DATE_BYTES + 2;
    server->date_due_ns = server->now_ns + NS_S - (uint64_t)real_ns % NS_S;
}

struct slice server_date_line(struct server *server)
{
    return (struct slice){(const uint8_t *)server->date_line, server->date_bytes};
}

/* ---- accepting ---- */

static void server_arm_accept(struct server *server, uint32_t index)
{
    struct listener *listener = &server->listeners[index];

    if (listener->fd >= 0 && !listener->is_armed) {
        listener->is_armed = true;
        io_accept(server->io, (struct io_key){index, 0}, listener->fd);
    }
}

static void server_arm_accepts(struct server *server)
{
    server->accept_retry_ns = 0;
    for (uint32_t i = 0; i < server->options.listen_count; i++) {
        server_arm_accept(server, i);
    }
}

static void server_take_connection(struct server *server, int fd)
{
    bool is_refused = server->open_count >= server->options.connections_max;
    struct conn *conn = conn_table_take(server);

    stat_add(&server->stats->accepted, 1);
    if (is_refused) {
        stat_add(&server->stats->refused_connections, 1);
    }
    if (conn == NULL) {
        /* Even those who are told "503" have used up their slots: this one is just closed. */
        stat_add(&server->stats->closed, 1);
        close(fd);
        return;
    }
    conn_begin(server, conn, fd);
    if (is_refused) {
        conn_fault(server, conn, 503, "Too many connections.");
        conn_settle(server, conn);
    }
}

static void server_on_accept(struct server *server, const struct io_event *event)
{
    struct listener *listener = &server->listeners[event->key.index];

    if (event->is_last) {
        listener->is_armed = false;
    }
    if (event->result >= 0) {
        if (server->is_draining) {
            close(event->result);
            return;
        }
        server_take_connection(server, event->result);
    } else if (event->result != -ECANCELED && !server->is_draining) {
        stat_add(&server->stats->accept_errors, 1);
    }
    if (listener->is_armed || server->is_draining) {
        return;
    }
    if (event->result >= 0 || event->result == -ECONNABORTED) {
        server_arm_accept(server, event->key.index);
    } else if (server->accept_retry_ns == 0) {
        /* Out of descriptors or memory: arming at once would only fail again. */
        server->accept_retry_ns = server->now_ns + ACCEPT_RETRY_NS;
    }
}

static void server_close_listeners(struct server *server)
{
    for (uint32_t i = 0; i < server->options.listen_count; i++) {
        struct listener *listener = &server->listeners[i];
        if (listener->fd >= 0) {
            /* From here on nobody gets in; the close alone would leave that to the moment when the
             * kernel lets go of the cancelled accept. */
            (void)shutdown(listener->fd, SHUT_RDWR);
            io_shut(server->io, (struct io_key){UINT32_MAX, 0}, listener->fd); /* no connection */
            listener->fd = -1;
        }
    }
}

/* ---- one pass ---- */

static void server_on_wake(struct server *server, const struct io_event *event)
{
    park_drain(server->options.park);
    if (event->is_last) {
        io_wake(server->io, server->options.park->fd);
    }
}

static void server_on_conn_event(struct server *server, const struct io_event *event)
{
    struct conn *conn = conn_table_find(server, event->key.index, event->key.generation);

    if (conn == NULL) {
        return; /* a listener's close, or an earlier life of the slot */
    }
    if (event->op == IO_RECV) {
        conn_on_recv(server, conn, event);
    } else if (event->op == IO_SEND) {
        conn_on_send(server, conn, event);
    } else {
        conn_on_close(server, conn);
    }
    conn_settle(server, conn);
}

static void server_on_event(struct server *server, const struct io_event *event)
{
    switch (event->op) {
    case IO_ACCEPT:
        server_on_accept(server, event);
        break;
    case IO_WAKE:
        server_on_wake(server, event);
        break;
    case IO_RECV:
    case IO_SEND:
    case IO_CLOSE:
        server_on_conn_event(server, event);
        break;
    }
    io_buffer_give(server->io, event);
}

static void server_resume_waiting(struct server *server)
{
    size_t count = server->queues[LIST_RESUME]
                       .count; /* those that come back meanwhile have their turn next pass */

    for (size_t i = 0; i < count; i++) {
        struct conn *conn = conn_table_next(server, LIST_RESUME);
        if (conn->state == CONN_FREE) {
            continue;
        }
        conn_resume(server, conn);
        conn_settle(server, conn);
    }
}

static void server_tell_streams(struct server *server)
{
    size_t count = server->queues[LIST_STREAM]
                       .count; /* what the owners cause meanwhile has its turn next pass */

    for (size_t i = 0; i < count; i++) {
        conn_stream_tell(server, conn_table_next(server, LIST_STREAM));
    }
}

/* At the end of a pass all buffers are back; as many receives are armed as there are buffers, the
 * longest waiting first. */
static void server_feed_starved(struct server *server)
{
    size_t count = u64_min(server->queues[LIST_STARVED].count, server->options.recv_buffers);

    for (size_t i = 0; i < count; i++) {
        struct conn *conn = conn_table_next(server, LIST_STARVED);
        conn_rearm(server, conn);
    }
}

static void server_take_counts(struct server *server)
{
    struct io_counts counts = io_counts(server->io);

    /* Relaxed: statistics, written by this thread only. */
    atomic_store_explicit(&server->stats->ring_enters, counts.enters, memory_order_relaxed);
    atomic_store_explicit(&server->stats->cq_overflows, counts.cq_overflows, memory_order_relaxed);
}

static enum io_gathering server_gathering(const struct server *server, bool is_patient)
{
    if (!density_is_high(&server->density)) {
        return IO_GATHER_SENDS;
    }
    return is_patient ? IO_GATHER_LONG : IO_GATHER_SHORT;
}

/* How many clients may send something: all but those that wait for an answer. One with several
 * requests on their way does not wait for one before it sends the next. */
static uint32_t server_company(const struct server *server)
{
    return server->open_count - server->waiting_count;
}

int server_poll(struct server *server, uint64_t wait_ns, bool is_patient)
{
    struct io_event event;

    ASSERT_ROLE(ROLE_SHARD);
    int count = io_poll(server->io, server_has_work(server) ? 0 : wait_ns,
                        server_gathering(server, is_patient), server_company(server));
    if (UNLIKELY(count < 0)) {
        return count;
    }
    uint64_t now_ns = clock_mono_ns();
    density_note(&server->density, now_ns - server->now_ns, (uint32_t)count);
    server->now_ns = now_ns;
    server_refresh_date(server);
    while (io_next(server->io, &event)) { /* bound: the events of this pass */
        server_on_event(server, &event);
    }
    server_tell_streams(server);
    server_resume_waiting(server);
    server_feed_starved(server);
    stat_add(&server->stats->cqes, (uint64_t)count);
    server_take_counts(server);
    return count;
}

bool server_has_work(const struct server *server)
{
    /* Starved ones too: those that were armed in their stead may have nothing to receive, and then
     * no event would come. */
    return server->queues[LIST_DIRTY].count > 0 || server->queues[LIST_RESUME].count > 0 ||
           server->queues[LIST_STARVED].count > 0 || server->queues[LIST_STREAM].count > 0 ||
           io_has_events(server->io);
}

void server_flush(struct server *server)
{
    size_t count = server->queues[LIST_DIRTY].count;

    ASSERT_ROLE(ROLE_SHARD);
    for (size_t i = 0; i < count; i++) {
        struct conn *conn = conn_table_next(server, LIST_DIRTY);
        if (conn->state == CONN_FREE || conn->state == CONN_CLOSING) {
            continue;
        }
        conn_out_flush(server, conn);
        conn_settle(server, conn);
    }
}

/* ---- timers ---- */

static void server_on_timer(void *context, struct wheel_timer *timer)
{
    conn_on_timer(context, CONTAINER_OF(timer, struct conn, timer));
}

void server_tick(struct server *server, uint64_t now_ns)
{
    ASSERT_ROLE(ROLE_SHARD);
    server->now_ns = u64_max(server->now_ns, now_ns);
    if (server->accept_retry_ns != 0 && server->now_ns >= server->accept_retry_ns) {
        server_arm_accepts(server);
    }
    (void)wheel_advance(&server->wheel, now_ns, server_on_timer, server);
}

uint64_t server_wait_ns(const struct server *server, uint64_t now_ns)
{
    uint64_t wait_ns = wheel_wait_ns(&server->wheel, now_ns);

    if (server->accept_retry_ns != 0) {
        uint64_t retry_ns = server->accept_retry_ns > now_ns ? server->accept_retry_ns - now_ns : 0;
        wait_ns = u64_min(wait_ns, retry_ns);
    }
    return wait_ns;
}

/* ---- answers ---- */

static struct conn *server_conn(struct server *server, struct conn_handle handle)
{
    struct conn *conn = conn_table_find(server, handle.index, handle.generation);

    if (conn == NULL || conn->generation != handle.generation || conn->state != CONN_OPEN) {
        return NULL;
    }
    ASSERT(conn->unanswered > 0);
    return conn;
}

static int server_answer_lost(struct server *server, struct conn *conn)
{
    conn_close(server, conn);
    return -ENOMEM;
}

int server_answer(struct server *server, struct conn_handle handle,
                  const struct http_answer *answer)
{
    struct conn *conn = server_conn(server, handle);

    ASSERT_ROLE(ROLE_SHARD);
    if (conn == NULL) {
        return -ESTALE;
    }
    bool is_last = conn->closes_after && conn->unanswered == 1;
    if (!conn_out_answer(server, conn, answer, answer->must_close || is_last)) {
        return server_answer_lost(server, conn);
    }
    conn_answered(server, conn, answer->must_close);
    return 0;
}

/* The head of a complete response: all that a HEAD request may have. */
static size_t server_response_head_bytes(struct slice response)
{
    const uint8_t *end = memmem(response.data, response.bytes, "\r\n\r\n", 4);

    return end != NULL ? (size_t)(end - response.data) + 4 : response.bytes;
}

int server_answer_raw(struct server *server, struct conn_handle handle, struct slice response,
                      bool must_close)
{
    struct conn *conn = server_conn(server, handle);

    ASSERT_ROLE(ROLE_SHARD);
    if (conn == NULL) {
        return -ESTALE;
    }
    if (UNLIKELY(conn->is_head_method)) {
        response.bytes = server_response_head_bytes(response);
    }
    uint8_t *memory = conn_out_reserve(server, conn, response.bytes);
    if (memory == NULL) {
        return server_answer_lost(server, conn);
    }
    memcpy(memory, response.data, response.bytes);
    conn_out_commit(server, conn, response.bytes);
    /* Ready bytes cannot say "keep-alive" to a 1.0 client, so for it they end the connection. */
    if (conn->is_http10 && conn->unanswered == 1) {
        conn->closes_after = true;
    }
    conn_answered(server, conn, must_close);
    return 0;
}

/* ---- who asks ---- */

uint32_t server_judged(const struct server *server, struct conn_handle *conn)
{
    ASSERT_ROLE(ROLE_SHARD);
    ASSERT(server->judging != NULL);
    *conn = (struct conn_handle){server->judging->index, server->judging->generation};
    return server->judging->unanswered;
}

int server_peer(struct server *server, struct conn_handle handle, struct sockaddr_storage *peer)
{
    struct conn *conn = conn_table_find(server, handle.index, handle.generation);

    ASSERT_ROLE(ROLE_SHARD);
    if (conn == NULL || conn->generation != handle.generation || conn->is_shut) {
        return -ESTALE;
    }
    if (conn->peer.ss_family == AF_UNSPEC) {
        socklen_t bytes = sizeof(conn->peer);
        if (getpeername(conn->fd, (struct sockaddr *)&conn->peer, &bytes) < 0) {
            int result = -errno;
            conn->peer.ss_family = AF_UNSPEC;
            return result;
        }
    }
    *peer = conn->peer;
    return 0;
}

/* ---- stopping ---- */

void server_drain(struct server *server)
{
    ASSERT_ROLE(ROLE_SHARD);
    if (server->is_draining) {
        return;
    }
    server->is_draining = true;
    server_close_listeners(server);
    for (uint32_t i = 0; i < server->slot_touched; i++) {
        if (server->conns[i].state != CONN_FREE) {
            conn_settle(server, &server->conns[i]);
        }
    }
}

bool server_is_drained(const struct server *server)
{
    return server->is_draining && server->open_count == 0;
}

/* ---- opening and closing ---- */

static int server_check_options(const struct server_options *options, struct err *err)
{
    if (options->listen_count == 0 || options->listen_count > SERVER_LISTEN_MAX) {
        return err_set(err, -EINVAL, "server: 1 to %d listen addresses", SERVER_LISTEN_MAX);
    }
    if (!is_power_of_two(options->recv_buffers) || options->recv_buffers > 32768) {
        return err_set(err, -EINVAL, "server.recv_buffers must be a power of two of at most 32768");
    }
    if (options->recv_buffer_bytes < 64 || options->connections_max == 0 ||
        options->pipeline_max == 0) {
        return err_set(err, -EINVAL,
                       "server: recv_buffer_bytes of at least 64, max_connections and pipeline_max "
                       "of at least 1");
    }
    return 0;
}

static int server_open_listeners(struct server *server, struct err *err)
{
    for (uint32_t i = 0; i < server->options.listen_count; i++) {
        struct listener *listener = &server->listeners[i];
        int fd = listen_open(server->options.listen[i], &listener->port, err);
        if (fd < 0) {
            return fd;
        }
        listener->fd = fd;
    }
    return 0;
}

static void server_free(struct server *server)
{
    for (uint32_t i = 0; i < SERVER_LISTEN_MAX; i++) {
        if (server->listeners[i].fd >= 0) {
            close(server->listeners[i].fd);
        }
    }
    if (server->decoder != NULL) {
        content_decoder_free(server->decoder);
    }
    if (server->arena != NULL) {
        arena_close(server->arena);
    }
    conn_table_close(server);
    mem_free(server);
}

static int server_open_parts(struct server *server, struct err *err)
{
    struct io_options io_options = {
        .connections_max = server->options.connections_max,
        .recv_buffers = server->options.recv_buffers,
        .recv_buffer_bytes = server->options.recv_buffer_bytes,
    };
    int r = conn_table_open(server, err);
    if (r == 0) {
        r = arena_init(&server->arena, server->options.arena_bytes, err);
    }
    if (r == 0) {
        r = server_open_listeners(server, err);
    }
    if (r == 0) {
        r = io_open(&server->io, &io_options, err); /* last: nothing after it can fail */
    }
    return r;
}

int server_open(struct server **out, const struct server_options *options,
                const struct server_callbacks *callbacks, struct err *err)
{
    ASSERT_ROLE(ROLE_SHARD);
    ASSERT(callbacks->on_request != NULL);
    int r = server_check_options(options, err);
    if (r < 0) {
        return r;
    }
    struct server *server = mem_alloc(sizeof(*server));
    server->options = *options;
    server->callbacks = *callbacks;
    server->stats = options->stats != NULL ? options->stats : &server->own_stats;
    for (uint32_t i = 0; i < SERVER_LISTEN_MAX; i++) {
        server->listeners[i].fd = -1;
    }
    r = server_open_parts(server, err);
    if (r < 0) {
        server_free(server);
        return r;
    }
    server->decoder = content_decoder_new();
    server->now_ns = clock_mono_ns();
    wheel_init(&server->wheel, TIMER_TICK_NS, server->now_ns);
    server_refresh_date(server);
    if (options->park != NULL) {
        io_wake(server->io, options->park->fd);
    }
    server_arm_accepts(server);
    *out = server;
    return 0;
}

void server_close(struct server *server)
{
    if (server == NULL) {
        return;
    }
    ASSERT_ROLE(ROLE_SHARD);
    server_close_listeners(server);
    io_close(server->io);
    for (uint32_t i = 0; i < server->slot_touched; i++) {
        const struct conn *conn = &server->conns[i];
        if (conn->state != CONN_FREE && !conn->is_shut) {
            close(conn->fd);
        }
    }
    server_free(server);
}

const struct server_stats *server_stats(const struct server *server)
{
    return server->stats;
}

size_t server_arena_used(const struct server *server)
{
    return arena_used_bytes(server->arena);
}

unsigned server_port(const struct server *server, unsigned index)
{
    ASSERT(index < server->options.listen_count);
    return server->listeners[index].port;
}
