/*
 * http_chunked: the chunked transfer coding as a machine of one state per place in the grammar (RFC
 * 9112 §7.1). Pure.
 *
 *   chunk    = 1*16HEXDIG [ chunk-ext ] CRLF chunk-data CRLF
 *   chunk-ext = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
 *   body     = *chunk 1*16"0" [ chunk-ext ] CRLF *( field-line CRLF ) CRLF
 *
 * Data moves as blocks, the framing goes byte by byte; a byte is judged when it comes and never
 * looked at again, so the answer does not depend on how the network cut the body. White space is
 * taken only where an extension allows it. How it fails: a fault is final, the connection has no
 * framing any more and must close.
 */
#include "net/http_chunked.h"

#include <string.h>

#include "net/http_chars.h"

enum chunked_state {
    CHUNKED_SIZE = 0,        /* in the digits, or before the first */
    CHUNKED_EXT_SPACE,       /* white space before ';' */
    CHUNKED_EXT_NAME_BEFORE, /* behind ';' */
    CHUNKED_EXT_NAME,
    CHUNKED_EXT_NAME_AFTER, /* white space before '=' or ';' */
    CHUNKED_EXT_VALUE_BEFORE,
    CHUNKED_EXT_VALUE,
    CHUNKED_EXT_QUOTED,
    CHUNKED_EXT_ESCAPED,      /* behind '\' in quotes */
    CHUNKED_EXT_QUOTED_AFTER, /* behind the closing quote */
    CHUNKED_SIZE_LF,
    CHUNKED_DATA,
    CHUNKED_DATA_CR,
    CHUNKED_DATA_LF,
    CHUNKED_TRAILER_START, /* of a line */
    CHUNKED_TRAILER_NAME,
    CHUNKED_TRAILER_VALUE,
    CHUNKED_TRAILER_LF,
    CHUNKED_LAST_LF, /* of the empty line that ends the body */
    CHUNKED_ENDED,
    CHUNKED_FAILED,
};

#define SIZE_DIGITS_MAX     16 /* 64 bits */
#define EXTENSION_BYTES_MAX 4096
/* An honest client's chunks are hundreds of bytes. One-byte chunks cost six bytes each on the wire
 * and a turn of the machine per byte here; this ends them where they begin to be an attack. */
#define OVERHEAD_BYTES_FREE KIB(64)
#define OVERHEAD_FACTOR_MAX 4 /* framing bytes per data byte: data is a fifth of the whole */

void http_chunked_init(struct http_chunked *chunked, const struct http_limits *limits)
{
    *chunked = (struct http_chunked){
        .state = CHUNKED_SIZE,
        .body_bytes_max = limits->body_bytes_max,
        .trailer_bytes_max = limits->head_bytes_max,
        .trailer_lines_max = limits->fields_max,
    };
}

static int chunked_fault(struct http_fault *fault, uint16_t status, const char *text)
{
    *fault = (struct http_fault){.status = status, .text = text};
    return -1;
}

static int line_fault(uint8_t c, struct http_fault *fault)
{
    if (c == '\n') {
        return chunked_fault(fault, 400, "A line of the chunked body does not end with CR LF.");
    }
    return chunked_fault(fault, 400, "A chunk size line of the body is malformed.");
}

