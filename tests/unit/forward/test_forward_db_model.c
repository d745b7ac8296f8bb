/* forward_db against a model in memory: random passes by a process that ends at any moment. What is found then is the last commit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forward_db_fixture.h"

#define MODEL_SINKS   3
#define MODEL_LSNS    6
#define MODEL_ITEMS   24
#define MODEL_ROUNDS  40
#define MODEL_PASSES  400
#define MODEL_PAYLOAD 3000

struct model {
    bool has_sink[MODEL_SINKS];
    struct sink_position positions[MODEL_SINKS];
    /* by sink, first_lsn - 1, quarantine_id: 0: none, else the number it was made from */
    uint64_t batches[MODEL_SINKS][MODEL_LSNS][2];
    struct {
        uint64_t id, number;
        unsigned sink;
        enum quarantine_state state;
    } items[MODEL_ITEMS];
    unsigned item_count;
    uint64_t next_id;
};
static const char *const model_sinks[MODEL_SINKS] = {"a", "b-1", "c"};

static uint64_t next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint8_t model_only[MODEL_PAYLOAD];
static struct frozen model_frozen(unsigned lsn, unsigned quarantine_id, uint64_t number)
{
    struct frozen frozen = frozen_of(lsn + 1, number % 1000);
    frozen.quarantine_id = quarantine_id;
    frozen.only = (struct slice){model_only, 4 * (number % 500)};
    return frozen;
}
static size_t model_bytes(uint64_t number)
{
    return number % MODEL_PAYLOAD;
}

/* One change; to the database too unless db is NULL. */
static void model_change(struct model *model, struct forward_db *db, uint64_t *random)
{
    struct err err = {0};
    unsigned sink = (unsigned)(next_random(random) % MODEL_SINKS);
    unsigned lsn = (unsigned)(next_random(random) % MODEL_LSNS);
    unsigned second = (unsigned)(next_random(random) % 2);
    unsigned choice = (unsigned)(next_random(random) % 10);
    uint64_t number = next_random(random) % 100000 + 1;
    if (choice < 2) {
        struct sink_position *position = &model->positions[sink];
        model->has_sink[sink] = true;
        *position = (struct sink_position){.start_lsn = number, .delivered = number * 2};
        if (db != NULL) {
            put_sink(db, model_sinks[sink], position);
        }
    } else if (choice < 5) {
        struct frozen frozen = model_frozen(lsn, second, number);
        model->batches[sink][lsn][second] = number;
        if (db != NULL) {
            ok(forward_db_batch_put(db, model_sinks[sink], &frozen, &err), &err);
        }
    } else if (choice < 7) {
        struct frozen frozen = model_frozen(lsn, second, number);
        model->batches[sink][lsn][second] = 0;
        if (db != NULL) {
            ok(forward_db_batch_delete(db, model_sinks[sink], &frozen, &err), &err);
        }
    } else if (choice < 8 && model->item_count < MODEL_ITEMS) {
        unsigned at = model->item_count++;
        model->items[at].id = model->next_id++;
        model->items[at].number = number;
        model->items[at].sink = sink;
        model->items[at].state = QUARANTINE_HELD;
        if (db != NULL) {
            assert_int_equal(put_item(db, model_sinks[sink], number, model_bytes(number)),
                             model->items[at].id);
        }
    } else if (model->item_count > 0) {
        unsigned at = (unsigned)(number % model->item_count);
        uint64_t id = model->items[at].id;
        if (choice == 8) {
            model->items[at].state = QUARANTINE_REQUEUED;
            char reason[32];
            (void)snprintf(reason, sizeof reason, "no \xff of %" PRIu64, model->items[at].number);
            if (db != NULL) {
                ok(forward_db_quarantine_set(db, id, QUARANTINE_REQUEUED, 400, reason, 77, &err),
                   &err);
            }
        } else {
            model->item_count--;
            memmove(&model->items[at], &model->items[at + 1],
                    (model->item_count - at) * sizeof model->items[0]);
            if (db != NULL) {
                ok(forward_db_quarantine_delete(db, id, &err), &err);
            }
        }
    }
}

