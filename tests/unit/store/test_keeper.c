/* keeper: segments ahead of the writer, and what a writer in need gets. */
#include "store_fixture.h"

#include "store/keeper.h"

struct bench {
    struct sim_disk *disk;
    struct store_status status;
    struct park writer_park;
    struct keeper keeper;
};

static struct bench *bench_open(void)
{
    struct bench *bench = mem_map(sizeof *bench);
    assert_non_null(bench);
    struct sim_disk_options disk = {.seed = 1, .capacity_bytes = MIB(64)};
    bench->disk = sim_disk_create(&disk);
    struct file_io *io = sim_disk_io(bench->disk);
    struct err err = {0};
    assert_int_equal(io->ops->make_dir(io, SEGMENT_DIR), 0);
    assert_int_equal(park_init(&bench->writer_park, &err), 0);
    struct keeper_options options = {.io = io,
                                     .status = &bench->status,
                                     .writer_park = &bench->writer_park,
                                     .segment_bytes = MIB(4),
                                     .spares = 1,
                                     .id_next = 1};
    assert_int_equal(keeper_init(&bench->keeper, &options, &err), 0);
    return bench;
}

static void bench_close(struct bench *bench)
{
    keeper_close(&bench->keeper);
    park_close(&bench->writer_park);
    sim_disk_destroy(bench->disk);
    mem_unmap(bench, sizeof *bench);
}

static void writer_that_waits_gets_a_segment_before_it_is_zeroed(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    struct file_io *io = sim_disk_io(bench->disk);
    struct segment segment;
    assert_int_equal(keeper_take(&bench->keeper, &segment), -EAGAIN);
    assert_int_equal(keeper_duty(&bench->keeper), 0);
    assert_int_equal(keeper_take(&bench->keeper, &segment), 0);
    assert_false(segment.is_zeroed);
    assert_int_equal(io->ops->size(io, segment.file), MIB(4));
    segment_close(&segment, io);
    assert_int_equal(keeper_duty(&bench->keeper), 0); /* nobody waits any more */
    assert_int_equal(keeper_take(&bench->keeper, &segment), 0);
    assert_true(segment.is_zeroed);
    assert_int_equal(segment.id, 2);
    segment_close(&segment, io);
    bench_close(bench);
}

static void what_an_earlier_attempt_left_does_not_show(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    struct file_io *io = sim_disk_io(bench->disk);
    static uint8_t garbage[64];
    memset(garbage, 0x5a, sizeof garbage);
    struct file file;
    assert_int_equal(io->ops->open(io, "log/0000000000000001.tmp", FILE_OPEN_CREATE, &file), 0);
    assert_int_equal(io->ops->write(io, file, garbage, sizeof garbage, MIB(5), false), 0);
    assert_int_equal(io->ops->write(io, file, garbage, sizeof garbage, MIB(2), false), 0);
    io->ops->close(io, file);
    struct segment segment;
    assert_int_equal(keeper_take(&bench->keeper, &segment), -EAGAIN); /* in a hurry: no zeroing */
    assert_int_equal(keeper_duty(&bench->keeper), 0);
    assert_int_equal(keeper_take(&bench->keeper, &segment), 0);
    assert_int_equal(io->ops->size(io, segment.file), MIB(4));
    uint8_t *block = mem_map(STORE_BLOCK_BYTES);
    assert_non_null(block);
    assert_int_equal(io->ops->read(io, segment.file, block, STORE_BLOCK_BYTES, MIB(2)),
                     STORE_BLOCK_BYTES);
    assert_int_equal(block[0], 0);
    mem_unmap(block, STORE_BLOCK_BYTES);
    segment_close(&segment, io);
    bench_close(bench);
}

static void failure_is_counted_and_tried_again_later(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    struct segment segment;
    sim_disk_set_capacity(bench->disk, MIB(1));
    assert_int_equal(keeper_duty(&bench->keeper), 0);
    assert_true(keeper_is_out(&bench->keeper));
    assert_int_equal(fx_stat(&bench->status.prepare_errors), 1);
    assert_int_equal(keeper_duty(&bench->keeper), 0); /* not at once */
    assert_int_equal(fx_stat(&bench->status.prepare_errors), 1);
    sim_disk_set_capacity(bench->disk, MIB(64));
    sim_disk_advance(bench->disk, KEEPER_RETRY_NS);
    assert_int_equal(keeper_duty(&bench->keeper), 0);
    assert_false(keeper_is_out(&bench->keeper));
    assert_int_equal(keeper_take(&bench->keeper, &segment), 0);
    segment_close(&segment, sim_disk_io(bench->disk));
    bench_close(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writer_that_waits_gets_a_segment_before_it_is_zeroed),
        cmocka_unit_test(what_an_earlier_attempt_left_does_not_show),
        cmocka_unit_test(failure_is_counted_and_tried_again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
