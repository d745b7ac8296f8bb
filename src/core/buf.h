/*
 * buf: a bounded text builder over memory that somebody else owns. Writing past the end sets
 * is_truncated and keeps what fitted; nobody has to check each call. Used for answers, log lines,
 * metrics.
 */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include "core/base.h"

struct buf {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    bool is_truncated;
};

void buf_init(struct buf *buf, void *memory, size_t capacity);
void buf_reset(struct buf *buf);
void buf_put(struct buf *buf, const void *data, size_t bytes);
void buf_put_slice(struct buf *buf, struct slice slice);
void buf_put_text(struct buf *buf, const char *text);
void buf_put_char(struct buf *buf, char c);
void buf_put_u64(struct buf *buf, uint64_t value);
void buf_put_i64(struct buf *buf, int64_t value);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);

/* A JSON string with quotes: escapes '"', '\\' and controls, passes valid UTF-8 through, and turns
 * every byte that is not part of valid UTF-8 into U+FFFD, so that the result is always valid JSON.
 */
void buf_put_json_string(struct buf *buf, struct slice text);

/* Decimal digits of value at out (at least 20 bytes); returns their count. Pure, fast: on the
 * answer path. */
size_t u64_format(char *out, uint64_t value);

#endif
