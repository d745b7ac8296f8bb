/* frame and digest: what goes in comes out, whole or not at all, and nothing beyond its bounds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include <zstd.h>

#include "core/mem.h"
#include "sim_disk.h"
#include "store/digest.h"
#include "store/frame.h"

#define RAW_BYTES 5000u

static uint8_t raw[RAW_BYTES];
static uint8_t room[2 * RAW_BYTES];
static struct frame_writer *writer;
static struct frame_reader *reader;

static int open_contexts(void **state)
{
    (void)state;
    writer = frame_writer_new(3);
    reader = frame_reader_new();
    for (size_t i = 0; i < sizeof raw; i++) {
        raw[i] = (uint8_t)("telemetry "[i % 10] + (char)(i / 700));
    }
    return 0;
}

static int close_contexts(void **state)
{
    (void)state;
    frame_writer_free(writer);
    frame_reader_free(reader);
    return 0;
}

static struct slice compress(size_t bytes)
{
    struct err err = {0};
    assert_true(frame_bound(bytes) <= sizeof room);
    int64_t result = frame_compress(writer, room, (struct slice){raw, bytes}, &err);
    assert_true(result > 0);
    return (struct slice){room, (size_t)result};
}

static int decompress(struct slice frame, uint64_t bytes)
{
    uint8_t *exact = mem_alloc(bytes + 1); /* the sanitizer guards what lies behind */
    struct err err = {0};
    int result = frame_decompress(reader, exact, bytes, frame, &err);
    if (result == 0) {
        assert_memory_equal(exact, raw, bytes);
    } else {
        assert_true(err.text[0] != '\0');
    }
    mem_free(exact);
    return result;
}

static void frames_come_back_whole_through_the_same_contexts(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 127, RAW_BYTES, 3, RAW_BYTES - 1};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        assert_int_equal(decompress(compress(sizes[i]), sizes[i]), 0);
    }
    assert_true(compress(RAW_BYTES).bytes < RAW_BYTES / 4);
}

static void every_level_is_readable(void **state)
{
    (void)state;
    for (int level = FRAME_LEVEL_MIN; level <= FRAME_LEVEL_MAX; level++) {
        frame_writer_free(writer);
        writer = frame_writer_new(level);
        assert_int_equal(decompress(compress(RAW_BYTES), RAW_BYTES), 0);
    }
}

static void same_bytes_give_the_same_frame(void **state)
{
    (void)state;
    uint8_t first[2 * RAW_BYTES];
    struct slice frame = compress(RAW_BYTES);
    memcpy(first, frame.data, frame.bytes);
    (void)compress(100);
    struct slice again = compress(RAW_BYTES);
    assert_int_equal(again.bytes, frame.bytes);
    assert_memory_equal(first, again.data, again.bytes);
}

static void frame_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct slice frame = compress(RAW_BYTES);
    for (size_t bytes = 0; bytes < frame.bytes; bytes++) {
        uint8_t *exact = mem_alloc(bytes + 1);
        memcpy(exact, frame.data, bytes);
        assert_int_equal(decompress((struct slice){exact, bytes}, RAW_BYTES), ERR_CORRUPT);
        mem_free(exact);
    }
}

static void frame_of_another_size_is_refused(void **state)
{
    (void)state;
    struct slice frame = compress(RAW_BYTES);
    assert_int_equal(decompress(frame, RAW_BYTES - 1), ERR_CORRUPT);
    assert_int_equal(decompress(frame, RAW_BYTES + 1), ERR_CORRUPT);
    assert_int_equal(decompress(frame, 0), ERR_CORRUPT);
}

static void bytes_behind_a_frame_are_refused(void **state)
{
    (void)state;
    struct slice frame = compress(1000);
    memcpy(room + frame.bytes, room, frame.bytes); /* the same frame again */
    assert_int_equal(decompress((struct slice){room, 2 * frame.bytes}, 1000), ERR_CORRUPT);
    assert_int_equal(decompress((struct slice){room, 2 * frame.bytes}, 2000), ERR_CORRUPT);
    room[frame.bytes] = 0;
    assert_int_equal(decompress((struct slice){room, frame.bytes + 1}, 1000), ERR_CORRUPT);
}

static void skippable_frame_is_none_of_ours(void **state)
{
    (void)state;
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'};
    assert_int_equal(decompress((struct slice){skippable, sizeof skippable}, 1), ERR_CORRUPT);
    assert_int_equal(decompress((struct slice){skippable, sizeof skippable}, 0), ERR_CORRUPT);
    /* zstd itself would step over it without a word. */
    struct slice frame = compress(1000);
    memcpy(room + frame.bytes, skippable, sizeof skippable);
    assert_int_equal(decompress((struct slice){room, frame.bytes + sizeof skippable}, 1000),
                     ERR_CORRUPT);
}

