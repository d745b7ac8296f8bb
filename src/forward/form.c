/*
 * form: see form.h. Pure; never fails but by body->is_over. Every record passes here on its way to most sinks: one
 * piece of room is asked for and filled without a formatted print.
 */
#include "forward/form.h"

#include <stdio.h>
#include <string.h>

#include "core/buf.h"

enum {
    /* All of the meta form but the payload: 7 + 26 + 8 + 20 + 10 + 7 + 17 + 27 + 11 + 1, rounded up. */
    META_BYTES_MAX = 192,
    /* {"batch_id":...,"source":...,"sent_at":...,"logs":[ without the values, and the lists of the other kinds. */
    OBJECT_WORDS_MAX = 256,
    JSON_BYTES_MAX = 6, /* of one byte of a text, as an escape */
};

const char *form_kind_name(enum record_kind kind)
{
    const char *name = record_kind_name(kind);
    return name == NULL ? "unknown" : name;
}

struct slice form_received_at(struct encoder *encoder, int64_t received_at_ns)
{
    struct encoder_time *time = &encoder->received;
    if (UNLIKELY(time->bytes == 0 || time->ns != received_at_ns)) {
        time->bytes = clock_rfc3339(time->text, received_at_ns, 6);
        time->ns = received_at_ns;
    }
    return (struct slice){(const uint8_t *)time->text, time->bytes};
}

/* ---- one record ---- */

/* Line breaks of the payload at at[0, bytes) become spaces. Nearly all records have none. */
static void flatten(uint8_t *at, size_t bytes, uint8_t line_break)
{
    uint8_t *end = at + bytes;
    uint8_t *found = memchr(at, line_break, bytes);
    /* Each turn goes at least one byte on. */
    while (UNLIKELY(found != NULL)) {
        *found = ' ';
        found = memchr(found + 1, line_break, (size_t)(end - found - 1));
    }
}

uint8_t *form_copy_payload(uint8_t *at, struct slice payload, enum form_lines lines)
{
    if (payload.bytes == 0) {
        return at;
    }
    memcpy(at, payload.data, payload.bytes);
    if (lines == FORM_ONE_LINE) {
        flatten(at, payload.bytes, '\n');
        flatten(at, payload.bytes, '\r');
    }
    return at + payload.bytes;
}

void form_put_payload(struct body *to, struct slice payload, enum form_lines lines)
{
    uint8_t *at = body_room(to, payload.bytes);
    if (at != NULL) {
        form_copy_payload(at, payload, lines);
        body_add(to, payload.bytes);
    }
}

void form_put_meta(struct encoder *encoder, struct body *to, const struct forward_record *record,
                   enum form_lines lines)
{
    struct slice payload = record->record.payload;
    uint8_t *start = body_room(to, META_BYTES_MAX + payload.bytes);
    if (UNLIKELY(start == NULL)) {
        return;
    }
    const char *kind = form_kind_name(record->record.kind);
    struct slice received_at = form_received_at(encoder, record->received_at_ns);
    uint8_t *at = FORM_COPY_WORD(start, "{\"id\":\"");
    ulid_format((char *)at, &record->record.id);
    at = FORM_COPY_WORD(at + ULID_TEXT_BYTES, "\",\"lsn\":");
    at += u64_format((char *)at, record->lsn);
    at = FORM_COPY_WORD(at, ",\"kind\":\"");
    at = form_copy(at, kind, strlen(kind));
    at = FORM_COPY_WORD(at, "\",\"received_at\":\"");
    at = form_copy(at, received_at.data, received_at.bytes);
    at = FORM_COPY_WORD(at, "\",\"record\":");
    ASSERT((size_t)(at - start) < META_BYTES_MAX);
    at = form_copy_payload(at, payload, lines);
    *at++ = '}';
    body_add(to, (size_t)(at - start));
}

static void put_record(struct encoder *encoder, struct body *to,
                       const struct forward_record *record, enum form_lines lines)
{
    if (encoder->sink->record == SINK_RECORD_META) {
        form_put_meta(encoder, to, record, lines);
    } else {
        form_put_payload(to, record->record.payload, lines);
    }
}

/* ---- format object: logs go to body, the others into side until end knows which list they are for ---- */

/* Before each record in side. */
struct side_head {
    uint32_t bytes;
    uint32_t kind;
};

static void object_begin(struct encoder *encoder)
{
    size_t source_bytes = strlen(encoder->sink->source);
    encoder->end_bytes =
        (uint32_t)(OBJECT_WORDS_MAX + JSON_BYTES_MAX * (FORWARD_KEY_BYTES + source_bytes));
}

static void side_add(struct encoder *encoder, const struct forward_record *record)
{
    struct body *side = &encoder->side;
    struct side_head head = {0, (uint32_t)record->record.kind};
    size_t head_at = side->bytes;
    body_put(side, &head, sizeof(head));
    put_record(encoder, side, record, FORM_EXACT);
    if (!side->is_over) {
        head.bytes = (uint32_t)(side->bytes - head_at - sizeof(head));
        memcpy(side->data + head_at, &head, sizeof(head));
    }
}

