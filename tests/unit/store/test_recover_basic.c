/* recover: what comes back after a kill; the simulation tests go further. */
#include "store_fixture.h"

#include "log_fixture.h"
#include "store/dedup.h"
#include "store/recover.h"

/* Larger than a sector, so that a flipped bit in the first one always hits something that a CRC
 * covers. */
static void put_large(struct fixture *fx, uint32_t records)
{
    struct request request = {.records = records, .payload_bytes = 1000};
    assert_true(fx_submit(fx, &request));
}

static void fresh_directory_starts_at_one(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 1);
    assert_int_equal(fx.report.last_lsn, 0);
    assert_int_equal(fx.report.segments, 0);
    fx_end(&fx);
}

static void every_kill_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture fx;
        fx_init(&fx, seed);
        uint64_t acked = 0;
        for (int life = 0; life < 4; life++) {
            sim_disk_crash_after(fx.disk, 1 + (seed * 7 + (uint64_t)life * 13) % 60);
            struct request request = {.records = 2, .payload_bytes = 700};
            for (int i = 0; i < 120 && !sim_disk_is_dead(fx.disk); i++) {
                request.shard ^= 1;
                (void)fx_submit(&fx, &request);
                (void)store_step_writer(fx.store);
                (void)store_step_keeper(fx.store);
            }
            acked = fx_durable_lsn(&fx);
            fx_kill(&fx);
            sim_disk_crash_after(fx.disk, 0);
            fx_open(&fx);
            assert_true(fx.report.last_lsn >= acked);
            assert_int_equal(fx.report.corrupt_batches, 0);
            assert_int_equal(fx_log_count(&fx), fx.report.last_lsn);
        }
        fx_end(&fx);
    }
}

static void corruption_below_d_is_reported_and_the_rest_is_kept(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 5);
    for (int i = 0; i < 5; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx_open(&fx);
    assert_int_equal(fx.report.corrupt_batches, 1);
    assert_int_equal(fx.report.corrupt_lsn_count, 1);
    assert_int_equal(fx.report.last_lsn, 5);
    put_large(&fx, 1);
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 6);
    fx_end(&fx);
}

static void refuse_policy_refuses(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 6);
    for (int i = 0; i < 3; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx.options.on_corruption = ON_CORRUPTION_REFUSE;
    int r = store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err);
    assert_int_equal(r, ERR_CORRUPT);
    assert_non_null(strstr(fx.err.text, "offset 4096"));
    fx.store = NULL;
    fx_end(&fx);
}

static void torn_last_batch_is_cut_and_its_place_used_again(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 7);
    put_large(&fx, 1);
    fx_step(&fx, 3);
    assert_int_equal(fx_durable_lsn(&fx), 1);
    fx_kill(&fx); /* before any mark: the only batch has no witness */
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx_open(&fx);
    assert_int_equal(fx.report.last_lsn, 0);
    assert_int_equal(fx.report.corrupt_batches, 0);
    put_large(&fx, 2);
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 2);
    assert_int_equal(fx_log_count(&fx), 2);
    fx_end(&fx);
}

static void open_store(struct fixture *fx)
{
    int r =
        store_open_single(&fx->store, &fx->options, sim_disk_io(fx->disk), &fx->report, &fx->err);
    if (r < 0) {
        fail_msg("%s", fx->err.text);
    }
}

static int64_t read_file(const struct fixture *fx, const char *name, uint8_t *to, uint64_t bytes,
                         uint64_t offset)
{
    struct file_io *io = sim_disk_io(fx->disk);
    struct file file;
    int r = io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file);
    if (r < 0) {
        return r;
    }
    int64_t n = io->ops->read(io, file, to, bytes, offset);
    io->ops->close(io, file);
    return n;
}

