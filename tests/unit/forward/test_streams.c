/* streams: what databases of sinks and replay jobs have seen of the log, and in which stream. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "forward/streams.h"

static const struct ulid own = {{1, 2, 3}};
static const struct ulid first_stream = {{9, 1}};
static const struct ulid second_stream = {{9, 2}};

static char dir[64];
static struct lineage lineage;

static struct forward_db *open_db_of(const char *name, struct ulid node)
{
    struct forward_db *db = NULL;
    enum forward_db_found found;
    struct err err = {0};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(forward_db_open(&db, path, node, &found, &err), 0);
    assert_int_equal(forward_db_begin(db, &err), 0);
    return db;
}

static struct forward_db *open_db(const char *name)
{
    return open_db_of(name, own);
}

static void close_db(struct forward_db *db)
{
    struct err err = {0};
    assert_int_equal(forward_db_commit(db, &err), 0);
    forward_db_close(db);
}

static void put_sink(struct forward_db *db, const char *name, uint64_t next,
                     const struct ulid *stream)
{
    struct err err = {0};
    const struct sink_position position = {.start_lsn = 1, .live_next = next};
    assert_int_equal(forward_db_sink_put(db, name, &position, &err), 0);
    if (stream != NULL) {
        assert_int_equal(streams_sink_put(db, name, stream, &err), 0);
    }
}

static int ask(struct lineage_witness *witness, struct err *err)
{
    *witness = (struct lineage_witness){0};
    return streams_witness(dir, &lineage, witness, err);
}

static uint64_t seen(const char *who)
{
    struct lineage_witness witness;
    struct err err = {0};
    assert_int_equal(ask(&witness, &err), 0);
    if (who != NULL) {
        assert_string_equal(witness.who, who);
    }
    return witness.lsn;
}

static void a_stream_is_kept_for_a_sink_and_for_a_record(void **state)
{
    (void)state;
    struct err err = {0};
    struct ulid found = own;
    struct forward_db *db = open_db(FORWARD_DB_FILE);
    assert_int_equal(streams_sink_get(db, "up", &found, &err), 0);
    assert_memory_equal(&found, &own, sizeof own);
    assert_int_equal(streams_sink_put(db, "up", &first_stream, &err), 0);
    assert_int_equal(streams_item_put(db, 7, &second_stream, &err), 0);
    close_db(db);
    db = open_db(FORWARD_DB_FILE);
    assert_int_equal(streams_sink_get(db, "up", &found, &err), 1);
    assert_memory_equal(&found, &first_stream, sizeof found);
    assert_int_equal(streams_item_get(db, 7, &found, &err), 1);
    assert_memory_equal(&found, &second_stream, sizeof found);
    assert_int_equal(streams_item_get(db, 8, &found, &err), 0);
    assert_int_equal(forward_db_meta_put(db, "sink.up.stream", "nonsense", &err), 0);
    assert_int_equal(streams_sink_get(db, "up", &found, &err), ERR_CORRUPT);
    close_db(db);
}

static void the_farthest_of_all_sinks_lanes_and_batches_is_told(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(seen(NULL), 0); /* there is no database */
    struct forward_db *db = open_db(FORWARD_DB_FILE);
    put_sink(db, "a", 1, NULL);
    close_db(db);
    assert_int_equal(seen(NULL), 0);
    db = open_db(FORWARD_DB_FILE);
    put_sink(db, "b", 101, NULL);
    put_sink(db, "c", 51, NULL);
    put_sink(db, "broken", 0, NULL);
    close_db(db);
    assert_int_equal(seen("sink b"), 100);
    db = open_db(FORWARD_DB_FILE);
    const struct frozen frozen = {.first_lsn = 90, .last_lsn = 120};
    const struct frozen requeued = {.first_lsn = 500, .last_lsn = 500, .quarantine_id = 3};
    const struct sink_position behind = {
        .start_lsn = 1, .live_next = 20, .backlog_next = 3, .backlog_end = 151};
    assert_int_equal(forward_db_batch_put(db, "c", &frozen, &err), 0);
    assert_int_equal(forward_db_batch_put(db, "c", &requeued, &err), 0);
    close_db(db);
    assert_int_equal(seen("sink c"), 120);
    db = open_db(FORWARD_DB_FILE);
    assert_int_equal(forward_db_sink_put(db, "d", &behind, &err), 0);
    close_db(db);
    assert_int_equal(seen("sink d"), 150);
}

static void replay_jobs_are_asked_too(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/replay", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    struct forward_db *db = open_db("replay/nightly.sqlite");
    put_sink(db, "up", 78, NULL);
    close_db(db);
    assert_int_equal(seen("replay job nightly to sink up"), 77);
}

static void what_lies_behind_a_border_that_is_known_is_no_news(void **state)
{
    (void)state;
    lineage.entries[lineage.count++] = (struct lineage_entry){101, first_stream};
    struct forward_db *db = open_db(FORWARD_DB_FILE);
    put_sink(db, "old", 200, NULL);
    close_db(db);
    assert_int_equal(seen(NULL), 100);
    db = open_db(FORWARD_DB_FILE);
    put_sink(db, "new", 151, &first_stream);
    close_db(db);
    assert_int_equal(seen("sink new"), 150);
    lineage.entries[lineage.count++] = (struct lineage_entry){131, second_stream};
    assert_int_equal(seen("sink new"), 130);
}

static void a_stream_without_any_lineage_is_a_lineage_that_was_removed(void **state)
{
    (void)state;
    struct lineage_witness witness;
    struct err err = {0};
    struct forward_db *db = open_db(FORWARD_DB_FILE);
    put_sink(db, "up", 10, &first_stream);
    close_db(db);
    assert_int_equal(ask(&witness, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "sink up"));
    assert_non_null(strstr(err.text, "from a backup"));
}

static void a_database_that_cannot_be_read_is_passed_over(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/" FORWARD_DB_FILE, dir);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (unsigned i = 0; i < 4000; i++) {
        assert_int_equal(fputc('x', file), 'x');
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(seen(NULL), 0);
}

static void another_nodes_database_says_nothing_and_stops_nothing(void **state)
{
    (void)state;
    const struct ulid other = {{7, 7}};
    struct forward_db *db = open_db_of(FORWARD_DB_FILE, other);
    put_sink(db, "up", 500, NULL);
    put_sink(db, "with a stream", 600, &first_stream);
    close_db(db);
    assert_int_equal(seen(NULL), 0);
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/sluice-streams-XXXXXX");
    lineage_init(&lineage, own);
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"forward.sqlite", "replay/nightly.sqlite"};
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[128];
    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        for (unsigned n = 0; n < ARRAY_COUNT(ends); n++) {
            (void)snprintf(path, sizeof path, "%s/%s%s", dir, names[i], ends[n]);
            (void)unlink(path);
        }
    }
    (void)snprintf(path, sizeof path, "%s/replay", dir);
    (void)rmdir(path);
    return rmdir(dir);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_stream_is_kept_for_a_sink_and_for_a_record),
        CASE(the_farthest_of_all_sinks_lanes_and_batches_is_told),
        CASE(replay_jobs_are_asked_too),
        CASE(what_lies_behind_a_border_that_is_known_is_no_news),
        CASE(a_stream_without_any_lineage_is_a_lineage_that_was_removed),
        CASE(a_database_that_cannot_be_read_is_passed_over),
        CASE(another_nodes_database_says_nothing_and_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
