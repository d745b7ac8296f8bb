/*
 * runs_body: the texts that commands of agent runs are answered with (api.md §2.3), from what the request was (a note) and what became of it.
 * The first answer and its repeats are made here, in a shard and in a query thread. Pure. Private to the files of runs.
 */
#ifndef API_RUNS_BODY_H
#define API_RUNS_BODY_H

#include "core/buf.h"
#include "model/run.h"
#include "store/runs.h"

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

bool runs_note_is_batch(const struct runs_note *note);
struct slice runs_note_event_id(const struct runs_note *note);
struct slice runs_note_errors(const struct runs_note *note);
/* Its texts, as JSON strings and with what stands around them, need no more. */
size_t runs_note_room(const struct runs_note *note);

/* Puts the answer of one command and returns its status. text: run_id (RUNS_ASSOCIATED; no address: not known any more), why
 * (RUNS_REFUSED). */
unsigned runs_body_put(struct buf *body, const struct runs_note *note, enum runs_outcome outcome,
                       struct slice text);
/* {"detail":"Run not found: <id>"} */
void runs_body_not_found(struct buf *body, struct slice event_id);
/* {"detail":<text>} */
void runs_body_detail(struct buf *body, struct slice text);

/* {"inserted":..,"duplicates":..,"errors":[..],"total":..}, 200 or 201, which is returned. more: further elements of errors. */
struct runs_batch_sums {
    uint32_t form;
    uint64_t inserted;
    uint64_t duplicates;
    uint64_t total;
    struct slice errors;
    struct slice more;
};
unsigned runs_body_batch(struct buf *body, const struct runs_batch_sums *sums);
/* "<event_id>: <text>" of the batch's command of that index, as one more element of errors; left out where it does not fit whole. */
#define RUNS_REFUSALS_BYTES (64u * 1024u)
void runs_body_refusal(struct buf *elements, const struct runs_note *note, uint32_t index,
                       struct slice text);

#endif
