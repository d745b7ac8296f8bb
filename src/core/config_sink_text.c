/*
 * config_sink_text: texts of sinks that have a grammar: addresses, headers, index names, identifiers.
 * Pure. Errors never repeat an address or a header: there may be a secret in it, put there by mistake.
 */
#include "core/config_table.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static bool text_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The authority of an address: "host:port". Empty where there is none. */
static struct slice url_authority(const char *url)
{
    const char *scheme_end = strstr(url, "://");
    const char *from = scheme_end != NULL ? scheme_end + 3 : url;
    return (struct slice){(const uint8_t *)from, strcspn(from, "/?#")};
}

/* The host without its port and brackets. */
static struct slice url_host(const char *url)
{
    struct slice host = url_authority(url);
    const char *text = (const char *)host.data;
    if (host.bytes > 0 && text[0] == '[') {
        const char *end = memchr(text, ']', host.bytes);
        return (struct slice){host.data + 1,
                              end != NULL ? (size_t)(end - text - 1) : host.bytes - 1};
    }
    const char *colon = memchr(text, ':', host.bytes);
    host.bytes = colon != NULL ? (size_t)(colon - text) : host.bytes;
    return host;
}

static bool url_port_is_good(const char *url)
{
    struct slice authority = url_authority(url);
    struct slice host = url_host(url);
    const char *end = (const char *)authority.data + authority.bytes;
    const char *port = (const char *)host.data + host.bytes;
    uint64_t number = 0;
    port += port < end && *port == ']' ? 1 : 0;
    if (port == end) {
        return true;
    }
    if (*port != ':' || end - port < 2 || end - port > 6) {
        return false;
    }
    for (port++; port < end; port++) {
        if (*port < '0' || *port > '9') {
            return false;
        }
        number = number * 10 + (uint64_t)(*port - '0');
    }
    return number >= 1 && number <= 65535;
}

static bool url_host_is_good(struct slice host, bool has_brackets)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    static const char address[] = "0123456789abcdefABCDEF:.%";
    const char *allowed = has_brackets ? address : name;
    for (size_t i = 0; i < host.bytes; i++) {
        if (host.data[i] == '\0' || strchr(allowed, host.data[i]) == NULL) {
            return false;
        }
    }
    return host.bytes > 0;
}

int config_text_url(const char *url, struct err *reason)
{
    if (!text_has_prefix(url, "http://") && !text_has_prefix(url, "https://")) {
        return err_set(reason, -EINVAL, "must begin with http:// or https://");
    }
    struct slice authority = url_authority(url);
    if (memchr(authority.data, '@', authority.bytes) != NULL) {
        return err_set(reason, -EINVAL,
                       "must not hold credentials: set user and password_file instead");
    }
    bool has_brackets = authority.bytes > 0 && authority.data[0] == '[';
    bool is_closed = memchr(authority.data, ']', authority.bytes) != NULL;
    if (has_brackets != is_closed || !url_host_is_good(url_host(url), has_brackets)) {
        return err_set(reason, -EINVAL, "has no good host name: write https://HOST[:PORT][/PATH]");
    }
    if (!url_port_is_good(url)) {
        return err_set(reason, -EINVAL, "has a port that is none (1 to 65535)");
    }
    for (const char *p = url; *p != '\0'; p++) {
        if (*p <= ' ' || *p == '#' || *p == '"' || *p == '<' || *p == '>' || *p == 0x7F) {
            return err_set(reason, -EINVAL,
                           "has a character that no request can carry (byte %zu): write it as %%XX",
                           (size_t)(p - url) + 1);
        }
    }
    return 0;
}

bool config_text_url_is_loopback(const char *url)
{
    struct slice host = url_host(url);
    return slice_equal_nocase(host, SLICE_LITERAL("localhost")) ||
           slice_equal(host, SLICE_LITERAL("::1")) ||
           (host.bytes > 4 && memcmp(host.data, "127.", 4) == 0);
}

static bool url_host_ends_with(struct slice host, struct slice end)
{
    return host.bytes > end.bytes &&
           slice_equal_nocase((struct slice){host.data + host.bytes - end.bytes, end.bytes}, end);
}

bool config_text_url_is_aws(const char *url)
{
    struct slice host = url_host(url);
    return url_host_ends_with(host, SLICE_LITERAL(".amazonaws.com")) ||
           url_host_ends_with(host, SLICE_LITERAL(".amazonaws.com.cn")) ||
           url_host_ends_with(host, SLICE_LITERAL(".api.aws"));
}

/* --- headers --- */

static bool header_name_is(struct slice name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice other = {(const uint8_t *)names[i], strlen(names[i])};
        if (slice_equal_nocase(name, other)) {
            return true;
        }
    }
    return false;
}

