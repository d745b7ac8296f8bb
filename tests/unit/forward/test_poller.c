/*
 * The parts of a poller that need no database: marks, queries, pages, the cache, the port into the log and the way back out of it.
 * What a database does with the queries is tested against a real one (tests/e2e/test_poller.py).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "forward/poller_cache.h"
#include "forward/poller_find.h"
#include "forward/poller_mark.h"
#include "forward/poller_name.h"
#include "forward/poller_one.h"
#include "forward/poller_page.h"
#include "forward/poller_port.h"
#include "forward/poller_query.h"

#define TEXT(literal) ((struct poller_value){.text = SLICE_LITERAL(literal)})
#define NULL_VALUE    ((struct poller_value){.is_null = true})

static struct poller_mark mark_at(const char *table, const char *metric)
{
    struct poller_mark mark = {0};
    struct poller_value keys[] = {TEXT("2025-08-25 10:00:00+00"),
                                  TEXT("7"),
                                  {.text = {(const uint8_t *)metric, strlen(metric)}}};
    assert_int_equal(
        poller_mark_encode(&mark, (struct slice){(const uint8_t *)table, strlen(table)}, keys, 3),
        0);
    return mark;
}

/* ------------------------------------------------------------------- marks */

static void a_mark_gives_back_its_keys_whatever_bytes_they_have(void **state)
{
    (void)state;
    struct poller_mark mark = {0};
    struct poller_value out[3];
    struct poller_value keys[] = {TEXT("2025-08-25 10:00:00+00"), NULL_VALUE, TEXT("1:,-,\"'\0\n")};
    assert_int_equal(poller_mark_encode(&mark, SLICE_LITERAL("t(a,b,c)"), keys, 3), 0);
    assert_int_equal(poller_mark_decode(&mark, SLICE_LITERAL("t(a,b,c)"), out, 3), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(out[i].is_null, keys[i].is_null);
        assert_true(keys[i].is_null || slice_equal(out[i].text, keys[i].text));
    }
}

static void a_mark_that_is_cut_or_of_another_table_is_no_position(void **state)
{
    (void)state;
    struct poller_mark mark = mark_at("t", "m");
    struct poller_value out[3];
    assert_int_equal(poller_mark_decode(&mark, SLICE_LITERAL("u"), out, 3), -EINVAL);
    assert_int_equal(poller_mark_decode(&mark, SLICE_LITERAL("t"), out, 2), -EINVAL);
    for (size_t bytes = 0; bytes < mark.bytes; bytes++) {
        /* In a block of its own size, so that a sanitizer sees a look behind the end. */
        struct poller_mark cut = {.bytes = bytes};
        memcpy(cut.data, mark.data, bytes);
        memset(cut.data + bytes, '9', sizeof cut.data - bytes);
        assert_int_equal(poller_mark_decode(&cut, SLICE_LITERAL("t"), out, 3), -EINVAL);
    }
}

static void a_mark_that_is_too_long_changes_nothing(void **state)
{
    (void)state;
    struct poller_mark mark = mark_at("t", "m");
    struct poller_mark before = mark;
    char longest[WATERMARK_MARK_MAX];
    memset(longest, 'x', sizeof longest);
    struct poller_value keys[] = {{.text = {(const uint8_t *)longest, sizeof longest}}};
    assert_int_equal(poller_mark_encode(&mark, SLICE_LITERAL("t"), keys, 1), -ENAMETOOLONG);
    assert_true(poller_mark_equal(&mark, &before));
}

/* ------------------------------------------------------------------- queries */

static const struct config_poller narrow = {.name = "p",
                                            .table = "public.m",
                                            .time_column = "time",
                                            .step_column = "agent_step",
                                            .metric_column = "metric",
                                            .value_column = "value",
                                            .service = "svc",
                                            .settle_ns = 5 * NS_S,
                                            .statement_timeout_ns = 3 * NS_S,
                                            .rows_max = 100};

