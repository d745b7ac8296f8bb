/*
 * What a configuration promises: each source has its weight, every problem is said at once with
 * where it came from, and what is printed reads back to the same values.
 */
#include "core/config.h"

#include "core/config_table.h"
#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* One load at a time; the file lives in memory and is named by its descriptor. */
static struct {
    struct config config;
    struct config_problems problems;
    struct config_sources sources;
    char path[64];
    int fd;
    char listing[MIB(2)];
} fixture;

static int set_up(void **state)
{
    (void)state;
    memset(&fixture, 0, sizeof fixture);
    fixture.fd = -1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (fixture.fd >= 0) {
        (void)close(fixture.fd);
    }
    return 0;
}

static void file_bytes(const char *text, size_t bytes)
{
    fixture.fd = memfd_create("sluice.conf", MFD_CLOEXEC);
    assert_true(fixture.fd >= 0);
    assert_int_equal(write(fixture.fd, text, bytes), bytes);
    (void)snprintf(fixture.path, sizeof fixture.path, "/proc/self/fd/%d", fixture.fd);
    fixture.sources.file = fixture.path;
}

static void file(const char *text)
{
    file_bytes(text, strlen(text));
}

#define environment(...)                                                                           \
    fixture.sources.environment = (char *[])                                                       \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define flags(...)                                                                                 \
    fixture.sources.sets = (const char *[]){__VA_ARGS__},                                          \
    fixture.sources.set_count = sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)

static int load(void)
{
    return config_load(&fixture.config, &fixture.sources, &fixture.problems);
}

static void expect_accepted(void)
{
    int r = load();
    if (r != 0) {
        print_error("%s\n", fixture.problems.text[0]);
    }
    assert_int_equal(r, 0);
    assert_int_equal(fixture.problems.count, 0);
}

static bool has_problem(const char *text)
{
    for (unsigned i = 0; i < fixture.problems.count && i < CONFIG_PROBLEMS_MAX; i++) {
        if (strstr(fixture.problems.text[i], text) != NULL) {
            return true;
        }
    }
    return false;
}

static void expect_problem(const char *text)
{
    if (!has_problem(text)) {
        print_error("no problem says: %s\n", text);
        for (unsigned i = 0; i < fixture.problems.count && i < CONFIG_PROBLEMS_MAX; i++) {
            print_error("  %s\n", fixture.problems.text[i]);
        }
        fail();
    }
}

static void expect_refused(unsigned count, const char *text)
{
    assert_int_equal(load(), -EINVAL);
    expect_problem(text);
    assert_int_equal(fixture.problems.count, count);
}

/* "file:line: text" */
static void expect_problem_at(unsigned line, const char *text)
{
    char whole[512];
    (void)snprintf(whole, sizeof whole, "%s:%u: %s", fixture.path, line, text);
    expect_problem(whole);
}

static const char *listing(bool is_json)
{
    struct buf out;
    buf_init(&out, fixture.listing, sizeof fixture.listing - 1);
    config_print(&out, &fixture.config, &fixture.sources, is_json);
    assert_false(out.is_truncated);
    fixture.listing[out.bytes] = '\0';
    return fixture.listing;
}

/* --- values
 * --------------------------------------------------------------------------------------------------------
 */

static void expect_size(const char *text, uint64_t bytes)
{
    uint64_t value = 1;
    assert_int_equal(config_parse_size(&value, text), 0);
    assert_int_equal(value, bytes);
}

static void expect_time(const char *text, uint64_t ns)
{
    uint64_t value = 1;
    assert_int_equal(config_parse_time(&value, text), 0);
    assert_int_equal(value, ns);
}

static void sizes_have_units_of_1024(void **state)
{
    (void)state;
    expect_size("0", 0);
    expect_size("500", 500);
    expect_size("16K", 16384);
    expect_size("64M", MIB(64));
    expect_size("3G", 3 * MIB(1024));
    expect_size("2T", 2 * MIB(1024 * 1024));
    expect_size("18446744073709551615", UINT64_MAX);
}

