/*
 * protocol clickhouse: POST {url}/?query=INSERT ... FORMAT JSONEachRow with insert_deduplication_token, one row for a
 * record:
 *
 *   {"lsn":n,"id":"<ULID>","kind":"log","received_at":"...","event_time":"...","severity":n,"record":"<JSON text>"}
 *
 * Exactly once: the server drops a block whose token it has seen (ClickHouse 22.2 and later; MergeTree with
 * non_replicated_deduplication_window, ReplicatedMergeTree as it is). It needs one synchronous insert: async_insert=0. A setting
 * that the sink's URL names itself is the operator's; one named without a value ("?async_insert=") is left out, for
 * servers that do not know it. The record's bytes are kept exactly: they are a string's.
 *
 * Errors are "Code: N. DB::Exception: text" under any HTTP status; the code decides. Pure.
 */
#include <stdio.h>
#include <string.h>

#include "forward/form.h"
#include "forward/judge.h"
#include "forward/protocol_table.h"
#include "forward/target_url.h"

enum {
    /* 7 + 20, 7 + 26, 10 + 7, 17 + 27, 16 + 30, 13 + 3, 11, rounded up. */
    FRONT_BYTES_MAX = 256,
    ESCAPE_PIECE = 1024, /* of the payload that is escaped at a time */
    ESCAPE_BYTES_MAX = 6,
    ANSWER_LOOK_MAX = 4096,
    INSERT_BYTES_MAX = 2 * CONFIG_SINK_TEXT + 256,
};

static void clickhouse_encoding(const struct config_sink *sink, char *out)
{
    (void)sink;
    (void)snprintf(out, FORWARD_ENCODING_BYTES, "clickhouse/row/1");
}

/* ---- a row ---- */

/* The letter behind the backslash; 0: the byte stands as it is; 'u': \u00XX. A JSON text has no control characters but
 * the white space between its tokens. */
static const uint8_t escape_letters[256] = {
    ['\0'] = 'u', [1] = 'u',    [2] = 'u',    [3] = 'u',     [4] = 'u',    [5] = 'u',
    [6] = 'u',    [7] = 'u',    ['\b'] = 'b', ['\t'] = 't',  ['\n'] = 'n', [11] = 'u',
    ['\f'] = 'f', ['\r'] = 'r', [14] = 'u',   [15] = 'u',    [16] = 'u',   [17] = 'u',
    [18] = 'u',   [19] = 'u',   [20] = 'u',   [21] = 'u',    [22] = 'u',   [23] = 'u',
    [24] = 'u',   [25] = 'u',   [26] = 'u',   [27] = 'u',    [28] = 'u',   [29] = 'u',
    [30] = 'u',   [31] = 'u',   ['"'] = '"',  ['\\'] = '\\',
};

/* Every byte costs the same two stores: quotes come so often that a search for them would not pay. */
static size_t escape(uint8_t *to, const uint8_t *from, size_t bytes)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t *at = to;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t c = from[i];
        uint8_t letter = escape_letters[c];
        *at = '\\';
        at += letter != 0;
        *at++ = letter != 0 ? letter : c;
        if (UNLIKELY(letter == 'u')) {
            const uint8_t code[] = {'0', '0', (uint8_t)hex[c >> 4], (uint8_t)hex[c & 15]};
            at = form_copy(at, code, sizeof(code));
        }
    }
    return (size_t)(at - to);
}

static void put_escaped(struct body *body, struct slice text)
{
    for (size_t at = 0; at < text.bytes; at += ESCAPE_PIECE) {
        size_t bytes = u64_min(text.bytes - at, ESCAPE_PIECE);
        uint8_t *room = body_room(body, ESCAPE_BYTES_MAX * bytes);
        if (room == NULL) {
            return;
        }
        body_add(body, escape(room, text.data + at, bytes));
    }
}

static void clickhouse_begin(struct encoder *encoder)
{
    encoder->end_bytes = 0;
}

static void put_front(struct encoder *encoder, const struct forward_record *record)
{
    uint8_t *start = body_room(&encoder->body, FRONT_BYTES_MAX);
    if (start == NULL) {
        return;
    }
    const char *kind = form_kind_name(record->record.kind);
    struct slice received_at = form_received_at(encoder, record->received_at_ns);
    uint8_t *at = FORM_COPY_WORD(start, "{\"lsn\":");
    at += u64_format((char *)at, record->lsn);
    at = FORM_COPY_WORD(at, ",\"id\":\"");
    ulid_format((char *)at, &record->record.id);
    at = FORM_COPY_WORD(at + ULID_TEXT_BYTES, "\",\"kind\":\"");
    at = form_copy(at, kind, strlen(kind));
    at = FORM_COPY_WORD(at, "\",\"received_at\":\"");
    at = form_copy(at, received_at.data, received_at.bytes);
    at = FORM_COPY_WORD(at, "\",\"event_time\":\"");
    at += clock_rfc3339((char *)at, record->record.event_time_ns, 9);
    at = FORM_COPY_WORD(at, "\",\"severity\":");
    at += u64_format((char *)at, record->record.severity);
    at = FORM_COPY_WORD(at, ",\"record\":\"");
    ASSERT((size_t)(at - start) <= FRONT_BYTES_MAX);
    body_add(&encoder->body, (size_t)(at - start));
}

