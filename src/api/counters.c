#include "api/counters.h"

#include <string.h>

const char *reject_cause_name(enum reject_cause cause)
{
    static const char *const names[REJECT_CAUSES] = {"json", "schema", "key_mismatch"};
    return names[cause];
}

const char *shed_cause_name(enum shed_cause cause)
{
    static const char *const names[SHED_CAUSES] = {
        "queue_full", "throttled", "space_low", "read_only",
        "io_error",   "no_space",  "stopping",  "origins_full",
    };
    return names[cause];
}

const char *refuse_cause_name(enum refuse_cause cause)
{
    static const char *const names[REFUSE_CAUSES] = {"unauthorized", "forbidden", "rate_limited"};
    return names[cause];
}

void counters_publish(struct counters_cell *cell, const struct counters *counters)
{
    uint64_t words[COUNTERS_WORDS];
    memcpy(words, counters, sizeof words);
    /* relaxed: only this thread writes the sequence. */
    uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed);
    /* S1: the odd value must be seen before any of the words below; an exchange with
     * acquire-release keeps them behind it. */
    atomic_exchange_explicit(&cell->sequence, sequence + 1, memory_order_acq_rel);
    for (size_t i = 0; i < COUNTERS_WORDS; i++) {
        /* release: a reader that sees this word also sees the odd sequence. */
        atomic_store_explicit(&cell->words[i], words[i], memory_order_release);
    }
    /* S1: publishes the words; pairs with the first load in counters_read. */
    atomic_store_explicit(&cell->sequence, sequence + 2, memory_order_release);
}

/* One attempt; true when no publish ran in between. */
static bool counters_try_read(struct counters_cell *cell, uint64_t *words)
{
    /* S1 (acquire end): the words below are at least as new as this sequence. */
    uint64_t before = atomic_load_explicit(&cell->sequence, memory_order_acquire);
    for (size_t i = 0; i < COUNTERS_WORDS; i++) {
        /* acquire: keeps the second look at the sequence behind every word. */
        words[i] = atomic_load_explicit(&cell->words[i], memory_order_acquire);
    }
    /* relaxed: ordered behind the acquire loads above. */
    uint64_t after = atomic_load_explicit(&cell->sequence, memory_order_relaxed);
    return before == after && (before & 1) == 0;
}

void counters_read(struct counters_cell *cell, struct counters *copy)
{
    uint64_t words[COUNTERS_WORDS];
    /* The bound is generous: the writer holds the lock for some 20 stores. A reader that still
     * loses is a reader of a descheduled writer's cell; the last copy is then off by one pass,
     * which the next scrape corrects. */
    for (unsigned tries = 0; tries < 1000000; tries++) {
        if (counters_try_read(cell, words)) {
            break;
        }
    }
    memcpy(copy, words, sizeof *copy);
}

void counters_add(struct counters *into, const struct counters *from)
{
    uint64_t sum[COUNTERS_WORDS];
    uint64_t more[COUNTERS_WORDS];
    memcpy(sum, into, sizeof sum);
    memcpy(more, from, sizeof more);
    for (size_t i = 0; i < COUNTERS_WORDS; i++) {
        sum[i] += more[i];
    }
    memcpy(into, sum, sizeof sum);
}

int64_t counters_imbalance(const struct counters *counters)
{
    uint64_t settled = counters->durable + counters->duplicate + counters->pending;
    for (size_t i = 0; i < REJECT_CAUSES; i++) {
        settled += counters->rejected[i];
    }
    for (size_t i = 0; i < SHED_CAUSES; i++) {
        settled += counters->shed[i];
    }
    return (int64_t)(counters->received - settled);
}
