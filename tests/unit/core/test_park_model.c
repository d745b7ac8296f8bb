/*
 * The protocol of core/park.c under every interleaving, on the two machines of tests/lib/explore.h:
 * one sleeper, one or two wakers.
 *
 * What is explored is a model: the tables of steps below were written from park.c by hand, one step
 * for each access to shared memory, in the same order and with the same memory orders, and must be
 * changed with it. A system call orders nothing here, which is less than a kernel gives.
 *
 * The violation is a state in which nobody can move although not everything was seen: a lost
 * wake-up. Each edge is then broken in turn, and the explorer must find one: that is the proof that
 * it can. test_spsc_stress.c notices a missing F1 or F2 too, but only on x86 and only with luck.
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
    TAIL = 0, /* of waker 0; of waker 1 the word behind it */
    LEVEL = 2,
};

/* The code as it is, and each way to break it. A count of 0 is the usual one (fill_in_defaults). */
struct recipe {
    const char *name; /* what is explored, or what is broken */
    enum explore_machine machine;
    bool without_f1, without_f2;
    uint8_t wakers, publishes; /* how many threads, how often each */
    bool by_updates;           /* the formulation for ThreadSanitizer */
    bool by_bulk; /* the sleeper lies at PARK_BULK once it has seen the first, small, publication */
    bool without_second_look, looks_before_flag, drains_before_wait, withdraws_by_store,
        takes_without_signal;
    bool says_small; /* a waker calls its bulk work small */
};

static struct recipe recipe; /* of the run at hand */

static enum explore_order order_unless(bool is_broken, enum explore_order order)
{
    return is_broken ? RELAXED : order;
}

struct locals {
    uint8_t pc;
    uint8_t index;   /* within a step that repeats */
    uint8_t message; /* published so far */
    uint8_t seen[2];
    uint8_t has_found;
    uint8_t level;
};

_Static_assert(sizeof(struct locals) <= EXPLORE_LOCALS_BYTES, "the explorer has room for them");

/* ------------------------------------------------------------------------------------------------
 * steps */

/* The sleeper is a duty: take from every ring; when nothing is left, park_prepare, look once more,
 * wait, park_drain, park_cancel, again from the top. A ring is reduced to its tail: how much was
 * published. */
enum park_pc {
    S_TAKE,
    S_ANNOUNCE,
    S_F1,
    S_LOOK,
    S_WAIT,
    S_DRAIN,
    S_WITHDRAW,
    W_PUBLISH,
    W_F2,
    W_LOOK,
    W_EXCHANGE,
    W_SIGNAL,
    PARK_DONE,
};

enum {
    AWAKE = 0,
    ANY = 1,
    BULK = 2,
};

static bool sleeper_has_all(const struct locals *l)
{
    for (int w = 0; w < recipe.wakers; w++) {
        if (l->seen[w] != recipe.publishes) {
            return false;
        }
    }
    return true;
}

/* Is this much published worth staying awake for? At BULK, only when the large work has come. */
static bool sleeper_wants(const struct locals *l, uint8_t waker, uint8_t tail)
{
    bool has_news = tail > l->seen[waker];
    return has_news && (l->level != BULK || tail == recipe.publishes);
}

