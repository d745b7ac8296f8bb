/*
 * conn_request: from bytes to on_request. Requests are presented in order, straight from where the
 * kernel put them when they are complete there; else head and body are collected in blocks of the
 * arena and presented from those.
 *
 * Every refusal is a fault (conn_fault): answered after what is still unanswered, then the
 * connection ends. A request that may not be presented yet leaves its bytes untaken and sets
 * conn->wait; nothing is lost and nothing is judged twice with effect (on_head is asked again only
 * while it has not said yes).
 */
#include "net/conn.h"

#include <string.h>

/* A head without content length or with chunks has no body_wanted; this is what a chunked body
 * starts with. */
enum {
    CHUNKED_BLOCK = 16 * 1024,
    /* A declared length is only a claim: a few connections that declare the largest body and send
     * nothing must not take the memory of all others. Beyond this the block grows as the body
     * comes, at the price of one more copy. */
    LENGTH_BLOCK = 256 * 1024,
    SPILL_BYTES = 256,
};

static bool conn_request_may_go_on(const struct conn *conn)
{
    return conn->state == CONN_OPEN && conn->wait == WAIT_NONE && conn->stage != STAGE_DONE;
}

static bool conn_request_has_body(const struct http_head *head)
{
    return head->is_chunked || head->content_length > 0;
}

static bool conn_request_is_kind(const struct conn *conn, const struct http_head *head,
                                 struct slice fields)
{
    return conn->is_head_method == (head->method == HTTP_HEAD) &&
           conn->is_http10 == (head->version_minor == 0) && conn->fields.data == fields.data;
}

/* What every answer to this request carries because a browser asks. */
static struct slice conn_request_fields(const struct server *server, const struct http_head *head,
                                        const uint8_t *base)
{
    if (LIKELY(head->origin.bytes == 0) || server->callbacks.on_origin == NULL) {
        return (struct slice){NULL, 0};
    }
    return server->callbacks.on_origin(server->callbacks.context,
                                       http_span_slice(base, head->origin));
}

/* ---- presenting ---- */

/* Which buffers suit this client. Changing them costs a cancelled receive, so not at once. */
static void conn_request_note_size(struct conn *conn, uint64_t body_bytes)
{
    if (UNLIKELY(body_bytes >= CONN_LARGE_BYTES)) {
        conn->large_credit = CONN_LARGE_CREDIT;
    } else if (UNLIKELY(conn->large_credit > 0)) {
        conn->large_credit--;
    }
}

static void conn_request_begin(struct server *server, struct conn *conn,
                               const struct http_head *head)
{
    ASSERT(conn->unanswered == 0 || conn_request_is_kind(conn, head, conn->fields));
    conn->is_head_method = head->method == HTTP_HEAD;
    conn->is_http10 = head->version_minor == 0;
    conn->closes_after = !head->is_keep_alive || server->is_draining;
    conn_set_unanswered(server, conn, conn->unanswered + 1);
    conn->active_ns = server->now_ns;
    conn_request_note_size(conn, head->content_length);
}

/* Asks the owner of the meaning. False: later, when everything before is answered. */
static bool conn_request_call(struct server *server, struct conn *conn, const uint8_t *base,
                              struct slice body)
{
    struct http_request request = {
        .head = &server->parsed,
        .head_base = base,
        .body = body,
        .conn = {conn->index, conn->generation},
        .deferred_count = conn->unanswered,
        .now_ns = server->now_ns,
    };

