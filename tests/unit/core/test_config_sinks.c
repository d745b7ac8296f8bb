/*
 * What the configuration of sinks and pollers promises: every source can say it, every mistake is found
 * before anything starts and named with its place and a remedy, no secret is ever printed, and what is
 * printed reads back to the same values.
 */
#include "core/config.h"

#include "core/config_table.h"
#include "core/mem.h"
#include "store/format.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
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

static struct {
    struct config config;
    struct config other;
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

static void file_close(void)
{
    if (fixture.fd >= 0) {
        (void)close(fixture.fd);
    }
    fixture.fd = -1;
}

static int tear_down(void **state)
{
    (void)state;
    file_close();
    return 0;
}

static void file_bytes(const char *text, size_t bytes)
{
    file_close();
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

static void show_problems(void)
{
    for (unsigned i = 0; i < fixture.problems.count && i < CONFIG_PROBLEMS_MAX; i++) {
        print_error("  %s\n", fixture.problems.text[i]);
    }
}

static void expect_accepted(void)
{
    if (load() != 0) {
        show_problems();
        fail();
    }
    assert_int_equal(fixture.problems.count, 0);
}

static void expect_problem(const char *text)
{
    for (unsigned i = 0; i < fixture.problems.count && i < CONFIG_PROBLEMS_MAX; i++) {
        if (strstr(fixture.problems.text[i], text) != NULL) {
            return;
        }
    }
    print_error("no problem says: %s\n", text);
    show_problems();
    fail();
}

static void expect_refused(unsigned count, const char *text)
{
    assert_int_equal(load(), -EINVAL);
    expect_problem(text);
    if (fixture.problems.count != count) {
        show_problems();
    }
    assert_int_equal(fixture.problems.count, count);
}

static void expect_warning(const char *text)
{
    for (unsigned i = 0; i < fixture.problems.warning_count && i < CONFIG_WARNINGS_MAX; i++) {
        if (strstr(fixture.problems.warnings[i], text) != NULL) {
            return;
        }
    }
    print_error("no warning says: %s\n", text);
    fail();
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

static const struct config_sink *sink(const char *name)
{
    for (unsigned i = 0; i < fixture.config.sink_count; i++) {
        if (strcmp(fixture.config.sinks[i].name, name) == 0) {
            return &fixture.config.sinks[i];
        }
    }
    fail_msg("no sink %s", name);
    return NULL;
}

#define HTTP "[sink.a]\ntype = http\nurl = https://h/x\n"

/* --- sources --- */

static void a_sink_has_the_documented_defaults(void **state)
{
    (void)state;
    file(HTTP);
    expect_accepted();
    const struct config_sink *a = sink("a");
    assert_int_equal(a->type, SINK_HTTP);
    assert_string_equal(a->url, "https://h/x");
    assert_int_equal(a->kinds, 0x3E);
    assert_int_equal(a->from, SINK_FROM_BEGIN);
    assert_int_equal(a->format, SINK_NDJSON);
    assert_int_equal(a->record, SINK_RECORD_META);
    assert_int_equal(a->compression, SINK_IDENTITY);
    assert_int_equal(a->batch_bytes, MIB(1));
    assert_int_equal(a->batch_records, 5000);
    assert_int_equal(a->linger_ns, 200 * NS_MS);
    assert_int_equal(a->connections, 4);
    assert_int_equal(a->rate, 0);
    assert_int_equal(a->timeout_ns, 30 * NS_S);
    assert_int_equal(a->connect_timeout_ns, 5 * NS_S);
    assert_int_equal(a->backoff_min_ns, 250 * NS_MS);
    assert_int_equal(a->backoff_max_ns, 60 * NS_S);
    assert_int_equal(a->breaker_failures, 5);
    assert_int_equal(a->pause_retry_ns, 60 * NS_S);
    assert_int_equal(a->rotate_bytes, MIB(64));
    assert_int_equal(a->rotate_age_ns, 24 * 3600 * NS_S);
    assert_int_equal(a->rotate_keep, 0);
    assert_true(a->verify);
}

static void a_poller_has_the_documented_defaults(void **state)
{
    (void)state;
    file("[poller.steps]\nconninfo = host=db user=u passfile=/p\ntable = public.agent_metrics\n");
    expect_accepted();
    const struct config_poller *p = &fixture.config.pollers[0];
    assert_int_equal(fixture.config.poller_count, 1);
    assert_string_equal(p->name, "steps");
    assert_string_equal(p->conninfo, "host=db user=u passfile=/p");
    assert_int_equal(p->layout, POLLER_NARROW);
    assert_string_equal(p->time_column, "time");
    assert_string_equal(p->step_column, "agent_step");
    assert_string_equal(p->metric_column, "metric");
    assert_string_equal(p->value_column, "value");
    assert_string_equal(p->service, "steps");
    assert_int_equal(p->interval_ns, 5 * NS_S);
    assert_int_equal(p->rows_max, 1000);
    assert_int_equal(p->statement_timeout_ns, 5 * NS_S);
    assert_int_equal(p->settle_ns, 5 * NS_S);
}

static void flags_win_over_environment_over_file(void **state)
{
    (void)state;
    file(HTTP "connections = 2\nbatch_records = 2\nlinger = 2s\n");
    environment("SLUICE_SINK_A_BATCH_RECORDS=3", "SLUICE_SINK_A_LINGER=3s");
    flags("sink.a.linger=4s");
    expect_accepted();
    assert_int_equal(sink("a")->connections, 2);
    assert_int_equal(sink("a")->batch_records, 3);
    assert_int_equal(sink("a")->linger_ns, 4 * NS_S);
}

static void every_key_can_be_said_by_every_source(void **state)
{
    (void)state;
    for (size_t f = 0; f < CONFIG_FAMILY_COUNT; f++) {
        const struct config_family *family = &config_families[f];
        for (size_t i = 0; i < family->key_count; i++) {
            const struct config_key *key = &family->keys[i];
            const char *value = key->initial[0] != '\0' ? key->initial : "file";
            char text[256];
            char variable[256];
            char flag[256];
            (void)snprintf(text, sizeof text, "[%s.a-1]\n%s = %s\n", family->name, key->name,
                           value);
            (void)snprintf(variable, sizeof variable, "%sA_1_%s=%s", family->variable, key->name,
                           value);
            for (char *p = variable; *p != '='; p++) {
                *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
            }
            (void)snprintf(flag, sizeof flag, "%s.a-1.%s=%s", family->name, key->name, value);
            for (int source = 0; source < 3; source++) {
                memset(&fixture.sources, 0, sizeof fixture.sources);
                char *variables[] = {variable, NULL};
                const char *sets[] = {flag};
                if (source == 0) {
                    file(text);
                } else if (source == 1) {
                    fixture.sources.environment = variables;
                } else {
                    fixture.sources.sets = sets;
                    fixture.sources.set_count = 1;
                }
                struct config_load *probe = mem_alloc(sizeof *probe);
                memset(&fixture.config, 0, sizeof fixture.config);
                memset(&fixture.problems, 0, sizeof fixture.problems);
                probe->config = &fixture.config;
                probe->problems = &fixture.problems;
                config_gather(probe, &fixture.sources);
                assert_int_equal(fixture.problems.count, 0);
                assert_int_equal(config_family_count(family, &fixture.config), 1);
                assert_string_equal(config_family_item(family, &fixture.config, 0), "a-1");
                assert_true(probe->items[f][0].origins[i][0] != '\0');
                mem_free(probe);
            }
        }
    }
}

static void the_longest_key_that_a_variable_ends_with_is_meant(void **state)
{
    (void)state;
    file(HTTP);
    environment("SLUICE_SINK_A_CONNECT_TIMEOUT=3s", "SLUICE_SINK_A_AWS_CREDENTIALS_FILE=/c",
                "SLUICE_SINK_A_AWS_REGION=eu-west-1", "SLUICE_SINK_B_C_TYPE=file",
                "SLUICE_SINK_B_C_PATH=/tmp/x");
    expect_accepted();
    assert_int_equal(sink("a")->connect_timeout_ns, 3 * NS_S);
    assert_int_equal(sink("a")->timeout_ns, 30 * NS_S);
    assert_string_equal(sink("a")->aws_credentials_file, "/c");
    assert_string_equal(sink("b-c")->path, "/tmp/x");
}

static void a_variable_that_ends_with_no_key_names_near_ones(void **state)
{
    (void)state;
    environment("SLUICE_SINK_LAKE_URI=x", "SLUICE_SINK_URL=http://h", "SLUICE_POLLER_P_TABEL=x",
                "SLUICE_SINK_X_WHATEVERITIS=1", "SLUICE_SINK_x_URL=1");
    assert_int_equal(load(), -EINVAL);
    expect_problem("SLUICE_SINK_LAKE_URI: no such key; did you mean url");
    expect_problem("SLUICE_SINK_URL: a sink needs a name: [sink.NAME]");
    expect_problem("SLUICE_POLLER_P_TABEL: no such key; did you mean table");
    expect_problem("SLUICE_SINK_X_WHATEVERITIS: no such key; a sink has: type url path kinds");
    expect_problem("SLUICE_SINK_x_URL: '?' is no name of a sink");
}

static void an_unknown_key_names_near_ones_with_its_line(void **state)
{
    (void)state;
    file(HTTP "passwd_file = x\n[sink.b]\ntype = file\npath = p\nbatch = 3\n");
    assert_int_equal(load(), -EINVAL);
    expect_problem(":4: sink.a.passwd_file: no such key; did you mean password_file?");
    expect_problem(":8: sink.b.batch: no such key; did you mean batch_");
    assert_int_equal(fixture.problems.count, 2);
}

static void a_sink_in_two_sections_is_one_sink(void **state)
{
    (void)state;
    file("[sink.a]\ntype = http\n[store]\nack = memory\n[sink \"a\"]\nurl = https://h\n");
    expect_accepted();
    assert_int_equal(fixture.config.sink_count, 1);
    assert_string_equal(sink("a")->url, "https://h");
}

static void a_key_twice_in_a_file_is_a_mistake_and_headers_grow(void **state)
{
    (void)state;
    file(HTTP "timeout = 1s\n[sink.b]\ntype = file\npath = p\n[sink.a]\ntimeout = 2s\n"
              "headers = X-A: 1\nheaders = X-B: 2 | X-C: 3\n");
    expect_refused(1, ":9: sink.a.timeout: was set on line 4 already");
    assert_string_equal(sink("a")->headers, "X-A: 1 | X-B: 2 | X-C: 3");
    assert_int_equal(sink("a")->timeout_ns, NS_S);
}

static void sinks_are_kept_in_the_order_of_their_names(void **state)
{
    (void)state;
    flags("sink.m.type=file", "sink.m.path=m", "sink.z.type=file", "sink.z.path=z",
          "sink.a.type=file", "sink.a.path=a", "sink.m.rate=7", "sink.z.rate=8", "sink.a.rate=9");
    expect_accepted();
    assert_int_equal(fixture.config.sink_count, 3);
    assert_string_equal(fixture.config.sinks[0].name, "a");
    assert_string_equal(fixture.config.sinks[1].name, "m");
    assert_string_equal(fixture.config.sinks[2].name, "z");
    assert_int_equal(fixture.config.sinks[0].rate, 9);
    assert_int_equal(fixture.config.sinks[2].rate, 8);
}

static void what_is_known_of_a_sink_moves_with_it(void **state)
{
    (void)state;
    file("[sink.z]\ntype = http\ntimeout = 1s\nuser = u\n[sink.a]\ntype = file\n[sink.m]\n"
         "type = file\npath = m\n[sink.z]\ntimeout = 2s\n");
    assert_int_equal(load(), -EINVAL);
    expect_problem(":1: sink.z.url: is missing");
    expect_problem(":4: sink.z.user: needs password_file");
    expect_problem(":5: sink.a.path: is missing");
    expect_problem(":11: sink.z.timeout: was set on line 3 already");
    assert_int_equal(fixture.problems.count, 4);
}

/* --- names and numbers --- */

static void a_name_that_is_none_is_said_once(void **state)
{
    (void)state;
    file("[sink.Lake]\ntype = http\nurl = http://h\nlinger = 1s\n[sink.]\ntype = http\n"
         "[poller.a_b]\ntable = t\n[sink.-x]\ntype = file\n[sink.a.b]\ntype = file\n");
    assert_int_equal(load(), -EINVAL);
    expect_problem(":1: 'Lake' is no name of a sink: 1 to 32 of a-z, 0-9 and '-'");
    expect_problem(":5: a sink needs a name");
    expect_problem(":7: 'a_b' is no name of a poller");
    expect_problem(":9: '-x' is no name of a sink");
    expect_problem(":11: 'a.b' is no name of a sink");
    assert_int_equal(fixture.problems.count, 5);
    assert_int_equal(fixture.config.sink_count, 0);
}

static void names_have_at_most_32_bytes(void **state)
{
    char good[64];
    char bad[64];
    (void)state;
    (void)snprintf(good, sizeof good, "sink.%032d.type=file", 1);
    (void)snprintf(bad, sizeof bad, "sink.%033d.type=file", 1);
    flags(good);
    expect_refused(1, "path: is missing");
    flags(bad);
    expect_refused(1, "is no name of a sink");
}

static void more_than_sixteen_sinks_are_said_once(void **state)
{
    static char text[8192];
    (void)state;
    for (int i = 0; i < 20; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used,
                       "[sink.s%02d]\ntype = file\npath = p%d\nrate = %d\n", i, i, i);
    }
    file(text);
    expect_refused(1, ":65: sink.s16: more than 16 sinks");
    assert_int_equal(fixture.config.sink_count, 16);
    assert_string_equal(fixture.config.sinks[15].path, "p15");
}

static void a_section_without_keys_needs_some(void **state)
{
    (void)state;
    file("[sink.a]\n[poller.b]\n");
    expect_refused(3, ":1: sink.a.type: is missing: http, opensearch");
    expect_problem(":2: poller.b.conninfo: is missing");
    expect_problem(":2: poller.b.table: is missing");
}

/* --- rules of sinks: each row alone --- */

struct rule {
    const char *text;    /* of [sink.a], or a whole file when it begins with '[' */
    const char *problem; /* NULL: accepted */
};

static void judge(const struct rule *rule)
{
    char text[4096];
    (void)snprintf(text, sizeof text, "%s%s", rule->text[0] == '[' ? "" : "[sink.a]\n", rule->text);
    file(text);
    int r = load();
    if (rule->problem == NULL ? r != 0 : fixture.problems.count != 1) {
        print_error("%s", text);
        show_problems();
    }
    if (rule->problem == NULL) {
        assert_int_equal(r, 0);
        return;
    }
    assert_int_equal(fixture.problems.count, 1);
    expect_problem(rule->problem);
}

#define judge_all(rules)                                                                           \
    for (size_t i = 0; i < ARRAY_COUNT(rules); i++) {                                              \
        judge(&rules[i]);                                                                          \
    }

#define A_HTTP "type = http\nurl = https://h\n"
#define A_TS   "type = timestream\nurl = https://ingest.timestream.eu-west-1.amazonaws.com\n"

static void the_type_decides_which_keys_there_are(void **state)
{
    static const struct rule rules[] = {
        {"url = https://h\n", "sink.a.type: is missing"},
        {"type =\n", "sink.a.type: '' is not one of: http, opensearch"},
        {"type = kafka\n", "sink.a.type: 'kafka' is not one of: http, opensearch, timestream, s3, "
                           "clickhouse, influx, sluice, file"},
        {"type = http\n", "sink.a.url: is missing: set it to the http:// or https:// address"},
        {"type = file\n", "sink.a.path: is missing"},
        {"type = file\npath = p\nurl = http://h\n", "sink.a.url: is not for type file"},
        {A_HTTP "path = p\n", "sink.a.path: is not for type http (only for file): remove it"},
        {"type = influx\nurl = http://h\nformat = array\n",
         "sink.a.format: is not for type influx (only for http, file)"},
        {"type = sluice\nurl = http://h\nrecord = raw\n", "sink.a.record: is not for type sluice"},
        {A_HTTP "index = x\n", "sink.a.index: is not for type http (only for opensearch)"},
        {A_HTTP "prefix = x\n", "only for s3"},
        {A_HTTP "rotate_keep = 3\n", "only for file"},
        {A_HTTP "database = 3\n", "only for timestream, clickhouse, influx"},
        {"type = s3\nurl = http://minio:9000/b\nkinds = log\n", "sink.a.kinds: is not for type s3"},
        {"type = s3\nurl = http://minio:9000/b\nbatch_bytes = 1M\n", "is not for type s3"},
        {A_TS "aws_region = eu-west-1\ndatabase = dbs\ntable = tab\nuser = x\n",
         "sink.a.user: is not for type timestream"},
        {A_HTTP "source = x\n", "sink.a.source: is for format = object only"},
        {A_HTTP "format = object\nsource = x\n", NULL},
        {"type = file\npath = p\nrecord = raw\n", NULL},
        {"type = elasticsearch\nurl = https://h\n", NULL},
    };
    (void)state;
    judge_all(rules);
}

static void an_address_is_http_without_credentials(void **state)
{
    static const struct rule rules[] = {
        {"type = http\nurl = ftp://h\n", "sink.a.url: must begin with http:// or https://"},
        {"type = http\nurl = h:80\n", "must begin with http:// or https://"},
        {"type = http\nurl = https://\n", "has no good host name"},
        {"type = http\nurl = https:///x\n", "has no good host name"},
        {"type = http\nurl = https://u:hunter2@h/\n",
         "must not hold credentials: set user and password_file instead"},
        {"type = http\nurl = https://tok@h/\n", "must not hold credentials"},
        {"type = http\nurl = https://h:0/\n", "has a port that is none"},
        {"type = http\nurl = https://h:65536/\n", "has a port that is none"},
        {"type = http\nurl = https://h:/\n", "has a port that is none"},
        {"type = http\nurl = https://h:8x/\n", "has a port that is none"},
        {"type = http\nurl = https://[::1\n", "has"},
        {"type = http\nurl = https://a b/\n", "has no good host name"},
        {"type = http\nurl = https://h/a b\n", "has a character that no request can carry"},
        {"type = http\nurl = https://h/#f\n", "has a character that no request can carry"},
        {"type = sluice\nurl = https://h/?a=b\n", NULL},
        {"type = http\nurl = https://h/?a=b@c\n", NULL},
        {"type = http\nurl = https://[::1]:8080/x\n", NULL},
        {"type = http\nurl = http://127.0.0.1:1\n", NULL},
        {"type = http\nurl = https://h-1.example.org:65535/a/b?c=d\n", NULL},
    };
    (void)state;
    judge_all(rules);
}

static void no_problem_repeats_a_secret(void **state)
{
    (void)state;
    file("[sink.a]\ntype = http\nurl = https://u:hunter2@h/\nheaders = Authorization: hunter2\n"
         "password = hunter2\n[poller.p]\nconninfo = host=h password=hunter2\ntable = t\n");
    assert_int_equal(load(), -EINVAL);
    assert_int_equal(fixture.problems.count, 4);
    for (unsigned i = 0; i < fixture.problems.count; i++) {
        assert_null(strstr(fixture.problems.text[i], "hunter2"));
    }
    expect_problem("sink.a.password: no such key; did you mean password_file");
}

static void values_have_bounds(void **state)
{
    static const struct rule rules[] = {
        {A_HTTP "batch_bytes = 16383\n", "sink.a.batch_bytes: 16383 is out of bounds (16K to 32M)"},
        {A_HTTP "batch_bytes = 33M\n", "(16K to 32M)"},
        {A_HTTP "batch_bytes = 16K\n", NULL},
        {A_HTTP "batch_bytes = 32M\n", NULL},
        {A_HTTP "connections = 0\n", "sink.a.connections: 0 is out of bounds (1 to 64)"},
        {A_HTTP "connections = 65\n", "(1 to 64)"},
        {A_HTTP "connections = 64\n", NULL},
        {A_HTTP "batch_records = 0\n", "(1 to 100000)"},
        {A_HTTP "timeout = 1ms\n", "(100ms to 1h)"},
        {A_HTTP "verify = maybe\n", "sink.a.verify: 'maybe' is not true or false"},
        {A_HTTP "from = now\n", "sink.a.from: 'now' is not one of: begin, end"},
        {A_HTTP "backoff_min = 2m\n", "sink.a.backoff_min: backoff_min is longer than backoff_max"},
        {A_HTTP "backoff_max = 100ms\n", "sink.a.backoff_max: backoff_min is longer"},
        {"[poller.p]\nconninfo = host=h\ntable = t\nrows_max = 0\n", "(1 to 10000)"},
        {"[poller.p]\nconninfo = host=h\ntable = t\ninterval = 1ms\n", "(100ms to 1d)"},
    };
    (void)state;
    judge_all(rules);
}

static void kinds_are_a_list_that_the_type_can_take(void **state)
{
    static const struct rule rules[] = {
        {A_HTTP "kinds = log, GPU\n", NULL},
        {A_HTTP "kinds = all\n", NULL},
        {A_HTTP "kinds =\n", "sink.a.kinds: '' is not all, nor a list of: log, metric, event, run, "
                             "gpu"},
        {A_HTTP "kinds = log,\n", "is not all, nor a list"},
        {A_HTTP "kinds = logs\n", "is not all, nor a list"},
        {"type = influx\nurl = http://h\nkinds = log,metric\n",
         "sink.a.kinds: type influx takes metric only"},
        {"type = influx\nurl = http://h\nkinds = metric\n", NULL},
        {A_TS "aws_region = eu-west-1\ndatabase = dbs\ntable = tab\nkinds = gpu\n",
         "sink.a.kinds: type timestream takes metric only"},
    };
    (void)state;
    judge_all(rules);
    file("[sink.a]\ntype = influx\nurl = http://h\n[sink.b]\n" A_HTTP "kinds = log, gpu\n");
    expect_accepted();
    assert_int_equal(sink("a")->kinds, 1u << 2);
    assert_int_equal(sink("b")->kinds, 1u << 1 | 1u << 5);
}

/* core may not see the store's header; its own words for the kinds must be the same. */
static void kinds_are_called_as_the_store_calls_them(void **state)
{
    (void)state;
    for (unsigned kind = RECORD_LOG; kind <= RECORD_GPU; kind++) {
        char text[64];
        (void)snprintf(text, sizeof text, "sink.a.kinds=%s",
                       record_kind_name((enum record_kind)kind));
        file(HTTP);
        flags(text);
        expect_accepted();
        assert_int_equal(sink("a")->kinds, UINT32_C(1) << kind);
    }
}

static void who_we_are_is_said_in_one_way_and_whole(void **state)
{
    static const struct rule rules[] = {
        {A_HTTP "user = u\n", "sink.a.user: needs password_file as well"},
        {A_HTTP "password_file = p\n", "sink.a.password_file: needs user as well"},
        {A_HTTP "user = u\npassword_file = p\n", NULL},
        {A_HTTP "cert_file = c\n", "sink.a.cert_file: needs key_file as well"},
        {A_HTTP "key_file = c\n", "sink.a.key_file: needs cert_file as well"},
        {A_HTTP "cert_file = c\nkey_file = k\n", NULL},
        {A_HTTP "bearer_file = b\nuser = u\npassword_file = p\n",
         "sink.a.user: bearer_file says already who we are"},
        {A_HTTP "bearer_file = b\naws_region = eu-west-1\n",
         "sink.a.aws_region: bearer_file says already"},
        {A_HTTP "bearer_file = b\napi_key_file = k\n", NULL},
        {A_HTTP "user =\n", NULL},
    };
    (void)state;
    judge_all(rules);
}

static void signed_sinks_need_a_region(void **state)
{
    static const struct rule rules[] = {
        {A_TS "database = dbs\ntable = tab\n", "sink.a.aws_region: is missing"},
        {"type = s3\nurl = https://b.s3.eu-central-1.amazonaws.com\n",
         "sink.a.aws_region: is missing"},
        {"type = s3\nurl = https://b.s3.cn-north-1.amazonaws.com.cn/\n",
         "sink.a.aws_region: is missing"},
        {"type = s3\nurl = http://minio:9000/bucket\n", NULL},
        {"type = s3\nurl = http://amazonaws.com.example.org/bucket\n", NULL},
        {A_HTTP "aws_service = es\n", "sink.a.aws_service: needs aws_region as well"},
        {A_HTTP "aws_credentials_file = c\n", "needs aws_region as well"},
        {A_HTTP "aws_region = Frankfurt\n", "sink.a.aws_region: is no region"},
        {A_HTTP "aws_region = eu-west-1\naws_service = a:b\n", "is no service"},
    };
    (void)state;
    judge_all(rules);
    file("[sink.a]\n" A_HTTP
         "aws_region = eu-west-1\n[sink.b]\ntype = opensearch\nurl = https://h\n"
         "aws_region = eu-west-1\naws_service = aoss\n[sink.c]\ntype = s3\nurl = http://h/b\n"
         "aws_region = eu-west-1\n[sink.d]\n" A_HTTP);
    expect_accepted();
    assert_string_equal(sink("a")->aws_service, "execute-api");
    assert_string_equal(sink("b")->aws_service, "aoss");
    assert_string_equal(sink("c")->aws_service, "s3");
    assert_string_equal(sink("d")->aws_service, "");
}

static void databases_and_tables_are_named(void **state)
{
#define TS A_TS "aws_region = eu-west-1\n"
#define CH "type = clickhouse\nurl = http://h\n"
    static const struct rule rules[] = {
        {TS "table = tab\n", "sink.a.database: is missing"},
        {TS "database = dbs\n", "sink.a.table: is missing"},
        {TS "database = d\ntable = tab\n", "sink.a.database: is no name of Timestream"},
        {TS "database = dbs\ntable = my table\n", "sink.a.table: is no name of Timestream"},
        {TS "database = my-db.1\ntable = t_1\n", NULL},
        {CH, "sink.a.table: is missing"},
        {CH "table = db.logs\n", "sink.a.table: must not have ` \\ or '.'"},
        {CH "table = logs`x\n", "sink.a.table: must not have"},
        {CH "table = logs\ndatabase = a\\b\n", "sink.a.database: must not have"},
        {CH "table = logs\ndatabase = telemetry\n", NULL},
        {"type = opensearch\nurl = http://h\nindex = Logs\n", "sink.a.index: may have a-z 0-9"},
        {"type = opensearch\nurl = http://h\nindex = -x\n", "sink.a.index: must begin with"},
        {"type = opensearch\nurl = http://h\nindex = x-%s\n", "(byte 3)"},
        {"type = opensearch\nurl = http://h\nindex = x%\n", "(byte 2)"},
        {"type = opensearch\nurl = http://h\nindex = {kind}-%Y.%m.%d.%H\n", NULL},
        {"type = opensearch\nurl = http://h\ncompression = zstd\n", "sink.a.compression:"},
        {"type = opensearch\nurl = http://h\ncompression = gzip\n", NULL},
        {"type = file\npath = p\nformat = array\n", NULL},
    };
    (void)state;
    judge_all(rules);
}

static void headers_are_headers_without_secrets(void **state)
{
    static const struct rule rules[] = {
        {A_HTTP "headers = X-A: 1 | X-B: 2\n", NULL},
        {A_HTTP "headers = X-A:\n", NULL},
        {A_HTTP "headers = nonsense\n", "sink.a.headers: write \"Name: value\""},
        {A_HTTP "headers = : v\n", "sink.a.headers: write \"Name: value\""},
        {A_HTTP "headers = X-A: 1 | \n", "nothing follows the last"},
        {A_HTTP "headers = X-A: 1|X-B: 2\n", NULL},
        {A_HTTP "headers = Content-Type: text/x\n", NULL},
        {A_HTTP "headers = X A: 1\n", "no header name may have"},
        {A_HTTP "headers = authorization: Basic x\n", "is a secret, which belongs in a file"},
        {A_HTTP "headers = X-A: 1 | x-api-key: y\n", "x-api-key is a secret"},
        {A_HTTP "headers = Content-Length: 3\n", "Content-Length is set by Sluice"},
        {A_HTTP "headers = Idempotency-Key: 3\n", "is set by Sluice"},
    };
    (void)state;
    judge_all(rules);
    flags("sink.a.headers=X: 1\r\nAuthorization: x");
    file(HTTP);
    expect_refused(1, "command line: sink.a.headers: has a control character at byte 5");
}

static void two_sinks_never_write_one_file(void **state)
{
    static const struct rule rules[] = {
        {"[sink.a]\ntype = file\npath = out/x\n[sink.b]\ntype = file\npath = out/x\n",
         "sink.b.path: out/x is written by sink.a already"},
        {"[sink.a]\ntype = file\npath = ./out//x\n[sink.b]\ntype = file\npath = out/./x\n",
         "sink.b.path: out/x is written by sink.a already"},
        {"[sink.a]\ntype = file\npath = out/x\n[sink.b]\ntype = file\npath = out/y\n", NULL},
        {"type = file\npath = out/\n", "sink.a.path: names a directory"},
    };
    (void)state;
    judge_all(rules);
}

static void open_doors_are_warned_of_and_served(void **state)
{
    (void)state;
    file("[sink.a]\n" A_HTTP "verify = false\n[sink.b]\ntype = http\nurl = http://far/\n"
         "bearer_file = /b\nca_file = /c\n[sink.c]\ntype = http\nurl = http://127.0.0.1:1\n"
         "bearer_file = /b\n");
    expect_accepted();
    assert_int_equal(fixture.problems.warning_count, 3);
    expect_warning(":4: sink.a.verify: the upstream's certificate is not checked");
    expect_warning(":8: sink.b.bearer_file: the secret goes over the network in clear");
    expect_warning(":9: sink.b.ca_file: has no effect");
}

/* --- rules of pollers --- */

#define POLLER "[poller.p]\nconninfo = host=h\ntable = t\n"

static void pollers_are_judged(void **state)
{
    static const struct rule rules[] = {
        {"[poller.p]\ntable = t\n", "poller.p.conninfo: is missing"},
        {"[poller.p]\nconninfo = host=h\n", "poller.p.table: is missing"},
        {"[poller.p]\ntable = t\nconninfo = host=h password=x\n", "name that with passfile="},
        {"[poller.p]\ntable = t\nconninfo = host=h password = 'x y'\n", "passfile="},
        {"[poller.p]\ntable = t\nconninfo = sslpassword=x\n", "passfile="},
        {"[poller.p]\ntable = t\nconninfo = postgresql://u:x@h/db\n", "passfile="},
        {"[poller.p]\ntable = t\nconninfo = postgres://u@h/db?a=b&password=x\n", "passfile="},
        {"[poller.p]\ntable = t\nconninfo = postgresql://u@h:5432/db?passfile=/p\n", NULL},
        {"[poller.p]\ntable = t\nconninfo = application_name='password=x' user=u passfile=/p\n",
         NULL},
        {"[poller.p]\ntable = t\nconninfo = host=h\nconninfo = user=u\n", NULL},
        {"[poller.p]\nconninfo = host=h\ntable = a;drop\n", "poller.p.table: 'a;drop' is no table"},
        {"[poller.p]\nconninfo = host=h\ntable = a.b.c\n", "is no table or schema.table"},
        {"[poller.p]\nconninfo = host=h\ntable = .b\n", "is no table or schema.table"},
        {"[poller.p]\nconninfo = host=h\ntable = Schema_1.T2\n", NULL},
        {POLLER "time_column = a b\n", "poller.p.time_column: 'a b' is no name of a column"},
        {POLLER "time_column =\n", "poller.p.time_column: '' is no name of a column"},
        {POLLER "step_column =\n", NULL},
        {POLLER "columns = a,b\n", "poller.p.columns: is for layout = wide only"},
        {POLLER "layout = wide\ncolumns = a, b ,c\n", NULL},
        {POLLER "layout = wide\ncolumns = a,,c\n", "poller.p.columns: '' is no name of a column"},
        {POLLER "layout = wide\ncolumns = a,b)\n", "poller.p.columns: 'b)' is no name"},
        {POLLER "layout = wide\nvalue_column = v\n",
         "poller.p.value_column: is not for layout = wide"},
    };
    (void)state;
    judge_all(rules);
}

static void refused_values_are_not_judged_again(void **state)
{
    (void)state;
    file("[sink.a]\ntype = fille\n[sink.b]\n" A_HTTP "backoff_max = x\nbackoff_min = 20m\n");
    expect_refused(2, "sink.a.type: 'fille'");
    expect_problem("sink.b.backoff_max: 'x' is not a time");
}

/* --- printing --- */

static void expect_round_trip(void)
{
    fixture.other = fixture.config;
    (void)listing(false);
    memset(&fixture.sources, 0, sizeof fixture.sources);
    file(fixture.listing);
    expect_accepted();
    for (unsigned i = 0; i < fixture.other.sink_count; i++) {
        assert_memory_equal(&fixture.other.sinks[i], &fixture.config.sinks[i],
                            sizeof fixture.other.sinks[i]);
    }
    assert_memory_equal(&fixture.other, &fixture.config, sizeof fixture.other);
}

static void the_listing_reads_back_to_the_same_sinks(void **state)
{
    static char long_url[1100];
    static char long_headers[1100];
    (void)state;
    (void)snprintf(long_url, sizeof long_url, "sink.h.url=https://host/%01000d", 7);
    (void)snprintf(long_headers, sizeof long_headers, "sink.h.headers=X-Long: %01000d", 7);
    flags("sink.h.type=http", long_url, long_headers, "sink.h.format=object",
          "sink.h.kinds=event,log", "sink.h.aws_region=eu-west-1", "sink.h.verify=false",
          "sink.f.type=file", "sink.f.path=/a b/c", "sink.f.rotate_age=90m", "sink.f.rate=1500",
          "sink.o.type=opensearch", "sink.o.url=http://o", "sink.o.compression=gzip",
          "sink.s.type=s3", "sink.s.url=http://s/b", "sink.s.prefix=x/", "sink.s.from=end",
          "sink.t.type=timestream", "sink.t.url=https://t", "sink.t.aws_region=us-east-1",
          "sink.t.database=dbs", "sink.t.table=tab", "sink.c.type=clickhouse",
          "sink.c.url=http://c", "sink.c.table=tab", "sink.i.type=influx", "sink.i.url=http://i",
          "sink.l.type=sluice", "sink.l.url=http://l", "sink.l.user=u", "sink.l.password_file=/p",
          "poller.n.conninfo=host=a user=b", "poller.n.table=t",
          "poller.n.step_column=", "poller.w.conninfo=host=a", "poller.w.table=s.t",
          "poller.w.layout=wide", "poller.w.columns=a, b");
    expect_accepted();
    expect_round_trip();
    assert_int_equal(fixture.config.sink_count, 8);
    assert_int_equal(fixture.config.poller_count, 2);
}

static void the_listing_says_where_a_sink_s_values_came_from(void **state)
{
    (void)state;
    file("[sink.a]\ntype = http\n[poller.p]\ntable = t\n");
    environment("SLUICE_SINK_A_URL=https://h", "SLUICE_POLLER_P_CONNINFO=host=h");
    flags("sink.a.linger=1s");
    expect_accepted();
    (void)listing(false);
    char from_file[96];
    (void)snprintf(from_file, sizeof from_file, "; %s:2: ", fixture.path);
    assert_non_null(strstr(fixture.listing, "\n[sink.a]\ntype = http "));
    assert_non_null(strstr(fixture.listing, from_file));
    assert_non_null(strstr(fixture.listing, "; SLUICE_SINK_A_URL: "));
    assert_non_null(strstr(fixture.listing, "linger = 1s "));
    assert_non_null(strstr(fixture.listing, "\n[poller.p]\n"));
    assert_null(strstr(fixture.listing, "\nrotate_bytes"));
    assert_non_null(strstr(listing(true), "\"sink.a.url\":{\"value\":\"https://h\",\"origin\":"
                                          "\"SLUICE_SINK_A_URL\",\"default\":\"\","
                                          "\"reloadable\":false,\"help\":\""));
    assert_non_null(strstr(fixture.listing, "\"poller.p.interval\":{\"value\":\"5s\""));
}

static void what_is_in_a_secret_s_file_is_never_shown(void **state)
{
    char path[] = "/tmp/sluice-secret-XXXXXX";
    char flag[96];
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "hunter2\n", 8), 8);
    (void)close(fd);
    (void)snprintf(flag, sizeof flag, "sink.a.bearer_file=%s", path);
    file(HTTP);
    flags(flag);
    expect_accepted();
    assert_non_null(strstr(listing(false), path));
    assert_null(strstr(fixture.listing, "hunter2"));
    assert_null(strstr(listing(true), "hunter2"));
    assert_int_equal(unlink(path), 0);
}

