/*
 * protocol sluice: another Sluice, POST {url}/v1/replicate, exactly once by (node, LSN) on the other side. Pure.
 *
 * The body is NDJSON of the lines of model/envelope.h. A record's payload arrives as the client sent it but for line breaks
 * between its tokens, which a line cannot have: they become spaces, so the meaning is exact, the bytes of such a
 * record are not. A record that came from another Sluice says where it was first, and which nodes it passed.
 *
 * Sluice-Range claims LSNs that are not in the request, and the other side will take none of them later: so it is sent only
 * where the request is known to hold every record of those kinds (covered_kinds), and speaks for those kinds
 * (Sluice-Kinds): another sink may send the other kinds to the same place.
 */
#include <stdio.h>
#include <string.h>

#include "forward/form.h"
#include "forward/judge.h"
#include "forward/protocol_table.h"
#include "forward/target_url.h"

static void sluice_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "sluice/replicate/2");
}

static void sluice_begin(struct encoder *encoder)
{
    encoder->end_bytes = 0;
}

enum {
    /* A line without its payload: the names, four numbers of 20 bytes, a time of 27, two ULIDs, and one for each node that it
     * passed. */
    LINE_BYTES_MAX = 384 + (FIRST_VIA_MAX + 1) * (ULID_TEXT_BYTES + 3),
};

static uint8_t *put_ulid(uint8_t *at, const struct ulid *ulid)
{
    *at = '"';
    ulid_format((char *)at + 1, ulid);
    at[1 + ULID_TEXT_BYTES] = '"';
    return at + ULID_TEXT_BYTES + 2;
}

static uint8_t *put_i64(uint8_t *at, int64_t number)
{
    if (number < 0) {
        *at++ = '-';
    }
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    return at + u64_format((char *)at, size);
}

/* ,"origin":{"node":...,"lsn":...,"via":[...]}: the first node, and those between it and us. */
static uint8_t *put_origin(uint8_t *at, const struct record *record)
{
    struct origin origin;
    struct first_origin first;
    if (record->meta.bytes == 0 || meta_find_origin(&origin, record->meta) != 1) {
        return at;
    }
    bool is_passed = meta_find_first(&first, record->meta) == 1;
    at = FORM_COPY_WORD(at, ",\"origin\":{\"node\":");
    at = put_ulid(at, is_passed ? &first.node : &origin.node);
    at = FORM_COPY_WORD(at, ",\"lsn\":");
    at += u64_format((char *)at, is_passed ? first.lsn : origin.lsn);
    if (is_passed) {
        at = FORM_COPY_WORD(at, ",\"via\":[");
        for (unsigned i = 0; i < first.via_count; i++) {
            at = put_ulid(at, &first.via[i]);
            *at++ = ',';
        }
        at = put_ulid(at, &origin.node);
        *at++ = ']';
    }
    *at++ = '}';
    return at;
}

static void put_line(struct encoder *encoder, const struct forward_record *record)
{
    struct slice payload = record->record.payload;
    uint8_t *start = body_room(&encoder->body, LINE_BYTES_MAX + payload.bytes);
    if (UNLIKELY(start == NULL)) {
        return;
    }
    const char *kind = form_kind_name(record->record.kind);
    struct slice received_at = form_received_at(encoder, record->received_at_ns);
    uint8_t *at = FORM_COPY_WORD(start, "{\"id\":");
    at = put_ulid(at, &record->record.id);
    at = FORM_COPY_WORD(at, ",\"lsn\":");
    at += u64_format((char *)at, record->lsn);
    at = FORM_COPY_WORD(at, ",\"kind\":\"");
    at = form_copy(at, kind, strlen(kind));
    at = FORM_COPY_WORD(at, "\",\"received_at\":\"");
    at = form_copy(at, received_at.data, received_at.bytes);
    at = FORM_COPY_WORD(at, "\",\"event_time\":");
    at = put_i64(at, record->record.event_time_ns);
    if (record->record.severity != SEVERITY_NONE) {
        at = FORM_COPY_WORD(at, ",\"severity\":");
        at += u64_format((char *)at, record->record.severity);
    }
    at = put_origin(at, &record->record);
    at = FORM_COPY_WORD(at, ",\"record\":");
    ASSERT((size_t)(at - start) < LINE_BYTES_MAX - 2);
    at = form_copy_payload(at, payload, FORM_ONE_LINE);
    at = FORM_COPY_WORD(at, "}\n");
    body_add(&encoder->body, (size_t)(at - start));
}

