/*
 * The algorithm of core/spsc.c under every interleaving, on the two machines of
 * tests/lib/explore.h.
 *
 * What is explored is a model: the tables of steps below were written from spsc.c by hand, one step
 * for each access to shared memory, in the same order and with the same memory orders, and must be
 * changed with it. Frame bytes and the two skip words are plain shared variables: touching them out
 * of order is a data race, and a violation. Two simplifications: one slot stands for the 16 bytes
 * of a frame alignment, and a producer that finds the ring full (or a consumer that finds it empty)
 * waits for a value that helps instead of asking again, since asking again changes nothing but the
 * cached index.
 *
 * A violation is: a data race; a frame whose content is not the next message; a broken ASSERT of
 * spsc_take; or a state in which nobody can move although not everything was delivered. Each edge
 * is then broken in turn, and the explorer must find a violation: that is the proof that it can.
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
    TAIL = 0,
    HEAD = 1,
};

/* Plain shared variables: the ring's slots, then the skip words. */
#define SLOTS_MAX (EXPLORE_SLOTS - 2)
#define SKIP_FROM (EXPLORE_SLOTS - 2)
#define SKIP_TO   (EXPLORE_SLOTS - 1)
#define NO_SKIP   200u /* no position in so short a run */

/* The code as it is, and each way to break it. A count of 0 is the usual one (fill_in_defaults). */
struct recipe {
    const char *name; /* what is explored, or what is broken */
    enum explore_machine machine;
    bool without_r1, without_a1, without_r2, without_a2;
    uint8_t capacity, messages, publish_every, release_every, rewind;
    uint8_t sizes[2];                         /* frame sizes in slots, alternating */
    bool overcommits;                         /* takes one slot more than there is */
    bool releases_early;                      /* before reading the last frame taken */
    bool keeps_unpublished, keeps_unreleased; /* a pass that ends without publish, or release */
    /* The skip. */
    bool skips_blindly;      /* without looking whether the ring is empty */
    bool skip_after_publish; /* the words are written after R1 */
    bool skip_before_tail;   /* the words are read before A1 */
    bool skip_every_look;    /* the words are read although tail is the old one */
    bool skip_never_read;    /* the consumer does not copy the words */
    bool skip_is_used_room;  /* the producer counts the skipped stretch, as a pad would */
};

static struct recipe recipe; /* of the run at hand */

static enum explore_order order_unless(bool is_broken, enum explore_order order)
{
    return is_broken ? RELAXED : order;
}

static uint8_t size_of(uint8_t message)
{
    return recipe.sizes[message % 2];
}

/* ------------------------------------------------------------------------------------------------
 * steps */

enum ring_pc {
    P_LOOK,      /* claim_start: is the ring empty? */
    P_ROOM,      /* spsc_claim: refresh_head, full until it helps */
    P_PAYLOAD,   /* the caller writes */
    P_SKIP_FROM, /* spsc_commit */
    P_SKIP_TO,
    P_HEADER, /* the first slot of the frame */
    P_PUBLISH,
    C_TAIL, /* refresh_tail */
    C_SKIP_FROM,
    C_SKIP_TO,
    C_READ,
    C_RELEASE,
    RING_DONE,
};

/* The fields of struct spsc, in slots, and where the thread is. */
struct locals {
    uint8_t pc;
    uint8_t index; /* within a step that repeats */
    uint8_t committed, published, head_cache, claimed_at;
    uint8_t skip_from, skip_to; /* the producer's knowledge of the words only it writes */
    uint8_t next, tail_cache, skip_from_cache, skip_to_cache;
    uint8_t message;   /* the next to send or to expect */
    uint8_t uncounted; /* since the last publish or release */
    uint8_t frame_end;
    uint8_t owes_skip; /* broken: words to be written after the publication */
};

_Static_assert(sizeof(struct locals) <= EXPLORE_LOCALS_BYTES, "the explorer has room for them");

/* free_cached's view of the consumer: a skip that it has not passed holds no byte. */
static uint8_t head_without_skip(const struct locals *p)
{
    bool is_at_skip = p->head_cache == p->skip_from && !recipe.skip_is_used_room;
    return is_at_skip ? p->skip_to : p->head_cache;
}