static const struct poller_column usual_columns[] = {
    {"time", 1184}, {"agent_step", 23}, {"metric", 25}, {"value", 701}};

static void take_usual(struct poller_shape *shape, const struct config_poller *config)
{
    struct err err = {0};
    poller_shape_init(shape, config);
    assert_int_equal(poller_shape_take(shape, config, usual_columns, 4, &err), 0);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

static char sql_text[POLLER_SQL_BYTES];

static const char *look_behind(const struct poller_value *keys)
{
    struct poller_shape shape;
    struct buf sql;
    take_usual(&shape, &narrow);
    buf_init(&sql, sql_text, sizeof sql_text);
    assert_int_equal(poller_query_look(&sql, &narrow, &shape, keys, 100), 0);
    return sql_text;
}

static void a_look_reads_only_with_its_time_outs_and_bounds(void **state)
{
    (void)state;
    const char *sql = look_behind(NULL);
    assert_int_equal(strncmp(sql, "BEGIN TRANSACTION READ ONLY;", 28), 0);
    assert_non_null(strstr(sql, "statement_timeout=3000;"));
    assert_non_null(strstr(sql, "lock_timeout=1000;"));
    assert_non_null(strstr(sql, "\"time\"<=now()-interval '5000000 microseconds'"));
    assert_int_equal(count_of(sql, "FETCH FIRST 100 ROWS WITH TIES"), 2);
    assert_int_equal(count_of(sql, "SELECT *"), 1);
    assert_string_equal(sql + strlen(sql) - 7, ";COMMIT");
}

static void behind_a_mark_there_is_a_branch_for_each_column_and_its_nulls(void **state)
{
    (void)state;
    struct poller_value keys[] = {TEXT("T"), TEXT("7"), TEXT("m")};
    const char *sql = look_behind(keys);
    assert_int_equal(count_of(sql, "SELECT *"), 5);
    assert_non_null(
        strstr(sql, "WHERE \"time\"=E'T' AND \"agent_step\"=E'7' AND \"metric\">E'm' AND "));
    assert_non_null(
        strstr(sql, "WHERE \"time\"=E'T' AND \"agent_step\"=E'7' AND \"metric\" IS NULL AND "));
    assert_non_null(strstr(sql, "WHERE \"time\"=E'T' AND \"agent_step\">E'7' AND "));
    assert_non_null(strstr(sql, "WHERE \"time\"=E'T' AND \"agent_step\" IS NULL AND "));
    assert_non_null(strstr(sql, "WHERE \"time\">E'T' AND "));
}

static void behind_a_null_nothing_is_in_its_column(void **state)
{
    (void)state;
    struct poller_value keys[] = {TEXT("T"), NULL_VALUE, TEXT("m")};
    const char *sql = look_behind(keys);
    assert_int_equal(count_of(sql, "SELECT *"), 3);
    assert_non_null(strstr(sql, "\"agent_step\" IS NULL AND \"metric\">E'm' AND "));
    assert_null(strstr(sql, "\"agent_step\">"));
}

static void values_and_names_are_never_sql(void **state)
{
    (void)state;
    struct poller_value keys[] = {TEXT("T"), TEXT("7"), TEXT("'; DROP TABLE m; --\\")};
    assert_non_null(strstr(look_behind(keys), "\"metric\">E'''; DROP TABLE m; --\\\\' AND "));
    struct config_poller wide = narrow;
    wide.layout = POLLER_WIDE;
    const struct poller_column columns[] = {{"time", 1184}, {"agent_step", 23}, {"a\"; DROP", 701}};
    struct poller_shape shape;
    struct buf sql;
    struct err err = {0};
    poller_shape_init(&shape, &wide);
    assert_int_equal(poller_shape_take(&shape, &wide, columns, 3, &err), 0);
    buf_init(&sql, sql_text, sizeof sql_text);
    assert_int_equal(poller_query_look(&sql, &wide, &shape, NULL, 10), 0);
    assert_non_null(strstr(sql_text, ",\"a\"\"; DROP\" FROM ("));
}

static void a_query_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct poller_shape shape;
    struct buf sql;
    take_usual(&shape, &narrow);
    size_t needed = strlen(look_behind(NULL)) + 1;
    for (size_t room = 1; room <= needed; room++) {
        buf_init(&sql, sql_text, room);
        int expected = room < needed ? ERR_LIMIT : 0;
        assert_int_equal(poller_query_look(&sql, &narrow, &shape, NULL, 100), expected);
    }
}