/* A log written by hand; the store then opens it. */
static void fx_by_hand(struct fixture *fx, struct log_fixture *log)
{
    log_fixture_open(log);
    memset(fx, 0, sizeof *fx);
    fx->disk = log->disk;
    fx->options = (struct store_options){.data_dir = "sim",
                                         .segment_bytes = FIXTURE_SEGMENT_BYTES,
                                         .ring_bytes = KIB(16),
                                         .batch_bytes = KIB(8),
                                         .dedup_ttl_ns = 3600 * NS_S,
                                         .dedup_entries_max = 1000,
                                         .spare_segments = 1,
                                         .shard_count = 1,
                                         .writer_cpu = -1};
}

static void torn_tail_is_zeroed_counted_and_never_comes_back(void **state)
{
    (void)state;
    struct fixture fx;
    struct log_fixture log;
    fx_by_hand(&fx, &log);
    uint8_t garbage[16];
    memset(garbage, 0x5a, sizeof garbage);
    log_fixture_segment(&log);
    log_fixture_batch_durable(&log, 1, 0);
    uint64_t cut = log.offset;
    log_fixture_batch_durable(&log, 200, 1); /* several blocks, torn in the second */
    log_fixture_poke(&log, cut + STORE_BLOCK_BYTES + 8, garbage, sizeof garbage);
    log_fixture_batch_durable(&log, 2, 1); /* whole, but never acknowledged: nothing names it */
    uint64_t end = log.offset;
    open_store(&fx);
    assert_int_equal(fx.report.last_lsn, 1);
    assert_int_equal(fx.report.corrupt_batches, 0);
    assert_int_equal(fx.report.torn_batches_cut, 2);
    assert_int_equal(fx.report.torn_bytes_cut, end - cut);
    assert_non_null(strstr(fx.report.text, "torn tail"));
    fx_put(&fx, 0, 3); /* over the cut, one block: the old batch would still lie behind it */
    for (int i = 0; i < 10 && fx_durable_lsn(&fx) < 4; i++) {
        fx_step(&fx, 1); /* no more: an idle log would write its mark there */
    }
    assert_int_equal(fx_durable_lsn(&fx), 4);
    fx_kill(&fx);
    static uint8_t rest[FIXTURE_SEGMENT_BYTES];
    uint64_t behind = cut + STORE_BLOCK_BYTES;
    int64_t n = read_file(&fx, log.name, rest, sizeof rest - behind, behind);
    assert_int_equal(n, (int64_t)(sizeof rest - behind));
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(rest[i], 0);
    }
    open_store(&fx);
    assert_int_equal(fx.report.last_lsn, 4);
    assert_int_equal(fx.report.torn_batches_cut, 0);
    store_close(fx.store);
    fx.store = NULL;
    log_fixture_close(&log);
}

static unsigned quarantine_files;

static void count_file(void *context, const char *name)
{
    (void)context;
    (void)name;
    quarantine_files++;
}

static unsigned count_quarantine(const struct fixture *fx)
{
    struct file_io *io = sim_disk_io(fx->disk);
    quarantine_files = 0;
    (void)io->ops->list(io, "quarantine", count_file, NULL);
    return quarantine_files;
}

