/*
 * transport_curl: requests over libcurl's multi interface.
 *
 *   send: a free call of the sink -> handle set anew -> into the multi
 *   run:  perform, sleep in poll, perform; what has ended: fault or answer -> out of the multi -> on_answer -> call is free
 *   close: everything under way is taken out and forgotten
 */
#include "forward/transport_curl.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/mem.h"
#include "forward/retry.h"
#include "forward/sink_headers.h"
#include "forward/sink_secret.h"

#define HOST_BYTES       300
#define HEADER_BYTES     (SINK_SECRET_BYTES + 64)
#define PROTOCOL_HEADERS 1024
#define UPLOAD_BUFFER_BYTES                                                                        \
    (256 * 1024L) /* what one write offers the socket; 64 KiB is libcurl's default */
#define ANSWER_BYTES_KEPT KIB(64) /* of memory between requests */
#define KEEPALIVE_S       30L

struct call {
    CURL *easy; /* NULL: never used yet */
    struct sink_http *sink;
    struct transport_request request;
    struct curl_slist *headers;
    struct body answer;
    bool is_busy; /* until on_answer has returned */
    bool is_cut;
    bool is_out_of_memory; /* while its headers were made */
    uint64_t retry_after_ns;
    char error[CURL_ERROR_SIZE];
};

struct sink_http {
    const struct config_sink *sink;
    struct sink_secret secret;
    char host[HOST_BYTES]; /* and port, for people */
    char sigv4[192];
    struct call
        *calls; /* one more than connections: on_answer may send while its own call is still read */
    unsigned call_count;
    unsigned in_flight;
};

struct transport_curl {
    CURLM *multi;
    struct sink_http *sinks;
    unsigned sink_count;
    unsigned call_total;
};

/* ------------------------------------------------------------------- open, close */

static bool is_http(const struct config_sink *sink)
{
    return sink->type != SINK_FILE && sink->type != SINK_NONE;
}

static const char *aws_service(const struct config_sink *sink)
{
    if (sink->aws_service[0] != '\0') {
        return sink->aws_service;
    }
    return sink->type == SINK_OPENSEARCH   ? "es"
           : sink->type == SINK_TIMESTREAM ? "timestream"
           : sink->type == SINK_S3         ? "s3"
                                           : "execute-api";
}

static void url_part(CURLU *url, CURLUPart part, char *out, size_t bytes_max)
{
    char *text = NULL;
    out[0] = '\0';
    if (curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        (void)snprintf(out, bytes_max, "%s", text);
    }
    curl_free(text);
}

/* Host and port of the url: all that a log line may say of it, because the rest may hold secrets. */
static int read_host(struct sink_http *http, struct err *err)
{
    char host[256];
    char port[16];
    CURLU *url = curl_url();
    const bool is_good =
        url != NULL && curl_url_set(url, CURLUPART_URL, http->sink->url, 0) == CURLUE_OK;
    if (is_good) {
        url_part(url, CURLUPART_HOST, host, sizeof host);
        url_part(url, CURLUPART_PORT, port, sizeof port);
        (void)snprintf(http->host, sizeof http->host, "%s:%s", host, port);
    }
    curl_url_cleanup(url);
    return is_good ? 0 : err_set(err, ERR_SYNTAX, "sink %s: url is not one", http->sink->name);
}

static int sink_open(struct sink_http *http, const struct config_sink *sink, struct err *err)
{
    http->sink = sink;
    if (!is_http(sink)) {
        return 0;
    }
    http->call_count = (unsigned)u64_max(sink->connections, 1) + 1;
    http->calls = mem_alloc_array(http->call_count, sizeof *http->calls);
    for (unsigned i = 0; i < http->call_count; i++) {
        http->calls[i].sink = http;
        body_init(&http->calls[i].answer, ANSWER_BYTES_MAX);
    }
    (void)snprintf(http->sigv4, sizeof http->sigv4, "aws:amz:%s:%s", sink->aws_region,
                   aws_service(sink));
    int result = sink_headers_check(sink, err);
    result = result == 0 ? read_host(http, err) : result;
    return result == 0 ? sink_secret_read(&http->secret, sink, err) : result;
}

