/*
 * sink_status: see sink_status.h. A sequence lock whose every step is an atomic access: no fence, no data race,
 * nothing ThreadSanitizer has to be told.
 *
 *   writer   sequence odd (S3) - words (S3) - sequence even (S2)
 *   reader   sequence (S2) - words (S3) - sequence again: the same and even, or the copy is thrown away
 */
#include "forward/sink_status.h"

#include <string.h>
#include <time.h>

#define PICTURE_WORDS (sizeof(struct sink_picture) / 8)

_Static_assert(sizeof(struct sink_picture) % 8 == 0, "a picture is copied as whole words");
_Static_assert(sizeof(((struct sink_status *)0)->words) == sizeof(struct sink_picture),
               "the words hold one picture, no more and no less");

enum {
    TRIES_MAX = 64,       /* a picture is some 100 stores: less than a microsecond */
    PAUSE_NS = 20 * 1000, /* the writer has lost its core in the middle of them: give it ours */
};

void sink_status_write(struct sink_status *status, const struct sink_picture *picture)
{
    uint64_t words[PICTURE_WORDS];
    memcpy(words, picture, sizeof words);
    /* relaxed: only this thread writes the sequence. */
    uint64_t sequence = atomic_load_explicit(&status->sequence, memory_order_relaxed);
    ASSERT((sequence & 1) == 0);
    /* relaxed: the release of each word below carries it. */
    atomic_store_explicit(&status->sequence, sequence + 1, memory_order_relaxed);
    for (size_t i = 0; i < PICTURE_WORDS; i++) {
        /* S3: who sees this word also sees the odd sequence before it; pairs with the acquire in try_read. */
        atomic_store_explicit(&status->words[i], words[i], memory_order_release);
    }
    /* S2: publishes the words; pairs with the first load in try_read. It licenses a reader to believe them
     * for as long as the sequence stays. */
    atomic_store_explicit(&status->sequence, sequence + 2, memory_order_release);
}

/* One attempt; true when no write ran in between. */
static bool try_read(struct sink_status *status, uint64_t *words)
{
    /* S2 (acquire end): the words below are at least as new as this sequence. */
    uint64_t before = atomic_load_explicit(&status->sequence, memory_order_acquire);
    for (size_t i = 0; i < PICTURE_WORDS; i++) {
        /* S3 (acquire end): a word of a later write brings that write's odd sequence with it, and keeps the second look at
         * the sequence behind it: that look then cannot find the old number. */
        words[i] = atomic_load_explicit(&status->words[i], memory_order_acquire);
    }
    /* relaxed: ordered behind the acquire loads above. */
    uint64_t after = atomic_load_explicit(&status->sequence, memory_order_relaxed);
    return before == after && (before & 1) == 0;
}

void sink_status_read(struct sink_status *status, struct sink_picture *picture)
{
    static const struct timespec pause = {.tv_nsec = PAUSE_NS};
    uint64_t words[PICTURE_WORDS];
    /* Bound: the writer writes at most a picture per pass, each shorter than a pause; one that never ends its write
     * has ended the process. */
    for (unsigned tries = 1; !try_read(status, words); tries++) {
        if (tries % TRIES_MAX == 0) {
            (void)nanosleep(&pause, NULL);
        }
    }
    memcpy(picture, words, sizeof words);
}