static int header_name_check(struct slice name, struct err *reason)
{
    static const char *const secret[] = {"authorization", "proxy-authorization", "cookie",
                                         "x-api-key", "x-amz-security-token"};
    static const char *const ours[] = {
        "host",       "content-length",  "content-encoding", "transfer-encoding", "expect",
        "connection", "idempotency-key", "sluice-node",      "sluice-range"};
    static const char token[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`~";
    for (size_t i = 0; i < name.bytes; i++) {
        if (name.data[i] == '\0' || strchr(token, name.data[i]) == NULL) {
            return err_set(reason, -EINVAL, "a name has a character that no header name may have");
        }
    }
    if (header_name_is(name, secret, ARRAY_COUNT(secret))) {
        return err_set(reason, -EINVAL,
                       "%.*s is a secret, which belongs in a file: bearer_file, api_key_file, or "
                       "user and password_file",
                       (int)name.bytes, (const char *)name.data);
    }
    if (header_name_is(name, ours, ARRAY_COUNT(ours))) {
        return err_set(reason, -EINVAL, "%.*s is set by Sluice", (int)name.bytes,
                       (const char *)name.data);
    }
    return 0;
}

int config_text_headers(const char *headers, struct err *reason)
{
    const char *from = headers;
    int r = 0;
    while (r == 0 && *from != '\0') { /* a turn per header, each at least two bytes */
        const char *next = strchr(from, '|');
        const char *end = next != NULL ? next : from + strlen(from);
        from += strspn(from, " ");
        const char *colon = memchr(from, ':', (size_t)(end > from ? end - from : 0));
        if (colon == NULL || colon == from) {
            return err_set(reason, -EINVAL, "write \"Name: value\", separated by '|'");
        }
        r = header_name_check((struct slice){(const uint8_t *)from, (size_t)(colon - from)},
                              reason);
        from = next != NULL ? next + 1 : end;
        if (r == 0 && next != NULL && *from == '\0') {
            r = err_set(reason, -EINVAL, "nothing follows the last '|'");
        }
    }
    return r;
}

/* --- names at the upstream --- */

int config_text_index(const char *index, struct err *reason)
{
    const char *p = index;
    if (*p == '-' || *p == '_' || *p == '.' || *p == '+' || *p == '\0') {
        return err_set(reason, -EINVAL, "must begin with a letter, a digit, %% or {kind}");
    }
    while (*p != '\0') { /* each turn goes on by a byte or more */
        bool is_plain = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '-' ||
                        *p == '_' || *p == '.' || *p == '+';
        if (is_plain) {
            p++;
        } else if (*p == '%' && p[1] != '\0' && strchr("YmdH", p[1]) != NULL) {
            p += 2;
        } else if (text_has_prefix(p, "{kind}")) {
            p += 6;
        } else {
            return err_set(reason, -EINVAL,
                           "may have a-z 0-9 - _ . + and %%Y %%m %%d %%H {kind} only (byte %zu)",
                           (size_t)(p - index) + 1);
        }
    }
    return 0;
}

bool config_text_is_timestream_name(const char *text)
{
    size_t bytes = strlen(text);
    return bytes >= 3 &&
           bytes == strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_.-");
}

bool config_text_is_identifier(const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > 63 || (text[0] >= '0' && text[0] <= '9')) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!is_letter && !(c >= '0' && c <= '9')) {
            return false;
        }
    }
    return true;
}

/* --- libpq's connection strings --- */

static size_t conninfo_value(const char *text)
{
    size_t i = 0;
    if (text[0] != '\'') {
        for (; text[i] != '\0' && text[i] != ' '; i++) {
            i += text[i] == '\\' && text[i + 1] != '\0' ? 1 : 0;
        }
        return i;
    }
    for (i = 1; text[i] != '\0' && text[i] != '\''; i++) {
        i += text[i] == '\\' && text[i + 1] != '\0' ? 1 : 0;
    }
    return text[i] == '\'' ? i + 1 : i;
}

static bool conninfo_key_is_secret(struct slice key)
{
    return slice_equal_nocase(key, SLICE_LITERAL("password")) ||
           slice_equal_nocase(key, SLICE_LITERAL("sslpassword"));
}

/* "user:secret@host" or "?password=". */
static bool conninfo_uri_has_password(const char *uri)
{
    struct slice authority = url_authority(uri);
    const uint8_t *at = memchr(authority.data, '@', authority.bytes);
    if (at != NULL && memchr(authority.data, ':', (size_t)(at - authority.data)) != NULL) {
        return true;
    }
    const char *p = strchr(uri, '?');
    while (p != NULL) { /* a turn per parameter */
        struct slice key = {(const uint8_t *)p + 1, strcspn(p + 1, "=&")};
        if (conninfo_key_is_secret(key)) {
            return true;
        }
        p = strchr(p + 1, '&');
    }
    return false;
}

bool config_text_conninfo_has_password(const char *conninfo)
{
    if (text_has_prefix(conninfo, "postgres://") || text_has_prefix(conninfo, "postgresql://")) {
        return conninfo_uri_has_password(conninfo);
    }
    const char *p = conninfo;
    while (*p != '\0') { /* a turn per keyword */
        p += strspn(p, " ");
        struct slice key = {(const uint8_t *)p, strcspn(p, "= ")};
        if (conninfo_key_is_secret(key)) {
            return true;
        }
        p += key.bytes;
        p += strspn(p, " ");
        if (*p == '=') {
            p++;
            p += strspn(p, " ");
            p += conninfo_value(p);
        }
    }
    return false;
}
