#include "model/json_scan.h"

#include <string.h>

bool json_scan_fail(struct json_scan *scan, uint32_t offset, const char *text)
{
    scan->fault.offset = offset;
    scan->fault.text = text;
    return false;
}

uint32_t json_scan_white_rest(const struct json_scan *scan, uint32_t position)
{
    /* Bounded by the text: 0 stands for its end. */
    for (;; position++) {
        switch (json_scan_byte(scan, position)) {
        case '\n':
            if (scan->is_line) {
                return position;
            }
            break;
        case ' ':
        case '\t':
        case '\r':
            break;
        default:
            return position;
        }
    }
}

/* ---- strings ---- */

static uint32_t hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return (uint32_t)c - '0';
    }
    uint32_t letter = (uint32_t)(c | 0x20) - 'a';
    return letter < 6 ? letter + 10 : 16;
}

/* Four hexadecimal digits at p; UINT32_MAX when they are not. */
static uint32_t hex4(const uint8_t *p)
{
    uint32_t a = hex_value(p[0]);
    uint32_t b = hex_value(p[1]);
    uint32_t c = hex_value(p[2]);
    uint32_t d = hex_value(p[3]);
    return ((a | b | c | d) & 16) != 0 ? UINT32_MAX : a << 12 | b << 8 | c << 4 | d;
}

/* The escape at p[0] = '\\' with left bytes before the closing quote. Returns its length; 0: *text
 * says why not. */
static uint32_t escape_check(const uint8_t *p, uint32_t left, const char **text)
{
    if (left < 2) {
        *text = "Invalid \\escape";
        return 0;
    }
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return 2;
    case 'u':
        break;
    default:
        *text = "Invalid \\escape";
        return 0;
    }
    uint32_t code = left >= 6 ? hex4(p + 2) : UINT32_MAX;
    if (code == UINT32_MAX) {
        *text = "Invalid \\uXXXX escape";
        return 0;
    }
    if (code < 0xd800 || code > 0xdfff) {
        return 6;
    }
    bool is_pair = code < 0xdc00 && left >= 12 && p[6] == '\\' && p[7] == 'u';
    uint32_t low = is_pair ? hex4(p + 8) : 0;
    if (low < 0xdc00 || low > 0xdfff) {
        *text = "Unpaired surrogate in \\uXXXX escape";
        return 0;
    }
    return 12;
}

static bool is_continuation(uint8_t c)
{
    return (c & 0xc0) == 0x80;
}

/* The length of the UTF-8 sequence at p (p[0] >= 0x80), 0 when it is not well formed (Unicode 15,
 * table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF). */
static uint32_t utf8_check(const uint8_t *p, uint32_t left)
{
    uint8_t lead = p[0];
    if (lead < 0xe0) {
        return lead >= 0xc2 && left >= 2 && is_continuation(p[1]) ? 2 : 0;
    }
    if (lead < 0xf0) {
        uint8_t min = lead == 0xe0 ? 0xa0 : 0x80;
        uint8_t max = lead == 0xed ? 0x9f : 0xbf;
        return left >= 3 && p[1] >= min && p[1] <= max && is_continuation(p[2]) ? 3 : 0;
    }
    uint8_t min = lead == 0xf0 ? 0x90 : 0x80;
    uint8_t max = lead == 0xf4 ? 0x8f : 0xbf;
    return lead <= 0xf4 && left >= 4 && p[1] >= min && p[1] <= max && is_continuation(p[2]) &&
                   is_continuation(p[3])
               ? 4
               : 0;
}

/* How many of the first eight bytes at p are plain: printable ASCII other than the backslash. The
 * usual search for a byte below n and for a zero byte; a borrow can only mark bytes above the first
 * true one, and the first is what counts. */
static uint32_t plain_prefix8(const uint8_t *p)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    uint64_t slash = word ^ (ones * '\\');
    uint64_t found = (((word - ones * 0x20) & ~word) | ((slash - ones) & ~slash) | word) & tops;
    return found == 0 ? 8 : (uint32_t)__builtin_ctzll(found) / 8;
}

