/*
 * runs_mirror: see runs_mirror.h.
 *
 * Happy path: begin (file open, length known) - put ... - sync - the owner commits - keep.
 * Failure: any step; the owner rolls back and calls undo, which cuts the file to where the pass began; where even that fails, the next begin
 * cuts it, because it trusts the stored length while nobody else has written there.
 */
#include "store/runs_mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/logline.h"
#include "core/mem.h"
#include "store/runs_schema.h"

#define DAY_NS       ((int64_t)(86400 * NS_S))
#define BUFFER_BYTES KIB(512)
/* Where an event_id (META_RUN_EVENT_ID_MAX bytes, each \u00xx at worst) has room with the rest of its line. */
#define HEAD_BYTES KIB(200)

enum {
    NAME_ROOM = 64,
    KEY_ROOM = 96,
};

struct runs_mirror {
    struct sqlite3 *db; /* borrowed */
    int dir_fd;
    int fd; /* of the file of day; -1 */
    int64_t day;
    char name[NAME_ROOM];
    uint64_t base;    /* the file's length when the pass began */
    uint64_t written; /* by this pass */
    bool
        is_dirty; /* an undo failed, or a commit did and may have happened: what is behind the stored length goes */
    bool is_new;   /* its name is not yet on stable storage */
    bool is_begun; /* base is this pass's: else there is nothing to undo */
    struct buf buffer;
};

int64_t runs_mirror_day(int64_t time_ns)
{
    int64_t day = time_ns / DAY_NS;
    return time_ns % DAY_NS < 0 ? day - 1 : day;
}

static void file_name(char *name, int64_t day)
{
    char text[CLOCK_RFC3339_BYTES + 1];
    text[clock_rfc3339(text, day * DAY_NS, 0)] = 0;
    (void)snprintf(name, NAME_ROOM, "events_%.4s%.2s%.2s.ndjson", text, text + 5, text + 8);
}

static void meta_key(char *key, const char *name)
{
    (void)snprintf(key, KEY_ROOM, "mirror:%s", name);
}

static int failed(const char *doing, const char *name, struct err *err)
{
    int r = -errno;
    return err_set(err, r, "%s %s: %s", doing, name, err_name(r));
}

/* ---- start ---- */

/* Cuts what lies beyond the stored length. A file that is gone or shorter is the business of who took it. */
static int cut_tail(struct runs_mirror *mirror, const char *name, uint64_t length,
                    struct buf *warning, struct err *err)
{
    struct stat is;
    int fd = openat(mirror->dir_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? 0 : failed("open", name, err);
    }
    int r = fstat(fd, &is) < 0 ? failed("look at", name, err) : 0;
    if (r == 0 && (uint64_t)is.st_size > length) {
        buf_printf(warning, "%s: cut %" PRIu64 " bytes of commands that were not applied; ", name,
                   (uint64_t)is.st_size - length);
        bool is_cut = ftruncate(fd, (off_t)length) == 0 && fsync(fd) == 0;
        r = is_cut ? 0 : failed("cut", name, err);
    }
    (void)close(fd);
    return r;
}

static int cut_tails(struct runs_mirror *mirror, struct buf *warning, struct err *err)
{
    static const char sql[] = "SELECT substr(key, 8), CAST(value AS INTEGER) FROM sluice_meta "
                              "WHERE key >= 'mirror:' AND key < 'mirror;' LIMIT 1000000";
    sqlite3_stmt *statement = NULL;
    int r = 0;
    int code = sqlite3_prepare_v2(mirror->db, sql, -1, &statement, NULL);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    while (code == SQLITE_ROW && r == 0) { /* bound: LIMIT */
        const unsigned char *name = sqlite3_column_text(statement, 0);
        int64_t length = sqlite3_column_int64(statement, 1);
        if (name != NULL && strchr((const char *)name, '/') == NULL && length >= 0) {
            r = cut_tail(mirror, (const char *)name, (uint64_t)length, warning, err);
        }
        code = sqlite3_step(statement);
    }
    if (r == 0 && code != SQLITE_DONE) {
        r = runs_sql_error(mirror->db, code, "read the mirror's lengths", err);
    }
    (void)sqlite3_finalize(statement);
    return r;
}