static void times_have_units_and_zero_needs_none(void **state)
{
    (void)state;
    expect_time("0", 0);
    expect_time("7ns", 7);
    expect_time("500us", 500 * NS_US);
    expect_time("20ms", 20 * NS_MS);
    expect_time("5s", 5 * NS_S);
    expect_time("3m", 180 * NS_S);
    expect_time("24h", 86400 * NS_S);
    expect_time("30d", 30 * 86400 * NS_S);
}

static void what_is_no_size_is_refused_and_leaves_the_value(void **state)
{
    static const char *const wrong[] = {"",
                                        "M",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1 M",
                                        "1.5M",
                                        "1MB",
                                        "0x10",
                                        "1m",
                                        "1k",
                                        "abc",
                                        "1MM",
                                        "18446744073709551616",
                                        "18014398509481984K",
                                        "16777216T",
                                        "99999999999999999999"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint64_t value = 42;
        assert_int_equal(config_parse_size(&value, wrong[i]), -EINVAL);
        assert_int_equal(value, 42);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    static const char *const wrong[] = {"",   "s",    "5",    "-5s",     "5 s",
                                        "5S", "5sec", "1.5s", "213504d", "18446744073709551616ns"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        uint64_t value = 42;
        assert_int_equal(config_parse_time(&value, wrong[i]), -EINVAL);
        assert_int_equal(value, 42);
    }
}

/* Puts text so that its NUL is the last byte before a page that cannot be read. */
static const char *at_guard(char *page_end, const char *text, size_t bytes)
{
    char *start = page_end - bytes - 1;
    memcpy(start, text, bytes);
    start[bytes] = '\0';
    return start;
}

static void no_value_is_read_beyond_its_end_however_it_is_cut(void **state)
{
    static const char *const samples[] = {"127.0.0.1:8080, [::1]:8081,:0",
                                          "64M",
                                          "500us",
                                          "0.125",
                                          "quarantine",
                                          "false",
                                          "auto",
                                          ",",
                                          ":",
                                          "[",
                                          "[]:",
                                          "\xff\xfe",
                                          "1e9",
                                          "...",
                                          "[::1:80",
                                          "host:99999"};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mprotect(memory + page, page, PROT_NONE), 0);
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        for (size_t bytes = 0; bytes <= strlen(samples[i]); bytes++) {
            const char *text = at_guard(memory + page, samples[i], bytes);
            for (size_t key = 0; key < config_table_count; key++) {
                struct err reason = {.code = 0};
                int r = config_value_set(&fixture.config, &config_table[key], text, &reason);
                assert_true(r == 0 || (r == -EINVAL && reason.text[0] != '\0'));
            }
        }
    }
    assert_int_equal(munmap(memory, 2 * page), 0);
}

static void expect_listen(const char *text, bool is_good)
{
    struct err reason = {.code = 0};
    int r = config_value_set(&fixture.config, config_table_find("server.listen"), text, &reason);
    if ((r == 0) != is_good) {
        print_error("'%s' gave %d: %s\n", text, r, reason.text);
    }
    assert_int_equal(r, is_good ? 0 : -EINVAL);
}

static void addresses_are_host_and_port(void **state)
{
    (void)state;
    expect_listen("127.0.0.1:8080", true);
    expect_listen(":8080", true);
    expect_listen("[::1]:8080", true);
    expect_listen("example.org:0,example.org:0", true); /* port 0 is a new port each time */
    expect_listen(" a:1 ,\tb:2 ", true);
    assert_int_equal(fixture.config.listen_count, 2);
    assert_string_equal(fixture.config.listen[1], "b:2");
    expect_listen("", false);
    expect_listen("8080", false);
    expect_listen("host:", false);
    expect_listen("host:65536", false);
    expect_listen("host:8080x", false);
    expect_listen("::1:8080", false);
    expect_listen("a:1,", false);
    expect_listen("a:1,,b:2", false);
    expect_listen("a:1,b:2,a:1", false);
    expect_listen("http://a:1", false);
    assert_string_equal(fixture.config.listen[1], "b:2"); /* a refused list changes nothing */
    assert_int_equal(fixture.config.listen_count, 2);
}

