/* journal: order, rescue into a fresh segment, giving up. Through the writer, on a simulated disk.
 */
#include "store_fixture.h"

#include "store/journal.h"
#include "store/keeper.h"

static void failed_write_goes_to_a_fresh_segment_and_nobody_notices(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct fixture fx;
        fx_init(&fx, seed);
        fx_put(&fx, 0, 2);
        fx_step(&fx, 10);
        struct request bulk = {.records = 1, .payload_bytes = 9000};
        fx_step(&fx, 2);
        sim_disk_fail_next_writes(fx.disk, 1);
        assert_true(fx_submit(&fx, &bulk));
        assert_int_equal(store_step_writer(fx.store), 0); /* its write fails */
        assert_true(fx_submit(&fx, &bulk));
        fx_step(&fx, 60);
        assert_int_equal(fx_durable_lsn(&fx), 4);
        assert_int_equal(fx.failed_acks, 0);
        assert_int_equal(fx_stat(&store_status(fx.store)->write_errors), 1);
        assert_int_equal(fx_stat(&store_status(fx.store)->segments_sealed), 1);
        fx_kill(&fx); /* what the failed write left in the old segment must not matter */
        fx_open(&fx);
        assert_int_equal(fx_durable_lsn(&fx), 4);
        assert_int_equal(fx.report.corrupt_batches, 0);
        assert_int_equal(fx_log_count(&fx), 4);
        fx_end(&fx);
    }
}

static void second_failure_is_told_and_lsns_are_used_again(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 2);
    fx_put(&fx, 0, 1);
    fx_step(&fx, 10);
    fx_put(&fx, 0, 5);
    (void)store_step_keeper(fx.store);
    sim_disk_fail_next_writes(fx.disk, 2);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(store_step_writer(fx.store), 0);
    }
    fx_read_acks(&fx);
    assert_int_equal(fx.failed_acks, 1);
    assert_int_equal(fx.failed_cause, FAILED_IO);
    assert_int_equal(fx_state(&fx), STORE_READ_ONLY);
    assert_int_equal(fx_stat(&store_status(fx.store)->next_lsn), 2);
    sim_disk_advance(fx.disk, 2 * NS_S);
    fx_step(&fx, 5);
    fx_put(&fx, 1, 3);
    fx_step(&fx, 20);
    assert_int_equal(fx_durable_lsn(&fx), 4);
    fx_stop(&fx);
    assert_int_equal(fx_log_count(&fx), 4);
    assert_int_equal(fx_verify_faults(&fx), 0);
    fx_end(&fx);
}

static void never_more_than_two_writes_in_flight(void **state)
{
    (void)state;
    struct fixture fx;
    fx_init(&fx, 3);
    struct request bulk = {.records = 1, .payload_bytes = 15000};
    unsigned most = 0;
    for (int i = 0; i < 200; i++) {
        (void)fx_submit(&fx, &bulk);
        bulk.shard ^= 1;
        fx_step(&fx, 1);
        unsigned now = sim_disk_in_flight(fx.disk);
        most = now > most ? now : most;
    }
    fx_stop(&fx);
    assert_int_equal(most, STORE_WRITES_IN_FLIGHT_MAX); /* and two are really used */
    fx_end(&fx);
}

/* ---- the journal alone, on a disk whose completions the test decides ---- */

#define WRITES_MAX 16u

struct bench {
    struct file_io io;
    struct file_write *writes[WRITES_MAX]; /* in the order of submission */
    unsigned write_count;
    struct store_status status;
    struct keeper keeper;
    struct journal journal;
    uint64_t next_lsn;
};

static int bench_submit(struct file_io *io, struct file_write *write)
{
    struct bench *bench = CONTAINER_OF(io, struct bench, io);
    assert_true(bench->write_count < WRITES_MAX);
    bench->writes[bench->write_count++] = write;
    return 0;
}

static void bench_close_file(struct file_io *io, struct file file)
{
    (void)io;
    (void)file;
}

static int64_t bench_real_ns(struct file_io *io)
{
    (void)io;
    return 1;
}

static const struct file_io_ops bench_ops = {
    .submit = bench_submit, .close = bench_close_file, .real_ns = bench_real_ns};

static struct bench *bench_open(void)
{
    struct bench *bench = mem_map(sizeof *bench);
    assert_non_null(bench);
    bench->io.ops = &bench_ops;
    bench->next_lsn = 1;
    bench->keeper.io = &bench->io;
    bench->keeper.status = &bench->status;
    struct segment spare = {.id = 2,
                            .salt = 22,
                            .file_bytes = KIB(128),
                            .end = STORE_BLOCK_BYTES,
                            .state = SEGMENT_PREPARED};
    assert_true(keeper_add_spare(&bench->keeper, &spare));
    struct journal_start start = {.active = spare};
    start.active.id = 1;
    start.active.state = SEGMENT_ACTIVE;
    struct err err = {0};
    assert_int_equal(journal_init(&bench->journal, &bench->io, &bench->keeper, &bench->status,
                                  &start, KIB(16), KIB(16), &err),
                     0);
    return bench;
}

