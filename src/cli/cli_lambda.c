/*
 * cli_lambda: `sluice lambda`, an AWS Lambda custom runtime (bootstrap) behind an API Gateway: takes the batches that
 * Sluice's http sink posts there and writes them to OpenSearch and Timestream. docs/sinks/lambda.md.
 *
 *   next event (waits without a limit) -> lambda_event -> lambda_batch -> lambda_store -> response, and again
 *
 * The gateway's client is answered 200 only when all of its batch is stored; 503 for passing trouble (it sends the same
 * again, which stores nothing twice); 400 with the places of records that no upstream will take, then nothing
 * of them is stored; 413 when it must send less at a time.
 *
 * Fails: what is missing at start is told to the Runtime API (init/error), exit 1; without the Runtime API there is
 * nothing to do, exit 1. Everything after that is an answer.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/lambda_batch.h"
#include "cli/lambda_event.h"
#include "cli/lambda_http.h"
#include "cli/lambda_store.h"
#include "core/clock.h"
#include "core/mem.h"

#define API_VERSION        "2018-06-01"
#define URL_BYTES          512
#define REQUEST_ID_BYTES   128
#define DEADLINE_UNSAID_MS UINT64_C(29000) /* what API Gateway waits for */

struct lambda {
    char runtime_url[URL_BYTES / 2]; /* http://HOST:PORT/2018-06-01/runtime */
    struct lambda_target targets[LAMBDA_TARGET_COUNT];
    struct lambda_http *http;
    struct lambda_event_reader *events;
    struct lambda_batch_reader *batches;
    struct lambda_store *store;
    struct body event; /* a copy: the answers of upstreams come through the same memory */
    struct body answer, response;
};

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}

/* ---- the environment ---- */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static int copy_variable(char *to, size_t room, const char *name, struct err *err)
{
    int bytes = snprintf(to, room, "%s", variable(name));
    return (size_t)bytes < room
               ? 0
               : err_set(err, -EINVAL, "%s is longer than %zu bytes", name, room - 1);
}

static int check_url(const char *name, const char *url, struct err *err)
{
    bool is_url = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    return is_url ? 0 : err_set(err, -EINVAL, "%s must be an http:// or https:// address", name);
}

static int read_signing(struct lambda_signing *signing, const char *service, struct err *err)
{
    *signing = (struct lambda_signing){.region = variable("AWS_REGION"),
                                       .service = service,
                                       .key_id = variable("AWS_ACCESS_KEY_ID"),
                                       .secret = variable("AWS_SECRET_ACCESS_KEY"),
                                       .token = variable("AWS_SESSION_TOKEN")};
    if (signing->key_id[0] == 0 || strcmp(service, "none") == 0) {
        signing->service = "";
    } else if (signing->region[0] == 0) {
        return err_set(err, -EINVAL, "AWS_REGION is not set");
    }
    return 0;
}

static int read_opensearch(struct lambda_target *target, struct err *err)
{
    struct config_sink *sink = &target->sink;
    const char *service = variable("OPENSEARCH_SERVICE");
    sink->type = SINK_OPENSEARCH;
    int r = copy_variable(sink->url, sizeof sink->url, "OPENSEARCH_URL", err);
    r = r < 0 ? r : copy_variable(sink->index, sizeof sink->index, "OPENSEARCH_INDEX", err);
    r = r < 0 ? r : check_url("OPENSEARCH_URL", sink->url, err);
    target->is_there = true;
    return r < 0 ? r : read_signing(&target->signing, service[0] == 0 ? "es" : service, err);
}

static int read_timestream(struct lambda_target *target, struct err *err)
{
    struct config_sink *sink = &target->sink;
    sink->type = SINK_TIMESTREAM;
    int r = copy_variable(sink->url, sizeof sink->url, "TIMESTREAM_URL", err);
    if (r < 0 || sink->url[0] == 0) {
        return r;
    }
    r = copy_variable(sink->database, sizeof sink->database, "TIMESTREAM_DB", err);
    r = r < 0 ? r : copy_variable(sink->table, sizeof sink->table, "TIMESTREAM_TABLE", err);
    r = r < 0 ? r : check_url("TIMESTREAM_URL", sink->url, err);
    if (r == 0 && (sink->database[0] == 0 || sink->table[0] == 0)) {
        r = err_set(err, -EINVAL, "TIMESTREAM_URL needs TIMESTREAM_DB and TIMESTREAM_TABLE");
    }
    target->is_there = true;
    return r < 0 ? r : read_signing(&target->signing, "timestream", err);
}

static int read_targets(struct lambda *lambda, struct err *err)
{
    int r = read_opensearch(&lambda->targets[LAMBDA_OPENSEARCH], err);
    r = r < 0 ? r : read_timestream(&lambda->targets[LAMBDA_TIMESTREAM], err);
    for (unsigned i = 0; r == 0 && i < LAMBDA_TARGET_COUNT; i++) {
        struct config_sink *sink = &lambda->targets[i].sink;
        sink->batch_bytes = MIB(4);
        sink->batch_records = 1000;
        r = lambda->targets[i].is_there ? protocol_check(sink, err) : 0;
    }
    return r;
}

