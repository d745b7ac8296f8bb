/*
 * lambda_http: the requests of `sluice lambda`, one after the other, over one libcurl handle that keeps its connections:
 * to the Runtime API and to the upstreams. One thread. Fails only in its answers (struct upstream_answer).
 */
#ifndef CLI_LAMBDA_HTTP_H
#define CLI_LAMBDA_HTTP_H

#include "core/base.h"
#include "core/err.h"
#include "forward/protocol.h"

/* An event is at most 6 MB, an answer of _bulk about as large as what was sent. */
#define LAMBDA_ANSWER_BYTES_MAX MIB(32)

struct lambda_http;

/* AWS Signature Version 4. */
struct lambda_signing {
    const char *region;
    const char *service; /* "": not signed */
    const char *key_id;
    const char *secret;
    const char *token; /* of a session; "": none */
};

struct lambda_request {
    const char *method; /* "GET" or "POST" */
    const char *url;
    const char *content_type;             /* NULL: none */
    const char *headers;                  /* more, as protocol->headers writes them; NULL: none */
    struct slice body;                    /* of a POST */
    const struct lambda_signing *signing; /* NULL: not signed */
    uint64_t timeout_ms;                  /* 0: none */
    bool is_runtime;                      /* the Runtime API: never through a proxy */
};

int lambda_http_open(struct lambda_http **http, struct err *err) MUST_USE;
void lambda_http_close(struct lambda_http *http); /* NULL is fine */
/* answer->body is borrowed until the next request. */
void lambda_http_send(struct lambda_http *http, const struct lambda_request *request,
                      struct upstream_answer *answer);
/* A header field of the last answer, "" when it has none; borrowed until the next request. */
const char *lambda_http_field(const struct lambda_http *http, const char *name);

#endif
