/*
 * json_index: each kernel against a byte-by-byte model that shares no code with them, over texts
 * that are dense in what matters and longer than a window. SLUICE_SEED repeats a run.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "model/json_index.h"

#define TEXT_BYTES_MAX 20000u

static uint8_t *guard_end;
static uint64_t random_state;

static int fixture_open(void **state)
{
    (void)state;
    size_t room = 8 * 4096;
    uint8_t *pages =
        mmap(NULL, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    guard_end = pages + room;
    return mprotect(guard_end, 4096, PROT_NONE);
}

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void text_fill(uint8_t *text, size_t bytes, const char *alphabet)
{
    size_t letters = strlen(alphabet);
    for (size_t i = 0; i < bytes; i++) {
        text[i] = (uint8_t)alphabet[random_next() % letters];
    }
}

/* Every quote and every special of data in order, one at a time, as a walk would take them. */
static void expect_same_as_model(const uint8_t *data, size_t bytes, enum json_index_kernel kernel)
{
    static struct json_index index;
    json_index_open(&index, data, bytes, kernel);
    bool is_escaped = false;
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t c = data[i];
        if (c == '"' && !is_escaped) {
            if (json_index_ahead(&index) < JSON_INDEX_AHEAD) {
                json_index_refill(&index, i);
            }
            assert_int_equal(index.quotes[index.quote_at], i);
            index.quote_at++;
        }
        if (i < index.indexed) {
            json_index_pass_specials(&index, i);
            bool is_special = c < 0x20 || c >= 0x80 || c == '\\';
            if (index.dirty_until == 0) {
                assert_int_equal(index.special_next == i, is_special);
            } else {
                assert_true(index.special_next <= i);
            }
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    json_index_refill(&index, (uint32_t)bytes);
    assert_int_equal(index.quotes[index.quote_at], JSON_INDEX_NONE);
    assert_int_equal(index.indexed, bytes);
}

static void expect_kernels_right(const char *alphabet)
{
    for (unsigned round = 0; round < 60; round++) {
        size_t bytes = random_next() % (round % 4 == 0 ? TEXT_BYTES_MAX : 300);
        /* Up to a page that must not be touched: no kernel reads beyond the text. */
        uint8_t *text = guard_end - bytes;
        text_fill(text, bytes, alphabet);
        for (int kernel = JSON_INDEX_SCALAR; kernel <= JSON_INDEX_AVX512; kernel++) {
            if (json_index_has((enum json_index_kernel)kernel)) {
                expect_same_as_model(text, bytes, (enum json_index_kernel)kernel);
            }
        }
    }
}

static void kernels_agree_with_the_model_on_dense_escapes(void **state)
{
    (void)state;
    expect_kernels_right("\\\\\\\"\"a");
}

static void kernels_agree_with_the_model_on_records(void **state)
{
    (void)state;
    expect_kernels_right("\"abcdefghijklmnopqrstuvwxyz{}:,0123456789 \n\\\xc3\xa4\t");
}

static void kernels_agree_with_the_model_on_nothing_but_specials(void **state)
{
    (void)state;
    expect_kernels_right("\x01\x1f\x80\xff\\\n");
}

static void kernels_agree_with_the_model_on_nothing_but_quotes(void **state)
{
    (void)state;
    expect_kernels_right("\"");
}

static void an_escape_reaches_over_every_block_edge(void **state)
{
    (void)state;
    uint8_t text[200];
    for (size_t run = 1; run < 70; run++) {
        for (size_t at = 0; at + run < sizeof text; at++) {
            memset(text, 'x', sizeof text);
            memset(text + at, '\\', run);
            text[at + run] = '"';
            expect_same_as_model(text, sizeof text, JSON_INDEX_AUTO);
        }
    }
}

int main(void)
{
    const char *seed = getenv("SLUICE_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) | 1 : 0x5eed1234567u;
    printf("SLUICE_SEED=%llu\n", (unsigned long long)random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree_with_the_model_on_dense_escapes),
        cmocka_unit_test(kernels_agree_with_the_model_on_records),
        cmocka_unit_test(kernels_agree_with_the_model_on_nothing_but_specials),
        cmocka_unit_test(kernels_agree_with_the_model_on_nothing_but_quotes),
        cmocka_unit_test(an_escape_reaches_over_every_block_edge),
    };
    return cmocka_run_group_tests(tests, fixture_open, NULL);
}
