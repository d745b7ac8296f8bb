#include "api/quarantine.h"

#include <errno.h>
#include <string.h>

#include "api/answer.h"
#include "api/query_judge.h"
#include "api/query_string.h"
#include "api/shard.h"
#include "api/upstream_view.h"
#include "core/logline.h"
#include "core/mem.h"

#define LIMIT_DEFAULT   100u
#define PARAMETER_BYTES 256u
/* First try of an answer; what does not fit is tried again with fewer items, then with more room. */
#define ANSWER_BYTES     MIB(1)
#define ANSWER_BYTES_MAX MIB(256)

/* What a call asks, in query_call.order: these, or an order to be given. */
enum {
    ASK_LIST = 101,
    ASK_SHOW,
};

/* ---- the shard's half ---- */

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static unsigned not_found(struct buf *fault, const char *what, struct slice which)
{
    uint8_t text[PARAMETER_BYTES + 64];
    struct buf detail;
    buf_init(&detail, text, sizeof text);
    buf_put_text(&detail, what);
    buf_put_slice(&detail, which);
    buf_reset(fault);
    buf_put_text(fault, "{\"detail\":");
    buf_put_json_string(fault, (struct slice){detail.data, detail.bytes});
    buf_put_char(fault, '}');
    return 404;
}

static unsigned faults_status(struct query_faults *faults)
{
    return query_faults_end(faults) < 0 ? 422 : 0;
}

static int call_of_route(enum route_id id)
{
    switch ((int)id) {
    case ROUTE_SINK_REQUEUE:
    case ROUTE_QUARANTINE_REQUEUE:
        return UPSTREAM_REQUEUE;
    case ROUTE_SINK_DROP:
    case ROUTE_QUARANTINE_DROP:
        return UPSTREAM_DROP;
    case ROUTE_SINK_RESUME:
        return UPSTREAM_RESUME;
    case ROUTE_QUARANTINE:
        return ASK_LIST;
    default:
        ASSERT(id == ROUTE_QUARANTINE_ITEM);
        return ASK_SHOW;
    }
}

static bool is_of_sink(enum route_id id)
{
    return id == ROUTE_SINK_REQUEUE || id == ROUTE_SINK_DROP || id == ROUTE_SINK_RESUME;
}

/* Names are visible ASCII. Above all there is no NUL in them, which would make a C string end early and an order be
 * about another sink, or about all. */
static bool is_name(struct slice name)
{
    bool is_visible = true;
    for (size_t i = 0; i < name.bytes; i++) {
        is_visible = is_visible && name.data[i] > ' ' && name.data[i] < 0x7f;
    }
    return is_visible && name.bytes != 0 && name.bytes <= QUERY_CALL_NAME_MAX;
}

/* Of every sink that was ever configured; one that is no longer may still have records here. */
static unsigned take_name(struct query_call *call, struct slice name, struct buf *fault)
{
    if (!is_name(name)) {
        return not_found(fault, "No such sink: ", name);
    }
    memcpy(call->name, name.data, name.bytes);
    call->name_bytes = (uint32_t)name.bytes;
    return 0;
}

