/*
 * backup_restore: the way back; see backup.h. Copies, never links: the newest file of the log will be
 * written to, and the backup must stay what it is.
 */
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "store/backup_files.h"
#include "store/lineage.h"
#include "store/segment.h"

static int take_back(struct backup_copy *copy, const char *from, const char *data_dir,
                     const struct backup_entry *entry, struct err *err)
{
    char source[BACKUP_PATH_MAX];
    char target[BACKUP_PATH_MAX];
    uint8_t digest[DIGEST_BYTES];
    uint64_t bytes = 0;
    int r = backup_path(source, from, entry->name, err);
    r = r == 0 ? backup_path(target, data_dir, entry->name, err) : r;
    r = r == 0 ? backup_copy_file(copy, source, target, digest, &bytes, err) : r;
    if (r < 0) {
        return r;
    }
    if (bytes != entry->bytes || memcmp(digest, entry->digest, sizeof digest) != 0) {
        return err_set(err, ERR_CORRUPT,
                       "%s: the backup is damaged: the file does not have the digest of the "
                       "manifest (%" PRIu64 " bytes, expected %" PRIu64 ")",
                       source, bytes, entry->bytes);
    }
    copy->report->files++;
    copy->report->bytes += bytes;
    return 0;
}

/* Every line, in order. data_dir NULL: nothing is copied yet, the lines are judged and their bytes counted. */
static int walk_manifest(FILE *manifest, struct backup_copy *copy, const char *from,
                         const char *data_dir, struct err *err)
{
    char line[2 * BACKUP_NAME_MAX];
    struct backup_entry entry;
    uint64_t entries = 0;
    uint64_t promised = 0;
    bool has_end = false;
    rewind(manifest);
    if (fgets(line, sizeof line, manifest) == NULL || strcmp(line, "sluice-backup 1\n") != 0) {
        return err_set(err, ERR_VERSION, "%s/%s: not a backup this Sluice can read", from,
                       BACKUP_MANIFEST);
    }
    while (!has_end && fgets(line, sizeof line, manifest) != NULL) { /* bound: the file */
        if (backup_entry_parse(&entry, line)) {
            entries++;
            copy->all_bytes += data_dir == NULL ? entry.bytes : 0;
            int r = data_dir == NULL ? 0 : take_back(copy, from, data_dir, &entry, err);
            if (r < 0) {
                return r;
            }
        } else if (sscanf(line, "end %" SCNu64, &promised) == 1) {
            has_end = true;
        } else if (strncmp(line, "node ", 5) != 0 && strncmp(line, "taken_at ", 9) != 0) {
            return err_set(err, ERR_CORRUPT, "%s/%s: this line is none of a manifest: %.60s", from,
                           BACKUP_MANIFEST, line);
        }
    }
    if (!has_end || promised != entries) {
        return err_set(err, ERR_CORRUPT, "%s/%s: cut short", from, BACKUP_MANIFEST);
    }
    return 0;
}

/* "DIR/" and "DIR//" are DIR: what stands beside it must not come to stand in it. */
static int staging_path(char *staging, const char *data_dir, struct err *err)
{
    size_t bytes = strlen(data_dir);
    while (bytes > 1 && data_dir[bytes - 1] == '/') {
        bytes--;
    }
    if (bytes == 0 || bytes >= BACKUP_PATH_MAX) {
        return err_set(err, -EINVAL, "'%s' is no name for a directory", data_dir);
    }
    int n = snprintf(staging, BACKUP_PATH_MAX, "%.*s.restoring", (int)bytes, data_dir);
    return n > 0 && (size_t)n < BACKUP_PATH_MAX
               ? 0
               : err_set(err, -ENAMETOOLONG, "%s: too long", data_dir);
}

/* There before the directory has its name: no server ever starts on a restored log that does not know that it is one. */
static int mark_restored(const char *staging, struct err *err)
{
    static const char text[] =
        "restored; the next start begins another stream and removes this file\n";
    char path[BACKUP_PATH_MAX];
    int r = backup_path(path, staging, LINEAGE_MARKER, err);
    if (r < 0) {
        return r;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    bool is_good =
        fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1 && fsync(fd) == 0;
    r = is_good ? 0 : errno == 0 ? -EIO : -errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return r == 0 ? 0 : err_set(err, r, "write %s: %s", path, err_name(r));
}

static int fill_staging(FILE *manifest, struct backup_copy *copy, const char *from,
                        const char *staging, struct err *err)
{
    char log[BACKUP_PATH_MAX];
    int r = walk_manifest(manifest, copy, from, staging, err);
    r = r == 0 ? mark_restored(staging, err) : r;
    r = r == 0 ? backup_path(log, staging, SEGMENT_DIR, err) : r;
    r = r == 0 ? backup_sync_dir(log, err) : r;
    return r == 0 ? backup_sync_dir(staging, err) : r;
}

/* Under a name of its own until it is whole, so that no server ever starts on half of it. */
static int restore_staged(FILE *manifest, struct backup_copy *copy, const char *from,
                          const char *data_dir, struct err *err)
{
    char staging[BACKUP_PATH_MAX];
    int r = staging_path(staging, data_dir, err);
    if (r < 0) {
        return r;
    }
    if (backup_check_new(staging, err) < 0) {
        return err_set(err, -ENOTEMPTY,
                       "%s is there: another restore runs, or one was interrupted; then remove it",
                       staging);
    }
    r = backup_prepare_dir(staging, err);
    if (r < 0) {
        return r;
    }
    r = fill_staging(manifest, copy, from, staging, err);
    /* An empty directory is replaced by rename (rename(2)); anything else is refused. */
    if (r == 0 && rename(staging, data_dir) < 0) {
        int result = -errno;
        r = err_set(err, result, "rename %s to %s: %s: the directory must not exist or be empty",
                    staging, data_dir, err_name(result));
    }
    if (r < 0) {
        backup_remove_dir(staging);
        return r;
    }
    return backup_sync_parent(data_dir, err);
}

int backup_restore(const char *from, const char *data_dir, const struct backup_progress *progress,
                   struct backup_report *report, struct err *err)
{
    char path[BACKUP_PATH_MAX];
    struct backup_copy copy;
    int r = backup_path(path, from, BACKUP_MANIFEST, err);
    if (r < 0) {
        return r;
    }
    FILE *manifest = fopen(path, "re");
    if (manifest == NULL) {
        int result = -errno;
        return err_set(err, result, "%s: %s: not a backup, or one that was not finished", path,
                       err_name(result));
    }
    backup_copy_open(&copy, progress, report);
    r = walk_manifest(manifest, &copy, from, NULL, err);
    r = r == 0 ? backup_check_new(data_dir, err) : r;
    r = r == 0 ? restore_staged(manifest, &copy, from, data_dir, err) : r;
    backup_copy_close(&copy);
    (void)fclose(manifest);
    return r;
}