static void damaged_bytes_are_kept_once_and_named(void **state)
{
    (void)state;
    static const char name[] = "quarantine/0000000000000001-4096.bin";
    struct fixture fx;
    fx_init(&fx, 8);
    for (int i = 0; i < 5; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    static uint8_t damaged[STORE_BLOCK_BYTES];
    static uint8_t kept[2 * STORE_BLOCK_BYTES];
    (void)read_file(&fx, "log/0000000000000001.seg", damaged, sizeof damaged, STORE_BLOCK_BYTES);
    for (int start = 0; start < 3; start++) {
        open_store(&fx);
        assert_non_null(strstr(fx.report.text, name));
        assert_null(strstr(fx.report.text, "not kept"));
        assert_int_equal(fx.report.corrupt_batches, 1);
        assert_int_equal(count_quarantine(&fx), 1);
        assert_int_equal(read_file(&fx, name, kept, sizeof kept, 0), sizeof damaged);
        assert_memory_equal(kept, damaged, sizeof damaged);
        store_close(fx.store);
        fx.store = NULL;
        sim_disk_crash(fx.disk); /* what was kept stays kept */
        sim_disk_restart(fx.disk);
    }
    fx_end(&fx);
}

static void no_room_for_the_copy_does_not_stop_the_start(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 9);
    for (int i = 0; i < 3; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    sim_disk_set_capacity(fx.disk, sim_disk_used_bytes(fx.disk));
    open_store(&fx);
    assert_non_null(strstr(fx.report.text, "not kept"));
    assert_int_equal(fx.report.last_lsn, 3);
    assert_int_equal(count_quarantine(&fx), 0);
    fx_end(&fx);
}

static void refusing_start_changes_nothing(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 10);
    for (int i = 0; i < 3; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 512),
                     0);
    fx.options.on_corruption = ON_CORRUPTION_REFUSE;
    int r = store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err);
    assert_int_equal(r, ERR_CORRUPT);
    assert_non_null(strstr(fx.err.text, "store.on_corruption is refuse"));
    assert_non_null(strstr(fx.err.text, "1 LSNs from 1 are lost"));
    assert_int_equal(count_quarantine(&fx), 0);
    fx.store = NULL;
    fx_end(&fx);
}

static void whole_batch_behind_a_torn_one_stays_outside_though_damage_precedes_both(void **state)
{
    (void)state;
    struct fixture fx;
    struct log_fixture log;
    fx_by_hand(&fx, &log);
    uint8_t garbage[16];
    memset(garbage, 0x5a, sizeof garbage);
    log_fixture_segment(&log);
    log_fixture_batch(&log, 1);
    log_fixture_batch(&log, 1); /* acknowledged: LSN 2 */
    uint64_t damaged = log.batch_offset;
    log_fixture_batch(&log, 2); /* torn */
    log_fixture_poke(&log, log.batch_offset + 8, garbage, sizeof garbage);
    log_fixture_batch_durable(&log, 2, 2); /* whole, in flight with the torn one */
    log_fixture_poke(&log, damaged + BATCH_HEADER_BYTES + 8, garbage, sizeof garbage);
    struct reader *reader = NULL;
    struct reader_record record;
    assert_int_equal(reader_open(&reader, sim_disk_io(fx.disk), 1, &fx.err), 0);
    assert_int_equal(reader_next(reader, &record, &fx.err), 1);
    assert_int_equal(reader_next(reader, &record, &fx.err), ERR_CORRUPT);
    assert_int_equal(reader_next(reader, &record, &fx.err), 0);
    reader_close(reader);
    open_store(&fx);
    assert_int_equal(fx.report.last_lsn, 2);
    assert_int_equal(fx.report.corrupt_lsn_count, 1);
    assert_int_equal(fx.report.corrupt_batches, 1);
    fx_put(&fx, 0, 4);
    fx_step(&fx, 10);
    assert_int_equal(fx.last_durable.first_lsn, 3);
    fx_stop(&fx);
    assert_int_equal(reader_open(&reader, sim_disk_io(fx.disk), 1, &fx.err), 0);
    assert_int_equal(reader_next(reader, &record, &fx.err), 1);
    assert_int_equal(reader_next(reader, &record, &fx.err), ERR_CORRUPT);
    for (uint64_t lsn = 3; lsn <= 6; lsn++) {
        assert_int_equal(reader_next(reader, &record, &fx.err), 1);
        assert_int_equal(record.lsn, lsn);
        assert_int_equal(record.segment_id, 2);
    }
    assert_int_equal(reader_next(reader, &record, &fx.err), 0);
    reader_close(reader);
    open_store(&fx); /* and the next start sees the same */
    assert_int_equal(fx.report.last_lsn, 6);
    assert_int_equal(fx.report.corrupt_lsn_count, 1);
    store_close(fx.store);
    log_fixture_close(&log);
}

