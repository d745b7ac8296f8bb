/*
 * Copies of a SQLite file: whole beside a writer that never rests, without a lock once they are made, without a name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/sqlite_copy.h"

static char dir[64];
static char path[96];

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
    }
}

static int64_t number(sqlite3 *db, const char *text)
{
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    return value;
}

static void assert_whole(sqlite3 *db)
{
    assert_int_equal(number(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
}

static sqlite3 *open_db(void)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 20000);
    return db;
}

/* Some 3 MB in two halves whose rows always have the same sum. */
static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/sluice-copy-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/a.sqlite", dir);
    sqlite3 *db = open_db();
    sql(db, "PRAGMA synchronous = OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, x TEXT);"
            "WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 1000) "
            "INSERT INTO t SELECT i, 0, hex(randomblob(600)) FROM i;"
            "CREATE INDEX t_x ON t(x)");
    (void)sqlite3_close(db);
    return 0;
}

/* The names in the directory. */
static unsigned names(bool must_remove)
{
    char name[512];
    unsigned count = 0;
    DIR *all = opendir(dir);
    assert_non_null(all);
    for (const struct dirent *entry = readdir(all); entry != NULL; entry = readdir(all)) {
        if (entry->d_name[0] != '.') {
            count++;
            (void)snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
            if (must_remove) {
                (void)unlink(name);
            }
        }
    }
    (void)closedir(all);
    return count;
}

static int tear_down(void **state)
{
    (void)state;
    (void)names(true);
    (void)rmdir(dir);
    return 0;
}

static sqlite3 *copy_of(sqlite3 *db)
{
    sqlite3 *copy = NULL;
    struct err err = {0};
    if (sqlite_copy_nameless(&copy, db, path, &err) < 0) {
        fail_msg("%s", err.text);
    }
    return copy;
}

/* ---- a writer that never rests ---- */

struct writer {
    _Atomic bool must_end;
    _Atomic unsigned commits;
};

static void *write_always(void *context)
{
    struct writer *writer = context;
    sqlite3 *db = open_db();
    sql(db, "PRAGMA synchronous = OFF");
    for (unsigned i = 0; !atomic_load(&writer->must_end); i++) {
        char text[512];
        (void)snprintf(
            text, sizeof text,
            "BEGIN IMMEDIATE; UPDATE t SET n = n + 1 WHERE id = %u; UPDATE t SET n = n - 1, "
            "x = hex(randomblob(600)) WHERE id = %u; COMMIT; %s",
            1 + i * 37 % 500, 501 + i * 53 % 500, i % 100 == 99 ? "VACUUM" : "");
        sql(db, text);
        (void)atomic_fetch_add(&writer->commits, 1);
    }
    (void)sqlite3_close(db);
    return NULL;
}

