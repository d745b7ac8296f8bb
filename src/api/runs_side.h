/*
 * runs_side: a shard's part of the agent-run routes: requests whose commands are durable and not yet applied. Owned by the
 * shard's thread. Private to the files of runs.
 *
 * The waiting list is a FIFO in the order of LSNs, because acks and results both come in that order. Bounded: there is room for as
 * many as may be pending; what an answer needs (event ids and the like) lies in an arena of its own, and a request that does not
 * fit there is refused before anything of it is in the ring.
 */
#ifndef API_RUNS_SIDE_H
#define API_RUNS_SIDE_H

#include "api/query_job.h"
#include "api/runs.h"
#include "api/runs_body.h"
#include "core/arena.h"
#include "core/buf.h"

struct runs_wait {
    struct conn_handle conn;
    struct runs_note *note;
    uint64_t first_lsn;
    uint64_t received_at_ns;
    uint32_t count;
    uint32_t seen; /* results, in order */
    uint32_t created;
    uint32_t duplicates;
    uint32_t refused;
    uint32_t refusals_bytes;
    uint8_t *refusals; /* arena: elements of "errors" that the database added; NULL: none */
};

struct runs_side {
    struct runs_wait *waits;
    uint64_t capacity; /* power of two */
    uint64_t head;
    uint64_t tail;
    uint64_t lsn_known; /* up to here this shard knows which LSNs are its own */
    bool must_wake;
    struct arena *notes;
    /* Texts while a request is judged, an answer while it is made; address space, charged when touched. */
    uint8_t *memory;
    size_t memory_bytes;
    /* Meta of a record under construction: a receipt and a command. */
    uint8_t meta[(24u + 16u) * 1024u];
};

/* Of the largest body: any text of it, escaped as a JSON string (six times its bytes at most). */
#define RUNS_MEMORY_PER_BODY 6u
#define RUNS_NOTES_BYTES     (32u * 1024u * 1024u)

/* Writes: judged and put into the ring. */
enum http_verdict runs_write_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request);
/* Reads: given to the query pool. */
enum http_verdict runs_reads_on_request(struct shard *shard, const struct route *route,
                                        const struct http_request *request);

/* The body of an answer is made here; its memory is given back when it was large (runs_answer). */
void runs_answer_begin(struct runs_side *side, struct buf *body);
/* Sends body with that status; a 2xx says that it is durable. Not a repeat's, which runs_repeat.c sends. */
void runs_answer(struct shard *shard, struct conn_handle conn, unsigned status,
                 const struct buf *body);
/* 503 with Retry-After. */
void runs_answer_later(struct shard *shard, struct conn_handle conn, const char *text);

/* ---- answers that the database knows: runs_repeat.c ---- */

struct runs_question {
    struct conn_handle conn;
    struct runs_note *note; /* becomes the question's */
    uint64_t first_lsn;
    uint32_t count;
    bool is_repeat; /* else it is the first answer, with a text that is too long for a result */
};
/* A query thread answers conn, whose request is deferred: with what became of these commands, which are applied. */
void runs_ask(struct shard *shard, const struct runs_question *question);

/* ---- in a query thread: runs_reads.c ---- */

/* NULL: the database is not open. */
struct runs_reader *runs_link_take(struct runs_link *link, unsigned *which);
void runs_link_give(struct runs_link *link, unsigned which);
/* Put a whole body; return the status. */
unsigned runs_reads_text(struct query_text *out, unsigned status, struct slice text);
unsigned runs_reads_failure(struct query_text *out, int code, const struct err *err);

#endif
