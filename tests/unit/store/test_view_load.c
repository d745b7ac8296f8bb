/* view_load: the picture of a directory as a tool finds it: each segment once and in its best form, whatever the
 * archive does while it is listed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "form_fixture.h"
#include "log_fixture.h"
#include "store/segment.h"
#include "store/view_load.h"

#define NAMES_MAX 32

/* A file_io of which only the listing is another: what happens while a directory is read. */
struct moving_dir {
    struct file_io io; /* first: ops get this pointer */
    struct file_io_ops ops;
    struct file_io *below;
    unsigned listings;
    uint64_t replace_id; /* compacted, and its raw file gone, behind the first listing */
    uint64_t hide_id;    /* neither form is seen by the first hide_count listings */
    unsigned hide_count;
    bool always_moves; /* each listing names a file that is gone */
    file_on_name on_name;
    void *context;
};

static struct log_fixture log_files;
static struct moving_dir moving;
static struct log_views *views;
static unsigned problems;
static char problem[512];

static int moving_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    struct moving_dir *dir = (struct moving_dir *)io;
    return dir->below->ops->open(dir->below, name, flags, file);
}

static void moving_close(struct file_io *io, struct file file)
{
    struct moving_dir *dir = (struct moving_dir *)io;
    dir->below->ops->close(dir->below, file);
}

static int64_t moving_size(struct file_io *io, struct file file)
{
    struct moving_dir *dir = (struct moving_dir *)io;
    return dir->below->ops->size(dir->below, file);
}

static int64_t moving_read(struct file_io *io, struct file file, void *to, uint64_t bytes,
                           uint64_t offset)
{
    struct moving_dir *dir = (struct moving_dir *)io;
    return dir->below->ops->read(dir->below, file, to, bytes, offset);
}

static void moving_on_name(void *context, const char *name)
{
    struct moving_dir *dir = context;
    uint64_t id = 0;
    bool is_segment = segment_parse_name(&id, name) || compacted_parse_name(&id, name);
    if (is_segment && id == dir->hide_id && dir->listings <= dir->hide_count) {
        return;
    }
    dir->on_name(dir->context, name);
}

static int moving_list(struct file_io *io, const char *name, file_on_name on_name, void *context)
{
    struct moving_dir *dir = (struct moving_dir *)io;
    dir->listings++;
    dir->on_name = on_name;
    dir->context = context;
    int r = dir->below->ops->list(dir->below, name, moving_on_name, dir);
    if (dir->always_moves) {
        on_name(context, "00000000000000ff.seg");
    }
    if (dir->replace_id != 0 && dir->listings == 1) {
        form_fixture_replace(dir->below, dir->replace_id, &(struct form_options){0});
    }
    return r;
}

/* Three segments, LSN 1 to 30. */
static int set_up(void **state)
{
    (void)state;
    struct err err = {0};
    log_fixture_open(&log_files);
    for (unsigned i = 0; i < 3; i++) {
        log_fixture_segment(&log_files);
        log_fixture_batch(&log_files, 4);
        log_fixture_batch(&log_files, 6);
    }
    moving = (struct moving_dir){.below = log_files.io};
    moving.ops = (struct file_io_ops){.open = moving_open,
                                      .close = moving_close,
                                      .size = moving_size,
                                      .read = moving_read,
                                      .list = moving_list};
    moving.io.ops = &moving.ops;
    problems = 0;
    return log_views_open(&views, &moving.io, &err);
}

static int tear_down(void **state)
{
    (void)state;
    log_views_close(views);
    log_fixture_close(&log_files);
    return 0;
}

static void on_problem(void *context, const char *line)
{
    (void)context;
    problems++;
    (void)snprintf(problem, sizeof problem, "%s", line);
}

static int load(void)
{
    struct err err = {0};
    return log_views_load(views, &moving.io, on_problem, NULL, &err);
}

/* "1:sealed 2:compacted", as the view says it. */
static void expect_view(const char *expected)
{
    static const char *const names[] = {
        [VIEW_ACTIVE] = "active", [VIEW_SEALED] = "sealed", [VIEW_COMPACTED] = "compacted"};
    char text[256] = "";
    struct log_view *view = log_view_take(views);
    for (size_t i = 0; i < view->count; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, "%s%llu:%s", i > 0 ? " " : "",
                       (unsigned long long)view->segments[i]->id, names[view->segments[i]->state]);
    }
    log_view_give(views, view);
    assert_string_equal(text, expected);
}

