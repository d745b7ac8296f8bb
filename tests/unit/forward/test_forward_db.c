/* forward_db: what was committed is there, after any end; what was not is not; nobody's file is damaged by being looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "forward_db_fixture.h"

static bool count_batch(void *context, const struct frozen *frozen)
{
    (void)frozen;
    (*(unsigned *)context)++;
    return true;
}

static bool count_item(void *context, const struct quarantined *item)
{
    (void)item;
    (*(unsigned *)context)++;
    return true;
}

static unsigned items_of(struct forward_db *db, const char *sink)
{
    struct err err = {0};
    unsigned count = 0;
    int shown = forward_db_quarantine_list(db, sink, 0, UINT32_MAX, count_item, &count, &err);
    ok(shown, &err);
    assert_int_equal(shown, count);
    return count;
}

static bool has_sink(struct forward_db *db, const char *sink)
{
    struct err err = {0};
    struct sink_position position;
    int r = forward_db_sink_get(db, sink, &position, &err);
    ok(r, &err);
    return r == 1;
}

static bool is_there(const struct fixture *fixture, const char *suffix)
{
    char path[128];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s%s", fixture->path, suffix);
    return lstat(path, &info) == 0;
}

/* ---- what is put ---- */

static void a_new_file_is_made_and_then_found(void **state)
{
    struct fixture *fixture = *state;
    forward_db_close(open_db(fixture->path, FORWARD_DB_MADE));
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_GOOD);
    struct sink_position position = {.start_lsn = 42};
    struct err err = {0};
    assert_int_equal(forward_db_sink_get(db, "a", &position, &err), 0);
    assert_int_equal(position.start_lsn, 42);
    forward_db_close(db);
    forward_db_close(NULL);
}

struct sinks_seen {
    char names[64];
    unsigned count, stop_at;
};
static bool note_sink(void *context, const char *sink, const struct sink_position *position)
{
    struct sinks_seen *seen = context;
    size_t used = strlen(seen->names);
    (void)snprintf(seen->names + used, sizeof seen->names - used, "%s%" PRIu64 " ", sink,
                   position->start_lsn);
    return ++seen->count != seen->stop_at;
}

static void positions_come_back_in_every_field(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct sink_position in = {1, UINT64_MAX, 3, 4, 5, 6, 7, 8, 9, INT64_MAX};
    struct sink_position out;
    struct err err = {0};
    begin(db);
    put_sink(db, "b", &(struct sink_position){.start_lsn = 1});
    put_sink(db, "a", &(struct sink_position){.start_lsn = 2});
    put_sink(db, "b", &in);
    commit(db);
    forward_db_close(db);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    assert_int_equal(forward_db_sink_get(db, "b", &out, &err), 1);
    assert_memory_equal(&in, &out, sizeof in);
    struct sinks_seen all = {0};
    ok(forward_db_sinks(db, note_sink, &all, &err), &err);
    assert_string_equal(all.names, "a2 b1 ");
    struct sinks_seen one = {.stop_at = 1};
    ok(forward_db_sinks(db, note_sink, &one, &err), &err);
    assert_int_equal(one.count, 1);
    forward_db_close(db);
}

struct batches_seen {
    const struct frozen *expected;
    unsigned count, wrong;
};
static bool check_batch(void *context, const struct frozen *frozen)
{
    struct batches_seen *seen = context;
    seen->wrong += same_frozen(frozen, &seen->expected[seen->count]) ? 0 : 1;
    seen->count++;
    return true;
}

static void batches_come_back_in_order_with_their_rest(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    static uint8_t only[4 * 5000];
    fill(only, sizeof only, 9);
    struct frozen all[] = {frozen_of(5, 1), frozen_of(5, 2), frozen_of(900, 3),
                           frozen_of(INT64_MAX - 9, 4)};
    all[1].quarantine_id = 17;
    all[2].only = (struct slice){only, sizeof only};
    begin(db);
    for (size_t i = ARRAY_COUNT(all); i > 0; i--) {
        ok(forward_db_batch_put(db, "a", &all[i - 1], &err), &err);
    }
    ok(forward_db_batch_put(db, "b", &all[0], &err), &err);
    commit(db);
    forward_db_close(db);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    struct batches_seen seen = {.expected = all};
    ok(forward_db_batches(db, "a", check_batch, &seen, &err), &err);
    assert_int_equal(seen.count, ARRAY_COUNT(all));
    assert_int_equal(seen.wrong, 0);
    forward_db_close(db);
}

