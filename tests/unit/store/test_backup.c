/* backup: a copy that is whole or says so, whose way back checks every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "form_fixture.h"
#include "log_fixture.h"
#include "store/backup_files.h"
#include "store/catalog.h"
#include "store/lineage.h"
#include "store/node.h"
#include "store/origins.h"
#include "store/reader.h"
#include "store/segment.h"

#define RECORDS_EACH 10u /* in each segment */

struct fixture {
    char base[64];
    char data[128], to[128], back[128];
    unsigned problems;
};

static void copy_out(struct file_io *io, const char *name, const char *dir)
{
    char path[256];
    struct file file;
    assert_int_equal(io->ops->open(io, name, FILE_OPEN_READ_ONLY, &file), 0);
    int64_t bytes = io->ops->size(io, file);
    assert_true(bytes > 0);
    uint8_t *data = mem_alloc((size_t)bytes);
    assert_int_equal(io->ops->read(io, file, data, (uint64_t)bytes, 0), bytes);
    io->ops->close(io, file);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, (size_t)bytes), bytes);
    close(fd);
    mem_free(data);
}

/* Segments 1 compacted, 2 sealed, 3 raw and waiting, 4 being written: LSN 1 to 40; on the real disk. */
static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    struct log_fixture log;
    struct file_io *io = NULL;
    struct err err = {0};
    struct ulid node = {{1, 2, 3}};
    char name[SEGMENT_NAME_BYTES];
    char path[256];
    (void)snprintf(fixture->base, sizeof fixture->base, "./backup_test_XXXXXX");
    assert_non_null(mkdtemp(fixture->base));
    (void)snprintf(fixture->data, sizeof fixture->data, "%s/data", fixture->base);
    (void)snprintf(fixture->to, sizeof fixture->to, "%s/to", fixture->base);
    (void)snprintf(fixture->back, sizeof fixture->back, "%s/back", fixture->base);
    (void)snprintf(path, sizeof path, "%s/log", fixture->data);
    assert_int_equal(mkdir(fixture->data, 0700), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    log_fixture_open(&log);
    for (unsigned i = 0; i < 4; i++) {
        log_fixture_segment(&log);
        log_fixture_batch(&log, 4);
        log_fixture_batch(&log, RECORDS_EACH - 4);
    }
    form_fixture_replace(log.io, 1, &(struct form_options){0});
    form_fixture_seal(log.io, 2, &(struct form_options){0});
    compacted_name(name, 1);
    copy_out(log.io, name, fixture->data);
    for (uint64_t id = 2; id <= 4; id++) {
        segment_name(name, id);
        copy_out(log.io, name, fixture->data);
    }
    log_fixture_close(&log);
    assert_int_equal(file_io_real_open_existing(&io, fixture->data, &err), 0);
    assert_int_equal(node_write(&node, io, &err), 0);
    io->ops->destroy(io);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    backup_remove_dir(fixture->data);
    backup_remove_dir(fixture->to);
    backup_remove_dir(fixture->back);
    int r = rmdir(fixture->base); /* fails when a test leaves what it should not */
    mem_free(fixture);
    return r;
}

static void on_problem(void *context, const char *line)
{
    (void)line;
    ((struct fixture *)context)->problems++;
}

static int take(struct fixture *fixture, struct backup_report *report, struct err *err)
{
    struct backup_progress progress = {.on_problem = on_problem, .context = fixture};
    fixture->problems = 0;
    const struct backup_source source = {.data_dir = fixture->data};
    return backup_make(&source, fixture->to, &progress, report, err);
}

static bool exists(const char *dir, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static ino_t inode(const char *dir, const char *name)
{
    char path[256];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(stat(path, &status), 0);
    return status.st_ino;
}

static void poke(const char *dir, const char *name, off_t at)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\xee\xee\xee\xee\xee\xee\xee\xee", 8, at), 8);
    close(fd);
}

static void ignore_fault(void *context, const char *line)
{
    (void)context;
    print_message("%s\n", line);
}

static uint64_t verified_last_lsn(const char *dir)
{
    struct file_io *io = NULL;
    struct err err = {0};
    struct verify_report report = {0};
    assert_int_equal(file_io_real_open_existing(&io, dir, &err), 0);
    assert_int_equal(log_verify(io, &report, ignore_fault, NULL, &err), 0);
    io->ops->destroy(io);
    assert_int_equal(report.faults, 0);
    return report.last_lsn;
}

static void every_form_comes_back_and_verifies(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(report.files, 5); /* node and four segments */
    assert_int_equal(report.left_out, 0);
    assert_false(exists(fixture->to, LINEAGE_MARKER));
    assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err), 0);
    assert_int_equal(report.files, 5);
    assert_true(exists(fixture->back, LINEAGE_MARKER));
    assert_int_equal(verified_last_lsn(fixture->back), 4 * RECORDS_EACH);
}