int transport_curl_open(struct transport_curl **out, const struct config_sink *sinks,
                        unsigned sink_count, struct err *err)
{
    int result = 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return err_set(err, -ENOMEM, "libcurl does not start"); /* UNTESTED: no memory */
    }
    struct transport_curl *curl = mem_alloc(sizeof *curl);
    curl->multi = curl_multi_init();
    curl->sinks = mem_alloc_array(u64_max(sink_count, 1), sizeof *curl->sinks);
    curl->sink_count = sink_count;
    if (curl->multi == NULL) {
        result = err_set(err, -ENOMEM, "libcurl does not start"); /* UNTESTED: no memory */
    }
    for (unsigned i = 0; i < sink_count && result == 0; i++) {
        result = sink_open(&curl->sinks[i], &sinks[i], err);
        curl->call_total += curl->sinks[i].call_count;
    }
    if (result < 0) {
        transport_curl_close(curl);
        return result;
    }
    (void)curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, (long)curl->call_total + 1);
    (void)curl_multi_setopt(curl->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    *out = curl;
    return 0;
}

static void call_close(struct transport_curl *curl, struct call *call)
{
    if (call->easy != NULL) {
        (void)curl_multi_remove_handle(curl->multi, call->easy); /* not in it: nothing happens */
        curl_easy_cleanup(call->easy);
    }
    curl_slist_free_all(call->headers);
    body_free(&call->answer);
}

void transport_curl_close(struct transport_curl *curl)
{
    if (curl == NULL) {
        return;
    }
    for (unsigned i = 0; i < curl->sink_count; i++) {
        struct sink_http *http = &curl->sinks[i];
        for (unsigned j = 0; http->calls != NULL && j < http->call_count; j++) {
            call_close(curl, &http->calls[j]);
        }
        mem_free(http->calls);
        sink_secret_wipe(&http->secret);
    }
    if (curl->multi != NULL) {
        (void)curl_multi_cleanup(curl->multi);
    }
    mem_free(curl->sinks);
    mem_free(curl);
    curl_global_cleanup();
}

int transport_curl_reload(struct transport_curl *curl, struct err *err)
{
    struct sink_secret *fresh = mem_alloc_array(u64_max(curl->sink_count, 1), sizeof *fresh);
    int result = 0;
    for (unsigned i = 0; i < curl->sink_count && result == 0; i++) {
        if (is_http(curl->sinks[i].sink)) {
            result = sink_secret_read(&fresh[i], curl->sinks[i].sink, err);
        }
    }
    for (unsigned i = 0; i < curl->sink_count; i++) {
        if (result == 0) { /* all of them or none */
            curl->sinks[i].secret = fresh[i];
        }
        sink_secret_wipe(&fresh[i]);
    }
    mem_free(fresh);
    return result;
}

/* ------------------------------------------------------------------- what comes back */

static size_t call_on_body(char *data, size_t size, size_t count, void *context)
{
    struct call *call = context;
    const size_t bytes = size * count;
    const size_t room = ANSWER_BYTES_MAX - call->answer.bytes;
    body_put(&call->answer, data, u64_min(bytes, room));
    if (bytes > room) {
        call->is_cut = true;
        return CURL_WRITEFUNC_ERROR; /* enough: the transfer ends here, see fault_of */
    }
    return bytes;
}

static size_t call_on_header(char *data, size_t size, size_t count, void *context)
{
    static const char name[] = "retry-after:";
    struct call *call = context;
    const size_t bytes = size * count;
    size_t end = bytes;
    while (end > 0 && (data[end - 1] == '\r' || data[end - 1] == '\n')) {
        end--;
    }
    if (end >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        call->retry_after_ns = 0; /* an interim answer's headers are not the answer's */
    } else if (end >= sizeof name - 1 && strncasecmp(data, name, sizeof name - 1) == 0) {
        const struct slice value = {(const uint8_t *)data + sizeof name - 1,
                                    end - (sizeof name - 1)};
        call->retry_after_ns = retry_after_parse(value, clock_real_ns());
    }
    return bytes;
}

/* ------------------------------------------------------------------- a request */

/* One more line; what does not fit into memory is remembered. */
static void add_line(struct call *call, const char *line)
{
    struct curl_slist *headers = curl_slist_append(call->headers, line);
    call->is_out_of_memory = call->is_out_of_memory || headers == NULL;
    call->headers = headers != NULL ? headers : call->headers;
}