static void more_addresses_than_fit_are_refused(void **state)
{
    char text[CONFIG_VALUE_BYTES] = "a:1";
    (void)state;
    for (int i = 2; i <= CONFIG_LISTEN_MAX; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, ",a:%d", i);
    }
    expect_listen(text, true);
    assert_int_equal(fixture.config.listen_count, CONFIG_LISTEN_MAX);
    size_t used = strlen(text);
    (void)snprintf(text + used, sizeof text - used, ",a:99");
    expect_listen(text, false);
}

/* --- defaults and printing
 * ----------------------------------------------------------------------------------------- */

static void defaults_are_the_documented_ones(void **state)
{
    (void)state;
    expect_accepted();
    const struct config *config = &fixture.config;
    assert_int_equal(config->listen_count, 1);
    assert_string_equal(config->listen[0], "127.0.0.1:8080");
    assert_int_equal(config->shards, 0);
    assert_int_equal(config->io, CONFIG_IO_AUTO);
    assert_int_equal(config->max_body, MIB(16));
    assert_int_equal(config->max_head, KIB(16));
    assert_int_equal(config->max_connections, 10000);
    assert_int_equal(config->stop_timeout_ns, 30 * NS_S);
    assert_string_equal(config->data_dir, "./data");
    assert_string_equal(config->runs_db, "./data/runs.sqlite");
    assert_int_equal(config->segment_bytes, MIB(64));
    assert_false(config->ack_memory);
    assert_int_equal(config->retention_age_ns, 30 * 86400 * NS_S);
    assert_int_equal(config->retention_bytes, 100 * MIB(1024));
    assert_int_equal(config->dedup_ttl_ns, 86400 * NS_S);
    assert_int_equal(config->commit_pause_ns, 0);
    assert_float_equal(config->throttle_rate, 0.5, 0);
    assert_int_equal(config->rate_limit_rpm, 60);
    assert_string_equal(config->cors_origins, "*");
    assert_int_equal(config->log_level, 1);
    assert_int_equal(config->generation, 1);
}

static void the_listing_reads_back_to_the_same_values(void **state)
{
    (void)state;
    flags("server.listen=a:1,[::1]:2", "server.io=epoll", "server.max_body=3000001",
          "store.ack=memory", "store.on_corruption=refuse", "throttle.rate=0.125",
          "store.commit_pause=1500us", "log.level=error", "cors.origins=https://a, https://b",
          "server.pin=yes", "store.retention_age=0");
    expect_accepted();
    struct config before = fixture.config;
    (void)listing(false);
    memset(&fixture.sources, 0, sizeof fixture.sources);
    file(fixture.listing);
    expect_accepted();
    assert_memory_equal(&before, &fixture.config, sizeof before);
}

static void the_listing_says_where_each_value_came_from(void **state)
{
    (void)state;
    file("[store]\nack = memory\n");
    environment("SLUICE_SERVER_SHARDS=3");
    flags("log.level=debug");
    expect_accepted();
    char from_file[96];
    (void)snprintf(from_file, sizeof from_file, "; %s:2: ", fixture.path);
    (void)listing(false);
    assert_non_null(strstr(fixture.listing, from_file));
    assert_non_null(strstr(fixture.listing, "; SLUICE_SERVER_SHARDS: "));
    assert_non_null(strstr(fixture.listing, "; command line: "));
    assert_non_null(strstr(fixture.listing, "max_body = 16M "));
    assert_non_null(strstr(
        listing(true), "\"server.shards\":{\"value\":\"3\",\"origin\":\"SLUICE_SERVER_SHARDS\""));
}

/* --- file
 * ----------------------------------------------------------------------------------------------------------
 */

