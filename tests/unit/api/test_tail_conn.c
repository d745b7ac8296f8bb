#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "api/tail.h"

#include <string.h>

#include "core/mem.h"

enum {
    TEXT = 0x81,
    CLOSE = 0x88,
    PING = 0x89,
    PONG = 0x8a
};

struct fixture {
    struct query_job *job;
    struct tail_link link;
    unsigned texts;
    char text[64];
    bool is_full;
};

static bool on_text(void *context, struct query_job *job, struct slice text)
{
    struct fixture *fx = context;
    assert_ptr_equal(job, fx->job);
    fx->texts++;
    memcpy(fx->text, text.data, u64_min(text.bytes, sizeof fx->text - 1));
    return !fx->is_full;
}

static int set_up(void **state)
{
    struct fixture *fx = mem_alloc(sizeof *fx);
    fx->job = mem_map(sizeof *fx->job);
    fx->link = (struct tail_link){.on_text = on_text, .context = fx, .now_ns = NS_S};
    assert_true(tail_conn_open(fx->job, NS_S));
    *state = fx;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;
    tail_conn_free(fx->job);
    mem_unmap(fx->job, sizeof *fx->job);
    mem_free(fx);
    return 0;
}

/* A client's frame: masked with a key of zeroes. */
static void feed(struct fixture *fx, uint8_t first, const char *payload)
{
    uint8_t frame[256] = {first, (uint8_t)(0x80 | strlen(payload))};
    memcpy(frame + 6, payload, strlen(payload));
    tail_conn_feed(fx->job, &fx->link, (struct slice){frame, 6 + strlen(payload)});
}

static void expect_control(struct fixture *fx, uint8_t first)
{
    struct slice control = tail_conn_control(fx->job);
    assert_true(control.bytes >= 2);
    assert_int_equal(control.data[0], first);
}

static uint16_t close_code(struct fixture *fx)
{
    expect_control(fx, CLOSE);
    struct slice control = tail_conn_control(fx->job);
    return (uint16_t)(control.data[2] << 8 | control.data[3]);
}

static void a_quiet_tail_is_pinged_and_lives_while_it_answers(void **state)
{
    struct fixture *fx = *state;
    uint64_t now_ns = NS_S;
    for (unsigned i = 0; i < 10; i++) {
        tail_conn_tick(fx->job, now_ns + TAIL_PING_NS - 1);
        assert_int_equal(tail_conn_control(fx->job).bytes, 0); /* one at a time, in time */
        now_ns += TAIL_PING_NS;
        tail_conn_tick(fx->job, now_ns);
        expect_control(fx, PING);
        tail_conn_sent(fx->job);
        feed(fx, PONG, "");
    }
    assert_false(tail_conn_is_over(fx->job, now_ns));
}

static void a_tail_that_does_not_answer_a_ping_is_closed(void **state)
{
    struct fixture *fx = *state;
    uint64_t pinged_ns = NS_S + TAIL_PING_NS;
    tail_conn_tick(fx->job, pinged_ns);
    tail_conn_sent(fx->job);
    for (uint64_t t = NS_S; t < TAIL_PONG_NS; t += NS_S) {
        tail_conn_tick(fx->job, pinged_ns + t);
        assert_int_equal(tail_conn_control(fx->job).bytes, 0); /* one ping is enough */
    }
    tail_conn_tick(fx->job, pinged_ns + TAIL_PONG_NS + NS_S);
    assert_int_equal(close_code(fx), WEBSOCKET_GOING_AWAY);
    tail_conn_sent(fx->job);
    uint64_t closed_ns = pinged_ns + TAIL_PONG_NS + NS_S;
    assert_false(tail_conn_is_over(fx->job, closed_ns + TAIL_CLOSE_NS - 1));
    assert_true(tail_conn_is_over(fx->job, closed_ns + TAIL_CLOSE_NS));
}

static void control_frames_wait_for_the_end_of_a_message(void **state)
{
    struct fixture *fx = *state;
    fx->job->tail.is_inside = true;
    feed(fx, PING, "hello");
    tail_conn_tick(fx->job, NS_S + TAIL_PING_NS);
    assert_int_equal(tail_conn_control(fx->job).bytes, 0);
    fx->job->tail.is_inside = false;
    struct slice control = tail_conn_control(fx->job);
    assert_int_equal(control.bytes, 2 + 5); /* the pong; no ping went into a message */
    assert_int_equal(control.data[0], PONG);
    assert_memory_equal(control.data + 2, "hello", 5);
}

static void after_a_close_only_the_rest_of_a_message_is_taken(void **state)
{
    struct fixture *fx = *state;
    fx->job->tail.is_inside = true;
    tail_conn_close(fx->job, WEBSOCKET_GOING_AWAY, "bye", NS_S);
    tail_conn_close(fx->job, WEBSOCKET_INTERNAL, "again", NS_S);
    assert_true(tail_conn_takes(fx->job));
    assert_int_equal(tail_conn_control(fx->job).bytes, 0);
    fx->job->tail.is_inside = false;
    assert_false(tail_conn_takes(fx->job));
    assert_int_equal(close_code(fx), WEBSOCKET_GOING_AWAY);
    assert_int_equal(tail_conn_control(fx->job).bytes, 2 + 2 + 3); /* one close frame */
    tail_conn_sent(fx->job);
    feed(fx, CLOSE, "\x03\xe9");
    assert_true(tail_conn_is_over(fx->job, NS_S));
}

static void messages_reach_the_worker_until_there_is_no_room(void **state)
{
    struct fixture *fx = *state;
    feed(fx, TEXT, "{\"type\":\"ping\"}");
    assert_int_equal(fx->texts, 1);
    assert_string_equal(fx->text, "{\"type\":\"ping\"}");
    fx->is_full = true;
    feed(fx, TEXT, "{}");
    assert_int_equal(close_code(fx), TAIL_TRY_AGAIN_LATER);
    feed(fx, TEXT, "{}");
    assert_int_equal(fx->texts, 2); /* what comes after a close is dropped */
}

static void a_client_that_closes_is_answered_and_then_over(void **state)
{
    struct fixture *fx = *state;
    feed(fx, CLOSE, "\x03\xe8");
    assert_int_equal(close_code(fx), WEBSOCKET_NORMAL);
    assert_false(tail_conn_is_over(fx->job, NS_S));
    tail_conn_sent(fx->job);
    assert_true(tail_conn_is_over(fx->job, NS_S));
    assert_false(tail_conn_takes(fx->job));
}

static void a_flood_of_pings_that_cannot_be_answered_ends_the_tail(void **state)
{
    struct fixture *fx = *state;
    fx->job->tail.is_inside = true;
    for (unsigned i = 0; i < 100; i++) {
        feed(fx, PING, "0123456789012345678901234567890123456789");
    }
    assert_true(fx->job->tail.control_bytes <= sizeof fx->job->tail.control);
    assert_true(tail_conn_is_over(fx->job, NS_S));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_quiet_tail_is_pinged_and_lives_while_it_answers, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_tail_that_does_not_answer_a_ping_is_closed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(control_frames_wait_for_the_end_of_a_message, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(after_a_close_only_the_rest_of_a_message_is_taken, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(messages_reach_the_worker_until_there_is_no_room, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_closes_is_answered_and_then_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_pings_that_cannot_be_answered_ends_the_tail,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
