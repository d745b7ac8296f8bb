#include "api/gate.h"

#include <stdio.h>

#include "api/answer.h"
#include "api/ingest.h"
#include "api/route.h"
#include "api/shard.h"

/* Scratch: body | header lines. */
#define GATE_BODY_BYTES   4096u
#define GATE_FIELDS_BYTES 2048u

/* A page may repeat a preflight for this long without asking again; browsers cap it at less. */
#define CORS_MAX_AGE "86400"
/* Lists of names longer than this are not a browser's. */
#define CORS_REQUEST_BYTES_MAX 1024u
#define CORS_REQUEST_HEADERS                                                                       \
    "Authorization, Content-Type, Content-Encoding, Idempotency-Key, X-Sluice-Ack"

struct gate {
    struct shard *shard;
    const struct http_head *head;
    const uint8_t *base;
    const struct route *route;
    struct conn_handle conn;
    uint32_t deferred_count; /* unanswered requests before this one */
    struct http_answer *answer;
};

static struct buf gate_fields(const struct gate *gate)
{
    struct buf fields;
    buf_init(&fields, gate->shard->scratch + GATE_BODY_BYTES, GATE_FIELDS_BYTES);
    return fields;
}

static enum http_head_verdict gate_refuse(const struct gate *gate, unsigned status,
                                          const char *text, struct slice fields)
{
    struct buf body;
    buf_init(&body, gate->shard->scratch, GATE_BODY_BYTES);
    *gate->answer = answer_detail(&body, status, text, fields);
    return HTTP_HEAD_ANSWERED;
}

static bool gate_is_ingest(const struct gate *gate)
{
    return route_is_ingest(gate->route, gate->head->method);
}

static void gate_count_refused(const struct gate *gate, enum refuse_cause cause)
{
    struct counters *counters = &gate->shard->counters;
    if (gate->deferred_count != 0) {
        return; /* asked again; then it counts */
    }
    if (gate_is_ingest(gate)) {
        counters->requests_received++;
        counters->requests_refused[cause]++;
    } else {
        counters->requests_other++;
        counters->other_refused[cause]++;
    }
    gate->shard->counters_changed = true;
}

/* ---- OPTIONS ---- */

/* What a browser wants to send: its own list comes back, or ours when it has none worth it. */
static struct slice preflight_headers(const struct gate *gate)
{
    struct slice asked = http_head_field(gate->head, gate->base, "Access-Control-Request-Headers");
    bool is_usable = asked.bytes != 0 && asked.bytes <= CORS_REQUEST_BYTES_MAX;
    return is_usable ? asked : SLICE_LITERAL(CORS_REQUEST_HEADERS);
}

static bool gate_is_preflight(const struct gate *gate)
{
    const struct http_head *head = gate->head;
    if (head->origin.bytes == 0) {
        return false;
    }
    struct slice method = http_head_field(head, gate->base, "Access-Control-Request-Method");
    return method.bytes != 0 &&
           cors_allows(&gate->shard->policy->cors, http_span_slice(gate->base, head->origin));
}

/* 204. The line that allows the origin comes from gate_on_origin, as with every answer. */
static enum http_head_verdict gate_options(const struct gate *gate)
{
    const char *allow = gate->route != NULL ? gate->route->allow : "GET, HEAD, POST, OPTIONS";
    struct buf fields = gate_fields(gate);
    buf_printf(&fields, "Allow: %s\r\n", allow);
    if (gate_is_preflight(gate)) {
        buf_printf(&fields, "Access-Control-Allow-Methods: %s\r\n", allow);
        buf_put_text(&fields, "Access-Control-Allow-Headers: ");
        buf_put_slice(&fields, preflight_headers(gate));
        buf_put_text(&fields, "\r\nAccess-Control-Max-Age: " CORS_MAX_AGE "\r\n");
    }
    ASSERT(!fields.is_truncated);
    *gate->answer = (struct http_answer){.status = 204, .extra = {fields.data, fields.bytes}};
    return HTTP_HEAD_ANSWERED;
}

static enum http_head_verdict gate_wrong_method(const struct gate *gate)
{
    struct buf fields = gate_fields(gate);
    buf_printf(&fields, "Allow: %s\r\n", gate->route->allow);
    return gate_refuse(gate, 405, "Method Not Allowed", (struct slice){fields.data, fields.bytes});
}

/* ---- stopping ---- */

/* Nothing new is taken in any more; requests whose heads came before the stop are still served, and
 * so is looking. */
static enum http_head_verdict gate_stopping(const struct gate *gate)
{
    struct shard *shard = gate->shard;
    struct buf fields = gate_fields(gate);
    if (gate->deferred_count == 0) {
        shard->counters.requests_received++;
        shard->counters.requests_shed[SHED_STOPPING]++;
        shard->counters_changed = true;
    }
    buf_printf(&fields, "Retry-After: %u\r\n", (unsigned)ingest_retry_after_s(shard));
    return gate_refuse(gate, 503, "The server is stopping",
                       (struct slice){fields.data, fields.bytes});
}