static void what_a_table_lacks_is_named(void **state)
{
    (void)state;
    struct poller_shape shape;
    struct err err = {0};
    struct poller_column columns[4];
    memcpy(columns, usual_columns, sizeof columns);
    poller_shape_init(&shape, &narrow);
    assert_int_equal(poller_shape_take(&shape, &narrow, columns, 3, &err), -EINVAL);
    assert_non_null(strstr(err.text, "public.m has no column value"));
    columns[3].type = 25;
    assert_int_equal(poller_shape_take(&shape, &narrow, columns, 4, &err), -EINVAL);
    assert_non_null(strstr(err.text, "no number"));
    columns[0].type = 25;
    assert_int_equal(poller_shape_take(&shape, &narrow, columns, 4, &err), -EINVAL);
    assert_non_null(strstr(err.text, "no timestamp"));
}

/* ------------------------------------------------------------------- pages */

static struct poller_shape page_shape;
static char page_memory[4096];

static void page_open(struct poller_page *page, size_t capacity)
{
    take_usual(&page_shape, &narrow);
    poller_page_begin(page, &narrow, &page_shape, page_memory, capacity);
}

static void page_row(struct poller_page *page, const char *metric, const char *value)
{
    struct poller_value values[] = {TEXT("2025-08-25 10:00:00.5+00"),
                                    TEXT("7"),
                                    {.text = {(const uint8_t *)metric, strlen(metric)}},
                                    {.text = {(const uint8_t *)value, strlen(value)}}};
    poller_page_add(page, values);
}

static void a_row_is_one_line_with_its_digits_as_they_are(void **state)
{
    (void)state;
    struct poller_page page;
    page_open(&page, sizeof page_memory);
    page_row(&page, "r\"1", "123456789012345678901234567890.1230");
    assert_int_equal(poller_page_end(&page), 0);
    page_memory[page.body.bytes] = 0;
    assert_string_equal(
        page_memory,
        "{\"timestamp\":\"2025-08-25T10:00:00.5Z\",\"service\":\"svc\",\"name\":\"r\\\"1\","
        "\"value\":123456789012345678901234567890.1230,"
        "\"tags\":{\"agent_step\":\"7\",\"table\":\"public.m\"}}\n");
}

static void what_json_cannot_say_is_counted_and_the_mark_moves_over_it(void **state)
{
    (void)state;
    static const char *const bad[] = {"NaN", "Infinity", "-Infinity", ""};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct poller_page page;
        page_open(&page, sizeof page_memory);
        page_row(&page, "m", bad[i]);
        assert_int_equal(poller_page_end(&page), 0);
        assert_int_equal(page.body.bytes, 0);
        assert_int_equal(page.invalid, 1);
        assert_int_equal(page.rows, 1);
        assert_true(page.mark.bytes > 0);
        assert_non_null(strstr(page.invalid_why, " of m at "));
    }
}