/* Ids are decimal, from 1. A number that no id can be is a record that there is not. */
static unsigned take_id(struct query_call *call, struct slice text, struct buf *fault)
{
    struct query_faults faults = {.body = fault, .place = "path"};
    uint64_t id = 0;
    bool is_number = text.bytes > 0;
    bool is_large = false;
    for (size_t i = 0; i < text.bytes && is_number; i++) {
        is_number = text.data[i] >= '0' && text.data[i] <= '9';
        is_large = is_large || id > (INT64_MAX - 9) / 10;
        id = is_large ? 0 : id * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (!is_number) {
        query_fault_add(&faults, "int_parsing", "id",
                        "Input should be a valid integer, unable to parse string as an integer",
                        text);
        return faults_status(&faults);
    }
    if (id == 0) {
        return not_found(fault, "No such record in quarantine: ", text);
    }
    call->id = id;
    return 0;
}

static unsigned read_path(struct query_call *call, const struct route *route, struct slice path,
                          struct buf *fault)
{
    uint8_t text[PARAMETER_BYTES];
    size_t bytes = 0;
    bool is_sink = is_of_sink(route->id);
    struct slice raw = route_parameter(route, path);
    int r = query_string_decode_segment(raw, text, sizeof text, &bytes);
    struct slice value = {text, bytes};
    if (r == -EINVAL) {
        struct query_faults faults = {.body = fault, .place = "path"};
        query_fault_add_value(&faults, is_sink ? "name" : "id", raw,
                              "a '%%' must be followed by two hexadecimal digits");
        return faults_status(&faults);
    }
    if (r < 0) {
        return not_found(fault,
                         is_sink ? "No such sink: " : "No such record in quarantine: ", value);
    }
    return is_sink ? take_name(call, value, fault) : take_id(call, value, fault);
}

/* The last of that name. 1; 0: not there, or empty; -1: a fault was listed. */
static int find_parameter(struct slice query, const char *name, struct query_faults *faults,
                          uint8_t *to, struct slice *value)
{
    struct slice raw = {0};
    struct slice key;
    struct slice one;
    size_t bytes = 0;
    while (query_string_next(&query, &key, &one)) { /* bound: the target */
        raw = slice_equal(key, text_slice(name)) ? one : raw;
    }
    int r = query_string_decode(raw, to, PARAMETER_BYTES, &bytes);
    *value = (struct slice){to, bytes};
    if (r == -EINVAL) {
        query_fault_add_value(faults, name, raw,
                              "a '%%' must be followed by two hexadecimal digits");
    } else if (r < 0) {
        query_fault_add(faults, "string_too_long", name,
                        "String should have at most 256 characters", *value);
    }
    return r < 0 ? -1 : bytes != 0;
}

/* fallback: what it is without that parameter, or with a fault. */
static uint64_t read_number(struct slice query, const char *name, struct query_faults *faults,
                            int64_t min, int64_t max, uint64_t fallback)
{
    uint8_t memory[PARAMETER_BYTES];
    struct slice value;
    int64_t number = 0;
    bool is_good = find_parameter(query, name, faults, memory, &value) > 0 &&
                   query_judge_integer(faults, name, value, min, max, &number);
    return is_good ? (uint64_t)number : fallback;
}

static unsigned read_query(struct query_call *call, struct slice query, struct buf *fault)
{
    uint8_t memory[PARAMETER_BYTES];
    struct query_faults faults = {.body = fault};
    struct slice value;
    call->limit = (uint32_t)read_number(query, "limit", &faults, 1, QUERY_LIMIT_MAX, LIMIT_DEFAULT);
    call->after = read_number(query, "cursor", &faults, 0, INT64_MAX, 0);
    int has_sink = find_parameter(query, "sink", &faults, memory, &value);
    unsigned status = faults_status(&faults);
    return status == 0 && has_sink > 0 ? take_name(call, value, fault) : status;
}

unsigned quarantine_read_request(struct query_call *call, const struct upstream *upstream,
                                 const struct route *route, struct slice path, struct slice query,
                                 struct buf *fault)
{
    if (upstream_view_sinks(upstream) == 0) {
        return not_found(fault, "No sinks are configured", (struct slice){0});
    }
    *call = (struct query_call){
        .answer = quarantine_answer,
        .context = upstream,
        .order = call_of_route(route->id),
    };
    return route->id == ROUTE_QUARANTINE ? read_query(call, query, fault)
                                         : read_path(call, route, path, fault);
}

enum http_verdict quarantine_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request)
{
    struct query_call call;
    struct buf fault;
    buf_init(&fault, shard->scratch, QUARANTINE_FAULT_BYTES);
    struct slice path = http_span_slice(request->head_base, request->head->path);
    struct slice query = http_span_slice(request->head_base, request->head->query);
    unsigned status =
        quarantine_read_request(&call, shard->set->upstream, route, path, query, &fault);
    if (status == 0) {
        return query_on_call(shard, request, &call);
    }
    struct http_answer answer = {
        .status = status, .content_type = ANSWER_JSON, .body = {fault.data, fault.bytes}};
    (void)server_answer(shard->server, request->conn, &answer);
    return HTTP_ANSWERED;
}

/* ---- the query thread's half ---- */

static struct slice call_name(const struct query_call *call)
{
    return (struct slice){call->name, call->name_bytes};
}

static unsigned answer_with(struct query_text *out, unsigned status, const char *text)
{
    uint8_t memory[6 * ERR_TEXT_BYTES + 64]; /* each byte may become an escape */
    struct buf body;
    buf_init(&body, memory, sizeof memory);
    struct http_answer answer = answer_detail(&body, status, text, (struct slice){0});
    query_text_put(out, answer.body);
    return status;
}

static unsigned answer_not_found(const struct query_call *call, struct query_text *out)
{
    uint8_t memory[QUARANTINE_FAULT_BYTES];
    char digits[20];
    struct buf body;
    buf_init(&body, memory, sizeof memory);
    if (call->id != 0) {
        size_t bytes = u64_format(digits, call->id);
        (void)not_found(&body, "No such record in quarantine: ",
                        (struct slice){(const uint8_t *)digits, bytes});
    } else {
        (void)not_found(&body, "No such sink: ", call_name(call));
    }
    query_text_put(out, (struct slice){body.data, body.bytes});
    return 404;
}

