/* ulid: order, uniqueness, and one text for one identifier. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/ulid.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int parse_text(struct ulid *ulid, const char *text)
{
    return ulid_parse(ulid, (struct slice){(const uint8_t *)text, strlen(text)});
}

static void assert_text(const struct ulid *ulid, const char *expected)
{
    char text[ULID_TEXT_BYTES + 1];
    memset(text, '#', sizeof(text));
    ulid_format(text, ulid);
    assert_memory_equal(text, expected, ULID_TEXT_BYTES);
    assert_int_equal(text[ULID_TEXT_BYTES], '#');
}

static void text_is_that_of_the_specification(void **state)
{
    (void)state;
    struct ulid ulid;
    assert_int_equal(parse_text(&ulid, "01ARYZ6S41TSV4RRFFQ69G5FAV"), 0);
    assert_int_equal(ulid_time_ms(&ulid), 1469918176385);
    assert_text(&ulid, "01ARYZ6S41TSV4RRFFQ69G5FAV");
    memset(&ulid, 0xFF, sizeof(ulid));
    assert_text(&ulid, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    memset(&ulid, 0, sizeof(ulid));
    assert_text(&ulid, "00000000000000000000000000");
    for (size_t i = 0; i < ULID_BYTES; i++) {
        ulid.bytes[i] = (uint8_t)(i * 17);
    }
    assert_text(&ulid, "0024H36H2NCSVRH6DAQF6DVVQZ");
}

/* Bit by bit, as the definition has it: digit i holds bits 5i-2 .. 5i+2. */
static void format_slowly(char *text, const struct ulid *ulid)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for (size_t i = 0; i < ULID_TEXT_BYTES; i++) {
        unsigned value = 0;
        for (size_t k = 0; k < 5; k++) {
            size_t at = 5 * i + k; /* of 130 bits, the first two zero */
            unsigned byte = at < 2 ? 0 : ulid->bytes[(at - 2) / 8];
            unsigned bit = at < 2 ? 0 : (byte >> (7 - (at - 2) % 8)) & 1u;
            value = value << 1 | bit;
        }
        text[i] = digits[value];
    }
}

static void every_single_bit_survives_the_way_through_text(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 128; bit++) {
        struct ulid ulid = {{0}};
        ulid.bytes[bit / 8] = (uint8_t)(0x80 >> (bit % 8));
        char slow[ULID_TEXT_BYTES];
        format_slowly(slow, &ulid);
        assert_text(&ulid, slow);
        struct ulid back;
        assert_int_equal(ulid_parse(&back, (struct slice){(uint8_t *)slow, ULID_TEXT_BYTES}), 0);
        assert_memory_equal(&back, &ulid, sizeof(ulid));
        for (size_t i = 0; i < ULID_TEXT_BYTES; i++) {
            slow[i] = (char)(slow[i] >= 'A' ? slow[i] | 0x20 : slow[i]);
        }
        assert_int_equal(ulid_parse(&back, (struct slice){(uint8_t *)slow, ULID_TEXT_BYTES}), 0);
        assert_memory_equal(&back, &ulid, sizeof(ulid));
    }
}