static void unreadable_tail_is_damage_not_a_torn_tail(void **state)
{
    (void)state;
    static const char segment[] = "log/0000000000000001.seg";
    struct fixture fx;
    struct log_fixture log;
    fx_by_hand(&fx, &log);
    log_fixture_segment(&log);
    log_fixture_batch(&log, 1);
    log_fixture_batch(&log, 2); /* acknowledged, perhaps: nothing names it yet */
    sim_disk_fail_reads(fx.disk, segment, log.batch_offset, 1);
    fx.options.on_corruption = ON_CORRUPTION_REFUSE;
    assert_int_equal(
        store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err),
        ERR_CORRUPT);
    fx.options.on_corruption = ON_CORRUPTION_QUARANTINE;
    open_store(&fx);
    assert_int_equal(fx.report.corrupt_batches, 1);
    assert_int_equal(fx.report.torn_batches_cut, 0);
    assert_non_null(strstr(fx.report.text, "cannot be read"));
    assert_int_equal(fx.report.last_lsn, 1);
    fx_put(&fx, 0, 1); /* goes to another segment: this one is not touched */
    fx_step(&fx, 10);
    assert_int_equal(fx_durable_lsn(&fx), 2);
    sim_disk_fail_reads(fx.disk, segment, 0, 0);
    struct batch_header header;
    static uint8_t block[STORE_BLOCK_BYTES];
    (void)read_file(&fx, segment, block, sizeof block, log.batch_offset);
    assert_int_equal(batch_header_decode(&header, block, NULL), 0);
    store_close(fx.store);
    log_fixture_close(&log);
}

static void unreadable_segment_is_set_aside_and_not_removed(void **state)
{
    (void)state;
    struct fixture fx;
    struct log_fixture log;
    fx_by_hand(&fx, &log);
    log_fixture_segment(&log);
    log_fixture_batch(&log, 1);
    log_fixture_segment(&log);
    log_fixture_batch(&log, 1);
    sim_disk_fail_reads(fx.disk, log.name, 0, FIXTURE_SEGMENT_BYTES);
    fx.options.on_corruption = ON_CORRUPTION_REFUSE;
    assert_int_equal(
        store_open_single(&fx.store, &fx.options, sim_disk_io(fx.disk), &fx.report, &fx.err),
        ERR_CORRUPT);
    fx.options.on_corruption = ON_CORRUPTION_QUARANTINE;
    open_store(&fx);
    assert_int_equal(fx.report.corrupt_batches, 1);
    assert_non_null(strstr(fx.report.text, "set aside as log/0000000000000002.bad"));
    sim_disk_fail_reads(fx.disk, log.name, 0, 0);
    struct batch_header header;
    static uint8_t block[STORE_BLOCK_BYTES];
    (void)read_file(&fx, "log/0000000000000002.bad", block, sizeof block, STORE_BLOCK_BYTES);
    assert_int_equal(batch_header_decode(&header, block, NULL), 0);
    assert_int_equal(header.first_lsn, 2);
    store_close(fx.store);
    log_fixture_close(&log);
}

static void segment_without_header_and_first_batch_keeps_the_rest(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 11);
    for (int i = 0; i < 5; i++) {
        put_large(&fx, 1);
        fx_step(&fx, 10);
    }
    fx_stop(&fx);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", 0, 64), 0);
    assert_int_equal(sim_disk_corrupt(fx.disk, "log/0000000000000001.seg", STORE_BLOCK_BYTES, 128),
                     0);
    open_store(&fx);
    assert_int_equal(fx.report.last_lsn, 5);
    assert_int_equal(fx.report.corrupt_lsn_count, 1);
    assert_non_null(strstr(fx.report.text, "quarantine/0000000000000001-0.bin"));
    fx_end(&fx);
}

/* What a start must read of a long log: keys in segment 1, plain records in 2 and 3. */
struct old_log {
    struct fixture fx;
    struct dedup *dedup;
    struct recovered recovered;
    struct recovery_report report;
};