static void every_problem_of_a_file_is_listed_with_its_line(void **state)
{
    (void)state;
    file("[server]\n"
         "max_body = abc\n"
         "junk\n"
         "pin = perhaps\n"
         "[store\n"
         "[store]\n"
         "segment_bytes = 64M\n"
         "segment_bytes = 128M\n"
         "ack = never\n");
    assert_int_equal(load(), -EINVAL);
    expect_problem_at(2, "server.max_body: 'abc' is not a size (use e.g. 64M; units K M G T)");
    expect_problem_at(3, "neither [section] nor key = value");
    expect_problem_at(4, "server.pin: 'perhaps' is not true or false");
    expect_problem_at(5, "the section has no ']'");
    expect_problem_at(8, "store.segment_bytes: was set on line 7 already");
    expect_problem_at(9, "store.ack: 'never' is not one of: durable, memory");
    assert_int_equal(fixture.problems.count, 6);
}

static void an_indented_key_is_a_key_and_not_more_of_the_one_before(void **state)
{
    (void)state;
    file("\xEF\xBB\xBF[server]\r\n  io = epoll\r\n\tshards = 2\r\n# a comment\r\n  ; another\r\n  "
         "pin = on ; and this\r\n");
    expect_accepted();
    assert_int_equal(fixture.config.io, CONFIG_IO_EPOLL);
    assert_int_equal(fixture.config.shards, 2);
    assert_true(fixture.config.pin);
}

static void listen_grows_with_each_line(void **state)
{
    (void)state;
    file("[server]\nlisten = a:1\nlisten = b:2, c:3\n");
    expect_accepted();
    assert_int_equal(fixture.config.listen_count, 3);
    assert_string_equal(fixture.config.listen[2], "c:3");
}

static void a_line_too_long_for_the_reader_is_said_and_the_next_is_read(void **state)
{
    static char text[16384];
    (void)state;
    (void)snprintf(text, sizeof text,
                   "[store]\n# %05000d\ndata_dir = %05000d\nack = memory ; %05000d\n", 1, 2, 3);
    file(text);
    assert_int_equal(load(), -EINVAL);
    assert_int_equal(fixture.problems.count, 1);
    expect_problem_at(3, "the line is longer than the 4415 bytes it may have");
    assert_true(fixture.config.ack_memory);
}

static void a_file_without_its_last_newline_is_read_to_its_end(void **state)
{
    (void)state;
    file("[store]\nack = memory");
    expect_accepted();
    assert_true(fixture.config.ack_memory);
}

static void every_truncation_of_a_file_is_read_or_refused_in_words(void **state)
{
    static const char text[] =
        "[server]\nlisten = 127.0.0.1:80\n[store]\nsegment_bytes = 128M ; c\n[sink \"a\"]\nurl=x\n";
    (void)state;
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        file_bytes(text, bytes);
        int r = load();
        assert_true(r == 0 || fixture.problems.count > 0);
        (void)close(fixture.fd);
        fixture.fd = -1;
    }
}

static void bytes_that_are_no_text_are_refused(void **state)
{
    static const char text[] = "[store]\nack = mem\0ory\n";
    (void)state;
    file_bytes(text, sizeof text - 1);
    assert_int_equal(load(), -EINVAL);
    expect_problem_at(2, "the line contains a NUL byte");
}

static void a_file_that_is_not_there_is_a_problem(void **state)
{
    (void)state;
    fixture.sources.file = "/nonexistent/sluice.conf";
    expect_refused(1, "/nonexistent/sluice.conf: cannot open");
}

static void a_directory_is_no_configuration(void **state)
{
    (void)state;
    fixture.sources.file = "/";
    expect_refused(1, "cannot read");
}

static void an_unknown_key_names_the_nearest(void **state)
{
    (void)state;
    file("[store]\nsegmnt_bytes = 64M\n");
    assert_int_equal(load(), -EINVAL);
    expect_problem_at(2, "store.segmnt_bytes: no such key; did you mean store.segment_bytes?");
}

