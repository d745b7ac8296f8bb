/*
 * http_field: the fields that decide about framing, the connection and the routes. Pure.
 *
 * A field is looked up by the length of its name, then by its bytes: an unknown one costs a jump
 * and, when its length collides, one comparison. What a single field proves is said at once; what
 * depends on other fields (Transfer-Encoding with Content-Length, Host with the target, Expect)
 * waits for http_field_conclude, so that the order in which a client sends its fields does not
 * change the answer.
 */
#include <string.h>

#include "net/http_chars.h"
#include "net/http_walk.h"

/* 19 digits always fit into 64 bits: 10^19 - 1 < 2^64. */
#define LENGTH_DIGITS_MAX 19

static inline bool word_is(const uint8_t *name, const char *lower)
{
    uint64_t a;
    uint64_t b;
    memcpy(&a, name, sizeof a);
    memcpy(&b, lower, sizeof b);
    return (a | 0x2020202020202020u) == b;
}

static inline bool half_word_is(const uint8_t *name, const char *lower)
{
    uint32_t a;
    uint32_t b;
    memcpy(&a, name, sizeof a);
    memcpy(&b, lower, sizeof b);
    return (a | 0x20202020u) == b;
}

/* name is a field name or value of exactly bytes bytes (4 to 24), lower has only lower-case letters
 * and dashes. Setting bit 5 folds the case; the only other byte that it maps onto one of these is
 * CR (onto the dash), which neither can contain. The words overlap instead of leaving a tail. With
 * a constant length this is two or three comparisons. */
static inline bool name_is(const uint8_t *name, const char *lower, size_t bytes)
{
    if (bytes < 8) {
        return half_word_is(name, lower) && half_word_is(name + bytes - 4, lower + bytes - 4);
    }
    if (bytes > 16 && !word_is(name + 8, lower + 8)) {
        return false;
    }
    return word_is(name, lower) && word_is(name + bytes - 8, lower + bytes - 8);
}

#define NAME_IS(name, literal) name_is((name), (literal), sizeof(literal) - 1)

static struct slice value_of(const struct http_walk *walk, const struct http_field *field)
{
    return http_span_slice(walk->base, field->value);
}

/* Keeps the first; a second is ignored here (the route sees it in fields). */
static int keep_first(struct http_span *place, struct http_span value)
{
    if (http_span_is_absent(*place)) {
        *place = value;
    }
    return 1;
}

static int keep_single(struct http_walk *walk, struct http_span *place, struct http_span value,
                       const char *text)
{
    if (UNLIKELY(!http_span_is_absent(*place))) {
        return http_walk_fault(walk, 400, text);
    }
    *place = value;
    return 1;
}

static int note_host(struct http_walk *walk, const struct http_field *field)
{
    if (UNLIKELY(!http_host_is_valid(value_of(walk, field)))) {
        return http_walk_fault(walk, 400, "The Host field is not a valid host name.");
    }
    return keep_single(walk, &walk->head->host, field->value, "The Host field is given twice.");
}

static int note_content_length(struct http_walk *walk, const struct http_field *field)
{
    struct http_head *head = walk->head;
    const struct slice value = value_of(walk, field);
    uint64_t length = 0;
    if (UNLIKELY(head->has_content_length)) {
        return http_walk_fault(walk, 400, "The Content-Length field is given twice.");
    }
    if (UNLIKELY(value.bytes == 0 || value.bytes > LENGTH_DIGITS_MAX)) {
        return http_walk_fault(walk, 400, "The Content-Length field must have 1 to 19 digits.");
    }
    for (size_t i = 0; i < value.bytes; i++) {
        const unsigned digit = (unsigned)value.data[i] - '0';
        if (UNLIKELY(digit > 9)) {
            return http_walk_fault(walk, 400, "The Content-Length field is not a decimal number.");
        }
        length = length * 10 + digit;
    }
    head->content_length = length;
    head->has_content_length = true;
    return 1;
}

static int note_transfer_encoding(struct http_walk *walk, const struct http_field *field)
{
    return keep_single(walk, &walk->transfer_encoding, field->value,
                       "The Transfer-Encoding field is given twice.");
}

