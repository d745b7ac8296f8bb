/*
 * doctor_disk: the data directory, by doing there what the writer does: aligned direct writes that
 * return when they are durable, over blocks written before.
 *
 * The scratch file has no name (O_TMPFILE), or loses it in the line after it got it, so that
 * nothing remains on any path, a kill included. While the data directory does not exist the nearest
 * directory above it is tried instead; doctor creates nothing.
 */
#include "cli/doctor.h"

#include "core/clock.h"
#include "core/err.h"
#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define DISK_BLOCK_BYTES   4096u
#define DISK_SCRATCH_BYTES (256u * DISK_BLOCK_BYTES)
#define DISK_WRITES        50u
#define DISK_LIMIT_NS                                                                              \
    (5 * NS_S) /* a disk that needs longer for the writes is judged by those it managed */

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x00000002
#endif

enum disk_kind {
    DISK_PLAIN,
    DISK_VOLATILE,
    DISK_REMOTE,
    DISK_COPY_ON_WRITE,
    DISK_LAYERED
};

/* linux/magic.h has most of these; not all of them in every version. */
static const struct {
    uint32_t magic;
    const char *name;
    enum disk_kind kind;
} disk_types[] = {
    {0x0000EF53u, "ext4", DISK_PLAIN},
    {0x58465342u, "xfs", DISK_PLAIN},
    {0xF2F52010u, "f2fs", DISK_PLAIN},
    {0x01021994u, "tmpfs", DISK_VOLATILE},
    {0x858458F6u, "ramfs", DISK_VOLATILE},
    {0x794C7630u, "overlay", DISK_LAYERED},
    {0x9123683Eu, "btrfs", DISK_COPY_ON_WRITE},
    {0x2FC12FC1u, "zfs", DISK_COPY_ON_WRITE},
    {0xCA451A4Eu, "bcachefs", DISK_COPY_ON_WRITE},
    {0x00006969u, "nfs", DISK_REMOTE},
    {0xFF534D42u, "cifs", DISK_REMOTE},
    {0xFE534D42u, "smb", DISK_REMOTE},
    {0x0000517Bu, "smb", DISK_REMOTE},
    {0x65735546u, "fuse", DISK_REMOTE},
    {0x01021997u, "9p", DISK_REMOTE},
};

struct disk {
    struct doctor *doctor;
    char directory[PATH_MAX]; /* where the scratch file goes: the data directory or the nearest
                                 above it */
    bool is_there;            /* the data directory exists */
    int fd;                   /* the scratch file */
    uint8_t *block;           /* DISK_SCRATCH_BYTES, page aligned */
};

/* --- which directory
 * -----------------------------------------------------------------------------------------------
 */

/* Cuts the last part of a path. False when nothing is left to cut. */
static bool disk_parent(char *path)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') {
        path[--bytes] = '\0';
    }
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        bool was_here = strcmp(path, ".") == 0;
        memcpy(path, ".", 2);
        return !was_here;
    }
    bool is_root = slash == path && path[1] == '\0';
    slash[slash == path ? 1 : 0] = '\0';
    return !is_root;
}

static void disk_problem(struct disk *disk, const char *subject, const char *why, const char *mend,
                         const char *what)
{
    doctor_say(disk->doctor,
               &(struct doctor_advice){
                   .verdict = DOCTOR_PROBLEM, .subject = subject, .why = why, .mend = mend},
               "%s", what);
}

/* Finds the directory and says whether the data directory exists or can be made. */
static bool disk_find(struct disk *disk)
{
    char what[CONFIG_TEXT_BYTES + 384];
    struct stat status;
    const char *data_dir = disk->doctor->config->data_dir;
    (void)snprintf(disk->directory, sizeof disk->directory, "%s", data_dir);
    int r = stat(disk->directory, &status);
    disk->is_there = r == 0;
    while (r < 0 && errno == ENOENT &&
           disk_parent(disk->directory)) { /* ends: each turn cuts a part */
        r = stat(disk->directory, &status);
    }
    if (r < 0) {
        (void)snprintf(what, sizeof what, "%s: %s", data_dir, err_name(-errno));
        disk_problem(disk, "data directory", "the log lives there",
                     "mend the path (store.data_dir) or its permissions", what);
        return false;
    }
    if (!S_ISDIR(status.st_mode)) {
        (void)snprintf(what, sizeof what, "%s: %.128s is not a directory", data_dir,
                       disk->directory);
        disk_problem(disk, "data directory", "the log lives there",
                     "set store.data_dir to a directory", what);
        return false;
    }
    if (access(disk->directory, W_OK | X_OK) < 0) {
        (void)snprintf(what, sizeof what, "%s: cannot write in %.128s: %s", data_dir,
                       disk->directory, err_name(-errno));
        disk_problem(disk, "data directory", "the log lives there",
                     "give this user the directory (chown)", what);
        return false;
    }
    doctor_ok(disk->doctor, "data directory", disk->is_there ? "%s" : "%s (will be created)",
              data_dir);
    return true;
}