int runs_mirror_open(struct runs_mirror **out, const char *dir, struct sqlite3 *db,
                     struct buf *warning, struct err *err)
{
    if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
        return failed("make runs.ndjson_dir", dir, err);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return failed("open runs.ndjson_dir", dir, err);
    }
    struct runs_mirror *mirror = mem_alloc(sizeof *mirror);
    mirror->db = db;
    mirror->dir_fd = fd;
    mirror->fd = -1;
    buf_init(&mirror->buffer, mem_alloc(BUFFER_BYTES), BUFFER_BYTES);
    int r = cut_tails(mirror, warning, err);
    if (r < 0) {
        runs_mirror_close(mirror);
        return err_wrap(err, r, "runs.ndjson_dir %s", dir);
    }
    *out = mirror;
    return 0;
}

void runs_mirror_close(struct runs_mirror *mirror)
{
    if (mirror == NULL) {
        return;
    }
    if (mirror->fd >= 0) {
        (void)close(mirror->fd);
    }
    (void)close(mirror->dir_fd);
    mem_free(mirror->buffer.data);
    mem_free(mirror);
}

/* ---- a pass ---- */

static void close_file(struct runs_mirror *mirror)
{
    if (mirror->fd >= 0) {
        (void)close(mirror->fd);
    }
    mirror->fd = -1;
}

static int open_file(struct runs_mirror *mirror, int64_t day, struct err *err)
{
    if (mirror->fd >= 0 && mirror->day == day) {
        return 0;
    }
    close_file(mirror);
    file_name(mirror->name, day);
    mirror->day = day;
    mirror->fd =
        openat(mirror->dir_fd, mirror->name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    mirror->is_new = true;
    return mirror->fd < 0 ? failed("open", mirror->name, err) : 0;
}

/* The length that the database knows; where it knows none, what the file has now. */
static int stored_length(struct runs_mirror *mirror, uint64_t size, uint64_t *length,
                         struct err *err)
{
    char key[KEY_ROOM];
    char text[32];
    meta_key(key, mirror->name);
    int r = runs_meta_get(mirror->db, key, text, sizeof text, err);
    if (r == 1) {
        return runs_meta_get_u64(mirror->db, key, length, err);
    }
    *length = size;
    return r < 0 ? r : runs_meta_put_u64(mirror->db, key, size, err);
}

int runs_mirror_begin(struct runs_mirror *mirror, int64_t day, struct err *err)
{
    struct stat is;
    uint64_t length = 0;
    mirror->is_begun = false;
    if (mirror->fd >= 0 && (fstat(mirror->fd, &is) < 0 || is.st_nlink == 0)) {
        close_file(mirror); /* rotated away */
    }
    int r = open_file(mirror, day, err);
    if (r < 0) {
        return r;
    }
    if (fstat(mirror->fd, &is) < 0) {
        return failed("look at", mirror->name, err);
    }
    uint64_t size = (uint64_t)is.st_size;
    r = stored_length(mirror, size, &length, err);
    if (r == 0 && mirror->is_dirty && size > length) {
        r = ftruncate(mirror->fd, (off_t)length) < 0 ? failed("cut", mirror->name, err) : 0;
        size = length;
    }
    mirror->is_dirty = mirror->is_dirty && r < 0;
    mirror->base = size; /* beyond length: somebody else's lines, which stay */
    mirror->written = 0;
    mirror->is_begun = r == 0;
    buf_reset(&mirror->buffer);
    return r;
}

/* Each turn writes something, or fails. */
static int flush(struct runs_mirror *mirror, struct err *err)
{
    size_t at = 0;
    while (at < mirror->buffer.bytes) {
        ssize_t n = pwrite(mirror->fd, mirror->buffer.data + at, mirror->buffer.bytes - at,
                           (off_t)(mirror->base + mirror->written));
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return failed("write", mirror->name, err);
        }
        at += (size_t)n;
        mirror->written += (size_t)n;
    }
    buf_reset(&mirror->buffer);
    return 0;
}

