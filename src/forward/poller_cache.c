#include "forward/poller_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/crc32c.h"

#define LINE_BYTES  (CONFIG_SINK_NAME_MAX + 48 + 2 * WATERMARK_MARK_MAX)
#define CACHE_BYTES (64 + CONFIG_POLLERS_MAX * LINE_BYTES + 32)
#define MARK_FORMAT "sluice poller cache 1 "

static int path_of(char path[PATH_MAX], const char *data_dir, const char *suffix)
{
    int n = snprintf(path, PATH_MAX, "%s/" POLLER_CACHE_FILE "%s", data_dir, suffix);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* ---- reading ---- */

static int64_t load(const char *data_dir, char *text, size_t room)
{
    char path[PATH_MAX];
    if (path_of(path, data_dir, "") < 0) {
        return -ENOENT;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -ENOENT;
    }
    ssize_t bytes = pread(fd, text, room - 1, 0);
    close(fd);
    text[bytes < 0 ? 0 : bytes] = 0;
    return bytes < 0 ? -EINVAL : bytes;
}

/* The last line vouches for all before. */
static bool is_whole(const char *text, size_t bytes)
{
    unsigned crc = 0;
    const char *end = memmem(text, bytes, "\nend ", 5);
    if (end == NULL || sscanf(end + 5, "%8x", &crc) != 1) {
        return false;
    }
    return crc == crc32c(0, text, (size_t)(end + 1 - text));
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c == 0 ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool read_hex(struct poller_mark *mark, const char *hex)
{
    size_t bytes = strspn(hex, "0123456789abcdef") / 2;
    mark->bytes = 0;
    if (hex[0] == '-') {
        return true;
    }
    if (bytes > sizeof mark->data) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        mark->data[i] = (uint8_t)(hex_digit(hex[2 * i]) * 16 + hex_digit(hex[2 * i + 1]));
    }
    mark->bytes = bytes;
    return bytes > 0;
}

static void read_line(const char *line, struct poller_place *places, unsigned count)
{
    char name[CONFIG_SINK_NAME_MAX + 1];
    uint64_t as_of = 0;
    uint64_t at = 0;
    int hex = 0;
    if (sscanf(line, "%32s %" SCNu64 " %" SCNu64 " %n", name, &as_of, &at, &hex) < 3 || hex == 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        struct poller_mark mark;
        if (strcmp(places[i].name, name) == 0 && read_hex(&mark, line + hex)) {
            places[i].as_of_lsn = as_of;
            places[i].mark_lsn = at;
            places[i].mark = mark;
        }
    }
}

int poller_cache_read(const char *data_dir, struct ulid node, struct poller_place *places,
                      unsigned count)
{
    static _Thread_local char text[CACHE_BYTES];
    char head[64] = MARK_FORMAT;
    int64_t bytes = load(data_dir, text, sizeof text);
    if (bytes < 0) {
        return (int)bytes;
    }
    ulid_format(head + strlen(MARK_FORMAT), &node);
    if (!is_whole(text, (size_t)bytes) || strncmp(text, head, strlen(head)) != 0) {
        return -EINVAL;
    }
    for (const char *line = strchr(text, '\n'); line != NULL; line = strchr(line + 1, '\n')) {
        read_line(line + 1, places,
                  count); /* also the line "end": no poller's, it has no numbers */
    }
    return 0;
}

/* ---- writing ---- */

static void put_place(struct buf *out, const struct poller_place *place)
{
    buf_printf(out, "%s %" PRIu64 " %" PRIu64 " ", place->name, place->as_of_lsn, place->mark_lsn);
    for (size_t i = 0; i < place->mark.bytes; i++) {
        buf_printf(out, "%02x", place->mark.data[i]);
    }
    buf_put_text(out, place->mark.bytes == 0 ? "-\n" : "\n");
}

static int write_synced(const char *path, const struct buf *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) {
        return -errno;
    }
    ssize_t n = write(fd, text->data, text->bytes);
    int r = n < 0 ? -errno : (size_t)n != text->bytes ? -ENOSPC : 0;
    if (r == 0 && fsync(fd) != 0) {
        r = -errno;
    }
    close(fd);
    return r;
}

static int sync_dir(const char *data_dir)
{
    int fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int r = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return r;
}

int poller_cache_write(const char *data_dir, struct ulid node, const struct poller_place *places,
                       unsigned count, struct err *err)
{
    static _Thread_local char text[CACHE_BYTES];
    char path[PATH_MAX];
    char beside[PATH_MAX];
    char name[ULID_TEXT_BYTES];
    struct buf out;
    ASSERT(count <= CONFIG_POLLERS_MAX);
    ulid_format(name, &node);
    buf_init(&out, text, sizeof text);
    buf_printf(&out, MARK_FORMAT "%.*s\n", ULID_TEXT_BYTES, name);
    for (unsigned i = 0; i < count; i++) {
        put_place(&out, &places[i]);
    }
    uint32_t crc = crc32c(0, out.data, out.bytes);
    buf_printf(&out, "end %08x\n", crc);
    ASSERT(!out.is_truncated);
    if (path_of(path, data_dir, "") < 0 || path_of(beside, data_dir, ".new") < 0) {
        return err_set(err, -ENAMETOOLONG, "%s", data_dir);
    }
    int r = write_synced(beside, &out);
    if (r == 0 && rename(beside, path) != 0) {
        r = -errno;
    }
    r = r == 0 ? sync_dir(data_dir) : r;
    return r < 0 ? err_set(err, r, "write %s: %s", path, err_name(r)) : 0;
}
