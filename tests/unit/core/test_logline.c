/*
 * What a log line promises: it is one line and well formed whatever is in it, a busy site falls
 * silent and says how much it held back, an agent never waits for stderr, and what is dropped is
 * counted.
 */
#include "core/logline.h"

#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* stderr is a file in memory while a test runs. */
static int stderr_before = -1;
static int captured = -1;
static char text[MIB(1)];

static int set_up(void **state)
{
    (void)state;
    stderr_before = dup(STDERR_FILENO);
    captured = memfd_create("stderr", MFD_CLOEXEC);
    logline_configure(LOGLINE_INFO, false);
    return stderr_before < 0 || captured < 0 || dup2(captured, STDERR_FILENO) < 0;
}

static int tear_down(void **state)
{
    (void)state;
    int r = dup2(stderr_before, STDERR_FILENO);
    (void)close(stderr_before);
    (void)close(captured);
    return r < 0;
}

/* Everything written so far. */
static const char *written(void)
{
    ssize_t n = pread(captured, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static size_t count_of(const char *what)
{
    size_t count = 0;
    for (const char *p = strstr(written(), what); p != NULL; p = strstr(p + 1, what)) {
        count++;
    }
    return count;
}

static void run_thread(void *(*body)(void *), void *context)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, body, context), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void say(struct logline_site *site)
{
    logline_write(site, LOGLINE_INFO, "said", "something");
}

/* --- form
 * ----------------------------------------------------------------------------------------------------------
 */

static void a_text_line_has_time_level_event_and_message(void **state)
{
    (void)state;
    LOG(LOGLINE_WARNING, "segment_failed", "segment %d is sealed", 7);
    const char *line = written();
    assert_int_equal(line[4], '-');
    assert_int_equal(line[10], 'T');
    assert_int_equal(line[19], '.');
    assert_string_equal(line + 23, "Z WARN  segment_failed segment 7 is sealed\n");
}

static void a_json_line_has_the_same_parts(void **state)
{
    (void)state;
    logline_configure(LOGLINE_INFO, true);
    LOG(LOGLINE_ERROR, "ready", "on %s", "a:1");
    const char *line = written();
    assert_int_equal(strncmp(line, "{\"time\":\"2", 10), 0);
    assert_string_equal(strstr(line, "Z\",") + 3,
                        "\"level\":\"error\",\"event\":\"ready\",\"message\":\"on a:1\"}\n");
}

static void a_message_with_controls_stays_one_line(void **state)
{
    (void)state;
    LOG(LOGLINE_INFO, "odd", "%s", "a\nb\r\x1b[31mc\x7f");
    assert_non_null(strstr(written(), " odd a b  [31mc \n"));
    assert_int_equal(count_of("\n"), 1);
}

static void a_json_message_is_escaped_and_valid_utf8(void **state)
{
    (void)state;
    logline_configure(LOGLINE_INFO, true);
    LOG(LOGLINE_INFO, "odd", "%s", "\"\\\n\x01 \xff \xc3\xa4");
    const char *line = written();
    assert_non_null(strstr(line, "\\\"\\\\"));
    assert_null(strchr(line, '\x01'));
    assert_null(strchr(line, '\xff'));
    assert_non_null(strstr(line, "\xc3\xa4\"}\n"));
    assert_int_equal(count_of("\n"), 1);
}

static void the_longest_message_of_the_worst_bytes_is_cut_and_closed(void **state)
{
    char worst[4096];
    (void)state;
    memset(worst, 1, sizeof worst - 1);
    worst[sizeof worst - 1] = '\0';
    logline_configure(LOGLINE_INFO, true);
    LOG(LOGLINE_INFO, worst, "%s", worst);
    const char *line = written();
    assert_string_equal(line + strlen(line) - 6, "...\"}\n");
}

static void a_level_below_the_least_is_silent_and_can_be_changed(void **state)
{
    (void)state;
    LOG(LOGLINE_DEBUG, "quiet", "not said");
    assert_int_equal(count_of("\n"), 0);
    logline_set_level(LOGLINE_DEBUG);
    LOG(LOGLINE_DEBUG, "loud", "said");
    assert_int_equal(count_of("DEBUG loud said"), 1);
    logline_set_level(LOGLINE_ERROR);
    LOG(LOGLINE_WARNING, "quiet", "not said");
    assert_int_equal(count_of("\n"), 1);
}

static void errno_survives_a_line(void **state)
{
    (void)state;
    assert_int_equal(dup2(captured, STDERR_FILENO), STDERR_FILENO);
    (void)close(STDERR_FILENO); /* so that the write fails */
    errno = ENOSPC;
    LOG(LOGLINE_INFO, "lost", "nobody reads this");
    assert_int_equal(errno, ENOSPC);
}

/* --- rate
 * ----------------------------------------------------------------------------------------------------------
 */

static void pass_time(struct logline_site *site, uint64_t ns)
{
    uint64_t last_ns = atomic_load_explicit(&site->window_start_ns, memory_order_relaxed);
    atomic_store_explicit(&site->window_start_ns, last_ns - ns, memory_order_relaxed);
}

static void a_site_says_ten_lines_then_one_a_second_with_the_number_held_back(void **state)
{
    struct logline_site site = {0};
    (void)state;
    for (int i = 0; i < 100; i++) {
        say(&site);
    }
    assert_int_equal(count_of("something\n"), 10);
    pass_time(&site, NS_S);
    say(&site);
    say(&site);
    assert_int_equal(count_of("something (90 like it held back)\n"), 1);
    pass_time(&site, NS_S);
    say(&site);
    assert_int_equal(count_of("something (1 like it held back)\n"), 1);
    assert_int_equal(count_of("\n"), 12);
}

static void a_site_that_rested_has_its_ten_lines_again(void **state)
{
    struct logline_site site = {0};
    (void)state;
    for (int i = 0; i < 20; i++) {
        say(&site);
    }
    pass_time(&site, 10 * NS_S);
    for (int i = 0; i < 20; i++) {
        say(&site);
    }
    assert_int_equal(count_of("\n"), 20);
}

static void one_busy_site_does_not_silence_another(void **state)
{
    struct logline_site busy = {0};
    struct logline_site calm = {0};
    (void)state;
    for (int i = 0; i < 1000; i++) {
        say(&busy);
    }
    logline_write(&calm, LOGLINE_INFO, "calm", "heard");
    assert_int_equal(count_of("calm heard"), 1);
}

/* --- rings
 * ---------------------------------------------------------------------------------------------------------
 */

static void *say_five(void *context)
{
    for (int i = 0; i < 5; i++) {
        logline_write(NULL, LOGLINE_INFO, "thread", "%s line %d", (const char *)context, i);
    }
    return NULL;
}

static void a_line_of_another_thread_waits_for_the_drain(void **state)
{
    (void)state;
    logline_start();
    run_thread(say_five, "a");
    run_thread(say_five, "b");
    assert_int_equal(count_of("\n"), 0);
    assert_int_equal(logline_drain(), 10);
    assert_int_equal(count_of("\n"), 10);
    assert_true(strstr(written(), "a line 0") < strstr(written(), "a line 4"));
    assert_int_equal(logline_drain(), 0);
    logline_stop();
}

static void a_line_of_the_draining_thread_does_not_overtake(void **state)
{
    (void)state;
    logline_start();
    run_thread(say_five, "early");
    logline_write(NULL, LOGLINE_INFO, "main", "late");
    assert_int_equal(count_of("early line 4"), 1);
    assert_true(strstr(written(), "early line 4") < strstr(written(), "main late"));
    logline_stop();
}

static void stop_writes_what_waits_and_goes_back_to_direct(void **state)
{
    (void)state;
    logline_start();
    run_thread(say_five, "last");
    logline_stop();
    assert_int_equal(count_of("\n"), 5);
    run_thread(say_five, "direct");
    assert_int_equal(count_of("\n"), 10);
    logline_start(); /* a second run has rings of its own */
    run_thread(say_five, "again");
    assert_int_equal(logline_drain(), 5);
    logline_stop();
}

static void *say_much(void *context)
{
    unsigned count = *(const unsigned *)context;
    for (unsigned i = 0; i < count; i++) {
        logline_write(NULL, LOGLINE_INFO, "flood", "line %u of a flood that nobody drains", i);
    }
    return NULL;
}

static void a_full_ring_drops_counts_and_never_waits(void **state)
{
    unsigned count = 2000; /* some 80 bytes each: more than twice the ring */
    char expected[64];
    (void)state;
    logline_start();
    run_thread(say_much, &count); /* returns, though nobody drains */
    size_t lines = logline_drain();
    assert_true(lines > 100);
    assert_true(lines < count);
    assert_int_equal(count_of("line 0 of"), 1); /* the first are kept, the later dropped */
    (void)snprintf(expected, sizeof expected, "WARN  log_dropped %zu log lines were dropped",
                   count - lines);
    assert_int_equal(count_of(expected), 1);
    (void)logline_drain();
    assert_int_equal(count_of("log_dropped"), 1); /* said once */
    logline_stop();
}

static void threads_beyond_the_table_are_counted_and_not_heard(void **state)
{
    unsigned count = 1;
    (void)state;
    logline_start();
    for (int i = 0; i < 83; i++) {
        run_thread(say_much, &count);
    }
    assert_int_equal(logline_drain(), 80);
    assert_int_equal(count_of("log_dropped 3 log lines were dropped"), 1);
    logline_stop();
}

static void after_a_panic_every_thread_writes_directly(void **state)
{
    (void)state;
    logline_start();
    run_thread(say_five, "before");
    logline_panic();
    assert_int_equal(count_of("before line"), 5);
    run_thread(say_five, "dying");
    assert_int_equal(count_of("dying line"), 5);
    logline_stop();
}

#define FLOOD_THREADS 4u
#define FLOOD_LINES   2000u

static void threads_and_drain_at_once_lose_nothing_uncounted(void **state)
{
    pthread_t threads[FLOOD_THREADS];
    unsigned count = FLOOD_LINES;
    size_t lines = 0;
    (void)state;
    logline_start();
    for (unsigned i = 0; i < FLOOD_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, say_much, &count), 0);
    }
    for (int i = 0; i < 200; i++) {
        lines += logline_drain();
    }
    for (unsigned i = 0; i < FLOOD_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    lines += logline_drain();
    size_t dropped = 0;
    for (const char *p = strstr(written(), "log_dropped "); p != NULL;
         p = strstr(p + 1, "log_dropped ")) {
        unsigned long long n = 0;
        assert_int_equal(sscanf(p, "log_dropped %llu", &n), 1);
        dropped += n;
    }
    assert_int_equal(lines + dropped, FLOOD_THREADS * FLOOD_LINES);
    assert_int_equal(count_of("INFO  flood line "), lines);
    logline_stop();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_text_line_has_time_level_event_and_message),
        TEST(a_json_line_has_the_same_parts),
        TEST(a_message_with_controls_stays_one_line),
        TEST(a_json_message_is_escaped_and_valid_utf8),
        TEST(the_longest_message_of_the_worst_bytes_is_cut_and_closed),
        TEST(a_level_below_the_least_is_silent_and_can_be_changed),
        TEST(errno_survives_a_line),
        TEST(a_site_says_ten_lines_then_one_a_second_with_the_number_held_back),
        TEST(a_site_that_rested_has_its_ten_lines_again),
        TEST(one_busy_site_does_not_silence_another),
        TEST(a_line_of_another_thread_waits_for_the_drain),
        TEST(a_line_of_the_draining_thread_does_not_overtake),
        TEST(stop_writes_what_waits_and_goes_back_to_direct),
        TEST(a_full_ring_drops_counts_and_never_waits),
        TEST(threads_beyond_the_table_are_counted_and_not_heard),
        TEST(after_a_panic_every_thread_writes_directly),
        TEST(threads_and_drain_at_once_lose_nothing_uncounted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
