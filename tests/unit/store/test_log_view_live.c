/* log_view on a real disk: a thread appends with O_DIRECT, as the log's writer does, while another
 * reads the same file through the page cache. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "sealed_fixture.h"

#define LIVE_BYTES MIB(6)

static char dir[] = "log_view_live_XXXXXX"; /* in the build directory: a disk, not tmpfs */
static struct sealed_fixture sf;

struct live {
    struct file file;         /* direct */
    _Atomic uint64_t durable; /* LSN; release by the appender, acquire by the reader */
    uint64_t last_lsn[SEALED_FIXTURE_BATCHES_MAX];
};

static struct live live;

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

static int open_disk(void **state)
{
    (void)state;
    struct err err = {0};
    assert_non_null(mkdtemp(dir));
    memset(&sf, 0, sizeof sf);
    if (file_io_real_open(&sf.io, dir, true, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(sf.io->ops->make_dir(sf.io, SEGMENT_DIR), 0);
    sf.next.batch_seq = 1;
    sf.next.first_lsn = 1;
    sf_segment(&sf, 1, LIVE_BYTES);
    return 0;
}

static int close_disk(void **state)
{
    (void)state;
    char log[sizeof dir + 8];
    sf.io->ops->destroy(sf.io);
    mem_free(sf.raw);
    (void)snprintf(log, sizeof log, "%s/log", dir);
    remove_tree(log);
    remove_tree(dir);
    return 0;
}

/* The whole segment in memory; what goes to the disk and when is append's business. */
static void make_batches(void)
{
    struct sim_random random = {9};
    while (sf.end + KIB(128) < LIVE_BYTES) {
        sf_batch(&sf, (uint32_t)sim_random_below(&random, 200), 250);
        live.last_lsn[sf.batch_count - 1] = sf.next.first_lsn - 1;
    }
}

static void *append(void *context)
{
    uint8_t *aligned = context;
    for (uint32_t i = 0; i < sf.batch_count; i++) {
        uint64_t end = i + 1 < sf.batch_count ? sf.batch_at[i + 1] : sf.end;
        uint64_t bytes = end - sf.batch_at[i];
        memcpy(aligned, sf.raw + sf.batch_at[i], bytes);
        int result = sf.io->ops->write(sf.io, live.file, aligned, bytes, sf.batch_at[i], true);
        ASSERT(result == 0);
        /* Release: as W1, the batch is on stable storage before the number says so. */
        atomic_store_explicit(&live.durable, live.last_lsn[i], memory_order_release);
    }
    return NULL;
}

/* Reads on from block *i; returns the last LSN that it saw. */
static uint64_t read_on(struct block_reader *reader, struct view_segment *segment, uint32_t *i,
                        uint64_t seen, uint64_t durable)
{
    struct block block;
    struct err err = {0};
    int result;
    while ((result = block_reader_load(reader, segment, *i, durable, &block, &err)) == 0) {
        struct block_walk walk = {.block = block};
        struct record record;
        uint64_t lsn = 0;
        while ((result = block_walk_next(&walk, &record, &lsn, &err)) == 1) {
            assert_true(lsn <= seen + 1); /* no gap */
            assert_int_equal(strtoull((const char *)record.payload.data, NULL, 10), lsn);
            seen = u64_max(seen, lsn);
        }
        if (result < 0) {
            fail_msg("%s", err.text);
        }
        if (block.batches.bytes < INDEX_BLOCK_BYTES) {
            return seen; /* open: to be read again */
        }
        (*i)++;
    }
    assert_int_equal(result, -ENODATA);
    return seen;
}

static void reader_sees_exactly_what_is_durable_while_it_is_appended(void **state)
{
    (void)state;
    pthread_t thread;
    struct view_segment *segment = NULL;
    struct block_reader *reader = block_reader_new();
    uint8_t *aligned = mem_map(LIVE_BYTES);
    assert_non_null(aligned);
    make_batches();
    assert_int_equal(
        sf.io->ops->open(sf.io, "log/0000000000000001.seg", FILE_OPEN_DIRECT, &live.file), 0);
    assert_int_equal(view_segment_open(&segment, sf.io, 1, VIEW_ACTIVE, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, append, aligned), 0);
    uint64_t last = live.last_lsn[sf.batch_count - 1];
    uint64_t seen = 0;
    uint32_t i = 0;
    unsigned rounds = 0;
    while (seen < last) {
        /* Acquire: pairs with the release in append. */
        uint64_t durable = atomic_load_explicit(&live.durable, memory_order_acquire);
        seen = read_on(reader, segment, &i, seen, durable);
        assert_int_equal(seen, durable);
        rounds++;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(i >= 4);
    assert_true(rounds > 10); /* it was read while it grew */
    sf.io->ops->close(sf.io, live.file);
    view_segment_give(segment);
    block_reader_free(reader);
    mem_unmap(aligned, LIVE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reader_sees_exactly_what_is_durable_while_it_is_appended,
                                        open_disk, close_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
