/*
 * sim_disk: see sim_disk.h for the faults. Inside: an inode has two images, what reads see
 * (current) and what would survive (durable), a bit per sector that says where they differ on
 * purpose (pending), and a byte per block that says whether its extent exists and is durable. A
 * directory operation is applied to the current names at once and to the durable names by sync_dir,
 * or, at a crash, by the seed.
 *
 * Everything is bounded by small tables; running out of one is an ASSERT, because a test that needs
 * more should say so.
 */
#include "sim_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "store/format.h"

#define SECTOR_BYTES   512u
#define BLOCK_BYTES    4096u
#define NAME_BYTES_MAX 64u
#define INODES_MAX     256u
#define HANDLES_MAX    256u
#define CHANGES_MAX    1024u
#define FLIGHTS_MAX    16u
#define EPOCH_NS       1700000000000000000ll /* the simulated clocks begin somewhere in 2023 */
#define STEP_NS        500u /* each call costs this much simulated time, so that no loop stands still */
#define SLEEP_NS_MAX   (20u * 1000u * 1000u) /* one wait never jumps further than this */

enum extent {
    EXTENT_HOLE = 0,
    EXTENT_PENDING = 1,
    EXTENT_DURABLE = 2,
};

struct inode {
    bool is_used;
    bool is_dir;
    uint8_t *current;
    uint8_t *durable;
    uint8_t *pending; /* one byte per sector */
    uint8_t *extents; /* enum extent per block */
    uint64_t room_bytes;
    uint64_t size;
    uint64_t durable_size;
};

struct entry {
    char name[NAME_BYTES_MAX]; /* "" is a free slot */
    int inode;
};

/* A change of a directory that its sync has not confirmed: `from` loses its entry, `to` gets the
 * inode. */
struct change {
    char from[NAME_BYTES_MAX];
    char to[NAME_BYTES_MAX];
    int inode;
};

struct handle {
    int inode; /* -1: free */
    unsigned flags;
};

struct flight {
    struct file_write *write; /* NULL: free */
    uint64_t done_at_ns;
    int inode;
};

struct sim_disk {
    struct file_io io;
    struct sim_disk_options options;
    struct sim_random random;
    uint64_t now_ns;
    bool is_dead;
    uint64_t crash_after;
    uint32_t fail_writes;
    bool is_failing_all;
    bool is_failing_sync;
    char range_name[NAME_BYTES_MAX];
    uint64_t range_offset;
    uint64_t range_bytes;
    char read_name[NAME_BYTES_MAX];
    uint64_t read_offset;
    uint64_t read_bytes;
    struct inode inodes[INODES_MAX];
    int inode_count; /* slots ever used: bounds the walks */
    struct entry names[INODES_MAX];
    struct entry durable_names[INODES_MAX];
    struct change changes[CHANGES_MAX];
    unsigned change_count;
    struct handle handles[HANDLES_MAX];
    struct flight flights[FLIGHTS_MAX];
};

uint64_t sim_random_next(struct sim_random *random)
{
    /* splitmix64: any seed is good, also 0 and its neighbours. */
    random->state += 0x9e3779b97f4a7c15ull;
    uint64_t z = random->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t limit)
{
    ASSERT(limit != 0);
    return sim_random_next(random) % limit;
}

bool sim_random_chance(struct sim_random *random, uint32_t per_thousand)
{
    return sim_random_below(random, 1000) < per_thousand;
}

static struct sim_disk *disk_of(struct file_io *io)
{
    return CONTAINER_OF(io, struct sim_disk, io);
}

/* ---- names ---- */

static void name_copy(char *to, const char *name)
{
    ASSERT(strlen(name) < NAME_BYTES_MAX);
    memset(to, 0, NAME_BYTES_MAX);
    memcpy(to, name, strlen(name));
}