    conn_request_begin(server, conn, &server->parsed);
    server->presenting = conn;
    enum http_verdict verdict = server->callbacks.on_request(server->callbacks.context, &request);
    server->presenting = NULL;
    if (verdict == HTTP_LATER) {
        ASSERT(request.deferred_count > 0);
        ASSERT(conn->unanswered == request.deferred_count + 1);
        conn_set_unanswered(server, conn, conn->unanswered - 1);
        conn->closes_after = false;
        conn->wait = WAIT_ANSWERS;
        return false;
    }
    stat_add(&server->stats->requests, 1);
    conn->is_head_judged = false;
    if (conn->state != CONN_OPEN) {
        conn_in_drop(server, conn);
        return true;
    }
    bool is_answered = verdict == HTTP_ANSWERED && conn->stream == CONN_STREAM_NONE;
    ASSERT(verdict == HTTP_DEFERRED || request.deferred_count == 0);
    ASSERT(conn->unanswered == request.deferred_count + (is_answered ? 0 : 1));
    if (UNLIKELY(verdict == HTTP_DEFERRED_ALONE)) {
        ASSERT(conn->stream == CONN_STREAM_NONE);
        conn->wait = WAIT_ANSWERS;
    }
    if (conn->closes_after) {
        conn->stage = STAGE_DONE; /* it was the last one */
    }
    return true;
}

/* Presents the request whose head is server->parsed. False: it waits. */
static bool conn_request_present(struct server *server, struct conn *conn, const uint8_t *base,
                                 struct slice body)
{
    if (LIKELY(server->parsed.coding == HTTP_CODING_IDENTITY || body.bytes == 0)) {
        return conn_request_call(server, conn, base, body);
    }
    struct content_output out;
    struct http_fault fault = {0};
    if (!conn_in_decode(server, conn, server->parsed.coding, body, &out, &fault)) {
        conn_fault(server, conn, fault.status, fault.text);
        return true;
    }
    bool is_taken = conn_request_call(server, conn, base, (struct slice){out.data, out.bytes});
    arena_give(server->arena, out.data);
    return is_taken;
}

/* The collected request: its head is parsed again, which costs less than keeping one struct
 * http_head per connection. */
static void conn_request_present_collected(struct server *server, struct conn *conn)
{
    struct http_fault fault;

    ASSERT(conn->stage == STAGE_READY);
    int r = http_head_parse(&server->parsed, conn->head, conn->head_bytes, 0,
                            &server->options.limits, &fault);
    ASSERT(r == 1);
    conn->stage = STAGE_HEAD;
    conn->head_ns = 0;
    if (!conn_request_present(server, conn, conn->head,
                              (struct slice){conn->body, conn->body_bytes})) {
        conn->stage = STAGE_READY;
        return;
    }
    conn_in_drop_body(server, conn);
}

/* ---- judging the head ---- */

/* Sends what on_head answered. Returns the bytes taken: with a body that is here already the
 * connection can go on. */
static size_t conn_request_answer_head(struct server *server, struct conn *conn,
                                       const struct http_answer *answer, size_t bytes)
{
    const struct http_head *head = &server->parsed;
    bool is_body_here = !head->is_chunked && head->content_length <= bytes - head->head_bytes;
    bool must_close = answer->must_close || !is_body_here;

    conn_request_begin(server, conn, head);
    stat_add(&server->stats->requests, 1);
    if (!conn_out_answer(server, conn, answer, must_close || conn->closes_after)) {
        conn_close(server, conn);
        return 0;
    }
    conn_answered(server, conn, must_close);
    conn->head_ns = 0;
    return is_body_here ? head->head_bytes + (size_t)head->content_length : head->head_bytes;
}

/* What net itself refuses. NULL: nothing. */
static const char *conn_request_refusal(const struct conn *conn, const struct http_head *head,
                                        unsigned *status)
{
    if (head->content_length > conn->body_max) {
        *status = 413;
        return "The body is larger than this server accepts.";
    }
    bool needs_length =
        head->method == HTTP_POST || head->method == HTTP_PUT || head->method == HTTP_PATCH;
    if (needs_length && !head->is_chunked && !head->has_content_length) {
        *status = 411;
        return "Content-Length or Transfer-Encoding: chunked is required.";
    }
    if (conn_request_has_body(head) && head->coding == HTTP_CODING_UNKNOWN) {
        *status = 415;
        return "Content-Encoding must be gzip, zstd or identity.";
    }
    return NULL;
}

