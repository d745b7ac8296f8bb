/*
 * protocol_timestream: metrics to Amazon Timestream for LiveAnalytics, API WriteRecords (JSON 1.0). Pure.
 *
 * A record: dimensions (service, unit, every tag, sluice_node; sorted), MeasureName = the metric's name, MeasureValue =
 * the client's own digits as DOUBLE (one type always: the service refuses a measure that changes its type), Time in ns,
 * Version = the LSN. Written again it is the same record with the same version: the service changes nothing, so repeats
 * are harmless; of two records of one series and time the later LSN wins.
 *
 * Two such in one call are refused by the service, so the request ends before the second. Which they are is decided on
 * the bytes already written: what names a record comes first in it, in one fixed form.
 *
 * The service's limits (docs.aws.amazon.com/timestream, Quotas; API_Dimension) are checked here, because it refuses a call for
 * them as a whole.
 */
#include "forward/protocol_table.h"

#include <stdio.h>
#include <string.h>

#include "forward/answer_reader.h"
#include "forward/judge.h"
#include "forward/metric_fields.h"
#include "forward/target_url.h"

#define RECORDS_MAX         100u
#define DIMENSION_NAME_MAX  60u
#define DIMENSION_VALUE_MAX 2048u
#define DIMENSION_PAIRS_MAX 2048u /* all names and values of a record */
#define MEASURE_NAME_MAX    256u
#define VERSION_KEY         ",\"Version\":"

static void timestream_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "timestream/double/1");
}

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void timestream_begin(struct encoder *encoder)
{
    struct body *body = &encoder->body;
    body_put_text(body, "{\"DatabaseName\":");
    body_put_json_string(body, text_slice(encoder->sink->database));
    body_put_text(body, ",\"TableName\":");
    body_put_json_string(body, text_slice(encoder->sink->table));
    body_put_text(body, ",\"Records\":[");
    encoder->state = body->bytes; /* where the records begin */
}

/* ---- a record ---- */

static bool has_prefix(struct slice text, struct slice prefix)
{
    return text.bytes >= prefix.bytes && memcmp(text.data, prefix.data, prefix.bytes) == 0;
}

/* What the service keeps for itself, and what we add. */
static bool timestream_is_reserved(struct slice key)
{
    return slice_equal(key, SLICE_LITERAL("sluice_node")) ||
           slice_equal(key, SLICE_LITERAL("time")) ||
           slice_equal(key, SLICE_LITERAL("measure_name")) ||
           has_prefix(key, SLICE_LITERAL("ts_")) || has_prefix(key, SLICE_LITERAL("measure_value"));
}

static int check_dimension(const struct metric_label *label, struct err *err)
{
    if (label->key.bytes > DIMENSION_NAME_MAX) {
        return err_set(err, ERR_UNSUPPORTED,
                       "the dimension '%.60s...' has a name of %zu bytes: Timestream takes %u",
                       (const char *)label->key.data, label->key.bytes, DIMENSION_NAME_MAX);
    }
    if (label->value.bytes > DIMENSION_VALUE_MAX) {
        return err_set(err, ERR_UNSUPPORTED,
                       "the dimension '%.*s' has a value of %zu bytes: Timestream takes %u",
                       (int)label->key.bytes, (const char *)label->key.data, label->value.bytes,
                       DIMENSION_VALUE_MAX);
    }
    return 0;
}

static int check_limits(const struct metric_fields *fields, struct err *err)
{
    size_t pairs = 0;
    int r = 0;
    if (fields->name.bytes > MEASURE_NAME_MAX) {
        return err_set(err, ERR_UNSUPPORTED, "the name has %zu bytes: Timestream takes %u",
                       fields->name.bytes, MEASURE_NAME_MAX);
    }
    for (unsigned i = 0; r == 0 && i < fields->label_count; i++) {
        r = check_dimension(&fields->labels[i], err);
        pairs += fields->labels[i].key.bytes + fields->labels[i].value.bytes;
    }
    if (r == 0 && pairs > DIMENSION_PAIRS_MAX) {
        return err_set(err, ERR_UNSUPPORTED,
                       "the dimensions have %zu bytes together: Timestream takes %u", pairs,
                       DIMENSION_PAIRS_MAX);
    }
    return r;
}