static void a_full_page_ends_before_the_first_key_it_has_only_a_part_of(void **state)
{
    (void)state;
    for (size_t capacity = 100; capacity < 1400; capacity += 7) {
        struct poller_page page;
        page_open(&page, capacity);
        const char *metrics[] = {"a", "a", "b", "c", "c", "c", "d"}; /* rows alike in all keys */
        for (size_t i = 0; i < ARRAY_COUNT(metrics); i++) {
            page_row(&page, metrics[i], "1");
        }
        int r = poller_page_end(&page);
        page_memory[page.body.bytes] = 0;
        unsigned lines = count_of(page_memory, "\n");
        assert_int_equal(lines, page.records);
        assert_int_equal(lines, page.rows);
        assert_true(lines == 0 || lines == 2 || lines == 3 || lines == 6 || lines == 7);
        assert_int_equal(page.is_full, lines < 7);
        assert_int_equal(r, lines == 0 ? ERR_LIMIT : 0);
        if (lines > 0) {
            struct poller_value keys[3];
            assert_int_equal(poller_mark_decode(&page.mark,
                                                (struct slice){(const uint8_t *)page_shape.identity,
                                                               strlen(page_shape.identity)},
                                                keys, 3),
                             0);
            assert_int_equal(keys[2].text.data[0], metrics[lines - 1][0]);
        }
    }
}

/* ------------------------------------------------------------------- the cache */

struct fixture {
    char dir[64];
    struct store *store;
    struct park park;
    struct poller_port port;
};

