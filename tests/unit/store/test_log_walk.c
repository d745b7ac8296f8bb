/* log_walk over every form that a segment can have: what was written is shown, once and in order,
 * whatever a file has become and whenever it became so; damage costs only what it hit. */
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
#include "form_fixture.h"
#include "store/log_walk.h"
#include "store/node.h"
#include "store/segment.h"

#define SEGMENTS 4u

static struct log_fixture fixture;
static const struct form_options small_blocks = {.block_bytes = 2000};

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

/* 20 records in each of four segments, in five batches and two marks. */
static void make_log(void)
{
    static const uint32_t counts[] = {3, 1, 0, 10, 2, 0, 4};
    for (unsigned i = 0; i < SEGMENTS; i++) {
        log_fixture_segment(&fixture);
        for (size_t n = 0; n < ARRAY_COUNT(counts); n++) {
            log_fixture_batch(&fixture, counts[n]);
        }
    }
}

/* What a walk saw. */
struct seen {
    uint64_t records, batches, gaps, lost, next_lsn, first_lsn;
    bool is_in_order;
    char text[2048];
};

static void see_gap(struct seen *seen, const struct walk_gap *gap)
{
    size_t used = strlen(seen->text);
    (void)snprintf(seen->text + used, sizeof seen->text - used, "%s at %llu: %llu-%llu %s\n",
                   gap->name, (unsigned long long)gap->offset, (unsigned long long)gap->first_lsn,
                   (unsigned long long)gap->last_lsn, gap->text);
    seen->gaps++;
    if (gap->last_lsn >= gap->first_lsn) {
        seen->lost += gap->last_lsn - gap->first_lsn + 1;
        seen->next_lsn = gap->last_lsn + 1;
    }
}

/* Looks at one event; false at the end. */
static bool see_one(struct seen *seen, struct log_walk *walk)
{
    struct walk_batch batch;
    struct walk_gap gap;
    struct err err = {0};
    int event = log_walk_next(walk, &batch, &gap, &err);
    if (event < 0) {
        fail_msg("%s", err.text);
    }
    if (event == WALK_GAP) {
        see_gap(seen, &gap);
    } else if (event == WALK_BATCH) {
        seen->first_lsn = seen->batches == 0 ? batch.header.first_lsn : seen->first_lsn;
        bool is_next = seen->batches == 0 || batch.header.first_lsn == seen->next_lsn;
        seen->is_in_order = seen->is_in_order && is_next;
        seen->records += batch.header.record_count;
        seen->next_lsn = batch.header.first_lsn + batch.header.record_count;
        seen->batches++;
        assert_int_equal(batch.bytes.bytes, BATCH_HEADER_BYTES + batch.payload.bytes);
        assert_string_equal(batch.name, log_walk_file(walk)->name);
    }
    return event != WALK_END;
}

static struct seen see_all(struct file_io *io)
{
    struct seen seen = {.is_in_order = true};
    struct log_walk *walk = NULL;
    struct err err = {0};
    if (log_walk_open(&walk, io, 0, &err) < 0) {
        fail_msg("%s", err.text);
    }
    for (int i = 0; i < 1000 && see_one(&seen, walk); i++) {
    }
    assert_false(see_one(&seen, walk)); /* the end stays the end */
    assert_int_equal(log_walk_torn_batches(walk), 0);
    log_walk_close(walk);
    return seen;
}

static void expect_whole(struct file_io *io)
{
    struct seen seen = see_all(io);
    if (seen.gaps != 0) {
        fail_msg("%s", seen.text);
    }
    assert_true(seen.is_in_order);
    assert_int_equal(seen.first_lsn, 1);
    assert_int_equal(seen.records, 20 * SEGMENTS);
    assert_int_equal(seen.batches, 7 * SEGMENTS);
}

static void expect_text(const struct seen *seen, const char *text)
{
    if (strstr(seen->text, text) == NULL) {
        fail_msg("no \"%s\" in:\n%s", text, seen->text);
    }
}

/* ---- forms ---- */

