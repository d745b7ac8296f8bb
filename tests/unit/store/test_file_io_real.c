/* file_io_real: the real disk, and the threaded store on it. Needs a directory on a disk: the build
 * directory. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/mem.h"
#include "store/file_io.h"
#include "store/format.h"
#include "store/reader.h"
#include "store/store.h"

static char dir[64];

/* One level below dir, then dir: all that these tests make. */
static void remove_tree(const char *path)
{
    DIR *listing = opendir(path);
    if (listing == NULL) {
        return;
    }
    int fd = dirfd(listing);
    for (struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        (void)unlinkat(fd, entry->d_name, 0);
    }
    (void)closedir(listing);
    (void)rmdir(path);
}

static struct file_io *open_io(void)
{
    struct file_io *io = NULL;
    struct err err = {0};
    if (file_io_real_open(&io, dir, true, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return io;
}

static void completed_write_is_in_the_file(void **state)
{
    (void)state;
    struct file_io *io = open_io();
    struct err err = {0};
    struct file file;
    assert_int_equal(io->ops->open(io, "a", FILE_OPEN_CREATE | FILE_OPEN_DIRECT, &file), 0);
    assert_int_equal(io->ops->allocate(io, file, 4 * STORE_BLOCK_BYTES), 0);
    assert_int_equal(io->ops->writer_start(io, &err), 0);
    uint8_t *data = mem_map(2 * STORE_BLOCK_BYTES);
    memset(data, 7, 2 * STORE_BLOCK_BYTES);
    struct file_write writes[2] = {
        {.file = file, .data = data, .bytes = 2 * STORE_BLOCK_BYTES, .user = data},
        {.file = file, .data = data, .offset = 2 * STORE_BLOCK_BYTES, .bytes = STORE_BLOCK_BYTES},
    };
    assert_int_equal(io->ops->submit(io, &writes[0]), 0);
    assert_int_equal(io->ops->submit(io, &writes[1]), 0);
    int n = 0;
    for (int i = 0; i < 100 && n < 2; i++) {
        struct file_write *done = NULL;
        n += io->ops->wait(io, 100 * NS_MS, NULL, &done);
    }
    assert_int_equal(n, 2);
    assert_int_equal(writes[0].result, 2 * STORE_BLOCK_BYTES);
    memset(data, 0, 2 * STORE_BLOCK_BYTES);
    assert_int_equal(io->ops->read(io, file, data, STORE_BLOCK_BYTES, STORE_BLOCK_BYTES),
                     STORE_BLOCK_BYTES);
    assert_int_equal(data[0], 7);
    assert_int_equal(io->ops->read(io, file, data, STORE_BLOCK_BYTES, 4 * STORE_BLOCK_BYTES),
                     0); /* the end */
    io->ops->close(io, file);
    mem_unmap(data, 2 * STORE_BLOCK_BYTES);
    io->ops->destroy(io);
}

static void failed_write_says_why(void **state)
{
    (void)state;
    struct file_io *io = open_io();
    struct err err = {0};
    struct file file;
    assert_int_equal(io->ops->open(io, "b", FILE_OPEN_CREATE, &file), 0);
    io->ops->close(io, file);
    assert_int_equal(io->ops->open(io, "b", FILE_OPEN_READ_ONLY | FILE_OPEN_DIRECT, &file), 0);
    assert_int_equal(io->ops->open(io, "b", FILE_OPEN_CREATE | FILE_OPEN_EXCLUSIVE, &file),
                     -EEXIST);
    assert_int_equal(io->ops->open(io, "b", FILE_OPEN_READ_ONLY | FILE_OPEN_DIRECT, &file), 0);
    assert_int_equal(io->ops->writer_start(io, &err), 0);
    uint8_t *data = mem_map(STORE_BLOCK_BYTES);
    struct file_write write = {.file = file, .data = data, .bytes = STORE_BLOCK_BYTES};
    assert_int_equal(io->ops->submit(io, &write), 0);
    struct file_write *done = NULL;
    assert_int_equal(io->ops->wait(io, NS_S, NULL, &done), 1);
    assert_int_equal(write.result, -EBADF);
    io->ops->close(io, file);
    mem_unmap(data, STORE_BLOCK_BYTES);
    io->ops->destroy(io);
}

static void wake_ends_the_wait(void **state)
{
    (void)state;
    struct file_io *io = open_io();
    struct err err = {0};
    struct park park;
    assert_int_equal(park_init(&park, &err), 0);
    assert_int_equal(io->ops->writer_start(io, &err), 0);
    for (int i = 0; i < 3; i++) {
        park_prepare(&park, PARK_ANY);
        assert_true(park_wake(&park, false));
        uint64_t begun_ns = io->ops->mono_ns(io);
        struct file_write *done = NULL;
        assert_int_equal(io->ops->wait(io, 5 * NS_S, &park, &done), 0);
        assert_true(io->ops->mono_ns(io) - begun_ns < NS_S);
    }
    park_close(&park);
    io->ops->destroy(io);
}

static void submit_one(struct store_port *port)
{
    static uint8_t payload[32] = "{\"a\":1}";
    struct record record = {.kind = RECORD_LOG, .event_time_ns = 1, .payload = {payload, 7}};
    struct submit_header header = {
        .record_count = 1, .kinds = 1u << RECORD_LOG, .time_min_ns = 1, .time_max_ns = 1};
    uint8_t *to = NULL;
    while (to == NULL) { /* the ring drains */
        to = spsc_claim(&port->submit, 256);
    }
    header.records_bytes = (uint32_t)record_encode(to + sizeof header, &record);
    memcpy(to, &header, sizeof header);
    (void)spsc_commit(&port->submit, SUBMIT_REQUEST, sizeof header + header.records_bytes);
    (void)spsc_publish(&port->submit);
    (void)park_wake(port->writer_park, spsc_used_bytes(&port->submit) >= KIB(64));
}

static uint64_t drain_acks(struct store_port *port)
{
    uint64_t end = 0;
    for (const struct spsc_frame *frame = spsc_take(&port->acks); frame != NULL;
         frame = spsc_take(&port->acks)) {
        assert_int_equal(frame->type, ACK_DURABLE);
        memcpy(&end, frame->payload, sizeof end);
    }
    spsc_release(&port->acks);
    return end;
}

static void threaded_store_keeps_every_record(void **state)
{
    (void)state;
    struct store_options options = {.data_dir = dir,
                                    .segment_bytes = MIB(1),
                                    .reserve_bytes = MIB(1),
                                    .ring_bytes = KIB(256),
                                    .batch_bytes = KIB(64),
                                    .commit_pause_ns = 500 * NS_US,
                                    .dedup_ttl_ns = NS_S,
                                    .dedup_entries_max = 1000,
                                    .spare_segments = 1,
                                    .shard_count = 1,
                                    .writer_cpu = -1,
                                    .allow_volatile = true};
    struct store *store = NULL;
    struct recovery_report report;
    struct err err = {0};
    for (uint64_t life = 0; life < 2; life++) {
        if (store_open(&store, &options, NULL, &report, &err) < 0 || store_start(store, &err) < 0) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(report.last_lsn, life * 20000);
        struct store_port *port = store_port(store, 0);
        for (int i = 0; i < 20000; i++) {
            submit_one(port);
            (void)drain_acks(port);
        }
        store_stop(store);
        for (int i = 0; i < 1000 && !store_is_finished(store); i++) {
            (void)drain_acks(port);
            struct timespec pause = {.tv_nsec = 10 * (long)NS_MS};
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        }
        assert_true(store_is_finished(store));
        store_close(store);
    }
    struct file_io *io = open_io();
    struct verify_report verified;
    assert_int_equal(log_verify(io, &verified, NULL, NULL, &err), 0);
    assert_int_equal(verified.faults, 0);
    assert_int_equal(verified.records, 40000);
    io->ops->destroy(io);
}

int main(void)
{
    (void)snprintf(dir, sizeof dir, "test_file_io_real.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completed_write_is_in_the_file),
        cmocka_unit_test(failed_write_says_why),
        cmocka_unit_test(wake_ends_the_wait),
        cmocka_unit_test(threaded_store_keeps_every_record),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    char log[128];
    (void)snprintf(log, sizeof log, "%s/log", dir);
    remove_tree(log);
    remove_tree(dir);
    return r;
}
