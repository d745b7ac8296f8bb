/*
 * test_rate_limit: the sliding window against a model that remembers every request, the bounded
 * table, and the lock.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/rate_limit.h"

#define START_MS UINT64_C(4294900000) /* the marks' 32 bits wrap within the first window */

static struct rate_limit *limit;

static int setup_of(uint32_t addresses)
{
    struct err err = {0};
    return rate_limit_open(&limit, addresses, &err);
}

static int setup(void **state)
{
    (void)state;
    return setup_of(1024);
}

static int setup_four(void **state)
{
    (void)state;
    return setup_of(4);
}

static int teardown(void **state)
{
    (void)state;
    rate_limit_close(limit);
    return 0;
}

static struct rate_address address_of(uint32_t number)
{
    struct rate_address address = {{0}};
    memcpy(address.bytes + 12, &number, sizeof number);
    return address;
}

static struct rate_verdict take(uint32_t client, uint64_t rpm, uint64_t at_ms)
{
    return rate_limit_take(limit, address_of(client), rpm, (START_MS + at_ms) * NS_MS);
}

static unsigned allowed_of(uint32_t client, uint64_t rpm, uint64_t at_ms, unsigned requests)
{
    unsigned allowed = 0;
    for (unsigned i = 0; i < requests; i++) {
        allowed += take(client, rpm, at_ms).is_allowed;
    }
    return allowed;
}

/* ---- the window ---- */

static void the_limit_is_allowed_and_not_one_more(void **state)
{
    (void)state;
    assert_int_equal(allowed_of(1, 60, 0, 100), 60);
    assert_int_equal(allowed_of(1, 60, 59999, 100), 0);
    assert_int_equal(allowed_of(1, 60, 60000, 100), 60);
}

static void each_request_counts_for_60_s_from_its_own_moment(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        assert_true(take(1, 5, i * 10000).is_allowed);
    }
    assert_false(take(1, 5, 59999).is_allowed);
    for (unsigned i = 0; i < 5; i++) {
        assert_false(take(1, 5, 60000 + i * 10000 - 1).is_allowed);
        assert_true(take(1, 5, 60000 + i * 10000).is_allowed);
        assert_false(take(1, 5, 60000 + i * 10000).is_allowed);
    }
}

static void refused_requests_do_not_count(void **state)
{
    (void)state;
    assert_int_equal(allowed_of(1, 2, 0, 2), 2);
    for (unsigned at = 1; at < 60000; at += 7) {
        assert_false(take(1, 2, at).is_allowed);
    }
    assert_int_equal(allowed_of(1, 2, 60000, 3), 2);
}

static void retry_after_is_when_the_next_one_is_allowed(void **state)
{
    (void)state;
    assert_true(take(1, 2, 0).is_allowed);
    assert_true(take(1, 2, 30000).is_allowed);
    assert_int_equal(take(1, 2, 30000).retry_after_s, 30);
    assert_int_equal(take(1, 2, 30001).retry_after_s, 30);
    assert_int_equal(take(1, 2, 59001).retry_after_s, 1);
    assert_int_equal(take(1, 2, 59999).retry_after_s, 1);
    assert_true(take(1, 2, 60000).is_allowed);
    /* After the limit was lowered, more than one must expire. */
    assert_int_equal(take(1, 1, 60000).retry_after_s, 60);
}

static void addresses_do_not_share(void **state)
{
    (void)state;
    for (uint32_t client = 0; client < 500; client++) {
        assert_int_equal(allowed_of(client, 3, client, 5), 3);
    }
    for (uint32_t client = 0; client < 500; client++) {
        assert_int_equal(allowed_of(client, 3, 59999, 5), 0);
    }
    assert_int_equal(rate_limit_counts(limit).addresses, 500);
}

static void a_clock_that_is_behind_does_no_harm(void **state)
{
    (void)state;
    assert_int_equal(allowed_of(1, 10, 1000, 5), 5);
    assert_int_equal(allowed_of(1, 10, 990, 10), 5);
    assert_int_equal(allowed_of(1, 10, 61000, 20), 10);
}

static void a_changed_limit_holds_at_once(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        assert_true(take(1, 60, i).is_allowed);
    }
    assert_false(take(1, 60, 60).is_allowed);
    unsigned allowed = 60;
    for (unsigned second = 1; second < 60; second++) { /* more marks than there is room for */
        allowed += allowed_of(1, 1000, second * 1000, 10);
    }
    assert_int_equal(allowed, 60 + 590);
    assert_int_equal(allowed_of(1, 1000, 59500, 1000), 350);
    assert_false(take(1, 5, 59600).is_allowed);
    assert_int_equal(allowed_of(1, 1000, 60100, 1000), 60); /* the first 60 are over */
    assert_int_equal(allowed_of(1, 1000, 119500, 1000), 940);
    assert_int_equal(allowed_of(1, 5, 179500, 10), 5);
}

/* ---- the model: every allowed request, by its millisecond ---- */

struct model {
    uint64_t at_ms[1 << 20];
    size_t first;
    size_t end;
};

static size_t model_count(struct model *model, uint64_t now_ms, uint64_t window_ms)
{
    size_t i = model->first;
    while (i < model->end && now_ms - model->at_ms[i] >= window_ms) {
        i++;
    }
    return model->end - i;
}

/* One client at random times; the verdict must be the model's, or, where requests of a second count
 * together, may be late by up to a second but never early. */
