/*
 * envelope: see envelope.h. One walk over the line's members; the value of each known one is filed
 * and read afterwards.
 */
#include "model/envelope.h"

#include <string.h>

#include "model/json_scan.h"
#include "model/rfc3339.h"

enum member {
    MEMBER_ID = 0,
    MEMBER_LSN,
    MEMBER_KIND,
    MEMBER_RECEIVED_AT,
    MEMBER_RECORD,
    MEMBER_NEEDED_COUNT,
    MEMBER_EVENT_TIME = MEMBER_NEEDED_COUNT,
    MEMBER_SEVERITY,
    MEMBER_ORIGIN,
    MEMBER_COUNT,
};
static const char *const line_names[MEMBER_COUNT] = {
    "id", "lsn", "kind", "received_at", "record", "event_time", "severity", "origin"};

enum origin_member {
    ORIGIN_NODE = 0,
    ORIGIN_LSN,
    ORIGIN_NEEDED_COUNT,
    ORIGIN_VIA = ORIGIN_NEEDED_COUNT,
    ORIGIN_COUNT,
};
static const char *const origin_names[ORIGIN_COUNT] = {"node", "lsn", "via"};

/* The known members of an object. */
struct members {
    const char *const *names;
    unsigned name_count; /* at most MEMBER_COUNT */
    unsigned seen;       /* bit (1 << place in names) */
    struct json_value values[MEMBER_COUNT];
};

/* Without the quotes. */
static struct slice text_of(const struct json_scan *scan, const struct json_value *value)
{
    ASSERT(value->kind == JSON_STRING);
    return (struct slice){scan->index.data + value->start + 1,
                          (size_t)(value->end - value->start) - 2};
}

/* name_count: not one of them. */
static unsigned member_of(const struct members *members, struct slice name)
{
    unsigned i = 0;
    while (i < members->name_count && (strlen(members->names[i]) != name.bytes ||
                                       memcmp(members->names[i], name.data, name.bytes) != 0)) {
        i++;
    }
    return i;
}

/* One "key": value at *position; *position becomes what is behind it. */
static const char *take_member(struct json_scan *scan, uint32_t *position, struct members *members)
{
    struct json_value key;
    struct json_value value;
    if (!json_scan_key(scan, position, &key) || !json_scan_value(scan, *position, &value)) {
        return scan->fault.text;
    }
    *position = json_scan_white(scan, value.end);
    unsigned member = member_of(members, text_of(scan, &key));
    if (member == members->name_count) {
        return NULL;
    }
    if ((members->seen & 1u << member) != 0) {
        return "a member is there twice";
    }
    members->seen |= 1u << member;
    members->values[member] = value;
    return NULL;
}

/* An object at *position; *position becomes what is behind it. */
static const char *take_members(struct json_scan *scan, uint32_t *position, struct members *members)
{
    uint32_t at = *position;
    if (json_scan_byte(scan, at) != '{') {
        return "not an object";
    }
    uint8_t delimiter = ',';
    while (delimiter == ',') { /* each turn passes a member */
        at = json_scan_white(scan, at + 1);
        const char *fault = take_member(scan, &at, members);
        if (fault != NULL) {
            return fault;
        }
        delimiter = json_scan_byte(scan, at);
    }
    if (delimiter != '}') {
        return "Expecting ',' delimiter";
    }
    *position = at + 1;
    return NULL;
}

static const char *take_line(struct json_scan *scan, struct members *members)
{
    uint32_t position = json_scan_white(scan, 0);
    const char *fault = take_members(scan, &position, members);
    if (fault != NULL) {
        return fault;
    }
    return json_scan_white(scan, position) == scan->index.bytes ? NULL : "Extra data";
}

