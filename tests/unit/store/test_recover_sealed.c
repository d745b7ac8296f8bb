/* recover over sealed and compacted segments: the footers say where the log goes on, keys are found
 * in every form, and what is damaged, missing or of another log is told, counted and served around.
 */
#include "store_fixture.h"

#include "core/crc32c.h"
#include "log_fixture.h"
#include "form_fixture.h"
#include "store/dedup.h"
#include "store/node.h"
#include "store/recover.h"
#include "store/walk_file.h"

#define SEGMENTS 4u

static struct log_fixture fixture;
static struct recovered recovered;
static struct recovery_report report;
static struct err error;
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
    log_fixture_close(&fixture);
    log_fixture_open(&fixture);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        log_fixture_segment(&fixture);
        for (size_t n = 0; n < ARRAY_COUNT(counts); n++) {
            log_fixture_batch(&fixture, counts[n]);
        }
    }
}

/* As the start of the store does it; says whether a segment was taken to append to. */
static int recover_run_here(struct file_io *io, uint64_t walk_bytes, uint64_t ttl_ns,
                            enum store_on_corruption on_corruption, bool *has_active)
{
    struct dedup *dedup = NULL;
    memset(&report, 0, sizeof report);
    error = (struct err){0};
    assert_int_equal(dedup_open(&dedup, 100, ttl_ns, &error), 0);
    struct recover_options options = {.io = io,
                                      .dedup = dedup,
                                      .dedup_ttl_ns = ttl_ns,
                                      .segment_bytes = FIXTURE_SEGMENT_BYTES,
                                      .walk_bytes = walk_bytes,
                                      .on_corruption = on_corruption};
    int result = recover_run(&recovered, &options, &report, &error);
    *has_active = recovered.start.active.state != SEGMENT_NONE;
    if (result == 0) {
        segment_close(&recovered.start.active, io);
        for (unsigned i = 0; i < recovered.spare_count; i++) {
            segment_close(&recovered.spares[i], io);
        }
    }
    dedup_close(dedup);
    return result;
}

static int recover_refusing(void)
{
    bool has_active = false;
    return recover_run_here(fixture.io, MIB(64), 3600 * NS_S, ON_CORRUPTION_REFUSE, &has_active);
}

/* True when the last segment was taken to append to. */
static bool recover(void)
{
    bool has_active = false;
    if (recover_run_here(fixture.io, MIB(64), UINT64_MAX, ON_CORRUPTION_QUARANTINE, &has_active) <
        0) {
        fail_msg("%s", error.text);
    }
    return has_active;
}

static void expect_whole(void)
{
    if (report.corrupt_batches != 0) {
        fail_msg("%s", report.text);
    }
    assert_string_equal(report.text, "");
    assert_int_equal(report.corrupt_lsn_count, 0);
    assert_int_equal(report.torn_batches_cut, 0);
    assert_int_equal(report.segments, SEGMENTS);
    assert_int_equal(recovered.start.lsn, 20 * SEGMENTS);
    assert_int_equal(recovered.start.batch_seq, 7 * SEGMENTS);
    assert_int_equal(recovered.start.header_crc, fixture.next.previous_crc);
}

static void expect_text(const char *text)
{
    if (strstr(report.text, text) == NULL) {
        fail_msg("no \"%s\" in:\n%s", text, report.text);
    }
}

static bool exists(const char *name)
{
    struct file file;
    if (fixture.io->ops->open(fixture.io, name, FILE_OPEN_READ_ONLY, &file) < 0) {
        return false;
    }
    fixture.io->ops->close(fixture.io, file);
    return true;
}

static uint64_t file_size(const char *name)
{
    struct file file;
    assert_int_equal(fixture.io->ops->open(fixture.io, name, FILE_OPEN_READ_ONLY, &file), 0);
    int64_t bytes = fixture.io->ops->size(fixture.io, file);
    fixture.io->ops->close(fixture.io, file);
    return (uint64_t)bytes;
}