static struct explore_op sleeper_op(const struct locals *l)
{
    enum explore_kind flag_op = recipe.by_updates ? OP_EXCHANGE : OP_STORE;
    switch (l->pc) {
    case S_TAKE:
    case S_LOOK:
        return (struct explore_op){
            .kind = OP_LOAD, .at = (uint8_t)(TAIL + l->index), .order = ACQUIRE};
    case S_ANNOUNCE:
        return (struct explore_op){
            .kind = flag_op,
            .at = LEVEL,
            .order = recipe.by_updates ? order_unless(recipe.without_f1, ACQ_REL) : RELAXED,
            .value = l->level};
    case S_F1:
        return (struct explore_op){.kind = OP_FENCE};
    case S_WAIT:
        return (struct explore_op){.kind = OP_WAIT};
    case S_DRAIN:
        return (struct explore_op){.kind = OP_DRAIN};
    case S_WITHDRAW:
        return (struct explore_op){.kind = recipe.withdraws_by_store ? OP_STORE : flag_op,
                                   .at = LEVEL,
                                   .order = recipe.by_updates ? ACQ_REL : RELAXED,
                                   .value = AWAKE};
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static void sleeper_announce(struct locals *l)
{
    l->level = recipe.by_bulk && l->seen[0] > 0 ? BULK : ANY;
    l->pc = S_ANNOUNCE;
    l->index = 0;
    l->has_found = 0;
}

static void sleeper_lie_down(struct locals *l)
{
    if (l->has_found) {
        l->pc = S_WITHDRAW;
    } else {
        l->pc = recipe.drains_before_wait ? S_DRAIN : S_WAIT;
    }
}

static void sleeper_after_flag(struct locals *l)
{
    if (recipe.without_second_look || recipe.looks_before_flag) {
        sleeper_lie_down(l);
        return;
    }
    l->pc = S_LOOK;
}

static void sleeper_after(struct locals *l, uint8_t result)
{
    switch (l->pc) {
    case S_TAKE:
        l->seen[l->index] = result;
        l->index++;
        if (l->index == recipe.wakers) {
            l->index = 0;
            sleeper_announce(l);
            l->pc =
                sleeper_has_all(l) ? PARK_DONE : (recipe.looks_before_flag ? S_LOOK : S_ANNOUNCE);
        }
        return;
    case S_ANNOUNCE:
        if (recipe.by_updates || recipe.without_f1) {
            sleeper_after_flag(l);
            return;
        }
        l->pc = S_F1;
        return;
    case S_F1:
        sleeper_after_flag(l);
        return;
    case S_LOOK:
        l->has_found |= sleeper_wants(l, l->index, result);
        l->index++;
        if (l->index == recipe.wakers) {
            l->index = 0;
            if (recipe.looks_before_flag && !l->has_found) {
                l->pc = S_ANNOUNCE;
                return;
            }
            sleeper_lie_down(l);
        }
        return;
    case S_WAIT:
        l->pc = recipe.drains_before_wait ? S_WITHDRAW : S_DRAIN;
        return;
    case S_DRAIN:
        l->pc = recipe.drains_before_wait ? S_WAIT : S_WITHDRAW;
        return;
    case S_WITHDRAW:
        l->index = 0;
        l->pc = S_TAKE;
        return;
    default:
        return;
    }
}

static struct explore_op waker_op(const struct locals *l, int t)
{
    switch (l->pc) {
    case W_PUBLISH:
        return (struct explore_op){.kind = OP_STORE,
                                   .at = (uint8_t)(TAIL + t - 1),
                                   .order = RELEASE,
                                   .value = (uint8_t)(l->message + 1)};
    case W_F2:
        return (struct explore_op){.kind = OP_FENCE};
    case W_LOOK:
        return (struct explore_op){
            .kind = recipe.by_updates && !recipe.without_f2 ? OP_UPDATE : OP_LOAD,
            .at = LEVEL,
            .order = recipe.by_updates && !recipe.without_f2 ? ACQ_REL : RELAXED};
    case W_EXCHANGE:
        return (struct explore_op){
            .kind = OP_EXCHANGE, .at = LEVEL, .order = RELAXED, .value = AWAKE};
    case W_SIGNAL:
        return (struct explore_op){.kind = OP_SIGNAL};
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static void waker_next(struct locals *l)
{
    l->message++;
    l->pc = l->message == recipe.publishes ? PARK_DONE : W_PUBLISH;
}

static void waker_after(struct locals *l, uint8_t result)
{
    bool is_bulk = l->message + 1 == recipe.publishes && !recipe.says_small;
    switch (l->pc) {
    case W_PUBLISH:
        l->pc = recipe.by_updates || recipe.without_f2 ? W_LOOK : W_F2;
        return;
    case W_F2:
        l->pc = W_LOOK;
        return;
    case W_LOOK:
        if (result == AWAKE || (result == BULK && !is_bulk)) {
            waker_next(l);
            return;
        }
        l->pc = W_EXCHANGE;
        return;
    case W_EXCHANGE:
        if (result == AWAKE || recipe.takes_without_signal) {
            waker_next(l);
            return;
        }
        l->pc = W_SIGNAL;
        return;
    case W_SIGNAL:
        waker_next(l);
        return;
    default:
        return;
    }
}

/* ------------------------------------------------------------------------------------------------
 * runs */

static struct explore_op op_of(const uint8_t *locals, int thread)
{
    const struct locals *l = (const void *)locals;
    return thread == 0 ? sleeper_op(l) : waker_op(l, thread);
}

static bool after(uint8_t *locals, int thread, uint8_t result)
{
    struct locals *l = (void *)locals;
    if (thread == 0) {
        sleeper_after(l, result);
    } else {
        waker_after(l, result);
    }
    return true;
}

static struct explore_result run(const struct recipe *given)
{
    struct explore_program program = {.op_of = op_of, .after = after};
    struct explore_result result;
    recipe = *given;
    program.machine = recipe.machine;
    recipe.wakers = recipe.wakers == 0 ? 1 : recipe.wakers;
    /* Twice, so that there is a sleep after a wake. */
    recipe.publishes = recipe.publishes == 0 ? 2 : recipe.publishes;
    assert_true(recipe.wakers < EXPLORE_THREADS);
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        struct locals locals = {.pc = t > recipe.wakers ? PARK_DONE : W_PUBLISH};
        locals.pc = t == 0 ? S_TAKE : locals.pc;
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
            fail_msg("not noticed: %s", recipes[i].name);
        }
        print_message("  broken  %8u states  %s: %s\n", result.state_count, recipes[i].name,
                      result.finding);
    }
}

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TSO      EXPLORE_TSO

/* ------------------------------------------------------------------------------------------------
 * promises */

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "park, weak, 1 waker, 1 publication", .publishes = 1},
        {.name = "park, weak, 1 waker, 2 publications"},
        {.name = "park, weak, 1 waker, 3 publications", .publishes = 3},
        {.name = "park, weak, 2 wakers, 1 publication each", .wakers = 2, .publishes = 1},
        {.name = "park, weak, small work, then bulk", .by_bulk = true},
        {.name = "park, weak, small, small, bulk", .by_bulk = true, .publishes = 3},
        {.name = "park, x86, 1 waker, 3 publications", .machine = TSO, .publishes = 3},
        {.name = "park, x86, 2 wakers, 2 publications each", .machine = TSO, .wakers = 2},
        {.name = "park, x86, small, small, bulk", .machine = TSO, .by_bulk = true, .publishes = 3},
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void the_formulation_for_tsan_loses_none_either(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "updates, weak, 1 waker, 3 publications", .by_updates = true, .publishes = 3},
        {.name = "updates, weak, 2 wakers, 1 publication each",
         .by_updates = true,
         .wakers = 2,
         .publishes = 1},
        {.name = "updates, weak, small, small, bulk",
         .by_updates = true,
         .by_bulk = true,
         .publishes = 3},
        {.name = "updates, x86, 2 wakers", .by_updates = true, .wakers = 2, .machine = TSO},
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void each_broken_park_edge_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "no F1", .without_f1 = true},
        {.name = "no F2", .without_f2 = true},
        {.name = "no F1, x86", .without_f1 = true, .machine = TSO},
        {.name = "no F2, x86", .without_f2 = true, .machine = TSO},
        {.name = "no F1, bulk", .without_f1 = true, .by_bulk = true},
        {.name = "no F2, bulk", .without_f2 = true, .by_bulk = true},
        {.name = "updates, announcement relaxed", .by_updates = true, .without_f1 = true},
        {.name = "updates, waker only loads", .by_updates = true, .without_f2 = true},
        {.name = "updates, withdrawal is a plain store",
         .by_updates = true,
         .withdraws_by_store = true,
         .publishes = 3},
        {.name = "no second look", .without_second_look = true},
        {.name = "no second look, x86", .without_second_look = true, .machine = TSO},
        {.name = "look, then flag", .looks_before_flag = true},
        {.name = "look, then flag, x86", .looks_before_flag = true, .machine = TSO},
        {.name = "drain between look and wait", .drains_before_wait = true},
        {.name = "flag taken, nobody woken", .takes_without_signal = true},
        {.name = "bulk work announced as small", .by_bulk = true, .says_small = true},
    };
    expect_violation(recipes, COUNT(recipes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(the_formulation_for_tsan_loses_none_either),
        cmocka_unit_test(each_broken_park_edge_is_noticed),
    };
    return cmocka_run_group_tests_name("park_model", tests, NULL, NULL);
}
