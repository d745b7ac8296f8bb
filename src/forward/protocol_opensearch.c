/*
 * protocol opensearch: OpenSearch and Elasticsearch, POST {url}/_bulk. Pure.
 *
 * Each record is a `create` under its ULID, so that what is there already is told apart (409) and counts as done;
 * that holds within one index (or backing index of a data stream): by naming the index after the event time, never after the
 * time of sending, a repeat goes where the first attempt went.
 *
 * The source is the client's object with @timestamp (event time) and sluice_* put in front; a key that the client has
 * itself stays the client's, because a key that comes twice would be refused.
 *
 * Items are judged one by one. 401, 403 and 404 of an item (no rights, a read-only index, an index that may not be
 * made) are an operator's to mend, no record's fault: such items are sent again, and when nothing else is left the
 * sink pauses.
 */
#include <stdio.h>
#include <string.h>

#include "forward/form.h"
#include "forward/judge.h"
#include "forward/protocol_table.h"
#include "forward/target_url.h"
#include "model/lookup_object.h"

enum {
    INDEX_BYTES_MAX = 255, /* of an index's name, by Elasticsearch */
    /* Rendering makes two bytes into four at most. */
    INDEX_ROOM = 2 * CONFIG_SINK_TEXT,
    /* The action line and what is put in front of the source: 60 + index + 260, rounded up. */
    FRONT_BYTES_MAX = 512 + INDEX_ROOM,
    KIND_BYTES_MAX = 6,
};

#define INDEX_DEFAULT "sluice-{kind}-%Y.%m.%d"

static void opensearch_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "opensearch/bulk/1");
}

/* ---- the index's name ---- */

static const char *index_pattern(const struct config_sink *sink)
{
    return sink->index[0] == '\0' ? INDEX_DEFAULT : sink->index;
}

/* Where in "2026-11-21T17:..." the digits of %c are; 0 bytes: no such conversion. */
static struct slice time_part(const char *time, char c)
{
    const uint8_t *at = (const uint8_t *)time;
    switch (c) {
    case 'Y':
        return (struct slice){at, 4};
    case 'm':
        return (struct slice){at + 5, 2};
    case 'd':
        return (struct slice){at + 8, 2};
    case 'H':
        return (struct slice){at + 11, 2};
    default:
        return (struct slice){at, 0};
    }
}

static bool is_index_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
           c == '+';
}

/* What the piece of pattern at *at means, which is no plain character; *at becomes behind it. Empty: nothing. */
static struct slice index_piece(const char **at, const char *kind, const char *time)
{
    static const char kind_word[] = "{kind}";
    const char *piece = *at;
    if (strncmp(piece, kind_word, sizeof(kind_word) - 1) == 0) {
        *at += sizeof(kind_word) - 1;
        return (struct slice){(const uint8_t *)kind, strlen(kind)};
    }
    struct slice part = {NULL, 0};
    if (piece[0] == '%') {
        part = time_part(time, piece[1]);
    }
    if (part.bytes > 0) {
        *at += 2;
        return part;
    }
    *at += 1;
    return (struct slice){NULL, 0};
}

/* Writes up to INDEX_ROOM bytes. *is_good: all of the pattern means something; what does not becomes '_'. */
static uint8_t *index_put(uint8_t *to, const char *pattern, const char *kind, const char *time,
                          bool *is_good)
{
    *is_good = true;
    for (const char *at = pattern; *at != '\0';) {
        if (LIKELY(is_index_char(*at))) {
            *to++ = (uint8_t)*at++;
            continue;
        }
        struct slice piece = index_piece(&at, kind, time);
        if (piece.bytes == 0) {
            *to++ = '_';
            *is_good = false;
        } else {
            to = form_copy(to, piece.data, piece.bytes);
        }
    }
    return to;
}

static int opensearch_check(const struct config_sink *sink, struct err *err)
{
    const char *pattern = index_pattern(sink);
    uint8_t name[INDEX_ROOM];
    bool is_good;
    uint8_t *end = index_put(name, pattern, "metric", "2026-11-21T17:00:00Z", &is_good);
    if (!is_good) {
        return err_set(
            err, ERR_SYNTAX,
            "index '%s': an index's name is of a-z 0-9 - _ . + and {kind}, %%Y, %%m, %%d, %%H",
            pattern);
    }
    if (memchr("-_+.", name[0], 4) != NULL) {
        return err_set(err, ERR_SYNTAX, "index '%s': an index's name does not begin with '%c'",
                       pattern, name[0]);
    }
    if (end - name > INDEX_BYTES_MAX) {
        return err_set(err, ERR_SYNTAX, "index '%s': an index's name has at most %d bytes", pattern,
                       INDEX_BYTES_MAX);
    }
    return 0;
}