/* JSON as sent; raw line breaks can only lie between tokens. */
static int put_body(struct runs_mirror *mirror, struct slice body, struct err *err)
{
    size_t at = 0;
    int r = 0;
    while (at < body.bytes && r == 0) { /* bound: a buffer's worth each turn */
        struct buf *buffer = &mirror->buffer;
        size_t room = buffer->capacity - buffer->bytes;
        size_t n = body.bytes - at < room ? body.bytes - at : room;
        uint8_t *to = buffer->data + buffer->bytes;
        buf_put(buffer, body.data + at, n);
        for (size_t i = 0; i < n; i++) {
            to[i] = to[i] == '\n' || to[i] == '\r' ? ' ' : to[i];
        }
        at += n;
        r = at < body.bytes ? flush(mirror, err) : 0;
    }
    return r;
}

static void put_head(struct buf *buffer, const struct runs_mirror_line *line)
{
    char time[CLOCK_RFC3339_BYTES + 1];
    time[clock_rfc3339(time, line->time_ns, 6)] = 0;
    buf_printf(buffer, "{\"command\":\"%s\",\"event_id\":", line->command);
    buf_put_json_string(buffer, line->event_id);
    buf_printf(buffer, ",\"lsn\":%" PRIu64 ",\"time\":\"%s\",\"body\":", line->lsn, time);
}

int runs_mirror_put(struct runs_mirror *mirror, const struct runs_mirror_line *line,
                    struct err *err)
{
    struct buf *buffer = &mirror->buffer;
    int r = buffer->capacity - buffer->bytes < HEAD_BYTES ? flush(mirror, err) : 0;
    if (r == 0 && line->command != NULL) {
        put_head(buffer, line);
    }
    r = r == 0 ? put_body(mirror, line->body, err) : r;
    r = r == 0 && buffer->capacity - buffer->bytes < 2 ? flush(mirror, err) : r;
    if (r == 0) {
        buf_put_text(buffer, line->command != NULL ? "}\n" : "\n");
        ASSERT(!buffer->is_truncated);
    }
    return r;
}

int runs_mirror_sync(struct runs_mirror *mirror, struct err *err)
{
    char key[KEY_ROOM];
    int r = flush(mirror, err);
    if (r == 0 && mirror->written > 0) {
        r = fdatasync(mirror->fd) < 0 ? failed("sync", mirror->name, err) : 0;
    }
    if (r == 0 && mirror->is_new) {
        r = fsync(mirror->dir_fd) < 0 ? failed("sync the directory of", mirror->name, err) : 0;
        mirror->is_new = r < 0;
    }
    meta_key(key, mirror->name);
    return r == 0 ? runs_meta_put_u64(mirror->db, key, mirror->base + mirror->written, err) : r;
}

void runs_mirror_keep(struct runs_mirror *mirror)
{
    mirror->base += mirror->written;
    mirror->written = 0;
    mirror->is_begun = false;
}

void runs_mirror_doubt(struct runs_mirror *mirror)
{
    mirror->is_dirty = true;
}

void runs_mirror_undo(struct runs_mirror *mirror)
{
    buf_reset(&mirror->buffer);
    mirror->written = 0;
    bool must_cut = mirror->is_begun && !mirror->is_dirty;
    mirror->is_begun = false;
    if (must_cut && ftruncate(mirror->fd, (off_t)mirror->base) < 0) {
        mirror->is_dirty = true;
        LOG(LOGLINE_WARNING, "runs_mirror", "cut %s: %s; tried again", mirror->name,
            err_name(-errno));
    }
}