static struct entry *entry_find(struct entry *table, const char *name)
{
    for (size_t i = 0; i < INODES_MAX; i++) {
        if (table[i].name[0] != '\0' && strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void entry_remove(struct entry *table, const char *name)
{
    struct entry *entry = entry_find(table, name);
    if (entry != NULL) {
        memset(entry, 0, sizeof *entry);
    }
}

static void entry_set(struct entry *table, const char *name, int inode)
{
    struct entry *entry = entry_find(table, name);
    for (size_t i = 0; i < INODES_MAX && entry == NULL; i++) {
        entry = table[i].name[0] == '\0' ? &table[i] : NULL;
    }
    ASSERT(entry != NULL);
    name_copy(entry->name, name);
    entry->inode = inode;
}

static void entry_remove_inode(struct entry *table, int inode)
{
    for (size_t i = 0; i < INODES_MAX; i++) {
        if (table[i].name[0] != '\0' && table[i].inode == inode) {
            memset(&table[i], 0, sizeof table[i]);
        }
    }
}

/* Length of the directory part: "log/x" is 3, "x" is 0. */
static size_t dir_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? 0 : (size_t)(slash - name);
}

static bool is_in_dir(const char *name, const char *dir)
{
    size_t length = strcmp(dir, ".") == 0 ? 0 : strlen(dir);
    return dir_length(name) == length && memcmp(name, dir, length) == 0;
}

static bool dir_exists(struct sim_disk *disk, const char *name)
{
    char dir[NAME_BYTES_MAX] = {0};
    memcpy(dir, name, dir_length(name));
    struct entry *entry = dir[0] == '\0' ? NULL : entry_find(disk->names, dir);
    return dir[0] == '\0' || (entry != NULL && disk->inodes[entry->inode].is_dir);
}

static void change_apply(struct entry *table, const struct change *change)
{
    if (change->from[0] != '\0') {
        entry_remove(table, change->from);
    }
    if (change->to[0] != '\0') {
        /* One inode has one name: an earlier change of it may have been lost. */
        entry_remove_inode(table, change->inode);
        entry_set(table, change->to, change->inode);
    }
}

static void change_add(struct sim_disk *disk, const char *from, const char *to, int inode)
{
    ASSERT(disk->change_count < CHANGES_MAX);
    struct change *change = &disk->changes[disk->change_count++];
    name_copy(change->from, from);
    name_copy(change->to, to);
    change->inode = inode;
    change_apply(disk->names, change);
}

/* ---- inodes ---- */

static int inode_take(struct sim_disk *disk)
{
    int index = 0;
    while (index < disk->inode_count && disk->inodes[index].is_used) {
        index++;
    }
    ASSERT(index < (int)INODES_MAX);
    disk->inode_count = index == disk->inode_count ? index + 1 : disk->inode_count;
    memset(&disk->inodes[index], 0, sizeof disk->inodes[index]);
    disk->inodes[index].is_used = true;
    return index;
}

static void inode_drop(struct inode *inode)
{
    mem_free(inode->current);
    mem_free(inode->durable);
    mem_free(inode->pending);
    mem_free(inode->extents);
    memset(inode, 0, sizeof *inode);
}

static bool inode_is_named(const struct entry *table, int inode)
{
    for (size_t i = 0; i < INODES_MAX; i++) {
        if (table[i].name[0] != '\0' && table[i].inode == inode) {
            return true;
        }
    }
    return false;
}

static bool inode_is_open(const struct sim_disk *disk, int inode)
{
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        if (disk->handles[i].inode == inode) {
            return true;
        }
    }
    return false;
}

static bool inode_is_in_changes(const struct sim_disk *disk, int inode)
{
    for (unsigned i = 0; i < disk->change_count; i++) {
        if (disk->changes[i].inode == inode) {
            return true;
        }
    }
    return false;
}

/* Forgets files that no name, no handle and no undecided change can bring back. */
static void inodes_collect(struct sim_disk *disk)
{
    for (int i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].is_used && !inode_is_named(disk->names, i) &&
            !inode_is_named(disk->durable_names, i) && !inode_is_open(disk, i) &&
            !inode_is_in_changes(disk, i)) {
            inode_drop(&disk->inodes[i]);
        }
    }
}

static uint8_t *grow(uint8_t *old, uint64_t old_bytes, uint64_t bytes)
{
    uint8_t *grown = mem_alloc((size_t)bytes);
    if (old != NULL) {
        memcpy(grown, old, (size_t)old_bytes);
    }
    mem_free(old);
    return grown;
}

static void inode_reserve(struct inode *inode, uint64_t bytes)
{
    if (bytes <= inode->room_bytes) {
        return;
    }
    uint64_t old = inode->room_bytes;
    uint64_t room = align_up(bytes, 16 * BLOCK_BYTES);
    inode->current = grow(inode->current, old, room);
    inode->durable = grow(inode->durable, old, room);
    inode->pending = grow(inode->pending, old / SECTOR_BYTES, room / SECTOR_BYTES);
    inode->extents = grow(inode->extents, old / BLOCK_BYTES, room / BLOCK_BYTES);
    inode->room_bytes = room;
}

static uint64_t inode_blocks(const struct inode *inode)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < inode->room_bytes / BLOCK_BYTES; i++) {
        count += inode->extents[i] != EXTENT_HOLE;
    }
    return count;
}