static void the_largest_listing_fits_what_the_command_has(void **state)
{
    static char texts[CONFIG_SINKS_MAX * 12][1100];
    static const char *sets[CONFIG_SINKS_MAX * 12];
    static const char *const keys[] = {
        "type=http",     "url=https://h/", "headers=X: ",     "source=",
        "format=object", "bearer_file=",   "ca_file=",        "cert_file=",
        "key_file=",     "linger=1s",      "api_key_file=\"", "batch_bytes=1M"};
    (void)state;
    unsigned count = 0;
    for (unsigned i = 0; i < CONFIG_SINKS_MAX; i++) {
        for (size_t k = 0; k < ARRAY_COUNT(keys); k++) {
            const char *text = keys[k];
            size_t bytes = strlen(text);
            int n = snprintf(texts[count], sizeof texts[count], "sink.s%02u.%s", i, text);
            if (text[bytes - 1] == '/' || text[bytes - 1] == ' ' || text[bytes - 1] == '=' ||
                text[bytes - 1] == '"') {
                size_t room = text[bytes - 1] == '/' || text[bytes - 1] == ' ' ? 1000 : 240;
                memset(texts[count] + n, text[bytes - 1] == '/' ? 'x' : '\x80', room);
            }
            sets[count] = texts[count];
            count++;
        }
    }
    fixture.sources.sets = sets;
    fixture.sources.set_count = count;
    expect_accepted();
    (void)listing(true);
    (void)listing(false);
    expect_round_trip();
}

