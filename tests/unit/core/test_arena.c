/* arena: no two blocks overlap, nothing is lost, and what is idle does not stay resident. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "core/arena.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct arena *open_arena(size_t bytes)
{
    struct arena *arena;
    struct err err = {0};
    assert_int_equal(arena_init(&arena, bytes, &err), 0);
    assert_int_equal(arena_total_bytes(arena), bytes);
    assert_int_equal(arena_used_bytes(arena), 0);
    return arena;
}

static void assert_whole(struct arena *arena)
{
    size_t capacity = 0;
    assert_int_equal(arena_used_bytes(arena), 0);
    void *all = arena_take(arena, arena_total_bytes(arena), &capacity);
    assert_non_null(all);
    assert_int_equal(capacity, arena_total_bytes(arena));
    arena_give(arena, all);
}

static void init_refuses_odd_sizes(void **state)
{
    (void)state;
    struct arena *arena;
    struct err err = {0};
    assert_int_equal(arena_init(&arena, 65536 + 1024, &err), -EINVAL);
    assert_int_equal(arena_init(&arena, 32768, &err), -EINVAL);
    assert_int_equal(arena_init(&arena, 0, &err), -EINVAL);
    assert_int_equal(arena_init(&arena, (size_t)1 << 63, NULL), -EINVAL);
    assert_null(arena);
    arena_close(NULL);
}

static void capacity_is_the_next_power_of_two(void **state)
{
    (void)state;
    struct arena *arena = open_arena(1 << 20);
    static const struct {
        size_t bytes, capacity;
    } rows[] = {{0, 1024},        {1, 1024},         {1024, 1024},      {1025, 2048},
                {4096, 4096},     {4097, 8192},      {65536, 65536},    {65537, 131072},
                {524288, 524288}, {524289, 1048576}, {1048576, 1048576}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        size_t capacity = 0;
        uint8_t *p = arena_take(arena, rows[i].bytes, &capacity);
        assert_non_null(p);
        assert_int_equal(capacity, rows[i].capacity);
        assert_int_equal(arena_used_bytes(arena), capacity);
        memset(p, 0xA5, capacity);
        arena_give(arena, p);
        assert_whole(arena);
    }
    arena_close(arena);
}

static void full_arena_returns_null_and_goes_on(void **state)
{
    (void)state;
    enum {
        BLOCKS = 64
    };
    struct arena *arena = open_arena(BLOCKS * ARENA_BLOCK_MIN);
    void *blocks[BLOCKS];
    size_t capacity = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = arena_take(arena, 1, &capacity);
        assert_non_null(blocks[i]);
    }
    assert_null(arena_take(arena, 1, &capacity));
    assert_null(arena_take(arena, (size_t)BLOCKS * ARENA_BLOCK_MIN + 1, &capacity));
    assert_null(arena_take(arena, SIZE_MAX, &capacity));
    for (size_t i = 0; i < BLOCKS; i += 2) { /* Every second one: half is free, no two together. */
        arena_give(arena, blocks[i]);
    }
    assert_null(arena_take(arena, 1025, &capacity));
    blocks[0] = arena_take(arena, 1024, &capacity);
    assert_non_null(blocks[0]);
    arena_give(arena, blocks[0]);
    for (size_t i = 1; i < BLOCKS; i += 2) {
        arena_give(arena, blocks[i]);
    }
    assert_whole(arena);
    arena_close(arena);
}

/* The naive model: a list of who holds which bytes, every block filled with its owner's mark. */
#define HELD_MAX 400

struct held {
    uint8_t *p;
    size_t capacity;
    uint8_t mark;
};

struct model {
    struct held held[HELD_MAX];
    size_t count;
    size_t used_bytes;
    uint64_t seed;
};

static uint64_t model_random(struct model *model)
{
    model->seed = model->seed * 6364136223846793005ull + 1442695040888963407ull;
    return model->seed >> 33;
}

static void model_take(struct model *model, struct arena *arena)
{
    size_t bytes = (size_t)(model_random(model) % (1024ull << (model_random(model) % 12)));
    size_t capacity = 0;
    uint8_t *p = arena_take(arena, bytes, &capacity);
    if (p == NULL) {
        return;
    }
    assert_true(capacity >= bytes);
    for (size_t i = 0; i < model->count; i++) {
        const struct held *other = &model->held[i];
        assert_true(p + capacity <= other->p || other->p + other->capacity <= p);
    }
    uint8_t mark = (uint8_t)model_random(model);
    for (size_t at = 0; at < capacity; at += 512) { /* enough to notice a released page */
        p[at] = mark;
    }
    p[capacity - 1] = mark;
    model->held[model->count++] = (struct held){p, capacity, mark};
    model->used_bytes += capacity;
}

static void model_give(struct model *model, struct arena *arena, size_t i)
{
    struct held held = model->held[i];
    for (size_t at = 0; at < held.capacity; at += 512) {
        assert_int_equal(held.p[at], held.mark);
    }
    assert_int_equal(held.p[held.capacity - 1], held.mark);
    arena_give(arena, held.p);
    model->held[i] = model->held[--model->count];
    model->used_bytes -= held.capacity;
}

