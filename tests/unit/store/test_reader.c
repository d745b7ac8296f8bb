/* reader: every valid batch of the contiguous log, once, in order; damage is reported and stepped
 * over. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "log_fixture.h"
#include "store/reader.h"

static struct log_fixture fixture;

static int open_fixture(void **state)
{
    (void)state;
    log_fixture_open(&fixture);
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    log_fixture_close(&fixture);
    return 0;
}

static struct reader *open_at(uint64_t from_lsn)
{
    struct reader *reader = NULL;
    struct err err = {0};
    assert_int_equal(reader_open(&reader, fixture.io, from_lsn, &err), 0);
    return reader;
}

static void expect_records(struct reader *reader, uint64_t first, uint64_t last)
{
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        struct reader_record record;
        struct err err = {0};
        assert_int_equal(reader_next(reader, &record, &err), 1);
        assert_int_equal(record.lsn, lsn);
        assert_int_equal(record.record.id.bytes[0], lsn & 0xff);
        assert_int_equal(record.built_at_ns, 1700000000000000000);
    }
}

static void expect_end(struct reader *reader)
{
    struct reader_record record;
    struct err err = {0};
    assert_int_equal(reader_next(reader, &record, &err), 0);
}

static void expect_damage(struct reader *reader, const char *text)
{
    struct reader_record record;
    struct err err = {0};
    assert_int_equal(reader_next(reader, &record, &err), ERR_CORRUPT);
    if (strstr(err.text, text) == NULL) {
        fail_msg("%s", err.text);
    }
}

/* Reads everything from the beginning. */
static void expect_log(uint64_t last)
{
    struct reader *reader = open_at(0);
    expect_records(reader, 1, last);
    expect_end(reader);
    expect_end(reader);
    reader_close(reader);
}

static void no_log_is_said_so(void **state)
{
    (void)state;
    struct reader *reader = NULL;
    struct err err = {0};
    assert_int_equal(reader_open(&reader, fixture.io, 0, &err), -ENOENT);
    assert_true(err.text[0] != '\0');
}

static void prepared_segment_is_an_empty_log(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    expect_log(0);
}

static void records_come_in_order_over_batches_marks_and_segments(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 0);
    log_fixture_batch(&fixture, 60); /* more than a block */
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 0);
    log_fixture_batch(&fixture, 1);
    log_fixture_segment(&fixture);
    expect_log(64);
}

static void reading_may_begin_at_any_lsn(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 4);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 5);
    for (uint64_t from = 1; from <= 13; from++) {
        struct reader *reader = open_at(from);
        expect_records(reader, from, 12);
        expect_end(reader);
        reader_close(reader);
    }
}

static void end_of_the_log_moves_while_it_is_read(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct reader *reader = open_at(0);
    expect_records(reader, 1, 2);
    expect_end(reader);
    log_fixture_batch(&fixture, 2);
    expect_records(reader, 3, 4);
    expect_end(reader);
    log_fixture_segment(&fixture);
    expect_end(reader);
    log_fixture_batch(&fixture, 2);
    expect_records(reader, 5, 6);
    expect_end(reader);
    reader_close(reader);
}

static void batch_written_again_to_a_later_segment_wins(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct batch_header saved = fixture.next;
    log_fixture_batch_durable(&fixture, 1, 2); /* reached the disk although its write failed */
    log_fixture_batch_durable(&fixture, 9, 2); /* was in flight with it */
    log_fixture_segment(&fixture);
    log_fixture_rewind(&fixture, &saved);
    log_fixture_batch(&fixture, 4);
    log_fixture_batch(&fixture, 4);
    expect_log(10);
}

static void batch_written_again_twice_comes_from_the_last_segment(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct batch_header saved = fixture.next;
    log_fixture_batch(&fixture, 1);
    log_fixture_segment(&fixture);
    log_fixture_rewind(&fixture, &saved);
    log_fixture_batch(&fixture, 2);
    log_fixture_segment(&fixture);
    log_fixture_rewind(&fixture, &saved);
    log_fixture_batch(&fixture, 3);
    expect_log(5);
}

static void first_copy_stands_when_the_second_is_torn(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct batch_header saved = fixture.next;
    log_fixture_batch(&fixture, 3);
    log_fixture_segment(&fixture);
    log_fixture_rewind(&fixture, &saved);
    log_fixture_batch(&fixture, 4);
    log_fixture_poke(&fixture, fixture.batch_offset + 150, "torn", 4);
    expect_log(5);
}