static void every_mixture_of_forms_shows_the_same_log(void **state)
{
    (void)state;
    /* Each segment raw, sealed, compacted, or compacted beside its raw twin. */
    for (unsigned mix = 0; mix < 4 * 4 * 4 * 4; mix++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        make_log();
        for (unsigned i = 0; i < SEGMENTS; i++) {
            unsigned form = (mix >> (2 * i)) & 3;
            if (form == 1) {
                form_fixture_seal(fixture.io, i + 1, &small_blocks);
            } else if (form == 2) {
                form_fixture_replace(fixture.io, i + 1, &small_blocks);
            } else if (form == 3) {
                form_fixture_compact(fixture.io, i + 1, NULL);
            }
        }
        expect_whole(fixture.io);
    }
}

static void full_segment_with_an_index_behind_it_has_no_torn_end(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    while (fixture.offset + STORE_BLOCK_BYTES <= FIXTURE_SEGMENT_BYTES) {
        log_fixture_batch(&fixture, 2);
    }
    form_fixture_seal(fixture.io, 1, NULL);
    struct seen seen = see_all(fixture.io); /* asserts that nothing is torn */
    assert_int_equal(seen.records, 30);
    assert_int_equal(seen.gaps, 0);
    struct walk_file file = {0};
    assert_int_equal(walk_file_open(&file, fixture.io, 1, SEGMENT_FORM_RAW, NULL), 0);
    assert_true(file.has_footer);
    assert_true(file.file_bytes > FIXTURE_SEGMENT_BYTES);
    assert_int_equal(file.end, FIXTURE_SEGMENT_BYTES);
    walk_file_end(&file);
}

static void temporary_files_are_not_looked_at(void **state)
{
    (void)state;
    make_log();
    log_fixture_poke(&fixture, 0, "", 0);
    (void)snprintf(fixture.name, sizeof fixture.name, "log/0000000000000002.slt");
    log_fixture_poke(&fixture, 0, "half a file", 11);
    expect_whole(fixture.io);
}

static void reading_begins_at_any_lsn_in_every_form(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 1, &small_blocks);
    form_fixture_replace(fixture.io, 2, &small_blocks);
    form_fixture_seal(fixture.io, 3, &small_blocks);
    for (uint64_t from = 1; from <= 20 * SEGMENTS; from++) {
        struct log_walk *walk = NULL;
        struct err err = {0};
        struct walk_batch batch;
        struct walk_gap gap;
        assert_int_equal(log_walk_open(&walk, fixture.io, from, &err), 0);
        assert_int_equal(log_walk_next(walk, &batch, &gap, &err), WALK_BATCH);
        assert_true(batch.header.first_lsn <= from);
        log_walk_close(walk);
    }
}

/* ---- the beginning ---- */

static void expired_segments_are_a_beginning_and_no_gap(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 3; form++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        make_log();
        form_fixture_remove(fixture.io, "log/0000000000000001.seg");
        form_fixture_remove(fixture.io, "log/0000000000000002.seg");
        if (form == 1) {
            form_fixture_seal(fixture.io, 3, NULL);
        } else if (form == 2) {
            form_fixture_replace(fixture.io, 3, &small_blocks);
        }
        struct seen seen = see_all(fixture.io);
        assert_int_equal(seen.gaps, 0);
        assert_int_equal(seen.first_lsn, 41);
        assert_int_equal(seen.records, 40);
    }
}

static void damaged_first_batch_of_a_sealed_beginning_is_a_gap_with_its_lsns(void **state)
{
    (void)state;
    make_log();
    form_fixture_seal(fixture.io, 2, NULL);
    form_fixture_remove(fixture.io, "log/0000000000000001.seg");
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.seg", 4096, 1), 0);
    struct seen seen = see_all(fixture.io);
    expect_text(&seen, "log/0000000000000002.seg at 4096: 21-23 ");
    assert_int_equal(seen.records, 57);
}

/* ---- what sealing left out ---- */

/* A failed write left a whole batch that was written again, otherwise, to the next segment, which is
 * then damaged: the stale copy must not come back. */
