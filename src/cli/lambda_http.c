#include "cli/lambda_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "forward/body.h"
#include "forward/retry.h"

#define CONNECT_TIMEOUT_MS 5000L

struct lambda_http {
    CURL *curl;
    struct body answer;
};

int lambda_http_open(struct lambda_http **out, struct err *err)
{
    struct lambda_http *http = mem_alloc(sizeof *http);
    http->curl = curl_easy_init();
    if (http->curl == NULL) {
        mem_free(http);
        return err_set(err, -ENOMEM, "libcurl does not start");
    }
    body_init(&http->answer, LAMBDA_ANSWER_BYTES_MAX);
    *out = http;
    return 0;
}

void lambda_http_close(struct lambda_http *http)
{
    if (http != NULL) {
        curl_easy_cleanup(http->curl);
        body_free(&http->answer);
        mem_free(http);
    }
}

static size_t on_bytes(char *data, size_t size, size_t count, void *context)
{
    struct lambda_http *http = context;
    body_put(&http->answer, data, size * count);
    return http->answer.is_over ? 0 : size * count; /* 0: libcurl makes an error of it */
}

static void set_text(CURL *curl, CURLoption option, const char *text)
{
    (void)curl_easy_setopt(curl, option, text);
}

/* One more field. Without memory it is left out, and the upstream says what it misses. */
static struct curl_slist *add_field(struct curl_slist *fields, const char *field)
{
    struct curl_slist *more = curl_slist_append(fields, field);
    return more == NULL ? fields : more;
}

static struct curl_slist *make_fields(const struct lambda_request *request)
{
    char field[4096];
    struct curl_slist *fields = NULL;
    if (request->content_type != NULL) {
        (void)snprintf(field, sizeof field, "Content-Type: %s", request->content_type);
        fields = add_field(fields, field);
    }
    for (const char *more = request->headers; more != NULL && *more != 0;
         more += strlen(more) + 1) { /* ends: an empty one is the last */
        fields = add_field(fields, more);
    }
    if (request->signing != NULL && request->signing->token[0] != 0) {
        (void)snprintf(field, sizeof field, "X-Amz-Security-Token: %s", request->signing->token);
        fields = add_field(fields, field);
    }
    return fields;
}

static void sign(CURL *curl, const struct lambda_signing *signing)
{
    char scheme[192];
    char user[512];
    (void)snprintf(scheme, sizeof scheme, "aws:amz:%s:%s", signing->region, signing->service);
    (void)snprintf(user, sizeof user, "%s:%s", signing->key_id, signing->secret);
    set_text(curl, CURLOPT_AWS_SIGV4, scheme);
    set_text(curl, CURLOPT_USERPWD, user);
}

static void prepare(struct lambda_http *http, const struct lambda_request *request,
                    struct curl_slist *fields)
{
    CURL *curl = http->curl;
    body_reset(&http->answer);
    curl_easy_reset(curl); /* keeps the connections */
    set_text(curl, CURLOPT_URL, request->url);
    set_text(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    set_text(curl, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION);
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    /* An empty Expect field would be signed and not sent (7.88): so it is sent, and hardly waited for. */
    (void)curl_easy_setopt(curl, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, http);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    if (request->is_runtime) {
        set_text(curl, CURLOPT_NOPROXY, "*");
    }
    if (strcmp(request->method, "POST") == 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.bytes);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                               request->body.bytes > 0 ? (const void *)request->body.data : "");
    }
    if (request->signing != NULL && request->signing->service[0] != 0) {
        sign(curl, request->signing);
    }
}

static enum transport_fault fault_of(CURLcode code)
{
    if (code == CURLE_OK) {
        return TRANSPORT_OK;
    }
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
        code == CURLE_COULDNT_RESOLVE_PROXY) {
        return TRANSPORT_UNREACHABLE;
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return TRANSPORT_TIMEOUT;
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR ||
        code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE) {
        return TRANSPORT_TLS;
    }
    return code == CURLE_OUT_OF_MEMORY ? TRANSPORT_LOCAL : TRANSPORT_BROKEN;
}

void lambda_http_send(struct lambda_http *http, const struct lambda_request *request,
                      struct upstream_answer *answer)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    struct curl_slist *fields = make_fields(request);
    prepare(http, request, fields);
    CURLcode code = curl_easy_perform(http->curl);
    curl_slist_free_all(fields);
    memset(answer, 0, sizeof *answer);
    answer->fault = fault_of(code);
    answer->body = (struct slice){http->answer.data, http->answer.bytes};
    if (code != CURLE_OK) {
        (void)snprintf(answer->fault_text, sizeof answer->fault_text, "%s",
                       curl_easy_strerror(code));
        return;
    }
    (void)curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(http->curl, CURLINFO_RETRY_AFTER, &retry_after_s);
    answer->status = (int)status;
    answer->retry_after_ns =
        retry_after_s <= 0 ? 0 : u64_min((uint64_t)retry_after_s, RETRY_AFTER_MAX / NS_S) * NS_S;
}

const char *lambda_http_field(const struct lambda_http *http, const char *name)
{
    struct curl_header *field = NULL;
    return curl_easy_header(http->curl, name, 0, CURLH_HEADER, -1, &field) == CURLHE_OK
               ? field->value
               : "";
}
