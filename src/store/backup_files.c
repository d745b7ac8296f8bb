#include "store/backup_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"

void backup_copy_open(struct backup_copy *copy, const struct backup_progress *progress,
                      struct backup_report *report)
{
    *copy = (struct backup_copy){.buffer = mem_alloc(BACKUP_COPY_BYTES),
                                 .digest = digest_new(),
                                 .progress = progress,
                                 .report = report};
    *report = (struct backup_report){0};
}

void backup_copy_close(struct backup_copy *copy)
{
    digest_free(copy->digest);
    mem_free(copy->buffer);
}

void backup_copied(struct backup_copy *copy, uint64_t bytes)
{
    copy->done_bytes += bytes;
    if (copy->progress != NULL && copy->progress->on_bytes != NULL) {
        copy->progress->on_bytes(copy->progress->context, copy->done_bytes,
                                 u64_max(copy->all_bytes, copy->done_bytes));
    }
}

static int fail(struct err *err, const char *doing, const char *path)
{
    int result = -errno;
    return err_set(err, result, "%s %s: %s", doing, path, err_name(result));
}

int backup_path(char *path, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(path, BACKUP_PATH_MAX, "%s/%s", dir, name);
    return n > 0 && (size_t)n < BACKUP_PATH_MAX
               ? 0
               : err_set(err, -ENAMETOOLONG, "%s/%s: too long", dir, name);
}

static bool is_empty_dir(const char *dir)
{
    DIR *stream = opendir(dir);
    bool is_empty = stream != NULL;
    if (stream == NULL) {
        return false;
    }
    for (struct dirent *entry; is_empty && (entry = readdir(stream)) != NULL;) {
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    }
    closedir(stream);
    return is_empty;
}

int backup_check_new(const char *dir, struct err *err)
{
    if (access(dir, F_OK) != 0 || is_empty_dir(dir)) {
        return 0;
    }
    return err_set(err, -ENOTEMPTY, "%s is not an empty directory: name a new one", dir);
}

int backup_prepare_dir(const char *dir, struct err *err)
{
    char path[BACKUP_PATH_MAX];
    int r = backup_check_new(dir, err);
    if (r < 0) {
        return r;
    }
    if (mkdir(dir, 0700) < 0 && errno != EEXIST) {
        return fail(err, "make", dir);
    }
    r = backup_path(path, dir, "log", err);
    return r < 0 ? r : mkdir(path, 0700) < 0 ? fail(err, "make", path) : 0;
}

int backup_sync_dir(const char *dir, struct err *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail(err, "open", dir);
    }
    int r = fsync(fd) < 0 ? fail(err, "sync", dir) : 0;
    close(fd);
    return r;
}

int backup_sync_parent(const char *dir, struct err *err)
{
    char parent[BACKUP_PATH_MAX];
    int n = snprintf(parent, sizeof parent, "%s", dir);
    if (n < 0 || (size_t)n >= sizeof parent) {
        return err_set(err, -ENAMETOOLONG, "%s: too long", dir);
    }
    return backup_sync_dir(dirname(parent), err);
}

/* Directories in it make the rmdir fail, which is as it should be. */
static void remove_flat_dir(const char *dir)
{
    char path[BACKUP_PATH_MAX];
    DIR *stream = opendir(dir);
    if (stream == NULL) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) { /* bound: the directory */
        if (backup_path(path, dir, entry->d_name, NULL) == 0) {
            (void)unlink(path);
        }
    }
    closedir(stream);
    (void)rmdir(dir);
}

void backup_remove_dir(const char *dir)
{
    char log[BACKUP_PATH_MAX];
    if (backup_path(log, dir, "log", NULL) == 0) {
        remove_flat_dir(log);
    }
    remove_flat_dir(dir);
}

static int write_all(int fd, const uint8_t *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, data + done, bytes - done);
        if (n < 0 && errno != EINTR) {
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* to < 0: only the digest. */
static int pump(struct backup_copy *copy, int from, int to, uint64_t *bytes)
{
    *bytes = 0;
    digest_reset(copy->digest);
    for (;;) {
        ssize_t n = read(from, copy->buffer, BACKUP_COPY_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return (int)n;
        }
        digest_add(copy->digest, (struct slice){copy->buffer, (size_t)n});
        if (to >= 0 && write_all(to, copy->buffer, (size_t)n) < 0) {
            return -1;
        }
        *bytes += (uint64_t)n;
        backup_copied(copy, (uint64_t)n);
    }
}

int backup_digest_file(struct backup_copy *copy, const char *path, uint8_t *digest, uint64_t *bytes,
                       struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(err, "open", path);
    }
    int r = pump(copy, fd, -1, bytes) < 0 ? fail(err, "read", path) : 0;
    digest_get(copy->digest, digest);
    close(fd);
    return r;
}

int backup_copy_file(struct backup_copy *copy, const char *from, const char *to, uint8_t *digest,
                     uint64_t *bytes, struct err *err)
{
    int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0) {
        return fail(err, "open", from);
    }
    int r = 0;
    int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (target < 0) {
        r = fail(err, "make", to);
    } else {
        r = pump(copy, source, target, bytes) < 0 ? fail(err, "copy to", to) : 0;
        r = r == 0 && fsync(target) < 0 ? fail(err, "sync", to) : r;
        if (close(target) < 0 && r == 0) {
            r = fail(err, "close", to);
        }
    }
    digest_get(copy->digest, digest);
    close(source);
    return r;
}

/* ---- the manifest's lines ---- */

void backup_entry_print(FILE *to, const struct backup_entry *entry)
{
    fputs("file ", to);
    for (unsigned i = 0; i < DIGEST_BYTES; i++) {
        fprintf(to, "%02x", entry->digest[i]);
    }
    fprintf(to, " %" PRIu64 " %s\n", entry->bytes, entry->name);
}

static bool is_safe_name(const char *name)
{
    unsigned slashes = 0;
    if (name[0] == 0 || name[0] == '.' || name[0] == '/') {
        return false;
    }
    for (const char *c = name; *c != 0; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        (*c >= '0' && *c <= '9') || *c == '.' || *c == '-' || *c == '_';
        slashes += *c == '/' ? 1 : 0;
        if ((!is_plain && *c != '/') || (*c == '/' && (c[1] == '.' || c[1] == 0)) || slashes > 1) {
            return false;
        }
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *parse_digest(uint8_t *digest, const char *text)
{
    for (unsigned i = 0; i < DIGEST_BYTES; i++) {
        int high = hex_value(text[0]);
        int low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0) {
            return NULL;
        }
        digest[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return text;
}

static const char *parse_bytes(uint64_t *bytes, const char *text)
{
    const char *begin = text;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(*bytes, 10u, bytes) ||
            __builtin_add_overflow(*bytes, (uint64_t)(*text - '0'), bytes)) {
            return NULL;
        }
    }
    return text > begin ? text : NULL;
}

bool backup_entry_parse(struct backup_entry *entry, const char *line)
{
    static const char word[] = "file ";
    *entry = (struct backup_entry){.bytes = 0};
    if (strncmp(line, word, sizeof word - 1) != 0) {
        return false;
    }
    const char *at = parse_digest(entry->digest, line + sizeof word - 1);
    at = at == NULL || *at != ' ' ? NULL : parse_bytes(&entry->bytes, at + 1);
    if (at == NULL || *at != ' ') {
        return false;
    }
    at++;
    size_t name_bytes = strcspn(at, "\n");
    if (name_bytes >= sizeof entry->name) {
        return false;
    }
    memcpy(entry->name, at, name_bytes);
    return is_safe_name(entry->name);
}