static void a_key_without_its_section_names_the_one_it_has(void **state)
{
    (void)state;
    flags("max_body=1M");
    expect_refused(1, "command line: max_body: no such key; did you mean server.max_body?");
}

static void a_key_like_no_other_points_to_the_list(void **state)
{
    (void)state;
    flags("zzzzzzzz.qqqqqqq=1");
    expect_refused(1, "no such key; `sluice config` lists them");
}

static void sinks_are_accepted_in_every_spelling(void **state)
{
    (void)state;
    file("[sink.a]\ntype = http\nurl = http://a\n[sink \"b\"]\nurl = http://x\ntype = influx\n"
         "[sink]\nc.type = file\nc.path = c\n");
    environment("SLUICE_SINK_D_TYPE=s3", "SLUICE_SINK_D_URL=http://d");
    flags("sink.e.url=http://e", "sink.e.type=sluice");
    expect_accepted();
    assert_int_equal(fixture.config.sink_count, 5);
}

static void a_flag_without_a_value_is_a_problem(void **state)
{
    (void)state;
    flags("server.pin", "=1");
    expect_refused(2, "command line: 'server.pin' is not section.key=value");
}

/* --- environment
 * ---------------------------------------------------------------------------------------------------
 */

static void flags_win_over_environment_over_file_over_defaults(void **state)
{
    (void)state;
    file("[server]\nmax_connections = 2\npipeline_max = 2\nshards = 2\n");
    environment("SLUICE_SERVER_PIPELINE_MAX=3", "SLUICE_SERVER_SHARDS=3");
    flags("server.shards=4");
    expect_accepted();
    assert_int_equal(fixture.config.recv_buffers, 512);
    assert_int_equal(fixture.config.max_connections, 2);
    assert_int_equal(fixture.config.pipeline_max, 3);
    assert_int_equal(fixture.config.shards, 4);
}

static void every_key_has_a_variable_of_its_own(void **state)
{
    char names[CONFIG_KEYS_MAX][CONFIG_VARIABLE_BYTES];
    (void)state;
    for (size_t i = 0; i < config_table_count; i++) {
        config_table_variable(names[i], &config_table[i]);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(names[i], names[j]);
        }
        char entry[CONFIG_VARIABLE_BYTES + 128];
        char origin[CONFIG_VARIABLE_BYTES + 8];
        (void)snprintf(entry, sizeof entry, "%.48s=%.120s", names[i], config_table[i].initial);
        (void)snprintf(origin, sizeof origin, "; %.48s: ", names[i]);
        char *variables[] = {entry, NULL};
        fixture.sources.environment = variables;
        expect_accepted();
        assert_non_null(strstr(listing(false), origin));
        fixture.sources.environment = NULL;
    }
}

static void an_unknown_sluice_variable_names_the_nearest(void **state)
{
    (void)state;
    environment("SLUICE_STORE_DATADIR=/x", "SLUICE_TEST_SEED=1", "SLUICE_MEM_LATCH=1", "PATH=/bin");
    expect_refused(1, "SLUICE_STORE_DATADIR: no such key; did you mean SLUICE_STORE_DATA_DIR?");
}

static void a_wrong_value_names_its_variable(void **state)
{
    (void)state;
    environment("LOG_LEVEL=loud", "SLUICE_SERVER_MAX_BODY=1X", "TELEMETRY_RETENTION_DAYS=many");
    expect_refused(3, "LOG_LEVEL: log.level: 'loud' is not one of: debug, info, warning, error");
    expect_problem("SLUICE_SERVER_MAX_BODY: server.max_body: '1X' is not a size");
    expect_problem("TELEMETRY_RETENTION_DAYS: store.retention_age: 'manyd' is not a time");
}

