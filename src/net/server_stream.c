/*
 * server_stream: the doors of server.h to answers in pieces and upgraded connections: from a handle
 * to its connection, and whether it is one that may be spoken to. Owned by the shard's thread; what
 * happens then is in conn_stream.c.
 */
#include "net/server.h"

#include <errno.h>

#include "net/conn.h"

static struct conn *server_stream_find(const struct server *server, struct conn_handle handle)
{
    struct conn *conn = conn_table_find(server, handle.index, handle.generation);

    ASSERT_ROLE(ROLE_SHARD);
    return conn != NULL && conn->generation == handle.generation ? conn : NULL;
}

/* The connection of a request that waits for its answer. */
static struct conn *server_stream_asker(const struct server *server, struct conn_handle handle)
{
    struct conn *conn = server_stream_find(server, handle);

    return conn != NULL && conn->state == CONN_OPEN ? conn : NULL;
}

static struct conn *server_stream_open(const struct server *server, struct conn_handle handle)
{
    struct conn *conn = server_stream_find(server, handle);

    return conn != NULL && conn_stream_is_open(conn) ? conn : NULL;
}

int server_stream_begin(struct server *server, struct conn_handle handle,
                        const struct http_answer *answer)
{
    struct conn *conn = server_stream_asker(server, handle);

    return conn != NULL ? conn_stream_begin(server, conn, answer) : -ESTALE;
}

int server_upgrade(struct server *server, struct conn_handle handle, struct slice response)
{
    struct conn *conn = server_stream_asker(server, handle);

    return conn != NULL ? conn_stream_upgrade(server, conn, response) : -ESTALE;
}

size_t server_stream_room(const struct server *server, struct conn_handle handle)
{
    const struct conn *conn = server_stream_open(server, handle);

    return conn != NULL ? conn_stream_room(conn) : 0;
}

int server_stream_put(struct server *server, struct conn_handle handle, struct slice bytes)
{
    struct conn *conn = server_stream_open(server, handle);

    if (conn == NULL) {
        return -ESTALE;
    }
    ASSERT(bytes.bytes <= conn_stream_room(conn));
    return conn_stream_put(server, conn, bytes);
}

void server_stream_end(struct server *server, struct conn_handle handle, bool is_broken)
{
    struct conn *conn = server_stream_open(server, handle);

    if (conn != NULL) {
        conn_stream_end(server, conn, is_broken);
    }
}