/* ---- forms ---- */

static void every_mixture_of_forms_goes_on_at_the_same_place(void **state)
{
    (void)state;
    for (unsigned mix = 0; mix < 4 * 4 * 4 * 4; mix++) {
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
        bool has_active = recover();
        expect_whole();
        /* Only a segment that nobody has closed is written to again. */
        assert_int_equal(has_active, (mix >> 6) == 0);
    }
}

static void spare_behind_a_compacted_log_is_taken(void **state)
{
    (void)state;
    make_log();
    for (unsigned id = 1; id <= SEGMENTS; id++) {
        form_fixture_replace(fixture.io, id, NULL);
    }
    log_fixture_segment(&fixture);
    assert_false(recover());
    expect_whole();
    assert_int_equal(recovered.spare_count, 1);
    assert_int_equal(recovered.segment_id_next, SEGMENTS + 2);
}

static void expired_segments_are_no_loss(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 3; form++) {
        make_log();
        if (form == 1) {
            form_fixture_seal(fixture.io, 3, NULL);
        } else if (form == 2) {
            form_fixture_replace(fixture.io, 3, NULL);
        }
        form_fixture_remove(fixture.io, "log/0000000000000001.seg");
        form_fixture_remove(fixture.io, "log/0000000000000002.seg");
        assert_true(recover());
        assert_int_equal(report.corrupt_batches, 0);
        assert_string_equal(report.text, "");
        assert_int_equal(recovered.start.lsn, 80);
    }
}

static void sealed_content_is_not_read_at_start(void **state)
{
    (void)state;
    make_log();
    form_fixture_seal(fixture.io, 1, NULL);
    form_fixture_replace(fixture.io, 2, &small_blocks);
    /* Damage that only verify finds: the test that recovery believes the footers. */
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000001.seg", 8192, 1), 0);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.slc", 4096, 1), 0);
    assert_true(recover());
    expect_whole();
}

static void temporaries_are_removed(void **state)
{
    (void)state;
    make_log();
    (void)snprintf(fixture.name, sizeof fixture.name, "log/0000000000000002.slt");
    log_fixture_poke(&fixture, 0, "half", 4);
    assert_true(recover());
    expect_whole();
    assert_false(exists("log/0000000000000002.slt"));
}

/* ---- crashes while sealing ---- */

static void half_sealed_last_segment_is_walked_and_not_appended_to(void **state)
{
    (void)state;
    make_log();
    form_fixture_seal(fixture.io, SEGMENTS, NULL);
    const char *name = "log/0000000000000004.seg";
    assert_int_equal(sim_disk_corrupt(fixture.disk, name, file_size(name) - STORE_BLOCK_BYTES, 1),
                     0);
    uint64_t bytes = file_size(name);
    assert_false(recover());
    expect_whole();
    assert_int_equal(file_size(name), bytes); /* and nothing of it is cut */
    assert_int_equal(recovered.segment_id_next, SEGMENTS + 1);
}

static void torn_tail_before_a_footer_is_judged_by_the_footer(void **state)
{
    (void)state;
    make_log();
    uint64_t last_offset = fixture.batch_offset;
    form_fixture_seal(fixture.io, SEGMENTS, &(struct form_options){0});
    /* Not damaged as far as the footer knows: recovery does not look. */
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000004.seg", last_offset, 1), 0);
    assert_false(recover());
    assert_int_equal(recovered.start.lsn, 80);
    assert_int_equal(report.torn_batches_cut, 0);
}

static void mark_damaged(struct segment_footer *footer)
{
    footer->flags |= SEALED_DAMAGED;
}