static void a_batch_is_replaced_and_removed_by_its_key(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    struct frozen batch = frozen_of(7, 1);
    struct frozen other = frozen_of(7, 2);
    unsigned left = 0;
    begin(db);
    ok(forward_db_batch_put(db, "a", &batch, &err), &err);
    batch.attempts = 99;
    ok(forward_db_batch_put(db, "a", &batch, &err), &err);
    other.quarantine_id = 3;
    ok(forward_db_batch_put(db, "a", &other, &err), &err);
    ok(forward_db_batch_delete(db, "a", &other, &err), &err);
    ok(forward_db_batch_delete(db, "a", &other, &err), &err);
    ok(forward_db_batch_delete(db, "b", &batch, &err), &err);
    commit(db);
    struct batches_seen seen = {.expected = &batch};
    ok(forward_db_batches(db, "a", check_batch, &seen, &err), &err);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.wrong, 0);
    begin(db);
    ok(forward_db_batch_delete(db, "a", &batch, &err), &err);
    commit(db);
    ok(forward_db_batches(db, "a", count_batch, &left, &err), &err);
    assert_int_equal(left, 0);
    forward_db_close(db);
}

static void a_quarantined_record_comes_back_byte_for_byte(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    size_t bytes[] = {MIB(1), 0, 1, 100};
    uint8_t *payload = mem_alloc(MIB(1));
    uint8_t meta[300];
    struct quarantined out;
    fill(meta, sizeof meta, 5);
    for (size_t i = 0; i < ARRAY_COUNT(bytes); i++) {
        struct quarantined in = item_of("a", i, payload, bytes[i]);
        in.record.meta = (struct slice){meta, i % 2 == 0 ? sizeof meta : 0};
        begin(db);
        ok(forward_db_quarantine_put(db, &in, &err), &err);
        commit(db);
        assert_int_equal(in.id, i + 1);
        forward_db_close(db);
        db = open_db(fixture->path, FORWARD_DB_GOOD);
        assert_int_equal(forward_db_quarantine_get(db, in.id, &out, &err), 1);
        assert_true(same_item(&in, &out));
        assert_int_equal(items_of(db, "a"), i + 1); /* what get lent is still there */
        assert_true(same_item(&in, &out));
    }
    assert_int_equal(forward_db_quarantine_get(db, 99, &out, &err), 0);
    forward_db_close(db);
    mem_free(payload);
}

struct ids_seen {
    uint64_t ids[8];
    unsigned count, stop_at;
};
static bool note_id(void *context, const struct quarantined *item)
{
    struct ids_seen *seen = context;
    seen->ids[seen->count++] = item->id;
    return seen->count != seen->stop_at;
}

static void the_quarantine_is_listed_oldest_first_page_by_page(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    begin(db);
    for (uint64_t i = 1; i <= 6; i++) {
        assert_int_equal(put_item(db, i % 2 == 0 ? "even" : "odd", i, 10), i);
    }
    commit(db);
    struct ids_seen page = {0};
    assert_int_equal(forward_db_quarantine_list(db, NULL, 2, 3, note_id, &page, &err), 3);
    assert_int_equal(page.ids[0] * 100 + page.ids[1] * 10 + page.ids[2], 345);
    struct ids_seen odd = {0};
    assert_int_equal(forward_db_quarantine_list(db, "odd", 1, 10, note_id, &odd, &err), 2);
    assert_int_equal(odd.ids[0] * 10 + odd.ids[1], 35);
    struct ids_seen first = {.stop_at = 1};
    assert_int_equal(forward_db_quarantine_list(db, NULL, 0, 10, note_id, &first, &err), 1);
    struct ids_seen none = {0};
    assert_int_equal(forward_db_quarantine_list(db, NULL, UINT64_MAX, 10, note_id, &none, &err), 0);
    assert_int_equal(forward_db_quarantine_list(db, NULL, 0, 0, note_id, &none, &err), 0);
    forward_db_close(db);
}