/* The bytes of a string between its quotes, data[at, close). */
static bool string_bytes_check(struct json_scan *scan, uint32_t at, uint32_t close,
                               bool *has_escape)
{
    const uint8_t *data = scan->index.data;
    /* Each turn goes at least one byte on. */
    while (at < close) {
        if (close - at >= 8) {
            uint32_t plain = plain_prefix8(data + at);
            at += plain;
            if (plain == 8) {
                continue;
            }
        }
        uint8_t c = data[at];
        uint32_t taken = 1;
        const char *text = "Invalid UTF-8 in string";
        if (c >= 0x80) {
            taken = utf8_check(data + at, close - at);
        } else if (c == '\\') {
            *has_escape = true;
            taken = escape_check(data + at, close - at, &text);
        } else if (c < 0x20) {
            return json_scan_fail(scan, at, "Invalid control character at");
        }
        if (UNLIKELY(taken == 0)) {
            return json_scan_fail(scan, at, text);
        }
        at += taken;
    }
    return true;
}

bool json_scan_string_special(struct json_scan *scan, uint32_t open, uint32_t close,
                              bool *has_escape)
{
    struct json_index *index = &scan->index;
    json_index_pass_specials(index, open + 1);
    if (close <= index->special_next) {
        return true; /* they were all before it */
    }
    if (UNLIKELY(!string_bytes_check(scan, index->special_next, close, has_escape))) {
        return false;
    }
    json_index_pass_specials(index, close + 1);
    return true;
}

/* ---- numbers and literals ---- */

static uint32_t digits_pass(const struct json_scan *scan, uint32_t position)
{
    while ((uint32_t)json_scan_byte(scan, position) - '0' <= 9) {
        position++;
    }
    return position;
}

/* What follows a number is the caller's to judge: "01" ends after the 0, and then a comma is
 * missing. */
static bool number_scan(struct json_scan *scan, uint32_t position, struct json_value *value)
{
    value->start = position;
    value->kind = JSON_NUMBER;
    value->has_escape = false;
    uint32_t at = position + (json_scan_byte(scan, position) == '-');
    uint32_t end = json_scan_byte(scan, at) == '0' ? at + 1 : digits_pass(scan, at);
    if (end == at) {
        return json_scan_fail(scan, position, "Expecting value");
    }
    if (json_scan_byte(scan, end) == '.') {
        at = end + 1;
        end = digits_pass(scan, at);
        if (end == at) {
            return json_scan_fail(scan, end, "Expecting a digit");
        }
    }
    if ((json_scan_byte(scan, end) | 0x20) == 'e') {
        at = end + 1;
        uint8_t sign = json_scan_byte(scan, at);
        at += sign == '+' || sign == '-';
        end = digits_pass(scan, at);
        if (end == at) {
            return json_scan_fail(scan, end, "Expecting a digit");
        }
    }
    value->end = end;
    return true;
}

static bool literal_scan(struct json_scan *scan, uint32_t position, struct json_value *value)
{
    static const struct {
        const char *text;
        uint32_t bytes;
        enum json_kind kind;
    } literals[] = {{"true", 4, JSON_TRUE}, {"false", 5, JSON_FALSE}, {"null", 4, JSON_NULL}};
    uint32_t left = scan->index.bytes - position;
    for (size_t i = 0; i < ARRAY_COUNT(literals); i++) {
        if (left >= literals[i].bytes &&
            memcmp(scan->index.data + position, literals[i].text, literals[i].bytes) == 0) {
            value->start = position;
            value->end = position + literals[i].bytes;
            value->kind = literals[i].kind;
            value->has_escape = false;
            return true;
        }
    }
    return json_scan_fail(scan, position, "Expecting value");
}

static bool scalar_scan(struct json_scan *scan, uint32_t position, struct json_value *value)
{
    uint8_t c = json_scan_byte(scan, position);
    if (c == '"') {
        return json_scan_string(scan, position, value);
    }
    if (c == '-' || (uint32_t)c - '0' <= 9) {
        return number_scan(scan, position, value);
    }
    if (UNLIKELY(position >= scan->index.bytes)) {
        return json_scan_fail(scan, position, "Expecting value");
    }
    return literal_scan(scan, position, value);
}

/* ---- containers ---- */

bool json_scan_key(struct json_scan *scan, uint32_t *position, struct json_value *key)
{
    if (UNLIKELY(json_scan_byte(scan, *position) != '"')) {
        return json_scan_fail(scan, *position, "Expecting property name enclosed in double quotes");
    }
    if (UNLIKELY(!json_scan_string(scan, *position, key))) {
        return false;
    }
    uint32_t at = json_scan_white(scan, key->end);
    if (UNLIKELY(json_scan_byte(scan, at) != ':')) {
        return json_scan_fail(scan, at, "Expecting ':' delimiter");
    }
    *position = json_scan_white(scan, at + 1);
    return true;
}

static bool key_scan(struct json_scan *scan, uint32_t *position)
{
    struct json_value key;
    return json_scan_key(scan, position, &key);
}

