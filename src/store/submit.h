/*
 * submit: what a shard and the writer say to each other, through two SPSC rings per shard (struct
 * store_port).
 *
 * shard -> writer, frames of port->submit: one frame per request, SUBMIT_REQUEST. Payload: struct
 * submit_header, then record_count records encoded as format.h says (so that the writer only
 * copies). A request is in the ring whole or not at all, and stays together and in order in the
 * log.
 *
 * writer -> shard, frames of port->acks, in ring order; `end` is the ring position (spsc_frame.end)
 * of a request: ACK_DURABLE   every request up to `end` not named before is on stable storage; its
 * records have consecutive LSNs, the first of the run is first_lsn. One for all that the writer
 * took from the ring in one go: a few per batch and shard at most (several where shards take turns
 * in filling a batch), never one per record. While the shard walks a run it adds record_count for a
 * plain request and stored_count for one with an outcome. ACK_OUTCOME   precedes the ACK_DURABLE or
 * ACK_FAILED that covers it, one per request whose submit_header.flags has SUBMIT_KEYED or
 * SUBMIT_ORIGIN: what the processed set, or the origins, said. ACK_FAILED    every request up to `end` not acknowledged before was refused:
 * answer 503 with the cause, never 2xx. The acks ring must not fill: the writer drains a submit
 * ring only while acks has room for what the answer can need.
 */
#ifndef STORE_SUBMIT_H
#define STORE_SUBMIT_H

#include "core/base.h"
#include "core/ulid.h"

enum submit_type {
    SUBMIT_REQUEST = 1,
};

enum submit_form {
    FORM_OBJECT = 1, /* one JSON object: answered with id and lsn */
    FORM_ARRAY = 2,
    FORM_NDJSON = 3,
};

enum submit_flags {
    SUBMIT_KEYED =
        1u << 0, /* the first record carries META_RECEIPT, or some records carry META_DEDUP_KEY */
    SUBMIT_ORIGIN = 1u << 1, /* every record's meta begins with META_ORIGIN, all of one node, LSNs
                              * ascending, the first with a range; META_FIRST may follow; never with
                              * SUBMIT_KEYED */
};

/* What one SUBMIT_ORIGIN request gives to remember at most. Ranges: one, and one more behind each record that was
 * refused; likewise, counted apart, records with META_FIRST: one for each of them that does not follow the one before it
 * in its first node's log. */
#define SUBMIT_ORIGIN_RUNS_MAX 8192u

struct submit_header {
    uint32_t record_count; /* at least 1 */
    uint32_t records_bytes;
    uint32_t kinds;
    uint32_t flags;
    int64_t time_min_ns;
    int64_t time_max_ns;
    uint64_t submitted_at_ns; /* monotonic: the age of the oldest undurable record */
    uint64_t reserved;
};

_Static_assert(sizeof(struct submit_header) % 16 == 0, "records start aligned");

enum ack_type {
    ACK_DURABLE = 1,
    ACK_OUTCOME = 2,
    ACK_FAILED = 3,
};

struct ack_durable {
    uint64_t end;
    uint64_t first_lsn;
};

enum outcome_verdict {
    OUTCOME_STORED =
        1, /* stored_count records stored, duplicate_count dropped because their own key was seen */
    OUTCOME_DUPLICATE =
        2, /* the request's Idempotency-Key was seen with the same body: answer as the first time */
    OUTCOME_MISMATCH = 3, /* the key was seen with another body: 422 */
    OUTCOME_REFUSED = 4,  /* SUBMIT_ORIGIN: what has come from other nodes cannot be remembered any
                             more (origins.h); nothing of the request was stored: 503 */
};

#define OUTCOME_ERRORS_BYTES_MAX 16384u

struct ack_outcome {
    uint64_t end;
    uint32_t verdict;
    uint32_t stored_count;
    uint32_t duplicate_count;
    uint32_t form;             /* of the first answer (DUPLICATE) */
    uint32_t accepted;         /* of the first answer */
    uint32_t rejected;         /* of the first answer */
    uint64_t first_lsn;        /* DUPLICATE: of the first answer; STORED with stored_count 0: of the
                                  original record */
    struct ulid id;            /* likewise */
    uint32_t errors_bytes;     /* the first answer's errors text follows */
    uint32_t first_duplicates; /* DUPLICATE: records of the first request that were in the log
                                * before it; its answer counted them among the accepted */
    uint8_t errors[];
};

enum failed_cause {
    FAILED_IO = 1,    /* the log could not be written */
    FAILED_SPACE = 2, /* no segment to write to */
    FAILED_STOP = 3,  /* the server is stopping */
};

struct ack_failed {
    uint64_t end;
    uint32_t cause;
    uint32_t reserved;
};

#endif
