/*
 * query_page: the texts that queries answer with, built in memory that grows: pages, lines, the
 * messages of a tail. Pure but for that memory; owned by one worker of the query pool at a time.
 * Nothing here decides what is shown.
 *
 *   page     {"data":[RECORD,...],"next_cursor":"..."|null,"scanned_bytes":n}
 *   line     RECORD and a line feed
 *   RECORD   {"id":"...","lsn":n,"received_at":"2025-08-25T10:00:00.123456Z","record":...}
 *   message  {"lsn":n,"id":"...","kind":"log","received_at":"...","record":...}
 *
 * "record" is what the client sent, byte for byte; on a line its line feeds and carriage returns
 * become spaces, which is legal because in valid JSON they occur only between tokens.
 */
#ifndef API_QUERY_PAGE_H
#define API_QUERY_PAGE_H

#include "core/base.h"
#include "store/scan.h"

/* Grows as needed; what outlives a large record gives its memory back (query_text_reset). */
struct query_text {
    uint8_t *data;
    size_t bytes;
    size_t capacity;
};

void query_text_free(struct query_text *text);
/* Empty again; keeps at most QUERY_TEXT_KEPT bytes of memory. */
#define QUERY_TEXT_KEPT (256u * 1024u)
void query_text_reset(struct query_text *text);
void query_text_put(struct query_text *text, struct slice bytes);
/* A WebSocket text frame. */
void query_text_put_message(struct query_text *text, struct slice payload);

void query_page_open(struct query_text *text);
void query_page_record(struct query_text *text, const struct scan_record *found, bool is_first);
struct query_page_end {
    struct slice next_cursor; /* empty: null */
    uint64_t scanned_bytes;
    uint64_t damaged_blocks; /* left out when 0 */
};
void query_page_close(struct query_text *text, const struct query_page_end *end);

void query_line_record(struct query_text *text, const struct scan_record *found);
/* The last line of a stream that had to leave something out: {"damaged_blocks":n}. */
void query_line_damage(struct query_text *text, uint64_t damaged_blocks);

/* As a WebSocket text frame. */
void query_message_record(struct query_text *text, const struct scan_record *found);

#endif
