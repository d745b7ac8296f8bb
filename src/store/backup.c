/*
 * backup: taking one; see backup.h. backup_restore.c is the way back.
 */
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/mem.h"
#include "store/backup_files.h"
#include "store/catalog.h"
#include "store/lineage.h"
#include "store/node.h"
#include "store/origins.h"
#include "store/segment.h"
#include "store/view_load.h"
#include "store/walk_file.h"

struct backup {
    const char *data_dir;
    const char *runs_db; /* NULL: in data_dir */
    const char *to;
    struct backup_copy copy;
    struct file_io *io;
    FILE *manifest;
};

static int add_entry(struct backup *backup, struct backup_entry *entry, const char *name,
                     struct err *err)
{
    (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    backup_entry_print(backup->manifest, entry);
    backup->copy.report->files++;
    backup->copy.report->bytes += entry->bytes;
    return ferror(backup->manifest) ? err_set(err, -EIO, "write " BACKUP_MANIFEST) : 0;
}

static void leave_out(void *context, const char *line)
{
    struct backup *backup = context;
    const struct backup_progress *progress = backup->copy.progress;
    backup->copy.report->left_out++;
    if (progress != NULL && progress->on_problem != NULL) {
        progress->on_problem(progress->context, line);
    }
}

/* A small file that is only ever replaced whole. Not there, or removed meanwhile: nothing to do. */
static int take_file(struct backup *backup, const char *name, struct err *err)
{
    char from[BACKUP_PATH_MAX];
    char to[BACKUP_PATH_MAX];
    struct backup_entry entry;
    int r = backup_path(from, backup->data_dir, name, err);
    r = r == 0 ? backup_path(to, backup->to, name, err) : r;
    if (r < 0 || access(from, F_OK) != 0) {
        return r;
    }
    r = backup_copy_file(&backup->copy, from, to, entry.digest, &entry.bytes, err);
    if (r == -ENOENT && access(from, F_OK) != 0) {
        return 0;
    }
    return r == 0 ? add_entry(backup, &entry, name, err) : r;
}

/* Under the name that it has in a data directory. */
static int take_database(struct backup *backup, const char *from, const char *name, struct err *err)
{
    char to[BACKUP_PATH_MAX];
    struct backup_entry entry;
    int r = backup_path(to, backup->to, name, err);
    r = r == 0 ? sqlite_backup_file(from, to, err) : r;
    r = r == 0 ? backup_digest_file(&backup->copy, to, entry.digest, &entry.bytes, err) : r;
    return r == 0 ? add_entry(backup, &entry, name, err) : r;
}

/* Not there: nothing to do. */
static int take_own_database(struct backup *backup, const char *name, struct err *err)
{
    char from[BACKUP_PATH_MAX];
    int r = backup_path(from, backup->data_dir, name, err);
    return r < 0 || access(from, F_OK) != 0 ? r : take_database(backup, from, name, err);
}

/* The catalog is a view of the log, which the next start makes again: damaged, it is not worth a backup. */
static int take_catalog(struct backup *backup, struct err *err)
{
    int r = take_own_database(backup, CATALOG_FILE, err);
    if (r == ERR_CORRUPT) {
        leave_out(backup, err->text);
        return 0;
    }
    return r;
}

/* It may hold what the log does not (any more): a backup without it would look like one. */
static int take_runs(struct backup *backup, struct err *err)
{
    const char *elsewhere = backup->runs_db;
    return elsewhere == NULL ? take_own_database(backup, BACKUP_RUNS, err)
                             : take_database(backup, elsewhere, BACKUP_RUNS, err);
}

/* A finished file. never_changes: a link costs nothing and is as good as a copy. -ENOENT: it has become
 * something else meanwhile. */
static int take_sealed(struct backup *backup, const char *name, bool never_changes, struct err *err)
{
    char from[BACKUP_PATH_MAX];
    char to[BACKUP_PATH_MAX];
    struct backup_entry entry;
    int r = backup_path(from, backup->data_dir, name, err);
    r = r == 0 ? backup_path(to, backup->to, name, err) : r;
    if (r < 0) {
        return r;
    }
    if (never_changes && link(from, to) == 0) {
        backup->copy.report->linked++;
        r = backup_digest_file(&backup->copy, to, entry.digest, &entry.bytes, err);
    } else {
        r = backup_copy_file(&backup->copy, from, to, entry.digest, &entry.bytes, err);
    }
    return r == 0 ? add_entry(backup, &entry, name, err) : r;
}

static int write_at(int fd, struct slice bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes.bytes;) {
        ssize_t n = pwrite(fd, bytes.data + done, bytes.bytes - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* The header block and each valid batch at its place, up to the first that is not there (yet): what comes
 * behind a hole would make the hole look like damage. Returns the number of batches. */
static int64_t copy_batches(struct backup *backup, struct walk_file *walk, int fd, struct err *err)
{
    uint8_t block[STORE_BLOCK_BYTES];
    int64_t batches = 0;
    segment_header_encode(block, &walk->header);
    int r = write_at(fd, (struct slice){block, sizeof block}, 0);
    for (uint64_t place = WALK_FILE_BEGIN; r == 0 && place < walk->end;) { /* bound: the file */
        struct walk_batch batch;
        int found = walk_file_batch(walk, place, &batch, err);
        if (found < 0) {
            return found;
        }
        if (found == 0) {
            break;
        }
        r = write_at(fd, batch.bytes, place);
        place += walk_file_stride(walk, &batch.header);
        backup_copied(&backup->copy, batch.bytes.bytes);
        batches++;
    }
    if (r == 0 && ftruncate(fd, (off_t)walk->header.file_bytes) == 0 && fsync(fd) == 0) {
        return batches;
    }
    int result = -errno;
    return err_set(err, result, "copy %s: %s", walk->name, err_name(result));
}

static int take_active_to(struct backup *backup, struct walk_file *walk, const char *name,
                          struct err *err)
{
    char to[BACKUP_PATH_MAX];
    struct backup_entry entry;
    int r = backup_path(to, backup->to, name, err);
    if (r < 0) {
        return r;
    }
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        int result = -errno;
        return err_set(err, result, "make %s: %s", to, err_name(result));
    }
    int64_t batches = copy_batches(backup, walk, fd, err);
    close(fd);
    if (batches <= 0) { /* prepared, not begun: the next start makes its own */
        (void)unlink(to);
        return (int)batches;
    }
    r = backup_digest_file(&backup->copy, to, entry.digest, &entry.bytes, err);
    return r == 0 ? add_entry(backup, &entry, name, err) : r;
}

static int take_active(struct backup *backup, uint64_t id, const char *name, struct err *err)
{
    struct walk_file walk = {.is_open = false};
    int r = walk_file_open(&walk, backup->io, id, SEGMENT_FORM_RAW, err);
    if (r == 0) {
        r = take_active_to(backup, &walk, name, err);
    }
    walk_file_end(&walk);
    return r;
}

/* Raw and gone: it was compacted since the view was made. Gone in both forms: it expired. */
static int take_segment(struct backup *backup, const struct view_segment *segment, struct err *err)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(name, segment->id);
    int r = -ENOENT;
    if (segment->state == VIEW_ACTIVE) {
        r = take_active(backup, segment->id, name, err);
    } else if (segment->state == VIEW_SEALED) {
        r = take_sealed(backup, name, false, err);
    }
    if (r == -ENOENT) {
        compacted_name(name, segment->id);
        r = take_sealed(backup, name, true, err);
    }
    return r == -ENOENT ? 0 : r;
}

static int take_log(struct backup *backup, struct log_views *views, struct err *err)
{
    int r = log_views_load(views, backup->io, leave_out, backup, err);
    if (r < 0) {
        return r;
    }
    struct log_view *view = log_view_take(views);
    for (size_t i = 0; i < view->count; i++) {
        backup->copy.all_bytes += view->segments[i]->stored_bytes;
    }
    for (size_t i = view->count; r == 0 && i > 0; i--) { /* newest first: see backup.h */
        r = take_segment(backup, view->segments[i - 1], err);
    }
    log_view_give(views, view);
    return r;
}

static int take_all(struct backup *backup, struct err *err)
{
    struct log_views *views = NULL;
    int r = take_file(backup, NODE_FILE, err);
    r = r == 0 ? take_catalog(backup, err) : r;
    r = r == 0 ? take_runs(backup, err) : r;
    r = r == 0 ? take_file(backup, ORIGINS_FILE, err) : r;
    r = r == 0 ? log_views_open(&views, backup->io, err) : r;
    if (r < 0) {
        return r;
    }
    r = take_log(backup, views, err);
    log_views_close(views);
    /* After the log: an entry is there before any record that it speaks of. */
    return r == 0 ? take_file(backup, LINEAGE_FILE, err) : r;
}

/* Everything, under the manifest that names it; that one appears when the files are there to stay. */
static int write_manifest(struct backup *backup, struct ulid node, struct err *err)
{
    char temporary[BACKUP_PATH_MAX];
    char final[BACKUP_PATH_MAX];
    char log[BACKUP_PATH_MAX];
    char time[CLOCK_RFC3339_BYTES];
    int r = backup_path(temporary, backup->to, BACKUP_MANIFEST ".tmp", err);
    r = r == 0 ? backup_path(final, backup->to, BACKUP_MANIFEST, err) : r;
    r = r == 0 ? backup_path(log, backup->to, SEGMENT_DIR, err) : r;
    if (r < 0) {
        return r;
    }
    backup->manifest = fopen(temporary, "wxe");
    if (backup->manifest == NULL) {
        int result = -errno;
        return err_set(err, result, "make %s: %s", temporary, err_name(result));
    }
    char node_text[ULID_TEXT_BYTES];
    ulid_format(node_text, &node);
    size_t time_bytes = clock_rfc3339(time, clock_real_ns(), 3);
    fprintf(backup->manifest, "sluice-backup 1\nnode %.26s\ntaken_at %.*s\n", node_text,
            (int)time_bytes, time);
    r = take_all(backup, err);
    fprintf(backup->manifest, "end %" PRIu64 "\n", backup->copy.report->files);
    bool is_good = fflush(backup->manifest) == 0 && fsync(fileno(backup->manifest)) == 0;
    int flush_error = is_good ? 0 : -errno;
    if (fclose(backup->manifest) != 0 && is_good) {
        flush_error = -errno;
    }
    if (r == 0 && flush_error != 0) {
        r = err_set(err, flush_error, "write %s: %s", temporary, err_name(flush_error));
    }
    r = r == 0 ? backup_sync_dir(log, err) : r;
    r = r == 0 ? backup_sync_dir(backup->to, err) : r;
    if (r == 0 && rename(temporary, final) < 0) {
        int result = -errno;
        r = err_set(err, result, "rename %s to %s: %s", temporary, final, err_name(result));
    }
    if (r < 0) {
        (void)unlink(temporary);
    }
    return r;
}

int backup_make(const struct backup_source *source, const char *to,
                const struct backup_progress *progress, struct backup_report *report,
                struct err *err)
{
    struct backup backup = {.data_dir = source->data_dir, .runs_db = source->runs_db, .to = to};
    struct ulid node;
    int r = file_io_real_open_existing(&backup.io, source->data_dir, err);
    if (r < 0) {
        return r;
    }
    backup_copy_open(&backup.copy, progress, report);
    r = node_read(&node, backup.io, err); /* first: what is no data directory leaves no trace */
    r = r == 0 ? backup_prepare_dir(to, err) : r;
    r = r == 0 ? write_manifest(&backup, node, err) : r;
    r = r == 0 ? backup_sync_dir(to, err) : r;
    r = r == 0 ? backup_sync_parent(to, err) : r;
    backup_copy_close(&backup.copy);
    backup.io->ops->destroy(backup.io);
    return r;
}