static void segment_sealed_as_damaged_is_reported_at_every_start(void **state)
{
    (void)state;
    for (unsigned id = 1; id <= SEGMENTS; id++) {
        make_log();
        form_fixture_seal(fixture.io, id, &(struct form_options){.on_footer = mark_damaged});
        char name[SEGMENT_NAME_BYTES];
        segment_name(name, id);
        /* The last batch of the segment: its 4 records are proven by nothing but the footer. */
        assert_int_equal(sim_disk_corrupt(fixture.disk, name, 7 * STORE_BLOCK_BYTES, 1), 0);
        for (int start = 0; start < 2; start++) {
            (void)recover();
            assert_true(report.corrupt_batches > 0);
            assert_int_equal(report.corrupt_lsn_count, 4);
            assert_int_equal(recovered.start.lsn, 80);
        }
        assert_int_equal(recover_refusing(), ERR_CORRUPT);
    }
}

/* ---- damage ---- */

static void damaged_compacted_file_is_told_and_its_lsns_are_lost(void **state)
{
    (void)state;
    for (unsigned id = 2; id < SEGMENTS; id++) {
        for (int part = 0; part < 2; part++) {
            make_log();
            for (unsigned i = 1; i < SEGMENTS; i++) {
                form_fixture_replace(fixture.io, i, NULL);
            }
            char name[SEGMENT_NAME_BYTES];
            compacted_name(name, id);
            uint64_t offset = part == 0 ? 0 : file_size(name) - STORE_BLOCK_BYTES;
            assert_int_equal(sim_disk_corrupt(fixture.disk, name, offset, 1), 0);
            assert_true(recover());
            expect_text(name);
            assert_int_equal(report.corrupt_lsn_count, 20);
            assert_int_equal(report.corrupt_batches, 1 + 7);
            assert_int_equal(recovered.start.lsn, 80);
            assert_true(exists(name));
            assert_int_equal(recover_refusing(), ERR_CORRUPT);
            assert_non_null(strstr(error.text, name));
        }
    }
}

static void unreadable_compacted_file_is_damage_and_not_a_failed_start(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2, NULL);
    sim_disk_fail_reads(fixture.disk, "log/0000000000000002.slc", 0, 512);
    assert_true(recover());
    expect_text("log/0000000000000002.slc is corrupt");
    assert_int_equal(report.corrupt_lsn_count, 20);
}

/* A disk that does not give one file out at all, a number of times. */
static struct {
    const struct file_io_ops *ops;
    const char *name;
    unsigned times;
} refusing;

static int refusing_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    if (strcmp(name, refusing.name) == 0 && refusing.times > 0) {
        refusing.times--;
        return -EIO;
    }
    return refusing.ops->open(io, name, flags, file);
}

static int recover_refused(const char *name, unsigned times)
{
    struct file_io_ops ops = *fixture.io->ops;
    bool has_active = false;
    ops.open = refusing_open;
    refusing.ops = fixture.io->ops;
    refusing.name = name;
    refusing.times = times;
    fixture.io->ops = &ops;
    int r =
        recover_run_here(fixture.io, MIB(64), UINT64_MAX, ON_CORRUPTION_QUARANTINE, &has_active);
    fixture.io->ops = refusing.ops;
    return r;
}

/* What cannot be opened is no proven corruption, in either form: nothing is taken for lost. */
static void file_that_cannot_be_opened_fails_the_start_and_is_no_damage(void **state)
{
    (void)state;
    static const char *const names[] = {"log/0000000000000002.slc", "log/0000000000000003.seg"};
    for (unsigned i = 0; i < 2; i++) {
        make_log();
        form_fixture_replace(fixture.io, 2, NULL);
        assert_int_equal(recover_refused(names[i], UINT32_MAX), -EIO);
        assert_int_equal(report.corrupt_batches, 0);
        assert_int_equal(report.corrupt_lsn_count, 0);
        assert_true(recover());
        expect_whole();
    }
}

static void compacted_file_that_fails_to_open_once_is_asked_for_again(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2, NULL);
    assert_int_equal(recover_refused("log/0000000000000002.slc", 1), 0);
    expect_whole();
}

