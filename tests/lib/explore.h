/*
 * explore: small concurrent programs under every interleaving, on two machines.
 *
 *   WEAK  C17's atomics as a view machine (after Kang et al., "A promising semantics for
 * relaxed-memory concurrency", without promises): memory keeps every store of a word; a load may
 * return any that its thread is not yet bound to have passed; release/acquire hand bounds over,
 * seq_cst fences join them in one global bound. A store of a word with several writers may also
 * slip in before newer ones. Plain data is watched by happens-before: an access that is not ordered
 * behind the other thread's is a data race and counts as a violation. This is how "overwritten
 * while being read" shows without modelling a load that is delayed beyond a later store (which this
 *         machine does not do).
 *   TSO   x86: one memory, a first-in first-out store buffer for each thread, read-modify-writes
 * and fences drain it. Release and acquire cost nothing there, so only full barriers can be missed;
 * data is compared by content.
 *
 * A program is a table of steps: op_of names the next access of a thread to shared memory, after
 * moves the thread's private bytes on with what the access returned. A violation is a data race, an
 * `after` that says no, or a state in which nobody can move although somebody is not done. The
 * caller breaks its program in every way it can think of and expects a violation each time: that is
 * the proof that the explorer can find one.
 *
 * States are remembered by a 128-bit hash of all their bytes, the usual compaction: the chance that
 * one in a few million is taken for another is below 1e-24. One exploration at a time (static
 * memory); too many states or steps abort.
 */
#ifndef TESTS_EXPLORE_H
#define TESTS_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#define EXPLORE_THREADS      3
#define EXPLORE_WORDS        4  /* shared atomic words, 0 at the start */
#define EXPLORE_SLOTS        6  /* shared plain variables */
#define EXPLORE_LOCALS_BYTES 24 /* private to a thread */

enum explore_machine {
    EXPLORE_WEAK,
    EXPLORE_TSO,
};

enum explore_order {
    RELAXED = 0,
    ACQUIRE = 1,
    RELEASE = 2,
    ACQ_REL = 3,
};

enum explore_kind {
    OP_DONE,
    OP_LOAD,
    OP_STORE,
    OP_EXCHANGE,
    OP_UPDATE,  /* a read-modify-write that keeps the value */
    OP_ADD,     /* adds value, modulo 256 */
    OP_COMPARE, /* stores value where it finds expected, else only loads, relaxed */
    OP_FENCE,   /* seq_cst */
    OP_DATA_WRITE,
    OP_DATA_READ,
    OP_SIGNAL, /* the one eventfd: write, */
    OP_WAIT,   /* wait until it is readable, */
    OP_DRAIN,  /* read */
};

struct explore_op {
    enum explore_kind kind;
    enum explore_order order;
    uint8_t at; /* word or slot */
    uint8_t value;
    uint8_t
        accept_min; /* OP_LOAD: the step waits for at least this value; UINT8_MAX is not a value */
    uint8_t expected; /* OP_COMPARE */
};

struct explore_program {
    enum explore_machine machine;
    uint8_t locals[EXPLORE_THREADS][EXPLORE_LOCALS_BYTES]; /* at the start */
    uint8_t data[EXPLORE_SLOTS];                           /* at the start */
    struct explore_op (*op_of)(const uint8_t *locals, int thread);
    bool (*after)(uint8_t *locals, int thread, uint8_t result);
};

struct explore_result {
    const char *finding; /* NULL: no reachable state is a violation */
    uint32_t state_count;
};

void explore(const struct explore_program *program, struct explore_result *result);

#endif
