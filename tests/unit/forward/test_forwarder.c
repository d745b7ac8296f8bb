/*
 * forwarder: all sinks of a process on one thread, as the server runs it: a real store, real sockets, a dead upstream beside a healthy one.
 */
#include "delivery_fixture.h"

#include "core/agent.h"
#include "forward/forwarder.h"

struct two {
    struct df *df;
    struct config_sink sinks[2];
    struct forwarder *forwarder;
    struct agent agent;
};

static void two_start(struct two *two)
{
    struct err err = {0};
    struct forwarder_options options = {.data_dir = two->df->dir,
                                        .sinks = two->sinks,
                                        .sink_count = 2,
                                        .store = two->df->store,
                                        .compacts = true};
    struct agent_options agent = {
        .name = "forwarder", .role = ROLE_FORWARDER, .cpu = -1, .duty = forwarder_duty};
    if (forwarder_open(&two->forwarder, &options, &err) < 0) {
        fail_msg("%s", err.text);
    }
    agent.context = two->forwarder;
    two->agent = (struct agent){0};
    assert_int_equal(agent_start(&two->agent, &agent, &err), 0);
}

/* up is healthy; nobody listens where dead points to. */
static struct two *two_new(uint64_t seed)
{
    struct two *two = mem_alloc(sizeof *two);
    two->df = df_new(seed);
    two->sinks[0] = two->df->sink;
    two->sinks[1] = two->df->sink;
    (void)snprintf(two->sinks[1].name, sizeof two->sinks[1].name, "dead");
    (void)snprintf(two->sinks[1].url, sizeof two->sinks[1].url, "http://127.0.0.1:1/in");
    return two;
}

static void two_stop(struct two *two)
{
    forwarder_stop(two->forwarder);
    agent_join(&two->agent);
    forwarder_close(two->forwarder);
    two->forwarder = NULL;
}

static void two_free(struct two *two)
{
    if (two->forwarder != NULL) {
        two_stop(two);
    }
    df_free(two->df);
    mem_free(two);
}

static struct sink_picture two_picture(struct two *two, unsigned i)
{
    struct sink_picture picture;
    sink_status_read(forwarder_status(two->forwarder, i), &picture);
    assert_true(sink_balances(&picture));
    return picture;
}

static void until_delivered(struct two *two, uint64_t records)
{
    uint64_t end_ns = clock_mono_ns() + 30 * NS_S;
    while (two_picture(two, 0).position.delivered < records && clock_mono_ns() < end_ns) {
        (void)two_picture(two, 1);
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(two_picture(two, 0).position.delivered, records);
}

static uint64_t retained(const struct two *two)
{
    return atomic_load_explicit(&store_status(two->df->store)->retain_lsn, memory_order_relaxed);
}

static void a_dead_sink_holds_its_records_and_nobody_else(void **state)
{
    (void)state;
    struct two *two = two_new(21);
    df_append(two->df, 200);
    two_start(two);
    until_delivered(two, 160);
    struct sink_picture dead = two_picture(two, 1);
    assert_int_equal(dead.position.delivered, 0);
    assert_int_equal(sink_pending(&dead) + dead.position.filtered, 200);
    assert_int_equal(retained(two), 1); /* the dead one needs everything */
    two_stop(two);
    /* Both go on where they were; dead has come to life. */
    memcpy(two->sinks[1].url, two->sinks[0].url, sizeof two->sinks[1].url);
    two_start(two);
    uint64_t end_ns = clock_mono_ns() + 30 * NS_S;
    while (two_picture(two, 1).position.delivered < 160 && clock_mono_ns() < end_ns) {
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(two_picture(two, 1).position.delivered, 160);
    while (retained(two) != 201 && clock_mono_ns() < end_ns) {
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(retained(two), 201);
    two_free(two);
}

static void what_comes_while_it_runs_is_delivered(void **state)
{
    (void)state;
    struct two *two = two_new(22);
    two_start(two);
    for (unsigned n = 0; n < 20; n++) {
        df_append(two->df, 5);
    }
    until_delivered(two, 80);
    two_stop(two);
    struct err err = {0};
    enum forward_db_found found;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", two->df->dir, FORWARD_DB_FILE);
    assert_int_equal(forward_db_open(&two->df->db, path, store_node(two->df->store), &found, &err),
                     0);
    df_expect_exactly_once(two->df, 1, 100);
    forward_db_close(two->df->db);
    two_free(two);
}

static void orders_are_done_and_answered(void **state)
{
    (void)state;
    struct two *two = two_new(23);
    struct err err = {0};
    two->df->refuses_poison = true;
    df_append(two->df, 100);
    two_start(two);
    until_delivered(two, 78);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_DROP, "up", 999, NS_S, &err), -ENOENT);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_DROP, "nosuch", 0, NS_S, &err), -ENOENT);
    assert_true(strlen(err.text) > 0);
    (void)pthread_mutex_lock(&two->df->mutex);
    two->df->refuses_poison = false;
    (void)pthread_mutex_unlock(&two->df->mutex);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_REQUEUE, "up", 0, 5 * NS_S, &err), 2);
    until_delivered(two, 80);
    assert_int_equal(two_picture(two, 0).position.quarantined, 0);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_DROP, "up", 0, 5 * NS_S, &err), 0);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_RESUME, "dead", 0, 5 * NS_S, &err), 0);
    assert_int_equal(forwarder_order(two->forwarder, ORDER_RELOAD, NULL, 0, 5 * NS_S, &err), 0);
    two_free(two);
}

static void a_sink_that_cannot_be_used_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct two *two = two_new(24);
    struct err err = {0};
    two->sinks[1].type = SINK_OPENSEARCH;
    (void)snprintf(two->sinks[1].index, sizeof two->sinks[1].index, "logs-%%Q");
    struct forwarder_options options = {
        .data_dir = two->df->dir, .sinks = two->sinks, .sink_count = 2, .store = two->df->store};
    assert_int_equal(forwarder_open(&two->forwarder, &options, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "sink dead: "));
    assert_null(strstr(err.text, "sink dead: sink dead"));
    two->forwarder = NULL;
    two_free(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_sink_holds_its_records_and_nobody_else),
        cmocka_unit_test(what_comes_while_it_runs_is_delivered),
        cmocka_unit_test(orders_are_done_and_answered),
        cmocka_unit_test(a_sink_that_cannot_be_used_is_an_error_that_names_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
