#include "store/sqlite_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "store/digest.h"

#define CHUNK_BYTES  KIB(64)
#define LOCK_WAIT_MS 30000
/* Of the header: 1: rollback journal, 2: WAL (sqlite.org/fileformat2.html). */
#define VERSION_AT  18u
#define VERSION_WAL 2u

enum {
    PATH_ROOM = 4096,
    NAME_TRIES_MAX = 16, /* each lost to another process that copies the same file */
};

struct mark {
    uint8_t digest[DIGEST_BYTES];
};

struct copy {
    sqlite3 *db;
    sqlite3_file
        *file; /* SQLite's own: another descriptor of the file would drop its locks when closed */
    int to;
    uint8_t *chunk;
    struct mark *marks; /* of the chunks that the first reading found */
    uint64_t mark_count;
    bool is_locked;
};

static int fail(const struct copy *copy, int code, const char *doing, struct err *err)
{
    int plain = code & 0xff;
    int r = plain == SQLITE_BUSY || plain == SQLITE_LOCKED ? -EBUSY : -EIO;
    return err_set(err, r, "%s: %s (SQLite code %d)", doing, sqlite3_errmsg(copy->db), code);
}

int sqlite_copy_has_wal(struct sqlite3 *db, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    struct copy copy = {.db = db};
    int code = sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    const unsigned char *mode = code == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
    int r = mode == NULL ? fail(&copy, code, "journal_mode", err)
                         : strcmp((const char *)mode, "wal") == 0;
    (void)sqlite3_finalize(statement);
    return r;
}

static int write_chunk(const struct copy *copy, uint64_t offset, size_t bytes, struct err *err)
{
    for (size_t done = 0; done < bytes;) { /* each turn writes something, or fails */
        ssize_t n = pwrite(copy->to, copy->chunk + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int r = n == 0 ? -EIO : -errno;
            return err_set(err, r, "write the copy: %s", err_name(r));
        }
        done += (size_t)n;
    }
    return 0;
}

/* Reads a chunk; writes it unless the copy has it already. */
static int copy_chunk(struct copy *copy, uint64_t index, size_t bytes, struct err *err)
{
    struct mark now;
    bool has_mark = index < copy->mark_count;
    sqlite3_int64 offset = (sqlite3_int64)index * (sqlite3_int64)CHUNK_BYTES;
    int code = copy->file->pMethods->xRead(copy->file, copy->chunk, (int)bytes, offset);
    /* Without the lock it may have become shorter: SQLite fills up with zeroes, and the lock brings the truth. */
    if (code != SQLITE_OK && (code != SQLITE_IOERR_SHORT_READ || copy->is_locked)) {
        return fail(copy, code, "read", err);
    }
    if (copy->is_locked && index == 0 && bytes > VERSION_AT &&
        copy->chunk[VERSION_AT] == VERSION_WAL) {
        return err_set(err, -EBUSY, "its journal mode has become WAL meanwhile");
    }
    digest_once((struct slice){copy->chunk, bytes}, now.digest);
    if (copy->is_locked && has_mark && memcmp(&now, &copy->marks[index], sizeof now) == 0) {
        return 0;
    }
    if (has_mark) {
        copy->marks[index] = now;
    }
    return write_chunk(copy, (uint64_t)offset, bytes, err);
}

static int file_bytes(const struct copy *copy, uint64_t *bytes, struct err *err)
{
    sqlite3_int64 size = 0;
    int code = copy->file->pMethods->xFileSize(copy->file, &size);
    *bytes = (uint64_t)size;
    return code == SQLITE_OK ? 0 : fail(copy, code, "its size", err);
}

static int copy_chunks(struct copy *copy, uint64_t bytes, struct err *err)
{
    int r = 0;
    for (uint64_t at = 0; r == 0 && at < bytes; at += CHUNK_BYTES) {
        r = copy_chunk(copy, at / CHUNK_BYTES, (size_t)u64_min(CHUNK_BYTES, bytes - at), err);
    }
    return r;
}

