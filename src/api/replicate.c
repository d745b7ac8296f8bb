/*
 * replicate: see replicate.h. One walk over the lines, encoding into the claim as ingest does; the
 * range of a run is written into its first record when the run ends, still inside the claim.
 */
#include "api/replicate.h"

#include <string.h>

#include "api/answer.h"
#include "api/ingest_request.h"
#include "api/shard.h"
#include "model/envelope.h"
#include "store/lineage.h"
#include "store/origins.h"

struct replicate {
    struct ingest ingest;
    struct ulid node;
    bool has_range;
    uint64_t range_first;
    uint64_t range_last;
    uint32_t kinds; /* bit (1 << kind): what the request may hold and its ranges speak for */

    uint32_t line_count;    /* not blank, so far */
    uint64_t lsn;           /* of the line before; 0: none */
    uint64_t settled_after; /* a run may begin behind this LSN */
    uint8_t *run_meta;      /* in the claim: META_ORIGIN of the run's first record; NULL: no run */
    struct origin run;
    uint32_t run_count;
    struct first_origin passed; /* of the last record that had one; lsn 0: none */
    uint32_t passed_count;      /* of those that do not follow the one before */
    struct issue_list issues;
};

enum line_result {
    LINE_TAKEN = 0, /* or rejected alone */
    LINE_INVALID,   /* so is the request: issues says why */
    LINE_NO_ROOM,
};

/* 0: this version knows no such kind. */
static enum record_kind kind_of(struct slice name)
{
    enum record_kind kind = RECORD_KIND_MAX;
    for (; kind != 0; kind--) {
        const char *known = record_kind_name(kind);
        if (known != NULL &&
            slice_equal(name, (struct slice){(const uint8_t *)known, strlen(known)})) {
            break;
        }
    }
    return kind;
}

/* ---- head ---- */

static bool read_range(struct replicate *replicate, struct slice text)
{
    const uint8_t *dash = memchr(text.data, '-', text.bytes);
    if (dash == NULL) {
        return false;
    }
    struct slice first = {text.data, (size_t)(dash - text.data)};
    struct slice last = {dash + 1, text.bytes - first.bytes - 1};
    return envelope_parse_lsn(&replicate->range_first, first) &&
           envelope_parse_lsn(&replicate->range_last, last) &&
           replicate->range_first <= replicate->range_last;
}

/* Names that we do not know are passed over: records of such kinds are rejected anyway. */
static uint32_t read_kinds(struct slice text)
{
    uint32_t kinds = 0;
    for (size_t at = 0; at < text.bytes;) { /* on by a name and its comma */
        const uint8_t *comma = memchr(text.data + at, ',', text.bytes - at);
        size_t end = comma == NULL ? text.bytes : (size_t)(comma - text.data);
        enum record_kind kind = kind_of((struct slice){text.data + at, end - at});
        kinds |= kind == 0 ? 0 : 1u << kind;
        at = end + 1;
    }
    return kinds;
}

/* NULL, or why the request is refused. */
static const char *read_head(struct replicate *replicate)
{
    const struct http_request *request = replicate->ingest.request;
    struct slice node = http_head_field(request->head, request->head_base, "Sluice-Node");
    struct slice range = http_head_field(request->head, request->head_base, "Sluice-Range");
    struct slice kinds = http_head_field(request->head, request->head_base, "Sluice-Kinds");
    if (node.data == NULL || ulid_parse(&replicate->node, node) < 0) {
        return "Sluice-Node must be the ULID of the node that sends";
    }
    /* Of what went out under an older name each record is judged by itself: it may have been lost here since. */
    struct ulid ours = lineage_current(store_lineage(replicate->ingest.shard->set->store));
    if (memcmp(&ours, &replicate->node, sizeof ours) == 0) {
        return "Sluice-Node is this node itself: its records would go round in a loop";
    }
    replicate->has_range = range.data != NULL;
    if (replicate->has_range && !read_range(replicate, range)) {
        return "Sluice-Range must be FIRST-LAST, two LSNs of at least 1, the first not the larger";
    }
    replicate->settled_after = replicate->has_range ? replicate->range_first - 1 : 0;
    replicate->kinds = kinds.data == NULL ? ORIGIN_ALL_KINDS : read_kinds(kinds);
    return NULL;
}

