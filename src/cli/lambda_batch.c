#include "cli/lambda_batch.h"

#include <stdio.h>
#include <string.h>

#include "cli/lambda_judge.h"
#include "core/mem.h"
#include "forward/answer_reader.h"
#include "model/lookup_object.h"
#include "model/rfc3339.h"
#include "store/digest.h"

struct lambda_batch_reader {
    struct lambda_batch batch;
    struct answer_reader json; /* large */
    struct lambda_judge *judge;
};

struct lambda_batch_reader *lambda_batch_reader_new(void)
{
    struct lambda_batch_reader *reader = mem_alloc(sizeof *reader);
    reader->judge = lambda_judge_new();
    body_init(&reader->batch.faults, MIB(4));
    return reader;
}

void lambda_batch_reader_free(struct lambda_batch_reader *reader)
{
    if (reader != NULL) {
        lambda_judge_free(reader->judge);
        body_free(&reader->batch.faults);
        mem_free(reader->batch.records);
        mem_free(reader);
    }
}

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

void lambda_batch_fault(struct lambda_batch *batch, const char *list, uint32_t index,
                        const char *error)
{
    struct body *out = &batch->faults;
    if (batch->fault_count == 0) {
        (void)snprintf(batch->first_fault, sizeof batch->first_fault, "%.*s",
                       LAMBDA_FAULT_BYTES - 1, error);
    }
    if (batch->fault_count++ >= LAMBDA_FAULTS_SHOWN) {
        return;
    }
    body_put_text(out, out->bytes > 0 ? ",{\"list\":" : "{\"list\":");
    body_put_json_string(out, text_slice(list));
    body_put_text(out, ",\"index\":");
    body_put_u64(out, index);
    body_put_text(out, ",\"error\":");
    body_put_json_string(out, text_slice(error));
    body_put_text(out, "}");
}

/* ---- one record ---- */

/* The members of a meta form; slices empty where they are not there. */
struct meta {
    struct slice id, kind, lsn, received_at, record;
    bool has_name, has_value, has_event_type; /* what tells raw records apart */
};

static struct meta read_meta(struct slice element)
{
    struct meta meta = {.has_name = false};
    struct lookup_object object;
    struct lookup_member member;
    if (!lookup_object_open(&object, element)) {
        return meta;
    }
    while (lookup_object_next(&object, &member) > 0) { /* each turn is a member on */
        if (answer_reader_is(member.key, "record") && !member.is_string) {
            meta.record = member.value;
        } else if (answer_reader_is(member.key, "lsn") && !member.is_string) {
            meta.lsn = member.value;
        } else if (answer_reader_is(member.key, "id") && member.is_string) {
            meta.id = member.value;
        } else if (answer_reader_is(member.key, "kind") && member.is_string) {
            meta.kind = member.value;
        } else if (answer_reader_is(member.key, "received_at") && member.is_string) {
            meta.received_at = member.value;
        }
        meta.has_name |= answer_reader_is(member.key, "name");
        meta.has_value |= answer_reader_is(member.key, "value");
        meta.has_event_type |= answer_reader_is(member.key, "event_type");
    }
    return meta;
}

static bool parse_u64(struct slice text, uint64_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        uint64_t digit = (uint64_t)text.data[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *number = value;
    return text.bytes > 0;
}

static enum record_kind parse_kind(struct slice text)
{
    for (unsigned i = 1; i < RECORD_KIND_MAX; i++) {
        const char *name = record_kind_name((enum record_kind)i);
        if (name != NULL && slice_equal(text, text_slice(name))) {
            return (enum record_kind)i;
        }
    }
    return 0;
}

/* True: it is a meta form, and to has what it says. */
static bool take_meta(const struct meta *meta, struct forward_record *to)
{
    int64_t received_at_ns = 0;
    enum record_kind kind = parse_kind(meta->kind);
    if (kind == 0 || meta->record.bytes == 0 || meta->record.data[0] != '{' ||
        !parse_u64(meta->lsn, &to->lsn) || ulid_parse(&to->record.id, meta->id) < 0 ||
        rfc3339_parse(meta->received_at, RFC3339_ZONE_REQUIRED, &received_at_ns) != NULL) {
        return false;
    }
    to->received_at_ns = received_at_ns;
    to->record.kind = kind;
    to->record.payload = meta->record;
    return true;
}

/* A name that the same record always gets: 48 bits of its time, 80 of what it is called after. */
static struct ulid make_id(int64_t event_time_ns, struct slice what)
{
    struct ulid id;
    uint8_t digest[DIGEST_BYTES];
    uint64_t ms = event_time_ns > 0 ? (uint64_t)event_time_ns / NS_MS : 0;
    digest_once(what, digest);
    for (unsigned i = 0; i < 6; i++) {
        id.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    }
    memcpy(id.bytes + 6, digest, ULID_BYTES - 6);
    return id;
}

static void name_raw(const struct lambda_batch *batch, struct slice event_id,
                     struct lambda_record *record)
{
    char name[LAMBDA_TEXT_BYTES + 512];
    struct forward_record *forward = &record->forward;
    int bytes = event_id.bytes > 0 ? snprintf(name, sizeof name, "event\n%.*s", (int)event_id.bytes,
                                              (const char *)event_id.data)
                                   : snprintf(name, sizeof name, "batch\n%s\n%s\n%u", batch->id,
                                              record->list, (unsigned)record->index);
    struct slice what = {(const uint8_t *)name, u64_min((uint64_t)bytes, sizeof name - 1)};
    forward->record.id = make_id(forward->record.event_time_ns, what);
    forward->received_at_ns =
        batch->sent_at_ns != 0 ? batch->sent_at_ns : forward->record.event_time_ns;
    forward->lsn =
        (batch->sent_at_ns > 0 ? (uint64_t)batch->sent_at_ns / NS_US : 1) + record->index;
}

/* The lists of format object (forward/form.c); "records" is what has no list. */
static const struct {
    const char *name;
    enum record_kind kind;
} lists[] = {
    {"logs", RECORD_LOG}, {"metrics", RECORD_METRIC}, {"events", RECORD_EVENT},
    {"runs", RECORD_RUN}, {"gpu", RECORD_GPU},        {"records", 0},
};

static enum record_kind kind_of_raw(const char *list, const struct meta *meta)
{
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        if (strcmp(list, lists[i].name) == 0 && lists[i].kind != 0) {
            return lists[i].kind;
        }
    }
    return meta->has_name && meta->has_value ? RECORD_METRIC
           : meta->has_event_type            ? RECORD_EVENT
                                             : RECORD_LOG;
}

