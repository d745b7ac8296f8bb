/* buf: bounded text, digits, and JSON strings that are valid whatever comes in. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/buf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void assert_holds(const struct buf *buf, const char *text)
{
    assert_int_equal(buf->bytes, strlen(text));
    assert_memory_equal(buf->data, text, buf->bytes);
}

static void puts_append_in_order(void **state)
{
    (void)state;
    char memory[64];
    struct buf buf;
    buf_init(&buf, memory, sizeof(memory));
    buf_put(&buf, "ab", 2);
    buf_put_char(&buf, 'c');
    buf_put_text(&buf, "de");
    buf_put_slice(&buf, SLICE_LITERAL("fg"));
    buf_put_u64(&buf, 18446744073709551615ull);
    buf_put_char(&buf, ' ');
    buf_put_i64(&buf, INT64_MIN);
    assert_holds(&buf, "abcdefg18446744073709551615 -9223372036854775808");
    assert_false(buf.is_truncated);
    buf_reset(&buf);
    buf_put(&buf, NULL, 0);
    assert_holds(&buf, "");
}

static void overlong_text_is_cut_and_nothing_follows_the_hole(void **state)
{
    (void)state;
    char memory[9] = "........";
    struct buf buf;
    buf_init(&buf, memory, 5);
    buf_put_text(&buf, "abc");
    buf_put_text(&buf, "def");
    buf_put_char(&buf, 'g');
    assert_holds(&buf, "abcde");
    assert_true(buf.is_truncated);
    assert_string_equal(memory + 5, "...");
    buf_reset(&buf);
    assert_false(buf.is_truncated);
    buf_put_text(&buf, "12345");
    assert_holds(&buf, "12345");
    assert_false(buf.is_truncated);
}

static void printf_fills_to_the_last_byte(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity <= 12; capacity++) {
        char memory[16];
        memset(memory, '#', sizeof(memory));
        struct buf buf;
        buf_init(&buf, memory, capacity);
        buf_printf(&buf, "%s-%d", "abcdef", 123);
        assert_int_equal(buf.is_truncated, capacity < 10);
        assert_int_equal(buf.bytes, capacity < 10 ? capacity : 10);
        assert_memory_equal(memory, "abcdef-123", buf.bytes);
        assert_int_equal(memory[capacity], '#');
        buf_printf(&buf, "%s", "");
        assert_int_equal(buf.is_truncated, capacity < 10);
    }
}

static void printf_longer_than_its_scratch_is_cut(void **state)
{
    (void)state;
    static char memory[2000];
    struct buf buf;
    buf_init(&buf, memory, sizeof(memory));
    buf_printf(&buf, "%3000d", 7);
    assert_true(buf.is_truncated);
    assert_true(buf.bytes >= sizeof(memory) - 1);
    buf_put_char(&buf, 'x');
    assert_true(buf.data[buf.bytes - 1] == ' ');
}

static void check_format(uint64_t value)
{
    char expected[32];
    char got[21] = "####################";
    snprintf(expected, sizeof(expected), "%" PRIu64, value);
    size_t length = u64_format(got, value);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(got, expected, length);
}

static void numbers_around_every_power_have_the_right_digits(void **state)
{
    (void)state;
    uint64_t power = 1;
    for (int i = 0; i < 20; i++, power *= 10) {
        check_format(power - 1);
        check_format(power);
        check_format(power + 1);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        check_format(1ull << bit);
        check_format((1ull << bit) - 1);
    }
    check_format(UINT64_MAX);
    for (uint64_t i = 0; i < 20000; i++) {
        check_format(i);
        check_format((i * 0x9E3779B97F4A7C15ull) >> (i & 63));
    }
}

static void assert_json(const void *text, size_t bytes, const char *expected)
{
    char memory[256];
    struct buf buf;
    buf_init(&buf, memory, sizeof(memory));
    buf_put_json_string(&buf, (struct slice){text, bytes});
    assert_holds(&buf, expected);
}

static void json_string_escapes_what_it_must(void **state)
{
    (void)state;
    assert_json("", 0, "\"\"");
    assert_json("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
    assert_json("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"");
    assert_json("\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\x7f\"");
}

#define FFFD "\xEF\xBF\xBD"

static void json_string_passes_valid_utf8_and_replaces_the_rest(void **state)
{
    (void)state;
    assert_json("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9,
                "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    assert_json("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", 10,
                "\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\"");
    assert_json("\x80", 1, "\"" FFFD "\"");
    assert_json("\xC0\xAF", 2, "\"" FFFD FFFD "\"");          /* overlong */
    assert_json("\xE0\x9F\xBF", 3, "\"" FFFD FFFD FFFD "\""); /* overlong */
    assert_json("\xF0\x8F\xBF\xBF", 4, "\"" FFFD FFFD FFFD FFFD "\"");
    assert_json("\xED\xA0\x80", 3, "\"" FFFD FFFD FFFD "\""); /* surrogate */
    assert_json("\xF4\x90\x80\x80", 4, "\"" FFFD FFFD FFFD FFFD "\"");
    assert_json("\xF5\xFF", 2, "\"" FFFD FFFD "\"");
    assert_json("\xE2\x82\"", 3, "\"" FFFD FFFD "\\\"\""); /* a quote is never swallowed */
    assert_json("\xE2\x82z", 3, "\"" FFFD FFFD "z\"");
}