/* ---- runs ---- */

/* LSNs up to last are spoken for. */
static void end_run(struct replicate *replicate, uint64_t last)
{
    if (replicate->run_meta != NULL) {
        replicate->run.range_last = last;
        (void)meta_origin_encode(replicate->run_meta, &replicate->run);
    }
    replicate->run_meta = NULL;
    replicate->settled_after = last;
}

/* Without a range nothing is said of LSNs that are not carried. */
static void end_run_at_gap(struct replicate *replicate, uint64_t lsn)
{
    if (!replicate->has_range && lsn != replicate->lsn + 1) {
        end_run(replicate, replicate->lsn);
        replicate->settled_after = lsn - 1;
    }
}

/* ---- one line ---- */

static enum line_result invalid(struct replicate *replicate, const char *text)
{
    replicate->issues.count = 1;
    replicate->issues.items[0] =
        (struct issue){.type = ISSUE_VALUE_ERROR, .index = replicate->line_count, .text = text};
    return LINE_INVALID;
}

/* The record's LSN is not settled: what the range speaks for ends before it and goes on behind. */
static enum line_result reject(struct replicate *replicate, uint64_t lsn)
{
    struct body_record record = {.index = replicate->line_count};
    for (uint32_t i = 0; i < replicate->issues.count; i++) {
        replicate->issues.items[i].index = replicate->line_count;
    }
    ingest_list_error(&replicate->ingest, &record, &replicate->issues);
    end_run(replicate, lsn - 1);
    replicate->settled_after = lsn;
    return LINE_TAKEN;
}

static bool has_schema(enum record_kind kind)
{
    return kind == RECORD_LOG || kind == RECORD_METRIC || kind == RECORD_EVENT;
}

static enum body_schema schema_of(enum record_kind kind)
{
    return kind == RECORD_LOG ? SCHEMA_LOG : kind == RECORD_METRIC ? SCHEMA_METRIC : SCHEMA_EVENT;
}

static bool judge_issue(struct replicate *replicate, struct issue issue)
{
    replicate->issues.count = 1;
    replicate->issues.items[0] = issue;
    return false;
}

/* What no schema says anything of: an object, whose JSON the envelope has judged. */
static bool judge_object(struct replicate *replicate, const struct envelope *envelope,
                         struct body_record *record)
{
    *record = (struct body_record){.index = replicate->line_count,
                                   .severity = envelope->severity,
                                   .event_time_ns = envelope->received_at_ns,
                                   .payload = envelope->record};
    return envelope->record.data[0] == '{' ||
           judge_issue(replicate, (struct issue){.type = ISSUE_DICT_TYPE,
                                                 .field = "record",
                                                 .input = envelope->record});
}

/* Judges the record by its kind. False: issues says why not. */
static bool judge(struct replicate *replicate, const struct envelope *envelope,
                  enum record_kind kind, struct body_record *record)
{
    replicate->issues.count = 0;
    if (kind == 0) {
        return judge_issue(
            replicate,
            (struct issue){.type = ISSUE_ENUM,
                           .field = "kind",
                           .text = "Input should be 'log', 'metric', 'event', 'run' or 'gpu': this "
                                   "version knows no other kinds",
                           .input = {envelope->kind.data - 1, envelope->kind.bytes + 2}});
    }
    if (envelope->has_origin && envelope->origin.via_count > ENVELOPE_VIA_MAX) {
        return judge_issue(replicate, (struct issue){.type = ISSUE_VALUE_ERROR,
                                                     .field = "origin",
                                                     .text = "it has passed more than 16 nodes"});
    }
    if (!has_schema(kind)) {
        return judge_object(replicate, envelope, record);
    }
    struct body *body = replicate->ingest.shard->body;
    body_open(body, schema_of(kind), SHAPE_NDJSON, envelope->record.data, envelope->record.bytes,
              envelope->received_at_ns);
    return body_next(body, record, &replicate->issues) == BODY_RECORD;
}