static void brought_names_set_their_keys(void **state)
{
    (void)state;
    environment("TELEMETRY_BASE_DIR=/t", "TELEMETRY_DB_PATH=/t/r.db",
                "TELEMETRY_RATE_LIMIT_ENABLED=true", "TELEMETRY_RATE_LIMIT_RPM=90",
                "TELEMETRY_RETENTION_DAYS=7", "LOG_LEVEL=WARN", "THROTTLE_ENABLED=1",
                "THROTTLE_MAX_QUEUE_DEPTH=500", "THROTTLE_RATE=0.25", "TELEMETRY_API_WORKERS=1",
                "TELEMETRY_DB_SYNCHRONOUS=full", "TELEMETRY_DB_JOURNAL_MODE=delete",
                "MAX_UPLOAD_SIZE=1", "PORT=");
    expect_accepted();
    assert_int_equal(fixture.problems.warning_count, 0);
    assert_string_equal(fixture.config.data_dir, "/t");
    assert_string_equal(fixture.config.runs_db, "/t/r.db");
    assert_true(fixture.config.rate_limit_enabled);
    assert_int_equal(fixture.config.rate_limit_rpm, 90);
    assert_int_equal(fixture.config.retention_age_ns, 7 * 86400 * NS_S);
    assert_int_equal(fixture.config.log_level, 2);
    assert_true(fixture.config.throttle_enabled);
    assert_int_equal(fixture.config.throttle_max_queue_depth, 500);
    assert_float_equal(fixture.config.throttle_rate, 0.25, 0);
    assert_string_equal(fixture.config.listen[0], "127.0.0.1:8080"); /* PORT= is not set */
}

static void brought_ports_are_all_served_on_the_brought_host(void **state)
{
    (void)state;
    environment("TELEMETRY_API_PORT=8765", "HTTP_PORT=8080", "GATEWAY_PORT=8081", "PORT=8080",
                "TELEMETRY_API_HOST=::");
    expect_accepted();
    assert_int_equal(fixture.config.listen_count, 3);
    assert_string_equal(fixture.config.listen[0], "[::]:8765");
    assert_string_equal(fixture.config.listen[1], "[::]:8080");
    assert_string_equal(fixture.config.listen[2], "[::]:8081");
}

static void a_brought_port_alone_stays_on_the_loopback(void **state)
{
    (void)state;
    environment("PORT=7001");
    expect_accepted();
    assert_int_equal(fixture.config.listen_count, 1);
    assert_string_equal(fixture.config.listen[0], "127.0.0.1:7001");
}

static void a_brought_host_alone_keeps_the_port(void **state)
{
    (void)state;
    environment("TELEMETRY_API_HOST=0.0.0.0");
    expect_accepted();
    assert_string_equal(fixture.config.listen[0], "0.0.0.0:8080");
}

static void a_brought_port_that_is_none_is_refused(void **state)
{
    (void)state;
    environment("HTTP_PORT=http", "PORT=70000");
    assert_int_equal(load(), -EINVAL);
    expect_problem("HTTP_PORT: 'http' is not a port");
    expect_problem("PORT: ");
}

static void names_that_disagree_are_both_named(void **state)
{
    (void)state;
    environment("SLUICE_LOG_LEVEL=debug", "LOG_LEVEL=info", "PORT=1",
                "SLUICE_SERVER_LISTEN=127.0.0.1:2");
    expect_refused(
        2, "LOG_LEVEL says info and SLUICE_LOG_LEVEL says debug for log.level: unset one of them");
    expect_problem(
        "PORT says 127.0.0.1:1 and SLUICE_SERVER_LISTEN says 127.0.0.1:2 for server.listen");
}

static void names_that_agree_in_other_words_are_no_conflict(void **state)
{
    (void)state;
    environment("SLUICE_LOG_LEVEL=warning", "LOG_LEVEL=WARN", "TELEMETRY_RETENTION_DAYS=1",
                "SLUICE_STORE_RETENTION_AGE=24h");
    expect_accepted();
}

