/*
 * spsc and park between real threads: one to three producers with a ring of one page each, one
 * consumer that sleeps in poll on its park's eventfd, producers that sleep on theirs while their
 * ring is full. Frames have random sizes and a content computed from their number; positions start
 * just below 2^64. A wait that times out while there is work is a lost wake-up. Meant for
 * ThreadSanitizer as much as for the plain build.
 *
 * A producer in full flow hides a lost wake-up behind its next one. Therefore one run sends single
 * messages, each only after the one before was taken, and stretches the moment in which a missing
 * F2 shows: see solo_main.
 *
 * The seed is printed; SLUICE_TEST_SEED=<seed> repeats the sizes (not the interleaving).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/park.h"
#include "core/spsc.h"

#define RING_BYTES    4096u
#define PRODUCERS_MAX 3
#define FRAMES_MAX    400000u
#define RUN_NS_MAX    900000000ull
/* A ring with this much waiting is worth waking a consumer at PARK_BULK for. */
#define BULK_BYTES 1024u
#define SIZE_SOME  700u
#define TYPE_LAST  99u
/* Far beyond any scheduling delay of a loaded machine, so that a timeout means a lost wake-up. */
#define LOST_MS 10000

_Static_assert(
    RING_BYTES - (SIZE_SOME + 2 * SPSC_FRAME_ALIGN) >= BULK_BYTES,
    "a ring without room for some hundreds of bytes holds bulk, so that its consumer is awake");

struct lane {
    struct spsc ring;
    struct park park; /* of the producer */
    struct park *consumer_park;
    uint64_t seed;
    _Atomic bool is_over; /* released after the last frame is published */
    uint64_t sent;
    uint64_t received;
    uint64_t full_count;
    bool has_ended; /* consumer's */
};

struct run {
    struct lane lanes[PRODUCERS_MAX];
    unsigned lane_count;
    struct park park; /* of the consumer */
    bool by_bulk;
    uint64_t sleep_count;
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
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Mostly small, some hundreds of bytes, now and then up to the whole ring. Not so in the run with
 * PARK_BULK: there a producer may wait for room only when what it has published is bulk, or a large
 * frame that does not fit behind a little would leave both sides asleep, each rightly
 * (docs/THREADS.md, "Rules for users"). */
static uint32_t size_of(uint64_t key)
{
    uint64_t h = mix(key);
    if (h % 64 == 0 && !run.by_bulk) {
        return (uint32_t)((h >> 8) % (RING_BYTES - SPSC_FRAME_ALIGN + 1));
    }
    return (uint32_t)((h >> 8) % (h % 4 == 0 ? SIZE_SOME : 48));
}

static void fill(uint8_t *to, uint32_t bytes, uint64_t key)
{
    for (uint32_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(key + i * 31);
    }
}

static bool is_filled(const uint8_t *from, uint32_t bytes, uint64_t key)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (from[i] != (uint8_t)(key + i * 31)) {
            return false;
        }
    }
    return true;
}

/* Returns false after LOST_MS. */
static bool wait_on(struct park *park)
{
    struct pollfd pollfd = {.fd = park->fd, .events = POLLIN};
    return poll(&pollfd, 1, LOST_MS) == 1;
}

/* ---------------------------------------------------------------- producer */

static void producer_publish(struct lane *lane)
{
    if (spsc_publish(&lane->ring)) {
        park_wake(lane->consumer_park, spsc_used_bytes(&lane->ring) >= BULK_BYTES);
    }
}

static uint8_t *producer_claim(struct lane *lane, uint64_t key, uint32_t bytes)
{
    if (key % 8 != 0) {
        return spsc_claim(&lane->ring, bytes);
    }
    uint64_t most = 0;
    uint8_t *room = spsc_claim_most(&lane->ring, bytes, &most);
    check(room == NULL || most >= bytes, "claim_most gave less than the minimum");
    return room;
}

/* Full: publish, then sleep until the consumer has released something. */
static uint8_t *producer_claim_waiting(struct lane *lane, uint64_t key, uint32_t bytes)
{
    uint8_t *room = producer_claim(lane, key, bytes);
    while (room == NULL) {
        lane->full_count++;
        producer_publish(lane);
        park_prepare(&lane->park, PARK_ANY);
        room = producer_claim(lane, key, bytes);
        if (room == NULL && !wait_on(&lane->park)) {
            check(producer_claim(lane, key, bytes) == NULL, "the producer's wake-up was lost");
            check(false, "the consumer does not release");
        }
        park_cancel(&lane->park);
        if (room == NULL) {
            park_drain(&lane->park);
            room = producer_claim(lane, key, bytes);
        }
    }
    return room;
}

