/*
 * runs_read_put: answers, piece by piece: runs as JSON items of any size through the reader's small buffer. Private to runs_read.
 */
#include "store/runs_read_parts.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define TEXT_CHUNK 2048u /* of a text at a time: six times that as JSON fits a piece */

_Static_assert(TEXT_CHUNK * 6 + 2 <= RUNS_READ_PIECE_BYTES,
               "a chunk of nothing but escapes fits a piece");

/* Of RUNS_READ_COLUMNS. */
enum {
    COLUMN_GIT_REPO = 30,
    COLUMN_GIT_COMMIT_HASH = 32,
    COLUMN_METRICS_JSON = 40,
    COLUMN_CONTEXT_JSON = 41,
    COLUMN_API_POSTED = 42,
    COLUMN_COUNT = 47,
};

/* ---- pieces ---- */

static void answer_flush(struct runs_answer *answer)
{
    if (answer->out.bytes != 0 && !answer->is_over) {
        struct slice piece = {answer->out.data, answer->out.bytes};
        answer->is_over = !answer->put(answer->context, piece);
    }
    buf_reset(&answer->out);
}

void runs_read_answer_open(struct runs_answer *answer, struct runs_reader *reader, runs_put put,
                           void *context)
{
    *answer = (struct runs_answer){.reader = reader, .put = put, .context = context};
    buf_init(&answer->out, reader->piece, sizeof reader->piece);
}

void runs_read_answer_room(struct runs_answer *answer, size_t bytes)
{
    if (answer->out.capacity - answer->out.bytes < bytes) {
        answer_flush(answer);
    }
}

/* For short texts of our own. */
void runs_read_put_text(struct runs_answer *answer, const char *text)
{
    runs_read_answer_room(answer, strlen(text));
    buf_put_text(&answer->out, text);
}

static void put_bytes(struct runs_answer *answer, struct slice bytes)
{
    while (bytes.bytes != 0 && !answer->is_over) { /* bound: each turn takes some */
        runs_read_answer_room(answer, 1);
        size_t some = u64_min(bytes.bytes, answer->out.capacity - answer->out.bytes);
        buf_put(&answer->out, bytes.data, some);
        bytes = (struct slice){bytes.data + some, bytes.bytes - some};
    }
}

/* Bytes of text up to TEXT_CHUNK that do not end inside a UTF-8 character. */
static size_t chunk_bytes(struct slice text)
{
    if (text.bytes <= TEXT_CHUNK) {
        return text.bytes;
    }
    size_t bytes = TEXT_CHUNK;
    while (bytes > TEXT_CHUNK - 4 && (text.data[bytes] & 0xc0) == 0x80) {
        bytes--;
    }
    return bytes;
}

/* A JSON string of any length: each chunk is quoted by itself, its quotes taken off again. */
void runs_read_put_string(struct runs_answer *answer, struct slice text)
{
    runs_read_put_text(answer, "\"");
    while (text.bytes != 0 && !answer->is_over) { /* bound: each turn takes at least one byte */
        size_t bytes = chunk_bytes(text);
        runs_read_answer_room(answer, bytes * 6 + 2);
        size_t open = answer->out.bytes;
        buf_put_json_string(&answer->out, (struct slice){text.data, bytes});
        ASSERT(!answer->out.is_truncated);
        answer->out.bytes -= 2;
        memmove(answer->out.data + open, answer->out.data + open + 1, answer->out.bytes - open);
        text = (struct slice){text.data + bytes, text.bytes - bytes};
    }
    runs_read_put_text(answer, "\"");
}

void runs_read_put_c_string(struct runs_answer *answer, const char *text)
{
    runs_read_put_string(answer, (struct slice){(const uint8_t *)text, strlen(text)});
}

int runs_read_answer_end(struct runs_answer *answer, int result)
{
    answer_flush(answer);
    return result >= 0 && answer->is_over ? -ECANCELED : result;
}

/* ---- items ---- */

struct slice runs_read_text(sqlite3_stmt *row, int column)
{
    const uint8_t *data = sqlite3_column_blob(row, column);
    int bytes = sqlite3_column_bytes(row, column);
    return (struct slice){data, data == NULL ? 0 : (size_t)bytes};
}

