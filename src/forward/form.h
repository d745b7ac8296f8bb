/*
 * form: how records are written by the protocols that take them as they are (http, file): as NDJSON, as a JSON array,
 * or as one object; each record in its meta form or raw. Pure.
 *
 * Meta form: {"id":"<ULID>","lsn":n,"kind":"log","received_at":"<RFC 3339, microseconds>","record":<payload>},
 * the same values as `sluice dump` and GET show.
 *
 * The payload is the client's bytes. JSON may have line breaks between its tokens (in a body that was an array or a
 * single object); inside a string they would not be JSON. Where a record must be one line they become spaces,
 * which says the same; elsewhere the bytes are kept exactly.
 */
#ifndef FORWARD_FORM_H
#define FORWARD_FORM_H

#include <string.h>

#include "forward/protocol.h"

enum form_lines {
    FORM_EXACT = 0,
    FORM_ONE_LINE,
};

/* Both write nothing but is_over when it does not fit. */
void form_put_payload(struct body *to, struct slice payload, enum form_lines lines);
/* to: encoder's body or side. */
void form_put_meta(struct encoder *encoder, struct body *to, const struct forward_record *record,
                   enum form_lines lines);

/* For room that was asked for as a whole: returns what is behind. */
static inline uint8_t *form_copy(uint8_t *at, const void *data, size_t bytes)
{
    memcpy(at, data, bytes);
    return at + bytes;
}
#define FORM_COPY_WORD(at, word) form_copy(at, word, sizeof(word) - 1)
/* As form_put_payload, into room of payload.bytes. */
uint8_t *form_copy_payload(uint8_t *at, struct slice payload, enum form_lines lines);

/* RFC 3339 in UTC with microseconds, as dump and GET write it. Borrowed until the next call. */
struct slice form_received_at(struct encoder *encoder, int64_t received_at_ns);

/* "unknown" for a kind that this version does not know. */
const char *form_kind_name(enum record_kind kind);

/* "NAME/ndjson/meta/1": protocol->encoding, by sink->format and sink->record. */
void form_encoding(const struct config_sink *sink, const char *name, char *out);
const char *form_content_type(const struct config_sink *sink);
/* protocol->begin, add and end. */
void form_begin(struct encoder *encoder);
int form_add(struct encoder *encoder, const struct forward_record *record, struct err *err);
void form_end(struct encoder *encoder);

#endif
