/*
 * test_scan_live: following scans beside a thread that writes, on a real file system: every record
 * once, in order, whether memory kept it or not, across segments that no view has. The writer does
 * what the store's writer does: bytes to disk, then memory, then the watermark.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>

#include "core/crc32c.h"
#include "core/mem.h"
#include "store/scan.h"
#include "store/segment.h"

#define FILE_BYTES    MIB(1)
#define SEGMENTS      24u
#define BATCH_RECORDS 40u
#define TEXT_BYTES    300u
#define READERS       3u

static const struct ulid NODE = {{9}};

struct live {
    char dir[64];
    struct file_io *io;
    struct log_views *views;
    struct recent *recent;
    _Atomic uint64_t durable_lsn;
    _Atomic bool is_over;
    uint8_t *memory; /* the writer's: one segment */
};

static void check(int result, const struct err *err)
{
    if (result < 0) {
        print_error("%s\n", err->text);
        abort(); /* also in threads that are not cmocka's */
    }
}

static void live_open(struct live *live)
{
    struct err err = {0};
    memset(live, 0, sizeof *live);
    (void)snprintf(live->dir, sizeof live->dir, "test_scan_live.XXXXXX");
    assert_non_null(mkdtemp(live->dir));
    check(file_io_real_open(&live->io, live->dir, true, &err), &err);
    (void)live->io->ops->make_dir(live->io, "log"); /* -EEXIST is as good */
    check(log_views_open(&live->views, live->io, &err), &err);
    check(recent_open(&live->recent, &err), &err);
    live->memory = mem_map(FILE_BYTES);
    assert_non_null(live->memory);
}

static void live_close(struct live *live)
{
    char name[SEGMENT_NAME_BYTES];
    char path[128];
    for (uint64_t id = 1; id <= SEGMENTS; id++) {
        segment_name(name, id);
        (void)live->io->ops->unlink(live->io, name);
    }
    recent_close(live->recent);
    log_views_close(live->views);
    live->io->ops->destroy(live->io);
    mem_unmap(live->memory, FILE_BYTES);
    (void)snprintf(path, sizeof path, "%s/log", live->dir);
    (void)rmdir(path);
    (void)rmdir(live->dir);
}

/* ---- the writer ---- */

static void put(struct live *live, const char *name, const uint8_t *data, uint64_t bytes,
                uint64_t offset)
{
    struct file file;
    struct err err = {0};
    int r = live->io->ops->open(live->io, name, FILE_OPEN_CREATE, &file);
    check(r < 0 ? err_set(&err, r, "open %s", name) : 0, &err);
    r = live->io->ops->write(live->io, file, data, bytes, offset, false);
    check(r < 0 ? err_set(&err, r, "write %s", name) : 0, &err);
    live->io->ops->close(live->io, file);
}

static void segment_begin(struct live *live, struct batch_header *next)
{
    char temporary[SEGMENT_NAME_BYTES + 4];
    char name[SEGMENT_NAME_BYTES];
    next->segment_id++;
    next->salt = 500 + next->segment_id;
    struct segment_header header = {
        .segment_id = next->segment_id, .salt = next->salt, .node = NODE, .file_bytes = FILE_BYTES};
    memset(live->memory, 0, FILE_BYTES);
    segment_header_encode(live->memory, &header);
    segment_name(name, next->segment_id);
    (void)snprintf(temporary, sizeof temporary, "%s.new", name);
    put(live, temporary, live->memory, FILE_BYTES, 0);
    ASSERT(live->io->ops->rename(live->io, temporary, name) == 0);
}

/* "LSN xxxx..." of a length that the LSN tells. */
static size_t text_write(char *text, uint64_t lsn)
{
    size_t bytes = 24 + (size_t)(lsn * 7919 % (TEXT_BYTES - 24));
    int head = snprintf(text, TEXT_BYTES, "%020llu ", (unsigned long long)lsn);
    memset(text + head, (int)('a' + lsn % 26), bytes - (size_t)head);
    return bytes;
}