static void batch_that_the_footer_leaves_out_never_counts(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 2);
    struct batch_header saved = fixture.next;
    log_fixture_batch_durable(&fixture, 9, 2);
    log_fixture_rewind(&fixture, &saved);
    form_fixture_seal(fixture.io, 1, &(struct form_options){.seq_max = 1});
    struct seen seen = see_all(fixture.io); /* at the end, too */
    assert_int_equal(seen.records, 2);
    log_fixture_segment(&fixture);
    log_fixture_batch_durable(&fixture, 1, 2);
    log_fixture_batch(&fixture, 3);
    seen = see_all(fixture.io);
    assert_int_equal(seen.records, 6);
    assert_int_equal(seen.gaps, 0);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.seg", 4096, 1), 0);
    seen = see_all(fixture.io);
    assert_int_equal(seen.gaps, 1);
    assert_int_equal(seen.lost, 1);
    assert_int_equal(seen.records, 5);
}

/* ---- damage ---- */

static void missing_segment_in_the_middle_is_a_gap_with_its_name(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 2; form++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        make_log();
        if (form == 1) {
            form_fixture_replace(fixture.io, 1, NULL);
            form_fixture_replace(fixture.io, 3, NULL);
        }
        form_fixture_remove(fixture.io, "log/0000000000000002.seg");
        struct seen seen = see_all(fixture.io);
        expect_text(&seen, "log/0000000000000002.seg at 0: 21-40 the file is missing");
        assert_int_equal(seen.gaps, 1);
        assert_int_equal(seen.records, 60);
        assert_int_equal(seen.lost, 20);
    }
}

static void damaged_frame_costs_only_what_is_in_it(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2, &(struct form_options){.block_bytes = 1});
    struct log_walk *walk = NULL;
    struct err err = {0};
    struct walk_batch batch;
    struct walk_gap gap;
    uint64_t offsets[7];
    assert_int_equal(log_walk_open(&walk, fixture.io, 0, &err), 0);
    for (int i = 0; i < 14; i++) { /* the frames of segment 2: one per batch */
        assert_int_equal(log_walk_next(walk, &batch, &gap, &err), WALK_BATCH);
        if (i >= 7) {
            offsets[i - 7] = batch.offset;
        }
    }
    log_walk_close(walk);
    static const unsigned records[] = {3, 1, 0, 10, 2, 0, 4};
    for (int i = 0; i < 7; i++) {
        char at[64];
        (void)snprintf(at, sizeof at,
                       "log/0000000000000002.slc at %llu:", (unsigned long long)offsets[i]);
        uint8_t byte = 0;
        struct file file;
        struct file_io *io = fixture.io;
        assert_int_equal(io->ops->open(io, "log/0000000000000002.slc", 0, &file), 0);
        assert_int_equal(io->ops->read(io, file, &byte, 1, offsets[i] + 9), 1);
        byte ^= 1;
        assert_int_equal(io->ops->write(io, file, &byte, 1, offsets[i] + 9, false), 0);
        struct seen seen = see_all(fixture.io);
        expect_text(&seen, at);
        expect_text(&seen, "frame");
        assert_int_equal(seen.gaps, 1);
        assert_int_equal(seen.lost, records[i]);
        assert_int_equal(seen.records, 80 - records[i]);
        assert_true(seen.is_in_order);
        byte ^= 1;
        assert_int_equal(io->ops->write(io, file, &byte, 1, offsets[i] + 9, false), 0);
        io->ops->close(io, file);
    }
    expect_whole(fixture.io);
}

static void lie_about_a_frame(uint32_t i, struct index_entry *entry)
{
    entry->stored_crc ^= i == 1;
}

static void frame_that_is_not_what_the_index_says_is_not_believed(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2,
                         &(struct form_options){.block_bytes = 1, .on_entry = lie_about_a_frame});
    struct seen seen = see_all(fixture.io);
    expect_text(&seen, "24-24 frame 1: checksum does not match");
    assert_int_equal(seen.gaps, 1);
    assert_int_equal(seen.records, 79);
}

static uint64_t file_size(const char *name)
{
    struct file file;
    assert_int_equal(fixture.io->ops->open(fixture.io, name, FILE_OPEN_READ_ONLY, &file), 0);
    int64_t bytes = fixture.io->ops->size(fixture.io, file);
    fixture.io->ops->close(fixture.io, file);
    return (uint64_t)bytes;
}

