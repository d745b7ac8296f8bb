#include "api/cors.h"

#include <errno.h>
#include <string.h>

#include "core/buf.h"

/* What a page may read besides the body. */
#define CORS_EXPOSE                                                                                \
    "Access-Control-Expose-Headers: X-Sluice-Ack, X-Sluice-Duplicate, Retry-After, "               \
    "X-RateLimit-Limit, X-RateLimit-Remaining\r\n"
#define CORS_VARY "Vary: Origin\r\n"

/* Each origin takes its own bytes twice and these lines; the text of a key holds them all once. */
_Static_assert(CORS_ORIGINS_MAX *(sizeof CORS_EXPOSE + sizeof CORS_VARY + 32) +
                       2 * CONFIG_TEXT_BYTES <=
                   CORS_TEXT_BYTES,
               "the lines of all origins fit");

/* Appends to text; returns where. */
static struct slice cors_put(struct cors *cors, const char *format, struct slice origin)
{
    struct buf buf;
    buf_init(&buf, cors->text + cors->text_bytes, CORS_TEXT_BYTES - cors->text_bytes);
    while (*format != '\0') { /* bounded by the format, a literal */
        if (*format == '%') {
            buf_put_slice(&buf, origin);
        } else {
            buf_put_char(&buf, *format);
        }
        format++;
    }
    ASSERT(!buf.is_truncated);
    cors->text_bytes += buf.bytes;
    return (struct slice){buf.data, buf.bytes};
}

static bool origin_byte_is_valid(uint8_t c)
{
    /* Neither path, query, user nor a second scheme; browsers send host names in their ASCII form.
     */
    return c > ' ' && c <= '~' && c != '/' && c != '?' && c != '#' && c != '@' && c != '\\' &&
           c != '"' && c != '%' && c != '*';
}

/* SCHEME://HOST[:PORT]. */
static bool origin_is_valid(struct slice origin)
{
    const uint8_t *colon = memmem(origin.data, origin.bytes, "://", 3);
    if (colon == NULL || colon == origin.data) {
        return false;
    }
    size_t scheme = (size_t)(colon - origin.data);
    for (size_t i = 0; i < origin.bytes; i++) {
        bool is_separator = i >= scheme && i < scheme + 3;
        if (!is_separator && !origin_byte_is_valid(origin.data[i])) {
            return false;
        }
    }
    return origin.bytes > scheme + 3;
}

/* Browsers send scheme and host in lower case, and what is answered must match byte for byte. */
static void cors_lower(struct slice text)
{
    uint8_t *bytes = (uint8_t *)(uintptr_t)text.data;
    for (size_t i = 0; i < text.bytes; i++) {
        if (bytes[i] >= 'A' && bytes[i] <= 'Z') {
            bytes[i] = (uint8_t)(bytes[i] - 'A' + 'a');
        }
    }
}

static void cors_add(struct cors *cors, struct slice origin, struct config_problems *problems)
{
    if (origin.bytes == 0) {
        return;
    }
    if (!origin_is_valid(origin)) {
        config_problems_add(problems,
                            "cors.origins: '%.*s' is no origin: SCHEME://HOST[:PORT] without a "
                            "path, or a single *",
                            (int)origin.bytes, (const char *)origin.data);
        return;
    }
    if (cors->count == CORS_ORIGINS_MAX) {
        config_problems_add(problems, "cors.origins: more than %u origins", CORS_ORIGINS_MAX);
        return;
    }
    struct cors_origin *to = &cors->origins[cors->count++];
    to->origin = cors_put(cors, "%", origin);
    cors_lower(to->origin);
    to->lines =
        cors_put(cors, "Access-Control-Allow-Origin: %\r\n" CORS_VARY CORS_EXPOSE, to->origin);
}

static struct slice trim(struct slice text)
{
    while (text.bytes != 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = (struct slice){text.data + 1, text.bytes - 1};
    }
    while (text.bytes != 0 &&
           (text.data[text.bytes - 1] == ' ' || text.data[text.bytes - 1] == '\t')) {
        text.bytes--;
    }
    return text;
}

int cors_init(struct cors *cors, const char *origins, struct config_problems *problems)
{
    unsigned before = problems->count;
    struct slice rest = trim((struct slice){(const uint8_t *)origins, strlen(origins)});
    memset(cors, 0, sizeof *cors);
    cors->is_on = rest.bytes != 0;
    cors->is_any = slice_equal(rest, SLICE_LITERAL("*"));
    if (cors->is_any) {
        cors->other_lines = SLICE_LITERAL("Access-Control-Allow-Origin: *\r\n" CORS_EXPOSE);
        return 0;
    }
    if (cors->is_on) {
        cors->other_lines = SLICE_LITERAL(CORS_VARY);
    }
    while (rest.bytes != 0) { /* bounded by the commas of the text */
        const uint8_t *comma = memchr(rest.data, ',', rest.bytes);
        size_t bytes = comma != NULL ? (size_t)(comma - rest.data) : rest.bytes;
        cors_add(cors, trim((struct slice){rest.data, bytes}), problems);
        size_t step = bytes + (comma != NULL ? 1 : 0);
        rest = (struct slice){rest.data + step, rest.bytes - step};
    }
    return problems->count == before ? 0 : -EINVAL;
}

static const struct cors_origin *cors_find(const struct cors *cors, struct slice origin)
{
    for (uint32_t i = 0; i < cors->count; i++) {
        if (slice_equal(cors->origins[i].origin, origin)) {
            return &cors->origins[i];
        }
    }
    return NULL;
}

struct slice cors_lines(const struct cors *cors, struct slice origin)
{
    const struct cors_origin *found = cors_find(cors, origin);
    return found != NULL ? found->lines : cors->other_lines;
}

bool cors_allows(const struct cors *cors, struct slice origin)
{
    return cors->is_any || cors_find(cors, origin) != NULL;
}