static int sluice_add(struct encoder *encoder, const struct forward_record *record, struct err *err)
{
    (void)err;
    put_line(encoder, record);
    return 0;
}

static void sluice_end(struct encoder *encoder)
{
    (void)encoder;
}

static void sluice_url(const struct encoder *encoder, char *out)
{
    struct buf url;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    target_url_put(&url, encoder->sink->url, "/v1/replicate");
    out[url.is_truncated ? 0 : url.bytes] = '\0';
}

/* The names of kinds, with commas; bits without a name are not claimed. False: all kinds, whatever they are called. */
static bool kinds_text(char *out, size_t room, uint32_t kinds)
{
    struct buf text;
    buf_init(&text, (uint8_t *)out, room - 1);
    for (unsigned kind = 0; kind <= RECORD_KIND_MAX; kind++) {
        const char *name = record_kind_name((enum record_kind)kind);
        if (name != NULL && (kinds & 1u << kind) != 0) {
            buf_put_text(&text, text.bytes == 0 ? "" : ",");
            buf_put_text(&text, name);
        }
    }
    ASSERT(!text.is_truncated);
    out[text.bytes] = '\0';
    return kinds != UINT32_MAX && kinds != 0;
}

static void sluice_headers(const struct encoder *encoder, char *out)
{
    char node[ULID_TEXT_BYTES];
    char kinds[128];
    char *at = out;
    uint32_t covered = encoder->covered_kinds;
    ulid_format(node, &encoder->node);
    at += snprintf(at, 64, "Sluice-Node: %.26s", node) + 1;
    if (covered != 0) {
        at += snprintf(at, 64, "Sluice-Range: %llu-%llu", (unsigned long long)encoder->first_lsn,
                       (unsigned long long)encoder->last_lsn) +
              1;
    }
    if (kinds_text(kinds, sizeof kinds, covered != 0 ? covered : encoder->sink->kinds)) {
        at += snprintf(at, 256, "Sluice-Kinds: %s", kinds) + 1;
    }
    *at = '\0'; /* The empty one that ends. */
}

/* ---- the answer: {"status":"accepted","accepted":n,"duplicates":m,"rejected":k,"errors":[{"index":i,"detail":...}]} ---- */

struct replicate_answer {
    uint64_t accepted, duplicates, rejected;
    unsigned seen;   /* which of the three were there */
    uint32_t listed; /* errors that were read */
    uint64_t next;   /* the least index that may come next */
};

static bool number_take(struct answer_reader *reader, uint64_t *number)
{
    struct json_value value;
    return answer_reader_value(reader, &value) && answer_reader_u64(reader, &value, number);
}

/* "detail": [{"msg":"Field required",...}] or a text. The first of several is enough for people. */
static void detail_take(struct answer_reader *reader, char *reason, size_t room)
{
    if (!answer_reader_enter(reader, '[')) {
        (void)judge_error_value(reader, reason, room);
        return;
    }
    bool has_reason = false;
    struct json_value ignored;
    /* Each turn passes an element of the answer. */
    while (answer_reader_element(reader)) {
        if (has_reason) {
            (void)answer_reader_value(reader, &ignored);
        } else {
            has_reason = judge_error_value(reader, reason, room);
        }
    }
}

/* One element of "errors". False: not what was agreed. */
static bool error_take(struct answer_reader *reader, const struct encoder *encoder,
                       struct replicate_answer *said, struct judgement *judgement)
{
    uint64_t index = UINT64_MAX;
    char reason[FORWARD_REASON_BYTES] = "";
    struct slice key;
    struct json_value ignored;
    if (!answer_reader_enter(reader, '{')) {
        return false;
    }
    /* Each turn passes a member of the answer. */
    while (answer_reader_member(reader, &key)) {
        if (answer_reader_is(key, "index")) {
            if (!number_take(reader, &index)) {
                return false;
            }
        } else if (answer_reader_is(key, "detail")) {
            detail_take(reader, reason, sizeof(reason));
        } else {
            (void)answer_reader_value(reader, &ignored);
        }
    }
    if (reader->is_bad || index < said->next || index >= encoder->record_count) {
        return false;
    }
    judge_refuse_item(judgement, (uint32_t)index,
                      reason[0] == '\0' ? "refused without a reason" : reason);
    if (judgement->reason[0] == '\0') {
        memcpy(judgement->reason, reason, sizeof(judgement->reason));
    }
    said->next = index + 1;
    said->listed++;
    return true;
}