static void an_id_is_never_used_again(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    begin(db);
    assert_int_equal(put_item(db, "a", 1, 10), 1);
    assert_int_equal(put_item(db, "a", 2, 10), 2);
    ok(forward_db_quarantine_delete(db, 2, &err), &err);
    commit(db);
    forward_db_close(db);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    begin(db);
    assert_int_equal(put_item(db, "a", 3, 10), 3);
    commit(db);
    forward_db_close(db);
}

static void an_item_that_is_not_there_fails_alone(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    struct quarantined out;
    begin(db);
    uint64_t id = put_item(db, "a", 1, 10);
    assert_int_equal(forward_db_quarantine_delete(db, 55, &err), -ENOENT);
    assert_int_equal(forward_db_quarantine_set(db, 55, QUARANTINE_HELD, 1, "", 0, &err), -ENOENT);
    ok(forward_db_quarantine_set(db, id, QUARANTINE_REQUEUED, 422, "again", 88, &err), &err);
    commit(db);
    assert_int_equal(forward_db_quarantine_get(db, id, &out, &err), 1);
    assert_int_equal(out.state, QUARANTINE_REQUEUED);
    assert_int_equal(out.status, 422);
    assert_string_equal(out.reason, "again");
    assert_int_equal(out.refused_at_ns, 88);
    forward_db_close(db);
}

static void meta_is_kept(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    char text[32];
    assert_int_equal(forward_db_meta_get(db, "last_lsn", text, sizeof text, &err), 0);
    begin(db);
    ok(forward_db_meta_put(db, "last_lsn", "1", &err), &err);
    ok(forward_db_meta_put(db, "last_lsn", "12", &err), &err);
    commit(db);
    assert_int_equal(forward_db_meta_get(db, "last_lsn", text, sizeof text, &err), 1);
    assert_string_equal(text, "12");
    forward_db_close(db);
}

/* ---- passes ---- */

static void a_rollback_takes_everything_back_and_the_next_pass_works(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    struct frozen batch = frozen_of(1, 1);
    for (unsigned round = 0; round < 3; round++) {
        unsigned batches = 0;
        begin(db);
        put_sink(db, "a", &(struct sink_position){.start_lsn = 1});
        ok(forward_db_batch_put(db, "a", &batch, &err), &err);
        assert_int_equal(put_item(db, "a", 1, 100), 1);
        assert_true(has_sink(db, "a"));
        forward_db_rollback(db);
        assert_false(has_sink(db, "a"));
        assert_int_equal(items_of(db, NULL), 0);
        ok(forward_db_batches(db, "a", count_batch, &batches, &err), &err);
        assert_int_equal(batches, 0);
    }
    begin(db);
    put_sink(db, "a", &(struct sink_position){.start_lsn = 1});
    commit(db);
    begin(db);
    put_sink(db, "b", &(struct sink_position){.start_lsn = 1});
    forward_db_close(db); /* in the middle of a pass */
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    assert_true(has_sink(db, "a"));
    assert_false(has_sink(db, "b"));
    forward_db_close(db);
}

static off_t wal_bytes(const struct fixture *fixture)
{
    char path[128];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s-wal", fixture->path);
    return stat(path, &info) == 0 ? info.st_size : -1;
}

static void a_pass_without_changes_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    off_t before = wal_bytes(fixture);
    for (unsigned i = 0; i < 100; i++) {
        begin(db);
        assert_false(has_sink(db, "a"));
        commit(db);
    }
    assert_int_equal(wal_bytes(fixture), before);
    forward_db_close(db);
}

/* Fills the disk pass by pass; what fails fails as a whole, and when there is room again everything goes on.
 * give_room: makes room. */
