#include "http_upstream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base.h"
#include "core/mem.h"

#define CONNS_MAX 64

struct conn {
    int fd;
    char *data;
    size_t bytes, room;
};

static void conn_close(struct conn *conn, bool is_reset)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (is_reset) {
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    (void)close(conn->fd);
    mem_free(conn->data);
    *conn = (struct conn){.fd = -1};
}

static void send_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
        if (n <= 0) {
            return;
        }
        data += n;
        bytes -= (size_t)n;
    }
}

static size_t header_value(const char *head, const char *name, char *to, size_t room)
{
    const char *at = strcasestr(head, name);
    to[0] = 0;
    if (at == NULL) {
        return 0;
    }
    at += strlen(name);
    at += strspn(at, " ");
    size_t bytes = strcspn(at, "\r\n");
    ASSERT(bytes < room);
    memcpy(to, at, bytes);
    to[bytes] = 0;
    return bytes;
}

/* False: the connection is closed. */
static bool answer(struct http_upstream *upstream, struct conn *conn, char *body, size_t bytes,
                   const char *head)
{
    struct upstream_request request = {.body = body, .bytes = bytes};
    struct upstream_reply reply = {.status = 200};
    char saved = body[bytes];
    (void)header_value(head, "\r\nIdempotency-Key:", request.key, sizeof request.key);
    body[bytes] = 0;
    upstream->script(upstream->context, &request, &reply);
    body[bytes] = saved;
    if (reply.status == 0) {
        conn_close(conn, true);
        mem_free(reply.body);
        return false;
    }
    char text[512];
    const char *with = reply.body == NULL ? "ok" : reply.body;
    int n = snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n",
                     reply.status, strlen(with), reply.headers == NULL ? "" : reply.headers);
    send_all(conn->fd, text, (size_t)n);
    send_all(conn->fd, with, strlen(with));
    mem_free(reply.body);
    return true;
}

/* Whole requests that are there; bounded by what was received. */
static void serve(struct http_upstream *upstream, struct conn *conn)
{
    while (conn->fd >= 0 && conn->bytes > 0) {
        char length[32];
        conn->data[conn->bytes] = 0;
        char *end = strstr(conn->data, "\r\n\r\n");
        if (end == NULL) {
            return;
        }
        *end = 0;
        (void)header_value(conn->data, "\r\nContent-Length:", length, sizeof length);
        size_t bytes = (size_t)strtoull(length, NULL, 10);
        size_t head = (size_t)(end - conn->data) + 4;
        if (conn->bytes < head + bytes) {
            *end = '\r';
            return;
        }
        if (answer(upstream, conn, conn->data + head, bytes, conn->data)) {
            conn->bytes -= head + bytes;
            memmove(conn->data, conn->data + head + bytes, conn->bytes);
        }
    }
}

static void receive(struct http_upstream *upstream, struct conn *conn)
{
    if (conn->room - conn->bytes < 65536) {
        size_t room = conn->room == 0 ? 1u << 17 : conn->room * 2;
        char *data = mem_alloc(room + 1);
        if (conn->bytes != 0) {
            memcpy(data, conn->data, conn->bytes);
        }
        mem_free(conn->data);
        conn->data = data;
        conn->room = room;
    }
    ssize_t n = recv(conn->fd, conn->data + conn->bytes, conn->room - conn->bytes, 0);
    if (n <= 0) {
        conn_close(conn, false);
        return;
    }
    conn->bytes += (size_t)n;
    serve(upstream, conn);
}

static void take(struct http_upstream *upstream, struct conn *conns)
{
    int fd = accept(upstream->listener, NULL, NULL);
    int one = 1;
    for (unsigned i = 0; i < CONNS_MAX && fd >= 0; i++) {
        if (conns[i].fd < 0) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            conns[i].fd = fd;
            return;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void *run(void *context)
{
    struct http_upstream *upstream = context;
    struct conn conns[CONNS_MAX];
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        conns[i] = (struct conn){.fd = -1};
    }
    while (!atomic_load_explicit(&upstream->must_stop, memory_order_acquire)) {
        struct pollfd fds[CONNS_MAX + 1];
        for (unsigned i = 0; i < CONNS_MAX; i++) {
            fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
        }
        fds[CONNS_MAX] = (struct pollfd){.fd = upstream->listener, .events = POLLIN};
        (void)poll(fds, CONNS_MAX + 1, 20);
        for (unsigned i = 0; i < CONNS_MAX; i++) {
            if (conns[i].fd >= 0 && fds[i].revents != 0) {
                receive(upstream, &conns[i]);
            }
        }
        if (fds[CONNS_MAX].revents != 0) {
            take(upstream, conns);
        }
    }
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        if (conns[i].fd >= 0) {
            conn_close(&conns[i], false);
        }
    }
    return NULL;
}

void http_upstream_start(struct http_upstream *upstream, upstream_script script, void *context)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    *upstream = (struct http_upstream){.script = script, .context = context};
    upstream->listener = socket(AF_INET, SOCK_STREAM, 0);
    ASSERT(upstream->listener >= 0);
    ASSERT(bind(upstream->listener, (struct sockaddr *)&address, sizeof address) == 0);
    ASSERT(listen(upstream->listener, 64) == 0);
    ASSERT(getsockname(upstream->listener, (struct sockaddr *)&address, &bytes) == 0);
    upstream->port = ntohs(address.sin_port);
    ASSERT(pthread_create(&upstream->thread, NULL, run, upstream) == 0);
}

void http_upstream_stop(struct http_upstream *upstream)
{
    atomic_store_explicit(&upstream->must_stop, true, memory_order_release);
    ASSERT(pthread_join(upstream->thread, NULL) == 0);
    (void)close(upstream->listener);
}
