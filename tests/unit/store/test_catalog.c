/* catalog: a view of the log's files in SQLite, made equal to them, rebuilt when it is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/park.h"
#include "store/catalog.h"
#include "store/segment.h"

#define SEGMENTS_MAX 8

/* A data directory with real sealed segment files: a header block, no batches, an index without entries and
 * the footer. Only what the catalog looks at matters. */
struct fixture {
    char dir[64];
    struct file_io *io;
    struct log_views *views;
    struct park park;
    struct ulid node;
    struct view_segment *segments[SEGMENTS_MAX];
    size_t count;
};

static void write_block(struct fixture *fixture, const char *name, const uint8_t *block,
                        uint64_t at)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, name);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, block, STORE_BLOCK_BYTES, (off_t)at), STORE_BLOCK_BYTES);
    close(fd);
}

static void add_segment(struct fixture *fixture, uint64_t id, uint64_t first_lsn, uint64_t last_lsn)
{
    uint8_t block[STORE_BLOCK_BYTES];
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header = {.segment_id = id,
                                    .salt = id * 7,
                                    .node = fixture->node,
                                    .file_bytes = 8 * STORE_BLOCK_BYTES};
    struct segment_footer footer = {.form = SEGMENT_FORM_RAW,
                                    .segment_id = id,
                                    .salt = header.salt,
                                    .node = fixture->node,
                                    .first_lsn = first_lsn,
                                    .last_lsn = last_lsn,
                                    .first_seq = 1,
                                    .last_seq = 1,
                                    .record_count = last_lsn - first_lsn + 1,
                                    .kinds = 1u << RECORD_LOG | 1u << RECORD_EVENT,
                                    .time_min_ns = 1,
                                    .time_max_ns = 2,
                                    .raw_bytes = 100 * (last_lsn - first_lsn + 1),
                                    .index_offset = header.file_bytes,
                                    .index_bytes = INDEX_ENTRY_BYTES,
                                    .entry_count = 1};
    segment_name(name, id);
    segment_header_encode(block, &header);
    write_block(fixture, name, block, 0);
    segment_footer_encode(block, &footer);
    write_block(fixture, name, block, header.file_bytes + STORE_BLOCK_BYTES);
    struct err err = {0};
    if (view_segment_open(&fixture->segments[fixture->count], fixture->io, id, VIEW_SEALED, &err) <
        0) {
        fail_msg("%s", err.text);
    }
    fixture->count++;
    log_views_publish(fixture->views, fixture->segments, fixture->count);
}

static void drop_first(struct fixture *fixture)
{
    view_segment_give(fixture->segments[0]);
    fixture->count--;
    memmove(fixture->segments, fixture->segments + 1, fixture->count * sizeof *fixture->segments);
    log_views_publish(fixture->views, fixture->segments, fixture->count);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    struct err err = {0};
    char path[96];
    (void)snprintf(fixture->dir, sizeof fixture->dir, "/tmp/sluice-catalog-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    (void)snprintf(path, sizeof path, "%s/log", fixture->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(file_io_real_open(&fixture->io, fixture->dir, true, &err), 0);
    assert_int_equal(log_views_open(&fixture->views, fixture->io, &err), 0);
    assert_int_equal(park_init(&fixture->park, &err), 0);
    memset(&fixture->node, 0x11, sizeof fixture->node);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture->count; i++) {
        view_segment_give(fixture->segments[i]);
    }
    log_views_close(fixture->views);
    park_close(&fixture->park);
    fixture->io->ops->destroy(fixture->io);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", fixture->dir);
    assert_int_equal(system(command), 0);
    mem_free(fixture);
    return 0;
}