/* --- what kind of file system
 * -------------------------------------------------------------------------------------- */

static void disk_say_kind(struct disk *disk, const char *name, enum disk_kind kind)
{
    static const struct {
        const char *why;
        const char *mend;
    } advice[] = {
        [DISK_PLAIN] = {NULL, NULL},
        [DISK_VOLATILE] =
            {"it is memory: a power cut or a reboot empties it, whatever was acknowledged",
             "a directory on a disk; for tests, store.allow_volatile = true"},
        [DISK_REMOTE] = {"whether a write is durable is decided by another machine or process",
                         "a directory on a local disk"},
        [DISK_COPY_ON_WRITE] = {"blocks reserved ahead are no promise there: a prepared segment "
                                "can still run out of space",
                                "ext4 or XFS, or watch the free space"},
        [DISK_LAYERED] = {"it goes away with its container, and writes pass through one more layer",
                          "mount a volume for the data directory"},
    };
    bool is_refused =
        (kind == DISK_VOLATILE || kind == DISK_REMOTE) && !disk->doctor->config->allow_volatile;
    if (kind == DISK_PLAIN) {
        doctor_ok(disk->doctor, "file system", "%s", name);
        return;
    }
    doctor_say(disk->doctor,
               &(struct doctor_advice){.verdict = is_refused ? DOCTOR_PROBLEM : DOCTOR_NOTE,
                                       .subject = "file system",
                                       .why = advice[kind].why,
                                       .mend = advice[kind].mend},
               "%s", name);
}

static void disk_check_type(struct disk *disk, const struct statfs *status)
{
    uint32_t magic = (uint32_t)status->f_type;
    for (size_t i = 0; i < ARRAY_COUNT(disk_types); i++) {
        if (disk_types[i].magic == magic) {
            disk_say_kind(disk, disk_types[i].name, disk_types[i].kind);
            return;
        }
    }
    doctor_say(disk->doctor,
               &(struct doctor_advice){
                   .verdict = DOCTOR_NOTE,
                   .subject = "file system",
                   .why = "Sluice is measured and tested on ext4 and XFS",
                   .mend = "look at the two lines on writes below, or use ext4 or XFS"},
               "type 0x%x", magic);
}

static void disk_check_space(struct disk *disk, const struct statfs *status)
{
    const struct config *config = disk->doctor->config;
    uint64_t block = (uint64_t)status->f_bsize;
    uint64_t room = status->f_bavail * block;
    uint64_t need = (config->spare_segments + 1) * config->segment_bytes + config->reserve_bytes;
    if (room < need) {
        /* A directory in use has its segments and its reserve already. */
        doctor_say(disk->doctor,
                   &(struct doctor_advice){
                       .verdict = disk->is_there ? DOCTOR_NOTE : DOCTOR_PROBLEM,
                       .subject = "free space",
                       .why = "the first segments and the reserve are written ahead of use",
                       .mend = "free some, or lower store.segment_bytes and store.reserve_bytes"},
                   "%llu MiB, and a new log needs %llu MiB", (unsigned long long)(room >> 20),
                   (unsigned long long)(need >> 20));
    } else if (config->retention_bytes == 0 || config->retention_bytes > room) {
        doctor_say(
            disk->doctor,
            &(struct doctor_advice){
                .verdict = DOCTOR_NOTE,
                .subject = "free space",
                .why =
                    "the disk may fill before retention makes room; then requests get 429 and 503",
                .mend = "set store.retention_bytes below the free space"},
            config->retention_bytes == 0 ? "%llu MiB, and store.retention_bytes has no limit (%llu)"
                                         : "%llu MiB, and store.retention_bytes allows %llu MiB",
            (unsigned long long)(room >> 20), (unsigned long long)(config->retention_bytes >> 20));
    } else {
        doctor_ok(disk->doctor, "free space", "%llu MiB", (unsigned long long)(room >> 20));
    }
}

