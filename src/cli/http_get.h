/*
 * http_get: one GET or POST by libcurl for commands that speak with a running server. Blocking, bounded in time and size.
 */
#ifndef CLI_HTTP_GET_H
#define CLI_HTTP_GET_H

#include "core/base.h"
#include "core/err.h"

#define HTTP_GET_BYTES_MAX ((size_t)16 << 20)

struct http_get {
    void *curl; /* kept for the next call: the connection stays open */
    uint8_t *data;
    size_t bytes;
    size_t room;
};

int http_get_open(struct http_get *get, struct err *err) MUST_USE;
/* The body is in data until the next call. token: NULL or a bearer token. 0; -EACCES: 401 or 403; -EPROTO: another
 * status than 200; -ECONNREFUSED and others: no answer. */
int http_get(struct http_get *get, const char *url, const char *token, struct err *err) MUST_USE;
/* POST without a body. As http_get; the answer's body is in data also when the status is another than 200. */
int http_post(struct http_get *get, const char *url, const char *token, struct err *err) MUST_USE;
void http_get_close(struct http_get *get);

#endif