static void put_text(const char *dir, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect_text(const char *dir, const char *name, const char *expected)
{
    char path[256];
    char text[64] = "";
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, text, sizeof text - 1), strlen(expected));
    assert_string_equal(text, expected);
    close(fd);
}

/* Where the line of a file stands in the manifest. */
static size_t place_in_manifest(const struct fixture *fixture, const char *name)
{
    char path[256];
    char text[4096] = "";
    (void)snprintf(path, sizeof path, "%s/" BACKUP_MANIFEST, fixture->to);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    assert_int_equal(fclose(file), 0);
    const char *at = strstr(text, name);
    assert_non_null(at);
    return (size_t)(at - text);
}

/* What came from others may be older than the log, the lineage newer: so they are copied. */
static void what_came_from_others_and_the_lineage_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    put_text(fixture->data, ORIGINS_FILE, "origins");
    put_text(fixture->data, LINEAGE_FILE, "lineage");
    put_text(fixture->data, LINEAGE_MARKER, "");
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(report.files, 7);
    assert_true(place_in_manifest(fixture, " origins\n") < place_in_manifest(fixture, " log/"));
    assert_true(place_in_manifest(fixture, " lineage\n") >
                place_in_manifest(fixture, " log/0000000000000001"));
    assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err), 0);
    expect_text(fixture->back, ORIGINS_FILE, "origins");
    expect_text(fixture->back, LINEAGE_FILE, "lineage");
    assert_true(exists(fixture->back, LINEAGE_MARKER));
}

/* A batch that is torn when its file is copied: the copy ends before it. */
static void the_copy_is_a_prefix_in_whole_batches(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    poke(fixture->data, "log/0000000000000004.seg", 2 * (off_t)STORE_BLOCK_BYTES + 140);
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err), 0);
    assert_int_equal(verified_last_lsn(fixture->back), 3 * RECORDS_EACH + 4);
}

/* Nor is what stands behind a hole taken: there the hole would look like damage. */
static void a_whole_batch_behind_a_torn_one_is_not_taken(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    poke(fixture->data, "log/0000000000000004.seg", (off_t)STORE_BLOCK_BYTES + 140);
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err), 0);
    assert_false(exists(fixture->back, "log/0000000000000004.seg")); /* begun, and nothing in it */
    assert_int_equal(verified_last_lsn(fixture->back), 3 * RECORDS_EACH);
}

/* The footer of a sealed raw file is written again when damage is found in it: a link would change under the
 * manifest. */
static void only_what_never_changes_is_linked(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(report.linked, 1);
    assert_true(inode(fixture->data, "log/0000000000000001.slc") ==
                inode(fixture->to, "log/0000000000000001.slc"));
    assert_true(inode(fixture->data, "log/0000000000000002.seg") !=
                inode(fixture->to, "log/0000000000000002.seg"));
}

static void a_damaged_segment_is_left_out_and_counted(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    poke(fixture->data, "log/0000000000000003.seg", 0);
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(report.left_out, 1);
    assert_int_equal(fixture->problems, 1);
    assert_int_equal(report.files, 4);
}

static void a_catalog_that_is_no_database_does_not_stop_it(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    char path[256];
    uint8_t noise[8192];
    memset(noise, 0x5a, sizeof noise);
    (void)snprintf(path, sizeof path, "%s/%s", fixture->data, CATALOG_FILE);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, noise, sizeof noise), sizeof noise);
    close(fd);
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(report.left_out, 1);
    assert_false(exists(fixture->to, CATALOG_FILE));
    assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err), 0);
}

static void a_copy_that_fails_leaves_no_manifest(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    char path[256];
    (void)snprintf(path, sizeof path, "%s/runs.sqlite", fixture->data);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "this is no database, and nothing can make it again", 50), 50);
    close(fd);
    assert_true(take(fixture, &report, &err) < 0);
    assert_non_null(strstr(err.text, "runs.sqlite"));
    assert_false(exists(fixture->to, BACKUP_MANIFEST));
    assert_false(exists(fixture->to, BACKUP_MANIFEST ".tmp"));
    assert_true(backup_restore(fixture->to, fixture->back, NULL, &report, &err) < 0);
}

static void what_is_no_data_directory_leaves_no_trace(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", fixture->data, NODE_FILE);
    assert_int_equal(unlink(path), 0);
    assert_true(take(fixture, &report, &err) < 0);
    assert_false(exists(fixture->to, ""));
}

static void a_restore_that_fails_leaves_nothing_and_can_be_tried_again(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    char staging[256];
    assert_int_equal(take(fixture, &report, &err), 0);
    poke(fixture->to, "log/0000000000000002.seg", 9000);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(backup_restore(fixture->to, fixture->back, NULL, &report, &err),
                         ERR_CORRUPT);
        assert_non_null(strstr(err.text, "0000000000000002.seg"));
    }
    (void)snprintf(staging, sizeof staging, "%s.restoring", fixture->back);
    assert_false(exists(staging, ""));
    assert_false(exists(fixture->back, ""));
}

