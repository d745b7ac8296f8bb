/*
 * gzip and zstd bodies, made here with the libraries' own encoders: what comes back, where the
 * limits are, and that nothing damaged, truncated or oversized gets through. Input ends at a guard
 * page; output memory is exactly as large as granted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#include "core/mem.h"
#include "net/content_decode.h"

#define GUARDED_BYTES (16u << 20)
#define SMALL_BYTES   5000u
#define LARGE_BYTES   (3u << 20)

struct fixture {
    struct content_decoder *decoder;
    uint8_t *guard;
    uint8_t *plain;   /* LARGE_BYTES of telemetry-like text */
    uint8_t *encoded; /* room for any of them */
    size_t encoded_bytes;
    /* The output, through a grow that gives exactly what is asked for. */
    struct content_output out;
    unsigned grow_count;
    unsigned grow_fails_at; /* the n-th call; 0: never */
    struct http_fault fault;
};

static struct fixture fixture;

static uint8_t *grow_exactly(void *context, uint8_t *old, size_t used, size_t at_least,
                             size_t *capacity)
{
    struct fixture *f = context;
    if (++f->grow_count == f->grow_fails_at) {
        return NULL;
    }
    assert_true(at_least > used);
    assert_true(at_least <= f->out.bytes_max);
    uint8_t *data = mem_alloc(at_least);
    if (used > 0) {
        memcpy(data, old, used);
    }
    mem_free(old);
    *capacity = at_least;
    return data;
}

/* Lines that compress about as telemetry does: some words, some random digits. */
static void fill_plain(uint8_t *plain)
{
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < LARGE_BYTES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        plain[i] =
            i % 64 < 48
                ? (uint8_t) "{\"service\":\"checkout\",\"level\":\"INFO\",\"message\":\"\""[i % 64]
                : (uint8_t)('0' + x % 10);
    }
}

static int make_fixture(void **state)
{
    (void)state;
    fixture.decoder = content_decoder_new();
    fixture.guard = mmap(NULL, GUARDED_BYTES + 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(fixture.guard != MAP_FAILED);
    fixture.plain = mem_alloc(LARGE_BYTES);
    fixture.encoded = mem_alloc(GUARDED_BYTES);
    fill_plain(fixture.plain);
    return mprotect(fixture.guard + GUARDED_BYTES, 4096, PROT_NONE);
}

static int free_fixture(void **state)
{
    (void)state;
    content_decoder_free(fixture.decoder);
    mem_free(fixture.plain);
    mem_free(fixture.encoded);
    mem_free(fixture.out.data);
    return munmap(fixture.guard, GUARDED_BYTES + 4096);
}

static int empty_output(void **state)
{
    (void)state;
    mem_free(fixture.out.data);
    fixture.out = (struct content_output){
        .bytes_max = LARGE_BYTES, .grow = grow_exactly, .context = &fixture};
    fixture.encoded_bytes = 0;
    fixture.grow_count = 0;
    fixture.grow_fails_at = 0;
    return 0;
}

/* Appends one member or frame. */
static void encode(enum http_coding coding, const void *plain, size_t bytes)
{
    uint8_t *to = fixture.encoded + fixture.encoded_bytes;
    const size_t room = GUARDED_BYTES - fixture.encoded_bytes;
    if (coding == HTTP_CODING_ZSTD) {
        const size_t written = ZSTD_compress(to, room, plain, bytes, 3);
        assert_false(ZSTD_isError(written));
        fixture.encoded_bytes += written;
        return;
    }
    z_stream zlib;
    memset(&zlib, 0, sizeof zlib);
    assert_int_equal(deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    zlib.next_in = (Bytef *)(uintptr_t)plain;
    zlib.avail_in = (uInt)bytes;
    zlib.next_out = to;
    zlib.avail_out = (uInt)room;
    assert_int_equal(deflate(&zlib, Z_FINISH), Z_STREAM_END);
    fixture.encoded_bytes += zlib.total_out;
    deflateEnd(&zlib);
}

/* A zstd frame with a checksum and without its content size, as a streaming client sends it. */
static void encode_zstd_stream(const void *plain, size_t bytes, int window_log)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, window_log);
    ZSTD_inBuffer in = {plain, bytes / 2, 0};
    ZSTD_outBuffer out = {fixture.encoded, GUARDED_BYTES, 0};
    assert_false(ZSTD_isError(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_flush)));
    in.size = bytes;
    assert_int_equal(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_end), 0);
    fixture.encoded_bytes = out.pos;
    ZSTD_freeCCtx(zstd);
}