static void add_header(struct call *call, const char *name, const char *value)
{
    char line[HEADER_BYTES];
    if (value == NULL || value[0] == '\0') {
        return;
    }
    (void)snprintf(line, sizeof line, "%s: %s", name, value);
    add_line(call, line);
    explicit_bzero(line, sizeof line);
}

static void add_operators_headers(struct call *call)
{
    char text[CONFIG_SINK_TEXT_LONG];
    const char *at = call->sink->sink->headers;
    struct slice line;
    size_t name_bytes;
    while (sink_headers_next(&at, &line, &name_bytes)) {
        memcpy(text, line.data, line.bytes); /* a piece of a text of that size */
        text[line.bytes] = '\0';
        add_line(call, text);
    }
}

static void add_protocol_headers(struct call *call)
{
    static const char type[] = "Content-Type:";
    char lines[PROTOCOL_HEADERS] = {0};
    const bool has_type = sink_headers_have(call->sink->sink, "Content-Type");
    const struct protocol *protocol = call->request.encoder->protocol;
    if (protocol->headers == NULL) {
        return;
    }
    protocol->headers(call->request.encoder, lines);
    for (const char *at = lines; at < lines + sizeof lines && *at != '\0';) {
        const size_t bytes = strnlen(at, (size_t)(lines + sizeof lines - at));
        ASSERT(at + bytes < lines + sizeof lines); /* a protocol that wrote beyond its room */
        if (!has_type || strncasecmp(at, type, sizeof type - 1) != 0) {
            add_line(call, at);
        }
        at += bytes + 1;
    }
}

/* S3 wants the body's digest said besides signed; libcurl does not say it before 7.89. */
static void add_digest(struct call *call)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[2 * sizeof digest + 1] = {0};
    const struct slice body = call->request.body;
    (void)SHA256(body.data, body.bytes, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    add_header(call, "X-Amz-Content-Sha256", hex);
}

/* A line without a value takes away what libcurl would say by itself. Its signer (7.88) signs such a line although it is not
 * sent, and nobody takes that signature: signed requests of more than 1 MiB keep their Expect: 100-continue, see set_body. */
static void set_headers(struct call *call)
{
    const struct transport_request *request = &call->request;
    const struct config_sink *sink = call->sink->sink;
    const struct sink_secret *secret = &call->sink->secret;
    const char *type = request->encoder->protocol->content_type;
    const bool is_signed = sink->aws_region[0] != '\0';
    if (!is_signed) {
        add_line(call, "Expect:"); /* libcurl would ask for leave to send a large body, and wait */
    }
    if (!sink_headers_have(sink, "Content-Type")) {
        add_header(call, "Content-Type", type);
        if (type == NULL && !is_signed) {
            add_line(call, "Content-Type:"); /* or libcurl would call it a form */
        }
    }
    add_header(call, "Content-Encoding",
               request->compression == SINK_GZIP   ? "gzip"
               : request->compression == SINK_ZSTD ? "zstd"
                                                   : NULL);
    add_header(call, "Idempotency-Key", request->key);
    add_header(call, "x-api-key", secret->api_key);
    add_header(call, "X-Amz-Security-Token", secret->aws_token);
    if (is_signed && strcmp(aws_service(sink), "s3") == 0) {
        add_digest(call);
    }
    if (secret->bearer[0] != '\0') {
        char value[SINK_SECRET_BYTES + 16];
        (void)snprintf(value, sizeof value, "Bearer %s", secret->bearer);
        add_header(call, "Authorization", value);
        explicit_bzero(value, sizeof value);
    }
    add_protocol_headers(call);
    add_operators_headers(call);
    (void)curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
}

static void set_text(CURL *easy, CURLoption option, const char *text)
{
    if (text[0] != '\0') {
        (void)curl_easy_setopt(easy, option, text);
    }
}

static void set_identity(struct call *call)
{
    const struct config_sink *sink = call->sink->sink;
    const struct sink_secret *secret = &call->sink->secret;
    CURL *easy = call->easy;
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, sink->verify ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, sink->verify ? 2L : 0L);
    set_text(easy, CURLOPT_CAINFO, sink->ca_file);
    set_text(easy, CURLOPT_SSLCERT, sink->cert_file);
    set_text(easy, CURLOPT_SSLKEY, sink->key_file);
    if (sink->aws_region[0] != '\0') {
        (void)curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, call->sink->sigv4);
        set_text(easy, CURLOPT_USERNAME, secret->aws_id);
        set_text(easy, CURLOPT_PASSWORD, secret->aws_secret);
    } else if (sink->user[0] != '\0') {
        (void)curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        set_text(easy, CURLOPT_USERNAME, sink->user);
        set_text(easy, CURLOPT_PASSWORD, secret->password);
    }
}