static void parse_refuses_what_is_not_26_digits_of_128_bits(void **state)
{
    (void)state;
    struct ulid ulid;
    assert_int_equal(parse_text(&ulid, ""), -EINVAL);
    assert_int_equal(parse_text(&ulid, "01ARYZ6S41TSV4RRFFQ69G5FA"), -EINVAL);
    assert_int_equal(parse_text(&ulid, "01ARYZ6S41TSV4RRFFQ69G5FAVX"), -EINVAL);
    assert_int_equal(parse_text(&ulid, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ"), -EINVAL);
    for (unsigned c = 0; c < 256; c++) {
        uint8_t text[ULID_TEXT_BYTES];
        memset(text, '0', sizeof(text));
        text[c % (ULID_TEXT_BYTES - 1) + 1] = (uint8_t)c;
        bool is_digit = c != 0 && strchr("0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefghjkmnpqrstvwxyz",
                                         (int)c) != NULL;
        int r = ulid_parse(&ulid, (struct slice){text, sizeof(text)});
        assert_int_equal(r, is_digit ? 0 : -EINVAL);
    }
}

static void parse_of_every_truncation_stays_inside_its_bytes(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
    for (size_t bytes = 0; bytes <= ULID_TEXT_BYTES; bytes++) {
        uint8_t *text = p + page - bytes;
        memcpy(text, "01ARYZ6S41TSV4RRFFQ69G5FAV", bytes);
        struct ulid ulid;
        int r = ulid_parse(&ulid, (struct slice){text, bytes});
        assert_int_equal(r, bytes == ULID_TEXT_BYTES ? 0 : -EINVAL);
    }
    munmap(p, 2 * page);
}

static void assert_rising(const struct ulid *earlier, const struct ulid *later)
{
    assert_true(memcmp(earlier->bytes, later->bytes, ULID_BYTES) < 0);
}

static void one_source_is_strictly_rising_also_when_the_clock_steps_back(void **state)
{
    (void)state;
    struct ulid_source source;
    ulid_source_init(&source);
    struct ulid last = ulid_next(&source, -5);
    const int64_t start = 1756116000123000000;
    for (int64_t i = 0; i < 100000; i++) {
        /* Forward a little, and every 1000 steps an hour back. */
        int64_t now = start + i * 10000 - (i / 1000 % 2) * 3600 * (int64_t)NS_S;
        struct ulid next = ulid_next(&source, now);
        assert_rising(&last, &next);
        last = next;
    }
    assert_true(ulid_time_ms(&last) >= 1756116000123);
}

static void new_millisecond_is_in_the_identifier(void **state)
{
    (void)state;
    struct ulid_source source;
    ulid_source_init(&source);
    struct ulid first = ulid_next(&source, 1756116000123999999);
    assert_int_equal(ulid_time_ms(&first), 1756116000123);
    struct ulid second = ulid_next(&source, 1756116000124000000);
    assert_int_equal(ulid_time_ms(&second), 1756116000124);
}

static void exhausted_randomness_borrows_the_next_millisecond(void **state)
{
    (void)state;
    struct ulid_source source;
    ulid_source_init(&source);
    struct ulid last = ulid_next(&source, 1756116000123000000);
    source.random_high = 0;
    source.random_low = UINT64_MAX - 1;
    for (int i = 0; i < 3; i++) { /* The carry between the words. */
        struct ulid next = ulid_next(&source, 1756116000123000000);
        assert_int_equal(ulid_time_ms(&next), 1756116000123);
        assert_int_equal(next.bytes[7], i == 0 ? 0 : 1);
        last = next;
    }
    source.random_high = 0xFFFF;
    source.random_low = UINT64_MAX - 1;
    for (int i = 0; i < 4; i++) {
        struct ulid next = ulid_next(&source, 1756116000123000000);
        if (i > 0) {
            assert_rising(&last, &next);
        }
        assert_int_equal(ulid_time_ms(&next), i == 0 ? 1756116000123 : 1756116000124);
        last = next;
    }
}

static void two_sources_differ_within_the_same_millisecond(void **state)
{
    (void)state;
    struct ulid_source a;
    struct ulid_source b;
    ulid_source_init(&a);
    ulid_source_init(&b);
    for (int64_t i = 0; i < 1000; i++) {
        struct ulid from_a = ulid_next(&a, i * (int64_t)NS_MS);
        struct ulid from_b = ulid_next(&b, i * (int64_t)NS_MS);
        assert_memory_not_equal(&from_a, &from_b, sizeof(from_a));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_that_of_the_specification),
        cmocka_unit_test(every_single_bit_survives_the_way_through_text),
        cmocka_unit_test(parse_refuses_what_is_not_26_digits_of_128_bits),
        cmocka_unit_test(parse_of_every_truncation_stays_inside_its_bytes),
        cmocka_unit_test(one_source_is_strictly_rising_also_when_the_clock_steps_back),
        cmocka_unit_test(new_millisecond_is_in_the_identifier),
        cmocka_unit_test(exhausted_randomness_borrows_the_next_millisecond),
        cmocka_unit_test(two_sources_differ_within_the_same_millisecond),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
