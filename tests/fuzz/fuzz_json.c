/*
 * fuzz_json: json_validate against a byte-by-byte reference that shares no code with it, and every
 * kernel of json_index against the scalar one.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base.h"
#include "model/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* ---- the reference: one byte at a time, as the RFC reads ---- */

struct reader {
    const uint8_t *data;
    size_t bytes;
    size_t at;
};

static int peek(const struct reader *r)
{
    return r->at < r->bytes ? r->data[r->at] : -1;
}

static bool take(struct reader *r, int c)
{
    bool is_there = peek(r) == c;
    r->at += is_there;
    return is_there;
}

static void white_pass(struct reader *r)
{
    while (peek(r) == ' ' || peek(r) == '\t' || peek(r) == '\n' || peek(r) == '\r') {
        r->at++;
    }
}

static bool digits_take(struct reader *r)
{
    size_t from = r->at;
    while (peek(r) >= '0' && peek(r) <= '9') {
        r->at++;
    }
    return r->at > from;
}

static bool number_take(struct reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !digits_take(r)) {
        return false;
    }
    if (take(r, '.') && !digits_take(r)) {
        return false;
    }
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+')) {
            take(r, '-');
        }
        return digits_take(r);
    }
    return true;
}

static int hex4_take(struct reader *r)
{
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(r);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        code = code * 16 + digit;
        r->at++;
    }
    return code;
}

static bool escape_take(struct reader *r)
{
    int c = peek(r);
    r->at++;
    if (c != 'u') {
        return c > 0 && strchr("\"\\/bfnrt", c) != NULL;
    }
    int code = hex4_take(r);
    if (code < 0 || (code >= 0xdc00 && code <= 0xdfff)) {
        return false;
    }
    if (code >= 0xd800 && code <= 0xdbff) {
        if (!take(r, '\\') || !take(r, 'u')) {
            return false;
        }
        int low = hex4_take(r);
        return low >= 0xdc00 && low <= 0xdfff;
    }
    return true;
}

/* By decoding and judging the code point, unlike the table of the real one. */
static bool utf8_take(struct reader *r)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t lead = (uint32_t)peek(r);
    size_t length = lead >= 0xf0 && lead < 0xf8 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
    if (length == 0 || lead >= 0xf8 || r->bytes - r->at < length) {
        return false;
    }
    uint32_t code = lead & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        uint8_t c = r->data[r->at + i];
        if (c >> 6 != 2) {
            return false;
        }
        code = code << 6 | (c & 0x3fu);
    }
    r->at += length;
    return code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static bool string_take(struct reader *r)
{
    if (!take(r, '"')) {
        return false;
    }
    while (peek(r) >= 0x20) {
        if (take(r, '"')) {
            return true;
        }
        bool is_good = true;
        if (take(r, '\\')) {
            is_good = escape_take(r);
        } else if (peek(r) >= 0x80) {
            is_good = utf8_take(r);
        } else {
            r->at++;
        }
        if (!is_good) {
            return false;
        }
    }
    return false;
}

static bool word_take(struct reader *r, const char *word)
{
    size_t length = strlen(word);
    if (r->bytes - r->at < length || memcmp(r->data + r->at, word, length) != 0) {
        return false;
    }
    r->at += length;
    return true;
}

static bool scalar_take(struct reader *r)
{
    int c = peek(r);
    if (c == '"') {
        return string_take(r);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return number_take(r);
    }
    return word_take(r, "true") || word_take(r, "false") || word_take(r, "null");
}

static bool key_take(struct reader *r)
{
    white_pass(r);
    if (!string_take(r)) {
        return false;
    }
    white_pass(r);
    return take(r, ':');
}

static bool reference_accepts(const uint8_t *data, size_t bytes)
{
    struct reader r = {data, bytes, 0};
    char open[JSON_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        white_pass(&r);
        int c = peek(&r);
        bool is_empty = false;
        if (c == '{' || c == '[') {
            if (depth == JSON_DEPTH_MAX) {
                return false;
            }
            r.at++;
            open[depth++] = c == '{' ? '}' : ']';
            white_pass(&r);
            is_empty = peek(&r) == open[depth - 1];
            if (!is_empty) {
                if (c == '{' && !key_take(&r)) {
                    return false;
                }
                continue;
            }
        } else if (!scalar_take(&r)) {
            return false;
        }
        for (;;) {
            white_pass(&r);
            if (depth == 0) {
                return r.at == bytes;
            }
            if (take(&r, open[depth - 1])) {
                depth--;
                is_empty = false;
                continue;
            }
            if (is_empty || !take(&r, ',')) {
                return false;
            }
            break;
        }
        if (open[depth - 1] == '}' && !key_take(&r)) {
            return false;
        }
    }
}

/* ---- the comparisons ---- */

static void kernel_compare(const uint8_t *data, size_t bytes, enum json_index_kernel kernel)
{
    static struct json_index expected;
    static struct json_index actual;
    json_index_open(&expected, data, bytes, JSON_INDEX_SCALAR);
    json_index_open(&actual, data, bytes, kernel);
    while (expected.indexed < bytes) {
        expected.quote_at = expected.quote_count;
        actual.quote_at = actual.quote_count;
        json_index_refill(&expected, expected.indexed);
        json_index_refill(&actual, actual.indexed);
        ASSERT(expected.quote_count == actual.quote_count);
        ASSERT(expected.special_count == actual.special_count);
        ASSERT(expected.special_next == actual.special_next);
        ASSERT(memcmp(expected.quotes, actual.quotes,
                      (expected.quote_count + JSON_INDEX_AHEAD) * sizeof expected.quotes[0]) == 0);
        for (uint32_t i = 0; i < expected.special_count; i++) {
            ASSERT(expected.specials[i].base == actual.specials[i].base);
            ASSERT(expected.specials[i].mask == actual.specials[i].mask);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t offset = 0;
    const char *text = NULL;
    bool is_accepted = json_validate(data, bytes, &offset, &text) == 0;
    ASSERT(is_accepted == reference_accepts(data, bytes));
    ASSERT(is_accepted || (offset <= bytes && text != NULL));
    for (int kernel = JSON_INDEX_SSE2; kernel <= JSON_INDEX_AVX512; kernel++) {
        if (json_index_has((enum json_index_kernel)kernel)) {
            kernel_compare(data, bytes, (enum json_index_kernel)kernel);
        }
    }
    return 0;
}