static void fill_the_disk(const char *path, void (*give_room)(void *context), void *context)
{
    struct forward_db *db = open_db(path, FORWARD_DB_MADE);
    struct err err = {0};
    struct sink_position position = {.start_lsn = 1};
    uint8_t *payload = mem_alloc(KIB(64));
    unsigned passes = 0;
    int r = 0;
    while (r == 0 && passes < 1000) {
        position.delivered = passes;
        begin(db);
        r = forward_db_sink_put(db, "a", &position, &err);
        for (unsigned i = 0; i < 2 && r == 0; i++) {
            struct quarantined item = item_of("a", passes, payload, KIB(64));
            r = forward_db_quarantine_put(db, &item, &err);
        }
        if (r < 0) { /* the pass is lost, whatever else is tried in it */
            struct err second = {0};
            assert_int_equal(forward_db_sink_put(db, "b", &position, &second), r);
            assert_int_equal(forward_db_commit(db, &second), r);
            break;
        }
        r = forward_db_commit(db, &err);
        passes += r == 0 ? 1 : 0;
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(items_of(db, "a"), 2 * passes);
    assert_false(has_sink(db, "b"));
    give_room(context);
    begin(db);
    position.delivered = 12345;
    put_sink(db, "a", &position);
    (void)put_item(db, "a", 1, KIB(64));
    commit(db);
    forward_db_close(db);
    db = open_db(path, FORWARD_DB_GOOD);
    assert_int_equal(forward_db_sink_get(db, "a", &position, &err), 1);
    assert_int_equal(position.delivered, 12345);
    assert_int_equal(items_of(db, "a"), 2 * passes + 1);
    forward_db_close(db);
    mem_free(payload);
}

static void raise_limit(void *context)
{
    assert_int_equal(setrlimit(RLIMIT_FSIZE, context), 0);
}

static void a_file_size_limit_is_a_full_disk_and_passes(void **state)
{
    struct fixture *fixture = *state;
    struct rlimit before;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = KIB(700), .rlim_max = before.rlim_max};
    assert_int_equal(sigaction(SIGXFSZ, &ignore, &old), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fill_the_disk(fixture->path, raise_limit, &before);
    assert_int_equal(sigaction(SIGXFSZ, &old, NULL), 0);
}

static void grow_tmpfs(void *context)
{
    assert_int_equal(mount("none", context, "tmpfs", MS_REMOUNT, "size=16m"), 0);
}

/* In a mount namespace of its own: 77 where the host does not allow one. */
static int fill_tmpfs(const struct fixture *fixture)
{
    char dir[96];
    char path[128];
    (void)snprintf(dir, sizeof dir, "%s/tiny", fixture->dir);
    (void)snprintf(path, sizeof path, "%s/%s", dir, FORWARD_DB_FILE);
    if (mkdir(dir, 0700) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", dir, "tmpfs", 0, "size=1m") < 0) {
        return 77;
    }
    fill_the_disk(path, grow_tmpfs, dir);
    return 0;
}

static void a_full_file_system_loses_the_pass_and_nothing_else(void **state)
{
    struct fixture *fixture = *state;
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("CMOCKA_TEST_ABORT", "1", 1); /* what fails here ends here */
        _exit(fill_tmpfs(fixture));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no mount namespace with a tmpfs here\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void another_writer_fails_the_pass_not_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct err err = {0};
    sqlite3 *other = NULL;
    struct sink_position position = {.start_lsn = 1};
    assert_int_equal(sqlite3_open(fixture->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    begin(db);
    assert_int_equal(forward_db_sink_put(db, "a", &position, &err), -EBUSY);
    assert_int_equal(forward_db_commit(db, &err), -EBUSY);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    begin(db);
    put_sink(db, "a", &position);
    commit(db);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    forward_db_close(db);
}

/* ---- files that are not what they should be ---- */

static void make_file(const char *path, uint64_t items)
{
    struct forward_db *db = open_db(path, FORWARD_DB_MADE);
    begin(db);
    put_sink(db, "a", &(struct sink_position){.start_lsn = 1});
    for (uint64_t i = 0; i < items; i++) {
        (void)put_item(db, "a", i, 5000);
    }
    commit(db);
    forward_db_close(db);
}

static void overwrite(const char *path, off_t at, const void *data, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, bytes, at), bytes);
    assert_int_equal(close(fd), 0);
}

static void expect_remade(const struct fixture *fixture)
{
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_DAMAGED);
    assert_false(has_sink(db, "a"));
    begin(db);
    put_sink(db, "a", &(struct sink_position){.start_lsn = 9});
    commit(db);
    forward_db_close(db);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    assert_true(has_sink(db, "a"));
    forward_db_close(db);
}