static void producer_send(struct lane *lane, uint32_t type)
{
    uint64_t key = lane->seed + lane->sent;
    uint32_t bytes = size_of(key);
    fill(producer_claim_waiting(lane, key, bytes), bytes, key);
    spsc_commit(&lane->ring, type, bytes);
    lane->sent++;
}

static void *producer_main(void *context)
{
    struct lane *lane = context;
    uint64_t deadline_ns = now_ns() + RUN_NS_MAX;
    while (lane->sent < FRAMES_MAX && (lane->sent % 1024 != 0 || now_ns() < deadline_ns)) {
        producer_send(lane, (uint32_t)(1 + lane->sent % 7));
        if (mix(lane->sent) % 5 == 0) {
            producer_publish(lane);
        }
    }
    producer_send(lane, TYPE_LAST);
    spsc_publish(&lane->ring);
    atomic_store_explicit(&lane->is_over, true, memory_order_release);
    park_wake(lane->consumer_park, true);
    return NULL;
}

/* ---------------------------------------------------------------- consumer */

static void consumer_check(struct lane *lane, const struct spsc_frame *frame)
{
    uint64_t key = lane->seed + lane->received;
    check(!lane->has_ended, "a frame after the last");
    check(frame->bytes == size_of(key), "a frame of the wrong size");
    check(is_filled(frame->payload, frame->bytes, key), "a frame with wrong bytes");
    if (frame->type == TYPE_LAST) {
        lane->has_ended = true;
    } else {
        check(frame->type == 1 + lane->received % 7, "a frame of the wrong type");
    }
    lane->received++;
}

/* One pass over one ring; releases at random points, and always at the end. */
static bool consumer_drain(struct lane *lane)
{
    uint64_t before = lane->received;
    const struct spsc_frame *frame = spsc_take(&lane->ring);
    while (frame != NULL) {
        consumer_check(lane, frame);
        if (mix(lane->received) % 3 == 0) {
            spsc_release(&lane->ring);
            park_wake(&lane->park, false);
        }
        frame = spsc_take(&lane->ring);
    }
    spsc_release(&lane->ring);
    if (lane->received != before) {
        park_wake(&lane->park, false);
    }
    return lane->received != before;
}

static bool consumer_has_work(enum park_level level)
{
    for (unsigned i = 0; i < run.lane_count; i++) {
        struct lane *lane = &run.lanes[i];
        bool is_over = atomic_load_explicit(&lane->is_over, memory_order_acquire);
        if (level == PARK_BULK && !is_over) {
            if (spsc_pending_bytes(&lane->ring) >= BULK_BYTES) {
                return true;
            }
        } else if (!spsc_is_empty(&lane->ring)) {
            return true;
        }
    }
    return false;
}

static void consumer_sleep(enum park_level level)
{
    park_prepare(&run.park, level);
    if (!consumer_has_work(level)) {
        run.sleep_count++;
        if (!wait_on(&run.park)) {
            check(!consumer_has_work(level), "the consumer's wake-up was lost");
            check(false, "the producers do not publish");
        }
        park_cancel(&run.park);
        park_drain(&run.park);
        return;
    }
    park_cancel(&run.park);
}

static bool consumer_is_done(void)
{
    for (unsigned i = 0; i < run.lane_count; i++) {
        if (!run.lanes[i].has_ended) {
            return false;
        }
    }
    return true;
}

static void consume(void)
{
    uint64_t pass = 0;
    while (!consumer_is_done()) {
        bool has_taken = false;
        for (unsigned i = 0; i < run.lane_count; i++) {
            has_taken |= consumer_drain(&run.lanes[i]);
        }
        pass++;
        /* Now and then to sleep at once, with the producers in full flow: that is where wake-ups
         * get lost. */
        if (!has_taken || mix(pass) % 4 == 0) {
            bool is_bulk = run.by_bulk && pass % 2 == 0;
            if (!consumer_is_done()) {
                consumer_sleep(is_bulk ? PARK_BULK : PARK_ANY);
            }
        }
    }
}

/* ---------------------------------------------------------------- one message at a time */

#define SOLO_RING_BYTES MIB(8) /* more than most caches: what is written is cold */
#define SOLO_LINES_MAX  48u
#define SOLO_SPIN_MAX   512u
/* May be short, because a wait that ends without a wake-up is not yet a lost one: solo_is_lost
 * looks. */
#define SOLO_WAIT_MS 20
#define SOLO_GIVE_UP 50000000u /* turns of a bounded spin: minutes */

