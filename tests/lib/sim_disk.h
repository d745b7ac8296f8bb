/*
 * sim_disk: a disk in memory behind struct file_io that fails as real ones do, from a seed.
 * Single-threaded; own clock.
 *
 * FAULTS IT MODELS, and which the store must tolerate:
 *  - Crash at any moment, also in the middle of any call. What was not durable is decided sector by
 * sector (512 B): kept, lost (the old bytes) or garbled (noise). That covers writes in flight,
 * buffered writes without a sync, failed writes.
 *  - Writes in flight complete in any order, after a delay, sometimes a long one.
 *  - A durable write is only durable where its blocks (and the file's length) were allocated and
 * synced before.
 *  - Lengths and extents without a sync may be lost. Creates, renames and unlinks without a sync of
 * their directory may each be lost on their own (a rename is atomic: the old state or the new).
 *  - Writes fail with EIO: the next one, all from now on, or those that touch a range of one file;
 * a failed write leaves any mix of sectors, and may come back short instead. A failed sync drops
 * what it could not write and later syncs succeed, as Linux does.
 *  - Reads of a range of one file fail with EIO.
 *  - The file system fills up: ENOSPC for allocate and for writes to holes, never for blocks that
 * are there already.
 *  - Latent damage: bytes that were durable change (sim_disk_corrupt). Separate, because it may
 * cost acknowledged data: then the promise is a report, not survival.
 *
 * FAULTS IT DOES NOT MODEL: misdirected writes, sectors smaller than 512 B torn inside, a device
 * that lies about FUA (that is the SIM_BREAK_* switches: they exist to prove that a test notices).
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include "store/file_io.h"

enum sim_break {
    SIM_BREAK_NONE = 0,
    SIM_BREAK_DURABLE_WRITES = 1, /* a completed durable write is only pending */
    SIM_BREAK_SYNC = 2,           /* sync does nothing */
    SIM_BREAK_SYNC_DIR = 3,       /* sync_dir does nothing */
};

struct sim_disk_options {
    uint64_t seed;
    uint64_t capacity_bytes;
    uint64_t delay_ns_min; /* of a write in flight */
    uint64_t delay_ns_max;
    uint32_t slow_per_thousand; /* writes that take 100 times as long */
    enum sim_break broken;
};

struct sim_disk;

struct sim_disk *sim_disk_create(const struct sim_disk_options *options);
void sim_disk_destroy(struct sim_disk *disk);
/* The store's view. Its destroy op does nothing: the test owns the disk, which outlives stores and
 * crashes. */
struct file_io *sim_disk_io(struct sim_disk *disk);

/* The power goes: the image is decided now; until sim_disk_restart every call fails with -EIO and
 * changes nothing, and what was in flight comes back from wait with -EIO, so that a store can be
 * closed as if its process had died. */
void sim_disk_crash(struct sim_disk *disk);
/* The power goes within the count-th call from now that changes anything (1: the next); 0 disarms.
 */
void sim_disk_crash_after(struct sim_disk *disk, uint64_t count);
bool sim_disk_is_dead(const struct sim_disk *disk);
/* All files of the old process are closed; faults are cleared. */
void sim_disk_restart(struct sim_disk *disk);

void sim_disk_fail_next_writes(struct sim_disk *disk,
                               uint32_t count); /* durable and plain writes, EIO */
void sim_disk_fail_all_writes(struct sim_disk *disk, bool is_failing);
void sim_disk_fail_next_sync(struct sim_disk *disk, bool is_failing);
void sim_disk_fail_range(struct sim_disk *disk, const char *name, uint64_t offset,
                         uint64_t bytes); /* bytes 0: disarms */
/* Reads that touch a range of one file fail with EIO, also after a restart; bytes 0: disarms. */
void sim_disk_fail_reads(struct sim_disk *disk, const char *name, uint64_t offset, uint64_t bytes);
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_disk_used_bytes(const struct sim_disk *disk);
void sim_disk_advance(struct sim_disk *disk, uint64_t ns);
uint64_t sim_disk_now_ns(const struct sim_disk *disk);
unsigned sim_disk_in_flight(const struct sim_disk *disk);
/* Flips one bit in each 512-byte sector that overlaps the range, on stable storage. 0 or -ENOENT.
 */
int sim_disk_corrupt(struct sim_disk *disk, const char *name, uint64_t offset, uint64_t bytes);

/* xorshift-like generator for tests: the same numbers from the same seed on every machine. */
struct sim_random {
    uint64_t state;
};
uint64_t sim_random_next(struct sim_random *random);
/* 0 .. limit-1; limit at least 1. */
uint64_t sim_random_below(struct sim_random *random, uint64_t limit);
bool sim_random_chance(struct sim_random *random, uint32_t per_thousand);

#endif