static void
compacted_file_without_header_footer_or_index_is_told_and_its_lsns_are_lost(void **state)
{
    (void)state;
    for (int part = 0; part < 3; part++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        make_log();
        form_fixture_replace(fixture.io, 2, NULL);
        const char *name = "log/0000000000000002.slc";
        uint64_t offset = part == 0 ? 0 : file_size(name) - (uint64_t)part * STORE_BLOCK_BYTES;
        assert_int_equal(sim_disk_corrupt(fixture.disk, name, offset, 1), 0);
        struct seen seen = see_all(fixture.io);
        expect_text(&seen, name);
        assert_int_equal(seen.gaps, part == 2 ? 1 : 2); /* the file, and what it held */
        assert_int_equal(seen.lost, 20);
        assert_int_equal(seen.records, 60);
    }
}

static void damaged_compacted_file_gives_way_to_its_raw_twin(void **state)
{
    (void)state;
    make_log();
    form_fixture_compact(fixture.io, 2, NULL);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.slc", 0, 1), 0);
    struct seen seen = see_all(fixture.io);
    expect_text(&seen, "log/0000000000000002.slc");
    assert_int_equal(seen.gaps, 1);
    assert_int_equal(seen.lost, 0);
    assert_int_equal(seen.records, 80);
}

static void damaged_footer_of_a_raw_segment_is_no_footer(void **state)
{
    (void)state;
    make_log();
    form_fixture_seal(fixture.io, 2, NULL);
    const char *name = "log/0000000000000002.seg";
    assert_int_equal(sim_disk_corrupt(fixture.disk, name, file_size(name) - STORE_BLOCK_BYTES, 1),
                     0);
    expect_whole(fixture.io);
}

static void swapped_segments_are_told_by_id(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2, NULL);
    form_fixture_replace(fixture.io, 3, NULL);
    struct file_io *io = fixture.io;
    assert_int_equal(io->ops->rename(io, "log/0000000000000002.slc", "log/x"), 0);
    assert_int_equal(io->ops->rename(io, "log/0000000000000003.slc", "log/0000000000000002.slc"),
                     0);
    assert_int_equal(io->ops->rename(io, "log/x", "log/0000000000000003.slc"), 0);
    struct seen seen = see_all(io);
    expect_text(&seen, "log/0000000000000002.slc at 0: 1-0 segment header: it says that");
    expect_text(&seen, "log/0000000000000003.slc at 0: 1-0 segment header: it says that");
    assert_int_equal(seen.lost, 40);
    assert_int_equal(seen.records, 40);
}

static void segment_of_another_node_is_told(void **state)
{
    (void)state;
    make_log();
    struct segment_header header = {.segment_id = 2, .salt = 1, .file_bytes = KIB(64)};
    uint8_t block[STORE_BLOCK_BYTES];
    struct file file;
    struct file_io *io = fixture.io;
    assert_int_equal(io->ops->open(io, "log/0000000000000002.seg", 0, &file), 0);
    assert_int_equal(io->ops->read(io, file, block, sizeof block, 0), sizeof block);
    assert_int_equal(segment_header_decode(&header, block, NULL), 0);
    header.node.bytes[3] ^= 1;
    segment_header_encode(block, &header);
    assert_int_equal(io->ops->write(io, file, block, sizeof block, 0, false), 0);
    io->ops->close(io, file);
    struct seen seen = see_all(io);
    expect_text(&seen, "log/0000000000000002.seg at 0: 1-0 segment header: it belongs to another");
    assert_int_equal(seen.lost, 20);
    assert_int_equal(seen.records, 60);
}

/* ---- beside a server that compacts and expires ---- */

/* Does something to the log just before or after the n-th open or list of a reader. */
struct meddler {
    struct file_io io;
    struct file_io_ops ops;
    uint64_t calls;
    uint64_t act_at;
    bool acts_after;
    void (*act)(void);
};

static struct meddler meddler;

static void meddle(bool is_after)
{
    if (meddler.calls == meddler.act_at && meddler.acts_after == is_after) {
        meddler.act();
    }
}

static int meddler_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    (void)io;
    meddler.calls++;
    meddle(false);
    int result = fixture.io->ops->open(fixture.io, name, flags, file);
    meddle(true);
    return result;
}

static void meddler_close(struct file_io *io, struct file file)
{
    (void)io;
    fixture.io->ops->close(fixture.io, file);
}

