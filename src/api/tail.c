/*
 * tail: the worker's side. tail_begin, tail_step: from the log to messages; tail_on_message: from a
 * client's message to another filter. Fails only where the log cannot be read (close 1011).
 */
#include "api/tail.h"

#include <stdio.h>
#include <string.h>

#include "api/query_string.h"
#include "core/buf.h"
#include "core/logline.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "store/store.h"

/* A client that sends without reading is owed no more answers than this. */
#define OUT_BYTES_MAX (1024u * 1024u)

struct tail_reader {
    struct json_scan scan;
    struct query_params params;
    uint8_t text[WEBSOCKET_MESSAGE_MAX];      /* one string of it, escapes undone */
    uint8_t query[4 * WEBSOCKET_MESSAGE_MAX]; /* as the query string it could have been */
    uint8_t fault[QUERY_FAULT_BYTES_MAX + 64];
};

static void say(struct query_job *job, const char *text)
{
    query_text_put_message(&job->run.out, (struct slice){(const uint8_t *)text, strlen(text)});
}

static void say_gap(struct query_job *job, uint64_t from_lsn, uint64_t to_lsn)
{
    char text[128];
    (void)snprintf(text, sizeof text, "{\"type\":\"gap\",\"from_lsn\":%llu,\"to_lsn\":%llu}",
                   (unsigned long long)from_lsn, (unsigned long long)to_lsn);
    say(job, text);
    /* relaxed: a statistic. */
    atomic_fetch_add_explicit(&job->run.source->counts->gaps, 1, memory_order_relaxed);
}

/* ---- records ---- */

static bool tail_on_take(void *context, const struct scan_record *found)
{
    struct query_job *job = context;
    query_message_record(&job->run.out, found);
    job->run.records++;
    return job->run.out.bytes < QUERY_STEP_BYTES;
}

static void tail_go_on(struct query_job *job, uint64_t lsn)
{
    query_job_scan(job, tail_on_take, lsn, UINT64_MAX, false);
    job->run.is_waiting = false;
}

void tail_begin(struct query_job *job)
{
    tail_go_on(job, job->start_lsn);
}

/* What the tail will not see any more is said before what it sees next. */
static void tail_skip(struct query_job *job, uint64_t durable_lsn)
{
    struct query_run *run = &job->run;
    uint64_t lsn = scan_position(run->scan);
    /* relaxed: expiry is never sudden enough for an old value to matter: the scan itself begins at
     * the oldest record there is. */
    uint64_t first_lsn =
        atomic_load_explicit(&run->source->status->first_lsn, memory_order_relaxed);
    bool is_late =
        run->is_live && run->was_blocked && lsn <= durable_lsn && durable_lsn - lsn >= TAIL_LAG_MAX;
    run->was_blocked = false;
    if (is_late) {
        say_gap(job, lsn, durable_lsn);
        tail_go_on(job, durable_lsn + 1);
    } else if (lsn < first_lsn) {
        say_gap(job, lsn, first_lsn - 1);
        tail_go_on(job, first_lsn);
    }
}

static void tail_on_fault(struct query_job *job, int result, const struct err *err)
{
    char text[64];
    if (result == ERR_CORRUPT) {
        (void)snprintf(text, sizeof text, "{\"type\":\"damaged\",\"lsn\":%llu}",
                       (unsigned long long)scan_position(job->run.scan));
        say(job, text);
        return;
    }
    LOG(LOGLINE_ERROR, "tail_failed", "%s", err->text);
    query_job_finish(job, WEBSOCKET_INTERNAL);
}

bool tail_step(struct query_job *job)
{
    struct query_run *run = &job->run;
    struct err err = {0};
    /* W1 (acquire end): everything up to it can be read. */
    uint64_t durable_lsn =
        atomic_load_explicit(&run->source->status->durable_lsn, memory_order_acquire);
    tail_skip(job, durable_lsn);
    if (run->is_waiting && durable_lsn == run->seen_lsn) {
        return run->out.bytes != 0; /* an answer to a message */
    }
    /* The scan may see more than this; then the next look finds the difference. */
    run->seen_lsn = durable_lsn;
    int result = query_job_scan_step(job, &err);
    if (result < 0) {
        tail_on_fault(job, result, &err);
    }
    bool is_at_end = result == SCAN_END;
    /* An end before what is durable: readers do not have the file yet (the first moments of a fresh
     * data directory). It is looked for again, if not at once. */
    run->is_waiting = is_at_end && scan_position(run->scan) > durable_lsn;
    run->is_live = run->is_live || run->is_waiting;
    return !is_at_end || run->is_waiting || run->out.bytes != 0;
}

/* ---- messages ---- */

struct tail_reader *tail_reader_new(void)
{
    return mem_alloc(sizeof(struct tail_reader));
}

void tail_reader_free(struct tail_reader *reader)
{
    mem_free(reader);
}

static void put_encoded(struct buf *query, struct slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (is_plain) {
            buf_put_char(query, (char)c);
        } else {
            buf_put_char(query, '%');
            buf_put_char(query, digits[c >> 4]);
            buf_put_char(query, digits[c & 15]);
        }
    }
}