static int decode_bytes(enum http_coding coding, const uint8_t *bytes, size_t n)
{
    uint8_t *at = fixture.guard + GUARDED_BYTES - n;
    memcpy(at, bytes, n);
    fixture.out.bytes = 0;
    fixture.fault = (struct http_fault){0, NULL};
    return content_decode(fixture.decoder, coding, (struct slice){at, n}, &fixture.out,
                          &fixture.fault);
}

static int decode(enum http_coding coding)
{
    return decode_bytes(coding, fixture.encoded, fixture.encoded_bytes);
}

static void expect_plain(enum http_coding coding, const void *plain, size_t bytes)
{
    if (decode(coding) != 0) {
        fail_msg("%s", fixture.fault.text);
    }
    assert_int_equal(fixture.out.bytes, bytes);
    if (bytes > 0) {
        assert_memory_equal(fixture.out.data, plain, bytes);
    }
}

static void expect_fault(enum http_coding coding, const uint8_t *bytes, size_t n, unsigned status)
{
    assert_int_equal(decode_bytes(coding, bytes, n), -1);
    assert_int_equal(fixture.fault.status, status);
    assert_true(strlen(fixture.fault.text) > 10);
}

static const enum http_coding codings[] = {HTTP_CODING_GZIP, HTTP_CODING_ZSTD};

#define FOR_EACH_CODING(i)                                                                         \
    for (size_t i = 0; i < ARRAY_COUNT(codings) && empty_output(NULL) == 0; i++)

static void bodies_of_all_sizes_come_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 100, 4095, 4096, 4097, 65536, 1u << 20, LARGE_BYTES};
    FOR_EACH_CODING(i)
    {
        for (size_t k = 0; k < ARRAY_COUNT(sizes); k++) {
            empty_output(NULL);
            encode(codings[i], fixture.plain, sizes[k]);
            expect_plain(codings[i], fixture.plain, sizes[k]);
        }
    }
}

static void claimed_size_saves_growing(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, 1u << 20);
        expect_plain(codings[i], fixture.plain, 1u << 20);
        assert_int_equal(fixture.grow_count, 1);
    }
}

static void streamed_zstd_without_content_size_comes_back(void **state)
{
    (void)state;
    encode_zstd_stream(fixture.plain, LARGE_BYTES, 20);
    expect_plain(HTTP_CODING_ZSTD, fixture.plain, LARGE_BYTES);
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 23);
    expect_plain(HTTP_CODING_ZSTD, fixture.plain, SMALL_BYTES);
}

static void zstd_window_over_8_mib_is_refused(void **state)
{
    (void)state;
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 24);
    expect_fault(HTTP_CODING_ZSTD, fixture.encoded, fixture.encoded_bytes, 400);
    assert_non_null(strstr(fixture.fault.text, "window"));
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 23); /* and the decoder goes on */
    expect_plain(HTTP_CODING_ZSTD, fixture.plain, SMALL_BYTES);
}

static void members_in_a_row_are_one_body(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        for (size_t at = 0; at < 100000; at += 50) {
            encode(codings[i], fixture.plain + at, 50);
        }
        encode(codings[i], "", 0);
        expect_plain(codings[i], fixture.plain, 100000);
    }
}

static void zstd_skippable_frames_are_skipped(void **state)
{
    (void)state;
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
    encode(HTTP_CODING_ZSTD, fixture.plain, 100);
    memcpy(fixture.encoded + fixture.encoded_bytes, skippable, sizeof skippable);
    fixture.encoded_bytes += sizeof skippable;
    encode(HTTP_CODING_ZSTD, fixture.plain + 100, 100);
    expect_plain(HTTP_CODING_ZSTD, fixture.plain, 200);
}

static void empty_input_is_a_fault(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        expect_fault(codings[i], fixture.encoded, 0, 400);
    }
}

static void every_truncation_is_a_fault(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, SMALL_BYTES);
        for (size_t n = 0; n < fixture.encoded_bytes; n++) {
            expect_fault(codings[i], fixture.encoded, n, 400);
        }
        expect_plain(codings[i], fixture.plain, SMALL_BYTES);
    }
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 20);
    for (size_t n = 0; n < fixture.encoded_bytes; n++) {
        expect_fault(HTTP_CODING_ZSTD, fixture.encoded, n, 400);
    }
}

static void truncated_second_member_is_a_fault(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, 200);
        const size_t first = fixture.encoded_bytes;
        encode(codings[i], fixture.plain, 200);
        for (size_t n = first + 1; n < fixture.encoded_bytes; n++) {
            expect_fault(codings[i], fixture.encoded, n, 400);
        }
    }
}

