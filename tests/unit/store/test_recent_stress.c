/*
 * recent between real threads: the writer puts batches as fast as it can, laps its memory hundreds
 * of times, and publishes what is durable as the store does (W1); readers take what they please:
 * the newest, one block after the other, and anything at all, which they hold while the writer goes
 * on. Every byte of every block is checked, of held ones twice. Meant for ThreadSanitizer as much
 * as for the plain build.
 *
 * Three readers hold at most three of the eight chunks: so the writer always finds one, and what was
 * kept and is not older than 1 MiB must be found.
 *
 * The seed is printed; SLUICE_TEST_SEED=<seed> repeats the sizes (not the interleaving).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "recent_fixture.h"

#define RUN_NS  (700 * NS_MS)
#define READERS 3
/* Fewer than the chunks less the one that is appended to, and one whose claim a passing addition may
 * spoil, for each reader. */
_Static_assert(2 * READERS + 1 < RECENT_CHUNKS, "the writer always finds a chunk");

enum reader_kind {
    READER_NEWEST,
    READER_IN_ORDER,
    READER_ANYWHERE,
};

struct run {
    struct recent *recent;
    uint64_t seed;
    /* The newest LSN in memory, and the bytes kept up to it: released by the writer as W1 is. */
    _Atomic uint64_t kept_lsn;
    _Atomic uint64_t kept_bytes;
    _Atomic bool is_over;
    uint64_t put_count;
};

struct reader {
    struct run *run;
    enum reader_kind kind;
    uint64_t random;
    uint64_t found, missed, batches;
};

static struct run run;