static void beside_a_writer_that_never_rests_a_copy_is_one_state_of_the_file(void **state)
{
    (void)state;
    struct writer writer = {.must_end = false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_always, &writer), 0);
    for (unsigned i = 0; i < 12; i++) {
        unsigned before = atomic_load(&writer.commits);
        while (atomic_load(&writer.commits) < before + 3) {
            (void)usleep(100);
        }
        sqlite3 *db = open_db();
        sqlite3 *copy = copy_of(db);
        assert_whole(copy);
        assert_int_equal(number(copy, "SELECT sum(n) FROM t"), 0);
        assert_int_equal(number(copy, "SELECT count(*) FROM t"), 1000);
        (void)sqlite3_close(copy);
        (void)sqlite3_close(db);
    }
    atomic_store(&writer.must_end, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* ---- */

static void a_copy_keeps_nobody_out_and_does_not_change(void **state)
{
    (void)state;
    sqlite3 *db = open_db();
    sqlite3 *writer = open_db();
    sqlite3 *copy = copy_of(db);
    (void)sqlite3_busy_timeout(writer, 0);
    assert_whole(copy);
    sql(writer, "BEGIN EXCLUSIVE; DELETE FROM t WHERE id > 100; COMMIT; VACUUM");
    assert_int_equal(number(copy, "SELECT count(*) FROM t"), 1000);
    assert_whole(copy);
    assert_int_equal(number(db, "SELECT count(*) FROM t"), 100);
    (void)sqlite3_close(copy);
    (void)sqlite3_close(writer);
    (void)sqlite3_close(db);
}

static void a_copy_has_no_name(void **state)
{
    (void)state;
    sqlite3 *db = open_db();
    sqlite3 *copy = copy_of(db);
    assert_int_equal(names(false), 1);
    assert_whole(copy);
    assert_int_equal(names(false), 1);
    (void)sqlite3_close(copy);
    (void)sqlite3_close(db);
}

static void what_a_killed_process_left_is_taken_and_what_others_have_is_not(void **state)
{
    (void)state;
    char name[128];
    struct err err = {0};
    sqlite3 *db = open_db();
    (void)snprintf(name, sizeof name, "%s" SQLITE_COPY_SUFFIX, path);
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    (void)close(fd);
    sqlite3 *copy = copy_of(db);
    assert_int_equal(names(false), 1);
    (void)sqlite3_close(copy);
    fd = open(name, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    (void)close(fd);
    assert_int_equal(sqlite_copy_nameless(&copy, db, path, &err), -EEXIST);
    assert_null(copy);
    assert_int_equal(names(false), 2);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(symlink("/tmp/elsewhere", name), 0);
    assert_int_equal(sqlite_copy_nameless(&copy, db, path, &err), -ELOOP);
    (void)sqlite3_close(db);
}

static void many_at_one_time_do_not_disturb_each_other(void **state)
{
    (void)state;
    pid_t children[8];
    for (unsigned i = 0; i < 8; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct err err = {0};
            sqlite3 *db = NULL;
            int good = 0;
            for (unsigned turn = 0; turn < 3; turn++) {
                sqlite3 *copy = NULL;
                if (sqlite3_open(path, &db) == SQLITE_OK &&
                    sqlite_copy_nameless(&copy, db, path, &err) == 0) {
                    sqlite3_stmt *rows = NULL;
                    (void)sqlite3_prepare_v2(copy, "SELECT count(*) FROM t", -1, &rows, NULL);
                    good += sqlite3_step(rows) == SQLITE_ROW && sqlite3_column_int(rows, 0) == 1000;
                    (void)sqlite3_finalize(rows);
                }
                (void)sqlite3_close(copy);
                (void)sqlite3_close(db);
            }
            _exit(good == 3 ? 0 : 1);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        int status = 0;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(names(false), 1);
}

static void a_wal_is_seen(void **state)
{
    (void)state;
    struct err err = {0};
    sqlite3 *copy = NULL;
    sqlite3 *db = open_db();
    assert_int_equal(sqlite_copy_has_wal(db, &err), 0);
    sqlite3 *other = open_db();
    sql(other, "PRAGMA journal_mode = WAL; UPDATE t SET n = 1");
    /* Between the question and the copy: a copy of the file alone would miss what the WAL has. */
    assert_int_equal(sqlite_copy_nameless(&copy, db, path, &err), -EBUSY);
    assert_int_equal(sqlite_copy_has_wal(db, &err), 1);
    (void)sqlite3_close(other);
    (void)sqlite3_close(db);
}

static void an_empty_file_and_one_of_a_page_are_copied(void **state)
{
    (void)state;
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/b.sqlite", dir);
    db = open_db();
    sqlite3 *copy = copy_of(db);
    assert_int_equal(number(copy, "SELECT count(*) FROM sqlite_schema"), 0);
    (void)sqlite3_close(copy);
    sql(db, "PRAGMA page_size = 512; CREATE TABLE t(x)");
    copy = copy_of(db);
    assert_int_equal(number(copy, "SELECT count(*) FROM sqlite_schema"), 1);
    (void)sqlite3_close(copy);
    (void)sqlite3_close(db);
}

static void no_room_is_told(void **state)
{
    (void)state;
    struct err err = {0};
    sqlite3 *db = open_db();
    int full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0);
    assert_int_equal(sqlite_copy_to(db, full, &err), -ENOSPC);
    (void)close(full);
    sql(db, "BEGIN EXCLUSIVE; COMMIT"); /* no lock is left */
    (void)sqlite3_close(db);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(beside_a_writer_that_never_rests_a_copy_is_one_state_of_the_file),
        CASE(a_copy_keeps_nobody_out_and_does_not_change),
        CASE(a_copy_has_no_name),
        CASE(what_a_killed_process_left_is_taken_and_what_others_have_is_not),
        CASE(many_at_one_time_do_not_disturb_each_other),
        CASE(a_wal_is_seen),
        CASE(an_empty_file_and_one_of_a_page_are_copied),
        CASE(no_room_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
