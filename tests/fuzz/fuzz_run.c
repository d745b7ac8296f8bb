/*
 * fuzz_run: the first byte chooses what the rest is: a command for run_read, a batch for
 * run_batch, or a repository and a hash for the URLs. What must hold for any bytes:
 *
 * run_read: what is taken is valid JSON, its texts are without NUL and lie in the object or the
 * scratch, its integers are not negative, it has what the command needs, and printed again it reads
 * the same. What is refused says why in valid JSON.
 * run_batch: yields what a plain walk of the validated body finds, or refuses the body.
 * URLs: begin with https://, have a host, no white space, control character or backslash.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/buf.h"
#include "core/mem.h"
#include "model/json_scan.h"
#include "model/run.h"
#include "model/run_batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define INPUT_BYTES_MAX 65536u

static uint8_t text[8 * INPUT_BYTES_MAX];
static uint8_t scratch[2][8 * INPUT_BYTES_MAX];

static void issues_check(const struct issue_list *issues)
{
    static uint8_t room[65536];
    struct buf out;
    uint64_t offset;
    const char *why;
    ASSERT(issues->count > 0 && issues->count <= ISSUES_PER_RECORD_MAX);
    buf_init(&out, room, sizeof room);
    issue_list_write(&out, "body", issues);
    ASSERT(!out.is_truncated);
    /* The input of an issue may be as deep as it is allowed to be, and is two deeper there. */
    if (json_validate(out.data, out.bytes, &offset, &why) != 0) {
        ASSERT(strstr(why, "deeper") != NULL);
    }
}

static bool is_inside(struct slice part, struct slice whole)
{
    return part.data >= whole.data && part.data + part.bytes <= whole.data + whole.bytes;
}

static void value_check(const struct run_value *value, struct slice object)
{
    struct slice work = {scratch[0], object.bytes};
    uint64_t offset;
    const char *why;
    ASSERT(value->type != RUN_INTEGER || value->integer >= 0);
    if (value->type == RUN_TEXT) {
        /* A status is the model's own text. */
        ASSERT(is_inside(value->text, object) || is_inside(value->text, work) ||
               slice_equal(run_status_normalise(value->text), value->text));
        ASSERT(value->text.bytes == 0 || memchr(value->text.data, 0, value->text.bytes) == NULL);
    } else if (value->type == RUN_JSON) {
        ASSERT(is_inside(value->text, object));
        ASSERT(json_validate(value->text.data, value->text.bytes, &offset, &why) == 0);
    }
}

static void value_print(struct buf *out, const struct run_value *value)
{
    switch (value->type) {
    case RUN_TEXT:
        buf_put_json_string(out, value->text);
        return;
    case RUN_INTEGER:
        buf_put_i64(out, value->integer);
        return;
    case RUN_JSON:
        buf_put_slice(out, value->text);
        return;
    case RUN_NULL:
    case RUN_ABSENT:
        buf_put_text(out, "{}"); /* in an update, null says something else */
        return;
    }
}

static bool is_object_field(enum run_field field)
{
    return field == RUN_METRICS_JSON || field == RUN_CONTEXT_JSON || field == RUN_EVENT_PAYLOAD;
}

static struct slice fields_print(const struct run_fields *fields)
{
    struct buf out;
    buf_init(&out, text, sizeof text);
    for (unsigned i = 0; i < fields->count; i++) {
        enum run_field field = (enum run_field)fields->order[i];
        const struct run_value *value = &fields->values[field];
        buf_printf(&out, "%c\"%s\":", i == 0 ? '{' : ',', run_field_name(field));
        if (value->type == RUN_NULL && !is_object_field(field)) {
            buf_put_text(&out, "null");
        } else {
            value_print(&out, value);
        }
    }
    buf_put_text(&out, fields->count == 0 ? "{}" : "}");
    ASSERT(!out.is_truncated);
    return (struct slice){out.data, out.bytes};
}

static void same_check(const struct run_fields *a, const struct run_fields *b)
{
    ASSERT(a->count == b->count);
    ASSERT(memcmp(a->order, b->order, a->count) == 0);
    for (unsigned i = 0; i < RUN_FIELD_COUNT; i++) {
        ASSERT(a->values[i].type == b->values[i].type);
        ASSERT(a->values[i].integer == b->values[i].integer);
        ASSERT(slice_equal(a->values[i].text, b->values[i].text));
    }
}

static void command_check(enum run_command command, struct slice object)
{
    static struct run_fields fields, again;
    static struct run_judgement judgement, judgement_again;
    run_read(&fields, &judgement, command, object, scratch[0], ISSUE_NO_INDEX);
    uint64_t offset;
    const char *why;
    bool is_json = json_validate(object.data, object.bytes, &offset, &why) == 0;
    if (judgement.judged == RUN_BAD_SHAPE) {
        issues_check(&judgement.issues);
        return;
    }
    ASSERT(is_json && judgement.issues.count == 0);
    if (judgement.judged == RUN_NEGATIVE) {
        ASSERT(fields.values[judgement.negative].integer < 0);
        return;
    }
    ASSERT(judgement.judged == RUN_GOOD || (command == RUN_UPDATE && fields.count == 0));
    ASSERT(command != RUN_CREATE || fields.values[RUN_EVENT_ID].text.bytes > 0);
    for (unsigned i = 0; i < RUN_FIELD_COUNT; i++) {
        value_check(&fields.values[i], object);
    }
    run_read(&again, &judgement_again, command, fields_print(&fields), scratch[1], 1);
    ASSERT(judgement_again.judged == judgement.judged);
    same_check(&fields, &again);
}

