/*
 * judge: see judge.h and protocol.h. Pure; never fails.
 */
#include "forward/judge.h"

#include <stdio.h>
#include <string.h>

enum {
    TEXT_BYTES_MAX = 1024, /* of an escaped text that is looked at; reasons are shorter */
    PAGE_BYTES_MAX = 4096, /* of a page that is searched for its title */
};

/* ---- text for people ---- */

/* Bytes of the well-formed UTF-8 sequence at p that can be shown; 0: none. C1 controls (c2 80 to c2 9f) cannot. */
static size_t shown_sequence(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    size_t bytes = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || left < bytes) {
        return 0;
    }
    uint8_t least = lead == 0xc2 || lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    uint8_t most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < least || p[1] > most) {
        return 0;
    }
    for (size_t i = 2; i < bytes; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

static bool is_line_end(uint8_t c)
{
    return c == '\n' || c == '\r' || c == '\0';
}

void judge_text(char *out, size_t room, struct slice text)
{
    size_t at = 0;
    size_t bytes = 0;
    while (at < text.bytes && (text.data[at] <= ' ')) {
        at++;
    }
    /* Each turn goes at least one byte on. */
    while (at < text.bytes && !is_line_end(text.data[at])) {
        uint8_t c = text.data[at];
        bool is_plain = c >= ' ' && c < 0x7f;
        size_t sequence = is_plain    ? 1
                          : c >= 0x80 ? shown_sequence(text.data + at, text.bytes - at)
                                      : 0;
        size_t taken = sequence == 0 ? 1 : sequence;
        if (bytes + taken >= room) {
            break;
        }
        if (sequence == 0) {
            out[bytes] = c == '\t' ? ' ' : '?';
        } else {
            memcpy(out + bytes, text.data + at, sequence);
        }
        bytes += taken;
        at += taken;
    }
    while (bytes > 0 && out[bytes - 1] == ' ') {
        bytes--;
    }
    out[bytes] = '\0';
}

void judge_json_text(char *out, size_t room, struct slice raw)
{
    uint8_t text[TEXT_BYTES_MAX];
    size_t bytes = json_unescape(raw, text, sizeof(text));
    judge_text(out, room, (struct slice){text, u64_min(bytes, sizeof(text))});
}

/* ---- what of a body is worth reading ---- */

static bool string_value(struct answer_reader *reader, char *out, size_t room)
{
    struct json_value value;
    if (!answer_reader_value(reader, &value) || value.kind != JSON_STRING) {
        return false;
    }
    judge_json_text(out, room, answer_reader_raw(reader, &value));
    return out[0] != '\0';
}

bool judge_error_value(struct answer_reader *reader, char *out, size_t room)
{
    out[0] = '\0';
    if (!answer_reader_enter(reader, '{')) {
        return string_value(reader, out, room);
    }
    char type[128] = "";
    char reason[FORWARD_REASON_BYTES] = "";
    struct slice key;
    /* Each turn passes a member of the answer. */
    while (answer_reader_member(reader, &key)) {
        struct json_value ignored;
        if (answer_reader_is(key, "type")) {
            (void)string_value(reader, type, sizeof(type));
        } else if (answer_reader_is(key, "reason") || answer_reader_is(key, "message") ||
                   answer_reader_is(key, "msg")) {
            (void)string_value(reader, reason, sizeof(reason));
        } else {
            (void)answer_reader_value(reader, &ignored);
        }
    }
    const char *between = type[0] != '\0' && reason[0] != '\0' ? ": " : "";
    char joined[sizeof(type) + sizeof(reason) + 2];
    int bytes = snprintf(joined, sizeof(joined), "%s%s%s", type, between, reason);
    judge_text(out, room, (struct slice){(const uint8_t *)joined, (size_t)bytes});
    return out[0] != '\0';
}

/* FastAPI's "detail": a text, or an array of objects with "msg": its first. */
static bool detail_value(struct answer_reader *reader, char *out, size_t room)
{
    bool is_found = false;
    if (!answer_reader_enter(reader, '[')) {
        return judge_error_value(reader, out, room);
    }
    if (answer_reader_element(reader)) {
        is_found = judge_error_value(reader, out, room);
    }
    reader->is_bad = true; /* What was asked is known, or cannot be: the rest is not read. */
    return is_found;
}

static bool object_reason(struct slice body, char *out, size_t room)
{
    static const char *const keys[] = {"detail", "message", "Message", "error", "reason"};
    struct answer_reader reader;
    struct slice key;
    bool is_found = false;
    answer_reader_open(&reader, body);
    if (!answer_reader_enter(&reader, '{')) {
        return false;
    }
    /* Each turn passes a member of the answer. */
    while (!is_found && answer_reader_member(&reader, &key)) {
        bool is_reason = false;
        for (size_t i = 0; i < ARRAY_COUNT(keys); i++) {
            is_reason = is_reason || answer_reader_is(key, keys[i]);
        }
        struct json_value ignored;
        if (is_reason) {
            is_found = detail_value(&reader, out, room);
        } else {
            (void)answer_reader_value(&reader, &ignored);
        }
    }
    return is_found;
}

/* Proxies answer with a page whose first line says nothing. */
static bool page_reason(struct slice body, char *out, size_t room)
{
    static const char open[] = "<title>";
    size_t bytes = u64_min(body.bytes, PAGE_BYTES_MAX);
    const uint8_t *title = memmem(body.data, bytes, open, sizeof(open) - 1);
    if (body.data[0] != '<' || title == NULL) {
        return false;
    }
    const uint8_t *from = title + sizeof(open) - 1;
    size_t left = bytes - (size_t)(from - body.data);
    const uint8_t *end = memchr(from, '<', left);
    judge_text(out, room, (struct slice){from, end == NULL ? left : (size_t)(end - from)});
    return out[0] != '\0';
}

void judge_reason(char *out, size_t room, struct slice body)
{
    ASSERT(room > 0);
    out[0] = '\0';
    if (body.bytes > 0 && !object_reason(body, out, room) && !page_reason(body, out, room)) {
        judge_text(out, room, body);
    }
}

/* ---- verdicts ---- */

void judge_because(const struct upstream_answer *answer, enum verdict verdict, const char *reason,
                   struct judgement *judgement)
{
    judgement->verdict = verdict;
    judgement->status = answer->status;
    judgement->retry_after_ns = answer->retry_after_ns;
    judge_reason(judgement->reason, sizeof(judgement->reason), answer->body);
    if (judgement->reason[0] == '\0') {
        judge_text(judgement->reason, sizeof(judgement->reason),
                   (struct slice){(const uint8_t *)reason, strlen(reason)});
    }
}

void judge_as(const struct upstream_answer *answer, enum verdict verdict,
              struct judgement *judgement)
{
    char reason[32];
    (void)snprintf(reason, sizeof(reason), "HTTP %d", answer->status);
    judge_because(answer, verdict, reason, judgement);
}

void judge_refuse_item(struct judgement *judgement, uint32_t index, const char *reason)
{
    judgement->items[index] = ITEM_REFUSED;
    if (judgement->item_reasons == NULL || judgement->item_reason_count == ITEM_REASONS_MAX) {
        return;
    }
    char *to = judgement->item_reasons[judgement->item_reason_count++];
    judge_text(to, sizeof(judgement->item_reasons[0]),
               (struct slice){(const uint8_t *)reason, strlen(reason)});
}

static void judge_fault(const struct upstream_answer *answer, struct judgement *judgement)
{
    judgement->verdict = answer->fault == TRANSPORT_TLS ? VERDICT_PAUSE : VERDICT_RETRY;
    judgement->status = answer->status;
    judgement->retry_after_ns = answer->retry_after_ns;
    memcpy(judgement->reason, answer->fault_text, sizeof(judgement->reason));
    judgement->reason[sizeof(judgement->reason) - 1] = '\0';
}

static enum verdict verdict_of_status(int status)
{
    switch (status) {
    case 401: /* who we are */
    case 403:
    case 404: /* where we send */
    case 405:
    case 407:
        return VERDICT_PAUSE;
    case 408:
    case 425:
    case 429:
        return VERDICT_RETRY;
    default:
        break;
    }
    if (status >= 200 && status < 300) {
        return VERDICT_DONE;
    }
    if (status >= 300 && status < 400) {
        return VERDICT_PAUSE;
    }
    return status >= 400 && status < 500 ? VERDICT_REFUSED : VERDICT_RETRY;
}

void judge_by_status(const struct upstream_answer *answer, struct judgement *judgement)
{
    if (answer->fault != TRANSPORT_OK) {
        judge_fault(answer, judgement);
        return;
    }
    enum verdict verdict = verdict_of_status(answer->status);
    judge_as(answer, verdict, judgement);
    if (verdict == VERDICT_DONE) {
        judgement->reason[0] = '\0'; /* Nothing is wrong. */
    }
}