static struct lambda_record *next_record(struct lambda_batch *batch)
{
    if (batch->count == batch->room) {
        size_t room = u64_max(2 * batch->room, 256);
        struct lambda_record *larger = mem_alloc_array(room, sizeof *larger);
        if (batch->count > 0) {
            memcpy(larger, batch->records, batch->count * sizeof *larger);
        }
        mem_free(batch->records);
        batch->records = larger;
        batch->room = room;
    }
    return &batch->records[batch->count];
}

/* element: judged JSON. */
static void take_record(struct lambda_batch_reader *reader, const char *list, uint32_t index,
                        struct slice element)
{
    struct lambda_batch *batch = &reader->batch;
    struct lambda_record *record = next_record(batch);
    struct lambda_judged judged;
    char why[1024];
    struct meta meta = read_meta(element);
    *record = (struct lambda_record){.list = list, .index = index};
    struct record *inner = &record->forward.record;
    bool is_meta = take_meta(&meta, &record->forward);
    if (!is_meta) {
        inner->kind = kind_of_raw(list, &meta);
        inner->payload = element;
    }
    int64_t default_time_ns = is_meta ? record->forward.received_at_ns : batch->sent_at_ns;
    if (!lambda_judge_record(reader->judge, inner->kind, inner->payload, default_time_ns, &judged,
                             why, sizeof why)) {
        lambda_batch_fault(batch, list, index, why);
        return;
    }
    inner->event_time_ns = judged.event_time_ns;
    inner->severity = judged.severity;
    if (!is_meta) {
        name_raw(batch, judged.event_id, record);
    }
    batch->count++;
}

/* ---- the three forms ---- */

static void copy_text(char *to, struct slice raw)
{
    size_t bytes = json_unescape(raw, (uint8_t *)to, LAMBDA_TEXT_BYTES - 1);
    to[u64_min(bytes, LAMBDA_TEXT_BYTES - 1)] = 0;
}

static void take_list(struct lambda_batch_reader *reader, const char *list)
{
    struct json_value value;
    uint32_t index = 0;
    while (answer_reader_element(&reader->json) && answer_reader_value(&reader->json, &value)) {
        struct slice element = {reader->json.scan.index.data + value.start,
                                value.end - value.start};
        take_record(reader, list, index++, element);
    }
}

static const char *list_name(struct slice key)
{
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        if (answer_reader_is(key, lists[i].name)) {
            return lists[i].name;
        }
    }
    return NULL;
}

static void take_head(struct lambda_batch *batch, struct slice key, struct slice raw)
{
    if (answer_reader_is(key, "batch_id")) {
        copy_text(batch->id, raw);
    } else if (answer_reader_is(key, "source")) {
        copy_text(batch->source, raw);
    } else if (answer_reader_is(key, "sent_at")) {
        const char *fault = rfc3339_parse(raw, RFC3339_ZONE_OPTIONAL, &batch->sent_at_ns);
        batch->sent_at_ns = fault != NULL ? 0 : batch->sent_at_ns;
    }
}

