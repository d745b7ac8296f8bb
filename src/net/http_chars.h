/*
 * http_chars: which bytes may stand where in an HTTP message (RFC 9110 §5.5, 5.6.2, RFC 3986), and
 * the scans that look for the first byte that may not. Pure; private to net.
 *
 * The scans of values and paths exist twice: a scalar one that reads the table, and one for 16
 * bytes at a time with SSE2 (every x86-64 has it, so nothing is dispatched at run time). The scalar
 * one is the definition; the tests hold the other to it. No scan reads at or past end: 16 bytes are
 * loaded only where 16 are left.
 */
#ifndef NET_HTTP_CHARS_H
#define NET_HTTP_CHARS_H

#include "core/base.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    HTTP_CHAR_TOKEN = 0x01,    /* tchar: names of fields, methods, list members */
    HTTP_CHAR_VALUE = 0x02,    /* field values: visible, SP, HTAB, obs-text */
    HTTP_CHAR_TARGET = 0x04,   /* request targets: visible without '#' */
    HTTP_CHAR_PATH = 0x08,     /* the same without '?' */
    HTTP_CHAR_REG_NAME = 0x10, /* host names: unreserved and sub-delims ('%' is looked at apart) */
    HTTP_CHAR_HEX = 0x20,
    HTTP_CHAR_DIGIT = 0x40,
};

extern const uint8_t http_char_classes[256];

static inline bool http_char_is(uint8_t c, unsigned classes)
{
    return (http_char_classes[c] & classes) != 0;
}

/* White space inside a line: OWS of RFC 9110 §5.6.3. */
static inline bool http_char_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* The first byte of [at, end) outside the class, or end. Bound: end - at steps. */
static inline const uint8_t *http_scan_scalar(const uint8_t *at, const uint8_t *end, unsigned class)
{
    while (at < end && http_char_is(*at, class)) {
        at++;
    }
    return at;
}

#if defined(__SSE2__)

#define HTTP_SCAN_BYTES 16

static inline __m128i http_chars_load(const uint8_t *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

static inline unsigned http_chars_mask(__m128i stops)
{
    return (unsigned)_mm_movemask_epi8(stops);
}

static inline __m128i http_chars_equal(__m128i bytes, char c)
{
    return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c));
}

/* Bit i is set where byte i may not stand in a field value. */
static inline unsigned http_stops_value(__m128i bytes)
{
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    const __m128i not_tab = _mm_andnot_si128(http_chars_equal(bytes, '\t'), control);
    return http_chars_mask(_mm_or_si128(not_tab, http_chars_equal(bytes, 0x7f)));
}

/* Bit i is set where byte i may not stand in a path. The comparison is signed, so that bytes from
 * 0x80 up are negative and fail it as well. */
static inline unsigned http_stops_path(__m128i bytes)
{
    const __m128i visible = _mm_cmpgt_epi8(bytes, _mm_set1_epi8(0x20));
    const __m128i fragment = http_chars_equal(bytes, '#');
    const __m128i query = http_chars_equal(bytes, '?');
    const __m128i others =
        _mm_or_si128(_mm_or_si128(fragment, query), http_chars_equal(bytes, 0x7f));
    return http_chars_mask(_mm_andnot_si128(others, visible)) ^ 0xffffu;
}

static inline const uint8_t *http_scan_value(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= HTTP_SCAN_BYTES) {
        const unsigned stops = http_stops_value(http_chars_load(at));
        if (stops != 0) {
            return at + __builtin_ctz(stops);
        }
        at += HTTP_SCAN_BYTES;
    }
    return http_scan_scalar(at, end, HTTP_CHAR_VALUE);
}

static inline const uint8_t *http_scan_path(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= HTTP_SCAN_BYTES) {
        const unsigned stops = http_stops_path(http_chars_load(at));
        if (stops != 0) {
            return at + __builtin_ctz(stops);
        }
        at += HTTP_SCAN_BYTES;
    }
    return http_scan_scalar(at, end, HTTP_CHAR_PATH);
}

#else

static inline const uint8_t *http_scan_value(const uint8_t *at, const uint8_t *end)
{
    return http_scan_scalar(at, end, HTTP_CHAR_VALUE);
}

static inline const uint8_t *http_scan_path(const uint8_t *at, const uint8_t *end)
{
    return http_scan_scalar(at, end, HTTP_CHAR_PATH);
}

#endif

/* Names are short and each has its own end: byte by byte is 6 % of a whole head faster than 16 at a
 * time (bench_http_head). Values and paths gain: a browser's head takes a quarter less with the
 * wide scan. */
static inline const uint8_t *http_scan_name(const uint8_t *at, const uint8_t *end)
{
    return http_scan_scalar(at, end, HTTP_CHAR_TOKEN);
}

#endif