/* Decides from the head alone. True: the body may come. Else *taken says what of the input is done
 * with. */
static bool conn_request_judge(struct server *server, struct conn *conn, const uint8_t *data,
                               size_t bytes, size_t *taken)
{
    const struct http_head *head = &server->parsed;

    *taken = 0;
    conn->body_max = server->options.limits.body_bytes_max;
    if (head->method == HTTP_OTHER) {
        conn_fault(server, conn, 501, "This method is not implemented.");
        return false;
    }
    if (server->callbacks.on_head != NULL) {
        struct http_answer answer = {0};
        server->judging = conn;
        enum http_head_verdict verdict = server->callbacks.on_head(server->callbacks.context, head,
                                                                   data, &conn->body_max, &answer);
        server->judging = NULL;
        if (verdict == HTTP_HEAD_ANSWERED && conn->unanswered > 0) {
            conn->wait = WAIT_ANSWERS; /* asked again when it is this request's turn */
            return false;
        }
        if (verdict == HTTP_HEAD_ANSWERED) {
            *taken = conn_request_answer_head(server, conn, &answer, bytes);
            return false;
        }
    }
    unsigned status = 0;
    const char *refusal = conn_request_refusal(conn, head, &status);
    if (refusal != NULL) {
        conn_fault(server, conn, status, refusal);
        return false;
    }
    conn->is_head_judged = true;
    return true;
}

/* ---- stages ---- */

static size_t conn_request_collect(struct server *server, struct conn *conn, const uint8_t *data,
                                   size_t bytes)
{
    const struct http_head *head = &server->parsed;
    size_t room =
        head->is_chunked ? CHUNKED_BLOCK : (size_t)u64_min(head->content_length, LENGTH_BLOCK);

    if (!conn_in_collect(server, conn, data, head->head_bytes, room)) {
        conn_fault(server, conn, 503, "No memory for the body at the moment.");
        return 0;
    }
    conn->body_ns = server->now_ns;
    conn->body_wanted = head->content_length;
    conn->stage = head->is_chunked ? STAGE_CHUNKED : STAGE_LENGTH;
    if (head->is_chunked) {
        struct http_limits limits = server->options.limits;
        limits.body_bytes_max = conn->body_max;
        http_chunked_init(&conn->chunked, &limits);
    }
    if (head->expects_continue && head->version_minor == 1 && bytes == head->head_bytes) {
        conn->owes_continue = conn->unanswered > 0; /* conn_answered comes back to it */
        if (!conn->owes_continue) {
            conn_out_continue(server, conn);
        }
    }
    return head->head_bytes;
}

static enum conn_wait conn_request_limit(const struct server *server, const struct conn *conn)
{
    if (conn->unanswered >= server->options.pipeline_max) {
        return WAIT_PIPELINE;
    }
    return conn_out_unsent(conn) > CONN_UNSENT_MAX ? WAIT_SEND : WAIT_NONE;
}

static size_t conn_request_head(struct server *server, struct conn *conn, const uint8_t *data,
                                size_t bytes)
{
    const struct http_head *head = &server->parsed;
    struct http_fault fault;
    size_t taken = 0;

    conn->wait = (uint8_t)conn_request_limit(server, conn);
    if (bytes == 0 || conn->wait != WAIT_NONE) {
        return 0;
    }
    int r = http_head_parse(&server->parsed, data, bytes, conn->scanned, &server->options.limits,
                            &fault);
    if (r == 0) {
        conn->scanned = bytes;
        conn->head_ns = conn->head_ns != 0 ? conn->head_ns : server->now_ns;
        return 0;
    }
    conn->scanned = 0;
    if (r < 0) {
        conn_fault(server, conn, fault.status, fault.text);
        return 0;
    }
    struct slice fields = conn_request_fields(server, head, data);
    if (conn->unanswered > 0 && !conn_request_is_kind(conn, head, fields)) {
        conn->wait = WAIT_ANSWERS;
        return 0;
    }
    conn->fields = fields;
    if (!conn->is_head_judged && !conn_request_judge(server, conn, data, bytes, &taken)) {
        return taken;
    }
    if (head->is_chunked || head->content_length > bytes - head->head_bytes) {
        return conn_request_collect(server, conn, data, bytes);
    }
    struct slice body = {data + head->head_bytes, (size_t)head->content_length};
    size_t whole = head->head_bytes + body.bytes; /* before the callback: head is shared */
    if (!conn_request_present(server, conn, data, body)) {
        return 0;
    }
    conn->head_ns = 0;
    return whole;
}