/* ---- the Runtime API ---- */

static bool post(struct lambda *lambda, const char *path, const char *headers, struct slice body)
{
    char url[URL_BYTES];
    struct upstream_answer answer;
    (void)snprintf(url, sizeof url, "%s/%s", lambda->runtime_url, path);
    struct lambda_request request = {.method = "POST",
                                     .url = url,
                                     .content_type = "application/json",
                                     .headers = headers,
                                     .body = body,
                                     .is_runtime = true};
    lambda_http_send(lambda->http, &request, &answer);
    bool is_done = answer.fault == TRANSPORT_OK && answer.status / 100 == 2;
    if (!is_done) {
        cli_say(STDERR_FILENO, "sluice lambda: %s: %s (status %d)", url, answer.fault_text,
                answer.status);
    }
    return is_done;
}

static void post_error(struct lambda *lambda, const char *path, const char *type, const char *text)
{
    char headers[128] = "";
    struct body *body = &lambda->response;
    int bytes =
        snprintf(headers, sizeof headers - 1, "Lambda-Runtime-Function-Error-Type: %s", type);
    headers[bytes + 1] = 0;
    body_reset(body);
    body_put_text(body, "{\"errorMessage\":");
    body_put_json_string(body, text_slice(text));
    body_put_text(body, ",\"errorType\":");
    body_put_json_string(body, text_slice(type));
    body_put_text(body, ",\"stackTrace\":[]}");
    (void)post(lambda, path, headers, (struct slice){body->data, body->bytes});
}

/* Waits for an event. Its copy is in lambda->event. */
static int next_event(struct lambda *lambda, char *request_id, uint64_t *deadline_ns,
                      struct err *err)
{
    char url[URL_BYTES];
    struct upstream_answer answer;
    (void)snprintf(url, sizeof url, "%s/invocation/next", lambda->runtime_url);
    struct lambda_request request = {.method = "GET", .url = url, .is_runtime = true};
    lambda_http_send(lambda->http, &request, &answer);
    if (answer.fault != TRANSPORT_OK || answer.status != 200) {
        return err_set(err, -EPROTO, "%s: %s (status %d)", url, answer.fault_text, answer.status);
    }
    (void)snprintf(request_id, REQUEST_ID_BYTES, "%s",
                   lambda_http_field(lambda->http, "Lambda-Runtime-Aws-Request-Id"));
    unsigned long long deadline_ms =
        strtoull(lambda_http_field(lambda->http, "Lambda-Runtime-Deadline-Ms"), NULL, 10);
    uint64_t now_ms = (uint64_t)(clock_real_ns() / (int64_t)NS_MS);
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    left_ms = deadline_ms == 0 ? DEADLINE_UNSAID_MS : u64_min(left_ms, 900000); /* Lambda's most */
    *deadline_ns = clock_mono_ns() + left_ms * NS_MS;
    body_reset(&lambda->event);
    body_put_slice(&lambda->event, answer.body);
    return request_id[0] != 0 ? 0 : err_set(err, -EPROTO, "%s: an event without a request id", url);
}

/* ---- answers ---- */

static void put_number(struct body *out, const char *key, uint64_t number)
{
    body_put_text(out, key);
    body_put_u64(out, number);
}

/* What the gateway's client reads. */
static void write_answer(struct lambda *lambda, const struct lambda_outcome *outcome,
                         const struct lambda_batch *batch)
{
    struct body *out = &lambda->answer;
    body_reset(out);
    if (outcome->status == 200) {
        body_put_text(out, "{\"status\":\"stored\",\"batch_id\":");
        body_put_json_string(out, text_slice(batch->id));
        put_number(out, ",\"opensearch\":", outcome->stored[LAMBDA_OPENSEARCH]);
        put_number(out, ",\"timestream\":", outcome->stored[LAMBDA_TIMESTREAM]);
        body_put_text(out, "}");
        return;
    }
    /* The client's quarantine shows detail: what was wrong with a record that came alone. */
    body_put_text(out, "{\"detail\":");
    body_put_json_string(out,
                         text_slice(outcome->reason[0] != 0 || batch == NULL ? outcome->reason
                                                                             : batch->first_fault));
    if (batch != NULL && batch->fault_count > 0) {
        put_number(out, ",\"refused\":", batch->fault_count);
        body_put_text(out, ",\"errors\":[");
        body_put(out, batch->faults.data, batch->faults.bytes);
        body_put_text(out, "]");
    }
    body_put_text(out, "}");
}