static void set_patience(struct call *call)
{
    const struct config_sink *sink = call->sink->sink;
    const uint64_t timeout_ms = u64_max(sink->timeout_ns / NS_MS, 1);
    /* timeout is for an answer. A segment of 64 MiB over a thin uplink needs longer than a batch of 1 MiB. */
    const uint64_t sending_ms = (uint64_t)call->request.body.bytes * 1000 / MIB(1);
    CURL *easy = call->easy;
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                           (long)u64_max(sink->connect_timeout_ns / NS_MS, 1));
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(timeout_ms + sending_ms));
    (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)((timeout_ms + 999) / 1000));
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_S);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_S);
}

/* As POST fields: sent from where they lie, hashed by the signer; a PUT is one by its name only. */
static void set_body(struct call *call)
{
    const struct transport_request *request = &call->request;
    const char *method = request->encoder->protocol->method;
    CURL *easy = call->easy;
    (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.bytes);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                           request->body.bytes > 0 ? (const char *)request->body.data : "");
    if (method != NULL && strcmp(method, "POST") != 0) {
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    }
    (void)curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER_BYTES);
    (void)curl_easy_setopt(easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L); /* ask, but do not wait */
}

static int call_prepare(struct call *call, struct err *err)
{
    char url[FORWARD_URL_BYTES] = {0};
    CURL *easy = call->easy;
    curl_easy_reset(easy);
    call->request.encoder->protocol->url(call->request.encoder, url);
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "Sluice/" SLUICE_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, call_on_body);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, call_on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    set_patience(call);
    set_identity(call);
    set_body(call);
    set_headers(call);
    if (code != CURLE_OK || call->is_out_of_memory) {
        return err_set(err, -ENOMEM, "sink %s: out of memory", call->sink->sink->name);
    }
    return 0;
}

static struct call *call_take(struct sink_http *http)
{
    for (unsigned i = 0; i < http->call_count; i++) {
        if (!http->calls[i].is_busy) {
            return &http->calls[i];
        }
    }
    return NULL;
}

static void call_give_back(struct call *call)
{
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->is_busy = false;
    if (call->answer.capacity > ANSWER_BYTES_KEPT) {
        body_free(&call->answer);
    }
}

static void call_begin(struct call *call, const struct transport_request *request)
{
    call->request = *request;
    call->is_busy = true;
    call->is_cut = false;
    call->is_out_of_memory = false;
    call->retry_after_ns = 0;
    call->error[0] = '\0';
    body_reset(&call->answer);
}

int transport_curl_send(struct transport_curl *curl, unsigned sink_index,
                        const struct transport_request *request, struct err *err)
{
    struct sink_http *http = &curl->sinks[sink_index];
    struct call *call = http->in_flight + 1 < http->call_count ? call_take(http) : NULL;
    if (call == NULL) {
        return err_set(err, -EAGAIN, "sink %s: enough is under way", http->sink->name);
    }
    call->easy = call->easy != NULL ? call->easy : curl_easy_init();
    if (call->easy == NULL) {
        return err_set(err, -ENOMEM, "libcurl does not start"); /* UNTESTED: no memory */
    }
    call_begin(call, request);
    int result = call_prepare(call, err);
    if (result == 0 && curl_multi_add_handle(curl->multi, call->easy) != CURLM_OK) {
        result = err_set(err, -ENOMEM, "libcurl takes no more"); /* UNTESTED: no memory */
    }
    if (result < 0) {
        call_give_back(call);
        return result;
    }
    http->in_flight++;
    return 0;
}

/* ------------------------------------------------------------------- answers */

static long info_long(CURL *easy, CURLINFO info)
{
    long value = 0;
    (void)curl_easy_getinfo(easy, info, &value);
    return value;
}

static bool is_request_begun(CURL *easy)
{
    return info_long(easy, CURLINFO_REQUEST_SIZE) > 0;
}

