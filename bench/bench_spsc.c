/*
 * bench_spsc: what one message through core/spsc costs, in nanoseconds, between two threads on two
 * cores: the producer copies the payload in, the consumer copies it out, as shard and writer do.
 * Spinning, so that only the ring is measured. Every message carries its number at both ends and
 * the consumer checks it, so that no figure can come from work not done.
 *
 * A run counts only if both threads had a core of their own for all of it (CPU time at least 1.9
 * times wall time): on a shared machine one descheduled thread costs more than thousands of
 * messages. The table says how many runs counted, and the spread of those; a row without any says
 * so. Second table: park_wake while its sleeper is awake, which every pass pays.
 *
 *   bench_spsc [runs]
 */
#include "core/park.h"
#include "core/spsc.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING_BYTES    MIB(4)
#define PAYLOAD_MAX   2048
#define RUNS_DEFAULT  9
#define RUNS_MAX      101
#define RELEASE_EVERY 32

struct job {
    struct spsc ring;
    uint64_t messages;
    uint32_t bytes;
    uint32_t publish_every;
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

/* Best effort: a machine with one core, or a cpuset, still gives a figure. */
static void pin_to(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void stamp(uint8_t *payload, uint32_t bytes, uint64_t number)
{
    memcpy(payload, &number, sizeof number);
    memcpy(payload + bytes - sizeof number, &number, sizeof number);
}

static void check_stamp(const uint8_t *payload, uint32_t bytes, uint64_t number)
{
    uint64_t first = 0;
    uint64_t last = 0;
    memcpy(&first, payload, sizeof first);
    memcpy(&last, payload + bytes - sizeof last, sizeof last);
    ASSERT(first == number);
    ASSERT(last == number);
}

static void *consume(void *context)
{
    struct job *job = context;
    static uint8_t sink[PAYLOAD_MAX];
    pin_to(1);
    uint32_t unreleased = 0;
    for (uint64_t received = 0; received < job->messages;) {
        const struct spsc_frame *frame = spsc_take(&job->ring);
        if (frame == NULL) {
            spsc_release(&job->ring);
            unreleased = 0;
            relax();
            continue;
        }
        memcpy(sink, frame->payload, frame->bytes);
        /* The whole copy must happen although only its ends are looked at. */
        __asm__ volatile("" : : "r"(sink) : "memory");
        check_stamp(sink, frame->bytes, received);
        received++;
        unreleased++;
        if (unreleased == RELEASE_EVERY) {
            spsc_release(&job->ring);
            unreleased = 0;
        }
    }
    spsc_release(&job->ring);
    return NULL;
}

static void produce(struct job *job)
{
    static uint8_t source[PAYLOAD_MAX];
    pin_to(0);
    uint32_t unpublished = 0;
    for (uint64_t sent = 0; sent < job->messages;) {
        uint8_t *room = spsc_claim(&job->ring, job->bytes);
        if (room == NULL) {
            spsc_publish(&job->ring);
            unpublished = 0;
            relax();
            continue;
        }
        memcpy(room, source, job->bytes);
        stamp(room, job->bytes, sent);
        spsc_commit(&job->ring, 1, job->bytes);
        sent++;
        unpublished++;
        if (unpublished == job->publish_every) {
            spsc_publish(&job->ring);
            unpublished = 0;
        }
    }
    spsc_publish(&job->ring);
}

/* Nanoseconds per message, or 0 when a thread lost its core on the way. */
static double run_once(uint32_t bytes, uint32_t publish_every, bool has_rewind)
{
    static struct job job;
    struct err err = {0};
    pthread_t consumer;
    memset(&job, 0, sizeof job);
    if (spsc_init(&job.ring, RING_BYTES, 0, &err) < 0) {
        fprintf(stderr, "bench_spsc: %s\n", err.text);
        exit(1);
    }
    if (!has_rewind) {
        job.ring.rewind_bytes = RING_BYTES - SPSC_FRAME_ALIGN;
    }
    memset(job.ring.memory, 1, RING_BYTES); /* page faults are not the subject */
    job.messages = bytes > 1000 ? 1000000 : 2000000;
    job.bytes = bytes;
    job.publish_every = publish_every;
    if (pthread_create(&consumer, NULL, consume, &job) != 0) {
        fprintf(stderr, "bench_spsc: no thread\n");
        exit(1);
    }
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t cpu_start_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    produce(&job);
    pthread_join(consumer, NULL);
    double wall_ns = (double)(clock_ns(CLOCK_MONOTONIC) - start_ns);
    double cpu_ns = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_start_ns);
    spsc_close(&job.ring);
    return cpu_ns < 1.9 * wall_ns ? 0 : wall_ns / (double)job.messages;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(uint32_t bytes, uint32_t publish_every, bool has_rewind, int runs)
{
    double ns[RUNS_MAX];
    int counted = 0;
    for (int i = 0; i < runs; i++) {
        ns[counted] = run_once(bytes, publish_every, has_rewind);
        counted += ns[counted] > 0;
    }
    printf("%8u  %13u  %6s  %4d/%-3d", bytes, publish_every, has_rewind ? "yes" : "no", counted,
           runs);
    if (counted == 0) {
        printf("  no undisturbed run\n");
        return;
    }
    qsort(ns, (size_t)counted, sizeof ns[0], compare);
    double median = ns[counted / 2];
    printf("  %9.1f  %6.1f  %6.1f  %8.2f  %6.2f\n", median, ns[0], ns[counted - 1], 1e3 / median,
           bytes / median);
}

static void measure_wake(void)
{
    struct park park;
    struct err err = {0};
    const int count = 5000000;
    if (park_init(&park, &err) < 0) {
        fprintf(stderr, "bench_spsc: %s\n", err.text);
        exit(1);
    }
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        (void)park_wake(&park, false);
    }
    printf("\npark_wake, sleeper awake: %.1f ns\n",
           (double)(clock_ns(CLOCK_MONOTONIC) - start_ns) / count);
    park_close(&park);
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[] = {32, 200, 2048};
    static const uint32_t publishes[] = {1, 32};
    int runs = argc > 1 ? (int)strtol(argv[1], NULL, 10) : RUNS_DEFAULT;
    if (runs < 1 || runs > RUNS_MAX) {
        fprintf(stderr, "bench_spsc: runs must be 1 to %d\n", RUNS_MAX);
        return 2;
    }
    printf("ring of 4 MiB, producer on core 0, consumer on core 1, %d runs\n", runs);
    printf(
        "   bytes  publish every  rewind  counted  median ns    best   worst  M msgs/s    GB/s\n");
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        for (size_t j = 0; j < ARRAY_COUNT(publishes); j++) {
            measure(sizes[i], publishes[j], true, runs);
            measure(sizes[i], publishes[j], false, runs);
        }
    }
    measure_wake();
    return 0;
}
