/*
 * buf: a bounded text builder. Pure: writes only into the memory it was given. A text that does not
 * fit is cut, what is kept is always a prefix of what was asked for (nothing is appended after a
 * cut), and is_truncated says so.
 */
#include "core/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *buf, void *memory, size_t capacity)
{
    ASSERT(buf != NULL);
    ASSERT(memory != NULL || capacity == 0);
    *buf = (struct buf){.data = memory, .bytes = 0, .capacity = capacity, .is_truncated = false};
}

void buf_reset(struct buf *buf)
{
    buf->bytes = 0;
    buf->is_truncated = false;
}

/* After a cut there is no room, even if bytes are left: a later, shorter piece must not follow a
 * hole. */
static size_t buf_room(const struct buf *buf)
{
    ASSERT(buf->bytes <= buf->capacity);
    return buf->is_truncated ? 0 : buf->capacity - buf->bytes;
}

void buf_put(struct buf *buf, const void *data, size_t bytes)
{
    size_t room = buf_room(buf);
    if (UNLIKELY(bytes > room)) {
        buf->is_truncated = true;
        bytes = room;
    }
    if (bytes != 0) { /* memcpy(NULL, NULL, 0) is undefined. */
        memcpy(buf->data + buf->bytes, data, bytes);
        buf->bytes += bytes;
    }
}

void buf_put_slice(struct buf *buf, struct slice slice)
{
    buf_put(buf, slice.data, slice.bytes);
}

void buf_put_text(struct buf *buf, const char *text)
{
    buf_put(buf, text, strlen(text));
}

void buf_put_char(struct buf *buf, char c)
{
    buf_put(buf, &c, 1);
}

static const char digit_pairs[200] = {"000102030405060708091011121314151617181920212223242526272829"
                                      "30313233343536373839404142434445464748"
                                      "495051525354555657585960616263646566676869707172737475767778"
                                      "79808182838485868788899091929394959697"
                                      "9899"};

static const uint64_t powers_of_ten[20] = {
    1ull,
    10ull,
    100ull,
    1000ull,
    10000ull,
    100000ull,
    1000000ull,
    10000000ull,
    100000000ull,
    1000000000ull,
    10000000000ull,
    100000000000ull,
    1000000000000ull,
    10000000000000ull,
    100000000000000ull,
    1000000000000000ull,
    10000000000000000ull,
    100000000000000000ull,
    1000000000000000000ull,
    10000000000000000000ull,
};

/* 1233 / 4096 is log10(2) closely enough for 64 bits; the table corrects the guess by at most one.
 */
static size_t u64_digit_count(uint64_t value)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(value | 1);
    size_t guess = (bits * 1233u) >> 12;
    return guess + (value >= powers_of_ten[guess] || guess == 0);
}

size_t u64_format(char *out, uint64_t value)
{
    size_t count = u64_digit_count(value);
    char *at = out + count;
    while (value >= 100) { /* At most nine steps: the compiler turns / 100 into a multiplication. */
        uint64_t rest = value / 100;
        at -= 2;
        memcpy(at, digit_pairs + 2 * (value - rest * 100), 2);
        value = rest;
    }
    if (value >= 10) {
        memcpy(out, digit_pairs + 2 * value, 2);
    } else {
        out[0] = (char)('0' + value);
    }
    return count;
}

void buf_put_u64(struct buf *buf, uint64_t value)
{
    char digits[20];
    buf_put(buf, digits, u64_format(digits, value));
}

void buf_put_i64(struct buf *buf, int64_t value)
{
    if (value < 0) {
        buf_put_char(buf, '-');
        buf_put_u64(buf, 0 - (uint64_t)value); /* INT64_MIN has no positive twin. */
        return;
    }
    buf_put_u64(buf, (uint64_t)value);
}

/* vsnprintf wants one byte more than the text for its NUL, so a text that fits to the last byte
 * goes through a scratch (longer ones than the scratch lose that one case and count as cut). */
#define PRINTF_SCRATCH_BYTES 1024

static void buf_printf_tight(struct buf *buf, size_t length, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

static void buf_printf_tight(struct buf *buf, size_t length, const char *format, va_list arguments)
{
    char scratch[PRINTF_SCRATCH_BYTES];
    if (length < sizeof(scratch)) {
        vsnprintf(scratch, sizeof(scratch), format, arguments);
        buf_put(buf, scratch, length);
        return;
    }
    size_t room = buf_room(buf);
    buf->bytes += room > 0 ? room - 1 : 0; /* What the first vsnprintf left there. */
    buf->is_truncated = true;
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    size_t room = buf_room(buf);
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    char none[1];
    char *at = room > 0 ? (char *)buf->data + buf->bytes : none;
    int length = vsnprintf(at, room, format, arguments);
    if (length < 0) {
        buf->is_truncated = true; /* UNTESTED: only an encoding error of %ls could do this. */
    } else if ((size_t)length < room) {
        buf->bytes += (size_t)length;
    } else if (length > 0) {
        buf_printf_tight(buf, (size_t)length, format, again);
    }
    va_end(again);
    va_end(arguments);
}

/* How many bytes a sequence with this first byte has; 0 for a byte that begins none. */
static size_t utf8_lead_bytes(uint8_t lead)
{
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) { /* a continuation; an overlong form; above U+10FFFF */
        return 0;
    }
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* Length of the valid UTF-8 sequence (Unicode 15, table 3-7: no overlong forms, no surrogates,
 * nothing above U+10FFFF) at p, 0 when there is none. Reads at most left bytes. */
static size_t utf8_sequence_bytes(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    size_t bytes = utf8_lead_bytes(lead);
    if (bytes < 2) {
        return bytes;
    }
    if (left < bytes) {
        return 0;
    }
    uint8_t second_min = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t second_max = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < second_min || p[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < bytes; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return bytes;
}

/* Bytes from p on that stand in a JSON string as they are. */
static size_t json_plain_bytes(const uint8_t *p, size_t left)
{
    size_t at = 0;
    while (at < left) {
        uint8_t c = p[at];
        if (c < 0x80) {
            if (c < 0x20 || c == '"' || c == '\\') {
                break;
            }
            at++;
            continue;
        }
        size_t sequence = utf8_sequence_bytes(p + at, left - at);
        if (sequence == 0) {
            break;
        }
        at += sequence;
    }
    return at;
}

/* The letter of the two-character escape, 0 where there is none. */
static char json_escape_letter(uint8_t c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void buf_put_json_escape(struct buf *buf, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    if (c >= 0x80) {
        buf_put(buf, "\xEF\xBF\xBD", 3); /* U+FFFD for a byte that belongs to no character. */
        return;
    }
    char letter = json_escape_letter(c);
    if (letter != 0) {
        buf_put(buf, (const char[2]){'\\', letter}, 2);
        return;
    }
    buf_put(buf, (const char[6]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

void buf_put_json_string(struct buf *buf, struct slice text)
{
    buf_put_char(buf, '"');
    size_t at = 0;
    while (at < text.bytes) {
        size_t plain = json_plain_bytes(text.data + at, text.bytes - at);
        buf_put(buf, text.data + at, plain);
        at += plain;
        if (at < text.bytes) {
            buf_put_json_escape(buf, text.data[at]);
            at++;
        }
    }
    buf_put_char(buf, '"');
}
