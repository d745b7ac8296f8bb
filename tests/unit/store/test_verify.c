/* verify: counts what is there, names what is wrong, and is quiet about what a crash may leave. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/crc32c.h"
#include "log_fixture.h"
#include "store/reader.h"

static struct log_fixture fixture;
static char lines[4096];

static int open_fixture(void **state)
{
    (void)state;
    log_fixture_open(&fixture);
    lines[0] = '\0';
    return 0;
}

static int close_fixture(void **state)
{
    (void)state;
    log_fixture_close(&fixture);
    return 0;
}

static void on_fault(void *context, const char *line)
{
    (void)context;
    size_t used = strlen(lines);
    (void)snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

static struct verify_report verify(void)
{
    struct verify_report report;
    struct err err = {0};
    assert_int_equal(log_verify(fixture.io, &report, on_fault, NULL, &err), 0);
    return report;
}

static void expect_line(const char *text)
{
    if (strstr(lines, text) == NULL) {
        fail_msg("no \"%s\" in:\n%s", text, lines);
    }
}

/* Changes a field of the batch written last and makes its header checksum good again. */
static void patch_batch(uint64_t offset, const void *patch, size_t bytes)
{
    uint8_t header[BATCH_HEADER_BYTES];
    struct file file;
    assert_int_equal(fixture.io->ops->open(fixture.io, fixture.name, FILE_OPEN_READ_ONLY, &file),
                     0);
    assert_int_equal(
        fixture.io->ops->read(fixture.io, file, header, sizeof header, fixture.batch_offset),
        sizeof header);
    fixture.io->ops->close(fixture.io, file);
    memcpy(header + offset, patch, bytes);
    uint32_t crc = crc32c(0, header, sizeof header - 4);
    memcpy(header + sizeof header - 4, &crc, sizeof crc);
    fixture.next.previous_crc = crc;
    log_fixture_poke(&fixture, fixture.batch_offset, header, sizeof header);
}

static void clean_log_is_counted_and_has_no_faults(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 0);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 50);
    log_fixture_batch(&fixture, 0);
    log_fixture_segment(&fixture);
    struct verify_report report = verify();
    assert_string_equal(lines, "");
    assert_int_equal(report.faults, 0);
    assert_int_equal(report.segments, 3);
    assert_int_equal(report.batches, 2);
    assert_int_equal(report.marks, 2);
    assert_int_equal(report.records, 53);
    assert_int_equal(report.first_lsn, 1);
    assert_int_equal(report.last_lsn, 53);
    assert_int_equal(report.torn_batches, 0);
    assert_int_equal(report.bytes, 3 * STORE_BLOCK_BYTES + batch_file_bytes(50 * 64));
}

static void torn_tail_is_counted_and_is_no_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 3);
    log_fixture_poke(&fixture, fixture.batch_offset + 200, "torn", 4);
    struct verify_report report = verify();
    assert_int_equal(report.faults, 0);
    assert_int_equal(report.records, 3);
    assert_int_equal(report.torn_batches, 1);
}

static void each_damaged_byte_of_a_batch_is_a_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    uint64_t offset = fixture.batch_offset;
    log_fixture_batch(&fixture, 0);
    /* 3 records of 64 bytes behind the header. */
    for (uint64_t at = 0; at < BATCH_HEADER_BYTES + 3 * 64; at++) {
        struct file file;
        uint8_t byte = 0;
        assert_int_equal(fixture.io->ops->open(fixture.io, fixture.name, 0, &file), 0);
        assert_int_equal(fixture.io->ops->read(fixture.io, file, &byte, 1, offset + at), 1);
        fixture.io->ops->close(fixture.io, file);
        byte ^= 0x10;
        log_fixture_poke(&fixture, offset + at, &byte, 1);
        assert_int_equal(verify().faults, 1);
        byte ^= 0x10;
        log_fixture_poke(&fixture, offset + at, &byte, 1);
    }
    assert_int_equal(verify().faults, 0);
}