static void damaged_compacted_file_gives_way_to_its_raw_twin(void **state)
{
    (void)state;
    make_log();
    form_fixture_compact(fixture.io, 2, NULL);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000002.slc", 0, 1), 0);
    assert_true(recover());
    expect_text("the raw file is used");
    assert_int_equal(report.corrupt_batches, 1);
    assert_int_equal(report.corrupt_lsn_count, 0);
    assert_int_equal(recovered.start.lsn, 80);
}

static void damaged_last_compacted_file_is_not_removed_and_its_id_is_not_used(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, SEGMENTS, NULL);
    assert_int_equal(sim_disk_corrupt(fixture.disk, "log/0000000000000004.slc", 0, 1), 0);
    assert_false(recover());
    assert_int_equal(report.corrupt_batches, 1);
    assert_int_equal(recovered.start.lsn, 60);
    assert_int_equal(recovered.segment_id_next, SEGMENTS + 1);
    assert_true(exists("log/0000000000000004.slc"));
}

/* Three batches of three records in segment 1, two in flight at a time; the second is damaged. All
 * that was written to segment 2 failed; segment 3, in whatever form, is the only witness. */
static void damage_is_proven_across_a_segment_that_holds_only_failed_copies(void **state)
{
    (void)state;
    for (int form = 0; form < 3; form++) {
        log_fixture_close(&fixture);
        log_fixture_open(&fixture);
        log_fixture_segment(&fixture);
        log_fixture_batch(&fixture, 3);
        log_fixture_batch_durable(&fixture, 3, 0);
        uint64_t damaged = fixture.batch_offset;
        log_fixture_batch_durable(&fixture, 3, 3);
        assert_int_equal(sim_disk_corrupt(fixture.disk, fixture.name, damaged + 200, 1), 0);
        log_fixture_segment(&fixture);
        log_fixture_poke(&fixture, STORE_BLOCK_BYTES, "torn", 4);
        log_fixture_segment(&fixture);
        log_fixture_batch(&fixture, 3);
        if (form == 1) {
            form_fixture_seal(fixture.io, 3, NULL);
        } else if (form == 2) {
            form_fixture_replace(fixture.io, 3, NULL);
        }
        (void)recover();
        assert_int_equal(report.corrupt_batches, 1);
        assert_int_equal(report.corrupt_lsn_count, 3);
        assert_null(strstr(report.text, "segment 2"));
        assert_int_equal(recovered.start.lsn, 12);
    }
}

/* A batch fails in segment 1 and again in 2 (its header whole, its payload not), and a second one
 * behind it in 1; both are written to segment 3; 4 witnesses all of it. */
static void failed_copies_are_no_damage_whatever_later_segments_witness(void **state)
{
    (void)state;
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    struct batch_header failed = fixture.next;
    log_fixture_batch(&fixture, 3);
    assert_int_equal(sim_disk_corrupt(fixture.disk, fixture.name, fixture.batch_offset + 200, 1),
                     0);
    log_fixture_batch_durable(&fixture, 2, 3);
    log_fixture_rewind(&fixture, &failed);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    assert_int_equal(sim_disk_corrupt(fixture.disk, fixture.name, fixture.batch_offset + 200, 1),
                     0);
    log_fixture_rewind(&fixture, &failed);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 3);
    log_fixture_batch(&fixture, 2);
    log_fixture_segment(&fixture);
    log_fixture_batch(&fixture, 4);
    assert_true(recover());
    assert_string_equal(report.text, "");
    assert_int_equal(report.corrupt_batches, 0);
    assert_int_equal(report.corrupt_lsn_count, 0);
    assert_int_equal(recovered.start.lsn, 12);
}

static void leave_out_four(struct segment_footer *footer)
{
    footer->flags |= SEALED_DAMAGED;
    footer->record_count -= 4;
}

