/*
 * fuzz_main: runs a fuzz target over every file of the directories (or files) given, so that each corpus file is a regression test in every
 * build, with or without libFuzzer. Exit 77 when there was nothing to run.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (file == NULL || fstat(fileno(file), &status) != 0) {
        perror(path);
        exit(1);
    }
    /* Exactly as long as the file, so that a sanitizer sees one byte too many. */
    uint8_t *data = malloc(status.st_size == 0 ? 1 : (size_t)status.st_size);
    size_t bytes = fread(data, 1, (size_t)status.st_size, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    return 1;
}

static int run_path(const char *path)
{
    struct stat status;
    int count = 0;
    if (stat(path, &status) != 0) {
        return 0;
    }
    if (!S_ISDIR(status.st_mode)) {
        return run_file(path);
    }
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char name[4096];
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            count += run_file(name);
        }
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        count += run_path(argv[i]);
    }
    printf("%d inputs\n", count);
    return count == 0 ? 77 : 0;
}