/* ---- rate limit ---- */

static struct rate_verdict gate_rate(const struct gate *gate)
{
    const struct config *config = gate->shard->config;
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    if (!config->rate_limit_enabled || route_is_open(gate->route)) {
        return (struct rate_verdict){true, 0};
    }
    /* Whoever has reset the connection meanwhile has no address any more and shares one; the answer
     * reaches nobody. */
    (void)server_peer(gate->shard->server, gate->conn, &peer);
    return rate_limit_take(gate->shard->set->rate_limit, rate_limit_address(&peer),
                           config->rate_limit_rpm, gate->shard->now_ns);
}

static enum http_head_verdict gate_rate_limited(const struct gate *gate, uint32_t retry_after_s)
{
    char text[96];
    struct buf fields = gate_fields(gate);
    unsigned long long rpm = gate->shard->config->rate_limit_rpm;
    gate_count_refused(gate, REFUSED_RATE_LIMITED);
    (void)snprintf(text, sizeof text, "Rate limit exceeded. Max %llu requests per minute.", rpm);
    buf_printf(&fields,
               "Retry-After: %u\r\nX-RateLimit-Limit: %llu\r\nX-RateLimit-Remaining: 0\r\n",
               retry_after_s, rpm);
    return gate_refuse(gate, 429, text, (struct slice){fields.data, fields.bytes});
}

/* ---- tokens ---- */

static enum auth_scope gate_scope(const struct gate *gate)
{
    if (gate_is_ingest(gate)) {
        return AUTH_INGEST;
    }
    return route_is_order(gate->route, gate->head->method) ? AUTH_ADMIN : AUTH_READ;
}

static enum auth_verdict gate_auth(const struct gate *gate)
{
    const struct shard *shard = gate->shard;
    const struct config *config = shard->config;
    if (!config->auth_enabled || (route_is_open(gate->route) && !config->auth_protect_health)) {
        return AUTH_OK;
    }
    return auth_check(&shard->policy->auth, http_span_slice(gate->base, gate->head->authorization),
                      gate_scope(gate));
}

static enum http_head_verdict gate_unauthorized(const struct gate *gate, enum auth_verdict verdict)
{
    const char *text = auth_detail(verdict, gate_scope(gate));
    if (verdict == AUTH_FORBIDDEN) {
        gate_count_refused(gate, REFUSED_FORBIDDEN);
        return gate_refuse(gate, 403, text, (struct slice){0});
    }
    gate_count_refused(gate, REFUSED_UNAUTHORIZED);
    return gate_refuse(gate, 401, text, SLICE_LITERAL("WWW-Authenticate: Bearer\r\n"));
}

/* Who asks. */
static enum http_head_verdict gate_who(const struct gate *gate)
{
    enum auth_verdict verdict = gate_auth(gate);
    if (verdict != AUTH_OK && gate->deferred_count != 0) {
        return gate_refuse(gate, 401, "", (struct slice){0}); /* asked again, for good */
    }
    /* Allowed here means charged: with AUTH_OK the head is not looked at again, and without it this
     * is the last look. */
    struct rate_verdict rate = gate_rate(gate);
    if (!rate.is_allowed) {
        return gate_rate_limited(gate, rate.retry_after_s);
    }
    return verdict == AUTH_OK ? HTTP_HEAD_OK : gate_unauthorized(gate, verdict);
}

/* ---- the door ---- */

static enum http_head_verdict gate_judge(struct gate *gate)
{
    struct shard *shard = gate->shard;
    gate->deferred_count = server_judged(shard->server, &gate->conn);
    struct slice target = http_span_slice(gate->base, gate->head->target);
    if (slice_equal(target, SLICE_LITERAL("*"))) {
        return gate_options(gate); /* OPTIONS *: the server as such */
    }
    if (gate->route == NULL) {
        return gate_refuse(gate, 404, "Not Found", (struct slice){0});
    }
    if (gate->head->method == HTTP_OPTIONS) {
        return gate_options(gate);
    }
    if (!route_serves(gate->route, gate->head->method)) {
        return gate_wrong_method(gate);
    }
    if (shard->is_draining && gate_is_ingest(gate)) {
        return gate_stopping(gate);
    }
    return gate_who(gate);
}

enum http_head_verdict gate_on_head(struct shard *shard, const struct http_head *head,
                                    const uint8_t *base, struct http_answer *answer)
{
    struct gate gate = {
        .shard = shard,
        .head = head,
        .base = base,
        .route = route_for(http_span_slice(base, head->path), head->method),
        .answer = answer,
    };
    /* The way of nearly every request: no question about who asks is switched on. */
    if (LIKELY(gate.route != NULL && route_serves(gate.route, head->method) && !shard->asks_who &&
               !shard->is_draining)) {
        return HTTP_HEAD_OK;
    }
    return gate_judge(&gate);
}

struct slice gate_on_origin(struct shard *shard, struct slice origin)
{
    return cors_lines(&shard->policy->cors, origin);
}
