/*
 * The chunked decoder: each vector is decoded in one piece, byte by byte and cut in two at each
 * place, always in place in memory that ends at a guard page, and must give the same body, the same
 * end and the same fault.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "net/http_chunked.h"

#define GUARDED_BYTES (1u << 20)

static const struct http_limits usual_limits = {1024, 8192, HTTP_FIELDS_MAX, 1000};
static uint8_t *guard_start;

static int make_guard(void **state)
{
    (void)state;
    guard_start = mmap(NULL, GUARDED_BYTES + 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(guard_start != MAP_FAILED);
    return mprotect(guard_start + GUARDED_BYTES, 4096, PROT_NONE);
}

static uint8_t *guarded(const void *bytes, size_t n)
{
    assert_true(n <= GUARDED_BYTES);
    uint8_t *at = guard_start + GUARDED_BYTES - n;
    memmove(at, bytes, n);
    return at;
}

struct outcome {
    enum chunked_result result;
    size_t taken;
    size_t body_bytes;
    uint8_t body[1u << 18];
    struct http_fault fault;
};

/* One piece, in place. */
static void feed(struct http_chunked *chunked, struct outcome *outcome, const uint8_t *bytes,
                 size_t n)
{
    size_t taken = 0;
    size_t given = 0;
    uint8_t *at = guarded(bytes, n);
    outcome->result = http_chunked_decode(chunked, at, at, n, &taken, &given, &outcome->fault);
    assert_true(given <= taken);
    assert_true(taken <= n);
    if (outcome->result == CHUNKED_MORE) {
        assert_int_equal(taken, n);
    }
    assert_true(outcome->body_bytes + given <= sizeof outcome->body);
    memcpy(outcome->body + outcome->body_bytes, at, given);
    outcome->taken += taken;
    outcome->body_bytes += given;
}

static void decode(struct outcome *outcome, const void *text, size_t n, size_t first, size_t step,
                   const struct http_limits *limits)
{
    const uint8_t *bytes = text;
    struct http_chunked chunked;
    http_chunked_init(&chunked, limits);
    outcome->result = CHUNKED_MORE;
    outcome->taken = 0;
    outcome->body_bytes = 0;
    outcome->fault = (struct http_fault){0, NULL};
    for (size_t at = 0, size = first; at < n && outcome->result == CHUNKED_MORE; size = step) {
        size = size > n - at ? n - at : size;
        feed(&chunked, outcome, bytes + at, size);
        at += size;
    }
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
    assert_int_equal(a->result, b->result);
    assert_int_equal(a->taken, b->taken);
    assert_int_equal(a->body_bytes, b->body_bytes);
    assert_memory_equal(a->body, b->body, a->body_bytes);
    assert_int_equal(a->fault.status, b->fault.status);
    assert_ptr_equal(a->fault.text, b->fault.text);
}

static const struct outcome *decode_every_way(const void *text, size_t n,
                                              const struct http_limits *limits)
{
    static struct outcome whole;
    static struct outcome pieces;
    decode(&whole, text, n, n, n, limits);
    decode(&pieces, text, n, 1, 1, limits);
    assert_same(&whole, &pieces);
    for (size_t cut = 1; cut < n && n < 1024; cut++) {
        decode(&pieces, text, n, cut, n, limits);
        assert_same(&whole, &pieces);
    }
    return &whole;
}

/* The vector, complete: DONE at its end and not a byte earlier, with or without the next request
 * behind it. */
static void expect_body(const char *text, size_t n, const char *body)
{
    static struct outcome truncated;
    char next[2048];
    const struct outcome *outcome = decode_every_way(text, n, &usual_limits);
    if (outcome->result != CHUNKED_DONE) {
        fail_msg("result %d (%s) for: %s", outcome->result, outcome->fault.text, text);
    }
    assert_int_equal(outcome->taken, n);
    assert_int_equal(outcome->body_bytes, strlen(body));
    assert_memory_equal(outcome->body, body, strlen(body));
    for (size_t less = 0; less < n; less++) {
        decode(&truncated, text, less, less, less, &usual_limits);
        assert_int_equal(truncated.result, CHUNKED_MORE);
    }
    memcpy(next, text, n);
    memcpy(next + n, "GET /\n", 6);
    outcome = decode_every_way(next, n + 6, &usual_limits);
    assert_int_equal(outcome->result, CHUNKED_DONE);
    assert_int_equal(outcome->taken, n);
}

static void expect_fault(const char *text, size_t n, unsigned status)
{
    const struct outcome *outcome = decode_every_way(text, n, &usual_limits);
    if (outcome->result != CHUNKED_FAULT || outcome->fault.status != status) {
        fail_msg("result %d, status %u instead of %u for: %s", outcome->result,
                 outcome->fault.status, status, text);
    }
    assert_true(strlen(outcome->fault.text) > 10);
}

#define EXPECT_BODY(literal, body)    expect_body(literal, sizeof(literal) - 1, body)
#define EXPECT_FAULT(status, literal) expect_fault(literal, sizeof(literal) - 1, status)