static void damaged_footer_may_name_fewer_records_than_lsns(void **state)
{
    (void)state;
    make_log();
    form_fixture_seal(fixture.io, 2, &(struct form_options){.on_footer = leave_out_four});
    assert_true(recover());
    expect_whole();
    struct walk_file file = {0};
    assert_int_equal(walk_file_open(&file, fixture.io, 2, SEGMENT_FORM_RAW, NULL), 0);
    assert_true(file.has_footer);
    walk_file_end(&file);
}

static void missing_segment_is_told_and_its_lsns_are_lost(void **state)
{
    (void)state;
    for (unsigned form = 0; form < 3; form++) {
        make_log();
        if (form >= 1) {
            form_fixture_replace(fixture.io, 1, NULL);
        }
        if (form >= 2) {
            form_fixture_replace(fixture.io, 3, NULL);
        }
        form_fixture_remove(fixture.io, "log/0000000000000002.seg");
        assert_true(recover());
        expect_text("segment 2: the file is missing");
        assert_int_equal(report.corrupt_lsn_count, 20);
        assert_int_equal(recovered.start.lsn, 80);
    }
}

static void swapped_segments_are_told(void **state)
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
    assert_true(recover());
    expect_text("log/0000000000000002.slc is corrupt");
    expect_text("log/0000000000000003.slc is corrupt");
    assert_int_equal(report.corrupt_lsn_count, 40);
    assert_int_equal(recovered.start.lsn, 80);
}

static void change_node(struct segment_footer *footer)
{
    footer->node.bytes[5] ^= 1;
}

/* Gives segment 2 another node in its header and, sealed, in its footer. */
static void segment_of_another_node_is_told(void **state)
{
    (void)state;
    struct file_io *io = fixture.io;
    for (int is_sealed = 0; is_sealed < 2; is_sealed++) {
        make_log();
        io = fixture.io;
        if (is_sealed == 1) {
            form_fixture_seal(io, 2, &(struct form_options){.on_footer = change_node});
        }
        struct segment_header header;
        uint8_t block[STORE_BLOCK_BYTES];
        struct file file;
        assert_int_equal(io->ops->open(io, "log/0000000000000002.seg", 0, &file), 0);
        assert_int_equal(io->ops->read(io, file, block, sizeof block, 0), sizeof block);
        assert_int_equal(segment_header_decode(&header, block, NULL), 0);
        header.node.bytes[5] ^= 1;
        segment_header_encode(block, &header);
        assert_int_equal(io->ops->write(io, file, block, sizeof block, 0, false), 0);
        io->ops->close(io, file);
        assert_true(recover());
        expect_text("it belongs to another node");
        assert_int_equal(report.corrupt_lsn_count, 20);
        assert_int_equal(recovered.start.lsn, 80);
        assert_true(exists("log/0000000000000002.seg"));
    }
}

static void break_chain(struct segment_footer *footer)
{
    footer->first_previous_crc ^= 1;
}

static void sealed_segment_that_does_not_follow_is_told(void **state)
{
    (void)state;
    make_log();
    form_fixture_replace(fixture.io, 2, &(struct form_options){.on_footer = break_chain});
    assert_true(recover());
    expect_text("segment 2: corrupt, it does not follow");
    assert_int_equal(recovered.start.lsn, 80);
}

/* ---- keys ---- */

/* A real store's log: a keyed request in segment 1, an event key in 2, plain records after. */
static void make_keyed_log(struct fixture *fx)
{
    fx_init(fx, 12);
    struct request receipt = {.records = 1, .receipt = "k", .digest = 1};
    struct request keyed = {.records = 2, .keys = {"a", "b"}};
    struct request bulk = {.records = 4, .payload_bytes = 3000};
    assert_true(fx_submit(fx, &receipt));
    fx_step(fx, 10);
    for (uint64_t sealed = 0; sealed < 3;
         sealed = fx_stat(&store_status(fx->store)->segments_sealed)) {
        (void)fx_submit(fx, sealed == 1 ? &keyed : &bulk);
        (void)fx_submit(fx, &bulk);
        fx_step(fx, 3);
    }
    fx_step(fx, 30);
    fx_stop(fx);
}

