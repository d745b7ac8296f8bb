#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/mem.h"
#include "model/json_scan.h"
#include "model/key_set.h"

#define PAGE_BYTES 4096u

static uint8_t *guard_end; /* the first byte of a page that traps */

static int guard_open(void **state)
{
    (void)state;
    uint8_t *pages =
        mmap(NULL, 3 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    guard_end = pages + 2 * PAGE_BYTES;
    return mprotect(guard_end, PAGE_BYTES, PROT_NONE);
}

/* 0, or one more than the offset of the error. */
static uint64_t validate_at_guard(const void *text, size_t bytes)
{
    uint8_t *at = guard_end - bytes;
    memcpy(at, text, bytes);
    uint64_t offset = 0;
    const char *why = NULL;
    if (json_validate(at, bytes, &offset, &why) == 0) {
        return 0;
    }
    assert_non_null(why);
    assert_true(offset <= bytes);
    return offset + 1;
}

static void expect_fault(const char *text, uint64_t offset)
{
    uint64_t got = validate_at_guard(text, strlen(text));
    if (got != offset + 1) {
        fail_msg("%s: %lld", text, (long long)got - 1);
    }
}

static void expect_good(const char *text)
{
    uint64_t got = validate_at_guard(text, strlen(text));
    if (got != 0) {
        fail_msg("%s: fault at %lld", text, (long long)got - 1);
    }
}

static void every_truncation_of_a_text_is_refused_without_reading_on(void **state)
{
    (void)state;
    static const char *const texts[] = {
        ("{\"a\":[1,2.5e-3,true,false,null,{\"b\":\"\\ud834\\udd1e\\n\"}],\"\xc3\xa4\":"
         "\"\xf0\x9d\x84\x9e\"}"),
        "[{\"k\" : \"v\" , \"w\" : [ ] } , -0.1E+12 , \"\\\\\" ]",
        "\"0123456789012345678901234567890123456789012345678901234567890123456789\\u00e4\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_good(texts[i]);
        for (size_t bytes = 0; bytes < strlen(texts[i]); bytes++) {
            assert_true(validate_at_guard(texts[i], bytes) != 0);
        }
    }
}

static void a_fault_is_reported_where_it_is(void **state)
{
    (void)state;
    expect_fault("", 0);
    expect_fault("  ", 2);
    expect_fault("{\"a\" 1}", 5);
    expect_fault("{\"a\":1 \"b\":2}", 7);
    expect_fault("{\"a\":1,}", 7);
    expect_fault("[1,]", 3);
    expect_fault("[1}", 2);
    expect_fault("{\"a\":\"x\ny\"}", 7);
    expect_fault("{\"a\":\"\\x\"}", 6);
    expect_fault("{\"a\":\"\\ud800\"}", 6);
    expect_fault("{\"a\":\"abc\xff\"}", 9);
    expect_fault("{\"a\":\"abc}", 5);
    expect_fault("01", 1);
    expect_fault("1 2", 2);
    expect_fault("nul", 0);
    expect_fault("\xef\xbb\xbf{}", 0);
    expect_fault("\"a\" \\\"", 4);
}

static void utf8_is_that_of_the_standard(void **state)
{
    (void)state;
    static const char *const good[] = {
        "\"\xc2\x80\"",     "\"\xdf\xbf\"",         "\"\xe0\xa0\x80\"",    "\"\xed\x9f\xbf\"",
        "\"\xee\x80\x80\"", "\"\xf0\x90\x80\x80\"", "\"\xf4\x8f\xbf\xbf\""};
    static const char *const bad[] = {"\"\x80\"",
                                      "\"\xc0\x80\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xc2\"",
                                      "\"\xe0\x9f\xbf\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xe1\x80\"",
                                      "\"\xf0\x8f\xbf\xbf\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\x80\"",
                                      "\"\xf1\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\xc2\x41\"",
                                      "\"\xe1\x80\x41\"",
                                      "\"\xf1\x80\x80\x41\""};
    for (size_t pad = 0; pad < 20; pad++) {
        char text[64];
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            snprintf(text, sizeof text, "\"%.*s%s", (int)pad, "aaaaaaaaaaaaaaaaaaaa", good[i] + 1);
            expect_good(text);
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            snprintf(text, sizeof text, "\"%.*s%s", (int)pad, "aaaaaaaaaaaaaaaaaaaa", bad[i] + 1);
            expect_fault(text, pad + 1);
        }
    }
}