static void anything_behind_the_end_is_a_fault(void **state)
{
    (void)state;
    static const char *const tails[] = {"\0",   "x",       "garbage", "\0\0\0\0\0\0\0\0",
                                        "\x1f", "\x28\xb5"};
    static const size_t bytes[] = {1, 1, 7, 8, 1, 2};
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, SMALL_BYTES);
        for (size_t k = 0; k < ARRAY_COUNT(tails); k++) {
            memcpy(fixture.encoded + fixture.encoded_bytes, tails[k], bytes[k]);
            expect_fault(codings[i], fixture.encoded, fixture.encoded_bytes + bytes[k], 400);
        }
    }
}

static void damage_is_found_by_the_checksums(void **state)
{
    (void)state;
    encode(HTTP_CODING_GZIP, fixture.plain, SMALL_BYTES);
    for (size_t back = 1; back <= 8; back++) { /* CRC-32 and length */
        uint8_t *byte = fixture.encoded + fixture.encoded_bytes - back;
        *byte ^= 0x10;
        expect_fault(HTTP_CODING_GZIP, fixture.encoded, fixture.encoded_bytes, 400);
        *byte ^= 0x10;
    }
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 20);
    fixture.encoded[fixture.encoded_bytes - 1] ^= 1;
    expect_fault(HTTP_CODING_ZSTD, fixture.encoded, fixture.encoded_bytes, 400);
}

static void another_coding_is_a_fault(void **state)
{
    (void)state;
    encode(HTTP_CODING_GZIP, fixture.plain, 100);
    expect_fault(HTTP_CODING_ZSTD, fixture.encoded, fixture.encoded_bytes, 400);
    encode_zstd_stream(fixture.plain, 100, 20);
    expect_fault(HTTP_CODING_GZIP, fixture.encoded, fixture.encoded_bytes, 400);
    uLongf bytes = 1000; /* zlib's own framing is Content-Encoding: deflate, not gzip */
    assert_int_equal(compress(fixture.encoded, &bytes, fixture.plain, 100), Z_OK);
    expect_fault(HTTP_CODING_GZIP, fixture.encoded, bytes, 400);
    expect_fault(HTTP_CODING_GZIP, fixture.plain, 100, 400);
    expect_fault(HTTP_CODING_ZSTD, fixture.plain, 100, 400);
}

static void limit_is_exact(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        for (size_t parts = 1; parts <= 2; parts++) {
            empty_output(NULL);
            encode(codings[i], fixture.plain, SMALL_BYTES);
            if (parts == 2) {
                encode(codings[i], fixture.plain + SMALL_BYTES, SMALL_BYTES);
            }
            fixture.out.bytes_max = parts * SMALL_BYTES;
            expect_plain(codings[i], fixture.plain, parts * SMALL_BYTES);
            empty_output(NULL);
            encode(codings[i], fixture.plain, parts * SMALL_BYTES);
            fixture.out.bytes_max = parts * SMALL_BYTES - 1;
            expect_fault(codings[i], fixture.encoded, fixture.encoded_bytes, 413);
            assert_true(fixture.out.capacity < parts * SMALL_BYTES);
        }
    }
    encode_zstd_stream(fixture.plain, SMALL_BYTES, 20);
    fixture.out.bytes_max = SMALL_BYTES - 1;
    expect_fault(HTTP_CODING_ZSTD, fixture.encoded, fixture.encoded_bytes, 413);
    fixture.out.bytes_max = SMALL_BYTES;
    expect_plain(HTTP_CODING_ZSTD, fixture.plain, SMALL_BYTES);
}

static void empty_member_at_the_limit_still_passes(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, SMALL_BYTES);
        encode(codings[i], "", 0);
        fixture.out.bytes_max = SMALL_BYTES;
        expect_plain(codings[i], fixture.plain, SMALL_BYTES);
        fixture.out.bytes_max = 0;
        expect_fault(codings[i], fixture.encoded, fixture.encoded_bytes, 413);
    }
}

static void bomb_is_refused_at_its_ratio_and_costs_no_more_memory(void **state)
{
    (void)state;
    uint8_t *zeroes = mem_alloc(LARGE_BYTES);
    FOR_EACH_CODING(i)
    {
        encode(codings[i], zeroes, LARGE_BYTES);
        fixture.out.ratio_max = 20;
        const size_t allowed = KIB(64) + 20 * fixture.encoded_bytes;
        assert_true(allowed < LARGE_BYTES);
        expect_fault(codings[i], fixture.encoded, fixture.encoded_bytes, 413);
        assert_true(fixture.out.capacity <= allowed);
        fixture.out.ratio_max = 0; /* off */
        expect_plain(codings[i], zeroes, LARGE_BYTES);
        empty_output(NULL);
        encode(codings[i], zeroes, KIB(64)); /* small bodies may shrink as they like */
        fixture.out.ratio_max = 1;
        expect_plain(codings[i], zeroes, KIB(64));
    }
    mem_free(zeroes);
}