/* The elements of the array at *at, which becomes its end; counts those that batch yields. */
static uint32_t reference_elements(struct json_scan *scan, uint32_t at, struct run_batch *batch)
{
    uint32_t count = 0;
    at = json_scan_white(scan, at + 1);
    while (json_scan_byte(scan, at) != ']') {
        struct json_value value;
        struct slice element;
        uint32_t index;
        struct issue_list issues;
        bool is_good = json_scan_value(scan, at, &value);
        ASSERT(is_good);
        ASSERT(run_batch_next(batch, &element, &index, &issues) == RUN_BATCH_ELEMENT);
        ASSERT(index == count++ && element.data == scan->index.data + value.start);
        ASSERT(element.bytes == value.end - value.start);
        at = json_scan_white(scan, value.end);
        at = json_scan_byte(scan, at) == ',' ? json_scan_white(scan, at + 1) : at;
    }
    return count;
}

/* Where the array of a valid body begins; 0, with no array at 0: it has none of its own. */
static bool reference_find(struct json_scan *scan, uint32_t *at)
{
    *at = json_scan_white(scan, 0);
    if (json_scan_byte(scan, *at) != '{') {
        return json_scan_byte(scan, *at) == '[';
    }
    *at = json_scan_white(scan, *at + 1);
    while (json_scan_byte(scan, *at) == '"') {
        struct json_value key;
        struct json_value value;
        uint8_t name[4] = {0};
        bool is_good = json_scan_key(scan, at, &key);
        struct slice raw = {scan->index.data + key.start + 1, key.end - key.start - 2};
        if (is_good && json_unescape(raw, name, 4) == 4 && memcmp(name, "runs", 4) == 0) {
            return json_scan_byte(scan, *at) == '[';
        }
        ASSERT(is_good && json_scan_value(scan, *at, &value));
        *at = json_scan_white(scan, value.end);
        *at = json_scan_byte(scan, *at) == ',' ? json_scan_white(scan, *at + 1) : *at;
    }
    return false;
}

static void batch_check(struct slice body)
{
    static struct run_batch batch;
    static struct json_scan scan;
    struct slice element;
    struct issue_list issues;
    uint32_t index;
    uint32_t at;
    uint64_t offset;
    const char *why;
    run_batch_open(&batch, body);
    bool is_valid = json_validate(body.data, body.bytes, &offset, &why) == 0;
    json_index_open(&scan.index, body.data, body.bytes, JSON_INDEX_SCALAR);
    scan.is_line = false;
    scan.depth = 0;
    if (is_valid && reference_find(&scan, &at)) {
        uint32_t count = reference_elements(&scan, at, &batch);
        ASSERT(batch.index == count);
    }
    enum run_batch_result result;
    while ((result = run_batch_next(&batch, &element, &index, &issues)) == RUN_BATCH_ELEMENT) {
        ASSERT(!is_valid); /* the others were all taken above */
        ASSERT(is_inside(element, body));
        ASSERT(json_validate(element.data, element.bytes, &offset, &why) == 0);
    }
    if (result == RUN_BATCH_INVALID) {
        issues_check(&issues);
        return;
    }
    /* Around the elements the body may be two deeper than one text. */
    ASSERT(is_valid || strstr(why, "deeper") != NULL);
}

static void url_check(const char *url, size_t bytes)
{
    static const char scheme[] = "https://";
    if (bytes == 0) {
        return;
    }
    ASSERT(bytes > sizeof scheme - 1 && bytes <= RUN_URL_BYTES);
    ASSERT(memcmp(url, scheme, sizeof scheme - 1) == 0);
    ASSERT(url[8] != '/' && url[8] != '?' && url[8] != '#');
    for (size_t i = 0; i < bytes; i++) {
        ASSERT((uint8_t)url[i] > ' ' && url[i] != 0x7f && url[i] != '\\');
    }
    ASSERT(url[bytes - 1] != '/');
}

/* The rest up to the first NUL, and what is behind it. */
static void urls_check(struct slice rest)
{
    char repo_url[RUN_URL_BYTES];
    char url[RUN_URL_BYTES];
    const uint8_t *nul = rest.bytes == 0 ? NULL : memchr(rest.data, 0, rest.bytes);
    size_t repo_bytes = nul == NULL ? rest.bytes : (size_t)(nul - rest.data);
    struct slice repo = {rest.data, repo_bytes};
    struct slice hash = {rest.data + repo_bytes + (nul != NULL),
                         rest.bytes - repo_bytes - (nul != NULL)};
    size_t repo_url_bytes = run_repo_url(repo_url, repo);
    size_t url_bytes = run_commit_url(url, repo, hash);
    url_check(repo_url, repo_url_bytes);
    url_check(url, url_bytes);
    if (url_bytes > 0) {
        ASSERT(url_bytes > repo_url_bytes && memcmp(url, repo_url, repo_url_bytes) == 0);
        ASSERT(memchr(url, '?', url_bytes) == NULL && memchr(url, '#', url_bytes) == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0 || bytes > INPUT_BYTES_MAX) {
        return 0;
    }
    uint8_t *exact = mem_alloc(bytes);
    memcpy(exact, data, bytes);
    struct slice rest = {exact + 1, bytes - 1};
    unsigned choice = data[0] % 6;
    if (choice < 4) {
        command_check((enum run_command)(choice + 1), rest);
    } else if (choice == 4) {
        batch_check(rest);
    } else {
        urls_check(rest);
    }
    mem_free(exact);
    return 0;
}
