/*
 * err: text for failures, on cold paths only. Pure: writes nothing but the caller's struct err.
 * Cannot fail; a text that does not fit is cut at its end, so that the outermost context always
 * stays.
 */
#include "core/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"

/* Formats into a scratch first, because callers pass err->text itself as an argument. */
static void err_store(struct err *err, int code, const char *text)
{
    size_t length = strnlen(text, ERR_TEXT_BYTES - 1);
    memcpy(err->text, text, length);
    err->text[length] = '\0';
    err->code = code;
}

int err_set(struct err *err, int code, const char *format, ...)
{
    ASSERT(code < 0);
    ASSERT(format != NULL);
    if (err == NULL) {
        return code;
    }
    char scratch[ERR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(scratch, sizeof(scratch), format, arguments);
    va_end(arguments);
    err_store(err, code, length < 0 ? err_name(code) : scratch);
    return code;
}

int err_wrap(struct err *err, int code, const char *format, ...)
{
    ASSERT(code < 0);
    ASSERT(format != NULL);
    if (err == NULL) {
        return code;
    }
    char scratch[ERR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(scratch, sizeof(scratch), format, arguments);
    va_end(arguments);
    if (length < 0) {
        scratch[0] = '\0';
        length = 0;
    }
    /* A callee that failed with a bare code still gets a reason behind the context. */
    bool is_set = err->code < 0;
    int code_kept = is_set ? err->code : code;
    size_t used = u64_min((uint64_t)length, sizeof(scratch) - 1);
    struct buf whole;
    buf_init(&whole, scratch, sizeof(scratch) - 1);
    whole.bytes = used;
    buf_put(&whole, ": ", 2);
    buf_put_text(&whole, is_set ? err->text : err_name(code));
    scratch[whole.bytes] = '\0';
    err_store(err, code_kept, scratch);
    return code_kept;
}

struct err_row {
    int code;
    const char *name;
};

#define ERR_ROW(symbol, description)                                                               \
    {                                                                                              \
        -(symbol), description " (" #symbol ")"                                                    \
    }

/* The errnos that an ingest server meets, in words for the person who reads the log; the rest by
 * their symbol. */
static const struct err_row err_rows[] = {
    {ERR_CORRUPT, "data is damaged (ERR_CORRUPT)"},
    {ERR_TORN, "torn end of a log (ERR_TORN)"},
    {ERR_LIMIT, "over a configured limit (ERR_LIMIT)"},
    {ERR_VERSION, "written by a newer version (ERR_VERSION)"},
    {ERR_SYNTAX, "syntax error (ERR_SYNTAX)"},
    {ERR_UNSUPPORTED, "not supported (ERR_UNSUPPORTED)"},
    ERR_ROW(EPERM, "operation not permitted"),
    ERR_ROW(ENOENT, "no such file or directory"),
    ERR_ROW(EINTR, "interrupted"),
    ERR_ROW(EIO, "input/output error"),
    ERR_ROW(ENXIO, "no such device or address"),
    ERR_ROW(EBADF, "bad file descriptor"),
    ERR_ROW(EAGAIN, "try again"),
    ERR_ROW(ENOMEM, "out of memory"),
    ERR_ROW(EACCES, "permission denied"),
    ERR_ROW(EFAULT, "bad address"),
    ERR_ROW(EBUSY, "device or resource busy"),
    ERR_ROW(EEXIST, "file exists"),
    ERR_ROW(EXDEV, "across file systems"),
    ERR_ROW(ENODEV, "no such device"),
    ERR_ROW(ENOTDIR, "not a directory"),
    ERR_ROW(EISDIR, "is a directory"),
    ERR_ROW(EINVAL, "invalid argument"),
    ERR_ROW(ENFILE, "too many open files in the system"),
    ERR_ROW(EMFILE, "too many open files"),
    ERR_ROW(EFBIG, "file too large"),
    ERR_ROW(ENOSPC, "no space left on device"),
    ERR_ROW(EROFS, "read-only file system"),
    ERR_ROW(EPIPE, "broken pipe"),
    ERR_ROW(ERANGE, "out of range"),
    ERR_ROW(ENAMETOOLONG, "name too long"),
    ERR_ROW(ENOSYS, "not implemented by this kernel"),
    ERR_ROW(ENOTEMPTY, "directory not empty"),
    ERR_ROW(ENODATA, "no data"),
    ERR_ROW(EOVERFLOW, "value too large"),
    ERR_ROW(ENOTSOCK, "not a socket"),
    ERR_ROW(EOPNOTSUPP, "operation not supported"),
    ERR_ROW(EADDRINUSE, "address in use"),
    ERR_ROW(EADDRNOTAVAIL, "address not available"),
    ERR_ROW(ENETUNREACH, "network unreachable"),
    ERR_ROW(ECONNABORTED, "connection aborted"),
    ERR_ROW(ECONNRESET, "connection reset by peer"),
    ERR_ROW(ENOBUFS, "no buffer space"),
    ERR_ROW(ENOTCONN, "not connected"),
    ERR_ROW(ETIMEDOUT, "timed out"),
    ERR_ROW(ETIME, "timer expired"),
    ERR_ROW(ECONNREFUSED, "connection refused"),
    ERR_ROW(EHOSTUNREACH, "host unreachable"),
    ERR_ROW(ECANCELED, "cancelled"),
    ERR_ROW(EDQUOT, "disk quota exceeded"),
    ERR_ROW(EBADMSG, "bad message"),
    ERR_ROW(EILSEQ, "invalid byte sequence"),
};

const char *err_name(int code)
{
    /* A raw errno is as good as its negative. */
    int negative = code > 0 ? -code : code;
    if (negative == 0) {
        return "success";
    }
    for (size_t i = 0; i < ARRAY_COUNT(err_rows); i++) {
        if (err_rows[i].code == negative) {
            return err_rows[i].name;
        }
    }
    const char *symbol = negative > ERR_CORRUPT ? strerrorname_np(-negative) : NULL;
    return symbol != NULL ? symbol : "unknown error";
}