/* The shortest decimal that reads back the same. */
static void put_double(struct runs_answer *answer, double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        double back = 0;
        if (sscanf(text, "%lf", &back) == 1 && back >= value && back <= value) {
            break;
        }
    }
    bool is_finite = value - value >= 0; /* SQLite keeps infinities, and turns NaN into NULL */
    runs_read_put_text(answer, is_finite ? text : "null");
}

/* As SQLite holds it: other tools may have put anything anywhere. */
void runs_read_put_column(struct runs_answer *answer, sqlite3_stmt *row, int column)
{
    switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER:
        runs_read_answer_room(answer, 24);
        buf_put_i64(&answer->out, sqlite3_column_int64(row, column));
        return;
    case SQLITE_FLOAT:
        put_double(answer, sqlite3_column_double(row, column));
        return;
    case SQLITE_NULL:
        runs_read_put_text(answer, "null");
        return;
    default:
        runs_read_put_string(answer, runs_read_text(row, column));
    }
}

/* What is JSON stands as it is; *why says why it does not. */
static void put_json_column(struct runs_answer *answer, sqlite3_stmt *row, int column,
                            const char **why, uint64_t *offset)
{
    struct slice text = runs_read_text(row, column);
    bool is_text = sqlite3_column_type(row, column) == SQLITE_TEXT;
    if (is_text && answer->reader->model.json_check(text.data, text.bytes, offset, why) == 0) {
        *why = NULL;
        put_bytes(answer, text);
        return;
    }
    *why = is_text ? *why : NULL;
    runs_read_put_column(answer, row, column);
}

static void put_parse_error(struct runs_answer *answer, const char *field, const char *why,
                            uint64_t offset)
{
    char text[256];
    if (why != NULL) {
        (void)snprintf(text, sizeof text, "%s: char %llu", why, (unsigned long long)offset);
        runs_read_put_text(answer, ",\"");
        runs_read_put_text(answer, field);
        runs_read_put_text(answer, "_parse_error\":");
        runs_read_put_c_string(answer, text);
    }
}

static void put_url(struct runs_answer *answer, const char *key, size_t bytes)
{
    runs_read_put_text(answer, key);
    if (bytes == 0) {
        runs_read_put_text(answer, "null");
        return;
    }
    ASSERT(bytes <= sizeof answer->reader->url);
    runs_read_put_string(answer, (struct slice){(const uint8_t *)answer->reader->url, bytes});
}

static void put_urls(struct runs_answer *answer, sqlite3_stmt *row)
{
    struct runs_reader *reader = answer->reader;
    struct slice repo = runs_read_text(row, COLUMN_GIT_REPO);
    struct slice hash = runs_read_text(row, COLUMN_GIT_COMMIT_HASH);
    put_url(answer, ",\"commit_url\":", reader->model.commit_url(reader->url, repo, hash));
    put_url(answer, ",\"repo_url\":", reader->model.repo_url(reader->url, repo));
}

void runs_read_put_item(struct runs_answer *answer, sqlite3_stmt *row)
{
    const char *why[2] = {NULL, NULL};
    uint64_t offset[2] = {0, 0};
    for (int i = 0; i < COLUMN_COUNT; i++) {
        runs_read_put_text(answer, i == 0 ? "{\"" : ",\"");
        runs_read_put_text(answer, sqlite3_column_name(row, i));
        runs_read_put_text(answer, "\":");
        if (i == COLUMN_METRICS_JSON || i == COLUMN_CONTEXT_JSON) {
            int at = i - COLUMN_METRICS_JSON;
            put_json_column(answer, row, i, &why[at], &offset[at]);
        } else if (i == COLUMN_API_POSTED) {
            runs_read_put_text(answer, sqlite3_column_int64(row, i) != 0 ? "true" : "false");
        } else {
            runs_read_put_column(answer, row, i);
        }
    }
    put_parse_error(answer, "metrics_json", why[0], offset[0]);
    put_parse_error(answer, "context_json", why[1], offset[1]);
    put_urls(answer, row);
    runs_read_put_text(answer, "}");
}