/* spsc_commit between the caller's last byte and its own first. */
static void producer_commit(struct locals *p)
{
    p->index = 0;
    p->pc = P_HEADER;
    if (p->claimed_at == p->committed) {
        return;
    }
    p->skip_from = p->committed;
    p->skip_to = p->claimed_at;
    p->owes_skip = recipe.skip_after_publish;
    p->pc = recipe.skip_after_publish ? P_HEADER : P_SKIP_FROM;
}

/* The claim is open. Slot 0 of a frame is its header, which spsc_commit writes after the payload.
 */
static void producer_payload(struct locals *p)
{
    p->index++;
    p->pc = P_PAYLOAD;
    if (p->index >= size_of(p->message)) {
        producer_commit(p);
    }
}

/* A skip about to be made takes no room. */
static uint8_t used_until(const struct locals *p)
{
    return recipe.skip_is_used_room ? p->claimed_at : p->committed;
}

/* The rest of a claim, once it is known where the frame starts: claim_open, or full, which ends the
 * pass: what was committed is published before room is asked for again. */
static void producer_open(struct locals *p)
{
    p->index = 0;
    int used = used_until(p) - head_without_skip(p);
    int free_slots = recipe.capacity + recipe.overcommits - used;
    if (free_slots < size_of(p->message)) {
        bool is_pass_over = p->uncounted > 0 && !recipe.keeps_unpublished;
        p->pc = is_pass_over ? P_PUBLISH : P_ROOM;
        return;
    }
    producer_payload(p);
}

static void producer_skip(struct locals *p)
{
    p->claimed_at = (uint8_t)(p->committed + recipe.capacity - p->committed % recipe.capacity);
}

/* spsc_claim up to its first shared access. */
static void producer_claim(struct locals *p)
{
    p->claimed_at = p->committed;
    if (p->message == recipe.messages) {
        p->pc = RING_DONE;
        return;
    }
    bool is_candidate = recipe.rewind != 0 && p->committed % recipe.capacity > recipe.rewind;
    if (is_candidate && recipe.skips_blindly) {
        producer_skip(p);
        producer_open(p);
        return;
    }
    if (is_candidate && p->published == p->committed) {
        p->pc = P_LOOK;
        return;
    }
    producer_open(p);
}

/* The lowest head with which the frame fits. A head that has come to the skip counts as beyond it.
 */
static uint8_t head_needed(const struct locals *p)
{
    int needed = used_until(p) + size_of(p->message) - recipe.capacity - recipe.overcommits;
    bool is_in_skip = p->skip_from != NO_SKIP && needed > p->skip_from && needed <= p->skip_to;
    return is_in_skip && !recipe.skip_is_used_room ? p->skip_from : (uint8_t)needed;
}

