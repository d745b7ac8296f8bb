/*
 * bench_scan_find: how fast a substring is looked for in log text, in GB/s of bytes passed, for each
 * kernel of store/scan_find.c and next to memmem(3), in a block of 1 MiB (in the cache, as right
 * after decompression) and in the whole text (from memory). All occurrences are found, one call
 * after the other, as a scan does; the counts of all ways must be equal, or the run aborts.
 *
 *   bench_scan_find FILE NEEDLE...
 */
#include "store/scan.h"
#include "store/scan_find.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS        7
#define RUN_NS      (60 * NS_MS)
#define BLOCK_BYTES MIB(1)

enum way {
    WAY_SCALAR = SCAN_FIND_SCALAR,
    WAY_AVX2 = SCAN_FIND_AVX2,
    WAY_MEMMEM,
    WAY_COUNT,
};

static const char *const way_names[WAY_COUNT] = {"scalar", "avx2", "memmem"};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_S + (uint64_t)now.tv_nsec;
}

static struct slice file_read(const char *name)
{
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(name);
        exit(2);
    }
    long size = ftell(file);
    rewind(file);
    uint8_t *data = size <= 0 ? NULL : malloc((size_t)size);
    if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "bench_scan_find: cannot read %s\n", name);
        exit(2);
    }
    fclose(file);
    return (struct slice){data, (size_t)size};
}

static size_t find_next(enum way way, struct slice hay, size_t from, struct slice needle)
{
    if (way != WAY_MEMMEM) {
        return scan_find_by((enum scan_find_kernel)way, hay, from, needle);
    }
    const uint8_t *hit = memmem(hay.data + from, hay.bytes - from, needle.data, needle.bytes);
    return hit == NULL ? hay.bytes : (size_t)(hit - hay.data);
}

static uint64_t count_all(enum way way, struct slice hay, struct slice needle)
{
    uint64_t count = 0;
    for (size_t at = find_next(way, hay, 0, needle); at < hay.bytes;
         at = find_next(way, hay, at + 1, needle)) {
        count++;
    }
    return count;
}

static double best_gb_per_s(enum way way, struct slice hay, struct slice needle, uint64_t expected)
{
    double best = 0;
    for (unsigned run = 0; run < RUNS; run++) {
        uint64_t bytes = 0;
        uint64_t begin = now_ns();
        uint64_t elapsed = 0;
        while (elapsed < RUN_NS) {
            uint64_t count = count_all(way, hay, needle);
            if (count != expected) {
                fprintf(stderr, "%s found %llu of %llu\n", way_names[way],
                        (unsigned long long)count, (unsigned long long)expected);
                abort();
            }
            bytes += hay.bytes;
            elapsed = now_ns() - begin;
        }
        double speed = (double)bytes / (double)elapsed;
        best = speed > best ? speed : best;
    }
    return best;
}

static void bench_row(const char *where, struct slice hay, const char *text)
{
    struct slice needle = {(const uint8_t *)text, strlen(text)};
    uint64_t expected = count_all(WAY_MEMMEM, hay, needle);
    printf("%-6s %-28s %10llu", where, text, (unsigned long long)expected);
    for (enum way way = WAY_SCALAR; way < WAY_COUNT; way++) {
        if (way != WAY_MEMMEM && !scan_find_has((enum scan_find_kernel)way)) {
            printf(" %8s", "-");
            continue;
        }
        printf(" %8.2f", best_gb_per_s(way, hay, needle, expected));
    }
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_scan_find FILE NEEDLE...\n");
        return 2;
    }
    struct slice text = file_read(argv[1]);
    struct slice block = {text.data, text.bytes < BLOCK_BYTES ? text.bytes : BLOCK_BYTES};
    printf("%-6s %-28s %10s", "hay", "needle", "found");
    for (enum way way = WAY_SCALAR; way < WAY_COUNT; way++) {
        printf(" %8s", way_names[way]);
    }
    printf("   GB/s, best of %d; scan_find takes %s\n", RUNS, way_names[scan_find_best()]);
    for (int i = 2; i < argc; i++) {
        bench_row("1 MiB", block, argv[i]);
        bench_row("whole", text, argv[i]);
    }
    return 0;
}
