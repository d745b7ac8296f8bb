/*
 * conn_table: the slots of the connections and the lists they stand on. All memory is mapped at
 * start and charged when first touched: a slot is touched only when every lower one was in use at
 * once. Full is NULL.
 */
#include "net/conn.h"

#include <errno.h>
#include <string.h>

#include "core/mem.h"

int conn_table_open(struct server *server, struct err *err)
{
    server->slot_count = server->options.connections_max + CONN_REFUSE_SLOTS;
    server->conns = mem_map(server->slot_count * sizeof(*server->conns));
    if (server->conns == NULL) {
        return err_set(err, -ENOMEM, "no memory for %u connections", server->slot_count);
    }
    return 0;
}

void conn_table_close(struct server *server)
{
    if (server->conns != NULL) {
        mem_unmap(server->conns, server->slot_count * sizeof(*server->conns));
        server->conns = NULL;
    }
}

static void conn_table_count_open(struct server *server)
{
    /* Relaxed: a gauge for readers, written by this thread only. */
    atomic_store_explicit(&server->stats->open_connections, server->open_count,
                          memory_order_relaxed);
}

struct conn *conn_table_take(struct server *server)
{
    struct conn *conn = server->free_first;

    if (conn != NULL) {
        server->free_first = conn->next_free;
    } else if (server->slot_touched < server->slot_count) {
        conn = &server->conns[server->slot_touched];
        conn->index = server->slot_touched++;
    } else {
        return NULL;
    }
    ASSERT(conn->state == CONN_FREE);
    memset(&conn->fd, 0, offsetof(struct conn, inline_out) - offsetof(struct conn, fd));
    conn->generation++;
    conn->state = CONN_OPEN;
    server->open_count++;
    conn_table_count_open(server);
    return conn;
}

void conn_table_give(struct server *server, struct conn *conn)
{
    ASSERT(conn->state == CONN_CLOSING);
    ASSERT(!wheel_is_armed(&conn->timer));
    ASSERT(server->open_count > 0);
    conn_set_unanswered(server, conn, 0); /* nobody is left to hear the answers */
    conn->state = CONN_FREE;
    conn->next_free = server->free_first;
    server->free_first = conn;
    server->open_count--;
    ASSERT(server->waiting_count <= server->open_count);
    conn_table_count_open(server);
}

void conn_set_unanswered(struct server *server, struct conn *conn, uint32_t unanswered)
{
    server->waiting_count -= conn->unanswered == 1;
    conn->unanswered = unanswered;
    server->waiting_count += conn->unanswered == 1;
    ASSERT(server->waiting_count <= server->open_count);
}

struct conn *conn_table_find(const struct server *server, uint32_t index, uint32_t generation)
{
    if (index >= server->slot_touched) {
        return NULL;
    }
    struct conn *conn = &server->conns[index];
    if (conn->state == CONN_FREE || ((conn->generation ^ generation) & IO_GENERATION_MASK) != 0) {
        return NULL;
    }
    return conn;
}

void conn_table_list(struct server *server, struct conn *conn, enum conn_list list)
{
    struct conn_queue *queue = &server->queues[list];

    if (conn->is_listed[list]) {
        return;
    }
    conn->is_listed[list] = true;
    conn->next[list] = NULL;
    if (queue->last != NULL) {
        queue->last->next[list] = conn;
    } else {
        queue->first = conn;
    }
    queue->last = conn;
    queue->count++;
}

struct conn *conn_table_next(struct server *server, enum conn_list list)
{
    struct conn_queue *queue = &server->queues[list];
    struct conn *conn = queue->first;

    if (conn == NULL) {
        return NULL;
    }
    queue->first = conn->next[list];
    if (queue->first == NULL) {
        queue->last = NULL;
    }
    queue->count--;
    conn->is_listed[list] = false;
    return conn;
}
