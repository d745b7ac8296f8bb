/*
 * Every call that the store makes to its disk fails once: the first call, the second, ... until a
 * life of a data directory passes untouched. Whatever fails: no crash, nothing acknowledged is
 * lost, every request is answered, and a start succeeds or says why not.
 */
#include "store_fixture.h"

/* A disk in front of the simulated one. */
struct faulty {
    struct file_io io;
    struct file_io *disk;
    uint64_t calls;   /* that may fail, so far */
    uint64_t fail_at; /* 0: none */
    int error;
    const char *failed; /* its name; NULL: not yet */
};

static struct faulty *faulty_of(struct file_io *io)
{
    return CONTAINER_OF(io, struct faulty, io);
}

static bool fails(struct faulty *faulty, const char *name)
{
    if (++faulty->calls != faulty->fail_at) {
        return false;
    }
    faulty->failed = name;
    return true;
}

#define PASS_OR_FAIL(call, arguments)                                                              \
    struct faulty *faulty = faulty_of(io);                                                         \
    return fails(faulty, #call) ? faulty->error : faulty->disk->ops->call arguments

static int faulty_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    PASS_OR_FAIL(open, (faulty->disk, name, flags, file));
}

static void faulty_close(struct file_io *io, struct file file)
{
    faulty_of(io)->disk->ops->close(faulty_of(io)->disk, file);
}

static int64_t faulty_size(struct file_io *io, struct file file)
{
    PASS_OR_FAIL(size, (faulty->disk, file));
}

static int64_t faulty_read(struct file_io *io, struct file file, void *to, uint64_t bytes,
                           uint64_t offset)
{
    PASS_OR_FAIL(read, (faulty->disk, file, to, bytes, offset));
}

static int faulty_write(struct file_io *io, struct file file, const void *from, uint64_t bytes,
                        uint64_t offset, bool is_durable)
{
    PASS_OR_FAIL(write, (faulty->disk, file, from, bytes, offset, is_durable));
}

static int faulty_allocate(struct file_io *io, struct file file, uint64_t bytes)
{
    PASS_OR_FAIL(allocate, (faulty->disk, file, bytes));
}

static int faulty_truncate(struct file_io *io, struct file file, uint64_t bytes)
{
    PASS_OR_FAIL(truncate, (faulty->disk, file, bytes));
}

static int faulty_sync(struct file_io *io, struct file file)
{
    PASS_OR_FAIL(sync, (faulty->disk, file));
}

static int faulty_sync_dir(struct file_io *io, const char *name)
{
    PASS_OR_FAIL(sync_dir, (faulty->disk, name));
}

static int faulty_make_dir(struct file_io *io, const char *name)
{
    PASS_OR_FAIL(make_dir, (faulty->disk, name));
}

static int faulty_rename(struct file_io *io, const char *from, const char *to)
{
    PASS_OR_FAIL(rename, (faulty->disk, from, to));
}

static int faulty_unlink(struct file_io *io, const char *name)
{
    PASS_OR_FAIL(unlink, (faulty->disk, name));
}

static int faulty_list(struct file_io *io, const char *dir, file_on_name on_name, void *context)
{
    PASS_OR_FAIL(list, (faulty->disk, dir, on_name, context));
}

static int faulty_free_bytes(struct file_io *io, uint64_t *bytes)
{
    PASS_OR_FAIL(free_bytes, (faulty->disk, bytes));
}

static int faulty_writer_start(struct file_io *io, struct err *err)
{
    struct faulty *faulty = faulty_of(io);
    return fails(faulty, "writer_start") ? err_set(err, faulty->error, "the ring cannot be made")
                                         : faulty->disk->ops->writer_start(faulty->disk, err);
}

static void faulty_writer_stop(struct file_io *io)
{
    faulty_of(io)->disk->ops->writer_stop(faulty_of(io)->disk);
}

static int faulty_submit(struct file_io *io, struct file_write *write)
{
    PASS_OR_FAIL(submit, (faulty->disk, write));
}

static int faulty_wait(struct file_io *io, uint64_t timeout_ns, struct park *park,
                       struct file_write **done)
{
    return faulty_of(io)->disk->ops->wait(faulty_of(io)->disk, timeout_ns, park, done);
}

static uint64_t faulty_mono_ns(struct file_io *io)
{
    return faulty_of(io)->disk->ops->mono_ns(faulty_of(io)->disk);
}

static int64_t faulty_real_ns(struct file_io *io)
{
    return faulty_of(io)->disk->ops->real_ns(faulty_of(io)->disk);
}

static const struct file_io_ops faulty_ops = {
    .open = faulty_open,
    .close = faulty_close,
    .size = faulty_size,
    .read = faulty_read,
    .write = faulty_write,
    .allocate = faulty_allocate,
    .truncate = faulty_truncate,
    .sync = faulty_sync,
    .sync_dir = faulty_sync_dir,
    .make_dir = faulty_make_dir,
    .rename = faulty_rename,
    .unlink = faulty_unlink,
    .list = faulty_list,
    .free_bytes = faulty_free_bytes,
    .writer_start = faulty_writer_start,
    .writer_stop = faulty_writer_stop,
    .submit = faulty_submit,
    .wait = faulty_wait,
    .mono_ns = faulty_mono_ns,
    .real_ns = faulty_real_ns,
};

/* ---- a life ---- */

struct life {
    struct fixture fx;
    struct faulty faulty;
    uint64_t durable_lsn; /* the most that was ever acknowledged */
    uint64_t reported_lost;
    bool archives; /* segments are sealed, compacted and, by bytes, expired on the way */
};