static void torn_tail_ends_the_log_silently(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_batch(&fixture, 2);
    log_fixture_poke(&fixture, fixture.batch_offset + 200, "torn", 4);
    expect_log(2);
}

static void hole_before_a_batch_in_flight_ends_the_log_silently(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_batch_durable(&fixture, 2, 2);
    uint64_t hole = fixture.batch_offset;
    log_fixture_batch_durable(&fixture, 2, 2);
    log_fixture_poke(&fixture, hole, "XXXX", 4);
    expect_log(2);
}

static void damage_is_named_once_and_reading_goes_on_behind_it(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_batch(&fixture, 3);
    log_fixture_poke(&fixture, fixture.batch_offset + 200, "rot", 3);
    log_fixture_batch(&fixture, 4);
    log_fixture_batch(&fixture, 0);
    struct reader *reader = open_at(0);
    expect_records(reader, 1, 2);
    expect_damage(reader,
                  "log/0000000000000001.seg at 8192: LSN 3 to 5 lost: batch: payload checksum");
    expect_records(reader, 6, 9);
    expect_end(reader);
    reader_close(reader);
    reader = open_at(6);
    expect_records(reader, 6, 9);
    expect_end(reader);
    reader_close(reader);
}

static void damage_at_the_end_is_proven_by_the_closing_mark(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_poke(&fixture, fixture.batch_offset, "rot", 3);
    log_fixture_batch(&fixture, 0);
    struct reader *reader = open_at(0);
    expect_damage(reader, "LSN 1 to 2 lost");
    expect_end(reader);
    reader_close(reader);
}

static void damage_at_the_end_of_a_segment_is_proven_by_the_next(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_batch(&fixture, 2);
    log_fixture_poke(&fixture, fixture.batch_offset, "rot", 3);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct reader *reader = open_at(0);
    expect_records(reader, 1, 2);
    expect_damage(reader, "LSN 3 to 4 lost");
    expect_records(reader, 5, 6);
    expect_end(reader);
    reader_close(reader);
}

static void unreadable_segment_header_costs_that_segment_only(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_poke(&fixture, 20, "rot", 3);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct reader *reader = open_at(0);
    expect_damage(reader, "log/0000000000000002.seg at 0: segment header: header checksum");
    expect_records(reader, 1, 2);
    expect_damage(reader, "LSN 3 to 4 lost");
    expect_records(reader, 5, 6);
    expect_end(reader);
    reader_close(reader);
}

static void batch_of_an_earlier_use_of_the_file_is_not_shown(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    fixture.next.salt++;
    log_fixture_batch(&fixture, 2);
    expect_log(2);
}

static void log_without_its_expired_segments_begins_where_it_begins(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    log_fixture_batch(&fixture, 1);
    assert_int_equal(fixture.io->ops->unlink(fixture.io, "log/0000000000000001.seg"), 0);
    struct reader *reader = open_at(0);
    expect_records(reader, 3, 5);
    expect_end(reader);
    reader_close(reader);
}

int main(void)
{
#define READER_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        READER_TEST(no_log_is_said_so),
        READER_TEST(prepared_segment_is_an_empty_log),
        READER_TEST(records_come_in_order_over_batches_marks_and_segments),
        READER_TEST(reading_may_begin_at_any_lsn),
        READER_TEST(end_of_the_log_moves_while_it_is_read),
        READER_TEST(batch_written_again_to_a_later_segment_wins),
        READER_TEST(batch_written_again_twice_comes_from_the_last_segment),
        READER_TEST(first_copy_stands_when_the_second_is_torn),
        READER_TEST(torn_tail_ends_the_log_silently),
        READER_TEST(hole_before_a_batch_in_flight_ends_the_log_silently),
        READER_TEST(damage_is_named_once_and_reading_goes_on_behind_it),
        READER_TEST(damage_at_the_end_is_proven_by_the_closing_mark),
        READER_TEST(damage_at_the_end_of_a_segment_is_proven_by_the_next),
        READER_TEST(unreadable_segment_header_costs_that_segment_only),
        READER_TEST(batch_of_an_earlier_use_of_the_file_is_not_shown),
        READER_TEST(log_without_its_expired_segments_begins_where_it_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