/* What the gateway reads, payload formats 1.0 and 2.0. */
static void write_response(struct lambda *lambda, const struct lambda_outcome *outcome)
{
    struct body *out = &lambda->response;
    body_reset(out);
    put_number(out, "{\"statusCode\":", (uint64_t)outcome->status);
    body_put_text(out, ",\"headers\":{\"Content-Type\":\"application/json\"");
    if (outcome->status == 503) {
        uint64_t seconds = (outcome->retry_after_ns + NS_S - 1) / NS_S;
        put_number(out, ",\"Retry-After\":\"", u64_max(seconds, 1));
        body_put_text(out, "\"");
    }
    body_put_text(out, "},\"isBase64Encoded\":false,\"body\":");
    body_put_json_string(out, (struct slice){lambda->answer.data, lambda->answer.bytes});
    body_put_text(out, "}");
}

static void handle(struct lambda *lambda, uint64_t deadline_ns)
{
    struct lambda_event event;
    struct lambda_batch *batch = NULL;
    struct lambda_outcome outcome = {0};
    struct err err = {0};
    struct slice json = {lambda->event.data, lambda->event.bytes};
    outcome.status = lambda_event_read(lambda->events, json, &event, &err);
    if (outcome.status == 0 &&
        lambda_batch_read(lambda->batches, event.body, event.key, &batch, &err) < 0) {
        outcome.status = 400;
    }
    if (outcome.status == 0) {
        lambda_store_batch(lambda->store, batch, deadline_ns, &outcome);
    } else {
        (void)snprintf(outcome.reason, sizeof outcome.reason, "%.*s",
                       (int)sizeof outcome.reason - 1, err.text);
    }
    write_answer(lambda, &outcome, batch);
    write_response(lambda, &outcome);
    if (outcome.status != 200) {
        cli_say(STDERR_FILENO, "sluice lambda: status %d: batch %s: %u records refused: %s",
                outcome.status, batch == NULL ? "" : batch->id,
                batch == NULL ? 0 : batch->fault_count, outcome.reason);
    }
}

static int run(struct lambda *lambda, struct err *err)
{
    char request_id[REQUEST_ID_BYTES];
    char path[REQUEST_ID_BYTES + 64];
    uint64_t deadline_ns = 0;
    for (;;) { /* until the environment ends it */
        int r = next_event(lambda, request_id, &deadline_ns, err);
        if (r < 0) {
            return r;
        }
        handle(lambda, deadline_ns);
        (void)snprintf(path, sizeof path, "invocation/%s/response", request_id);
        struct slice response = {lambda->response.data, lambda->response.bytes};
        if (!lambda->response.is_over && post(lambda, path, NULL, response)) {
            continue;
        }
        (void)snprintf(path, sizeof path, "invocation/%s/error", request_id);
        post_error(lambda, path, "Runtime.ResponseRefused", "the response was not taken");
    }
}

/* ---- life ---- */

static int open_runtime(struct lambda *lambda, struct err *err)
{
    const char *api = variable("AWS_LAMBDA_RUNTIME_API");
    int bytes = snprintf(lambda->runtime_url, sizeof lambda->runtime_url,
                         "http://%s/" API_VERSION "/runtime", api);
    if (api[0] == 0) {
        return err_set(err, -EINVAL,
                       "AWS_LAMBDA_RUNTIME_API is not set: this command is started by AWS Lambda");
    }
    if ((size_t)bytes >= sizeof lambda->runtime_url) {
        return err_set(err, -EINVAL, "AWS_LAMBDA_RUNTIME_API is too long");
    }
    body_init(&lambda->event, LAMBDA_ANSWER_BYTES_MAX);
    body_init(&lambda->answer, MIB(5)); /* a response is at most 6 MB */
    body_init(&lambda->response, MIB(16));
    return lambda_http_open(&lambda->http, err);
}

static void close_all(struct lambda *lambda)
{
    lambda_store_free(lambda->store);
    lambda_batch_reader_free(lambda->batches);
    lambda_event_reader_free(lambda->events);
    lambda_http_close(lambda->http);
    body_free(&lambda->event);
    body_free(&lambda->answer);
    body_free(&lambda->response);
    mem_free(lambda);
}

static int start(struct lambda *lambda, struct err *err)
{
    int r = open_runtime(lambda, err);
    if (r < 0) {
        return r;
    }
    r = read_targets(lambda, err);
    if (r < 0) {
        post_error(lambda, "init/error", "Runtime.ConfigurationError", err->text);
        return r;
    }
    lambda->events = lambda_event_reader_new();
    lambda->batches = lambda_batch_reader_new();
    lambda->store = lambda_store_new(lambda->http, lambda->targets);
    return 0;
}

int cli_lambda(int argc, char **argv)
{
    struct err err = {0};
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        char *help[] = {argv[0], argv[0], NULL};
        return cli_help(2, help);
    }
    if (argc > 1) {
        return cli_usage("lambda", "it takes no arguments: its environment says everything");
    }
    struct lambda *lambda = mem_alloc(sizeof *lambda);
    if (start(lambda, &err) == 0) {
        (void)run(lambda, &err); /* ends with a failure only */
    }
    close_all(lambda);
    cli_say(STDERR_FILENO, "sluice lambda: %s", err.text);
    return CLI_FAILED;
}