static void count(struct ingest *ingest, const struct record *record)
{
    struct submit_header *header = &ingest->header;
    int64_t time_ns = record->event_time_ns;
    bool is_first = header->record_count == 0;
    header->time_min_ns = is_first || time_ns < header->time_min_ns ? time_ns : header->time_min_ns;
    header->time_max_ns = is_first || time_ns > header->time_max_ns ? time_ns : header->time_max_ns;
    ingest->kinds |= 1u << record->kind;
    header->record_count++;
}

/* META_ORIGIN, and META_FIRST where the sender has it from others. Returns the bytes. */
static size_t put_meta(uint8_t *to, const struct envelope *envelope, const struct origin *origin)
{
    size_t bytes = meta_origin_encode(to, origin);
    if (envelope->has_origin) {
        const struct envelope_origin *from = &envelope->origin;
        struct first_origin first = {
            .node = from->node, .lsn = from->lsn, .via_count = from->via_count};
        memcpy(first.via, from->via, from->via_count * sizeof *first.via);
        bytes += meta_first_encode(to + bytes, &first);
    }
    return bytes;
}

/* What the writer will have to remember of it. */
static void count_passed(struct replicate *replicate, const struct envelope *envelope)
{
    if (envelope->has_origin) {
        const struct envelope_origin *from = &envelope->origin;
        struct first_origin *before = &replicate->passed;
        bool follows = before->lsn != 0 && from->lsn == before->lsn + 1 &&
                       memcmp(&from->node, &before->node, sizeof from->node) == 0;
        replicate->passed_count += follows ? 0 : 1;
        before->node = from->node;
        before->lsn = from->lsn;
    }
}

/* Encodes the record into the claim; the first of a run will tell its range. */
static enum line_result add(struct replicate *replicate, const struct envelope *envelope,
                            enum record_kind kind, const struct body_record *from)
{
    struct ingest *ingest = &replicate->ingest;
    uint8_t meta[META_ORIGIN_BYTES + META_FIRST_BYTES_MAX];
    struct origin origin = {.node = replicate->node, .lsn = envelope->lsn};
    size_t meta_bytes = put_meta(meta, envelope, &origin);
    struct record record = {.kind = kind,
                            .severity = from->severity,
                            .event_time_ns = envelope->has_event_time ? envelope->event_time_ns
                                                                      : from->event_time_ns,
                            .id = envelope->id,
                            .meta = {meta, meta_bytes},
                            .payload = from->payload};
    if (record_padded_bytes(meta_bytes, record.payload.bytes) > ingest->room - ingest->used) {
        ingest->is_out_of_room = true;
        return LINE_NO_ROOM;
    }
    if (replicate->run_meta == NULL) {
        replicate->run_meta = ingest->claim + ingest->used + RECORD_HEADER_BYTES;
        replicate->run = origin;
        replicate->run.range_first = replicate->settled_after + 1;
        replicate->run.range_kinds = replicate->kinds;
        replicate->run_count++;
    }
    ingest->used += record_encode(ingest->claim + ingest->used, &record);
    count(ingest, &record);
    count_passed(replicate, envelope);
    return LINE_TAKEN;
}

static enum line_result take_line(struct replicate *replicate, struct slice line)
{
    struct envelope envelope;
    const char *fault = envelope_parse(&envelope, line);
    if (fault != NULL) {
        return invalid(replicate, fault);
    }
    if (envelope.lsn <= replicate->lsn) {
        return invalid(replicate, "lsn must ascend from line to line");
    }
    if (replicate->has_range &&
        (envelope.lsn < replicate->range_first || envelope.lsn > replicate->range_last)) {
        return invalid(replicate, "lsn lies outside Sluice-Range");
    }
    enum record_kind kind = kind_of(envelope.kind);
    if (kind != 0 && (replicate->kinds & 1u << kind) == 0) {
        return invalid(replicate, "kind is none of Sluice-Kinds");
    }
    end_run_at_gap(replicate, envelope.lsn);
    replicate->lsn = envelope.lsn;
    struct body_record record;
    return judge(replicate, &envelope, kind, &record) ? add(replicate, &envelope, kind, &record)
                                                      : reject(replicate, envelope.lsn);
}