static uint64_t batch_put(struct live *live, struct batch_header *next, uint64_t at)
{
    char name[SEGMENT_NAME_BYTES];
    char text[TEXT_BYTES];
    struct batch_header header = *next;
    size_t bytes = 0;
    header.record_count = 1 + (uint32_t)(next->batch_seq * 31 % BATCH_RECORDS);
    for (uint32_t i = 0; i < header.record_count; i++) {
        size_t length = text_write(text, header.first_lsn + i);
        struct record record = {.kind = RECORD_LOG,
                                .severity = SEVERITY_INFO,
                                .payload = {(const uint8_t *)text, length}};
        bytes += record_encode(live->memory + BATCH_HEADER_BYTES + bytes, &record);
    }
    header.kinds = 1u << RECORD_LOG;
    header.payload_bytes = (uint32_t)bytes;
    header.durable_lsn = header.first_lsn - 1;
    header.payload_crc = crc32c(0, live->memory + BATCH_HEADER_BYTES, bytes);
    batch_header_encode(live->memory, &header);
    segment_name(name, header.segment_id);
    put(live, name, live->memory, BATCH_HEADER_BYTES + bytes, at);
    recent_put(live->recent, header.first_lsn, header.record_count, live->memory,
               (struct slice){live->memory + BATCH_HEADER_BYTES, bytes});
    next->batch_seq++;
    next->first_lsn += header.record_count;
    next->previous_crc = header.header_crc;
    /* release, edge W1 */
    atomic_store_explicit(&live->durable_lsn, next->first_lsn - 1, memory_order_release);
    return batch_file_bytes(bytes);
}

static void *writer_run(void *context)
{
    struct live *live = context;
    struct batch_header next = {.batch_seq = 1, .first_lsn = 1};
    while (next.segment_id < SEGMENTS) {
        uint64_t at = STORE_BLOCK_BYTES;
        segment_begin(live, &next);
        if (next.segment_id == 1) {
            struct view_segment *first = NULL;
            struct err err = {0};
            check(view_segment_open(&first, live->io, 1, VIEW_ACTIVE, &err), &err);
            log_views_publish(live->views, &first, 1); /* and never a newer one */
            view_segment_give(first);
        }
        while (at + KIB(32) < FILE_BYTES) { /* as many batches as fit */
            at += batch_put(live, &next, at);
        }
    }
    atomic_store_explicit(&live->is_over, true, memory_order_release);
    return NULL;
}

/* ---- readers ---- */

struct follower {
    struct live *live;
    uint64_t next_lsn;
    uint64_t pause; /* records after which it lingers, so that memory moves on without it */
    uint64_t faults;
};

static bool follower_take(void *context, const struct scan_record *record)
{
    struct follower *follower = context;
    char text[TEXT_BYTES];
    size_t bytes = text_write(text, record->lsn);
    bool is_right = record->lsn == follower->next_lsn && record->record.payload.bytes == bytes &&
                    memcmp(record->record.payload.data, text, bytes) == 0;
    follower->faults += is_right ? 0 : 1;
    follower->next_lsn = record->lsn + 1;
    return follower->pause == 0 || record->lsn % follower->pause != 0;
}

static void *follower_run(void *context)
{
    struct follower *follower = context;
    struct live *live = follower->live;
    struct scan_source source = {
        .views = live->views, .recent = live->recent, .durable_lsn = &live->durable_lsn};
    struct scan_options options = {
        .filter = {.time_min_ns = INT64_MIN, .time_max_ns = INT64_MAX, .lsn_max = UINT64_MAX},
        .take = follower_take,
        .context = follower};
    struct scan *scan = scan_new(&source, &options);
    bool was_over = false;
    for (int r = SCAN_MORE; !(r == SCAN_END && was_over);) { /* until the writer has finished */
        struct err err = {0};
        was_over = atomic_load_explicit(&live->is_over, memory_order_acquire);
        r = scan_step(scan, &err);
        if (r < 0) {
            print_error("%s\n", err.text);
            follower->faults++;
        }
        if (r == SCAN_FULL) {
            struct timespec while_memory_moves_on = {.tv_nsec = 3000000};
            nanosleep(&while_memory_moves_on, NULL);
        }
    }
    scan_free(scan);
    return NULL;
}

static void following_scans_beside_the_writer_see_every_record_once(void **state)
{
    (void)state;
    struct live live;
    pthread_t writer;
    pthread_t threads[READERS];
    struct follower followers[READERS];
    live_open(&live);
    for (unsigned i = 0; i < READERS; i++) {
        followers[i] = (struct follower){.live = &live, .next_lsn = 1, .pause = i * 101};
        assert_int_equal(pthread_create(&threads[i], NULL, follower_run, &followers[i]), 0);
    }
    assert_int_equal(pthread_create(&writer, NULL, writer_run, &live), 0);
    pthread_join(writer, NULL);
    uint64_t last = atomic_load_explicit(&live.durable_lsn, memory_order_acquire);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(followers[i].faults, 0);
        assert_int_equal(followers[i].next_lsn, last + 1);
    }
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(following_scans_beside_the_writer_see_every_record_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
