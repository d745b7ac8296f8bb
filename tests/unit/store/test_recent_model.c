/*
 * The protocol of store/recent.c for one chunk under every interleaving, on the two machines of
 * tests/lib/explore.h: the writer that claims, empties and fills it anew for each generation, and
 * one or two readers that hold it, read what count covers, and leave.
 *
 * What is explored is a model: the tables of steps below were written from recent.c by hand, one
 * step for each access to shared memory, in the same order and with the same memory orders, and
 * must be changed with it. A batch and its entry are one plain shared variable, so touching them out
 * of order is a data race. Left out: first_lsn, which is only a hint by which chunks are chosen.
 *
 * A violation is: a data race; a holder that sees batches of two generations, or one that changes
 * while it holds; a broken ASSERT of chunk_begin or chunk_leave. Each edge is then broken in turn,
 * and the explorer must find a violation: that is the proof that it can.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "explore.h"

enum {
    HOLDERS = 0,
    COUNT = 1,
};

#define CLAIMED   0x80u
#define MINUS_ONE 0xffu /* OP_ADD is modulo 256 */

/* The code as it is, and each way to break it. A count of 0 is the usual one. */
struct recipe {
    const char *name; /* what is explored, or what is broken */
    enum explore_machine machine;
    uint8_t readers, rounds, generations, batches;
    bool without_w3_release, without_w3_acquire;
    bool without_w4_release, without_w4_acquire;
    bool without_w6_release, without_w6_acquire;
    bool claims_blindly, claims_in_two_steps; /* not by compare and swap */
    bool ignores_claim, holds_not;            /* the reader */
    bool keeps_count;                         /* the writer does not reset it */
    bool resets_after_opening;
    bool opens_by_store;
    bool publishes_before_writing;
    bool leaves_early; /* before reading the last time */
};

static struct recipe recipe; /* of the run at hand */

struct locals {
    uint8_t pc;
    uint8_t round; /* the writer's generation, the reader's hold */
    uint8_t index;
    uint8_t attempts; /* to claim for this generation */
    uint8_t count;
    uint8_t first; /* the first batch as it was read */
};

_Static_assert(sizeof(struct locals) <= EXPLORE_LOCALS_BYTES, "the explorer has room for them");

static enum explore_order order_unless(bool is_broken, enum explore_order order)
{
    return is_broken ? RELAXED : order;
}

/* ------------------------------------------------------------------------------------------------
 * steps */

enum model_pc {
    W_LOOK,  /* only in claims_in_two_steps */
    W_CLAIM, /* chunk_claim */
    W_RESET, /* chunk_begin */
    W_OPEN,
    W_LATE_RESET, /* only in resets_after_opening */
    W_WRITE,      /* recent_put */
    W_PUBLISH,
    R_HOLD, /* chunk_hold */
    R_UNDO,
    R_COUNT, /* chunk_find */
    R_READ,
    R_AGAIN, /* the caller reads the block once more */
    R_LEAVE, /* chunk_leave */
    MODEL_DONE,
};

#define CLAIM_ATTEMPTS 2

static uint8_t batch_value(uint8_t generation, uint8_t index)
{
    return (uint8_t)((generation + 1) * 16 + index);
}

static struct explore_op claim_op(void)
{
    struct explore_op op = {.kind = OP_COMPARE,
                            .at = HOLDERS,
                            .order = order_unless(recipe.without_w4_acquire, ACQUIRE),
                            .value = CLAIMED};
    if (recipe.claims_blindly || recipe.claims_in_two_steps) {
        op.kind = OP_ADD;
    }
    return op;
}

static struct explore_op open_op(void)
{
    enum explore_order order = order_unless(recipe.without_w6_release, RELEASE);
    if (recipe.opens_by_store) {
        return (struct explore_op){.kind = OP_STORE, .at = HOLDERS, .order = order};
    }
    return (struct explore_op){.kind = OP_ADD, .at = HOLDERS, .order = order, .value = CLAIMED};
}

