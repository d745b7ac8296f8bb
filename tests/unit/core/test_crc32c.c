/* crc32c: the vectors of RFC 3720 B.4, and that all ways give the same answer at every length and
 * seam. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/crc32c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUT_BYTES (3u * 1024u * 8u + 4096u) /* several full rounds and every tail */

static uint8_t input[INPUT_BYTES];
static uint8_t output[INPUT_BYTES + 32];

static int fill_input(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (size_t i = 0; i < INPUT_BYTES; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        input[i] = (uint8_t)(seed >> 56);
    }
    return 0;
}

/* The definition: one bit at a time. */
static uint32_t crc_by_bits(uint32_t seed, const uint8_t *p, size_t bytes)
{
    uint32_t crc = ~seed;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1)));
        }
    }
    return ~crc;
}

static void assert_all_ways(const void *data, size_t bytes, uint32_t expected)
{
    assert_int_equal(crc32c(0, data, bytes), expected);
    assert_int_equal(crc32c_scalar(0, data, bytes), expected);
    assert_int_equal(crc32c_copy(0, output, data, bytes), expected);
    assert_memory_equal(output, data, bytes);
}

static void vectors_of_rfc_3720_hold(void **state)
{
    (void)state;
    uint8_t data[32];
    memset(data, 0, sizeof(data));
    assert_all_ways(data, 32, 0x8A9136AA);
    memset(data, 0xFF, sizeof(data));
    assert_all_ways(data, 32, 0x62A8AB43);
    for (size_t i = 0; i < 32; i++) {
        data[i] = (uint8_t)i;
    }
    assert_all_ways(data, 32, 0x46DD794E);
    for (size_t i = 0; i < 32; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    assert_all_ways(data, 32, 0x113FDB5C);
    static const uint8_t read_10[48] = {
        0x01, 0xC0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
    assert_all_ways(read_10, sizeof(read_10), 0xD9963A56);
    assert_all_ways("123456789", 9, 0xE3069283);
    assert_all_ways("", 0, 0);
    assert_int_equal(crc32c(0, NULL, 0), 0);
}

static void every_length_and_alignment_equals_the_definition(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes <= 1300; bytes++) {
        const uint8_t *data = input + bytes % 16;
        uint32_t seed = (uint32_t)bytes * 0x9E3779B9u;
        uint32_t expected = crc_by_bits(seed, data, bytes);
        assert_int_equal(crc32c(seed, data, bytes), expected);
        assert_int_equal(crc32c_scalar(seed, data, bytes), expected);
        memset(output, 0x55, bytes + 32);
        uint8_t *to = output + (bytes / 3) % 16;
        assert_int_equal(crc32c_copy(seed, to, data, bytes), expected);
        assert_memory_equal(to, data, bytes);
        assert_int_equal(to[bytes], 0x55);
    }
}

static void long_inputs_equal_the_scalar_twin(void **state)
{
    (void)state;
    for (size_t bytes = 1300; bytes <= INPUT_BYTES; bytes += 1 + bytes / 97) {
        uint32_t expected = crc32c_scalar(3, input, bytes);
        assert_int_equal(crc32c(3, input, bytes), expected);
        assert_int_equal(crc32c_copy(3, output, input, bytes), expected);
        assert_memory_equal(output, input, bytes);
    }
    assert_int_equal(crc32c_scalar(3, input, INPUT_BYTES), crc_by_bits(3, input, INPUT_BYTES));
}

static void result_fed_back_continues(void **state)
{
    (void)state;
    uint32_t whole = crc32c(0, input, 8192);
    for (size_t cut = 0; cut <= 8192; cut += 1 + cut / 31) {
        assert_int_equal(crc32c(crc32c(0, input, cut), input + cut, 8192 - cut), whole);
        assert_int_equal(crc32c_scalar(crc32c_copy(0, output, input, cut), input + cut, 8192 - cut),
                         whole);
    }
}

static void neither_reads_nor_writes_past_the_end(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_NONE), 0);
    assert_int_equal(mprotect(p + 3 * page, page, PROT_NONE), 0);
    for (size_t bytes = 0; bytes <= 600; bytes++) {
        uint8_t *from = p + page - bytes;
        uint8_t *to = p + 3 * page - bytes;
        memcpy(from, input, bytes);
        uint32_t expected = crc32c_scalar(0, from, bytes);
        assert_int_equal(crc32c(0, from, bytes), expected);
        assert_int_equal(crc32c_copy(0, to, from, bytes), expected);
    }
    munmap(p, 4 * page);
}

static void every_flipped_bit_changes_the_sum(void **state)
{
    (void)state;
    const size_t bytes = 400;
    uint32_t whole = crc32c(0, input, bytes);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        input[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(crc32c(0, input, bytes), whole);
        input[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

/* Copies of 32 KiB and more go past the cache where the target is aligned: every byte arrives, none
 * beside it changes. */
static void a_large_copy_is_whole_and_stays_inside_at_every_alignment(void **state)
{
    (void)state;
    enum {
        BYTES = 100003,
        ROOM = BYTES + 64
    };
    uint8_t *from = malloc(ROOM);
    uint8_t *to = malloc(ROOM);
    assert_non_null(from);
    assert_non_null(to);
    for (size_t i = 0; i < ROOM; i++) {
        from[i] = (uint8_t)(i * 131 + (i >> 8));
    }
    for (size_t offset = 0; offset < 17; offset++) {
        memset(to, 0xa5, ROOM);
        uint32_t crc = crc32c_copy(7, to + offset, from + 16 - offset, BYTES);
        assert_int_equal(crc, crc32c_scalar(7, from + 16 - offset, BYTES));
        assert_memory_equal(to + offset, from + 16 - offset, BYTES);
        for (size_t i = 0; i < offset; i++) {
            assert_int_equal(to[i], 0xa5);
        }
        for (size_t i = offset + BYTES; i < ROOM; i++) {
            assert_int_equal(to[i], 0xa5);
        }
    }
    free(from);
    free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_copy_is_whole_and_stays_inside_at_every_alignment),
        cmocka_unit_test(vectors_of_rfc_3720_hold),
        cmocka_unit_test(every_length_and_alignment_equals_the_definition),
        cmocka_unit_test(long_inputs_equal_the_scalar_twin),
        cmocka_unit_test(result_fed_back_continues),
        cmocka_unit_test(neither_reads_nor_writes_past_the_end),
        cmocka_unit_test(every_flipped_bit_changes_the_sum),
    };
    return cmocka_run_group_tests(tests, fill_input, NULL);
}