static void sixty_four_levels_are_taken_and_no_more(void **state)
{
    (void)state;
    char text[600];
    for (unsigned depth = 1; depth <= 80; depth++) {
        for (unsigned kind = 0; kind < 2; kind++) {
            size_t at = 0;
            for (unsigned i = 0; i < depth; i++) {
                at += (size_t)snprintf(text + at, sizeof text - at, kind ? "[" : "{\"a\":");
            }
            text[at++] = '1';
            memset(text + at, kind ? ']' : '}', depth);
            assert_int_equal(validate_at_guard(text, at + depth) == 0, depth <= JSON_DEPTH_MAX);
        }
    }
}

static void a_string_longer_than_many_windows_is_checked_to_its_end(void **state)
{
    (void)state;
    size_t bytes = 100 * (size_t)JSON_INDEX_WINDOW;
    uint8_t *text = mem_alloc(bytes);
    uint64_t offset;
    const char *why;
    for (unsigned dense = 0; dense < 2; dense++) {
        /* Dense: so many specials that their list is given up. */
        for (size_t i = 0; i < bytes; i += 2) {
            memcpy(text + i, dense ? "\xc3\xa4" : "aa", 2);
        }
        memcpy(text, "[\"", 2);
        memcpy(text + bytes - 20, "\",\"abcd\",\"\\n\xc3\xa4\",\"d\"]", 20);
        assert_int_equal(json_validate(text, bytes, &offset, &why), 0);
        for (size_t at = 10; at < bytes - 30; at += 40002) {
            uint8_t kept = text[at];
            text[at] = 0x1f;
            assert_int_equal(json_validate(text, bytes, &offset, &why), -1);
            text[at] = kept;
        }
        text[bytes - 16] = 0x07; /* in a string after it: its specials must not be lost */
        assert_int_equal(json_validate(text, bytes, &offset, &why), -1);
        assert_int_equal(offset, bytes - 16);
    }
    mem_free(text);
}

static bool is_finite(const char *text)
{
    return json_number_is_finite((struct slice){(const uint8_t *)text, strlen(text)});
}

static void a_number_is_finite_exactly_when_a_double_is(void **state)
{
    (void)state;
    static const char *const mantissas[] = {
        "0",
        "-0",
        "0.000",
        "1",
        "-1",
        "9.99",
        "0.001",
        "0.00000001797",
        "17976931348623157",
        "1.7976931348623157",
        "1.7976931348623158",
        "1.7976931348623159",
        "1.7976931348623160",
        "179769313486231580793728971405303415",
        "0.000179769313486231580793728971405303414",
        "100000000000000000000000000000000000",
        "123456.789",
        "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649"
        "017977587207096330286416692887910946555547851940402630657488671505820681908902000708383"
        "676273854845817711531764475730270069855571366959622842914819860834936475292719074168444"
        "36551070434271155969950809304288017790417449779",
    };
    char text[512];
    for (size_t i = 0; i < sizeof mantissas / sizeof mantissas[0]; i++) {
        assert_int_equal(is_finite(mantissas[i]), isfinite(strtod(mantissas[i], NULL)));
        for (int exponent = -330; exponent <= 330; exponent++) {
            snprintf(text, sizeof text, "%se%d", mantissas[i], exponent);
            if (is_finite(text) != (bool)isfinite(strtod(text, NULL))) {
                fail_msg("%s", text);
            }
        }
    }
    /* The limit itself, half way between the largest double and what would follow, and its
     * neighbours. */
    snprintf(text, sizeof text, "%s1", mantissas[17]);
    assert_true(is_finite(text));
    snprintf(text, sizeof text, "%s2", mantissas[17]);
    assert_false(is_finite(text));
    snprintf(text, sizeof text, "%s1.999", mantissas[17]);
    assert_true(is_finite(text));
    assert_false(is_finite("1e99999999999999999999999999"));
    assert_true(is_finite("1e-99999999999999999999999999"));
    assert_true(is_finite("0e99999999999999999999999999"));
}