static void a_damaged_file_is_moved_aside_and_made_again(void **state)
{
    struct fixture *fixture = *state;
    uint8_t noise[4096];
    make_file(fixture->path, 40);
    fill(noise, sizeof noise, 3);
    overwrite(fixture->path, 0, noise, sizeof noise);
    expect_remade(fixture);
    assert_true(is_there(fixture, ".damaged"));
    overwrite(fixture->path, 4096, noise, sizeof noise); /* a page in the middle */
    expect_remade(fixture);
    assert_true(is_there(fixture, ".damaged.2"));
    overwrite(fixture->path, 0, "not a database at all, but long enough", 38);
    expect_remade(fixture);
    assert_true(is_there(fixture, ".damaged.3"));
}

static void a_truncated_file_is_damaged_and_an_empty_one_is_new(void **state)
{
    struct fixture *fixture = *state;
    make_file(fixture->path, 40);
    assert_int_equal(truncate(fixture->path, 3 * 4096), 0);
    expect_remade(fixture);
    assert_int_equal(truncate(fixture->path, 0), 0);
    forward_db_close(open_db(fixture->path, FORWARD_DB_MADE));
}

static void the_last_place_for_damaged_files_is_used_again(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 12; i++) {
        overwrite(fixture->path, 0, "not a database at all, but long enough", 38);
        expect_remade(fixture);
    }
    assert_true(is_there(fixture, ".damaged.9"));
    assert_false(is_there(fixture, ".damaged.10"));
}

/* A process that writes and dies in the middle of its life, with a -wal that is not empty. */
static void die_after_commit(const char *path, uint64_t items)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        enum forward_db_found found;
        struct err err = {0};
        struct forward_db *db = NULL;
        if (forward_db_open(&db, path, node, &found, &err) < 0) {
            _exit(1);
        }
        begin(db);
        put_sink(db, "last", &(struct sink_position){.start_lsn = 1});
        for (uint64_t i = 0; i < items; i++) {
            (void)put_item(db, "last", i, 5000);
        }
        commit(db);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void the_wal_goes_aside_with_its_file(void **state)
{
    struct fixture *fixture = *state;
    make_file(fixture->path, 1);
    die_after_commit(fixture->path, 20);
    off_t bytes = wal_bytes(fixture);
    assert_true(bytes > 50000);
    /* Another node's: the pages are good, also those of the -wal. */
    struct ulid other = node;
    other.bytes[0] = 99;
    forward_db_close(open_as(fixture->path, other, FORWARD_DB_DAMAGED));
    assert_true(is_there(fixture, ".damaged-wal"));
    char aside[128];
    (void)snprintf(aside, sizeof aside, "%s.damaged", fixture->path);
    struct forward_db *db = open_db(aside, FORWARD_DB_GOOD);
    assert_true(has_sink(db, "last"));
    assert_int_equal(items_of(db, "last"), 20);
    forward_db_close(db);
    db = open_as(fixture->path, other, FORWARD_DB_GOOD);
    assert_false(has_sink(db, "last"));
    forward_db_close(db);
}