struct solo {
    struct spsc ring;
    struct park park; /* of the consumer */
    uint64_t seed;
    _Atomic uint64_t settled; /* messages for which park_wake has returned */
    uint64_t received;
    uint64_t wait_count;
    bool has_ended;
    cpu_set_t allowed;
};

static struct solo solo;

static uint64_t random_of(uint64_t key, uint64_t below)
{
    return mix(key ^ solo.seed) % below;
}

static void spin(uint64_t turns)
{
    for (uint64_t i = 0; i < turns; i++) {
        atomic_signal_fence(memory_order_seq_cst); /* no fence for the machine: keeps the loop */
    }
}

/* Taken and released. Yields, for machines with fewer free cores than threads. */
static void solo_await(struct solo *s)
{
    for (uint64_t i = 0; i < SOLO_GIVE_UP; i++) {
        if (spsc_used_bytes(&s->ring) == 0) {
            return;
        }
        if (i % 1024 == 1023) {
            sched_yield();
        }
    }
    check(false, "a single message was never taken");
}

/* One number on each of many cold lines. The stores miss, wait in the core's store buffer, and tail
 * waits behind them, while the load of the flag in park_wake, were it not for F2, would not wait at
 * all. That is long enough for a whole park_prepare with its second look on the other core. */
static void solo_send(struct solo *s, uint64_t number, uint32_t type)
{
    uint64_t lines = 1 + random_of(number * 4, SOLO_LINES_MAX);
    uint8_t *room = spsc_claim(&s->ring, lines * CACHE_LINE_BYTES);
    check(room != NULL, "an empty ring has no room");
    for (uint64_t i = 0; i < lines; i++) {
        memcpy(room + i * CACHE_LINE_BYTES, &number, sizeof number);
    }
    spsc_commit(&s->ring, type, lines * CACHE_LINE_BYTES);
    spsc_publish(&s->ring);
    park_wake(&s->park, true);
    atomic_store_explicit(&s->settled, number + 1, memory_order_release);
}

/* The two threads on different cores, or nothing ever happens at the same time: a scheduler likes
 * to put a sleeper beside its waker. Best effort. */
static void pin_to_nth(const cpu_set_t *allowed, int nth)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        nth -= CPU_ISSET(cpu, allowed) != 0;
        if (nth < 0) {
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}

static void *solo_main(void *context)
{
    struct solo *s = context;
    pin_to_nth(&s->allowed, 1);
    uint64_t deadline_ns = now_ns() + RUN_NS_MAX;
    uint64_t number = 0;
    for (; number % 256 != 0 || now_ns() < deadline_ns; number++) {
        solo_send(s, number, 1);
        solo_await(s);
        spin(random_of(number * 4 + 1, SOLO_SPIN_MAX));
    }
    solo_send(s, number, TYPE_LAST);
    return NULL;
}

static bool solo_take(struct solo *s)
{
    const struct spsc_frame *frame = spsc_take(&s->ring);
    if (frame == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < frame->bytes; at += CACHE_LINE_BYTES) {
        check(memcmp(frame->payload + at, &s->received, sizeof s->received) == 0,
              "a single message with wrong bytes");
    }
    s->has_ended = frame->type == TYPE_LAST;
    s->received++;
    spsc_release(&s->ring);
    return true;
}

/* Certain, however slow the machine: the message is there, its waker is through, the eventfd is not
 * set. */
static bool solo_is_lost(struct solo *s)
{
    bool is_settled = atomic_load_explicit(&s->settled, memory_order_acquire) == s->received + 1;
    struct pollfd pollfd = {.fd = s->park.fd, .events = POLLIN};
    return is_settled && !spsc_is_empty(&s->ring) && poll(&pollfd, 1, 0) == 0;
}

static void solo_sleep(struct solo *s)
{
    park_prepare(&s->park, PARK_ANY);
    if (spsc_is_empty(&s->ring)) {
        struct pollfd pollfd = {.fd = s->park.fd, .events = POLLIN};
        s->wait_count++;
        if (poll(&pollfd, 1, SOLO_WAIT_MS) == 0) {
            check(!solo_is_lost(s), "the wake-up for a single message was lost");
        }
    }
    park_cancel(&s->park);
    park_drain(&s->park);
}

static void solo_consume(struct solo *s)
{
    while (!s->has_ended) {
        if (solo_take(s)) {
            spin(random_of(s->received * 4 + 2, SOLO_SPIN_MAX));
        } else {
            solo_sleep(s);
        }
    }
}

/* ---------------------------------------------------------------- runs */