static int copy_unlocked(struct copy *copy, struct err *err)
{
    uint64_t bytes = 0;
    int r = file_bytes(copy, &bytes, err);
    uint64_t count = bytes / CHUNK_BYTES + 1;
    if (r < 0) {
        return r;
    }
    copy->marks = mem_map((size_t)(count * sizeof *copy->marks));
    if (copy->marks == NULL) {
        return err_set(err, -ENOMEM, "no memory for the digests of %llu chunks",
                       (unsigned long long)count);
    }
    copy->mark_count = count;
    return copy_chunks(copy, bytes, err);
}

/* Under the read lock the file does not change. */
static int copy_rest(struct copy *copy, struct err *err)
{
    uint64_t bytes = 0;
    copy->is_locked = true;
    int r = file_bytes(copy, &bytes, err);
    r = r == 0 ? copy_chunks(copy, bytes, err) : r;
    if (r == 0 && ftruncate(copy->to, (off_t)bytes) < 0) {
        r = -errno;
        (void)err_set(err, r, "cut the copy: %s", err_name(r));
    }
    return r;
}

static int copy_locked(struct copy *copy, struct err *err)
{
    (void)sqlite3_busy_timeout(copy->db, LOCK_WAIT_MS);
    /* BEGIN alone takes no lock. */
    int code =
        sqlite3_exec(copy->db, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL);
    int r = code == SQLITE_OK ? copy_rest(copy, err) : fail(copy, code, "lock", err);
    (void)sqlite3_exec(copy->db, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
    return r;
}

int sqlite_copy_to(struct sqlite3 *from, int to, struct err *err)
{
    struct copy copy = {.db = from, .to = to};
    int code = sqlite3_file_control(from, "main", SQLITE_FCNTL_FILE_POINTER, &copy.file);
    if (code != SQLITE_OK || copy.file == NULL || copy.file->pMethods == NULL) {
        /* UNTESTED: a connection without a file. */
        return err_set(err, -EINVAL, "it has no file");
    }
    copy.chunk = mem_alloc(CHUNK_BYTES);
    int r = copy_unlocked(&copy, err);
    r = r == 0 ? copy_locked(&copy, err) : r;
    if (copy.marks != NULL) {
        mem_unmap(copy.marks, (size_t)(copy.mark_count * sizeof *copy.marks));
    }
    mem_free(copy.chunk);
    return r;
}

/* ---- without a name ---- */

/* Locks the file of that name, which is empty. 0: it had lost its name by the time it was locked. */
static int take_name(const char *name, int *fd, struct err *err)
{
    struct stat is;
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0 || flock(*fd, LOCK_EX) < 0 || fstat(*fd, &is) < 0) {
        int r = -errno;
        return err_set(err, r, "make %s: %s", name, err_name(r));
    }
    if (is.st_nlink == 0) {
        (void)close(*fd);
        *fd = -1;
        return 0;
    }
    return is.st_size == 0 ? 1 : err_set(err, -EEXIST, "%s is there, and it is not empty", name);
}

/* SQLite opens by name only; from then on nobody needs it. */
static int open_nameless(struct sqlite3 **db, const char *name, int *fd, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; i < NAME_TRIES_MAX && r == 0; i++) {
        r = take_name(name, fd, err);
    }
    if (r <= 0) {
        return r < 0 ? r : err_set(err, -EAGAIN, "make %s: others do so again and again", name);
    }
    int code = sqlite3_open_v2(name, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    (void)unlink(name);
    (void)flock(*fd, LOCK_UN); /* who has opened the same file meanwhile sees that it has no name */
    struct copy copy = {.db = *db};
    return code == SQLITE_OK ? 0 : fail(&copy, code, name, err);
}

int sqlite_copy_nameless(struct sqlite3 **copy, struct sqlite3 *from, const char *path,
                         struct err *err)
{
    char name[PATH_ROOM];
    int fd = -1;
    *copy = NULL;
    int n = snprintf(name, sizeof name, "%s" SQLITE_COPY_SUFFIX, path);
    if (n < 0 || n >= PATH_ROOM) {
        return err_set(err, -ENAMETOOLONG, "%s", path);
    }
    int r = open_nameless(copy, name, &fd, err);
    r = r == 0 ? sqlite_copy_to(from, fd, err) : r;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (r < 0) {
        (void)sqlite3_close(*copy);
        *copy = NULL;
    }
    return r;
}