static void somebody_elses_database_is_moved_aside(void **state)
{
    struct fixture *fixture = *state;
    sqlite3 *sql = NULL;
    assert_int_equal(sqlite3_open(fixture->path, &sql), SQLITE_OK);
    assert_int_equal(sqlite3_exec(sql, "CREATE TABLE mine(x)", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(sql), SQLITE_OK);
    expect_remade(fixture);
    assert_true(is_there(fixture, ".damaged"));
}

/* By a process that dies: the new number is only in the -wal. */
static void make_newer(const char *path)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sqlite3 *sql = NULL;
        (void)sqlite3_open(path, &sql);
        (void)sqlite3_exec(sql, "PRAGMA user_version = 99", NULL, NULL, NULL);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void a_newer_file_is_refused_and_not_touched(void **state)
{
    struct fixture *fixture = *state;
    char command[300];
    struct err err = {0};
    enum forward_db_found found;
    struct forward_db *db = NULL;
    make_file(fixture->path, 3);
    make_newer(fixture->path);
    (void)snprintf(command, sizeof command, "cd %s && for f in %s %s-wal; do cp $f $f.copy; done",
                   fixture->dir, FORWARD_DB_FILE, FORWARD_DB_FILE);
    assert_int_equal(system(command), 0);
    assert_int_equal(forward_db_open(&db, fixture->path, node, &found, &err), ERR_VERSION);
    assert_null(db);
    assert_non_null(strstr(err.text, "newer Sluice"));
    assert_int_equal(forward_db_open_read_only(&db, fixture->path, &err), ERR_VERSION);
    (void)snprintf(command, sizeof command,
                   "cd %s && for f in %s %s-wal; do cmp -s $f $f.copy || exit 1; done",
                   fixture->dir, FORWARD_DB_FILE, FORWARD_DB_FILE);
    assert_int_equal(system(command), 0);
    assert_false(is_there(fixture, ".damaged"));
}

static void a_value_out_of_range_is_damage_not_a_crash(void **state)
{
    static const char *const damages[] = {
        "UPDATE batches SET digest = x'00'",
        "UPDATE batches SET lane = 7",
        "UPDATE batches SET encoding = printf('%.*c', 500, 'x')",
        "UPDATE batches SET only = x'010203'",
        "UPDATE batches SET last_lsn = 0",
        "UPDATE quarantine SET sink = printf('%.*c', 500, 'x')",
        "UPDATE quarantine SET record_id = x''",
        "UPDATE quarantine SET kind = 1000",
        "UPDATE quarantine SET state = 2",
    };
    struct fixture *fixture = *state;
    struct err err = {0};
    for (size_t i = 0; i < ARRAY_COUNT(damages); i++) {
        bool is_batch = strstr(damages[i], "batches") != NULL;
        unsigned count = 0;
        sqlite3 *sql = NULL;
        struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
        struct frozen batch = frozen_of(9, 1);
        struct quarantined item;
        begin(db);
        ok(forward_db_batch_put(db, "a", &batch, &err), &err);
        (void)put_item(db, "a", 1, 10);
        commit(db);
        assert_int_equal(sqlite3_open(fixture->path, &sql), SQLITE_OK);
        assert_int_equal(sqlite3_exec(sql, damages[i], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(sql), SQLITE_OK);
        assert_int_equal(is_batch
                             ? forward_db_batches(db, "a", count_batch, &count, &err)
                             : forward_db_quarantine_list(db, NULL, 0, 9, count_item, &count, &err),
                         ERR_CORRUPT);
        assert_int_equal(forward_db_quarantine_get(db, 1, &item, &err), is_batch ? 1 : ERR_CORRUPT);
        begin(db); /* nothing is left under way */
        put_sink(db, "a", &(struct sink_position){.start_lsn = 1});
        commit(db);
        forward_db_close(db);
        assert_int_equal(unlink(fixture->path), 0);
    }
}

/* ---- readers ---- */

static void a_reader_of_nothing_says_so(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *reader = NULL;
    struct err err = {0};
    assert_int_equal(forward_db_open_read_only(&reader, fixture->path, &err), -ENOENT);
    assert_false(is_there(fixture, ""));
    overwrite(fixture->path, 0, "", 0); /* there, but nothing in it yet */
    assert_int_equal(forward_db_open_read_only(&reader, fixture->path, &err), -ENOENT);
    assert_null(reader);
    overwrite(fixture->path, 0, "not a database at all, but long enough", 38);
    assert_int_equal(forward_db_open_read_only(&reader, fixture->path, &err), ERR_CORRUPT);
    assert_false(is_there(fixture, ".damaged"));
}

static void a_reader_sees_what_is_committed_beside_a_live_writer(void **state)
{
    struct fixture *fixture = *state;
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_MADE);
    struct forward_db *reader = open_reader(fixture->path);
    for (uint64_t i = 1; i <= 300; i++) { /* through several checkpoints */
        begin(db);
        (void)put_item(db, "a", i, 20000);
        assert_int_equal(items_of(reader, "a"), i - 1);
        commit(db);
        assert_int_equal(items_of(reader, "a"), i);
    }
    forward_db_close(reader);
    reader = open_reader(fixture->path);
    forward_db_close(db);
    assert_int_equal(items_of(reader, "a"), 300);
    forward_db_close(reader);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    assert_int_equal(items_of(db, "a"), 300);
    forward_db_close(db);
}

static void a_reader_leaves_no_files_behind(void **state)
{
    struct fixture *fixture = *state;
    char lone[128];
    char wal[140];
    struct stat info;
    make_file(fixture->path, 2);
    assert_int_equal(wal_bytes(fixture), 0); /* closed: there, and nothing in it */
    struct forward_db *reader = open_reader(fixture->path);
    assert_int_equal(items_of(reader, "a"), 2);
    forward_db_close(reader);
    assert_int_equal(wal_bytes(fixture), 0);
    /* A file alone, as from a backup. */
    (void)snprintf(lone, sizeof lone, "%s/a ?b%%c#d.sqlite", fixture->dir);
    (void)snprintf(wal, sizeof wal, "%s-wal", lone);
    assert_int_equal(rename(fixture->path, lone), 0);
    reader = open_reader(lone);
    assert_int_equal(items_of(reader, "a"), 2);
    assert_int_equal(stat(wal, &info), -1);
    forward_db_close(reader);
    assert_int_equal(stat(wal, &info), -1);
}

static void a_reader_after_kill_9_sees_the_last_commit_and_hinders_nobody(void **state)
{
    struct fixture *fixture = *state;
    make_file(fixture->path, 2);
    die_after_commit(fixture->path, 20);
    struct forward_db *reader = open_reader(fixture->path);
    assert_true(has_sink(reader, "last"));
    assert_int_equal(items_of(reader, "last"), 20);
    /* The next writer comes while it looks. */
    struct forward_db *db = open_db(fixture->path, FORWARD_DB_GOOD);
    begin(db);
    (void)put_item(db, "last", 21, 10);
    commit(db);
    assert_int_equal(items_of(reader, "last"), 21);
    forward_db_close(db);
    forward_db_close(reader);
    db = open_db(fixture->path, FORWARD_DB_GOOD);
    assert_int_equal(items_of(db, "last"), 21);
    forward_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_new_file_is_made_and_then_found),
        TEST(positions_come_back_in_every_field),
        TEST(batches_come_back_in_order_with_their_rest),
        TEST(a_batch_is_replaced_and_removed_by_its_key),
        TEST(a_quarantined_record_comes_back_byte_for_byte),
        TEST(the_quarantine_is_listed_oldest_first_page_by_page),
        TEST(an_id_is_never_used_again),
        TEST(an_item_that_is_not_there_fails_alone),
        TEST(meta_is_kept),
        TEST(a_rollback_takes_everything_back_and_the_next_pass_works),
        TEST(a_pass_without_changes_costs_nothing),
        TEST(a_file_size_limit_is_a_full_disk_and_passes),
        TEST(a_full_file_system_loses_the_pass_and_nothing_else),
        TEST(another_writer_fails_the_pass_not_the_next),
        TEST(a_damaged_file_is_moved_aside_and_made_again),
        TEST(a_truncated_file_is_damaged_and_an_empty_one_is_new),
        TEST(the_last_place_for_damaged_files_is_used_again),
        TEST(the_wal_goes_aside_with_its_file),
        TEST(somebody_elses_database_is_moved_aside),
        TEST(a_newer_file_is_refused_and_not_touched),
        TEST(a_value_out_of_range_is_damage_not_a_crash),
        TEST(a_reader_of_nothing_says_so),
        TEST(a_reader_sees_what_is_committed_beside_a_live_writer),
        TEST(a_reader_leaves_no_files_behind),
        TEST(a_reader_after_kill_9_sees_the_last_commit_and_hinders_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