static uint64_t holes_within(const struct inode *inode, uint64_t offset, uint64_t bytes)
{
    uint64_t count = 0;
    for (uint64_t block = offset / BLOCK_BYTES; block * BLOCK_BYTES < offset + bytes; block++) {
        count += block >= inode->room_bytes / BLOCK_BYTES || inode->extents[block] == EXTENT_HOLE;
    }
    return count;
}

uint64_t sim_disk_used_bytes(const struct sim_disk *disk)
{
    uint64_t blocks = 0;
    for (int i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].is_used && (inode_is_named(disk->names, i) || inode_is_open(disk, i))) {
            blocks += inode_blocks(&disk->inodes[i]);
        }
    }
    return blocks * BLOCK_BYTES;
}

/* Makes sure that the blocks of a range exist. 0 or -ENOSPC. */
static int inode_allocate(struct sim_disk *disk, struct inode *inode, uint64_t offset,
                          uint64_t bytes)
{
    uint64_t holes = holes_within(inode, offset, bytes);
    if (holes != 0 &&
        sim_disk_used_bytes(disk) + holes * BLOCK_BYTES > disk->options.capacity_bytes) {
        return -ENOSPC;
    }
    inode_reserve(inode, offset + bytes);
    for (uint64_t block = offset / BLOCK_BYTES; block * BLOCK_BYTES < offset + bytes; block++) {
        if (inode->extents[block] == EXTENT_HOLE) {
            inode->extents[block] = EXTENT_PENDING;
        }
    }
    return 0;
}

/* The sector after a power cut in the middle of writing it: old, new, or noise. */
static void sector_tear(struct sim_disk *disk, uint8_t *old, const uint8_t *new)
{
    uint64_t dice = sim_random_below(&disk->random, 8);
    if (dice < 3) {
        return;
    }
    if (dice < 7) {
        memcpy(old, new, SECTOR_BYTES);
        return;
    }
    for (unsigned i = 0; i < SECTOR_BYTES; i += 8) {
        uint64_t noise = sim_random_next(&disk->random);
        memcpy(old + i, &noise, 8);
    }
}

/* What reads see from now on; durable only where it may be claimed. */
static void inode_put(struct sim_disk *disk, struct inode *inode, const uint8_t *data,
                      uint64_t offset, uint64_t bytes, bool is_durable)
{
    memcpy(inode->current + offset, data, (size_t)bytes);
    inode->size = u64_max(inode->size, offset + bytes);
    bool is_honest = disk->options.broken != SIM_BREAK_DURABLE_WRITES;
    for (uint64_t sector = offset / SECTOR_BYTES; sector * SECTOR_BYTES < offset + bytes;
         sector++) {
        uint64_t at = sector * SECTOR_BYTES;
        bool is_claimed = is_durable && is_honest &&
                          inode->extents[at / BLOCK_BYTES] == EXTENT_DURABLE &&
                          at < inode->durable_size;
        if (is_claimed) {
            memcpy(inode->durable + at, inode->current + at, SECTOR_BYTES);
        }
        inode->pending[sector] = !is_claimed;
    }
}

/* A write that failed: any mix of sectors, all of them undecided. */
static void inode_put_failed(struct sim_disk *disk, struct inode *inode, const uint8_t *data,
                             uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = offset; at + SECTOR_BYTES <= offset + bytes; at += SECTOR_BYTES) {
        sector_tear(disk, inode->current + at, data + (at - offset));
        inode->pending[at / SECTOR_BYTES] = 1;
    }
    inode->size = u64_max(inode->size, offset + bytes);
}

/* How much of what was undecided survives. Whole files or whole writes are as likely as a mix: a
 * torn batch finds other bugs than one that is complete but was never acknowledged. */
enum fate {
    FATE_KEPT,
    FATE_LOST,
    FATE_TORN,
};

static enum fate fate_roll(struct sim_disk *disk)
{
    return (enum fate)sim_random_below(&disk->random, 3);
}

static void sector_settle(struct sim_disk *disk, enum fate fate, uint8_t *old, const uint8_t *new)
{
    if (fate == FATE_KEPT) {
        memcpy(old, new, SECTOR_BYTES);
    } else if (fate == FATE_TORN) {
        sector_tear(disk, old, new);
    }
}

