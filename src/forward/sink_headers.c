/*
 * sink_headers: split at '|', judged by RFC 9110 §5.1 and §5.5 (tokens; visible bytes and blanks).
 */
#include "forward/sink_headers.h"

#include <string.h>

static const char *const ours[] = {
    "Host",       "Content-Length", "Content-Encoding", "Transfer-Encoding",
    "Connection", "Expect",         "Idempotency-Key",
};

static struct slice trimmed(const char *text, size_t bytes)
{
    while (bytes > 0 && (text[0] == ' ' || text[0] == '\t')) {
        text++;
        bytes--;
    }
    while (bytes > 0 && (text[bytes - 1] == ' ' || text[bytes - 1] == '\t')) {
        bytes--;
    }
    return (struct slice){(const uint8_t *)text, bytes};
}

bool sink_headers_next(const char **at, struct slice *line, size_t *name_bytes)
{
    while (**at != '\0') { /* each step takes a piece of the text */
        const size_t bytes = strcspn(*at, "|");
        *line = trimmed(*at, bytes);
        *at += bytes + ((*at)[bytes] == '|');
        if (line->bytes > 0) {
            const uint8_t *colon = memchr(line->data, ':', line->bytes);
            *name_bytes = colon != NULL ? (size_t)(colon - line->data) : line->bytes;
            return true;
        }
    }
    return false;
}

static bool is_token(struct slice name)
{
    for (size_t i = 0; i < name.bytes; i++) {
        const uint8_t c = name.data[i];
        const bool is_alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!is_alnum && (c == 0 || strchr("!#$%&'*+-.^_`~", c) == NULL)) {
            return false;
        }
    }
    return name.bytes > 0;
}

static bool is_value(const uint8_t *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if ((at[i] < ' ' && at[i] != '\t') || at[i] == 0x7F) {
            return false;
        }
    }
    return bytes > 0;
}

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static bool is_authenticating(const struct config_sink *sink)
{
    return sink->aws_region[0] != '\0' || sink->bearer_file[0] != '\0' || sink->user[0] != '\0';
}

static const char *fault_of(const struct config_sink *sink, struct slice line, size_t name_bytes)
{
    const struct slice name = {line.data, name_bytes};
    if (name_bytes + 1 >= line.bytes || !is_token(name) ||
        !is_value(line.data + name_bytes + 1, line.bytes - name_bytes - 1)) {
        return "is not \"Name: value\"";
    }
    for (size_t i = 0; i < ARRAY_COUNT(ours); i++) {
        if (slice_equal_nocase(name, slice_of(ours[i]))) {
            return "is Sluice's own to say";
        }
    }
    if (is_authenticating(sink) && slice_equal_nocase(name, SLICE_LITERAL("Authorization"))) {
        return "contradicts how the sink authenticates";
    }
    return NULL;
}

int sink_headers_check(const struct config_sink *sink, struct err *err)
{
    const char *at = sink->headers;
    struct slice line;
    size_t name_bytes;
    while (sink_headers_next(&at, &line, &name_bytes)) {
        const char *fault = fault_of(sink, line, name_bytes);
        if (fault != NULL) { /* the name only: a value may be a secret after all */
            return err_set(err, ERR_SYNTAX, "sink %s: headers: \"%.*s\" %s", sink->name,
                           (int)u64_min(name_bytes, 64), (const char *)line.data, fault);
        }
    }
    return 0;
}

bool sink_headers_have(const struct config_sink *sink, const char *name)
{
    const char *at = sink->headers;
    struct slice line;
    size_t name_bytes;
    while (sink_headers_next(&at, &line, &name_bytes)) {
        if (slice_equal_nocase((struct slice){line.data, name_bytes}, slice_of(name))) {
            return true;
        }
    }
    return false;
}