static struct explore_op writer_op(const struct locals *l)
{
    switch (l->pc) {
    case W_LOOK:
        return (struct explore_op){.kind = OP_LOAD, .at = HOLDERS, .order = ACQUIRE};
    case W_CLAIM:
        return claim_op();
    case W_RESET:
    case W_LATE_RESET:
        return (struct explore_op){.kind = OP_STORE, .at = COUNT, .order = RELAXED};
    case W_OPEN:
        return open_op();
    case W_WRITE:
        return (struct explore_op){
            .kind = OP_DATA_WRITE, .at = l->index, .value = batch_value(l->round, l->index)};
    case W_PUBLISH:
        return (struct explore_op){.kind = OP_STORE,
                                   .at = COUNT,
                                   .order = order_unless(recipe.without_w3_release, RELEASE),
                                   .value = (uint8_t)(l->index + 1)};
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static void writer_begin(struct locals *l)
{
    l->index = 0;
    l->attempts = 0;
    l->pc = recipe.claims_in_two_steps ? W_LOOK : W_CLAIM;
    l->pc = l->round == recipe.generations ? MODEL_DONE : l->pc;
}

/* A chunk that is held is tried once more, then left alone: this generation is not kept in it. */
static void writer_claim_failed(struct locals *l)
{
    l->attempts++;
    if (l->attempts == CLAIM_ATTEMPTS) {
        l->round++;
        writer_begin(l);
    }
}

static void writer_next_batch(struct locals *l)
{
    l->index++;
    l->pc = recipe.publishes_before_writing ? W_PUBLISH : W_WRITE;
    if (l->index == recipe.batches) {
        l->round++;
        writer_begin(l);
    }
}

static bool writer_after(struct locals *l, uint8_t result)
{
    uint8_t fill = recipe.publishes_before_writing ? W_PUBLISH : W_WRITE;
    bool is_reset_here = !recipe.keeps_count && !recipe.resets_after_opening;
    switch (l->pc) {
    case W_LOOK:
        if (result == 0) {
            l->pc = W_CLAIM;
        } else {
            writer_claim_failed(l);
        }
        return true;
    case W_CLAIM:
        if (result != 0 && !recipe.claims_blindly && !recipe.claims_in_two_steps) {
            writer_claim_failed(l);
            return true;
        }
        l->pc = is_reset_here ? W_RESET : W_OPEN;
        return true;
    case W_RESET:
        l->pc = W_OPEN;
        return true;
    case W_OPEN:
        l->pc = recipe.resets_after_opening ? W_LATE_RESET : fill;
        return recipe.opens_by_store || (result & CLAIMED) != 0;
    case W_LATE_RESET:
        l->pc = fill;
        return true;
    case W_WRITE:
        l->pc = W_PUBLISH;
        if (recipe.publishes_before_writing) {
            writer_next_batch(l);
        }
        return true;
    case W_PUBLISH:
        if (recipe.publishes_before_writing) {
            l->pc = W_WRITE;
            return true;
        }
        writer_next_batch(l);
        return true;
    default:
        return true;
    }
}

static struct explore_op reader_op(const struct locals *l)
{
    switch (l->pc) {
    case R_HOLD:
        return (struct explore_op){.kind = OP_ADD,
                                   .at = HOLDERS,
                                   .order = order_unless(recipe.without_w6_acquire, ACQUIRE),
                                   .value = recipe.holds_not ? 0 : 1};
    case R_UNDO:
        return (struct explore_op){
            .kind = OP_ADD, .at = HOLDERS, .order = RELAXED, .value = MINUS_ONE};
    case R_COUNT:
        return (struct explore_op){.kind = OP_LOAD,
                                   .at = COUNT,
                                   .order = order_unless(recipe.without_w3_acquire, ACQUIRE)};
    case R_READ:
        return (struct explore_op){.kind = OP_DATA_READ, .at = l->index};
    case R_AGAIN:
        return (struct explore_op){.kind = OP_DATA_READ, .at = 0};
    case R_LEAVE:
        return (struct explore_op){.kind = OP_ADD,
                                   .at = HOLDERS,
                                   .order = order_unless(recipe.without_w4_release, RELEASE),
                                   .value = recipe.holds_not ? 0 : MINUS_ONE};
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static void reader_next_round(struct locals *l)
{
    l->round++;
    l->index = 0;
    l->pc = l->round == recipe.rounds ? MODEL_DONE : R_HOLD;
}

/* A batch in its place, of the generation of the first one. */
static bool reader_saw(struct locals *l, uint8_t value)
{
    l->first = l->index == 0 ? value : l->first;
    bool is_right = value % 16 == l->index && value / 16 == l->first / 16 && value / 16 > 0;
    l->index++;
    if (l->index == l->count) {
        l->pc = recipe.leaves_early ? R_LEAVE : R_AGAIN;
    }
    return is_right;
}

static bool reader_after(struct locals *l, uint8_t result)
{
    switch (l->pc) {
    case R_HOLD:
        l->pc = (result & CLAIMED) != 0 && !recipe.ignores_claim && !recipe.holds_not ? R_UNDO
                                                                                      : R_COUNT;
        return true;
    case R_UNDO:
        reader_next_round(l);
        return (result & ~CLAIMED) != 0;
    case R_COUNT:
        l->count = result;
        l->pc = result == 0 ? R_LEAVE : R_READ;
        return true;
    case R_READ:
        return reader_saw(l, result);
    case R_AGAIN:
        if (recipe.leaves_early) {
            reader_next_round(l);
        } else {
            l->pc = R_LEAVE;
        }
        return result == l->first;
    case R_LEAVE:
        if (recipe.leaves_early && l->count > 0) {
            l->pc = R_AGAIN;
        } else {
            reader_next_round(l);
        }
        return recipe.holds_not || (result & ~CLAIMED) != 0;
    default:
        return true;
    }
}

/* ------------------------------------------------------------------------------------------------
 * runs */

static struct explore_op op_of(const uint8_t *locals, int thread)
{
    const struct locals *l = (const void *)locals;
    return thread == 0 ? writer_op(l) : reader_op(l);
}

static bool after(uint8_t *locals, int thread, uint8_t result)
{
    struct locals *l = (void *)locals;
    return thread == 0 ? writer_after(l, result) : reader_after(l, result);
}

static void fill_in_defaults(void)
{
    recipe.readers = recipe.readers == 0 ? 1 : recipe.readers;
    recipe.rounds = recipe.rounds == 0 ? 2 : recipe.rounds;
    recipe.generations = recipe.generations == 0 ? 2 : recipe.generations;
    recipe.batches = recipe.batches == 0 ? 2 : recipe.batches;
}

static struct explore_result run(const struct recipe *given)
{
    struct explore_program program = {.op_of = op_of, .after = after};
    struct explore_result result;
    recipe = *given;
    fill_in_defaults();
    assert_true(recipe.readers < EXPLORE_THREADS);
    assert_true(recipe.batches <= EXPLORE_SLOTS);
    program.machine = recipe.machine;
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        struct locals locals = {.pc = t > recipe.readers ? MODEL_DONE : R_HOLD};
        if (t == 0) {
            writer_begin(&locals);
        }
        memcpy(program.locals[t], &locals, sizeof locals);
    }
    explore(&program, &result);
    return result;
}

static void expect_to_hold(const struct recipe *recipes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct explore_result result = run(&recipes[i]);
        print_message("  holds   %8u states  %s\n", result.state_count, recipes[i].name);
        if (result.finding != NULL) {
            fail_msg("%s: %s", recipes[i].name, result.finding);
        }
    }
}

static void expect_violation(const struct recipe *recipes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct explore_result result = run(&recipes[i]);
        if (result.finding == NULL) {
            fail_msg("not noticed: %s (%u states)", recipes[i].name, result.state_count);
        }
        print_message("  broken  %8u states  %s: %s\n", result.state_count, recipes[i].name,
                      result.finding);
    }
}

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define TSO         EXPLORE_TSO

/* ------------------------------------------------------------------------------------------------
 * promises */

static void a_holder_sees_whole_batches_of_one_generation(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "weak, 1 reader, 2 holds, 2 generations"},
        {.name = "weak, 1 reader, 3 holds, 3 generations", .rounds = 3, .generations = 3},
        {.name = "weak, 2 readers, 1 hold, 2 generations", .readers = 2, .rounds = 1},
        {.name = "weak, 2 readers, 2 holds, 2 generations of 1", .readers = 2, .batches = 1},
        {.name = "x86, 1 reader, 3 holds, 3 generations",
         .machine = TSO,
         .rounds = 3,
         .generations = 3},
        {.name = "x86, 2 readers, 2 holds, 3 generations",
         .machine = TSO,
         .readers = 2,
         .generations = 3},
    };
    expect_to_hold(recipes, COUNT_OF(recipes));
}