/* Only one coding is undone, so a list is unknown to us as a whole. */
static int note_content_encoding(struct http_walk *walk, const struct http_field *field)
{
    const struct slice value = value_of(walk, field);
    enum http_coding coding = HTTP_CODING_UNKNOWN;
    if (slice_equal_nocase(value, SLICE_LITERAL("gzip")) ||
        slice_equal_nocase(value, SLICE_LITERAL("x-gzip"))) { /* RFC 9110 §8.4.1.3: the same */
        coding = HTTP_CODING_GZIP;
    } else if (slice_equal_nocase(value, SLICE_LITERAL("zstd"))) {
        coding = HTTP_CODING_ZSTD;
    } else if (slice_equal_nocase(value, SLICE_LITERAL("identity"))) {
        coding = HTTP_CODING_IDENTITY;
    }
    walk->head->coding = walk->has_content_encoding ? HTTP_CODING_UNKNOWN : coding;
    walk->has_content_encoding = true;
    return 1;
}

/* Takes the next member of a comma-separated list, without the white space around it; false at the
 * end of the list. A list of n commas has n + 1 members, of which some may be empty. *at is NULL
 * after the last. */
static bool list_next(const uint8_t **at, const uint8_t *end, struct slice *member)
{
    const uint8_t *from = *at;
    if (from == NULL) {
        return false;
    }
    const uint8_t *comma = memchr(from, ',', (size_t)(end - from));
    const uint8_t *to = comma == NULL ? end : comma;
    *at = comma == NULL ? NULL : comma + 1;
    while (from < to && http_char_is_blank(*from)) {
        from++;
    }
    while (to > from && http_char_is_blank(to[-1])) {
        to--;
    }
    *member = (struct slice){from, (size_t)(to - from)};
    return true;
}

static int note_connection(struct http_walk *walk, const struct http_field *field)
{
    const struct slice value = value_of(walk, field);
    const uint8_t *at = value.data;
    struct slice member;
    if (LIKELY(value.bytes == 10 && NAME_IS(value.data, "keep-alive"))) {
        walk->has_connection_keep_alive = true;
        return 1;
    }
    while (list_next(&at, value.data + value.bytes, &member)) {
        if (slice_equal_nocase(member, SLICE_LITERAL("keep-alive"))) {
            walk->has_connection_keep_alive = true;
        } else if (slice_equal_nocase(member, SLICE_LITERAL("close"))) {
            walk->has_connection_close = true;
        } else if (slice_equal_nocase(member, SLICE_LITERAL("upgrade"))) {
            walk->head->wants_upgrade = true;
        }
    }
    return 1;
}

static int note_expect(struct http_walk *walk, const struct http_field *field)
{
    if (slice_equal_nocase(value_of(walk, field), SLICE_LITERAL("100-continue"))) {
        walk->has_expect_continue = true;
    } else {
        walk->has_expect_other = true;
    }
    return 1;
}

static int note_6(struct http_walk *walk, const uint8_t *name, const struct http_field *field)
{
    if (NAME_IS(name, "accept")) {
        return keep_first(&walk->head->accept, field->value);
    }
    if (NAME_IS(name, "origin")) {
        return keep_first(&walk->head->origin, field->value);
    }
    if (NAME_IS(name, "expect")) {
        return note_expect(walk, field);
    }
    return 1;
}

static int note_12(struct http_walk *walk, const uint8_t *name, const struct http_field *field)
{
    if (NAME_IS(name, "content-type")) {
        return keep_single(walk, &walk->head->content_type, field->value,
                           "The Content-Type field is given twice.");
    }
    if (NAME_IS(name, "x-sluice-ack")) {
        return keep_first(&walk->head->sluice_ack, field->value);
    }
    return 1;
}

