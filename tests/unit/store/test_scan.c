/*
 * test_scan: scans against a naive oracle that keeps every record: over logs of all forms, with
 * random filters, in both orders, left and taken up at every point, while segments are sealed,
 * compacted and expired between the steps. Then each promise of scan.h by name.
 */
#include "scan_fixture.h"

#include <stdlib.h>

#include "store/scan_block.h"
#include "store/scan_disk.h"

static struct sf_result result; /* large */

/* A log of about `segments` segments; older ones further along in their lives. */
static void log_make(struct sf *sf, unsigned segments)
{
    while (sf->segment_count < segments) {
        bool has_windows = sf_below(sf, 8) == 0; /* of 256 padded batches each */
        sf_append_many(sf, has_windows ? 350 : 1 + (unsigned)sf_below(sf, 12),
                       has_windows ? 3 : 40);
        sf_roll(sf);
    }
    sf_append_many(sf, 1 + (unsigned)sf_below(sf, 30), 40);
    for (size_t i = 0; i + 1 < sf->segment_count; i++) {
        if (sf_below(sf, 10) < 7) {
            sf_seal(sf, i);
            if (sf_below(sf, 10) < 5) {
                sf_compact(sf, i);
            }
        }
    }
    sf_publish(sf);
}

static void filter_random(struct sf *sf, struct scan_filter *filter)
{
    static const char *const literals[] = {"needle", "alpha", "zzz", "a", "epsilon ", "alpha \"}"};
    *filter = sf_all();
    if (sf_below(sf, 3) == 0) {
        filter->kinds = (uint32_t)(1 + sf_below(sf, 7)) << 1;
    }
    if (sf_below(sf, 3) == 0) {
        filter->severities = (uint32_t)(1 + sf_below(sf, 63)) << 1;
    }
    if (sf_below(sf, 3) == 0) {
        filter->time_min_ns = SF_TIME_NS + (int64_t)(sf_below(sf, sf->record_count) * 1000);
        filter->time_max_ns = filter->time_min_ns + (int64_t)(sf_below(sf, sf->record_count) * 500);
    }
    if (sf_below(sf, 3) == 0) {
        filter->lsn_min = sf_below(sf, sf->record_count + 2);
        filter->lsn_max = filter->lsn_min + sf_below(sf, sf->record_count);
    }
    if (sf_below(sf, 2) == 0) {
        const char *literal = literals[sf_below(sf, ARRAY_COUNT(literals))];
        filter->literal = (struct slice){(const uint8_t *)literal, strlen(literal)};
    }
}

static void service_random(struct sf *sf, struct scan_filter *filter)
{
    result.service = -1;
    if (sf_below(sf, 3) == 0) {
        result.service = (int)sf_below(sf, 50);
        filter->keys[0] = sf_service_key((unsigned)result.service);
        filter->key_count = 1;
    }
}

/* Something happens to the log between two steps. */
static void life_goes_on(struct sf *sf, bool may_append)
{
    size_t i = sf->first_kept + sf_below(sf, sf->segment_count - sf->first_kept);
    switch (sf_below(sf, 6)) {
    case 0:
        if (i + 1 < sf->segment_count && sf->segments[i].state == VIEW_ACTIVE) {
            sf_seal(sf, i);
        }
        break;
    case 1:
        if (sf->segments[i].state == VIEW_SEALED) {
            sf_compact(sf, i);
        }
        break;
    case 2:
        if (sf->first_kept + 2 < sf->segment_count && sf_below(sf, 4) == 0) {
            sf_expire(sf);
        }
        break;
    case 3:
        if (may_append) {
            sf_append_many(sf, 1 + (unsigned)sf_below(sf, 5), 30);
        }
        break;
    case 4:
        if (may_append && sf->segment_count < SF_SEGMENTS_MAX / 2) {
            sf_roll(sf);
        }
        return; /* not yet published */
    default:
        return;
    }
    sf_publish(sf);
}

/* Runs to the end, left at random points and taken up again by a new scan from its position. */
static void scan_with_life(struct sf *sf, struct scan_filter filter, bool is_descending,
                           bool has_life)
{
    struct scan *scan = sf_scan(sf, &result, &filter, is_descending);
    for (unsigned i = 0;; i++) {
        int r = sf_step(scan, &result);
        if (r == SCAN_END) {
            break;
        }
        assert_true(i < 100000);
        if (sf_below(sf, 4) == 0) {
            uint64_t position = scan_position(scan);
            scan_free(scan);
            filter.lsn_min = is_descending ? filter.lsn_min : position;
            filter.lsn_max = is_descending ? position : filter.lsn_max;
            scan = sf_scan(sf, &result, &filter, is_descending);
        }
        if (has_life && sf_below(sf, 2) == 0) {
            life_goes_on(sf, i < 200);
        }
    }
    scan_free(scan);
}

