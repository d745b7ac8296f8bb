/*
 * fuzz_main: runs a fuzz target over the files of the directories (or files) given as arguments, so
 * that every corpus file is a regression test in every build. Exit 77 when there is no file at all,
 * 1 when one cannot be read; a target that finds a fault aborts.
 */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/mem.h"

#define SKIPPED        77
#define FILE_BYTES_MAX (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int file_run(const char *path, size_t bytes)
{
    if (bytes > FILE_BYTES_MAX) {
        fprintf(stderr, "%s: too large\n", path);
        return -1;
    }
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    /* Exactly as large as the input, so that a sanitizer sees the first byte read beyond it. */
    uint8_t *data = mem_alloc(bytes > 0 ? bytes : 1);
    size_t got = fread(data, 1, bytes, file);
    fclose(file);
    if (got == bytes) {
        LLVMFuzzerTestOneInput(data, bytes);
    }
    mem_free(data);
    return got == bytes ? 0 : -1;
}

static int path_run(const char *path, unsigned *files)
{
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) {
        return 0;
    }
    (*files)++;
    return file_run(path, (size_t)status.st_size);
}

static int argument_run(const char *path, unsigned *files)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return path_run(path, files);
    }
    int failed = 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char inner[PATH_MAX];
        int length = snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (length > 0 && (size_t)length < sizeof inner) {
            failed |= path_run(inner, files);
        }
    }
    closedir(directory);
    return failed;
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        failed |= argument_run(argv[i], &files);
    }
    if (files == 0) {
        fprintf(stderr, "skipped: no corpus files\n");
        return SKIPPED;
    }
    printf("%u inputs\n", files);
    return failed != 0 ? 1 : 0;
}