static uint64_t keys_of(struct fixture *fx, uint64_t ttl_ns)
{
    bool has_active = false;
    if (recover_run_here(sim_disk_io(fx->disk), 0, ttl_ns, ON_CORRUPTION_QUARANTINE, &has_active) <
        0) {
        fail_msg("%s", error.text);
    }
    return report.keys_rebuilt;
}

static void keys_come_back_from_every_form(void **state)
{
    (void)state;
    for (unsigned mix = 0; mix < 9; mix++) {
        struct fixture fx;
        make_keyed_log(&fx);
        struct file_io *io = sim_disk_io(fx.disk);
        for (unsigned id = 1; id <= 2; id++) {
            unsigned form = id == 1 ? mix % 3 : mix / 3;
            if (form == 1) {
                form_fixture_seal(io, id, &small_blocks);
            } else if (form == 2) {
                form_fixture_replace(io, id, &small_blocks);
            }
        }
        assert_int_equal(keys_of(&fx, 3600 * NS_S), 3);
        assert_int_equal(report.corrupt_batches, 0);
        assert_int_equal(keys_of(&fx, 1), 0);
        fx_end(&fx);
    }
}

static void compacted_segments_without_fresh_keys_are_not_read(void **state)
{
    (void)state;
    struct fixture fx;
    make_keyed_log(&fx);
    struct file_io *io = sim_disk_io(fx.disk);
    for (unsigned id = 1; id <= 3; id++) {
        form_fixture_replace(io, id, &small_blocks);
    }
    /* Segment 3 holds no key, and is not read; segment 1 does, and is. */
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000003.slc", 4096, 1), 0);
    assert_int_equal(keys_of(&fx, 3600 * NS_S), 3);
    assert_int_equal(report.corrupt_batches, 0);
    uint64_t last_lsn = report.last_lsn;
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.slc", 4096, 1), 0);
    assert_int_equal(keys_of(&fx, 3600 * NS_S), 2); /* the frame with the receipt is lost */
    assert_true(report.corrupt_batches > 0);
    assert_true(report.corrupt_lsn_count > 0);
    assert_int_equal(report.last_lsn, last_lsn);
    assert_int_equal(keys_of(&fx, 1), 0); /* nothing is fresh: nothing is read, nothing is found */
    assert_int_equal(report.corrupt_batches, 0);
    fx_end(&fx);
}

static void lost_rest_of_a_compacted_segment_is_counted_by_its_footer(void **state)
{
    (void)state;
    struct fixture fx;
    make_keyed_log(&fx);
    struct file_io *io = sim_disk_io(fx.disk);
    assert_int_equal(keys_of(&fx, 3600 * NS_S), 3);
    uint64_t last_lsn = report.last_lsn;
    form_fixture_replace(io, 1, NULL); /* one frame */
    struct walk_file file = {0};
    assert_int_equal(walk_file_open(&file, io, 1, SEGMENT_FORM_COMPACTED, NULL), 0);
    struct segment_footer footer = file.footer;
    walk_file_end(&file);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.slc", 4096, 1), 0);
    assert_int_equal(keys_of(&fx, 3600 * NS_S), 2);
    assert_int_equal(report.corrupt_lsn_count, footer.record_count);
    assert_int_equal(report.corrupt_batches, footer.last_seq);
    assert_int_equal(report.last_lsn, last_lsn);
    fx_end(&fx);
}

/* The batch before the first one with a key of that segment. */
static uint64_t seq_before_keys(struct file_io *io, uint64_t id)
{
    struct walk_file file = {0};
    struct walk_batch batch;
    uint64_t place = WALK_FILE_BEGIN;
    assert_int_equal(walk_file_open(&file, io, id, SEGMENT_FORM_RAW, NULL), 0);
    do {
        assert_int_equal(walk_file_batch(&file, place, &batch, NULL), 1);
        place += walk_file_stride(&file, &batch.header);
    } while ((batch.header.flags & BATCH_KEYED) == 0);
    walk_file_end(&file);
    return batch.header.batch_seq - 1;
}