static void random_round(uint64_t seed)
{
    struct sf *sf = mem_alloc(sizeof *sf);
    sf_open(sf, seed);
    sf->has_recent = sf_below(sf, 3) != 0;
    sf->block_batches = 1 + (uint32_t)sf_below(sf, 6);
    log_make(sf, 1 + (unsigned)sf_below(sf, 6));
    for (unsigned i = 0; i < 12; i++) {
        struct scan_filter filter;
        sf_result_init(&result);
        filter_random(sf, &filter);
        service_random(sf, &filter);
        result.take_max = sf_below(sf, 3) == 0 ? 0 : 1 + sf_below(sf, 30);
        bool is_descending = sf_below(sf, 2) == 0;
        uint64_t last = sf->record_count;
        scan_with_life(sf, filter, is_descending, sf_below(sf, 2) == 0);
        if (result.damages != 0) {
            fail_msg("%s", result.damage.text);
        }
        sf_expect(sf, &result, &filter, is_descending, is_descending ? last : sf->record_count);
    }
    sf_close(sf);
    mem_free(sf);
}

static void a_scan_shows_what_the_oracle_shows_whatever_happens_between_its_steps(void **state)
{
    (void)state;
    const char *one = getenv("TEST_SCAN_SEED"); /* repeats one */
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
    uint64_t rounds = one != NULL ? 1 : 60;
    for (uint64_t seed = first; seed < first + rounds; seed++) {
        print_message("TEST_SCAN_SEED=%llu\r", (unsigned long long)seed);
        random_round(seed);
    }
    print_message("\n");
}

/* ---- damage ---- */

enum form {
    FORM_ACTIVE,
    FORM_SEALED,
    FORM_COMPACTED,
};

/* Three segments of four batches of ten records; blocks of two batches. LSN 1-40, 41-80, 81-120. */
static void log_of_120(struct sf *sf, enum form form)
{
    sf_open(sf, 1);
    sf->has_recent = false;
    sf->block_batches = 2;
    for (unsigned i = 0; i < 12; i++) {
        if (i % 4 == 0) {
            sf_roll(sf);
        }
        sf_append(sf, 10);
    }
    for (size_t i = 0; i < 2 && form != FORM_ACTIVE; i++) {
        sf_seal(sf, i);
        if (form == FORM_COMPACTED) {
            sf_compact(sf, i);
        }
    }
    sf_publish(sf);
}

static void damage_raw(struct sf *sf, uint64_t id, uint64_t offset)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, id);
    assert_int_equal(sim_disk_corrupt(sf->disk, name, offset, 1), 0);
}

/* Batch i (from 0) of segment id of log_of_120: each takes one block of 4096 bytes. */
static uint64_t batch_offset(unsigned i)
{
    return STORE_BLOCK_BYTES * (1 + (uint64_t)i);
}

/* Runs in both orders: everything but first..last is shown, the damage is told once, with place and
 * LSNs. */
static void expect_lost(struct sf *sf, uint64_t first, uint64_t last, const char *place)
{
    char lsns[64];
    struct scan_filter filter = sf_all();
    (void)snprintf(lsns, sizeof lsns, "LSN %llu to %llu cannot be read", (unsigned long long)first,
                   (unsigned long long)last);
    for (int is_descending = 0; is_descending < 2; is_descending++) {
        sf_result_init(&result);
        struct scan *scan = sf_scan(sf, &result, &filter, is_descending == 1);
        sf_run(scan, &result);
        scan_free(scan);
        assert_int_equal(result.damages, 1);
        if (strstr(result.damage.text, lsns) == NULL || strstr(result.damage.text, place) == NULL) {
            fail_msg("%s; expected: %s, %s", result.damage.text, lsns, place);
        }
        assert_int_equal(result.count, sf->record_count - (last - first + 1));
        for (size_t i = 0; i < result.count; i++) {
            uint64_t n = is_descending == 1 ? result.count - 1 - i : i;
            assert_int_equal(result.lsns[i], n + 1 < first ? n + 1 : n + 1 + (last - first + 1));
        }
    }
}

static void a_damaged_payload_of_a_sealed_segment_costs_its_batch_and_is_told_once(void **state)
{
    (void)state;
    for (unsigned batch = 0; batch < 4; batch++) {
        struct sf sf;
        log_of_120(&sf, FORM_SEALED);
        damage_raw(&sf, 2, batch_offset(batch) + 700);
        expect_lost(&sf, 41 + batch * 10, 50 + batch * 10,
                    batch < 2 ? "log/0000000000000002.seg block 0: batch payload: checksum"
                              : "log/0000000000000002.seg block 1: batch payload: checksum");
        sf_close(&sf);
    }
}

static void a_damaged_header_of_a_sealed_segment_costs_its_batch(void **state)
{
    (void)state;
    for (unsigned batch = 0; batch < 4; batch++) {
        struct sf sf;
        log_of_120(&sf, FORM_SEALED);
        damage_raw(&sf, 2, batch_offset(batch) + 20);
        expect_lost(&sf, 41 + batch * 10, 50 + batch * 10,
                    batch < 2 ? "log/0000000000000002.seg block 0: batch header"
                              : "log/0000000000000002.seg block 1: batch header");
        sf_close(&sf);
    }
}

static void a_damaged_frame_of_a_compacted_segment_costs_its_block(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_COMPACTED);
    assert_int_equal(
        sim_disk_corrupt(sf.disk, "log/0000000000000002.slc", STORE_BLOCK_BYTES + 40, 1), 0);
    expect_lost(&sf, 41, 60, "log/0000000000000002.slc block 0");
    sf_close(&sf);
}