/* --- reload --- */

static void a_reload_names_sinks_as_ignored(void **state)
{
    char applied_text[256];
    char ignored_text[512];
    struct buf applied;
    struct buf ignored;
    (void)state;
    file(HTTP "[sink.gone]\ntype = file\npath = g\n" POLLER);
    expect_accepted();
    fixture.other = fixture.config;
    file("[sink.a]\ntype = http\nurl = https://other\nlinger = 3s\n[sink.new]\ntype = file\n"
         "path = n\n" POLLER "rows_max = 7\n");
    expect_accepted();
    buf_init(&applied, applied_text, sizeof applied_text - 1);
    buf_init(&ignored, ignored_text, sizeof ignored_text - 1);
    config_apply_reload(&fixture.other, &fixture.config, &applied, &ignored);
    ignored_text[ignored.bytes] = '\0';
    assert_int_equal(applied.bytes, 0);
    assert_string_equal(ignored_text, "sink.a.url, sink.a.linger, sink.gone (gone), "
                                      "sink.new (new), poller.p.rows_max");
    assert_string_equal(fixture.other.sinks[0].url, "https://h/x");
    assert_int_equal(fixture.other.sink_count, 2);
}

/* --- hostile --- */

static const char hostile[] =
    "[sink.a]\ntype = http\nurl = https://h:1/x?y\nkinds = log,gpu\nheaders = A: b | C: d\n"
    "[sink \"b\"]\ntype = timestream\nurl = https://t\naws_region = eu-west-1\ndatabase = dbs\n"
    "table = tab\n[poller.p]\nconninfo = host=h user = 'a\\'b' passfile=/p\ntable = s.t\n"
    "layout = wide\ncolumns = a, b\n[sink.f]\ntype = file\npath = ./x\n";