static void promises_that_sluice_cannot_keep_are_refused_or_said(void **state)
{
    (void)state;
    environment("TELEMETRY_API_WORKERS=4", "TELEMETRY_DB_SYNCHRONOUS=NORMAL",
                "TELEMETRY_DB_JOURNAL_MODE=WAL");
    expect_refused(2, "TELEMETRY_API_WORKERS: must be 1");
    expect_problem("TELEMETRY_DB_SYNCHRONOUS: must be FULL");
    assert_int_equal(fixture.problems.warning_count, 1);
    assert_non_null(strstr(fixture.problems.warnings[0], "TELEMETRY_DB_JOURNAL_MODE"));
}

/* --- relations
 * -----------------------------------------------------------------------------------------------------
 */

static void
a_segment_that_cannot_hold_one_request_is_refused_with_the_size_that_would_do(void **state)
{
    (void)state;
    flags("store.segment_bytes=32M");
    expect_refused(1, "command line: store.segment_bytes: too small");
    expect_problem("set at least 33M, or lower server.max_body");
    flags("store.segment_bytes=33M");
    expect_accepted();
    flags("store.segment_bytes=34603009");
    expect_refused(1, "must be a multiple of 4K");
}

static void relations_of_a_refused_value_are_not_judged(void **state)
{
    (void)state;
    flags("store.segment_bytes=abc", "server.max_body=100M", "server.buffer_memory=128M");
    expect_refused(1, "store.segment_bytes: 'abc' is not a size");
}

static void buffers_must_hold_a_body_and_be_powers_of_two(void **state)
{
    (void)state;
    flags("server.max_body=40M", "store.segment_bytes=128M", "server.buffer_memory=32M");
    expect_refused(
        1, "server.buffer_memory: cannot hold one request of server.max_body: set at least 64M");
    flags("server.buffer_memory=48M", "server.recv_buffers=1000");
    expect_refused(2, "server.buffer_memory: must be a power of two");
    expect_problem("server.recv_buffers: must be a power of two");
}

static void batches_and_retention_must_fit_the_segment(void **state)
{
    (void)state;
    flags("store.batch_bytes=64M", "store.retention_bytes=100M");
    expect_refused(2,
                   "store.batch_bytes: a batch must fit in store.segment_bytes: set at most 63M");
    expect_problem("store.retention_bytes: the log needs room for two segments: set at least 128M");
}

static void values_out_of_bounds_name_the_bounds(void **state)
{
    (void)state;
    flags("server.max_connections=0", "server.shards=65", "throttle.rate=1.5",
          "store.commit_pause=1s");
    expect_refused(4, "server.max_connections: 0 is out of bounds (1 to 1000000)");
    expect_problem("server.shards: 65 is out of bounds (auto to 64)");
    expect_problem("throttle.rate: 1.5 is out of bounds (0.001 to 1)");
    expect_problem("store.commit_pause: 1s is out of bounds (0 to 100ms)");
}

static void auth_without_tokens_would_lock_everybody_out(void **state)
{
    (void)state;
    flags("auth.enabled=true");
    expect_refused(1, "auth.enabled: nobody could get in");
    flags("auth.enabled=true", "auth.tokens=/etc/sluice/tokens");
    expect_accepted();
}

static void the_runs_database_follows_the_data_directory(void **state)
{
    char long_dir[CONFIG_TEXT_BYTES + 32];
    (void)state;
    flags("store.data_dir=/var/lib/sluice");
    expect_accepted();
    assert_string_equal(fixture.config.runs_db, "/var/lib/sluice/runs.sqlite");
    (void)snprintf(long_dir, sizeof long_dir, "store.data_dir=/%0250d", 0);
    flags(long_dir);
    expect_refused(1, "too long for the files below it");
}

static void more_problems_than_fit_are_counted(void **state)
{
    char text[4096] = "[server]\n";
    (void)state;
    for (int i = 0; i < CONFIG_PROBLEMS_MAX + 8; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, "wrong%d = 1\n", i);
    }
    file(text);
    expect_refused(CONFIG_PROBLEMS_MAX + 8, "server.wrong0");
}

