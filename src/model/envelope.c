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
    MEMBER_COUNT,
};

static const char *const member_names[MEMBER_COUNT] = {"id", "lsn", "kind", "received_at",
                                                       "record"};

struct members {
    unsigned seen; /* bit (1 << enum member) */
    struct json_value values[MEMBER_COUNT];
};

/* Without the quotes. */
static struct slice text_of(const struct json_scan *scan, const struct json_value *value)
{
    ASSERT(value->kind == JSON_STRING);
    return (struct slice){scan->index.data + value->start + 1,
                          (size_t)(value->end - value->start) - 2};
}

static enum member member_of(const struct json_scan *scan, const struct json_value *key)
{
    struct slice name = text_of(scan, key);
    unsigned i = 0;
    while (i < MEMBER_COUNT && (strlen(member_names[i]) != name.bytes ||
                                memcmp(member_names[i], name.data, name.bytes) != 0)) {
        i++;
    }
    return (enum member)i;
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
    enum member member = member_of(scan, &key);
    if (member == MEMBER_COUNT) {
        return NULL;
    }
    if ((members->seen & 1u << member) != 0) {
        return "a member is there twice";
    }
    members->seen |= 1u << member;
    members->values[member] = value;
    return NULL;
}

static const char *take_members(struct json_scan *scan, struct members *members)
{
    uint32_t position = json_scan_white(scan, 0);
    if (json_scan_byte(scan, position) != '{') {
        return "not an object";
    }
    uint8_t delimiter = ',';
    while (delimiter == ',') { /* each turn passes a member */
        position = json_scan_white(scan, position + 1);
        const char *fault = take_member(scan, &position, members);
        if (fault != NULL) {
            return fault;
        }
        delimiter = json_scan_byte(scan, position);
    }
    if (delimiter != '}') {
        return "Expecting ',' delimiter";
    }
    position = json_scan_white(scan, position + 1);
    return position == scan->index.bytes ? NULL : "Extra data";
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

static const char *read_members(struct envelope *envelope, const struct json_scan *scan,
                                const struct members *members)
{
    const struct json_value *values = members->values;
    const struct json_value *lsn = &values[MEMBER_LSN];
    const struct json_value *record = &values[MEMBER_RECORD];
    if (members->seen != (1u << MEMBER_COUNT) - 1) {
        return "id, lsn, kind, received_at and record must all be there";
    }
    if (values[MEMBER_ID].kind != JSON_STRING ||
        ulid_parse(&envelope->id, text_of(scan, &values[MEMBER_ID])) < 0) {
        return "id must be a ULID";
    }
    if (lsn->kind != JSON_NUMBER ||
        !envelope_parse_lsn(&envelope->lsn,
                            (struct slice){scan->index.data + lsn->start, lsn->end - lsn->start})) {
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
    envelope->record =
        (struct slice){scan->index.data + record->start, (size_t)(record->end - record->start)};
    return NULL;
}

const char *envelope_parse(struct envelope *envelope, struct slice line)
{
    struct json_scan scan;
    struct members members = {.seen = 0};
    json_index_open(&scan.index, line.data, line.bytes, JSON_INDEX_AUTO);
    scan.is_line = false;
    scan.depth = 0; /* the record's own depth counts, not that of what is around it */
    const char *fault = take_members(&scan, &members);
    return fault != NULL ? fault : read_members(envelope, &scan, &members);
}