static void remove_tree(const char *path)
{
    char name[512];
    DIR *dir = opendir(path);
    for (const struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL;
         entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        if (unlink(name) != 0) {
            remove_tree(name);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

static int make_dir(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    (void)snprintf(fixture->dir, sizeof fixture->dir, "/tmp/sluice-poller-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    *state = fixture;
    return 0;
}

static int remove_dir(void **state)
{
    struct fixture *fixture = *state;
    remove_tree(fixture->dir);
    mem_free(fixture);
    return 0;
}

static const struct ulid node = {{1, 2, 3}};

static void the_cache_gives_back_what_it_was_given_and_nothing_of_another_node(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};
    struct poller_place places[2] = {{.name = "a", .as_of_lsn = 9, .mark_lsn = 7},
                                     {.name = "b-2", .as_of_lsn = 9}};
    struct poller_place read[3] = {{.name = "b-2"}, {.name = "a"}, {.name = "c", .as_of_lsn = 1}};
    places[0].mark = mark_at("t", "m\n");
    assert_int_equal(poller_cache_read(fixture->dir, node, read, 3), -ENOENT);
    assert_int_equal(poller_cache_write(fixture->dir, node, places, 2, &err), 0);
    assert_int_equal(poller_cache_read(fixture->dir, node, read, 3), 0);
    assert_int_equal(read[1].as_of_lsn, 9);
    assert_int_equal(read[1].mark_lsn, 7);
    assert_true(poller_mark_equal(&read[1].mark, &places[0].mark));
    assert_int_equal(read[0].as_of_lsn, 9);
    assert_int_equal(read[0].mark.bytes, 0);
    assert_int_equal(read[2].as_of_lsn, 1);
    struct ulid other = {{1, 2, 4}};
    assert_int_equal(poller_cache_read(fixture->dir, other, read, 3), -EINVAL);
}

static void a_cache_that_is_cut_or_changed_is_not_believed(void **state)
{
    struct fixture *fixture = *state;
    struct err err = {0};
    char path[128];
    char text[8192];
    struct poller_place place = {
        .name = "a", .as_of_lsn = 9, .mark_lsn = 7, .mark = mark_at("t", "m")};
    assert_int_equal(poller_cache_write(fixture->dir, node, &place, 1, &err), 0);
    (void)snprintf(path, sizeof path, "%s/" POLLER_CACHE_FILE, fixture->dir);
    FILE *file = fopen(path, "r");
    size_t bytes = fread(text, 1, sizeof text, file);
    (void)fclose(file);
    for (size_t i = 0; i + 1 < 2 * bytes; i++) {
        char changed[8192];
        struct poller_place read = {.name = "a"};
        memcpy(changed, text, bytes);
        if (i >= bytes) {
            changed[i - bytes] ^= 1;
        }
        file = fopen(path, "w");
        (void)fwrite(changed, 1, i < bytes ? i : bytes, file);
        (void)fclose(file);
        int r = poller_cache_read(fixture->dir, node, &read, 1);
        /* The last line feed says nothing, nor does what is behind the eight digits. */
        bool is_harmless = i == bytes - 1 || i == 2 * bytes - 1;
        assert_true(r == -EINVAL || is_harmless);
        assert_true(r == 0 || read.as_of_lsn == 0);
    }
}

/* ------------------------------------------------------------------- into the log and back */

static void store_up(struct fixture *fixture)
{
    struct err err = {0};
    struct recovery_report report;
    struct store_options options = {.data_dir = fixture->dir,
                                    .segment_bytes = KIB(256),
                                    .reserve_bytes = KIB(64),
                                    .ring_bytes = KIB(64),
                                    .batch_bytes = KIB(16),
                                    .dedup_ttl_ns = 3600 * NS_S,
                                    .dedup_entries_max = 1000,
                                    .spare_segments = 1,
                                    .shard_count = 1,
                                    .writer_cpu = -1,
                                    .allow_volatile = true};
    if (store_open(&fixture->store, &options, NULL, &report, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(park_init(&fixture->park, &err), 0);
    struct store_port *port = store_port(fixture->store, 0);
    port->shard_park = &fixture->park;
    poller_port_init(&fixture->port, port);
    assert_int_equal(store_start(fixture->store, &err), 0);
}

static void store_down(struct fixture *fixture)
{
    store_close(fixture->store);
    poller_port_free(&fixture->port);
    park_close(&fixture->park);
}

static struct poller_submitted submit(struct fixture *fixture, unsigned who, const char *body,
                                      const char *source, const struct poller_mark *mark)
{
    struct poller_submitted submitted;
    struct poller_request request = {
        .who = who,
        .body = {(const uint8_t *)body, strlen(body)},
        .mark = {{(const uint8_t *)source, strlen(source)}, {mark->data, mark->bytes}},
        .now_ns = clock_mono_ns(),
        .real_ns = clock_real_ns()};
    assert_int_equal(poller_port_submit(&fixture->port, &request, &submitted), 0);
    return submitted;
}

/* Waits until count acks have come; the log is durable up to them. */
static void take(struct fixture *fixture, struct poller_ack *acks, unsigned count)
{
    unsigned got = 0;
    for (int tries = 0; tries < 5000 && got < count; tries++) {
        got += poller_port_take(&fixture->port, acks + got);
        (void)poll(NULL, 0, got < count);
    }
    assert_int_equal(got, count);
}

#define LINE(name, value)                                                                          \
    "{\"timestamp\":\"2025-08-25T10:00:00Z\",\"service\":\"s\",\"name\":\"" name                   \
    "\",\"value\":" value "}\n"

static void find(struct fixture *fixture, struct poller_place *places, unsigned count)
{
    struct poller_find search;
    struct err err = {0};
    struct scan_source source = {store_views(fixture->store), store_recent(fixture->store),
                                 &store_status(fixture->store)->durable_lsn};
    poller_find_begin(&search, &source, places, count);
    int r = 0;
    for (int steps = 0; steps < 100000 && r == 0; steps++) {
        r = poller_find_step(&search, &err);
    }
    assert_int_equal(r, 1);
    poller_find_end(&search);
}

static void acks_name_the_last_record_of_each_request(void **state)
{
    struct fixture *fixture = *state;
    struct poller_ack acks[CONFIG_POLLERS_MAX];
    struct poller_mark mark = mark_at("t", "m");
    store_up(fixture);
    assert_int_equal(submit(fixture, 1, LINE("a", "1") LINE("b", "2"), "one", &mark).records, 2);
    assert_int_equal(submit(fixture, 0, LINE("c", "3"), "zero", &mark).records, 1);
    assert_int_equal(submit(fixture, 2,
                            LINE("d", "4") LINE("e", "x") LINE("f", "1e999") LINE("g", "5"), "two",
                            &mark)
                         .records,
                     2);
    take(fixture, acks, 3);
    const unsigned who[] = {1, 0, 2};
    const uint64_t last[] = {2, 3, 5};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(acks[i].who, who[i]);
        assert_int_equal(acks[i].cause, 0);
        assert_int_equal(acks[i].last_lsn, last[i]);
    }
    store_down(fixture);
}

static void nothing_good_puts_nothing_into_the_ring(void **state)
{
    struct fixture *fixture = *state;
    struct poller_mark mark = mark_at("t", "m");
    store_up(fixture);
    struct poller_submitted submitted = submit(fixture, 0, LINE("a", "1e999"), "p", &mark);
    assert_int_equal(submitted.records, 0);
    assert_int_equal(submitted.rejected, 1);
    assert_non_null(strstr(submitted.why, "finite"));
    assert_int_equal(fixture->port.pending_count, 0);
    store_down(fixture);
}

static void the_newest_mark_of_each_is_found_with_and_without_a_cache(void **state)
{
    struct fixture *fixture = *state;
    struct poller_ack acks[CONFIG_POLLERS_MAX];
    struct poller_mark older = mark_at("t", "older");
    struct poller_mark newer = mark_at("t", "newer");
    store_up(fixture);
    (void)submit(fixture, 0, LINE("a", "1"), "a", &older);
    take(fixture, acks, 1);
    (void)submit(fixture, 1, LINE("b", "1") LINE("b", "2"), "b", &older);
    take(fixture, acks, 1);
    (void)submit(fixture, 0, LINE("a", "2"), "a", &newer);
    take(fixture, acks, 1);
    store_down(fixture);
    store_up(fixture);
    struct poller_place empty[3] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    find(fixture, empty, 3);
    assert_true(poller_mark_equal(&empty[0].mark, &newer));
    assert_int_equal(empty[0].mark_lsn, 4);
    assert_true(poller_mark_equal(&empty[1].mark, &older));
    assert_int_equal(empty[1].mark_lsn, 3);
    assert_int_equal(empty[2].mark.bytes, 0);
    assert_int_equal(empty[2].as_of_lsn, 4);

    /* From the cache of an earlier moment: what came since is seen. */
    struct poller_place early[1] = {{.name = "a", .as_of_lsn = 1, .mark_lsn = 1, .mark = older}};
    find(fixture, early, 1);
    assert_true(poller_mark_equal(&early[0].mark, &newer));
    store_down(fixture);
}

static void a_place_that_the_log_contradicts_is_not_believed(void **state)
{
    struct fixture *fixture = *state;
    struct poller_ack acks[CONFIG_POLLERS_MAX];
    struct poller_mark mark = mark_at("t", "true");
    struct poller_mark lie = mark_at("t", "untrue");
    store_up(fixture);
    (void)submit(fixture, 0, LINE("a", "1"), "a", &mark);
    take(fixture, acks, 1);
    (void)submit(fixture, 1, LINE("b", "1"), "b", &lie);
    take(fixture, acks, 1);
    const struct poller_place lies[] = {
        {.name = "a",
         .as_of_lsn = 2,
         .mark_lsn = 1,
         .mark = lie}, /* another mark than the record's */
        {.name = "a", .as_of_lsn = 2, .mark_lsn = 2, .mark = lie},  /* that of another poller */
        {.name = "a", .as_of_lsn = 99, .mark_lsn = 1, .mark = lie}, /* the log has lost its end */
        {.name = "a", .as_of_lsn = 1, .mark_lsn = 2, .mark = lie},
    };
    for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
        struct poller_place place = lies[i];
        find(fixture, &place, 1);
        assert_true(poller_mark_equal(&place.mark, &mark));
        assert_int_equal(place.mark_lsn, 1);
        assert_int_equal(place.as_of_lsn, 2);
    }
    store_down(fixture);
}

static void a_mark_that_came_from_another_node_is_not_ours(void **state)
{
    struct fixture *fixture = *state;
    struct poller_mark mark = mark_at("t", "theirs");
    uint8_t meta[META_ORIGIN_BYTES + WATERMARK_MARK_MAX + 64];
    struct watermark watermark = {SLICE_LITERAL("a"), {mark.data, mark.bytes}};
    struct origin origin = {.node = {{9}},
                            .lsn = 5,
                            .range_first = 5,
                            .range_last = 5,
                            .range_kinds = 1u << RECORD_METRIC};
    struct submit_header header = {
        .record_count = 1, .kinds = 1u << RECORD_METRIC, .flags = SUBMIT_ORIGIN};
    size_t bytes = meta_origin_encode(meta, &origin);
    bytes += meta_watermark_encode(meta + bytes, &watermark);
    struct record record = {
        .kind = RECORD_METRIC, .id = {{1}}, .meta = {meta, bytes}, .payload = SLICE_LITERAL("{}")};
    store_up(fixture);
    struct spsc *ring = &fixture->port.port->submit;
    uint8_t *to = spsc_claim(ring, 4096);
    assert_non_null(to);
    header.records_bytes = (uint32_t)record_encode(to + sizeof header, &record);
    memcpy(to, &header, sizeof header);
    (void)spsc_commit(ring, SUBMIT_REQUEST, sizeof header + header.records_bytes);
    (void)spsc_publish(ring);
    (void)park_wake(fixture->port.port->writer_park, true);
    for (int tries = 0; tries < 5000; tries++) {
        if (atomic_load_explicit(&store_status(fixture->store)->durable_lsn,
                                 memory_order_acquire) == 1) {
            break;
        }
        (void)poll(NULL, 0, 1);
    }
    struct poller_place place = {.name = "a"};
    find(fixture, &place, 1);
    assert_int_equal(place.as_of_lsn, 1);
    assert_int_equal(place.mark.bytes, 0);
    store_down(fixture);
}

static void without_room_in_the_ring_nothing_happens(void **state)
{
    struct fixture *fixture = *state;
    struct poller_mark mark = mark_at("t", "m");
    static char body[KIB(48)];
    struct poller_submitted submitted;
    size_t bytes = 0;
    while (bytes + 200 < sizeof body) {
        bytes += (size_t)snprintf(body + bytes, sizeof body - bytes, LINE("a", "1"));
    }
    struct poller_request request = {.body = {(const uint8_t *)body, bytes},
                                     .mark = {SLICE_LITERAL("p"), {mark.data, mark.bytes}}};
    store_up(fixture);
    assert_int_equal(poller_port_submit(&fixture->port, &request, &submitted), -EAGAIN);
    assert_int_equal(fixture->port.pending_count, 0);
    store_down(fixture);
}

/* ------------------------------------------------------------------- names */

static void only_a_single_name_needs_a_resolver(void **state)
{
    (void)state;
    static const char *const no[] = {"", "/run/postgresql", "@abstract", "10.0.0.1", "::1", "a,b"};
    for (size_t i = 0; i < ARRAY_COUNT(no); i++) {
        assert_false(poller_name_is_needed(no[i]));
    }
    assert_true(poller_name_is_needed("localhost"));
    assert_true(poller_name_is_needed("10.0.0.1.example"));
}

static void a_name_becomes_its_addresses(void **state)
{
    (void)state;
    struct poller_name *name = NULL;
    struct err err = {0};
    char text[512];
    struct buf addresses;
    unsigned count = 0;
    buf_init(&addresses, text, sizeof text);
    assert_int_equal(poller_name_open(&name, "localhost", &err), 0);
    int r = 0;
    for (int tries = 0; tries < 5000 && r == 0; tries++) {
        r = poller_name_step(name, &addresses, &count, &err);
        (void)poll(NULL, 0, r == 0);
    }
    assert_int_equal(r, 1);
    assert_true(count >= 1);
    assert_true(strstr(text, "127.0.0.1") != NULL || strstr(text, "::1") != NULL);
    poller_name_close(name);
}

static void a_question_may_be_given_up_at_any_time_and_they_are_not_without_bound(void **state)
{
    (void)state;
    struct err err = {0};
    int r = 0;
    for (unsigned i = 0; i < 2 * POLLER_NAMES_MAX && r == 0; i++) {
        struct poller_name *name = NULL;
        r = poller_name_open(&name, "no-such-host.invalid", &err);
        poller_name_close(name);
    }
    assert_true(r == 0 || r == -EBUSY); /* as quick as the resolver is */
}

/* ------------------------------------------------------------------- what the log says */

static void a_refused_page_leaves_the_mark_where_it_was_and_a_durable_one_moves_it(void **state)
{
    (void)state;
    struct poller_shared shared = {.page_bytes = 4096};
    struct poller_one one;
    struct poller_place place = {.name = "p", .mark_lsn = 5};
    struct poller_ack ack = {.cause = FAILED_SPACE};
    poller_one_init(&one, &narrow, 0, &shared, 1);
    place.mark = mark_at(one.shape->identity, "old");
    poller_one_begin(&one, &place);
    one.state = POLLER_WAITING;
    one.page.mark = mark_at(one.shape->identity, "new");
    one.page.rows = one.rows_seen = 3;
    poller_one_on_ack(&one, &ack, 1000);
    assert_int_equal(one.state, POLLER_IDLE);
    assert_true(one.wake_at_ns > 1000);
    assert_true(poller_mark_equal(&one.mark, &place.mark));
    assert_int_equal(one.place.mark_lsn, 5);
    assert_int_equal(one.counts.rows, 0);
    assert_true(one.counts.reason[0] != 0);

    one.state = POLLER_WAITING;
    ack = (struct poller_ack){.last_lsn = 9};
    poller_one_on_ack(&one, &ack, 2000);
    assert_true(poller_mark_equal(&one.mark, &one.page.mark));
    assert_true(poller_mark_equal(&one.place.mark, &one.page.mark));
    assert_int_equal(one.place.mark_lsn, 9);
    assert_int_equal(one.counts.rows, 3);
    poller_one_free(&one);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_gives_back_its_keys_whatever_bytes_they_have),
        cmocka_unit_test(a_mark_that_is_cut_or_of_another_table_is_no_position),
        cmocka_unit_test(a_mark_that_is_too_long_changes_nothing),
        cmocka_unit_test(a_look_reads_only_with_its_time_outs_and_bounds),
        cmocka_unit_test(behind_a_mark_there_is_a_branch_for_each_column_and_its_nulls),
        cmocka_unit_test(behind_a_null_nothing_is_in_its_column),
        cmocka_unit_test(values_and_names_are_never_sql),
        cmocka_unit_test(a_query_that_does_not_fit_is_refused),
        cmocka_unit_test(what_a_table_lacks_is_named),
        cmocka_unit_test(a_row_is_one_line_with_its_digits_as_they_are),
        cmocka_unit_test(what_json_cannot_say_is_counted_and_the_mark_moves_over_it),
        cmocka_unit_test(a_full_page_ends_before_the_first_key_it_has_only_a_part_of),
        cmocka_unit_test(only_a_single_name_needs_a_resolver),
        cmocka_unit_test(a_name_becomes_its_addresses),
        cmocka_unit_test(a_question_may_be_given_up_at_any_time_and_they_are_not_without_bound),
        cmocka_unit_test(a_refused_page_leaves_the_mark_where_it_was_and_a_durable_one_moves_it),
        IN_DIR(the_cache_gives_back_what_it_was_given_and_nothing_of_another_node),
        IN_DIR(a_cache_that_is_cut_or_changed_is_not_believed),
        IN_DIR(acks_name_the_last_record_of_each_request),
        IN_DIR(nothing_good_puts_nothing_into_the_ring),
        IN_DIR(the_newest_mark_of_each_is_found_with_and_without_a_cache),
        IN_DIR(a_place_that_the_log_contradicts_is_not_believed),
        IN_DIR(a_mark_that_came_from_another_node_is_not_ours),
        IN_DIR(without_room_in_the_ring_nothing_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