/* cmocka's assertions belong to the main thread. */
static void check(bool is_true, const char *what)
{
    if (!is_true) {
        fprintf(stderr, "stress: %s\n", what);
        abort();
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

/* ---------------------------------------------------------------- writer */

/* Mostly small; now and then tens of KiB; seldom too large to be kept. */
static uint32_t payload_of(uint64_t key)
{
    uint64_t h = recent_mix(key);
    uint64_t most = h % 16 == 0 ? 60000 : 2000;
    most = h % 1024 == 0 ? 2 * RECENT_BATCH_MAX : most;
    return (uint32_t)align_up(4 * RECORD_HEADER_BYTES + (h >> 16) % most, RECORD_ALIGN);
}

static void *writer_main(void *context)
{
    static struct recent_feed feed;
    struct run *to = context;
    uint64_t until = now_ns() + RUN_NS;
    uint64_t bytes = 0;
    role_set(ROLE_WRITER);
    feed.next_lsn = 1;
    while (to->put_count % 256 != 0 || now_ns() < until) {
        uint32_t payload_bytes = payload_of(to->seed + feed.next_lsn);
        uint32_t records = 1 + (uint32_t)(payload_bytes / 8 % 4);
        recent_feed_put(to->recent, &feed, records, payload_bytes);
        to->put_count++;
        if (payload_bytes + BATCH_HEADER_BYTES > RECENT_BATCH_MAX) {
            continue;
        }
        bytes += payload_bytes + BATCH_HEADER_BYTES;
        /* relaxed: looked at by who has missed, to tell whether it was too late. */
        atomic_store_explicit(&to->kept_bytes, bytes, memory_order_relaxed);
        /* as W1: pairs with the acquire loads of the readers. */
        atomic_store_explicit(&to->kept_lsn, feed.next_lsn - 1, memory_order_release);
    }
    atomic_store_explicit(&to->is_over, true, memory_order_release);
    return NULL;
}

/* ---------------------------------------------------------------- readers */

static uint64_t reader_random(struct reader *reader)
{
    reader->random += 0x9e3779b97f4a7c15u;
    return recent_mix(reader->random);
}

/* Where to look next, or 0: nowhere yet. */
static uint64_t reader_choose(struct reader *reader, uint64_t kept_lsn, uint64_t next_lsn)
{
    if (reader->kind == READER_IN_ORDER) {
        return next_lsn <= kept_lsn ? next_lsn : 0;
    }
    if (reader->kind == READER_ANYWHERE && kept_lsn > 0) {
        uint64_t back = reader_random(reader) % 8192;
        return kept_lsn > back ? kept_lsn - back : 1;
    }
    return kept_lsn;
}

static uint64_t reader_check(struct reader *reader, const struct block *block, uint64_t lsn)
{
    struct recent_seen seen = recent_check_block(block, lsn);
    check(seen.fault == NULL, seen.fault);
    if (reader->kind == READER_ANYWHERE) {
        sched_yield(); /* the writer meanwhile goes round its chunks */
        struct recent_seen again = recent_check_block(block, lsn);
        check(again.fault == NULL, again.fault);
        check(again.next_lsn == seen.next_lsn, "a held block has changed");
    }
    reader->found++;
    reader->batches += seen.batch_count;
    return seen.next_lsn;
}

/* The newest LSN was not found: only if the writer has gone on a long way since it was told. */
static void reader_missed_newest(struct reader *reader, uint64_t bytes_before)
{
    /* relaxed, as where it is stored. */
    uint64_t bytes = atomic_load_explicit(&reader->run->kept_bytes, memory_order_relaxed);
    check(bytes - bytes_before > MIB(1), "the newest durable batch is not found");
}

static void *reader_main(void *context)
{
    struct reader *reader = context;
    struct run *from = reader->run;
    uint64_t next_lsn = 1;
    bool is_last = false;
    while (!is_last) { /* ends with the writer's end; one look more after it */
        is_last = atomic_load_explicit(&from->is_over, memory_order_acquire);
        uint64_t bytes = atomic_load_explicit(&from->kept_bytes, memory_order_relaxed);
        uint64_t kept_lsn = atomic_load_explicit(&from->kept_lsn, memory_order_acquire);
        uint64_t lsn = reader_choose(reader, kept_lsn, next_lsn);
        struct recent_hold hold = {0};
        struct block block;
        if (lsn == 0) {
            continue;
        }
        if (recent_take(from->recent, lsn, &hold, &block) == 1) {
            next_lsn = reader_check(reader, &block, lsn);
            recent_give(from->recent, &hold);
            continue;
        }
        reader->missed++;
        if (lsn == kept_lsn) {
            reader_missed_newest(reader, bytes);
        }
        next_lsn = lsn < kept_lsn ? kept_lsn : next_lsn; /* a gap, or too late */
    }
    return NULL;
}

/* ---------------------------------------------------------------- promises */

static void every_reader_sees_whole_batches_while_the_writer_laps(void **state)
{
    (void)state;
    struct err err = {0};
    const char *given = getenv("SLUICE_TEST_SEED");
    run.seed = given == NULL ? (uint64_t)(unsigned)getpid() : (uint64_t)strtoull(given, NULL, 0);
    print_message("  repeat with SLUICE_TEST_SEED=%llu\n", (unsigned long long)run.seed);
    assert_int_equal(recent_open(&run.recent, &err), 0);
    struct reader readers[READERS];
    pthread_t threads[READERS + 1];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.run = &run, .kind = (enum reader_kind)i, .random = i};
        assert_int_equal(pthread_create(&threads[i], NULL, reader_main, &readers[i]), 0);
    }
    assert_int_equal(pthread_create(&threads[READERS], NULL, writer_main, &run), 0);
    for (unsigned i = 0; i <= READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    uint64_t bytes = atomic_load_explicit(&run.kept_bytes, memory_order_relaxed);
    uint64_t laps = bytes / (RECENT_CHUNKS * RECENT_CHUNK_BYTES);
    print_message("  %llu batches, %llu laps\n", (unsigned long long)run.put_count,
                  (unsigned long long)laps);
    assert_true(laps >= 2);
    for (unsigned i = 0; i < READERS; i++) {
        print_message("  reader %u: %llu blocks, %llu batches, %llu not there\n", i,
                      (unsigned long long)readers[i].found, (unsigned long long)readers[i].batches,
                      (unsigned long long)readers[i].missed);
        assert_true(readers[i].found > 0);
    }
    recent_close(run.recent); /* asserts that nothing is held */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reader_sees_whole_batches_while_the_writer_laps),
    };
    return cmocka_run_group_tests_name("recent_stress", tests, NULL, NULL);
}