static void each_form_is_found(void **state)
{
    (void)state;
    struct form_options options = {0};
    form_fixture_replace(log_files.io, 1, &options);
    form_fixture_seal(log_files.io, 2, &options);
    assert_int_equal(load(), 0);
    expect_view("1:compacted 2:sealed 3:active");
    assert_int_equal(problems, 0);
    assert_int_equal(moving.listings, 1);
}

static void of_two_forms_the_compacted_one_is_taken(void **state)
{
    (void)state;
    form_fixture_compact(log_files.io, 2, &(struct form_options){0});
    assert_int_equal(load(), 0);
    expect_view("1:active 2:compacted 3:active");
}

static void garble(const char *name, uint64_t from_end)
{
    struct file file;
    uint8_t bytes[16];
    memset(bytes, 0xee, sizeof bytes);
    assert_int_equal(log_files.io->ops->open(log_files.io, name, 0, &file), 0);
    int64_t size = log_files.io->ops->size(log_files.io, file);
    assert_int_equal(log_files.io->ops->write(log_files.io, file, bytes, sizeof bytes,
                                              from_end == 0 ? 0 : (uint64_t)size - from_end, false),
                     0);
    log_files.io->ops->close(log_files.io, file);
}

static void a_damaged_footer_shows_the_raw_file_as_not_sealed(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_BYTES];
    form_fixture_seal(log_files.io, 2, &(struct form_options){0});
    segment_name(name, 2);
    garble(name, STORE_BLOCK_BYTES);
    assert_int_equal(load(), 0);
    expect_view("1:active 2:active 3:active");
}

static void a_damaged_compacted_file_is_told_and_its_raw_one_taken(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_BYTES];
    form_fixture_compact(log_files.io, 2, &(struct form_options){0});
    compacted_name(name, 2);
    garble(name, STORE_BLOCK_BYTES);
    assert_int_equal(load(), 0);
    assert_int_equal(problems, 1);
    assert_non_null(strstr(problem, "0000000000000002.slc"));
    struct log_view *view = log_view_take(views);
    assert_int_equal(view->count, 3);
    assert_true(view->segments[1]->state != VIEW_COMPACTED);
    log_view_give(views, view);
}

static void a_damaged_header_is_told_once_and_left_out(void **state)
{
    (void)state;
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, 2);
    garble(name, 0);
    moving.replace_id = 3; /* so that the directory is read twice */
    assert_int_equal(load(), 0);
    assert_int_equal(moving.listings, 2);
    expect_view("1:active 3:compacted");
    assert_int_equal(problems, 1);
    assert_non_null(strstr(problem, "0000000000000002.seg"));
}

static void a_file_that_is_compacted_meanwhile_is_found_in_its_new_form(void **state)
{
    (void)state;
    moving.replace_id = 2;
    assert_int_equal(load(), 0);
    expect_view("1:active 2:compacted 3:active");
    assert_int_equal(moving.listings, 2);
    assert_int_equal(problems, 0);
}

/* Compacted while the directory was read: the listing passed the new name before it was there and the old one
 * after it had gone. */
static void a_listing_that_saw_neither_form_is_made_again(void **state)
{
    (void)state;
    moving.hide_id = 2;
    moving.hide_count = 1;
    assert_int_equal(load(), 0);
    expect_view("1:active 2:active 3:active");
}

static void a_segment_that_is_missing_for_good_does_not_hide_the_others(void **state)
{
    (void)state;
    moving.hide_id = 2;
    moving.hide_count = UINT32_MAX;
    assert_int_equal(load(), 0);
    expect_view("1:active 3:active");
}

static void a_directory_that_never_rests_is_an_error_and_no_view(void **state)
{
    (void)state;
    assert_int_equal(load(), 0);
    moving.always_moves = true;
    assert_int_equal(load(), -EAGAIN);
    expect_view("1:active 2:active 3:active"); /* as it was */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_form_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(of_two_forms_the_compacted_one_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_footer_shows_the_raw_file_as_not_sealed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_compacted_file_is_told_and_its_raw_one_taken,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_header_is_told_once_and_left_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_compacted_meanwhile_is_found_in_its_new_form,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_listing_that_saw_neither_form_is_made_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_segment_that_is_missing_for_good_does_not_hide_the_others,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_never_rests_is_an_error_and_no_view,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