static int life_open(struct life *life)
{
    struct fixture *fx = &life->fx;
    memset(fx->ended, 0, sizeof fx->ended);
    memset(&fx->err, 0, sizeof fx->err);
    return store_open_single(&fx->store, &fx->options, &life->faulty.io, &fx->report, &fx->err);
}

/* A start that fails names a reason, and the next one, without a failure, succeeds. */
static void life_start(struct life *life)
{
    if (life_open(life) < 0) {
        if (life->faulty.failed == NULL || strlen(life->fx.err.text) < 20) {
            fail_msg("start: failed call %s: text '%s'",
                     life->faulty.failed == NULL ? "none" : life->faulty.failed, life->fx.err.text);
        }
        assert_int_equal(life_open(life), 0);
    }
    const struct recovery_report *report = &life->fx.report;
    life->reported_lost += report->corrupt_batches;
    if (report->last_lsn < life->durable_lsn && report->corrupt_batches == 0) {
        fail_msg("%s failed: LSN %llu was acknowledged, the start says %llu: %s",
                 life->faulty.failed, (unsigned long long)life->durable_lsn,
                 (unsigned long long)report->last_lsn, report->text);
    }
}

static void life_work(struct life *life, unsigned count)
{
    struct fixture *fx = &life->fx;
    struct request request = {.records = 2, .payload_bytes = 5000};
    struct request keyed = {.records = 1, .receipt = "k", .digest = 1};
    for (unsigned i = 0; i < count; i++) {
        (void)fx_submit(fx, i % 7 == 0 ? &keyed : &request);
        fx_step(fx, 3);
        for (unsigned step = 0; life->archives && step < 6; step++) {
            (void)store_step_archive(fx->store);
        }
        life->durable_lsn = fx_durable_lsn(fx);
    }
}

static void life_stop(struct life *life)
{
    store_stop(life->fx.store);
    int r = 0;
    for (unsigned i = 0; i < 2000 && r == 0; i++) {
        r = store_step_writer(life->fx.store);
        (void)store_step_keeper(life->fx.store);
        fx_read_acks(&life->fx);
    }
    for (unsigned i = 0; i < 60 && life->archives; i++) {
        (void)store_step_archive(life->fx.store);
        sim_disk_advance(life->fx.disk, NS_S / 8); /* what failed once is tried again */
    }
    assert_int_equal(r, 1);
    life->durable_lsn = fx_durable_lsn(&life->fx);
    for (unsigned i = 0; i < life->fx.options.shard_count; i++) {
        assert_int_equal(spsc_used_bytes(&store_port(life->fx.store, i)->submit), 0);
    }
    store_close(life->fx.store);
    life->fx.store = NULL;
}

/* Fresh directory, some rolls, orderly stop, start, work, power cut, start, stop. Returns the name
 * of the call that failed, NULL when the life was over before. */
static const char *life_run(uint64_t fail_at, int error, bool archives)
{
    static struct life life;
    memset(&life, 0, sizeof life);
    fx_init(&life.fx, fail_at + 1); /* for the options; its first store is not used */
    store_close(life.fx.store);
    sim_disk_destroy(life.fx.disk);
    struct sim_disk_options disk = {.seed = fail_at,
                                    .capacity_bytes = MIB(64),
                                    .delay_ns_min = 50 * NS_US,
                                    .delay_ns_max = 200 * NS_US};
    life.fx.disk = sim_disk_create(&disk);
    life.faulty = (struct faulty){.io = {.ops = &faulty_ops},
                                  .disk = sim_disk_io(life.fx.disk),
                                  .fail_at = fail_at,
                                  .error = error};
    life.archives = archives;
    life.fx.options.compacts = archives;
    life.fx.options.compact_level = 1;
    life_start(&life);
    life_work(&life, 30);
    life_stop(&life);
    life_start(&life);
    life_work(&life, 10);
    fx_kill(&life.fx);
    life_start(&life);
    life_work(&life, 3);
    life_stop(&life);
    if (life.reported_lost == 0) {
        assert_int_equal(fx_log_count(&life.fx), life.durable_lsn);
        assert_int_equal(fx_verify_faults(&life.fx), 0);
    } else if (!archives) { /* only a read that fails can make a start report damage */
        assert_string_equal(life.faulty.failed, "read");
    } else { /* or a compacted file that cannot be opened: nothing else tells what was in it */
        bool is_reading = strcmp(life.faulty.failed, "read") == 0 ||
                          strcmp(life.faulty.failed, "open") == 0 ||
                          strcmp(life.faulty.failed, "size") == 0;
        assert_true(is_reading);
    }
    sim_disk_destroy(life.fx.disk);
    return life.faulty.failed;
}

static void every_call_may_fail_once(int error, bool archives)
{
    uint64_t n = 1;
    const char *failed = "";
    for (; failed != NULL && n < 5000; n++) {
        failed = life_run(n, error, archives);
    }
    assert_null(failed);
    print_message("%llu calls failed in turn\n", (unsigned long long)(n - 2));
    assert_true(n > 100);
}

static void any_one_call_fails_with_eio(void **state)
{
    (void)state;
    every_call_may_fail_once(-EIO, false);
}

static void any_one_call_fails_with_enospc(void **state)
{
    (void)state;
    every_call_may_fail_once(-ENOSPC, false);
}

static void any_one_call_fails_with_eio_while_segments_are_archived(void **state)
{
    (void)state;
    every_call_may_fail_once(-EIO, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_one_call_fails_with_eio),
        cmocka_unit_test(any_one_call_fails_with_enospc),
        cmocka_unit_test(any_one_call_fails_with_eio_while_segments_are_archived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