static void inode_crash(struct sim_disk *disk, struct inode *inode)
{
    enum fate fate = fate_roll(disk);
    bool is_length_kept = sim_random_chance(&disk->random, 500);
    uint64_t size = is_length_kept ? inode->size : inode->durable_size;
    for (uint64_t sector = 0; sector < inode->room_bytes / SECTOR_BYTES; sector++) {
        uint64_t at = sector * SECTOR_BYTES;
        if (inode->pending[sector] != 0) {
            sector_settle(disk, fate, inode->durable + at, inode->current + at);
            inode->pending[sector] = 0;
        }
        if (at >= size) {
            memset(inode->durable + at, 0, SECTOR_BYTES);
        }
    }
    for (uint64_t block = 0; block < inode->room_bytes / BLOCK_BYTES; block++) {
        bool is_inside = block * BLOCK_BYTES < size;
        bool is_there = is_inside && inode->extents[block] != EXTENT_HOLE;
        inode->extents[block] = is_there ? EXTENT_DURABLE : EXTENT_HOLE;
    }
    if (inode->room_bytes != 0) {
        memcpy(inode->current, inode->durable, (size_t)inode->room_bytes);
    }
    inode->size = size;
    inode->durable_size = size;
}

static void inode_sync(struct inode *inode)
{
    for (uint64_t sector = 0; sector < inode->room_bytes / SECTOR_BYTES; sector++) {
        if (inode->pending[sector] != 0) {
            memcpy(inode->durable + sector * SECTOR_BYTES, inode->current + sector * SECTOR_BYTES,
                   SECTOR_BYTES);
            inode->pending[sector] = 0;
        }
    }
    for (uint64_t block = 0; block < inode->room_bytes / BLOCK_BYTES; block++) {
        inode->extents[block] = inode->extents[block] == EXTENT_HOLE ? EXTENT_HOLE : EXTENT_DURABLE;
    }
    inode->durable_size = inode->size;
}

/* After a failed sync the kernel has marked the pages clean: some reached the disk, the others
 * never will, and reads still show them until the power goes. */
static void inode_sync_failed(struct sim_disk *disk, struct inode *inode)
{
    for (uint64_t sector = 0; sector < inode->room_bytes / SECTOR_BYTES; sector++) {
        if (inode->pending[sector] != 0) {
            sector_tear(disk, inode->durable + sector * SECTOR_BYTES,
                        inode->current + sector * SECTOR_BYTES);
            inode->pending[sector] = 0;
        }
    }
}

/* ---- the power ---- */

/* A write in flight: its sectors are decided here where the blocks are safe; where they are not,
 * the file's fate decides. */
static void flight_crash(struct sim_disk *disk, struct flight *flight)
{
    struct inode *inode = &disk->inodes[flight->inode];
    const struct file_write *write = flight->write;
    enum fate fate = fate_roll(disk);
    for (uint64_t at = 0; at + SECTOR_BYTES <= write->bytes; at += SECTOR_BYTES) {
        uint64_t to = write->offset + at;
        bool is_safe =
            inode->extents[to / BLOCK_BYTES] == EXTENT_DURABLE && to < inode->durable_size;
        sector_settle(disk, fate, is_safe ? inode->durable + to : inode->current + to,
                      write->data + at);
        inode->pending[to / SECTOR_BYTES] = !is_safe;
    }
    inode->size = u64_max(inode->size, write->offset + write->bytes);
    flight->done_at_ns = 0;
}

static void flights_crash(struct sim_disk *disk)
{
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        if (disk->flights[i].write != NULL) {
            flight_crash(disk, &disk->flights[i]);
        }
    }
}

static void names_crash(struct sim_disk *disk)
{
    for (unsigned i = 0; i < disk->change_count; i++) {
        if (sim_random_chance(&disk->random, 500)) {
            change_apply(disk->durable_names, &disk->changes[i]);
        }
    }
    disk->change_count = 0;
    for (size_t i = 0; i < INODES_MAX; i++) {
        struct entry *entry = &disk->durable_names[i];
        char dir[NAME_BYTES_MAX] = {0};
        memcpy(dir, entry->name, dir_length(entry->name));
        if (dir[0] != '\0' && entry_find(disk->durable_names, dir) == NULL) {
            memset(entry, 0, sizeof *entry); /* its directory never reached the disk */
        }
    }
    memcpy(disk->names, disk->durable_names, sizeof disk->names);
}

void sim_disk_crash(struct sim_disk *disk)
{
    ASSERT(!disk->is_dead);
    flights_crash(disk);
    for (int i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].is_used && !disk->inodes[i].is_dir) {
            inode_crash(disk, &disk->inodes[i]);
        }
    }
    names_crash(disk);
    disk->is_dead = true;
    disk->crash_after = 0;
}

void sim_disk_crash_after(struct sim_disk *disk, uint64_t count)
{
    disk->crash_after = count;
}

bool sim_disk_is_dead(const struct sim_disk *disk)
{
    return disk->is_dead;
}

