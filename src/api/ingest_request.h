/*
 * ingest_request: one request on its way into the shard's ring, and the steps that ingest.c, replicate.c and
 * runs_write.c share. Private to those. Shard's thread.
 *
 *   admit -> open_claim -> for each element: encode into the claim, or list_error -> commit
 *
 * Nothing is visible to the writer before the commit, so every refusal is simply no commit.
 */
#ifndef API_INGEST_REQUEST_H
#define API_INGEST_REQUEST_H

#include "api/counters.h"
#include "core/buf.h"
#include "model/body.h"
#include "model/issue.h"
#include "net/server.h"
#include "store/format.h"
#include "store/submit.h"

struct shard;

/* Of the shard's scratch memory, for an answer; behind it the listed errors grow. */
#define INGEST_SCRATCH_ANSWER (192u * 1024u)

struct ingest {
    struct shard *shard;
    const struct http_request *request;
    enum record_kind kind;
    uint32_t kinds; /* bit (1 << kind) of what the request may hold */
    enum body_schema schema;
    struct slice key; /* Idempotency-Key; empty: none */
    uint8_t digest[16];
    bool wants_memory_ack;
    int64_t real_ns;

    uint8_t *claim; /* payload of the open claim; NULL: none */
    uint64_t room;
    uint64_t used;
    struct submit_header header;
    struct ulid first_id;
    uint32_t rejected;
    uint32_t listed;
    enum submit_form form;
    struct buf errors; /* elements of "errors" */
    struct buf flat;   /* elements of a 422's "detail" */
    bool is_out_of_room;
};

/* Takes the Idempotency-Key, if there is one. NULL, or the text of a 422. */
const char *ingest_read_key(struct ingest *ingest);
/* digest becomes that of the body. */
void ingest_digest(struct ingest *ingest);
/* Refusals that need no look at the body. 0: go on; else the verdict. */
int ingest_admit(struct ingest *ingest);
/* Claims all free room; claim stays NULL when the request cannot fit now (ingest_no_room). */
void ingest_open_claim(struct ingest *ingest);
/* Before a walk over the body: nothing counted, nothing listed. */
void ingest_reset(struct ingest *ingest);
/* A record that is rejected: counted, and listed while there is room. */
void ingest_list_error(struct ingest *ingest, const struct body_record *record,
                       const struct issue_list *issues);
/* Ends the claim and remembers who waits for it. header, kinds and used are filled. */
enum http_verdict ingest_commit(struct ingest *ingest);

/* ---- answers instead ---- */
enum http_verdict ingest_answer(struct ingest *ingest, const struct http_answer *answer);
enum http_verdict ingest_refuse(struct ingest *ingest, unsigned status, const char *text);
/* 422 with {"detail":[...]}: invalid says what is wrong with the whole, NULL: every record was
 * rejected. */
enum http_verdict ingest_reject(struct ingest *ingest, const struct issue_list *invalid);
enum http_verdict ingest_no_room(struct ingest *ingest);
/* 429 or 503 with Retry-After; what header counts is shed. */
enum http_verdict ingest_shed(struct ingest *ingest, enum shed_cause cause, unsigned status,
                              const char *text);

#endif
