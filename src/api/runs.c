#include "api/runs.h"

#include <string.h>

#include "api/answer.h"
#include "api/route.h"
#include "api/runs_side.h"
#include "api/shard.h"

/* Of the media types in an Accept field this dialect's clients send exactly one; a browser's list does not name it. */
bool runs_wants_json(const struct http_request *request)
{
    struct slice type = SLICE_LITERAL("application/json");
    struct slice accept = http_head_field(request->head, request->head_base, "Accept");
    if (accept.bytes < type.bytes) {
        return false;
    }
    bool is_whole = accept.bytes == type.bytes || memchr(",; ", accept.data[type.bytes], 3) != NULL;
    return is_whole && slice_equal_nocase((struct slice){accept.data, type.bytes}, type);
}

static enum http_verdict answer_absent(struct shard *shard, const struct http_request *request)
{
    struct buf body;
    buf_init(&body, shard->scratch, 4096);
    struct http_answer answer =
        answer_detail(&body, 503,
                      "The database of agent runs is not open; the server's own log "
                      "says why",
                      SLICE_LITERAL("Retry-After: 10\r\n"));
    (void)server_answer(shard->server, request->conn, &answer);
    return HTTP_ANSWERED;
}

enum http_verdict runs_on_request(struct shard *shard, const struct route *route,
                                  const struct http_request *request)
{
    if (request->deferred_count != 0) {
        return HTTP_LATER;
    }
    bool is_writing = route_is_ingest(route, request->head->method);
    shard->counters.requests_other += !is_writing;
    if (shard->set->runs == NULL) {
        return answer_absent(shard, request);
    }
    return is_writing ? runs_write_on_request(shard, route, request)
                      : runs_reads_on_request(shard, route, request);
}