static void chunks_are_joined(void **state)
{
    (void)state;
    EXPECT_BODY("0\r\n\r\n", "");
    EXPECT_BODY("5\r\nhello\r\n0\r\n\r\n", "hello");
    EXPECT_BODY("1\r\na\r\n2\r\nbc\r\nA\r\n0123456789\r\n000\r\n\r\n", "abc0123456789");
    EXPECT_BODY("0000000000000003\r\n\r\n0\r\n0\r\n\r\n", "\r\n0");
    EXPECT_BODY("1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", "abcdefghijklmnopqrstuvwxyz");
    EXPECT_BODY("1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", "abcdefghijklmnopqrstuvwxyz");
}

static void extensions_are_ignored(void **state)
{
    (void)state;
    EXPECT_BODY("1;a\r\nx\r\n0;z=1\r\n\r\n", "x");
    EXPECT_BODY("1;a=b;c=\"d;\\\"\";e\r\nx\r\n0\r\n\r\n", "x");
}

static void extensions_follow_their_grammar(void **state)
{
    (void)state;
    EXPECT_BODY("1;a=\"q \\\" \\\\ ;=\t\x80\"\r\nx\r\n0\r\n\r\n", "x");
    EXPECT_BODY("1;a=\"\"\r\nx\r\n0\r\n\r\n", "x");
    EXPECT_BODY("1 \t; \ta \t= \tb ; c\r\nx\r\n0\r\n\r\n", "x");
    EXPECT_FAULT(400, "1;\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1; \r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;;a\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a \r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a b\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=b c\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=\"b\"c\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=b\"c\"\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=\"b\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=\"b\\\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a\rx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a=\"b\nc\"\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;a\0\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1;\x80\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1:a\r\nx\r\n0\r\n\r\n");
}