int http_field_note(struct http_walk *walk, const struct http_field *field)
{
    const uint8_t *name = walk->base + field->name.offset;
    struct http_head *head = walk->head;
    switch (field->name.bytes) {
    case 4:
        return NAME_IS(name, "host") ? note_host(walk, field) : 1;
    case 6:
        return note_6(walk, name, field);
    case 10:
        return NAME_IS(name, "connection") ? note_connection(walk, field) : 1;
    case 12:
        return note_12(walk, name, field);
    case 13:
        return NAME_IS(name, "authorization")
                   ? keep_single(walk, &head->authorization, field->value,
                                 "The Authorization field is given twice.")
                   : 1;
    case 14:
        return NAME_IS(name, "content-length") ? note_content_length(walk, field) : 1;
    case 15:
        return NAME_IS(name, "idempotency-key")
                   ? keep_single(walk, &head->idempotency_key, field->value,
                                 "The Idempotency-Key field is given twice.")
                   : 1;
    case 16:
        return NAME_IS(name, "content-encoding") ? note_content_encoding(walk, field) : 1;
    case 17:
        return NAME_IS(name, "transfer-encoding") ? note_transfer_encoding(walk, field) : 1;
    default:
        return 1;
    }
}

static bool is_token(struct slice text)
{
    const uint8_t *end = text.data + text.bytes;
    return text.bytes > 0 && http_scan_scalar(text.data, end, HTTP_CHAR_TOKEN) == end;
}

/* RFC 9112 §6.1 and 6.3. Only "chunked" alone is served. A list that is well-formed, and in which
 * chunked stands nowhere but at the end, merely asks for what we do not have (501); everything else
 * is an attempt at our idea of framing (400). */
static int conclude_transfer_encoding(struct http_walk *walk)
{
    const struct slice value = http_span_slice(walk->base, walk->transfer_encoding);
    const uint8_t *at = value.data;
    struct slice member;
    unsigned chunked_count = 0;
    if (slice_equal_nocase(value, SLICE_LITERAL("chunked"))) {
        walk->head->is_chunked = true;
        return 1;
    }
    while (list_next(&at, value.data + value.bytes, &member)) {
        if (!is_token(member)) {
            return http_walk_fault(walk, 400, "The Transfer-Encoding field is malformed.");
        }
        if (chunked_count > 0) {
            return http_walk_fault(walk, 400, "The transfer coding chunked must be the last one.");
        }
        chunked_count += slice_equal_nocase(member, SLICE_LITERAL("chunked"));
    }
    return http_walk_fault(walk, 501, "Of the transfer codings only chunked is known.");
}

static int conclude_framing(struct http_walk *walk)
{
    const struct http_head *head = walk->head;
    if (LIKELY(http_span_is_absent(walk->transfer_encoding))) {
        return 1;
    }
    if (head->has_content_length) {
        return http_walk_fault(walk, 400,
                               "Content-Length and Transfer-Encoding exclude each other.");
    }
    if (head->version_minor == 0) {
        return http_walk_fault(walk, 400, "HTTP/1.0 has no Transfer-Encoding.");
    }
    return conclude_transfer_encoding(walk);
}

static int conclude_host(struct http_walk *walk)
{
    const struct http_head *head = walk->head;
    if (http_span_is_absent(head->host)) {
        if (head->version_minor == 1) {
            return http_walk_fault(walk, 400, "The Host field is missing.");
        }
        return 1;
    }
    if (LIKELY(http_span_is_absent(walk->authority))) {
        return 1;
    }
    if (!slice_equal_nocase(http_span_slice(walk->base, walk->authority),
                            http_span_slice(walk->base, head->host))) {
        return http_walk_fault(walk, 400, "The Host field and the request target differ.");
    }
    return 1;
}

/* HTTP/1.0 knows no expectations (RFC 9110 §10.1.1), and without a body there is nothing to
 * continue with. */
static int conclude_expect(struct http_walk *walk)
{
    struct http_head *head = walk->head;
    if (head->version_minor == 0) {
        return 1;
    }
    if (walk->has_expect_other) {
        return http_walk_fault(walk, 417, "Of the expectations only 100-continue is known.");
    }
    head->expects_continue =
        walk->has_expect_continue && (head->is_chunked || head->content_length > 0);
    return 1;
}

int http_field_conclude(struct http_walk *walk)
{
    struct http_head *head = walk->head;
    head->is_keep_alive = !walk->has_connection_close &&
                          (head->version_minor == 1 || walk->has_connection_keep_alive);
    int result = conclude_host(walk);
    if (result < 0) {
        return result;
    }
    result = conclude_framing(walk);
    if (result < 0) {
        return result;
    }
    return conclude_expect(walk);
}