static void an_unreadable_sector_costs_its_block(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_SEALED);
    sim_disk_fail_reads(sf.disk, "log/0000000000000002.seg", batch_offset(2), 1);
    expect_lost(&sf, 61, 80, "log/0000000000000002.seg block 1");
    sf_close(&sf);
}

static void a_damaged_index_costs_its_segment(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_SEALED);
    damage_raw(&sf, 2, SF_FILE_BYTES + 10);
    expect_lost(&sf, 41, 80, "log/0000000000000002.seg: ");
    sf_close(&sf);
}

static void damage_of_a_segment_without_an_index_costs_what_is_behind_it_there(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_ACTIVE);
    damage_raw(&sf, 2, batch_offset(2) + 20);
    expect_lost(&sf, 61, 80, "log/0000000000000002.seg");
    sf_close(&sf);
    log_of_120(&sf, FORM_ACTIVE);
    damage_raw(&sf, 2, batch_offset(2) + 700); /* the payload: the header still leads on */
    expect_lost(&sf, 61, 70, "log/0000000000000002.seg block 0: batch payload: checksum");
    sf_close(&sf);
}

static void damage_at_the_end_of_the_log_is_told_once_and_following_goes_on(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_ACTIVE);
    damage_raw(&sf, 3, batch_offset(3) + 20);
    expect_lost(&sf, 111, 120, "log/0000000000000003.seg");
    struct scan_filter filter = sf_all();
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    sf_run(scan, &result);
    sf_roll(&sf);
    sf_append(&sf, 5);
    sf_run(scan, &result);
    assert_int_equal(result.damages, 1);
    assert_int_equal(result.lsns[result.count - 1], 125);
    assert_int_equal(result.lsns[result.count - 5], 121);
    scan_free(scan);
    sf_close(&sf);
}

static void a_missing_segment_in_the_middle_is_told(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_SEALED);
    struct view_segment *list[] = {sf.segments[0].view, sf.segments[2].view};
    log_views_publish(sf.views, list, 2);
    expect_lost(&sf, 41, 80, "log/0000000000000001.seg");
    sf_close(&sf);
}

static void damage_in_what_the_filter_leaves_out_is_not_told(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_SEALED);
    damage_raw(&sf, 2, batch_offset(0) + 700);
    struct scan_filter filter = sf_all();
    filter.lsn_min = 51;
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, true);
    sf_run(scan, &result);
    assert_int_equal(result.damages, 0);
    assert_int_equal(result.count, 70);
    scan_free(scan);
    sf_close(&sf);
}

/* ---- the tail ---- */

static uint64_t run_all(struct sf *sf, bool is_descending)
{
    struct scan_filter filter = sf_all();
    sf_result_init(&result);
    struct scan *scan = sf_scan(sf, &result, &filter, is_descending);
    sf_run(scan, &result);
    scan_free(scan);
    if (result.damages != 0) {
        fail_msg("%s", result.damage.text);
    }
    sf_expect(sf, &result, &filter, is_descending, sf->record_count);
    return result.count;
}

static void a_view_that_lags_behind_the_writer_hides_nothing(void **state)
{
    (void)state;
    for (size_t seen = 1; seen <= 3; seen++) {
        struct sf sf;
        log_of_120(&sf, FORM_ACTIVE);
        sf_publish_until(&sf, seen);
        sf_roll(&sf); /* a spare, still empty */
        assert_int_equal(run_all(&sf, false), 120);
        assert_int_equal(run_all(&sf, true), 120);
        sf_close(&sf);
    }
}

static void a_view_may_lag_behind_by_any_number_of_segments(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_ACTIVE);
    for (unsigned i = 0; i < 4 * SCAN_TAIL_MAX; i++) {
        sf_roll(&sf);
        sf_append(&sf, i % 3); /* a mark now and then */
    }
    sf_publish_until(&sf, 1);
    assert_int_equal(run_all(&sf, false), sf.record_count);
    assert_int_equal(run_all(&sf, true), sf.record_count);
    sf_close(&sf);
}

static void a_segment_that_was_empty_when_the_view_was_made_is_looked_at_again(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 1);
    sf.has_recent = false;
    sf_roll(&sf);
    sf_publish(&sf);
    assert_int_equal(run_all(&sf, false), 0);
    sf_append(&sf, 10);
    assert_int_equal(run_all(&sf, false), 10);
    assert_int_equal(run_all(&sf, true), 10);
    sf_roll(&sf);
    sf_append(&sf, 10);
    sf_publish(&sf); /* of the first nothing new is known */
    assert_int_equal(run_all(&sf, false), 20);
    assert_int_equal(run_all(&sf, true), 20);
    sf_close(&sf);
}

/* Writing LSN 21-30 failed, but the bytes did land; the requests were answered 503, and other
 * records got these LSNs in the next segment (format.h: the later wins). */
