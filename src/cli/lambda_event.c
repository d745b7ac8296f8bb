#include "cli/lambda_event.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "forward/answer_reader.h"
#include "forward/body.h"
#include "net/content_decode.h"

struct lambda_event_reader {
    struct answer_reader json; /* large */
    struct body text;          /* the string's escapes undone, and base64 */
    struct body decoded;
    struct content_decoder *decoder;
};

struct lambda_event_reader *lambda_event_reader_new(void)
{
    struct lambda_event_reader *reader = mem_alloc(sizeof *reader);
    body_init(&reader->text, LAMBDA_BODY_BYTES_MAX);
    body_init(&reader->decoded, LAMBDA_BODY_BYTES_MAX);
    reader->decoder = content_decoder_new();
    return reader;
}

void lambda_event_reader_free(struct lambda_event_reader *reader)
{
    if (reader != NULL) {
        body_free(&reader->text);
        body_free(&reader->decoded);
        content_decoder_free(reader->decoder);
        mem_free(reader);
    }
}

/* ---- the event's members ---- */

struct members {
    struct slice body; /* between its quotes; data NULL: none */
    bool is_base64;
    bool is_batch; /* it has lists of records itself */
    enum http_coding coding;
};

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void take_header(struct slice name, struct slice value, struct members *members,
                        struct lambda_event *event)
{
    if (slice_equal_nocase(name, text_slice("idempotency-key"))) {
        (void)snprintf(event->key, sizeof event->key, "%.*s",
                       (int)u64_min(value.bytes, sizeof event->key - 1), (const char *)value.data);
    } else if (slice_equal_nocase(name, text_slice("content-encoding"))) {
        members->coding = slice_equal_nocase(value, text_slice("gzip"))   ? HTTP_CODING_GZIP
                          : slice_equal_nocase(value, text_slice("zstd")) ? HTTP_CODING_ZSTD
                          : slice_equal_nocase(value, text_slice("identity")) || value.bytes == 0
                              ? HTTP_CODING_IDENTITY
                              : HTTP_CODING_UNKNOWN;
    }
}

static void take_headers(struct answer_reader *json, struct members *members,
                         struct lambda_event *event)
{
    struct slice name;
    struct json_value value;
    while (answer_reader_member(json, &name) && answer_reader_value(json, &value)) {
        if (value.kind == JSON_STRING) {
            take_header(name, answer_reader_raw(json, &value), members, event);
        }
    }
}

static void take_member(struct answer_reader *json, struct slice key, struct members *members)
{
    struct json_value value;
    if (!answer_reader_value(json, &value)) {
        return;
    }
    if (answer_reader_is(key, "body") && value.kind == JSON_STRING) {
        members->body = answer_reader_raw(json, &value);
    } else if (answer_reader_is(key, "isBase64Encoded")) {
        members->is_base64 = value.kind == JSON_TRUE;
    } else if (answer_reader_is(key, "batch_id") || answer_reader_is(key, "logs") ||
               answer_reader_is(key, "metrics") || answer_reader_is(key, "events")) {
        members->is_batch = true;
    }
}

static bool read_members(struct answer_reader *json, struct members *members,
                         struct lambda_event *event)
{
    struct slice key;
    if (!answer_reader_enter(json, '{')) {
        return false;
    }
    while (answer_reader_member(json, &key)) { /* each turn is a member on */
        if (answer_reader_is(key, "headers") && answer_reader_enter(json, '{')) {
            take_headers(json, members, event);
        } else {
            take_member(json, key, members);
        }
    }
    return answer_reader_ended(json);
}

/* ---- decoding ---- */

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 §4, in place: what comes out is shorter. */
static bool base64_decode(struct body *text)
{
    size_t bytes = text->bytes;
    size_t out = 0;
    uint32_t bits = 0;
    unsigned held = 0;
    while (bytes > 0 && text->data[bytes - 1] == '=' && text->bytes - bytes < 2) {
        bytes--;
    }
    if (text->bytes % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        int digit = base64_digit(text->data[i]);
        if (digit < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            text->data[out++] = (uint8_t)(bits >> held);
        }
    }
    text->bytes = out;
    return true;
}

static uint8_t *on_grow(void *context, uint8_t *old, size_t used, size_t at_least, size_t *capacity)
{
    struct body *decoded = context;
    (void)old;
    decoded->bytes = used;
    uint8_t *room = body_room(decoded, at_least - used);
    *capacity = decoded->capacity;
    return room == NULL ? NULL : decoded->data;
}

static int decompress(struct lambda_event_reader *reader, enum http_coding coding,
                      struct slice *body, struct err *err)
{
    struct http_fault fault = {0, NULL};
    struct content_output out = {
        .bytes_max = LAMBDA_BODY_BYTES_MAX, .grow = on_grow, .context = &reader->decoded};
    body_reset(&reader->decoded);
    if (coding == HTTP_CODING_UNKNOWN) {
        (void)err_set(err, ERR_UNSUPPORTED, "content-encoding must be gzip or zstd");
        return 415;
    }
    if (content_decode(reader->decoder, coding, *body, &out, &fault) < 0) {
        (void)err_set(err, ERR_SYNTAX, "%s", fault.text);
        return fault.status;
    }
    *body = (struct slice){out.data, out.bytes};
    return 0;
}

int lambda_event_read(struct lambda_event_reader *reader, struct slice json,
                      struct lambda_event *event, struct err *err)
{
    struct members members = {.coding = HTTP_CODING_IDENTITY};
    *event = (struct lambda_event){.body = json};
    answer_reader_open(&reader->json, json);
    if (!read_members(&reader->json, &members, event)) {
        (void)err_set(err, ERR_SYNTAX, "the event is no JSON object");
        return 400;
    }
    if (members.body.data == NULL) {
        (void)err_set(err, ERR_SYNTAX, "the event has no body");
        return members.is_batch ? 0 : 400;
    }
    body_reset(&reader->text);
    uint8_t *room = body_room(&reader->text, members.body.bytes + 1);
    if (room == NULL) {
        (void)err_set(err, ERR_LIMIT, "the body is too large");
        return 413;
    }
    body_add(&reader->text, json_unescape(members.body, room, members.body.bytes));
    if (members.is_base64 && !base64_decode(&reader->text)) {
        (void)err_set(err, ERR_SYNTAX, "the body is no base64");
        return 400;
    }
    event->body = (struct slice){reader->text.data, reader->text.bytes};
    return members.coding == HTTP_CODING_IDENTITY
               ? 0
               : decompress(reader, members.coding, &event->body, err);
}