static void bench_close(struct bench *bench)
{
    journal_close(&bench->journal);
    mem_unmap(bench, sizeof *bench);
}

/* One batch of `records` is submitted. */
static struct batch *bench_put(struct bench *bench, uint32_t records)
{
    struct batch *batch = journal_building(&bench->journal, bench->next_lsn);
    assert_non_null(batch);
    for (uint32_t i = 0; i < records; i++) {
        struct record record = {.kind = RECORD_LOG};
        batch_extend(batch, record_encode(batch_tail(batch), &record));
    }
    batch_count(batch, records, 1u << RECORD_LOG, 0, 0);
    batch_run_extend(batch, 0, bench->next_lsn, bench->next_lsn);
    bench->next_lsn += records;
    assert_int_equal(journal_submit(&bench->journal, 0), 0);
    return batch;
}

static void bench_complete(struct bench *bench, unsigned index, bool is_good)
{
    struct file_write *write = bench->writes[index];
    write->next = NULL;
    write->result = is_good ? (int64_t)write->bytes : -EIO;
    journal_on_done(&bench->journal, write, 0);
}

static struct batch_header bench_header(const struct bench *bench, unsigned index)
{
    struct batch_header header;
    assert_int_equal(batch_header_decode(&header, bench->writes[index]->data, NULL), 0);
    return header;
}

static void what_is_in_flight_is_not_called_durable(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    struct batch *first = bench_put(bench, 2);
    struct batch *second = bench_put(bench, 1);
    assert_int_equal(bench_header(bench, 1).durable_lsn, 0);
    bench_complete(bench, 1, true); /* out of order: nothing may be told yet */
    assert_null(journal_oldest(&bench->journal));
    assert_int_equal(bench->journal.durable_lsn, 0);
    (void)bench_put(bench, 1);
    assert_int_equal(bench_header(bench, 2).durable_lsn, 0); /* no witness of what has a hole */
    bench_complete(bench, 0, true);
    assert_ptr_equal(journal_oldest(&bench->journal), first);
    journal_retire(&bench->journal);
    assert_ptr_equal(journal_oldest(&bench->journal), second);
    journal_retire(&bench->journal);
    assert_null(journal_oldest(&bench->journal));
    assert_int_equal(bench->journal.durable_lsn, 3);
    (void)bench_put(bench, 1);
    assert_int_equal(bench_header(bench, 3).durable_lsn, 3);
    bench_complete(bench, 2, true);
    bench_complete(bench, 3, true);
    assert_int_equal(bench->journal.durable_lsn, 5);
    bench_close(bench);
}

/* Both go to the next segment, in their order and chained, whichever of them failed. */
static void expect_both_again(struct bench *bench)
{
    assert_null(journal_oldest(&bench->journal));
    assert_int_equal(journal_rescue(&bench->journal, 0), 0);
    assert_int_equal(bench->write_count, 4);
    struct batch_header first = bench_header(bench, 2);
    struct batch_header second = bench_header(bench, 3);
    assert_int_equal(first.segment_id, 2);
    assert_int_equal(first.batch_seq, 1);
    assert_int_equal(first.first_lsn, 1);
    assert_int_equal(second.segment_id, 2);
    assert_int_equal(second.batch_seq, 2);
    assert_int_equal(second.previous_crc, first.header_crc);
    bench_complete(bench, 2, true);
    bench_complete(bench, 3, true);
    assert_int_equal(bench->journal.durable_lsn, 3);
    assert_int_equal(bench->journal.durable_crc, second.header_crc);
    bench_close(bench);
}

static void batch_behind_a_hole_is_written_again_too(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    (void)bench_put(bench, 2);
    (void)bench_put(bench, 1);
    bench_complete(bench, 0, false);
    assert_int_equal(journal_rescue(&bench->journal, 0), 0); /* waits for the other one */
    assert_int_equal(bench->write_count, 2);
    bench_complete(bench, 1, true);
    expect_both_again(bench);
}

static void batch_that_landed_before_the_hole_showed_is_written_again_too(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    (void)bench_put(bench, 2);
    (void)bench_put(bench, 1);
    bench_complete(bench, 1, true);
    bench_complete(bench, 0, false);
    expect_both_again(bench);
}

static void nothing_is_acknowledged_from_a_segment_that_failed(void **state)
{
    (void)state;
    struct bench *bench = bench_open();
    (void)bench_put(bench, 2);
    (void)bench_put(bench, 1);
    bench_complete(bench, 1, false);
    bench_complete(bench, 0, true); /* says that it is written: the segment is not trusted */
    expect_both_again(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_in_flight_is_not_called_durable),
        cmocka_unit_test(batch_behind_a_hole_is_written_again_too),
        cmocka_unit_test(batch_that_landed_before_the_hole_showed_is_written_again_too),
        cmocka_unit_test(nothing_is_acknowledged_from_a_segment_that_failed),
        cmocka_unit_test(failed_write_goes_to_a_fresh_segment_and_nobody_notices),
        cmocka_unit_test(second_failure_is_told_and_lsns_are_used_again),
        cmocka_unit_test(never_more_than_two_writes_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