static bool is_blank(struct slice line)
{
    size_t i = 0;
    while (i < line.bytes &&
           (line.data[i] == ' ' || line.data[i] == '\t' || line.data[i] == '\r')) {
        i++;
    }
    return i == line.bytes;
}

static enum line_result walk(struct replicate *replicate)
{
    struct slice body = replicate->ingest.request->body;
    enum line_result result = LINE_TAKEN;
    size_t at = 0;
    while (result == LINE_TAKEN && at < body.bytes) { /* on by a line at least */
        const uint8_t *from = body.data + at;
        const uint8_t *feed = memchr(from, '\n', body.bytes - at);
        struct slice line = {from, feed == NULL ? body.bytes - at : (size_t)(feed - from)};
        at += line.bytes + 1;
        if (!is_blank(line)) {
            result = take_line(replicate, line);
            replicate->line_count++;
        }
    }
    end_run(replicate, replicate->has_range ? replicate->range_last : replicate->lsn);
    return result;
}

/* ---- the request ---- */

/* Nothing of it has to be stored: it was empty, or all was rejected. */
static enum http_verdict answer_nothing(struct replicate *replicate)
{
    struct ingest *ingest = &replicate->ingest;
    if (ingest->request->deferred_count != 0) {
        return HTTP_LATER;
    }
    struct counters *counters = &ingest->shard->counters;
    counters->requests_received++;
    counters->requests_accepted++;
    counters->received += ingest->rejected;
    counters->rejected[REJECT_SCHEMA] += ingest->rejected;
    /* The listed errors lie behind this part of the scratch memory, and are closed in place. */
    struct buf body;
    buf_init(&body, ingest->shard->scratch, INGEST_SCRATCH_ANSWER);
    buf_printf(&body, "{\"status\":\"accepted\",\"accepted\":0,\"duplicates\":0,\"rejected\":%u,",
               ingest->rejected);
    buf_put_text(&body, "\"first_lsn\":null,\"last_lsn\":null,\"errors\":[");
    buf_put_slice(&body, (struct slice){ingest->errors.data, ingest->errors.bytes});
    buf_put_text(&body, "]}");
    struct http_answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .body = {body.data, body.bytes}};
    return ingest_answer(ingest, &answer);
}

static enum http_verdict settle(struct replicate *replicate, enum line_result result)
{
    struct ingest *ingest = &replicate->ingest;
    if (result == LINE_INVALID) {
        return ingest_reject(ingest, &replicate->issues);
    }
    if (result == LINE_NO_ROOM) {
        return ingest_no_room(ingest);
    }
    if (u64_max(replicate->run_count, replicate->passed_count) > SUBMIT_ORIGIN_RUNS_MAX) {
        return ingest_refuse(ingest, 413,
                             "Too many LSNs of this request were rejected or left out between "
                             "others; send fewer per request");
    }
    if (ingest->header.record_count == 0) {
        return answer_nothing(replicate);
    }
    ingest->header.flags = SUBMIT_ORIGIN;
    ingest->form = FORM_NDJSON;
    return ingest_commit(ingest);
}

enum http_verdict replicate_on_request(struct shard *shard, const struct http_request *request)
{
    struct replicate replicate;
    memset(&replicate, 0, sizeof replicate);
    struct ingest *ingest = &replicate.ingest;
    ingest->shard = shard;
    ingest->request = request;
    const char *refusal = read_head(&replicate);
    if (refusal != NULL) {
        return ingest_refuse(ingest, 422, refusal);
    }
    int admitted = ingest_admit(ingest);
    if (admitted != 0) {
        return (enum http_verdict)admitted;
    }
    ingest_reset(ingest);
    ingest_open_claim(ingest);
    return ingest->claim == NULL ? ingest_no_room(ingest) : settle(&replicate, walk(&replicate));
}