/* A string as it was meant, anything else as it is spelled. */
static struct slice value_text(struct tail_reader *reader, const struct json_value *value)
{
    struct slice raw = {reader->scan.index.data + value->start, value->end - value->start};
    if (value->kind != JSON_STRING) {
        return raw;
    }
    raw = (struct slice){raw.data + 1, raw.bytes - 2};
    if (!value->has_escape) {
        return raw;
    }
    size_t bytes = json_unescape(raw, reader->text, sizeof reader->text);
    return (struct slice){reader->text, u64_min(bytes, sizeof reader->text)};
}

static void put_parameter(struct tail_reader *reader, struct buf *query, struct slice key,
                          const struct json_value *value)
{
    if (value->kind == JSON_NULL) {
        return; /* not asked */
    }
    put_encoded(query, key);
    buf_put_char(query, '=');
    put_encoded(query, value_text(reader, value));
    buf_put_char(query, '&');
}

struct message {
    bool is_ping;
    bool is_subscribe;
};

/* The member whose key begins at *at; *at becomes where it ends. */
static bool read_member(struct tail_reader *reader, uint32_t *at, struct message *message,
                        struct buf *query)
{
    struct json_scan *scan = &reader->scan;
    struct json_value key;
    struct json_value value;
    if (!json_scan_key(scan, at, &key) || !json_scan_value(scan, *at, &value)) {
        return false;
    }
    *at = value.end;
    struct slice name = {scan->index.data + key.start + 1, key.end - key.start - 2};
    if (slice_equal(name, SLICE_LITERAL("type"))) {
        struct slice type = value_text(reader, &value);
        message->is_ping = slice_equal(type, SLICE_LITERAL("ping"));
        message->is_subscribe = slice_equal(type, SLICE_LITERAL("subscribe"));
        return true;
    }
    put_parameter(reader, query, name, &value);
    return true;
}

/* text is valid JSON. False: no object. */
static bool read_message(struct tail_reader *reader, struct slice text, struct message *message,
                         struct buf *query)
{
    struct json_scan *scan = &reader->scan;
    scan->fault = (struct json_fault){0};
    scan->is_line = false;
    scan->depth = 0;
    json_index_open(&scan->index, text.data, text.bytes, JSON_INDEX_AUTO);
    uint32_t at = json_scan_white(scan, 0);
    if (json_scan_byte(scan, at) != '{') {
        return false;
    }
    at = json_scan_white(scan, at + 1);
    while (json_scan_byte(scan, at) == '"') { /* bound: the text */
        if (!read_member(reader, &at, message, query)) {
            return false;
        }
        at = json_scan_white(scan, at);
        at = json_scan_byte(scan, at) == ',' ? json_scan_white(scan, at + 1) : at;
    }
    return true;
}

/* {"detail":...} becomes {"type":"error","detail":...}. */
static void say_fault(struct query_job *job, const struct buf *fault)
{
    struct query_text message = {0};
    query_text_put(&message, SLICE_LITERAL("{\"type\":\"error\","));
    query_text_put(&message, (struct slice){fault->data + 1, fault->bytes - 1});
    query_text_put_message(&job->run.out, (struct slice){message.data, message.bytes});
    query_text_free(&message);
}

static void tail_subscribe(struct query_job *job, struct slice query, int64_t real_ns)
{
    struct tail_reader *reader = job->run.source->reader;
    struct buf fault;
    buf_init(&fault, reader->fault, sizeof reader->fault);
    /* Tried elsewhere first: a subscription that will not do leaves the one before in force. */
    if (query_params_parse(&reader->params, ROUTE_TAIL, query, real_ns, &fault) < 0 ||
        query_params_parse(&job->params, ROUTE_TAIL, query, real_ns, &fault) < 0) {
        say_fault(job, &fault);
        return;
    }
    uint64_t lsn = job->params.from_lsn;
    job->run.is_live = job->run.is_live && lsn == 0;
    lsn = lsn == 0 ? scan_position(job->run.scan) : lsn;
    tail_go_on(job, lsn);
    char text[80];
    (void)snprintf(text, sizeof text, "{\"type\":\"subscribed\",\"from_lsn\":%llu}",
                   (unsigned long long)lsn);
    say(job, text);
}

void tail_on_message(struct query_job *job, struct slice text, int64_t real_ns)
{
    struct tail_reader *reader = job->run.source->reader;
    struct message message = {0};
    struct buf query;
    uint64_t offset = 0;
    const char *why = "";
    if (job->run.is_finished) {
        return;
    }
    buf_init(&query, reader->query, sizeof reader->query);
    if (job->run.out.bytes - job->run.out_at > OUT_BYTES_MAX) {
        query_job_finish(job, TAIL_TRY_AGAIN_LATER);
    } else if (json_validate(text.data, text.bytes, &offset, &why) < 0 ||
               !read_message(reader, text, &message, &query) || query.is_truncated) {
        say(job, "{\"type\":\"error\",\"detail\":\"A message is one JSON object\"}");
    } else if (message.is_ping) {
        say(job, "{\"type\":\"pong\"}");
    } else if (message.is_subscribe) {
        tail_subscribe(job, (struct slice){query.data, query.bytes}, real_ns);
    } else {
        say(job, "{\"type\":\"error\",\"detail\":\"type is one of: subscribe, ping\"}");
    }
}