static struct explore_op producer_op(const struct locals *p)
{
    enum explore_order a2 = order_unless(recipe.without_a2, ACQUIRE);
    uint8_t slot = (uint8_t)((p->claimed_at + p->index) % recipe.capacity);
    uint8_t value = (uint8_t)(p->message + 1);
    switch (p->pc) {
    case P_LOOK:
        return (struct explore_op){.kind = OP_LOAD, .at = HEAD, .order = a2};
    case P_ROOM:
        return (struct explore_op){
            .kind = OP_LOAD, .at = HEAD, .order = a2, .accept_min = head_needed(p)};
    case P_PAYLOAD:
    case P_HEADER:
        return (struct explore_op){.kind = OP_DATA_WRITE, .at = slot, .value = value};
    case P_SKIP_FROM:
        return (struct explore_op){.kind = OP_DATA_WRITE, .at = SKIP_FROM, .value = p->skip_from};
    case P_SKIP_TO:
        return (struct explore_op){.kind = OP_DATA_WRITE, .at = SKIP_TO, .value = p->skip_to};
    case P_PUBLISH:
        return (struct explore_op){.kind = OP_STORE,
                                   .at = TAIL,
                                   .order = order_unless(recipe.without_r1, RELEASE),
                                   .value = p->committed};
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static void producer_committed(struct locals *p)
{
    p->committed = (uint8_t)(p->claimed_at + size_of(p->message));
    p->message++;
    p->uncounted++;
    if (p->uncounted == recipe.publish_every || p->message == recipe.messages) {
        p->pc = P_PUBLISH;
        return;
    }
    producer_claim(p);
}

static void producer_looked(struct locals *p, uint8_t head)
{
    p->head_cache = head;
    if (head == p->committed) {
        producer_skip(p);
    }
    producer_open(p);
}

static void producer_published(struct locals *p)
{
    p->published = p->committed;
    p->uncounted = 0;
    p->pc = P_SKIP_FROM;
    if (!p->owes_skip) {
        producer_claim(p);
    }
}

static void producer_skipped(struct locals *p)
{
    p->pc = P_HEADER;
    if (p->owes_skip) {
        p->owes_skip = 0;
        producer_claim(p);
    }
}

static void producer_after(struct locals *p, uint8_t result)
{
    switch (p->pc) {
    case P_LOOK:
        producer_looked(p, result);
        return;
    case P_ROOM:
        p->head_cache = result;
        producer_payload(p);
        return;
    case P_PAYLOAD:
        producer_payload(p);
        return;
    case P_SKIP_FROM:
        p->pc = P_SKIP_TO;
        return;
    case P_SKIP_TO:
        producer_skipped(p);
        return;
    case P_HEADER:
        producer_committed(p);
        return;
    case P_PUBLISH:
        producer_published(p);
        return;
    default:
        return;
    }
}

/* refresh_tail, in its order or in a broken one. */
static void consumer_look(struct locals *c)
{
    c->pc = recipe.skip_before_tail ? C_SKIP_FROM : C_TAIL;
}

/* spsc_take behind refresh_tail. False: an ASSERT of spsc_take. */
static bool consumer_begin(struct locals *c)
{
    c->pc = C_READ;
    c->index = 0;
    if (c->next == c->skip_from_cache) {
        c->next = c->skip_to_cache;
        return c->next != c->tail_cache;
    }
    return true;
}

/* spsc_take up to its first shared access. Nothing left ends the pass: what was taken is released
 * before more is waited for. */
static bool consumer_take(struct locals *c)
{
    if (c->message == recipe.messages) {
        c->pc = RING_DONE;
        return true;
    }
    if (c->next != c->tail_cache) {
        return consumer_begin(c);
    }
    bool is_pass_over = c->uncounted > 0 && !recipe.keeps_unreleased;
    if (is_pass_over) {
        c->pc = C_RELEASE;
    } else {
        consumer_look(c);
    }
    return true;
}

static bool consumer_taken(struct locals *c)
{
    c->next = c->frame_end;
    c->message++;
    c->uncounted++;
    if (c->uncounted == recipe.release_every || c->message == recipe.messages) {
        c->pc = C_RELEASE;
        return true;
    }
    return consumer_take(c);
}

static struct explore_op consumer_op(const struct locals *c)
{
    switch (c->pc) {
    case C_TAIL:
        return (struct explore_op){.kind = OP_LOAD,
                                   .at = TAIL,
                                   .order = order_unless(recipe.without_a1, ACQUIRE),
                                   .accept_min =
                                       recipe.skip_every_look ? c->next : (uint8_t)(c->next + 1)};
    case C_SKIP_FROM:
        return (struct explore_op){.kind = OP_DATA_READ, .at = SKIP_FROM};
    case C_SKIP_TO:
        return (struct explore_op){.kind = OP_DATA_READ, .at = SKIP_TO};
    case C_READ:
        return (struct explore_op){.kind = OP_DATA_READ,
                                   .at = (uint8_t)(c->next + c->index) % recipe.capacity};
    case C_RELEASE: {
        uint8_t early =
            recipe.releases_early && c->message < recipe.messages ? size_of(c->message) : 0;
        return (struct explore_op){.kind = OP_STORE,
                                   .at = HEAD,
                                   .order = order_unless(recipe.without_r2, RELEASE),
                                   .value = (uint8_t)(c->next + early)};
    }
    default:
        return (struct explore_op){.kind = OP_DONE};
    }
}

static bool consumer_read(struct locals *c, uint8_t result)
{
    if (result != c->message + 1) {
        return false;
    }
    c->index++;
    c->frame_end = (uint8_t)(c->next + size_of(c->message));
    return c->index < size_of(c->message) || consumer_taken(c);
}

static bool consumer_after_tail(struct locals *c, uint8_t tail)
{
    c->tail_cache = tail;
    if (recipe.skip_never_read || recipe.skip_before_tail) {
        return consumer_begin(c);
    }
    c->pc = C_SKIP_FROM;
    return true;
}

/* False: the bytes are not the next message, or an ASSERT fails. */
static bool consumer_after(struct locals *c, uint8_t result)
{
    switch (c->pc) {
    case C_TAIL:
        return consumer_after_tail(c, result);
    case C_SKIP_FROM:
        c->skip_from_cache = result;
        c->pc = C_SKIP_TO;
        return true;
    case C_SKIP_TO:
        c->skip_to_cache = result;
        if (recipe.skip_before_tail) {
            c->pc = C_TAIL;
            return true;
        }
        return consumer_take(c);
    case C_READ:
        return consumer_read(c, result);
    case C_RELEASE:
        c->uncounted = 0;
        return consumer_take(c);
    default:
        return true;
    }
}

/* ------------------------------------------------------------------------------------------------
 * runs */

static struct explore_op op_of(const uint8_t *locals, int thread)
{
    const struct locals *l = (const void *)locals;
    return thread == 0 ? producer_op(l) : consumer_op(l);
}

static bool after(uint8_t *locals, int thread, uint8_t result)
{
    struct locals *l = (void *)locals;
    if (thread == 0) {
        producer_after(l, result);
        return true;
    }
    return consumer_after(l, result);
}

static void set_unless_given(uint8_t *field, uint8_t value)
{
    if (*field == 0) {
        *field = value;
    }
}

/* Frames of one and two slots in turn on four slots, so that the ring wraps twice and is full and
 * empty on the way. */
static void fill_in_defaults(struct recipe *r)
{
    set_unless_given(&r->capacity, 4);
    set_unless_given(&r->messages, 6);
    set_unless_given(&r->publish_every, 1);
    set_unless_given(&r->release_every, 1);
    set_unless_given(&r->sizes[0], 1);
    set_unless_given(&r->sizes[1], 2);
    assert_true(r->capacity <= SLOTS_MAX);
}

static struct explore_result run(const struct recipe *given)
{
    struct explore_program program = {.op_of = op_of, .after = after};
    struct explore_result result;
    struct locals locals[EXPLORE_THREADS] = {0};
    recipe = *given;
    fill_in_defaults(&recipe);
    program.machine = recipe.machine;
    program.data[SKIP_FROM] = program.data[SKIP_TO] = NO_SKIP;
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        locals[t].pc = RING_DONE;
        locals[t].skip_from = locals[t].skip_to = NO_SKIP;
        locals[t].skip_from_cache = locals[t].skip_to_cache = NO_SKIP;
    }
    producer_claim(&locals[0]);
    assert_true(consumer_take(&locals[1]));
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        memcpy(program.locals[t], &locals[t], sizeof locals[t]);
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

static void ring_loses_and_overwrites_nothing(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "weak, publish and release each"},
        {.name = "weak, publish every 2", .publish_every = 2},
        {.name = "weak, release every 2", .release_every = 2},
        {.name = "weak, equal frames that fill it", .sizes = {1, 1}, .messages = 8},
        {.name = "weak, frames of 3 on 4 slots", .sizes = {3, 3}, .messages = 4},
        {.name = "x86", .machine = TSO},
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void skip_loses_and_overwrites_nothing(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "weak, skip to the start", .rewind = 1, .messages = 7},
        {.name = "weak, skip, small frames", .rewind = 1, .sizes = {1, 1}, .messages = 8},
        {.name = "weak, skip, publish 2 release 2",
         .rewind = 1,
         .publish_every = 2,
         .release_every = 2,
         .messages = 8},
        {.name = "weak, skip after skip", .rewind = 1, .sizes = {2, 2}, .messages = 7},
        {.name = "weak, skip, then a frame as large as the ring", .rewind = 1, .sizes = {2, 4}},
        {.name = "weak, skip, frames of 3 on 4 slots", .rewind = 1, .sizes = {3, 3}, .messages = 6},
        {.name = "x86, skip", .machine = TSO, .rewind = 1},
        {.name = "x86, skip, publish 2 release 2",
         .machine = TSO,
         .rewind = 1,
         .publish_every = 2,
         .release_every = 2},
        {.name = "x86, skip, then a frame as large as the ring",
         .machine = TSO,
         .rewind = 1,
         .sizes = {2, 4}},
    };
    expect_to_hold(recipes, COUNT(recipes));
}

