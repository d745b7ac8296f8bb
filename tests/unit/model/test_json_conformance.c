/*
 * The JSON parsing test suite (github.com/nst/JSONTestSuite): y_ must be accepted, n_ refused, and
 * what the grammar leaves open (i_) is decided here. Looks in $SLUICE_TEST_DATA/json, else in
 * ../shared/data/json beside the source tree.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "model/json_scan.h"

#define SKIPPED        77
#define FILE_BYTES_MAX (1u << 20)
#define FILES_MIN      300u /* fewer: the suite is not all there */

static char directory[PATH_MAX];

/* Open questions that are answered with yes: numbers of any size are kept as they were sent. All
 * others (invalid UTF-8, lone surrogates, UTF-16, a byte order mark, 500 levels) are refused. */
static bool is_open_accepted(const char *name)
{
    return strncmp(name, "i_number_", 9) == 0;
}

static bool file_is_accepted(const char *name)
{
    char path[PATH_MAX + NAME_MAX + 2];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *room = mem_alloc(FILE_BYTES_MAX);
    size_t bytes = fread(room, 1, FILE_BYTES_MAX, file);
    fclose(file);
    /* A block of its own size, so that the sanitizer sees a read beyond the end. */
    uint8_t *text = mem_alloc(bytes + 1);
    memcpy(text, room, bytes);
    uint64_t offset = 0;
    const char *why = NULL;
    bool is_accepted = json_validate(text, bytes, &offset, &why) == 0;
    if (!is_accepted) {
        assert_true(offset <= bytes);
        assert_non_null(why);
    }
    mem_free(text);
    mem_free(room);
    return is_accepted;
}

static void every_file_is_judged_as_its_name_says(void **state)
{
    (void)state;
    unsigned files = 0;
    unsigned wrong = 0;
    DIR *dir = opendir(directory);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        const char *name = entry->d_name;
        if (strstr(name, ".json") == NULL) {
            continue;
        }
        bool expected = name[0] == 'y' || (name[0] == 'i' && is_open_accepted(name));
        if (file_is_accepted(name) != expected) {
            print_error("%s: should be %s\n", name, expected ? "accepted" : "refused");
            wrong++;
        }
        files++;
    }
    closedir(dir);
    assert_int_equal(wrong, 0);
    assert_true(files >= FILES_MIN);
}

static void directory_find(void)
{
    const char *data = getenv("SLUICE_TEST_DATA");
    if (data != NULL) {
        snprintf(directory, sizeof directory, "%s/json", data);
        return;
    }
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s", __FILE__);
    for (unsigned up = 0; up < 4; up++) { /* tests/unit/model/FILE */
        char *slash = strrchr(root, '/');
        if (slash == NULL) {
            break;
        }
        *slash = '\0';
    }
    snprintf(directory, sizeof directory, "%.*s/../shared/data/json", PATH_MAX - 32, root);
}

int main(void)
{
    directory_find();
    DIR *dir = opendir(directory);
    if (dir == NULL) {
        fprintf(stderr, "skipped: no JSON suite in %s (set SLUICE_TEST_DATA)\n", directory);
        return SKIPPED;
    }
    closedir(dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_is_judged_as_its_name_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
