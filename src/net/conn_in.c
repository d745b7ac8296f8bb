/*
 * conn_in: bytes of a connection that outlive the pass they came in: left-over input, and the head
 * and body of a request that is being collected. Blocks of the arena, given back as soon as they
 * are empty. False: the arena has no room (503).
 */
#include "net/conn.h"

#include <string.h>

enum {
    INPUT_BLOCK = 1024,
    DECODED_BLOCK = 64 * 1024,
};

static void conn_in_give(struct server *server, uint8_t **block)
{
    if (*block != NULL) {
        arena_give(server->arena, *block);
        *block = NULL;
    }
}

bool conn_in_keep(struct server *server, struct conn *conn, const uint8_t *data, size_t bytes)
{
    if (conn->in_capacity - conn->in_start - conn->in_bytes < bytes) {
        size_t wanted = conn->in_bytes + bytes;

        if (wanted <= conn->in_capacity && conn->in_start >= conn->in_bytes) {
            /* Enough was taken from the front that moving the rest is paid for by it. */
            memcpy(conn->in, conn->in + conn->in_start, conn->in_bytes);
        } else {
            size_t capacity = 0;
            uint8_t *block =
                arena_take(server->arena, u64_max(wanted + wanted / 2, INPUT_BLOCK), &capacity);
            if (block == NULL) {
                return false;
            }
            if (conn->in_bytes > 0) {
                memcpy(block, conn->in + conn->in_start, conn->in_bytes);
            }
            conn_in_give(server, &conn->in);
            conn->in = block;
            conn->in_capacity = capacity;
        }
        conn->in_start = 0;
    }
    memcpy(conn->in + conn->in_start + conn->in_bytes, data, bytes);
    conn->in_bytes += bytes;
    return true;
}

void conn_in_consume(struct server *server, struct conn *conn, size_t bytes)
{
    ASSERT(bytes <= conn->in_bytes);
    conn->in_start += bytes;
    conn->in_bytes -= bytes;
    if (conn->in_bytes == 0) {
        conn_in_give(server, &conn->in);
        conn->in_start = 0;
        conn->in_capacity = 0;
    }
}

bool conn_in_collect(struct server *server, struct conn *conn, const uint8_t *head,
                     size_t head_bytes, size_t body_bytes)
{
    size_t capacity = 0;

    ASSERT(conn->head == NULL);
    ASSERT(conn->body == NULL);
    conn->head = arena_take(server->arena, head_bytes, &capacity);
    conn->body = arena_take(server->arena, body_bytes, &conn->body_capacity);
    if (conn->head == NULL || conn->body == NULL) {
        conn_in_drop_body(server, conn);
        return false;
    }
    memcpy(conn->head, head, head_bytes);
    conn->head_bytes = head_bytes;
    conn->body_bytes = 0;
    conn->body_received = 0;
    return true;
}

bool conn_in_grow_body(struct server *server, struct conn *conn, size_t capacity)
{
    size_t got = 0;
    uint8_t *block = arena_take(server->arena, capacity, &got);

    if (block == NULL) {
        return false;
    }
    memcpy(block, conn->body, conn->body_bytes);
    conn_in_give(server, &conn->body);
    conn->body = block;
    conn->body_capacity = got;
    return true;
}

void conn_in_drop_body(struct server *server, struct conn *conn)
{
    conn_in_give(server, &conn->head);
    conn_in_give(server, &conn->body);
    conn->head_bytes = 0;
    conn->body_bytes = 0;
    conn->body_capacity = 0;
}

void conn_in_drop(struct server *server, struct conn *conn)
{
    if (server->presenting == conn) {
        return; /* on_request still looks at them; whoever called it comes back here */
    }
    conn_in_drop_body(server, conn);
    conn_in_consume(server, conn, conn->in_bytes);
}

uint8_t *conn_in_take(struct conn *conn, struct slice *bytes)
{
    uint8_t *block = conn->in;

    *bytes = (struct slice){block != NULL ? block + conn->in_start : NULL, conn->in_bytes};
    conn->in = NULL;
    conn->in_start = 0;
    conn->in_bytes = 0;
    conn->in_capacity = 0;
    return block;
}

static uint8_t *conn_in_on_grow(void *context, uint8_t *old, size_t used, size_t at_least,
                                size_t *capacity)
{
    struct server *server = context;
    uint8_t *block = arena_take(server->arena, at_least, capacity);

    if (block == NULL) {
        return NULL;
    }
    if (used > 0) {
        memcpy(block, old, used);
    }
    conn_in_give(server, &old);
    return block;
}

bool conn_in_decode(struct server *server, const struct conn *conn, enum http_coding coding,
                    struct slice body, struct content_output *out, struct http_fault *fault)
{
    size_t capacity = 0;

    *out = (struct content_output){
        .bytes_max = (size_t)conn->body_max,
        .ratio_max = server->options.decode_ratio_max,
        .grow = conn_in_on_grow,
        .context = server,
    };
    out->data = arena_take(server->arena,
                           u64_min(u64_max(body.bytes * 4, INPUT_BLOCK), DECODED_BLOCK), &capacity);
    out->capacity = capacity;
    if (out->data == NULL) {
        *fault = (struct http_fault){503, "No memory for the decoded body."};
        return false;
    }
    if (content_decode(server->decoder, coding, body, out, fault) != 0) {
        conn_in_give(server, &out->data);
        return false;
    }
    return true;
}