static void compare_with_model(unsigned seed, uint64_t rpm, unsigned step_ms, bool is_exact)
{
    static struct model model;
    model.first = model.end = 0;
    uint64_t now_ms = 0;
    for (unsigned i = 0; i < 20000; i++) {
        while (model.first < model.end && now_ms - model.at_ms[model.first] >= 61000) {
            model.first++;
        }
        now_ms += (uint64_t)rand() % step_ms;
        if (rand() % 500 == 0) {
            now_ms += (uint64_t)rand() % 130000;
        }
        bool is_allowed = take(seed, rpm, now_ms).is_allowed;
        bool must_refuse = model_count(&model, now_ms, 60000) >= rpm;
        bool must_allow = model_count(&model, now_ms, is_exact ? 60000 : 61000) < rpm;
        if ((is_allowed && must_refuse) || (!is_allowed && must_allow)) {
            fail_msg("seed %u, rpm %llu, request %u at %llu ms: allowed %d", seed,
                     (unsigned long long)rpm, i, (unsigned long long)now_ms, is_allowed);
        }
        if (is_allowed) {
            model.at_ms[model.end++] = now_ms;
        }
    }
}

static void a_random_client_is_judged_as_a_full_log_of_its_requests_would(void **state)
{
    (void)state;
    const char *given = getenv("SLUICE_TEST_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("SLUICE_TEST_SEED=%u repeats this\n", seed);
    srand(seed);
    const uint64_t exact[] = {1, 2, 7, 59, 60, 64};
    for (size_t i = 0; i < ARRAY_COUNT(exact); i++) {
        compare_with_model((unsigned)exact[i], exact[i], (unsigned)(90000 / exact[i]), true);
        compare_with_model(1000 + (unsigned)exact[i], exact[i], 3, true);
    }
    const uint64_t coarse[] = {65, 100, 1000};
    for (size_t i = 0; i < ARRAY_COUNT(coarse); i++) {
        compare_with_model(2000 + (unsigned)coarse[i], coarse[i], (unsigned)(90000 / coarse[i]),
                           false);
        compare_with_model(3000 + (unsigned)coarse[i], coarse[i], 5, false);
    }
}

/* ---- the table ---- */

static void the_longest_silent_address_loses_its_place(void **state)
{
    (void)state;
    for (uint32_t client = 0; client < 4; client++) {
        assert_int_equal(allowed_of(client, 1, client, 2), 1);
    }
    assert_true(take(9, 1, 100).is_allowed); /* takes the place of 0 */
    assert_int_equal(rate_limit_counts(limit).evicted, 1);
    assert_int_equal(rate_limit_counts(limit).addresses, 4);
    assert_false(take(1, 1, 101).is_allowed); /* refused, but not silent */
    assert_true(take(0, 1, 102).is_allowed);  /* forgotten; takes the place of 2 */
    assert_false(take(1, 1, 103).is_allowed);
    assert_false(take(9, 1, 103).is_allowed);
    assert_true(take(2, 1, 104).is_allowed); /* takes the place of 3 */
    /* Whoever has nothing to lose is not counted as evicted. */
    assert_true(take(20, 1, 200000).is_allowed);
    assert_int_equal(rate_limit_counts(limit).evicted, 3);
}

static void a_small_table_survives_many_addresses(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 100000; i++) {
        uint32_t client = i * 2654435761u % 37;
        (void)take(client, 3, i);
    }
    assert_int_equal(rate_limit_counts(limit).addresses, 4);
}

static void an_address_is_the_peer_s_without_its_port(void **state)
{
    (void)state;
    struct sockaddr_storage peer = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = 1, .sin_addr.s_addr = 0x0100007f};
    memcpy(&peer, &in, sizeof in);
    struct rate_address a = rate_limit_address(&peer);
    in.sin_port = 2;
    memcpy(&peer, &in, sizeof in);
    struct rate_address b = rate_limit_address(&peer);
    assert_memory_equal(&a, &b, sizeof a);

    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 3};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6.sin6_addr), 1);
    memcpy(&peer, &in6, sizeof in6);
    struct rate_address c = rate_limit_address(&peer);
    assert_memory_equal(&a, &c, sizeof a);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr), 1);
    memcpy(&peer, &in6, sizeof in6);
    struct rate_address d = rate_limit_address(&peer);
    assert_memory_not_equal(&a, &d, sizeof a);
}

static void *hammer(void *context)
{
    unsigned *allowed = context;
    for (unsigned i = 0; i < 20000; i++) {
        *allowed += take(7, 1000, 0).is_allowed;
        (void)take(i % 2000, 1000, 0);
    }
    return NULL;
}

static void two_threads_share_one_limit(void **state)
{
    (void)state;
    pthread_t threads[2];
    unsigned allowed[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &allowed[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    /* Its neighbours are more than the table holds, but it is never silent for long. One request in
     * 2000 of them is its own, too. */
    assert_in_range(allowed[0] + allowed[1], 980, 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_limit_is_allowed_and_not_one_more),
        TEST(each_request_counts_for_60_s_from_its_own_moment),
        TEST(refused_requests_do_not_count),
        TEST(retry_after_is_when_the_next_one_is_allowed),
        TEST(addresses_do_not_share),
        TEST(a_clock_that_is_behind_does_no_harm),
        TEST(a_changed_limit_holds_at_once),
        TEST(a_random_client_is_judged_as_a_full_log_of_its_requests_would),
        cmocka_unit_test_setup_teardown(the_longest_silent_address_loses_its_place, setup_four,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_small_table_survives_many_addresses, setup_four,
                                        teardown),
        TEST(an_address_is_the_peer_s_without_its_port),
        TEST(two_threads_share_one_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
