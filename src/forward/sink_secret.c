/*
 * sink_secret: small files, read whole, judged before anything of them is used.
 */
#include "forward/sink_secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX 16384
#define LINES_MAX      3

/* Opened and judged: a descriptor, or negative with a text. */
static int open_checked(const struct config_sink *sink, const char *path, bool is_secret,
                        struct err *err)
{
    struct stat status;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int error = errno;
        return err_set(err, -error, "sink %s: %s: %s", sink->name, path, err_name(-error));
    }
    const char *why = NULL;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        why = "is not a regular file";
    } else if (is_secret && (status.st_mode & 077) != 0) {
        why = "is open to others: chmod 600";
    }
    if (why != NULL) {
        (void)close(fd);
        return err_set(err, -EACCES, "sink %s: %s %s", sink->name, path, why);
    }
    return fd;
}

static int check_readable(const struct config_sink *sink, const char *path, bool is_secret,
                          struct err *err)
{
    int fd = path[0] != '\0' ? open_checked(sink, path, is_secret, err) : -EBADF;
    if (fd < 0) {
        return fd == -EBADF ? 0 : fd;
    }
    (void)close(fd);
    return 0;
}

static ssize_t read_whole(int fd, char *out, size_t bytes_max)
{
    size_t bytes = 0;
    while (bytes < bytes_max) { /* each step reads something or ends */
        const ssize_t got = read(fd, out + bytes, bytes_max - bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? -errno : (ssize_t)bytes;
        }
        bytes += (size_t)got;
    }
    return -EFBIG;
}

/* A line without the blanks at its ends. False: too long, or with bytes that a header may not have. */
static bool take_line(const char *line, size_t bytes, char *out)
{
    while (bytes > 0 &&
           (line[bytes - 1] == ' ' || line[bytes - 1] == '\t' || line[bytes - 1] == '\r')) {
        bytes--;
    }
    while (bytes > 0 && (line[0] == ' ' || line[0] == '\t')) {
        line++;
        bytes--;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (line[i] < ' ' || line[i] > '~') {
            return false;
        }
    }
    if (bytes >= SINK_SECRET_BYTES) {
        return false;
    }
    memcpy(out, line, bytes);
    out[bytes] = '\0';
    return true;
}

/* The first lines of text into lines[0..count); false: one is no secret. What is not there stays "". */
static bool take_lines(const char *text, size_t bytes, char *const *lines, unsigned count)
{
    size_t at = 0;
    for (unsigned i = 0; i < count && at < bytes; i++) {
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t line_bytes = end != NULL ? (size_t)(end - (text + at)) : bytes - at;
        if (!take_line(text + at, line_bytes, lines[i])) {
            return false;
        }
        at += line_bytes + 1;
    }
    return true;
}

/* needed: so many lines must have something in them. */
static int read_lines(const struct config_sink *sink, const char *path, char *const *lines,
                      unsigned count, unsigned needed, struct err *err)
{
    char text[FILE_BYTES_MAX];
    ASSERT(count <= LINES_MAX && needed <= count);
    if (path[0] == '\0') {
        return 0;
    }
    const int fd = open_checked(sink, path, true, err);
    if (fd < 0) {
        return fd;
    }
    const ssize_t bytes = read_whole(fd, text, sizeof text);
    (void)close(fd);
    bool is_good = bytes >= 0 && take_lines(text, (size_t)bytes, lines, count);
    for (unsigned i = 0; i < needed; i++) {
        is_good = is_good && lines[i][0] != '\0';
    }
    explicit_bzero(text, sizeof text);
    return is_good ? 0
                   : err_set(err, bytes < 0 ? (int)bytes : ERR_SYNTAX,
                             "sink %s: %s does not hold %u line%s of printable text", sink->name,
                             path, needed, needed == 1 ? "" : "s");
}

static bool take_variable(const char *name, char *out)
{
    const char *value = getenv(name);
    return value != NULL && take_line(value, strlen(value), out) && out[0] != '\0';
}

static int read_aws(struct sink_secret *secret, const struct config_sink *sink, struct err *err)
{
    char *const lines[LINES_MAX] = {secret->aws_id, secret->aws_secret, secret->aws_token};
    if (sink->aws_region[0] == '\0') {
        return 0;
    }
    if (sink->aws_credentials_file[0] != '\0') {
        return read_lines(sink, sink->aws_credentials_file, lines, LINES_MAX, 2, err);
    }
    if (!take_variable("AWS_ACCESS_KEY_ID", secret->aws_id) ||
        !take_variable("AWS_SECRET_ACCESS_KEY", secret->aws_secret)) {
        return err_set(err, -ENOENT,
                       "sink %s: aws_region is set, but neither aws_credentials_file nor "
                       "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                       sink->name);
    }
    (void)take_variable("AWS_SESSION_TOKEN", secret->aws_token);
    return 0;
}

int sink_secret_read(struct sink_secret *secret, const struct config_sink *sink, struct err *err)
{
    *secret = (struct sink_secret){0};
    const struct {
        const char *path;
        char *out;
    } files[] = {
        {sink->bearer_file, secret->bearer},
        {sink->api_key_file, secret->api_key},
        {sink->password_file, secret->password},
    };
    int result = 0;
    for (size_t i = 0; i < ARRAY_COUNT(files) && result == 0; i++) {
        result = read_lines(sink, files[i].path, &files[i].out, 1, 1, err);
    }
    result = result == 0 ? read_aws(secret, sink, err) : result;
    result = result == 0 ? check_readable(sink, sink->ca_file, false, err) : result;
    result = result == 0 ? check_readable(sink, sink->cert_file, false, err) : result;
    return result == 0 ? check_readable(sink, sink->key_file, true, err) : result;
}

void sink_secret_wipe(struct sink_secret *secret)
{
    explicit_bzero(secret, sizeof *secret);
}