static void frame_that_does_not_say_its_size_is_refused(void **state)
{
    (void)state;
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    size_t bytes = ZSTD_compress2(context, room, sizeof room, raw, RAW_BYTES);
    ZSTD_freeCCtx(context);
    assert_false(ZSTD_isError(bytes));
    assert_int_equal(decompress((struct slice){room, bytes}, RAW_BYTES), ERR_CORRUPT);
}

/* A change may go unnoticed here (the index has the CRC), but never leaves the bounds. */
static void changed_frames_stay_within_their_bounds(void **state)
{
    (void)state;
    struct slice frame = compress(RAW_BYTES);
    uint8_t *exact = mem_alloc(frame.bytes);
    uint8_t *to = mem_alloc(RAW_BYTES);
    for (size_t i = 0; i < 8 * frame.bytes; i++) {
        memcpy(exact, frame.data, frame.bytes);
        exact[i / 8] ^= (uint8_t)(1u << i % 8);
        int result =
            frame_decompress(reader, to, RAW_BYTES, (struct slice){exact, frame.bytes}, NULL);
        assert_true(result == 0 || result == ERR_CORRUPT);
    }
    mem_free(exact);
    mem_free(to);
    assert_int_equal(decompress(frame, RAW_BYTES), 0); /* the context survives */
}

/* ---- digest ---- */

static void digest_is_xxh3_in_canonical_form(void **state)
{
    (void)state;
    static const uint8_t of_nothing[DIGEST_BYTES] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47,
                                                     0x98, 0xd8, 0x60, 0x01, 0xc3, 0x24,
                                                     0x46, 0x8d, 0x49, 0x7f};
    uint8_t digest[DIGEST_BYTES];
    digest_once((struct slice){NULL, 0}, digest);
    assert_memory_equal(digest, of_nothing, DIGEST_BYTES);
    assert_int_equal(digest_64((struct slice){NULL, 0}, 0), 0x2d06800538d394c2ull);
}

static void digest_does_not_depend_on_how_the_bytes_are_cut(void **state)
{
    (void)state;
    struct sim_random random = {11};
    struct digest *digest = digest_new();
    for (int round = 0; round < 200; round++) {
        size_t bytes = (size_t)sim_random_below(&random, RAW_BYTES + 1);
        uint8_t once[DIGEST_BYTES];
        uint8_t cut[DIGEST_BYTES];
        digest_once((struct slice){raw, bytes}, once);
        digest_reset(digest);
        for (size_t at = 0; at < bytes;) {
            size_t step = (size_t)sim_random_below(&random, 600);
            step = step < bytes - at ? step : bytes - at;
            digest_add(digest, (struct slice){raw + at, step});
            at += step;
        }
        digest_get(digest, cut);
        assert_memory_equal(once, cut, DIGEST_BYTES);
    }
    digest_free(digest);
}

static void digest_sees_every_bit(void **state)
{
    (void)state;
    uint8_t before[DIGEST_BYTES];
    uint8_t after[DIGEST_BYTES];
    digest_once((struct slice){raw, 300}, before);
    for (size_t i = 0; i < 8u * 300u; i++) {
        raw[i / 8] ^= (uint8_t)(1u << i % 8);
        digest_once((struct slice){raw, 300}, after);
        raw[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_memory_not_equal(before, after, DIGEST_BYTES);
    }
}

int main(void)
{
#define FRAME_TEST(test) cmocka_unit_test_setup_teardown(test, open_contexts, close_contexts)
    const struct CMUnitTest tests[] = {
        FRAME_TEST(frames_come_back_whole_through_the_same_contexts),
        FRAME_TEST(every_level_is_readable),
        FRAME_TEST(same_bytes_give_the_same_frame),
        FRAME_TEST(frame_cut_anywhere_is_refused),
        FRAME_TEST(frame_of_another_size_is_refused),
        FRAME_TEST(bytes_behind_a_frame_are_refused),
        FRAME_TEST(skippable_frame_is_none_of_ours),
        FRAME_TEST(frame_that_does_not_say_its_size_is_refused),
        FRAME_TEST(changed_frames_stay_within_their_bounds),
        FRAME_TEST(digest_is_xxh3_in_canonical_form),
        FRAME_TEST(digest_does_not_depend_on_how_the_bytes_are_cut),
        FRAME_TEST(digest_sees_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