/* The containers that are open, innermost in bit 0: 1 is an object. Depth 64 fills the word. */
struct nesting {
    uint64_t is_object;
    uint32_t depth;
};

/* Goes into the container at *position. *is_open: it has a first value, whose place is *position;
 * else it was empty and *position is after it. */
static bool container_enter(struct json_scan *scan, struct nesting *nesting, uint32_t *position,
                            bool *is_open)
{
    bool is_object = json_scan_byte(scan, *position) == '{';
    if (UNLIKELY(scan->depth + nesting->depth >= JSON_DEPTH_MAX)) {
        return json_scan_fail(scan, *position, "Nesting is deeper than 64");
    }
    *position = json_scan_white(scan, *position + 1);
    *is_open = json_scan_byte(scan, *position) != (is_object ? '}' : ']');
    if (!*is_open) {
        *position += 1;
        return true;
    }
    nesting->is_object = nesting->is_object << 1 | is_object;
    nesting->depth++;
    return !is_object || key_scan(scan, position);
}

/* After a value: closes what ends here. *is_open: another value follows at *position; else
 * everything is closed. */
static bool containers_leave(struct json_scan *scan, struct nesting *nesting, uint32_t *position,
                             bool *is_open)
{
    /* Bounded by the depth. */
    while (nesting->depth > 0) {
        bool is_object = (nesting->is_object & 1) != 0;
        uint32_t at = json_scan_white(scan, *position);
        uint8_t c = json_scan_byte(scan, at);
        if (c == ',') {
            *position = json_scan_white(scan, at + 1);
            *is_open = true;
            return !is_object || key_scan(scan, position);
        }
        if (UNLIKELY(c != (is_object ? '}' : ']'))) {
            return json_scan_fail(scan, at, "Expecting ',' delimiter");
        }
        *position = at + 1;
        nesting->is_object >>= 1;
        nesting->depth--;
    }
    *is_open = false;
    return true;
}

static bool container_scan(struct json_scan *scan, uint32_t position, struct json_value *value)
{
    struct nesting nesting = {0, 0};
    value->start = position;
    value->kind = json_scan_byte(scan, position) == '{' ? JSON_OBJECT : JSON_ARRAY;
    value->has_escape = false;
    bool is_open = true;
    /* Each turn takes at least one byte of the text. */
    while (is_open) {
        uint8_t c = json_scan_byte(scan, position);
        if (c == '{' || c == '[') {
            if (UNLIKELY(!container_enter(scan, &nesting, &position, &is_open))) {
                return false;
            }
            if (is_open) {
                continue;
            }
        } else {
            struct json_value inner;
            if (UNLIKELY(!scalar_scan(scan, position, &inner))) {
                return false;
            }
            position = inner.end;
        }
        if (UNLIKELY(!containers_leave(scan, &nesting, &position, &is_open))) {
            return false;
        }
    }
    value->end = position;
    return true;
}

bool json_scan_value(struct json_scan *scan, uint32_t position, struct json_value *value)
{
    uint8_t c = json_scan_byte(scan, position);
    if (c == '{' || c == '[') {
        return container_scan(scan, position, value);
    }
    return scalar_scan(scan, position, value);
}

int json_validate(const uint8_t *data, size_t bytes, uint64_t *error_offset, const char **text)
{
    struct json_scan scan;
    struct json_value value;
    json_index_open(&scan.index, data, bytes, JSON_INDEX_AUTO);
    scan.is_line = false;
    scan.depth = 0;
    bool is_good = json_scan_value(&scan, json_scan_white(&scan, 0), &value);
    if (is_good) {
        uint32_t at = json_scan_white(&scan, value.end);
        is_good = at == bytes || json_scan_fail(&scan, at, "Extra data");
    }
    if (is_good) {
        return 0;
    }
    *error_offset = scan.fault.offset;
    *text = scan.fault.text;
    return -1;
}

/* ---- what a validated value means ---- */