struct progress {
    _Atomic uint64_t begun, done; /* commits */
};

/* The pass of this number, always the same for a seed. end_in_pass: the number of the pass in whose middle the process ends. */
static void model_pass(struct model *model, struct forward_db *db, uint64_t seed, uint64_t number,
                       struct progress *progress, uint64_t end_in_pass)
{
    uint64_t random = seed * 1000003 + number;
    struct model after = *model;
    unsigned changes = (unsigned)(next_random(&random) % 6);
    bool is_rolled_back = next_random(&random) % 4 == 0;
    if (db != NULL) {
        begin(db);
    }
    for (unsigned i = 0; i < changes; i++) {
        model_change(&after, db, &random);
    }
    if (db != NULL && number == end_in_pass) {
        _exit(0);
    }
    if (progress != NULL) {
        atomic_store_explicit(&progress->begun, number + 1, memory_order_release);
    }
    if (is_rolled_back) {
        if (db != NULL) {
            forward_db_rollback(db);
        }
    } else {
        if (db != NULL) {
            commit(db);
        }
        *model = after;
    }
    if (progress != NULL) {
        atomic_store_explicit(&progress->done, number + 1, memory_order_release);
    }
}

struct comparison {
    const struct model *model;
    unsigned sink, at, differences;
};

static bool compare_sink(void *context, const char *sink, const struct sink_position *position)
{
    struct comparison *c = context;
    while (c->at < MODEL_SINKS && !c->model->has_sink[c->at]) {
        c->at++;
    }
    bool is_same = c->at < MODEL_SINKS && strcmp(sink, model_sinks[c->at]) == 0 &&
                   memcmp(position, &c->model->positions[c->at], sizeof *position) == 0;
    c->differences += is_same ? 0 : 1;
    c->at++;
    return true;
}

static bool compare_batch(void *context, const struct frozen *frozen)
{
    struct comparison *c = context;
    const uint64_t *numbers = &c->model->batches[c->sink][0][0];
    while (c->at < MODEL_LSNS * 2 && numbers[c->at] == 0) {
        c->at++;
    }
    if (c->at < MODEL_LSNS * 2) {
        struct frozen expected = model_frozen(c->at / 2, c->at % 2, numbers[c->at]);
        c->differences += same_frozen(frozen, &expected) ? 0 : 1;
    } else {
        c->differences++;
    }
    c->at++;
    return true;
}

static bool compare_item(void *context, const struct quarantined *item)
{
    struct comparison *c = context;
    if (c->at >= c->model->item_count) {
        c->differences++;
        return false;
    }
    uint64_t number = c->model->items[c->at].number;
    uint8_t payload[MODEL_PAYLOAD + 1];
    struct quarantined expected =
        item_of(model_sinks[c->model->items[c->at].sink], number, payload, model_bytes(number));
    expected.id = c->model->items[c->at].id;
    expected.state = c->model->items[c->at].state;
    c->differences += same_item(item, &expected) ? 0 : 1;
    c->at++;
    return true;
}

static unsigned differences(struct forward_db *db, const struct model *model)
{
    struct comparison c = {.model = model};
    struct err err = {0};
    ok(forward_db_sinks(db, compare_sink, &c, &err), &err);
    for (; c.at < MODEL_SINKS; c.at++) {
        c.differences += model->has_sink[c.at] ? 1 : 0;
    }
    for (c.sink = 0; c.sink < MODEL_SINKS; c.sink++) {
        c.at = 0;
        ok(forward_db_batches(db, model_sinks[c.sink], compare_batch, &c, &err), &err);
        for (; c.at < MODEL_LSNS * 2; c.at++) {
            c.differences += (&model->batches[c.sink][0][0])[c.at] != 0 ? 1 : 0;
        }
    }
    c.at = 0;
    ok(forward_db_quarantine_list(db, NULL, 0, 1000, compare_item, &c, &err), &err);
    return c.differences + (c.at == model->item_count ? 0 : 1);
}

