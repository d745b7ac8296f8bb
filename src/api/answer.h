/*
 * answer: the texts that Sluice sends. Builders over the shard's scratch memory; nothing here
 * decides anything.
 */
#ifndef API_ANSWER_H
#define API_ANSWER_H

#include "core/buf.h"
#include "core/ulid.h"
#include "net/server.h"
#include "store/submit.h"

#define ANSWER_JSON "application/json"

/* {"detail":"text"} as an immediate answer with optional extra header lines. */
struct http_answer answer_detail(struct buf *body, unsigned status, const char *text,
                                 struct slice extra);

/* Whole 202 for one durable object, ready for server_answer_raw: the hot form. date_line from
 * server_date_line. Returns its bytes; to holds at least ANSWER_OBJECT_BYTES_MAX. */
#define ANSWER_OBJECT_BYTES_MAX 320u
size_t answer_object_raw(uint8_t *to, struct slice date_line, const struct ulid *id, uint64_t lsn);

/* Bodies of accepting answers. lsn 0: null (acknowledged from memory). */
void answer_object_body(struct buf *body, const struct ulid *id, uint64_t lsn);
struct answer_list {
    uint32_t accepted;
    uint32_t rejected;
    uint32_t duplicates; /* left out when 0 */
    uint64_t first_lsn;  /* 0: null */
    uint64_t last_lsn;
    struct slice errors; /* JSON array text or empty */
};
/* Of POST /v1/replicate: accepted and duplicates apart, errors as above. */
void answer_replica_body(struct buf *body, const struct answer_list *list);
void answer_list_body(struct buf *body, const struct answer_list *list);

#endif