void sim_disk_restart(struct sim_disk *disk)
{
    ASSERT(sim_disk_in_flight(disk) == 0);
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        disk->handles[i].inode = -1;
    }
    disk->is_dead = false;
    disk->crash_after = 0;
    disk->fail_writes = 0;
    disk->is_failing_all = false;
    disk->is_failing_sync = false;
    disk->range_bytes = 0;
    inodes_collect(disk);
}

/* Counts a call that changes something; true when the power went during it. The change itself has
 * been made (as pending). */
static bool is_fatal(struct sim_disk *disk)
{
    if (disk->crash_after == 0 || --disk->crash_after != 0) {
        return false;
    }
    sim_disk_crash(disk);
    return true;
}

/* ---- operations ---- */

static struct inode *inode_of(struct sim_disk *disk, struct file file)
{
    ASSERT(file.fd >= 0 && file.fd < (int)HANDLES_MAX);
    ASSERT(disk->handles[file.fd].inode >= 0);
    return &disk->inodes[disk->handles[file.fd].inode];
}

static void assert_aligned(const struct sim_disk *disk, struct file file, const void *data,
                           uint64_t bytes, uint64_t offset)
{
    if ((disk->handles[file.fd].flags & FILE_OPEN_DIRECT) != 0) {
        ASSERT((uintptr_t)data % STORE_BLOCK_BYTES == 0);
        ASSERT(bytes % STORE_BLOCK_BYTES == 0);
        ASSERT(offset % STORE_BLOCK_BYTES == 0);
    }
}

static int sim_open(struct file_io *io, const char *name, unsigned flags, struct file *file)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    struct entry *entry = entry_find(disk->names, name);
    if (entry != NULL && (flags & FILE_OPEN_CREATE) != 0 && (flags & FILE_OPEN_EXCLUSIVE) != 0) {
        return -EEXIST;
    }
    if (entry == NULL && ((flags & FILE_OPEN_CREATE) == 0 || !dir_exists(disk, name))) {
        return -ENOENT;
    }
    int inode = entry != NULL ? entry->inode : inode_take(disk);
    if (entry == NULL) {
        change_add(disk, "", name, inode);
        if (is_fatal(disk)) {
            return -EIO;
        }
    }
    if (disk->inodes[inode].is_dir) {
        return -EISDIR;
    }
    int fd = 0;
    while (fd < (int)HANDLES_MAX && disk->handles[fd].inode >= 0) {
        fd++;
    }
    ASSERT(fd < (int)HANDLES_MAX);
    disk->handles[fd] = (struct handle){inode, flags};
    file->fd = fd;
    return 0;
}

/* Closing a file with a write in flight is a mistake of the living; of a dead process it is how
 * things end. */
static void sim_close(struct file_io *io, struct file file)
{
    struct sim_disk *disk = disk_of(io);
    ASSERT(file.fd >= 0 && file.fd < (int)HANDLES_MAX);
    ASSERT(disk->handles[file.fd].inode >= 0);
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        struct flight *flight = &disk->flights[i];
        if (flight->write != NULL && flight->write->file.fd == file.fd) {
            ASSERT(disk->is_dead);
            flight->write = NULL;
        }
    }
    disk->handles[file.fd].inode = -1;
}

static int64_t sim_size(struct file_io *io, struct file file)
{
    struct sim_disk *disk = disk_of(io);
    return disk->is_dead ? -EIO : (int64_t)inode_of(disk, file)->size;
}

static bool read_fails(struct sim_disk *disk, struct file file, uint64_t bytes, uint64_t offset)
{
    bool is_within = disk->read_bytes != 0 && offset < disk->read_offset + disk->read_bytes &&
                     disk->read_offset < offset + bytes;
    const struct entry *entry = is_within ? entry_find(disk->names, disk->read_name) : NULL;
    return entry != NULL && entry->inode == disk->handles[file.fd].inode;
}

static int64_t sim_read(struct file_io *io, struct file file, void *to, uint64_t bytes,
                        uint64_t offset)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    assert_aligned(disk, file, to, bytes, offset);
    const struct inode *inode = inode_of(disk, file);
    if (read_fails(disk, file, bytes, offset)) {
        return -EIO;
    }
    if (offset >= inode->size) {
        return 0;
    }
    uint64_t count = u64_min(bytes, inode->size - offset);
    uint64_t stored = offset < inode->room_bytes ? u64_min(count, inode->room_bytes - offset) : 0;
    if (stored != 0) {
        memcpy(to, inode->current + offset, (size_t)stored);
    }
    memset((uint8_t *)to + stored, 0, (size_t)(count - stored));
    return (int64_t)count;
}