bool envelope_parse_lsn(uint64_t *lsn, struct slice text)
{
    uint64_t value = 0;
    if (text.bytes == 0 || text.bytes > 19 || text.data[0] == '0') {
        return false;
    }
    for (size_t i = 0; i < text.bytes; i++) { /* at most 19 digits: no overflow */
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *lsn = value;
    return value <= ENVELOPE_LSN_MAX;
}

static struct slice bytes_of(const struct json_scan *scan, const struct json_value *value)
{
    return (struct slice){scan->index.data + value->start, (size_t)(value->end - value->start)};
}

static bool read_lsn(uint64_t *lsn, const struct json_scan *scan, const struct json_value *value)
{
    return value->kind == JSON_NUMBER && envelope_parse_lsn(lsn, bytes_of(scan, value));
}

static bool read_ulid(struct ulid *ulid, const struct json_scan *scan,
                      const struct json_value *value)
{
    return value->kind == JSON_STRING && ulid_parse(ulid, text_of(scan, value)) == 0;
}

/* Nanoseconds: a whole number that fits an int64. */
static bool read_event_time(struct envelope *envelope, const struct json_scan *scan,
                            const struct json_value *value)
{
    struct slice text = bytes_of(scan, value);
    bool is_negative = text.data[0] == '-';
    uint64_t most = (uint64_t)INT64_MAX + (is_negative ? 1 : 0);
    uint64_t number = 0;
    if (value->kind != JSON_NUMBER || text.bytes - is_negative > 19) {
        return false;
    }
    for (size_t i = is_negative; i < text.bytes; i++) { /* at most 19 digits: no overflow */
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    envelope->has_event_time = true;
    envelope->event_time_ns = is_negative && number != 0 ? -(int64_t)(number - 1) - 1
                                                         : (int64_t)u64_min(number, INT64_MAX);
    return number <= most;
}

static bool read_severity(struct envelope *envelope, const struct json_scan *scan,
                          const struct json_value *value)
{
    struct slice text = bytes_of(scan, value);
    if (value->kind != JSON_NUMBER || text.bytes != 1 || text.data[0] > '6') {
        return false;
    }
    envelope->severity = (uint8_t)(text.data[0] - '0');
    return true;
}

static size_t white_end(struct slice text, size_t at)
{
    while (at < text.bytes && (text.data[at] == ' ' || text.data[at] == '\t' ||
                               text.data[at] == '\r' || text.data[at] == '\n')) {
        at++;
    }
    return at;
}

/* "via": a list of texts without escapes. That it is good JSON was found with the line. */
static bool read_via(struct envelope_origin *origin, struct slice list)
{
    size_t at = white_end(list, 1);
    if (list.data[0] != '[') {
        return false;
    }
    while (at < list.bytes && list.data[at] != ']') { /* each turn passes an element */
        struct ulid node;
        if (list.bytes - at < ULID_TEXT_BYTES + 2 || list.data[at] != '"' ||
            list.data[at + ULID_TEXT_BYTES + 1] != '"' ||
            ulid_parse(&node, (struct slice){list.data + at + 1, ULID_TEXT_BYTES}) < 0) {
            return false;
        }
        if (origin->via_count < ENVELOPE_VIA_MAX) {
            origin->via[origin->via_count] = node;
        }
        origin->via_count++;
        at = white_end(list, at + ULID_TEXT_BYTES + 2);
        at = at < list.bytes && list.data[at] == ',' ? white_end(list, at + 1) : at;
    }
    return true;
}

/* With a scan of its own: that of the line goes forward only. */
static bool read_origin(struct envelope *envelope, struct slice text)
{
    struct json_scan scan;
    struct members members = {.names = origin_names, .name_count = ORIGIN_COUNT};
    struct envelope_origin *origin = &envelope->origin;
    const unsigned needed = (1u << ORIGIN_NEEDED_COUNT) - 1;
    uint32_t position = 0;
    envelope->has_origin = true;
    origin->via_count = 0;
    scan.is_line = false;
    scan.depth = 0;
    json_index_open(&scan.index, text.data, text.bytes, JSON_INDEX_AUTO);
    return take_members(&scan, &position, &members) == NULL && (members.seen & needed) == needed &&
           read_ulid(&origin->node, &scan, &members.values[ORIGIN_NODE]) &&
           read_lsn(&origin->lsn, &scan, &members.values[ORIGIN_LSN]) &&
           ((members.seen & 1u << ORIGIN_VIA) == 0 ||
            read_via(origin, bytes_of(&scan, &members.values[ORIGIN_VIA])));
}

/* What may be left out. */
static const char *read_more(struct envelope *envelope, const struct json_scan *scan,
                             const struct members *members)
{
    const struct json_value *values = members->values;
    envelope->has_event_time = false;
    envelope->severity = 0;
    envelope->has_origin = false;
    if ((members->seen & 1u << MEMBER_EVENT_TIME) != 0 &&
        !read_event_time(envelope, scan, &values[MEMBER_EVENT_TIME])) {
        return "event_time must be a whole number of nanoseconds";
    }
    if ((members->seen & 1u << MEMBER_SEVERITY) != 0 &&
        !read_severity(envelope, scan, &values[MEMBER_SEVERITY])) {
        return "severity must be a whole number from 0 to 6";
    }
    if ((members->seen & 1u << MEMBER_ORIGIN) != 0 &&
        !read_origin(envelope, bytes_of(scan, &values[MEMBER_ORIGIN]))) {
        return "origin must have a node (ULID), an lsn, and may have a list via of ULIDs";
    }
    return NULL;
}

static const char *read_members(struct envelope *envelope, const struct json_scan *scan,
                                const struct members *members)
{
    const struct json_value *values = members->values;
    const unsigned needed = (1u << MEMBER_NEEDED_COUNT) - 1;
    if ((members->seen & needed) != needed) {
        return "id, lsn, kind, received_at and record must all be there";
    }
    if (!read_ulid(&envelope->id, scan, &values[MEMBER_ID])) {
        return "id must be a ULID";
    }
    if (!read_lsn(&envelope->lsn, scan, &values[MEMBER_LSN])) {
        return "lsn must be a whole number of 1 and more";
    }
    if (values[MEMBER_KIND].kind != JSON_STRING) {
        return "kind must be a string";
    }
    if (values[MEMBER_RECEIVED_AT].kind != JSON_STRING ||
        rfc3339_parse(text_of(scan, &values[MEMBER_RECEIVED_AT]), RFC3339_ZONE_REQUIRED,
                      &envelope->received_at_ns) != NULL) {
        return "received_at must be an RFC 3339 time";
    }
    envelope->kind = text_of(scan, &values[MEMBER_KIND]);
    envelope->record = bytes_of(scan, &values[MEMBER_RECORD]);
    return read_more(envelope, scan, members);
}

const char *envelope_parse(struct envelope *envelope, struct slice line)
{
    struct json_scan scan;
    struct members members = {.names = line_names, .name_count = MEMBER_COUNT};
    json_index_open(&scan.index, line.data, line.bytes, JSON_INDEX_AUTO);
    scan.is_line = false;
    scan.depth = 0; /* the record's own depth counts, not that of what is around it */
    const char *fault = take_line(&scan, &members);
    return fault != NULL ? fault : read_members(envelope, &scan, &members);
}
