/*
 * protocol_influx: metrics in the line protocol, to InfluxDB 1.x and VictoriaMetrics (POST /write). Pure.
 *
 *   MEASUREMENT,TAG=VALUE,... value=DIGITS NANOSECONDS\n
 *
 * measurement = the metric's name; tags = service, unit and the record's own, sorted; the value in the client's own
 * digits. The same series and time written again is the same point, so a repeat changes nothing.
 *
 * Escaping is the part that the two servers agree on: a backslash before comma and space, in tags also before '='. They
 * do not agree on the backslash itself (VictoriaMetrics undoes a doubled one, InfluxDB 1.x does not, and before a delimiter or at
 * the end it swallows the delimiter), and neither can say a control character or a measurement that begins
 * with '#', which is a comment: VictoriaMetrics answers 204 and skips such a line. So what cannot be said is refused
 * here, with a text, instead of being lost there.
 */
#include "forward/protocol_table.h"

#include <stdio.h>
#include <string.h>

#include "forward/judge.h"
#include "forward/judge.h"
#include "forward/metric_fields.h"
#include "forward/target_url.h"

/* VictoriaMetrics cuts longer ones without a word (maxLabelValueLen). */
#define INFLUX_TEXT_BYTES_MAX 16384u
/* Longer lines are refused there with all of their request (influx.maxLineSize). */
#define INFLUX_LINE_BYTES_MAX 262144u

static void influx_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "influx/lines/1");
}

static void influx_begin(struct encoder *encoder)
{
    (void)encoder;
}

static bool influx_is_reserved(struct slice key)
{
    return slice_equal(key, SLICE_LITERAL("time")) || slice_equal(key, SLICE_LITERAL("_field")) ||
           slice_equal(key, SLICE_LITERAL("_measurement"));
}

/* NULL, or why this text cannot be said. */
static const char *influx_fault(struct slice text)
{
    if (text.bytes > INFLUX_TEXT_BYTES_MAX) {
        return "longer than 16384 bytes";
    }
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        uint8_t next = i + 1 < text.bytes ? text.data[i + 1] : 0;
        if (c < ' ' || c == 0x7f) {
            return "with a control character, which the line protocol cannot say";
        }
        if (c == '\\' && (next == 0 || strchr("\\,= ", next) != NULL)) {
            return "with a backslash before a delimiter, another one or the end, which the line "
                   "protocol cannot say";
        }
    }
    return NULL;
}

static int influx_check(const char *what, struct slice text, struct err *err)
{
    const char *fault = influx_fault(text);
    if (fault == NULL) {
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "%s '%.*s' %s", what, (int)u64_min(text.bytes, 100),
                   (const char *)text.data, fault);
}

static int influx_check_all(const struct metric_fields *fields, struct err *err)
{
    int r = influx_check("the name", fields->name, err);
    if (r == 0 && fields->name.data[0] == '#') {
        return err_set(err, ERR_UNSUPPORTED,
                       "a name that begins with '#' is a comment in the line protocol");
    }
    for (unsigned i = 0; r == 0 && i < fields->label_count; i++) {
        r = influx_check("the tag key", fields->labels[i].key, err);
        r = r < 0 ? r : influx_check("the tag value", fields->labels[i].value, err);
    }
    return r;
}

static void influx_put(struct body *body, struct slice text, const char *specials)
{
    size_t from = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (strchr(specials, text.data[i]) != NULL) {
            body_put(body, text.data + from, i - from);
            body_put(body, "\\", 1);
            from = i;
        }
    }
    body_put(body, text.data + from, text.bytes - from);
}

static int influx_add(struct encoder *encoder, const struct forward_record *record, struct err *err)
{
    struct body *body = &encoder->body;
    size_t begin = body->bytes;
    struct metric_fields fields;
    int r = metric_fields_read(&fields, record->record.payload, influx_is_reserved, err);
    r = r < 0 ? r : metric_fields_sort(&fields, err);
    r = r < 0 ? r : influx_check_all(&fields, err);
    if (r < 0) {
        return r;
    }
    influx_put(body, fields.name, ", ");
    for (unsigned i = 0; i < fields.label_count; i++) {
        body_put(body, ",", 1);
        influx_put(body, fields.labels[i].key, ",= ");
        body_put(body, "=", 1);
        influx_put(body, fields.labels[i].value, ",= ");
    }
    body_put_text(body, " value=");
    body_put_slice(body, fields.value);
    body_put(body, " ", 1);
    body_put_i64(body, record->record.event_time_ns);
    body_put(body, "\n", 1);
    if (body->bytes - begin > INFLUX_LINE_BYTES_MAX) {
        return err_set(err, ERR_UNSUPPORTED,
                       "a line of %zu bytes: the line protocol's servers take %u",
                       body->bytes - begin, INFLUX_LINE_BYTES_MAX);
    }
    return 0;
}

static void influx_end(struct encoder *encoder)
{
    (void)encoder;
}

static void influx_url(const struct encoder *encoder, char *out)
{
    const struct config_sink *sink = encoder->sink;
    struct slice database = {(const uint8_t *)sink->database, strlen(sink->database)};
    struct buf url;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    target_url_put(&url, sink->url, "/write");
    if (database.bytes > 0) {
        target_url_put_parameter(&url, "db", database);
    }
    target_url_put_parameter(&url, "precision", SLICE_LITERAL("ns"));
    out[url.is_truncated ? 0 : url.bytes] = 0; /* a cut one would mean something else */
}

/* 204 is success. InfluxDB says with 200 that it understood and could not finish. A partial write (400) leaves the good
 * points written: written again they are the same points, so halving finds the bad ones. */
static void influx_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                         struct judgement *judgement)
{
    (void)encoder;
    judge_by_status(answer, judgement);
    bool has_error = answer->body.bytes > 0 &&
                     memmem(answer->body.data, answer->body.bytes, "\"error\"", 7) != NULL;
    if (judgement->verdict == VERDICT_DONE && answer->status == 200 && has_error) {
        judge_as(answer, VERDICT_RETRY, judgement);
    }
}

const struct protocol protocol_influx = {
    .name = "influx",
    .kinds = 1u << RECORD_METRIC,
    .encoding = influx_encoding,
    .begin = influx_begin,
    .add = influx_add,
    .end = influx_end,
    .url = influx_url,
    .method = "POST",
    .content_type = "text/plain; charset=utf-8",
    .judge = influx_judge,
};