static void a_slash_behind_the_name_is_no_other_directory(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    char back[256];
    (void)snprintf(back, sizeof back, "%s//", fixture->back);
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(mkdir(fixture->back, 0700), 0); /* empty: may be */
    if (backup_restore(fixture->to, back, NULL, &report, &err) < 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(verified_last_lsn(fixture->back), 4 * RECORDS_EACH);
}

static void a_directory_with_something_in_it_is_never_written_to(void **state)
{
    struct fixture *fixture = *state;
    struct backup_report report;
    struct err err = {0};
    assert_int_equal(take(fixture, &report, &err), 0);
    assert_int_equal(take(fixture, &report, &err), -ENOTEMPTY);
    assert_true(exists(fixture->to, BACKUP_MANIFEST));
    assert_int_equal(backup_restore(fixture->to, fixture->data, NULL, &report, &err), -ENOTEMPTY);
    assert_int_equal(verified_last_lsn(fixture->data), 4 * RECORDS_EACH);
}

#define DIGEST "00112233445566778899aabbccddeeff"

static void a_line_of_the_manifest_is_exactly_one(void **state)
{
    (void)state;
    struct backup_entry entry;
    assert_true(backup_entry_parse(&entry, "file " DIGEST " 12345 log/0000000000000001.seg\n"));
    assert_int_equal(entry.bytes, 12345);
    assert_int_equal(entry.digest[15], 0xff);
    assert_string_equal(entry.name, "log/0000000000000001.seg");
    assert_true(backup_entry_parse(&entry, "file " DIGEST " 18446744073709551615 node"));
    static const char *const bad[] = {
        "",
        "\n",
        "file",
        "file ",
        "file " DIGEST,
        "file " DIGEST "\n",
        "file " DIGEST " 1\n",
        "file " DIGEST " 1 \n",
        "file " DIGEST " -1 node\n",
        "file " DIGEST " +1 node\n",
        "file " DIGEST " 0x1 node\n",
        "file " DIGEST " 18446744073709551616 node\n",
        "file " DIGEST " 99999999999999999999999 node\n",
        "file  " DIGEST " 1 node\n",
        " file " DIGEST " 1 node\n",
        "file\t" DIGEST " 1 node\n",
        "file " DIGEST " 1 node \n",
        "file " DIGEST " 1 node\r\n",
        "file " DIGEST "0 1 node\n",
        "file 00112233445566778899AABBCCDDEEFF 1 node\n",
        "file 00112233445566778899aabbccddeef 1 node\n",
        "file 00112233445566778899aabbccddeefg 1 node\n",
        "file " DIGEST " 1 /etc/passwd\n",
        "file " DIGEST " 1 ../node\n",
        "file " DIGEST " 1 log/../node\n",
        "file " DIGEST " 1 log/.hidden\n",
        "file " DIGEST " 1 .\n",
        "file " DIGEST " 1 log/\n",
        "file " DIGEST " 1 a/b/c\n",
        "file " DIGEST " 1 log//x\n",
        "file " DIGEST " 1 no de\n",
        "file " DIGEST " 1 n\x7fode\n",
        "file " DIGEST " 1 n\xc3\xa9\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (backup_entry_parse(&entry, bad[i])) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
}

static void a_name_has_room_for_255_bytes(void **state)
{
    (void)state;
    struct backup_entry entry;
    char line[512];
    char name[300];
    memset(name, 'a', sizeof name);
    (void)snprintf(line, sizeof line, "file " DIGEST " 1 %.255s\n", name);
    assert_true(backup_entry_parse(&entry, line));
    assert_int_equal(strlen(entry.name), 255);
    (void)snprintf(line, sizeof line, "file " DIGEST " 1 %.256s\n", name);
    assert_false(backup_entry_parse(&entry, line));
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(every_form_comes_back_and_verifies),
        ON_DISK(the_copy_is_a_prefix_in_whole_batches),
        ON_DISK(a_whole_batch_behind_a_torn_one_is_not_taken),
        ON_DISK(only_what_never_changes_is_linked),
        ON_DISK(a_damaged_segment_is_left_out_and_counted),
        ON_DISK(a_catalog_that_is_no_database_does_not_stop_it),
        ON_DISK(a_copy_that_fails_leaves_no_manifest),
        ON_DISK(what_came_from_others_and_the_lineage_come_back),
        ON_DISK(what_is_no_data_directory_leaves_no_trace),
        ON_DISK(a_restore_that_fails_leaves_nothing_and_can_be_tried_again),
        ON_DISK(a_slash_behind_the_name_is_no_other_directory),
        ON_DISK(a_directory_with_something_in_it_is_never_written_to),
        cmocka_unit_test(a_line_of_the_manifest_is_exactly_one),
        cmocka_unit_test(a_name_has_room_for_255_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