/* Doubles the block of a body that fills it, up to limit. False: a fault was raised. */
static bool conn_request_grow(struct server *server, struct conn *conn, size_t limit)
{
    if (conn->body_bytes < conn->body_capacity || conn->body_capacity >= limit) {
        return true;
    }
    if (!conn_in_grow_body(server, conn, u64_min(2 * conn->body_capacity, limit))) {
        conn_fault(server, conn, 503, "No memory for the body at the moment.");
        return false;
    }
    return true;
}

static size_t conn_request_length(struct server *server, struct conn *conn, const uint8_t *data,
                                  size_t bytes)
{
    if (!conn_request_grow(server, conn, (size_t)conn->body_wanted)) {
        return 0;
    }
    size_t room = u64_min(conn->body_capacity, conn->body_wanted) - conn->body_bytes;
    size_t part = u64_min(bytes, room);

    memcpy(conn->body + conn->body_bytes, data, part);
    conn->body_bytes += part;
    conn->body_received += part;
    if (conn->body_bytes == conn->body_wanted) {
        conn->stage = STAGE_READY;
    }
    return part;
}

static size_t conn_request_chunked(struct server *server, struct conn *conn, const uint8_t *data,
                                   size_t bytes)
{
    uint8_t spill[SPILL_BYTES];
    struct http_fault fault = {0};
    size_t taken = 0;
    size_t given = 0;

    if (!conn_request_grow(server, conn, (size_t)conn->body_max)) {
        return 0;
    }
    /* No room left: the body is full, only framing may come. */
    size_t room = conn->body_capacity - conn->body_bytes;
    uint8_t *to = room > 0 ? conn->body + conn->body_bytes : spill;
    size_t part = u64_min(bytes, room > 0 ? room : SPILL_BYTES);
    enum chunked_result result =
        http_chunked_decode(&conn->chunked, to, data, part, &taken, &given, &fault);
    if (result == CHUNKED_FAULT) {
        conn_fault(server, conn, fault.status, fault.text);
        return 0;
    }
    ASSERT(given <= room); /* the decoder knows body_max */
    conn->body_bytes += given;
    conn->body_received += taken;
    if (result == CHUNKED_DONE) {
        conn->stage = STAGE_READY;
    }
    return taken;
}

size_t conn_request_parse(struct server *server, struct conn *conn, uint8_t *data, size_t bytes)
{
    size_t taken = 0;

    while (conn_request_may_go_on(
        conn)) { /* bound: each turn takes input, presents a collected request, or ends */
        if (conn->stage == STAGE_READY) {
            conn_request_present_collected(server, conn);
            continue;
        }
        size_t left = bytes - taken;
        size_t step = 0;
        if (conn->stage == STAGE_HEAD) {
            step = conn_request_head(server, conn, data + taken, left);
        } else if (left > 0) {
            conn->owes_continue = false; /* the body is on its way */
            step = conn->stage == STAGE_LENGTH
                       ? conn_request_length(server, conn, data + taken, left)
                       : conn_request_chunked(server, conn, data + taken, left);
        }
        if (step == 0) {
            break;
        }
        taken += step;
    }
    return taken;
}