static uint64_t seed_of_run(void)
{
    const char *given = getenv("SLUICE_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : now_ns();
    print_message("  seed %llu (repeat: SLUICE_TEST_SEED=%llu test_core_spsc_stress)\n",
                  (unsigned long long)seed, (unsigned long long)seed);
    return seed;
}

static void lane_open(struct lane *lane, uint64_t position_start, uint64_t seed)
{
    struct err err = {0};
    assert_int_equal(spsc_init(&lane->ring, RING_BYTES, position_start, &err), 0);
    assert_int_equal(park_init(&lane->park, &err), 0);
    lane->consumer_park = &run.park;
    lane->seed = seed;
}

static void lane_close(struct lane *lane)
{
    assert_int_equal(lane->sent, lane->received);
    assert_int_equal(spsc_used_bytes(&lane->ring), 0);
    print_message("  %llu frames, full %llu times\n", (unsigned long long)lane->sent,
                  (unsigned long long)lane->full_count);
    spsc_close(&lane->ring);
    park_close(&lane->park);
}

static void run_with(unsigned lane_count, uint64_t position_start, bool by_bulk)
{
    pthread_t threads[PRODUCERS_MAX];
    struct err err = {0};
    uint64_t seed = seed_of_run();
    memset(&run, 0, sizeof run);
    assert_int_equal(park_init(&run.park, &err), 0);
    run.lane_count = lane_count;
    run.by_bulk = by_bulk;
    for (unsigned i = 0; i < lane_count; i++) {
        lane_open(&run.lanes[i], position_start, seed + (uint64_t)i * 1000000007u);
    }
    for (unsigned i = 0; i < lane_count; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, producer_main, &run.lanes[i]), 0);
    }
    consume();
    for (unsigned i = 0; i < lane_count; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        lane_close(&run.lanes[i]);
    }
    uint64_t wake_count = atomic_load_explicit(&run.park.wake_count, memory_order_relaxed);
    print_message("  slept %llu times, woken %llu times\n", (unsigned long long)run.sleep_count,
                  (unsigned long long)wake_count);
    assert_true(run.sleep_count > 0);
    park_close(&run.park);
}

static void every_frame_arrives_in_order(void **state)
{
    (void)state;
    run_with(1, 0, false);
}

static void every_frame_arrives_while_positions_wrap(void **state)
{
    (void)state;
    run_with(1, 0 - (uint64_t)16 * 1000, false);
}

static void several_wakers_lose_no_wake_up(void **state)
{
    (void)state;
    run_with(PRODUCERS_MAX, 0 - (uint64_t)16, false);
}

static void bulk_sleeper_is_woken_for_bulk(void **state)
{
    (void)state;
    run_with(2, 0 - (uint64_t)RING_BYTES, true);
}

static void single_message_never_waits_unseen(void **state)
{
    (void)state;
    pthread_t thread;
    struct err err = {0};
    memset(&solo, 0, sizeof solo);
    solo.seed = seed_of_run();
    assert_int_equal(spsc_init(&solo.ring, SOLO_RING_BYTES, 0 - (uint64_t)MIB(1), &err), 0);
    assert_int_equal(park_init(&solo.park, &err), 0);
    solo.ring.rewind_bytes = SOLO_RING_BYTES - SPSC_FRAME_ALIGN; /* all of it, so that it is cold */
    assert_int_equal(sched_getaffinity(0, sizeof solo.allowed, &solo.allowed), 0);
    assert_int_equal(pthread_create(&thread, NULL, solo_main, &solo), 0);
    pin_to_nth(&solo.allowed, 0);
    solo_consume(&solo);
    (void)sched_setaffinity(0, sizeof solo.allowed, &solo.allowed);
    assert_int_equal(pthread_join(thread, NULL), 0);
    uint64_t wake_count = atomic_load_explicit(&solo.park.wake_count, memory_order_relaxed);
    print_message("  %llu messages, slept %llu times, woken %llu times\n",
                  (unsigned long long)solo.received, (unsigned long long)solo.wait_count,
                  (unsigned long long)wake_count);
    assert_true(solo.wait_count > 0);
    spsc_close(&solo.ring);
    park_close(&solo.park);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_arrives_in_order),
        cmocka_unit_test(every_frame_arrives_while_positions_wrap),
        cmocka_unit_test(several_wakers_lose_no_wake_up),
        cmocka_unit_test(bulk_sleeper_is_woken_for_bulk),
        cmocka_unit_test(single_message_never_waits_unseen),
    };
    return cmocka_run_group_tests_name("spsc_stress", tests, NULL, NULL);
}