/* What names a record for the service: dimensions, measure, time. */
static void put_identity(struct body *body, const struct metric_fields *fields,
                         int64_t event_time_ns)
{
    body_put_text(body, "{\"Dimensions\":[");
    for (unsigned i = 0; i < fields->label_count; i++) {
        body_put_text(body, i == 0 ? "{\"Name\":" : ",{\"Name\":");
        body_put_json_string(body, fields->labels[i].key);
        body_put_text(body, ",\"Value\":");
        body_put_json_string(body, fields->labels[i].value);
        body_put_text(body, "}");
    }
    body_put_text(body, "],\"MeasureName\":");
    body_put_json_string(body, fields->name);
    body_put_text(body, ",\"Time\":\"");
    body_put_i64(body, event_time_ns);
    body_put_text(body, "\",\"TimeUnit\":\"NANOSECONDS\",");
}

/* At most RECORDS_MAX short records are looked through: 100 of them in a call cost about as much as a write to a socket. */
static bool is_twice(const struct encoder *encoder, size_t identity)
{
    const struct body *body = &encoder->body;
    size_t from = encoder->state;
    return !body->is_over && memmem(body->data + from, identity - from, body->data + identity,
                                    body->bytes - identity) != NULL;
}

static int timestream_add(struct encoder *encoder, const struct forward_record *record,
                          struct err *err)
{
    struct body *body = &encoder->body;
    struct metric_fields fields;
    char node[ULID_TEXT_BYTES];
    ulid_format(node, &encoder->node);
    int r = metric_fields_read(&fields, record->record.payload, timestream_is_reserved, err);
    r = r < 0 ? r
              : metric_fields_add(&fields, SLICE_LITERAL("sluice_node"),
                                  (struct slice){(const uint8_t *)node, sizeof node}, err);
    r = r < 0 ? r : metric_fields_sort(&fields, err);
    r = r < 0 ? r : check_limits(&fields, err);
    if (r < 0) {
        return r;
    }
    if (encoder->record_count > 0) {
        body_put(body, ",", 1);
    }
    size_t identity = body->bytes;
    put_identity(body, &fields, record->record.event_time_ns);
    if (is_twice(encoder, identity)) {
        return ERR_LIMIT;
    }
    body_put_text(body, "\"MeasureValue\":\"");
    body_put_slice(body, fields.value);
    body_put_text(body, "\",\"MeasureValueType\":\"DOUBLE\"" VERSION_KEY);
    body_put_u64(body, record->lsn);
    body_put(body, "}", 1);
    return 0;
}

static void timestream_end(struct encoder *encoder)
{
    body_put_text(&encoder->body, "]}");
}

static void timestream_url(const struct encoder *encoder, char *out)
{
    struct buf url;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    target_url_put(&url, encoder->sink->url, "/");
    out[url.is_truncated ? 0 : url.bytes] = 0; /* a cut one would mean something else */
}

static void timestream_headers(const struct encoder *encoder, char *out)
{
    static const char headers[] = "X-Amz-Target: Timestream_20181101.WriteRecords\0";
    (void)encoder;
    memcpy(out, headers, sizeof headers); /* with both NULs */
}

/* ---- the answer ---- */

/* One of RejectedRecords, by its place in the request. */
struct rejection {
    bool is_there;
    struct slice reason;       /* escapes as they are */
    uint64_t existing_version; /* 0: none was named */
};