static void a_superseded_batch_is_never_shown(void **state)
{
    (void)state;
    for (size_t seen = 1; seen <= 2; seen++) {
        struct sf sf;
        sf_open(&sf, 1);
        sf.has_recent = false;
        sf_roll(&sf);
        sf_append(&sf, 20);
        struct batch_header before = sf.next;
        struct sf_record *lost = mem_alloc_array(10, sizeof *lost);
        for (uint32_t i = 0; i < 10; i++) {
            sf_record_make(&sf, &lost[i], 900 + i);
        }
        sf_batch_write(&sf, lost, 10);
        sf.segments[0].next_lsn = 21;
        sf.next.batch_seq = before.batch_seq;
        sf.next.first_lsn = before.first_lsn;
        sf.next.previous_crc = before.previous_crc;
        sf_roll(&sf);
        sf_append(&sf, 10);
        sf_append(&sf, 10);
        sf_publish_until(&sf, seen);
        assert_int_equal(run_all(&sf, false), 40); /* compares every byte */
        assert_int_equal(run_all(&sf, true), 40);
        mem_free(lost);
        sf_close(&sf);
    }
}

static void what_is_not_durable_is_not_shown(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_ACTIVE);
    atomic_store_explicit(&sf.durable_lsn, 110, memory_order_release); /* W1 */
    sf.record_count = 110;
    assert_int_equal(run_all(&sf, false), 110);
    assert_int_equal(run_all(&sf, true), 110);
    sf_close(&sf);
}

static void a_tool_without_a_watermark_reads_all_that_is_whole(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_COMPACTED);
    damage_raw(&sf, 3, batch_offset(3) + 700); /* torn: above the last durable LSN of any header */
    struct scan_filter filter = sf_all();
    struct scan_source source = {.views = sf.views};
    for (int is_descending = 0; is_descending < 2; is_descending++) {
        sf_result_init(&result);
        result.sf = &sf;
        struct scan_options options = {.filter = filter,
                                       .is_descending = is_descending == 1,
                                       .match = sf_match,
                                       .take = sf_take,
                                       .context = &result};
        struct scan *scan = scan_new(&source, &options);
        sf_run(scan, &result);
        scan_free(scan);
        assert_int_equal(result.damages, 0);
        assert_int_equal(result.count, 110);
    }
    sf_close(&sf);
}

static void an_empty_log_ends_at_once(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 1);
    assert_int_equal(run_all(&sf, false), 0);
    assert_int_equal(run_all(&sf, true), 0);
    sf_close(&sf);
}

/* ---- positions ---- */

static void an_expired_position_jumps_to_the_oldest_there_is(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_COMPACTED);
    struct scan_filter filter = sf_all();
    sf_result_init(&result);
    result.take_max = 5;
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    assert_int_equal(sf_step(scan, &result), SCAN_FULL);
    assert_int_equal(scan_position(scan), 6);
    result.take_max = 0;
    sf_expire(&sf);
    sf_publish(&sf);
    sf_run(scan, &result); /* the rest of the block it has in memory, then from 41 */
    assert_int_equal(result.damages, 0);
    assert_int_equal(result.lsns[20], 41);
    assert_int_equal(result.count, 100);
    scan_free(scan);
    assert_int_equal(run_all(&sf, true), 80);
    sf_close(&sf);
}

static void a_scan_left_anywhere_goes_on_behind_the_record_taken_last(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_SEALED);
    for (size_t at = 1; at <= 120; at++) {
        for (int is_descending = 0; is_descending < 2; is_descending++) {
            struct scan_filter filter = sf_all();
            sf_result_init(&result);
            result.take_max = at;
            struct scan *scan = sf_scan(&sf, &result, &filter, is_descending == 1);
            while (sf_step(scan, &result) != SCAN_FULL) { /* at most as many steps as blocks */
                assert_true(result.count < at);
            }
            assert_int_equal(result.count, at);
            assert_int_equal(scan_position(scan), is_descending == 1 ? 120 - at : at + 1);
            sf_run(scan, &result);
            scan_free(scan);
            sf_expect(&sf, &result, &filter, is_descending == 1, 120);
        }
    }
    sf_close(&sf);
}

static void a_filter_with_escapes_sees_records_whose_backslash_could_spell_it(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 5);
    sf_roll(&sf);
    sf_append_many(&sf, 20, 40);
    sf_publish(&sf);
    struct scan_filter filter = sf_all();
    filter.literal = SLICE_LITERAL("no record has this");
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    sf_run(scan, &result);
    scan_free(scan);
    assert_true(result.count > 0 && result.count < sf.record_count / 2);
    for (size_t i = 0; i < result.count; i++) {
        assert_non_null(strstr(sf.records[result.lsns[i] - 1].text, "\\u"));
    }
    sf_close(&sf);
}

/* Is a record of that text a candidate for the literal? Beside it lies one that is none. */
static bool is_candidate(const char *text, struct slice literal)
{
    struct sf sf;
    struct scan_filter filter = sf_all();
    sf_open(&sf, 5);
    sf_roll(&sf);
    for (uint64_t lsn = 1; lsn <= 2; lsn++) {
        struct sf_record *record = &sf.records[lsn - 1];
        sf_record_make(&sf, record, lsn);
        int bytes = snprintf(record->text, sizeof record->text, "{\"message\":\"%s\"}",
                             lsn == 1 ? "nothing of it" : text);
        record->record.payload.bytes = (size_t)bytes;
    }
    sf_batch_write(&sf, sf.records, 2);
    sf.record_count = 2;
    atomic_store_explicit(&sf.durable_lsn, 2, memory_order_release); /* W1 */
    sf_publish(&sf);
    filter.literal = literal;
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    sf_run(scan, &result);
    scan_free(scan);
    sf_close(&sf);
    assert_true(result.count == 0 || (result.count == 1 && result.lsns[0] == 2));
    return result.count == 1;
}