static int clickhouse_add(struct encoder *encoder, const struct forward_record *record,
                          struct err *err)
{
    (void)err;
    put_front(encoder, record);
    put_escaped(&encoder->body, record->record.payload);
    body_put_text(&encoder->body, "\"}\n");
    return 0;
}

static void clickhouse_end(struct encoder *encoder)
{
    (void)encoder;
}

/* ---- the address ---- */

/* Between backquotes nearly all is possible; what would need an escape there is not worth having. */
static bool is_identifier(const char *name)
{
    for (const char *at = name; *at != '\0'; at++) {
        if ((uint8_t)*at < ' ' || *at == '`' || *at == '\\') {
            return false;
        }
    }
    return true;
}

static void put_insert(struct buf *insert, const struct config_sink *sink)
{
    buf_put_text(insert, "INSERT INTO ");
    if (sink->database[0] != '\0') {
        buf_put_char(insert, '`');
        buf_put_text(insert, sink->database);
        buf_put_text(insert, "`.");
    }
    buf_put_char(insert, '`');
    buf_put_text(insert, sink->table);
    buf_put_text(insert, "` (lsn, id, kind, received_at, event_time, severity, record) "
                         "FORMAT JSONEachRow");
}

/* Unless the operator's URL says it. */
static void put_setting(struct buf *url, const struct config_sink *sink, const char *name,
                        const char *value)
{
    bool is_empty;
    if (!target_url_has_parameter(sink->url, name, &is_empty)) {
        target_url_put_parameter(url, name, (struct slice){(const uint8_t *)value, strlen(value)});
    }
}

static void put_url(struct buf *url, const struct config_sink *sink, const char *key)
{
    uint8_t memory[INSERT_BYTES_MAX];
    struct buf insert;
    buf_init(&insert, memory, sizeof(memory));
    put_insert(&insert, sink);
    target_url_put(url, sink->url, "/");
    target_url_put_parameter(url, "query", (struct slice){insert.data, insert.bytes});
    put_setting(url, sink, "insert_deduplication_token", key);
    put_setting(url, sink, "async_insert", "0");
    put_setting(url, sink, "date_time_input_format", "best_effort");
}

static void clickhouse_url(const struct encoder *encoder, char *out)
{
    struct buf url;
    buf_init(&url, out, FORWARD_URL_BYTES - 1);
    put_url(&url, encoder->sink, encoder->key);
    out[url.is_truncated ? 0 : url.bytes] = '\0'; /* check has seen that it fits. */
}

static int clickhouse_check(const struct config_sink *sink, struct err *err)
{
    char key[FORWARD_KEY_BYTES];
    char out[FORWARD_URL_BYTES];
    struct buf url;
    if (sink->table[0] == '\0') {
        return err_set(err, ERR_SYNTAX, "table: the table to insert into is not named");
    }
    if (!is_identifier(sink->table) || !is_identifier(sink->database)) {
        return err_set(err, ERR_SYNTAX,
                       "database and table: names without control characters, ` and \\");
    }
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    buf_init(&url, out, sizeof(out) - 1);
    put_url(&url, sink, key);
    return url.is_truncated
               ? err_set(err, ERR_SYNTAX, "url, database and table are too long together")
               : 0;
}

/* ---- the answer ---- */

/* "Code: 60. DB::Exception: ..." or, in older servers, "Code: 60, e.displayText() = DB::Exception: ...". 0: none. *text:
 * from there on. */
static unsigned exception_code(struct slice body, struct slice *text)
{
    static const char front[] = "Code: ";
    static const char sign[] = "DB::";
    size_t look = u64_min(body.bytes, ANSWER_LOOK_MAX);
    const uint8_t *at = look == 0 ? NULL : memmem(body.data, look, front, sizeof(front) - 1);
    if (at == NULL) {
        return 0;
    }
    *text = (struct slice){at, body.bytes - (size_t)(at - body.data)};
    size_t left = look - (size_t)(at - body.data);
    unsigned code = 0;
    for (size_t i = sizeof(front) - 1; i < left && at[i] >= '0' && at[i] <= '9' && code < 100000;
         i++) {
        code = code * 10 + (unsigned)(at[i] - '0');
    }
    return memmem(at, left, sign, sizeof(sign) - 1) == NULL ? 0 : code;
}

/* What was wrong with a row is said with its number or its column, whatever the code: "(at row 8)", "while read the
 * value of key kind" (or "reading", in newer servers). */
static bool is_about_a_row(struct slice text)
{
    static const char row[] = "(at row ";
    static const char column[] = " the value of key ";
    size_t look = u64_min(text.bytes, ANSWER_LOOK_MAX);
    return memmem(text.data, look, row, sizeof(row) - 1) != NULL ||
           memmem(text.data, look, column, sizeof(column) - 1) != NULL;
}

