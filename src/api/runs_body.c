#include "api/runs_body.h"

#include <string.h>

/* ---- what a note says ---- */

bool runs_note_is_batch(const struct runs_note *note)
{
    return note->form == RUNS_FORM_ARRAY || note->form == RUNS_FORM_OBJECT;
}

struct slice runs_note_event_id(const struct runs_note *note)
{
    return (struct slice){note->text, note->event_id_bytes};
}

static struct slice note_detail(const struct runs_note *note)
{
    return (struct slice){note->text + note->event_id_bytes, note->detail_bytes};
}

struct slice runs_note_errors(const struct runs_note *note)
{
    return (struct slice){note->text + note->event_id_bytes + note->detail_bytes,
                          note->errors_bytes};
}

/* A byte may become an escape of six; the keys, the numbers and the names of all fields are less than 4 KiB. */
size_t runs_note_room(const struct runs_note *note)
{
    size_t texts = (size_t)note->event_id_bytes + note->detail_bytes + note->errors_bytes;
    return 6 * texts + KIB(4);
}

/* The event id of a batch's command. Bound: the batch. */
static struct slice note_batch_id(const struct runs_note *note, uint32_t index)
{
    size_t at = 0;
    uint16_t bytes = 0;
    for (uint32_t i = 0;; i++) {
        ASSERT(at + sizeof bytes <= note->event_id_bytes);
        memcpy(&bytes, note->text + at, sizeof bytes);
        at += sizeof bytes;
        if (i == index) {
            return (struct slice){note->text + at, bytes};
        }
        at += bytes;
    }
}

/* ---- one command ---- */

static void put_member(struct buf *body, const char *key, struct slice value)
{
    buf_put_text(body, key);
    buf_put_json_string(body, value);
}

static void put_created(struct buf *body, const struct runs_note *note)
{
    put_member(body, "{\"status\":\"created\",\"event_id\":", runs_note_event_id(note));
    put_member(body, ",\"run_id\":", note_detail(note));
    buf_put_char(body, '}');
}

static void put_duplicate(struct buf *body, const struct runs_note *note)
{
    put_member(body, "{\"status\":\"duplicate\",\"event_id\":", runs_note_event_id(note));
    buf_put_text(body, ",\"message\":\"Event already exists (idempotent)\"}");
}

static void put_updated(struct buf *body, const struct runs_note *note)
{
    put_member(body, "{\"event_id\":", runs_note_event_id(note));
    buf_put_text(body, ",\"updated\":true,\"fields_updated\":[");
    for (unsigned i = 0; i < note->field_count; i++) {
        buf_put_text(body, i == 0 ? "\"" : ",\"");
        buf_put_text(body, run_field_name((enum run_field)note->fields[i]));
        buf_put_char(body, '"');
    }
    buf_put_text(body, "]}");
}

static void put_associated(struct buf *body, const struct runs_note *note, struct slice run_id)
{
    put_member(body, "{\"status\":\"success\",\"event_id\":", runs_note_event_id(note));
    if (run_id.data != NULL) { /* else it is not known any more */
        put_member(body, ",\"run_id\":", run_id);
    }
    put_member(body, ",\"commit_hash\":", note_detail(note));
    buf_put_char(body, '}');
}

static void put_event(struct buf *body, const struct runs_note *note)
{
    put_member(body, "{\"status\":\"created\",\"event_id\":", runs_note_event_id(note));
    put_member(body, ",\"event_type\":", note_detail(note));
    buf_put_char(body, '}');
}

void runs_body_detail(struct buf *body, struct slice text)
{
    put_member(body, "{\"detail\":", text);
    buf_put_char(body, '}');
}

void runs_body_not_found(struct buf *body, struct slice event_id)
{
    buf_put_text(body, "{\"detail\":");
    buf_put_json_string(body, SLICE_LITERAL("Run not found: "));
    body->bytes--; /* its closing quote: the id goes on */
    size_t at = body->bytes;
    buf_put_json_string(body, event_id);
    memmove(body->data + at, body->data + at + 1, body->bytes - at - 1); /* the id's opening one */
    body->bytes--;
    buf_put_char(body, '}');
}

unsigned runs_body_put(struct buf *body, const struct runs_note *note, enum runs_outcome outcome,
                       struct slice text)
{
    ASSERT(!runs_note_is_batch(note));
    switch (outcome) {
    case RUNS_CREATED:
        put_created(body, note);
        return 201;
    case RUNS_DUPLICATE:
        put_duplicate(body, note);
        return 200;
    case RUNS_UPDATED:
        put_updated(body, note);
        return 200;
    case RUNS_ASSOCIATED:
        put_associated(body, note, text);
        return 200;
    case RUNS_EVENT_ADDED:
        put_event(body, note);
        return 201;
    case RUNS_NOT_FOUND:
        runs_body_not_found(body, runs_note_event_id(note));
        return 404;
    case RUNS_NOTHING:
        runs_body_detail(body, SLICE_LITERAL("No valid fields to update"));
        return 400;
    case RUNS_REFUSED:
        runs_body_detail(body, text);
        return 400;
    }
    ASSERT(false);
    return 500;
}

/* ---- batches ---- */

unsigned runs_body_batch(struct buf *body, const struct runs_batch_sums *sums)
{
    bool is_object = sums->form == RUNS_FORM_OBJECT;
    buf_put_text(body, is_object ? "{\"status\":\"created\",\"inserted\":" : "{\"inserted\":");
    buf_put_u64(body, sums->inserted);
    buf_put_text(body, ",\"duplicates\":");
    buf_put_u64(body, sums->duplicates);
    buf_put_text(body, ",\"errors\":[");
    buf_put_slice(body, sums->errors);
    buf_put_text(body, sums->errors.bytes != 0 && sums->more.bytes != 0 ? "," : "");
    buf_put_slice(body, sums->more);
    buf_put_text(body, "],\"total\":");
    buf_put_u64(body, sums->total);
    buf_put_char(body, '}');
    return is_object ? 201 : 200;
}

void runs_body_refusal(struct buf *elements, const struct runs_note *note, uint32_t index,
                       struct slice text)
{
    uint8_t memory[RUN_EVENT_ID_BYTES_MAX + RUNS_RESULT_TEXT_MAX + 2];
    size_t before = elements->bytes;
    struct buf whole;
    buf_init(&whole, memory, sizeof memory);
    buf_put_slice(&whole, note_batch_id(note, index));
    buf_put_text(&whole, ": ");
    buf_put_slice(&whole, text);
    buf_put_text(elements, before == 0 ? "" : ",");
    buf_put_json_string(elements, (struct slice){whole.data, whole.bytes});
    if (elements->is_truncated) {
        elements->bytes = before;
        elements->is_truncated = false;
    }
}