static bool write_fails(struct sim_disk *disk, struct file file, uint64_t bytes, uint64_t offset)
{
    if (disk->fail_writes != 0) {
        disk->fail_writes--;
        return true;
    }
    if (disk->range_bytes != 0 && offset < disk->range_offset + disk->range_bytes &&
        disk->range_offset < offset + bytes) {
        struct entry *entry = entry_find(disk->names, disk->range_name);
        if (entry != NULL && entry->inode == disk->handles[file.fd].inode) {
            return true;
        }
    }
    return disk->is_failing_all;
}

static int sim_write(struct file_io *io, struct file file, const void *from, uint64_t bytes,
                     uint64_t offset, bool is_durable)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS + bytes / 4; /* some 4 GB/s */
    if (disk->is_dead) {
        return -EIO;
    }
    assert_aligned(disk, file, from, bytes, offset);
    ASSERT((disk->handles[file.fd].flags & FILE_OPEN_READ_ONLY) == 0);
    struct inode *inode = inode_of(disk, file);
    int result = inode_allocate(disk, inode, offset, bytes);
    if (result < 0) {
        return result;
    }
    if (write_fails(disk, file, bytes, offset)) {
        inode_put_failed(disk, inode, from, offset, bytes);
        return -EIO;
    }
    bool is_last = disk->crash_after == 1;
    inode_put(disk, inode, from, offset, bytes, is_durable && !is_last);
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_allocate(struct file_io *io, struct file file, uint64_t bytes)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    struct inode *inode = inode_of(disk, file);
    int result = inode_allocate(disk, inode, 0, bytes);
    if (result < 0) {
        return result;
    }
    inode->size = u64_max(inode->size, bytes);
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_truncate(struct file_io *io, struct file file, uint64_t bytes)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    struct inode *inode = inode_of(disk, file);
    for (uint64_t at = align_up(bytes, SECTOR_BYTES); at < inode->room_bytes; at += SECTOR_BYTES) {
        memset(inode->current + at, 0, SECTOR_BYTES);
        inode->pending[at / SECTOR_BYTES] = 1;
    }
    for (uint64_t at = align_up(bytes, BLOCK_BYTES); at < inode->room_bytes; at += BLOCK_BYTES) {
        inode->extents[at / BLOCK_BYTES] = EXTENT_HOLE;
    }
    inode_reserve(inode, bytes);
    inode->size = bytes;
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_sync(struct file_io *io, struct file file)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += 50 * NS_US;
    if (disk->is_dead || is_fatal(disk)) {
        return -EIO;
    }
    struct inode *inode = inode_of(disk, file);
    if (disk->is_failing_sync) {
        disk->is_failing_sync = false;
        inode_sync_failed(disk, inode);
        return -EIO;
    }
    if (disk->options.broken != SIM_BREAK_SYNC) {
        inode_sync(inode);
    }
    return 0;
}

static int sim_sync_dir(struct file_io *io, const char *name)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += 50 * NS_US;
    if (disk->is_dead || is_fatal(disk)) {
        return -EIO;
    }
    if (disk->options.broken == SIM_BREAK_SYNC_DIR) {
        return 0;
    }
    unsigned kept = 0;
    for (unsigned i = 0; i < disk->change_count; i++) {
        const struct change change = disk->changes[i];
        if (is_in_dir(change.to[0] != '\0' ? change.to : change.from, name)) {
            change_apply(disk->durable_names, &change);
        } else {
            disk->changes[kept++] = change;
        }
    }
    disk->change_count = kept;
    inodes_collect(disk);
    return 0;
}

static int sim_make_dir(struct file_io *io, const char *name)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    if (entry_find(disk->names, name) != NULL || name[0] == '\0' || strcmp(name, ".") == 0) {
        return 0;
    }
    int inode = inode_take(disk);
    disk->inodes[inode].is_dir = true;
    change_add(disk, "", name, inode);
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_rename(struct file_io *io, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    struct entry *entry = entry_find(disk->names, from);
    if (entry == NULL || !dir_exists(disk, to)) {
        return -ENOENT;
    }
    change_add(disk, from, to, entry->inode);
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_unlink(struct file_io *io, const char *name)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    struct entry *entry = entry_find(disk->names, name);
    if (entry == NULL) {
        return -ENOENT;
    }
    change_add(disk, name, "", entry->inode);
    return is_fatal(disk) ? -EIO : 0;
}

