/* verify over sealed and compacted segments: clean ones have no faults, and every statement of a
 * footer, an index entry or a filter that is not true is one line. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "form_fixture.h"
#include "log_fixture.h"
#include "store/reader.h"
#include "store/segment.h"

#define SEGMENTS 3u

static struct log_fixture fixture;
static char lines[8192];
static uint64_t progress_done;
static uint64_t progress_all;
static unsigned progress_calls;

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

/* 20 records in each of three segments, in five batches and two marks. */
static void make_log(void)
{
    static const uint32_t counts[] = {3, 1, 0, 10, 2, 0, 4};
    log_fixture_close(&fixture);
    log_fixture_open(&fixture);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        log_fixture_segment(&fixture);
        for (size_t n = 0; n < ARRAY_COUNT(counts); n++) {
            log_fixture_batch(&fixture, counts[n]);
        }
    }
}

static void on_fault(void *context, const char *line)
{
    (void)context;
    size_t used = strlen(lines);
    (void)snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

static void on_progress(void *context, uint64_t done, uint64_t all)
{
    (void)context;
    assert_true(done >= progress_done);
    assert_true(done <= all);
    progress_done = done;
    progress_all = all;
    progress_calls++;
}

/* The first byte of a record's id as a key: records of the fixture differ in it. */
static void keys_of(void *context, const struct record *record, record_on_key on_key, void *to)
{
    (void)context;
    on_key(to, INDEX_HOST, (struct slice){record->id.bytes, 1});
}

/* Without one key: that of LSN 25. */
static void keys_but_one(void *context, const struct record *record, record_on_key on_key, void *to)
{
    if (record->id.bytes[0] != 25) {
        keys_of(context, record, on_key, to);
    }
}

static struct verify_report verify(void)
{
    struct verify_report report;
    struct err err = {0};
    struct verify_options options = {
        .on_fault = on_fault, .on_progress = on_progress, .keys = keys_of};
    lines[0] = '\0';
    progress_done = progress_all = progress_calls = 0;
    if (log_verify_deep(fixture.io, &report, &options, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return report;
}

static void expect_fault(const char *text)
{
    struct verify_report report = verify();
    if (report.faults != 1 || strstr(lines, text) == NULL) {
        fail_msg("not one fault with \"%s\" in:\n%s", text, lines);
    }
}

static void make_form(uint64_t id, enum segment_form form, const struct form_options *options)
{
    if (form == SEGMENT_FORM_RAW) {
        form_fixture_seal(fixture.io, id, options);
    } else {
        form_fixture_replace(fixture.io, id, options);
    }
}

static void clean_segments_of_every_form_have_no_faults(void **state)
{
    (void)state;
    for (uint64_t block_bytes = 1; block_bytes <= 20000; block_bytes *= 20) {
        make_log();
        struct form_options options = {.block_bytes = block_bytes, .keys = keys_of};
        make_form(1, SEGMENT_FORM_COMPACTED, &options);
        make_form(2, SEGMENT_FORM_RAW, &options);
        struct verify_report report = verify();
        assert_string_equal(lines, "");
        assert_int_equal(report.faults, 0);
        assert_int_equal(report.records, 60);
        assert_int_equal(report.segments, SEGMENTS);
        assert_int_equal(report.sealed, 1);
        assert_int_equal(report.compacted, 1);
        assert_true(progress_calls > 0);
        assert_true(progress_all > 2 * FIXTURE_SEGMENT_BYTES);
    }
}

static void log_without_its_expired_segments_has_no_faults(void **state)
{
    (void)state;
    struct form_options options = {.keys = keys_of};
    make_log();
    make_form(2, SEGMENT_FORM_COMPACTED, &options);
    form_fixture_remove(fixture.io, "log/0000000000000001.seg");
    struct verify_report report = verify();
    assert_string_equal(lines, "");
    assert_int_equal(report.first_lsn, 21);
    assert_int_equal(report.records, 40);
}

/* ---- footers ---- */

static unsigned lie;

static void lie_in_the_footer(struct segment_footer *footer)
{
    switch (lie) {
    case 0:
        footer->first_lsn -= 1;
        footer->record_count += 1;
        break;
    case 1:
        footer->last_seq += 1;
        break;
    case 2:
        footer->last_crc ^= 1;
        break;
    case 3:
        footer->keyed_lsn += 1;
        break;
    case 4:
        footer->durable_lsn -= 1;
        break;
    case 5:
        footer->payload_bytes -= 1;
        break;
    case 6:
        footer->kinds = 1u << RECORD_RUN;
        break;
    case 7:
        footer->severities = 1u << SEVERITY_TRACE;
        break;
    case 8:
        footer->time_min_ns += 1;
        break;
    case 9:
        footer->time_max_ns -= 1;
        break;
    case 10:
        footer->built_max_ns += 1; /* wider is no lie */
        footer->built_min_ns += 1;
        break;
    default:
        footer->content_digest[15] ^= 1;
        break;
    }
}

static void each_lie_of_a_footer_is_one_fault(void **state)
{
    (void)state;
    static const char *const texts[] = {"LSNs",        "chain",      "chain",        "keyed_lsn",
                                        "durable_lsn", "bytes",      "kind",         "severity",
                                        "event time",  "event time", "receipt time", "digest"};
    struct form_options options = {.keys = keys_of, .on_footer = lie_in_the_footer};
    for (int form = SEGMENT_FORM_RAW; form <= SEGMENT_FORM_COMPACTED; form++) {
        for (lie = 0; lie < ARRAY_COUNT(texts); lie++) {
            make_log();
            /* The last one, so that nothing else depends on where it says that the log goes on. */
            make_form(SEGMENTS, (enum segment_form)form, &options);
            expect_fault(texts[lie]);
            expect_fault("footer");
        }
    }
}

/* ---- index ---- */

static void lie_in_the_index(uint32_t i, struct index_entry *entry)
{
    if (i != 1) {
        return;
    }
    switch (lie) {
    case 0:
        entry->record_count += 1;
        break;
    case 1:
        entry->batch_count += 1;
        break;
    case 2:
        entry->kinds = 1u << RECORD_RUN;
        break;
    case 3:
        entry->severities = 1u << SEVERITY_TRACE;
        break;
    case 4:
        entry->time_max_ns -= 1;
        break;
    case 5:
        entry->time_min_ns += 1;
        break;
    case 6:
        entry->built_min_ns += 1;
        entry->built_max_ns += 1;
        break;
    default:
        entry->first_lsn += 1;
        break;
    }
}

static void each_lie_of_an_index_entry_is_one_fault(void **state)
{
    (void)state;
    static const char *const texts[] = {"counts",     "counts",     "kind",         "severity",
                                        "event time", "event time", "receipt time", "LSNs"};
    struct form_options options = {
        .block_bytes = 700, .keys = keys_of, .on_entry = lie_in_the_index};
    for (int form = SEGMENT_FORM_RAW; form <= SEGMENT_FORM_COMPACTED; form++) {
        for (lie = 0; lie < ARRAY_COUNT(texts); lie++) {
            make_log();
            make_form(2, (enum segment_form)form, &options);
            expect_fault(texts[lie]);
            expect_fault("index block 1");
        }
    }
}

static void filter_that_denies_a_key_is_a_fault(void **state)
{
    (void)state;
    struct form_options options = {.block_bytes = 1, .keys = keys_but_one};
    for (int form = SEGMENT_FORM_RAW; form <= SEGMENT_FORM_COMPACTED; form++) {
        make_log();
        make_form(2, (enum segment_form)form, &options);
        expect_fault("LSN 25: index block 3: its filter denies a key");
    }
}

static uint64_t file_size(const char *name)
{
    struct file file;
    assert_int_equal(fixture.io->ops->open(fixture.io, name, FILE_OPEN_READ_ONLY, &file), 0);
    int64_t bytes = fixture.io->ops->size(fixture.io, file);
    fixture.io->ops->close(fixture.io, file);
    return (uint64_t)bytes;
}

static void damaged_index_of_a_sealed_segment_is_a_fault(void **state)
{
    (void)state;
    make_log();
    make_form(2, SEGMENT_FORM_RAW, &(struct form_options){.keys = keys_of});
    assert_int_equal(
        sim_disk_corrupt(fixture.disk, "log/0000000000000002.seg", FIXTURE_SEGMENT_BYTES, 1), 0);
    expect_fault("index: checksum does not match");
    assert_int_equal(verify().records, 60);
}

static void damaged_footer_of_a_raw_segment_is_a_fault_and_loses_nothing(void **state)
{
    (void)state;
    make_log();
    make_form(2, SEGMENT_FORM_RAW, NULL);
    const char *name = "log/0000000000000002.seg";
    struct file file;
    uint64_t at = file_size(name) - STORE_BLOCK_BYTES + 100;
    uint8_t byte = 0;
    assert_int_equal(fixture.io->ops->open(fixture.io, name, 0, &file), 0);
    assert_int_equal(fixture.io->ops->read(fixture.io, file, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(fixture.io->ops->write(fixture.io, file, &byte, 1, at, false), 0);
    fixture.io->ops->close(fixture.io, file);
    expect_fault("footer: checksum does not match");
    assert_int_equal(verify().records, 60);
}

/* ---- damage in the batches ---- */

static void damaged_frame_is_told_once_and_not_again_by_the_sums(void **state)
{
    (void)state;
    struct form_options options = {.block_bytes = 700, .keys = keys_of};
    make_log();
    make_form(2, SEGMENT_FORM_COMPACTED, &options);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.slc", 4096, 1), 0);
    expect_fault("log/0000000000000002.slc at 4096: LSN 21 to");
}

static void damaged_batch_of_a_sealed_segment_is_told_once(void **state)
{
    (void)state;
    struct form_options options = {.block_bytes = 700, .keys = keys_of};
    for (uint64_t batch = 0; batch < 7; batch++) {
        make_log();
        make_form(2, SEGMENT_FORM_RAW, &options);
        uint64_t offset = (1 + batch) * STORE_BLOCK_BYTES;
        assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.seg", offset, 1), 0);
        expect_fault("log/0000000000000002.seg at ");
    }
}

/* Nothing behind it proves that the last batch of a sealed log was durable but the footer. */
static void damaged_end_of_a_sealed_log_is_a_fault(void **state)
{
    (void)state;
    make_log();
    make_form(SEGMENTS, SEGMENT_FORM_RAW, &(struct form_options){.keys = keys_of});
    assert_int_equal(
        sim_disk_corrupt(fixture.disk, "log/0000000000000003.seg", 7 * STORE_BLOCK_BYTES, 1), 0);
    expect_fault("log/0000000000000003.seg at 28672: LSN 57 to 60 lost");
    /* And the log goes on behind it. */
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    expect_fault("LSN 57 to 60 lost");
    assert_int_equal(verify().last_lsn, 62);
}

int main(void)
{
#define VERIFY_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        VERIFY_TEST(clean_segments_of_every_form_have_no_faults),
        VERIFY_TEST(log_without_its_expired_segments_has_no_faults),
        VERIFY_TEST(each_lie_of_a_footer_is_one_fault),
        VERIFY_TEST(each_lie_of_an_index_entry_is_one_fault),
        VERIFY_TEST(filter_that_denies_a_key_is_a_fault),
        VERIFY_TEST(damaged_index_of_a_sealed_segment_is_a_fault),
        VERIFY_TEST(damaged_footer_of_a_raw_segment_is_a_fault_and_loses_nothing),
        VERIFY_TEST(damaged_frame_is_told_once_and_not_again_by_the_sums),
        VERIFY_TEST(damaged_batch_of_a_sealed_segment_is_told_once),
        VERIFY_TEST(damaged_end_of_a_sealed_log_is_a_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