static void sizes_are_plain_hexadecimal(void **state)
{
    (void)state;
    EXPECT_FAULT(400, "\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, ";a\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, " 1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "\t1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1 \r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\t\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1 1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "+1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "-1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "0x1\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1h\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1_0\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "g\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1.\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\0\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\x80\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "00000000000000001\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "00000000000000000\r\n\r\n");
}

static void lines_end_with_cr_lf_only(void **state)
{
    (void)state;
    EXPECT_FAULT(400, "1\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\rx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nx\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nx\r0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nxx\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nxy\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "2\r\nx\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nx\r\n\r\n0\r\n\r\n");
    EXPECT_FAULT(400, "1\r\nx0\r\n\r\n");
    EXPECT_FAULT(400, "0\n\r\n");
    EXPECT_FAULT(400, "0\r\n\n");
    EXPECT_FAULT(400, "0\r\n\rx");
    EXPECT_FAULT(400, "0\r\nA: b\n\r\n");
    EXPECT_FAULT(400, "0\r\nA: b\rC: d\r\n\r\n");
}

static void trailers_are_checked_and_discarded(void **state)
{
    (void)state;
    EXPECT_BODY("1\r\nx\r\n0\r\nA: b\r\nC:\r\nContent-Length: 5\r\n\r\n", "x");
    EXPECT_BODY("0\r\nA: \t\x80 b \r\n\r\n", "");
    EXPECT_FAULT(400, "0\r\n: b\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA : b\r\n\r\n");
    EXPECT_FAULT(400, "0\r\n A: b\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA: b\r\n c\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA\x80: b\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA: b\0\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nA: b\x7f\r\n\r\n");
    EXPECT_FAULT(400, "0\r\nGET / HTTP/1.1\r\n\r\n");
}

static void body_at_its_limit_passes_and_one_more_byte_is_413(void **state)
{
    (void)state;
    static char text[4096];
    for (unsigned bytes = 999; bytes <= 1001; bytes++) {
        int n = snprintf(text, sizeof text, "1\r\nx\r\n%x\r\n", bytes - 1);
        memset(text + n, 'y', bytes - 1);
        n += (int)bytes - 1;
        n += snprintf(text + n, sizeof text - (size_t)n, "\r\n0\r\n\r\n");
        const struct outcome *outcome = decode_every_way(text, (size_t)n, &usual_limits);
        assert_int_equal(outcome->result, bytes <= 1000 ? CHUNKED_DONE : CHUNKED_FAULT);
        if (bytes > 1000) {
            assert_int_equal(outcome->fault.status, 413);
        } else {
            assert_int_equal(outcome->body_bytes, bytes);
        }
    }
    EXPECT_FAULT(413, "3e9\r\n");
    EXPECT_FAULT(413, "ffffffffffffffff\r\n");
    EXPECT_FAULT(413, "8000000000000000\r\n");
    EXPECT_FAULT(413, "10000000000000000\r\n");
}

static void largest_size_does_not_overflow(void **state)
{
    (void)state;
    const struct http_limits unlimited = {1024, 8192, HTTP_FIELDS_MAX, UINT64_MAX};
    const struct outcome *outcome = decode_every_way("ffffffffffffffff\r\nxyz", 21, &unlimited);
    assert_int_equal(outcome->result, CHUNKED_MORE);
    assert_int_equal(outcome->body_bytes, 3);
    outcome = decode_every_way("1\r\nx\r\nffffffffffffffff\r\n", 24, &unlimited);
    assert_int_equal(outcome->result, CHUNKED_FAULT);
    assert_int_equal(outcome->fault.status, 413);
    outcome = decode_every_way("fffffffffffffffff\r\n", 19, &unlimited);
    assert_int_equal(outcome->fault.status, 400);
}

static void trailers_at_their_limit_pass_and_one_more_byte_is_431(void **state)
{
    (void)state;
    static char text[4096];
    for (size_t excess = 0; excess < 2; excess++) {
        memcpy(text, "0\r\nA:", 5);
        const size_t value_bytes = 1024 + excess - 2 - 4;
        memset(text + 5, 'v', value_bytes);
        memcpy(text + 5 + value_bytes, "\r\n\r\n", 4);
        const struct outcome *outcome = decode_every_way(text, 9 + value_bytes, &usual_limits);
        assert_int_equal(outcome->result, excess == 0 ? CHUNKED_DONE : CHUNKED_FAULT);
        if (excess > 0) {
            assert_int_equal(outcome->fault.status, 431);
        }
    }
}

/* n chunks of chunk_bytes each, each with that extension. */
static size_t many_chunks(char *text, unsigned n, unsigned chunk_bytes, const char *extension)
{
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        at += (size_t)snprintf(text + at, 64, "%x%s\r\n", chunk_bytes, extension);
        memset(text + at, 'x', chunk_bytes);
        memcpy(text + at + chunk_bytes, "\r\n", 2);
        at += chunk_bytes + 2;
    }
    memcpy(text + at, "0\r\n\r\n", 5);
    return at + 5;
}

static void extensions_of_a_body_are_limited_in_sum(void **state)
{
    (void)state;
    static char text[1u << 18];
    const struct http_limits limits = {1024, 8192, HTTP_FIELDS_MAX, MIB(1)};
    static char extension[64] = ";aaaaaaaaaaaaaaa"; /* 16 bytes and its CR */
    size_t n = many_chunks(text, 240, 200, extension);
    assert_int_equal(decode_every_way(text, n, &limits)->result, CHUNKED_DONE);
    n = many_chunks(text, 260, 200, extension);
    const struct outcome *outcome = decode_every_way(text, n, &limits);
    assert_int_equal(outcome->result, CHUNKED_FAULT);
    assert_int_equal(outcome->fault.status, 400);
}

static void absurdly_small_chunks_are_refused_after_64_kib(void **state)
{
    (void)state;
    static char text[1u << 20];
    const struct http_limits limits = {1024, 8192, HTTP_FIELDS_MAX, MIB(1)};
    size_t n = many_chunks(text, 13000, 1, ""); /* 65000 bytes of framing: still free */
    assert_int_equal(decode_every_way(text, n, &limits)->result, CHUNKED_DONE);
    n = many_chunks(text, 14000, 1, "");
    const struct outcome *outcome = decode_every_way(text, n, &limits);
    assert_int_equal(outcome->result, CHUNKED_FAULT);
    assert_int_equal(outcome->fault.status, 400);
    n = many_chunks(text, 40000, 2, ""); /* two sevenths are data */
    assert_int_equal(decode_every_way(text, n, &limits)->result, CHUNKED_DONE);
}

static void decoding_into_other_memory_gives_the_same(void **state)
{
    (void)state;
    static const uint8_t text[] = "3\r\nabc\r\n4;x\r\ndefg\r\n0\r\n\r\n";
    uint8_t to[sizeof text];
    struct http_chunked chunked;
    struct http_fault fault;
    size_t taken = 0;
    size_t given = 0;
    http_chunked_init(&chunked, &usual_limits);
    assert_int_equal(
        http_chunked_decode(&chunked, to, text, sizeof text - 1, &taken, &given, &fault),
        CHUNKED_DONE);
    assert_int_equal(given, 7);
    assert_memory_equal(to, "abcdefg", 7);
    assert_int_equal(chunked.body_bytes, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_are_joined),
        cmocka_unit_test(extensions_are_ignored),
        cmocka_unit_test(extensions_follow_their_grammar),
        cmocka_unit_test(sizes_are_plain_hexadecimal),
        cmocka_unit_test(lines_end_with_cr_lf_only),
        cmocka_unit_test(trailers_are_checked_and_discarded),
        cmocka_unit_test(body_at_its_limit_passes_and_one_more_byte_is_413),
        cmocka_unit_test(largest_size_does_not_overflow),
        cmocka_unit_test(trailers_at_their_limit_pass_and_one_more_byte_is_431),
        cmocka_unit_test(extensions_of_a_body_are_limited_in_sum),
        cmocka_unit_test(absurdly_small_chunks_are_refused_after_64_kib),
        cmocka_unit_test(decoding_into_other_memory_gives_the_same),
    };
    return cmocka_run_group_tests(tests, make_guard, NULL);
}