/* The id that the next quarantined payload gets. An item put and deleted in one pass shows nowhere else. */
static uint64_t next_id(struct forward_db *db)
{
    begin(db);
    uint64_t id = put_item(db, model_sinks[0], 1, model_bytes(1));
    forward_db_rollback(db);
    return id;
}

static void run_until_killed(const char *path, struct model *model, uint64_t seed, uint64_t first,
                             struct progress *progress, uint64_t end_in_pass)
{
    enum forward_db_found found;
    struct err err = {0};
    struct forward_db *db = NULL;
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1); /* what fails here ends here */
    if (forward_db_open(&db, path, node, &found, &err) < 0) {
        _exit(1);
    }
    for (uint64_t i = first; i < first + MODEL_PASSES; i++) {
        model_pass(model, db, seed, i, progress, end_in_pass);
    }
    if (first % 2 == 0) {
        forward_db_close(db);
    }
    _exit(0);
}

/* Runs a child from pass first on and ends it somewhere. */
static void run_child(const char *path, struct model *model, uint64_t seed, uint64_t first,
                      unsigned round, struct progress *progress)
{
    uint64_t random = seed ^ (uint64_t)round * 7919;
    bool is_killed = next_random(&random) % 2 == 0;
    uint64_t end_in_pass = is_killed ? UINT64_MAX : first + next_random(&random) % 60;
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_until_killed(path, model, seed, first, progress, end_in_pass);
    }
    if (is_killed) {
        (void)poll(NULL, 0, (int)(next_random(&random) % 60));
        (void)kill(child, SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(is_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

static void after_any_end_the_file_is_what_was_last_committed(void **state)
{
    struct fixture *fixture = *state;
    const char *given = getenv("SLUICE_TEST_SEED");
    unsigned long mine = (unsigned long)getpid();
    uint64_t seed = given != NULL ? strtoul(given, NULL, 10) : mine;
    print_message("SLUICE_TEST_SEED=%" PRIu64 "\n", seed);
    struct progress *progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    struct model *model = mem_alloc(sizeof *model);
    model->next_id = 1;
    forward_db_close(open_db(fixture->path, FORWARD_DB_MADE));
    uint64_t first = 0;
    uint64_t passes = 0;
    for (unsigned round = 0; round < MODEL_ROUNDS; round++) {
        atomic_store_explicit(&progress->begun, first, memory_order_relaxed);
        atomic_store_explicit(&progress->done, first, memory_order_relaxed);
        run_child(fixture->path, model, seed, first, round, progress);
        uint64_t done = atomic_load_explicit(&progress->done, memory_order_acquire);
        uint64_t begun = atomic_load_explicit(&progress->begun, memory_order_acquire);
        for (; first < done; first++) {
            model_pass(model, NULL, seed, first, NULL, UINT64_MAX);
            passes++;
        }
        struct forward_db *reader = open_reader(fixture->path);
        struct forward_db *db = open_db(fixture->path, FORWARD_DB_GOOD);
        unsigned wrong = differences(db, model) + (next_id(db) == model->next_id ? 0 : 1);
        if (wrong != 0 && begun > done) { /* killed inside commit: it may have been durable */
            model_pass(model, NULL, seed, first++, NULL, UINT64_MAX);
            wrong = differences(db, model) + (next_id(db) == model->next_id ? 0 : 1);
        }
        wrong += differences(reader, model);
        forward_db_close(reader);
        forward_db_close(db);
        assert_int_equal(wrong, 0);
    }
    print_message("%" PRIu64 " passes in %u processes\n", passes, MODEL_ROUNDS);
    assert_true(passes > MODEL_ROUNDS);
    assert_int_equal(munmap(progress, sizeof *progress), 0);
    mem_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_any_end_the_file_is_what_was_last_committed, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