static int object_add(struct encoder *encoder, const struct forward_record *record, struct err *err)
{
    if (record_kind_name(record->record.kind) == NULL) {
        return err_set(err, ERR_UNSUPPORTED, "no list of format object is for records of kind %d",
                       (int)record->record.kind);
    }
    if (record->record.kind != RECORD_LOG) {
        side_add(encoder, record);
        return 0;
    }
    if (encoder->body.bytes > 0) {
        body_put(&encoder->body, ",", 1);
    }
    put_record(encoder, &encoder->body, record, FORM_EXACT);
    return 0;
}

/* The records of one kind in side, with commas between them. Returns how many there are. */
static uint32_t side_put(const struct body *side, struct body *to, enum record_kind kind)
{
    uint32_t count = 0;
    /* Each turn passes a record. */
    for (size_t at = 0; at < side->bytes;) {
        struct side_head head;
        memcpy(&head, side->data + at, sizeof(head));
        at += sizeof(head);
        if (head.kind == (uint32_t)kind) {
            body_put(to, ",", count > 0);
            body_put(to, side->data + at, head.bytes);
            count++;
        }
        at += head.bytes;
    }
    return count;
}

static void object_put_list(struct encoder *encoder, const char *name, enum record_kind kind)
{
    size_t before = encoder->body.bytes;
    bool is_always_there = kind == RECORD_METRIC;
    body_put_text(&encoder->body, ",\"");
    body_put_text(&encoder->body, name);
    body_put_text(&encoder->body, "\":[");
    uint32_t count = side_put(&encoder->side, &encoder->body, kind);
    if (count == 0 && !is_always_there) {
        body_cut(&encoder->body, before);
    } else {
        body_put(&encoder->body, "]", 1);
    }
}

/* What stands before the logs is known only now: the key came with end. */
static void object_put_front(struct encoder *encoder)
{
    uint8_t memory[OBJECT_WORDS_MAX + JSON_BYTES_MAX * (FORWARD_KEY_BYTES + CONFIG_SINK_TEXT)];
    char sent_at[CLOCK_RFC3339_BYTES];
    struct buf front;
    buf_init(&front, memory, sizeof(memory));
    (void)clock_rfc3339(sent_at, encoder->frozen_at_ns, 6);
    const char *source = encoder->sink->source;
    buf_put_text(&front, "{\"batch_id\":");
    buf_put_json_string(&front,
                        (struct slice){(const uint8_t *)encoder->key, strlen(encoder->key)});
    buf_put_text(&front, ",\"source\":");
    buf_put_json_string(&front, (struct slice){(const uint8_t *)source, strlen(source)});
    buf_put_text(&front, ",\"sent_at\":\"");
    buf_put_text(&front, sent_at);
    buf_put_text(&front, "\",\"logs\":[");
    ASSERT(!front.is_truncated);
    struct body *body = &encoder->body;
    size_t logs_bytes = body->bytes;
    uint8_t *room = body_room(body, front.bytes);
    ASSERT(room != NULL);
    memmove(body->data + front.bytes, body->data, logs_bytes);
    memcpy(body->data, front.data, front.bytes);
    body_add(body, front.bytes);
}

static void object_end(struct encoder *encoder)
{
    object_put_front(encoder);
    body_put(&encoder->body, "]", 1);
    object_put_list(encoder, "metrics", RECORD_METRIC);
    object_put_list(encoder, "events", RECORD_EVENT);
    object_put_list(encoder, "runs", RECORD_RUN);
    object_put_list(encoder, "gpu", RECORD_GPU);
    body_put(&encoder->body, "}", 1);
}

/* ---- the three formats ---- */

void form_encoding(const struct config_sink *sink, const char *name, char *out)
{
    static const char *const formats[] = {
        [SINK_NDJSON] = "ndjson", [SINK_ARRAY] = "array", [SINK_OBJECT] = "object"};
    ASSERT((size_t)sink->format < ARRAY_COUNT(formats));
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "%s/%s/%s/1", name, formats[sink->format],
                   sink->record == SINK_RECORD_META ? "meta" : "raw");
}

const char *form_content_type(const struct config_sink *sink)
{
    return sink->format == SINK_NDJSON ? "application/x-ndjson" : "application/json";
}

void form_begin(struct encoder *encoder)
{
    if (encoder->sink->format == SINK_OBJECT) {
        object_begin(encoder);
    }
}

int form_add(struct encoder *encoder, const struct forward_record *record, struct err *err)
{
    struct body *body = &encoder->body;
    switch (encoder->sink->format) {
    case SINK_NDJSON:
        put_record(encoder, body, record, FORM_ONE_LINE);
        body_put(body, "\n", 1);
        break;
    case SINK_ARRAY:
        body_put(body, body->bytes == 0 ? "[" : ",", 1);
        put_record(encoder, body, record, FORM_EXACT);
        break;
    case SINK_OBJECT:
        return object_add(encoder, record, err);
    }
    return 0;
}

void form_end(struct encoder *encoder)
{
    switch (encoder->sink->format) {
    case SINK_NDJSON:
        break;
    case SINK_ARRAY:
        body_put_text(&encoder->body, encoder->body.bytes == 0 ? "[]" : "]");
        break;
    case SINK_OBJECT:
        object_end(encoder);
        break;
    }
}
