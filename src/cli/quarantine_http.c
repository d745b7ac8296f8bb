#include "cli/quarantine_http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/http_get.h"

#define URL_BYTES 1024

static bool url_make(const struct quarantine_http *order, char *out, const char *rest)
{
    const char *scheme = strstr(order->url, "://") == NULL ? "http://" : "";
    size_t bytes = strlen(order->url);
    while (bytes > 0 && order->url[bytes - 1] == '/') { /* bounded by the text */
        bytes--;
    }
    int n = snprintf(out, URL_BYTES, "%s%.*s%s", scheme, (int)u64_min(bytes, URL_BYTES), order->url,
                     rest);
    return n > 0 && n < URL_BYTES;
}

/* The server at the address knows that record under that number: it is the one that holds the directory. An order about another
 * server's records would be done just as well. */
static int check_server(const struct quarantine_http *order, struct http_get *http, struct err *err)
{
    char url[URL_BYTES];
    char path[64];
    char id[ULID_TEXT_BYTES];
    (void)snprintf(path, sizeof path, "/v1/quarantine/%" PRIu64, order->sample_id);
    if (!url_make(order, url, path)) {
        return err_set(err, -EINVAL, "--url is too long");
    }
    int r = http_get(http, url, order->token, err);
    if (r == -ECONNREFUSED || r == -EACCES || r == -EIO) {
        return err_wrap(err, r,
                        "a server holds %s and has to do it; name its address with --url and, "
                        "where it asks for one, a token with --token-file",
                        order->data_dir);
    }
    ulid_format(id, &order->sample_record);
    if (r < 0 || memmem(http->data, http->bytes, id, sizeof id) == NULL) {
        return err_set(err, -ENXIO,
                       "the server at %s does not serve %s (or the record is gone): nothing was "
                       "done; name the right one with --url",
                       order->url, order->data_dir);
    }
    return 0;
}

/* The words of {"detail":"..."}. */
static void take_detail(const struct http_get *http, struct err *err)
{
    static const char key[] = "{\"detail\":\"";
    if (http->bytes > sizeof key && memcmp(http->data, key, sizeof key - 1) == 0) {
        const char *text = (const char *)http->data + sizeof key - 1;
        const char *end = memchr(text, '"', http->bytes - (sizeof key - 1));
        size_t bytes = end == NULL ? 0 : (size_t)(end - text);
        (void)err_set(err, err->code, "%.*s", (int)bytes, text);
    }
}

static int order_once(const struct quarantine_http *order, struct http_get *http, uint64_t *records,
                      struct err *err)
{
    static const char field[] = "\"records\":";
    char url[URL_BYTES];
    char path[128];
    if (order->id != 0) {
        (void)snprintf(path, sizeof path, "/v1/quarantine/%" PRIu64 "/%s", order->id, order->verb);
    } else {
        (void)snprintf(path, sizeof path, "/v1/sinks/%.32s/%s", order->sink, order->verb);
    }
    if (!url_make(order, url, path)) {
        return err_set(err, -EINVAL, "--url is too long");
    }
    int r = http_post(http, url, order->token, err);
    if (r < 0) {
        if (r == -EPROTO) {
            take_detail(http, err);
        }
        return r;
    }
    const char *at = memmem(http->data, http->bytes, field, sizeof field - 1);
    uint64_t count = at == NULL ? 0 : (uint64_t)strtoul(at + sizeof field - 1, NULL, 10);
    *records = count;
    return 0;
}

int quarantine_http_order(const struct quarantine_http *order, uint64_t *records, struct err *err)
{
    struct http_get http;
    int r = http_get_open(&http, err);
    if (r < 0) {
        return r;
    }
    r = check_server(order, &http, err);
    r = r == 0 ? order_once(order, &http, records, err) : r;
    http_get_close(&http);
    return r;
}