static void model_run(uint64_t seed, size_t bytes, int steps)
{
    static struct model model;
    model = (struct model){.seed = seed};
    struct arena *arena = open_arena(bytes);
    for (int step = 0; step < steps; step++) {
        /* Waves: mostly taking, then mostly giving, so that both full and nearly empty happen. */
        uint64_t taking = step / 500 % 2 == 0 ? 70 : 30;
        if (model.count < HELD_MAX && (model.count == 0 || model_random(&model) % 100 < taking)) {
            model_take(&model, arena);
        } else {
            model_give(&model, arena, model_random(&model) % model.count);
        }
        assert_int_equal(arena_used_bytes(arena), model.used_bytes);
    }
    while (model.count > 0) {
        model_give(&model, arena, model_random(&model) % model.count);
    }
    assert_whole(arena);
    arena_close(arena);
}

static void random_use_never_overlaps_and_coalesces_fully(void **state)
{
    (void)state;
    /* SLUICE_TEST_SEED=n repeats one run. */
    const char *wish = getenv("SLUICE_TEST_SEED");
    uint64_t first = wish != NULL ? strtoull(wish, NULL, 10) : 1;
    uint64_t last = wish != NULL ? first : 8;
    for (uint64_t seed = first; seed <= last; seed++) {
        print_message("seed %llu (SLUICE_TEST_SEED=%llu)\n", (unsigned long long)seed,
                      (unsigned long long)seed);
        model_run(seed, 65536, 4000);
        model_run(seed, 1 << 20, 4000);
        model_run(seed, 32 << 20, 4000);
    }
}

static size_t resident_bytes(const uint8_t *p, size_t bytes)
{
    static unsigned char map[(64 << 20) / 4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    /* mincore wants a writable address type; it does not write there. */
    assert_int_equal(mincore((void *)(uintptr_t)p, bytes, map), 0);
    size_t resident = 0;
    for (size_t i = 0; i < bytes / page; i++) {
        resident += map[i] & 1;
    }
    return resident * page;
}

static void idle_arena_keeps_little_resident(void **state)
{
    (void)state;
    const size_t bytes = 64 << 20;
    struct arena *arena = open_arena(bytes);
    size_t capacity = 0;
    uint8_t *base = arena_take(arena, bytes, &capacity);
    assert_int_equal(resident_bytes(base, bytes), 0);
    memset(base, 1, bytes);
    arena_give(arena, base);
    assert_true(resident_bytes(base, bytes) <= 4 << 20);
    assert_true(resident_bytes(base, bytes) >= 1 << 20); /* and a little, for the next body */

    /* Small blocks that fill everything and go again count the same. */
    static void *blocks[8192];
    for (size_t i = 0; i < 8192; i++) {
        blocks[i] = arena_take(arena, 8192, &capacity);
        memset(blocks[i], 2, 8192);
    }
    assert_null(arena_take(arena, 1, &capacity));
    for (size_t i = 0; i < 8192; i++) {
        arena_give(arena, blocks[(i * 4099) % 8192]);
    }
    assert_true(resident_bytes(base, bytes) <= 4 << 20);
    assert_whole(arena);
    arena_close(arena);
}

static void retained_pages_are_the_ones_taken_next(void **state)
{
    (void)state;
    enum {
        BODIES = 16
    };
    const size_t body = 1 << 20;
    struct arena *arena = open_arena(64 << 20);
    size_t capacity = 0;
    uint8_t *bodies[BODIES];
    for (size_t i = 0; i < BODIES; i++) {
        bodies[i] = arena_take(arena, body, &capacity);
        memset(bodies[i], 3, body);
    }
    for (size_t i = BODIES; i > 0; i--) { /* High addresses first: the worst order. */
        arena_give(arena, bodies[i - 1]);
    }
    uint8_t *again = arena_take(arena, body, &capacity);
    assert_int_equal(resident_bytes(again, body), body);
    arena_give(arena, again);
    arena_close(arena);
}

static struct arena *victim;
static void *victim_block;

static void give_twice(void)
{
    arena_give(victim, victim_block);
    arena_give(victim, victim_block);
}

static void give_inside(void)
{
    arena_give(victim, (uint8_t *)victim_block + 1024);
}

static void give_odd(void)
{
    arena_give(victim, (uint8_t *)victim_block + 1);
}

static void give_foreign(void)
{
    arena_give(victim, &victim);
}

static void assert_aborts(void (*act)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka catches it for its own tests */
        close(STDERR_FILENO);
        act();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void wrong_give_aborts(void **state)
{
    (void)state;
    size_t capacity = 0;
    victim = open_arena(65536);
    victim_block = arena_take(victim, 4096, &capacity);
    assert_aborts(give_twice);
    assert_aborts(give_inside);
    assert_aborts(give_odd);
    assert_aborts(give_foreign);
    arena_give(victim, victim_block);
    arena_close(victim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_refuses_odd_sizes),
        cmocka_unit_test(capacity_is_the_next_power_of_two),
        cmocka_unit_test(full_arena_returns_null_and_goes_on),
        cmocka_unit_test(random_use_never_overlaps_and_coalesces_fully),
        cmocka_unit_test(idle_arena_keeps_little_resident),
        cmocka_unit_test(retained_pages_are_the_ones_taken_next),
        cmocka_unit_test(wrong_give_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