static int sim_list(struct file_io *io, const char *dir, file_on_name on_name, void *context)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    bool is_root = dir[0] == '\0' || strcmp(dir, ".") == 0;
    if (!is_root && entry_find(disk->names, dir) == NULL) {
        return -ENOENT;
    }
    /* From a random place on: callers must not rely on an order. */
    size_t start = (size_t)sim_random_below(&disk->random, INODES_MAX);
    for (size_t i = 0; i < INODES_MAX; i++) {
        const struct entry *entry = &disk->names[(start + i) % INODES_MAX];
        if (entry->name[0] != '\0' && is_in_dir(entry->name, dir)) {
            char name[NAME_BYTES_MAX];
            size_t skip = is_root ? 0 : strlen(dir) + 1;
            name_copy(name, entry->name + skip);
            on_name(context, name);
        }
    }
    return 0;
}

static int sim_free_bytes(struct file_io *io, uint64_t *bytes)
{
    struct sim_disk *disk = disk_of(io);
    uint64_t used = sim_disk_used_bytes(disk);
    *bytes = used < disk->options.capacity_bytes ? disk->options.capacity_bytes - used : 0;
    return disk->is_dead ? -EIO : 0;
}

static int sim_writer_start(struct file_io *io, struct err *err)
{
    return disk_of(io)->is_dead ? err_set(err, -EIO, "the simulated power is off") : 0;
}

static void sim_writer_stop(struct file_io *io)
{
    (void)io;
}

static int sim_submit(struct file_io *io, struct file_write *write)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (disk->is_dead) {
        return -EIO;
    }
    ASSERT((uintptr_t)write->data % STORE_BLOCK_BYTES == 0);
    ASSERT(write->bytes % STORE_BLOCK_BYTES == 0 && write->bytes != 0);
    ASSERT(write->offset % STORE_BLOCK_BYTES == 0);
    struct inode *inode = inode_of(disk, write->file);
    int result = inode_allocate(disk, inode, write->offset, write->bytes);
    if (result < 0) {
        return result;
    }
    struct flight *flight = disk->flights;
    while (flight < disk->flights + FLIGHTS_MAX && flight->write != NULL) {
        flight++;
    }
    ASSERT(flight < disk->flights + FLIGHTS_MAX);
    uint64_t spread = disk->options.delay_ns_max - disk->options.delay_ns_min + 1;
    uint64_t delay_ns = disk->options.delay_ns_min + sim_random_below(&disk->random, spread);
    delay_ns *= sim_random_chance(&disk->random, disk->options.slow_per_thousand) ? 100 : 1;
    write->submitted_at_ns = disk->now_ns;
    write->result = 0;
    write->next = NULL;
    *flight = (struct flight){write, disk->now_ns + delay_ns, disk->handles[write->file.fd].inode};
    (void)is_fatal(
        disk); /* accepted all the same: it is then one of the writes that the crash tore */
    return 0;
}

static struct flight *flight_first(struct sim_disk *disk)
{
    struct flight *first = NULL;
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        struct flight *flight = &disk->flights[i];
        if (flight->write != NULL && (first == NULL || flight->done_at_ns < first->done_at_ns)) {
            first = flight;
        }
    }
    return first;
}

static void flight_land(struct sim_disk *disk, struct flight *flight)
{
    struct file_write *write = flight->write;
    struct inode *inode = &disk->inodes[flight->inode];
    flight->write = NULL;
    if (disk->is_dead) {
        write->result = -EIO; /* the crash has decided its sectors already */
    } else if (write_fails(disk, write->file, write->bytes, write->offset)) {
        inode_put_failed(disk, inode, write->data, write->offset, write->bytes);
        /* Some devices say how far they came. Nothing of it may be trusted. */
        bool is_short = sim_random_chance(&disk->random, 250);
        write->result = is_short ? (int64_t)(write->bytes - STORE_BLOCK_BYTES) : -EIO;
    } else {
        inode_put(disk, inode, write->data, write->offset, write->bytes, true);
        write->result = (int64_t)write->bytes;
    }
}

static void wait_pass_time(struct sim_disk *disk, uint64_t timeout_ns, bool has_park)
{
    uint64_t sleep_ns = u64_min(timeout_ns, SLEEP_NS_MAX);
    const struct flight *first = flight_first(disk);
    if (first != NULL) {
        sleep_ns = first->done_at_ns > disk->now_ns
                       ? u64_min(sleep_ns, first->done_at_ns - disk->now_ns)
                       : 0;
    }
    /* A shard wakes us early half of the time, whether it has something or not. */
    if (has_park && sleep_ns != 0 && sim_random_chance(&disk->random, 500)) {
        sleep_ns = sim_random_below(&disk->random, sleep_ns);
    }
    disk->now_ns += sleep_ns;
}