static void reload_takes_what_may_change_and_names_the_rest(void **state)
{
    char applied_text[256];
    char ignored_text[256];
    struct buf applied;
    struct buf ignored;
    (void)state;
    expect_accepted();
    struct config running = fixture.config;
    flags("log.level=debug", "throttle.enabled=true", "server.shards=3",
          "store.data_dir=/elsewhere");
    expect_accepted();
    buf_init(&applied, applied_text, sizeof applied_text - 1);
    buf_init(&ignored, ignored_text, sizeof ignored_text - 1);
    config_apply_reload(&running, &fixture.config, &applied, &ignored);
    applied_text[applied.bytes] = '\0';
    ignored_text[ignored.bytes] = '\0';
    assert_string_equal(applied_text, "throttle.enabled, log.level");
    assert_string_equal(ignored_text, "server.shards, store.data_dir, runs.db");
    assert_int_equal(running.log_level, 0);
    assert_true(running.throttle_enabled);
    assert_int_equal(running.shards, 0);
    assert_string_equal(running.data_dir, "./data");
    assert_int_equal(running.generation, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sizes_have_units_of_1024),
        TEST(times_have_units_and_zero_needs_none),
        TEST(what_is_no_size_is_refused_and_leaves_the_value),
        TEST(what_is_no_time_is_refused),
        TEST(no_value_is_read_beyond_its_end_however_it_is_cut),
        TEST(addresses_are_host_and_port),
        TEST(more_addresses_than_fit_are_refused),
        TEST(defaults_are_the_documented_ones),
        TEST(the_listing_reads_back_to_the_same_values),
        TEST(the_listing_says_where_each_value_came_from),
        TEST(every_problem_of_a_file_is_listed_with_its_line),
        TEST(an_indented_key_is_a_key_and_not_more_of_the_one_before),
        TEST(listen_grows_with_each_line),
        TEST(a_line_too_long_for_the_reader_is_said_and_the_next_is_read),
        TEST(a_file_without_its_last_newline_is_read_to_its_end),
        TEST(every_truncation_of_a_file_is_read_or_refused_in_words),
        TEST(bytes_that_are_no_text_are_refused),
        TEST(a_file_that_is_not_there_is_a_problem),
        TEST(a_directory_is_no_configuration),
        TEST(an_unknown_key_names_the_nearest),
        TEST(a_key_without_its_section_names_the_one_it_has),
        TEST(a_key_like_no_other_points_to_the_list),
        TEST(sinks_are_accepted_in_every_spelling),
        TEST(a_flag_without_a_value_is_a_problem),
        TEST(flags_win_over_environment_over_file_over_defaults),
        TEST(every_key_has_a_variable_of_its_own),
        TEST(an_unknown_sluice_variable_names_the_nearest),
        TEST(a_wrong_value_names_its_variable),
        TEST(brought_names_set_their_keys),
        TEST(brought_ports_are_all_served_on_the_brought_host),
        TEST(a_brought_port_alone_stays_on_the_loopback),
        TEST(a_brought_host_alone_keeps_the_port),
        TEST(a_brought_port_that_is_none_is_refused),
        TEST(names_that_disagree_are_both_named),
        TEST(names_that_agree_in_other_words_are_no_conflict),
        TEST(promises_that_sluice_cannot_keep_are_refused_or_said),
        TEST(a_segment_that_cannot_hold_one_request_is_refused_with_the_size_that_would_do),
        TEST(relations_of_a_refused_value_are_not_judged),
        TEST(buffers_must_hold_a_body_and_be_powers_of_two),
        TEST(batches_and_retention_must_fit_the_segment),
        TEST(values_out_of_bounds_name_the_bounds),
        TEST(auth_without_tokens_would_lock_everybody_out),
        TEST(the_runs_database_follows_the_data_directory),
        TEST(more_problems_than_fit_are_counted),
        TEST(reload_takes_what_may_change_and_names_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
