/*
 * runs_side: a shard's part of the agent-run routes: requests whose commands are durable and not yet applied. Owned by the
 * shard's thread. Private to runs_write.c and runs_wait.c.
 *
 * The waiting list is a FIFO in the order of LSNs, because acks and results both come in that order. Bounded: there is room for as
 * many as may be pending; what an answer needs (event ids and the like) lies in an arena of its own, and a request that does not
 * fit there is refused before anything of it is in the ring.
 */
#ifndef API_RUNS_SIDE_H
#define API_RUNS_SIDE_H

#include "api/runs.h"
#include "core/arena.h"
#include "core/buf.h"
#include "model/run.h"

/* enum run_command for one object; else a batch. */
enum runs_form {
    RUNS_FORM_ARRAY = 101, /* [...]: 200 */
    RUNS_FORM_OBJECT,      /* {"runs":[...]}: 201 */
};

/* What an answer will say. Followed by its texts, one behind the other. */
struct runs_note {
    uint32_t form;
    uint32_t rejected; /* BATCH: elements that were told of in errors, or not for lack of room */
    uint32_t event_id_bytes; /* one command; BATCH: u16 length and text of each that was logged */
    uint32_t detail_bytes;   /* CREATE: run_id; ASSOCIATE: commit_hash; EVENT: event_type */
    uint32_t errors_bytes;   /* BATCH: elements of "errors" */
    uint8_t field_count;     /* UPDATE */
    uint8_t fields[RUN_FIELD_COUNT];
    uint8_t text[];
};

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
/* Sends body with that status; a 2xx says that it is durable. */
void runs_answer(struct shard *shard, struct conn_handle conn, unsigned status,
                 const struct buf *body, bool is_repeat);
/* 404. */
void runs_answer_not_found(struct shard *shard, struct conn_handle conn, struct slice event_id);
/* {"inserted":..,"duplicates":..,"errors":[..],"total":..}, 200 or 201. more: further elements of errors. */
struct runs_batch_sums {
    uint32_t form;
    uint64_t inserted;
    uint64_t duplicates;
    uint64_t total;
    struct slice errors;
    struct slice more;
};
void runs_answer_batch(struct shard *shard, struct conn_handle conn,
                       const struct runs_batch_sums *sums, bool is_repeat);

#endif