static void every_truncation_is_read_or_refused_in_words(void **state)
{
    (void)state;
    for (size_t bytes = 0; bytes < sizeof hostile; bytes++) {
        file_bytes(hostile, bytes);
        int r = load();
        assert_true(r == 0 || fixture.problems.count > 0);
    }
}

static void damaged_files_never_crash_and_always_print(void **state)
{
    static const char alphabet[] = "[]=:\"';|.-,\\ \n\r\t\0\x80\xff{}%@/?#aA0";
    uint32_t seed = 20261121;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        char text[sizeof hostile];
        memcpy(text, hostile, sizeof text);
        for (int i = 0; i < 1 + round % 7; i++) {
            seed = seed * 1664525u + 1013904223u;
            text[(seed >> 8) % (sizeof text - 1)] = alphabet[(seed >> 24) % (sizeof alphabet - 1)];
        }
        file_bytes(text, sizeof text - 1);
        int r = load();
        assert_true(r == 0 || fixture.problems.count > 0);
        (void)listing(round % 2 == 0);
        if (r == 0 && round % 16 == 0) {
            expect_round_trip();
        }
    }
}

static void long_names_keys_and_values_are_refused_in_words(void **state)
{
    static char text[340000];
    static const char *const shapes[] = {
        "sink.%s.type=file", "sink.a.%s=1",         "sink.a.url=%s",        "sink.a.kinds=%s",
        "sink.a.type=%s",    "poller.p.columns=%s", "poller.p.conninfo=%s", "sink.%s=1",
        "sink.a.headers=%s", "sink.a.aws_region=%s"};
    static char value[66000];
    (void)state;
    for (size_t bytes = 1; bytes < sizeof value; bytes = bytes * 3 + 1) {
        memset(value, 'x', bytes);
        value[bytes] = '\0';
        for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
            const char *at = strstr(shapes[i], "%s");
            (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - shapes[i]), shapes[i], value,
                           at + 2);
            flags(text);
            fixture.sources.environment = NULL;
            assert_int_equal(load(), -EINVAL);
        }
        (void)snprintf(text, sizeof text, "SLUICE_SINK_%s=1", value);
        environment(text);
        fixture.sources.set_count = 0;
        assert_int_equal(load(), -EINVAL);
        (void)snprintf(text, sizeof text, "[sink.a]\n%s = 1\nurl = %s\n[sink.%s]\n[%s] %s\n", value,
                       value, value, value, value);
        fixture.sources.environment = NULL;
        file(text);
        assert_int_equal(load(), -EINVAL);
        fixture.sources.file = NULL;
    }
}

