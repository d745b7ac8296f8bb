/*
 * run_batch: see run_batch.h.
 *
 *   START -> FIRST -> ELEMENTS -> END
 *
 * What is before the array is passed on the way to FIRST, what is behind it on the way to END. Any
 * refusal leads to STOPPED.
 */
#include "model/run_batch.h"

enum stage {
    STAGE_START = 0,
    STAGE_FIRST,    /* position is after the bracket of the array */
    STAGE_ELEMENTS, /* position is after an element */
    STAGE_END,      /* position is after everything */
    STAGE_STOPPED,
};

void run_batch_open(struct run_batch *batch, struct slice body)
{
    batch->shape = RUN_BATCH_ARRAY;
    batch->stage = STAGE_START;
    batch->index = 0;
    batch->position = 0;
    batch->scan.is_line = false;
    batch->scan.depth = 0;
    json_index_open(&batch->scan.index, body.data, body.bytes, JSON_INDEX_AUTO);
}

static struct slice value_bytes(const struct run_batch *batch, const struct json_value *value)
{
    return (struct slice){batch->scan.index.data + value->start, value->end - value->start};
}

/* Always false. */
static bool stop(struct run_batch *batch, struct issue_list *issues, const struct issue *issue)
{
    batch->stage = STAGE_STOPPED;
    issues->count = 1;
    issues->items[0] = *issue;
    issues->items[0].index = ISSUE_NO_INDEX;
    return false;
}

/* The fault is in the scan. */
static bool stop_malformed(struct run_batch *batch, struct issue_list *issues)
{
    return stop(batch, issues,
                &(struct issue){.type = ISSUE_JSON_INVALID,
                                .text = batch->scan.fault.text,
                                .offset = batch->scan.fault.offset});
}

static bool delimiter_miss(struct run_batch *batch, struct issue_list *issues)
{
    json_scan_fail(&batch->scan, batch->position, "Expecting ',' delimiter");
    return stop_malformed(batch, issues);
}

/* ---- the object around the array ---- */

/* What the members of the object were so far. */
struct members {
    struct json_value runs; /* of a "runs" that is no array; its end is 0: there was none */
    bool is_array;          /* at "runs", whose array begins at the position */
    bool is_repeated;
};

static bool is_runs(const struct run_batch *batch, const struct json_value *key)
{
    uint8_t plain[4];
    struct slice raw = {batch->scan.index.data + key->start + 1,
                        (size_t)(key->end - key->start) - 2};
    size_t bytes = json_unescape(raw, plain, sizeof plain);
    return bytes == sizeof plain &&
           slice_equal((struct slice){plain, bytes}, SLICE_LITERAL("runs"));
}

/* One member at the position, which becomes where its array begins or what follows it. */
static bool member_pass(struct run_batch *batch, bool has_runs, struct members *members)
{
    struct json_scan *scan = &batch->scan;
    struct json_value key;
    struct json_value value;
    if (!json_scan_key(scan, &batch->position, &key)) {
        return false;
    }
    bool is_named = is_runs(batch, &key);
    members->is_array = is_named && !has_runs && json_scan_byte(scan, batch->position) == '[';
    if (members->is_array) {
        return true;
    }
    scan->depth = 1;
    if (!json_scan_value(scan, batch->position, &value)) {
        return false;
    }
    scan->depth = 0;
    members->is_repeated |= is_named && has_runs;
    members->runs = is_named ? value : members->runs;
    batch->position = json_scan_white(scan, value.end);
    return true;
}

/* Members from the position on, until the array or the brace; the position becomes what is behind
 * it. has_runs: the array was there. False: fault. */
static bool members_pass(struct run_batch *batch, bool has_runs, struct members *members)
{
    struct json_scan *scan = &batch->scan;
    bool is_open = true;
    while (is_open) { /* each turn takes a member */
        bool is_known = has_runs || members->runs.end != 0;
        if (!member_pass(batch, is_known, members)) {
            return false;
        }
        if (members->is_array) {
            batch->position++;
            return true;
        }
        uint8_t c = json_scan_byte(scan, batch->position);
        is_open = c == ',';
        if (!is_open && c != '}') {
            return json_scan_fail(scan, batch->position, "Expecting ',' delimiter");
        }
        batch->position =
            is_open ? json_scan_white(scan, batch->position + 1) : batch->position + 1;
    }
    return true;
}

static bool text_ends(struct run_batch *batch)
{
    uint32_t at = json_scan_white(&batch->scan, batch->position);
    batch->position = at;
    return at == batch->scan.index.bytes || json_scan_fail(&batch->scan, at, "Extra data");
}

/* The object that begins at start has ended without an array to go into. */
static bool object_refuse(struct run_batch *batch, uint32_t start, const struct members *members,
                          struct issue_list *issues)
{
    struct json_value whole = {.start = start, .end = batch->position};
    if (!text_ends(batch)) {
        return stop_malformed(batch, issues);
    }
    if (members->is_repeated) {
        return stop(batch, issues,
                    &(struct issue){.type = ISSUE_VALUE_ERROR,
                                    .field = "runs",
                                    .text = "duplicate key",
                                    .input = value_bytes(batch, &members->runs)});
    }
    if (members->runs.end != 0) {
        return stop(batch, issues,
                    &(struct issue){.type = ISSUE_LIST_TYPE,
                                    .field = "runs",
                                    .input = value_bytes(batch, &members->runs)});
    }
    return stop(batch, issues,
                &(struct issue){
                    .type = ISSUE_MISSING, .field = "runs", .input = value_bytes(batch, &whole)});
}