static void only_an_escape_that_could_spell_the_literal_makes_a_candidate(void **state)
{
    (void)state;
    assert_true(is_candidate("xabcx", SLICE_LITERAL("abc")));
    assert_true(is_candidate("xa\\u0062cx", SLICE_LITERAL("abc")));
    assert_true(is_candidate("\\u00e4", SLICE_LITERAL("\xc3\xa4")));
    assert_true(is_candidate("\\ud83d\\ude00", SLICE_LITERAL("\xf0\x9f\x98\x80")));
    assert_true(is_candidate("a\\/b", SLICE_LITERAL("a/b")));
    assert_true(is_candidate("a\\u002fb", SLICE_LITERAL("a/b")));
    assert_true(is_candidate("a\\tb", SLICE_LITERAL("a\tb")));
    assert_true(is_candidate("a\\\"b", SLICE_LITERAL("a\"b")));
    assert_true(is_candidate("a\\\\b", SLICE_LITERAL("a\\b")));
    assert_true(is_candidate("he said \\\"abc\\\"", SLICE_LITERAL("abc")));
    assert_false(is_candidate("he said \\\"ab\\\"", SLICE_LITERAL("abc")));
    assert_false(is_candidate("a\\/b\\n\\\\", SLICE_LITERAL("abc")));
    assert_false(is_candidate("ab", SLICE_LITERAL("a/b")));
}

/* ---- what it costs ---- */

static void a_following_scan_that_keeps_up_reads_memory_and_never_the_disk(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 3);
    sf_roll(&sf);
    sf_publish(&sf);
    sim_disk_fail_reads(sf.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, SF_FILE_BYTES);
    struct scan_filter filter = sf_all();
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    for (unsigned i = 0; i < 50; i++) {
        sf_append(&sf, 1 + i % 7);
        sf_run(scan, &result);
        assert_int_equal(result.count, sf.record_count);
        assert_int_equal(scan_position(scan), sf.record_count + 1);
    }
    assert_int_equal(result.damages, 0);
    scan_free(scan);
    assert_int_equal(run_all(&sf, true), sf.record_count);
    sf_close(&sf);
}

static void nothing_is_held_between_steps_but_the_position(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 3);
    sf_append_many(&sf, 12, 30);
    sf_roll(&sf);
    sf_append_many(&sf, 12, 30);
    sf_publish(&sf);
    for (int has_recent = 0; has_recent < 2; has_recent++) {
        for (int is_descending = 0; is_descending < 2; is_descending++) {
            struct scan_filter filter = sf_all();
            sf.has_recent = has_recent == 1;
            sf_result_init(&result);
            result.take_max = 3;
            struct scan *scan = sf_scan(&sf, &result, &filter, is_descending == 1);
            struct log_view *view = log_view_take(sf.views);
            for (int r = SCAN_MORE; r != SCAN_END;) { /* as many steps as the log has records */
                r = sf_step(scan, &result);
                /* relaxed: one thread. Ours and that of the place where it hangs. */
                assert_int_equal(atomic_load_explicit(&view->references, memory_order_relaxed), 2);
                assert_int_equal(
                    atomic_load_explicit(&sf.segments[0].view->references, memory_order_relaxed),
                    2);
            }
            log_view_give(sf.views, view);
            assert_int_equal(result.count, sf.record_count);
            recent_close(sf.recent); /* refuses while a chunk is held */
            struct err err;
            sf_check(recent_open(&sf.recent, &err), &err);
            scan_free(scan);
        }
    }
    sf_close(&sf);
}

static void a_value_that_few_blocks_have_costs_few_blocks(void **state)
{
    (void)state;
    for (int is_compacted = 0; is_compacted < 2; is_compacted++) {
        struct sf sf;
        sf_open(&sf, 9);
        sf.has_recent = false;
        while (sf.segment_count < 4) {
            sf_roll(&sf);
            for (unsigned i = 0; i < 40; i++) {
                sf_append(&sf, 30);
            }
        }
        for (size_t i = 0; i < 4; i++) {
            sf_seal(&sf, i);
            if (is_compacted == 1) {
                sf_compact(&sf, i);
            }
        }
        sf_publish(&sf);
        uint64_t count = run_all(&sf, false);
        assert_int_equal(count, 4800);
        sf_result_init(&result);
        struct scan_filter filter = sf_all();
        result.service = 17; /* a hundredth of a percent of the records */
        filter.keys[0] = sf_service_key(17);
        filter.key_count = 1;
        struct scan *scan = sf_scan(&sf, &result, &filter, false);
        sf_run(scan, &result);
        assert_true(result.count > 0);
        sf_expect(&sf, &result, &filter, false, sf.record_count);
        assert_true(scan_bytes(scan) * 2 < scan_skipped_bytes(scan));
        scan_free(scan);
        sf_close(&sf);
    }
}

