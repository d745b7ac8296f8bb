/* sink_status: every picture anybody reads is one that was written, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "core/clock.h"
#include "core/mem.h"
#include "forward/sink_status.h"

#define WRITES  200000u
#define READERS 2

/* Every word follows from one number, and the ledger balances. */
static void picture_of(struct sink_picture *picture, uint64_t n)
{
    memset(picture, 0, sizeof *picture);
    picture->durable_lsn = 10 * n;
    picture->position = (struct sink_position){.start_lsn = 1,
                                               .live_next = 7 * n + 1,
                                               .backlog_next = 3 * n + 1,
                                               .backlog_end = 4 * n + 1,
                                               .delivered = 4 * n,
                                               .filtered = n,
                                               .quarantined = n / 2};
    picture->frozen_records = 6 * n - picture->position.delivered - picture->position.filtered -
                              picture->position.quarantined;
    uint64_t *counts[] = {
        &picture->frozen_batches,  &picture->in_flight,      &picture->pending_bytes,
        &picture->delivered_bytes, &picture->sent_bytes,     &picture->requests,
        &picture->retries,         &picture->refused,        &picture->bisections,
        &picture->pauses,          &picture->breaker_opened, &picture->breaker,
        &picture->state,           &picture->window};
    for (size_t i = 0; i < ARRAY_COUNT(counts); i++) {
        *counts[i] = n + i;
    }
    picture->oldest_pending_at_ns = (int64_t)n;
    picture->lag_p99_ns = -(int64_t)n;
    memset(picture->reason, 'a' + (int)(n % 26), sizeof picture->reason - 1);
}

static bool is_whole(const struct sink_picture *picture)
{
    struct sink_picture expected;
    picture_of(&expected, picture->durable_lsn / 10);
    return memcmp(&expected, picture, sizeof expected) == 0 && sink_balances(picture);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct sink_status *status = mem_alloc(sizeof *status);
    struct sink_picture in;
    struct sink_picture out;
    memset(&in, 0, sizeof in);
    sink_status_read(status, &out);
    assert_memory_equal(&in, &out, sizeof in);
    for (uint64_t n = 1; n < 100; n++) {
        picture_of(&in, n);
        sink_status_write(status, &in);
        sink_status_read(status, &out);
        assert_memory_equal(&in, &out, sizeof in);
    }
    mem_free(status);
}

static void the_sequence_may_wrap(void **state)
{
    (void)state;
    struct sink_status *status = mem_alloc(sizeof *status);
    struct sink_picture in;
    struct sink_picture out;
    atomic_store_explicit(&status->sequence, UINT64_MAX - 3, memory_order_relaxed);
    for (uint64_t n = 1; n < 6; n++) {
        picture_of(&in, n);
        sink_status_write(status, &in);
        sink_status_read(status, &out);
        assert_memory_equal(&in, &out, sizeof in);
    }
    mem_free(status);
}

struct shared {
    struct sink_status status;
    _Atomic bool is_over;
};
struct reader {
    struct shared *shared;
    pthread_t thread;
    uint64_t reads, torn, older, seen;
};

static void *read_all(void *context)
{
    struct reader *reader = context;
    struct sink_picture picture;
    uint64_t last = 0;
    /* relaxed: it only ends the loop. */
    while (!atomic_load_explicit(&reader->shared->is_over, memory_order_relaxed)) {
        sink_status_read(&reader->shared->status, &picture);
        reader->reads++;
        reader->torn += is_whole(&picture) ? 0 : 1;
        reader->older += picture.durable_lsn < last ? 1 : 0;
        reader->seen += picture.durable_lsn != last ? 1 : 0;
        last = picture.durable_lsn;
    }
    return NULL;
}

static void a_picture_is_never_torn_and_never_older_than_the_last(void **state)
{
    (void)state;
    struct shared *shared = mem_alloc(sizeof *shared);
    struct reader readers[READERS] = {0};
    struct sink_picture picture;
    picture_of(&picture, 1);
    sink_status_write(&shared->status, &picture);
    for (size_t i = 0; i < READERS; i++) {
        readers[i].shared = shared;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
    }
    for (uint64_t n = 2; n <= WRITES; n++) {
        picture_of(&picture, n);
        sink_status_write(&shared->status, &picture);
    }
    atomic_store_explicit(&shared->is_over, true, memory_order_relaxed);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(readers[i].torn, 0);
        assert_int_equal(readers[i].older, 0);
    }
    sink_status_read(&shared->status, &picture);
    assert_int_equal(picture.durable_lsn, 10 * WRITES);
    mem_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_sequence_may_wrap),
        cmocka_unit_test(a_picture_is_never_torn_and_never_older_than_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