/* An error that the service told. Slices are borrowed from the answer. */
struct timestream_error {
    struct slice type; /* "RejectedRecordsException": behind '#', before ':' */
    unsigned rejection_count;
    bool is_odd; /* it says things that cannot be */
    struct rejection rejections[RECORDS_MAX];
};

/* Of "com.amazonaws.timestream.v20181101#ThrottlingException:http://..." the name. */
static struct slice type_name(struct slice type)
{
    const uint8_t *hash = memrchr(type.data, '#', type.bytes);
    if (hash != NULL) {
        type.bytes -= (size_t)(hash + 1 - type.data);
        type.data = hash + 1;
    }
    const uint8_t *colon = memchr(type.data, ':', type.bytes);
    if (colon != NULL) {
        type.bytes = (size_t)(colon - type.data);
    }
    return type;
}

/* At '{' of one of RejectedRecords. */
static void read_rejection(struct answer_reader *reader, struct timestream_error *error)
{
    struct rejection rejection = {.is_there = true, .reason = SLICE_LITERAL("")};
    uint64_t index = RECORDS_MAX;
    struct slice key;
    struct json_value value;
    if (!answer_reader_enter(reader, '{')) {
        error->is_odd = true;
        (void)answer_reader_value(reader, &value);
        return;
    }
    while (answer_reader_member(reader, &key) && answer_reader_value(reader, &value)) {
        if (answer_reader_is(key, "RecordIndex")) {
            error->is_odd |= !answer_reader_u64(reader, &value, &index);
        } else if (answer_reader_is(key, "Reason") && value.kind == JSON_STRING) {
            rejection.reason = answer_reader_raw(reader, &value);
        } else if (answer_reader_is(key, "ExistingVersion") && value.kind == JSON_NUMBER) {
            (void)answer_reader_u64(reader, &value, &rejection.existing_version);
        }
    }
    if (index >= RECORDS_MAX) {
        error->is_odd = true;
        return;
    }
    error->rejections[index] = rejection;
    error->rejection_count++;
}

static void read_error(const struct upstream_answer *answer, struct timestream_error *error)
{
    struct answer_reader reader;
    struct slice key;
    struct json_value value;
    answer_reader_open(&reader, answer->body);
    if (answer_reader_enter(&reader, '{')) {
        while (answer_reader_member(&reader, &key)) { /* each turn is a member on */
            if (answer_reader_is(key, "RejectedRecords") && answer_reader_enter(&reader, '[')) {
                while (answer_reader_element(&reader)) {
                    read_rejection(&reader, error);
                }
            } else if (answer_reader_value(&reader, &value) && value.kind == JSON_STRING &&
                       answer_reader_is(key, "__type")) {
                error->type = type_name(answer_reader_raw(&reader, &value));
            }
        }
    }
    error->is_odd |= !answer_reader_ended(&reader);
}

/* Digits up to the brace that closes the record. */
static uint64_t read_version(const uint8_t *at, const uint8_t *end)
{
    uint64_t value = 0;
    for (; at < end && *at != '}'; at++) {
        value = value * 10 + (uint64_t)(*at - '0'); /* our own digits, of a uint64_t */
    }
    return value;
}

/* What the i-th record of the request says. Inside a string the quotes would be escaped, so the key is only found where it
 * is one. UINT64_MAX: the request has no such record. */
static uint64_t version_of(const struct body *body, uint64_t index)
{
    const uint8_t *at = body->data;
    const uint8_t *end = body->data + body->bytes;
    const struct slice key = SLICE_LITERAL(VERSION_KEY);
    for (uint64_t i = 0; i <= index; i++) { /* bounded: index < record_count */
        at = memmem(at, (size_t)(end - at), key.data, key.bytes);
        if (at == NULL) {
            return UINT64_MAX;
        }
        at += key.bytes;
    }
    return read_version(at, end);
}

static void refuse_item(struct judgement *judgement, unsigned index, struct slice reason)
{
    char text[FORWARD_REASON_BYTES / 2];
    judge_json_text(text, sizeof text, reason);
    judge_refuse_item(judgement, index, text);
}