/* ---- a record ---- */

enum own_key {
    OWN_TIMESTAMP = 0,
    OWN_ID,
    OWN_NODE,
    OWN_LSN,
    OWN_KIND,
    OWN_RECEIVED_AT,
    OWN_COUNT,
};
static const struct slice own_keys[OWN_COUNT] = {
    [OWN_TIMESTAMP] = {(const uint8_t *)"@timestamp", 10},
    [OWN_ID] = {(const uint8_t *)"sluice_id", 9},
    [OWN_NODE] = {(const uint8_t *)"sluice_node", 11},
    [OWN_LSN] = {(const uint8_t *)"sluice_lsn", 10},
    [OWN_KIND] = {(const uint8_t *)"sluice_kind", 11},
    [OWN_RECEIVED_AT] = {(const uint8_t *)"sluice_received_at", 18},
};

/* Bit of the own key that this is, 0: none. */
static unsigned own_key_bit(struct slice key)
{
    if (key.bytes < 9 || (key.data[0] != '@' && key.data[0] != 's')) {
        return 0;
    }
    for (unsigned i = 0; i < OWN_COUNT; i++) {
        if (slice_equal(key, own_keys[i])) {
            return 1u << i;
        }
    }
    return 0;
}

static unsigned member_bit(const struct lookup_member *member)
{
    uint8_t text[32];
    if (LIKELY(!member->key_has_escape)) {
        return own_key_bit(member->key);
    }
    struct slice rest = member->key;
    size_t bytes = lookup_object_unescape(&rest, text, sizeof(text));
    return rest.bytes > 0 ? 0 : own_key_bit((struct slice){text, bytes});
}

struct source {
    struct slice rest; /* behind the object's opening bracket */
    bool is_empty;     /* it has no member */
    unsigned has;      /* bits of the own keys that the client wrote */
};

/* 0, -1: no JSON object. */
static int source_read(struct source *source, struct slice payload)
{
    struct lookup_object object;
    struct lookup_member member;
    if (!lookup_object_open(&object, payload)) {
        return -1;
    }
    const uint8_t *bracket = memchr(payload.data, '{', payload.bytes);
    ASSERT(bracket != NULL);
    source->rest =
        (struct slice){bracket + 1, payload.bytes - (size_t)(bracket + 1 - payload.data)};
    source->is_empty = true;
    source->has = 0;
    int r = lookup_object_next(&object, &member);
    /* Each turn passes a member. */
    while (r > 0) {
        source->is_empty = false;
        source->has |= member_bit(&member);
        r = lookup_object_next(&object, &member);
    }
    return r;
}

static uint8_t *text_put(uint8_t *at, struct slice key, struct slice value)
{
    *at++ = '"';
    at = form_copy(at, key.data, key.bytes);
    at = FORM_COPY_WORD(at, "\":\"");
    at = form_copy(at, value.data, value.bytes);
    return FORM_COPY_WORD(at, "\",");
}