static bool is_request_whole(const struct call *call)
{
    curl_off_t sent = 0;
    (void)curl_easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    return sent >= (curl_off_t)call->request.body.bytes;
}

/* Is there an answer although the transfer failed? One that we cut ourselves; and a refusal that came before the body was
 * sent, after which an upstream may well reset: 413 must not look like a broken connection for ever. */
static bool is_answer_all_the_same(const struct call *call, long status)
{
    return call->is_cut || (status >= 400 && !is_request_whole(call));
}

static enum transport_fault fault_of(const struct call *call, CURLcode code)
{
    switch ((int)code) { /* libcurl has a hundred codes; what is not named is a broken exchange */
    case CURLE_OK:
        return TRANSPORT_OK;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return TRANSPORT_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return is_request_begun(call->easy) ? TRANSPORT_TIMEOUT : TRANSPORT_UNREACHABLE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return TRANSPORT_TLS;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_URL_MALFORMAT:
    case CURLE_FAILED_INIT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_UNKNOWN_OPTION:
    case CURLE_READ_ERROR:
        return TRANSPORT_LOCAL;
    default:
        return TRANSPORT_BROKEN;
    }
}

/* In people's words; what libcurl adds (addresses, TLS reasons, errno) stands behind them. */
static void say_fault(const struct call *call, CURLcode code, struct upstream_answer *answer)
{
    static const char *const words[] = {
        [TRANSPORT_OK] = "",
        [TRANSPORT_UNREACHABLE] = "cannot be reached",
        [TRANSPORT_TIMEOUT] = "gave no answer in time",
        [TRANSPORT_BROKEN] = "broke off the exchange",
        [TRANSPORT_TLS] = "cannot be trusted, or does not trust us",
        [TRANSPORT_LOCAL] = "could not be asked, for a reason of our own",
    };
    struct buf text;
    buf_init(&text, answer->fault_text, sizeof answer->fault_text - 1); /* a NUL stays behind it */
    buf_printf(&text, "sink %s: %s %s: %s", call->sink->sink->name, call->sink->host,
               words[answer->fault],
               call->error[0] != '\0' ? call->error : curl_easy_strerror(code));
}

static void call_answer(struct call *call, CURLcode code)
{
    const long status = info_long(call->easy, CURLINFO_RESPONSE_CODE);
    struct upstream_answer answer = {.fault = fault_of(call, code)};
    if (answer.fault != TRANSPORT_OK && is_answer_all_the_same(call, status)) {
        answer.fault = TRANSPORT_OK;
        answer.is_body_cut = true;
    }
    if (answer.fault == TRANSPORT_OK) {
        answer.status = (int)status;
        answer.retry_after_ns = call->retry_after_ns;
        answer.body = (struct slice){call->answer.data, call->answer.bytes};
    } else {
        say_fault(call, code, &answer);
    }
    call->request.on_answer(call->request.context, &answer);
}

/* Hands over what has ended. Bounded: what on_answer sends ends in a later pass at the earliest. */
static bool harvest(struct transport_curl *curl)
{
    bool is_answered = false;
    for (unsigned i = 0; i < curl->call_total; i++) {
        int left = 0;
        const CURLMsg *message = curl_multi_info_read(curl->multi, &left);
        if (message == NULL) {
            break;
        }
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURL *easy = message->easy_handle;
        const CURLcode code = message->data.result;
        struct call *call = NULL;
        (void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call);
        ASSERT(call != NULL && call->easy == easy && call->is_busy);
        (void)curl_multi_remove_handle(curl->multi, easy); /* message is gone with it */
        call->sink->in_flight--;
        call_answer(call, code);
        call_give_back(call);
        is_answered = true;
    }
    return is_answered;
}

static bool perform(struct transport_curl *curl)
{
    int running = 0;
    (void)curl_multi_perform(curl->multi, &running); /* its errors are of memory: poll goes on */
    return harvest(curl);
}

bool transport_curl_run(struct transport_curl *curl, unsigned timeout_ms)
{
    const bool is_answered = perform(curl);
    if (is_answered || timeout_ms == 0) {
        return is_answered;
    }
    (void)curl_multi_poll(curl->multi, NULL, 0, (int)u64_min(timeout_ms, INT32_MAX), NULL);
    return perform(curl);
}

void transport_curl_wake(struct transport_curl *curl)
{
    (void)curl_multi_wakeup(curl->multi);
}