static unsigned hex_value(uint8_t c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* The next state, or -1 with a fault. No overflow: a size above what is left is refused digit by
 * digit. */
static int take_size_digit(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    if (chunked->size_digits == SIZE_DIGITS_MAX) {
        return chunked_fault(fault, 400, "A chunk size has more than 16 digits.");
    }
    chunked->size_digits++;
    chunked->chunk_left = chunked->chunk_left * 16 + hex_value(c);
    if (chunked->chunk_left > chunked->body_bytes_max - chunked->body_bytes) {
        return chunked_fault(fault, 413, "The body is larger than allowed.");
    }
    return CHUNKED_SIZE;
}

/* Behind the size, a value or a closing quote. */
static int take_after_part(uint8_t c, struct http_fault *fault)
{
    if (c == '\r') {
        return CHUNKED_SIZE_LF;
    }
    if (c == ';') {
        return CHUNKED_EXT_NAME_BEFORE;
    }
    return http_char_is_blank(c) ? CHUNKED_EXT_SPACE : line_fault(c, fault);
}

static int take_size(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    if (http_char_is(c, HTTP_CHAR_HEX)) {
        return take_size_digit(chunked, c, fault);
    }
    if (chunked->size_digits == 0) {
        return line_fault(c, fault);
    }
    return take_after_part(c, fault);
}

static int take_extension_name(uint8_t c, struct http_fault *fault)
{
    if (http_char_is(c, HTTP_CHAR_TOKEN)) {
        return CHUNKED_EXT_NAME;
    }
    if (c == '=') {
        return CHUNKED_EXT_VALUE_BEFORE;
    }
    if (http_char_is_blank(c)) {
        return CHUNKED_EXT_NAME_AFTER;
    }
    return take_after_part(c, fault);
}

static int take_extension_name_after(uint8_t c, struct http_fault *fault)
{
    if (http_char_is_blank(c)) {
        return CHUNKED_EXT_NAME_AFTER;
    }
    if (c == '=') {
        return CHUNKED_EXT_VALUE_BEFORE;
    }
    return c == ';' ? CHUNKED_EXT_NAME_BEFORE : line_fault(c, fault);
}

static int take_extension_value_before(uint8_t c, struct http_fault *fault)
{
    if (http_char_is_blank(c)) {
        return CHUNKED_EXT_VALUE_BEFORE;
    }
    if (c == '"') {
        return CHUNKED_EXT_QUOTED;
    }
    return http_char_is(c, HTTP_CHAR_TOKEN) ? CHUNKED_EXT_VALUE : line_fault(c, fault);
}

static int take_extension_quoted(uint8_t c, struct http_fault *fault)
{
    if (c == '"') {
        return CHUNKED_EXT_QUOTED_AFTER;
    }
    if (c == '\\') {
        return CHUNKED_EXT_ESCAPED;
    }
    return http_char_is(c, HTTP_CHAR_VALUE) ? CHUNKED_EXT_QUOTED : line_fault(c, fault);
}

static int take_extension_byte(unsigned state, uint8_t c, struct http_fault *fault)
{
    switch (state) {
    case CHUNKED_EXT_SPACE:
        if (http_char_is_blank(c)) {
            return CHUNKED_EXT_SPACE;
        }
        return c == ';' ? CHUNKED_EXT_NAME_BEFORE : line_fault(c, fault);
    case CHUNKED_EXT_NAME_BEFORE:
        if (http_char_is_blank(c)) {
            return CHUNKED_EXT_NAME_BEFORE;
        }
        return http_char_is(c, HTTP_CHAR_TOKEN) ? CHUNKED_EXT_NAME : line_fault(c, fault);
    case CHUNKED_EXT_NAME:
        return take_extension_name(c, fault);
    case CHUNKED_EXT_NAME_AFTER:
        return take_extension_name_after(c, fault);
    case CHUNKED_EXT_VALUE_BEFORE:
        return take_extension_value_before(c, fault);
    case CHUNKED_EXT_VALUE:
        return http_char_is(c, HTTP_CHAR_TOKEN) ? CHUNKED_EXT_VALUE : take_after_part(c, fault);
    case CHUNKED_EXT_QUOTED:
        return take_extension_quoted(c, fault);
    case CHUNKED_EXT_ESCAPED:
        return http_char_is(c, HTTP_CHAR_VALUE) ? CHUNKED_EXT_QUOTED : line_fault(c, fault);
    default:
        ASSERT(state == CHUNKED_EXT_QUOTED_AFTER);
        return take_after_part(c, fault);
    }
}

/* Counts from the first byte behind the digits to the CR. The CR itself counts as well where it
 * follows an extension. */
static int take_extension(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    if (++chunked->extension_bytes > EXTENSION_BYTES_MAX) {
        return chunked_fault(fault, 400, "The chunk extensions of the body are too long.");
    }
    return take_extension_byte(chunked->state, c, fault);
}

static int take_size_lf(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    if (c != '\n') {
        return chunked_fault(fault, 400, "A chunk size line of the body does not end with CR LF.");
    }
    chunked->size_digits = 0;
    if (chunked->chunk_left == 0) {
        return CHUNKED_TRAILER_START;
    }
    if (chunked->overhead_bytes > OVERHEAD_BYTES_FREE &&
        chunked->overhead_bytes / OVERHEAD_FACTOR_MAX > chunked->body_bytes) {
        return chunked_fault(fault, 400, "The body comes in chunks that are absurdly small.");
    }
    return CHUNKED_DATA;
}

static int take_trailer_byte(unsigned state, uint8_t c, struct http_fault *fault)
{
    if (state == CHUNKED_TRAILER_START && c == '\r') {
        return CHUNKED_LAST_LF;
    }
    if (state == CHUNKED_TRAILER_VALUE) {
        if (c == '\r') {
            return CHUNKED_TRAILER_LF;
        }
        return http_char_is(c, HTTP_CHAR_VALUE)
                   ? CHUNKED_TRAILER_VALUE
                   : chunked_fault(fault, 400, "A trailer of the body is malformed.");
    }
    if (http_char_is(c, HTTP_CHAR_TOKEN)) {
        return CHUNKED_TRAILER_NAME;
    }
    if (state == CHUNKED_TRAILER_NAME && c == ':') {
        return CHUNKED_TRAILER_VALUE;
    }
    return chunked_fault(fault, 400, "A trailer of the body is malformed.");
}

static int take_trailer(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    chunked->trailer_lines += c == '\n';
    if (++chunked->trailer_bytes > chunked->trailer_bytes_max ||
        chunked->trailer_lines >
            chunked->trailer_lines_max + 1) { /* the last line is the empty one */
        return chunked_fault(fault, 431, "The trailers of the body are larger than allowed.");
    }
    if (chunked->state == CHUNKED_TRAILER_LF || chunked->state == CHUNKED_LAST_LF) {
        if (c != '\n') {
            return chunked_fault(fault, 400, "A trailer line of the body does not end with CR LF.");
        }
        return chunked->state == CHUNKED_LAST_LF ? CHUNKED_ENDED : CHUNKED_TRAILER_START;
    }
    return take_trailer_byte(chunked->state, c, fault);
}

/* One byte of framing: the next state, or -1 with a fault. */
static int take_framing(struct http_chunked *chunked, uint8_t c, struct http_fault *fault)
{
    chunked->overhead_bytes++;
    switch (chunked->state) {
    case CHUNKED_SIZE:
        return take_size(chunked, c, fault);
    case CHUNKED_SIZE_LF:
        return take_size_lf(chunked, c, fault);
    case CHUNKED_DATA_CR:
        return c == '\r' ? CHUNKED_DATA_LF
                         : chunked_fault(fault, 400, "A chunk is longer than its size says.");
    case CHUNKED_DATA_LF:
        return c == '\n'
                   ? CHUNKED_SIZE
                   : chunked_fault(fault, 400, "A chunk of the body does not end with CR LF.");
    case CHUNKED_TRAILER_START:
    case CHUNKED_TRAILER_NAME:
    case CHUNKED_TRAILER_VALUE:
    case CHUNKED_TRAILER_LF:
    case CHUNKED_LAST_LF:
        return take_trailer(chunked, c, fault);
    default:
        return take_extension(chunked, c, fault);
    }
}

/* As much of the chunk's data as there is; how much that was. */
static size_t take_data(struct http_chunked *chunked, uint8_t *to, const uint8_t *from,
                        size_t bytes)
{
    const size_t moved = (size_t)u64_min(bytes, chunked->chunk_left);
    if (to != from) {
        memmove(to, from, moved);
    }
    chunked->chunk_left -= moved;
    chunked->body_bytes += moved;
    if (chunked->chunk_left == 0) {
        chunked->state = CHUNKED_DATA_CR;
    }
    return moved;
}

/* Bound: each round takes at least one byte of from. */
enum chunked_result http_chunked_decode(struct http_chunked *chunked, uint8_t *to,
                                        const uint8_t *from, size_t from_bytes, size_t *taken,
                                        size_t *given, struct http_fault *fault)
{
    ASSERT(chunked->state < CHUNKED_ENDED);
    size_t at = 0;
    size_t out = 0;
    enum chunked_result result = CHUNKED_MORE;
    while (at < from_bytes && result == CHUNKED_MORE) {
        if (chunked->state == CHUNKED_DATA) {
            const size_t moved = take_data(chunked, to + out, from + at, from_bytes - at);
            at += moved;
            out += moved;
            continue;
        }
        const int next = take_framing(chunked, from[at], fault);
        at++;
        chunked->state = next < 0 ? CHUNKED_FAILED : (uint8_t)next;
        if (next < 0) {
            result = CHUNKED_FAULT;
        } else if (next == CHUNKED_ENDED) {
            result = CHUNKED_DONE;
        }
    }
    *taken = at;
    *given = out;
    return result;
}