static bool errors_take(struct answer_reader *reader, const struct encoder *encoder,
                        struct replicate_answer *said, struct judgement *judgement)
{
    if (!answer_reader_enter(reader, '[')) {
        return false;
    }
    while (answer_reader_element(reader)) {
        if (!error_take(reader, encoder, said, judgement)) {
            return false;
        }
    }
    return !reader->is_bad;
}

static bool member_take(struct answer_reader *reader, struct slice key,
                        const struct encoder *encoder, struct replicate_answer *said,
                        struct judgement *judgement)
{
    struct json_value ignored;
    uint64_t *const numbers[] = {&said->accepted, &said->duplicates, &said->rejected};
    static const char *const names[] = {"accepted", "duplicates", "rejected"};
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        if (answer_reader_is(key, names[i])) {
            said->seen |= 1u << i;
            return number_take(reader, numbers[i]);
        }
    }
    if (answer_reader_is(key, "errors")) {
        return errors_take(reader, encoder, said, judgement);
    }
    return answer_reader_value(reader, &ignored);
}

/* Everything was read, and its numbers are those of this request. */
static bool answer_read(const struct encoder *encoder, struct slice body,
                        struct replicate_answer *said, struct judgement *judgement)
{
    struct answer_reader reader;
    struct slice key;
    answer_reader_open(&reader, body);
    if (!answer_reader_enter(&reader, '{')) {
        return false;
    }
    while (answer_reader_member(&reader, &key)) {
        if (!member_take(&reader, key, encoder, said, judgement)) {
            return false;
        }
    }
    /* Each number has at most 18 digits, so the sum cannot wrap. */
    return answer_reader_ended(&reader) && said->seen == 7 && said->listed <= said->rejected &&
           said->accepted + said->duplicates + said->rejected == encoder->record_count;
}

/* The other side lists at most some hundred errors. Where it did not list all, what is not listed is sent again: what it
 * has by then is a duplicate there, and the next errors come up. */
static void judge_rows(const struct encoder *encoder, const struct upstream_answer *answer,
                       const struct replicate_answer *said, struct judgement *judgement)
{
    judgement->status = answer->status;
    judgement->verdict = said->rejected == 0 ? VERDICT_DONE : VERDICT_ITEMS;
    if (said->listed == said->rejected) {
        return;
    }
    if (said->listed == 0) {
        judge_because(answer, VERDICT_REFUSED, "records were refused without being named",
                      judgement);
        return;
    }
    for (uint32_t i = 0; i < encoder->record_count; i++) {
        if (judgement->items[i] == ITEM_DONE) {
            judgement->items[i] = ITEM_RETRY;
        }
    }
}

static void items_clear(const struct encoder *encoder, struct judgement *judgement)
{
    memset(judgement->items, ITEM_DONE, encoder->record_count);
    judgement->item_reason_count = 0;
    judgement->reason[0] = '\0';
}

static void sluice_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                         struct judgement *judgement)
{
    struct replicate_answer said = {0};
    bool is_2xx = answer->status >= 200 && answer->status < 300;
    if (answer->fault != TRANSPORT_OK || (!is_2xx && answer->status != 422)) {
        judge_by_status(answer, judgement);
        return;
    }
    ASSERT(judgement->items != NULL);
    items_clear(encoder, judgement);
    if (!answer->is_body_cut && answer_read(encoder, answer->body, &said, judgement)) {
        judge_rows(encoder, answer, &said, judgement);
        return;
    }
    items_clear(encoder, judgement);
    if (is_2xx) {
        /* A success that does not say what became of these records is none: a proxy, or a cut answer. */
        judge_as(answer, VERDICT_RETRY, judgement);
        return;
    }
    /* The request as a whole is not wanted: our own node (a loop), or another version. No record is to blame. */
    judge_as(answer, VERDICT_PAUSE, judgement);
}

const struct protocol protocol_sluice = {
    .name = "sluice",
    .kinds = UINT32_MAX,
    .encoding = sluice_encoding,
    .begin = sluice_begin,
    .add = sluice_add,
    .end = sluice_end,
    .url = sluice_url,
    .method = "POST",
    .content_type = "application/x-ndjson",
    .headers = sluice_headers,
    .judge = sluice_judge,
};