/* All but those named are stored. Something as new or newer in a record's place: it is stored, too. An answer that makes no
 * sense: the same again, which does no harm. */
static void judge_items(const struct encoder *encoder, const struct timestream_error *error,
                        struct judgement *judgement)
{
    judgement->verdict = VERDICT_RETRY;
    for (unsigned i = encoder->record_count; i < RECORDS_MAX; i++) {
        if (error->rejections[i].is_there) {
            return;
        }
    }
    if (error->is_odd || error->rejection_count == 0 || encoder->record_count > RECORDS_MAX) {
        return;
    }
    judgement->verdict = VERDICT_ITEMS;
    for (unsigned i = 0; i < encoder->record_count; i++) {
        const struct rejection *rejection = &error->rejections[i];
        uint64_t existing = rejection->existing_version;
        judgement->items[i] = ITEM_DONE;
        if (rejection->is_there && (existing == 0 || existing < version_of(&encoder->body, i))) {
            refuse_item(judgement, i, rejection->reason);
        }
    }
}

struct known_type {
    const char *name;
    enum verdict verdict;
};

/* docs.aws.amazon.com/timestream: API_WriteRecords and CommonErrors. What an operator must mend throws nothing away. */
static const struct known_type known_types[] = {
    {"ThrottlingException", VERDICT_RETRY},
    {"InternalServerException", VERDICT_RETRY},
    {"InternalFailure", VERDICT_RETRY},
    {"ServiceUnavailable", VERDICT_RETRY},
    {"RequestTimeout", VERDICT_RETRY},
    {"ConflictException", VERDICT_RETRY},
    {"ValidationException", VERDICT_REFUSED},
    {"AccessDeniedException", VERDICT_PAUSE},
    {"ResourceNotFoundException", VERDICT_PAUSE},
    {"InvalidEndpointException", VERDICT_PAUSE},
    {"ServiceQuotaExceededException", VERDICT_PAUSE},
    {"UnrecognizedClientException", VERDICT_PAUSE},
    {"InvalidSignatureException", VERDICT_PAUSE},
    {"IncompleteSignature", VERDICT_PAUSE},
    {"IncompleteSignatureException", VERDICT_PAUSE},
    {"MissingAuthenticationToken", VERDICT_PAUSE},
    {"MissingAuthenticationTokenException", VERDICT_PAUSE},
    {"ExpiredTokenException", VERDICT_PAUSE},
    {"RequestExpired", VERDICT_PAUSE},
    {"NotAuthorized", VERDICT_PAUSE},
    {"OptInRequired", VERDICT_PAUSE},
    {"UnknownOperationException", VERDICT_PAUSE},
};

static void timestream_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                             struct judgement *judgement)
{
    judge_by_status(answer, judgement);
    if (answer->fault != TRANSPORT_OK || judgement->verdict == VERDICT_DONE) {
        return;
    }
    struct timestream_error error = {.type = SLICE_LITERAL(""), .is_odd = answer->is_body_cut};
    read_error(answer, &error);
    if (slice_equal(error.type, SLICE_LITERAL("RejectedRecordsException"))) {
        judge_items(encoder, &error, judgement);
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(known_types); i++) {
        if (slice_equal(error.type, text_slice(known_types[i].name))) {
            judgement->verdict = known_types[i].verdict;
        }
    }
}

const struct protocol protocol_timestream = {
    .name = "timestream",
    .kinds = 1u << RECORD_METRIC,
    .records_max = RECORDS_MAX,
    .encoding = timestream_encoding,
    .begin = timestream_begin,
    .add = timestream_add,
    .end = timestream_end,
    .url = timestream_url,
    .method = "POST",
    .content_type = "application/x-amz-json-1.0",
    .headers = timestream_headers,
    .judge = timestream_judge,
};