static void each_broken_edge_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "no W3, writer", .without_w3_release = true},
        {.name = "no W3, reader", .without_w3_acquire = true},
        {.name = "no W4, reader", .without_w4_release = true},
        {.name = "no W4, writer", .without_w4_acquire = true},
        {.name = "no W6, writer", .without_w6_release = true},
        {.name = "no W6, reader", .without_w6_acquire = true},
    };
    expect_violation(recipes, COUNT_OF(recipes));
}

static void each_broken_step_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "claims what is held", .claims_blindly = true},
        {.name = "claims what is held, x86", .claims_blindly = true, .machine = TSO},
        {.name = "looks, then claims", .claims_in_two_steps = true},
        {.name = "looks, then claims, x86", .claims_in_two_steps = true, .machine = TSO},
        {.name = "reads a claimed chunk", .ignores_claim = true},
        {.name = "reads a claimed chunk, x86", .ignores_claim = true, .machine = TSO},
        {.name = "reads without a hold", .holds_not = true},
        {.name = "reads without a hold, x86", .holds_not = true, .machine = TSO},
        {.name = "count is not reset", .keeps_count = true},
        {.name = "count is not reset, x86", .keeps_count = true, .machine = TSO},
        {.name = "count is reset after opening", .resets_after_opening = true},
        {.name = "count is reset after opening, x86", .resets_after_opening = true, .machine = TSO},
        {.name = "opens by a plain store", .opens_by_store = true},
        {.name = "opens by a plain store, x86", .opens_by_store = true, .machine = TSO},
        {.name = "published before written", .publishes_before_writing = true},
        {.name = "published before written, x86", .publishes_before_writing = true, .machine = TSO},
        {.name = "leaves before the last look", .leaves_early = true},
        {.name = "leaves before the last look, x86", .leaves_early = true, .machine = TSO},
    };
    expect_violation(recipes, COUNT_OF(recipes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_holder_sees_whole_batches_of_one_generation),
        cmocka_unit_test(each_broken_edge_is_noticed),
        cmocka_unit_test(each_broken_step_is_noticed),
    };
    return cmocka_run_group_tests_name("recent_model", tests, NULL, NULL);
}
