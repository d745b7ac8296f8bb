/*
 * File sinks through transport.h, on a real directory. A crash is a transport that is closed, with what it had left on the
 * disk changed to what a crash may leave; the next one knows the frozen targets, as the database would tell.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "forward/file_target.h"
#include "forward/transport.h"

#define T0          (INT64_C(1763740800) * (int64_t)NS_S) /* 2025-11-21T16:00:00Z */
#define PATIENCE_NS (30 * NS_S)
#define ROOM        65536

struct fixture {
    char directory[64];
    struct config_sink sink;
    struct transport *transport;
    int64_t now_ns;
    unsigned answers;
    enum transport_fault fault;
    char text[FORWARD_REASON_BYTES];
};

static void fixture_on_answer(void *context, const struct upstream_answer *answer)
{
    struct fixture *fixture = context;
    fixture->answers++;
    fixture->fault = answer->fault;
    memcpy(fixture->text, answer->fault_text, sizeof fixture->text);
    assert_int_equal(answer->status, answer->fault == TRANSPORT_OK ? 200 : 0);
}

static void start(struct fixture *fixture)
{
    struct err err = {0};
    if (transport_open(&fixture->transport, &fixture->sink, 1, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void stop(struct fixture *fixture)
{
    transport_close(fixture->transport);
    fixture->transport = NULL;
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    const char *base = getenv("TMPDIR");
    (void)snprintf(fixture->directory, sizeof fixture->directory, "%.40s/sinkfile.XXXXXX",
                   base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->sink = (struct config_sink){
        .name = "disk", .type = SINK_FILE, .connections = 4, .rotate_bytes = 100};
    (void)snprintf(fixture->sink.path, sizeof fixture->sink.path, "%s/out.ndjson",
                   fixture->directory);
    fixture->now_ns = T0;
    start(fixture);
    *state = fixture;
    return 0;
}

/* Names in the directory, sorted. */
static unsigned list(const struct fixture *fixture, char names[][64], unsigned max)
{
    struct dirent **entries = NULL;
    unsigned count = 0;
    const int found = scandir(fixture->directory, &entries, NULL, alphasort);
    for (int i = 0; i < found; i++) {
        if (entries[i]->d_name[0] != '.' && count < max) {
            (void)snprintf(names[count++], 64, "%.63s", entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    char names[32][64], path[160];
    stop(fixture);
    const unsigned count = list(fixture, names, 32);
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(path, sizeof path, "%s/%.63s", fixture->directory, names[i]);
        (void)unlink(path);
    }
    const int result = rmdir(fixture->directory);
    mem_free(fixture);
    return result;
}

static struct slice text_slice(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static void place(struct fixture *fixture, const char *body, char *target)
{
    struct err err = {0};
    assert_int_equal(
        transport_target(fixture->transport, 0, strlen(body), fixture->now_ns, target, &err), 0);
}

static enum transport_fault put(struct fixture *fixture, const char *body, const char *target)
{
    const struct transport_request request = {.body = text_slice(body),
                                              .target = target,
                                              .on_answer = fixture_on_answer,
                                              .context = fixture};
    struct err err = {0};
    const unsigned before = fixture->answers;
    if (transport_send(fixture->transport, 0, &request, &err) != 0) {
        fail_msg("%s", err.text);
    }
    const uint64_t deadline = clock_mono_ns() + PATIENCE_NS;
    while (fixture->answers == before && clock_mono_ns() < deadline) {
        transport_run(fixture->transport, 100);
    }
    assert_int_equal(fixture->answers, before + 1);
    return fixture->fault;
}

static void deliver(struct fixture *fixture, const char *body)
{
    char target[FORWARD_TARGET_BYTES];
    place(fixture, body, target);
    if (put(fixture, body, target) != TRANSPORT_OK) {
        fail_msg("%s", fixture->text);
    }
}

static size_t read_path(const char *path, char *out)
{
    FILE *file = fopen(path, "r");
    size_t bytes = 0;
    if (file != NULL) {
        bytes = fread(out, 1, ROOM - 1, file);
        assert_int_equal(fclose(file), 0);
    }
    out[bytes] = '\0';
    return bytes;
}

static void expect_path(const char *path, const char *want)
{
    static char text[ROOM];
    const size_t bytes = read_path(path, text);
    assert_string_equal(text, want);
    assert_int_equal(bytes, strlen(want));
}

static void expect_file(const struct fixture *fixture, const char *want)
{
    expect_path(fixture->sink.path, want);
}

static void expect_rotated(const struct fixture *fixture, const char *target, const char *want)
{
    struct file_target parsed;
    char path[400];
    assert_true(file_target_parse(target, &parsed));
    (void)snprintf(path, sizeof path, "%s.%s", fixture->sink.path, parsed.name);
    expect_path(path, want);
}

static void write_path(const char *path, const char *text, size_t bytes)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void expect_files(const struct fixture *fixture, unsigned count)
{
    char names[32][64];
    assert_int_equal(list(fixture, names, 32), count);
}

/* ------------------------------------------------------------------- targets */

static void targets_are_read_as_written_and_nothing_else(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "-",
        "- 20251121T160000Z-000 0",
        "- 20251121T160000Z-000 0 5 ",
        "- 20251121T160000Z-000 0 5x",
        "- 20251121T160000Z-000 -1 5",
        "- 20251121T160000Z-000 99999999999999999999 5",
        "- 20251121T160000Z-000 9999999999999999999 5",
        "- 20251121T160000Z-00a 0 5",
        "- ../20251121T16000000 0 5",
        "20251121T160000Z-000 0 5",
        "20251121T160000Z-000 - 0 5",
    };
    struct file_target target;
    char text[FORWARD_TARGET_BYTES];
    static const char *const good[] = {
        "- 20251121T160000Z-000 0 5",
        "20251121T160000Z-000 20251121T160001Z-999 1152921504606846976 0",
    };
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        assert_true(file_target_parse(good[i], &target));
        file_target_format(&target, text, sizeof text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        if (file_target_parse(bad[i], &target)) {
            fail_msg("read: %s", bad[i]);
        }
    }
}

static void what_is_no_place_for_the_body_is_refused(void **state)
{
    struct fixture *fixture = *state;
    const char *const bad[] = {NULL, "", "nonsense", "- 20251121T160000Z-000 0 3"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        const struct transport_request request = {.body = SLICE_LITERAL("four"),
                                                  .target = bad[i],
                                                  .on_answer = fixture_on_answer,
                                                  .context = fixture};
        struct err err = {0};
        assert_int_equal(transport_send(fixture->transport, 0, &request, &err), -EINVAL);
        assert_non_null(strstr(err.text, "sink disk"));
    }
    expect_files(fixture, 0);
}

/* ------------------------------------------------------------------- writing, repeating */

static void batches_follow_each_other_also_after_a_restart(void **state)
{
    struct fixture *fixture = *state;
    deliver(fixture, "one\n");
    deliver(fixture, "two\n");
    stop(fixture);
    start(fixture);
    deliver(fixture, "three\n");
    expect_file(fixture, "one\ntwo\nthree\n");
    expect_files(fixture, 1);
}

static void repeat_after_a_crash_leaves_the_bytes_once_wherever_it_was_cut(void **state)
{
    struct fixture *fixture = *state;
    static const char before[] = "before\n", body[] = "0123456789\n";
    char text[64], target[FORWARD_TARGET_BYTES];
    for (size_t cut = 0; cut < sizeof body; cut++) {
        for (int has_zeroes = 0; has_zeroes < 2; has_zeroes++) {
            (void)unlink(fixture->sink.path);
            stop(fixture);
            start(fixture);
            deliver(fixture, before);
            place(fixture, body, target);
            stop(fixture);
            /* Some of it, perhaps with pages behind it that were not written yet. */
            memset(text, 0, sizeof text);
            (void)snprintf(text, sizeof text, "%s%.*s", before, (int)cut, body);
            write_path(fixture->sink.path, text,
                       has_zeroes ? sizeof before - 1 + sizeof body - 1 : strlen(text));
            start(fixture);
            transport_target_known(fixture->transport, 0, target);
            deliver(fixture, "after\n"); /* may come first: its place is behind */
            assert_int_equal(put(fixture, body, target), TRANSPORT_OK);
            assert_int_equal(put(fixture, body, target), TRANSPORT_OK);
            expect_file(fixture, "before\n0123456789\nafter\n");
            expect_files(fixture, 1);
        }
    }
}

static void dropped_place_is_taken_by_the_next(void **state)
{
    struct fixture *fixture = *state;
    char first[FORWARD_TARGET_BYTES], second[FORWARD_TARGET_BYTES];
    deliver(fixture, "kept\n");
    place(fixture, "never sent\n", first);
    place(fixture, "nor this\n", second);
    transport_target_drop(fixture->transport, 0, second);
    transport_target_drop(fixture->transport, 0, first);
    deliver(fixture, "next\n");
    expect_file(fixture, "kept\nnext\n");
    /* Half of it written before the crash, then frozen anew. */
    place(fixture, "torn torn\n", first);
    stop(fixture);
    write_path(fixture->sink.path, "kept\nnext\ntorn", 14);
    start(fixture);
    transport_target_known(fixture->transport, 0, first);
    transport_target_drop(fixture->transport, 0, first);
    deliver(fixture, "anew\n");
    expect_file(fixture, "kept\nnext\nanew\n");
}

static void trouble_of_the_disk_is_local_and_the_repeat_mends_it(void **state)
{
    struct fixture *fixture = *state;
    char target[FORWARD_TARGET_BYTES];
    const struct rlimit small = {10, RLIM_INFINITY}, large = {RLIM_INFINITY, RLIM_INFINITY};
    deliver(fixture, "12345\n");
    place(fixture, "does not fit\n", target);
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    (void)sigaction(SIGXFSZ, &ignore, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const enum transport_fault fault = put(fixture, "does not fit\n", target);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &large), 0);
    assert_int_equal(fault, TRANSPORT_LOCAL);
    assert_non_null(strstr(fixture->text, "sink disk: cannot write"));
    assert_non_null(strstr(fixture->text, fixture->sink.path));
    assert_int_equal(put(fixture, "does not fit\n", target), TRANSPORT_OK);
    expect_file(fixture, "12345\ndoes not fit\n");
}

static void missing_directory_is_local_until_it_is_there(void **state)
{
    struct fixture *fixture = *state;
    char target[FORWARD_TARGET_BYTES];
    stop(fixture);
    (void)snprintf(fixture->sink.path, sizeof fixture->sink.path, "%s/sub/out", fixture->directory);
    start(fixture);
    place(fixture, "text\n", target);
    assert_int_equal(put(fixture, "text\n", target), TRANSPORT_LOCAL);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/sub", fixture->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(put(fixture, "text\n", target), TRANSPORT_OK);
    expect_file(fixture, "text\n");
    assert_int_equal(unlink(fixture->sink.path), 0);
    assert_int_equal(rmdir(path), 0);
}

static void many_under_way_are_all_answered_and_bounded(void **state)
{
    struct fixture *fixture = *state;
    char targets[5][FORWARD_TARGET_BYTES];
    static const char *const bodies[5] = {"a\n", "bb\n", "ccc\n", "dddd\n", "eeeee\n"};
    struct err err = {0};
    for (int i = 0; i < 5; i++) {
        place(fixture, bodies[i], targets[i]);
    }
    for (int i = 4; i >= 0; i--) { /* in any order */
        const struct transport_request request = {.body = text_slice(bodies[i]),
                                                  .target = targets[i],
                                                  .on_answer = fixture_on_answer,
                                                  .context = fixture};
        assert_int_equal(transport_send(fixture->transport, 0, &request, &err),
                         i > 0 ? 0 : -EAGAIN);
    }
    const uint64_t deadline = clock_mono_ns() + PATIENCE_NS;
    while (fixture->answers < 4 && clock_mono_ns() < deadline) {
        transport_run(fixture->transport, 100);
    }
    assert_int_equal(fixture->answers, 4);
    assert_int_equal(put(fixture, bodies[0], targets[0]), TRANSPORT_OK);
    expect_file(fixture, "a\nbb\nccc\ndddd\neeeee\n");
}

/* ------------------------------------------------------------------- rotation */

#define FORTY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
#define FORTY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
#define FORTY_C "ccccccccccccccccccccccccccccccccccccccc\n"

static void full_file_is_rotated_and_a_repeat_finds_its_place(void **state)
{
    struct fixture *fixture = *state;
    char b[FORWARD_TARGET_BYTES], c[FORWARD_TARGET_BYTES];
    deliver(fixture, FORTY_A);
    place(fixture, FORTY_B, b);
    place(fixture, FORTY_C, c); /* over 100 bytes */
    assert_int_equal(put(fixture, FORTY_C, c), TRANSPORT_OK);
    expect_file(fixture, FORTY_C);
    expect_rotated(fixture, b, FORTY_A);
    assert_int_equal(put(fixture, FORTY_B, b), TRANSPORT_OK); /* late, into the rotated file */
    assert_int_equal(put(fixture, FORTY_B, b), TRANSPORT_OK);
    expect_rotated(fixture, b, FORTY_A FORTY_B);
    expect_file(fixture, FORTY_C);
    expect_files(fixture, 2);
    char names[2][64];
    (void)list(fixture, names, 2);
    assert_string_equal(names[1], "out.ndjson.20251121T160000Z-000");
}

static void rotation_is_done_once_whenever_the_crash_comes(void **state)
{
    struct fixture *fixture = *state;
    char b[FORWARD_TARGET_BYTES], c[FORWARD_TARGET_BYTES];
    deliver(fixture, FORTY_A);
    place(fixture, FORTY_B, b);
    place(fixture, FORTY_C, c);
    for (int i = 0; i < 3; i++) { /* decided only; then done by c; then done and written */
        stop(fixture);
        start(fixture);
        transport_target_known(fixture->transport, 0, b);
        transport_target_known(fixture->transport, 0, c);
        assert_int_equal(put(fixture, FORTY_C, c), TRANSPORT_OK);
        expect_file(fixture, FORTY_C);
        assert_int_equal(put(fixture, FORTY_B, b), TRANSPORT_OK);
        expect_rotated(fixture, b, FORTY_A FORTY_B);
        expect_files(fixture, 2);
    }
    deliver(fixture, "tail\n");
    expect_file(fixture, FORTY_C "tail\n");
}

static void old_file_is_rotated_by_age_but_never_an_empty_one(void **state)
{
    struct fixture *fixture = *state;
    stop(fixture);
    fixture->sink.rotate_age_ns = 3600 * NS_S;
    start(fixture);
    deliver(fixture, "first\n");
    fixture->now_ns += 3599 * (int64_t)NS_S;
    deliver(fixture, "same hour\n");
    fixture->now_ns += (int64_t)NS_S;
    deliver(fixture, "next hour\n");
    expect_file(fixture, "next hour\n");
    expect_files(fixture, 2);
}

static void only_so_many_rotated_files_are_kept(void **state)
{
    struct fixture *fixture = *state;
    char names[32][64];
    stop(fixture);
    fixture->sink.rotate_keep = 2;
    fixture->sink.rotate_bytes = 10;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/out.ndjson.notes", fixture->directory);
    write_path(path, "mine", 4); /* not of ours: stays */
    start(fixture);
    for (int i = 0; i < 7; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "batch %d\n", i);
        deliver(fixture, text);
    }
    expect_file(fixture, "batch 6\n");
    assert_int_equal(list(fixture, names, 32), 4);
    (void)snprintf(path, sizeof path, "%s/%s", fixture->directory, names[1]);
    expect_path(path, "batch 4\n");
    (void)snprintf(path, sizeof path, "%s/%s", fixture->directory, names[2]);
    expect_path(path, "batch 5\n");
}

static void clock_that_goes_back_does_not_confuse_the_names(void **state)
{
    struct fixture *fixture = *state;
    char names[32][64];
    deliver(fixture, FORTY_A);
    deliver(fixture, FORTY_A);
    fixture->now_ns -= 3600 * (int64_t)NS_S;
    deliver(fixture, FORTY_B);
    deliver(fixture, FORTY_B);
    deliver(fixture, FORTY_C);
    assert_int_equal(list(fixture, names, 32), 3);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", fixture->directory, names[1]);
    expect_path(path, FORTY_A FORTY_A); /* the older one sorts first */
    (void)snprintf(path, sizeof path, "%s/%s", fixture->directory, names[2]);
    expect_path(path, FORTY_B FORTY_B);
}

/* ------------------------------------------------------------------- somebody else's hands */

static void file_moved_away_gets_what_was_its_and_a_new_one_begins(void **state)
{
    struct fixture *fixture = *state;
    char second[FORWARD_TARGET_BYTES], third[FORWARD_TARGET_BYTES], moved[128];
    deliver(fixture, "one\n");
    place(fixture, "two\n", second);
    place(fixture, "three\n", third);
    (void)snprintf(moved, sizeof moved, "%s/moved", fixture->directory);
    assert_int_equal(rename(fixture->sink.path, moved), 0);
    assert_int_equal(put(fixture, "two\n", second), TRANSPORT_OK);
    assert_int_equal(put(fixture, "three\n", third), TRANSPORT_OK);
    deliver(fixture, "four\n");
    deliver(fixture, "five\n");
    expect_path(moved, "one\ntwo\nthree\n");
    expect_file(fixture, "four\nfive\n");
    expect_files(fixture, 2);
}

static void truncated_file_loses_nothing_that_was_still_to_come(void **state)
{
    struct fixture *fixture = *state;
    char second[FORWARD_TARGET_BYTES];
    deliver(fixture, "one\n");
    place(fixture, "two\n", second);
    assert_int_equal(truncate(fixture->sink.path, 0), 0);
    assert_int_equal(put(fixture, "two\n", second), TRANSPORT_OK);
    deliver(fixture, "three\n");
    expect_rotated(fixture, second, "two\n"); /* no hole, nothing overwritten */
    expect_file(fixture, "three\n");
    expect_files(fixture, 2);
}

static void truncated_while_we_were_away_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    char second[FORWARD_TARGET_BYTES], third[FORWARD_TARGET_BYTES];
    deliver(fixture, "one\n");
    place(fixture, "two\n", second);
    place(fixture, "three\n", third);
    stop(fixture);
    assert_int_equal(truncate(fixture->sink.path, 1), 0);
    start(fixture);
    transport_target_known(fixture->transport, 0, second);
    transport_target_known(fixture->transport, 0, third);
    assert_int_equal(put(fixture, "two\n", second), TRANSPORT_OK);
    assert_int_equal(put(fixture, "three\n", third), TRANSPORT_OK);
    deliver(fixture, "four\n");
    expect_rotated(fixture, second, "two\nthree\n");
    expect_file(fixture, "ofour\n"); /* what somebody left is left */
}

static void bytes_of_others_are_never_written_over(void **state)
{
    struct fixture *fixture = *state;
    char second[FORWARD_TARGET_BYTES];
    deliver(fixture, "one\n");
    place(fixture, "two\n", second);
    stop(fixture);
    write_path(fixture->sink.path, "somebody's own text\n", 20);
    start(fixture);
    transport_target_known(fixture->transport, 0, second);
    assert_int_equal(put(fixture, "two\n", second), TRANSPORT_OK);
    expect_file(fixture, "somebody's own text\n");
    expect_rotated(fixture, second, "two\n");
    deliver(fixture, "three\n");
    expect_file(fixture, "somebody's own text\nthree\n");
}

static void rotated_file_that_was_compressed_away_is_no_trouble(void **state)
{
    struct fixture *fixture = *state;
    char names[32][64], path[128];
    deliver(fixture, FORTY_A);
    deliver(fixture, FORTY_B);
    deliver(fixture, FORTY_C); /* rotated */
    assert_int_equal(list(fixture, names, 32), 2);
    (void)snprintf(path, sizeof path, "%s/%s", fixture->directory, names[1]);
    assert_int_equal(unlink(path), 0);
    deliver(fixture, FORTY_A);
    expect_file(fixture, FORTY_C FORTY_A);
}

static void what_is_no_file_is_local(void **state)
{
    struct fixture *fixture = *state;
    char target[FORWARD_TARGET_BYTES];
    assert_int_equal(mkfifo(fixture->sink.path, 0600), 0);
    place(fixture, "text\n", target);
    assert_int_equal(put(fixture, "text\n", target), TRANSPORT_LOCAL);
    assert_non_null(strstr(fixture->text, "not a regular file"));
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_read_as_written_and_nothing_else),
        PROMISE(what_is_no_place_for_the_body_is_refused),
        PROMISE(batches_follow_each_other_also_after_a_restart),
        PROMISE(repeat_after_a_crash_leaves_the_bytes_once_wherever_it_was_cut),
        PROMISE(dropped_place_is_taken_by_the_next),
        PROMISE(trouble_of_the_disk_is_local_and_the_repeat_mends_it),
        PROMISE(missing_directory_is_local_until_it_is_there),
        PROMISE(many_under_way_are_all_answered_and_bounded),
        PROMISE(full_file_is_rotated_and_a_repeat_finds_its_place),
        PROMISE(rotation_is_done_once_whenever_the_crash_comes),
        PROMISE(old_file_is_rotated_by_age_but_never_an_empty_one),
        PROMISE(only_so_many_rotated_files_are_kept),
        PROMISE(clock_that_goes_back_does_not_confuse_the_names),
        PROMISE(file_moved_away_gets_what_was_its_and_a_new_one_begins),
        PROMISE(truncated_file_loses_nothing_that_was_still_to_come),
        PROMISE(truncated_while_we_were_away_is_noticed),
        PROMISE(bytes_of_others_are_never_written_over),
        PROMISE(rotated_file_that_was_compressed_away_is_no_trouble),
        PROMISE(what_is_no_file_is_local),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