static int sim_wait(struct file_io *io, uint64_t timeout_ns, struct park *park,
                    struct file_write **done)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += STEP_NS;
    if (timeout_ns != 0) {
        wait_pass_time(disk, timeout_ns, park != NULL);
    }
    *done = NULL;
    struct file_write **tail = done;
    int count = 0;
    while (count < (int)FLIGHTS_MAX) {
        struct flight *first = flight_first(disk);
        if (first == NULL || (first->done_at_ns > disk->now_ns && !disk->is_dead)) {
            break;
        }
        *tail = first->write;
        tail = &first->write->next;
        flight_land(disk, first);
        count++;
    }
    *tail = NULL;
    return count;
}

static uint64_t sim_mono_ns(struct file_io *io)
{
    struct sim_disk *disk = disk_of(io);
    disk->now_ns += 20;
    return disk->now_ns;
}

static int64_t sim_real_ns(struct file_io *io)
{
    return EPOCH_NS + (int64_t)sim_mono_ns(io);
}

static void sim_destroy(struct file_io *io)
{
    (void)io;
}

static const struct file_io_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .sync = sim_sync,
    .sync_dir = sim_sync_dir,
    .make_dir = sim_make_dir,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .list = sim_list,
    .free_bytes = sim_free_bytes,
    .writer_start = sim_writer_start,
    .writer_stop = sim_writer_stop,
    .submit = sim_submit,
    .wait = sim_wait,
    .mono_ns = sim_mono_ns,
    .real_ns = sim_real_ns,
    .destroy = sim_destroy,
};

/* ---- life ---- */

struct sim_disk *sim_disk_create(const struct sim_disk_options *options)
{
    ASSERT(options->delay_ns_min <= options->delay_ns_max);
    struct sim_disk *disk = mem_alloc(sizeof *disk);
    disk->io.ops = &sim_ops;
    disk->options = *options;
    disk->random.state = options->seed;
    disk->now_ns = NS_S;
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        disk->handles[i].inode = -1;
    }
    return disk;
}

void sim_disk_destroy(struct sim_disk *disk)
{
    ASSERT(sim_disk_in_flight(disk) == 0);
    for (int i = 0; i < disk->inode_count; i++) {
        inode_drop(&disk->inodes[i]);
    }
    mem_free(disk);
}

struct file_io *sim_disk_io(struct sim_disk *disk)
{
    return &disk->io;
}

void sim_disk_fail_next_writes(struct sim_disk *disk, uint32_t count)
{
    disk->fail_writes = count;
}

void sim_disk_fail_all_writes(struct sim_disk *disk, bool is_failing)
{
    disk->is_failing_all = is_failing;
}

void sim_disk_fail_next_sync(struct sim_disk *disk, bool is_failing)
{
    disk->is_failing_sync = is_failing;
}

void sim_disk_fail_range(struct sim_disk *disk, const char *name, uint64_t offset, uint64_t bytes)
{
    name_copy(disk->range_name, name);
    disk->range_offset = offset;
    disk->range_bytes = bytes;
}

void sim_disk_fail_reads(struct sim_disk *disk, const char *name, uint64_t offset, uint64_t bytes)
{
    name_copy(disk->read_name, name);
    disk->read_offset = offset;
    disk->read_bytes = bytes;
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t bytes)
{
    disk->options.capacity_bytes = bytes;
}

void sim_disk_advance(struct sim_disk *disk, uint64_t ns)
{
    disk->now_ns += ns;
}

uint64_t sim_disk_now_ns(const struct sim_disk *disk)
{
    return disk->now_ns;
}

unsigned sim_disk_in_flight(const struct sim_disk *disk)
{
    unsigned count = 0;
    for (unsigned i = 0; i < FLIGHTS_MAX; i++) {
        count += disk->flights[i].write != NULL;
    }
    return count;
}

int sim_disk_corrupt(struct sim_disk *disk, const char *name, uint64_t offset, uint64_t bytes)
{
    const struct entry *entry = entry_find(disk->names, name);
    if (entry == NULL) {
        return -ENOENT;
    }
    struct inode *inode = &disk->inodes[entry->inode];
    for (uint64_t at = offset; at < u64_min(offset + bytes, inode->size);
         at = (at / SECTOR_BYTES + 1) * SECTOR_BYTES) {
        uint64_t end =
            u64_min((at / SECTOR_BYTES + 1) * SECTOR_BYTES, u64_min(offset + bytes, inode->size));
        uint64_t where = at + sim_random_below(&disk->random, end - at);
        uint8_t bit = (uint8_t)(1u << sim_random_below(&disk->random, 8));
        inode->current[where] ^= bit;
        inode->durable[where] ^= bit;
    }
    return 0;
}