/* Twice: what names the batch may stand behind its lists. False: malformed. */
static bool walk_object(struct lambda_batch_reader *reader, struct slice body, bool is_for_lists,
                        bool *has_lists)
{
    struct answer_reader *json = &reader->json;
    struct slice key;
    struct json_value value;
    answer_reader_open(json, body);
    if (!answer_reader_enter(json, '{')) {
        return false;
    }
    while (answer_reader_member(json, &key)) { /* each turn is a member on */
        const char *list = list_name(key);
        if (is_for_lists && list != NULL && answer_reader_enter(json, '[')) {
            take_list(reader, list);
        } else if (answer_reader_value(json, &value) && !is_for_lists) {
            *has_lists |= list != NULL && value.kind == JSON_ARRAY;
            if (value.kind == JSON_STRING) {
                take_head(&reader->batch, key, answer_reader_raw(json, &value));
            }
        }
    }
    return answer_reader_ended(json);
}

static void take_line(struct lambda_batch_reader *reader, struct slice line, uint32_t *index)
{
    uint64_t offset = 0;
    const char *fault = NULL;
    bool is_blank = true;
    for (size_t i = 0; i < line.bytes && is_blank; i++) {
        is_blank = line.data[i] == ' ' || line.data[i] == '\t' || line.data[i] == '\r';
    }
    if (is_blank) {
        return;
    }
    if (json_validate(line.data, line.bytes, &offset, &fault) < 0) {
        lambda_batch_fault(&reader->batch, "records", (*index)++, fault);
        return;
    }
    take_record(reader, "records", (*index)++, line);
}

static void take_lines(struct lambda_batch_reader *reader, struct slice body)
{
    uint32_t index = 0;
    while (body.bytes > 0) { /* each turn is a line on */
        const uint8_t *feed = memchr(body.data, '\n', body.bytes);
        size_t bytes = feed == NULL ? body.bytes : (size_t)(feed - body.data);
        take_line(reader, (struct slice){body.data, bytes}, &index);
        bytes += feed != NULL;
        body = (struct slice){body.data + bytes, body.bytes - bytes};
    }
}

static struct slice trim(struct slice text)
{
    while (text.bytes > 0 && memchr(" \t\r\n", text.data[0], 4) != NULL) {
        text = (struct slice){text.data + 1, text.bytes - 1};
    }
    while (text.bytes > 0 && memchr(" \t\r\n", text.data[text.bytes - 1], 4) != NULL) {
        text.bytes--;
    }
    return text;
}

static int take_array(struct lambda_batch_reader *reader, struct slice body, struct err *err)
{
    answer_reader_open(&reader->json, body);
    if (answer_reader_enter(&reader->json, '[')) {
        take_list(reader, "records");
    }
    return answer_reader_ended(&reader->json) ? 0 : err_set(err, -1, "the body is no JSON array");
}

/* After the batch has its name. */
static void take_node(struct lambda_batch *batch)
{
    struct slice start = {(const uint8_t *)batch->id, u64_min(strlen(batch->id), ULID_TEXT_BYTES)};
    if (ulid_parse(&batch->node, start) < 0) {
        batch->node = make_id(0, text_slice(batch->source));
    }
}

/* A body without any name is called after its bytes. */
static void name_batch(struct lambda_batch *batch, const char *key, struct slice body)
{
    uint8_t digest[DIGEST_BYTES];
    if (batch->id[0] == 0) {
        (void)snprintf(batch->id, sizeof batch->id, "%.*s", LAMBDA_TEXT_BYTES - 1, key);
    }
    if (batch->id[0] == 0) {
        digest_once(body, digest);
        for (unsigned i = 0; i < DIGEST_BYTES; i++) {
            (void)snprintf(batch->id + 2 * i, 3, "%02x", digest[i]);
        }
    }
    take_node(batch);
}

static void reset(struct lambda_batch *batch)
{
    batch->id[0] = batch->source[0] = 0;
    batch->sent_at_ns = 0;
    batch->count = 0;
    batch->fault_count = 0;
    batch->first_fault[0] = 0;
    body_reset(&batch->faults);
}

int lambda_batch_read(struct lambda_batch_reader *reader, struct slice body, const char *key,
                      struct lambda_batch **out, struct err *err)
{
    struct lambda_batch *batch = &reader->batch;
    bool has_lists = false;
    uint32_t index = 0;
    body = trim(body);
    reset(batch);
    *out = batch;
    if (body.bytes == 0) {
        return err_set(err, -1, "the body is empty");
    }
    if (body.data[0] == '[') {
        name_batch(batch, key, body);
        return take_array(reader, body, err);
    }
    bool is_object = walk_object(reader, body, false, &has_lists);
    if (!is_object || !has_lists) {
        reset(batch); /* what an object that is no batch calls source is its own */
    }
    name_batch(batch, key, body);
    if (is_object && has_lists) {
        (void)walk_object(reader, body, true, &has_lists);
    } else if (is_object) {
        take_line(reader, body, &index);
    } else {
        take_lines(reader, body);
    }
    return 0;
}