/* --- the device below
 * ---------------------------------------------------------------------------------------------- */

/* A value of the device's queue; a partition has it one directory up. */
static bool disk_read_queue(char *out, size_t capacity, dev_t device, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/%s", major(device), minor(device),
                   name);
    if (doctor_read_line(out, capacity, path)) {
        return true;
    }
    (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../queue/%s", major(device),
                   minor(device), name);
    return doctor_read_line(out, capacity, path);
}

static void disk_check_cache(struct disk *disk)
{
    struct stat status;
    char cache[32];
    char fua[32] = "0";
    if (fstat(disk->fd, &status) < 0 ||
        !disk_read_queue(cache, sizeof cache, status.st_dev, "write_cache")) {
        doctor_ok(disk->doctor, "write cache",
                  "unknown: no block device of its own below this file system");
        return;
    }
    (void)disk_read_queue(fua, sizeof fua, status.st_dev, "fua");
    if (strcmp(cache, "write back") != 0) {
        doctor_ok(disk->doctor, "write cache", "%s", cache);
    } else if (strcmp(fua, "1") == 0) {
        doctor_ok(disk->doctor, "write cache",
                  "volatile, with FUA: a commit is one write past the cache");
    } else {
        doctor_ok(disk->doctor, "write cache",
                  "volatile, no FUA: a commit is a write and a flush of the cache");
    }
}

static void disk_check_alignment(struct disk *disk)
{
#ifdef STATX_DIOALIGN
    struct statx status;
    memset(&status, 0, sizeof status);
    int r = statx(disk->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status);
    if (r < 0 || (status.stx_mask & STATX_DIOALIGN) == 0 || status.stx_dio_offset_align == 0) {
        return; /* not reported; the write below is the proof */
    }
    bool fits = status.stx_dio_offset_align <= DISK_BLOCK_BYTES &&
                status.stx_dio_mem_align <= DISK_BLOCK_BYTES;
    doctor_say(disk->doctor,
               &(struct doctor_advice){
                   .verdict = fits ? DOCTOR_OK : DOCTOR_NOTE,
                   .subject = "alignment",
                   .why = fits ? NULL
                               : "direct writes of 4 KiB blocks fail there; the log then goes "
                                 "through the page cache",
                   .mend = fits ? NULL : "a device or file system with blocks of at most 4 KiB"},
               "direct I/O wants memory at %u and offsets at %u bytes", status.stx_dio_mem_align,
               status.stx_dio_offset_align);
#else
    (void)disk;
#endif
}

/* --- writing
 * -------------------------------------------------------------------------------------------------------
 */

static int disk_open_scratch(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)) {
        return fd >= 0 ? fd : -errno;
    }
    char path[PATH_MAX + 64];
    (void)snprintf(path, sizeof path, "%s/.sluice-doctor-%ld", directory, (long)getpid());
    fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -errno;
    }
    (void)unlink(path);
    return fd;
}

/* Writes the scratch file full once, so that the timed writes find written blocks, as the log's do.
 */
static int disk_fill(struct disk *disk)
{
    ssize_t n = pwrite(disk->fd, disk->block, DISK_SCRATCH_BYTES, 0);
    if (n < 0) {
        return -errno;
    }
    if ((size_t)n != DISK_SCRATCH_BYTES) {
        return -ENOSPC;
    }
    return fsync(disk->fd) < 0 ? -errno : 0;
}