static struct catalog *open_catalog(struct fixture *fixture, uint64_t last_lsn,
                                    enum catalog_found expected)
{
    struct catalog_options options = {.data_dir = fixture->dir,
                                      .views = fixture->views,
                                      .park = &fixture->park,
                                      .node = fixture->node,
                                      .last_lsn = last_lsn};
    struct catalog *catalog = NULL;
    enum catalog_found found = CATALOG_GOOD;
    struct err err = {0};
    if (catalog_open(&catalog, &options, &found, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(found, expected);
    return catalog;
}

static void apply(struct catalog *catalog)
{
    struct err err = {0};
    if (catalog_apply(catalog, NULL, NULL, &err) < 0) {
        fail_msg("%s", err.text);
    }
}

/* What somebody else's SQLite says of the file; borrowed until the next call. */
static const char *ask(struct fixture *fixture, const char *sql)
{
    static char answer[1024];
    char path[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    (void)snprintf(answer, sizeof answer, "%s", (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return answer;
}

static const char segments_sql[] = "SELECT coalesce(group_concat(id || ':' || state || ':' || "
                                   "first_lsn || '-' || last_lsn || ':' || kinds, ' '), '')"
                                   " FROM (SELECT * FROM segments ORDER BY id)";

static void the_table_follows_the_view(void **state)
{
    struct fixture *fixture = *state;
    struct catalog *catalog = open_catalog(fixture, 100, CATALOG_MADE);
    apply(catalog);
    assert_string_equal(ask(fixture, segments_sql), "");
    add_segment(fixture, 1, 1, 10);
    add_segment(fixture, 2, 11, 30);
    apply(catalog);
    assert_string_equal(ask(fixture, segments_sql),
                        "1:sealed:1-10:log,event 2:sealed:11-30:log,event");
    assert_string_equal(ask(fixture, "SELECT value FROM meta WHERE key = 'applied_lsn'"), "30");
    add_segment(fixture, 3, 31, 31);
    drop_first(fixture);
    apply(catalog);
    assert_string_equal(ask(fixture, segments_sql),
                        "2:sealed:11-30:log,event 3:sealed:31-31:log,event");
    assert_string_equal(ask(fixture, "SELECT value FROM meta WHERE key = 'applied_lsn'"), "31");
    catalog_close(catalog);
}

static void count_fault(void *context, const char *line)
{
    (void)line;
    ++*(unsigned *)context;
}

/* Known only from its first batch on; size and state stay what they were. */
static void an_active_segments_first_lsn_is_brought_up_to_date(void **state)
{
    struct fixture *fixture = *state;
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    add_segment(fixture, 1, 1, 10);
    fixture->segments[0]->footer.first_lsn = 0;
    log_views_publish(fixture->views, fixture->segments, fixture->count);
    apply(catalog);
    assert_string_equal(ask(fixture, "SELECT first_lsn FROM segments"), "0");
    fixture->segments[0]->footer.first_lsn = 1;
    log_views_publish(fixture->views, fixture->segments, fixture->count);
    apply(catalog);
    assert_string_equal(ask(fixture, "SELECT first_lsn FROM segments"), "1");
    catalog_close(catalog);
}

static void a_file_without_our_tables_is_a_fault_of_verify_and_no_error(void **state)
{
    struct fixture *fixture = *state;
    unsigned lines = 0;
    uint64_t faults = 0;
    struct err err = {0};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    close(open(path, O_RDWR | O_CREAT, 0600));
    struct log_view *view = log_view_take(fixture->views);
    assert_int_equal(catalog_verify(fixture->dir, view, count_fault, &lines, &faults, &err), 0);
    assert_int_equal(faults, 1);
    assert_int_equal(lines, 1);
    log_view_give(fixture->views, view);
}

static void a_deleted_catalog_is_made_again(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    add_segment(fixture, 1, 1, 10);
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    catalog_close(catalog);
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    assert_int_equal(unlink(path), 0);
    catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    assert_string_equal(ask(fixture, segments_sql), "1:sealed:1-10:log,event");
    catalog_close(catalog);
    catalog = open_catalog(fixture, 10, CATALOG_GOOD);
    apply(catalog);
    catalog_close(catalog);
}

/* Garbled at every 97th byte of the first pages, one start each: whatever SQLite thinks of it, the start
 * succeeds and the table is right. */
static void a_damaged_catalog_is_rebuilt(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    unsigned rebuilt = 0;
    add_segment(fixture, 1, 1, 10);
    add_segment(fixture, 2, 11, 12);
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    for (off_t at = 0; at < 8192; at += 97) {
        (void)unlink(path);
        struct catalog *catalog = open_catalog(fixture, 12, CATALOG_MADE);
        apply(catalog);
        catalog_close(catalog);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "\xff\x00\xfe\x01", 4, at), 4);
        close(fd);
        struct catalog_options options = {.data_dir = fixture->dir,
                                          .views = fixture->views,
                                          .park = &fixture->park,
                                          .node = fixture->node,
                                          .last_lsn = 12};
        enum catalog_found found = CATALOG_GOOD;
        struct err err = {0};
        int r = catalog_open(&catalog, &options, &found, &err);
        if (r == ERR_VERSION) {
            continue; /* the damage hit the version number: refused, which is what it asks for */
        }
        if (r < 0) {
            fail_msg("damage at %ld: %s", (long)at, err.text);
        }
        rebuilt += found == CATALOG_REBUILT ? 1 : 0;
        apply(catalog);
        catalog_close(catalog);
        if (found == CATALOG_REBUILT) {
            assert_string_equal(ask(fixture, segments_sql),
                                "1:sealed:1-10:log,event 2:sealed:11-12:log,event");
        }
    }
    assert_true(rebuilt > 3);
}

static void another_nodes_catalog_is_set_aside(void **state)
{
    struct fixture *fixture = *state;
    struct catalog *catalog = open_catalog(fixture, 0, CATALOG_MADE);
    apply(catalog);
    catalog_close(catalog);
    memset(&fixture->node, 0x22, sizeof fixture->node);
    catalog = open_catalog(fixture, 0, CATALOG_REBUILT);
    catalog_close(catalog);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s.damaged", fixture->dir, CATALOG_FILE);
    assert_int_equal(access(path, F_OK), 0);
}

static void a_newer_version_is_refused_and_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct catalog *catalog = open_catalog(fixture, 0, CATALOG_MADE);
    catalog_close(catalog);
    char path[128];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    struct catalog_options options = {.data_dir = fixture->dir,
                                      .views = fixture->views,
                                      .park = &fixture->park,
                                      .node = fixture->node};
    enum catalog_found found = CATALOG_GOOD;
    struct err err = {0};
    assert_int_equal(catalog_open(&catalog, &options, &found, &err), ERR_VERSION);
    assert_non_null(strstr(err.text, "99"));
    assert_string_equal(ask(fixture, "PRAGMA user_version"), "99");
}

static void a_catalog_ahead_of_the_log_is_a_witness_of_loss(void **state)
{
    struct fixture *fixture = *state;
    add_segment(fixture, 1, 1, 10);
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    catalog_close(catalog);
    catalog_close(open_catalog(fixture, 10, CATALOG_GOOD));
    assert_int_equal(catalog_seen(fixture->dir, &fixture->node), 10);
    assert_int_equal(catalog_seen(fixture->dir, &(struct ulid){.bytes = {9}}), 0);
    assert_int_equal(catalog_seen("/nowhere", &fixture->node), 0);
    catalog_close(open_catalog(fixture, 9, CATALOG_BEYOND));
}

/* A reader that sits on the database: the catalog's transaction is not lost, only later. */
static void somebody_elses_lock_delays_and_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    char path[128];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    add_segment(fixture, 1, 1, 10);
    struct err err = {0};
    assert_true(catalog_apply(catalog, NULL, NULL, &err) < 0);
    assert_non_null(strstr(err.text, "locked"));
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    apply(catalog);
    assert_string_equal(ask(fixture, segments_sql), "1:sealed:1-10:log,event");
    catalog_close(catalog);
}

static void a_backup_is_whole_and_never_overwrites(void **state)
{
    struct fixture *fixture = *state;
    char from[128];
    char to[128];
    struct err err = {0};
    add_segment(fixture, 1, 1, 10);
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    (void)snprintf(from, sizeof from, "%s/%s", fixture->dir, CATALOG_FILE);
    (void)snprintf(to, sizeof to, "%s/copy.sqlite", fixture->dir);
    assert_int_equal(sqlite_backup_file(from, to, &err), 0);
    assert_int_equal(sqlite_backup_file(from, to, &err), -EEXIST);
    catalog_close(catalog);
    assert_int_equal(unlink(from), 0);
    assert_int_equal(rename(to, from), 0);
    assert_string_equal(ask(fixture, segments_sql), "1:sealed:1-10:log,event");
    assert_string_equal(ask(fixture, "PRAGMA journal_mode"), "delete");
}

static void verify_tells_rows_that_promise_other_records(void **state)
{
    struct fixture *fixture = *state;
    unsigned lines = 0;
    uint64_t faults = 0;
    struct err err = {0};
    add_segment(fixture, 1, 1, 10);
    struct catalog *catalog = open_catalog(fixture, 10, CATALOG_MADE);
    apply(catalog);
    catalog_close(catalog);
    struct log_view *view = log_view_take(fixture->views);
    assert_int_equal(catalog_verify(fixture->dir, view, count_fault, &lines, &faults, &err), 0);
    assert_int_equal(faults, 0);
    char path[128];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", fixture->dir, CATALOG_FILE);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE segments SET last_lsn = 9", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(catalog_verify(fixture->dir, view, count_fault, &lines, &faults, &err), 0);
    assert_int_equal(faults, 1);
    assert_int_equal(lines, 1);
    log_view_give(fixture->views, view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_table_follows_the_view, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_active_segments_first_lsn_is_brought_up_to_date, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_without_our_tables_is_a_fault_of_verify_and_no_error,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_deleted_catalog_is_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_catalog_is_rebuilt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_nodes_catalog_is_set_aside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_version_is_refused_and_left_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_catalog_ahead_of_the_log_is_a_witness_of_loss, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(somebody_elses_lock_delays_and_loses_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_backup_is_whole_and_never_overwrites, set_up, tear_down),
        cmocka_unit_test_setup_teardown(verify_tells_rows_that_promise_other_records, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