/* --- examples --- */

/* docs/sinks beside the tree this file is in. */
static void every_example_of_the_documents_loads(void **state)
{
    static const char here[] = __FILE__;
    char pattern[1024];
    glob_t found;
    (void)state;
    const char *root = strstr(here, "tests/unit/core/");
    assert_non_null(root);
    (void)snprintf(pattern, sizeof pattern, "%.*sdocs/sinks/*.conf", (int)(root - here), here);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    uint32_t types = 0;
    unsigned pollers = 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        fixture.sources.file = found.gl_pathv[i];
        expect_accepted();
        assert_int_equal(fixture.problems.warning_count, 0);
        for (unsigned s = 0; s < fixture.config.sink_count; s++) {
            types |= UINT32_C(1) << fixture.config.sinks[s].type;
        }
        pollers += fixture.config.poller_count;
        expect_round_trip();
    }
    globfree(&found);
    assert_int_equal(types, 0x1FE); /* each type has an example */
    assert_true(pollers >= 2);
}

static bool documents_name(const char *text, const char *key)
{
    char quoted[CONFIG_KEY_BYTES + 4];
    (void)snprintf(quoted, sizeof quoted, "| `%s` |", key);
    return strstr(text, quoted) != NULL;
}

static void every_key_is_in_the_operators_document(void **state)
{
    static const char here[] = __FILE__;
    static char text[KIB(256)];
    char path[1024];
    (void)state;
    (void)snprintf(path, sizeof path, "%.*sdocs/OPERATIONS.md",
                   (int)(strstr(here, "tests/unit/core/") - here), here);
    FILE *stream = fopen(path, "re");
    assert_non_null(stream);
    size_t bytes = fread(text, 1, sizeof text - 1, stream);
    (void)fclose(stream);
    text[bytes] = '\0';
    for (size_t f = 0; f < CONFIG_FAMILY_COUNT; f++) {
        for (size_t i = 0; i < config_families[f].key_count; i++) {
            if (!documents_name(text, config_families[f].keys[i].name)) {
                fail_msg("docs/OPERATIONS.md has no row for %s", config_families[f].keys[i].name);
            }
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sink_has_the_documented_defaults),
        TEST(a_poller_has_the_documented_defaults),
        TEST(flags_win_over_environment_over_file),
        TEST(every_key_can_be_said_by_every_source),
        TEST(the_longest_key_that_a_variable_ends_with_is_meant),
        TEST(a_variable_that_ends_with_no_key_names_near_ones),
        TEST(an_unknown_key_names_near_ones_with_its_line),
        TEST(a_sink_in_two_sections_is_one_sink),
        TEST(a_key_twice_in_a_file_is_a_mistake_and_headers_grow),
        TEST(sinks_are_kept_in_the_order_of_their_names),
        TEST(what_is_known_of_a_sink_moves_with_it),
        TEST(a_name_that_is_none_is_said_once),
        TEST(names_have_at_most_32_bytes),
        TEST(more_than_sixteen_sinks_are_said_once),
        TEST(a_section_without_keys_needs_some),
        TEST(the_type_decides_which_keys_there_are),
        TEST(an_address_is_http_without_credentials),
        TEST(no_problem_repeats_a_secret),
        TEST(values_have_bounds),
        TEST(kinds_are_a_list_that_the_type_can_take),
        TEST(kinds_are_called_as_the_store_calls_them),
        TEST(who_we_are_is_said_in_one_way_and_whole),
        TEST(signed_sinks_need_a_region),
        TEST(databases_and_tables_are_named),
        TEST(headers_are_headers_without_secrets),
        TEST(two_sinks_never_write_one_file),
        TEST(open_doors_are_warned_of_and_served),
        TEST(pollers_are_judged),
        TEST(refused_values_are_not_judged_again),
        TEST(the_listing_reads_back_to_the_same_sinks),
        TEST(the_listing_says_where_a_sink_s_values_came_from),
        TEST(what_is_in_a_secret_s_file_is_never_shown),
        TEST(the_largest_listing_fits_what_the_command_has),
        TEST(a_reload_names_sinks_as_ignored),
        TEST(every_truncation_is_read_or_refused_in_words),
        TEST(damaged_files_never_crash_and_always_print),
        TEST(long_names_keys_and_values_are_refused_in_words),
        TEST(every_example_of_the_documents_loads),
        TEST(every_key_is_in_the_operators_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