static void old_log_make(struct old_log *old)
{
    memset(old, 0, sizeof *old);
    fx_init(&old->fx, 12);
    struct request keyed = {.records = 1, .receipt = "k", .digest = 1};
    struct request bulk = {.records = 4, .payload_bytes = 3000};
    assert_true(fx_submit(&old->fx, &keyed));
    fx_step(&old->fx, 10);
    while (fx_stat(&store_status(old->fx.store)->segments_sealed) < 3) {
        (void)fx_submit(&old->fx, &bulk);
        fx_step(&old->fx, 3);
    }
    fx_step(&old->fx, 30);
    fx_stop(&old->fx);
}

static void old_log_recover(struct old_log *old, uint64_t walk_bytes, uint64_t ttl_ns)
{
    struct err err = {0};
    memset(&old->report, 0, sizeof old->report);
    assert_int_equal(dedup_open(&old->dedup, 100, ttl_ns, &err), 0);
    struct recover_options options = {.io = sim_disk_io(old->fx.disk),
                                      .dedup = old->dedup,
                                      .dedup_ttl_ns = ttl_ns,
                                      .segment_bytes = KIB(128),
                                      .walk_bytes = walk_bytes};
    if (recover_run(&old->recovered, &options, &old->report, &err) < 0) {
        fail_msg("%s", err.text);
    }
    segment_close(&old->recovered.start.active, options.io);
    for (unsigned i = 0; i < old->recovered.spare_count; i++) {
        segment_close(&old->recovered.spares[i], options.io);
    }
    dedup_close(old->dedup);
}

static void old_segments_are_read_for_their_keys_only(void **state)
{
    (void)state;
    struct old_log old;
    old_log_make(&old);
    uint64_t last_lsn = 0;
    old_log_recover(&old, MIB(64), 3600 * NS_S);
    last_lsn = old.report.last_lsn;
    assert_int_equal(old.report.keys_rebuilt, 1);
    /* A damage in the plain segment 2 tells whether it was read. */
    assert_int_equal(
        sim_disk_corrupt(old.fx.disk, "log/0000000000000002.seg", STORE_BLOCK_BYTES + 1024, 512),
        0);
    old_log_recover(&old, MIB(64), 3600 * NS_S);
    assert_true(old.report.corrupt_batches > 0);
    old_log_recover(&old, 0, 3600 * NS_S);
    assert_int_equal(old.report.corrupt_batches, 0);
    assert_int_equal(old.report.keys_rebuilt, 1);
    assert_int_equal(old.report.last_lsn, last_lsn);
    old_log_recover(&old, 0, 1); /* every key is older than that: only the last segment is read */
    assert_int_equal(old.report.keys_rebuilt, 0);
    assert_int_equal(old.report.last_lsn, last_lsn);
    fx_end(&old.fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_directory_starts_at_one),
        cmocka_unit_test(every_kill_keeps_what_was_acknowledged),
        cmocka_unit_test(corruption_below_d_is_reported_and_the_rest_is_kept),
        cmocka_unit_test(refuse_policy_refuses),
        cmocka_unit_test(torn_last_batch_is_cut_and_its_place_used_again),
        cmocka_unit_test(torn_tail_is_zeroed_counted_and_never_comes_back),
        cmocka_unit_test(damaged_bytes_are_kept_once_and_named),
        cmocka_unit_test(no_room_for_the_copy_does_not_stop_the_start),
        cmocka_unit_test(refusing_start_changes_nothing),
        cmocka_unit_test(whole_batch_behind_a_torn_one_stays_outside_though_damage_precedes_both),
        cmocka_unit_test(unreadable_tail_is_damage_not_a_torn_tail),
        cmocka_unit_test(unreadable_segment_is_set_aside_and_not_removed),
        cmocka_unit_test(segment_without_header_and_first_batch_keeps_the_rest),
        cmocka_unit_test(old_segments_are_read_for_their_keys_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