/* A page whose end is the end of what may be read. */
static uint8_t *guarded_end(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
    return p + page;
}

static void json_string_of_every_truncation_stays_inside_its_bytes(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA9\"\xE2\x82\xAC\n\xF0\x9F\x98\x80";
    uint8_t *end = guarded_end();
    for (size_t bytes = 0; bytes < sizeof(text); bytes++) {
        memcpy(end - bytes, text, bytes);
        char memory[128];
        struct buf buf;
        buf_init(&buf, memory, sizeof(memory));
        buf_put_json_string(&buf, (struct slice){end - bytes, bytes});
        assert_false(buf.is_truncated);
        assert_true(buf.bytes >= 2 + bytes);
    }
}

/* The whole of table 3-7, written independently of buf.c. */
static size_t valid_sequence(const uint8_t *p, size_t left)
{
    uint32_t c = p[0];
    size_t bytes = c < 0x80             ? 1
                   : (c & 0xE0) == 0xC0 ? 2
                   : (c & 0xF0) == 0xE0 ? 3
                   : (c & 0xF8) == 0xF0 ? 4
                                        : 0;
    if (bytes == 0 || bytes > left) {
        return 0;
    }
    uint32_t point = bytes == 1 ? c : c & (0xFFu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
        point = point << 6 | (p[i] & 0x3Fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    bool is_valid =
        point >= least[bytes] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
    return is_valid ? bytes : 0;
}

static void assert_valid_json_string(const uint8_t *p, size_t bytes)
{
    assert_true(bytes >= 2);
    assert_int_equal(p[0], '"');
    assert_int_equal(p[bytes - 1], '"');
    for (size_t i = 1; i < bytes - 1;) {
        assert_true(p[i] >= 0x20 && p[i] != '"');
        size_t sequence = valid_sequence(p + i, bytes - 1 - i);
        assert_true(sequence > 0);
        if (p[i] == '\\') {
            assert_non_null(strchr("\"\\bfnrtu", p[i + 1]));
            sequence = p[i + 1] == 'u' ? 6 : 2;
        }
        i += sequence;
    }
}

static void json_string_of_random_bytes_is_always_valid(void **state)
{
    (void)state;
    uint64_t seed = 0x5157ull; /* Fixed: a failure repeats by running the test again. */
    static uint8_t memory[6 * 64 + 2];
    for (int round = 0; round < 20000; round++) {
        uint8_t text[64];
        size_t bytes = (size_t)round % sizeof(text);
        for (size_t i = 0; i < bytes; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            /* Mostly lead and continuation bytes, or nearly every sequence would be broken at once.
             */
            text[i] = (uint8_t)((seed >> 56) | ((seed >> 20) & 1 ? 0x80 : 0));
        }
        struct buf buf;
        buf_init(&buf, memory, sizeof(memory));
        buf_put_json_string(&buf, (struct slice){text, bytes});
        assert_false(buf.is_truncated);
        assert_valid_json_string(buf.data, buf.bytes);
    }
}

static void every_two_and_three_byte_prefix_is_judged_as_unicode_does(void **state)
{
    (void)state;
    uint8_t memory[64];
    for (uint32_t prefix = 0; prefix < 0x10000; prefix++) {
        uint8_t text[4] = {(uint8_t)(prefix >> 8), (uint8_t)prefix, 0x80, 0xBF};
        struct buf buf;
        buf_init(&buf, memory, sizeof(memory));
        buf_put_json_string(&buf, (struct slice){text, sizeof(text)});
        assert_valid_json_string(buf.data, buf.bytes);
        size_t sequence = valid_sequence(text, sizeof(text));
        if (sequence > 1) {
            assert_memory_equal(buf.data + 1, text, sequence);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(puts_append_in_order),
        cmocka_unit_test(overlong_text_is_cut_and_nothing_follows_the_hole),
        cmocka_unit_test(printf_fills_to_the_last_byte),
        cmocka_unit_test(printf_longer_than_its_scratch_is_cut),
        cmocka_unit_test(numbers_around_every_power_have_the_right_digits),
        cmocka_unit_test(json_string_escapes_what_it_must),
        cmocka_unit_test(json_string_passes_valid_utf8_and_replaces_the_rest),
        cmocka_unit_test(json_string_of_every_truncation_stays_inside_its_bytes),
        cmocka_unit_test(json_string_of_random_bytes_is_always_valid),
        cmocka_unit_test(every_two_and_three_byte_prefix_is_judged_as_unicode_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