/* A durable batch of records that all happened at the same time. */
static void append_at(struct sf *sf, uint32_t count, int64_t time_ns)
{
    struct sf_record *records = sf->records + sf->record_count;
    for (uint32_t i = 0; i < count; i++) {
        sf_record_make(sf, &records[i], sf->record_count + i + 1);
        records[i].record.event_time_ns = time_ns;
    }
    sf_batch_write(sf, records, count);
    sf->record_count += count;
    atomic_store_explicit(&sf->durable_lsn, sf->record_count, memory_order_release); /* W1 */
}

/* Headers and payloads of LSN first..last, in batches of batch_records. */
static uint64_t raw_bytes_of(const struct sf *sf, uint64_t first, uint64_t last,
                             uint32_t batch_records)
{
    uint64_t bytes = (last + 1 - first) / batch_records * BATCH_HEADER_BYTES;
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        bytes += record_padded_bytes(0, sf->records[lsn - 1].record.payload.bytes);
    }
    return bytes;
}

/* Of three active segments (LSN 1-40, 41-80, 81-120, one second each) only the last can match: the
 * payloads of the others cannot even be read. */
static void a_window_in_which_nothing_can_match_is_not_read(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 1);
    sf.has_recent = false;
    for (unsigned i = 0; i < 12; i++) {
        if (i % 4 == 0) {
            sf_roll(&sf);
        }
        append_at(&sf, 10, SF_TIME_NS + i / 4 * (int64_t)NS_S);
    }
    sf_publish(&sf);
    sim_disk_fail_reads(sf.disk, "log/0000000000000001.seg", batch_offset(1) + 700, 1);
    sim_disk_fail_reads(sf.disk, "log/0000000000000002.seg", batch_offset(3) + 700, 1);
    struct scan_filter filters[2] = {sf_all(), sf_all()};
    filters[0].time_min_ns = SF_TIME_NS + 2 * (int64_t)NS_S;
    filters[1].kinds = 1u << (RECORD_LOG + 2); /* from LSN 97 on */
    for (unsigned i = 0; i < 4; i++) {
        const struct scan_filter *filter = &filters[i / 2];
        bool is_descending = i % 2 == 1;
        sf_result_init(&result);
        struct scan *scan = sf_scan(&sf, &result, filter, is_descending);
        sf_run(scan, &result);
        assert_int_equal(result.damages, 0);
        assert_true(result.count > 0);
        sf_expect(&sf, &result, filter, is_descending, 120);
        assert_int_equal(scan_skipped_bytes(scan), raw_bytes_of(&sf, 1, 80, 10));
        assert_true(scan_bytes(scan) <= raw_bytes_of(&sf, 81, 120, 10));
        scan_free(scan);
    }
    sf_close(&sf);
}

/* 400 batches: more headers than a step reads, two windows. The second half is an hour later. */
static void windows_of_one_segment_are_passed_over_in_either_order(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 1);
    sf.has_recent = false;
    sf_roll(&sf);
    for (unsigned i = 0; i < 400; i++) {
        append_at(&sf, 3, SF_TIME_NS + (i < 256 ? 0 : 3600 * (int64_t)NS_S));
    }
    sf_publish(&sf);
    for (unsigned i = 0; i < 4; i++) {
        bool is_first = i / 2 == 0;
        struct scan_filter filter = sf_all();
        filter.time_min_ns = is_first ? SF_TIME_NS : SF_TIME_NS + (int64_t)NS_S;
        filter.time_max_ns = filter.time_min_ns + (is_first ? 0 : 3600 * (int64_t)NS_S);
        sf_result_init(&result);
        struct scan *scan = sf_scan(&sf, &result, &filter, i % 2 == 1);
        sf_run(scan, &result);
        sf_expect(&sf, &result, &filter, i % 2 == 1, sf.record_count);
        assert_int_equal(result.count, is_first ? 768 : 432);
        uint64_t skipped =
            is_first ? raw_bytes_of(&sf, 769, 1200, 3) : raw_bytes_of(&sf, 1, 768, 3);
        assert_int_equal(scan_skipped_bytes(scan), skipped);
        assert_int_equal(scan_bytes(scan) + skipped, raw_bytes_of(&sf, 1, 1200, 3));
        scan_free(scan);
    }
    sf_close(&sf);
}

static void bytes_of_a_growing_window_are_skipped_once(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 1);
    sf.has_recent = false;
    sf_roll(&sf);
    sf_publish(&sf);
    struct scan_filter filter = sf_all();
    filter.time_min_ns = SF_TIME_NS + 1;
    sf_result_init(&result);
    struct scan *scan = sf_scan(&sf, &result, &filter, false);
    for (unsigned i = 0; i < 50; i++) {
        append_at(&sf, 10, SF_TIME_NS);
        sf_run(scan, &result);
        assert_int_equal(scan_position(scan), sf.record_count + 1);
    }
    uint64_t all = raw_bytes_of(&sf, 1, sf.record_count, 10);
    assert_in_range(scan_skipped_bytes(scan), all - all / 20, all + all / 20);
    assert_int_equal(scan_bytes(scan), 0);
    assert_int_equal(result.count, 0);
    append_at(&sf, 1, SF_TIME_NS + 1);
    sf_run(scan, &result);
    assert_int_equal(result.count, 1);
    scan_free(scan);
    sf_close(&sf);
}

