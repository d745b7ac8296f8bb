#include "api/answer.h"

#include <string.h>

struct http_answer answer_detail(struct buf *body, unsigned status, const char *text,
                                 struct slice extra)
{
    buf_reset(body);
    buf_put_text(body, "{\"detail\":");
    buf_put_json_string(body, (struct slice){(const uint8_t *)text, strlen(text)});
    buf_put_char(body, '}');
    return (struct http_answer){
        .status = status,
        .content_type = ANSWER_JSON,
        .extra = extra,
        .body = {body->data, body->bytes},
    };
}

#define OBJECT_HEAD_A "HTTP/1.1 202 Accepted\r\n"
#define OBJECT_HEAD_B                                                                              \
    "Content-Type: application/json\r\n"                                                           \
    "X-Sluice-Ack: durable\r\n"                                                                    \
    "Content-Length: "
#define OBJECT_BODY_A "{\"status\":\"accepted\",\"id\":\""
#define OBJECT_BODY_B "\",\"lsn\":"

#define LITERAL_BYTES(text) (sizeof(text) - 1)

static uint8_t *put(uint8_t *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return to + bytes;
}

size_t answer_object_raw(uint8_t *to, struct slice date_line, const struct ulid *id, uint64_t lsn)
{
    char digits[20];
    size_t digit_count = u64_format(digits, lsn);
    size_t body_bytes = LITERAL_BYTES(OBJECT_BODY_A) + ULID_TEXT_BYTES +
                        LITERAL_BYTES(OBJECT_BODY_B) + digit_count + 1;
    /* Two digits always: 62 bytes of fixed text and 1 to 20 digits. */
    ASSERT(body_bytes >= 10 && body_bytes <= 99);

    uint8_t *at = put(to, OBJECT_HEAD_A, LITERAL_BYTES(OBJECT_HEAD_A));
    at = put(at, date_line.data, date_line.bytes);
    at = put(at, OBJECT_HEAD_B, LITERAL_BYTES(OBJECT_HEAD_B));
    *at++ = (uint8_t)('0' + body_bytes / 10);
    *at++ = (uint8_t)('0' + body_bytes % 10);
    at = put(at, "\r\n\r\n", 4);
    at = put(at, OBJECT_BODY_A, LITERAL_BYTES(OBJECT_BODY_A));
    ulid_format((char *)at, id);
    at += ULID_TEXT_BYTES;
    at = put(at, OBJECT_BODY_B, LITERAL_BYTES(OBJECT_BODY_B));
    at = put(at, digits, digit_count);
    *at++ = '}';
    return (size_t)(at - to);
}

void answer_object_body(struct buf *body, const struct ulid *id, uint64_t lsn)
{
    char text[ULID_TEXT_BYTES];
    ulid_format(text, id);
    buf_put_text(body, OBJECT_BODY_A);
    buf_put(body, text, sizeof text);
    buf_put_text(body, OBJECT_BODY_B);
    if (lsn == 0) {
        buf_put_text(body, "null");
    } else {
        buf_put_u64(body, lsn);
    }
    buf_put_char(body, '}');
}

static void put_lsn(struct buf *body, const char *name, uint64_t lsn)
{
    buf_put_text(body, name);
    if (lsn == 0) {
        buf_put_text(body, "null");
    } else {
        buf_put_u64(body, lsn);
    }
}

void answer_replica_body(struct buf *body, const struct answer_list *list)
{
    buf_put_text(body, "{\"status\":\"accepted\",\"accepted\":");
    buf_put_u64(body, list->accepted);
    buf_put_text(body, ",\"duplicates\":");
    buf_put_u64(body, list->duplicates);
    buf_put_text(body, ",\"rejected\":");
    buf_put_u64(body, list->rejected);
    put_lsn(body, ",\"first_lsn\":", list->first_lsn);
    put_lsn(body, ",\"last_lsn\":", list->last_lsn);
    buf_put_text(body, ",\"errors\":");
    buf_put_slice(body, list->errors.bytes == 0 ? SLICE_LITERAL("[]") : list->errors);
    buf_put_char(body, '}');
}

void answer_list_body(struct buf *body, const struct answer_list *list)
{
    buf_put_text(body, "{\"status\":\"accepted\",\"accepted\":");
    buf_put_u64(body, list->accepted);
    buf_put_text(body, ",\"rejected\":");
    buf_put_u64(body, list->rejected);
    if (list->duplicates != 0) {
        buf_put_text(body, ",\"duplicates\":");
        buf_put_u64(body, list->duplicates);
    }
    put_lsn(body, ",\"first_lsn\":", list->first_lsn);
    put_lsn(body, ",\"last_lsn\":", list->last_lsn);
    buf_put_text(body, ",\"errors\":");
    if (list->errors.bytes == 0) {
        buf_put_text(body, "[]");
    } else {
        buf_put_slice(body, list->errors);
    }
    buf_put_char(body, '}');
}