static void lies_about_the_size_cost_only_what_the_ratio_allows(void **state)
{
    (void)state;
    encode(HTTP_CODING_GZIP, fixture.plain, 100);
    memset(fixture.encoded + fixture.encoded_bytes - 4, 0xff, 4);
    fixture.out.ratio_max = 10;
    expect_fault(HTTP_CODING_GZIP, fixture.encoded, fixture.encoded_bytes, 400);
    assert_true(fixture.out.capacity <= KIB(64) + 10 * fixture.encoded_bytes);
}

static void memory_that_runs_out_is_503_at_each_growth(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        unsigned fails_at = 1;
        for (;; fails_at++) {
            empty_output(NULL);
            for (size_t at = 0; at < 200000;
                 at += 20000) { /* the claim of the last covers only its part */
                encode(codings[i], fixture.plain + at, 20000);
            }
            fixture.grow_fails_at = fails_at;
            if (decode(codings[i]) == 0) {
                break;
            }
            assert_int_equal(fixture.fault.status, 503);
        }
        assert_true(fails_at > 2);
        assert_int_equal(fixture.out.bytes, 200000);
    }
}

/* Grants the same memory in small steps, so that the decoders must keep their windows. */
static uint8_t *grow_in_place(void *context, uint8_t *old, size_t used, size_t at_least,
                              size_t *capacity)
{
    (void)context;
    (void)used;
    *capacity = at_least;
    return old;
}

static void assert_decodes_without_allocation(enum http_coding coding)
{
    static uint8_t room[LARGE_BYTES];
    struct content_decoder *decoder = content_decoder_new();
    struct content_output out = {
        .data = room, .capacity = 4096, .bytes_max = sizeof room, .grow = grow_in_place};
    const struct slice from = {fixture.encoded, fixture.encoded_bytes};
    const struct mallinfo2 before = mallinfo2();
    const int result = content_decode(decoder, coding, from, &out, &fixture.fault);
    const struct mallinfo2 after = mallinfo2();
    assert_int_equal(result, 0);
    assert_int_equal(out.bytes, LARGE_BYTES / 2);
    assert_true(before.uordblks == after.uordblks);
    assert_true(before.hblkhd == after.hblkhd);
    content_decoder_free(decoder);
}

/* Counts in the allocator's own books, so that it sees the libraries as well. (The books of a
 * sanitizer are empty: there this only decodes.) */
static void decoding_allocates_nothing(void **state)
{
    (void)state;
    FOR_EACH_CODING(i)
    {
        encode(codings[i], fixture.plain, LARGE_BYTES / 2);
        assert_decodes_without_allocation(codings[i]);
    }
    encode_zstd_stream(fixture.plain, LARGE_BYTES / 2, 23);
    assert_decodes_without_allocation(HTTP_CODING_ZSTD);
}

static void decoder_serves_one_body_after_another(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        const enum http_coding coding = codings[round % 2];
        const size_t bytes = 1 + (round * 7919u) % 60000;
        empty_output(NULL);
        encode(coding, fixture.plain, bytes);
        if (round % 5 == 3) {
            expect_fault(coding, fixture.encoded, fixture.encoded_bytes / 2, 400);
        }
        expect_plain(coding, fixture.plain, bytes);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, empty_output)
    const struct CMUnitTest tests[] = {
        TEST(bodies_of_all_sizes_come_back),
        TEST(claimed_size_saves_growing),
        TEST(streamed_zstd_without_content_size_comes_back),
        TEST(zstd_window_over_8_mib_is_refused),
        TEST(members_in_a_row_are_one_body),
        TEST(zstd_skippable_frames_are_skipped),
        TEST(empty_input_is_a_fault),
        TEST(every_truncation_is_a_fault),
        TEST(truncated_second_member_is_a_fault),
        TEST(anything_behind_the_end_is_a_fault),
        TEST(damage_is_found_by_the_checksums),
        TEST(another_coding_is_a_fault),
        TEST(limit_is_exact),
        TEST(empty_member_at_the_limit_still_passes),
        TEST(bomb_is_refused_at_its_ratio_and_costs_no_more_memory),
        TEST(lies_about_the_size_cost_only_what_the_ratio_allows),
        TEST(memory_that_runs_out_is_503_at_each_growth),
        TEST(decoding_allocates_nothing),
        TEST(decoder_serves_one_body_after_another),
    };
    return cmocka_run_group_tests(tests, make_fixture, free_fixture);
}