static unsigned answer_failure(const struct query_call *call, struct query_text *out, int code,
                               const struct err *err)
{
    switch (code) {
    case -ENOENT:
        return answer_not_found(call, out);
    case -EBUSY:
        return answer_with(out, 409,
                           err->text[0] != 0 ? err->text : "It is being delivered right now");
    case -ETIMEDOUT:
        return answer_with(out, 503,
                           "The forwarder has not done it in time; it may do it still. Asking "
                           "again does no harm");
    default:
        LOG(LOGLINE_ERROR, "quarantine", "%s", err->text[0] != 0 ? err->text : err_name(code));
        return answer_with(out, 503,
                           "The quarantine could not be read or changed; the server's own log "
                           "says why");
    }
}

/* One try. 1 or 0 as upstream says, -E2BIG: out is too small. */
static int read_once(const struct query_call *call, unsigned limit, struct buf *body,
                     struct err *err)
{
    const struct upstream *upstream = call->context;
    int r = 0;
    if (call->order == ASK_LIST) {
        r = upstream->quarantine_list(upstream->context, call_name(call), call->after, limit, body,
                                      err);
        r = r < 0 ? r : 1;
    } else {
        r = upstream->quarantine_show(upstream->context, call->id, body, err);
    }
    return r >= 0 && body->is_truncated ? -E2BIG : r;
}

/* A name that is neither configured nor in quarantine is a mistake, not an empty list. */
static bool is_list_of_nobody(const struct query_call *call, const struct buf *body)
{
    struct slice empty = SLICE_LITERAL("{\"data\":[]");
    bool is_empty = body->bytes >= empty.bytes && memcmp(body->data, empty.data, empty.bytes) == 0;
    return call->order == ASK_LIST && call->name_bytes != 0 && call->after == 0 && is_empty &&
           !upstream_view_has_sink(call->context, call_name(call));
}

static unsigned answer_read(const struct query_call *call, struct query_text *out)
{
    size_t room = ANSWER_BYTES;
    unsigned limit = call->order == ASK_LIST ? call->limit : 1;
    struct err err = {0};
    int r = -E2BIG;
    /* Bound: limit halves to 1, then room grows to its end. */
    while (r == -E2BIG && room <= ANSWER_BYTES_MAX) {
        struct buf body;
        uint8_t *memory = mem_map(room); /* large, short-lived, and no reason to end the process */
        if (memory == NULL) {
            return answer_failure(call, out, -ENOMEM, &err); /* UNTESTED: no memory */
        }
        buf_init(&body, memory, room);
        r = read_once(call, limit, &body, &err);
        if (r == 1 && is_list_of_nobody(call, &body)) {
            r = 0;
        }
        if (r == 1) {
            query_text_put(out, (struct slice){body.data, body.bytes});
        }
        mem_unmap(memory, room);
        room = limit > 1 ? room : room * 4;
        limit = limit > 1 ? limit / 2 : 1;
    }
    if (r < 0) {
        return answer_failure(call, out, r, &err);
    }
    return r == 0 ? answer_not_found(call, out) : 200;
}

static unsigned answer_order(const struct query_call *call, struct query_text *out)
{
    static const char *const done[] = {[UPSTREAM_REQUEUE] = "requeued",
                                       [UPSTREAM_DROP] = "dropped",
                                       [UPSTREAM_RESUME] = "resumed"};
    const struct upstream *upstream = call->context;
    uint8_t memory[128];
    struct err err = {0};
    struct buf body;
    int r = upstream->order(upstream->context, (enum upstream_order)call->order, call_name(call),
                            call->id, &err);
    if (r < 0) {
        return answer_failure(call, out, r, &err);
    }
    buf_init(&body, memory, sizeof memory);
    buf_printf(&body, "{\"status\":\"%s\"", done[call->order]);
    if (call->order != UPSTREAM_RESUME) {
        buf_printf(&body, ",\"records\":%d", r);
    }
    buf_put_char(&body, '}');
    query_text_put(out, (struct slice){body.data, body.bytes});
    return 200;
}

unsigned quarantine_answer(const struct query_call *call, struct query_text *out)
{
    bool is_reading = call->order == ASK_LIST || call->order == ASK_SHOW;
    return is_reading ? answer_read(call, out) : answer_order(call, out);
}