/* ---- the beginning and the end ---- */

/* True: the array is open. */
static bool object_begin(struct run_batch *batch, struct issue_list *issues)
{
    struct members members = {.is_array = false};
    uint32_t start = batch->position;
    batch->shape = RUN_BATCH_OBJECT;
    batch->position = json_scan_white(&batch->scan, start + 1);
    if (json_scan_byte(&batch->scan, batch->position) == '}') {
        batch->position++;
        return object_refuse(batch, start, &members, issues);
    }
    if (!members_pass(batch, false, &members)) {
        return stop_malformed(batch, issues);
    }
    if (!members.is_array) {
        return object_refuse(batch, start, &members, issues);
    }
    batch->stage = STAGE_FIRST;
    return true;
}

static bool other_refuse(struct run_batch *batch, struct issue_list *issues)
{
    struct json_value value;
    if (batch->scan.index.bytes == 0) {
        return stop(batch, issues,
                    &(struct issue){.type = ISSUE_MISSING, .input = SLICE_LITERAL("null")});
    }
    bool is_good = json_scan_value(&batch->scan, batch->position, &value);
    if (is_good) {
        batch->position = value.end;
        is_good = text_ends(batch);
    }
    if (!is_good) {
        return stop_malformed(batch, issues);
    }
    return stop(batch, issues,
                &(struct issue){.type = ISSUE_LIST_TYPE, .input = value_bytes(batch, &value)});
}

/* True: the array is open. */
static bool batch_begin(struct run_batch *batch, struct issue_list *issues)
{
    batch->position = json_scan_white(&batch->scan, 0);
    uint8_t c = json_scan_byte(&batch->scan, batch->position);
    if (c == '{') {
        return object_begin(batch, issues);
    }
    if (c != '[') {
        return other_refuse(batch, issues);
    }
    batch->position++;
    batch->stage = STAGE_FIRST;
    return true;
}

/* After the array. True: so ends the body. */
static bool batch_end(struct run_batch *batch, struct issue_list *issues)
{
    struct json_scan *scan = &batch->scan;
    struct members members = {.is_array = false};
    if (batch->shape == RUN_BATCH_OBJECT) {
        batch->position = json_scan_white(scan, batch->position);
        uint8_t c = json_scan_byte(scan, batch->position);
        if (c != ',' && c != '}') {
            return delimiter_miss(batch, issues);
        }
        batch->position =
            c == ',' ? json_scan_white(scan, batch->position + 1) : batch->position + 1;
        if (c == ',' && !members_pass(batch, true, &members)) {
            return stop_malformed(batch, issues);
        }
    }
    if (members.is_repeated) {
        return object_refuse(batch, 0, &members, issues);
    }
    batch->stage = STAGE_END;
    return text_ends(batch) || stop_malformed(batch, issues);
}

/* The element at or, with its comma, behind the position. */
static bool element_take(struct run_batch *batch, struct slice *element, struct issue_list *issues)
{
    struct json_scan *scan = &batch->scan;
    if (batch->stage == STAGE_ELEMENTS) {
        if (json_scan_byte(scan, batch->position) != ',') {
            return delimiter_miss(batch, issues);
        }
        batch->position = json_scan_white(scan, batch->position + 1);
    }
    struct json_value value;
    if (!json_scan_value(scan, batch->position, &value)) {
        return stop_malformed(batch, issues);
    }
    batch->stage = STAGE_ELEMENTS;
    batch->position = value.end;
    *element = value_bytes(batch, &value);
    return true;
}

enum run_batch_result run_batch_next(struct run_batch *batch, struct slice *element,
                                     uint32_t *index, struct issue_list *issues)
{
    issues->count = 0;
    ASSERT(batch->stage != STAGE_STOPPED);
    if (batch->stage == STAGE_START && !batch_begin(batch, issues)) {
        return RUN_BATCH_INVALID;
    }
    if (batch->stage == STAGE_END) {
        return RUN_BATCH_END;
    }
    batch->position = json_scan_white(&batch->scan, batch->position);
    if (json_scan_byte(&batch->scan, batch->position) == ']') {
        batch->position++;
        return batch_end(batch, issues) ? RUN_BATCH_END : RUN_BATCH_INVALID;
    }
    *index = batch->index;
    if (!element_take(batch, element, issues)) {
        return RUN_BATCH_INVALID;
    }
    batch->index++;
    return RUN_BATCH_ELEMENT;
}

void run_batch_locate(const struct run_batch *batch, struct issue_list *issues)
{
    for (uint32_t i = 0; i < issues->count; i++) {
        struct issue *issue = &issues->items[i];
        issue->container = batch->shape == RUN_BATCH_OBJECT ? "runs" : NULL;
    }
}
