#include "api/durable.h"

#include "api/answer.h"
#include "api/query_string.h"
#include "api/shard.h"
#include "api/upstream_view.h"
#include "core/config.h"

#include <string.h>

static uint64_t durable_lsn_now(const struct shard *shard)
{
    /* W1 (acquire end): whoever is told that an LSN is durable may rely on everything the writer
     * did before it said so. */
    return atomic_load_explicit(&shard->set->status->durable_lsn, memory_order_acquire);
}

static int durable_answer(struct shard *shard, struct conn_handle conn, uint64_t lsn)
{
    struct buf body;
    uint64_t durable = durable_lsn_now(shard);
    buf_init(&body, shard->scratch, 4096);
    buf_printf(&body, "{\"lsn\":%llu,\"durable\":%s,\"durable_lsn\":%llu,\"sinks\":",
               (unsigned long long)lsn, lsn <= durable ? "true" : "false",
               (unsigned long long)durable);
    upstream_view_delivered(&body, shard->set->upstream);
    buf_put_char(&body, '}');
    struct http_answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    return server_answer(shard->server, conn, &answer);
}

/* 422 in pydantic's terms. input: the parameter as it came (decoded); data NULL: it did not come.
 */
static enum http_verdict durable_refuse(struct shard *shard, const struct http_request *request,
                                        const char *parameter, const char *type,
                                        const char *message, struct slice input)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    buf_printf(&body,
               "{\"detail\":[{\"type\":\"%s\",\"loc\":[\"query\",\"%s\"],\"msg\":\"%s\",\"input\":",
               type, parameter, message);
    if (input.data == NULL) {
        buf_put_text(&body, "null");
    } else {
        buf_put_json_string(&body, input);
    }
    buf_put_text(&body, "}]}");
    struct http_answer answer = {
        .status = 422, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    (void)server_answer(shard->server, request->conn, &answer);
    return HTTP_ANSWERED;
}

/* 0 and *lsn, or -1: not a decimal LSN. */
static int durable_parse_lsn(const uint8_t *text, size_t bytes, uint64_t *lsn)
{
    uint64_t value = 0;
    if (bytes == 0 || bytes > 19) {
        return -1;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *lsn = value;
    return 0;
}

static enum http_verdict durable_wait(struct shard *shard, const struct http_request *request,
                                      uint64_t lsn, uint64_t wait_ns)
{
    struct durable_waiters *waiters = &shard->waiters;
    if (wait_ns == 0 || lsn <= durable_lsn_now(shard) || waiters->count == DURABLE_WAITERS_MAX) {
        (void)durable_answer(shard, request->conn, lsn);
        return HTTP_ANSWERED;
    }
    waiters->items[waiters->count++] = (struct durable_waiter){
        .conn = request->conn,
        .lsn = lsn,
        .deadline_ns = request->now_ns + u64_min(wait_ns, DURABLE_WAIT_NS_MAX),
    };
    return HTTP_DEFERRED;
}

/* 0, or the refusal's verdict. */
static int durable_read_lsn(struct shard *shard, const struct http_request *request,
                            struct slice query, uint64_t *lsn)
{
    uint8_t text[64];
    size_t bytes = 0;
    int found = query_string_find(query, "lsn", text, sizeof text, &bytes);
    struct slice input = {text, bytes};
    if (found == 0) {
        return (int)durable_refuse(shard, request, "lsn", "missing", "Field required",
                                   (struct slice){0});
    }
    if (found > 0 && bytes > 1 && text[0] == '-' &&
        durable_parse_lsn(text + 1, bytes - 1, lsn) == 0) {
        return (int)durable_refuse(shard, request, "lsn", "greater_than_equal",
                                   "Input should be greater than or equal to 0", input);
    }
    if (found < 0 || durable_parse_lsn(text, bytes, lsn) < 0) {
        return (int)durable_refuse(
            shard, request, "lsn", "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer", input);
    }
    return 0;
}

static int durable_read_wait(struct shard *shard, const struct http_request *request,
                             struct slice query, uint64_t *wait_ns)
{
    char text[64];
    size_t bytes = 0;
    int found = query_string_find(query, "wait", (uint8_t *)text, sizeof text - 1, &bytes);
    text[bytes] = 0;
    if (found == 0) {
        return 0;
    }
    if (found < 0 || config_parse_time(wait_ns, text) < 0 || *wait_ns > DURABLE_WAIT_NS_MAX) {
        return (int)durable_refuse(shard, request, "wait", "value_error",
                                   "Value error, a duration such as 500ms or 5s, at most 60s",
                                   (struct slice){(const uint8_t *)text, bytes});
    }
    return 0;
}

enum http_verdict durable_on_request(struct shard *shard, const struct http_request *request)
{
    ASSERT(request->deferred_count == 0);
    struct slice query = http_span_slice(request->head_base, request->head->query);
    uint64_t lsn = 0;
    uint64_t wait_ns = 0;
    int refused = durable_read_lsn(shard, request, query, &lsn);
    if (refused == 0) {
        refused = durable_read_wait(shard, request, query, &wait_ns);
    }
    return refused != 0 ? (enum http_verdict)refused : durable_wait(shard, request, lsn, wait_ns);
}

void durable_answer_due(struct shard *shard)
{
    struct durable_waiters *waiters = &shard->waiters;
    if (waiters->count == 0) {
        return;
    }
    uint64_t durable = durable_lsn_now(shard);
    unsigned kept = 0;
    for (unsigned i = 0; i < waiters->count; i++) {
        struct durable_waiter waiter = waiters->items[i];
        if (waiter.lsn <= durable || waiter.deadline_ns <= shard->now_ns || shard->is_draining) {
            (void)durable_answer(shard, waiter.conn, waiter.lsn);
        } else {
            waiters->items[kept++] = waiter;
        }
    }
    waiters->count = kept;
}

bool durable_is_waiting(const struct durable_waiters *waiters, struct conn_handle conn)
{
    for (unsigned i = 0; i < waiters->count; i++) {
        if (waiters->items[i].conn.index == conn.index &&
            waiters->items[i].conn.generation == conn.generation) {
            return true;
        }
    }
    return false;
}