/* LSN 21-30 lie in the first segment, too, of another time, and do not count there. */
static void a_superseded_batch_is_not_passed_over_in_place_of_what_counts(void **state)
{
    (void)state;
    for (size_t seen = 1; seen <= 2; seen++) {
        struct sf sf;
        struct scan_filter filter = sf_all();
        sf_open(&sf, 1);
        sf.has_recent = false;
        sf_roll(&sf);
        append_at(&sf, 20, SF_TIME_NS);
        struct batch_header before = sf.next;
        append_at(&sf, 10, SF_TIME_NS);
        sf.record_count = 20;
        sf.segments[0].next_lsn = 21;
        sf.next.batch_seq = before.batch_seq;
        sf.next.first_lsn = before.first_lsn;
        sf.next.previous_crc = before.previous_crc;
        sf_roll(&sf);
        append_at(&sf, 10, SF_TIME_NS + 5);
        sf_publish_until(&sf, seen);
        filter.time_min_ns = SF_TIME_NS + 5;
        for (int is_descending = 0; is_descending < 2; is_descending++) {
            sf_result_init(&result);
            struct scan *scan = sf_scan(&sf, &result, &filter, is_descending == 1);
            sf_run(scan, &result);
            scan_free(scan);
            assert_int_equal(result.damages, 0);
            assert_int_equal(result.count, 10);
            sf_expect(&sf, &result, &filter, is_descending == 1, 30);
        }
        sf_close(&sf);
    }
}

/* The last batch may be torn: whoever writes the log may yet write these LSNs again. */
static void a_tool_does_not_pass_over_what_nobody_calls_durable(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_ACTIVE);
    damage_raw(&sf, 3, batch_offset(3) + 700);
    struct scan_filter filter = sf_all();
    filter.time_min_ns = INT64_MAX;
    struct scan_source source = {.views = sf.views};
    struct scan_options options = {.filter = filter, .match = sf_match, .take = sf_take};
    sf_result_init(&result);
    result.sf = &sf;
    options.context = &result;
    struct scan *scan = scan_new(&source, &options);
    sf_run(scan, &result);
    assert_int_equal(scan_position(scan), 111);
    assert_int_equal(result.damages, 0);
    scan_free(scan);
    sf_close(&sf);
}

static void a_step_looks_into_one_block_at_most(void **state)
{
    (void)state;
    struct sf sf;
    sf_open(&sf, 11);
    sf.block_batches = 4;
    sf.has_recent = false;
    sf_append_many(&sf, 40, 30);
    sf_seal(&sf, 0);
    sf_publish(&sf);
    struct scan_filter filter = sf_all();
    for (int is_descending = 0; is_descending < 2; is_descending++) {
        sf_result_init(&result);
        struct scan *scan = sf_scan(&sf, &result, &filter, is_descending == 1);
        uint64_t before = 0;
        while (sf_step(scan, &result) != SCAN_END) { /* as many steps as blocks */
            assert_true(scan_bytes(scan) - before <= 4 * 30 * (SF_TEXT_MAX + 48));
            before = scan_bytes(scan);
        }
        assert_int_equal(result.count, sf.record_count);
        scan_free(scan);
    }
    sf_close(&sf);
}

/* How often match was asked since the last step. */
static uint64_t asked;

static bool ask_match(void *context, const struct scan_record *record)
{
    asked++;
    return sf_match(context, record);
}

static void a_step_shows_a_bounded_number_of_candidates(void **state)
{
    (void)state;
    struct sf sf;
    struct scan_filter filter = sf_all();
    sf_open(&sf, 11);
    sf.has_recent = false;
    sf.block_batches = 4;
    sf_roll(&sf);
    for (unsigned i = 0; i < 4; i++) {
        sf_append(&sf, 1500);
    }
    sf_roll(&sf);
    sf_seal(&sf, 0);
    sf_publish(&sf);
    for (int is_descending = 0; is_descending < 2; is_descending++) {
        struct scan_source source = {.views = sf.views, .durable_lsn = &sf.durable_lsn};
        struct scan_options options = {.filter = filter,
                                       .is_descending = is_descending == 1,
                                       .match = ask_match,
                                       .take = sf_take,
                                       .context = &result};
        sf_result_init(&result);
        result.sf = &sf;
        struct scan *scan = scan_new(&source, &options);
        int r = SCAN_MORE;
        while (r != SCAN_END) { /* as many steps as thousands of records */
            asked = 0;
            r = sf_step(scan, &result);
            assert_true(asked <= 1024);
            uint64_t next = is_descending == 1 ? 6000 - result.count : result.count + 1;
            assert_int_equal(scan_position(scan), next);
        }
        sf_expect(&sf, &result, &filter, is_descending == 1, sf.record_count);
        assert_int_equal(result.count, 6000);
        scan_free(scan);
    }
    sf_close(&sf);
}

/* The latch aborts where an agent allocates on its data path outside of a declared window. */
static void a_query_thread_scans_under_the_memory_latch(void **state)
{
    (void)state;
    struct sf sf;
    log_of_120(&sf, FORM_COMPACTED);
    assert_int_equal(setenv("SLUICE_MEM_LATCH", "1", 1), 0);
    mem_latch();
    role_set(ROLE_QUERY);
    uint64_t shown = run_all(&sf, false) + run_all(&sf, true);
    role_set(ROLE_ANY);
    mem_unlatch();
    assert_int_equal(unsetenv("SLUICE_MEM_LATCH"), 0);
    assert_int_equal(shown, 240);
    sf_close(&sf);
}

