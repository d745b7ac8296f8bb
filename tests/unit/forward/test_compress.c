#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "core/mem.h"
#include "forward/compress.h"

static void expect_unzipped(const struct body *wire, struct slice want)
{
    uint8_t *out = mem_alloc(want.bytes + 1);
    z_stream gzip = {.next_in = wire->data, .avail_in = (uInt)wire->bytes};
    gzip.next_out = out;
    gzip.avail_out = (uInt)want.bytes + 1;
    assert_int_equal(inflateInit2(&gzip, 15 + 16), Z_OK);
    assert_int_equal(inflate(&gzip, Z_FINISH), Z_STREAM_END);
    assert_int_equal(gzip.total_out, want.bytes);
    assert_int_equal(gzip.avail_in, 0);
    assert_memory_equal(out, want.data, want.bytes);
    (void)inflateEnd(&gzip);
    mem_free(out);
}

static void expect_unzstd(const struct body *wire, struct slice want)
{
    uint8_t *out = mem_alloc(want.bytes + 1);
    assert_int_equal(ZSTD_decompress(out, want.bytes + 1, wire->data, wire->bytes), want.bytes);
    assert_memory_equal(out, want.data, want.bytes);
    mem_free(out);
}

/* Lines like records, or noise, which does not shrink. */
static struct slice material(size_t bytes, bool is_noise)
{
    static const char line[] = "{\"message\":\"user logged in\",\"service\":\"api\",\"n\":00000}\n";
    uint8_t *data = mem_alloc(bytes + 1);
    uint64_t seed = bytes;
    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = is_noise ? (uint8_t)(seed >> 56) : (uint8_t)line[i % (sizeof line - 1)];
    }
    return (struct slice){data, bytes};
}

static void round_trips(struct compress *compress, size_t bytes, bool is_noise)
{
    struct slice in = material(bytes, is_noise);
    struct body first, again;
    body_init(&first, compress_bound(bytes));
    body_init(&again, compress_bound(bytes));
    for (enum sink_compression c = SINK_IDENTITY; c <= SINK_ZSTD; c++) {
        assert_int_equal(compress_body(compress, c, in, &first, NULL), 0);
        assert_int_equal(compress_body(compress, c, in, &again, NULL), 0);
        assert_int_equal(first.bytes, again.bytes);
        assert_memory_equal(first.data, again.data, first.bytes);
        if (c == SINK_GZIP) {
            expect_unzipped(&first, in);
            assert_memory_equal(first.data + 4, "\0\0\0\0", 4); /* no time in the header */
        } else if (c == SINK_ZSTD) {
            expect_unzstd(&first, in);
        } else {
            assert_int_equal(first.bytes, bytes);
        }
    }
    body_free(&first);
    body_free(&again);
    mem_free((void *)(uintptr_t)in.data);
}

static void any_body_comes_back_and_twice_gives_the_same_bytes(void **state)
{
    (void)state;
    struct compress compress;
    compress_init(&compress);
    const size_t sizes[] = {0, 1, 100, 65536, 1000003};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        round_trips(&compress, sizes[i], false);
        round_trips(&compress, sizes[i], true);
    }
    compress_free(&compress);
    compress_free(&compress);
}

static void too_little_room_is_a_limit_and_the_context_works_on(void **state)
{
    (void)state;
    struct compress compress;
    struct slice in = material(100000, true);
    struct body small, good;
    compress_init(&compress);
    body_init(&small, 5000);
    body_init(&good, compress_bound(in.bytes));
    for (enum sink_compression c = SINK_IDENTITY; c <= SINK_ZSTD; c++) {
        struct err err = {0};
        assert_int_equal(compress_body(&compress, c, in, &small, &err), ERR_LIMIT);
        assert_true(err.text[0] != '\0');
        assert_int_equal(small.bytes, 0);
        assert_int_equal(compress_body(&compress, c, in, &good, &err), 0);
    }
    expect_unzstd(&good, in);
    body_free(&small);
    body_free(&good);
    compress_free(&compress);
    mem_free((void *)(uintptr_t)in.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_body_comes_back_and_twice_gives_the_same_bytes),
        cmocka_unit_test(too_little_room_is_a_limit_and_the_context_works_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