/* dbms/src/Common/ErrorCodes.cpp. 0: the HTTP status says more than we know of it. */
static enum verdict verdict_of_code(unsigned code)
{
    switch (code) {
    case 6:   /* CANNOT_PARSE_TEXT */
    case 25:  /* CANNOT_PARSE_ESCAPE_SEQUENCE */
    case 26:  /* CANNOT_PARSE_QUOTED_STRING */
    case 27:  /* CANNOT_PARSE_INPUT_ASSERTION_FAILED */
    case 38:  /* CANNOT_PARSE_DATE */
    case 41:  /* CANNOT_PARSE_DATETIME */
    case 53:  /* TYPE_MISMATCH */
    case 69:  /* ARGUMENT_OUT_OF_BOUND */
    case 70:  /* CANNOT_CONVERT_TYPE */
    case 72:  /* CANNOT_PARSE_NUMBER */
    case 117: /* INCORRECT_DATA */
    case 131: /* TOO_LARGE_STRING_SIZE */
    case 321: /* VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE */
    case 349: /* CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN */
    case 469: /* VIOLATED_CONSTRAINT */
    case 691: /* UNKNOWN_ELEMENT_OF_ENUM */
        return VERDICT_REFUSED;
    case 8:   /* THERE_IS_NO_COLUMN */
    case 10:  /* NOT_FOUND_COLUMN_IN_BLOCK */
    case 16:  /* NO_SUCH_COLUMN_IN_TABLE */
    case 47:  /* UNKNOWN_IDENTIFIER */
    case 60:  /* UNKNOWN_TABLE */
    case 62:  /* SYNTAX_ERROR: of our statement, which is the same for every record */
    case 73:  /* UNKNOWN_FORMAT */
    case 81:  /* UNKNOWN_DATABASE */
    case 115: /* UNKNOWN_SETTING */
    case 164: /* READONLY */
    case 192: /* UNKNOWN_USER */
    case 193: /* WRONG_PASSWORD */
    case 194: /* REQUIRED_PASSWORD */
    case 195: /* IP_ADDRESS_NOT_ALLOWED */
    case 291: /* DATABASE_ACCESS_DENIED */
    case 497: /* ACCESS_DENIED */
    case 516: /* AUTHENTICATION_FAILED */
        return VERDICT_PAUSE;
    case 3:   /* UNEXPECTED_END_OF_FILE: of the request, on its way */
    case 33:  /* CANNOT_READ_ALL_DATA */
    case 159: /* TIMEOUT_EXCEEDED */
    case 160: /* TOO_SLOW */
    case 201: /* QUOTA_EXCEEDED */
    case 202: /* TOO_MANY_SIMULTANEOUS_QUERIES */
    case 203: /* NO_FREE_CONNECTION */
    case 209: /* SOCKET_TIMEOUT */
    case 210: /* NETWORK_ERROR */
    case 225: /* NO_ZOOKEEPER */
    case 236: /* ABORTED */
    case 241: /* MEMORY_LIMIT_EXCEEDED */
    case 242: /* TABLE_IS_READ_ONLY: the replica has lost its coordination, or is starting */
    case 243: /* NOT_ENOUGH_SPACE */
    case 252: /* TOO_MANY_PARTS */
    case 285: /* TOO_FEW_LIVE_REPLICAS */
    case 286: /* UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE */
    case 319: /* UNKNOWN_STATUS_OF_INSERT */
    case 394: /* QUERY_WAS_CANCELLED */
    case 425: /* SYSTEM_ERROR */
    case 999: /* KEEPER_EXCEPTION */
        return VERDICT_RETRY;
    default:
        return (enum verdict)0;
    }
}

static void clickhouse_judge(const struct encoder *encoder, const struct upstream_answer *answer,
                             struct judgement *judgement)
{
    (void)encoder;
    struct slice text = {NULL, 0};
    unsigned code = answer->fault == TRANSPORT_OK ? exception_code(answer->body, &text) : 0;
    judge_by_status(answer, judgement);
    if (code == 0) {
        return;
    }
    enum verdict verdict = verdict_of_code(code);
    if (verdict != 0) {
        judgement->verdict = verdict;
    } else if (is_about_a_row(text)) {
        judgement->verdict = VERDICT_REFUSED;
    } else if (judgement->verdict == VERDICT_DONE) {
        judgement->verdict = VERDICT_RETRY; /* The error came after the 200 had gone out. */
    }
    judge_text(judgement->reason, sizeof(judgement->reason), text);
}

const struct protocol protocol_clickhouse = {
    .name = "clickhouse",
    .kinds = UINT32_MAX,
    .check = clickhouse_check,
    .encoding = clickhouse_encoding,
    .begin = clickhouse_begin,
    .add = clickhouse_add,
    .end = clickhouse_end,
    .url = clickhouse_url,
    .method = "POST",
    .content_type = "application/x-ndjson",
    .judge = clickhouse_judge,
};