static struct slice slice_of(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* The own keys that the client has not, each with a comma behind it. */
static uint8_t *own_put(uint8_t *at, struct encoder *encoder, const struct forward_record *record,
                        unsigned has, struct slice time, const char *id)
{
    char node[ULID_TEXT_BYTES];
    ulid_format(node, &encoder->node);
    const struct slice values[OWN_COUNT] = {
        [OWN_TIMESTAMP] = time,
        [OWN_ID] = {(const uint8_t *)id, ULID_TEXT_BYTES},
        [OWN_NODE] = {(const uint8_t *)node, ULID_TEXT_BYTES},
        [OWN_KIND] = slice_of(form_kind_name(record->record.kind)),
        [OWN_RECEIVED_AT] = form_received_at(encoder, record->received_at_ns),
    };
    for (unsigned i = 0; i < OWN_COUNT; i++) {
        if ((has & 1u << i) != 0) {
            continue;
        }
        if (i == OWN_LSN) {
            at = FORM_COPY_WORD(at, "\"sluice_lsn\":");
            at += u64_format((char *)at, record->lsn);
            *at++ = ',';
        } else {
            at = text_put(at, own_keys[i], values[i]);
        }
    }
    return at;
}

static uint8_t *action_put(uint8_t *at, const struct encoder *encoder,
                           const struct forward_record *record, const char *time, const char *id)
{
    bool is_good;
    at = FORM_COPY_WORD(at, "{\"create\":{\"_index\":\"");
    at = index_put(at, index_pattern(encoder->sink), form_kind_name(record->record.kind), time,
                   &is_good);
    at = FORM_COPY_WORD(at, "\",\"_id\":\"");
    at = form_copy(at, id, ULID_TEXT_BYTES);
    return FORM_COPY_WORD(at, "\"}}\n");
}

static void opensearch_begin(struct encoder *encoder)
{
    encoder->end_bytes = 0;
}

static int opensearch_add(struct encoder *encoder, const struct forward_record *record,
                          struct err *err)
{
    struct source source;
    if (source_read(&source, record->record.payload) < 0) {
        return err_set(err, ERR_UNSUPPORTED, "the record is no JSON object");
    }
    uint8_t *start = body_room(&encoder->body, FRONT_BYTES_MAX + source.rest.bytes);
    if (start == NULL) {
        return 0; /* is_over says it. */
    }
    char id[ULID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];
    ulid_format(id, &record->record.id);
    size_t time_bytes = clock_rfc3339(time, record->record.event_time_ns, 9);
    uint8_t *at = action_put(start, encoder, record, time, id);
    *at++ = '{';
    uint8_t *first = at;
    at = own_put(at, encoder, record, source.has, (struct slice){(const uint8_t *)time, time_bytes},
                 id);
    if (source.is_empty && at > first) {
        at--; /* No member follows the last comma. */
    }
    ASSERT((size_t)(at - start) < FRONT_BYTES_MAX);
    at = form_copy_payload(at, source.rest, FORM_ONE_LINE);
    *at++ = '\n';
    body_add(&encoder->body, (size_t)(at - start));
    return 0;
}

static void opensearch_end(struct encoder *encoder)
{
    (void)encoder;
}

static void opensearch_url(const struct encoder *encoder, char *out)
{
    struct buf url;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    target_url_put(&url, encoder->sink->url, "/_bulk");
    /* Percent-encoded throughout, which is also the form that AWS computes its signature over. */
    target_url_put_parameter(&url, "filter_path",
                             SLICE_LITERAL("errors,items.*.status,items.*.error"));
    out[url.is_truncated ? 0 : url.bytes] = '\0';
}

/* ---- the answer: {"errors":b,"items":[{"create":{"status":n,"error":{...}}},...]} ---- */

struct bulk_answer {
    uint32_t count;
    uint32_t done, refused, again, operator; /* of them */
    int refused_status, again_status;        /* of the first */
};

static enum item_verdict item_judge(struct bulk_answer *said, int status)
{
    if ((status >= 200 && status < 300) || status == 409) {
        said->done++;
        return ITEM_DONE;
    }
    bool is_operator = status == 401 || status == 403 || status == 404;
    bool is_passing = status == 408 || status == 429 || status < 400 || status >= 500;
    if (is_operator || is_passing) {
        said->again_status = said->again + said->operator== 0 ? status : said->again_status;
        said->again += is_passing;
        said->operator+= is_operator;
        return ITEM_RETRY;
    }
    said->refused_status = said->refused == 0 ? status : said->refused_status;
    said->refused++;
    return ITEM_REFUSED;
}

/* "create":{...}: its status, 0 without one; error's text. */
static int result_take(struct answer_reader *reader, char *reason, size_t room)
{
    uint64_t status = 0;
    struct slice key;
    struct json_value value;
    if (!answer_reader_enter(reader, '{')) {
        return 0;
    }
    /* Each turn passes a member of the answer. */
    while (answer_reader_member(reader, &key)) {
        if (answer_reader_is(key, "error")) {
            (void)judge_error_value(reader, reason, room);
        } else if (answer_reader_value(reader, &value) && answer_reader_is(key, "status") &&
                   !answer_reader_u64(reader, &value, &status)) {
            status = 0;
        }
    }
    return status >= 100 && status <= 599 ? (int)status : 0;
}

static bool item_take(struct answer_reader *reader, const struct encoder *encoder,
                      struct bulk_answer *said, struct judgement *judgement)
{
    char reason[FORWARD_REASON_BYTES] = "";
    struct slice operation;
    if (said->count == encoder->item_count || !answer_reader_enter(reader, '{') ||
        !answer_reader_member(reader, &operation)) {
        return false;
    }
    int status = result_take(reader, reason, sizeof(reason));
    if (status == 0 || answer_reader_member(reader, &operation) || reader->is_bad) {
        return false;
    }
    uint32_t index = said->count++;
    judgement->items[index] = (uint8_t)item_judge(said, status);
    if (judgement->items[index] == ITEM_DONE) {
        return true;
    }
    if (reason[0] == '\0') {
        (void)snprintf(reason, sizeof(reason), "HTTP %d", status);
    }
    if (judgement->items[index] == ITEM_REFUSED) {
        judge_refuse_item(judgement, index, reason);
    }
    if (judgement->reason[0] == '\0' || (said->refused == 1 && status == said->refused_status)) {
        memcpy(judgement->reason, reason, sizeof(judgement->reason));
    }
    return true;
}

static bool items_take(struct answer_reader *reader, const struct encoder *encoder,
                       struct bulk_answer *said, struct judgement *judgement)
{
    if (said->count != 0 || !answer_reader_enter(reader, '[')) {
        return false;
    }
    while (answer_reader_element(reader)) {
        if (!item_take(reader, encoder, said, judgement)) {
            return false;
        }
    }
    return !reader->is_bad;
}

/* All of it was read, and it is about as many items as were sent. */
static bool answer_read(const struct encoder *encoder, struct slice body, struct bulk_answer *said,
                        struct judgement *judgement)
{
    struct answer_reader reader;
    struct slice key;
    struct json_value ignored;
    answer_reader_open(&reader, body);
    if (!answer_reader_enter(&reader, '{')) {
        return false;
    }
    while (answer_reader_member(&reader, &key)) {
        bool is_good = answer_reader_is(key, "items")
                           ? items_take(&reader, encoder, said, judgement)
                           : answer_reader_value(&reader, &ignored);
        if (!is_good) {
            return false;
        }
    }
    return answer_reader_ended(&reader) && said->count == encoder->item_count;
}

static void judge_items(const struct upstream_answer *answer, const struct bulk_answer *said,
                        struct judgement *judgement)
{
    bool has_moved = said->done + said->refused > 0;
    judgement->retry_after_ns = answer->retry_after_ns;
    judgement->status = said->refused > 0                 ? said->refused_status
                        : said->again + said->operator> 0 ? said->again_status
                                                          : answer->status;
    if (said->done == said->count) {
        judgement->verdict = VERDICT_DONE;
    } else if (has_moved) {
        judgement->verdict = VERDICT_ITEMS;
    } else {
        judgement->verdict = said->operator> 0 ? VERDICT_PAUSE : VERDICT_RETRY;
    }
}

static void opensearch_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                             struct judgement *judgement)
{
    struct bulk_answer said = {0};
    if (answer->fault != TRANSPORT_OK || answer->status < 200 || answer->status > 299) {
        judge_by_status(answer, judgement);
        return;
    }
    ASSERT(judgement->items != NULL);
    judgement->reason[0] = '\0';
    if (!answer->is_body_cut && answer_read(encoder, answer->body, &said, judgement)) {
        judge_items(answer, &said, judgement);
        return;
    }
    /* What became of the items is not known: repeated, those that are there answer 409. */
    judgement->item_reason_count = 0;
    judgement->verdict = VERDICT_RETRY;
    judgement->status = answer->status;
    judgement->retry_after_ns = answer->retry_after_ns;
    (void)snprintf(judgement->reason, sizeof(judgement->reason),
                   "the answer to _bulk is cut, or not about the %u items that were sent",
                   encoder->item_count);
}

const struct protocol protocol_opensearch = {
    .name = "opensearch",
    .kinds = UINT32_MAX,
    .check = opensearch_check,
    .encoding = opensearch_encoding,
    .begin = opensearch_begin,
    .add = opensearch_add,
    .end = opensearch_end,
    .url = opensearch_url,
    .method = "POST",
    .content_type = "application/x-ndjson",
    .judge = opensearch_judge,
};