static void each_broken_edge_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "R1 relaxed", .without_r1 = true},
        {.name = "A1 relaxed", .without_a1 = true},
        {.name = "R2 relaxed", .without_r2 = true},
        {.name = "A2 relaxed", .without_a2 = true},
        {.name = "one slot too many", .overcommits = true},
        {.name = "one slot too many, x86", .overcommits = true, .machine = TSO},
        {.name = "release before the read", .releases_early = true},
        {.name = "release before the read, x86", .releases_early = true, .machine = TSO},
        {.name = "full, and nothing published", .publish_every = 8, .keeps_unpublished = true},
        {.name = "empty, and nothing released", .release_every = 8, .keeps_unreleased = true},
    };
    expect_violation(recipes, COUNT(recipes));
}

static void each_broken_skip_is_noticed(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "skip, R1 relaxed", .without_r1 = true, .rewind = 1, .messages = 7},
        {.name = "skip, A1 relaxed", .without_a1 = true, .rewind = 1, .messages = 7},
        {.name = "skip, R2 relaxed", .without_r2 = true, .rewind = 1, .messages = 7},
        {.name = "skip, A2 relaxed", .without_a2 = true, .rewind = 1, .messages = 7},
        {.name = "skip without looking", .rewind = 1, .skips_blindly = true},
        {.name = "skip without looking, x86", .rewind = 1, .skips_blindly = true, .machine = TSO},
        {.name = "skip words written after R1", .rewind = 1, .skip_after_publish = true},
        {.name = "skip words written after R1, x86",
         .rewind = 1,
         .skip_after_publish = true,
         .machine = TSO},
        {.name = "skip words read before A1", .rewind = 1, .skip_before_tail = true},
        {.name = "skip words read before A1, x86",
         .rewind = 1,
         .skip_before_tail = true,
         .machine = TSO},
        {.name = "skip words read although tail is old", .rewind = 1, .skip_every_look = true},
        {.name = "skip words never read", .rewind = 1, .skip_never_read = true},
        {.name = "skip words never read, x86",
         .rewind = 1,
         .skip_never_read = true,
         .machine = TSO},
        {.name = "skipped stretch counts as used",
         .rewind = 1,
         .sizes = {2, 4},
         .skip_is_used_room = true},
    };
    expect_violation(recipes, COUNT(recipes));
}

/* Why the weak machine is needed: on x86 the hardware gives these four edges away. (The compiler
 * does not.) */
static void x86_alone_would_not_notice_r1_a1_r2_a2(void **state)
{
    (void)state;
    const struct recipe recipes[] = {
        {.name = "x86, R1 A1 R2 A2 relaxed",
         .machine = TSO,
         .without_r1 = true,
         .without_a1 = true,
         .without_r2 = true,
         .without_a2 = true},
        {.name = "x86, skip, R1 A1 R2 A2 relaxed",
         .machine = TSO,
         .rewind = 1,
         .without_r1 = true,
         .without_a1 = true,
         .without_r2 = true,
         .without_a2 = true},
    };
    expect_to_hold(recipes, COUNT(recipes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_loses_and_overwrites_nothing),
        cmocka_unit_test(skip_loses_and_overwrites_nothing),
        cmocka_unit_test(each_broken_edge_is_noticed),
        cmocka_unit_test(each_broken_skip_is_noticed),
        cmocka_unit_test(x86_alone_would_not_notice_r1_a1_r2_a2),
    };
    return cmocka_run_group_tests_name("spsc_model", tests, NULL, NULL);
}