static int64_t meddler_size(struct file_io *io, struct file file)
{
    (void)io;
    return fixture.io->ops->size(fixture.io, file);
}

static int64_t meddler_read(struct file_io *io, struct file file, void *to, uint64_t bytes,
                            uint64_t offset)
{
    (void)io;
    return fixture.io->ops->read(fixture.io, file, to, bytes, offset);
}

static int meddler_list(struct file_io *io, const char *dir, file_on_name on_name, void *context)
{
    (void)io;
    meddler.calls++;
    meddle(false);
    int result = fixture.io->ops->list(fixture.io, dir, on_name, context);
    meddle(true);
    return result;
}

static void meddler_begin(uint64_t act_at, bool acts_after, void (*act)(void))
{
    meddler = (struct meddler){.ops = {.open = meddler_open,
                                       .close = meddler_close,
                                       .size = meddler_size,
                                       .read = meddler_read,
                                       .list = meddler_list},
                               .act_at = act_at,
                               .acts_after = acts_after,
                               .act = act};
    meddler.io.ops = &meddler.ops;
    log_fixture_close(&fixture);
    log_fixture_open(&fixture);
    make_log();
}

static void act_compact(void)
{
    for (uint64_t id = 1; id < SEGMENTS; id++) {
        form_fixture_replace(fixture.io, id, &small_blocks);
    }
}

static void act_expire(void)
{
    form_fixture_remove(fixture.io, "log/0000000000000001.seg");
    form_fixture_remove(fixture.io, "log/0000000000000002.seg");
}

static void act_nothing(void)
{
}

static uint64_t calls_of_a_walk(void)
{
    meddler_begin(UINT64_MAX, false, act_nothing);
    expect_whole(&meddler.io);
    return meddler.calls;
}

static void compaction_at_any_moment_of_a_walk_is_not_seen(void **state)
{
    (void)state;
    uint64_t calls = calls_of_a_walk();
    assert_true(calls > SEGMENTS);
    for (uint64_t n = 1; n <= calls; n++) {
        for (int after = 0; after < 2; after++) {
            meddler_begin(n, after == 1, act_compact);
            expect_whole(&meddler.io);
        }
    }
}

static void expiry_at_any_moment_of_a_walk_is_no_gap(void **state)
{
    (void)state;
    uint64_t calls = calls_of_a_walk();
    for (uint64_t n = 1; n <= calls; n++) {
        for (int after = 0; after < 2; after++) {
            meddler_begin(n, after == 1, act_expire);
            struct seen seen = see_all(&meddler.io);
            if (seen.gaps != 0) {
                fail_msg("call %llu: %s", (unsigned long long)n, seen.text);
            }
            assert_true(seen.records >= 40);
            assert_int_equal(seen.next_lsn, 81);
        }
    }
}

/* A directory that changes while it is listed may show neither the old name nor the new one. */
static uint64_t hidden_listing;
static file_on_name shown_on_name;

static void hide_segment_two(void *context, const char *name)
{
    if (strncmp(name, "0000000000000002", 16) != 0) {
        shown_on_name(context, name);
    }
}

static int hiding_list(struct file_io *io, const char *dir, file_on_name on_name, void *context)
{
    (void)io;
    bool hides = ++meddler.calls == hidden_listing;
    shown_on_name = on_name;
    return fixture.io->ops->list(fixture.io, dir, hides ? hide_segment_two : on_name, context);
}

static int hiding_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    (void)io;
    return fixture.io->ops->open(fixture.io, name, flags, file);
}

static void listing_that_misses_a_segment_is_made_again(void **state)
{
    (void)state;
    for (hidden_listing = 1; hidden_listing <= 12; hidden_listing++) {
        meddler_begin(UINT64_MAX, false, act_nothing);
        act_compact();
        meddler.ops.list = hiding_list;
        meddler.ops.open = hiding_open;
        expect_whole(&meddler.io);
    }
}

