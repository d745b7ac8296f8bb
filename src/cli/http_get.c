#include "cli/http_get.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

#define TIMEOUT_S 10L

int http_get_open(struct http_get *get, struct err *err)
{
    *get = (struct http_get){.curl = curl_easy_init()};
    return get->curl != NULL ? 0 : err_set(err, -ENOMEM, "libcurl does not start");
}

void http_get_close(struct http_get *get)
{
    curl_easy_cleanup(get->curl);
    mem_free(get->data);
}

static size_t on_bytes(char *data, size_t size, size_t count, void *context)
{
    struct http_get *get = context;
    size_t bytes = size * count;
    if (bytes > HTTP_GET_BYTES_MAX - get->bytes) {
        return 0; /* libcurl makes an error of it */
    }
    if (get->bytes + bytes > get->room) {
        size_t room = u64_max(2 * get->room, get->bytes + bytes + 4096);
        uint8_t *larger = mem_alloc(room);
        if (get->bytes > 0) {
            memcpy(larger, get->data, get->bytes);
        }
        mem_free(get->data);
        get->data = larger;
        get->room = room;
    }
    memcpy(get->data + get->bytes, data, bytes);
    get->bytes += bytes;
    return bytes;
}

static int judge(const struct http_get *get, CURLcode code, const char *url, struct err *err)
{
    long status = 0;
    if (code != CURLE_OK) {
        int result = code == CURLE_COULDNT_CONNECT ? -ECONNREFUSED : -EIO;
        return err_set(err, result, "%s: %s", url, curl_easy_strerror(code));
    }
    (void)curl_easy_getinfo(get->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 401 || status == 403) {
        return err_set(err, -EACCES,
                       "%s: status %ld: give a token that may do it (--token, --token-file)", url,
                       status);
    }
    return status == 200 ? 0 : err_set(err, -EPROTO, "%s: status %ld", url, status);
}

static int perform(struct http_get *get, const char *url, const char *token, bool is_post,
                   struct err *err)
{
    CURL *curl = get->curl;
    char field[1024];
    struct curl_slist *fields = NULL;
    get->bytes = 0;
    curl_easy_reset(curl);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, get);
    if (is_post) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    if (token != NULL) {
        (void)snprintf(field, sizeof field, "Authorization: Bearer %s", token);
        fields = curl_slist_append(NULL, field);
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    }
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(fields);
    return judge(get, code, url, err);
}

int http_get(struct http_get *get, const char *url, const char *token, struct err *err)
{
    return perform(get, url, token, false, err);
}

int http_post(struct http_get *get, const char *url, const char *token, struct err *err)
{
    return perform(get, url, token, true, err);
}