static void disk_check_direct(struct disk *disk)
{
    if (fcntl(disk->fd, F_SETFL, O_DIRECT) < 0) {
        doctor_say(disk->doctor,
                   &(struct doctor_advice){.verdict = DOCTOR_NOTE,
                                           .subject = "direct writes",
                                           .why = "the log then goes through the page cache, "
                                                  "slower and with weaker error reports",
                                           .mend = "ext4 or XFS on a local disk"},
                   "O_DIRECT is refused: %s", err_name(-errno));
        return;
    }
    if (pwrite(disk->fd, disk->block, DISK_BLOCK_BYTES, 0) != (ssize_t)DISK_BLOCK_BYTES) {
        int code = -errno;
        doctor_say(
            disk->doctor,
            &(struct doctor_advice){.verdict = DOCTOR_NOTE,
                                    .subject = "direct writes",
                                    .why = "the log then goes through the page cache, slower and "
                                           "with weaker error reports",
                                    .mend = "another file system or device for the data directory"},
            "an aligned O_DIRECT write of 4 KiB failed: %s", err_name(code));
        return;
    }
    doctor_ok(disk->doctor, "direct writes", "O_DIRECT works");
}

static int disk_compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void disk_say_latency(struct disk *disk, uint64_t *latencies, size_t count)
{
    qsort(latencies, count, sizeof *latencies, disk_compare_u64);
    unsigned long long p50_us = latencies[count / 2] / NS_US;
    unsigned long long max_us = latencies[count - 1] / NS_US;
    if (p50_us < 10000) {
        doctor_ok(disk->doctor, "durable writes",
                  "4 KiB in %llu us (median of %zu, slowest %llu us)", p50_us, count, max_us);
        return;
    }
    doctor_say(
        disk->doctor,
        &(struct doctor_advice){
            .verdict = DOCTOR_NOTE,
            .subject = "durable writes",
            .why = "every answer waits for one; throughput holds, because commits are shared",
            .mend = "a disk with a protected cache, if answers must be faster"},
        "4 KiB in %llu us (median of %zu, slowest %llu us)", p50_us, count, max_us);
}

static void disk_check_durable(struct disk *disk)
{
    uint64_t latencies[DISK_WRITES];
    size_t count = 0;
    uint64_t start = clock_mono_ns();
    uint64_t before = start;
    while (count < DISK_WRITES && before - start < DISK_LIMIT_NS) {
        struct iovec part = {.iov_base = disk->block, .iov_len = DISK_BLOCK_BYTES};
        off_t offset = (off_t)((count * DISK_BLOCK_BYTES) % DISK_SCRATCH_BYTES);
        ssize_t n = pwritev2(disk->fd, &part, 1, offset, RWF_DSYNC);
        if (n != (ssize_t)DISK_BLOCK_BYTES) {
            doctor_say(
                disk->doctor,
                &(struct doctor_advice){
                    .verdict = DOCTOR_PROBLEM,
                    .subject = "durable writes",
                    .why = "an answer promises that its records are on stable storage",
                    .mend = "another file system or device; see the kernel's log for I/O errors"},
                "a write with RWF_DSYNC failed: %s", err_name(n < 0 ? -errno : -EIO));
            return;
        }
        uint64_t after = clock_mono_ns();
        latencies[count++] = after - before;
        before = after;
    }
    disk_say_latency(disk, latencies, count);
}

static void disk_check_writes(struct disk *disk)
{
    disk->fd = disk_open_scratch(disk->directory);
    int r = disk->fd < 0 ? disk->fd : disk_fill(disk);
    if (r < 0) {
        char what[CONFIG_TEXT_BYTES + 64];
        (void)snprintf(what, sizeof what, "a scratch file of 1 MiB: %s", err_name(r));
        disk_problem(disk, "writes", "the log is written there",
                     "free space, or mend the file system", what);
    } else {
        disk_check_cache(disk);
        disk_check_alignment(disk);
        disk_check_direct(disk);
        disk_check_durable(disk);
    }
    if (disk->fd >= 0) {
        (void)close(disk->fd);
    }
}

void doctor_check_disk(struct doctor *doctor)
{
    struct disk disk = {.doctor = doctor, .fd = -1};
    struct statfs status;
    if (!disk_find(&disk)) {
        return;
    }
    if (statfs(disk.directory, &status) == 0) {
        disk_check_type(&disk, &status);
        disk_check_space(&disk, &status);
    }
    disk.block = mem_map(DISK_SCRATCH_BYTES);
    if (disk.block == NULL) {
        return; /* UNTESTED: 1 MiB that the system does not have */
    }
    disk_check_writes(&disk);
    mem_unmap(disk.block, DISK_SCRATCH_BYTES);
}