static void torn_padding_of_a_valid_batch_is_counted_and_is_no_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_poke(&fixture, fixture.batch_offset + BATCH_HEADER_BYTES + 3 * 64, "x", 1);
    log_fixture_batch(&fixture, 0);
    struct verify_report report = verify();
    assert_int_equal(report.faults, 0);
    assert_int_equal(report.dirty_paddings, 1);
    assert_int_equal(report.records, 3);
}

static void faults_name_file_offset_and_lsn(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 2);
    log_fixture_poke(&fixture, fixture.batch_offset + 200, "rot", 3);
    log_fixture_batch(&fixture, 0);
    assert_int_equal(verify().faults, 1);
    expect_line("log/0000000000000001.seg at 8192: LSN 4 to 5 lost: batch: payload checksum does "
                "not match");
}

static void batch_that_breaks_the_chain_is_a_fault(void **state)
{
    (void)state;
    uint32_t wrong = 1;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 3);
    patch_batch(52, &wrong, sizeof wrong);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 0);
    assert_int_equal(verify().faults, 1);
    expect_line("does not follow the one before it");
}

static void lsn_that_jumps_is_a_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    fixture.next.first_lsn = 6;
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 0);
    assert_int_equal(verify().faults, 1);
    expect_line("LSN 4 to 8 lost: batch 2 from LSN 6 where 2 from 4 belongs");
}

static void event_time_outside_the_range_of_the_header_is_a_fault(void **state)
{
    (void)state;
    int64_t late = 1700000000000000002;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    patch_batch(64, &late, sizeof late);
    log_fixture_batch(&fixture, 0);
    assert_int_equal(verify().faults, 1);
    expect_line("an event time lies outside");
}

static void witnesses_that_go_back_are_faults(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch_durable(&fixture, 3, 3);
    log_fixture_batch_durable(&fixture, 3, 1);
    fixture.next.keyed_lsn = 10;
    log_fixture_batch(&fixture, 1);
    fixture.next.keyed_lsn = 9;
    log_fixture_batch(&fixture, 1);
    assert_int_equal(verify().faults, 2);
    expect_line("LSN 7: durable_lsn goes back");
    expect_line("LSN 11: keyed_lsn goes back");
}

static void segment_under_another_name_is_a_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_segment(&fixture);
    const char *to = "log/0000000000000009.seg";
    assert_int_equal(fixture.io->ops->rename(fixture.io, fixture.name, to), 0);
    assert_int_equal(verify().faults, 1);
    expect_line("belongs to log/0000000000000002.seg");
}

static void missing_segment_is_a_fault(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    assert_int_equal(fixture.io->ops->unlink(fixture.io, "log/0000000000000002.seg"), 0);
    assert_int_equal(verify().faults, 1);
    expect_line("LSN 4 to 6 lost");
}

static void directory_without_a_log_cannot_be_verified(void **state)
{
    (void)state;
    struct verify_report report;
    struct err err = {0};
    assert_int_equal(log_verify(fixture.io, &report, on_fault, NULL, &err), -ENOENT);
}

int main(void)
{
#define VERIFY_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        VERIFY_TEST(clean_log_is_counted_and_has_no_faults),
        VERIFY_TEST(torn_tail_is_counted_and_is_no_fault),
        VERIFY_TEST(each_damaged_byte_of_a_batch_is_a_fault),
        VERIFY_TEST(torn_padding_of_a_valid_batch_is_counted_and_is_no_fault),
        VERIFY_TEST(faults_name_file_offset_and_lsn),
        VERIFY_TEST(batch_that_breaks_the_chain_is_a_fault),
        VERIFY_TEST(lsn_that_jumps_is_a_fault),
        VERIFY_TEST(event_time_outside_the_range_of_the_header_is_a_fault),
        VERIFY_TEST(witnesses_that_go_back_are_faults),
        VERIFY_TEST(segment_under_another_name_is_a_fault),
        VERIFY_TEST(missing_segment_is_a_fault),
        VERIFY_TEST(directory_without_a_log_cannot_be_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
