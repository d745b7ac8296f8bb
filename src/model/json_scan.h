/*
 * json_scan: strict validation of JSON values (RFC 8259) over a json_index. Pure; one owner; no
 * recursion, no allocation.
 *
 * Strict means: valid UTF-8, surrogates in escapes only as complete pairs, no control characters in
 * strings, no trailing commas, no NaN, no comments, no byte order mark, numbers by the grammar and
 * never converted, at most JSON_DEPTH_MAX containers inside each other. White space ends at a line
 * feed when the text is a line of NDJSON.
 *
 * Positions are offsets into index->data. A scan that fails leaves fault set and the position of no
 * use.
 */
#ifndef MODEL_JSON_SCAN_H
#define MODEL_JSON_SCAN_H

#include "core/base.h"
#include "model/json_index.h"

/* Of one value; the array around the elements of a body does not count. */
#define JSON_DEPTH_MAX 64u

struct json_fault {
    uint32_t offset;
    const char *text; /* static, in the words of Python's decoder where it has them */
};

struct json_scan {
    struct json_index index;
    struct json_fault fault;
    bool is_line;   /* a line feed ends the value: it is no white space */
    uint32_t depth; /* of the containers that the caller has open around the value */
};

enum json_kind {
    JSON_STRING = 1,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_OBJECT,
    JSON_ARRAY,
};

/* The bytes of a value: data[start, end); of a string with its quotes. */
struct json_value {
    uint32_t start;
    uint32_t end;
    enum json_kind kind;
    bool has_escape; /* of a string */
};

/* One whole text, one value, white space around it. 0, or -1 with *error_offset and *text (static).
 * Pure. */
int json_validate(const uint8_t *data, size_t bytes, uint64_t *error_offset, const char **text);

/* Any value that begins at position; false: fault. */
bool json_scan_value(struct json_scan *scan, uint32_t position, struct json_value *value) MUST_USE;

/* A key and its colon; *position becomes where the value begins. False: fault. */
bool json_scan_key(struct json_scan *scan, uint32_t *position, struct json_value *key) MUST_USE;

/* The rest of json_scan_string for a string between two quotes that may hold specials. */
bool json_scan_string_special(struct json_scan *scan, uint32_t open, uint32_t close,
                              bool *has_escape) MUST_USE;

/* The rest of json_scan_white, at a byte that is white space. */
uint32_t json_scan_white_rest(const struct json_scan *scan, uint32_t position);

/* Sets fault; always false, so that "return json_scan_fail(...)" reads as one line. */
bool json_scan_fail(struct json_scan *scan, uint32_t offset, const char *text);

/* A string without its quotes, escapes undone, into to[0, room). Returns the bytes it has or would
 * have: more than room means that it was cut. raw must have passed json_scan. */
size_t json_unescape(struct slice raw, uint8_t *to, size_t room);

/* The length of the validated escape at p[0] = '\\'; a surrogate pair is one. */
size_t json_escape_bytes(const uint8_t *p);

/* A number that passed json_scan: does a double hold it without becoming infinite? Decided on the
 * digits. */
bool json_number_is_finite(struct slice number);

/* 0 beyond the end: no byte of 0 is valid anywhere outside a string. */
static inline uint8_t json_scan_byte(const struct json_scan *scan, uint32_t position)
{
    return position < scan->index.bytes ? scan->index.data[position] : 0;
}

/* The first position at or after position that is not white space. */
static inline uint32_t json_scan_white(const struct json_scan *scan, uint32_t position)
{
    uint8_t c = json_scan_byte(scan, position);
    if (LIKELY(c > ' ')) {
        return position;
    }
    /* One space, as Python's encoder writes after commas and colons. */
    if (LIKELY(c == ' ' && json_scan_byte(scan, position + 1) > ' ')) {
        return position + 1;
    }
    return json_scan_white_rest(scan, position);
}

/* The string whose opening quote is at position: consumes its two quotes. */
static inline bool json_scan_string(struct json_scan *scan, uint32_t position,
                                    struct json_value *value)
{
    struct json_index *index = &scan->index;
    if (UNLIKELY(json_index_ahead(index) < 2)) {
        json_index_refill(index, position);
    }
    uint32_t close = index->quotes[index->quote_at + 1];
    if (UNLIKELY(index->quotes[index->quote_at] != position || close == JSON_INDEX_NONE)) {
        return json_scan_fail(scan, position, "Unterminated string starting at");
    }
    index->quote_at += 2;
    value->start = position;
    value->end = close + 1;
    value->kind = JSON_STRING;
    value->has_escape = false;
    if (UNLIKELY(close > index->special_next)) {
        return json_scan_string_special(scan, position, close, &value->has_escape);
    }
    return true;
}

#endif