/* Between any two batches. */
static void segment_that_is_compacted_while_we_stand_in_it_goes_on_there(void **state)
{
    (void)state;
    for (int before = 0; before <= 7 * 3; before++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        make_log();
        struct seen seen = {.is_in_order = true};
        struct log_walk *walk = NULL;
        struct err err = {0};
        assert_int_equal(log_walk_open(&walk, fixture.io, 0, &err), 0);
        for (int i = 0; i < before; i++) {
            assert_true(see_one(&seen, walk));
        }
        act_compact();
        /* The file we hold is gone for whoever opens it again. */
        for (int i = 0; i < 1000 && see_one(&seen, walk); i++) {
        }
        assert_int_equal(seen.gaps, 0);
        assert_true(seen.is_in_order);
        assert_int_equal(seen.records, 80);
        log_walk_close(walk);
    }
}

/* A follower waits at the end; when it looks again, the segment has been filled, left and compacted.
 */
static void follower_finds_its_place_in_a_segment_that_was_compacted_since(void **state)
{
    (void)state;
    for (int before = 0; before <= 7; before++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        struct seen seen = {.is_in_order = true};
        struct log_walk *walk = NULL;
        struct err err = {0};
        log_fixture_segment(&fixture);
        for (int i = 0; i < before; i++) {
            log_fixture_batch(&fixture, 2);
        }
        assert_int_equal(log_walk_open(&walk, fixture.io, 0, &err), 0);
        for (int i = 0; i <= before; i++) {
            assert_int_equal(see_one(&seen, walk), i < before);
        }
        for (int i = before; i < 7; i++) {
            log_fixture_batch(&fixture, 2);
        }
        log_fixture_segment(&fixture);
        log_fixture_batch(&fixture, 2);
        form_fixture_replace(fixture.io, 1, &small_blocks);
        for (int i = 0; i < 100 && see_one(&seen, walk); i++) {
        }
        if (seen.gaps != 0) {
            fail_msg("%s", seen.text);
        }
        assert_true(seen.is_in_order);
        assert_int_equal(seen.records, 16);
        log_walk_close(walk);
    }
}

static void walk_that_stands_in_an_expired_segment_goes_on_with_the_new_beginning(void **state)
{
    (void)state;
    make_log();
    struct seen seen = {.is_in_order = true};
    struct log_walk *walk = NULL;
    struct err err = {0};
    assert_int_equal(log_walk_open(&walk, fixture.io, 0, &err), 0);
    assert_true(see_one(&seen, walk));
    act_expire();
    for (int i = 0; i < 1000 && see_one(&seen, walk); i++) {
    }
    assert_int_equal(seen.gaps, 0);
    assert_int_equal(seen.next_lsn, 81);
    assert_int_equal(seen.records, 60); /* what is open can be read to its end */
    log_walk_close(walk);
}

int main(void)
{
#define WALK_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        WALK_TEST(every_mixture_of_forms_shows_the_same_log),
        WALK_TEST(full_segment_with_an_index_behind_it_has_no_torn_end),
        WALK_TEST(temporary_files_are_not_looked_at),
        WALK_TEST(reading_begins_at_any_lsn_in_every_form),
        WALK_TEST(expired_segments_are_a_beginning_and_no_gap),
        WALK_TEST(damaged_first_batch_of_a_sealed_beginning_is_a_gap_with_its_lsns),
        WALK_TEST(batch_that_the_footer_leaves_out_never_counts),
        WALK_TEST(missing_segment_in_the_middle_is_a_gap_with_its_name),
        WALK_TEST(damaged_frame_costs_only_what_is_in_it),
        WALK_TEST(frame_that_is_not_what_the_index_says_is_not_believed),
        WALK_TEST(compacted_file_without_header_footer_or_index_is_told_and_its_lsns_are_lost),
        WALK_TEST(damaged_compacted_file_gives_way_to_its_raw_twin),
        WALK_TEST(damaged_footer_of_a_raw_segment_is_no_footer),
        WALK_TEST(swapped_segments_are_told_by_id),
        WALK_TEST(segment_of_another_node_is_told),
        WALK_TEST(compaction_at_any_moment_of_a_walk_is_not_seen),
        WALK_TEST(expiry_at_any_moment_of_a_walk_is_no_gap),
        WALK_TEST(listing_that_misses_a_segment_is_made_again),
        WALK_TEST(segment_that_is_compacted_while_we_stand_in_it_goes_on_there),
        WALK_TEST(follower_finds_its_place_in_a_segment_that_was_compacted_since),
        WALK_TEST(walk_that_stands_in_an_expired_segment_goes_on_with_the_new_beginning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