static size_t utf8_encode(uint32_t code, uint8_t *to)
{
    if (code < 0x80) {
        to[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (uint8_t)(0xc0 | code >> 6);
        to[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (uint8_t)(0xe0 | code >> 12);
        to[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | code >> 18);
    to[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* The escape at p into to (up to four bytes): *taken from p, returns what was written. */
static size_t escape_decode(const uint8_t *p, uint8_t *to, size_t *taken)
{
    static const char from[] = "bfnrt";
    static const char into[] = "\b\f\n\r\t";
    if (p[1] != 'u') {
        const char *named = memchr(from, p[1], sizeof from - 1);
        to[0] = named != NULL ? (uint8_t)into[named - from] : p[1];
        *taken = 2;
        return 1;
    }
    uint32_t code = hex4(p + 2);
    *taken = 6;
    if (code >= 0xd800 && code <= 0xdfff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (hex4(p + 8) - 0xdc00);
        *taken = 12;
    }
    return utf8_encode(code, to);
}

size_t json_escape_bytes(const uint8_t *p)
{
    uint8_t piece[4];
    size_t taken;
    escape_decode(p, piece, &taken);
    return taken;
}

size_t json_unescape(struct slice raw, uint8_t *to, size_t room)
{
    size_t bytes = 0;
    for (size_t at = 0; at < raw.bytes;) {
        uint8_t piece[4] = {raw.data[at], 0, 0, 0};
        size_t taken = 1;
        size_t piece_bytes = 1;
        if (piece[0] == '\\') {
            piece_bytes = escape_decode(raw.data + at, piece, &taken);
        }
        for (size_t i = 0; i < piece_bytes; i++) {
            if (bytes < room) {
                to[bytes] = piece[i];
            }
            bytes++;
        }
        at += taken;
    }
    return bytes;
}

/* Half way between the largest double and the next that there would be: at and above this, rounding
 * goes to infinity. */
static const char double_overflow_digits[] =
    "17976931348623158079372897140530341507993413271003782693617377898044"
    "49682927647509466490179775872070963302864166928879109465555478519404"
    "02630657488671505820681908902000708383676273854845817711531764475730"
    "27006985557136695962284291481986083493647529271907416844436551070434"
    "2711559699508093042880177904174497792";
#define DOUBLE_OVERFLOW_EXPONENT 309 /* 0.1797... times ten to this */

_Static_assert(sizeof double_overflow_digits - 1 == DOUBLE_OVERFLOW_EXPONENT,
               "a whole number, all of its digits");

/* Any exponent beyond this decides by itself, whatever the digits: they are fewer than 2^32. */
#define EXPONENT_CAP INT64_C(100000000000)

static int64_t exponent_read(struct slice number, size_t at)
{
    bool is_negative = false;
    if (at < number.bytes && (number.data[at] == '+' || number.data[at] == '-')) {
        is_negative = number.data[at] == '-';
        at++;
    }
    int64_t value = 0;
    for (; at < number.bytes; at++) {
        value = value < EXPONENT_CAP ? value * 10 + (number.data[at] - '0') : value;
    }
    return is_negative ? -value : value;
}

/* The digits from the first that is not 0, without the point, against the limit, as fractions
 * 0.d1d2d3... */
static bool digits_are_below_limit(struct slice digits)
{
    size_t n = 0;
    for (size_t i = 0; i < digits.bytes && n < DOUBLE_OVERFLOW_EXPONENT; i++) {
        if (digits.data[i] == '.') {
            continue;
        }
        if (digits.data[i] != (uint8_t)double_overflow_digits[n]) {
            return digits.data[i] < (uint8_t)double_overflow_digits[n];
        }
        n++;
    }
    /* A prefix of the limit is below it, because the limit does not end in zeros. */
    return n < DOUBLE_OVERFLOW_EXPONENT;
}

bool json_number_is_finite(struct slice number)
{
    const uint8_t *p = number.data;
    size_t mantissa_end = 0;
    while (mantissa_end < number.bytes && (p[mantissa_end] | 0x20) != 'e') {
        mantissa_end++;
    }
    if (LIKELY(mantissa_end == number.bytes && number.bytes < DOUBLE_OVERFLOW_EXPONENT)) {
        return true;
    }
    size_t first = 0;
    while (first < mantissa_end && (p[first] == '-' || p[first] == '0' || p[first] == '.')) {
        first++;
    }
    if (first == mantissa_end) {
        return true; /* zero, whatever the exponent */
    }
    const uint8_t *point = memchr(p, '.', mantissa_end);
    int64_t integer_end = point != NULL ? point - p : (int64_t)mantissa_end;
    /* The number is 0.DIGITS times ten to this; the point itself is no digit when the first one
     * stands behind it. */
    int64_t exponent =
        integer_end - (int64_t)first + (point != NULL && (int64_t)first > integer_end);
    if (mantissa_end < number.bytes) {
        exponent += exponent_read(number, mantissa_end + 1);
    }
    if (exponent != DOUBLE_OVERFLOW_EXPONENT) {
        return exponent < DOUBLE_OVERFLOW_EXPONENT;
    }
    return digits_are_below_limit((struct slice){p + first, mantissa_end - first});
}
