#include "api/query_page.h"

#include <string.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/mem.h"
#include "net/websocket.h"

/* Two numbers of 20 digits, a ULID, a time, a kind and the keys between them: some 150 bytes. */
#define HEAD_BYTES_MAX 256u
#define TEXT_BYTES_MIN 4096u

void query_text_free(struct query_text *text)
{
    mem_free(text->data);
    *text = (struct query_text){0};
}

void query_text_reset(struct query_text *text)
{
    text->bytes = 0;
    if (text->capacity > QUERY_TEXT_KEPT) {
        query_text_free(text);
    }
}

static void text_reserve(struct query_text *text, size_t more)
{
    size_t needed = text->bytes + more;
    if (LIKELY(needed <= text->capacity)) {
        return;
    }
    size_t capacity = u64_max(u64_max(2 * text->capacity, needed), TEXT_BYTES_MIN);
    uint8_t *data = mem_alloc(capacity);
    if (text->bytes != 0) {
        memcpy(data, text->data, text->bytes);
    }
    mem_free(text->data);
    text->data = data;
    text->capacity = capacity;
}

void query_text_put(struct query_text *text, struct slice bytes)
{
    if (bytes.bytes == 0) {
        return;
    }
    text_reserve(text, bytes.bytes);
    memcpy(text->data + text->bytes, bytes.data, bytes.bytes);
    text->bytes += bytes.bytes;
}

static void text_put_buf(struct query_text *text, const struct buf *buf)
{
    ASSERT(!buf->is_truncated);
    query_text_put(text, (struct slice){buf->data, buf->bytes});
}

static void put_frame_header(struct query_text *text, uint64_t payload_bytes)
{
    uint8_t header[16];
    size_t bytes = websocket_text_header(header, payload_bytes);
    query_text_put(text, (struct slice){header, bytes});
}

void query_text_put_message(struct query_text *text, struct slice payload)
{
    put_frame_header(text, payload.bytes);
    query_text_put(text, payload);
}

/* ---- what stands before "record" ---- */

static void head_put_id(struct buf *head, const struct scan_record *found)
{
    char id[ULID_TEXT_BYTES];
    ulid_format(id, &found->record.id);
    buf_put_text(head, "\"id\":\"");
    buf_put(head, id, sizeof id);
    buf_put_char(head, '"');
}

static void head_put_lsn(struct buf *head, const struct scan_record *found)
{
    buf_put_text(head, "\"lsn\":");
    buf_put_u64(head, found->lsn);
}

static void head_put_received(struct buf *head, const struct scan_record *found)
{
    char time[CLOCK_RFC3339_BYTES];
    size_t bytes = clock_rfc3339(time, found->built_at_ns, 6);
    buf_put_text(head, "\"received_at\":\"");
    buf_put(head, time, bytes);
    buf_put_text(head, "\",\"record\":");
}

static void head_put_kind(struct buf *head, const struct scan_record *found)
{
    const char *kind = record_kind_name(found->record.kind);
    buf_put_text(head, "\"kind\":\"");
    buf_put_text(head, kind == NULL ? "unknown" : kind); /* written by a later version */
    buf_put_char(head, '"');
}

static void head_of_record(struct buf *head, const struct scan_record *found)
{
    buf_put_char(head, '{');
    head_put_id(head, found);
    buf_put_char(head, ',');
    head_put_lsn(head, found);
    buf_put_char(head, ',');
    head_put_received(head, found);
}

/* ---- pages ---- */

void query_page_open(struct query_text *text)
{
    query_text_put(text, SLICE_LITERAL("{\"data\":["));
}

void query_page_record(struct query_text *text, const struct scan_record *found, bool is_first)
{
    uint8_t memory[HEAD_BYTES_MAX];
    struct buf head;
    buf_init(&head, memory, sizeof memory);
    if (!is_first) {
        buf_put_char(&head, ',');
    }
    head_of_record(&head, found);
    text_reserve(text, head.bytes + found->record.payload.bytes + 1);
    text_put_buf(text, &head);
    query_text_put(text, found->record.payload);
    query_text_put(text, SLICE_LITERAL("}"));
}

void query_page_close(struct query_text *text, const struct query_page_end *end)
{
    uint8_t memory[HEAD_BYTES_MAX];
    struct buf tail;
    buf_init(&tail, memory, sizeof memory);
    buf_put_text(&tail, "],\"next_cursor\":");
    if (end->next_cursor.bytes == 0) {
        buf_put_text(&tail, "null");
    } else {
        buf_put_json_string(&tail, end->next_cursor);
    }
    buf_put_text(&tail, ",\"scanned_bytes\":");
    buf_put_u64(&tail, end->scanned_bytes);
    if (end->damaged_blocks != 0) {
        buf_put_text(&tail, ",\"damaged_blocks\":");
        buf_put_u64(&tail, end->damaged_blocks);
    }
    buf_put_char(&tail, '}');
    text_put_buf(text, &tail);
}

/* ---- lines ---- */

/* bytes at data become one line. Nearly all are one already, and memchr sees that at once. */
static void make_one_line(uint8_t *data, size_t bytes)
{
    if (memchr(data, '\n', bytes) == NULL && memchr(data, '\r', bytes) == NULL) {
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        data[i] = data[i] == '\n' || data[i] == '\r' ? ' ' : data[i];
    }
}

void query_line_record(struct query_text *text, const struct scan_record *found)
{
    uint8_t memory[HEAD_BYTES_MAX];
    struct buf head;
    buf_init(&head, memory, sizeof memory);
    head_of_record(&head, found);
    text_reserve(text, head.bytes + found->record.payload.bytes + 2);
    text_put_buf(text, &head);
    query_text_put(text, found->record.payload);
    make_one_line(text->data + text->bytes - found->record.payload.bytes,
                  found->record.payload.bytes);
    query_text_put(text, SLICE_LITERAL("}\n"));
}

void query_line_damage(struct query_text *text, uint64_t damaged_blocks)
{
    uint8_t memory[HEAD_BYTES_MAX];
    struct buf line;
    buf_init(&line, memory, sizeof memory);
    buf_put_text(&line, "{\"damaged_blocks\":");
    buf_put_u64(&line, damaged_blocks);
    buf_put_text(&line, "}\n");
    text_put_buf(text, &line);
}

/* ---- messages ---- */

void query_message_record(struct query_text *text, const struct scan_record *found)
{
    uint8_t memory[HEAD_BYTES_MAX];
    struct buf head;
    buf_init(&head, memory, sizeof memory);
    buf_put_char(&head, '{');
    head_put_lsn(&head, found);
    buf_put_char(&head, ',');
    head_put_id(&head, found);
    buf_put_char(&head, ',');
    head_put_kind(&head, found);
    buf_put_char(&head, ',');
    head_put_received(&head, found);
    uint64_t bytes = head.bytes + found->record.payload.bytes + 1;
    text_reserve(text, bytes + 16);
    put_frame_header(text, bytes);
    text_put_buf(text, &head);
    query_text_put(text, found->record.payload);
    query_text_put(text, SLICE_LITERAL("}"));
}