/* ---- hostile bytes ---- */

/* Blocks with random changes, checksums left as they are or trusted: never out of bounds (the
 * sanitizers watch), never a record that is not whole. */
static void a_block_of_any_bytes_is_survived(void **state)
{
    (void)state;
    struct sf sf;
    struct scan_block block;
    char name[SEGMENT_NAME_BYTES];
    sf_open(&sf, 21);
    sf_append_many(&sf, 8, 20);
    segment_name(name, 1);
    sf_get(&sf, name, sf.memory, SF_FILE_BYTES);
    size_t bytes = sf.segments[0].end - STORE_BLOCK_BYTES;
    scan_block_init(&block);
    for (unsigned round = 0; round < 3000; round++) {
        size_t cut = sf_below(&sf, 4) == 0 ? sf_below(&sf, bytes) : bytes;
        uint8_t *copy = mem_alloc(cut + 1); /* exactly: its end is watched */
        memcpy(copy, sf.memory + STORE_BLOCK_BYTES, cut);
        for (uint64_t n = sf_below(&sf, 6); n > 0 && cut > 0; n--) {
            copy[sf_below(&sf, cut)] = (uint8_t)sf_below(&sf, 256);
        }
        struct scan_filter filter;
        filter_random(&sf, &filter);
        block.is_trusted = sf_below(&sf, 2) == 0;
        block.block = (struct block){
            .batches = {copy, cut}, .batch_align = STORE_BLOCK_BYTES, .salt = round % 2 * 1001};
        struct scan_range range = {1 + sf_below(&sf, sf.record_count),
                                   sf_below(&sf, 2 * sf.record_count), sf_below(&sf, 2) == 0};
        scan_block_collect(&block, &filter, &range);
        for (size_t i = 0; i < block.count; i++) {
            struct scan_record record;
            scan_block_record(&block, i, &record);
            assert_true(record.lsn >= range.low && record.lsn <= range.high);
            assert_true(record.lsn >= block.run_first && record.lsn < block.run_end);
        }
        mem_free(copy);
    }
    scan_block_free(&block);
    sf_close(&sf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_shows_what_the_oracle_shows_whatever_happens_between_its_steps),
        cmocka_unit_test(a_damaged_payload_of_a_sealed_segment_costs_its_batch_and_is_told_once),
        cmocka_unit_test(a_damaged_header_of_a_sealed_segment_costs_its_batch),
        cmocka_unit_test(a_damaged_frame_of_a_compacted_segment_costs_its_block),
        cmocka_unit_test(an_unreadable_sector_costs_its_block),
        cmocka_unit_test(a_damaged_index_costs_its_segment),
        cmocka_unit_test(damage_of_a_segment_without_an_index_costs_what_is_behind_it_there),
        cmocka_unit_test(damage_at_the_end_of_the_log_is_told_once_and_following_goes_on),
        cmocka_unit_test(a_missing_segment_in_the_middle_is_told),
        cmocka_unit_test(damage_in_what_the_filter_leaves_out_is_not_told),
        cmocka_unit_test(a_view_that_lags_behind_the_writer_hides_nothing),
        cmocka_unit_test(a_view_may_lag_behind_by_any_number_of_segments),
        cmocka_unit_test(a_segment_that_was_empty_when_the_view_was_made_is_looked_at_again),
        cmocka_unit_test(a_superseded_batch_is_never_shown),
        cmocka_unit_test(what_is_not_durable_is_not_shown),
        cmocka_unit_test(a_tool_without_a_watermark_reads_all_that_is_whole),
        cmocka_unit_test(an_empty_log_ends_at_once),
        cmocka_unit_test(an_expired_position_jumps_to_the_oldest_there_is),
        cmocka_unit_test(a_scan_left_anywhere_goes_on_behind_the_record_taken_last),
        cmocka_unit_test(a_filter_with_escapes_sees_records_whose_backslash_could_spell_it),
        cmocka_unit_test(a_following_scan_that_keeps_up_reads_memory_and_never_the_disk),
        cmocka_unit_test(nothing_is_held_between_steps_but_the_position),
        cmocka_unit_test(a_value_that_few_blocks_have_costs_few_blocks),
        cmocka_unit_test(only_an_escape_that_could_spell_the_literal_makes_a_candidate),
        cmocka_unit_test(a_window_in_which_nothing_can_match_is_not_read),
        cmocka_unit_test(windows_of_one_segment_are_passed_over_in_either_order),
        cmocka_unit_test(bytes_of_a_growing_window_are_skipped_once),
        cmocka_unit_test(a_superseded_batch_is_not_passed_over_in_place_of_what_counts),
        cmocka_unit_test(a_tool_does_not_pass_over_what_nobody_calls_durable),
        cmocka_unit_test(a_step_looks_into_one_block_at_most),
        cmocka_unit_test(a_step_shows_a_bounded_number_of_candidates),
        cmocka_unit_test(a_query_thread_scans_under_the_memory_latch),
        cmocka_unit_test(a_block_of_any_bytes_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
