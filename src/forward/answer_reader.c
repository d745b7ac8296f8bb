/*
 * answer_reader: see answer_reader.h. Depth is bounded by the callers' own nesting plus json_scan's limit, so nothing
 * here recurses.
 */
#include "forward/answer_reader.h"

void answer_reader_open(struct answer_reader *reader, struct slice text)
{
    static const uint8_t nothing[1];
    json_index_open(&reader->scan.index, text.data == NULL ? nothing : text.data, text.bytes,
                    JSON_INDEX_AUTO);
    reader->scan.is_line = false;
    reader->scan.depth = 0;
    reader->scan.fault = (struct json_fault){0, "Expecting value"};
    reader->at = json_scan_white(&reader->scan, 0);
    reader->is_bad = false;
    reader->is_first = false;
    reader->has_value = false;
}

bool answer_reader_enter(struct answer_reader *reader, char bracket)
{
    struct json_scan *scan = &reader->scan;
    if (reader->is_bad || json_scan_byte(scan, reader->at) != (uint8_t)bracket) {
        return false;
    }
    if (scan->depth >= JSON_DEPTH_MAX) {
        reader->is_bad = true;
        return false;
    }
    scan->depth++;
    reader->at = json_scan_white(scan, reader->at + 1);
    reader->is_first = true;
    return true;
}

/* Passes what stands before the next member or element. False: the container's end was passed, or a fault. */
static bool next_is_there(struct answer_reader *reader, uint8_t closing)
{
    struct json_scan *scan = &reader->scan;
    if (reader->is_bad) {
        return false;
    }
    uint32_t at = json_scan_white(scan, reader->at);
    uint8_t c = json_scan_byte(scan, at);
    if (c == closing) {
        ASSERT(scan->depth > 0);
        scan->depth--;
        reader->at = json_scan_white(scan, at + 1);
        reader->has_value = true;
        reader->is_first = false; /* Back in the container around it, which has this one. */
        return false;
    }
    if (!reader->is_first) {
        if (c != ',') {
            reader->is_bad = true;
            return false;
        }
        at = json_scan_white(scan, at + 1);
    }
    reader->is_first = false;
    reader->at = at;
    return true;
}

bool answer_reader_member(struct answer_reader *reader, struct slice *key)
{
    if (!next_is_there(reader, '}')) {
        return false;
    }
    struct json_value value;
    if (!json_scan_key(&reader->scan, &reader->at, &value)) {
        reader->is_bad = true;
        return false;
    }
    *key = answer_reader_raw(reader, &value);
    return true;
}

bool answer_reader_element(struct answer_reader *reader)
{
    return next_is_there(reader, ']');
}

bool answer_reader_value(struct answer_reader *reader, struct json_value *value)
{
    if (reader->is_bad || !json_scan_value(&reader->scan, reader->at, value)) {
        reader->is_bad = true;
        return false;
    }
    reader->at = json_scan_white(&reader->scan, value->end);
    reader->has_value = true;
    return true;
}

bool answer_reader_ended(struct answer_reader *reader)
{
    return !reader->is_bad && reader->scan.depth == 0 && reader->has_value &&
           json_scan_white(&reader->scan, reader->at) == reader->scan.index.bytes;
}

struct slice answer_reader_raw(const struct answer_reader *reader, const struct json_value *value)
{
    uint32_t quote = value->kind == JSON_STRING;
    return (struct slice){reader->scan.index.data + value->start + quote,
                          value->end - value->start - 2 * quote};
}

bool answer_reader_u64(const struct answer_reader *reader, const struct json_value *value,
                       uint64_t *number)
{
    struct slice digits = answer_reader_raw(reader, value);
    if (value->kind != JSON_NUMBER || digits.bytes > 18) {
        return false;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < digits.bytes; i++) {
        uint8_t c = digits.data[i];
        if (c < '0' || c > '9') {
            return false;
        }
        sum = sum * 10 + (uint64_t)(c - '0');
    }
    *number = sum;
    return true;
}