/* A write that failed may leave a whole batch in a segment that was sealed without it. */
static void keys_of_batches_that_the_footer_leaves_out_are_not_remembered(void **state)
{
    (void)state;
    struct fixture fx;
    make_keyed_log(&fx);
    struct file_io *io = sim_disk_io(fx.disk);
    struct form_options options = {.seq_max = seq_before_keys(io, 2),
                                   .on_footer = mark_damaged}; /* so that it is walked */
    assert_true(options.seq_max > 0);
    form_fixture_seal(io, 2, &options);
    assert_int_equal(keys_of(&fx, 3600 * NS_S), 1);
    fx_end(&fx);
}

static void store_goes_on_behind_compacted_segments(void **state)
{
    (void)state;
    struct fixture fx;
    make_keyed_log(&fx);
    struct file_io *io = sim_disk_io(fx.disk);
    for (unsigned id = 1; id <= 3; id++) {
        form_fixture_replace(io, id, &small_blocks);
    }
    uint64_t before = fx_log_count(&fx);
    assert_true(before > 0);
    fx_open(&fx);
    struct request again = {.records = 1, .receipt = "k", .digest = 1};
    assert_true(fx_submit(&fx, &again)); /* known: nothing is stored */
    fx_put(&fx, 1, 2);
    fx_step(&fx, 20);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), before + 2);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

int main(void)
{
#define SEALED_TEST(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)
    const struct CMUnitTest tests[] = {
        SEALED_TEST(every_mixture_of_forms_goes_on_at_the_same_place),
        SEALED_TEST(spare_behind_a_compacted_log_is_taken),
        SEALED_TEST(expired_segments_are_no_loss),
        SEALED_TEST(sealed_content_is_not_read_at_start),
        SEALED_TEST(temporaries_are_removed),
        SEALED_TEST(half_sealed_last_segment_is_walked_and_not_appended_to),
        SEALED_TEST(torn_tail_before_a_footer_is_judged_by_the_footer),
        SEALED_TEST(segment_sealed_as_damaged_is_reported_at_every_start),
        SEALED_TEST(damaged_compacted_file_is_told_and_its_lsns_are_lost),
        SEALED_TEST(unreadable_compacted_file_is_damage_and_not_a_failed_start),
        SEALED_TEST(file_that_cannot_be_opened_fails_the_start_and_is_no_damage),
        SEALED_TEST(compacted_file_that_fails_to_open_once_is_asked_for_again),
        SEALED_TEST(damaged_compacted_file_gives_way_to_its_raw_twin),
        SEALED_TEST(damaged_last_compacted_file_is_not_removed_and_its_id_is_not_used),
        SEALED_TEST(damage_is_proven_across_a_segment_that_holds_only_failed_copies),
        SEALED_TEST(failed_copies_are_no_damage_whatever_later_segments_witness),
        SEALED_TEST(damaged_footer_may_name_fewer_records_than_lsns),
        SEALED_TEST(missing_segment_is_told_and_its_lsns_are_lost),
        SEALED_TEST(swapped_segments_are_told),
        SEALED_TEST(segment_of_another_node_is_told),
        SEALED_TEST(sealed_segment_that_does_not_follow_is_told),
        SEALED_TEST(keys_come_back_from_every_form),
        SEALED_TEST(compacted_segments_without_fresh_keys_are_not_read),
        SEALED_TEST(lost_rest_of_a_compacted_segment_is_counted_by_its_footer),
        SEALED_TEST(keys_of_batches_that_the_footer_leaves_out_are_not_remembered),
        SEALED_TEST(store_goes_on_behind_compacted_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
