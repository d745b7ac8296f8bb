/* alerts: each level is said once on the way up and once on the way down, and the webhook hears the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/alerts.h"

#define PERCENT(n) ((struct alert_usage){(n), 100})

static uint64_t crossings(const struct alerts *alerts)
{
    return atomic_load_explicit(&alerts->crossings, memory_order_relaxed);
}

static void open_alerts(struct alerts *alerts, const char *levels, const char *url)
{
    static struct config config;
    struct ulid node = {{1}};
    struct err err = {0};
    memset(&config, 0, sizeof config);
    (void)snprintf(config.alert_levels, sizeof config.alert_levels, "%s", levels);
    (void)snprintf(config.alert_webhook, sizeof config.alert_webhook, "%s", url);
    assert_int_equal(alerts_open(alerts, &config, node, &err), 0);
}

static void levels_ascend_and_are_percents(void **state)
{
    (void)state;
    unsigned levels[ALERT_LEVELS_MAX];
    unsigned count = 9;
    assert_int_equal(alerts_parse_levels("", levels, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(alerts_parse_levels("80,90,100", levels, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(levels[2], 100);
    static const char *const bad[] = {"0",   "101", "80,80", "90,80",
                                      "80,", ",80", "80;90", "80, 90",
                                      "-1",  "a",   "99999", "1,2,3,4,5,6,7,8,9"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (alerts_parse_levels(bad[i], levels, &count) == 0) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void each_level_is_said_once_until_it_is_left(void **state)
{
    (void)state;
    struct alerts alerts;
    open_alerts(&alerts, "80,90", "");
    alerts_judge(&alerts, ALERT_LOG, PERCENT(79));
    assert_int_equal(crossings(&alerts), 0);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(80));
    alerts_judge(&alerts, ALERT_LOG, PERCENT(85));
    assert_int_equal(crossings(&alerts), 1);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(95));
    assert_int_equal(crossings(&alerts), 2);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(89)); /* within the hysteresis of 90 */
    assert_int_equal(crossings(&alerts), 2);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(87));
    assert_int_equal(crossings(&alerts), 3);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(10));
    assert_int_equal(crossings(&alerts), 4);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(99)); /* both at once */
    assert_int_equal(crossings(&alerts), 6);
    alerts_close(&alerts);
}

/* Levels that are not above the hysteresis: they can be left, too. */
static void the_smallest_levels_are_left_again(void **state)
{
    (void)state;
    struct alerts alerts;
    open_alerts(&alerts, "1,2,3", "");
    alerts_judge(&alerts, ALERT_LOG, (struct alert_usage){300, 10000});
    assert_int_equal(crossings(&alerts), 3);
    alerts_judge(&alerts, ALERT_LOG, (struct alert_usage){100, 10000});
    assert_int_equal(crossings(&alerts), 3);
    alerts_judge(&alerts, ALERT_LOG, (struct alert_usage){60, 10000});
    assert_int_equal(crossings(&alerts), 5);
    alerts_judge(&alerts, ALERT_LOG, (struct alert_usage){0, 10000});
    assert_int_equal(crossings(&alerts), 6);
    alerts_close(&alerts);
}

static void subjects_are_apart_and_no_limit_is_no_alert(void **state)
{
    (void)state;
    struct alerts alerts;
    open_alerts(&alerts, "50", "");
    alerts_judge(&alerts, ALERT_DISK, PERCENT(60));
    alerts_judge(&alerts, ALERT_LOG, (struct alert_usage){1000, 0});
    assert_int_equal(crossings(&alerts), 1);
    alerts_judge(&alerts, ALERT_LOG, PERCENT(60));
    assert_int_equal(crossings(&alerts), 2);
    alerts_close(&alerts);
}

/* A listener that answers with `status` and keeps what it was sent. */
static int listen_any(char *url, size_t room)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, bytes), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    (void)snprintf(url, room, "http://127.0.0.1:%u/alert", ntohs(address.sin_port));
    return fd;
}

static void answer_one(int listener, const char *status, char *request, size_t room)
{
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
    size_t got = 0;
    assert_int_equal(poll(&poll_fd, 1, 5000), 1);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    request[0] = 0;
    while (strstr(request, "}") == NULL && got + 1 < room) {
        ssize_t n = read(fd, request + got, room - got - 1);
        assert_true(n > 0);
        got += (size_t)n;
        request[got] = 0;
    }
    char answer[128];
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);
    assert_int_equal(write(fd, answer, (size_t)n), n);
    close(fd);
}

static void the_webhook_hears_of_a_crossing_and_is_asked_again_after_a_failure(void **state)
{
    (void)state;
    char url[64];
    char request[8192];
    struct alerts alerts;
    int listener = listen_any(url, sizeof url);
    open_alerts(&alerts, "80", url);
    alerts_judge(&alerts, ALERT_DISK, PERCENT(81));
    answer_one(listener, "500 Oops", request, sizeof request);
    answer_one(listener, "204 No Content", request, sizeof request);
    assert_non_null(strstr(request, "POST /alert HTTP/1.1"));
    assert_non_null(strstr(request, "Content-Type: application/json"));
    assert_non_null(
        strstr(request, "\"subject\":\"disk\",\"state\":\"above\",\"level\":80,\"percent\":81.00"));
    for (unsigned i = 0; i < 100 && webhook_counts(alerts.webhook).sent == 0; i++) {
        usleep(20000);
    }
    assert_int_equal(webhook_counts(alerts.webhook).sent, 1);
    assert_int_equal(webhook_counts(alerts.webhook).failed, 0);
    alerts_close(&alerts);
    close(listener);
}

static void a_webhook_that_nobody_answers_holds_nobody(void **state)
{
    (void)state;
    char url[64];
    struct alerts alerts;
    close(listen_any(url, sizeof url)); /* refused */
    open_alerts(&alerts, "80", url);
    for (unsigned i = 0; i < 2000; i++) {
        alerts_judge(&alerts, ALERT_DISK, PERCENT(i % 2 == 0 ? 90 : 10));
    }
    assert_int_equal(crossings(&alerts), 2000);
    assert_true(webhook_counts(alerts.webhook).dropped > 0);
    alerts_close(&alerts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_ascend_and_are_percents),
        cmocka_unit_test(each_level_is_said_once_until_it_is_left),
        cmocka_unit_test(the_smallest_levels_are_left_again),
        cmocka_unit_test(subjects_are_apart_and_no_limit_is_no_alert),
        cmocka_unit_test(the_webhook_hears_of_a_crossing_and_is_asked_again_after_a_failure),
        cmocka_unit_test(a_webhook_that_nobody_answers_holds_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