static void escapes_are_undone(void **state)
{
    (void)state;
    static const char raw[] =
        "a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\\ud834\\udd1e\\u0000z";
    static const char plain[] = "a\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac\xf0\x9d\x84\x9e\0z";
    uint8_t to[64];
    struct slice slice = {(const uint8_t *)raw, sizeof raw - 1};
    assert_int_equal(json_unescape(slice, to, sizeof to), sizeof plain - 1);
    assert_memory_equal(to, plain, sizeof plain - 1);
    memset(to, 'x', sizeof to);
    assert_int_equal(json_unescape(slice, to, 3), sizeof plain - 1);
    assert_memory_equal(to, "a\"\\x", 4);
}

static enum key_set_result add(struct key_set *set, const char *key)
{
    return key_set_add(set, (struct slice){(const uint8_t *)key, strlen(key)},
                       strchr(key, '\\') != NULL);
}

static void keys_are_the_same_when_they_spell_the_same(void **state)
{
    (void)state;
    struct key_set *set = mem_alloc(sizeof *set);
    memset(set, 0xa5, sizeof *set); /* slots may hold anything */
    key_set_reset(set);
    assert_int_equal(add(set, "agent_identifier"), KEY_SET_NEW);
    assert_int_equal(add(set, "agent_identifies"), KEY_SET_NEW);
    assert_int_equal(add(set, "agent_\\u0069dentifier"), KEY_SET_DUPLICATE);
    assert_int_equal(add(set, "\\u00e4"), KEY_SET_NEW);
    assert_int_equal(add(set, "\xc3\xa4"), KEY_SET_DUPLICATE);
    assert_int_equal(add(set, ""), KEY_SET_NEW);
    assert_int_equal(add(set, ""), KEY_SET_DUPLICATE);
    key_set_reset(set);
    assert_int_equal(add(set, "agent_identifier"), KEY_SET_NEW);
    mem_free(set);
}

static void a_full_key_set_still_knows_its_keys(void **state)
{
    (void)state;
    static char keys[KEY_SET_MAX][12];
    struct key_set *set = mem_alloc(sizeof *set);
    for (unsigned i = 0; i < KEY_SET_MAX; i++) {
        snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_int_equal(add(set, keys[i]), KEY_SET_NEW);
    }
    assert_int_equal(add(set, "one more"), KEY_SET_FULL);
    for (unsigned i = 0; i < KEY_SET_MAX; i++) {
        assert_int_equal(add(set, keys[i]), KEY_SET_DUPLICATE);
    }
    mem_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_of_a_text_is_refused_without_reading_on),
        cmocka_unit_test(a_fault_is_reported_where_it_is),
        cmocka_unit_test(utf8_is_that_of_the_standard),
        cmocka_unit_test(sixty_four_levels_are_taken_and_no_more),
        cmocka_unit_test(a_string_longer_than_many_windows_is_checked_to_its_end),
        cmocka_unit_test(a_number_is_finite_exactly_when_a_double_is),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(keys_are_the_same_when_they_spell_the_same),
        cmocka_unit_test(a_full_key_set_still_knows_its_keys),
    };
    return cmocka_run_group_tests(tests, guard_open, NULL);
}
